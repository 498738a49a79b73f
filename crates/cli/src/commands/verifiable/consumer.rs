//! `milena verifiable-consumer`.
//!
//! ```text
//!  member's hooks ── Change ─▶ the one task that writes ◀── batches
//!         ◀── written ────────┘
//! ```
//!
//! One task writes all events, because their order says something: what was consumed of a partition comes before its
//! revocation, and nothing of it after. A hook waits until its event is written, and the member waits for its hooks.

use std::collections::BTreeMap;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use milena::assignors::{self, Assignor};
use milena::{Batch, Client, Consumer, ConsumerHandle, Protocol, Reset};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::{Connection, Nothing, tell_event};
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::output::tell;

/// Read a topic as a member of a group, and tell each event as a JSON line: for Kafka's system tests, in place of Java's
/// VerifiableConsumer.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The topic
    #[arg(long)]
    topic: String,

    /// The group
    #[arg(long, value_name = "GROUP")]
    group_id: String,

    /// The name of a static member
    #[arg(long, value_name = "ID")]
    group_instance_id: Option<String>,

    /// How the group assigns partitions; consumer is that of KIP-848
    #[arg(long, value_name = "PROTOCOL", default_value = "classic", ignore_case = true)]
    group_protocol: GroupProtocol,

    /// The coordinator's assignor, with --group-protocol consumer
    #[arg(long, value_name = "NAME")]
    group_remote_assignor: Option<String>,

    /// Java's classes of assignors, best first, with --group-protocol classic
    #[arg(
        long,
        value_name = "CLASS",
        value_delimiter = ',',
        default_value = "org.apache.kafka.clients.consumer.RangeAssignor"
    )]
    assignment_strategy: Vec<Strategy>,

    /// Milliseconds, with --group-protocol classic
    #[arg(long, value_name = "MS", default_value_t = 30_000)]
    session_timeout: u32,

    /// Commit in the background, and tell nothing of it
    #[arg(long)]
    enable_autocommit: bool,

    /// Where to start without a committed offset: earliest, latest, none or by_duration:PT1H
    #[arg(long, value_name = "POLICY", default_value = "earliest", value_parser = reset_policy)]
    reset_policy: Reset,

    /// Stop after N records; -1 reads on until it is stopped
    #[arg(long, value_name = "N", default_value_t = -1, allow_negative_numbers = true)]
    max_messages: i64,

    /// Tell each record
    #[arg(long)]
    verbose: bool,

    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum GroupProtocol {
    Classic,
    Consumer,
}

/// An assignor that Java's client has.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Strategy {
    #[value(name = "org.apache.kafka.clients.consumer.RangeAssignor")]
    Range,
    #[value(name = "org.apache.kafka.clients.consumer.RoundRobinAssignor")]
    RoundRobin,
    #[value(name = "org.apache.kafka.clients.consumer.StickyAssignor")]
    Sticky,
    #[value(name = "org.apache.kafka.clients.consumer.CooperativeStickyAssignor")]
    CooperativeSticky,
}

impl Strategy {
    fn assignor(&self) -> Arc<dyn Assignor> {
        match self {
            Self::Range => Arc::new(assignors::Range),
            Self::RoundRobin => Arc::new(assignors::RoundRobin),
            Self::Sticky => Arc::new(assignors::Sticky),
            Self::CooperativeSticky => Arc::new(assignors::CooperativeSticky),
        }
    }
}

fn reset_policy(text: &str) -> Result<Reset, String> {
    let duration =
        |text: &str| SignedDuration::from_str(text).ok().and_then(|ago| Duration::try_from(ago).ok());
    match (text, text.strip_prefix("by_duration:").and_then(duration)) {
        ("earliest", _) => Ok(Reset::Earliest),
        ("latest", _) => Ok(Reset::Latest),
        ("none", _) => Ok(Reset::Fail),
        (_, Some(ago)) => Ok(Reset::ByDuration(ago)),
        _ => Err("write earliest, latest, none or by_duration:PT1H".into()),
    }
}

/// Partitions were assigned or revoked.
struct Change {
    event: &'static str,
    partitions: Vec<(String, i32)>,
    written: oneshot::Sender<()>,
}

