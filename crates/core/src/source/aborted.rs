//! The batches of aborted transactions within one answer (KIP-98), which a consumer of committed records must not see.
//!
//! The answer lists transactions by producer and first offset. A transaction's batches are those of its producer from
//! there up to its ABORT marker; the same producer may abort several within one answer.

use std::collections::BTreeSet;

use milena_messages::fetch::AbortedTransaction;
use milena_wire::Limits;
use milena_wire::batch::{ControlRecord, RawBatch};
use milena_wire::codec::Decompressor;
use milena_wire::pool::Pool;

pub(super) struct Aborted {
    /// First offset and producer of the transactions that no batch has reached yet, the earliest one last.
    ahead: Vec<(i64, i64)>,
    /// Producers that are in the middle of an aborted transaction.
    within: BTreeSet<i64>,
}

impl Aborted {
    pub(super) fn new(transactions: Option<&[AbortedTransaction]>) -> Self {
        let transactions = transactions.unwrap_or_default();
        let mut ahead: Vec<_> = transactions
            .iter()
            .map(|transaction| (transaction.first_offset, transaction.producer_id))
            .collect();
        // Not every broker sends them in order (Redpanda).
        ahead.sort_unstable_by(|left, right| right.cmp(left));
        Self { ahead, within: BTreeSet::new() }
    }

    /// Whether `batch`, which ends before offset `end`, belongs to an aborted transaction. It must be asked about every
    /// batch, in order.
    pub(super) fn covers(&mut self, batch: &RawBatch, end: i64) -> bool {
        while let Some((_, producer)) = self.ahead.pop_if(|(first, _)| *first < end) {
            self.within.insert(producer);
        }
        let header = &batch.header;
        let Some(producer) = header.producer.filter(|_| header.attributes.is_transactional()) else {
            return false;
        };
        if header.attributes.is_control() {
            if is_abort(batch) {
                self.within.remove(&producer.producer_id);
            }
            return false;
        }
        self.within.contains(&producer.producer_id)
    }
}

/// Whether a control batch aborts a transaction. A marker that cannot be read ends no transaction.
fn is_abort(batch: &RawBatch) -> bool {
    // Brokers do not compress markers, so no memory is needed for it.
    let opened = batch.decompress(
        &mut Decompressor::new(),
        &Pool::unpooled(),
        &Limits { decompressed_bytes_max: 4096 },
    );
    let Ok(records) = opened else { return false };
    let Some(Ok(record)) = records.records().next() else { return false };
    matches!(ControlRecord::parse(&record), Ok(ControlRecord::Abort { .. }))
}
