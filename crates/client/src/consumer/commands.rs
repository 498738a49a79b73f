//! What a consumer and its readers tell the driver.

use std::sync::{Arc, Mutex, PoisonError};

use milena_core::source::{Epoch, Position};
use tokio::sync::Notify;

use super::queue::Queue;

/// What the consumer tells the driver. Whether a partition is paused or taken its queue says itself: two tasks may change
/// that, and their commands come the wrong way round.
pub(super) enum Command {
    Assign { queue: Arc<Queue>, epoch: Epoch, position: Position },
    Seek { queue: Arc<Queue>, epoch: Epoch, position: Position },
    Halt { queue: Arc<Queue>, epoch: Epoch },
    Unassign { queue: Arc<Queue>, epoch: Epoch },
    Pause { queue: Arc<Queue> },
    Own { queue: Arc<Queue> },
    Taken { queue: Arc<Queue>, epoch: Epoch, bytes: usize },
    Released,
}

/// Where the consumer leaves commands: a few per batch at most.
#[derive(Default)]
pub(super) struct Commands {
    queue: Mutex<Vec<Command>>,
    /// Also told when memory was freed.
    pub(super) arrived: Arc<Notify>,
}

impl Commands {
    pub(super) fn push(&self, command: Command) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push(command);
        self.arrived.notify_one();
    }

    pub(super) fn take(&self, commands: &mut Vec<Command>) {
        std::mem::swap(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner), commands);
    }
}
