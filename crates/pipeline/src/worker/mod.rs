//! A worker: it reads the batches that it is given, calls the handler for their records as its schedule says, and tells what came of
//! each.
//!
//! ```text
//!  Inbox ─▶ lanes (cursors) ─▶ Schedule ─▶ Slots (futures) ─▶ Marks ─▶ the consumer's ledger
//!                                 ▲                 └─ failed ─▶ Retry ─▶ again, or aside
//!                                 └────────────────────────────────────────┘
//! ```
//!
//! It is one future, polled by one task. Decisions are the schedule's and the retry policy's.

mod aside;
mod inbox;
mod lane;
mod marks;
mod overdue;
mod slots;
mod unit;

use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use foldhash::fast::RandomState;
use milena::metrics::Histogram;
use milena::{ConsumerHandle, SharedBatch};
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;
use tokio::time::Sleep;
use tower_service::Service;

pub(crate) use self::inbox::Inbox;
pub(crate) use self::lane::{BATCH_BYTES, Share, Taken};
use self::lane::{Tail, WorkerLane};
use self::marks::Marks;
use self::slots::Slots;
use self::unit::Feed;
pub(crate) use self::unit::{Group, Unit};
use crate::aside::{Aside, Put};
use crate::control::Control;
use crate::error::PipelineError;
use crate::flow::Flow;
use crate::gather::{Gather, Together};
use crate::limit::{Limit, Sample};
use crate::permits::Permits;
use crate::record::Held;
use crate::retry::{Admission, Attempts, Next, Retry};
use crate::schedule::{Attempt, Item, Job, JobId, LaneId, Schedule, Terms, Verdict};
use crate::stats::{Left, Stall};
use crate::{Class, Failure};

/// What a worker is told.
pub(crate) enum Command {
    /// The next batch of a partition.
    Batch { route: Route, batch: SharedBatch, bytes: usize },
    /// A partition is given up. What is in work may take until the deadline; answers with what was left.
    Revoke { route: u64, deadline: Duration, reply: oneshot::Sender<Vec<Left>> },
    /// A record was put aside.
    Settled(JobId, Put),
    /// Look whether records may start.
    Wake,
}

/// A partition, or a part of its keys, on its way to one worker.
#[derive(Clone)]
pub(crate) struct Route {
    /// Its number. A partition that is assigned again has another one.
    pub(crate) number: u64,
    pub(crate) share: Share,
    pub(crate) held: Arc<Held>,
    pub(crate) flow: Arc<Flow>,
}

/// What all workers of a pipeline have in common.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) terms: Terms,
    pub(crate) together: Together,
    pub(crate) retry: Retry,
    /// Finds the number of permits, if it is not fixed.
    pub(crate) limit: Option<Arc<Mutex<Limit>>>,
    pub(crate) control: Arc<Control>,
    /// Counts how long attempts take, if the client counts.
    pub(crate) handler_times: Option<Arc<Histogram>>,
    pub(crate) aside: Arc<Aside>,
    /// The same for all workers, so that a key is one worker's.
    pub(crate) hasher: RandomState,
}

pub(crate) struct Worker<U: Unit, S: Work<U>> {
    service: S,
    common: Common,
    inbox: Arc<Inbox<Command>>,
    schedule: Schedule<U>,
    gather: Gather<Taken>,
    slots: Slots<S::Future, Command>,
    /// The slot of each job in work, by the job's index.
    slot_of: Vec<usize>,
    lanes: FxHashMap<LaneId, WorkerLane>,
    by_route: FxHashMap<u64, LaneId>,
    /// Lanes with batches that are not read to their end.
    unread: Vec<LaneId>,
    marks: Marks,
    permits: Permits,
    /// Permits that it has and does not use.
    idle_permits: usize,
    /// Whether it waits for a permit.
    wants_permit: bool,
    /// Whether the service was ready and was not called.
    is_reserved: bool,
    draining: Vec<Draining>,
    stalls: FxHashMap<JobId, Arc<Stall>>,
    timer: Pin<Box<Sleep>>,
    random: Dice,
    tally: Tally,
    sample: Sample,
    commands: Vec<Command>,
    ready: Vec<usize>,
    items: Vec<Item<Taken>>,
}

/// A service that processes units.
pub(crate) trait Work<U: Unit>:
    Service<U::Input, Response = (), Error = Failure, Future: Send + 'static> + Clone + Send + 'static
{
}

