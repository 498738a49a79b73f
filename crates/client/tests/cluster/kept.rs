//! What members keep over rebalances: what is buffered, what is paused, and what is done.

use std::collections::BTreeSet;

use milena_messages::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use tokio::sync::{mpsc, oneshot};

use super::flow::{self, Meter};
use super::groups::Raw;
use super::members::{HEARTBEAT, WAYS, Way, fill, next, read_done, start_grouping, until};
use super::*;

/// The ways of rebalancing in which a member keeps partitions.
const KEEPING: [Way; 2] = [Way::Cooperative, Way::Consumer];
const VALUE: usize = 4000;

/// A cluster in which one member reads topics `t` and `u` of two partitions each. Members that come later read `u` alone, so
/// that the first one gives up `u` and keeps `t`.
async fn start_keeping() -> (Cluster, Client) {
    start_grouping(1, &[("t", 2), ("u", 2)]).await
}

/// Another member has come, which reads `u` alone. It owns all of `u`, or half of it by range.
async fn come(way: Way, client: &Client) -> Consumer {
    let other = way.member(client, &["u"]).build().await.expect("built");
    let count = if way == Way::Eager { 1 } else { 2 };
    until("the other member has its part of u", || other.assignment().len() == count).await;
    other
}

/// The member has left, and the first one has all again.
async fn go(other: Consumer, first: &milena::ConsumerHandle) {
    timeout(PATIENCE, other.close()).await.expect("in time").expect("closed");
    until("the first member has u again", || first.assignment().len() == 4).await;
}

#[tokio::test]
async fn what_is_buffered_of_a_kept_partition_stays_and_is_read_while_the_group_rebalances() {
    const COUNT: usize = 200;
    const ROUNDS: usize = 5;
    for way in KEEPING {
        let (cluster, filler) = start_keeping().await;
        flow::fill(&filler, 2, COUNT, &[7; VALUE]).await;
        let meter = Meter::default();
        let builder = Client::builder().bootstrap(cluster.bootstrap()).connector(meter.clone());
        let client = builder.connect().await.expect("connected");
        let (tell, mut told) = mpsc::unbounded_channel();
        let builder = way.member(&client, &["t", "u"]).on_revoked(move |partitions, _| {
            let _ = tell.send(partitions);
            async {}
        });
        let mut first = builder.build().await.expect("built");
        let mut buffered = 2 * COUNT;
        until("all is buffered", || first.flow().buffered_records == buffered).await;

        let mut read = [0; 2];
        let mut take = |batch: &milena::Batch, buffered: &mut usize| {
            let place = batch.partition() as usize;
            assert_eq!((batch.topic(), batch.first_offset()), ("t", read[place]), "{way:?}");
            read[place] = batch.next_offset();
            *buffered -= 1;
        };
        for _ in 0..ROUNDS {
            fill(&filler, "u", 2, 1).await;
            until("u is here", || first.flow().buffered_records == buffered + 2).await;
            let mut held = Vec::new();
            while held.len() < 2 {
                let batch = next(&mut first).await;
                first.done(&batch);
                match batch.topic() {
                    "u" => held.push(batch),
                    _ => take(&batch, &mut buffered),
                }
            }
            // The other member gets `u` when these two batches are finished. Until then the group rebalances.
            let (other, ()) = tokio::join!(come(way, &filler), async {
                let given_up = timeout(PATIENCE, told.recv()).await.expect("in time").expect("told");
                assert!(given_up.iter().all(|(topic, _)| topic == "u"), "{way:?}: {given_up:?}");
                for _ in 0..4 {
                    let batch = first.try_next().expect("no error").expect("it is buffered");
                    take(&batch, &mut buffered);
                    first.done(&batch);
                }
                flow::fill(&filler, 2, 1, &[7; VALUE]).await;
                buffered += 2;
                until("fetching goes on", || first.flow().buffered_records == buffered).await;
                drop(held);
            });
            go(other, &first.handle()).await;
            while told.try_recv().is_ok() {}
        }
        let unread = buffered;
        for _ in 0..unread {
            let batch = next(&mut first).await;
            take(&batch, &mut buffered);
        }
        assert_eq!(read, [(COUNT + ROUNDS) as i64; 2]);
        let (came, written) = (meter.bytes(), (2 * (COUNT + ROUNDS) * VALUE) as u64);
        // What was buffered when the group rebalanced was most of it.
        assert!((written..written * 21 / 20).contains(&came), "{way:?}: {came} bytes came for {written}");
    }
}

