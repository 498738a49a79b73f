//! Reads logs back, in two ways: with the broker's lists of aborted transactions, as consumers do, and by the markers in the log.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use milena_messages::ErrorCode;
use milena_messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use milena_sim::Operator;
use milena_wire::Limits;
use milena_wire::batch::{Batches, ControlRecord};
use milena_wire::codec::Decompressor;
use milena_wire::pool::Pool;

use super::PARTITIONS;
use crate::batch;
use crate::brokers::TOPIC;

const FETCH_BY_NAME: i16 = 12;

#[derive(Debug, Default)]
pub(super) struct Logs {
    /// The records that are committed, by partition.
    pub(super) committed: Vec<Vec<u32>>,
    /// All records, those that were aborted too.
    pub(super) written: BTreeSet<u32>,
}

impl Logs {
    pub(super) fn read(seed: u64, operator: &Operator) -> Self {
        let mut logs = Self::default();
        for partition in 0..PARTITIONS {
            let committed = logs.read_partition(seed, operator, partition);
            logs.committed.push(committed);
        }
        logs
    }

    fn read_partition(&mut self, seed: u64, operator: &Operator, partition: usize) -> Vec<u32> {
        let leader = operator.leader(TOPIC, partition as i32).expect("the partition has a leader");
        let fetched = FetchPartition {
            partition: partition as i32,
            current_leader_epoch: -1,
            partition_max_bytes: i32::MAX,
            ..Default::default()
        };
        let topic = FetchTopic { topic: TOPIC.into(), partitions: vec![fetched], ..Default::default() };
        let request = FetchRequest {
            replica_id: -1,
            max_bytes: i32::MAX,
            session_epoch: -1,
            isolation_level: 1,
            topics: vec![topic],
            ..Default::default()
        };
        let answer = operator.ask(leader, FETCH_BY_NAME, &request);
        let answer = &answer.responses[0].partitions[0];
        assert_eq!(answer.error_code, ErrorCode::NONE, "seed {seed}: partition {partition} is read");
        let (stable, end) = (answer.last_stable_offset, answer.high_watermark);
        assert_eq!(stable, end, "seed {seed}: a transaction is open in partition {partition}");

        let aborted = answer.aborted_transactions.iter().flatten();
        let mut aborted: Vec<_> = aborted.map(|of| (of.first_offset, of.producer_id)).collect();
        aborted.sort_unstable();
        let (mut aborted, mut aborting) = (VecDeque::from(aborted), BTreeSet::new());
        let (mut by_lists, mut by_markers) = (Vec::new(), BTreeMap::new());
        let mut open = BTreeMap::<i64, Vec<(i64, u32)>>::new();
        let mut next = 0;
        for raw in Batches::new(answer.records.clone().unwrap_or_default()) {
            let raw = raw.expect("a whole batch");
            raw.check_crc().expect("a batch as it was written");
            let header = raw.header;
            assert_eq!(header.base_offset, next, "seed {seed}: offsets follow one another");
            next = header.base_offset + i64::from(header.last_offset_delta) + 1;
            let producer = header.producer.expect("a producer's batch").producer_id;
            assert!(header.attributes.is_transactional(), "seed {seed}: all batches are of transactions");
            while let Some((_, of)) = aborted.pop_front_if(|(first, _)| *first <= header.base_offset) {
                aborting.insert(of);
            }
            let batch = raw.decompress(&mut Decompressor::new(), &Pool::unpooled(), &Limits::default());
            for record in batch.expect("a batch that can be read").records() {
                let record = record.map_err(|error| error.error).expect("a record that can be read");
                if header.attributes.is_control() {
                    let of_producer = open.remove(&producer).unwrap_or_default();
                    match ControlRecord::parse(&record).expect("a marker") {
                        ControlRecord::Commit { .. } => by_markers.extend(of_producer),
                        ControlRecord::Abort { .. } => drop(aborting.remove(&producer)),
                        other => panic!("seed {seed}: {other:?}"),
                    }
                    continue;
                }
                let number = batch::number(record.value.expect("a value"));
                let is_new = self.written.insert(number);
                assert!(is_new, "seed {seed}: record {number} is twice in the logs");
                open.entry(producer).or_default().push((record.offset, number));
                if !aborting.contains(&producer) {
                    by_lists.push(number);
                }
            }
        }
        assert_eq!(next, end, "seed {seed}: partition {partition} is read to its end");
        assert!(open.is_empty(), "seed {seed}: {open:?} have no marker");
        let by_markers: Vec<_> = by_markers.into_values().collect();
        assert_eq!(by_lists, by_markers, "seed {seed}: what consumers see of partition {partition}");
        by_lists
    }
}
