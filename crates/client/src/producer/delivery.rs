//! Deliveries: each batch is settled once, and all deliveries of its records share that settlement.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use milena_core::Failure;
use milena_core::producer::Outcome;

use crate::Error;

/// Where and as what a record was written. With `acks=0` it says only that the record was handed to the network;
/// [`Producer::flush`](crate::Producer::flush) fails if its connection was lost before the broker had read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    topic: Arc<str>,
    partition: i32,
    offset: Option<i64>,
    timestamp_ms: i64,
}

impl Receipt {
    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The partition.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// The record's offset. None where the broker does not tell it: with `acks=0`, and in the rare case that a repeated
    /// request finds the batch written so long ago that the broker has forgotten its offset.
    pub fn offset(&self) -> Option<i64> {
        self.offset
    }

    /// The record's timestamp, in milliseconds since the epoch: the broker's where the topic uses the time of the
    /// append, the record's own otherwise.
    pub fn timestamp_ms(&self) -> i64 {
        self.timestamp_ms
    }
}

/// A record on its way. Awaited, it resolves when the record is written or given up.
///
/// A delivery is its batch and an index; nothing else is kept per record. It always resolves within the producer's
/// `delivery_timeout`.
///
/// # Cancel safety
/// The record is sent whether or not its delivery is dropped.
#[must_use = "without it nothing tells that the record failed; `post` costs less, and `flush` tells its failures"]
pub struct Delivery {
    batch: Arc<BatchState>,
    index: u32,
    timestamp_ms: i64,
    /// The index of our waker among those of the batch, once this was polled.
    place: Option<usize>,
}

/// The duty to settle a batch. It goes wherever the batch goes, and settles the batch as failed when it is dropped,
/// which happens when the runtime that sends the batch ends.
pub(super) struct Promise {
    state: Arc<BatchState>,
    /// Whether the batch was handed to a connection, so that the broker may have written it.
    was_sent: bool,
    /// What is to be called for some of the records, in their order.
    callbacks: Vec<Callback>,
}

/// What a program wants to be called with what became of a record.
pub(super) type OnSettled = Box<dyn FnOnce(Result<Receipt, Error>) + Send>;

struct Callback {
    index: u32,
    timestamp_ms: i64,
    call: OnSettled,
}

impl Promise {
    pub(super) fn new(topic: Arc<str>, partition: i32) -> Self {
        Self { state: Arc::new(BatchState::new(topic, partition)), was_sent: false, callbacks: Vec::new() }
    }

    /// Has `call` called for the record of this index.
    pub(super) fn call(&mut self, index: u32, timestamp_ms: i64, call: OnSettled) {
        self.callbacks.push(Callback { index, timestamp_ms, call });
    }

    pub(super) fn state(&self) -> Arc<BatchState> {
        Arc::clone(&self.state)
    }

    pub(super) fn note_sent(&mut self) {
        self.was_sent = true;
    }

    /// Settles the batch; the error, if it failed. Callbacks are called before it returns.
    pub(super) fn settle(&mut self, outcome: Outcome) -> Option<Error> {
        let error = self.state.settle(outcome);
        for Callback { index, timestamp_ms, call } in std::mem::take(&mut self.callbacks) {
            let Some(result) = self.state.receipt(index, timestamp_ms) else { continue };
            // A panic of the program must not end the driver, which all its records depend on.
            if catch_unwind(AssertUnwindSafe(|| call(result))).is_err() {
                tracing::error!(target: "milena", "a delivery callback of the program panicked");
            }
        }
        error
    }

