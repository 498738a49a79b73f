//! Closed batches made ready to send: checksummed here, compressed on other threads, with contexts that are used again.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use milena_core::ProducerIdentity;
use milena_core::producer::{SealedBatch, Ticket};
use milena_wire::codec::{Compression, Compressor};
use tokio::sync::{Notify, mpsc};

use super::accumulator::OpenBatch;
use super::delivery::BatchState;
use crate::budget::Reservation;

/// A sealed batch and who waits for it.
pub(super) struct Parcel {
    sealed: milena_wire::batch::SealedBatch,
    pub(super) state: Arc<BatchState>,
    pub(super) posted: u32,
    /// Held until the batch is settled.
    _reservation: Reservation,
}

impl SealedBatch for Parcel {
    fn record_count(&self) -> i32 {
        i32::try_from(self.sealed.record_count()).unwrap_or(i32::MAX)
    }

    fn bytes(&self) -> usize {
        self.sealed.encoded_bytes()
    }

    fn stamped(&mut self, identity: Option<(ProducerIdentity, i32)>) -> Bytes {
        if let Some((identity, sequence)) = identity {
            self.sealed.stamp(identity.id.0, identity.epoch, sequence);
        }
        self.sealed.bytes()
    }
}

thread_local! {
    /// Contexts stay with the thread: zstd's cannot go to another. The runtime ends threads that have long been idle,
    /// and their contexts with them.
    static COMPRESSOR: RefCell<Compressor> = RefCell::default();
}

/// Batches that wait until a thread can compress them. Who fills batches faster than that waits too: more of them would
/// only be colder and take more memory.
#[derive(Default)]
pub(super) struct Backlog {
    waiting: AtomicUsize,
    eased: Notify,
}

impl Backlog {
    /// Waits until no more batches are waiting than are worked on.
    ///
    /// # Cancel safety
    /// Dropped, nothing has changed.
    pub(super) async fn eased(&self) {
        loop {
            let eased = self.eased.notified();
            if self.waiting.load(Ordering::Acquire) < threads() {
                return;
            }
            eased.await;
        }
    }

    fn set(&self, waiting: usize) {
        let before = self.waiting.swap(waiting, Ordering::AcqRel);
        if before >= threads() && waiting < threads() {
            self.eased.notify_waiters();
        }
    }
}

/// How many batches are compressed at a time.
fn threads() -> usize {
    static THREADS: LazyLock<usize> =
        LazyLock::new(|| std::thread::available_parallelism().map_or(1, usize::from));
    *THREADS
}

/// Seals batches, a few at a time.
pub(super) struct Sealer {
    compression: Compression,
    level: Option<i32>,
    waiting: VecDeque<(Ticket, OpenBatch)>,
    backlog: Arc<Backlog>,
    running: usize,
    done: mpsc::UnboundedSender<(Ticket, Parcel)>,
}

impl Sealer {
    pub(super) fn new(
        compression: Compression,
        level: Option<i32>,
        backlog: Arc<Backlog>,
        done: mpsc::UnboundedSender<(Ticket, Parcel)>,
    ) -> Self {
        Self { compression, level, waiting: VecDeque::new(), backlog, running: 0, done }
    }

    /// The parcel, if it costs no more than a checksum; otherwise it comes through the channel.
    pub(super) fn seal(&mut self, ticket: Ticket, batch: OpenBatch) -> Option<(Ticket, Parcel)> {
        if self.compression == Compression::None {
            return Some((ticket, parcel(batch, milena_wire::batch::BatchBuilder::seal)));
        }
        self.waiting.push_back((ticket, batch));
        self.start();
        None
    }

    /// A parcel came through the channel.
    pub(super) fn finished(&mut self) {
        self.running -= 1;
        self.start();
    }

    fn start(&mut self) {
        while self.running < threads()
            && let Some((ticket, batch)) = self.waiting.pop_front()
        {
            self.running += 1;
            let (compression, level) = (self.compression, self.level);
            let done = self.done.clone();
            tokio::task::spawn_blocking(move || {
                let sealed = COMPRESSOR.with_borrow_mut(|compressor| {
                    parcel(batch, |builder| compress(builder, compressor, compression, level))
                });
                // A producer that is gone wants nothing any more.
                drop(done.send((ticket, sealed)));
            });
        }
        self.backlog.set(self.waiting.len());
    }
}

fn compress(
    builder: milena_wire::batch::BatchBuilder,
    compressor: &mut Compressor,
    compression: Compression,
    level: Option<i32>,
) -> milena_wire::batch::SealedBatch {
    builder
        .seal_compressed(compressor, compression, level)
        .expect("the codec and its level were checked when the producer was built")
}

fn parcel(
    batch: OpenBatch,
    seal: impl FnOnce(milena_wire::batch::BatchBuilder) -> milena_wire::batch::SealedBatch,
) -> Parcel {
    let OpenBatch { builder, state, mut reservation, posted } = batch;
    let uncompressed = builder.bytes();
    let sealed = seal(builder);
    if sealed.encoded_bytes() < uncompressed {
        reservation.resize(sealed.encoded_bytes().next_power_of_two());
    }
    Parcel { sealed, state, posted, _reservation: reservation }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn who_fills_batches_faster_than_they_are_compressed_waits() {
        let backlog = Backlog::default();
        let mut context = Context::from_waker(Waker::noop());
        let mut is_eased = || pin!(backlog.eased()).poll(&mut context).is_ready();
        assert!(is_eased());
        backlog.set(threads() - 1);
        assert!(is_eased());
        backlog.set(threads());
        assert!(!is_eased());

        let mut context = Context::from_waker(Waker::noop());
        let mut waiting = [pin!(backlog.eased()), pin!(backlog.eased())];
        assert!(waiting.iter_mut().all(|eased| eased.as_mut().poll(&mut context).is_pending()));
        backlog.set(threads() + 1);
        assert!(waiting.iter_mut().all(|eased| eased.as_mut().poll(&mut context).is_pending()));
        backlog.set(0);
        assert!(waiting.iter_mut().all(|eased| eased.as_mut().poll(&mut context).is_ready()));
    }
}
