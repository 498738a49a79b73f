//! Compaction of one batch: which of its records stay, and the batch without the other ones.
//!
//! ```text
//!  batch ─▶ [decompress] ─▶ keep the newest record of each key ─▶ all:  the batch as it is
//!                                                              ├▶ some: [compress] ─▶ a smaller batch
//!                                                              └▶ none: only the header │ nothing
//! ```
//!
//! A batch keeps its base offset, its last offset, its producer and its sequence, so that its records keep their offsets
//! and a producer's retry is still recognized. A tombstone stays for `delete.retention.ms` after it was first looked at:
//! the batch then has the end of this time in its base timestamp, and a flag that says so (KIP-534). So does the marker of a
//! transaction, from the first time on that no record of the transaction is left.
//!
//! It must not know logs.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use milena_wire::batch::{BatchHeader, HEADER_BYTES, TimestampType};
use milena_wire::codec::{Compression, Compressor, Decompressor};
use milena_wire::varint;
use milena_wire::{DecodeError, DecodeReason};

use crate::aborted::AbortedTransactions;
use crate::producers::Remembered;

/// The newest offset of each key, from the first dirty offset on.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    offsets: BTreeMap<Box<[u8]>, i64>,
    bytes: usize,
    /// The last offset that was looked at. Records after it stay.
    last_offset: i64,
}

/// What decides which records of a batch stay, beside their keys.
#[derive(Debug)]
pub(crate) struct Terms {
    /// The last batch before this offset stays, if only its header, so that the offset is not forgotten.
    pub(crate) end: i64,
    /// What stays of each producer that is remembered, if only the header of its batch.
    pub(crate) producers: BTreeMap<i64, Remembered>,
    /// The aborted transactions. Their records go, and do not replace others with their keys.
    pub(crate) aborted: AbortedTransactions,
    pub(crate) now_ms: i64,
    /// `delete.retention.ms`.
    pub(crate) tombstone_ms: i64,
}

/// The transactions of which a compaction has seen records, by their producers, until it sees their markers. It sees all batches
/// from the start of the log on.
#[derive(Debug, Default)]
pub(crate) struct Passed(BTreeSet<i64>);

impl Terms {
    /// Whether a batch of which no record is left stays as a header.
    fn keeps_header(&self, header: &BatchHeader) -> bool {
        let remembered = header.producer.is_some_and(|of| match self.producers.get(&of.producer_id) {
            Some(Remembered::Batch(offset)) => *offset == header.last_offset(),
            Some(Remembered::Marker(epoch)) => header.is_control() && *epoch == of.producer_epoch,
            None => false,
        });
        remembered || header.next_offset() == self.end
    }

    /// Whether a batch of records is part of an aborted transaction.
    fn is_aborted(&self, header: &BatchHeader) -> bool {
        let producer = header.producer.filter(|_| header.is_transactional());
        producer.is_some_and(|producer| self.aborted.has(producer.producer_id, header.base_offset))
    }
}

/// What is left of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Left {
    Nothing,
    /// The batch as it was.
    All,
    Some(Bytes),
}

/// Contexts and memory for many batches.
#[derive(Debug, Default)]
pub(crate) struct Rewriter {
    decompressor: Decompressor,
    compressor: Compressor,
    plain: Vec<u8>,
    kept: Vec<u8>,
}

/// Keys are looked at until they take this many bytes; the rest of the log is left for the next time. Kafka's
/// `log.cleaner.dedupe.buffer.size` is as large.
const KEYS_BYTES_MAX: usize = 128 << 20;

/// What a key costs beside its bytes, about.
const KEY_BYTES: usize = 64;

/// The most bytes that a batch holds once it is decompressed; larger ones are refused when they are produced.
const BATCH_BYTES_MAX: usize = 64 << 20;

const DELETE_HORIZON: i16 = 1 << 6;

