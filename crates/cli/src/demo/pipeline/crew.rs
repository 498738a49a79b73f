//! The members of a run: each is a pipeline, as it would be in a process of its own.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use milena::{Client, Isolation, Protocol};
use milena_pipeline::alerts::Snapshot;
use milena_pipeline::dead_letters::DeadLetters;
use milena_pipeline::prelude::{Record, Retry};
use milena_pipeline::{Order, Pipeline, PipelineError, PipelineStats, PipelineWatch, RetryTopics};
use tokio::task::JoinHandle;

use super::events::Events;
use super::plan::{ATTEMPTS, TIERS};
use super::work::Work;
use crate::exit::Failure;

/// How members are made.
pub(super) struct Terms {
    pub(super) client: Client,
    pub(super) group: String,
    pub(super) flights_topic: String,
    pub(super) dead_topic: String,
    pub(super) order: Order,
    pub(super) concurrency: usize,
    pub(super) workers: Option<usize>,
}

/// All members.
pub(super) struct Crew {
    terms: Terms,
    work: Arc<Work>,
    events: Arc<Events>,
    members: Mutex<Vec<Member>>,
    /// Of all members that there were.
    watches: Mutex<Vec<PipelineWatch>>,
    stalls: Arc<AtomicUsize>,
}

/// A member that runs. Dropped, it is gone at once, as a process that is killed.
pub(super) struct Member {
    number: usize,
    watch: PipelineWatch,
    processed: Arc<AtomicU64>,
    task: JoinHandle<Result<(), PipelineError>>,
}

/// Stalls that are told.
const STALLS_SHOWN: usize = 3;
/// After this time a record in work is told.
const REPORT_AFTER: Duration = Duration::from_millis(500);
/// How long records in work may take when a member stops.
const DRAIN: Duration = Duration::from_secs(2);
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(250);

impl Crew {
    pub(super) fn new(terms: Terms, work: Arc<Work>, events: Arc<Events>) -> Self {
        let (members, watches) = (Mutex::default(), Mutex::default());
        Self { terms, work, events, members, watches, stalls: Arc::default() }
    }

    /// Starts a member. Answers with its number and how many records it has processed.
    pub(super) fn start(&self) -> (usize, Arc<AtomicU64>) {
        let Terms { client, group, flights_topic, dead_topic, order, concurrency, workers } = &self.terms;
        let consumer = client.consumer(group.as_str()).subscribe([flights_topic]);
        let consumer = consumer.isolation(Isolation::ReadCommitted);
        // With the consumer protocol the brokers say how often members are heard, and a member that joins waits for ten seconds.
        let consumer = consumer.protocol(Protocol::Classic).heartbeat_interval(HEARTBEAT_INTERVAL);
        let mut pipeline = Pipeline::new(consumer)
            .order(*order)
            .concurrency(*concurrency)
            .retry(
                Retry::exponential(Duration::from_millis(20), Duration::from_millis(200)).attempts(ATTEMPTS),
            )
            .retry_topics(RetryTopics::tiers(TIERS).create(true).named("demo"))
            .dead_letters(DeadLetters::to(dead_topic).handler("departures"))
            .report_after(REPORT_AFTER)
            .drain(DRAIN)
            .on_stall({
                let (events, stalls) = (Arc::clone(&self.events), Arc::clone(&self.stalls));
                move |stall| {
                    let count = stalls.fetch_add(1, Ordering::Relaxed);
                    if count < STALLS_SHOWN {
                        events.say(format_args!(
                            "slow: offset {} of partition {}, {} records wait for it",
                            stall.offset, stall.partition, stall.waiting_for_its_key
                        ));
                    }
                }
            });
        if let Some(workers) = workers {
            pipeline = pipeline.workers(*workers);
        }
        let (watch, processed) = (pipeline.watch(), Arc::<AtomicU64>::default());
        let handler = {
            let (work, processed) = (Arc::clone(&self.work), Arc::clone(&processed));
            move |record: Record| Arc::clone(&work).process(Arc::clone(&processed), record)
        };
        // It ends by its watch.
        let task = tokio::spawn(async move { pipeline.run(handler, std::future::pending()).await.map(drop) });
        let mut watches = lock(&self.watches);
        watches.push(watch.clone());
        let number = watches.len();
        lock(&self.members).push(Member { number, watch, processed: Arc::clone(&processed), task });
        (number, processed)
    }

    /// Takes a member out, by its number.
    pub(super) fn take(&self, number: usize) -> Option<Member> {
        let mut members = lock(&self.members);
        let at = members.iter().position(|member| member.number == number)?;
        Some(members.remove(at))
    }

    /// Stops all members, and waits for their last commits.
    pub(super) async fn stop(&self) -> Result<(), Failure> {
        let members = std::mem::take(&mut *lock(&self.members));
        for member in &members {
            member.watch.stop();
        }
        for member in members {
            member.stop().await?;
        }
        Ok(())
    }

    /// A failure of a member that has ended by itself.
    pub(super) async fn failure(&self) -> Option<Failure> {
        let number = lock(&self.members).iter().find(|member| member.task.is_finished())?.number;
        let member = self.take(number)?;
        let ended = member.stop().await;
        Some(ended.err().unwrap_or_else(|| Failure::failed(format!("member {number} has ended"))))
    }

    /// How many records each member that runs has processed.
    pub(super) fn processed(&self) -> Vec<u64> {
        lock(&self.members).iter().map(Member::processed).collect()
    }

    /// What all members have counted, together.
    pub(super) fn stats(&self) -> Totals {
        let mut totals = Totals { stalls: self.stalls.load(Ordering::Relaxed), ..Totals::default() };
        for watch in lock(&self.watches).iter() {
            totals.add(&watch.stats());
        }
        totals
    }

    /// The same, as rules of alerts look at it.
    pub(super) fn snapshot(&self) -> Snapshot {
        let mut whole = Snapshot::default();
        for watch in lock(&self.watches).iter() {
            let one = Snapshot::from(watch.stats());
            whole.records_total += one.records_total;
            whole.dead_letters_total += one.dead_letters_total;
            whole.dead_letter_writes_failed_total += one.dead_letter_writes_failed_total;
            whole.is_held |= one.is_held;
            whole.stalls.extend(one.stalls);
        }
        whole
    }
}

impl Member {
    /// Stops it, and waits for its last commit.
    pub(super) async fn stop(mut self) -> Result<(), Failure> {
        self.watch.stop();
        match (&mut self.task).await {
            Ok(ended) => ended.map_err(|error| Failure::failed(error.to_string())),
            Err(error) => Err(Failure::failed(format!("a member of the demo has ended: {error}"))),
        }
    }

    pub(super) fn processed(&self) -> u64 {
        self.processed.load(Ordering::Relaxed)
    }

    /// Ends it as `kill -9` would: what it works on is dropped, and nothing more is committed.
    pub(super) async fn kill(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What pipelines count.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) failed_attempts: u64,
    pub(super) retries: u64,
    pub(super) moved: u64,
    pub(super) dead: u64,
    pub(super) dead_letter_failures: u64,
    pub(super) is_held: bool,
    /// Records that took long.
    pub(super) stalls: usize,
}

impl Totals {
    fn add(&mut self, stats: &PipelineStats) {
        self.failed_attempts += stats.failed_attempts;
        self.retries += stats.retries;
        self.moved += stats.moved;
        self.dead += stats.dead;
        self.dead_letter_failures += stats.dead_letter_failures;
        self.is_held |= stats.is_held;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
