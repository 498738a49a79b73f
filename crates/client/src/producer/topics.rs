//! The topics that a producer has written to. Each record looks its topic up without a lock and without counting
//! references.
//!
//! A topic is never forgotten while its producer lives, so the table only grows: chains of cells that are set once.

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, BuildHasherDefault};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use milena_core::Rng;
use milena_core::metadata::{Partition, Snapshot, Topic};
use milena_core::partitioner::SpreadSettings;
use milena_core::producer::Slot;
use rustc_hash::FxHasher;

use super::accumulator::Accumulator;
use super::inbox::{Event, Inbox};
use super::partitioner::{Place, Rule, Sticky};
use super::profile::{Profile, Profiles};
use crate::Record;
use crate::clock::Clock;
use crate::interest::Interest;

pub(super) struct Topics {
    /// Topics by the hash of their name.
    chains: [Cell<TopicEntry>; CHAINS],
    registry: Mutex<Registry>,
    inbox: Arc<Inbox>,
    profiles: Profiles,
    spreading: Spreading,
    clock: Clock,
}

/// How records without a key are spread.
pub(super) struct Spreading {
    pub(super) settings: SpreadSettings,
    /// If there is one, partitions whose leader is in this rack come first (KIP-1123).
    pub(super) rack: Option<Arc<str>>,
}

/// It is set once. A handle of a topic shares the topic's entry.
type Cell<T> = OnceLock<Arc<T>>;

/// With this many, chains are short even for thousands of topics.
const CHAINS: usize = 256;

/// Topics that are looked up in the background at a time. Each costs a task, until it is found or given up.
const LOOKED_UP_MAX: usize = 64;

struct Registry {
    /// One for each topic, which keeps the client's metadata of the topic fresh.
    interests: Vec<Interest>,
    next_slot: u32,
    /// Partitions that the driver has not taken in yet, in the order of their slots.
    added: Vec<Arc<Accumulator>>,
    /// Topics that are looked up in the background.
    looked_up: BTreeSet<Arc<str>>,
    rng: Rng,
    /// No partition takes records any more, and new ones never do.
    is_closed: bool,
}

pub(super) struct TopicEntry {
    pub(super) name: Arc<str>,
    partitions: Partitions,
    profile: Arc<Profile>,
    rule: Rule,
    sticky: Arc<Sticky>,
    /// The next topic in the same chain.
    next: Cell<TopicEntry>,
}

struct Partitions {
    all: Vec<Arc<Accumulator>>,
    /// All partitions, the added ones included, once the topic has grown.
    grown: Cell<Partitions>,
}

impl Topics {
    pub(super) fn new(
        rng: Rng,
        inbox: Arc<Inbox>,
        profiles: Profiles,
        spreading: Spreading,
        clock: Clock,
    ) -> Self {
        let registry = Registry {
            interests: Vec::new(),
            next_slot: 0,
            added: Vec::new(),
            looked_up: BTreeSet::new(),
            rng,
            is_closed: false,
        };
        let chains = std::array::from_fn(|_| Cell::new());
        Self { chains, registry: Mutex::new(registry), inbox, profiles, spreading, clock }
    }

    /// The entry of `name`.
    #[inline]
    pub(super) fn get(&self, name: &str) -> Option<&Arc<TopicEntry>> {
        let mut cell = self.chain(name);
        while let Some(entry) = cell.get() {
            if *entry.name == *name {
                return Some(entry);
            }
            cell = &entry.next;
        }
        None
    }

    #[inline]
    fn chain(&self, name: &str) -> &Cell<TopicEntry> {
        let hash = BuildHasherDefault::<FxHasher>::default().hash_one(name.as_bytes());
        &self.chains[hash as usize % CHAINS]
    }

