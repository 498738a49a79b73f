//! Partitions that stand still: which of them are told, and when. It has no clock: times are arguments.
//!
//! ```text
//!  queues, batches in work ─ Look ─▶ Stalls ─▶ Change ─▶ metrics, log, the program's on_stall
//! ```

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use milena_core::Instant;

/// A partition that has stood still for longer than [`stall_after`](crate::ConsumerSettings::stall_after), or does so no more. It is
/// given to `on_stall` of a consumer's builder ([`ConsumerBuilder::on_stall`](crate::ConsumerBuilder::on_stall),
/// [`GroupConsumerBuilder::on_stall`](crate::GroupConsumerBuilder::on_stall)).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cluster = milena_broker::Broker::builder().start().await?;
/// # cluster.create_topic("orders", 1)?;
/// # let client = milena::Client::connect(cluster.bootstrap()).await?;
/// # client.producer().build().await?.send(milena::Record::to("orders").value("created")).await?;
/// use std::time::Duration;
///
/// use milena::StallCause;
///
/// let (told, mut stalls) = tokio::sync::mpsc::unbounded_channel();
/// let mut consumer = client
///     .consumer_direct()
///     .topic("orders")
///     .settings(|settings| settings.stall_after = Duration::from_millis(50))
///     .on_stall(move |stall| {
///         let _ = told.send(stall.clone());
///     })
///     .build()
///     .await?;
/// let batch = consumer.next().await?;
/// let stall = stalls.recv().await.expect("the batch is in work");
/// assert_eq!((&*stall.topic, stall.partition, stall.offset), ("orders", 0, 0));
/// assert_eq!((stall.cause, stall.has_ended), (StallCause::InWork, false));
/// drop(batch);
/// assert!(stalls.recv().await.expect("it is not in work any more").has_ended);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionStall {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// Why it stood still when the stall began.
    pub cause: StallCause,
    /// Whether this tells that the stall has ended: the application has taken batches and finished them, or the partition is paused or
    /// not assigned any more.
    pub has_ended: bool,
    /// Since when the batch waits or is in work with which the stall began.
    pub since: SystemTime,
    /// How long that was ago.
    pub lasted: Duration,
    /// The first offset of that batch.
    pub offset: i64,
    /// The next offset to read: after the last batch that the application has taken. None if the partition is not assigned any more.
    pub position: Option<i64>,
    /// What was fetched of the partition and not taken, in bytes, still compressed.
    pub buffered_bytes: usize,
    /// As `buffered_bytes`, in records.
    pub buffered_records: usize,
}

/// Why a partition stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StallCause {
    /// A batch was fetched, and the application does not take it.
    NotTaken,
    /// A batch was taken, and the application neither marks it as done nor drops it.
    InWork,
}

impl fmt::Display for PartitionStall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, partition, offset, buffered_records, buffered_bytes, .. } = self;
        let (lasted, begin) =
            (self.lasted.as_secs_f64(), format!("partition {partition} of topic {topic:?}"));
        match (self.has_ended, self.cause) {
            (true, _) => write!(f, "{begin} goes on after {lasted:.1} s")?,
            (false, StallCause::NotTaken) => write!(
                f,
                "{begin} is stalled: a fetched batch of it, from offset {offset} on, has waited for {lasted:.1} s, and the \
                 application takes none"
            )?,
            (false, StallCause::InWork) => write!(
                f,
                "{begin} is stalled: the application has worked for {lasted:.1} s on the batch from offset {offset} on"
            )?,
        }
        write!(f, " ({buffered_records} records and {buffered_bytes} bytes are buffered)")
    }
}

/// The program's callback.
#[derive(Clone)]
pub(super) struct OnStall(Arc<dyn Fn(&PartitionStall) + Send + Sync>);

impl OnStall {
    pub(super) fn new(tell: impl Fn(&PartitionStall) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// Calls it. It is the program's, so a panic in it must not end the driver.
    pub(super) fn tell(&self, stall: &PartitionStall) {
        if catch_unwind(AssertUnwindSafe(|| (self.0)(stall))).is_err() {
            tracing::error!(target: "milena", "on_stall of the program panicked");
        }
    }
}

impl fmt::Debug for OnStall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnStall")
    }
}

