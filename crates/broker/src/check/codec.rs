//! Decompresses a producer's batch in order to check it: within limits, and only what Kafka's own reader can read.

use std::sync::{Mutex, PoisonError};

use milena_wire::DecodeReason;
use milena_wire::codec::{Compression, Decompressor};

/// The most bytes that one batch may hold once it is decompressed. Kafka needs no limit, because it checks a stream.
pub(super) const BATCH_BYTES_MAX: usize = 64 << 20;

/// The most bytes that all batches of one request may hold. A request of many small batches could keep us busy for
/// hours otherwise.
pub(super) const REQUEST_BYTES_MAX: usize = 1 << 30;

/// The most bytes that the batches of a light request may hold, and the most that a batch holds which need not wait for
/// its turn. Memory up to this size is kept for the next batch.
pub(super) const USUAL_BYTES_MAX: usize = 4 << 20;

/// Contexts and memory for all requests that decompress at the same time.
#[derive(Debug, Default)]
pub(crate) struct Decompressors {
    free: Mutex<Vec<Slot>>,
    /// Locked by the request whose batch is larger than usual: there is one at a time.
    large: Mutex<()>,
}

#[derive(Debug, Default)]
struct Slot {
    decompressor: Decompressor,
    buffer: Vec<u8>,
}

/// The result of decompressing a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opened {
    Whole,
    /// All of it decompressed, but after it there are bytes that other readers read and Kafka does not.
    Followed,
    /// It is broken after the bytes that were decompressed.
    Broken,
    /// It holds more bytes than it may.
    TooLarge,
}

impl Decompressors {
    /// Decompresses `payload`, at most `limit` bytes, and calls `look` with the result.
    pub(crate) fn open<T>(
        &self,
        compression: Compression,
        payload: &[u8],
        limit: usize,
        look: impl FnOnce(Opened, &[u8]) -> T,
    ) -> T {
        let Some((payload, more)) = javas(compression, payload) else { return look(Opened::Broken, &[]) };
        let mut slot = self.lock().pop().unwrap_or_default();
        let usual = limit.min(USUAL_BYTES_MAX);
        let mut opened = slot.open(compression, payload, usual);
        let turn = (opened == Opened::TooLarge && usual < limit)
            .then(|| self.large.lock().unwrap_or_else(PoisonError::into_inner));
        if turn.is_some() {
            opened = slot.open(compression, payload, limit);
        }
        if opened == Opened::Whole && more.first_chunk() == Some(&LZ4_MAGIC) {
            opened = Opened::Followed;
        }
        let seen = look(opened, &slot.buffer);
        if slot.buffer.capacity() > USUAL_BYTES_MAX {
            slot.buffer = Vec::new();
        }
        self.lock().push(slot);
        seen
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Slot>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn open(&mut self, compression: Compression, payload: &[u8], limit: usize) -> Opened {
        let magic = 2;
        let result = self.decompressor.decompress(compression, magic, payload, &mut self.buffer, limit);
        match result.map_err(|error| error.reason) {
            Ok(()) => Opened::Whole,
            Err(DecodeReason::DecompressesPast { .. }) => Opened::TooLarge,
            Err(_) => Opened::Broken,
        }
    }
}

/// The part of a payload that Kafka's reader reads, and the rest; `None` if it cannot read the payload. Our
/// decompressor reads more: Kafka's lz4 reader knows no blocks that refer to earlier blocks and no skippable frames,
/// and it stops after the first frame.
fn javas(compression: Compression, payload: &[u8]) -> Option<(&[u8], &[u8])> {
    if compression != Compression::Lz4 {
        return Some((payload, &[]));
    }
    let flags = *payload.get(4)?;
    if payload[..4] != LZ4_MAGIC || flags & LZ4_INDEPENDENT == 0 {
        return None;
    }
    let mut at = 7 + if flags & LZ4_CONTENT_SIZE == 0 { 0 } else { 8 };
    loop {
        let Some(size) = payload.get(at..).and_then(<[u8]>::first_chunk) else {
            return Some((payload, &[]));
        };
        let size = u32::from_le_bytes(*size);
        at += 4;
        if size == 0 {
            break;
        }
        let checksum = if flags & LZ4_BLOCK_CHECKSUM == 0 { 0 } else { 4 };
        // If the frame is cut off this is past the end of the payload, and decompressing it will fail.
        at = at.saturating_add((size & !LZ4_STORED) as usize).saturating_add(checksum);
    }
    at += if flags & LZ4_CONTENT_CHECKSUM == 0 { 0 } else { 4 };
    Some(payload.split_at(at.min(payload.len())))
}

const LZ4_MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();
const LZ4_INDEPENDENT: u8 = 1 << 5;
const LZ4_BLOCK_CHECKSUM: u8 = 1 << 4;
const LZ4_CONTENT_SIZE: u8 = 1 << 3;
const LZ4_CONTENT_CHECKSUM: u8 = 1 << 2;
const LZ4_STORED: u32 = 1 << 31;
