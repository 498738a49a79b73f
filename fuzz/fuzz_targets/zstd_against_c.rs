//! structured-zstd beside libzstd, in both directions: any bytes as a stream to read and as content to write.
#![no_main]

use libfuzzer_sys::fuzz_target;
use milena_wire::codec::{Compression, Compressor, Decompressor};
use zstd_safe::{CCtx, CParameter, DCtx};

const LIMIT: usize = 256 << 10;

fuzz_target!(|data: &[u8]| {
    if data.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        return read(data);
    }
    let Some(([level, flags, repeat], content)) = data.split_first_chunk() else { return };
    let mut content = content.repeat(1 + usize::from(*repeat));
    content.truncate(LIMIT);
    // Higher levels take longer, with the same parts.
    let level = i32::from(*level) % 14 - 7;
    ours_read_by_c(&content, level);
    c_read_by_us(&content, level, *flags);
});

/// What ours reads, libzstd reads, and as the same content.
fn read(input: &[u8]) {
    let (mut ours, mut theirs) = (Vec::new(), vec![0; LIMIT]);
    let result = Decompressor::new().decompress(Compression::Zstd, 2, input, &mut ours, LIMIT);
    let reference = DCtx::create().decompress(&mut theirs[..], input);
    match (result, reference) {
        (Ok(()), Ok(bytes)) => assert!(ours == theirs[..bytes], "other content than libzstd's"),
        (Ok(()), Err(code)) => panic!("libzstd refuses it: {}", zstd_safe::get_error_name(code)),
        // Ours is stricter: about dictionaries, windows over 128 MiB, formats before 1.0, and literals whose bits do not
        // come out even. What a real writer wrote it must read: below.
        (Err(_), _) => {}
    }
}

fn ours_read_by_c(content: &[u8], level: i32) {
    let (mut compressed, mut restored) = (Vec::new(), vec![0; LIMIT]);
    Compressor::new()
        .compress(Compression::Zstd, Some(level), content, &mut compressed)
        .expect("a level there is");
    let bytes = DCtx::create().decompress(&mut restored[..], &compressed);
    let bytes = bytes.map_err(zstd_safe::get_error_name).expect("libzstd reads our frames");
    assert!(content == &restored[..bytes]);
}

fn c_read_by_us(content: &[u8], level: i32, flags: u8) {
    let mut context = CCtx::create();
    let parameters = [
        CParameter::CompressionLevel(level),
        CParameter::ChecksumFlag(flags & 1 != 0),
        CParameter::ContentSizeFlag(flags & 2 != 0),
        CParameter::WindowLog(10 + u32::from(flags >> 4)),
    ];
    for parameter in parameters {
        context.set_parameter(parameter).map_err(zstd_safe::get_error_name).expect("a parameter");
    }
    let mut compressed = vec![0; zstd_safe::compress_bound(content.len())];
    let bytes =
        context.compress2(&mut compressed[..], content).map_err(zstd_safe::get_error_name).expect("room");
    let mut restored = Vec::new();
    Decompressor::new()
        .decompress(Compression::Zstd, 2, &compressed[..bytes], &mut restored, content.len())
        .expect("libzstd's frames are read");
    assert!(restored == content);
}
