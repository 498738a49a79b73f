//! The table: one row per API.

use milena_messages::{ApiKey, ErrorCode};

use crate::Failure;
use crate::metadata::Destination;

/// How the requests of one API are sent, and what their answers mean.
#[derive(Debug)]
pub struct Row {
    /// The API.
    pub api: ApiKey,
    /// The newest version that our requests are written for. Later ones may have another shape.
    pub version_max: i16,
    /// Which broker is asked.
    pub route: Route,
    /// Which items share a request.
    pub split: Split,
    /// Whether a request may be sent again when it is not known what became of it.
    pub nature: Nature,
    /// How long a failure that may pass is tried again.
    pub patience: Patience,
    /// The codes that say that an item is at another broker by now. It is routed anew and asked for again, until the deadline.
    pub moved: &'static [ErrorCode],
    /// The codes after which an item is asked for again, with the patience of this row. A code in neither list is the item's
    /// result.
    pub again: &'static [ErrorCode],
}

/// Which broker is asked for an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Any broker that is up.
    Any,
    /// The controller.
    Controller,
    /// The broker that the item names, or any if it names none.
    Named,
    /// The leader of the item's partition.
    Leader,
    /// The coordinator of the item's group or transactional producer, which is looked up first.
    Coordinator,
}

/// Which items share a request. Results are per item in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// All items that go to the same broker.
    ByBroker,
    /// Each item has a request of its own.
    Singly,
}

/// Whether a request may be repeated when it is not known what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// It may be repeated, because it changes nothing.
    Question,
    /// It changes something. It is sent again only if it is certain that nothing was done: it was not sent, or the broker said
    /// so.
    Order,
}

/// How long a failure that may pass is tried again, within the call's deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Up to four attempts, so that the caller learns within a second what is wrong.
    Attempts,
    /// As `Attempts`; but while there is no broker to ask, until the deadline, because one is being elected.
    Election,
    /// Until the deadline.
    Deadline,
}

/// Attempts before the caller is told of a failure. With the default backoff they take less than a second.
pub(super) const ATTEMPTS_MAX: u32 = 4;

/// Brokers, topics and partitions.
pub const METADATA: Row = Row {
    api: ApiKey::Metadata,
    version_max: i16::MAX,
    route: Route::Any,
    split: Split::ByBroker,
    nature: Nature::Question,
    patience: Patience::Attempts,
    moved: &[],
    again: &[],
};

/// The coordinator of a group or a transactional producer. Before the first one of a cluster can be named, the brokers create
/// an internal topic, which takes a while.
pub const FIND_COORDINATOR: Row = Row {
    api: ApiKey::FindCoordinator,
    // Later versions look up several coordinators at a time; brokers before 3.0 do not have them (KIP-699).
    version_max: 3,
    route: Route::Any,
    split: Split::Singly,
    nature: Nature::Question,
    patience: Patience::Deadline,
    moved: &[],
    again: &[ErrorCode::COORDINATOR_NOT_AVAILABLE, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS],
};

/// Creates topics.
pub const CREATE_TOPICS: Row = Row {
    api: ApiKey::CreateTopics,
    version_max: i16::MAX,
    route: Route::Controller,
    split: Split::ByBroker,
    nature: Nature::Order,
    patience: Patience::Election,
    moved: &[ErrorCode::NOT_CONTROLLER],
    again: &[],
};

/// Adds partitions to topics.
pub const CREATE_PARTITIONS: Row = Row {
    api: ApiKey::CreatePartitions,
    version_max: i16::MAX,
    route: Route::Controller,
    split: Split::ByBroker,
    nature: Nature::Order,
    patience: Patience::Election,
    moved: &[ErrorCode::NOT_CONTROLLER],
    again: &[],
};

/// Deletes topics.
pub const DELETE_TOPICS: Row = Row {
    api: ApiKey::DeleteTopics,
    // From version 6 on the request has another shape, in which topics can be named by id. We name them by name.
    version_max: 5,
    route: Route::Controller,
    split: Split::ByBroker,
    nature: Nature::Order,
    patience: Patience::Election,
    moved: &[ErrorCode::NOT_CONTROLLER],
    again: &[],
};

