//! A cluster without sockets, a clock that stands still until told, and short ways to ask things.

use std::net::SocketAddr;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use milena_broker::{Answer, Broker, Builder, Machine, Now, Parked, Peer, Refused};
use milena_messages::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use milena_messages::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use milena_messages::header::{RequestHeader, ResponseHeader};
use milena_messages::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, TopicProduceData,
};
use milena_messages::{ErrorCode, Message, Request};
use milena_wire::batch::{BatchBuilder, BatchHeader};
use milena_wire::pool::Pool;
use milena_wire::{Reader, Str, Writer};

/// A cluster and its time.
pub(crate) struct Rig {
    pub(crate) machine: Machine,
    pub(crate) now: Now,
}

/// The outcome of a request.
pub(crate) enum Outcome<T> {
    Answered(T),
    Silent,
    Parked(Parked),
}

impl<T> Outcome<T> {
    /// The answer, which there is.
    pub(crate) fn answered(self) -> T {
        match self {
            Self::Answered(answer) => answer,
            Self::Silent => panic!("no answer"),
            Self::Parked(_) => panic!("parked"),
        }
    }
}

/// The version the helpers speak: named topics, no ids to look up.
pub(crate) const FETCH: i16 = 12;
pub(crate) const PRODUCE: i16 = 12;

impl Rig {
    pub(crate) fn new(nodes: u16) -> Self {
        Self::with(Broker::builder().nodes(nodes))
    }

    pub(crate) fn with(builder: Builder) -> Self {
        let machine = builder.seed(7).machine().expect("starts");
        Self { machine, now: Now { instant: Instant::now(), unix_ms: 1_700_000_000_000 } }
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now = self.now.plus(time);
    }

    pub(crate) fn try_send<R: Request>(
        &self,
        node: i32,
        version: i16,
        request: &R,
    ) -> Result<Outcome<R::Response>, Refused> {
        let answer = self.handle(node, &frame(version, request))?;
        Ok(Self::outcome::<R>(version, answer))
    }

    /// A new connection to a node.
    pub(crate) fn connect(&self, node: i32) -> Peer {
        let address = SocketAddr::from(([127, 0, 0, 1], 40_000));
        self.machine.connect(node, address, self.now).expect("the node is up")
    }

    /// Hands in one request over a connection of its own.
    pub(crate) fn handle(&self, node: i32, frame: &Bytes) -> Result<Answer, Refused> {
        self.machine.handle(&mut self.connect(node), frame, self.now, usize::MAX)
    }

    /// Asks and gets an answer at once.
    pub(crate) fn ask<R: Request>(&self, node: i32, version: i16, request: &R) -> R::Response {
        match self.try_send(node, version, request).expect("understood") {
            Outcome::Answered(response) => response,
            Outcome::Silent => panic!("no answer to {}", R::NAME),
            Outcome::Parked(_) => panic!("{} was parked", R::NAME),
        }
    }

    /// Resumes a request that came to node 1.
    pub(crate) fn resume<R: Request>(&self, version: i16, parked: Parked) -> Outcome<R::Response> {
        let mut peer = self.connect(1);
        let answer = self.machine.resume(&mut peer, parked, self.now, usize::MAX).expect("encodes");
        Self::outcome::<R>(version, answer)
    }

    pub(crate) fn outcome<R: Request>(version: i16, answer: Answer) -> Outcome<R::Response> {
        match answer {
            Answer::Now(frame) => {
                let mut raw = Bytes::from(frame.to_vec());
                assert_eq!(raw.get_i32() as usize, raw.len(), "the frame's size");
                let mut reader = Reader::new(&raw);
                let header_version = R::KEY.response_header_version(version);
                let header = ResponseHeader::decode(&mut reader, header_version).expect("a header");
                assert_eq!(header.correlation_id, 99);
                let response = R::Response::decode(&mut reader, version).expect("a response");
                reader.finish(R::NAME).expect("nothing left");
                Outcome::Answered(response)
            }
            Answer::Nothing => Outcome::Silent,
            Answer::Later(parked) => Outcome::Parked(parked),
        }
    }

