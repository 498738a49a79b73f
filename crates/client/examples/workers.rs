//! Processes a topic as a member of a group: several workers finish records in any order, what fails goes to a dead-letter topic,
//! and Ctrl-C or SIGTERM finishes what was begun, commits it and leaves the group.
//!
//! `cargo run -p milena --example workers -- [HOST:PORT] [TOPIC] [GROUP]`; the topic and its dead letters (`TOPIC-dead`) must
//! exist.

#![expect(clippy::disallowed_methods, reason = "a program runs on tokio")]

use std::sync::Arc;

use milena::{Client, Consumer, ConsumerHandle, Error, Producer, SharedRecord};
use tokio::sync::{Mutex, mpsc};

const WORKERS: usize = 8;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let bootstrap = args.next().unwrap_or_else(|| "localhost:9092".into());
    let topic = args.next().unwrap_or_else(|| "orders".into());
    let group = args.next().unwrap_or_else(|| "billing".into());

    let client = Client::connect(&bootstrap).await?;
    let producer = Arc::new(client.producer().build().await?);
    let mut consumer = client.consumer(group).subscribe([&topic]).build().await?;

    // A short queue: records that wait here are fetched, but not yet begun.
    let (sender, receiver) = mpsc::channel(WORKERS);
    let receiver = Arc::new(Mutex::new(receiver));
    let worker = |_| tokio::spawn(work(Arc::clone(&receiver), consumer.handle(), Arc::clone(&producer)));
    let workers: Vec<_> = (0..WORKERS).map(worker).collect();

    let stopped = read(&mut consumer, &sender).await;
    // Without a sender the workers end when they have finished what is in the queue.
    drop(sender);
    let mut failed = None;
    for worker in workers {
        failed = worker.await.expect("a worker does not panic").err().or(failed);
    }
    // Commits what is done, and says what is not committed. Other members take over at once.
    consumer.close().await?;
    stopped.and(failed.map_or(Ok(()), Err))
}

/// Hands records to the workers until the program is to stop.
async fn read(consumer: &mut Consumer, sender: &mpsc::Sender<SharedRecord>) -> Result<(), Error> {
    let mut shutdown = std::pin::pin!(shutdown());
    loop {
        // Wait for either one. Dropping the future of `next` loses no batch.
        let batch = tokio::select! {
            () = &mut shutdown => return Ok(()),
            batch = consumer.next() => batch,
        };
        match batch {
            Ok(Some(batch)) => {
                for record in batch.share().records() {
                    // All workers have ended if this fails.
                    if sender.send(record).await.is_err() {
                        return Ok(());
                    }
                }
            }
            Ok(None) => return Ok(()),
            // The member left because the workers were stuck for `max_poll_interval`. The next call joins again.
            Err(error) if !error.is_fatal() => eprintln!("{error}"),
            Err(error) => return Err(error),
        }
    }
}

/// Finishes one record after the other.
async fn work(
    receiver: Arc<Mutex<mpsc::Receiver<SharedRecord>>>,
    consumer: ConsumerHandle,
    producer: Arc<Producer>,
) -> Result<(), Error> {
    loop {
        let Some(record) = receiver.lock().await.recv().await else { return Ok(()) };
        if let Err(why) = charge(&record) {
            let dead = format!("{}-dead", record.topic());
            let copy = record.to_owned();
            // The record counts as done once its dead letter is written. Until then it would be read again.
            producer.send(copy.as_record().topic(&dead).header("why", &why)).await?;
        }
        // In any order: no offset is committed above a record that is not done.
        consumer.done_record(&record.view());
    }
}

/// What the program does with a record.
fn charge(record: &SharedRecord) -> Result<(), String> {
    let value = record.value().ok_or("it has no value")?;
    let text = std::str::from_utf8(value).map_err(|error| error.to_string())?;
    println!("{} of partition {}: {text}", record.offset(), record.partition());
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
