//! Groups of the consumer protocol (KIP-848): the same codes, epochs and assignments.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use milena_messages::consumer_group_describe::ConsumerGroupDescribeRequest;
use milena_messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatRequestTopicPartitions,
    ConsumerGroupHeartbeatResponse,
};
use milena_messages::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use milena_messages::delete_topics::DeleteTopicsRequest;
use milena_messages::find_coordinator::FindCoordinatorRequest;
use milena_wire::{Str, Uuid};

use super::compare;
use super::groups::{Classic, Script, await_coordinator, ensure_topic};

/// A member as its own client sees it.
#[derive(Clone, Default)]
pub(super) struct Member {
    pub(super) name: &'static str,
    pub(super) instance: Option<Str>,
    pub(super) epoch: i32,
    pub(super) topics: Option<Vec<Str>>,
    pub(super) pattern: Option<Str>,
    pub(super) assignor: Option<Str>,
    /// What the coordinator gave it, and what it says it has.
    pub(super) assigned: BTreeMap<Uuid, Vec<i32>>,
    pub(super) owned: BTreeMap<Uuid, Vec<i32>>,
}

impl Member {
    pub(super) fn of(name: &'static str, topics: &[&str]) -> Self {
        let topics = topics.iter().map(|topic| Str::from(*topic)).collect();
        Self { name, topics: Some(topics), ..Self::default() }
    }

    pub(super) fn request(&self, group: &str) -> ConsumerGroupHeartbeatRequest {
        let joins = self.epoch == 0;
        let owned = self.owned.iter().map(|(&topic_id, partitions)| {
            let partitions = partitions.clone();
            ConsumerGroupHeartbeatRequestTopicPartitions { topic_id, partitions, ..Default::default() }
        });
        ConsumerGroupHeartbeatRequest {
            group_id: group.into(),
            member_id: self.name.into(),
            member_epoch: self.epoch,
            instance_id: self.instance.clone(),
            rebalance_timeout_ms: if joins { 30_000 } else { -1 },
            subscribed_topic_names: self.topics.clone().filter(|_| joins),
            subscribed_topic_regex: self.pattern.clone().filter(|_| joins),
            server_assignor: self.assignor.clone().filter(|_| joins),
            topic_partitions: Some(if joins { Vec::new() } else { owned.collect() }),
            ..Default::default()
        }
    }

    /// As the classic protocol names it.
    pub(super) fn as_classic(&self) -> Classic {
        Classic { id: self.name.into(), instance: self.instance.clone(), generation: self.epoch }
    }
}

