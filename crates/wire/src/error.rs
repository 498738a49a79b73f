//! Errors of decoding and encoding: which field, at which offset, and why.

use std::fmt;

/// Bytes from outside that do not follow the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    /// The schema path of the field being read, such as `FetchResponse.Responses.Partitions.Records`.
    pub field: &'static str,
    /// Where the field starts, in bytes from the start of the reader's input.
    pub offset: usize,
    /// Why it could not be decoded.
    pub reason: DecodeReason,
}

/// Why bytes could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeReason {
    /// The field needs more bytes than are left.
    Truncated {
        /// Bytes the field needs.
        needed: usize,
        /// Bytes that are left.
        remaining: usize,
    },
    /// A length below what its type allows (−1 is null, everything lower is wrong).
    NegativeLength(i64),
    /// Null where the schema allows none.
    UnexpectedNull,
    /// An announced length or count that the remaining bytes cannot hold, or that is above a limit.
    TooLarge {
        /// The announced size, in the field's own unit.
        announced: u64,
        /// The largest size that is accepted there.
        limit: u64,
    },
    /// A variable-length integer longer than its type.
    VarintOverflow,
    /// A string that is not UTF-8.
    NotUtf8,
    /// The computed checksum differs from the stored one.
    ChecksumMismatch {
        /// The stored checksum.
        stored: u32,
        /// The checksum computed over the bytes.
        computed: u32,
    },
    /// A value that the field does not allow.
    Invalid(&'static str),
    /// A version of this message that the schema does not know.
    UnsupportedVersion(i16),
    /// Bytes are left over after the last field.
    TrailingBytes(usize),
    /// Compressed bytes that decompress to more than the caller allows.
    DecompressesPast {
        /// The most bytes the caller allows.
        limit: usize,
    },
    /// The codec of this name is not built in.
    CodecNotBuiltIn(&'static str),
}

impl DecodeError {
    /// An error for `field`, which starts `offset` bytes into the input.
    #[cold]
    pub fn new(field: &'static str, offset: usize, reason: DecodeReason) -> Self {
        Self { field, offset, reason }
    }

    /// The same error in an enclosing input, in which this input starts at `base`.
    #[must_use]
    pub fn at_base(mut self, base: usize) -> Self {
        self.offset += base;
        self
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}: {}", self.field, self.offset, self.reason)
    }
}

impl fmt::Display for DecodeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { needed, remaining } => {
                write!(f, "needs {needed} bytes, {remaining} are left")
            }
            Self::NegativeLength(length) => write!(f, "negative length {length}"),
            Self::UnexpectedNull => f.write_str("null where the schema allows none"),
            Self::TooLarge { announced, limit } => {
                write!(f, "announces {announced}, at most {limit} can be here")
            }
            Self::VarintOverflow => f.write_str("variable-length integer is too long"),
            Self::NotUtf8 => f.write_str("string is not UTF-8"),
            Self::ChecksumMismatch { stored, computed } => {
                write!(f, "checksum mismatch: stored {stored:#010x}, computed {computed:#010x}")
            }
            Self::Invalid(what) => f.write_str(what),
            Self::UnsupportedVersion(version) => write!(f, "version {version} is not supported"),
            Self::TrailingBytes(count) => write!(f, "{count} bytes are left after the last field"),
            Self::DecompressesPast { limit } => {
                write!(f, "decompresses to more than the limit of {limit} bytes")
            }
            Self::CodecNotBuiltIn(codec) => fmt_codec_not_built_in(f, codec),
        }
    }
}

impl std::error::Error for DecodeError {}

fn fmt_codec_not_built_in(f: &mut fmt::Formatter<'_>, codec: &str) -> fmt::Result {
    write!(f, "{codec} is not built in; the cargo feature `{codec}` adds it")
}

/// A value that cannot be written at the chosen version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodeError {
    /// The schema path of the field.
    pub field: &'static str,
    /// Why it cannot be written.
    pub reason: EncodeReason,
}

/// Why a value could not be encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeReason {
    /// Longer than its length field can express.
    TooLong {
        /// The value's length, in bytes or elements.
        length: usize,
        /// The greatest length of its type.
        limit: usize,
    },
    /// Null at a version whose schema allows none.
    UnexpectedNull,
    /// Set to another value than its default, in a version that lacks the field, and not ignorable.
    UnsupportedField(i16),
    /// An unknown tagged field whose tag is not above those before it.
    TagOrder(u32),
    /// A version of this message that the schema does not know.
    UnsupportedVersion(i16),
    /// A setting outside its range.
    OutOfRange {
        /// The value that was asked for.
        value: i32,
        /// The least value.
        least: i32,
        /// The greatest value.
        most: i32,
    },
    /// The codec of this name is not built in.
    CodecNotBuiltIn(&'static str),
}

impl EncodeError {
    /// An error for `field`.
    #[cold]
    pub fn new(field: &'static str, reason: EncodeReason) -> Self {
        Self { field, reason }
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.field)?;
        match self.reason {
            EncodeReason::TooLong { length, limit } => {
                write!(f, "length {length} is over the limit of {limit}")
            }
            EncodeReason::UnexpectedNull => f.write_str("null where this version allows none"),
            EncodeReason::UnsupportedField(version) => {
                write!(f, "is set, but version {version} has no such field")
            }
            EncodeReason::TagOrder(tag) => write!(f, "tag {tag} is not above the tags before it"),
            EncodeReason::UnsupportedVersion(version) => write!(f, "version {version} is not supported"),
            EncodeReason::OutOfRange { value, least, most } => {
                write!(f, "{value} is not between {least} and {most}")
            }
            EncodeReason::CodecNotBuiltIn(codec) => fmt_codec_not_built_in(f, codec),
        }
    }
}

impl std::error::Error for EncodeError {}
