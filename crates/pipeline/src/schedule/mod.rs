//! Decides which record starts when: one record at a time of each key or partition, failed ones again later, those of a partition
//! that is given up not at all.
//!
//! ```text
//!  handle_records ─▶ lane's queue ─▶ poll_start ─▶ running ─▶ handle_done
//!                         ▼ ▲                       ▲    ▼
//!                  waits for its key             delayed ◀ handle_failed ─▶ aside ─▶ handle_settled
//! ```
//!
//! A record may have a time before which it does not start: retry topics have such records, in the order of these times. The lane
//! waits for its first one then.
//!
//! It has no clock: times are durations since the pipeline began. It must not know futures, topics or the consumer. Each worker
//! has one, and a partition is one worker's, or one worker's for each of its keys.

mod job;
mod lane;
#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::time::Duration;

use rustc_hash::FxHashMap;

pub(crate) use self::job::{History, Item, Job, JobId};
use self::job::{Jobs, State};
pub(crate) use self::lane::LaneId;
use self::lane::{Lane, Place};
use crate::Failure;

/// Which records may be in work at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Order {
    /// Records of a partition that have the same key are processed one after the other, in their order. Records without a key
    /// have no order among them.
    #[default]
    Key,
    /// The records of a partition are processed one after the other, in their order.
    Partition,
    /// Any records may be in work at the same time.
    None,
}

/// How a schedule decides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) order: Order,
    /// An attempt that takes longer is ended.
    pub(crate) time_limit: Option<Duration>,
    /// A record whose attempt takes longer is reported, once per attempt.
    pub(crate) report_after: Duration,
    /// A lane is read no further while this many of its records wait for their key or for their next attempt, or are being put
    /// aside.
    pub(crate) waiting_max: usize,
    /// One partition has no more than this many records in work while the pipeline has others, so that one whose handlers hang
    /// leaves permits to them.
    pub(crate) lane_running_max: usize,
}

/// What becomes of a record whose attempt has failed.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It is tried again after this time.
    Again(Duration, Failure),
    /// The attempt was not made, or does not count: it waits for this time.
    Postponed(Duration),
    /// It is put aside, which takes time: [`handle_settled`](Schedule::handle_settled) tells that it was.
    Aside,
    /// It stays unfinished, and nothing that has to wait for it starts any more. The pipeline stops.
    Left,
}

/// What a [burst](Schedule::burst) is told of an attempt.
#[derive(Debug)]
pub(crate) enum Attempt<O> {
    /// The record was processed.
    Ended,
    /// It was not begun, and nothing is for now.
    NotMade,
    /// Anything else.
    Other(O),
}

/// What takes long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// The attempt has had its time: its future is to be dropped, and its failure told.
    Expired(JobId),
    /// It takes longer than the reporting limit.
    Slow(JobId),
}

/// What a lane leaves when it is forgotten.
#[derive(Debug)]
pub(crate) struct Gone<R> {
    /// Attempts whose futures are to be dropped.
    pub(crate) running: Vec<JobId>,
    /// Records that were tried and are not finished, those of the running attempts included.
    pub(crate) left: Vec<Item<R>>,
}

/// Which records of a worker start when.
///
/// # Inputs
///
/// [`handle_assigned`](Self::handle_assigned) makes a lane, [`handle_records`](Self::handle_records) fills it, and
/// [`handle_revoked`](Self::handle_revoked) and [`handle_gone`](Self::handle_gone) end it. Of each job that
/// [`poll_start`](Self::poll_start) returns, the outcome is told.
///
/// # Between calls
///
/// No two jobs of one lane and shard are running, delayed or being put aside at the same time, unless the order is
/// [`Order::None`]. Records of a shard start in the order in which they came.
pub(crate) struct Schedule<R> {
    terms: Terms,
    lanes: BTreeMap<LaneId, Lane<R>>,
    next_lane: u64,
    jobs: Jobs<R>,
    /// Keys that have a record in work, and the records that wait for its end.
    shards: FxHashMap<(LaneId, u64), VecDeque<Item<R>>>,
    /// Lanes that have a record to start.
    startable: BTreeSet<Place>,
    turn: u64,
    /// Records that the lane whose turn it is has started.
    started: u32,
    /// A lane that may start something although others have fewer records in work, and how many the last such lane had.
    visitor: Option<LaneId>,
    visited: usize,
    /// Jobs that are tried again, by when.
    delayed: BinaryHeap<Reverse<(Duration, JobId)>>,
    /// Jobs by the end of their time limit, and by the reporting limit. All have the same limits, so these are in order.
    limits: VecDeque<(Duration, JobId)>,
    reports: VecDeque<(Duration, JobId)>,
    running: usize,
    /// Lanes whose first record is not due, by when it is.
    dues: BinaryHeap<Reverse<(Duration, LaneId)>>,
    /// The latest time that it was told.
    now: Duration,
    /// Whether the pipeline has one partition alone, which may then have all records in work.
    is_alone: bool,
}