/// Configurations. Only the broker itself knows all of its own.
pub const DESCRIBE_CONFIGS: Row = Row {
    api: ApiKey::DescribeConfigs,
    version_max: i16::MAX,
    route: Route::Named,
    split: Split::ByBroker,
    nature: Nature::Question,
    patience: Patience::Attempts,
    moved: &[],
    again: &[],
};

/// Changes configurations. A broker takes changes of its own only.
pub const INCREMENTAL_ALTER_CONFIGS: Row = Row {
    api: ApiKey::IncrementalAlterConfigs,
    version_max: i16::MAX,
    route: Route::Named,
    split: Split::ByBroker,
    nature: Nature::Order,
    patience: Patience::Attempts,
    moved: &[],
    again: &[],
};

/// Deletes the records of partitions before an offset.
pub const DELETE_RECORDS: Row = Row {
    api: ApiKey::DeleteRecords,
    version_max: i16::MAX,
    route: Route::Leader,
    split: Split::ByBroker,
    nature: Nature::Order,
    patience: Patience::Attempts,
    moved: &[ErrorCode::NOT_LEADER_OR_FOLLOWER],
    again: &[ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ErrorCode::LEADER_NOT_AVAILABLE],
};

/// Offsets of partitions by position or time. Java's client asks again after the same codes.
pub const LIST_OFFSETS: Row = Row {
    api: ApiKey::ListOffsets,
    version_max: i16::MAX,
    route: Route::Leader,
    split: Split::ByBroker,
    nature: Nature::Question,
    patience: Patience::Attempts,
    moved: &[
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::REPLICA_NOT_AVAILABLE,
        ErrorCode::FENCED_LEADER_EPOCH,
        ErrorCode::UNKNOWN_LEADER_EPOCH,
    ],
    again: &[
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode::LEADER_NOT_AVAILABLE,
        ErrorCode::KAFKA_STORAGE_ERROR,
        ErrorCode::OFFSET_NOT_AVAILABLE,
    ],
};

/// The groups that one broker coordinates. Each broker knows its own.
pub const LIST_GROUPS: Row = Row {
    api: ApiKey::ListGroups,
    version_max: i16::MAX,
    route: Route::Named,
    split: Split::ByBroker,
    nature: Nature::Question,
    patience: Patience::Attempts,
    moved: &[],
    again: &COORDINATOR_AGAIN,
};

/// Groups of the classic protocol: their states and members.
pub const DESCRIBE_GROUPS: Row = of_coordinator(ApiKey::DescribeGroups, Nature::Question);

/// Groups of the consumer protocol (KIP-848): their states and members.
pub const CONSUMER_GROUP_DESCRIBE: Row = of_coordinator(ApiKey::ConsumerGroupDescribe, Nature::Question);

/// The offsets that groups have committed.
pub const OFFSET_FETCH: Row = Row {
    // From version 8 on a request is about several groups, and has another shape. Version 7 is of Kafka 2.5.
    version_max: 7,
    split: Split::Singly,
    ..of_coordinator(ApiKey::OffsetFetch, Nature::Question)
};

/// Offsets committed for a group that has no members.
pub const OFFSET_COMMIT: Row = Row {
    // From version 10 on topics are named by their ids. We name them by name.
    version_max: 9,
    ..of_coordinator(ApiKey::OffsetCommit, Nature::Order)
};

/// Deletes committed offsets.
pub const OFFSET_DELETE: Row = of_coordinator(ApiKey::OffsetDelete, Nature::Order);

/// Deletes groups that have no members.
pub const DELETE_GROUPS: Row = of_coordinator(ApiKey::DeleteGroups, Nature::Order);

/// Removes members from a group.
pub const LEAVE_GROUP: Row = of_coordinator(ApiKey::LeaveGroup, Nature::Order);

