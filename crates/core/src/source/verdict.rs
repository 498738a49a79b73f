//! The table of what each error code means for a fetched partition.

use milena_messages::ErrorCode;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There are records, or none at present.
    Fetched,
    /// The position does not exist any more, or not yet.
    OutOfRange,
    /// The partition may be read later, perhaps from another broker.
    Again,
    /// The partition cannot be read until the application does something.
    Stop,
}

pub(super) fn verdict(code: ErrorCode) -> Verdict {
    match code {
        ErrorCode::NONE => Verdict::Fetched,
        ErrorCode::OFFSET_OUT_OF_RANGE => Verdict::OutOfRange,
        ErrorCode::NOT_LEADER_OR_FOLLOWER
        | ErrorCode::LEADER_NOT_AVAILABLE
        | ErrorCode::REPLICA_NOT_AVAILABLE
        | ErrorCode::FENCED_LEADER_EPOCH
        | ErrorCode::UNKNOWN_LEADER_EPOCH
        | ErrorCode::OFFSET_NOT_AVAILABLE
        | ErrorCode::KAFKA_STORAGE_ERROR
        // A topic can vanish from one broker's view for a moment. If it is gone for good, the metadata says so.
        | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::UNKNOWN_TOPIC_ID
        | ErrorCode::INCONSISTENT_TOPIC_ID
        // The broker could not read its log; the leader may change.
        | ErrorCode::UNKNOWN_SERVER_ERROR => Verdict::Again,
        // Retriable says Kafka, but the bytes in the log will not change: looping on them is the hot loop of
        // KAFKA-5211.
        ErrorCode::CORRUPT_MESSAGE => Verdict::Stop,
        other if other.is_retriable() => Verdict::Again,
        _ => Verdict::Stop,
    }
}
