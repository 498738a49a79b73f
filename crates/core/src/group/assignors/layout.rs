//! Numbers for members, topics, partitions and racks, so that assignors compare and index numbers instead of names.
//!
//! A *rank* is a member's place in the order that the assignor wants. A *slot* is a partition's place in the list of all
//! partitions that some member subscribes, by topic and then by index.

use std::cmp::Ordering;

use milena_wire::Str;

use super::subscription::Assignment;
use super::{ClusterView, Member, TopicPartitions, TopicView};

/// The members and the partitions that they subscribe.
#[derive(Debug)]
pub(super) struct Layout<'a> {
    cluster: &'a ClusterView,
    /// By rank: the place in the caller's list.
    order: Vec<u32>,
    members: &'a [Member],
    topics: Vec<&'a TopicView>,
    /// By place in the cluster's list: the topic's number here, if a member subscribes it and it has partitions.
    numbers: Vec<Option<u32>>,
    /// By topic: its first slot. One more entry has the number of slots.
    first: Vec<u32>,
    /// By slot.
    topic_of: Vec<u32>,
    /// By topic: the ranks of its subscribers, ascending.
    subscribers: Vec<Vec<u32>>,
    /// By rank: the numbers of its topics, ascending.
    topics_of: Vec<Vec<u32>>,
}

impl<'a> Layout<'a> {
    /// Numbers `members` in the order that `compare` gives, and the partitions of the topics they subscribe.
    pub(super) fn new(
        cluster: &'a ClusterView,
        members: &'a [Member],
        compare: impl Fn(&Member, &Member) -> Ordering,
    ) -> Self {
        let mut order: Vec<u32> = (0..members.len() as u32).collect();
        order.sort_by(|a, b| compare(&members[*a as usize], &members[*b as usize]));
        let mut topics_of = resolve(cluster, members, &order);
        let (topics, numbers) = number_topics(cluster, &topics_of);
        let mut subscribers = vec![Vec::new(); topics.len()];
        for (rank, wanted) in topics_of.iter_mut().enumerate() {
            for topic in wanted.iter_mut() {
                // A topic without partitions has no number. It is dropped below.
                *topic = numbers[*topic as usize].unwrap_or(u32::MAX);
            }
            wanted.sort_unstable();
            wanted.retain(|topic| *topic != u32::MAX);
            for topic in wanted.iter() {
                subscribers[*topic as usize].push(rank as u32);
            }
        }
        let mut first = Vec::with_capacity(topics.len() + 1);
        let mut topic_of = Vec::new();
        for (number, topic) in topics.iter().enumerate() {
            first.push(topic_of.len() as u32);
            topic_of.resize(topic_of.len() + topic.partitions.len(), number as u32);
        }
        first.push(topic_of.len() as u32);
        Self { cluster, order, members, topics, numbers, first, topic_of, subscribers, topics_of }
    }

    /// How many members there are.
    pub(super) fn member_count(&self) -> usize {
        self.order.len()
    }

    /// How many topics there are.
    pub(super) fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// How many partitions all topics have.
    pub(super) fn slot_count(&self) -> usize {
        self.topic_of.len()
    }

