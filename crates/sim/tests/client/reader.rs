//! A task that reads all partitions, seeks, pauses and drops futures, and keeps the records that it read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use milena::{Client, Consumer, Position};
use milena_core::Rng;
use milena_sim::{Logged, Sim, Trace, up_to};

use crate::plan::ReaderPlan;
use crate::round::{Logs, PATIENCE, TOPIC};

pub(crate) struct Reader {
    pub(crate) sim: Sim,
    trace: Trace,
    consumer: Consumer,
    plan: ReaderPlan,
    number: usize,
    rng: Rng,
    /// Of each partition that is assigned, the offset that must come next.
    next: BTreeMap<i32, Next>,
    partitions: i32,
    paused: BTreeSet<i32>,
    seen: Seen,
}

/// Which offset comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    At(i64),
    /// This one or a later one: the broker was asked for the end of a partition that grows.
    From(i64),
}

/// The values that were read, by partition and offset.
#[derive(Debug, Default)]
pub(crate) struct Seen(BTreeMap<(i32, i64), Vec<u8>>);

impl Seen {
    /// Compares the values with the logs.
    pub(crate) fn judge(&self, logs: &Logs) {
        for ((partition, offset), value) in &self.0 {
            let logged: Option<&Logged> = logs[partition].get(*offset as usize);
            let expected = logged.and_then(|logged| logged.value.as_deref());
            assert_eq!(expected, Some(value.as_slice()), "partition {partition} at offset {offset}");
        }
    }
}

impl Reader {
    pub(crate) async fn start(
        sim: &Sim,
        trace: &Trace,
        client: &Client,
        plan: &ReaderPlan,
        number: usize,
        partitions: i32,
    ) -> Self {
        let rng = sim.rng();
        let next: BTreeMap<i32, Next> = (0..partitions).map(|partition| (partition, Next::At(0))).collect();
        loop {
            let all = next.keys().map(|partition| (TOPIC, *partition));
            let builder = client.consumer_direct().assign(all, Position::Earliest);
            let build = builder.settings(|settings| plan.apply(settings)).build();
            // A fault stood in the way, and faults pass.
            if let Ok(consumer) = sim.timeout(PATIENCE, build).await.expect("a consumer is built or not") {
                return Self {
                    sim: sim.clone(),
                    trace: trace.clone(),
                    consumer,
                    plan: plan.clone(),
                    number,
                    rng,
                    next,
                    partitions,
                    paused: BTreeSet::new(),
                    seen: Seen::default(),
                };
            }
            sim.sleep(Duration::from_millis(10)).await;
        }
    }

    /// Reads, seeks and pauses until `is_over` says so.
    pub(crate) async fn storm(&mut self, is_over: impl Fn() -> bool) {
        while !is_over() {
            let limit = up_to(&mut self.rng, Duration::from_millis(100));
            self.read_for(limit).await;
            if self.plan.is_slow {
                self.sim.sleep(up_to(&mut self.rng, Duration::from_millis(50))).await;
            }
            let partition = self.rng.below(self.partitions as u32) as i32;
            if !self.next.contains_key(&partition) {
                if self.rng.below(4) == 0 {
                    self.assign(partition, limit).await;
                }
                continue;
            }
            match self.rng.below(60) {
                0 => self.seek(partition),
                1 => {
                    self.consumer.pause(TOPIC, partition).expect("assigned");
                    self.paused.insert(partition);
                }
                2..5 => self.resume(partition),
                // Twice, because the answer to the first look-up may come after the second seek and must not count.
                5 => {
                    self.look_up(partition);
                    if self.rng.below(2) == 0 {
                        self.sim.sleep(up_to(&mut self.rng, Duration::from_millis(10))).await;
                    }
                    self.look_up(partition);
                }
                6 if self.next.len() > 1 => {
                    self.trace.count("a partition is given up");
                    self.consumer.unassign([(TOPIC, partition)]).expect("read by position");
                    self.next.remove(&partition);
                    self.paused.remove(&partition);
                }
                _ => {}
            }
        }
        for partition in std::mem::take(&mut self.paused) {
            self.resume(partition);
        }
        for partition in 0..self.partitions {
            while !self.next.contains_key(&partition) {
                self.assign(partition, PATIENCE).await;
            }
            if matches!(self.next[&partition], Next::From(_)) {
                self.seek_to(partition, Position::Earliest, Next::At(0));
            }
        }
    }