/// How often partitions are looked at that may stand still: six times within the limit, but not more often than this.
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(20);
/// As [`LOOK_INTERVAL_MIN`]: not less often than this. A look takes some nanoseconds for each partition.
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(10);

/// A batch that waits or is in work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Since {
    pub(super) at: Instant,
    /// Its first offset.
    pub(super) offset: i64,
}

/// How a partition stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    /// The batch that waits for a reader, if there is one and the partition is not paused.
    pub(super) waiting: Option<Since>,
    /// The oldest batch that the application works on.
    pub(super) in_work: Option<Since>,
}

/// A stall that begins or ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) stall: Stall,
    pub(super) has_ended: bool,
}

/// Why and since when a partition stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stall {
    cause: StallCause,
    since: Since,
    /// The same in the time of day, which may be set anew later.
    since_unix: Duration,
}

type Key = (Arc<str>, i32);

/// The partitions that stood still when they were looked at last.
#[derive(Debug)]
pub(super) struct Stalls {
    after: Duration,
    next_at: Instant,
    /// Those that count in metrics: with a batch that is not taken, whatever the application works on.
    waiting: BTreeSet<Key>,
    /// Those that were told. A stall keeps the cause with which it began.
    told: BTreeMap<Key, Stall>,
}

impl Look {
    pub(super) fn is_waiting(&self, after: Duration, now: Instant) -> bool {
        self.waiting.is_some_and(|since| now - since.at > after)
    }

    /// Why the partition stands still, if it does. A batch in work is the cause of the one after it that waits.
    fn stall(&self, after: Duration, now: Instant) -> Option<(StallCause, Since)> {
        let is_over = |since: &Since| now - since.at > after;
        let in_work = self.in_work.filter(is_over).map(|since| (StallCause::InWork, since));
        in_work.or_else(|| self.waiting.filter(is_over).map(|since| (StallCause::NotTaken, since)))
    }

    fn key(&self) -> Key {
        (Arc::clone(&self.topic), self.partition)
    }
}

impl Stalls {
    /// Partitions stand still that do so for longer than `after`.
    pub(super) fn new(after: Duration, now: Instant) -> Self {
        let next_at = now + interval(after);
        Self { after, next_at, waiting: BTreeSet::new(), told: BTreeMap::new() }
    }

    /// When to [look](Self::look) again.
    pub(super) fn poll_timeout(&self) -> Instant {
        self.next_at
    }

    /// Takes in how all partitions stand, at `now` and in the time of day. Answers with the topics of those whose batch is not taken
    /// since the last call, for metrics, and with the stalls that begin or end.
    pub(super) fn look(
        &mut self,
        all: &[Look],
        now: Instant,
        unix: Duration,
    ) -> (Vec<Arc<str>>, Vec<Change>) {
        self.next_at = now + interval(self.after);
        let waiting: BTreeSet<_> =
            all.iter().filter(|look| look.is_waiting(self.after, now)).map(Look::key).collect();
        let begun = waiting.difference(&self.waiting).map(|(topic, _)| Arc::clone(topic)).collect();
        self.waiting = waiting;

        let stalled: BTreeMap<_, _> =
            all.iter().filter_map(|look| Some((look.key(), look.stall(self.after, now)?))).collect();
        let mut changes = Vec::new();
        self.told.retain(|key, told| {
            let goes_on = stalled.contains_key(key);
            if !goes_on {
                changes.push(change(key, *told, true));
            }
            goes_on
        });
        for (key, (cause, since)) in stalled {
            if let Entry::Vacant(place) = self.told.entry(key) {
                let stall = Stall { cause, since, since_unix: unix.saturating_sub(now - since.at) };
                changes.push(change(place.key(), stall, false));
                place.insert(stall);
            }
        }
        (begun, changes)
    }

    /// Nothing is read any more. Answers with the stalls that end.
    pub(super) fn end(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.told).iter().map(|(key, told)| change(key, *told, true)).collect()
    }
}

impl Change {
    /// The event, without what the partition's queue knows.
    pub(super) fn without_place(self, now: Instant) -> PartitionStall {
        let Self { topic, partition, stall: Stall { cause, since, since_unix }, has_ended } = self;
        PartitionStall {
            topic,
            partition,
            cause,
            has_ended,
            since: SystemTime::UNIX_EPOCH + since_unix,
            lasted: now - since.at,
            offset: since.offset,
            position: None,
            buffered_bytes: 0,
            buffered_records: 0,
        }
    }
}

