//! The codecs of record batches, and their levels.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// The compression of a record batch, with the id in its attributes and the name in `compression.type`.
///
/// ```
/// use milena_wire::codec::Compression;
///
/// assert_eq!("zstd".parse(), Ok(Compression::Zstd));
/// assert_eq!(Compression::from_attributes(0b1_0011), Some(Compression::Lz4));
/// assert_eq!(Compression::Gzip.to_string(), "gzip");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Compression {
    /// Uncompressed records.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy, raw or in the framing of Java's `xerial` library.
    Snappy,
    /// The LZ4 frame format.
    Lz4,
    /// RFC 8878; record batches of Kafka 2.1 and later (KIP-110).
    Zstd,
}

impl Compression {
    /// Every compression, in the order of their ids.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The three lowest bits of a batch's attributes, which are the id of the compression.
    const ATTRIBUTES_MASK: i16 = 0b111;

    /// The compression in the attributes of a batch (or, before magic 2, of a message); `None` if the id is unknown.
    pub fn from_attributes(attributes: i16) -> Option<Self> {
        Self::ALL.get(usize::from((attributes & Self::ATTRIBUTES_MASK).unsigned_abs())).copied()
    }

    /// The id of this compression in a batch's attributes.
    pub fn attributes(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// The name in `compression.type` and of the cargo feature.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// Whether this build can compress and decompress it: each codec is a cargo feature of its name.
    pub fn is_built_in(self) -> bool {
        match self {
            Self::None => true,
            Self::Gzip => cfg!(feature = "gzip"),
            Self::Snappy => cfg!(feature = "snappy"),
            Self::Lz4 => cfg!(feature = "lz4"),
            Self::Zstd => cfg!(any(feature = "zstd", feature = "zstd-c")),
        }
    }

    /// The levels Kafka accepts for it (KIP-390: `compression.gzip.level` and so on), if it has levels.
    pub fn levels(self) -> Option<RangeInclusive<i32>> {
        match self {
            Self::None | Self::Snappy => None,
            Self::Gzip => Some(1..=9),
            Self::Lz4 => Some(1..=17),
            Self::Zstd => Some(-131_072..=22),
        }
    }

    /// The default level, which is Kafka's.
    pub fn default_level(self) -> Option<i32> {
        match self {
            Self::None | Self::Snappy => None,
            Self::Gzip => Some(6),
            Self::Lz4 => Some(9),
            Self::Zstd => Some(3),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Compression {
    type Err = UnknownCompression;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|compression| compression.name() == name).ok_or(UnknownCompression)
    }
}

/// A name that is not one of Kafka's compressions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownCompression;

impl fmt::Display for UnknownCompression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a compression: none, gzip, snappy, lz4 or zstd is")
    }
}

impl std::error::Error for UnknownCompression {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_and_names_lead_back_to_the_same_compression() {
        for compression in Compression::ALL {
            assert_eq!(Compression::from_attributes(compression.attributes()), Some(compression));
            assert_eq!(compression.name().parse(), Ok(compression));
        }
    }

    #[test]
    fn other_attribute_bits_do_not_matter_and_unknown_codecs_are_none() {
        assert_eq!(Compression::from_attributes(i16::MIN | 0b111_1000), Some(Compression::None));
        assert_eq!(Compression::from_attributes(-4), Some(Compression::Zstd));
        for unknown in 5..8 {
            assert_eq!(Compression::from_attributes(unknown), None);
        }
        assert_eq!("LZ4".parse::<Compression>(), Err(UnknownCompression));
    }

    #[test]
    fn default_levels_are_among_the_levels() {
        for compression in Compression::ALL {
            let (levels, default) = (compression.levels(), compression.default_level());
            assert_eq!(levels.is_some(), default.is_some());
            assert!(levels.is_none_or(|levels| levels.contains(&default.unwrap())), "{compression}");
        }
    }
}
