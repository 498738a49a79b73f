//! The small files beside a log, in the form of Kafka's checkpoints: version, count, entries.
//!
//! - `leader-epoch-checkpoint` has the leader epochs and their start offsets.
//! - `log-start-offset-checkpoint` has the offset before which nothing can be read, when the first segment has more.
//!   Kafka has one file of this name for all partitions, and writes it once a minute; here DeleteRecords is answered
//!   after its offset is in the file, so that a crash brings no record back.
//! - `cleaner-offset-checkpoint` has the offset up to which the log is compacted.

use std::fmt::Write;
use std::path::Path;
use std::{fs, io};

use super::file;

const EPOCHS: &str = "leader-epoch-checkpoint";
const LOG_START: &str = "log-start-offset-checkpoint";
const CLEANED: &str = "cleaner-offset-checkpoint";

/// Replaces the file of leader epochs in `dir`.
pub(crate) fn write_epochs(dir: &Path, entries: &[(i32, i64)]) -> io::Result<()> {
    let mut text = format!("0\n{}\n", entries.len());
    for (epoch, start) in entries {
        let _ = writeln!(text, "{epoch} {start}");
    }
    file::replace_derived(&dir.join(EPOCHS), text.as_bytes())
}

/// The leader epochs in `dir`. There are none if the file is missing or broken; the batches have their epochs, too.
pub(crate) fn read_epochs(dir: &Path) -> Vec<(i32, i64)> {
    let text = fs::read_to_string(dir.join(EPOCHS)).unwrap_or_default();
    let entry = |line: &str| {
        let (epoch, start) = line.split_once(' ')?;
        Some((epoch.parse().ok()?, start.parse().ok()?))
    };
    text.lines().skip(2).map_while(entry).collect()
}

/// Replaces the file of the log's start in `dir`.
pub(super) fn write_log_start(dir: &Path, offset: i64) -> io::Result<()> {
    write_offset(dir, LOG_START, offset)
}

/// The log's start in `dir`; `None` if there is no such file.
pub(super) fn read_log_start(dir: &Path) -> Option<i64> {
    read_offset(dir, LOG_START)
}

/// Replaces the file of the offset up to which the log in `dir` is compacted.
pub(super) fn write_cleaned(dir: &Path, offset: i64) -> io::Result<()> {
    write_offset(dir, CLEANED, offset)
}

/// The offset up to which the log in `dir` is compacted; `None` if it never was.
pub(super) fn read_cleaned(dir: &Path) -> Option<i64> {
    read_offset(dir, CLEANED)
}

fn write_offset(dir: &Path, name: &str, offset: i64) -> io::Result<()> {
    file::replace_derived(&dir.join(name), format!("0\n1\n{offset}\n").as_bytes())
}

fn read_offset(dir: &Path, name: &str) -> Option<i64> {
    fs::read_to_string(dir.join(name)).ok()?.lines().nth(2)?.parse().ok()
}
