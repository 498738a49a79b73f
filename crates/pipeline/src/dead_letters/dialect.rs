//! The dialects of dead letters: whose headers they are, and what each header says.
//!
//! Pure tables. A header that belongs to a dialect is one that its writer adds, so that a replay can take it off again; a header
//! that *identifies* a dialect is one whose name nobody else would use.

use std::fmt;
use std::str::FromStr;

/// Whose dead letter a record is, by the names of its headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// Ours: `milena.dlq.*`, UTF-8 text.
    Milena,
    /// Spring Kafka's `DeadLetterPublishingRecoverer` (`kafka_dlt-*`) and `@RetryableTopic` (`kafka_original-*`,
    /// `kafka_exception-*`, `retry_topic-*`). Numbers are big endian.
    Spring,
    /// Kafka Connect's sink connectors: `__connect.errors.*`.
    Connect,
    /// Kafka Streams: `__streams.errors.*` (KIP-1034).
    Streams,
    /// The broker, for share groups: `__dlq.errors.*` (KIP-1191).
    ShareGroup,
    /// SmallRye Reactive Messaging (Quarkus): `dead-letter-*` and `delayed-retry-*`.
    SmallRye,
    /// Karafka Pro: `source_*`, and `original_*` before its version 2.4.
    Karafka,
    /// Watermill's poison queue: `*_poisoned`.
    Watermill,
    /// Many programs' own headers called `x-dlq-*`, KPipe's among them. There is no one list of their names: those in common use
    /// are read.
    XDlq,
}

/// What a header of a dialect says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key,
    Reason,
    Class,
    /// The text or the class of a cause.
    Cause,
    Stack,
    Attempts,
    First,
    Last,
    Letters,
    Replays,
    ReplayedFrom,
    Group,
    /// The handler, or a part of its name.
    Handler,
    /// It belongs to the dialect, and is not read.
    Other,
}

impl Field {
    /// Whether it tells where the record came from. Of repeated headers the oldest counts then, and the newest otherwise.
    pub(super) fn is_origin(self) -> bool {
        matches!(
            self,
            Self::Topic | Self::Partition | Self::Offset | Self::Timestamp | Self::Key | Self::First
        )
    }
}

impl Dialect {
    /// All dialects.
    pub const ALL: [Self; 9] = [
        Self::Milena,
        Self::Spring,
        Self::Connect,
        Self::Streams,
        Self::ShareGroup,
        Self::SmallRye,
        Self::Karafka,
        Self::Watermill,
        Self::XDlq,
    ];

    /// Its name, as [`FromStr`] reads it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Milena => "milena",
            Self::Spring => "spring",
            Self::Connect => "connect",
            Self::Streams => "streams",
            Self::ShareGroup => "share-group",
            Self::SmallRye => "smallrye",
            Self::Karafka => "karafka",
            Self::Watermill => "watermill",
            Self::XDlq => "x-dlq",
        }
    }

    /// Whether a header of this name is one that the dialect adds to a record.
    ///
    /// ```
    /// use milena_pipeline::dead_letters::Dialect;
    ///
    /// assert!(Dialect::Connect.owns(b"__connect.errors.topic"));
    /// assert!(!Dialect::Connect.owns(b"traceparent"));
    /// ```
    pub fn owns(self, header: &[u8]) -> bool {
        self.field(header).is_some()
    }

    /// What the header says, if it is one of this dialect.
    pub(super) fn field(self, header: &[u8]) -> Option<Field> {
        match self {
            Self::Milena => of_prefix(header, PREFIX, MILENA),
            Self::Spring => SPRING_PREFIXES.iter().find_map(|prefix| of_prefix(header, prefix, SPRING)),
            Self::Connect => of_prefix(header, "__connect.errors.", CONNECT),
            Self::Streams => of_prefix(header, "__streams.errors.", STREAMS),
            Self::ShareGroup => of_prefix(header, "__dlq.errors.", SHARE_GROUP),
            Self::SmallRye => ["dead-letter-", "delayed-retry-"].iter().find_map(|prefix| {
                let rest = header.strip_prefix(prefix.as_bytes())?;
                look_up(SMALLRYE, rest)
            }),
            Self::Karafka => ["source_", "original_"].iter().find_map(|prefix| {
                let rest = header.strip_prefix(prefix.as_bytes())?;
                look_up(KARAFKA, rest)
            }),
            Self::Watermill => look_up(WATERMILL, header),
            Self::XDlq => {
                let (prefix, rest) = header.split_at_checked(X_DLQ.len())?;
                prefix.eq_ignore_ascii_case(X_DLQ.as_bytes()).then(|| x_dlq(rest))
            }
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Dialect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|dialect| dialect.name() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|dialect| dialect.name()).collect();
            format!("{text:?} is no dialect of dead letters; there are {}", names.join(", "))
        })
    }
}

