//! Java's cases, as data.
//!
//! Java's sticky assignors go through members in the order of a hash map where it does not matter for balance, and we go
//! through them by id. Where a case depends on that order, its comment says so.

use super::super::{CooperativeSticky, Range, RoundRobin, Sticky};
use super::*;

const STICKY: [&dyn Assignor; 2] = [&Sticky, &CooperativeSticky];

#[test]
fn every_assignor_gives_one_member_what_it_subscribes() {
    let everyone: [&dyn Assignor; 4] = [&Range, &RoundRobin, &Sticky, &CooperativeSticky];
    for assignor in everyone {
        check(assignor, &plain(&[]), &[], &[]);
        check(assignor, &plain(&[]), &[member("consumer", "")], &[""]);
        check(assignor, &plain(&[]), &[member("consumer", "topic")], &[""]);
        check(assignor, &plain(&[("topic", 0)]), &[member("consumer", "topic")], &[""]);
        check(
            assignor,
            &plain(&[("topic", 3)]),
            &[member("consumer", "topic")],
            &["topic-0, topic-1, topic-2"],
        );
        let two = plain(&[("topic", 3), ("other", 3)]);
        check(assignor, &two, &[member("consumer", "topic")], &["topic-0, topic-1, topic-2"]);
        let two = plain(&[("topic1", 1), ("topic2", 2)]);
        check(assignor, &two, &[member("consumer", "topic1, topic2")], &["topic1-0, topic2-0, topic2-1"]);
        let both = [member("consumer1", "topic"), member("consumer2", "topic")];
        check(assignor, &plain(&[("topic", 1)]), &both, &["topic-0", ""]);
        check(assignor, &plain(&[("topic", 2)]), &both, &["topic-0", "topic-1"]);
        // A topic twice in one subscription counts once.
        let twice = [member("consumer1", "topic, topic"), member("consumer2", "topic")];
        check(assignor, &plain(&[("topic", 2)]), &twice, &["topic-0", "topic-1"]);
    }
}

#[test]
fn mixed_topics() {
    let view = plain(&[("topic1", 3), ("topic2", 2)]);
    let members =
        [member("consumer1", "topic1"), member("consumer2", "topic1, topic2"), member("consumer3", "topic1")];
    let dealt = ["topic1-0", "topic1-1, topic2-0, topic2-1", "topic1-2"];
    check(&Range, &view, &members, &dealt);
    check(&RoundRobin, &view, &members, &dealt);
    for sticky in STICKY {
        check(sticky, &view, &members, &["topic1-0, topic1-2", "topic2-0, topic2-1", "topic1-1"]);
    }
}

#[test]
fn two_topics_of_three_partitions() {
    let view = plain(&[("topic1", 3), ("topic2", 3)]);
    let ranges = ["topic1-0, topic1-1, topic2-0, topic2-1", "topic1-2, topic2-2"];
    let turns = ["topic1-0, topic1-2, topic2-1", "topic1-1, topic2-0, topic2-2"];
    let both = "topic1, topic2";
    let members = [member("consumer1", both), member("consumer2", both)];
    check(&Range, &view, &members, &ranges);
    check(&RoundRobin, &view, &members, &turns);
    for sticky in STICKY {
        check(sticky, &view, &members, &turns);
    }
    // Static members come in the order of their names, whatever their ids, and before dynamic members.
    let named =
        [member("consumer-b", both).named("instance1"), member("consumer-a", both).named("instance2")];
    check(&Range, &view, &named, &ranges);
    check(&RoundRobin, &view, &named, &turns);
    let one_named = [member("consumer-b", both).named("instance1"), member("consumer-a", both)];
    check(&Range, &view, &one_named, &ranges);
    check(&RoundRobin, &view, &one_named, &turns);
}

#[test]
fn members_are_in_the_order_of_javas_strings() {
    // U+1F600 is two units from U+D800 on in Java's strings, and so comes before U+FF5E.
    let members = [member("\u{ff5e}", "t"), member("\u{1f600}", "t"), member("a", "t")];
    let everyone: [&dyn Assignor; 4] = [&Range, &RoundRobin, &Sticky, &CooperativeSticky];
    for assignor in everyone {
        check(assignor, &plain(&[("t", 3)]), &members, &["t-2", "t-1", "t-0"]);
    }
}

