//! Judges what the members of a group saw. Knows nothing of clients, and of brokers only which offsets they say are committed.
//!
//! - No record is skipped: a member begins a partition at a record that was not read before, or before it; if members say
//!   what they have finished, no record before it is unfinished. At the end every record was read.
//! - A member reads a partition's records one after the other, without a gap.
//! - A record is read again only if its last reader was killed, or lost the partition, and the record was not committed.
//! - No member reads a partition that it does not own, and no two members own a partition at a time.
//! - While a member keeps a partition, no record batch of it comes over its connections twice.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use crate::journal::{Event, Saw};

/// What the events say.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// What must not happen.
    pub faults: Vec<Fault>,
    /// Different records that were read.
    pub records: u64,
    /// Records that were read again, as a killed member or a lost partition allows.
    pub again: u64,
    /// Those of them whose last reader lived, and had lost the partition, by that reader.
    pub again_after_loss: BTreeMap<usize, u64>,
    /// How many partitions a member lost while it lived, or kept reading after the group had given them away.
    pub lost: usize,
    /// How often partitions were assigned to a member.
    pub assigned: usize,
    /// Errors that clients reported.
    pub errors: Vec<(usize, String)>,
    /// How long records waited: each is one record.
    pub waits: Vec<Wait>,
    /// The records of each partition that members read while they kept it, in order.
    pub kept: BTreeMap<i32, Vec<Kept>>,
    /// What came over the connections of the members that say it.
    pub fetched: Fetched,
    /// What a reader by position saw of the same records at the same time, if there was one.
    pub control: Option<Box<Findings>>,
}

/// Records that one member read one after the other, and not as the first since it had got their partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The member.
    pub member: usize,
    /// Their offsets.
    pub offsets: Range<i64>,
}

/// Bytes of record batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fetched {
    /// All of them.
    pub bytes: u64,
    /// Those that the member had been sent before, since it had got the partition.
    pub bytes_again: u64,
}

/// What must not happen, and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which promise it breaks.
    pub of: Promise,
    /// What happened, when, and to which member.
    pub text: String,
}

/// What a group promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// Every record is read, and no offset after a record that is not finished is committed.
    NoneSkipped,
    /// A member reads the records of a partition in their order.
    InOrder,
    /// A record is read again only if its reader could not commit it.
    OnceEach,
    /// A partition is read by its owner alone.
    OneOwner,
    /// What is fetched of a kept partition is not fetched again.
    FetchedOnce,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A record that a member got later than it could have: it was produced, the record before it was read, and a member had asked
/// to join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// When the record was read, in microseconds since the epoch.
    pub at: u64,
    /// By which member.
    pub member: usize,
    /// From which partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// How long, in microseconds.
    pub micros: u64,
    /// Whether the member had read the record before this one since it got the partition.
    pub kept: bool,
}

/// Waits shorter than this are not noted.
const WAIT_MIN_MICROS: u64 = 5_000;

/// One partition, as the events went so far.
#[derive(Debug, Default)]
struct Partition {
    owner: Option<usize>,
    /// Who read each record last. Its length is the next record that no member has read.
    readers: Vec<Reader>,
    /// What is finished, if members say it, and the first record that is not.
    done: Vec<bool>,
    undone: usize,
    committed: i64,
    read_at: u64,
    /// When its owner got it, and the offset after the last batch that came since then.
    assigned_at: u64,
    fetched: i64,
}

/// Who read a record last. If it could not commit the record, it may be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    Of(usize),
    Killed,
    /// This member lost the partition while it lived.
    Lost(usize),
}

/// Judges events.
#[derive(Debug, Default)]
struct Checker {
    by_done: bool,
    partitions: BTreeMap<i32, Partition>,
    /// The next record for each member in each partition that it reads, from its second record on.
    positions: BTreeMap<(usize, i32), i64>,
    /// Partitions that another member got while this one owned them: faults, unless it says later that it lost them.
    robbed: BTreeMap<(usize, i32), Vec<Fault>>,
    /// When the first member asked to join.
    started_at: Option<u64>,
    findings: Findings,
}

