//! Tests of all codecs.

use super::*;

fn built_in() -> impl Iterator<Item = Compression> {
    Compression::ALL.into_iter().filter(|compression| compression.is_built_in())
}

/// JSON lines of flights, about 170 bytes each, different and alike as records are.
fn flights(bytes: usize) -> Vec<u8> {
    let mut lines = Vec::with_capacity(bytes + 200);
    let mut state: u32 = 42;
    while lines.len() < bytes {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (a, b) = (state >> 8, state >> 20);
        lines.extend_from_slice(
            format!(
                r#"{{"year":2013,"month":{},"tailnum":"N{}","origin":"EWR","distance":{a}}}"#,
                b % 12 + 1,
                b
            )
            .as_bytes(),
        );
    }
    lines.truncate(bytes);
    lines
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut state: u64 = 7;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(bytes)
    .collect()
}

fn inputs() -> Vec<Vec<u8>> {
    let mut inputs = vec![vec![], vec![7], noise(100), noise(200_000), vec![0; 300_000]];
    inputs.extend([1, 100, 65_535, 65_536, 65_537, 1_000_000].map(flights));
    inputs
}

fn compressed(compression: Compression, level: Option<i32>, input: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Compressor::new().compress(compression, level, input, &mut out).unwrap();
    out
}

#[test]
fn what_was_compressed_behind_a_header_comes_back_in_place_of_what_was_there() {
    let (mut compressor, mut decompressor) = (Compressor::new(), Decompressor::new());
    for compression in built_in() {
        for input in inputs() {
            let (mut compressed, mut restored) = (b"header".to_vec(), b"before".repeat(1000));
            compressor.compress(compression, None, &input, &mut compressed).unwrap();
            decompressor.decompress(compression, 2, &compressed[6..], &mut restored, input.len()).unwrap();
            assert_eq!(&compressed[..6], b"header");
            assert!(restored == input, "{compression}, {} bytes", input.len());
        }
    }
}

#[test]
fn one_byte_less_than_needed_is_over_the_limit() {
    let mut decompressor = Decompressor::new();
    for compression in built_in() {
        for input in inputs().into_iter().filter(|input| !input.is_empty()) {
            let limit = input.len() - 1;
            let mut out = Vec::new();
            let error = decompressor
                .decompress(compression, 2, &compressed(compression, None, &input), &mut out, limit)
                .unwrap_err();
            assert_eq!(error.reason, DecodeReason::DecompressesPast { limit }, "{compression}");
            assert!(out.capacity() <= limit, "{compression}: {} for a limit of {limit}", out.capacity());
        }
    }
}

#[test]
fn every_level_is_read_back_and_a_context_keeps_nothing_of_the_one_before() {
    let input = flights(100_000);
    let mut compressor = Compressor::new();
    for compression in built_in() {
        // Kafka accepts more negative levels of zstd than can be tested in a short time.
        let levels: Vec<i32> =
            compression.levels().into_iter().flatten().filter(|level| *level >= -7).collect();
        // Up and down again.
        for level in levels.iter().chain(levels.iter().rev()) {
            let (mut kept, mut out) = (Vec::new(), Vec::new());
            compressor.compress(compression, Some(*level), &input, &mut kept).unwrap();
            assert!(kept == compressed(compression, Some(*level), &input), "{compression} at level {level}");
            Decompressor::new().decompress(compression, 2, &kept, &mut out, input.len()).unwrap();
            assert!(out == input, "{compression} at level {level}");
        }
    }
}

#[test]
fn higher_levels_compress_better() {
    let input = flights(100_000);
    for (compression, low, high) in [(Compression::Gzip, 1, 9), (Compression::Zstd, -5, 19)] {
        if compression.is_built_in() {
            let bytes = |level| compressed(compression, Some(level), &input).len();
            assert!(bytes(high) < bytes(low), "{compression}");
        }
    }
}

#[test]
fn a_level_that_does_not_exist_is_refused() {
    let mut out = b"before".to_vec();
    let error = Compressor::new().compress(Compression::Zstd, Some(23), b"x", &mut out).unwrap_err();
    assert_eq!(error.to_string(), "compression level: 23 is not between -131072 and 22");
    assert_eq!(out, b"before");
}

#[test]
fn a_codec_that_is_not_built_in_is_named() {
    for compression in Compression::ALL.into_iter().filter(|compression| !compression.is_built_in()) {
        let expected = format!("{compression} is not built in; the cargo feature `{compression}` adds it");
        let error = Compressor::new().compress(compression, None, b"x", &mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), format!("compressed records: {expected}"));
        let error = Decompressor::new().decompress(compression, 2, b"x", &mut Vec::new(), 10).unwrap_err();
        assert_eq!(error.to_string(), format!("compressed records at byte 0: {expected}"));
    }
}

#[test]
fn truncated_and_flipped_bytes_are_never_a_panic() {
    let input = flights(3000);
    let mut decompressor = Decompressor::new();
    for compression in built_in() {
        let whole = compressed(compression, None, &input);
        for length in 0..whole.len() {
            let _ = decompressor.decompress(compression, 2, &whole[..length], &mut Vec::new(), 10_000);
        }
        for at in 0..whole.len() {
            for flip in [1, 0x80, 0xff] {
                let mut flipped = whole.clone();
                flipped[at] ^= flip;
                let mut out = Vec::new();
                let _ = decompressor.decompress(compression, 2, &flipped, &mut out, 10_000);
                assert!(out.len() <= 10_000);
            }
        }
        let mut out = Vec::new();
        decompressor
            .decompress(compression, 2, &whole, &mut out, 10_000)
            .expect("unharmed by what came before");
    }
}
