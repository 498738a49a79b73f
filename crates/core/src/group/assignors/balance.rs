//! The sticky algorithm for members that subscribe different topics.
//!
//! ```text
//!  keep what is held ─▶ give the rest to the least loaded ─▶ move while a move improves balance ─▶ send home
//!                                                                       ▲                              │
//!                                                                       └──────── if any went ─────────┘
//! ```
//!
//! The first three steps are those of Java's general algorithm. The last one is not in Java's: of the partitions that
//! moved, those go back whose return costs no balance. Every round makes the sum of squared loads less, or keeps it and
//! makes fewer partitions away from home, so the rounds end.
//!
//! Partitions of one topic are handled one after the other. That is what makes this fast: for one topic, the least loaded
//! subscriber is the top of a heap.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};

use super::layout::{Layout, Racks};
use super::sticky::{Claims, Far};

/// No member.
const NONE: u32 = u32::MAX;

/// Rounds of moving and sending home. The random groups of our tests need four at most. What is left after the last one is
/// balanced, but may have moved needlessly.
const ROUNDS_MAX: usize = 32;

/// At how many subscribers all searches together may look, to send partitions home. What is left after that is balanced,
/// too. 1 800 members on 200 topics of which a tenth left and half came anew needed a tenth of it.
const LOOKS_MAX: usize = 20_000_000;

/// The slots of each member, by rank.
pub(super) fn assign(layout: &Layout<'_>, claims: &Claims, racks: Option<&Racks>, far: Far) -> Vec<Vec<u32>> {
    let mut balancing = Balancing::new(layout, claims, racks.filter(|_| far == Far::Moves));
    if let Some(racks) = racks {
        balancing.give_in_rack(racks);
    }
    balancing.give_rest();
    // Passing partitions on could take them out of their racks.
    balancing.looks_left = if racks.is_some() { 0 } else { LOOKS_MAX };
    balancing.settle();
    let mut slots = vec![Vec::new(); layout.member_count()];
    for (slot, owner) in balancing.owner.iter().enumerate() {
        if *owner != NONE {
            slots[*owner as usize].push(slot as u32);
        }
    }
    slots
}

struct Balancing<'a> {
    layout: &'a Layout<'a>,
    claims: &'a Claims,
    /// Topics with few subscribers first, because they have the least choice.
    topics: Vec<usize>,
    /// By slot.
    owner: Vec<u32>,
    /// By slot: the member that had it and may keep it.
    home: Vec<u32>,
    /// By slot: the member that had it when moving began.
    start: Vec<u32>,
    /// By rank.
    load: Vec<u32>,
    /// Partitions that have moved: topic, owner, the member that had it when moving began, slot.
    moved: BTreeSet<(u32, u32, u32, u32)>,
    /// At how many more subscribers searches may look.
    looks_left: usize,
}

impl<'a> Balancing<'a> {
    /// Every member keeps what it has, if it still subscribes the topic and, with `racks`, a replica is in its
    /// rack.
    fn new(layout: &'a Layout<'a>, claims: &'a Claims, racks: Option<&Racks>) -> Self {
        let mut topics: Vec<usize> = (0..layout.topic_count()).collect();
        topics.sort_by_key(|topic| layout.subscribers(*topic).len());
        let mut load = vec![0; layout.member_count()];
        let keeps = |slot: u32, rank: u32| {
            layout.subscribes(rank, layout.topic_of(slot))
                && racks.is_none_or(|racks| racks.matches(rank, slot))
        };
        let home: Vec<u32> = (0..layout.slot_count() as u32)
            .map(|slot| claims.holder(slot).filter(|rank| keeps(slot, *rank)).unwrap_or(NONE))
            .collect();
        for rank in home.iter().filter(|rank| **rank != NONE) {
            load[*rank as usize] += 1;
        }
        Self {
            layout,
            claims,
            topics,
            owner: home.clone(),
            start: Vec::new(),
            home,
            load,
            moved: BTreeSet::new(),
            looks_left: 0,
        }
    }

