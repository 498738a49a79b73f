//! Keeps the order of keys over retry topics: reads the topics beside the pipeline's consumer, only to know which keys wait in them.
//!
//! ```text
//!  retry topics ─▶ Keeper (one task, one consumer without a group) ─▶ Pending of each partition ◀─ Behind ◀─ workers
//! ```
//!
//! A partition and those of its retry topics may be at different members of the group. What they know of each other is in Kafka: the
//! records of the topics, and the offsets that the group has committed. So it holds also after a crash, and over rebalances.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use milena::{
    Admin, Batch, Client, Consumer, ConsumerHandle, Error, Isolation, OffsetAt, Position, RecordView, Reset,
};
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use super::pending::{Offsets, Pending};
use super::{Retries, Returned};
use crate::control::Control;
use crate::error::PipelineError;
use crate::schedule::Order;
use crate::worker::Command;

/// Knows the pending keys of all partitions that the workers have.
pub(crate) struct Keeper {
    retries: Arc<Retries>,
    order: Order,
    hasher: RandomState,
    views: Mutex<Views>,
    bell: Notify,
}

#[derive(Default)]
struct Views {
    by_place: FxHashMap<Place, Arc<View>>,
    /// Retry topics that are not read any more.
    ended: Vec<(String, i32)>,
}

/// A source, and the number of a partition of its retry topics.
type Place = (Arc<str>, i32);

struct View {
    /// The retry topics, by tier.
    topics: Vec<String>,
    /// Whether they are read for this view. Those of an earlier one of the same place do not count: it knew what was read before.
    is_read: AtomicBool,
    pending: Mutex<Pending>,
}

/// Where a partition's records stand in the order of their keys: behind those that wait in these retry topics.
pub(crate) struct Behind {
    keeper: Arc<Keeper>,
    view: Arc<View>,
    place: Place,
    lane: u64,
    /// The first tier that the records may go to.
    tier: usize,
}

/// How often the group's offsets are asked for while a key is pending.
const EVERY: Duration = Duration::from_millis(200);
/// What is fetched ahead. It is only looked at.
const TAIL_BYTES: usize = 1 << 20;
/// Looks that fail in a row before it is said.
const FAILURES: u32 = 10;

impl Keeper {
    pub(crate) fn new(retries: Arc<Retries>, order: Order) -> Self {
        let (hasher, views) = (RandomState::default(), Mutex::default());
        Self { retries, order, hasher, views, bell: Notify::new() }
    }

    /// A partition is read from now on, under this number. None if its records have no retry topic to go to.
    pub(crate) fn enter(self: &Arc<Self>, topic: &str, partition: i32, lane: u64) -> Option<Behind> {
        let tier = self.retries.tier(topic);
        let (source, of) =
            self.retries.sources.get_key_value(tier.as_ref().map_or(topic, |tier| &*tier.source))?;
        let tier = tier.map_or(0, |tier| tier.index + 1);
        if tier >= of.topics.len() {
            return None;
        }
        let place = (Arc::clone(source), of.partition(partition));
        let view = {
            let mut views = self.views();
            let view = views.by_place.entry(place.clone()).or_insert_with(|| {
                let pending = Mutex::new(Pending::new(of.topics.len()));
                Arc::new(View { topics: of.topics.clone(), is_read: AtomicBool::new(false), pending })
            });
            view.pending().handle_entered(lane);
            Arc::clone(view)
        };
        self.bell.notify_one();
        Some(Behind { keeper: Arc::clone(self), view, place, lane, tier })
    }

    /// Reads until it is dropped, or until it cannot: then the pipeline ends.
    pub(crate) async fn run(self: Arc<Self>, client: Client, group: ConsumerHandle, control: Arc<Control>) {
        if let Err(error) = self.read(&client, &group, &control).await {
            control.fail(PipelineError::of_client(error));
        }
    }

