//! Processes Kafka records with many workers.
//!
//! One consumer reads, and a handler is called for each record: for many records at once, but for one at a time of each key, or of
//! each partition. What fails is tried again, and in the end put aside. An offset is committed when everything below it is
//! finished.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests run on tokio"))]
// Until the pipeline itself is here.
#![allow(dead_code)]

pub mod dead_letters;
mod failure;
mod record;
mod retry;
mod span;

pub use failure::{BoxError, Class, Failure};
pub use record::Record;
pub use retry::Retry;
pub use span::Span;

/// What most programs with a pipeline need.
pub mod prelude {
    pub use crate::{Failure, Record, Retry, Span};
}
