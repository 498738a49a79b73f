//! Topic and broker configs: Kafka's names, types and defaults, and their effect on this broker.
//!
//! All topic configs that Kafka knows are described. Those that this broker acts on are fields of [`TopicRules`]. For
//! any other config it accepts only the values that describe what it does anyway: a program that asks for compaction
//! and gets none would find out much later.

use std::collections::BTreeMap;

use milena_wire::Str;
use milena_wire::codec::Compression;

use crate::check::Rules;
use crate::log::{Retention, Roll};

/// The form of a value.
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
    /// One of a codec's levels (KIP-390), or the number that stands for its default.
    Level(Compression),
}

/// One config that a topic may set.
#[derive(Debug)]
pub(crate) struct Definition {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) default: &'static str,
    /// The least value of a number.
    min: i64,
    effect: Effect,
}

/// The effect of a value.
#[derive(Debug, Clone, Copy)]
enum Effect {
    /// The broker acts on it.
    Honoured,
    /// Every value is right: it tunes something that does not happen here, or that happens as little as it allows.
    Idle,
    /// The broker always does the same, and this says what. Only the default and these values ask for it.
    Fixed(&'static [&'static str], &'static str),
}

/// A topic's own configs, by name.
pub(crate) type Overrides = BTreeMap<String, String>;

/// The configs of a topic that this broker acts on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TopicRules {
    /// `max.message.bytes`, unit bytes.
    pub(crate) batch_bytes_max: usize,
    /// `max.decompressed.message.bytes`, of one record in a compressed batch.
    pub(crate) record_bytes_max: usize,
    /// `segment.bytes`.
    pub(crate) segment_bytes: u64,
    /// `segment.ms`.
    pub(crate) segment_ms: i64,
    /// `message.timestamp.type=LogAppendTime`.
    pub(crate) stamps_append_time: bool,
    /// `message.timestamp.before.max.ms`.
    pub(crate) timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub(crate) timestamp_after_max_ms: i64,
    /// `cleanup.policy` contains `delete`.
    pub(crate) is_trimmed: bool,
    /// `cleanup.policy` contains `compact`.
    pub(crate) is_compacted: bool,
    /// `retention.ms`.
    pub(crate) retention_ms: Option<i64>,
    /// `retention.bytes`.
    pub(crate) retention_bytes: Option<u64>,
    /// `min.insync.replicas`.
    pub(crate) insync_min: usize,
}

const CODECS: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];

const LONG_MAX: &str = "9223372036854775807";

const fn fixed(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    min: i64,
    values: &'static [&'static str],
    does: &'static str,
) -> Definition {
    Definition { name, kind, default, min, effect: Effect::Fixed(values, does) }
}

const fn idle(name: &'static str, kind: Kind, default: &'static str, min: i64) -> Definition {
    Definition { name, kind, default, min, effect: Effect::Idle }
}

const fn honoured(name: &'static str, kind: Kind, default: &'static str, min: i64) -> Definition {
    Definition { name, kind, default, min, effect: Effect::Honoured }
}

const KEEPS_ALL: &str = "does not compact";
const KEEPS_CODEC: &str = "stores batches as their producers compressed them";
const FLUSHES: &str = "leaves it to the system when to write to the disk, but for a clean stop";
const HAS_NO_INDEX_SETTINGS: &str = "lays out its segments and indexes by itself";
const HAS_NO_TIERS: &str = "has no remote storage";
const COPIES_NOTHING: &str = "has nothing to throttle, as all replicas of a partition are one log";
const LOSES_NOTHING: &str =
    "loses nothing when any replica leads, as all replicas of a partition are one log";
const HAS_NO_SHARE_GROUPS: &str = "has no share groups";

