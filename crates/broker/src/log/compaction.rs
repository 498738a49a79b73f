//! Compaction of a log: which segments, and putting the compacted ones in their place.
//!
//! ```text
//!  [ clean ][ clean ][ dirty ][ dirty ][ active ]       dirty: keys that may be in earlier segments, too
//!  └──────────── groups of segments ───┘                the active one is never touched
//!       │ each: its batches rewritten into one new segment
//!       ▼
//!  00000000000000000000.log.cleaned ─▶ …00000.…00042.swap ─▶ the old files go, and the swap gets the name of the first
//! ```
//!
//! The rename to `.swap` is the moment that counts: a crash before it leaves the old segments, and after it the next
//! start completes the exchange.

use std::fs;
use std::io;
use std::path::Path;

use milena_wire::batch::{BatchHeader, HEADER_BYTES};

use super::segment_file::SegmentFile;
use super::{Entry, Log, Segment, checkpoint, disk, file};

/// When a log is compacted (`cleanup.policy=compact`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Compaction {
    /// `min.cleanable.dirty.ratio`.
    pub(crate) dirty_ratio_min: f64,
    /// `min.compaction.lag.ms`.
    pub(crate) lag_min_ms: i64,
    /// `max.compaction.lag.ms`.
    pub(crate) lag_max_ms: i64,
    /// `delete.retention.ms`.
    pub(crate) tombstone_ms: i64,
    /// `segment.bytes`.
    pub(crate) segment_bytes: u64,
}

/// The offsets whose keys are to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dirty {
    pub(crate) start: i64,
    /// The offset after the last one. No record is compacted that has it or a later one.
    pub(crate) end: i64,
}

/// Segments that become one: base offset, end and bytes of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    segments: Vec<(i64, i64, u64)>,
    /// The base offset of the segment after them.
    pub(crate) end: i64,
}

/// A segment that is being written to take the place of a group.
#[derive(Debug)]
pub(crate) struct Replacement(Box<Segment>);

impl Group {
    pub(crate) fn start(&self) -> i64 {
        self.segments[0].0
    }
}

impl Replacement {
    /// Appends a whole batch.
    pub(crate) fn append(&mut self, batch: &[u8]) -> io::Result<()> {
        let head = batch.first_chunk::<HEADER_BYTES>();
        let header = BatchHeader::parse(batch).ok();
        let (Some(head), Some(header)) = (head, header) else {
            return Err(io::Error::other("a stored batch has no header"));
        };
        self.0.write(&Entry { header, head: *head, records: &batch[HEADER_BYTES..header.bytes] })
    }

    /// Removes its file.
    pub(crate) fn discard(mut self) {
        if let Some(file) = self.0.file() {
            // A file that cannot be removed now is removed at the next start.
            let _ = fs::remove_file(file.path());
        }
    }
}

impl Log {
    /// The part that is to be compacted at `now_ms`, if enough of the log is dirty. Records at the offset `stable` and
    /// after it stay.
    pub(crate) fn dirty(&self, rules: &Compaction, stable: i64, now_ms: i64) -> Option<Dirty> {
        let start = if self.cleaned_to > self.end() { self.start } else { self.cleaned_to.max(self.start) };
        let (active, closed) = self.segments.split_last()?;
        let first = closed.partition_point(|segment| segment.base_offset() <= start).saturating_sub(1);
        let dirty = closed.get(first..).unwrap_or_default();
        let is_recent =
            |segment: &&Segment| segment.newest_ms().is_none_or(|newest| newest > now_ms - rules.lag_min_ms);
        let recent = (rules.lag_min_ms > 0).then(|| dirty.iter().find(is_recent)).flatten();
        let end = stable.min(active.base_offset()).min(recent.map_or(i64::MAX, Segment::base_offset));
        if end <= start {
            return None;
        }
        let size = |segments: &[Segment]| segments.iter().map(Segment::bytes).sum::<u64>();
        let count = closed.partition_point(|segment| segment.base_offset() < end);
        let (clean_bytes, dirty_bytes) = (size(&closed[..first]), size(&closed[first..count]));
        let oldest = dirty.iter().filter_map(Segment::first_timestamp).filter(|&time| time > 0).min();
        let is_late = oldest.is_some_and(|oldest| oldest < now_ms.saturating_sub(rules.lag_max_ms));
        let ratio = dirty_bytes as f64 / (clean_bytes + dirty_bytes).max(1) as f64;
        (dirty_bytes > 0 && (is_late || ratio > rules.dirty_ratio_min)).then_some(Dirty { start, end })
    }

