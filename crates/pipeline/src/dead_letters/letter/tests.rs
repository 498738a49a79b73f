use std::io;

use milena::{Client, Consumer, Producer};
use milena_broker::{Broker, Cluster};

use super::*;
use crate::dead_letters::DeadLetters;

/// A chain of errors, the last without a cause.
#[derive(Debug)]
struct Chain {
    text: String,
    cause: Option<Box<Chain>>,
}

impl Chain {
    fn of(texts: impl IntoIterator<Item = String>) -> Self {
        let mut texts = texts.into_iter();
        let text = texts.next().unwrap_or_default();
        let rest: Vec<_> = texts.collect();
        let cause = (!rest.is_empty()).then(|| Box::new(Self::of(rest)));
        Self { text, cause }
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Chain {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

/// An error whose text never ends, and which is its own cause.
#[derive(Debug)]
struct Endless;

impl fmt::Display for Endless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        loop {
            f.write_str("agaín ")?;
        }
    }
}

impl Error for Endless {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self)
    }
}

#[derive(Debug)]
struct Panics;

impl fmt::Display for Panics {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("no text")
    }
}

impl Error for Panics {}

const FACTS: Facts<'static> =
    Facts { group: "billing", handler: Some("charge"), attempts: 5, first_ms: 1_000, last_ms: 9_000 };

struct World {
    cluster: Cluster,
    client: Client,
    producer: Producer,
}

impl World {
    async fn new() -> Self {
        let cluster = Broker::builder().start().await.unwrap();
        cluster.create_topic("orders", 3).unwrap();
        let client = Client::connect(cluster.bootstrap()).await.unwrap();
        let producer = client.producer().build().await.unwrap();
        Self { cluster, client, producer }
    }

    async fn read(&self, topic: &str) -> Consumer {
        self.client.consumer_direct().topic(topic).until_end().build().await.unwrap()
    }

    /// The newest record of the topic as text: partition, key, value and headers.
    async fn newest(&self, topic: &str) -> Vec<String> {
        let mut consumer = self.read(topic).await;
        let mut newest = (-1, Vec::new());
        while let Some(batch) = consumer.next().await.unwrap() {
            for record in &batch {
                if record.offset() < newest.0 {
                    continue;
                }
                let text = |bytes: Option<&[u8]>| {
                    bytes.map_or("null".into(), |b| String::from_utf8_lossy(b).into_owned())
                };
                let mut lines =
                    vec![format!("{} {} {}", record.partition(), text(record.key()), text(record.value()))];
                lines.extend(record.headers().map(|h| format!("{} = {}", text(Some(h.key)), text(h.value))));
                newest = (record.offset(), lines);
            }
        }
        newest.1
    }
}

#[tokio::test]
async fn a_letter_keeps_the_record_and_tells_of_its_failure() {
    let world = World::new().await;
    let headers =
        [Header::new("trace", Some(b"7f")), Header::new("null", None), Header::new("trace", Some(b"80"))];
    let record = Record::to("orders").partition(2).key("42").value("created").timestamp_ms(1_700_000_000_000);
    world.producer.send(record.headers(&headers)).await.unwrap();
    let writer = DeadLetters::to("orders.dlq").create(true).open(&world.client, ["orders"]).await.unwrap();
    let error = Chain::of(["charging failed".into(), "no route".into(), "timeout".into()]);
    let mut consumer = world.read("orders").await;
    let batch = consumer.next().await.unwrap().unwrap();
    let receipt =
        writer.write(batch.iter().next().unwrap(), &Failure::retriable(error), &FACTS).await.unwrap();
    assert_eq!((receipt.topic(), receipt.partition()), ("orders.dlq", 2));
    let expect = "2 42 created\ntrace = 7f\nnull = null\ntrace = 80\nmilena.dlq.topic = orders\nmilena.dlq.partition = 2\n\
        milena.dlq.offset = 0\nmilena.dlq.timestamp = 1700000000000\nmilena.dlq.attempts = 5\nmilena.dlq.letters = 1\n\
        milena.dlq.first = 1000\nmilena.dlq.last = 9000\nmilena.dlq.group = billing\nmilena.dlq.handler = charge\n\
        milena.dlq.class = retriable\nmilena.dlq.reason = charging failed\nmilena.dlq.cause = no route\n\
        milena.dlq.cause = timeout";
    assert_eq!(world.newest("orders.dlq").await.join("\n"), expect);
}

