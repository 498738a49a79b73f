//! Handlers that compute for long or block their thread.

use std::hash::BuildHasher;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use rustc_hash::{FxBuildHasher, FxHashMap};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use super::Answer;
use crate::Failure;
use crate::exactly_once::Input;
use crate::record::Record;

/// Makes a handler of a function that blocks or computes: each call runs on a thread of the runtime's pool for blocking work.
///
/// The thread cannot be stopped: if the partition is given up meanwhile, or the time limit has passed, the function goes on, and
/// what it returns counts no more. A function that may take long looks at [`Record::is_cancelled`]. The next attempt at the same record
/// waits until it has ended, so that it never runs twice at the same time in this pipeline; the time limit of that attempt counts
/// meanwhile. Another member of the group cannot know of it.
///
/// ```
/// use milena_pipeline::{Failure, Record, blocking};
///
/// let handler = blocking(|record: Record| -> Result<(), Failure> {
///     let sum: u64 = record.value().unwrap_or_default().iter().map(|byte| u64::from(*byte)).sum();
///     println!("{sum}");
///     Ok(())
/// });
/// milena_pipeline::service(handler);
/// ```
///
/// The argument is a [`Record`], or for [`Pipeline::run_together`](crate::Pipeline::run_together) a `Vec` of them.
///
/// With [`Pipeline::run_to`](crate::Pipeline::run_to) the function returns an [`Output`](crate::Output), or an `Option` or a `Vec` of them.
pub fn blocking<F, I, O>(function: F) -> Blocking<F>
where
    F: Fn(I) -> O + Clone + Send + 'static,
    I: Input,
    O: Answer,
{
    Blocking { function, runs: Arc::default() }
}

/// A blocking function as a service; see [`blocking`].
#[derive(Debug, Clone)]
pub struct Blocking<F> {
    function: F,
    /// All workers have the same: a partition may come back to another one.
    runs: Arc<Runs>,
}

impl<F, I, O> Service<I> for Blocking<F>
where
    F: Fn(I) -> O + Clone + Send + 'static,
    I: Input,
    O: Answer,
{
    type Response = O::Response;
    type Error = Failure;
    type Future = OnThread<O::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    #[allow(clippy::async_yields_async, reason = "the call is awaited, or ended, in the next state")]
    fn call(&mut self, input: I) -> Self::Future {
        let function = self.function.clone();
        let begin = move |input: I, run: Run| {
            tokio::task::spawn_blocking(move || {
                let _run = run;
                function(input).into_answer()
            })
        };
        match Run::begin(&self.runs, input.records()) {
            Ok(run) => OnThread::Runs(begin(input, run)),
            Err(mut ended) => {
                let runs = Arc::clone(&self.runs);
                OnThread::Waits(Box::pin(async move {
                    loop {
                        ended.cancelled().await;
                        match Run::begin(&runs, input.records()) {
                            Ok(run) => return begin(input, run),
                            Err(another) => ended = another,
                        }
                    }
                }))
            }
        }
    }
}

/// The calls that are on a thread, also those whose outcome counts no more, and what tells that they have ended.
#[derive(Debug, Default)]
struct Runs(Mutex<FxHashMap<Place, CancellationToken>>);

/// A record's topic as a number, its partition and its offset: where it was before it went through retry topics, whose copy is the
/// same record. Two topics with the same number would wait for each other.
type Place = (u64, i32, i64);

impl Runs {
    fn inner(&self) -> MutexGuard<'_, FxHashMap<Place, CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While it exists, no other call with one of its records begins.
#[derive(Debug)]
struct Run {
    runs: Arc<Runs>,
    places: Vec<Place>,
}

impl Run {
    /// # Errors
    /// Fires when the call has ended that there is.
    fn begin(runs: &Arc<Runs>, records: &[Record]) -> Result<Self, CancellationToken> {
        let place = |record: &Record| {
            let origin = record.origin();
            (FxBuildHasher.hash_one(origin.topic), origin.partition, origin.offset)
        };
        let places: Vec<Place> = records.iter().map(place).collect();
        let mut inner = runs.inner();
        if let Some(ended) = places.iter().find_map(|place| inner.get(place)) {
            return Err(ended.clone());
        }
        let ended = CancellationToken::new();
        inner.extend(places.iter().map(|place| (*place, ended.clone())));
        Ok(Self { runs: Arc::clone(runs), places })
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let ended = {
            let mut inner = self.runs.inner();
            self.places.iter().filter_map(|place| inner.remove(place)).last()
        };
        if let Some(ended) = ended {
            ended.cancel();
        }
    }
}

type Call<T> = JoinHandle<Result<T, Failure>>;

/// A call that runs on another thread.
pub enum OnThread<T> {
    /// It runs, or waits for a thread.
    Runs(Call<T>),
    /// An earlier call with the same record has not ended.
    Waits(Pin<Box<dyn Future<Output = Call<T>> + Send>>),
}

impl<T> Future for OnThread<T> {
    type Output = Result<T, Failure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match &mut *self {
                Self::Waits(waits) => {
                    let call = ready!(waits.as_mut().poll(context));
                    *self = Self::Runs(call);
                }
                Self::Runs(call) => {
                    return Poll::Ready(match ready!(Pin::new(call).poll(context)) {
                        Ok(result) => result,
                        Err(error) => match error.try_into_panic() {
                            // The worker makes a failure of it, as of a panic of an async handler.
                            Ok(panic) => std::panic::resume_unwind(panic),
                            Err(error) => Err(Failure::retriable(error)),
                        },
                    });
                }
            }
        }
    }
}

/// A call that has no thread yet does not begin.
impl<T> Drop for OnThread<T> {
    fn drop(&mut self) {
        if let Self::Runs(call) = self {
            call.abort();
        }
    }
}

impl<T> std::fmt::Debug for OnThread<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Runs(_) => "OnThread::Runs",
            Self::Waits(_) => "OnThread::Waits",
        })
    }
}