#[derive(Serialize)]
struct Partition<'a> {
    topic: &'a str,
    partition: i32,
}

#[derive(Serialize)]
struct Partitions<'a> {
    partitions: Vec<Partition<'a>>,
}

#[derive(Serialize)]
struct RecordsConsumed<'a> {
    count: u64,
    partitions: Vec<Consumed<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Consumed<'a> {
    topic: &'a str,
    partition: i32,
    count: u64,
    min_offset: i64,
    max_offset: i64,
}

#[derive(Serialize)]
struct RecordData<'a> {
    key: Option<std::borrow::Cow<'a, str>>,
    value: Option<std::borrow::Cow<'a, str>>,
    topic: &'a str,
    partition: i32,
    offset: i64,
}

#[derive(Serialize)]
struct OffsetsCommitted<'a> {
    offsets: Vec<Committed<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    success: bool,
}

#[derive(Serialize)]
struct Committed<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
}

/// How many records one event may be about, as Java's `max.poll.records` says.
const RECORDS_AT_ONCE: u64 = 500;

/// Runs the command.
pub(crate) async fn run(args: &Args, interrupt: &Interrupt) -> Result<(), Failure> {
    let client = interrupt.or(args.connection.connect(&[])).await?;
    tell_event("startup_complete", Nothing {})?;
    let (changed, mut changes) = mpsc::channel(1);
    let mut consumer = interrupt.or(args.join(&client, &changed)).await?;
    let ended = args.read(&mut consumer, &mut changes, interrupt).await;
    let closing = consumer.close();
    tokio::pin!(closing);
    let closed = loop {
        tokio::select! {
            biased;
            Some(change) = changes.recv() => change.tell()?,
            closed = &mut closing => break closed,
        }
    };
    tell_event("shutdown_complete", Nothing {})?;
    // As with Java's tool, what went wrong while it closed is for the log.
    if let Err(error) = closed {
        tell(error);
    }
    ended
}

impl Args {
    async fn join(&self, client: &Client, changed: &mpsc::Sender<Change>) -> Result<Consumer, Failure> {
        let hook = |event: &'static str| {
            let changed = changed.clone();
            move |partitions: Vec<(String, i32)>, _handle: ConsumerHandle| {
                let (written, is_written) = oneshot::channel();
                let (changed, change) = (changed.clone(), Change { event, partitions, written });
                async move {
                    // Without the other task the command is over.
                    if changed.send(change).await.is_ok() {
                        drop(is_written.await);
                    }
                }
            }
        };
        let consumer = client
            .consumer(self.group_id.as_str())
            .subscribe([&self.topic])
            .on_assigned(hook("partitions_assigned"))
            .on_revoked(hook("partitions_revoked"))
            // As Java's ConsumerRebalanceListener tells a loss unless it is asked to tell it apart.
            .on_lost(hook("partitions_revoked"))
            .reset(self.reset_policy);
        let consumer = if self.enable_autocommit { consumer } else { consumer.manual_commits() };
        let consumer =
            self.group_instance_id.iter().fold(consumer, |consumer, id| consumer.instance_id(id.as_str()));
        let consumer = match self.group_protocol {
            GroupProtocol::Classic => consumer
                .protocol(Protocol::Classic)
                .assignors(self.assignment_strategy.iter().map(Strategy::assignor))
                .session_timeout(Duration::from_millis(self.session_timeout.into())),
            GroupProtocol::Consumer => {
                let consumer = consumer.protocol(Protocol::Consumer);
                let assignor = self.group_remote_assignor.iter();
                assignor.fold(consumer, |consumer, name| consumer.server_assignor(name.as_str()))
            }
        };
        Ok(consumer.build().await?)
    }

    /// Reads until there were enough records, or the command is asked to stop.
    async fn read(
        &self,
        consumer: &mut Consumer,
        changes: &mut mpsc::Receiver<Change>,
        interrupt: &Interrupt,
    ) -> Result<(), Failure> {
        let mut left = u64::try_from(self.max_messages).unwrap_or(u64::MAX);
        while left > 0 {
            let batch = tokio::select! {
                biased;
                Some(change) = changes.recv() => {
                    change.tell()?;
                    continue;
                }
                () = interrupt.asked() => return tell_event("shutdown_requested", Nothing {}),
                batch = consumer.next() => batch?,
            };
            let Some(batch) = batch else { return Ok(()) };
            let mut round = Round::default();
            round.take(batch, &mut left, self.verbose)?;
            while left > 0 && round.count < RECORDS_AT_ONCE {
                let Some(batch) = consumer.try_next()? else { break };
                round.take(batch, &mut left, self.verbose)?;
            }
            // The round's batches are in our hands until the end of this turn, and the member gives none of their partitions up
            // before: the commit is told before the revocation.
            round.tell()?;
            if self.enable_autocommit {
                round.done(consumer);
            } else {
                round.commit(consumer).await?;
            }
        }
        Ok(())
    }
}

