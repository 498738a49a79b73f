//! What brokers want of a client, as one answer says it. The answer is a peer's: all of it has bounds.

use std::sync::Arc;
use std::time::Duration;

use milena_messages::get_telemetry_subscriptions::GetTelemetrySubscriptionsResponse;
use milena_wire::codec::Compression;

#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) id: i32,
    pub(super) interval: Duration,
    /// In the order in which the broker likes them, without those that the client does not have.
    codecs: Vec<Compression>,
    pub(super) bytes_max: usize,
    pub(super) is_delta: bool,
    pub(super) wanted: Arc<Wanted>,
}

/// Which metrics brokers want, by the beginnings of their names.
///
/// ```
/// use milena_core::telemetry::Wanted;
///
/// let wanted = Wanted::of(["org.apache.kafka.producer.".to_owned()]);
/// assert!(wanted.has("org.apache.kafka.producer.record.send.total"));
/// assert!(!wanted.has("org.apache.kafka.consumer.fetch.manager.fetch.latency.avg"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// All of them.
    All,
    /// Those whose names begin with one of these. Without any, none.
    Prefixes(Vec<String>),
}

/// Kafka's default, which holds if a broker names no interval or a negative one, as in Java's client.
pub(super) const INTERVAL_DEFAULT: Duration = Duration::from_secs(5 * 60);
/// The least that Kafka lets people set.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Kafka's default of `telemetry.max.bytes`, which holds if a broker names no limit.
const BYTES_MAX_DEFAULT: usize = 1 << 20;
/// No more is pushed, whatever a broker would take: it is in memory at once.
const BYTES_MAX: usize = 4 << 20;
/// More names are not looked at. Clients have some hundred metrics, and each is compared with each name.
const NAMES_MAX: usize = 1000;
/// A longer name is the beginning of no metric.
const NAME_BYTES_MAX: usize = 255;
const CODECS_MAX: usize = 16;

impl Subscription {
    pub(super) fn new(response: &GetTelemetrySubscriptionsResponse, built_in: &[Compression]) -> Self {
        let interval = match u64::try_from(response.push_interval_ms) {
            Ok(0) | Err(_) => INTERVAL_DEFAULT,
            Ok(ms) => Duration::from_millis(ms).max(INTERVAL_MIN),
        };
        let bytes_max = match usize::try_from(response.telemetry_max_bytes) {
            Ok(0) | Err(_) => BYTES_MAX_DEFAULT,
            Ok(bytes) => bytes.min(BYTES_MAX),
        };
        let codecs = response.accepted_compression_types.iter().take(CODECS_MAX);
        let codecs = codecs.filter_map(|&number| {
            let known = (0..=4).contains(&number).then_some(i16::from(number));
            known.and_then(Compression::from_attributes).filter(|codec| built_in.contains(codec))
        });
        Self {
            id: response.subscription_id,
            interval,
            codecs: codecs.collect(),
            bytes_max,
            is_delta: response.delta_temporality,
            wanted: Arc::new(Wanted::of(response.requested_metrics.iter().map(ToString::to_string))),
        }
    }

    /// The codec that the broker likes best of those that the client has and that were not refused; none if there is none, which every
    /// broker takes.
    pub(super) fn codec(&self, refused: &[Compression]) -> Compression {
        self.codecs.iter().copied().find(|codec| !refused.contains(codec)).unwrap_or_default()
    }
}

impl Wanted {
    /// What these names ask for: `*` and the empty name ask for all metrics, no name for none.
    pub fn of(names: impl IntoIterator<Item = String>) -> Self {
        let mut prefixes = Vec::new();
        for name in names.into_iter().take(NAMES_MAX) {
            match name.as_str() {
                "*" | "" => return Self::All,
                _ if name.len() > NAME_BYTES_MAX => {}
                _ => prefixes.push(name),
            }
        }
        Self::Prefixes(prefixes)
    }

    /// Whether a metric of this name is wanted.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Prefixes(prefixes) => prefixes.iter().any(|prefix| name.starts_with(prefix.as_str())),
        }
    }

    /// Whether no metric is wanted.
    pub fn is_nothing(&self) -> bool {
        matches!(self, Self::Prefixes(prefixes) if prefixes.is_empty())
    }
}
