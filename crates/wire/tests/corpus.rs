//! Every committed fuzz input, through the body of its target.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

#[path = "../../../fuzz/bodies/batch.rs"]
mod batch;
#[path = "../../../fuzz/bodies/batch_build.rs"]
mod batch_build;
#[path = "../../../fuzz/bodies/compress.rs"]
mod compress;
#[path = "../../../fuzz/bodies/decompress.rs"]
mod decompress;
#[path = "../../../fuzz/bodies/message_set.rs"]
mod message_set;
#[path = "../../../fuzz/bodies/primitives.rs"]
mod primitives;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        // Printed when the body panics.
        println!("{}", path.display());
        run(&fs::read(&path).unwrap());
        count += 1;
    }
    assert!(count > 0, "{} is empty", folder.display());
}

#[test]
fn batch_inputs() {
    replay("batch", batch::run);
}

#[test]
fn batch_build_inputs() {
    replay("batch_build", batch_build::run);
}

#[test]
fn compress_inputs() {
    replay("compress", compress::run);
}

#[test]
fn decompress_inputs() {
    replay("decompress", decompress::run);
}

#[test]
fn message_set_inputs() {
    replay("message_set", message_set::run);
}

#[test]
fn primitives_inputs() {
    replay("primitives", primitives::run);
}
