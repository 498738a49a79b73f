//! Faults that are in the records, their keys and partitions, and in transactions and retention.

use std::time::Duration;

use milena::{QuotaChange, QuotaEntity, Record};
use milena_observe::doctor::Fault;

use super::world::{World, member, plan, process_all};

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_gets_most_records_is_found() {
    let mut world = World::new(4).await;
    world.go_on_writing(20, |number| if number % 10 == 0 { number as i32 / 10 % 4 } else { 2 });
    let mut consumer = member(&world.client).build().await.expect("joins");
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
    let finding = world.finds(Fault::HotPartition, &plan(6, 200)).await;
    assert!(finding.detail.starts_with("orders:2 "), "{finding:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_most_records_have_is_found() {
    let world = World::new(4).await;
    world
        .write(500, 10, |number| (Some(if number % 5 == 0 { number.to_string() } else { "whale".into() }), 0))
        .await;
    let offsets = (0..4).map(|partition| (("orders", partition), 0));
    world.client.admin().alter_group_offsets("billing", offsets).await.expect("committed");
    let finding = world.finds(Fault::SkewedKeys, &plan(1, 0)).await;
    assert!(finding.detail.contains("have the key \"whale\""), "{finding:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_stays_open_is_found() {
    let world = World::new(1).await;
    world.write(10, 10, |_| (None, 0)).await;
    let mut producer = world.client.transactional("invoices-1").build().await.expect("a producer");
    let transaction = producer.begin().await.expect("begins");
    transaction.send(Record::to("orders").partition(0).value("open")).await.expect("is written");
    world.client.admin().alter_group_offsets("billing", [(("orders", 0), 10)]).await.expect("committed");
    let finding = world.finds(Fault::OpenTransaction, &plan(3, 50)).await;
    assert_eq!(finding.command, "milena txn describe invoices-1");
    assert!(finding.evidence[0].contains("stays at 10"), "{finding:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_removed_before_they_are_read_are_found() {
    let world = World::new(1).await;
    world.write(100, 10, |_| (None, 0)).await;
    let admin = world.client.admin();
    admin.alter_group_offsets("billing", [(("orders", 0), 10)]).await.expect("committed");
    for (_, deleted) in admin.delete_records([(("orders", 0), 50)]).await.expect("asked") {
        deleted.expect("deleted");
    }
    let finding = world.finds(Fault::OffsetOutOfRetention, &plan(2, 50)).await;
    assert!(finding.detail.starts_with("40 records of orders:0"), "{finding:?}");
    assert_eq!(finding.command, "milena groups offsets reset billing --topic orders:0 --to-earliest");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_slows_the_group_down_is_found() {
    let mut world = World::new(1).await;
    world.write(8000, 500, |_| (None, 0)).await;
    let entity = QuotaEntity::new().client_id("slowed");
    let quota = (entity, vec![QuotaChange::set("consumer_byte_rate", 2000.0)]);
    for (_, altered) in world.client.admin().alter_quotas([quota]).await {
        altered.expect("is set");
    }
    let client = milena::Client::builder().bootstrap(world.cluster.bootstrap()).client_id("slowed");
    let consumer = member(&client.connect().await.expect("connects")).buffered(100_000);
    world.spawn(process_all(consumer.build().await.expect("joins")));
    let finding = world.finds(Fault::QuotaThrottle, &plan(4, 150)).await;
    assert!(
        finding.command.starts_with("milena quota set --client-id slowed consumer_byte_rate="),
        "{finding:?}"
    );
}
