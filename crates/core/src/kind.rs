//! Kinds of failures, by what a program does about them.

use milena_messages::ErrorCode;

use crate::Failure;
use crate::failure::{Fault, Obstacle};

/// The kinds of errors that a program treats differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller asked for something that cannot be done: a negative offset, a partition that the topic does not have,
    /// settings that contradict each other, a configuration or a group that the broker does not know.
    InvalidInput,
    /// The producer was closed, the consumer was dropped, or the client's runtime has ended.
    Closed,
    /// A request, or the delivery of a record, took longer than its timeout.
    Timeout,
    /// There was no room for a record in the producer's memory in time: records come faster than they are written.
    Full,
    /// No connection could be made, or it was lost.
    Network,
    /// The peer does not follow Kafka's protocol, or has no version of it in common with this client.
    Protocol,
    /// The topic does not exist, or the partition.
    UnknownTopic,
    /// The topic to be created exists already.
    AlreadyExists,
    /// The cluster does not accept the client's credentials, or one side does not accept the other's certificate.
    Authentication,
    /// The client's principal lacks a right.
    Authorization,
    /// The partition does not hold the offset to read from.
    OffsetOutOfRange,
    /// A record, a batch or a response is larger than the settings or the topic allow.
    TooLarge,
    /// A broker knows a newer instance: a transactional producer with a higher epoch, or a newer static member of a group.
    Fenced,
    /// The cluster cannot do it at present: there is no leader, or too few replicas are in sync.
    Unavailable,
    /// A stored batch cannot be read: its checksum is wrong, or its bytes are not a record batch.
    Unreadable,
    /// The program gave the record up before it was settled.
    Purged,
    /// A broker refused for another reason, which its code tells.
    Other,
}

impl Failure {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Answer { code, .. } => of_code(*code).unwrap_or(match self.fault() {
                Fault::Caller => ErrorKind::InvalidInput,
                _ => ErrorKind::Other,
            }),
            Self::Unreachable { obstacle, .. } => of_obstacle(*obstacle),
            Self::Unauthenticated { obstacle, .. } if obstacle.is_final() => ErrorKind::Authentication,
            Self::Unauthenticated { .. } => ErrorKind::Network,
            Self::Lost { .. } => ErrorKind::Network,
            Self::TimedOut { .. } | Self::Undelivered { .. } => ErrorKind::Timeout,
            Self::NoRoom { .. } => ErrorKind::Full,
            Self::Malformed { .. } | Self::NoCommonVersion { .. } => ErrorKind::Protocol,
            Self::Caller(_) => ErrorKind::InvalidInput,
            Self::TooLarge(_) | Self::OverLimit { .. } => ErrorKind::TooLarge,
            Self::Unreadable { .. } => ErrorKind::Unreadable,
            Self::NoRoute(_) => ErrorKind::Unavailable,
            Self::Purged => ErrorKind::Purged,
            Self::Closed | Self::Ended(_) => ErrorKind::Closed,
            Self::SequenceLost { .. } => ErrorKind::Other,
            Self::Doomed { cause, .. } => cause.kind(),
        }
    }
}

fn of_obstacle(obstacle: Obstacle) -> ErrorKind {
    match obstacle {
        Obstacle::Network | Obstacle::Name => ErrorKind::Network,
        Obstacle::Configuration => ErrorKind::InvalidInput,
        Obstacle::Credentials | Obstacle::Certificate => ErrorKind::Authentication,
        Obstacle::Peer => ErrorKind::Protocol,
    }
}

fn of_code(code: ErrorCode) -> Option<ErrorKind> {
    Some(match code {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::UNKNOWN_TOPIC_ID => ErrorKind::UnknownTopic,
        ErrorCode::TOPIC_ALREADY_EXISTS => ErrorKind::AlreadyExists,
        code if code.is_authorization() => ErrorKind::Authorization,
        code if code.is_authentication() => ErrorKind::Authentication,
        code if code.is_fenced() => ErrorKind::Fenced,
        ErrorCode::OFFSET_OUT_OF_RANGE => ErrorKind::OffsetOutOfRange,
        ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE => ErrorKind::TooLarge,
        ErrorCode::REQUEST_TIMED_OUT => ErrorKind::Timeout,
        ErrorCode::UNSUPPORTED_VERSION => ErrorKind::Protocol,
        code if code.fault() == Some(Fault::Network) => ErrorKind::Network,
        // Kafka's own client tries again after these codes, so they stand for states that pass.
        code if code.is_retriable() => ErrorKind::Unavailable,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn kinds_are_what_one_branches_on() {
        let after = Duration::from_secs(1);
        let answer = |code| Failure::answer(code, None);
        for (failure, kind) in [
            (answer(ErrorCode::UNKNOWN_TOPIC_ID), ErrorKind::UnknownTopic),
            (answer(ErrorCode::REQUEST_TIMED_OUT), ErrorKind::Timeout),
            (answer(ErrorCode::NOT_ENOUGH_REPLICAS), ErrorKind::Unavailable),
            (answer(ErrorCode::LEADER_NOT_AVAILABLE), ErrorKind::Unavailable),
            (answer(ErrorCode::GROUP_AUTHORIZATION_FAILED), ErrorKind::Authorization),
            (answer(ErrorCode::INVALID_CONFIG), ErrorKind::InvalidInput),
            (answer(ErrorCode::UNKNOWN_SERVER_ERROR), ErrorKind::Other),
            (answer(ErrorCode::from_i16(9999)), ErrorKind::Other),
            (Failure::TimedOut { peer: "b".into(), after, sent: true }, ErrorKind::Timeout),
            (
                Failure::Undelivered { after, waited_for: None, last: Some(Box::new(Failure::Closed)) },
                ErrorKind::Timeout,
            ),
            (Failure::NoRoom { after }, ErrorKind::Full),
            (Failure::Caller("no".into()), ErrorKind::InvalidInput),
            (Failure::Purged, ErrorKind::Purged),
            (Failure::Ended("the producer was closed"), ErrorKind::Closed),
        ] {
            assert_eq!(failure.kind(), kind, "{failure}");
        }
    }
}
