//! Brings alerts to one receiver, in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::{Alert, Sink};
use crate::retry::{Attempts, Next};
use crate::{Failure, Retry};

/// What has become of alerts, of all receivers together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct AlertStats {
    /// Alerts that opened.
    pub opened: u64,
    /// Alerts that were resolved.
    pub resolved: u64,
    /// Deliveries that succeeded, repetitions included.
    pub delivered: u64,
    /// Attempts at a delivery that failed.
    pub failed_attempts: u64,
    /// Deliveries that were given up.
    pub given_up: u64,
    /// Deliveries that were not tried, because too many waited before them.
    pub dropped: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) opened: AtomicU64,
    pub(super) resolved: AtomicU64,
    delivered: AtomicU64,
    failed_attempts: AtomicU64,
    given_up: AtomicU64,
    dropped: AtomicU64,
}

/// The queue of one receiver.
pub(super) struct Queue {
    name: String,
    repeat_every: Option<Duration>,
    repeated: Duration,
    sender: mpsc::Sender<Arc<Alert>>,
    counters: Arc<Counters>,
}

/// Deliveries that may wait for one receiver. A rule's alert opens and is resolved every six seconds at most, and less often when it
/// does so again and again.
const WAITING_MAX: usize = 256;

/// No attempt at a delivery takes longer, whatever a receiver of the application does.
const ATTEMPT_MAX: Duration = Duration::from_secs(60);

impl Counters {
    pub(super) fn stats(&self) -> AlertStats {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        AlertStats {
            opened: of(&self.opened),
            resolved: of(&self.resolved),
            delivered: of(&self.delivered),
            failed_attempts: of(&self.failed_attempts),
            given_up: of(&self.given_up),
            dropped: of(&self.dropped),
        }
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Queue {
    /// A queue, and the task that delivers what is in it.
    pub(super) fn new(
        sink: Arc<dyn Sink>,
        retry: Retry,
        counters: &Arc<Counters>,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let (name, repeat_every) = (sink.name(), sink.repeat_every());
        let task = deliver_all(sink, retry, receiver, Arc::clone(counters));
        (Self { name, repeat_every, repeated: Duration::ZERO, sender, counters: Arc::clone(counters) }, task)
    }

    /// Takes an alert. It never waits.
    pub(super) fn push(&self, alert: &Arc<Alert>) {
        if self.sender.try_send(Arc::clone(alert)).is_err() {
            count(&self.counters.dropped);
            tracing::warn!(
                target: "milena",
                "alert {} ({}) does not go to {}: {WAITING_MAX} wait before it",
                alert.key(),
                alert.status(),
                self.name
            );
        }
    }

    /// Repeats the open alerts if it is time for that.
    pub(super) fn repeat<'a>(&mut self, now: Duration, open: impl Iterator<Item = &'a Alert>) {
        let Some(every) = self.repeat_every else { return };
        // What waits is told soon enough.
        if now.saturating_sub(self.repeated) < every || self.sender.capacity() < WAITING_MAX {
            return;
        }
        self.repeated = now;
        for alert in open {
            // What does not fit is repeated the next time.
            let _ = self.sender.try_send(Arc::new(alert.clone()));
        }
    }
}

async fn deliver_all(
    sink: Arc<dyn Sink>,
    retry: Retry,
    mut queue: mpsc::Receiver<Arc<Alert>>,
    counters: Arc<Counters>,
) {
    let dice = std::hash::RandomState::new();
    while let Some(alert) = queue.recv().await {
        if let Err(failure) = deliver(&*sink, &retry, &alert, &counters, &dice).await {
            count(&counters.given_up);
            let (key, status, name) = (alert.key(), alert.status(), sink.name());
            tracing::warn!(target: "milena", "alert {key} ({status}) was not delivered to {name}: {failure}");
        }
    }
}

async fn deliver(
    sink: &dyn Sink,
    retry: &Retry,
    alert: &Alert,
    counters: &Counters,
    dice: &impl std::hash::BuildHasher,
) -> Result<(), Failure> {
    let (begun, mut attempts) = (Instant::now(), Attempts::default());
    loop {
        let late = || Err(Failure::retriable(format!("it took longer than {ATTEMPT_MAX:?}")));
        let Err(failure) = timeout(ATTEMPT_MAX, sink.deliver(alert)).await.unwrap_or_else(|_| late()) else {
            count(&counters.delivered);
            return Ok(());
        };
        count(&counters.failed_attempts);
        attempts.calls += 1;
        attempts.elapsed = begun.elapsed();
        match retry.next(&attempts, &failure, dice.hash_one((attempts.calls, attempts.elapsed))) {
            Next::After(delay) => {
                tracing::debug!(target: "milena", "alert {} goes to {} again in {delay:?}: {failure}", alert.key(), sink.name());
                attempts.last_delay = Some(delay);
                sleep(delay).await;
            }
            Next::GiveUp(_) | Next::Stop => return Err(failure),
        }
    }
}
