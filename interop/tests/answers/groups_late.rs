//! Members of the classic protocol that come too late or under another's name, and requests in old versions or with odd fields.

use std::time::Duration;

use bytes::Bytes;
use milena_messages::delete_groups::DeleteGroupsRequest;
use milena_messages::describe_groups::DescribeGroupsRequest;
use milena_messages::heartbeat::HeartbeatRequest;
use milena_messages::join_group::JoinGroupRequest;
use milena_messages::leave_group::LeaveGroupRequest;
use milena_messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use milena_messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use milena_messages::sync_group::SyncGroupRequest;
use milena_wire::Str;

use super::compare;
use super::groups::{Classic, Script, await_coordinator, ensure_topic, protocols, wait_for};

const SHORT: i32 = 1_500;

/// A join of a member that has little time for a rebalance.
fn hurried(script: &Script<'_>, member: &Classic) -> JoinGroupRequest {
    JoinGroupRequest { rebalance_timeout_ms: SHORT, ..script.join_request(member) }
}

/// Gets an id, and joins with it on a connection of its own.
fn come(
    script: &mut Script<'_>,
    name: &str,
    member: &mut Classic,
) -> super::groups::Waiting<JoinGroupRequest> {
    let answer = script.call(&hurried(script, member), 9);
    member.id = answer.member_id;
    script.name(&member.id.clone(), name);
    script.begin(&hurried(script, member), 9)
}

/// Two members that have joined and not synced. The first one leads.
fn pair(script: &mut Script<'_>) -> (Classic, Classic) {
    let (mut a, mut b) = (Classic::default(), Classic::default());
    let first = come(script, "a", &mut a);
    script.joined("a", &mut a, first);
    script.sync("a syncs", &script.sync_request(&a, &[(&a, b"mine")]));
    let second = come(script, "b", &mut b);
    wait_for(script, "PreparingRebalance");
    let again = script.begin(&hurried(script, &a), 9);
    script.joined("a", &mut a, again);
    script.joined("b", &mut b, second);
    (a, b)
}

fn say_of(script: &mut Script<'_>, what: &str, member: &Classic) {
    script.heartbeat(what, member);
    script.commit(what, member, 9);
    script.sync(&format!("sync {what}"), &script.sync_request(member, &[]));
    let answer = script.call(&script.join_request(member), 9);
    script.say_joined(&format!("join {what}"), &answer);
    script.leave(what, &[member]);
}

#[test]
fn a_member_that_does_not_join_again_is_left_behind_alike() {
    compare(|asker| {
        await_coordinator(asker);
        ensure_topic(asker, "offsets", 3);
        let mut script = Script::new(asker, "late-join");
        let (mut a, b) = pair(&mut script);
        let waiting = script.begin(&script.sync_request(&b, &[]), 5);
        script.sync("a syncs for both", &script.sync_request(&a, &[(&a, b"for a"), (&b, b"for b")]));
        let answer = waiting.answer();
        script.say_synced("b has synced", &answer);
        let mut c = Classic::default();
        let third = come(&mut script, "c", &mut c);
        wait_for(&mut script, "PreparingRebalance");
        let again = script.begin(&hurried(&script, &a), 9);
        script.joined("a", &mut a, again);
        script.joined("c", &mut c, third);
        script.describe("after b was left behind", 5);
        say_of(&mut script, "of the one that was left behind", &b);
        // c has not synced, and leaves.
        script.leave("before the sync", &[&c]);
        script.heartbeat("after c has left", &a);
        script.describe("after c has left", 5);
    });
}

