//! Settings from property names, Java's or librdkafka's. A name that nothing knows is an error: a setting that is
//! silently ignored is worse than none.

use super::Settings;
use super::names::{SETTINGS, SettingDoc};
use crate::Error;

/// Sets one property.
pub(crate) fn apply(settings: &mut Settings, name: &str, text: &str) -> Result<(), Error> {
    let doing = || format!("setting the property {name:?}");
    let setting = SETTINGS.iter().find(|setting| setting.is_called(name));
    let setting = setting.ok_or_else(|| Error::caller(doing(), unknown(name)))?;
    (setting.set)(settings, text).map_err(|why| Error::caller(doing(), why))
}

impl SettingDoc {
    fn is_called(&self, name: &str) -> bool {
        self.names().any(|known| known == name)
    }

    /// All names it goes by.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        [self.name].into_iter().chain(self.java.iter().copied()).chain(self.librdkafka.iter().copied())
    }
}

/// Further away than this, a name is no misspelling.
const DISTANCE_MAX: usize = 4;

fn unknown(name: &str) -> String {
    let names = SETTINGS.iter().flat_map(SettingDoc::names);
    let nearest = names.map(|known| (distance(name, known), known)).min();
    match nearest.filter(|(distance, known)| *distance <= DISTANCE_MAX.min(known.len() / 2)) {
        Some((_, known)) => format!("there is no such setting; did you mean {known:?}?"),
        None => String::from("there is no such setting"),
    }
}

/// Levenshtein's distance, with one row.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, byte) in left.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, other) in right.bytes().enumerate() {
            let cost = diagonal + usize::from(byte != other);
            diagonal = row[column + 1];
            row[column + 1] = cost.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::settings::{Acks, Compression};

    #[test]
    fn both_dialects_set_the_same() {
        for names in [
            ["bootstrap.servers", "linger.ms", "compression.type", "acks"],
            ["metadata.broker.list", "queue.buffering.max.ms", "compression.codec", "request.required.acks"],
        ] {
            let mut settings = Settings::default();
            for (name, text) in names.into_iter().zip(["a:1,[::1]:2", "0.5", "zstd", "1"]) {
                apply(&mut settings, name, text).expect("set");
            }
            assert_eq!(settings.client.bootstrap.len(), 2);
            assert_eq!(settings.producer.linger, Duration::from_micros(500));
            assert_eq!(settings.producer.compression, Compression::Zstd);
            assert_eq!(settings.producer.acks, Acks::Leader);
        }
    }

    #[test]
    fn a_mistake_is_told_with_what_was_probably_meant() {
        let check = |name: &str, text: &str, expected: &str| {
            let error = apply(&mut Settings::default(), name, text).expect_err("refused").to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("linger.mss", "5", "did you mean \"linger.ms\"?");
        check("bootstrap.server", "a:1", "did you mean \"bootstrap.servers\"?");
        check("frobnicate", "5", "there is no such setting");
        check("acks", "two", "\"two\" is none of all, -1, 1, 0");
        check("linger.ms", "-1", "no number of milliseconds");
        check("fetch.max.bytes", "many", "is not a value of that kind");
    }

    #[test]
    fn no_name_means_two_settings() {
        let mut names: Vec<_> = SETTINGS.iter().flat_map(SettingDoc::names).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        // `acks` is our name and Java's.
        assert_eq!(names.len(), count - 1);
    }

    #[test]
    fn documented_defaults_are_the_defaults() {
        for setting in SETTINGS {
            let mut settings = Settings::default();
            let before = format!("{settings:?}");
            if (setting.set)(&mut settings, setting.default).is_ok() {
                assert_eq!(format!("{settings:?}"), before, "{}", setting.name);
            }
        }
    }
}