#[tokio::test]
async fn what_is_on_its_way_of_a_kept_partition_is_fetched_once_while_members_come_and_go() {
    const ROUNDS: usize = 8;
    // Large enough that what is around a record is little beside it, even if a fetch brings one record.
    const VALUE: usize = 20_000;
    for way in KEEPING {
        let (cluster, filler) = start_keeping().await;
        let meter = Meter::default();
        let builder = Client::builder().bootstrap(cluster.bootstrap()).connector(meter.clone());
        let client = builder.connect().await.expect("connected");
        let mut first = way.member(&client, &["t", "u"]).build().await.expect("built");
        until("the first member has all", || first.assignment().len() == 4).await;
        let handle = first.handle();
        let (stop, mut stopped) = oneshot::channel::<()>();
        let writing = {
            let filler = filler.clone();
            tokio::spawn(async move {
                let mut count = 0;
                while stopped.try_recv().is_err() {
                    flow::fill(&filler, 2, 10, &[7; VALUE]).await;
                    count += 10;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                count
            })
        };
        let (tell, mut told) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut read = [0; 2];
            while let Some(batch) = first.next().await.expect("read") {
                let place = batch.partition() as usize;
                assert_eq!((batch.topic(), batch.first_offset()), ("t", read[place]), "{way:?}");
                read[place] = batch.next_offset();
                first.done(&batch);
                let _ = tell.send(read);
            }
        });
        for _ in 0..ROUNDS {
            let other = come(way, &filler).await;
            go(other, &handle).await;
        }
        stop.send(()).expect("it writes");
        let count = writing.await.expect("written");
        let all = async { while told.recv().await.expect("a reader") != [count; 2] {} };
        timeout(PATIENCE, all).await.expect("all in time");
        let (came, written) = (meter.bytes(), 2 * count as u64 * VALUE as u64);
        // Headers, heartbeats and metadata are the remainder, 0.5 %. An eager member fetches 4 % and more of it twice.
        let most = written + written / 80 + 20_000;
        assert!((written..most).contains(&came), "{way:?}: {came} bytes came for {written}");
    }
}

#[tokio::test]
async fn a_paused_partition_that_is_kept_stays_paused() {
    for way in KEEPING {
        let (_cluster, client) = start_keeping().await;
        let mut first = way.member(&client, &["t", "u"]).build().await.expect("built");
        until("the first member has all", || first.assignment().len() == 4).await;
        let paused = first.partition_handle("t", 0).expect("assigned");
        paused.pause();
        let handle = first.handle();
        for round in 0..4 {
            let other = come(way, &client).await;
            assert!(paused.is_paused() && paused.is_assigned(), "{way:?}");
            fill(&client, "t", 2, 1).await;
            let batch = next(&mut first).await;
            assert_eq!((batch.partition(), batch.first_offset()), (1, 2 * round), "{way:?}");
            go(other, &handle).await;
            assert!(paused.is_paused() && paused.is_assigned(), "{way:?}");
            fill(&client, "t", 2, 1).await;
            let batch = next(&mut first).await;
            assert_eq!((batch.partition(), batch.first_offset()), (1, 2 * round + 1), "{way:?}");
            assert!(timeout(2 * HEARTBEAT, first.next()).await.is_err(), "{way:?}: it is paused");
        }
        paused.resume();
        let seen = read_done(&mut first, 8).await;
        assert_eq!(seen, (0..8).map(|offset| (0, offset)).collect::<Vec<_>>(), "{way:?}");
    }
}

