//! The table of settings: one line each, the documentation included, so that names and meaning cannot drift apart.

use std::time::Duration;

use super::{Acks, Compression, Isolation, Reset, Settings};
use crate::Address;

/// A setting as the documentation shows it and properties name it.
#[derive(Debug, Clone, Copy)]
pub struct SettingDoc {
    /// Our name; accepted in properties as well.
    pub name: &'static str,
    /// Java's names.
    pub java: &'static [&'static str],
    /// librdkafka's names, where they differ.
    pub librdkafka: &'static [&'static str],
    /// What a value looks like.
    pub unit: Unit,
    /// The default, as one would write it.
    pub default: &'static str,
    pub(super) set: fn(&mut Settings, &str) -> Result<(), String>,
}

/// What a value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A number of milliseconds.
    Milliseconds,
    /// A number of bytes.
    Bytes,
    /// A number.
    Count,
    /// `true` or `false`.
    Flag,
    /// Text, of the given form.
    Text(&'static str),
}

macro_rules! setting {
    ($name:literal, $java:expr, $librdkafka:expr, $unit:expr, $default:literal, $set:expr) => {
        SettingDoc {
            name: $name,
            java: &$java,
            librdkafka: &$librdkafka,
            unit: $unit,
            default: $default,
            set: $set,
        }
    };
}

use Unit::{Bytes, Count, Flag, Milliseconds, Text};

