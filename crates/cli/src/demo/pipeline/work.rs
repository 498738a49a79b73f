//! What the members of a run share, and what they do with a record: it waits as the plan says, and is written to the topic of
//! processed flights.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use milena::{Header, Producer, Record, RecordView};
use milena_pipeline as pipeline;
use tokio::sync::watch;

use super::plan::{Plan, STUCK, Step, WORK};
use crate::demo::run::INDEX_HEADER;

/// Shared by writer, members and script.
pub(super) struct Work {
    pub(super) plan: Plan,
    pub(super) slow: Slow,
    pub(super) done_topic: String,
    pub(super) producer: Producer,
    /// Whether the handler's bug is fixed.
    pub(super) is_fixed: AtomicBool,
    /// Records that were written to the topic of flights.
    pub(super) written: AtomicU64,
    /// Records that were processed, again or not.
    pub(super) processed: AtomicU64,
    /// Records of which the outcome is known, each once, and those of them that are not slow.
    pub(super) ended: AtomicU64,
    ended_others: AtomicU64,
    has_ended: Box<[AtomicBool]>,
    /// How many of the records are not slow, when all are written.
    others: watch::Sender<Option<u64>>,
    /// Whether all that are not slow have ended.
    others_ended: watch::Sender<bool>,
    /// Whether a slow record has waited in vain for the others.
    pub(super) has_waited_in_vain: AtomicBool,
}

/// Which records take long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Slow {
    /// One, for a few seconds.
    Record(u32),
    /// Those of a key, until all others have ended.
    Key(String),
    /// Those of a partition, until all others have ended.
    Partition(i32),
    /// None.
    Nothing,
}

/// How long slow records wait for the others.
const OTHERS_MAX: Duration = Duration::from_secs(20);

impl Work {
    pub(super) fn new(
        record_count: u32,
        plan: Plan,
        slow: Slow,
        done_topic: String,
        producer: Producer,
    ) -> Self {
        Self {
            plan,
            slow,
            done_topic,
            producer,
            is_fixed: AtomicBool::new(false),
            written: AtomicU64::new(0),
            processed: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            ended_others: AtomicU64::new(0),
            has_ended: (0..record_count).map(|_| AtomicBool::new(false)).collect(),
            others: watch::Sender::new(None),
            others_ended: watch::Sender::new(false),
            has_waited_in_vain: AtomicBool::new(false),
        }
    }

    /// All records are written, and so many of them are not slow.
    pub(super) fn all_written(&self, others: u64) {
        self.others.send_replace(Some(others));
        self.look_at_others();
    }

    /// Whether the record waits for all others.
    pub(super) fn waits_for_others(&self, key: Option<&[u8]>, partition: i32) -> bool {
        match &self.slow {
            Slow::Key(slow) => key == Some(slow.as_bytes()),
            Slow::Partition(slow) => partition == *slow,
            Slow::Record(_) | Slow::Nothing => false,
        }
    }

    /// Whether all records that are not slow had ended while the slow ones waited for them.
    pub(super) fn others_were_not_held_up(&self) -> bool {
        *self.others_ended.borrow() && !self.has_waited_in_vain.load(Ordering::Relaxed)
    }

    /// The handler.
    pub(super) async fn process(
        self: Arc<Self>,
        by_member: Arc<AtomicU64>,
        record: pipeline::Record,
    ) -> Result<(), pipeline::Failure> {
        let index = index_of(&record.view());
        let waits = self.waits_for_others(record.key(), record.origin().partition);
        if waits {
            let mut others_ended = self.others_ended.subscribe();
            let waited = tokio::time::timeout(OTHERS_MAX, others_ended.wait_for(|ended| *ended)).await;
            self.has_waited_in_vain.fetch_or(waited.is_err(), Ordering::Relaxed);
        }
        let is_stuck = index.is_some_and(|index| self.slow == Slow::Record(index)) && record.attempt() == 1;
        tokio::time::sleep(if is_stuck { STUCK } else { WORK }).await;
        let step = index.map_or(Step::Poison("the record has no index"), |index| {
            self.plan.fate(index).step(record.attempt(), self.is_fixed.load(Ordering::Relaxed))
        });
        match step {
            Step::Retriable(why) => return Err(pipeline::Failure::retriable(why)),
            Step::Poison(why) => {
                self.has_ended(index, waits);
                return Err(pipeline::Failure::poison(why));
            }
            Step::Succeed => {}
        }
        let bytes = index.unwrap_or_default().to_be_bytes();
        let headers = [Header { key: INDEX_HEADER, value: Some(&bytes) }];
        let done = Record::to(&self.done_topic);
        let done = done.key_or_null(record.key()).value_or_null(record.value()).headers(&headers);
        self.producer.send(done).await?;
        by_member.fetch_add(1, Ordering::Relaxed);
        self.processed.fetch_add(1, Ordering::Relaxed);
        self.has_ended(index, waits);
        Ok(())
    }

    /// The outcome of a record is known.
    fn has_ended(&self, index: Option<u32>, waits: bool) {
        let Some(has_ended) = index.and_then(|index| self.has_ended.get(index as usize)) else { return };
        if has_ended.swap(true, Ordering::Relaxed) {
            return;
        }
        self.ended.fetch_add(1, Ordering::Relaxed);
        if !waits {
            self.ended_others.fetch_add(1, Ordering::Relaxed);
            self.look_at_others();
        }
    }

    fn look_at_others(&self) {
        let others = *self.others.borrow();
        if others.is_some_and(|others| self.ended_others.load(Ordering::Relaxed) >= others) {
            self.others_ended.send_if_modified(|ended| !std::mem::replace(ended, true));
        }
    }
}

/// The record's number in the run.
pub(super) fn index_of(record: &RecordView<'_>) -> Option<u32> {
    let header = record.headers().find(|header| header.key == INDEX_HEADER)?;
    Some(u32::from_be_bytes(header.value?.try_into().ok()?))
}
