//! Cuts a byte stream into records at a delimiter, and returns them in blocks of whole records.
//!
//! ```text
//! Read ──▶ Cutter (at most one unfinished record and one read) ──▶ Block (whole records, numbered)
//! ```
//!
//! One read gives one block. So a line from a terminal or from `tail -f` is sent at once, and a file in large blocks. A
//! record that is too long is an error as soon as it is, because an input without delimiters must not fill the memory. This
//! file does not know what a record contains.

use std::io::{self, Read};

use memchr::memmem::{self, Finder};

/// The size of one read.
const READ_BYTES: usize = 256 * 1024;

/// Cuts the bytes of a reader into [`Block`]s.
pub(crate) struct Cutter<R> {
    reader: R,
    delimiter: Finder<'static>,
    /// The bytes that are read and not returned yet. There is no delimiter before `searched`.
    pending: Vec<u8>,
    searched: usize,
    record_count: u64,
    record_bytes_max: usize,
    is_over: bool,
}

impl<R: Read> Cutter<R> {
    /// With an empty delimiter the whole input is one record. Records of more than `record_bytes_max` bytes are refused.
    pub(crate) fn new(reader: R, delimiter: &[u8], record_bytes_max: usize) -> Self {
        let delimiter = Finder::new(delimiter).into_owned();
        let (pending, searched, record_count) = (Vec::new(), 0, 0);
        Self { reader, delimiter, pending, searched, record_count, record_bytes_max, is_over: false }
    }