#[test]
fn static_members_keep_their_partitions() {
    let both = "topic1, topic2";
    let group = |ids: [&str; 3], dynamic: Option<&str>| {
        let names = ["instance1", "instance2", "instance3"];
        let mut members: Vec<_> =
            ids.iter().zip(names).map(|(id, name)| member(id, both).named(name)).collect();
        members.extend(dynamic.map(|id| member(id, both)));
        members
    };
    let ids = ["consumer1", "consumer2", "consumer3"];
    for dynamic in ["consumer4", "consumer5", "a"] {
        let members = group(ids, Some(dynamic));
        let ranges = [
            "topic1-0, topic1-1, topic2-0",
            "topic1-2, topic2-1",
            "topic1-3, topic2-2",
            "topic1-4, topic2-3",
        ];
        check(&Range, &plain(&[("topic1", 5), ("topic2", 4)]), &members, &ranges);
        let turns = ["topic1-0, topic2-1", "topic1-1, topic2-2", "topic1-2", "topic2-0"];
        check(&RoundRobin, &plain(&[("topic1", 3), ("topic2", 3)]), &members, &turns);
    }
    let view = plain(&[("topic1", 5), ("topic2", 5)]);
    for ids in [ids, ["consumer1", "consumer5", "consumer4"]] {
        let members = group(ids, None);
        let ranges = [
            "topic1-0, topic1-1, topic2-0, topic2-1",
            "topic1-2, topic1-3, topic2-2, topic2-3",
            "topic1-4, topic2-4",
        ];
        check(&Range, &view, &members, &ranges);
        let turns = [
            "topic1-0, topic1-3, topic2-1, topic2-4",
            "topic1-1, topic1-4, topic2-2",
            "topic1-2, topic2-0, topic2-3",
        ];
        check(&RoundRobin, &view, &members, &turns);
        let brokers: Vec<_> = (0..6).map(|broker| Some(RACKS[broker % 3])).collect();
        let topics = ["topic1", "topic2"].map(|name| cluster(&[(name, 5)], 2, &brokers).topics()[0].clone());
        let members: Vec<_> =
            members.into_iter().zip(RACKS).map(|(member, rack)| member.in_rack(Some(rack))).collect();
        let near = [
            "topic1-0, topic1-2, topic2-0, topic2-2",
            "topic1-1, topic1-3, topic2-1, topic2-3",
            "topic1-4, topic2-4",
        ];
        check(&Range, &ClusterView::new(topics), &members, &near);
    }
}

/// Java's `verifyRackAssignment`.
struct RackCase<'a> {
    topics: &'a [(&'a str, usize)],
    wants: &'a [&'a str],
}

impl RackCase<'_> {
    #[track_caller]
    #[expect(clippy::too_many_arguments, reason = "they are those of Java's function, in its order")]
    fn check(
        &self,
        assignor: &dyn Assignor,
        replicas: usize,
        brokers: &[Option<&str>],
        members: &[Option<&str>],
        held: Option<&[&str]>,
        expected: &[&str],
        mismatches: Option<usize>,
    ) {
        let view = cluster(self.topics, replicas, brokers);
        let members: Vec<_> = self
            .wants
            .iter()
            .zip(members)
            .enumerate()
            .map(|(at, (wants, rack))| {
                let member = member(&format!("consumer{at}"), wants).in_rack(*rack);
                held.map_or(member.clone(), |held| member.holding(held[at], -1))
            })
            .collect();
        check(assignor, &view, &members, expected);
        let Some(mismatches) = mismatches else { return };
        let found = members.iter().zip(expected).map(|(member, expected)| {
            let list = partitions(expected);
            let away = |topic: &Str, index: i32| {
                let partition = &view.topic(topic).unwrap().partitions[index as usize];
                member.subscription.rack.as_ref().is_some_and(|rack| !partition.racks.contains(rack))
            };
            let count = |entry: &TopicPartitions| {
                entry.partitions.iter().filter(|index| away(&entry.topic, **index)).count()
            };
            list.iter().map(count).sum::<usize>()
        });
        assert_eq!(found.sum::<usize>(), mismatches);
    }

    /// Racks that make no difference.
    #[track_caller]
    fn check_plain(&self, assignor: &dyn Assignor, held: Option<&[&str]>, expected: &[&str]) {
        let (three, none) = (racks(3), vec![None; 3]);
        self.check(assignor, 3, &none, &three, held, expected, None);
        self.check(assignor, 3, &three, &none, held, expected, None);
        self.check(assignor, 3, &three, &three, held, expected, Some(0));
        self.check(assignor, 4, &racks(4), &three, held, expected, Some(0));
        self.check(assignor, 3, &three, &[Some("d"), Some("e"), Some("f")], held, expected, None);
        self.check(assignor, 3, &three, &[None, Some("e"), Some("f")], held, expected, None);
    }
}

