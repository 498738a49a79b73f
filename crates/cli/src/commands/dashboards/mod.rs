//! `milena dashboards`: writes dashboards for Grafana and alert rules for Prometheus, or checks that a directory has them.

mod pipeline;

use std::fs;
use std::path::{Path, PathBuf};

use milena_observe::dashboards::{Board, boards, rules, to_prometheus};

use crate::exit::{Exit, Failure};
use crate::output::write_out;

const EXAMPLES: &str = "\
Examples:
  milena dashboards ops/kafka           writes *.json for Grafana, and milena.rules.yml for Prometheus
  milena dashboards ops/kafka --check   fails if a file is missing or is not what would be written
  milena dashboards ops/kafka --runbooks https://wiki.example.com/kafka-alerts";

/// Where alerts are explained, in the project.
pub(crate) const RUNBOOKS: &str = "docs/alerts.md";
/// The file of alert rules.
const RULES: &str = "milena.rules.yml";

/// Write dashboards for Grafana and alert rules for Prometheus. They are made from the metrics of this version.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The directory to write to; it is made if it does not exist
    #[arg(value_name = "DIR")]
    directory: PathBuf,

    /// Write nothing, and fail if a file of DIR is not what would be written
    #[arg(long)]
    check: bool,

    /// Where alerts are explained. Each alert leads to URL#its-name
    #[arg(long, value_name = "URL", default_value = RUNBOOKS)]
    runbooks: String,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if args.check {
        let files = files(&args.runbooks);
        let differs = |(name, text): &&(String, String)| {
            fs::read_to_string(args.directory.join(name)).ok().as_ref() != Some(text)
        };
        let other: Vec<&str> = files.iter().filter(differs).map(|(name, _)| name.as_str()).collect();
        if other.is_empty() {
            return Ok(());
        }
        let message =
            format!("{} does not have what would be written: {}", args.directory.display(), other.join(", "));
        return Err(Failure::new(Exit::CheckFailed, message)
            .hint(format!("milena dashboards {} writes them", args.directory.display())));
    }
    for path in write(&args.directory, &args.runbooks)? {
        write_out(&format!("{}\n", path.display()))?;
    }
    Ok(())
}

/// Writes all files, and answers with their paths.
pub(crate) fn write(directory: &Path, runbooks: &str) -> Result<Vec<PathBuf>, Failure> {
    fs::create_dir_all(directory).map_err(|error| unwritten(directory, &error))?;
    let write_one = |(name, text): (String, String)| {
        let path = directory.join(name);
        fs::write(&path, text).map_err(|error| unwritten(&path, &error))?;
        Ok(path)
    };
    files(runbooks).into_iter().map(write_one).collect()
}

fn unwritten(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("cannot write {}: {error}", path.display()))
}

/// The names and the contents of all files.
fn files(runbooks: &str) -> Vec<(String, String)> {
    let of_board = |board: &Board| {
        let json = serde_json::to_string_pretty(&board.to_grafana()).expect("JSON values can be written");
        (board.file_name(), json + "\n")
    };
    let mut files: Vec<_> = boards().iter().chain([&pipeline::board()]).map(of_board).collect();
    let rules: Vec<_> = rules().into_iter().chain(pipeline::rules()).collect();
    files.push((RULES.to_owned(), to_prometheus("milena", &rules, runbooks)));
    files
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use milena_pipeline::metrics::FAMILIES;

    use super::*;

    #[test]
    fn every_family_of_a_pipeline_is_on_its_board() {
        let board = pipeline::board();
        for family in FAMILIES {
            let is_shown = board.queries().any(|query| query.expr.contains(family.name));
            assert!(is_shown, "nothing shows {}", family.name);
        }
    }

    #[test]
    fn every_rule_has_a_part_of_the_manual() {
        let manual = include_str!("../../../../../docs/alerts.md");
        let parts: BTreeSet<&str> = manual.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        for rule in rules().into_iter().chain(pipeline::rules()) {
            assert!(parts.contains(rule.alert), "docs/alerts.md does not explain {}", rule.alert);
        }
    }

    #[test]
    fn names_of_files_and_rules_stand_once() {
        let files = files("docs/alerts.md");
        let names: BTreeSet<_> = files.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), files.len());
        let rules: Vec<_> = rules().into_iter().chain(pipeline::rules()).collect();
        let alerts: BTreeSet<_> = rules.iter().map(|rule| rule.alert).collect();
        assert_eq!(alerts.len(), rules.len());
    }
}
