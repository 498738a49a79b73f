//! A span for each call.

use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;
use tracing::instrument::Instrumented;
use tracing::{Instrument as _, Span};

use super::rate::Mapped;
use crate::{Failure, Record};

/// Runs each call in a span of `tracing`, whose level is info and whose target is `milena`.
///
/// Its fields are the names that OpenTelemetry has for messaging: `messaging.destination.name` (the topic),
/// `messaging.destination.partition.id`, `messaging.kafka.offset`, and `attempt`. Neither key nor value of the record is in it. How
/// a call has ended is not told: the pipeline tells that of records it gives up, and [`Measure`](super::Measure) counts.
///
/// ```
/// use milena_pipeline::layers::Trace;
/// use milena_pipeline::prelude::*;
/// use tower::{Layer, Service, service_fn};
///
/// # mod support { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/records.rs")); }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Failure> {
/// let mut service = Trace::new().layer(service_fn(|_: Record| async {
///     tracing::info!("charged"); // within the span
///     Ok::<(), Failure>(())
/// }));
///
/// # let record = support::record("42", "created");
/// service.call(record).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Trace(());

/// The service of [`Trace`].
#[derive(Debug, Clone)]
pub struct TraceService<S> {
    inner: S,
}

impl Trace {
    /// A span named `process` for each call.
    pub fn new() -> Self {
        Self(())
    }
}

impl<S> Layer<S> for Trace {
    type Service = TraceService<S>;

    fn layer(&self, inner: S) -> TraceService<S> {
        TraceService { inner }
    }
}

impl<S> Service<Record> for TraceService<S>
where
    S: Service<Record, Response = (), Error: Into<Failure>>,
{
    type Response = ();
    type Error = Failure;
    type Future = Instrumented<Mapped<S::Future>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, record: Record) -> Self::Future {
        let span: Span = tracing::info_span!(
            target: "milena",
            "process",
            "messaging.destination.name" = record.topic(),
            "messaging.destination.partition.id" = record.partition(),
            "messaging.kafka.offset" = record.offset(),
            attempt = record.attempt(),
        );
        // What a service does before it returns its future belongs to the call.
        let call = span.in_scope(|| self.inner.call(record));
        Mapped::new(call).instrument(span)
    }
}