impl Keys {
    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= KEYS_BYTES_MAX
    }

    /// The offset after the last one that was looked at.
    pub(crate) fn end(&self) -> i64 {
        self.last_offset + 1
    }

    fn note(&mut self, key: &[u8], offset: i64) {
        match self.offsets.get_mut(key) {
            Some(newest) => *newest = offset,
            None => {
                self.bytes += key.len() + KEY_BYTES;
                self.offsets.insert(key.into(), offset);
            }
        }
    }
}

impl Rewriter {
    /// Notes the keys of a batch's records from offset `from` on.
    pub(crate) fn note_keys(
        &mut self,
        batch: &[u8],
        from: i64,
        keys: &mut Keys,
        terms: &Terms,
    ) -> Result<(), DecodeError> {
        let header = BatchHeader::parse(batch)?;
        if !header.is_control() && !terms.is_aborted(&header) {
            self.each_record(&header, batch, |record| {
                let offset = header.base_offset + i64::from(record.offset_delta);
                if let Some(key) = record.key.filter(|_| offset >= from) {
                    keys.note(key, offset);
                }
            })?;
        }
        keys.last_offset = header.last_offset();
        Ok(())
    }

    /// What is left of a batch.
    pub(crate) fn rewrite(
        &mut self,
        batch: &[u8],
        keys: &Keys,
        terms: &Terms,
        passed: &mut Passed,
    ) -> Result<Left, DecodeError> {
        let header = BatchHeader::parse(batch)?;
        let producer_id = header.producer.map(|producer| producer.producer_id);
        let horizon = header.attributes.has_delete_horizon().then_some(header.base_timestamp);
        if header.is_control() {
            let had_records = producer_id.is_none_or(|id| passed.0.remove(&id));
            return self.rewrite_marker(&header, batch, had_records, horizon, terms);
        }
        if header.is_transactional() {
            passed.0.extend(producer_id);
        }
        let mut kept = std::mem::take(&mut self.kept);
        kept.clear();
        let mut tally = Tally { max_timestamp: -1, ..Tally::default() };
        let is_aborted = terms.is_aborted(&header);
        let outcome = self.each_record(&header, batch, |record| {
            if is_aborted {
                return;
            }
            let offset = header.base_offset + i64::from(record.offset_delta);
            if offset <= keys.last_offset {
                let Some(key) = record.key else { return };
                let is_newest = keys.offsets.get(key).is_none_or(|&newest| offset >= newest);
                let is_due = horizon.is_some_and(|horizon| terms.now_ms >= horizon);
                if !is_newest || record.is_tombstone && is_due {
                    return;
                }
            }
            tally.count += 1;
            tally.has_tombstone |= record.is_tombstone;
            let timestamp = header.base_timestamp.wrapping_add(record.timestamp_delta);
            tally.max_timestamp = tally.max_timestamp.max(timestamp);
            kept.extend_from_slice(record.whole);
        });
        self.kept = kept;
        outcome?;
        self.outcome(&header, batch, &tally, horizon, terms)
    }

    /// What is left of a marker. While a record of its transaction is there it stays: without it, a reader would take the producer's
    /// next transaction for aborted too, or this one for open.
    fn rewrite_marker(
        &mut self,
        header: &BatchHeader,
        batch: &[u8],
        had_records: bool,
        horizon: Option<i64>,
        terms: &Terms,
    ) -> Result<Left, DecodeError> {
        let is_due = header.record_count == 0 || horizon.is_some_and(|horizon| terms.now_ms >= horizon);
        if had_records && header.record_count > 0 || horizon.is_some() && !is_due {
            return Ok(Left::All);
        }
        if is_due {
            return Ok(match terms.keeps_header(header) {
                true => Left::Some(header_only(header, batch)),
                false => Left::Nothing,
            });
        }
        let mut kept = std::mem::take(&mut self.kept);
        kept.clear();
        let mut tally =
            Tally { max_timestamp: header.max_timestamp, has_tombstone: true, ..Tally::default() };
        let outcome = self.each_record(header, batch, |record| {
            tally.count += 1;
            kept.extend_from_slice(record.whole);
        });
        self.kept = kept;
        outcome?;
        self.outcome(header, batch, &tally, None, terms)
    }

