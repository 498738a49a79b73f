//! Transactions of whole clients, by seed: a producer that commits, aborts and drops, and a loop that copies a topic exactly once,
//! while nodes stop, leaders and coordinators move, and requests and answers are lost.
//!
//! ```text
//!  in ─▶ exactly_once ─▶ out        what is committed is read back, and compared with what the program was told
//!        ledger's producer ─▶ ledger
//! ```

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use milena::{Client, Error, Isolation, Position, Protocol, Record, TransactionEnd, TransactionalProducer};
use milena_core::Rng;
use milena_sim::{Cluster, Gate, Joined, Sim, Trace, up_to};

use crate::plan::{Plan, calm, pick};
use crate::round::PATIENCE;

const PARTITIONS: i32 = 2;
const GROUP: &str = "copy";
const LOOP: &str = "copier";
const LEDGER: &str = "ledger";

/// Plays the round of `seed`.
pub(crate) fn play(seed: u64) -> Trace {
    let (sim, trace) = (Sim::new(seed), Trace::default());
    let mut rng = sim.rng();
    let plan = Plan::of(&mut rng);
    let version = pick(&mut rng, &[1, 2]);
    let protocol = pick(&mut rng, &[Protocol::Classic, Protocol::Consumer]);
    let records = 20 + i64::from(rng.below(60));
    let delivery_timeout = Duration::from_millis(pick(&mut rng, &[200, 1000, 10_000]));
    let round = Round::new(&sim, &trace, seed, plan, version, protocol, records, delivery_timeout);
    let ended = sim.block_on(round.run(rng));
    ended.unwrap_or_else(|stuck| panic!("seed {seed}: {stuck:?}"));
    trace
}

/// A leader is gone for longer than a record may wait, and comes back: the loop's transaction is doomed meanwhile.
pub(crate) fn play_doomed(version: i16) {
    let (sim, trace) = (Sim::new(1), Trace::default());
    let plan = Plan::of(&mut sim.rng());
    let after = Duration::from_millis(500);
    let round = Round::new(&sim, &trace, 1, plan, version, Protocol::Classic, 5, after);
    let ended = sim.block_on(async move {
        round.fill().await;
        let is_over = Arc::new(AtomicBool::new(false));
        let copying = round.spawn_loop(&is_over);
        while lock(&round.processed).is_empty() {
            round.sim.sleep(Duration::from_micros(100)).await;
        }
        // The handler has the first records, and writes them a moment later.
        for node in round.cluster.nodes() {
            round.cluster.set_gate(node, Gate::Mute);
            round.cluster.cut(node);
        }
        round.sim.sleep(Duration::from_secs(3)).await;
        for node in round.cluster.nodes() {
            round.cluster.set_gate(node, Gate::Open);
            round.cluster.cut(node);
        }
        round.finish(&is_over, copying).await;
        let processed = lock(&round.processed).clone();
        assert!(
            processed.values().any(|times| *times > 1),
            "version {version}: nothing was processed again: {processed:?}"
        );
        round.check_copy().await;
    });
    ended.unwrap_or_else(|stuck| panic!("version {version}: {stuck:?}"));
}

#[derive(Clone)]
struct Round {
    sim: Sim,
    trace: Trace,
    cluster: Cluster,
    plan: Plan,
    seed: u64,
    protocol: Protocol,
    /// Of each partition of `in`.
    records: i64,
    delivery_timeout: Duration,
    /// How many times the loop was given each record.
    processed: Arc<Mutex<BTreeMap<(i32, i64), u32>>>,
}

/// What the program knows of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Committed,
    Aborted,
    Unknown,
}

impl Round {
    #[expect(clippy::too_many_arguments, reason = "they are the round's fields")]
    fn new(
        sim: &Sim,
        trace: &Trace,
        seed: u64,
        plan: Plan,
        version: i16,
        protocol: Protocol,
        records: i64,
        delivery_timeout: Duration,
    ) -> Self {
        let cluster = Cluster::start(sim, 3, trace);
        cluster.set_transaction_version(version);
        for topic in ["in", "out", LEDGER] {
            cluster.operator().create_topic(topic, PARTITIONS, &[]);
        }
        let (sim, trace, processed) = (sim.clone(), trace.clone(), Arc::default());
        Self { sim, trace, cluster, plan, seed, protocol, records, delivery_timeout, processed }
    }

