//! Processes Kafka records with many workers.
//!
//! One consumer reads, and a handler is called for each record: for many records at once, but for one at a time of each key, or of
//! each partition. What fails is tried again, and in the end put aside. An offset is committed when everything below it is
//! finished.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests run on tokio"))]

pub mod alerts;
mod aside;
mod control;
pub mod dead_letters;
mod error;
mod exactly_once;
mod failure;
mod flow;
mod gather;
mod handler;
mod intake;
pub mod layers;
mod limit;
pub mod metrics;
mod permits;
mod pipeline;
mod record;
mod retry;
mod retry_topics;
mod schedule;
mod span;
mod stats;
mod topics;
mod window;
mod worker;

pub use error::PipelineError;
pub use exactly_once::{GroupTransform, Input, Output, Outputs, Transform, writer};
pub use failure::{BoxError, Class, Failure};
pub use gather::Together;
pub use handler::{
    Answer, AsService, Attempt, Blocking, FromBytes, FromRecord, GroupHandler, GroupService, Handler,
    Headers, Json, Key, Outcome, RecordService, Value, blocking, service,
};
pub use pipeline::Pipeline;
pub use record::Record;
pub use retry::Retry;
pub use retry_topics::{Origin, RetryTopics};
pub use schedule::Order;
pub use span::Span;
pub use stats::{Left, PipelineStats, PipelineWatch, Report, RetryTierStats, Stall};

/// What most programs with a pipeline need.
pub mod prelude {
    pub use crate::{
        Attempt, Failure, Json, Key, Order, Output, Pipeline, Record, Retry, Span, Together, Value,
    };
}