#[tokio::test]
async fn partitions_that_a_topic_gets_are_read_from_their_first_record() {
    for way in WAYS {
        let (cluster, filler) = start_grouping(1, &[("t", 1)]).await;
        let builder = Client::builder().bootstrap(cluster.bootstrap());
        let builder = builder.settings(|settings| settings.metadata_age_max = Duration::from_secs(1));
        let client = builder.connect().await.expect("connected");
        fill(&filler, "t", 1, 5).await;
        let mut first = way.member(&client, &["t"]).build().await.expect("built");
        read_done(&mut first, 5).await;
        let mut node = Raw::connect(&cluster, *cluster.addresses().keys().next().expect("one")).await;
        for count in [2, 4] {
            let topic =
                CreatePartitionsTopic { name: "t".into(), count, assignments: None, ..Default::default() };
            let request =
                CreatePartitionsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
            let answer = node.ask(request, 2).await;
            assert!(answer.results[0].error_code.is_none(), "{answer:?}");
            // The member does not know of them yet.
            let late = Client::connect(cluster.bootstrap()).await.expect("connected");
            fill(&late, "t", count, 5).await;
            let seen = read_done(&mut first, 5 * count as usize).await;
            for partition in count / 2..count {
                let offsets = seen.iter().filter(|(of, _)| *of == partition).map(|(_, offset)| *offset);
                assert_eq!(offsets.collect::<Vec<_>>(), [0, 1, 2, 3, 4], "{way:?}: partition {partition}");
            }
            assert_eq!(first.assignment().len(), count as usize, "{way:?}");
        }
    }
}

#[tokio::test]
async fn what_an_eager_member_has_done_is_not_read_again_when_its_partitions_come_back() {
    const ROUNDS: usize = 6;
    let (_cluster, client) = start_keeping().await;
    let mut first = Way::Eager.member(&client, &["t", "u"]).build().await.expect("built");
    let mut seen = BTreeSet::new();
    for round in 0..ROUNDS {
        // Several batches of each partition. Some of them are buffered, and not read, when all is given up.
        for _ in 0..4 {
            fill(&client, "t", 2, 5).await;
        }
        for _ in 0..3 {
            let batch = next(&mut first).await;
            for record in &batch {
                assert!(seen.insert((record.partition(), record.offset())), "{record:?} came twice");
            }
            first.done(&batch);
        }
        // A batch that is not done comes again, and it alone does.
        let undone = next(&mut first).await;
        let again = (undone.partition(), undone.first_offset());
        assert!(undone.iter().all(|record| !seen.contains(&(record.partition(), record.offset()))));
        drop(undone);
        let other = come(Way::Eager, &client).await;
        go(other, &first.handle()).await;
        let mut has_come_again = false;
        while seen.len() < (round + 1) * 40 {
            let batch = next(&mut first).await;
            for record in &batch {
                let at = (record.partition(), record.offset());
                has_come_again |= at == again;
                assert!(seen.insert(at), "{record:?} came twice");
            }
            first.done(&batch);
        }
        assert!(has_come_again);
    }
}

#[tokio::test]
async fn a_partition_with_too_many_gaps_waits_alone_until_a_gap_is_closed() {
    // As many finished runs as the group keeps of a partition, and each is one record before one that is not finished.
    const RECORDS: i64 = 2 * milena_core::group::ledger::RUNS_MAX as i64;
    const MORE: i64 = 1000;
    let (_cluster, client) = start_grouping(1, &[("t", 2)]).await;
    let producer = client.producer().batch_bytes_max(8000).build().await.expect("built");
    for _ in 0..RECORDS + 2 * MORE {
        producer.post(Record::to("t").partition(0).value("v")).await.expect("taken");
    }
    producer.flush().await.expect("written");
    let mut consumer = Way::Consumer.member(&client, &["t"]).build().await.expect("built");
    let mut batches = Vec::new();
    let mut read = 0;
    while read < RECORDS {
        let batch = next(&mut consumer).await;
        read = batch.next_offset();
        for record in batch.iter().filter(|record| record.offset() % 2 == 1) {
            consumer.done_record(&record);
        }
        batches.push(batch);
    }
    timeout(PATIENCE, consumer.commit()).await.expect("in time").expect("committed");
    assert!(consumer.try_next().expect("no error").is_none(), "{read} were read");
    // The other partition is read.
    producer.post(Record::to("t").partition(1).value("v")).await.expect("taken");
    producer.flush().await.expect("written");
    let batch = next(&mut consumer).await;
    assert_eq!((batch.partition(), batch.first_offset()), (1, 0));
    assert!(timeout(2 * HEARTBEAT, consumer.next()).await.is_err(), "partition 0 waits");
    for batch in &batches {
        consumer.done(batch);
    }
    drop(batches);
    let batch = next(&mut consumer).await;
    assert_eq!((batch.partition(), batch.first_offset()), (0, read));
}
