//! Milena's members in groups of real Kafka, old and new: what they read, what they commit, and what comes after one that was
//! killed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use milena::{
    Batch, Client, CommittedOffset, Consumer, ConsumerHandle, GroupConsumerBuilder, NewTopic, Protocol,
    Record,
};
use milena_interop::real;
use tokio::runtime::Runtime;
use tokio::time::timeout;

const PARTITIONS: i32 = 4;
/// Each wait ends long before, unless something hangs: the consumer protocol's session is 45 s.
const PATIENCE: Duration = Duration::from_secs(120);

/// A group that is walked through.
struct Walk {
    client: Client,
    protocol: Protocol,
    name: String,
}

/// Of each partition, the offsets that a member has read, and when it stopped.
type Seen = Arc<Mutex<BTreeMap<i32, Vec<i64>>>>;

impl Walk {
    async fn start(bootstrap: &str, protocol: Protocol) -> Self {
        // Topics that match a pattern are found soon.
        let builder = Client::builder().bootstrap(bootstrap);
        let builder = builder.settings(|settings| settings.metadata_age_max = Duration::from_secs(1));
        Self { client: builder.connect().await.unwrap(), protocol, name: format!("members-{protocol:?}") }
    }

    async fn create(&self, topic: &str, partitions: i32) {
        let topic = NewTopic::new(topic).partitions(partitions).replication(1);
        self.client.admin().create_topics([topic]).await.unwrap().remove(0).1.unwrap();
    }

    /// Writes `count` records to each partition of the walk's topic, in batches of ten.
    async fn fill(&self, count: usize) {
        let producer = self.client.producer().build().await.unwrap();
        for _ in 0..count / 10 {
            for partition in (0..10).flat_map(|_| 0..PARTITIONS) {
                producer.post(Record::to(&self.name).partition(partition).value("v")).await.unwrap();
            }
            producer.flush().await.unwrap();
        }
    }

    fn member(&self, group: &str) -> GroupConsumerBuilder {
        let builder = self.client.consumer(format!("{}-{group}", self.name)).protocol(self.protocol);
        match self.protocol {
            // Kafka's shortest session.
            Protocol::Classic => {
                builder.session_timeout(Duration::from_secs(6)).heartbeat_interval(Duration::from_millis(500))
            }
            _ => builder,
        }
    }

    async fn committed(&self, consumer: &Consumer) -> Vec<Option<i64>> {
        let partitions = (0..PARTITIONS).map(|partition| (&self.name, partition));
        let found = timeout(PATIENCE, consumer.committed(partitions)).await.unwrap().unwrap();
        found.into_iter().map(|(_, offset)| offset.map(|offset| offset.offset)).collect()
    }

    /// Batches are done in another order than they came in, and a gap holds the committed offset back.
    async fn done_in_any_order(&self, consumer: &mut Consumer) {
        self.fill(50).await;
        let mut batches: Vec<Batch> = Vec::new();
        while batches.iter().map(|batch| batch.iter().count()).sum::<usize>() < 50 * PARTITIONS as usize {
            batches.push(next(consumer).await);
        }
        for batch in batches.iter().rev() {
            for record in batch.iter().filter(|record| (record.partition(), record.offset()) != (0, 7)) {
                consumer.done_record(&record);
            }
        }
        consumer.commit().await.unwrap();
        assert_eq!(self.committed(consumer).await, [Some(7), Some(50), Some(50), Some(50)]);
        batches.iter().for_each(|batch| consumer.done(batch));
        consumer.commit().await.unwrap();
        assert_eq!(self.committed(consumer).await, [Some(50); PARTITIONS as usize]);
    }

    /// A member that restarts under its name has the same partitions, and the other one is not disturbed.
    async fn a_static_member_restarts(&self) {
        let build = async |name: &str| {
            self.member("static").subscribe([&self.name]).instance_id(name).build().await.unwrap()
        };
        let first = build("one").await;
        let second = build("two").await;
        let half = PARTITIONS as usize / 2;
        until("two static members share", || {
            [&first, &second].iter().all(|one| one.assignment().len() == half)
        })
        .await;
        let owned = [first.assignment(), second.assignment()];
        timeout(PATIENCE, first.close()).await.unwrap().unwrap();
        let first = build("one").await;
        until("the static member is back", || !first.assignment().is_empty()).await;
        assert_eq!([first.assignment(), second.assignment()], owned);
    }

    /// Topics are found by a pattern, those made later too. The client leaves internal ones out; Kafka's own patterns (KIP-848) do
    /// not.
    async fn a_pattern_finds_topics(&self) {
        let topics = ["1", "2"].map(|number| format!("{}-found-{number}", self.name));
        self.create(&topics[0], 1).await;
        let internal = if self.protocol == Protocol::Classic { "|__consumer_offsets" } else { "" };
        let pattern = format!("{}-found-.*{internal}", self.name);
        let member = self.member("pattern").subscribe_pattern(&pattern).build().await.unwrap();
        let named = || member.assignment().into_iter().map(|(topic, _)| topic).collect::<BTreeSet<_>>();
        until("the first topic is found", || named() == BTreeSet::from([topics[0].clone()])).await;
        self.create(&topics[1], 1).await;
        until("the second topic is found", || named() == BTreeSet::from(topics.clone())).await;
    }

