//! Counts calls, their outcomes and their time.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use milena::metrics::{Histogram, Registry};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use crate::metrics::CALL_SECONDS;
use crate::{Class, Failure, Record};

/// A pipeline has a worker per core, and each records for every call.
const SHARDS: usize = 8;

/// Counts the calls of a service and measures how long they take.
///
/// ```
/// use milena_pipeline::layers::Measure;
/// use milena_pipeline::prelude::*;
/// use tower::{Layer, Service, service_fn};
///
/// # mod support { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/records.rs")); }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Failure> {
/// let measure = Measure::new();
/// let mut service = measure.layer(service_fn(|_: Record| async { Ok::<(), Failure>(()) }));
///
/// # let record = support::record("42", "created");
/// service.call(record).await?;
/// let counts = measure.counts();
/// assert_eq!((counts.started, counts.succeeded, counts.in_work()), (1, 1, 0));
/// # Ok(())
/// # }
/// ```
///
/// What it counts can go to your own metrics, too: see [`observe`](Self::observe).
#[derive(Clone, Default)]
pub struct Measure {
    counters: Arc<Counters>,
    observer: Option<Arc<dyn Observe>>,
    seconds: Option<Arc<Seconds>>,
}

/// Histograms of a registry, by outcome.
struct Seconds([Arc<Histogram>; 5]);

/// The service of [`Measure`].
#[derive(Debug, Clone)]
pub struct MeasureService<S> {
    inner: S,
    layer: Measure,
}

/// Is told of each call, for metrics. Its methods run on the way of each record, so they must be fast.
pub trait Observe: Send + Sync + 'static {
    /// A call begins.
    fn started(&self, record: &Record);

    /// A call has ended, `took` after it began.
    fn finished(&self, outcome: CallOutcome, took: Duration);
}

/// How a call has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallOutcome {
    /// The record was processed.
    Succeeded,
    /// It failed, with a failure of this class.
    Failed(Class),
    /// Its future was dropped: the partition was given up, or a layer around it had waited for long enough.
    Dropped,
}

/// What was counted since the layer was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counts {
    /// Calls that began.
    pub started: u64,
    /// Calls that were successes.
    pub succeeded: u64,
    /// Calls that failed, [retriable](Class::Retriable).
    pub retriable: u64,
    /// Calls that failed as [poison](Class::Poison).
    pub poison: u64,
    /// Calls that failed as [fatal](Class::Fatal).
    pub fatal: u64,
    /// Calls whose future was dropped.
    pub dropped: u64,
    /// The time that all calls which have ended took together.
    pub took: Duration,
}

#[derive(Debug, Default)]
struct Counters {
    started: AtomicU64,
    succeeded: AtomicU64,
    retriable: AtomicU64,
    poison: AtomicU64,
    fatal: AtomicU64,
    dropped: AtomicU64,
    took_nanos: AtomicU64,
}

pin_project! {
    /// A call of [`MeasureService`].
    #[derive(Debug)]
    pub struct MeasureFuture<F> {
        #[pin]
        call: F,
        running: Running,
    }
}

/// Tells of a call when it ends, or when it is dropped.
#[derive(Debug)]
struct Running {
    layer: Measure,
    begun: Instant,
    outcome: CallOutcome,
}

impl Measure {
    /// Counts for itself.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells `observer` of each call, besides counting.
    ///
    /// ```
    /// use milena_pipeline::Record;
    /// use milena_pipeline::layers::{CallOutcome, Measure, Observe};
    /// use std::time::Duration;
    ///
    /// struct Slow;
    /// impl Observe for Slow {
    ///     fn started(&self, _: &Record) {}
    ///     fn finished(&self, outcome: CallOutcome, took: Duration) {
    ///         if took > Duration::from_secs(1) {
    ///             println!("{outcome:?} after {took:?}");
    ///         }
    ///     }
    /// }
    /// let layer = Measure::new().observe(Slow);
    /// # let _ = layer;
    /// ```
    pub fn observe(mut self, observer: impl Observe) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Records how long calls take in a registry, too, as `milena_pipeline_call_seconds` of the handler `name`: one atomic
    /// addition for each call, in memory of the thread's own.
    ///
    /// ```
    /// use milena::metrics::Registry;
    /// use milena_pipeline::layers::Measure;
    ///
    /// let registry = Registry::new(); // of the client, so that both are read together
    /// let layer = Measure::new().in_registry(&registry, "charge");
    /// # let _ = layer;
    /// ```
    pub fn in_registry(mut self, registry: &Registry, name: &str) -> Self {
        let of = |outcome: CallOutcome| {
            registry.histogram_with_shards(&CALL_SECONDS, &[outcome.label(), name], SHARDS)
        };
        let failed = |class| of(CallOutcome::Failed(class));
        self.seconds = Some(Arc::new(Seconds([
            of(CallOutcome::Succeeded),
            failed(Class::Retriable),
            failed(Class::Poison),
            failed(Class::Fatal),
            of(CallOutcome::Dropped),
        ])));
        self
    }