    /// Reads until everything in `logs` was read.
    pub(crate) async fn drain(&mut self, logs: &Logs) {
        let began = self.sim.now();
        let is_behind = |(partition, next): (&i32, &Next)| match *next {
            Next::At(next) => next < logs[partition].len() as i64,
            Next::From(_) => true,
        };
        while self.next.iter().any(is_behind) {
            self.read_for(Duration::from_secs(1)).await;
            let took = self.sim.now() - began;
            assert!(took < PATIENCE, "reader {} hangs at {:?}", self.number, self.next);
        }
    }

    /// The values that it read. This drops the consumer.
    pub(crate) fn into_seen(self) -> Seen {
        self.seen
    }

    async fn read_for(&mut self, limit: Duration) {
        let Some(batch) = self.sim.timeout(limit, self.consumer.next()).await else {
            self.trace.count("a read is dropped");
            return;
        };
        let batch = batch.expect("a reader meets no error").expect("a reader meets no end");
        let partition = batch.partition();
        assert!(!self.paused.contains(&partition), "partition {partition} is paused");
        let next = self.next.get_mut(&partition).expect("assigned");
        for record in &batch {
            let is_right = match *next {
                Next::At(offset) => record.offset() == offset,
                Next::From(offset) => record.offset() >= offset,
            };
            assert!(is_right, "offset {} of partition {partition} comes, and not {next:?}", record.offset());
            *next = Next::At(record.offset() + 1);
            let value = record.value().expect("a value").to_vec();
            let line =
                format_args!("reader {} partition {partition} offset {}", self.number, record.offset());
            self.trace.note(self.sim.now(), line);
            if let Some(before) = self.seen.0.insert((partition, record.offset()), value.clone()) {
                assert_eq!(before, value, "partition {partition} at offset {} changed", record.offset());
            }
        }
    }

    /// The offset after the last record that was seen of a partition.
    fn end_seen(&self, partition: i32) -> i64 {
        let known = self.seen.0.range((partition, 0)..(partition + 1, 0)).next_back();
        known.map_or(0, |((_, offset), _)| offset + 1)
    }

    fn seek(&mut self, partition: i32) {
        let offset = i64::from(self.rng.below(self.end_seen(partition) as u32 + 1));
        self.seek_to(partition, Position::Offset(offset), Next::At(offset));
    }

    /// Seeks to an offset that the broker is asked for.
    fn look_up(&mut self, partition: i32) {
        let end = self.end_seen(partition);
        let back = i64::from(self.rng.below(20));
        let (position, next) = match self.rng.below(4) {
            0 | 1 => (Position::Earliest, Next::At(0)),
            2 => (Position::Latest, Next::From(end)),
            _ => (Position::BeforeEnd(back), Next::From((end - back).max(0))),
        };
        self.trace.count("an offset is looked up");
        self.seek_to(partition, position, next);
    }

    fn seek_to(&mut self, partition: i32, position: Position, next: Next) {
        self.consumer.seek(TOPIC, partition, position).expect("assigned");
        self.next.insert(partition, next);
    }

    /// Assigns a partition that was given up, unless that takes longer than `limit` or fails.
    async fn assign(&mut self, partition: i32, limit: Duration) {
        let assign = self.consumer.assign([(TOPIC, partition)], Position::Earliest);
        match self.sim.timeout(limit, assign).await {
            Some(Ok(())) => {
                self.next.insert(partition, Next::At(0));
            }
            Some(Err(_)) => self.sim.sleep(Duration::from_millis(10)).await,
            None => {
                assert!(limit < PATIENCE, "assigning hangs");
                self.trace.count("an assignment is dropped");
            }
        }
    }

    fn resume(&mut self, partition: i32) {
        self.paused.remove(&partition);
        self.consumer.resume(TOPIC, partition).expect("assigned");
    }
}