/// A lane starts this many records in a row if none of them stays in work.
const TURN: u32 = 256;
/// Limits of attempts that have ended are not looked for among fewer.
const LIMITS_MIN: usize = 1024;

impl<R> Schedule<R> {
    pub(crate) fn new(terms: Terms) -> Self {
        Self {
            terms,
            lanes: BTreeMap::new(),
            next_lane: 0,
            jobs: Jobs::default(),
            shards: FxHashMap::default(),
            startable: BTreeSet::new(),
            turn: 0,
            started: 0,
            visitor: None,
            visited: 0,
            delayed: BinaryHeap::new(),
            limits: VecDeque::new(),
            reports: VecDeque::new(),
            running: 0,
            dues: BinaryHeap::new(),
            now: Duration::ZERO,
            is_alone: false,
        }
    }

    /// A partition, or one of `parts` that its keys are divided into, belongs to this worker from now on.
    pub(crate) fn handle_assigned(&mut self, parts: usize) -> LaneId {
        let id = LaneId(self.next_lane);
        self.next_lane += 1;
        self.lanes.insert(id, Lane::new(self.turn, parts));
        id
    }

    /// Tells whether the pipeline has one partition alone: other workers have none either.
    pub(crate) fn handle_alone(&mut self, is_alone: bool) {
        if self.is_alone != is_alone {
            self.is_alone = is_alone;
            self.list_all();
        }
    }

    /// Changes how many records one partition may have in work while the pipeline has others.
    pub(crate) fn handle_share(&mut self, lane_running_max: usize) {
        if self.terms.lane_running_max != lane_running_max {
            self.terms.lane_running_max = lane_running_max;
            self.list_all();
        }
    }

    /// Records of a lane, which come after those that it was given before.
    pub(crate) fn handle_records(&mut self, lane: LaneId, items: impl IntoIterator<Item = Item<R>>) {
        let Some(of) = self.lanes.get_mut(&lane).filter(|of| !of.is_revoked) else { return };
        of.queue.extend(items);
        self.list(lane);
    }

    /// The next record to start. Its handler is to be called at once, and what comes of that told before the next call.
    pub(crate) fn poll_start(&mut self, now: Duration) -> Option<Job<R>> {
        self.let_due(now);
        loop {
            let (_, _, id) = self.first()?;
            if let Some(job) = self.start(id, now) {
                self.end_visit(id);
                return Some(job);
            }
            self.list(id);
        }
    }

    /// Starts up to `count` records of the next lane, as long as each ends at once: what [`poll_start`](Self::poll_start) and
    /// [`handle_done`](Self::handle_done) would do, without their cost for each record. `attempt` is called with each record. Answers
    /// with the one that did not end, and what `attempt` said of it.
    pub(crate) fn burst<O>(
        &mut self,
        now: Duration,
        count: usize,
        mut attempt: impl FnMut(LaneId, &Item<R>) -> Attempt<O>,
    ) -> Option<(Job<R>, O)> {
        let (_, _, id) = self.first()?;
        let is_by_key = self.terms.order == Order::Key;
        let of = self.lanes.get_mut(&id).expect("a lane that is listed is there");
        let is_usual = of.due.is_empty() && of.freed.is_empty() && of.has_room(&self.terms);
        if !is_usual || (of.is_busy && !is_by_key) {
            return None;
        }
        let mut stopped = None;
        let started = self.started;
        for _ in 0..count {
            let Some(item) = of.queue.front().filter(|item| item.due <= self.now) else { break };
            // The shard of a record in work is taken. It waits in the way of `poll_start`.
            if is_by_key && !self.shards.is_empty() && self.shards.contains_key(&(id, item.shard)) {
                break;
            }
            let outcome = match attempt(id, item) {
                Attempt::Ended => None,
                Attempt::NotMade => break,
                Attempt::Other(outcome) => Some(outcome),
            };
            self.started += 1;
            let item = of.queue.pop_front().expect("it was looked at");
            if let Some(outcome) = outcome {
                stopped = Some((Job::first(item, id, now, false), outcome));
                break;
            }
        }
        if of.queue.is_empty() {
            self.list(id);
        }
        if self.started > started {
            self.end_visit(id);
        }
        stopped
    }

