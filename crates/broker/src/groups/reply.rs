//! A reply that comes later: the parked request waits for it, and the coordinator keeps the other end.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use crate::waiter::Waiter;

/// The place where the answer to a parked request is put. It is used once.
#[derive(Debug)]
pub(crate) struct Reply<T> {
    answer: Mutex<Option<T>>,
    waiter: Arc<Waiter>,
}

impl<T> Reply<T> {
    /// A reply that has not come yet.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { answer: Mutex::new(None), waiter: Waiter::new(1) })
    }

    /// Puts the answer in and wakes the request.
    pub(crate) fn put(&self, answer: T) {
        *crate::lock(&self.answer) = Some(answer);
        self.waiter.wake();
    }

    /// Takes the answer, if it has come.
    pub(crate) fn take(&self) -> Option<T> {
        crate::lock(&self.answer).take()
    }

    /// Ready when the answer has come.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        self.waiter.poll(context)
    }
}
