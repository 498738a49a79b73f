//! A record whose key was processed lately is done already.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use rustc_hash::FxHashSet;
use tower_layer::Layer;
use tower_service::Service;

use super::key::{KeyHash, KeyOf};
use super::per_key::{KeyLimits, Turn};
use super::{Boxed, Clock};
use crate::{Failure, Record};

/// A record with a key that was processed within the window is not handed to the service; it counts as processed.
///
/// A key is known from the end of a call that was a success, so that a record which failed is tried again. While a record of a
/// key is in work, others of the same key wait to see what becomes of it. The window is in the memory of this process: after a
/// restart, or when another member of the group gets the partition, duplicates pass.
///
/// ```
/// use milena_pipeline::layers::{Deduplicate, KeyOf};
/// use milena_pipeline::prelude::*;
/// use tower::{Layer, Service, service_fn};
///
/// # mod support { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/records.rs")); }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Failure> {
/// let layer = Deduplicate::by(KeyOf::header("message-id")).window(10.minutes()).entries_max(1_000_000);
/// let mut service = layer.layer(service_fn(|_: Record| async { Ok::<(), Failure>(()) }));
///
/// # let record = support::record_with("42", "created", &[("message-id", "7")]);
/// service.call(record.clone()).await?;
/// service.call(record).await?;
/// assert_eq!(layer.duplicates(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Deduplicate {
    key: KeyOf,
    window: Duration,
    entries_max: usize,
    shared: Arc<Shared>,
}

/// The service of [`Deduplicate`].
#[derive(Debug, Clone)]
pub struct DeduplicateService<S> {
    inner: S,
    layer: Deduplicate,
}

pin_project! {
    /// A call of [`DeduplicateService`].
    pub struct DeduplicateFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateOf]
    enum State<F> {
        // No other record of the key is in work, so that nothing is allocated. The turn is after the call, and is dropped after it.
        Running { #[pin] call: F, turn: Option<(Deduplicate, KeyHash, Turn)> },
        Waiting { call: Boxed },
        Duplicate,
    }
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    turns: Arc<KeyLimits>,
    seen: Mutex<Seen>,
    duplicates: AtomicU64,
}

/// The keys that were processed, the oldest first. A key is in it once.
#[derive(Debug, Default)]
struct Seen {
    order: VecDeque<(Duration, KeyHash)>,
    keys: FxHashSet<KeyHash>,
}

/// The default of [`Deduplicate::window`].
const WINDOW: Duration = Duration::from_secs(600);

/// The default of [`Deduplicate::entries_max`]. An entry takes about 70 bytes.
const ENTRIES_MAX: usize = 1_000_000;

impl Deduplicate {
    /// Records are duplicates of each other if they have the same key. Records without the key are left alone.
    pub fn by(key: KeyOf) -> Self {
        let shared = Shared {
            clock: Clock::start(),
            turns: KeyLimits::new(1),
            seen: Mutex::default(),
            duplicates: AtomicU64::new(0),
        };
        Self { key, window: WINDOW, entries_max: ENTRIES_MAX, shared: Arc::new(shared) }
    }

    /// How long a key is known after it was processed. Default 10 minutes.
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// How many keys are known at most; the oldest are forgotten. Each takes about 70 bytes. Default 1 000 000.
    pub fn entries_max(mut self, count: usize) -> Self {
        self.entries_max = count;
        self
    }

    /// How many records were not handed to the service because they were duplicates.
    pub fn duplicates(&self) -> u64 {
        self.shared.duplicates.load(Ordering::Relaxed)
    }

    fn is_duplicate(&self, key: KeyHash) -> bool {
        let now = self.shared.clock.now();
        let is_known = self.shared.seen().knows(key, now, self.window);
        if is_known {
            self.shared.duplicates.fetch_add(1, Ordering::Relaxed);
        }
        is_known
    }

    fn processed(&self, key: KeyHash) {
        let now = self.shared.clock.now();
        self.shared.seen().add(key, now, self.window, self.entries_max);
    }
}

