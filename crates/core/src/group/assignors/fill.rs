//! The sticky algorithm for members that all subscribe the same topics: every member keeps what it has up to its quota,
//! and the rest fills up the members that are below theirs. It gives what Java's constrained algorithm gives.
//!
//! Every member gets ⌊partitions ÷ members⌋, and as many members as the remainder says get one more. So many moves are
//! needed as members have more than their quota, or partitions have no member, and no other partition moves.

use std::collections::VecDeque;

use super::layout::{Layout, Racks};
use super::sticky::{Claims, Far};

/// The slots of each member, by rank.
pub(super) fn assign(layout: &Layout<'_>, claims: &Claims, racks: Option<&Racks>, far: Far) -> Vec<Vec<u32>> {
    if layout.member_count() == 0 {
        return Vec::new();
    }
    let mut filling = Filling::new(layout.member_count(), layout.slot_count());
    let mut rest = filling.keep(layout, claims, racks.filter(|_| far == Far::Moves));
    if let Some(racks) = racks {
        // Partitions that few members can read in their rack choose first.
        let census = racks.census(0..layout.member_count() as u32);
        rest.sort_by_key(|slot| racks.of_slot(*slot).iter().map(|rack| census[*rack as usize]).sum::<u32>());
        filling.fill_in_rack(racks, &mut rest);
    }
    filling.fill(&rest);
    filling.slots
}

#[derive(Debug)]
struct Filling {
    /// By rank.
    slots: Vec<Vec<u32>>,
    /// The least and the most that a member gets.
    least: usize,
    most: usize,
    /// How many more members may get `most`, if that is more than `least`.
    extra: usize,
    /// Members below `least`, by rank.
    below: Vec<u32>,
    /// Members that have `least` and may get one more.
    level: VecDeque<u32>,
}

impl Filling {
    fn new(members: usize, partitions: usize) -> Self {
        let (least, extra) = (partitions / members, partitions % members);
        Self {
            slots: vec![Vec::new(); members],
            least,
            most: least + usize::from(extra > 0),
            extra,
            below: Vec::new(),
            level: VecDeque::new(),
        }
    }

    /// Every member keeps what it has up to its quota; with `racks`, only what is in its rack. Returns the partitions that are left, in order.
    fn keep(&mut self, layout: &Layout<'_>, claims: &Claims, racks: Option<&Racks>) -> Vec<u32> {
        let mut taken = vec![false; layout.slot_count()];
        for slot in 0..layout.slot_count() as u32 {
            if let Some(holder) = claims.holder(slot)
                && racks.is_none_or(|racks| racks.matches(holder, slot))
            {
                self.slots[holder as usize].push(slot);
            }
        }
        for rank in 0..self.slots.len() {
            let held = &mut self.slots[rank];
            // What is kept should be of all topics, so low indices of every topic come first.
            held.sort_unstable_by_key(|slot| (layout.place(*slot), *slot));
            if held.len() < self.least {
                self.below.push(rank as u32);
            } else if held.len() >= self.most && self.extra > 0 {
                held.truncate(self.most);
                self.one_more();
            } else {
                held.truncate(self.least);
                if self.extra > 0 {
                    self.level.push_back(rank as u32);
                }
            }
            for slot in &self.slots[rank] {
                taken[*slot as usize] = true;
            }
        }
        (0..layout.slot_count() as u32).filter(|slot| !taken[*slot as usize]).collect()
    }

    /// A member got `most`. After the last one that may, members with `least` are full.
    fn one_more(&mut self) {
        self.extra = self.extra.saturating_sub(1);
        if self.extra == 0 {
            self.level.clear();
        }
    }

    /// Deals out, in turn, the partitions that a member with room has in its rack. The others stay in `rest`.
    fn fill_in_rack(&mut self, racks: &Racks, rest: &mut Vec<u32>) {
        let mut turn = 0;
        // How many members with room are in each rack, because searching for one in vain costs a look at all of them.
        let mut below = racks.census(self.below.iter().copied());
        let mut level = racks.census(self.level.iter().copied());
        rest.retain(|slot| {
            let in_rack =
                |rank: u32| racks.of_member(rank).is_some_and(|rack| racks.of_slot(*slot).contains(&rack));
            let hopeful = racks.of_slot(*slot).iter().any(|rack| below[*rack as usize] > 0);
            let count = self.below.len();
            let found =
                (0..count).map(|step| (turn + step) % count).find(|at| hopeful && in_rack(self.below[*at]));
            if let Some(at) = found {
                let rank = self.below[at];
                let filled = self.slots[rank as usize].len() + 1;
                turn = at + 1;
                if filled >= self.least {
                    self.below.remove(at);
                    turn = at;
                    if let Some(rack) = racks.of_member(rank) {
                        below[rack as usize] -= 1;
                    }
                    if filled < self.most && self.extra > 0 {
                        self.level.push_back(rank);
                        if let Some(rack) = racks.of_member(rank) {
                            level[rack as usize] += 1;
                        }
                    }
                }
                turn = turn.checked_rem(self.below.len()).unwrap_or(0);
                self.slots[rank as usize].push(*slot);
                return false;
            }
            let hopeful = racks.of_slot(*slot).iter().any(|rack| level[*rack as usize] > 0);
            if hopeful && let Some(at) = self.level.iter().position(|rank| in_rack(*rank)) {
                let rank = self.level[at];
                self.level.remove(at);
                if let Some(rack) = racks.of_member(rank) {
                    level[rack as usize] -= 1;
                }
                self.one_more();
                if self.level.is_empty() {
                    level.fill(0);
                }
                self.slots[rank as usize].push(*slot);
                return false;
            }
            true
        });
    }

    /// Deals out the partitions in turn: first to members below `least`, and then one each to members that have it.
    fn fill(&mut self, rest: &[u32]) {
        let mut turn = 0;
        for slot in rest {
            if !self.below.is_empty() {
                if turn >= self.below.len() {
                    turn = 0;
                }
                let rank = self.below[turn];
                self.slots[rank as usize].push(*slot);
                if self.slots[rank as usize].len() >= self.least {
                    self.below.remove(turn);
                    self.level.push_back(rank);
                } else {
                    turn += 1;
                }
            } else if let Some(rank) = self.level.pop_front() {
                self.slots[rank as usize].push(*slot);
            } else {
                // The quotas add up to the number of partitions.
                debug_assert!(false, "every member is full and partitions are left");
                let Some(least) = self.slots.iter_mut().min_by_key(|slots| slots.len()) else { return };
                least.push(*slot);
            }
        }
    }
}
