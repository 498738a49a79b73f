//! `milena dlq replay`: writes dead letters to where they came from, each once.
//!
//! ```text
//!  reader ─▶ wanted, and not replayed yet? ─▶ Route: where, and what ─▶ chunk ─▶ Writer: one transaction
//!                                                                               (records, and the group's offsets)
//! ```
//!
//! A letter counts as replayed when the transaction that writes it is committed, because the offsets of the replay's group are
//! committed in the same transaction: a replay that is killed anywhere goes on without losing and without repeating a letter. The
//! transactional id is the group's name, so that a second replay of the same name fences the first.

mod audit;
mod dry_run;
mod mapping;
mod outgoing;
pub(super) mod replayed;
mod spike;
mod writing;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser as _;
use jiff::Timestamp;
use milena::{CommittedOffset, Consumer, SharedRecord};
use serde_json::json;

use self::audit::Audit;
use self::mapping::Mapping;
use self::outgoing::{Item, Route};
use self::replayed::Replayed;
use self::spike::Spike;
use self::writing::{Tally, Writer};
use super::reader::{Reader, held, spans};
use super::selection::{Select, Wanted};
use super::{letters, replay_name};
use crate::cluster::{Cluster, Connected};
use crate::commands::chosen::{Partition, name};
use crate::commands::produce::pace::{Pace, rate};
use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::output::{tell, write_out};
use crate::progress::Progress;
use crate::units::Count;

const EXAMPLES: &str = "\
Examples:
  milena dlq replay orders.dlq --dry-run                what would be written, and what would change
  milena dlq replay orders.dlq                          all letters that were not replayed yet
  milena dlq replay orders.dlq --error Timeout --rate 500
  milena dlq replay orders.dlq --to orders-again --map '.value.amount |= tonumber'
  milena dlq replay orders.dlq --audit replay.jsonl     a file says what became of each letter";

/// Write dead letters to where they came from, each once: what is written and the position are committed in one transaction.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = [EXAMPLES, mapping::HELP].join("\n\n"),
    after_help = [EXAMPLES, "--help explains --map."].join("\n\n")
)]
pub(super) struct Args {
    /// The topic of dead letters
    topic: String,

    /// Write all letters to this topic. Default: each to the topic and partition that its headers name
    #[arg(long, value_name = "TOPIC")]
    to: Option<String>,

    #[command(flatten)]
    select: Select,

    /// Stop after N letters
    #[arg(short, long, value_name = "N")]
    count: Option<u64>,

    /// Show what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,

    /// Letters per second. Default: as fast as they can be written
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,

    /// A jq program that changes the letters: each of its outputs is written. See --help
    #[arg(long, value_name = "PROGRAM")]
    map: Option<String>,

    /// Keep the headers that made the record a dead letter. Default: they are taken off
    #[arg(long)]
    keep_headers: bool,

    /// Give the records the timestamps that they had at their origin. Default: they are as old as the replay, so that no retention
    /// removes them at once
    #[arg(long)]
    keep_time: bool,

    /// Stop when more than this share of the last 100 letters cannot be written
    #[arg(long, value_name = "PERCENT", default_value = "10%", value_parser = spike::share)]
    stop_at: f64,

    /// The replay's name: the group that remembers what was replayed, and the transactional id. Default:
    /// milena-dlq-replay-TOPIC
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,

    /// Append to FILE what becomes of each letter, as JSON lines
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    audit: Option<PathBuf>,

    /// Write the dry run, or the final counts, as JSON
    #[arg(short = 'J', long)]
    json: bool,

    #[command(flatten)]
    cluster: Cluster,
}

/// Letters of one transaction.
const CHUNK_LETTERS: usize = 10_000;
/// Bytes of keys and values of one transaction: what waits for it holds the consumer's memory.
const CHUNK_BYTES: usize = 4 << 20;
/// How long a letter waits for others.
const CHUNK_AGE: Duration = Duration::from_millis(200);
/// Within this time the cluster aborts the transaction of a replay that was killed.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a coordinator may take to say what a group has committed, and how often it is asked.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const ATTEMPTS_MAX: u32 = 6;
/// Topics that letters go to.
const TARGETS_MAX: usize = 10_000;

