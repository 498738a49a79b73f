//! Handlers of groups of records.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use milena_pipeline::dead_letters::DeadLetters;
use milena_pipeline::{Failure, Order, Pipeline, Record, Retry, Together};

use crate::world::{Counter, Log, World};

/// The groups that a handler was called with: of each record, its partition, key and offset.
type Groups = Log<Vec<(i32, Option<Vec<u8>>, i64)>>;

async fn groups(order: Order, together: Together) -> Vec<Vec<(i32, Option<Vec<u8>>, i64)>> {
    let world = World::new(2).await;
    world.write(600, |number| (Some(format!("k{}", number % 10)), (number % 10) as i32 % 2)).await;
    let (count, log) = (Counter::new(), Groups::new());
    let handler = {
        let (count, log) = (count.clone(), log.clone());
        move |records: Vec<Record>| {
            let (count, log) = (count.clone(), log.clone());
            async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                let of =
                    |record: &Record| (record.partition(), record.key().map(<[u8]>::to_vec), record.offset());
                log.push(records.iter().map(of).collect());
                for _ in &records {
                    count.add();
                }
            }
        }
    };
    let pipeline =
        Pipeline::new(world.client.consumer("billing").subscribe(["orders"])).order(order).workers(1);
    let report = pipeline.run_together(together, handler, count.reach(600)).await.expect("succeeds");
    assert_eq!(report.finished, 600);
    let committed = [world.committed("billing", 0).await, world.committed("billing", 1).await];
    assert_eq!(committed, [Some(300), Some(300)]);
    let groups = log.all();
    let mut last = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (partition, key, offset) in groups.iter().flatten() {
        assert!(seen.insert((*partition, *offset)), "twice");
        let key = if order == Order::Partition { None } else { key.clone() };
        if order != Order::None {
            let before = last.insert((*partition, key), *offset);
            assert!(before.is_none_or(|before| before < *offset), "{offset} after {before:?}");
        }
    }
    assert!(
        groups.iter().all(|group| group.iter().all(|record| record.0 == group[0].0)),
        "one partition each"
    );
    groups
}

#[tokio::test]
async fn groups_of_a_partition_are_full_and_in_order() {
    let groups = groups(Order::Partition, Together::up_to(50)).await;
    assert_eq!(groups.len(), 12);
    for group in groups {
        let offsets: Vec<i64> = group.iter().map(|record| record.2).collect();
        assert!(offsets.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{offsets:?}");
    }
}

#[tokio::test]
async fn groups_without_an_order_are_full() {
    assert_eq!(groups(Order::None, Together::up_to(100)).await.len(), 6);
}

#[tokio::test]
async fn groups_by_key_have_one_key_each() {
    let groups = groups(Order::Key, Together::up_to(20).by_key()).await;
    assert!(groups.iter().all(|group| group.iter().all(|record| record.1 == group[0].1)));
    assert_eq!(groups.len(), 30);
}

#[tokio::test]
async fn a_group_that_does_not_get_full_starts_when_its_time_is_over() {
    let groups = groups(Order::Partition, Together::up_to(10_000).within(Duration::from_millis(5))).await;
    assert_eq!(groups.iter().map(Vec::len).sum::<usize>(), 600);
}

#[tokio::test]
async fn groups_of_several_keys_keep_the_order_of_each() {
    groups(Order::Key, Together::up_to(7)).await;
}

#[tokio::test]
async fn one_bad_record_does_no_harm_to_the_others_of_its_group() {
    let world = World::new(1).await;
    world.write(40, |number| (Some(number.to_string()), 0)).await;
    for order in [Order::Partition, Order::None, Order::Key] {
        let (count, log) = (Counter::new(), Log::new());
        let handler = {
            let (count, log) = (count.clone(), log.clone());
            move |records: Vec<Record>| {
                let (count, log) = (count.clone(), log.clone());
                async move {
                    if records.iter().any(|record| record.offset() == 17) {
                        return Err(Failure::retriable("17 is not for us"));
                    }
                    for record in records {
                        log.push(record.offset());
                        count.add();
                    }
                    Ok(())
                }
            }
        };
        let group = format!("billing {order:?}");
        let pipeline =
            Pipeline::new(world.client.consumer(group.as_str()).subscribe(["orders"])).order(order);
        let pipeline = pipeline.retry(Retry::fixed(Duration::from_millis(1)).attempts(3));
        let pipeline = pipeline.dead_letters(DeadLetters::to("orders.dlq").create(true)).workers(1);
        let watch = pipeline.watch();
        let stop = async {
            count.reach(39).await;
            while watch.stats().dead < 1 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let report = pipeline.run_together(Together::up_to(10), handler, stop).await.expect("succeeds");
        assert_eq!((report.finished, report.dead, report.retries), (40, 1, 2), "{order:?}");
        let mut offsets = log.all();
        if order == Order::Partition {
            assert!(offsets.is_sorted(), "{offsets:?}");
        }
        offsets.sort_unstable();
        assert_eq!(offsets, (0..40).filter(|offset| *offset != 17).collect::<Vec<_>>(), "{order:?}");
        assert_eq!(world.committed(&group, 0).await, Some(40));
    }
}
