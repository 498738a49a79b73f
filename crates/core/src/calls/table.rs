//! The table: one row per API.

use milena_messages::{ApiKey, ErrorCode};

use crate::Failure;
use crate::metadata::Destination;

/// How requests of one API are sent, and what their answers mean.
#[derive(Debug)]
pub struct Row {
    /// The API.
    pub api: ApiKey,
    /// The newest version that can carry what we ask for; later ones may have another shape.
    pub version_max: i16,
    /// Which broker is asked.
    pub route: Route,
    /// Which items share a request.
    pub split: Split,
    /// Whether it may be repeated when its fate is unknown.
    pub nature: Nature,
    /// How long it is tried again.
    pub patience: Patience,
    /// An item with one of these codes belongs to another broker: it is routed anew, and asked for until the deadline.
    pub moved: &'static [ErrorCode],
    /// An item with one of these codes is asked for again, with the patience of this row. Any code that is in neither list
    /// is the item's result.
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
}

/// Which items share a request. Their answers are merged by item in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// All that go to one broker.
    ByBroker,
    /// Each item has a request of its own.
    Singly,
}

/// Whether a request may be repeated when it is not known what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// It may: it changes nothing.
    Question,
    /// It may not: it is sent again only when it is certain that nothing was done, because it was not sent or because the
    /// broker said so.
    Order,
}

/// How long something that may pass is tried again, within the call's deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Four times, so that a caller is told within a second what is wrong.
    Attempts,
    /// As `Attempts`, but while there is no broker to ask, until the deadline: one is being elected.
    Election,
    /// Until the deadline.
    Deadline,
}

/// Attempts before a failure is told: with the default backoff, within a second.
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

/// The coordinator of a group or a transactional producer. The first group of a cluster waits for a topic to be made.
pub const FIND_COORDINATOR: Row = Row {
    api: ApiKey::FindCoordinator,
    // Later versions ask for many coordinators, which brokers before 2.8 do not know.
    version_max: 3,
    route: Route::Any,
    split: Split::Singly,
    nature: Nature::Question,
    patience: Patience::Deadline,
    moved: &[],
    again: &[ErrorCode::COORDINATOR_NOT_AVAILABLE, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS],
};

/// Topics to be made.
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

/// Topics to be deleted.
pub const DELETE_TOPICS: Row = Row {
    api: ApiKey::DeleteTopics,
    // Version 6 has another shape, so that topics can be named by id; we name them by name.
    version_max: 5,
    route: Route::Controller,
    split: Split::ByBroker,
    nature: Nature::Order,
    patience: Patience::Election,
    moved: &[ErrorCode::NOT_CONTROLLER],
    again: &[],
};

/// Configurations. Those of a broker are known to that broker alone.
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

/// Offsets of partitions by position or time. The codes are those after which Java's client asks again.
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

/// All rows.
pub static TABLE: [&Row; 6] =
    [&METADATA, &FIND_COORDINATOR, &CREATE_TOPICS, &DELETE_TOPICS, &DESCRIBE_CONFIGS, &LIST_OFFSETS];

impl Row {
    /// Whether an item that the broker refused at its `attempt`th attempt is asked for again.
    pub(super) fn repeats_item(&self, refusal: &Failure, attempt: u32) -> bool {
        let Some(code) = refusal.code() else { return false };
        // The broker answers, and says of this item that nothing was done.
        self.moved.contains(&code) || (self.again.contains(&code) && self.has_patience(attempt))
    }

    /// Whether a request that failed as a whole at the `attempt`th attempt is sent again.
    pub(super) fn repeats_request(&self, failure: &Failure, attempt: u32) -> bool {
        let is_harmless = self.nature == Nature::Question || !failure.may_have_acted();
        let is_election = self.patience == Patience::Election && matches!(failure, Failure::NoRoute(_));
        is_harmless && failure.is_retriable() && (is_election || self.has_patience(attempt))
    }

    fn has_patience(&self, attempt: u32) -> bool {
        self.patience == Patience::Deadline || attempt < ATTEMPTS_MAX
    }
}

impl Route {
    /// Where all items go, unless each says it for itself.
    pub fn destination(self) -> Destination {
        match self {
            Self::Controller => Destination::Controller,
            Self::Any | Self::Named | Self::Leader => Destination::Any,
        }
    }

    /// Whether items of this route can go there.
    pub fn allows(self, destination: &Destination) -> bool {
        match self {
            Self::Any => *destination == Destination::Any,
            Self::Controller => *destination == Destination::Controller,
            Self::Named => matches!(destination, Destination::Any | Destination::Broker(_)),
            Self::Leader => matches!(destination, Destination::Leader { .. }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write;

    use super::*;

    /// The whole table as text. A change of policy is seen here, in one place.
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
DeleteTopics 5: Controller, ByBroker, Order, Election
    moved: NOT_CONTROLLER
DescribeConfigs newest: Named, ByBroker, Question, Attempts
ListOffsets newest: Leader, ByBroker, Question, Attempts
    moved: NOT_LEADER_OR_FOLLOWER REPLICA_NOT_AVAILABLE FENCED_LEADER_EPOCH UNKNOWN_LEADER_EPOCH
    again: UNKNOWN_TOPIC_OR_PARTITION LEADER_NOT_AVAILABLE KAFKA_STORAGE_ERROR OFFSET_NOT_AVAILABLE
";
        assert_eq!(printed, expected, "\n{printed}");
    }

    #[test]
    fn rows_do_not_contradict_themselves() {
        let mut apis = BTreeSet::new();
        for row in TABLE {
            let name = row.api.name();
            assert!(apis.insert(row.api), "{name} is there twice");
            for code in row.moved.iter().chain(row.again) {
                assert!(code.is_retriable(), "{name}: {code} does not pass");
            }
            assert!(row.moved.iter().all(|code| !row.again.contains(code)), "{name}");
            // Of an order these are the codes that say that nothing was done.
            if row.nature == Nature::Order {
                assert_eq!((row.moved, row.again), (&[ErrorCode::NOT_CONTROLLER][..], &[][..]), "{name}");
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
        // At how many attempts each row gives a request up that fails like this: none means at the deadline.
        let attempts =
            |row: &Row, failure: &Failure| (1..100).find(|attempt| !row.repeats_request(failure, *attempt));
        for (row, expected) in [
            (&METADATA, [Some(4), Some(4), Some(4), Some(4), Some(1)]),
            (&FIND_COORDINATOR, [None, None, None, None, Some(1)]),
            (&CREATE_TOPICS, [None, Some(4), Some(1), Some(1), Some(1)]),
            (&LIST_OFFSETS, [Some(4), Some(4), Some(4), Some(4), Some(1)]),
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
        ] {
            assert_eq!(of_item(row, code), expected, "{}: {code}", row.api.name());
        }
    }
}
