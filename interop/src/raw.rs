//! A connection that sends given requests and returns the answers, to compare real Kafka with the embedded broker. It blocks,
//! with a deadline, and has no retries and no policy.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use milena_messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use milena_messages::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use milena_messages::find_coordinator::FindCoordinatorRequest;
use milena_messages::header::{RequestHeader, ResponseHeader};
use milena_messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use milena_messages::metadata::{MetadataRequest, MetadataRequestTopic};
use milena_messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestTopic};
use milena_messages::{ErrorCode, Message as _, Request};
use milena_wire::batch::{BatchBuilder, Batches, Header};
use milena_wire::codec::{Compression, Compressor, Decompressor};
use milena_wire::pool::Pool;
use milena_wire::{Limits, Reader, Writer};

use crate::letter::{Letter, Received};

/// One connection to one broker.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    correlation: i32,
}

impl Raw {
    /// Connects to the first of the addresses in `bootstrap`.
    ///
    /// # Errors
    /// The connection is refused.
    pub fn connect(bootstrap: &str) -> anyhow::Result<Self> {
        let address = bootstrap.split(',').next().unwrap_or_default();
        let stream = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, correlation: 0 })
    }

    /// Sends `request` at `version` and waits for its answer, every byte of which must be understood.
    ///
    /// # Errors
    /// The connection broke, the deadline of ten seconds passed, or the answer does not decode.
    pub fn call<R: Request>(&mut self, request: &R, version: i16) -> anyhow::Result<R::Response> {
        self.send(request, version)?;
        self.answer::<R>(version)
    }

    /// Waits for the answer to a request that was sent, every byte of which must be understood.
    ///
    /// # Errors
    /// As [`Raw::call`].
    pub fn answer<R: Request>(&mut self, version: i16) -> anyhow::Result<R::Response> {
        let frame = self.receive()?;
        let mut reader = Reader::new(&frame);
        let header = ResponseHeader::decode(&mut reader, R::KEY.response_header_version(version))?;
        ensure!(header.correlation_id == self.correlation, "an answer to another request");
        let response = R::Response::decode(&mut reader, version)?;
        reader.finish(R::NAME)?;
        Ok(response)
    }

    /// Sends `request` without waiting.
    ///
    /// # Errors
    /// As [`Raw::call`].
    pub fn send<R: Request>(&mut self, request: &R, version: i16) -> anyhow::Result<()> {
        self.correlation += 1;
        let header = RequestHeader {
            request_api_key: R::KEY.as_i16(),
            request_api_version: version,
            correlation_id: self.correlation,
            client_id: Some("interop".into()),
            ..Default::default()
        };
        let mut writer = Writer::new();
        let mark = writer.begin_frame();
        header.encode(&mut writer, R::KEY.request_header_version(version))?;
        request.encode(&mut writer, version)?;
        writer.end_frame(mark, R::NAME)?;
        self.stream.write_all(&writer.finish().to_vec())?;
        Ok(())
    }

    /// Waits for a frame with any content.
    ///
    /// # Errors
    /// As [`Raw::call`].
    pub fn receive(&mut self) -> anyhow::Result<Bytes> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).context("the broker closed the connection")?;
        let length = u32::from_be_bytes(length) as usize;
        ensure!(length <= FRAME_BYTES_MAX, "a frame of {length} bytes");
        let mut frame = vec![0; length];
        self.stream.read_exact(&mut frame)?;
        Ok(frame.into())
    }
}

impl Raw {
    /// Creates `topic` and waits until every partition has a leader: real Kafka answers before that.
    ///
    /// # Errors
    /// It was not created, or has no leaders within ten seconds.
    pub fn create_topic(&mut self, topic: &str, partitions: i32) -> anyhow::Result<()> {
        self.create_replicated(topic, partitions, 1)
    }

