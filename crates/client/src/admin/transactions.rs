//! The public types of transactions as admin calls see them: which producers are listed, what their coordinators tell of them,
//! and what partitions remember of producers.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::BrokerDescription;
use super::groups::named;
use crate::Error;

/// The state of a transactional producer, as its coordinator names it. [`FromStr`] reads Kafka's names in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TransactionState {
    /// It has not had a transaction yet.
    Empty,
    /// A transaction is open.
    Ongoing,
    /// A commit was decided, and is being told to the partitions.
    PrepareCommit,
    /// An abort was decided, and is being told to the partitions.
    PrepareAbort,
    /// Its last transaction is committed.
    CompleteCommit,
    /// Its last transaction is aborted.
    CompleteAbort,
    /// Its transaction is open and its producer is being fenced, because another instance has taken over or the time is over.
    PrepareEpochFence,
    /// It is being forgotten, because it was not used for long.
    Dead,
    /// A state that this release does not know.
    Unknown,
}

const STATES: [(TransactionState, &str); 9] = [
    (TransactionState::Empty, "Empty"),
    (TransactionState::Ongoing, "Ongoing"),
    (TransactionState::PrepareCommit, "PrepareCommit"),
    (TransactionState::PrepareAbort, "PrepareAbort"),
    (TransactionState::CompleteCommit, "CompleteCommit"),
    (TransactionState::CompleteAbort, "CompleteAbort"),
    (TransactionState::PrepareEpochFence, "PrepareEpochFence"),
    (TransactionState::Dead, "Dead"),
    (TransactionState::Unknown, "Unknown"),
];

impl TransactionState {
    pub(super) fn of(text: &str) -> Self {
        text.parse().unwrap_or(Self::Unknown)
    }

    /// Whether a transaction is open: begun, and not ended at all its partitions yet.
    pub fn is_open(self) -> bool {
        match self {
            Self::Ongoing | Self::PrepareCommit | Self::PrepareAbort | Self::PrepareEpochFence => true,
            Self::Empty | Self::CompleteCommit | Self::CompleteAbort | Self::Dead | Self::Unknown => false,
        }
    }
}

impl FromStr for TransactionState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        named(&STATES, text)
    }
}

impl fmt::Display for TransactionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(STATES.iter().find(|(state, _)| state == self).map_or("Unknown", |(_, name)| name))
    }
}

/// Which transactional producers to list. Default: all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TransactionFilter {
    pub(super) states: Vec<TransactionState>,
    pub(super) producer_ids: Vec<i64>,
    pub(super) open_longer_than: Option<Duration>,
    pub(super) id_pattern: Option<String>,
}

impl TransactionFilter {
    /// All transactional producers.
    pub fn all() -> Self {
        Self::default()
    }

    /// Only those in one of these states.
    #[must_use]
    pub fn states(mut self, states: impl IntoIterator<Item = TransactionState>) -> Self {
        self.states = states.into_iter().collect();
        self
    }

    /// Only those that have one of these producer ids.
    #[must_use]
    pub fn producer_ids(mut self, ids: impl IntoIterator<Item = i64>) -> Self {
        self.producer_ids = ids.into_iter().collect();
        self
    }

    /// Only those that have a transaction open that was begun longer ago than that, in milliseconds (KIP-994). Brokers before
    /// Kafka 3.8 refuse it.
    #[must_use]
    pub fn open_longer_than(mut self, duration: Duration) -> Self {
        self.open_longer_than = Some(duration);
        self
    }

    /// Only those whose transactional id matches this regular expression of RE2 as a whole (KIP-1152). Brokers before Kafka 4.1
    /// refuse it.
    #[must_use]
    pub fn id_pattern(mut self, pattern: impl Into<String>) -> Self {
        self.id_pattern = Some(pattern.into());
        self
    }
}

/// The transactional producers of a cluster.
#[derive(Debug, Clone)]
pub struct TransactionListing {
    /// The producers, sorted by transactional id.
    pub transactions: Vec<ListedTransaction>,
    /// The brokers that did not answer, by id. Producers that they coordinate may be missing.
    pub failed: Vec<(i32, Error)>,
}

/// A transactional producer in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedTransaction {
    /// Its transactional id.
    pub transactional_id: String,
    /// The producer id that it has at present.
    pub producer_id: i64,
    /// Its state.
    pub state: TransactionState,
    /// The broker that coordinates it.
    pub coordinator: i32,
}

/// A transactional producer, with its transaction if one is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionDescription {
    /// Its transactional id.
    pub transactional_id: String,
    /// Its state.
    pub state: TransactionState,
    /// The producer id that it has at present.
    pub producer_id: i64,
    /// The epoch of that producer id.
    pub producer_epoch: i16,
    /// How long its transactions may be open (`transaction.timeout.ms`).
    pub timeout: Duration,
    /// When its transaction was begun, in milliseconds since 1970. None if no transaction is open.
    pub started_ms: Option<i64>,
    /// The partitions that its transaction has written to, by topic. Offsets that it commits for a group are in a partition of
    /// `__consumer_offsets`.
    pub partitions: BTreeMap<String, Vec<i32>>,
    /// The broker that coordinates it. Its rack is not told.
    pub coordinator: BrokerDescription,
}

/// An idempotent or transactional producer, as the leader of a partition remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerDescription {
    /// Its producer id.
    pub producer_id: i64,
    /// The epoch of its last batch or transaction marker.
    pub producer_epoch: i32,
    /// The sequence of the last record that it has written, if the leader still knows one.
    pub last_sequence: Option<i32>,
    /// The timestamp of that record or of its last transaction marker, in milliseconds since 1970.
    pub last_timestamp_ms: Option<i64>,
    /// The epoch of the coordinator that wrote its last transaction marker. None if it has not ended a transaction here.
    pub coordinator_epoch: Option<i32>,
    /// The offset of the first record of its open transaction. None if no transaction is open here.
    pub transaction_start: Option<i64>,
}

/// A transaction that is open at one partition, to be aborted there with
/// [`abort_transaction`](super::Admin::abort_transaction).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpenTransaction {
    /// The topic.
    pub topic: String,
    /// The partition's index.
    pub partition: i32,
    /// The id of its producer.
    pub producer_id: i64,
    /// The epoch of its producer.
    pub producer_epoch: i16,
    /// The epoch of the coordinator that ended the producer's last transaction there. None if there was none.
    pub coordinator_epoch: Option<i32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read_in_any_case_and_written_as_kafka_does() {
        for (state, name) in STATES {
            assert_eq!((name.to_lowercase().parse(), state.to_string()), (Ok(state), name.to_owned()));
        }
        assert_eq!(TransactionState::of("Sleeping"), TransactionState::Unknown);
    }
}
