//! The table of settings: one entry each. The field, its default, its documentation, its names in properties, its bounds
//! and the way it is read all come from here, so that none can drift away from another.

use std::sync::Arc;
use std::time::Duration;

use milena_core::Backoff;
use milena_core::metadata::AGE_MIN;
use milena_core::producer::Acks;
use milena_wire::codec::Compression;

use super::kind::{Addresses, Choice, Flag, Kind, Name, Number, Optional, SOME_TIME, TIME, Time};
use super::{Isolation, Reset, Settings, Unit};
use crate::Address;

/// A setting as the documentation shows it and properties name it.
#[derive(Clone, Copy)]
pub struct SettingDoc {
    /// Our name; accepted in properties as well.
    pub name: &'static str,
    /// What it means, in Markdown.
    pub doc: &'static str,
    /// Java's names.
    pub java: &'static [&'static str],
    /// librdkafka's names, where they differ.
    pub librdkafka: &'static [&'static str],
    pub(super) read: fn(&mut Settings, &str) -> Result<(), String>,
    pub(super) fit: fn(&mut Settings) -> Result<(), String>,
    write: fn(&Settings) -> String,
    bounds: fn() -> String,
    unit: fn() -> Unit,
}

impl SettingDoc {
    /// All names it goes by.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        [self.name].into_iter().chain(self.java.iter().copied()).chain(self.librdkafka.iter().copied())
    }

    /// The default, as one would write it; empty where there is none.
    pub fn default(&self) -> String {
        (self.write)(&Settings::default())
    }

    /// What a value looks like.
    pub fn unit(&self) -> Unit {
        (self.unit)()
    }

    /// The bounds, in words; empty where there are none.
    pub fn bounds(&self) -> String {
        (self.bounds)()
    }
}

impl std::fmt::Debug for SettingDoc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SettingDoc")
            .field("name", &self.name)
            .field("java", &self.java)
            .field("librdkafka", &self.librdkafka)
            .finish_non_exhaustive()
    }
}

/// A default as people write it: `30 s`, `64 MiB`, or any expression.
macro_rules! amount {
    ($number:literal ms) => {
        Duration::from_millis($number)
    };
    ($number:literal s) => {
        Duration::from_secs($number)
    };
    ($number:literal min) => {
        Duration::from_secs($number * 60)
    };
    ($number:literal MiB) => {
        $number << 20
    };
    ($number:literal bytes) => {
        $number
    };
    ($value:expr) => {
        $value
    };
}

/// The name in properties: the field's, unless another is given.
macro_rules! name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $name:literal) => {
        $name
    };
}