    /// Whether [`poll_start`](Self::poll_start) has something to start now.
    pub(crate) fn is_startable(&mut self, now: Duration) -> bool {
        self.let_due(now);
        !self.startable.is_empty()
    }

    /// The attempt goes on: the first look at its future did not end it.
    pub(crate) fn handle_pending(&mut self, mut job: Job<R>, now: Duration) -> JobId {
        self.count(&mut job);
        let lane = job.lane;
        self.running += 1;
        self.lanes.get_mut(&lane).expect("a started job's lane is there").running += 1;
        let id = self.jobs.insert(State::Running, job);
        if let Some(limit) = self.terms.time_limit {
            self.limits.push_back((now.saturating_add(limit), id));
        }
        self.reports.push_back((now.saturating_add(self.terms.report_after), id));
        self.forget_ended();
        self.list(lane);
        id
    }

    /// An attempt that was pending has ended. The job is to be given to [`handle_done`](Self::handle_done) or
    /// [`handle_failed`](Self::handle_failed). None if its lane is gone.
    pub(crate) fn handle_ended(&mut self, id: JobId) -> Option<Job<R>> {
        if !self.jobs.is(id, State::Running) {
            return None;
        }
        let (_, job) = self.jobs.remove(id)?;
        self.running -= 1;
        self.lanes.get_mut(&job.lane).expect("a running job's lane is there").running -= 1;
        self.list(job.lane);
        Some(job)
    }

    /// The record was processed. Answers with it: its offsets are done.
    pub(crate) fn handle_done(&mut self, job: Job<R>) -> Item<R> {
        self.finish(job)
    }

    /// The attempt has failed. If the record is put aside, answers with the number by which that is settled.
    pub(crate) fn handle_failed(
        &mut self,
        mut job: Job<R>,
        verdict: Verdict,
        now: Duration,
    ) -> Option<JobId> {
        self.count(&mut job);
        let lane = job.lane;
        let of = self.lanes.get_mut(&lane).expect("a started job's lane is there");
        let delay = match verdict {
            Verdict::Again(delay, failure) => {
                let (calls, since) = (job.attempt(), job.since());
                job.history = Some(Box::new(History { calls, since, delay, failure }));
                delay
            }
            Verdict::Postponed(delay) => delay,
            Verdict::Aside => {
                of.aside += 1;
                self.list(lane);
                return Some(self.jobs.insert(State::Aside, job));
            }
            Verdict::Left => {
                self.leave(lane, job.item);
                return None;
            }
        };
        if of.is_revoked {
            // It would not start again.
            let item = self.finish(job);
            self.leave(lane, item);
            return None;
        }
        of.delayed += 1;
        let id = self.jobs.insert(State::Delayed, job);
        self.delayed.push(Reverse((now.saturating_add(delay), id)));
        self.list(lane);
        None
    }

    /// The attempt at a group has failed: its records, which these items are, start one after the other, before what comes after
    /// them.
    pub(crate) fn handle_split(&mut self, mut job: Job<R>, items: Vec<Item<R>>) {
        self.count(&mut job);
        let (lane, shard, has_shards) = (job.lane, self.shard_of(&job.item), self.has_shards());
        let of = self.lanes.get_mut(&lane).expect("a started job's lane is there");
        if of.is_revoked {
            // They would not start.
            let item = self.finish(job);
            return self.leave(lane, item);
        }
        if has_shards {
            let waiting = self.shards.get_mut(&(lane, shard)).expect("the job has taken it");
            of.waiting += items.len();
            items.into_iter().rev().for_each(|item| waiting.push_front(item));
        } else {
            items.into_iter().rev().for_each(|item| of.queue.push_front(item));
        }
        self.finish(job);
        self.list(lane);
    }

