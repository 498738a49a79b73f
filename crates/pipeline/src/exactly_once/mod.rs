//! Exactly once: what handlers return, retries and dead letters are written in transactions with the group's offsets.
//!
//! ```text
//!  a handler's outputs ─▶ Session ─▶ begin ─▶ outputs ─▶ offsets ─▶ commit
//!                            ▲                                        │ aborted
//!                            └────────────────────────────────────────┘
//! ```
//!
//! Handlers go on while a transaction is written. What was aborted is written again without them: their outputs are kept until they
//! are committed.

mod output;
mod run;
mod session;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use milena::{ConsumerHandle, Error, SharedBatch, Transaction, TransactionEnd, TransactionalProducer};
use tokio::sync::{Notify, watch};

pub use self::output::{GroupTransform, Input, Output, Outputs, Transform, writer};
pub(crate) use self::run::{Parts, Settings};
use self::session::{Load, LoadPart, Session};
use crate::control::Control;
use crate::error::PipelineError;
use crate::flow::Flow;

/// What the tasks of a pipeline share that writes in transactions.
pub(crate) struct Exactly {
    session: Mutex<Session<SharedBatch>>,
    /// There is something to write, or it is to be written soon.
    bell: Notify,
    state: watch::Sender<State>,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// Calls that wait until everything is written.
    hurried: usize,
    is_writing: bool,
    has_ended: bool,
}

/// A partition's place in it.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) exactly: Arc<Exactly>,
    pub(crate) number: u64,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Place").field(&self.number).finish()
    }
}

impl Place {
    /// What is written for the records from this offset up to `last`, which are finished next.
    pub(crate) fn emit(&self, first: i64, last: i64, outputs: Vec<Output>) {
        self.exactly.session().emit(self.number, first, last, outputs);
    }

    /// These offsets are finished.
    pub(crate) fn done(&self, part: SharedBatch) {
        let (from, end) = (part.first_offset(), part.next_offset());
        self.exactly.session().finish(self.number, from, end, part);
        self.exactly.bell.notify_one();
    }

    /// A batch with these offsets is on its way to workers.
    pub(crate) fn route(&self, first: i64, end: i64) {
        self.exactly.session().route(self.number, first, end);
    }
}

/// How outputs are written.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) topic: String,
    /// A transaction begins this long after there is something to write.
    pub(crate) interval: Duration,
    /// Or as soon as this many records are finished.
    pub(crate) records: usize,
}

/// The pause after a transaction that failed, and the longest.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);

impl Exactly {
    pub(crate) fn new() -> Self {
        Self { session: Mutex::new(Session::new()), bell: Notify::new(), state: watch::Sender::default() }
    }

    pub(crate) fn enter(
        self: &Arc<Self>,
        number: u64,
        topic: &str,
        partition: i32,
        flow: &Arc<Flow>,
    ) -> Place {
        self.session().enter(number, Arc::from(topic), partition, Some(Arc::clone(flow)));
        Place { exactly: Arc::clone(self), number }
    }

    /// These partitions are other members'.
    pub(crate) fn forget(&self, partitions: &[(String, i32)]) {
        let mut session = self.session();
        partitions.iter().for_each(|(topic, partition)| session.forget(topic, *partition));
    }

    /// Ends when everything is written that can be, or nothing is written any more.
    pub(crate) async fn flush(&self) {
        let mut state = self.state.subscribe();
        let _hurry = Hurry::new(self);
        loop {
            let State { is_writing, has_ended, .. } = *state.borrow_and_update();
            if has_ended || (!is_writing && self.session().is_empty()) {
                return;
            }
            self.bell.notify_one();
            if state.changed().await.is_err() {
                return;
            }
        }
    }

