//! Dead letters through the binary: found, shown, counted, replayed each once, and deleted. `UPDATE_DLQ=1` writes the golden texts
//! anew.

#[path = "../harness/mod.rs"]
mod harness;

mod docs;
mod letters;
mod looking;
mod purging;
mod replaying;
mod speed;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;

use harness::Cluster;
use milena::{Client, Header, Isolation, OwnedRecord, Record};

/// Runs what needs a client of ours.
pub(crate) fn block_on<T>(of: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("starts").block_on(of)
}

pub(crate) fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("text")
}

/// Compares with the golden text of this name.
#[track_caller]
pub(crate) fn golden(name: &str, output: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/dlq/golden/{name}.txt"));
    if std::env::var_os("UPDATE_DLQ").is_some() {
        std::fs::write(&path, output).expect("written");
    }
    let expect =
        std::fs::read_to_string(&path).unwrap_or_else(|_| panic!("no golden text; it is now:\n{output}"));
    assert_eq!(output, expect, "{}", path.display());
}

/// When the first letter of a test was written; each next one is a second younger.
pub(crate) const EPOCH_MS: i64 = 1_700_000_000_000;

pub(crate) async fn connect(cluster: &Cluster) -> Client {
    Client::connect(&cluster.bootstrap).await.expect("connected")
}

/// Writes a letter with these headers.
pub(crate) async fn write(
    client: &Client,
    topic: &str,
    partition: i32,
    (key, value): (&str, &str),
    headers: &[(&str, &[u8])],
    at_ms: i64,
) {
    let producer = client.producer().build().await.expect("built");
    let headers: Vec<_> = headers.iter().map(|(name, value)| Header::new(name, Some(value))).collect();
    let record = Record::to(topic).partition(partition).key(key).value(value).timestamp_ms(at_ms);
    producer.send(record.headers(&headers)).await.expect("written");
}

/// Letters of Connect: key and value are the number, the origin is partition n % 3 of `orders`.
pub(crate) async fn write_many(client: &Client, topic: &str, numbers: std::ops::Range<i32>, error: &str) {
    let producer = client.producer().build().await.expect("built");
    for n in numbers {
        let (number, partition) = (n.to_string(), (n % 3).to_string());
        let headers = [
            Header::new("trace", Some(number.as_bytes())),
            Header::new("__connect.errors.topic", Some(b"orders")),
            Header::new("__connect.errors.partition", Some(partition.as_bytes())),
            Header::new("__connect.errors.offset", Some(number.as_bytes())),
            Header::new("__connect.errors.exception.message", Some(error.as_bytes())),
        ];
        let record = Record::to(topic)
            .partition(n % 2)
            .key(&number)
            .value(&number)
            .timestamp_ms(EPOCH_MS + i64::from(n));
        producer.post(record.headers(&headers)).await.expect("taken");
    }
    producer.flush().await.expect("written");
}

/// All committed records of a topic, by partition.
pub(crate) async fn read(client: &Client, topic: &str) -> BTreeMap<i32, Vec<OwnedRecord>> {
    let consumer = client.consumer_direct().topic(topic).isolation(Isolation::ReadCommitted).until_end();
    let mut consumer = consumer.build().await.expect("built");
    let mut records: BTreeMap<i32, Vec<OwnedRecord>> = BTreeMap::new();
    while let Some(batch) = consumer.next().await.expect("read") {
        records.entry(batch.partition()).or_default().extend(batch.iter().map(|record| record.to_owned()));
    }
    records
}

/// The values of all committed records, sorted as numbers.
pub(crate) async fn numbers(client: &Client, topic: &str) -> Vec<i32> {
    let records = read(client, topic).await.into_values().flatten();
    let number = |record: OwnedRecord| text(record.value.expect("a value")).parse().expect("a number");
    let mut numbers: Vec<i32> = records.map(number).collect();
    numbers.sort_unstable();
    numbers
}
