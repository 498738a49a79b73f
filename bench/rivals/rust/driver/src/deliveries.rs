//! The results of records that a client reports as futures: awaited in the order of sending by a task of its own, as a
//! caller would who must look at each but hold up none.

use std::fmt::Display;
use std::future::Future;
use std::mem;
use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use crate::Results;

/// Futures of records that were sent. How many there are is bounded by the client: it makes its caller wait when its
/// buffer is full.
pub struct Deliveries<F> {
    chunk: Vec<F>,
    chunks: UnboundedSender<Vec<F>>,
    counting: JoinHandle<()>,
}

impl<F, T, E> Deliveries<F>
where
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Send,
    E: Display + Send,
{
    /// None yet; each will be counted in `results`.
    pub fn new(results: &Arc<Results>) -> Self {
        let (chunks, mut arriving) = unbounded_channel::<Vec<F>>();
        let results = results.clone();
        let counting = tokio::spawn(async move {
            while let Some(chunk) = arriving.recv().await {
                for delivery in chunk {
                    results.count(delivery.await);
                }
            }
        });
        Self { chunk: Vec::with_capacity(CHUNK), chunks, counting }
    }

    /// One more record was sent.
    pub fn push(&mut self, delivery: F) {
        self.chunk.push(delivery);
        if self.chunk.len() == CHUNK {
            self.pass_on();
        }
    }

    /// Returns when each has its result.
    ///
    /// # Errors
    /// Awaiting one of them has panicked.
    pub async fn all(mut self) -> anyhow::Result<()> {
        self.pass_on();
        drop(self.chunks);
        Ok(self.counting.await?)
    }

    fn pass_on(&mut self) {
        let chunk = mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        // Fails only if the task has panicked, which `all` reports.
        let _ = self.chunks.send(chunk);
    }
}

/// Enough that passing them on costs nothing per record.
const CHUNK: usize = 1024;
