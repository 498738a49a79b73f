//! Pausing and resuming a partition: one atomic word for each, which any task flips.
//!
//! ```text
//!  application ─ pause, resume ─▶ ┌──────┐ ◀─ park ─ a reader, or whoever lists the queue
//!                                 │ Gate │
//!  list the queue, Resume ◀────── └──────┘ ◀─ hold ─ the driver
//!  (only if parked or held)
//! ```
//!
//! A flip is one read-modify-write: it takes no lock, allocates nothing and tells no task. Others look at the word when
//! they have a reason to:
//!
//! - Whoever has a batch for a reader **parks** the partition if it is paused, in place of giving the batch out or
//!   listing the queue. The first one to do so tells the driver, which then counts on no reader for these batches.
//! - The driver **holds** the partition if it is paused when something of it has arrived, when it is told that the
//!   partition is parked, and when it is assigned or sought. A partition that is held is left out of fetches.
//!
//! # No wake-up is lost
//!
//! `park` and `hold` set their bit with a compare-and-swap that succeeds only on a word with [`PAUSED`] set. `resume`
//! clears `PAUSED` and both bits at once, and sees which of them were set. All of them are read-modify-writes of one
//! word, so they have one order, whatever the memory ordering:
//!
//! - `park` or `hold` before `resume`: `resume` sees the bit, and lists the queue or tells the driver.
//! - `resume` before `park` or `hold`: the swap fails, and the caller goes on as for a partition that is not paused.
//!
//! A plain load that shows a paused partition decides nothing; one that shows a partition that is not paused may be
//! older than a `pause` of another task that is still running, which may then count as the later one. Batches and
//! positions are not published through the word: they are under the queue's lock, which `park` is called under. When
//! `resume` lists a queue, it takes that lock, so that it sees what was parked.

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use rustc_hash::FxHasher;

/// The partition is assigned.
const ASSIGNED: u32 = 1;
/// The application has paused it.
const PAUSED: u32 = 1 << 1;
/// While it was paused, it had something for a reader, and was not listed.
const PARKED: u32 = 1 << 2;
/// The driver leaves it out of fetches.
const HELD: u32 = 1 << 3;
/// A command on its way tells the driver that it is parked. One is enough, however often it is flipped meanwhile.
const TOLD: u32 = 1 << 4;

/// Whether a partition is paused. It outlives the assignment: a partition that is assigned again has the same gate.
pub(super) struct Gate {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    word: AtomicU32,
}

/// What is to be done after a partition was resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Resumed {
    pub(super) is_assigned: bool,
    /// It was parked: its queue is to be listed.
    pub(super) is_parked: bool,
    /// It was held: the driver is to fetch it again.
    pub(super) is_held: bool,
}

impl Resumed {
    /// Whether anything is to be done.
    pub(super) fn is_wanted(&self) -> bool {
        self.is_parked || self.is_held
    }
}

/// What became of an attempt to park.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Park {
    /// The partition is not paused.
    Open,
    Parked,
    /// As `Parked`, and the caller is to tell the driver.
    ParkedUntold,
}

impl Gate {
    fn new(topic: Arc<str>, partition: i32) -> Self {
        Self { topic, partition, word: AtomicU32::new(0) }
    }

    /// The partition was assigned. It is not paused.
    pub(super) fn open(&self) {
        self.word.store(ASSIGNED, Ordering::Release);
    }

    /// The partition is not assigned any more.
    pub(super) fn close(&self) {
        self.word.store(0, Ordering::Release);
    }

    /// Answers whether the partition is assigned.
    pub(super) fn pause(&self) -> bool {
        self.word.fetch_or(PAUSED, Ordering::AcqRel) & ASSIGNED != 0
    }

    pub(super) fn resume(&self) -> Resumed {
        let word = self.word.fetch_and(!(PAUSED | PARKED | HELD), Ordering::AcqRel);
        Resumed {
            is_assigned: word & ASSIGNED != 0,
            is_parked: word & PARKED != 0,
            is_held: word & HELD != 0,
        }
    }