    /// The member of a rank.
    pub(super) fn member(&self, rank: u32) -> &'a Member {
        &self.members[self.order[rank as usize] as usize]
    }

    /// The slots of a topic.
    pub(super) fn slots(&self, topic: usize) -> std::ops::Range<u32> {
        self.first[topic]..self.first[topic + 1]
    }

    /// The topic of a slot.
    pub(super) fn topic_of(&self, slot: u32) -> u32 {
        self.topic_of[slot as usize]
    }

    /// The place of a slot in its topic.
    pub(super) fn place(&self, slot: u32) -> u32 {
        slot - self.first[self.topic_of(slot) as usize]
    }

    /// The ranks of a topic's subscribers, ascending.
    pub(super) fn subscribers(&self, topic: usize) -> &[u32] {
        &self.subscribers[topic]
    }

    /// Whether a member subscribes a topic.
    pub(super) fn subscribes(&self, rank: u32, topic: u32) -> bool {
        self.topics_of[rank as usize].binary_search(&topic).is_ok()
    }

    /// Whether all members subscribe the same topics, as far as those exist.
    pub(super) fn is_uniform(&self) -> bool {
        self.topics_of.windows(2).all(|pair| pair[0] == pair[1])
    }

    /// Calls `each` with the slot of every partition in `partitions` that exists and that some member subscribes.
    pub(super) fn each_slot(&self, partitions: &[TopicPartitions], mut each: impl FnMut(u32)) {
        for entry in partitions {
            let Some(at) = self.cluster.position(entry.topic.as_bytes()) else { continue };
            let Some(number) = self.numbers[at] else { continue };
            let first = self.first[number as usize];
            for index in &entry.partitions {
                if let Some(place) = self.cluster.topics[at].position(*index) {
                    each(first + place as u32);
                }
            }
        }
    }

    /// The assignments, in the caller's order, of slots by rank.
    pub(super) fn assignments(&self, slots: Vec<Vec<u32>>) -> Vec<Assignment> {
        let mut assignments = vec![Assignment::default(); self.order.len()];
        for (rank, mut slots) in slots.into_iter().enumerate() {
            slots.sort_unstable();
            let partitions = slots.chunk_by(|a, b| self.topic_of(*a) == self.topic_of(*b)).map(|slots| {
                let topic = self.topics[self.topic_of(slots[0]) as usize];
                let index = |slot: &u32| topic.partitions[self.place(*slot) as usize].index;
                TopicPartitions { topic: topic.name.clone(), partitions: slots.iter().map(index).collect() }
            });
            assignments[self.order[rank] as usize].partitions = partitions.collect();
        }
        assignments
    }
}

/// By rank: the places in the cluster's list of the topics that the member subscribes, each once.
fn resolve(cluster: &ClusterView, members: &[Member], order: &[u32]) -> Vec<Vec<u32>> {
    let mut resolved: Vec<Vec<u32>> = Vec::with_capacity(order.len());
    let mut last: &[Str] = &[];
    for rank in order {
        let topics = &members[*rank as usize].subscription.topics;
        // Most groups subscribe one list of topics. Comparing two lists is much cheaper than looking the names up.
        if let Some(known) = resolved.last()
            && topics.as_slice() == last
        {
            resolved.push(known.clone());
            continue;
        }
        let mut found: Vec<u32> = topics
            .iter()
            .filter_map(|topic| cluster.position(topic.as_bytes()))
            .map(|at| at as u32)
            .collect();
        found.sort_unstable();
        found.dedup();
        resolved.push(found);
        last = topics;
    }
    resolved
}

/// The topics that some member subscribes and that have partitions, in the order of Java's strings, and their numbers.
fn number_topics<'a>(
    cluster: &'a ClusterView,
    topics_of: &[Vec<u32>],
) -> (Vec<&'a TopicView>, Vec<Option<u32>>) {
    let mut wanted = vec![false; cluster.topics.len()];
    for at in topics_of.iter().flatten() {
        wanted[*at as usize] = !cluster.topics[*at as usize].partitions.is_empty();
    }
    let mut places: Vec<usize> = (0..wanted.len()).filter(|at| wanted[*at]).collect();
    places.sort_by(|a, b| java_order(&cluster.topics[*a].name, &cluster.topics[*b].name));
    let mut numbers = vec![None; wanted.len()];
    for (number, at) in places.iter().enumerate() {
        numbers[*at] = Some(number as u32);
    }
    (places.into_iter().map(|at| &cluster.topics[at]).collect(), numbers)
}

/// The order of Java's strings, which compare by UTF-16 unit: it differs from ours above U+D800.
pub(super) fn java_order(a: &Str, b: &Str) -> Ordering {
    if a.as_bytes().is_ascii() && b.as_bytes().is_ascii() {
        return a.as_bytes().cmp(b.as_bytes());
    }
    a.as_str().encode_utf16().cmp(b.as_str().encode_utf16())
}

/// Members by id.
pub(super) fn by_id(a: &Member, b: &Member) -> Ordering {
    java_order(&a.id, &b.id)
}

