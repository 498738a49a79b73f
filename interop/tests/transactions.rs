//! Milena's transactions on real Kafka, with both versions of the protocol: Java reads what Milena has committed, and Milena what
//! Java has.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use milena::{Client, Error, Isolation, NewTopic, Protocol, Record, TransactionEnd, TransactionalProducer};
use milena_interop::letter;
use milena_interop::partner::Partner;
use milena_interop::{ours, real};
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// Each wait ends long before, unless something hangs.
const PATIENCE: Duration = Duration::from_secs(120);
const PARTITIONS: i32 = 3;

async fn create(client: &Client, topic: &str) {
    let new = NewTopic::new(topic).partitions(PARTITIONS).replication(1);
    client.admin().create_topics([new]).await.unwrap().remove(0).1.unwrap();
}

async fn transactional(client: &Client, id: &str) -> TransactionalProducer {
    timeout(PATIENCE, client.transactional(id).build()).await.unwrap().unwrap()
}

/// The values that readers see when they read only what is committed, or everything.
async fn values(client: &Client, topic: &str, isolation: Isolation) -> Vec<String> {
    let mut consumer =
        client.consumer_direct().topic(topic).isolation(isolation).until_end().build().await.unwrap();
    let mut values = Vec::new();
    while let Some(batch) = timeout(PATIENCE, consumer.next()).await.unwrap().unwrap() {
        values
            .extend(batch.iter().map(|record| String::from_utf8_lossy(record.value().unwrap()).into_owned()));
    }
    values.sort();
    values
}

/// Transactions that are committed, aborted, dropped and fenced.
fn ends(bootstrap: &str) {
    Runtime::new().unwrap().block_on(async {
        let client = Client::connect(bootstrap).await.unwrap();
        let topic = "transactions-ends";
        create(&client, topic).await;
        let mut producer = transactional(&client, "ends").await;
        let mut expected = Vec::new();
        for round in 0..10 {
            for end in ["committed", "aborted", "dropped"] {
                let transaction = timeout(PATIENCE, producer.begin()).await.unwrap().unwrap();
                for partition in 0..PARTITIONS {
                    let value = format!("{end} {round} {partition}");
                    transaction.post(Record::to(topic).partition(partition).value(&value)).await.unwrap();
                    if end == "committed" {
                        expected.push(value);
                    }
                }
                match end {
                    "committed" => timeout(PATIENCE, transaction.commit()).await.unwrap().unwrap(),
                    "aborted" => {
                        transaction.flush().await.unwrap();
                        timeout(PATIENCE, transaction.abort()).await.unwrap().unwrap();
                    }
                    _ => transaction.flush().await.unwrap(),
                }
            }
        }
        assert_eq!(producer.resolve().await.unwrap(), Some(TransactionEnd::Aborted));
        expected.sort();
        assert_eq!(values(&client, topic, Isolation::ReadCommitted).await, expected);
        assert_eq!(values(&client, topic, Isolation::ReadUncommitted).await.len(), 3 * expected.len());

        let transaction = producer.begin().await.unwrap();
        transaction.send(Record::to(topic).value("left open")).await.unwrap();
        let mut second = transactional(&client, "ends").await;
        let error = timeout(PATIENCE, transaction.commit()).await.unwrap().unwrap_err();
        assert!(error.is_fatal() && error.is_fenced(), "{error}");
        second.begin().await.unwrap().commit().await.unwrap();
        assert_eq!(values(&client, topic, Isolation::ReadCommitted).await, expected);
    });
}

/// Milena writes in transactions and Java reads; then Java copies in transactions, and the loop copies that exactly once.
fn with_java(bootstrap: &str, protocols: &[Protocol]) {
    if !Partner::Java.is_here() {
        return;
    }
    let letters = letter::awkward();
    let runtime = Runtime::new().unwrap();
    let client = runtime.block_on(Client::connect(bootstrap)).unwrap();
    let (our_topic, theirs) = ("transactions-ours", "transactions-theirs");
    runtime.block_on(async {
        create(&client, our_topic).await;
        create(&client, theirs).await;
        let mut producer = transactional(&client, "ours").await;
        for chunk in letters.chunks(4) {
            for is_committed in [false, true] {
                let transaction = producer.begin().await.unwrap();
                for letter in chunk {
                    transaction.post(ours::record(our_topic, letter)).await.unwrap();
                }
                if is_committed {
                    timeout(PATIENCE, transaction.commit()).await.unwrap().unwrap();
                } else {
                    transaction.flush().await.unwrap();
                    timeout(PATIENCE, transaction.abort()).await.unwrap().unwrap();
                }
            }
        }
    });
    let partitions = PARTITIONS as usize;
    let read = Partner::Java.consume_committed(bootstrap, our_topic, partitions, letters.len()).unwrap();
    letter::assert_same_letters("Java reads what Milena has committed", &letters, &read.received);
    Partner::Java.transact(bootstrap, our_topic, theirs, "theirs", letters.len()).unwrap();
    for protocol in protocols {
        let copy = format!("transactions-copy-{protocol:?}");
        runtime.block_on(async {
            create(&client, &copy).await;
            let consumer = client
                .consumer(copy.as_str())
                .subscribe([theirs])
                .protocol(*protocol)
                .isolation(Isolation::ReadCommitted)
                .manual_commits()
                .build()
                .await
                .unwrap();
            let (handle, producer) = (consumer.handle(), transactional(&client, &copy).await);
            let (copied, wanted, to) = (AtomicUsize::new(0), letters.len(), copy.clone());
            let run = milena::exactly_once(consumer, producer).run(move |transaction, batch| {
                let (handle, to) = (handle.clone(), to.clone());
                let count = batch.iter().count();
                let is_last = copied.fetch_add(count, Ordering::SeqCst) + count == wanted;
                Box::pin(async move {
                    for record in batch {
                        let owned = record.to_owned();
                        let copy = owned.as_record().topic(&to).partition(record.partition());
                        transaction.post(copy).await?;
                    }
                    if is_last {
                        tokio::spawn(async move { handle.close().await });
                    }
                    Ok::<_, Error>(())
                })
            });
            timeout(PATIENCE, run).await.unwrap().unwrap();
        });
        let what = format!("the loop copies what Java has committed, {protocol:?}");
        let read = Partner::Java.consume_committed(bootstrap, &copy, partitions, letters.len()).unwrap();
        letter::assert_same_letters(&what, &letters, &read.received);
    }
}

#[test]
fn end_as_they_should_on_real_kafka() {
    let Some(kafka) = real::kafka() else { return };
    ends(&kafka.bootstrap());
}

#[test]
fn end_as_they_should_on_kafka_3_9() {
    let Some(kafka) = real::old() else { return };
    ends(&kafka.bootstrap());
}

#[test]
fn pass_between_milena_and_java_on_real_kafka() {
    let Some(kafka) = real::kafka() else { return };
    with_java(&kafka.bootstrap(), &[Protocol::Classic, Protocol::Consumer]);
}

#[test]
fn pass_between_milena_and_java_on_kafka_3_9() {
    let Some(kafka) = real::old() else { return };
    with_java(&kafka.bootstrap(), &[Protocol::Classic]);
}
