//! ListOffsets (2): offsets by time, and the special times. KIP-79, KIP-734 (greatest timestamp), KIP-320 (epochs),
//! KIP-405, KIP-1005 and KIP-1023 (tiers; here the whole log is local).

use bytes::Bytes;
use milena_messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::batch::{RawBatch, TimestampType};
use milena_wire::codec::Decompressor;
use milena_wire::pool::Pool;
use milena_wire::{DecodeError, Limits};

use super::row::Api;
use crate::call::Call;
use crate::partition::Isolation;
use crate::topic::Topic;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// The timestamp of the record that was found, −1 for the special times, and its offset.
type Found = (i64, i64);

pub(super) const API: Api =
    Api { is_repeatable: true, ..Api::new(ApiKey::ListOffsets, |call, reader| call.answer(reader, handle)) };

fn handle(call: &Call<'_>, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let isolation = Isolation::of(request.isolation_level);
    let topics = request.topics.into_iter().map(|wanted| {
        let topic = call.parts.state().topic(&wanted.name).cloned();
        let answer = |partition| answer(call, topic.as_deref(), partition, isolation);
        let partitions = wanted.partitions.iter().map(answer).collect();
        ListOffsetsTopicResponse { name: wanted.name, partitions, ..Default::default() }
    });
    ListOffsetsResponse { topics: topics.collect(), ..Default::default() }
}

fn answer(
    call: &Call<'_>,
    topic: Option<&Topic>,
    wanted: &ListOffsetsPartition,
    isolation: Isolation,
) -> ListOffsetsPartitionResponse {
    let (error_code, found) = match look_up(call, topic, wanted, isolation) {
        Ok(found) => (ErrorCode::NONE, found),
        Err(code) => (code, None),
    };
    let ((timestamp, offset), leader_epoch) = found.unwrap_or(((-1, -1), None));
    // Versions before 4 have no field for an epoch.
    let leader_epoch = leader_epoch.filter(|_| call.envelope.version >= 4).unwrap_or(-1);
    ListOffsetsPartitionResponse {
        partition_index: wanted.partition_index,
        error_code,
        timestamp,
        offset,
        leader_epoch,
        ..Default::default()
    }
}

fn look_up(
    call: &Call<'_>,
    topic: Option<&Topic>,
    wanted: &ListOffsetsPartition,
    isolation: Isolation,
) -> Result<Option<(Found, Option<i32>)>, ErrorCode> {
    let since = match wanted.timestamp {
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        EARLIEST_PENDING_UPLOAD => 11,
        EARLIEST | LATEST | 0.. => 1,
        _ => i16::MAX,
    };
    if call.envelope.version < since {
        return Err(ErrorCode::UNSUPPORTED_VERSION);
    }
    let partition = topic.and_then(|topic| topic.partition(wanted.partition_index));
    let partition = partition.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let mut state = partition.lock();
    let current = (wanted.current_leader_epoch >= 0).then_some(wanted.current_leader_epoch);
    state.check_leader(call.peer.node(), current)?;
    let readable_end = state.readable_end(isolation);
    let batch = match wanted.timestamp {
        LATEST => return Ok(Some(((-1, readable_end), state.epochs().latest()))),
        EARLIEST | EARLIEST_LOCAL => {
            let start = state.log_start();
            return Ok(Some(((-1, start), state.epochs().of_offset(start))));
        }
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => None,
        MAX_TIMESTAMP => match state.max_timestamp() {
            Some(timestamp) => state.batch_by_time(timestamp)?,
            None => None,
        },
        timestamp => state.batch_by_time(timestamp)?,
    };
    // Decompressing may take long, so it is done without the partition's lock.
    drop(state);
    let Some(batch) = batch else { return Ok(None) };
    let found = record_by_time(&batch, wanted.timestamp).map_err(|error| {
        tracing::warn!(%error, "cannot look into a stored batch");
        ErrorCode::CORRUPT_MESSAGE
    })?;
    // As in Kafka: a record that the consumer may not read yet is not found.
    if found.1 >= readable_end {
        return Ok(None);
    }
    Ok(Some((found, partition.lock().epochs().of_offset(found.1))))
}

/// The first record of the batch whose timestamp is at least `timestamp`; for `MAX_TIMESTAMP`, the record that has the
/// greatest.
fn record_by_time(batch: &Bytes, timestamp: i64) -> Result<Found, DecodeError> {
    let raw = RawBatch::parse(batch)?;
    let header = raw.header;
    let timestamp = if timestamp == MAX_TIMESTAMP { header.max_timestamp } else { timestamp };
    if header.attributes.timestamp_type() == TimestampType::LogAppendTime {
        return Ok((header.max_timestamp, header.base_offset));
    }
    let records = raw.decompress(&mut Decompressor::new(), &Pool::default(), &Limits::default())?;
    for record in &records {
        let record = record.map_err(|error| error.error)?;
        if record.timestamp >= timestamp {
            return Ok((record.timestamp, record.offset));
        }
    }
    // The header promises a greater timestamp than any record has. That is the producer's mistake, and harmless.
    Ok((header.max_timestamp, header.last_offset()))
}