pub(super) async fn run(args: Args, interrupt: &Interrupt) -> Result<(), Failure> {
    let wanted = args.select.parse(Timestamp::now()).map_err(Failure::usage)?;
    if args.to.as_deref() == Some(&args.topic) {
        return Err(Failure::usage("--to names the topic of dead letters itself"));
    }
    let mapping = args.map.as_deref().map(Mapping::compile).transpose().map_err(Failure::usage)?;
    let route = Route {
        to: args.to.as_deref().map(Arc::from),
        keeps_headers: args.keep_headers,
        keeps_time: args.keep_time,
        mapping,
    };
    let cluster = interrupt.or(args.cluster.connect()).await?;
    let mut planner =
        Planner { cluster: &cluster, wanted, route, targets: BTreeMap::new(), scanned: BTreeMap::new() };
    if args.dry_run {
        return interrupt.or(dry_run::run(&args, &mut planner)).await;
    }
    let (tally, ended) = write_all(&args, &mut planner, interrupt).await?;
    report(&args, &tally)?;
    ended?;
    match tally.first_failure {
        None => Ok(()),
        Some(first) => {
            let exit = if tally.replayed == 0 { Exit::Failed } else { Exit::Partial };
            let message = format!("{} could not be replayed; the first: {first}", letters(tally.failed));
            Err(Failure::new(exit, message)
                .hint("They were left as they are: the same command tries them again."))
        }
    }
}

/// Replays all letters of a topic, as the command does without options. Answers with their number.
pub(crate) async fn redrive(cluster: &Connected, topic: &str, interrupt: &Interrupt) -> Result<u64, Failure> {
    #[derive(clap::Parser)]
    struct Alone {
        #[command(flatten)]
        args: Args,
    }
    let args =
        Alone::try_parse_from(["replay", topic]).map_err(|error| Failure::usage(error.to_string()))?.args;
    let wanted = args.select.parse(Timestamp::now()).map_err(Failure::usage)?;
    let route = Route { to: None, keeps_headers: false, keeps_time: false, mapping: None };
    let mut planner = Planner { cluster, wanted, route, targets: BTreeMap::new(), scanned: BTreeMap::new() };
    let (tally, ended) = write_all(&args, &mut planner, interrupt).await?;
    ended?;
    match tally.first_failure {
        None => Ok(tally.replayed),
        Some(first) => Err(Failure::failed(format!(
            "{} could not be replayed; the first: {first}",
            letters(tally.failed)
        ))),
    }
}

/// Replays what is wanted. Answers with what was done, and how it ended.
async fn write_all(
    args: &Args,
    planner: &mut Planner<'_>,
    interrupt: &Interrupt,
) -> Result<(Tally, Result<(), Failure>), Failure> {
    let audit = Audit::open(args.audit.as_deref())?;
    let cluster = planner.cluster;
    let mut writer = interrupt.or(open(cluster, args, &planner.wanted, audit)).await?;
    let ended = replay(args, planner, &mut writer, interrupt).await;
    let Writer { producer, mut audit, tally, .. } = writer;
    let reason = ended.as_ref().err().map(ToString::to_string);
    audit.note("end", json!({ "replayed": tally.replayed, "failed": tally.failed, "stopped": reason }));
    let audited = audit.sync();
    // What was dropped is aborted now, or readers would wait for it.
    let closed = producer.close_within(cluster.timeout).await;
    Ok((tally, ended.and(audited).and(closed.map_err(Failure::from))))
}

/// Fences an earlier replay of the name, and finds out where it ended.
async fn open(cluster: &Connected, args: &Args, wanted: &Wanted, audit: Audit) -> Result<Writer, Failure> {
    let group = replay_name(&args.topic, args.name.as_deref());
    let held = held(cluster, &args.topic, wanted).await?;
    check_group(cluster, &group).await?;
    // The producer comes first: when it is there, no earlier one commits any more, and what that one has left open is aborted.
    let producer =
        cluster.client.transactional(group.as_str()).transaction_timeout(TRANSACTION_TIMEOUT).build().await?;
    let (committer, stored) = committed(cluster, &group, &held).await?;
    let mut positions = BTreeMap::new();
    for (partition, committed) in stored {
        let Some(held) = held.get(&partition) else { continue };
        let position = position(&partition, committed.as_ref(), held, &group)?;
        positions.insert(partition.1, position);
    }
    let mut audit = audit;
    let at: BTreeMap<_, _> = positions
        .iter()
        .map(|(partition, position)| {
            let committed = position.committed();
            (
                partition.to_string(),
                json!({ "offset": position.next(), "metadata": committed.and_then(|c| c.metadata) }),
            )
        })
        .collect();
    audit.note("begin", json!({ "topic": args.topic, "as": group, "to": args.to, "positions": at }));
    audit.sync()?;
    Ok(Writer {
        topic: args.topic.clone(),
        group,
        producer,
        committer,
        positions,
        audit,
        spike: Spike::new(args.stop_at),
        tally: Tally::default(),
        transactions: 0,
    })
}

