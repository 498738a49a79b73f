//! ListOffsets (2): offsets by time, and the special times. KIP-79, KIP-734 (greatest timestamp), KIP-320 (epochs),
//! KIP-405, KIP-1005 and KIP-1023 (tiers; here the whole log is local).

use bytes::Bytes;
use milena_messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::batch::RawBatch;
use milena_wire::codec::Decompressor;
use milena_wire::pool::Pool;
use milena_wire::{DecodeError, Limits};

use super::row::Api;
use crate::acls::{Operation, Resource};
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
        let allowed = call.check(Operation::Describe, Resource::Topic, &wanted.name);
        let answer = |partition| answer(call, allowed.map(|()| topic.as_deref()), partition, isolation);
        let partitions = wanted.partitions.iter().map(answer).collect();
        ListOffsetsTopicResponse { name: wanted.name, partitions, ..Default::default() }
    });
    ListOffsetsResponse { topics: topics.collect(), ..Default::default() }
}

fn answer(
    call: &Call<'_>,
    topic: Result<Option<&Topic>, ErrorCode>,
    wanted: &ListOffsetsPartition,
    isolation: Isolation,
) -> ListOffsetsPartitionResponse {
    let (error_code, found) = match topic.and_then(|topic| look_up(call, topic, wanted, isolation)) {
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
    let mut from = state.log_start();
    let timestamp = match wanted.timestamp {
        LATEST => return Ok(Some(((-1, readable_end), state.epochs().latest()))),
        EARLIEST | EARLIEST_LOCAL => return Ok(Some(((-1, from), state.epochs().of_offset(from)))),
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => return Ok(None),
        MAX_TIMESTAMP => match state.max_timestamp() {
            Some(timestamp) => timestamp,
            None => return Ok(None),
        },
        timestamp => timestamp,
    };
    // A batch may have no such record: its records before the log's start are deleted, and compaction removes records
    // without lowering the greatest timestamp of a batch that has none left.
    loop {
        let Some(batch) = state.batch_by_time(timestamp, from)? else { return Ok(None) };
        // Decompressing may take long, so it is done without the partition's lock.
        drop(state);
        let found = record_by_time(&batch, timestamp, from).map_err(|error| {
            tracing::warn!(%error, "cannot look into a stored batch");
            ErrorCode::CORRUPT_MESSAGE
        })?;
        state = partition.lock();
        match found {
            Search::Found(found) => {
                // As in Kafka: a record that the consumer may not read yet is not found.
                let epoch = state.epochs().of_offset(found.1);
                return Ok((found.1 < readable_end).then_some((found, epoch)));
            }
            Search::GoOnAt(next) => from = next,
        }
    }
}

/// The outcome of looking into one batch.
enum Search {
    Found(Found),
    /// It has no such record. The next batch has this offset or a later one.
    GoOnAt(i64),
}

/// The first record of the batch at `from` or after it whose timestamp is at least `timestamp`.
fn record_by_time(batch: &Bytes, timestamp: i64, from: i64) -> Result<Search, DecodeError> {
    let raw = RawBatch::parse(batch)?;
    let header = raw.header;
    let records = raw.decompress(&mut Decompressor::new(), &Pool::default(), &Limits::default())?;
    for record in &records {
        let record = record.map_err(|error| error.error)?;
        if record.timestamp >= timestamp && record.offset >= from {
            return Ok(Search::Found((record.timestamp, record.offset)));
        }
    }
    Ok(Search::GoOnAt(header.next_offset()))
}
