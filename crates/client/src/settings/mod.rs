//! The settings: their units, defaults and bounds, and their names in Java and librdkafka.
//!
//! ```text
//! a properties file ─▶ syntax ─┐
//!                              ├─▶ Properties ─▶ table (settings), foreign (other names) ─▶ Settings
//!              NAME=VALUE ─────┘
//! ```

mod aws;
mod foreign;
mod jaas;
mod kind;
mod oauth;
mod properties;
mod sasl;
mod secret;
mod syntax;
mod table;
#[cfg(test)]
mod tests;
mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use milena_core::group::Protocol;
pub use milena_core::producer::Acks;
pub use milena_wire::codec::Compression;

pub use self::properties::Properties;
pub use self::table::{
    ClientSettings, ConsumerSettings, GroupSettings, ProducerSettings, SETTINGS, SettingDoc,
};
use crate::{Error, Sasl, Secret};

/// Reads a secret from where `source` says, as the properties of passwords do: `env:NAME`, `file:PATH`, `command:PROGRAM ARGS`, or
/// else the text itself. The last line's end is left out. It blocks while it reads, for ten seconds at most while a program runs.
///
/// ```
/// let secret = milena::read_secret("env:PATH")?; // or "file:/run/secrets/kafka"
/// assert_eq!(format!("{secret:?}"), "***");
/// # Ok::<(), milena::Error>(())
/// ```
///
/// # Errors
/// When the variable is not set, the file cannot be read, or the program fails.
pub fn read_secret(source: &str) -> Result<Secret, Error> {
    secret::secret(source).map_err(|why| Error::caller("reading a secret", why))
}

/// How a setting's value is written.
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
    /// Text of the given form.
    Text(&'static str),
}

/// Where a consumer continues when the offset it wants to read does not exist any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reset {
    /// It does not continue: the partition stops and the error is reported, because records may have been lost.
    #[default]
    Fail,
    /// At the first record of the partition.
    Earliest,
    /// After the last record of the partition.
    Latest,
    /// At the first record whose timestamp is at most this long ago, and after the last record if there is none.
    /// `by_duration:PT1H` in properties (KIP-1106).
    ByDuration(Duration),
}

/// Under which names the client connects to the bootstrap servers (KIP-235). It matters to Kerberos and to certificates, which are for
/// names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DnsLookup {
    /// Under those that the list has. All addresses of a name are tried. Java's `use_all_dns_ips`.
    #[default]
    AllAddresses,
    /// Under the name that each of their addresses has in DNS, if that name stands for the address, and otherwise the address itself.
    /// They are looked up once, when the client connects. Brokers are connected to under the names that they advertise, as always.
    /// Java's `resolve_canonical_bootstrap_servers_only`.
    CanonicalBootstrap,
}

/// Which records of transactions a consumer reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// All records, also those of open and aborted transactions.
    #[default]
    ReadUncommitted,
    /// Only records of committed transactions, and records outside of transactions.
    ReadCommitted,
}

/// The settings of a client and the defaults of its producers and consumers, with what the properties added.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    pub(crate) client: ClientSettings,
    pub(crate) producer: ProducerSettings,
    pub(crate) consumer: ConsumerSettings,
    pub(crate) group: GroupSettings,
    /// How the client authenticates, if it does.
    pub(crate) sasl: Option<Sasl>,
    /// TLS, unless connections are in plain text.
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<crate::Tls>,
    levels: Levels,
    /// The settings that properties named.
    named: BTreeSet<&'static str>,
    /// The properties that have no effect, and why each has none.
    ignored: BTreeMap<String, &'static str>,
}

/// Compression levels from properties. Java has one property for each codec, librdkafka has one for all codecs.
#[derive(Debug, Clone, Default)]
struct Levels {
    any: Option<i32>,
    gzip: Option<i32>,
    zstd: Option<i32>,
}

impl Settings {
    /// Moves every setting into its bounds, and refuses a value for which the table has no such rule.
    pub(crate) fn fit(&mut self) -> Result<(), Error> {
        for setting in SETTINGS {
            let wrong = |why| Error::caller(format!("checking the setting {}", setting.name), why);
            (setting.fit)(self).map_err(wrong)?;
        }
        Ok(())
    }

