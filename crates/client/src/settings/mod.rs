//! What can be set, with units, defaults, and the names Java and librdkafka have for it.

mod names;
mod properties;

use std::sync::Arc;
use std::time::Duration;

pub use milena_core::producer::Acks;
pub use milena_wire::codec::Compression;

pub use self::names::{SETTINGS, SettingDoc, Unit};
pub(crate) use self::properties::apply;
use crate::Address;

/// What concerns the client as a whole.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClientSettings {
    /// Brokers to ask first. Default `localhost:9092`.
    pub bootstrap: Vec<Address>,
    /// The name that brokers log and meter this client by. Default `milena`.
    pub client_id: Arc<str>,
    /// How long one request may take. Default 30 s.
    pub request_timeout: Duration,
    /// How long connecting and the first exchange may take. Default 10 s.
    pub connect_timeout: Duration,
    /// The delay after a first failed attempt; it doubles. Default 100 ms.
    pub retry_backoff: Duration,
    /// No delay between attempts is longer. Default 1 s.
    pub retry_backoff_max: Duration,
    /// The delay before a broker is connected to again. Default 50 ms.
    pub reconnect_backoff: Duration,
    /// No delay between connections to a broker is longer. Default 1 s.
    pub reconnect_backoff_max: Duration,
    /// Metadata is renewed at least this often. Default 5 min.
    pub metadata_age_max: Duration,
    /// How long a topic that nobody knows may take to appear. Default 800 ms: a topic just created needs a moment to
    /// be known everywhere, and a mistyped name should be told soon.
    pub unknown_topic_wait: Duration,
    /// Whether asking for a topic that does not exist may create it, where the brokers allow it. Default false.
    pub auto_create_topics: bool,
    /// A response that announces more is refused. Default 100 MiB.
    pub response_bytes_max: usize,
    /// A batch that takes more once decompressed is refused. Default 64 MiB.
    pub decompressed_bytes_max: usize,
    /// Memory that grows with traffic: half of it for producing, half for consuming. Default 64 MiB.
    pub memory_bytes_max: usize,
}

/// What concerns a producer.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ProducerSettings {
    /// Who must have a record before it counts as written. Default [`Acks::All`].
    pub acks: Acks,
    /// Whether retries are written once and in order. Default true; needs [`Acks::All`].
    pub idempotence: bool,
    /// How long a batch waits for more records while its broker is busy. Default 5 ms. An idle broker never waits.
    pub linger: Duration,
    /// Records of one batch, uncompressed. Default 1 000 000 bytes, just under what brokers take.
    pub batch_bytes_max: usize,
    /// How batches are compressed. Default none.
    pub compression: Compression,
    /// The codec's level. Default: the codec's own; -1 in properties.
    pub compression_level: Option<i32>,
    /// How long a record may take from the call until it is written or given up. Default 2 min.
    pub delivery_timeout: Duration,
    /// How long a call may wait for a topic to be looked up and for room. Default 1 min.
    pub enqueue_timeout: Duration,
    /// Batches of one request. Default 8 MiB.
    pub request_bytes_max: usize,
    /// Requests in flight to one broker. Default 5, which is also the most that keeps idempotence.
    pub in_flight_max: usize,
    /// Memory for records not yet acknowledged. Default: half of the client's.
    pub memory_bytes_max: Option<usize>,
}

/// What concerns a consumer.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConsumerSettings {
    /// One response. Default 8 MiB.
    pub fetch_bytes_max: usize,
    /// One partition's part of a response. Default 1 MiB. A batch that is larger comes all the same.
    pub fetch_partition_bytes_max: usize,
    /// How long a broker waits for records when it has none. Default 500 ms.
    pub fetch_wait: Duration,
    /// A broker that has fewer bytes than this waits for more. Default 1.
    pub fetch_bytes_min: usize,
    /// Where to go when a position does not exist any more. Default: report it.
    pub reset: Reset,
    /// Which records of transactions are seen. Default [`Isolation::ReadUncommitted`].
    pub isolation: Isolation,
    /// Memory for records fetched and not yet dropped. Default: half of the client's.
    pub memory_bytes_max: Option<usize>,
    /// Whether checksums are verified. Default true.
    pub check_crcs: bool,
}

/// Where to go when a position does not exist any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reset {
    /// Nowhere: the partition stops and the error is reported, because records may have been lost.
    #[default]
    Fail,
    /// The first record there is.
    Earliest,
    /// Behind the last record there is.
    Latest,
}

/// Which records of transactions are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// All that are there, of aborted transactions too.
    #[default]
    ReadUncommitted,
    /// Only those of committed transactions.
    ReadCommitted,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            bootstrap: vec![Address::new("localhost", 9092)],
            client_id: Arc::from("milena"),
            request_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            reconnect_backoff: Duration::from_millis(50),
            reconnect_backoff_max: Duration::from_secs(1),
            metadata_age_max: Duration::from_secs(300),
            unknown_topic_wait: Duration::from_millis(800),
            auto_create_topics: false,
            response_bytes_max: 100 << 20,
            decompressed_bytes_max: 64 << 20,
            memory_bytes_max: 64 << 20,
        }
    }
}

impl Default for ProducerSettings {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            idempotence: true,
            linger: Duration::from_millis(5),
            batch_bytes_max: 1_000_000,
            compression: Compression::None,
            compression_level: None,
            delivery_timeout: Duration::from_secs(120),
            enqueue_timeout: Duration::from_secs(60),
            request_bytes_max: 8 << 20,
            in_flight_max: 5,
            memory_bytes_max: None,
        }
    }
}

impl Default for ConsumerSettings {
    fn default() -> Self {
        Self {
            fetch_bytes_max: 8 << 20,
            fetch_partition_bytes_max: 1 << 20,
            fetch_wait: Duration::from_millis(500),
            fetch_bytes_min: 1,
            reset: Reset::Fail,
            isolation: Isolation::ReadUncommitted,
            memory_bytes_max: None,
            check_crcs: true,
        }
    }
}

/// All settings together, as properties set them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    pub(crate) client: ClientSettings,
    pub(crate) producer: ProducerSettings,
    pub(crate) consumer: ConsumerSettings,
}