    /// The next records, or `None` at the end of the input. An error of the kind `InvalidData` means that a record is too
    /// long; any other error is a failed read.
    pub(crate) fn next_block(&mut self) -> io::Result<Option<Block>> {
        while !self.is_over {
            let filled = self.pending.len();
            self.pending.resize(filled + READ_BYTES, 0);
            let read = self.read_some(filled);
            self.pending.truncate(filled + *read.as_ref().unwrap_or(&0));
            self.is_over = read? == 0;
            if let Some(end) = self.last_delimiter() {
                let rest = self.pending.split_off(end);
                let bytes = std::mem::replace(&mut self.pending, rest);
                self.searched = 0;
                return Ok(Some(self.block(bytes)));
            }
            if self.pending.len() > self.record_bytes_max {
                let (number, most) = (self.record_count + 1, self.record_bytes_max);
                let what = format!("line {number}: it is longer than {most} bytes, the limit for a record");
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
        }
        match std::mem::take(&mut self.pending) {
            bytes if bytes.is_empty() => Ok(None),
            bytes => Ok(Some(self.block(bytes))),
        }
    }

    fn read_some(&mut self, filled: usize) -> io::Result<usize> {
        loop {
            match self.reader.read(&mut self.pending[filled..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// The end of the last whole record, after its delimiter.
    fn last_delimiter(&mut self) -> Option<usize> {
        let delimiter = self.delimiter.needle();
        if delimiter.is_empty() {
            return None;
        }
        // The delimiter may have begun in the bytes that were searched before. Delimiters are found from the front, as
        // `Block::records` finds them: with the delimiter `--`, `---` is a delimiter and a dash.
        let from = self.searched.saturating_sub(delimiter.len() - 1);
        let end = match delimiter {
            [byte] => memchr::memrchr(*byte, &self.pending[from..]).map(|at| from + at + 1),
            _ => self.delimiter.find_iter(&self.pending[from..]).last().map(|at| from + at + delimiter.len()),
        };
        self.searched = self.pending.len();
        end
    }

    fn block(&mut self, bytes: Vec<u8>) -> Block {
        let block = Block { bytes, delimiter: self.delimiter.clone(), first_number: self.record_count + 1 };
        self.record_count += block.records().count() as u64;
        block
    }
}

/// Whole records.
#[derive(Debug)]
pub(crate) struct Block {
    bytes: Vec<u8>,
    delimiter: Finder<'static>,
    first_number: u64,
}

impl Block {
    /// Each record without its delimiter, with its number in the input (from 1).
    pub(crate) fn records(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let mut at = 0;
        (self.first_number..).map_while(move |number| {
            let (record, next) = self.record_at(at)?;
            at = next;
            Some((number, record))
        })
    }

    /// The record that begins at this place of the block, without its delimiter, and where the next one begins.
    pub(crate) fn record_at(&self, at: usize) -> Option<(&[u8], usize)> {
        let bytes = self.bytes.get(at..).filter(|rest| !rest.is_empty())?;
        let delimiter = self.delimiter.needle();
        let end = match delimiter {
            [] => None,
            [byte] => memchr::memchr(*byte, bytes),
            _ => self.delimiter.find(bytes),
        };
        Some(match end {
            Some(end) => (&bytes[..end], at + end + delimiter.len()),
            None => (bytes, self.bytes.len()),
        })
    }

    /// Whether a record begins at this place.
    pub(crate) fn has_record_at(&self, at: usize) -> bool {
        at < self.bytes.len()
    }

    /// The number of the first record in the input.
    pub(crate) fn first_number(&self) -> u64 {
        self.first_number
    }

    /// The length in bytes, delimiters included.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// Cuts a record into key and value at the first delimiter; without one there is no key.
pub(crate) fn split_key<'a>(record: &'a [u8], delimiter: &[u8]) -> (Option<&'a [u8]>, &'a [u8]) {
    match memmem::find(record, delimiter) {
        Some(at) => (Some(&record[..at]), &record[at + delimiter.len()..]),
        None => (None, record),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives its bytes in pieces of the given sizes.
    struct Trickle<'a> {
        bytes: &'a [u8],
        sizes: Vec<usize>,
    }

    impl Read for Trickle<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let size = self.sizes.pop().unwrap_or(usize::MAX).clamp(1, buf.len()).min(self.bytes.len());
            buf[..size].copy_from_slice(&self.bytes[..size]);
            self.bytes = &self.bytes[size..];
            Ok(size)
        }
    }

    fn cut(input: &[u8], delimiter: &[u8], sizes: Vec<usize>) -> Vec<Vec<u8>> {
        let mut cutter = Cutter::new(Trickle { bytes: input, sizes }, delimiter, usize::MAX);
        let mut records = Vec::new();
        while let Some(block) = cutter.next_block().unwrap() {
            for (number, record) in block.records() {
                records.push(record.to_vec());
                assert_eq!(number, records.len() as u64);
            }
        }
        records
    }

    #[test]
    fn records_end_at_delimiters() {
        let table: &[(&str, &str, &[&str])] = &[
            ("", "\n", &[]),
            ("\n", "\n", &[""]),
            ("a", "\n", &["a"]),
            ("a\n", "\n", &["a"]),
            ("a\n\nb\n", "\n", &["a", "", "b"]),
            ("a\r\nb", "\n", &["a\r", "b"]),
            ("a\nb\n", "", &["a\nb\n"]),
            ("a--b---c--", "--", &["a", "b", "-c"]),
        ];
        for (input, delimiter, expect) in table {
            let records = cut(input.as_bytes(), delimiter.as_bytes(), vec![]);
            let expect: Vec<_> = expect.iter().map(|r| r.as_bytes()).collect();
            assert_eq!(records, expect, "{input:?} at {delimiter:?}");
        }
    }

    #[test]
    fn a_line_does_not_wait_for_the_next() {
        let mut cutter = Cutter::new(Trickle { bytes: b"one\ntwo\n", sizes: vec![1, 5] }, b"\n", 100);
        let block = cutter.next_block().unwrap().unwrap();
        assert_eq!(block.records().collect::<Vec<_>>(), [(1, &b"one"[..])]);
    }

    #[test]
    fn a_record_without_an_end_is_an_error_before_it_fills_the_memory() {
        let input = b"one\ntwo\n"
            .iter()
            .copied()
            .chain(std::iter::repeat_n(b'x', 10 * READ_BYTES))
            .collect::<Vec<_>>();
        let mut cutter = Cutter::new(Trickle { bytes: &input, sizes: vec![] }, b"\n", 1000);
        assert_eq!(cutter.next_block().unwrap().unwrap().records().count(), 2);
        let error = cutter.next_block().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().starts_with("line 3: it is longer than 1000 bytes"), "{error}");
        assert!(cutter.pending.len() <= 2 * READ_BYTES, "{}", cutter.pending.len());
    }

    #[test]
    fn keys_end_at_the_first_delimiter() {
        assert_eq!(split_key(b"k:v:w", b":"), (Some(&b"k"[..]), &b"v:w"[..]));
        assert_eq!(split_key(b":v", b":"), (Some(&b""[..]), &b"v"[..]));
        assert_eq!(split_key(b"v", b":"), (None, &b"v"[..]));
        assert_eq!(split_key(b"k=>v", b"=>"), (Some(&b"k"[..]), &b"v"[..]));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(input in "[ab\n]{0,60}", long: bool, sizes in prop::collection::vec(1usize..7, 0..60)) {
            let delimiter = if long { "aa" } else { "\n" };
            let mut expect: Vec<_> = input.split(delimiter).map(|r| r.as_bytes().to_vec()).collect();
            if expect.last().is_some_and(Vec::is_empty) {
                expect.pop();
            }
            prop_assert_eq!(cut(input.as_bytes(), delimiter.as_bytes(), sizes), expect);
        }
    }
}