    /// Puts the records into several batches, each beginning with the record of one of these indexes. Answers with a
    /// promise for each; the deliveries follow their records.
    pub(super) fn split(mut self, firsts: &[u32]) -> Vec<Self> {
        let piece = |_: &u32| {
            let mut piece = Self::new(Arc::clone(&self.state.topic), self.state.partition);
            piece.was_sent = self.was_sent;
            piece
        };
        let mut pieces: Vec<_> = firsts.iter().map(piece).collect();
        for callback in std::mem::take(&mut self.callbacks) {
            let piece = firsts.partition_point(|first| *first <= callback.index).saturating_sub(1);
            let index = callback.index - firsts[piece];
            pieces[piece].callbacks.push(Callback { index, ..callback });
        }
        let states = firsts.iter().zip(&pieces).map(|(first, piece)| (*first, piece.state())).collect();
        self.state.set(Settlement::Split(states));
        pieces
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if self.state.settlement.get().is_none() {
            let (failure, maybe_written) = (Failure::Closed, self.was_sent);
            self.settle(Outcome::Failed { failure, maybe_written, records: Vec::new() });
        }
    }
}

/// What all deliveries of a batch share.
pub(super) struct BatchState {
    topic: Arc<str>,
    partition: i32,
    settlement: OnceLock<Settlement>,
    waiting: Mutex<Waiting>,
}

/// The tasks that wait for deliveries of a batch. A batch of a task that waits for each record has one, which needs no list.
#[derive(Default)]
struct Waiting {
    first: Option<Waker>,
    more: Vec<Waker>,
}

impl Waiting {
    /// Adds the waker of a delivery, or replaces the one that it has at `place`. Answers with its place.
    fn put(&mut self, place: Option<usize>, waker: &Waker) -> usize {
        let Some(place) = place else {
            if self.first.is_none() {
                self.first = Some(waker.clone());
                return 0;
            }
            self.more.push(waker.clone());
            return self.more.len();
        };
        let known = match place.checked_sub(1) {
            None => self.first.get_or_insert_with(|| waker.clone()),
            Some(index) => &mut self.more[index],
        };
        known.clone_from(waker);
        place
    }

    fn wake(self) {
        self.first.into_iter().chain(self.more).for_each(Waker::wake);
    }
}

enum Settlement {
    /// The records are in these batches now, each of which begins with the record of this index.
    Split(Vec<(u32, Arc<BatchState>)>),
    Written {
        base_offset: Option<i64>,
        log_append_time_ms: Option<i64>,
    },
    Failed {
        error: Error,
        at_fault: Vec<(i32, Error)>,
    },
}

impl BatchState {
    fn new(topic: Arc<str>, partition: i32) -> Self {
        Self { topic, partition, settlement: OnceLock::new(), waiting: Mutex::default() }
    }

    /// Settles the batch; the error, if it failed. The first settlement counts.
    fn settle(&self, outcome: Outcome) -> Option<Error> {
        let settlement = match outcome {
            Outcome::Written { base_offset, log_append_time_ms } => {
                Settlement::Written { base_offset, log_append_time_ms }
            }
            Outcome::Failed { failure, maybe_written, records } => {
                self.failed(&failure, maybe_written, &records)
            }
        };
        let error = match &settlement {
            // The error of a record at fault says more than that of the records refused with it.
            Settlement::Failed { error, at_fault } => {
                Some(at_fault.first().map_or(error, |(_, own)| own).clone())
            }
            Settlement::Written { .. } | Settlement::Split(_) => None,
        };
        self.set(settlement);
        error
    }

    fn set(&self, settlement: Settlement) {
        let _ = self.settlement.set(settlement);
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        waiting.wake();
    }

    fn failed(
        &self,
        failure: &Failure,
        maybe_written: bool,
        records: &[(i32, Option<Arc<str>>)],
    ) -> Settlement {
        let doing = format!("writing to partition {} of topic {:?}", self.partition, self.topic);
        let own = |message: Option<&Arc<str>>| match (message, failure.code()) {
            (Some(message), Some(code)) => Failure::answer(code, Some(message)),
            _ => failure.clone(),
        };
        let at_fault: Vec<_> = records
            .iter()
            .map(|(index, message)| {
                (*index, Error::with_maybe_written(doing.as_str(), own(message.as_ref()), maybe_written))
            })
            .collect();
        // KIP-467: the broker refuses the whole batch because of some of its records. The error of the remaining ones
        // says that they were not at fault.
        let error = match records.first() {
            None => Error::with_maybe_written(doing, failure.clone(), maybe_written),
            Some((index, message)) => {
                let doing = format!(
                    "{doing}: the record itself was not at fault, but its batch was refused because of record {index} in it"
                );
                Error::of_another_record(doing, own(message.as_ref()), maybe_written)
            }
        };
        Settlement::Failed { error, at_fault }
    }

