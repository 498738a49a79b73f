//! Which offset of a partition to look up, as a public type.

use std::time::SystemTime;

use milena_core::Failure;

use crate::Position;
use crate::clock::millis_since_epoch;

/// Which offset of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetAt {
    /// Of the first record there is.
    Earliest,
    /// After the last record: the high watermark, or the last stable offset with
    /// [`Isolation::ReadCommitted`](crate::Isolation::ReadCommitted).
    Latest,
    /// Of the first record whose timestamp is at or after this, in milliseconds since the epoch.
    TimestampMs(i64),
}

/// Of the first record at or after that time. A time before 1970 is refused.
impl From<SystemTime> for OffsetAt {
    fn from(at: SystemTime) -> Self {
        Self::TimestampMs(millis_since_epoch(at))
    }
}

impl OffsetAt {
    /// ListOffsetsRequest.Topics.Partitions.Timestamp: negative ones have meanings of their own.
    pub(super) fn timestamp(self) -> Result<i64, Failure> {
        match self {
            Self::Earliest => Ok(-2),
            Self::Latest => Ok(-1),
            Self::TimestampMs(at) => Position::TimestampMs(at).check().map(|()| at),
        }
    }
}
