//! Groups of the consumer protocol (KIP-848): epochs, assignments that move, members that leave, vanish and come back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use milena_broker::{Broker, Builder};
use milena_messages::ErrorCode;
use milena_messages::consumer_group_describe::{ConsumerGroupDescribeRequest, DescribedGroup};
use milena_messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatRequestTopicPartitions,
    ConsumerGroupHeartbeatResponse,
};
use milena_messages::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use milena_messages::delete_groups::DeleteGroupsRequest;
use milena_messages::delete_topics::DeleteTopicsRequest;
use milena_messages::list_groups::ListGroupsRequest;
use milena_messages::metadata::{MetadataRequest, MetadataRequestTopic};
use milena_messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use milena_messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use milena_messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use milena_wire::{Str, Uuid};

use crate::rig::Rig;
use crate::time::live_through;

const SESSION: Duration = Duration::from_secs(45);
const REBALANCE: Duration = Duration::from_secs(20);

/// A member as its own client sees it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Member {
    pub(crate) id: Str,
    pub(crate) instance: Option<Str>,
    pub(crate) epoch: i32,
    pub(crate) topics: Vec<Str>,
    pub(crate) pattern: Option<Str>,
    /// What the coordinator gave it last.
    pub(crate) assigned: BTreeMap<Uuid, BTreeSet<i32>>,
    /// What it says it has. A member that follows has what it was given.
    pub(crate) owned: BTreeMap<Uuid, BTreeSet<i32>>,
}

impl Member {
    pub(crate) fn of(id: &str, topics: &[&str]) -> Self {
        let topics = topics.iter().map(|topic| Str::from(*topic)).collect();
        Self { id: id.into(), topics, ..Self::default() }
    }

    fn matching(id: &str, pattern: &str) -> Self {
        Self { id: id.into(), pattern: Some(pattern.into()), ..Self::default() }
    }

    pub(crate) fn request(&self) -> ConsumerGroupHeartbeatRequest {
        let joins = self.epoch == 0;
        let owned = self.owned.iter().map(|(&topic_id, partitions)| {
            let partitions = partitions.iter().copied().collect();
            ConsumerGroupHeartbeatRequestTopicPartitions { topic_id, partitions, ..Default::default() }
        });
        ConsumerGroupHeartbeatRequest {
            group_id: "g".into(),
            member_id: self.id.clone(),
            member_epoch: self.epoch,
            instance_id: self.instance.clone(),
            rebalance_timeout_ms: if joins { REBALANCE.as_millis() as i32 } else { -1 },
            subscribed_topic_names: joins.then(|| self.topics.clone()),
            subscribed_topic_regex: self.pattern.clone().filter(|_| joins),
            topic_partitions: Some(if joins { Vec::new() } else { owned.collect() }),
            ..Default::default()
        }
    }

    fn count(&self) -> usize {
        self.assigned.values().map(BTreeSet::len).sum()
    }

    fn all(&self) -> Vec<(Uuid, i32)> {
        let partitions = self.assigned.iter();
        partitions.flat_map(|(topic, held)| held.iter().map(|&partition| (*topic, partition))).collect()
    }
}

