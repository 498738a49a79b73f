//! What the members of a group owned, saw and marked as done, in one order, and what has to hold of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::Range;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use milena_core::group::finished::{self, Decoded};

use crate::checker::Logs;
use crate::network::lock;
use crate::plan::Promise;
use crate::reader::digest;

/// A partition: the index of its topic, and its own.
pub(crate) type At = (usize, i32);

/// All that happened, in one order.
pub(crate) struct Chronicle {
    began: Instant,
    entries: Mutex<Vec<Entry>>,
}

struct Entry {
    /// Since the chronicle began.
    after: Duration,
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
    /// The member dropped a call that waited for a batch, of whatever partition, or was told that not all is committed.
    Cancelled,
    /// The member is about to leave, or has been killed. `is_orderly`: it closes, and waits until it is closed.
    Ends { is_orderly: bool },
    /// The group had committed this offset, with this text.
    Committed(i64, String),
}

/// The text that a member commits with an offset.
pub(crate) fn metadata_of(offset: i64) -> String {
    format!("up to {offset}")
}

impl Default for Chronicle {
    fn default() -> Self {
        Self { began: Instant::now(), entries: Mutex::default() }
    }
}

impl Chronicle {
    pub(crate) fn note(&self, member: usize, at: At, what: What) {
        let mut entries = lock(&self.entries);
        entries.push(Entry { after: self.began.elapsed(), member, at, what });
    }

    /// What is wrong with it. It knows nothing of the client. `expired`: members that the coordinator has given up at some time.
    /// They may not have heard of it before they gave up what they had.
    pub(crate) fn check(&self, promise: Promise, expired: &BTreeSet<usize>, logs: &Logs) -> Vec<String> {
        let entries = lock(&self.entries);
        let mut check = Check::new(promise, logs);
        entries.iter().for_each(|entry| check.entry(entry));
        if let Promise::AtMostOnce { .. } = promise {
            check.missed(expired, &entries);
        }
        check_owners(&mut check, expired, &entries);
        check.wrong
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
    promise: Promise,
    logs: &'a Logs,
    done: BTreeMap<At, BTreeSet<i64>>,
    /// All offsets below are done.
    prefix: BTreeMap<At, i64>,
    committed: BTreeMap<At, i64>,
    next: BTreeMap<(usize, At), Next>,
    sought: BTreeMap<(usize, At), i64>,
    /// The lowest offset to which a member has gone back.
    sought_least: BTreeMap<At, i64>,
    /// What some member has seen.
    seen: BTreeMap<At, BTreeSet<i64>>,
    wrong: Vec<String>,
}

impl<'a> Check<'a> {
    fn new(promise: Promise, logs: &'a Logs) -> Self {
        Self {
            promise,
            logs,
            done: BTreeMap::new(),
            prefix: BTreeMap::new(),
            committed: BTreeMap::new(),
            next: BTreeMap::new(),
            sought: BTreeMap::new(),
            sought_least: BTreeMap::new(),
            seen: BTreeMap::new(),
            wrong: Vec::new(),
        }
    }

    fn violate(&mut self, what: impl Display) {
        self.wrong.push(what.to_string());
    }

    fn is_at_most_once(&self) -> bool {
        matches!(self.promise, Promise::AtMostOnce { .. })
    }

    fn entry(&mut self, entry: &Entry) {
        let Entry { member, at, what, .. } = entry;
        let (member, at) = (*member, *at);
        match what {
            What::Assigned => {
                let mut committed = self.committed.get(&at).copied().unwrap_or(0);
                if let Some(least) = self.least_by_hand(at) {
                    committed = committed.min(least);
                }
                if self.is_at_most_once() {
                    // That nothing is delivered twice is checked by itself.
                    committed = 0;
                }
                self.next.insert((member, at), Next::Begin { committed });
            }
            What::Sought(offset) => {
                self.sought.insert((member, at), *offset);
                let least = self.sought_least.entry(at).or_insert(*offset);
                *least = (*least).min(*offset);
            }
            What::Seen(records, next) => self.seen(member, at, records, *next),
            What::Done(offsets) => self.done(at, offsets),
            What::Committed(offset, metadata) => self.committed(at, *offset, metadata),
            What::Revoked | What::Lost | What::Dropped | What::Cancelled | What::Ends { .. } => {}
        }
    }

