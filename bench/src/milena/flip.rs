//! Measures what pausing and resuming costs those who read: tasks flip idle partitions while other partitions are read at
//! full rate. Short windows without flips, with flips at a fixed rate, and with as many flips as the tasks can make follow
//! one another, so that a change of the machine's speed affects all three.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use milena::{Consumer, PartitionHandle};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{connect, consume};
use crate::options::{Failure, Options};
use crate::outcome::{Outcome, touch};

/// What the tasks do in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Still,
    /// Each task flips at the rate of the command line.
    Paced,
    /// Each task flips as fast as it can.
    Free,
}

const PHASES: [Phase; 3] = [Phase::Still, Phase::Paced, Phase::Free];
/// A window, of which the beginning does not count.
const SETTLE: Duration = Duration::from_millis(50);
const WINDOW: Duration = Duration::from_millis(500);

pub(super) async fn run(options: &Options) -> Result<Outcome, Failure> {
    let client = connect(options).await?;
    let consumer = consume::consumer(&client, options).await?;
    let idle = Some(options.idle_topics.as_deref().unwrap_or_default());
    let handles = consumer.partition_handles().into_iter().filter(|handle| Some(handle.topic()) == idle);
    let handles: Vec<PartitionHandle> = handles.collect();
    if handles.len() < options.tasks {
        return Err(Failure::Usage(format!("{} tasks flip {} partitions", options.tasks, handles.len())));
    }
    let records = Arc::new(AtomicU64::new(0));
    let reading = tokio::spawn(read(consumer, Arc::clone(&records)));
    let (phase, _) = watch::channel(Phase::Still);
    let flips = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for task in 0..options.tasks {
        let own = handles.iter().skip(task).step_by(options.tasks).cloned().collect();
        tasks.spawn(flip(Flipper::new(own), phase.subscribe(), options.flips, Arc::clone(&flips)));
    }
    // The first answers are larger and slower.
    sleep(WINDOW).await;
    let start = Instant::now();
    let before = records.load(Relaxed);
    let mut rates: BTreeMap<Phase, Vec<(f64, f64)>> = BTreeMap::new();
    for round in 0.. {
        if start.elapsed().as_secs_f64() >= options.seconds {
            break;
        }
        for step in 0..PHASES.len() {
            let now = PHASES[(round + step) % PHASES.len()];
            phase.send_replace(now);
            sleep(SETTLE).await;
            let (began, was, flipped) = (Instant::now(), records.load(Relaxed), flips.load(Relaxed));
            sleep(WINDOW).await;
            let seconds = began.elapsed().as_secs_f64();
            let rate = |now: u64, was: u64| (now - was) as f64 / seconds;
            let found = (rate(records.load(Relaxed), was), rate(flips.load(Relaxed), flipped));
            rates.entry(now).or_default().push(found);
        }
    }
    phase.send_replace(Phase::Still);
    let (seconds, read) = (start.elapsed().as_secs_f64(), records.load(Relaxed) - before);
    sleep(SETTLE).await;
    let ns = nanoseconds_per_flip(handles);
    if reading.is_finished() {
        reading.await.map_err(|error| error.to_string())??;
    }
    let of = |phase| rates.remove(&phase).unwrap_or_default();
    let [still, paced, free] = PHASES.map(of);
    let share =
        |with: &[(f64, f64)]| median(with.iter().zip(&still).map(|(with, without)| with.0 / without.0));
    let per_second = |with: &[(f64, f64)]| median(with.iter().map(|(_, flips)| *flips));
    let flips = json!({
        "share": share(&paced),
        "per_second": per_second(&paced),
        "free_share": share(&free),
        "free_per_second": per_second(&free),
        "ns": ns,
    });
    let settings = json!({ "tasks": options.tasks, "flips": options.flips, "threads": options.threads });
    Ok(Outcome { records: read, seconds, flips, settings, ..Default::default() })
}

async fn read(mut consumer: Consumer, records: Arc<AtomicU64>) -> Result<u64, Failure> {
    let mut sum = 0;
    while let Some(batch) = consumer.next().await? {
        let mut count = 0;
        for record in &batch {
            sum += touch(record.value().unwrap_or_default());
            count += 1;
        }
        records.fetch_add(count, Relaxed);
    }
    Ok(sum)
}

/// A task's partitions: it pauses all of them one after another, then resumes them, and begins again.
struct Flipper {
    handles: Vec<PartitionHandle>,
    next: usize,
    is_pausing: bool,
}

impl Flipper {
    fn new(handles: Vec<PartitionHandle>) -> Self {
        Self { handles, next: 0, is_pausing: true }
    }

    fn flip(&mut self) {
        let handle = &self.handles[self.next];
        if self.is_pausing {
            handle.pause()
        } else {
            handle.resume()
        };
        self.next += 1;
        if self.next == self.handles.len() {
            (self.next, self.is_pausing) = (0, !self.is_pausing);
        }
    }
}

async fn flip(mut own: Flipper, mut phase: watch::Receiver<Phase>, rate: f64, flips: Arc<AtomicU64>) {
    let mut due = interval(Duration::from_secs_f64(1.0 / rate));
    due.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let now = *phase.borrow_and_update();
        match now {
            Phase::Still => {
                if phase.changed().await.is_err() {
                    return;
                }
                due.reset();
            }
            Phase::Paced => {
                due.tick().await;
                own.flip();
                flips.fetch_add(1, Relaxed);
            }
            Phase::Free => {
                let count = own.handles.len();
                (0..count).for_each(|_| own.flip());
                flips.fetch_add(count as u64, Relaxed);
                tokio::task::yield_now().await;
            }
        }
    }
}

/// The time of one flip, by one task that does nothing else, while the partitions that have records are read.
fn nanoseconds_per_flip(handles: Vec<PartitionHandle>) -> f64 {
    let count = handles.len();
    let mut all = Flipper::new(handles);
    let (start, mut flips) = (Instant::now(), 0);
    while start.elapsed() < WINDOW {
        (0..count.min(100)).for_each(|_| all.flip());
        flips += count.min(100);
    }
    start.elapsed().as_nanos() as f64 / flips as f64
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
