//! Produce requests, of which only the batch headers are read: records are dropped as they come.

use std::io;

use milena_messages::ErrorCode;
use milena_messages::produce::{PartitionProduceResponse, ProduceResponse, TopicProduceResponse};
use milena_wire::batch::{BatchHeader, HEADER_BYTES};
use milena_wire::{Str, Uuid};

use super::counters::Counters;
use super::input::{Frame, Input, invalid};
use super::sequences::Verdict;
use super::topics::{Partition, Topic, Topics};

/// A request without its records.
#[derive(Debug, PartialEq)]
pub(super) struct Produced {
    pub(super) acks: i16,
    pub(super) topics: Vec<ProducedTopic>,
}

#[derive(Debug, PartialEq)]
pub(super) struct ProducedTopic {
    name: Str,
    id: Uuid,
    partitions: Vec<(i32, Option<BatchHeader>)>,
}

/// Reads the part of a request after its correlation id.
pub(super) fn read<I: Input>(frame: &mut Frame<'_, I>, version: i16) -> io::Result<Produced> {
    frame.is_flexible = false;
    let client_id = frame.string_length()?;
    frame.skip(client_id.unwrap_or(0))?;
    frame.is_flexible = version >= 9;
    frame.skip_tags()?;
    let transactional_id = frame.string_length()?;
    frame.skip(transactional_id.unwrap_or(0))?;
    let acks = frame.i16()?;
    frame.i32()?;
    let mut topics = Vec::new();
    for _ in 0..frame.length()?.unwrap_or(0) {
        topics.push(read_topic(frame, version)?);
    }
    frame.skip(frame.left())?;
    Ok(Produced { acks, topics })
}

fn read_topic<I: Input>(frame: &mut Frame<'_, I>, version: i16) -> io::Result<ProducedTopic> {
    let (mut name, mut id) = (Str::default(), Uuid::ZERO);
    if version >= 13 {
        id = Uuid::from_bytes(frame.array()?);
    } else {
        let bytes = frame.string_length()?.unwrap_or(0);
        name = Str::from_utf8(frame.vec(bytes)?.into()).map_err(|_| invalid("a name is not UTF-8"))?;
    }
    let mut partitions = Vec::new();
    for _ in 0..frame.length()?.unwrap_or(0) {
        let index = frame.i32()?;
        let bytes = frame.length()?.unwrap_or(0);
        partitions.push((index, read_batch(frame, bytes)?));
        frame.skip_tags()?;
    }
    frame.skip_tags()?;
    Ok(ProducedTopic { name, id, partitions })
}

/// The header of a partition's batch; `None` if the records are not exactly one batch.
fn read_batch<I: Input>(frame: &mut Frame<'_, I>, bytes: usize) -> io::Result<Option<BatchHeader>> {
    if bytes < HEADER_BYTES {
        frame.skip(bytes)?;
        return Ok(None);
    }
    let head: [u8; HEADER_BYTES] = frame.array()?;
    frame.skip(bytes - HEADER_BYTES)?;
    Ok(BatchHeader::parse(&head).ok().filter(|header| header.magic == 2 && header.bytes == bytes))
}

/// Counts, checks and answers.
pub(super) fn answer(request: &Produced, node: i32, topics: &Topics, counters: &Counters) -> ProduceResponse {
    let responses = request.topics.iter().map(|produced| {
        let topic = topics.find(&produced.name, produced.id);
        let append = |(index, header): &(i32, Option<BatchHeader>)| {
            append(topic, *index, header.as_ref(), node, counters)
        };
        TopicProduceResponse {
            name: produced.name.clone(),
            topic_id: produced.id,
            partition_responses: produced.partitions.iter().map(append).collect(),
            ..Default::default()
        }
    });
    ProduceResponse { responses: responses.collect(), ..Default::default() }
}

fn append(
    topic: Option<&Topic>,
    index: i32,
    header: Option<&BatchHeader>,
    node: i32,
    counters: &Counters,
) -> PartitionProduceResponse {
    let outcome = (|| {
        let partition = topic.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?.partition(index)?;
        if partition.leader != node {
            return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        append_batch(partition, header.ok_or(ErrorCode::INVALID_RECORD)?, counters)
    })();
    let (error_code, base_offset) = match outcome {
        Ok(offset) => (ErrorCode::NONE, offset),
        Err(code) => (code, -1),
    };
    PartitionProduceResponse {
        index,
        error_code,
        base_offset,
        log_append_time_ms: -1,
        log_start_offset: 0,
        ..Default::default()
    }
}

/// The offset of the batch's first record.
fn append_batch(partition: &Partition, header: &BatchHeader, counters: &Counters) -> Result<i64, ErrorCode> {
    let mut log = partition.log();
    let offset = log.end;
    let verdict = match header.producer {
        Some(stamp) => log.sequences.check(stamp, header.record_count, offset),
        None => Verdict::Appended,
    };
    counters.batch(header, verdict);
    match verdict {
        Verdict::Appended => {
            log.end += i64::from(header.record_count);
            Ok(offset)
        }
        Verdict::Duplicate(offset) => Ok(offset),
        Verdict::OutOfOrder => Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER),
        Verdict::OldEpoch => Err(ErrorCode::INVALID_PRODUCER_EPOCH),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use milena_messages::header::RequestHeader;
    use milena_messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
    use milena_messages::{ApiKey, Message};
    use milena_wire::Writer;
    use milena_wire::batch::BatchBuilder;
    use milena_wire::pool::Pool;

    #[test]
    fn the_headers_of_every_version_are_found() {
        let mut builder = BatchBuilder::new(&Pool::unpooled());
        for _ in 0..50 {
            builder.append(0, None, Some(&[b'x'; 100]), &[]).expect("there is room");
        }
        let mut sealed = builder.seal();
        sealed.stamp(7, 1, 3);
        let batch = sealed.into_bytes();
        let data = |index, records| PartitionProduceData { index, records, ..Default::default() };
        for version in ProduceRequest::VERSIONS {
            let mut topic = TopicProduceData {
                partition_data: vec![
                    data(4, Some(batch.clone())),
                    data(5, None),
                    data(6, Some(batch.clone())),
                ],
                ..Default::default()
            };
            if version >= 13 {
                topic.topic_id = Uuid::from_bytes([9; 16])
            } else {
                topic.name = "orders".into()
            }
            let expected = ProducedTopic {
                name: topic.name.clone(),
                id: topic.topic_id,
                partitions: vec![
                    (4, BatchHeader::parse(&batch).ok()),
                    (5, None),
                    (6, BatchHeader::parse(&batch).ok()),
                ],
            };
            let request = ProduceRequest { acks: -1, topic_data: vec![topic], ..Default::default() };
            let header = RequestHeader { client_id: Some("c".into()), ..Default::default() };
            let mut writer = Writer::new();
            header.encode(&mut writer, ApiKey::Produce.request_header_version(version)).expect("encodes");
            request.encode(&mut writer, version).expect("encodes");
            let bytes = writer.finish().to_vec();
            let mut input = &bytes[..];
            let mut frame = Frame::new(&mut input, bytes.len());
            frame.skip(8).expect("key, version, correlation id");
            let read = read(&mut frame, version).expect("reads");
            assert_eq!(read, Produced { acks: -1, topics: vec![expected] }, "version {version}");
            assert!(input.is_empty());
        }
    }

    #[test]
    fn a_length_beyond_the_frame_is_an_error() {
        let bytes = [0, 9, b'c'];
        let mut input = &bytes[..];
        read(&mut Frame::new(&mut input, 3), 9).unwrap_err();
    }
}
