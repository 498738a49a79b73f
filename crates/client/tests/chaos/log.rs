//! Reads the brokers' logs over a plain connection, with code that shares only the wire format with the client. It also does
//! what an operator does: deletes topics and adds partitions.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::ops::Deref;

use bytes::Bytes;
use milena_messages::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use milena_messages::delete_topics::DeleteTopicsRequest;
use milena_messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use milena_messages::header::{RequestHeader, ResponseHeader};
use milena_messages::list_groups::ListGroupsRequest;
use milena_messages::offset_fetch::OffsetFetchRequest;
use milena_messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use milena_messages::{ErrorCode, Message, Request};
use milena_wire::batch::{BatchBuilder, Batches, ControlRecord};
use milena_wire::codec::Decompressor;
use milena_wire::pool::Pool;
use milena_wire::{Limits, Reader, Writer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The last version of FetchRequest that names topics.
const FETCH_BY_NAME: i16 = 12;

/// A record's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Content {
    pub(crate) timestamp_ms: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// The records of a log; the index of each is its offset.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    contents: Vec<Content>,
    /// The first offset of each batch.
    batches: BTreeSet<i64>,
}

impl Log {
    /// Those of these offsets at which a batch begins, or that do not follow another one of them.
    pub(crate) fn begins_of(&self, offsets: &[i64]) -> Vec<i64> {
        let follows = |index: usize| index > 0 && offsets[index - 1] + 1 == offsets[index];
        let begins = offsets.iter().enumerate();
        let begins = begins.filter(|(index, offset)| self.batches.contains(*offset) || !follows(*index));
        begins.map(|(_, offset)| *offset).collect()
    }

    #[cfg(test)]
    pub(crate) fn of(contents: Vec<Content>, batch: usize) -> Self {
        let batches = (0..contents.len() as i64).step_by(batch).collect();
        Self { contents, batches }
    }
}

impl Deref for Log {
    type Target = Vec<Content>;

    fn deref(&self) -> &Vec<Content> {
        &self.contents
    }
}

/// A connection without a client.
struct Plain(TcpStream);

impl Plain {
    async fn open(node: SocketAddr) -> io::Result<Self> {
        Ok(Self(TcpStream::connect(node).await?))
    }

    async fn ask<R: Request>(&mut self, request: &R, version: i16) -> io::Result<R::Response> {
        let mut writer = Writer::new();
        let mark = writer.begin_frame();
        let head = RequestHeader {
            request_api_key: R::KEY.as_i16(),
            request_api_version: version,
            ..Default::default()
        };
        head.encode(&mut writer, R::KEY.request_header_version(version)).map_err(io::Error::other)?;
        request.encode(&mut writer, version).map_err(io::Error::other)?;
        writer.end_frame(mark, "Request").map_err(io::Error::other)?;
        self.0.write_all(&writer.finish().to_vec()).await?;
        let bytes = self.0.read_u32().await? as usize;
        let mut frame = vec![0; bytes];
        self.0.read_exact(&mut frame).await?;
        let frame = Bytes::from(frame);
        let mut reader = Reader::new(&frame);
        ResponseHeader::decode(&mut reader, R::KEY.response_header_version(version))
            .map_err(io::Error::other)?;
        R::Response::decode(&mut reader, version).map_err(io::Error::other)
    }
}

/// The log of a partition, from its leader.
pub(crate) async fn read_log(leader: SocketAddr, topic: &str, partition: i32) -> io::Result<Log> {
    let mut plain = Plain::open(leader).await?;
    let mut log = Log::default();
    loop {
        let fetched = FetchPartition {
            partition,
            fetch_offset: log.len() as i64,
            current_leader_epoch: -1,
            partition_max_bytes: 4 << 20,
            ..Default::default()
        };
        let request = FetchRequest {
            replica_id: -1,
            max_bytes: 4 << 20,
            session_epoch: -1,
            topics: vec![FetchTopic { topic: topic.into(), partitions: vec![fetched], ..Default::default() }],
            ..Default::default()
        };
        let response = plain.ask(&request, FETCH_BY_NAME).await?;
        let answers = response.responses.into_iter().flat_map(|topic| topic.partitions);
        let answer =
            answers.into_iter().next().ok_or_else(|| io::Error::other("an answer without the partition"))?;
        answer.error_code.ok().map_err(|code| io::Error::other(code.name()))?;
        let before = log.len();
        read_batches(answer.records.unwrap_or_default(), &mut log)?;
        if log.len() == before {
            return Ok(log);
        }
    }
}

