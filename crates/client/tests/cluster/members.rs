//! Members of a group: who reads what, what is committed, and what happens when members come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use milena::assignors::{Assignor, CooperativeSticky, Range};
use milena::{CommittedOffset, GroupConsumerBuilder};
use tokio::sync::mpsc;

use super::*;

/// A cluster whose groups begin as soon as their first member has joined.
pub(crate) async fn start_grouping(nodes: u16, topics: &[(&str, i32)]) -> (Cluster, Client) {
    let cluster = Broker::builder().nodes(nodes).group_initial_rebalance_delay(Duration::ZERO).start().await;
    let cluster = cluster.expect("started");
    for (topic, partitions) in topics {
        cluster.create_topic(topic, *partitions).expect("created");
    }
    let client = Client::connect(cluster.bootstrap()).await.expect("connected");
    (cluster, client)
}

/// Writes `count` records to each partition, whose values count up.
pub(crate) async fn fill(client: &Client, topic: &str, partitions: i32, count: i64) {
    let producer = client.producer().build().await.expect("built");
    for index in 0..count {
        for partition in 0..partitions {
            let value = index.to_string();
            producer.post(Record::to(topic).partition(partition).value(&value)).await.expect("taken");
        }
    }
    producer.flush().await.expect("flushed");
}

fn member(client: &Client) -> GroupConsumerBuilder {
    client.consumer("g").subscribe(["t"])
}

/// The next batch, which comes soon.
async fn next(consumer: &mut Consumer) -> milena::Batch {
    let next = timeout(PATIENCE, consumer.next()).await.expect("in time");
    next.expect("read").expect("not closed")
}

/// Reads `count` records and marks each batch as done.
async fn read_done(consumer: &mut Consumer, count: usize) -> Vec<(i32, i64)> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let batch = next(consumer).await;
        seen.extend(batch.iter().map(|record| (record.partition(), record.offset())));
        consumer.done(&batch);
    }
    seen
}

async fn committed(consumer: &Consumer, partitions: i32) -> Vec<Option<i64>> {
    let partitions = (0..partitions).map(|partition| ("t", partition));
    let found = timeout(PATIENCE, consumer.committed(partitions)).await.expect("in time").expect("answered");
    found.into_iter().map(|(_, offset)| offset.map(|offset| offset.offset)).collect()
}

#[tokio::test]
async fn a_member_goes_on_after_what_was_done() {
    let (_cluster, client) = start_grouping(1, &[("t", 2)]).await;
    fill(&client, "t", 2, 10).await;
    let mut consumer = member(&client).build().await.expect("built");
    let seen = read_done(&mut consumer, 20).await;
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 20);
    timeout(PATIENCE, consumer.close()).await.expect("in time").expect("closed");
    assert!(consumer.next().await.expect("no error").is_none(), "it was closed");

    fill(&client, "t", 2, 5).await;
    let mut consumer = member(&client).build().await.expect("built");
    let seen = read_done(&mut consumer, 10).await;
    assert!(seen.iter().all(|(_, offset)| *offset >= 10), "{seen:?}");
    consumer.commit().await.expect("committed");
    assert_eq!(committed(&consumer, 2).await, [Some(15), Some(15)]);
}

/// The assignors with which a group rebalances cooperatively.
fn cooperative() -> [Arc<dyn Assignor>; 1] {
    [Arc::new(CooperativeSticky)]
}