/// The transactional producers that one broker coordinates. Each broker knows its own.
pub const LIST_TRANSACTIONS: Row = Row { api: ApiKey::ListTransactions, ..LIST_GROUPS };

/// Transactional producers: the states and the partitions of their transactions.
pub const DESCRIBE_TRANSACTIONS: Row = of_coordinator(ApiKey::DescribeTransactions, Nature::Question);

/// The producers that partitions remember. Only the leader knows all of them.
pub const DESCRIBE_PRODUCERS: Row = Row {
    api: ApiKey::DescribeProducers,
    version_max: i16::MAX,
    route: Route::Leader,
    split: Split::ByBroker,
    nature: Nature::Question,
    patience: Patience::Attempts,
    moved: &[ErrorCode::NOT_LEADER_OR_FOLLOWER],
    again: &[ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ErrorCode::LEADER_NOT_AVAILABLE],
};

/// The producers that the replicas of one broker remember. A broker without a replica stays without it.
pub const DESCRIBE_PRODUCERS_OF_BROKER: Row =
    Row { route: Route::Named, moved: &[], again: &[], ..DESCRIBE_PRODUCERS };

/// The directories of one broker and the sizes of its replicas. Each broker knows its own.
pub const DESCRIBE_LOG_DIRS: Row = Row { api: ApiKey::DescribeLogDirs, again: &[], ..LIST_GROUPS };

/// Ends transactions at single partitions, past their coordinators.
pub const WRITE_TXN_MARKERS: Row = Row { api: ApiKey::WriteTxnMarkers, ..DELETE_RECORDS };

/// Access control lists that match a filter.
pub const DESCRIBE_ACLS: Row = Row { api: ApiKey::DescribeAcls, ..METADATA };

/// Adds access control lists. Every broker takes it and forwards it to the controller. It is an order, so one broker only may
/// be asked, and that is the one which the metadata names as the controller.
pub const CREATE_ACLS: Row = Row { api: ApiKey::CreateAcls, ..CREATE_TOPICS };

/// Removes the access control lists that match filters.
pub const DELETE_ACLS: Row = Row { api: ApiKey::DeleteAcls, ..CREATE_TOPICS };

/// The users of SCRAM.
pub const DESCRIBE_USER_SCRAM_CREDENTIALS: Row =
    Row { api: ApiKey::DescribeUserScramCredentials, ..METADATA };

/// Gives users passwords for SCRAM, and takes them away.
pub const ALTER_USER_SCRAM_CREDENTIALS: Row = Row { api: ApiKey::AlterUserScramCredentials, ..CREATE_TOPICS };

/// Quotas that match a filter.
pub const DESCRIBE_CLIENT_QUOTAS: Row = Row { api: ApiKey::DescribeClientQuotas, ..METADATA };

/// Changes quotas.
pub const ALTER_CLIENT_QUOTAS: Row = Row { api: ApiKey::AlterClientQuotas, ..CREATE_TOPICS };

/// Delegation tokens.
pub const DESCRIBE_DELEGATION_TOKEN: Row = Row { api: ApiKey::DescribeDelegationToken, ..METADATA };

/// Creates a delegation token.
pub const CREATE_DELEGATION_TOKEN: Row =
    Row { api: ApiKey::CreateDelegationToken, split: Split::Singly, ..CREATE_TOPICS };

/// Lengthens the life of a delegation token.
pub const RENEW_DELEGATION_TOKEN: Row =
    Row { api: ApiKey::RenewDelegationToken, split: Split::Singly, ..CREATE_TOPICS };

/// Sets when a delegation token ends.
pub const EXPIRE_DELEGATION_TOKEN: Row =
    Row { api: ApiKey::ExpireDelegationToken, split: Split::Singly, ..CREATE_TOPICS };

/// A row of an API that coordinators have. A coordinator that is gone is replaced within seconds, and the look-up names the old
/// one until then, so such a call goes on until its deadline, as Java's does.
const fn of_coordinator(api: ApiKey, nature: Nature) -> Row {
    Row {
        api,
        version_max: i16::MAX,
        route: Route::Coordinator,
        split: Split::ByBroker,
        nature,
        patience: Patience::Deadline,
        moved: &[ErrorCode::NOT_COORDINATOR],
        again: &COORDINATOR_AGAIN,
    }
}