const T123: &[(&str, usize)] = &[("t1", 6), ("t2", 7), ("t3", 2)];
const ALL: &str = "t1, t2, t3";

#[test]
fn range_with_racks_and_uniform_subscriptions() {
    let case = RackCase { topics: T123, wants: &[ALL; 3] };
    let plain =
        ["t1-0, t1-1, t2-0, t2-1, t2-2, t3-0", "t1-2, t1-3, t2-3, t2-4, t3-1", "t1-4, t1-5, t2-5, t2-6"];
    case.check_plain(&Range, None, &plain);
    let three = racks(3);
    let one =
        ["t1-0, t1-3, t2-0, t2-3, t2-6", "t1-1, t1-4, t2-1, t2-4, t3-0", "t1-2, t1-5, t2-2, t2-5, t3-1"];
    case.check(&Range, 1, &three, &three, None, &one, Some(0));
    let two =
        ["t1-0, t1-2, t2-0, t2-2, t2-3, t3-1", "t1-1, t1-3, t2-1, t2-4, t3-0", "t1-4, t1-5, t2-5, t2-6"];
    case.check(&Range, 2, &three, &three, None, &two, Some(1));
    case.check(&Range, 3, &racks(2), &three, None, &plain, Some(4));
}

#[test]
fn range_with_racks_and_different_subscriptions() {
    let case = RackCase { topics: T123, wants: &[ALL, ALL, "t1, t3"] };
    let plain =
        ["t1-0, t1-1, t2-0, t2-1, t2-2, t2-3, t3-0", "t1-2, t1-3, t2-4, t2-5, t2-6, t3-1", "t1-4, t1-5"];
    case.check_plain(&Range, None, &plain);
    let three = racks(3);
    let one =
        ["t1-0, t1-3, t2-0, t2-2, t2-3, t2-6", "t1-1, t1-4, t2-1, t2-4, t2-5, t3-0", "t1-2, t1-5, t3-1"];
    case.check(&Range, 1, &three, &three, None, &one, Some(2));
    let two =
        ["t1-0, t1-2, t2-0, t2-2, t2-3, t2-5, t3-1", "t1-1, t1-3, t2-1, t2-4, t2-6, t3-0", "t1-4, t1-5"];
    case.check(&Range, 2, &three, &three, None, &two, Some(0));
    case.check(&Range, 3, &racks(2), &three, None, &plain, Some(2));
}

#[test]
fn range_keeps_co_partitioned_topics_together() {
    let topics = &[("t1", 5), ("t2", 5), ("t3", 5)];
    let three = racks(3);
    let case = RackCase { topics, wants: &[ALL; 3] };
    let plain =
        ["t1-0, t1-1, t2-0, t2-1, t3-0, t3-1", "t1-2, t1-3, t2-2, t2-3, t3-2, t3-3", "t1-4, t2-4, t3-4"];
    case.check_plain(&Range, None, &plain);
    case.check(&Range, 1, &three, &three, None, &plain, Some(10));
    case.check(&Range, 2, &three, &three, None, &plain, Some(5));
    case.check(&Range, 3, &racks(2), &three, None, &plain, Some(3));

    let case = RackCase { topics, wants: &[ALL, ALL, "t1, t3"] };
    let plain =
        ["t1-0, t1-1, t2-0, t2-1, t2-2, t3-0, t3-1", "t1-2, t1-3, t2-3, t2-4, t3-2, t3-3", "t1-4, t3-4"];
    case.check_plain(&Range, None, &plain);
    let one =
        ["t1-0, t1-1, t2-0, t2-1, t2-4, t3-0, t3-1", "t1-2, t1-3, t2-2, t2-3, t3-2, t3-3", "t1-4, t3-4"];
    case.check(&Range, 1, &three, &three, None, &one, Some(9));
    let two =
        ["t1-2, t2-0, t2-1, t2-3, t3-2", "t1-0, t1-3, t2-2, t2-4, t3-0, t3-3", "t1-1, t1-4, t3-1, t3-4"];
    case.check(&Range, 2, &three, &three, None, &two, Some(0));
    case.check(&Range, 3, &racks(2), &three, None, &plain, Some(2));
}

