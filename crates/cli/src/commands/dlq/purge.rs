//! `milena dlq purge`: deletes the oldest dead letters of a topic.

use std::collections::BTreeMap;
use std::ops::Range;

use jiff::Timestamp;
use milena::{Admin, OffsetAt};
use serde::Serialize;

use super::reader::bounds;
use super::replay::replayed::Replayed;
use super::replay_name;
use crate::cluster::{Cluster, Connected};
use crate::commands::chosen::{Partition, look_up, name};
use crate::commands::topics::{check_partitions, describe_topic};
use crate::exit::{Failure, summary};
use crate::offsets::{Offsets, Point, parse_partitions};
use crate::output::{tell, to_json, write_out};
use crate::table::{Align, Table};

const EXAMPLES: &str = "\
Examples:
  milena dlq purge orders.dlq --replayed               the plan: letters that were replayed
  milena dlq purge orders.dlq --replayed --yes         what the plan says
  milena dlq purge orders.dlq --before -720h          letters that are older than 30 days
  milena dlq purge orders.dlq -p 3 --before 5000       letters before offset 5000 of partition 3";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The topic of dead letters
    topic: String,

    #[command(flatten)]
    which: Which,

    /// With --replayed: the replay's name, if it had one
    #[arg(long = "as", value_name = "NAME", requires = "replayed")]
    name: Option<String>,

    /// Only these partitions, as in 0,2,5-7
    #[arg(short, long, value_name = "LIST")]
    partitions: Option<String>,

    /// Do what the plan says
    #[arg(short, long)]
    yes: bool,

    /// Write the plan as JSON lines
    #[arg(short = 'J', long)]
    json: bool,

    #[command(flatten)]
    pub(super) cluster: Cluster,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// Those before an offset (5000, end, or 0=100,1=200) or a time (-720h, 2023-11-14T22:13Z, @1700000000000)
    #[arg(long, value_name = "OFFSET|TIME", allow_hyphen_values = true, help_heading = "Which letters")]
    before: Option<String>,

    /// Those that `milena dlq replay` has written, up to the first one of each partition that it has not
    #[arg(long, help_heading = "Which letters")]
    replayed: bool,
}

impl Args {
    /// Whether the command may change something.
    pub(super) fn changes(&self) -> bool {
        self.yes
    }
}

/// The change of one partition.
struct Step {
    partition: Partition,
    held: Range<i64>,
    /// Where it begins afterwards.
    new: i64,
}

#[derive(Serialize)]
struct Planned<'a> {
    topic: &'a str,
    partition: i32,
    beginning_offset: i64,
    new_beginning_offset: i64,
    end_offset: i64,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let before =
        args.which.before.as_deref().map(|text| Offsets::parse(text, Point::Beginning, Timestamp::now()));
    let before = before.transpose().map_err(Failure::usage)?;
    let partitions = args.partitions.as_deref().map(parse_partitions).transpose().map_err(Failure::usage)?;
    let cluster = args.cluster.connect().await?;
    let admin = cluster.admin();
    let described = describe_topic(&cluster, &args.topic).await?;
    let partitions =
        partitions.unwrap_or_else(|| described.partitions.iter().map(|partition| partition.index).collect());
    let named = before.iter().flat_map(Offsets::partitions);
    check_partitions(&described, partitions.iter().copied().chain(named))?;
    let partitions = partitions.into_iter().map(|partition| (args.topic.clone(), partition));
    let held = bounds(&cluster, partitions).await?;
    let news = match &before {
        Some(before) => before_points(&admin, &held, before).await?,
        None => replayed(&cluster, &args, &held).await?,
    };
    let step = |(partition, held): (Partition, Range<i64>)| {
        let new = news.get(&partition).copied().unwrap_or(held.start).clamp(held.start, held.end);
        Step { partition, held, new }
    };
    let plan: Vec<_> = held.into_iter().map(step).collect();
    show(&plan, args.json)?;
    let changes: Vec<_> = plan.into_iter().filter(|step| step.new > step.held.start).collect();
    // Compaction and transactions leave offsets without records, so this is not how many letters there are.
    let count: i64 = changes.iter().map(|step| step.new - step.held.start).sum();
    let offsets = if count == 1 { "1 offset".into() } else { format!("{count} offsets") };
    match (changes.is_empty(), args.yes) {
        (true, _) => tell("There is nothing to delete."),
        (false, false) => {
            tell(format_args!("Nothing was deleted: --yes deletes the letters of {offsets} for good."));
        }
        (false, true) => {
            let before = changes.into_iter().map(|step| (step.partition, step.new));
            let deleted = admin.delete_records(before).await?.into_iter();
            let deleted = deleted
                .map(|(partition, deleted)| (name(&partition), deleted.map(drop).map_err(Failure::from)));
            summary("purged", deleted.collect())?;
            tell(format_args!("Deleted the letters of {offsets}."));
        }
    }
    Ok(())
}

type Held = BTreeMap<Partition, Range<i64>>;

async fn before_points(
    admin: &Admin,
    held: &Held,
    before: &Offsets,
) -> Result<BTreeMap<Partition, i64>, Failure> {
    let mut news = BTreeMap::new();
    for (partition, held) in held {
        let point = before.of(partition.1);
        let at_time = match point {
            Point::Time(ms) => {
                let one = [partition.clone()].into_iter().collect();
                look_up(admin, &one, OffsetAt::TimestampMs(ms)).await?.remove(partition)
            }
            _ => None,
        };
        let new = match point {
            Point::At(offset) => offset,
            // Without a record at or after the time, all records are before it.
            point => point.resolve(held.start, held.end, at_time).unwrap_or(held.end),
        };
        news.insert(partition.clone(), new);
    }
    Ok(news)
}

/// The first letter of each partition that was not replayed.
async fn replayed(
    cluster: &Connected,
    args: &Args,
    held: &Held,
) -> Result<BTreeMap<Partition, i64>, Failure> {
    let group = replay_name(&args.topic, args.name.as_deref());
    let found = cluster.admin().list_group_offsets_of(&group, held.keys().cloned()).await?;
    let mut news = BTreeMap::new();
    for (partition, committed) in found {
        let (Some(committed), Some(held)) = (committed?, held.get(&partition)) else { continue };
        let at = format!("{} in group {group:?}", name(&partition));
        let read = Replayed::read(&committed, held.clone()).map_err(|why| Failure::failed(why).at(&at))?;
        news.insert(partition, read.next());
    }
    if news.is_empty() {
        let message =
            format!("no letter of topic {:?} was replayed: group {group:?} has no offsets there", args.topic);
        return Err(Failure::not_found(message).hint("--as names a replay that had a name of its own."));
    }
    Ok(news)
}

fn show(plan: &[Step], json: bool) -> Result<(), Failure> {
    let right = Align::Right;
    let columns = [
        ("topic", Align::Left),
        ("partition", right),
        ("beginning", right),
        ("new", right),
        ("deleted", right),
        ("left", right),
    ];
    let (mut table, mut lines) = (Table::new(&columns), String::new());
    for Step { partition: (topic, partition), held, new } in plan {
        if json {
            let planned = Planned {
                topic,
                partition: *partition,
                beginning_offset: held.start,
                new_beginning_offset: *new,
                end_offset: held.end,
            };
            lines += &to_json(&planned)?;
            lines.push('\n');
            continue;
        }
        let [beginning, new_at, deleted, left] =
            [held.start, *new, new - held.start, held.end - new].map(|number| number.to_string());
        table.row([topic.clone(), partition.to_string(), beginning, new_at, deleted, left]);
    }
    write_out(&if json { lines } else { table.text(0) })
}