/// The coordinator cannot answer yet. Kafka answers an order with COORDINATOR_NOT_AVAILABLE also when it could not replicate
/// what it wrote. Giving the same order again does no harm then: the orders to a coordinator say how something shall be.
const COORDINATOR_AGAIN: [ErrorCode; 2] =
    [ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, ErrorCode::COORDINATOR_NOT_AVAILABLE];

/// Which versions of which requests a broker has.
pub const API_VERSIONS: Row = Row { api: ApiKey::ApiVersions, again: &[], ..LIST_GROUPS };

/// The subscriptions to metrics of clients: what ListConfigResources was before version 1, when it had another name.
pub const LIST_CLIENT_METRICS: Row =
    Row { api: ApiKey::ListConfigResources, version_max: 0, route: Route::Any, ..DESCRIBE_CONFIGS };

/// The heartbeat of a member that the group does not have. It changes nothing, and the answer tells whether this principal may
/// be a member.
pub const HEARTBEAT: Row =
    Row { split: Split::Singly, ..of_coordinator(ApiKey::Heartbeat, Nature::Question) };

/// All rows.
pub static TABLE: [&Row; 37] = [
    &METADATA,
    &FIND_COORDINATOR,
    &CREATE_TOPICS,
    &CREATE_PARTITIONS,
    &DELETE_TOPICS,
    &DESCRIBE_CONFIGS,
    &INCREMENTAL_ALTER_CONFIGS,
    &DELETE_RECORDS,
    &LIST_OFFSETS,
    &LIST_GROUPS,
    &DESCRIBE_GROUPS,
    &CONSUMER_GROUP_DESCRIBE,
    &OFFSET_FETCH,
    &OFFSET_COMMIT,
    &OFFSET_DELETE,
    &DELETE_GROUPS,
    &LEAVE_GROUP,
    &LIST_TRANSACTIONS,
    &DESCRIBE_TRANSACTIONS,
    &DESCRIBE_PRODUCERS,
    &DESCRIBE_PRODUCERS_OF_BROKER,
    &DESCRIBE_LOG_DIRS,
    &WRITE_TXN_MARKERS,
    &API_VERSIONS,
    &HEARTBEAT,
    &DESCRIBE_ACLS,
    &CREATE_ACLS,
    &DELETE_ACLS,
    &DESCRIBE_USER_SCRAM_CREDENTIALS,
    &ALTER_USER_SCRAM_CREDENTIALS,
    &DESCRIBE_CLIENT_QUOTAS,
    &ALTER_CLIENT_QUOTAS,
    &DESCRIBE_DELEGATION_TOKEN,
    &CREATE_DELEGATION_TOKEN,
    &RENEW_DELEGATION_TOKEN,
    &EXPIRE_DELEGATION_TOKEN,
    &LIST_CLIENT_METRICS,
];

impl Row {
    /// Whether an item that the broker refused at its `attempt`th attempt is asked for again.
    pub(super) fn repeats_item(&self, refusal: &Failure, attempt: u32) -> bool {
        // An answer without a code may still say that there is nothing at present, as of a coordinator.
        let Some(code) = refusal.code() else { return refusal.is_retriable() && self.has_patience(attempt) };
        self.moved.contains(&code) || (self.again.contains(&code) && self.has_patience(attempt))
    }

    /// Whether a request that failed as a whole at the `attempt`th attempt is sent again.
    pub(super) fn repeats_request(&self, failure: &Failure, attempt: u32) -> bool {
        let is_harmless = self.nature == Nature::Question || !failure.may_have_acted();
        let is_election = self.patience == Patience::Election && matches!(failure, Failure::NoRoute(_));
        let is_vain = failure.is_want_of_credentials();
        is_harmless && !is_vain && failure.is_retriable() && (is_election || self.has_patience(attempt))
    }