    /// Offsets that are committed by hand are where the next member begins, with what was said of them.
    async fn offsets_are_committed_by_hand(&self) {
        let build = || self.member("manual").subscribe([&self.name]).manual_commits();
        let mut member = build().build().await.unwrap();
        let batch = next(&mut member).await;
        member.done(&batch);
        let at = batch.partition();
        let offset =
            CommittedOffset { offset: 3, leader_epoch: batch.leader_epoch(), metadata: Some("three".into()) };
        member.commit_offsets([((&self.name, at), offset.clone())]).await.unwrap();
        timeout(PATIENCE, member.close()).await.unwrap().unwrap();
        let mut member = build().build().await.unwrap();
        let found = member.committed([(&self.name, at)]).await.unwrap();
        assert_eq!(found, [((self.name.clone(), at), Some(offset))]);
        loop {
            let batch = next(&mut member).await;
            if batch.partition() == at {
                let first = batch.iter().next().unwrap().offset();
                assert_eq!(first, 3);
                return;
            }
        }
    }
}

async fn next(consumer: &mut Consumer) -> Batch {
    timeout(PATIENCE, consumer.next()).await.expect("in time").unwrap().expect("not closed")
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Reads until the consumer is closed, and marks what `is_done` says as done.
async fn read(mut consumer: Consumer, seen: Seen, is_done: impl Fn(i64) -> bool) {
    while let Ok(Some(batch)) = consumer.next().await {
        for record in &batch {
            seen.lock().unwrap().entry(record.partition()).or_default().push(record.offset());
            if is_done(record.offset()) {
                consumer.done_record(&record);
            }
        }
    }
}

/// A second member, in a runtime of its own, which ends as a process that is killed: nothing is committed, and no one leaves.
fn killable(bootstrap: &str, walk: &Walk, seen: &Seen) -> (Runtime, ConsumerHandle) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (bootstrap, protocol, seen) = (bootstrap.to_owned(), walk.protocol, Arc::clone(seen));
    let (tell, told) = std::sync::mpsc::channel();
    let name = walk.name.clone();
    runtime.spawn(async move {
        let own = Walk { client: Client::connect(&bootstrap).await.unwrap(), protocol, name };
        let member = own.member("main").subscribe([&own.name]).build().await.unwrap();
        tell.send(member.handle()).unwrap();
        read(member, seen, |offset| offset < 75).await;
    });
    (runtime, told.recv().unwrap())
}

/// What every group of this protocol must do.
fn walk(bootstrap: &str, protocol: Protocol) {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let walk = Walk::start(bootstrap, protocol).await;
        walk.create(&walk.name, PARTITIONS).await;
        let mut first = walk.member("main").subscribe([&walk.name]).build().await.unwrap();
        walk.done_in_any_order(&mut first).await;

        let (first_seen, second_seen) = (Seen::default(), Seen::default());
        let handle = first.handle();
        let reading = tokio::spawn(read(first, Arc::clone(&first_seen), |_| true));
        let (dying, second) = killable(bootstrap, &walk, &second_seen);
        let half = PARTITIONS as usize / 2;
        until("two members share", || [&handle, &second].iter().all(|one| one.assignment().len() == half))
            .await;
        let taken: Vec<i32> = second.assignment().into_iter().map(|(_, partition)| partition).collect();
        walk.fill(50).await;
        let has = |seen: &Seen, partition: i32, offset: i64| {
            seen.lock().unwrap().get(&partition).is_some_and(|seen| seen.last() == Some(&offset))
        };
        until("the second member reads its part", || taken.iter().all(|at| has(&second_seen, *at, 99))).await;
        second.commit().await.unwrap();
        dying.shutdown_background();
        let killed = Instant::now();

        // Meanwhile its session goes by.
        walk.a_static_member_restarts().await;
        walk.a_pattern_finds_topics().await;
        walk.offsets_are_committed_by_hand().await;

        walk.fill(10).await;
        let all = 0..PARTITIONS;
        until("the first member reads all", || all.clone().all(|at| has(&first_seen, at, 109))).await;
        println!("{protocol:?}: taken over {:?} after the kill", killed.elapsed());
        for (partition, seen) in &*first_seen.lock().unwrap() {
            // What the killed member had not done is read again, and nothing else.
            let from = if taken.contains(partition) { 75 } else { 50 };
            assert_eq!(*seen, (from..110).collect::<Vec<_>>(), "partition {partition}");
        }
        for partition in &taken {
            assert_eq!(second_seen.lock().unwrap()[partition], (50..100).collect::<Vec<_>>());
        }
        timeout(PATIENCE, handle.close()).await.unwrap().unwrap();
        reading.await.unwrap();
    });
}

#[test]
fn of_the_classic_protocol_on_real_kafka() {
    let Some(kafka) = real::kafka() else { return };
    walk(&kafka.bootstrap(), Protocol::Classic);
}

#[test]
fn of_the_consumer_protocol_on_real_kafka() {
    let Some(kafka) = real::kafka() else { return };
    walk(&kafka.bootstrap(), Protocol::Consumer);
}

#[test]
fn of_the_classic_protocol_on_kafka_3_9() {
    let Some(kafka) = real::old() else { return };
    walk(&kafka.bootstrap(), Protocol::Classic);
}
