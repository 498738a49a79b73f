//! A schema registry that is down while records are written and read: what needs no answer of it goes on at its rate, and what does waits
//! or goes to the dead letters. `cargo xtask registry-outage` runs it, and a short form is a test.
//!
//! ```text
//!  producer, at a rate ─▶ records with a schema that is known,     ─▶ pipeline that waits ─▶ Seen
//!                         and some with one that no reader has met ─▶ pipeline that fails ─▶ Seen, or dead letters
//!                                                                       └─ the registry is ended, and started again later
//! ```

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use milena::{Client, NewTopic, Record};
use milena_broker::Broker;
use milena_pipeline::dead_letters::DeadLetters;
use milena_pipeline::{Failure, Pipeline, PipelineWatch, Record as Taken, Report as PipelineReport};
use milena_registry::framing::{Part, SchemaId};
use milena_registry::server::Server;
use milena_registry::{
    Avro, RecordEncoder, RegistrySerde, Schema, SchemaRegistry, TypedBatch as _, TypedError, TypedTopic as _,
    WhileDown,
};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How much of it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// For how long the registry is down, at least. Before and after that, a fourth of this time is without an outage.
    pub time: Duration,
    /// What is counted together.
    pub window: Duration,
    /// Records per second.
    pub rate: u64,
    /// One record of N has a schema that is not known, while the registry is down.
    pub unknown_every: u64,
    /// The longest wait between the first two attempts of the registry's clients.
    pub retry_wait: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// What was done and what was found, as a text.
    pub text: String,
    /// What is wrong.
    pub faults: Vec<String>,
    /// Of the records whose schema is known, the smallest part of a window's that was finished in its time while the registry was down, in
    /// percent.
    pub rate_percent_min: u64,
}

#[derive(Serialize, Deserialize, Clone, Copy)]
struct Order {
    number: i64,
}

const TOPIC: &str = "orders";
const LETTERS: &str = "orders.dlq";
const PARTITIONS: i32 = 6;
/// Schemas that no reader has met before the registry is down.
const UNKNOWN: usize = 20;
/// Records of a program that starts while the registry is down.
const LATE: u64 = 10;
/// How long what is left may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// What was written, by the record's number: whether its schema is known.
#[derive(Default)]
struct Written {
    known: Vec<bool>,
}

/// What a reader has finished, by the record's number: how often.
#[derive(Default)]
struct Seen {
    times: Vec<u8>,
    /// Of those with a schema that is known, and of the rest.
    known: u64,
    unknown: u64,
}