/// Every setting that properties can name.
pub const SETTINGS: &[SettingDoc] = &[
    setting!(
        "bootstrap",
        ["bootstrap.servers"],
        ["metadata.broker.list"],
        Text("host:port,host:port"),
        "localhost:9092",
        |to, text| {
            to.client.bootstrap = Address::parse_list(text).map_err(|error| error.to_string())?;
            Ok(())
        }
    ),
    setting!("client_id", ["client.id"], [], Text("name"), "milena", |to, text| {
        to.client.client_id = text.into();
        Ok(())
    }),
    setting!(
        "request_timeout",
        ["request.timeout.ms"],
        ["socket.timeout.ms"],
        Milliseconds,
        "30000",
        |to, text| millis(text, &mut to.client.request_timeout)
    ),
    setting!(
        "connect_timeout",
        ["socket.connection.setup.timeout.ms"],
        [],
        Milliseconds,
        "10000",
        |to, text| millis(text, &mut to.client.connect_timeout)
    ),
    setting!("retry_backoff", ["retry.backoff.ms"], [], Milliseconds, "100", |to, text| millis(
        text,
        &mut to.client.retry_backoff
    )),
    setting!("retry_backoff_max", ["retry.backoff.max.ms"], [], Milliseconds, "1000", |to, text| millis(
        text,
        &mut to.client.retry_backoff_max
    )),
    setting!("reconnect_backoff", ["reconnect.backoff.ms"], [], Milliseconds, "50", |to, text| millis(
        text,
        &mut to.client.reconnect_backoff
    )),
    setting!("reconnect_backoff_max", ["reconnect.backoff.max.ms"], [], Milliseconds, "1000", |to, text| {
        millis(text, &mut to.client.reconnect_backoff_max)
    }),
    setting!(
        "metadata_age_max",
        ["metadata.max.age.ms"],
        ["topic.metadata.refresh.interval.ms"],
        Milliseconds,
        "300000",
        |to, text| millis(text, &mut to.client.metadata_age_max)
    ),
    setting!(
        "unknown_topic_wait",
        [],
        ["topic.metadata.propagation.max.ms"],
        Milliseconds,
        "800",
        |to, text| millis(text, &mut to.client.unknown_topic_wait)
    ),
    setting!("auto_create_topics", ["allow.auto.create.topics"], [], Flag, "false", |to, text| value(
        text,
        &mut to.client.auto_create_topics
    )),
    setting!("response_bytes_max", [], ["receive.message.max.bytes"], Bytes, "104857600", |to, text| value(
        text,
        &mut to.client.response_bytes_max
    )),
    setting!("decompressed_bytes_max", [], [], Bytes, "67108864", |to, text| value(
        text,
        &mut to.client.decompressed_bytes_max
    )),
    setting!("memory_bytes_max", [], [], Bytes, "67108864", |to, text| value(
        text,
        &mut to.client.memory_bytes_max
    )),
    setting!("acks", ["acks"], ["request.required.acks"], Text("all, 1 or 0"), "all", |to, text| choice(
        text,
        &mut to.producer.acks,
        &[("all", Acks::All), ("-1", Acks::All), ("1", Acks::Leader), ("0", Acks::None)]
    )),
    setting!("idempotence", ["enable.idempotence"], [], Flag, "true", |to, text| value(
        text,
        &mut to.producer.idempotence
    )),
    setting!("linger", ["linger.ms"], ["queue.buffering.max.ms"], Milliseconds, "5", |to, text| millis(
        text,
        &mut to.producer.linger
    )),
    setting!("batch_bytes_max", ["batch.size"], [], Bytes, "1000000", |to, text| value(
        text,
        &mut to.producer.batch_bytes_max
    )),
    setting!(
        "compression",
        ["compression.type"],
        ["compression.codec"],
        Text("none, gzip, snappy, lz4 or zstd"),
        "none",
        |to, text| {
            to.producer.compression = text.parse::<Compression>().map_err(|error| error.to_string())?;
            Ok(())
        }
    ),
    setting!("compression_level", [], ["compression.level"], Count, "-1", |to, text| {
        // librdkafka's word for the codec's own default; zstd's level of that number can be set in code.
        to.producer.compression_level = Some(number(text)?).filter(|level| *level != -1);
        Ok(())
    }),
    setting!(
        "delivery_timeout",
        ["delivery.timeout.ms"],
        ["message.timeout.ms"],
        Milliseconds,
        "120000",
        |to, text| millis(text, &mut to.producer.delivery_timeout)
    ),
    setting!("enqueue_timeout", ["max.block.ms"], [], Milliseconds, "60000", |to, text| millis(
        text,
        &mut to.producer.enqueue_timeout
    )),
    setting!(
        "request_bytes_max",
        ["max.request.size"],
        ["message.max.bytes"],
        Bytes,
        "8388608",
        |to, text| value(text, &mut to.producer.request_bytes_max)
    ),
    setting!(
        "in_flight_max",
        ["max.in.flight.requests.per.connection"],
        ["max.in.flight"],
        Count,
        "5",
        |to, text| value(text, &mut to.producer.in_flight_max)
    ),
    setting!(
        "producer_memory_bytes_max",
        ["buffer.memory"],
        [],
        Bytes,
        "half of memory_bytes_max",
        |to, text| {
            to.producer.memory_bytes_max = Some(number(text)?);
            Ok(())
        }
    ),
    setting!("fetch_bytes_max", ["fetch.max.bytes"], [], Bytes, "8388608", |to, text| value(
        text,
        &mut to.consumer.fetch_bytes_max
    )),
    setting!(
        "fetch_partition_bytes_max",
        ["max.partition.fetch.bytes"],
        ["fetch.message.max.bytes"],
        Bytes,
        "1048576",
        |to, text| value(text, &mut to.consumer.fetch_partition_bytes_max)
    ),
    setting!("fetch_wait", ["fetch.max.wait.ms"], ["fetch.wait.max.ms"], Milliseconds, "500", |to, text| {
        millis(text, &mut to.consumer.fetch_wait)
    }),
    setting!("fetch_bytes_min", ["fetch.min.bytes"], [], Bytes, "1", |to, text| value(
        text,
        &mut to.consumer.fetch_bytes_min
    )),
    setting!(
        "reset",
        ["auto.offset.reset"],
        [],
        Text("none, earliest or latest"),
        "none",
        |to, text| choice(
            text,
            &mut to.consumer.reset,
            &[
                ("none", Reset::Fail),
                ("error", Reset::Fail),
                ("earliest", Reset::Earliest),
                ("smallest", Reset::Earliest),
                ("beginning", Reset::Earliest),
                ("latest", Reset::Latest),
                ("largest", Reset::Latest),
                ("end", Reset::Latest)
            ]
        )
    ),
    setting!(
        "isolation",
        ["isolation.level"],
        [],
        Text("read_uncommitted or read_committed"),
        "read_uncommitted",
        |to, text| choice(
            text,
            &mut to.consumer.isolation,
            &[("read_uncommitted", Isolation::ReadUncommitted), ("read_committed", Isolation::ReadCommitted)]
        )
    ),
    setting!("consumer_memory_bytes_max", [], [], Bytes, "half of memory_bytes_max", |to, text| {
        to.consumer.memory_bytes_max = Some(number(text)?);
        Ok(())
    }),
    setting!("check_crcs", ["check.crcs"], [], Flag, "true", |to, text| value(
        text,
        &mut to.consumer.check_crcs
    )),
];

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.trim().parse().map_err(|_| format!("{text:?} is not a value of that kind"))
}

fn value<T: std::str::FromStr>(text: &str, to: &mut T) -> Result<(), String> {
    *to = number(text)?;
    Ok(())
}

fn millis(text: &str, to: &mut Duration) -> Result<(), String> {
    // librdkafka takes fractions of a millisecond for linger.
    let millis: f64 = number(text)?;
    *to = Duration::try_from_secs_f64(millis / 1000.0)
        .map_err(|_| format!("{text:?} is no number of milliseconds"))?;
    Ok(())
}

fn choice<T: Copy>(text: &str, to: &mut T, choices: &[(&str, T)]) -> Result<(), String> {
    let found = choices.iter().find(|(name, _)| name.eq_ignore_ascii_case(text.trim()));
    let names = || choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    *to = found.ok_or_else(|| format!("{text:?} is none of {}", names()))?.1;
    Ok(())
}
