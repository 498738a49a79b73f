//! `leader-epoch-checkpoint`, the file of leader epochs beside a log, in Kafka's form: version, count, entries.

use std::fmt::Write;
use std::path::Path;
use std::{fs, io};

use super::file;

const FILE_NAME: &str = "leader-epoch-checkpoint";

/// Replaces the file in `dir`.
pub(crate) fn write(dir: &Path, entries: &[(i32, i64)]) -> io::Result<()> {
    let mut text = format!("0\n{}\n", entries.len());
    for (epoch, start) in entries {
        let _ = writeln!(text, "{epoch} {start}");
    }
    file::replace_derived(&dir.join(FILE_NAME), text.as_bytes())
}

/// The entries of the file in `dir`. There are none if the file is missing or broken; the batches have their epochs,
/// too.
pub(crate) fn read(dir: &Path) -> Vec<(i32, i64)> {
    let text = fs::read_to_string(dir.join(FILE_NAME)).unwrap_or_default();
    let entry = |line: &str| {
        let (epoch, start) = line.split_once(' ')?;
        Some((epoch.parse().ok()?, start.parse().ok()?))
    };
    text.lines().skip(2).map_while(entry).collect()
}
