//! Spans of what a client is told to do by the program, from the client's hooks.

mod attributes;
mod baggage;
mod context;
mod process;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use milena::trace::{Commit, Hooks, Received, TraceContext};
use milena::{Record, SettledBatch};
use opentelemetry::global::{self, BoxedTracer, ObjectSafeTracerProvider};
use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer as _,
};
use opentelemetry::{Context, InstrumentationScope, KeyValue};

use self::attributes::{Attributes, Operation};
use self::context::{current, remote, span_context};
pub use self::process::{Process, ProcessFuture, ProcessService, Records, Several, Single};

/// Makes spans of what a client's producers and consumers do.
///
/// | span | kind | for each | links |
/// |---|---|---|---|
/// | `send TOPIC` | client | batch that was written or given up | the contexts in which its records were created |
/// | `poll TOPIC` | client | batch that the application got | the same |
/// | `process TOPIC` | consumer | record or group of records that the program processes ([`process`](Self::process), [`layer`](Self::layer) and the like) | the same |
/// | `commit TOPIC`, `commit` | client | commit of a group | |
///
/// A span for each batch and not for each record keeps their number small. A span has at most 128 links, of the first 128 records of a
/// batch for `poll`. A `send` whose records were all created in one context is also its child. Attributes are those of the [semantic
/// conventions](https://opentelemetry.io/docs/specs/semconv/messaging/kafka/) v1.44: system, operation name and type, destination and
/// partition, number of records, group, client id, server address and port, offset and tombstone of single records, `error.type`.
/// Neither values nor, unless [asked](Self::with_keys), keys of records are in spans.
///
/// Clones are the same. The example of the [crate](crate) shows all of it.
#[derive(Clone)]
pub struct Traces(Arc<Shared>);

#[derive(Clone)]
struct Shared {
    tracer: Arc<BoxedTracer>,
    propagates: bool,
    has_keys: bool,
}

impl Traces {
    /// Spans go to the tracer of this provider.
    pub fn new(provider: &impl ObjectSafeTracerProvider) -> Self {
        Self::of(BoxedTracer::new(provider.boxed_tracer(scope())))
    }

    /// Spans go to the provider that the program has set ([`opentelemetry::global::set_tracer_provider`]) before this call.
    pub fn global() -> Self {
        Self::of(global::tracer_with_scope(scope()))
    }

    fn of(tracer: BoxedTracer) -> Self {
        Self(Arc::new(Shared { tracer: Arc::new(tracer), propagates: false, has_keys: false }))
    }

    /// Records that are created within a span carry its context and baggage in the headers `traceparent`, `tracestate` and `baggage` (W3C).
    /// Default off, because it makes records larger by some 70 bytes before compression. A record that has a `traceparent` keeps it.
    ///
    /// The context is the current one ([`Context::current`]) of the task that produces, so futures of the producer have to run
    /// [with it](opentelemetry::trace::FutureExt::with_context).
    pub fn propagating(self) -> Self {
        self.with(|shared| shared.propagates = true)
    }

    /// Spans of single records have the key (`messaging.kafka.message.key`), if it is text of at most 256 bytes. Default off, because keys
    /// may be personal.
    pub fn with_keys(self) -> Self {
        self.with(|shared| shared.has_keys = true)
    }

    fn with(self, change: impl FnOnce(&mut Shared)) -> Self {
        let mut shared = Arc::unwrap_or_clone(self.0);
        change(&mut shared);
        Self(Arc::new(shared))
    }

    /// For [`ClientBuilder::trace`](milena::ClientBuilder::trace).
    pub fn hooks(&self) -> Arc<dyn Hooks> {
        Arc::new(self.clone())
    }

    /// A span that is over.
    fn write(&self, operation: &Finished<'_>, attributes: Vec<KeyValue>, links: Vec<Link>, parent: &Context) {
        let Finished { operation: Operation { name, .. }, topic, began, ended, error } = *operation;
        let name = topic.map_or_else(|| name.to_owned(), |topic| format!("{name} {topic}"));
        let builder = SpanBuilder::from_name(name)
            .with_kind(SpanKind::Client)
            .with_start_time(began)
            .with_attributes(attributes)
            .with_links(links);
        let mut span = self.0.tracer.build_with_context(builder, parent);
        if let Some(error) = error {
            span.set_status(Status::error(error.to_owned()));
        }
        span.end_with_timestamp(ended);
    }
}