    /// What was counted, by all clones of this layer and their services.
    pub fn counts(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let it = &*self.counters;
        Counts {
            started: of(&it.started),
            succeeded: of(&it.succeeded),
            retriable: of(&it.retriable),
            poison: of(&it.poison),
            fatal: of(&it.fatal),
            dropped: of(&it.dropped),
            took: Duration::from_nanos(of(&it.took_nanos)),
        }
    }
}

impl CallOutcome {
    fn index(self) -> usize {
        match self {
            Self::Succeeded => 0,
            Self::Failed(Class::Retriable) => 1,
            Self::Failed(Class::Poison) => 2,
            Self::Failed(Class::Fatal) => 3,
            Self::Dropped => 4,
        }
    }

    fn label(self) -> &'static str {
        ["succeeded", "retriable", "poison", "fatal", "dropped"][self.index()]
    }
}

impl Counts {
    /// Calls that have not ended.
    pub fn in_work(&self) -> u64 {
        // The counters are read one after the other, while calls end.
        self.started.saturating_sub(self.succeeded + self.failed() + self.dropped)
    }

    /// Calls that failed, of all classes.
    pub fn failed(&self) -> u64 {
        self.retriable + self.poison + self.fatal
    }
}

impl fmt::Debug for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Measure").field(&self.counts()).finish()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let (took, counters) = (self.begun.elapsed(), &self.layer.counters);
        let counter = match self.outcome {
            CallOutcome::Succeeded => &counters.succeeded,
            CallOutcome::Failed(Class::Retriable) => &counters.retriable,
            CallOutcome::Failed(Class::Poison) => &counters.poison,
            CallOutcome::Failed(Class::Fatal) => &counters.fatal,
            CallOutcome::Dropped => &counters.dropped,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        counters.took_nanos.fetch_add(nanos, Ordering::Relaxed);
        if let Some(Seconds(histograms)) = self.layer.seconds.as_deref() {
            histograms[self.outcome.index()].record(nanos);
        }
        if let Some(observer) = &self.layer.observer {
            observer.finished(self.outcome, took);
        }
    }
}

impl<S> Layer<S> for Measure {
    type Service = MeasureService<S>;

    fn layer(&self, inner: S) -> MeasureService<S> {
        MeasureService { inner, layer: self.clone() }
    }
}

impl<S> Service<Record> for MeasureService<S>
where
    S: Service<Record, Response = (), Error: Into<Failure>>,
{
    type Response = ();
    type Error = Failure;
    type Future = MeasureFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, record: Record) -> Self::Future {
        self.layer.counters.started.fetch_add(1, Ordering::Relaxed);
        if let Some(observer) = &self.layer.observer {
            observer.started(&record);
        }
        let (layer, begun) = (self.layer.clone(), Instant::now());
        let running = Running { layer, begun, outcome: CallOutcome::Dropped };
        MeasureFuture { call: self.inner.call(record), running }
    }
}

impl<F, E> Future for MeasureFuture<F>
where
    F: Future<Output = Result<(), E>>,
    E: Into<Failure>,
{
    type Output = Result<(), Failure>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.call.poll(context)).map_err(Into::into);
        this.running.outcome = match &result {
            Ok(()) => CallOutcome::Succeeded,
            Err(failure) => CallOutcome::Failed(failure.class()),
        };
        Poll::Ready(result)
    }
}
