//! A log on disk: how it is created, and how it is opened after a clean stop or a crash.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::segment::Segment;
use super::segment_file::{Damage, SegmentFile};
use super::{Log, Visit, checkpoint, compaction, file};

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

impl Log {
    /// Creates an empty log in a new directory `dir`. The caller makes the directory's name durable.
    pub(crate) fn create(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let segments = vec![create_segment(dir, 0)?];
        Ok(Self { dir: Some(dir.to_owned()), segments, start: 0, cleaned_to: 0 })
    }

    /// Opens the log in `dir` and calls `visit` with every batch, in order.
    ///
    /// Batches at `recovery_point` and after it were perhaps not durable when the process ended. They are checked, and
    /// the log is cut off before the first unsound byte. Damage before the recovery point is an error.
    pub(crate) fn open(dir: &Path, recovery_point: i64, visit: &mut Visit<'_>) -> Result<Self, OpenError> {
        compaction::finish_swaps(dir)?;
        let mut segments = Vec::new();
        let bases = segment_bases(dir)?;
        for (index, &base) in bases.iter().enumerate() {
            let next = bases.get(index + 1).copied().unwrap_or(i64::MAX);
            let verify = next > recovery_point;
            let path = segment_path(dir, base);
            let (segment, damage) = SegmentFile::open(path.clone(), base, verify, visit)?;
            let sound_to = segment.end();
            segments.push(segment);
            let Some(damage) = damage else { continue };
            if sound_to < recovery_point {
                return Err(OpenError::Damaged { path, damage });
            }
            tracing::warn!(path = %path.display(), position = damage.position, reason = damage.reason,
                "cut off a torn tail");
            if let Some(file) = segments.last_mut().and_then(Segment::file) {
                file.truncate(damage.position)?;
            }
            bases[index + 1..].iter().try_for_each(|&base| remove_segment(dir, base))?;
            break;
        }
        if segments.is_empty() {
            segments.push(create_segment(dir, 0)?);
        }
        let (first, last) = (segments[0].base_offset(), &segments[segments.len() - 1]);
        if last.end() < recovery_point {
            let reason = format!("ends at offset {}, but was durable up to {recovery_point}", last.end());
            let damage = Damage { position: last.bytes(), reason };
            return Err(OpenError::Damaged { path: segment_path(dir, last.base_offset()), damage });
        }
        // A power cut may take records from the end that were deleted before.
        let start = checkpoint::read_log_start(dir).unwrap_or(first).min(last.end()).max(first);
        let cleaned_to = checkpoint::read_cleaned(dir).unwrap_or(start);
        Ok(Self { dir: Some(dir.to_owned()), segments, start, cleaned_to })
    }

    /// Makes everything durable that was written. After it the recovery point may be the log's end.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let Some(dir) = &self.dir else { return Ok(()) };
        self.segments.iter_mut().filter_map(Segment::file).try_for_each(SegmentFile::flush)?;
        file::sync_dir(dir)
    }
}

/// Creates an empty segment.
pub(super) fn create_segment(dir: &Path, base_offset: i64) -> io::Result<Segment> {
    Ok(Segment::in_file(base_offset, SegmentFile::create(segment_path(dir, base_offset))?))
}

/// Removes the files of a segment.
pub(super) fn remove_segment(dir: &Path, base_offset: i64) -> io::Result<()> {
    let log = segment_path(dir, base_offset);
    for path in [log.with_extension("index"), log.with_extension("timeindex"), log] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The path of a segment's file: its base offset in 20 digits.
pub(super) fn segment_path(dir: &Path, base_offset: i64) -> PathBuf {
    dir.join(format!("{base_offset:020}.log"))
}

/// The base offsets of the segments in a directory, in ascending order.
pub(super) fn segment_bases(dir: &Path) -> io::Result<Vec<i64>> {
    let mut bases = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let base = name.to_str().and_then(|name| name.strip_suffix(".log")).filter(|name| name.len() == 20);
        bases.extend(base.and_then(|base| base.parse::<i64>().ok()));
    }
    bases.sort_unstable();
    Ok(bases)
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
