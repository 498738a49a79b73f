//! Maps that Confluent's Parallel Consumer has written, in each of its ten encodings: base64 of a byte that names the encoding,
//! and a body that may be compressed by zstd. Offsets that it does not list are unfinished.

use std::ops::Range;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use milena_wire::codec::{Compression, Decompressor};

use super::{CUT_OFF, Decoded, RUNS_MAX, Refusal, Runs, TOO_LARGE};

/// No body decompresses to more. As one bit per offset these are 32 million offsets.
const BODY_BYTES_MAX: usize = 4 << 20;

enum Encoding {
    /// A byte per offset.
    Bytes,
    /// The number of offsets in 2 or 4 bytes, and a bit per offset, the lowest bit of a byte first.
    Bits { length_bytes: usize },
    /// Lengths of runs, of 2 or 4 bytes each; the first one is unfinished.
    Runs { length_bytes: usize },
}

pub(super) fn decode(base: i64, text: &str) -> Decoded {
    let Ok(bytes) = BASE64_STANDARD.decode(text) else { return Decoded::NotAMap };
    let Some((magic, body)) = bytes.split_first() else { return Decoded::NotAMap };
    // `OffsetEncoding` of Parallel Consumer. Kafka Streams begins with 1 or 2.
    let (encoding, is_compressed) = match magic {
        b'L' => (Encoding::Bytes, false),
        0xee => (Encoding::Bytes, true),
        b'l' => (Encoding::Bits { length_bytes: 2 }, false),
        b'a' => (Encoding::Bits { length_bytes: 2 }, true),
        b'o' => (Encoding::Bits { length_bytes: 4 }, false),
        b's' => (Encoding::Bits { length_bytes: 4 }, true),
        b'n' => (Encoding::Runs { length_bytes: 2 }, false),
        b'J' => (Encoding::Runs { length_bytes: 2 }, true),
        b'e' => (Encoding::Runs { length_bytes: 4 }, false),
        b'p' => (Encoding::Runs { length_bytes: 4 }, true),
        _ => return Decoded::NotAMap,
    };
    let mut plain = Vec::new();
    let body = if is_compressed {
        // The first version whose batches zstd may compress.
        const MAGIC: i8 = 2;
        let mut decompressor = Decompressor::new();
        if decompressor.decompress(Compression::Zstd, MAGIC, body, &mut plain, BODY_BYTES_MAX).is_err() {
            let why = "it looks like one of Parallel Consumer, and what it has cannot be decompressed";
            return Decoded::Refused(Refusal(why));
        }
        &plain[..]
    } else {
        body
    };
    match read(base, &encoding, body) {
        Ok(runs) => Decoded::Finished(runs),
        Err(refusal) => Decoded::Refused(refusal),
    }
}

fn read(base: i64, encoding: &Encoding, body: &[u8]) -> Result<Vec<Range<i64>>, Refusal> {
    let mut runs = Runs::new(RUNS_MAX);
    let offset = |index: u64| base.checked_add_unsigned(index).ok_or(TOO_LARGE);
    match encoding {
        Encoding::Bytes => {
            offset(body.len() as u64)?;
            if body.iter().any(|byte| *byte > 1) {
                return Err(Refusal(
                    "it looks like one of Parallel Consumer, and has other bytes than 0 and 1",
                ));
            }
            for (index, _) in body.iter().enumerate().filter(|(_, byte)| **byte == 1) {
                let at = offset(index as u64)?;
                if !runs.push(at..at + 1) {
                    break;
                }
            }
        }
        Encoding::Bits { length_bytes } => {
            let (length, bits) = body.split_at_checked(*length_bytes).ok_or(CUT_OFF)?;
            let length = length_of(length)?;
            // Java leaves zeros at the end out.
            let length = length.min(bits.len() as u64 * 8);
            offset(length)?;
            for index in 0..length {
                let at = offset(index)?;
                let is_set = bits[(index / 8) as usize] >> (index % 8) & 1 == 1;
                if is_set && !runs.push(at..at + 1) {
                    break;
                }
            }
        }
        Encoding::Runs { length_bytes } => {
            let lengths = body.chunks_exact(*length_bytes);
            if !lengths.remainder().is_empty() {
                return Err(CUT_OFF);
            }
            let (mut at, mut is_finished) = (base, false);
            for length in lengths {
                let end = at.checked_add_unsigned(length_of(length)?).ok_or(TOO_LARGE)?;
                if is_finished && !runs.push(at..end) {
                    break;
                }
                (at, is_finished) = (end, !is_finished);
            }
        }
    }
    Ok(runs.runs)
}

/// A length as Java writes it, which is not negative.
fn length_of(bytes: &[u8]) -> Result<u64, Refusal> {
    let length = bytes.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    let is_negative = bytes.first().is_some_and(|first| *first >= 0x80);
    if is_negative { Err(Refusal("it has a negative length")) } else { Ok(length) }
}
