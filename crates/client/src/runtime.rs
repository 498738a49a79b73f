//! Where a client's tasks run: on tokio, or on a runtime that the user brings.
//!
//! Only this module and [`clock`](crate::clock) use tokio's tasks and timers. All other modules start tasks through
//! [`Executor`] and read the time through [`Clock`](crate::clock::Clock), so that another runtime can take tokio's place. A
//! simulator needs that: it chooses the order of tasks and moves the time, and so runs a whole client from a seed.
//! `crates/client/clippy.toml` forbids the functions of tokio and std that would go around this.

#![expect(clippy::disallowed_methods, reason = "this module wraps tokio's tasks")]

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use milena_core::Failure;
use tokio::runtime::Handle;

/// What a client needs of the runtime it lives on: tasks, timers and clocks.
///
/// A client uses tokio unless [`ClientBuilder::runtime`](crate::ClientBuilder::runtime) gives it another runtime. A client
/// whose runtime is deterministic is deterministic too, if its [transport](crate::Connect) is and its
/// [`seed`](crate::ClientBuilder::seed) is set: it reads no other clock, and starts tasks and threads nowhere else.
///
/// The default transport, [`Tcp`](crate::Tcp), needs tokio's I/O, so a runtime that does not run on tokio usually comes
/// with a transport of its own.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cluster = milena_broker::Broker::builder().start().await?;
/// # cluster.create_topic("orders", 1)?;
/// # let bootstrap = cluster.bootstrap();
/// use std::pin::Pin;
/// use std::time::Duration;
///
/// use milena::{Client, Record, Runtime};
/// use tokio::time::{Instant, sleep_until};
///
/// /// tokio, but the date never changes.
/// struct Groundhog(Instant);
///
/// impl Runtime for Groundhog {
///     fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
///         tokio::spawn(task);
///     }
///     fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send>) {
///         tokio::task::spawn_blocking(work);
///     }
///     fn now(&self) -> Duration {
///         self.0.elapsed()
///     }
///     fn unix_ms(&self) -> i64 {
///         728_650_800_000
///     }
///     fn sleep_until(&self, at: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
///         Box::pin(sleep_until(self.0 + at))
///     }
/// }
///
/// let runtime = Groundhog(Instant::now());
/// let client = Client::builder().bootstrap(bootstrap).runtime(runtime).connect().await?;
/// let receipt = client.producer().build().await?.send(Record::to("orders").value("created")).await?;
/// assert_eq!(receipt.timestamp_ms(), 728_650_800_000);
/// # Ok(())
/// # }
/// ```
pub trait Runtime: Send + Sync {
    /// Starts a task. It runs until it is finished or the runtime ends; the client never waits for it directly.
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>);

    /// Starts work that keeps a processor busy for up to some milliseconds: compressing a batch.
    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send>);

    /// How many pieces of blocking work may run at a time. Default: one per processor.
    fn parallelism(&self) -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }

    /// The time since an origin that the runtime chooses and keeps. It never goes back.
    fn now(&self) -> Duration;

    /// The time of day in milliseconds since 1970, for records without a timestamp of their own.
    fn unix_ms(&self) -> i64;

    /// A future that is ready from `at` on, as [`now`](Self::now) counts. `at` may be centuries away.
    fn sleep_until(&self, at: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// The runtime that a client lives on.
#[derive(Clone)]
pub(crate) enum Executor {
    /// The one that the client was connected on. The client's futures may be awaited on another runtime or on none: their
    /// timers and tasks are then here.
    Tokio(Handle),
    /// A runtime that the user gave. It can run a task wherever it is called, so it matters nowhere who the caller is.
    Given(Arc<dyn Runtime>),
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tokio(handle) => handle.fmt(f),
            Self::Given(_) => f.write_str("Given"),
        }
    }
}

impl Executor {
    /// The tokio runtime that the caller runs on.
    ///
    /// # Errors
    /// When there is none: tokio would panic at the first timer.
    pub(crate) fn current() -> Result<Self, Failure> {
        let no_runtime =
            "this thread is on no tokio runtime: connect within one, with time and I/O enabled, and keep it";
        Handle::try_current().map(Self::Tokio).map_err(|_| Failure::Caller(no_runtime.into()))
    }

    /// Starts a task on the client's runtime, whatever runtime the caller is on. This is for tasks that all users of the
    /// client share: on the runtime of the caller who needs one first, it would end with that runtime.
    pub(crate) fn spawn_here(&self, task: impl Future<Output = ()> + Send + 'static) {
        match self {
            Self::Tokio(handle) => drop(handle.spawn(task)),
            Self::Given(runtime) => runtime.spawn(Box::pin(task)),
        }
    }

