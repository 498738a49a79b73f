//! Reads the records of the last hour, or of the last SECONDS.
//!
//! `cargo run -p milena --example from_a_time -- [HOST:PORT] [TOPIC] [SECONDS]`

#![expect(clippy::disallowed_methods, reason = "a program runs on tokio and reads clocks")]

use std::time::{Duration, SystemTime};

use milena::Client;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let bootstrap = args.next().unwrap_or_else(|| "localhost:9092".into());
    let topic = args.next().unwrap_or_else(|| "orders".into());
    let seconds: u64 = args.next().map_or(Ok(3600), |seconds| seconds.parse())?;

    let client = Client::connect(&bootstrap).await?;
    let since = SystemTime::now() - Duration::from_secs(seconds);
    // A partition whose records are all older is read from its end, so it returns none.
    let mut consumer = client.consumer_direct().topic(topic).from(since).until_end().build().await?;
    let mut count = 0;
    while let Some(batch) = consumer.next().await? {
        // Timestamps need not be in order: records after the first one may be older.
        count += batch.iter().filter(|record| record.timestamp() >= Some(since)).count();
    }
    println!("{count} records in the last {seconds} s");
    Ok(())
}
