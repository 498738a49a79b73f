//! Every committed fuzz input, through the body of its target.

use std::fs;
use std::path::Path;

#[cfg(feature = "oauth")]
#[path = "../../../fuzz/bodies/oauth.rs"]
mod oauth;
#[path = "../../../fuzz/bodies/properties.rs"]
mod properties;
#[path = "../../../fuzz/bodies/stores.rs"]
mod stores;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut count = 0;
    for entry in fs::read_dir(&folder).expect("a folder") {
        let path = entry.expect("a file").path();
        // Printed when the body panics.
        println!("{}", path.display());
        run(&fs::read(&path).expect("read"));
        count += 1;
    }
    assert!(count > 0, "{} is empty", folder.display());
}

#[cfg(feature = "oauth")]
#[test]
fn oauth_inputs() {
    replay("oauth", oauth::run);
}

#[test]
fn properties_inputs() {
    replay("properties", properties::run);
}

#[test]
fn stores_inputs() {
    replay("stores", stores::run);
}
