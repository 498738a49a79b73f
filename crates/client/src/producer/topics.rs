//! The topics a producer has written to: found per record without a lock, changed rarely under one.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use milena_core::Rng;
use milena_core::metadata::Topic;
use milena_core::partitioner::partition_for_key;
use milena_core::producer::Slot;

use super::accumulator::{Accumulator, Sticky};
use crate::Record;

/// The table. Its entries never change; a topic that grows gets a new one.
pub(super) struct Topics {
    table: ArcSwap<Vec<Arc<TopicEntry>>>,
    registry: Mutex<Registry>,
}

struct Registry {
    next_slot: u32,
    rng: Rng,
}

pub(super) struct TopicEntry {
    name: Arc<str>,
    partitions: Vec<Arc<Accumulator>>,
    sticky: Arc<Sticky>,
}

impl Topics {
    pub(super) fn new(rng: Rng) -> Self {
        Self { table: ArcSwap::default(), registry: Mutex::new(Registry { next_slot: 0, rng }) }
    }

    /// Calls `found` with the entry of `name`, if there is one.
    pub(super) fn with<T>(&self, name: &str, found: impl FnOnce(&TopicEntry) -> T) -> Option<T> {
        let table = self.table.load();
        // Most producers write to a few topics; a scan beats hashing there.
        let entry = if table.len() <= 8 {
            table.iter().find(|entry| &*entry.name == name)
        } else {
            table.binary_search_by(|entry| (*entry.name).cmp(name)).ok().map(|index| &table[index])
        };
        entry.map(|entry| found(entry))
    }

    /// Takes the partitions of `topic` in, and tells `register` of those that are new, in the order of their slots.
    pub(super) fn learn(&self, topic: &Topic, register: impl FnOnce(Vec<Arc<Accumulator>>)) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let table = self.table.load_full();
        let position = table.binary_search_by(|entry| entry.name.cmp(&topic.name));
        let known = position.ok().map(|index| &table[index]);
        let count = topic.partitions.len() as u32;
        if known.is_some_and(|known| known.partitions.len() as u32 >= count) {
            return;
        }
        let sticky = match known {
            Some(known) => Arc::clone(&known.sticky),
            None => Arc::new(Sticky::new(registry.rng.next_u64(), count)),
        };
        let mut partitions = known.map(|known| known.partitions.clone()).unwrap_or_default();
        let mut added = Vec::new();
        for index in partitions.len() as i32..count as i32 {
            let slot = Slot(registry.next_slot);
            registry.next_slot += 1;
            let accumulator = Accumulator::new(slot, Arc::clone(&topic.name), index, Arc::clone(&sticky));
            added.push(Arc::new(accumulator));
        }
        partitions.extend(added.iter().cloned());
        register(added);
        sticky.set_count(count);
        let entry = Arc::new(TopicEntry { name: Arc::clone(&topic.name), partitions, sticky });
        let mut next = Vec::clone(&table);
        match position {
            Ok(index) => next[index] = entry,
            Err(index) => next.insert(index, entry),
        }
        self.table.store(Arc::new(next));
    }

    /// The names of all topics.
    pub(super) fn names(&self) -> Vec<Arc<str>> {
        self.table.load().iter().map(|entry| Arc::clone(&entry.name)).collect()
    }
}

impl TopicEntry {
    /// Where `record` goes: its own choice, its key's, or the partition of the moment.
    ///
    /// # Errors
    /// When it names a partition that the topic does not have: how many it has.
    pub(super) fn accumulator(&self, record: &Record<'_>) -> Result<&Arc<Accumulator>, usize> {
        let index = match (record.partition, record.key) {
            (Some(partition), _) => usize::try_from(partition).unwrap_or(usize::MAX),
            (None, Some(key)) => {
                partition_for_key(key, self.partitions.len() as u32).unwrap_or(u32::MAX) as usize
            }
            (None, None) => self.sticky.current() as usize,
        };
        self.partitions.get(index).ok_or(self.partitions.len())
    }
}
