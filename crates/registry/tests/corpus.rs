//! Every committed fuzz input, through the body of its target, and changed ones.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::path::Path;

#[cfg(feature = "avro")]
#[allow(dead_code, unreachable_pub, reason = "shared with the fuzz target")]
#[path = "../../../fuzz/bodies/avro.rs"]
mod avro;
#[allow(dead_code, unreachable_pub, reason = "shared with the fuzz target")]
#[path = "../../../fuzz/bodies/compat_avro.rs"]
mod compat_avro;
#[allow(dead_code, unreachable_pub, reason = "shared with the fuzz target")]
#[path = "../../../fuzz/bodies/compat_json.rs"]
mod compat_json;
#[allow(dead_code, unreachable_pub, reason = "shared with the fuzz target")]
#[path = "../../../fuzz/bodies/compat_protobuf.rs"]
mod compat_protobuf;
#[allow(dead_code, unreachable_pub, reason = "shared with the fuzz target")]
#[path = "../../../fuzz/bodies/framing_apicurio.rs"]
mod framing_apicurio;
#[allow(dead_code, unreachable_pub, reason = "shared with the fuzz target")]
#[path = "../../../fuzz/bodies/framing_confluent.rs"]
mod framing_confluent;
#[allow(dead_code, unreachable_pub, reason = "shared with the fuzz target")]
#[path = "../../../fuzz/bodies/framing_glue.rs"]
mod framing_glue;
#[cfg(feature = "protobuf")]
#[allow(dead_code, unreachable_pub, reason = "shared with the fuzz target")]
#[path = "../../../fuzz/bodies/protobuf.rs"]
mod protobuf;

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

fn replay(target: &str, run: fn(&[u8])) {
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
    inputs.sort();
    let mut dice = Dice(1);
    for _ in 0..5_000 {
        let mut input = inputs[dice.roll(inputs.len())].clone();
        for _ in 0..=dice.roll(4) {
            let at = dice.roll(input.len());
            match dice.roll(4) {
                0 => input[at] = dice.roll(256) as u8,
                1 => drop(input.remove(at)),
                2 => input.insert(at, dice.roll(4) as u8),
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

#[cfg(feature = "avro")]
#[test]
fn avro_inputs() {
    replay("avro", avro::run);
}

#[test]
fn compat_avro_inputs() {
    replay("compat_avro", compat_avro::run);
}

#[test]
fn compat_json_inputs() {
    replay("compat_json", compat_json::run);
}

#[test]
fn compat_protobuf_inputs() {
    replay("compat_protobuf", compat_protobuf::run);
}

#[test]
fn framing_apicurio_inputs() {
    replay("framing_apicurio", framing_apicurio::run);
}

#[test]
fn framing_confluent_inputs() {
    replay("framing_confluent", framing_confluent::run);
}

#[test]
fn framing_glue_inputs() {
    replay("framing_glue", framing_glue::run);
}

#[cfg(feature = "protobuf")]
#[test]
fn protobuf_inputs() {
    replay("protobuf", protobuf::run);
}
