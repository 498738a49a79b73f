//! `milena profile import`: takes clusters over from the files of other clients.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::warn_of_mistakes;
use crate::config::{self, Config};
use crate::exit::Failure;
use crate::output::{tell, write_out};
use crate::profiles::import::{Format, Imported, Imports, detect, name_of, read};

const HELP: &str = "\
Examples:
  milena profile import client.properties --name prod       Java's, with sasl.jaas.config
  milena profile import ~/.config/kcat.conf --name dev      kcat's and librdkafka's
  milena profile import ~/.config/kcl/config.toml           all profiles of kcl
  milena profile import ~/.config/rpk/rpk.yaml --only prod  one profile of rpk
  milena profile import ~/.kaf/config --use                 all clusters of kaf, and its current one

Secrets are not copied unless --with-secrets is given: a variable of the environment takes the place of each, and a
line on stderr names it. Sources (command:..., env:... and file:...) are never copied, because only Milena reads them.
What has no meaning for Milena is told on stderr too.";

/// Take clusters over from the configuration file of another client
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// The file
    file: PathBuf,

    /// The program whose file it is. Default: as its content looks
    #[arg(short, long)]
    format: Option<Of>,

    /// The name of the profile, for files that have no names. Default: the file's name without its ending
    #[arg(short, long)]
    name: Option<String>,

    /// Only the cluster of this name; may be repeated
    #[arg(short, long, value_name = "NAME")]
    only: Vec<String>,

    /// Copy passwords and keys that are written in the file
    #[arg(long)]
    with_secrets: bool,

    /// Replace profiles of the same names
    #[arg(long)]
    replace: bool,

    /// Make the cluster that the other program uses, or the only one, the current profile
    #[arg(long = "use")]
    select: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Of {
    Java,
    Librdkafka,
    Kcat,
    Kcl,
    Rpk,
    Kaf,
}

impl From<Of> for Format {
    fn from(of: Of) -> Self {
        match of {
            Of::Java | Of::Librdkafka | Of::Kcat => Self::Properties,
            Of::Kcl => Self::Kcl,
            Of::Rpk => Self::Rpk,
            Of::Kaf => Self::Kaf,
        }
    }
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let path = &args.file;
    let missing = || Failure::not_found(format!("the file {} does not exist", path.display()));
    let text = config::text(path)?.ok_or_else(missing)?;
    let format = args.format.map_or_else(|| detect(&text), Format::from);
    let imported = read(format, &text).map_err(|why| Failure::usage(format!("{}: {why}", path.display())))?;
    let clusters = chosen(&imported, args)?;
    let mut config = Config::open()?;
    let taken: Vec<_> = clusters.iter().filter(|(name, _)| config.profiles.profile(name).is_some()).collect();
    if let (Some((name, _)), false) = (taken.first(), args.replace) {
        let failure = Failure::usage(format!("there is a profile {name} already; nothing was imported"));
        return Err(failure.hint("Choose another --name, or --replace it."));
    }
    imported.notes.iter().for_each(tell);
    let mut text = String::new();
    for (name, mut imports) in clusters.clone() {
        imports.leave_out_sources(&name);
        if !args.with_secrets {
            imports.leave_out_secrets(&name);
        }
        config.profiles.remove_properties(&name);
        for (property, value) in &imports.properties {
            config.profiles.set(&name, property, value).map_err(Failure::usage)?;
        }
        imports.notes.iter().for_each(|note| tell(format_args!("{name}: {note}")));
        text += &format!("{name}\n");
    }
    if args.select {
        let current = imported.current.as_deref().map(name_of);
        let current = clusters.iter().find(|(name, _)| Some(name) == current.as_ref());
        match (current, &*clusters) {
            (Some((name, _)), _) | (None, [(name, _)]) => config.profiles.select(Some(name)),
            _ => tell(
                "no profile was made the current one: the file does not say which; use `milena profile use`",
            ),
        }
    }
    config.write()?;
    for (name, _) in &clusters {
        warn_of_mistakes(&config.profile(name)?);
    }
    write_out(&text)
}

/// The clusters to import, with the names of their profiles.
fn chosen(imported: &Imported, args: &Args) -> Result<Vec<(String, Imports)>, Failure> {
    let known: Vec<&str> = imported.clusters.iter().map(|imports| &*imports.name).collect();
    if let Some(unknown) = args.only.iter().find(|only| !known.contains(&&***only)) {
        let failure = Failure::not_found(format!("{} names no cluster {unknown:?}", args.file.display()));
        return Err(failure.hint(format!("It names {}.", known.join(", "))));
    }
    let is_chosen = |imports: &&Imports| args.only.is_empty() || args.only.contains(&imports.name);
    let chosen: Vec<_> = imported.clusters.iter().filter(is_chosen).collect();
    if args.name.is_some() && chosen.len() > 1 {
        let failure =
            Failure::usage(format!("--name names one profile, and the file has {} clusters", chosen.len()));
        return Err(failure.hint(format!("Choose one with --only: {}.", known.join(", "))));
    }
    let mut named: Vec<(String, Imports)> = Vec::with_capacity(chosen.len());
    for imports in chosen {
        let name = match &args.name {
            Some(name) => name.clone(),
            None if imports.name.is_empty() => name_of(&stem(&args.file)),
            None => name_of(&imports.name),
        };
        if named.iter().any(|(known, _)| *known == name) {
            return Err(Failure::usage(format!(
                "two clusters of the file would be the profile {name}; choose one with --only"
            )));
        }
        named.push((name, imports.clone()));
    }
    Ok(named)
}

/// The file's name without its ending.
fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