impl Script<'_> {
    /// Sends a heartbeat and notes everything in its answer.
    pub(super) fn send_beat(
        &mut self,
        what: &str,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> ConsumerGroupHeartbeatResponse {
        let answer = self.call(request, 1);
        let assignment = answer.assignment.as_ref().map(|assignment| {
            let topics = assignment.topic_partitions.iter();
            self.sorted(topics.map(|topic| (topic.topic_id.to_string(), sorted(&topic.partitions))))
        });
        let told =
            (answer.error_code, answer.error_message.is_some(), &answer.member_id, answer.member_epoch);
        self.say(&format!("beat {what}"), (told, answer.heartbeat_interval_ms, assignment));
        answer
    }

    /// A heartbeat of a member that has what it had.
    pub(super) fn cling(&mut self, member: &mut Member) {
        let request = member.request(self.group);
        let answer = self.send_beat(member.name, &request);
        if answer.error_code.is_none() {
            member.epoch = answer.member_epoch;
            if let Some(assignment) = answer.assignment {
                let topics = assignment.topic_partitions.into_iter();
                member.assigned = topics.map(|topic| (topic.topic_id, sorted(&topic.partitions))).collect();
            }
        }
    }

    /// A heartbeat of a member that does what it is told.
    pub(super) fn beat(&mut self, member: &mut Member) {
        self.cling(member);
        member.owned = member.assigned.clone();
    }

    pub(super) fn describe_consumer(&mut self, what: &str) {
        let request = ConsumerGroupDescribeRequest {
            group_ids: vec![self.group.into()],
            include_authorized_operations: true,
            ..Default::default()
        };
        let group = self.call(&request, 1).groups.remove(0);
        let partitions = |assignment: &milena_messages::consumer_group_describe::Assignment| {
            let topics = assignment.topic_partitions.iter();
            let mut told: Vec<_> =
                topics.map(|topic| (topic.topic_name.clone(), sorted(&topic.partitions))).collect();
            told.sort_by(|one, other| one.0.as_str().cmp(other.0.as_str()));
            told
        };
        let members = group.members.iter().map(|member| {
            let mut topics = member.subscribed_topic_names.clone();
            topics.sort_by(|one, other| one.as_str().cmp(other.as_str()));
            let who = (&member.member_id, &member.instance_id, &member.rack_id, &member.client_id);
            let what = (&member.client_host, topics, &member.subscribed_topic_regex, member.member_type);
            let has = (partitions(&member.assignment), partitions(&member.target_assignment));
            format!("{who:?} {} {what:?} {has:?}", member.member_epoch)
        });
        let members = self.sorted(members);
        let told = (group.group_state, group.group_epoch, group.assignment_epoch, group.assignor_name);
        let told = (group.error_code, group.error_message.is_some(), told, group.authorized_operations);
        self.say(&format!("describe {what}"), (told, members));
    }

    pub(super) fn leave_consumer(&mut self, what: &str, member: &Member, epoch: i32) {
        let request = ConsumerGroupHeartbeatRequest { member_epoch: epoch, ..member.request(self.group) };
        self.send_beat(&format!("{} leaves {what}", member.name), &request);
    }
}

pub(super) fn sorted(partitions: &[i32]) -> Vec<i32> {
    let mut partitions = partitions.to_vec();
    partitions.sort_unstable();
    partitions
}

#[test]
fn heartbeats_are_refused_for_the_same_reasons() {
    compare(|asker| {
        await_coordinator(asker);
        ensure_topic(asker, "offsets", 3);
        let mut script = Script::new(asker, "refused-beats");
        let plain = Member::of("a", &["offsets"]).request(script.group);
        type Beat = ConsumerGroupHeartbeatRequest;
        let beats = [
            ("without a group", Beat { group_id: Str::default(), ..plain.clone() }),
            ("of a blank group", Beat { group_id: "  ".into(), ..plain.clone() }),
            ("without a member id", Beat { member_id: Str::default(), ..plain.clone() }),
            ("with an empty instance", Beat { instance_id: Some(Str::default()), ..plain.clone() }),
            ("with an empty rack", Beat { rack_id: Some(Str::default()), ..plain.clone() }),
            ("without a rebalance timeout", Beat { rebalance_timeout_ms: -1, ..plain.clone() }),
            ("without partitions", Beat { topic_partitions: None, ..plain.clone() }),
            (
                "that joins with partitions",
                Beat { topic_partitions: Some(vec![Default::default()]), ..plain.clone() },
            ),
            ("without a subscription", Beat { subscribed_topic_names: None, ..plain.clone() }),
            ("with an unknown assignor", Beat { server_assignor: Some("best".into()), ..plain.clone() }),
            ("with a wrong expression", Beat { subscribed_topic_regex: Some("(".into()), ..plain.clone() }),
            ("that leaves for a while without an instance", Beat { member_epoch: -2, ..plain.clone() }),
            ("with epoch -3", Beat { member_epoch: -3, ..plain.clone() }),
            ("that leaves no group", Beat { member_epoch: -1, ..plain.clone() }),
            ("of a member of no group", Beat { member_epoch: 3, ..plain.clone() }),
            (
                "that leaves no group for a while",
                Beat { member_epoch: -2, instance_id: Some("i".into()), ..plain.clone() },
            ),
        ];
        for (what, request) in &beats {
            script.send_beat(what, request);
        }
        script.describe_consumer("what is left of it");
        for version in [0, 1] {
            let request = Beat { member_id: Str::default(), subscribed_topic_regex: None, ..plain.clone() };
            let answer = script.call(&request, version);
            let id = answer.member_id.map(|id| id.len());
            script.say(&format!("join without an id, version {version}"), (answer.error_code, id));
        }
        let mut a = Member::of("a", &["offsets"]);
        script.cling(&mut a);
        for (what, request) in &beats[5..] {
            script.send_beat(&format!("{what} in a group"), request);
        }
    });
}

