//! How much memory clients may fill with what they say of groups: ids, subscriptions, assignments and the texts of commits.
//!
//! Kafka bounds each member and each commit by what fits into a batch of its log, and leaves their number to the size of the
//! heap. Here everything together is bounded, because any client can make groups by naming them.

use milena_messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use milena_messages::join_group::JoinGroupRequest;
use milena_messages::offset_commit::OffsetCommitRequest;
use milena_messages::sync_group::SyncGroupRequest;
use milena_messages::txn_offset_commit::TxnOffsetCommitRequest;
use milena_wire::Str;

use super::{Groups, Kind};

/// The most bytes of all groups.
const BYTES_MAX: usize = 128 << 20;
/// What a group, a member, a name or an offset takes beside its text.
pub(super) const PLACE: usize = 256;

/// How much is taken.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// At most this much. What is replaced or gone is still counted until all is counted again.
    bytes: usize,
}

impl Groups {
    /// Takes room for what a request brings. False if there is none.
    pub(super) fn take_room(&mut self, bytes: usize) -> bool {
        if self.room.bytes.saturating_add(bytes) > BYTES_MAX {
            let of_groups = self.groups.iter().map(|(id, group)| {
                let of_kind = match &group.kind {
                    Kind::Classic(classic) => classic.bytes(),
                    Kind::Consumer(consumer) => consumer.bytes(),
                };
                PLACE + id.len() + of_kind + group.offsets.bytes()
            });
            self.room.bytes = of_groups.sum();
        }
        let is_there = self.room.bytes.saturating_add(bytes) <= BYTES_MAX;
        if is_there {
            self.room.bytes += bytes;
        } else {
            tracing::warn!("groups take {} bytes, and there is no room for more", self.room.bytes);
        }
        is_there
    }
}

/// What a member takes beside its name and what it offers.
pub(super) const MEMBER: usize = 2 * PLACE;

pub(super) fn of_join(request: &JoinGroupRequest, client_id: &Str) -> usize {
    let protocols = request.protocols.iter();
    let protocols: usize = protocols.map(|offered| PLACE + offered.name.len() + offered.metadata.len()).sum();
    let instance_id = request.group_instance_id.as_ref().map_or(0, Str::len);
    // Names are in several places each.
    PLACE + MEMBER + request.group_id.len() + 4 * (client_id.len() + instance_id) + protocols
}

pub(super) fn of_sync(request: &SyncGroupRequest) -> usize {
    request.assignments.iter().map(|brought| brought.assignment.len()).sum()
}

pub(super) fn of_heartbeat(request: &ConsumerGroupHeartbeatRequest, client_id: &Str) -> usize {
    let joins = if request.member_epoch == 0 {
        PLACE + MEMBER + request.group_id.len() + 4 * (request.member_id.len() + client_id.len())
    } else {
        0
    };
    let names = request.subscribed_topic_names.iter().flatten();
    let names: usize = names.map(|name| PLACE + name.len()).sum();
    joins + names + request.subscribed_topic_regex.as_ref().map_or(0, Str::len)
}

pub(super) fn of_transactional_commit(request: &TxnOffsetCommitRequest) -> usize {
    let offsets = request.topics.iter().flat_map(|topic| {
        let name = topic.name.len();
        topic.partitions.iter().map(move |of| (name, of.committed_metadata.as_ref().map_or(0, Str::len)))
    });
    // Each is kept until its transaction ends, and after that as the group's.
    PLACE + request.group_id.len() + offsets.map(|(name, text)| 3 * PLACE + name + 2 * text).sum::<usize>()
}

pub(super) fn of_commit(request: &OffsetCommitRequest) -> usize {
    let partitions = request.topics.iter().flat_map(|topic| &topic.partitions);
    let texts = partitions.map(|of| PLACE + of.committed_metadata.as_ref().map_or(0, Str::len));
    PLACE + request.group_id.len() + texts.sum::<usize>()
}