/// Waits until the members own `partitions` in all, each of them once, and each member about as many as the others.
async fn balanced(members: &[&Consumer], partitions: usize) {
    let balance = async {
        loop {
            let owned: Vec<_> = members.iter().map(|member| member.assignment()).collect();
            let all: BTreeSet<_> = owned.iter().flatten().collect();
            let least = partitions / members.len();
            if all.len() == partitions && owned.iter().all(|owned| (least..=least + 1).contains(&owned.len()))
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, balance).await.expect("balanced in time");
}

/// What tasks have read: member, partition, offset.
type Seen = mpsc::UnboundedReceiver<(usize, i32, i64)>;

/// Reads in a task of its own until the consumer is closed, and marks each batch as done.
fn reading(index: usize, mut consumer: Consumer, seen: mpsc::UnboundedSender<(usize, i32, i64)>) {
    tokio::spawn(async move {
        while let Some(batch) = consumer.next().await.expect("read") {
            for record in &batch {
                let _ = seen.send((index, record.partition(), record.offset()));
            }
            consumer.done(&batch);
        }
    });
}

/// Waits for `count` records of each partition, each of which comes once.
async fn once(seen: &mut Seen, partitions: i32, count: i64) {
    let mut counts = BTreeMap::<(i32, i64), usize>::new();
    let whole = async {
        while counts.len() < (i64::from(partitions) * count) as usize {
            let (_, partition, offset) = seen.recv().await.expect("a reader");
            *counts.entry((partition, offset)).or_default() += 1;
        }
    };
    let outcome = timeout(PATIENCE, whole).await;
    assert!(outcome.is_ok(), "{} records came", counts.len());
    while let Ok((_, partition, offset)) = seen.try_recv() {
        *counts.entry((partition, offset)).or_default() += 1;
    }
    let twice: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

/// Three members come one after another while records are written, and one goes: each record is read once.
async fn each_record_once(assignors: &[Arc<dyn Assignor>]) {
    const PARTITIONS: i32 = 6;
    let (_cluster, client) = start_grouping(1, &[("t", PARTITIONS)]).await;
    let (tell, mut seen) = mpsc::unbounded_channel();
    let mut handles = Vec::new();
    for round in 0..3 {
        let builder =
            member(&client).assignors(assignors.to_vec()).heartbeat_interval(Duration::from_millis(50));
        let consumer = builder.build().await.expect("built");
        handles.push(consumer.handle());
        reading(round, consumer, tell.clone());
        fill(&client, "t", PARTITIONS, 200).await;
    }
    once(&mut seen, PARTITIONS, 600).await;
    let balance = async {
        while handles.iter().any(|handle| handle.assignment().len() != 2) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, balance).await.expect("balanced in time");
    // One goes. The others go on where it has stopped.
    let gone = handles.remove(0);
    timeout(PATIENCE, gone.close()).await.expect("in time").expect("closed");
    fill(&client, "t", PARTITIONS, 50).await;
    let mut late = BTreeSet::new();
    let whole = async {
        while late.len() < 300 {
            let (member, partition, offset) = seen.recv().await.expect("a reader");
            assert!(
                member != 0 && offset >= 600 && late.insert((partition, offset)),
                "{member} {partition} {offset}"
            );
        }
    };
    timeout(PATIENCE, whole).await.expect("all in time");
}

#[tokio::test]
async fn eager_members_come_and_go_and_each_record_is_read_once() {
    each_record_once(&[Arc::new(Range)]).await;
}

#[tokio::test]
async fn cooperative_members_come_and_go_and_each_record_is_read_once() {
    each_record_once(&cooperative()).await;
}

#[tokio::test]
async fn a_partition_is_given_up_when_its_batch_in_hand_is_finished() {
    let (_cluster, client) = start_grouping(1, &[("t", 2)]).await;
    fill(&client, "t", 2, 10).await;
    let build = || member(&client).heartbeat_interval(Duration::from_millis(50));
    let mut first = build().build().await.expect("built");
    let batches = [next(&mut first).await, next(&mut first).await];
    // A second member comes. An eager member gives all up, but not while the application works on a batch.
    let mut second = build().build().await.expect("built");
    let early = timeout(Duration::from_millis(500), second.next()).await;
    assert!(early.is_err(), "the first member still works on both partitions");
    for batch in &batches {
        first.done(batch);
    }
    balanced(&[&first, &second], 2).await;
    assert_eq!(committed(&second, 2).await, [Some(10), Some(10)]);
    drop(batches);
    fill(&client, "t", 2, 1).await;
    let late = next(&mut second).await;
    assert_eq!(late.first_offset(), 10, "what was done is not read again");
}

#[tokio::test]
async fn a_batch_that_is_dropped_without_being_done_is_read_again_by_the_next_owner() {
    let (_cluster, client) = start_grouping(1, &[("t", 1)]).await;
    fill(&client, "t", 1, 10).await;
    let mut first = member(&client).build().await.expect("built");
    let batch = next(&mut first).await;
    let third = batch.iter().nth(2).expect("ten records");
    first.done_up_to(&third);
    drop(batch);
    timeout(PATIENCE, first.close()).await.expect("in time").expect("closed");
    let mut second = member(&client).build().await.expect("built");
    assert_eq!(next(&mut second).await.first_offset(), 3);
}

#[tokio::test]
async fn hooks_run_before_partitions_are_read_and_before_they_are_given_up() {
    let (_cluster, client) = start_grouping(1, &[("t", 1)]).await;
    fill(&client, "t", 1, 10).await;
    let (tell, mut told) = mpsc::unbounded_channel();
    let assigned = tell.clone();
    let builder = member(&client)
        .on_assigned(move |partitions, handle| {
            handle.seek("t", 0, Position::Offset(7)).expect("assigned");
            let _ = assigned.send(format!("assigned {partitions:?}"));
            async {}
        })
        .on_revoked(move |partitions, handle| {
            let tell = tell.clone();
            async move {
                handle.commit().await.expect("committed");
                let _ = tell.send(format!("revoked {partitions:?}"));
            }
        });
    let mut consumer = builder.build().await.expect("built");
    let batch = next(&mut consumer).await;
    assert_eq!(batch.first_offset(), 7);
    consumer.done(&batch);
    drop(batch);
    assert_eq!(told.recv().await.expect("told"), "assigned [(\"t\", 0)]");
    timeout(PATIENCE, consumer.close()).await.expect("in time").expect("closed");
    assert_eq!(told.recv().await.expect("told"), "revoked [(\"t\", 0)]");
    let other = member(&client).build().await.expect("built");
    assert_eq!(committed(&other, 1).await, [Some(10)]);
}

#[tokio::test]
async fn a_member_that_closes_leaves_at_once_and_so_does_one_that_is_dropped() {
    let (_cluster, client) = start_grouping(1, &[("t", 2)]).await;
    let build = || member(&client).heartbeat_interval(Duration::from_millis(50));
    let first = build().build().await.expect("built");
    let second = build().build().await.expect("built");
    let third = build().build().await.expect("built");
    let all = async {
        while third.assignment().len() + second.assignment().len() + first.assignment().len() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, all).await.expect("assigned");
    // The session timeout is 45 s, longer than this test waits.
    timeout(PATIENCE, first.close()).await.expect("in time").expect("closed");
    drop(second);
    balanced(&[&third], 2).await;
    assert!(first.assignment().is_empty());
    let error = first.commit().await.expect_err("it was closed");
    assert!(error.to_string().contains("the consumer was closed"), "{error}");
}

#[tokio::test]
async fn offsets_are_committed_by_hand_with_their_metadata() {
    let (_cluster, client) = start_grouping(1, &[("t", 1)]).await;
    fill(&client, "t", 1, 10).await;
    let mut consumer = member(&client).manual_commits().build().await.expect("built");
    let batch = next(&mut consumer).await;
    consumer.done(&batch);
    assert_eq!(committed(&consumer, 1).await, [None], "nothing is committed by itself");
    let offset =
        CommittedOffset { offset: 4, leader_epoch: batch.leader_epoch(), metadata: Some("four".into()) };
    consumer.commit_offsets([(("t", 0), offset.clone())]).await.expect("committed");
    let found = consumer.committed([("t", 0)]).await.expect("answered");
    assert_eq!(found, [(("t".to_owned(), 0), Some(offset))]);
    let error = consumer.commit_offsets([(("t", 9), 4)]).await.expect_err("not assigned");
    assert!(error.to_string().contains("committing offset 4 of t-9 in group \"g\""), "{error}");
    consumer.commit().await.expect("committed");
    assert_eq!(committed(&consumer, 1).await, [Some(10)], "what was done counts");
}

#[tokio::test]
async fn what_a_consumer_cannot_do_is_an_error() {
    let (_cluster, client) = start_grouping(1, &[("t", 1)]).await;
    let refused = |error: Error, why: &str| assert!(error.to_string().contains(why), "{error}");
    refused(client.consumer("").subscribe(["t"]).build().await.expect_err("no id"), "the group id is empty");
    refused(client.consumer("g").build().await.expect_err("no topic"), "it subscribes to no topic");
    refused(member(&client).assignors([]).build().await.expect_err("no assignor"), "at least one assignor");
    let builder = member(&client).session_timeout(Duration::from_secs(1));
    refused(builder.build().await.expect_err("too long"), "heartbeat_interval");
    let consumer = member(&client).build().await.expect("built");
    let assigned = consumer.assign([("t", 0)], Position::Earliest).await;
    refused(assigned.expect_err("a member"), "a member of a group");
    let direct = super::consumer(&client, "t", 1).await;
    refused(direct.commit().await.expect_err("no group"), "the consumer is in no group");
    refused(direct.subscribe(["t"]).expect_err("no group"), "the consumer is in no group");
}
