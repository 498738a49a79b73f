//! Makes topics on any broker and writes prepared batches to them, which have the same size for every client that reads them.
//!
//! It sends a few requests of fixed versions over a blocking socket, each with all partitions of a node, and never retries.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes};
use lexopt::{Arg, ValueExt as _};
use milena_messages::create_topics::{CreatableReplicaAssignment, CreatableTopic, CreateTopicsRequest};
use milena_messages::delete_topics::DeleteTopicsRequest;
use milena_messages::header::{RequestHeader, ResponseHeader};
use milena_messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use milena_messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use milena_messages::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use milena_messages::{ErrorCode, Message, Request};
use milena_wire::codec::Compression;
use milena_wire::{Reader, Writer};

use crate::batches::{Batches, Shape};
use crate::options::Failure;
use crate::payload::Lines;
use crate::topic_spec::TopicSpec;

const METADATA: i16 = 9;
const CREATE_TOPICS: i16 = 5;
const DELETE_TOPICS: i16 = 4;
const LIST_OFFSETS: i16 = 4;
const PRODUCE: i16 = 9;

/// The most requests in flight to a node.
const IN_FLIGHT_MAX: usize = 8;

/// A partition without a leader, or a request without an answer, after this time will not get one.
const PATIENCE: Duration = Duration::from_secs(30);

struct Options {
    bootstrap: String,
    topics: Vec<TopicSpec>,
    deleted: Vec<String>,
    values: Option<PathBuf>,
    keys: Option<PathBuf>,
    shape: Shape,
}

/// Creates each topic, partition `p` led by the `p mod n`th broker, and fills it.
pub(crate) fn run(args: lexopt::Parser) -> Result<(), Failure> {
    let options = Options::parse(args)?;
    let keys = options.keys.as_deref().map(Lines::read).transpose()?;
    let batches = match &options.values {
        Some(values) => Some(Batches::make(Lines::read(values)?, keys, options.shape)?),
        None => None,
    };
    let mut any = Connection::open(options.bootstrap.split(',').next().unwrap_or_default())?;
    delete(&mut any, &options.deleted)?;
    for spec in &options.topics {
        let mut brokers: Vec<i32> =
            metadata(&mut any, spec)?.brokers.iter().map(|broker| broker.node_id).collect();
        brokers.sort_unstable();
        create(&mut any, spec, &brokers)?;
        let led = wait_for_leaders(&mut any, spec)?;
        match &batches {
            None if spec.records > 0 => {
                return Err(Failure::Usage("records are written of values: --values".into()));
            }
            Some(batches) => fill(spec, &led, batches)?,
            None => {}
        }
    }
    Ok(())
}

fn metadata(connection: &mut Connection, spec: &TopicSpec) -> Result<MetadataResponse, String> {
    let topic = MetadataRequestTopic { name: Some(spec.name.as_str().into()), ..Default::default() };
    let request =
        MetadataRequest { topics: Some(vec![topic]), allow_auto_topic_creation: false, ..Default::default() };
    connection.call(&request, METADATA)
}

fn create(connection: &mut Connection, spec: &TopicSpec, brokers: &[i32]) -> Result<(), String> {
    let replicas = |partition: i32| {
        let first = partition as usize % brokers.len();
        brokers[first..].iter().chain(&brokers[..first]).copied().take(3).collect()
    };
    let assignment = |partition_index| CreatableReplicaAssignment {
        partition_index,
        broker_ids: replicas(partition_index),
        ..Default::default()
    };
    let topic = CreatableTopic {
        name: spec.name.as_str().into(),
        num_partitions: -1,
        replication_factor: -1,
        assignments: (0..spec.partitions).map(assignment).collect(),
        ..Default::default()
    };
    let request = CreateTopicsRequest {
        topics: vec![topic],
        timeout_ms: PATIENCE.as_millis() as i32,
        ..Default::default()
    };
    let response = connection.call(&request, CREATE_TOPICS)?;
    match response.topics.first().map(|topic| topic.error_code) {
        Some(ErrorCode::NONE) => Ok(()),
        Some(code) => Err(format!("creating {}: {}", spec.name, code.name())),
        None => Err(format!("creating {}: no answer for it", spec.name)),
    }
}