/// An operation that is over.
struct Finished<'a> {
    operation: Operation,
    topic: Option<&'a str>,
    began: SystemTime,
    ended: SystemTime,
    error: Option<&'a str>,
}

impl Hooks for Traces {
    fn created(&self, _: &Record<'_>) -> Option<TraceContext> {
        if self.0.propagates { Context::map_current(current) } else { None }
    }

    fn sent(&self, batch: &SettledBatch<'_>) {
        let error = batch.result.err();
        let mut attributes = Attributes::of(Operation::SEND, error.map(milena::Error::label));
        attributes.place(batch.topic, batch.partition);
        attributes.client(batch.client_id);
        attributes.count(u64::from(batch.records));
        if let Some((host, port)) = batch.broker {
            attributes.server(host, port);
        }
        if let (1, Ok(Some(offset))) = (batch.records, batch.result) {
            attributes.offset(offset);
        }
        let text = error.map(ToString::to_string);
        let finished = Finished {
            operation: Operation::SEND,
            topic: Some(batch.topic),
            began: batch.began,
            ended: batch.ended,
            error: text.as_deref(),
        };
        // The producer's task has no span of its own, and may have been started within that of whoever made the client.
        let parent = match batch.contexts {
            [only] => Context::new().with_remote_span_context(span_context(only)),
            _ => Context::new(),
        };
        self.write(&finished, attributes.list(), links(batch.contexts), &parent);
    }

    fn received(&self, received: &Received<'_>) {
        let batch = received.batch;
        let mut attributes = Attributes::of(Operation::POLL, None);
        attributes.place(batch.topic(), batch.partition());
        attributes.client(received.client_id);
        attributes.group(received.group);
        attributes.count(batch.record_count_max());
        if batch.record_count_max() == 1 {
            attributes.offset(batch.first_offset());
        }
        let mut contexts = Vec::new();
        for record in batch.try_iter().take(LINKS_MAX).map_while(Result::ok) {
            add(&mut contexts, TraceContext::of(&record));
        }
        let finished = Finished {
            operation: Operation::POLL,
            topic: Some(batch.topic()),
            began: received.arrived,
            ended: received.taken,
            error: None,
        };
        self.write(&finished, attributes.list(), links(&contexts), &Context::new());
    }

    fn committed(&self, commit: &Commit<'_>) {
        let mut attributes = Attributes::of(Operation::COMMIT, commit.error);
        attributes.client(commit.client_id);
        attributes.group(Some(commit.group));
        let topic = commit.offsets.first().map(|(topic, ..)| &**topic);
        let topic = topic.filter(|topic| commit.offsets.iter().all(|(other, ..)| **other == **topic));
        match (topic, commit.offsets) {
            (Some(_), [(topic, partition, offset)]) => {
                attributes.place(topic, *partition);
                attributes.offset(*offset);
            }
            (Some(topic), _) => attributes.topic(topic),
            (None, _) => {}
        }
        let (operation, began, ended) = (Operation::COMMIT, commit.began, commit.ended);
        let finished = Finished { operation, topic, began, ended, error: commit.error };
        self.write(&finished, attributes.list(), Vec::new(), &Context::new());
    }
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { propagates, has_keys, .. } = &*self.0;
        f.debug_struct("Traces")
            .field("propagates", propagates)
            .field("has_keys", has_keys)
            .finish_non_exhaustive()
    }
}

/// A span has at most this many links, the default limit of OpenTelemetry's SDKs.
const LINKS_MAX: usize = 128;

/// Adds a context that is not there yet.
fn add(contexts: &mut Vec<TraceContext>, context: Option<TraceContext>) {
    let Some(context) = context else { return };
    if contexts.last() != Some(&context) && contexts.len() < LINKS_MAX && !contexts.contains(&context) {
        contexts.push(context);
    }
}

fn links(contexts: &[TraceContext]) -> Vec<Link> {
    contexts.iter().map(|context| Link::with_context(span_context(context))).collect()
}

fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("milena")
        .with_version(env!("CARGO_PKG_VERSION"))
        .with_schema_url("https://opentelemetry.io/schemas/1.44.0")
        .build()
}
