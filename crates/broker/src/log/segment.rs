//! One segment file of a log on disk: `<base offset>.log`, with one batch after another in the form of the wire.
//!
//! ```text
//!  open:    walk the batch headers and rebuild the index; if asked to, check every batch
//!  append:  two positioned writes (header, records), or one for small batches
//!  read:    index → walk headers to the batch → one positioned read
//! ```

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use milena_wire::batch::{BatchHeader, HEADER_BYTES};

use super::file::{read_at, write_at};
use super::index::Index;
use super::{Entry, whole_batches};

/// Batches up to this size are copied, so that one system call writes them.
const COPIED_WRITE_BYTES: usize = 16 * 1024;

/// The bytes of a segment that are read at a time while walking its batches.
const WINDOW_BYTES: usize = 256 * 1024;

/// A segment of a log.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    file: File,
    base_offset: i64,
    end: i64,
    bytes: u64,
    index: Index,
}

/// The place from which on a segment's bytes are not sound, and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Bytes before it are sound.
    pub(crate) position: u64,
    /// The fault at that place.
    pub(crate) reason: String,
}

impl Segment {
    /// Creates an empty segment.
    pub(super) fn create(dir: &Path, base_offset: i64) -> io::Result<Self> {
        let path = dir.join(file_name(base_offset));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
        Ok(Self { path, file, base_offset, end: base_offset, bytes: 0, index: Index::default() })
    }

    /// Opens a segment and walks it. Calls `visit` with the header of each sound batch. With `verify` the checksums are
    /// checked too.
    ///
    /// If there is damage, it is returned too, and the segment ends before it. The file still has the damaged bytes.
    pub(super) fn open(
        path: PathBuf,
        base_offset: i64,
        verify: bool,
        visit: &mut dyn FnMut(&BatchHeader),
    ) -> io::Result<(Self, Option<Damage>)> {
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let bytes = file.metadata()?.len();
        let mut segment =
            Self { path, file, base_offset, end: base_offset, bytes: 0, index: Index::default() };
        let damage = segment.walk(bytes, verify, visit)?;
        Ok((segment, damage))
    }

    pub(super) fn base_offset(&self) -> i64 {
        self.base_offset
    }

    /// The offset after its last record.
    pub(super) fn end(&self) -> i64 {
        self.end
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn max_timestamp(&self) -> Option<i64> {
        self.index.max_timestamp()
    }

    /// Whether the index can address a batch in this segment that ends at `last_offset`.
    pub(super) fn can_address(&self, last_offset: i64) -> bool {
        last_offset - self.base_offset < i64::from(i32::MAX)
    }

    pub(super) fn append(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        let bytes = HEADER_BYTES + entry.records.len();
        let written = if bytes <= COPIED_WRITE_BYTES {
            let mut whole = Vec::with_capacity(bytes);
            whole.extend_from_slice(&entry.head);
            whole.extend_from_slice(entry.records);
            write_at(&self.file, &whole, self.bytes)
        } else {
            write_at(&self.file, &entry.head, self.bytes)
                .and_then(|()| write_at(&self.file, entry.records, self.bytes + HEADER_BYTES as u64))
        };
        if let Err(error) = written {
            // The file may have a part of the batch now. Recovery after a crash would find it there.
            let _ = self.file.set_len(self.bytes);
            return Err(error);
        }
        self.note(&entry.header, bytes);
        Ok(())
    }

    /// Whole batches from the one that contains `offset` on; see [`Log::read`](super::Log::read).
    pub(super) fn read(&self, offset: i64, bytes_max: usize, at_least_one: bool) -> io::Result<Bytes> {
        let from = self.index.position_before((offset - self.base_offset) as u32);
        let holds = |header: &BatchHeader| header.last_offset() >= offset;
        let Some((position, first)) = self.find(from, holds)? else { return Ok(Bytes::new()) };
        if first.bytes > bytes_max && !at_least_one {
            return Ok(Bytes::new());
        }
        let wanted = (bytes_max.max(first.bytes) as u64).min(self.bytes - position) as usize;
        let mut buffer = vec![0; wanted];
        let filled = read_at(&self.file, &mut buffer, position)?;
        buffer.truncate(whole_batches(&buffer[..filled], bytes_max, at_least_one));
        Ok(buffer.into())
    }

    /// The first batch whose greatest timestamp is at least `timestamp`.
    pub(super) fn batch_by_time(&self, timestamp: i64) -> io::Result<Option<Bytes>> {
        let from = self.index.position_before_time(timestamp);
        let Some((position, first)) = self.find(from, |header| header.max_timestamp >= timestamp)? else {
            return Ok(None);
        };
        let mut buffer = vec![0; first.bytes];
        read_at(&self.file, &mut buffer, position)?;
        Ok(Some(buffer.into()))
    }

    /// Cuts off the file after the last sound batch.
    pub(super) fn truncate_file(&self) -> io::Result<()> {
        self.file.set_len(self.bytes)?;
        self.file.sync_all()
    }

    /// Makes everything durable and writes the index files.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.file.sync_all()?;
        self.write_index()
    }