fn delete(connection: &mut Connection, names: &[String]) -> Result<(), String> {
    if names.is_empty() {
        return Ok(());
    }
    let request = DeleteTopicsRequest {
        topic_names: names.iter().map(|name| name.as_str().into()).collect(),
        timeout_ms: PATIENCE.as_millis() as i32,
        ..Default::default()
    };
    let response = connection.call(&request, DELETE_TOPICS)?;
    match response.responses.iter().find(|topic| topic.error_code != ErrorCode::NONE) {
        Some(refused) => Err(format!("deleting {:?}: {}", refused.name, refused.error_code.name())),
        None => Ok(()),
    }
}

/// Waits until all partitions have leaders; returns each broker's partitions by its address.
fn wait_for_leaders(
    connection: &mut Connection,
    spec: &TopicSpec,
) -> Result<BTreeMap<String, Vec<i32>>, String> {
    let started = Instant::now();
    loop {
        let answer = metadata(connection, spec)?;
        let address = |id: i32| {
            let broker = answer.brokers.iter().find(|broker| broker.node_id == id)?;
            Some(format!("{}:{}", broker.host, broker.port))
        };
        let mut led: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
        for partition in partitions.filter(|partition| partition.error_code == ErrorCode::NONE) {
            if let Some(address) = address(partition.leader_id) {
                led.entry(address).or_default().push(partition.partition_index);
            }
        }
        if led.values().map(Vec::len).sum::<usize>() == spec.partitions as usize {
            return Ok(led);
        }
        if started.elapsed() > PATIENCE {
            return Err(format!("{}: not all partitions are led", spec.name));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn fill(spec: &TopicSpec, led: &BTreeMap<String, Vec<i32>>, batches: &Batches) -> Result<(), String> {
    let spread = spec.spread(led.len() as i32);
    let spread = &spread;
    thread::scope(|scope| {
        let filling: Vec<_> = led
            .iter()
            .map(|(address, partitions)| {
                scope.spawn(move || fill_node(spec, address, partitions, spread, batches))
            })
            .collect();
        filling.into_iter().try_for_each(|node| node.join().map_err(|_| "a thread panicked".to_owned())?)
    })
}

/// Waits until a broker knows that it is the leader of its partitions, which other brokers may know earlier.
fn wait_until_led(connection: &mut Connection, spec: &TopicSpec, partitions: &[i32]) -> Result<(), String> {
    let wanted =
        |&partition_index| ListOffsetsPartition { partition_index, timestamp: -1, ..Default::default() };
    let topic = ListOffsetsTopic {
        name: spec.name.as_str().into(),
        partitions: partitions.iter().map(wanted).collect(),
        ..Default::default()
    };
    let request = ListOffsetsRequest { topics: vec![topic], ..Default::default() };
    let started = Instant::now();
    loop {
        let answer = connection.call(&request, LIST_OFFSETS)?;
        let mut partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let Some(failed) = partitions.find(|partition| partition.error_code != ErrorCode::NONE) else {
            return Ok(());
        };
        if started.elapsed() > PATIENCE {
            return Err(format!("partition {}: {}", failed.partition_index, failed.error_code.name()));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Writes one batch of every partition with each request.
fn fill_node(
    spec: &TopicSpec,
    address: &str,
    partitions: &[i32],
    spread: &[u64],
    batches: &Batches,
) -> Result<(), String> {
    let mut connection = Connection::open(address)?;
    wait_until_led(&mut connection, spec, partitions)?;
    let mut in_flight = VecDeque::new();
    for index in 0.. {
        let mut data = Vec::new();
        for &partition in partitions {
            if let Some(batch) = batches.of_partition(index, spread[partition as usize])? {
                data.push(PartitionProduceData {
                    index: partition,
                    records: Some(batch),
                    ..Default::default()
                });
            }
        }
        let is_last = data.is_empty();
        if !is_last {
            let topic = TopicProduceData {
                name: spec.name.as_str().into(),
                partition_data: data,
                ..Default::default()
            };
            let request = ProduceRequest {
                acks: -1,
                timeout_ms: PATIENCE.as_millis() as i32,
                topic_data: vec![topic],
                ..Default::default()
            };
            in_flight.push_back(connection.send(&request, PRODUCE)?);
        }
        while in_flight.len() >= IN_FLIGHT_MAX || is_last && !in_flight.is_empty() {
            in_flight.pop_front();
            check(&connection.receive::<ProduceRequest>(PRODUCE)?)?;
        }
        if is_last {
            break;
        }
    }
    Ok(())
}

fn check(response: &ProduceResponse) -> Result<(), String> {
    let mut partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    match partitions.find(|partition| partition.error_code != ErrorCode::NONE) {
        Some(refused) => {
            Err(format!("partition {} refused a batch: {}", refused.index, refused.error_code.name()))
        }
        None => Ok(()),
    }
}

/// A connection to a broker, which answers requests in order.
struct Connection {
    stream: TcpStream,
    correlation_id: i32,
}

impl Connection {
    fn open(address: &str) -> Result<Self, String> {
        let stream = TcpStream::connect(address).map_err(|error| format!("{address}: {error}"))?;
        let set = stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(PATIENCE)));
        set.map_err(|error| error.to_string())?;
        Ok(Self { stream, correlation_id: 0 })
    }

    fn call<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response, String> {
        self.send(request, version)?;
        self.receive::<R>(version)
    }

    fn send<R: Request>(&mut self, request: &R, version: i16) -> Result<i32, String> {
        self.correlation_id += 1;
        let header = RequestHeader {
            request_api_key: R::KEY.as_i16(),
            request_api_version: version,
            correlation_id: self.correlation_id,
            client_id: Some("milena-bench".into()),
            ..Default::default()
        };
        let mut writer = Writer::new();
        let mark = writer.begin_frame();
        let encoded = header
            .encode(&mut writer, R::KEY.request_header_version(version))
            .and_then(|()| request.encode(&mut writer, version))
            .and_then(|()| writer.end_frame(mark, R::NAME));
        encoded.map_err(|error| error.to_string())?;
        let mut frame = writer.finish();
        while frame.has_remaining() {
            let chunk = frame.chunk();
            self.stream.write_all(chunk).map_err(|error| error.to_string())?;
            let sent = chunk.len();
            frame.advance(sent);
        }
        Ok(self.correlation_id)
    }

    fn receive<R: Request>(&mut self, version: i16) -> Result<R::Response, String> {
        let mut size = [0; 4];
        self.stream.read_exact(&mut size).map_err(|error| format!("{}: {error}", R::NAME))?;
        let mut body = vec![0; u32::from_be_bytes(size) as usize];
        self.stream.read_exact(&mut body).map_err(|error| format!("{}: {error}", R::NAME))?;
        let body = Bytes::from(body);
        let mut reader = Reader::new(&body);
        ResponseHeader::decode(&mut reader, R::KEY.response_header_version(version))
            .and_then(|_| R::Response::decode(&mut reader, version))
            .map_err(|error| error.to_string())
    }
}

impl Options {
    fn parse(mut args: lexopt::Parser) -> Result<Self, lexopt::Error> {
        let shape = Shape { codec: Compression::None, batch_bytes: 1_000_000 };
        let mut options = Self {
            bootstrap: String::new(),
            topics: Vec::new(),
            deleted: Vec::new(),
            values: None,
            keys: None,
            shape,
        };
        while let Some(arg) = args.next()? {
            match arg {
                Arg::Long("bootstrap") => options.bootstrap = args.value()?.string()?,
                Arg::Long("topic") => options.topics.push(args.value()?.parse()?),
                Arg::Long("delete") => options.deleted.push(args.value()?.string()?),
                Arg::Long("values") => options.values = Some(args.value()?.into()),
                Arg::Long("keys") => options.keys = Some(args.value()?.into()),
                Arg::Long("codec") => options.shape.codec = args.value()?.parse()?,
                Arg::Long("batch-bytes") => options.shape.batch_bytes = args.value()?.parse()?,
                other => return Err(other.unexpected()),
            }
        }
        Ok(options)
    }
}