    /// With commits by hand an application that has sought may commit an earlier offset.
    fn least_by_hand(&self, at: At) -> Option<i64> {
        self.sought_least.get(&at).copied().filter(|_| self.promise == Promise::ByHand)
    }

    fn seen(&mut self, member: usize, at: At, records: &[(i64, u64)], next: i64) {
        let who = format!("member {member} in {at:?}");
        let Some(begin) = self.next.insert((member, at), Next::At(next)) else {
            return self.violate(format_args!("{who} reads what was not assigned to it"));
        };
        let Some((first, _)) = records.first().copied() else { return };
        let prefix = self.prefix.get(&at).copied().unwrap_or(0);
        let is_right = match begin {
            Next::At(next) | Next::Begin { committed: next } if self.promise == Promise::Keeping => {
                first >= next && self.are_done(at, next..first)
            }
            Next::At(next) => first == next,
            // What is passed was committed before it was delivered: whether it was missed for a reason is checked in the end.
            Next::Begin { committed } if self.is_at_most_once() => first >= committed,
            // Everything before it was done by some member, and nothing of it was committed.
            Next::Begin { committed } => first >= committed && first <= prefix,
        };
        let sought = self.sought.remove(&(member, at));
        let is_kept = |sought: i64| {
            self.promise == Promise::Keeping && sought <= first && self.are_done(at, sought..first)
        };
        if !is_right && sought != Some(first) && !sought.is_some_and(is_kept) {
            self.violate(format_args!(
                "{who} saw offset {first}, and expected {begin:?}; all before {prefix} is done, sought {sought:?}"
            ));
        }
        let mut expected = first;
        for (offset, digest_seen) in records {
            let is_kept = self.promise == Promise::Keeping && self.are_done(at, expected..*offset);
            if *offset < expected || (*offset > expected && !is_kept) {
                self.violate(format_args!("{who} saw offset {offset} instead of {expected}"));
            }
            expected = offset + 1;
            let content = self.logs.get(&at).and_then(|log| log.get(*offset as usize));
            if content.map(digest) != Some(*digest_seen) {
                self.violate(format_args!("{who} saw something else than what is at offset {offset}"));
            }
            if !self.seen.entry(at).or_default().insert(*offset) && self.is_at_most_once() {
                self.violate(format_args!("{who} saw offset {offset}, which was delivered before"));
            }
        }
    }

    /// Whether some member has done all of these.
    fn are_done(&self, at: At, mut offsets: Range<i64>) -> bool {
        let prefix = self.prefix.get(&at).copied().unwrap_or(0);
        let done = self.done.get(&at);
        offsets.all(|offset| offset < prefix || done.is_some_and(|done| done.contains(&offset)))
    }

    fn done(&mut self, at: At, offsets: &[i64]) {
        let done = self.done.entry(at).or_default();
        done.extend(offsets);
        let prefix = self.prefix.entry(at).or_default();
        while done.remove(prefix) {
            *prefix += 1;
        }
    }

