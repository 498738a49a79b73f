//! The settings of one topic: those of its producer, unless it has its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use milena_wire::codec::Compression;

use super::partitioner::Partitioner;
use crate::Error;
use crate::settings::ProducerSettings;

/// What one topic has of its own: see [`ProducerBuilder::topic`](crate::ProducerBuilder::topic). `None` is the producer's
/// setting.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct TopicSettings {
    /// The codec that compresses batches, as [`ProducerSettings::compression`].
    pub compression: Option<Compression>,
    /// The codec's level. If the topic has a codec of its own, `None` is that codec's default.
    pub compression_level: Option<i32>,
    /// The size of a full batch in bytes, as [`ProducerSettings::batch_bytes_max`].
    pub batch_bytes_max: Option<usize>,
    /// The largest record in bytes, as [`ProducerSettings::record_bytes_max`].
    pub record_bytes_max: Option<usize>,
    /// How records are placed, as [`ProducerSettings::partitioner`].
    pub partitioner: Option<Partitioner>,
}

/// A codec and its level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Codec {
    pub(super) compression: Compression,
    pub(super) level: Option<i32>,
}

/// The settings of one topic that its partitions need.
#[derive(Debug)]
pub(super) struct Profile {
    pub(super) codec: Codec,
    /// A batch takes no further record that would make it larger than this.
    pub(super) bytes_max: usize,
    /// The first record of a batch may be larger than that, up to this.
    pub(super) record_bytes_max: usize,
}

/// The settings of all topics.
pub(super) struct Profiles {
    default: (Arc<Profile>, Partitioner),
    own: BTreeMap<Arc<str>, (Arc<Profile>, Partitioner)>,
}

impl Profiles {
    /// `settings` are the producer's and `own` those of topics, each with its codec's level among them.
    ///
    /// # Errors
    /// When settings contradict each other, or this build lacks a codec.
    pub(super) fn new(
        settings: &ProducerSettings,
        own: BTreeMap<Arc<str>, ProducerSettings>,
    ) -> Result<Self, Error> {
        let made = |settings: &ProducerSettings| {
            Ok((Arc::new(Profile::new(settings)?), settings.partitioner.clone()))
        };
        let own = own.into_iter().map(|(topic, settings)| {
            let wrong = |why| Error::caller(format!("setting topic {topic:?} of a producer up"), why);
            let profile = made(&settings).map_err(wrong)?;
            Ok((topic, profile))
        });
        let own = own.collect::<Result<_, Error>>()?;
        let default = made(settings).map_err(|why: String| Error::caller("setting a producer up", why))?;
        Ok(Self { default, own })
    }

    pub(super) fn of(&self, topic: &str) -> &(Arc<Profile>, Partitioner) {
        self.own.get(topic).unwrap_or(&self.default)
    }
}

impl TopicSettings {
    /// The producer's settings with those of this topic.
    pub(super) fn over(self, settings: &ProducerSettings) -> ProducerSettings {
        let Self { compression, compression_level, batch_bytes_max, record_bytes_max, partitioner } = self;
        let mut all = settings.clone();
        if let Some(compression) = compression {
            (all.compression, all.compression_level) = (compression, None);
        }
        all.compression_level = compression_level.or(all.compression_level);
        all.batch_bytes_max = batch_bytes_max.unwrap_or(all.batch_bytes_max);
        all.record_bytes_max = record_bytes_max.unwrap_or(all.record_bytes_max);
        all.partitioner = partitioner.unwrap_or(all.partitioner);
        all
    }
}

impl Profile {
    /// # Errors
    /// Says why the settings cannot be.
    fn new(settings: &ProducerSettings) -> Result<Self, String> {
        let (compression, level) = (settings.compression, settings.compression_level);
        if !compression.is_built_in() {
            return Err(format!("this build has no codec for {compression}"));
        }
        if let Some(level) = level {
            match compression.levels() {
                Some(levels) if levels.contains(&level) => {}
                Some(levels) => return Err(format!("{compression} has levels {levels:?}, not {level}")),
                None if compression == Compression::None => {}
                None => return Err(format!("{compression} has no levels")),
            }
        }
        Ok(Self {
            codec: Codec { compression, level },
            // max.message.bytes limits a record as part of its batch, so a broker that takes no larger record takes no
            // larger batch either.
            bytes_max: settings.batch_bytes_max.min(settings.record_bytes_max),
            record_bytes_max: settings.record_bytes_max,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_has_its_own_settings_and_the_producers_for_the_rest() {
        let producer = ProducerSettings {
            compression: Compression::Zstd,
            compression_level: Some(9),
            batch_bytes_max: 5000,
            ..ProducerSettings::default()
        };
        let own = |settings: TopicSettings| {
            let own = BTreeMap::from([(Arc::from("own"), settings.over(&producer))]);
            let profiles = Profiles::new(&producer, own)?;
            let (profile, partitioner) = profiles.of("own");
            let of_rest = &profiles.of("rest").0;
            assert_eq!(of_rest.codec, Codec { compression: Compression::Zstd, level: Some(9) });
            Ok::<_, Error>((profile.codec, profile.bytes_max, format!("{partitioner:?}")))
        };
        let zstd = |level| Codec { compression: Compression::Zstd, level };
        let same = own(TopicSettings::default()).expect("set");
        assert_eq!(same, (zstd(Some(9)), 5000, "Murmur2Random".to_owned()));
        let gzip = TopicSettings {
            compression: Some(Compression::Gzip),
            batch_bytes_max: Some(7000),
            record_bytes_max: Some(6000),
            partitioner: Some(Partitioner::RoundRobin),
            ..TopicSettings::default()
        };
        let codec = Codec { compression: Compression::Gzip, level: None };
        assert_eq!(own(gzip).expect("set"), (codec, 6000, "RoundRobin".to_owned()));
        let level = TopicSettings { compression_level: Some(3), ..TopicSettings::default() };
        assert_eq!(own(level).expect("set").0, zstd(Some(3)));
        let wrong = TopicSettings { compression_level: Some(99), ..TopicSettings::default() };
        let error = own(wrong).expect_err("zstd has no such level").to_string();
        assert!(error.contains("topic \"own\"") && error.contains("not 99"), "{error}");
    }
}