/// Clones share it.
#[derive(Default)]
struct Shared<T>(Arc<Mutex<T>>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared<Written> {
    fn add(&self, is_known: bool) -> i64 {
        let known = &mut self.lock().known;
        known.push(is_known);
        known.len() as i64 - 1
    }

    /// With a schema that is known, and without.
    fn counts(&self) -> (u64, u64) {
        let written = self.lock();
        let known = written.known.iter().filter(|known| **known).count();
        (known as u64, (written.known.len() - known) as u64)
    }
}

/// A pipeline that reads the topic.
struct Reader {
    seen: Shared<Seen>,
    watch: PipelineWatch,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<PipelineReport, milena_pipeline::PipelineError>>,
}

impl Reader {
    /// `places` is how many records may be in work: each that waits takes one.
    fn start(
        client: &Client,
        group: &str,
        serde: RegistrySerde<Avro>,
        places: usize,
        written: &Shared<Written>,
    ) -> Self {
        let seen = Shared::<Seen>::default();
        let (stop, stopped) = oneshot::channel::<()>();
        let pipeline = Pipeline::new(client.consumer(group).subscribe([TOPIC]))
            .concurrency(places)
            .drain(Duration::ZERO)
            .dead_letters(
                DeadLetters::to(if group == "fails" { LETTERS } else { "unexpected.dlq" }).create(true),
            );
        let (watch, finished, written) = (pipeline.watch(), seen.clone(), written.clone());
        let handler = move |record: Taken| {
            let (serde, finished, written) = (serde.clone(), finished.clone(), written.clone());
            async move {
                let headers: Vec<_> = record.headers().collect();
                let value = record.value().unwrap_or_default();
                let order: Order = serde.read(Part::Value, value, &headers).await.map_err(Failure::poison)?;
                let number = usize::try_from(order.number)?;
                let is_known =
                    written.lock().known.get(number).copied().ok_or("the number was not written")?;
                finished.lock().see(number, is_known);
                Ok::<(), Failure>(())
            }
        };
        let running = tokio::spawn(pipeline.run(handler, async move {
            let _ = stopped.await;
        }));
        Self { seen, watch, stop, running }
    }

    async fn stop(self) -> anyhow::Result<(Seen, PipelineReport)> {
        let _ = self.stop.send(());
        let report = self.running.await.context("the pipeline panicked")??;
        let seen = std::mem::take(&mut *self.seen.lock());
        Ok((seen, report))
    }
}

impl Seen {
    fn see(&mut self, number: usize, is_known: bool) {
        if self.times.len() <= number {
            self.times.resize(number + 1, 0);
        }
        self.times[number] = self.times[number].saturating_add(1);
        *(if is_known { &mut self.known } else { &mut self.unknown }) += 1;
    }

    fn of(&self, number: usize) -> u8 {
        self.times.get(number).copied().unwrap_or_default()
    }
}

/// One of the schemas, which differ in a default only.
fn schema(index: usize) -> Schema {
    Schema::avro(format!(
        r#"{{"type":"record","name":"Order","namespace":"shop","fields":[{{"name":"number","type":"long","default":{index}}}]}}"#
    ))
}

/// What a window has shown.
struct Window {
    is_down: bool,
    /// Records with a schema that is known.
    written: u64,
    /// How many of them each reader had finished at the window's end.
    unfinished: [u64; 2],
    /// Records with another schema: what waits, and what was put aside.
    waiting: u64,
    dead: u64,
}

/// Waits until it is so.
async fn until(what: &str, is_so: impl Fn() -> bool) -> anyhow::Result<()> {
    let began = Instant::now();
    while !is_so() {
        ensure!(began.elapsed() < PATIENCE, "after {PATIENCE:?} it is not so that {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

struct Outage {
    plan: Plan,
    written: Shared<Written>,
    waits: Reader,
    fails: Reader,
    windows: Vec<Window>,
    /// Records with a schema that is known, at the end of the last window.
    before: u64,
}

impl Outage {
    /// Writes at the rate for some time.
    async fn write<S>(
        &mut self,
        writers: &Writers<'_, S>,
        time: Duration,
        is_down: bool,
    ) -> anyhow::Result<()>
    where
        S: RecordEncoder<Order>,
    {
        let (began, mut sent, mut next_window) = (Instant::now(), 0, self.plan.window);
        self.before = self.written.counts().0;
        while began.elapsed() < time {
            let due = u64::try_from(began.elapsed().as_micros())? * self.plan.rate / 1_000_000;
            for turn in sent..due {
                let is_known = !is_down || turn % self.plan.unknown_every != 0;
                let number = self.written.add(is_known);
                let index =
                    if is_known { 0 } else { 1 + (turn / self.plan.unknown_every) as usize % UNKNOWN };
                // Each record has a key of its own: what waits holds up no other.
                let record = Record::new().key(number.to_be_bytes().to_vec());
                writers[index].post(record, &Order { number }).await?;
            }
            sent = sent.max(due);
            if began.elapsed() >= next_window {
                next_window += self.plan.window;
                self.look(is_down);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    fn look(&mut self, is_down: bool) {
        let (known, unknown) = self.written.counts();
        let unfinished =
            [&self.waits, &self.fails].map(|reader| known.saturating_sub(reader.seen.lock().known));
        let waiting = unknown.saturating_sub(self.waits.seen.lock().unknown);
        let dead = self.fails.watch.stats().dead;
        self.windows.push(Window { is_down, written: known - self.before, unfinished, waiting, dead });
        self.before = known;
    }

    fn is_known_finished(&self) -> bool {
        let (known, _) = self.written.counts();
        self.waits.seen.lock().known >= known && self.fails.seen.lock().known >= known
    }

    fn is_all_finished(&self) -> bool {
        let (_, unknown) = self.written.counts();
        let aside = self.fails.watch.stats().dead + self.fails.seen.lock().unknown;
        self.is_known_finished() && self.waits.seen.lock().unknown >= unknown && aside >= unknown
    }
}

/// A producer's topic, by schema. The first one is the schema that readers know.
type Writers<'a, S> = [milena_registry::TypedProducer<'a, Order, S>];

/// Runs it on an embedded broker with our own registry.
///
/// # Errors
/// Something does not start, or does not come to its end. What is wrong with the records is no error.
pub async fn run(plan: &Plan) -> anyhow::Result<Report> {
    let cluster = Broker::builder().start().await?;
    let client = Client::connect(cluster.bootstrap()).await?;
    client.admin().create_topic(NewTopic::new(TOPIC).partitions(PARTITIONS)).await?;
    let server = Server::builder(&client).port(0).start().await?;
    let url = server.url();
    let port =
        url.rsplit(':').next().and_then(|port| port.parse().ok()).context("the registry has no port")?;
    let registry = || {
        let builder = SchemaRegistry::builder([url.clone()]);
        builder.retry_wait(plan.retry_wait, plan.retry_wait * 20).build()
    };

    // The writer knows all schemas, and the readers the first one.
    let (writing, mut ids) = (registry()?, Vec::new());
    for index in 0..=UNKNOWN + 2 {
        ids.push(writing.register(&format!("{index}-value"), &schema(index)).await?.id);
    }
    let producer = client.producer().build().await?;
    let topic = producer.topic(TOPIC).await?;
    let mut writers = Vec::new();
    for id in &ids[..=UNKNOWN] {
        let serde = RegistrySerde::new(&writing, Avro).use_id(*id);
        RecordEncoder::<Order>::writer(&serde, TOPIC, Part::Value).await?;
        writers.push(topic.clone().typed::<Order, _>(serde));
    }
    let written = Shared::<Written>::default();
    let waiting = plan.rate * plan.time.as_secs().max(1) / plan.unknown_every + LATE;
    let reader = async |group: &str, what: WhileDown| -> anyhow::Result<Reader> {
        let serde = RegistrySerde::new(&registry()?, Avro).while_down(what);
        serde.load(SchemaId::Id(ids[0])).await?;
        let places = usize::try_from(4 * waiting)? + 256;
        Ok(Reader::start(&client, group, serde, places, &written))
    };
    let (waits, fails) = (reader("waits", WhileDown::Wait).await?, reader("fails", WhileDown::Fail).await?);
    let (written, plan) = (written.clone(), plan.clone());
    let mut outage = Outage { plan, written, waits, fails, windows: Vec::new(), before: 0 };
    let plan = outage.plan.clone();

    outage.write(&writers, plan.time / 4, false).await?;
    until("both groups have read what was written", || outage.is_known_finished()).await?;
    drop(server);
    // A program that starts now knows no schema at all.
    let late = |what: WhileDown, id: u32| -> anyhow::Result<_> {
        let serde = RegistrySerde::new(&registry()?, Avro).use_id(id).while_down(what);
        Ok(topic.clone().typed::<Order, _>(serde))
    };
    let (refusing, patient) =
        (late(WhileDown::Fail, ids[UNKNOWN + 1])?, late(WhileDown::Wait, ids[UNKNOWN + 2])?);
    let count = outage.written.clone();
    let mut writing_late = Box::pin(async move {
        for _ in 0..LATE {
            // It counts as written from now on, and it is not before the registry is back.
            let number = count.add(false);
            let record = Record::new().key(number.to_be_bytes().to_vec());
            patient.send(record, &Order { number }).await?;
        }
        anyhow::Ok(())
    });
    let nothing = Order { number: -1 };
    let writing = async {
        tokio::join!(outage.write(&writers, plan.time, true), refusing.send(Record::new(), &nothing))
    };
    let refused = tokio::select! {
        biased;
        late = &mut writing_late => {
            late?;
            bail!("a value was written whose schema nobody could know");
        }
        (wrote, refused) = writing => {
            wrote?;
            refused
        }
    };
    producer.flush().await?;
    let (_, unknown) = outage.written.counts();
    // All but the first late record, which is not written yet.
    let given_up = unknown - 1;
    until("what is known is finished, and the rest is put aside, while the registry is down", || {
        outage.is_known_finished() && outage.fails.watch.stats().dead >= given_up
    })
    .await?;
    let early = outage.waits.seen.lock().unknown + outage.fails.seen.lock().unknown;
    let server = Server::builder(&client).port(port).start().await?;
    tokio::try_join!(writing_late, outage.write(&writers, plan.time / 4, false))?;
    producer.flush().await?;
    until("all records are finished", || outage.is_all_finished()).await?;

    let mut faults = Vec::new();
    match refused {
        Err(TypedError::Serde(error)) if error.is_retriable() => {}
        other => faults.push(format!("a value whose schema is not known was not refused: {other:?}")),
    }
    if early > 0 {
        faults.push(format!(
            "{early} records with an unknown schema were finished while the registry was down"
        ));
    }
    let Outage { written, waits, fails, windows, .. } = outage;
    let (waits, waited) = waits.stop().await?;
    let (fails, _) = fails.stop().await?;
    let letters = letters(&client, &RegistrySerde::new(&registry()?, Avro)).await?;
    let known = std::mem::take(&mut written.lock().known);
    judge(&known, &waits, &fails, &letters, &mut faults);
    if waited.dead > 0 {
        faults.push(format!("{} records of the group that waits were put aside", waited.dead));
    }
    server.close().await?;
    Ok(summary(&plan, &known, letters.len(), &windows, faults))
}

/// The numbers of the records in the dead letters.
async fn letters(client: &Client, serde: &RegistrySerde<Avro>) -> anyhow::Result<Vec<usize>> {
    let mut consumer = client.consumer_direct().topic(LETTERS).until_end().build().await?;
    let mut numbers = Vec::new();
    while let Some(batch) = consumer.next().await? {
        for letter in batch.typed::<Order, _>(serde).await {
            numbers.push(usize::try_from(letter.value?.context("a letter has no value")?.number)?);
        }
    }
    Ok(numbers)
}

/// Each record is finished once by the group that waits; by the group that fails it is finished once, or it is one dead letter.
fn judge(known: &[bool], waits: &Seen, fails: &Seen, letters: &[usize], faults: &mut Vec<String>) {
    let mut dead = vec![0_u8; known.len()];
    for number in letters {
        match dead.get_mut(*number) {
            Some(times) => *times = times.saturating_add(1),
            None => faults.push(format!("record {number} is in the dead letters and was not written")),
        }
    }
    for (number, is_known) in known.iter().enumerate() {
        let (waited, failed, dead) = (waits.of(number), fails.of(number), dead[number]);
        if waited != 1 || failed.saturating_add(dead) != 1 || (*is_known && dead > 0) {
            let what = if *is_known { "known" } else { "unknown" };
            faults.push(format!(
                "record {number}, whose schema is {what}: finished {waited} times by the group that waits, {failed} times by the one \
                 that fails, and {dead} times in the dead letters"
            ));
        }
    }
}

fn summary(plan: &Plan, known: &[bool], letters: usize, windows: &[Window], faults: Vec<String>) -> Report {
    let mut text = String::new();
    let unknown = known.iter().filter(|known| !**known).count();
    let _ = writeln!(
        text,
        "{} records per second, the registry is down for {:?}; with a known schema unless the row says otherwise",
        plan.rate, plan.time
    );
    let _ = writeln!(text, "window  down  written  unfinished: waits  fails  unknown: waiting  dead");
    for (index, window) in windows.iter().enumerate() {
        let Window { is_down, written, unfinished: [waits, fails], waiting, dead } = window;
        let down = if *is_down { "yes" } else { "no" };
        let _ = writeln!(
            text,
            "{index:6}  {down:>4}  {written:7}  {waits:17}  {fails:5}  {waiting:16}  {dead:4}"
        );
    }
    let percent = |window: &Window| {
        let late = window.unfinished[0].max(window.unfinished[1]);
        window.written.saturating_sub(late) * 100 / window.written.max(1)
    };
    let rate_percent_min =
        windows.iter().filter(|window| window.is_down).map(percent).min().unwrap_or_default();
    let _ = writeln!(
        text,
        "{} records, {unknown} of them with a schema that was not known, of which the group that fails put {letters} aside; while the \
         registry was down the worst window finished {rate_percent_min} % in its time",
        known.len()
    );
    for fault in faults.iter().take(20) {
        let _ = writeln!(text, "FAULT: {fault}");
    }
    Report { text, faults, rate_percent_min }
}

/// Refuses what cannot be run.
///
/// # Errors
/// The plan has no time or no rate.
pub fn check(plan: &Plan) -> anyhow::Result<()> {
    ensure!(plan.rate > 0 && plan.unknown_every > 0, "the rate must be more than 0");
    ensure!(plan.time >= plan.window && !plan.window.is_zero(), "the time must have room for a window");
    Ok(())
}