    pub(crate) fn create(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let config = |&(name, value): &(&str, &str)| CreatableTopicConfig {
            name: name.into(),
            value: Some(value.into()),
            ..Default::default()
        };
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: -1,
            configs: configs.iter().map(config).collect(),
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
        let response = self.ask(1, 7, &request);
        assert_eq!(response.topics[0].error_code, ErrorCode::NONE, "{:?}", response.topics[0].error_message);
    }

    /// Produces to a partition at node 1.
    pub(crate) fn produce(&self, topic: &str, index: i32, records: Bytes) -> PartitionProduceResponse {
        let response = self.ask(1, PRODUCE, &produce(topic, index, Some(records), -1));
        response.responses[0].partition_responses[0].clone()
    }

    /// Fetches from one partition at node 1, without waiting or a session.
    pub(crate) fn fetch(&self, topic: &str, index: i32, offset: i64) -> PartitionData {
        let response = self.ask(1, FETCH, &fetch(topic, &[(index, offset)]));
        response.responses[0].partitions[0].clone()
    }
}

/// Whether a parked fetch would be woken.
pub(crate) fn is_due(parked: &Parked) -> bool {
    parked.poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

/// A request with its header, without its size.
pub(crate) fn frame<R: Request>(version: i16, request: &R) -> Bytes {
    let mut writer = Writer::new();
    let header = RequestHeader {
        request_api_key: R::KEY.as_i16(),
        request_api_version: version,
        correlation_id: 99,
        client_id: Some(Str::from("rig")),
        ..Default::default()
    };
    header.encode(&mut writer, R::KEY.request_header_version(version)).expect("encodes");
    request.encode(&mut writer, version).expect("encodes");
    writer.finish().to_vec().into()
}

/// A batch of these values, created now, stamped when there is a `(producer id, epoch, base sequence)`.
pub(crate) fn batch(values: &[&str], stamp: Option<(i64, i16, i32)>) -> Bytes {
    batch_at(1_700_000_000_000, values, stamp)
}

/// The same, its records one millisecond after another from `timestamp` on.
pub(crate) fn batch_at(timestamp: i64, values: &[&str], stamp: Option<(i64, i16, i32)>) -> Bytes {
    let mut builder = BatchBuilder::new(&Pool::default());
    for (delta, value) in values.iter().enumerate() {
        builder.append(timestamp + delta as i64, None, Some(value.as_bytes()), &[]).expect("fits");
    }
    let mut sealed = builder.seal();
    if let Some((id, epoch, sequence)) = stamp {
        sealed.stamp(id, epoch, sequence);
    }
    sealed.into_bytes()
}

pub(crate) fn produce(topic: &str, index: i32, records: Option<Bytes>, acks: i16) -> ProduceRequest {
    let data = PartitionProduceData { index, records, ..Default::default() };
    let topic = TopicProduceData { name: topic.into(), partition_data: vec![data], ..Default::default() };
    ProduceRequest { acks, timeout_ms: 1000, topic_data: vec![topic], ..Default::default() }
}

/// A fetch of these `(partition, offset)`s that does not wait and has no session.
pub(crate) fn fetch(topic: &str, wanted: &[(i32, i64)]) -> FetchRequest {
    let partition = |&(partition, fetch_offset): &(i32, i64)| FetchPartition {
        partition,
        fetch_offset,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    let partitions = wanted.iter().map(partition).collect();
    let topic = FetchTopic { topic: topic.into(), partitions, ..Default::default() };
    FetchRequest { max_bytes: 10 << 20, session_epoch: -1, topics: vec![topic], ..Default::default() }
}

/// The base offsets of the batches in a partition's answer.
pub(crate) fn base_offsets(data: &PartitionData) -> Vec<i64> {
    let mut rest: &[u8] = data.records.as_deref().expect("not null");
    let mut offsets = Vec::new();
    while !rest.is_empty() {
        let header = BatchHeader::parse(rest).expect("whole batches only");
        offsets.push(header.base_offset);
        rest = &rest[header.bytes..];
    }
    offsets
}
