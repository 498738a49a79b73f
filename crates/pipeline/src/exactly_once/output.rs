//! What handlers return that write: records, or none, or a failure.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use milena::Header;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::handler::{AsService, FromRecord, GroupService, RecordService};
use crate::{Failure, Record};

/// A record that a handler of [`Pipeline::run_to`](crate::Pipeline::run_to) writes.
///
/// ```
/// use milena_pipeline::Output;
///
/// let output = Output::new().key("42").value("charged").header("trace", "7f");
/// # let _ = output;
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use = "a record is written when the handler returns it"]
pub struct Output {
    pub(crate) topic: Option<String>,
    pub(crate) partition: Option<i32>,
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Output {
    /// A record without key, value (a tombstone) and headers, for the topic of the pipeline.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the key. Default: null.
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the value. Default: null.
    pub fn value(mut self, value: impl Into<Vec<u8>>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// Adds a header. Names may repeat, and the order is kept.
    pub fn header(mut self, name: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), Some(value.into())));
        self
    }

    /// Sets another topic than the pipeline's.
    pub fn to(mut self, topic: impl Into<String>) -> Self {
        self.topic = Some(topic.into());
        self
    }

    /// Sets the partition. Default: the key decides, or the producer if the key is null.
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Sets the timestamp, in milliseconds since the epoch. Default: the time when it is written.
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }

    /// A copy of a record that was to be produced.
    pub(crate) fn copy_of(record: &milena::Record<'_>) -> Self {
        let copied = |header: &Header<'_>| (header.key.to_vec(), header.value.map(<[u8]>::to_vec));
        Self {
            topic: Some(record.topic_name().to_owned()),
            partition: record.chosen_partition(),
            timestamp_ms: None,
            key: record.key_bytes().map(<[u8]>::to_vec),
            value: record.value_bytes().map(<[u8]>::to_vec),
            headers: record.header_slice().iter().map(copied).collect(),
        }
    }

    /// The headers as a record borrows them.
    pub(crate) fn borrowed_headers(&self) -> Vec<Header<'_>> {
        self.headers.iter().map(|(name, value)| Header { key: name, value: value.as_deref() }).collect()
    }

    /// The record, for `topic` unless it names another.
    pub(crate) fn record<'r>(&'r self, topic: &'r str, headers: &'r [Header<'r>]) -> milena::Record<'r> {
        let mut record = milena::Record::to(self.topic.as_deref().unwrap_or(topic))
            .key_or_null(self.key.as_deref())
            .value_or_null(self.value.as_deref())
            .headers(headers);
        if let Some(partition) = self.partition {
            record = record.partition(partition);
        }
        if let Some(timestamp_ms) = self.timestamp_ms {
            record = record.timestamp_ms(timestamp_ms);
        }
        record
    }

    /// About what it takes of the memory.
    pub(crate) fn bytes(&self) -> usize {
        let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + length(value) + 48).sum();
        size_of::<Self>()
            + self.topic.as_ref().map_or(0, String::len)
            + length(&self.key)
            + length(&self.value)
            + headers
    }
}

/// What a handler of [`Pipeline::run_to`](crate::Pipeline::run_to) may return: an [`Output`], `Option` or `Vec` of them, nothing,
/// or a `Result` of one of these, whose error converts into a [`Failure`].
pub trait Outputs {
    /// The records.
    ///
    /// # Errors
    /// What the handler says of a record that it could not process.
    fn into_outputs(self) -> Result<Vec<Output>, Failure>;
}

impl Outputs for () {
    fn into_outputs(self) -> Result<Vec<Output>, Failure> {
        Ok(Vec::new())
    }
}

impl Outputs for Output {
    fn into_outputs(self) -> Result<Vec<Output>, Failure> {
        Ok(vec![self])
    }
}

impl Outputs for Option<Output> {
    fn into_outputs(self) -> Result<Vec<Output>, Failure> {
        Ok(self.into_iter().collect())
    }
}

impl Outputs for Vec<Output> {
    fn into_outputs(self) -> Result<Vec<Output>, Failure> {
        Ok(self)
    }
}

impl<T: Outputs, E: Into<Failure>> Outputs for Result<T, E> {
    fn into_outputs(self) -> Result<Vec<Output>, Failure> {
        self.map_err(Into::into)?.into_outputs()
    }
}