    /// The batch that the record is in now and its index there, if this one was split.
    fn piece(&self, index: u32) -> Option<(&Arc<Self>, u32)> {
        let Some(Settlement::Split(pieces)) = self.settlement.get() else { return None };
        let (first, piece) = pieces.iter().rev().find(|(first, _)| *first <= index)?;
        Some((piece, index - first))
    }

    fn receipt(&self, index: u32, timestamp_ms: i64) -> Option<Result<Receipt, Error>> {
        Some(match self.settlement.get()? {
            Settlement::Split(_) => {
                let (piece, index) = self.piece(index)?;
                return piece.receipt(index, timestamp_ms);
            }
            Settlement::Written { base_offset, log_append_time_ms } => Ok(Receipt {
                topic: Arc::clone(&self.topic),
                partition: self.partition,
                // The sum overflows if the broker answers with an absurd offset.
                offset: base_offset.and_then(|base| base.checked_add(i64::from(index))),
                timestamp_ms: log_append_time_ms.unwrap_or(timestamp_ms),
            }),
            Settlement::Failed { error, at_fault } => {
                let own = at_fault.iter().find(|(at, _)| i64::from(*at) == i64::from(index));
                Err(own.map_or(error, |(_, error)| error).clone())
            }
        })
    }
}

impl Delivery {
    pub(super) fn new(batch: Arc<BatchState>, index: u32, timestamp_ms: i64) -> Self {
        Self { batch, index, timestamp_ms, place: None }
    }

    /// Its batch, the record's index there, and the record's timestamp.
    pub(super) fn into_parts(self) -> (Arc<BatchState>, u32, i64) {
        (self.batch, self.index, self.timestamp_ms)
    }

    /// The partition the record goes to.
    pub fn partition(&self) -> i32 {
        self.batch.partition
    }

    /// Whether the record is settled, so that awaiting it returns at once.
    pub fn is_settled(&self) -> bool {
        self.batch.receipt(self.index, self.timestamp_ms).is_some()
    }

    /// Waits for the batch that the record is in now, if its own was split.
    fn follow(&mut self) {
        while let Some((piece, index)) = self.batch.piece(self.index) {
            (self.batch, self.index, self.place) = (Arc::clone(piece), index, None);
        }
    }
}

impl Future for Delivery {
    type Output = Result<Receipt, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            self.follow();
            if let Some(receipt) = self.batch.receipt(self.index, self.timestamp_ms) {
                return Poll::Ready(receipt);
            }
            let place = {
                let mut waiting = self.batch.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                // It may have been settled since the look above. `set` stores the settlement before it takes this lock
                // to wake the wakers, so it either is seen here or finds our waker.
                if self.batch.settlement.get().is_some() {
                    continue;
                }
                waiting.put(self.place, cx.waker())
            };
            self.place = Some(place);
            return Poll::Pending;
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("topic", &self.batch.topic)
            .field("partition", &self.batch.partition)
            .field("is_settled", &self.is_settled())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use milena_messages::ErrorCode;

    use super::*;

    fn settled(outcome: Outcome) -> (Promise, Option<Error>) {
        let mut promise = Promise::new("t".into(), 0);
        let error = promise.settle(outcome);
        (promise, error)
    }

    #[test]
    fn an_offset_that_cannot_be_is_none() {
        let outcome = Outcome::Written { base_offset: Some(i64::MAX), log_append_time_ms: None };
        let (promise, _) = settled(outcome);
        let offset = |index| {
            let receipt = promise.state().receipt(index, 5).expect("settled").expect("written");
            receipt.offset()
        };
        assert_eq!((offset(0), offset(1)), (Some(i64::MAX), None));
    }