/// What the group has committed, with the consumer that commits for it. The consumer is a member of no group, and reads nothing.
async fn committed(
    cluster: &Connected,
    group: &str,
    held: &BTreeMap<Partition, std::ops::Range<i64>>,
) -> Result<(Consumer, Vec<(Partition, Option<CommittedOffset>)>), Failure> {
    let partitions = || held.keys().map(|(topic, partition)| (topic.as_str(), *partition));
    let mut attempts = 0;
    loop {
        let committer = cluster.client.consumer(group).assign(partitions()).manual_commits().build().await?;
        attempts += 1;
        // A question whose answer is lost is asked anew on another connection before the client's own 30 s are over.
        match tokio::time::timeout(ANSWER_TIMEOUT, committer.committed(partitions())).await {
            Ok(stored) => {
                let stored = stored?;
                committer.pause_all();
                return Ok((committer, stored));
            }
            Err(_) if attempts < ATTEMPTS_MAX => {}
            Err(_) => {
                let message =
                    format!("asking what group {group:?} has committed: its coordinator did not answer");
                return Err(Failure::new(Exit::Unreachable, message));
            }
        }
    }
}

/// Fails if the group has members. Kafka lets a transaction commit for it all the same, and its members' offsets would be replaced.
async fn check_group(cluster: &Connected, group: &str) -> Result<(), Failure> {
    let described = cluster.admin().describe_groups([group]).await.into_iter();
    if described.filter_map(|(_, group)| group.ok()).all(|group| group.members.is_empty()) {
        return Ok(());
    }
    let message = format!("group {group:?} has members, so its offsets are not those of a replay");
    Err(Failure::usage(message).hint("--as gives this replay a name that no group has."))
}

/// What a committed offset says of a partition.
fn position(
    partition: &Partition,
    committed: Option<&CommittedOffset>,
    held: &std::ops::Range<i64>,
    group: &str,
) -> Result<Replayed, Failure> {
    let Some(committed) = committed else { return Ok(Replayed::none(held.start)) };
    Replayed::read(committed, held.clone()).map_err(|why| {
        let hint = format!(
            "`milena groups offsets delete {group}` forgets what was replayed; --as gives this replay another name."
        );
        Failure::failed(why).at(&name(partition)).hint(hint)
    })
}

async fn replay(
    args: &Args,
    planner: &mut Planner<'_>,
    writer: &mut Writer,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let mut reader = planner.open(&args.topic, &writer.positions).await?;
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut pace = args.rate.map(Pace::new);
    let mut chunk = Chunk::default();
    let progress = Progress::counting(true);
    loop {
        let batch = tokio::select! {
            biased;
            () = interrupt.asked() => return Err(interrupted()),
            batch = reader.next() => batch?,
            () = tokio::time::sleep_until(chunk.due().into()), if !chunk.letters.is_empty() => {
                chunk.write(writer, &progress).await?;
                continue;
            }
        };
        let Some((batch, stop)) = batch else { break };
        for record in batch.share().records() {
            if record.offset() >= stop || left == 0 {
                break;
            }
            let Some(planned) = planner.plan(record, &writer.positions).await? else { continue };
            left -= 1;
            if let Some(pace) = &mut pace {
                let due = pace.next(Instant::now());
                if due > chunk.due() {
                    chunk.write(writer, &progress).await?;
                }
                tokio::select! {
                    () = tokio::time::sleep_until(due.into()) => {}
                    () = interrupt.asked() => return Err(interrupted()),
                }
            }
            chunk.push(planned);
            if chunk.is_full() {
                chunk.write(writer, &progress).await?;
            }
        }
        reader.rested();
        if left == 0 {
            break;
        }
    }
    chunk.write(writer, &progress).await
}

fn interrupted() -> Failure {
    Failure::new(Exit::Interrupted, "interrupted")
        .hint("The same command goes on with the letters that were not replayed.")
}

/// Letters for the next transaction.
#[derive(Default)]
struct Chunk {
    letters: Vec<Planned>,
    bytes: usize,
    since: Option<Instant>,
}

impl Chunk {
    fn push(&mut self, planned: Planned) {
        let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        if let Planned::Item(item) = &planned {
            self.bytes += length(item.record.key()) + length(item.record.value());
        }
        self.since.get_or_insert_with(Instant::now);
        self.letters.push(planned);
    }

    fn is_full(&self) -> bool {
        self.letters.len() >= CHUNK_LETTERS || self.bytes >= CHUNK_BYTES
    }

    /// When it is to be written, however few letters there are.
    fn due(&self) -> Instant {
        self.since.unwrap_or_else(Instant::now) + CHUNK_AGE
    }

