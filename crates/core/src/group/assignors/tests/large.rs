//! Groups as large as the largest that are known: 2 000 members and 20 000 partitions.

use super::super::{CooperativeSticky, Group, Range, RebalanceProtocol, RoundRobin, Sticky};
use super::*;

const MEMBERS: usize = 2_000;
const PARTITIONS: usize = 20_000;

/// The members of a large group, whose topics `wants` chooses by member and topic.
fn members(topics: usize, wants: impl Fn(usize, usize) -> bool) -> Vec<Member> {
    let names: Vec<Str> = (0..topics).map(|topic| Str::from(format!("topic-{topic:05}"))).collect();
    let of = |at: usize| {
        let mut member = member(&format!("consumer-{at:05}"), "");
        member.subscription.topics =
            (0..topics).filter(|topic| wants(at, *topic)).map(|topic| names[topic].clone()).collect();
        member
    };
    (0..MEMBERS).map(of).collect()
}

fn topics(count: usize, near: bool) -> ClusterView {
    let names: Vec<String> = (0..count).map(|topic| format!("topic-{topic:05}")).collect();
    let topics: Vec<_> = names.iter().map(|name| (name.as_str(), PARTITIONS / count)).collect();
    if near { cluster(&topics, 2, &racks(3)) } else { plain(&topics) }
}

fn settle(members: &mut [Member], assignments: &[Assignment], generation: i32) {
    for (member, assignment) in members.iter_mut().zip(assignments) {
        member.hold(Held { partitions: assignment.partitions.clone(), generation });
    }
}

/// The members' racks, in turn.
fn in_racks(members: Vec<Member>) -> Vec<Member> {
    let racks = RACKS.iter().cycle();
    members.into_iter().zip(racks).map(|(member, rack)| member.in_rack(Some(rack))).collect()
}

fn mixed(member: usize, topic: usize) -> bool {
    (member * 7 + topic * 13) % 11 < 4
}

fn halves(member: usize, topic: usize) -> bool {
    member.is_multiple_of(4) == (topic < 100)
}

/// Every tenth member leaves, and every second one that stays loses what it had.
fn shake(members: &mut Vec<Member>) {
    let mut at = 0;
    members.retain(|_| {
        at += 1;
        at % 10 != 0
    });
    for member in members.iter_mut().step_by(2) {
        member.hold(Held { partitions: Vec::new(), generation: 1 });
    }
}

#[test]
fn large_groups_are_balanced_and_keep_what_they_have() {
    for (topic_count, wants) in
        [(1, None), (200, Some(mixed as fn(usize, usize) -> bool)), (200, Some(halves))]
    {
        let view = topics(topic_count, false);
        let mut members =
            members(topic_count, |member, topic| wants.is_none_or(|wants| wants(member, topic)));
        let assignments = Sticky.assign(&view, &members).unwrap();
        assert_eq!(assignments.iter().map(Assignment::count).sum::<usize>(), PARTITIONS);
        settle(&mut members, &assignments, 1);
        assert_eq!(Sticky.assign(&view, &members).unwrap(), assignments);
        assert_eq!(CooperativeSticky.assign(&view, &members).unwrap(), assignments);
        shake(&mut members);
        let after = Sticky.assign(&view, &members).unwrap();
        assert_eq!(after.iter().map(Assignment::count).sum::<usize>(), PARTITIONS);
        // Members that kept what they had are below their share now, and lose nothing.
        for (member, now) in members.iter().zip(&after) {
            for held in &member.subscription.owned {
                let now = now.partitions.iter().find(|entry| entry.topic == held.topic);
                let keeps = |index: &i32| now.is_some_and(|now| now.partitions.contains(index));
                assert!(held.partitions.iter().all(keeps), "{} lost one of {held:?}", member.id);
            }
        }
    }
}

/// The limit is 200 ms in a release build, from every member's bytes to every member's bytes:
/// `cargo test --release -p milena-core --lib speed -- --ignored --nocapture`.
#[test]
#[ignore = "prints how long the leader takes"]
fn speed() {
    let everyone: [&dyn Assignor; 4] = [&Range, &RoundRobin, &Sticky, &CooperativeSticky];
    for assignor in everyone {
        for near in [false, true] {
            for (what, topic_count, wants) in [
                ("one topic", 1, (|_, _| true) as fn(usize, usize) -> bool),
                ("200 topics", 200, |_, _| true),
                ("200 topics, mixed", 200, mixed),
                ("200 topics, two groups", 200, halves),
            ] {
                let what = format!(
                    "{} {what} {}",
                    assignor.name(),
                    if near { "with racks" } else { "without racks" }
                );
                let view = topics(topic_count, near);
                let mut members = members(topic_count, wants);
                if near {
                    members = in_racks(members);
                }
                let first = lead(&format!("{what}, from nothing"), assignor, &view, &members);
                settle(&mut members, &first, 1);
                lead(&format!("{what}, nothing changed"), assignor, &view, &members);
                shake(&mut members);
                lead(&format!("{what}, members came and went"), assignor, &view, &members);
            }
        }
    }
}

/// What the leader does, timed.
#[expect(clippy::disallowed_methods, reason = "prints how long it took; nothing depends on it")]
fn lead(what: &str, assignor: &dyn Assignor, view: &ClusterView, members: &[Member]) -> Vec<Assignment> {
    let answer = encoding::answer(members);
    let start = std::time::Instant::now();
    let group = Group::decode(&answer);
    let sent = group.assign(assignor, RebalanceProtocol::Eager, view).unwrap();
    eprintln!("{:>9.1?} {what}", start.elapsed());
    sent.iter().map(|entry| Assignment::decode(&entry.assignment).unwrap()).collect()
}