    fn outcome(
        &mut self,
        header: &BatchHeader,
        batch: &[u8],
        tally: &Tally,
        horizon: Option<i64>,
        terms: &Terms,
    ) -> Result<Left, DecodeError> {
        if tally.count == 0 {
            return Ok(match terms.keeps_header(header) {
                true => Left::Some(header_only(header, batch)),
                false => Left::Nothing,
            });
        }
        let new_horizon =
            (tally.has_tombstone && horizon.is_none()).then(|| terms.now_ms + terms.tombstone_ms);
        if tally.count == header.record_count && new_horizon.is_none() {
            return Ok(Left::All);
        }
        let mut records = std::mem::take(&mut self.kept);
        if let Some(new_horizon) = new_horizon {
            records = rebase(&records, header.base_timestamp.wrapping_sub(new_horizon));
        }
        let mut whole = batch[..HEADER_BYTES].to_vec();
        let compression = header.attributes.compression()?;
        // The codecs are built in: batches that they cannot read are refused when they are produced.
        if self.compressor.compress(compression, None, &records, &mut whole).is_err() {
            return Err(invalid("the codec is not built in"));
        }
        let mut attributes = header.attributes.bits();
        if let Some(horizon) = new_horizon {
            attributes |= DELETE_HORIZON;
            whole[27..35].copy_from_slice(&horizon.to_be_bytes());
        }
        let is_stamped = header.attributes.timestamp_type() == TimestampType::LogAppendTime;
        let max_timestamp = if is_stamped { header.max_timestamp } else { tally.max_timestamp };
        self.kept = records;
        Ok(Left::Some(finish(whole, attributes, max_timestamp, tally.count)))
    }

    /// Calls `see` with each record of the batch.
    fn each_record(
        &mut self,
        header: &BatchHeader,
        batch: &[u8],
        mut see: impl FnMut(&Record<'_>),
    ) -> Result<(), DecodeError> {
        let payload = batch.get(HEADER_BYTES..header.bytes).ok_or_else(|| invalid("the batch is cut off"))?;
        let compression = header.attributes.compression()?;
        let mut rest = match compression {
            Compression::None => payload,
            _ if header.record_count == 0 => &[],
            _ => {
                self.decompressor.decompress(compression, 2, payload, &mut self.plain, BATCH_BYTES_MAX)?;
                self.plain.as_slice()
            }
        };
        for _ in 0..header.record_count {
            let (record, after) = Record::split(rest).ok_or_else(|| invalid("a record is cut off"))?;
            see(&record);
            rest = after;
        }
        Ok(())
    }
}

/// What was kept of a batch.
#[derive(Debug, Default)]
struct Tally {
    count: u32,
    max_timestamp: i64,
    has_tombstone: bool,
}

/// The parts of a record that compaction looks at.
struct Record<'a> {
    /// All of it, its length included.
    whole: &'a [u8],
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&'a [u8]>,
    is_tombstone: bool,
}

impl<'a> Record<'a> {
    /// The record at the start of `bytes`, and the bytes after it.
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (length, prefix) = varint::get_i32(bytes).ok()?;
        let end = prefix.checked_add(usize::try_from(length).ok()?)?;
        let (whole, after) = bytes.split_at_checked(end)?;
        let (_attributes, fields) = whole[prefix..].split_first()?;
        let (timestamp_delta, read) = varint::get_i64(fields).ok()?;
        let fields = &fields[read..];
        let (offset_delta, read) = varint::get_i32(fields).ok()?;
        let (key, fields) = nullable(&fields[read..])?;
        let (value, _) = nullable(fields)?;
        Some((Self { whole, timestamp_delta, offset_delta, key, is_tombstone: value.is_none() }, after))
    }
}

