//! Takes no more records while most of them fail.

mod machine;

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::sync::Notify;
use tower_layer::Layer;
use tower_service::Service;

use self::machine::{Begin, Breaker, Phase, Settings, Ticket};
use super::Clock;
use crate::{Failure, Record};

/// Stops calls while most of them fail, so that an outage or a broken release does not empty a topic into the dead letters.
///
/// By default the circuit opens when over half of the calls of the last 30 seconds have failed, in whatever [class](crate::Class),
/// and there were at least 20 of them. While it is open, the service is not [ready](Service::poll_ready), so that a pipeline
/// takes no more records. After 10 seconds 5 calls are let through to see whether they succeed; if over half of them fail, it is
/// open for another 10 seconds.
///
/// Calls that fail while the circuit is not closed [do not count](Failure::not_counted): a pipeline makes these attempts again
/// when it has closed, and puts none of the records aside.
///
/// Clones of the layer are one circuit, over all workers.
///
/// ```
/// use milena_pipeline::layers::{CircuitBreaker, CircuitState};
/// use milena_pipeline::prelude::*;
/// use tower::{Layer, Service, ServiceExt, service_fn};
///
/// # mod support { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/records.rs")); }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Failure> {
/// let breaker = CircuitBreaker::new().calls_min(2).open_for(20.ms()).probes(1);
/// let handle = breaker.handle();
/// let up = std::sync::atomic::AtomicBool::new(false);
/// let mut service = breaker.layer(service_fn(|_: Record| async {
///     if up.load(std::sync::atomic::Ordering::Relaxed) { Ok(()) } else { Err(Failure::retriable("no answer")) }
/// }));
///
/// # let record = support::record("42", "created");
/// assert!(service.ready().await?.call(record.clone()).await.unwrap_err().is_counted());
/// // The second failure opens the circuit.
/// assert!(!service.ready().await?.call(record.clone()).await.unwrap_err().is_counted());
/// assert!(matches!(handle.state(), CircuitState::Open { .. }));
///
/// up.store(true, std::sync::atomic::Ordering::Relaxed);
/// service.ready().await?.call(record).await?; // waits for 20 ms
/// assert_eq!(handle.state(), CircuitState::Closed);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct CircuitBreaker {
    settings: Settings,
    shared: Arc<Shared>,
}

/// Shows the state of a [`CircuitBreaker`].
#[derive(Debug, Clone)]
pub struct CircuitHandle(Arc<Shared>);

/// The state of a [`CircuitBreaker`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CircuitState {
    /// Calls go through.
    Closed,
    /// No calls go through.
    Open {
        /// When some calls are let through; zero if that can be at once.
        left: Duration,
    },
    /// Some calls go through, to see whether they succeed.
    HalfOpen,
}

/// The service of [`CircuitBreaker`].
pub struct CircuitBreakerService<S> {
    inner: S,
    layer: CircuitBreaker,
    ticket: Option<Held>,
    wait: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

pin_project! {
    /// A call of [`CircuitBreakerService`].
    #[derive(Debug)]
    pub struct CircuitBreakerFuture<F> {
        // None if the circuit has opened after the service was ready.
        #[pin]
        call: Option<F>,
        held: Option<Held>,
    }
}

/// The error of a call for which the circuit opened between [`poll_ready`](Service::poll_ready) and the call. It does [not
/// count](Failure::not_counted).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitOpen;

#[derive(Debug)]
struct Shared {
    clock: Clock,
    breaker: Mutex<Breaker>,
    /// A call may begin that could not before.
    changed: Arc<Notify>,
}

/// A ticket that is given back when it is dropped before its call has ended.
#[derive(Debug)]
struct Held {
    ticket: Ticket,
    layer: CircuitBreaker,
    has_ended: bool,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self::new()
    }
}

impl CircuitBreaker {
    /// A circuit that is closed.
    pub fn new() -> Self {
        let settings = Settings { percent: 50, calls_min: 20, open_for: Duration::from_secs(10), probes: 5 };
        Self { settings, shared: Arc::new(Shared::new(Duration::from_secs(30))) }
    }

    /// It opens when over this part of the calls have failed, in percent. Default 50.
    pub fn percent(mut self, percent: u32) -> Self {
        self.settings.percent = percent;
        self
    }

    /// How long a call counts. Default 30 seconds. The count begins anew, and so do [handles](Self::handle).
    pub fn window(mut self, window: Duration) -> Self {
        self.shared = Arc::new(Shared::new(window));
        self
    }

    /// It does not open before there were this many calls in the window. Default 20.
    pub fn calls_min(mut self, count: u64) -> Self {
        self.settings.calls_min = count;
        self
    }

    /// How long it stays open. Default 10 seconds.
    pub fn open_for(mut self, time: Duration) -> Self {
        self.settings.open_for = time;
        self
    }

    /// How many calls are let through after it was open. Default 5; 0 counts as 1.
    pub fn probes(mut self, count: u32) -> Self {
        self.settings.probes = count.max(1);
        self
    }

    /// A handle that shows the state.
    pub fn handle(&self) -> CircuitHandle {
        CircuitHandle(Arc::clone(&self.shared))
    }

