//! Writes ten records and says where they went.
//!
//! `cargo run -p milena --example produce -- [HOST:PORT] [TOPIC]`; the topic must exist.

use milena::{Client, Error, Record};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let bootstrap = args.next().unwrap_or_else(|| "localhost:9092".into());
    let topic = args.next().unwrap_or_else(|| "orders".into());

    let client = Client::connect(&bootstrap).await?;
    let producer = client.producer().build().await?;
    for id in 0..10 {
        let (key, value) = (format!("{id}"), format!("order {id}"));
        let receipt =
            producer.send(Record::to(&topic).key(&key).value(&value).header("source", "example")).await?;
        println!("{value}: partition {}, offset {:?}", receipt.partition(), receipt.offset());
    }
    producer.close().await
}
