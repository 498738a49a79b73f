//! The sink's topics: the records of each partition, and its end.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use milena_messages::ErrorCode;
use milena_wire::{Str, Uuid};

use super::sequences::Sequences;
use crate::batches::Batches;
use crate::topic_spec::TopicSpec;

/// All topics, in the order of the command line.
#[derive(Debug)]
pub(super) struct Topics {
    all: Vec<Topic>,
    by_name: HashMap<Str, usize>,
}

#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: Str,
    pub(super) id: Uuid,
    pub(super) partitions: Vec<Partition>,
}

#[derive(Debug)]
pub(super) struct Partition {
    pub(super) leader: i32,
    /// The number of records that are served, from offset 0.
    pub(super) records: u64,
    /// The last batch, if it has fewer records.
    tail: Bytes,
    log: Mutex<Log>,
}

/// The state that producers change.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) end: i64,
    pub(super) sequences: Sequences,
}

/// Bytes of a batch that is to lie at an offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) base_offset: i64,
    /// The batch as it was made, at offset 0; it may be cut off.
    pub(super) bytes: Bytes,
}

impl Topics {
    pub(super) fn make(specs: &[TopicSpec], nodes: i32, batches: Option<&Batches>) -> Result<Self, String> {
        let mut topics = Self { all: Vec::new(), by_name: HashMap::new() };
        for spec in specs {
            topics.by_name.insert(spec.name.as_str().into(), topics.all.len());
            topics.all.push(Topic::make(spec, topics.all.len(), nodes, batches)?);
        }
        Ok(topics)
    }

    pub(super) fn all(&self) -> &[Topic] {
        &self.all
    }

    /// Finds a topic by its name, or by its id if the name is empty.
    pub(super) fn find(&self, name: &Str, id: Uuid) -> Option<&Topic> {
        self.index(name, id).map(|index| &self.all[index])
    }

    pub(super) fn index(&self, name: &Str, id: Uuid) -> Option<usize> {
        if name.is_empty() {
            self.all.iter().position(|topic| topic.id == id)
        } else {
            self.by_name.get(name).copied()
        }
    }
}

impl Topic {
    fn make(spec: &TopicSpec, index: usize, nodes: i32, batches: Option<&Batches>) -> Result<Self, String> {
        let partition = |(index, records)| Partition::make(index % nodes, records, batches);
        let partitions: Result<_, _> = (0..).zip(spec.spread(nodes)).map(partition).collect();
        let mut id = *b"milena-sink\0\0\0\0\0";
        id[12..].copy_from_slice(&(index as u32 + 1).to_be_bytes());
        Ok(Self { name: spec.name.as_str().into(), id: Uuid::from_bytes(id), partitions: partitions? })
    }

    pub(super) fn partition(&self, index: i32) -> Result<&Partition, ErrorCode> {
        let partition = usize::try_from(index).ok().and_then(|index| self.partitions.get(index));
        partition.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
    }

    /// The number of records, and the bytes of all their batches.
    pub(super) fn stored(&self, batches: Option<&Batches>) -> (u64, u64) {
        let sum = |(records, bytes), partition: &Partition| {
            (records + partition.records, bytes + batches.map_or(0, |batches| partition.bytes(batches)))
        };
        self.partitions.iter().fold((0, 0), sum)
    }
}

impl Partition {
    fn make(leader: i32, records: u64, batches: Option<&Batches>) -> Result<Self, String> {
        let tail = match batches {
            None if records > 0 => return Err("records are served of values: --values".into()),
            Some(batches) => batches.tail(records)?.unwrap_or_default(),
            None => Bytes::new(),
        };
        let log = Log { end: records as i64, sequences: Sequences::default() };
        Ok(Self { leader, records, tail, log: Mutex::new(log) })
    }

    pub(super) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first offset. Produced records are dropped.
    pub(super) fn start(&self) -> i64 {
        if self.records > 0 { 0 } else { self.log().end }
    }

    fn bytes(&self, batches: &Batches) -> u64 {
        let whole = self.records / u64::from(batches.records_per_batch());
        let bytes: u64 = (0..whole).map(|index| batches.whole(index).len() as u64).sum();
        bytes + self.tail.len() as u64
    }

    /// Reads up to `bytes_max` from `offset`. As with Kafka, the last batch may be cut off. With `must`, the first batch is whole
    /// whatever its size (KIP-74); otherwise a first batch that would be cut off is left out.
    pub(super) fn slices(&self, batches: &Batches, offset: u64, bytes_max: usize, must: bool) -> Vec<Slice> {
        let per_batch = u64::from(batches.records_per_batch());
        let mut slices = Vec::new();
        let mut left = bytes_max;
        let mut index = offset / per_batch;
        while offset < self.records && index * per_batch < self.records {
            let is_tail = (index + 1) * per_batch > self.records;
            let batch = if is_tail { &self.tail } else { batches.whole(index) };
            if slices.is_empty() && batch.len() > left {
                if !must {
                    break;
                }
                left = batch.len();
            }
            if left == 0 {
                break;
            }
            let bytes = batch.slice(..batch.len().min(left));
            left -= bytes.len();
            slices.push(Slice { base_offset: (index * per_batch) as i64, bytes });
            index += 1;
        }
        slices
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batches::Shape;
    use crate::batches::tests::lines;
    use milena_wire::codec::Compression;

    fn batches() -> Batches {
        let shape = Shape { codec: Compression::None, batch_bytes: 1000 };
        Batches::make(lines(64, 100), None, shape).expect("made")
    }

    #[test]
    fn a_topic_has_the_records_it_was_given() {
        let spec: TopicSpec = "t:6:101:2".parse().expect("a topic");
        let topic = Topic::make(&spec, 0, 3, Some(&batches())).expect("made");
        assert_eq!(topic.stored(Some(&batches())).0, 101);
        let leaders: Vec<i32> = topic.partitions.iter().map(|partition| partition.leader).collect();
        assert_eq!(leaders, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn a_read_is_cut_where_the_limit_is() {
        let batches = batches();
        let per_batch = u64::from(batches.records_per_batch());
        let partition = Partition::make(0, per_batch * 3 + 1, Some(&batches)).expect("made");
        let whole = batches.whole(0).len();
        let lengths = |offset, bytes_max, must| {
            let slices = partition.slices(&batches, offset, bytes_max, must);
            slices
                .iter()
                .map(|slice| (slice.base_offset as u64 / per_batch, slice.bytes.len()))
                .collect::<Vec<_>>()
        };
        assert_eq!(lengths(0, 2 * whole + 5, false), [(0, whole), (1, whole), (2, 5)]);
        assert_eq!(lengths(per_batch - 1, whole, false), [(0, whole)]);
        assert_eq!(lengths(per_batch, whole - 1, true), [(1, whole)]);
        assert_eq!(lengths(per_batch, whole - 1, false), []);
        assert_eq!(lengths(0, 0, false), []);
        let tail = partition.tail.len();
        assert_eq!(lengths(3 * per_batch, 1 << 20, false), [(3, tail)]);
        assert_eq!(lengths(3 * per_batch + 1, 1 << 20, true), []);
        assert_eq!(partition.bytes(&batches), (3 * whole + tail) as u64);
    }
}
