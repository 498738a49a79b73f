//! Reads all partitions of a topic from the beginning, and stops where they ended when the program started.
//!
//! `cargo run -p milena --example consume -- [HOST:PORT] [TOPIC]`

use milena::{Client, Error};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let bootstrap = args.next().unwrap_or_else(|| "localhost:9092".into());
    let topic = args.next().unwrap_or_else(|| "orders".into());

    let client = Client::connect(&bootstrap).await?;
    let mut consumer = client.consumer_direct().topic(topic).until_end().build().await?;
    while let Some(batch) = consumer.next().await? {
        for record in &batch {
            let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            println!(
                "{}/{}: {:?} = {:?}",
                record.partition(),
                record.offset(),
                text(record.key()),
                text(record.value())
            );
        }
    }
    Ok(())
}