    /// Writes the index files for Kafka's tools.
    pub(super) fn write_index(&mut self) -> io::Result<()> {
        self.index.write_files(&self.path)
    }

    fn note(&mut self, header: &BatchHeader, bytes: usize) {
        let relative = (header.last_offset() - self.base_offset) as u32;
        self.index.note(relative, header.max_timestamp, self.bytes);
        self.bytes += bytes as u64;
        self.end = header.next_offset();
    }

    /// The first batch at position `from` or after it whose header is `wanted`.
    fn find(
        &self,
        from: u64,
        mut wanted: impl FnMut(&BatchHeader) -> bool,
    ) -> io::Result<Option<(u64, BatchHeader)>> {
        let mut position = from;
        let mut raw = [0; HEADER_BYTES];
        while position < self.bytes {
            if read_at(&self.file, &mut raw, position)? < HEADER_BYTES {
                return Err(changed_below_us(&self.path));
            }
            let header = BatchHeader::parse(&raw).map_err(|_| changed_below_us(&self.path))?;
            if wanted(&header) {
                return Ok(Some((position, header)));
            }
            position += header.bytes as u64;
        }
        Ok(None)
    }

    /// Notes every sound batch in the `file_bytes` of the file. Returns the damage after the last one, if there is any.
    fn walk(
        &mut self,
        file_bytes: u64,
        verify: bool,
        visit: &mut dyn FnMut(&BatchHeader),
    ) -> io::Result<Option<Damage>> {
        let mut window = Window { position: 0, bytes: Vec::new() };
        while self.bytes < file_bytes {
            let damage = |reason: String| Some(Damage { position: self.bytes, reason });
            let raw = window.at(&self.file, self.bytes, HEADER_BYTES)?;
            let header = match BatchHeader::parse(raw) {
                Ok(header) => header,
                Err(error) => return Ok(damage(error.to_string())),
            };
            if let ControlFlow::Break(reason) = self.check_place(&header, file_bytes) {
                return Ok(damage(reason));
            }
            if verify {
                let raw = window.at(&self.file, self.bytes, header.bytes)?;
                if crc32c::crc32c(&raw[CRC_FROM..]) != header.crc {
                    return Ok(damage("checksum mismatch".to_owned()));
                }
            }
            visit(&header);
            self.note(&header, header.bytes);
        }
        Ok(None)
    }

    fn check_place(&self, header: &BatchHeader, file_bytes: u64) -> ControlFlow<String> {
        if header.magic != 2 {
            return ControlFlow::Break(format!("magic {}", header.magic));
        }
        if header.base_offset < self.end || !self.can_address(header.last_offset()) {
            return ControlFlow::Break(format!("offset {} after {}", header.base_offset, self.end));
        }
        if header.bytes as u64 > file_bytes - self.bytes {
            return ControlFlow::Break("batch is cut off".to_owned());
        }
        ControlFlow::Continue(())
    }
}

/// The position in a batch where the bytes begin that its checksum covers.
const CRC_FROM: usize = 21;

/// A part of a file in memory. It moves forward with the walk.
struct Window {
    position: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// `count` bytes at `position`, or fewer at the end of the file.
    fn at(&mut self, file: &File, position: u64, count: usize) -> io::Result<&[u8]> {
        let here = |window: &Self| {
            let start = usize::try_from(position.checked_sub(window.position)?).ok()?;
            (start + count <= window.bytes.len()).then_some(start)
        };
        let start = match here(self) {
            Some(start) => start,
            None => {
                self.position = position;
                self.bytes.resize(count.max(WINDOW_BYTES), 0);
                let filled = read_at(file, &mut self.bytes, position)?;
                self.bytes.truncate(filled);
                0
            }
        };
        let end = (start + count).min(self.bytes.len());
        Ok(&self.bytes[start..end])
    }
}

/// A segment's file name: its base offset in 20 digits.
pub(super) fn file_name(base_offset: i64) -> String {
    format!("{base_offset:020}.log")
}

#[cold]
fn changed_below_us(path: &Path) -> io::Error {
    io::Error::other(format!("{} was changed by another process", path.display()))
}