    async fn run(self, mut rng: Rng) {
        self.fill().await;
        self.cluster.set_faults(self.plan.faults);
        let is_over = Arc::new(AtomicBool::new(false));
        let copying = self.spawn_loop(&is_over);
        let keeping = self.sim.spawn(self.clone().keep_ledger(self.sim.rng(), Arc::clone(&is_over)));
        self.sabotage(&mut rng).await;
        self.cluster.set_faults(calm(&mut rng));
        // Connections keep the latency that they were made with, and a record may wait for less than that.
        self.cluster.nodes().into_iter().for_each(|node| self.cluster.cut(node));
        self.finish(&is_over, copying).await;
        let spans = self.within("the ledger", keeping).await;
        self.check_copy().await;
        self.check_ledger(&spans).await;
        for times in lock(&self.processed).values() {
            if *times > 1 {
                self.trace.count("a loop's transaction fails, and its records are processed again");
            }
        }
    }

    async fn connect(&self) -> Client {
        loop {
            let builder = Client::builder().bootstrap(&self.cluster.bootstrap()).seed(self.seed);
            let builder = builder.runtime(self.sim.clone()).connector(self.cluster.connector());
            match builder.settings(|settings| self.plan.apply(settings)).connect().await {
                Ok(client) => return client,
                Err(_) => self.sim.sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn producer(&self, client: &Client, id: &str) -> TransactionalProducer {
        loop {
            match client.transactional(id).delivery_timeout(self.delivery_timeout).build().await {
                Ok(producer) => return producer,
                Err(error) => {
                    assert!(error.is_retriable() && !error.is_fatal(), "seed {}: {error}", self.seed);
                    self.sim.sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// Writes what the loop is to copy.
    async fn fill(&self) {
        let producer = self.connect().await.producer().build().await.expect("built");
        for index in 0..self.records {
            for partition in 0..PARTITIONS {
                let value = format!("{partition} {index}");
                let record = Record::to("in").partition(partition).value(&value);
                self.within("filling", producer.post(record)).await.expect("taken");
            }
        }
        self.within("filling", producer.flush()).await.expect("nothing is wrong yet");
    }

    fn spawn_loop(&self, is_over: &Arc<AtomicBool>) -> Joined<()> {
        self.sim.spawn(self.clone().copy(Arc::clone(is_over)))
    }

    /// Loops one after the other: a new one begins when the one before has ended with an error.
    async fn copy(self, is_over: Arc<AtomicBool>) {
        while !is_over.load(Ordering::Relaxed) {
            let client = self.connect().await;
            let consumer = client.consumer(GROUP).subscribe(["in"]).isolation(Isolation::ReadCommitted);
            let consumer = consumer.manual_commits().protocol(self.protocol).settings(|settings| {
                settings.reset = Some(milena::Reset::Earliest);
                settings.delivery_records_max = Some(3);
            });
            let Ok(consumer) = consumer.build().await else {
                self.sim.sleep(Duration::from_millis(50)).await;
                continue;
            };
            let handle = consumer.handle();
            let watching = self.sim.spawn({
                let (sim, is_over) = (self.sim.clone(), Arc::clone(&is_over));
                async move {
                    while !is_over.load(Ordering::Relaxed) {
                        sim.sleep(Duration::from_millis(20)).await;
                    }
                    // The loop may have ended before.
                    let _ = handle.close().await;
                }
            });
            let producer = self.producer(&client, LOOP).await;
            let run = milena::exactly_once(consumer, producer).interval(Duration::from_millis(10));
            let (sim, processed) = (self.sim.clone(), Arc::clone(&self.processed));
            let run = run.run(move |transaction, batch| {
                let (sim, processed) = (sim.clone(), Arc::clone(&processed));
                Box::pin(async move {
                    for record in batch {
                        *lock(&processed).entry((batch.partition(), record.offset())).or_default() += 1;
                    }
                    sim.sleep(Duration::from_millis(1)).await;
                    for record in batch {
                        let copy = Record::to("out").partition(batch.partition());
                        transaction.post(copy.value(record.value().expect("a value"))).await?;
                    }
                    Ok::<_, Error>(())
                })
            });
            if let Err(error) = run.await {
                assert!(
                    error.is_fatal() || error.is_retriable() || error.requires_abort(),
                    "seed {}: the class of an error: {error}",
                    self.seed
                );
                self.trace.count("a loop ends with an error, and another one begins");
            }
            drop(watching);
        }
    }

    /// Waits until everything is copied, and lets the loop end.
    async fn finish(&self, is_over: &AtomicBool, copying: Joined<()>) {
        let client = self.connect().await;
        let copied = async {
            loop {
                let (_, offsets) = client.admin().list_group_offsets([GROUP]).await.remove(0);
                let is_copied = |partition| {
                    let at = offsets.as_ref().ok().and_then(|of| of.get(&("in".to_owned(), partition)));
                    at.is_some_and(|at| at.offset == self.records)
                };
                if (0..PARTITIONS).all(is_copied) {
                    return;
                }
                self.sim.sleep(Duration::from_millis(100)).await;
            }
        };
        self.within("everything being copied", copied).await;
        is_over.store(true, Ordering::Relaxed);
        self.within("the end of the loop", copying).await;
    }

    /// Transactions that are committed, aborted and dropped, with what is known of each, in their order: how many records it took
    /// and how it ended.
    async fn keep_ledger(self, mut rng: Rng, is_over: Arc<AtomicBool>) -> Vec<(u32, End)> {
        let (client, mut spans) = (self.connect().await, Vec::new());
        while !is_over.load(Ordering::Relaxed) {
            let mut producer = self.producer(&client, LEDGER).await;
            while !is_over.load(Ordering::Relaxed) {
                let transaction = match self.within("a begin", producer.begin()).await {
                    Ok(transaction) => transaction,
                    Err(error) if error.is_fatal() => break,
                    Err(_) => continue,
                };
                let number = spans.len() as u32;
                // A record that was not taken is not in the transaction.
                let (mut taken, value) = (0, number.to_string());
                for partition in 0..PARTITIONS {
                    let record = Record::to(LEDGER).partition(partition).value(&value);
                    taken += u32::from(self.within("a record", transaction.post(record)).await.is_ok());
                    self.sim.sleep(up_to(&mut rng, Duration::from_millis(20))).await;
                }
                let (end, error) = match rng.below(10) {
                    0 => {
                        let limit = up_to(&mut rng, Duration::from_millis(100));
                        match self.sim.timeout(limit, transaction.commit()).await {
                            Some(Ok(())) => (End::Committed, None),
                            Some(Err(error)) => (End::Unknown, Some(error)),
                            // The future was dropped.
                            None => (End::Unknown, None),
                        }
                    }
                    1..6 => match self.within("a commit", transaction.commit()).await {
                        Ok(()) => (End::Committed, None),
                        Err(error) if error.maybe_written() => (End::Unknown, Some(error)),
                        Err(error) => {
                            self.trace.count("a commit is refused");
                            (End::Aborted, Some(error))
                        }
                    },
                    6..9 => (End::Aborted, self.within("an abort", transaction.abort()).await.err()),
                    _ => {
                        drop(transaction);
                        (End::Aborted, None)
                    }
                };
                let is_dead = error.is_some_and(|error| error.is_fatal());
                if end == End::Unknown && !is_dead {
                    self.trace.count("a commit of unknown fate is resolved");
                    spans.push((taken, self.resolve(&mut producer).await));
                } else {
                    spans.push((taken, end));
                }
                if is_dead {
                    break;
                }
            }
        }
        spans
    }

    async fn resolve(&self, producer: &mut TransactionalProducer) -> End {
        let resolve = async {
            loop {
                match producer.resolve().await {
                    Ok(Some(TransactionEnd::Committed)) => return End::Committed,
                    Ok(Some(TransactionEnd::Aborted)) => return End::Aborted,
                    Ok(None) => panic!("seed {}: a transaction has no end", self.seed),
                    Err(error) if error.is_fatal() => return End::Unknown,
                    Err(_) => self.sim.sleep(Duration::from_millis(5)).await,
                }
            }
        };
        self.within("a commit being resolved", resolve).await
    }

    async fn sabotage(&self, rng: &mut Rng) {
        let until = self.sim.now() + self.plan.storm;
        let nodes = self.cluster.nodes();
        while self.sim.now() < until {
            self.sim.sleep(up_to(rng, Duration::from_millis(200))).await;
            let node = nodes[rng.below(nodes.len() as u32) as usize];
            let topic = ["in", "out", LEDGER][rng.below(3) as usize];
            match rng.below(12) {
                0..3 => self.cluster.move_leader(topic, rng.below(PARTITIONS as u32) as i32, node),
                3..5 => self.cluster.move_transaction_coordinator(LOOP, node),
                5..7 => self.cluster.move_transaction_coordinator(LEDGER, node),
                7 => self.cluster.move_coordinator(GROUP, node),
                8 => self.cluster.cut(node),
                9 | 10 => {
                    self.cluster.set_gate(node, Gate::Mute);
                    self.cluster.cut(node);
                    self.sim.sleep(up_to(rng, Duration::from_secs(2))).await;
                    self.cluster.set_gate(node, Gate::Open);
                    self.cluster.cut(node);
                }
                _ => {
                    self.cluster.stop_node(node);
                    self.sim.sleep(up_to(rng, Duration::from_secs(2))).await;
                    self.cluster.start_node(node);
                }
            }
        }
    }

    /// What readers of committed records see of a topic's partition, once all its transactions have ended.
    async fn committed(&self, topic: &str, partition: i32) -> Vec<String> {
        let client = self.connect().await;
        let expected = self.cluster.operator().log(topic, partition).len();
        let read = async {
            let builder = client.consumer_direct().assign([(topic, partition)], Position::Earliest);
            let mut consumer = builder.isolation(Isolation::ReadCommitted).until_end().build().await?;
            let mut values = Vec::new();
            while let Some(batch) = consumer.next().await? {
                for record in &batch {
                    values.push(String::from_utf8_lossy(record.value().expect("a value")).into_owned());
                }
            }
            Ok::<_, Error>(values)
        };
        let values = self.within("reading what is committed", read).await.expect("nothing is wrong any more");
        assert!(values.len() <= expected, "{} of {expected} records", values.len());
        values
    }

    async fn check_copy(&self) {
        for partition in 0..PARTITIONS {
            let expected: Vec<_> = (0..self.records).map(|index| format!("{partition} {index}")).collect();
            let copied = self.committed("out", partition).await;
            assert_eq!(copied, expected, "seed {}: partition {partition}", self.seed);
        }
    }

    async fn check_ledger(&self, spans: &[(u32, End)]) {
        // The transaction that a dead producer has left open is ended by its successor.
        drop(self.producer(&self.connect().await, LEDGER).await);
        let mut there = BTreeMap::<u32, u32>::new();
        for partition in 0..PARTITIONS {
            let values = self.committed(LEDGER, partition).await;
            let numbers: Vec<u32> = values.iter().map(|value| value.parse().expect("a number")).collect();
            assert!(numbers.is_sorted_by(|a, b| a < b), "seed {}: once and in order: {numbers:?}", self.seed);
            numbers.into_iter().for_each(|number| *there.entry(number).or_default() += 1);
        }
        for (number, (taken, end)) in (0..).zip(spans) {
            let count = there.remove(&number).unwrap_or(0);
            let is_right = match end {
                End::Committed => count == *taken,
                End::Aborted => count == 0,
                End::Unknown => count == 0 || count == *taken,
            };
            assert!(
                is_right,
                "seed {}: {count} records of transaction {number}, which is {end:?}",
                self.seed
            );
        }
        assert!(there.is_empty(), "seed {}: no transaction has {there:?}", self.seed);
    }

    async fn within<F: Future>(&self, what: &str, future: F) -> F::Output {
        let outcome = self.sim.timeout(PATIENCE, future).await;
        outcome.unwrap_or_else(|| panic!("seed {}: {what} hangs", self.seed))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("whole")
}
