//! Topic and broker configs: Kafka's names, types and defaults, and what this broker does with them.
//!
//! All of a topic's configs that Kafka knows are accepted and described, so that programs which set them run. Those that
//! this broker acts on are fields of [`TopicRules`]; the others are remembered only, and the log says so once per topic.

use std::collections::BTreeMap;

use milena_wire::Str;

use crate::check::Rules;

/// What a value looks like; the numbers are DescribeConfigs' own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Int,
    Long,
    Double,
    /// One or more of the listed words, separated by commas; any words when none are listed.
    List(&'static [&'static str]),
    /// One of the listed words.
    Choice(&'static [&'static str]),
}

/// One config that a topic may set.
#[derive(Debug)]
pub(crate) struct Definition {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) default: &'static str,
    /// The least value of a number.
    min: i64,
    /// Whether this broker acts on it.
    pub(crate) is_honoured: bool,
}

/// A topic's own configs, by name.
pub(crate) type Overrides = BTreeMap<String, String>;

/// What this broker acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TopicRules {
    /// `max.message.bytes`, unit bytes.
    pub(crate) batch_bytes_max: usize,
    /// `segment.bytes`.
    pub(crate) segment_bytes: u64,
    /// `message.timestamp.type=LogAppendTime`.
    pub(crate) stamps_append_time: bool,
    /// `message.timestamp.before.max.ms`.
    pub(crate) timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub(crate) timestamp_after_max_ms: i64,
    /// `cleanup.policy` has `compact`.
    pub(crate) is_compacted: bool,
}

const CODECS: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];
const LONG_MAX: &str = "9223372036854775807";

const fn kept(name: &'static str, kind: Kind, default: &'static str, min: i64) -> Definition {
    Definition { name, kind, default, min, is_honoured: false }
}

const fn honoured(name: &'static str, kind: Kind, default: &'static str, min: i64) -> Definition {
    Definition { name, kind, default, min, is_honoured: true }
}

/// Kafka 4.x's topic configs, by name.
pub(crate) const TOPIC: &[Definition] = &[
    kept("cleanup.policy", Kind::List(&["compact", "delete"]), "delete", 0),
    kept("compression.gzip.level", Kind::Int, "-1", -1),
    kept("compression.lz4.level", Kind::Int, "9", 1),
    kept("compression.type", Kind::Choice(CODECS), "producer", 0),
    kept("compression.zstd.level", Kind::Int, "3", i64::MIN),
    kept("delete.retention.ms", Kind::Long, "86400000", 0),
    kept("errors.deadletterqueue.group.enable", Kind::Bool, "false", 0),
    kept("file.delete.delay.ms", Kind::Long, "60000", 0),
    kept("flush.messages", Kind::Long, LONG_MAX, 1),
    kept("flush.ms", Kind::Long, LONG_MAX, 0),
    kept("follower.replication.throttled.replicas", Kind::List(&[]), "", 0),
    kept("index.interval.bytes", Kind::Int, "4096", 0),
    kept("leader.replication.throttled.replicas", Kind::List(&[]), "", 0),
    kept("local.retention.bytes", Kind::Long, "-2", -2),
    kept("local.retention.ms", Kind::Long, "-2", -2),
    kept("max.compaction.lag.ms", Kind::Long, LONG_MAX, 1),
    honoured("max.message.bytes", Kind::Int, "1048588", 0),
    honoured("message.timestamp.after.max.ms", Kind::Long, "3600000", 0),
    kept("message.timestamp.before.max.ms", Kind::Long, LONG_MAX, 0),
    honoured("message.timestamp.type", Kind::Choice(&["CreateTime", "LogAppendTime"]), "CreateTime", 0),
    kept("min.cleanable.dirty.ratio", Kind::Double, "0.5", 0),
    kept("min.compaction.lag.ms", Kind::Long, "0", 0),
    kept("min.insync.replicas", Kind::Int, "1", 1),
    kept("preallocate", Kind::Bool, "false", 0),
    kept("remote.log.copy.disable", Kind::Bool, "false", 0),
    kept("remote.log.delete.on.disable", Kind::Bool, "false", 0),
    kept("remote.storage.enable", Kind::Bool, "false", 0),
    kept("retention.bytes", Kind::Long, "-1", -1),
    kept("retention.ms", Kind::Long, "604800000", -1),
    honoured("segment.bytes", Kind::Int, "1073741824", 14),
    kept("segment.index.bytes", Kind::Int, "10485760", 4),
    kept("segment.jitter.ms", Kind::Long, "0", 0),
    kept("segment.ms", Kind::Long, "604800000", 1),
    kept("unclean.leader.election.enable", Kind::Bool, "false", 0),
];

/// The definition of a topic config.
pub(crate) fn definition(name: &str) -> Option<&'static Definition> {
    TOPIC.iter().find(|definition| definition.name == name)
}

