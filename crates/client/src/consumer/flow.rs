//! Pausing and resuming partitions through handles, by name, and all at once; and what the consumer does by itself when the
//! application takes less than comes.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use milena_core::Instant;
use milena_core::source::{Flow, Stops};

use super::gate::Gate;
use super::shared::Shared;
use crate::Error;

/// Pauses and resumes one partition, from any task. Cheap to clone. It does not keep the consumer alive.
///
/// While a partition is paused, no reader gets its batches: neither [`Consumer::next`](crate::Consumer::next) nor the
/// partition's own [`PartitionConsumer`](crate::PartitionConsumer). Batches that were fetched stay in memory, and the
/// partition is left out of fetches, so that nothing is fetched twice. Other partitions go on as before. Resuming gives
/// the reader the batches that are there at once, and the partition is fetched at once as well, even while its broker
/// holds a fetch of other partitions back.
///
/// [`pause`](Self::pause) and [`resume`](Self::resume) change one atomic word. They take no lock and allocate nothing.
/// A task is told only when a partition is resumed that had something for its reader, or that was left out of a
/// fetch, meanwhile.
///
/// The handle is of the partition for as long as the consumer lives. If the partition is given up and assigned again,
/// it is not paused then. A partition that a rebalance leaves to this consumer stays paused.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cluster = milena_broker::Broker::builder().start().await?;
/// # cluster.create_topic("orders", 2)?;
/// # let client = milena::Client::connect(cluster.bootstrap()).await?;
/// # let producer = client.producer().build().await?;
/// # producer.send(milena::Record::to("orders").partition(1).value("created")).await?;
/// let mut consumer = client.consumer_direct().topic("orders").build().await?;
/// let orders = consumer.partition_handle("orders", 1)?;
/// assert!(orders.pause());
/// // In another task, once there is room for more work:
/// tokio::spawn(async move { orders.resume() });
/// let batch = consumer.next().await?.expect("partitions are assigned");
/// assert_eq!(batch.partition(), 1);
///
/// // Many at once.
/// let handles = consumer.partition_handles();
/// milena::PartitionHandle::pause_each(&handles);
/// milena::PartitionHandle::resume_each(&handles[..1]);
/// assert!(handles[1].is_paused());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PartitionHandle {
    gate: Arc<Gate>,
    shared: Weak<Shared>,
}

impl PartitionHandle {
    /// The topic.
    pub fn topic(&self) -> &str {
        &self.gate.topic
    }

    /// The partition.
    pub fn partition(&self) -> i32 {
        self.gate.partition
    }

    /// Returns no batches of the partition until [`resume`](Self::resume). Pausing it twice is the same as once.
    ///
    /// Answers whether the partition is assigned; nothing is changed if not. As KafkaConsumer's `pause`.
    pub fn pause(&self) -> bool {
        self.gate.pause()
    }

    /// Returns batches of the partition again, beginning with those that were fetched before it was paused.
    ///
    /// Answers whether the partition is assigned; nothing is changed if not. As KafkaConsumer's `resume`.
    pub fn resume(&self) -> bool {
        let resumed = self.gate.resume();
        if resumed.is_wanted()
            && let Some(shared) = self.shared.upgrade()
        {
            shared.handle_resumed([(&*self.gate, resumed)]);
        }
        resumed.is_assigned
    }

    /// Whether the partition is assigned and paused.
    pub fn is_paused(&self) -> bool {
        self.gate.is_paused()
    }

    /// Whether the partition is assigned to the consumer.
    pub fn is_assigned(&self) -> bool {
        self.gate.is_assigned()
    }

    /// Pauses these partitions, except those that are not assigned any more.
    pub fn pause_each<'a>(handles: impl IntoIterator<Item = &'a Self>) {
        for handle in handles {
            handle.pause();
        }
    }

    /// Resumes these partitions, except those that are not assigned any more. Those of one consumer are fetched
    /// together.
    pub fn resume_each<'a>(handles: impl IntoIterator<Item = &'a Self>) {
        let mut handles = handles.into_iter().peekable();
        while let Some(first) = handles.peek() {
            let shared = Weak::clone(&first.shared);
            let of_one = std::iter::from_fn(|| handles.next_if(|next| next.shared.ptr_eq(&shared)));
            resume_each(&shared, of_one.map(|handle| &*handle.gate));
        }
    }
}

