//! Which slot names which partition. Slots are given out here and nowhere else. A slot is used again once no broker
//! believes any more that its old partition is wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use milena_wire::Uuid;

use super::Slot;
use super::partition::Partition;

/// Slots by topic name or id and partition, as answers name them, and free slots.
#[derive(Debug, Default)]
pub(super) struct Slots {
    by_name: BTreeMap<Arc<str>, BTreeMap<i32, Slot>>,
    by_id: BTreeMap<Uuid, Arc<str>>,
    free: Vec<Slot>,
    /// Slots of partitions that are not assigned any more, but that a broker may still believe to be wanted. Such a
    /// partition gets the same slot when it is assigned again. With another slot one request could name the partition
    /// and forget it as well. Kafka adds first and forgets then, so the partition would never be read.
    leaving: BTreeSet<Slot>,
    /// The next look at which slots are free comes when more than this many have left.
    leaving_max: usize,
}

/// A look goes through all slots that have left, so it waits until at least this many have.
const LEAVING_MIN: usize = 16;

impl Slots {
    /// The slot of a partition. Versions that name topics by id leave the name empty.
    pub(super) fn find(&self, topic: &str, id: Uuid, index: i32) -> Option<Slot> {
        let topic = if topic.is_empty() { self.by_id.get(&id)? } else { topic };
        self.by_name.get(topic)?.get(&index).copied()
    }

    /// The slot of a partition that is being assigned.
    pub(super) fn assign(&mut self, topic: &Arc<str>, index: i32, partitions: &mut Vec<Partition>) -> Slot {
        let of_topic = self.by_name.entry(Arc::clone(topic)).or_default();
        let slot = *of_topic.entry(index).or_insert_with(|| {
            let partition = Partition::new(Arc::clone(topic), index);
            match self.free.pop() {
                Some(slot) => {
                    partitions[slot.0 as usize] = partition;
                    slot
                }
                None => {
                    partitions.push(partition);
                    Slot(partitions.len() as u32 - 1)
                }
            }
        });
        self.leaving.remove(&slot);
        slot
    }

    /// The partition of `slot` is not assigned any more.
    pub(super) fn leave(&mut self, slot: Slot) {
        self.leaving.insert(slot);
    }

    /// Whether enough slots have left to look which of them are free.
    pub(super) fn are_many_leaving(&self) -> bool {
        self.free.is_empty() && self.leaving.len() > self.leaving_max.max(LEAVING_MIN)
    }

    /// Frees the slots that have left, except those that a session or a fetch in flight still mentions.
    pub(super) fn collect(&mut self, partitions: &[Partition], is_mentioned: impl Fn(Slot) -> bool) {
        let mut is_any_topic_gone = false;
        for slot in std::mem::take(&mut self.leaving) {
            if is_mentioned(slot) {
                self.leaving.insert(slot);
                continue;
            }
            self.free.push(slot);
            let Partition { topic, index, .. } = &partitions[slot.0 as usize];
            let Some(of_topic) = self.by_name.get_mut(topic) else { continue };
            of_topic.remove(index);
            if of_topic.is_empty() {
                self.by_name.remove(topic);
                is_any_topic_gone = true;
            }
        }
        if is_any_topic_gone {
            // Once for all topics: thousands of them may be given up together.
            let by_name = &self.by_name;
            self.by_id.retain(|_, topic| by_name.contains_key(topic));
        }
        self.leaving_max = self.leaving.len() * 2;
    }

    /// The number of slots: of assigned partitions, of those that have left, and free ones.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_name.values().map(BTreeMap::len).sum::<usize>() + self.free.len()
    }

    /// The topic has the id `id` now, in place of `old`.
    pub(super) fn set_id(&mut self, topic: &Arc<str>, old: Option<Uuid>, id: Uuid) {
        if let Some(old) = old.filter(|old| *old != id) {
            self.by_id.remove(&old);
        }
        self.by_id.insert(id, Arc::clone(topic));
    }
}
