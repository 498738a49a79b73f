//! What a client must be able to do to be measured. Each method is written with the client's own documentation open:
//! what it advises for throughput is what runs.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;

use crate::{Consume, Job, Measured, Producing, Records, Results, Sink};

/// What was set, in the client's own names. Whoever builds a client writes down here what it sets.
pub type Settings = BTreeMap<String, String>;

/// One client library.
pub trait Client: 'static {
    /// The package's name.
    const NAME: &'static str;
    /// Sends single records.
    type Producer: Producer;
    /// Reads records.
    type Consumer: Consumer;

    /// The library beneath, if the package only binds one, with its version.
    fn beneath() -> Option<String> {
        None
    }

    /// A producer for `send`, `pace` and `latency`.
    fn producer(
        job: &Job,
        producing: &Producing,
        settings: &mut Settings,
    ) -> impl Future<Output = anyhow::Result<Self::Producer>>;

    /// Sends all `records` as fast as it goes, and has the result of each counted. What it builds before
    /// [`Measuring::start`](crate::Measuring::start) is not measured.
    fn produce(
        job: &Job,
        producing: &Producing,
        records: Records,
        results: &Arc<Results>,
        settings: &mut Settings,
    ) -> impl Future<Output = anyhow::Result<Measured>>;

    /// A consumer of all partitions of the topic, from their beginning.
    fn consumer(
        job: &Job,
        consume: &Consume,
        settings: &mut Settings,
    ) -> impl Future<Output = anyhow::Result<Self::Consumer>>;
}

/// Sends records one by one.
pub trait Producer: Send + Sync + 'static {
    /// Hands over one record and returns as soon as the client has taken it; what comes back resolves when it is
    /// acknowledged.
    fn enqueue(
        &self,
        value: Bytes,
    ) -> impl Future<Output = anyhow::Result<impl Future<Output = anyhow::Result<()>> + Send + 'static>> + Send;
}

/// Reads records.
pub trait Consumer: Send + 'static {
    /// What the client's documentation advises to hold on to a record by.
    type Kept: Send;

    /// Waits for records, a while, and hands over what came.
    fn poll(&mut self, sink: &mut impl Sink<Self::Kept>) -> impl Future<Output = anyhow::Result<()>>;
}
