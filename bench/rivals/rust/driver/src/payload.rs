//! Keys and values out of files, one per line. Owns them for the whole run, so that a client that can send a borrowed
//! or shared slice copies nothing of ours.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};

/// The lines of a file, in a circle.
#[derive(Clone, Copy)]
pub struct Lines(&'static [&'static [u8]]);

impl Lines {
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        ensure!(!text.is_empty(), "{} holds no lines", path.display());
        Ok(Self::one_per_line(text.leak()))
    }

    /// A circle of one.
    pub(crate) fn one(value: &'static [u8]) -> Self {
        Self(vec![value].leak())
    }

    fn one_per_line(text: &'static [u8]) -> Self {
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        Self(text.split(|byte| *byte == b'\n').collect::<Vec<_>>().leak())
    }

    /// Line `index`, modulo their number.
    pub fn at(self, index: u64) -> &'static [u8] {
        self.0[(index % self.0.len() as u64) as usize]
    }

    /// How many bytes the first `count` lines of the circle are.
    pub(crate) fn bytes_of(self, count: u64) -> u64 {
        let sum = |lines: &[&[u8]]| lines.iter().map(|line| line.len() as u64).sum::<u64>();
        let lines = self.0.len() as u64;
        count / lines * sum(self.0) + sum(&self.0[..(count % lines) as usize])
    }
}

/// One record to send.
pub struct Record {
    /// `None` leaves the partition to the client's partitioner.
    pub key: Option<&'static [u8]>,
    /// What it carries.
    pub value: &'static [u8],
}

/// The records of one run, in order.
pub struct Records {
    left: u64,
    values: std::iter::Cycle<std::slice::Iter<'static, &'static [u8]>>,
    keys: Option<std::iter::Cycle<std::slice::Iter<'static, &'static [u8]>>>,
}

impl Records {
    pub(crate) fn new(count: u64, values: Lines, keys: Option<Lines>) -> Self {
        Self { left: count, values: values.0.iter().cycle(), keys: keys.map(|keys| keys.0.iter().cycle()) }
    }
}

impl Iterator for Records {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        self.left = self.left.checked_sub(1)?;
        let key = self.keys.as_mut().and_then(Iterator::next).copied();
        Some(Record { key, value: self.values.next()? })
    }
}
