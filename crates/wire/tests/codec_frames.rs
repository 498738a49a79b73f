//! Frames that other writers make and ours does not, malformed frames, and small inputs that decompress to a lot.

#![cfg(all(
    feature = "gzip",
    feature = "snappy",
    feature = "lz4",
    any(feature = "zstd", feature = "zstd-c")
))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use milena_wire::codec::{Compression, Compressor, Decompressor};
use milena_wire::{DecodeError, DecodeReason};
use std::io::Write as _;

const LIMIT: usize = 2 << 20;

fn text(bytes: usize) -> Vec<u8> {
    let line = |number: usize| format!("{number} {} some line\n", number.wrapping_mul(2_654_435_761) >> 7);
    let mut text: Vec<u8> = (0..bytes / 12).flat_map(|number| line(number).into_bytes()).collect();
    text.truncate(bytes);
    text
}

/// Bytes that cannot be compressed.
fn noise(bytes: usize) -> Vec<u8> {
    (0..bytes as u64)
        .map(|index| (index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 29) as u8 ^ (index >> 3) as u8)
        .collect()
}

fn compressed(compression: Compression, input: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Compressor::new().compress(compression, None, input, &mut out).unwrap();
    out
}

fn decompressed(compression: Compression, magic: i8, input: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::new();
    Decompressor::new().decompress(compression, magic, input, &mut out, LIMIT)?;
    Ok(out)
}

/// The error for `input`, which must not allocate memory.
fn refused(compression: Compression, input: &[u8]) -> DecodeError {
    let mut out = Vec::new();
    let error = Decompressor::new().decompress(compression, 2, input, &mut out, LIMIT).unwrap_err();
    assert!(out.capacity() <= LIMIT, "{} bytes", out.capacity());
    error
}

fn lz4_frame(info: FrameInfo, input: &[u8]) -> Vec<u8> {
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(input).unwrap();
    encoder.finish().unwrap()
}

fn lz4_checked(input: &[u8]) -> Vec<u8> {
    let info = FrameInfo::new().block_size(BlockSize::Max64KB).block_checksums(true).content_checksum(true);
    lz4_frame(info, input)
}

#[test]
fn lz4_frames_of_every_kind_are_read() {
    let sizes = [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB, BlockSize::Max4MB];
    for input in [vec![], text(100), text(1 << 20), noise(200_000)] {
        for size in sizes {
            for flags in 0..16_u8 {
                let has = |bit: u8| flags & bit != 0;
                let info = FrameInfo::new()
                    .block_size(size)
                    .block_mode(if has(1) { BlockMode::Linked } else { BlockMode::Independent })
                    .block_checksums(has(2))
                    .content_checksum(has(4))
                    .content_size(has(8).then_some(input.len() as u64));
                let restored = decompressed(Compression::Lz4, 2, &lz4_frame(info, &input));
                assert!(restored == Ok(input.clone()), "{size:?}, {flags:04b}, {} bytes", input.len());
            }
        }
    }
}

/// The frames of Java, librdkafka and franz-go have no content size, and small batches are often similar.
#[test]
fn small_lz4_blocks_that_hold_much_are_read() {
    for bytes in (0..60_000).step_by(97) {
        let input = vec![b'x'; bytes];
        let frame = lz4_frame(FrameInfo::new().block_size(BlockSize::Max4MB), &input);
        assert!(
            decompressed(Compression::Lz4, 2, &frame).is_ok_and(|output| output == input),
            "{bytes} bytes"
        );
    }
}

#[test]
fn lz4_checksums_are_checked() {
    let frame = lz4_checked(&text(100_000));
    let end = frame.len();
    for (at, field) in
        [(6, "lz4.header_checksum"), (100, "lz4.block_checksum"), (end - 1, "lz4.content_checksum")]
    {
        let mut damaged = frame.clone();
        damaged[at] ^= 1;
        let error = refused(Compression::Lz4, &damaged);
        assert!(matches!(error.reason, DecodeReason::ChecksumMismatch { .. }), "{error}");
        assert_eq!(error.field, field);
    }
}

#[test]
fn lz4_header_checksums_of_old_clients_may_be_anything() {
    let mut frame = lz4_checked(b"old");
    frame[6] ^= 0x55;
    assert!(decompressed(Compression::Lz4, 2, &frame).is_err());
    for magic in [0, 1] {
        assert_eq!(decompressed(Compression::Lz4, magic, &frame), Ok(b"old".to_vec()));
    }
}

