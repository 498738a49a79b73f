//! Requests straight to the broker's machine, without a network that could lose them: an operator's commands, and reading
//! whole logs to check what clients were told.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use milena_broker::{Answer, Machine, Now, Peer};
use milena_messages::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use milena_messages::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use milena_messages::delete_topics::DeleteTopicsRequest;
use milena_messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use milena_messages::header::{RequestHeader, ResponseHeader};
use milena_messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use milena_messages::{ErrorCode, Message, Request};
use milena_wire::batch::Batches;
use milena_wire::codec::Decompressor;
use milena_wire::pool::Pool;
use milena_wire::{Limits, Reader, Writer};

/// Sends requests to the machine, all at the same moment.
#[derive(Clone)]
pub struct Operator {
    machine: Arc<Machine>,
    now: Now,
}

/// A record in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// The key; `None` if it is null.
    pub key: Option<Bytes>,
    /// The value; `None` if it is null.
    pub value: Option<Bytes>,
}

/// The last version of FetchRequest that names topics by name.
const FETCH_BY_NAME: i16 = 12;
/// The last version of DeleteTopicsRequest that names topics by name.
const DELETE_BY_NAME: i16 = 5;
const METADATA: i16 = 12;
const CREATE: i16 = 7;
const GROW: i16 = 3;

impl Operator {
    /// An operator of this machine.
    pub fn new(machine: Arc<Machine>, now: Now) -> Self {
        Self { machine, now }
    }

    /// The answer to `request` at `version`, from `node`.
    ///
    /// # Panics
    /// When the machine does not answer at once.
    pub fn ask<R: Request>(&self, node: i32, version: i16, request: &R) -> R::Response {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let mut peer = self.machine.connect(node, address, self.now).expect("the node is up");
        match ask(&self.machine, &mut peer, self.now, version, request) {
            Asked::Answered(response) => response,
            Asked::Silent | Asked::Parked(_) => panic!("{} was not answered at once", R::NAME),
        }
    }

    /// Creates a topic with the cluster's default replication.
    ///
    /// # Panics
    /// When the broker refuses that.
    pub fn create_topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let config = |(name, value): &(&str, &str)| CreatableTopicConfig {
            name: (*name).into(),
            value: Some((*value).into()),
            ..Default::default()
        };
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: -1,
            configs: configs.iter().map(config).collect(),
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 1000, ..Default::default() };
        let answer = self.ask(self.any_node(), CREATE, &request);
        assert_eq!(answer.topics[0].error_code, ErrorCode::NONE, "topic {name} is created");
    }

    /// Gives a topic more partitions.
    ///
    /// # Panics
    /// When the broker refuses that.
    pub fn grow_topic(&self, name: &str, partitions: i32) {
        let topic = CreatePartitionsTopic {
            name: name.into(),
            count: partitions,
            assignments: None,
            ..Default::default()
        };
        let request = CreatePartitionsRequest { topics: vec![topic], timeout_ms: 1000, ..Default::default() };
        let answer = self.ask(self.any_node(), GROW, &request);
        assert_eq!(answer.results[0].error_code, ErrorCode::NONE, "topic {name} has {partitions} partitions");
    }

    /// Deletes a topic.
    ///
    /// # Panics
    /// When the broker refuses that.
    pub fn delete_topic(&self, name: &str) {
        let request =
            DeleteTopicsRequest { topic_names: vec![name.into()], timeout_ms: 1000, ..Default::default() };
        let answer = self.ask(self.any_node(), DELETE_BY_NAME, &request);
        assert_eq!(answer.responses[0].error_code, ErrorCode::NONE, "topic {name} is deleted");
    }

    /// The cluster's metadata of a topic.
    pub fn metadata(&self, topic: &str) -> MetadataResponse {
        let named = MetadataRequestTopic { name: Some(topic.into()), ..Default::default() };
        let request = MetadataRequest { topics: Some(vec![named]), ..Default::default() };
        self.ask(self.any_node(), METADATA, &request)
    }

    /// The node that leads a partition, if one does.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<i32> {
        let metadata = self.metadata(topic);
        let partitions = metadata.topics.iter().flat_map(|topic| &topic.partitions);
        let mut found = partitions.filter(|found| found.partition_index == partition);
        found.next().map(|found| found.leader_id).filter(|leader| *leader >= 0)
    }

    /// All records of a partition. The index of each is its offset.
    ///
    /// # Panics
    /// When the partition has no leader, or its log cannot be read or has a gap.
    pub fn log(&self, topic: &str, partition: i32) -> Vec<Logged> {
        let leader = self.leader(topic, partition).expect("the partition has a leader");
        let mut log = Vec::new();
        loop {
            let fetched = FetchPartition {
                partition,
                fetch_offset: log.len() as i64,
                current_leader_epoch: -1,
                partition_max_bytes: i32::MAX,
                ..Default::default()
            };
            let topic = FetchTopic { topic: topic.into(), partitions: vec![fetched], ..Default::default() };
            let request = FetchRequest {
                replica_id: -1,
                max_bytes: i32::MAX,
                session_epoch: -1,
                topics: vec![topic],
                ..Default::default()
            };
            let answer = self.ask(leader, FETCH_BY_NAME, &request);
            let answer = &answer.responses[0].partitions[0];
            assert_eq!(answer.error_code, ErrorCode::NONE, "the log of partition {partition} is read");
            let before = log.len();
            read(answer.records.clone().unwrap_or_default(), &mut log);
            if log.len() == before {
                return log;
            }
        }
    }

    /// A node that is up.
    fn any_node(&self) -> i32 {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let up = (1..i32::MAX).find(|node| self.machine.connect(*node, address, self.now).is_ok());
        up.expect("a node is up")
    }
}

impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operator").finish_non_exhaustive()
    }
}

/// Adds the records in `records` that follow those of `log`.
fn read(records: Bytes, log: &mut Vec<Logged>) {
    for raw in Batches::new(records) {
        let raw = raw.expect("a whole batch");
        raw.check_crc().expect("a batch as it was written");
        let batch = raw.decompress(&mut Decompressor::new(), &Pool::default(), &Limits::default());
        for record in batch.expect("a batch that can be read").records_from(log.len() as i64) {
            let record = record.map_err(|error| error.error).expect("a record that can be read");
            assert_eq!(record.offset, log.len() as i64, "offsets follow one another");
            log.push(Logged {
                key: record.key.map(Bytes::copy_from_slice),
                value: record.value.map(Bytes::copy_from_slice),
            });
        }
    }
}

/// The machine's answer to a request.
#[derive(Debug)]
pub enum Asked<T> {
    /// The response.
    Answered(T),
    /// The request gets no response.
    Silent,
    /// The request waits until it is [resumed](resume).
    Parked(milena_broker::Parked),
}

/// Sends `request` to `machine`.
///
/// # Panics
/// When the machine refuses it.
pub fn ask<R: Request>(
    machine: &Machine,
    peer: &mut Peer,
    now: Now,
    version: i16,
    request: &R,
) -> Asked<R::Response> {
    let answer = machine.handle(peer, &frame(version, request), now, usize::MAX);
    asked::<R>(version, answer.expect("a request that the broker understands"))
}

/// Resumes a parked request.
///
/// # Panics
/// When the response cannot be encoded.
pub fn resume<R: Request>(
    machine: &Machine,
    peer: &mut Peer,
    now: Now,
    version: i16,
    parked: milena_broker::Parked,
) -> Asked<R::Response> {
    asked::<R>(version, machine.resume(peer, parked, now, usize::MAX).expect("an answer"))
}

fn asked<R: Request>(version: i16, answer: Answer) -> Asked<R::Response> {
    match answer {
        Answer::Nothing => Asked::Silent,
        Answer::Later(parked) => Asked::Parked(parked),
        Answer::Now(frame) => {
            let mut bytes = Bytes::from(frame.to_vec());
            assert_eq!(bytes.get_i32() as usize, bytes.len(), "the frame's size");
            let mut reader = Reader::new(&bytes);
            ResponseHeader::decode(&mut reader, R::KEY.response_header_version(version)).expect("a header");
            let response = R::Response::decode(&mut reader, version).expect("a response");
            reader.finish(R::NAME).expect("nothing after it");
            Asked::Answered(response)
        }
    }
}

fn frame<R: Request>(version: i16, request: &R) -> Bytes {
    let mut writer = Writer::new();
    let header = RequestHeader {
        request_api_key: R::KEY.as_i16(),
        request_api_version: version,
        ..Default::default()
    };
    header.encode(&mut writer, R::KEY.request_header_version(version)).expect("a header");
    request.encode(&mut writer, version).expect("a request");
    writer.finish().to_vec().into()
}