#[test]
fn range_matches_racks_of_co_partitioned_topics() {
    let topics = &[("t1", 6), ("t2", 6), ("t3", 2), ("t4", 2)];
    let members = [Some("a"), Some("b"), Some("b"), Some("a")];
    let case = RackCase { topics, wants: &["t1, t2", "t1, t2", "t3, t4", "t3, t4"] };
    let plain = [
        "t1-0, t1-1, t1-2, t2-0, t2-1, t2-2",
        "t1-3, t1-4, t1-5, t2-3, t2-4, t2-5",
        "t3-0, t4-0",
        "t3-1, t4-1",
    ];
    case.check(&Range, 3, &racks(2), &members, None, &plain, None);
    case.check(&Range, 2, &racks(2), &members, None, &plain, Some(0));
    let one = [
        "t1-0, t1-2, t1-4, t2-0, t2-2, t2-4",
        "t1-1, t1-3, t1-5, t2-1, t2-3, t2-5",
        "t3-1, t4-1",
        "t3-0, t4-0",
    ];
    case.check(&Range, 1, &racks(2), &members, None, &one, Some(0));

    let case = RackCase { topics, wants: &["t1, t2, t3, t4"; 4] };
    let plain = [
        "t1-0, t1-1, t2-0, t2-1, t3-0, t4-0",
        "t1-2, t1-3, t2-2, t2-3, t3-1, t4-1",
        "t1-4, t2-4",
        "t1-5, t2-5",
    ];
    case.check(&Range, 3, &racks(2), &members, None, &plain, None);
    case.check(&Range, 2, &racks(2), &members, None, &plain, Some(0));
    let one = [
        "t1-0, t1-2, t2-0, t2-2, t3-0, t4-0",
        "t1-1, t1-3, t2-1, t2-3, t3-1, t4-1",
        "t1-5, t2-5",
        "t1-4, t2-4",
    ];
    case.check(&Range, 1, &racks(2), &members, None, &one, Some(0));
    let of_three = [
        "t1-0, t1-3, t2-0, t2-3, t3-0, t4-0",
        "t1-1, t1-4, t2-1, t2-4, t3-1, t4-1",
        "t1-2, t2-2",
        "t1-5, t2-5",
    ];
    case.check(&Range, 1, &racks(3), &members, None, &of_three, Some(6));

    let topics = &[("t1", 6), ("t2", 6), ("t3", 2), ("t4", 2), ("t5", 4), ("t6", 4)];
    let case = RackCase { topics, wants: &["t1, t2, t3, t4, t5, t6, t7, t8, t9"; 3] };
    let plain = [
        "t1-0, t1-1, t2-0, t2-1, t3-0, t4-0, t5-0, t5-1, t6-0, t6-1",
        "t1-2, t1-3, t2-2, t2-3, t3-1, t4-1, t5-2, t6-2",
        "t1-4, t1-5, t2-4, t2-5, t5-3, t6-3",
    ];
    case.check(&Range, 3, &[None, None, None], &racks(3), None, &plain, None);
    let two = [
        "t1-0, t1-2, t2-0, t2-2, t3-0, t4-0, t5-1, t6-1",
        "t1-1, t1-3, t2-1, t2-3, t3-1, t4-1, t5-2, t6-2",
        "t1-4, t1-5, t2-4, t2-5, t5-0, t5-3, t6-0, t6-3",
    ];
    case.check(&Range, 2, &racks(3), &racks(3), None, &two, Some(0));
}

#[test]
fn sticky_with_racks_and_uniform_subscriptions() {
    let case = RackCase { topics: T123, wants: &[ALL; 3] };
    let (two, three) = (racks(2), racks(3));
    let plain =
        ["t1-0, t1-3, t2-0, t2-3, t2-6", "t1-1, t1-4, t2-1, t2-4, t3-0", "t1-2, t1-5, t2-2, t2-5, t3-1"];
    let owned =
        ["t1-0, t1-1, t1-2, t1-3, t1-4", "t1-5, t2-0, t2-1, t2-2, t2-3", "t2-4, t2-5, t2-6, t3-0, t3-1"];
    for sticky in STICKY {
        for held in [None, Some(&plain[..])] {
            case.check_plain(sticky, held, &plain);
            case.check(sticky, 1, &three, &three, held, &plain, Some(0));
            case.check(sticky, 2, &three, &three, held, &plain, Some(0));
            case.check(sticky, 3, &two, &three, held, &plain, Some(5));
        }
    }
    case.check(&Sticky, 1, &three, &three, Some(&owned), &plain, Some(0));
    let kept = ["t1-0, t1-3", "t2-1", "t2-5, t3-1"];
    case.check(&CooperativeSticky, 1, &three, &three, Some(&owned), &kept, Some(0));
}

