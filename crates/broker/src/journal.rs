//! A journal: what Kafka's coordinators write to `__consumer_offsets` and `__transaction_state`, each in a file of its own.
//!
//! ```text
//!  milena.groups, milena.transactions   header │ frame │ frame │ …
//!  frame   length u32 │ crc32c u32 │ (key length u32, key, value length i32 or -1, value) …
//! ```
//!
//! Keys and values are those of Kafka's records; a later record replaces an earlier one of the same key, and one without a
//! value ends it. A frame is written at once and is taken whole or not at all, so `kill -9` loses nothing that was answered. A
//! damaged frame is what a crash has cut off, unless whole ones follow it. When most of the file is outdated it is replaced by
//! a short one. Without a data directory there is no file, and nothing is written. It must not know what records mean.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use milena_messages::Message;
use milena_wire::{EncodeError, Reader, Str, Writer};

use crate::error::Error;
use crate::log::file;

/// What one coordinator keeps.
pub(crate) trait Record: Sized {
    /// The first line of its file.
    const HEADER: &'static [u8];
    /// What the file is about, for errors.
    const ABOUT: &'static str;

    /// Its key and its value.
    fn encode(&self) -> Result<(Vec<u8>, Option<Vec<u8>>), EncodeError>;

    /// `None` when it is no such record.
    fn decode(key: &Bytes, value: Option<&Bytes>) -> Option<Self>;
}

/// Where records are written.
#[derive(Debug)]
pub(crate) struct Journal<R> {
    file: Option<OpenFile>,
    loaded: Vec<R>,
}

#[derive(Debug)]
struct OpenFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    /// The bytes that it had when it was last short.
    short_bytes: u64,
}

/// A file with fewer bytes is never replaced.
const COMPACT_FROM: u64 = 1 << 20;
/// A file is replaced when it is this many times as long as a short one was.
const BLOAT: u64 = 4;

impl<R: Record> Journal<R> {
    /// A journal without a file.
    pub(crate) fn in_memory() -> Self {
        Self { file: None, loaded: Vec::new() }
    }

    /// Opens the file, or makes it. A frame that a crash has cut off is removed.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let failed = |error| Error::io(format!("cannot open {}", path.display()), error);
        if !path.exists() {
            file::replace(path, R::HEADER).map_err(failed)?;
        }
        let mut opened = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
        let mut content = Vec::new();
        opened.read_to_end(&mut content).map_err(failed)?;
        let content = Bytes::from(content);
        if !content.starts_with(R::HEADER) {
            return Err(Error::damaged(path, format!("it is no file of this broker's {}", R::ABOUT)));
        }
        let (loaded, bytes) = read_frames::<R>(&content);
        if bytes < content.len() {
            // A crash leaves nothing whole behind what it has cut off.
            if let Some(next) = (bytes + 1..content.len()).find(|&at| read_frame::<R>(&content, at).is_some())
            {
                let what =
                    format!("its bytes from {bytes} to {next} are damaged, and whole records follow them");
                return Err(Error::damaged(path, what));
            }
            tracing::warn!(path = %path.display(), position = bytes, "removed what a crash has cut off");
            opened.set_len(bytes as u64).map_err(failed)?;
        }
        let (path, bytes) = (path.to_owned(), bytes as u64);
        Ok(Self { file: Some(OpenFile { path, file: opened, bytes, short_bytes: 0 }), loaded })
    }

    /// The records that were in the file.
    pub(crate) fn take_loaded(&mut self) -> Vec<R> {
        std::mem::take(&mut self.loaded)
    }

    /// Writes records, all or none. False when the disk failed.
    pub(crate) fn append(&mut self, records: &[R]) -> bool {
        let Some(open) = &mut self.file else { return true };
        if records.is_empty() {
            return true;
        }
        match open.append(records) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(path = %open.path.display(), %error, "cannot write what {} are", R::ABOUT);
                false
            }
        }
    }

    /// Whether most of the file is outdated, as far as its length tells.
    pub(crate) fn is_bloated(&self) -> bool {
        let is_bloated = |open: &OpenFile| open.bytes > COMPACT_FROM.max(open.short_bytes * BLOAT);
        self.file.as_ref().is_some_and(is_bloated)
    }

    /// Replaces the whole content.
    pub(crate) fn replace(&mut self, records: &[R]) {
        let Some(open) = &mut self.file else { return };
        if let Err(error) = open.replace(records) {
            // The long file is as good. It is tried again when the file has grown further.
            open.short_bytes = open.bytes;
            tracing::warn!(path = %open.path.display(), %error, "cannot shorten the file of {}", R::ABOUT);
        }
    }

    /// Makes everything durable.
    pub(crate) fn flush(&self) -> Result<(), Error> {
        let Some(open) = &self.file else { return Ok(()) };
        let failed = |error| Error::io(format!("cannot sync {}", open.path.display()), error);
        open.file.sync_data().map_err(failed)
    }
}

