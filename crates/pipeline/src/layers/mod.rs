//! Layers around handlers: [`tower_layer::Layer`]s over services that take a [`Record`](crate::Record).
//!
//! | layer | what it does |
//! |---|---|
//! | [`Timeout`] | a call that takes too long fails |
//! | [`Retrying`] | calls again what failed, inside the service |
//! | [`PerKey`] | few calls at a time for each key of your choice |
//! | [`RateLimit`] | at most N calls per second |
//! | [`Deduplicate`] | a record whose key was processed lately is done already |
//! | [`CircuitBreaker`] | takes no more records while most of them fail |
//! | [`Trace`] | a span for each call |
//! | [`Measure`] | counts calls, their outcomes and their time |
//!
//! They compose with `tower`'s `ServiceBuilder`, in which the first layer is the outermost: it sees the record first and the
//! result last.
//!
//! ```
//! use milena_pipeline::layers::{CircuitBreaker, RateLimit, Timeout};
//! use milena_pipeline::prelude::*;
//! use tower::{Service, ServiceBuilder, ServiceExt};
//!
//! # mod support { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/records.rs")); }
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Failure> {
//! let mut service = ServiceBuilder::new()
//!     .layer(CircuitBreaker::new())
//!     .layer(RateLimit::per_second(500))
//!     .layer(Timeout::new(2.s()))
//!     .service_fn(|record: Record| async move {
//!         println!("{:?}", record.value());
//!         Ok::<(), Failure>(())
//!     });
//!
//! # let record = support::record("42", "created");
//! service.ready().await?.call(record).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Layers of others
//! The services inside of a layer may fail with anything that converts into a [`Failure`](crate::Failure), as every error does. A layer that
//! wants an error of the service inside of it, such as `tower`'s own, gets it by [`Failure::into_error`](crate::Failure::into_error):
//!
//! ```
//! use milena_pipeline::layers::Measure;
//! use milena_pipeline::{Failure, Record};
//! use tower::ServiceBuilder;
//!
//! let service = ServiceBuilder::new()
//!     .layer(Measure::new())
//!     .timeout(std::time::Duration::from_secs(2)) // tower's
//!     .map_err(Failure::into_error)
//!     .service_fn(|record: Record| async move { Ok::<(), Failure>(()) });
//! # let _ = service;
//! ```

mod breaker;
mod deduplicate;
mod key;
mod measure;
mod per_key;
mod rate;
mod retrying;
mod timeout;
mod trace;

use std::time::Duration;

use tokio::time::Instant;

pub use self::breaker::{
    CircuitBreaker, CircuitBreakerFuture, CircuitBreakerService, CircuitHandle, CircuitOpen, CircuitState,
};
pub use self::deduplicate::{Deduplicate, DeduplicateFuture, DeduplicateService};
pub use self::key::KeyOf;
pub use self::measure::{CallOutcome, Counts, Measure, MeasureFuture, MeasureService, Observe};
pub use self::per_key::{PerKey, PerKeyFuture, PerKeyService};
pub use self::rate::{Mapped, RateLimit, RateLimitService};
pub use self::retrying::{Retrying, RetryingFuture, RetryingService};
pub use self::timeout::{TimedOut, Timeout, TimeoutFuture, TimeoutService};
pub use self::trace::{Trace, TraceService};

/// A future of a call that has to wait or was not the last one, for layers whose usual calls need no memory of their own.
type Boxed = std::pin::Pin<Box<dyn Future<Output = Result<(), crate::Failure>> + Send>>;

/// The time of the machines: durations since the layer was made. It is tokio's, so that tests can stop it.
#[derive(Debug, Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn start() -> Self {
        Self(Instant::now())
    }

    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    /// Waits until `then` on this clock.
    fn until(&self, then: Duration) -> tokio::time::Sleep {
        // `sleep` has a limit for what an instant cannot hold.
        tokio::time::sleep(then.saturating_sub(self.now()))
    }
}
