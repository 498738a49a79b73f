//! Members that are stuck, come and go, or are gone.

use std::time::Duration;

use milena::Client;
use milena_observe::doctor::{Fault, diagnose, examine};

use super::{PROTOCOLS, World, kafka, member, plan, process_all};

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_does_its_work_has_no_findings() {
    let Some(kafka) = kafka() else { return };
    for (protocol, word) in PROTOCOLS {
        let mut world = World::new(kafka, &format!("doctor-well-{word}"), 3, protocol).await;
        world.write(300, 10, |number| (Some(format!("key {number}")), 0)).await;
        world.go_on_writing(3, |number| number as i32 % 3);
        let consumer = world.member().build().await.unwrap();
        world.spawn(process_all(consumer));
        let group = world.name.as_str();
        let has_begun = async || {
            let offsets = world.client.admin().list_group_offsets([group]).await;
            offsets.iter().all(|(_, offsets)| offsets.as_ref().is_ok_and(|offsets| offsets.len() == 3))
        };
        while !has_begun().await {
            tokio::task::yield_now().await;
        }
        // A busy machine may stop the member for longer than an observation takes, but not every time.
        let mut found = Vec::new();
        for _ in 0..5 {
            found = diagnose(&examine(&world.client, group, &plan(6, 300)).await.unwrap());
            if found.is_empty() {
                break;
            }
        }
        assert!(found.is_empty(), "{protocol:?}: {found:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_hangs_is_found() {
    let Some(kafka) = kafka() else { return };
    for (protocol, word) in PROTOCOLS {
        let mut world = World::new(kafka, &format!("doctor-stuck-{word}"), 1, protocol).await;
        world.go_on_writing(1, |_| 0);
        let mut consumer = world.member().build().await.unwrap();
        world.spawn(async move {
            let first = consumer.next().await.unwrap().unwrap();
            consumer.done(&first);
            let _second = consumer.next().await.unwrap().unwrap();
            std::future::pending::<()>().await;
        });
        let finding = world.finds(Fault::StuckHandler, &plan(5, 300)).await;
        let name = &world.name;
        assert!(finding.detail.contains(&format!("{name}:0")), "{finding:?}");
        assert_eq!(finding.command, format!("milena groups remove-members {name} --all"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_holds_its_partition_up_is_found() {
    let Some(kafka) = kafka() else { return };
    for (protocol, word) in PROTOCOLS {
        let mut world = World::new(kafka, &format!("doctor-poison-{word}"), 1, protocol).await;
        world.write(20, 10, |_| (None, 0)).await;
        world.go_on_writing(1, |_| 0);
        let mut consumer = world.member().keep_finished().build().await.unwrap();
        world.spawn(async move {
            while let Ok(Some(batch)) = consumer.next().await {
                batch
                    .iter()
                    .filter(|record| record.offset() != 7)
                    .for_each(|record| consumer.done_record(&record));
            }
        });
        let finding = world.finds(Fault::PoisonRecord, &plan(5, 300)).await;
        let name = &world.name;
        assert!(finding.detail.starts_with(&format!("the record at offset 7 of {name}:0")), "{finding:?}");
        let command = format!("milena groups offsets reset {name} --topic {name}:0 --to-offset 8");
        assert_eq!(finding.command, command);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_come_and_go_are_found() {
    let Some(kafka) = kafka() else { return };
    for (protocol, word) in PROTOCOLS {
        let mut world = World::new(kafka, &format!("doctor-loop-{word}"), 2, protocol).await;
        world.go_on_writing(2, |number| number as i32 % 2);
        let consumer = world.member().build().await.unwrap();
        world.spawn(process_all(consumer));
        let client = Client::builder().bootstrap(&kafka.bootstrap()).client_id("flapping");
        let client = client.connect().await.unwrap();
        let name = world.name.clone();
        world.spawn(async move {
            loop {
                let mut consumer = member(&client, &name, protocol).build().await.unwrap();
                let _ = tokio::time::timeout(Duration::from_millis(700), consumer.next()).await;
                consumer.close().await.unwrap();
            }
        });
        world.finds(Fault::RebalanceLoop, &plan(12, 300)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_process_is_gone_is_found() {
    let Some(kafka) = kafka() else { return };
    for (protocol, word) in PROTOCOLS {
        let mut world = World::new(kafka, &format!("doctor-zombie-{word}"), 2, protocol).await;
        world.go_on_writing(2, |number| number as i32 % 2);
        // A runtime that ends takes its members with it, as the end of a process does: they do not leave the group.
        let process =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let bootstrap = kafka.bootstrap();
        let (group, topic) = (world.name.clone(), world.name.clone());
        let joined = process.spawn(async move {
            let client = Client::connect(&bootstrap).await.unwrap();
            let member = client.consumer(group).subscribe([topic]).protocol(protocol);
            let mut consumer = member.build().await.unwrap();
            drop(consumer.next().await.unwrap());
            (client, consumer)
        });
        let gone = joined.await.unwrap();
        process.shutdown_background();
        // In the classic protocol it waits for the one that is gone.
        let member = world.member();
        world.spawn(async move {
            process_all(member.build().await.unwrap()).await;
        });
        let finding = world.finds(Fault::ZombieMember, &plan(5, 300)).await;
        let is_named = ["does not take part any more", "does not join again"]
            .iter()
            .any(|words| finding.detail.contains(words));
        assert!(is_named, "{finding:?}");
        drop(gone);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_takes_longer_than_it_may_is_found() {
    let Some(kafka) = kafka() else { return };
    for (protocol, word) in PROTOCOLS {
        let mut world = World::new(kafka, &format!("doctor-poll-{word}"), 1, protocol).await;
        world.go_on_writing(1, |_| 0);
        world.commit([(0, 0)]).await;
        let mut consumer =
            world.member().max_poll_interval(Duration::from_millis(100)).build().await.unwrap();
        world.spawn(async move {
            loop {
                // It is told once that it was thrown out, and joins again with the next call.
                let Ok(Some(batch)) = consumer.next().await else { continue };
                tokio::time::sleep(Duration::from_millis(1500)).await;
                consumer.done(&batch);
            }
        });
        let finding = world.finds(Fault::MaxPollInterval, &plan(16, 250)).await;
        assert!(finding.fix.contains("max.poll.interval.ms"), "{finding:?}");
    }
}
