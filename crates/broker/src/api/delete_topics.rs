//! DeleteTopics (20), by name or id (KIP-516).

use milena_messages::ErrorCode;
use milena_messages::delete_topics::{
    DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
};

use super::Call;
use crate::state::State;

pub(super) fn handle(call: &Call<'_>, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let by_name = request.topic_names.into_iter();
    let by_name = by_name.map(|name| DeleteTopicState { name: Some(name), ..Default::default() });
    let mut state = call.machine.state_mut();
    let wanted = request.topics.into_iter().chain(by_name);
    let responses = wanted.map(|wanted| delete(&mut state, wanted)).collect();
    DeleteTopicsResponse { responses, ..Default::default() }
}

fn delete(state: &mut State, wanted: DeleteTopicState) -> DeletableTopicResult {
    let (found, unknown) = match &wanted.name {
        Some(name) => (state.topic(name), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        None => (state.topic_by_id(wanted.topic_id), ErrorCode::UNKNOWN_TOPIC_ID),
    };
    let Some(topic) = found.cloned() else {
        let (name, topic_id) = (wanted.name, wanted.topic_id);
        let error_message = Some(unknown.description().into());
        return DeletableTopicResult {
            name,
            topic_id,
            error_code: unknown,
            error_message,
            ..Default::default()
        };
    };
    let (error_code, error_message) = match state.delete_topic(&topic) {
        Ok(()) => (ErrorCode::NONE, None),
        Err(error) => (ErrorCode::KAFKA_STORAGE_ERROR, Some(error.to_string().into())),
    };
    let name = Some(topic.name.clone());
    DeletableTopicResult { name, topic_id: topic.id, error_code, error_message, ..Default::default() }
}