/// What readers of committed records see of a partition.
pub(crate) struct Committed {
    pub(crate) values: Vec<String>,
    /// Whether no transaction is open there.
    pub(crate) is_stable: bool,
}

/// The committed records of a partition, whose values are texts, from its leader.
pub(crate) async fn read_committed(leader: SocketAddr, topic: &str, partition: i32) -> io::Result<Committed> {
    let fetched = FetchPartition {
        partition,
        current_leader_epoch: -1,
        partition_max_bytes: i32::MAX,
        ..Default::default()
    };
    let request = FetchRequest {
        replica_id: -1,
        max_bytes: i32::MAX,
        session_epoch: -1,
        isolation_level: 1,
        topics: vec![FetchTopic { topic: topic.into(), partitions: vec![fetched], ..Default::default() }],
        ..Default::default()
    };
    let response = Plain::open(leader).await?.ask(&request, FETCH_BY_NAME).await?;
    let answers = response.responses.into_iter().flat_map(|topic| topic.partitions);
    let answer = answers.into_iter().next();
    let answer = answer.ok_or_else(|| io::Error::other("an answer without the partition"))?;
    checked(Some(answer.error_code))?;
    let mut aborted: Vec<_> =
        answer.aborted_transactions.iter().flatten().map(|of| (of.first_offset, of.producer_id)).collect();
    aborted.sort_unstable();
    let (mut aborted, mut aborting) = (VecDeque::from(aborted), BTreeSet::new());
    let mut values = Vec::new();
    for raw in Batches::new(answer.records.unwrap_or_default()) {
        let raw = raw.map_err(io::Error::other)?;
        raw.check_crc().map_err(io::Error::other)?;
        let (header, producer) = (raw.header, raw.header.producer.map(|of| of.producer_id));
        while let Some((_, of)) = aborted.pop_front_if(|(first, _)| *first <= header.base_offset) {
            aborting.insert(Some(of));
        }
        let batch = raw.decompress(&mut Decompressor::new(), &Pool::default(), &Limits::default());
        for record in batch.map_err(io::Error::other)?.records() {
            let record = record.map_err(|error| io::Error::other(error.error))?;
            if header.attributes.is_control() {
                if let Ok(ControlRecord::Abort { .. }) = ControlRecord::parse(&record) {
                    aborting.remove(&producer);
                }
            } else if !(header.attributes.is_transactional() && aborting.contains(&producer)) {
                values.push(String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned());
            }
        }
    }
    Ok(Committed { values, is_stable: answer.last_stable_offset == answer.high_watermark })
}

/// What a group has committed of a partition.
pub(crate) struct Stored {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) metadata: String,
}

/// What a group has committed.
pub(crate) async fn committed(coordinator: SocketAddr, group: &str) -> io::Result<Vec<Stored>> {
    let request = OffsetFetchRequest { group_id: group.into(), topics: None, ..Default::default() };
    // The last version that asks for one group.
    let response = Plain::open(coordinator).await?.ask(&request, 7).await?;
    checked(Some(response.error_code))?;
    let topics = response.topics.iter();
    let found = topics.flat_map(|topic| topic.partitions.iter().map(move |of| (topic, of)));
    Ok(found
        .filter(|(_, of)| of.error_code.is_none() && of.committed_offset >= 0)
        .map(|(topic, of)| Stored {
            topic: topic.name.to_string(),
            partition: of.partition_index,
            offset: of.committed_offset,
            metadata: of.metadata.as_ref().map(ToString::to_string).unwrap_or_default(),
        })
        .collect())
}