    /// Takes in the partitions of `topic`, and tells the driver that some are new. The first time it comes with the
    /// interest that keeps the client's metadata of the topic fresh for as long as this lives. `snapshot` knows the brokers
    /// that are up.
    pub(super) fn learn(&self, topic: &Topic, interest: Option<Interest>, snapshot: &Snapshot) {
        let mut registry = self.registry();
        let choices = choices(topic, snapshot, self.spreading.rack.as_deref());
        let count = topic.partitions.len() as u32;
        let known = self.get(&topic.name);
        let mut all = known.map(|known| known.partitions().to_vec()).unwrap_or_default();
        if let Some(known) = known
            && all.len() >= count as usize
        {
            return known.sticky.choose_from(&choices);
        }
        let (sticky, profile) = match known {
            Some(known) => (Arc::clone(&known.sticky), Arc::clone(&known.profile)),
            None => {
                let (rng, clock) = (Rng::seeded(registry.rng.next_u64()), self.clock.clone());
                let sticky = Sticky::new(self.spreading.settings, rng, clock, &choices);
                (Arc::new(sticky), Arc::new(self.profiles.of(&topic.name).0.for_topic()))
            }
        };
        for index in all.len() as i32..count as i32 {
            let slot = Slot(registry.next_slot);
            registry.next_slot += 1;
            let (name, inbox) = (Arc::clone(&topic.name), Arc::clone(&self.inbox));
            let (profile, sticky) = (Arc::clone(&profile), Arc::clone(&sticky));
            let accumulator = Accumulator::new(slot, name, index, profile, sticky, inbox);
            if registry.is_closed {
                accumulator.close();
            }
            let accumulator = Arc::new(accumulator);
            registry.added.push(Arc::clone(&accumulator));
            all.push(accumulator);
        }
        // Only below can callers find the new partitions, so that the driver hears of these before it hears of their
        // batches.
        self.inbox.push(Event::Registered);
        let partitions = Partitions { all, grown: Cell::new() };
        match known {
            Some(known) => {
                put_last(&known.partitions.grown, partitions, |grown| &grown.grown);
                known.sticky.choose_from(&choices);
            }
            None => {
                let name = Arc::clone(&topic.name);
                let rule = Rule::new(self.profiles.of(&name).1.clone(), registry.rng.next_u64());
                let entry = TopicEntry { name, partitions, profile, rule, sticky, next: Cell::new() };
                registry.interests.extend(interest);
                put_last(self.chain(&topic.name), entry, |entry| &entry.next);
            }
        }
    }

    /// The partitions that are new since this was called last, in the order of their slots.
    pub(super) fn take_added(&self) -> Vec<Arc<Accumulator>> {
        std::mem::take(&mut self.registry().added)
    }

    /// The name of a topic that the caller is to look up. None if it is looked up already, or too many are.
    pub(super) fn begin_look_up(&self, name: &str) -> Option<Arc<str>> {
        let looked_up = &mut self.registry().looked_up;
        if looked_up.contains(name) || looked_up.len() >= LOOKED_UP_MAX {
            return None;
        }
        let name: Arc<str> = name.into();
        looked_up.insert(Arc::clone(&name));
        Some(name)
    }

    /// The look-up of [`begin_look_up`](Self::begin_look_up) has ended.
    pub(super) fn end_look_up(&self, name: &str) {
        self.registry().looked_up.remove(name);
    }

    /// The names of all topics.
    pub(super) fn names(&self) -> Vec<Arc<str>> {
        self.registry().interests.iter().map(|interest| Arc::clone(interest.topic())).collect()
    }

    /// Takes no more records, whatever their topic. The driver has been told of each batch with records that were taken
    /// before.
    pub(super) fn close(&self) {
        self.registry().is_closed = true;
        self.accumulators().iter().for_each(|accumulator| accumulator.close());
    }

    pub(super) fn is_closed(&self) -> bool {
        self.registry().is_closed
    }

