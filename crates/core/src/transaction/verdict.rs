//! The table of what each error code means in an answer about a transaction.

use milena_messages::ErrorCode;

use crate::Failure;

/// What a coordinator was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// `InitProducerId`.
    Identity,
    /// `AddPartitionsToTxn`, and each partition of it.
    Partitions,
    /// `AddOffsetsToTxn`.
    Group,
    /// `TxnOffsetCommit`, and each partition of it.
    Offsets,
    /// `EndTxn`.
    End,
}

/// What follows from the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Done,
    /// The same request may succeed later. Nothing was done.
    Again,
    /// It may succeed soon: the last transaction is still being completed.
    Soon,
    /// Another broker coordinates. Nothing was done.
    Moved,
    /// It may have been done, and is asked again.
    Unsure,
    /// It will never be done. The producer can go on once the transaction is aborted.
    Refused,
    /// The epoch is higher than this producer's: another instance has begun, the transaction has timed out, or a late copy of a request
    /// of its own was carried out.
    Fenced,
    /// The cluster will not serve this producer.
    Fatal,
}

pub(super) fn verdict(question: Question, code: ErrorCode) -> Verdict {
    match code {
        ErrorCode::NONE => Verdict::Done,

        ErrorCode::COORDINATOR_NOT_AVAILABLE | ErrorCode::NOT_COORDINATOR => Verdict::Moved,
        ErrorCode::CONCURRENT_TRANSACTIONS => Verdict::Soon,
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS => Verdict::Again,
        // The coordinator's log did not confirm the write in time.
        ErrorCode::REQUEST_TIMED_OUT => Verdict::Unsure,

        // Coordinators before 2.7 have no other code for it (KIP-588).
        ErrorCode::PRODUCER_FENCED | ErrorCode::INVALID_PRODUCER_EPOCH => Verdict::Fenced,
        ErrorCode::INVALID_PRODUCER_ID_MAPPING
        | ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
        | ErrorCode::CLUSTER_AUTHORIZATION_FAILED
        | ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT
        | ErrorCode::UNSUPPORTED_VERSION => match question {
            // A new producer may have the right later.
            Question::Identity => Verdict::Refused,
            _ => Verdict::Fatal,
        },

        // It is missing from the broker's metadata, perhaps for a moment.
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            if matches!(question, Question::Partitions | Question::Offsets) =>
        {
            Verdict::Again
        }

        // The transaction has no such state: it was never begun at the coordinator, or was ended by it.
        ErrorCode::INVALID_TXN_STATE | ErrorCode::TRANSACTION_ABORTABLE | ErrorCode::UNKNOWN_PRODUCER_ID => {
            Verdict::Refused
        }

        // The end of a transaction is never guessed: until the coordinator says what has become of it, it is asked again.
        _ if question == Question::End => Verdict::Unsure,
        other if other.is_retriable() => Verdict::Again,
        // TOPIC_AUTHORIZATION_FAILED, OPERATION_NOT_ATTEMPTED, GROUP_AUTHORIZATION_FAILED, and that the group has moved on:
        // UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION, STALE_MEMBER_EPOCH, FENCED_INSTANCE_ID (KIP-447).
        _ => Verdict::Refused,
    }
}

/// Offsets are not the member's to commit any more, which its coordinator would say too.
pub fn moved_on(why: &str) -> Failure {
    Failure::answer(ErrorCode::ILLEGAL_GENERATION, Some(why))
}

