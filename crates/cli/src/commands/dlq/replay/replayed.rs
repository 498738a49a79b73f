//! Which letters of a partition were replayed, and how a committed offset says so.
//!
//! Pure. A replay may leave letters out, by a filter or because they cannot be written, so that one offset is not enough: the
//! committed offset is that of the first letter that was not replayed, and its metadata has the runs above it that were.
//!
//! ```text
//!  offset     17  18  19  20  21  22  23            committed: offset 17
//!  replayed    -   -   x   x   x   -   x            metadata:  milena-dlq-1: then 2 not, 3 replayed, 1 not, 1 replayed
//! ```

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use milena::CommittedOffset;

/// The letters of one partition that were replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Replayed {
    /// All letters below were replayed.
    next: i64,
    /// Runs of replayed offsets above, ascending, with at least one offset between them.
    above: Vec<Range<i64>>,
}

/// Names the format: metadata that begins otherwise is another program's.
const MAGIC: &str = "milena-dlq-1:";

/// Kafka's default `offset.metadata.max.bytes`.
const METADATA_BYTES_MAX: usize = 4096;

impl Replayed {
    /// Nothing was replayed; the partition begins at `beginning`.
    pub(crate) fn none(beginning: i64) -> Self {
        Self { next: beginning, above: Vec::new() }
    }

    /// What a committed offset says. `held` are the offsets of the partition: runs that were forged, or that are of a topic that
    /// was deleted and made again, mark nothing beyond its end.
    ///
    /// # Errors
    /// When the offset or its metadata cannot be of a replay of this partition.
    pub(crate) fn read(committed: &CommittedOffset, held: Range<i64>) -> Result<Self, String> {
        if committed.offset > held.end {
            return Err(format!(
                "it ends at offset {}, but offset {} is committed: the topic may have been deleted and made again",
                held.end, committed.offset
            ));
        }
        let mut read = Self::none(committed.offset.max(0));
        if let Some(metadata) = &committed.metadata {
            let encoded = metadata
                .strip_prefix(MAGIC)
                .ok_or("the metadata of the committed offset is not of a replay")?;
            let bytes =
                BASE64.decode(encoded).map_err(|_| "the metadata of the committed offset is not base64")?;
            let lengths = varints(&bytes)
                .ok_or("the metadata of the committed offset ends in the middle of a number")?;
            let mut at = read.next;
            for pair in lengths.chunks_exact(2) {
                let start = at.saturating_add_unsigned(pair[0]);
                let end = start.saturating_add_unsigned(pair[1]);
                if start >= end || end > held.end {
                    return Err(
                        "the metadata of the committed offset reaches beyond the partition's end".into()
                    );
                }
                read.mark(start..end);
                at = end;
            }
        }
        // What was deleted since then needs no replay.
        if read.next < held.start {
            read.mark(read.next..held.start);
        }
        Ok(read)
    }

    /// The first letter that was not replayed.
    pub(crate) fn next(&self) -> i64 {
        self.next
    }

    pub(crate) fn has(&self, offset: i64) -> bool {
        offset < self.next || {
            let after = self.above.partition_point(|run| run.end <= offset);
            self.above.get(after).is_some_and(|run| run.start <= offset)
        }
    }

    /// Marks offsets as replayed.
    pub(crate) fn mark(&mut self, offsets: Range<i64>) {
        let Range { mut start, mut end } = offsets;
        start = start.max(self.next);
        if start >= end {
            return;
        }
        // The runs that it overlaps or touches become one.
        let from = self.above.partition_point(|run| run.end < start);
        let until = self.above.partition_point(|run| run.start <= end);
        if let Some(touched) = self.above.get(from..until).filter(|touched| !touched.is_empty()) {
            start = start.min(touched[0].start);
            end = end.max(touched[touched.len() - 1].end);
        }
        if start == self.next {
            self.next = end;
            self.above.drain(..until);
        } else {
            self.above.splice(from..until, std::iter::once(start..end));
        }
    }

    /// What to commit. None if the runs do not fit into the metadata.
    pub(crate) fn committed(&self) -> Option<CommittedOffset> {
        let mut metadata = None;
        if !self.above.is_empty() {
            let mut bytes = Vec::new();
            let mut at = self.next;
            for run in &self.above {
                push_varint(&mut bytes, run.start.abs_diff(at));
                push_varint(&mut bytes, run.end.abs_diff(run.start));
                at = run.end;
            }
            let text = format!("{MAGIC}{}", BASE64.encode(bytes));
            if text.len() > METADATA_BYTES_MAX {
                return None;
            }
            metadata = Some(text);
        }
        Some(CommittedOffset { offset: self.next, leader_epoch: None, metadata })
    }
}

