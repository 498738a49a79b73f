//! Handlers that compute for long or block their thread.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::task::JoinHandle;
use tower_service::Service;

use super::Outcome;
use crate::{Failure, Record};

/// Makes a handler of a function that blocks or computes: each call runs on a thread of the runtime's pool for blocking work.
///
/// The thread cannot be stopped: if the partition is given up meanwhile, or the time limit has passed, the function goes on, and
/// what it returns counts no more. A function that may take long looks at [`Record::is_cancelled`].
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
pub fn blocking<F, O>(function: F) -> Blocking<F>
where
    F: Fn(Record) -> O + Clone + Send + 'static,
    O: Outcome + Send + 'static,
{
    Blocking(function)
}

/// A blocking function as a service; see [`blocking`].
#[derive(Debug, Clone)]
pub struct Blocking<F>(F);

impl<F, O> Service<Record> for Blocking<F>
where
    F: Fn(Record) -> O + Clone + Send + 'static,
    O: Outcome + Send + 'static,
{
    type Response = ();
    type Error = Failure;
    type Future = OnThread;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, record: Record) -> OnThread {
        let function = self.0.clone();
        OnThread(tokio::task::spawn_blocking(move || function(record).into_result()))
    }
}

/// A call that runs on another thread.
#[derive(Debug)]
pub struct OnThread(JoinHandle<Result<(), Failure>>);

impl Future for OnThread {
    type Output = Result<(), Failure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match ready!(Pin::new(&mut self.0).poll(context)) {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                // The worker makes a failure of it, as of a panic of an async handler.
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(error) => Err(Failure::retriable(error)),
            },
        })
    }
}
