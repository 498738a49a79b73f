//! What the members of a group owned, saw and marked as done, in one order, and what has to hold of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use crate::checker::Logs;
use crate::network::lock;
use crate::reader::digest;
use crate::world::World;

/// A partition: the index of its topic, and its own.
pub(crate) type At = (usize, i32);

/// All that happened, in one order.
#[derive(Default)]
pub(crate) struct Chronicle(Mutex<Vec<Entry>>);

struct Entry {
    /// `usize::MAX` for what an operator saw.
    member: usize,
    at: At,
    what: What,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    /// The partition is the member's. It is noted before the member reads of it.
    Assigned,
    /// The member is about to give it up.
    Revoked,
    /// Another member may have it.
    Lost,
    /// The member is about to read it from this offset on.
    Sought(i64),
    /// The member got these records, by offset and digest, and the next offset is this one.
    Seen(Vec<(i64, u64)>, i64),
    /// The member is about to mark these offsets as done.
    Done(Vec<i64>),
    /// The member holds one batch less.
    Dropped,
    /// The member is about to leave, in whatever way.
    Ends,
    /// The group had committed this offset.
    Committed(i64),
}

impl Chronicle {
    pub(crate) fn note(&self, member: usize, at: At, what: What) {
        lock(&self.0).push(Entry { member, at, what });
    }

    /// Checks everything. It knows nothing of the client.
    pub(crate) fn check(&self, world: &World, logs: &Logs) {
        let entries = lock(&self.0);
        let mut check = Check::new(world, logs);
        entries.iter().for_each(|entry| check.entry(entry));
        check_owners(world, &entries);
    }
}

/// Where a member goes on in a partition.
#[derive(Debug, Clone, Copy)]
enum Next {
    /// Where the group has committed that it goes on, or at the beginning.
    Begin { committed: i64 },
    /// At this offset.
    At(i64),
}

struct Check<'a> {
    world: &'a World,
    logs: &'a Logs,
    done: BTreeMap<At, BTreeSet<i64>>,
    /// All offsets below are done.
    prefix: BTreeMap<At, i64>,
    committed: BTreeMap<At, i64>,
    next: BTreeMap<(usize, At), Next>,
    sought: BTreeMap<(usize, At), i64>,
}

impl<'a> Check<'a> {
    fn new(world: &'a World, logs: &'a Logs) -> Self {
        Self {
            world,
            logs,
            done: BTreeMap::new(),
            prefix: BTreeMap::new(),
            committed: BTreeMap::new(),
            next: BTreeMap::new(),
            sought: BTreeMap::new(),
        }
    }

    fn entry(&mut self, entry: &Entry) {
        let Entry { member, at, what } = entry;
        let (member, at) = (*member, *at);
        match what {
            What::Assigned => {
                let committed = self.committed.get(&at).copied().unwrap_or(0);
                self.next.insert((member, at), Next::Begin { committed });
            }
            What::Sought(offset) => drop(self.sought.insert((member, at), *offset)),
            What::Seen(records, next) => self.seen(member, at, records, *next),
            What::Done(offsets) => self.done(at, offsets),
            What::Committed(offset) => self.committed(at, *offset),
            What::Revoked | What::Lost | What::Dropped | What::Ends => {}
        }
    }

    fn seen(&mut self, member: usize, at: At, records: &[(i64, u64)], next: i64) {
        let who = format!("member {member} in {at:?}");
        let Some(begin) = self.next.insert((member, at), Next::At(next)) else {
            return self.world.violate(format_args!("{who} reads what was not assigned to it"));
        };
        let Some((first, _)) = records.first().copied() else { return };
        let prefix = self.prefix.get(&at).copied().unwrap_or(0);
        let is_right = match begin {
            Next::At(next) => first == next,
            // Everything before it was done by some member, and nothing of it was committed.
            Next::Begin { committed } => first >= committed && first <= prefix,
        };
        let sought = self.sought.remove(&(member, at));
        if !is_right && sought != Some(first) {
            self.world.violate(format_args!(
                "{who} saw offset {first}, and expected {begin:?}; all before {prefix} is done, sought {sought:?}"
            ));
        }
        let mut expected = first;
        for (offset, seen) in records {
            if *offset != expected {
                self.world.violate(format_args!("{who} saw offset {offset} instead of {expected}"));
            }
            expected = offset + 1;
            let content = self.logs.get(&at).and_then(|log| log.get(*offset as usize));
            if content.map(digest) != Some(*seen) {
                self.world.violate(format_args!("{who} saw something else than what is at offset {offset}"));
            }
        }
    }

    fn done(&mut self, at: At, offsets: &[i64]) {
        let done = self.done.entry(at).or_default();
        done.extend(offsets);
        let prefix = self.prefix.entry(at).or_default();
        while done.remove(prefix) {
            *prefix += 1;
        }
    }

    fn committed(&mut self, at: At, offset: i64) {
        let prefix = self.prefix.get(&at).copied().unwrap_or(0);
        if offset > prefix {
            self.world
                .violate(format_args!("offset {offset} of {at:?} is committed, and only {prefix} is done"));
        }
        let before = self.committed.insert(at, offset);
        if before > Some(offset) {
            self.world
                .violate(format_args!("the committed offset of {at:?} went from {before:?} to {offset}"));
        }
    }
}

/// Nobody may own a partition that another member owns, or of which another member holds a batch. Members that lost it, that
/// were killed or that end do not count: they may not have heard of it yet.
fn check_owners(world: &World, entries: &[Entry]) {
    // For each time that a partition was assigned: whether it was given up in good order.
    let mut open: BTreeMap<(usize, At), usize> = BTreeMap::new();
    let mut orderly: BTreeSet<usize> = BTreeSet::new();
    for (index, Entry { member, at, what }) in entries.iter().enumerate() {
        match what {
            What::Assigned => drop(open.insert((*member, *at), index)),
            What::Revoked => orderly.extend(open.remove(&(*member, *at))),
            What::Lost => drop(open.remove(&(*member, *at))),
            _ => {}
        }
    }
    let mut owners: BTreeMap<At, BTreeSet<usize>> = BTreeMap::new();
    let mut held: BTreeMap<(At, usize), i64> = BTreeMap::new();
    let mut strict: BTreeSet<(usize, At)> = BTreeSet::new();
    for (index, Entry { member, at, what }) in entries.iter().enumerate() {
        match what {
            What::Assigned => {
                let others = owners.entry(*at).or_default();
                let mut others: BTreeSet<usize> = others.iter().copied().filter(|of| of != member).collect();
                others.extend(
                    held.iter()
                        .filter(|((of, holder), count)| of == at && holder != member && **count > 0)
                        .map(|((_, holder), _)| *holder)
                        .filter(|holder| strict.contains(&(*holder, *at))),
                );
                if !others.is_empty() {
                    world.violate(format_args!(
                        "{at:?} was assigned to member {member}, and {others:?} had it"
                    ));
                }
                if orderly.contains(&index) {
                    owners.entry(*at).or_default().insert(*member);
                    strict.insert((*member, *at));
                } else {
                    strict.remove(&(*member, *at));
                }
            }
            What::Revoked | What::Lost => {
                owners.entry(*at).or_default().remove(member);
            }
            What::Seen(..) => *held.entry((*at, *member)).or_default() += 1,
            What::Dropped => *held.entry((*at, *member)).or_default() -= 1,
            What::Ends => {
                for owners in owners.values_mut() {
                    owners.remove(member);
                }
                held.retain(|(_, holder), _| holder != member);
            }
            What::Sought(_) | What::Done(_) | What::Committed(_) => {}
        }
    }
}