impl<U: Unit, S> Work<U> for S where
    S: Service<U::Input, Response = (), Error = Failure, Future: Send + 'static> + Clone + Send + 'static
{
}

/// A lane that is given up once its records have ended.
struct Draining {
    lane: LaneId,
    deadline: Duration,
    reply: oneshot::Sender<Vec<Left>>,
}

/// What was counted in this turn.
#[derive(Default)]
struct Tally {
    records: u64,
    finished: u64,
    failed_attempts: u64,
    retries: u64,
    expired: u64,
    moved: u64,
}

impl Tally {
    /// A record is started, which was tried so often before in other topics.
    fn begin(&mut self, attempts_before: u32) {
        match attempts_before {
            0 => self.records += 1,
            _ => self.retries += 1,
        }
    }
}

/// Records that start before other tasks of the runtime have their turn.
const TURN: usize = 512;
/// Or, if handlers compute before they wait, for so long, about. The futures that were woken meanwhile wait for it.
const TURN_TIME: Duration = Duration::from_millis(5);
/// Handlers may compute before they wait for something: the clock is read again after this many records.
const CLOCK: u64 = 16;
/// Records of a batch that are looked at in one go.
const CHUNK: usize = 128;

impl<U: Unit, S: Work<U>> Worker<U, S> {
    pub(crate) fn new(
        service: S,
        common: Common,
        permits: Permits,
        inbox: Arc<Inbox<Command>>,
        consumer: ConsumerHandle,
    ) -> Self {
        Self {
            service,
            schedule: Schedule::new(common.terms),
            gather: Gather::new(common.together, common.terms.order),
            slots: Slots::new(Arc::clone(&inbox)),
            slot_of: Vec::new(),
            lanes: FxHashMap::default(),
            by_route: FxHashMap::default(),
            unread: Vec::new(),
            marks: Marks::new(consumer),
            permits,
            idle_permits: 0,
            wants_permit: false,
            is_reserved: false,
            draining: Vec::new(),
            stalls: FxHashMap::default(),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            random: Dice::new(),
            tally: Tally::default(),
            sample: Sample::default(),
            commands: Vec::new(),
            ready: Vec::new(),
            items: Vec::new(),
            common,
            inbox,
        }
    }

    /// Works until it is dropped.
    pub(crate) async fn run(mut self) {
        // Handlers that are always ready would use up the task's budget of tokio, and all others would be woken for nothing.
        tokio::task::unconstrained(std::future::poll_fn(move |context| self.turn(context))).await;
    }

