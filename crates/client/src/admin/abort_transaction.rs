//! `WriteTxnMarkers`: aborts a transaction at a partition, past its coordinator (KIP-664).

use std::sync::Arc;

use milena_core::Failure;
use milena_core::calls::{Row, WRITE_TXN_MARKERS};
use milena_core::metadata::Destination;
use milena_messages::write_txn_markers::{
    WritableTxnMarker, WritableTxnMarkerTopic, WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};

use super::partitions::leader_of;
use super::{Admin, OpenTransaction};
use crate::Error;
use crate::calls::{Answers, ApiCall};

struct AbortTransaction;

impl ApiCall for AbortTransaction {
    const ROW: &'static Row = &WRITE_TXN_MARKERS;
    type Request = WriteTxnMarkersRequest;
    type Item = OpenTransaction;
    /// The topic, the partition's index and the producer id.
    type Key = (String, i32, i64);
    type Found = ();

    fn destination(&self, of: &OpenTransaction) -> Destination {
        leader_of(&(Arc::from(of.topic.as_str()), of.partition))
    }

    fn key(&self, of: &OpenTransaction) -> Self::Key {
        (of.topic.clone(), of.partition, of.producer_id)
    }

    fn request(&self, transactions: &[&OpenTransaction]) -> WriteTxnMarkersRequest {
        let marker = |of: &&OpenTransaction| {
            let topic = WritableTxnMarkerTopic {
                name: of.topic.as_str().into(),
                partition_indexes: vec![of.partition],
                ..Default::default()
            };
            WritableTxnMarker {
                producer_id: of.producer_id,
                producer_epoch: of.producer_epoch,
                transaction_result: false,
                topics: vec![topic],
                // Java's tool takes 0 for a partition that no coordinator has written to, too.
                coordinator_epoch: of.coordinator_epoch.unwrap_or(0),
                ..Default::default()
            }
        };
        let markers = transactions.iter().map(marker).collect();
        WriteTxnMarkersRequest { markers, ..Default::default() }
    }

    fn answers(&self, response: WriteTxnMarkersResponse) -> Answers<Self::Key, ()> {
        let mut answers = Vec::new();
        for marker in response.markers {
            for topic in marker.topics {
                for of in topic.partitions {
                    let key = (topic.name.to_string(), of.partition_index, marker.producer_id);
                    answers.push((key, Failure::check(of.error_code, None)));
                }
            }
        }
        answers
    }
}

impl Admin {
    /// Aborts a transaction at one partition, by a marker that does not come from its coordinator. It is for transactions that
    /// hang: the partition has one open that no coordinator knows, so that none will end it, and
    /// consumers that read only what is committed wait there for ever. [`describe_producers`](Self::describe_producers) shows
    /// the open transactions of a partition; [`list_transactions`](Self::list_transactions) and
    /// [`describe_transactions`](Self::describe_transactions) show whether a coordinator knows them.
    ///
    /// A transaction that a coordinator knows must not be aborted so: its producer would go on, and commit the rest of it.
    ///
    /// # Errors
    /// When the partition does not exist or has no leader, this principal may not change the cluster, or the producer has a higher
    /// epoch there by now ([`ErrorCode::INVALID_PRODUCER_EPOCH`](crate::ErrorCode::INVALID_PRODUCER_EPOCH)) or a later coordinator
    /// ([`ErrorCode::TRANSACTION_COORDINATOR_FENCED`](crate::ErrorCode::TRANSACTION_COORDINATOR_FENCED)).
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn abort_transaction(&self, of: &OpenTransaction) -> Result<(), Error> {
        let OpenTransaction { topic, partition, producer_id, .. } = of;
        let aborted = self.call_one(&AbortTransaction, of.clone()).await;
        aborted.map_err(|failure| {
            let at = format!("at partition {partition} of topic {topic:?}");
            Error::new(format!("aborting the transaction of producer {producer_id} {at}"), failure)
        })
    }
}