/// `field: Type = (default), how it is read, [Java's names], [librdkafka's other names];`
macro_rules! settings {
    ($(
        $(#[$attribute:meta])*
        $part:ident: $Part:ident {
            $(
                $(#[doc = $doc:literal])+
                $field:ident: $Type:ty = ($($default:tt)+), $kind:expr, [$($java:literal),*], [$($other:literal),*]
                $(, named $name:literal)?;
            )+
        }
    )+) => {
        $(
            $(#[$attribute])*
            #[derive(Debug, Clone)]
            #[non_exhaustive]
            pub struct $Part {
                $(
                    $(#[doc = $doc])+
                    #[doc = concat!("\n\nDefault: `", stringify!($($default)+), "`.")]
                    $(#[doc = concat!("\n\nIn Java: `", $java, "`.")])*
                    $(#[doc = concat!("\n\nIn librdkafka: `", $other, "`.")])*
                    pub $field: $Type,
                )+
            }

            impl Default for $Part {
                fn default() -> Self {
                    Self { $($field: amount!($($default)+),)+ }
                }
            }
        )+

        /// Every setting that properties can name. Names of Java's and librdkafka's that mean nothing here are known as
        /// well; see [`Client::from_properties`](crate::Client::from_properties).
        pub const SETTINGS: &[SettingDoc] = &[$($(
            SettingDoc {
                name: name!($field $($name)?),
                doc: concat!($($doc, "\n"),+),
                java: &[$($java),*],
                librdkafka: &[$($other),*],
                read: |to, text| {
                    let value = Kind::<$Type>::read(&$kind, text)?;
                    to.$part.$field = $kind.fit(value)?;
                    Ok(())
                },
                fit: |of| {
                    of.$part.$field = $kind.fit(of.$part.$field.clone())?;
                    Ok(())
                },
                write: |of| $kind.write(&of.$part.$field),
                bounds: || Kind::<$Type>::bounds(&$kind),
                unit: || Kind::<$Type>::unit(&$kind),
            },
        )+)+];
    };
}

/// Bytes of what grows with traffic.
pub(super) const MEMORY: Number<usize> =
    Number { unit: Unit::Bytes, least: 4096, most: usize::MAX, floor: 0, ceiling: usize::MAX };
const I32_MAX: usize = i32::MAX as usize;
/// Bytes of what Kafka measures with an i32.
const BYTES: Number<usize> =
    Number { unit: Unit::Bytes, least: 0, most: I32_MAX, floor: 1, ceiling: I32_MAX };

/// The delay before a second attempt. None at all would make a storm of attempts.
const BACKOFF: Time = Time { floor: Backoff::FLOOR, ..TIME };
/// The delay between the attempts of what fails again and again.
const BACKOFF_MAX: Time = Time { floor: Backoff::FLOOR_MAX, ..TIME };

/// A connection that is closed sooner than this is made again for nearly every request.
const IDLE_FLOOR: Duration = Duration::from_millis(100);

const ACKS: Choice<Acks> =
    Choice("all, 1 or 0", &[("all", Acks::All), ("-1", Acks::All), ("1", Acks::Leader), ("0", Acks::None)]);

const COMPRESSION: Choice<Compression> = Choice(
    "none, gzip, snappy, lz4 or zstd",
    &[
        ("none", Compression::None),
        ("gzip", Compression::Gzip),
        ("snappy", Compression::Snappy),
        ("lz4", Compression::Lz4),
        ("zstd", Compression::Zstd),
    ],
);

const RESET: Choice<Reset> = Choice(
    "none, earliest or latest",
    &[
        ("none", Reset::Fail),
        ("error", Reset::Fail),
        ("earliest", Reset::Earliest),
        ("smallest", Reset::Earliest),
        ("beginning", Reset::Earliest),
        ("latest", Reset::Latest),
        ("largest", Reset::Latest),
        ("end", Reset::Latest),
    ],
);

const ISOLATION: Choice<Isolation> = Choice(
    "read_uncommitted or read_committed",
    &[("read_uncommitted", Isolation::ReadUncommitted), ("read_committed", Isolation::ReadCommitted)],
);

settings! {
    /// What concerns the client as a whole.
    client: ClientSettings {
        /// Brokers to ask first.
        bootstrap: Vec<Address> = (vec![Address::new("localhost", 9092)]), Addresses,
            ["bootstrap.servers"], ["metadata.broker.list"];
        /// The name that brokers log and meter this client by.
        client_id: Arc<str> = (Arc::from("milena")), Name, ["client.id"], [];
        /// How long one request may take.
        request_timeout: Duration = (30 s), SOME_TIME, ["request.timeout.ms"], ["socket.timeout.ms"];
        /// How long connecting and the first exchange may take.
        connect_timeout: Duration = (10 s), SOME_TIME, ["socket.connection.setup.timeout.ms"], [];
        /// How long a call of [`Admin`](crate::Admin) may take, attempts and all.
        api_timeout: Duration = (30 s), SOME_TIME, ["default.api.timeout.ms"], [];
        /// The delay after a first failed attempt; it doubles. Less than 10 ms is taken as 10 ms.
        retry_backoff: Duration = (100 ms), BACKOFF, ["retry.backoff.ms"], [];
        /// No delay between attempts is longer. Less than 100 ms is taken as 100 ms.
        retry_backoff_max: Duration = (1 s), BACKOFF_MAX, ["retry.backoff.max.ms"], [];
        /// The delay before a broker is connected to again. Less than 10 ms is taken as 10 ms.
        reconnect_backoff: Duration = (50 ms), BACKOFF, ["reconnect.backoff.ms"], [];
        /// No delay between connections to a broker is longer. Less than 100 ms is taken as 100 ms.
        reconnect_backoff_max: Duration = (1 s), BACKOFF_MAX, ["reconnect.backoff.max.ms"], [];
        /// A connection over which nothing was asked for this long is closed, before the broker closes it: brokers do so
        /// after 10 min, and a request that is sent at that moment may be lost. Less than 100 ms is taken as 100 ms; in
        /// properties -1 or 0 means never.
        connection_idle_max: Duration = (9 min),
            Time { floor: IDLE_FLOOR, no_limit: &["-1", "0"], ..TIME },
            ["connections.max.idle.ms"], [];
        /// Metadata is renewed at least this often. Less than 1 s is taken as 1 s; in properties -1 means never.
        metadata_age_max: Duration = (5 min),
            Time { floor: AGE_MIN, no_limit: &["-1"], ..TIME },
            ["metadata.max.age.ms"], ["topic.metadata.refresh.interval.ms"];
        /// How long a topic that no broker knows may take to appear. A topic just created needs a moment to be known
        /// everywhere, and a mistyped name should be told soon. It is waited for once: while somebody keeps asking for the
        /// topic, later callers get the error at once, and the brokers are asked once a second whether it is there. Five
        /// seconds after the last caller the client has forgotten that it was missing.
        unknown_topic_wait: Duration = (800 ms), TIME, [], ["topic.metadata.propagation.max.ms"];
        /// Whether asking for a topic that does not exist may create it, where the brokers allow it.
        auto_create_topics: bool = (false), Flag, ["allow.auto.create.topics"], [];
        /// A response that announces more bytes is refused. Properties that only raise [`ConsumerSettings`]'
        /// `fetch_bytes_max` above it raise it as well.
        response_bytes_max: usize = (100 MiB), Number { least: 1000, ..BYTES }, [], ["receive.message.max.bytes"];
        /// A batch that takes more bytes once decompressed is refused.
        decompressed_bytes_max: usize = (64 MiB), Number { least: 1000, ..BYTES }, [], [];
        /// Bytes of memory that grow with traffic: half for producing, half for consuming.
        memory_bytes_max: usize = (64 MiB), Number { least: 8192, ..MEMORY }, [], [];
    }

    /// What concerns a producer.
    producer: ProducerSettings {
        /// Who must have a record before it counts as written.
        acks: Acks = (Acks::All), ACKS, ["acks"], ["request.required.acks"];
        /// Whether retries are written once and in order. Needs [`Acks::All`].
        idempotence: bool = (true), Flag, ["enable.idempotence"], [];
        /// How long a batch waits for more records while its broker is busy. An idle broker never waits.
        linger: Duration = (5 ms), TIME, ["linger.ms"], ["queue.buffering.max.ms"];
        /// A batch is full when one more record would make it larger than these bytes, before compression. The default
        /// is just under what brokers take; 0 sends every record alone. A record that is larger travels alone.
        batch_bytes_max: usize = (1_000_000 bytes), Number { ceiling: 1 << 30, ..BYTES }, ["batch.size"], [];
        /// Bytes of the largest record, encoded and before compression; no batch of several records is larger either.
        /// For larger records raise the topic's `max.message.bytes` as well.
        record_bytes_max: usize = (1 MiB), Number { least: 1, ceiling: 1 << 30, ..BYTES },
            ["max.request.size"], ["message.max.bytes"];
        /// How batches are compressed.
        compression: Compression = (Compression::None), COMPRESSION, ["compression.type"], ["compression.codec"];
        /// The codec's level. None is the codec's own default. Properties: those of Java are for one codec each, and
        /// librdkafka's is cut to what the codec has.
        compression_level: Option<i32> = (None),
            Optional(Number { unit: Unit::Count, least: i32::MIN, most: i32::MAX, floor: i32::MIN, ceiling: i32::MAX }), [], [];
        /// How long a record may take from the call until it is written or given up. In properties 0 means no limit.
        delivery_timeout: Duration = (2 min), Time { no_limit: &["0"], ..SOME_TIME },
            ["delivery.timeout.ms"], ["message.timeout.ms"];
        /// How long a call may wait for a topic to be looked up and for room.
        enqueue_timeout: Duration = (1 min), TIME, ["max.block.ms"], [];
        /// Bytes of the batches of one request.
        request_bytes_max: usize = (8 MiB), Number { least: 1, ..BYTES }, [], [];
        /// Requests in flight to one broker. The default is the most that keeps idempotence; properties that only
        /// raise it keep idempotence, and 5.
        in_flight_max: usize = (5), Number { unit: Unit::Count, least: 1, most: 1_000_000, floor: 1, ceiling: 1_000_000 },
            ["max.in.flight.requests.per.connection"], ["max.in.flight"];
        /// Bytes of memory for records not yet acknowledged. None is half of the client's.
        memory_bytes_max: Option<usize> = (None), Optional(MEMORY), ["buffer.memory"], [],
            named "producer_memory_bytes_max";
    }

    /// What concerns a consumer.
    consumer: ConsumerSettings {
        /// Bytes of one response.
        fetch_bytes_max: usize = (8 MiB), BYTES, ["fetch.max.bytes"], [];
        /// Bytes of one partition's part of a response. A batch that is larger comes all the same.
        fetch_partition_bytes_max: usize = (1 MiB), BYTES,
            ["max.partition.fetch.bytes"], ["fetch.message.max.bytes"];
        /// How long a broker waits for records when it has none. Less than 10 ms is taken as 10 ms.
        fetch_wait: Duration = (500 ms),
            Time { floor: Duration::from_millis(10), ceiling: Duration::from_millis(i32::MAX as u64), ..TIME },
            ["fetch.max.wait.ms"], ["fetch.wait.max.ms"];
        /// A broker that has fewer bytes than this waits for more. 0 is taken as 1.
        fetch_bytes_min: usize = (1), BYTES, ["fetch.min.bytes"], [];
        /// Where to go when a position does not exist any more.
        reset: Reset = (Reset::Fail), RESET, ["auto.offset.reset"], [];
        /// Which records of transactions are seen.
        isolation: Isolation = (Isolation::ReadUncommitted), ISOLATION, ["isolation.level"], [];
        /// Bytes of memory for records fetched and not yet dropped. None is half of the client's.
        memory_bytes_max: Option<usize> = (None), Optional(MEMORY), [], [], named "consumer_memory_bytes_max";
        /// Whether checksums are verified.
        check_crcs: bool = (true), Flag, ["check.crcs"], [];
    }
}
