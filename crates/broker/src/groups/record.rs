//! What the group coordinator keeps in its journal: Kafka's GroupMetadata, ConsumerGroup* and OffsetCommit records.

use bytes::Bytes;
use milena_messages::Message;
use milena_messages::group_metadata_record::{GroupMetadataKey, GroupMetadataValue};
use milena_messages::offset_commit_record::{OffsetCommitKey, OffsetCommitValue};
use milena_wire::{EncodeError, Reader, Str, Writer};

use super::consumer::Change;
use crate::journal::{self, copied, decode, encode, transpose};
use crate::producers::Marker;

/// What is kept of groups.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Record {
    Group {
        group: Str,
        value: Option<GroupMetadataValue>,
    },
    Consumer {
        group: Str,
        change: Change,
    },
    Offset {
        group: Str,
        topic: Str,
        partition: i32,
        value: Option<OffsetCommitValue>,
    },
    /// An offset that waits for the end of its transaction. Kafka has it as a record of a transactional batch.
    Pending {
        group: Str,
        producer_id: i64,
        epoch: i16,
        topic: Str,
        partition: i32,
        value: OffsetCommitValue,
    },
    /// The end of a transaction in a partition of the offsets topic, which Kafka has as a control batch.
    Marker {
        partition: i32,
        marker: Marker,
        timestamp: i64,
    },
}

/// Every offset record of a group's version; version 1 alone has a time to expire.
const OFFSET_VERSION: i16 = 4;
const OFFSET_WITH_EXPIRY_VERSION: i16 = 1;
const GROUP_VERSION: i16 = 4;
/// The types of keys that Kafka does not have.
const PENDING: i16 = 1001;
const MARKER: i16 = 1002;

impl journal::Record for Record {
    const HEADER: &'static [u8] = b"milena-groups 1\n";
    const ABOUT: &'static str = "groups";

    fn encode(&self) -> Result<(Vec<u8>, Option<Vec<u8>>), EncodeError> {
        match self {
            Self::Group { group, value } => {
                let key = GroupMetadataKey { group: group.clone() };
                let value = value.as_ref().map(|value| encode(None, value, GROUP_VERSION)).transpose()?;
                Ok((encode(Some(GroupMetadataKey::RECORD_TYPE), &key, 0)?, value))
            }
            Self::Consumer { group, change } => change.encode(group),
            Self::Offset { group, topic, partition, value } => {
                let (group, topic) = (group.clone(), topic.clone());
                let key = OffsetCommitKey { group, topic, partition: *partition };
                let write = |value: &OffsetCommitValue| match value.expire_timestamp {
                    -1 => encode(None, value, OFFSET_VERSION),
                    _ => encode(None, value, OFFSET_WITH_EXPIRY_VERSION),
                };
                let value = value.as_ref().map(write).transpose()?;
                Ok((encode(Some(OffsetCommitKey::RECORD_TYPE), &key, 0)?, value))
            }
            Self::Pending { group, producer_id, epoch, topic, partition, value } => {
                let (group, topic) = (group.clone(), topic.clone());
                let mut key = Writer::new();
                key.i16(PENDING);
                key.i64(*producer_id);
                key.i16(*epoch);
                OffsetCommitKey { group, topic, partition: *partition }.encode(&mut key, 0)?;
                Ok((key.finish().to_vec(), Some(encode(None, value, OFFSET_VERSION)?)))
            }
            Self::Marker { partition, marker, timestamp } => {
                let (mut key, mut value) = (Writer::new(), Writer::new());
                key.i16(MARKER);
                key.i32(*partition);
                key.i64(marker.producer_id);
                value.i16(marker.producer_epoch);
                value.i32(marker.coordinator_epoch);
                value.i8(i8::from(marker.is_commit));
                value.i64(*timestamp);
                Ok((key.finish().to_vec(), Some(value.finish().to_vec())))
            }
        }
    }

    fn decode(key: &Bytes, value: Option<&Bytes>) -> Option<Self> {
        let mut reader = Reader::new(key);
        match reader.i16("Key.Type").ok()? {
            GroupMetadataKey::RECORD_TYPE => {
                let group = copied(&GroupMetadataKey::decode(&mut reader, 0).ok()?.group);
                let value = value.map(decode::<GroupMetadataValue>);
                Some(Self::Group { group, value: transpose(value)? })
            }
            OffsetCommitKey::RECORD_TYPE => {
                let key = OffsetCommitKey::decode(&mut reader, 0).ok()?;
                let value = transpose(value.map(decode::<OffsetCommitValue>))?;
                // Copies, because a slice would keep the whole file in memory.
                let value =
                    value.map(|value| OffsetCommitValue { metadata: copied(&value.metadata), ..value });
                let (group, topic) = (copied(&key.group), copied(&key.topic));
                Some(Self::Offset { group, topic, partition: key.partition, value })
            }
            PENDING => {
                let producer_id = reader.i64("Key.ProducerId").ok()?;
                let epoch = reader.i16("Key.ProducerEpoch").ok()?;
                let key = OffsetCommitKey::decode(&mut reader, 0).ok()?;
                let value: OffsetCommitValue = decode(value?)?;
                let value = OffsetCommitValue { metadata: copied(&value.metadata), ..value };
                let (group, topic) = (copied(&key.group), copied(&key.topic));
                Some(Self::Pending { group, producer_id, epoch, topic, partition: key.partition, value })
            }
            MARKER => {
                let partition = reader.i32("Key.Partition").ok()?;
                let producer_id = reader.i64("Key.ProducerId").ok()?;
                let mut value = Reader::new(value?);
                let marker = Marker {
                    producer_id,
                    producer_epoch: value.i16("Value.ProducerEpoch").ok()?,
                    coordinator_epoch: value.i32("Value.CoordinatorEpoch").ok()?,
                    is_commit: value.i8("Value.IsCommit").ok()? != 0,
                    raises_epoch: false,
                };
                Some(Self::Marker { partition, marker, timestamp: value.i64("Value.Timestamp").ok()? })
            }
            kind => {
                let (group, change) = Change::decode(kind, &mut reader, value)?;
                Some(Self::Consumer { group: copied(&group), change })
            }
        }
    }
}
