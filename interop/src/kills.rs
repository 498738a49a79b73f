//! Brokers are killed and started again in turn while producers write, plainly or in transactions, and the logs are read back with
//! Java's consumer: they must agree with what the producers were told. `cargo xtask kills` runs it, and a short form is a test.
//!
//! ```text
//!  producers ──▶ topic ──▶ Java's consumer ──▶ fates::Judge      (what each producer was told of each record)
//!  a stream ──▶ input ──▶ a hop ──▶ copy ──▶ Java's consumer ──▶ hop::Whole      (with transactions: records and offsets)
//! ```

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use milena::{
    Client, Delivery, Error, Producer, Record, TransactionEnd, TransactionalProducer,
    TransactionalProducerBuilder,
};
use tokio::time::sleep;

use crate::brokers::{self, BROKERS, Brokers};
use crate::fates::{self, Fate, Findings, Judge, Reading, Sent};
use crate::hop::{self, Follower, Hop, Step, Whole};
use crate::partner::Partner;
use crate::random::Random;
use crate::stream::Stream;

/// How much of it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Records at the end, at least.
    pub records: u64,
    /// How many records are produced per second, by all producers.
    pub rate: u64,
    /// How often a broker is killed and started again.
    pub kills: usize,
    /// The records are written in transactions.
    pub is_transactional: bool,
    /// The topic's partitions.
    pub partitions: i32,
    /// How long a killed broker stays away, at most; it is at least a third of that.
    pub away: Duration,
    /// When what happens follows from the seed.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// What was done and what was found, as a text.
    pub text: String,
    /// Broken promises.
    pub faults: Vec<String>,
    /// Records that were said to be written, or whose transactions were committed.
    pub records: usize,
}

/// What the producers share.
#[derive(Debug, Default)]
struct Progress {
    sent: AtomicU64,
    is_over: AtomicBool,
    /// How often which errors came.
    errors: Mutex<BTreeMap<String, u64>>,
}

