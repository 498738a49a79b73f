//! What a consumer's batches take of the client's memory, by topic, and the warning about batches that are held for long.
//!
//! Nothing is counted while batches come and go: a snapshot goes through the partitions' queues and lists. So reading
//! costs nothing for it, and a snapshot costs one short lock after another for each partition.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use milena_core::Instant;

use super::held::{Entry, Kept};
use super::queue::Queue;
use super::shared::Shared;
use super::stalls::{OnStall, Stalls};

/// What a consumer's batches take of the client's memory, at one moment. See [`Consumer::memory`](crate::Consumer::memory).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cluster = milena_broker::Broker::builder().start().await?;
/// # cluster.create_topic("orders", 1)?;
/// # let client = milena::Client::connect(cluster.bootstrap()).await?;
/// # client.producer().build().await?.send(milena::Record::to("orders").value("created")).await?;
/// let mut consumer = client.consumer_direct().topic("orders").build().await?;
/// let batch = consumer.next().await?.expect("a partition is assigned");
/// let memory = consumer.memory();
/// assert_eq!(memory.topics[0].in_use_bytes, batch.memory_bytes());
/// assert!(memory.budget_bytes_used >= batch.memory_bytes());
/// drop(batch);
/// assert_eq!(consumer.memory().topics[0].in_use_bytes, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerMemory {
    /// The topics of which a partition is assigned, or a batch is held, by name.
    pub topics: Vec<TopicMemory>,
    /// The budget for fetching, in bytes, which all consumers of the client share
    /// ([`ConsumerSettings::memory_bytes_max`](crate::ConsumerSettings::memory_bytes_max)).
    pub budget_bytes_max: usize,
    /// What all consumers of the client use of it, in bytes: the answers that are expected, the responses of which a batch
    /// is buffered or held, and the decompressed batches that are held.
    pub budget_bytes_used: usize,
}

/// What the batches of one topic take of the client's memory, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicMemory {
    /// The topic.
    pub topic: Arc<str>,
    /// Batches that were fetched and not taken yet, still compressed: their bytes, and their places in the queues.
    pub buffered_bytes: usize,
    /// The number of those batches.
    pub buffered_batches: usize,
    /// Batches that the application holds: those that were not compressed as they came, the remaining ones with the buffer
    /// that each was decompressed into.
    pub in_use_bytes: usize,
    /// The number of those batches.
    pub in_use_batches: usize,
    /// How long the application has held the batch that it has held longest. None if it holds none.
    pub oldest: Option<Duration>,
    /// What is kept in memory by batches that the application has held for more than 10 s, in bytes. A batch that was not
    /// compressed keeps the whole response in which it came, and that is counted here, once for all batches of it.
    pub pinned_bytes: usize,
    /// The number of those batches.
    pub pinned_batches: usize,
}

/// A batch that the application has held for longer than this is one that it keeps, and not one that it works on.
const PINNED_AFTER: Duration = Duration::from_secs(10);
/// The log warns of a batch that is held for longer than this.
const WARNED_AFTER: Duration = Duration::from_secs(60);
/// How often batches are looked for that are held for long.
const WATCH_INTERVAL: Duration = Duration::from_secs(10);

impl TopicMemory {
    fn new(topic: &Arc<str>) -> Self {
        Self {
            topic: Arc::clone(topic),
            buffered_bytes: 0,
            buffered_batches: 0,
            in_use_bytes: 0,
            in_use_batches: 0,
            oldest: None,
            pinned_bytes: 0,
            pinned_batches: 0,
        }
    }
}

impl Entry {
    /// The bytes of the batch itself.
    fn bytes(&self) -> usize {
        match &self.kept {
            Kept::Part(claim) => claim.bytes(),
            Kept::Whole(memory) => memory.bytes(),
        }
    }

    /// All that it keeps in memory, in bytes. A response of which another batch is in `seen` is not counted again.
    fn pinned_bytes(&self, seen: &mut BTreeSet<usize>) -> usize {
        match &self.kept {
            Kept::Part(claim) if seen.insert(Arc::as_ptr(claim.memory()) as usize) => claim.memory().bytes(),
            Kept::Part(_) => 0,
            Kept::Whole(memory) => memory.bytes(),
        }
    }
}

