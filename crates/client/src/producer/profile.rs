//! The settings of one topic: those of its producer, unless it has its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

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

/// The settings of one topic that its partitions need, and what was learnt of the topic.
#[derive(Debug)]
pub(super) struct Profile {
    pub(super) codec: Codec,
    /// The size of a full batch as it is sent.
    bytes_max: usize,
    /// A record, and a batch of several, may be as large as this before compression.
    pub(super) record_bytes_max: usize,
    /// To how many thousandths batches were compressed of late.
    ratio: AtomicU32,
    /// The topic's `max.message.bytes`, once it is known.
    topic_bytes_max: AtomicUsize,
    /// Whether it is being asked for.
    is_asked: AtomicBool,
}

/// The ratio of a topic whose batches are not compressed, or of which none was.
const UNCOMPRESSED: u32 = 1000;
/// Batches are made this much smaller than the ratio allows, because the next one may be compressed less well. Java's client
/// has the same margin.
const MARGIN: u32 = 50;

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
    /// The size of a full batch before compression, so that it has the size that is wanted after compression. It is never more
    /// than the largest record may have.
    ///
    /// Brokers limit batches as they are sent, so more records fit into one that is compressed well. Java's client estimates
    /// the same way.
    pub(super) fn batch_bytes_max(&self) -> usize {
        let sent = self.bytes_max.min(self.topic_bytes_max.load(Ordering::Relaxed));
        let ratio = self.ratio.load(Ordering::Relaxed);
        if ratio >= UNCOMPRESSED {
            return sent;
        }
        let bytes = sent as u64 * u64::from(UNCOMPRESSED) / u64::from(ratio + MARGIN);
        usize::try_from(bytes).unwrap_or(usize::MAX).clamp(sent, self.record_bytes_max.max(sent))
    }

    /// Whether the topic's limit is known.
    pub(super) fn has_limit(&self) -> bool {
        self.topic_bytes_max.load(Ordering::Relaxed) != usize::MAX
    }

    /// A batch was compressed from `before` to `after` bytes. A worse ratio counts at once, because batches may be refused for
    /// their size, and a better one slowly.
    pub(super) fn note_sealed(&self, before: usize, after: usize) {
        let seen = (after as u64 * u64::from(UNCOMPRESSED)).checked_div(before as u64).unwrap_or(u64::MAX);
        let seen = u32::try_from(seen).unwrap_or(UNCOMPRESSED).clamp(1, UNCOMPRESSED);
        let ratio = self.ratio.load(Ordering::Relaxed);
        let next = if seen > ratio { seen } else { ratio - (ratio - seen).div_ceil(8) };
        self.ratio.store(next, Ordering::Relaxed);
    }

    /// The topic's limit is to be asked for. False if that is being done.
    pub(super) fn begin_asking(&self) -> bool {
        !self.is_asked.swap(true, Ordering::Relaxed)
    }

    /// The answer: the topic's `max.message.bytes`, or none if it could not be learnt.
    pub(super) fn learn_limit(&self, limit: Option<usize>) {
        if let Some(limit) = limit {
            self.topic_bytes_max.store(limit, Ordering::Relaxed);
        }
        self.is_asked.store(false, Ordering::Relaxed);
    }

    /// The same settings for another topic, of which nothing was learnt.
    pub(super) fn for_topic(&self) -> Self {
        let Self { codec, bytes_max, record_bytes_max, .. } = *self;
        Self::of(codec, bytes_max, record_bytes_max)
    }

    pub(super) fn of(codec: Codec, bytes_max: usize, record_bytes_max: usize) -> Self {
        Self {
            codec,
            bytes_max,
            record_bytes_max,
            ratio: AtomicU32::new(UNCOMPRESSED),
            topic_bytes_max: AtomicUsize::new(usize::MAX),
            is_asked: AtomicBool::new(false),
        }
    }

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
        // max.message.bytes limits a record as part of its batch, so a broker that takes no larger record takes no larger
        // batch either.
        let bytes_max = settings.batch_bytes_max.min(settings.record_bytes_max);
        Ok(Self::of(Codec { compression, level }, bytes_max, settings.record_bytes_max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_holds_what_compression_makes_of_it_and_no_more_than_the_topic_takes() {
        let codec = Codec { compression: Compression::Zstd, level: None };
        let profile = Profile::of(codec, 16_384, 1 << 20);
        assert_eq!(profile.batch_bytes_max(), 16_384, "nothing is known of compression");
        for _ in 0..100 {
            profile.note_sealed(10_000, 2_000);
        }
        assert_eq!(profile.batch_bytes_max(), 65_536, "a fifth, and the margin");
        // One batch that is compressed badly counts at once.
        profile.note_sealed(10_000, 9_000);
        assert_eq!(profile.batch_bytes_max(), 17_246);
        profile.note_sealed(10_000, 11_000);
        assert_eq!(profile.batch_bytes_max(), 16_384, "it grew");
        for _ in 0..100 {
            profile.note_sealed(1_000_000, 100);
        }
        assert_eq!(profile.batch_bytes_max(), 321_254, "the margin keeps it in bounds");
        assert!(!profile.has_limit() && profile.begin_asking() && !profile.begin_asking());
        profile.learn_limit(None);
        assert!(!profile.has_limit() && profile.begin_asking());
        profile.learn_limit(Some(10_000));
        assert!(profile.has_limit() && profile.batch_bytes_max() == 196_078);
        let other = profile.for_topic();
        assert!(!other.has_limit() && other.batch_bytes_max() == 16_384);
        // Every record alone stays so.
        assert_eq!(Profile::of(codec, 0, 1 << 20).batch_bytes_max(), 0);
    }

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
            Ok::<_, Error>((profile.codec, profile.batch_bytes_max(), format!("{partitioner:?}")))
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
