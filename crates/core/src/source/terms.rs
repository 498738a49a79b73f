//! What goes into the source machine and what comes out of it.

use std::time::{Duration, SystemTime};

use milena_messages::fetch::FetchRequest;
use milena_messages::list_offsets::ListOffsetsRequest;
use milena_wire::batch::RawBatch;

use crate::{Backoff, BrokerId, Failure, Instant, millis_since_epoch};

/// How the source decides.
#[derive(Debug, Clone)]
pub struct Settings {
    /// One response.
    pub fetch_bytes_max: usize,
    /// One partition's part of a response.
    pub partition_bytes_max: usize,
    /// A broker that has fewer bytes waits for more.
    pub fetch_bytes_min: usize,
    /// How long a broker waits when it has none.
    pub fetch_wait: Duration,
    /// A partition that has more than this buffered is not fetched until half of it was taken.
    pub buffer_bytes_max: usize,
    /// Where to go when a position does not exist any more.
    pub reset: Option<Position>,
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
    /// At the first record there is.
    Earliest,
    /// Behind the last record there is.
    Latest,
    /// So many records before the end, or at the first one if there are fewer.
    BeforeEnd(i64),
    /// At the first record whose timestamp is at or after this, in milliseconds since the epoch; behind the last one
    /// if none is.
    TimestampMs(i64),
}

/// The first record at or after that time. A time before 1970 is refused where it is used.
impl From<SystemTime> for Position {
    fn from(at: SystemTime) -> Self {
        Self::TimestampMs(millis_since_epoch(at))
    }
}

impl Position {
    /// Whether it can be a place in a partition. `ListOffsets` gives negative numbers meanings of their own (the end,
    /// the beginning), and nobody who computed one means those.
    ///
    /// # Errors
    /// The reason why it cannot.
    pub fn check(self) -> Result<(), Failure> {
        let why = match self {
            Self::Offset(offset) if offset < 0 => format!("offset {offset} cannot be: offsets count from 0"),
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
}

/// Names a partition within the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

/// Counts the changes of a partition's assignment and position; answers to older questions do not count.
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
    /// What the answer may take, records included. It may be more: a first batch comes whole.
    pub bytes_expected: usize,
    /// When to give up waiting.
    pub deadline: Instant,
}

/// A question for offsets to send.
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

/// What the application is to get.
#[derive(Debug)]
pub enum Event {
    /// A batch, as it came.
    Batch {
        /// Its partition.
        slot: Slot,
        /// Where the partition stood when it was asked for.
        epoch: Epoch,
        /// The batch.
        batch: RawBatch,
        /// Records before this offset were asked for by nobody: a batch comes whole.
        from: i64,
        /// Where the partition ended when the answer was made.
        high_watermark: i64,
    },
    /// What follows the last batch is shown to nobody (control batches, aborted transactions, emptied batches): reading
    /// goes on behind it.
    Passed {
        /// The partition.
        slot: Slot,
        /// Where the partition stood when it was asked for.
        epoch: Epoch,
        /// The offset behind it.
        offset: i64,
    },
    /// The partition's first position is known.
    Positioned {
        /// The partition.
        slot: Slot,
        /// Where the partition stood when it was asked for.
        epoch: Epoch,
        /// The offset.
        offset: i64,
    },
    /// The position exists, and its broker has nothing behind it at present. Told with each answer for as long as that is
    /// so.
    AtEnd {
        /// The partition.
        slot: Slot,
        /// Where the partition stood when it was asked for.
        epoch: Epoch,
        /// The offset.
        offset: i64,
    },
    /// The partition stops here until it is sought or assigned anew.
    Stopped {
        /// The partition.
        slot: Slot,
        /// Where the partition stood.
        epoch: Epoch,
        /// The offset that cannot be read.
        offset: Option<i64>,
        /// Why.
        failure: Failure,
    },
}

/// One of the ways to a broker. A broker holds a fetch back while it has no records for it; whatever becomes wanted
/// meanwhile takes another way, so that a seek or a resumed partition does not wait for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LaneId {
    /// The broker.
    pub broker: BrokerId,
    /// Which of its lanes, below [`LANES`].
    pub lane: u8,
}

/// Lanes per broker: each is a connection of its own.
pub const LANES: u8 = 2;
