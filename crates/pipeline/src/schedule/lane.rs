//! The records of one partition that a worker has, or of a part of its keys.

use std::collections::VecDeque;
use std::time::Duration;

use super::Terms;
use super::job::{Item, JobId};

/// The number of a lane. Numbers are not used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LaneId(pub(super) u64);

#[cfg(test)]
impl LaneId {
    pub(crate) fn of(number: u64) -> Self {
        Self(number)
    }
}
/// Records of a lane that are written elsewhere at the same time. Each is a task, and more make no difference to the producer.
const ASIDE_MAX: usize = 1_000;

#[derive(Debug)]
pub(super) struct Lane<R> {
    /// Records that were not looked at yet, in order.
    pub(super) queue: VecDeque<Item<R>>,
    /// Keys whose record in work has ended, and that have another one.
    pub(super) freed: VecDeque<u64>,
    /// Jobs whose delay is over.
    pub(super) due: VecDeque<JobId>,
    /// Jobs whose handler runs.
    pub(super) running: usize,
    /// Jobs that wait for their next attempt, those that are due included.
    pub(super) delayed: usize,
    /// Jobs that are being put aside.
    pub(super) aside: usize,
    /// Records that wait for the one of their key.
    pub(super) waiting: usize,
    /// Records are processed one after the other, and one is in work.
    pub(super) is_busy: bool,
    pub(super) is_revoked: bool,
    /// Where the lane stands among those that have a record to start.
    pub(super) place: Option<Place>,
    /// When it had its last turn.
    pub(super) turn: u64,
    /// When it is looked at again, because the first record of its queue is due then.
    pub(super) wakes_at: Option<Duration>,
    /// The partition's keys are divided into so many parts, of which it has one.
    pub(super) parts: usize,
    /// Records that were tried and are not tried again, because the lane was given up.
    pub(super) left: Vec<Item<R>>,
}

/// Lanes with few records in work come first; among equals, the one whose last turn is longest ago.
pub(super) type Place = (usize, u64, LaneId);

impl<R> Lane<R> {
    pub(super) fn new(turn: u64, parts: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            freed: VecDeque::new(),
            due: VecDeque::new(),
            running: 0,
            delayed: 0,
            aside: 0,
            waiting: 0,
            is_busy: false,
            is_revoked: false,
            place: None,
            turn,
            wakes_at: None,
            parts,
            left: Vec::new(),
        }
    }

    /// It has no more records in work, unless its partition is the only one.
    pub(super) fn running_max(&self, terms: &Terms) -> usize {
        (terms.lane_running_max / self.parts.max(1)).max(1)
    }

    /// Whether it may read on: what waits, for whatever, takes memory.
    pub(super) fn has_room(&self, terms: &Terms) -> bool {
        self.waiting + self.delayed < terms.waiting_max && self.aside < ASIDE_MAX
    }

    /// Whether a record of it is in work or waits for another attempt.
    pub(super) fn is_at_work(&self) -> bool {
        self.running > 0 || self.aside > 0 || self.delayed > 0
    }
}