    /// As [`create_topic`](Self::create_topic), with replicas.
    ///
    /// # Errors
    /// As there.
    pub fn create_replicated(&mut self, topic: &str, partitions: i32, replicas: i16) -> anyhow::Result<()> {
        let wanted = CreatableTopic {
            name: topic.into(),
            num_partitions: partitions,
            replication_factor: replicas,
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![wanted], timeout_ms: 10_000, ..Default::default() };
        let response = self.call(&request, 5)?;
        let error = response.topics.first().context("no topic in the answer")?.error_code;
        ensure!(error == ErrorCode::NONE, "creating {topic}: {error}");

        let started = Instant::now();
        while !self.has_leaders(topic, partitions)? {
            ensure!(started.elapsed() < PATIENCE, "{topic} has no leaders");
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Fetches from one partition, from `offset`.
    ///
    /// # Errors
    /// As [`Raw::call`]; the broker's error code is in the answer.
    pub fn fetch(&mut self, topic: &str, partition: i32, offset: i64) -> anyhow::Result<PartitionData> {
        let wanted = FetchPartition {
            partition,
            fetch_offset: offset,
            partition_max_bytes: 8 << 20,
            ..Default::default()
        };
        let topics = vec![FetchTopic { topic: topic.into(), partitions: vec![wanted], ..Default::default() }];
        let request = FetchRequest { max_wait_ms: 100, min_bytes: 1, topics, ..Default::default() };
        let mut response = self.call(&request, 12)?;
        let mut topic = response.responses.pop().context("no topic in the answer")?;
        topic.partitions.pop().context("no partition in the answer")
    }

    /// Whether every partition has a leader; with a single broker, whether that broker knows that it is the leader.
    fn has_leaders(&mut self, topic: &str, partitions: i32) -> anyhow::Result<bool> {
        let wanted = MetadataRequestTopic { name: Some(topic.into()), ..Default::default() };
        let metadata = self.call(&MetadataRequest { topics: Some(vec![wanted]), ..Default::default() }, 7)?;
        let mut all = metadata.topics.iter().flat_map(|topic| &topic.partitions);
        if metadata.brokers.len() > 1 {
            let error = metadata.topics.first().context("no topic in the answer")?.error_code;
            return Ok(error == ErrorCode::NONE && all.all(|partition| partition.leader_id >= 0));
        }
        let latest =
            |partition_index| ListOffsetsPartition { partition_index, timestamp: -1, ..Default::default() };
        let topic = ListOffsetsTopic {
            name: topic.into(),
            partitions: (0..partitions).map(latest).collect(),
            ..Default::default()
        };
        let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
        let response = self.call(&request, 6)?;
        let mut answers = response.topics.iter().flat_map(|topic| &topic.partitions);
        Ok(answers.all(|answer| answer.error_code == ErrorCode::NONE))
    }
}

/// The committed offsets of a group in the partitions of a topic that have one, from the group's coordinator.
///
/// # Errors
/// As [`Raw::call`], or the group has no coordinator within ten seconds.
pub fn committed(
    bootstrap: &str,
    group: &str,
    topic: &str,
    partitions: i32,
) -> anyhow::Result<Vec<(i32, i64)>> {
    let topic = OffsetFetchRequestTopic {
        name: topic.into(),
        partition_indexes: (0..partitions).collect(),
        ..Default::default()
    };
    let request =
        OffsetFetchRequest { group_id: group.into(), topics: Some(vec![topic]), ..Default::default() };
    let started = Instant::now();
    loop {
        let wanted = FindCoordinatorRequest { key: group.into(), ..Default::default() };
        let coordinator = Raw::connect(bootstrap)?.call(&wanted, 3)?;
        let mut error = coordinator.error_code;
        if error == ErrorCode::NONE {
            let address = format!("{}:{}", coordinator.host, coordinator.port);
            let response = Raw::connect(&address)?.call(&request, 6)?;
            error = response.error_code;
            if error == ErrorCode::NONE {
                let all = response.topics.iter().flat_map(|topic| &topic.partitions);
                let has = all.filter(|partition| partition.committed_offset >= 0);
                return Ok(has
                    .map(|partition| (partition.partition_index, partition.committed_offset))
                    .collect());
            }
        }
        // Real Kafka makes its coordinators when a group first asks for one.
        ensure!(started.elapsed() < PATIENCE, "group {group} has no coordinator: {error}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// One record batch of `letters`.
///
/// # Errors
/// They do not fit into one.
pub fn batch(letters: &[Letter], compression: Compression) -> anyhow::Result<Bytes> {
    stamped_batch(letters, compression, None)
}

/// One record batch of `letters` from an idempotent producer: its id, epoch and first sequence.
///
/// # Errors
/// They do not fit into one.
pub fn stamped_batch(
    letters: &[Letter],
    compression: Compression,
    producer: Option<(i64, i16, i32)>,
) -> anyhow::Result<Bytes> {
    let mut builder = BatchBuilder::new(&Pool::default()).bytes_max(64 << 20).record_bytes_max(64 << 20);
    for letter in letters {
        let headers: Vec<Header<'_>> =
            letter.headers.iter().map(|(name, value)| Header::new(name, value.as_deref())).collect();
        let (key, value) = (letter.key.as_deref(), letter.value.as_deref());
        builder
            .append(letter.timestamp, key, value, &headers)
            .map_err(|error| anyhow::anyhow!("{error:?}"))?;
    }
    let mut sealed = builder.seal_compressed(&mut Compressor::new(), compression, None)?;
    if let Some((id, epoch, sequence)) = producer {
        sealed.stamp(id, epoch, sequence);
    }
    Ok(sealed.into_bytes())
}

/// The letters in the answer to a fetch from `partition`, and the codec of each batch.
///
/// # Errors
/// A batch is damaged.
pub fn letters(partition: i32, records: &Bytes) -> anyhow::Result<(Vec<Received>, Vec<Compression>)> {
    let (pool, limits, mut decompressor) = (Pool::default(), Limits::default(), Decompressor::new());
    let (mut received, mut codecs) = (Vec::new(), Vec::new());
    for raw in Batches::new(records.clone()) {
        let raw = raw?;
        raw.check_crc()?;
        codecs.push(raw.header.attributes.compression()?);
        let batch = raw.decompress(&mut decompressor, &pool, &limits)?;
        for record in batch.records() {
            let record = record?;
            received
                .push(Received { offset: record.offset, letter: Letter::from_record(partition, &record)? });
        }
    }
    Ok((received, codecs))
}

const PATIENCE: Duration = Duration::from_secs(10);
const FRAME_BYTES_MAX: usize = 256 << 20;
