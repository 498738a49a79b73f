//! What a program wants to run when a member's partitions change.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use super::handle::ConsumerHandle;
use crate::runtime::Executor;

/// Partitions, as hooks get them.
pub(super) type Partitions = Vec<(String, i32)>;
type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A callback of the program's.
#[derive(Clone)]
pub(super) struct Hook(Arc<dyn Fn(Partitions, ConsumerHandle) -> Running + Send + Sync>);

/// The callbacks of a member, each of which may be absent.
#[derive(Clone, Debug, Default)]
pub(super) struct Hooks {
    pub(super) assigned: Option<Hook>,
    pub(super) revoked: Option<Hook>,
    pub(super) lost: Option<Hook>,
}

/// Whether a hook has finished, one way or the other.
#[derive(Clone)]
pub(super) struct Run(Arc<AtomicBool>);

impl Run {
    pub(super) fn is_finished(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Tells that a hook has finished when it is dropped: also if the hook panics.
struct Finish(Arc<AtomicBool>, Arc<Notify>);

impl Drop for Finish {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
        self.1.notify_one();
    }
}

impl Hook {
    pub(super) fn new<F, R>(hook: F) -> Self
    where
        F: Fn(Partitions, ConsumerHandle) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        Self(Arc::new(move |partitions, handle| Box::pin(hook(partitions, handle))))
    }

    /// Runs the hook in a task of its own, because it is the program's and may take long: heartbeats go on meanwhile. `driver`
    /// is told when it has finished.
    pub(super) fn run(
        &self,
        partitions: Partitions,
        handle: ConsumerHandle,
        runtime: &Executor,
        driver: &Arc<Notify>,
    ) -> Run {
        let finished = Arc::new(AtomicBool::new(false));
        let finish = Finish(Arc::clone(&finished), Arc::clone(driver));
        let hook = self.clone();
        runtime.spawn(async move {
            let _finish = finish;
            (hook.0)(partitions, handle).await;
        });
        Run(finished)
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}
