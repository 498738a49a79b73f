//! One request for many callers, and what came of it.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::cache::{Cache, Found, Limits, Weigh};
use super::clock::Clock;
use crate::{RegistryError, RegistryErrorKind};

/// Answers that are remembered, and requests that are on their way.
pub(crate) struct Known<K, V>(Arc<Mutex<State<K, V>>>);

struct State<K, V> {
    cache: Cache<K, V>,
    flights: HashMap<K, Flight<V>>,
}

type Flight<V> = watch::Receiver<Option<Result<V, RegistryError>>>;

impl<K, V> Known<K, V>
where
    K: Hash + Eq + Clone + Send + 'static,
    V: Clone + Weigh + Send + Sync + 'static,
{
    pub(crate) fn new(limits: Limits) -> Self {
        Self(Arc::new(Mutex::new(State { cache: Cache::new(limits), flights: HashMap::new() })))
    }

    /// What is remembered of `key`, however old it is.
    pub(crate) fn known(&self, key: &K, clock: &Clock) -> Option<Result<V, RegistryError>> {
        match self.lock().cache.find(key, clock.now()) {
            Found::Fresh(answer) => Some(answer),
            Found::Stale(value) => Some(Ok(value)),
            Found::Unknown => None,
        }
    }

    /// What is remembered of `key`, or what `fetch` gets. While it is on its way, other callers wait for the same answer. It is
    /// got in a task of its own, so that a caller who gives up takes it from no other.
    ///
    /// An answer that may have changed is used if the registry cannot be asked.
    pub(crate) async fn get<F>(
        &self,
        key: K,
        clock: &Clock,
        fetch: impl FnOnce() -> F,
    ) -> Result<V, RegistryError>
    where
        F: Future<Output = Result<V, RegistryError>> + Send + 'static,
    {
        let (mut flight, stale) = {
            let mut state = self.lock();
            let stale = match state.cache.find(&key, clock.now()) {
                Found::Fresh(answer) => return answer,
                Found::Stale(value) => Some(value),
                Found::Unknown => None,
            };
            match state.flights.get(&key) {
                // One whose task was ended with its runtime would never land.
                Some(flight) if flight.has_changed().is_ok() => (flight.clone(), stale),
                _ => (self.start(&mut state, key, clock, fetch())?, stale),
            }
        };
        let landed = flight.wait_for(Option::is_some).await;
        let answer = match landed.as_deref() {
            Ok(Some(answer)) => answer.clone(),
            _ => Err(RegistryError::new(
                RegistryErrorKind::Unavailable,
                "the tokio runtime of the request to the registry has ended",
            )),
        };
        match (answer, stale) {
            (Err(error), Some(value)) if error.is_retriable() => {
                tracing::debug!(target: "milena", "{error}; the earlier answer is used");
                Ok(value)
            }
            (answer, _) => answer,
        }
    }

    fn start(
        &self,
        state: &mut State<K, V>,
        key: K,
        clock: &Clock,
        fetching: impl Future<Output = Result<V, RegistryError>> + Send + 'static,
    ) -> Result<Flight<V>, RegistryError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| {
            let why = "the registry is asked on a tokio runtime, and this thread is on none";
            RegistryError::new(RegistryErrorKind::Configuration, why)
        })?;
        let (land, flight) = watch::channel(None);
        state.flights.insert(key.clone(), flight.clone());
        let (known, clock) = (Arc::clone(&self.0), clock.clone());
        runtime.spawn(async move {
            let answer = fetching.await;
            {
                let mut state = known.lock().unwrap_or_else(PoisonError::into_inner);
                state.flights.remove(&key);
                state.cache.put(key, answer.clone(), clock.now());
            }
            land.send_replace(Some(answer));
        });
        Ok(flight)
    }

    pub(crate) fn put(&self, key: K, value: V, clock: &Clock) {
        self.lock().cache.put(key, Ok(value), clock.now());
    }

    pub(crate) fn forget_if(&self, is_meant: impl Fn(&K) -> bool) {
        self.lock().cache.forget_if(is_meant);
    }

    fn lock(&self) -> MutexGuard<'_, State<K, V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, V> Clone for Known<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, V> fmt::Debug for Known<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known").finish_non_exhaustive()
    }
}