/// What [`Pipeline::run_to`](crate::Pipeline::run_to) calls for each record.
///
/// These are handlers that write:
///
/// - An async function as a [`Handler`](crate::Handler) is one, that returns [`Outputs`].
/// - [`blocking`](crate::blocking) of a function that returns [`Outputs`].
/// - A `tower` service that takes a [`Record`] and answers with an [`Output`], or an `Option` or a `Vec` of them.
/// - [Layers](crate::layers) around the [`writer`] of one of these: what it writes counts if the layers around it succeed too.
///
/// A service that answers with nothing, and has no writer inside, writes nothing.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler that writes",
    note = "it is an async function of one to six arguments that are `FromRecord`, which returns `Outputs`: an `Output`, an \
            `Option` or a `Vec` of them, nothing, or a `Result` of one of these; `blocking(function)` of one that returns them; or a \
            `tower` service of `Record` that answers with them"
)]
pub trait Transform<M>: Sized {
    /// The service that it becomes.
    type Service: RecordService;

    /// Makes a service of it, which gives what the function returns to the pipeline.
    fn into_service(self) -> Self::Service;
}

/// What [`Pipeline::run_together_to`](crate::Pipeline::run_together_to) calls for each group of records: an async function of
/// `Vec<Record>` that returns [`Outputs`], [`blocking`](crate::blocking) of a function of `Vec<Record>` that does, or a `tower` service of
/// `Vec<Record>` that answers with them.
pub trait GroupTransform<M>: Sized {
    /// The service that it becomes.
    type Service: GroupService;

    /// Makes a service of it, which gives what the function returns to the pipeline.
    fn into_service(self) -> Self::Service;
}

/// Makes a `tower` service of a handler that writes, to put layers around it. It answers with nothing: what it writes goes to the
/// pipeline.
///
/// ```
/// use milena_pipeline::layers::Timeout;
/// use milena_pipeline::prelude::*;
/// use milena_pipeline::writer;
/// use tower::ServiceBuilder;
///
/// let handler = ServiceBuilder::new()
///     .layer(Timeout::new(2.s()))
///     .service(writer(async |Value(amount): Value<String>| Output::new().value(format!("{amount} EUR"))));
/// # let _ = handler;
/// ```
pub fn writer<M, H: Transform<M>>(handler: H) -> H::Service {
    handler.into_service()
}

/// Says that a handler is a service that answers with outputs. Only for type inference.
#[derive(Debug)]
pub enum AsWriter {}

/// What a service that writes answers with: not nothing, which may be that of layers around a [`writer`].
pub trait Written: Outputs {}

impl Written for Output {}
impl Written for Option<Output> {}
impl Written for Vec<Output> {}

/// What a handler is called with: a [`Record`], or a group of them.
pub trait Input: Clone + Send + 'static {
    /// The records.
    fn records(&self) -> &[Record];

    /// Gives what is written for it to the pipeline.
    ///
    /// # Errors
    /// When the pipeline writes nothing.
    fn emit(&self, outputs: Vec<Output>) -> Result<(), Failure>;
}

impl Input for Record {
    fn records(&self) -> &[Record] {
        std::slice::from_ref(self)
    }

    fn emit(&self, outputs: Vec<Output>) -> Result<(), Failure> {
        self.emit_up_to(self.offset(), outputs)
    }
}

impl Input for Vec<Record> {
    fn records(&self) -> &[Record] {
        self
    }

    fn emit(&self, outputs: Vec<Output>) -> Result<(), Failure> {
        let (Some(first), Some(last)) = (self.first(), self.last()) else { return Ok(()) };
        first.emit_up_to(last.offset(), outputs)
    }
}

/// A service that gives what another one answers with to the pipeline.
#[derive(Debug, Clone)]
pub struct Emitting<S>(S);

impl<T, S> Service<T> for Emitting<S>
where
    T: Input,
    S: Service<T, Response: Outputs, Error: Into<Failure>>,
{
    type Response = ();
    type Error = Failure;
    type Future = Call<S::Future, T>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.0.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, input: T) -> Self::Future {
        Call::Called { future: self.0.call(input.clone()), input }
    }
}