/// Whether a transaction that could not be committed because of `failure` may succeed when all of it is done again: what was in
/// the way passes, or is gone with the transaction. A record that is too large, or a right that is missing, is not.
pub fn may_be_repeated(failure: &Failure) -> bool {
    let cause = match failure {
        Failure::Doomed { is_fatal: true, .. } => return false,
        Failure::Doomed { cause, .. } => cause,
        failure => failure,
    };
    if cause.is_retriable() || matches!(cause, Failure::SequenceLost { .. }) {
        return true;
    }
    let Some(code) = cause.code() else { return false };
    matches!(
        code,
        // The sequences and the state of this transaction. A producer that was fenced hears so when it aborts.
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
            | ErrorCode::UNKNOWN_PRODUCER_ID
            | ErrorCode::INVALID_PRODUCER_EPOCH
            | ErrorCode::INVALID_TXN_STATE
            | ErrorCode::TRANSACTION_ABORTABLE
            | ErrorCode::OPERATION_NOT_ATTEMPTED
            // The group has moved on.
            | ErrorCode::ILLEGAL_GENERATION
            | ErrorCode::UNKNOWN_MEMBER_ID
            | ErrorCode::STALE_MEMBER_EPOCH
            | ErrorCode::FENCED_MEMBER_EPOCH
            | ErrorCode::REBALANCE_IN_PROGRESS
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_done_again_after_what_passes_or_goes_with_it() {
        let doomed = |code| Failure::Doomed { cause: Box::new(Failure::answer(code, None)), is_fatal: false };
        for (code, may) in [
            (ErrorCode::ILLEGAL_GENERATION, true),
            (ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, true),
            (ErrorCode::NOT_ENOUGH_REPLICAS, true),
            (ErrorCode::MESSAGE_TOO_LARGE, false),
            (ErrorCode::TOPIC_AUTHORIZATION_FAILED, false),
            (ErrorCode::FENCED_INSTANCE_ID, false),
        ] {
            assert_eq!(may_be_repeated(&doomed(code)), may, "{code}");
        }
        let cause = Box::new(Failure::SequenceLost { code: None });
        assert!(may_be_repeated(&Failure::Doomed { cause: cause.clone(), is_fatal: false }));
        assert!(!may_be_repeated(&Failure::Doomed { cause, is_fatal: true }));
    }

    /// Each code that is not treated alike by all questions, or that a client has treated wrongly before.
    #[test]
    fn the_codes_of_each_question() {
        use Question::{End, Group, Identity, Offsets, Partitions};
        let all = [Identity, Partitions, Group, Offsets, End];
        let check = |code: ErrorCode, expected: [Verdict; 5]| {
            for (question, expected) in all.into_iter().zip(expected) {
                assert_eq!(verdict(question, code), expected, "{code} to {question:?}");
            }
        };
        use Verdict::{Again, Done, Fatal, Fenced, Moved, Refused, Soon, Unsure};
        check(ErrorCode::NONE, [Done; 5]);
        check(ErrorCode::NOT_COORDINATOR, [Moved; 5]);
        check(ErrorCode::COORDINATOR_NOT_AVAILABLE, [Moved; 5]);
        check(ErrorCode::CONCURRENT_TRANSACTIONS, [Soon; 5]);
        check(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, [Again; 5]);
        check(ErrorCode::REQUEST_TIMED_OUT, [Unsure; 5]);
        check(ErrorCode::PRODUCER_FENCED, [Fenced; 5]);
        check(ErrorCode::INVALID_PRODUCER_EPOCH, [Fenced; 5]);
        let of_id = [Refused, Fatal, Fatal, Fatal, Fatal];
        check(ErrorCode::INVALID_PRODUCER_ID_MAPPING, of_id);
        check(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED, of_id);
        check(ErrorCode::INVALID_TXN_STATE, [Refused; 5]);
        check(ErrorCode::TRANSACTION_ABORTABLE, [Refused; 5]);
        check(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, [Again, Again, Again, Again, Unsure]);
        let refused = [Refused, Refused, Refused, Refused, Unsure];
        for code in [
            ErrorCode::TOPIC_AUTHORIZATION_FAILED,
            ErrorCode::GROUP_AUTHORIZATION_FAILED,
            ErrorCode::OPERATION_NOT_ATTEMPTED,
            ErrorCode::ILLEGAL_GENERATION,
            ErrorCode::UNKNOWN_MEMBER_ID,
            ErrorCode::STALE_MEMBER_EPOCH,
            ErrorCode::FENCED_INSTANCE_ID,
            ErrorCode::INVALID_TRANSACTION_TIMEOUT,
            ErrorCode::UNKNOWN_SERVER_ERROR,
            ErrorCode::from_i16(9999),
        ] {
            check(code, refused);
        }
    }
}
