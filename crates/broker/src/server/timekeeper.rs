//! The task that calls the machine when a timer is due.
//!
//! ```text
//!  poll_timeout ─▶ sleep ─▶ handle_timeout ─▶ …
//!                    └─ woken when a timer is set that is due earlier
//! ```

use std::future::poll_fn;
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio::time::sleep_until;

use super::shared::{self, Shared};

/// The task of one cluster. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Timekeeper(JoinHandle<()>);

impl Timekeeper {
    /// Starts the task on the runtime that this is called in.
    pub(crate) fn start(shared: Arc<Shared>) -> Self {
        Self(tokio::spawn(keep_time(shared)))
    }

    /// Ends the task.
    ///
    /// # Cancel safety
    /// Cancelled, the task ends all the same.
    pub(crate) async fn stop(mut self) {
        self.0.abort();
        // The error says that the task was aborted, as it should be.
        let _ = (&mut self.0).await;
    }
}

impl Drop for Timekeeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn keep_time(shared: Arc<Shared>) {
    let mut due: Option<std::time::Instant> = None;
    loop {
        let is_due = async {
            match due {
                Some(due) => sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            earliest = poll_fn(|context| shared.machine.poll_earlier(due, context)) => due = earliest,
            () = is_due => {
                let shared = Arc::clone(&shared);
                // A timer may go through a hundred thousand partitions, and this thread serves connections, too.
                let handled = tokio::task::spawn_blocking(move || shared.machine.handle_timeout(shared::now()));
                if let Err(error) = handled.await {
                    tracing::error!(%error, "the work of a timer failed");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::*;
    use crate::Broker;

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_is_set_while_the_task_waits_for_none_is_kept() {
        let builder = Broker::builder();
        let limits = builder.limits();
        let shared = Arc::new(Shared::new(builder.machine().expect("starts"), limits, vec![None]));
        let timekeeper = Timekeeper::start(Arc::clone(&shared));
        tokio::task::yield_now().await;
        assert_eq!(shared.machine.poll_timeout(), None);
        let address = SocketAddr::from(([127, 0, 0, 1], 4000));
        shared.machine.connect(1, address, shared::now()).expect("node 1 is up");
        for _ in 0..3 {
            let due = shared.machine.poll_timeout().expect("partitions forget producers, again and again");
            sleep_until(due.into()).await;
            // Tokio's paused clock does not advance while the machine works on a blocking thread.
            tokio::time::sleep(Duration::from_millis(10)).await;
            assert!(shared.machine.poll_timeout() > Some(due), "the work is done and the timer is set again");
        }
        timekeeper.stop().await;
    }
}
