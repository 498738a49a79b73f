//! Control records, which brokers write into a partition for each other and for consumers, between the users' records.

use super::header::ProducerStamp;
use super::{BatchBuilder, Record, SealedBatch};
use crate::pool::Pool;
use crate::{DecodeError, DecodeReason};

/// The content of a control record.
///
/// ```
/// use milena_wire::batch::{Batches, ControlRecord, end_transaction};
/// use milena_wire::codec::Decompressor;
/// use milena_wire::pool::Pool;
/// use milena_wire::Limits;
///
/// let pool = Pool::default();
/// let marker = ControlRecord::Commit { coordinator_epoch: 3 };
/// let batch = end_transaction(&pool, marker, 1_700_000_000_000, 4001, 0);
/// let raw = Batches::new(batch.into_bytes()).next().expect("one")?;
/// assert!(raw.header.is_control() && raw.header.is_transactional());
/// let batch = raw.decompress(&mut Decompressor::new(), &pool, &Limits::default())?;
/// let record = batch.records().next().expect("one")?;
/// assert_eq!(ControlRecord::parse(&record)?, marker);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ControlRecord {
    /// The producer's open transaction is aborted.
    Abort {
        /// The epoch of the transaction coordinator.
        coordinator_epoch: i32,
    },
    /// The producer's open transaction is committed.
    Commit {
        /// The epoch of the transaction coordinator.
        coordinator_epoch: i32,
    },
    /// A record for brokers only, such as a change of a KRaft quorum's leader (2).
    Other(i16),
}

const ABORT: i16 = 0;
const COMMIT: i16 = 1;

impl ControlRecord {
    /// Parses a record of a control batch. Versions after 0 only add fields, which are ignored.
    ///
    /// # Errors
    /// When its key or value is not that of a control record.
    pub fn parse(record: &Record<'_>) -> Result<Self, DecodeError> {
        let key = record.key.unwrap_or_default();
        let control_type = i16::from_be_bytes(part(key, 2, "ControlRecordType.Type")?);
        if version(key, "ControlRecordType.Version")? < 0 {
            return Err(negative("ControlRecordType.Version"));
        }
        if control_type != ABORT && control_type != COMMIT {
            return Ok(Self::Other(control_type));
        }
        let value = record.value.unwrap_or_default();
        if version(value, "EndTxnMarker.Version")? < 0 {
            return Err(negative("EndTxnMarker.Version"));
        }
        let coordinator_epoch = i32::from_be_bytes(part(value, 2, "EndTxnMarker.CoordinatorEpoch")?);
        Ok(if control_type == COMMIT {
            Self::Commit { coordinator_epoch }
        } else {
            Self::Abort { coordinator_epoch }
        })
    }
}

/// The control batch that a partition's leader appends at the end of a transaction.
///
/// # Panics
/// When `marker` is neither [`ControlRecord::Abort`] nor [`ControlRecord::Commit`].
pub fn end_transaction(
    pool: &Pool,
    marker: ControlRecord,
    timestamp: i64,
    producer_id: i64,
    producer_epoch: i16,
) -> SealedBatch {
    let (control_type, coordinator_epoch) = match marker {
        ControlRecord::Abort { coordinator_epoch } => (ABORT, coordinator_epoch),
        ControlRecord::Commit { coordinator_epoch } => (COMMIT, coordinator_epoch),
        ControlRecord::Other(_) => panic!("only commit and abort end a transaction"),
    };
    let mut key = [0; 4];
    key[2..].copy_from_slice(&control_type.to_be_bytes());
    let mut value = [0; 6];
    value[2..].copy_from_slice(&coordinator_epoch.to_be_bytes());
    let mut builder = BatchBuilder::new(pool).control(true).transactional(true);
    builder.append(timestamp, Some(&key), Some(&value), &[]).expect("ten bytes fit into a batch");
    let mut sealed = builder.seal();
    sealed.set_producer(ProducerStamp { producer_id, producer_epoch, base_sequence: None });
    sealed
}

fn version(bytes: &[u8], field: &'static str) -> Result<i16, DecodeError> {
    part(bytes, 0, field).map(i16::from_be_bytes)
}

fn part<const N: usize>(bytes: &[u8], at: usize, field: &'static str) -> Result<[u8; N], DecodeError> {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or_else(|| {
        let remaining = bytes.len().saturating_sub(at);
        DecodeError::new(field, at, DecodeReason::Truncated { needed: N, remaining })
    })
}

fn negative(field: &'static str) -> DecodeError {
    DecodeError::new(field, 0, DecodeReason::Invalid("negative version"))
}
