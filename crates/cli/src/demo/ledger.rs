//! The demo's proof: which records were sent, acknowledged and delivered, and every fault among them.
//!
//! ```text
//! producing task ── sent(index, digest) ──▶ ┌────────┐ ◀── delivered(index, digest) ── one Reading per partition
//! ack            ── acknowledged(index)  ──▶ │ Ledger │
//!                                            └────────┘ ── audit() ─▶ Findings
//! ```
//!
//! Every record has its index in the source as a header. Each index has one slot of 24 bytes, which the producing task, the
//! task that settles deliveries and the readers write without a lock. The digest of key and value is taken before the
//! producer gets the record, and compared with the digest of the delivered record. This file knows nothing of Kafka but
//! partition numbers.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use xxhash_rust::xxh3::Xxh3;

/// One slot for each record of a run. Memory is allocated while records are sent, so that a run of 100 million begins at
/// once.
#[derive(Debug)]
pub(crate) struct Ledger {
    record_count: usize,
    chunks: Box<[OnceLock<Box<[Slot]>>]>,
}

/// The number of slots in one allocation, of 1.5 MB.
const CHUNK_SLOTS: usize = 1 << 16;

#[derive(Debug, Default)]
struct Slot {
    /// The digest of key and value; 0 means "not sent" ([`digest`] never returns 0).
    digest: AtomicU64,
    sent_us: AtomicU32,
    /// The partition from which it was delivered, plus 1; 0 means "not delivered".
    delivered: AtomicU32,
    fate: AtomicU8,
}

const PENDING: u8 = 0;
const ACKNOWLEDGED: u8 = 1;
const FAILED: u8 = 2;

impl Ledger {
    pub(crate) fn new(record_count: usize) -> Self {
        let chunks = (0..record_count.div_ceil(CHUNK_SLOTS)).map(|_| OnceLock::new()).collect();
        Self { record_count, chunks }
    }

    fn slot(&self, index: u32) -> &Slot {
        let new_chunk = || (0..CHUNK_SLOTS).map(|_| Slot::default()).collect();
        &self.chunks[index as usize / CHUNK_SLOTS].get_or_init(new_chunk)[index as usize % CHUNK_SLOTS]
    }

    /// The slot of a record, if it may have been sent.
    fn known(&self, index: u32) -> Option<&Slot> {
        let chunk = self.chunks.get(index as usize / CHUNK_SLOTS)?.get()?;
        Some(&chunk[index as usize % CHUNK_SLOTS])
    }

    /// Notes that a record is about to be sent, at `now_us` of the run.
    pub(crate) fn sent(&self, index: u32, digest: u64, now_us: u32) {
        let slot = self.slot(index);
        slot.sent_us.store(now_us, Ordering::Relaxed);
        // Release, so that the reader of this record sees the time as well.
        slot.digest.store(digest, Ordering::Release);
    }

    /// Notes that a record was acknowledged; returns when it was sent.
    pub(crate) fn acknowledged(&self, index: u32) -> u32 {
        let slot = self.slot(index);
        slot.fate.store(ACKNOWLEDGED, Ordering::Relaxed);
        slot.sent_us.load(Ordering::Relaxed)
    }

    pub(crate) fn failed(&self, index: u32) {
        self.slot(index).fate.store(FAILED, Ordering::Relaxed);
    }

    /// The record of one partition's deliveries, from its beginning.
    pub(crate) fn reading(&self, partition: i32) -> Reading<'_> {
        Reading { ledger: self, partition, last: None, findings: Findings::default() }
    }

    /// After all readings have ended, finds the faults that only show in the whole: missing records, and keys on two
    /// partitions. `keys` are the source's keys in order of index.
    pub(crate) fn audit<'a>(&self, keys: impl Iterator<Item = Option<&'a str>>) -> Findings {
        let mut findings = Findings::default();
        let mut homes = HashMap::new();
        for (index, key) in (0..self.record_count as u32).zip(keys) {
            let sent = self.known(index).filter(|slot| slot.digest.load(Ordering::Acquire) != 0);
            let Some(slot) = sent else { continue };
            let Some(partition) = slot.delivered.load(Ordering::Acquire).checked_sub(1) else {
                match slot.fate.load(Ordering::Acquire) {
                    ACKNOWLEDGED => findings.add(Fault::Lost, index, None),
                    PENDING => findings.add(Fault::Unsettled, index, None),
                    // The producer reported a failure, and the record was not delivered: no fault.
                    _ => {}
                }
                continue;
            };
            let Some(key) = key else { continue };
            if *homes.entry(key).or_insert(partition) != partition {
                findings.add(Fault::Strayed, index, Some(partition as i32));
            }
        }
        findings.key_count = homes.len() as u64;
        findings
    }
}