/// A length and its bytes, or −1 and none; and what comes after it.
fn nullable(bytes: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let (length, read) = varint::get_i32(bytes).ok()?;
    let rest = &bytes[read..];
    let Ok(length) = usize::try_from(length) else { return Some((None, rest)) };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((Some(value), rest))
}

/// The same records, with `shift` added to each timestamp's delta.
fn rebase(records: &[u8], shift: i64) -> Vec<u8> {
    let mut rebased = Vec::with_capacity(records.len() + records.len() / 8);
    let (mut rest, mut body) = (records, Vec::new());
    while let Some((record, after)) = Record::split(rest) {
        let prefix = varint::get_i32(record.whole).map_or(0, |(_, read)| read);
        let (attributes, fields) = record.whole[prefix..].split_at(1);
        let read = varint::get_i64(fields).map_or(0, |(_, read)| read);
        body.clear();
        body.extend_from_slice(attributes);
        varint::put_i64(&mut body, record.timestamp_delta.wrapping_add(shift));
        body.extend_from_slice(&fields[read..]);
        varint::put_i32(&mut rebased, body.len() as i32);
        rebased.extend_from_slice(&body);
        rest = after;
    }
    rebased
}

/// The batch without records. As in Kafka it keeps the greatest timestamp.
fn header_only(header: &BatchHeader, batch: &[u8]) -> Bytes {
    let mut whole = batch[..HEADER_BYTES].to_vec();
    whole[27..35].copy_from_slice(&(-1_i64).to_be_bytes());
    let attributes = header.attributes.with_compression(Compression::None).bits() & !DELETE_HORIZON;
    finish(whole, attributes, header.max_timestamp, 0)
}

/// Writes what has changed into the header of a whole batch, and its checksum.
fn finish(mut whole: Vec<u8>, attributes: i16, max_timestamp: i64, count: u32) -> Bytes {
    let length = (whole.len() - 12) as i32;
    whole[8..12].copy_from_slice(&length.to_be_bytes());
    whole[21..23].copy_from_slice(&attributes.to_be_bytes());
    whole[35..43].copy_from_slice(&max_timestamp.to_be_bytes());
    whole[57..61].copy_from_slice(&count.to_be_bytes());
    let crc = crc32c::crc32c(&whole[21..]);
    whole[17..21].copy_from_slice(&crc.to_be_bytes());
    whole.into()
}

#[cold]
fn invalid(what: &'static str) -> DecodeError {
    DecodeError::new("RecordBatch.Records", HEADER_BYTES, DecodeReason::Invalid(what))
}

#[cfg(test)]
mod tests {
    use milena_wire::Limits;
    use milena_wire::batch::{
        Attributes, BatchBuilder, BatchMut, ControlRecord, Header, ProducerStamp, RawBatch, end_transaction,
    };
    use milena_wire::pool::Pool;

    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    /// A batch at `base_offset`: keys and values, a second between the records. A null value is `None`.
    fn batch(base_offset: i64, compression: Compression, records: &[(&str, Option<&str>)]) -> Vec<u8> {
        let mut builder = BatchBuilder::new(&Pool::default());
        for (index, (key, value)) in records.iter().enumerate() {
            let headers = [Header::new("h", Some(b"x"))];
            let timestamp = NOW + index as i64 * 1000;
            builder.append(timestamp, Some(key.as_bytes()), value.map(str::as_bytes), &headers).unwrap();
        }
        let sealed = builder.seal_compressed(&mut Compressor::new(), compression, None).unwrap();
        let mut raw = sealed.into_bytes().to_vec();
        BatchMut::new(&mut raw).unwrap().set_base_offset(base_offset);
        raw
    }