#[test]
fn a_member_that_fetches_no_assignment_is_left_behind_alike() {
    compare(|asker| {
        await_coordinator(asker);
        ensure_topic(asker, "offsets", 3);
        let mut script = Script::new(asker, "late-leader");
        let (a, mut b) = pair(&mut script);
        // The leader brings nothing.
        let waiting = script.begin(&script.sync_request(&b, &[]), 5);
        script.describe("before the leader has assigned", 5);
        let answer = waiting.answer();
        script.say_synced("b has waited for the leader", &answer);
        script.describe("after the leader was left behind", 5);
        say_of(&mut script, "of the leader that was left behind", &a);
        let again = script.begin(&hurried(&script, &b), 9);
        script.joined("b", &mut b, again);
        script.describe("after b has joined again", 5);

        let mut script = Script::new(asker, "late-follower");
        let (a, b) = pair(&mut script);
        script.sync("a syncs for both", &script.sync_request(&a, &[(&a, b"for a"), (&b, b"for b")]));
        script.describe("before b has fetched its assignment", 5);
        script.heartbeat("of one that has not fetched its assignment", &b);
        wait_for(&mut script, "PreparingRebalance");
        script.heartbeat("after b was left behind", &a);
        say_of(&mut script, "of the follower that was left behind", &b);
    });
}

#[test]
fn sessions_and_given_ids_end_alike() {
    compare(|asker| {
        await_coordinator(asker);
        ensure_topic(asker, "offsets", 3);
        let mut script = Script::new(asker, "ended-sessions");
        let session = |script: &Script<'_>, member: &Classic| JoinGroupRequest {
            session_timeout_ms: 6_000,
            ..hurried(script, member)
        };
        let (mut a, mut i) = (Classic::default(), Classic::default());
        i.instance = Some("i".into());
        let answer = script.call(&session(&script, &a), 9);
        a.id = answer.member_id;
        script.name(&a.id.clone(), "a");
        let answer = script.call(&session(&script, &a), 9);
        a.generation = answer.generation_id;
        script.say_joined("a joins", &answer);
        script.sync("a syncs", &script.sync_request(&a, &[(&a, b"mine")]));
        // A static member without an id joins at once.
        let waiting = script.begin(&session(&script, &i), 9);
        wait_for(&mut script, "PreparingRebalance");
        let again = script.begin(&session(&script, &a), 9);
        script.joined("i", &mut i, waiting);
        script.joined("a", &mut a, again);
        let waiting = script.begin(&script.sync_request(&i, &[]), 5);
        script.sync("a syncs for both", &script.sync_request(&a, &[(&a, b"for a"), (&i, b"for i")]));
        let answer = waiting.answer();
        script.say_synced("i has synced", &answer);
        // An id that is given and never used.
        let pending = script.call(&session(&script, &Classic::default()), 9).member_id;
        let pending = Classic { id: pending, ..Classic::default() };
        script.name(&pending.id.clone(), "pending");
        script.heartbeat("of a pending id", &pending);
        script.commit("of a pending id", &pending, 9);
        script.sync("sync of a pending id", &script.sync_request(&pending, &[]));
        script.describe("with a pending id", 5);
        std::thread::sleep(Duration::from_millis(6_500));
        wait_for(&mut script, "Empty");
        script.describe("after all sessions", 6);
        script.listed("after all sessions", &[], &[]);
        for (what, member) in [("a", &a), ("i", &i), ("pending", &pending)] {
            say_of(&mut script, &format!("of {what} after its session"), member);
        }
        script.commit("of an administrator", &Classic { generation: -1, ..Classic::default() }, 9);
        script.delete_offsets("after all sessions", "offsets", &[0]);
        script.delete("after all sessions");
    });
}

