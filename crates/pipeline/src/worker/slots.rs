//! The places of a worker's futures. They are allocated once and used again, so that a record costs no allocation.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use super::inbox::{Inbox, SlotWaker};
use crate::Failure;
use crate::schedule::JobId;

pub(super) struct Slots<F, C> {
    slots: Vec<Slot<F, C>>,
    free: Vec<usize>,
    inbox: Arc<Inbox<C>>,
}

struct Slot<F, C> {
    future: Pin<Box<Option<F>>>,
    /// The job whose future is here, once its first poll was pending.
    job: Option<JobId>,
    state: Arc<SlotWaker<C>>,
    waker: Waker,
}

impl<F, C> Slots<F, C>
where
    F: Future<Output = Result<(), Failure>>,
    C: Send + 'static,
{
    pub(super) fn new(inbox: Arc<Inbox<C>>) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), inbox }
    }

    /// Calls a handler and looks at its future once. If that is pending, it stays in a slot, whose number is the answer.
    pub(super) fn start(&mut self, call: impl FnOnce() -> F) -> Result<Result<(), Failure>, usize> {
        let index = self.free.pop().unwrap_or_else(|| {
            let index = self.slots.len();
            let state =
                SlotWaker { slot: index, is_listed: AtomicBool::new(false), inbox: Arc::clone(&self.inbox) };
            let state = Arc::new(state);
            let waker = Waker::from(Arc::clone(&state));
            self.slots.push(Slot { future: Box::pin(None), job: None, state, waker });
            index
        });
        let slot = &mut self.slots[index];
        match catch_unwind(AssertUnwindSafe(call)) {
            Ok(future) => slot.future.set(Some(future)),
            Err(panic) => {
                self.free.push(index);
                return Ok(Err(panicked(&*panic)));
            }
        }
        match slot.poll() {
            Poll::Pending => Err(index),
            Poll::Ready(result) => {
                self.free.push(index);
                Ok(result)
            }
        }
    }

    /// The slot's future is that of this job.
    pub(super) fn assign(&mut self, index: usize, job: JobId) {
        self.slots[index].job = Some(job);
    }

    /// Looks at the future of a slot that was woken. None if it is pending, or there is none any more.
    pub(super) fn poll(&mut self, index: usize) -> Option<(JobId, Result<(), Failure>)> {
        let slot = self.slots.get_mut(index)?;
        // A swap, so that it is ordered with those of wakers: one that finds the slot listed has written before this what the future
        // looks at now. After a store the future could miss it, and the wake-up would be lost.
        slot.state.is_listed.swap(false, Ordering::AcqRel);
        let job = slot.job?;
        let Poll::Ready(result) = slot.poll() else { return None };
        slot.job = None;
        self.free.push(index);
        Some((job, result))
    }

    /// Drops the future of a slot.
    pub(super) fn cancel(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        if slot.job.take().is_some() {
            slot.clear();
            self.free.push(index);
        }
    }
}

impl<F: Future<Output = Result<(), Failure>>, C> Slot<F, C> {
    fn poll(&mut self) -> Poll<Result<(), Failure>> {
        let Some(future) = self.future.as_mut().as_pin_mut() else { return Poll::Pending };
        let mut context = Context::from_waker(&self.waker);
        // What a handler leaves half done in what it shares with others is its own: as in a task of its own.
        let result = match catch_unwind(AssertUnwindSafe(|| future.poll(&mut context))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(result)) => result,
            Err(panic) => Err(panicked(&*panic)),
        };
        self.clear();
        Poll::Ready(result)
    }

    fn clear(&mut self) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.future.set(None))) {
            tracing::error!(target: "milena", "a handler panicked while it was dropped: {}", text_of(&*panic));
        }
    }
}

/// A handler that panicked has failed like one that returns an error.
#[derive(Debug)]
pub(crate) struct Panicked(String);

impl std::fmt::Display for Panicked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the handler panicked: {}", self.0)
    }
}

impl std::error::Error for Panicked {}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Failure {
    Failure::retriable(Panicked(text_of(panic).to_owned()))
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a text")
}
