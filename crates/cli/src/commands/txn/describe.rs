//! `milena txn describe`: transactional ids as their coordinators know them, or producers as partitions remember them.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use milena::{Admin, ProducerDescription, TransactionDescription};
use serde::Serialize;

use crate::cluster::{Cluster, Connected};
use crate::commands::chosen::{Chosen, Partition, chosen, name, partitions};
use crate::exit::{Failure, summary};
use crate::output::{to_json, write_out};
use crate::table::{Align, Table};
use crate::units::{Ranges, Span};

const EXAMPLES: &str = "\
Examples:
  milena txn describe billing-1              its state, and its transaction if one is open
  milena txn describe --topic orders:0,2     the producers that two partitions remember
  milena txn describe --topic orders --open  only those with an open transaction
  milena txn describe --topic orders --broker 2  as the replicas of broker 2 remember them";

/// Show transactional ids with their open transactions, or the producers of partitions.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Transactional ids
    #[arg(required_unless_present = "topics", conflicts_with = "topics")]
    ids: Vec<String>,

    /// The producers that the partitions of this topic remember, or some of its partitions, as in orders:0,2,5-7; may be
    /// repeated
    #[arg(short, long = "topic", value_name = "TOPIC[:LIST]", value_parser = chosen)]
    topics: Vec<Chosen>,

    /// Only producers with a transaction that is open there
    #[arg(long, requires = "topics", conflicts_with = "ids")]
    open: bool,

    /// Ask the replicas that this broker has, in place of the leaders
    #[arg(long, value_name = "ID", requires = "topics", conflicts_with = "ids")]
    broker: Option<i32>,

    /// One JSON object a line
    #[arg(short = 'J', long)]
    json: bool,

    #[command(flatten)]
    cluster: Cluster,
}

pub(super) async fn run(args: &Args) -> Result<(), Failure> {
    let cluster = args.cluster.connect().await?;
    if args.topics.is_empty() {
        of_ids(&cluster.admin(), args).await
    } else {
        of_partitions(&cluster, args).await
    }
}

async fn of_ids(admin: &Admin, args: &Args) -> Result<(), Failure> {
    let now = Timestamp::now();
    let mut results = Vec::new();
    for (id, described) in admin.describe_transactions(&args.ids).await {
        let described = described.map_err(|error| match error.code_name() {
            Some("TRANSACTIONAL_ID_NOT_FOUND") => {
                Failure::not_found(format!("no coordinator knows the transactional id {id:?}"))
            }
            _ => error.into(),
        });
        let shown = described.and_then(|of| {
            let shown = Shown::new(&of, now);
            write_out(&if args.json { to_json(&shown)? + "\n" } else { shown.text() })
        });
        results.push((id, shown));
    }
    summary("described", results)
}

/// What is not known or not there is null.
#[derive(Serialize)]
struct Shown<'a> {
    transactional_id: &'a str,
    state: String,
    producer_id: i64,
    producer_epoch: i16,
    timeout_ms: u128,
    /// Milliseconds since 1970.
    start_time: Option<i64>,
    open_ms: Option<i64>,
    partitions: &'a BTreeMap<String, Vec<i32>>,
    coordinator: i32,
}

impl<'a> Shown<'a> {
    fn new(of: &'a TransactionDescription, now: Timestamp) -> Self {
        // Coordinators tell the start of a transaction that is over, too.
        let start_time = of.started_ms.filter(|_| of.state.is_open());
        Self {
            transactional_id: &of.transactional_id,
            state: of.state.to_string(),
            producer_id: of.producer_id,
            producer_epoch: of.producer_epoch,
            timeout_ms: of.timeout.as_millis(),
            start_time,
            open_ms: start_time.map(|start| (now.as_millisecond() - start).max(0)),
            partitions: &of.partitions,
            coordinator: of.coordinator.id,
        }
    }

    fn text(&self) -> String {
        let Self { transactional_id, state, producer_id, producer_epoch, coordinator, .. } = self;
        let mut text = format!(
            "{transactional_id}\n  state {state}, producer id {producer_id}, epoch {producer_epoch}, timeout {} ms, coordinator {coordinator}\n",
            self.timeout_ms
        );
        if let (Some(start), Some(open)) = (self.start_time, self.open_ms) {
            text += &format!("  open since {}, for {}\n", time(start), span(open));
        }
        for (topic, partitions) in self.partitions {
            text += &format!("  {topic}: {}\n", Ranges(partitions));
        }
        text
    }
}

/// A time in milliseconds since 1970 as a date.
pub(super) fn time(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |at| format!("{at:.0}"))
}

pub(super) fn span(ms: i64) -> Span {
    Span(Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
}

#[derive(Serialize)]
struct Remembered<'a> {
    topic: &'a str,
    partition: i32,
    producer_id: i64,
    producer_epoch: i32,
    last_sequence: Option<i32>,
    last_timestamp: Option<i64>,
    coordinator_epoch: Option<i32>,
    transaction_start_offset: Option<i64>,
}

async fn of_partitions(cluster: &Connected, args: &Args) -> Result<(), Failure> {
    let partitions = partitions(cluster, &args.topics).await?;
    let asked = partitions.iter().map(|(topic, partition)| (topic, *partition));
    let admin = cluster.admin();
    let described = match args.broker {
        Some(id) => admin.describe_producers_of_broker(id, asked).await,
        None => admin.describe_producers(asked).await,
    };
    let right = Align::Right;
    let columns = [
        ("topic", Align::Left),
        ("partition", right),
        ("producer id", right),
        ("epoch", right),
        ("last sequence", right),
        ("last timestamp", Align::Left),
        ("coordinator epoch", right),
        ("open from offset", right),
    ];
    let (mut table, mut lines, mut results) = (Table::new(&columns), String::new(), Vec::new());
    for (partition, producers) in described {
        let shown = match producers {
            Ok(producers) => {
                let wanted = producers.iter().filter(|of| !args.open || of.transaction_start.is_some());
                for producer in wanted {
                    add(&partition, producer, args.json, &mut table, &mut lines)?;
                }
                Ok(())
            }
            Err(error) => Err(error.into()),
        };
        results.push((name(&partition), shown));
    }
    write_out(&if args.json { lines } else { table.text(0) })?;
    summary("described", results)
}

fn add(
    (topic, partition): &Partition,
    of: &ProducerDescription,
    json: bool,
    table: &mut Table,
    lines: &mut String,
) -> Result<(), Failure> {
    if json {
        *lines += &to_json(&Remembered {
            topic,
            partition: *partition,
            producer_id: of.producer_id,
            producer_epoch: of.producer_epoch,
            last_sequence: of.last_sequence,
            last_timestamp: of.last_timestamp_ms,
            coordinator_epoch: of.coordinator_epoch,
            transaction_start_offset: of.transaction_start,
        })?;
        lines.push('\n');
        return Ok(());
    }
    let known = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    table.row([
        topic.clone(),
        partition.to_string(),
        of.producer_id.to_string(),
        of.producer_epoch.to_string(),
        known(of.last_sequence.map(|sequence| sequence.to_string())),
        known(of.last_timestamp_ms.map(time)),
        known(of.coordinator_epoch.map(|epoch| epoch.to_string())),
        known(of.transaction_start.map(|offset| offset.to_string())),
    ]);
    Ok(())
}
