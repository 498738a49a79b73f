//! Any bytes as what is to be compressed. The first byte chooses the codec, the second the level; the rest is repeated, so
//! that a short input fills several blocks.

use milena_wire::codec::{Compression, Compressor, Decompressor};

/// More costs time and finds nothing else.
const LEVEL_MAX: i32 = 9;
const BYTES_MAX: usize = 300_000;

/// What is compressed, twice with one context, comes back.
pub(crate) fn run(data: &[u8]) {
    let Some(([choice, level, repeat], input)) = data.split_first_chunk() else { return };
    let compression = Compression::ALL[usize::from(choice % 5)];
    let level = compression.levels().map(|levels| {
        let (least, most) = ((*levels.start()).max(-LEVEL_MAX), (*levels.end()).min(LEVEL_MAX));
        least + i32::from(*level) % (most - least + 1)
    });
    let mut input = input.repeat(1 + usize::from(*repeat));
    input.truncate(BYTES_MAX);

    let mut compressor = Compressor::new();
    let (mut first, mut second, mut restored) = (Vec::new(), b"header".to_vec(), Vec::new());
    compressor.compress(compression, level, &input, &mut first).expect("a level there is");
    compressor.compress(compression, level, &input, &mut second).expect("a level there is");
    assert!(second.starts_with(b"header"));
    assert!(first == second[6..], "the context remembers");
    Decompressor::new().decompress(compression, 2, &first, &mut restored, input.len()).expect("our own");
    assert!(restored == input);
}
