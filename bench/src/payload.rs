//! Values and keys from files: one per line, the same for every client.

use std::fs;
use std::path::Path;

use bytes::Bytes;

/// Lines, taken in turn: record `i` has line `i mod lines`.
#[derive(Debug, Clone)]
pub(crate) struct Lines(Vec<Bytes>);

impl Lines {
    /// Reads a file of lines, each ended by a line feed, none empty.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Self::parse(text.into()).map_err(|error| format!("{}: {error}", path.display()))
    }

    fn parse(text: Bytes) -> Result<Self, String> {
        let Some(body) = text.strip_suffix(b"\n") else {
            return Err("the last line does not end".into());
        };
        let lines: Vec<Bytes> = body.split(|&byte| byte == b'\n').map(|line| text.slice_ref(line)).collect();
        if lines.iter().any(Bytes::is_empty) {
            return Err("a line is empty".into());
        }
        Ok(Self(lines))
    }

    /// The number of lines.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// All lines, again and again.
    pub(crate) fn cycle(&self) -> impl Iterator<Item = &Bytes> {
        self.0.iter().cycle()
    }

    /// The line of a record.
    pub(crate) fn line(&self, record: u64) -> &Bytes {
        &self.0[(record % self.0.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_in_turn() {
        let lines = Lines::parse(Bytes::from_static(b"a\nbc\n")).expect("two lines");
        let taken: Vec<&[u8]> = (0..3).map(|record| &lines.line(record)[..]).collect();
        assert_eq!((lines.count(), taken), (2, vec![&b"a"[..], b"bc", b"a"]));
    }

    #[test]
    fn what_is_not_lines_is_refused() {
        for text in [&b""[..], b"a", b"a\n\nb\n", b"\n"] {
            assert!(Lines::parse(Bytes::copy_from_slice(text)).is_err(), "{text:?}");
        }
    }
}
