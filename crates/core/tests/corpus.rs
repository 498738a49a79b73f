//! Every committed fuzz input, through the body of its target, and changed ones.

#![allow(clippy::disallowed_methods, reason = "tests read files")]

use std::fs;
use std::path::Path;

use milena_core::Rng;

#[allow(dead_code, unreachable_pub, reason = "shared with the fuzz target")]
#[path = "../../../fuzz/bodies/sasl.rs"]
mod sasl;

#[test]
fn sasl_inputs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/sasl");
    let mut inputs = Vec::new();
    for entry in fs::read_dir(&folder).expect("is there") {
        let path = entry.expect("is readable").path();
        // Printed when the body panics.
        println!("{}", path.display());
        let input = fs::read(&path).expect("is readable");
        sasl::run(&input);
        inputs.push(input);
    }
    assert!(!inputs.is_empty(), "{} is empty", folder.display());
    inputs.sort();
    let mut rng = Rng::seeded(1);
    for _ in 0..5_000 {
        let mut input = inputs[rng.below(inputs.len() as u32) as usize].clone();
        for _ in 0..=rng.below(4) {
            let at = rng.below(input.len() as u32) as usize;
            match rng.below(4) {
                0 => input[at] = rng.next_u64() as u8,
                1 => drop(input.remove(at)),
                2 => input.insert(at, b",=0@\0\"\\{"[rng.below(8) as usize]),
                _ => input.truncate(at.max(1)),
            }
            if input.is_empty() {
                input.push(0);
            }
        }
        println!("{input:?}");
        sasl::run(&input);
    }
}