impl Progress {
    fn note(&self, producer: usize, doing: &str, error: &Error) {
        let mut class = vec![format!("producer {producer}, {doing}"), format!("{:?}", error.kind())];
        class.extend(error.code_name().map(str::to_owned));
        let says = [
            (error.maybe_written(), "maybe written"),
            (error.is_retriable(), "retriable"),
            (error.is_fatal(), "fatal"),
            (error.is_fenced(), "fenced"),
        ];
        class.extend(says.iter().filter(|says| says.0).map(|says| says.1.to_owned()));
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        *errors.entry(class.join(", ")).or_default() += 1;
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

/// Kills brokers while producers write, and judges.
///
/// # Errors
/// The cluster does not come back, nothing is written any more, or the log cannot be read. A broken promise is no error.
pub fn run(brokers: &mut Brokers, name: &str, plan: &Plan) -> anyhow::Result<Report> {
    let bootstrap = brokers.bootstrap();
    let (input, copy) = (format!("{name}-input"), format!("{name}-copy"));
    let mut topics = vec![name.to_owned()];
    if plan.is_transactional {
        topics.extend([input.clone(), copy.clone()]);
    }
    for topic in &topics {
        brokers::create_topic(&bootstrap, topic, plan.partitions)?;
    }
    let logs = tempfile::tempdir()?;
    let mut chain = None;
    if plan.is_transactional {
        let step = Step {
            bootstrap: bootstrap.clone(),
            group: copy.clone(),
            input: input.clone(),
            output: copy.clone(),
            protocol: "consumer".into(),
            session: Duration::from_secs(10),
            heartbeat: Duration::from_secs(1),
            timeout: TRANSACTION_TIMEOUT,
            mark: ".1".into(),
            lasting: Duration::from_secs(5),
            logs: logs.path().into(),
        };
        let hop = Hop::start(&step, 0, plan.seed)?;
        let stream = Stream::start(&bootstrap, &input, plan.partitions, plan.rate / 10 + 1);
        chain = Some((hop, stream, Follower::start(&bootstrap, &copy)));
    }
    let progress = Progress::default();
    let started = Instant::now();
    let (sent, kills) = thread::scope(|scope| {
        let producing = scope.spawn(|| produce(&bootstrap, name, plan, &progress));
        let kills = kill(brokers, name, &topics, plan, &progress);
        progress.is_over.store(true, Ordering::Relaxed);
        let sent = producing.join().map_err(|_| anyhow!("a producer panicked"));
        anyhow::Ok((sent??, kills?))
    })?;
    let took = started.elapsed();
    brokers.wait_in_sync(&topics)?;

    let mut text = String::new();
    writeln!(
        text,
        "{} brokers were killed and started again in {:.0} s ({} of them coordinated transactions here, {} stood still for {} s before)",
        plan.kills,
        took.as_secs_f64(),
        kills.coordinators,
        kills.stalls,
        STALL.as_secs(),
    )?;
    writeln!(text, "the producers were told: {}", fates::told(&sent))?;
    for (class, count) in &*progress.errors.lock().unwrap_or_else(PoisonError::into_inner) {
        writeln!(text, "  {count} x {class}")?;
    }
    let mut faults = Vec::new();
    let mut ends = Vec::new();
    let readings: &[Reading] = if plan.is_transactional {
        &[Reading::Uncommitted, Reading::Committed]
    } else {
        &[Reading::Uncommitted]
    };
    let mut records = 0;
    for reading in readings {
        let mut judge = Judge::new(&sent, *reading);
        ends.push(Partner::Java.values(&bootstrap, name, reading.name(), |partition, offset, value| {
            judge.see(partition, offset, value);
            Ok(())
        })?);
        let Findings { records: there, maybe, aborted, faults: found, fault_count } = judge.finish();
        writeln!(
            text,
            "read back by Java with {}: {there} records, {maybe} of them maybe written, {aborted} aborted; {fault_count} faults",
            reading.name()
        )?;
        faults.extend(found);
        records = there;
    }
    if ends.windows(2).any(|ends| ends[0] != ends[1]) {
        faults.push(format!("transactions hang: the ends are {ends:?}"));
    }
    if let Some((hop, stream, follower)) = chain {
        let ends = stream.stop()?;
        let wanted = ends.iter().sum::<i64>() as u64;
        wait(&format!("all {wanted} records are copied"), || Ok(follower.seen() >= wanted))?;
        hop.close()?;
        follower.stop()?;
        let found = Whole::new(&ends, ".1").judge(&bootstrap, &copy)?;
        let [chosen, errors] = hop::count_words(logs.path(), &["chosen", "error"])?[..] else {
            bail!("no counts")
        };
        writeln!(
            text,
            "the loop copied {wanted} records exactly once: {chosen} transactions were aborted as the seed says, {errors} loops ended \
             with an error; {} faults",
            found.len()
        )?;
        faults.extend(found);
    }
    for fault in &faults {
        writeln!(text, "FAULT {fault}")?;
    }
    Ok(Report { text, faults, records })
}

/// Waits for something, as long as brokers need to come back and more.
fn wait(what: &str, mut is_so: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let started = Instant::now();
    while !is_so()? {
        ensure!(started.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// What was done to brokers.
#[derive(Debug, Default)]
struct Kills {
    coordinators: usize,
    stalls: usize,
}

/// Kills brokers in turn and starts them again, spread over the records.
fn kill(
    brokers: &mut Brokers,
    name: &str,
    topics: &[String],
    plan: &Plan,
    progress: &Progress,
) -> anyhow::Result<Kills> {
    let (mut random, mut kills) = (Random::new(plan.seed), Kills::default());
    for number in 0..plan.kills {
        let due = plan.records * number as u64 / plan.kills as u64;
        wait(&format!("{due} records are sent"), || Ok(progress.sent.load(Ordering::Relaxed) >= due))?;
        let id = number % BROKERS + 1;
        if plan.is_transactional {
            let ids = (0..PRODUCERS).map(|producer| transactional_id(name, producer));
            let mut coordinators = ids.map(|of| brokers.transaction_coordinator(&of));
            kills.coordinators += usize::from(coordinators.any(|of| of.is_ok_and(|of| of == Some(id))));
        }
        if number % 3 == 1 && brokers.stall(id, STALL)? {
            // What it was sent meanwhile it does now, late: some of that before it is killed.
            kills.stalls += 1;
            thread::sleep(Duration::from_millis(random.below(300) as u64));
        }
        eprintln!("{} records are sent, and broker {id} is killed", progress.sent.load(Ordering::Relaxed));
        brokers.kill(id)?;
        let away = plan.away.as_millis() as usize;
        thread::sleep(Duration::from_millis((away / 3 + random.below(away * 2 / 3 + 1)) as u64));
        brokers.restart(id)?;
        // Some are killed while replicas lag: then partitions are without a leader for a while.
        if random.below(4) > 0 {
            brokers.wait_in_sync(topics)?;
        }
    }
    wait("all records are sent", || Ok(progress.sent.load(Ordering::Relaxed) >= plan.records))?;
    Ok(kills)
}

/// All producers, until it is over.
fn produce(bootstrap: &str, name: &str, plan: &Plan, progress: &Progress) -> anyhow::Result<Vec<Sent>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let client = Client::connect(bootstrap).await?;
        let new = |number: usize| Writer {
            client: client.clone(),
            topic: name,
            number,
            started: Instant::now(),
            rate: plan.rate / PRODUCERS as u64,
            count: 0,
            sent: Sent::new(plan.partitions as usize),
            progress,
        };
        let [mut one, mut two, mut three] = [0, 1, 2].map(new);
        if plan.is_transactional {
            tokio::try_join!(one.transact(plan.seed), two.transact(plan.seed), three.transact(plan.seed))?;
        } else {
            tokio::try_join!(one.plain(), two.plain(), three.plain())?;
        }
        Ok([one, two, three].map(|writer| writer.sent).into())
    })
}

fn transactional_id(name: &str, producer: usize) -> String {
    format!("{name}-{producer}")
}

/// One producer and what it was told.
struct Writer<'a> {
    client: Client,
    topic: &'a str,
    number: usize,
    started: Instant,
    rate: u64,
    count: u64,
    sent: Sent,
    progress: &'a Progress,
}

/// A record that is under way.
struct Pending {
    partition: usize,
    number: usize,
    delivery: Delivery,
}

impl Writer<'_> {
    /// The second of the producers gives records up soon, so that many have failed by the time a killed broker is missed.
    fn is_hasty(&self) -> bool {
        self.number == 1
    }

