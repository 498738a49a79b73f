//! `milena groups offsets`: exports, resets and deletes the committed offsets of a group.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::{fs, io};

use clap::Subcommand;
use jiff::Timestamp;
use milena::{Admin, OffsetAt};
use serde::Serialize;

use super::no_group;
use crate::cluster::Cluster;
use crate::commands::chosen::{Chosen, Partition, chosen, look_up, name, partitions};
use crate::exit::{Exit, Failure, summary};
use crate::offsets::{Point, ago, parse_time_near};
use crate::output::{tell, to_json, write_out};
use crate::reset::{Known, Step, Target};
use crate::stored::{self, Stored};
use crate::table::{Align, Table};

const EXAMPLES: &str = "\
Examples:
  milena groups offsets reset billing --topic orders --to-earliest        the plan
  milena groups offsets reset billing --topic orders --to-earliest --yes  what the plan says
  milena groups offsets reset billing --topic orders:0,2 --shift -100     100 records again, of two partitions
  milena groups offsets reset billing --all-topics --to-time -1h          what was written in the last hour
  milena groups offsets export billing >saved                             all committed offsets
  milena groups offsets reset billing --from-file saved --yes             back to them";

/// Export, reset and delete the committed offsets of a group.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write the committed offsets to stdout, in a form that reset reads
    #[command(after_help = stored::HELP)]
    Export {
        group: String,
        /// Only of this topic, or of some of its partitions, as in orders:0,2,5-7; may be repeated
        #[arg(short, long = "topic", value_name = "TOPIC[:LIST]", value_parser = chosen)]
        topics: Vec<Chosen>,
        /// Write TOPIC,PARTITION,OFFSET as Java's kafka-consumer-groups does, without leader epochs and metadata
        #[arg(long)]
        csv: bool,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Set the committed offsets of a group without members. Shows the plan; only --yes changes something
    #[command(after_help = [EXAMPLES, stored::HELP].join("\n\n"))]
    Reset(Reset),
    /// Delete committed offsets, of topics that no member subscribes to, without confirmation
    #[command(visible_alias = "rm")]
    Delete {
        group: String,
        /// Of this topic, or of some of its partitions, as in orders:0,2,5-7; may be repeated
        #[arg(short, long = "topic", value_name = "TOPIC[:LIST]", required = true, value_parser = chosen)]
        topics: Vec<Chosen>,
        #[command(flatten)]
        cluster: Cluster,
    },
}

#[derive(Debug, clap::Args)]
struct Reset {
    group: String,

    /// This topic, or some of its partitions, as in orders:0,2,5-7; may be repeated
    #[arg(short, long = "topic", value_name = "TOPIC[:LIST]", value_parser = chosen)]
    topics: Vec<Chosen>,

    /// All partitions that the group has committed offsets of
    #[arg(short, long, conflicts_with = "topics")]
    all_topics: bool,

    #[command(flatten)]
    to: To,

    /// Do what the plan says
    #[arg(short, long)]
    yes: bool,

    /// Write the plan as JSON lines
    #[arg(short = 'J', long)]
    json: bool,

    #[command(flatten)]
    cluster: Cluster,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct To {
    /// To the first record of each partition
    #[arg(long, help_heading = "Where to")]
    to_earliest: bool,

    /// After the last record of each partition
    #[arg(long, help_heading = "Where to")]
    to_latest: bool,

    /// To the first record at or after TIME: milliseconds since 1970, a date as 2023-11-14T22:13Z, or -1h
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, help_heading = "Where to")]
    to_time: Option<String>,

    /// To the first record that is not older than DURATION, as in 1h30m or PT1H30M
    #[arg(long, value_name = "DURATION", help_heading = "Where to")]
    by_duration: Option<String>,

    /// To this offset, or the nearest one that the partition has
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..), help_heading = "Where to")]
    to_offset: Option<i64>,

    /// By N offsets from the committed one, forward or (-N) backward
    #[arg(long, value_name = "N", allow_hyphen_values = true, help_heading = "Where to")]
    shift: Option<i64>,

    /// To the offsets of a file that `export` or Java's tool wrote, - for stdin. Without --topic all of them
    #[arg(long, value_name = "FILE", help_heading = "Where to")]
    from_file: Option<PathBuf>,
}

