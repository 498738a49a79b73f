//! Makes closed batches ready to send. Without compression that is a checksum, which the driver's task computes.
//! Batches are compressed on the runtime's threads for blocking work, with contexts that are used again.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use milena_core::ProducerIdentity;
use milena_core::producer::{SealedBatch, Ticket};
use milena_wire::Limits;
use milena_wire::batch::{AppendError, BatchBuilder, RawBatch};
use milena_wire::codec::{Compression, Compressor, Decompressor};
use milena_wire::pool::Pool;
use tokio::sync::{Notify, mpsc};

use super::accumulator::{Memory, OpenBatch};
use super::delivery::Promise;
use super::profile::Codec;
use crate::budget::Reservation;
use crate::clock::Clock;
use crate::runtime::Executor;
use crate::trace::Contexts;

/// A sealed batch, the duty to settle it, and its memory.
pub(super) struct Parcel {
    sealed: milena_wire::batch::SealedBatch,
    pub(super) promise: Promise,
    pub(super) posted: u32,
    pub(super) contexts: Contexts,
    /// Held until the batch is settled.
    _reservation: Reservation,
}

impl Parcel {
    /// Its sizes before and after compression.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.sealed.uncompressed_bytes(), self.sealed.encoded_bytes())
    }

    /// How large its pieces may be, before compression, if it is split.
    pub(super) fn split_bytes_max(&self) -> usize {
        self.sealed.uncompressed_bytes() / 2
    }
}

impl SealedBatch for Parcel {
    fn record_count(&self) -> i32 {
        i32::try_from(self.sealed.record_count()).unwrap_or(i32::MAX)
    }

    fn bytes(&self) -> usize {
        self.sealed.encoded_bytes()
    }

    fn max_timestamp_ms(&self) -> i64 {
        self.sealed.header().max_timestamp
    }

    fn stamped(&mut self, identity: Option<(ProducerIdentity, i32)>) -> Bytes {
        if let Some((identity, sequence)) = identity {
            self.sealed.stamp(identity.id.0, identity.epoch, sequence);
        }
        self.promise.note_sent();
        self.sealed.bytes()
    }
}

thread_local! {
    /// Each thread has a context of its own, because zstd's cannot go to another thread. The runtime ends threads that
    /// have been idle for long, and their contexts with them.
    static COMPRESSOR: RefCell<Compressor> = RefCell::default();
}

/// Bytes that wait until a thread compresses them. A task that fills batches faster than they are compressed waits too,
/// because more waiting batches would take more memory and leave the processor's caches. It waits for what was queued
/// before its turn, not for what is queued after.
pub(super) struct Backlog {
    /// The bytes of all batches that ever waited.
    queued: AtomicU64,
    /// The bytes of those that no longer wait.
    started: AtomicU64,
    progress: Notify,
    bytes_max: u64,
    /// How many batches are compressed at a time.
    threads: usize,
}

/// The backlog may always have this much, so that tasks that fill small batches need not wait after each of them.
const BACKLOG_BYTES_MIN: u64 = 2 << 20;
/// A turn takes no longer than this: when the threads are busy with other work, the memory budget alone bounds the
/// batches.
const TURN_MAX: Duration = Duration::from_millis(100);

impl Backlog {
    pub(super) fn new(batch_bytes_max: usize, threads: usize) -> Self {
        let bytes_max = (threads as u64).saturating_mul(batch_bytes_max as u64).max(BACKLOG_BYTES_MIN);
        let (queued, started) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { queued, started, progress: Notify::new(), bytes_max, threads }
    }

