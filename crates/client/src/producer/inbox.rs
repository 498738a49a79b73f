//! What a producer and those who fill its batches tell the driver.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

/// What handles tell the driver.
pub(super) enum Event {
    /// [`Topics`](super::topics::Topics) has new partitions for the driver to take.
    Registered,
    /// A batch was opened in this accumulator.
    Opened(u32),
    /// A batch was filled in this accumulator.
    Filled(u32),
    Flush(oneshot::Sender<()>),
    /// Nobody can produce any more.
    Released,
}

/// Where handles leave events. They come once per batch, so a mutex is cheap.
#[derive(Default)]
pub(super) struct Inbox {
    left: Mutex<Left>,
    pub(super) arrived: Notify,
}

#[derive(Default)]
struct Left {
    events: Vec<Event>,
    /// Nobody takes them any more.
    is_closed: bool,
}

impl Inbox {
    /// Leaves an event; dropped, if the driver has ended.
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

    pub(super) fn take(&self, events: &mut Vec<Event>) {
        std::mem::swap(&mut self.left().events, events);
    }

    pub(super) fn close(&self) {
        let events = {
            let mut left = self.left();
            left.is_closed = true;
            std::mem::take(&mut left.events)
        };
        drop(events);
    }

    fn left(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
