//! Random schedules: whatever records do and whenever partitions come and go, none is skipped, none is in work twice, and the
//! order holds, also when several workers have a part of a partition's keys each, and when records are processed in groups.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::gather::{Gather, Together};

/// A small generator, so that a seed gives the same schedule everywhere (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}

/// A record of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Of {
    partition: usize,
    offset: i64,
    key: u64,
    due: Duration,
}

/// A partition, as its log and its group see it.
#[derive(Default)]
struct Partition {
    /// The key of each record; none where compaction has removed it.
    log: Vec<Option<u64>>,
    /// The workers that have a part of its keys each, and their lanes. None while it is not assigned.
    lanes: Vec<(usize, LaneId)>,
    /// It is given up, and what is in work may still end.
    is_revoked: bool,
    /// The next record that each worker is given.
    position: Vec<usize>,
    /// Offsets that are done, as the consumer's ledger has them.
    done: BTreeSet<i64>,
    committed: i64,
    /// The committed offset when it was assigned.
    assigned: i64,
    /// How often each record was tried since it was assigned.
    calls: BTreeMap<i64, u32>,
}

impl Partition {
    /// The lowest offset that is not done.
    fn lowest(&self) -> i64 {
        (0..).find(|offset| !self.done.contains(offset)).unwrap_or(0)
    }
}

/// Offsets of a batch.
const BATCH: usize = 3;

/// A job of one of the workers.
type Id = (usize, JobId);

/// What a handler is called with: a record, or a group of them.
type Unit = Vec<Item<Of>>;

/// A unit of work, as workers make them.
fn unit(records: Vec<Item<Of>>, shard: u64) -> Item<Unit> {
    let (from, end) = (records[0].from, records[0].end);
    let due = records.iter().map(|item| item.due).max().unwrap_or_default();
    Item { record: records, shard, from, end, due }
}

fn records(of: &[Item<Of>]) -> Vec<Of> {
    of.iter().map(|item| item.record).collect()
}

