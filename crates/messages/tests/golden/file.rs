//! Reads `messages.bin.gz`.

use bytes::{Buf, Bytes};
use milena_wire::codec::{Compression, Decompressor};

/// Far more than the file holds.
const FILE_BYTES_MAX: usize = 1 << 24;

/// One message as Kafka wrote it.
pub(crate) struct Entry {
    /// Its place in the file.
    pub(crate) number: usize,
    pub(crate) name: String,
    pub(crate) version: i16,
    pub(crate) content: Bytes,
    /// What Kafka made of the decoded message at every other version.
    pub(crate) others: Vec<(i16, Outcome)>,
}

/// What became of a message that was written at a version.
#[derive(Debug, PartialEq)]
pub(crate) enum Outcome {
    Refused,
    Written { length: usize, crc: u32 },
}

impl Outcome {
    pub(crate) fn of(content: &[u8]) -> Self {
        Self::Written { length: content.len(), crc: crc32fast::hash(content) }
    }
}

/// All entries, in the order of the file.
pub(crate) fn entries() -> Vec<Entry> {
    let compressed: &[u8] = include_bytes!("messages.bin.gz");
    let mut file = Vec::new();
    Decompressor::new()
        .decompress(Compression::Gzip, 2, compressed, &mut file, FILE_BYTES_MAX)
        .expect("the golden file is gzip");
    let mut file = Bytes::from(file);
    let mut entries = Vec::new();
    while file.has_remaining() {
        entries.push(entry(&mut file, entries.len()));
    }
    entries
}

fn entry(file: &mut Bytes, number: usize) -> Entry {
    let name_bytes = usize::from(file.get_u8());
    let name = String::from_utf8(file.split_to(name_bytes).to_vec()).expect("names are ASCII");
    let version = file.get_i16();
    let content_bytes = file.get_u32() as usize;
    let content = file.split_to(content_bytes);
    let count = file.get_i16();
    let others = (0..count).map(|_| (file.get_i16(), outcome(file))).collect();
    Entry { number, name, version, content, others }
}

fn outcome(file: &mut Bytes) -> Outcome {
    let (length, crc) = (file.get_i32(), file.get_u32());
    usize::try_from(length).map_or(Outcome::Refused, |length| Outcome::Written { length, crc })
}
