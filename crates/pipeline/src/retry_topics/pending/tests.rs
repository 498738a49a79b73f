//! Two members, a source and two retry topics, at random: no record is tried before the earlier ones of its key have ended, whoever
//! has which partition, whatever is known when, and wherever a member crashes.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// A small generator, so that a seed gives the same run everywhere (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % sides as u64) as usize
    }
}

/// A record, by its offset in the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Of {
    origin: i64,
    key: u64,
}

/// The source is topic 0, and tier N is topic N + 1.
const TIERS: usize = 2;

#[derive(Default)]
struct Topic {
    log: Vec<Of>,
    committed: usize,
}

/// A partition as the member has it that it is assigned to.
struct Lane {
    member: usize,
    number: u64,
    /// Records below are started or done.
    started: BTreeSet<usize>,
    done: BTreeSet<usize>,
    /// Records that are written to the next topic, by offset.
    writing: BTreeMap<usize, Of>,
}

#[derive(Default)]
struct Member {
    pending: Option<Pending>,
    /// How far it has read each tier, once a look has said where to begin.
    position: [Option<usize>; TIERS],
    /// What its look has found so far.
    committed: Option<[usize; TIERS]>,
    is_looking: bool,
}

struct World {
    dice: Dice,
    topics: [Topic; TIERS + 1],
    lanes: [Option<Lane>; TIERS + 1],
    members: [Member; 2],
    next: u64,
    /// Records that are processed, or in the dead letters.
    ended: BTreeSet<Of>,
    /// Writes of members that are gone, which may still arrive.
    late: Vec<(usize, Of)>,
    is_ending: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let mut world = Self {
            topics: Default::default(),
            lanes: Default::default(),
            members: Default::default(),
            next: 1,
            ended: BTreeSet::new(),
            late: Vec::new(),
            is_ending: false,
            dice: Dice(seed ^ 1),
        };
        for origin in 0..(3 + dice.roll(8)) as i64 {
            world.topics[0].log.push(Of { origin, key: dice.roll(2) as u64 });
        }
        world
    }

    fn step(&mut self) {
        let topic = self.dice.roll(TIERS + 1);
        let member = self.dice.roll(2);
        match self.dice.roll(16) {
            0 => self.assign(topic, member),
            1..=4 => self.start(topic),
            5..=7 => self.write(topic),
            8 | 9 => self.commit(topic),
            10 | 11 => self.look(member),
            12 | 13 => self.read(member, self.dice.0 as usize % TIERS),
            14 if self.dice.roll(3) == 0 => self.give_up(topic),
            15 if self.dice.roll(8) == 0 => self.crash(member),
            _ => self.arrive(),
        }
    }

    fn assign(&mut self, topic: usize, member: usize) {
        if self.lanes[topic].is_some() {
            return;
        }
        let number = self.next;
        self.next += 1;
        self.lanes[topic] = Some(Lane {
            member,
            number,
            started: BTreeSet::new(),
            done: BTreeSet::new(),
            writing: BTreeMap::new(),
        });
        if topic < TIERS {
            let of = &mut self.members[member];
            of.pending.get_or_insert_with(|| Pending::new(TIERS)).handle_entered(number);
        }
    }

    /// The next record of a key that has none in work.
    fn start(&mut self, topic: usize) {
        let Some(lane) = &mut self.lanes[topic] else { return };
        let of = &self.topics[topic];
        let pending = self.members[lane.member].pending.as_mut();
        if topic < TIERS && !pending.as_ref().is_some_and(|pending| pending.is_ready(lane.number)) {
            return;
        }
        let key = self.dice.roll(2) as u64;
        let mut of_key = (of.committed..of.log.len()).filter(|offset| of.log[*offset].key == key);
        let next = of_key.find(|offset| !lane.done.contains(offset));
        let Some(offset) = next.filter(|offset| !lane.started.contains(offset)) else { return };
        lane.started.insert(offset);
        let record = of.log[offset];
        let is_behind = topic < TIERS && pending.as_ref().is_some_and(|of| of.pending(key, topic).is_some());
        if !is_behind {
            let earlier = self.topics[0].log.iter().filter(|of| of.key == key && of.origin < record.origin);
            for earlier in earlier {
                assert!(
                    self.ended.contains(earlier),
                    "{record:?} is tried in topic {topic} before {earlier:?}"
                );
            }
            let fails = !self.is_ending && self.dice.roll(2) == 0;
            if !fails || topic == TIERS {
                self.ended.insert(record);
                lane.done.insert(offset);
                return;
            }
        }
        let pending = pending.expect("the lane has entered");
        pending.handle_writing(lane.number, topic, key, (0, record.origin), 0);
        lane.writing.insert(offset, record);
    }

    /// A record is in its next topic, and its own is told so.
    fn write(&mut self, topic: usize) {
        let Some(lane) = &mut self.lanes[topic] else { return };
        let Some((offset, record)) = lane.writing.pop_first() else { return };
        lane.done.insert(offset);
        self.topics[topic + 1].log.push(record);
    }

    fn commit(&mut self, topic: usize) {
        let Some(lane) = &self.lanes[topic] else { return };
        let of = &mut self.topics[topic];
        while lane.done.contains(&of.committed) {
            of.committed += 1;
        }
    }

    /// One step of a member's look: it begins, has the committed offsets, has the ends.
    fn look(&mut self, member: usize) {
        let of = &mut self.members[member];
        let Some(pending) = &mut of.pending else { return };
        if !of.is_looking {
            of.is_looking = pending.wants_look() && pending.begin_look();
            return;
        }
        let Some(committed) = of.committed.take() else {
            of.committed = Some(std::array::from_fn(|tier| self.topics[tier + 1].committed));
            return;
        };
        of.is_looking = false;
        if self.dice.roll(5) == 0 {
            return pending.handle_look(None);
        }
        for (position, committed) in of.position.iter_mut().zip(committed) {
            position.get_or_insert(committed);
        }
        let offsets = |tier: usize| Offsets {
            committed: committed[tier] as i64,
            end: self.topics[tier + 1].log.len() as i64,
        };
        pending.handle_look(Some((0..TIERS).map(offsets).collect()));
        for (tier, position) in of.position.iter().enumerate() {
            pending.handle_read(tier, position.expect("it is set") as i64);
        }
    }

    fn read(&mut self, member: usize, tier: usize) {
        let of = &mut self.members[member];
        let (Some(pending), Some(position)) = (&mut of.pending, &mut of.position[tier]) else { return };
        let Some(record) = self.topics[tier + 1].log.get(*position) else { return };
        pending.handle_record(tier, *position as i64, record.key, Some((0, record.origin)), 0);
        *position += 1;
        pending.handle_read(tier, *position as i64);
    }

    /// A partition is drained, committed and given up.
    fn give_up(&mut self, topic: usize) {
        while self.lanes[topic].as_ref().is_some_and(|lane| !lane.writing.is_empty()) {
            self.write(topic);
        }
        self.commit(topic);
        self.leave(topic);
    }

    fn leave(&mut self, topic: usize) {
        let Some(lane) = self.lanes[topic].take() else { return };
        let member = &mut self.members[lane.member];
        if topic < TIERS && member.pending.as_mut().is_some_and(|of| of.handle_left(lane.number)) {
            *member = Member::default();
        }
    }

    /// A member is gone, and what it was writing may be written or not.
    fn crash(&mut self, member: usize) {
        for topic in 0..=TIERS {
            let Some(lane) = self.lanes[topic].as_ref().filter(|lane| lane.member == member) else {
                continue;
            };
            self.late.extend(lane.writing.values().map(|record| (topic + 1, *record)));
            self.leave(topic);
        }
    }

    fn arrive(&mut self) {
        if !self.late.is_empty() {
            let (topic, record) = self.late.remove(self.dice.0 as usize % self.late.len());
            if self.dice.roll(2) == 0 {
                self.topics[topic].log.push(record);
            }
        }
    }

    /// Nothing fails any more: in the end all records have ended, and no key is pending.
    fn finish(&mut self) {
        self.is_ending = true;
        for _ in 0..5_000 {
            self.arrive();
            for topic in 0..=TIERS {
                self.assign(topic, topic % 2);
                self.start(topic);
                self.write(topic);
                self.commit(topic);
            }
            for member in 0..2 {
                self.look(member);
                (0..TIERS).for_each(|tier| self.read(member, tier));
            }
            let is_done = |of: &Topic| of.committed == of.log.len();
            let knows = |of: &Member| of.pending.as_ref().is_none_or(|of| !of.wants_look());
            if self.topics.iter().all(is_done) && self.members.iter().all(knows) {
                assert_eq!(self.ended.len(), self.topics[0].log.len());
                return;
            }
        }
        let committed: Vec<_> = self.topics.iter().map(|of| (of.committed, of.log.len())).collect();
        panic!("records are left: {committed:?}");
    }
}

