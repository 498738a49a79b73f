//! Requests that take milliseconds: a few at a time on threads of their own, so that those that take microseconds never
//! wait for them.
//!
//! ```text
//!  300 requests that describe 20 000 partitions ─▶ a queue for turns ─▶ half the processors
//!  a produce request of a kilobyte              ─▶ at once, where it arrived
//! ```
//!
//! It must not know what a request is.

use std::io;
use std::sync::Arc;
use std::thread::available_parallelism;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The turns of a cluster.
#[derive(Debug)]
pub(super) struct Heavy {
    turns: Arc<Semaphore>,
}

/// Someone's turn; dropping it lets the next one in. Kept until the answer's memory is accounted for, so that there are
/// never more unaccounted answers than turns.
#[derive(Debug)]
pub(super) struct Turn(#[expect(dead_code, reason = "held")] OwnedSemaphorePermit);

impl Heavy {
    pub(super) fn new() -> Self {
        let turns = available_parallelism().map_or(1, |processors| (processors.get() / 2).max(1));
        Self { turns: Arc::new(Semaphore::new(turns)) }
    }

    /// Does `work` when it is its turn.
    ///
    /// # Errors
    /// When the runtime ends.
    ///
    /// # Cancel safety
    /// Cancelled, work that has begun goes on to its end, and so does its turn.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<(T, Turn)> {
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(io::Error::other)?;
        Ok(tokio::task::spawn_blocking(move || (work(), Turn(turn))).await?)
    }
}
