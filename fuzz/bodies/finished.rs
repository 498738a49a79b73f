//! Any bytes as the metadata of a committed offset, and as finished offsets that are written and read again.

use std::ops::Range;

use milena_core::group::finished::{self, Decoded, Packing, RUNS_MAX};

/// The first eight bytes are the committed offset. The rest is read as a text, as what base64 would carry, and as gaps and lengths.
/// Nothing panics or takes more memory than the text; runs ascend and do not touch; what is written in any size is a part, from
/// the beginning on, of what is read.
pub(crate) fn run(data: &[u8]) {
    let Some((base, rest)) = data.split_first_chunk::<8>() else { return };
    let base = i64::from_be_bytes(*base);
    for text in [String::from_utf8_lossy(rest).into_owned(), base64(rest)] {
        if let Decoded::Finished(runs) = finished::decode(base, &text) {
            check(base, &runs);
        }
    }
    let base = base & i64::MAX >> 1;
    let (mut runs, mut at) = (Vec::<Range<i64>>::new(), base);
    for pair in rest.chunks_exact(2) {
        // Small numbers are common, and some are large.
        let size = |byte: u8| 1_i64 << (byte >> 5 << 2) | i64::from(byte & 31);
        let start = at + size(pair[0]);
        at = start + size(pair[1]);
        runs.push(start..at);
    }
    for (packing, chars_max) in [(Packing::Wide, usize::MAX / 64), (Packing::Wide, 64), (Packing::Narrow, 64)]
    {
        let Some(encoded) = finished::encode(base, runs.iter().cloned(), packing, chars_max) else {
            assert!(runs.is_empty());
            continue;
        };
        let units = encoded.text.encode_utf16().count();
        assert!(units <= chars_max, "{units} of {chars_max}");
        let Decoded::Finished(read) = finished::decode(base, &encoded.text) else { panic!("{encoded:?}") };
        check(base, &read);
        let end = read.last().expect("something fits").end;
        let prefix: Vec<_> =
            runs.iter().map(|run| run.start..run.end.min(end)).filter(|run| !run.is_empty()).collect();
        assert_eq!(read, prefix);
        assert!(!encoded.is_whole || read.len() == runs.len().min(RUNS_MAX));
        if encoded.is_whole {
            let finished = runs.iter().map(|run| run.end - run.start).sum();
            let estimate = finished::bits_at_most(base, at, runs.len(), finished);
            assert!(packing == Packing::Narrow || 15 * (units as u64 - 1) <= estimate + 14);
        }
    }
}

fn check(base: i64, runs: &[Range<i64>]) {
    assert!(runs.len() <= RUNS_MAX);
    assert!(runs.first().is_none_or(|first| first.start >= base));
    assert!(runs.iter().all(|run| run.start < run.end));
    assert!(runs.windows(2).all(|pair| pair[0].end < pair[1].start));
}

/// With padding, as Java writes it.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len() * 4 / 3 + 4);
    for part in bytes.chunks(3) {
        let bits =
            part.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - part.len()));
        for index in 0..4 {
            let char = ALPHABET[(bits >> (18 - 6 * index) & 63) as usize];
            text.push(if index <= part.len() { char::from(char) } else { '=' });
        }
    }
    text
}
