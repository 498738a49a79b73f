//! Every committed fuzz input, through the body of its target, and changed ones.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::path::Path;

#[allow(dead_code, unreachable_pub, reason = "shared with the fuzz target")]
#[path = "../../../fuzz/bodies/dead_letters.rs"]
mod dead_letters;

/// A small generator, so that a run is the same everywhere (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % sides as u64) as usize
    }
}

#[test]
fn dead_letters_inputs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/dead_letters");
    let mut inputs = Vec::new();
    for entry in fs::read_dir(&folder).expect("is there") {
        let path = entry.expect("is readable").path();
        // Printed when the body panics.
        println!("{}", path.display());
        let input = fs::read(&path).expect("is readable");
        dead_letters::run(&input);
        inputs.push(input);
    }
    inputs.sort();
    let likely = b"\n=.-09\xff\0";
    let mut dice = Dice(1);
    for _ in 0..5_000 {
        let mut input = inputs[dice.roll(inputs.len())].clone();
        for _ in 0..=dice.roll(4) {
            let at = dice.roll(input.len());
            match dice.roll(4) {
                0 => input[at] = dice.roll(256) as u8,
                1 => drop(input.remove(at)),
                2 => input.insert(at, likely[dice.roll(likely.len())]),
                _ => input.truncate(at.max(1)),
            }
            if input.is_empty() {
                input.push(0);
            }
        }
        println!("{input:?}");
        dead_letters::run(&input);
    }
}
