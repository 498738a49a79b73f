//! Pauses a partition while its batch is processed. Each batch gets a task of its own, with at most one task per partition at
//! a time, and the consumer reads the other partitions meanwhile.
//!
//! `cargo run -p milena --example pause_and_resume -- [HOST:PORT] [TOPIC]`

#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "a program runs on tokio")]

use std::time::Duration;

use milena::{Batch, Client, Error};
use tokio::task::JoinSet;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let bootstrap = args.next().unwrap_or_else(|| "localhost:9092".into());
    let topic = args.next().unwrap_or_else(|| "orders".into());

    let client = Client::connect(&bootstrap).await?;
    let mut consumer = client.consumer_direct().topic(topic).until_end().build().await?;
    let mut working = JoinSet::new();
    while let Some(batch) = consumer.next().await? {
        let handle = consumer.handle();
        handle.pause(batch.topic(), batch.partition())?;
        working.spawn(async move {
            work(&batch).await;
            // Resume from this task, while the main task waits in `next`. Batches that were fetched before the pause come
            // first.
            handle.resume(batch.topic(), batch.partition())
        });
    }
    for resumed in working.join_all().await {
        resumed?;
    }
    Ok(())
}

/// Stands for something that takes a while, such as a call to another service.
async fn work(batch: &Batch) {
    tokio::time::sleep(Duration::from_millis(1)).await;
    println!("partition {}: {} records done", batch.partition(), batch.iter().count());
}
