//! A subscription: the configs of a CLIENT_METRICS resource, and which clients it is for.

use std::collections::BTreeSet;
use std::time::Duration;

use milena_messages::ErrorCode;
use milena_wire::Uuid;

use super::instance::Who;
use crate::configs::{Kind, Overrides};
use crate::pattern::Pattern;

/// Some metrics of some clients.
#[derive(Debug)]
pub(crate) struct Subscription {
    overrides: Overrides,
    /// The prefixes of the metrics' names, or `*`.
    pub(super) metrics: BTreeSet<String>,
    pub(super) interval: Duration,
    /// What must match, all of it.
    patterns: Vec<(Subject, Pattern)>,
}

/// A config of CLIENT_METRICS resources.
#[derive(Debug)]
pub(crate) struct ClientMetricsConfig {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) default: &'static str,
}

/// What a pattern is about.
#[derive(Debug, Clone, Copy)]
enum Subject {
    InstanceId,
    ClientId,
    SoftwareName,
    SoftwareVersion,
    Address,
    Port,
}

/// The name that stands for all metrics.
pub(super) const ALL_METRICS: &str = "*";
pub(super) const INTERVAL_DEFAULT: Duration = Duration::from_secs(5 * 60);

const METRICS: &str = "metrics";
const INTERVAL: &str = "interval.ms";
const MATCH: &str = "match";
const INTERVAL_MIN_MS: i64 = 100;
const INTERVAL_MAX_MS: i64 = 3_600_000;

/// The most prefixes of one subscription. A client of ours and Kafka's have fewer metrics.
const METRICS_MAX: usize = 1000;
/// The most bytes of a prefix: names of metrics are shorter.
const METRIC_BYTES_MAX: usize = 255;

/// The configs, by name.
pub(crate) static CONFIGS: &[ClientMetricsConfig] = &[
    ClientMetricsConfig { name: INTERVAL, kind: Kind::Int, default: "300000" },
    ClientMetricsConfig { name: MATCH, kind: Kind::List(&[]), default: "" },
    ClientMetricsConfig { name: METRICS, kind: Kind::List(&[]), default: "" },
];

type Denial = (ErrorCode, String);

impl ClientMetricsConfig {
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        CONFIGS.iter().find(|config| config.name == name)
    }
}

impl Subscription {
    /// A subscription with these configs. The error is a code and a sentence for the client.
    pub(crate) fn new(mut overrides: Overrides) -> Result<Self, Denial> {
        for (name, value) in &mut overrides {
            let Some(config) = ClientMetricsConfig::find(name) else {
                return invalid(format!("Unknown client metrics configuration: {name}"));
            };
            *value = config.kind.check(name, value, i64::MIN).or_else(invalid)?;
        }
        let words = |name: &str| {
            let value = overrides.get(name).map_or("", String::as_str);
            value.split(',').map(str::trim).filter(|word| !word.is_empty())
        };
        let metrics: BTreeSet<String> = words(METRICS).map(str::to_owned).collect();
        if metrics.len() > METRICS_MAX || metrics.iter().any(|name| name.len() > METRIC_BYTES_MAX) {
            return invalid(format!(
                "This broker takes at most {METRICS_MAX} names of metrics, of at most {METRIC_BYTES_MAX} bytes"
            ));
        }
        let interval = match overrides.get(INTERVAL).and_then(|value| value.parse::<i64>().ok()) {
            None => INTERVAL_DEFAULT,
            Some(ms) if (INTERVAL_MIN_MS..=INTERVAL_MAX_MS).contains(&ms) => Duration::from_millis(ms as u64),
            Some(ms) => {
                return invalid(format!(
                    "Invalid value {ms} for {INTERVAL}, interval must be between {INTERVAL_MIN_MS} and \
                     {INTERVAL_MAX_MS} (1 hour)"
                ));
            }
        };
        let patterns = words(MATCH).map(read_pattern).collect::<Result<_, _>>()?;
        Ok(Self { metrics, interval, patterns, overrides })
    }

    pub(crate) fn overrides(&self) -> &Overrides {
        &self.overrides
    }

    /// Whether it is for a client.
    pub(super) fn is_for(&self, id: Uuid, who: Who<'_>) -> bool {
        let software = who.software.unwrap_or_default();
        self.patterns.iter().all(|(subject, pattern)| match subject {
            Subject::InstanceId => pattern.matches(&id.to_string()),
            Subject::ClientId => pattern.matches(who.client_id),
            Subject::SoftwareName => pattern.matches(software.0),
            Subject::SoftwareVersion => pattern.matches(software.1),
            Subject::Address => pattern.matches(&who.address.ip().to_string()),
            Subject::Port => pattern.matches(&who.address.port().to_string()),
        })
    }
}

fn read_pattern(word: &str) -> Result<(Subject, Pattern), Denial> {
    let read = || {
        let (name, pattern) = word.split_once('=').filter(|(_, pattern)| !pattern.contains('='))?;
        let subject = match name.trim() {
            "client_instance_id" => Subject::InstanceId,
            "client_id" => Subject::ClientId,
            "client_software_name" => Subject::SoftwareName,
            "client_software_version" => Subject::SoftwareVersion,
            "client_source_address" => Subject::Address,
            "client_source_port" => Subject::Port,
            _ => return None,
        };
        let pattern = Some(pattern.trim()).filter(|pattern| !pattern.is_empty())?;
        Some((subject, Pattern::new(pattern).ok()?))
    };
    read().ok_or_else(|| (ErrorCode::INVALID_CONFIG, format!("Illegal client matching pattern: {word}")))
}

fn invalid<T>(reason: String) -> Result<T, Denial> {
    Err((ErrorCode::INVALID_REQUEST, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_subscription_is_refused_as_kafka_refuses_it() {
        for (config, value, expected) in [
            ("interval.ms", "99", Some(ErrorCode::INVALID_REQUEST)),
            ("interval.ms", "3600001", Some(ErrorCode::INVALID_REQUEST)),
            ("interval.ms", "soon", Some(ErrorCode::INVALID_REQUEST)),
            ("interval.ms", "100", None),
            ("metrics", "*", None),
            ("metrics", "", None),
            ("metrics", " org.apache.kafka.producer., org.apache.kafka.consumer. ", None),
            ("match", "client_id=app-[0-9]+,client_source_port=4000", None),
            ("match", "client_id", Some(ErrorCode::INVALID_CONFIG)),
            ("match", "client_id=", Some(ErrorCode::INVALID_CONFIG)),
            ("match", "client_id=a=b", Some(ErrorCode::INVALID_CONFIG)),
            ("match", "client_id=(", Some(ErrorCode::INVALID_CONFIG)),
            ("match", "user=a", Some(ErrorCode::INVALID_CONFIG)),
            ("retention.ms", "1", Some(ErrorCode::INVALID_REQUEST)),
        ] {
            let overrides = Overrides::from([(config.to_owned(), value.to_owned())]);
            let code = Subscription::new(overrides).err().map(|(code, _)| code);
            assert_eq!(code, expected, "{config}={value}");
        }
    }
}