#[tokio::test]
async fn a_letter_that_fails_again_does_not_grow_and_keeps_its_origin() {
    let world = World::new().await;
    world.producer.send(Record::to("orders").partition(1).value("created")).await.unwrap();
    let failure = Failure::poison(io::Error::other("no such customer"));
    let writer = DeadLetters::to("orders.dlq").create(true).open(&world.client, ["orders"]).await.unwrap();
    let mut consumer = world.read("orders").await;
    let batch = consumer.next().await.unwrap().unwrap();
    writer.write(batch.iter().next().unwrap(), &failure, &FACTS).await.unwrap();
    let first = world.newest("orders.dlq").await;
    // Its own dead letters are processed, and fail again.
    let mut consumer = world.read("orders.dlq").await;
    let batch = consumer.next().await.unwrap().unwrap();
    writer
        .write(batch.iter().next().unwrap(), &failure, &Facts { first_ms: 5_000, last_ms: 20_000, ..FACTS })
        .await
        .unwrap();
    let second = world.newest("orders.dlq").await;
    let changed: Vec<_> = second.iter().filter(|line| !first.contains(line)).map(String::as_str).collect();
    assert_eq!(changed, ["milena.dlq.attempts = 10", "milena.dlq.letters = 2", "milena.dlq.last = 20000"]);
    assert_eq!(first.len(), second.len());
}

#[tokio::test]
async fn no_error_adds_more_than_the_limit() {
    let world = World::new().await;
    world.producer.send(Record::to("orders").value("created")).await.unwrap();
    let mut consumer = world.read("orders").await;
    let batch = consumer.next().await.unwrap().unwrap();
    let view = batch.iter().next().unwrap();
    let long = "x".repeat(40_000);
    let wide = "\u{10ffff}".repeat(40_000);
    let errors: Vec<(Failure, &str)> = vec![
        (Failure::fatal(io::Error::other("")), ""),
        (Failure::fatal(Endless), "agaín"),
        (Failure::fatal(Panics), "(the error panicked"),
        (Failure::fatal(Chain::of((0..100).map(|_| long.clone()))), "xxx"),
        (Failure::fatal(Chain::of((0..100).map(|_| wide.clone()))), "\u{10ffff}"),
        (Failure::fatal(Chain::of((0..100).map(|n| n.to_string()))), "0"),
    ];
    let facts = Facts {
        group: &long,
        handler: Some(&wide),
        attempts: u32::MAX,
        first_ms: i64::MIN,
        last_ms: i64::MAX,
    };
    for (failure, begins) in &errors {
        let letter = DeadLetter::new(view.clone(), failure, &facts);
        assert!(letter.added_bytes() <= ADDED_BYTES_MAX, "{}", letter.added_bytes());
        let headers = letter.headers();
        let bytes: usize =
            headers.iter().map(|h| h.key.len() + h.value.unwrap_or_default().len() + LENGTHS_BYTES).sum();
        assert_eq!(bytes + COUNT_BYTES, letter.added_bytes());
        let read = Letter::read(headers.iter().copied()).unwrap();
        let reason = read.reason.unwrap();
        assert!(reason.starts_with(begins) && reason.len() <= REASON_BYTES_MAX, "{reason}");
        assert!(read.causes.len() <= CAUSES_MAX);
        for header in &headers {
            assert!(std::str::from_utf8(header.value.unwrap()).is_ok(), "it was cut within a character");
        }
        // It is written as it is.
        world.producer.send(letter.record("orders", &headers)).await.unwrap();
    }
}