    /// These settings with the settings of one producer.
    pub(crate) fn with_producer(&self, producer: ProducerSettings) -> Result<Self, Error> {
        let mut settings = Self { producer, ..self.clone() };
        settings.fit()?;
        Ok(settings)
    }

    /// These settings with the settings of one consumer.
    pub(crate) fn with_consumer(&self, consumer: ConsumerSettings) -> Result<Self, Error> {
        let mut settings = Self { consumer, ..self.clone() };
        settings.fit()?;
        let (fetch, response) = (settings.consumer.fetch_bytes_max, settings.client.response_bytes_max);
        if fetch > response {
            let why = format!("{fetch} bytes are more than response_bytes_max allows, {response} bytes");
            return Err(Error::caller("checking the setting fetch_bytes_max", why));
        }
        Ok(settings)
    }

    /// These settings with the settings of one member of a group, of which the program gave
    /// `named` by name.
    pub(crate) fn with_member(
        &self,
        consumer: ConsumerSettings,
        group: GroupSettings,
        named: &[&'static str],
    ) -> Result<Self, Error> {
        let mut settings = Self { group, ..self.clone() }.with_consumer(consumer)?;
        settings.named.extend(named);
        settings.check_protocol()?;
        let GroupSettings { heartbeat_interval, session_timeout, .. } = settings.group;
        if heartbeat_interval >= session_timeout {
            let why =
                format!("{heartbeat_interval:?} is not less than the session timeout, {session_timeout:?}");
            return Err(Error::caller("checking the setting heartbeat_interval", why));
        }
        Ok(settings)
    }

    /// Refuses settings that the group's protocol does not have, if that is chosen and they are given.
    fn check_protocol(&self) -> Result<(), Error> {
        let (of_members, of_coordinator) = match self.group.protocol {
            Protocol::Automatic => return Ok(()),
            Protocol::Classic => (&[][..], &["server_assignor"][..]),
            Protocol::Consumer => (&["session_timeout", "heartbeat_interval", "assignors"][..], &[][..]),
        };
        let given = |names: &[&'static str]| names.iter().find(|name| self.named.contains(*name)).copied();
        let (name, why) = match (given(of_members), given(of_coordinator)) {
            (Some(name), _) => (name, "with group_protocol=consumer the coordinator has this setting"),
            (None, Some(name)) => (name, "it is for group_protocol=consumer"),
            (None, None) => return Ok(()),
        };
        Err(Error::caller(format!("checking the setting {name}"), why))
    }

    /// Whether a property turned idempotence on. Then settings that contradict it are errors, and do not turn it off.
    pub(crate) fn idempotence_asked(&self) -> bool {
        self.named.contains("idempotence") && self.producer.idempotence
    }

    /// The compression level of the producer's codec: the setting, else the property for this codec, else the property
    /// for all codecs.
    pub(crate) fn compression_level(&self) -> Option<i32> {
        let codec = self.producer.compression;
        let of_codec = match codec {
            Compression::Gzip => self.levels.gzip,
            Compression::Zstd => self.levels.zstd,
            Compression::None | Compression::Snappy | Compression::Lz4 => None,
        };
        let of_any = || {
            let levels = codec.levels()?;
            Some(self.levels.any?.clamp(*levels.start(), *levels.end()))
        };
        self.producer.compression_level.or(of_codec).or_else(of_any)
    }

    /// The properties that have no effect, with the reasons.
    pub(crate) fn ignored_properties(&self) -> impl Iterator<Item = (&str, &'static str)> {
        self.ignored.iter().map(|(name, reason)| (name.as_str(), *reason))
    }

    /// Lists the properties that have no effect, with the reasons, in one sentence.
    pub(crate) fn ignored(&self) -> Option<String> {
        let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, reason) in &self.ignored {
            by_reason.entry(reason).or_default().push(name);
        }
        let groups: Vec<_> =
            by_reason.iter().map(|(reason, names)| format!("{} ({reason})", names.join(", "))).collect();
        (!groups.is_empty()).then(|| format!("without effect here: {}", groups.join("; ")))
    }
}
