//! What each answer to a produced batch means: the table, and nothing else.

use milena_messages::ErrorCode;

/// What follows from the answer for one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Appended.
    Written,
    /// Appended by an earlier attempt, so long ago that the broker no longer knows where.
    WrittenBefore,
    /// Not appended; the same bytes may be accepted later. `moved`: perhaps elsewhere.
    Again { moved: bool },
    /// Appended or not, the broker does not know either: the same bytes again, the broker recognises them.
    AgainUncertain,
    /// Not appended: the broker expects another sequence or epoch.
    Gap,
    /// Not appended, and never will be.
    Refused,
    /// Never will be acknowledged, and may have been appended.
    RefusedUncertain,
}

pub(super) fn verdict(code: ErrorCode) -> Verdict {
    match code {
        ErrorCode::NONE => Verdict::Written,
        // KIP-98: the batch is older than the five the broker remembers.
        ErrorCode::DUPLICATE_SEQUENCE_NUMBER => Verdict::WrittenBefore,

        ErrorCode::NOT_LEADER_OR_FOLLOWER
        | ErrorCode::LEADER_NOT_AVAILABLE
        | ErrorCode::FENCED_LEADER_EPOCH
        | ErrorCode::UNKNOWN_LEADER_EPOCH
        | ErrorCode::REPLICA_NOT_AVAILABLE
        // A topic can vanish from one broker's view for a moment (librdkafka 1.9 lost records over this); whether it
        // is gone for good is for the delivery timeout to say.
        | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::UNKNOWN_TOPIC_ID
        | ErrorCode::INCONSISTENT_TOPIC_ID
        | ErrorCode::KAFKA_STORAGE_ERROR => Verdict::Again { moved: true },

        // Checked before the append.
        ErrorCode::NOT_ENOUGH_REPLICAS => Verdict::Again { moved: false },

        // The append happened, the replicas did not confirm it in time.
        ErrorCode::REQUEST_TIMED_OUT | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND => Verdict::AgainUncertain,

        // KIP-360. UNKNOWN_PRODUCER_ID is what brokers before 2.5 say when retention took the producer's last batch.
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
        | ErrorCode::UNKNOWN_PRODUCER_ID
        | ErrorCode::INVALID_PRODUCER_EPOCH
        | ErrorCode::INVALID_PRODUCER_ID_MAPPING => Verdict::Gap,

        ErrorCode::UNKNOWN_SERVER_ERROR => Verdict::RefusedUncertain,

        // Corruption on the way is told as CORRUPT_MESSAGE, and that is retriable; so are the codes of later Kafkas
        // that say so of themselves.
        other if other.is_retriable() => Verdict::Again { moved: false },
        _ => Verdict::Refused,
    }
}
