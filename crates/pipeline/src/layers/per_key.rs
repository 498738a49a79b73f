//! Few calls at a time for each key.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use rustc_hash::FxHashMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_layer::Layer;
use tower_service::Service;

use super::Boxed;
use super::key::{KeyHash, KeyOf};
use crate::{Failure, Record};

/// At most `count` calls at a time for records of the same key; the others wait, in the order in which they came.
///
/// The pipeline's own order is by the record's key. This is for other keys, for example one tenant's share of a database. The records that wait are calls in work for the pipeline, so its concurrency bounds how many there can be.
///
/// ```
/// use milena_pipeline::layers::{KeyOf, PerKey};
/// use milena_pipeline::prelude::*;
/// use tower::{Layer, Service, service_fn};
///
/// # mod support { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/records.rs")); }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Failure> {
/// let handler = service_fn(|_: Record| async { Ok::<(), Failure>(()) });
/// let mut service = PerKey::new(KeyOf::header("tenant"), 4).layer(handler);
///
/// # let record = support::record("42", "created");
/// service.call(record).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct PerKey {
    key: KeyOf,
    limits: Arc<KeyLimits>,
}

/// The service of [`PerKey`].
#[derive(Debug, Clone)]
pub struct PerKeyService<S> {
    inner: S,
    layer: PerKey,
}

pin_project! {
    /// A call of [`PerKeyService`].
    pub struct PerKeyFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateOf]
    enum State<F> {
        // The key had room for it, so that nothing is allocated. The turn is after the call, and is dropped after it.
        Running { #[pin] call: F, turn: Option<Turn> },
        Waiting { call: Boxed },
    }
}

/// A semaphore for each key of which a call runs or waits.
#[derive(Debug)]
pub(super) struct KeyLimits {
    count: usize,
    keys: Mutex<Keys>,
}

#[derive(Debug, Default)]
struct Keys {
    in_use: FxHashMap<KeyHash, Arc<Semaphore>>,
    /// Those of keys that have no call any more, with all of their permits. They are used again.
    spare: Vec<Arc<Semaphore>>,
}

/// More semaphores than this are not kept for later. It is more than most pipelines have records in work.
const SPARE_MAX: usize = 1_024;

/// A call that runs or waits. Dropped, it makes room for the next one of its key.
pub(super) struct Turn {
    limits: Arc<KeyLimits>,
    key: KeyHash,
    semaphore: Option<Arc<Semaphore>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl PerKey {
    /// At most `count` calls at a time for each key, 0 counts as 1. Records without the key are not limited.
    pub fn new(key: KeyOf, count: usize) -> Self {
        Self { key, limits: KeyLimits::new(count) }
    }
}

impl KeyLimits {
    pub(super) fn new(count: usize) -> Arc<Self> {
        Arc::new(Self { count: count.clamp(1, Semaphore::MAX_PERMITS), keys: Mutex::default() })
    }

    /// The key's turn, if it need not wait.
    pub(super) fn turn_now(self: &Arc<Self>, key: KeyHash) -> Option<Turn> {
        let mut keys = self.keys();
        let semaphore = keys.semaphore(key, self.count);
        let permit = Arc::clone(&semaphore).try_acquire_owned().ok()?;
        Some(Turn { limits: Arc::clone(self), key, semaphore: Some(semaphore), permit: Some(permit) })
    }