/// The state of a group, as the coordinator lists it.
pub(crate) async fn group_state(coordinator: SocketAddr, group: &str) -> io::Result<String> {
    let response = Plain::open(coordinator).await?.ask(&ListGroupsRequest::default(), 5).await?;
    checked(Some(response.error_code))?;
    let listed = response.groups.iter().find(|listed| *listed.group_id == *group);
    Ok(listed.map(|listed| listed.group_state.to_string()).unwrap_or_default())
}

/// Writes batches of records whose values are their numbers.
pub(crate) async fn write(
    leader: SocketAddr,
    topic: &str,
    partition: i32,
    batches: usize,
    records: usize,
) -> io::Result<()> {
    let mut plain = Plain::open(leader).await?;
    for batch in 0..batches {
        let mut builder = BatchBuilder::new(&Pool::unpooled());
        for record in 0..records {
            let value = format!("{batch}:{record}");
            builder.append(1_700_000_000_000, None, Some(value.as_bytes()), &[]).map_err(io::Error::other)?;
        }
        let records = Some(builder.seal().into_bytes());
        let data = PartitionProduceData { index: partition, records, ..Default::default() };
        let data = TopicProduceData { name: topic.into(), partition_data: vec![data], ..Default::default() };
        let request =
            ProduceRequest { acks: -1, timeout_ms: 10_000, topic_data: vec![data], ..Default::default() };
        let response = plain.ask(&request, 9).await?;
        let answers = response.responses.iter().flat_map(|topic| &topic.partition_responses);
        checked(answers.map(|answer| answer.error_code).next())?;
    }
    Ok(())
}

/// Adds the records in `records` that follow those of `log`.
fn read_batches(records: Bytes, log: &mut Log) -> io::Result<()> {
    for raw in Batches::new(records) {
        let raw = raw.map_err(io::Error::other)?;
        raw.check_crc().map_err(io::Error::other)?;
        log.batches.insert(raw.header.base_offset);
        let batch = raw.decompress(&mut Decompressor::new(), &Pool::default(), &Limits::default());
        for record in batch.map_err(io::Error::other)?.records_from(log.len() as i64) {
            let record = record.map_err(|error| io::Error::other(error.error))?;
            if record.offset != log.len() as i64 {
                return Err(io::Error::other(format!(
                    "offset {} follows {}",
                    record.offset,
                    log.len() as i64 - 1
                )));
            }
            let header = |header: milena_wire::batch::Header<'_>| {
                (header.key.to_vec(), header.value.map(<[u8]>::to_vec))
            };
            log.contents.push(Content {
                timestamp_ms: record.timestamp,
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: record.headers().filter_map(Result::ok).map(header).collect(),
            });
        }
    }
    Ok(())
}

pub(crate) async fn delete_topic(node: SocketAddr, topic: &str) -> io::Result<()> {
    let request =
        DeleteTopicsRequest { topic_names: vec![topic.into()], timeout_ms: 10_000, ..Default::default() };
    let response = Plain::open(node).await?.ask(&request, 5).await?;
    checked(response.responses.first().map(|result| result.error_code))
}

pub(crate) async fn grow_topic(node: SocketAddr, topic: &str, count: i32) -> io::Result<()> {
    let grown = CreatePartitionsTopic { name: topic.into(), count, assignments: None, ..Default::default() };
    let request = CreatePartitionsRequest { topics: vec![grown], timeout_ms: 10_000, ..Default::default() };
    let response = Plain::open(node).await?.ask(&request, 3).await?;
    checked(response.results.first().map(|result| result.error_code))
}

fn checked(code: Option<ErrorCode>) -> io::Result<()> {
    let code = code.ok_or_else(|| io::Error::other("an answer without the topic"))?;
    code.ok().map_err(|code| io::Error::other(code.name()))
}
