//! Our encoder and decoder beside Kafka's own.
//!
//! `messages.bin.gz` and `facts.txt` come from Kafka's client (`cargo xtask oracle`; the format is described in
//! `xtask/oracle/Oracle.java`).

mod codec;
mod corrupt;
mod facts;
mod file;

use std::collections::BTreeSet;

use codec::Codec;
use file::{Entry, Outcome};

#[test]
fn every_message_is_read_and_written_back_byte_for_byte() {
    for entry in file::entries() {
        let codec = Codec::of(&entry.name);
        let written = codec.recode(&entry.content, entry.version, entry.version);
        assert_eq!(written, Ok(Ok(entry.content.to_vec())), "{entry}");
    }
}

#[test]
fn every_message_is_there_in_every_version_and_starts_with_its_defaults() {
    let entries = file::entries();
    for codec in Codec::all() {
        for version in codec.versions.clone() {
            let mut of_version =
                entries.iter().filter(|entry| entry.name == codec.name && entry.version == version);
            let defaults = of_version.next().map(|entry| entry.content.to_vec());
            assert_eq!((codec.defaults)(version).ok(), defaults, "{} {version}", codec.name);
            assert!(of_version.count() >= 2, "{} {version} has defaults only", codec.name);
        }
    }
    let ours: BTreeSet<&str> = Codec::all().iter().map(|codec| codec.name).collect();
    let theirs: BTreeSet<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(ours, theirs);
}

/// A field that the other version lacks is dropped or refused exactly as Kafka's encoder does.
#[test]
fn at_other_versions_a_message_becomes_what_kafka_makes_of_it() {
    let (mut written, mut refused) = (0, 0);
    for entry in file::entries() {
        let codec = Codec::of(&entry.name);
        for (version, expected) in &entry.others {
            let recoded = codec.recode(&entry.content, entry.version, *version).expect("decodes");
            let outcome = match &recoded {
                Ok(content) => Outcome::of(content),
                Err(_) => Outcome::Refused,
            };
            assert_eq!(outcome, *expected, "{entry} at {version}: {recoded:?}");
            *(if outcome == Outcome::Refused { &mut refused } else { &mut written }) += 1;
        }
    }
    assert!(written > 1000 && refused > 1000, "{written} written, {refused} refused");
}

#[test]
fn versions_outside_the_schema_are_refused() {
    for codec in Codec::all() {
        for version in [codec.versions.start() - 1, codec.versions.end() + 1, i16::MIN, i16::MAX] {
            assert!((codec.defaults)(version).is_err(), "{} {version}", codec.name);
            let decoded = codec.recode(&vec![0; 64].into(), version, version);
            assert!(decoded.is_err(), "{} {version}", codec.name);
        }
    }
}

#[test]
fn every_truncation_is_an_error() {
    for entry in file::entries() {
        let codec = Codec::of(&entry.name);
        let length = entry.content.len();
        // All cuts of what is short; of what is long, a hundred, and those near both ends.
        let step = (length / 100).max(1);
        let cuts =
            (0..length).filter(|cut| length < 600 || cut % step == 0 || cut.min(&(length - cut)) < &50);
        for cut in cuts {
            let cut_off = entry.content.slice(..cut);
            assert!(codec.recode(&cut_off, entry.version, entry.version).is_err(), "{entry} cut at {cut}");
        }
    }
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} version {} (entry {})", self.name, self.version, self.number)
    }
}
