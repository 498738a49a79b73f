//! The public types of groups: what is listed, what is described, and what a group has committed.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use milena_core::group::finished::{Decoded, decode};

use super::BrokerDescription;
use crate::Error;

/// The state of a group, as its coordinator names it. [`FromStr`] reads Kafka's names in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum GroupState {
    /// It has no members. It may have committed offsets.
    Empty,
    /// It waits for its members to join (classic protocol).
    PreparingRebalance,
    /// Its leader assigns the partitions (classic protocol).
    CompletingRebalance,
    /// The coordinator assigns the partitions (consumer protocol).
    Assigning,
    /// Its members have not all taken over their new assignments yet (consumer protocol).
    Reconciling,
    /// Each member has its assignment.
    Stable,
    /// It is being deleted.
    Dead,
    /// It cannot begin yet (streams protocol).
    NotReady,
    /// A state that this release does not know.
    Unknown,
}

/// The protocol by which a group assigns what its members work on. [`FromStr`] reads Kafka's names in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum GroupType {
    /// The classic protocol: a member assigns for all members (JoinGroup, SyncGroup).
    Classic,
    /// The consumer protocol: the coordinator assigns (KIP-848).
    Consumer,
    /// A share group (KIP-932).
    Share,
    /// A streams group (KIP-1071).
    Streams,
    /// A type that this release does not know.
    Unknown,
}

const STATES: [(GroupState, &str); 9] = [
    (GroupState::Empty, "Empty"),
    (GroupState::PreparingRebalance, "PreparingRebalance"),
    (GroupState::CompletingRebalance, "CompletingRebalance"),
    (GroupState::Assigning, "Assigning"),
    (GroupState::Reconciling, "Reconciling"),
    (GroupState::Stable, "Stable"),
    (GroupState::Dead, "Dead"),
    (GroupState::NotReady, "NotReady"),
    (GroupState::Unknown, "Unknown"),
];

const TYPES: [(GroupType, &str); 5] = [
    (GroupType::Classic, "Classic"),
    (GroupType::Consumer, "Consumer"),
    (GroupType::Share, "Share"),
    (GroupType::Streams, "Streams"),
    (GroupType::Unknown, "Unknown"),
];

/// The value whose name is `text`, or why there is none.
pub(super) fn named<T: Copy>(names: &[(T, &str)], text: &str) -> Result<T, String> {
    let found = names.iter().find(|(_, name)| name.eq_ignore_ascii_case(text));
    found.map(|(value, _)| *value).ok_or_else(|| {
        let names: Vec<_> = names.iter().map(|(_, name)| *name).collect();
        format!("{text:?} is none of {}", names.join(", "))
    })
}

impl GroupState {
    pub(super) fn of(text: &str) -> Self {
        text.parse().unwrap_or(Self::Unknown)
    }
}

impl GroupType {
    pub(super) fn of(text: &str) -> Self {
        text.parse().unwrap_or(Self::Unknown)
    }
}

impl FromStr for GroupState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        named(&STATES, text)
    }
}

impl FromStr for GroupType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        named(&TYPES, text)
    }
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(STATES.iter().find(|(state, _)| state == self).map_or("Unknown", |(_, name)| name))
    }
}

impl fmt::Display for GroupType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(TYPES.iter().find(|(kind, _)| kind == self).map_or("Unknown", |(_, name)| name))
    }
}

/// Which groups to list. Default: all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupFilter {
    pub(super) states: Vec<GroupState>,
    pub(super) types: Vec<GroupType>,
}

impl GroupFilter {
    /// All groups.
    pub fn all() -> Self {
        Self::default()
    }

    /// Only groups in one of these states (KIP-518). Brokers before Kafka 2.6 refuse it.
    #[must_use]
    pub fn states(mut self, states: impl IntoIterator<Item = GroupState>) -> Self {
        self.states = states.into_iter().collect();
        self
    }

    /// Only groups of one of these types (KIP-848). Brokers before Kafka 3.8 refuse it.
    #[must_use]
    pub fn types(mut self, types: impl IntoIterator<Item = GroupType>) -> Self {
        self.types = types.into_iter().collect();
        self
    }
}

/// The groups of a cluster.
#[derive(Debug, Clone)]
pub struct GroupListing {
    /// The groups, sorted by id.
    pub groups: Vec<ListedGroup>,
    /// The brokers that did not answer, by id. Groups that they coordinate may be missing.
    pub failed: Vec<(i32, Error)>,
}

