//! The record that a handler gets.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use milena::{ConsumerHandle, SharedBatch, SharedRecord};
use tokio_util::sync::CancellationToken;

use crate::Failure;
use crate::exactly_once::{Output, Place};
use crate::retry_topics::{Behind, Origin, Returned, Tier};

/// A record to process: a handle of the fetched batch, without a copy of key or value.
///
/// It has all methods of [`SharedRecord`]. Its memory counts against the client's budget until it is dropped; to keep a record for
/// long, use [`to_owned`](SharedRecord::to_owned).
#[derive(Clone)]
pub struct Record {
    record: SharedRecord,
    attempt: u32,
    held: Arc<Held>,
}

/// What records of one partition share while this program has it.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// Fires when the partition is given up before the record is finished.
    pub(crate) cancelled: CancellationToken,
    /// The retry topic that it is a partition of.
    pub(crate) tier: Option<Arc<Tier>>,
    /// The retry topics that its records wait for, if keys keep their order over them.
    pub(crate) behind: Option<Behind>,
    /// Where what is written for its records waits, if the pipeline writes in transactions.
    pub(crate) place: Option<Place>,
}

impl Held {
    /// These offsets are finished.
    pub(crate) fn done(&self, consumer: &ConsumerHandle, part: SharedBatch) {
        match &self.place {
            None => consumer.done_part(&part),
            // The consumer is told when it is clear what its transaction has.
            Some(place) => place.done(part),
        }
    }
}

impl Record {
    pub(crate) fn new(record: SharedRecord, attempt: u32, held: Arc<Held>) -> Self {
        Self { record, attempt, held }
    }

    /// The same record at another attempt.
    pub(crate) fn with_attempt(self, attempt: u32) -> Self {
        Self { attempt, ..self }
    }

    /// The number of this attempt at the record; the first is 1. Attempts before a restart of the program do not count, those
    /// before the record went through a retry topic do.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Where the record was before it went through [retry topics](crate::RetryTopics): for one that did not, where it is. The
    /// record's own methods tell its place in the retry topic.
    pub fn origin(&self) -> Origin<'_> {
        let view = self.record.view();
        let returned = self.held.tier.as_ref().map(|_| Returned::read(view.headers()));
        returned.and_then(|of| of.origin).unwrap_or_else(|| Origin::of(&view))
    }

    /// The number of the [retry topic](crate::RetryTopics) that the record has waited in: the first is 1, and 0 is the topic that
    /// it came from.
    pub fn tier(&self) -> usize {
        self.held.tier.as_ref().map_or(0, |tier| tier.index + 1)
    }

    /// Whether what comes of this attempt counts no more: the partition was given up, or the pipeline stops and its deadline has
    /// passed. Handlers that compute for long look at it.
    pub fn is_cancelled(&self) -> bool {
        self.held.cancelled.is_cancelled()
    }

    /// Waits until [`is_cancelled`](Self::is_cancelled). The future of an async handler is dropped then, so that only tasks which
    /// the handler has spawned need this.
    ///
    /// # Cancel safety
    /// It may be dropped.
    pub async fn cancelled(&self) {
        self.held.cancelled.cancelled().await;
    }

    /// What is written when the record, and those of its partition up to the offset `last`, are finished.
    ///
    /// # Errors
    /// When the pipeline writes nothing.
    pub(crate) fn emit_up_to(&self, last: i64, outputs: Vec<Output>) -> Result<(), Failure> {
        match &self.held.place {
            Some(place) => place.emit(self.record.offset(), last, outputs),
            None if outputs.is_empty() => {}
            None => {
                return Err(Failure::fatal("a handler that writes runs with run_to() or run_together_to()"));
            }
        }
        Ok(())
    }

    /// The handle of the consumer.
    pub fn shared(&self) -> &SharedRecord {
        &self.record
    }
}

/// A record at its first attempt that is never cancelled: for tests of handlers and layers.
impl From<SharedRecord> for Record {
    fn from(record: SharedRecord) -> Self {
        Self::new(record, 1, Arc::default())
    }
}

impl Deref for Record {
    type Target = SharedRecord;

    fn deref(&self) -> &SharedRecord {
        &self.record
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record").field("record", &self.record).field("attempt", &self.attempt).finish()
    }
}
