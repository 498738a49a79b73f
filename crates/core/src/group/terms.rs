//! What goes into the group machines and what comes out of them.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use milena_messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
};
use milena_messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use milena_messages::join_group::{JoinGroupRequest, JoinGroupResponse};
use milena_messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse};
use milena_messages::sync_group::{SyncGroupRequest, SyncGroupResponse};
use milena_wire::{Str, Uuid};

use crate::metadata::Snapshot;
use crate::{Backoff, BrokerId, Failure, Instant};

/// A partition by its topic's name. Sets of them are ordered by topic, then by partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
}

impl TopicPartition {
    /// The partition of `topic` with this index.
    pub fn new(topic: &Arc<str>, partition: i32) -> Self {
        Self { topic: Arc::clone(topic), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// The protocol by which members and coordinator talk: Kafka's `group.protocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// The consumer protocol where the coordinator has it, the classic protocol otherwise.
    #[default]
    Automatic,
    /// A member that the group elects assigns the partitions.
    Classic,
    /// The coordinator assigns the partitions (KIP-848).
    Consumer,
}

/// What a member needs to know for its whole life.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `group.id`.
    pub group_id: Arc<str>,
    /// `group.instance.id`: the name of a static member, which keeps its partitions over a restart (KIP-345).
    pub instance_id: Option<Arc<str>>,
    /// `client.rack`.
    pub rack: Option<Arc<str>>,
    /// `group.protocol`.
    pub protocol: Protocol,
    /// `session.timeout.ms`: without a heartbeat for this long the coordinator removes a member, and the member gives its
    /// partitions up. With the consumer protocol the coordinator has a setting of its own, and this is what we assume of it.
    pub session_timeout: Duration,
    /// `heartbeat.interval.ms`. The time between two heartbeats is never longer than a third of the session timeout. With the
    /// consumer protocol the coordinator says it.
    pub heartbeat_interval: Duration,
    /// How long members have to give partitions up and to join again.
    pub rebalance_timeout: Duration,
    /// `max.poll.interval.ms`: an application that takes no batch for this long counts as stopped.
    pub max_poll_interval: Duration,
    /// How long an answer to other requests than JoinGroup may take.
    pub request_timeout: Duration,
    /// The delays after failures.
    pub backoff: Backoff,
    /// `partition.assignment.strategy`, best first, for the classic protocol.
    pub assignors: Vec<Arc<dyn Assignor>>,
    /// `group.remote.assignor`, for the consumer protocol. None for the coordinator's choice.
    pub server_assignor: Option<Arc<str>>,
}

/// What a member wants to read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subscription {
    /// The topics by name. For a pattern in the classic protocol: the topics that it matches now.
    pub topics: BTreeSet<Arc<str>>,
    /// The pattern. With the consumer protocol the coordinator resolves it (RE2 syntax), and `topics` is added to its matches.
    pub pattern: Option<Arc<str>>,
}

impl Subscription {
    /// Whether there is nothing to read, so that the member leaves the group.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.pattern.is_none()
    }
}

/// Divides partitions among the members of a classic group. The machine treats its bytes as opaque: they are other programs'
/// bytes, and whatever is wrong with them is an error, never a panic.
pub trait Assignor: fmt::Debug + Send + Sync {
    /// The name by which members agree on it: `range`, `cooperative-sticky`.
    fn name(&self) -> &str;

    /// Whether members keep their partitions during a rebalance and give up only those that move (KIP-429). A member rebalances
    /// cooperatively only if all its assignors can.
    fn is_cooperative(&self) -> bool {
        false
    }

    /// What the member tells the leader when it joins.
    fn metadata(&self, claim: &Claim<'_>) -> Bytes;

    /// The topics that these members subscribe to. The leader waits until it knows how many partitions each has.
    ///
    /// # Errors
    /// When a member's metadata cannot be read.
    fn topics(&self, members: &[Member]) -> Result<BTreeSet<Arc<str>>, Failure>;

    /// The assignment of each member, by the leader. A topic that `snapshot` does not have, or that has no partitions there, is
    /// left out.
    ///
    /// # Errors
    /// When a member's metadata cannot be read.
    fn assign(&self, members: &[Member], snapshot: &Snapshot) -> Result<Vec<(Arc<str>, Bytes)>, Failure>;

    /// The partitions of an assignment. Empty bytes are no partitions.
    ///
    /// # Errors
    /// When the assignment cannot be read.
    fn decode(&self, assignment: &Bytes) -> Result<BTreeSet<TopicPartition>, Failure>;
}

/// What a member tells the leader.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// The topics it subscribes to.
    pub topics: &'a BTreeSet<Arc<str>>,
    /// The partitions it owns now. Eager members have given all up before they join.
    pub owned: &'a BTreeSet<TopicPartition>,
    /// The partitions of its last assignment, owned or not, for assignors that remember them (`sticky`). Empty after they were
    /// lost.
    pub last: &'a BTreeSet<TopicPartition>,
    /// The generation of its last assignment. None if it has had none, or lost it.
    pub generation: Option<i32>,
    /// Its rack.
    pub rack: Option<&'a str>,
}

/// A member as the coordinator describes it to the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: Arc<str>,
    /// Its name, if it is a static member.
    pub instance_id: Option<Arc<str>>,
    /// Its [`Assignor::metadata`], which another program may have written.
    pub metadata: Bytes,
}

/// What a member commits offsets as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberIdentity {
    /// Its id.
    pub member_id: Arc<str>,
    /// The generation of a classic member, or the member epoch of the consumer protocol.
    pub generation_or_epoch: i32,
    /// Its name, if it is a static member.
    pub instance_id: Option<Arc<str>>,
}

