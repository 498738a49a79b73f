//! The Rust of README.md, run as it stands there.

use milena::metrics::{Registry, families};
use milena::{Client, Record, Sasl, Tls};
use milena_broker::Broker;

use super::start;

async fn produce(bootstrap: &str) -> Result<(), milena::Error> {
    let client = Client::connect(bootstrap).await?;
    let producer = client.producer().build().await?;
    let receipt = producer.send(Record::to("orders").key("42").value("created")).await?; // waits for the broker's answer
    producer.post(Record::to("orders").key("43").value("created")).await?; // waits for room in a batch at most
    producer.flush().await?; // waits for all answers, and fails if a record was not written

    assert!(receipt.offset().is_some());
    Ok(())
}

async fn consume_in_a_group(bootstrap: &str, count: usize) -> Result<(), milena::Error> {
    let mut left = count;
    let client = Client::connect(bootstrap).await?;
    let mut consumer = client.consumer("billing").subscribe(["orders"]).build().await?;
    while let Some(batch) = consumer.next().await? {
        for record in &batch {
            println!("{} {:?} = {:?}", record.offset(), record.key(), record.value());
        }
        consumer.done(&batch); // committed in the background, and before another member gets the partition

        left -= batch.iter().count();
        if left == 0 {
            consumer.close().await?;
        }
    }
    Ok(())
}

async fn transact(bootstrap: &str) -> Result<(), milena::Error> {
    let client = Client::connect(bootstrap).await?;
    let mut producer = client.transactional("billing-1").build().await?;
    let transaction = producer.begin().await?;
    transaction.post(Record::to("invoices").key("42").value("10.00")).await?;
    transaction.post(Record::to("ledger").key("42").value("-10.00")).await?;
    transaction.commit().await?; // if it is dropped instead, it is aborted
    Ok(())
}

async fn measure(bootstrap: &str) -> Result<Option<f64>, milena::Error> {
    let registry = Registry::new();
    let client = Client::builder().bootstrap(bootstrap).metrics(&registry).connect().await?;
    client.producer().build().await?.send(Record::to("orders").value("created")).await?;
    let snapshot = registry.snapshot();
    let broker = snapshot.histogram(&families::PRODUCER_PHASE_SECONDS, &["broker"]);
    let p99 = broker.and_then(|seconds| seconds.quantile(0.99));
    println!("of 100 batches 99 took at most {p99:?} seconds at the broker");

    Ok(p99)
}

async fn consume(bootstrap: &str) -> Result<usize, milena::Error> {
    let mut count = 0;
    let client = Client::connect(bootstrap).await?;
    let mut consumer = client.consumer_direct().topic("orders").until_end().build().await?;
    while let Some(batch) = consumer.next().await? {
        for record in &batch {
            println!("{} {:?} = {:?}", record.offset(), record.key(), record.value());
        }

        count += batch.iter().count();
    }
    Ok(count)
}

/// Compiled only: the README names a broker and a file that are the reader's.
#[expect(dead_code)]
async fn log_in() -> Result<Client, Box<dyn std::error::Error>> {
    let client = Client::builder()
        .bootstrap("kafka-1:9093")
        .tls(Tls::roots_from_file("/etc/kafka/ca.pem"))
        .sasl(Sasl::scram_sha_512("billing", std::env::var("KAFKA_PASSWORD")?))
        .connect()
        .await?;
    Ok(client)
}

#[tokio::test]
async fn an_order_is_written() -> Result<(), Box<dyn std::error::Error>> {
    let cluster = Broker::builder().start().await?;
    cluster.create_topic("orders", 1)?;
    let client = Client::connect(cluster.bootstrap()).await?;
    let producer = client.producer().build().await?;
    let receipt = producer.send(Record::to("orders").value("created")).await?;
    assert_eq!(receipt.offset(), Some(0));
    Ok(())
}

#[tokio::test]
async fn what_readme_produces_it_consumes() {
    let (cluster, _client) = start(1, &[("orders", 3)]).await;
    produce(cluster.bootstrap()).await.expect("produced");
    assert_eq!(consume(cluster.bootstrap()).await.expect("consumed"), 2);
    consume_in_a_group(cluster.bootstrap(), 2).await.expect("consumed in a group");
    cluster.create_topic("invoices", 1).expect("created");
    cluster.create_topic("ledger", 1).expect("created");
    transact(cluster.bootstrap()).await.expect("committed");
    assert!(measure(cluster.bootstrap()).await.expect("measured").is_some());
}

/// Lines without what differs between a page and a file: indentation, empty lines, closing braces alone.
fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !matches!(*line, "" | "}")).collect()
}

#[test]
fn readme_shows_the_code_of_this_file() {
    let readme = include_str!("../../../../README.md").replace("\"localhost:9092\"", "bootstrap");
    let here = lines(include_str!("readme.rs"));
    let blocks: Vec<&str> =
        readme.split("```rust\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(
        blocks.len(),
        8,
        "produce, consume in a group, write in a transaction, process, log in, measure, consume, test"
    );
    // Pipelines are a crate that depends on this one: its test runs them.
    let pipelines = lines(include_str!("../../../pipeline/tests/guide.rs"));
    for block in blocks {
        let here = if block.contains("Pipeline::new") { &pipelines } else { &here };
        let block = lines(block);
        assert!(here.windows(block.len()).any(|window| window == block), "{block:#?}");
    }
}