    /// A record was put aside. Answers with it: its offsets are done.
    pub(crate) fn handle_settled(&mut self, id: JobId) -> Option<Item<R>> {
        if !self.jobs.is(id, State::Aside) {
            return None;
        }
        let (_, job) = self.jobs.remove(id)?;
        self.lanes.get_mut(&job.lane).expect("a job's lane is there").aside -= 1;
        self.list(job.lane);
        Some(self.finish(job))
    }

    /// A lane is given up: no record of it starts any more, and those that wait are forgotten. Records in work go on;
    /// [`is_drained`](Self::is_drained) says when the last one has ended.
    pub(crate) fn handle_revoked(&mut self, lane: LaneId) {
        let Some(of) = self.lanes.get_mut(&lane) else { return };
        of.is_revoked = true;
        of.queue.clear();
        of.freed.clear();
        of.due.clear();
        of.waiting = 0;
        for ((id, _), waiting) in &mut self.shards {
            if *id == lane {
                waiting.clear();
            }
        }
        self.forget_delayed(lane);
        self.list(lane);
    }

    /// Whether nothing of the lane is in work.
    pub(crate) fn is_drained(&self, lane: LaneId) -> bool {
        self.lanes.get(&lane).is_none_or(|of| !of.is_at_work())
    }

    /// Forgets a lane. Answers with what was left of it.
    pub(crate) fn handle_gone(&mut self, lane: LaneId) -> Gone<R> {
        self.handle_revoked(lane);
        let of_lane = self.jobs.iter().filter(|(_, _, job)| job.lane == lane);
        let ids: Vec<JobId> = of_lane.map(|(id, ..)| id).collect();
        let mut gone = Gone { running: Vec::new(), left: Vec::new() };
        for id in ids {
            let Some((state, job)) = self.jobs.remove(id) else { continue };
            if state == State::Running {
                self.running -= 1;
                gone.running.push(id);
            }
            gone.left.push(job.item);
        }
        self.shards.retain(|(id, _), _| *id != lane);
        if let Some(mut of) = self.lanes.remove(&lane) {
            gone.left.append(&mut of.left);
            if let Some(place) = of.place {
                self.startable.remove(&place);
            }
        }
        gone
    }

    /// What takes too long, each once.
    pub(crate) fn poll_overdue(&mut self, now: Duration) -> Option<Overdue> {
        self.drop_ended();
        if let Some((_, id)) = self.limits.pop_front_if(|(at, _)| *at <= now) {
            return Some(Overdue::Expired(id));
        }
        self.reports.pop_front_if(|(at, _)| *at <= now).map(|(_, id)| Overdue::Slow(id))
    }

    /// When to look at it again without another input. What is due now is not a reason to: it starts when something else lets it,
    /// for example a permit.
    pub(crate) fn poll_timeout(&mut self, now: Duration) -> Option<Duration> {
        self.let_due(now);
        self.drop_ended();
        let delayed = self.delayed.peek().map(|Reverse((at, _))| *at);
        let limit = self.limits.front().map(|(at, _)| *at);
        let report = self.reports.front().map(|(at, _)| *at);
        let due = self.dues.peek().map(|Reverse((at, _))| *at);
        [delayed, limit, report, due].into_iter().flatten().min()
    }

    /// The number of records that a handler works on.
    #[cfg(test)]
    pub(crate) fn running(&self) -> usize {
        self.running
    }

    /// A job that is running, waits for its next attempt, or is being put aside.
    pub(crate) fn job(&self, id: JobId) -> Option<&Job<R>> {
        self.jobs.get(id).map(|(_, job)| job)
    }

    /// The records of a lane that were read and not started, and not counting those that wait for their next attempt.
    pub(crate) fn unstarted(&self, lane: LaneId) -> usize {
        self.lanes.get(&lane).map_or(0, |of| of.queue.len() + of.waiting)
    }