impl OpenFile {
    fn append<R: Record>(&mut self, records: &[R]) -> io::Result<()> {
        let frame = frame(records)?;
        if let Err(error) = file::write_at(&self.file, &frame, self.bytes) {
            // What was written in part would be taken for a crash's rest, and the next frame overwrites it.
            let _ = self.file.set_len(self.bytes);
            return Err(error);
        }
        self.bytes += frame.len() as u64;
        Ok(())
    }

    fn replace<R: Record>(&mut self, records: &[R]) -> io::Result<()> {
        let mut content = BytesMut::from(R::HEADER);
        for some in records.chunks(1000) {
            content.extend_from_slice(&frame(some)?);
        }
        file::replace(&self.path, &content)?;
        self.file = OpenOptions::new().read(true).write(true).open(&self.path)?;
        self.bytes = content.len() as u64;
        self.short_bytes = self.bytes;
        Ok(())
    }
}

fn frame<R: Record>(records: &[R]) -> io::Result<BytesMut> {
    let mut frame = BytesMut::from(&[0; 8][..]);
    for record in records {
        let (key, value) = record.encode().map_err(io::Error::other)?;
        frame.put_u32(key.len() as u32);
        frame.extend_from_slice(&key);
        match value {
            Some(value) => {
                frame.put_i32(value.len() as i32);
                frame.extend_from_slice(&value);
            }
            None => frame.put_i32(-1),
        }
    }
    let (length, checksum) = ((frame.len() - 8) as u32, crc32c::crc32c(&frame[8..]));
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame[4..8].copy_from_slice(&checksum.to_be_bytes());
    Ok(frame)
}

/// The records of all whole frames, and where the last of them ends.
fn read_frames<R: Record>(content: &Bytes) -> (Vec<R>, usize) {
    let mut records = Vec::new();
    let mut end = R::HEADER.len();
    while let Some((next, more)) = read_frame(content, end) {
        records.extend(more);
        end = next;
    }
    (records, end)
}

fn read_frame<R: Record>(content: &Bytes, at: usize) -> Option<(usize, Vec<R>)> {
    let mut head = content.get(at..at + 8)?;
    let (length, checksum) = (head.get_u32() as usize, head.get_u32());
    let (start, end) = (at + 8, (at + 8).checked_add(length)?);
    if length == 0 || crc32c::crc32c(content.get(start..end)?) != checksum {
        return None;
    }
    let mut body = content.slice(start..end);
    let mut records = Vec::new();
    while !body.is_empty() {
        let key_bytes = body.try_get_u32().ok()? as usize;
        let key = (key_bytes <= body.len()).then(|| body.split_to(key_bytes))?;
        let value = match body.try_get_i32().ok()? {
            -1 => None,
            bytes => {
                let bytes = usize::try_from(bytes).ok()?;
                Some((bytes <= body.len()).then(|| body.split_to(bytes))?)
            }
        };
        records.push(R::decode(&key, value.as_ref())?);
    }
    Some((end, records))
}

pub(crate) fn transpose<T>(value: Option<Option<T>>) -> Option<Option<T>> {
    match value {
        Some(None) => None,
        Some(Some(value)) => Some(Some(value)),
        None => Some(None),
    }
}

pub(crate) fn copied(text: &Str) -> Str {
    Str::from(text.as_str())
}

/// A key begins with its type, a value with its version.
pub(crate) fn encode<M: Message>(
    kind: Option<i16>,
    message: &M,
    version: i16,
) -> Result<Vec<u8>, EncodeError> {
    let mut writer = Writer::new();
    writer.i16(kind.unwrap_or(version));
    message.encode(&mut writer, version)?;
    Ok(writer.finish().to_vec())
}

