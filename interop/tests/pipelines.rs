//! Pipelines on real Kafka: what they write in transactions is there once, and keys keep their order over retry topics, wherever the
//! program ends.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use milena::{Client, Isolation, NewTopic, OwnedRecord, Protocol, Record};
use milena_interop::real;
use milena_pipeline::dead_letters::DeadLetters;
use milena_pipeline::{Failure, Output, Pipeline, Record as Taken, Retry, RetryTopics};
use tokio::runtime::Runtime;

/// Each wait ends long before, unless something hangs.
const PATIENCE: Duration = Duration::from_secs(180);
const TOTAL: usize = 400;
const KEYS: usize = 20;

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

async fn write(bootstrap: &str, name: &str) -> Client {
    let client = Client::connect(bootstrap).await.unwrap();
    for topic in ["orders", "invoices"] {
        let new = NewTopic::new(format!("{name}-{topic}")).partitions(3).replication(1);
        client.admin().create_topic(new).await.unwrap();
    }
    let producer = client.producer().build().await.unwrap();
    let topic = format!("{name}-orders");
    for number in 0..TOTAL {
        let (key, value) = (format!("k{}", number % KEYS), number.to_string());
        producer.post(Record::to(&topic).key(&key).value(&value)).await.unwrap();
    }
    producer.flush().await.unwrap();
    client
}

fn pipeline(client: &Client, name: &str, protocol: Protocol) -> Pipeline {
    let consumer = client.consumer(name).subscribe([format!("{name}-orders")]);
    // Members that are gone without a word are to be missed soon.
    let consumer = consumer.protocol(protocol).commit_interval(ms(100));
    let consumer = match protocol {
        Protocol::Classic => consumer.session_timeout(Duration::from_secs(6)),
        _ => consumer,
    };
    Pipeline::new(consumer)
        .transactional_id(name)
        .transaction_interval(ms(20))
        .concurrency(20)
        .retry(Retry::fixed(ms(2)).attempts(2))
        .retry_topics(RetryTopics::tiers([ms(20), ms(50)]).create(true).keep_order(true))
        .dead_letters(DeadLetters::to(format!("{name}-dlq")).create(true))
}

fn number_of(record: &Taken) -> usize {
    std::str::from_utf8(record.value().unwrap()).unwrap().parse().unwrap()
}

/// Of ten records, one is dead, one waits in both tiers, one in the first, and one is tried twice.
fn verdict(record: &Taken) -> Result<(), Failure> {
    match (number_of(record) % 10, record.tier(), record.attempt()) {
        (0, ..) | (1, 0 | 1, _) | (2, 0, _) | (3, 0, 1) => Err(Failure::retriable("not yet")),
        _ => Ok(()),
    }
}

async fn read(client: &Client, topic: &str) -> Vec<OwnedRecord> {
    let consumer = client.consumer_direct().topic(topic).isolation(Isolation::ReadCommitted);
    let mut consumer = consumer.until_end().build().await.unwrap();
    let mut records = Vec::new();
    while let Some(batch) = consumer.next().await.unwrap() {
        records.extend(batch.iter().map(|record| record.to_owned()));
    }
    records
}

/// How often each record is in a topic.
async fn counts(client: &Client, topic: &str) -> BTreeMap<usize, usize> {
    let mut counts = BTreeMap::new();
    for record in read(client, topic).await {
        let number = String::from_utf8(record.value.unwrap()).unwrap().parse().unwrap();
        *counts.entry(number).or_insert(0) += 1;
    }
    counts
}

fn expected(is_dead: bool) -> BTreeMap<usize, usize> {
    (0..TOTAL).filter(|number| number.is_multiple_of(10) == is_dead).map(|number| (number, 1)).collect()
}

