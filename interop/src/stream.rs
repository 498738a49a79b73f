//! Produces the records that the members of a group read, all the time, with Milena's producer: each record's value is its
//! number in its partition, which must be its offset, and the time it was produced.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use milena::{Client, Record};
use tokio::time::sleep;

use crate::journal::now;

/// A thread that produces.
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: JoinHandle<anyhow::Result<Vec<i64>>>,
}

impl Stream {
    /// Produces about `rate` records per second, to each of the partitions in turn, until it is stopped.
    #[must_use]
    pub fn start(bootstrap: &str, topic: &str, partitions: i32, rate: u64) -> Self {
        let (bootstrap, topic) = (bootstrap.to_owned(), topic.to_owned());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let sent = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&sent);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(produce(&bootstrap, &topic, partitions, rate, &stopped, &counted))
        });
        Self { stop, sent, thread }
    }

    /// How many records were sent so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Stops it, and returns how many records each partition has.
    ///
    /// # Errors
    /// A record was not written.
    pub fn stop(self) -> anyhow::Result<Vec<i64>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the stream panicked"))?
    }
}

async fn produce(
    bootstrap: &str,
    topic: &str,
    partitions: i32,
    rate: u64,
    stopped: &AtomicBool,
    counted: &AtomicU64,
) -> anyhow::Result<Vec<i64>> {
    let client = Client::connect(bootstrap).await?;
    let producer = client.producer().build().await?;
    let mut ends = vec![0; usize::try_from(partitions)?];
    let (started, mut sent) = (Instant::now(), 0);
    let mut deliveries = Vec::new();
    while !stopped.load(Ordering::Relaxed) {
        let due = (started.elapsed().as_secs_f64() * rate as f64) as u64;
        while sent < due {
            let partition = (sent % ends.len() as u64) as usize;
            let value = format!("{}:{}", ends[partition], now());
            ends[partition] += 1;
            sent += 1;
            let record = Record::to(topic).partition(partition as i32).value(value.as_bytes());
            deliveries.push(producer.enqueue(record).await?);
        }
        counted.store(sent, Ordering::Relaxed);
        if deliveries.len() > 10_000 {
            for delivery in deliveries.drain(..) {
                delivery.await?;
            }
        }
        sleep(Duration::from_millis(2)).await;
    }
    for delivery in deliveries {
        delivery.await?;
    }
    producer.close().await?;
    Ok(ends)
}
