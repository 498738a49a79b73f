//! Partitions that are given up while records of them are in work.

use std::collections::BTreeMap;
use std::time::Duration;

use milena::Protocol;
use milena_pipeline::{Order, Pipeline, Record};

use crate::world::{Counter, LIMIT, Log, World};

/// Members come and go while records are in work, each of which takes some milliseconds. With time to drain, none is processed
/// twice, and the order of each key holds over all members.
async fn come_and_go(protocol: Protocol, order: Order) {
    let world = World::new(6).await;
    let total = 6_000;
    world.write(total, |number| (Some(format!("k{}", number % 60)), number as i32 % 6)).await;
    let (done, log) = (Counter::new(), Log::new());
    let start = |rounds: usize| {
        let (done, log) = (done.clone(), log.clone());
        let consumer = world.client.consumer("billing").protocol(protocol).subscribe(["orders"]);
        let until = done.clone();
        let pipeline = Pipeline::new(consumer).order(order).concurrency(12).drain(Duration::from_secs(20));
        let handler = move |record: Record| {
            let (done, log) = (done.clone(), log.clone());
            async move {
                tokio::time::sleep(Duration::from_millis(1 + record.offset() as u64 % 3)).await;
                log.push((record.partition(), record.key().map(<[u8]>::to_vec), record.offset()));
                done.add();
            }
        };
        tokio::spawn(async move { pipeline.run(handler, async move { until.reach(rounds).await }).await })
    };
    let first = start(total);
    let mut members = Vec::new();
    for round in 1..=5 {
        done.reach(round * 600).await;
        members.push(start(round * 600 + 400));
    }
    let report =
        tokio::time::timeout(LIMIT, first).await.expect("ends").expect("does not panic").expect("succeeds");
    assert!(report.left.is_empty());
    for member in members {
        let report = member.await.expect("does not panic").expect("succeeds");
        assert!(report.left.is_empty(), "{:?}", report.left);
    }
    let mut last = BTreeMap::new();
    let mut seen = BTreeMap::new();
    for (partition, key, offset) in log.all() {
        *seen.entry((partition, offset)).or_insert(0) += 1;
        if order == Order::Key {
            let before = last.insert((partition, key), offset);
            assert!(before.is_none_or(|before| before < offset), "{offset} of {partition} after {before:?}");
        }
    }
    assert_eq!(seen.len(), total);
    let twice: Vec<_> = seen.into_iter().filter(|(_, count)| *count > 1).collect();
    assert!(twice.is_empty(), "processed twice: {twice:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_a_classic_group_come_and_go() {
    come_and_go(Protocol::Classic, Order::Key).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_a_kip_848_group_come_and_go() {
    come_and_go(Protocol::Consumer, Order::Key).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go_without_an_order() {
    come_and_go(Protocol::Consumer, Order::None).await;
}