#[test]
fn members_of_a_consumer_group_are_told_the_same() {
    compare(|asker| {
        await_coordinator(asker);
        ensure_topic(asker, "offsets", 3);
        ensure_topic(asker, "four", 4);
        let mut script = Script::new(asker, "consumer");
        let id = script.topic_id("four");
        let (mut a, mut b) = (Member::of("a", &["four"]), Member::of("b", &["four"]));
        script.beat(&mut a);
        script.cling(&mut a);
        script.describe_consumer("with one member");
        script.listed("with one member", &[], &[]);
        script.listed("stable groups", &["Stable"], &["consumer"]);
        script.beat(&mut b);
        script.describe_consumer("while the first one is to give up");
        script.cling(&mut a);
        script.beat(&mut b);
        script.describe_consumer("while the first one gives up");
        script.commit_to("what is given up", &a.as_classic(), 9, &[("four", 3, "")]);
        script.commit_to("what is kept", &a.as_classic(), 9, &[("four", 0, "")]);
        script.listed("reconciling", &[], &[]);
        a.owned = a.assigned.clone();
        script.cling(&mut a);
        script.beat(&mut b);
        script.describe_consumer("with two members");
        // Epochs that are not the member's.
        for (what, epoch) in [("the one before", 2), ("before that", 1), ("a later one", 9)] {
            let request = ConsumerGroupHeartbeatRequest { member_epoch: epoch, ..a.request(script.group) };
            script.send_beat(&format!("with {what}"), &request);
            let all = ConsumerGroupHeartbeatRequestTopicPartitions {
                topic_id: id,
                partitions: vec![0, 1, 2, 3],
                ..Default::default()
            };
            let request = ConsumerGroupHeartbeatRequest { topic_partitions: Some(vec![all]), ..request };
            script.send_beat(&format!("with {what} and too much"), &request);
            let request = ConsumerGroupHeartbeatRequest { topic_partitions: None, ..request };
            script.send_beat(&format!("with {what} and nothing said"), &request);
        }
        let again = Member { epoch: 0, ..a.clone() };
        script.send_beat("of a member that joins again", &again.request(script.group));
        let full = ConsumerGroupHeartbeatRequest {
            rebalance_timeout_ms: 30_000,
            subscribed_topic_names: Some(vec!["four".into()]),
            ..a.request(script.group)
        };
        script.send_beat("that says everything", &full);
        script.send_beat("of a stranger", &Member { epoch: 3, ..Member::of("c", &[]) }.request("consumer"));
        // Commits and fetches with member epochs.
        let member = a.as_classic();
        let (mine, others) = (*a.assigned[&id].first().unwrap(), *b.assigned[&id].first().unwrap());
        for (what, member) in [
            ("of a member", member.clone()),
            ("of an older epoch", Classic { generation: 2, ..member.clone() }),
            ("of the oldest epoch", Classic { generation: 1, ..member.clone() }),
            ("of a later epoch", Classic { generation: 4, ..member.clone() }),
            ("of a stranger", Classic { id: "c".into(), ..member.clone() }),
            ("of nobody", Classic { generation: -1, ..Classic::default() }),
            ("of a member without an epoch", Classic { generation: -1, ..member.clone() }),
            ("of an unknown instance", Classic { instance: Some("i".into()), ..member }),
        ] {
            for version in [8, 9, 10] {
                script.commit_to(what, &member, version, &[("four", mine, "")]);
                script.commit_to(&format!("{what} for another"), &member, version, &[("four", others, "")]);
            }
            script.fetch(what, Some((&member, member.generation)), Some(&[("four", &[mine])]), 9);
        }
        script.fetch("of an administrator", None, None, 9);
        script.delete("a group with members");
        script.delete_offsets("that are in use", "four", &[0]);
        script.delete_offsets("that are not in use", "offsets", &[0]);
        script.describe("a group of the other protocol", 5);
        script.describe("a group of the other protocol", 6);
        // The others get what a member leaves.
        script.leave_consumer("for good", &a, -1);
        script.leave_consumer("again", &a, -1);
        script.describe_consumer("after one left");
        script.beat(&mut b);
        script.leave_consumer("for good", &b, -1);
        script.describe_consumer("empty");
        script.listed("empty", &["empty"], &[]);
        script.commit_to(
            "of an administrator",
            &Classic { generation: -1, ..Classic::default() },
            9,
            &[("four", 0, "")],
        );
        script.delete_offsets("of an empty group", "four", &[0]);
        // A group that is empty goes on with its epoch.
        let mut c = Member::of("c", &["four"]);
        script.beat(&mut c);
        script.leave_consumer("for good", &c, -1);
        script.delete("an empty group");
        script.describe_consumer("after the end");
    });
}