type Table = &'static [(&'static str, Field)];

fn look_up(table: Table, name: &[u8]) -> Option<Field> {
    table.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, field)| *field)
}

/// Under a prefix that nobody else uses, a name that is not in the table belongs to the dialect all the same.
fn of_prefix(header: &[u8], prefix: &str, table: Table) -> Option<Field> {
    let rest = header.strip_prefix(prefix.as_bytes())?;
    Some(look_up(table, rest).unwrap_or(Field::Other))
}

/// What our own headers begin with.
pub(super) const PREFIX: &str = "milena.dlq.";

const MILENA: Table = &[
    ("topic", Field::Topic),
    ("partition", Field::Partition),
    ("offset", Field::Offset),
    ("timestamp", Field::Timestamp),
    ("reason", Field::Reason),
    ("class", Field::Class),
    ("cause", Field::Cause),
    ("attempts", Field::Attempts),
    ("first", Field::First),
    ("last", Field::Last),
    ("letters", Field::Letters),
    ("replays", Field::Replays),
    ("replayed-from", Field::ReplayedFrom),
    ("group", Field::Group),
    ("handler", Field::Handler),
];

/// spring-kafka: `support/KafkaHeaders.java` (`DLT_*`, `ORIGINAL_*`, `EXCEPTION_*`, `KEY_EXCEPTION_*`) and
/// `retrytopic/RetryTopicHeaders.java`.
const SPRING_PREFIXES: [&str; 5] =
    ["kafka_dlt-", "kafka_original-", "kafka_exception-", "kafka_key-exception-", "retry_topic-"];

/// What is left of a name of Spring's after its prefix. `kafka_dlt-` is followed by what the other prefixes say themselves.
const SPRING: Table = &[
    ("original-topic", Field::Topic),
    ("topic", Field::Topic),
    ("original-partition", Field::Partition),
    ("partition", Field::Partition),
    ("original-offset", Field::Offset),
    ("offset", Field::Offset),
    ("original-timestamp", Field::Timestamp),
    ("timestamp", Field::Timestamp),
    ("original-consumer-group", Field::Group),
    ("consumer-group", Field::Group),
    ("exception-fqcn", Field::Class),
    ("key-exception-fqcn", Field::Class),
    ("fqcn", Field::Class),
    ("exception-cause-fqcn", Field::Cause),
    ("cause-fqcn", Field::Cause),
    ("exception-message", Field::Reason),
    ("key-exception-message", Field::Reason),
    ("message", Field::Reason),
    ("exception-stacktrace", Field::Stack),
    ("key-exception-stacktrace", Field::Stack),
    ("stacktrace", Field::Stack),
    ("attempts", Field::Attempts),
];

/// kafka: `connect/runtime/errors/DeadLetterQueueReporter.java`.
const CONNECT: Table = &[
    ("topic", Field::Topic),
    ("partition", Field::Partition),
    ("offset", Field::Offset),
    ("connector.name", Field::Handler),
    ("task.id", Field::Handler),
    ("stage", Field::Handler),
    ("exception.class.name", Field::Class),
    ("exception.message", Field::Reason),
    ("exception.stacktrace", Field::Stack),
];

