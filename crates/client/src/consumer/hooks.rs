//! What a program wants to run when a member's partitions change.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Notify, oneshot};

use super::handle::ConsumerHandle;
use crate::runtime::Executor;

/// Partitions, as hooks get them.
pub(super) type Partitions = Vec<(String, i32)>;
type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A callback of the program's.
#[derive(Clone)]
pub(super) struct Hook(Arc<dyn Fn(Partitions, ConsumerHandle) -> Running + Send + Sync>);

/// The callbacks of a member, each of which may be absent.
#[derive(Debug, Default)]
pub(super) struct Hooks {
    pub(super) assigned: Option<Hook>,
    pub(super) revoked: Option<Hook>,
    pub(super) lost: Option<Hook>,
    /// Ends when the last one that was called has finished.
    last: Option<oneshot::Receiver<()>>,
}

/// Which callback is called.
#[derive(Debug, Clone, Copy)]
pub(super) enum Occasion {
    Assigned,
    Revoked,
    Lost,
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
    /// Adds a callback. It runs after the one that is there.
    pub(super) fn add<F, R>(to: &mut Option<Self>, hook: F)
    where
        F: Fn(Partitions, ConsumerHandle) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let Some(Self(first)) = to.take() else {
            *to = Some(Self(Arc::new(move |partitions, handle| Box::pin(hook(partitions, handle)))));
            return;
        };
        let then = Arc::new(hook);
        *to = Some(Self(Arc::new(move |partitions, handle| {
            let (before, then) = (first(partitions.clone(), handle.clone()), Arc::clone(&then));
            Box::pin(async move {
                before.await;
                then(partitions, handle).await;
            })
        })));
    }
}

impl Hooks {
    /// Runs a hook in a task of its own, because it is the program's and may take long: heartbeats go on meanwhile. It begins when
    /// the one before it has finished, so that a program which opens something for a partition has done so before it is to close
    /// it. `driver` is told when it has finished. None if there is no such hook.
    pub(super) fn run(
        &mut self,
        occasion: Occasion,
        partitions: Partitions,
        handle: ConsumerHandle,
        runtime: &Executor,
        driver: &Arc<Notify>,
    ) -> Option<Run> {
        let hook = match occasion {
            Occasion::Assigned => &self.assigned,
            Occasion::Revoked => &self.revoked,
            Occasion::Lost => &self.lost,
        };
        let hook = hook.clone()?;
        let finished = Arc::new(AtomicBool::new(false));
        let finish = Finish(Arc::clone(&finished), Arc::clone(driver));
        let (ended, end) = oneshot::channel::<()>();
        let before = self.last.replace(end);
        runtime.spawn(async move {
            let _ended = ended;
            let _finish = finish;
            if let Some(before) = before {
                // It ends with an error when the hook has finished, or has panicked.
                let _ = before.await;
            }
            (hook.0)(partitions, handle).await;
        });
        Some(Run(finished))
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}
