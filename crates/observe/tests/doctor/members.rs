//! Members that are stuck, come and go, or are gone.

use std::time::Duration;

use milena::Client;
use milena_observe::doctor::{Fault, diagnose, examine};

use super::world::{World, member, plan, process_all};

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_does_its_work_has_no_findings() {
    let mut world = World::new(3).await;
    world.write(300, 10, |number| (Some(format!("key {number}")), 0)).await;
    world.go_on_writing(3, |number| number as i32 % 3);
    let consumer = member(&world.client).build().await.expect("joins");
    world.spawn(process_all(consumer));
    // Until it has begun.
    while world
        .client
        .admin()
        .list_group_offsets(["billing"])
        .await
        .iter()
        .all(|(_, offsets)| offsets.as_ref().is_ok_and(|offsets| offsets.len() < 3))
    {
        tokio::task::yield_now().await;
    }
    // A busy machine may stop the member for longer than an observation takes, but not every time.
    let mut found = Vec::new();
    for _ in 0..5 {
        found = diagnose(&examine(&world.client, "billing", &plan(6, 300)).await.expect("is seen"));
        if found.is_empty() {
            return;
        }
    }
    panic!("{found:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_hangs_is_found() {
    let mut world = World::new(1).await;
    world.go_on_writing(1, |_| 0);
    let mut consumer = member(&world.client).build().await.expect("joins");
    world.spawn(async move {
        let first = consumer.next().await.expect("reads").expect("a batch");
        consumer.done(&first);
        let _second = consumer.next().await.expect("reads").expect("a batch");
        std::future::pending::<()>().await;
    });
    let finding = world.finds(Fault::StuckHandler, &plan(5, 150)).await;
    assert!(finding.detail.contains("orders:0"), "{finding:?}");
    assert_eq!(finding.command, "milena groups remove-members billing --all");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_holds_its_partition_up_is_found() {
    let mut world = World::new(1).await;
    world.write(20, 10, |_| (None, 0)).await;
    world.go_on_writing(1, |_| 0);
    let mut consumer = member(&world.client).keep_finished().build().await.expect("joins");
    world.spawn(async move {
        while let Ok(Some(batch)) = consumer.next().await {
            batch
                .iter()
                .filter(|record| record.offset() != 7)
                .for_each(|record| consumer.done_record(&record));
        }
    });
    let finding = world.finds(Fault::PoisonRecord, &plan(5, 150)).await;
    assert!(finding.detail.starts_with("the record at offset 7 of orders:0"), "{finding:?}");
    assert_eq!(finding.command, "milena groups offsets reset billing --topic orders:0 --to-offset 8");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_come_and_go_are_found() {
    let mut world = World::new(2).await;
    world.go_on_writing(2, |number| number as i32 % 2);
    let consumer = member(&world.client).build().await.expect("joins");
    world.spawn(process_all(consumer));
    let client = Client::builder().bootstrap(world.cluster.bootstrap()).client_id("flapping");
    let client = client.connect().await.expect("connects");
    world.spawn(async move {
        loop {
            let mut consumer = member(&client).build().await.expect("joins");
            let _ = tokio::time::timeout(Duration::from_millis(300), consumer.next()).await;
            consumer.close().await.expect("leaves");
        }
    });
    world.finds(Fault::RebalanceLoop, &plan(12, 150)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_process_is_gone_is_found() {
    let mut world = World::new(2).await;
    world.go_on_writing(2, |number| number as i32 % 2);
    // A runtime that ends takes its members with it, as the end of a process does: they do not leave the group.
    let process =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("starts");
    let bootstrap = world.cluster.bootstrap().to_owned();
    let joined = process.spawn(async move {
        let client = Client::connect(&bootstrap).await.expect("connects");
        let mut consumer = member(&client).build().await.expect("joins");
        let batch = consumer.next().await.expect("reads");
        drop(batch);
        (client, consumer)
    });
    let gone = joined.await.expect("joined");
    process.shutdown_background();
    let consumer = member(&world.client).build().await.expect("joins");
    world.spawn(process_all(consumer));
    let finding = world.finds(Fault::ZombieMember, &plan(5, 200)).await;
    assert!(finding.detail.contains("does not take part any more"), "{finding:?}");
    drop(gone);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_takes_longer_than_it_may_is_found() {
    let mut world = World::new(1).await;
    world.go_on_writing(1, |_| 0);
    world.client.admin().alter_group_offsets("billing", [(("orders", 0), 0)]).await.expect("committed");
    let consumer = member(&world.client).max_poll_interval(Duration::from_millis(100));
    let mut consumer = consumer.build().await.expect("joins");
    world.spawn(async move {
        loop {
            // It is told once that it was thrown out, and joins again with the next call.
            let Ok(Some(batch)) = consumer.next().await else { continue };
            tokio::time::sleep(Duration::from_millis(900)).await;
            consumer.done(&batch);
        }
    });
    let finding = world.finds(Fault::MaxPollInterval, &plan(16, 150)).await;
    assert!(finding.fix.contains("max.poll.interval.ms"), "{finding:?}");
}