#[test]
fn static_members_that_conflict_are_told_the_same() {
    compare(|asker| {
        await_coordinator(asker);
        ensure_topic(asker, "offsets", 3);
        let mut script = Script::new(asker, "conflicts");
        let named = |instance: &str| Classic { instance: Some(instance.into()), ..Classic::default() };
        // Two of one name, the second while the first waits for its sync.
        let mut first = named("i");
        script.join("first", &mut first);
        let mut second = named("i");
        script.join("second", &mut second);
        script.sync("sync of the first", &script.sync_request(&first, &[(&first, b"mine")]));
        script.heartbeat("of the first", &first);
        script.sync("sync of the second", &script.sync_request(&second, &[(&second, b"mine")]));
        script.describe("stable", 6);
        // Under one id with another name, or with none.
        for (what, member) in [
            ("with another name", Classic { instance: Some("j".into()), ..second.clone() }),
            ("without its name", Classic { instance: None, ..second.clone() }),
            ("with another's id", Classic { id: "stranger".into(), ..second.clone() }),
        ] {
            script.heartbeat(what, &member);
            script.commit(what, &member, 9);
            script.sync(&format!("sync {what}"), &script.sync_request(&member, &[]));
            script.leave(what, &[&Classic { id: "x".into(), ..member.clone() }]);
        }
        // It comes back with another subscription, or with more protocols.
        let other = JoinGroupRequest {
            protocols: protocols(&["range", "roundrobin"]),
            ..script.join_request(&named("i"))
        };
        let answer = script.call(&other, 9);
        script.name(&answer.member_id, "third");
        script.say_joined("it comes back with more protocols", &answer);
        let mut changed = other.clone();
        changed.protocols[0].metadata = Bytes::from_static(b"\0\0\0\0\0\x01\0\x06others\xff\xff\xff\xff");
        let answer = script.call(&changed, 9);
        script.name(&answer.member_id, "fourth");
        script.say_joined("it comes back with another subscription", &answer);
        let mut fourth =
            Classic { id: answer.member_id.clone(), generation: answer.generation_id, ..named("i") };
        script.sync("sync of the fourth", &script.sync_request(&fourth, &[(&fourth, b"fourth")]));
        script.describe("after it has come back", 6);
        // Two of one name, the second while the first waits for its join.
        let mut b = Classic::default();
        let joining = come(&mut script, "b", &mut b);
        wait_for(&mut script, "PreparingRebalance");
        script.leave(
            "of one that joins, under a name",
            &[&Classic { instance: Some("i".into()), ..b.clone() }],
        );
        let again = script.begin(&script.join_request(&fourth), 9);
        script.joined("fourth", &mut fourth, again);
        script.joined("b", &mut b, joining);
        let mut c = Classic::default();
        let joining = come(&mut script, "c", &mut c);
        wait_for(&mut script, "PreparingRebalance");
        let waiting = script.begin(&script.join_request(&fourth), 9);
        std::thread::sleep(Duration::from_millis(300));
        let replacing = script.begin(&script.join_request(&named("i")), 9);
        let answer = waiting.answer();
        script.say_joined("the fourth has waited", &answer);
        let mut fifth = named("i");
        let again = script.begin(&script.join_request(&b), 9);
        script.joined("fifth", &mut fifth, replacing);
        script.joined("b", &mut b, again);
        script.joined("c", &mut c, joining);
        script.describe("with three members", 6);
        // Several at once, some of them twice and some unknown.
        let by_name = named("i");
        let nobody = Classic::default();
        script.leave("of many", &[&by_name, &by_name, &b, &b, &nobody, &named("j")]);
        script.describe("after many have left", 5);
        script.leave("of nobody", &[]);
        script.leave("of the last", &[&c]);
        script.describe("empty", 5);
    });
}