    pub(super) fn is_assigned(&self) -> bool {
        self.word.load(Ordering::Acquire) & ASSIGNED != 0
    }

    pub(super) fn is_paused(&self) -> bool {
        self.word.load(Ordering::Acquire) & (PAUSED | ASSIGNED) == PAUSED | ASSIGNED
    }

    /// Parks the partition if it is paused. To be called under the lock of its queue.
    pub(super) fn park(&self) -> Park {
        match self.set_if_paused(|word| word | PARKED | if word & HELD == 0 { TOLD } else { 0 }) {
            None => Park::Open,
            Some(word) if word & (TOLD | HELD) == 0 => Park::ParkedUntold,
            Some(_) => Park::Parked,
        }
    }

    /// The driver has heard that the partition is parked.
    pub(super) fn heard(&self) {
        self.word.fetch_and(!TOLD, Ordering::AcqRel);
    }

    /// Holds the partition if it is paused. Answers whether it is.
    pub(super) fn hold(&self) -> bool {
        self.set_if_paused(|word| word | HELD).is_some()
    }

    /// Sets bits unless the partition is not paused. Answers with the word of before.
    fn set_if_paused(&self, set: impl Fn(u32) -> u32) -> Option<u32> {
        let set = |word| (word & PAUSED != 0).then(|| set(word));
        self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, set).ok()
    }
}

/// The gates of all partitions that were ever assigned to a consumer, found by name without a lock: a hash table whose
/// entries are added and never removed.
pub(super) struct Gates {
    buckets: Box<[OnceLock<Box<Entry>>]>,
}

struct Entry {
    gate: Arc<Gate>,
    next: OnceLock<Box<Entry>>,
}

/// A consumer of ten thousand partitions looks at ten of them to find one. The table takes 16 KiB.
const BUCKETS: usize = 1024;

impl Default for Gates {
    fn default() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| OnceLock::new()).collect() }
    }
}

impl Gates {
    fn bucket(&self, topic: &str, partition: i32) -> &OnceLock<Box<Entry>> {
        let mut hasher = FxHasher::default();
        topic.hash(&mut hasher);
        partition.hash(&mut hasher);
        // The high bits of a product depend on all bits of its factors.
        &self.buckets[(hasher.finish() >> 48) as usize % BUCKETS]
    }

    /// The gate of a partition that is or was assigned.
    pub(super) fn find(&self, topic: &str, partition: i32) -> Option<&Arc<Gate>> {
        let mut place = self.bucket(topic, partition);
        loop {
            let entry = place.get()?;
            if entry.gate.partition == partition && *entry.gate.topic == *topic {
                return Some(&entry.gate);
            }
            place = &entry.next;
        }
    }

