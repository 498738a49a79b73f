//! The table of settings, with one entry for each. The field, its default, its documentation, its names in properties, its
//! bounds and its parser all come from that entry, so that they cannot contradict each other.

use std::sync::Arc;
use std::time::Duration;

use milena_core::Backoff;
use milena_core::group::Protocol;
use milena_core::group::assignors::{self, Assignor};
use milena_core::metadata::AGE_MIN;
use milena_core::producer::Acks;
use milena_wire::codec::Compression;

use super::kind::{
    Addresses, Assignors, Choice, Flag, Kind, Name, Number, Optional, Partitioners, Proxies, Resets,
    SOME_TIME, TIME, Time,
};
use super::{DnsLookup, Isolation, Reset, Settings, Unit};
use crate::{Address, Partitioner, Proxy};

/// One setting: its documentation, default and bounds, and its names in properties.
#[derive(Clone, Copy)]
pub struct SettingDoc {
    /// Milena's name for it, which properties may use too.
    pub name: &'static str,
    /// The documentation, in Markdown.
    pub doc: &'static str,
    /// Its names in Java's client.
    pub java: &'static [&'static str],
    /// Its names in librdkafka, if they differ from Java's.
    pub librdkafka: &'static [&'static str],
    pub(super) read: fn(&mut Settings, &str) -> Result<(), String>,
    pub(super) fit: fn(&mut Settings) -> Result<(), String>,
    write: fn(&Settings) -> String,
    bounds: fn() -> String,
    unit: fn() -> Unit,
}

impl SettingDoc {
    /// All its names: Milena's, Java's and librdkafka's.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        [self.name].into_iter().chain(self.java.iter().copied()).chain(self.librdkafka.iter().copied())
    }

    /// The default, as it is written in properties; empty if there is none.
    pub fn default(&self) -> String {
        (self.write)(&Settings::default())
    }

    /// How a value is written.
    pub fn unit(&self) -> Unit {
        (self.unit)()
    }

    /// The bounds, in words; empty if there are none.
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

/// A default with its unit (`30 s`, `64 MiB`), or any expression.
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

/// The name in properties: the field's name, or another if one is given.
macro_rules! name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $name:literal) => {
        $name
    };
}

/// `field: Type = (default), the kind that parses it, [Java's names], [librdkafka's other names];`
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

        /// Every setting. Properties may also use the names of Java's and librdkafka's other settings; see
        /// [`Client::from_properties`](crate::Client::from_properties).
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

/// A number of bytes of memory.
pub(super) const MEMORY: Number<usize> =
    Number { unit: Unit::Bytes, least: 4096, most: usize::MAX, floor: 0, ceiling: usize::MAX };
/// What may be buffered, in bytes or in records. It limits what is asked for and is no memory that is reserved.
const BUFFER: Number<usize> =
    Number { unit: Unit::Bytes, least: 1, most: usize::MAX, floor: 1, ceiling: usize::MAX };
const BUFFER_RECORDS: Number<usize> = Number { unit: Unit::Count, ..BUFFER };
const I32_MAX: usize = i32::MAX as usize;
/// A number of bytes that Kafka's protocol writes as an i32.
const BYTES: Number<usize> =
    Number { unit: Unit::Bytes, least: 0, most: I32_MAX, floor: 1, ceiling: I32_MAX };

/// The delay before the second attempt. A delay of zero would make a storm of attempts.
const BACKOFF: Time = Time { floor: Backoff::FLOOR, ..TIME };
/// The longest delay between attempts.
const BACKOFF_MAX: Time = Time { floor: Backoff::FLOOR_MAX, ..TIME };

/// A shorter limit would close a connection after nearly every request.
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

const RESET: Resets = Resets(Choice(
    "none, earliest, latest or by_duration: and an ISO 8601 duration",
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
));

const PROTOCOL: Choice<Protocol> = Choice(
    "automatic, classic or consumer",
    &[("automatic", Protocol::Automatic), ("classic", Protocol::Classic), ("consumer", Protocol::Consumer)],
);

const ISOLATION: Choice<Isolation> = Choice(
    "read_uncommitted or read_committed",
    &[("read_uncommitted", Isolation::ReadUncommitted), ("read_committed", Isolation::ReadCommitted)],
);

const DNS_LOOKUP: Choice<DnsLookup> = Choice(
    "use_all_dns_ips or resolve_canonical_bootstrap_servers_only",
    &[
        ("use_all_dns_ips", DnsLookup::AllAddresses),
        ("resolve_canonical_bootstrap_servers_only", DnsLookup::CanonicalBootstrap),
    ],
);