#[test]
fn old_versions_and_odd_fields_are_answered_alike() {
    compare(|asker| {
        await_coordinator(asker);
        ensure_topic(asker, "offsets", 3);
        for version in 0..=9 {
            let mut script = Script::new(asker, "old-versions");
            script.say("version", version);
            let mut member = Classic::default();
            let plain = script.join_request(&member);
            let plain = JoinGroupRequest {
                rebalance_timeout_ms: if version == 0 { -1 } else { plain.rebalance_timeout_ms },
                ..plain
            };
            let mut answer = script.call(&plain, version);
            if !answer.member_id.is_empty() && answer.error_code.is_none() {
                script.name(&answer.member_id, "m");
            } else {
                script.name(&answer.member_id, "m");
                script.say_joined("joins at first", &answer);
                answer = script.call(
                    &JoinGroupRequest { member_id: answer.member_id.clone(), ..plain.clone() },
                    version,
                );
            }
            script.say_joined("joins", &answer);
            (member.id, member.generation) = (answer.member_id, answer.generation_id);
            let mut request = script.sync_request(&member, &[(&member, b"mine")]);
            if version < 5 {
                (request.protocol_type, request.protocol_name) = (None, None);
            }
            let answer = script.call(&request, version.min(5));
            script.say_synced("syncs", &answer);
            let request = HeartbeatRequest {
                group_id: script.group.into(),
                generation_id: member.generation,
                member_id: member.id.clone(),
                ..Default::default()
            };
            let answer = script.call(&request, version.min(4));
            script.say("heartbeat", answer.error_code);
            script.commit("of a member", &member, version.clamp(2, 9));
            script.describe("stable", version.min(6));
            let mut request = LeaveGroupRequest { group_id: script.group.into(), ..Default::default() };
            if version < 3 {
                request.member_id = member.id.clone();
            } else {
                request.members = vec![milena_messages::leave_group::MemberIdentity {
                    member_id: member.id.clone(),
                    ..Default::default()
                }];
            }
            for _ in 0..2 {
                let answer = script.call(&request, version.min(5));
                let told: Vec<_> = answer.members.iter().map(|of| of.error_code).collect();
                script.say("leaves", (answer.error_code, told));
            }
            script.describe("empty", version.min(6));
        }
        let plain = Script::new(asker, "").join_request(&Classic::default());
        let odd = [
            ("the shortest session", JoinGroupRequest { session_timeout_ms: 6_000, ..plain.clone() }),
            ("the longest session", JoinGroupRequest { session_timeout_ms: 1_800_000, ..plain.clone() }),
            ("a session below zero", JoinGroupRequest { session_timeout_ms: -1, ..plain.clone() }),
            (
                "an empty instance id",
                JoinGroupRequest { group_instance_id: Some("".into()), ..plain.clone() },
            ),
            (
                "an odd instance id",
                JoinGroupRequest { group_instance_id: Some("../x".into()), ..plain.clone() },
            ),
            (
                "a type that is not consumer",
                JoinGroupRequest { protocol_type: "connect".into(), ..plain.clone() },
            ),
            ("garbage as metadata", {
                let mut request = plain;
                request.protocols[0].metadata = Bytes::from_static(b"\x7f\xff\xff\xff\xff");
                request
            }),
        ];
        // Each in a group of its own. A join that offers one protocol twice is not here: Kafka 4.4 never answers it.
        let groups = ["odd-0", "odd-1", "odd-2", "odd-3", "odd-4", "odd-5", "odd-6"];
        assert_eq!(odd.len(), groups.len());
        for ((what, request), group) in odd.into_iter().zip(groups) {
            let mut script = Script::new(asker, group);
            let request = JoinGroupRequest { group_id: group.into(), ..request };
            let mut answer = script.call(&request, 9);
            script.name(&answer.member_id, &format!("m with {what}"));
            script.say_joined(what, &answer);
            if answer.error_code == milena_messages::ErrorCode::MEMBER_ID_REQUIRED {
                answer = script.call(&JoinGroupRequest { member_id: answer.member_id, ..request }, 9);
                script.say_joined(&format!("{what}, again"), &answer);
            }
            let member = Classic { id: answer.member_id, generation: answer.generation_id, instance: None };
            script.describe(&format!("{what}, before the sync"), 6);
            script.commit(&format!("{what}, before the sync"), &member, 8);
            let request = SyncGroupRequest {
                protocol_type: None,
                protocol_name: None,
                ..script.sync_request(&member, &[(&member, b"mine")])
            };
            let answer = script.call(&request, 4);
            script.say_synced(&format!("{what}, sync"), &answer);
            script.describe(&format!("{what}, stable"), 6);
            script.delete_offsets(&format!("{what}, stable"), "offsets", &[0]);
            script.listed(what, &[], &[]);
            script.leave(what, &[&member]);
        }
    });
}