fn change((topic, partition): &Key, stall: Stall, has_ended: bool) -> Change {
    Change { topic: Arc::clone(topic), partition: *partition, stall, has_ended }
}

fn interval(after: Duration) -> Duration {
    (after / 6).clamp(LOOK_INTERVAL_MIN, LOOK_INTERVAL_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Instant {
        Instant::ORIGIN + Duration::from_secs(seconds)
    }

    fn since(seconds: u64) -> Since {
        Since { at: at(seconds), offset: i64::try_from(seconds).expect("small") }
    }

    fn look(partition: i32, waiting: Option<u64>, in_work: Option<u64>) -> Look {
        let (waiting, in_work) = (waiting.map(since), in_work.map(since));
        Look { topic: "orders".into(), partition, waiting, in_work }
    }

    /// What is told at `now`, as text: `+` begins, `-` ends.
    fn told(stalls: &mut Stalls, now: u64, looks: &[Look]) -> String {
        let (_, changes) = stalls.look(looks, at(now), Duration::from_secs(1000 + now));
        let one =
            |Change { partition, stall: Stall { cause, since, since_unix }, has_ended, .. }: &Change| {
                assert_eq!(*since_unix, Duration::from_secs(1000) + (since.at - Instant::ORIGIN));
                let sign = if *has_ended { '-' } else { '+' };
                format!("{sign}{partition} {cause:?} {}", since.offset)
            };
        changes.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn a_stall_is_told_once_when_it_begins_and_once_when_it_ends() {
        let mut stalls = Stalls::new(LIMIT, at(0));
        let mut told =
            |now, first, second| told(&mut stalls, now, &[look(0, first, None), look(1, second, None)]);
        assert_eq!(told(60, Some(0), Some(30)), "");
        assert_eq!(told(61, Some(0), Some(30)), "+0 NotTaken 0");
        assert_eq!(told(95, Some(0), Some(30)), "+1 NotTaken 30", "the first one is known");
        assert_eq!(told(96, Some(95), None), "-0 NotTaken 0, -1 NotTaken 30");
        assert_eq!(told(200, Some(95), None), "+0 NotTaken 95", "it was taken from in between");
    }

    #[test]
    fn a_batch_in_work_is_the_cause_of_the_one_that_waits_after_it() {
        let mut stalls = Stalls::new(LIMIT, at(0));
        let mut told = |now, waiting, in_work| told(&mut stalls, now, &[look(0, waiting, in_work)]);
        assert_eq!(told(70, Some(5), Some(1)), "+0 InWork 1");
        assert_eq!(told(80, Some(5), None), "", "the next batch still waits: the stall goes on");
        assert_eq!(told(90, Some(85), Some(84)), "-0 InWork 1");
        assert_eq!(told(146, None, Some(84)), "+0 InWork 84", "without a batch that waits, too");
    }

    #[test]
    fn partitions_that_go_and_consumers_that_end_have_no_stalls() {
        let mut stalls = Stalls::new(LIMIT, at(0));
        assert_eq!(
            told(&mut stalls, 70, &[look(0, Some(0), None), look(1, None, Some(0))]).matches('+').count(),
            2
        );
        assert_eq!(told(&mut stalls, 71, &[look(1, None, Some(0))]), "-0 NotTaken 0", "it was given up");
        assert_eq!(stalls.end().len(), 1);
        assert!(stalls.end().is_empty());
    }

    #[test]
    fn metrics_count_batches_that_are_not_taken_whatever_is_in_work() {
        let mut stalls = Stalls::new(LIMIT, at(0));
        let mut begun =
            |now, waiting| stalls.look(&[look(0, waiting, Some(0))], at(now), Duration::ZERO).0.len();
        assert_eq!([begun(61, None), begun(70, Some(2)), begun(80, Some(2))], [0, 1, 0]);
    }

    #[test]
    fn looks_are_as_frequent_as_the_limit_needs() {
        for (limit, next) in [(60_000, 10_000), (6_000, 1_000), (0, 20), (36_000_000, 10_000)] {
            let next = Instant::ORIGIN + Duration::from_millis(next);
            assert_eq!(Stalls::new(Duration::from_millis(limit), Instant::ORIGIN).poll_timeout(), next);
        }
    }
}
