//! One round: a cluster, a client, writers and readers, a storm of faults, and the checks after it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use milena::{Client, Position, Producer, Record};
use milena_core::Rng;
use milena_sim::{Cluster, Gate, Logged, Sim, Trace, up_to};

use crate::plan::{Plan, ProducerPlan, calm};
use crate::reader::Reader;
use crate::writer::{Fate, Ledger, Writer, parse};

pub(crate) const TOPIC: &str = "t";
/// A topic that is deleted and made again while it is written to.
const REMADE: &str = "u";
/// A call that takes this long hangs: the storm and the timeouts that a call may meet are shorter together.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);
const NODES: u16 = 3;
/// Writes the last records, in the place of a writer's number.
const LAST: usize = usize::MAX;

/// A partition and an offset.
type Place = (i32, i64);
pub(crate) type Logs = BTreeMap<i32, Vec<Logged>>;

/// Plays the round of `seed`.
pub(crate) fn play(seed: u64) -> Trace {
    let (sim, trace) = (Sim::new(seed), Trace::default());
    let mut rng = sim.rng();
    let plan = Plan::of(&mut rng);
    let cluster = Cluster::start(&sim, NODES, &trace);
    for topic in [TOPIC, REMADE] {
        cluster.operator().create_topic(topic, plan.partitions, &[]);
    }
    let round = Round { sim: sim.clone(), trace: trace.clone(), cluster, plan, seed };
    let ended = sim.block_on(round.run(rng));
    ended.unwrap_or_else(|stuck| panic!("seed {seed}: {stuck:?}"));
    trace
}

#[derive(Clone)]
struct Round {
    sim: Sim,
    trace: Trace,
    cluster: Cluster,
    plan: Plan,
    seed: u64,
}

impl Round {
    async fn run(self, mut rng: Rng) {
        let client = self.connect().await;
        let mut readers = Vec::new();
        for (number, plan) in self.plan.readers.iter().enumerate() {
            let partitions = self.plan.partitions;
            readers.push(Reader::start(&self.sim, &self.trace, &client, plan, number, partitions).await);
        }
        self.cluster.set_faults(self.plan.faults);
        let is_over = Arc::new(AtomicBool::new(false));
        let (mut ledgers, mut writing, mut producers) = (Vec::new(), Vec::new(), Vec::new());
        for plan in &self.plan.producers {
            let build = client.producer().settings(|settings| plan.apply(settings)).build();
            let producer = build.await.expect("the settings are right");
            for _ in 0..plan.writers {
                let writer = self.writer(TOPIC, &producer, plan, ledgers.len());
                ledgers.push(Arc::clone(&writer.ledger));
                writing.push(self.sim.spawn(writer.run()));
            }
            producers.push(producer);
        }
        let plan = &self.plan.remade;
        let build = client.producer().settings(|settings| plan.apply(settings)).build();
        let remade = build.await.expect("the settings are right");
        let writer = self.writer(REMADE, &remade, plan, 0);
        let remade_ledger = Arc::clone(&writer.ledger);
        writing.push(self.sim.spawn(writer.run()));
        let reading = readers.into_iter().map(|mut reader| {
            let is_over = Arc::clone(&is_over);
            self.sim.spawn(async move {
                reader.storm(|| is_over.load(Ordering::Relaxed)).await;
                reader
            })
        });
        let reading: Vec<_> = reading.collect();

        // The logs of the topics that are gone.
        let mut past = self.sabotage(&mut rng).await;
        for writer in writing {
            writer.await;
        }
        is_over.store(true, Ordering::Relaxed);
        let mut readers = Vec::new();
        for reader in reading {
            readers.push(reader.await);
        }
        self.prove_alive(TOPIC, &producers).await;
        self.prove_alive(REMADE, std::slice::from_ref(&remade)).await;
        drop(remade);
        let logs = self.logs(TOPIC);
        for reader in &mut readers {
            reader.drain(&logs).await;
        }
        self.read_to_end(&client, &logs).await;
        drop(producers);
        let seen: Vec<_> = readers.into_iter().map(Reader::into_seen).collect();
        drop(client);
        self.rest().await;
        // Requests that were on their way when their connection was given up have arrived by now.
        let logs = self.logs(TOPIC);
        seen.iter().for_each(|seen| seen.judge(&logs));
        judge(&[logs], &ledgers);
        past.push(self.logs(REMADE));
        judge(&past, &[remade_ledger]);
    }

    fn writer(&self, topic: &'static str, producer: &Producer, plan: &ProducerPlan, number: usize) -> Writer {
        Writer {
            sim: self.sim.clone(),
            trace: self.trace.clone(),
            producer: producer.clone(),
            plan: plan.clone(),
            topic,
            number,
            partitions: self.plan.partitions,
            rng: self.sim.rng(),
            ledger: Ledger::default(),
        }
    }

    async fn connect(&self) -> Client {
        let builder = Client::builder().bootstrap(&self.cluster.bootstrap()).seed(self.seed);
        let builder = builder.runtime(self.sim.clone()).connector(self.cluster.connector());
        builder.settings(|settings| self.plan.apply(settings)).connect().await.expect("nothing is wrong yet")
    }

