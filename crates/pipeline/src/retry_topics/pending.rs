//! Which keys of a partition have a record in its retry topics, so that later records of them go there too instead of overtaking it.
//!
//! ```text
//!  own writes ─▶ announced ─┐
//!  records of the topics ─▶ last offset of each key ─┼─▶ pending()
//!  the group's committed offsets ─▶ look ────────────┘
//! ```
//!
//! A key is pending from when one of its records is about to be written until the group has committed an offset above the last one.
//! What is not known yet counts as pending: then a record waits in a retry topic although it need not, and none overtakes another.
//!
//! It has no clock and no I/O: [`keeper`](super::keeper) reads the topics and asks for the offsets.

#[cfg(test)]
mod tests;

use rustc_hash::FxHashMap;

/// The pending keys of one partition of a source, in all of its retry topics.
///
/// # Looks
///
/// A record that goes from one tier to the next is written there before the first tier's offset is committed. So a look first asks
/// for the committed offsets, then for the ends of the topics, and the offsets count when the topics are read up to these ends:
/// what was committed in the one tier is known in the other by then.
#[derive(Debug)]
pub(super) struct Pending {
    tiers: Vec<OfTier>,
    /// The lanes that ask here, and the look after which they may.
    lanes: FxHashMap<u64, u64>,
    /// Records that these lanes write, and that were not read back, by tier and key.
    announced: FxHashMap<(usize, u64), Vec<Announced>>,
    begun: u64,
    ended: u64,
    look: Option<Look>,
}

#[derive(Debug, Default)]
struct OfTier {
    /// It is read up to here. None before the first look.
    position: Option<i64>,
    committed: i64,
    last: FxHashMap<u64, Last>,
    /// The last record of any key that has found no place.
    rest: Option<Last>,
}

/// The last record of a key.
#[derive(Debug, Clone, Copy)]
struct Last {
    offset: i64,
    due_ms: i64,
}

/// A record's partition and offset in the source.
pub(super) type Place = (i32, i64);

#[derive(Debug)]
struct Announced {
    lane: u64,
    origin: Place,
    due_ms: i64,
}

#[derive(Debug)]
struct Look {
    number: u64,
    /// By tier. None while they are asked for.
    offsets: Option<Vec<Offsets>>,
}

/// What a look has found of a tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offsets {
    /// The group's committed offset, or where the topic begins.
    pub(super) committed: i64,
    /// Where the topic ends.
    pub(super) end: i64,
}

/// Keys of one tier's partition that are told apart: 32 MiB. If more are pending, all others count as pending too.
const KEYS_MAX: usize = 1 << 20;

impl Pending {
    pub(super) fn new(tiers: usize) -> Self {
        Self {
            tiers: (0..tiers).map(|_| OfTier::default()).collect(),
            lanes: FxHashMap::default(),
            announced: FxHashMap::default(),
            begun: 0,
            ended: 0,
            look: None,
        }
    }

    /// A lane asks here from now on. What was written before it came is known after the next look.
    pub(super) fn handle_entered(&mut self, lane: u64) {
        self.lanes.insert(lane, self.begun + 1);
    }

    /// A lane is given up. What it has announced may never be written. Answers whether no lane is left.
    pub(super) fn handle_left(&mut self, lane: u64) -> bool {
        self.lanes.remove(&lane);
        self.announced.retain(|_, of| {
            of.retain(|announced| announced.lane != lane);
            !of.is_empty()
        });
        self.lanes.is_empty()
    }

    /// Whether the lane may ask which keys are pending.
    pub(super) fn is_ready(&self, lane: u64) -> bool {
        self.lanes.get(&lane).is_none_or(|number| *number <= self.ended)
    }

    /// A lane is about to write a record of this key to a tier.
    pub(super) fn handle_writing(&mut self, lane: u64, tier: usize, key: u64, origin: Place, due_ms: i64) {
        if !self.lanes.contains_key(&lane) {
            return;
        }
        let of = self.announced.entry((tier, key)).or_default();
        of.retain(|announced| announced.origin != origin);
        of.push(Announced { lane, origin, due_ms });
    }

    /// A record was read in a tier.
    pub(super) fn handle_record(
        &mut self,
        tier: usize,
        offset: i64,
        key: u64,
        origin: Option<Place>,
        due_ms: i64,
    ) {
        if let (Some(origin), Some(of)) = (origin, self.announced.get_mut(&(tier, key))) {
            of.retain(|announced| announced.origin != origin);
            if of.is_empty() {
                self.announced.remove(&(tier, key));
            }
        }
        let of = &mut self.tiers[tier];
        let last = Last { offset, due_ms };
        if of.last.len() < KEYS_MAX || of.last.contains_key(&key) {
            of.last.insert(key, last);
        } else {
            of.rest = Some(last);
        }
    }

    /// A tier is read up to this offset: of all records below it was told.
    pub(super) fn handle_read(&mut self, tier: usize, position: i64) {
        self.tiers[tier].position = Some(position);
        self.end_look();
    }

    /// Begins a look, unless one is on its way. What it asks for, it asks for after this.
    pub(super) fn begin_look(&mut self) -> bool {
        if self.look.is_some() {
            return false;
        }
        self.begun += 1;
        self.look = Some(Look { number: self.begun, offsets: None });
        true
    }

    /// What the look has found. None if it has found nothing: then another one is to be begun.
    pub(super) fn handle_look(&mut self, offsets: Option<Vec<Offsets>>) {
        match (offsets, &mut self.look) {
            (Some(offsets), Some(look)) => look.offsets = Some(offsets),
            _ => self.look = None,
        }
        self.end_look();
    }

    /// The last look that has ended. There is a new one when it grows.
    pub(super) fn ended(&self) -> u64 {
        self.ended
    }

    /// Whether anything is pending or unknown, so that another look is of use.
    pub(super) fn wants_look(&self) -> bool {
        let is_pending = |of: &OfTier| !of.last.is_empty() || of.rest.is_some();
        !self.announced.is_empty()
            || self.tiers.iter().any(is_pending)
            || self.lanes.values().any(|number| *number > self.ended)
    }

    /// When the last pending record of a key is due, in the first of the tiers from this one on that has any. None if there is none.
    pub(super) fn pending(&self, key: u64, tiers_from: usize) -> Option<i64> {
        (tiers_from..self.tiers.len()).find_map(|tier| {
            let announced = self.announced.get(&(tier, key)).and_then(|of| of.last());
            let of = &self.tiers[tier];
            let read = of.last.get(&key).or(of.rest.as_ref()).map(|last| last.due_ms);
            announced.map(|announced| announced.due_ms).or(read)
        })
    }

    fn end_look(&mut self) {
        let Some(Look { number, offsets: Some(offsets) }) = &self.look else { return };
        let is_read = |(of, offsets): (&OfTier, &Offsets)| of.position.is_some_and(|at| at >= offsets.end);
        if !self.tiers.iter().zip(offsets).all(is_read) {
            return;
        }
        self.ended = *number;
        for (of, Offsets { committed, .. }) in self.tiers.iter_mut().zip(offsets) {
            // An answer may be older than the one before it.
            if *committed > of.committed {
                of.committed = *committed;
                of.last.retain(|_, last| last.offset >= *committed);
                of.rest = of.rest.filter(|last| last.offset >= *committed);
            }
        }
        self.look = None;
    }
}
