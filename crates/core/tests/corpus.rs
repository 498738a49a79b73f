//! Every committed fuzz input, through the body of its target, and changed ones.

#![allow(clippy::disallowed_methods, reason = "tests read files")]

use std::fs;
use std::path::Path;

use milena_core::Rng;

#[allow(dead_code, unreachable_pub, reason = "shared with the fuzz target")]
#[path = "../../../fuzz/bodies/sasl.rs"]
mod sasl;

#[allow(dead_code, unreachable_pub, reason = "shared with the fuzz target")]
#[path = "../../../fuzz/bodies/finished.rs"]
mod finished;

#[test]
fn sasl_inputs() {
    replay("sasl", b",=0@\0\"\\{", sasl::run);
}

#[test]
fn finished_inputs() {
    replay("finished", b"\0\x01\x7f\xff~=eo", finished::run);
}

/// Runs every input of a target, and then changed ones, in which some bytes are likely.
fn replay(target: &str, likely: &[u8; 8], run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut inputs = Vec::new();
    for entry in fs::read_dir(&folder).expect("is there") {
        let path = entry.expect("is readable").path();
        // Printed when the body panics.
        println!("{}", path.display());
        let input = fs::read(&path).expect("is readable");
        run(&input);
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
                2 => input.insert(at, likely[rng.below(8) as usize]),
                _ => input.truncate(at.max(1)),
            }
            if input.is_empty() {
                input.push(0);
            }
        }
        println!("{input:?}");
        run(&input);
    }
}