    /// The records that wait for the end of this job.
    pub(crate) fn waiting_for(&self, id: JobId) -> usize {
        let Some((_, job)) = self.jobs.get(id) else { return 0 };
        self.shards.get(&(job.lane, self.shard_of(&job.item))).map_or(0, VecDeque::len)
    }

    /// Whether more records of the lane are of use: few are there that could start.
    pub(crate) fn is_hungry(&self, lane: LaneId) -> bool {
        self.lanes
            .get(&lane)
            .is_some_and(|of| !of.is_revoked && of.queue.is_empty() && of.has_room(&self.terms))
    }

    // --- within ---

    fn shard_of(&self, item: &Item<R>) -> u64 {
        match self.terms.order {
            Order::Key => item.shard,
            Order::Partition | Order::None => 0,
        }
    }

    fn has_shards(&self) -> bool {
        self.terms.order != Order::None
    }

    /// The lane whose turn it is.
    fn first(&mut self) -> Option<Place> {
        if self.started >= TURN {
            let (least, _, id) = *self.startable.first()?;
            self.started = 0;
            self.end_turn(id);
            self.visitor = self.next_visitor(least);
        }
        let visitor = self.visitor.and_then(|id| self.lanes.get(&id)?.place);
        visitor.or_else(|| self.startable.first().copied())
    }

    /// A lane that has more records in work than those whose turn it is by that. One whose records end at once has none in work, and
    /// would always be first.
    fn next_visitor(&mut self, least: usize) -> Option<LaneId> {
        let above = |running: usize| (running + 1, 0, LaneId(0));
        // From the one with fewest to the one with most, and again: else one that holds on to few would always be the one.
        let next = self.startable.range(above(least.max(self.visited))..).next();
        let (running, _, id) = *next.or_else(|| self.startable.range(above(least)..).next())?;
        self.visited = running;
        Some(id)
    }

    /// A lane has started something. If it was a visitor, it is not any more.
    fn end_visit(&mut self, id: LaneId) {
        if self.visitor == Some(id) {
            self.visitor = None;
            self.end_turn(id);
        }
    }

    fn end_turn(&mut self, id: LaneId) {
        self.turn += 1;
        self.lanes.get_mut(&id).expect("a lane that is listed is there").turn = self.turn;
        self.list(id);
    }

    fn list_all(&mut self) {
        for id in self.lanes.keys().copied().collect::<Vec<_>>() {
            self.list(id);
        }
    }

    /// A record of this lane that may start.
    fn start(&mut self, id: LaneId, now: Duration) -> Option<Job<R>> {
        let has_shards = self.has_shards();
        let is_by_key = self.terms.order == Order::Key;
        self.started += 1;
        let of = self.lanes.get_mut(&id).expect("a lane that is listed is there");
        while let Some(due) = of.due.pop_front() {
            if let Some((_, mut job)) = self.jobs.remove(due) {
                of.delayed -= 1;
                job.began = now;
                job.is_again = true;
                return Some(job);
            }
        }
        while let Some(shard) = of.freed.pop_front() {
            // The shard stays taken by the record that starts now.
            if let Some(item) = self.shards.get_mut(&(id, shard)).and_then(VecDeque::pop_front) {
                of.waiting -= 1;
                of.is_busy = true;
                return Some(Job::first(item, id, now, true));
            }
        }
        while of.has_room(&self.terms) && !(has_shards && !is_by_key && of.is_busy) {
            let item = of.queue.pop_front_if(|item| item.due <= self.now)?;
            if is_by_key
                && !self.shards.is_empty()
                && let Some(waiting) = self.shards.get_mut(&(id, item.shard))
            {
                waiting.push_back(item);
                of.waiting += 1;
                continue;
            }
            return Some(Job::first(item, id, now, false));
        }
        None
    }

    /// The shard of a record that stays in work is taken.
    fn count(&mut self, job: &mut Job<R>) {
        if std::mem::replace(&mut job.is_counted, true) || !self.has_shards() {
            return;
        }
        self.shards.insert((job.lane, self.shard_of(&job.item)), VecDeque::new());
        self.lanes.get_mut(&job.lane).expect("a started job's lane is there").is_busy = true;
    }