/// Runs it on a runtime of its own, which is gone after a while: no one leaves the group or ends the transaction.
fn cut_short(bootstrap: &str, name: &str, protocol: Protocol, enough: u64) {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let client = Client::connect(bootstrap).await.unwrap();
        let pipeline = pipeline(&client, name, protocol);
        let watch = pipeline.watch();
        let handler = async |record: Taken| {
            tokio::time::sleep(ms(3)).await;
            verdict(&record)?;
            Ok::<_, Failure>(Output::new().key(record.key().unwrap()).value(record.value().unwrap()))
        };
        let topic = format!("{name}-invoices");
        tokio::spawn(pipeline.run_to(topic, handler, std::future::pending()));
        let begun = async {
            while watch.stats().finished < enough {
                tokio::time::sleep(ms(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, begun).await.expect("it works");
    });
    runtime.shutdown_background();
}

fn outputs_are_there_once(protocol: Protocol, name: &str) {
    let Some(kafka) = real::kafka() else { return };
    let bootstrap = kafka.bootstrap();
    let runtime = Runtime::new().unwrap();
    let client = runtime.block_on(write(&bootstrap, name));
    for enough in [1, 30, 60] {
        cut_short(&bootstrap, name, protocol, enough);
    }
    let (invoices, dead) = (format!("{name}-invoices"), format!("{name}-dlq"));
    runtime.block_on(async {
        let pipeline = pipeline(&client, name, protocol);
        let handler = async |record: Taken| {
            verdict(&record)?;
            Ok::<_, Failure>(Output::new().key(record.key().unwrap()).value(record.value().unwrap()))
        };
        let all_are_there = async {
            let wait = async {
                while counts(&client, &invoices).await.len() < expected(false).len()
                    || counts(&client, &dead).await.len() < expected(true).len()
                {
                    tokio::time::sleep(ms(100)).await;
                }
            };
            tokio::time::timeout(PATIENCE, wait).await.expect("all end");
        };
        pipeline.run_to(invoices.as_str(), handler, all_are_there).await.expect("succeeds");
        assert_eq!(counts(&client, &invoices).await, expected(false));
        assert_eq!(counts(&client, &dead).await, expected(true));
        // A key's outputs are of one partition, and in the order of its records, although some have waited in retry topics.
        let mut last = BTreeMap::new();
        for record in read(&client, &invoices).await {
            let number: usize = String::from_utf8(record.value.unwrap()).unwrap().parse().unwrap();
            let before = last.insert(record.key, number);
            assert!(before.is_none_or(|before| before < number), "{number} after {before:?}");
        }
    });
}

#[test]
fn what_a_pipeline_of_a_classic_group_writes_is_there_once() {
    outputs_are_there_once(Protocol::Classic, "pipelines-classic");
}

#[test]
fn what_a_pipeline_of_a_group_of_the_consumer_protocol_writes_is_there_once() {
    outputs_are_there_once(Protocol::Consumer, "pipelines-consumer");
}

/// The key and the number of each record that is tried, in order.
type Tried = Arc<Mutex<Vec<(Vec<u8>, usize)>>>;

/// Without transactions: two members, one of which is gone amid its work.
#[test]
fn keys_keep_their_order_over_retry_topics() {
    let Some(kafka) = real::kafka() else { return };
    let (bootstrap, name) = (kafka.bootstrap(), "pipelines-ordered");
    let runtime = Runtime::new().unwrap();
    let client = runtime.block_on(write(&bootstrap, name));
    let tried: Tried = Arc::default();
    let handler = {
        let tried = Arc::clone(&tried);
        move |record: Taken| {
            tried.lock().unwrap().push((record.key().unwrap().to_vec(), number_of(&record)));
            async move {
                tokio::time::sleep(ms(2)).await;
                verdict(&record)
            }
        }
    };
    let gone = Runtime::new().unwrap();
    gone.block_on(async {
        let client = Client::connect(&bootstrap).await.unwrap();
        let pipeline = pipeline(&client, name, Protocol::Classic);
        let watch = pipeline.watch();
        tokio::spawn(pipeline.run(handler.clone(), std::future::pending()));
        while watch.stats().finished < 50 {
            tokio::time::sleep(ms(2)).await;
        }
    });
    gone.shutdown_background();
    runtime.block_on(async {
        let pipeline = pipeline(&client, name, Protocol::Classic);
        let all = (0..TOTAL).collect();
        let ended = async {
            let wait = async {
                loop {
                    let seen: std::collections::BTreeSet<usize> =
                        tried.lock().unwrap().iter().map(|(_, number)| *number).collect();
                    if seen == all && counts(&client, &format!("{name}-dlq")).await.len() >= TOTAL / 10 {
                        break;
                    }
                    tokio::time::sleep(ms(100)).await;
                }
            };
            tokio::time::timeout(PATIENCE, wait).await.expect("all end");
        };
        pipeline.run(handler, ended).await.expect("succeeds");
    });
    let (mut last, mut seen) = (BTreeMap::new(), std::collections::BTreeSet::new());
    for (key, number) in tried.lock().unwrap().iter() {
        if seen.insert(*number) {
            let before = last.insert(key.clone(), *number);
            assert!(before.is_none_or(|before| before < *number), "{number} is tried first after {before:?}");
        }
    }
}
