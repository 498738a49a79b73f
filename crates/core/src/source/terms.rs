//! What goes into the source machine and what comes out of it.

use std::time::{Duration, SystemTime};

use milena_messages::fetch::FetchRequest;
use milena_messages::list_offsets::ListOffsetsRequest;
use milena_messages::offset_for_leader_epoch::OffsetForLeaderEpochRequest;
use milena_wire::Str;
use milena_wire::batch::RawBatch;

use super::buffer::Watermarks;
use crate::{Backoff, BrokerId, Failure, Instant, LeaderEpoch, millis_since_epoch};

/// How the source decides.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The largest answer to ask for, in bytes. `fetch.max.bytes`.
    pub fetch_bytes_max: usize,
    /// The most to ask for of one partition in an answer, in bytes. `max.partition.fetch.bytes`.
    pub partition_bytes_max: usize,
    /// A broker that has fewer bytes than this waits for more. `fetch.min.bytes`.
    pub fetch_bytes_min: usize,
    /// How long a broker waits for them at most. `fetch.max.wait.ms`.
    pub fetch_wait: Duration,
    /// How much is buffered of one partition.
    pub partition_watermarks: Watermarks,
    /// How much is buffered of all partitions together. Those that are paused do not count. While it is too much, only
    /// readers that have nothing to take are given something.
    pub watermarks: Watermarks,
    /// Where to go when an offset does not exist any more. None: the partition stops.
    pub reset: Option<Position>,
    /// The rack that the application runs in (KIP-392). A leader that knows a replica nearer to it names that replica,
    /// which is fetched from then. Empty: everything is fetched from leaders. `client.rack`.
    pub rack: Str,
    /// Whether records of open and aborted transactions are held back.
    pub read_committed: bool,
    /// Whether [`Event::AtEnd`] is told.
    pub tells_ends: bool,
    /// How long one request may take, beyond what it waits by order.
    pub request_timeout: Duration,
    /// Between attempts.
    pub backoff: Backoff,
}

/// Where to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// At this offset.
    Offset(i64),
    /// At this offset, with the leader epoch of the record before it, as committed offsets have it. The leader is asked
    /// first whether it still has that record (KIP-320): after an unclean election another record may be in its place.
    /// Java's `OffsetAndMetadata` with a leader epoch.
    OffsetInEpoch {
        /// The offset.
        offset: i64,
        /// The leader epoch of the record before it.
        leader_epoch: i32,
    },
    /// At the first record there is.
    Earliest,
    /// After the last record there is: at the next one that is written.
    Latest,
    /// This many offsets before the end, or at the first record if there are fewer.
    BeforeEnd(i64),
    /// At the first record whose timestamp is at or after this, in milliseconds since the epoch. If there is none, as
    /// `Latest`.
    TimestampMs(i64),
    /// At the first record whose timestamp is at most this long before the time at which the broker is asked. If there
    /// is none, as `Latest`. KIP-1106.
    Ago(Duration),
}

/// The first record at or after that time. A time before 1970 is refused where it is used.
impl From<SystemTime> for Position {
    fn from(at: SystemTime) -> Self {
        Self::TimestampMs(millis_since_epoch(at))
    }
}

impl Position {
    /// Whether it can be a place in a partition. In `ListOffsets` negative numbers mean the end and the beginning,
    /// which a program that computed one does not mean.
    ///
    /// # Errors
    /// The reason why it cannot.
    pub fn check(self) -> Result<(), Failure> {
        let why = match self {
            Self::Offset(offset) | Self::OffsetInEpoch { offset, .. } if offset < 0 => {
                format!("offset {offset} cannot be: offsets count from 0")
            }
            Self::OffsetInEpoch { leader_epoch, .. } if leader_epoch < 0 => {
                format!("leader epoch {leader_epoch} cannot be: epochs count from 0")
            }
            Self::BeforeEnd(count) if count < 0 => {
                format!("{count} records before the end cannot be: the count is 0 or more")
            }
            Self::TimestampMs(at) if at < 0 => {
                format!("the time {at} ms cannot be looked up: times count from 1970, in milliseconds")
            }
            _ => return Ok(()),
        };
        Err(Failure::Caller(why.into()))
    }