impl<S> Transform<AsWriter> for S
where
    S: Service<Record, Response: Written, Error: Into<Failure>, Future: Send + 'static>
        + Clone
        + Send
        + 'static,
{
    type Service = Emitting<S>;

    fn into_service(self) -> Emitting<S> {
        Emitting(self)
    }
}

impl<S: RecordService> Transform<AsService> for S {
    type Service = S;

    fn into_service(self) -> S {
        self
    }
}

impl<S> GroupTransform<AsWriter> for S
where
    S: Service<Vec<Record>, Response: Written, Error: Into<Failure>, Future: Send + 'static>
        + Clone
        + Send
        + 'static,
{
    type Service = Emitting<S>;

    fn into_service(self) -> Emitting<S> {
        Emitting(self)
    }
}

impl<S: GroupService> GroupTransform<AsService> for S {
    type Service = S;

    fn into_service(self) -> S {
        self
    }
}

impl<F, R> GroupTransform<(Vec<Record>,)> for F
where
    F: Fn(Vec<Record>) -> R + Clone + Send + 'static,
    R: Future<Output: Outputs> + Send + 'static,
{
    type Service = Writing<F, Vec<Record>>;

    fn into_service(self) -> Self::Service {
        Writing { function: self, arguments: std::marker::PhantomData }
    }
}

impl<F, R> Service<Vec<Record>> for Writing<F, Vec<Record>>
where
    F: Fn(Vec<Record>) -> R + Clone + Send + 'static,
    R: Future<Output: Outputs> + Send + 'static,
{
    type Response = ();
    type Error = Failure;
    type Future = Call<R, Vec<Record>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, records: Vec<Record>) -> Self::Future {
        Call::Called { future: (self.function)(records.clone()), input: records }
    }
}

/// An async function that writes, as a service.
#[derive(Debug)]
pub struct Writing<F, M> {
    function: F,
    arguments: std::marker::PhantomData<fn() -> M>,
}

impl<F: Clone, M> Clone for Writing<F, M> {
    fn clone(&self) -> Self {
        Self { function: self.function.clone(), arguments: std::marker::PhantomData }
    }
}

pin_project! {
    /// A call of an async function that writes.
    #[project = CallOf]
    #[derive(Debug)]
    pub enum Call<R, T> {
        /// An argument could not be taken from the record.
        Refused { failure: Option<Failure> },
        /// The function runs.
        Called { input: T, #[pin] future: R },
    }
}

impl<R: Future<Output: Outputs>, T: Input> Future for Call<R, T> {
    type Output = Result<(), Failure>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            CallOf::Refused { failure } => Poll::Ready(failure.take().map_or(Ok(()), Err)),
            CallOf::Called { input, future } => {
                let outputs = ready!(future.poll(context)).into_outputs()?;
                Poll::Ready(input.emit(outputs))
            }
        }
    }
}

macro_rules! functions {
    ($($argument:ident),*) => {
        impl<F, R, $($argument),*> Transform<($($argument,)*)> for F
        where
            F: Fn($($argument),*) -> R + Clone + Send + 'static,
            R: Future<Output: Outputs> + Send + 'static,
            $($argument: FromRecord + 'static,)*
        {
            type Service = Writing<F, ($($argument,)*)>;

            fn into_service(self) -> Self::Service {
                Writing { function: self, arguments: std::marker::PhantomData }
            }
        }

        impl<F, R, $($argument),*> Service<Record> for Writing<F, ($($argument,)*)>
        where
            F: Fn($($argument),*) -> R + Clone + Send + 'static,
            R: Future<Output: Outputs> + Send + 'static,
            $($argument: FromRecord + 'static,)*
        {
            type Response = ();
            type Error = Failure;
            type Future = Call<R, Record>;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
                Poll::Ready(Ok(()))
            }

            #[allow(non_snake_case, reason = "the arguments are named as their types")]
            fn call(&mut self, record: Record) -> Call<R, Record> {
                $(let $argument = match $argument::from_record(&record) {
                    Ok(argument) => argument,
                    Err(failure) => return Call::Refused { failure: Some(failure) },
                };)*
                Call::Called { future: (self.function)($($argument),*), input: record }
            }
        }
    };
}

functions!(A);
functions!(A, B);
functions!(A, B, C);
functions!(A, B, C, D);
functions!(A, B, C, D, E);
functions!(A, B, C, D, E, G);