settings! {
    /// The settings of a [`Client`](crate::Client).
    client: ClientSettings {
        /// The brokers to ask first. They tell the client about all other brokers.
        bootstrap: Vec<Address> = (vec![Address::new("localhost", 9092)]), Addresses,
            ["bootstrap.servers"], ["metadata.broker.list"];
        /// Under which names the client connects to the bootstrap servers.
        dns_lookup: DnsLookup = (DnsLookup::AllAddresses), DNS_LOOKUP, ["client.dns.lookup"], [];
        /// The client's name in the brokers' logs, metrics and quotas.
        client_id: Arc<str> = (Arc::from("milena")), Name, ["client.id"], [];
        /// How long a broker may take to answer a request, and its host to acknowledge bytes ([`Tcp`](crate::Tcp)).
        request_timeout: Duration = (30 s), SOME_TIME, ["request.timeout.ms"], ["socket.timeout.ms"];
        /// How long connecting to a broker may take, including the exchange of API versions.
        connect_timeout: Duration = (10 s), SOME_TIME, ["socket.connection.setup.timeout.ms"], [];
        /// The longest time that connecting may take. After each failure in a row to connect to a broker, `connect_timeout` is
        /// doubled up to it, so that a broker which many clients connect to at a time gets through (KIP-601). Less than
        /// `connect_timeout` is taken as `connect_timeout`.
        connect_timeout_max: Duration = (30 s), SOME_TIME, ["socket.connection.setup.timeout.max.ms"], [];
        /// The proxy that connections go through: `socks5://HOST:PORT` or `http://HOST:PORT`, with `USER:PASSWORD@` before the
        /// host if it asks for them, or `env` for the one that the environment's `ALL_PROXY` names, if it does. `env:NAME`,
        /// `file:PATH` and `command:PROGRAM ARGS` say where the address is, as for [passwords](crate::Sasl). A
        /// [connector](crate::ClientBuilder::connector) goes before it.
        proxy: Option<Proxy> = (None), Proxies, [], [];
        /// How long a call of [`Admin`](crate::Admin) may take, including all its attempts.
        api_timeout: Duration = (30 s), SOME_TIME, ["default.api.timeout.ms"], [];
        /// The delay after the first failed attempt; it doubles after each further one. Less than 10 ms is taken as 10 ms.
        retry_backoff: Duration = (100 ms), BACKOFF, ["retry.backoff.ms"], [];
        /// The longest delay between attempts. Less than 100 ms is taken as 100 ms.
        retry_backoff_max: Duration = (1 s), BACKOFF_MAX, ["retry.backoff.max.ms"], [];
        /// The delay before connecting to a broker again; it doubles after each failure. Less than 10 ms is taken as 10 ms.
        reconnect_backoff: Duration = (50 ms), BACKOFF, ["reconnect.backoff.ms"], [];
        /// The longest delay before connecting to a broker again. Less than 100 ms is taken as 100 ms.
        reconnect_backoff_max: Duration = (1 s), BACKOFF_MAX, ["reconnect.backoff.max.ms"], [];
        /// How long a connection without requests stays open. Brokers close idle connections after 10 min, and a request sent
        /// at that moment may be lost, so the client closes them first. Less than 100 ms is taken as 100 ms; in properties -1
        /// or 0 means no limit.
        connection_idle_max: Duration = (9 min),
            Time { floor: IDLE_FLOOR, no_limit: &["-1", "0"], ..TIME },
            ["connections.max.idle.ms"], [];
        /// The longest time after which metadata is fetched again. Less than 1 s is taken as 1 s; in properties -1 means
        /// no limit.
        metadata_age_max: Duration = (5 min),
            Time { floor: AGE_MIN, no_limit: &["-1"], ..TIME },
            ["metadata.max.age.ms"], ["topic.metadata.refresh.interval.ms"];
        /// How long a call waits for a topic that no broker knows. A topic that was just created takes a moment until all
        /// brokers know it; a mistyped name should be an error soon. Only the first call waits. Calls after it get the error
        /// at once, and the brokers are asked once a second whether the topic exists. Five seconds after the last call for
        /// the topic the client forgets that it was missing, and the next call waits again.
        unknown_topic_wait: Duration = (800 ms), TIME, [], ["topic.metadata.propagation.max.ms"];
        /// Whether the brokers may create a topic that the client asks for and that does not exist, if they are configured
        /// to do so.
        auto_create_topics: bool = (false), Flag, ["allow.auto.create.topics"], [];
        /// The largest response in bytes. A connection whose next response is larger is closed. Properties that raise
        /// [`ConsumerSettings::fetch_bytes_max`] above it, and do not name it, raise it too.
        response_bytes_max: usize = (100 MiB), Number { least: 1000, ..BYTES }, [], ["receive.message.max.bytes"];
        /// The largest batch in bytes after decompression. Reading a larger one is an error.
        decompressed_bytes_max: usize = (64 MiB), Number { least: 1000, ..BYTES }, [], [];
        /// Whether passwords and tokens may be sent over connections that are not encrypted, where everybody on the way can read
        /// them: PLAIN and OAUTHBEARER without TLS. SCRAM does not send the password.
        allow_plaintext_credentials: bool = (false), Flag, [], [];
        /// Whether the client pushes its metrics to brokers that ask for them (KIP-714). A client that counts nothing
        /// ([`ClientBuilder::metrics`](crate::ClientBuilder::metrics)) has nothing to push, and asks no broker.
        metrics_push: bool = (true), Flag, ["enable.metrics.push"], [];
        /// The memory for records, in bytes: half of it for producers, half for consumers.
        memory_bytes_max: usize = (64 MiB), Number { least: 8192, ..MEMORY }, [], [];
    }

    /// The settings of a [`Producer`](crate::Producer).
    producer: ProducerSettings {
        /// Which replicas must have a record before the broker acknowledges it.
        acks: Acks = (Acks::All), ACKS, ["acks"], ["request.required.acks"];
        /// Whether brokers drop the duplicates that retries make, so that each record is written once and in order. Needs
        /// [`Acks::All`].
        idempotence: bool = (true), Flag, ["enable.idempotence"], [];
        /// How long a batch waits for more records while the broker has requests to answer. If it has none, the batch is
        /// sent at once.
        linger: Duration = (5 ms), TIME, ["linger.ms"], ["queue.buffering.max.ms"];
        /// The size of a full batch, in bytes as it is sent: a record that would make a batch larger begins the next one. How
        /// much fits is estimated from how well the topic's last batches were compressed, up to `record_bytes_max` before
        /// compression. If a topic's `max.message.bytes` is less, its batches are smaller. A larger record is sent in a batch
        /// of its own, and with 0 every record is. The default is just under what brokers accept by default.
        batch_bytes_max: usize = (1_000_000 bytes), Number { ceiling: 1 << 30, ..BYTES }, ["batch.size"], [];
        /// The largest record, and the largest batch of several records, in bytes before compression. For larger records
        /// raise the topic's `max.message.bytes` as well.
        record_bytes_max: usize = (1 MiB), Number { least: 1, ceiling: 1 << 30, ..BYTES },
            ["max.request.size"], ["message.max.bytes"];
        /// The codec that compresses batches.
        compression: Compression = (Compression::None), COMPRESSION, ["compression.type"], ["compression.codec"];
        /// The codec's compression level; `None` is the codec's default. In properties, `compression.gzip.level` and
        /// `compression.zstd.level` (Java) apply to one codec, and `compression.level` (librdkafka) to every codec, moved
        /// into the codec's bounds.
        compression_level: Option<i32> = (None),
            Optional(Number { unit: Unit::Count, least: i32::MIN, most: i32::MAX, floor: i32::MIN, ceiling: i32::MAX }), [], [];
        /// How long a record may take from the call until it is acknowledged; then it fails. In properties 0 means no
        /// limit.
        delivery_timeout: Duration = (2 min), Time { no_limit: &["0"], ..SOME_TIME },
            ["delivery.timeout.ms"], ["message.timeout.ms"];
        /// How long a call may wait for the topic's metadata and for memory.
        enqueue_timeout: Duration = (1 min), TIME, ["max.block.ms"], [];
        /// The largest produce request, in bytes of its batches.
        request_bytes_max: usize = (8 MiB), Number { least: 1, ..BYTES }, [], [];
        /// How many produce requests may wait for an answer of one broker at a time. Idempotence allows 5 at most; if
        /// properties ask for more, and do not turn on idempotence by name, 5 is used.
        in_flight_max: usize = (5), Number { unit: Unit::Count, least: 1, most: 1_000_000, floor: 1, ceiling: 1_000_000 },
            ["max.in.flight.requests.per.connection"], ["max.in.flight"];
        /// How records that name no partition are placed. librdkafka's default is `consistent_random`, sarama's is
        /// `fnv1a_random`.
        partitioner: Partitioner = (Partitioner::Murmur2Random), Partitioners, ["partitioner.class"], [];
        /// Whether records that are spread go less to partitions whose broker is slow (KIP-794). Otherwise all partitions get
        /// as many bytes.
        adaptive_partitioning: bool = (true), Flag, ["partitioner.adaptive.partitioning.enable"], [];
        /// After this long without an answer to batches that wait, a partition gets none of the records that are spread, as
        /// long as another one answers. Zero means no limit. It needs `adaptive_partitioning`.
        partition_availability_timeout: Duration = (0 ms), TIME, ["partitioner.availability.timeout.ms"], [];
        /// Whether records that are spread go to partitions whose leader is in this producer's rack, if there are any
        /// (KIP-1123).
        rack_aware: bool = (false), Flag, ["partitioner.rack.aware"], [];
        /// The rack that the program runs in, as brokers name theirs in `broker.rack`, for `rack_aware`. `None` is that of the
        /// client's consumers, which is `client.rack` in properties.
        rack: Option<Arc<str>> = (None), Optional(Name), [], [], named "producer_rack";
        /// The memory for records that are not acknowledged yet, in bytes. `None` is half of the client's.
        memory_bytes_max: Option<usize> = (None), Optional(MEMORY), ["buffer.memory"], [],
            named "producer_memory_bytes_max";
        /// The name under which a producer's transactions continue across restarts. A program gives it to
        /// [`Client::transactional`](crate::Client::transactional);
        /// [`Client::transactional_id`](crate::Client::transactional_id) has it if properties named it.
        transactional_id: Option<Arc<str>> = (None), Optional(Name), ["transactional.id"], [];
        /// How long a transaction may be open. Then its coordinator aborts it, and the producer is fenced. The brokers'
        /// `transaction.max.timeout.ms` limits it.
        transaction_timeout: Duration = (1 min),
            Time { ceiling: Duration::from_millis(i32::MAX as u64), ..SOME_TIME }, ["transaction.timeout.ms"], [];
    }

    /// The settings of a [`Consumer`](crate::Consumer).
    consumer: ConsumerSettings {
        /// The largest fetch response, in bytes of its batches.
        fetch_bytes_max: usize = (8 MiB), BYTES, ["fetch.max.bytes"], [];
        /// The largest part of one partition in a fetch response, in bytes. A larger batch is fetched all the same.
        fetch_partition_bytes_max: usize = (1 MiB), BYTES,
            ["max.partition.fetch.bytes"], ["fetch.message.max.bytes"];
        /// How long a broker waits for new records before it answers a fetch without any. Less than 10 ms is taken as
        /// 10 ms.
        fetch_wait: Duration = (500 ms),
            Time { floor: Duration::from_millis(10), ceiling: Duration::from_millis(i32::MAX as u64), ..TIME },
            ["fetch.max.wait.ms"], ["fetch.wait.max.ms"];
        /// How many bytes of records a broker waits for, at most `fetch_wait`, before it answers a fetch. 0 is taken as 1.
        fetch_bytes_min: usize = (1), BYTES, ["fetch.min.bytes"], [];
        /// Where the consumer continues when the offset it wants to read does not exist any more, and where a group begins that
        /// has committed nothing of a partition. `None` is [`Reset::Fail`] for a consumer that reads by position, and
        /// [`Reset::Earliest`] in a group, so that no record is skipped unless it is asked for.
        reset: Option<Reset> = (None), Optional(RESET), ["auto.offset.reset"], [];
        /// The rack that the application runs in, as brokers name theirs in `broker.rack`. A partition is fetched from a
        /// replica in this rack if its leader knows one (KIP-392). Without a rack leaders are fetched from.
        rack: Arc<str> = (Arc::from("")), Name, ["client.rack"], [];
        /// Which records of transactions the consumer reads.
        isolation: Isolation = (Isolation::ReadUncommitted), ISOLATION, ["isolation.level"], [];
        /// The memory for batches that are fetched and not yet dropped, in bytes. `None` is half of the client's.
        memory_bytes_max: Option<usize> = (None), Optional(MEMORY), [], [], named "consumer_memory_bytes_max";
        /// How many bytes are fetched of one partition before the application takes some of them: a partition that has as
        /// many is not fetched. `None` is `fetch_partition_bytes_max`. The last fetch may exceed it.
        partition_buffer_bytes_max: Option<usize> = (None), Optional(BUFFER), [], [];
        /// How many records are fetched of one partition before the application takes some of them. The last fetch may
        /// exceed it. `None` is no limit.
        partition_buffer_records_max: Option<usize> = (None), Optional(BUFFER_RECORDS), [], ["queued.min.messages"];
        /// How many bytes are fetched of all partitions of a consumer before the application takes some of them. Paused
        /// partitions do not count. A reader that has nothing to take is given something all the same. `None` is no
        /// limit but the memory.
        buffer_bytes_max: Option<usize> = (None), Optional(BUFFER), [], [];
        /// As `buffer_bytes_max`, in records.
        buffer_records_max: Option<usize> = (None), Optional(BUFFER_RECORDS), [], [];
        /// Fetching that has stopped at one of these four limits goes on when this percentage of it is left, so that a
        /// slow reader is sent a few large fetches and not many small ones.
        buffer_resume_percent: usize = (50),
            Number { unit: Unit::Count, least: 0, most: 100, floor: 0, ceiling: 100 }, [], [];
        /// The most records that one call returns, counted by their offsets: a larger batch is returned in parts, which
        /// share its memory. `None` is no limit. It costs one more pass over the records of a batch that is parted.
        delivery_records_max: Option<usize> = (None), Optional(BUFFER_RECORDS), ["max.poll.records"], [];
        /// A partition is stalled if a batch of it that was fetched is not taken for longer than this, or if the application works
        /// on a batch for longer than this: see [`on_stall`](crate::GroupConsumerBuilder::on_stall) and
        /// [`CONSUMER_STALLED_PARTITIONS`](crate::metrics::families::CONSUMER_STALLED_PARTITIONS).
        stall_after: Duration = (60 s), SOME_TIME, [], [];
        /// Whether the checksum of each batch is verified.
        check_crcs: bool = (true), Flag, ["check.crcs"], [];
    }

    /// The settings of a [`Consumer`](crate::Consumer) that is a member of a group.
    group: GroupSettings {
        /// The group. A program gives it to [`Client::consumer`](crate::Client::consumer);
        /// [`Client::group_id`](crate::Client::group_id) has it if properties named it.
        id: Option<Arc<str>> = (None), Optional(Name), ["group.id"], [], named "group_id";
        /// The name of a static member (KIP-345). It keeps its partitions when it is closed and comes back within the
        /// session timeout.
        instance_id: Option<Arc<str>> = (None), Optional(Name), ["group.instance.id"], [], named "group_instance_id";
        /// The protocol of the group: [`Protocol::Consumer`] (KIP-848), [`Protocol::Classic`], or the first one where the
        /// coordinator has it.
        protocol: Protocol = (Protocol::Automatic), PROTOCOL, ["group.protocol"], [], named "group_protocol";
        /// How partitions may be divided among the members of a classic group, best first. Java's classes are known by their
        /// names, and assignors of a program's own are set in code.
        assignors: Vec<Arc<dyn Assignor>> = (assignors::defaults()), Assignors, ["partition.assignment.strategy"], [];
        /// The assignor of the coordinator, for [`Protocol::Consumer`]. `None` is the coordinator's choice.
        server_assignor: Option<Arc<str>> = (None), Optional(Name), ["group.remote.assignor"], [];
        /// After this long without a heartbeat the coordinator gives a member's partitions to other members. With
        /// [`Protocol::Consumer`] the coordinator has its own setting.
        session_timeout: Duration = (45 s), SOME_TIME, ["session.timeout.ms"], [];
        /// The time between two heartbeats. It must be less than the session timeout, and is never more than a third of it.
        /// With [`Protocol::Consumer`] the coordinator says it.
        heartbeat_interval: Duration = (3 s), SOME_TIME, ["heartbeat.interval.ms"], [];
        /// A member whose application takes no batch for this long, although there are some, leaves the group.
        max_poll_interval: Duration = (5 min), SOME_TIME, ["max.poll.interval.ms"], [];
        /// How long a member may take to give partitions up when the group rebalances. `None` is `max_poll_interval`, as in
        /// Java's client, where it is no setting.
        rebalance_timeout: Option<Duration> = (None), Optional(SOME_TIME), [], [];
        /// Whether what is done is committed in the background, and before a partition is given up.
        auto_commit: bool = (true), Flag, ["enable.auto.commit"], ["auto.commit.enable"];
        /// Whether a commit says as well which records above its offset are done, so that they are not returned again after a
        /// restart: see [`keep_finished`](crate::GroupConsumerBuilder::keep_finished).
        keep_finished: bool = (false), Flag, [], [];
        /// How long what is done waits until it is committed in the background. Less than 10 ms is taken as 10 ms.
        commit_interval: Duration = (1 s), Time { floor: Duration::from_millis(10), ..TIME },
            ["auto.commit.interval.ms"], [];
    }
}
