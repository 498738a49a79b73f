//! What goes into the machine of commits and what comes out of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use milena_messages::offset_commit::OffsetCommitRequest;

use super::super::terms::TopicPartition;
use super::lookup::Lookup;
use crate::{Backoff, BrokerId, Failure, Instant, LeaderEpoch};

/// How often progress is committed by default. `auto.commit.interval.ms` has 5 s: a shorter interval means fewer records that
/// are processed twice after a crash, and costs a group of 1 000 members 1 000 small requests a second.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// How commits are made.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The group's id. `group.id`.
    pub group: Arc<str>,
    /// How long progress waits before it is committed. None: only when the application asks (`enable.auto.commit=false`).
    pub interval: Option<Duration>,
    /// Whether offsets are committed before their records are delivered (at most once).
    pub is_before_delivery: bool,
    /// Whether what is finished above a committed offset is stored beside it, as a [text](super::super::finished), and what was
    /// stored so is restored at the assignment.
    pub keeps_finished: bool,
    /// Whether offsets that an open transaction may still change are waited for (`isolation.level`; KIP-447).
    pub require_stable: bool,
    /// How long one request may take.
    pub request_timeout: Duration,
    /// Between attempts.
    pub backoff: Backoff,
}

/// An offset as the coordinator stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredOffset {
    /// The next offset to read.
    pub offset: i64,
    /// The leader epoch of the last record before it (KIP-320). None if that is not known.
    pub leader_epoch: Option<LeaderEpoch>,
    /// A text that is stored beside it. None and an empty text are the same.
    pub metadata: Option<Arc<str>>,
}

impl StoredOffset {
    /// This offset, without a leader epoch or a text.
    pub fn at(offset: i64) -> Self {
        Self { offset, leader_epoch: None, metadata: None }
    }
}

/// Names a call that waits for a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Which request was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `OffsetCommit`.
    Commit,
    /// `OffsetFetch`.
    Lookup,
}

/// A request to send.
#[derive(Debug)]
pub enum Request {
    /// Store offsets. Answered by [`Commits::handle_committed`](super::Commits::handle_committed).
    Commit {
        /// The coordinator.
        broker: BrokerId,
        /// The request. It names topics by name and by id, so that every version up to `version_max` can carry it.
        request: OffsetCommitRequest,
        /// The latest version that can carry it: v10 names topics by id, which older metadata lacks.
        version_max: i16,
        /// When to give up waiting.
        deadline: Instant,
    },
    /// Ask for stored offsets. Answered by [`Commits::handle_offsets`](super::Commits::handle_offsets).
    Lookup {
        /// The coordinator.
        broker: BrokerId,
        /// What to ask. The request is made for the version that the connection speaks.
        lookup: Lookup,
        /// The latest version that can carry it.
        version_max: i16,
        /// When to give up waiting.
        deadline: Instant,
    },
}

/// What the driver is told.
#[derive(Debug)]
pub enum Event {
    /// A commit has ended. All of it is stored, or the error names what is not.
    Settled(Ticket, Result<(), NotCommitted>),
    /// What the group has stored of a partition that was looked up. None: it has no offset there, so the reset policy applies.
    Found(TopicPartition, Result<Option<StoredOffset>, Failure>),
    /// The coordinator does not take the member's identity any more: the member must join again. No request goes out until
    /// [`Commits::handle_identity`](super::Commits::handle_identity) gives a new one.
    Rejoin {
        /// What the coordinator said.
        failure: Failure,
        /// The generation or member epoch that it does not take.
        generation_or_epoch: i32,
    },
    /// Another instance has taken the member's place: nothing is committed any more.
    Fenced(Failure),
}

/// A commit, or a part of one, that the group has not stored as far as we know.
#[derive(Debug, Clone)]
pub struct NotCommitted {
    /// The group.
    pub group: Arc<str>,
    /// What is not committed. It is not empty.
    pub partitions: Vec<Uncommitted>,
}

/// A partition whose offset is not committed.
#[derive(Debug, Clone)]
pub struct Uncommitted {
    /// The partition.
    pub partition: TopicPartition,
    /// The offset that was to be committed.
    pub offset: i64,
    /// Why it is not, or why that is not known.
    pub failure: Failure,
    /// Whether the coordinator may have stored it all the same: a request went out, and its answer was lost.
    pub may_be_stored: bool,
}

impl fmt::Display for NotCommitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "group {} has not committed ", self.group)?;
        for (index, of) in self.partitions.iter().take(NAMED_MAX).enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}offset {} of {}: {}", of.offset, of.partition, of.failure)?;
            if of.may_be_stored {
                f.write_str(" (it may be stored all the same)")?;
            }
        }
        match self.partitions.len().saturating_sub(NAMED_MAX) {
            0 => Ok(()),
            more => write!(f, "; and {more} more partitions"),
        }
    }
}

impl std::error::Error for NotCommitted {}

/// An error's text names this many partitions. [`NotCommitted::partitions`] has all of them.
const NAMED_MAX: usize = 3;