    async fn write(&mut self, writer: &mut Writer, progress: &Progress) -> Result<(), Failure> {
        let chunk = std::mem::take(self);
        writer.write(&chunk.letters).await?;
        let replayed = writer.tally.replayed;
        progress.show(replayed, format!("{} replayed", letters(replayed)));
        Ok(())
    }
}

/// Decides which letters are replayed, and what is written for them.
struct Planner<'a> {
    cluster: &'a Connected,
    wanted: Wanted,
    route: Route,
    /// The number of partitions of each topic that letters go to, or why nothing can be written there.
    targets: BTreeMap<Arc<str>, Result<i32, String>>,
    /// The next offset to look at in each partition.
    scanned: BTreeMap<i32, i64>,
}

/// What is to become of a letter.
enum Planned {
    Item(Item),
    /// Why it cannot be replayed.
    Failed(SharedRecord, String),
}

impl Planned {
    fn item(&self) -> Option<&Item> {
        match self {
            Self::Item(item) => Some(item),
            Self::Failed(..) => None,
        }
    }
}

impl Planner<'_> {
    /// Reads what was not replayed.
    async fn open(&mut self, topic: &str, positions: &BTreeMap<i32, Replayed>) -> Result<Reader, Failure> {
        let mut spans = spans(self.cluster, topic, &self.wanted).await?;
        for ((_, partition), span) in &mut spans {
            let next = positions.get(partition).map_or(span.start, Replayed::next);
            span.start = span.start.max(next);
            self.scanned.insert(*partition, span.start);
        }
        Reader::open(self.cluster, spans).await
    }

    /// What is to become of a record. None if it is not wanted, or was replayed already.
    async fn plan(
        &mut self,
        record: SharedRecord,
        positions: &BTreeMap<i32, Replayed>,
    ) -> Result<Option<Planned>, Failure> {
        let (partition, offset) = (record.partition(), record.offset());
        let scanned = self.scanned.insert(partition, offset + 1).unwrap_or(offset);
        // Offsets without records, of markers or after compaction, go with the letter after them.
        let replayed = scanned.min(offset)..offset + 1;
        if positions.get(&partition).is_some_and(|position| position.has(offset)) {
            return Ok(None);
        }
        let outgoing = {
            let view = record.view();
            let letter = self.wanted.letter(&view);
            if !self.wanted.wants(&view, letter.as_ref()) {
                return Ok(None);
            }
            match self.route.target(&record, letter.as_ref()) {
                Ok(topic) => match self.partition_count(&topic).await? {
                    Ok(count) => self.route.outgoing(&record, letter.as_ref(), &topic, count),
                    Err(why) => Err(why),
                },
                Err(why) => Err(why),
            }
        };
        Ok(Some(match outgoing {
            Ok(outgoing) => Planned::Item(Item { record, replayed, outgoing }),
            Err(why) => Planned::Failed(record, why),
        }))
    }

    async fn partition_count(&mut self, topic: &Arc<str>) -> Result<Result<i32, String>, Failure> {
        if let Some(known) = self.targets.get(topic) {
            return Ok(known.clone());
        }
        let described = self.cluster.admin().describe_topics([&**topic]).await?.into_iter().next();
        let count = match described {
            Some((_, Ok(topic))) if topic.is_internal => {
                Err(format!("{:?} is an internal topic", topic.name))
            }
            Some((_, Ok(topic))) => Ok(i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX)),
            Some((_, Err(error))) if error.code_name() == Some("UNKNOWN_TOPIC_OR_PARTITION") => {
                Err(format!("topic {topic:?} does not exist"))
            }
            Some((_, Err(error))) => Err(error.to_string()),
            None => Err(format!("topic {topic:?} does not exist")),
        };
        if self.targets.len() < TARGETS_MAX {
            self.targets.insert(Arc::clone(topic), count.clone());
        }
        Ok(count)
    }
}

fn report(args: &Args, tally: &Tally) -> Result<(), Failure> {
    if args.json {
        let Tally { replayed, dropped, failed, written, .. } = tally;
        let counts =
            json!({ "replayed": replayed, "dropped": dropped, "failed": failed, "written": written });
        return write_out(&(counts.to_string() + "\n"));
    }
    let mut parts: Vec<_> =
        tally.written.iter().map(|(topic, count)| format!("{} to {topic}", Count(*count))).collect();
    if tally.dropped > 0 {
        parts.push(format!("{} dropped by --map", Count(tally.dropped)));
    }
    let parts = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
    tell(format_args!("Replayed {} of {}{parts}.", letters(tally.replayed), args.topic));
    Ok(())
}
