//! Requests that take milliseconds. A few of them at a time run on threads of their own, so that requests of
//! microseconds never wait for them.
//!
//! ```text
//!  300 requests that describe 20 000 partitions ─▶ wait for turns ─▶ as many at a time as half the processors
//!  a produce request of a kilobyte              ─▶ at once, on the connection's thread
//! ```
//!
//! It must not know what a request is.

use std::io;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// The turns of all heavy requests of a cluster.
#[derive(Debug)]
pub(super) struct Heavy {
    turns: Arc<Semaphore>,
}

/// The turn of one request. Dropping it lets the next request begin. It is kept until the answer's memory is reserved,
/// so that there are never more unreserved answers than turns.
#[derive(Debug)]
pub(super) struct Turn(#[expect(dead_code, reason = "held")] OwnedSemaphorePermit);

/// Work that is done.
#[derive(Debug)]
pub(super) struct Done<T> {
    pub(super) value: T,
    pub(super) turn: Turn,
    /// How long the work itself took, without the wait for its turn.
    pub(super) took: Duration,
}

impl Heavy {
    pub(super) fn new() -> Self {
        let turns = available_parallelism().map_or(1, |processors| (processors.get() / 2).max(1));
        Self { turns: Arc::new(Semaphore::new(turns)) }
    }

    /// Waits for a turn, and then does `work` on a blocking thread.
    ///
    /// # Errors
    /// When the runtime ends.
    ///
    /// # Cancel safety
    /// Cancelled, work that has begun goes on to its end and keeps its turn until then.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<Done<T>> {
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(io::Error::other)?;
        let done = tokio::task::spawn_blocking(move || {
            let began = Instant::now();
            let value = work();
            Done { value, turn: Turn(turn), took: began.elapsed() }
        });
        Ok(done.await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_wait_for_a_turn_is_no_time_of_the_work() {
        let heavy = Heavy::new();
        let mut turns = Vec::new();
        while heavy.turns.available_permits() > 0 {
            turns.push(heavy.run(|| ()).await.expect("done").turn);
        }
        let minute = Duration::from_secs(60);
        let began = Instant::now();
        let others = async {
            tokio::time::sleep(minute).await;
            drop(turns);
        };
        let (done, ()) = tokio::join!(heavy.run(|| ()), others);
        assert!(began.elapsed() >= minute, "it waited for the others");
        assert!(done.expect("done").took < minute);
    }
}
