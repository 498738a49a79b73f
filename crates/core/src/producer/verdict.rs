//! The table of what each error code means for a produced batch.

use milena_messages::ErrorCode;

use super::Acks;

/// What follows from the answer for one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Appended.
    Written,
    /// Appended by an earlier attempt, so long ago that the broker no longer knows where.
    WrittenBefore,
    /// Not acknowledged. The same bytes may be accepted later, and a broker that has appended them recognises them.
    /// `moved`: another broker may lead the partition. `uncertain`: they may have been appended.
    Again { moved: bool, uncertain: bool },
    /// Not appended: the broker expects another sequence or epoch.
    Gap,
    /// Not appended: no batch may be so large, though its records may.
    TooLarge,
    /// It will never be acknowledged. `uncertain`: it may have been appended.
    Refused { uncertain: bool },
}

/// An error leaves the batch uncertain unless brokers are known to find it before they append: a record that is said
/// not to be written must not be in the log.
pub(super) fn verdict(code: ErrorCode, acks: Acks) -> Verdict {
    match code {
        ErrorCode::NONE => Verdict::Written,
        // KIP-98: the batch is older than the five the broker remembers.
        ErrorCode::DUPLICATE_SEQUENCE_NUMBER => Verdict::WrittenBefore,

        // With acks=all it is also the answer for what was appended, when leadership ends or the topic is deleted while
        // the leader waits for its followers (`DelayedProduce`); the followers may have it. With acks=1 the leader
        // answers at once, and says this only before it appends.
        ErrorCode::NOT_LEADER_OR_FOLLOWER
        | ErrorCode::LEADER_NOT_AVAILABLE
        | ErrorCode::FENCED_LEADER_EPOCH
        | ErrorCode::UNKNOWN_LEADER_EPOCH
        | ErrorCode::REPLICA_NOT_AVAILABLE
        // A topic can vanish from one broker's view for a moment (librdkafka 1.9 lost records over this); whether it
        // is gone for good is for the delivery timeout to say.
        | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::UNKNOWN_TOPIC_ID
        | ErrorCode::INCONSISTENT_TOPIC_ID => Verdict::Again { moved: true, uncertain: acks == Acks::All },

        // The disk failed, perhaps in the middle of the append. The broker may find the batch when it recovers its log.
        ErrorCode::KAFKA_STORAGE_ERROR => Verdict::Again { moved: true, uncertain: true },

        // Checked before the append; corruption on the way is told as CORRUPT_MESSAGE.
        ErrorCode::NOT_ENOUGH_REPLICAS | ErrorCode::CORRUPT_MESSAGE => {
            Verdict::Again { moved: false, uncertain: false }
        }

        // KIP-890: the leader asks the transaction's coordinator before it appends, and has not got its consent yet.
        ErrorCode::CONCURRENT_TRANSACTIONS
        | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
        | ErrorCode::COORDINATOR_NOT_AVAILABLE
        | ErrorCode::NOT_COORDINATOR => Verdict::Again { moved: false, uncertain: false },

        // The append happened, the replicas did not confirm it in time.
        ErrorCode::REQUEST_TIMED_OUT | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND => {
            Verdict::Again { moved: false, uncertain: true }
        }

        // KIP-360. UNKNOWN_PRODUCER_ID is what brokers before 2.5 say when retention took the producer's last batch.
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
        | ErrorCode::UNKNOWN_PRODUCER_ID
        | ErrorCode::INVALID_PRODUCER_EPOCH
        | ErrorCode::INVALID_PRODUCER_ID_MAPPING => Verdict::Gap,

        // Brokers check these before they append.
        ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE => Verdict::TooLarge,
        ErrorCode::INVALID_RECORD
        | ErrorCode::INVALID_TIMESTAMP
        | ErrorCode::INVALID_TOPIC_EXCEPTION
        | ErrorCode::INVALID_REQUIRED_ACKS
        | ErrorCode::INVALID_REQUEST
        | ErrorCode::INVALID_TXN_STATE
        | ErrorCode::TRANSACTION_ABORTABLE
        | ErrorCode::PRODUCER_FENCED
        | ErrorCode::POLICY_VIOLATION
        | ErrorCode::UNSUPPORTED_VERSION
        | ErrorCode::UNSUPPORTED_COMPRESSION_TYPE
        | ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT
        | ErrorCode::TOPIC_AUTHORIZATION_FAILED
        | ErrorCode::CLUSTER_AUTHORIZATION_FAILED
        | ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED => Verdict::Refused { uncertain: false },

        // Codes that no broker is known to answer with, and those of later versions of Kafka. `ErrorCode` knows which
        // of them a retry may help.
        other if other.is_retriable() => Verdict::Again { moved: false, uncertain: true },
        _ => Verdict::Refused { uncertain: true },
    }
}
