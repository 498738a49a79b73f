//! What a pipeline calls for each record: an async function with extractors, a blocking function, or a `tower` service.
//!
//! The engine knows only services. An async function becomes one whose future first takes from the record what the function's
//! arguments ask for.

mod blocking;
mod extract;

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower_service::Service;

pub use self::blocking::{Blocking, blocking};
pub use self::extract::{Attempt, FromBytes, FromRecord, Headers, Json, Key, Value};
use crate::exactly_once::Output;
use crate::{Failure, Record};

/// What [`Pipeline::run`](crate::Pipeline::run) calls for each record.
///
/// These are handlers:
///
/// - An async function or closure of one to six arguments, each of which is taken from the record ([`FromRecord`]). It returns
///   nothing, or a `Result<(), E>` whose error converts into a [`Failure`], as every error does.
/// - [`blocking`] of a function that computes or blocks.
/// - A [`tower` service](https://docs.rs/tower-service) that takes a [`Record`], answers with nothing and fails with a [`Failure`],
///   for example one of the [`layers`](crate::layers) around [`service`] of a function.
///
/// A handler is cloned for each worker.
///
/// ```
/// use milena_pipeline::{Attempt, Failure, Json, Key, Record};
///
/// #[derive(serde::Deserialize)]
/// struct Order {
///     amount: u32,
/// }
///
/// async fn plain(record: Record) {
///     println!("{:?}", record.value());
/// }
/// async fn typed(Key(customer): Key<String>, Json(order): Json<Order>, Attempt(attempt): Attempt) -> Result<(), Failure> {
///     println!("{customer} pays {}, attempt {attempt}", order.amount);
///     Ok(())
/// }
/// milena_pipeline::service(plain);
/// milena_pipeline::service(typed);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    note = "a handler is an async function of one to six arguments that are `FromRecord`, which returns nothing or a \
            `Result<(), E>`; `blocking(function)`; or a `tower` service of `Record`"
)]
pub trait Handler<M>: Sized {
    /// The service that it becomes.
    type Service: RecordService;

    /// Makes a service of it.
    fn into_service(self) -> Self::Service;
}

/// A `tower` service that processes records. It has no methods of its own: what can be a handler as a service has it.
pub trait RecordService:
    Service<Record, Response = (), Error = Failure, Future: Send + 'static> + Clone + Send + 'static
{
}

impl<S> RecordService for S where
    S: Service<Record, Response = (), Error = Failure, Future: Send + 'static> + Clone + Send + 'static
{
}

/// What [`Pipeline::run_together`](crate::Pipeline::run_together) calls for each group of records: an async function of
/// `Vec<Record>` that returns what a [`Handler`] returns, [`blocking`] of a function of `Vec<Record>`, or a `tower` service of
/// `Vec<Record>`.
pub trait GroupHandler<M>: Sized {
    /// The service that it becomes.
    type Service: GroupService;

    /// Makes a service of it.
    fn into_service(self) -> Self::Service;
}

/// A `tower` service that processes groups of records, as [`RecordService`] does single ones.
pub trait GroupService:
    Service<Vec<Record>, Response = (), Error = Failure, Future: Send + 'static> + Clone + Send + 'static
{
}

impl<S> GroupService for S where
    S: Service<Vec<Record>, Response = (), Error = Failure, Future: Send + 'static> + Clone + Send + 'static
{
}

impl<S: GroupService> GroupHandler<AsService> for S {
    type Service = S;

    fn into_service(self) -> S {
        self
    }
}

impl<F, R> GroupHandler<(Vec<Record>,)> for F
where
    F: Fn(Vec<Record>) -> R + Clone + Send + 'static,
    R: Future<Output: Outcome> + Send + 'static,
{
    type Service = Function<F, Vec<Record>>;

    fn into_service(self) -> Self::Service {
        Function { function: self, arguments: std::marker::PhantomData }
    }
}

impl<F, R> Service<Vec<Record>> for Function<F, Vec<Record>>
where
    F: Fn(Vec<Record>) -> R + Clone + Send + 'static,
    R: Future<Output: Outcome> + Send + 'static,
{
    type Response = ();
    type Error = Failure;
    type Future = Running<R>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, records: Vec<Record>) -> Running<R> {
        Running::Called { future: (self.function)(records) }
    }
}

/// Makes a `tower` service of a handler, to put layers around it.
pub fn service<M, H: Handler<M>>(handler: H) -> H::Service {
    handler.into_service()
}

/// What a handler may return.
pub trait Outcome {
    /// The result.
    ///
    /// # Errors
    /// What the handler says of a record that it could not process.
    fn into_result(self) -> Result<(), Failure>;
}