/// A group in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedGroup {
    /// Its id.
    pub group: String,
    /// What its members are: `consumer` for consumers, `connect` for workers of Kafka Connect, empty for a group that has
    /// never had members.
    pub protocol_type: String,
    /// Its state. Brokers before Kafka 2.6 do not tell it.
    pub state: Option<GroupState>,
    /// Its type. Brokers before Kafka 3.8 do not tell it.
    pub group_type: Option<GroupType>,
    /// The broker that coordinates it.
    pub coordinator: i32,
}

/// A group with its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its id.
    pub group: String,
    /// The protocol by which it assigns partitions.
    pub group_type: GroupType,
    /// Its state.
    pub state: GroupState,
    /// What its members are: `consumer` for consumers.
    pub protocol_type: String,
    /// The assignor that was chosen, such as `range` or `uniform`; none if the group has not chosen one.
    pub assignor: Option<String>,
    /// The broker that coordinates it. Its rack is not told.
    pub coordinator: BrokerDescription,
    /// The group epoch, which rises with each change of members or subscriptions. None with the classic protocol.
    pub epoch: Option<i32>,
    /// The group epoch for which the target assignment was made. None with the classic protocol.
    pub assignment_epoch: Option<i32>,
    /// Its members, as the coordinator lists them.
    pub members: Vec<MemberDescription>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDescription {
    /// Its id, unique in the group.
    pub member_id: String,
    /// The name of a static member (`group.instance.id`, KIP-345).
    pub instance_id: Option<String>,
    /// The `client.id` of its client.
    pub client_id: String,
    /// The host from which it is connected, as the coordinator sees it.
    pub host: String,
    /// Its rack (`client.rack`), if it told one.
    pub rack: Option<String>,
    /// Its member epoch. None with the classic protocol.
    pub epoch: Option<i32>,
    /// The topics that it subscribes to by name.
    pub topics: Vec<String>,
    /// The pattern that it subscribes to (`SubscriptionPattern`, KIP-848).
    pub pattern: Option<String>,
    /// The partitions that it has, by topic. None if its bytes are not those of a consumer, as of Kafka Connect.
    pub assignment: Option<BTreeMap<String, Vec<i32>>>,
    /// The partitions that it will have when all members have given up what others are to get. None with the classic protocol.
    pub target: Option<BTreeMap<String, Vec<i32>>>,
}

/// An offset that a group has committed, or is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset that the group reads.
    pub offset: i64,
    /// The leader epoch of the last record before it (KIP-320). None if it is not known.
    pub leader_epoch: Option<i32>,
    /// The text that was committed with it. None and an empty text are the same.
    pub metadata: Option<String>,
}

impl CommittedOffset {
    /// The offsets above [`offset`](Self::offset) that are finished too, as the metadata says: ascending runs below `end`, the end of
    /// the partition. Milena's consumers write such metadata (`done_record`, on records out of order), and so does Confluent's Parallel Consumer. There are no runs
    /// if the metadata is something else, or was not made for this offset.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # cluster.create_topic("orders", 1)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// let admin = client.admin();
    /// admin.alter_group_offsets("billing", [(("orders", 0), 17)]).await?;
    /// for (_, offsets) in admin.list_group_offsets(["billing"]).await {
    ///     let committed = &offsets?[&("orders".to_owned(), 0)];
    ///     assert_eq!((committed.offset, committed.finished_above(20)), (17, vec![]));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn finished_above(&self, end: i64) -> Vec<Range<i64>> {
        let text = self.metadata.as_deref().unwrap_or_default();
        let Decoded::Finished(mut runs) = decode(self.offset, text) else { return Vec::new() };
        // What was forged, or is of a topic that was deleted and made again, reaches beyond the end.
        runs.retain_mut(|run| {
            run.end = run.end.min(end);
            run.start < run.end
        });
        runs
    }
}

/// The offset alone, without leader epoch and metadata.
impl From<i64> for CommittedOffset {
    fn from(offset: i64) -> Self {
        Self { offset, leader_epoch: None, metadata: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_any_case_and_written_as_kafka_does() {
        for (state, name) in STATES {
            assert_eq!((name.to_lowercase().parse(), state.to_string()), (Ok(state), name.to_owned()));
        }
        for (kind, name) in TYPES {
            assert_eq!((name.to_uppercase().parse(), kind.to_string()), (Ok(kind), name.to_owned()));
        }
        assert_eq!(GroupState::of("Sleeping"), GroupState::Unknown);
        let error = "sleeping".parse::<GroupState>().expect_err("no state");
        assert!(error.contains("\"sleeping\"") && error.contains("PreparingRebalance"), "{error}");
    }
}
