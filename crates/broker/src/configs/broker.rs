//! The configs of brokers, and how clients alter them.
//!
//! All nodes are one process with one set of settings, so that most configs can be altered only for all nodes together.
//! Kafka lets clients alter fewer of them: here every config that is described can be altered, but for those whose rows
//! say that they are fixed.

use std::time::Duration;

use super::topic::{Definition, TOPIC};
use super::{Kind, Overrides};
use crate::builder::MigrationPolicy;
use crate::parts::MachineSettings;

/// One config of a broker.
#[derive(Debug, Clone, Copy)]
pub(crate) enum BrokerConfig {
    /// The value of a topic config for topics that do not set their own.
    OfTopics(&'static Definition),
    Own(&'static Own),
}

/// A config that is no topic's.
#[derive(Debug)]
pub(crate) struct Own {
    name: &'static str,
    kind: Kind,
    default: &'static str,
    /// The least value of a number.
    min: i64,
    /// Whether it can be altered while the broker runs.
    is_dynamic: bool,
    read: fn(&MachineSettings) -> String,
    write: fn(&mut MachineSettings, &str),
}

/// The configs of the brokers: what the program set that started them, and what clients have altered since.
#[derive(Debug, Clone)]
pub(crate) struct BrokerConfigs {
    base: MachineSettings,
    /// What was altered for all brokers, and for the only one.
    pub(crate) all: Overrides,
    pub(crate) one: Overrides,
}

/// One place where a config has a value: DescribeConfigs' number for the place, the name there, and the value.
pub(crate) type Link = (i8, &'static str, String);

const SOURCE_BROKER: i8 = 2;
const SOURCE_ALL_BROKERS: i8 = 3;
const SOURCE_STATIC: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;

/// The configs that are no topic's, by name.
static OWN: &[Own] = &[
    Own {
        read: |settings| settings.auto_create_topics.to_string(),
        write: |settings, value| settings.auto_create_topics = value == "true",
        ..own("auto.create.topics.enable", Kind::Bool, "true", 0)
    },
    Own {
        is_dynamic: false,
        read: |settings| millis(settings.failed_authentication_delay),
        write: |settings, value| settings.failed_authentication_delay = from_millis(value),
        ..own("connection.failed.authentication.delay.ms", Kind::Int, "100", 0)
    },
    Own {
        is_dynamic: false,
        read: |settings| millis(settings.session_lifetime_max),
        write: |settings, value| settings.session_lifetime_max = from_millis(value),
        ..own("connections.max.reauth.ms", Kind::Long, "0", 0)
    },
    Own {
        read: |settings| settings.replication_default.to_string(),
        write: |settings, value| settings.replication_default = number(value) as i16,
        ..own("default.replication.factor", Kind::Int, "1", 1)
    },
    Own {
        read: |settings| settings.fetch_bytes_max.to_string(),
        write: |settings, value| settings.fetch_bytes_max = number(value) as usize,
        ..own("fetch.max.bytes", Kind::Int, "57671680", 1024)
    },
    Own {
        read: |settings| millis(settings.groups.consumer_assignment_interval),
        write: |settings, value| settings.groups.consumer_assignment_interval = from_millis(value),
        ..own("group.consumer.assignment.interval.ms", Kind::Int, "1000", 0)
    },
    Own {
        read: |settings| millis(settings.groups.consumer_heartbeat_interval),
        write: |settings, value| settings.groups.consumer_heartbeat_interval = from_millis(value),
        ..own("group.consumer.heartbeat.interval.ms", Kind::Int, "5000", 1)
    },
    Own {
        read: |settings| settings.groups.consumer_members_max.to_string(),
        write: |settings, value| settings.groups.consumer_members_max = number(value) as usize,
        ..own("group.consumer.max.size", Kind::Int, "2147483647", 1)
    },
    Own {
        read: |settings| settings.groups.migration.name().to_owned(),
        write: |settings, value| settings.groups.migration = MigrationPolicy::named(value),
        ..own("group.consumer.migration.policy", Kind::Choice(MigrationPolicy::NAMES), "bidirectional", 0)
    },
    Own {
        read: |settings| millis(settings.groups.consumer_session_timeout),
        write: |settings, value| settings.groups.consumer_session_timeout = from_millis(value),
        ..own("group.consumer.session.timeout.ms", Kind::Int, "45000", 1)
    },
    Own {
        read: |settings| millis(settings.groups.initial_rebalance_delay),
        write: |settings, value| settings.groups.initial_rebalance_delay = from_millis(value),
        ..own("group.initial.rebalance.delay.ms", Kind::Int, "3000", 0)
    },
    Own {
        read: |settings| millis(settings.groups.session_timeout_max),
        write: |settings, value| settings.groups.session_timeout_max = from_millis(value),
        ..own("group.max.session.timeout.ms", Kind::Int, "1800000", 0)
    },
    Own {
        read: |settings| settings.groups.members_max.to_string(),
        write: |settings, value| settings.groups.members_max = number(value) as usize,
        ..own("group.max.size", Kind::Int, "2147483647", 1)
    },
    Own {
        read: |settings| millis(settings.groups.session_timeout_min),
        write: |settings, value| settings.groups.session_timeout_min = from_millis(value),
        ..own("group.min.session.timeout.ms", Kind::Int, "6000", 0)
    },
    Own {
        read: |settings| millis(settings.cleaner_backoff),
        write: |settings, value| settings.cleaner_backoff = from_millis(value),
        ..own("log.cleaner.backoff.ms", Kind::Long, "15000", 0)
    },
    Own {
        read: |settings| millis(settings.retention_check_interval),
        write: |settings, value| settings.retention_check_interval = from_millis(value),
        ..own("log.retention.check.interval.ms", Kind::Long, "300000", 1)
    },
    Own {
        is_dynamic: false,
        read: |settings| settings.fetch_sessions_max.to_string(),
        write: |settings, value| settings.fetch_sessions_max = number(value) as usize,
        ..own("max.incremental.fetch.session.cache.slots", Kind::Int, "1000", 0)
    },
    Own {
        read: |settings| settings.partitions_default.to_string(),
        write: |settings, value| settings.partitions_default = number(value) as i32,
        ..own("num.partitions", Kind::Int, "1", 1)
    },
    Own {
        read: |settings| settings.groups.metadata_max.to_string(),
        write: |settings, value| settings.groups.metadata_max = number(value) as usize,
        ..own("offset.metadata.max.bytes", Kind::Int, "4096", 0)
    },
    Own {
        read: |settings| settings.groups.offsets_retention.as_secs().div_ceil(60).to_string(),
        write: |settings, value| {
            settings.groups.offsets_retention = Duration::from_secs(number(value) as u64 * 60);
        },
        ..own("offsets.retention.minutes", Kind::Int, "10080", 1)
    },
    Own {
        is_dynamic: false,
        read: |settings| settings.telemetry.bytes_max.to_string(),
        write: |settings, value| settings.telemetry.bytes_max = number(value) as usize,
        ..own("telemetry.max.bytes", Kind::Int, "1048576", 1)
    },
    Own {
        read: |settings| millis(settings.transactions.timeout_max),
        write: |settings, value| settings.transactions.timeout_max = from_millis(value),
        ..own("transaction.max.timeout.ms", Kind::Int, "900000", 1)
    },
    Own {
        read: |settings| millis(settings.transactions.expiration),
        write: |settings, value| settings.transactions.expiration = from_millis(value),
        ..own("transactional.id.expiration.ms", Kind::Int, "604800000", 1)
    },
];

const fn own(name: &'static str, kind: Kind, default: &'static str, min: i64) -> Own {
    Own { name, kind, default, min, is_dynamic: true, read: |_| String::new(), write: |_, _| {} }
}

/// A number that was checked.
fn number(value: &str) -> i64 {
    value.parse().unwrap_or_default()
}

fn millis(time: Duration) -> String {
    time.as_millis().to_string()
}

fn from_millis(value: &str) -> Duration {
    Duration::from_millis(number(value).max(0) as u64)
}

impl BrokerConfig {
    /// All configs, by name.
    pub(crate) fn all() -> Vec<Self> {
        let of_topics = TOPIC.iter().filter(|definition| !definition.broker.is_empty()).map(Self::OfTopics);
        let mut all: Vec<Self> = of_topics.chain(OWN.iter().map(Self::Own)).collect();
        all.sort_unstable_by_key(Self::name);
        all
    }

    /// The config of this name.
    pub(crate) fn find(name: &str) -> Option<Self> {
        let of_topics = TOPIC.iter().find(|definition| definition.broker == name && !name.is_empty());
        of_topics.map(Self::OfTopics).or_else(|| OWN.iter().find(|own| own.name == name).map(Self::Own))
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::OfTopics(definition) => definition.broker,
            Self::Own(own) => own.name,
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::OfTopics(definition) => definition.kind,
            Self::Own(own) => own.kind,
        }
    }

    /// Whether it can be altered while the broker runs.
    pub(crate) fn is_dynamic(&self) -> bool {
        matches!(self, Self::OfTopics(_) | Self::Own(Own { is_dynamic: true, .. }))
    }

    /// Checks a value, and returns it as it is kept. The error is a sentence for the client.
    pub(crate) fn check(&self, value: &str) -> Result<String, String> {
        match self {
            Self::OfTopics(definition) => definition.check(definition.broker, value),
            Self::Own(own) => own.kind.check(own.name, value, own.min),
        }
    }

    /// Has the settings follow a value that was checked.
    pub(crate) fn write(&self, settings: &mut MachineSettings, value: &str) {
        match self {
            Self::OfTopics(definition) => {
                settings.topic_defaults.insert(definition.name.to_owned(), value.to_owned());
            }
            Self::Own(own) => (own.write)(settings, value),
        }
    }

    pub(crate) fn default(&self) -> &'static str {
        match self {
            Self::OfTopics(definition) => definition.default,
            Self::Own(own) => own.default,
        }
    }

    /// The name and the value of its default. Kafka has none for some times in milliseconds: their defaults are those of
    /// configs that Kafka had before them.
    fn default_link(&self) -> (Option<&'static str>, &'static str) {
        match self.name() {
            "log.retention.ms" => (Some("log.retention.hours"), "168"),
            "log.roll.ms" => (Some("log.roll.hours"), "168"),
            "log.roll.jitter.ms" => (Some("log.roll.jitter.hours"), "0"),
            "log.flush.interval.ms" => (Some("log.flush.scheduler.interval.ms"), self.default()),
            _ => (None, self.default()),
        }
    }
}

impl BrokerConfigs {
    /// The configs of brokers that were started with these settings.
    pub(crate) fn new(base: MachineSettings) -> Self {
        Self { base, all: Overrides::new(), one: Overrides::new() }
    }

