//! Two ways to learn which records were written: the easy way has a delivery for each record, the fast way one result for
//! all. The example shows both with a record that fails, and measures their rates.
//!
//! `cargo run --release -p milena --example per_record_errors -- [HOST:PORT] [TOPIC] [RECORDS]`; the topic must exist.

#![expect(clippy::disallowed_methods, reason = "a program runs on tokio and reads clocks")]

use std::collections::VecDeque;
use std::time::Instant;

use milena::{Client, Delivery, Error, Producer, Record};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let bootstrap = args.next().unwrap_or_else(|| "localhost:9092".into());
    let topic = args.next().unwrap_or_else(|| "orders".into());
    let records: usize = args.next().map_or(Ok(1_000_000), |records| records.parse())?;

    let client = Client::connect(&bootstrap).await?;
    let producer = client.producer().build().await?;
    let easy = easy(&producer, &topic, records).await?;
    let fast = fast(&producer, &topic, records).await?;
    println!("the easy way, enqueue and a delivery for each record: {easy:.0} records per second");
    println!("the fast way, post and flush: {fast:.0} records per second");
    producer.close().await?;
    Ok(())
}

/// Every record has a delivery with its result. Deliveries are awaited in the order of the records, each while later records
/// are sent.
async fn easy(producer: &Producer, topic: &str, records: usize) -> Result<f64, Error> {
    const UNDER_WAY: usize = 10_000;
    let began = Instant::now();
    let mut under_way: VecDeque<(usize, Delivery)> = VecDeque::new();
    let settle = |index: usize, outcome: Result<milena::Receipt, Error>| {
        if let Err(error) = outcome {
            println!(
                "record {index}: {error}; {}",
                if error.maybe_written() { "look first" } else { "not written" }
            );
        }
    };
    for index in 0..records {
        let value = value(index);
        // A record that cannot be written at all fails here, before the producer takes it.
        match producer.enqueue(Record::to(topic).value(&value)).await {
            Ok(delivery) => under_way.push_back((index, delivery)),
            Err(error) => println!("record {index} was not taken: {error}"),
        }
        if under_way.len() == UNDER_WAY
            && let Some((index, delivery)) = under_way.pop_front()
        {
            settle(index, delivery.await);
        }
    }
    for (index, delivery) in under_way {
        settle(index, delivery.await);
    }
    Ok(records as f64 / began.elapsed().as_secs_f64())
}

/// Records have no results of their own. A flush fails with the number of records since the last flush that were not written,
/// and why the first one was not. To learn which ones, flush every few thousand records, and read the topic.
async fn fast(producer: &Producer, topic: &str, records: usize) -> Result<f64, Error> {
    const CHUNK: usize = 100_000;
    let began = Instant::now();
    for first in (0..records).step_by(CHUNK) {
        for index in first..records.min(first + CHUNK) {
            let value = value(index);
            if let Err(error) = producer.post(Record::to(topic).value(&value)).await {
                println!("record {index} was not taken: {error}");
            }
        }
        if let Err(error) = producer.flush().await {
            println!("of the records from {first} on: {error}");
        }
    }
    Ok(records as f64 / began.elapsed().as_secs_f64())
}

/// Forty bytes, but record 7 is larger than a record may be.
fn value(index: usize) -> Vec<u8> {
    vec![b'v'; if index == 7 { 2_000_000 } else { 40 }]
}
