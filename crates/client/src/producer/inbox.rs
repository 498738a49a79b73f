//! What producers and accumulators tell the driver's task.

use std::sync::{Mutex, MutexGuard, PoisonError};

use milena_core::Instant;
use tokio::sync::{Notify, oneshot};

use super::transacting::Command;

/// Something for the driver to do.
pub(super) enum Event {
    /// [`Topics`](super::topics::Topics) has new partitions for the driver to take in.
    Registered,
    /// The accumulator with this slot has opened a batch.
    Opened(u32),
    /// The open batch of the accumulator with this slot has got a record whose caller has waited since then.
    Waited(u32, Instant),
    /// The accumulator with this slot has filled a batch.
    Filled(u32),
    /// Send everything, and tell the sender once it is settled.
    Flush(oneshot::Sender<()>),
    /// Give up everything that was taken before, and tell the sender once it is settled.
    Purge(oneshot::Sender<()>),
    /// Something for the transaction.
    Transaction(Command),
    /// The last handle of the producer was dropped.
    Released,
}

/// Where callers' tasks leave events and wake the driver. Events come once per batch, so a mutex is cheap.
#[derive(Default)]
pub(super) struct Inbox {
    left: Mutex<Left>,
    /// Told when an event was left.
    pub(super) arrived: Notify,
}

#[derive(Default)]
struct Left {
    events: Vec<Event>,
    /// The driver has ended and takes no more events.
    is_closed: bool,
}

impl Inbox {
    /// Leaves an event. It is dropped if the driver has ended, which fails a flush.
    pub(super) fn push(&self, event: Event) {
        {
            let mut left = self.left();
            if left.is_closed {
                return;
            }
            left.events.push(event);
        }
        self.arrived.notify_one();
    }

    /// Takes all events into `events`, which is empty. The two vectors change places, so that their memory is used
    /// again.
    pub(super) fn take(&self, events: &mut Vec<Event>) {
        std::mem::swap(&mut self.left().events, events);
    }

    /// Takes no more events, and drops those that are there.
    pub(super) fn close(&self) {
        let events = {
            let mut left = self.left();
            left.is_closed = true;
            std::mem::take(&mut left.events)
        };
        // Outside the lock: dropping a flush wakes its task.
        drop(events);
    }

    fn left(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
