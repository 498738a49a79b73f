//! The assignors of the coordinator: `uniform` and `range`, as Kafka's.
//!
//! `uniform` gives all members the same number of partitions, give or take one, and takes from nobody more than it must.
//! `range` gives each member neighbouring partitions of each topic, so that members have the same partitions of topics
//! with as many partitions. Neither looks at racks; Kafka's do not either.

use std::collections::{BTreeMap, BTreeSet};

use milena_wire::{Str, Uuid};

use super::Partitions;

/// A member as an assignor sees it.
#[derive(Debug)]
pub(super) struct Candidate<'a> {
    pub(super) instance_id: Option<&'a Str>,
    /// The topics that it subscribes to and that exist.
    pub(super) topics: BTreeSet<Uuid>,
    /// What it was to have until now.
    pub(super) target: &'a Partitions,
}

/// An assignor of the coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Assignor {
    Uniform,
    Range,
}

impl Assignor {
    /// All of them, Kafka's default first (`group.consumer.assignors`).
    pub(super) const ALL: [Self; 2] = [Self::Uniform, Self::Range];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|assignor| assignor.name() == name)
    }

    /// What each member is to have. `counts` has the partitions of each topic that somebody subscribes to.
    pub(super) fn assign(
        self,
        members: &BTreeMap<&Str, Candidate<'_>>,
        counts: &BTreeMap<Uuid, i32>,
    ) -> BTreeMap<Str, Partitions> {
        let mut subscriptions = members.values().map(|member| &member.topics);
        let first = subscriptions.next();
        match self {
            Self::Range => range(members, counts),
            Self::Uniform if subscriptions.all(|topics| Some(topics) == first) => same(members, counts),
            Self::Uniform => Balance::new(members, counts).run(),
        }
    }
}

fn range(members: &BTreeMap<&Str, Candidate<'_>>, counts: &BTreeMap<Uuid, i32>) -> BTreeMap<Str, Partitions> {
    // Static members come first, in the order of their group instance ids: a restart does not change their place.
    let mut order: Vec<(&Str, &Candidate<'_>)> = members.iter().map(|(id, member)| (*id, member)).collect();
    order.sort_by_key(|(id, member)| (member.instance_id.is_none(), member.instance_id, *id));
    let mut assigned: BTreeMap<Str, Partitions> =
        order.iter().map(|(id, _)| ((*id).clone(), Partitions::new())).collect();
    for (&topic, &count) in counts {
        let subscribers: Vec<&Str> =
            order.iter().filter(|(_, member)| member.topics.contains(&topic)).map(|(id, _)| *id).collect();
        let (each, more) = (count / subscribers.len().max(1) as i32, count % subscribers.len().max(1) as i32);
        let mut next = 0;
        for (place, id) in (0..).zip(subscribers) {
            let end = next + each + i32::from(place < more);
            if next < end
                && let Some(partitions) = assigned.get_mut(id)
            {
                partitions.insert(topic, (next..end).collect());
            }
            next = end;
        }
    }
    assigned
}

/// The uniform assignment of members that all subscribe to the same topics.
fn same(members: &BTreeMap<&Str, Candidate<'_>>, counts: &BTreeMap<Uuid, i32>) -> BTreeMap<Str, Partitions> {
    let total: usize = counts.values().map(|&count| count as usize).sum();
    let (each, mut more) = (total / members.len().max(1), total % members.len().max(1));
    let mut free: BTreeSet<(Uuid, i32)> = counts
        .iter()
        .flat_map(|(&topic, &count)| (0..count).map(move |partition| (topic, partition)))
        .collect();
    let mut assigned: BTreeMap<Str, Partitions> = BTreeMap::new();
    let mut hungry: Vec<(&Str, usize)> = Vec::new();
    for (place, (&id, member)) in members.iter().enumerate() {
        // Those who have one more already keep it, as long as there are enough for all who come after them.
        let mut quota = each + usize::from(more > 0);
        let mut has_more = more > 0;
        let mut kept = Partitions::new();
        for (&topic, partitions) in member.target {
            for &partition in partitions {
                if quota > 0 && free.remove(&(topic, partition)) {
                    kept.entry(topic).or_default().insert(partition);
                    quota -= 1;
                }
            }
        }
        if quota > 0 && has_more && members.len() - place > more {
            quota -= 1;
            has_more = false;
        }
        if has_more {
            more -= 1;
        }
        if quota > 0 {
            hungry.push((id, quota));
        }
        assigned.insert(id.clone(), kept);
    }
    let mut free = free.into_iter();
    for (id, quota) in hungry {
        let partitions = assigned.get_mut(id).expect("each member was put in");
        for (topic, partition) in free.by_ref().take(quota) {
            partitions.entry(topic).or_default().insert(partition);
        }
    }
    assigned
}

/// The uniform assignment of members whose subscriptions differ: it keeps what members have, gives free partitions to
/// those who have least, and then moves partitions from those who have most until no move helps.
struct Balance<'a> {
    ids: Vec<&'a Str>,
    /// The members that subscribe to each topic, by their places in `ids`.
    subscribers: BTreeMap<Uuid, Vec<usize>>,
    /// The owner of each partition.
    owners: BTreeMap<Uuid, Vec<Option<usize>>>,
    /// How many partitions each member has.
    sizes: Vec<usize>,
}