/// `MILENA_SCHEDULES=1000000 cargo test --release -p milena-pipeline keys_keep_their_order` is the long form.
#[test]
fn keys_keep_their_order_over_retry_topics() {
    let setting = std::env::var("MILENA_SCHEDULES").ok();
    let count: u64 = setting.map_or(5_000, |count| count.parse().expect("a number of schedules"));
    for seed in 0..count {
        let played = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..200 {
                world.step();
            }
            world.finish();
        });
        assert!(played.is_ok(), "seed {seed}");
    }
}

fn looked(pending: &mut Pending, committed: i64, end: i64) {
    assert!(pending.begin_look());
    pending.handle_look(Some(vec![Offsets { committed, end }]));
}

#[test]
fn a_lane_may_ask_when_all_that_was_written_before_is_read() {
    let mut pending = Pending::new(1);
    assert!(pending.begin_look());
    pending.handle_entered(7);
    pending.handle_look(Some(vec![Offsets { committed: 0, end: 0 }]));
    pending.handle_read(0, 0);
    assert!(!pending.is_ready(7), "this look began before the lane came");
    looked(&mut pending, 3, 5);
    assert!(!pending.is_ready(7));
    pending.handle_record(0, 4, 42, None, 9);
    pending.handle_read(0, 5);
    assert!(pending.is_ready(7));
    assert_eq!((pending.pending(42, 0), pending.pending(43, 0)), (Some(9), None));
    looked(&mut pending, 5, 5);
    assert_eq!(pending.pending(42, 0), None);
    assert!(!pending.wants_look());
}

#[test]
fn what_a_lane_has_announced_is_forgotten_with_it() {
    let mut pending = Pending::new(1);
    pending.handle_entered(1);
    pending.handle_entered(2);
    pending.handle_writing(1, 0, 42, (0, 5), 9);
    assert_eq!(pending.pending(42, 0), Some(9));
    assert!(!pending.handle_left(1));
    pending.handle_writing(1, 0, 42, (0, 5), 9);
    assert_eq!(pending.pending(42, 0), None);
    assert!(pending.handle_left(2));
}

#[test]
fn keys_without_a_place_are_pending_together() {
    let mut pending = Pending::new(1);
    let last = KEYS_MAX as i64;
    for offset in 0..=last {
        pending.handle_record(0, offset, offset as u64, None, offset);
    }
    assert_eq!(pending.pending(u64::MAX, 0), Some(last));
    looked(&mut pending, last, last);
    pending.handle_read(0, last + 1);
    assert_eq!((pending.pending(5, 0), pending.pending(u64::MAX, 0)), (Some(last), Some(last)));
    looked(&mut pending, last + 1, last + 1);
    assert_eq!(pending.pending(u64::MAX, 0), None);
}
