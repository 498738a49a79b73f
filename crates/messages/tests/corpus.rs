//! Every committed fuzz input, through the body of its target.

use std::fs;
use std::path::Path;

#[allow(dead_code, unreachable_pub, reason = "shared with the golden tests and the fuzz target")]
#[path = "../../../fuzz/bodies/messages.rs"]
mod messages;

#[test]
fn messages_inputs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/messages");
    let mut count = 0;
    for entry in fs::read_dir(&folder).expect("is there") {
        let path = entry.expect("is readable").path();
        // Printed when the body panics.
        println!("{}", path.display());
        messages::run(&fs::read(&path).expect("is readable"));
        count += 1;
    }
    assert!(count > 0, "{} is empty", folder.display());
}
