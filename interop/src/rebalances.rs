//! Members of a group, each of which is a pipeline, come and go while records are written: each change is a rebalance. No record may
//! be left waiting, and none may be processed twice unless it was in work when its partition was given up. `cargo xtask rebalances`
//! runs it, and a short form is a test.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use milena::assignors::{Assignor, CooperativeSticky, Range};
use milena::{Client, ConsumerHandle, GroupConsumerBuilder, NewTopic, Protocol};
use milena_pipeline::{Pipeline, PipelineError, Record, Report as PipelineReport};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::random::Random;

/// How much of it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How often a member joins or leaves.
    pub changes: usize,
    /// Records per second.
    pub rate: u64,
    /// How the members join.
    pub way: Way,
    /// How long records in work may take when their partition is given up.
    pub drain: Duration,
    /// A third of the changes come in the middle of the rebalance before.
    pub hurries: bool,
    /// Who joins and leaves follows from the seed.
    pub seed: u64,
}

/// How members of a group share its partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The classic protocol: a member gives everything up before it joins again.
    Eager,
    /// The classic protocol: a member gives up only what another one gets.
    Cooperative,
    /// The consumer protocol (KIP-848).
    Consumer,
}

impl Way {
    /// The way of this name.
    ///
    /// # Errors
    /// There is no such way.
    pub fn of(name: &str) -> anyhow::Result<Self> {
        match name {
            "eager" => Ok(Self::Eager),
            "classic" => Ok(Self::Cooperative),
            "consumer" => Ok(Self::Consumer),
            other => anyhow::bail!("there is no protocol {other:?}: eager, classic or consumer"),
        }
    }

