//! What producers were told of their records, and whether the logs agree. It knows no client and no broker.
//!
//! A record's value begins with the number of its producer and its number among the records of that producer in its partition.

use std::collections::BTreeMap;

/// What a producer was told of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is written, or its transaction is committed. The offset, if the broker has told it.
    Written(Option<i64>),
    /// It is not in the log.
    NotWritten,
    /// It may be in the log, at most once.
    Maybe,
    /// Its transaction is aborted: it may be in the log, and `read_committed` does not show it.
    Aborted,
    /// Its transaction has this number, and was lost with its producer: all of its records are committed, or none of them.
    MaybeWith(u32),
}

/// The records of one producer: for each partition, in the order in which they were sent.
#[derive(Debug, Clone)]
pub struct Sent {
    fates: Vec<Vec<Fate>>,
}

impl Sent {
    /// Nothing yet.
    #[must_use]
    pub fn new(partitions: usize) -> Self {
        Self { fates: vec![Vec::new(); partitions] }
    }

    /// How many partitions there are.
    #[must_use]
    pub fn partitions(&self) -> usize {
        self.fates.len()
    }

    /// Notes a record, and returns its number.
    pub fn add(&mut self, partition: usize, fate: Fate) -> usize {
        self.fates[partition].push(fate);
        self.fates[partition].len() - 1
    }

    /// The number of the next record.
    #[must_use]
    pub fn next(&self, partition: usize) -> usize {
        self.fates[partition].len()
    }

    /// Notes what was told later.
    pub fn set(&mut self, partition: usize, number: usize, fate: Fate) {
        self.fates[partition][number] = fate;
    }

    fn count(&self, is_wanted: impl Fn(Fate) -> bool) -> usize {
        self.fates.iter().flatten().filter(|fate| is_wanted(**fate)).count()
    }
}

/// How a topic was read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// With `isolation.level=read_committed`.
    Committed,
    /// With `isolation.level=read_uncommitted`: what is aborted shows too.
    Uncommitted,
}

impl Reading {
    /// The value of `isolation.level`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Committed => "read_committed",
            Self::Uncommitted => "read_uncommitted",
        }
    }
}

/// Compares what was sent with the records of a topic, which come in the order of each partition.
#[derive(Debug)]
pub struct Judge<'a> {
    sent: &'a [Sent],
    reading: Reading,
    /// By producer, partition and number.
    seen: Vec<Vec<Vec<bool>>>,
    /// The highest number of a written record that was seen, by producer and partition.
    last: Vec<Vec<Option<usize>>>,
    findings: Findings,
}

/// What the judge has found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Records in the log.
    pub records: usize,
    /// Of them those that were said to be maybe written.
    pub maybe: usize,
    /// Of them those whose transactions were aborted.
    pub aborted: usize,
    /// Broken promises: the first of them, and how many there are.
    pub faults: Vec<String>,
    /// How many there are.
    pub fault_count: usize,
}

impl Findings {
    fn fault(&mut self, text: String) {
        self.fault_count += 1;
        if self.faults.len() < FAULTS_SHOWN {
            self.faults.push(text);
        }
    }
}

impl<'a> Judge<'a> {
    /// A judge of the records of these producers.
    #[must_use]
    pub fn new(sent: &'a [Sent], reading: Reading) -> Self {
        let seen = |of: &Sent| of.fates.iter().map(|fates| vec![false; fates.len()]).collect();
        Self {
            sent,
            reading,
            seen: sent.iter().map(seen).collect(),
            last: sent.iter().map(|of| vec![None; of.fates.len()]).collect(),
            findings: Findings::default(),
        }
    }

    /// The next record of a partition.
    pub fn see(&mut self, partition: usize, offset: i64, value: &str) {
        let found = &mut self.findings;
        found.records += 1;
        let mut words = value.split(' ').map(str::parse::<usize>);
        let (Some(Ok(producer)), Some(Ok(number))) = (words.next(), words.next()) else {
            return found.fault(format!("{partition}@{offset}: not a record of ours: {value:?}"));
        };
        let fate = self.sent.get(producer).and_then(|of| of.fates.get(partition)?.get(number));
        let Some(&fate) = fate else {
            return found.fault(format!("{partition}@{offset}: producer {producer} did not send {number}"));
        };
        let here = format!("{partition}@{offset}: record {number} of producer {producer}, {fate:?},");
        if std::mem::replace(&mut self.seen[producer][partition][number], true) {
            found.fault(format!("{here} is twice in the log"));
        }
        match fate {
            Fate::Written(told) => {
                if told.is_some_and(|told| told != offset) {
                    found.fault(format!("{here} is at another offset"));
                }
                let last = &mut self.last[producer][partition];
                if last.is_some_and(|last| last > number) {
                    found.fault(format!("{here} comes after {last:?}"));
                }
                *last = (*last).max(Some(number));
            }
            Fate::NotWritten => found.fault(format!("{here} is in the log")),
            Fate::Aborted => {
                found.aborted += 1;
                if self.reading == Reading::Committed {
                    found.fault(format!("{here} is shown"));
                }
            }
            Fate::Maybe | Fate::MaybeWith(_) => found.maybe += 1,
        }
    }

