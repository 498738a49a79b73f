//! A log on disk: the directory of a partition with its segments, in the form that Kafka's own tools read.
//!
//! ```text
//!  orders-0/  00000000000000000000.log .index .timeindex
//!             00000000000000104214.log                      the last one takes the appends
//!             leader-epoch-checkpoint  partition.metadata
//! ```
//!
//! Appends are as durable as Kafka's. An acknowledged one is in the page cache: `kill -9` of the process loses nothing,
//! and a power cut may lose what the system had not written yet. [`DiskLog::flush`] makes everything durable.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use milena_wire::batch::{BatchHeader, HEADER_BYTES};

use super::segment::{Damage, Segment};
use super::{Entry, file};

/// A partition's batches in segment files.
#[derive(Debug)]
pub(crate) struct DiskLog {
    dir: PathBuf,
    segment_bytes_max: u64,
    /// In ascending order, and never empty.
    segments: Vec<Segment>,
}

/// Why a log could not be opened.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// The disk failed.
    Io(io::Error),
    /// A segment is damaged that was made durable before. A person must decide what to do; it is not cut off.
    Damaged { path: PathBuf, damage: Damage },
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl DiskLog {
    /// Creates an empty log in a new directory `dir`. The caller makes the directory's name durable.
    pub(crate) fn create(dir: &Path, segment_bytes_max: u64) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let segments = vec![Segment::create(dir, 0)?];
        Ok(Self { dir: dir.to_owned(), segment_bytes_max, segments })
    }

    /// Opens the log in `dir` and calls `visit` with every batch header, in order.
    ///
    /// Batches at `recovery_point` and after it were perhaps not durable when the process ended. They are checked, and
    /// the log is cut off before the first unsound byte. Damage before the recovery point is an error.
    pub(crate) fn open(
        dir: &Path,
        segment_bytes_max: u64,
        recovery_point: i64,
        visit: &mut dyn FnMut(&BatchHeader),
    ) -> Result<Self, OpenError> {
        let mut log = Self { dir: dir.to_owned(), segment_bytes_max, segments: Vec::new() };
        let bases = segment_bases(dir)?;
        for (index, &base) in bases.iter().enumerate() {
            let next = bases.get(index + 1).copied().unwrap_or(i64::MAX);
            let verify = next > recovery_point;
            let path = dir.join(super::segment::file_name(base));
            let (segment, damage) = Segment::open(path, base, verify, visit)?;
            let sound_to = segment.end();
            log.segments.push(segment);
            let Some(damage) = damage else { continue };
            let path = log.active().path().to_owned();
            if sound_to < recovery_point {
                return Err(OpenError::Damaged { path, damage });
            }
            tracing::warn!(path = %path.display(), position = damage.position, reason = damage.reason,
                "cut off a torn tail");
            log.active().truncate_file()?;
            remove_segments(dir, &bases[index + 1..])?;
            break;
        }
        if log.segments.is_empty() {
            log.segments.push(Segment::create(dir, 0)?);
        }
        if log.end() < recovery_point {
            let reason = format!("ends at offset {}, but was durable up to {recovery_point}", log.end());
            let active = log.active();
            let damage = Damage { position: active.bytes(), reason };
            return Err(OpenError::Damaged { path: active.path().to_owned(), damage });
        }
        Ok(log)
    }

    pub(crate) fn start(&self) -> i64 {
        self.segments.first().map_or(0, Segment::base_offset)
    }

    pub(crate) fn end(&self) -> i64 {
        self.active().end()
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(Segment::bytes).sum()
    }

    pub(super) fn max_timestamp(&self) -> Option<i64> {
        self.segments.iter().filter_map(Segment::max_timestamp).max()
    }

    pub(super) fn append(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        let bytes = (HEADER_BYTES + entry.records.len()) as u64;
        let active = self.active();
        let full = active.bytes() > 0 && active.bytes() + bytes > self.segment_bytes_max;
        if full || !active.can_address(entry.header.last_offset()) {
            self.roll()?;
        }
        self.active_mut().append(entry)
    }

    pub(super) fn read(&self, offset: i64, bytes_max: usize, at_least_one: bool) -> io::Result<Bytes> {
        let after = self.segments.partition_point(|segment| segment.base_offset() <= offset);
        // If the offset lies in a gap at the end of a segment, the next segment has the first batch after it.
        for segment in &self.segments[after.saturating_sub(1)..] {
            if segment.end() > offset {
                return segment.read(offset.max(segment.base_offset()), bytes_max, at_least_one);
            }
        }
        Ok(Bytes::new())
    }

    pub(super) fn batch_by_time(&self, timestamp: i64) -> io::Result<Option<Bytes>> {
        let reaches = |segment: &&Segment| segment.max_timestamp().is_some_and(|max| max >= timestamp);
        self.segments.iter().find(reaches).map_or(Ok(None), |segment| segment.batch_by_time(timestamp))
    }

    /// Makes everything durable that was written. After it the recovery point may be the log's end.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.segments.iter_mut().try_for_each(Segment::flush)?;
        file::sync_dir(&self.dir)
    }

    fn roll(&mut self) -> io::Result<()> {
        self.active_mut().write_index()?;
        let next = Segment::create(&self.dir, self.end())?;
        self.segments.push(next);
        Ok(())
    }

    fn active(&self) -> &Segment {
        self.segments.last().expect("a log has at least one segment")
    }

    fn active_mut(&mut self) -> &mut Segment {
        self.segments.last_mut().expect("a log has at least one segment")
    }
}

/// The base offsets of the segments in a directory, in ascending order.
fn segment_bases(dir: &Path) -> io::Result<Vec<i64>> {
    let mut bases = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let base = name.to_str().and_then(|name| name.strip_suffix(".log")).filter(|name| name.len() == 20);
        bases.extend(base.and_then(|base| base.parse::<i64>().ok()));
    }
    bases.sort_unstable();
    Ok(bases)
}

fn remove_segments(dir: &Path, bases: &[i64]) -> io::Result<()> {
    for &base in bases {
        let log = dir.join(super::segment::file_name(base));
        for path in [log.with_extension("index"), log.with_extension("timeindex"), log] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
