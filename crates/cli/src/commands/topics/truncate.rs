//! `milena topics truncate`: deletes the oldest records of partitions.

use std::collections::BTreeMap;

use jiff::Timestamp;
use milena::{Admin, OffsetAt};
use serde::Serialize;

use crate::cluster::{Cluster, Connected};
use crate::commands::chosen::{Chosen, Partition, chosen, look_up, name, partitions};
use crate::exit::{Failure, summary};
use crate::offsets::{Point, ago, parse_time_near};
use crate::output::{tell, to_json, write_out};
use crate::table::{Align, Table};

pub(super) const EXAMPLES: &str = "\
Examples:
  milena topics truncate orders --to-latest              the plan
  milena topics truncate orders --to-latest --yes        what the plan says
  milena topics truncate orders:0,2 --to-offset 5000     records before offset 5000, of two partitions
  milena topics truncate orders --by-duration 30d        records that are older than 30 days";

/// Delete the oldest records of partitions. Shows the plan; only --yes changes something
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Topics, or some of their partitions, as in orders:0,2,5-7
    #[arg(required = true, value_name = "TOPIC[:LIST]", value_parser = chosen)]
    topics: Vec<Chosen>,

    #[command(flatten)]
    to: To,

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
struct To {
    /// All records that consumers may read
    #[arg(long, help_heading = "Which records")]
    to_latest: bool,

    /// Those before the first record at or after TIME: milliseconds since 1970, a date as 2023-11-14T22:13Z, or -1h
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, help_heading = "Which records")]
    to_time: Option<String>,

    /// Those before the first record that is not older than DURATION, as in 1h30m or PT1H30M
    #[arg(long, value_name = "DURATION", help_heading = "Which records")]
    by_duration: Option<String>,

    /// Those before this offset
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..), help_heading = "Which records")]
    to_offset: Option<i64>,
}

impl Args {
    /// Fails if the command line makes no sense, before a broker is asked.
    pub(super) fn check(&self) -> Result<(), Failure> {
        self.to.point().map(drop)
    }

    /// Whether the command may change something.
    pub(super) fn changes(&self) -> bool {
        self.yes
    }
}

impl To {
    fn point(&self) -> Result<Point, Failure> {
        let now = Timestamp::now();
        let time = match (&self.to_time, &self.by_duration) {
            (Some(text), _) => Some(parse_time_near(text.strip_prefix('@').unwrap_or(text), now)),
            (None, Some(text)) => Some(ago(text, now)),
            (None, None) => None,
        };
        if let Some(time) = time {
            return time.map(Point::Time).map_err(Failure::usage);
        }
        // The last one: clap requires one of them.
        Ok(self.to_offset.map_or(Point::End, Point::At))
    }
}

/// The change of one partition.
struct Step {
    partition: Partition,
    beginning: i64,
    /// Where it begins afterwards. A partition begins nowhere but within what it holds.
    new: i64,
    /// The offset that was asked for, if the partition does not hold it.
    asked: Option<i64>,
}

pub(super) async fn run(args: Args, cluster: &Connected) -> Result<(), Failure> {
    let point = args.to.point()?;
    let admin = cluster.admin();
    let plan = plan(&admin, cluster, &args.topics, point).await?;
    show(&plan, args.json)?;
    let changes: Vec<_> = plan.into_iter().filter(|step| step.new > step.beginning).collect();
    // Compaction and transactions leave offsets without records, so this is not how many records there are.
    let count: i64 = changes.iter().map(|step| step.new - step.beginning).sum();
    let offsets = if count == 1 { "1 offset".into() } else { format!("{count} offsets") };
    match (changes.is_empty(), args.yes) {
        (true, _) => tell("There is nothing to delete."),
        (false, true) => {
            let before = changes.into_iter().map(|step| (step.partition, step.new));
            let deleted = admin.delete_records(before).await?;
            let deleted = deleted
                .into_iter()
                .map(|(partition, deleted)| (name(&partition), deleted.map(drop).map_err(Failure::from)));
            summary("truncated", deleted.collect())?;
            tell(format_args!("Deleted the records of {offsets}."));
        }
        (false, false) => {
            tell(format_args!("Nothing was deleted: --yes deletes the records of {offsets} for good."));
        }
    }
    Ok(())
}

async fn plan(
    admin: &Admin,
    cluster: &Connected,
    topics: &[Chosen],
    point: Point,
) -> Result<Vec<Step>, Failure> {
    let partitions = partitions(cluster, topics).await?;
    let beginnings = look_up(admin, &partitions, OffsetAt::Earliest).await?;
    let ends = look_up(admin, &partitions, OffsetAt::Latest).await?;
    let at_time = match point {
        Point::Time(at) => look_up(admin, &partitions, OffsetAt::TimestampMs(at)).await?,
        _ => BTreeMap::new(),
    };
    let step = |partition: Partition| {
        let known = |offsets: &BTreeMap<Partition, i64>| offsets.get(&partition).copied();
        let (beginning, end) = (known(&beginnings).unwrap_or(0), known(&ends).unwrap_or(0));
        let wanted = match point {
            Point::At(offset) => offset,
            // Without a record at or after the time, all records are before it.
            point => point.resolve(beginning, end, known(&at_time)).unwrap_or(end),
        };
        let new = wanted.min(end).max(beginning);
        let asked = (wanted != new).then_some(wanted);
        Step { partition, beginning, new, asked }
    };
    Ok(partitions.into_iter().map(step).collect())
}

#[derive(Serialize)]
struct Planned<'a> {
    topic: &'a str,
    partition: i32,
    beginning_offset: i64,
    new_beginning_offset: i64,
}

fn show(plan: &[Step], json: bool) -> Result<(), Failure> {
    let right = Align::Right;
    let columns = [
        ("topic", Align::Left),
        ("partition", right),
        ("beginning", right),
        ("new", right),
        ("deleted", right),
        ("", Align::Left),
    ];
    let (mut table, mut lines) = (Table::new(&columns), String::new());
    for Step { partition: (topic, partition), beginning, new, asked } in plan {
        if json {
            let (partition, beginning_offset, new_beginning_offset) = (*partition, *beginning, *new);
            lines += &to_json(&Planned { topic, partition, beginning_offset, new_beginning_offset })?;
            lines.push('\n');
            continue;
        }
        table.row([
            topic.clone(),
            partition.to_string(),
            beginning.to_string(),
            new.to_string(),
            (new - beginning).to_string(),
            asked.map_or_else(String::new, |asked| format!("the nearest to {asked}")),
        ]);
    }
    write_out(&if json { lines } else { table.text(0) })
}