    /// The record is finished: the next one of its shard may start.
    fn finish(&mut self, job: Job<R>) -> Item<R> {
        let lane = job.lane;
        if job.is_counted {
            let (shard, has_shards) = (self.shard_of(&job.item), self.has_shards());
            let of = self.lanes.get_mut(&lane).expect("a job's lane is there");
            of.is_busy = false;
            if has_shards {
                if self.shards.get(&(lane, shard)).is_some_and(|waiting| !waiting.is_empty()) {
                    of.freed.push_back(shard);
                } else {
                    self.shards.remove(&(lane, shard));
                }
            }
            self.list(lane);
        }
        job.item
    }

    /// Jobs whose delay is over may start, and lanes whose first record is due.
    fn let_due(&mut self, now: Duration) {
        self.now = self.now.max(now);
        while let Some(Reverse((at, id))) = self.dues.peek().copied()
            && at <= now
        {
            self.dues.pop();
            // Of two times of a lane the earlier one counts: the other is of a record that was forgotten.
            if let Some(of) = self.lanes.get_mut(&id).filter(|of| of.wakes_at == Some(at)) {
                of.wakes_at = None;
                self.list(id);
            }
        }
        while let Some(Reverse((at, id))) = self.delayed.peek().copied()
            && at <= now
        {
            self.delayed.pop();
            let Some((State::Delayed, job)) = self.jobs.get(id) else { continue };
            let lane = job.lane;
            self.lanes.get_mut(&lane).expect("a job's lane is there").due.push_back(id);
            self.list(lane);
        }
    }

    fn forget_delayed(&mut self, lane: LaneId) {
        let delayed = self.jobs.iter().filter(|(_, state, job)| *state == State::Delayed && job.lane == lane);
        let delayed: Vec<JobId> = delayed.map(|(id, ..)| id).collect();
        for id in delayed {
            if let Some((_, job)) = self.jobs.remove(id) {
                self.lanes.get_mut(&lane).expect("the lane is there").delayed -= 1;
                // Nothing waits for it any more: its lane is revoked.
                let item = self.finish(job);
                self.leave(lane, item);
            }
        }
    }

    /// The record was tried, and is not tried again: its lane was given up.
    fn leave(&mut self, lane: LaneId, item: Item<R>) {
        self.lanes.get_mut(&lane).expect("the lane is there").left.push(item);
    }

    /// Puts the lane where it belongs among those that have a record to start.
    fn list(&mut self, id: LaneId) {
        let is_serial = self.terms.order == Order::Partition;
        let Some(of) = self.lanes.get_mut(&id) else { return };
        let may_read = of.has_room(&self.terms) && !(is_serial && of.is_busy);
        let first_due = of.queue.front().filter(|_| may_read).map(|item| item.due);
        let has_record =
            !of.due.is_empty() || !of.freed.is_empty() || first_due.is_some_and(|due| due <= self.now);
        if let Some(due) = first_due.filter(|due| *due > self.now)
            && of.wakes_at.is_none_or(|at| due < at)
        {
            of.wakes_at = Some(due);
            self.dues.push(Reverse((due, id)));
        }
        let may_run = self.is_alone || of.running < of.running_max(&self.terms);
        let place = (has_record && may_run).then_some((of.running, of.turn, id));
        if of.place == place {
            return;
        }
        if let Some(before) = std::mem::replace(&mut of.place, place) {
            self.startable.remove(&before);
        }
        if let Some(place) = place {
            self.startable.insert(place);
        }
    }

    /// Forgets the limits of attempts that have ended when they are most of all: after one that takes long, there may be those of
    /// millions of short ones.
    fn forget_ended(&mut self) {
        for limits in [&mut self.limits, &mut self.reports] {
            if limits.len() > 2 * self.running + LIMITS_MIN {
                limits.retain(|(_, id)| self.jobs.is(*id, State::Running));
            }
        }
    }

    /// Leaves out of the limits the attempts that have ended.
    fn drop_ended(&mut self) {
        for limits in [&mut self.limits, &mut self.reports] {
            while limits.pop_front_if(|(_, id)| !self.jobs.is(*id, State::Running)).is_some() {}
        }
    }
}