    fn turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let (mut commands, mut ready) = (std::mem::take(&mut self.commands), std::mem::take(&mut self.ready));
        self.inbox.take(&mut commands, &mut ready, context.waker());
        let now = self.common.control.now();
        for command in commands.drain(..) {
            self.handle(command, now);
        }
        for slot in ready.drain(..) {
            if let Some((job, result)) = self.slots.poll(slot) {
                self.handle_ended(job, result, now);
            }
        }
        (self.commands, self.ready) = (commands, ready);
        self.handle_overdue(now);
        U::feed_due(Feed { gather: &mut self.gather, schedule: &mut self.schedule }, now);
        let wanted_permit = std::mem::take(&mut self.wants_permit);
        let has_more = self.start_all(context, now);
        if std::mem::take(&mut self.is_reserved) {
            // It may hold a place in a limit that workers share. A clone does not.
            self.service = self.service.clone();
        }
        self.marks.flush(&mut self.lanes);
        self.end_drained(now);
        self.adjust(now);
        self.permits.give_back(std::mem::take(&mut self.idle_permits));
        if wanted_permit && !self.wants_permit {
            self.permits.want_none();
        }
        self.tell();
        if has_more {
            // The runtime looks at sockets and timers first. After a plain wake-up it may do so only after dozens of turns, and
            // handlers that wait for them would take as much longer.
            let _ = pin!(tokio::task::yield_now()).poll(context);
        } else {
            self.set_timer(context, now);
        }
        Poll::Pending
    }

    fn handle(&mut self, command: Command, now: Duration) {
        match command {
            Command::Batch { route, batch, bytes } => {
                let lane = *self.by_route.entry(route.number).or_insert_with(|| {
                    let Route { share, held, flow, .. } = route;
                    let id = self.schedule.handle_assigned(share.count as usize);
                    self.lanes.insert(id, WorkerLane::new(held, flow, share, self.common.hasher.clone()));
                    id
                });
                let of = self.lanes.get_mut(&lane).expect("a route's lane is there");
                if !of.has_more() {
                    self.unread.push(lane);
                }
                of.push(batch, bytes);
            }
            Command::Revoke { route, deadline, reply } => {
                let Some(lane) = self.by_route.remove(&route) else {
                    // No batch of it has come. The caller may have stopped waiting.
                    let _ = reply.send(Vec::new());
                    return;
                };
                self.schedule.handle_revoked(lane);
                self.gather.forget(lane);
                self.lanes.get_mut(&lane).expect("a route's lane is there").stop_reading();
                self.unread.retain(|id| *id != lane);
                self.draining.push(Draining { lane, deadline, reply });
                self.handle_overdue(now);
            }
            Command::Settled(job, put) => {
                let lane = self.schedule.job(job).map(|job| job.lane);
                if let (Some(item), Some(lane)) = (self.schedule.handle_settled(job), lane) {
                    self.tally.moved += u64::from(put == Put::InTier);
                    self.finish(lane, &item);
                }
            }
            Command::Wake => {}
        }
    }

    /// Starts what may start. Answers whether there is more.
    fn start_all(&mut self, context: &mut Context<'_>, began: Duration) -> bool {
        self.schedule.handle_alone(self.common.control.is_alone());
        self.schedule.handle_share(self.common.control.share());
        let (mut now, mut looked_at) = (began, 0);
        for _ in 0..TURN {
            let started = self.tally.records + self.tally.retries;
            if started >= TURN as u64 {
                break;
            }
            if started >= looked_at + CLOCK {
                looked_at = started;
                now = self.common.control.now();
                if now.saturating_sub(began) >= TURN_TIME {
                    break;
                }
            }
            let control = &self.common.control;
            if control.is_held() || control.is_stopping() {
                return false;
            }
            while !self.schedule.is_startable(now) {
                if !self.read(now) {
                    return false;
                }
            }
            if self.idle_permits > 0 && self.permits.is_wanted() {
                self.permits.give_back(std::mem::take(&mut self.idle_permits));
            }
            if self.idle_permits == 0 {
                if !self.permits.take(context.waker()) {
                    self.wants_permit = true;
                    return false;
                }
                self.idle_permits = 1;
            }
            if !self.is_handler_ready(context) {
                return false;
            }
            if !self.burst(context, now, began + TURN_TIME) {
                let Some(job) = self.schedule.poll_start(now) else { continue };
                self.start(job, now);
            }
        }
        true
    }

    fn is_handler_ready(&mut self, context: &mut Context<'_>) -> bool {
        match self.service.poll_ready(context) {
            Poll::Ready(Ok(())) => {
                self.is_reserved = true;
                true
            }
            Poll::Ready(Err(failure)) => {
                self.common.control.fail(PipelineError::handler(failure));
                false
            }
            Poll::Pending => false,
        }
    }

    /// Starts records as long as they end at once, until this time. Answers whether it has started any.
    fn burst(&mut self, context: &mut Context<'_>, now: Duration, until: Duration) -> bool {
        let Self { schedule, slots, service, lanes, marks, tally, is_reserved, common, .. } = self;
        let mut count = 0_u64;
        let stopped = schedule.burst(now, TURN, |lane, item| {
            let of = lanes.get(&lane).expect("a started record's lane is there");
            if of.pending(U::records(item)).is_some() {
                return Attempt::NotMade;
            }
            // The caller has asked before the first one.
            if count > 0 {
                let is_over = count.is_multiple_of(CLOCK) && common.control.now() >= until;
                if is_over || !matches!(service.poll_ready(context), Poll::Ready(Ok(()))) {
                    return Attempt::NotMade;
                }
            }
            count += 1;
            *is_reserved = false;
            U::records(item).iter().for_each(|record| tally.begin(of.attempts_before(record.record)));
            let input = item.record.input(of, 1);
            match slots.start(|| service.call(input)) {
                Ok(Ok(())) => {
                    let records = U::records(item);
                    tally.finished += records.len() as u64;
                    records.iter().for_each(|record| marks.done(lane, record, lanes));
                    Attempt::Ended
                }
                other => Attempt::Other(other),
            }
        });
        if let Some((job, outcome)) = stopped {
            self.handle_started(job, outcome, now);
        }
        count > 0
    }

    fn start(&mut self, job: Job<U>, now: Duration) {
        if let Some(history) = &job.history {
            let attempts = Attempts {
                calls: history.calls,
                elapsed: now.saturating_sub(history.since),
                last_delay: Some(history.delay),
            };
            match self.common.retry.admit(&attempts, &history.failure, now, self.random.roll()) {
                Admission::Now => self.tally.retries += 1,
                Admission::Later(wait) => {
                    self.schedule.handle_failed(job, Verdict::Postponed(wait), now);
                    return;
                }
                Admission::GiveUp(_) => return self.give_up(job, None, now),
            }
        }
        let lane = self.lanes.get(&job.lane).expect("a started job's lane is there");
        if !job.is_again {
            if let Some(due_ms) = lane.pending(U::records(&job.item)) {
                return self.follow(job, due_ms, now);
            }
            let tally = &mut self.tally;
            U::records(&job.item).iter().for_each(|record| tally.begin(lane.attempts_before(record.record)));
        }
        let input = job.item.record.input(lane, job.attempt());
        let service = &mut self.service;
        self.is_reserved = false;
        let outcome = self.slots.start(|| service.call(input));
        self.handle_started(job, outcome, now);
    }

    /// What the first look at the future of an attempt has shown: its result, or the slot in which it stays.
    fn handle_started(&mut self, job: Job<U>, outcome: Result<Result<(), Failure>, usize>, now: Duration) {
        match outcome {
            Ok(result) => self.settle(job, result, now),
            Err(slot) => {
                self.idle_permits -= 1;
                // What the handler has done so far took its time, and is not to be missing of its limit.
                let id = self.schedule.handle_pending(job, self.common.control.now());
                if self.slot_of.len() <= id.index() {
                    self.slot_of.resize(id.index() + 1, usize::MAX);
                }
                self.slot_of[id.index()] = slot;
                self.slots.assign(slot, id);
            }
        }
    }

    /// An attempt that was pending has ended.
    fn handle_ended(&mut self, id: JobId, result: Result<(), Failure>, now: Duration) {
        self.idle_permits += 1;
        self.end_stall(id);
        if let Some(job) = self.schedule.handle_ended(id) {
            self.sample.count += 1;
            let took = now.saturating_sub(job.began);
            self.sample.time += took;
            if let Some(times) = &self.common.handler_times {
                times.record_duration(took);
            }
            self.settle(job, result, now);
        }
    }

    /// Lets more or fewer records be in work, by how long they have taken.
    fn adjust(&mut self, now: Duration) {
        let sample = std::mem::take(&mut self.sample);
        let Some(limit) = self.common.limit.as_ref().filter(|_| sample.count > 0) else { return };
        let stalled = self.common.control.stalled();
        let running = self.permits.out().saturating_sub(self.idle_permits).saturating_sub(stalled);
        let changed = {
            let mut limit = limit.lock().unwrap_or_else(PoisonError::into_inner);
            limit.handle(Sample { running, ..sample }, now)
        };
        if changed.is_some() {
            self.set_limit();
        }
    }

    /// The number of places, if it is found, is what was found and those of records that hang.
    fn set_limit(&self) {
        let Some(limit) = &self.common.limit else { return };
        let limit = limit.lock().unwrap_or_else(PoisonError::into_inner);
        let records = limit.beside(self.common.control.stalled());
        // Under the lock: of two workers the one that came later sets it later.
        self.permits.set_limit(records);
        self.common.control.set_concurrency(records);
    }

    fn settle(&mut self, job: Job<U>, result: Result<(), Failure>, now: Duration) {
        let failure = match result {
            Ok(()) => {
                if job.history.is_some() {
                    self.common.retry.retry_succeeded(now);
                }
                let lane = job.lane;
                let item = self.schedule.handle_done(job);
                return self.finish(lane, &item);
            }
            Err(failure) => failure,
        };
        self.tally.failed_attempts += 1;
        let is_of_record = failure.is_counted() && self.common.retry.class(&failure) != Class::Fatal;
        if is_of_record && let Some(records) = U::split(&job.item) {
            // One record of a group may be the cause, and the others have nothing to do with it.
            return self.schedule.handle_split(job, records);
        }
        let attempts = Attempts {
            calls: job.attempt(),
            elapsed: now.saturating_sub(job.since()),
            last_delay: job.history.as_ref().map(|history| history.delay),
        };
        let tier = self.lanes.get(&job.lane).and_then(|lane| lane.held.tier.as_ref());
        let is_last = failure.is_counted() && tier.is_some_and(|tier| attempts.calls >= tier.attempts);
        // One that came here to wait for another has not had its attempts.
        let is_last = is_last && !self.has_only_waited(&job);
        match self.common.retry.next(&attempts, &failure, self.random.roll()) {
            Next::After(delay) if !is_last => {
                let is_counted = failure.is_counted();
                let verdict =
                    if is_counted { Verdict::Again(delay, failure) } else { Verdict::Postponed(delay) };
                self.schedule.handle_failed(job, verdict, now);
            }
            Next::After(_) | Next::GiveUp(_) => {
                let class = self.common.retry.class(&failure);
                self.give_up(job, Some(failure.with_class(class)), now);
            }
            Next::Stop => self.stop_at(job, failure, now),
        }
    }

    /// A record is finished, whatever came of it.
    fn finish(&mut self, lane: LaneId, item: &Item<U>) {
        let records = U::records(item);
        self.tally.finished += records.len() as u64;
        for record in records {
            self.marks.done(lane, record, &mut self.lanes);
        }
    }

    /// Reads the lanes that have few records left. Answers whether any was read.
    fn read(&mut self, now: Duration) -> bool {
        let mut has_read = false;
        let mut index = 0;
        while let Some(id) = self.unread.get(index).copied() {
            let lane = self.lanes.get_mut(&id).expect("an unread lane is there");
            if !self.schedule.is_hungry(id) || !lane.is_open() {
                index += 1;
                continue;
            }
            has_read = true;
            let tail = lane.read(self.common.terms.order, CHUNK, &self.common.control, &mut self.items);
            if lane.has_more() {
                index += 1;
            } else {
                self.unread.swap_remove(index);
            }
            if let Some(Tail(part)) = tail {
                self.marks.done_part(part, lane);
            }
            let feed = Feed { gather: &mut self.gather, schedule: &mut self.schedule };
            U::feed(feed, id, &mut self.items, now);
        }
        has_read
    }

    /// Ends the lanes that were given up and have nothing in work, or whose time is over.
    fn end_drained(&mut self, now: Duration) {
        let mut index = 0;
        while let Some(draining) = self.draining.get(index) {
            if !self.schedule.is_drained(draining.lane) && now < draining.deadline {
                index += 1;
                continue;
            }
            let Draining { lane, reply, .. } = self.draining.swap_remove(index);
            let of = self.lanes.remove(&lane);
            if let Some(of) = &of {
                of.held.cancelled.cancel();
            }
            let mut left = Vec::new();
            let gone = self.schedule.handle_gone(lane);
            for id in gone.running {
                self.slots.cancel(self.slot_of[id.index()]);
                self.idle_permits += 1;
                self.end_stall(id);
            }
            if let Some(of) = &of {
                let records = gone.left.iter().flat_map(U::records);
                left.extend(records.map(|record| Left::of(&of.record(record.record))));
            }
            left.sort();
            let _ = reply.send(left);
        }
    }

    /// Wakes this again when something is due.
    fn set_timer(&mut self, context: &mut Context<'_>, now: Duration) {
        let drained = self.draining.iter().map(|draining| draining.deadline).min();
        let at = [self.schedule.poll_timeout(now), self.gather.poll_timeout(), drained];
        let Some(at) = at.into_iter().flatten().min() else { return };
        let at = self.common.control.at(at);
        if self.timer.deadline() != at || self.timer.is_elapsed() {
            self.timer.as_mut().reset(at);
        }
        if self.timer.as_mut().poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
    }

    fn tell(&mut self) {
        let Tally { records, finished, failed_attempts, retries, expired, moved } =
            std::mem::take(&mut self.tally);
        let counts = &self.common.control.counts;
        for (counter, count) in [
            (&counts.records, records),
            // Offsets of records that wait in a retry topic are finished, but those who count records find them there.
            (&counts.finished, finished - moved),
            (&counts.moved, moved),
            (&counts.failed_attempts, failed_attempts),
            (&counts.retries, retries),
            (&counts.expired, expired),
        ] {
            if count > 0 {
                counter.fetch_add(count, Ordering::Relaxed);
            }
        }
        if records > 0 {
            self.common.retry.first_calls(records, self.common.control.now());
        }
    }
}

/// Random numbers for jitter (splitmix64). They need not be good, only different in each process.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        use std::hash::{BuildHasher, RandomState};
        Self(RandomState::new().hash_one(0_u8))
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl<U: Unit, S: Work<U>> Drop for Worker<U, S> {
    fn drop(&mut self) {
        self.inbox.close();
        // Tasks that handlers have spawned learn that they work for nobody, and what is being put aside is left.
        for lane in self.lanes.values() {
            lane.held.cancelled.cancel();
        }
    }
}
