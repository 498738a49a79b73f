//! The tokio runtime that a client lives on. Its futures may be awaited elsewhere; their timers and tasks are here.

use std::future::poll_fn;

use milena_core::Failure;
use tokio::runtime::Handle;

/// The runtime that a client was connected on.
#[derive(Debug, Clone)]
pub(crate) struct Runtime(Handle);

impl Runtime {
    /// The one that the caller runs on.
    ///
    /// # Errors
    /// When there is none: tokio would panic at the first timer.
    pub(crate) fn current() -> Result<Self, Failure> {
        let no_runtime =
            "this thread is on no tokio runtime: connect within one, with time and I/O enabled, and keep it";
        Handle::try_current().map(Self).map_err(|_| Failure::Caller(no_runtime.into()))
    }

    /// Starts a task on the client's runtime, whatever runtime the caller is on. This is for tasks that all users of the
    /// client share: on the runtime of the caller who needs one first, it would end with that runtime.
    pub(crate) fn spawn_here(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.0.spawn(task));
    }

    /// Starts a task: where the caller runs, or here if that is no tokio runtime.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(Handle::try_current().unwrap_or_else(|_| self.0.clone()).spawn(task));
    }

    /// Makes a timer or a task, which is here where the caller is on no tokio runtime.
    pub(crate) fn entered<T>(&self, make: impl FnOnce() -> T) -> T {
        let _entered = Handle::try_current().is_err().then(|| self.0.enter());
        make()
    }

    /// Waits for `future`, whose timers and tasks are here where the caller is on no tokio runtime. It is for what is
    /// rare: the future is kept on the heap, so that those it is part of stay small.
    pub(crate) fn within<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<'_, F> {
        let mut future = Box::pin(future);
        poll_fn(move |cx| self.entered(|| future.as_mut().poll(cx)))
    }
}