impl Shared {
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn knows(&mut self, key: KeyHash, now: Duration, window: Duration) -> bool {
        self.forget(now, window);
        self.keys.contains(&key)
    }

    fn add(&mut self, key: KeyHash, now: Duration, window: Duration, entries_max: usize) {
        self.forget(now, window);
        if self.keys.insert(key) {
            self.order.push_back((now, key));
        }
        while self.order.len() > entries_max {
            self.forget_oldest();
        }
    }

    fn forget(&mut self, now: Duration, window: Duration) {
        while self.order.front().is_some_and(|(at, _)| now.saturating_sub(*at) > window) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.keys.remove(&key);
        }
    }
}

impl<S> Layer<S> for Deduplicate {
    type Service = DeduplicateService<S>;

    fn layer(&self, inner: S) -> DeduplicateService<S> {
        DeduplicateService { inner, layer: self.clone() }
    }
}

impl<S> Service<Record> for DeduplicateService<S>
where
    S: Service<Record, Response = (), Error: Into<Failure>, Future: Send + 'static> + Clone + Send + 'static,
{
    type Response = ();
    type Error = Failure;
    type Future = DeduplicateFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, record: Record) -> Self::Future {
        let turn = match self.layer.key.hash(&record) {
            None => None,
            Some(key) => match self.layer.shared.turns.turn_now(key) {
                None => {
                    return DeduplicateFuture {
                        state: State::Waiting { call: self.call_later(key, record) },
                    };
                }
                Some(_) if self.layer.is_duplicate(key) => {
                    // What was ready may hold a place in a limit. Its copy does not.
                    self.inner = self.inner.clone();
                    return DeduplicateFuture { state: State::Duplicate };
                }
                Some(turn) => Some((self.layer.clone(), key, turn)),
            },
        };
        DeduplicateFuture { state: State::Running { call: self.inner.call(record), turn } }
    }
}

impl<S> DeduplicateService<S>
where
    S: Service<Record, Response = (), Error: Into<Failure>, Future: Send + 'static> + Clone + Send + 'static,
{
    fn call_later(&mut self, key: KeyHash, record: Record) -> Boxed {
        let layer = self.layer.clone();
        // The one that is ready is called; its copy is not.
        let copy = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, copy);
        Box::pin(async move {
            let _turn = Arc::clone(&layer.shared.turns).turn(key).await;
            if layer.is_duplicate(key) {
                return Ok(());
            }
            ready.call(record).await.map_err(Into::into)?;
            layer.processed(key);
            Ok(())
        })
    }
}

impl<F, E> Future for DeduplicateFuture<F>
where
    F: Future<Output = Result<(), E>>,
    E: Into<Failure>,
{
    type Output = Result<(), Failure>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateOf::Running { call, turn } => {
                let result = ready!(call.poll(context));
                // The key is known before the next record of it has its turn.
                if let (Some((layer, key, _)), Ok(())) = (&turn, &result) {
                    layer.processed(*key);
                }
                *turn = None;
                Poll::Ready(result.map_err(Into::into))
            }
            StateOf::Waiting { call } => call.as_mut().poll(context),
            StateOf::Duplicate => Poll::Ready(Ok(())),
        }
    }
}

impl<F> fmt::Debug for DeduplicateFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeduplicateFuture").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Span;

    #[test]
    fn keys_are_known_within_the_window_and_up_to_the_limit() {
        let mut seen = Seen::default();
        seen.add(1, 0.s(), 10.s(), 3);
        assert!(seen.knows(1, 10.s(), 10.s()));
        assert!(!seen.knows(1, 10_001.ms(), 10.s()));
        for key in 0..1000 {
            seen.add(key, 11.s(), 10.s(), 3);
            seen.add(key, 11.s(), 10.s(), 3);
        }
        let known: Vec<u128> = (0..1000).filter(|key| seen.knows(*key, 12.s(), 10.s())).collect();
        assert_eq!(known, [997, 998, 999]);
        assert_eq!((seen.order.len(), seen.keys.len()), (3, 3));
        seen.add(5, 12.s(), 10.s(), 0);
        assert!(!seen.knows(5, 12.s(), 10.s()));
    }
}
