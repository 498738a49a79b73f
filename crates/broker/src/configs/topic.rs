//! The configs that a topic may set.
//!
//! All topic configs that Kafka knows are described. Those that this broker acts on are fields of
//! [`TopicRules`](super::TopicRules). For any other config it accepts only the values that describe what it does anyway:
//! a program that asks for remote storage and gets none would find out much later.

use milena_wire::codec::Compression;

use super::{Kind, Overrides};

/// One config that a topic may set.
#[derive(Debug)]
pub(crate) struct Definition {
    pub(crate) name: &'static str,
    /// The broker's config whose value topics have that do not set their own; empty if there is none.
    pub(crate) broker: &'static str,
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
    /// The broker always does the same, and this says what. Only the default asks for it.
    Fixed(&'static str),
}

const CODECS: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];

const LONG_MAX: &str = "9223372036854775807";

const KEEPS_CODEC: &str = "stores batches as their producers compressed them";
const FLUSHES: &str = "leaves it to the system when to write to the disk, but for a clean stop";
const HAS_NO_INDEX_SETTINGS: &str = "lays out its segments and indexes by itself";
const HAS_NO_TIERS: &str = "has no remote storage";
const COPIES_NOTHING: &str = "has nothing to throttle, as all replicas of a partition are one log";
const LOSES_NOTHING: &str =
    "loses nothing when any replica leads, as all replicas of a partition are one log";
const HAS_NO_SHARE_GROUPS: &str = "has no share groups";

const fn config(
    name: &'static str,
    broker: &'static str,
    kind: Kind,
    default: &'static str,
    min: i64,
    effect: Effect,
) -> Definition {
    Definition { name, broker, kind, default, min, effect }
}

