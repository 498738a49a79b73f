//! What must hold, judged by what applications were told and by what is in the logs in the end. It knows nothing of the
//! machines.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{AddAssign, Range};

use milena_core::producer::Outcome;
use milena_core::{Failure, Instant};

use super::TIMEOUT;
use super::logs::Logs;

/// How much has happened, so that a test can say that its rounds were no idle ones.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Seen {
    /// Transactions that were committed, and that were aborted because the application wanted it or had to.
    pub(crate) committed: usize,
    pub(crate) aborted: usize,
    /// Commits that were refused.
    pub(crate) refused: usize,
    /// Transactions of unknown fate, and those of them that were committed.
    pub(crate) unknown: usize,
    pub(crate) unknown_committed: usize,
    /// Producers that were fenced by another instance, and those whose transaction timed out.
    pub(crate) fenced: usize,
    pub(crate) timed_out: usize,
    /// Producers that late copies of their own requests have fenced.
    pub(crate) fenced_by_itself: usize,
    /// Producers whose coordinator has forgotten how a transaction has ended.
    pub(crate) forgotten: usize,
    /// Requests for a higher epoch.
    pub(crate) raised: usize,
    /// Requests that arrived when a later transaction of their producer was open.
    pub(crate) late: usize,
    /// Transactions with offsets that were committed.
    pub(crate) offsets: usize,
}

impl AddAssign for Seen {
    fn add_assign(&mut self, other: Self) {
        self.committed += other.committed;
        self.aborted += other.aborted;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.unknown_committed += other.unknown_committed;
        self.fenced += other.fenced;
        self.timed_out += other.timed_out;
        self.fenced_by_itself += other.fenced_by_itself;
        self.forgotten += other.forgotten;
        self.raised += other.raised;
        self.late += other.late;
        self.offsets += other.offsets;
    }
}

/// What is known of a transaction's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Nothing,
    Committed,
    Aborted,
    /// The process ended, or the producer died, while it was committing.
    Unknown,
}

#[derive(Debug)]
struct Span {
    producer: usize,
    id: usize,
    begun_at: Instant,
    /// The numbers of its records, by partition.
    records: BTreeMap<usize, Vec<u32>>,
    has_offsets: bool,
    is_commit_wanted: bool,
    /// Whether a part of it has failed.
    has_failed: bool,
    told: Told,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    Written,
    NotWritten,
    MaybeWritten,
}

pub(super) struct Judge {
    seed: u64,
    spans: Vec<Span>,
    /// The transaction of each record, by the record's number.
    of_record: Vec<usize>,
    settled: BTreeMap<u32, Settled>,
    /// When each producer started, and its id.
    producers: Vec<(usize, Instant)>,
    /// The producers whose requests for an identity reached the coordinator, and when.
    identified: Vec<(usize, Instant)>,
    /// The producers of whose requests to coordinators a copy arrived that had been given up, whether it asks for a new identity,
    /// and when.
    late: Vec<(usize, bool, Instant)>,
    pub(super) seen: Seen,
}

