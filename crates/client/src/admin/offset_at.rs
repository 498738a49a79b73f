//! The public type that says which offset of a partition is looked up.

use std::time::SystemTime;

use milena_core::Failure;

use crate::Position;
use crate::clock::millis_since_epoch;

/// Which offset of a partition to look up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetAt {
    /// The offset of the first record that the partition holds.
    Earliest,
    /// The offset after the last record: the high watermark, or the last stable offset with
    /// [`Isolation::ReadCommitted`](crate::Isolation::ReadCommitted).
    Latest,
    /// The offset of the first record whose timestamp is at or after this one, in milliseconds since 1970.
    TimestampMs(i64),
}

/// The offset of the first record at or after that time. A time before 1970 is refused when it is looked up.
impl From<SystemTime> for OffsetAt {
    fn from(at: SystemTime) -> Self {
        Self::TimestampMs(millis_since_epoch(at))
    }
}

impl OffsetAt {
    /// `ListOffsetsRequest.Topics.Partitions.Timestamp`, where negative numbers have meanings of their own.
    pub(super) fn timestamp(self) -> Result<i64, Failure> {
        match self {
            Self::Earliest => Ok(-2),
            Self::Latest => Ok(-1),
            Self::TimestampMs(at) => Position::TimestampMs(at).check().map(|()| at),
        }
    }
}
