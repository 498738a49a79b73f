//! Failures as the values of a label: few of them, however many texts there are.

use crate::Failure;

impl Failure {
    /// Kafka's name of the broker's code, as in `NOT_LEADER_OR_FOLLOWER`, or else a word in lower case for what happened on this
    /// side. A failure that wraps another one has the label of that one.
    pub fn label(&self) -> &'static str {
        if let Some(code) = self.code() {
            return code.name();
        }
        match self {
            Self::Undelivered { last: Some(cause), .. } | Self::Doomed { cause, .. } => cause.label(),
            Self::Answer { code, .. } => code.name(),
            Self::Unreachable { .. } => "unreachable",
            Self::Unauthenticated { .. } => "unauthenticated",
            Self::Lost { .. } => "connection_lost",
            Self::TimedOut { .. } => "timed_out",
            Self::Malformed { .. } => "malformed_answer",
            Self::OverLimit { .. } => "answer_too_large",
            Self::NoCommonVersion { .. } => "no_common_version",
            Self::Caller(_) => "caller",
            Self::Undelivered { last: None, .. } => "delivery_timeout",
            Self::SequenceLost { .. } => "sequence_lost",
            Self::NoRoute(_) => "no_leader",
            Self::NoRoom { .. } => "no_room",
            Self::Purged => "purged",
            Self::TooLarge(_) => "too_large",
            Self::Unreadable { .. } => "unreadable",
            Self::Closed | Self::Ended(_) => "closed",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use milena_messages::ErrorCode;

    use super::*;

    #[test]
    fn what_wraps_a_failure_has_its_label() {
        let refused = Failure::answer(ErrorCode::NOT_LEADER_OR_FOLLOWER, Some("a text of the broker's"));
        assert_eq!(refused.label(), "NOT_LEADER_OR_FOLLOWER");
        let wrap = |last| Failure::Undelivered { after: Duration::ZERO, waited_for: None, last };
        assert_eq!(wrap(Some(Box::new(refused))).label(), "NOT_LEADER_OR_FOLLOWER");
        assert_eq!(wrap(Some(Box::new(Failure::unreachable("b:1", "closed")))).label(), "unreachable");
        assert_eq!(wrap(None).label(), "delivery_timeout");
        assert_eq!(Failure::answer(ErrorCode::from_i16(12_345), None).label(), "UNKNOWN_CODE");
    }
}