pub(crate) fn decode<M: Message>(value: &Bytes) -> Option<M> {
    let mut reader = Reader::new(value);
    let version = reader.i16("Value.Version").ok()?;
    M::decode(&mut reader, version).ok()
}

#[cfg(test)]
mod tests {
    use milena_messages::group_metadata_record::GroupMetadataValue;
    use milena_messages::offset_commit_record::OffsetCommitValue;

    use super::*;
    use crate::groups::Record;

    const HEADER: &[u8] = <Record as super::Record>::HEADER;

    fn offset(partition: i32, offset: i64, expire_timestamp: i64) -> Record {
        let value = OffsetCommitValue {
            offset,
            // Version 1 has no leader epoch.
            leader_epoch: if expire_timestamp == -1 { 7 } else { -1 },
            metadata: "m".into(),
            expire_timestamp,
            ..Default::default()
        };
        Record::Offset { group: "g".into(), topic: "t".into(), partition, value: Some(value) }
    }

    #[test]
    fn what_is_written_is_read_and_a_cut_loses_whole_frames_only() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("milena.groups");
        let group = |value| Record::Group { group: "g".into(), value };
        let frames = [
            vec![group(Some(GroupMetadataValue { generation: 3, ..Default::default() }))],
            vec![offset(0, 5, -1), offset(1, 6, 99)],
            vec![
                Record::Offset { group: "g".into(), topic: "t".into(), partition: 0, value: None },
                group(None),
            ],
        ];
        let mut journal = Journal::<Record>::open(&path).expect("opens");
        for records in &frames {
            assert!(journal.append(records));
        }
        drop(journal);
        let whole = std::fs::read(&path).expect("reads");
        assert_eq!(Journal::<Record>::open(&path).expect("opens").loaded, frames.concat());
        let mut counts = Vec::new();
        for end in HEADER.len()..whole.len() {
            std::fs::write(&path, &whole[..end]).expect("writes");
            let mut journal = Journal::<Record>::open(&path).expect("opens");
            let loaded = journal.take_loaded();
            assert!(frames.concat().starts_with(&loaded));
            counts.push(loaded.len());
            // It goes on behind the last whole frame.
            assert!(journal.append(&frames[1]));
            assert_eq!(
                Journal::<Record>::open(&path).expect("opens").loaded,
                [&loaded[..], &frames[1]].concat()
            );
        }
        counts.dedup();
        assert_eq!(counts, [0, 1, 3]);
    }

    #[test]
    fn damage_before_whole_records_is_no_crash() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("milena.groups");
        let mut journal = Journal::<Record>::open(&path).expect("opens");
        let mut ends = vec![HEADER.len()];
        for partition in 0..3 {
            assert!(journal.append(&[offset(partition, 5, -1)]));
            ends.push(std::fs::metadata(&path).expect("is there").len() as usize);
        }
        drop(journal);
        let whole = std::fs::read(&path).expect("reads");
        for at in ends[0]..ends[3] {
            let mut content = whole.clone();
            content[at] ^= 0x55;
            std::fs::write(&path, &content).expect("writes");
            let opened = Journal::<Record>::open(&path);
            match at < ends[2] {
                true => assert!(opened.is_err_and(|error| error.is_damaged()), "byte {at}"),
                false => assert_eq!(opened.expect("like one that was cut off").loaded.len(), 2, "byte {at}"),
            }
        }
    }

    #[test]
    fn a_short_file_replaces_a_long_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("milena.groups");
        let mut journal = Journal::<Record>::open(&path).expect("opens");
        let mut count = 0;
        while !journal.is_bloated() {
            assert!(journal.append(&[offset(0, count, -1)]));
            count += 1;
        }
        journal.replace(&[offset(0, count, -1)]);
        assert!(!journal.is_bloated());
        assert!(journal.append(&[offset(1, 1, -1)]));
        assert!(std::fs::metadata(&path).expect("is there").len() < 1000);
        assert_eq!(
            Journal::<Record>::open(&path).expect("opens").loaded,
            [offset(0, count, -1), offset(1, 1, -1)]
        );
    }
}