/// The most passes over all topics. Each is cheap, and nearly always the first is enough.
const PASSES_MAX: usize = 16;

impl<'a> Balance<'a> {
    fn new(members: &BTreeMap<&'a Str, Candidate<'_>>, counts: &BTreeMap<Uuid, i32>) -> Self {
        let ids: Vec<&'a Str> = members.keys().copied().collect();
        let mut subscribers: BTreeMap<Uuid, Vec<usize>> = BTreeMap::new();
        let mut owners: BTreeMap<Uuid, Vec<Option<usize>>> =
            counts.iter().map(|(&topic, &count)| (topic, vec![None; count as usize])).collect();
        let mut sizes = vec![0; ids.len()];
        for (place, member) in members.values().enumerate() {
            for &topic in &member.topics {
                subscribers.entry(topic).or_default().push(place);
            }
            for (topic, partitions) in member.target.iter().filter(|(topic, _)| member.topics.contains(topic))
            {
                let Some(owners) = owners.get_mut(topic) else { continue };
                for &partition in partitions {
                    if let Some(owner @ None) = owners.get_mut(partition as usize) {
                        *owner = Some(place);
                        sizes[place] += 1;
                    }
                }
            }
        }
        owners.retain(|topic, _| subscribers.contains_key(topic));
        Self { ids, subscribers, owners, sizes }
    }

    fn run(mut self) -> BTreeMap<Str, Partitions> {
        // Topics with many partitions for each subscriber first: what comes later evens them out.
        let mut topics: Vec<Uuid> = self.owners.keys().copied().collect();
        topics.sort_by_key(|topic| {
            let (partitions, subscribers) = (self.owners[topic].len(), self.subscribers[topic].len());
            (std::cmp::Reverse(partitions * 1_000_000 / subscribers), subscribers, *topic)
        });
        for &topic in &topics {
            for partition in 0..self.owners[&topic].len() {
                if self.owners[&topic][partition].is_none() {
                    let least = self.least(topic);
                    self.give(topic, partition, least);
                }
            }
        }
        for _ in 0..PASSES_MAX {
            let moved: usize = topics.iter().map(|&topic| self.balance(topic)).sum();
            if moved == 0 {
                break;
            }
        }
        let mut assigned: BTreeMap<Str, Partitions> =
            self.ids.iter().map(|&id| (id.clone(), Partitions::new())).collect();
        for (topic, owners) in self.owners {
            for (partition, owner) in (0..).zip(owners) {
                let id = owner.map(|place| self.ids[place]);
                if let Some(partitions) = id.and_then(|id| assigned.get_mut(id)) {
                    partitions.entry(topic).or_default().insert(partition);
                }
            }
        }
        assigned
    }

    /// Moves partitions of one topic from the subscribers that have most to those that have least. Returns how many.
    fn balance(&mut self, topic: Uuid) -> usize {
        let mut held: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (partition, owner) in self.owners[&topic].iter().enumerate() {
            held.entry(owner.expect("all were given out")).or_default().push(partition);
        }
        let mut moved = 0;
        loop {
            let least = self.least(topic);
            // Only a subscriber that has some of this topic can give one.
            let giver = held
                .iter()
                .filter(|(_, partitions)| !partitions.is_empty())
                .map(|(&place, _)| place)
                .max_by_key(|&place| (self.sizes[place], place));
            let Some(giver) = giver.filter(|&giver| self.sizes[giver] > self.sizes[least] + 1) else {
                return moved;
            };
            let partition = held.get_mut(&giver).and_then(Vec::pop).expect("it has one");
            self.give(topic, partition, least);
            held.entry(least).or_default().push(partition);
            moved += 1;
        }
    }

    fn give(&mut self, topic: Uuid, partition: usize, place: usize) {
        let owner = &mut self.owners.get_mut(&topic).expect("the topic is there")[partition];
        if let Some(before) = owner.replace(place) {
            self.sizes[before] -= 1;
        }
        self.sizes[place] += 1;
    }

    /// The subscriber of a topic that has least.
    fn least(&self, topic: Uuid) -> usize {
        let places = self.subscribers[&topic].iter().copied();
        places.min_by_key(|&place| (self.sizes[place], place)).expect("a topic that is here has a subscriber")
    }
}
