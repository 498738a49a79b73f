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
    /// Of each partition, the offset that must come next.
    next: BTreeMap<i32, i64>,
    paused: BTreeSet<i32>,
    seen: Seen,
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
        let next: BTreeMap<i32, i64> = (0..partitions).map(|partition| (partition, 0)).collect();
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
            let partition = self.rng.below(self.next.len() as u32) as i32;
            match self.rng.below(30) {
                0 => self.seek(partition),
                1 => {
                    self.consumer.pause(TOPIC, partition).expect("assigned");
                    self.paused.insert(partition);
                }
                2..4 => self.resume(partition),
                _ => {}
            }
        }
        for partition in std::mem::take(&mut self.paused) {
            self.resume(partition);
        }
    }

    /// Reads until everything in `logs` was read.
    pub(crate) async fn drain(&mut self, logs: &Logs) {
        let began = self.sim.now();
        while self.next.iter().any(|(partition, next)| *next < logs[partition].len() as i64) {
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
        let Some(batch) = self.sim.timeout(limit, self.consumer.next()).await else { return };
        let batch = batch.expect("a reader meets no error").expect("a reader meets no end");
        let partition = batch.partition();
        assert!(!self.paused.contains(&partition), "partition {partition} is paused");
        let next = self.next.get_mut(&partition).expect("assigned");
        for record in &batch {
            assert_eq!(record.offset(), *next, "what comes next of partition {partition}");
            *next += 1;
            let value = record.value().expect("a value").to_vec();
            let line =
                format_args!("reader {} partition {partition} offset {}", self.number, record.offset());
            self.trace.note(self.sim.now(), line);
            if let Some(before) = self.seen.0.insert((partition, record.offset()), value.clone()) {
                assert_eq!(before, value, "partition {partition} at offset {} changed", record.offset());
            }
        }
    }

    fn seek(&mut self, partition: i32) {
        let known = self.seen.0.range((partition, 0)..(partition + 1, 0)).next_back();
        let end = known.map_or(0, |((_, offset), _)| offset + 1);
        let offset = i64::from(self.rng.below(end as u32 + 1));
        self.consumer.seek(TOPIC, partition, Position::Offset(offset)).expect("assigned");
        self.next.insert(partition, offset);
    }

    fn resume(&mut self, partition: i32) {
        self.paused.remove(&partition);
        self.consumer.resume(TOPIC, partition).expect("assigned");
    }
}
