//! The allocations per batch when contexts and buffers are kept.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use allocation_counter::measure;
use milena_wire::codec::{Compression, Compressor, Decompressor};

fn lines(bytes: usize) -> Vec<u8> {
    let lines = (0_u64..)
        .map(|index| format!(r#"{{"flight":{},"origin":"EWR"}}"#, index.wrapping_mul(0x9e37_79b9) >> 12));
    let mut text: Vec<u8> = lines.take(bytes / 20).flat_map(String::into_bytes).collect();
    text.truncate(bytes);
    text
}

/// Some contexts reach their size after a few batches.
const WARM_UP: usize = 3;

fn check(input_bytes: usize, allocations_max: impl Fn(Compression) -> (u64, u64)) {
    let input = lines(input_bytes);
    let (mut compressor, mut decompressor) = (Compressor::new(), Decompressor::new());
    for compression in Compression::ALL.into_iter().filter(|compression| compression.is_built_in()) {
        let (mut compressed, mut restored) = (Vec::new(), Vec::new());
        let mut there = || {
            compressed.clear();
            compressor.compress(compression, None, &input, &mut compressed).unwrap();
        };
        (0..WARM_UP).for_each(|_| there());
        let there = measure(there).count_total;
        let mut back =
            || decompressor.decompress(compression, 2, &compressed, &mut restored, input.len()).unwrap();
        (0..WARM_UP).for_each(|_| back());
        let back = measure(back).count_total;
        let (there_max, back_max) = allocations_max(compression);
        assert!(
            there <= there_max && back <= back_max,
            "{compression}, {input_bytes} bytes: {there} and {back}"
        );
        assert!(restored == input);
    }
}

#[test]
fn a_small_batch_costs_no_allocation_in_either_direction() {
    check(16 << 10, |_| (0, 0));
}

#[test]
fn a_large_batch_costs_none_either_but_for_tables_of_zstd() {
    check(1 << 20, |compression| if compression == Compression::Zstd { (16, 0) } else { (0, 0) });
}
