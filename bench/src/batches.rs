//! Record batches that are made once and served or written many times. All have one size and one codec, and the same records
//! in turn.
//!
//! The checksum does not cover a batch's offset, so the same bytes can be served at any offset.

use std::cmp::Ordering;

use bytes::Bytes;
use milena_wire::batch::{AppendError, BatchBuilder};
use milena_wire::codec::{Compression, Compressor};
use milena_wire::pool::Pool;

use crate::payload::Lines;

/// Batches that all have the same number of records.
#[derive(Debug)]
pub(crate) struct Batches {
    values: Lines,
    keys: Option<Lines>,
    codec: Compression,
    whole: Vec<Bytes>,
    records_per_batch: u32,
}

/// The content of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) codec: Compression,
    /// The bytes of a batch before compression.
    pub(crate) batch_bytes: usize,
}

/// The most bytes of different batches. They use every line once, unless they would not stay in a processor's cache.
const BATCHES_BYTES_MAX: usize = 1 << 20;

const TIMESTAMP: i64 = 1_700_000_000_000;

impl Batches {
    /// Makes the batches. All have as many records as fit in the first one.
    pub(crate) fn make(values: Lines, keys: Option<Lines>, shape: Shape) -> Result<Self, String> {
        let mut batches =
            Self { values, keys, codec: shape.codec, whole: Vec::new(), records_per_batch: u32::MAX };
        let (count, first) = batches.build(0, u32::MAX, shape.batch_bytes)?;
        batches.records_per_batch = count;
        batches.whole.push(first);
        let different = batches.values.count().div_ceil(count as usize);
        let affordable = (BATCHES_BYTES_MAX / shape.batch_bytes).max(1);
        for index in 1..different.min(affordable) as u64 {
            let batch = batches.build(index * u64::from(count), count, usize::MAX)?.1;
            batches.whole.push(batch);
        }
        Ok(batches)
    }

    /// The number of records in each batch.
    pub(crate) fn records_per_batch(&self) -> u32 {
        self.records_per_batch
    }

    /// A whole batch, at offset 0.
    pub(crate) fn whole(&self, index: u64) -> &Bytes {
        &self.whole[(index % self.whole.len() as u64) as usize]
    }

    /// The last batch of a partition of `records`, if it is not a whole one.
    pub(crate) fn tail(&self, records: u64) -> Result<Option<Bytes>, String> {
        match (records % u64::from(self.records_per_batch)) as u32 {
            0 => Ok(None),
            count => self.build(0, count, usize::MAX).map(|(_, batch)| Some(batch)),
        }
    }

    /// A batch of a partition of `records`; `None` after its end.
    pub(crate) fn of_partition(&self, index: u64, records: u64) -> Result<Option<Bytes>, String> {
        match index.cmp(&(records / u64::from(self.records_per_batch))) {
            Ordering::Less => Ok(Some(self.whole(index).clone())),
            Ordering::Equal => self.tail(records),
            Ordering::Greater => Ok(None),
        }
    }

    /// Builds a batch of up to `count` records from `first` that take up to `bytes`; returns their number and the batch.
    fn build(&self, first: u64, count: u32, bytes: usize) -> Result<(u32, Bytes), String> {
        let mut builder = BatchBuilder::new(&Pool::unpooled()).bytes_max(bytes).record_bytes_max(1 << 24);
        while builder.record_count() < count {
            let record = first + u64::from(builder.record_count());
            let key = self.keys.as_ref().map(|keys| &keys.line(record)[..]);
            let timestamp = TIMESTAMP + i64::from(builder.record_count() / 64);
            match builder.append(timestamp, key, Some(self.values.line(record)), &[]) {
                Ok(_) => {}
                Err(AppendError::Full) => break,
                Err(error) => return Err(error.to_string()),
            }
        }
        let count = builder.record_count();
        let sealed = builder.seal_compressed(&mut Compressor::new(), self.codec, None);
        Ok((count, sealed.map_err(|error| error.to_string())?.into_bytes()))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;
    use milena_wire::batch::BatchHeader;

    pub(crate) fn lines(count: usize, bytes: usize) -> Lines {
        // Tests run in parallel, and each removes its own file.
        static FILES: AtomicUsize = AtomicUsize::new(0);
        let text: String = (0..count).map(|line| format!("{line:0bytes$}\n")).collect();
        let file = FILES.fetch_add(1, Relaxed);
        let path = std::env::temp_dir().join(format!("milena-lines-{}-{file}", std::process::id()));
        std::fs::write(&path, text).expect("written");
        let lines = Lines::read(&path).expect("lines");
        let _ = std::fs::remove_file(path);
        lines
    }

    #[test]
    fn all_batches_have_as_many_records_as_fit_the_first() {
        let shape = Shape { codec: Compression::None, batch_bytes: 4096 };
        let batches = Batches::make(lines(1024, 100), None, shape).expect("made");
        assert_eq!(batches.whole.len(), 1024usize.div_ceil(batches.records_per_batch as usize));
        for batch in &batches.whole {
            let header = BatchHeader::parse(batch).expect("a batch");
            assert_eq!((header.record_count, header.bytes), (batches.records_per_batch, batch.len()));
            assert!(batch.len() <= 4096);
        }
        let per_batch = u64::from(batches.records_per_batch);
        let count = |index| {
            let batch = batches.of_partition(index, 2 * per_batch + 7).expect("made")?;
            Some(BatchHeader::parse(&batch).expect("a batch").record_count)
        };
        assert_eq!((count(1), count(2), count(3)), (Some(per_batch as u32), Some(7), None));
    }

    #[test]
    fn a_value_larger_than_a_batch_is_a_batch() {
        let shape = Shape { codec: Compression::None, batch_bytes: 4096 };
        let batches = Batches::make(lines(4, 10_000), None, shape).expect("made");
        assert_eq!((batches.records_per_batch, batches.whole.len()), (1, 4.min(BATCHES_BYTES_MAX / 4096)));
    }
}