    fn has_patience(&self, attempt: u32) -> bool {
        self.patience == Patience::Deadline || attempt < ATTEMPTS_MAX
    }
}

impl Route {
    /// Where the items of a row go whose route is the same for all. Items of the other rows say for themselves where they go.
    pub fn destination(self) -> Destination {
        match self {
            Self::Controller => Destination::Controller,
            Self::Any | Self::Named | Self::Leader | Self::Coordinator => Destination::Any,
        }
    }

    /// Whether an item of this route may go to `destination`.
    pub fn allows(self, destination: &Destination) -> bool {
        match self {
            Self::Any => *destination == Destination::Any,
            Self::Controller => *destination == Destination::Controller,
            Self::Named => matches!(destination, Destination::Any | Destination::Broker(_)),
            Self::Leader => matches!(destination, Destination::Leader { .. }),
            Self::Coordinator => matches!(destination, Destination::Coordinator(_)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write;

    use super::*;

    /// Prints the whole table, so that a change of policy shows here.
    #[test]
    fn the_table() {
        let mut printed = String::new();
        for row in TABLE {
            let names =
                |codes: &[ErrorCode]| codes.iter().map(|code| code.name()).collect::<Vec<_>>().join(" ");
            let version =
                if row.version_max == i16::MAX { "newest".into() } else { row.version_max.to_string() };
            let Row { api, route, split, nature, patience, .. } = row;
            writeln!(printed, "{} {version}: {route:?}, {split:?}, {nature:?}, {patience:?}", api.name())
                .expect("a string takes all");
            for (meaning, codes) in [("moved", row.moved), ("again", row.again)] {
                if !codes.is_empty() {
                    writeln!(printed, "    {meaning}: {}", names(codes)).expect("a string takes all");
                }
            }
        }
        let expected = "\
Metadata newest: Any, ByBroker, Question, Attempts
FindCoordinator 3: Any, Singly, Question, Deadline
    again: COORDINATOR_NOT_AVAILABLE COORDINATOR_LOAD_IN_PROGRESS
CreateTopics newest: Controller, ByBroker, Order, Election
    moved: NOT_CONTROLLER
CreatePartitions newest: Controller, ByBroker, Order, Election
    moved: NOT_CONTROLLER
DeleteTopics 5: Controller, ByBroker, Order, Election
    moved: NOT_CONTROLLER
DescribeConfigs newest: Named, ByBroker, Question, Attempts
IncrementalAlterConfigs newest: Named, ByBroker, Order, Attempts
DeleteRecords newest: Leader, ByBroker, Order, Attempts
    moved: NOT_LEADER_OR_FOLLOWER
    again: UNKNOWN_TOPIC_OR_PARTITION LEADER_NOT_AVAILABLE
ListOffsets newest: Leader, ByBroker, Question, Attempts
    moved: NOT_LEADER_OR_FOLLOWER REPLICA_NOT_AVAILABLE FENCED_LEADER_EPOCH UNKNOWN_LEADER_EPOCH
    again: UNKNOWN_TOPIC_OR_PARTITION LEADER_NOT_AVAILABLE KAFKA_STORAGE_ERROR OFFSET_NOT_AVAILABLE
ListGroups newest: Named, ByBroker, Question, Attempts
    again: COORDINATOR_LOAD_IN_PROGRESS COORDINATOR_NOT_AVAILABLE
DescribeGroups newest: Coordinator, ByBroker, Question, Deadline
    moved: NOT_COORDINATOR
    again: COORDINATOR_LOAD_IN_PROGRESS COORDINATOR_NOT_AVAILABLE
ConsumerGroupDescribe newest: Coordinator, ByBroker, Question, Deadline
    moved: NOT_COORDINATOR
    again: COORDINATOR_LOAD_IN_PROGRESS COORDINATOR_NOT_AVAILABLE
OffsetFetch 7: Coordinator, Singly, Question, Deadline
    moved: NOT_COORDINATOR
    again: COORDINATOR_LOAD_IN_PROGRESS COORDINATOR_NOT_AVAILABLE
OffsetCommit 9: Coordinator, ByBroker, Order, Deadline
    moved: NOT_COORDINATOR
    again: COORDINATOR_LOAD_IN_PROGRESS COORDINATOR_NOT_AVAILABLE
OffsetDelete newest: Coordinator, ByBroker, Order, Deadline
    moved: NOT_COORDINATOR
    again: COORDINATOR_LOAD_IN_PROGRESS COORDINATOR_NOT_AVAILABLE
DeleteGroups newest: Coordinator, ByBroker, Order, Deadline
    moved: NOT_COORDINATOR
    again: COORDINATOR_LOAD_IN_PROGRESS COORDINATOR_NOT_AVAILABLE
LeaveGroup newest: Coordinator, ByBroker, Order, Deadline
    moved: NOT_COORDINATOR
    again: COORDINATOR_LOAD_IN_PROGRESS COORDINATOR_NOT_AVAILABLE
ListTransactions newest: Named, ByBroker, Question, Attempts
    again: COORDINATOR_LOAD_IN_PROGRESS COORDINATOR_NOT_AVAILABLE
DescribeTransactions newest: Coordinator, ByBroker, Question, Deadline
    moved: NOT_COORDINATOR
    again: COORDINATOR_LOAD_IN_PROGRESS COORDINATOR_NOT_AVAILABLE
DescribeProducers newest: Leader, ByBroker, Question, Attempts
    moved: NOT_LEADER_OR_FOLLOWER
    again: UNKNOWN_TOPIC_OR_PARTITION LEADER_NOT_AVAILABLE
DescribeProducers newest: Named, ByBroker, Question, Attempts
DescribeLogDirs newest: Named, ByBroker, Question, Attempts
WriteTxnMarkers newest: Leader, ByBroker, Order, Attempts
    moved: NOT_LEADER_OR_FOLLOWER
    again: UNKNOWN_TOPIC_OR_PARTITION LEADER_NOT_AVAILABLE
ApiVersions newest: Named, ByBroker, Question, Attempts
Heartbeat newest: Coordinator, Singly, Question, Deadline
    moved: NOT_COORDINATOR
    again: COORDINATOR_LOAD_IN_PROGRESS COORDINATOR_NOT_AVAILABLE
DescribeAcls newest: Any, ByBroker, Question, Attempts
CreateAcls newest: Controller, ByBroker, Order, Election
    moved: NOT_CONTROLLER
DeleteAcls newest: Controller, ByBroker, Order, Election
    moved: NOT_CONTROLLER
DescribeUserScramCredentials newest: Any, ByBroker, Question, Attempts
AlterUserScramCredentials newest: Controller, ByBroker, Order, Election
    moved: NOT_CONTROLLER
DescribeClientQuotas newest: Any, ByBroker, Question, Attempts
AlterClientQuotas newest: Controller, ByBroker, Order, Election
    moved: NOT_CONTROLLER
DescribeDelegationToken newest: Any, ByBroker, Question, Attempts
CreateDelegationToken newest: Controller, Singly, Order, Election
    moved: NOT_CONTROLLER
RenewDelegationToken newest: Controller, Singly, Order, Election
    moved: NOT_CONTROLLER
ExpireDelegationToken newest: Controller, Singly, Order, Election
    moved: NOT_CONTROLLER
ListConfigResources 0: Any, ByBroker, Question, Attempts
";
        assert_eq!(printed, expected, "\n{printed}");
    }

    #[test]
    fn rows_do_not_contradict_themselves() {
        let mut apis = BTreeSet::new();
        for row in TABLE {
            let name = row.api.name();
            assert!(apis.insert((row.api, row.route == Route::Named)), "{name} is there twice");
            for code in row.moved.iter().chain(row.again) {
                assert!(code.is_retriable(), "{name}: {code} does not pass");
            }
            assert!(row.moved.iter().all(|code| !row.again.contains(code)), "{name}");
            // The codes after which an order is repeated must say that nothing was done, or the order must be one that may
            // be given twice.
            if row.nature == Nature::Order {
                let expected = match row.route {
                    Route::Coordinator => (&[ErrorCode::NOT_COORDINATOR][..], &COORDINATOR_AGAIN[..]),
                    Route::Leader => (
                        &[ErrorCode::NOT_LEADER_OR_FOLLOWER][..],
                        &[ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ErrorCode::LEADER_NOT_AVAILABLE][..],
                    ),
                    // The broker that it is for is the only one that can carry it out.
                    Route::Named => (&[][..], &[][..]),
                    _ => (&[ErrorCode::NOT_CONTROLLER][..], &[][..]),
                };
                assert_eq!((row.moved, row.again), expected, "{name}");
            }
        }
    }

    #[test]
    fn what_is_tried_again() {
        let (peer, after) = ("b:1".into(), std::time::Duration::from_secs(1));
        let nowhere = Failure::NoRoute("the cluster has no controller at present".into());
        let unsent = Failure::unreachable("b:1", "refused");
        let lost = Failure::Lost { peer: "b:1".into(), reason: "closed".into(), sent: true };
        let silent = Failure::TimedOut { peer, after, sent: true };
        let garbage = Failure::Malformed { peer: "b:1".into(), reason: "garbage".into() };
        // The attempt after which each row gives a request up that fails like this; none if it goes on to the deadline.
        let attempts =
            |row: &Row, failure: &Failure| (1..100).find(|attempt| !row.repeats_request(failure, *attempt));
        for (row, expected) in [
            (&METADATA, [Some(4), Some(4), Some(4), Some(4), Some(1)]),
            (&FIND_COORDINATOR, [None, None, None, None, Some(1)]),
            (&CREATE_TOPICS, [None, Some(4), Some(1), Some(1), Some(1)]),
            (&LIST_OFFSETS, [Some(4), Some(4), Some(4), Some(4), Some(1)]),
            (&DESCRIBE_GROUPS, [None, None, None, None, Some(1)]),
            (&DELETE_GROUPS, [None, None, Some(1), Some(1), Some(1)]),
        ] {
            let found = [&nowhere, &unsent, &lost, &silent, &garbage].map(|failure| attempts(row, failure));
            assert_eq!(found, expected, "{}", row.api.name());
        }
        let of_item = |row: &Row, code| {
            (1..100).find(|attempt| !row.repeats_item(&Failure::answer(code, None), *attempt))
        };
        for (row, code, expected) in [
            (&CREATE_TOPICS, ErrorCode::NOT_CONTROLLER, None),
            (&CREATE_TOPICS, ErrorCode::REQUEST_TIMED_OUT, Some(1)),
            (&CREATE_TOPICS, ErrorCode::TOPIC_ALREADY_EXISTS, Some(1)),
            (&FIND_COORDINATOR, ErrorCode::COORDINATOR_NOT_AVAILABLE, None),
            (&FIND_COORDINATOR, ErrorCode::GROUP_AUTHORIZATION_FAILED, Some(1)),
            (&LIST_OFFSETS, ErrorCode::NOT_LEADER_OR_FOLLOWER, None),
            (&LIST_OFFSETS, ErrorCode::OFFSET_NOT_AVAILABLE, Some(4)),
            (&LIST_OFFSETS, ErrorCode::TOPIC_AUTHORIZATION_FAILED, Some(1)),
            (&DELETE_GROUPS, ErrorCode::NOT_COORDINATOR, None),
            (&DELETE_GROUPS, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, None),
            (&DELETE_GROUPS, ErrorCode::NON_EMPTY_GROUP, Some(1)),
        ] {
            assert_eq!(of_item(row, code), expected, "{}: {code}", row.api.name());
        }
        let named =
            |failure: &Failure| (1..100).find(|attempt| !FIND_COORDINATOR.repeats_item(failure, *attempt));
        assert_eq!((named(&nowhere), named(&Failure::incomplete())), (None, Some(1)));
    }
}
