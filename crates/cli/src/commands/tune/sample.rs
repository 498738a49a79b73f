//! The records that are measured, and the batches that the producer would make of them.

use std::ops::Range;

use milena::{Compression, Header};
use milena_wire::batch::{AppendError, BatchBuilder};
use milena_wire::pool::Pool;

/// A record of the sample.
#[derive(Debug, Default)]
pub(super) struct Sampled {
    pub(super) partition: i32,
    /// Milliseconds since the epoch.
    pub(super) timestamp: i64,
    pub(super) key: Option<Box<[u8]>>,
    pub(super) value: Option<Box<[u8]>>,
    pub(super) headers: Vec<SampledHeader>,
}

/// The name and the value of a header.
pub(super) type SampledHeader = (Box<[u8]>, Option<Box<[u8]>>);

/// Records, those of a partition one after another.
#[derive(Debug, Default)]
pub(super) struct Sample {
    pub(super) records: Vec<Sampled>,
    /// Of the batches that they came in, if they came from a topic.
    pub(super) stored: Vec<Stored>,
    /// Where the records are from, in words.
    pub(super) source: String,
    /// Why there are not more of them.
    pub(super) end: Option<String>,
}

/// The batches of a topic that have one codec.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored {
    pub(super) codec: Compression,
    pub(super) batch_count: u64,
    /// As they are stored.
    pub(super) bytes: u64,
    /// Of the records in them, decompressed.
    pub(super) plain_bytes: u64,
}

/// Consecutive batches that are measured together, because a small one takes too little time. Each is a range of the sample's records.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) batches: Vec<Range<usize>>,
    pub(super) plain_bytes: usize,
}

/// A chunk has at least this many bytes, if the sample has.
const CHUNK_BYTES: usize = 256 * 1024;
/// What the header of a batch takes.
const HEADER_BYTES: u64 = 61;

impl Sampled {
    /// The bytes that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        let length = |bytes: &Option<Box<[u8]>>| bytes.as_ref().map_or(0, |bytes| bytes.len());
        let headers: usize = self.headers.iter().map(|(key, value)| key.len() + length(value)).sum();
        length(&self.key) + length(&self.value) + headers
    }

    /// Appends it to a batch. `headers` is room that is used again.
    pub(super) fn append<'a>(
        &'a self,
        builder: &mut BatchBuilder,
        headers: &mut Vec<Header<'a>>,
    ) -> Result<(), AppendError> {
        headers.clear();
        headers.extend(self.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }));
        builder.append(self.timestamp, self.key.as_deref(), self.value.as_deref(), headers).map(drop)
    }
}

impl Stored {
    /// The mean size of such batches before compression.
    pub(super) fn batch_bytes(all: &[Self]) -> Option<usize> {
        let count: u64 = all.iter().map(|one| one.batch_count).sum();
        let bytes: u64 = all.iter().map(|one| one.plain_bytes + one.batch_count * HEADER_BYTES).sum();
        usize::try_from(bytes.checked_div(count)?).ok()
    }
}

impl Sample {
    pub(super) fn bytes(&self) -> usize {
        self.records.iter().map(Sampled::bytes).sum()
    }

    /// The batches of at most `batch_bytes` before compression that a producer makes of the records, in chunks.
    pub(super) fn chunks(&self, batch_bytes: usize) -> Vec<Chunk> {
        let pool = Pool::default();
        let mut chunks = vec![Chunk::default()];
        let mut headers = Vec::new();
        let mut begin = 0;
        while begin < self.records.len() {
            let mut builder = new_batch(&pool, batch_bytes);
            let partition = self.records[begin].partition;
            let mut end = begin;
            while let Some(record) = self.records.get(end)
                && record.partition == partition
                && record.append(&mut builder, &mut headers).is_ok()
            {
                end += 1;
            }
            // A record that no batch takes would be tried for ever.
            let end = end.max(begin + 1);
            if chunks.last().is_some_and(|chunk| chunk.plain_bytes >= CHUNK_BYTES) {
                chunks.push(Chunk::default());
            }
            if let Some(chunk) = chunks.last_mut() {
                chunk.plain_bytes += builder.bytes();
                chunk.batches.push(begin..end);
            }
            begin = end;
        }
        chunks
    }
}

/// An open batch as the producer opens it.
pub(super) fn new_batch(pool: &Pool, batch_bytes: usize) -> BatchBuilder {
    // A record that is larger than a batch travels alone.
    BatchBuilder::with_expected_bytes(pool, batch_bytes).bytes_max(batch_bytes).record_bytes_max(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(partition: i32, bytes: usize) -> Sampled {
        Sampled { partition, value: Some(vec![7; bytes].into()), ..Sampled::default() }
    }

    #[test]
    fn batches_are_full_and_of_one_partition() {
        let mut records: Vec<_> = (0..10).map(|_| record(0, 100)).collect();
        records.extend([record(1, 100), record(1, 5000), record(1, 1)]);
        let sample = Sample { records, ..Sample::default() };
        let chunks = sample.chunks(500);
        let batches: Vec<_> = chunks.iter().flat_map(|chunk| chunk.batches.clone()).collect();
        // A record takes 108 bytes, a header 61: four fit. The large one is alone.
        assert_eq!(batches, [0..4, 4..8, 8..10, 10..11, 11..12, 12..13]);
        assert_eq!(chunks.len(), 1);
    }

    #[test]
    fn small_batches_are_measured_together() {
        let sample = Sample { records: (0..600).map(|_| record(0, 1000)).collect(), ..Sample::default() };
        let chunks = sample.chunks(1);
        assert_eq!(chunks.len(), 3);
        assert!(chunks[0].plain_bytes >= CHUNK_BYTES && chunks[0].batches.len() == chunks[1].batches.len());
        assert_eq!(chunks.iter().map(|chunk| chunk.batches.len()).sum::<usize>(), 600);
    }

    #[test]
    fn the_topics_batches_have_a_mean_size() {
        let one =
            |batch_count, plain_bytes| Stored { codec: Compression::Lz4, batch_count, bytes: 1, plain_bytes };
        assert_eq!(Stored::batch_bytes(&[one(1, 1000), one(3, 5000)]), Some(1561));
        assert_eq!(Stored::batch_bytes(&[]), None);
    }
}