#[test]
fn static_members_of_a_consumer_group_are_told_the_same() {
    compare(|asker| {
        await_coordinator(asker);
        ensure_topic(asker, "four", 4);
        let mut script = Script::new(asker, "consumer-static");
        script.topic_id("four");
        let named =
            |name, instance: &str| Member { instance: Some(instance.into()), ..Member::of(name, &["four"]) };
        let (mut a, mut b) = (named("a", "i"), named("b", "j"));
        for _ in 0..2 {
            script.beat(&mut a);
            script.beat(&mut b);
        }
        script.describe_consumer("with two members");
        let mut c = named("c", "i");
        script.beat(&mut c);
        script.leave_consumer("for a while, as another", &named("c", "i"), -2);
        script.leave_consumer("for a while, as an unknown one", &named("a", "x"), -2);
        script.leave_consumer("for a while", &a, -2);
        script.describe_consumer("while one is away");
        script.cling(&mut a);
        script.commit_to("of one that is away", &a.as_classic(), 9, &[("four", 0, "")]);
        script.beat(&mut c);
        script.cling(&mut a);
        script.leave_consumer("for a while, after another came", &a, -2);
        script.describe_consumer("after another came");
        // The same id may come back, and without an instance it is another member.
        script.leave_consumer("for a while", &c, -2);
        let mut again = named("c", "i");
        script.beat(&mut again);
        // A join whose answer was lost is no other instance, but is refused like one until the member releases its place.
        let mut repeated = named("c", "i");
        script.cling(&mut repeated);
        script.leave_consumer("for a while, to join again", &repeated, -2);
        script.beat(&mut repeated);
        let again = repeated;
        script.cling(&mut Member { instance: None, ..again.clone() });
        script.leave_consumer("for good", &again, -1);
        script.leave("by instance", &[&Classic { instance: Some("j".into()), ..Classic::default() }]);
        script.describe_consumer("after all left");
    });
}

