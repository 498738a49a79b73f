//! The records of a consumer group, as Kafka writes them to `__consumer_offsets`. Each is one change, and a group is the
//! result of its changes alone.

use bytes::Bytes;
use milena_messages::Message;
use milena_messages::consumer_group_current_member_assignment_record::{
    ConsumerGroupCurrentMemberAssignmentKey as CurrentKey,
    ConsumerGroupCurrentMemberAssignmentValue as CurrentValue,
};
use milena_messages::consumer_group_member_metadata_record::{
    ConsumerGroupMemberMetadataKey as MemberKey, ConsumerGroupMemberMetadataValue as MemberValue,
};
use milena_messages::consumer_group_metadata_record::{
    ConsumerGroupMetadataKey as EpochKey, ConsumerGroupMetadataValue as EpochValue,
};
use milena_messages::consumer_group_regular_expression_record::{
    ConsumerGroupRegularExpressionKey as PatternKey, ConsumerGroupRegularExpressionValue as PatternValue,
};
use milena_messages::consumer_group_target_assignment_member_record::{
    ConsumerGroupTargetAssignmentMemberKey as TargetKey,
    ConsumerGroupTargetAssignmentMemberValue as TargetValue,
};
use milena_messages::consumer_group_target_assignment_metadata_record::{
    ConsumerGroupTargetAssignmentMetadataKey as TargetEpochKey,
    ConsumerGroupTargetAssignmentMetadataValue as TargetEpochValue,
};
use milena_wire::{EncodeError, Reader, Str};

use crate::journal::{copied, decode, encode, transpose};

/// A change of a consumer group. What has no value ends.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    /// The group's epoch. Without a value the group ends.
    Epoch(Option<EpochValue>),
    /// A member and its subscription, by its id.
    Member(Str, Option<Box<MemberValue>>),
    /// What a member has now and what it is to give up.
    Current(Str, Option<CurrentValue>),
    /// What a member is to have.
    Target(Str, Option<TargetValue>),
    /// The epoch of the target assignment.
    TargetEpoch(Option<TargetEpochValue>),
    /// The topics that match a pattern.
    Pattern(Str, Option<PatternValue>),
}

impl Change {
    /// The record's key and value.
    pub(in crate::groups) fn encode(&self, group: &Str) -> Result<(Vec<u8>, Option<Vec<u8>>), EncodeError> {
        fn record(
            kind: i16,
            key: &impl Message,
            value: Option<&impl Message>,
        ) -> Result<(Vec<u8>, Option<Vec<u8>>), EncodeError> {
            let value = value.map(|value| encode(None, value, 0)).transpose()?;
            Ok((encode(Some(kind), key, 0)?, value))
        }
        let (group_id, of) = (group.clone(), Str::clone);
        match self {
            Self::Epoch(value) => record(EpochKey::RECORD_TYPE, &EpochKey { group_id }, value.as_ref()),
            Self::Member(id, value) => {
                let key = MemberKey { group_id, member_id: of(id) };
                record(MemberKey::RECORD_TYPE, &key, value.as_deref())
            }
            Self::Current(id, value) => {
                let key = CurrentKey { group_id, member_id: of(id) };
                record(CurrentKey::RECORD_TYPE, &key, value.as_ref())
            }
            Self::Target(id, value) => {
                let key = TargetKey { group_id, member_id: of(id) };
                record(TargetKey::RECORD_TYPE, &key, value.as_ref())
            }
            Self::TargetEpoch(value) => {
                record(TargetEpochKey::RECORD_TYPE, &TargetEpochKey { group_id }, value.as_ref())
            }
            Self::Pattern(pattern, value) => {
                let key = PatternKey { group_id, regular_expression: of(pattern) };
                record(PatternKey::RECORD_TYPE, &key, value.as_ref())
            }
        }
    }

    /// The group and the change that a record of this kind tells; `None` if it is not one of a consumer group.
    pub(in crate::groups) fn decode(
        kind: i16,
        key: &mut Reader<'_>,
        value: Option<&Bytes>,
    ) -> Option<(Str, Self)> {
        fn read<V: Message>(value: Option<&Bytes>) -> Option<Option<V>> {
            transpose(value.map(decode))
        }
        let (group, change) = match kind {
            EpochKey::RECORD_TYPE => (EpochKey::decode(key, 0).ok()?.group_id, Self::Epoch(read(value)?)),
            MemberKey::RECORD_TYPE => {
                let key = MemberKey::decode(key, 0).ok()?;
                (key.group_id, Self::Member(copied(&key.member_id), read(value)?.map(Box::new)))
            }
            CurrentKey::RECORD_TYPE => {
                let key = CurrentKey::decode(key, 0).ok()?;
                (key.group_id, Self::Current(copied(&key.member_id), read(value)?))
            }
            TargetKey::RECORD_TYPE => {
                let key = TargetKey::decode(key, 0).ok()?;
                (key.group_id, Self::Target(copied(&key.member_id), read(value)?))
            }
            TargetEpochKey::RECORD_TYPE => {
                (TargetEpochKey::decode(key, 0).ok()?.group_id, Self::TargetEpoch(read(value)?))
            }
            PatternKey::RECORD_TYPE => {
                let key = PatternKey::decode(key, 0).ok()?;
                (key.group_id, Self::Pattern(copied(&key.regular_expression), read(value)?))
            }
            _ => return None,
        };
        Some((copied(&group), change))
    }
}