#[test]
fn lz4_frames_follow_one_another_and_what_is_no_frame_ends_them() {
    let skippable = [&0x184d_2a53_u32.to_le_bytes()[..], &5_u32.to_le_bytes(), b"other"].concat();
    let linked = lz4_frame(FrameInfo::new().block_mode(BlockMode::Linked), b"second");
    let whole =
        [&skippable[..], &lz4_checked(b"first, "), &skippable, &linked, b"\0\0\0\0 trailing"].concat();
    assert_eq!(decompressed(Compression::Lz4, 2, &whole), Ok(b"first, second".to_vec()));
    assert_eq!(refused(Compression::Lz4, b"no frame at all").field, "lz4.magic");
    assert_eq!(refused(Compression::Lz4, b"").field, "lz4.magic");
}

#[test]
fn lz4_sizes_that_lie_are_refused_before_they_cost_memory() {
    let announcing = |bytes: u64| {
        let mut frame = compressed(Compression::Lz4, &text(100_000));
        frame[6..14].copy_from_slice(&bytes.to_le_bytes());
        frame
    };
    let decompress = |frame: &[u8]| decompressed(Compression::Lz4, 1, frame);
    assert!(decompress(&announcing(100_000)).is_ok());
    assert_eq!(decompress(&announcing(u64::MAX)).unwrap_err().field, "lz4.content_size");
    for lie in [0, 1, 99_999, 100_001] {
        assert!(decompress(&announcing(lie)).is_err(), "{lie}");
    }
    let past = decompress(&announcing(LIMIT as u64 + 1)).unwrap_err();
    assert_eq!(past.reason, DecodeReason::DecompressesPast { limit: LIMIT });
}

#[test]
fn lz4_dictionaries_and_unknown_flags_are_named() {
    for (flags, what) in [(0x61, "dictionary"), (0x62, "unknown flag"), (0x20, "version 1")] {
        let mut frame = compressed(Compression::Lz4, b"x");
        frame[4] = flags;
        let error = refused(Compression::Lz4, &frame).to_string();
        assert!(error.contains(what), "{error}");
    }
}

#[test]
fn gzip_members_follow_one_another_with_any_header() {
    let member = compressed(Compression::Gzip, b"second");
    // Extra field, name, comment and header checksum, which RFC 1952 allows and no Kafka client writes.
    let mut adorned = vec![0x1f, 0x8b, 8, 0b1_1110, 1, 2, 3, 4, 0, 3];
    adorned.extend_from_slice(b"\x03\0abcname\0comment\0");
    adorned.extend_from_slice(&(crc32fast::hash(&adorned) as u16).to_le_bytes());
    adorned.extend_from_slice(&compressed(Compression::Gzip, b"first, ")[10..]);
    let whole = [&adorned[..], &member, b"trailing"].concat();
    assert_eq!(decompressed(Compression::Gzip, 2, &whole), Ok(b"first, second".to_vec()));

    adorned[12] ^= 1;
    assert_eq!(refused(Compression::Gzip, &adorned).field, "gzip.header");
}

#[test]
fn gzip_trailers_are_checked() {
    let member = compressed(Compression::Gzip, &text(5000));
    for (from_end, field) in [(8, "gzip.crc32"), (4, "gzip.isize")] {
        let mut damaged = member.clone();
        damaged[member.len() - from_end] ^= 1;
        assert_eq!(refused(Compression::Gzip, &damaged).field, field);
    }
    let cut = refused(Compression::Gzip, &member[..member.len() - 1]);
    assert_eq!(cut.reason, DecodeReason::Truncated { needed: 4, remaining: 3 });
}

fn xerial(chunks: &[&[u8]]) -> Vec<u8> {
    let mut stream = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    for chunk in chunks {
        let chunk = compressed(Compression::Snappy, chunk);
        stream.extend_from_slice(&(chunk.len() as u32).to_be_bytes());
        stream.extend_from_slice(&chunk);
    }
    stream
}

#[test]
fn snappy_is_read_raw_in_chunks_and_in_streams_behind_one_another() {
    let input = text(300_000);
    let chunks: Vec<&[u8]> = input.chunks(32 << 10).collect();
    assert!(decompressed(Compression::Snappy, 2, &xerial(&chunks)) == Ok(input.clone()));
    let streams = [xerial(&chunks[..3]), xerial(&chunks[3..])].concat();
    assert!(decompressed(Compression::Snappy, 2, &streams) == Ok(input));
    assert_eq!(decompressed(Compression::Snappy, 2, &xerial(&[])), Ok(vec![]));
}