    /// Moves leaders, stops nodes, breaks connections and makes a topic again until the storm is over. Then there are no
    /// faults any more. Answers with the logs of the topics that are gone.
    async fn sabotage(&self, rng: &mut Rng) -> Vec<Logs> {
        let mut past = Vec::new();
        let until = self.sim.now() + self.plan.storm;
        let nodes = self.cluster.nodes();
        while self.sim.now() < until {
            self.sim.sleep(up_to(rng, Duration::from_millis(300))).await;
            let node = nodes[rng.below(nodes.len() as u32) as usize];
            match rng.below(12) {
                10.. => {
                    self.trace.count("a topic is made again");
                    past.push(self.logs(REMADE));
                    self.cluster.operator().delete_topic(REMADE);
                    self.sim.sleep(up_to(rng, Duration::from_millis(300))).await;
                    self.cluster.operator().create_topic(REMADE, self.plan.partitions, &[]);
                }
                0..4 => {
                    let partition = rng.below(self.plan.partitions as u32) as i32;
                    self.cluster.move_leader(TOPIC, partition, node);
                }
                4..6 => self.cluster.cut(node),
                6..8 => {
                    let gate = [Gate::Refusing, Gate::Silent, Gate::Mute][rng.below(3) as usize];
                    self.cluster.set_gate(node, gate);
                    self.cluster.cut(node);
                    self.sim.sleep(up_to(rng, Duration::from_secs(2))).await;
                    self.cluster.set_gate(node, Gate::Open);
                    // Connections that were made to a mute node are never read.
                    self.cluster.cut(node);
                }
                _ => {
                    self.cluster.stop_node(node);
                    self.sim.sleep(up_to(rng, Duration::from_secs(2))).await;
                    self.cluster.start_node(node);
                }
            }
        }
        self.cluster.set_faults(calm(rng));
        past
    }

    /// Checks that each producer still writes, and that none of its memory is reserved: it must take a record that needs all
    /// of the memory.
    async fn prove_alive(&self, topic: &str, producers: &[Producer]) {
        for producer in producers {
            self.within("a flush", producer.flush()).await.ok();
        }
        let bytes = self.plan.memory_bytes_max / 2 - 2000;
        let mut value = format!("{LAST} 0 ").into_bytes();
        value.resize(bytes, b'.');
        for producer in producers {
            // Slow connections of the storm are still there, and the time of an impatient producer may end before a retry.
            let began = self.sim.now();
            while let Err(error) =
                self.within("a last record", producer.send(Record::to(topic).value(&value))).await
            {
                let took = self.sim.now() - began;
                assert!(took < PATIENCE, "seed {}: the last record always fails: {error}", self.seed);
            }
        }
    }

    /// Checks that a consumer with `until_end` reads all records and then ends.
    async fn read_to_end(&self, client: &Client, logs: &Logs) {
        let read = async {
            let builder = client.consumer_direct().topic(TOPIC).from(Position::Earliest);
            let mut consumer = builder.until_end().build().await?;
            let mut count = 0;
            while let Some(batch) = consumer.next().await? {
                count += batch.iter().count();
            }
            Ok::<_, milena::Error>(count)
        };
        let count = self.within("reading to the end", read).await.expect("nothing is wrong any more");
        // Requests of connections that were given up may have arrived meanwhile.
        let total = |logs: &Logs| logs.values().map(Vec::len).sum::<usize>();
        let expected = total(logs)..=total(&self.logs(TOPIC));
        assert!(expected.contains(&count), "{count} records to the end, and there are {expected:?}");
    }

    /// Waits until all connections have ended, as they must when their client was dropped.
    async fn rest(&self) {
        let began = self.sim.now();
        while self.cluster.connections() > 0 {
            self.sim.sleep(Duration::from_millis(100)).await;
            assert!(self.sim.now() - began < PATIENCE, "connections outlive their client");
        }
    }

    fn logs(&self, topic: &str) -> Logs {
        let operator = self.cluster.operator();
        (0..self.plan.partitions).map(|partition| (partition, operator.log(topic, partition))).collect()
    }

    async fn within<F: Future>(&self, what: &str, future: F) -> F::Output {
        let outcome = self.sim.timeout(PATIENCE, future).await;
        outcome.unwrap_or_else(|| panic!("seed {}: {what} hangs", self.seed))
    }
}

/// Compares what was said of each record with the logs of all topics that had the name, one after another. A batch that
/// may be in the log of a topic that is gone is written to the next one, so that a record is in each of them once at most.
fn judge(lives: &[Logs], ledgers: &[Ledger]) {
    // The places of each record, with the number of the life.
    let mut found: BTreeMap<(usize, usize), Vec<(usize, Place)>> = BTreeMap::new();
    for (life, logs) in lives.iter().enumerate() {
        for (partition, log) in logs {
            let mut latest: BTreeMap<usize, usize> = BTreeMap::new();
            for (offset, logged) in log.iter().enumerate() {
                let (writer, index) = parse(logged.value.as_deref().expect("a value"));
                if writer == LAST {
                    continue;
                }
                found.entry((writer, index)).or_default().push((life, (*partition, offset as i64)));
                if let Some(before) = latest.insert(writer, index) {
                    let follows = format!("{index} of writer {writer} follows {before}");
                    assert!(before < index, "partition {partition}: {follows}");
                }
            }
        }
    }
    for (writer, ledger) in ledgers.iter().enumerate() {
        for (index, fate) in ledger.lock().expect("whole").iter().enumerate() {
            let places = found.get(&(writer, index)).map_or(&[][..], Vec::as_slice);
            let is_once = places.is_sorted_by(|(one, _), (other, _)| one < other);
            let is_right = match *fate {
                Fate::Absent => places.is_empty(),
                Fate::Unknown => true,
                Fate::Written(partition, offset) => {
                    places.iter().any(|(_, place)| *place == (partition, offset))
                }
                Fate::Flushed => !places.is_empty(),
            };
            assert!(
                is_once && is_right,
                "record {index} of writer {writer} is {fate:?} and in the log at {places:?}"
            );
        }
    }
}