#[test]
fn sticky_with_racks_and_different_subscriptions() {
    let case = RackCase { topics: T123, wants: &[ALL, ALL, "t1, t3"] };
    let (two, three) = (racks(2), racks(3));
    let plain =
        ["t1-5, t2-0, t2-2, t2-4, t2-6", "t1-3, t2-1, t2-3, t2-5, t3-0", "t1-0, t1-1, t1-2, t1-4, t3-1"];
    let one =
        ["t1-3, t2-0, t2-2, t2-3, t2-6", "t1-4, t2-1, t2-4, t2-5, t3-0", "t1-0, t1-1, t1-2, t1-5, t3-1"];
    let of_two =
        ["t1-3, t2-0, t2-2, t2-5, t2-6", "t1-0, t2-1, t2-3, t2-4, t3-0", "t1-1, t1-2, t1-4, t1-5, t3-1"];
    for sticky in STICKY {
        case.check_plain(sticky, None, &plain);
        case.check_plain(sticky, Some(&plain), &plain);
        case.check(sticky, 1, &three, &three, None, &one, Some(4));
        case.check(sticky, 2, &three, &three, None, &of_two, Some(0));
        case.check(sticky, 3, &two, &three, None, &plain, Some(5));
        case.check(sticky, 2, &three, &three, Some(&of_two), &of_two, Some(0));
    }
    let owned =
        ["t1-0, t1-1, t1-2, t1-3, t1-4", "t1-5, t2-0, t2-1, t2-2, t2-3", "t2-4, t2-5, t2-6, t3-0, t3-1"];
    case.check(&Sticky, 1, &three, &three, Some(&owned), &one, Some(4));
    let kept = ["t1-3", "t2-1", "t3-1"];
    case.check(&CooperativeSticky, 1, &three, &three, Some(&owned), &kept, Some(0));
    case.check(&CooperativeSticky, 1, &three, &three, Some(&kept), &one, Some(4));
}

#[test]
fn cooperative_sticky_without_differences_of_racks() {
    let case = RackCase { topics: T123, wants: &[ALL, ALL, "t1, t3"] };
    let three = racks(3);
    let owned =
        ["t1-0, t1-1, t1-2, t1-3, t1-4", "t1-5, t2-0, t2-1, t2-2, t2-3", "t2-4, t2-5, t2-6, t3-0, t3-1"];
    let kept = ["t1-2, t1-3, t1-4", "t2-0, t2-1, t2-2, t2-3", "t3-0, t3-1"];
    let after =
        ["t1-2, t1-3, t1-4, t2-4, t2-5", "t2-0, t2-1, t2-2, t2-3, t2-6", "t1-0, t1-1, t1-5, t3-0, t3-1"];
    case.check(&CooperativeSticky, 3, &three, &three, Some(&owned), &kept, Some(0));
    case.check(&CooperativeSticky, 3, &three, &three, Some(&kept), &after, Some(0));
}

