//! The tables of what each error code means for a member of a group.

use milena_messages::ErrorCode;

use super::terms::Kind;

/// What follows from an answer's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was done.
    Done,
    /// The same request may succeed later, at the same broker.
    Again,
    /// Another broker is the coordinator, or will be.
    Moved,
    /// The generation ends: the member joins again and may keep its partitions until then.
    Rebalance,
    /// The coordinator gave the member an id and expects it to join under it (KIP-394).
    Named,
    /// The coordinator has gone on without the member: its partitions may belong to others. `forgets_id`: the id is of no use
    /// either.
    Expelled { forgets_id: bool },
    /// The group or the coordinator does not have this protocol. The other one may do.
    Unsupported,
    /// It stays refused until somebody changes something.
    Refused,
}

/// The classic protocol's codes.
pub(super) fn classic(kind: Kind, code: ErrorCode) -> Verdict {
    match (kind, code) {
        (_, ErrorCode::NONE) => Verdict::Done,
        (_, ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE) => Verdict::Moved,
        // A member that is expelled, or whose group goes on, has left already.
        (Kind::Leave, code) if !code.is_retriable() => Verdict::Done,
        (Kind::Join, ErrorCode::MEMBER_ID_REQUIRED) => Verdict::Named,
        // The group ended a generation while it answered: the same request is right again.
        (Kind::Join, ErrorCode::REBALANCE_IN_PROGRESS) => Verdict::Again,
        (Kind::Sync | Kind::Heartbeat, ErrorCode::REBALANCE_IN_PROGRESS) => Verdict::Rebalance,
        (_, ErrorCode::UNKNOWN_MEMBER_ID) => Verdict::Expelled { forgets_id: true },
        // Commits (version 9 and later) of a member whose group is gone, or became one of the consumer protocol.
        (Kind::Sync | Kind::Heartbeat, ErrorCode::GROUP_ID_NOT_FOUND | ErrorCode::FENCED_MEMBER_EPOCH) => {
            Verdict::Expelled { forgets_id: true }
        }
        // The member is known, but missed a rebalance. It keeps its id, as Java's does, and saves a round trip.
        (_, ErrorCode::ILLEGAL_GENERATION) => Verdict::Expelled { forgets_id: false },
        // A newer instance with the same `group.instance.id` runs (KIP-345). Joining again would fence that one in turn.
        (_, ErrorCode::FENCED_INSTANCE_ID) => Verdict::Refused,
        // The group has no assignor in common with the member. Or it is a group of the consumer protocol by now, and does not
        // take members of this one (`group.consumer.migration.policy`).
        (Kind::Join, ErrorCode::INCONSISTENT_GROUP_PROTOCOL) => Verdict::Unsupported,
        // The broker failed in a way that has no code; the next attempt may not.
        (_, ErrorCode::UNKNOWN_SERVER_ERROR) => Verdict::Again,
        // COORDINATOR_LOAD_IN_PROGRESS and REQUEST_TIMED_OUT among others.
        (_, code) if code.is_retriable() => Verdict::Again,
        // INVALID_SESSION_TIMEOUT, GROUP_AUTHORIZATION_FAILED, GROUP_MAX_SIZE_REACHED,
        // INVALID_GROUP_ID, UNSUPPORTED_VERSION and those of later versions of Kafka.
        _ => Verdict::Refused,
    }
}

/// The consumer protocol's codes (KIP-848).
pub(super) fn consumer(kind: Kind, code: ErrorCode) -> Verdict {
    match (kind, code) {
        (_, ErrorCode::NONE) => Verdict::Done,
        // KIP-848: a leave is sent once. If it is not understood, the session ends by itself.
        (Kind::Leave, _) => Verdict::Done,
        (_, ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE) => Verdict::Moved,
        // The member joins again with epoch 0. Its id is its own choice, so both keep it.
        (
            _,
            ErrorCode::FENCED_MEMBER_EPOCH | ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::STALE_MEMBER_EPOCH,
        ) => Verdict::Expelled { forgets_id: false },
        // An instance that was killed has not left. Its place comes free when its session ends, and then this one has it.
        (_, ErrorCode::UNRELEASED_INSTANCE_ID) => Verdict::Again,
        // The coordinator is too old, or its `group.coordinator.rebalance.protocols` lacks it; or the group has members of
        // the classic protocol and does not migrate.
        (_, ErrorCode::UNSUPPORTED_VERSION | ErrorCode::GROUP_ID_NOT_FOUND) => Verdict::Unsupported,
        (_, ErrorCode::UNKNOWN_SERVER_ERROR) => Verdict::Again,
        (_, code) if code.is_retriable() => Verdict::Again,
        // FENCED_INSTANCE_ID, UNSUPPORTED_ASSIGNOR, INVALID_REGULAR_EXPRESSION, INVALID_REQUEST, GROUP_MAX_SIZE_REACHED,
        // GROUP_AUTHORIZATION_FAILED and those of later versions of Kafka.
        _ => Verdict::Refused,
    }
}