    async fn read(&self, client: &Client, group: &ConsumerHandle, control: &Control) -> Result<(), Error> {
        // What an aborted transaction has written does not wait for anything.
        let tail = client.consumer_direct().isolation(Isolation::ReadCommitted).reset(Reset::Earliest);
        let mut tail = tail.buffered(TAIL_BYTES).build().await?;
        // The ends of what is written, committed or not: what is below is read when its transaction has ended.
        let admin = client.admin().isolation(Isolation::ReadUncommitted);
        let (mut failures, mut has_any) = (0, false);
        let mut every = tokio::time::interval(EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                batch = tail.next(), if has_any => match batch? {
                    Some(batch) => self.take(&batch),
                    // There is no partition to read.
                    None => has_any = false,
                },
                _ = every.tick() => {}
                () = self.bell.notified() => {}
            }
            // In one step: a view that comes after it has its topics unassigned before they are assigned for it.
            let (ended, looking) = {
                let mut views = self.views();
                let wants = |view: &View| {
                    let mut pending = view.pending();
                    pending.wants_look() && pending.begin_look()
                };
                let looking = views.by_place.iter().filter(|(_, view)| wants(view));
                let looking: Vec<_> =
                    looking.map(|((_, partition), view)| (*partition, Arc::clone(view))).collect();
                (std::mem::take(&mut views.ended), looking)
            };
            tail.unassign(ended)?;
            if !looking.is_empty() {
                has_any = true;
                match look(&looking, &tail, group, &admin).await {
                    Ok(()) => failures = 0,
                    Err(error) => {
                        looking.iter().for_each(|(_, view)| view.pending().handle_look(None));
                        failures += 1;
                        if failures == FAILURES {
                            tracing::warn!(
                                target: "milena",
                                "which keys wait in retry topics cannot be found out at present, so that their later records go there \
                                 too: {error}"
                            );
                        }
                    }
                }
            }
            if self.note_positions(&tail) {
                for worker in control.workers.get().into_iter().flatten() {
                    worker.push(Command::Wake);
                }
            }
        }
    }

    /// Records of a retry topic.
    fn take(&self, batch: &Batch) {
        let Some(tier) = self.retries.tier(batch.topic()) else { return };
        let place = (Arc::clone(&tier.source), batch.partition());
        let Some(view) = self.views().by_place.get(&place).map(Arc::clone) else { return };
        let mut pending = view.pending();
        for record in batch {
            let returned = Returned::read(record.headers());
            let Some(key) = self.key_of(&record).filter(|_| !returned.is_of_another(&self.retries.group))
            else {
                continue;
            };
            let origin = returned.origin.map(|origin| (origin.partition, origin.offset));
            let due_ms = returned.due_ms.unwrap_or_default();
            pending.handle_record(tier.index, record.offset(), key, origin, due_ms);
        }
    }

    /// How far the topics are read. Answers whether a lane may start for that.
    fn note_positions(&self, tail: &Consumer) -> bool {
        let mut has_opened = false;
        let views = self.views();
        for ((_, partition), view) in &views.by_place {
            if !view.is_read.load(Ordering::Relaxed) {
                continue;
            }
            let mut pending = view.pending();
            let before = pending.ended();
            for (tier, topic) in view.topics.iter().enumerate() {
                if let Some(position) = tail.position(topic, *partition) {
                    pending.handle_read(tier, position);
                }
            }
            has_opened |= pending.ended() > before;
        }
        has_opened
    }

    /// Records with the same number wait for each other. None if the record waits for none.
    fn key_of(&self, record: &RecordView<'_>) -> Option<u64> {
        match self.order {
            Order::Key => record.key().map(|key| self.hasher.hash_one(key)),
            Order::Partition => Some(0),
            Order::None => None,
        }
    }

    fn views(&self) -> MutexGuard<'_, Views> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks for the committed offsets of some partitions, then for their ends, and begins to read those that are new.
async fn look(
    looking: &[(i32, Arc<View>)],
    tail: &Consumer,
    group: &ConsumerHandle,
    admin: &Admin,
) -> Result<(), Error> {
    let partitions: Vec<(String, i32)> = looking
        .iter()
        .flat_map(|(partition, view)| view.topics.iter().map(|topic| (topic.clone(), *partition)))
        .collect();
    let committed = group.committed(partitions.iter().map(|(topic, partition)| (topic, *partition))).await?;
    let committed: FxHashMap<(String, i32), Option<i64>> =
        committed.into_iter().map(|(of, committed)| (of, committed.map(|of| of.offset))).collect();
    let mut ends = FxHashMap::default();
    for (of, end) in admin.list_offsets(partitions, OffsetAt::Latest).await? {
        ends.insert(of, end?.unwrap_or_default());
    }
    for (partition, view) in looking {
        let mut offsets = Vec::new();
        for topic in &view.topics {
            let of = (topic.clone(), *partition);
            let committed = committed.get(&of).copied().flatten();
            if !view.is_read.load(Ordering::Relaxed) {
                let from = committed.map_or(Position::Earliest, Position::Offset);
                tail.assign([(topic, *partition)], from).await?;
            }
            let end = ends.get(&of).copied().unwrap_or_default();
            offsets.push(Offsets { committed: committed.unwrap_or_default(), end });
        }
        view.is_read.store(true, Ordering::Relaxed);
        view.pending().handle_look(Some(offsets));
    }
    Ok(())
}

impl View {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Behind {
    /// Whether it is known what waits. Before, no record of the partition starts.
    pub(crate) fn is_ready(&self) -> bool {
        self.view.pending().is_ready(self.lane)
    }

    /// When the record is due that this one has to wait for, in milliseconds since the epoch. None if there is none.
    pub(crate) fn pending(&self, record: &RecordView<'_>) -> Option<i64> {
        let key = self.keeper.key_of(record)?;
        self.view.pending().pending(key, self.tier)
    }

    /// The record is about to be written to its next retry topic.
    pub(crate) fn announce(&self, record: &RecordView<'_>, origin: (i32, i64), due_ms: i64) {
        if let Some(key) = self.keeper.key_of(record) {
            self.view.pending().handle_writing(self.lane, self.tier, key, origin, due_ms);
        }
    }

    /// The partition is given up.
    pub(crate) fn leave(&self) {
        let mut views = self.keeper.views();
        if self.view.pending().handle_left(self.lane) && views.by_place.remove(&self.place).is_some() {
            let topics = self.view.topics.iter().map(|topic| (topic.clone(), self.place.1));
            views.ended.extend(topics);
            self.keeper.bell.notify_one();
        }
    }
}

impl std::fmt::Debug for Behind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Behind").field("place", &self.place).field("tier", &self.tier).finish_non_exhaustive()
    }
}
