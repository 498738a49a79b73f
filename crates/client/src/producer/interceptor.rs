//! Code of the program that sees what a producer writes, for metrics, audits and traces.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::SystemTime;

use crate::trace::TraceContext;
use crate::{Error, Record};

/// Sees the batches of a producer when they are settled and, if it wants, each record when it is taken: see
/// [`ProducerBuilder::interceptor`](crate::ProducerBuilder::interceptor). It cannot change them. A producer without
/// interceptors does nothing for them.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cluster = milena_broker::Broker::builder().start().await?;
/// # cluster.create_topic("orders", 2)?;
/// # let client = milena::Client::connect(cluster.bootstrap()).await?;
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use milena::{Interceptor, Record, SettledBatch};
///
/// #[derive(Debug, Default)]
/// struct Written(AtomicU64);
///
/// impl Interceptor for Written {
///     fn settled(&self, batch: &SettledBatch<'_>) {
///         if batch.result.is_ok() {
///             self.0.fetch_add(u64::from(batch.records), Ordering::Relaxed);
///         }
///     }
/// }
///
/// let written = Arc::new(Written::default());
/// let producer = client.producer().interceptor(written.clone()).build().await?;
/// producer.send(Record::to("orders").key("42").value("created")).await?;
/// producer.flush().await?;
/// assert_eq!(written.0.load(Ordering::Relaxed), 1);
/// # Ok(())
/// # }
/// ```
pub trait Interceptor: fmt::Debug + Send + Sync {
    /// A batch was written or given up. It is called on the producer's own task, in the order of a partition's batches: while
    /// it runs, the producer sends nothing, so it must not block. A panic in it is caught and logged. Deliveries of the batch
    /// have resolved before.
    fn settled(&self, batch: &SettledBatch<'_>);

    /// Whether [`taken`](Self::taken) is called for each record. It is asked once, when the producer is built. Default false.
    fn wants_records(&self) -> bool {
        false
    }

    /// A record was taken into a batch of this partition. It is called on the task that produces, and is part of the cost of
    /// each record there.
    fn taken(&self, record: &Record<'_>, partition: i32) {
        let _ = (record, partition);
    }
}

/// A batch that was written or given up.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct SettledBatch<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// The number of its records.
    pub records: u32,
    /// Its size before compression.
    pub bytes: usize,
    /// Its size as it was sent.
    pub compressed_bytes: usize,
    /// The offset of its first record, which the broker may not tell, or why the batch was not written.
    pub result: Result<Option<i64>, &'a Error>,
    /// The client's id ([`ClientBuilder::client_id`](crate::ClientBuilder::client_id)).
    pub client_id: &'a str,
    /// Host and port of the partition's leader, as far as it is known now.
    pub broker: Option<(&'a str, u16)>,
    /// When it was sent first. If it was not, when it was given up.
    pub began: SystemTime,
    /// When it was written or given up.
    pub ended: SystemTime,
    /// The [trace contexts](crate::trace) in which its records were created, each once and 128 at most. Those of the pieces of a batch
    /// that was too large for its broker are those of the whole batch. Empty if the client has no
    /// [hooks](crate::ClientBuilder::trace).
    pub contexts: &'a [TraceContext],
}

/// Tells all interceptors of a batch.
#[cold]
pub(super) fn tell_settled(interceptors: &[Arc<dyn Interceptor>], batch: &SettledBatch<'_>) {
    for interceptor in interceptors {
        if catch_unwind(AssertUnwindSafe(|| interceptor.settled(batch))).is_err() {
            tracing::error!(target: "milena", "the interceptor {interceptor:?} of the program panicked");
        }
    }
}
