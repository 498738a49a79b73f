//! Responses: the bytes that were written for one response, with slices of shared batches between them.

use std::io::{self, IoSlice, Write};
use std::ops::Range;

use bytes::{Buf, Bytes};
use milena_messages::header::ResponseHeader;
use milena_messages::{ApiKey, Message};
use milena_wire::{EncodeError, Writer};

use super::topics::Slice;

/// A frame, size field included.
#[derive(Debug, Default)]
pub(super) struct Response {
    own: Vec<u8>,
    pieces: Vec<Piece>,
    bytes: usize,
}

#[derive(Debug)]
enum Piece {
    Own(Range<usize>),
    Shared(Bytes),
}

/// The bytes at the start of a batch that the checksum does not cover.
const OFFSET_BYTES: usize = 8;

impl Response {
    /// The frame of a message without records.
    pub(super) fn of<M: Message>(
        message: &M,
        key: ApiKey,
        version: i16,
        correlation_id: i32,
    ) -> Result<Self, EncodeError> {
        Self::with_records(message, key, version, correlation_id, &Blank::default(), Vec::new())
    }

    /// The frame of a message whose `records` fields are blank, with slices instead of the blanks.
    pub(super) fn with_records<M: Message>(
        message: &M,
        key: ApiKey,
        version: i16,
        correlation_id: i32,
        blank: &Blank,
        records: Vec<Vec<Slice>>,
    ) -> Result<Self, EncodeError> {
        let mut writer = Writer::new();
        let mark = writer.begin_frame();
        let header = ResponseHeader { correlation_id, ..Default::default() };
        header.encode(&mut writer, key.response_header_version(version))?;
        message.encode(&mut writer, version)?;
        writer.end_frame(mark, M::NAME)?;
        let mut frame = writer.finish();
        let mut response = Self::default();
        let mut records = records.into_iter();
        while frame.has_remaining() {
            let chunk = frame.chunk();
            if blank.holds(chunk) {
                records.next().unwrap_or_default().into_iter().for_each(|slice| response.push_slice(slice));
            } else {
                response.push_own(chunk);
            }
            frame.advance(frame.chunk().len());
        }
        Ok(response)
    }

    /// A frame of these bytes.
    pub(super) fn raw(bytes: &Bytes) -> Self {
        let mut response = Self::default();
        response.push_own(&(bytes.len() as u32).to_be_bytes());
        response.push_shared(bytes.clone());
        response
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn push_slice(&mut self, Slice { base_offset, mut bytes }: Slice) {
        let offset = base_offset.to_be_bytes();
        self.push_own(&offset[..bytes.len().min(OFFSET_BYTES)]);
        bytes.advance(bytes.len().min(OFFSET_BYTES));
        self.push_shared(bytes);
    }

    fn push_own(&mut self, bytes: &[u8]) {
        let start = self.own.len();
        self.own.extend_from_slice(bytes);
        self.bytes += bytes.len();
        match self.pieces.last_mut() {
            Some(Piece::Own(range)) => range.end = self.own.len(),
            _ => self.pieces.push(Piece::Own(start..self.own.len())),
        }
    }

    fn push_shared(&mut self, bytes: Bytes) {
        self.bytes += bytes.len();
        if !bytes.is_empty() {
            self.pieces.push(Piece::Shared(bytes));
        }
    }

    /// Writes it with as few calls as possible.
    pub(super) fn write_to(&self, output: &mut impl Write) -> io::Result<()> {
        let slices = self.pieces.iter().map(|piece| match piece {
            Piece::Own(range) => IoSlice::new(&self.own[range.clone()]),
            Piece::Shared(bytes) => IoSlice::new(bytes),
        });
        let mut slices: Vec<IoSlice<'_>> = slices.collect();
        let mut left = &mut slices[..];
        while !left.is_empty() {
            match output.write_vectored(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut left, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Stands for the records in a message. Its memory is never touched, so it costs nothing.
#[derive(Debug, Default)]
pub(super) struct Blank(Bytes);

impl Blank {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self(vec![0; bytes_max].into())
    }

    pub(super) fn bytes_max(&self) -> usize {
        self.0.len()
    }

    /// A blank for these slices. Short slices are joined, because the writer copies short payloads.
    pub(super) fn for_slices(&self, slices: &[Slice]) -> Bytes {
        let bytes = slices.iter().map(|slice| slice.bytes.len()).sum();
        if bytes >= COPIED_BYTES_MAX {
            return self.0.slice(..bytes);
        }
        let mut together = Response::default();
        slices.iter().cloned().for_each(|slice| together.push_slice(slice));
        let mut joined = Vec::with_capacity(bytes);
        together.write_to(&mut joined).expect("memory takes everything");
        joined.into()
    }

    /// Whether a part of a message is a blank.
    fn holds(&self, chunk: &[u8]) -> bool {
        self.0.as_ptr_range().contains(&chunk.as_ptr())
    }

    /// Whether [`for_slices`](Self::for_slices) left the slices out.
    pub(super) fn is_blank(&self, records: &Bytes) -> bool {
        records.len() >= COPIED_BYTES_MAX
    }
}

/// `milena_wire::Writer` links payloads from 512 bytes on.
const COPIED_BYTES_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use milena_messages::fetch::{FetchResponse, FetchableTopicResponse, PartitionData};

    fn slice(base_offset: i64, bytes: usize) -> Slice {
        Slice { base_offset, bytes: vec![b'x'; bytes].into() }
    }

    #[test]
    fn slices_take_the_place_of_blanks() {
        let blank = Blank::new(1 << 20);
        let partitions =
            [vec![slice(7, 1000), slice(9, 3)], vec![slice(5, 100)], vec![], vec![slice(8, 600)]];
        let encode = |records: &dyn Fn(&[Slice]) -> Bytes| FetchResponse {
            responses: vec![FetchableTopicResponse {
                partitions: partitions
                    .iter()
                    .map(|slices| PartitionData { records: Some(records(slices)), ..Default::default() })
                    .collect(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let message = encode(&|slices| blank.for_slices(slices));
        let left_out = vec![partitions[0].clone(), partitions[3].clone()];
        let response =
            Response::with_records(&message, ApiKey::Fetch, 12, 3, &blank, left_out).expect("encodes");
        let mut written = Vec::new();
        response.write_to(&mut written).expect("written");

        let whole = encode(&|slices| {
            let bytes = slices.iter().flat_map(|slice| {
                let offset = slice.base_offset.to_be_bytes();
                let count = slice.bytes.len().min(8);
                offset[..count]
                    .iter()
                    .copied()
                    .chain(slice.bytes[count..].iter().copied())
                    .collect::<Vec<_>>()
            });
            bytes.collect::<Vec<_>>().into()
        });
        let mut expected = Vec::new();
        Response::of(&whole, ApiKey::Fetch, 12, 3)
            .expect("encodes")
            .write_to(&mut expected)
            .expect("written");
        assert!(written == expected);
        assert_eq!(response.bytes(), expected.len());
    }
}
