//! Our lz4 frames beside those of the reference library, in every variant it writes.
#![no_main]

use std::io::{Read, Write};

use libfuzzer_sys::fuzz_target;
use lz4::liblz4::BlockChecksum;
use lz4::{BlockMode, BlockSize, ContentChecksum, Decoder, EncoderBuilder};
use milena_wire::codec::{Compression, Compressor, Decompressor};

const LIMIT: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let Some(([flags, repeat], content)) = data.split_first_chunk() else { return };
    let mut content = content.repeat(1 + usize::from(*repeat));
    content.truncate(LIMIT);
    let mut restored = Vec::new();
    Decompressor::new()
        .decompress(Compression::Lz4, 2, &reference(&content, *flags), &mut restored, content.len())
        .expect("the reference's frames are read");
    assert!(restored == content);

    let mut ours = Vec::new();
    Compressor::new().compress(Compression::Lz4, None, &content, &mut ours).expect("no level");
    restored.clear();
    Decoder::new(&ours[..])
        .and_then(|mut decoder| decoder.read_to_end(&mut restored))
        .expect("read by the reference");
    assert!(restored == content);
});

fn reference(content: &[u8], flags: u8) -> Vec<u8> {
    let sizes = [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB, BlockSize::Max4MB];
    let mut builder = EncoderBuilder::new();
    builder.block_size(sizes[usize::from(flags & 3)].clone());
    builder.block_mode(if flags & 4 == 0 { BlockMode::Linked } else { BlockMode::Independent });
    let checksum =
        if flags & 8 == 0 { ContentChecksum::NoChecksum } else { ContentChecksum::ChecksumEnabled };
    builder.checksum(checksum);
    let checksum =
        if flags & 32 == 0 { BlockChecksum::NoBlockChecksum } else { BlockChecksum::BlockChecksumEnabled };
    builder.block_checksum(checksum);
    builder.level(u32::from(flags >> 6) * 4);
    if flags & 16 != 0 {
        builder.content_size(content.len() as u64);
    }
    let mut encoder = builder.build(Vec::new()).expect("a frame");
    // Flushing cuts blocks short.
    for part in content.chunks(100_000) {
        encoder.write_all(part).expect("memory");
        encoder.flush().expect("memory");
    }
    let (frame, result) = encoder.finish();
    result.expect("a frame");
    frame
}
