//! Group requests of the classic protocol and the offsets of groups: the codes for everything that can be wrong, and what
//! members are told.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use milena_interop::raw::Raw;
use milena_messages::delete_groups::DeleteGroupsRequest;
use milena_messages::describe_groups::DescribeGroupsRequest;
use milena_messages::heartbeat::HeartbeatRequest;
use milena_messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use milena_messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use milena_messages::list_groups::ListGroupsRequest;
use milena_messages::metadata::{MetadataRequest, MetadataRequestTopic};
use milena_messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetCommitResponsePartition,
};
use milena_messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use milena_messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    OffsetFetchResponsePartitions,
};
use milena_messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse};
use milena_messages::{ErrorCode, Request};
use milena_wire::{Str, Uuid};

use super::{Asker, compare};

/// A script about one group. Ids differ from broker to broker, so its notes have names for them.
pub(super) struct Script<'a> {
    pub(super) asker: &'a mut Asker,
    pub(super) group: &'static str,
    names: BTreeMap<String, String>,
}

/// A request that waits on a connection of its own.
pub(super) struct Waiting<R: Request> {
    raw: Raw,
    version: i16,
    request: std::marker::PhantomData<R>,
}

impl<R: Request> Waiting<R> {
    pub(super) fn answer(mut self) -> R::Response {
        self.raw.answer::<R>(self.version).unwrap()
    }
}

/// A member as its own client sees it.
#[derive(Clone, Default)]
pub(super) struct Classic {
    pub(super) id: Str,
    pub(super) instance: Option<Str>,
    pub(super) generation: i32,
}

impl<'a> Script<'a> {
    pub(super) fn new(asker: &'a mut Asker, group: &'static str) -> Self {
        Self { asker, group, names: BTreeMap::new() }
    }

    /// Gives an id a name for the notes.
    pub(super) fn name(&mut self, id: &str, name: &str) {
        if !id.is_empty() {
            self.names.insert(id.to_owned(), name.to_owned());
        }
    }

    /// The notes of an answer, with names for ids.
    fn named(&self, answer: impl Debug) -> String {
        let ids = self.names.iter();
        ids.fold(format!("{answer:?}"), |text, (id, name)| text.replace(id, name))
    }

    /// The same of answers whose order follows from their ids.
    pub(super) fn sorted(&self, answers: impl Iterator<Item = impl Debug>) -> Vec<String> {
        let mut told: Vec<String> = answers.map(|answer| self.named(answer)).collect();
        told.sort();
        told
    }

    pub(super) fn say(&mut self, what: &str, answer: impl Debug) {
        let text = self.named(answer);
        self.asker.said.push(format!("{} {what}: {text}", self.group));
    }