/// Judges the events of a topic whose partitions have these numbers of records. With `by_done`, a record that was read is
/// finished only when its reader said so.
#[must_use]
pub fn check(mut events: Vec<Event>, ends: &[i64], by_done: bool) -> Findings {
    // Each member's own events keep their order.
    events.sort_by_key(|event| event.at);
    let mut checker = Checker { by_done, ..Checker::default() };
    for event in &events {
        checker.follow(event);
    }
    for (partition, end) in (0..).zip(ends) {
        let read = checker.partitions.get(&partition).map_or(0, |partition| partition.readers.len() as i64);
        if read != *end {
            let text = format!("partition {partition}: {read} of {end} records were read");
            checker.findings.faults.push(Fault { of: Promise::NoneSkipped, text });
        }
        checker.findings.records += read as u64;
    }
    let robbed = std::mem::take(&mut checker.robbed);
    checker.findings.faults.extend(robbed.into_values().flatten());
    checker.findings
}

impl Checker {
    fn follow(&mut self, event: &Event) {
        let member = event.member;
        match &event.saw {
            Saw::Started => {
                self.started_at.get_or_insert(event.at);
            }
            Saw::Assigned(partitions) => {
                self.findings.assigned += usize::from(!partitions.is_empty());
                for partition in partitions {
                    self.assign(event.at, member, *partition);
                }
            }
            Saw::Revoked(partitions) => {
                for partition in partitions {
                    self.release(member, *partition);
                }
            }
            Saw::Lost(partitions) => {
                for partition in partitions {
                    self.findings.lost += 1;
                    self.robbed.remove(&(member, *partition));
                    self.abandon(member, *partition, Reader::Lost(member));
                    self.release(member, *partition);
                }
            }
            Saw::Record { partition, offset, number, produced } => {
                if number != offset {
                    let text = format!("record {number} of {partition} at {offset}");
                    self.fault(Promise::InOrder, event.at, member, &text);
                }
                self.read(event.at, member, *partition, *offset, *produced);
            }
            Saw::Done { partition, first, last } => {
                let state = self.partitions.entry(*partition).or_default();
                let done = &mut state.done;
                let end = usize::try_from(last + 1).unwrap_or_default();
                done.resize(done.len().max(end), false);
                done[usize::try_from(*first).unwrap_or_default()..end].fill(true);
                while state.done.get(state.undone) == Some(&true) {
                    state.undone += 1;
                }
            }
            Saw::Fetched { partition, first, next, bytes, asked } => {
                self.fetch(event.at, member, *partition, *first..*next, *bytes, *asked);
            }
            Saw::Committed { partition, offset } => self.commit(event.at, member, *partition, *offset),
            Saw::Stored(offsets) => {
                for (partition, offset) in offsets {
                    self.commit(event.at, member, *partition, *offset);
                }
            }
            Saw::Killed | Saw::Closed => {
                let killed = event.saw == Saw::Killed;
                if killed {
                    self.robbed.retain(|(robbed, _), _| *robbed != member);
                }
                let all: Vec<i32> = self.partitions.keys().copied().collect();
                for partition in all {
                    if killed {
                        self.abandon(member, partition, Reader::Killed);
                    }
                    self.release(member, partition);
                }
            }
            Saw::Error(text) => self.findings.errors.push((member, text.clone())),
        }
    }

    fn assign(&mut self, at: u64, member: usize, partition: i32) {
        let state = self.partitions.entry(partition).or_default();
        (state.assigned_at, state.fetched) = (at, 0);
        if let Some(owner) = state.owner.replace(member)
            && owner != member
        {
            let text = format!("{at}: member {member} got partition {partition}, which member {owner} owns");
            self.robbed.entry((owner, partition)).or_default().push(Fault { of: Promise::OneOwner, text });
            self.positions.remove(&(owner, partition));
        }
        self.positions.remove(&(member, partition));
    }

    /// What the member read and did not commit may be read again. `why` takes its place.
    fn abandon(&mut self, member: usize, partition: i32, why: Reader) {
        let Some(state) = self.partitions.get_mut(&partition) else { return };
        let from = usize::try_from(state.committed).unwrap_or_default().min(state.readers.len());
        for reader in state.readers[from..].iter_mut().filter(|reader| **reader == Reader::Of(member)) {
            *reader = why;
        }
    }

