//! What the answers about groups mean to someone who is not a member.

use milena_messages::ErrorCode;

use crate::Failure;

/// Whether the coordinator did not describe the group because the group, or the broker, does not have the consumer protocol
/// (KIP-848). The group may be one of the classic protocol.
pub fn is_of_another_protocol(failure: &Failure) -> bool {
    let is_old = matches!(failure, Failure::NoCommonVersion { .. });
    // Kafka does not tell a group of another protocol from a group that does not exist.
    is_old || matches!(failure.code(), Some(ErrorCode::GROUP_ID_NOT_FOUND | ErrorCode::UNSUPPORTED_VERSION))
}

/// What the answer to the heartbeat of a member that the group does not have says of the principal's right to be a member.
///
/// # Errors
/// When it has no right, or the answer does not tell.
pub fn may_be_member(code: ErrorCode) -> Result<(), Failure> {
    match code {
        // The rights are looked at first.
        ErrorCode::NONE
        | ErrorCode::UNKNOWN_MEMBER_ID
        | ErrorCode::ILLEGAL_GENERATION
        | ErrorCode::REBALANCE_IN_PROGRESS
        | ErrorCode::GROUP_ID_NOT_FOUND => Ok(()),
        code => Err(Failure::answer(code, None)),
    }
}

/// Why the coordinator did not take an offset from someone who is not a member. Kafka takes such an offset for a group without
/// members only, and answers for other groups as it answers a member that it does not know.
pub fn of_group_with_members(failure: Failure) -> Failure {
    match failure.code() {
        Some(
            code @ (ErrorCode::UNKNOWN_MEMBER_ID
            | ErrorCode::ILLEGAL_GENERATION
            | ErrorCode::REBALANCE_IN_PROGRESS
            | ErrorCode::FENCED_MEMBER_EPOCH
            | ErrorCode::STALE_MEMBER_EPOCH),
        ) => Failure::answer(code, Some("the group has members, and only they can commit its offsets")),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_is_not_of_the_consumer_protocol_is_looked_for_as_a_classic_one() {
        let old = Failure::NoCommonVersion {
            peer: "b:1".into(),
            api: milena_messages::ApiKey::ConsumerGroupDescribe,
            reason: "too old".into(),
        };
        assert!(is_of_another_protocol(&old));
        for (code, expected) in [
            (ErrorCode::GROUP_ID_NOT_FOUND, true),
            (ErrorCode::UNSUPPORTED_VERSION, true),
            (ErrorCode::GROUP_AUTHORIZATION_FAILED, false),
            (ErrorCode::INVALID_GROUP_ID, false),
        ] {
            assert_eq!(is_of_another_protocol(&Failure::answer(code, None)), expected, "{code}");
        }
    }

    #[test]
    fn the_right_to_be_a_member_shows_in_how_an_unknown_member_is_refused() {
        for code in [ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::ILLEGAL_GENERATION, ErrorCode::NONE] {
            assert!(may_be_member(code).is_ok(), "{code}");
        }
        for code in
            [ErrorCode::GROUP_AUTHORIZATION_FAILED, ErrorCode::NOT_COORDINATOR, ErrorCode::INVALID_GROUP_ID]
        {
            assert_eq!(may_be_member(code).err().and_then(|failure| failure.code()), Some(code));
        }
    }

    #[test]
    fn a_group_with_members_is_told_as_such() {
        for code in [ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::STALE_MEMBER_EPOCH] {
            let failure = of_group_with_members(Failure::answer(code, None));
            assert_eq!(failure.code(), Some(code));
            assert!(failure.to_string().contains("the group has members"), "{failure}");
        }
        let denied = Failure::answer(ErrorCode::GROUP_AUTHORIZATION_FAILED, Some("no"));
        assert!(of_group_with_members(denied).to_string().ends_with(": no"));
    }
}
