//! A task that writes records with every method of the producer, and keeps the outcome of each.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use milena::{Delivery, Producer, Record};
use milena_core::Rng;
use milena_sim::{Sim, Trace, up_to};

use crate::plan::ProducerPlan;
use crate::round::PATIENCE;

/// What the client said about a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The client did not take it, or said that it was not written: it is not in the log.
    Absent,
    /// It may be in the log, once.
    Unknown,
    /// It is in the log of this partition at this offset.
    Written(i32, i64),
    /// It was posted, and the flush after it had no error: it is in the log.
    Flushed,
}

/// The outcomes of one writer's records, in the order of the calls.
pub(crate) type Ledger = Arc<Mutex<Vec<Fate>>>;

pub(crate) struct Writer {
    pub(crate) sim: Sim,
    pub(crate) trace: Trace,
    pub(crate) producer: Producer,
    pub(crate) plan: ProducerPlan,
    pub(crate) topic: &'static str,
    pub(crate) number: usize,
    pub(crate) partitions: i32,
    pub(crate) rng: Rng,
    pub(crate) ledger: Ledger,
}

impl Writer {
    pub(crate) async fn run(mut self) {
        let mut waiting: Vec<(usize, Delivery)> = Vec::new();
        let mut posted: Vec<usize> = Vec::new();
        for index in 0..self.plan.records {
            self.ledger.lock().expect("whole").push(Fate::Unknown);
            let value = value(self.number, index, &mut self.rng, self.plan.value_bytes_max);
            let key = format!("key-{}", self.rng.below(20));
            let mut record = Record::to(self.topic).key(key.as_str()).value(&value);
            if self.rng.below(2) == 0 {
                record = record.partition(self.rng.below(self.partitions as u32) as i32);
            }
            let limit = up_to(&mut self.rng, Duration::from_millis(200));
            let began = self.sim.now();
            match self.rng.below(10) {
                0 => match self.sim.timeout(limit, self.producer.enqueue(record)).await {
                    // The future was dropped before it returned, so the record must not have been taken.
                    None => {
                        self.trace.count("an enqueue is dropped");
                        self.note(index, Fate::Absent);
                    }
                    Some(taken) => self.taken(index, taken, &mut waiting),
                },
                1 => match self.sim.timeout(limit, self.producer.send(record)).await {
                    None => {
                        self.trace.count("a send is dropped");
                        self.note(index, Fate::Unknown);
                    }
                    Some(sent) => self.settle(index, sent),
                },
                2 => {
                    let sent = self.within("a send", self.producer.send(record)).await;
                    self.settle(index, sent);
                }
                3 | 4 => match self.within("a post", self.producer.post(record)).await {
                    Ok(()) => posted.push(index),
                    Err(error) => {
                        assert!(!error.maybe_written(), "what was not taken is not written: {error}");
                        self.note(index, Fate::Absent);
                    }
                },
                _ => {
                    let taken = self.within("an enqueue", self.producer.enqueue(record)).await;
                    // The simulation's scheduling takes less than that.
                    if self.sim.now() - began > Duration::from_millis(50) {
                        self.trace.count("an enqueue waits for memory or metadata");
                    }
                    self.taken(index, taken, &mut waiting);
                }
            }
            match self.rng.below(20) {
                0 => self.flush(&mut waiting, &mut posted).await,
                1..4 => self.sim.sleep(up_to(&mut self.rng, Duration::from_millis(300))).await,
                _ => {}
            }
        }
        self.flush(&mut waiting, &mut posted).await;
    }

    /// Flushes. All records of earlier calls must be settled after that.
    async fn flush(&mut self, waiting: &mut Vec<(usize, Delivery)>, posted: &mut Vec<usize>) {
        let flushed = self.within("a flush", self.producer.flush()).await;
        if let Err(error) = &flushed {
            assert!(!self.plan.is_patient, "a patient producer fails no record: {error}");
        }
        // Writers share the producer, and one flush may return the failures of another writer's records.
        let is_alone = self.plan.writers == 1;
        for index in posted.drain(..) {
            self.note(
                index,
                if flushed.is_ok() && (is_alone || self.plan.is_patient) {
                    Fate::Flushed
                } else {
                    Fate::Unknown
                },
            );
        }
        for (index, delivery) in std::mem::take(waiting) {
            assert!(delivery.is_settled(), "record {index} of writer {} outlives a flush", self.number);
            let outcome = self.within("a delivery", delivery).await;
            self.settle(index, outcome);
        }
    }

    fn taken(
        &mut self,
        index: usize,
        taken: Result<Delivery, milena::Error>,
        waiting: &mut Vec<(usize, Delivery)>,
    ) {
        match taken {
            Ok(delivery) => waiting.push((index, delivery)),
            Err(error) => {
                assert!(!error.maybe_written(), "what was not taken is not written: {error}");
                self.note(index, Fate::Absent);
            }
        }
    }

    fn settle(&mut self, index: usize, outcome: Result<milena::Receipt, milena::Error>) {
        let fate = match outcome {
            Ok(receipt) => {
                Fate::Written(receipt.partition(), receipt.offset().expect("acks=all tell offsets"))
            }
            Err(error) => {
                assert!(!self.plan.is_patient, "a patient producer fails no record: {error}");
                if error.maybe_written() {
                    self.trace.count("a record fails as maybe written");
                    Fate::Unknown
                } else {
                    self.trace.count("a record fails as not written");
                    Fate::Absent
                }
            }
        };
        self.note(index, fate);
    }

    fn note(&self, index: usize, fate: Fate) {
        let line = format_args!("writer {} record {index}: {fate:?}", self.number);
        self.trace.note(self.sim.now(), line);
        self.ledger.lock().expect("whole")[index] = fate;
    }

    async fn within<F: Future>(&self, what: &str, future: F) -> F::Output {
        let outcome = self.sim.timeout(PATIENCE, future).await;
        outcome.unwrap_or_else(|| panic!("{what} of writer {} hangs", self.number))
    }
}

/// The writer and the index in text, and up to `bytes_max` dots after them.
fn value(writer: usize, index: usize, rng: &mut Rng, bytes_max: u32) -> Vec<u8> {
    let mut value = format!("{writer} {index} ").into_bytes();
    value.resize(value.len() + rng.below(bytes_max) as usize, b'.');
    value
}

/// The writer and the index in a value.
pub(crate) fn parse(value: &[u8]) -> (usize, usize) {
    let text = std::str::from_utf8(value).expect("text");
    let mut parts = text.split(' ').map(|part| part.parse().expect("a number"));
    (parts.next().expect("a writer"), parts.next().expect("an index"))
}