    /// The settings that hold now.
    pub(crate) fn settings(&self) -> MachineSettings {
        let mut settings = self.base.clone();
        for (name, value) in self.all.iter().chain(&self.one) {
            if let Some(config) = BrokerConfig::find(name) {
                config.write(&mut settings, value);
            }
        }
        settings
    }

    /// The places where a config has a value; the first one holds. Empty where Kafka shows none.
    pub(crate) fn chain(&self, config: BrokerConfig) -> Vec<Link> {
        let name = config.name();
        let mut chain = Vec::new();
        for (source, overrides) in [(SOURCE_BROKER, &self.one), (SOURCE_ALL_BROKERS, &self.all)] {
            chain.extend(overrides.get(name).map(|value| (source, name, value.clone())));
        }
        let base = match config {
            BrokerConfig::OfTopics(definition) => self.base.topic_defaults.get(definition.name).cloned(),
            BrokerConfig::Own(own) => Some((own.read)(&self.base)),
        };
        let base = base.filter(|value| value != config.default());
        chain.extend(base.map(|value| (SOURCE_STATIC, name, value)));
        match config.default_link() {
            (None, value) => chain.push((SOURCE_DEFAULT, name, value.to_owned())),
            (Some(older), value) if !chain.is_empty() => {
                chain.push((SOURCE_DEFAULT, older, value.to_owned()));
            }
            _ => {}
        }
        chain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_config_has_one_name_and_a_valid_default() {
        let all = BrokerConfig::all();
        assert!(all.is_sorted_by(|one, other| one.name() < other.name()), "{all:?}");
        for config in all {
            assert_eq!(config.check(config.default()).as_deref(), Ok(config.default()), "{config:?}");
            assert!(BrokerConfig::find(config.name()).is_some());
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut settings = crate::Broker::builder().settings().clone();
        for own in OWN {
            let value = match own.kind {
                Kind::Bool => "false".to_owned(),
                Kind::Choice(words) => words[1].to_owned(),
                _ => "7654".to_owned(),
            };
            (own.write)(&mut settings, &value);
            assert_eq!((own.read)(&settings), value, "{}", own.name);
        }
    }
}
