//! Groups with members of both protocols: which requests are accepted, and how a group changes from one to the other
//! (`group.consumer.migration.policy`, bidirectional).

use bytes::Bytes;
use milena_messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use milena_messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use milena_wire::Str;

use super::compare;
use super::groups::{Classic, Script, await_coordinator, ensure_topic, protocols, wait_for};
use super::groups_consumer::Member;

/// What `range` assigns for the three partitions of `offsets`.
const ALL: &[u8] = b"\0\x01\0\0\0\x01\0\x07offsets\0\0\0\x03\0\0\0\0\0\0\0\x01\0\0\0\x02\xff\xff\xff\xff";

/// Joins with the consumer protocol, where the order of random member ids decides who gets what.
fn join_unseen(script: &mut Script<'_>, member: &Member) {
    let answer = script.call(&member.request(script.group), 1);
    script.say(&format!("{} joins", member.name), (answer.error_code, answer.member_epoch));
}

/// A join that says what the member has.
fn owning(script: &Script<'_>, member: &Classic, partitions: &[u8]) -> JoinGroupRequest {
    let mut metadata = b"\0\x01\0\0\0\x01\0\x07offsets\xff\xff\xff\xff\0\0\0\x01\0\x07offsets".to_vec();
    metadata.extend((partitions.len() as i32).to_be_bytes());
    partitions.iter().for_each(|&partition| metadata.extend(i32::from(partition).to_be_bytes()));
    let protocol = JoinGroupRequestProtocol {
        name: "range".into(),
        metadata: Bytes::from(metadata),
        ..Default::default()
    };
    JoinGroupRequest { protocols: vec![protocol], ..script.join_request(member) }
}

#[test]
fn classic_members_are_in_a_consumer_group_alike() {
    compare(|asker| {
        await_coordinator(asker);
        ensure_topic(asker, "offsets", 3);
        let mut script = Script::new(asker, "mixed");
        script.topic_id("offsets");
        let mut a = Member::of("a", &["offsets"]);
        script.beat(&mut a);
        let mut b = Classic::default();
        // Who speaks the wrong protocol.
        for (what, member) in [
            ("of a member of the other protocol", a.as_classic()),
            ("of a stranger", Classic { id: "x".into(), ..b.clone() }),
        ] {
            script.heartbeat(what, &member);
            script.sync(&format!("sync {what}"), &script.sync_request(&member, &[]));
        }
        for (what, request) in [
            (
                "of another type",
                JoinGroupRequest { protocol_type: "connect".into(), ..script.join_request(&b) },
            ),
            ("without protocols", JoinGroupRequest { protocols: Vec::new(), ..script.join_request(&b) }),
        ] {
            let answer = script.call(&request, 9);
            script.say_joined(&format!("join {what}"), &answer);
        }
        script.join("b", &mut b);
        script.describe_consumer("with a classic member");
        script.heartbeat("of the classic member", &b);
        script.sync("the classic member syncs", &script.sync_request(&b, &[]));
        script.beat(&mut a);
        script.beat(&mut a);
        script.heartbeat("after the other gave up", &b);
        let again = owning(&script, &b, &[]);
        let answer = script.call(&again, 9);
        script.say_joined("the classic member joins again", &answer);
        b.generation = answer.generation_id;
        script.heartbeat("before it syncs", &b);
        let later = Classic { generation: b.generation + 1, ..b.clone() };
        script.heartbeat("of a later generation", &later);
        script.sync("sync of a later generation", &script.sync_request(&later, &[]));
        script.sync("the classic member syncs", &script.sync_request(&b, &[]));
        script.describe_consumer("when both have something");
        script.commit("of the classic member", &b, 9);
        script.commit("of the classic member", &b, 7);
        script.commit("of a later generation", &later, 9);
        script.commit("of an older generation", &Classic { generation: b.generation - 1, ..b.clone() }, 9);
        script.fetch("of the classic member", Some((&b, b.generation)), None, 9);
        // The last member of the other protocol leaves, and the group is a classic one.
        script.leave_consumer("", &a, -1);
        script.describe("after the downgrade", 5);
        script.describe_consumer("after the downgrade");
        script.heartbeat("after the downgrade", &b);
        let mut alone = b.clone();
        script.join("b", &mut alone);
        script.sync("it syncs", &script.sync_request(&alone, &[(&alone, ALL)]));
        // And back.
        let mut c = Member::of("c", &["offsets"]);
        script.beat(&mut c);
        script.describe_consumer("after the upgrade");
        script.heartbeat("after the upgrade", &alone);
        let rejoin = owning(&script, &alone, &[0, 1, 2]);
        let answer = script.call(&rejoin, 9);
        script.say_joined("it joins after the upgrade", &answer);
        alone.generation = answer.generation_id;
        script.sync("it syncs after the upgrade", &script.sync_request(&alone, &[]));
        script.leave("of a classic member", &[&alone]);
        script.beat(&mut c);
        script.leave_consumer("", &c, -1);
        // An empty group of either protocol takes members of the other.
        let mut d = Classic::default();
        script.join("d", &mut d);
        script.describe("of classic members again", 5);
        script.sync("d syncs", &script.sync_request(&d, &[(&d, ALL)]));
        script.leave("of d", &[&d]);
        let mut e = Member::of("e", &["offsets"]);
        script.beat(&mut e);
        script.leave_consumer("", &e, -1);
    });
}

