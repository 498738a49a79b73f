//! A pipeline for half an hour with a poison key, a stuck key, a slow partition and records that fail for good: those that have
//! nothing to do with them must go on at their rate, and memory must not grow. `cargo xtask soak` runs it, and a short form is a test.
//!
//! ```text
//!  producer, at a rate ─▶ 20 partitions ─▶ pipeline ─▶ Tally (which record, how often, how late)
//!                                             └─ given up ─▶ dead letters
//! ```

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use milena::{Client, NewTopic};
use milena_pipeline::dead_letters::DeadLetters;
use milena_pipeline::{Failure, Pipeline, Record, Retry};
use tokio::sync::oneshot;

/// How much of it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// For how long there are faults. Before that, a fifth of this time is without.
    pub time: Duration,
    /// What is counted together.
    pub window: Duration,
    /// Records per second, over all partitions.
    pub rate: u64,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// What was done and what was found, as a text.
    pub text: String,
    /// What is wrong.
    pub faults: Vec<String>,
    /// Of the records that have nothing to do with the faults, the smallest part of a window's that was finished in its time, in
    /// percent. What was late in one window counts in the next.
    pub rate_percent_min: u64,
    /// By how much the last quarter's mean of the resident memory is over that of the quarter after the first, in percent.
    pub memory_growth_percent: i64,
}

const PARTITIONS: i32 = 20;
/// The partition whose records take so long that it falls behind, and those with a record now and then that fails or hangs.
const SLOW: i32 = 7;
const POISON: i32 = 3;
const STUCK: i32 = 5;

/// How long handlers take.
const WORK: Duration = Duration::from_millis(5);
const SLOW_WORK: Duration = Duration::from_secs(4);
const TIME_LIMIT: Duration = Duration::from_secs(5);
const ATTEMPTS: u32 = 3;

/// What was seen. It has its full size from the beginning: memory that grows is the pipeline's, or the client's.
#[derive(Default)]
struct Tally {
    /// Of each partition, which of its records were a success.
    done: Vec<Seen>,
    /// Records that were given to the producer, of partitions and keys without faults.
    written: u64,
    /// How many of them are finished.
    finished: u64,
    /// Records that must end in the dead letters.
    doomed: u64,
    /// By how much records were late that were finished since the last look, from when they were due to be written.
    late: Lateness,
}

/// Offsets of a partition that were seen, a bit for each.
#[derive(Default)]
struct Seen {
    /// The bits are set for offsets that were not. Zeros would take no memory before they are written to.
    unseen: Vec<u64>,
    twice: u64,
}

impl Seen {
    /// Answers whether the offset was not seen before.
    fn see(&mut self, offset: usize) -> bool {
        let (word, bit) = (offset / 64, 1 << (offset % 64));
        if self.unseen.len() <= word {
            self.unseen.resize(word + 1, u64::MAX);
        }
        let is_first = self.unseen[word] & bit != 0;
        self.unseen[word] &= !bit;
        self.twice += u64::from(!is_first);
        is_first
    }
}

/// How many records were late by how many milliseconds.
struct Lateness {
    counts: Vec<u32>,
    total: u64,
    max_ms: u32,
}

/// Lateness above this is counted together.
const LATE_MS_MAX: usize = 10_000;

impl Default for Lateness {
    fn default() -> Self {
        Self { counts: vec![0; LATE_MS_MAX + 1], total: 0, max_ms: 0 }
    }
}

impl Lateness {
    fn add(&mut self, late: Duration) {
        let ms = u32::try_from(late.as_millis()).unwrap_or(u32::MAX);
        self.counts[(ms as usize).min(LATE_MS_MAX)] += 1;
        self.total += 1;
        self.max_ms = self.max_ms.max(ms);
    }

    fn quantile(&self, percent: u64) -> u32 {
        let (rank, mut below) = (self.total.saturating_sub(1) * percent / 100, 0);
        let reaches = |count: &u32| {
            below += u64::from(*count);
            below > rank
        };
        let ms = self.counts.iter().position(reaches).unwrap_or_default();
        if ms == LATE_MS_MAX { self.max_ms } else { ms as u32 }
    }

    /// Begins anew. Answers with the median, the 99th percentile and the longest before, in milliseconds.
    fn take(&mut self) -> [u32; 3] {
        let taken = [self.quantile(50), self.quantile(99), self.max_ms];
        self.counts.fill(0);
        (self.total, self.max_ms) = (0, 0);
        taken
    }
}

#[derive(Clone)]
struct Shared(Arc<Mutex<Tally>>);

