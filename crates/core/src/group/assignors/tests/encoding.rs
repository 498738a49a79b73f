//! The bytes of subscriptions, assignments and user data, right ones and hostile ones, and the leader's side.

use std::sync::Arc;

use bytes::Bytes;
use milena_messages::join_group::JoinGroupResponseMember;

use super::super::{
    CooperativeSticky, Group, Range, RebalanceProtocol, RoundRobin, Sticky, VERSION_MAX, defaults, offers,
    protocol_of,
};
use super::*;
use crate::{Failure, Rng};

fn subscription() -> Subscription {
    Subscription {
        topics: vec!["b".into(), "a".into()],
        user_data: Some(Bytes::from_static(b"xy")),
        owned: partitions("b-1, a-3, a-0"),
        generation: Some(7),
        rack: Some("r".into()),
    }
}

#[test]
fn a_subscription_is_written_as_java_writes_it() {
    let bytes = subscription().encode(3).unwrap();
    let expected = [
        &[0, 3][..],                                       // version
        &[0, 0, 0, 2, 0, 1, b'a', 0, 1, b'b'],             // topics, sorted
        &[0, 0, 0, 2, b'x', b'y'],                         // user data
        &[0, 0, 0, 2],                                     // owned
        &[0, 1, b'a', 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3], // a-0, a-3
        &[0, 1, b'b', 0, 0, 0, 1, 0, 0, 0, 1],             // b-1
        &[0, 0, 0, 7],                                     // generation
        &[0, 1, b'r'],                                     // rack
    ];
    assert_eq!(&*bytes, expected.concat());
}

#[test]
fn lower_versions_leave_fields_out() {
    for version in 0..=VERSION_MAX {
        let read = Subscription::decode(&subscription().encode(version).unwrap()).unwrap();
        let full = subscription();
        assert_eq!(read.topics, ["a", "b"]);
        assert_eq!(read.user_data, full.user_data);
        assert_eq!(read.owned, if version >= 1 { full.owned } else { Vec::new() });
        assert_eq!(read.generation, full.generation.filter(|_| version >= 2));
        assert_eq!(read.rack, full.rack.filter(|_| version >= 3));
    }
    assert!(subscription().encode(4).is_err());
}

#[test]
fn a_version_of_the_future_is_read_as_the_highest_we_know() {
    let mut bytes = subscription().encode(3).unwrap().to_vec();
    bytes[..2].copy_from_slice(&[0, 100]);
    bytes.extend_from_slice(b"fields to come");
    let read = Subscription::decode(&bytes.into()).unwrap();
    assert_eq!((read.generation, read.rack), (Some(7), Some("r".into())));
    // Java's own test of a version that does not exist yet: −1 is refused.
    assert!(Subscription::decode(&Bytes::from_static(&[0xff, 0xff, 0, 0, 0, 0])).is_err());
}

#[test]
fn missing_values_are_none() {
    let nothing = Subscription { topics: vec!["a".into()], ..Subscription::default() };
    for version in 0..=VERSION_MAX {
        assert_eq!(Subscription::decode(&nothing.encode(version).unwrap()).unwrap(), nothing);
    }
    let empty_rack = Subscription { rack: Some("".into()), ..nothing.clone() };
    assert_eq!(Subscription::decode(&empty_rack.encode(3).unwrap()).unwrap(), nothing);
}

#[test]
fn an_assignment_is_read_sorted_and_without_duplicates() {
    let list = |topic: &str, partitions: &[i32]| TopicPartitions {
        topic: topic.into(),
        partitions: partitions.to_vec(),
    };
    let assignment = Assignment {
        partitions: vec![list("b", &[2, 1, 2]), list("a", &[0]), list("b", &[0]), list("c", &[])],
        user_data: Some(Bytes::from_static(b"u")),
    };
    for version in 0..=VERSION_MAX {
        let read = Assignment::decode(&assignment.encode(version).unwrap()).unwrap();
        assert_eq!(listed(&read), "a-0, b-0, b-1, b-2");
        assert_eq!((read.count(), read.user_data), (4, assignment.user_data.clone()));
    }
    assert_eq!(Assignment::decode(&Bytes::new()).unwrap(), Assignment::default());
}

