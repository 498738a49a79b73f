//! Spans of processing: around a record, a batch, or the calls of a handler.

use std::fmt::Display;
use std::marker::PhantomData;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use milena::trace::TraceContext;
use milena::{Batch, RecordView, SharedRecord};
use opentelemetry::trace::{
    FutureExt as _, SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer as _, WithContext,
};
use opentelemetry::{Context, KeyValue};
use tower_layer::Layer;
use tower_service::Service;

use super::attributes::{Attributes, Operation};
use super::{LINKS_MAX, Traces, add, links, remote};

impl Traces {
    /// A span `process TOPIC` of one record, as a context to [attach](Context::attach) or to run a future
    /// [with](opentelemetry::trace::FutureExt::with_context). It is a child of the span in which the record was created, with its
    /// baggage, or of the current span if the record carries no context. It ends when the context and its clones are dropped.
    pub fn process(&self, record: &RecordView<'_>) -> Context {
        self.process_of(std::slice::from_ref(record), None)
    }

    /// As [`process`](Self::process) for a batch that is processed as a whole: a child of the current span, with a link to each span in
    /// which one of its first 128 records was created.
    pub fn process_batch(&self, batch: &Batch) -> Context {
        let mut contexts = Vec::new();
        for record in batch.try_iter().take(LINKS_MAX).map_while(Result::ok) {
            add(&mut contexts, TraceContext::of(&record));
        }
        let mut attributes = Attributes::of(Operation::PROCESS, None);
        attributes.place(batch.topic(), batch.partition());
        attributes.count(batch.record_count_max());
        self.begin(batch.topic(), attributes, &contexts, &Context::current())
    }

    /// A layer that runs each call of a handler in a span as that of [`process`](Self::process), for [`tower`](https://docs.rs/tower)
    /// services of single records: those of a pipeline. A call that fails sets the span's status and `error.type`.
    ///
    /// ```
    /// use milena_otel::Traces;
    /// use milena_pipeline::{Failure, Record};
    /// use tower::{Layer as _, service_fn};
    ///
    /// let service = Traces::global().layer().group("billing").layer(service_fn(|record: Record| async move {
    ///     println!("{:?} is charged", record.key()); // within the span
    ///     Ok::<(), Failure>(())
    /// }));
    /// // Pipeline::new(client.consumer("billing").subscribe(["orders"])).run(service, shutdown)
    /// # fn is_handler(_: impl milena_pipeline::Handler<milena_pipeline::AsService>) {}
    /// # is_handler(service);
    /// ```
    pub fn layer(&self) -> Process<Single> {
        Process { traces: self.clone(), group: None, of: PhantomData }
    }

    /// As [`layer`](Self::layer), for handlers of groups of records: a call has one span as that of
    /// [`process_batch`](Self::process_batch).
    ///
    /// ```
    /// use milena_otel::Traces;
    /// use milena_pipeline::{Failure, Record};
    /// use tower::{Layer as _, service_fn};
    ///
    /// let service = Traces::global().group_layer().layer(service_fn(|records: Vec<Record>| async move {
    ///     println!("{} are charged", records.len());
    ///     Ok::<(), Failure>(())
    /// }));
    /// # fn is_handler(_: impl milena_pipeline::GroupHandler<milena_pipeline::AsService>) {}
    /// # is_handler(service);
    /// ```
    pub fn group_layer(&self) -> Process<Several> {
        Process { traces: self.clone(), group: None, of: PhantomData }
    }