impl Shared {
    fn new(plan: &Plan) -> Self {
        let records = (plan.time * 6 / 5).as_secs() * plan.rate / PARTITIONS as u64;
        // Records of the poison key and of the stuck key come on top.
        let words = usize::try_from(records + records / 8).unwrap_or_default() / 64;
        let seen = || Seen { unseen: vec![u64::MAX; words], twice: 0 };
        let done = (0..PARTITIONS).map(|_| seen()).collect();
        Self(Arc::new(Mutex::new(Tally { done, ..Tally::default() })))
    }

    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a window has shown.
struct Window {
    has_faults: bool,
    written: u64,
    finished: u64,
    /// The median, the 99th percentile and the longest, in milliseconds.
    late: [u32; 3],
    resident_kib: u64,
}

/// Runs it against this cluster.
///
/// # Errors
/// The cluster does not answer, or the pipeline fails. What is wrong with the records is no error.
pub async fn run(bootstrap: &str, name: &str, plan: &Plan) -> anyhow::Result<Report> {
    let client = Client::connect(bootstrap).await?;
    client.admin().create_topic(NewTopic::new(name).partitions(PARTITIONS)).await?;
    let (shared, began) = (Shared::new(plan), Instant::now());
    let (stop, stopped) = oneshot::channel::<()>();
    let pipeline = Pipeline::new(client.consumer(name).subscribe([name]))
        .concurrency(256)
        .time_limit(TIME_LIMIT)
        .drain(Duration::ZERO)
        .retry(Retry::fixed(Duration::from_millis(100)).attempts(ATTEMPTS))
        .dead_letters(DeadLetters::to(format!("{name}.dlq")).create(true));
    let watch = pipeline.watch();
    let handler = handler(shared.clone(), began);
    let running = tokio::spawn(pipeline.run(handler, async move {
        let _ = stopped.await;
    }));
    let windows = produce(&client, name, plan, &shared, began).await?;
    // The slow partition is left as it is. All others come to their end, the stuck key's last record after all of its attempts.
    let ending = async {
        let doomed = shared.lock().doomed;
        let is_finished = || {
            let tally = shared.lock();
            tally.finished == tally.written
        };
        while !is_finished() || watch.stats().dead < doomed {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let is_ended = tokio::time::timeout(Duration::from_secs(120), ending).await.is_ok();
    let _ = stop.send(());
    let report = running.await.context("the pipeline panicked")??;
    let mut faults = Vec::new();
    let tally = shared.lock();
    if !is_ended {
        faults.push(format!(
            "{} of {} records are finished, and {} of {} dead letters are written",
            tally.finished, tally.written, report.dead, tally.doomed
        ));
    }
    if report.dead != tally.doomed {
        faults.push(format!("{} dead letters, not {}", report.dead, tally.doomed));
    }
    for (partition, Seen { twice, .. }) in tally.done.iter().enumerate() {
        if *twice > 0 {
            faults.push(format!("{twice} records of partition {partition} were processed twice"));
        }
    }
    Ok(summary(plan, &tally, &windows, report.retries, faults))
}

type Handled = std::pin::Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// Does what the record's value says: `kind when number`.
fn handler(shared: Shared, began: Instant) -> impl Fn(Record) -> Handled + Clone + Send + 'static {
    move |record: Record| {
        let shared = shared.clone();
        Box::pin(async move {
            let value = std::str::from_utf8(record.value().unwrap_or_default())?;
            let (kind, when_ms) = value.split_once(' ').ok_or_else(|| Failure::fatal("not ours"))?;
            let when = Duration::from_millis(when_ms.parse()?);
            match kind {
                "poison" => return Err(Failure::retriable("it never succeeds")),
                "stuck" => std::future::pending::<()>().await,
                "dead" => return Err(Failure::poison("it fails for good")),
                "slow" => tokio::time::sleep(SLOW_WORK).await,
                _ => tokio::time::sleep(WORK).await,
            }
            let mut tally = shared.lock();
            let is_first =
                tally.done[usize::try_from(record.partition())?].see(usize::try_from(record.offset())?);
            if kind == "usual" && is_first {
                tally.finished += 1;
                tally.late.add(began.elapsed().saturating_sub(when));
            }
            Ok(())
        })
    }
}

/// Writes records at the rate, and looks at what has come of them after each window.
async fn produce(
    client: &Client,
    topic: &str,
    plan: &Plan,
    shared: &Shared,
    began: Instant,
) -> anyhow::Result<Vec<Window>> {
    let producer = client.producer().build().await?;
    let (quiet, end) = (plan.time / 5, plan.time + plan.time / 5);
    let mut windows = Vec::new();
    let (mut number, mut next_window, mut last) = (0_u64, began + plan.window, (0, 0));
    let (mut next_poison, mut next_stuck) = (quiet, quiet);
    loop {
        let now = began.elapsed();
        if now >= end {
            break;
        }
        let has_faults = now >= quiet;
        let due = u64::try_from(now.as_micros())? * plan.rate / 1_000_000;
        for number in number..due {
            let when = number * 1000 / plan.rate;
            let partition = (number % PARTITIONS as u64) as i32;
            let kind = match number / PARTITIONS as u64 {
                _ if has_faults && partition == SLOW => "slow",
                turn if has_faults && turn % 100 == 0 => "dead",
                _ => "usual",
            };
            let key = format!("key-{}", number % 100_000);
            post(&producer, topic, partition, &key, kind, when).await?;
            let mut tally = shared.lock();
            match kind {
                "usual" => tally.written += 1,
                "dead" => tally.doomed += 1,
                _ => {}
            }
        }
        number = number.max(due);
        let when = u64::try_from(now.as_millis())?;
        if now >= next_poison {
            next_poison += Duration::from_secs(1);
            post(&producer, topic, POISON, "poison", "poison", when).await?;
            shared.lock().doomed += 1;
        }
        if now >= next_stuck {
            // Each takes three time limits.
            next_stuck += Duration::from_secs(20);
            post(&producer, topic, STUCK, "stuck", "stuck", when).await?;
            shared.lock().doomed += 1;
        }
        if Instant::now() >= next_window {
            next_window += plan.window;
            let mut tally = shared.lock();
            windows.push(Window {
                has_faults,
                written: tally.written - last.0,
                finished: tally.finished - last.1,
                late: tally.late.take(),
                resident_kib: resident_kib()?,
            });
            last = (tally.written, tally.finished);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    producer.flush().await?;
    Ok(windows)
}

async fn post(
    producer: &milena::Producer,
    topic: &str,
    partition: i32,
    key: &str,
    kind: &str,
    when_ms: u64,
) -> anyhow::Result<()> {
    let value = format!("{kind} {when_ms}");
    Ok(producer.post(milena::Record::to(topic).partition(partition).key(key).value(&value)).await?)
}

/// The memory that this process has now.
fn resident_kib() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("reading the process's memory")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).context("no resident memory is told")?;
    Ok(kib.parse()?)
}

fn summary(plan: &Plan, tally: &Tally, windows: &[Window], retries: u64, mut faults: Vec<String>) -> Report {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{} records per second for {:?}, of which the last five sixths have faults",
        plan.rate,
        plan.time * 6 / 5
    );
    let _ = writeln!(text, "window  faults  written  finished  late p50  p99  max (ms)  resident (MiB)");
    for (index, window) in windows.iter().enumerate() {
        let faults = if window.has_faults { "yes" } else { "no" };
        let [p50, p99, max] = window.late;
        let (written, finished, mib) = (window.written, window.finished, window.resident_kib / 1024);
        let _ = writeln!(
            text,
            "{index:6}  {faults:>6}  {written:7}  {finished:8}  {p50:8}  {p99:3}  {max:8}  {mib:14}"
        );
    }
    let faulty: Vec<&Window> = windows.iter().filter(|window| window.has_faults).skip(1).collect();
    let percent = faulty.iter().map(|window| window.finished * 100 / window.written.max(1)).min();
    let quarter = faulty.len() / 4;
    let mean = |windows: &[&Window]| {
        windows.iter().map(|window| window.resident_kib).sum::<u64>() / windows.len().max(1) as u64
    };
    let memory_growth_percent = if quarter == 0 {
        0
    } else {
        let (early, late) = (mean(&faulty[quarter..2 * quarter]), mean(&faulty[faulty.len() - quarter..]));
        (late as i64 - early as i64) * 100 / early.max(1) as i64
    };
    if faulty.is_empty() {
        faults.push("the time is too short for two windows with faults".into());
    }
    let rate_percent_min = percent.unwrap_or_default();
    let _ = writeln!(
        text,
        "{} of {} usual records finished, {} dead letters, {retries} retries; the worst window finished {rate_percent_min} %, and \
         memory grew by {memory_growth_percent} %",
        tally.finished, tally.written, tally.doomed
    );
    for fault in &faults {
        let _ = writeln!(text, "FAULT: {fault}");
    }
    Report { text, faults, rate_percent_min, memory_growth_percent }
}

/// Refuses what cannot be run.
///
/// # Errors
/// The plan has no time or no rate.
pub fn check(plan: &Plan) -> anyhow::Result<()> {
    ensure!(plan.rate > 0 && plan.window > Duration::ZERO, "the rate and the window must be more than 0");
    ensure!(plan.time >= 3 * plan.window, "the time must have room for three windows");
    Ok(())
}
