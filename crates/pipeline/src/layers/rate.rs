//! A limit of calls per second.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Sleep;
use tower_layer::Layer;
use tower_service::Service;

use super::Clock;
use crate::{Failure, Record};

/// At most N calls per second, over all workers.
///
/// A service that has to wait is not [ready](Service::poll_ready), so that a pipeline takes no more records. Without
/// [`burst`](Self::burst) calls are spread evenly; with it, calls that were not used before may follow each other at once.
///
/// ```
/// use milena_pipeline::layers::RateLimit;
/// use milena_pipeline::prelude::*;
/// use tower::{Layer, Service, ServiceExt, service_fn};
///
/// # mod support { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/records.rs")); }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Failure> {
/// let handler = service_fn(|_: Record| async { Ok::<(), Failure>(()) });
/// let mut service = RateLimit::per_second(100).burst(20).layer(handler);
///
/// # let record = support::record("42", "created");
/// service.ready().await?.call(record).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct RateLimit {
    limit: Limit,
    shared: Arc<Shared>,
}

/// The service of [`RateLimit`].
#[derive(Debug)]
pub struct RateLimitService<S> {
    inner: S,
    layer: RateLimit,
    token: Token,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    bucket: Mutex<Bucket>,
}

/// What a service has of the bucket.
#[derive(Debug)]
enum Token {
    /// Nothing.
    None,
    /// A token that can be used when this has passed.
    Later(Pin<Box<Sleep>>),
    /// A token.
    Now,
}

#[derive(Debug, Clone, Copy)]
struct Limit {
    /// The time of one token.
    interval: Duration,
    /// How many tokens the bucket holds.
    burst: u32,
}

/// A bucket of tokens, as the time at which the next one comes into an empty bucket: the longer ago, the more there are.
#[derive(Debug, Default)]
struct Bucket {
    next: Duration,
}

impl RateLimit {
    /// `count` calls per second, evenly spread. 0 counts as 1.
    pub fn per_second(count: u32) -> Self {
        Self::every(Duration::from_secs(1) / count.max(1))
    }

    /// One call in this time.
    pub fn every(interval: Duration) -> Self {
        let shared = Shared { clock: Clock::start(), bucket: Mutex::default() };
        Self { limit: Limit { interval, burst: 1 }, shared: Arc::new(shared) }
    }

    /// How many calls may follow each other at once after a time without calls. Default 1; 0 counts as 1.
    pub fn burst(mut self, count: u32) -> Self {
        self.limit.burst = count.max(1);
        self
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.shared.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bucket {
    /// Takes a token. Answers when it may be used, if that is later than now.
    fn take(&mut self, limit: Limit, now: Duration) -> Option<Duration> {
        let oldest = now.saturating_sub(limit.interval.saturating_mul(limit.burst - 1));
        let at = self.next.max(oldest);
        self.next = at.saturating_add(limit.interval);
        (at > now).then_some(at)
    }

    /// A token was not used.
    fn give_back(&mut self, limit: Limit) {
        self.next = self.next.saturating_sub(limit.interval);
    }
}

impl<S> Layer<S> for RateLimit {
    type Service = RateLimitService<S>;

    fn layer(&self, inner: S) -> RateLimitService<S> {
        RateLimitService { inner, layer: self.clone(), token: Token::None }
    }
}

/// Tokens are not copied.
impl<S: Clone> Clone for RateLimitService<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer.clone(), token: Token::None }
    }
}

impl<S> Drop for RateLimitService<S> {
    fn drop(&mut self) {
        if !matches!(self.token, Token::None) {
            self.layer.bucket().give_back(self.layer.limit);
        }
    }
}

impl<S> Service<Record> for RateLimitService<S>
where
    S: Service<Record, Response = (), Error: Into<Failure>>,
{
    type Response = ();
    type Error = Failure;
    type Future = Mapped<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        if matches!(self.token, Token::None) {
            let clock = self.layer.shared.clock;
            let at = self.layer.bucket().take(self.layer.limit, clock.now());
            self.token = at.map_or(Token::Now, |at| Token::Later(Box::pin(clock.until(at))));
        }
        if let Token::Later(wait) = &mut self.token {
            ready!(wait.as_mut().poll(context));
            self.token = Token::Now;
        }
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, record: Record) -> Self::Future {
        self.token = Token::None;
        Mapped::new(self.inner.call(record))
    }
}

pin_project_lite::pin_project! {
    /// A call whose error becomes a [`Failure`].
    #[derive(Debug)]
    pub struct Mapped<F> {
        #[pin]
        call: F,
    }
}

impl<F> Mapped<F> {
    pub(super) fn new(call: F) -> Self {
        Self { call }
    }
}

impl<F, E> Future for Mapped<F>
where
    F: Future<Output = Result<(), E>>,
    E: Into<Failure>,
{
    type Output = Result<(), Failure>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll(context).map_err(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Span;

    const LIMIT: Limit = Limit { interval: Duration::from_millis(100), burst: 3 };

    #[test]
    fn a_burst_goes_at_once_and_then_each_token_has_its_time() {
        let mut bucket = Bucket::default();
        let mut take = |now: Duration| bucket.take(LIMIT, now).map_or(now, |at| at);
        // A bucket is empty when it is made: there was no time without calls.
        assert_eq!([0, 0, 0].map(|now: u64| take(now.ms())), [0.ms(), 100.ms(), 200.ms()]);
        let full = 10.s();
        assert_eq!([full; 5].map(&mut take), [full, full, full, full + 100.ms(), full + 200.ms()]);
        // Two tokens have come since.
        assert_eq!([full + 450.ms(); 3].map(&mut take), [full + 450.ms(), full + 450.ms(), full + 500.ms()]);
    }

    #[test]
    fn over_any_time_there_are_no_more_calls_than_the_rate_and_a_burst() {
        let mut bucket = Bucket::default();
        let mut calls = Vec::new();
        for step in 0..10_000u64 {
            // Ten times as fast as allowed, with pauses.
            let now = (step * 10 + step / 1000 * 500).ms();
            if let Some(at) = bucket.take(LIMIT, now) {
                if at > now + 1.s() {
                    bucket.give_back(LIMIT);
                    continue;
                }
                calls.push(at);
            } else {
                calls.push(now);
            }
        }
        assert!(calls.is_sorted());
        for (index, from) in calls.iter().enumerate() {
            let within = calls[index..].iter().take_while(|at| **at < *from + 1.s()).count();
            assert!(within <= 10 + 3, "{within} calls within a second of {from:?}");
        }
        assert!(calls.len() > 1000, "{}", calls.len());
    }

    #[test]
    fn no_setting_overflows() {
        let mut bucket = Bucket::default();
        let widest = Limit { interval: Duration::MAX, burst: u32::MAX };
        assert_eq!(bucket.take(widest, 1.s()), None);
        assert_eq!(bucket.take(widest, Duration::MAX), None);
        let none = Limit { interval: Duration::ZERO, burst: 1 };
        assert_eq!(Bucket::default().take(none, 0.s()), None);
    }
}