    pub(super) fn call<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        self.asker.raw.call(request, version).unwrap()
    }

    pub(super) fn begin<R: Request>(&mut self, request: &R, version: i16) -> Waiting<R> {
        let mut raw = Raw::connect(&self.asker.bootstrap).unwrap();
        raw.send(request, version).unwrap();
        Waiting { raw, version, request: std::marker::PhantomData }
    }

    pub(super) fn topic_id(&mut self, name: &str) -> Uuid {
        let topic = MetadataRequestTopic { name: Some(name.into()), ..Default::default() };
        let request = MetadataRequest {
            topics: Some(vec![topic]),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let id = self.call(&request, 12).topics[0].topic_id;
        self.name(&id.to_string(), &format!("the id of {name}"));
        id
    }

    pub(super) fn join_request(&self, member: &Classic) -> JoinGroupRequest {
        JoinGroupRequest {
            group_id: self.group.into(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 10_000,
            member_id: member.id.clone(),
            group_instance_id: member.instance.clone(),
            protocol_type: "consumer".into(),
            protocols: protocols(&["range"]),
            ..Default::default()
        }
    }

    pub(super) fn say_joined(&mut self, what: &str, answer: &JoinGroupResponse) {
        let members = self.sorted(answer.members.iter().map(|member| &member.member_id));
        let told = (answer.generation_id, &answer.protocol_type, &answer.protocol_name, &answer.leader);
        self.say(what, (answer.error_code, told, &answer.member_id, answer.skip_assignment, members));
    }

    /// Joins at once, with the id that the coordinator gives.
    pub(super) fn join(&mut self, name: &str, member: &mut Classic) {
        let mut answer = self.call(&self.join_request(member), 9);
        if answer.error_code == ErrorCode::MEMBER_ID_REQUIRED {
            member.id = answer.member_id;
            self.name(&member.id.clone(), name);
            answer = self.call(&self.join_request(member), 9);
        }
        self.name(&answer.member_id, name);
        self.say_joined(&format!("{name} joins"), &answer);
        (member.id, member.generation) = (answer.member_id, answer.generation_id);
    }

    /// What the join that waited was answered.
    pub(super) fn joined(&mut self, name: &str, member: &mut Classic, waiting: Waiting<JoinGroupRequest>) {
        let answer = waiting.answer();
        self.name(&answer.member_id, name);
        self.say_joined(&format!("{name} has joined"), &answer);
        (member.id, member.generation) = (answer.member_id, answer.generation_id);
    }

    pub(super) fn sync_request(
        &self,
        member: &Classic,
        assignments: &[(&Classic, &[u8])],
    ) -> SyncGroupRequest {
        let assignment = |(member, bytes): &(&Classic, &[u8])| SyncGroupRequestAssignment {
            member_id: member.id.clone(),
            assignment: Bytes::copy_from_slice(bytes),
            ..Default::default()
        };
        SyncGroupRequest {
            group_id: self.group.into(),
            generation_id: member.generation,
            member_id: member.id.clone(),
            group_instance_id: member.instance.clone(),
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            assignments: assignments.iter().map(assignment).collect(),
            ..Default::default()
        }
    }

    pub(super) fn say_synced(&mut self, what: &str, answer: &SyncGroupResponse) {
        self.say(what, (answer.error_code, &answer.protocol_type, &answer.protocol_name, &answer.assignment));
    }

    pub(super) fn sync(&mut self, what: &str, request: &SyncGroupRequest) {
        let answer = self.call(request, 5);
        self.say_synced(what, &answer);
    }

    pub(super) fn heartbeat(&mut self, what: &str, member: &Classic) {
        let request = HeartbeatRequest {
            group_id: self.group.into(),
            generation_id: member.generation,
            member_id: member.id.clone(),
            group_instance_id: member.instance.clone(),
            ..Default::default()
        };
        let code = self.call(&request, 4).error_code;
        self.say(&format!("heartbeat {what}"), code);
    }

    pub(super) fn leave(&mut self, what: &str, members: &[&Classic]) {
        let identity = |member: &&Classic| MemberIdentity {
            member_id: member.id.clone(),
            group_instance_id: member.instance.clone(),
            ..Default::default()
        };
        let members = members.iter().map(identity).collect();
        let request = LeaveGroupRequest { group_id: self.group.into(), members, ..Default::default() };
        let answer = self.call(&request, 5);
        let codes: Vec<_> = answer
            .members
            .iter()
            .map(|member| (&member.member_id, &member.group_instance_id, member.error_code))
            .collect();
        self.say(&format!("leave {what}"), (answer.error_code, codes));
    }

    pub(super) fn commit(&mut self, what: &str, member: &Classic, version: i16) {
        self.commit_to(what, member, version, &[("offsets", 0, "m")]);
    }

    pub(super) fn commit_to(
        &mut self,
        what: &str,
        member: &Classic,
        version: i16,
        partitions: &[(&str, i32, &str)],
    ) {
        let mut topics = Vec::new();
        for (topic, partition_index, metadata) in partitions {
            let topic_id = if version < 10 { Uuid::ZERO } else { self.topic_id(topic) };
            let partition = OffsetCommitRequestPartition {
                partition_index: *partition_index,
                committed_offset: 7,
                committed_leader_epoch: if version < 6 { -1 } else { 3 },
                committed_metadata: Some((*metadata).into()),
                ..Default::default()
            };
            topics.push(OffsetCommitRequestTopic {
                name: if version < 10 { (*topic).into() } else { Str::default() },
                topic_id,
                partitions: vec![partition],
                ..Default::default()
            });
        }
        let request = OffsetCommitRequest {
            group_id: self.group.into(),
            generation_id_or_member_epoch: member.generation,
            member_id: member.id.clone(),
            group_instance_id: member.instance.clone().filter(|_| version >= 7),
            topics,
            ..Default::default()
        };
        let answer = self.call(&request, version);
        // Kafka answers a topic that is named twice once.
        let codes = answer.topics.iter().flat_map(|topic| {
            let told = |partition: &OffsetCommitResponsePartition| {
                (
                    topic.name.clone(),
                    topic.topic_id.to_string(),
                    partition.partition_index,
                    partition.error_code,
                )
            };
            topic.partitions.iter().map(told).collect::<Vec<_>>()
        });
        let codes = self.sorted(codes);
        self.say(&format!("commit {what}, version {version}"), codes);
    }

    pub(super) fn fetch(
        &mut self,
        what: &str,
        member: Option<(&Classic, i32)>,
        topics: Option<&[(&str, &[i32])]>,
        version: i16,
    ) {
        let topics = topics.map(|topics| {
            let mut wanted = Vec::new();
            for (topic, partitions) in topics {
                let topic_id = if version < 10 { Uuid::ZERO } else { self.topic_id(topic) };
                wanted.push(OffsetFetchRequestTopics {
                    name: if version < 10 { (*topic).into() } else { Str::default() },
                    topic_id,
                    partition_indexes: partitions.to_vec(),
                    ..Default::default()
                });
            }
            wanted
        });
        let group = OffsetFetchRequestGroup {
            group_id: self.group.into(),
            member_id: member.map(|(member, _)| member.id.clone()),
            member_epoch: member.map_or(-1, |(_, epoch)| epoch),
            topics,
            ..Default::default()
        };
        let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
        let answer = self.call(&request, version);
        let group = &answer.groups[0];
        let told = group.topics.iter().map(|topic| {
            let told = |partition: &OffsetFetchResponsePartitions| {
                let offset = (partition.committed_offset, partition.committed_leader_epoch);
                (partition.partition_index, offset, partition.metadata.clone(), partition.error_code)
            };
            let mut partitions: Vec<_> = topic.partitions.iter().map(told).collect();
            partitions.sort_by_key(|partition| partition.0);
            format!("{} {} {partitions:?}", topic.name, topic.topic_id)
        });
        let told = self.sorted(told);
        self.say(&format!("fetch {what}, version {version}"), (group.error_code, told));
    }

    pub(super) fn describe(&mut self, what: &str, version: i16) {
        let request = DescribeGroupsRequest {
            groups: vec![self.group.into()],
            include_authorized_operations: version == 6,
            ..Default::default()
        };
        let group = self.call(&request, version).groups.remove(0);
        let members = group.members.iter().map(|member| {
            let bytes = (member.member_metadata.len(), &member.member_assignment);
            let who = (&member.member_id, &member.group_instance_id, &member.client_id, &member.client_host);
            (who, bytes)
        });
        let members = self.sorted(members);
        let told = (group.group_state, group.protocol_type, group.protocol_data, group.authorized_operations);
        self.say(
            &format!("describe {what}, version {version}"),
            (group.error_code, group.error_message.is_some(), told, members),
        );
    }

    pub(super) fn listed(&mut self, what: &str, states: &[&str], types: &[&str]) {
        let request = ListGroupsRequest {
            states_filter: states.iter().map(|state| Str::from(*state)).collect(),
            types_filter: types.iter().map(|kind| Str::from(*kind)).collect(),
            ..Default::default()
        };
        let answer = self.call(&request, 5);
        let found = answer.groups.iter().find(|group| group.group_id == self.group);
        let told = found
            .map(|group| (group.protocol_type.clone(), group.group_state.clone(), group.group_type.clone()));
        self.say(&format!("list {what}"), (answer.error_code, told));
    }

    pub(super) fn delete(&mut self, what: &str) {
        let request = DeleteGroupsRequest { groups_names: vec![self.group.into()], ..Default::default() };
        let answer = self.call(&request, 3).results.remove(0);
        self.say(&format!("delete {what}"), (answer.error_code, answer.error_message.is_some()));
    }

    pub(super) fn delete_offsets(&mut self, what: &str, topic: &str, partitions: &[i32]) {
        let partition = |partition: &i32| OffsetDeleteRequestPartition { partition_index: *partition };
        let topic = OffsetDeleteRequestTopic {
            name: topic.into(),
            partitions: partitions.iter().map(partition).collect(),
        };
        let request = OffsetDeleteRequest { group_id: self.group.into(), topics: vec![topic] };
        let answer = self.call(&request, 0);
        let mut codes: Vec<_> = answer
            .topics
            .iter()
            .flat_map(|topic| &topic.partitions)
            .map(|partition| (partition.partition_index, partition.error_code))
            .collect();
        codes.sort_by_key(|code| code.0);
        self.say(&format!("delete offsets {what}"), (answer.error_code, codes));
    }
}

/// Subscriptions to the topic `offsets`.
pub(super) fn protocols(names: &[&str]) -> Vec<JoinGroupRequestProtocol> {
    let protocol = |name: &&str| JoinGroupRequestProtocol {
        name: (*name).into(),
        metadata: Bytes::from_static(b"\0\0\0\0\0\x01\0\x07offsets\xff\xff\xff\xff"),
        ..Default::default()
    };
    names.iter().map(protocol).collect()
}

/// A topic that another script may have made before.
pub(super) fn ensure_topic(asker: &mut Asker, topic: &str, partitions: i32) {
    static MAKING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let wanted = MetadataRequestTopic { name: Some(topic.into()), ..Default::default() };
    let request = MetadataRequest {
        topics: Some(vec![wanted]),
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    if asker.raw.call(&request, 12).unwrap().topics[0].error_code != ErrorCode::NONE {
        asker.create(topic, partitions);
    }
}

/// Waits until the coordinator is there: real Kafka makes its topic when somebody asks for it.
pub(super) fn await_coordinator(asker: &mut Asker) {
    let started = Instant::now();
    loop {
        let request = milena_messages::find_coordinator::FindCoordinatorRequest {
            coordinator_keys: vec!["g".into()],
            ..Default::default()
        };
        let found = asker.raw.call(&request, 6).unwrap();
        let request = DescribeGroupsRequest { groups: vec!["g".into()], ..Default::default() };
        let described = asker.raw.call(&request, 5).unwrap();
        if found.coordinators[0].error_code.is_none() && described.groups[0].error_code.is_none() {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "no coordinator");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn joins_are_refused_for_the_same_reasons() {
    compare(|asker| {
        await_coordinator(asker);
        let mut script = Script::new(asker, "refused-joins");
        let nobody = Classic::default();
        let plain = script.join_request(&nobody);
        let unknown = Classic { id: "unknown".into(), ..Classic::default() };
        let joins = [
            ("without a group", JoinGroupRequest { group_id: Str::default(), ..plain.clone() }),
            ("with a short session", JoinGroupRequest { session_timeout_ms: 5999, ..plain.clone() }),
            ("with a long session", JoinGroupRequest { session_timeout_ms: 1_800_001, ..plain.clone() }),
            ("as an unknown member of no group", script.join_request(&unknown)),
            ("with no protocols", JoinGroupRequest { protocols: Vec::new(), ..plain.clone() }),
            ("with no protocol type", JoinGroupRequest { protocol_type: Str::default(), ..plain.clone() }),
        ];
        for (what, request) in joins {
            for version in [3, 4, 7, 9] {
                let answer = script.call(&request, version);
                script.say_joined(&format!("join {what}, version {version}"), &answer);
            }
        }
        script.describe("what is left of it", 6);
        let mut a = Classic::default();
        script.join("a", &mut a);
        script.sync("a syncs", &script.sync_request(&a, &[(&a, b"mine")]));
        let joins = [
            ("as an unknown member", script.join_request(&unknown)),
            ("with another protocol", JoinGroupRequest { protocols: protocols(&["other"]), ..plain.clone() }),
            ("with another type", JoinGroupRequest { protocol_type: "connect".into(), ..plain.clone() }),
            ("with no protocols", JoinGroupRequest { protocols: Vec::new(), ..plain }),
            (
                "as an unknown static member",
                script.join_request(&Classic { instance: Some("i".into()), ..unknown }),
            ),
        ];
        for (what, request) in joins {
            let answer = script.call(&request, 9);
            script.say_joined(&format!("join a stable group {what}"), &answer);
        }
    });
}

#[test]
fn members_of_a_classic_group_are_told_the_same() {
    compare(|asker| {
        await_coordinator(asker);
        ensure_topic(asker, "offsets", 3);
        let mut script = Script::new(asker, "classic");
        let (mut a, mut b) = (Classic::default(), Classic::default());
        let (stranger, nobody) =
            (Classic { id: "stranger".into(), ..Classic::default() }, Classic::default());
        script.heartbeat("of no group", &a);
        script.sync("sync of no group", &script.sync_request(&a, &[]));
        script.leave("no group", &[&stranger]);
        script.describe("no group", 5);
        script.describe("no group", 6);
        script.delete("no group");
        script.delete_offsets("of no group", "offsets", &[0]);
        script.join("a", &mut a);
        script.describe("while it waits for assignments", 5);
        script.heartbeat("before the sync", &a);
        script.commit("before the sync", &a, 9);
        let later = Classic { generation: a.generation + 1, ..a.clone() };
        script.sync("sync of a later generation", &script.sync_request(&later, &[]));
        script.sync("sync of a stranger", &script.sync_request(&stranger, &[]));
        let other = SyncGroupRequest { protocol_name: Some("other".into()), ..script.sync_request(&a, &[]) };
        script.sync("sync with another protocol", &other);
        let other = SyncGroupRequest { protocol_type: Some("other".into()), ..script.sync_request(&a, &[]) };
        script.sync("sync with another type", &other);
        script.sync("a syncs", &script.sync_request(&a, &[(&a, b"mine")]));
        script.sync("a syncs again", &script.sync_request(&a, &[(&a, b"other")]));
        script.describe("stable", 5);
        script.describe("stable", 6);
        for (what, member) in [
            ("of a member", a.clone()),
            ("of a stranger", stranger.clone()),
            ("of nobody", nobody.clone()),
            ("of a later generation", later),
            ("of an unknown instance", Classic { instance: Some("i".into()), ..a.clone() }),
        ] {
            script.heartbeat(what, &member);
            script.commit(what, &member, 7);
            script.commit(what, &member, 9);
            script.commit(what, &member, 10);
        }
        script.commit("of an administrator", &Classic { generation: -1, ..nobody.clone() }, 9);
        script.delete("a group with members");
        script.delete_offsets("that are in use", "offsets", &[0, 9]);
        // A second member: the first one is told to join again.
        let first = script.call(&script.join_request(&b), 9);
        b.id = first.member_id;
        script.name(&b.id.clone(), "b");
        let waiting = script.begin(&script.join_request(&b), 9);
        wait_for(&mut script, "PreparingRebalance");
        script.describe("preparing", 5);
        script.heartbeat("while a rebalance is prepared", &a);
        script.commit("while a rebalance is prepared", &a, 9);
        script.sync("sync while a rebalance is prepared", &script.sync_request(&a, &[]));
        let again = script.begin(&script.join_request(&a), 9);
        script.joined("a", &mut a, again);
        script.joined("b", &mut b, waiting);
        let waiting = script.begin(&script.sync_request(&b, &[]), 5);
        script.sync("a syncs for both", &script.sync_request(&a, &[(&a, b"for a"), (&b, b"for b")]));
        let answer = waiting.answer();
        script.say_synced("b has synced", &answer);
        // A follower that joins again with the same protocols is told what it knows.
        let answer = script.call(&script.join_request(&b), 9);
        script.say_joined("b joins again", &answer);
        script.leave("of two, one a stranger", &[&b, &stranger]);
        script.heartbeat("after another left", &a);
        script.leave("again", &[&b]);
        let mut alone = a.clone();
        script.join("a", &mut alone);
        script.sync("a syncs alone", &script.sync_request(&alone, &[(&alone, b"all")]));
        script.leave("of the last", &[&alone]);
        script.describe("empty", 5);
        script.heartbeat("of a group without members", &alone);
        script.commit("to a group without members", &alone, 9);
        script.commit(
            "of an administrator to a group without members",
            &Classic { generation: -1, ..nobody },
            9,
        );
        script.delete_offsets("of an empty group", "offsets", &[0, 1, 9]);
        script.delete("an empty group");
        script.describe("after the end", 6);
    });
}

/// Waits until the group is in a state.
pub(super) fn wait_for(script: &mut Script<'_>, state: &str) {
    let started = Instant::now();
    loop {
        let request = DescribeGroupsRequest { groups: vec![script.group.into()], ..Default::default() };
        if script.call(&request, 5).groups[0].group_state == state {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "never {state}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn static_members_are_told_the_same() {
    compare(|asker| {
        await_coordinator(asker);
        ensure_topic(asker, "offsets", 3);
        let mut script = Script::new(asker, "static");
        let named = |instance: &str| Classic { instance: Some(instance.into()), ..Classic::default() };
        let mut a = named("i");
        script.join("a", &mut a);
        script.sync("a syncs", &script.sync_request(&a, &[(&a, b"mine")]));
        script.describe("stable", 6);
        // It comes back under a new id, and the old one is fenced.
        for version in [8, 9] {
            let answer = script.call(&script.join_request(&named("i")), version);
            script.name(&answer.member_id, &format!("a of version {version}"));
            script.say_joined(&format!("a comes back, version {version}"), &answer);
            script.heartbeat("of the old id", &a);
            script.commit("of the old id", &a, 9);
            script.sync("sync of the old id", &script.sync_request(&a, &[]));
            let answer = script.call(&script.join_request(&a), 9);
            script.say_joined("join of the old id", &answer);
            script.leave("of the old id", &[&a]);
        }
        script.leave("of an unknown instance", &[&named("j")]);
        script.leave("by instance", &[&named("i")]);
        script.describe("after it left", 5);
    });
}

#[test]
fn offsets_are_fetched_and_committed_alike() {
    compare(|asker| {
        await_coordinator(asker);
        ensure_topic(asker, "offsets", 3);
        ensure_topic(asker, "others", 2);
        let mut script = Script::new(asker, "simple");
        script.topic_id("others");
        let nobody = Classic { generation: -1, ..Classic::default() };
        script.fetch("of no group", None, None, 9);
        script.fetch("of no group", None, Some(&[("offsets", &[0])]), 9);
        for version in [2, 8, 9, 10] {
            let member = Classic { id: "m".into(), generation: 3, ..Classic::default() };
            script.commit("of a member of no group", &member, version);
        }
        script.listed("after refused commits", &[], &[]);
        for version in [2, 5, 9, 10] {
            script.commit("of nobody", &nobody, version);
        }
        script.listed("a simple group", &[], &[]);
        script.listed("an empty group", &["empty"], &["Classic"]);
        script.listed("other groups", &["Stable"], &[]);
        script.listed("groups of other types", &[], &["consumer"]);
        script.listed("groups of no type", &[], &["x"]);
        script.describe("a simple group", 6);
        let long = "x".repeat(4097);
        let partitions = [
            ("offsets", 0, "é"),
            ("offsets", 1, long.as_str()),
            ("offsets", 9, ""),
            ("nowhere", 0, ""),
            ("others", 1, ""),
        ];
        script.commit_to("of many", &nobody, 9, &partitions);
        script.commit_to("of unknown ids", &nobody, 10, &[("nowhere", 0, ""), ("offsets", 9, "")]);
        for version in [8, 9, 10] {
            script.fetch("all", None, None, version);
            script.fetch(
                "some",
                None,
                Some(&[("offsets", &[2, 0, 9]), ("nowhere", &[0]), ("others", &[1])]),
                version,
            );
            script.fetch("nothing", None, Some(&[]), version);
        }
        let member = Classic { id: "m".into(), ..Classic::default() };
        script.fetch("as a member of a simple group", Some((&member, 5)), Some(&[("offsets", &[0])]), 9);
        // The older form of one group.
        for version in [1, 2, 5, 7] {
            let topic = OffsetFetchRequestTopic {
                name: "offsets".into(),
                partition_indexes: vec![0, 1, 9],
                ..Default::default()
            };
            let request = OffsetFetchRequest {
                group_id: "simple".into(),
                topics: Some(vec![topic]),
                ..Default::default()
            };
            let answer = script.call(&request, version);
            script.say(&format!("fetch in version {version}"), (answer.error_code, answer.topics));
        }
        for (what, group) in [("no id", ""), ("another group", "nobody-knows-it")] {
            let request = OffsetCommitRequest {
                group_id: group.into(),
                generation_id_or_member_epoch: -1,
                topics: vec![OffsetCommitRequestTopic {
                    name: "offsets".into(),
                    partitions: vec![OffsetCommitRequestPartition::default()],
                    ..Default::default()
                }],
                ..Default::default()
            };
            let answer = script.call(&request, 9);
            script.say(&format!("commit to {what}"), answer.topics[0].partitions[0].error_code);
            let group =
                OffsetFetchRequestGroup { group_id: group.into(), topics: None, ..Default::default() };
            let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
            let answer = script.call(&request, 9);
            script.say(
                &format!("fetch of {what}"),
                (answer.groups[0].error_code, answer.groups[0].topics.len()),
            );
        }
        script.delete_offsets("of a simple group", "offsets", &[0, 1, 9]);
        script.fetch("after some were deleted", None, None, 9);
        script.delete("a simple group");
        script.fetch("after the end", None, None, 9);
        for group in ["", "g"] {
            let request = DescribeGroupsRequest { groups: vec![group.into()], ..Default::default() };
            let code = script.call(&request, 6).groups[0].error_code;
            script.say(&format!("describe {group:?}"), code);
            let request = DeleteGroupsRequest { groups_names: vec![group.into()], ..Default::default() };
            let code = script.call(&request, 2).results[0].error_code;
            script.say(&format!("delete {group:?}"), code);
            let request = HeartbeatRequest { group_id: group.into(), ..Default::default() };
            let code = script.call(&request, 4).error_code;
            script.say(&format!("heartbeat {group:?}"), code);
            let request = LeaveGroupRequest { group_id: group.into(), ..Default::default() };
            let code = script.call(&request, 5).error_code;
            script.say(&format!("leave {group:?}"), code);
            let request = SyncGroupRequest { group_id: group.into(), ..Default::default() };
            let code = script.call(&request, 3).error_code;
            script.say(&format!("sync {group:?}"), code);
            let request = OffsetDeleteRequest { group_id: group.into(), topics: Vec::new() };
            let code = script.call(&request, 0).error_code;
            script.say(&format!("delete offsets of {group:?}"), code);
        }
    });
}
