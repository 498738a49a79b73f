//! WriteTxnMarkers (27): the ends of transactions, as a coordinator tells them to the leaders of partitions, and as an
//! administrator does who aborts a transaction that hangs (KIP-664). KIP-98, KIP-1228 (the version of the transaction).

use milena_messages::write_txn_markers::{
    WritableTxnMarker, WritableTxnMarkerPartitionResult, WritableTxnMarkerResult,
    WritableTxnMarkerTopicResult, WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};
use milena_messages::{ApiKey, ErrorCode};

use super::row::Api;
use crate::acls::Operation;
use crate::call::Call;
use crate::producers::Marker;
use crate::transactions::{OFFSETS_TOPIC, VERSION_MAX};

pub(super) const API: Api = Api::new(ApiKey::WriteTxnMarkers, |call, reader| call.answer(reader, handle));

fn handle(call: &Call<'_>, request: WriteTxnMarkersRequest) -> WriteTxnMarkersResponse {
    // An administrator may do it as well as a coordinator (KIP-1219).
    let allowed =
        call.check_cluster(Operation::ClusterAction).or_else(|_| call.check_cluster(Operation::Alter));
    // Kafka fails to make one such marker, and answers none of them.
    let is_void = |marker: &WritableTxnMarker| marker.producer_id < 0 || marker.producer_epoch < 0;
    let is_refused = request.markers.iter().any(is_void);
    let markers = request.markers.into_iter().map(|wanted| {
        let marker = Marker {
            producer_id: wanted.producer_id,
            producer_epoch: wanted.producer_epoch,
            coordinator_epoch: wanted.coordinator_epoch,
            is_commit: wanted.transaction_result,
            raises_epoch: i16::from(wanted.transaction_version) >= VERSION_MAX,
        };
        let may_write = if is_refused { Err(ErrorCode::UNKNOWN_SERVER_ERROR) } else { allowed };
        let topics = write(call, may_write.map(|()| &marker), wanted);
        WritableTxnMarkerResult { producer_id: marker.producer_id, topics, ..Default::default() }
    });
    WriteTxnMarkersResponse { markers: markers.collect(), ..Default::default() }
}

fn write(
    call: &Call<'_>,
    marker: Result<&Marker, ErrorCode>,
    wanted: WritableTxnMarker,
) -> Vec<WritableTxnMarkerTopicResult> {
    let topics = wanted.topics.into_iter().map(|wanted| {
        let topic = call.parts.state().topic(&wanted.name).cloned();
        let write = |index: i32| {
            let marker = marker?;
            if wanted.name == OFFSETS_TOPIC {
                return call.parts.groups(call.now).end_transaction(index, marker, call.now);
            }
            let Some(partition) = topic.as_ref().and_then(|topic| topic.partition(index)) else {
                return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
            };
            let mut state = partition.lock();
            state.check_leader(call.peer.node(), None)?;
            let rules = topic.as_ref().map(|topic| topic.rules);
            rules.map_or(Ok(()), |rules| state.end_transaction(marker, &rules, call.now.unix_ms))
        };
        let partitions = wanted.partition_indexes.iter().map(|&partition_index| {
            let error_code = write(partition_index).err().unwrap_or(ErrorCode::NONE);
            WritableTxnMarkerPartitionResult { partition_index, error_code, ..Default::default() }
        });
        let partitions = partitions.collect();
        WritableTxnMarkerTopicResult { name: wanted.name, partitions, ..Default::default() }
    });
    topics.collect()
}
