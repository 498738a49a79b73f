//! A cluster, writers that go on writing, and members of a group.

use std::time::{Duration, Instant};

use milena::{Client, Consumer, GroupConsumerBuilder, Protocol, Record};
use milena_broker::{Broker, Builder, Cluster};
use milena_observe::doctor::{Fault, Finding, Plan, diagnose, examine};
use tokio::task::JoinHandle;

/// Longer than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

pub(crate) struct World {
    /// It runs as long as this is here.
    pub(crate) cluster: Cluster,
    pub(crate) client: Client,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

pub(crate) fn builder() -> Builder {
    Broker::builder()
        .group_initial_rebalance_delay(Duration::ZERO)
        .group_consumer_heartbeat_interval(Duration::from_millis(100))
}

impl World {
    /// A broker with the topic "orders".
    pub(crate) async fn new(partitions: i32) -> Self {
        let cluster = builder().start().await.expect("starts");
        cluster.create_topic("orders", partitions).expect("is made");
        let client = Client::connect(cluster.bootstrap()).await.expect("connects");
        Self { cluster, client, tasks: Vec::new() }
    }

    /// Writes records in a row: their keys, and the partitions that they go to if they have none.
    pub(crate) async fn write(
        &self,
        count: usize,
        bytes: usize,
        place: impl Fn(usize) -> (Option<String>, i32),
    ) {
        let producer = self.client.producer().build().await.expect("a producer");
        let value = vec![b'x'; bytes];
        for number in 0..count {
            let (key, partition) = place(number);
            let record = Record::to("orders").key_or_null(key.as_deref().map(str::as_bytes)).value(&value);
            let record = if key.is_some() { record } else { record.partition(partition) };
            producer.post(record).await.expect("is taken");
        }
        producer.flush().await.expect("all are written");
    }

    /// Goes on writing `each` records every few milliseconds, each to the partition that `place` names.
    pub(crate) fn go_on_writing(&mut self, each: usize, place: impl Fn(usize) -> i32 + Send + 'static) {
        let client = self.client.clone();
        self.tasks.push(tokio::spawn(async move {
            let producer = client.producer().build().await.expect("a producer");
            let mut number = 0;
            let mut tick = tokio::time::interval(Duration::from_millis(5));
            loop {
                tick.tick().await;
                for _ in 0..each {
                    let record = Record::to("orders").partition(place(number)).value("x");
                    producer.post(record).await.expect("is taken");
                    number += 1;
                }
                producer.flush().await.expect("all are written");
            }
        }));
    }

    pub(crate) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.push(tokio::spawn(task));
    }

    /// Examines the group until the fault is found.
    pub(crate) async fn finds(&self, fault: Fault, plan: &Plan) -> Finding {
        finds(&self.client, fault, plan).await
    }
}

/// Examines the group "billing" until the fault is found, because a busy machine may show it later.
pub(crate) async fn finds(client: &Client, fault: Fault, plan: &Plan) -> Finding {
    let until = Instant::now() + LIMIT;
    let (mut found, mut last) = (Vec::new(), None);
    while Instant::now() < until {
        // The group may not exist yet.
        let Ok(seen) = examine(client, "billing", plan).await else { continue };
        found = diagnose(&seen);
        if let Some(finding) = found.iter().find(|finding| finding.fault == fault) {
            assert!(!finding.evidence.is_empty() && finding.command.starts_with("milena "), "{finding:?}");
            return finding.clone();
        }
        last = Some(seen);
    }
    panic!("{fault} was not found, but {found:#?} of {last:#?}");
}

pub(crate) fn member(client: &Client) -> GroupConsumerBuilder {
    let builder = client.consumer("billing").subscribe(["orders"]).protocol(Protocol::Consumer);
    builder.group_settings(|settings| settings.commit_interval = Duration::from_millis(20))
}

/// Takes batches and finishes all of them.
pub(crate) async fn process_all(mut consumer: Consumer) {
    while let Ok(Some(batch)) = consumer.next().await {
        consumer.done(&batch);
    }
}

pub(crate) fn plan(samples: usize, interval_ms: u64) -> Plan {
    Plan { samples, interval: Duration::from_millis(interval_ms), ..Plan::default() }
}
