//! Retry topics: records whose attempts in place are used up wait in topics of their own, one for each delay.
//!
//! ```text
//!  orders ─▶ fails ─▶ orders.billing.retry.1s ─▶ fails ─▶ orders.billing.retry.30s ─▶ fails ─▶ the dead letters
//! ```
//!
//! A topic has one delay, so that its records are due in the order in which they were written, and a long delay is waited for by
//! no record with a short one.

mod headers;
mod open;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use milena::{ConsumerHandle, GroupConsumerBuilder, Position, Producer, Record, SharedRecord};
use rustc_hash::{FxHashMap, FxHashSet};

use self::headers::Leaving;
pub use self::headers::Origin;
pub(crate) use self::headers::{PREFIX, Returned};
use crate::Failure;
use crate::control::TierCounts;
use crate::exactly_once::Output;

/// Topics in which records wait for later attempts, after those [in place](crate::Retry) are used up.
///
/// ```
/// use milena_pipeline::RetryTopics;
/// use milena_pipeline::prelude::*;
///
/// // After the attempts in place: once more after 1 second, then after 30 seconds, and at last after 10 minutes.
/// let topics = RetryTopics::tiers([1.s(), 30.s(), 10.minutes()]).create(true);
/// # let _ = topics;
/// ```
///
/// # The topics
///
/// Each topic that the consumer subscribes to by name has a retry topic for each delay, called `<topic>.<group>.retry.<delay>`, for
/// example `orders.billing.retry.30s`. The group's name is a part of it because retries of one group are not another group's. Each
/// has the partition count of its source, and the pipeline's consumer reads them beside the sources: any member of the group may
/// have the retries of a record that another member has failed at. Records of topics that the consumer knows by a pattern only
/// are put aside as without retry topics.
///
/// Before a tier is taken out of the settings, its topic should be empty: nobody reads it afterwards.
///
/// # The records
///
/// Key, value, headers and the partition's number stay. Less than 4 KiB of headers are added, all called `milena.retry.*`: when the
/// record is due, where it came from, how often it was tried, when first, the first error and the last one. The next tier replaces
/// them, and the dead letter has its own headers instead, with the origin of the record. [`Record::attempt`](crate::Record::attempt)
/// counts on over all tiers, and [`Record::origin`](crate::Record::origin) says where the record came from.
///
/// A record is written to its tier before it counts as finished in the topic that it leaves. A crash in between leaves two copies,
/// and the record is processed again; none is lost. [`Pipeline::run_to`](crate::Pipeline::run_to) does both in one transaction.
///
/// # Times
///
/// A record is never tried before it is due by the clock of the member that tries it, while the due time is by the clock of the
/// member that wrote it: if the reader's clock is ahead of the writer's, the record is early by the difference. If it is behind, or
/// the header names a far time, the record still waits no longer than the tier's delay after it was read.
///
/// Records that wait take no more memory than [`partition_bytes_max`](crate::Pipeline::partition_bytes_max) for each partition; the
/// others stay in the topic.
///
/// # The order
///
/// Once a record has gone to a retry topic, later records of its key are processed before it. Where the order of a key matters more
/// than its delay, attempts in place keep it: they hold up only their key (see [`Order::Key`](crate::Order::Key)), and a
/// [`Retry`](crate::Retry) with long delays does what tiers do. Later records of the key cannot be held back here, because the
/// retries of a key may be at another member of the group than its new records are.
#[derive(Debug, Clone)]
#[must_use = "they do nothing until they are given to a pipeline"]
pub struct RetryTopics {
    delays: Vec<Duration>,
    creates: bool,
    name: Option<String>,
    attempts: u32,
}

impl RetryTopics {
    /// A topic for each of these delays, in the order in which a record goes through them. Delays are whole milliseconds, from 1 ms
    /// on, and no two are the same; there are 16 at most.
    pub fn tiers(delays: impl IntoIterator<Item = Duration>) -> Self {
        Self { delays: delays.into_iter().collect(), creates: false, name: None, attempts: 1 }
    }

    /// Sets whether topics that do not exist are created, with the partition count of their source, room for the added headers in
    /// `max.message.bytes`, no compaction, and a `retention.ms` that is the source's or 7 days, whichever is longer, and the delay.
    /// Default: false, and then the pipeline does not start without them.
    pub fn create(mut self, creates: bool) -> Self {
        self.creates = creates;
        self
    }

    /// Sets what stands in the topics' names instead of the group. Default: the group. It is for groups whose names have other
    /// characters than topics may have (`a-z`, `A-Z`, `0-9`, `.`, `_` and `-`). If several groups have the same name here, each
    /// passes over the records of the others.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets how often a record is tried in each tier, with the delays of the pipeline's [`Retry`](crate::Retry) in between, whose
    /// own number of attempts is not exceeded. Default 1; 0 counts as 1.
    pub fn attempts(mut self, count: u32) -> Self {
        self.attempts = count.max(1);
        self
    }
}

/// The retry topics of a pipeline that runs.
#[derive(Debug)]
pub(crate) struct Retries {
    group: Arc<str>,
    /// By tier.
    counts: Vec<Arc<TierCounts>>,
    sources: FxHashMap<Arc<str>, Source>,
    /// By the topic's name.
    tiers: FxHashMap<String, Arc<Tier>>,
    producer: Producer,
}

/// A topic that is not a retry topic, and those that its records go through.
#[derive(Debug)]
struct Source {
    partition_count: i32,
    topics: Vec<String>,
}