/// Kafka 4.x's topic configs, by name.
pub(crate) static TOPIC: &[Definition] = &[
    config(
        "cleanup.policy",
        "log.cleanup.policy",
        Kind::List(&["compact", "delete"]),
        "delete",
        0,
        Effect::Honoured,
    ),
    config(
        "compression.gzip.level",
        "compression.gzip.level",
        Kind::Level(Compression::Gzip),
        "-1",
        -1,
        Effect::Idle,
    ),
    config(
        "compression.lz4.level",
        "compression.lz4.level",
        Kind::Level(Compression::Lz4),
        "9",
        1,
        Effect::Idle,
    ),
    config(
        "compression.type",
        "compression.type",
        Kind::Choice(CODECS),
        "producer",
        0,
        Effect::Fixed(KEEPS_CODEC),
    ),
    config(
        "compression.zstd.level",
        "compression.zstd.level",
        Kind::Level(Compression::Zstd),
        "3",
        1,
        Effect::Idle,
    ),
    config(
        "delete.retention.ms",
        "log.cleaner.delete.retention.ms",
        Kind::Long,
        "86400000",
        0,
        Effect::Honoured,
    ),
    config(
        "errors.deadletterqueue.group.enable",
        "",
        Kind::Bool,
        "false",
        0,
        Effect::Fixed(HAS_NO_SHARE_GROUPS),
    ),
    // Files are removed at once: no other thread reads them.
    config("file.delete.delay.ms", "log.segment.delete.delay.ms", Kind::Long, "60000", 0, Effect::Idle),
    config("flush.messages", "log.flush.interval.messages", Kind::Long, LONG_MAX, 1, Effect::Fixed(FLUSHES)),
    config("flush.ms", "log.flush.interval.ms", Kind::Long, LONG_MAX, 0, Effect::Fixed(FLUSHES)),
    config(
        "follower.replication.throttled.replicas",
        "",
        Kind::List(&[]),
        "",
        0,
        Effect::Fixed(COPIES_NOTHING),
    ),
    config(
        "index.interval.bytes",
        "log.index.interval.bytes",
        Kind::Int,
        "4096",
        0,
        Effect::Fixed(HAS_NO_INDEX_SETTINGS),
    ),
    config(
        "leader.replication.throttled.replicas",
        "",
        Kind::List(&[]),
        "",
        0,
        Effect::Fixed(COPIES_NOTHING),
    ),
    config(
        "local.retention.bytes",
        "log.local.retention.bytes",
        Kind::Long,
        "-2",
        -2,
        Effect::Fixed(HAS_NO_TIERS),
    ),
    config("local.retention.ms", "log.local.retention.ms", Kind::Long, "-2", -2, Effect::Fixed(HAS_NO_TIERS)),
    config(
        "max.compaction.lag.ms",
        "log.cleaner.max.compaction.lag.ms",
        Kind::Long,
        LONG_MAX,
        1,
        Effect::Honoured,
    ),
    config(
        "max.decompressed.message.bytes",
        "max.decompressed.message.bytes",
        Kind::Int,
        "2147483639",
        1,
        Effect::Honoured,
    ),
    config("max.message.bytes", "message.max.bytes", Kind::Int, "1048588", 0, Effect::Honoured),
    config(
        "message.timestamp.after.max.ms",
        "log.message.timestamp.after.max.ms",
        Kind::Long,
        "3600000",
        0,
        Effect::Honoured,
    ),
    config(
        "message.timestamp.before.max.ms",
        "log.message.timestamp.before.max.ms",
        Kind::Long,
        LONG_MAX,
        0,
        Effect::Honoured,
    ),
    config(
        "message.timestamp.type",
        "log.message.timestamp.type",
        Kind::Choice(&["CreateTime", "LogAppendTime"]),
        "CreateTime",
        0,
        Effect::Honoured,
    ),
    config(
        "min.cleanable.dirty.ratio",
        "log.cleaner.min.cleanable.ratio",
        Kind::Double,
        "0.5",
        0,
        Effect::Honoured,
    ),
    config(
        "min.compaction.lag.ms",
        "log.cleaner.min.compaction.lag.ms",
        Kind::Long,
        "0",
        0,
        Effect::Honoured,
    ),
    config("min.insync.replicas", "min.insync.replicas", Kind::Int, "1", 1, Effect::Honoured),
    config("preallocate", "log.preallocate", Kind::Bool, "false", 0, Effect::Fixed(HAS_NO_INDEX_SETTINGS)),
    config(
        "remote.copy.lag.bytes",
        "log.remote.copy.lag.bytes",
        Kind::Long,
        "-1",
        -1,
        Effect::Fixed(HAS_NO_TIERS),
    ),
    config("remote.copy.lag.ms", "log.remote.copy.lag.ms", Kind::Long, "0", -1, Effect::Fixed(HAS_NO_TIERS)),
    config("remote.log.copy.disable", "", Kind::Bool, "false", 0, Effect::Fixed(HAS_NO_TIERS)),
    config("remote.log.delete.on.disable", "", Kind::Bool, "false", 0, Effect::Fixed(HAS_NO_TIERS)),
    config("remote.storage.enable", "", Kind::Bool, "false", 0, Effect::Fixed(HAS_NO_TIERS)),
    config("retention.bytes", "log.retention.bytes", Kind::Long, "-1", i64::MIN, Effect::Honoured),
    config("retention.ms", "log.retention.ms", Kind::Long, "604800000", -1, Effect::Honoured),
    config("segment.bytes", "log.segment.bytes", Kind::Int, "1073741824", 1 << 20, Effect::Honoured),
    config(
        "segment.index.bytes",
        "log.index.size.max.bytes",
        Kind::Int,
        "10485760",
        4,
        Effect::Fixed(HAS_NO_INDEX_SETTINGS),
    ),
    // It is the most that a segment may begin earlier, and here none does.
    config("segment.jitter.ms", "log.roll.jitter.ms", Kind::Long, "0", 0, Effect::Idle),
    config("segment.ms", "log.roll.ms", Kind::Long, "604800000", 1, Effect::Honoured),
    config(
        "unclean.leader.election.enable",
        "unclean.leader.election.enable",
        Kind::Bool,
        "false",
        0,
        Effect::Fixed(LOSES_NOTHING),
    ),
];

/// The definition of a topic config.
pub(crate) fn definition(name: &str) -> Option<&'static Definition> {
    let at = TOPIC.binary_search_by_key(&name, |definition| definition.name).ok()?;
    Some(&TOPIC[at])
}

/// Checks all configs that a topic is to set, and returns them as they are kept. The error is a sentence for the
/// client.
pub(crate) fn check(wanted: &Overrides) -> Result<Overrides, String> {
    let mut checked = Overrides::new();
    for (name, value) in wanted {
        let Some(definition) = definition(name) else {
            return Err(format!("Unknown topic config name: {name}"));
        };
        checked.insert(name.clone(), definition.check(name, value)?);
    }
    let lag = |name: &str| checked.get(name).and_then(|value| value.parse::<i64>().ok());
    match (lag("min.compaction.lag.ms"), lag("max.compaction.lag.ms")) {
        (Some(min), Some(max)) if min > max => Err(format!(
            "conflict topic config setting min.compaction.lag.ms ({min}) > max.compaction.lag.ms ({max})"
        )),
        _ => Ok(checked),
    }
}

/// The configs without an effect that a topic has from earlier versions, which did not refuse them.
pub(crate) fn without_effect(overrides: &Overrides) -> impl Iterator<Item = (&String, &String)> {
    let refused = |name: &str, value: &str| definition(name).and_then(|definition| definition.refuses(value));
    overrides.iter().filter(move |(name, value)| refused(name, value).is_some())
}

