//! A limit of time for each call.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower_layer::Layer;
use tower_service::Service;

use crate::{Failure, Record};

/// A call that takes longer than a limit fails with [`TimedOut`], which is [retriable](crate::Class::Retriable). Its future is
/// dropped.
///
/// ```
/// use milena_pipeline::layers::{TimedOut, Timeout};
/// use milena_pipeline::prelude::*;
/// use tower::{Layer, Service, service_fn};
///
/// # mod support { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/records.rs")); }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let stuck = service_fn(|_: Record| std::future::pending::<Result<(), Failure>>());
/// let mut service = Timeout::new(20.ms()).layer(stuck);
///
/// # let record = support::record("42", "created");
/// let failure = service.call(record).await.unwrap_err();
/// assert!(failure.downcast_ref::<TimedOut>().is_some());
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Timeout {
    limit: Duration,
}

/// The service of [`Timeout`].
#[derive(Debug, Clone)]
pub struct TimeoutService<S> {
    inner: S,
    limit: Duration,
}

pin_project! {
    /// A call of [`TimeoutService`].
    #[derive(Debug)]
    pub struct TimeoutFuture<F> {
        #[pin]
        call: F,
        #[pin]
        end: Sleep,
        limit: Duration,
    }
}

/// The error of a call that took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimedOut {
    limit: Duration,
}

impl Timeout {
    /// Calls may take this long.
    pub fn new(limit: Duration) -> Self {
        Self { limit }
    }
}

impl<S> Layer<S> for Timeout {
    type Service = TimeoutService<S>;

    fn layer(&self, inner: S) -> TimeoutService<S> {
        TimeoutService { inner, limit: self.limit }
    }
}

impl<S> Service<Record> for TimeoutService<S>
where
    S: Service<Record, Response = (), Error: Into<Failure>>,
{
    type Response = ();
    type Error = Failure;
    type Future = TimeoutFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, record: Record) -> Self::Future {
        let limit = self.limit;
        TimeoutFuture { call: self.inner.call(record), end: tokio::time::sleep(limit), limit }
    }
}

impl<F, E> Future for TimeoutFuture<F>
where
    F: Future<Output = Result<(), E>>,
    E: Into<Failure>,
{
    type Output = Result<(), Failure>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(result) = this.call.poll(context) {
            return Poll::Ready(result.map_err(Into::into));
        }
        let limit = *this.limit;
        this.end.poll(context).map(|()| Err(Failure::retriable(TimedOut { limit })))
    }
}

impl TimedOut {
    /// How long the call was allowed to take.
    pub fn limit(&self) -> Duration {
        self.limit
    }
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the handler took longer than its limit of {:?}", self.limit)
    }
}

impl std::error::Error for TimedOut {}