struct World {
    dice: Dice,
    terms: Terms,
    now: Duration,
    workers: Vec<Schedule<Unit>>,
    /// The groups of each worker that are not full, if records are processed in groups.
    gathers: Vec<Gather<Of>>,
    partitions: Vec<Partition>,
    running: BTreeMap<Id, Vec<Of>>,
    aside: BTreeMap<Id, Of>,
    /// Records that are tried again, and not before this time.
    delayed: BTreeMap<(usize, i64), Duration>,
    /// Numbers of jobs that have ended.
    past: Vec<Id>,
    /// Records at which the pipeline was to stop.
    left: Vec<Of>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let order = [Order::Key, Order::Partition, Order::None][dice.roll(3) as usize];
        let terms = Terms {
            order,
            time_limit: (dice.roll(2) == 0).then(|| Duration::from_millis(1 + dice.roll(50))),
            report_after: Duration::from_millis(1 + dice.roll(50)),
            waiting_max: 1 + dice.roll(6) as usize,
            lane_running_max: 1 + dice.roll(4) as usize,
        };
        let keys = 1 + dice.roll(4);
        let mut partition = || {
            let length = dice.roll(12);
            let log = (0..length).map(|_| (dice.roll(8) > 0).then(|| dice.roll(keys))).collect();
            Partition { log, ..Partition::default() }
        };
        let count = 1 + partition().log.len() % 3;
        let partitions = (0..count).map(|_| partition()).collect();
        let workers: Vec<_> = (0..=dice.roll(3)).map(|_| Schedule::new(terms)).collect();
        let mut gathers = Vec::new();
        if dice.roll(2) == 0 {
            let together = Together::up_to(1 + dice.roll(4) as usize);
            let together = together.within(Duration::from_millis(dice.roll(30)));
            let together = if dice.roll(2) == 0 { together.by_key() } else { together };
            gathers.extend(workers.iter().map(|_| Gather::new(together, order)));
        }
        Self {
            terms,
            now: Duration::ZERO,
            workers,
            gathers,
            partitions,
            running: BTreeMap::new(),
            aside: BTreeMap::new(),
            delayed: BTreeMap::new(),
            past: Vec::new(),
            left: Vec::new(),
            dice,
        }
    }

    fn step(&mut self) {
        match self.dice.roll(14) {
            0 => {
                let index = self.partition();
                self.assign(index);
            }
            1 | 2 => self.feed(),
            3..=6 => {
                let worker = self.dice.roll(self.workers.len() as u64) as usize;
                if self.dice.roll(2) == 0 { self.start(worker) } else { self.burst(worker) }
            }
            7 | 8 => self.end(),
            9 => self.settle(),
            10 => {
                self.now += Duration::from_millis(self.dice.roll(20));
                self.expire();
                self.end_groups();
            }
            11 => {
                let is_alone = self.dice.roll(2) == 0;
                self.workers.iter_mut().for_each(|worker| worker.handle_alone(is_alone));
                if self.dice.roll(3) == 0 {
                    self.terms.lane_running_max = 1 + self.dice.roll(4) as usize;
                    let share = self.terms.lane_running_max;
                    self.workers.iter_mut().for_each(|worker| worker.handle_share(share));
                }
            }
            12 if self.dice.roll(4) == 0 => {
                let index = self.partition();
                self.revoke(index);
            }
            12 => self.end_revoked(),
            _ => {
                self.commit();
                self.tell_late();
            }
        }
        self.check();
    }

    fn partition(&mut self) -> usize {
        self.dice.roll(self.partitions.len() as u64) as usize
    }

    fn assign(&mut self, index: usize) {
        if !self.partitions[index].lanes.is_empty() {
            return;
        }
        // One worker has a partition whose records are in order.
        let most = if self.terms.order == Order::Partition { 1 } else { self.workers.len() as u64 };
        let count = 1 + self.dice.roll(most) as usize;
        let first = self.dice.roll(self.workers.len() as u64) as usize;
        let workers = self.workers.len();
        let chosen = (0..count).map(|number| (first + number) % workers);
        let lanes = chosen.map(|worker| (worker, self.workers[worker].handle_assigned(count))).collect();
        let of = &mut self.partitions[index];
        of.lanes = lanes;
        of.position = vec![of.committed as usize; count];
        of.calls.clear();
        of.assigned = of.committed;
    }

    /// One of a partition's workers reads its next batch, which has the same offsets for all of them.
    fn feed(&mut self) {
        let index = self.partition();
        let due = match self.dice.roll(3) {
            0 => self.now + Duration::from_millis(self.dice.roll(60)),
            _ => Duration::ZERO,
        };
        let of = &mut self.partitions[index];
        if of.lanes.is_empty() || of.is_revoked {
            return;
        }
        let part = self.dice.roll(of.lanes.len() as u64) as usize;
        let mut items = Vec::new();
        let mut from = of.position[part] as i64;
        let end = of.log.len().min((of.position[part] / BATCH + 1) * BATCH);
        let batch = std::mem::replace(&mut of.position[part], end)..end;
        for offset in batch {
            let Some(key) = of.log[offset] else { continue };
            let offset = offset as i64;
            // Two keys of four may be in one group.
            let of_key = key % 2 + key / 2 * 64;
            let shard = if self.terms.order == Order::None { offset as u64 } else { of_key };
            let is_mine = shard % of.lanes.len() as u64 == part as u64;
            // What the ledger knew to be done is not delivered again.
            if is_mine && !of.done.contains(&offset) {
                let record = Of { partition: index, offset, key, due };
                items.push(Item { record, shard, from, end: offset + 1, due });
            }
            from = offset + 1;
        }
        // The holes at the batch's end are the first one's.
        if part == 0 {
            of.done.extend(from..end as i64);
        }
        let (worker, lane) = of.lanes[part];
        let Some(gather) = self.gathers.get_mut(worker) else {
            let units = items.into_iter().map(|item| {
                let shard = item.shard;
                unit(vec![item], shard)
            });
            return self.workers[worker].handle_records(lane, units);
        };
        for item in items {
            if let Some((bucket, records)) = gather.handle(lane, item, self.now) {
                self.workers[worker].handle_records(lane, [unit(records, bucket)]);
            }
        }
    }

    /// Groups that have waited for long enough may start.
    fn end_groups(&mut self) {
        for (gather, worker) in self.gathers.iter_mut().zip(&mut self.workers) {
            while let Some((lane, bucket, records)) = gather.poll(self.now) {
                worker.handle_records(lane, [unit(records, bucket)]);
            }
        }
    }

    fn start(&mut self, worker: usize) {
        let is_startable = self.workers[worker].is_startable(self.now);
        let Some(job) = self.workers[worker].poll_start(self.now) else { return };
        assert!(is_startable);
        self.check_start(worker, job.lane, &records(&job.item.record), Some(&job));
        if job.is_again && self.dice.roll(4) == 0 {
            // It is not admitted yet.
            self.take_back(&records(&job.item.record));
            return self.again(worker, job, Verdict::Postponed);
        }
        if self.dice.roll(4) == 0 {
            let item = self.workers[worker].handle_done(job);
            return self.finish(&item.record);
        }
        self.go_on(worker, job);
    }

    /// Starts records in a row, until one of them does not end at once.
    fn burst(&mut self, worker: usize) {
        let (count, now) = (1 + self.dice.roll(4) as usize, self.now);
        let mut schedule = std::mem::replace(&mut self.workers[worker], Schedule::new(self.terms));
        let stopped = schedule.burst(now, count, |lane, item| {
            if self.dice.roll(5) == 0 {
                return Attempt::NotMade;
            }
            self.check_start(worker, lane, &records(&item.record), None);
            if self.dice.roll(3) > 0 {
                self.finish(&item.record);
                return Attempt::Ended;
            }
            Attempt::Other(())
        });
        self.workers[worker] = schedule;
        if let Some((job, ())) = stopped {
            self.go_on(worker, job);
        }
    }

    /// The first look at an attempt did not show a success.
    fn go_on(&mut self, worker: usize, job: Job<Unit>) {
        if self.dice.roll(3) == 0 {
            return self.fail(worker, job);
        }
        let of = records(&job.item.record);
        let parts = self.partitions[of[0].partition].lanes.len();
        let lane = &self.workers[worker].lanes[&job.lane];
        let most = (self.terms.lane_running_max / parts).max(1);
        assert!(self.workers[worker].is_alone || lane.running < most, "{} of one lane", lane.running);
        let id = self.workers[worker].handle_pending(job, self.now);
        assert!(self.running.insert((worker, id), of).is_none());
    }

    /// Records start; `job` is known unless it is the first attempt at them.
    fn check_start(&mut self, worker: usize, lane: LaneId, unit: &[Of], job: Option<&Job<Unit>>) {
        let is_again = job.is_some_and(|job| job.is_again);
        for (index, of) in unit.iter().enumerate() {
            let partition = &self.partitions[of.partition];
            assert!(
                partition.lanes.contains(&(worker, lane)) && !partition.is_revoked,
                "a record of a partition that was given up"
            );
            assert!(of.due <= self.now, "{of:?} starts at {:?}", self.now);
            assert!(!partition.done.contains(&of.offset), "{of:?} is done and starts again");
            let same = |other: &Of| match self.terms.order {
                Order::Key => (other.partition, other.key) == (of.partition, of.key),
                Order::Partition => other.partition == of.partition,
                Order::None => (other.partition, other.offset) == (of.partition, of.offset),
            };
            let mut in_work = self.running.values().flatten().chain(self.aside.values()).chain(&self.left);
            assert!(!in_work.any(same), "{of:?} starts beside one that it has to wait for");
            if self.terms.order != Order::None {
                let earlier = (partition.assigned..of.offset).filter(|offset| {
                    let key = partition.log[*offset as usize];
                    key.is_some_and(|key| same(&Of { offset: *offset, key, ..*of }))
                });
                for earlier in earlier {
                    let is_before_it = unit[..index].iter().any(|other| other.offset == earlier);
                    assert!(
                        is_before_it || partition.done.contains(&earlier),
                        "{of:?} starts before {earlier} is finished"
                    );
                }
            }
            let not_before = self.delayed.remove(&(of.partition, of.offset));
            assert!(not_before.is_none_or(|at| at <= self.now), "{of:?} is tried again too early");
            assert_eq!(not_before.is_some(), is_again, "another attempt at {of:?} that nobody asked for");
            let calls = self.partitions[of.partition].calls.entry(of.offset).or_default();
            *calls += 1;
            assert_eq!(job.map_or(1, Job::attempt), *calls, "the number of the attempt");
        }
    }

    /// What was begun does not count as an attempt.
    fn take_back(&mut self, of: &[Of]) {
        for of in of {
            *self.partitions[of.partition].calls.get_mut(&of.offset).expect("it was tried") -= 1;
        }
    }

    fn again(&mut self, worker: usize, job: Job<Unit>, verdict: impl Fn(Duration) -> Verdict) {
        let of = records(&job.item.record);
        let delay = Duration::from_millis(self.dice.roll(30));
        self.workers[worker].handle_failed(job, verdict(delay), self.now);
        if self.partitions[of[0].partition].is_revoked {
            self.left.extend(of);
        } else {
            let at = self.now + delay;
            self.delayed.extend(of.iter().map(|of| ((of.partition, of.offset), at)));
        }
    }

    fn fail(&mut self, worker: usize, job: Job<Unit>) {
        let of = records(&job.item.record);
        match self.dice.roll(9) {
            3 if self.dice.roll(4) == 0 => {
                assert!(self.workers[worker].handle_failed(job, Verdict::Left, self.now).is_none());
                self.left.extend(of);
            }
            4 => {
                self.take_back(&of);
                self.again(worker, job, Verdict::Postponed);
            }
            // One of a group may be bad: its records are tried one by one, as if they had not been tried.
            _ if of.len() > 1 => {
                self.take_back(&of);
                let alone = job.item.record.iter().map(|item| unit(vec![item.clone()], job.item.shard));
                let alone = alone.collect();
                self.workers[worker].handle_split(job, alone);
                if self.partitions[of[0].partition].is_revoked {
                    self.left.extend(of);
                }
            }
            0..3 => {
                let id = self.workers[worker].handle_failed(job, Verdict::Aside, self.now).expect("a number");
                self.aside.insert((worker, id), of[0]);
            }
            _ => self.again(worker, job, |delay| Verdict::Again(delay, Failure::retriable("again"))),
        }
    }

    fn end(&mut self) {
        let Some(id) = self.any(|world| world.running.keys().copied().collect()) else { return };
        self.running.remove(&id);
        self.past.push(id);
        let (worker, id) = id;
        let job = self.workers[worker].handle_ended(id).expect("a running job has ended");
        if self.dice.roll(3) > 0 {
            let item = self.workers[worker].handle_done(job);
            self.finish(&item.record);
        } else {
            self.fail(worker, job);
        }
    }

    /// What is told late, or of the wrong thing, changes nothing.
    fn tell_late(&mut self) {
        for (worker, id) in self.past.iter().chain(self.aside.keys()) {
            assert!(self.workers[*worker].handle_ended(*id).is_none(), "an attempt ends twice");
        }
        for (worker, id) in self.past.iter().chain(self.running.keys()) {
            assert!(self.workers[*worker].handle_settled(*id).is_none(), "a record is settled twice");
        }
    }

    fn settle(&mut self) {
        let Some(id) = self.any(|world| world.aside.keys().copied().collect()) else { return };
        self.aside.remove(&id);
        self.past.push(id);
        let item = self.workers[id.0].handle_settled(id.1).expect("it was put aside");
        self.finish(&item.record);
    }

    fn expire(&mut self) {
        for worker in 0..self.workers.len() {
            while let Some(overdue) = self.workers[worker].poll_overdue(self.now) {
                let (Overdue::Expired(id) | Overdue::Slow(id)) = overdue;
                assert!(self.running.contains_key(&(worker, id)), "{overdue:?} is not running");
                if matches!(overdue, Overdue::Expired(_)) {
                    self.running.remove(&(worker, id));
                    self.past.push((worker, id));
                    let job = self.workers[worker].handle_ended(id).expect("it is running");
                    self.fail(worker, job);
                }
            }
            let timeout = self.workers[worker].poll_timeout(self.now);
            assert!(timeout.is_none_or(|at| at > self.now), "it would be woken without end");
        }
    }

    /// A partition is revoked: what is in work may end.
    fn revoke(&mut self, index: usize) {
        let of = &mut self.partitions[index];
        if of.lanes.is_empty() || of.is_revoked {
            return;
        }
        of.is_revoked = true;
        for (worker, lane) in of.lanes.clone() {
            self.workers[worker].handle_revoked(lane);
            if let Some(gather) = self.gathers.get_mut(worker) {
                gather.forget(lane);
            }
        }
        for (partition, offset) in self.delayed.keys() {
            let key = self.partitions[*partition].log[*offset as usize].expect("it is a record");
            if *partition == index {
                self.left.push(Of { partition: index, offset: *offset, key, due: Duration::ZERO });
            }
        }
        self.delayed.retain(|(partition, _), _| *partition != index);
    }

    /// A partition that was revoked is drained and committed, or its time is over, or it is lost, or the program has crashed.
    fn end_revoked(&mut self) {
        let index = self.partition();
        if !self.partitions[index].is_revoked {
            return;
        }
        let in_work = self.running.values().flatten().chain(self.aside.values());
        let is_drained = !in_work.clone().any(|of| of.partition == index);
        let mut expected: Vec<i64> =
            in_work.chain(&self.left).filter(|of| of.partition == index).map(|of| of.offset).collect();
        let mut left = Vec::new();
        let of = &mut self.partitions[index];
        let lanes = std::mem::take(&mut of.lanes);
        let all = lanes.iter().all(|(worker, lane)| self.workers[*worker].is_drained(*lane));
        assert_eq!(all, is_drained);
        for (worker, lane) in lanes {
            let gone = self.workers[worker].handle_gone(lane);
            for id in gone.running {
                assert!(self.running.remove(&(worker, id)).is_some_and(|of| of[0].partition == index));
                self.past.push((worker, id));
            }
            left.extend(gone.left.iter().flat_map(|of| &of.record).map(|of| of.record.offset));
        }
        left.sort_unstable();
        expected.sort_unstable();
        assert_eq!(left, expected, "what was tried and left");
        assert!(
            self.running.values().flatten().all(|of| of.partition != index),
            "a future that nobody drops"
        );
        self.aside.retain(|_, of| of.partition != index);
        self.left.retain(|of| of.partition != index);
        of.is_revoked = false;
        if self.dice.roll(2) == 0 {
            of.committed = of.lowest();
        } else {
            // What was done and not committed is forgotten, and done again.
            let committed = of.committed;
            of.done.retain(|offset| *offset < committed);
        }
    }

    fn commit(&mut self) {
        for of in self.partitions.iter_mut().filter(|of| !of.lanes.is_empty()) {
            of.committed = of.lowest();
        }
    }

    fn finish(&mut self, unit: &[Item<Of>]) {
        for item in unit {
            let of = &mut self.partitions[item.record.partition];
            assert!(!of.lanes.is_empty());
            for hole in item.from..item.end - 1 {
                // An earlier owner may have marked the records between.
                let is_mine = of.log[hole as usize].is_some() && !of.done.contains(&hole);
                assert!(!is_mine, "{hole} is finished with {:?}", item.record);
                of.done.insert(hole);
            }
            assert!(of.done.insert(item.end - 1), "{:?} is finished twice", item.record);
        }
    }

    fn check(&self) {
        let running: usize = self.workers.iter().map(Schedule::running).sum();
        assert_eq!(running, self.running.len());
        for (index, of) in self.partitions.iter().enumerate() {
            let in_work = self.running.values().flatten().chain(self.aside.values());
            for of_work in in_work.filter(|of_work| of_work.partition == index) {
                assert!(of.committed <= of_work.offset, "{of_work:?} is in work and committed");
            }
            assert!(of.committed <= of.lowest());
        }
    }

    /// Nothing fails and nothing is given up any more: in the end all is done, and nothing is remembered.
    fn finish_all(&mut self) {
        for index in 0..self.partitions.len() {
            if self.left.iter().any(|of| of.partition == index) {
                self.revoke(index);
            }
        }
        for _ in 0..10_000 {
            self.end_revoked();
            for index in 0..self.partitions.len() {
                self.assign(index);
            }
            self.feed();
            self.now += Duration::from_millis(40);
            self.end_groups();
            for worker in 0..self.workers.len() {
                while let Some(job) = self.workers[worker].poll_start(self.now) {
                    self.check_start(worker, job.lane, &records(&job.item.record), Some(&job));
                    let item = self.workers[worker].handle_done(job);
                    self.finish(&item.record);
                }
            }
            for (worker, id) in std::mem::take(&mut self.running).into_keys() {
                let job = self.workers[worker].handle_ended(id).expect("it is running");
                let item = self.workers[worker].handle_done(job);
                self.finish(&item.record);
            }
            for (worker, id) in std::mem::take(&mut self.aside).into_keys() {
                let item = self.workers[worker].handle_settled(id).expect("it was put aside");
                self.finish(&item.record);
            }
            let is_read = |of: &Partition| of.position.iter().all(|position| *position == of.log.len());
            let is_idle = |of: &Schedule<Unit>| of.startable.is_empty() && of.dues.is_empty();
            let is_idle = self.delayed.is_empty() && self.workers.iter().all(is_idle);
            let is_idle = is_idle && self.gathers.iter_mut().all(|of| of.poll_timeout().is_none());
            if is_idle && self.partitions.iter().all(|of| !of.is_revoked && is_read(of)) {
                let lowest: Vec<_> = self.partitions.iter().map(Partition::lowest).collect();
                let ends: Vec<_> = self.partitions.iter().map(|of| of.log.len() as i64).collect();
                assert_eq!(lowest, ends, "all is read, nothing is in work, and records are left");
                for worker in &self.workers {
                    assert!(worker.shards.is_empty() && worker.startable.is_empty());
                    assert!(worker.jobs.iter().next().is_none());
                    assert!(
                        worker
                            .lanes
                            .values()
                            .all(|of| (of.waiting, of.delayed, of.aside, of.running) == (0, 0, 0, 0))
                    );
                }
                return;
            }
        }
        panic!("records are left: {:?}", self.partitions.iter().map(Partition::lowest).collect::<Vec<_>>());
    }

    fn any(&mut self, among: impl Fn(&Self) -> Vec<Id>) -> Option<Id> {
        let ids = among(self);
        let index = self.dice.roll(ids.len().max(1) as u64) as usize;
        ids.get(index).copied()
    }
}

/// `MILENA_SCHEDULES=1000000 cargo test --release -p milena-pipeline random_schedules` is the long form.
#[test]
fn random_schedules_skip_nothing_and_keep_the_order() {
    let setting = std::env::var("MILENA_SCHEDULES").ok();
    let count: u64 = setting.map_or(5_000, |count| count.parse().expect("a number of schedules"));
    for seed in 0..count {
        let played = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..80 {
                world.step();
            }
            world.finish_all();
        });
        assert!(played.is_ok(), "seed {seed}");
    }
}