    /// KIP-467.
    #[test]
    fn the_record_at_fault_is_told_apart_from_those_refused_with_it() {
        let failure = Failure::answer(ErrorCode::INVALID_RECORD, Some("one or more records were rejected"));
        let records = vec![(2, Some(Arc::from("it has no key"))), (4, None)];
        let (promise, of_flush) = settled(Outcome::Failed { failure, maybe_written: false, records });
        let error =
            |index| promise.state().receipt(index, 5).expect("settled").expect_err("refused").to_string();
        let guilty = "writing to partition 0 of topic \"t\": INVALID_RECORD: it has no key";
        assert_eq!(error(2), guilty);
        assert_eq!(of_flush.expect("failed").to_string(), guilty);
        assert_eq!(
            error(4),
            "writing to partition 0 of topic \"t\": INVALID_RECORD: one or more records were rejected"
        );
        for index in [0, 1, 3] {
            let text = error(index);
            assert!(
                text.contains("not at fault") && text.contains("record 2") && text.contains("no key"),
                "{text}"
            );
        }
    }

    #[tokio::test]
    async fn a_delivery_follows_its_record_into_the_batch_it_was_split_into() {
        let written = |base| Outcome::Written { base_offset: Some(base), log_append_time_ms: None };
        let promise = Promise::new("t".into(), 0);
        let deliver = |promise: &Promise, index| Delivery::new(promise.state(), index, 5);
        let deliveries: Vec<_> = (0..6).map(|index| deliver(&promise, index)).collect();
        // This task waits already when the batch is split.
        let waiting = tokio::spawn(deliver(&promise, 5));
        tokio::task::yield_now().await;
        let mut pieces = promise.split(&[0, 2]);
        let mut last = pieces.pop().expect("two").split(&[0, 3]);
        assert!(deliveries.iter().all(|delivery| !delivery.is_settled()));
        pieces[0].settle(written(100));
        last[0].settle(written(200));
        last[1].settle(written(300));
        let mut offsets = Vec::new();
        for delivery in deliveries {
            assert!(delivery.is_settled());
            offsets.push(delivery.await.expect("written").offset().expect("known"));
        }
        assert_eq!(offsets, [100, 101, 200, 201, 202, 300]);
        assert_eq!(waiting.await.expect("ran").expect("written").offset(), Some(300));
    }

    #[test]
    fn callbacks_are_called_once_in_order_and_follow_their_records_into_pieces() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let call = |promise: &mut Promise, index: u32| {
            let seen = Arc::clone(&seen);
            let note = move |result: Result<Receipt, Error>| {
                let offset = result.ok().and_then(|receipt| receipt.offset());
                seen.lock().expect("no panic").push((index, offset));
                assert_ne!(index, 3, "a program's callback may panic");
            };
            promise.call(index, 5, Box::new(note));
        };
        let written = |base| Outcome::Written { base_offset: Some(base), log_append_time_ms: None };
        let mut promise = Promise::new("t".into(), 0);
        [0, 2, 3, 5].into_iter().for_each(|index| call(&mut promise, index));
        let mut pieces = promise.split(&[0, 3]);
        pieces[1].settle(written(200));
        pieces[1].settle(written(300));
        pieces[0].settle(written(100));
        let expected = [(3, Some(200)), (5, Some(202)), (0, Some(100)), (2, Some(102))];
        assert_eq!(*seen.lock().expect("no panic"), expected);

        // A batch that is thrown away is settled, too.
        let mut promise = Promise::new("t".into(), 0);
        call(&mut promise, 7);
        drop(promise);
        assert_eq!(seen.lock().expect("no panic").last(), Some(&(7, None)));
    }

    #[test]
    fn a_batch_that_is_thrown_away_is_settled_and_says_whether_it_was_sent() {
        for was_sent in [false, true] {
            let mut promise = Promise::new("t".into(), 0);
            let state = promise.state();
            if was_sent {
                promise.note_sent();
            }
            drop(promise);
            let error = state.receipt(0, 5).expect("settled").expect_err("given up");
            assert_eq!((error.is_fatal(), error.maybe_written()), (true, was_sent));
        }
    }
}
