//! Topic and broker configs: Kafka's names, types and defaults, and their effect on this broker.
//!
//! ```text
//!  topic's own ─▶ node's ─▶ all nodes' ─▶ set by the program that started the broker ─▶ Kafka's default
//!  (overrides)    └─ dynamic (BrokerConfigs) ─┘            (MachineSettings)            (Definition)
//! ```
//!
//! The first of these that has a value decides. A topic config and the broker config that is its default have different
//! names: `retention.ms` and `log.retention.ms`.

mod broker;
mod rules;
mod topic;

use std::collections::BTreeMap;

use milena_wire::codec::Compression;

pub(crate) use broker::{BrokerConfig, BrokerConfigs, Link};
pub(crate) use rules::TopicRules;
pub(crate) use topic::{Definition, TOPIC, check, definition, without_effect};

/// The values of some configs, by name.
pub(crate) type Overrides = BTreeMap<String, String>;

/// The form of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Int,
    Long,
    Double,
    /// Any of the listed words, separated by commas; any words when none are listed.
    List(&'static [&'static str]),
    /// One of the listed words.
    Choice(&'static [&'static str]),
    /// One of a codec's levels (KIP-390), or the number that stands for its default.
    Level(Compression),
}

impl Kind {
    /// The value as it is kept: without spaces around it, and each word of a list once. A number is at least `min`. The
    /// error is a sentence in Kafka's words.
    pub(crate) fn check(self, name: &str, value: &str, min: i64) -> Result<String, String> {
        let trimmed = value.trim();
        let refused =
            |value: &str, why: &str| Err(format!("Invalid value {value} for configuration {name}: {why}"));
        let number = |parsed: Option<i64>, kind: &str| match parsed {
            None => refused(value, &format!("Not a number of type {kind}")),
            Some(number) if number < min => refused(trimmed, &format!("Value must be at least {min}")),
            Some(_) => Ok(trimmed.to_owned()),
        };
        let one_of = |words: &[&str], word: &str| match words.contains(&word) {
            true => Ok(word.to_owned()),
            false => refused(word, &format!("String must be one of: {}", words.join(", "))),
        };
        match self {
            Self::Bool if !matches!(trimmed.to_ascii_lowercase().as_str(), "true" | "false") => {
                refused(value, "Expected value to be either true or false")
            }
            Self::Bool => Ok(trimmed.to_ascii_lowercase()),
            Self::Int => number(trimmed.parse::<i32>().ok().map(i64::from), "INT"),
            Self::Long => number(trimmed.parse().ok(), "LONG"),
            Self::Double => match trimmed.parse::<f64>() {
                Err(_) => refused(value, "Not a number of type DOUBLE"),
                Ok(number) if number < 0.0 => refused(&format!("{number:?}"), "Value must be at least 0"),
                Ok(number) if number <= 1.0 => Ok(format!("{number:?}")),
                Ok(number) => refused(&format!("{number:?}"), "Value must be no more than 1"),
            },
            Self::List(words) => {
                let mut kept: Vec<String> = Vec::new();
                for word in trimmed.split(',').map(str::trim).filter(|word| !word.is_empty()) {
                    let word = if words.is_empty() { word.to_owned() } else { one_of(words, word)? };
                    if !kept.contains(&word) {
                        kept.push(word);
                    }
                }
                Ok(kept.join(","))
            }
            Self::Choice(words) => one_of(words, trimmed),
            Self::Level(codec) => {
                let Ok(level) = trimmed.parse::<i32>() else {
                    return refused(value, "Not a number of type INT");
                };
                let Some(levels) = codec.levels() else { return Ok(trimmed.to_owned()) };
                let is_default = min < 0 && i64::from(level) == min;
                match (levels.contains(&level), min < 0) {
                    _ if is_default => Ok(trimmed.to_owned()),
                    (true, _) => Ok(trimmed.to_owned()),
                    (false, true) => {
                        let (low, high) = (levels.start(), levels.end());
                        refused(trimmed, &format!("Value must be between {low} and {high} or equal to {min}"))
                    }
                    (false, false) if level < *levels.start() => {
                        refused(trimmed, &format!("Value must be at least {}", levels.start()))
                    }
                    (false, false) => {
                        refused(trimmed, &format!("Value must be no more than {}", levels.end()))
                    }
                }
            }
        }
    }

    /// DescribeConfigs' `ConfigType`.
    pub(crate) fn number(self) -> i8 {
        match self {
            Self::Bool => 1,
            Self::Choice(_) => 2,
            Self::Int | Self::Level(_) => 3,
            Self::Long => 5,
            Self::Double => 6,
            Self::List(_) => 7,
        }
    }
}