/// kafka: `streams/errors/ExceptionHandlerUtils.java`. `exception` is the exception's `toString()`.
const STREAMS: Table = &[
    ("topic", Field::Topic),
    ("partition", Field::Partition),
    ("offset", Field::Offset),
    ("exception", Field::Class),
    ("message", Field::Reason),
    ("stacktrace", Field::Stack),
    ("processor.node.id", Field::Handler),
];

/// kafka: `server/share/dlq/ShareGroupDLQRecordHelper.java`.
const SHARE_GROUP: Table = &[
    ("topic", Field::Topic),
    ("partition", Field::Partition),
    ("offset", Field::Offset),
    ("group", Field::Group),
    ("delivery.count", Field::Attempts),
    ("message", Field::Reason),
];

/// smallrye-reactive-messaging: `kafka/fault/KafkaDeadLetterQueue.java` and `KafkaDelayedRetryTopic.java`.
const SMALLRYE: Table = &[
    ("topic", Field::Topic),
    ("partition", Field::Partition),
    ("offset", Field::Offset),
    ("original-timestamp", Field::Timestamp),
    ("reason", Field::Reason),
    ("exception-class-name", Field::Class),
    ("cause", Field::Cause),
    ("cause-class-name", Field::Other),
    ("count", Field::Attempts),
    ("first-processing-timestamp", Field::First),
];

/// karafka: `pro/processing/strategies/dlq/default.rb`. The letter's own key is the source partition.
const KARAFKA: Table = &[
    ("topic", Field::Topic),
    ("partition", Field::Partition),
    ("offset", Field::Offset),
    ("key", Field::Key),
    ("consumer_group", Field::Group),
    ("attempts", Field::Attempts),
    ("trace_id", Field::Other),
];

/// watermill: `message/router/middleware/poison.go`.
const WATERMILL: Table = &[
    ("topic_poisoned", Field::Topic),
    ("reason_poisoned", Field::Reason),
    ("handler_poisoned", Field::Handler),
    ("subscriber_poisoned", Field::Other),
];

const X_DLQ: &str = "x-dlq-";

fn x_dlq(rest: &[u8]) -> Field {
    const NAMES: &[(&str, Field)] = &[
        ("topic", Field::Topic),
        ("partition", Field::Partition),
        ("offset", Field::Offset),
        ("timestamp", Field::Timestamp),
        ("key", Field::Key),
        ("reason", Field::Reason),
        ("failure-reason", Field::Reason),
        ("error", Field::Reason),
        ("error-message", Field::Reason),
        ("exception-message", Field::Reason),
        ("detail", Field::Cause),
        ("error-detail", Field::Cause),
        ("error-class", Field::Class),
        ("error-type", Field::Class),
        ("error-code", Field::Class),
        ("exception", Field::Class),
        ("exception-class", Field::Class),
        ("exception-type", Field::Class),
        ("stacktrace", Field::Stack),
        ("attempt", Field::Attempts),
        ("attempts", Field::Attempts),
        ("attempt-count", Field::Attempts),
        ("retries", Field::Attempts),
        ("retry-count", Field::Attempts),
        ("failures", Field::Attempts),
        ("first-failed-at", Field::First),
        ("failed-at", Field::Last),
        ("group", Field::Group),
        ("consumer-group", Field::Group),
        ("handler", Field::Handler),
        ("source-app", Field::Handler),
        ("service", Field::Handler),
    ];
    let rest = rest.to_ascii_lowercase();
    // `x-dlq-timestamp` is the time of the failure; `x-dlq-original-timestamp` is the record's.
    if rest == b"timestamp" || rest == b"ts" {
        return Field::Last;
    }
    let bare = [b"original-".as_slice(), b"source-"].iter().find_map(|prefix| rest.strip_prefix(*prefix));
    let bare = bare.filter(|bare| look_up(NAMES, bare).is_some()).unwrap_or(&rest);
    look_up(NAMES, bare).unwrap_or(Field::Other)
}