#[test]
fn snappy_lengths_that_lie_are_refused() {
    let stream = xerial(&[b"one", b"two"]);
    let cut = refused(Compression::Snappy, &stream[..stream.len() - 1]);
    assert!(matches!(cut.reason, DecodeReason::Truncated { .. }), "{cut}");
    // 4 GiB announced by six bytes.
    let lie = refused(Compression::Snappy, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0]);
    assert!(matches!(lie.reason, DecodeReason::TooLarge { announced: 0xffff_ffff, .. }), "{lie}");
    assert_eq!(refused(Compression::Snappy, b"").field, "snappy");
}

/// A frame without content size, whose window is `window`, of runs of `run` bytes.
fn zstd_runs(window: u8, runs: usize, run: u32) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, window];
    for index in 0..runs {
        let header = run << 3 | 1 << 1 | u32::from(index + 1 == runs);
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.push(b'a');
    }
    frame
}

#[test]
fn zstd_frames_follow_one_another() {
    let skippable = [&0x184d_2a50_u32.to_le_bytes()[..], &3_u32.to_le_bytes(), b"..."].concat();
    let runs = zstd_runs(0x38, 3, 1000);
    let whole = [&skippable[..], &compressed(Compression::Zstd, b"first"), &skippable, &runs].concat();
    let expected = [&b"first"[..], &[b'a'; 3000]].concat();
    assert_eq!(decompressed(Compression::Zstd, 2, &whole), Ok(expected));
    assert_eq!(refused(Compression::Zstd, &[&whole[..], b"trailing"].concat()).field, "zstd.magic");
    assert_eq!(refused(Compression::Zstd, b"").field, "zstd.magic");
}

#[test]
fn zstd_windows_beyond_every_other_reader_s_limit_are_refused() {
    assert!(decompressed(Compression::Zstd, 2, &zstd_runs(17 << 3, 1, 10)).is_ok(), "128 MiB");
    for window in [17 << 3 | 1, 31 << 3 | 7] {
        let error = refused(Compression::Zstd, &zstd_runs(window, 1, 10));
        assert_eq!((error.field, error.offset), ("zstd.window", 5), "{error}");
    }
}

#[test]
fn zstd_content_sizes_that_lie_are_refused_before_they_cost_memory() {
    // Single segment with an eight-byte content size, one run of ten bytes.
    let announcing = |bytes: u64| {
        let head = [&[0x28, 0xb5, 0x2f, 0xfd, 0b1110_0000][..], &bytes.to_le_bytes()].concat();
        [&head[..], &[10 << 3 | 1 << 1 | 1, 0, 0, b'a']].concat()
    };
    assert_eq!(decompressed(Compression::Zstd, 2, &announcing(10)), Ok(vec![b'a'; 10]));
    for lie in [0, 9, 11, 1 << 40, u64::MAX] {
        let mut out = Vec::new();
        let result = Decompressor::new().decompress(Compression::Zstd, 2, &announcing(lie), &mut out, LIMIT);
        assert!(result.is_err(), "{lie}");
        assert!(out.capacity() <= 200_000, "{lie}: {} bytes", out.capacity());
    }
}

#[test]
fn bombs_end_at_the_limit() {
    let zeros = vec![0; 64 << 20];
    let bombs = [
        (Compression::Gzip, compressed(Compression::Gzip, &zeros)),
        (Compression::Snappy, compressed(Compression::Snappy, &zeros)),
        (Compression::Snappy, xerial(&[&zeros[..]; 3])),
        (Compression::Lz4, compressed(Compression::Lz4, &zeros)),
        (Compression::Lz4, lz4_frame(FrameInfo::new().block_mode(BlockMode::Linked), &zeros)),
        (Compression::Zstd, compressed(Compression::Zstd, &zeros)),
        (Compression::Zstd, zstd_runs(0x38, 100_000, 1 << 17)),
    ];
    for (index, (compression, bomb)) in bombs.iter().enumerate() {
        let error = refused(*compression, bomb);
        assert_eq!(error.reason, DecodeReason::DecompressesPast { limit: LIMIT }, "{index}: {error}");
    }
}