    /// Waits until all but `bytes_max` of the bytes that are queued now no longer wait.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub(super) async fn turn(&self, runtime: &Executor, clock: &Clock) {
        let goal = self.queued.load(Ordering::Acquire).saturating_sub(self.bytes_max);
        let is_reached = || self.started.load(Ordering::Acquire) >= goal;
        if is_reached() {
            return;
        }
        let reached = async {
            loop {
                let progress = self.progress.notified();
                if is_reached() {
                    return;
                }
                progress.await;
            }
        };
        let _late = runtime.entered(|| clock.timeout_at(clock.after(TURN_MAX), reached)).await;
    }

    /// Whether a task that fills a batch would not wait for its turn.
    pub(super) fn has_room(&self) -> bool {
        let goal = self.queued.load(Ordering::Acquire).saturating_sub(self.bytes_max);
        self.started.load(Ordering::Acquire) >= goal
    }

    fn queue(&self, bytes: usize) {
        self.queued.fetch_add(bytes as u64, Ordering::AcqRel);
    }

    fn start(&self, bytes: usize) {
        self.started.fetch_add(bytes as u64, Ordering::AcqRel);
        self.progress.notify_waiters();
    }
}

/// Seals batches. It compresses as many at a time as the runtime has threads for.
pub(super) struct Sealer {
    waiting: VecDeque<(Ticket, OpenBatch, Codec)>,
    runtime: Executor,
    backlog: Arc<Backlog>,
    running: usize,
    done: mpsc::UnboundedSender<(Ticket, Parcel)>,
}

impl Sealer {
    pub(super) fn new(
        runtime: Executor,
        backlog: Arc<Backlog>,
        done: mpsc::UnboundedSender<(Ticket, Parcel)>,
    ) -> Self {
        Self { waiting: VecDeque::new(), runtime, backlog, running: 0, done }
    }

    /// Seals `batch` at once if that costs no more than a checksum. Otherwise the parcel comes through the channel.
    pub(super) fn seal(
        &mut self,
        ticket: Ticket,
        batch: OpenBatch,
        codec: Codec,
    ) -> Option<(Ticket, Parcel)> {
        if codec.compression == Compression::None {
            return Some((ticket, pack(batch.into(), codec)));
        }
        self.backlog.queue(batch.builder.bytes());
        self.waiting.push_back((ticket, batch, codec));
        self.start();
        None
    }

    /// Splits a parcel that its broker refuses for its size into several, each about half as large. Answers with the
    /// parcel itself if it cannot be split.
    ///
    /// This is done here and not on another thread, because it is rare: the partition makes smaller batches afterwards.
    pub(super) fn split(mut parcel: Parcel, codec: Codec, memory: &Memory) -> Vec<Parcel> {
        let Memory { pool, budget, .. } = memory;
        let builders = match halves(&parcel.sealed.bytes(), pool, parcel.split_bytes_max()) {
            Ok(builders) => builders,
            Err(error) => {
                tracing::warn!(target: "milena", "a batch of our own cannot be split: {error}");
                return vec![parcel];
            }
        };
        let counts = builders.iter().map(BatchBuilder::record_count);
        let firsts: Vec<_> =
            counts.scan(0, |next, count| Some(std::mem::replace(next, *next + count))).collect();
        let Parcel { promise, posted, contexts, .. } = parcel;
        let promises = promise.split(&firsts);
        let pieces = builders.into_iter().zip(promises).map(|(builder, promise)| Contents {
            reservation: budget.reserve_beyond(builder.memory_bytes()),
            // It is not known which of the records were posted. A flush may tell more failures than there are, but not
            // fewer.
            posted: posted.min(builder.record_count()),
            contexts: contexts.clone(),
            builder,
            promise,
        });
        pieces.map(|piece| pack(piece, codec)).collect()
    }

    /// Whether a parcel is to come through the channel.
    pub(super) fn is_busy(&self) -> bool {
        self.running > 0
    }

    /// A parcel came through the channel, so that a thread is free.
    pub(super) fn finished(&mut self) {
        self.running -= 1;
        self.start();
    }

    fn start(&mut self) {
        while self.running < self.backlog.threads
            && let Some((ticket, batch, codec)) = self.waiting.pop_front()
        {
            self.running += 1;
            self.backlog.start(batch.builder.bytes());
            let done = self.done.clone();
            self.runtime.spawn_blocking(move || {
                // The driver may have ended: then the parcel settles its batch when it is dropped.
                drop(done.send((ticket, pack(batch.into(), codec))));
            });
        }
    }
}

