//! The crates that we could have used, each in its best way: contexts and buffers are kept, and sizes are known.

use std::io::{Read, Write};

use super::Codec;

/// All candidates, named `codec level crate`.
pub(crate) fn all() -> Vec<(String, Box<dyn Codec>)> {
    let candidates: [(&str, Box<dyn Codec>); 13] = [
        ("gzip 6 flate2 (zlib-rs)", flate2_gzip()),
        ("gzip 6 libdeflate (C)", libdeflate()),
        ("snappy snap, chunks of 32K", snap_chunks(32 << 10)),
        ("lz4 lz4_flex, frame of 64K", lz4_flex_frame(lz4_flex::frame::BlockSize::Max64KB)),
        ("lz4 lz4_flex, frame of 4M", lz4_flex_frame(lz4_flex::frame::BlockSize::Max4MB)),
        ("lz4 lz4_flex, one block", lz4_flex_block()),
        ("lz4 lz4 (C), one block", lz4_c(None)),
        ("lz4 lz4 (C), one block, hc 9", lz4_c(Some(9))),
        ("zstd -1 libzstd (C)", zstd_c(-1)),
        ("zstd 1 libzstd (C)", zstd_c(1)),
        ("zstd 3 libzstd (C)", zstd_c(3)),
        ("zstd 9 libzstd (C)", zstd_c(9)),
        ("zstd 1 ruzstd", ruzstd()),
    ];
    candidates.into_iter().map(|(name, codec)| (name.to_owned(), codec)).collect()
}

/// Two functions with their contexts.
struct Pair<C, D>(C, D);

fn pair(
    compress: impl FnMut(&[u8], &mut Vec<u8>) + 'static,
    decompress: impl FnMut(&[u8], usize, &mut Vec<u8>) + 'static,
) -> Box<dyn Codec> {
    Box::new(Pair(compress, decompress))
}

impl<C: FnMut(&[u8], &mut Vec<u8>), D: FnMut(&[u8], usize, &mut Vec<u8>)> Codec for Pair<C, D> {
    fn compress(&mut self, input: &[u8], out: &mut Vec<u8>) {
        self.0(input, out);
    }

    fn decompress(&mut self, input: &[u8], bytes: usize, out: &mut Vec<u8>) {
        self.1(input, bytes, out);
    }
}

fn flate2_gzip() -> Box<dyn Codec> {
    pair(
        |input, out| {
            out.clear();
            let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::new(6));
            encoder.write_all(input).unwrap();
            encoder.finish().unwrap();
        },
        |input, _, out| {
            out.clear();
            flate2::read::MultiGzDecoder::new(input).read_to_end(out).unwrap();
        },
    )
}

fn libdeflate() -> Box<dyn Codec> {
    let mut encoder = libdeflater::Compressor::new(libdeflater::CompressionLvl::new(6).unwrap());
    let mut decoder = libdeflater::Decompressor::new();
    pair(
        move |input, out| {
            out.resize(encoder.gzip_compress_bound(input.len()), 0);
            let bytes = encoder.gzip_compress(input, out).unwrap();
            out.truncate(bytes);
        },
        move |input, bytes, out| {
            out.resize(bytes, 0);
            decoder.gzip_decompress(input, out).unwrap();
        },
    )
}

fn snap_chunks(chunk_bytes: usize) -> Box<dyn Codec> {
    let (mut encoder, mut decoder) = (snap::raw::Encoder::new(), snap::raw::Decoder::new());
    pair(
        move |input, out| {
            out.clear();
            for chunk in input.chunks(chunk_bytes) {
                let at = out.len() + 4;
                out.resize(at + snap::raw::max_compress_len(chunk.len()), 0);
                let bytes = encoder.compress(chunk, &mut out[at..]).unwrap();
                out[at - 4..at].copy_from_slice(&(bytes as u32).to_be_bytes());
                out.truncate(at + bytes);
            }
        },
        move |mut input, bytes, out| {
            out.resize(bytes, 0);
            let mut at = 0;
            while let Some((size, rest)) = input.split_first_chunk() {
                let (chunk, rest) = rest.split_at(u32::from_be_bytes(*size) as usize);
                at += decoder.decompress(chunk, &mut out[at..]).unwrap();
                input = rest;
            }
        },
    )
}

fn lz4_flex_frame(block_size: lz4_flex::frame::BlockSize) -> Box<dyn Codec> {
    pair(
        move |input, out| {
            out.clear();
            let info = lz4_flex::frame::FrameInfo::new().block_size(block_size);
            let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, out);
            encoder.write_all(input).unwrap();
            encoder.finish().unwrap();
        },
        |input, _, out| {
            out.clear();
            lz4_flex::frame::FrameDecoder::new(input).read_to_end(out).unwrap();
        },
    )
}

fn lz4_flex_block() -> Box<dyn Codec> {
    let mut table = lz4_flex::block::CompressTable::default();
    pair(
        move |input, out| {
            out.resize(lz4_flex::block::get_maximum_output_size(input.len()), 0);
            let bytes = lz4_flex::block::compress_into_with_table(input, out, &mut table).unwrap();
            out.truncate(bytes);
        },
        |input, bytes, out| {
            out.resize(bytes, 0);
            lz4_flex::block::decompress_into(input, out).unwrap();
        },
    )
}

fn lz4_c(high_compression: Option<i32>) -> Box<dyn Codec> {
    let mode = high_compression.map(lz4::block::CompressionMode::HIGHCOMPRESSION);
    pair(
        move |input, out| {
            out.resize(lz4::block::compress_bound(input.len()).unwrap(), 0);
            let bytes = lz4::block::compress_to_buffer(input, mode, false, out).unwrap();
            out.truncate(bytes);
        },
        |input, bytes, out| {
            out.resize(bytes, 0);
            lz4::block::decompress_to_buffer(input, Some(bytes as i32), out).unwrap();
        },
    )
}

fn zstd_c(level: i32) -> Box<dyn Codec> {
    let (mut encoder, mut decoder) = (zstd_safe::CCtx::create(), zstd_safe::DCtx::create());
    pair(
        move |input, out| {
            out.resize(zstd_safe::compress_bound(input.len()), 0);
            let bytes = encoder.compress(&mut out[..], input, level).unwrap();
            out.truncate(bytes);
        },
        move |input, bytes, out| {
            out.resize(bytes, 0);
            decoder.decompress(&mut out[..], input).unwrap();
        },
    )
}

fn ruzstd() -> Box<dyn Codec> {
    let mut decoder = ruzstd::decoding::FrameDecoder::new();
    pair(
        |input, out| {
            out.clear();
            ruzstd::encoding::compress(input, out, ruzstd::encoding::CompressionLevel::Fastest);
        },
        move |input, bytes, out| {
            out.resize(bytes, 0);
            decoder.decode_all(input, out).unwrap();
        },
    )
}