    /// The span of records of one topic. There is at least one.
    fn process_of(&self, records: &[RecordView<'_>], group: Option<&str>) -> Context {
        let first = &records[0];
        let mut attributes = Attributes::of(Operation::PROCESS, None);
        attributes.place(first.topic(), first.partition());
        attributes.group(group);
        let mut contexts = Vec::new();
        let parent = match records {
            [only] => {
                attributes.record(only, self.0.has_keys);
                let (carried, parent) = remote(only).unzip();
                add(&mut contexts, carried);
                parent
            }
            several => {
                attributes.count(several.len() as u64);
                for record in several.iter().take(LINKS_MAX) {
                    add(&mut contexts, TraceContext::of(record));
                }
                None
            }
        };
        self.begin(first.topic(), attributes, &contexts, &parent.unwrap_or_else(Context::current))
    }

    fn begin(
        &self,
        topic: &str,
        attributes: Attributes,
        contexts: &[TraceContext],
        parent: &Context,
    ) -> Context {
        let builder = SpanBuilder::from_name(format!("{} {topic}", Operation::PROCESS.name))
            .with_kind(SpanKind::Consumer)
            .with_attributes(attributes.list())
            .with_links(links(contexts));
        parent.with_span(self.0.tracer.build_with_context(builder, parent))
    }
}

/// A handler is called with one record.
#[derive(Debug, Clone, Copy)]
pub enum Single {}

/// A handler is called with a group of records.
#[derive(Debug, Clone, Copy)]
pub enum Several {}

/// How the records are found in what a handler is called with.
pub trait Records<I> {
    /// Calls `with` with each of them.
    fn each(input: &I, with: &mut dyn FnMut(&SharedRecord));
}

impl<R: Deref<Target = SharedRecord>> Records<R> for Single {
    fn each(input: &R, with: &mut dyn FnMut(&SharedRecord)) {
        with(input);
    }
}

impl<R: Deref<Target = SharedRecord>> Records<Vec<R>> for Several {
    fn each(input: &Vec<R>, with: &mut dyn FnMut(&SharedRecord)) {
        input.iter().for_each(|record| with(record));
    }
}

/// The layer of [`Traces::layer`] and [`Traces::group_layer`].
#[derive(Debug, Clone)]
pub struct Process<M> {
    traces: Traces,
    group: Option<String>,
    of: PhantomData<fn(M)>,
}

impl<M> Process<M> {
    /// Spans say that the consumer is of this group (`messaging.consumer.group.name`). Default: they name none.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }
}

impl<S, M: Clone> Layer<S> for Process<M> {
    type Service = ProcessService<S, M>;

    fn layer(&self, inner: S) -> ProcessService<S, M> {
        ProcessService { inner, process: self.clone() }
    }
}

/// The service of [`Process`].
#[derive(Debug, Clone)]
pub struct ProcessService<S, M> {
    inner: S,
    process: Process<M>,
}

impl<S, I, M> Service<I> for ProcessService<S, M>
where
    S: Service<I>,
    S::Error: Display,
    M: Records<I>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ProcessFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, input: I) -> Self::Future {
        let mut records = Vec::new();
        M::each(&input, &mut |record| {
            if records.len() < LINKS_MAX {
                records.push(record.clone());
            }
        });
        let views: Vec<_> = records.iter().map(SharedRecord::view).collect();
        let Process { traces, group, .. } = &self.process;
        let span = match &views[..] {
            [] => Context::current(),
            views => traces.process_of(views, group.as_deref()),
        };
        // What a service does before it returns its future belongs to the call.
        let call = {
            let _active = span.clone().attach();
            self.inner.call(input)
        };
        ProcessFuture { call: call.with_context(span.clone()), span }
    }
}

pin_project_lite::pin_project! {
    /// A call within its span.
    #[derive(Debug)]
    pub struct ProcessFuture<F> {
        #[pin]
        call: WithContext<F>,
        span: Context,
    }
}

impl<F, T, E> Future for ProcessFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Display,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Result<T, E>> {
        let this = self.project();
        let result = ready!(this.call.poll(context));
        let span = this.span.span();
        if let Err(error) = &result {
            span.set_attribute(KeyValue::new("error.type", std::any::type_name::<E>()));
            span.set_status(Status::error(error.to_string()));
        }
        span.end();
        Poll::Ready(result)
    }
}