impl MemberIdentity {
    /// The identity of a consumer that reads by position and commits offsets to a group that has no members.
    pub fn outside() -> Self {
        Self { member_id: Arc::from(""), generation_or_epoch: -1, instance_id: None }
    }

    /// Whether it is one of a member.
    pub fn is_member(&self) -> bool {
        self.generation_or_epoch >= 0
    }
}

/// How a member goes when its consumer is closed (KIP-1092).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Goodbye {
    /// A dynamic member leaves, and a static member stays until its session ends or it comes back.
    #[default]
    Usual,
    /// It leaves, so that its partitions are assigned to other members at once.
    Leave,
    /// It stays until its session ends.
    Stay,
}

/// Something that the driver carries out or tells.
#[derive(Debug, Clone)]
pub enum Event {
    /// Finish what the application holds of these partitions, commit it, stop reading them, then call `handle_released`. The
    /// coordinator removes the member if this takes until the deadline, so the driver stops waiting before it.
    Revoke {
        /// The partitions.
        partitions: BTreeSet<TopicPartition>,
        /// When the driver stops waiting for the application.
        deadline: Instant,
    },
    /// Start to read these partitions, from their committed offsets.
    Assign {
        /// The partitions. May be empty: the member is in the group and owns nothing more than before.
        partitions: BTreeSet<TopicPartition>,
    },
    /// These partitions may belong to another member already. Stop reading them, and commit nothing. A release that was under
    /// way is off: it is not to be reported.
    Lost {
        /// The partitions.
        partitions: BTreeSet<TopicPartition>,
        /// Why.
        failure: Failure,
    },
    /// The application has taken no batch for half of `max_poll_interval`. At the end of it the member leaves.
    Slow {
        /// How long ago the last batch was taken.
        since: Duration,
    },
    /// The member left the group because the application took no batch for `max_poll_interval`. It joins again with the next
    /// progress.
    Left(Failure),
    /// The member is out of the group until there is a new subscription: trying again is in vain.
    Failed(Failure),
}

/// The kinds of requests. At most one of each is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// JoinGroup. It may take the rebalance timeout, so it has a connection of its own.
    Join,
    /// SyncGroup. It waits for the leader, and goes over the connection of JoinGroup.
    Sync,
    /// Heartbeat, or ConsumerGroupHeartbeat.
    Heartbeat,
    /// LeaveGroup, or the ConsumerGroupHeartbeat that leaves.
    Leave,
}

/// A request to send to the coordinator.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// Comes back with the answer.
    pub number: u64,
    /// The coordinator.
    pub broker: BrokerId,
    /// What kind of request it is.
    pub kind: Kind,
    /// The request.
    pub request: Request,
    /// When the driver gives it up and calls `handle_lost`.
    pub deadline: Instant,
}

/// The requests of both protocols.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Joins a classic group.
    Join(JoinGroupRequest),
    /// Brings the leader's assignments, and asks for the member's own.
    Sync(SyncGroupRequest),
    /// Says that the member is alive.
    Heartbeat(HeartbeatRequest),
    /// Leaves a classic group: as versions from 3 on have it. [`leave_by_id`] has older versions.
    Leave(LeaveGroupRequest),
    /// Everything in the consumer protocol.
    Consumer(ConsumerGroupHeartbeatRequest),
}

/// LeaveGroup in versions 0 to 2, which name one member by its id.
#[must_use]
pub fn leave_by_id(request: &LeaveGroupRequest) -> LeaveGroupRequest {
    LeaveGroupRequest {
        group_id: request.group_id.clone(),
        member_id: request.members.first().map(|member| member.member_id.clone()).unwrap_or_default(),
        ..Default::default()
    }
}

/// The answers to them.
#[derive(Debug, Clone, PartialEq)]
pub enum Response {
    /// To [`Request::Join`].
    Join(JoinGroupResponse),
    /// To [`Request::Sync`].
    Sync(SyncGroupResponse),
    /// To [`Request::Heartbeat`].
    Heartbeat(HeartbeatResponse),
    /// To [`Request::Leave`].
    Leave(LeaveGroupResponse),
    /// To [`Request::Consumer`].
    Consumer(ConsumerGroupHeartbeatResponse),
}

/// Topics that the machine waits to find in the metadata, beside those that are subscribed to by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// By name: what other members of the group subscribe to.
    pub topics: BTreeSet<Arc<str>>,
    /// By id: what the coordinator assigned.
    pub ids: BTreeSet<Uuid>,
}

/// An optional string of ours as the messages have it.
pub(super) fn str_of(text: Option<&Arc<str>>) -> Option<Str> {
    text.map(|text| Str::from(&**text))
}

/// A member is assigned this many partitions at most, which is more than one broker can lead. Each takes about a kilobyte, and
/// whoever assigns may be another program.
const ASSIGNED_MAX: usize = 200_000;

/// What is wrong with an assignment of these partitions, if anything is.
pub(super) fn fault_of_assignment(partitions: impl Iterator<Item = i32>) -> Option<String> {
    let mut count = 0_usize;
    for partition in partitions {
        count += 1;
        if partition < 0 {
            return Some(format!("it assigns partition {partition}"));
        }
    }
    (count > ASSIGNED_MAX).then(|| format!("it assigns {count} partitions to one member"))
}

/// Milliseconds as the messages have them.
pub(super) fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// The earliest of several times, each of which may not be set.
pub(super) fn earliest<const N: usize>(times: [Option<Instant>; N]) -> Option<Instant> {
    // This is asked in each turn, and `flatten().min()` costs four times as many instructions.
    let mut first: Option<Instant> = None;
    for at in times {
        if at.is_some_and(|at| first.is_none_or(|first| at < first)) {
            first = at;
        }
    }
    first
}
