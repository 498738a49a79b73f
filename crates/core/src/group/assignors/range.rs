//! `range`: each topic's partitions are cut into ranges, one for each member, so that partitions with one index of topics
//! with equal partition counts come together.

use super::layout::{Layout, Racks, static_first};
use super::{Assignment, Assignor, ClusterView, Member};
use crate::Failure;

/// Gives every subscriber of a topic a range of its partitions, as Java's `RangeAssignor` does. Where racks are known and
/// make a difference, members first get the partitions with a replica in their rack (KIP-881), as far as ranges stay as
/// large as before and co-partitioned topics stay together.
#[derive(Debug, Clone, Copy, Default)]
pub struct Range;

impl Assignor for Range {
    fn name(&self) -> &str {
        "range"
    }

    fn assign(&self, cluster: &ClusterView, members: &[Member]) -> Result<Vec<Assignment>, Failure> {
        let layout = Layout::new(cluster, members, static_first);
        let mut given = vec![Vec::new(); layout.member_count()];
        let mut shares: Vec<_> = (0..layout.topic_count()).map(|topic| Share::new(&layout, topic)).collect();
        if let Some(racks) = Racks::new(&layout) {
            match_racks(&racks, &mut shares, &mut given);
        }
        for share in &mut shares {
            share.give_rest(&mut given);
        }
        Ok(layout.assignments(given))
    }
}

/// What is given of one topic.
#[derive(Debug)]
struct Share<'a> {
    first: u32,
    subscribers: &'a [u32],
    /// By place in the topic.
    taken: Vec<bool>,
    /// How many partitions each subscriber gets at least.
    base: u32,
    /// How many subscribers still get one more.
    extra: u32,
    /// How many partitions each subscriber has.
    counts: Vec<u32>,
}

impl<'a> Share<'a> {
    fn new(layout: &'a Layout<'_>, topic: usize) -> Self {
        let (slots, subscribers) = (layout.slots(topic), layout.subscribers(topic));
        let (count, shares) = (slots.len() as u32, subscribers.len().max(1) as u32);
        Self {
            first: slots.start,
            subscribers,
            taken: vec![false; slots.len()],
            base: count / shares,
            extra: count % shares,
            counts: vec![0; subscribers.len()],
        }
    }

    fn slots(&self) -> std::ops::Range<u32> {
        self.first..self.first + self.taken.len() as u32
    }

    /// How many more partitions a subscriber may get.
    fn room(&self, at: usize) -> u32 {
        (self.base + u32::from(self.extra > 0)).saturating_sub(self.counts[at])
    }

    fn give(&mut self, at: usize, place: usize, given: &mut [Vec<u32>]) {
        self.taken[place] = true;
        self.counts[at] += 1;
        if self.counts[at] > self.base {
            self.extra = self.extra.saturating_sub(1);
        }
        given[self.subscribers[at] as usize].push(self.first + place as u32);
    }

    /// Gives each subscriber, in order, the first partitions of its rack.
    fn give_in_rack(&mut self, racks: &Racks, given: &mut [Vec<u32>]) {
        // The last list is for subscribers without a rack: all partitions.
        let mut places = vec![Vec::new(); racks.count + 1];
        for slot in self.slots() {
            let place = slot - self.first;
            for rack in racks.of_slot(slot) {
                places[*rack as usize].push(place);
            }
            places[racks.count].push(place);
        }
        // A partition that was passed over once is taken, so no list is read twice.
        let mut next = vec![0; places.len()];
        for at in 0..self.subscribers.len() {
            let rack = racks.of_member(self.subscribers[at]).map_or(racks.count, |rack| rack as usize);
            let mut room = self.room(at);
            while room > 0 && next[rack] < places[rack].len() {
                let place = places[rack][next[rack]] as usize;
                next[rack] += 1;
                if !self.taken[place] {
                    self.give(at, place, given);
                    room -= 1;
                }
            }
        }
    }

    /// Gives each subscriber, in order, the first partitions that are left.
    fn give_rest(&mut self, given: &mut [Vec<u32>]) {
        let mut place = 0;
        for at in 0..self.subscribers.len() {
            let mut room = self.room(at);
            while room > 0 && place < self.taken.len() {
                if !self.taken[place] {
                    self.give(at, place, given);
                    room -= 1;
                }
                place += 1;
            }
        }
    }
}

fn match_racks(racks: &Racks, shares: &mut [Share<'_>], given: &mut [Vec<u32>]) {
    let matter: Vec<bool> =
        shares.iter().map(|share| racks.matter(share.subscribers.iter().copied(), share.slots())).collect();
    if !matter.contains(&true) {
        return;
    }
    // Topics with the same subscribers and as many partitions are co-partitioned.
    let with_racks =
        |share: &Share<'_>| share.subscribers.iter().any(|rank| racks.of_member(*rank).is_some());
    let mut topics: Vec<usize> = (0..shares.len()).filter(|topic| with_racks(&shares[*topic])).collect();
    topics.sort_by(|a, b| {
        let key = |topic: usize| (shares[topic].taken.len(), shares[topic].subscribers);
        key(*a).cmp(&key(*b))
    });
    let alike = |a: &usize, b: &usize| {
        shares[*a].taken.len() == shares[*b].taken.len() && shares[*a].subscribers == shares[*b].subscribers
    };
    let groups: Vec<Vec<usize>> = topics.chunk_by(alike).map(<[usize]>::to_vec).collect();
    for group in groups {
        match group[..] {
            [topic] if matter[topic] => shares[topic].give_in_rack(racks, given),
            [_] => {}
            _ => give_together(racks, shares, &group, given),
        }
    }
}

/// Gives partitions with one index of all topics of the group to the first subscriber that has room and a replica of each
/// in its rack.
fn give_together(racks: &Racks, shares: &mut [Share<'_>], group: &[usize], given: &mut [Vec<u32>]) {
    // The topics of a group are given alike, so the first one stands for the room in all.
    let lead = group[0];
    let mut places = vec![Vec::new(); racks.count + 1];
    for (at, rank) in shares[lead].subscribers.iter().enumerate() {
        places[racks.of_member(*rank).map_or(racks.count, |rack| rack as usize)].push(at);
    }
    // Room never grows, so a subscriber without room is passed over for good.
    let mut next = vec![0; places.len()];
    for place in 0..shares[lead].taken.len() {
        let racks_of = |topic: usize| racks.of_slot(shares[topic].first + place as u32);
        let mut best: Option<usize> = None;
        for rack in racks_of(lead).iter().map(|rack| *rack as usize).chain([racks.count]) {
            let everywhere =
                rack == racks.count || group.iter().all(|topic| racks_of(*topic).contains(&(rack as u32)));
            if !everywhere {
                continue;
            }
            while places[rack].get(next[rack]).is_some_and(|at| shares[lead].room(*at) == 0) {
                next[rack] += 1;
            }
            if let Some(at) = places[rack].get(next[rack]) {
                best = Some(best.map_or(*at, |best| best.min(*at)));
            }
        }
        if let Some(at) = best {
            for topic in group {
                shares[*topic].give(at, place, given);
            }
        }
    }
}