#[test]
fn user_data_of_sticky_is_read_in_both_versions() {
    let view = plain(&[("t", 2)]);
    let held = Held { partitions: partitions("t-1"), generation: 3 };
    let user_data = Sticky.user_data(&[], Some(&held)).unwrap();
    assert_eq!(&*user_data, [0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 3]);
    assert_eq!(Sticky.user_data(&[], None), None);
    for (user_data, claims) in [(&user_data[..], true), (&user_data[..15], true), (&user_data[..14], false)] {
        let mut second = member("b", "t");
        second.subscription.user_data = Some(Bytes::copy_from_slice(user_data));
        let mut first = member("a", "t");
        first.subscription.user_data =
            Sticky.user_data(&[], Some(&Held { generation: 3, ..Held::default() }));
        let third = member("0", "t");
        let expected = if claims { ["", "t-0", "t-1"] } else { ["t-0", "t-1", ""] };
        check(&Sticky, &view, &[third, first, second], &if claims { ["t-0", "", "t-1"] } else { expected });
    }
    assert_eq!(CooperativeSticky.user_data(&[], Some(&held)).as_deref(), Some(&[0, 0, 0, 3][..]));
    assert_eq!(CooperativeSticky.user_data(&[], None).as_deref(), Some(&[0xff; 4][..]));
}

pub(super) fn answer(members: &[Member]) -> Vec<JoinGroupResponseMember> {
    let of = |member: &Member| JoinGroupResponseMember {
        member_id: member.id.clone(),
        group_instance_id: member.instance_id.clone(),
        metadata: member.subscription.encode(VERSION_MAX).unwrap(),
        ..JoinGroupResponseMember::default()
    };
    members.iter().map(of).collect()
}

#[test]
fn the_leader_assigns_from_bytes_to_bytes() {
    let members = [member("b", "t1, t2"), member("a", "t1, missing")];
    let group = Group::decode(&answer(&members));
    assert_eq!(group.topics(), ["missing", "t1", "t2"]);
    assert_eq!(
        group.members(),
        members.map(|mut member| {
            member.subscription.topics.sort();
            member
        })
    );
    let view = plain(&[("t1", 2), ("t2", 1)]);
    let sent = group.assign(&Range, RebalanceProtocol::Eager, &view).unwrap();
    let read: Vec<_> = sent
        .iter()
        .map(|entry| (entry.member_id.to_string(), listed(&Assignment::decode(&entry.assignment).unwrap())))
        .collect();
    assert_eq!(read, [("b".into(), "t1-1, t2-0".into()), ("a".into(), "t1-0".into())]);
}

#[test]
fn a_member_that_cannot_be_read_gets_nothing() {
    let mut answer = answer(&[member("a", "t"), member("b", "t")]);
    answer[0].metadata = Bytes::from_static(&[0, 3, 0x7f, 0xff, 0xff, 0xff]);
    let group = Group::decode(&answer);
    assert_eq!(group.unreadable().len(), 1);
    assert_eq!(group.unreadable()[0].member_id, "a");
    let sent = group.assign(&CooperativeSticky, RebalanceProtocol::Cooperative, &plain(&[("t", 2)])).unwrap();
    let read: Vec<_> =
        sent.iter().map(|entry| listed(&Assignment::decode(&entry.assignment).unwrap())).collect();
    assert_eq!(read, ["", "t-0, t-1"]);
}

