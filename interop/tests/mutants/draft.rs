//! A record batch as a list of fields, each of which can have any value, and its bytes.

use bytes::Bytes;
use milena_wire::codec::{Compression, Compressor};
use milena_wire::varint;

/// The draft of a batch: the header's fields, the records, and the changes to its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) codec: Compression,
    pub(crate) records: Vec<Rec>,
    /// The compressed records, if they are not made from `records`.
    pub(crate) payload: Option<Vec<u8>>,
    /// Header fields that differ from those of the records.
    pub(crate) fields: Vec<(Field, i64)>,
    pub(crate) producer: Option<(i64, i16, i32)>,
    pub(crate) base_timestamp: i64,
    /// Bytes after the batch.
    pub(crate) tail: Vec<u8>,
    /// Whether the checksum is right.
    pub(crate) is_mended: bool,
}

/// One record, with lengths that may be wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rec {
    pub(crate) length: Option<i32>,
    pub(crate) attributes: u8,
    pub(crate) timestamp_delta: i64,
    pub(crate) offset_delta: i32,
    pub(crate) key: Part,
    pub(crate) value: Part,
    pub(crate) headers: Vec<(Part, Part)>,
    pub(crate) header_count: Option<i32>,
    pub(crate) tail: Vec<u8>,
    /// The index of a varint, with the record's length as 0, that is written with N more bytes than necessary.
    pub(crate) padded: Option<(usize, usize)>,
}

/// Bytes after their length; `None` is null.
#[derive(Clone, Debug, Default)]
pub(crate) struct Part {
    pub(crate) bytes: Option<Vec<u8>>,
    pub(crate) length: Option<i32>,
}

/// A field of a batch's header: its name, where it is and how many bytes it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field(pub(crate) &'static str, pub(crate) usize, pub(crate) usize);

pub(crate) const BASE_OFFSET: Field = Field("base offset", 0, 8);
pub(crate) const LENGTH: Field = Field("batch length", 8, 4);
pub(crate) const LEADER_EPOCH: Field = Field("leader epoch", 12, 4);
pub(crate) const MAGIC: Field = Field("magic", 16, 1);
pub(crate) const CRC: Field = Field("crc", 17, 4);
pub(crate) const ATTRIBUTES: Field = Field("attributes", 21, 2);
pub(crate) const LAST_OFFSET_DELTA: Field = Field("last offset delta", 23, 4);
pub(crate) const BASE_TIMESTAMP: Field = Field("base timestamp", 27, 8);
pub(crate) const MAX_TIMESTAMP: Field = Field("max timestamp", 35, 8);
pub(crate) const PRODUCER_ID: Field = Field("producer id", 43, 8);
pub(crate) const PRODUCER_EPOCH: Field = Field("producer epoch", 51, 2);
pub(crate) const BASE_SEQUENCE: Field = Field("base sequence", 53, 4);
pub(crate) const COUNT: Field = Field("record count", 57, 4);
const HEADER_BYTES: usize = 61;

impl Part {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self { bytes: Some(bytes.to_vec()), length: None }
    }

    fn put(&self, out: &mut Vec<u8>, put: &mut impl FnMut(&mut Vec<u8>, i64)) {
        let length = self.bytes.as_ref().map_or(-1, |bytes| bytes.len() as i32);
        put(out, i64::from(self.length.unwrap_or(length)));
        out.extend_from_slice(self.bytes.as_deref().unwrap_or_default());
    }
}

impl Rec {
    fn put(&self, out: &mut Vec<u8>) {
        let mut varints = 0;
        let mut put = |out: &mut Vec<u8>, value: i64| {
            varints += 1;
            varint::put_i64(out, value);
            if let Some((at, by)) = self.padded
                && at == varints
            {
                let last = out.len() - 1;
                out[last] |= 0x80;
                out.extend(std::iter::repeat_n(0x80, by - 1));
                out.push(0);
            }
        };
        let mut body = vec![self.attributes];
        put(&mut body, self.timestamp_delta);
        put(&mut body, i64::from(self.offset_delta));
        self.key.put(&mut body, &mut put);
        self.value.put(&mut body, &mut put);
        put(&mut body, i64::from(self.header_count.unwrap_or(self.headers.len() as i32)));
        for (name, value) in &self.headers {
            name.put(&mut body, &mut put);
            value.put(&mut body, &mut put);
        }
        body.extend_from_slice(&self.tail);
        // Counted as the varint 0.
        varint::put_i32(out, self.length.unwrap_or(body.len() as i32));
        if let Some((0, by)) = self.padded {
            let last = out.len() - 1;
            out[last] |= 0x80;
            out.extend(std::iter::repeat_n(0x80, by - 1));
            out.push(0);
        }
        out.extend_from_slice(&body);
    }
}

impl Draft {
    /// The records, one after another.
    pub(crate) fn plain(&self) -> Vec<u8> {
        let mut plain = Vec::new();
        for record in &self.records {
            record.put(&mut plain);
        }
        plain
    }

    /// The records, compressed.
    pub(crate) fn compressed(&self) -> Vec<u8> {
        if let Some(payload) = &self.payload {
            return payload.clone();
        }
        let mut payload = Vec::new();
        Compressor::new().compress(self.codec, None, &self.plain(), &mut payload).unwrap();
        payload
    }

    pub(crate) fn set(&mut self, field: Field, value: i64) {
        self.fields.push((field, value));
    }

    /// The bytes to send.
    pub(crate) fn bytes(&self) -> Bytes {
        let payload = self.compressed();
        let mut bytes = vec![0; HEADER_BYTES];
        let put = |bytes: &mut Vec<u8>, field: Field, value: i64| {
            let Field(_, at, width) = field;
            bytes[at..at + width].copy_from_slice(&value.to_be_bytes()[8 - width..]);
        };
        let count = self.records.len() as i64;
        let newest = self.records.iter().map(|record| record.timestamp_delta).max().unwrap_or(0);
        let (id, epoch, sequence) = self.producer.unwrap_or((-1, -1, -1));
        for (field, value) in [
            (LENGTH, (HEADER_BYTES - 12 + payload.len()) as i64),
            (LEADER_EPOCH, -1),
            (MAGIC, 2),
            (ATTRIBUTES, i64::from(self.codec.attributes())),
            (LAST_OFFSET_DELTA, count - 1),
            (BASE_TIMESTAMP, self.base_timestamp),
            (MAX_TIMESTAMP, self.base_timestamp.wrapping_add(newest)),
            (PRODUCER_ID, id),
            (PRODUCER_EPOCH, i64::from(epoch)),
            (BASE_SEQUENCE, i64::from(sequence)),
            (COUNT, count),
        ] {
            put(&mut bytes, field, value);
        }
        for &(field, value) in &self.fields {
            put(&mut bytes, field, value);
        }
        bytes.extend_from_slice(&payload);
        bytes.extend_from_slice(&self.tail);
        let length = i32::from_be_bytes(*bytes[8..].first_chunk().unwrap());
        let end = usize::try_from(length).unwrap_or(0).saturating_add(12).min(bytes.len());
        if self.is_mended && end > ATTRIBUTES.1 && !self.fields.iter().any(|(field, _)| *field == CRC) {
            let crc = crc32c::crc32c(&bytes[ATTRIBUTES.1..end]);
            put(&mut bytes, CRC, i64::from(crc));
        }
        bytes.into()
    }
}