    /// Waits until the next record is due; false when it is over.
    async fn is_due(&self) -> bool {
        while !self.progress.is_over() {
            if (self.started.elapsed().as_secs_f64() * self.rate as f64) as u64 > self.count {
                return true;
            }
            sleep(Duration::from_millis(2)).await;
        }
        false
    }

    fn value(&self, partition: usize) -> String {
        let number = self.sent.next(partition);
        format!("{} {number} {:>width$}", self.number, "", width = 20 + number % 100)
    }

    fn counted(&mut self) -> usize {
        self.count += 1;
        self.progress.sent.fetch_add(1, Ordering::Relaxed);
        (self.count % self.sent.partitions() as u64) as usize
    }

    async fn plain(&mut self) -> anyhow::Result<()> {
        let mut builder = self.client.producer();
        match self.number {
            1 => builder = builder.delivery_timeout(HASTE),
            2 => builder = builder.batch_bytes_max(2000),
            _ => {}
        }
        let producer: Producer = builder.build().await?;
        let mut pending = VecDeque::new();
        while self.is_due().await {
            let partition = self.counted();
            let value = self.value(partition);
            let record = Record::to(self.topic).partition(partition as i32).value(value.as_bytes());
            match producer.enqueue(record).await {
                Ok(delivery) => {
                    let number = self.sent.add(partition, Fate::Maybe);
                    pending.push_back(Pending { partition, number, delivery });
                }
                Err(error) => {
                    self.progress.note(self.number, "enqueuing", &error);
                    self.sent.add(partition, not_written(&error));
                }
            }
            while let Some(first) = pending.pop_front_if(|first| first.delivery.is_settled()) {
                self.settle(first).await;
            }
        }
        for delivery in pending {
            self.settle(delivery).await;
        }
        producer.close().await?;
        Ok(())
    }

    async fn settle(&mut self, Pending { partition, number, delivery }: Pending) {
        let fate = match delivery.await {
            Ok(receipt) => Fate::Written(receipt.offset()),
            Err(error) => {
                self.progress.note(self.number, "delivering", &error);
                not_written(&error)
            }
        };
        self.sent.set(partition, number, fate);
    }

    fn transactional(&self) -> TransactionalProducerBuilder {
        let builder = self.client.transactional(transactional_id(self.topic, self.number));
        let builder = builder.transaction_timeout(TRANSACTION_TIMEOUT);
        if self.is_hasty() { builder.delivery_timeout(HASTE) } else { builder }
    }