/// An assignor of a user, with a bug.
#[derive(Debug)]
struct Custom(Vec<&'static str>);

impl Assignor for Custom {
    fn name(&self) -> &str {
        "custom"
    }

    fn assign(&self, _: &ClusterView, _: &[Member]) -> Result<Vec<Assignment>, Failure> {
        let of = |list: &&str| Assignment { partitions: partitions(list), user_data: None };
        Ok(self.0.iter().map(of).collect())
    }
}

#[test]
fn an_assignment_that_breaks_a_rule_is_not_sent() {
    let members = [member("a", "t").holding("t-0", 1), member("b", "t, u").holding("", 1)];
    let group = Group::decode(&answer(&members));
    let view = plain(&[("t", 2), ("u", 1)]);
    let outcome = |protocol, lists: &[&'static str]| {
        let outcome = group.assign(&Custom(lists.to_vec()), protocol, &view);
        outcome.map(|sent| sent.len()).map_err(|failure| format!("{failure}"))
    };
    assert_eq!(outcome(RebalanceProtocol::Eager, &["t-1", "t-0, u-0"]), Ok(2));
    let says = |protocol, lists: &[&'static str], why: &str| {
        let error = outcome(protocol, lists).unwrap_err();
        assert!(error.contains(&format!("the assignor \"custom\" {why}")), "{error}");
    };
    says(RebalanceProtocol::Eager, &["t-1"], "made 1 assignments for 2 members");
    says(RebalanceProtocol::Eager, &["t-1", "t-1"], "assigned partition 1 of topic \"t\" twice");
    says(RebalanceProtocol::Eager, &["t-2", ""], "assigned partition 2 of topic \"t\", which does not exist");
    says(
        RebalanceProtocol::Eager,
        &["u-0", ""],
        "assigned topic \"u\" to a member that does not subscribe it",
    );
    let early = "assigned partition 0 of topic \"t\" before its owner has given it up";
    says(RebalanceProtocol::Cooperative, &["t-1", "t-0"], early);
    assert_eq!(outcome(RebalanceProtocol::Cooperative, &["", "t-1"]), Ok(2));
}

#[test]
fn members_use_the_best_protocol_that_all_their_assignors_know() {
    let check = |assignors: &[Arc<dyn Assignor>], expected| assert_eq!(protocol_of(assignors), expected);
    check(&[], None);
    check(&defaults(), Some(RebalanceProtocol::Eager));
    check(&[Arc::new(CooperativeSticky)], Some(RebalanceProtocol::Cooperative));
    check(&[Arc::new(CooperativeSticky), Arc::new(RoundRobin)], Some(RebalanceProtocol::Eager));
    let names: Vec<_> = defaults().iter().map(|assignor| assignor.name().to_owned()).collect();
    assert_eq!(names, ["range", "cooperative-sticky"]);
}

#[test]
fn a_member_offers_its_subscription_for_each_assignor() {
    let held = Held { partitions: partitions("a-0"), generation: 4 };
    let assignors: Vec<Arc<dyn Assignor>> =
        vec![Arc::new(Range), Arc::new(CooperativeSticky), Arc::new(Sticky)];
    let offered = offers(&assignors, &subscription(), Some(&held)).unwrap();
    let names: Vec<_> = offered.iter().map(|offer| offer.name.as_str()).collect();
    assert_eq!(names, ["range", "cooperative-sticky", "sticky"]);
    for (offer, assignor) in offered.iter().zip(&assignors) {
        let read = Subscription::decode(&offer.metadata).unwrap();
        assert_eq!(read.user_data, assignor.user_data(&[], Some(&held)));
        assert_eq!((read.topics, read.generation), (vec!["a".into(), "b".into()], Some(7)));
    }
}

/// Bytes that are changed, cut or made up.
#[test]
fn hostile_members_break_nothing() {
    let everyone: [&dyn Assignor; 4] = [&Range, &RoundRobin, &Sticky, &CooperativeSticky];
    let view = cluster(&[("a", 3), ("b", 2)], 1, &racks(3));
    for seed in 0..600 {
        let mut rng = Rng::seeded(seed);
        let members = (0..1 + rng.below(5)).map(|at| {
            let mut subscription = subscription();
            subscription.generation = Some(rng.below(3) as i32);
            subscription.owned.push(TopicPartitions {
                topic: "a".into(),
                partitions: vec![i32::MIN, -1, 1, 1, 99, i32::MAX],
            });
            subscription.owned.push(TopicPartitions { topic: "unknown".into(), partitions: vec![0] });
            subscription.topics.push("a".into());
            subscription.user_data =
                Sticky.user_data(&[], Some(&Held { partitions: subscription.owned.clone(), generation: 1 }));
            let mut bytes = subscription.encode(rng.below(4) as i16).unwrap().to_vec();
            for _ in 0..rng.below(4) {
                let place = rng.below(bytes.len() as u32) as usize;
                bytes[place] = rng.next_u64() as u8;
            }
            if rng.below(4) == 0 {
                bytes.truncate(rng.below(bytes.len() as u32) as usize);
            }
            // Two members may have one id.
            JoinGroupResponseMember {
                member_id: format!("m{}", at / 2).into(),
                metadata: bytes.into(),
                ..Default::default()
            }
        });
        let group = Group::decode(&members.collect::<Vec<_>>());
        for assignor in everyone {
            for protocol in assignor.protocols() {
                let sent = group.assign(assignor, *protocol, &view);
                assert!(sent.is_ok(), "seed {seed}: {sent:?}");
            }
        }
    }
}

#[test]
fn more_entries_than_any_group_needs_are_refused() {
    let mut bytes = vec![0, 0];
    bytes.extend_from_slice(&(2_000_000_i32).to_be_bytes());
    bytes.resize(bytes.len() + 4_000_000, 0);
    bytes.extend_from_slice(&[0xff; 4]);
    let bytes = Bytes::from(bytes);
    assert!(Subscription::decode(&bytes).is_err());
    assert!(Assignment::decode(&bytes).is_err());
}