    /// A ticket, or when to ask again.
    fn begin(&self) -> Result<Held, Option<Duration>> {
        let begin = self.shared.breaker().begin(&self.settings, self.shared.clock.now());
        match begin {
            Begin::Go(ticket) => Ok(Held { ticket, layer: self.clone(), has_ended: false }),
            Begin::Wait(until) => Err(until),
        }
    }

    /// A ticket, or a future that ends when it is worth asking again.
    fn begin_or_wait(&self) -> Result<Held, Pin<Box<dyn Future<Output = ()> + Send>>> {
        if let Ok(held) = self.begin() {
            return Ok(held);
        }
        let mut changed = Box::pin(Arc::clone(&self.shared.changed).notified_owned());
        // A change between the question and the wait counts, too.
        changed.as_mut().enable();
        let clock = self.shared.clock;
        self.begin().map_err(|until| -> Pin<Box<dyn Future<Output = ()> + Send>> {
            let Some(until) = until else { return changed };
            Box::pin(async move {
                tokio::select! {
                    () = changed => {}
                    () = clock.until(until) => {}
                }
            })
        })
    }
}

impl Shared {
    fn new(window: Duration) -> Self {
        Self { clock: Clock::start(), breaker: Mutex::new(Breaker::new(window)), changed: Arc::default() }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CircuitHandle {
    /// The state now.
    pub fn state(&self) -> CircuitState {
        let now = self.0.clock.now();
        match self.0.breaker().phase() {
            Phase::Closed => CircuitState::Closed,
            Phase::Open { until } => CircuitState::Open { left: until.saturating_sub(now) },
            Phase::HalfOpen => CircuitState::HalfOpen,
        }
    }

    /// How many calls of the window succeeded, and how many failed. Both are 0 while the circuit is not closed.
    pub fn calls(&self) -> (u64, u64) {
        let now = self.0.clock.now();
        let [succeeded, failed] = self.0.breaker().counts(now);
        (succeeded, failed)
    }
}

impl Held {
    fn is_good(&self) -> bool {
        self.layer.shared.breaker().is_good(self.ticket)
    }

    /// Tells how the call has ended. Answers whether that counts for the record.
    fn end(mut self, succeeded: bool) -> bool {
        self.has_ended = true;
        let CircuitBreaker { settings, shared } = &self.layer;
        let (ended, phase) = {
            let mut breaker = shared.breaker();
            (breaker.end(settings, self.ticket, succeeded, shared.clock.now()), breaker.phase())
        };
        if ended.has_changed {
            match phase {
                Phase::Closed => tracing::info!("the circuit is closed: calls succeed again"),
                _ => tracing::warn!(
                    open_for = ?settings.open_for,
                    "the circuit is open: more than {} % of the calls failed, and no records are taken",
                    settings.percent
                ),
            }
            shared.changed.notify_waiters();
        }
        ended.is_counted
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.has_ended && self.layer.shared.breaker().abandon(self.ticket) {
            self.layer.shared.changed.notify_waiters();
        }
    }
}

impl<S> Layer<S> for CircuitBreaker {
    type Service = CircuitBreakerService<S>;

    fn layer(&self, inner: S) -> CircuitBreakerService<S> {
        CircuitBreakerService { inner, layer: self.clone(), ticket: None, wait: None }
    }
}

/// Tickets are not copied.
impl<S: Clone> Clone for CircuitBreakerService<S> {
    fn clone(&self) -> Self {
        self.layer.layer(self.inner.clone())
    }
}

impl<S: fmt::Debug> fmt::Debug for CircuitBreakerService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakerService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S> Service<Record> for CircuitBreakerService<S>
where
    S: Service<Record, Response = (), Error: Into<Failure>>,
{
    type Response = ();
    type Error = Failure;
    type Future = CircuitBreakerFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        // A worker may have been ready for long.
        self.ticket.take_if(|held| !held.is_good());
        while self.ticket.is_none() {
            if let Some(wait) = &mut self.wait {
                ready!(wait.as_mut().poll(context));
                self.wait = None;
            }
            match self.layer.begin_or_wait() {
                Ok(held) => self.ticket = Some(held),
                Err(wait) => self.wait = Some(wait),
            }
        }
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, record: Record) -> Self::Future {
        let held = self.ticket.take().filter(Held::is_good);
        let call = held.is_some().then(|| self.inner.call(record));
        CircuitBreakerFuture { call, held }
    }
}

impl<F, E> Future for CircuitBreakerFuture<F>
where
    F: Future<Output = Result<(), E>>,
    E: Into<Failure>,
{
    type Output = Result<(), Failure>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(call) = this.call.as_pin_mut() else {
            return Poll::Ready(Err(Failure::retriable(CircuitOpen).not_counted()));
        };
        let result = ready!(call.poll(context)).map_err(Into::into);
        // It is there until the call has ended.
        let is_counted = this.held.take().is_none_or(|held| match &result {
            Ok(()) => held.end(true),
            // What another circuit has not let through says nothing of this one.
            Err(failure) if !failure.is_counted() => true,
            Err(_) => held.end(false),
        });
        Poll::Ready(result.map_err(|failure| if is_counted { failure } else { failure.not_counted() }))
    }
}

impl fmt::Display for CircuitOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the circuit breaker is open: too many calls failed before this one")
    }
}

impl std::error::Error for CircuitOpen {}