impl Rig {
    pub(crate) fn send_beat(
        &self,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> ConsumerGroupHeartbeatResponse {
        self.ask(1, 1, request)
    }

    /// A heartbeat of a member that says what it has, without giving anything up.
    fn cling(&self, member: &mut Member) -> ErrorCode {
        let answer = self.send_beat(&member.request());
        if answer.error_code.is_none() {
            member.epoch = answer.member_epoch;
            if let Some(assignment) = answer.assignment {
                let topics = assignment.topic_partitions.into_iter();
                member.assigned =
                    topics.map(|topic| (topic.topic_id, topic.partitions.into_iter().collect())).collect();
            }
        }
        answer.error_code
    }

    /// The same of a member that does what it is told at once.
    pub(crate) fn beat(&self, member: &mut Member) -> ErrorCode {
        let code = self.cling(member);
        if code.is_none() {
            member.owned = member.assigned.clone();
        }
        code
    }

    /// Heartbeats of all until nobody is told anything new.
    fn settle(&self, members: &mut [&mut Member]) {
        for _ in 0..10 {
            let before: Vec<_> =
                members.iter().map(|member| (member.epoch, member.assigned.clone())).collect();
            for member in members.iter_mut() {
                assert_eq!(self.beat(member), ErrorCode::NONE, "{}", member.id);
            }
            let mut all: Vec<_> = members.iter().flat_map(|member| member.all()).collect();
            let count = all.len();
            all.sort();
            all.dedup();
            assert_eq!(all.len(), count, "a partition has two owners");
            if before
                .iter()
                .zip(members.iter())
                .all(|(before, member)| before.0 == member.epoch && before.1 == member.assigned)
            {
                return;
            }
        }
        panic!("the group does not settle");
    }

    fn leave_with(&self, member: &Member, epoch: i32) -> ErrorCode {
        let request = ConsumerGroupHeartbeatRequest { member_epoch: epoch, ..member.request() };
        self.send_beat(&request).error_code
    }

    pub(crate) fn describe_consumer(&self) -> DescribedGroup {
        let request = ConsumerGroupDescribeRequest { group_ids: vec!["g".into()], ..Default::default() };
        self.ask(1, 1, &request).groups[0].clone()
    }

    fn consumer_state(&self) -> String {
        self.describe_consumer().group_state.to_string()
    }

    pub(crate) fn topic_id(&self, name: &str) -> Uuid {
        let topic = MetadataRequestTopic { name: Some(name.into()), ..Default::default() };
        let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
        self.ask(1, 12, &request).topics[0].topic_id
    }

    fn commit_as(&self, version: i16, member: &Member, epoch: i32, partition: i32) -> ErrorCode {
        let partition = OffsetCommitRequestPartition {
            partition_index: partition,
            committed_offset: 1,
            ..Default::default()
        };
        let topic = OffsetCommitRequestTopic {
            name: if version < 10 { "t".into() } else { Str::default() },
            topic_id: if version < 10 { Uuid::ZERO } else { self.topic_id("t") },
            partitions: vec![partition],
            ..Default::default()
        };
        let request = OffsetCommitRequest {
            group_id: "g".into(),
            generation_id_or_member_epoch: epoch,
            member_id: member.id.clone(),
            topics: vec![topic],
            ..Default::default()
        };
        self.ask(1, version, &request).topics[0].partitions[0].error_code
    }
}

fn rig(partitions: i32) -> Rig {
    let rig = Rig::new(1);
    rig.create("t", partitions, &[]);
    rig
}

#[test]
fn a_member_gets_all_and_shares_with_the_next_one_when_it_has_given_up() {
    let rig = rig(4);
    let (mut a, mut b) = (Member::of("a", &["t"]), Member::of("b", &["t"]));
    assert_eq!(rig.beat(&mut a), ErrorCode::NONE);
    assert_eq!((a.epoch, a.count(), rig.consumer_state()), (2, 4, "Stable".to_owned()));
    // Nothing is new: the answer has no assignment.
    let answer = rig.send_beat(&a.request());
    assert_eq!((answer.member_epoch, answer.heartbeat_interval_ms), (2, 5000));
    assert!(answer.assignment.is_none());
    // The second one is in the new epoch at once, and waits.
    assert_eq!(rig.beat(&mut b), ErrorCode::NONE);
    assert_eq!((b.epoch, b.count(), rig.consumer_state()), (3, 0, "Reconciling".to_owned()));
    // The first one stays in its epoch until it says that it has given up.
    assert_eq!(rig.cling(&mut a), ErrorCode::NONE);
    assert_eq!((a.epoch, a.count()), (2, 2));
    rig.beat(&mut b);
    assert_eq!(b.count(), 0, "the first one may still have them");
    a.owned = a.assigned.clone();
    rig.beat(&mut a);
    assert_eq!(a.epoch, 3);
    rig.beat(&mut b);
    assert_eq!((b.epoch, b.count(), rig.consumer_state()), (3, 2, "Stable".to_owned()));
    let described = rig.describe_consumer();
    assert_eq!((described.group_epoch, described.assignment_epoch), (3, 3));
    assert_eq!((described.assignor_name.as_str(), described.members.len()), ("uniform", 2));
    let member = &described.members[0];
    assert_eq!((member.member_id.as_str(), member.member_epoch, member.member_type), ("a", 3, 1));
    assert_eq!(member.assignment, member.target_assignment);
    assert_eq!(member.assignment.topic_partitions[0].topic_name, "t");
    // A third one takes as few as possible.
    let mut c = Member::of("c", &["t"]);
    rig.settle(&mut [&mut a, &mut b, &mut c]);
    let mut counts = [a.count(), b.count(), c.count()];
    counts.sort_unstable();
    assert_eq!(counts, [1, 1, 2]);
}

#[test]
fn a_member_that_leaves_or_is_silent_gives_its_partitions_to_the_others() {
    let mut rig = rig(4);
    let (mut a, mut b) = (Member::of("a", &["t"]), Member::of("b", &["t"]));
    rig.settle(&mut [&mut a, &mut b]);
    assert_eq!(rig.leave_with(&a, -1), ErrorCode::NONE);
    assert_eq!(rig.beat(&mut a), ErrorCode::UNKNOWN_MEMBER_ID);
    rig.settle(&mut [&mut b]);
    assert_eq!(b.count(), 4);
    assert!(rig.machine.expired_members().is_empty(), "it left by itself");
    a = Member::of("a", &["t"]);
    rig.settle(&mut [&mut a, &mut b]);
    live_through(&mut rig, SESSION / 2);
    rig.beat(&mut b);
    live_through(&mut rig, SESSION / 2);
    assert_eq!(rig.beat(&mut a), ErrorCode::UNKNOWN_MEMBER_ID);
    rig.settle(&mut [&mut b]);
    assert_eq!(b.count(), 4);
    assert_eq!(rig.leave_with(&b, -1), ErrorCode::NONE);
    assert_eq!(rig.consumer_state(), "Empty");
    let [expired] = &rig.machine.expired_members()[..] else { panic!("one of them expired") };
    assert_eq!((&*expired.member_id, &*expired.client_id), ("a", "rig"));
}

#[test]
fn a_member_that_does_not_give_up_in_time_is_removed() {
    let mut rig = rig(4);
    let (mut a, mut b) = (Member::of("a", &["t"]), Member::of("b", &["t"]));
    rig.beat(&mut a);
    rig.beat(&mut b);
    rig.cling(&mut a);
    // The time begins when it is told, and heartbeats do not extend it.
    live_through(&mut rig, REBALANCE - Duration::from_secs(1));
    assert_eq!(rig.cling(&mut a), ErrorCode::NONE);
    assert_eq!(rig.beat(&mut b), ErrorCode::NONE);
    live_through(&mut rig, Duration::from_secs(2));
    assert_eq!(rig.cling(&mut a), ErrorCode::UNKNOWN_MEMBER_ID);
    rig.settle(&mut [&mut b]);
    assert_eq!(b.count(), 4);
    assert_eq!(rig.machine.expired_members()[0].member_id, "a");
}

#[test]
fn epochs_are_checked_and_a_lost_answer_is_forgiven() {
    let rig = rig(4);
    let (mut a, mut b) = (Member::of("a", &["t"]), Member::of("b", &["t"]));
    rig.beat(&mut a);
    let beat = |member: &Member, epoch: i32| {
        rig.send_beat(&ConsumerGroupHeartbeatRequest { member_epoch: epoch, ..member.request() })
    };
    assert_eq!(beat(&a, 9).error_code, ErrorCode::FENCED_MEMBER_EPOCH);
    assert_eq!(beat(&a, 1).error_code, ErrorCode::FENCED_MEMBER_EPOCH);
    rig.settle(&mut [&mut a, &mut b]);
    assert_eq!((a.epoch, b.epoch), (3, 3));
    // The answer with epoch 3 was lost, and the member has not more than it should.
    let answer = beat(&a, 2);
    assert_eq!((answer.error_code, answer.member_epoch), (ErrorCode::NONE, 3));
    let too_much = Member { owned: BTreeMap::from([(rig.topic_id("t"), (0..4).collect())]), ..a.clone() };
    assert_eq!(beat(&too_much, 2).error_code, ErrorCode::FENCED_MEMBER_EPOCH);
    // A member that joins again has what it had.
    let answer = beat(&Member { epoch: 0, ..a.clone() }, 0);
    assert_eq!((answer.error_code, answer.member_epoch), (ErrorCode::NONE, 3));
    assert_eq!(answer.assignment.expect("it joined").topic_partitions[0].partitions.len(), 2);
    assert_eq!(beat(&Member::of("c", &["t"]), 5).error_code, ErrorCode::UNKNOWN_MEMBER_ID);
    let elsewhere = ConsumerGroupHeartbeatRequest { group_id: "h".into(), ..a.request() };
    assert_eq!(rig.send_beat(&elsewhere).error_code, ErrorCode::GROUP_ID_NOT_FOUND);
}

#[test]
fn requests_that_say_too_little_are_refused() {
    let rig = rig(1);
    let a = Member::of("a", &["t"]).request();
    let check = |request: ConsumerGroupHeartbeatRequest| {
        let answer = rig.send_beat(&request);
        assert!(answer.error_message.is_some() && answer.assignment.is_none(), "{answer:?}");
        answer.error_code
    };
    let invalid = ErrorCode::INVALID_REQUEST;
    assert_eq!(check(ConsumerGroupHeartbeatRequest { group_id: Str::default(), ..a.clone() }), invalid);
    assert_eq!(check(ConsumerGroupHeartbeatRequest { member_id: Str::default(), ..a.clone() }), invalid);
    assert_eq!(check(ConsumerGroupHeartbeatRequest { instance_id: Some("".into()), ..a.clone() }), invalid);
    assert_eq!(check(ConsumerGroupHeartbeatRequest { rack_id: Some(" ".into()), ..a.clone() }), invalid);
    assert_eq!(check(ConsumerGroupHeartbeatRequest { rebalance_timeout_ms: -1, ..a.clone() }), invalid);
    assert_eq!(check(ConsumerGroupHeartbeatRequest { topic_partitions: None, ..a.clone() }), invalid);
    assert_eq!(check(ConsumerGroupHeartbeatRequest { subscribed_topic_names: None, ..a.clone() }), invalid);
    assert_eq!(check(ConsumerGroupHeartbeatRequest { member_epoch: -2, ..a.clone() }), invalid);
    assert_eq!(check(ConsumerGroupHeartbeatRequest { member_epoch: -3, ..a.clone() }), invalid);
    let unknown = ConsumerGroupHeartbeatRequest { server_assignor: Some("best".into()), ..a.clone() };
    assert_eq!(check(unknown), ErrorCode::UNSUPPORTED_ASSIGNOR);
    let request = ConsumerGroupHeartbeatRequest { subscribed_topic_regex: Some("(".into()), ..a.clone() };
    assert_eq!(check(request), ErrorCode::INVALID_REGULAR_EXPRESSION);
    assert!(rig.ask(1, 5, &ListGroupsRequest::default()).groups.is_empty(), "no group was made");
    // In version 0 the coordinator chooses the id.
    let request = ConsumerGroupHeartbeatRequest { member_id: Str::default(), ..a };
    let answer = rig.ask(1, 0, &request);
    assert_eq!((answer.error_code, answer.member_id.map(|id| id.len())), (ErrorCode::NONE, Some(22)));
}

#[test]
fn a_static_member_that_leaves_for_a_while_finds_its_partitions() {
    let mut rig = rig(4);
    let mut a = Member { instance: Some("i".into()), ..Member::of("a", &["t"]) };
    let mut b = Member::of("b", &["t"]);
    rig.settle(&mut [&mut a, &mut b]);
    let mine = a.assigned.clone();
    // Another process of that name must wait until this one has left.
    let mut c = Member { instance: Some("i".into()), ..Member::of("c", &["t"]) };
    assert_eq!(rig.beat(&mut c), ErrorCode::UNRELEASED_INSTANCE_ID);
    assert_eq!(rig.leave_with(&a, -2), ErrorCode::NONE);
    assert_eq!(rig.beat(&mut c), ErrorCode::NONE);
    assert_eq!((c.epoch, &c.assigned), (3, &mine));
    assert_eq!(rig.beat(&mut a), ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(rig.leave_with(&a, -2), ErrorCode::FENCED_INSTANCE_ID);
    rig.settle(&mut [&mut b, &mut c]);
    assert_eq!((b.epoch, b.count()), (3, 2), "nobody else noticed");
    // One that stays away too long is gone.
    assert_eq!(rig.leave_with(&c, -2), ErrorCode::NONE);
    live_through(&mut rig, SESSION - Duration::from_secs(1));
    rig.beat(&mut b);
    live_through(&mut rig, Duration::from_secs(2));
    rig.settle(&mut [&mut b]);
    assert_eq!(b.count(), 4);
    let stranger = Member { epoch: 3, ..c };
    assert_eq!(rig.leave_with(&stranger, 3), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn topics_that_come_grow_and_go_change_the_assignment() {
    let rig = rig(2);
    let mut a = Member::of("a", &["t", "u"]);
    rig.beat(&mut a);
    assert_eq!((a.epoch, a.count()), (2, 2));
    rig.create("other", 1, &[]);
    rig.beat(&mut a);
    assert_eq!(a.epoch, 2, "nobody subscribes to it");
    rig.create("u", 3, &[]);
    rig.beat(&mut a);
    assert_eq!((a.epoch, a.count()), (3, 5));
    let topic = CreatePartitionsTopic { name: "t".into(), count: 4, assignments: None, ..Default::default() };
    let request = CreatePartitionsRequest { topics: vec![topic], ..Default::default() };
    assert_eq!(rig.ask(1, 3, &request).results[0].error_code, ErrorCode::NONE);
    rig.beat(&mut a);
    assert_eq!((a.epoch, a.count()), (4, 7));
    let request = DeleteTopicsRequest { topic_names: vec!["u".into()], ..Default::default() };
    assert_eq!(rig.ask(1, 5, &request).responses[0].error_code, ErrorCode::NONE);
    rig.settle(&mut [&mut a]);
    assert_eq!((a.epoch, a.count()), (5, 4));
}

#[test]
fn the_range_assignor_gives_the_same_partitions_of_each_topic_if_most_ask_for_it() {
    let rig = rig(5);
    rig.create("u", 5, &[]);
    let (mut a, mut b) = (Member::of("a", &["t", "u"]), Member::of("b", &["t", "u"]));
    let join = |member: &mut Member| {
        let request =
            ConsumerGroupHeartbeatRequest { server_assignor: Some("range".into()), ..member.request() };
        member.epoch = rig.send_beat(&request).member_epoch;
    };
    join(&mut a);
    join(&mut b);
    rig.settle(&mut [&mut a, &mut b]);
    let sorted = |member: &Member| member.assigned.values().cloned().collect::<Vec<_>>();
    assert_eq!(sorted(&a), [BTreeSet::from([0, 1, 2]), BTreeSet::from([0, 1, 2])]);
    assert_eq!(sorted(&b), [BTreeSet::from([3, 4]), BTreeSet::from([3, 4])]);
    assert_eq!(rig.describe_consumer().assignor_name, "range");
}

#[test]
fn members_with_different_subscriptions_are_balanced() {
    let rig = rig(6);
    rig.create("u", 3, &[]);
    let (mut a, mut b, mut c) =
        (Member::of("a", &["t"]), Member::of("b", &["t", "u"]), Member::of("c", &["u"]));
    rig.settle(&mut [&mut a, &mut b, &mut c]);
    // Within each topic nobody has two more than another, as Kafka has it.
    assert_eq!((a.count(), b.count(), c.count()), (4, 3, 2));
    assert!(a.assigned.contains_key(&rig.topic_id("t")) && a.assigned.len() == 1);
    assert!(c.assigned.contains_key(&rig.topic_id("u")) && c.assigned.len() == 1);
    // A new subscription gives up the old topic at once.
    let request =
        ConsumerGroupHeartbeatRequest { subscribed_topic_names: Some(vec!["u".into()]), ..a.request() };
    let answer = rig.send_beat(&request);
    assert_eq!(answer.assignment.map(|assignment| assignment.topic_partitions.len()), Some(0));
}

#[test]
fn patterns_are_resolved_after_the_heartbeat_and_when_topics_come() {
    let mut rig = Rig::new(1);
    ["orders-1", "orders-2", "bills"].iter().for_each(|name| rig.create(name, 1, &[]));
    let mut a = Member::matching("a", "orders-.*");
    rig.beat(&mut a);
    // The topics are looked up beside the heartbeat, as in Kafka.
    assert_eq!((a.epoch, a.count()), (1, 0));
    live_through(&mut rig, Duration::ZERO);
    rig.beat(&mut a);
    assert_eq!((a.epoch, a.count()), (2, 2));
    // New topics are looked for at most every ten seconds.
    rig.create("orders-3", 1, &[]);
    rig.beat(&mut a);
    live_through(&mut rig, Duration::from_secs(1));
    rig.beat(&mut a);
    assert_eq!(a.count(), 2);
    live_through(&mut rig, Duration::from_secs(10));
    rig.beat(&mut a);
    live_through(&mut rig, Duration::ZERO);
    rig.beat(&mut a);
    assert_eq!((a.epoch, a.count()), (3, 3));
    assert_eq!(rig.describe_consumer().members[0].subscribed_topic_regex.as_deref(), Some("orders-.*"));
    // A pattern that another member has is known already.
    let mut b = Member::matching("b", "orders-.*");
    rig.settle(&mut [&mut a, &mut b]);
    assert_eq!(a.count() + b.count(), 3);
    // Names beside a pattern add up.
    let mut c = Member { topics: vec!["bills".into()], ..Member::matching("c", "orders-1") };
    live_through(&mut rig, Duration::from_secs(11));
    rig.settle(&mut [&mut a, &mut b, &mut c]);
    live_through(&mut rig, Duration::ZERO);
    rig.settle(&mut [&mut a, &mut b, &mut c]);
    assert_eq!(a.count() + b.count() + c.count(), 4);
    assert!(c.assigned.contains_key(&rig.topic_id("bills")));
}

#[test]
fn commits_carry_the_members_epoch() {
    let rig = rig(4);
    let (mut a, mut b) = (Member::of("a", &["t"]), Member::of("b", &["t"]));
    rig.settle(&mut [&mut a, &mut b]);
    let (mine, others) = (a.all()[0].1, b.all()[0].1);
    for version in 9..=10 {
        assert_eq!(rig.commit_as(version, &a, 3, mine), ErrorCode::NONE);
        // Partitions that it has kept since then (KIP-1251).
        assert_eq!(rig.commit_as(version, &a, 2, mine), ErrorCode::NONE);
        assert_eq!(rig.commit_as(version, &a, 2, others), ErrorCode::STALE_MEMBER_EPOCH);
        assert_eq!(rig.commit_as(version, &a, 4, mine), ErrorCode::STALE_MEMBER_EPOCH);
        assert_eq!(rig.commit_as(version, &Member::of("c", &[]), 3, mine), ErrorCode::UNKNOWN_MEMBER_ID);
        assert_eq!(rig.commit_as(version, &Member::default(), -1, mine), ErrorCode::UNKNOWN_MEMBER_ID);
    }
    assert_eq!(rig.commit_as(8, &a, 3, mine), ErrorCode::UNSUPPORTED_VERSION);
    let fetch = |member_id: Option<Str>, member_epoch| {
        let topics = vec![OffsetFetchRequestTopics {
            name: "t".into(),
            partition_indexes: vec![mine],
            ..Default::default()
        }];
        let group = OffsetFetchRequestGroup {
            group_id: "g".into(),
            member_id,
            member_epoch,
            topics: Some(topics),
            ..Default::default()
        };
        let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
        let group = rig.ask(1, 9, &request).groups.remove(0);
        (group.error_code, group.topics.first().map(|topic| topic.partitions[0].committed_offset))
    };
    assert_eq!(fetch(None, -1), (ErrorCode::NONE, Some(1)));
    assert_eq!(fetch(Some("a".into()), 3), (ErrorCode::NONE, Some(1)));
    assert_eq!(fetch(Some("a".into()), 2), (ErrorCode::STALE_MEMBER_EPOCH, None));
    assert_eq!(fetch(Some("c".into()), 3), (ErrorCode::UNKNOWN_MEMBER_ID, None));
    // Offsets in use cannot be deleted.
    let partitions = vec![OffsetDeleteRequestPartition { partition_index: mine }];
    let topics = vec![OffsetDeleteRequestTopic { name: "t".into(), partitions }];
    let request = OffsetDeleteRequest { group_id: "g".into(), topics };
    let code = rig.ask(1, 0, &request).topics[0].partitions[0].error_code;
    assert_eq!(code, ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC);
    rig.leave_with(&a, -1);
    rig.leave_with(&b, -1);
    assert_eq!(rig.commit_as(9, &Member::default(), -1, mine), ErrorCode::NONE, "an administrator");
}

#[test]
fn groups_are_listed_with_their_type_and_deleted_when_they_are_empty() {
    let rig = rig(1);
    let mut a = Member::of("a", &["t"]);
    rig.beat(&mut a);
    let listed = |request: ListGroupsRequest| {
        let groups = rig.ask(1, 5, &request).groups;
        groups
            .iter()
            .map(|group| format!("{} {} {}", group.group_type, group.protocol_type, group.group_state))
            .collect::<Vec<_>>()
    };
    assert_eq!(listed(ListGroupsRequest::default()), ["consumer consumer Stable"]);
    let of_type = |kind: &str| ListGroupsRequest { types_filter: vec![kind.into()], ..Default::default() };
    assert_eq!((listed(of_type("Consumer")).len(), listed(of_type("classic")).len()), (1, 0));
    // DescribeGroups knows classic groups only.
    assert_eq!(rig.state(), "Dead");
    let delete = || {
        let request = DeleteGroupsRequest { groups_names: vec!["g".into()], ..Default::default() };
        rig.ask(1, 2, &request).results[0].error_code
    };
    assert_eq!(delete(), ErrorCode::NON_EMPTY_GROUP);
    rig.leave_with(&a, -1);
    assert_eq!(delete(), ErrorCode::NONE);
    assert_eq!(rig.describe_consumer().error_code, ErrorCode::GROUP_ID_NOT_FOUND);
}

#[test]
fn a_group_has_no_more_members_than_are_allowed() {
    let rig = Rig::with(Broker::builder().group_consumer_members_max(1));
    rig.create("t", 1, &[]);
    let mut a = Member { instance: Some("i".into()), ..Member::of("a", &["t"]) };
    assert_eq!(rig.beat(&mut a), ErrorCode::NONE);
    assert_eq!(rig.beat(&mut Member::of("b", &["t"])), ErrorCode::GROUP_MAX_SIZE_REACHED);
    rig.leave_with(&a, -2);
    let mut back = Member { instance: Some("i".into()), ..Member::of("c", &["t"]) };
    assert_eq!(rig.beat(&mut back), ErrorCode::NONE, "it takes its own place");
}

#[test]
fn a_group_that_moves_goes_on_elsewhere() {
    let mut rig = Rig::with(Builder::nodes(Broker::builder(), 2));
    rig.create("t", 2, &[]);
    rig.machine.move_coordinator("g", 1).expect("moves");
    let mut a = Member::of("a", &["t"]);
    rig.beat(&mut a);
    rig.machine.move_coordinator("g", 2).expect("moves");
    assert_eq!(rig.cling(&mut a), ErrorCode::NOT_COORDINATOR);
    let answer = rig.ask(2, 1, &a.request());
    assert_eq!((answer.error_code, answer.member_epoch), (ErrorCode::NONE, a.epoch));
    live_through(&mut rig, SESSION + Duration::from_secs(1));
    assert_eq!(
        rig.ask(2, 1, &a.request()).error_code,
        ErrorCode::UNKNOWN_MEMBER_ID,
        "its session began anew"
    );
}

#[test]
fn assignments_wait_for_their_interval() {
    let mut rig = Rig::with(Broker::builder().group_consumer_assignment_interval(Duration::from_secs(1)));
    rig.create("t", 2, &[]);
    let (mut a, mut b) = (Member::of("a", &["t"]), Member::of("b", &["t"]));
    rig.beat(&mut a);
    rig.beat(&mut b);
    assert_eq!((b.epoch, b.count(), rig.consumer_state()), (2, 0, "Assigning".to_owned()));
    live_through(&mut rig, Duration::from_secs(1));
    rig.settle(&mut [&mut a, &mut b]);
    assert_eq!((a.epoch, a.count(), b.epoch, b.count()), (3, 1, 3, 1));
}