    /// Gives partitions without an owner to the least loaded subscriber that has a replica in its rack.
    fn give_in_rack(&mut self, racks: &Racks) {
        for topic in self.topics.clone() {
            if !self.is_any_free(topic) {
                continue;
            }
            // The last heap is for subscribers without a rack, which may read any partition.
            let mut heaps = vec![BinaryHeap::new(); racks.count + 1];
            for rank in self.layout.subscribers(topic) {
                let rack = racks.of_member(*rank).map_or(racks.count, |rack| rack as usize);
                heaps[rack].push(Reverse((self.load[*rank as usize], *rank)));
            }
            for slot in self.layout.slots(topic) {
                if self.owner[slot as usize] != NONE {
                    continue;
                }
                let near = racks.of_slot(slot).iter().map(|rack| *rack as usize).chain([racks.count]);
                let best = near.filter_map(|rack| Some((heaps[rack].peek()?.0, rack))).min();
                if let Some(((load, rank), rack)) = best {
                    heaps[rack].pop();
                    heaps[rack].push(Reverse((load + 1, rank)));
                    self.give(slot, rank);
                }
            }
        }
    }

    /// Gives partitions without an owner to the least loaded subscriber.
    fn give_rest(&mut self) {
        for topic in self.topics.clone() {
            if !self.is_any_free(topic) {
                continue;
            }
            let mut heap = self.heap(topic);
            for slot in self.layout.slots(topic) {
                if self.owner[slot as usize] != NONE {
                    continue;
                }
                let Some(Reverse((load, rank))) = heap.pop() else { break };
                heap.push(Reverse((load + 1, rank)));
                self.give(slot, rank);
            }
        }
    }

    fn is_any_free(&self, topic: usize) -> bool {
        self.layout.slots(topic).any(|slot| self.owner[slot as usize] == NONE)
    }

    fn give(&mut self, slot: u32, rank: u32) {
        self.owner[slot as usize] = rank;
        self.load[rank as usize] += 1;
    }

    /// A topic's subscribers by load. Loads change while it is used; `least` drops entries that are no longer true.
    fn heap(&self, topic: usize) -> BinaryHeap<Reverse<(u32, u32)>> {
        let subscribers = self.layout.subscribers(topic).iter();
        subscribers.map(|rank| Reverse((self.load[*rank as usize], *rank))).collect()
    }

    /// Moves partitions until no move improves the balance, and sends home those that need not be away.
    fn settle(&mut self) {
        self.start = self.owner.clone();
        // New partitions move first: moving one of those costs nothing.
        self.improve(true);
        for _ in 0..ROUNDS_MAX {
            self.improve(false);
            if self.send_home() == 0 {
                return;
            }
        }
        self.improve(false);
    }

    /// Moves partitions from a member to one that has at least two less, until there is no such pair.
    fn improve(&mut self, only_new: bool) {
        loop {
            let mut moves = 0;
            for at in 0..self.topics.len() {
                moves += self.improve_topic(self.topics[at], only_new);
            }
            if moves == 0 {
                return;
            }
        }
    }

    fn improve_topic(&mut self, topic: usize, only_new: bool) -> usize {
        // Most topics need no move. Seeing that is much cheaper than making a heap.
        let loads = self.layout.subscribers(topic).iter().map(|rank| self.load[*rank as usize]);
        let Some(least) = loads.min() else { return 0 };
        let mut moves = 0;
        let mut heap = None;
        for slot in self.layout.slots(topic) {
            let owner = self.owner[slot as usize];
            if (only_new && self.home[slot as usize] != NONE) || self.load[owner as usize] <= least + 1 {
                continue;
            }
            let better = |rank: u32| self.load[owner as usize] > self.load[rank as usize] + 1;
            // The member that had it before is the best choice if it has room.
            let former = self.claims.former(slot);
            let former = former.filter(|rank| self.layout.subscribes(*rank, topic as u32) && better(*rank));
            let to = match former {
                Some(rank) => rank,
                None => {
                    let heap = heap.get_or_insert_with(|| self.heap(topic));
                    match least_of(heap, &self.load) {
                        Some(rank) if better(rank) => rank,
                        _ => continue,
                    }
                }
            };
            self.shift(slot, owner, to);
            moves += 1;
            if let Some(heap) = &mut heap {
                heap.push(Reverse((self.load[owner as usize], owner)));
                heap.push(Reverse((self.load[to as usize], to)));
            }
        }
        moves
    }

    /// Moves a partition, or in its place another one of the topic that came from the member it would go to.
    fn shift(&mut self, slot: u32, from: u32, to: u32) {
        let topic = self.layout.topic_of(slot);
        let back = self.moved.range((topic, from, to, 0)..=(topic, from, to, u32::MAX)).next();
        let slot = back.map_or(slot, |(_, _, _, slot)| *slot);
        self.reassign(slot, to);
    }