#[test]
fn odd_offsets_and_lists_of_groups_are_answered_alike() {
    compare(|asker| {
        await_coordinator(asker);
        ensure_topic(asker, "offsets", 3);
        let mut script = Script::new(asker, "odd-offsets");
        let partition = |partition_index, committed_offset, committed_leader_epoch, text: Option<&str>| {
            OffsetCommitRequestPartition {
                partition_index,
                committed_offset,
                committed_leader_epoch,
                committed_metadata: text.map(Str::from),
                ..Default::default()
            }
        };
        let commits = [
            ("an offset below zero", vec![partition(0, -1, -1, None)]),
            ("an offset far below zero", vec![partition(0, i64::MIN, -1, None)]),
            ("the largest offset", vec![partition(0, i64::MAX, i32::MAX, Some(""))]),
            ("a leader epoch below zero", vec![partition(0, 5, -7, None)]),
            ("a partition twice", vec![partition(0, 1, -1, Some("x")), partition(0, 2, -1, Some("y"))]),
            ("a partition below zero", vec![partition(-1, 1, -1, None)]),
            ("no partition", vec![]),
        ];
        for (what, partitions) in commits {
            for version in [8, 9] {
                let topic = OffsetCommitRequestTopic {
                    name: "offsets".into(),
                    partitions: partitions.clone(),
                    ..Default::default()
                };
                let request = OffsetCommitRequest {
                    group_id: script.group.into(),
                    generation_id_or_member_epoch: -1,
                    topics: vec![topic],
                    ..Default::default()
                };
                let answer = script.call(&request, version);
                let told: Vec<_> = answer
                    .topics
                    .iter()
                    .flat_map(|topic| &topic.partitions)
                    .map(|of| (of.partition_index, of.error_code))
                    .collect();
                script.say(&format!("commit of {what}, version {version}"), told);
                script.fetch(&format!("after {what}"), None, None, version);
            }
        }
        // Version 2 can say how long an offset is kept.
        for retention_time_ms in [-1, 0, 1, i64::MAX] {
            let topic = OffsetCommitRequestTopic {
                name: "offsets".into(),
                partitions: vec![partition(1, 9, -1, None)],
                ..Default::default()
            };
            let request = OffsetCommitRequest {
                group_id: script.group.into(),
                generation_id_or_member_epoch: -1,
                retention_time_ms,
                topics: vec![topic],
                ..Default::default()
            };
            let answer = script.call(&request, 2);
            let code = answer.topics[0].partitions[0].error_code;
            script.say(&format!("commit with retention {retention_time_ms}"), code);
        }
        let partition = |partition_index| OffsetDeleteRequestPartition { partition_index };
        let deletes = [
            ("nothing", vec![]),
            ("one twice", vec![("offsets", vec![0, 0])]),
            ("of a topic twice", vec![("offsets", vec![0]), ("offsets", vec![1])]),
            ("of no topic", vec![("nowhere", vec![0]), ("", vec![0])]),
            ("of no partition", vec![("offsets", vec![]), ("offsets", vec![-1, 7])]),
        ];
        for (what, topics) in deletes {
            let topic = |(name, partitions): &(&str, Vec<i32>)| OffsetDeleteRequestTopic {
                name: (*name).into(),
                partitions: partitions.iter().copied().map(partition).collect(),
            };
            let topics = topics.iter().map(topic).collect();
            let request = OffsetDeleteRequest { group_id: script.group.into(), topics };
            let answer = script.call(&request, 0);
            let mut told: Vec<_> = answer
                .topics
                .iter()
                .flat_map(|topic| {
                    topic.partitions.iter().map(|of| (topic.name.clone(), of.partition_index, of.error_code))
                })
                .collect();
            told.sort_by_key(|(name, index, _)| (name.clone(), *index));
            script.say(&format!("delete {what}"), (answer.error_code, told));
        }
        for names in [vec!["odd-offsets", "odd-offsets"], vec!["odd-offsets", "nobody"], vec![]] {
            let groups: Vec<Str> = names.iter().map(|name| Str::from(*name)).collect();
            let request = DescribeGroupsRequest { groups: groups.clone(), ..Default::default() };
            let answer = script.call(&request, 6);
            let told = answer.groups.iter().map(|of| (&of.group_id, of.error_code, &of.group_state));
            let told = script.sorted(told);
            script.say(&format!("describe {names:?}"), told);
            let request = DeleteGroupsRequest { groups_names: groups, ..Default::default() };
            let answer = script.call(&request, 3);
            let told = script.sorted(answer.results.iter().map(|of| (&of.group_id, of.error_code)));
            script.say(&format!("delete {names:?}"), told);
        }
        for states in [&["Dead"][..], &["stable", "EMPTY"], &["nonsense"], &["Assigning"], &["Reconciling"]] {
            script.listed(&format!("{states:?}"), states, &[]);
        }
        for types in [&["CLASSIC"][..], &["consumer", "classic"], &["share"], &["streams"], &["unknown"]] {
            script.listed(&format!("types {types:?}"), &[], types);
        }
    });
}
