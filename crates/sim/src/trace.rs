//! A log of what happens in a simulation, so that two runs can be compared. It also counts how often each kind of fault
//! happens, so that a simulation can show that it meets them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::executor::lock;

/// What happens, line by line, each with its time in nanoseconds. Clones write to the same log.
#[derive(Debug, Clone, Default)]
pub struct Trace(Arc<Mutex<Written>>);

#[derive(Debug, Default)]
struct Written {
    text: String,
    /// A hash of the whole text.
    hash: u64,
    lines: usize,
    counts: BTreeMap<&'static str, u64>,
}

impl Trace {
    /// Adds a line.
    pub fn note(&self, at: Duration, what: fmt::Arguments<'_>) {
        use std::fmt::Write as _;
        let mut written = lock(&self.0);
        let from = written.text.len();
        let _ = writeln!(written.text, "{:>14} {what}", at.as_nanos());
        written.hash = hash_on(written.hash, &written.text.as_bytes()[from..]);
        written.lines += 1;
    }

    /// Counts one more time that this happened. The log does not show it.
    pub fn count(&self, what: &'static str) {
        *lock(&self.0).counts.entry(what).or_default() += 1;
    }

    /// How often each thing happened that was counted.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.0).counts.clone()
    }

    /// All lines.
    pub fn text(&self) -> String {
        lock(&self.0).text.clone()
    }

    /// A hash of all lines.
    pub fn hash(&self) -> u64 {
        lock(&self.0).hash
    }

    /// How many lines there are.
    pub fn lines(&self) -> usize {
        lock(&self.0).lines
    }

    /// The number of the first line in which two traces differ, and the two lines.
    pub fn first_difference(&self, other: &Self) -> Option<(usize, String, String)> {
        let (one, other) = (self.text(), other.text());
        if one == other {
            return None;
        }
        let (mut ones, mut others) = (one.lines(), other.lines());
        for number in 1.. {
            let pair = (ones.next().unwrap_or("(end)"), others.next().unwrap_or("(end)"));
            if pair.0 != pair.1 || pair == ("(end)", "(end)") {
                return Some((number, pair.0.to_owned(), pair.1.to_owned()));
            }
        }
        None
    }
}

/// A hash of `bytes` that is the same on every machine.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    hash_on(bytes.len() as u64, bytes)
}

/// Adds `bytes` to a hash, as FNV-1a does, but eight bytes at a time.
fn hash_on(before: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let words =
        words.iter().map(|word| u64::from_le_bytes(*word)).chain(rest.iter().map(|byte| u64::from(*byte)));
    let start = before ^ 0xcbf2_9ce4_8422_2325;
    words.fold(start, |hash, word| (hash ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23))
}
