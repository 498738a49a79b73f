//! Bytes on Kafka's wire: primitives, record batches, codecs and the buffer pool.
//!
//! ```text
//!  frame (Bytes) ─▶ Reader ─▶ fields, Str, Bytes (slices of the frame)
//!  fields, Bytes ─▶ Writer ─▶ WireFrame (one buffer + linked payloads, for a vectored write)
//!  records ─▶ batch::BatchBuilder ─▶ SealedBatch ─▶ Bytes ─▶ batch::Batches ─▶ RecordBatch ─▶ records
//! ```
//!
//! This crate owns layout and limits. It must not know tasks, time, or what a topic means.

pub mod batch;
pub mod codec;
mod error;
mod limits;
mod lists;
mod message_set;
pub mod pool;
mod reader;
mod str;
mod uuid;
pub mod varint;
mod writer;

pub use error::{DecodeError, DecodeReason, EncodeError, EncodeReason};
pub use limits::Limits;
pub use lists::Lists;
pub use reader::Reader;
pub use str::Str;
pub use uuid::Uuid;
pub use writer::{FrameMark, TagsMark, WireFrame, Writer};

/// Tagged fields that this build does not know, kept unchanged: `(tag, bytes)` in ascending order of tags (KIP-482).
pub type TaggedFields = Vec<(u32, bytes::Bytes)>;