/// A retry topic.
#[derive(Debug)]
pub(crate) struct Tier {
    source: Arc<str>,
    group: Arc<str>,
    /// The first one is 0.
    pub(crate) index: usize,
    pub(crate) counts: Arc<TierCounts>,
    /// How often a record is tried here.
    pub(crate) attempts: u32,
}

impl Tier {
    /// How long a record has to wait from now on, with its due time and the time now in milliseconds since the epoch. None if it is
    /// another group's.
    pub(crate) fn wait(&self, returned: &Returned<'_>, now_ms: i64) -> Option<Duration> {
        if returned.is_of_another(&self.group) {
            return None;
        }
        let wait_ms = returned.due_ms.map_or(0, |due_ms| due_ms.saturating_sub(now_ms).max(0));
        // It was written before now, so that after the whole delay it is due by any clock. A header may name any time.
        Some(Duration::from_millis(wait_ms.unsigned_abs()).min(self.counts.delay))
    }
}

/// A record that leaves the topic where it was tried.
pub(crate) struct Leaver<'a> {
    pub(crate) record: &'a SharedRecord,
    pub(crate) failure: &'a Failure,
    pub(crate) attempts: u32,
    pub(crate) first_ms: i64,
}

/// The tier that a record goes to next.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step<'a> {
    pub(crate) index: usize,
    pub(crate) topic: &'a str,
    partition_count: i32,
}

impl Retries {
    /// The consumer, which reads the retry topics too, each from its first record on.
    pub(crate) fn subscribe(&self, consumer: GroupConsumerBuilder) -> GroupConsumerBuilder {
        let topics: Arc<FxHashSet<String>> = Arc::new(self.tiers.keys().cloned().collect());
        let consumer = consumer.subscribe(topics.iter());
        // A reset policy that is right for the sources, such as the latest offset, would pass over records that were written to a
        // retry topic before the group has committed anything of it.
        consumer.on_assigned(move |assigned, consumer| {
            let topics = Arc::clone(&topics);
            async move {
                let of_tiers: Vec<_> = assigned.into_iter().filter(|(topic, _)| topics.contains(topic)).collect();
                if let Err(error) = begin(of_tiers, &consumer).await {
                    tracing::warn!(
                        target: "milena",
                        "retry topics of which the group has committed nothing may be read from where the reset policy says: {error}"
                    );
                }
            }
        })
    }

    /// What is counted of each tier.
    pub(crate) fn counts(&self) -> &[Arc<TierCounts>] {
        &self.counts
    }

    /// The tier whose topic this is.
    pub(crate) fn tier(&self, topic: &str) -> Option<Arc<Tier>> {
        self.tiers.get(topic).cloned()
    }

    /// Where a record of `topic`, which is `tier`'s if that is some, is tried next. None after the last tier, and for a topic that
    /// has none.
    pub(crate) fn next(&self, topic: &str, tier: Option<&Tier>) -> Option<Step<'_>> {
        let source = self.sources.get(tier.map_or(topic, |tier| &tier.source))?;
        let index = tier.map_or(0, |tier| tier.index + 1);
        let topic = source.topics.get(index)?;
        Some(Step { index, topic, partition_count: source.partition_count })
    }

    /// Writes what is not written in a transaction.
    pub(crate) fn producer(&self) -> &Producer {
        &self.producer
    }

    /// The record for its next tier. It is due when the delay has passed from now on.
    pub(crate) fn output(&self, of: &Leaver<'_>, step: Step<'_>) -> Output {
        let (added, leaving) = self.leaving(of, step);
        let headers = leaving.headers(&added);
        let view = &leaving.view;
        // It has no timestamp of its own: `retention.ms` counts from when it came to its tier.
        let mut record =
            Record::to(step.topic).key_or_null(view.key()).value_or_null(view.value()).headers(&headers);
        // The source may have got partitions that its retry topics do not have.
        if view.partition() < step.partition_count {
            record = record.partition(view.partition());
        }
        Output::copy_of(&record)
    }

    fn leaving<'a>(&'a self, of: &Leaver<'a>, step: Step<'_>) -> (Vec<(&'static str, String)>, Leaving<'a>) {
        let view = of.record.view();
        let is_tier = self.tiers.contains_key(view.topic());
        let returned = if is_tier { Returned::read(view.headers()) } else { Returned::default() };
        // A millisecond more, because the rest of the last one would make it early.
        let due = unix_now().saturating_add(self.counts[step.index].delay);
        let leaving = Leaving {
            origin: returned.origin.unwrap_or_else(|| Origin::of(&view)),
            view,
            failure: of.failure,
            first_reason: returned.first_reason,
            group: &self.group,
            attempts: of.attempts,
            first_ms: of.first_ms,
            due_ms: millis(due).saturating_add(1),
            tier: step.index + 1,
        };
        (leaving.added(), leaving)
    }
}

/// Those of the partitions that the group has committed nothing of are read from their first record on.
async fn begin(partitions: Vec<(String, i32)>, consumer: &ConsumerHandle) -> Result<(), milena::Error> {
    if partitions.is_empty() {
        return Ok(());
    }
    for ((topic, partition), committed) in consumer.committed(partitions).await? {
        if committed.is_none() {
            consumer.seek(&topic, partition, Position::Earliest)?;
        }
    }
    Ok(())
}

/// The time of the system's clock, which other members compare with theirs.
pub(crate) fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Whole milliseconds of it.
pub(crate) fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