/// The records of one partition in the order of their delivery.
pub(crate) struct Reading<'a> {
    ledger: &'a Ledger,
    partition: i32,
    last: Option<u32>,
    findings: Findings,
}

impl Reading<'_> {
    /// Notes that a record was delivered. `index` is the value of its header, if it has one. Returns when the record was
    /// sent, unless this run did not send it.
    pub(crate) fn delivered(&mut self, index: Option<u32>, digest: u64) -> Option<u32> {
        let ours = index.filter(|index| (*index as usize) < self.ledger.record_count);
        let Some(index) = ours else {
            self.findings.add(Fault::Foreign, index.unwrap_or(0), Some(self.partition));
            return None;
        };
        let slot = self.ledger.slot(index);
        if slot.digest.load(Ordering::Acquire) != digest {
            self.findings.add(Fault::Changed, index, Some(self.partition));
        }
        if slot.delivered.swap(self.partition as u32 + 1, Ordering::AcqRel) != 0 {
            self.findings.add(Fault::Doubled, index, Some(self.partition));
        } else if self.last.is_some_and(|last| last > index) {
            self.findings.add(Fault::Reordered, index, Some(self.partition));
        } else {
            self.last = Some(index);
        }
        self.findings.delivered_count += 1;
        Some(slot.sent_us.load(Ordering::Relaxed))
    }

    pub(crate) fn findings(self) -> Findings {
        self.findings
    }
}

/// The faults that a record can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Acknowledged and never delivered.
    Lost,
    /// Neither acknowledged nor refused, and never delivered.
    Unsettled,
    /// Delivered more than once.
    Doubled,
    /// Delivered with another key or value than it was sent with.
    Changed,
    /// Delivered after a later record of the same partition.
    Reordered,
    /// Delivered from another partition than an earlier record with the same key.
    Strayed,
    /// Not sent by this run.
    Foreign,
}

impl Fault {
    pub(crate) const ALL: [Self; 7] = [
        Self::Lost,
        Self::Unsettled,
        Self::Doubled,
        Self::Changed,
        Self::Reordered,
        Self::Strayed,
        Self::Foreign,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Unsettled => "unsettled",
            Self::Doubled => "doubled",
            Self::Changed => "changed",
            Self::Reordered => "reordered",
            Self::Strayed => "strayed",
            Self::Foreign => "foreign",
        }
    }
}

/// The counts of faults, and the first few examples of each.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Findings {
    pub(crate) delivered_count: u64,
    pub(crate) key_count: u64,
    counts: [u64; Fault::ALL.len()],
    examples: Vec<Example>,
}

/// One faulty record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Example {
    pub(crate) fault: Fault,
    pub(crate) index: u32,
    pub(crate) partition: Option<i32>,
}

/// Enough examples to see a pattern, and few enough to read.
const EXAMPLES_MAX: u64 = 5;

impl Findings {
    fn add(&mut self, fault: Fault, index: u32, partition: Option<i32>) {
        if self.counts[fault as usize] < EXAMPLES_MAX {
            self.examples.push(Example { fault, index, partition });
        }
        self.counts[fault as usize] += 1;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.delivered_count += other.delivered_count;
        self.key_count += other.key_count;
        for example in &other.examples {
            if self.examples(example.fault).count() < EXAMPLES_MAX as usize {
                self.examples.push(example.clone());
            }
        }
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
    }

    pub(crate) fn count(&self, fault: Fault) -> u64 {
        self.counts[fault as usize]
    }

    pub(crate) fn examples(&self, fault: Fault) -> impl Iterator<Item = &Example> {
        self.examples.iter().filter(move |e| e.fault == fault)
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.counts.iter().all(|count| *count == 0)
    }
}