/// What a consumer has buffered, and how often and for how long it has stopped fetching because of that, at one moment. See
/// [`Consumer::flow`](crate::Consumer::flow).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cluster = milena_broker::Broker::builder().start().await?;
/// # cluster.create_topic("orders", 1)?;
/// # let client = milena::Client::connect(cluster.bootstrap()).await?;
/// # client.producer().build().await?.send(milena::Record::to("orders").value("created")).await?;
/// let builder = client.consumer_direct().topic("orders");
/// let builder = builder.settings(|settings| settings.partition_buffer_records_max = Some(1));
/// let mut consumer = builder.build().await?;
/// let batch = consumer.next().await?.expect("a partition is assigned");
/// let flow = consumer.flow();
/// println!("stopped {} times, for {:?} in all", flow.partitions.count, flow.partitions.time);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerFlow {
    /// Bytes that were fetched and not taken yet, as they came. Paused partitions do not count.
    pub buffered_bytes: usize,
    /// The number of records in them.
    pub buffered_records: usize,
    /// Single partitions that had as much as
    /// [`partition_buffer_bytes_max`](crate::ConsumerSettings::partition_buffer_bytes_max) or
    /// [`partition_buffer_records_max`](crate::ConsumerSettings::partition_buffer_records_max) allow.
    pub partitions: FetchStops,
    /// All partitions together, which had as much as
    /// [`buffer_bytes_max`](crate::ConsumerSettings::buffer_bytes_max) or
    /// [`buffer_records_max`](crate::ConsumerSettings::buffer_records_max) allow.
    pub all: FetchStops,
}

/// How often fetching has stopped because the application takes less than comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FetchStops {
    /// How many are stopped now.
    pub now: usize,
    /// How often one has stopped since the consumer was built.
    pub count: u64,
    /// For how long, in all. Two partitions that have stopped for a second count as two seconds.
    pub time: Duration,
}

impl FetchStops {
    fn new(stops: &Stops, now: Instant) -> Self {
        Self { now: stops.now, count: stops.count, time: stops.time(now) }
    }
}

impl ConsumerFlow {
    pub(super) fn new(flow: &Flow, now: Instant) -> Self {
        Self {
            buffered_bytes: flow.buffered.bytes,
            buffered_records: flow.buffered.records,
            partitions: FetchStops::new(&flow.partitions, now),
            all: FetchStops::new(&flow.all, now),
        }
    }
}

/// Resumes partitions of one consumer.
fn resume_each<'a>(shared: &Weak<Shared>, gates: impl Iterator<Item = &'a Gate>) {
    // Most flips are no news to the consumer, and cost no allocation here either.
    let resumed = gates.map(|gate| (gate, gate.resume())).filter(|(_, resumed)| resumed.is_wanted());
    let resumed: Vec<_> = resumed.collect();
    if !resumed.is_empty()
        && let Some(shared) = shared.upgrade()
    {
        shared.handle_resumed(resumed);
    }
}

impl fmt::Debug for PartitionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartitionHandle")
            .field("topic", &self.topic())
            .field("partition", &self.partition())
            .field("is_paused", &self.is_paused())
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn partition_handle(
        self: &Arc<Self>,
        topic: &str,
        partition: i32,
    ) -> Result<PartitionHandle, Error> {
        Ok(self.handle(self.gate(topic, partition, "looking for")?))
    }

    pub(super) fn partition_handles(self: &Arc<Self>) -> Vec<PartitionHandle> {
        self.gates().iter().map(|gate| self.handle(gate)).collect()
    }

    pub(super) fn handle(self: &Arc<Self>, gate: &Arc<Gate>) -> PartitionHandle {
        PartitionHandle { gate: Arc::clone(gate), shared: Arc::downgrade(self) }
    }

    pub(super) fn pause(&self, topic: &str, partition: i32) -> Result<(), Error> {
        self.gate(topic, partition, "pausing")?.pause();
        Ok(())
    }

    pub(super) fn resume(&self, topic: &str, partition: i32) -> Result<(), Error> {
        let gate = self.gate(topic, partition, "resuming")?;
        self.resume_gate(gate);
        Ok(())
    }

    /// Answers whether the partition is assigned.
    pub(super) fn resume_gate(&self, gate: &Gate) -> bool {
        let resumed = gate.resume();
        if resumed.is_wanted() {
            self.handle_resumed([(gate, resumed)]);
        }
        resumed.is_assigned
    }

    pub(super) fn pause_all(&self) {
        for gate in self.gates() {
            gate.pause();
        }
    }

    pub(super) fn resume_all(self: &Arc<Self>) {
        resume_each(&Arc::downgrade(self), self.gates().iter().map(|gate| &**gate));
    }
}
