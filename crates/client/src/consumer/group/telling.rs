//! What the client's hooks are told of a member's commits, if there are hooks.

use std::sync::Arc;

use milena_core::{Failure, Instant};
use milena_messages::ErrorCode;
use milena_messages::offset_commit::{OffsetCommitRequest, OffsetCommitResponse};

use super::Group;
use crate::trace::Committing;

impl Group {
    /// This commit is sent. There is one at a time.
    pub(super) fn trace_commit(&mut self, request: &OffsetCommitRequest, now: Instant) {
        if self.client.0.trace.is_none() {
            return;
        }
        let mut offsets = Vec::new();
        for topic in &request.topics {
            let name: Arc<str> = Arc::from(&*topic.name);
            let of_topic = topic.partitions.iter();
            offsets.extend(of_topic.map(|of| (Arc::clone(&name), of.partition_index, of.committed_offset)));
        }
        let group = Arc::clone(&self.id);
        self.committing = Some(Committing { group, transactional_id: None, offsets, began: now });
    }

    /// It was answered, or there will be no answer.
    pub(super) fn trace_committed(&mut self, answer: &Result<OffsetCommitResponse, Failure>, now: Instant) {
        let Some(committing) = self.committing.take() else { return };
        let error = match answer {
            Err(failure) => Some(failure.label()),
            Ok(response) => {
                let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
                let mut codes = partitions.map(|partition| partition.error_code);
                codes.find(|code| *code != ErrorCode::NONE).map(ErrorCode::name)
            }
        };
        committing.tell(&self.client, error, now);
    }
}
