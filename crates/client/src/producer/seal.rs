//! Closed batches made ready to send: checksummed here, compressed on other threads, with contexts that are used again.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use milena_core::ProducerIdentity;
use milena_core::producer::{SealedBatch, Ticket};
use milena_wire::codec::{Compression, Compressor};
use tokio::sync::mpsc;

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

/// Seals batches, a few at a time.
pub(super) struct Sealer {
    compression: Compression,
    level: Option<i32>,
    waiting: VecDeque<(Ticket, OpenBatch)>,
    running: usize,
    running_max: usize,
    done: mpsc::UnboundedSender<(Ticket, Parcel)>,
}

impl Sealer {
    pub(super) fn new(
        compression: Compression,
        level: Option<i32>,
        done: mpsc::UnboundedSender<(Ticket, Parcel)>,
    ) -> Self {
        let running_max = std::thread::available_parallelism().map_or(1, usize::from);
        Self { compression, level, waiting: VecDeque::new(), running: 0, running_max, done }
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
        while self.running < self.running_max {
            let Some((ticket, batch)) = self.waiting.pop_front() else { return };
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
