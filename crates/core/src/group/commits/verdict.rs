//! The table of what each error code means for a commit, and for a request for committed offsets.

use milena_messages::ErrorCode;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is done.
    Good,
    /// The same coordinator may do it later.
    Again,
    /// Another broker coordinates the group, or will soon.
    Reroute,
    /// The member may do it once it has the group's newest generation or its own newest epoch. The request is made again
    /// with the identity of that time.
    AfterRebalance,
    /// The generation is over. If the member has joined again and waits for the answer, that brings the generation in which the
    /// request is made again; until then nobody knows whether the partitions are lost.
    Overtaken,
    /// The coordinator does not know the member: it has to join again. If it has done so since the request went out, the request
    /// is made again.
    Rejoin,
    /// Another instance has the member's `group.instance.id`: it does nothing more.
    Fenced,
    /// Trying again is in vain until the program, its settings or its rights change.
    Refused,
}

/// Whether the coordinator does not know the topic, or not under this id.
pub(super) fn is_unknown_topic(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::UNKNOWN_TOPIC_ID)
}

pub(super) fn verdict(code: ErrorCode) -> Verdict {
    match code {
        ErrorCode::NONE => Verdict::Good,

        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
        // A transaction that commits offsets of the group is open. To read this as "no offset" skips records.
        | ErrorCode::UNSTABLE_OFFSET_COMMIT
        // A topic can be missing from the coordinator's metadata for a moment. If it is gone for good, the partition is
        // taken away from the member.
        | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::UNKNOWN_TOPIC_ID => Verdict::Again,

        ErrorCode::COORDINATOR_NOT_AVAILABLE
        | ErrorCode::NOT_COORDINATOR
        // The coordinator could not replicate the commit in time. Java looks the coordinator up again, too.
        | ErrorCode::REQUEST_TIMED_OUT => Verdict::Reroute,

        // A classic group is between JoinGroup and SyncGroup.
        ErrorCode::REBALANCE_IN_PROGRESS
        // KIP-848: the next heartbeat brings the epoch.
        | ErrorCode::STALE_MEMBER_EPOCH => Verdict::AfterRebalance,

        ErrorCode::ILLEGAL_GENERATION => Verdict::Overtaken,

        ErrorCode::UNKNOWN_MEMBER_ID
        | ErrorCode::FENCED_MEMBER_EPOCH
        // From version 9 on, for a member whose group is gone.
        | ErrorCode::GROUP_ID_NOT_FOUND => Verdict::Rejoin,

        ErrorCode::FENCED_INSTANCE_ID => Verdict::Fenced,

        ErrorCode::OFFSET_METADATA_TOO_LARGE
        | ErrorCode::INVALID_COMMIT_OFFSET_SIZE
        | ErrorCode::INVALID_GROUP_ID
        | ErrorCode::GROUP_AUTHORIZATION_FAILED
        | ErrorCode::TOPIC_AUTHORIZATION_FAILED
        | ErrorCode::UNSUPPORTED_VERSION => Verdict::Refused,

        // Codes that no coordinator is known to answer with, and those of later versions of Kafka.
        other if other.is_retriable() => Verdict::Again,
        _ => Verdict::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        let verdicts = [
            Verdict::Good,
            Verdict::Again,
            Verdict::Reroute,
            Verdict::AfterRebalance,
            Verdict::Overtaken,
            Verdict::Rejoin,
            Verdict::Fenced,
        ];
        let mut table = String::new();
        for of in verdicts {
            let codes = (-1..=140).map(ErrorCode::from_i16).filter(|code| verdict(*code) == of);
            let names: Vec<_> = codes.filter(|code| is_of_groups(*code)).map(ErrorCode::name).collect();
            table += &format!("{of:?}: {}\n", names.join(", "));
        }
        assert_eq!(table, TABLE, "\n{table}");
        // What is not in the table is refused, or tried again if Kafka's own client does so.
        for code in (-1..=140).map(ErrorCode::from_i16).filter(|code| !is_of_groups(*code)) {
            let expect = if code.is_retriable() { Verdict::Again } else { Verdict::Refused };
            assert_eq!(verdict(code), expect, "{code}");
        }
    }

    fn is_of_groups(code: ErrorCode) -> bool {
        TABLE.lines().any(|line| {
            let names = line.split_once(": ").map_or("", |(_, names)| names);
            names.split(", ").any(|name| name == code.name())
        })
    }

    const TABLE: &str = "\
Good: NONE
Again: UNKNOWN_TOPIC_OR_PARTITION, COORDINATOR_LOAD_IN_PROGRESS, UNSTABLE_OFFSET_COMMIT, UNKNOWN_TOPIC_ID
Reroute: REQUEST_TIMED_OUT, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR
AfterRebalance: REBALANCE_IN_PROGRESS, STALE_MEMBER_EPOCH
Overtaken: ILLEGAL_GENERATION
Rejoin: UNKNOWN_MEMBER_ID, GROUP_ID_NOT_FOUND, FENCED_MEMBER_EPOCH
Fenced: FENCED_INSTANCE_ID
";
}
