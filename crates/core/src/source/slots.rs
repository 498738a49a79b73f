//! Which slot names which partition: given out here and nowhere else, and used again when no broker believes any more that their partitions are wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use milena_wire::Uuid;

use super::Slot;
use super::partition::Partition;

/// Slots by the names that answers have for their partitions, and those that name none.
#[derive(Debug, Default)]
pub(super) struct Slots {
    by_name: BTreeMap<Arc<str>, BTreeMap<i32, Slot>>,
    by_id: BTreeMap<Uuid, Arc<str>>,
    free: Vec<Slot>,
    /// Of partitions that are not assigned any more, as far as a broker may still believe that they are wanted. Assigned
    /// again, such a partition gets the same one: no request names a partition and forgets it as well, of which Kafka
    /// obeys the latter.
    leaving: BTreeSet<Slot>,
    /// As many may leave before the next look at which of them are free.
    leaving_max: usize,
}

/// No look for free slots is worth it before this many left.
const LEAVING_MIN: usize = 16;

impl Slots {
    /// The partition; versions that name topics by id leave the name empty.
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

    /// Its partition is not assigned any more.
    pub(super) fn leave(&mut self, slot: Slot) {
        self.leaving.insert(slot);
    }

    /// Whether so many have left that a look at which of them are free is due.
    pub(super) fn are_many_leaving(&self) -> bool {
        self.free.is_empty() && self.leaving.len() > self.leaving_max.max(LEAVING_MIN)
    }

    /// Makes those free that left and that nobody mentions.
    pub(super) fn collect(&mut self, partitions: &[Partition], is_mentioned: impl Fn(Slot) -> bool) {
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
                self.by_id.retain(|_, known| known != topic);
            }
        }
        self.leaving_max = self.leaving.len() * 2;
    }

    /// How many are known: of partitions that are assigned, that left and that are to come.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_name.values().map(BTreeMap::len).sum::<usize>() + self.free.len()
    }

    /// The topic has this id now, and another one before.
    pub(super) fn set_id(&mut self, topic: &Arc<str>, old: Option<Uuid>, id: Uuid) {
        if let Some(old) = old.filter(|old| *old != id) {
            self.by_id.remove(&old);
        }
        self.by_id.insert(id, Arc::clone(topic));
    }
}