/// The digest of a record. Null and empty have different digests, and so have `ab`,`c` and `a`,`bc`. It is never 0.
pub(crate) fn digest(key: Option<&[u8]>, value: Option<&[u8]>) -> u64 {
    let mut hash = Xxh3::new();
    for part in [key, value] {
        match part {
            None => hash.update(&u64::MAX.to_le_bytes()),
            Some(bytes) => {
                hash.update(&(bytes.len() as u64).to_le_bytes());
                hash.update(bytes);
            }
        }
    }
    hash.digest().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [Option<&str>; 4] = [Some("a"), Some("b"), Some("a"), None];

    /// Sends four records, acknowledges them, delivers `deliveries` (partition, index) and audits.
    fn check(deliveries: &[(i32, u32)]) -> Vec<(Fault, u32)> {
        check_with(deliveries, |index| u64::from(index) + 1)
    }

    fn check_with(deliveries: &[(i32, u32)], digest: impl Fn(u32) -> u64) -> Vec<(Fault, u32)> {
        let ledger = Ledger::new(4);
        for index in 0..4 {
            ledger.sent(index, u64::from(index) + 1, index * 10);
            assert_eq!(ledger.acknowledged(index), index * 10);
        }
        let mut findings = Findings::default();
        for partition in 0..2 {
            let mut reading = ledger.reading(partition);
            for (_, index) in deliveries.iter().filter(|(p, _)| *p == partition) {
                reading.delivered(Some(*index), digest(*index));
            }
            findings.merge(&reading.findings());
        }
        findings.merge(&ledger.audit(KEYS.into_iter()));
        assert_eq!(findings.delivered_count, deliveries.len() as u64);
        assert_eq!(findings.is_clean(), findings.examples.is_empty());
        findings.examples.iter().map(|e| (e.fault, e.index)).collect()
    }

    #[test]
    fn once_intact_and_in_order_is_clean() {
        assert_eq!(check(&[(0, 0), (0, 2), (1, 1), (1, 3)]), []);
    }

    #[test]
    fn each_fault_is_found_and_named() {
        assert_eq!(check(&[(0, 0), (0, 2), (1, 3)]), [(Fault::Lost, 1)]);
        assert_eq!(check(&[(0, 0), (0, 2), (0, 2), (1, 1), (1, 3)]), [(Fault::Doubled, 2)]);
        assert_eq!(check(&[(0, 0), (0, 2), (0, 0), (1, 1), (1, 3)]), [(Fault::Doubled, 0)]);
        assert_eq!(check(&[(0, 2), (0, 0), (1, 1), (1, 3)]), [(Fault::Reordered, 0)]);
        assert_eq!(check(&[(0, 0), (1, 1), (1, 2), (1, 3)]), [(Fault::Strayed, 2)]);
        let changed =
            check_with(&[(0, 0), (0, 2), (1, 1), (1, 3)], |i| if i == 1 { 77 } else { u64::from(i) + 1 });
        assert_eq!(changed, [(Fault::Changed, 1)]);
    }

    #[test]
    fn a_record_of_another_producer_is_foreign() {
        let ledger = Ledger::new(1);
        let mut reading = ledger.reading(0);
        assert_eq!(reading.delivered(None, 1), None);
        assert_eq!(reading.delivered(Some(1), 1), None);
        assert_eq!(reading.findings().count(Fault::Foreign), 2);
    }

    #[test]
    fn a_record_delivered_before_it_was_sent_is_changed() {
        let ledger = Ledger::new(1);
        let mut reading = ledger.reading(0);
        reading.delivered(Some(0), 5);
        assert_eq!(reading.findings().count(Fault::Changed), 1);
    }

    #[test]
    fn a_refused_record_may_be_missing_and_an_unsettled_one_may_not() {
        let ledger = Ledger::new(3);
        ledger.sent(0, 1, 0);
        ledger.failed(0);
        ledger.sent(1, 2, 0);
        // The third was never sent: an interrupted run.
        let findings = ledger.audit(KEYS.into_iter());
        assert_eq!((findings.count(Fault::Lost), findings.count(Fault::Unsettled)), (0, 1));
    }

    #[test]
    fn examples_stay_few_and_counts_true() {
        let ledger = Ledger::new(100);
        let mut findings = Findings::default();
        for partition in 0..2 {
            let mut reading = ledger.reading(partition);
            for _ in 0..50 {
                reading.delivered(None, 1);
            }
            findings.merge(&reading.findings());
        }
        assert_eq!(findings.count(Fault::Foreign), 100);
        assert_eq!(findings.examples(Fault::Foreign).count(), 5);
    }

    #[test]
    fn digests_tell_records_apart() {
        type Bytes = Option<&'static [u8]>;
        let records: [(Bytes, Bytes); 7] = [
            (None, None),
            (Some(b""), None),
            (None, Some(b"")),
            (Some(b""), Some(b"")),
            (Some(b"ab"), Some(b"c")),
            (Some(b"a"), Some(b"bc")),
            (None, Some(b"abc")),
        ];
        for (i, a) in records.iter().enumerate() {
            for (j, b) in records.iter().enumerate() {
                assert_eq!(digest(a.0, a.1) == digest(b.0, b.1), i == j, "{a:?} {b:?}");
            }
        }
    }
}
