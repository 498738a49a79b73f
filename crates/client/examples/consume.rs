//! Reads a topic from its beginning, all partitions, and stops where it ended when the program started.
//!
//! `cargo run -p milena --example consume -- [HOST:PORT] [TOPIC]`

use milena::{Client, Error, OffsetAt, Position};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let bootstrap = args.next().unwrap_or_else(|| "localhost:9092".into());
    let topic = args.next().unwrap_or_else(|| "orders".into());

    let client = Client::connect(&bootstrap).await?;
    let (_, described) = client.admin().describe_topics([&topic]).await?.remove(0);
    let partitions: Vec<_> =
        described?.partitions.iter().map(|partition| (topic.clone(), partition.index)).collect();

    let mut left: u64 = 0;
    for at in [OffsetAt::Latest, OffsetAt::Earliest] {
        for (_, offset) in client.admin().list_offsets(partitions.clone(), at).await? {
            let offset = offset?.unwrap_or(0).unsigned_abs();
            left = if at == OffsetAt::Latest { left + offset } else { left - offset };
        }
    }

    let mut consumer = client.consumer_direct().assign(partitions, Position::Earliest).build().await?;
    while left > 0 {
        let Some(batch) = consumer.next().await? else { break };
        for record in &batch {
            let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            println!(
                "{}/{}: {:?} = {:?}",
                batch.partition(),
                record.offset(),
                text(record.key()),
                text(record.value())
            );
        }
        left = left.saturating_sub(batch.record_count_max());
    }
    Ok(())
}
