//! DeleteTopics (20), by name or id (KIP-516).

use std::collections::BTreeMap;

use milena_messages::delete_topics::{
    DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
};
use milena_messages::{ApiKey, ErrorCode};

use milena_wire::{Str, Uuid};

use super::row::Api;
use crate::acls::{Operation, Resource};
use crate::call::Call;
use crate::state::State;

pub(super) const API: Api = Api::new(ApiKey::DeleteTopics, |call, reader| call.answer(reader, handle));

fn handle(call: &Call<'_>, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let by_name = request.topic_names.into_iter();
    let by_name = by_name.map(|name| DeleteTopicState { name: Some(name), ..Default::default() });
    let mut state = call.parts.state_mut();
    let wanted: Vec<DeleteTopicState> = request.topics.into_iter().chain(by_name).collect();
    let mut counts: BTreeMap<(Option<Str>, Uuid), usize> = BTreeMap::new();
    for topic in &wanted {
        *counts.entry((topic.name.clone(), topic.topic_id)).or_default() += 1;
    }
    let delete_or_deny =
        |wanted: DeleteTopicState| match counts.remove(&(wanted.name.clone(), wanted.topic_id)) {
            Some(1) if wanted.name.is_some() == wanted.topic_id.is_zero() => {
                Some(delete(call, &mut state, wanted))
            }
            // Named twice, by name and id together, or by neither: refused, and answered once.
            Some(_) => Some(failed(wanted, ErrorCode::INVALID_REQUEST)),
            None => None,
        };
    let responses: Vec<DeletableTopicResult> = wanted.into_iter().filter_map(delete_or_deny).collect();
    drop(state);
    let deleted = responses.iter().filter(|response| response.error_code.is_none());
    for name in deleted.filter_map(|response| response.name.as_ref()) {
        call.parts.groups(call.now).forget_topic(name);
    }
    DeleteTopicsResponse { responses, ..Default::default() }
}

fn delete(call: &Call<'_>, state: &mut State, wanted: DeleteTopicState) -> DeletableTopicResult {
    let (found, unknown) = match &wanted.name {
        Some(name) => (state.topic(name), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        None => (state.topic_by_id(wanted.topic_id), ErrorCode::UNKNOWN_TOPIC_ID),
    };
    let found = found.cloned();
    let name = found.as_ref().map(|topic| topic.name.clone()).or(wanted.name.clone());
    // Whoever may delete the cluster may delete every topic.
    if let Some(name) = name
        && call.check_cluster(Operation::Delete).is_err()
    {
        let is_visible = call.may(Operation::Describe, Resource::Topic, &name);
        if !is_visible || found.is_some() && !call.may(Operation::Delete, Resource::Topic, &name) {
            // The answer tells the name of an id only to a client that may describe the topic.
            let name = wanted.name.clone().or(is_visible.then_some(name));
            return failed(DeleteTopicState { name, ..wanted }, Resource::Topic.denial());
        }
    }
    let Some(topic) = found else { return failed(wanted, unknown) };
    let (error_code, error_message) = match state.delete_topic(&topic) {
        Ok(()) => (ErrorCode::NONE, None),
        Err(error) => (ErrorCode::KAFKA_STORAGE_ERROR, Some(error.to_string().into())),
    };
    let name = Some(topic.name.clone());
    DeletableTopicResult { name, topic_id: topic.id, error_code, error_message, ..Default::default() }
}

fn failed(wanted: DeleteTopicState, error_code: ErrorCode) -> DeletableTopicResult {
    DeletableTopicResult {
        name: wanted.name,
        topic_id: wanted.topic_id,
        error_code,
        error_message: Some(error_code.description().into()),
        ..Default::default()
    }
}