    /// Transactions of up to half a second, most of which are committed, and the others aborted or dropped.
    async fn transact(&mut self, seed: u64) -> anyhow::Result<()> {
        let mut random = Random::new(seed + self.number as u64);
        let mut transaction = 0;
        while !self.progress.is_over() {
            let mut producer = match self.transactional().build().await {
                Ok(producer) => producer,
                Err(error) if !error.is_fatal() => {
                    self.progress.note(self.number, "building", &error);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            // A fatal error ends the producer, and the next one takes over.
            while self.is_due().await {
                transaction += 1;
                if !self.one_transaction(&mut producer, transaction, &mut random).await? {
                    break;
                }
            }
            // What the last one has dropped is over before the log is read.
            if let Err(error) = producer.resolve().await {
                self.progress.note(self.number, "resolving", &error);
            }
        }
        Ok(())
    }

    /// One transaction; false when the producer can do nothing more.
    async fn one_transaction(
        &mut self,
        producer: &mut TransactionalProducer,
        number: u32,
        random: &mut Random,
    ) -> anyhow::Result<bool> {
        let transaction = match producer.begin().await {
            Ok(transaction) => transaction,
            Err(error) => {
                self.progress.note(self.number, "beginning", &error);
                return Ok(!error.is_fatal());
            }
        };
        let mut pending = Vec::new();
        for _ in 0..=random.below(self.rate as usize / 2 + 1) {
            if !self.is_due().await {
                break;
            }
            let partition = self.counted();
            let value = self.value(partition);
            let record = Record::to(self.topic).partition(partition as i32).value(value.as_bytes());
            match transaction.enqueue(record).await {
                Ok(delivery) => {
                    let number = self.sent.add(partition, Fate::Aborted);
                    pending.push(Pending { partition, number, delivery });
                }
                Err(error) => {
                    self.progress.note(self.number, "enqueuing", &error);
                    self.sent.add(partition, not_written(&error));
                    // What was not taken may be left out, and the others committed.
                    if error.requires_abort() || error.is_fatal() {
                        break;
                    }
                }
            }
        }
        let (mut fate, mut goes_on) = (Fate::Aborted, true);
        match random.below(10) {
            0 | 1 => {
                if random.below(2) == 0
                    && let Err(error) = transaction.flush().await
                {
                    self.progress.note(self.number, "flushing", &error);
                }
                if let Err(error) = transaction.abort().await {
                    self.progress.note(self.number, "aborting", &error);
                    goes_on = !error.is_fatal();
                }
            }
            2 => drop(transaction),
            _ => match transaction.commit().await {
                Ok(()) => fate = Fate::Written(None),
                Err(error) => {
                    self.progress.note(self.number, "committing", &error);
                    if error.maybe_written() {
                        fate = self.resolve(producer, number).await?;
                        goes_on = fate != Fate::MaybeWith(number);
                    } else {
                        goes_on = !error.is_fatal();
                    }
                }
            },
        }
        for Pending { partition, number, delivery } in pending {
            let of_record = match fate {
                Fate::Written(_) => {
                    let receipt = delivery.await;
                    let receipt = receipt.context("a record of a transaction that was committed")?;
                    Fate::Written(receipt.offset())
                }
                other => other,
            };
            self.sent.set(partition, number, of_record);
        }
        Ok(goes_on)
    }

    /// What has become of a commit of unknown fate. It is lost when the producer can do nothing more.
    async fn resolve(&self, producer: &mut TransactionalProducer, number: u32) -> anyhow::Result<Fate> {
        let started = Instant::now();
        loop {
            match producer.resolve().await {
                Ok(Some(TransactionEnd::Committed)) => return Ok(Fate::Written(None)),
                Ok(Some(TransactionEnd::Aborted)) => return Ok(Fate::Aborted),
                Ok(None) => bail!("a transaction without an end"),
                Err(error) => {
                    self.progress.note(self.number, "resolving", &error);
                    if error.is_fatal() {
                        return Ok(Fate::MaybeWith(number));
                    }
                }
            }
            ensure!(
                started.elapsed() < PATIENCE,
                "the end of a transaction is not known within {PATIENCE:?}"
            );
        }
    }
}

fn not_written(error: &Error) -> Fate {
    if error.maybe_written() { Fate::Maybe } else { Fate::NotWritten }
}

const PRODUCERS: usize = 3;

/// Shorter than the time until a killed broker is missed.
const HASTE: Duration = Duration::from_millis(1500);

/// A broker that stands still is missed after 3 s.
const STALL: Duration = Duration::from_secs(4);

/// Shorter than some of the outages.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(15);

/// Each wait ends long before, unless something hangs.
const PATIENCE: Duration = Duration::from_secs(180);