    /// The topic has no more records.
    #[must_use]
    pub fn finish(mut self) -> Findings {
        // Of each lost transaction, how many of its records there are and are not.
        let mut lost: BTreeMap<(usize, u32), [usize; 2]> = BTreeMap::new();
        for (producer, (of, seen)) in self.sent.iter().zip(&self.seen).enumerate() {
            for (partition, (fates, seen)) in of.fates.iter().zip(seen).enumerate() {
                for (number, (fate, seen)) in fates.iter().zip(seen).enumerate() {
                    match fate {
                        Fate::Written(_) if !seen => self.findings.fault(format!(
                            "{partition}: record {number} of producer {producer}, {fate:?}, is lost"
                        )),
                        Fate::MaybeWith(transaction) => {
                            lost.entry((producer, *transaction)).or_default()[usize::from(*seen)] += 1;
                        }
                        _ => {}
                    }
                }
            }
        }
        if self.reading == Reading::Committed {
            for ((producer, transaction), [missing, there]) in lost {
                if missing > 0 && there > 0 {
                    self.findings.fault(format!(
                        "transaction {transaction} of producer {producer}: {there} records are committed, {missing} are not"
                    ));
                }
            }
        }
        self.findings
    }
}

/// How many records the producers were told to be written, not written, maybe written and aborted.
#[must_use]
pub fn told(sent: &[Sent]) -> String {
    let count = |is_wanted: fn(Fate) -> bool| sent.iter().map(|of| of.count(is_wanted)).sum::<usize>();
    format!(
        "{} written, {} not written, {} maybe written, {} aborted, {} in transactions that were lost",
        count(|fate| matches!(fate, Fate::Written(_))),
        count(|fate| fate == Fate::NotWritten),
        count(|fate| fate == Fate::Maybe),
        count(|fate| fate == Fate::Aborted),
        count(|fate| matches!(fate, Fate::MaybeWith(_)))
    )
}

const FAULTS_SHOWN: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// The faults in a log of one partition, whose records are the numbers of one producer's records at offsets 0, 1, 2, …
    fn faults(fates: &[Fate], reading: Reading, log: &[usize]) -> Vec<String> {
        let mut sent = Sent::new(1);
        for fate in fates {
            sent.add(0, *fate);
        }
        let sent = [sent];
        let mut judge = Judge::new(&sent, reading);
        for (offset, number) in (0..).zip(log) {
            judge.see(0, offset, &format!("0 {number} and more"));
        }
        judge.finish().faults
    }

    #[test]
    fn a_log_that_is_as_producers_were_told_has_no_fault() {
        use Fate::{Aborted, Maybe, MaybeWith, NotWritten, Written};
        let fates = [Written(Some(0)), NotWritten, Maybe, Maybe, Written(None), Aborted, MaybeWith(1)];
        assert_eq!(faults(&fates, Reading::Committed, &[0, 2, 4]), [""; 0]);
        assert_eq!(faults(&fates, Reading::Uncommitted, &[0, 3, 4, 5, 6]), [""; 0]);
    }

    #[test]
    fn each_broken_promise_is_a_fault() {
        use Fate::{Aborted, Maybe, MaybeWith, NotWritten, Written};
        let check = |fates: &[Fate], log: &[usize], fault: &str| {
            let faults = faults(fates, Reading::Committed, log);
            assert!(faults.len() == 1 && faults[0].ends_with(fault), "{fault}: {faults:?}");
        };
        check(&[Written(None), Written(None)], &[0], "is lost");
        check(&[Written(None)], &[0, 0], "is twice in the log");
        check(&[Maybe], &[0, 0], "is twice in the log");
        check(&[Written(None), Written(None)], &[1, 0], "comes after Some(1)");
        check(&[Written(Some(1))], &[0], "is at another offset");
        check(&[NotWritten], &[0], "is in the log");
        check(&[Aborted], &[0], "is shown");
        check(&[MaybeWith(3), MaybeWith(3)], &[1], "1 records are committed, 1 are not");
        check(&[], &[0], "did not send 0");
    }
}
