//! Copies a topic into another one until Ctrl-C or SIGTERM. Then it stops reading, waits until all records that it read are
//! written, and prints the offsets at which to continue.
//!
//! `cargo run -p milena --example graceful_shutdown -- [HOST:PORT] [FROM] [TO]`; both topics must exist.

use milena::{Client, Error};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let bootstrap = args.next().unwrap_or_else(|| "localhost:9092".into());
    let from = args.next().unwrap_or_else(|| "orders".into());
    let to = args.next().unwrap_or_else(|| "orders-copy".into());

    let client = Client::connect(&bootstrap).await?;
    let producer = client.producer().build().await?;
    let mut consumer = client.consumer_direct().topic(&from).build().await?;
    let mut shutdown = std::pin::pin!(shutdown());
    let mut count = 0;
    loop {
        // Wait for either one. Dropping the future of `next` loses no batch.
        let batch = tokio::select! {
            () = &mut shutdown => break,
            batch = consumer.next() => batch?,
        };
        let Some(batch) = batch else { break };
        for record in &batch {
            let record = record.to_owned();
            // This waits while the producer's memory is full, so the copy reads no faster than it writes.
            producer.post(record.as_record().topic(&to)).await?;
            count += 1;
        }
        println!("{count} records read");
    }
    // Waits until every record is written, and fails if one was not.
    producer.close().await?;
    println!("{count} records written");
    for (topic, partition) in consumer.assignment() {
        println!("partition {partition} continues at offset {:?}", consumer.position(&topic, partition));
    }
    Ok(())
}

/// Waits for Ctrl-C, or for SIGTERM on systems that have it.
async fn shutdown() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}
