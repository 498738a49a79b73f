//! OpenTelemetry for Milena, by the semantic conventions for messaging (v1.44).
//!
//! [`Traces`] makes spans of what a client does, lets records carry the trace context of whoever creates them, and gives handlers a span
//! that continues it:
//!
//! ```text
//! a span of the program ─ its context ─▶ headers of the record ─────────▶ process orders (continues the trace)
//!                └───────────── link ───▶ send orders (a batch)   poll orders (a batch) ─ link ─▶ the program's span
//! ```
//!
//! The program brings its tracer provider, which says where spans go.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let cluster = milena_broker::Broker::builder().start().await?;
//! # cluster.create_topic("orders", 1)?;
//! # let bootstrap = cluster.bootstrap();
//! use milena::{Client, Record};
//! use milena_otel::Traces;
//! use opentelemetry::Context;
//! use opentelemetry::trace::{FutureExt, TraceContextExt, Tracer, TracerProvider};
//! # use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};
//!
//! # let exporter = InMemorySpanExporter::default();
//! # let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
//! let traces = Traces::new(&provider).propagating();
//! let client = Client::builder().bootstrap(bootstrap).trace(traces.hooks()).connect().await?;
//! let producer = client.producer().build().await?;
//!
//! // A record that is created within a span carries its context.
//! let shop = provider.tracer("shop");
//! let span = Context::current_with_span(shop.start("checkout"));
//! producer.send(Record::to("orders").value("created")).with_context(span.clone()).await?;
//!
//! let mut consumer = client.consumer_direct().topic("orders").until_end().build().await?;
//! while let Some(batch) = consumer.next().await? {
//!     for record in &batch {
//!         let process = traces.process(&record);
//!         let _active = process.attach(); // spans that begin here are within the trace of the record
//!     }
//! }
//! # let trace = span.span().span_context().trace_id();
//! # drop((span, producer));
//! # let spans = exporter.get_finished_spans()?;
//! # let process = spans.iter().find(|span| span.name == "process orders").expect("a span");
//! # assert_eq!(process.span_context.trace_id(), trace);
//! # Ok(())
//! # }
//! ```
//!
//! With a pipeline, [`Traces::layer`] goes around the handler.
//!
//! Metrics go two ways: [`otlp`] sends what a registry counts to a collector, and [`recorder`] tells it to the facade `metrics`.

#[cfg(feature = "otlp")]
pub mod otlp;
#[cfg(feature = "recorder")]
pub mod recorder;
#[cfg(feature = "traces")]
mod trace;

#[cfg(feature = "traces")]
pub use trace::{Process, ProcessFuture, ProcessService, Records, Several, Single, Traces};