    /// Every record of a batch: offset, timestamp, key, value.
    fn read(batch: &Bytes) -> Vec<(i64, i64, String, Option<String>)> {
        let raw = RawBatch::parse(batch).unwrap();
        raw.check_crc().unwrap();
        let records = raw.decompress(&mut Decompressor::new(), &Pool::default(), &Limits::default()).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let record = |record: milena_wire::batch::Record<'_>| {
            assert_eq!(record.headers().count(), 1);
            (record.offset, record.timestamp, record.key.map_or(String::new(), text), record.value.map(text))
        };
        records.records().map(|found| record(found.unwrap())).collect()
    }

    fn terms(now_ms: i64) -> Terms {
        let (producers, aborted) = (BTreeMap::new(), AbortedTransactions::default());
        Terms { end: 1000, producers, aborted, now_ms, tombstone_ms: 500 }
    }

    fn keys(rewriter: &mut Rewriter, batches: &[&[u8]]) -> Keys {
        let mut keys = Keys::default();
        batches.iter().for_each(|batch| rewriter.note_keys(batch, 0, &mut keys, &terms(0)).unwrap());
        keys
    }

    fn rewrite(
        rewriter: &mut Rewriter,
        batch: &[u8],
        keys: &Keys,
        terms: &Terms,
    ) -> Result<Left, DecodeError> {
        rewriter.rewrite(batch, keys, terms, &mut Passed::default())
    }

    #[test]
    fn the_newest_record_of_each_key_stays_where_it_was() {
        for compression in
            [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd]
        {
            let mut rewriter = Rewriter::default();
            let long = "v".repeat(100);
            let one = batch(
                10,
                compression,
                &[("a", Some("1")), ("b", Some(&long)), ("c", Some("3")), ("a", Some("4"))],
            );
            let two = batch(14, compression, &[("c", Some("5")), ("d", Some("6"))]);
            let keys = keys(&mut rewriter, &[&one, &two]);
            assert_eq!(keys.end(), 16);
            let Left::Some(left) = rewrite(&mut rewriter, &one, &keys, &terms(NOW)).unwrap() else {
                panic!("some")
            };
            let header = BatchHeader::parse(&left).unwrap();
            assert_eq!((header.base_offset, header.last_offset(), header.record_count), (10, 13, 2));
            assert_eq!(
                header.attributes.compression().unwrap(),
                BatchHeader::parse(&one).unwrap().attributes.compression().unwrap()
            );
            assert_eq!(header.max_timestamp, NOW + 3000);
            let expected = [
                (11, NOW + 1000, "b".to_owned(), Some(long.clone())),
                (13, NOW + 3000, "a".to_owned(), Some("4".to_owned())),
            ];
            assert_eq!(read(&left), expected);
            assert_eq!(
                rewrite(&mut rewriter, &left, &keys, &terms(NOW)).unwrap(),
                Left::All,
                "a second time"
            );
            assert_eq!(rewrite(&mut rewriter, &two, &keys, &terms(NOW)).unwrap(), Left::All);
        }
    }

    #[test]
    fn what_was_not_looked_at_stays() {
        let mut rewriter = Rewriter::default();
        let one = batch(0, Compression::None, &[("a", Some("1")), ("b", Some("1"))]);
        let two = batch(2, Compression::None, &[("a", Some("2")), ("a", Some("3"))]);
        let keys = keys(&mut rewriter, &[&one]);
        assert_eq!(rewrite(&mut rewriter, &two, &keys, &terms(NOW)).unwrap(), Left::All);
        assert_eq!(rewrite(&mut rewriter, &one, &keys, &terms(NOW)).unwrap(), Left::All);
    }

    #[test]
    fn a_tombstone_stays_until_its_horizon() {
        for compression in [Compression::None, Compression::Zstd] {
            let mut rewriter = Rewriter::default();
            let one = batch(5, compression, &[("a", Some("1")), ("a", None), ("b", Some("2"))]);
            let keys = keys(&mut rewriter, &[&one]);
            let Left::Some(left) = rewrite(&mut rewriter, &one, &keys, &terms(NOW)).unwrap() else {
                panic!("some")
            };
            let header = BatchHeader::parse(&left).unwrap();
            assert!(header.attributes.has_delete_horizon());
            assert_eq!((header.base_timestamp, header.max_timestamp), (NOW + 500, NOW + 2000));
            let tombstone = (6, NOW + 1000, "a".to_owned(), None);
            let value = (7, NOW + 2000, "b".to_owned(), Some("2".to_owned()));
            assert_eq!(read(&left), [tombstone, value.clone()]);
            assert_eq!(rewrite(&mut rewriter, &left, &keys, &terms(NOW + 499)).unwrap(), Left::All);
            let Left::Some(later) = rewrite(&mut rewriter, &left, &keys, &terms(NOW + 500)).unwrap() else {
                panic!("some")
            };
            assert_eq!(read(&later), [value]);
            let header = BatchHeader::parse(&later).unwrap();
            assert_eq!((header.base_offset, header.last_offset()), (5, 7));
        }
    }

    #[test]
    fn a_header_stays_for_the_end_and_for_a_producers_last_sequence() {
        let mut rewriter = Rewriter::default();
        let mut one = batch(3, Compression::Lz4, &[("a", Some("1")), ("b", Some("2"))]);
        let stamp = ProducerStamp { producer_id: 9, producer_epoch: 4, base_sequence: Some(77) };
        BatchMut::new(&mut one).unwrap().set_producer(Some(stamp));
        let two = batch(5, Compression::None, &[("a", Some("3")), ("b", Some("4"))]);
        let keys = keys(&mut rewriter, &[&one, &two]);
        assert_eq!(rewrite(&mut rewriter, &one, &keys, &terms(NOW)).unwrap(), Left::Nothing);
        let of_producer = |last| Terms { producers: [(9, Remembered::Batch(last))].into(), ..terms(NOW) };
        assert_eq!(rewrite(&mut rewriter, &one, &keys, &of_producer(8)).unwrap(), Left::Nothing);
        for terms in [of_producer(4), Terms { end: 5, ..terms(NOW) }] {
            let Left::Some(left) = rewrite(&mut rewriter, &one, &keys, &terms).unwrap() else {
                panic!("a header")
            };
            let header = BatchHeader::parse(&left).unwrap();
            RawBatch::parse(&left).unwrap().check_crc().unwrap();
            assert_eq!((left.len(), header.record_count, header.producer), (HEADER_BYTES, 0, Some(stamp)));
            assert_eq!((header.base_offset, header.last_offset()), (3, 4));
            assert_eq!((header.base_timestamp, header.max_timestamp), (-1, NOW + 1000));
            assert_eq!(header.attributes.compression(), Ok(Compression::None));
            assert_eq!(
                rewrite(&mut rewriter, &left, &keys, &terms).unwrap(),
                Left::Some(left.clone()),
                "a second time"
            );
        }
    }

    /// The marker of a transaction of producer 9 at offset 5.
    fn marker() -> Vec<u8> {
        let record = ControlRecord::Abort { coordinator_epoch: 3 };
        let mut raw = end_transaction(&Pool::default(), record, NOW, 9, 4).into_bytes().to_vec();
        BatchMut::new(&mut raw).unwrap().set_base_offset(5);
        raw
    }

    /// The time of a marker and what it says.
    fn told(marker: &Bytes) -> (i64, ControlRecord) {
        let raw = RawBatch::parse(marker).unwrap();
        let batch = raw.decompress(&mut Decompressor::new(), &Pool::default(), &Limits::default()).unwrap();
        let record = batch.records().next().unwrap().unwrap();
        (record.timestamp, ControlRecord::parse(&record).unwrap())
    }

    #[test]
    fn a_marker_stays_while_a_record_of_its_transaction_does_and_then_until_its_horizon() {
        let mut rewriter = Rewriter::default();
        let (marker, keys) = (marker(), Keys { last_offset: 10, ..Keys::default() });
        let mut one = batch(3, Compression::None, &[("a", Some("1"))]);
        let stamp = ProducerStamp { producer_id: 9, producer_epoch: 4, base_sequence: Some(0) };
        BatchMut::new(&mut one).unwrap().set_producer(Some(stamp));
        BatchMut::new(&mut one).unwrap().set_attributes(Attributes::default().with_transactional(true));
        let mut passed = Passed::default();
        rewriter.rewrite(&one, &keys, &terms(NOW), &mut passed).unwrap();
        assert_eq!(rewriter.rewrite(&marker, &keys, &terms(NOW), &mut passed).unwrap(), Left::All);
        let Left::Some(left) = rewriter.rewrite(&marker, &keys, &terms(NOW), &mut passed).unwrap() else {
            panic!("nothing of the second transaction is there")
        };
        let header = BatchHeader::parse(&left).unwrap();
        RawBatch::parse(&left).unwrap().check_crc().unwrap();
        assert!(header.is_control() && header.attributes.has_delete_horizon());
        assert_eq!((header.base_offset, header.record_count, header.max_timestamp), (5, 1, NOW));
        assert_eq!(header.base_timestamp, NOW + 500);
        assert_eq!(told(&left), (NOW, ControlRecord::Abort { coordinator_epoch: 3 }));
        assert_eq!(rewrite(&mut rewriter, &left, &keys, &terms(NOW + 499)).unwrap(), Left::All);
        assert_eq!(rewrite(&mut rewriter, &left, &keys, &terms(NOW + 500)).unwrap(), Left::Nothing);
        let of = |remembered| Terms { producers: [(9, remembered)].into(), ..terms(NOW + 500) };
        for terms in [of(Remembered::Marker(5)), of(Remembered::Batch(4))] {
            assert_eq!(rewrite(&mut rewriter, &left, &keys, &terms).unwrap(), Left::Nothing, "{terms:?}");
        }
        for terms in [of(Remembered::Marker(4)), Terms { end: 6, ..terms(NOW + 500) }] {
            let Left::Some(empty) = rewrite(&mut rewriter, &left, &keys, &terms).unwrap() else {
                panic!("a header")
            };
            let header = BatchHeader::parse(&empty).unwrap();
            assert!(header.is_control() && header.record_count == 0, "{terms:?}");
            assert_eq!(rewrite(&mut rewriter, &empty, &keys, &terms).unwrap(), Left::Some(empty.clone()));
            assert_eq!(
                rewrite(&mut rewriter, &empty, &keys, &of(Remembered::Marker(5))).unwrap(),
                Left::Nothing
            );
        }
    }

    #[test]
    fn records_without_a_key_go() {
        let mut rewriter = Rewriter::default();
        let mut builder = BatchBuilder::new(&Pool::default());
        builder.append(NOW, None, Some(b"1"), &[]).unwrap();
        let one = builder.seal().into_bytes();
        let keys = keys(&mut rewriter, &[&one]);
        assert_eq!(rewrite(&mut rewriter, &one, &keys, &terms(NOW)).unwrap(), Left::Nothing);
    }

    #[test]
    fn no_changed_byte_brings_it_down() {
        let mut rewriter = Rewriter::default();
        let whole = batch(0, Compression::None, &[("a", Some("1")), ("a", None), ("b", Some("2"))]);
        let keys = keys(&mut rewriter, &[&whole]);
        for at in 0..whole.len() {
            for value in 0..=255 {
                let mut changed = whole.clone();
                changed[at] = value;
                let _ = rewriter.note_keys(&changed, 0, &mut Keys::default(), &terms(NOW));
                let _ = rewrite(&mut rewriter, &changed, &keys, &terms(NOW));
            }
        }
    }
}
