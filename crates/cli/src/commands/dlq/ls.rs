//! `milena dlq ls`: which topics have dead letters.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use milena::TopicDescription;
use milena_pipeline::dead_letters::{Dialect, Letter};
use serde::Serialize;

use super::reader::{Reader, bounds};
use crate::cluster::{Cluster, Connected};
use crate::commands::chosen::Partition;
use crate::exit::Failure;
use crate::output::{tell, to_json, write_out};
use crate::table::{Align, Table};
use crate::units::{Count, Span};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Look at the newest records of every topic, however many there are. Default: of all topics if they have 500 partitions at
    /// most, and otherwise of those whose names say that they have dead letters
    #[arg(short, long)]
    all: bool,

    /// One JSON object a line
    #[arg(short = 'J', long)]
    json: bool,

    #[command(flatten)]
    cluster: Cluster,
}

/// Records that are looked at, at the end of each partition.
const NEWEST: i64 = 5;
/// Partitions of topics that are looked at only because they may have dead letters.
const PARTITIONS_MAX: usize = 500;

/// What is known of a topic.
#[derive(Default)]
struct Found {
    partition_count: usize,
    /// Offsets between beginning and end: compaction and transactions leave some without records.
    letters: i64,
    dialects: BTreeSet<Dialect>,
    /// The timestamps of the oldest and the newest record that were seen.
    oldest_ms: Option<i64>,
    newest_ms: Option<i64>,
}

#[derive(Serialize)]
struct Listed<'a> {
    topic: &'a str,
    dialects: Vec<&'static str>,
    partition_count: usize,
    letters: i64,
    oldest_ms: Option<i64>,
    newest_ms: Option<i64>,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let cluster = args.cluster.connect().await?;
    let mut topics = cluster.admin().topics().await?;
    topics.retain(|topic| !topic.is_internal);
    let others: usize =
        topics.iter().filter(|topic| !is_named_so(&topic.name)).map(|t| t.partitions.len()).sum();
    if others > PARTITIONS_MAX && !args.all {
        topics.retain(|topic| is_named_so(&topic.name));
        tell(format_args!("Only topics whose names say so were looked at; --all looks at every topic."));
    }
    let found = look(&cluster, &topics).await?;
    let now = Timestamp::now().as_millisecond();
    let right = Align::Right;
    let columns = [
        ("topic", Align::Left),
        ("letters", right),
        ("oldest", right),
        ("newest", right),
        ("dialect", Align::Left),
    ];
    let (mut table, mut lines) = (Table::new(&columns), String::new());
    for (topic, found) in &found {
        let Found { partition_count, letters, dialects, oldest_ms, newest_ms } = found;
        let dialects: Vec<_> = dialects.iter().map(|dialect| dialect.name()).collect();
        if args.json {
            let (partition_count, letters) = (*partition_count, *letters);
            let listed = Listed {
                topic,
                dialects,
                partition_count,
                letters,
                oldest_ms: *oldest_ms,
                newest_ms: *newest_ms,
            };
            lines += &to_json(&listed)?;
            lines.push('\n');
            continue;
        }
        let age = |ms: &Option<i64>| ms.map_or("-".into(), |ms| age(now, ms));
        let dialect = if dialects.is_empty() { "-".into() } else { dialects.join(", ") };
        table.row([
            topic.clone(),
            Count(*letters as u64).to_string(),
            age(oldest_ms),
            age(newest_ms),
            dialect,
        ]);
    }
    write_out(&if args.json { lines } else { table.text(0) })
}

fn age(now: i64, ms: i64) -> String {
    format!("{} ago", Span(Duration::from_millis(u64::try_from(now.saturating_sub(ms)).unwrap_or(0))))
}

/// Whether a topic's name says that it has dead letters, as Spring (`-dlt`, `.DLT`), SmallRye (`dead-letter-topic-…`), share groups
/// (`dlq.…`) and most people name theirs.
fn is_named_so(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let mut words = name.split(['.', '-', '_']).peekable();
    let mut has = false;
    while let Some(word) = words.next() {
        let is_dead_letter = word == "dead" && words.peek().is_some_and(|next| next.starts_with("letter"));
        has |=
            matches!(word, "dlt" | "dlq" | "dltopic" | "deadletter" | "deadletters" | "poison" | "poisoned")
                || is_dead_letter;
    }
    has
}

/// The topics that have dead letters, with what the newest records of each partition say.
async fn look(cluster: &Connected, topics: &[TopicDescription]) -> Result<BTreeMap<String, Found>, Failure> {
    let partitions =
        topics.iter().flat_map(|topic| topic.partitions.iter().map(|p| (topic.name.clone(), p.index)));
    let held = bounds(cluster, partitions).await?;
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    for ((topic, _), span) in &held {
        let topic = found.entry(topic.clone()).or_default();
        topic.partition_count += 1;
        topic.letters += span.end - span.start;
    }
    let newest =
        held.iter().map(|(partition, span)| (partition.clone(), span.start.max(span.end - NEWEST)..span.end));
    let mut newest = Reader::open(cluster, newest).await?;
    while let Some((batch, stop)) = newest.next().await? {
        let Some(topic) = found.get_mut(batch.topic()) else { continue };
        for record in batch.iter().filter(|record| record.offset() < stop) {
            topic.dialects.extend(Letter::read(record.headers()).map(|letter| letter.dialect));
            topic.newest_ms = topic.newest_ms.max(record.timestamp_ms());
        }
    }
    found.retain(|name, topic| !topic.dialects.is_empty() || is_named_so(name));
    let oldest = held.into_iter().filter(|((topic, _), _)| found.contains_key(topic));
    let mut oldest = Reader::open(cluster, oldest).await?;
    while let Some((batch, _)) = oldest.next().await? {
        let Some(first) = batch.iter().next() else { continue };
        let partition: Partition = (batch.topic().to_owned(), batch.partition());
        oldest.finish(&partition)?;
        if let Some(topic) = found.get_mut(batch.topic()) {
            topic.oldest_ms = [topic.oldest_ms, first.timestamp_ms()].into_iter().flatten().min();
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell() {
        for name in [
            "orders-dlt",
            "orders.DLT",
            "orders.dlq",
            "dlq.orders",
            "orders_dlq",
            "dead-letter-topic-orders",
            "orders-dead-letters",
            "deadletter",
            "orders-retry-dlt",
        ] {
            assert!(is_named_so(name), "{name}");
        }
        for name in ["orders", "dead", "dead-man", "adlq", "letters"] {
            assert!(!is_named_so(name), "{name}");
        }
    }
}