    /// Starts a task: on the tokio runtime that the caller runs on, or on the client's if that is none or not tokio.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        match self {
            Self::Tokio(handle) => drop(callers(handle).spawn(task)),
            Self::Given(runtime) => runtime.spawn(Box::pin(task)),
        }
    }

    /// Starts work on a thread for such work.
    pub(crate) fn spawn_blocking(&self, work: impl FnOnce() + Send + 'static) {
        match self {
            Self::Tokio(handle) => drop(callers(handle).spawn_blocking(work)),
            Self::Given(runtime) => runtime.spawn_blocking(Box::new(work)),
        }
    }

    /// Whether a task may look for something again and again instead of sleeping: what it waits for is done by another processor,
    /// and no clock of a simulation stands still meanwhile.
    pub(crate) fn can_busy_wait(&self) -> bool {
        matches!(self, Self::Tokio(_)) && self.parallelism() > 1
    }

    /// Lets the runtime's other tasks run, and looks at its sockets, before the caller's task goes on. Sleeps for no time.
    pub(crate) async fn give_way(&self) {
        tokio::task::yield_now().await;
    }

    /// How many pieces of blocking work are worth running at a time.
    pub(crate) fn parallelism(&self) -> usize {
        match self {
            Self::Tokio(_) => std::thread::available_parallelism().map_or(1, usize::from),
            Self::Given(runtime) => runtime.parallelism(),
        }
    }

    /// Makes a timer. It belongs to the client's runtime if the caller is on no tokio runtime.
    pub(crate) fn entered<T>(&self, make: impl FnOnce() -> T) -> T {
        let _entered = match self {
            Self::Tokio(handle) => Handle::try_current().is_err().then(|| handle.enter()),
            Self::Given(_) => None,
        };
        make()
    }

    /// Waits for `future`, whose timers belong to the client's runtime if the caller is on no tokio runtime. It is for
    /// calls that are rare: the future is kept on the heap, so that the futures it is part of stay small.
    pub(crate) fn within<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<'_, F> {
        let mut future = Box::pin(future);
        poll_fn(move |cx| self.entered(|| future.as_mut().poll(cx)))
    }
}

fn callers(handle: &Handle) -> Handle {
    Handle::try_current().unwrap_or_else(|_| handle.clone())
}

/// Futures that make progress together, in the task that waits for them. They need no runtime, and dropping this drops
/// those that are not finished.
///
/// Whenever one of them wakes the task, all are polled: this is for a few requests at a time, one for each broker at most.
pub(crate) struct Together<'a, T>(Vec<Pin<Box<dyn Future<Output = T> + Send + 'a>>>);

impl<'a, T> Together<'a, T> {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn push(&mut self, future: impl Future<Output = T> + Send + 'a) {
        self.0.push(Box::pin(future));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The output of the next one that finishes; none when all have.
    ///
    /// # Cancel safety
    /// Dropped, nothing is lost.
    pub(crate) fn next(&mut self) -> impl Future<Output = Option<T>> + Send {
        poll_fn(|cx| self.poll_next(cx))
    }

    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        for index in 0..self.0.len() {
            if let Poll::Ready(output) = self.0[index].as_mut().poll(cx) {
                drop(self.0.remove(index));
                return Poll::Ready(Some(output));
            }
        }
        if self.0.is_empty() { Poll::Ready(None) } else { Poll::Pending }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn futures_finish_together_in_any_order() {
        let mut together = Together::new();
        assert_eq!(together.next().await, None);
        let (late, told) = oneshot::channel();
        together.push(async { told.await.expect("told") });
        together.push(ready(2));
        assert_eq!(together.next().await, Some(2));
        late.send(1).expect("waited for");
        assert_eq!(together.next().await, Some(1));
        assert!(together.is_empty());
    }

    #[tokio::test]
    async fn what_is_not_finished_is_dropped_with_the_rest() {
        let (held, mut dropped) = oneshot::channel::<()>();
        let mut together = Together::new();
        together.push(async move {
            let _held = held;
            pending::<()>().await;
        });
        let waiting = tokio::time::timeout(Duration::ZERO, together.next()).await;
        assert!(waiting.is_err());
        assert!(dropped.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        drop(together);
        assert!(dropped.await.is_err());
    }
}