    /// The gate of a partition, which is made if it is the first one.
    pub(super) fn get(&self, topic: &Arc<str>, partition: i32) -> &Arc<Gate> {
        let mut place = self.bucket(topic, partition);
        loop {
            let entry = place.get_or_init(|| {
                let gate = Arc::new(Gate::new(Arc::clone(topic), partition));
                Box::new(Entry { gate, next: OnceLock::new() })
            });
            if entry.gate.partition == partition && *entry.gate.topic == **topic {
                return &entry.gate;
            }
            place = &entry.next;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn gate() -> Gate {
        let gate = Gate::new("t".into(), 0);
        gate.open();
        gate
    }

    /// What a task does with the word.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Step {
        Pause,
        Resume,
        Park,
        Hold,
    }

    /// All orders in which the tasks' steps can happen, each task's own in their order.
    fn orders(tasks: &[&[Step]]) -> Vec<Vec<Step>> {
        if tasks.iter().all(|task| task.is_empty()) {
            return vec![Vec::new()];
        }
        let mut all = Vec::new();
        for (index, task) in tasks.iter().enumerate() {
            let Some((first, rest)) = task.split_first() else { continue };
            let mut left = tasks.to_vec();
            left[index] = rest;
            for mut order in orders(&left) {
                order.insert(0, *first);
                all.push(order);
            }
        }
        all
    }

    #[test]
    fn in_every_order_a_partition_that_is_resumed_last_is_neither_parked_nor_held() {
        use Step::{Hold, Park, Pause, Resume};
        let tasks: [&[Step]; 4] =
            [&[Pause, Resume, Pause, Resume], &[Park, Park], &[Hold, Hold], &[Pause, Resume]];
        let all = orders(&tasks);
        assert!(all.len() > 10_000);
        for order in all {
            let gate = gate();
            // A batch that was parked and is to be listed, and a partition that is held and is to be fetched.
            let (mut is_parked, mut is_held) = (false, false);
            for step in &order {
                match step {
                    Pause => assert!(gate.pause()),
                    Resume => {
                        let resumed = gate.resume();
                        // Every bit that was set is seen once.
                        assert_eq!((resumed.is_parked, resumed.is_held), (is_parked, is_held), "{order:?}");
                        (is_parked, is_held) = (false, false);
                    }
                    Park => is_parked |= gate.park() != super::Park::Open,
                    Hold => is_held |= gate.hold(),
                }
                assert!(gate.is_paused() || !(is_parked || is_held), "{order:?}: left behind");
            }
        }
    }

    #[test]
    fn the_driver_is_told_once_that_a_partition_is_parked() {
        let gate = gate();
        assert_eq!(gate.park(), Park::Open);
        gate.pause();
        assert_eq!(gate.park(), Park::ParkedUntold);
        assert_eq!(gate.park(), Park::Parked);
        gate.resume();
        gate.pause();
        assert_eq!(gate.park(), Park::Parked, "the command is still on its way");
        gate.heard();
        assert_eq!(gate.park(), Park::ParkedUntold);
        gate.heard();
        assert!(gate.hold());
        assert_eq!(gate.park(), Park::Parked, "the driver knows");
    }

    #[test]
    fn a_partition_that_is_assigned_again_is_not_paused() {
        let gate = gate();
        assert!(gate.pause() && gate.hold() && gate.is_paused());
        gate.close();
        assert!(!gate.pause() && !gate.is_paused() && !gate.is_assigned());
        gate.open();
        assert!(!gate.is_paused() && gate.is_assigned());
        assert_eq!(gate.resume(), Resumed { is_assigned: true, is_parked: false, is_held: false });
    }

    #[test]
    fn each_partition_has_one_gate_whichever_task_asks_first() {
        let gates = Gates::default();
        let names: Vec<Arc<str>> = (0..50).map(|index| Arc::from(format!("topic-{index}"))).collect();
        let ask = || {
            let all = names.iter().flat_map(|topic| (0..100).map(move |partition| (topic, partition)));
            all.map(|(topic, partition)| Arc::as_ptr(gates.get(topic, partition)) as usize)
                .collect::<Vec<_>>()
        };
        let seen: BTreeSet<_> = std::thread::scope(|scope| {
            let tasks: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            tasks.into_iter().map(|task| task.join().expect("no panic")).collect()
        });
        assert_eq!(seen.len(), 1, "all tasks got the same gates");
        let distinct: BTreeSet<_> = seen.iter().flatten().collect();
        assert_eq!(distinct.len(), 5000);
        assert!(gates.find("topic-7", 100).is_none());
        assert_eq!(
            gates.find("topic-7", 99).map(|gate| (&*gate.topic, gate.partition)),
            Some(("topic-7", 99))
        );
        let longest = gates.buckets.iter().map(|bucket| {
            let mut place = bucket;
            std::iter::from_fn(|| place.get().map(|entry| place = &entry.next)).count()
        });
        assert!(longest.max() < Some(24), "the hash spreads");
    }
}
