//! Pairs of schemas with the answers that registries gave, for each of the seven levels. `tests/compat/README.md` tells where
//! the answers come from.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use milena_registry::compat::{Format, Level, Reference, Schema, check};
use serde_json::Value;

fn folder() -> PathBuf {
    // Other pairs, to compare in numbers that are not committed.
    let given = std::env::var_os("MILENA_COMPAT_PAIRS").map(PathBuf::from);
    given.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat/pairs"))
}

fn cases() -> Vec<Value> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut cases = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let found: Vec<Value> = serde_json::from_str(&text).unwrap();
        cases.extend(found);
    }
    cases
}

fn schema(format: Format, value: &Value) -> Result<Schema, String> {
    let references: Vec<Reference> =
        value["references"].as_array().into_iter().flatten().map(reference).collect();
    Schema::parse(format, value["schema"].as_str().unwrap(), &references).map_err(|error| error.to_string())
}

fn reference(value: &Value) -> Reference {
    let text = |name: &str| value[name].as_str().unwrap().to_owned();
    Reference { name: text("name"), schema: text("schema") }
}

/// What we answer, in the form of the registries' answers.
fn answer(case: &Value) -> Result<(Schema, Vec<Schema>), String> {
    let format: Format = case["type"].as_str().unwrap().parse().unwrap();
    let new = schema(format, &case["new"])?;
    let older = case["older"].as_array().unwrap().iter().map(|older| schema(format, older));
    Ok((new, older.collect::<Result<_, _>>()?))
}

#[test]
fn agrees_with_confluents_rules_at_every_level() {
    let mut wrong = String::new();
    let mut count = 0;
    for case in cases() {
        // docs/schemas.md tells where we differ, and why.
        let expected = if case["ours"]["levels"].is_object() { &case["ours"] } else { &case["confluent"] };
        count += 1;
        match answer(&case) {
            Err(error) if expected["error"].is_string() => drop(error),
            Err(error) => writeln!(wrong, "{}: refused: {error}", case["name"]).unwrap(),
            Ok(_) if expected["error"].is_string() => {
                writeln!(wrong, "{}: not refused: {}", case["name"], expected["error"]).unwrap();
            }
            Ok((new, older)) => {
                for level in Level::ALL {
                    let found = check(level, &new, &older);
                    if expected["levels"][level.name()] != found.is_ok() {
                        writeln!(wrong, "{}: {level}: {found:?}\n    {}", case["name"], expected["messages"])
                            .unwrap();
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{wrong}", wrong.lines().count());
}

#[test]
fn canonical_and_normalized_forms_are_confluents() {
    let mut wrong = String::new();
    for case in cases() {
        let expected = &case["confluent"];
        let (Some(canonical), Ok((new, _))) = (expected["canonical"].as_str(), answer(&case)) else {
            continue;
        };
        if new.canonical() != canonical {
            writeln!(
                wrong,
                "{}: canonical\n  ours   {}\n  theirs {canonical}",
                case["name"],
                new.canonical()
            )
            .unwrap();
        }
        // docs/schemas.md tells where we differ, and why.
        if let Some(normalized) = case["ours"]["normalized"].as_str().or(expected["normalized"].as_str())
            && new.normalized() != normalized
        {
            writeln!(
                wrong,
                "{}: normalized\n  ours   {}\n  theirs {normalized}",
                case["name"],
                new.normalized()
            )
            .unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// What a message of Confluent's says of Avro: the kind and the path.
fn said(message: &str) -> Option<(String, String)> {
    let kind = message.split_once("errorType:'")?.1.split_once('\'')?.0;
    let path = message.split_once("(path '")?.1.split_once('\'')?.0;
    Some((kind.to_owned(), path.to_owned()))
}

/// Avro takes the default of an enum for that of a new field, and then compares the enum with the whole record. The field is what is
/// wrong.
const NAMED_BETTER: &str = "avro: an enum with a default is added without a default of the field";

#[test]
fn what_is_found_in_avro_is_where_avro_says() {
    let (mut wrong, mut count) = (String::new(), 0);
    for case in cases() {
        let messages = case["confluent"]["messages"].as_array().cloned().unwrap_or_default();
        let mut theirs: Vec<_> =
            messages.iter().filter_map(|message| said(message.as_str().unwrap())).collect();
        let is_one = case["older"].as_array().is_some_and(|older| older.len() == 1);
        let (true, true, Ok((new, older))) =
            (case["type"] == "AVRO", is_one && !theirs.is_empty(), answer(&case))
        else {
            continue;
        };
        let Err(found) = check(Level::Backward, &new, &older) else { continue };
        let mut ours: Vec<_> =
            found.iter().map(|found| (found.kind().name().to_owned(), found.path().to_owned())).collect();
        theirs.sort();
        ours.sort();
        count += 1;
        if ours != theirs && case["name"] != NAMED_BETTER {
            writeln!(wrong, "{}:\n  ours   {ours:?}\n  theirs {theirs:?}", case["name"]).unwrap();
        }
    }
    assert!(wrong.is_empty() && count >= 14, "{count}:\n{wrong}");
}
