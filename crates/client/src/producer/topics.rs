//! The topics that a producer has written to. Each record looks its topic up without a lock and without counting
//! references.
//!
//! A topic is never forgotten while its producer lives, so the table only grows: chains of cells that are set once.

use std::hash::{BuildHasher as _, BuildHasherDefault};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use milena_core::metadata::{Partition, Topic};
use milena_core::partitioner::partition_for_key;
use milena_core::producer::Slot;
use milena_core::{BrokerId, Rng};
use rustc_hash::FxHasher;

use super::accumulator::{Accumulator, Sticky};
use super::inbox::{Event, Inbox};
use crate::Record;
use crate::interest::Interest;

pub(super) struct Topics {
    /// Topics by the hash of their name.
    chains: [Cell<TopicEntry>; CHAINS],
    registry: Mutex<Registry>,
    inbox: Arc<Inbox>,
}

type Cell<T> = OnceLock<Box<T>>;

/// With this many, chains are short even for thousands of topics.
const CHAINS: usize = 256;

struct Registry {
    /// One for each topic, which keeps the client's metadata of the topic fresh.
    interests: Vec<Interest>,
    next_slot: u32,
    /// Partitions that the driver has not taken in yet, in the order of their slots.
    added: Vec<Arc<Accumulator>>,
    rng: Rng,
    /// No partition takes records any more, and new ones never do.
    is_closed: bool,
}

pub(super) struct TopicEntry {
    name: Arc<str>,
    partitions: Partitions,
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
    pub(super) fn new(rng: Rng, inbox: Arc<Inbox>) -> Self {
        let registry =
            Registry { interests: Vec::new(), next_slot: 0, added: Vec::new(), rng, is_closed: false };
        Self { chains: std::array::from_fn(|_| Cell::new()), registry: Mutex::new(registry), inbox }
    }

    /// The entry of `name`.
    #[inline]
    pub(super) fn get(&self, name: &str) -> Option<&TopicEntry> {
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
    /// interest that keeps the client's metadata of the topic fresh for as long as this lives. `is_up` tells of a
    /// broker whether it has an address.
    pub(super) fn learn(&self, topic: &Topic, interest: Option<Interest>, is_up: impl Fn(BrokerId) -> bool) {
        let mut registry = self.registry();
        let choices = choices(topic, is_up);
        let count = topic.partitions.len() as u32;
        let known = self.get(&topic.name);
        let mut all = known.map(|known| known.partitions().to_vec()).unwrap_or_default();
        if let Some(known) = known
            && all.len() >= count as usize
        {
            return known.sticky.choose_from(choices);
        }
        let sticky = match known {
            Some(known) => Arc::clone(&known.sticky),
            None => Arc::new(Sticky::new(registry.rng.next_u64(), choices.clone())),
        };
        for index in all.len() as i32..count as i32 {
            let slot = Slot(registry.next_slot);
            registry.next_slot += 1;
            let (name, inbox) = (Arc::clone(&topic.name), Arc::clone(&self.inbox));
            let accumulator = Accumulator::new(slot, name, index, Arc::clone(&sticky), inbox);
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
                known.sticky.choose_from(choices);
            }
            None => {
                let entry =
                    TopicEntry { name: Arc::clone(&topic.name), partitions, sticky, next: Cell::new() };
                registry.interests.extend(interest);
                put_last(self.chain(&topic.name), entry, |entry| &entry.next);
            }
        }
    }

    /// The partitions that are new since this was called last, in the order of their slots.
    pub(super) fn take_added(&self) -> Vec<Arc<Accumulator>> {
        std::mem::take(&mut self.registry().added)
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

/// The partitions that records without a key may go to: those with a leader that is up, or all if there is none.
fn choices(topic: &Topic, is_up: impl Fn(BrokerId) -> bool) -> Vec<u32> {
    let indexes = |is_wanted: &dyn Fn(&Partition) -> bool| -> Vec<u32> {
        let indexes = topic.partitions.iter().enumerate().filter(|(_, partition)| is_wanted(partition));
        indexes.map(|(index, _)| index as u32).collect()
    };
    let led = indexes(&|partition| partition.leader.is_some_and(&is_up));
    if led.is_empty() { indexes(&|_| true) } else { led }
}

/// Puts `item` at the end of a chain. One thread at a time does so, because the registry is locked.
fn put_last<T>(mut cell: &Cell<T>, item: T, next: impl Fn(&T) -> &Cell<T>) {
    while let Some(taken) = cell.get() {
        cell = next(taken);
    }
    let _ = cell.set(Box::new(item));
}

impl TopicEntry {
    /// Where `record` goes: to the partition that it names, to the one of its key, or to the sticky one.
    ///
    /// # Errors
    /// When it names a partition that the topic does not have. The error is how many partitions there are.
    #[inline]
    pub(super) fn accumulator(&self, record: &Record<'_>) -> Result<&Accumulator, usize> {
        let partitions = self.partitions();
        let index = match (record.chosen_partition(), record.key_bytes()) {
            (Some(partition), _) => usize::try_from(partition).unwrap_or(usize::MAX),
            (None, Some(key)) => partition_for_key(key, partitions.len() as u32).unwrap_or(u32::MAX) as usize,
            (None, None) => self.sticky.current() as usize,
        };
        partitions.get(index).map(|accumulator| &**accumulator).ok_or(partitions.len())
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
    use milena_core::metadata::Snapshot;
    use milena_messages::metadata::{MetadataResponse, MetadataResponsePartition, MetadataResponseTopic};

    use super::*;

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

    #[test]
    fn many_topics_are_found_and_grow() {
        let inbox = Arc::new(Inbox::default());
        let topics = Topics::new(Rng::seeded(1), Arc::clone(&inbox));
        let (concerns, _concerned) = tokio::sync::mpsc::unbounded_channel();
        for round in 1..=3 {
            for index in 0..1000 {
                let topic = topic(&format!("topic-{index}"), round);
                let interest = Interest::new(Arc::clone(&topic.name), &concerns);
                topics.learn(&topic, Some(interest), |_| true);
            }
        }
        // Metadata with fewer partitions than before is outdated.
        topics.learn(&topic("topic-0", 1), None, |_| true);
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
            let chosen = |partition| entry.accumulator(&record.clone().partition(partition));
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
