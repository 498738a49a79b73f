//! Few calls at a time for each key.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

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

/// A semaphore for each key of which a call runs or waits.
#[derive(Debug)]
pub(super) struct KeyLimits {
    count: usize,
    keys: Mutex<FxHashMap<KeyHash, Arc<Semaphore>>>,
}

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

    /// Waits for the key's turn.
    pub(super) async fn turn(self: Arc<Self>, key: KeyHash) -> Turn {
        let semaphore =
            Arc::clone(self.keys().entry(key).or_insert_with(|| Arc::new(Semaphore::new(self.count))));
        // Made before it waits, so that a call which is dropped while it waits is forgotten too.
        let mut turn = Turn { limits: self, key, semaphore: Some(Arc::clone(&semaphore)), permit: None };
        // Semaphores are never closed.
        turn.permit = semaphore.acquire_owned().await.ok();
        turn
    }

    fn keys(&self) -> MutexGuard<'_, FxHashMap<KeyHash, Arc<Semaphore>>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut keys = self.limits.keys();
        self.permit = None;
        self.semaphore = None;
        // Handles are made under the lock only, so that none can be made between the look and the removal.
        if keys.get(&self.key).is_some_and(|semaphore| Arc::strong_count(semaphore) == 1) {
            keys.remove(&self.key);
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
    type Future = Boxed;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, record: Record) -> Boxed {
        let Some(key) = self.layer.key.hash(&record) else {
            let call = self.inner.call(record);
            return Box::pin(async { call.await.map_err(Into::into) });
        };
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

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::task::Waker;

    use super::*;

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn turns_come_in_order_and_nothing_is_kept_of_keys_without_calls() {
        let limits = KeyLimits::new(1);
        let first = Arc::clone(&limits).turn(7).await;
        let mut second = pin!(Arc::clone(&limits).turn(7));
        let mut third = Box::pin(Arc::clone(&limits).turn(7));
        assert!(poll(second.as_mut()).is_pending() && poll(third.as_mut()).is_pending());
        let other = Arc::clone(&limits).turn(8).await;
        assert_eq!(limits.keys().len(), 2);
        drop((first, other));
        assert!(poll(third.as_mut()).is_pending());
        let Poll::Ready(second) = poll(second) else { panic!("its turn has come") };
        // It is dropped while it waits.
        drop(third);
        assert_eq!(limits.keys().len(), 1);
        drop(second);
        assert_eq!(limits.keys().len(), 0);
    }
}