    /// Writes until it is dropped, or until it cannot: then the pipeline ends.
    pub(crate) async fn run(
        self: Arc<Self>,
        mut producer: TransactionalProducer,
        consumer: ConsumerHandle,
        terms: Terms,
        control: Arc<Control>,
    ) {
        let _ending = Ending(&self);
        let (mut pause, mut failures) = (PAUSE, 0);
        loop {
            self.wait(&terms).await;
            let Load { marks, parts } = self.take();
            for (_, mark) in &marks {
                consumer.done_part(mark);
            }
            drop(marks);
            let result = match parts.is_empty() {
                true => Ok(()),
                false => transact(&mut producer, &consumer, &parts, &terms.topic).await,
            };
            let again = {
                let mut session = self.session();
                match result {
                    Ok(()) => {
                        session.commit(parts);
                        None
                    }
                    Err(error) => {
                        session.give_back(parts);
                        error.uncommitted().iter().for_each(|of| session.refuse(&of.topic, of.partition));
                        Some(error)
                    }
                }
            };
            self.state.send_modify(|state| state.is_writing = false);
            let Some(error) = again else {
                (pause, failures) = (PAUSE, 0);
                continue;
            };
            if error.uncommitted().is_empty() && !error.transaction_may_be_repeated() {
                control.fail(PipelineError::of_client(error));
                return;
            }
            failures += 1;
            // One or two are usual when a leader moves or a member comes.
            if failures >= 3 {
                tracing::warn!(
                    target: "milena",
                    "a transaction of a pipeline was aborted {failures} times, and is written again: {error}"
                );
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Ends when there is something to write, and its time has come.
    async fn wait(&self, terms: &Terms) {
        while self.session().is_empty() {
            self.bell.notified().await;
        }
        let is_due = || self.state.borrow().hurried > 0 || self.session().fresh >= terms.records;
        let soon = async {
            while !is_due() {
                self.bell.notified().await;
            }
        };
        // That the time is over is no failure.
        let _ = tokio::time::timeout(terms.interval, soon).await;
    }

    fn take(&self) -> Load<SharedBatch> {
        // Before, so that who waits for the end sees no moment in which nothing is there and nothing is written.
        self.state.send_modify(|state| state.is_writing = true);
        self.session().take()
    }

    fn session(&self) -> MutexGuard<'_, Session<SharedBatch>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While it exists, nothing waits for its time.
struct Hurry<'a>(&'a Exactly);

impl<'a> Hurry<'a> {
    fn new(exactly: &'a Exactly) -> Self {
        exactly.state.send_modify(|state| state.hurried += 1);
        Self(exactly)
    }
}

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        self.0.state.send_modify(|state| state.hurried -= 1);
    }
}

/// Tells those who wait that nothing is written any more.
struct Ending<'a>(&'a Exactly);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.state.send_modify(|state| state.has_ended = true);
    }
}

/// # Errors
/// When it was not committed.
async fn transact(
    producer: &mut TransactionalProducer,
    consumer: &ConsumerHandle,
    parts: &[LoadPart],
    topic: &str,
) -> Result<(), Error> {
    let transaction = producer.begin().await?;
    if let Err(error) = fill(&transaction, consumer, parts, topic).await {
        // An abort that takes long goes on, and the next transaction waits for it.
        let aborted = transaction.abort().await;
        return Err(aborted.err().filter(Error::is_fatal).unwrap_or(error));
    }
    let Err(error) = transaction.commit().await else { return Ok(()) };
    if !error.maybe_written() || error.is_fatal() {
        return Err(error);
    }
    loop {
        match producer.resolve().await {
            Ok(Some(TransactionEnd::Committed)) => return Ok(()),
            Ok(_) => return Err(error),
            Err(failed) if failed.is_fatal() => return Err(failed),
            // The producer goes on asking.
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn fill(
    transaction: &Transaction<'_>,
    consumer: &ConsumerHandle,
    parts: &[LoadPart],
    topic: &str,
) -> Result<(), Error> {
    for part in parts {
        for outputs in part.outputs.values() {
            for output in outputs {
                let headers = output.borrowed_headers();
                transaction.post(output.record(topic, &headers)).await?;
            }
        }
    }
    transaction.commit_offsets_of(consumer).await
}
