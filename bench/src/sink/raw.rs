//! The floor's requests: bytes to drop and bytes to send, with a size before each frame.
//!
//! They have keys that Kafka does not use, so that the floor can use the same port as the clients.

use bytes::Bytes;
use milena_wire::codec::{Compression, Compressor};

use crate::payload::Lines;

/// Bytes to drop; not answered.
pub(crate) const DISCARD: i16 = 0x7f01;

/// Answered once everything before it has been dropped.
pub(crate) const SYNC: i16 = 0x7f02;

/// Answered with a buffer of records, which is always the same.
pub(crate) const READ: i16 = 0x7f03;

/// The bytes before each value, with its length. They are as many as the least overhead of a record on the wire.
pub(crate) const FRAME_BYTES: usize = 9;

/// The bytes before the records of a batch: the number of records, their bytes before and after compression, and the CRC-32C
/// of the latter.
pub(crate) const HEAD_BYTES: usize = 16;

/// Appends a value with its frame.
pub(crate) fn put(buffer: &mut Vec<u8>, value: &[u8]) {
    let mut frame = [0; FRAME_BYTES];
    frame[..4].copy_from_slice(&(value.len() as u32).to_be_bytes());
    buffer.extend_from_slice(&frame);
    buffer.extend_from_slice(value);
}

/// Makes compressed batches of framed values, of about `bytes` each, each with its head, as many as make a large read.
pub(crate) fn buffer(values: &Lines, codec: Compression, bytes: usize) -> Result<Bytes, String> {
    const READ_BYTES: usize = 1 << 20;
    let batch = batch(values, codec, bytes)?;
    Ok(batch.repeat((READ_BYTES / batch.len()).max(1)).into())
}

fn batch(values: &Lines, codec: Compression, bytes: usize) -> Result<Vec<u8>, String> {
    let (mut framed, mut count) = (Vec::with_capacity(bytes + 1024), 0u32);
    for value in values.cycle() {
        if count > 0 && framed.len() + FRAME_BYTES + value.len() > bytes {
            break;
        }
        put(&mut framed, value);
        count += 1;
    }
    let mut payload = Vec::new();
    compress(codec, &framed, &mut payload)?;
    let head = [count, framed.len() as u32, payload.len() as u32, crc32c::crc32c(&payload)];
    let mut batch: Vec<u8> = head.iter().flat_map(|number| number.to_be_bytes()).collect();
    batch.extend_from_slice(&payload);
    Ok(batch)
}

fn compress(codec: Compression, framed: &[u8], payload: &mut Vec<u8>) -> Result<(), String> {
    if codec == Compression::None {
        payload.extend_from_slice(framed);
        return Ok(());
    }
    Compressor::new().compress(codec, None, framed, payload).map_err(|error| error.to_string())
}