#[test]
fn a_classic_group_is_upgraded_alike() {
    compare(|asker| {
        await_coordinator(asker);
        ensure_topic(asker, "offsets", 3);
        // A group of another type, one that is still rebalancing, and one with another assignor's data.
        let mut script = Script::new(asker, "upgrade-connect");
        let mut a = Classic::default();
        let request = JoinGroupRequest { protocol_type: "connect".into(), ..script.join_request(&a) };
        a.id = script.call(&request, 9).member_id;
        let request = JoinGroupRequest { protocol_type: "connect".into(), ..script.join_request(&a) };
        let answer = script.call(&request, 9);
        script.name(&answer.member_id, "a");
        script.say_joined("connect", &answer);
        script.cling(&mut Member::of("c", &["offsets"]));
        script.leave_consumer("", &Member::of("c", &[]), -1);
        script.cling(&mut Member { epoch: 3, ..Member::of("c", &["offsets"]) });
        script.leave("", &[&Classic { id: a.id.clone(), ..a }]);

        let mut script = Script::new(asker, "upgrade-joining");
        script.topic_id("offsets");
        let mut a = Classic::default();
        script.join("a", &mut a);
        let c = Member::of("c", &["offsets"]);
        join_unseen(&mut script, &c);
        script.sync("a syncs", &script.sync_request(&a, &[(&a, ALL)]));
        script.heartbeat("of a", &a);
        script.leave("of a", &[&a]);
        script.leave_consumer("", &c, -1);

        let mut script = Script::new(asker, "upgrade-data");
        let mut a = Classic::default();
        script.join("a", &mut a);
        script.sync("a syncs", &script.sync_request(&a, &[(&a, b"\0\0\0\0\0\0\0\0\0\x01x")]));
        script.cling(&mut Member::of("c", &["offsets"]));
        script.describe("after it was refused", 5);
        script.leave("of a", &[&a]);

        // Members that wait for each other are told to join again.
        let mut script = Script::new(asker, "upgrade-waiting");
        script.topic_id("offsets");
        let (mut a, mut b) = (Classic::default(), Classic::default());
        script.join("a", &mut a);
        script.sync("a syncs", &script.sync_request(&a, &[(&a, ALL)]));
        b.id = script.call(&script.join_request(&b), 9).member_id;
        script.name(&b.id.clone(), "b");
        let waiting = script.begin(&script.join_request(&b), 9);
        wait_for(&mut script, "PreparingRebalance");
        let c = Member::of("c", &["offsets"]);
        join_unseen(&mut script, &c);
        let answer = waiting.answer();
        script.say_joined("b waited", &answer);
        script.heartbeat("of a", &a);
        script.leave("of a and b", &[&a, &b]);
        script.leave_consumer("", &c, -1);
    });
}

#[test]
fn static_members_change_their_protocol_alike() {
    compare(|asker| {
        await_coordinator(asker);
        ensure_topic(asker, "offsets", 3);
        let mut script = Script::new(asker, "mixed-static");
        script.topic_id("offsets");
        let named = |instance: &str| Classic { instance: Some(instance.into()), ..Classic::default() };
        let mut a = named("i");
        script.join("a", &mut a);
        script.sync("a syncs", &script.sync_request(&a, &[(&a, ALL)]));
        // The static member comes back with the other protocol.
        let mut b = Member { instance: Some("i".into()), ..Member::of("b", &["offsets"]) };
        script.beat(&mut b);
        script.describe_consumer("after it came back");
        script.heartbeat("of the former one", &a);
        // And as a classic one again, alone in the group.
        let mut c = named("i");
        script.join("c", &mut c);
        script.describe("after it came back again", 5);
        script.describe_consumer("after it came back again");
        script.sync("it syncs", &script.sync_request(&c, &[(&c, ALL)]));
        script.cling(&mut b);
        script.leave("by its instance", &[&named("i")]);
        let request = ConsumerGroupHeartbeatRequest {
            group_id: script.group.into(),
            member_id: Str::from("x"),
            member_epoch: -1,
            ..Default::default()
        };
        script.send_beat("that leaves an empty classic group", &request);
        let answer = script.call(
            &JoinGroupRequest {
                protocols: protocols(&["range"]),
                ..script.join_request(&Classic { id: "z".into(), ..Classic::default() })
            },
            9,
        );
        script.say_joined("join of a stranger", &answer);
    });
}