/// The members' partitions by `Sticky`, and by `CooperativeSticky` with those that are withheld named.
#[track_caller]
fn check_sticky(view: &ClusterView, members: &[Member], expected: &[&str], withheld: &str) {
    check(&Sticky, view, members, expected);
    let withheld = words(withheld);
    let kept: Vec<String> = expected
        .iter()
        .map(|list| {
            words(list).into_iter().filter(|name| !withheld.contains(name)).collect::<Vec<_>>().join(", ")
        })
        .collect();
    check(&CooperativeSticky, view, members, &kept.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn members_below_and_at_their_quota() {
    let both = "topic1, topic2";
    let holding = |id: &str, list: &str| member(id, both).holding(list, 1);
    let view = plain(&[("topic1", 2), ("topic2", 3)]);
    let members = [holding("consumer1", "topic1-0, topic2-1"), holding("consumer2", "topic1-1, topic2-2")];
    check_sticky(&view, &members, &["topic1-0, topic2-0, topic2-1", "topic1-1, topic2-2"], "");
    let members =
        [holding("consumer1", "topic1-0"), holding("consumer2", "topic1-1"), holding("consumer3", "")];
    check_sticky(&view, &members, &["topic1-0, topic2-1", "topic1-1, topic2-2", "topic2-0"], "");
    // Which of the two members keeps two partitions follows from a hash in Java: there it is the second.
    let view = plain(&[("topic1", 2), ("topic2", 2)]);
    let members = [
        holding("consumer1", "topic1-0, topic2-0"),
        holding("consumer2", "topic1-1, topic2-1"),
        holding("consumer3", ""),
    ];
    check_sticky(&view, &members, &["topic1-0, topic2-0", "topic1-1", "topic2-1"], "topic2-1");
    let view = plain(&[("topic", 4)]);
    let of_topic = |id: &str, list: &str| member(id, "topic").holding(list, 1);
    let members = [
        of_topic("consumer1", "topic-0, topic-1"),
        of_topic("consumer2", "topic-2"),
        of_topic("consumer3", ""),
    ];
    check_sticky(&view, &members, &["topic-0, topic-1", "topic-2", "topic-3"], "");
}

#[test]
fn members_come_and_go() {
    let view = plain(&[("topic", 3)]);
    let first = member("consumer1", "topic").holding("topic-0, topic-1, topic-2", 1);
    let members = [first, member("consumer2", "topic").holding("", 1)];
    check_sticky(&view, &members, &["topic-0, topic-1", "topic-2"], "topic-2");
    let members = [member("consumer2", "topic").holding("topic-2", 1)];
    check_sticky(&view, &members, &["topic-0, topic-1, topic-2"], "");

    let both = "topic1, topic2";
    let view = plain(&[("topic1", 3), ("topic2", 4)]);
    let members = [member("consumer1", both), member("consumer2", both)];
    let two = ["topic1-0, topic1-2, topic2-1, topic2-3", "topic1-1, topic2-0, topic2-2"];
    check_sticky(&view, &members, &two, "");
    let members = [
        member("consumer1", both).holding(two[0], 1),
        member("consumer2", both).holding(two[1], 1),
        member("consumer3", both).holding("", 1),
        member("consumer4", both).holding("", 1),
    ];
    let four = ["topic1-0, topic2-1", "topic1-1, topic2-0", "topic1-2, topic2-3", "topic2-2"];
    check_sticky(&view, &members, &four, "topic1-2, topic2-3, topic2-2");
    let members =
        [member("consumer3", both).holding(four[2], 1), member("consumer4", both).holding(four[3], 1)];
    check_sticky(
        &view,
        &members,
        &["topic1-0, topic1-2, topic2-1, topic2-3", "topic1-1, topic2-0, topic2-2"],
        "",
    );
}

#[test]
fn every_member_has_as_much_of_each_topic() {
    let both = "topic1, topic2";
    let view = plain(&[("topic1", 12), ("topic2", 12)]);
    let mut held: Vec<(String, String)> = Vec::new();
    for ids in [&["1"][..], &["1", "2"], &["1", "2", "3", "4"], &["3", "4"]] {
        let of =
            |id: &str| held.iter().find(|(other, _)| other == id).map_or("", |(_, list)| list).to_owned();
        let members: Vec<_> = ids.iter().map(|id| member(id, both).holding(&of(id), 1)).collect();
        let assigned = assign(&Sticky, &view, &members);
        for list in &assigned {
            let count = |topic: &str| words(list).iter().filter(|name| name.starts_with(topic)).count();
            assert_eq!(
                (count("topic1-"), count("topic2-")),
                (12 / ids.len(), 12 / ids.len()),
                "{assigned:?}"
            );
        }
        held = ids.iter().map(|id| (*id).to_owned()).zip(assigned).collect();
    }
}

#[test]
fn the_higher_generation_wins() {
    let both = "topic, topic2";
    let view = plain(&[("topic", 3), ("topic2", 3)]);
    let list = "topic-0, topic-2, topic2-1";
    for generation in [9, -1] {
        let members = [
            member("consumer1", both).holding(list, 10),
            member("consumer2", both).holding(list, generation),
        ];
        check_sticky(&view, &members, &[list, "topic-1, topic2-0, topic2-2"], "");
    }
    let members = [
        member("consumer1", both).holding("topic-0, topic2-1, topic-1", 10),
        member("consumer2", both).holding("topic-0, topic2-1, topic2-2", 8),
    ];
    check_sticky(&view, &members, &["topic-0, topic-1, topic2-1", "topic-2, topic2-0, topic2-2"], "");

    let all = "topic, topic2, topic3";
    let view = plain(&[("topic", 3), ("topic2", 3), ("topic3", 3)]);
    let members = [
        member("consumer1", all).holding("topic-0, topic2-0, topic3-0", 10),
        member("consumer2", all).holding("topic-1, topic2-1, topic3-1", 9),
        member("consumer3", all).holding("topic2-1, topic3-0, topic3-2", 8),
    ];
    let expected =
        ["topic-0, topic2-0, topic3-0", "topic-1, topic2-1, topic3-1", "topic-2, topic2-2, topic3-2"];
    check_sticky(&view, &members, &expected, "");

    let all = "topic, topic1, topic2, topic3";
    let view = plain(&[("topic", 3), ("topic1", 3), ("topic2", 3), ("topic3", 3)]);
    let held = ["topic-0, topic1-0, topic2-0", "topic1-1, topic2-2, topic3-2", "topic-1, topic-2, topic3-1"];
    let members = [
        member("consumer1", all).holding("", -1),
        member("consumer2", all).holding(held[0], 9),
        member("consumer3", all).holding(held[1], 8),
        member("consumer4", all).holding(held[2], 7),
    ];
    check_sticky(&view, &members, &["topic1-2, topic2-1, topic3-0", held[0], held[1], held[2]], "");
}

#[test]
fn a_partition_that_two_members_claim_is_believed_to_neither() {
    let of_topic = |id: &str, list: &str| member(id, "topic").holding(list, 1);
    let members = [
        of_topic("consumer1", "topic-0, topic-1"),
        of_topic("consumer2", "topic-0, topic-2"),
        of_topic("consumer3", ""),
    ];
    check_sticky(&plain(&[("topic", 3)]), &members, &["topic-1", "topic-2", "topic-0"], "topic-0");
    let expected = ["topic-1, topic-3", "topic-2", "topic-0"];
    check_sticky(&plain(&[("topic", 4)]), &members, &expected, "topic-0");
    // A claim of a higher generation decides, in whatever order the claims are read.
    for newest in 0..3 {
        let of = |at: usize| {
            let list = if at == newest { "topic-0" } else { "topic-0, topic-1" };
            member(&format!("consumer{at}"), "topic").holding(list, if at == newest { 2 } else { 1 })
        };
        let members: Vec<_> = (0..3).map(of).collect();
        let mut expected = ["topic-1", "topic-2"].into_iter();
        let expected: Vec<_> =
            (0..3).map(|at| if at == newest { "topic-0" } else { expected.next().unwrap() }).collect();
        check_sticky(&plain(&[("topic", 3)]), &members, &expected, "topic-1");
    }
}

#[test]
fn members_of_older_versions_keep_what_they_have() {
    let view = plain(&[("topic1", 3)]);
    let mut members = [
        member("consumer1", "topic1").holding("topic1-0", 1),
        member("consumer2", "topic1").holding("topic1-1", 1),
        member("consumer3", "topic1").holding("", 1),
    ];
    // Version 0 has neither, and version 1 has no generation.
    members[0].subscription.owned.clear();
    members[0].subscription.generation = None;
    members[1].subscription.generation = None;
    check(&Sticky, &view, &members, &["topic1-0", "topic1-1", "topic1-2"]);
    for (at, generation) in [(0, 1_i32), (1, 1)] {
        members[at].subscription.owned = partitions(["topic1-0", "topic1-1"][at]);
        members[at].subscription.user_data = Some(bytes::Bytes::copy_from_slice(&generation.to_be_bytes()));
    }
    check(&CooperativeSticky, &view, &members, &["topic1-0", "topic1-1", "topic1-2"]);
}

#[test]
fn a_partition_that_moves_between_racks_is_withheld() {
    let brokers: Vec<_> = racks(2);
    let view = cluster(&[("topic1", 4)], 1, &brokers);
    let members = [
        member("c0", "topic1").holding("topic1-0, topic1-1", 1).in_rack(Some("a")),
        member("c1", "topic1").holding("topic1-2, topic1-3", 1).in_rack(Some("b")),
    ];
    check_sticky(&view, &members, &["topic1-0, topic1-2", "topic1-1, topic1-3"], "topic1-1, topic1-2");
}
