//! Records in work, by number.

use std::time::Duration;

use super::LaneId;
use crate::Failure;

/// A record of a lane.
#[derive(Debug, Clone)]
pub(crate) struct Item<R> {
    pub(crate) record: R,
    /// Records with the same number here are processed one after the other, if the order is by key.
    pub(crate) shard: u64,
    /// The offset after the record before it: no record is at the offsets between.
    pub(crate) from: i64,
    /// The offset after it.
    pub(crate) end: i64,
    /// It does not start before this time, nor do records of its lane that come after it. Zero if it may start at once.
    pub(crate) due: Duration,
}

/// A record whose attempt begins. Exactly one of [`handle_pending`](super::Schedule::handle_pending),
/// [`handle_done`](super::Schedule::handle_done) and [`handle_failed`](super::Schedule::handle_failed) takes it, before the next
/// record starts.
#[derive(Debug)]
pub(crate) struct Job<R> {
    pub(crate) item: Item<R>,
    pub(crate) lane: LaneId,
    /// When the attempt began.
    pub(crate) began: Duration,
    /// What was tried before. Few records have any of it.
    pub(crate) history: Option<Box<History>>,
    /// Whether it was started before, though that may not count as an attempt.
    pub(crate) is_again: bool,
    /// Whether its shard is taken by it.
    pub(super) is_counted: bool,
}

/// The attempts at a record before this one.
#[derive(Debug)]
pub(crate) struct History {
    /// The number of attempts that were made.
    pub(crate) calls: u32,
    /// When the first one began.
    pub(crate) since: Duration,
    /// The delay after the last one.
    pub(crate) delay: Duration,
    /// What the last one said.
    pub(crate) failure: Failure,
}

impl<R> Job<R> {
    pub(super) fn first(item: Item<R>, lane: LaneId, now: Duration, is_counted: bool) -> Self {
        Self { item, lane, began: now, history: None, is_again: false, is_counted }
    }

    /// The number of this attempt; the first is 1.
    pub(crate) fn attempt(&self) -> u32 {
        self.history.as_ref().map_or(1, |history| history.calls + 1)
    }

    /// When the first attempt began.
    pub(crate) fn since(&self) -> Duration {
        self.history.as_ref().map_or(self.began, |history| history.since)
    }
}

/// The number of a job whose attempt is pending, that waits for its next one, or that is being put aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct JobId {
    index: u32,
    generation: u32,
}

impl JobId {
    /// The place of its future. No two jobs have the same one at the same time.
    pub(crate) fn index(self) -> usize {
        self.index as usize
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Running,
    Delayed,
    Aside,
}

/// Jobs by their numbers, which are used again.
pub(super) struct Jobs<R> {
    slots: Vec<Slot<R>>,
    free: Vec<u32>,
}

struct Slot<R> {
    generation: u32,
    of: Option<(State, Job<R>)>,
}

impl<R> Jobs<R> {
    pub(super) fn insert(&mut self, state: State, job: Job<R>) -> JobId {
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.of = Some((state, job));
            return JobId { index, generation: slot.generation };
        }
        let index = u32::try_from(self.slots.len()).expect("fewer jobs than 2^32 fit into memory");
        self.slots.push(Slot { generation: 0, of: Some((state, job)) });
        JobId { index, generation: 0 }
    }

    pub(super) fn get(&self, id: JobId) -> Option<&(State, Job<R>)> {
        self.slots.get(id.index()).filter(|slot| slot.generation == id.generation)?.of.as_ref()
    }

    pub(super) fn is(&self, id: JobId, state: State) -> bool {
        self.get(id).is_some_and(|(of, _)| *of == state)
    }

    pub(super) fn remove(&mut self, id: JobId) -> Option<(State, Job<R>)> {
        let slot = self.slots.get_mut(id.index()).filter(|slot| slot.generation == id.generation)?;
        let removed = slot.of.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.index);
        Some(removed)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (JobId, State, &Job<R>)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let (state, job) = slot.of.as_ref()?;
            let index = u32::try_from(index).ok()?;
            Some((JobId { index, generation: slot.generation }, *state, job))
        })
    }
}

impl<R> Default for Jobs<R> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}