    fn release(&mut self, member: usize, partition: i32) {
        self.positions.remove(&(member, partition));
        if let Some(state) = self.partitions.get_mut(&partition)
            && state.owner == Some(member)
        {
            state.owner = None;
        }
    }

    fn read(&mut self, at: u64, member: usize, partition: i32, offset: i64, produced: u64) {
        let state = self.partitions.entry(partition).or_default();
        if state.owner != Some(member) {
            let text = format!(
                "{at}: member {member} read {offset} of partition {partition}, which it does not own"
            );
            let fault = Fault { of: Promise::OneOwner, text };
            match self.robbed.get_mut(&(member, partition)) {
                Some(robbed) => robbed.push(fault),
                None => self.findings.faults.push(fault),
            }
            return;
        }
        let next = state.readers.len() as i64;
        let position = self.positions.insert((member, partition), offset + 1);
        let mut wrong = Vec::new();
        match position {
            Some(position) if position != offset => {
                let of = if position < offset { Promise::NoneSkipped } else { Promise::InOrder };
                wrong.push((of, format!("read {offset} after {}", position - 1)));
            }
            None if offset > next => {
                wrong.push((Promise::NoneSkipped, format!("began at {offset}, but {next} was not read")));
            }
            None if self.by_done => {
                let undone = state.undone as i64;
                if offset > undone {
                    let text = format!("began at {offset}, but {undone} was not finished");
                    wrong.push((Promise::NoneSkipped, text));
                }
            }
            _ => {}
        }
        let index = usize::try_from(offset).unwrap_or_default();
        if let Some(reader) = state.readers.get_mut(index) {
            self.findings.again += 1;
            if offset < state.committed {
                let text = format!("read {offset} again, and {} was committed", state.committed);
                wrong.push((Promise::OnceEach, text));
            } else {
                match *reader {
                    Reader::Of(reader) => {
                        let text = format!("read {offset} again, which member {reader} had read");
                        wrong.push((Promise::OnceEach, text));
                    }
                    Reader::Lost(loser) => *self.findings.again_after_loss.entry(loser).or_default() += 1,
                    Reader::Killed => {}
                }
            }
            *reader = Reader::Of(member);
        } else {
            // After a fault the records between are taken as read, so that one fault is reported once.
            state.readers.resize(index + 1, Reader::Of(member));
        }
        let since = produced.max(state.read_at).max(self.started_at.unwrap_or_default());
        let micros = at.saturating_sub(since);
        let kept = position.is_some();
        if micros >= WAIT_MIN_MICROS {
            self.findings.waits.push(Wait { at, member, partition, offset, micros, kept });
        }
        if kept {
            let all = self.findings.kept.entry(partition).or_default();
            match all.last_mut().filter(|last| last.member == member && last.offsets.end == offset) {
                Some(last) => last.offsets.end += 1,
                None => all.push(Kept { member, offsets: offset..offset + 1 }),
            }
        }
        state.read_at = at;
        for (of, text) in wrong {
            self.fault(of, at, member, &format!("partition {partition}: {text}"));
        }
    }

    /// Batches came. Those of a fetch from before the partition was assigned are no part of what was kept since then.
    fn fetch(&mut self, at: u64, member: usize, partition: i32, offsets: Range<i64>, bytes: u64, asked: u64) {
        self.findings.fetched.bytes += bytes;
        let state = self.partitions.entry(partition).or_default();
        if state.owner != Some(member) || asked < state.assigned_at {
            return;
        }
        let next = state.fetched;
        state.fetched = next.max(offsets.end);
        if offsets.start < next {
            self.findings.fetched.bytes_again += bytes;
            let text = format!("partition {partition}: fetched {offsets:?} again, and had fetched to {next}");
            self.fault(Promise::FetchedOnce, at, member, &text);
        }
    }

    /// An offset that a broker has.
    fn commit(&mut self, at: u64, member: usize, partition: i32, offset: i64) {
        let state = self.partitions.entry(partition).or_default();
        state.committed = state.committed.max(offset);
        let next = state.readers.len() as i64;
        let undone = state.undone as i64;
        if offset > next {
            let text = format!("partition {partition}: committed {offset} of {next} that were read");
            self.fault(Promise::NoneSkipped, at, member, &text);
        } else if self.by_done && offset > undone {
            let text = format!("partition {partition}: committed {offset}, but {undone} was not finished");
            self.fault(Promise::NoneSkipped, at, member, &text);
        }
    }