/// Checks what a client wants a topic to be. The error is a sentence for it.
pub(crate) fn check<'a>(
    configs: impl Iterator<Item = (&'a Str, Option<&'a Str>)>,
) -> Result<Overrides, String> {
    let mut overrides = Overrides::new();
    for (name, value) in configs {
        let Some(definition) = definition(name) else {
            return Err(format!("Unknown topic config name: {name}"));
        };
        let Some(value) = value else {
            return Err(format!("Null value not supported for topic configs: {name}"));
        };
        if !definition.kind.accepts(value, definition.min) {
            return Err(format!("Invalid value {value} for configuration {name}"));
        }
        overrides.insert(name.to_string(), value.to_string());
    }
    Ok(overrides)
}

impl Kind {
    fn accepts(self, value: &str, min: i64) -> bool {
        match self {
            Self::Bool => matches!(value, "true" | "false"),
            Self::Int => value.trim().parse::<i32>().is_ok_and(|number| i64::from(number) >= min),
            Self::Long => value.trim().parse::<i64>().is_ok_and(|number| number >= min),
            Self::Double => value.trim().parse::<f64>().is_ok_and(|number| (0.0..=1.0).contains(&number)),
            Self::List([]) => true,
            Self::List(words) => value.split(',').all(|word| words.contains(&word.trim())),
            Self::Choice(words) => words.contains(&value),
        }
    }

    /// DescribeConfigs' `ConfigType`.
    pub(crate) fn number(self) -> i8 {
        match self {
            Self::Bool => 1,
            Self::Choice(_) => 2,
            Self::Int => 3,
            Self::Long => 5,
            Self::Double => 6,
            Self::List(_) => 7,
        }
    }
}

impl TopicRules {
    /// The rules under a topic's `overrides`; `batch_bytes_max` is the broker's `message.max.bytes`.
    pub(crate) fn new(overrides: &Overrides, batch_bytes_max: usize, segment_bytes: u64) -> Self {
        let text = |name: &str| overrides.get(name).map(String::as_str).map(str::trim);
        let number = |name: &str| text(name).and_then(|value| value.parse::<i64>().ok());
        Self {
            batch_bytes_max: number("max.message.bytes")
                .map_or(batch_bytes_max, |bytes| bytes.max(0) as usize),
            segment_bytes: number("segment.bytes").map_or(segment_bytes, |bytes| bytes.max(1) as u64),
            stamps_append_time: text("message.timestamp.type") == Some("LogAppendTime"),
            timestamp_before_max_ms: number("message.timestamp.before.max.ms").unwrap_or(i64::MAX),
            timestamp_after_max_ms: number("message.timestamp.after.max.ms").unwrap_or(3_600_000),
            is_compacted: text("cleanup.policy")
                .is_some_and(|policies| policies.split(',').any(|policy| policy.trim() == "compact")),
        }
    }

    /// What batches must be like that come at `now_ms`.
    pub(crate) fn of_batches(&self, now_ms: i64) -> Rules {
        Rules {
            batch_bytes_max: self.batch_bytes_max,
            segment_bytes: self.segment_bytes,
            now_ms,
            timestamp_before_max_ms: self.timestamp_before_max_ms,
            timestamp_after_max_ms: self.timestamp_after_max_ms,
            stamps_append_time: self.stamps_append_time,
            is_compacted: self.is_compacted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(name: &str, value: Option<&str>) -> Result<Overrides, String> {
        let (name, value) = (Str::from(name), value.map(Str::from));
        check(std::iter::once((&name, value.as_ref())))
    }

    #[test]
    fn values_are_checked_as_kafka_checks_them() {
        for (name, value) in [
            ("cleanup.policy", "compact,delete"),
            ("retention.ms", "-1"),
            ("segment.bytes", "1048576"),
            ("message.timestamp.type", "LogAppendTime"),
            ("min.cleanable.dirty.ratio", "0.1"),
            ("preallocate", "true"),
        ] {
            assert!(outcome(name, Some(value)).is_ok(), "{name}={value}");
        }
        for (name, value) in [
            ("no.such.config", Some("1")),
            ("retention.ms", None),
            ("retention.ms", Some("-2")),
            ("retention.ms", Some("soon")),
            ("segment.bytes", Some("4294967296")),
            ("cleanup.policy", Some("keep")),
            ("message.timestamp.type", Some("createtime")),
        ] {
            assert!(outcome(name, value).is_err(), "{name}={value:?}");
        }
    }

    #[test]
    fn defaults_are_valid_and_sorted() {
        for definition in TOPIC {
            assert!(definition.kind.accepts(definition.default, definition.min), "{}", definition.name);
        }
        assert!(TOPIC.is_sorted_by_key(|definition| definition.name));
    }
}