impl Outcome for () {
    fn into_result(self) -> Result<(), Failure> {
        Ok(())
    }
}

impl Outcome for Infallible {
    fn into_result(self) -> Result<(), Failure> {
        match self {}
    }
}

impl<E: Into<Failure>> Outcome for Result<(), E> {
    fn into_result(self) -> Result<(), Failure> {
        self.map_err(Into::into)
    }
}

/// What a [`blocking`] function may return: nothing, or what [`Pipeline::run_to`](crate::Pipeline::run_to) writes, an
/// [`Output`](crate::Output), an `Option` or a `Vec` of them; or a `Result` of one of these, whose error converts into a
/// [`Failure`].
pub trait Answer: Send + 'static {
    /// What the service answers with.
    type Response: Send + 'static;

    /// The result.
    ///
    /// # Errors
    /// What the handler says of a record that it could not process.
    fn into_answer(self) -> Result<Self::Response, Failure>;
}

macro_rules! answers {
    ($($type:ty),*) => {
        $(impl Answer for $type {
            type Response = Self;

            fn into_answer(self) -> Result<Self, Failure> {
                Ok(self)
            }
        })*
    };
}

answers!((), Output, Option<Output>, Vec<Output>);

impl Answer for Infallible {
    type Response = ();

    fn into_answer(self) -> Result<(), Failure> {
        match self {}
    }
}

impl<T: Answer, E: Into<Failure> + Send + 'static> Answer for Result<T, E> {
    type Response = T::Response;

    fn into_answer(self) -> Result<T::Response, Failure> {
        self.map_err(Into::into)?.into_answer()
    }
}

/// Says that a handler is a service. Only for type inference.
#[derive(Debug)]
pub enum AsService {}

impl<S: RecordService> Handler<AsService> for S {
    type Service = S;

    fn into_service(self) -> S {
        self
    }
}

/// An async function as a service.
#[derive(Debug)]
pub struct Function<F, M> {
    function: F,
    arguments: std::marker::PhantomData<fn() -> M>,
}

impl<F: Clone, M> Clone for Function<F, M> {
    fn clone(&self) -> Self {
        Self { function: self.function.clone(), arguments: std::marker::PhantomData }
    }
}

pin_project! {
    /// A call of an async function.
    #[project = RunningOf]
    #[derive(Debug)]
    pub enum Running<R> {
        /// An argument could not be taken from the record.
        Refused { failure: Option<Failure> },
        /// The function runs.
        Called { #[pin] future: R },
    }
}

impl<R: Future<Output: Outcome>> Future for Running<R> {
    type Output = Result<(), Failure>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            RunningOf::Refused { failure } => Poll::Ready(failure.take().map_or(Ok(()), Err)),
            RunningOf::Called { future } => Poll::Ready(ready!(future.poll(context)).into_result()),
        }
    }
}

/// A function whose arguments before the last one borrow the record, which the last one may keep.
macro_rules! functions {
    ($($argument:ident,)* [$last:ident]) => {
        impl<F, R, $($argument,)* $last> Handler<($($argument,)* $last,)> for F
        where
            F: Fn($($argument,)* $last) -> R + Clone + Send + 'static,
            R: Future<Output: Outcome> + Send + 'static,
            $($argument: FromRecord + 'static,)*
            $last: FromRecord + 'static,
        {
            type Service = Function<F, ($($argument,)* $last,)>;

            fn into_service(self) -> Self::Service {
                Function { function: self, arguments: std::marker::PhantomData }
            }
        }

        impl<F, R, $($argument,)* $last> Service<Record> for Function<F, ($($argument,)* $last,)>
        where
            F: Fn($($argument,)* $last) -> R + Clone + Send + 'static,
            R: Future<Output: Outcome> + Send + 'static,
            $($argument: FromRecord + 'static,)*
            $last: FromRecord + 'static,
        {
            type Response = ();
            type Error = Failure;
            type Future = Running<R>;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
                Poll::Ready(Ok(()))
            }

            #[allow(non_snake_case, reason = "arguments are named as their types")]
            fn call(&mut self, record: Record) -> Running<R> {
                $(let $argument = match $argument::from_record(&record) {
                    Ok(argument) => argument,
                    Err(failure) => return Running::Refused { failure: Some(failure) },
                };)*
                match $last::from_last(record) {
                    Ok(last) => Running::Called { future: (self.function)($($argument,)* last) },
                    Err(failure) => Running::Refused { failure: Some(failure) },
                }
            }
        }
    };
}

functions!([A]);
functions!(A, [B]);
functions!(A, B, [C]);
functions!(A, B, C, [D]);
functions!(A, B, C, D, [E]);
functions!(A, B, C, D, E, [G]);
