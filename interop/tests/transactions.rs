//! Milena's transactions on real Kafka, old and new: each has another version of the protocol.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use milena::{Client, Error, Isolation, NewTopic, Protocol, Record, TransactionEnd, TransactionalProducer};
use milena_interop::real;
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

/// The loop copies exactly once, of a topic with committed and aborted records.
fn copies(bootstrap: &str, protocols: &[Protocol]) {
    Runtime::new().unwrap().block_on(async {
        let client = Client::connect(bootstrap).await.unwrap();
        let input = "transactions-input";
        create(&client, input).await;
        let mut producer = transactional(&client, "input").await;
        let mut expected = Vec::new();
        for round in 0..100 {
            let transaction = producer.begin().await.unwrap();
            for partition in 0..PARTITIONS {
                let value = format!("{round:03} {partition}");
                transaction.post(Record::to(input).partition(partition).value(&value)).await.unwrap();
                if round % 3 != 2 {
                    expected.push(value);
                }
            }
            if round % 3 == 2 {
                transaction.flush().await.unwrap();
                timeout(PATIENCE, transaction.abort()).await.unwrap().unwrap();
            } else {
                timeout(PATIENCE, transaction.commit()).await.unwrap().unwrap();
            }
        }
        for protocol in protocols {
            let copy = format!("transactions-copy-{protocol:?}");
            create(&client, &copy).await;
            let consumer = client
                .consumer(copy.as_str())
                .subscribe([input])
                .protocol(*protocol)
                .isolation(Isolation::ReadCommitted)
                .manual_commits()
                .build()
                .await
                .unwrap();
            let (handle, producer) = (consumer.handle(), transactional(&client, &copy).await);
            let (copied, wanted, to) = (AtomicUsize::new(0), expected.len(), copy.clone());
            let run = milena::exactly_once(consumer, producer).run(move |transaction, batch| {
                let (handle, to) = (handle.clone(), to.clone());
                let count = batch.iter().count();
                let is_last = copied.fetch_add(count, Ordering::SeqCst) + count == wanted;
                Box::pin(async move {
                    for record in batch {
                        let owned = record.to_owned();
                        transaction.post(owned.as_record().topic(&to).partition(record.partition())).await?;
                    }
                    if is_last {
                        tokio::spawn(async move { handle.close().await });
                    }
                    Ok::<_, Error>(())
                })
            });
            timeout(PATIENCE, run).await.unwrap().unwrap();
            assert_eq!(values(&client, &copy, Isolation::ReadCommitted).await, expected, "{protocol:?}");
        }
    });
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
fn are_copied_exactly_once_on_real_kafka() {
    let Some(kafka) = real::kafka() else { return };
    copies(&kafka.bootstrap(), &[Protocol::Classic, Protocol::Consumer]);
}

#[test]
fn are_copied_exactly_once_on_kafka_3_9() {
    let Some(kafka) = real::old() else { return };
    copies(&kafka.bootstrap(), &[Protocol::Classic]);
}