impl Definition {
    /// Checks a value, and returns it as it is kept. `name` is that under which the client knows the config: the
    /// topic's or the broker's.
    pub(super) fn check(&self, name: &str, value: &str) -> Result<String, String> {
        let value = self.kind.check(name, value, self.min)?;
        match self.refuses(&value) {
            None => Ok(value),
            Some(does) => Err(format!(
                "{name}={value} would have no effect and is refused: this broker {does}. Leave it out, or set \
                 {name}={}",
                self.default
            )),
        }
    }

    /// What the broker does instead, when it does not do what the value asks for.
    fn refuses(&self, value: &str) -> Option<&'static str> {
        match self.effect {
            Effect::Fixed(does) if value != self.default => Some(does),
            _ => None,
        }
    }

    /// Whether its value is a list, to which a client may append.
    pub(crate) fn is_list(&self) -> bool {
        matches!(self.kind, Kind::List(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(name: &str, value: &str) -> Result<String, String> {
        let checked = check(&[(name.to_owned(), value.to_owned())].into())?;
        Ok(checked[name].clone())
    }

    #[test]
    fn values_are_checked_as_kafka_checks_them_and_kept_in_one_form() {
        for (name, value, kept) in [
            ("cleanup.policy", "delete, delete", "delete"),
            ("cleanup.policy", "", ""),
            ("retention.ms", "-1", "-1"),
            ("segment.bytes", " 1048576 ", "1048576"),
            ("message.timestamp.type", "LogAppendTime", "LogAppendTime"),
            ("min.cleanable.dirty.ratio", "1", "1.0"),
            ("compression.gzip.level", "-1", "-1"),
            ("compression.gzip.level", "9", "9"),
            ("preallocate", "FALSE", "false"),
        ] {
            assert_eq!(outcome(name, value).as_deref(), Ok(kept), "{name}={value}");
        }
        for (name, value, why) in [
            ("retention.ms", "-2", "Value must be at least -1"),
            ("retention.ms", "soon", "Not a number of type LONG"),
            ("segment.bytes", "4294967296", "Not a number of type INT"),
            ("cleanup.policy", "keep", "String must be one of: compact, delete"),
            ("message.timestamp.type", "createtime", "String must be one of: CreateTime, LogAppendTime"),
            ("min.cleanable.dirty.ratio", "1.5", "Value must be no more than 1"),
            ("min.cleanable.dirty.ratio", "-0.5", "Value must be at least 0"),
            ("min.cleanable.dirty.ratio", "half", "Not a number of type DOUBLE"),
            ("compression.gzip.level", "10", "Value must be between 1 and 9 or equal to -1"),
            ("compression.lz4.level", "0", "Value must be at least 1"),
            ("compression.zstd.level", "99", "Value must be no more than 22"),
            ("preallocate", "maybe", "Expected value to be either true or false"),
        ] {
            let expected = format!("Invalid value {value} for configuration {name}: {why}");
            assert_eq!(outcome(name, value), Err(expected));
        }
        assert_eq!(outcome("no.such", "1"), Err("Unknown topic config name: no.such".to_owned()));
        let lags = |min: &str, max: &str| {
            let lag = |which: &str, value: &str| (format!("{which}.compaction.lag.ms"), value.to_owned());
            check(&[lag("min", min), lag("max", max)].into()).is_ok()
        };
        assert!(lags("8", "8") && !lags("9", "8"));
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
            assert!(outcome(definition.name, definition.default).is_ok(), "{}", definition.name);
            if let Err(reason) = outcome(definition.name, other(definition)) {
                assert!(reason.contains("no effect") && reason.contains(definition.name), "{reason}");
                refused.push(definition.name);
            }
        }
        let taken: Vec<_> =
            TOPIC.iter().map(|definition| definition.name).filter(|name| !refused.contains(name)).collect();
        assert_eq!(
            taken,
            [
                "cleanup.policy",
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
        let reason = outcome("remote.storage.enable", "true").unwrap_err();
        assert_eq!(
            reason,
            "remote.storage.enable=true would have no effect and is refused: this broker has no remote storage. \
             Leave it out, or set remote.storage.enable=false"
        );
    }

    #[test]
    fn defaults_are_valid_and_sorted() {
        for definition in TOPIC {
            let kept = definition.kind.check(definition.name, definition.default, definition.min);
            assert_eq!(kept.as_deref(), Ok(definition.default));
        }
        assert!(TOPIC.is_sorted_by_key(|definition| definition.name));
    }
}
