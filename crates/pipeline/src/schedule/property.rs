//! Random schedules: whatever records do and whenever partitions come and go, none is skipped, none is in work twice, and the
//! order holds.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

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
    lane: Option<LaneId>,
    /// The next record that the worker is given.
    position: usize,
    /// Offsets that are done, as the consumer's ledger has them.
    done: BTreeSet<i64>,
    committed: i64,
    /// The last offset that was started of each key since the partition was assigned, unless it was another attempt.
    last: BTreeMap<u64, i64>,
}

impl Partition {
    /// The lowest offset that is not done.
    fn lowest(&self) -> i64 {
        (0..).find(|offset| !self.done.contains(offset)).unwrap_or(0)
    }
}

struct World {
    dice: Dice,
    order: Order,
    now: Duration,
    schedule: Schedule<Of>,
    partitions: Vec<Partition>,
    running: BTreeMap<JobId, Of>,
    aside: BTreeMap<JobId, Of>,
    delayed: BTreeSet<(usize, i64)>,
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
        Self {
            order,
            now: Duration::ZERO,
            schedule: Schedule::new(terms),
            partitions,
            running: BTreeMap::new(),
            aside: BTreeMap::new(),
            delayed: BTreeSet::new(),
            dice,
        }
    }

    fn step(&mut self) {
        match self.dice.roll(12) {
            0 => self.assign(),
            1 | 2 => self.feed(),
            3..=6 => self.start(),
            7 | 8 => self.end(),
            9 => self.settle(),
            10 => {
                self.now += Duration::from_millis(self.dice.roll(20));
                self.expire();
            }
            _ if self.dice.roll(4) == 0 => self.give_up(),
            _ => self.commit(),
        }
        self.check();
    }

    fn assign(&mut self) {
        let index = self.dice.roll(self.partitions.len() as u64) as usize;
        let of = &mut self.partitions[index];
        if of.lane.is_none() {
            of.lane = Some(self.schedule.handle_assigned());
            of.position = of.committed as usize;
            of.last.clear();
        }
    }

    fn feed(&mut self) {
        let index = self.dice.roll(self.partitions.len() as u64) as usize;
        let count = 1 + self.dice.roll(5);
        let due = match self.dice.roll(3) {
            0 => self.now + Duration::from_millis(self.dice.roll(60)),
            _ => Duration::ZERO,
        };
        let of = &mut self.partitions[index];
        let Some(lane) = of.lane else { return };
        let mut items = Vec::new();
        let mut from = of.position as i64;
        for _ in 0..count {
            let Some(key) = of.log.get(of.position) else { break };
            let offset = of.position as i64;
            of.position += 1;
            let Some(key) = *key else { continue };
            // What the ledger knew to be done is not delivered again.
            if of.done.contains(&offset) {
                from = offset + 1;
                continue;
            }
            items.push(Item {
                record: Of { partition: index, offset, key, due },
                shard: key,
                from,
                end: offset + 1,
                due,
            });
            from = offset + 1;
        }
        if from < of.position as i64 {
            of.done.extend(from..of.position as i64);
        }
        self.schedule.handle_records(lane, items);
    }

    fn start(&mut self) {
        let Some(job) = self.schedule.poll_start(self.now) else { return };
        let of = job.item.record;
        assert_eq!(
            self.partitions[of.partition].lane,
            Some(job.lane),
            "a record of a partition that was given up"
        );
        assert!(of.due <= self.now, "{of:?} starts at {:?}", self.now);
        let same = |other: &Of| match self.order {
            Order::Key => (other.partition, other.key) == (of.partition, of.key),
            Order::Partition => other.partition == of.partition,
            Order::None => (other.partition, other.offset) == (of.partition, of.offset),
        };
        let in_work = self.running.values().chain(self.aside.values());
        assert!(!in_work.clone().any(same), "{of:?} starts beside one that it has to wait for");
        if job.attempt() > 1 {
            assert!(self.delayed.remove(&(of.partition, of.offset)), "another attempt that nobody asked for");
        } else {
            let partition = &mut self.partitions[of.partition];
            assert!(!partition.done.contains(&of.offset), "{of:?} is done and starts again");
            let key = if self.order == Order::Partition { 0 } else { of.key };
            if self.order != Order::None {
                let last = partition.last.insert(key, of.offset);
                assert!(last.is_none_or(|last| last < of.offset), "{of:?} starts after {last:?}");
            }
        }
        match self.dice.roll(4) {
            0 => {
                let item = self.schedule.handle_done(job);
                self.finish(&item);
            }
            1 => self.fail(job),
            _ => {
                let id = self.schedule.handle_pending(job, self.now);
                assert!(self.running.insert(id, of).is_none());
            }
        }
    }

    fn end(&mut self) {
        let Some(id) = self.any(|world| world.running.keys().copied().collect()) else { return };
        self.running.remove(&id);
        let job = self.schedule.handle_ended(id).expect("a running job has ended");
        if self.dice.roll(3) > 0 {
            let item = self.schedule.handle_done(job);
            self.finish(&item);
        } else {
            self.fail(job);
        }
    }

    fn fail(&mut self, job: Job<Of>) {
        let of = job.item.record;
        if self.dice.roll(3) == 0 {
            let id = self.schedule.handle_failed(job, Verdict::Aside, self.now).expect("a number");
            self.aside.insert(id, of);
        } else {
            let delay = Duration::from_millis(self.dice.roll(30));
            self.schedule.handle_failed(job, Verdict::Again(delay, Failure::retriable("again")), self.now);
            self.delayed.insert((of.partition, of.offset));
        }
    }

    fn settle(&mut self) {
        let Some(id) = self.any(|world| world.aside.keys().copied().collect()) else { return };
        self.aside.remove(&id);
        let item = self.schedule.handle_settled(id).expect("it was put aside");
        self.finish(&item);
    }

    fn expire(&mut self) {
        while let Some(overdue) = self.schedule.poll_overdue(self.now) {
            let (Overdue::Expired(id) | Overdue::Slow(id)) = overdue;
            assert!(self.running.contains_key(&id), "{overdue:?} is not running");
            if matches!(overdue, Overdue::Expired(_)) {
                self.running.remove(&id);
                let job = self.schedule.handle_ended(id).expect("it is running");
                self.fail(job);
            }
        }
    }

    /// A partition is revoked and drained, or lost, or the program has crashed.
    fn give_up(&mut self) {
        let index = self.dice.roll(self.partitions.len() as u64) as usize;
        let Some(lane) = self.partitions[index].lane else { return };
        self.schedule.handle_revoked(lane);
        self.delayed.retain(|(partition, _)| *partition != index);
        let is_drained = self.dice.roll(2) == 0;
        if is_drained {
            for id in self.running.keys().copied().collect::<Vec<_>>() {
                if self.running[&id].partition == index {
                    self.running.remove(&id);
                    let job = self.schedule.handle_ended(id).expect("it is running");
                    let item = self.schedule.handle_done(job);
                    self.finish(&item);
                }
            }
            for id in self.aside.keys().copied().collect::<Vec<_>>() {
                if self.aside[&id].partition == index {
                    self.aside.remove(&id);
                    let item = self.schedule.handle_settled(id).expect("it was put aside");
                    self.finish(&item);
                }
            }
            assert!(self.schedule.is_drained(lane));
            self.partitions[index].committed = self.partitions[index].lowest();
        }
        let dropped = self.schedule.handle_gone(lane);
        assert!(!is_drained || dropped.is_empty());
        self.running.retain(|_, of| of.partition != index);
        self.aside.retain(|_, of| of.partition != index);
        let of = &mut self.partitions[index];
        of.lane = None;
        if !is_drained {
            // What was done and not committed is forgotten, and done again.
            let committed = of.committed;
            of.done.retain(|offset| *offset < committed);
        }
    }

    fn commit(&mut self) {
        for of in self.partitions.iter_mut().filter(|of| of.lane.is_some()) {
            of.committed = of.lowest();
        }
    }

    fn finish(&mut self, item: &Item<Of>) {
        let of = &mut self.partitions[item.record.partition];
        assert!(of.lane.is_some());
        of.done.extend(item.from..item.end - 1);
        assert!(of.done.insert(item.end - 1), "{:?} is finished twice", item.record);
    }

    fn check(&self) {
        assert_eq!(self.schedule.running(), self.running.len());
        for (index, of) in self.partitions.iter().enumerate() {
            let in_work = self.running.values().chain(self.aside.values());
            for of_work in in_work.filter(|of_work| of_work.partition == index) {
                assert!(of.committed <= of_work.offset, "{of_work:?} is in work and committed");
            }
            assert!(of.committed <= of.lowest());
        }
    }

    /// Nothing fails and nothing is given up any more: in the end all is done.
    fn finish_all(&mut self) {
        for _ in 0..10_000 {
            for index in 0..self.partitions.len() {
                if self.partitions[index].lane.is_none() {
                    let of = &mut self.partitions[index];
                    of.lane = Some(self.schedule.handle_assigned());
                    of.position = of.committed as usize;
                    of.last.clear();
                }
            }
            self.feed();
            self.now += Duration::from_millis(40);
            while let Some(job) = self.schedule.poll_start(self.now) {
                let of = job.item.record;
                self.delayed.remove(&(of.partition, of.offset));
                let item = self.schedule.handle_done(job);
                self.finish(&item);
            }
            for id in std::mem::take(&mut self.running).into_keys() {
                let job = self.schedule.handle_ended(id).expect("it is running");
                let item = self.schedule.handle_done(job);
                self.finish(&item);
            }
            for id in std::mem::take(&mut self.aside).into_keys() {
                let item = self.schedule.handle_settled(id).expect("it was put aside");
                self.finish(&item);
            }
            if self.partitions.iter().all(|of| of.lowest() >= of.log.len() as i64) {
                return;
            }
        }
        panic!("records are left: {:?}", self.partitions.iter().map(Partition::lowest).collect::<Vec<_>>());
    }

    fn any(&mut self, among: impl Fn(&Self) -> Vec<JobId>) -> Option<JobId> {
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
            for _ in 0..60 {
                world.step();
            }
            world.finish_all();
        });
        assert!(played.is_ok(), "seed {seed}");
    }
}