    /// Waits for the key's turn.
    pub(super) async fn turn(self: Arc<Self>, key: KeyHash) -> Turn {
        let semaphore = self.keys().semaphore(key, self.count);
        // Made before it waits, so that a call which is dropped while it waits is forgotten too.
        let mut turn = Turn { limits: self, key, semaphore: Some(Arc::clone(&semaphore)), permit: None };
        // Semaphores are never closed.
        turn.permit = semaphore.acquire_owned().await.ok();
        turn
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keys {
    fn semaphore(&mut self, key: KeyHash, count: usize) -> Arc<Semaphore> {
        let Self { in_use, spare } = self;
        let made = || spare.pop().unwrap_or_else(|| Arc::new(Semaphore::new(count)));
        Arc::clone(in_use.entry(key).or_insert_with(made))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut keys = self.limits.keys();
        self.permit = None;
        self.semaphore = None;
        // Handles are made under the lock only, so that none can be made between the look and the removal.
        let Keys { in_use, spare } = &mut *keys;
        let is_unused = |semaphore: &Arc<Semaphore>| Arc::strong_count(semaphore) == 1;
        if in_use.get(&self.key).is_some_and(is_unused)
            && let Some(unused) = in_use.remove(&self.key)
            && spare.len() < SPARE_MAX
        {
            spare.push(unused);
        }
    }
}

impl<S> Layer<S> for PerKey {
    type Service = PerKeyService<S>;

    fn layer(&self, inner: S) -> PerKeyService<S> {
        PerKeyService { inner, layer: self.clone() }
    }
}

impl<S> Service<Record> for PerKeyService<S>
where
    S: Service<Record, Response = (), Error: Into<Failure>, Future: Send + 'static> + Clone + Send + 'static,
{
    type Response = ();
    type Error = Failure;
    type Future = PerKeyFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, record: Record) -> Self::Future {
        let turn = match self.layer.key.hash(&record) {
            None => None,
            Some(key) => match self.layer.limits.turn_now(key) {
                None => return PerKeyFuture { state: State::Waiting { call: self.call_later(key, record) } },
                turn => turn,
            },
        };
        PerKeyFuture { state: State::Running { call: self.inner.call(record), turn } }
    }
}

impl<S> PerKeyService<S>
where
    S: Service<Record, Response = (), Error: Into<Failure>, Future: Send + 'static> + Clone + Send + 'static,
{
    fn call_later(&mut self, key: KeyHash, record: Record) -> Boxed {
        let turn = Arc::clone(&self.layer.limits).turn(key);
        // The one that is ready is called; its copy is not.
        let copy = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, copy);
        Box::pin(async move {
            let _turn = turn.await;
            ready.call(record).await.map_err(Into::into)
        })
    }
}

impl<F, E> Future for PerKeyFuture<F>
where
    F: Future<Output = Result<(), E>>,
    E: Into<Failure>,
{
    type Output = Result<(), Failure>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateOf::Running { call, turn } => {
                let result = ready!(call.poll(context));
                // The next call of the key may begin, also if this future is kept for longer.
                *turn = None;
                Poll::Ready(result.map_err(Into::into))
            }
            StateOf::Waiting { call } => call.as_mut().poll(context),
        }
    }
}

impl<F> fmt::Debug for PerKeyFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerKeyFuture").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::task::Waker;

    use super::*;

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn in_use_and_spare(limits: &KeyLimits) -> (usize, usize) {
        let keys = limits.keys();
        (keys.in_use.len(), keys.spare.len())
    }

    #[tokio::test]
    async fn turns_come_in_order_and_nothing_is_kept_of_keys_without_calls() {
        let limits = KeyLimits::new(1);
        let first = Arc::clone(&limits).turn(7).await;
        let mut second = pin!(Arc::clone(&limits).turn(7));
        let mut third = Box::pin(Arc::clone(&limits).turn(7));
        assert!(poll(second.as_mut()).is_pending() && poll(third.as_mut()).is_pending());
        let other = Arc::clone(&limits).turn(8).await;
        assert_eq!(limits.keys().in_use.len(), 2);
        drop((first, other));
        assert!(poll(third.as_mut()).is_pending());
        let Poll::Ready(second) = poll(second) else { panic!("its turn has come") };
        // It is dropped while it waits.
        drop(third);
        assert_eq!(limits.keys().in_use.len(), 1);
        drop(second);
        assert_eq!(in_use_and_spare(&limits), (0, 2));
    }

    #[tokio::test]
    async fn a_semaphore_that_is_used_again_has_its_permits_and_those_who_wait_are_first() {
        let limits = KeyLimits::new(2);
        for key in 0..100 {
            let turns = [limits.turn_now(key), limits.turn_now(key)].map(|turn| turn.expect("there is room"));
            assert!(limits.turn_now(key).is_none(), "two run");
            let mut waiting = pin!(Arc::clone(&limits).turn(key));
            assert!(poll(waiting.as_mut()).is_pending());
            drop(turns);
            let _other = limits.turn_now(key).expect("there is room for one more");
            assert!(limits.turn_now(key).is_none(), "the other place is for the one that waits");
            assert!(poll(waiting).is_ready());
        }
        assert_eq!(in_use_and_spare(&limits), (0, 1));
    }
}