    fn reassign(&mut self, slot: u32, to: u32) {
        let (topic, from, start) =
            (self.layout.topic_of(slot), self.owner[slot as usize], self.start[slot as usize]);
        self.moved.remove(&(topic, from, start, slot));
        if to != start {
            self.moved.insert((topic, to, start, slot));
        }
        self.owner[slot as usize] = to;
        self.load[from as usize] -= 1;
        self.load[to as usize] += 1;
    }

    /// Partitions that are not with the member that had them.
    fn away(&self) -> Vec<u32> {
        let slots = 0..self.owner.len() as u32;
        slots
            .filter(|slot| {
                self.home[*slot as usize] != NONE && self.home[*slot as usize] != self.owner[*slot as usize]
            })
            .collect()
    }

    /// Sends partitions home whose owner has more than the member that had them. If it has not, that member may pass on
    /// another partition that it did not have before, to a member that passes on another one, and so on, until the loads are
    /// as they were. Balance does not suffer.
    fn send_home(&mut self) -> usize {
        let away = self.away();
        if away.is_empty() {
            return 0;
        }
        let foreign = (0..self.owner.len() as u32)
            .filter(|slot| self.home[*slot as usize] != self.owner[*slot as usize]);
        let foreign =
            foreign.map(|slot| (self.owner[slot as usize], self.layout.topic_of(slot), slot)).collect();
        let mut search = Search { foreign, seen: Vec::new(), from: Vec::new(), queue: VecDeque::new() };
        let mut returned = 0;
        for slot in away {
            let (owner, home) = (self.owner[slot as usize], self.home[slot as usize]);
            if owner == home {
                // It was passed on, and came home by that.
                continue;
            }
            if self.load[owner as usize] <= self.load[home as usize] {
                let ends = |rank: u32| rank == owner || self.load[rank as usize] < self.load[owner as usize];
                let Some(end) = search.run(self.layout, home, ends, &mut self.looks_left) else { continue };
                let mut to = end;
                while to != home {
                    let (from, slot) = search.from[to as usize];
                    search.pass(self.layout.topic_of(slot), slot, from, to, self.home[slot as usize]);
                    self.reassign(slot, to);
                    to = from;
                }
            }
            search.pass(self.layout.topic_of(slot), slot, owner, home, home);
            self.reassign(slot, home);
            returned += 1;
        }
        returned
    }
}

/// Looks for a way on which partitions can be passed on whose owner did not have them before.
struct Search {
    /// Owner, topic and slot of those partitions.
    foreign: BTreeSet<(u32, u32, u32)>,
    /// By topic: whether its subscribers were looked at.
    seen: Vec<bool>,
    /// By rank: the member that can pass a partition on to this one, and the partition.
    from: Vec<(u32, u32)>,
    queue: VecDeque<u32>,
}

impl Search {
    /// A partition has another owner.
    fn pass(&mut self, topic: u32, slot: u32, from: u32, to: u32, home: u32) {
        self.foreign.remove(&(from, topic, slot));
        if to != home {
            self.foreign.insert((to, topic, slot));
        }
    }

    /// The nearest member that `ends` the way from `start`. `from` then has the steps.
    fn run(
        &mut self,
        layout: &Layout<'_>,
        start: u32,
        ends: impl Fn(u32) -> bool,
        looks_left: &mut usize,
    ) -> Option<u32> {
        self.seen.clear();
        self.seen.resize(layout.topic_count(), false);
        self.from.clear();
        self.from.resize(layout.member_count(), (NONE, NONE));
        self.from[start as usize] = (start, NONE);
        self.queue.clear();
        self.queue.push_back(start);
        while let Some(at) = self.queue.pop_front() {
            let mut next = 0;
            while let Some((_, topic, slot)) =
                self.foreign.range((at, next, 0)..(at + 1, 0, 0)).next().copied()
            {
                next = topic + 1;
                if std::mem::replace(&mut self.seen[topic as usize], true) {
                    continue;
                }
                let subscribers = layout.subscribers(topic as usize);
                *looks_left = looks_left.checked_sub(subscribers.len())?;
                for rank in subscribers {
                    if self.from[*rank as usize].0 != NONE {
                        continue;
                    }
                    self.from[*rank as usize] = (at, slot);
                    if ends(*rank) {
                        return Some(*rank);
                    }
                    self.queue.push_back(*rank);
                }
            }
        }
        None
    }
}

/// The least loaded member of the heap.
fn least_of(heap: &mut BinaryHeap<Reverse<(u32, u32)>>, load: &[u32]) -> Option<u32> {
    while let Some(Reverse((then, rank))) = heap.peek().copied() {
        if load[rank as usize] == then {
            return Some(rank);
        }
        heap.pop();
    }
    None
}
