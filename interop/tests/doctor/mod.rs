//! The doctor of groups on real Kafka: the faults that its own tests inject into the embedded broker, injected here, are found by
//! the same names, with both protocols of groups where members are at fault. A group that does its work has no findings.

mod brokers;
mod members;
mod records;

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use milena::{Client, Consumer, GroupConsumerBuilder, NewTopic, Protocol, Record};
use milena_interop::real;
use milena_observe::doctor::{Fault, Finding, Plan, diagnose, examine};
use tokio::task::JoinHandle;
use xtask::kafka::{Cluster, NEWEST};

/// Longer than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Members of groups of the consumer protocol are heard often, and rights are checked for those who log in.
const SETTINGS: [&str; 4] = [
    "group.consumer.min.heartbeat.interval.ms=100",
    "group.consumer.heartbeat.interval.ms=200",
    "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users=User:ANONYMOUS",
];

/// The protocols of groups, with a word for names.
const PROTOCOLS: [(Protocol, &str); 2] = [(Protocol::Classic, "classic"), (Protocol::Consumer, "consumer")];

fn kafka() -> Option<&'static Cluster> {
    static CLUSTER: OnceLock<Option<Cluster>> = OnceLock::new();
    let start = || {
        if let Some(program) = xtask::kafka::missing_program() {
            real::skip(&format!("real Kafka cannot be started: {program} is not installed"));
            return None;
        }
        let settings = SETTINGS.map(str::to_owned);
        Some(Cluster::start_with(1, NEWEST, &settings).expect("Kafka starts"))
    };
    CLUSTER.get_or_init(start).as_ref()
}

/// A topic, a group that reads it, and what goes on there. Topic and group have the same name.
struct World {
    client: Client,
    name: String,
    protocol: Protocol,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl World {
    async fn new(kafka: &Cluster, name: &str, partitions: i32, protocol: Protocol) -> Self {
        let client = Client::connect(&kafka.bootstrap()).await.unwrap();
        client.admin().create_topic(NewTopic::new(name).partitions(partitions).replication(1)).await.unwrap();
        Self { client, name: name.to_owned(), protocol, tasks: Vec::new() }
    }

    /// Writes records in a row: their keys, and the partitions that they go to if they have none.
    async fn write(&self, count: usize, bytes: usize, place: impl Fn(usize) -> (Option<String>, i32)) {
        let producer = self.client.producer().build().await.unwrap();
        let value = vec![b'x'; bytes];
        for number in 0..count {
            let (key, partition) = place(number);
            let record = Record::to(&self.name).key_or_null(key.as_deref().map(str::as_bytes)).value(&value);
            let record = if key.is_some() { record } else { record.partition(partition) };
            producer.post(record).await.unwrap();
        }
        producer.flush().await.unwrap();
    }

    /// Goes on writing `each` records every few milliseconds, each to the partition that `place` names.
    fn go_on_writing(&mut self, each: usize, place: impl Fn(usize) -> i32 + Send + 'static) {
        let (client, topic) = (self.client.clone(), self.name.clone());
        self.tasks.push(tokio::spawn(async move {
            let producer = client.producer().build().await.unwrap();
            let mut number = 0;
            let mut tick = tokio::time::interval(Duration::from_millis(10));
            loop {
                tick.tick().await;
                for _ in 0..each {
                    producer.post(Record::to(&topic).partition(place(number)).value("x")).await.unwrap();
                    number += 1;
                }
                producer.flush().await.unwrap();
            }
        }));
    }

    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.push(tokio::spawn(task));
    }

    fn member(&self) -> GroupConsumerBuilder {
        self.member_of(&self.client)
    }

    fn member_of(&self, client: &Client) -> GroupConsumerBuilder {
        member(client, &self.name, self.protocol)
    }

    async fn commit(&self, offsets: impl IntoIterator<Item = (i32, i64)>) {
        let offsets =
            offsets.into_iter().map(|(partition, offset)| ((self.name.as_str(), partition), offset));
        self.client.admin().alter_group_offsets(self.name.as_str(), offsets).await.unwrap();
    }

    /// Examines the group until the fault is found.
    async fn finds(&self, fault: Fault, plan: &Plan) -> Finding {
        finds(&self.client, &self.name, fault, plan).await
    }
}

/// A member of the group of this name, which reads the topic of this name.
fn member(client: &Client, name: &str, protocol: Protocol) -> GroupConsumerBuilder {
    let member = client.consumer(name).subscribe([name]).protocol(protocol);
    let member = member.commit_interval(Duration::from_millis(20));
    match protocol {
        Protocol::Classic => member.heartbeat_interval(Duration::from_millis(200)),
        // The coordinator says how often.
        _ => member,
    }
}

/// Examines the group until the fault is found, because a busy machine may show it later.
async fn finds(client: &Client, group: &str, fault: Fault, plan: &Plan) -> Finding {
    let until = Instant::now() + LIMIT;
    let (mut found, mut last) = (Vec::new(), None);
    while Instant::now() < until {
        // The group may not exist yet.
        let Ok(seen) = examine(client, group, plan).await else { continue };
        found = diagnose(&seen);
        if let Some(finding) = found.iter().find(|finding| finding.fault == fault) {
            assert!(!finding.evidence.is_empty() && finding.command.starts_with("milena "), "{finding:?}");
            return finding.clone();
        }
        last = Some(seen);
    }
    panic!("{group}: {fault} was not found, but {found:#?} of {last:#?}");
}

/// Takes batches and finishes all of them.
async fn process_all(mut consumer: Consumer) {
    while let Ok(Some(batch)) = consumer.next().await {
        consumer.done(&batch);
    }
}

fn plan(samples: usize, interval_ms: u64) -> Plan {
    Plan { samples, interval: Duration::from_millis(interval_ms), ..Plan::default() }
}