#[test]
fn topics_and_patterns_change_assignments_alike() {
    compare(|asker| {
        await_coordinator(asker);
        let mut script = Script::new(asker, "consumer-topics");
        for topic in ["grows", "comes"] {
            let request = DeleteTopicsRequest {
                topic_names: vec![topic.into()],
                timeout_ms: 5000,
                ..Default::default()
            };
            script.call(&request, 5);
        }
        ensure_topic(script.asker, "grows", 2);
        script.topic_id("grows");
        let mut a = Member::of("a", &["grows", "comes"]);
        script.beat(&mut a);
        script.asker.create("comes", 1);
        script.topic_id("comes");
        until(&mut script, &mut a, |member| member.assigned.len() == 2);
        let topic =
            CreatePartitionsTopic { name: "grows".into(), count: 3, assignments: None, ..Default::default() };
        let request = CreatePartitionsRequest { topics: vec![topic], timeout_ms: 5000, ..Default::default() };
        script.call(&request, 3);
        until(&mut script, &mut a, |member| member.assigned.values().any(|partitions| partitions.len() == 3));
        let request =
            DeleteTopicsRequest { topic_names: vec!["comes".into()], timeout_ms: 5000, ..Default::default() };
        script.call(&request, 5);
        until(&mut script, &mut a, |member| member.assigned.len() == 1);
        script.describe_consumer("after all that");
        script.leave_consumer("", &a, -1);
        // A pattern's topics are found after the heartbeat.
        let mut p = Member { topics: None, pattern: Some("gro.s|four-.*".into()), ..Member::of("p", &[]) };
        script.beat(&mut p);
        until(&mut script, &mut p, |member| !member.assigned.is_empty());
        script.describe_consumer("with a pattern");
        let mut q = Member { pattern: Some("gro".into()), ..Member::of("q", &["grows"]) };
        script.beat(&mut q);
        script.beat(&mut p);
        script.beat(&mut p);
        script.beat(&mut q);
        script.describe_consumer("with a pattern that matches nothing");
        // Internal topics.
        let mut r = Member { pattern: Some("__.*".into()), ..Member::of("r", &[]) };
        script.beat(&mut r);
        script.leave_consumer("", &p, -1);
        script.leave_consumer("", &q, -1);
        script.leave_consumer("", &r, -1);
    });
}

/// Sends heartbeats until the member is as it should be, and notes only the last one: a broker learns of topics when it
/// does.
fn until(script: &mut Script<'_>, member: &mut Member, is_done: impl Fn(&Member) -> bool) {
    let started = Instant::now();
    while !is_done(member) {
        assert!(started.elapsed() < Duration::from_secs(40), "{:#?}", script.asker.said);
        std::thread::sleep(Duration::from_millis(100));
        let said = script.asker.said.len();
        script.beat(member);
        script.asker.said.truncate(said);
    }
    let (name, epoch) = (member.name, member.epoch);
    let assigned = script.sorted(member.assigned.iter().map(|(id, partitions)| (id.to_string(), partitions)));
    script.say(&format!("{name} comes to"), (epoch, assigned));
    script.beat(member);
}

#[test]
fn assignors_give_the_same_to_those_who_come_one_by_one() {
    compare(|asker| {
        await_coordinator(asker);
        ensure_topic(asker, "four", 4);
        ensure_topic(asker, "five", 5);
        for assignor in ["range", "uniform"] {
            let mut script = Script::new(asker, if assignor == "range" { "ranged" } else { "uniform" });
            script.topic_id("four");
            script.topic_id("five");
            let mut members: Vec<Member> = Vec::new();
            for name in ["a", "b", "c"] {
                let assignor = Some(assignor.into());
                members.push(Member { assignor, ..Member::of(name, &["four", "five"]) });
                for _ in 0..3 {
                    members.iter_mut().for_each(|member| script.beat(member));
                }
            }
            // Which partitions a member has is the assignor's affair; how many is not.
            script.asker.said.retain(|line| !line.starts_with("uniform"));
            let mut counts: Vec<usize> =
                members.iter().map(|member| member.assigned.values().map(Vec::len).sum()).collect();
            counts.sort_unstable();
            script.say("has in the end", counts);
            members.iter().for_each(|member| script.leave_consumer("", member, -1));
        }
    });
}

#[test]
fn a_coordinator_is_found_for_groups_alike() {
    compare(|asker| {
        await_coordinator(asker);
        let request = FindCoordinatorRequest {
            coordinator_keys: vec!["g".into(), Str::default()],
            ..Default::default()
        };
        let answer = asker.raw.call(&request, 6).unwrap();
        let codes: Vec<_> =
            answer.coordinators.iter().map(|found| (found.key.clone(), found.error_code)).collect();
        asker.say("find the coordinator", codes);
    });
}
