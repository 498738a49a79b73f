//! Judges what the members of a group saw. Knows nothing of clients, and of brokers only which offsets they say are committed.
//!
//! - No record is skipped: a member begins a partition at a record that was not read before, or before it; if members say
//!   what they have finished, no record before it is unfinished. At the end every record was read.
//! - A member reads a partition's records one after the other, without a gap.
//! - A record is read again only if its last reader was killed, or lost the partition, and the record was not committed.
//! - No member reads a partition that it does not own, and no two members own a partition at a time.

use std::collections::BTreeMap;

use crate::journal::{Event, Saw};

/// What the events say.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// What must not happen.
    pub faults: Vec<String>,
    /// Different records that were read.
    pub records: u64,
    /// Records that were read again, as a killed member or a lost partition allows.
    pub again: u64,
    /// How many partitions a member lost while it lived, or kept reading after the group had given them away.
    pub lost: usize,
    /// How often partitions were assigned to a member.
    pub assigned: usize,
    /// Errors that clients reported.
    pub errors: Vec<(usize, String)>,
    /// How long records waited: each is one record.
    pub waits: Vec<Wait>,
}

/// A record that a member got later than it could have: it was produced, and the record before it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// When the record was read, in microseconds since the epoch.
    pub at: u64,
    /// By which member.
    pub member: usize,
    /// From which partition.
    pub partition: i32,
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
    /// Who read each record last, or [`ABANDONED`]. Its length is the next record that no member has read.
    readers: Vec<usize>,
    /// What is finished, if members say it, and the first record that is not.
    done: Vec<bool>,
    undone: usize,
    committed: i64,
    read_at: u64,
}

/// The reader of a record that it could not commit: the record may be read again.
const ABANDONED: usize = usize::MAX;

/// Judges events.
#[derive(Debug, Default)]
struct Checker {
    by_done: bool,
    partitions: BTreeMap<i32, Partition>,
    /// The next record for each member in each partition that it reads, from its second record on.
    positions: BTreeMap<(usize, i32), i64>,
    /// Partitions that another member got while this one owned them: faults, unless it says later that it lost them.
    robbed: BTreeMap<(usize, i32), Vec<String>>,
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
            checker.findings.faults.push(format!("partition {partition}: {read} of {end} records were read"));
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
            Saw::Started => {}
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
                    self.abandon(member, *partition);
                    self.release(member, *partition);
                }
            }
            Saw::Record { partition, offset, number, produced } => {
                if number != offset {
                    self.fault(event.at, member, &format!("record {number} of {partition} at {offset}"));
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
                        self.abandon(member, partition);
                    }
                    self.release(member, partition);
                }
            }
            Saw::Error(text) => self.findings.errors.push((member, text.clone())),
        }
    }

    fn assign(&mut self, at: u64, member: usize, partition: i32) {
        let state = self.partitions.entry(partition).or_default();
        if let Some(owner) = state.owner.replace(member)
            && owner != member
        {
            let text = format!("{at}: member {member} got partition {partition}, which member {owner} owns");
            self.robbed.entry((owner, partition)).or_default().push(text);
            self.positions.remove(&(owner, partition));
        }
        self.positions.remove(&(member, partition));
    }

    /// What the member read and did not commit may be read again.
    fn abandon(&mut self, member: usize, partition: i32) {
        let Some(state) = self.partitions.get_mut(&partition) else { return };
        let from = usize::try_from(state.committed).unwrap_or_default().min(state.readers.len());
        for reader in state.readers[from..].iter_mut().filter(|reader| **reader == member) {
            *reader = ABANDONED;
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
            match self.robbed.get_mut(&(member, partition)) {
                Some(robbed) => robbed.push(text),
                None => self.findings.faults.push(text),
            }
            return;
        }
        let next = state.readers.len() as i64;
        let position = self.positions.insert((member, partition), offset + 1);
        let mut wrong = Vec::new();
        match position {
            Some(position) if position != offset => {
                wrong.push(format!("read {offset} after {}", position - 1));
            }
            None if offset > next => wrong.push(format!("began at {offset}, but {next} was not read")),
            None if self.by_done => {
                let undone = state.undone as i64;
                if offset > undone {
                    wrong.push(format!("began at {offset}, but {undone} was not finished"));
                }
            }
            _ => {}
        }
        let index = usize::try_from(offset).unwrap_or_default();
        if let Some(reader) = state.readers.get_mut(index) {
            self.findings.again += 1;
            if offset < state.committed {
                wrong.push(format!("read {offset} again, and {} was committed", state.committed));
            } else if *reader != ABANDONED {
                wrong.push(format!("read {offset} again, which member {reader} had read"));
            }
            *reader = member;
        } else {
            // After a fault the records between are taken as read, so that one fault is reported once.
            state.readers.resize(index + 1, member);
        }
        let since = produced.max(state.read_at);
        let micros = at.saturating_sub(since);
        if micros >= WAIT_MIN_MICROS {
            self.findings.waits.push(Wait { at, member, partition, micros, kept: position.is_some() });
        }
        state.read_at = at;
        for text in wrong {
            self.fault(at, member, &format!("partition {partition}: {text}"));
        }
    }

    /// An offset that a broker has.
    fn commit(&mut self, at: u64, member: usize, partition: i32, offset: i64) {
        let state = self.partitions.entry(partition).or_default();
        state.committed = state.committed.max(offset);
        let next = state.readers.len() as i64;
        let undone = state.undone as i64;
        if offset > next {
            self.fault(
                at,
                member,
                &format!("partition {partition}: committed {offset} of {next} that were read"),
            );
        } else if self.by_done && offset > undone {
            self.fault(
                at,
                member,
                &format!("partition {partition}: committed {offset}, but {undone} was not finished"),
            );
        }
    }

    fn fault(&mut self, at: u64, member: usize, text: &str) {
        self.findings.faults.push(format!("{at}: member {member}: {text}"));
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
            assert!(fault.contains(expected), "{fault:?} is not {expected:?}");
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
        assert_eq!(check_faults(&kill("lost 0", ""), 1, false, &[]).lost, 1);
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
        assert!(findings.faults.iter().any(|fault| fault.contains("which member 0 owns")), "{findings:?}");
        assert!(findings.faults.iter().any(|fault| fault.contains("does not own")), "{findings:?}");
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
        let wait = Wait { at: 90_000, member: 0, partition: 0, micros: 10_000, kept: true };
        assert_eq!(check(events, &[2], false).waits, [wait]);
    }
}