/// Batches that are never going to be compressed must not hold up tasks that wait for their turn.
impl Drop for Sealer {
    fn drop(&mut self) {
        self.waiting.drain(..).for_each(|(_, batch, _)| self.backlog.start(batch.builder.bytes()));
    }
}

/// The records of a batch in smaller batches of at most `bytes_max`, or of one record if that is larger.
fn halves(
    batch: &Bytes,
    pool: &Pool,
    bytes_max: usize,
) -> Result<Vec<BatchBuilder>, Box<dyn std::error::Error>> {
    let limits = Limits { decompressed_bytes_max: usize::MAX };
    let batch = RawBatch::parse(batch)?.decompress(&mut Decompressor::new(), pool, &limits)?;
    let is_transactional = batch.header().is_transactional();
    let begin = || {
        let builder = BatchBuilder::new(pool).bytes_max(bytes_max).record_bytes_max(usize::MAX);
        builder.transactional(is_transactional)
    };
    let mut builders = vec![begin()];
    for record in &batch {
        let record = record?;
        let headers = record.headers().collect::<Result<Vec<_>, _>>()?;
        let append =
            |builder: &mut BatchBuilder| builder.append(record.timestamp, record.key, record.value, &headers);
        match builders.last_mut().map(append) {
            Some(Err(AppendError::Full)) => {
                let mut next = begin();
                append(&mut next)?;
                builders.push(next);
            }
            Some(appended) => drop(appended?),
            None => {}
        }
    }
    Ok(builders)
}

/// The records of a batch that is closed, and what belongs to them.
struct Contents {
    builder: BatchBuilder,
    promise: Promise,
    reservation: Reservation,
    posted: u32,
    contexts: Contexts,
}

impl From<OpenBatch> for Contents {
    fn from(batch: OpenBatch) -> Self {
        let OpenBatch { builder, promise, reservation, posted, contexts, .. } = batch;
        Self { builder, promise, reservation, posted, contexts }
    }
}

fn pack(contents: Contents, codec: Codec) -> Parcel {
    let Contents { builder, promise, mut reservation, posted, contexts } = contents;
    let uncompressed = builder.bytes();
    let sealed = match codec.compression {
        Compression::None => builder.seal(),
        compression => COMPRESSOR
            .with_borrow_mut(|compressor| builder.seal_compressed(compressor, compression, codec.level))
            .expect("the codec and its level were checked when the producer was built"),
    };
    if sealed.encoded_bytes() < uncompressed {
        reservation.resize(sealed.encoded_bytes().next_power_of_two());
    }
    Parcel { sealed, promise, posted, contexts, _reservation: reservation }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_fills_batches_faster_than_they_are_compressed_waits_for_a_turn() {
        let mut context = Context::from_waker(Waker::noop());
        let batch = 1_000_000;
        let runtime = Executor::current().expect("a runtime");
        let clock = &Clock::start(&runtime);
        let backlog = Backlog::new(batch, 2);
        let limit = backlog.bytes_max as usize;
        backlog.queue(limit);
        assert!(pin!(backlog.turn(&runtime, clock)).poll(&mut context).is_ready(), "few enough");
        backlog.queue(batch);
        let mut turns = [pin!(backlog.turn(&runtime, clock)), pin!(backlog.turn(&runtime, clock))];
        assert!(turns.iter_mut().all(|turn| turn.as_mut().poll(&mut context).is_pending()));
        // Batches that are queued later do not matter.
        backlog.queue(100 * batch);
        backlog.start(batch - 1);
        assert!(turns.iter_mut().all(|turn| turn.as_mut().poll(&mut context).is_pending()));
        backlog.start(1);
        assert!(turns.iter_mut().all(|turn| turn.as_mut().poll(&mut context).is_ready()));

        // A turn ends even if no thread makes progress.
        backlog.turn(&runtime, clock).await;
    }
}