impl Shared {
    /// The partitions that are assigned, and those of which the application holds batches from before they were given up.
    fn queues(&self) -> Vec<Arc<Queue>> {
        let assigned = self.assigned();
        let given_up = assigned.given_up.iter().filter_map(Weak::upgrade);
        let held = given_up.filter(|queue| !queue.held.is_empty());
        assigned.queues.values().cloned().chain(held).collect()
    }

    pub(super) fn memory(&self) -> ConsumerMemory {
        let now = self.client.0.clock.now();
        let mut topics = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for queue in self.queues() {
            let of = topics.entry(Arc::clone(&queue.topic)).or_insert_with(|| TopicMemory::new(&queue.topic));
            let (bytes, batches) = queue.inner().buffered();
            of.buffered_bytes += bytes;
            of.buffered_batches += batches;
            queue.held.each(|entry| {
                let age = now - entry.since;
                of.in_use_bytes += entry.bytes();
                of.in_use_batches += 1;
                of.oldest = of.oldest.max(Some(age));
                if age > PINNED_AFTER {
                    of.pinned_bytes += entry.pinned_bytes(&mut seen);
                    of.pinned_batches += 1;
                }
            });
        }
        let budget = &self.client.0.fetch_budget;
        ConsumerMemory {
            topics: topics.into_values().collect(),
            budget_bytes_max: budget.bytes_max(),
            budget_bytes_used: budget.bytes_used(),
        }
    }
}

/// Warns of batches that the application holds for long: once, and again only when all of them had been dropped. And looks for
/// partitions that stand still, if someone wants to know.
pub(super) struct Watch {
    next_at: Instant,
    has_warned: bool,
    /// None if there are neither metrics nor a callback.
    stalls: Option<Stalls>,
    on_stall: Option<OnStall>,
}

impl Watch {
    pub(super) fn new(shared: &Shared, on_stall: Option<OnStall>) -> Self {
        let now = shared.client.0.clock.now();
        let is_wanted = on_stall.is_some() || shared.client.0.metrics.is_some();
        let stalls = is_wanted.then(|| Stalls::new(shared.stall_after, now));
        Self { next_at: now + WATCH_INTERVAL, has_warned: false, stalls, on_stall }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub(super) fn poll_timeout(&self) -> Instant {
        self.stalls.as_ref().map_or(self.next_at, |stalls| stalls.poll_timeout().min(self.next_at))
    }

    /// Nothing is read any more: stalls end.
    pub(super) fn end(&mut self, now: Instant) {
        let (Some(stalls), Some(on_stall)) = (&mut self.stalls, &self.on_stall) else { return };
        stalls.end().into_iter().for_each(|change| on_stall.tell(&change.without_place(now)));
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, shared: &Shared) {
        if let Some(stalls) = self.stalls.as_mut().filter(|stalls| stalls.poll_timeout() <= now) {
            shared.tell_stalls(stalls, self.on_stall.as_ref(), now);
        }
        if now < self.next_at {
            return;
        }
        self.next_at = now + WATCH_INTERVAL;
        let mut seen = BTreeSet::new();
        let (mut count, mut bytes) = (0, 0);
        let mut oldest: Option<(Instant, Arc<Queue>)> = None;
        for queue in shared.queues() {
            queue.held.each(|entry| {
                if now - entry.since <= WARNED_AFTER {
                    return;
                }
                count += 1;
                bytes += entry.pinned_bytes(&mut seen);
                if oldest.as_ref().is_none_or(|(since, _)| entry.since < *since) {
                    oldest = Some((entry.since, Arc::clone(&queue)));
                }
            });
        }
        let Some((since, queue)) = oldest else {
            self.has_warned = false;
            return;
        };
        if !std::mem::replace(&mut self.has_warned, true) {
            let (topic, partition, age) = (&queue.topic, queue.partition, (now - since).as_secs());
            let budget = shared.client.0.fetch_budget.bytes_max();
            tracing::warn!(
                target: "milena",
                "the application holds {count} batches for more than {} s, which keep {bytes} bytes of the budget of \
                 {budget}; the oldest is of partition {partition} of topic {topic:?}, for {age} s: copy the records that \
                 are kept (to_owned) and drop the batches, or copy the batches out of their responses \
                 (shrink_to_fit)",
                WARNED_AFTER.as_secs(),
            );
        }
    }
}
