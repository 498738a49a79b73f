//! Any bytes as messages of magic 0 and 1, plain and inside a compressed one.

use bytes::Bytes;
use milena_wire::Limits;
use milena_wire::batch::Batches;
use milena_wire::codec::{Compression, Compressor, Decompressor};
use milena_wire::pool::Pool;

const LIMITS: Limits = Limits { decompressed_bytes_max: 1 << 20 };

/// Nothing panics, and every record is borrowed from what was given.
pub(crate) fn run(data: &[u8]) {
    let Some((choice, set)) = data.split_first() else { return };
    let magic = choice & 1;
    read(&with_magic(set, magic));
    if let Some(outer) = compressed(&with_magic(set, magic), magic, *choice >> 1) {
        read(&outer);
    }
}

fn read(set: &[u8]) {
    for raw in Batches::new(Bytes::copy_from_slice(set)) {
        let Ok(raw) = raw else { break };
        let _ = raw.check_crc();
        let Ok(batch) = raw.decompress(&mut Decompressor::new(), &Pool::unpooled(), &LIMITS) else {
            continue;
        };
        let mut bytes = 0;
        for record in batch.records().flatten() {
            assert!(record.offset >= 0);
            assert_eq!(record.headers().count(), 0);
            bytes += record.key.unwrap_or_default().len() + record.value.unwrap_or_default().len();
        }
        assert!(bytes <= batch.records_bytes());
    }
}

/// The same messages, as far as they can be found, with this magic and the checksums that random bytes never have.
fn with_magic(set: &[u8], magic: u8) -> Vec<u8> {
    let mut set = set.to_vec();
    let mut at = 0;
    while let Some(message) = set.get_mut(at..).filter(|message| message.len() > 17) {
        let size = i32::from_be_bytes(*message[8..].first_chunk().expect("is longer"));
        let Some(message) =
            usize::try_from(size).ok().and_then(|size| message.get_mut(..size.checked_add(12)?))
        else {
            break;
        };
        if message.len() <= 17 {
            break;
        }
        message[16] = magic;
        let crc = crc32(&message[16..]);
        message[12..16].copy_from_slice(&crc.to_be_bytes());
        at += message.len();
    }
    set
}

/// `inner` as the value of a compressed message.
fn compressed(inner: &[u8], magic: u8, choice: u8) -> Option<Vec<u8>> {
    let compression = Compression::ALL[1 + usize::from(choice) % 3];
    let mut value = Vec::new();
    Compressor::new().compress(compression, None, inner, &mut value).ok()?;
    let append_time = choice & 4 << 1;
    let mut body = vec![magic, compression.attributes() as u8 | append_time];
    if magic == 1 {
        body.extend(1_000_i64.to_be_bytes());
    }
    body.extend((-1_i32).to_be_bytes());
    body.extend((value.len() as i32).to_be_bytes());
    body.extend(value);
    let mut message = i64::from(choice).to_be_bytes().to_vec();
    message.extend((body.len() as i32 + 4).to_be_bytes());
    message.extend(crc32(&body).to_be_bytes());
    message.extend(body);
    Some(message)
}

/// CRC-32, bit by bit: the inputs are small.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}