    fn committed(&mut self, at: At, offset: i64, metadata: &str) {
        let prefix = self.prefix.get(&at).copied().unwrap_or(0);
        if offset > prefix && !self.is_at_most_once() {
            self.violate(format_args!("offset {offset} of {at:?} is committed, and only {prefix} is done"));
        }
        let is_own = metadata == metadata_of(offset) && self.promise == Promise::ByHand;
        let is_kept = match finished::decode(offset, metadata) {
            Decoded::Finished(runs) if self.promise == Promise::Keeping => {
                runs.into_iter().all(|run| self.are_done(at, run))
            }
            _ => false,
        };
        if !metadata.is_empty() && !is_own && !is_kept {
            self.violate(format_args!("offset {offset} of {at:?} is committed with the text {metadata:?}"));
        }
        let before = self.committed.insert(at, offset);
        // What was committed before delivery and not delivered goes back. If it was delivered, it is delivered twice.
        let may_go_back =
            self.is_at_most_once() || self.least_by_hand(at).is_some_and(|least| offset >= least);
        if before > Some(offset) && !may_go_back {
            self.violate(format_args!("the committed offset of {at:?} went from {before:?} to {offset}"));
        }
    }

    /// Records that were committed before they were delivered may be missed by a member that was killed, that has lost the
    /// partition, or that has dropped its call: the batch that came next, each time that such a member had the partition. The
    /// coordinator takes no offset back from a member that it has given up.
    fn missed(&mut self, expired: &BTreeSet<usize>, entries: &[Entry]) {
        // For each time that a partition was assigned: the next offset, once one was seen.
        let mut open: BTreeMap<(usize, At), Option<i64>> = BTreeMap::new();
        // What was revoked: it may turn out to be lost before the offset has gone back.
        let mut revoked: BTreeMap<(usize, At), Option<i64>> = BTreeMap::new();
        let careless = entries.iter().filter(|entry| matches!(entry.what, What::Cancelled));
        let careless: BTreeSet<usize> =
            careless.map(|entry| entry.member).chain(expired.iter().copied()).collect();
        let mut excuses: BTreeMap<At, Vec<Option<i64>>> = BTreeMap::new();
        let mut excuse = |at: At, next: Option<i64>| excuses.entry(at).or_default().push(next);
        for Entry { member, at, what, .. } in entries {
            match what {
                What::Assigned => {
                    let before = revoked.remove(&(*member, *at));
                    before
                        .filter(|_| careless.contains(member))
                        .into_iter()
                        .for_each(|next| excuse(*at, next));
                    open.insert((*member, *at), None);
                }
                What::Seen(_, next) => drop(open.get_mut(&(*member, *at)).map(|of| of.replace(*next))),
                What::Revoked => {
                    if let Some(next) = open.remove(&(*member, *at)) {
                        revoked.insert((*member, *at), next);
                    }
                }
                What::Lost => {
                    let next = open.remove(&(*member, *at)).or_else(|| revoked.remove(&(*member, *at)));
                    next.into_iter().for_each(|next| excuse(*at, next));
                }
                What::Ends { is_orderly: false } => {
                    for all in [&mut open, &mut revoked] {
                        let own: Vec<_> = all.keys().filter(|(of, _)| of == member).copied().collect();
                        for key in own {
                            excuse(key.1, all.remove(&key).flatten());
                        }
                    }
                }
                _ => {}
            }
        }
        for ((_, at), next) in revoked.into_iter().filter(|((member, _), _)| careless.contains(member)) {
            excuse(at, next);
        }
        for (at, log) in self.logs {
            let end = self.committed.get(at).copied().unwrap_or(0);
            let seen = self.seen.get(at);
            let is_missed = |offset: &i64| seen.is_none_or(|seen| !seen.contains(offset));
            let missed: Vec<i64> = (0..end.min(log.len() as i64)).filter(is_missed).collect();
            let mut excuses = excuses.remove(at).unwrap_or_default();
            for first in log.begins_of(&missed) {
                // A member that has seen nothing yet may have been anywhere.
                let found = excuses.iter().position(|next| *next == Some(first));
                match found.or(excuses.iter().position(Option::is_none)) {
                    Some(index) => drop(excuses.swap_remove(index)),
                    None => self.wrong.push(format!(
                        "the batch of {at:?} from offset {first} on was missed for no reason; all that was missed: \
                         {missed:?}, reasons: {excuses:?}"
                    )),
                }
            }
        }
    }
}

/// Nobody may own a partition that another member owns, or of which another member holds a batch. Members that lost it, that
/// were killed or that the coordinator has given up do not count: they may not have heard of it yet.
fn check_owners(check: &mut Check<'_>, expired: &BTreeSet<usize>, entries: &[Entry]) {
    // For each time that a partition was assigned: whether it was given up in good order.
    let mut open: BTreeMap<(usize, At), usize> = BTreeMap::new();
    let mut orderly: BTreeSet<usize> = BTreeSet::new();
    for (index, Entry { member, at, what, .. }) in entries.iter().enumerate() {
        match what {
            What::Assigned => drop(open.insert((*member, *at), index)),
            What::Revoked if expired.contains(member) => {}
            What::Revoked => orderly.extend(open.remove(&(*member, *at))),
            What::Lost => drop(open.remove(&(*member, *at))),
            _ => {}
        }
    }
    let mut owners: BTreeMap<At, BTreeSet<usize>> = BTreeMap::new();
    let mut held: BTreeMap<(At, usize), i64> = BTreeMap::new();
    let mut strict: BTreeSet<(usize, At)> = BTreeSet::new();
    let mut ended: BTreeSet<usize> = BTreeSet::new();
    for (index, Entry { member, at, what, .. }) in entries.iter().enumerate() {
        match what {
            What::Assigned if ended.contains(member) => {}
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
                    let history = history(entries, index, *at);
                    check.violate(format_args!(
                        "{at:?} was assigned to member {member}, and {others:?} had it: {history}"
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
            What::Ends { .. } => {
                ended.insert(*member);
                for owners in owners.values_mut() {
                    owners.remove(member);
                }
                held.retain(|(_, holder), _| holder != member);
            }
            What::Sought(_) | What::Done(_) | What::Cancelled | What::Committed(..) => {}
        }
    }
}

/// What happened to a partition, and to the members that ended, around the entry at `index`.
fn history(entries: &[Entry], index: usize, at: At) -> String {
    let tells = |entry: &&Entry| match entry.what {
        What::Ends { .. } => true,
        What::Seen(..) | What::Done(_) | What::Committed(..) | What::Cancelled => false,
        _ => entry.at == at,
    };
    let (before, after) = entries.split_at(index + 1);
    let mut around: Vec<&Entry> = before.iter().rev().filter(tells).take(20).collect();
    around.reverse();
    around.extend(after.iter().filter(tells).take(10));
    let tell =
        |Entry { after, member, what, .. }: &Entry| format!("{} ms: {member} {what:?}", after.as_millis());
    around.into_iter().map(tell).collect::<Vec<_>>().join(", ")
}

/// A checker that finds nothing wrong with these histories would find nothing in the client either.
#[cfg(test)]
mod tests {
    use milena_core::group::finished::Packing;

    use super::*;
    use crate::log::{Content, Log};

    const AT: At = (0, 0);
    const STRICT: Promise = Promise::AtMostOnce { is_strict: true };

    fn content(offset: i64) -> Content {
        let value = Some(offset.to_string().into_bytes());
        Content { timestamp_ms: 0, key: None, value, headers: Vec::new() }
    }

    /// A log of 30 records in batches of 10.
    fn logs() -> Logs {
        Logs::from([(AT, Log::of((0..30).map(content).collect(), 10))])
    }

    fn seen(from: i64, until: i64) -> What {
        What::Seen((from..until).map(|offset| (offset, digest(&content(offset)))).collect(), until)
    }

    fn done(from: i64, until: i64) -> What {
        What::Done((from..until).collect())
    }

    fn committed(offset: i64) -> (usize, What) {
        (usize::MAX, What::Committed(offset, String::new()))
    }

    const KILLED: What = What::Ends { is_orderly: false };
    const CLOSED: What = What::Ends { is_orderly: true };

    fn check(promise: Promise, history: &[(usize, What)], expected: Option<&str>) {
        check_with(promise, &[], history, expected);
    }

    fn check_with(promise: Promise, expired: &[usize], history: &[(usize, What)], expected: Option<&str>) {
        let expired = expired.iter().copied().collect();
        let chronicle = Chronicle::default();
        history.iter().for_each(|(member, what)| chronicle.note(*member, AT, what.clone()));
        let wrong = chronicle.check(promise, &expired, &logs());
        match expected {
            None => assert!(wrong.is_empty(), "{history:?}: {wrong:?}"),
            Some(text) => {
                assert!(wrong.iter().any(|wrong| wrong.contains(text)), "{history:?}: {wrong:?}, not {text}");
            }
        }
    }

    #[test]
    fn a_history_without_faults_is_right() {
        use What::{Assigned, Dropped, Revoked, Sought};
        let history = [
            (1, Assigned),
            (1, seen(0, 10)),
            (1, seen(10, 20)),
            (1, done(10, 20)),
            (1, done(0, 5)),
            (1, Dropped),
            committed(5),
            (1, Sought(3)),
            (1, seen(3, 10)),
            (1, Dropped),
            (1, Revoked),
            (1, Dropped),
            (2, Assigned),
            (2, seen(5, 10)),
            (2, KILLED),
            (3, Assigned),
            (3, seen(5, 10)),
            (3, done(5, 10)),
            committed(20),
            (3, seen(10, 20)),
            (3, seen(20, 30)),
            (3, done(20, 30)),
            committed(30),
        ];
        check(Promise::AtLeastOnce, &history, None);
    }

    #[test]
    fn what_is_skipped_out_of_order_or_committed_too_early_is_found() {
        use What::{Assigned, Revoked, Sought};
        let begin = [(1, Assigned), (1, seen(0, 10))];
        let after = |more: &[(usize, What)], text| {
            check(Promise::AtLeastOnce, &[&begin[..], more].concat(), Some(text));
        };
        after(&[committed(10)], "is committed, and only 0 is done");
        after(&[(1, done(5, 10)), committed(10)], "is committed, and only 0 is done");
        after(&[(1, done(0, 10)), committed(10), committed(7)], "went from Some(10) to 7");
        after(&[(1, seen(20, 30))], "saw offset 20, and expected At(10)");
        after(&[(1, seen(0, 10))], "saw offset 0, and expected At(10)");
        after(&[(1, Sought(5)), (1, seen(6, 10))], "saw offset 6, and expected At(10)");
        after(&[(2, seen(10, 20))], "reads what was not assigned to it");
        after(&[(1, What::Seen(vec![(10, 0)], 11))], "saw something else");
        let next = [(1, done(0, 10)), committed(10), (1, Revoked), (2, Assigned)];
        after(&[&next[..], &[(2, seen(5, 10))]].concat(), "saw offset 5, and expected Begin");
        after(&[&next[..], &[(2, seen(20, 30))]].concat(), "saw offset 20, and expected Begin");
        after(&[(usize::MAX, What::Committed(0, metadata_of(0)))], "is committed with the text");
    }

    #[test]
    fn only_what_is_done_may_be_left_out_and_kept() {
        use What::{Assigned, Dropped, Revoked};
        let begin =
            [(1, Assigned), (1, seen(0, 10)), (1, done(4, 6)), (1, Dropped), (1, Revoked), (2, Assigned)];
        let part = |offsets: &[i64], next| {
            What::Seen(offsets.iter().map(|offset| (*offset, digest(&content(*offset)))).collect(), next)
        };
        let after = |more: &[(usize, What)], expected| {
            check(Promise::Keeping, &[&begin[..], more].concat(), expected);
        };
        let text = |run| finished::encode(0, std::iter::once(run), Packing::Wide, 100).expect("fits").text;
        let kept = |run| (usize::MAX, What::Committed(0, text(run)));
        after(&[kept(4..6), (2, part(&[0, 1, 2, 3, 6, 7], 8))], None);
        after(&[(2, part(&[0, 1, 2, 6, 7], 8))], Some("saw offset 6 instead of 3"));
        after(&[(2, part(&[1, 2, 3], 4))], Some("saw offset 1, and expected Begin"));
        after(&[(2, part(&[0, 1, 2, 3], 4)), (2, part(&[6], 7))], None);
        after(&[(2, part(&[0, 1, 2, 3], 4)), (2, part(&[7], 8))], Some("saw offset 7, and expected At(4)"));
        after(&[kept(4..7)], Some("is committed with the text"));
        check(Promise::AtLeastOnce, &[kept(4..6)], Some("is committed with the text"));
    }

    #[test]
    fn two_owners_are_found_and_a_batch_that_is_still_held() {
        use What::{Assigned, Dropped, Lost, Revoked};
        let two = "was assigned to member 2, and {1} had it";
        check(Promise::AtLeastOnce, &[(1, Assigned), (2, Assigned), (1, Revoked)], Some(two));
        let late = [(1, Assigned), (2, Assigned), (1, Revoked)];
        check_with(Promise::AtLeastOnce, &[1], &late, None);
        check_with(Promise::AtLeastOnce, &[2], &late, Some(two));
        let held = [(1, Assigned), (1, seen(0, 10)), (1, Revoked), (2, Assigned), (1, Dropped)];
        check(Promise::AtLeastOnce, &held, Some(two));
        check(Promise::AtLeastOnce, &[(1, Assigned), (2, Assigned), (1, Lost)], None);
        check(Promise::AtLeastOnce, &[(1, Assigned), (1, KILLED), (2, Assigned)], None);
    }

    #[test]
    fn by_hand_an_offset_may_go_back_as_far_as_was_sought() {
        use What::{Assigned, Sought};
        let history = |back| {
            let text = What::Committed(10, metadata_of(10));
            [
                (1, Assigned),
                (1, seen(0, 10)),
                (1, done(0, 10)),
                (usize::MAX, text),
                (1, Sought(5)),
                committed(back),
            ]
        };
        check(Promise::ByHand, &history(5), None);
        check(Promise::ByHand, &history(4), Some("went from Some(10) to 4"));
        check(Promise::AtLeastOnce, &history(5), Some("went from Some(10) to 5"));
        let text = What::Committed(10, metadata_of(9));
        let history = [(1, Assigned), (1, seen(0, 10)), (1, done(0, 10)), (usize::MAX, text)];
        check(Promise::ByHand, &history, Some("is committed with the text"));
    }

    #[test]
    fn at_most_once_nothing_is_delivered_twice_and_only_the_killed_miss_a_batch() {
        use What::{Assigned, Cancelled, Dropped, Lost, Revoked};
        let history = |end: &[(usize, What)], from| {
            let begin = [(1, Assigned), (1, seen(0, 10)), (1, Dropped), committed(20)];
            let next = [(2, Assigned), (2, seen(from, 30)), committed(30)];
            [&begin[..], end, &next[..]].concat()
        };
        for excuse in [&[(1, KILLED)][..], &[(1, Lost)], &[(1, Cancelled), (1, Revoked)]] {
            check(STRICT, &history(excuse, 20), None);
        }
        for end in [&[(1, Revoked)][..], &[(1, CLOSED), (1, Revoked)]] {
            check(STRICT, &history(end, 20), Some("from offset 10 on was missed for no reason"));
        }
        // What a member has committed that the coordinator has given up stays so, also if it comes back.
        for end in [&[(1, Revoked)][..], &[(1, Revoked), (1, Assigned), (1, Revoked)]] {
            check_with(STRICT, &[1], &history(end, 20), None);
            check_with(STRICT, &[2], &history(end, 20), Some("from offset 10 on was missed for no reason"));
        }
        let twice = [(1, Assigned), (1, seen(0, 10)), (1, KILLED), (2, Assigned), (2, seen(0, 10))];
        check(STRICT, &twice, Some("was delivered before"));
        check(Promise::AtLeastOnce, &twice, None);
    }
}
