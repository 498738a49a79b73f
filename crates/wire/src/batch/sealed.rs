//! A finished batch on its way out. Its records never change again; its header may, until it is written.

use std::sync::Arc;

use bytes::Bytes;

use super::BatchMut;
use super::header::{BatchHeader, HEADER_BYTES, ProducerStamp};
use crate::pool::PooledBuffer;

/// A closed record batch: checksummed, perhaps compressed, not yet written.
///
/// It can be stamped with the producer's identity at any time, and again after an epoch bump: that changes the header
/// and corrects the checksum by 0.2 µs of arithmetic, without another pass over the records.
///
/// ```
/// use milena_wire::batch::{BatchBuilder, BatchHeader};
/// use milena_wire::pool::Pool;
///
/// let mut builder = BatchBuilder::new(&Pool::default());
/// builder.append(0, None, Some(b"value"), &[])?;
/// let mut sealed = builder.seal();
/// sealed.stamp(4001, 0, 17);
/// let in_flight = sealed.bytes();
/// sealed.stamp(4001, 1, 0); // what is in flight stays as it was
/// let epoch = |bytes: &[u8]| BatchHeader::parse(bytes).map(|header| header.producer.unwrap().producer_epoch);
/// assert_eq!((epoch(&in_flight)?, epoch(&sealed.into_bytes())?), (0, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SealedBatch {
    buffer: Arc<PooledBuffer>,
    header: BatchHeader,
    uncompressed_bytes: usize,
}

/// Lends the batch's memory to `Bytes`.
struct Shared(Arc<PooledBuffer>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl SealedBatch {
    /// Writes `header` and the checksum into `buffer`, which holds the records behind the header's room.
    pub(super) fn new(mut buffer: PooledBuffer, mut header: BatchHeader, uncompressed_bytes: usize) -> Self {
        if let Some((head, _)) = buffer.split_first_chunk_mut::<HEADER_BYTES>() {
            header.write(head);
        }
        let mut batch = BatchMut::over(&mut buffer, header);
        batch.compute_crc();
        header = *batch.header();
        // Compressing may have made it grow.
        buffer.recount();
        Self { buffer: Arc::new(buffer), header, uncompressed_bytes }
    }

    /// Marks the batch as its producer's (KIP-98): id, epoch, and the sequence of its first record.
    ///
    /// While [`bytes`](Self::bytes) taken earlier are still alive, the batch moves to a copy, so that they never change.
    pub fn stamp(&mut self, producer_id: i64, producer_epoch: i16, base_sequence: i32) {
        self.set_producer(ProducerStamp { producer_id, producer_epoch, base_sequence: Some(base_sequence) });
    }

    pub(super) fn set_producer(&mut self, stamp: ProducerStamp) {
        let buffer = if let Some(buffer) = Arc::get_mut(&mut self.buffer) {
            buffer
        } else {
            let mut copy = self.buffer.pool().take(self.buffer.len());
            copy.extend_from_slice(&self.buffer);
            self.buffer = Arc::new(copy);
            Arc::get_mut(&mut self.buffer).expect("nobody else has seen it")
        };
        let mut batch = BatchMut::over(buffer, self.header);
        batch.set_producer(Some(stamp));
        self.header = *batch.header();
    }

    /// The header as it is now.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Records in the batch.
    pub fn record_count(&self) -> u32 {
        self.header.record_count
    }

    /// Bytes of the batch on the wire.
    pub fn encoded_bytes(&self) -> usize {
        self.header.bytes
    }

    /// Bytes of the batch before compression.
    pub fn uncompressed_bytes(&self) -> usize {
        self.uncompressed_bytes
    }

    /// The batch as it is now, for one attempt at writing it. Shares the memory; one small allocation.
    pub fn bytes(&self) -> Bytes {
        Bytes::from_owner(Shared(Arc::clone(&self.buffer)))
    }

    /// The batch as it is now, when there will be no other attempt.
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(Shared(self.buffer))
    }
}