    /// The segments that have offsets before `end`, in groups that fit in one segment each.
    pub(crate) fn groups(&self, end: i64, bytes_max: u64) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        let mut bytes = 0;
        for pair in self.segments.windows(2) {
            let (segment, next) = (&pair[0], pair[1].base_offset());
            if segment.base_offset() >= end {
                break;
            }
            bytes += segment.bytes();
            let facts = (segment.base_offset(), segment.end(), segment.bytes());
            match groups.last_mut() {
                Some(group) if bytes <= bytes_max && next - group.start() < i64::from(i32::MAX) => {
                    group.segments.push(facts);
                    group.end = next;
                }
                _ => {
                    bytes = segment.bytes();
                    groups.push(Group { segments: vec![facts], end: next });
                }
            }
        }
        groups
    }

    /// An empty segment to take the place of a group.
    pub(crate) fn replacement(&self, group: &Group) -> io::Result<Replacement> {
        let base_offset = group.start();
        let Some(dir) = &self.dir else { return Ok(Replacement(Box::new(Segment::in_memory(base_offset)))) };
        finish_swaps(dir)?;
        let path = disk::segment_path(dir, base_offset).with_added_extension(CLEANED);
        Ok(Replacement(Box::new(Segment::in_file(base_offset, SegmentFile::create(path)?))))
    }

    /// Puts a segment in the place of a group. Returns whether the group was still there.
    ///
    /// # Errors
    /// When the disk fails. Then the log can be read all the same, and the next start tidies its files.
    pub(crate) fn replace(&mut self, group: &Group, replacement: Replacement) -> io::Result<bool> {
        let Replacement(mut new) = replacement;
        let facts = |segment: &Segment| (segment.base_offset(), segment.end(), segment.bytes());
        let at = self.segments.partition_point(|segment| segment.base_offset() < group.start());
        let range = at..at + group.segments.len();
        let is_there = self.segments.get(range.clone()).is_some_and(|segments| {
            segments.iter().map(facts).eq(group.segments.iter().copied()) && range.end < self.segments.len()
        });
        if !is_there {
            Replacement(new).discard();
            return Ok(false);
        }
        new.take_age(&self.segments[range.end - 1]);
        let committed = match (&self.dir, new.file()) {
            (Some(dir), Some(file)) => Some((dir.clone(), commit(dir, file, group)?)),
            _ => None,
        };
        // Windows renames no file over one that is open, so the old segments are closed first.
        drop(self.segments.splice(range, [*new]));
        if let Some((dir, path)) = committed {
            finish_swaps(&dir)?;
            if let Some(file) = self.segments[at].file() {
                file.set_path(path);
                file.write_index()?;
            }
        }
        Ok(true)
    }

    /// Notes that the log is compacted up to `offset`.
    pub(crate) fn note_cleaned(&mut self, offset: i64) -> io::Result<()> {
        self.cleaned_to = offset;
        self.dir.as_ref().map_or(Ok(()), |dir| checkpoint::write_cleaned(dir, offset))
    }
}

const CLEANED: &str = "cleaned";
const SWAP: &str = "swap";

/// Makes a finished file the replacement of its group, whatever happens from now on. Returns the path that it gets.
fn commit(dir: &Path, file: &mut SegmentFile, group: &Group) -> io::Result<std::path::PathBuf> {
    file.sync()?;
    let path = disk::segment_path(dir, group.start());
    let swap = dir.join(format!("{:020}.{:020}.{SWAP}", group.start(), group.end));
    fs::rename(path.with_added_extension(CLEANED), swap)?;
    file::sync_dir(dir)?;
    Ok(path)
}

