//! What goes into the machine of a transactional producer and what comes out of it.

use std::sync::Arc;
use std::time::Duration;

use milena_messages::add_offsets_to_txn::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};
use milena_messages::add_partitions_to_txn::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};
use milena_messages::end_txn::{EndTxnRequest, EndTxnResponse};
use milena_messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use milena_messages::txn_offset_commit::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};

pub use super::state::Fate;
use crate::group::commits::StoredOffset;
use crate::group::{MemberIdentity, TopicPartition};
use crate::{Backoff, BrokerId, Failure, Instant};

/// How a transactional producer is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its name. `transactional.id`.
    pub transactional_id: Arc<str>,
    /// How long a transaction may be open before its coordinator aborts it. `transaction.timeout.ms`.
    pub timeout: Duration,
    /// How long one request may take.
    pub request_timeout: Duration,
    /// Between attempts.
    pub backoff: Backoff,
}

/// Which requests a transaction is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// The client adds partitions and groups to the transaction before it writes to them, and the epoch stays the same from one
    /// transaction to the next.
    One,
    /// Brokers add partitions and groups as they are written to, and each transaction has an epoch of its own (KIP-890).
    Two,
}

impl Version {
    /// The version for the level of the feature `transaction.version` that the cluster has finalised (KIP-1022).
    pub fn of_feature(level: Option<i16>) -> Self {
        if level.is_some_and(|level| level >= 2) { Self::Two } else { Self::One }
    }

    /// The latest version of ProduceRequest: brokers add the partitions of later ones to the transaction.
    pub fn produce_max(self) -> i16 {
        if self == Self::One { 11 } else { i16::MAX }
    }

    fn offsets_max(self) -> i16 {
        // v6 names topics by id.
        if self == Self::One { 4 } else { 5 }
    }

    fn end_max(self) -> i16 {
        if self == Self::One { 4 } else { i16::MAX }
    }
}

/// A request to a coordinator.
#[derive(Debug)]
pub struct Ask {
    /// To be handed back with the answer.
    pub number: u64,
    /// The coordinator.
    pub broker: BrokerId,
    /// The request.
    pub request: Request,
    /// The latest version that can carry it.
    pub version_max: i16,
    /// When to give up waiting.
    pub deadline: Instant,
}

/// The requests that a transactional producer sends to coordinators.
#[derive(Debug)]
pub enum Request {
    /// Asks for an identity, or for a higher epoch.
    Identity(InitProducerIdRequest),
    /// Adds partitions to the transaction.
    Partitions(AddPartitionsToTxnRequest),
    /// Adds a group to the transaction.
    Group(AddOffsetsToTxnRequest),
    /// Commits offsets as a part of the transaction. For the coordinator of the group.
    Offsets(TxnOffsetCommitRequest),
    /// Ends the transaction.
    End(EndTxnRequest),
}

impl Request {
    /// The latest version that can carry it in a transaction of this version.
    pub(super) fn version_max(&self, version: Version) -> i16 {
        match self {
            Self::Identity(_) | Self::Group(_) => i16::MAX,
            // Later versions are for brokers.
            Self::Partitions(_) => 3,
            Self::Offsets(_) => version.offsets_max(),
            Self::End(_) => version.end_max(),
        }
    }
}

/// `request` for a broker before 2.5, which knows no epochs that clients raise.
pub fn identity_at(request: &InitProducerIdRequest, version: i16) -> InitProducerIdRequest {
    let mut request = request.clone();
    if version < 3 {
        let InitProducerIdRequest { producer_id, producer_epoch, .. } = InitProducerIdRequest::default();
        (request.producer_id, request.producer_epoch) = (producer_id, producer_epoch);
    }
    request
}

/// `request` for a coordinator before 2.5, which does not check the member (KIP-447).
pub fn offsets_at(request: &TxnOffsetCommitRequest, version: i16) -> TxnOffsetCommitRequest {
    let mut request = request.clone();
    if version < 3 {
        let TxnOffsetCommitRequest { generation_id_or_member_epoch, member_id, group_instance_id, .. } =
            TxnOffsetCommitRequest::default();
        request.generation_id_or_member_epoch = generation_id_or_member_epoch;
        (request.member_id, request.group_instance_id) = (member_id, group_instance_id);
    }
    request
}

/// The answer to a [`Request`].
#[derive(Debug)]
pub enum Response {
    /// To [`Request::Identity`].
    Identity(InitProducerIdResponse),
    /// To [`Request::Partitions`].
    Partitions(AddPartitionsToTxnResponse),
    /// To [`Request::Group`].
    Group(AddOffsetsToTxnResponse),
    /// To [`Request::Offsets`].
    Offsets(TxnOffsetCommitResponse),
    /// To [`Request::End`].
    End(EndTxnResponse),
}

/// Names offsets that are committed as a part of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub(super) u64);

/// Offsets to commit as a part of a transaction, and as which member of the group (KIP-447).
#[derive(Debug, Clone)]
pub struct Offsets {
    /// The group.
    pub group: Arc<str>,
    /// The member whose offsets they are: the coordinator refuses them when the group has moved on.
    pub member: MemberIdentity,
    /// The next offset to read of each partition.
    pub offsets: Vec<(TopicPartition, StoredOffset)>,
}

/// What the driver is told.
#[derive(Debug)]
pub enum Event {
    /// These partitions are in the transaction: their batches may be written.
    Added(Vec<TopicPartition>),
    /// Offsets are in the transaction, or why they are not. In the latter case the transaction can only be aborted.
    Committed(Ticket, Result<(), Failure>),
    /// The records of the transaction that are not under way fail with this, and those that come.
    Purge(Failure),
    /// The transaction cannot be committed. It is aborted.
    Refused(Failure),
    /// The transaction has ended.
    Ended(Fate),
    /// There is no identity.
    Unstarted(Failure),
    /// The producer can do nothing more.
    Dead {
        /// Why.
        failure: Failure,
        /// Whether the coordinator may have committed the transaction, although no answer said so.
        may_be_committed: bool,
    },
}
