//! docs/schemas.md: its commands run, in their order.

use std::path::Path;

use super::harness::milena_with;
use super::*;

#[test]
fn the_commands_of_the_page_run() {
    let stage = Stage::start();
    let customer = r#"{"type":"record","name":"Customer","namespace":"shop","fields":[]}"#;
    let of = r#",{"name":"of","type":"shop.Customer"}"#;
    stage.files.write("customer.avsc", customer);
    stage.files.write("order.avsc", &order(of));
    stage.files.write("order-2.avsc", &order(&format!("{of}{WITH_DEFAULT}")));
    stage.files.write("old.proto", "syntax = \"proto3\"; message Order { int64 id = 1; }");
    stage.files.write("new.proto", "syntax = \"proto3\"; message Order { int64 id = 1; string note = 2; }");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schemas.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let mut count = 0;
    for line in page.lines().filter_map(|line| line.strip_prefix("    milena ")) {
        // A comment stands after two spaces or more.
        let command = line.split("  ").next().unwrap_or_default();
        let in_files = |word: &str| match word.ends_with(".avsc") || word.ends_with(".proto") {
            true => stage.files.0.path().join(word).display().to_string(),
            false => word.to_owned(),
        };
        let words: Vec<_> = command.split(' ').map(in_files).collect();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let run = milena_with(&words, &[("MILENA_REGISTRY", &stage.url)]);
        assert_eq!(run.code, Some(0), "milena {line}: {}", run.stderr);
        count += 1;
    }
    assert!(count > 10, "{count}");
}
