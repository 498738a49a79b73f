//! Retry topics: records whose attempts in place are used up wait in topics of their own, one for each delay.
//!
//! ```text
//!  orders ─▶ fails ─▶ orders.billing.retry.1s ─▶ fails ─▶ orders.billing.retry.30s ─▶ fails ─▶ the dead letters
//! ```
//!
//! A topic has one delay, so that its records are due in the order in which they were written, and a long delay is waited for by
//! no record with a short one.

mod headers;
mod keeper;
mod open;
mod pending;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use milena::{ConsumerHandle, GroupConsumerBuilder, Position, Producer, Record, SharedRecord};
use rustc_hash::{FxHashMap, FxHashSet};

use self::headers::Leaving;
pub use self::headers::Origin;
pub(crate) use self::headers::{PREFIX, Returned};
pub(crate) use self::keeper::{Behind, Keeper};
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
/// Once a record has gone to a retry topic, later records of its key are processed before it, unless the order is
/// [kept](Self::keep_order). Attempts in place keep it in any case: they hold up only their key (see
/// [`Order::Key`](crate::Order::Key)).
///
/// With [`keep_order`](Self::keep_order), later records of the key go to the retry topic too, without being tried, and wait there for
/// the one before them. No record of a key is tried before all earlier ones of its partition are processed or given up. Members of
/// the group learn which keys wait from Kafka alone, so that this also holds after a crash, and while the group rebalances. There
/// are three limits:
///
/// - What runs again after a crash, or at a member that has lost its partition without noticing, was tried in order before, and may
///   run again after later records.
/// - A key waits until the group has committed its last record in the retry topics, and this was noticed: 200 ms and the consumer's
///   [commit interval](milena::GroupConsumerBuilder::commit_interval) longer than needed. A key with more records than that has
///   them go through the retry topic, without delay, until there is a pause.
/// - A record that has waited for another one is tried there first, as often as in its own topic, and has only the tiers that are
///   left.
///
/// A partition that is assigned is processed when it is known what waits: what the group has not finished of its retry topics is read
/// for that, but for the keys it is not kept.
#[derive(Debug, Clone)]
#[must_use = "they do nothing until they are given to a pipeline"]
pub struct RetryTopics {
    delays: Vec<Duration>,
    creates: bool,
    name: Option<String>,
    attempts: u32,
    keeps_order: bool,
}

impl RetryTopics {
    /// A topic for each of these delays, in the order in which a record goes through them. Delays are whole milliseconds, from 1 ms
    /// on, and no two are the same; there are 16 at most.
    pub fn tiers(delays: impl IntoIterator<Item = Duration>) -> Self {
        Self {
            delays: delays.into_iter().collect(),
            creates: false,
            name: None,
            attempts: 1,
            keeps_order: false,
        }
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

    /// Sets whether later records of a key wait while one of its records is in a retry topic; see [the order](Self#the-order). Default:
    /// false, and then they are processed before it. Without effect on records without a key. With
    /// [`Order::Partition`](crate::Order::Partition) all later records of the partition wait; with [`Order::None`](crate::Order::None) the
    /// pipeline does not start.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().group_initial_rebalance_delay(std::time::Duration::ZERO).start().await?;
    /// # cluster.create_topic("orders", 2)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// # let producer = client.producer().build().await?;
    /// # for value in ["created", "paid"] {
    /// #     producer.send(milena::Record::to("orders").key("42").value(value)).await?;
    /// # }
    /// # let (finished, shutdown) = tokio::sync::oneshot::channel::<()>();
    /// # let finished = std::sync::Arc::new(std::sync::Mutex::new(Some(finished)));
    /// # let shutdown = async move { let _ = shutdown.await; };
    /// use milena_pipeline::RetryTopics;
    /// use milena_pipeline::prelude::*;
    ///
    /// // Of the key 42 there are two records: "created" and "paid".
    /// let report = Pipeline::new(client.consumer("billing").subscribe(["orders"]))
    ///     .retry(Retry::never())
    ///     .retry_topics(RetryTopics::tiers([5.ms()]).create(true).keep_order(true))
    ///     .run(
    ///         move |Value(value): Value<String>, Attempt(attempt): Attempt| {
    ///             # let finished = finished.clone();
    ///             async move {
    ///                 if value == "created" && attempt == 1 {
    ///                     return Err(Failure::retriable("the bank is closed"));
    ///                 }
    ///                 println!("{value}"); // first "created", then "paid"
    ///                 # if value == "paid" { finished.lock().unwrap().take().map(|finished| finished.send(())); }
    ///                 Ok(())
    ///             }
    ///         },
    ///         shutdown,
    ///     )
    ///     .await?;
    /// assert_eq!((report.finished, report.moved), (2, 2));
    /// # Ok(())
    /// # }
    /// ```
    pub fn keep_order(mut self, keeps: bool) -> Self {
        self.keeps_order = keeps;
        self
    }

    /// Whether keys keep their order.
    pub(crate) fn keeps_order(&self) -> bool {
        self.keeps_order
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

impl Source {
    /// The partition of its retry topics for the records of one of its own.
    fn partition(&self, of_source: i32) -> i32 {
        partition_of(of_source, self.partition_count)
    }
}

/// The same, unless the source has got partitions that its retry topics do not have.
fn partition_of(of_source: i32, count: i32) -> i32 {
    of_source % count.max(1)
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
    pub(crate) why: Why<'a>,
    pub(crate) attempts: u32,
    pub(crate) first_ms: Option<i64>,
}

/// Why a record goes to a retry topic.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Why<'a> {
    /// It was tried.
    Failed(&'a Failure),
    /// An earlier record of its key waits there, or in a later one, and is due then, in milliseconds since the epoch.
    Follows(i64),
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
        record = record.partition(partition_of(view.partition(), step.partition_count));
        Output::copy_of(&record)
    }

    /// When a record is due that is written to this tier now, in milliseconds since the epoch.
    pub(crate) fn due_ms(&self, step: Step<'_>) -> i64 {
        let due = unix_now().saturating_add(self.counts[step.index].delay);
        // A millisecond more, because the rest of the last one would make it early.
        millis(due).saturating_add(1)
    }

    fn leaving<'a>(&'a self, of: &Leaver<'a>, step: Step<'_>) -> (Vec<(&'static str, String)>, Leaving<'a>) {
        let view = of.record.view();
        let is_tier = self.tiers.contains_key(view.topic());
        let returned = if is_tier { Returned::read(view.headers()) } else { Returned::default() };
        let due_ms = self.due_ms(step);
        let leaving = Leaving {
            origin: returned.origin.unwrap_or_else(|| Origin::of(&view)),
            view,
            failure: match of.why {
                Why::Failed(failure) => Some(failure),
                Why::Follows(_) => None,
            },
            first_reason: returned.first_reason,
            group: &self.group,
            attempts: of.attempts,
            first_ms: of.first_ms,
            // It has to wait for the other record, and not for a delay of its own.
            due_ms: match of.why {
                Why::Failed(_) => due_ms,
                Why::Follows(other_ms) => other_ms.min(due_ms),
            },
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