    /// The offset, if the position is one already and need not be looked up.
    pub fn offset(self) -> Option<i64> {
        match self {
            Self::Offset(offset) | Self::OffsetInEpoch { offset, .. } => Some(offset),
            Self::Earliest | Self::Latest | Self::BeforeEnd(_) | Self::TimestampMs(_) | Self::Ago(_) => None,
        }
    }
}

/// Names a partition within the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

/// Counts assignments and changes of positions. Answers to requests from an earlier epoch do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Epoch(pub u64);

/// A fetch to send.
#[derive(Debug)]
pub struct Fetch {
    /// The broker, and which connection to it.
    pub lane: LaneId,
    /// To be handed back with the answer.
    pub number: u64,
    /// The request.
    pub request: FetchRequest,
    /// The latest version that can carry it: v13 names topics by id, which older metadata lacks.
    pub version_max: i16,
    /// The size in bytes that the answer is expected to have at most. It may be larger, as its first batch comes whole.
    pub bytes_expected: usize,
    /// When to give up waiting.
    pub deadline: Instant,
}

/// A request for offsets to send.
#[derive(Debug)]
pub struct Lookup {
    /// The broker.
    pub broker: BrokerId,
    /// To be handed back with the answer.
    pub number: u64,
    /// The request.
    pub request: ListOffsetsRequest,
    /// When to give up waiting.
    pub deadline: Instant,
}

/// A request to send that asks a leader how far leader epochs reach in its log (KIP-320).
#[derive(Debug)]
pub struct Validation {
    /// The broker.
    pub broker: BrokerId,
    /// To be handed back with the answer.
    pub number: u64,
    /// The request.
    pub request: OffsetForLeaderEpochRequest,
    /// When to give up waiting.
    pub deadline: Instant,
}

/// What the application is told.
#[derive(Debug)]
pub enum Event {
    /// A batch, as it came.
    Batch {
        /// Its partition.
        slot: Slot,
        /// The partition's epoch when it was asked for.
        epoch: Epoch,
        /// The batch.
        batch: RawBatch,
        /// The first offset that was asked for. A batch comes whole, and may begin before it.
        from: i64,
        /// The partition's high watermark when the answer was made.
        high_watermark: i64,
    },
    /// Batches that the application does not see (control batches, aborted transactions, batches that compaction
    /// emptied) follow the last one that it does. Reading goes on after them.
    Passed {
        /// The partition.
        slot: Slot,
        /// The partition's epoch when it was asked for.
        epoch: Epoch,
        /// The next offset to read.
        offset: i64,
    },
    /// The offset of the position that was assigned or sought is known.
    Positioned {
        /// The partition.
        slot: Slot,
        /// The partition's epoch when it was asked for.
        epoch: Epoch,
        /// The offset.
        offset: i64,
    },
    /// Records that were read are not in the log any more: an unclean election has cut it off (KIP-320). Reading goes on
    /// at `offset`. What was fetched from there on and not taken yet is not in the log either.
    Truncated {
        /// The partition.
        slot: Slot,
        /// The partition's epoch.
        epoch: Epoch,
        /// The first offset at which the log differs from what was read.
        offset: i64,
        /// The next offset that was to be read.
        position: i64,
        /// The leader epoch of the last record that was read.
        leader_epoch: LeaderEpoch,
    },
    /// The position exists, and its broker has no record from there on at present. It is told with each answer for as
    /// long as that is so, if [`Settings::tells_ends`] is set.
    AtEnd {
        /// The partition.
        slot: Slot,
        /// The partition's epoch when it was asked for.
        epoch: Epoch,
        /// The offset.
        offset: i64,
    },
    /// The partition stops here until it is sought or assigned anew.
    Stopped {
        /// The partition.
        slot: Slot,
        /// The partition's epoch.
        epoch: Epoch,
        /// The offset that cannot be read.
        offset: Option<i64>,
        /// Why.
        failure: Failure,
    },
}

/// One of the [`LANES`] connections to a broker. A broker holds a fetch back while it has no records for it, and
/// answers one connection in order. A partition that becomes wanted meanwhile takes the other lane, so that a seek or a
/// resumed partition does not wait for other partitions' records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LaneId {
    /// The broker.
    pub broker: BrokerId,
    /// Which of its lanes, below [`LANES`].
    pub lane: u8,
}

/// The number of lanes per broker. Each is a connection of its own.
pub const LANES: u8 = 2;