    /// A member of this way.
    pub fn applied_to(self, consumer: GroupConsumerBuilder) -> GroupConsumerBuilder {
        let assignor: Arc<dyn Assignor> = match self {
            Self::Consumer => return consumer.protocol(Protocol::Consumer),
            Self::Eager => Arc::new(Range),
            Self::Cooperative => Arc::new(CooperativeSticky),
        };
        consumer.protocol(Protocol::Classic).assignors([assignor])
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// What was done and what was found, as a text.
    pub text: String,
    /// What is wrong.
    pub faults: Vec<String>,
    /// Attempts that were dropped, because their partition was given up before they ended.
    pub dropped: u64,
}

const PARTITIONS: i32 = 12;
const MEMBERS: usize = 3;
/// No record waits for longer than this.
const STALL: Duration = Duration::from_secs(60);

/// What the handlers have seen.
#[derive(Default)]
struct Seen {
    records: Mutex<BTreeMap<(i32, i64), Fate>>,
    done: AtomicU64,
    dropped: AtomicU64,
    /// Attempts that began while another member was at the same record.
    beside: AtomicU64,
    /// Partitions that were lost, and not given up.
    lost: AtomicU64,
}

/// What became of a record.
#[derive(Debug, Default, Clone, Copy)]
struct Fate {
    begun: u32,
    done: u32,
    /// How many are at it.
    in_work: u32,
}

/// Counts an attempt as dropped unless it came to its end.
struct Attempt {
    seen: Arc<Seen>,
    at: (i32, i64),
    is_done: bool,
}

impl Attempt {
    fn begin(seen: &Arc<Seen>, record: &Record) -> Self {
        let at = (record.partition(), record.offset());
        seen.note(at, |fate| {
            fate.begun += 1;
            fate.in_work += 1;
            if fate.in_work > 1 {
                seen.beside.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { seen: Arc::clone(seen), at, is_done: false }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.seen.note(self.at, |fate| {
            fate.in_work -= 1;
            fate.done += u32::from(self.is_done);
        });
        let count = if self.is_done { &self.seen.done } else { &self.seen.dropped };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Seen {
    fn note(&self, at: (i32, i64), note: impl FnOnce(&mut Fate)) {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        note(records.entry(at).or_default());
    }
}

struct Member {
    /// Records that it has processed.
    done: Arc<AtomicU64>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<PipelineReport, PipelineError>>,
}

impl Member {
    async fn start(bootstrap: &str, topic: &str, plan: &Plan, seen: &Arc<Seen>) -> anyhow::Result<Self> {
        let client = Client::connect(bootstrap).await?;
        let consumer = plan.way.applied_to(client.consumer(topic).subscribe([topic]));
        // Members of the classic protocol hear of a rebalance with their next heartbeat.
        let consumer = match plan.way {
            Way::Consumer => consumer,
            Way::Eager | Way::Cooperative => consumer.heartbeat_interval(Duration::from_millis(100)),
        };
        let losing = Arc::clone(seen);
        let consumer = consumer.on_lost(move |partitions, _: ConsumerHandle| {
            losing.lost.fetch_add(partitions.len() as u64, Ordering::Relaxed);
            async {}
        });
        let (stop, stopped) = oneshot::channel();
        let (seen, done) = (Arc::clone(seen), Arc::<AtomicU64>::default());
        let of_member = Arc::clone(&done);
        let handler = move |record: Record| {
            let (seen, of_member) = (Arc::clone(&seen), Arc::clone(&of_member));
            async move {
                let mut attempt = Attempt::begin(&seen, &record);
                tokio::time::sleep(Duration::from_millis(record.offset().unsigned_abs() % 20)).await;
                attempt.is_done = true;
                of_member.fetch_add(1, Ordering::Relaxed);
            }
        };
        let pipeline = Pipeline::new(consumer).concurrency(64).drain(plan.drain);
        let running = tokio::spawn(pipeline.run(handler, async move {
            let _ = stopped.await;
        }));
        Ok(Self { done, stop, running })
    }

    /// Answers with what it left, or with why it did not end well, which is a fault.
    async fn leave(self) -> anyhow::Result<Result<PipelineReport, PipelineError>> {
        let _ = self.stop.send(());
        let ended = tokio::time::timeout(STALL, self.running).await.context("a member does not end")?;
        ended.context("a member panicked")
    }
}

/// Runs it against this cluster.
///
/// # Errors
/// The cluster does not answer, or a member fails. What is wrong with the records is no error.
pub async fn run(bootstrap: &str, topic: &str, plan: &Plan) -> anyhow::Result<Report> {
    ensure!(plan.rate > 0, "the rate must be more than 0");
    let client = Client::connect(bootstrap).await?;
    client.admin().create_topic(NewTopic::new(topic).partitions(PARTITIONS)).await?;
    let (seen, written) = (Arc::<Seen>::default(), Arc::<AtomicU64>::default());
    let writing = tokio::spawn(write(client.clone(), topic.to_owned(), plan.rate, Arc::clone(&written)));
    let (mut random, mut faults) = (Random::new(plan.seed), Vec::new());
    let mut members: [Option<Member>; MEMBERS] = Default::default();
    let (mut left, mut longest) = (0, Duration::ZERO);
    for number in 0..plan.changes {
        let slot = random.below(MEMBERS);
        let is_last = members.iter().flatten().count() == 1;
        match members[slot].take() {
            Some(member) if !is_last => match member.leave().await? {
                Ok(report) => left += report.left.len(),
                Err(error) => faults.push(format!("change {number}: a member does not leave well: {error}")),
            },
            taken => {
                // The last one stays, and another one joins it.
                let free =
                    if taken.is_some() { (slot + 1 + random.below(MEMBERS - 1)) % MEMBERS } else { slot };
                members[slot] = taken;
                members[free] = Some(Member::start(bootstrap, topic, plan, &seen).await?);
            }
        }
        if plan.hurries && random.below(3) == 0 {
            continue;
        }
        let (goal, began) = (written.load(Ordering::Relaxed), Instant::now());
        // Each member has partitions then.
        let before: Vec<u64> = counts(&members);
        let is_settled = |members: &[Option<Member>]| {
            counts(members).iter().zip(&before).all(|(now, before)| now > before)
        };
        while seen.done.load(Ordering::Relaxed) < goal || !is_settled(&members) {
            if began.elapsed() > STALL {
                let done = seen.done.load(Ordering::Relaxed);
                anyhow::bail!(
                    "change {number} of seed {}: {done} of {goal} records after {STALL:?}",
                    plan.seed
                );
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        longest = longest.max(began.elapsed());
    }
    writing.abort();
    let _ = writing.await;
    for member in members.into_iter().flatten() {
        match member.leave().await? {
            Ok(report) => left += report.left.len(),
            Err(error) => faults.push(format!("at the end a member does not leave well: {error}")),
        }
    }
    let records = seen.records.lock().unwrap_or_else(PoisonError::into_inner);
    let again: u64 = records.values().map(|fate| u64::from(fate.begun.saturating_sub(1))).sum();
    let twice = records.values().filter(|fate| fate.done > 1).count();
    let dropped = seen.dropped.load(Ordering::Relaxed);
    let (lost, beside) = (seen.lost.load(Ordering::Relaxed), seen.beside.load(Ordering::Relaxed));
    if lost > 0 {
        faults.push(format!("members lost {lost} partitions instead of giving them up"));
    }
    if beside > 0 {
        faults.push(format!("{beside} attempts began while another member was at the same record"));
    }
    if twice > 0 {
        faults.push(format!("{twice} records were processed to their end more than once"));
    }
    if again > dropped {
        faults.push(format!(
            "{again} attempts were made again, and only {dropped} were in work when a partition was given up"
        ));
    }
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{} changes, {} records: {again} begun again, {dropped} dropped in work, {left} left by members that left; after a change all \
         written before it was done, and all members had records, within {longest:?}",
        plan.changes,
        records.len()
    );
    for fault in &faults {
        let _ = writeln!(text, "FAULT: {fault}");
    }
    Ok(Report { text, faults, dropped })
}

/// How many records each member has processed.
fn counts(members: &[Option<Member>]) -> Vec<u64> {
    members.iter().flatten().map(|member| member.done.load(Ordering::Relaxed)).collect()
}

/// Writes records until it is dropped.
async fn write(client: Client, topic: String, rate: u64, written: Arc<AtomicU64>) -> anyhow::Result<()> {
    let producer = client.producer().build().await?;
    let began = Instant::now();
    let mut number = 0_u64;
    loop {
        let due = u64::try_from(began.elapsed().as_millis())? * rate / 1000;
        while number < due {
            let partition = (number % PARTITIONS as u64) as i32;
            let (key, value) = (format!("key-{}", number % 600), number.to_string());
            let record = milena::Record::to(&topic).partition(partition).key(&key).value(&value);
            producer.post(record).await?;
            number += 1;
        }
        producer.flush().await?;
        written.store(number, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