    /// The partitions of all topics.
    pub(super) fn accumulators(&self) -> Vec<Arc<Accumulator>> {
        let entries = self.names();
        let entries = entries.iter().filter_map(|name| self.get(name));
        entries.flat_map(|entry| entry.partitions().iter().cloned()).collect()
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The partitions that records without a key may go to: those with a leader that is up, or all if there is none. With a
/// rack, those of them whose leader is there, if there are any.
fn choices(topic: &Topic, snapshot: &Snapshot, rack: Option<&str>) -> Vec<u32> {
    let indexes = |is_wanted: &dyn Fn(&Partition) -> bool| -> Vec<u32> {
        let indexes = topic.partitions.iter().enumerate().filter(|(_, partition)| is_wanted(partition));
        indexes.map(|(index, _)| index as u32).collect()
    };
    let leader = |partition: &Partition| partition.leader.and_then(|leader| snapshot.brokers.get(&leader));
    let near = |partition: &Partition| leader(partition).is_some_and(|leader| leader.rack.as_deref() == rack);
    let near = if rack.is_some() { indexes(&near) } else { Vec::new() };
    if !near.is_empty() {
        return near;
    }
    let led = indexes(&|partition| leader(partition).is_some());
    if led.is_empty() { indexes(&|_| true) } else { led }
}

/// Puts `item` at the end of a chain. One thread at a time does so, because the registry is locked.
fn put_last<T>(mut cell: &Cell<T>, item: T, next: impl Fn(&T) -> &Cell<T>) {
    while let Some(taken) = cell.get() {
        cell = next(taken);
    }
    let _ = cell.set(Arc::new(item));
}

impl TopicEntry {
    /// Where `record` goes.
    #[inline]
    pub(super) fn place(&self, record: &Record<'_>) -> Place {
        self.rule.place(record, self.partitions().len() as u32, &self.sticky)
    }

    /// The partition at `place`.
    ///
    /// # Errors
    /// When the topic does not have the partition. The error is how many partitions there are.
    #[inline]
    pub(super) fn at(&self, place: Place) -> Result<&Accumulator, usize> {
        let partitions = self.partitions();
        let index = match place {
            Place::At(index) => index,
            Place::Sticky => self.sticky.current(),
        };
        partitions.get(index as usize).map(|accumulator| &**accumulator).ok_or(partitions.len())
    }

    #[inline]
    fn partitions(&self) -> &[Arc<Accumulator>] {
        let mut partitions = &self.partitions;
        while let Some(grown) = partitions.grown.get() {
            partitions = grown;
        }
        &partitions.all
    }
}

#[cfg(test)]
mod tests {
    use milena_messages::metadata::{
        MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
    };

    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::runtime::Executor;
    use crate::settings::ProducerSettings;

    fn topic(name: &str, partitions: i32) -> Arc<Topic> {
        let partition = |partition_index| MetadataResponsePartition { partition_index, ..Default::default() };
        let topic = MetadataResponseTopic {
            name: Some(name.into()),
            partitions: (0..partitions).map(partition).collect(),
            ..Default::default()
        };
        let response = MetadataResponse { topics: vec![topic], ..Default::default() };
        Arc::clone(Snapshot::default().merge(&response, false).topic(name).expect("described"))
    }

    fn topics(inbox: &Arc<Inbox>) -> Topics {
        let clock = Clock::start(&Executor::current().expect("a runtime"));
        let profiles = Profiles::new(&ProducerSettings::default(), BTreeMap::new()).expect("the defaults");
        let settings = SpreadSettings { is_adaptive: true, availability_timeout: Duration::ZERO };
        let spreading = Spreading { settings, rack: None };
        Topics::new(Rng::seeded(1), Arc::clone(inbox), profiles, spreading, clock)
    }

    /// KIP-1123.
    #[test]
    fn records_without_a_key_stay_in_the_rack_if_a_leader_is_there() {
        let broker = |node_id, rack: &str| {
            let (host, rack) = ("localhost".into(), Some(rack.into()));
            MetadataResponseBroker { node_id, host, port: 1, rack, ..Default::default() }
        };
        let partition = |partition_index, leader_id| MetadataResponsePartition {
            partition_index,
            leader_id,
            ..Default::default()
        };
        let response = MetadataResponse {
            brokers: vec![broker(1, "a"), broker(2, "b")],
            topics: vec![MetadataResponseTopic {
                name: Some("t".into()),
                partitions: vec![partition(0, 1), partition(1, 2), partition(2, 7), partition(3, 2)],
                ..Default::default()
            }],
            ..Default::default()
        };
        let snapshot = Snapshot::default().merge(&response, false);
        let topic = snapshot.topic("t").expect("described");
        let choices = |rack| choices(topic, &snapshot, rack);
        assert_eq!(choices(Some("b")), [1, 3]);
        assert_eq!(choices(Some("a")), [0]);
        assert_eq!(choices(Some("elsewhere")), [0, 1, 3], "no leader is there");
        assert_eq!(choices(None), [0, 1, 3]);
        assert_eq!(super::choices(topic, &Snapshot::default(), Some("a")), [0, 1, 2, 3], "no leader is up");
    }

    #[tokio::test]
    async fn many_topics_are_found_and_grow() {
        let inbox = Arc::new(Inbox::default());
        let topics = topics(&inbox);
        let (concerns, _concerned) = tokio::sync::mpsc::unbounded_channel();
        for round in 1..=3 {
            for index in 0..1000 {
                let topic = topic(&format!("topic-{index}"), round);
                let interest = Interest::new(Arc::clone(&topic.name), &concerns);
                topics.learn(&topic, Some(interest), &Snapshot::default());
            }
        }
        // Metadata with fewer partitions than before is outdated.
        topics.learn(&topic("topic-0", 1), None, &Snapshot::default());
        let mut events = Vec::new();
        inbox.take(&mut events);
        assert!(events.iter().all(|event| matches!(event, Event::Registered)));
        let slots: Vec<_> = topics.take_added().iter().map(|accumulator| accumulator.slot.0).collect();
        assert_eq!(slots, (0..3000).collect::<Vec<_>>(), "slots are given out in order");
        assert_eq!(topics.names().len(), 1000);
        for index in 0..1000 {
            let name = format!("topic-{index}");
            let entry = topics.get(&name).expect("known");
            let record = Record::to(&name);
            let chosen = |partition| entry.at(entry.place(&record.clone().partition(partition)));
            assert_eq!(
                chosen(2).map(|accumulator| (&*accumulator.topic, accumulator.partition)),
                Ok((&*name, 2))
            );
            assert_eq!(chosen(3).err(), Some(3));
            assert_eq!(chosen(i32::MIN).err(), Some(3));
        }
        assert!(topics.get("topic-1000").is_none());
    }
}