    fn fault(&mut self, of: Promise, at: u64, member: usize, text: &str) {
        self.findings.faults.push(Fault { of, text: format!("{at}: member {member}: {text}") });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each line is `MEMBER EVENT...`, with spaces for tabs; a record is `record PARTITION OFFSET`. The time is the line's
    /// number, in milliseconds.
    fn judge(lines: &str, ends: &[i64], by_done: bool) -> Findings {
        let event = |(number, line): (usize, &str)| {
            let at = (number as u64 + 1) * 1000;
            let (member, event) = line.trim().split_once(' ').unwrap();
            let member = member.parse().unwrap();
            let fields: Vec<&str> = event.split(' ').collect();
            match fields.as_slice() {
                ["killed"] => Event { at, member, saw: Saw::Killed },
                ["record", partition, offset] => {
                    let line = format!("{at}\trecord\t{partition}\t{offset}\t{offset}:{at}");
                    Event::from_line(member, &line).unwrap()
                }
                fields => Event::from_line(member, &format!("{at}\t{}", fields.join("\t"))).unwrap(),
            }
        };
        check(lines.trim().lines().enumerate().map(event).collect(), ends, by_done)
    }

    /// The faults that the lines show must be those, in order, each named by a part of its text.
    fn check_faults(lines: &str, end: i64, by_done: bool, expected: &[&str]) -> Findings {
        let findings = judge(lines, &[end], by_done);
        let faults = &findings.faults;
        assert_eq!(faults.len(), expected.len(), "{faults:#?}");
        for (fault, expected) in faults.iter().zip(expected) {
            assert!(fault.text.contains(expected), "{fault:?} is not {expected:?}");
        }
        findings
    }

    #[test]
    fn a_partition_may_go_from_member_to_member() {
        let lines = "
            0 assigned 0
            0 record 0 0
            0 committed 0 1
            0 revoked 0
            1 assigned 0
            1 record 0 1
            1 closed";
        let findings = check_faults(lines, 2, false, &[]);
        assert_eq!((findings.records, findings.again, findings.assigned), (2, 0, 2));
    }

    #[test]
    fn missing_records_are_faults() {
        check_faults("0 assigned 0\n0 record 0 0\n0 record 0 2", 3, false, &["read 2 after 0"]);
        check_faults("0 assigned 0\n0 record 0 1", 2, false, &["began at 1, but 0 was not read"]);
        check_faults("0 assigned 0\n0 record 0 0", 2, false, &["1 of 2 records were read"]);
        let again = ["read 0 after 0", "read 0 again, which member 0 had read"];
        check_faults("0 assigned 0\n0 record 0 0\n0 record 0 0", 1, false, &again);
    }

    #[test]
    fn records_are_read_again_only_after_a_kill_or_a_loss() {
        let kill = |ending: &str, committed: &str| {
            format!("0 assigned 0\n0 record 0 0\n{committed}0 {ending}\n1 assigned 0\n1 record 0 0")
        };
        assert_eq!(check_faults(&kill("killed", ""), 1, false, &[]).again, 1);
        let findings = check_faults(&kill("lost 0", ""), 1, false, &[]);
        assert_eq!((findings.lost, findings.again_after_loss), (1, BTreeMap::from([(0, 1)])));
        check_faults(&kill("revoked 0", ""), 1, false, &["read 0 again, which member 0"]);
        check_faults(&kill("closed", ""), 1, false, &["read 0 again, which member 0"]);
        check_faults(&kill("killed", "0 committed 0 1\n"), 1, false, &["read 0 again, and 1 was committed"]);
    }

    #[test]
    fn a_member_that_lost_a_partition_may_read_its_own_records_again() {
        check_faults("0 assigned 0\n0 record 0 0\n0 lost 0\n0 assigned 0\n0 record 0 0", 1, false, &[]);
    }

    #[test]
    fn two_owners_are_a_fault_unless_one_finds_out_that_it_lost() {
        let two = "0 assigned 0\n0 record 0 0\n1 assigned 0\n0 record 0 1\n";
        let rest = "1 record 0 0\n1 record 0 1";
        check_faults(&format!("{two}0 lost 0\n{rest}"), 2, false, &[]);
        let findings = judge(&format!("{two}0 revoked 0\n{rest}"), &[2], false);
        assert!(
            findings.faults.iter().any(|fault| fault.text.contains("which member 0 owns")),
            "{findings:?}"
        );
        assert!(findings.faults.iter().any(|fault| fault.text.contains("does not own")), "{findings:?}");
    }

    #[test]
    fn what_is_unfinished_must_come_again() {
        let crash = |done: &str, next: &str| {
            format!("0 assigned 0\n0 record 0 0\n0 record 0 1\n{done}\n0 killed\n1 assigned 0\n{next}")
        };
        check_faults(&crash("0 done 0 0 0", "1 record 0 1"), 2, true, &[]);
        check_faults(&crash("0 done 0 1 1", "1 record 0 0\n1 record 0 1"), 2, true, &[]);
        check_faults(
            &crash("0 done 0 1 1", "1 record 0 1"),
            2,
            true,
            &["began at 1, but 0 was not finished"],
        );
        let lines = "0 assigned 0\n0 record 0 0\n0 committed 0 1";
        check_faults(lines, 1, true, &["committed 1, but 0 was not finished"]);
    }

    #[test]
    fn a_commit_of_records_that_no_member_read_is_a_fault() {
        check_faults("0 assigned 0\n0 record 0 0\n0 committed 0 2", 1, false, &["committed 2 of 1"]);
    }

    #[test]
    fn waits_are_counted_from_when_the_record_could_have_come() {
        let mut events: Vec<Event> = Vec::new();
        let mut add = |at, saw| events.push(Event { at, member: 0, saw });
        add(0, Saw::Assigned(vec![0]));
        add(1_000, Saw::Record { partition: 0, offset: 0, number: 0, produced: 500 });
        add(90_000, Saw::Record { partition: 0, offset: 1, number: 1, produced: 80_000 });
        let findings = check(events, &[2], false);
        let wait = Wait { at: 90_000, member: 0, partition: 0, offset: 1, micros: 10_000, kept: true };
        assert_eq!(findings.waits, [wait]);
        assert_eq!(findings.kept[&0], [Kept { member: 0, offsets: 1..2 }]);
    }

    #[test]
    fn no_record_waits_before_a_member_has_asked_to_join() {
        let mut events: Vec<Event> = Vec::new();
        let mut add = |at, saw| events.push(Event { at, member: 0, saw });
        add(50_000, Saw::Started);
        add(60_000, Saw::Assigned(vec![0]));
        add(80_000, Saw::Record { partition: 0, offset: 0, number: 0, produced: 500 });
        let wait = Wait { at: 80_000, member: 0, partition: 0, offset: 0, micros: 30_000, kept: false };
        assert_eq!(check(events, &[1], false).waits, [wait]);
    }

    #[test]
    fn batches_of_a_kept_partition_come_once() {
        // The time of each line is its number in milliseconds: the fetches are sent while the member has the partition.
        let lines = "
            0 assigned 0,1
            0 fetched 0 0 5 100 1500
            0 fetched 0 5 9 100 1500
            0 fetched 1 0 5 100 1500";
        let ends = check_faults(lines, 0, false, &[]);
        assert_eq!(ends.fetched, Fetched { bytes: 300, bytes_again: 0 });
        let again = format!("{lines}\n0 fetched 0 5 9 100 1500");
        let findings = check_faults(&again, 0, false, &["fetched 5..9 again"]);
        assert_eq!(findings.fetched.bytes_again, 100);
        assert_eq!(findings.faults[0].of, Promise::FetchedOnce);
        // It begins anew when it gets the partition again. A fetch of its time before does not count.
        let back = format!("{lines}\n0 revoked 0\n0 assigned 0\n0 fetched 0 9 12 100 1500");
        check_faults(&format!("{back}\n0 fetched 0 5 9 100 6500"), 0, false, &[]);
    }
}
