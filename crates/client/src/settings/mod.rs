//! What can be set, with units, defaults, and the names Java and librdkafka have for it.
//!
//! ```text
//! a properties file ─▶ syntax ─┐
//!                              ├─▶ Properties ─▶ table (settings), foreign (other names) ─▶ Settings
//!              NAME=VALUE ─────┘
//! ```

mod foreign;
mod kind;
mod properties;
mod syntax;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use milena_core::producer::Acks;
pub use milena_wire::codec::Compression;

pub use self::properties::Properties;
pub use self::table::{ClientSettings, ConsumerSettings, ProducerSettings, SETTINGS, SettingDoc};
use crate::Error;

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

/// Where to go when a position does not exist any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reset {
    /// Nowhere: the partition stops and the error is reported, because records may have been lost.
    #[default]
    Fail,
    /// The first record there is.
    Earliest,
    /// After the last record there is.
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

/// All settings together, and what properties said besides.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    pub(crate) client: ClientSettings,
    pub(crate) producer: ProducerSettings,
    pub(crate) consumer: ConsumerSettings,
    levels: Levels,
    /// The settings that properties named.
    named: BTreeSet<&'static str>,
    /// The properties that have no effect, each with the reason.
    ignored: BTreeMap<String, &'static str>,
}

/// Levels of compression that properties named: those of Java, each for one codec, and librdkafka's for any.
#[derive(Debug, Clone, Default)]
struct Levels {
    any: Option<i32>,
    gzip: Option<i32>,
    zstd: Option<i32>,
}

impl Settings {
    /// Moves every setting into its bounds, or refuses the first that cannot be meant.
    pub(crate) fn fit(&mut self) -> Result<(), Error> {
        for setting in SETTINGS {
            let wrong = |why| Error::caller(format!("checking the setting {}", setting.name), why);
            (setting.fit)(self).map_err(wrong)?;
        }
        Ok(())
    }

    /// These settings with a producer's own.
    pub(crate) fn with_producer(&self, producer: ProducerSettings) -> Result<Self, Error> {
        let mut settings = Self { producer, ..self.clone() };
        settings.fit()?;
        Ok(settings)
    }

    /// These settings with a consumer's own.
    pub(crate) fn with_consumer(&self, consumer: ConsumerSettings) -> Result<Self, Error> {
        let mut settings = Self { consumer, ..self.clone() };
        settings.fit()?;
        let (fetch, response) = (settings.consumer.fetch_bytes_max, settings.client.response_bytes_max);
        if fetch > response {
            let why =
                format!("{fetch} bytes are more than a response may have, {response} (response_bytes_max)");
            return Err(Error::caller("checking the setting fetch_bytes_max", why));
        }
        Ok(settings)
    }

    /// Whether properties asked for idempotence: then it is not given up for what contradicts it.
    pub(crate) fn idempotence_asked(&self) -> bool {
        self.named.contains("idempotence") && self.producer.idempotence
    }

    /// The level of the producer's codec: the setting, or what properties said of this codec.
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

    /// The properties that have no effect, as one sentence.
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
