//! Faults that are in the records, their keys and partitions, and in transactions, retention and quotas.

use std::time::Duration;

use milena::{Client, Protocol, QuotaChange, QuotaEntity, Record};
use milena_observe::doctor::Fault;

use super::{World, kafka, plan, process_all};

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_gets_most_records_is_found() {
    let Some(kafka) = kafka() else { return };
    let mut world = World::new(kafka, "doctor-hot", 4, Protocol::Consumer).await;
    world.go_on_writing(20, |number| if number % 10 == 0 { number as i32 / 10 % 4 } else { 2 });
    let mut consumer = world.member().build().await.unwrap();
    world.spawn(async move {
        // The hot partition is processed at a fixed pace, which is less than is written.
        let mut owed: Vec<milena::Batch> = Vec::new();
        while let Ok(Some(batch)) = consumer.next().await {
            if batch.partition() == 2 {
                owed.push(batch);
                tokio::time::sleep(Duration::from_millis(1)).await;
                if let Some(first) = owed.first().filter(|_| owed.len().is_multiple_of(8)) {
                    consumer.done(first);
                    owed.remove(0);
                }
            } else {
                consumer.done(&batch);
            }
        }
    });
    let finding = world.finds(Fault::HotPartition, &plan(6, 300)).await;
    assert!(finding.detail.starts_with("doctor-hot:2 "), "{finding:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_most_records_have_is_found() {
    let Some(kafka) = kafka() else { return };
    let world = World::new(kafka, "doctor-skewed", 4, Protocol::Consumer).await;
    let key = |number: usize| if number.is_multiple_of(5) { number.to_string() } else { "whale".into() };
    world.write(500, 10, |number| (Some(key(number)), 0)).await;
    world.commit((0..4).map(|partition| (partition, 0))).await;
    let finding = world.finds(Fault::SkewedKeys, &plan(1, 0)).await;
    assert!(finding.detail.contains("have the key \"whale\""), "{finding:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_stays_open_is_found() {
    let Some(kafka) = kafka() else { return };
    let world = World::new(kafka, "doctor-open", 1, Protocol::Consumer).await;
    world.write(10, 10, |_| (None, 0)).await;
    let mut producer = world.client.transactional("doctor-invoices-1").build().await.unwrap();
    let transaction = producer.begin().await.unwrap();
    transaction.send(Record::to("doctor-open").partition(0).value("open")).await.unwrap();
    world.commit([(0, 10)]).await;
    let finding = world.finds(Fault::OpenTransaction, &plan(3, 100)).await;
    assert_eq!(finding.command, "milena txn describe doctor-invoices-1");
    assert!(finding.evidence[0].contains("stays at 10"), "{finding:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_removed_before_they_are_read_are_found() {
    let Some(kafka) = kafka() else { return };
    let world = World::new(kafka, "doctor-removed", 1, Protocol::Consumer).await;
    world.write(100, 10, |_| (None, 0)).await;
    world.commit([(0, 10)]).await;
    for (_, deleted) in world.client.admin().delete_records([(("doctor-removed", 0), 50)]).await.unwrap() {
        deleted.unwrap();
    }
    let finding = world.finds(Fault::OffsetOutOfRetention, &plan(2, 50)).await;
    assert!(finding.detail.starts_with("40 records of doctor-removed:0"), "{finding:?}");
    let command = "milena groups offsets reset doctor-removed --topic doctor-removed:0 --to-earliest";
    assert_eq!(finding.command, command);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_slows_the_group_down_is_found() {
    let Some(kafka) = kafka() else { return };
    let mut world = World::new(kafka, "doctor-quota", 1, Protocol::Consumer).await;
    world.write(8000, 500, |_| (None, 0)).await;
    let entity = QuotaEntity::new().client_id("doctor-slowed");
    let quota = (entity, vec![QuotaChange::set("consumer_byte_rate", 2000.0)]);
    for (_, altered) in world.client.admin().alter_quotas([quota]).await {
        altered.unwrap();
    }
    let client = Client::builder().bootstrap(&kafka.bootstrap()).client_id("doctor-slowed");
    let consumer = world.member_of(&client.connect().await.unwrap()).buffered(100_000);
    world.spawn(async move { process_all(consumer.build().await.unwrap()).await });
    let finding = world.finds(Fault::QuotaThrottle, &plan(4, 300)).await;
    let command = "milena quota set --client-id doctor-slowed consumer_byte_rate=";
    assert!(finding.command.starts_with(command), "{finding:?}");
}
