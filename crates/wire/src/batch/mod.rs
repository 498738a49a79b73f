//! Record batches: built record by record, sealed, read back as borrowed records.
//!
//! ```text
//!  BatchBuilder ─ seal ─▶ SealedBatch ─ stamp, bytes ─▶ Bytes on the wire
//!  Bytes ─▶ Batches ─▶ RawBatch (header + bytes as they came) ─ check_crc, decompress ─▶ RecordBatch ─▶ Record<'_>
//!  bytes in a log ─▶ BatchMut (assigns offsets and epochs in place)
//! ```
//!
//! A record costs no allocation, lock or atomic in either direction; a batch costs a few. The older message sets
//! (magic 0 and 1) are read through the same types and never written.
//!
//! This module owns the layout of batches and records. It must not know offsets' meaning to a consumer, sequences'
//! meaning to a producer, nor which transactions were aborted.

pub(crate) mod batches;
mod builder;
mod control;
mod crc;
mod edit;
pub(crate) mod header;
mod place;
pub(crate) mod record;
pub(crate) mod records;
mod sealed;

pub use batches::{Batches, PartialBatch, RawBatch};
pub use builder::{AppendError, BatchBuilder};
pub use control::{ControlRecord, end_transaction};
pub use edit::BatchMut;
pub use header::{Attributes, BatchHeader, HEADER_BYTES, NO_TIMESTAMP, ProducerStamp, TimestampType};
pub use place::RecordPlace;
pub use record::{Header, Headers, Record};
pub use records::{Contents, RecordBatch, RecordError, Records, RecordsPlace};
pub use sealed::SealedBatch;
