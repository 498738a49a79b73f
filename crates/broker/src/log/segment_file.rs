//! The file of one segment: `<base offset>.log`, with one batch after another in the form of the wire.
//!
//! ```text
//!  open:    walk the batch headers and rebuild the index; if asked to, check every batch
//!  append:  two positioned writes (header, records), or one for small batches
//!  read:    index → walk headers to the batch → one positioned read
//! ```
//!
//! Its [`Segment`] knows how many bytes of it are sound, and passes that number.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use milena_wire::batch::{BatchHeader, HEADER_BYTES};

use super::file::{read_at, write_at};
use super::index::Index;
use super::segment::Segment;
use super::{Entry, Visit, whole_batches};

/// Batches up to this size are copied, so that one system call writes them.
const COPIED_WRITE_BYTES: usize = 16 * 1024;

/// The bytes of a segment that are read at a time while walking its batches.
const WINDOW_BYTES: usize = 256 * 1024;

/// The file of a segment and its index.
#[derive(Debug)]
pub(super) struct SegmentFile {
    path: PathBuf,
    file: File,
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

impl SegmentFile {
    /// Creates an empty file.
    pub(super) fn create(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
        Ok(Self { path, file, index: Index::default() })
    }

    /// Opens the file of a segment and walks it. Calls `visit` with each sound batch. With `verify` the
    /// checksums are checked too.
    ///
    /// If there is damage, it is returned too, and the segment ends before it. The file still has the damaged bytes.
    pub(super) fn open(
        path: PathBuf,
        base_offset: i64,
        verify: bool,
        visit: &mut Visit<'_>,
    ) -> io::Result<(Segment, Option<Damage>)> {
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let walked = file.try_clone()?;
        let mut segment = Segment::in_file(base_offset, Self { path, file, index: Index::default() });
        let damage = walk(&walked, &mut segment, verify, visit)?;
        Ok((segment, damage))
    }

    /// Writes a batch at `position`, which is the end of the sound bytes.
    pub(super) fn append(&mut self, entry: &Entry<'_>, position: u64) -> io::Result<()> {
        let bytes = HEADER_BYTES + entry.records.len();
        let written = if bytes <= COPIED_WRITE_BYTES {
            let mut whole = Vec::with_capacity(bytes);
            whole.extend_from_slice(&entry.head);
            whole.extend_from_slice(entry.records);
            write_at(&self.file, &whole, position)
        } else {
            write_at(&self.file, &entry.head, position)
                .and_then(|()| write_at(&self.file, entry.records, position + HEADER_BYTES as u64))
        };
        // The file may have a part of the batch now. Recovery after a crash would find it there.
        written.inspect_err(|_| drop(self.file.set_len(position)))
    }

    /// Notes a batch at `position` in the index, with its last offset relative to the segment's base offset.
    pub(super) fn note(&mut self, last_offset: u32, timestamp: i64, position: u64) {
        self.index.note(last_offset, timestamp, position);
    }

    /// Whole batches from the one that contains `offset` on; see [`Log::read`](super::Log::read). `relative` is the
    /// offset relative to the segment's base offset, and `end` the number of sound bytes.
    pub(super) fn read(
        &self,
        offset: i64,
        relative: u32,
        end: u64,
        bytes_max: usize,
        at_least_one: bool,
    ) -> io::Result<Bytes> {
        let from = self.index.position_before(relative);
        let holds = |header: &BatchHeader| header.last_offset() >= offset;
        let Some((position, first)) = self.find(from, end, holds)? else { return Ok(Bytes::new()) };
        if first.bytes > bytes_max && !at_least_one {
            return Ok(Bytes::new());
        }
        let wanted = (bytes_max.max(first.bytes) as u64).min(end - position) as usize;
        let mut buffer = vec![0; wanted];
        let filled = read_at(&self.file, &mut buffer, position)?;
        buffer.truncate(whole_batches(&buffer[..filled], bytes_max, at_least_one));
        Ok(buffer.into())
    }

    /// The first batch that has `offset` or a later one, and whose greatest timestamp is at least `timestamp`.
    pub(super) fn batch_by_time(&self, timestamp: i64, offset: i64, end: u64) -> io::Result<Option<Bytes>> {
        let from = self.index.position_before_time(timestamp);
        let reaches =
            |header: &BatchHeader| header.max_timestamp >= timestamp && header.last_offset() >= offset;
        let Some((position, first)) = self.find(from, end, reaches)? else { return Ok(None) };
        let mut buffer = vec![0; first.bytes];
        read_at(&self.file, &mut buffer, position)?;
        Ok(Some(buffer.into()))
    }

    /// Cuts off the file after its sound bytes.
    pub(super) fn truncate(&self, end: u64) -> io::Result<()> {
        self.file.set_len(end)?;
        self.file.sync_all()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file has another name now.
    pub(super) fn set_path(&mut self, path: PathBuf) {
        self.path = path;
    }

    /// Makes its bytes durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Makes everything durable and writes the index files.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.sync()?;
        self.write_index()
    }

    /// Writes the index files for Kafka's tools.
    pub(super) fn write_index(&mut self) -> io::Result<()> {
        self.index.write_files(&self.path)
    }

    /// The first batch at position `from` or after it whose header is `wanted`.
    fn find(
        &self,
        from: u64,
        end: u64,
        mut wanted: impl FnMut(&BatchHeader) -> bool,
    ) -> io::Result<Option<(u64, BatchHeader)>> {
        let mut position = from;
        let mut raw = [0; HEADER_BYTES];
        while position < end {
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
}

/// Notes every sound batch of the file in the segment. Returns the damage after the last one, if there is any.
fn walk(
    file: &File,
    segment: &mut Segment,
    verify: bool,
    visit: &mut Visit<'_>,
) -> io::Result<Option<Damage>> {
    let file_bytes = file.metadata()?.len();
    let mut window = Window { position: 0, bytes: Vec::new() };
    while segment.bytes() < file_bytes {
        let position = segment.bytes();
        let damage = |reason: String| Some(Damage { position, reason });
        let raw = window.at(file, position, HEADER_BYTES)?;
        let header = match BatchHeader::parse(raw) {
            Ok(header) => header,
            Err(error) => return Ok(damage(error.to_string())),
        };
        if let ControlFlow::Break(reason) = check_place(segment, &header, file_bytes) {
            return Ok(damage(reason));
        }
        if verify {
            let raw = window.at(file, position, header.bytes)?;
            if crc32c::crc32c(&raw[CRC_FROM..]) != header.crc {
                return Ok(damage("checksum mismatch".to_owned()));
            }
        }
        // The content of control batches says how transactions ended. That of other batches is not read.
        let bytes = if header.is_control() { header.bytes } else { HEADER_BYTES };
        visit(&header, window.at(file, position, bytes)?);
        segment.note(&header, header.bytes);
    }
    Ok(None)
}

fn check_place(segment: &Segment, header: &BatchHeader, file_bytes: u64) -> ControlFlow<String> {
    if header.magic != 2 {
        return ControlFlow::Break(format!("magic {}", header.magic));
    }
    if header.base_offset < segment.end() || !segment.can_address(header.last_offset()) {
        return ControlFlow::Break(format!("offset {} after {}", header.base_offset, segment.end()));
    }
    if header.bytes as u64 > file_bytes - segment.bytes() {
        return ControlFlow::Break("batch is cut off".to_owned());
    }
    ControlFlow::Continue(())
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

#[cold]
fn changed_below_us(path: &Path) -> io::Error {
    io::Error::other(format!("{} was changed by another process", path.display()))
}
