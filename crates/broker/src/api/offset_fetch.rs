//! OffsetFetch (9): the offsets that groups have committed. KIP-447 (those that a transaction is about to replace), KIP-709
//! (several groups), KIP-848 (topic ids in version 10).

use milena_messages::offset_commit_record::OffsetCommitValue;
use milena_messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::{Str, Uuid};

use super::row::Api;
use crate::acls::{Operation, Resource};
use crate::call::Call;
use crate::groups::offsets::Offsets;

pub(super) const API: Api =
    Api { is_repeatable: true, ..Api::new(ApiKey::OffsetFetch, |call, reader| call.answer(reader, handle)) };

/// From this version on a request is about several groups.
const SEVERAL_FROM: i16 = 8;
/// From this version on topics are named by their ids.
const TOPIC_IDS_FROM: i16 = 10;
/// From this version on an answer has a code of its own; before it each partition has it.
const CODE_FROM: i16 = 2;

fn handle(call: &Call<'_>, request: OffsetFetchRequest) -> OffsetFetchResponse {
    if call.envelope.version >= SEVERAL_FROM {
        let groups =
            request.groups.into_iter().map(|group| fetch(call, group, request.require_stable)).collect();
        return OffsetFetchResponse { groups, ..Default::default() };
    }
    let topics = request.topics.map(|topics| {
        let wanted = topics.into_iter().map(|topic| OffsetFetchRequestTopics {
            name: topic.name,
            partition_indexes: topic.partition_indexes,
            ..Default::default()
        });
        wanted.collect()
    });
    let group = OffsetFetchRequestGroup { group_id: request.group_id, topics, ..Default::default() };
    let (asked, version) = (group.topics.clone().unwrap_or_default(), call.envelope.version);
    let mut group = fetch(call, group, request.require_stable);
    if version < CODE_FROM && !group.error_code.is_none() {
        group.topics = asked.into_iter().map(|topic| failed(topic, group.error_code)).collect();
    }
    let topics = group.topics.into_iter().map(old_topic).collect();
    OffsetFetchResponse { topics, error_code: group.error_code, ..Default::default() }
}

fn fetch(call: &Call<'_>, wanted: OffsetFetchRequestGroup, stable: bool) -> OffsetFetchResponseGroup {
    let group_id = wanted.group_id;
    let allowed = call.check(Operation::Describe, Resource::Group, &group_id);
    if let Err(error_code) = allowed.and_then(|()| call.check_coordinator(&group_id)) {
        return OffsetFetchResponseGroup { group_id, error_code, ..Default::default() };
    }
    let by_id = call.envelope.version >= TOPIC_IDS_FROM;
    // Names and ids are looked up under one lock, and the offsets under another one.
    let named = wanted
        .topics
        .map(|topics| topics.into_iter().map(|topic| name(call, topic, by_id)).collect::<Vec<_>>());
    let groups = call.parts.groups(call.now);
    let checked = groups.check_fetch(&group_id, wanted.member_id.as_ref(), wanted.member_epoch);
    if let Err(error_code) = checked {
        return OffsetFetchResponseGroup { group_id, error_code, ..Default::default() };
    }
    let none = Offsets::default();
    let offsets = groups.get(&group_id).map_or(&none, |group| &group.offsets);
    let stored = |name: &str, index: i32| match stable && offsets.is_unstable(name, index) {
        true => OffsetFetchResponsePartitions {
            error_code: ErrorCode::UNSTABLE_OFFSET_COMMIT,
            ..answer(index, None)
        },
        false => answer(index, offsets.get(name, index)),
    };
    let topics = match named {
        Some(topics) => topics
            .into_iter()
            .map(|(topic, found)| match found {
                Some(name) => match call.check(Operation::Describe, Resource::Topic, &name) {
                    Ok(()) => some_of(topic, |index| stored(&name, index)),
                    Err(code) => failed(topic, code),
                },
                None => failed(topic, ErrorCode::UNKNOWN_TOPIC_ID),
            })
            .collect(),
        None => {
            let all: Vec<OffsetFetchResponseTopics> = offsets
                .iter()
                .filter(|(name, _)| call.may(Operation::Describe, Resource::Topic, name))
                .map(|(name, partitions)| OffsetFetchResponseTopics {
                    name: name.clone(),
                    partitions: partitions.keys().map(|&index| stored(name, index)).collect(),
                    ..Default::default()
                })
                .collect();
            drop(groups);
            return OffsetFetchResponseGroup {
                group_id,
                topics: with_ids(call, all, by_id),
                ..Default::default()
            };
        }
    };
    OffsetFetchResponseGroup { group_id, topics, ..Default::default() }
}

/// A topic that is asked for and its name, if it exists or is named by its name.
fn name(
    call: &Call<'_>,
    topic: OffsetFetchRequestTopics,
    by_id: bool,
) -> (OffsetFetchRequestTopics, Option<Str>) {
    let name = match by_id {
        true => call.parts.state().topic_by_id(topic.topic_id).map(|found| found.name.clone()),
        false => Some(topic.name.clone()),
    };
    (topic, name)
}

/// Where topics are named by their ids, those that exist no more are left out.
fn with_ids(
    call: &Call<'_>,
    topics: Vec<OffsetFetchResponseTopics>,
    by_id: bool,
) -> Vec<OffsetFetchResponseTopics> {
    if !by_id {
        return topics;
    }
    let state = call.parts.state();
    let with_id = |topic: OffsetFetchResponseTopics| {
        let topic_id = state.topic(&topic.name)?.id;
        Some(OffsetFetchResponseTopics { name: Str::default(), topic_id, ..topic })
    };
    topics.into_iter().filter_map(with_id).collect()
}

fn some_of(
    topic: OffsetFetchRequestTopics,
    answer: impl Fn(i32) -> OffsetFetchResponsePartitions,
) -> OffsetFetchResponseTopics {
    let partitions = topic.partition_indexes.into_iter().map(answer).collect();
    let name = if topic.topic_id == Uuid::ZERO { topic.name } else { Str::default() };
    OffsetFetchResponseTopics { name, topic_id: topic.topic_id, partitions, ..Default::default() }
}

fn answer(partition_index: i32, value: Option<&OffsetCommitValue>) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: value.map_or(-1, |value| value.offset),
        committed_leader_epoch: value.map_or(-1, |value| value.leader_epoch),
        metadata: Some(value.map_or(Str::default(), |value| value.metadata.clone())),
        ..Default::default()
    }
}

fn failed(topic: OffsetFetchRequestTopics, error_code: ErrorCode) -> OffsetFetchResponseTopics {
    let failed = |index| OffsetFetchResponsePartitions { error_code, ..answer(index, None) };
    let partitions = topic.partition_indexes.into_iter().map(failed).collect();
    OffsetFetchResponseTopics { name: topic.name, topic_id: topic.topic_id, partitions, ..Default::default() }
}

/// A topic in the form that the answer about one group has.
fn old_topic(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
    let partition = |partition: OffsetFetchResponsePartitions| OffsetFetchResponsePartition {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        committed_leader_epoch: partition.committed_leader_epoch,
        metadata: partition.metadata,
        error_code: partition.error_code,
        ..Default::default()
    };
    let partitions = topic.partitions.into_iter().map(partition).collect();
    OffsetFetchResponseTopic { name: topic.name, partitions, ..Default::default() }
}
