//! What a member tells the leader and what the leader tells a member: the bytes inside JoinGroup and SyncGroup, which the
//! coordinator passes on without reading them.
//!
//! They begin with a version of their own. A version above those that we know has our fields first, so it is read as the
//! highest that we know, as Java does. What follows the fields is ignored.

use bytes::Bytes;
use milena_messages::Message;
use milena_messages::consumer_protocol_assignment::{self as assignment_wire, ConsumerProtocolAssignment};
use milena_messages::consumer_protocol_subscription::{
    self as subscription_wire, ConsumerProtocolSubscription,
};
use milena_wire::{DecodeError, DecodeReason, EncodeError, Reader, Str, Writer};

use super::TopicPartitions;

/// The highest version of a subscription and of an assignment.
pub const VERSION_MAX: i16 = 3;

/// How many topics and partitions one subscription or assignment may have. An entry of two bytes takes 32 bytes in
/// memory, so the size of the response is not limit enough. Kafka's own tests assign a million partitions to a group.
pub(super) const ELEMENTS_MAX: usize = 1 << 20;

/// What a member wants and has.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Subscription {
    /// The topics it wants to read.
    pub topics: Vec<Str>,
    /// Bytes of its assignor.
    pub user_data: Option<Bytes>,
    /// The partitions it has (version 1 and above, KIP-429).
    pub owned: Vec<TopicPartitions>,
    /// The generation in which it got them (version 2 and above, KIP-792).
    pub generation: Option<i32>,
    /// The rack it runs in (version 3, KIP-881).
    pub rack: Option<Str>,
}

impl Subscription {
    /// The subscription's bytes, with topics and partitions sorted. Lower versions than [`VERSION_MAX`] leave fields out.
    ///
    /// # Errors
    /// When `version` is not one of Kafka's, or a name is too long.
    pub fn encode(&self, version: i16) -> Result<Bytes, EncodeError> {
        let mut topics = self.topics.clone();
        topics.sort();
        let owned = grouped(&self.owned).into_iter();
        let owned = owned.map(|TopicPartitions { topic, partitions }| subscription_wire::TopicPartition {
            topic,
            partitions,
        });
        let message = ConsumerProtocolSubscription {
            topics,
            user_data: self.user_data.clone(),
            owned_partitions: owned.collect(),
            generation_id: self.generation.unwrap_or(-1),
            rack_id: self.rack.clone(),
        };
        encode(&message, version)
    }

    /// Reads the bytes of a member's subscription. Names are slices of `bytes`.
    ///
    /// # Errors
    /// When the bytes do not follow the schema, or have more entries than any group needs.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let message: ConsumerProtocolSubscription = decode(bytes)?;
        let owned = message.owned_partitions.into_iter();
        let owned = owned.map(|subscription_wire::TopicPartition { topic, partitions }| TopicPartitions {
            topic,
            partitions,
        });
        Ok(Self {
            topics: message.topics,
            user_data: message.user_data,
            owned: owned.collect(),
            generation: (message.generation_id >= 0).then_some(message.generation_id),
            rack: message.rack_id.filter(|rack| !rack.is_empty()),
        })
    }
}

/// What a member is to read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Assignment {
    /// The partitions, by topic.
    pub partitions: Vec<TopicPartitions>,
    /// Bytes of the leader's assignor.
    pub user_data: Option<Bytes>,
}

impl Assignment {
    /// The assignment's bytes. All versions have the same fields.
    ///
    /// # Errors
    /// When `version` is not one of Kafka's, or a name is too long.
    pub fn encode(&self, version: i16) -> Result<Bytes, EncodeError> {
        let partitions = self.partitions.iter().cloned();
        let partitions = partitions.map(|TopicPartitions { topic, partitions }| {
            assignment_wire::TopicPartition { topic, partitions }
        });
        let message = ConsumerProtocolAssignment {
            assigned_partitions: partitions.collect(),
            user_data: self.user_data.clone(),
        };
        encode(&message, version)
    }

    /// Reads the bytes of an assignment: each topic and each partition once, sorted. A member without partitions may get
    /// no bytes at all. Everything is copied, because an assignment outlives the response it came in.
    ///
    /// # Errors
    /// When the bytes do not follow the schema, or have more entries than any group needs.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let message: ConsumerProtocolAssignment = decode(bytes)?;
        let partitions: Vec<_> = message
            .assigned_partitions
            .into_iter()
            .map(|assignment_wire::TopicPartition { topic, partitions }| TopicPartitions {
                topic,
                partitions,
            })
            .collect();
        let mut partitions = grouped(&partitions);
        for entry in &mut partitions {
            entry.topic = Str::from(entry.topic.as_str());
        }
        let user_data = message.user_data.map(|bytes| Bytes::copy_from_slice(&bytes));
        Ok(Self { partitions, user_data })
    }

    /// How many partitions these are.
    pub fn count(&self) -> usize {
        self.partitions.iter().map(|entry| entry.partitions.len()).sum()
    }
}

/// The same partitions with each topic once and each partition once, sorted.
pub(super) fn grouped(partitions: &[TopicPartitions]) -> Vec<TopicPartitions> {
    let mut sorted: Vec<&TopicPartitions> = partitions.iter().collect();
    sorted.sort_by(|a, b| a.topic.cmp(&b.topic));
    let mut grouped: Vec<TopicPartitions> = Vec::with_capacity(sorted.len());
    for entry in sorted {
        match grouped.last_mut() {
            Some(last) if last.topic == entry.topic => last.partitions.extend_from_slice(&entry.partitions),
            _ => grouped.push(entry.clone()),
        }
    }
    for entry in &mut grouped {
        entry.partitions.sort_unstable();
        entry.partitions.dedup();
    }
    grouped.retain(|entry| !entry.partitions.is_empty());
    grouped
}

fn encode<M: Message>(message: &M, version: i16) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::new();
    writer.i16(version);
    message.encode(&mut writer, version)?;
    Ok(Bytes::from(writer.finish().to_vec()))
}

fn decode<M: Message>(bytes: &Bytes) -> Result<M, DecodeError> {
    let mut reader = Reader::new(bytes);
    reader.set_elements_max(ELEMENTS_MAX);
    let version = reader.i16(M::NAME)?;
    if version < 0 {
        return Err(reader.error(M::NAME, DecodeReason::UnsupportedVersion(version)));
    }
    M::decode(&mut reader, version.min(VERSION_MAX))
}