impl Change {
    fn tell(self) -> Result<(), Failure> {
        let partitions =
            self.partitions.iter().map(|(topic, at)| Partition { topic, partition: *at }).collect();
        tell_event(self.event, Partitions { partitions })?;
        // The hook may be gone, if its time is over.
        let _ = self.written.send(());
        Ok(())
    }
}

/// What one event tells of.
#[derive(Default)]
struct Round {
    batches: Vec<(Batch, Portion)>,
    count: u64,
}

/// The records of a batch that are consumed.
struct Portion {
    count: u64,
    first: i64,
    last: i64,
}

impl Round {
    /// Takes as many records of the batch as are `left`.
    fn take(&mut self, batch: Batch, left: &mut u64, is_verbose: bool) -> Result<(), Failure> {
        let mut portion: Option<Portion> = None;
        for record in batch.try_iter() {
            let record = record?;
            if *left == 0 {
                break;
            }
            *left -= 1;
            self.count += 1;
            let offset = record.offset();
            let portion = portion.get_or_insert(Portion { count: 0, first: offset, last: offset });
            (portion.count, portion.last) = (portion.count + 1, offset);
            if is_verbose {
                let data = RecordData {
                    key: record.key().map(String::from_utf8_lossy),
                    value: record.value().map(String::from_utf8_lossy),
                    topic: batch.topic(),
                    partition: batch.partition(),
                    offset,
                };
                tell_event("record_data", data)?;
            }
        }
        self.batches.extend(portion.map(|portion| (batch, portion)));
        Ok(())
    }

    fn tell(&self) -> Result<(), Failure> {
        let mut partitions = BTreeMap::new();
        for (batch, of) in &self.batches {
            let (topic, partition) = (batch.topic(), batch.partition());
            let (min_offset, max_offset) = (of.first, of.last);
            let consumed = partitions.entry((topic, partition));
            let consumed =
                consumed.or_insert(Consumed { topic, partition, count: 0, min_offset, max_offset });
            (consumed.count, consumed.max_offset) = (consumed.count + of.count, max_offset);
        }
        let partitions = partitions.into_values().collect();
        tell_event("records_consumed", RecordsConsumed { count: self.count, partitions })
    }

    fn done(&self, consumer: &Consumer) {
        for (batch, of) in &self.batches {
            let last = batch.try_iter().map_while(Result::ok).find(|record| record.offset() == of.last);
            last.iter().for_each(|record| consumer.done_up_to(record));
        }
    }

    async fn commit(&self, consumer: &Consumer) -> Result<(), Failure> {
        let next =
            |(batch, of): &'_ (Batch, Portion)| ((batch.topic().to_owned(), batch.partition()), of.last + 1);
        let offsets: BTreeMap<(String, i32), i64> = self.batches.iter().map(next).collect();
        let committed = consumer.commit_offsets(offsets.clone()).await;
        // Java's tool ends without a word when another instance has its name.
        if let Err(error) = &committed
            && error.is_fatal()
        {
            return Err(error.clone().into());
        }
        let of =
            offsets.iter().map(|((topic, at), offset)| Committed { topic, partition: *at, offset: *offset });
        let error = committed.as_ref().err().map(ToString::to_string);
        tell_event(
            "offsets_committed",
            OffsetsCommitted { offsets: of.collect(), error, success: committed.is_ok() },
        )
    }
}
