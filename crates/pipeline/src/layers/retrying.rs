//! Calls again what failed, inside the service.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::time::{Instant, sleep};
use tower_layer::Layer;
use tower_service::Service;

use super::{Boxed, Clock};
use crate::retry::{Admission, Attempts, Next, Why};
use crate::{Class, Failure, Record, Retry};

/// Calls a service again for a record that failed, as a [`Retry`] says.
///
/// A pipeline retries by itself, and while a record waits there it takes no place among the calls in work. This layer is for
/// services that are used without a pipeline, and for retries that a layer around them should see as one call: for example a
/// [`CircuitBreaker`](super::CircuitBreaker) that judges records, not attempts. The pipeline's own policy is
/// [`Retry::never`] then.
///
/// The record counts [attempts](Record::attempt) on from its own. A failure that the policy calls poison or fatal has that class
/// when it comes out; one whose attempts are used up stays retriable.
///
/// ```
/// use milena_pipeline::layers::Retrying;
/// use milena_pipeline::prelude::*;
/// use tower::{Layer, Service, service_fn};
///
/// # mod support { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/records.rs")); }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Failure> {
/// let handler = service_fn(|record: Record| async move {
///     if record.attempt() < 3 { Err(Failure::retriable("not yet")) } else { Ok(()) }
/// });
/// let mut service = Retrying::new(Retry::fixed(5.ms()).attempts(3)).layer(handler);
///
/// # let record = support::record("42", "created");
/// service.call(record).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Retrying {
    shared: Arc<Shared>,
}

/// The service of [`Retrying`].
#[derive(Debug, Clone)]
pub struct RetryingService<S> {
    inner: S,
    shared: Arc<Shared>,
}

pin_project! {
    /// A call of [`RetryingService`].
    pub struct RetryingFuture<S: Service<Record>> {
        #[pin]
        state: State<S, S::Future>,
    }
}

pin_project! {
    #[project = StateOf]
    enum State<S, F> {
        // Most records need one attempt, so that nothing is allocated.
        First { #[pin] call: F, again: Option<Again<S>> },
        Later { calls: Boxed },
    }
}

/// What the attempts after the first one need.
struct Again<S> {
    /// It is made ready before it is called.
    service: S,
    shared: Arc<Shared>,
    record: Record,
    begun: Instant,
}

#[derive(Debug)]
struct Shared {
    retry: Retry,
    clock: Clock,
    /// The numbers that spread delays are hashes of a count with a secret of the process.
    secret: RandomState,
    drawn: AtomicU64,
}

impl Retrying {
    /// Attempts are made as `retry` says.
    pub fn new(retry: Retry) -> Self {
        let (secret, drawn) = (RandomState::new(), AtomicU64::new(0));
        Self { shared: Arc::new(Shared { retry, clock: Clock::start(), secret, drawn }) }
    }
}

impl Shared {
    fn random(&self) -> u64 {
        self.secret.hash_one(self.drawn.fetch_add(1, Ordering::Relaxed))
    }

    /// Waits until the next attempt at a record may begin, which begins with a call at `begun`.
    ///
    /// # Errors
    /// The failure, if no attempt follows.
    async fn next(&self, attempts: &mut Attempts, begun: Instant, failure: Failure) -> Result<(), Failure> {
        attempts.elapsed = begun.elapsed();
        match self.retry.next(attempts, &failure, self.random()) {
            Next::After(delay) => {
                sleep(delay).await;
                attempts.last_delay = Some(delay);
            }
            Next::GiveUp(Why::Poison) => return Err(failure.with_class(Class::Poison)),
            Next::GiveUp(Why::Attempts | Why::Elapsed) => return Err(failure),
            Next::Stop => return Err(failure.with_class(Class::Fatal)),
        }
        loop {
            attempts.elapsed = begun.elapsed();
            match self.retry.admit(attempts, &failure, self.clock.now(), self.random()) {
                Admission::Now => return Ok(()),
                Admission::Later(wait) => sleep(wait).await,
                Admission::GiveUp(_) => return Err(failure),
            }
        }
    }
}

impl<S> Layer<S> for Retrying {
    type Service = RetryingService<S>;

    fn layer(&self, inner: S) -> RetryingService<S> {
        RetryingService { inner, shared: Arc::clone(&self.shared) }
    }
}

impl<S> Service<Record> for RetryingService<S>
where
    S: Service<Record, Response = (), Error: Into<Failure>, Future: Send + 'static> + Clone + Send + 'static,
{
    type Response = ();
    type Error = Failure;
    type Future = RetryingFuture<S>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, record: Record) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        shared.retry.first_calls(1, shared.clock.now());
        // The one that is ready is called; its copy is not.
        let service = self.inner.clone();
        let again = Again { service, shared, record: record.clone(), begun: Instant::now() };
        RetryingFuture { state: State::First { call: self.inner.call(record), again: Some(again) } }
    }
}

impl<S> Again<S>
where
    S: Service<Record, Response = (), Error: Into<Failure>>,
{
    /// The attempts after the first one, which has failed like this.
    async fn run(self, mut failure: Failure) -> Result<(), Failure> {
        let Self { mut service, shared, record, begun } = self;
        let mut attempts = Attempts::default();
        loop {
            attempts.calls += u32::from(failure.is_counted());
            shared.next(&mut attempts, begun, failure).await?;
            std::future::poll_fn(|context| service.poll_ready(context)).await.map_err(Into::into)?;
            let attempt = record.attempt().saturating_add(attempts.calls);
            match service.call(record.clone().with_attempt(attempt)).await {
                Ok(()) => break,
                Err(error) => failure = error.into(),
            }
        }
        shared.retry.retry_succeeded(shared.clock.now());
        Ok(())
    }
}

impl<S> Future for RetryingFuture<S>
where
    S: Service<Record, Response = (), Error: Into<Failure>, Future: Send + 'static> + Send + 'static,
{
    type Output = Result<(), Failure>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let calls: Boxed = match state.as_mut().project() {
                StateOf::Later { calls } => return calls.as_mut().poll(context),
                StateOf::First { call, again } => {
                    let failure = match ready!(call.poll(context)) {
                        Ok(()) => return Poll::Ready(Ok(())),
                        Err(error) => error.into(),
                    };
                    // It is there until the first call has ended.
                    let Some(again) = again.take() else { return Poll::Ready(Err(failure)) };
                    Box::pin(again.run(failure))
                }
            };
            state.set(State::Later { calls });
        }
    }
}

impl<S: Service<Record>> fmt::Debug for RetryingFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryingFuture").finish_non_exhaustive()
    }
}