impl Args {
    /// The cluster that the command takes something away from, and what.
    pub(super) fn destroys(&self) -> Option<(&Cluster, &'static str)> {
        match &self.command {
            Command::Delete { cluster, .. } => Some((cluster, "deletes committed offsets")),
            Command::Reset(reset) if reset.yes => Some((&reset.cluster, "replaces committed offsets")),
            Command::Export { .. } | Command::Reset(_) => None,
        }
    }

    /// Whether the command may change something.
    pub(super) fn changes(&self) -> bool {
        match &self.command {
            Command::Export { .. } => false,
            Command::Reset(reset) => reset.yes,
            Command::Delete { .. } => true,
        }
    }
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Export { group, topics, csv, cluster } => {
            let admin = cluster.connect().await?.admin();
            members(&admin, &group).await?;
            let mut offsets = committed(&admin, &group).await?;
            offsets.retain(|partition, _| {
                topics.is_empty() || topics.iter().any(|chosen| chosen.has(partition))
            });
            let lines = || stored::json_lines(&offsets).map_err(|error| Failure::failed(error.to_string()));
            write_out(&if csv { stored::csv(&offsets) } else { lines()? })
        }
        Command::Reset(args) => reset(args).await,
        Command::Delete { group, topics, cluster } => {
            let cluster = cluster.connect().await?;
            let partitions = partitions(&cluster, &topics).await?;
            let deleted = cluster.admin().delete_group_offsets(&group, partitions).await;
            let deleted = deleted.into_iter().map(|(partition, deleted)| {
                (name(&partition), deleted.map_err(|error| no_group(&group, error)))
            });
            summary("deleted", deleted.collect())
        }
    }
}

async fn reset(args: Reset) -> Result<(), Failure> {
    let target = args.to.target(&args.group)?;
    let cluster = args.cluster.connect().await?;
    let admin = cluster.admin();
    let members = match members(&admin, &args.group).await {
        // Its offsets can be set before its first member comes.
        Err(failure) if failure.exit() == Exit::NotFound && !args.all_topics => {
            tell(format_args!("group {:?} does not exist yet", args.group));
            0
        }
        members => members?,
    };
    let committed = committed(&admin, &args.group).await?;
    let partitions = match &target {
        Target::Stored(stored) if args.topics.is_empty() => stored.keys().cloned().collect(),
        _ if args.all_topics => committed.keys().cloned().collect(),
        _ if args.topics.is_empty() => {
            return Err(Failure::usage("which offsets? Choose them with --topic, or take --all-topics"));
        }
        _ => partitions(&cluster, &args.topics).await?,
    };
    let plan = plan(&admin, &partitions, &target, &committed).await?;
    show(&plan, args.json)?;
    let changes: Vec<_> = plan.into_iter().filter(Step::is_change).collect();
    let count = changes.len();
    let are = if members == 1 { "1 member".into() } else { format!("{members} members") };
    let active = format!("group {:?} has {are}: offsets can be set when it has none", args.group);
    match (count, args.yes) {
        (0, _) => tell("There is nothing to change."),
        (_, true) if members > 0 => {
            return Err(
                Failure::failed(active).hint("A member that was killed counts until its session ends.")
            );
        }
        (_, true) => {
            let new = changes.into_iter().map(|step| ((step.topic, step.partition), step.new));
            let set = admin.alter_group_offsets(&args.group, new).await?;
            let set = set.into_iter().map(|(partition, set)| (name(&partition), set.map_err(Failure::from)));
            summary("set", set.collect())?;
            tell(format_args!("{count} offsets set"));
        }
        (_, false) => {
            if members > 0 {
                tell(active);
            }
            tell(format_args!("Nothing was changed: --yes sets these {count} offsets."));
        }
    }
    Ok(())
}