fn push_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// All numbers, in pairs. None if the bytes end within a number or a pair, or a number is too large.
fn varints(bytes: &[u8]) -> Option<Vec<u64>> {
    let mut numbers = Vec::new();
    let (mut number, mut shift) = (0u64, 0);
    for byte in bytes {
        if shift > 56 {
            return None;
        }
        number |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            numbers.push(number);
            (number, shift) = (0, 0);
        }
    }
    (shift == 0 && numbers.len() % 2 == 0).then_some(numbers)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn committed(offset: i64, metadata: &str) -> CommittedOffset {
        CommittedOffset { offset, leader_epoch: None, metadata: Some(metadata.into()) }
    }

    #[test]
    fn letters_that_were_left_out_stay_above_the_committed_offset() {
        let mut replayed = Replayed::none(17);
        replayed.mark(19..22);
        replayed.mark(23..24);
        let stored = replayed.committed().unwrap();
        assert_eq!((stored.offset, stored.metadata.as_deref()), (17, Some("milena-dlq-1:AgMBAQ")));
        assert_eq!(Replayed::read(&stored, 0..30), Ok(replayed.clone()));
        replayed.mark(17..19);
        assert_eq!(
            (replayed.next(), replayed.has(22), replayed.has(23), replayed.has(24)),
            (22, false, true, false)
        );
        replayed.mark(22..23);
        assert_eq!(replayed.committed(), Some(24.into()));
    }

    #[test]
    fn what_cannot_be_of_a_replay_is_refused() {
        for (stored, says) in [
            (committed(31, ""), "made again"),
            (committed(5, "by hand"), "not of a replay"),
            (committed(5, "milena-dlq-1:???"), "not base64"),
            (committed(5, "milena-dlq-1:Ag"), "middle of a number"),
            (committed(5, "milena-dlq-1:gA"), "middle of a number"),
            // Two not, then 100.
            (committed(5, "milena-dlq-1:AmQ"), "beyond the partition's end"),
            // A run of i64::MAX.
            (
                committed(
                    5,
                    &format!(
                        "milena-dlq-1:{}",
                        BASE64.encode([1, 255, 255, 255, 255, 255, 255, 255, 255, 127])
                    ),
                ),
                "beyond",
            ),
            (committed(5, "milena-dlq-1:AQA"), "beyond"),
        ] {
            let error = Replayed::read(&stored, 0..30).unwrap_err();
            assert!(error.contains(says), "{stored:?}: {error}");
        }
    }

    #[test]
    fn what_was_deleted_since_then_is_passed() {
        assert_eq!(Replayed::read(&committed(5, "milena-dlq-1:AgM"), 8..30).unwrap().next(), 10);
        assert_eq!(Replayed::read(&5.into(), 8..30).unwrap().next(), 8);
    }

    #[test]
    fn more_runs_than_fit_are_told() {
        let mut replayed = Replayed::none(0);
        let mut runs = 0;
        while replayed.committed().is_some() {
            runs += 1;
            replayed.mark(2 * runs..2 * runs + 1);
        }
        assert_eq!(runs, 1_532);
    }

    proptest! {
        #[test]
        fn it_is_a_set_of_offsets(marks in vec((0i64..60, 0i64..8), 0..40)) {
            let mut replayed = Replayed::none(0);
            let mut expect = BTreeSet::new();
            for (start, length) in marks {
                replayed.mark(start..start + length);
                expect.extend(start..start + length);
                let read = Replayed::read(&replayed.committed().unwrap(), 0..70).unwrap();
                prop_assert_eq!(&read, &replayed);
                for offset in 0..70 {
                    prop_assert_eq!(replayed.has(offset), expect.contains(&offset), "{}", offset);
                }
                prop_assert!(!expect.contains(&replayed.next()));
            }
        }

        #[test]
        fn any_metadata_is_read_without_a_panic(offset: i64, bytes in vec(any::<u8>(), 0..40), end in 0i64..100) {
            let stored = committed(offset, &format!("{MAGIC}{}", BASE64.encode(bytes)));
            if let Ok(read) = Replayed::read(&stored, 0..end) {
                prop_assert!(!read.has(end));
            }
        }
    }
}
