//! A broker, a client and records for a pipeline.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use milena::{Client, Isolation, OwnedRecord, Record};
use milena_broker::{Broker, Cluster};
use tokio::sync::watch;

/// Longer than anything here takes, so that a test which hangs ends.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct World {
    /// It runs as long as this is here.
    pub(crate) cluster: Cluster,
    pub(crate) client: Client,
}

impl World {
    /// A broker with the topic "orders" of so many partitions.
    pub(crate) async fn new(partitions: i32) -> Self {
        let builder = Broker::builder().group_initial_rebalance_delay(Duration::ZERO);
        let cluster = builder.start().await.expect("starts");
        cluster.create_topic("orders", partitions).expect("is made");
        let client = Client::connect(cluster.bootstrap()).await.expect("connects");
        Self { cluster, client }
    }

    /// The same, with a client that may hold so many bytes of records.
    pub(crate) async fn with_memory(partitions: i32, bytes: usize) -> Self {
        let world = Self::new(partitions).await;
        let builder = Client::builder().bootstrap(world.cluster.bootstrap()).memory_bytes_max(bytes);
        Self { client: builder.connect().await.expect("connects"), ..world }
    }

    /// Writes records "0", "1" and so on, with the key and the partition that `place` names.
    pub(crate) async fn write(&self, count: usize, place: impl Fn(usize) -> (Option<String>, i32)) {
        let producer = self.client.producer().build().await.expect("a producer");
        for number in 0..count {
            let (key, partition) = place(number);
            let (value, key) = (number.to_string(), key.as_deref().map(str::as_bytes));
            let record = Record::to("orders").partition(partition).key_or_null(key).value(&value);
            producer.post(record).await.expect("is taken");
        }
        producer.flush().await.expect("all are written");
    }

    /// What the group has committed of a partition of "orders".
    pub(crate) async fn committed(&self, group: &str, partition: i32) -> Option<i64> {
        self.committed_of(group, "orders", partition).await
    }

    /// What the group has committed of a partition.
    pub(crate) async fn committed_of(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        let consumer = self.client.consumer(group).assign([(topic, partition)]).build().await.expect("reads");
        let committed = consumer.committed([(topic, partition)]).await.expect("is told");
        committed.into_iter().next().and_then(|(_, committed)| committed).map(|committed| committed.offset)
    }
}

impl World {
    /// All records of a topic, as those see it who read only what is committed.
    pub(crate) async fn read(&self, topic: &str) -> Vec<OwnedRecord> {
        let consumer = self.client.consumer_direct().topic(topic).isolation(Isolation::ReadCommitted);
        let mut consumer = consumer.until_end().build().await.expect("reads");
        let mut records = Vec::new();
        while let Some(batch) = consumer.next().await.expect("reads") {
            records.extend(batch.iter().map(|record| record.to_owned()));
        }
        records
    }
}

/// The value of a header, as text.
pub(crate) fn text(record: &OwnedRecord, name: &str) -> String {
    let value = record.headers.iter().filter(|(of, _)| of == name.as_bytes());
    let values: Vec<_> = value.map(|(_, value)| value.clone().unwrap_or_default()).collect();
    assert!(values.len() <= 1, "{name} is there {} times", values.len());
    String::from_utf8(values.into_iter().next().unwrap_or_default()).expect("text")
}

/// Waits until something is so.
pub(crate) async fn until(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.expect("it becomes so");
}

/// Counts, and tells when a number is reached.
#[derive(Clone)]
pub(crate) struct Counter(Arc<watch::Sender<usize>>);

impl Counter {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::channel(0).0))
    }

    pub(crate) fn add(&self) -> usize {
        let mut count = 0;
        self.0.send_modify(|now| {
            *now += 1;
            count = *now;
        });
        count
    }

    pub(crate) fn now(&self) -> usize {
        *self.0.borrow()
    }

    /// Waits until it is at least this many.
    pub(crate) async fn reach(&self, count: usize) {
        let mut seen = self.0.subscribe();
        let reached = seen.wait_for(|now| *now >= count);
        tokio::time::timeout(LIMIT, reached)
            .await
            .unwrap_or_else(|_| panic!("{} of {count}", self.now()))
            .expect("counts");
    }
}

/// Things in the order in which they happened.
#[derive(Clone)]
pub(crate) struct Log<T>(Arc<Mutex<Vec<T>>>);

impl<T: Clone> Log<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    pub(crate) fn push(&self, thing: T) {
        self.0.lock().unwrap().push(thing);
    }

    pub(crate) fn all(&self) -> Vec<T> {
        self.0.lock().unwrap().clone()
    }
}
