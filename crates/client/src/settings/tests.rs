//! Properties against the complete lists of what Java and librdkafka know.

use std::fmt::Write as _;

use super::foreign::{Foreign, Otherwise};
use super::properties::{find, find_with};
use super::*;

/// A line of a list.
#[derive(Debug, Clone, Copy)]
struct Known<'a> {
    name: &'a str,
    default: Option<&'a str>,
    bounds: Option<&'a str>,
    /// Our setting, or what a value that is not the default meets.
    here: &'a str,
}

const LISTS: [&str; 2] =
    [include_str!("../../tests/settings/java.tsv"), include_str!("../../tests/settings/librdkafka.tsv")];

fn known(list: &'static str) -> impl Iterator<Item = Known<'static>> {
    list.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let mut cells = line.split('\t');
        let mut cell = || cells.next().unwrap_or_else(|| panic!("{line:?} has five cells"));
        let (name, _, default, bounds, here) = (cell(), cell(), cell(), cell(), cell());
        let some = |text: &'static str| Some(text).filter(|text| *text != "-");
        Known { name, default: some(default), bounds: some(bounds), here }
    })
}

/// What setting `name` to `text` does; with `before` set first.
fn set(before: &[(&str, &str)], name: &str, text: &str) -> Result<Settings, Error> {
    before.iter().copied().chain([(name, text)]).collect::<Properties>().settings()
}

/// What becomes of a value of `name` that asks for something.
fn treatment(name: &str) -> &'static str {
    if let Some(setting) = find(name) {
        return setting.name;
    }
    match find_with(name, Foreign::find).map(|foreign| foreign.otherwise) {
        Some(Otherwise::Sets(_)) => "sets",
        Some(Otherwise::Ignored(_)) => "ignored",
        Some(Otherwise::Refused(_)) => "refused",
        Some(Otherwise::NeedsTls) => "refused without TLS",
        None => "unknown",
    }
}

#[test]
fn every_name_of_both_dialects_is_known() {
    let mut wrong = String::new();
    for Known { name, here, .. } in LISTS.into_iter().flat_map(known) {
        if treatment(name) != here {
            let _ = writeln!(wrong, "{name}: {} and not {here}", treatment(name));
        }
    }
    assert_eq!(wrong, "");
}

/// Defaults that ask for what is not done here.
const REFUSED_DEFAULTS: [(&str, &str); 1] =
    // Keys would go to other partitions than those our hash names.
    [("partitioner", "consistent_random")];

#[test]
fn every_default_of_both_dialects_is_taken() {
    for Known { name, default, .. } in LISTS.into_iter().flat_map(known) {
        let Some(default) = default else { continue };
        let taken = set(&[("security.protocol", "PLAINTEXT")], name, default);
        let expected = !REFUSED_DEFAULTS.contains(&(name, default));
        assert_eq!(taken.is_ok(), expected, "{name}={default}: {:?}", taken.err());
    }
}

/// Ends of the bounds elsewhere that are out of bounds here, each for a reason.
const REFUSED_BOUNDS: [(&str, &str); 7] = [
    // No time at all to answer in, and no memory to send from: nothing could ever be done.
    ("request.timeout.ms", "0"),
    ("default.api.timeout.ms", "0"),
    ("buffer.memory", "0"),
    ("max.request.size", "0"),
    // Brokers know -1, 0 and 1 only.
    ("acks", "1000"),
    ("request.required.acks", "1000"),
    // What is not there yet.
    ("security.protocol", "ssl"),
];

#[test]
fn the_bounds_of_both_dialects_are_taken() {
    for Known { name, bounds, here, .. } in LISTS.into_iter().flat_map(known) {
        let Some(bounds) = bounds else { continue };
        if here.starts_with("refused") {
            continue;
        }
        let values: Vec<_> = match bounds.split_once("..") {
            Some((least, most)) => [least, most].into_iter().filter(|end| !end.is_empty()).collect(),
            None => bounds.split('|').filter(|word| !word.starts_with("by_duration")).collect(),
        };
        for text in values {
            let taken = set(&[], name, text);
            let expected = !REFUSED_BOUNDS.contains(&(name, text));
            assert_eq!(taken.is_ok(), expected, "{name}={text}: {:?}", taken.err());
        }
    }
}
