//! What a worker is told: commands from other tasks, and which of its futures can go on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

/// Filled by other tasks, emptied by the worker in one go.
#[derive(Debug)]
pub(crate) struct Inbox<C>(Mutex<Inner<C>>);

#[derive(Debug)]
struct Inner<C> {
    commands: Vec<C>,
    ready: Vec<usize>,
    /// The worker's task, while it sleeps.
    worker: Option<Waker>,
    is_closed: bool,
}

impl<C> Inbox<C> {
    pub(crate) fn new() -> Self {
        let inner = Inner { commands: Vec::new(), ready: Vec::new(), worker: None, is_closed: false };
        Self(Mutex::new(inner))
    }

    /// Gives the worker a command. If the worker has ended, the command is dropped.
    pub(crate) fn push(&self, command: C) {
        let mut inner = self.inner();
        if inner.is_closed {
            return;
        }
        inner.commands.push(command);
        wake(inner);
    }

    /// Moves what has come to the worker. If nothing has, `waker` is woken when something comes.
    pub(super) fn take(&self, commands: &mut Vec<C>, ready: &mut Vec<usize>, waker: &Waker) {
        let mut inner = self.inner();
        commands.append(&mut inner.commands);
        ready.append(&mut inner.ready);
        if inner.worker.as_ref().is_none_or(|known| !known.will_wake(waker)) {
            inner.worker = Some(waker.clone());
        }
    }

    /// No command is taken any more, and those that were not are dropped.
    pub(super) fn close(&self) {
        let dropped = {
            let mut inner = self.inner();
            inner.is_closed = true;
            inner.worker = None;
            std::mem::take(&mut inner.commands)
        };
        drop(dropped);
    }

    fn inner(&self) -> MutexGuard<'_, Inner<C>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake<C>(inner: MutexGuard<'_, Inner<C>>) {
    let worker = inner.worker.clone();
    drop(inner);
    if let Some(worker) = worker {
        worker.wake();
    }
}

/// Wakes the worker for one of its futures.
#[derive(Debug)]
pub(super) struct SlotWaker<C> {
    pub(super) slot: usize,
    /// Whether the inbox has the slot already.
    pub(super) is_listed: AtomicBool,
    pub(super) inbox: Arc<Inbox<C>>,
}

impl<C: Send + 'static> Wake for SlotWaker<C> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_listed.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut inner = self.inbox.inner();
        inner.ready.push(self.slot);
        wake(inner);
    }
}
