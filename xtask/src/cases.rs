//! docs/cases.md: which test holds which case. Every test that it names exists, in the file that it names.

use std::collections::BTreeMap;
use std::fs;

/// What the tables name: file and test.
fn named(tables: &str) -> Vec<(&str, &str)> {
    let mut named = Vec::new();
    for row in tables.lines().filter(|line| line.starts_with('|')) {
        let Some(tests) = row.trim_end_matches('|').rsplit('|').next() else { continue };
        let mut file = None;
        for quoted in tests.split('`').skip(1).step_by(2) {
            match file {
                _ if quoted.ends_with(".rs") => file = Some(quoted),
                Some(file) => named.push((file, quoted)),
                None => {}
            }
        }
    }
    named
}

#[test]
fn rows_name_files_and_their_tests() {
    let tables = "text with `a.rs`: `no_row`\n| a `case` | KIP-1 | `a/b.rs`: `one`, `two`; `c.rs`: `three` |\n|---|---|---|\n";
    assert_eq!(named(tables), [("a/b.rs", "one"), ("a/b.rs", "two"), ("c.rs", "three")]);
}

#[test]
fn every_test_that_a_case_names_exists() {
    let tables = fs::read_to_string(crate::root().join("docs/cases.md")).expect("docs/cases.md");
    let named = named(&tables);
    assert!(named.len() > 100, "only {} tests are named", named.len());
    let (mut files, mut missing) = (BTreeMap::new(), Vec::new());
    for (file, test) in named {
        let below = if file.starts_with("interop/") || file.starts_with("fuzz/") { "" } else { "crates" };
        let path = crate::root().join(below).join(file);
        let text = files.entry(file).or_insert_with(|| fs::read_to_string(&path).unwrap_or_default());
        if !text.contains(&format!("fn {test}(")) {
            missing.push(format!("{file}: {test}"));
        }
    }
    assert!(missing.is_empty(), "docs/cases.md names what does not exist:\n{}", missing.join("\n"));
}