impl Judge {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            spans: Vec::new(),
            of_record: Vec::new(),
            settled: BTreeMap::new(),
            producers: Vec::new(),
            identified: Vec::new(),
            late: Vec::new(),
            seen: Seen::default(),
        }
    }

    pub(super) fn round(&self) -> String {
        format!("seed {}", self.seed)
    }

    pub(super) fn launched(&mut self, id: usize, now: Instant) {
        self.producers.push((id, now));
    }

    /// A producer's request for an identity has reached the coordinator.
    pub(super) fn identified(&mut self, producer: usize, now: Instant) {
        self.identified.push((producer, now));
    }

    /// A request to a coordinator has arrived that its producer had given up.
    pub(super) fn arrived_late(&mut self, producer: usize, is_takeover: bool, now: Instant) {
        self.late.push((producer, is_takeover, now));
    }

    pub(super) fn begun(&mut self, producer: usize, id: usize, now: Instant) -> usize {
        self.spans.push(Span {
            producer,
            id,
            begun_at: now,
            records: BTreeMap::new(),
            has_offsets: false,
            is_commit_wanted: false,
            has_failed: false,
            told: Told::Nothing,
        });
        self.spans.len() - 1
    }

    /// Records are appended: the number of the first one.
    pub(super) fn appended(&mut self, span: usize, partition: usize, count: u32) -> u32 {
        let first = self.of_record.len() as u32;
        self.of_record.extend((0..count).map(|_| span));
        self.spans[span].records.entry(partition).or_default().extend(first..first + count);
        first
    }

    pub(super) fn settled(&mut self, numbers: Range<u32>, outcome: &Outcome) {
        let settled = match outcome {
            Outcome::Written { .. } => Settled::Written,
            Outcome::Failed { maybe_written: true, .. } => Settled::MaybeWritten,
            Outcome::Failed { maybe_written: false, .. } => Settled::NotWritten,
        };
        for number in numbers {
            let before = self.settled.insert(number, settled);
            assert!(before.is_none(), "{}: record {number} was settled twice", self.round());
            if let Outcome::Failed { failure, .. } = outcome {
                self.spans[self.of_record[number as usize]].has_failed = true;
                assert!(!failure.is_retriable(), "{}: {failure}", self.round());
                assert!(failure.is_fatal() || failure.requires_abort(), "{}: {failure}", self.round());
            }
        }
    }

    pub(super) fn offsets_added(&mut self, span: usize) {
        self.spans[span].has_offsets = true;
    }

    pub(super) fn offsets_failed(&mut self, span: usize, failure: &Failure) {
        self.spans[span].has_failed = true;
        assert!(failure.is_fatal() || failure.requires_abort(), "{}: {failure}", self.round());
    }

    pub(super) fn commit_wanted(&mut self, span: usize) {
        self.spans[span].is_commit_wanted = true;
    }

    pub(super) fn refused(&mut self, span: Option<usize>, failure: &Failure) {
        assert!(failure.requires_abort(), "{}: {failure}", self.round());
        let span = &self.spans[span.expect("a transaction is ending")];
        assert!(span.is_commit_wanted, "seed {}: no commit was wanted", self.seed);
        self.seen.refused += 1;
    }

    pub(super) fn told(&mut self, span: usize, told: Told) {
        let seed = self.seed;
        let of = &mut self.spans[span];
        assert_eq!(of.told, Told::Nothing, "seed {seed}: transaction {span} ends once");
        of.told = told;
        if told == Told::Committed {
            self.seen.committed += 1;
            assert!(of.is_commit_wanted, "seed {seed}: {span} is committed, which was not wanted");
            assert!(!of.has_failed, "seed {seed}: {span} is committed without a part that failed");
            for number in of.records.values().flatten() {
                let settled = self.settled.get(number);
                assert_eq!(settled, Some(&Settled::Written), "seed {seed}: {number} of {span} is committed");
            }
        } else {
            self.seen.aborted += 1;
        }
    }

    /// The process ended.
    pub(super) fn abandoned(&mut self, span: usize) {
        let of = &mut self.spans[span];
        of.told = if of.is_commit_wanted { Told::Unknown } else { Told::Aborted };
    }

    /// A producer can do nothing more.
    pub(super) fn died(
        &mut self,
        producer: usize,
        span: Option<usize>,
        failure: &Failure,
        may_be_committed: bool,
        now: Instant,
    ) {
        let seed = self.seed;
        assert!(failure.is_fatal(), "seed {seed}: {producer} is dead: {failure}");
        if let Some(span) = span {
            self.spans[span].told = if may_be_committed { Told::Unknown } else { Told::Aborted };
        }
        if !failure.is_fenced() {
            // The coordinator has forgotten how the transaction has ended.
            assert!(may_be_committed, "seed {seed}: {producer} is dead: {failure}");
            self.seen.forgotten += 1;
            return;
        }
        let (id, started) = self.producers[producer];
        let is_taken_over = self
            .identified
            .iter()
            .any(|(other, at)| *other != producer && self.producers[*other].0 == id && *at >= started);
        let last = self.spans.iter().rev().find(|of| of.producer == producer);
        // Late copies of its own requests fence a producer too, and no client can prevent that. One that asks for an identity or
        // a higher epoch fences it when it has one. One that adds a partition begins a transaction, in which the coordinator takes
        // the next request for a higher epoch for that of another instance.
        let since = self.spans.iter().rev().filter(|of| of.producer == producer).nth(1);
        let since = since.map_or(started, |of| of.begun_at);
        let is_its_own = self
            .late
            .iter()
            .any(|(other, is_takeover, at)| *other == producer && (*is_takeover || *at >= since));
        let is_old = last.is_some_and(|of| now - of.begun_at >= TIMEOUT);
        let counted = match () {
            () if is_taken_over => &mut self.seen.fenced,
            () if is_old => &mut self.seen.timed_out,
            () if is_its_own => &mut self.seen.fenced_by_itself,
            () => panic!("seed {seed}: nothing has fenced {producer} at {now:?}: {failure}"),
        };
        *counted += 1;
    }

    /// Whether a transaction of this producer has begun since.
    pub(super) fn has_begun_since(&self, producer: usize, at: Instant) -> bool {
        self.spans.iter().rev().any(|of| of.producer == producer && of.begun_at > at)
    }

    pub(super) fn spans(&self) -> usize {
        self.spans.len()
    }

    /// The logs and the offsets of each id's group, by partition, when everything has ended.
    pub(super) fn judge(mut self, logs: &Logs, offsets: &[BTreeMap<i32, i64>]) -> Seen {
        let seed = self.seed;
        for (number, settled) in &self.settled {
            let is_there = logs.written.contains(number);
            match settled {
                Settled::Written => assert!(is_there, "seed {seed}: record {number} was written and is lost"),
                Settled::NotWritten => assert!(!is_there, "seed {seed}: record {number} was not written"),
                Settled::MaybeWritten => {}
            }
        }
        let mut visible = BTreeMap::<usize, BTreeMap<usize, Vec<u32>>>::new();
        for (partition, log) in logs.committed.iter().enumerate() {
            for number in log {
                let span = self.of_record[*number as usize];
                visible.entry(span).or_default().entry(partition).or_default().push(*number);
            }
            // The transactions of an id come one after the other, and records in the order in which they were appended.
            let ids: BTreeSet<_> = self.spans.iter().map(|of| of.id).collect();
            for id in ids {
                let of_id =
                    log.iter().filter(|number| self.spans[self.of_record[**number as usize]].id == id);
                let of_id: Vec<_> = of_id.collect();
                assert!(of_id.is_sorted(), "seed {seed}: partition {partition} has {of_id:?}");
            }
        }
        let mut last_offsets = vec![0; offsets.len()];
        for (number, span) in self.spans.iter().enumerate() {
            let seen = visible.get(&number);
            let is_whole = seen.unwrap_or(&BTreeMap::new()) == &span.records;
            let has_offsets = offsets[span.id].contains_key(&(number as i32 + 1));
            assert!(
                seen.is_none() || is_whole,
                "seed {seed}: transaction {number} is seen in part: {seen:?} of {span:?}"
            );
            assert!(!has_offsets || span.has_offsets, "seed {seed}: offsets of {number}: {span:?}");
            let is_committed = match span.told {
                Told::Nothing => panic!("seed {seed}: transaction {number} has no end: {span:?}"),
                Told::Committed => true,
                Told::Aborted => false,
                Told::Unknown => {
                    self.seen.unknown += 1;
                    let is_committed = seen.is_some() || has_offsets;
                    self.seen.unknown_committed += usize::from(is_committed);
                    is_committed
                }
            };
            if is_committed {
                assert!(is_whole, "seed {seed}: {number} is committed, {seen:?} of {span:?} is seen");
                assert_eq!(has_offsets, span.has_offsets, "seed {seed}: offsets of {number}: {span:?}");
            } else {
                assert!(seen.is_none(), "seed {seed}: {number} is aborted, and {seen:?} of {span:?} is seen");
                assert!(
                    !has_offsets,
                    "seed {seed}: {number} is aborted, and its offsets are there: {span:?}"
                );
            }
            if has_offsets {
                self.seen.offsets += 1;
                last_offsets[span.id] = number as i64 + 1;
            }
        }
        // Partition 0 has the offset of the last transaction that was committed with one.
        let found: Vec<_> = offsets.iter().map(|of| of.get(&0).copied().unwrap_or(0)).collect();
        assert_eq!(found, last_offsets, "seed {seed}: the last offsets");
        self.seen
    }
}