/// Static members first, by the name that they keep over restarts, then the others by id (KIP-345).
pub(super) fn static_first(a: &Member, b: &Member) -> Ordering {
    match (&a.instance_id, &b.instance_id) {
        (Some(a_name), Some(b_name)) => java_order(a_name, b_name).then_with(|| by_id(a, b)),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => by_id(a, b),
    }
}

/// The racks of members and partitions.
#[derive(Debug)]
pub(super) struct Racks {
    /// How many racks there are.
    pub(super) count: usize,
    /// By rank.
    members: Vec<Option<u32>>,
    /// By slot: where its racks begin in `list`. One more entry has the length of `list`.
    start: Vec<u32>,
    list: Vec<u32>,
}

impl Racks {
    /// The racks, if any member names its own.
    pub(super) fn new(layout: &Layout<'_>) -> Option<Self> {
        let ranks = 0..layout.member_count() as u32;
        let rack_of =
            |rank: u32| layout.member(rank).subscription.rack.as_ref().filter(|rack| !rack.is_empty());
        let mut names: Vec<&Str> = ranks.clone().filter_map(rack_of).collect();
        if names.is_empty() {
            return None;
        }
        let partitions = || layout.topics.iter().flat_map(|topic| &topic.partitions);
        names.sort();
        names.dedup();
        for name in partitions().flat_map(|partition| &partition.racks) {
            // There are few racks, so a name is hardly ever inserted.
            if let Err(at) = names.binary_search(&name) {
                names.insert(at, name);
            }
        }
        let number = |name: &Str| names.binary_search(&name).unwrap_or_default() as u32;
        let mut start = vec![0];
        let mut list = Vec::new();
        for partition in partitions() {
            let from = list.len();
            list.extend(partition.racks.iter().map(number));
            list[from..].sort_unstable();
            let kept = dedup(&mut list[from..]);
            list.truncate(from + kept);
            start.push(list.len() as u32);
        }
        Some(Self {
            count: names.len(),
            members: ranks.map(|rank| rack_of(rank).map(number)).collect(),
            start,
            list,
        })
    }

    /// The rack of a member.
    pub(super) fn of_member(&self, rank: u32) -> Option<u32> {
        self.members[rank as usize]
    }

    /// The racks of a partition, ascending.
    pub(super) fn of_slot(&self, slot: u32) -> &[u32] {
        &self.list[self.start[slot as usize] as usize..self.start[slot as usize + 1] as usize]
    }

    /// Whether a replica of the partition is in the member's rack. A member without a rack reads from anywhere.
    pub(super) fn matches(&self, rank: u32, slot: u32) -> bool {
        self.of_member(rank).is_none_or(|rack| self.of_slot(slot).contains(&rack))
    }

    /// How many of `ranks` are in each rack.
    pub(super) fn census(&self, ranks: impl IntoIterator<Item = u32>) -> Vec<u32> {
        let mut census = vec![0; self.count];
        for rack in ranks.into_iter().filter_map(|rank| self.of_member(rank)) {
            census[rack as usize] += 1;
        }
        census
    }

    /// Whether it makes a difference to these members which of these partitions they read: some rack has members and
    /// replicas, and not every partition is in all racks (KIP-881).
    pub(super) fn matter(
        &self,
        ranks: impl IntoIterator<Item = u32>,
        slots: impl IntoIterator<Item = u32> + Clone,
    ) -> bool {
        let census = self.census(ranks);
        let mut seen = vec![false; self.count];
        for rack in slots.clone().into_iter().flat_map(|slot| self.of_slot(slot)) {
            seen[*rack as usize] = true;
        }
        let shared = census.iter().zip(&seen).any(|(members, seen)| *members > 0 && *seen);
        let all = seen.iter().filter(|seen| **seen).count();
        shared && slots.into_iter().any(|slot| self.of_slot(slot).len() != all)
    }
}

/// Moves the distinct values of a sorted slice to its front, and says how many there are.
fn dedup(sorted: &mut [u32]) -> usize {
    let mut kept = 0;
    for at in 0..sorted.len() {
        if kept == 0 || sorted[kept - 1] != sorted[at] {
            sorted[kept] = sorted[at];
            kept += 1;
        }
    }
    kept
}