/// Completes the exchanges that were committed, and removes the files of those that were not.
pub(super) fn finish_swaps(dir: &Path) -> io::Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        names.extend(entry?.file_name().into_string());
    }
    for name in &names {
        let path = dir.join(name);
        let extension = path.extension().and_then(|extension| extension.to_str());
        if extension == Some(CLEANED) {
            fs::remove_file(&path)?;
        }
        let Some((start, end)) = name.strip_suffix(".swap").and_then(|name| name.split_once('.')) else {
            continue;
        };
        let (Ok(start), Ok(end)) = (start.parse::<i64>(), end.parse::<i64>()) else { continue };
        for base in disk::segment_bases(dir)?.into_iter().filter(|base| (start..end).contains(base)) {
            disk::remove_segment(dir, base)?;
        }
        fs::rename(&path, disk::segment_path(dir, start))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Roll;
    use super::super::testing::{batch, entry};
    use super::*;

    const RULES: Compaction = Compaction {
        dirty_ratio_min: 0.5,
        lag_min_ms: 0,
        lag_max_ms: i64::MAX,
        tombstone_ms: 0,
        segment_bytes: 1000,
    };

    /// A log of segments of 500 bytes, each of five batches of ten records, one batch every 100 ms.
    fn fill(log: &mut Log, batches: i64) {
        for _ in 0..batches {
            let roll = Roll { bytes_max: 500, span_max_ms: i64::MAX };
            log.append(&entry(&batch(log.end(), 10, 100, log.end() * 10)), roll, 0).expect("appended");
        }
    }

    fn logs() -> (Vec<Log>, tempfile::TempDir) {
        let dir = tempfile::tempdir().expect("a directory");
        (vec![Log::in_memory(), Log::create(dir.path()).expect("created")], dir)
    }

    /// Replaces each group of the part before `end` by its batches at even tens, and notes that.
    fn compact(log: &mut Log, end: i64) {
        for group in log.groups(end, RULES.segment_bytes) {
            let replacement = half(log, &group);
            assert!(log.replace(&group, replacement).expect("replaced"));
        }
        log.note_cleaned(end).expect("noted");
    }

    fn half(log: &mut Log, group: &Group) -> Replacement {
        let mut replacement = log.replacement(group).expect("created");
        for offset in (group.start()..group.end).step_by(20) {
            replacement.append(&log.read(offset, 1, true).expect("read")).expect("appended");
        }
        replacement
    }

    fn readable(log: &mut Log) -> Vec<i64> {
        let mut offsets = Vec::new();
        let mut next = log.start();
        while let Ok(header) = BatchHeader::parse(&log.read(next, 1, true).expect("read")) {
            offsets.push(header.base_offset);
            next = header.next_offset();
        }
        offsets
    }

    fn bases(log: &Log) -> Vec<i64> {
        log.segments.iter().map(Segment::base_offset).collect()
    }

    #[test]
    fn a_log_is_compacted_when_enough_of_it_is_dirty() {
        let (logs, _dir) = logs();
        for mut log in logs {
            let dirty = |log: &Log, rules: Compaction, stable, now_ms| {
                log.dirty(&rules, stable, now_ms).map(|dirty| (dirty.start, dirty.end))
            };
            assert_eq!(dirty(&log, RULES, 0, 0), None, "empty");
            fill(&mut log, 5);
            assert_eq!(dirty(&log, RULES, 50, 0), None, "there is only the active segment");
            fill(&mut log, 15);
            assert_eq!(dirty(&log, RULES, 200, 0), Some((0, 150)));
            assert_eq!(dirty(&log, RULES, 70, 0), Some((0, 70)), "a transaction may be open from there on");
            let lag = |lag_min_ms| Compaction { lag_min_ms, ..RULES };
            assert_eq!(dirty(&log, lag(1000), 200, 2000), Some((0, 100)), "the third segment ends at 1400");
            assert_eq!(dirty(&log, lag(2000), 200, 2000), None);
            compact(&mut log, 150);
            fill(&mut log, 5);
            let ratio = |dirty_ratio_min| Compaction { dirty_ratio_min, ..RULES };
            assert_eq!(dirty(&log, ratio(0.38), 250, 0), Some((150, 200)), "500 of 1300 bytes are dirty");
            assert_eq!(dirty(&log, ratio(0.39), 250, 0), None);
            fill(&mut log, 5);
            assert_eq!(dirty(&log, ratio(0.55), 300, 0), Some((150, 250)));
            assert_eq!(dirty(&log, ratio(0.56), 300, 0), None);
            let late = Compaction { lag_max_ms: 500, ..ratio(0.9) };
            assert_eq!(dirty(&log, late, 300, 2000), None, "the first dirty record is of 1500");
            assert_eq!(dirty(&log, late, 300, 2001), Some((150, 250)));
        }
    }

    #[test]
    fn groups_of_segments_become_one_and_offsets_have_gaps() {
        let (logs, dir) = logs();
        for mut log in logs {
            fill(&mut log, 23);
            compact(&mut log, 200);
            assert_eq!(bases(&log), [0, 100, 200]);
            let expected: Vec<i64> = (0..200).step_by(20).chain([200, 210, 220]).collect();
            assert_eq!((readable(&mut log), log.start(), log.end()), (expected, 0, 230));
            for (offset, base) in [(5, 0), (10, 20), (19, 20), (99, 100), (190, 200)] {
                let header = BatchHeader::parse(&log.read(offset, 1, true).expect("read")).expect("a batch");
                assert_eq!(header.base_offset, base, "offset {offset}");
            }
            fill(&mut log, 1);
            assert_eq!(log.end(), 240);
        }
        let mut log = Log::open(dir.path(), 0, &mut |_, _| {}).expect("opened");
        assert_eq!((bases(&log), log.end(), log.cleaned_to), (vec![0, 100, 200], 240, 200));
        assert_eq!(readable(&mut log).len(), 14);
    }

    #[test]
    fn a_reader_passes_segments_that_have_nothing_left() {
        let (logs, dir) = logs();
        for mut log in logs {
            fill(&mut log, 23);
            for group in log.groups(150, 500) {
                let empty = log.replacement(&group).expect("created");
                assert!(log.replace(&group, empty).expect("replaced"));
            }
            assert_eq!(bases(&log), [0, 50, 100, 150, 200]);
            assert_eq!((readable(&mut log)[0], log.start(), log.end()), (150, 0, 230));
            let found = log.batch_by_time(0, 0).expect("read").expect("found");
            assert_eq!(BatchHeader::parse(&found).expect("a batch").base_offset, 150);
        }
        let mut log = Log::open(dir.path(), 0, &mut |_, _| {}).expect("opened");
        assert_eq!((readable(&mut log)[0], log.start(), log.end()), (150, 0, 230));
    }

    #[test]
    fn nothing_is_replaced_that_is_not_as_it_was() {
        let (logs, dir) = logs();
        for mut log in logs {
            fill(&mut log, 23);
            let group = log.groups(200, RULES.segment_bytes).remove(0);
            let replacement = half(&mut log, &group);
            log.delete_to(60).expect("deleted");
            log.retain(None, 0).expect("retained");
            assert!(!log.replace(&group, replacement).expect("looked"));
            assert_eq!(bases(&log), [50, 100, 150, 200]);
        }
        let names = fs::read_dir(dir.path()).expect("listed");
        let is_left = |name: &str| name.ends_with(CLEANED) || name.ends_with(SWAP);
        assert!(!names.into_iter().any(|name| is_left(&name.unwrap().file_name().into_string().unwrap())));
    }

    /// Copies the directory at every step of an exchange, and opens each copy.
    #[test]
    fn a_crash_at_any_step_leaves_the_old_segments_or_the_new_one() {
        let (mut logs, dir) = logs();
        let mut log = logs.pop().expect("on disk");
        fill(&mut log, 23);
        let old = readable(&mut log);
        let group = log.groups(200, RULES.segment_bytes).remove(0);
        let Replacement(mut segment) = half(&mut log, &group);
        let new: Vec<i64> = old.iter().copied().filter(|base| *base >= 100 || base % 20 == 0).collect();
        let copy = || {
            let copy = tempfile::tempdir().expect("a directory");
            for entry in fs::read_dir(dir.path()).expect("listed") {
                let path = entry.expect("an entry").path();
                fs::copy(&path, copy.path().join(path.file_name().expect("a name"))).expect("copied");
            }
            copy
        };
        let mut copies = vec![(copy(), &old)];
        commit(dir.path(), segment.file().expect("a file"), &group).expect("committed");
        copies.push((copy(), &new));
        for base in [0, 50] {
            disk::remove_segment(dir.path(), base).expect("removed");
            copies.push((copy(), &new));
        }
        finish_swaps(dir.path()).expect("finished");
        copies.push((copy(), &new));
        for (step, (copy, expected)) in copies.into_iter().enumerate() {
            for _ in 0..2 {
                let mut log = Log::open(copy.path(), 0, &mut |_, _| {}).expect("opened");
                assert_eq!((&readable(&mut log), log.start(), log.end()), (expected, 0, 230), "step {step}");
            }
            let names = fs::read_dir(copy.path()).expect("listed").map(|entry| entry.unwrap().path());
            let logs = names.filter(|path| path.extension().is_some_and(|e| e == "log")).count();
            assert_eq!(logs, if step == 0 { 5 } else { 4 }, "step {step}");
        }
    }
}