impl To {
    fn target(&self, group: &str) -> Result<Target, Failure> {
        let now = Timestamp::now();
        if self.to_earliest {
            return Ok(Target::Point(Point::Beginning));
        }
        if let Some(text) = &self.to_time {
            let text = text.strip_prefix('@').unwrap_or(text);
            return parse_time_near(text, now)
                .map(|at| Target::Point(Point::Time(at)))
                .map_err(Failure::usage);
        }
        if let Some(text) = &self.by_duration {
            return ago(text, now).map(|at| Target::Point(Point::Time(at))).map_err(Failure::usage);
        }
        if let Some(offset) = self.to_offset {
            return Ok(Target::Point(Point::At(offset)));
        }
        if let Some(by) = self.shift {
            return Ok(Target::Shift(by));
        }
        if let Some(file) = &self.from_file {
            let text = match file.to_str() {
                Some("-") => io::read_to_string(io::stdin()),
                _ => fs::read_to_string(file),
            };
            let text = text.map_err(|error| {
                let exit = match error.kind() {
                    io::ErrorKind::NotFound => Exit::NotFound,
                    _ => Exit::Usage,
                };
                Failure::new(exit, format!("cannot read {}: {error}", file.display()))
            })?;
            let stored = stored::parse(&text, group);
            return stored
                .map(Target::Stored)
                .map_err(|error| Failure::usage(error).at(&file.to_string_lossy()));
        }
        // The last one: clap requires one of them.
        Ok(Target::Point(Point::End))
    }
}

/// How many members the group has.
async fn members(admin: &Admin, group: &str) -> Result<usize, Failure> {
    let described = admin.describe_groups([group]).await.into_iter().map(|(_, described)| described).next();
    let missing = || Failure::not_found(format!("group {group:?} does not exist"));
    let described = described.ok_or_else(missing)?.map_err(|error| no_group(group, error))?;
    Ok(described.members.len())
}

async fn committed(admin: &Admin, group: &str) -> Result<Stored, Failure> {
    let mut all = Stored::new();
    for (_, offsets) in admin.list_group_offsets([group]).await {
        all.extend(offsets?);
    }
    Ok(all)
}

async fn plan(
    admin: &Admin,
    partitions: &BTreeSet<Partition>,
    target: &Target,
    committed: &Stored,
) -> Result<Vec<Step>, Failure> {
    let beginnings = look_up(admin, partitions, OffsetAt::Earliest).await?;
    let ends = look_up(admin, partitions, OffsetAt::Latest).await?;
    let at_time = match target {
        Target::Point(Point::Time(at)) => look_up(admin, partitions, OffsetAt::TimestampMs(*at)).await?,
        _ => BTreeMap::new(),
    };
    let step = |partition: &Partition| {
        let known = Known {
            committed: committed.get(partition).cloned(),
            beginning: beginnings.get(partition).copied().unwrap_or(0),
            end: ends.get(partition).copied().unwrap_or(0),
            at_time: at_time.get(partition).copied(),
        };
        Step::new(&partition.0, partition.1, target, &known).map_err(Failure::not_found)
    };
    partitions.iter().map(step).collect()
}

#[derive(Serialize)]
struct Planned<'a> {
    topic: &'a str,
    partition: i32,
    current_offset: Option<i64>,
    new_offset: i64,
}

fn show(plan: &[Step], json: bool) -> Result<(), Failure> {
    let right = Align::Right;
    let columns = [
        ("topic", Align::Left),
        ("partition", right),
        ("committed", right),
        ("new", right),
        ("change", right),
        ("", Align::Left),
    ];
    let (mut table, mut lines) = (Table::new(&columns), String::new());
    for step in plan {
        let Step { topic, partition, current, new, asked } = step;
        if json {
            let (partition, current_offset, new_offset) = (*partition, *current, new.offset);
            lines += &to_json(&Planned { topic, partition, current_offset, new_offset })?;
            lines.push('\n');
            continue;
        }
        let known = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        table.row([
            topic.clone(),
            partition.to_string(),
            known(current.map(|current| current.to_string())),
            new.offset.to_string(),
            known(current.map(|current| format!("{:+}", new.offset - current))),
            asked.map_or_else(String::new, |asked| format!("the nearest to {asked}")),
        ]);
    }
    write_out(&if json { lines } else { table.text(0) })
}
