//! Cases of Java's own assignor tests (`RangeAssignorTest`, `RoundRobinAssignorTest`, `AbstractStickyAssignorTest` and its
//! two children, Apache Kafka at 1eb7644349c), and rules that hold for random groups.

mod encoding;
mod java;
mod large;
mod random;

use milena_wire::Str;

use super::{
    Assignment, Assignor, ClusterView, Held, Member, PartitionView, Subscription, TopicPartitions, TopicView,
};

/// Racks as Java's tests name them.
const RACKS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// Topics with their partition counts. Replica `r` of partition `p` is on broker `(p + r + offset) % brokers`, and the
/// offset grows with the partitions of earlier topics, as in Java's tests.
fn cluster(topics: &[(&str, usize)], replicas: usize, brokers: &[Option<&str>]) -> ClusterView {
    let mut offset = 0;
    ClusterView::new(topics.iter().map(|(name, count)| {
        let partitions = (0..*count).map(|index| {
            let racks = (0..replicas)
                .filter_map(|replica| *brokers.get((index + replica + offset) % brokers.len().max(1))?);
            PartitionView { index: index as i32, racks: racks.map(Str::from).collect() }
        });
        let topic = TopicView { name: Str::from(*name), partitions: partitions.collect() };
        offset += count;
        topic
    }))
}

/// Topics whose racks are not known.
fn plain(topics: &[(&str, usize)]) -> ClusterView {
    cluster(topics, 0, &[])
}

fn racks(count: usize) -> Vec<Option<&'static str>> {
    RACKS[..count].iter().copied().map(Some).collect()
}

fn words(list: &str) -> Vec<&str> {
    list.split([',', ' ']).filter(|word| !word.is_empty()).collect()
}

/// `t1-0, t1-3, t2-0` by topic.
fn partitions(list: &str) -> Vec<TopicPartitions> {
    let entries = words(list).into_iter().map(|word| {
        let (topic, index) = word.rsplit_once('-').unwrap();
        TopicPartitions { topic: Str::from(topic), partitions: vec![index.parse().unwrap()] }
    });
    super::subscription::grouped(&entries.collect::<Vec<_>>())
}

/// The assignment as the list that Java's tests have.
fn listed(assignment: &Assignment) -> String {
    let names = assignment.partitions.iter().flat_map(|entry| {
        entry.partitions.iter().map(|index| format!("{}-{index}", entry.topic)).collect::<Vec<_>>()
    });
    names.collect::<Vec<_>>().join(", ")
}

/// A member with subscribed topics.
fn member(id: &str, topics: &str) -> Member {
    let topics = words(topics).into_iter().map(Str::from).collect();
    Member {
        id: id.into(),
        instance_id: None,
        subscription: Subscription { topics, ..Subscription::default() },
    }
}

impl Member {
    /// The same member, which got `list` in `generation` and says so to every assignor.
    fn holding(mut self, list: &str, generation: i32) -> Self {
        let held = Held { partitions: partitions(list), generation };
        self.hold(held);
        self
    }

    fn hold(&mut self, held: Held) {
        self.subscription.user_data = super::Sticky.user_data(&[], Some(&held));
        self.subscription.generation = (held.generation >= 0).then_some(held.generation);
        self.subscription.owned = held.partitions;
    }

    fn in_rack(mut self, rack: Option<&str>) -> Self {
        self.subscription.rack = rack.map(Str::from);
        self
    }

    fn named(mut self, instance_id: &str) -> Self {
        self.instance_id = Some(instance_id.into());
        self
    }
}

fn assign(assignor: &dyn Assignor, cluster: &ClusterView, members: &[Member]) -> Vec<String> {
    let assignments = assignor.assign(cluster, members).unwrap();
    assert_eq!(assignments.len(), members.len());
    assignments.iter().map(listed).collect()
}

#[track_caller]
fn check(assignor: &dyn Assignor, cluster: &ClusterView, members: &[Member], expected: &[&str]) {
    assert_eq!(assign(assignor, cluster, members), expected, "{}", assignor.name());
    // The order of the members in the coordinator's answer must not matter.
    let reversed: Vec<_> = members.iter().rev().cloned().collect();
    let mut assigned = assign(assignor, cluster, &reversed);
    assigned.reverse();
    assert_eq!(assigned, expected, "{}, with the members reversed", assignor.name());
}