/// Kafka 4.x's topic configs, by name.
pub(crate) const TOPIC: &[Definition] = &[
    fixed("cleanup.policy", Kind::List(&["compact", "delete"]), "delete", 0, &[], KEEPS_ALL),
    idle("compression.gzip.level", Kind::Level(Compression::Gzip), "-1", -1),
    idle("compression.lz4.level", Kind::Level(Compression::Lz4), "9", 1),
    fixed("compression.type", Kind::Choice(CODECS), "producer", 0, &[], KEEPS_CODEC),
    idle("compression.zstd.level", Kind::Level(Compression::Zstd), "3", 1),
    idle("delete.retention.ms", Kind::Long, "86400000", 0),
    fixed("errors.deadletterqueue.group.enable", Kind::Bool, "false", 0, &[], HAS_NO_SHARE_GROUPS),
    // Files are removed at once: no other thread reads them.
    idle("file.delete.delay.ms", Kind::Long, "60000", 0),
    fixed("flush.messages", Kind::Long, LONG_MAX, 1, &[], FLUSHES),
    fixed("flush.ms", Kind::Long, LONG_MAX, 0, &[], FLUSHES),
    fixed("follower.replication.throttled.replicas", Kind::List(&[]), "", 0, &[], COPIES_NOTHING),
    fixed("index.interval.bytes", Kind::Int, "4096", 0, &[], HAS_NO_INDEX_SETTINGS),
    fixed("leader.replication.throttled.replicas", Kind::List(&[]), "", 0, &[], COPIES_NOTHING),
    fixed("local.retention.bytes", Kind::Long, "-2", -2, &[], HAS_NO_TIERS),
    fixed("local.retention.ms", Kind::Long, "-2", -2, &[], HAS_NO_TIERS),
    idle("max.compaction.lag.ms", Kind::Long, LONG_MAX, 1),
    honoured("max.decompressed.message.bytes", Kind::Int, "2147483639", 1),
    honoured("max.message.bytes", Kind::Int, "1048588", 0),
    honoured("message.timestamp.after.max.ms", Kind::Long, "3600000", 0),
    honoured("message.timestamp.before.max.ms", Kind::Long, LONG_MAX, 0),
    honoured("message.timestamp.type", Kind::Choice(&["CreateTime", "LogAppendTime"]), "CreateTime", 0),
    idle("min.cleanable.dirty.ratio", Kind::Double, "0.5", 0),
    idle("min.compaction.lag.ms", Kind::Long, "0", 0),
    honoured("min.insync.replicas", Kind::Int, "1", 1),
    fixed("preallocate", Kind::Bool, "false", 0, &[], HAS_NO_INDEX_SETTINGS),
    fixed("remote.copy.lag.bytes", Kind::Long, "-1", -1, &[], HAS_NO_TIERS),
    fixed("remote.copy.lag.ms", Kind::Long, "0", -1, &[], HAS_NO_TIERS),
    fixed("remote.log.copy.disable", Kind::Bool, "false", 0, &[], HAS_NO_TIERS),
    fixed("remote.log.delete.on.disable", Kind::Bool, "false", 0, &[], HAS_NO_TIERS),
    fixed("remote.storage.enable", Kind::Bool, "false", 0, &[], HAS_NO_TIERS),
    honoured("retention.bytes", Kind::Long, "-1", i64::MIN),
    honoured("retention.ms", Kind::Long, "604800000", -1),
    honoured("segment.bytes", Kind::Int, "1073741824", 1 << 20),
    fixed("segment.index.bytes", Kind::Int, "10485760", 4, &[], HAS_NO_INDEX_SETTINGS),
    // It is the most that a segment may begin earlier, and here none does.
    idle("segment.jitter.ms", Kind::Long, "0", 0),
    honoured("segment.ms", Kind::Long, "604800000", 1),
    fixed("unclean.leader.election.enable", Kind::Bool, "false", 0, &[], LOSES_NOTHING),
];

/// The definition of a topic config.
pub(crate) fn definition(name: &str) -> Option<&'static Definition> {
    let at = TOPIC.binary_search_by_key(&name, |definition| definition.name).ok()?;
    Some(&TOPIC[at])
}

/// Checks the configs that a client wants for a topic. The error is a sentence for the client.
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
        if let Some(does) = definition.refuses(value) {
            return Err(format!(
                "{name}={value} would have no effect and is refused: this broker {does}. Leave it out, or set {}",
                definition.allowed()
            ));
        }
        overrides.insert(name.to_string(), value.to_string());
    }
    Ok(overrides)
}

/// The configs without an effect that a topic has from earlier versions, which did not refuse them.
pub(crate) fn without_effect(overrides: &Overrides) -> impl Iterator<Item = (&String, &String)> {
    let refused = |name: &str, value: &str| definition(name).and_then(|definition| definition.refuses(value));
    overrides.iter().filter(move |(name, value)| refused(name, value).is_some())
}

impl Definition {
    /// What the broker does instead, when it does not do what the value asks for.
    fn refuses(&self, value: &str) -> Option<&'static str> {
        let value = value.trim();
        match self.effect {
            Effect::Fixed(values, does) if value != self.default && !values.contains(&value) => Some(does),
            _ => None,
        }
    }

    /// The values that are accepted, as part of a sentence.
    fn allowed(&self) -> String {
        let Effect::Fixed(values, _) = self.effect else { return String::new() };
        let all = values.iter().chain([&self.default]);
        all.map(|value| format!("{}={value}", self.name)).collect::<Vec<_>>().join(" or ")
    }
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
            Self::Level(codec) => value.trim().parse::<i32>().is_ok_and(|level| {
                i64::from(level) == min && level < 0
                    || codec.levels().is_some_and(|levels| levels.contains(&level))
            }),
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