#[tokio::test]
async fn without_the_partition_the_key_decides_and_without_the_topic_it_is_an_error() {
    let world = World::new().await;
    world.cluster.create_topic("one", 1).unwrap();
    world.producer.send(Record::to("orders").partition(2).key("42").value("created")).await.unwrap();
    let mut consumer = world.read("orders").await;
    let batch = consumer.next().await.unwrap().unwrap();
    let writer = DeadLetters::from("one").open(&world.client, ["orders"]).await.unwrap();
    let failure = Failure::poison("no");
    let receipt = writer.write(batch.iter().next().unwrap(), &failure, &FACTS).await.unwrap();
    assert_eq!(receipt.partition(), 0);
    let error = DeadLetters::from("missing").open(&world.client, ["orders"]).await.unwrap_err();
    assert_eq!(error.code_name(), Some("UNKNOWN_TOPIC_OR_PARTITION"));
    // What is not written is told, so that the source stays uncommitted.
    let small = milena::NewTopic::new("small").partitions(3).config("max.message.bytes", "200");
    world.client.admin().create_topic(small).await.unwrap();
    let writer = DeadLetters::from("small").open(&world.client, ["orders"]).await.unwrap();
    let error = writer.write(batch.iter().next().unwrap(), &failure, &FACTS).await.unwrap_err();
    assert_eq!(error.code_name(), Some("MESSAGE_TOO_LARGE"), "{error}");
}

#[tokio::test]
async fn the_new_topic_has_room_for_the_largest_record() {
    let world = World::new().await;
    let admin = world.client.admin();
    let large = milena::NewTopic::new("large").partitions(5).config("max.message.bytes", "2000000");
    admin.create_topic(large).await.unwrap();
    let producer = world.client.producer().settings(|s| s.record_bytes_max = 4 << 20).build().await.unwrap();
    // With the batch's own 61 bytes and the record's lengths it is just below the topic's limit.
    let value = vec![7; 1_999_900];
    producer.send(Record::to("large").value(&value)).await.unwrap();
    let writer =
        DeadLetters::to("large.dlq").create(true).open(&world.client, ["orders", "large"]).await.unwrap();
    let described = admin.describe_topics(["large.dlq"]).await.unwrap();
    assert_eq!(described[0].1.as_ref().unwrap().partitions.len(), 5);
    let mut consumer = world.read("large").await;
    let batch = consumer.next().await.unwrap().unwrap();
    let error = Chain::of((0..100).map(|_| "x".repeat(10_000)));
    writer.write(batch.iter().next().unwrap(), &Failure::poison(error), &FACTS).await.unwrap();
    // Opening it again finds it.
    DeadLetters::to("large.dlq").create(true).open(&world.client, ["large"]).await.unwrap();
}

#[test]
fn a_replayed_letter_loses_what_made_it_one_and_tells_where_it_was() {
    let headers = [
        Header::new("trace", Some(b"7f")),
        Header::new("__connect.errors.topic", Some(b"orders")),
        Header::new("milena.dlq.replayed-from", Some(b"old")),
        Header::new("milena.dlq.replays", Some(b"1")),
    ];
    let marks = ReplayMarks::new("orders.dlq", 3, 42, 1);
    let names = |strip| -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers = marks.headers(headers, strip);
        headers.iter().map(|h| format!("{}={}", text(h.key), text(h.value.unwrap()))).collect()
    };
    let marked = ["milena.dlq.replayed-from=orders.dlq/3/42", "milena.dlq.replays=2"];
    assert_eq!(names(Some(Dialect::Connect)), ["trace=7f", marked[0], marked[1]]);
    assert_eq!(names(None), ["trace=7f", "__connect.errors.topic=orders", marked[0], marked[1]]);
}