impl TopicRules {
    /// The rules of a topic that sets `overrides`, and has the broker's `defaults` for what it does not set.
    pub(crate) fn new(overrides: &Overrides, defaults: &Overrides) -> Self {
        let text = |name: &str| {
            let value = overrides.get(name).or_else(|| defaults.get(name)).map(String::as_str);
            value.unwrap_or_else(|| definition(name).map_or("", |definition| definition.default)).trim()
        };
        // Values are checked before they are stored, so that these conversions do not fail.
        let number = |name: &str| text(name).parse::<i64>().unwrap_or_default();
        let size = |name: &str| number(name).max(0) as usize;
        let has_policy =
            |wanted: &str| text("cleanup.policy").split(',').any(|policy| policy.trim() == wanted);
        Self {
            batch_bytes_max: size("max.message.bytes"),
            record_bytes_max: size("max.decompressed.message.bytes"),
            segment_bytes: number("segment.bytes").max(1) as u64,
            segment_ms: number("segment.ms"),
            stamps_append_time: text("message.timestamp.type") == "LogAppendTime",
            timestamp_before_max_ms: number("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: number("message.timestamp.after.max.ms"),
            is_trimmed: has_policy("delete"),
            is_compacted: has_policy("compact"),
            retention_ms: Some(number("retention.ms")).filter(|&ms| ms >= 0),
            retention_bytes: u64::try_from(number("retention.bytes")).ok(),
            insync_min: size("min.insync.replicas").max(1),
        }
    }

    /// When a new segment begins.
    pub(crate) fn roll(&self) -> Roll {
        Roll { bytes_max: self.segment_bytes, span_max_ms: self.segment_ms }
    }

    /// How much of a log is kept; `None` if that has no limit.
    pub(crate) fn retention(&self) -> Option<Retention> {
        let retention = Retention { age_max_ms: self.retention_ms, bytes_max: self.retention_bytes };
        self.is_trimmed.then_some(retention)
    }

    /// The rules for batches that arrive at `now_ms`.
    pub(crate) fn of_batches(&self, now_ms: i64) -> Rules {
        Rules {
            batch_bytes_max: self.batch_bytes_max,
            record_bytes_max: self.record_bytes_max,
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
            ("cleanup.policy", "delete"),
            ("retention.ms", "-1"),
            ("segment.bytes", "1048576"),
            ("message.timestamp.type", "LogAppendTime"),
            ("min.cleanable.dirty.ratio", "0.1"),
            ("min.insync.replicas", "2"),
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

    /// Every config that Kafka knows has an effect, or every value is refused that does not describe what happens
    /// anyway.
    #[test]
    fn what_has_no_effect_is_refused() {
        let other = |definition: &Definition| match definition.kind {
            Kind::Bool => "true",
            Kind::Choice(words) => words[0],
            Kind::List(&[]) => "*",
            Kind::List(words) => words[0],
            Kind::Double => "0.25",
            Kind::Int | Kind::Long => "1234567",
            Kind::Level(_) => "2",
        };
        let mut refused = Vec::new();
        for definition in TOPIC {
            assert!(outcome(definition.name, Some(definition.default)).is_ok(), "{}", definition.name);
            if let Err(reason) = outcome(definition.name, Some(other(definition))) {
                assert!(reason.contains("no effect") && reason.contains(definition.name), "{reason}");
                refused.push(definition.name);
            }
        }
        let taken: Vec<_> =
            TOPIC.iter().map(|definition| definition.name).filter(|name| !refused.contains(name)).collect();
        assert_eq!(
            taken,
            [
                "compression.gzip.level",
                "compression.lz4.level",
                "compression.zstd.level",
                "delete.retention.ms",
                "file.delete.delay.ms",
                "max.compaction.lag.ms",
                "max.decompressed.message.bytes",
                "max.message.bytes",
                "message.timestamp.after.max.ms",
                "message.timestamp.before.max.ms",
                "message.timestamp.type",
                "min.cleanable.dirty.ratio",
                "min.compaction.lag.ms",
                "min.insync.replicas",
                "retention.bytes",
                "retention.ms",
                "segment.bytes",
                "segment.jitter.ms",
                "segment.ms",
            ]
        );
        let reason = outcome("cleanup.policy", Some("compact")).unwrap_err();
        assert_eq!(
            reason,
            "cleanup.policy=compact would have no effect and is refused: this broker does not compact. Leave it \
             out, or set cleanup.policy=delete"
        );
    }

    #[test]
    fn defaults_are_valid_and_sorted() {
        for definition in TOPIC {
            assert!(definition.kind.accepts(definition.default, definition.min), "{}", definition.name);
        }
        assert!(TOPIC.is_sorted_by_key(|definition| definition.name));
    }
}
