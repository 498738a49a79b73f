//! Members of a group: who reads what, what is committed, and what happens when members come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use milena::assignors::{Assignor, CooperativeSticky, Range};
use milena::{CommittedOffset, GroupConsumerBuilder, GroupType, Protocol};
use tokio::sync::mpsc;

use super::*;

/// How often members send a heartbeat, so that they learn of a rebalance soon.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(50);

/// A cluster whose groups begin as soon as their first member has joined.
pub(crate) async fn start_grouping(nodes: u16, topics: &[(&str, i32)]) -> (Cluster, Client) {
    let builder = Broker::builder().nodes(nodes).group_initial_rebalance_delay(Duration::ZERO);
    let cluster = builder.group_consumer_heartbeat_interval(HEARTBEAT).start().await.expect("started");
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

/// How a group rebalances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The classic protocol: each member gives up all it has.
    Eager,
    /// The classic protocol: each member gives up only what another member gets.
    Cooperative,
    /// KIP-848.
    Consumer,
}

pub(crate) const WAYS: [Way; 3] = [Way::Eager, Way::Cooperative, Way::Consumer];

impl Way {
    /// A member of group `g` that hears of a rebalance soon.
    pub(crate) fn member(self, client: &Client, topics: &[&str]) -> GroupConsumerBuilder {
        let builder = client.consumer("g").subscribe(topics);
        let assignor: Arc<dyn Assignor> = match self {
            Self::Eager => Arc::new(Range),
            Self::Cooperative => Arc::new(CooperativeSticky),
            Self::Consumer => return builder.protocol(Protocol::Consumer),
        };
        builder.protocol(Protocol::Classic).heartbeat_interval(HEARTBEAT).assignors([assignor])
    }
}

/// The next batch, which comes soon.
pub(crate) async fn next(consumer: &mut Consumer) -> milena::Batch {
    let next = timeout(PATIENCE, consumer.next()).await.expect("in time");
    next.expect("read").expect("not closed")
}

/// Reads `count` records and marks each batch as done.
pub(crate) async fn read_done(consumer: &mut Consumer, count: usize) -> Vec<(i32, i64)> {
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
    for way in WAYS {
        let (_cluster, client) = start_grouping(1, &[("t", 2)]).await;
        fill(&client, "t", 2, 10).await;
        let mut consumer = way.member(&client, &["t"]).build().await.expect("built");
        let seen = read_done(&mut consumer, 20).await;
        assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 20);
        timeout(PATIENCE, consumer.close()).await.expect("in time").expect("closed");
        assert!(consumer.next().await.expect("no error").is_none(), "it was closed");

        fill(&client, "t", 2, 5).await;
        let mut consumer = way.member(&client, &["t"]).build().await.expect("built");
        let seen = read_done(&mut consumer, 10).await;
        assert!(seen.iter().all(|(_, offset)| *offset >= 10), "{seen:?}");
        consumer.commit().await.expect("committed");
        assert_eq!(committed(&consumer, 2).await, [Some(15), Some(15)]);
    }
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
pub(crate) type Seen = mpsc::UnboundedReceiver<(usize, i32, i64)>;

/// Reads in a task of its own until the consumer is closed, and marks each batch as done.
pub(crate) fn reading(index: usize, mut consumer: Consumer, seen: mpsc::UnboundedSender<(usize, i32, i64)>) {
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
pub(crate) async fn once(seen: &mut Seen, partitions: i32, count: i64) {
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
async fn each_record_once(way: Way) {
    const PARTITIONS: i32 = 6;
    let (_cluster, client) = start_grouping(1, &[("t", PARTITIONS)]).await;
    let (tell, mut seen) = mpsc::unbounded_channel();
    let mut handles = Vec::new();
    for round in 0..3 {
        let consumer = way.member(&client, &["t"]).build().await.expect("built");
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
    each_record_once(Way::Eager).await;
}

#[tokio::test]
async fn cooperative_members_come_and_go_and_each_record_is_read_once() {
    each_record_once(Way::Cooperative).await;
}

#[tokio::test]
async fn members_of_the_consumer_protocol_come_and_go_and_each_record_is_read_once() {
    each_record_once(Way::Consumer).await;
}

#[tokio::test]
async fn a_partition_is_given_up_when_its_batch_in_hand_is_finished() {
    for way in WAYS {
        let (_cluster, client) = start_grouping(1, &[("t", 2)]).await;
        fill(&client, "t", 2, 10).await;
        let build = || way.member(&client, &["t"]).build();
        let mut first = build().await.expect("built");
        let batches = [next(&mut first).await, next(&mut first).await];
        // A second member comes, and the application works on a batch of each partition that it could get.
        let mut second = build().await.expect("built");
        let early = timeout(Duration::from_millis(500), second.next()).await;
        assert!(early.is_err(), "{way:?}: the first member still works on both partitions");
        for batch in &batches {
            first.done(batch);
        }
        balanced(&[&first, &second], 2).await;
        // What is kept is committed in the background.
        timeout(PATIENCE, first.commit()).await.expect("in time").expect("committed");
        assert_eq!(committed(&second, 2).await, [Some(10), Some(10)], "{way:?}");
        drop(batches);
        fill(&client, "t", 2, 1).await;
        let late = next(&mut second).await;
        assert_eq!(late.first_offset(), 10, "{way:?}: what was done is not read again");
    }
}

#[tokio::test]
async fn a_batch_that_is_dropped_without_being_done_is_read_again_by_the_next_owner() {
    for way in WAYS {
        let (_cluster, client) = start_grouping(1, &[("t", 1)]).await;
        fill(&client, "t", 1, 10).await;
        let mut first = way.member(&client, &["t"]).build().await.expect("built");
        let batch = next(&mut first).await;
        let third = batch.iter().nth(2).expect("ten records");
        first.done_up_to(&third);
        drop(batch);
        timeout(PATIENCE, first.close()).await.expect("in time").expect("closed");
        let mut second = way.member(&client, &["t"]).build().await.expect("built");
        assert_eq!(next(&mut second).await.first_offset(), 3);
    }
}

#[tokio::test]
async fn hooks_run_before_partitions_are_read_and_before_they_are_given_up() {
    for way in WAYS {
        let (_cluster, client) = start_grouping(1, &[("t", 1)]).await;
        fill(&client, "t", 1, 10).await;
        let (tell, mut told) = mpsc::unbounded_channel();
        let assigned = tell.clone();
        let builder = way
            .member(&client, &["t"])
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
        let other = way.member(&client, &["t"]).build().await.expect("built");
        assert_eq!(committed(&other, 1).await, [Some(10)]);
    }
}

#[tokio::test]
async fn a_member_that_closes_leaves_at_once_and_so_does_one_that_is_dropped() {
    for way in WAYS {
        let (_cluster, client) = start_grouping(1, &[("t", 2)]).await;
        let build = || way.member(&client, &["t"]);
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

/// Waits until `is_so`.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn the_consumer_protocol_is_used_where_it_is_there() {
    let (_cluster, client) = start_grouping(1, &[("t", 4)]).await;
    for (protocol, expected) in [
        (Protocol::Automatic, GroupType::Consumer),
        (Protocol::Consumer, GroupType::Consumer),
        (Protocol::Classic, GroupType::Classic),
    ] {
        let group = format!("g-{protocol:?}");
        fill(&client, "t", 4, 5).await;
        let builder = client.consumer(group.as_str()).subscribe(["t"]).protocol(protocol);
        let mut consumer = builder.build().await.expect("built");
        let seen = read_done(&mut consumer, 20).await;
        assert!(seen.len() >= 20);
        let described = client.admin().describe_groups([group]).await.remove(0).1.expect("described");
        assert_eq!(described.group_type, expected, "{protocol:?}");
        timeout(PATIENCE, consumer.close()).await.expect("in time").expect("closed");
    }
}

#[tokio::test]
async fn members_of_the_consumer_protocol_share_and_take_over() {
    let (_cluster, client) = start_grouping(1, &[("t", 4)]).await;
    let (tell, mut seen) = mpsc::unbounded_channel();
    let mut handles = Vec::new();
    for index in 0..2 {
        let consumer = member(&client).protocol(Protocol::Consumer).build().await.expect("built");
        handles.push(consumer.handle());
        reading(index, consumer, tell.clone());
        fill(&client, "t", 4, 100).await;
    }
    until("shared", || handles.iter().all(|handle| handle.assignment().len() == 2)).await;
    once(&mut seen, 4, 200).await;
    timeout(PATIENCE, handles[0].close()).await.expect("in time").expect("closed");
    until("taken over", || handles[1].assignment().len() == 4).await;
}

#[tokio::test]
async fn a_pattern_finds_its_topics_and_those_made_later() {
    for protocol in [Protocol::Classic, Protocol::Consumer] {
        let (cluster, _) = start_grouping(1, &[("orders-eu", 1), ("invoices", 1)]).await;
        let builder = Client::builder().bootstrap(cluster.bootstrap());
        let client =
            builder.settings(|settings| settings.metadata_age_max = Duration::from_secs(1)).connect().await;
        let client = client.expect("connected");
        let builder = client.consumer("g").subscribe_pattern("orders-.*").protocol(protocol);
        let consumer = builder.build().await.expect("built");
        let named = || {
            let topics = consumer.assignment().into_iter().map(|(topic, _)| topic);
            topics.collect::<BTreeSet<_>>()
        };
        until("the first one", || named() == BTreeSet::from(["orders-eu".to_owned()])).await;
        cluster.create_topic("orders-us", 1).expect("created");
        until("the second one", || named().len() == 2).await;
        assert!(!named().contains("invoices"));
    }
    let (_cluster, client) = start_grouping(1, &[]).await;
    let error = client.consumer("g").subscribe_pattern("orders-(").build().await.expect_err("no expression");
    assert!(error.to_string().contains("the pattern of topics cannot be read"), "{error}");
}

#[tokio::test]
async fn a_topic_that_is_made_after_the_subscription_is_read() {
    for protocol in [Protocol::Classic, Protocol::Consumer] {
        let (cluster, client) = start_grouping(1, &[]).await;
        let mut consumer = member(&client).protocol(protocol).build().await.expect("built");
        assert!(timeout(Duration::from_millis(200), consumer.next()).await.is_err(), "it waits");
        cluster.create_topic("t", 2).expect("created");
        fill(&client, "t", 2, 3).await;
        read_done(&mut consumer, 6).await;
    }
}

#[tokio::test]
async fn a_subscription_changes_while_the_member_runs() {
    for protocol in [Protocol::Classic, Protocol::Consumer] {
        let (_cluster, client) = start_grouping(1, &[("t", 1), ("u", 1)]).await;
        let consumer = member(&client).protocol(protocol).build().await.expect("built");
        until("t", || consumer.assignment() == [("t".to_owned(), 0)]).await;
        consumer.subscribe(["u"]).expect("a member");
        until("u", || consumer.assignment() == [("u".to_owned(), 0)]).await;
        consumer.subscribe(Vec::<&str>::new()).expect("a member");
        until("nothing", || consumer.assignment().is_empty()).await;
        consumer.subscribe(["t", "u"]).expect("a member");
        until("both", || consumer.assignment().len() == 2).await;
        consumer.close().await.expect("closed");
    }
}

#[tokio::test]
async fn a_group_outlives_moves_and_stops_of_its_coordinator() {
    for protocol in [Protocol::Classic, Protocol::Consumer] {
        let (cluster, client) = start_grouping(3, &[("t", 3)]).await;
        let builder = member(&client).protocol(protocol);
        let mut consumer = builder.build().await.expect("built");
        fill(&client, "t", 3, 10).await;
        read_done(&mut consumer, 30).await;
        let old = cluster.coordinator("g").expect("coordinated");
        let next = cluster.addresses().keys().copied().find(|node| *node != old).expect("others");
        cluster.move_coordinator("g", next).expect("moved");
        fill(&client, "t", 3, 10).await;
        read_done(&mut consumer, 30).await;
        timeout(PATIENCE, consumer.commit()).await.expect("in time").expect("committed");
        assert_eq!(committed(&consumer, 3).await, [Some(20); 3]);
        cluster.stop_node(next).await.expect("stopped");
        cluster.start_node(next).await.expect("started");
        fill(&client, "t", 3, 10).await;
        read_done(&mut consumer, 30).await;
        timeout(PATIENCE, consumer.commit()).await.expect("in time").expect("committed");
        assert_eq!(committed(&consumer, 3).await, [Some(30); 3]);
    }
}

#[tokio::test]
async fn an_application_that_takes_no_batch_leaves_and_comes_back() {
    for protocol in [Protocol::Classic, Protocol::Consumer] {
        let (_cluster, client) = start_grouping(1, &[("t", 2)]).await;
        fill(&client, "t", 2, 10).await;
        let builder = member(&client).protocol(protocol).max_poll_interval(Duration::from_millis(500));
        let mut consumer = builder.build().await.expect("built");
        drop(next(&mut consumer).await);
        until("it left", || consumer.assignment().is_empty()).await;
        let error = timeout(PATIENCE, consumer.next()).await.expect("in time").expect_err("it left");
        assert!(error.to_string().contains("max_poll_interval is 500ms"), "{error}");
        let batch = next(&mut consumer).await;
        assert_eq!(batch.first_offset(), 0, "nothing was done");
    }
}

#[tokio::test]
async fn a_static_member_keeps_its_partitions_over_a_restart() {
    for protocol in [Protocol::Classic, Protocol::Consumer] {
        let (_cluster, client) = start_grouping(1, &[("t", 2)]).await;
        let build = |name: &str| member(&client).protocol(protocol).instance_id(name).build();
        let first = build("one").await.expect("built");
        let second = build("two").await.expect("built");
        balanced(&[&first, &second], 2).await;
        let owned = first.assignment();
        timeout(PATIENCE, first.close()).await.expect("in time").expect("closed");
        let again = build("one").await.expect("built");
        until("it is back", || !again.assignment().is_empty()).await;
        assert_eq!((again.assignment(), second.assignment().len()), (owned, 1));
    }
}

#[tokio::test]
async fn a_member_whose_name_is_taken_is_told() {
    let (_cluster, client) = start_grouping(1, &[("t", 1)]).await;
    let build = || {
        member(&client)
            .protocol(Protocol::Classic)
            .instance_id("one")
            .heartbeat_interval(Duration::from_millis(50))
    };
    let mut first = build().build().await.expect("built");
    until("assigned", || !first.assignment().is_empty()).await;
    let _second = build().build().await.expect("built");
    for _ in 0..2 {
        let error = timeout(PATIENCE, first.next()).await.expect("in time").expect_err("fenced");
        assert!(error.is_fenced() && error.is_fatal(), "{error}");
    }
    let error = timeout(PATIENCE, first.commit()).await.expect("in time");
    assert!(error.is_ok() || error.is_err_and(|error| error.is_fenced()));
}

#[tokio::test]
async fn partitions_are_lost_when_the_coordinator_is_silent() {
    let cluster = Broker::builder().group_initial_rebalance_delay(Duration::ZERO);
    let cluster =
        cluster.group_session_timeout_min(Duration::from_millis(100)).start().await.expect("started");
    cluster.create_topic("t", 1).expect("created");
    let client = Client::connect(cluster.bootstrap()).await.expect("connected");
    fill(&client, "t", 1, 10).await;
    let (tell, mut lost) = mpsc::unbounded_channel();
    let builder = member(&client).protocol(Protocol::Classic).session_timeout(Duration::from_millis(900));
    let builder = builder.heartbeat_interval(Duration::from_millis(100)).on_lost(move |partitions, _| {
        let _ = tell.send(partitions);
        async {}
    });
    let mut consumer = builder.build().await.expect("built");
    let batch = next(&mut consumer).await;
    let node = *cluster.addresses().keys().next().expect("one");
    cluster.stop_node(node).await.expect("stopped");
    let told = timeout(PATIENCE, lost.recv()).await.expect("in time").expect("told");
    assert_eq!(told, [("t".to_owned(), 0)]);
    assert!(consumer.assignment().is_empty());
    consumer.done(&batch);
    cluster.start_node(node).await.expect("started");
    assert_eq!(next(&mut consumer).await.first_offset(), 0, "what was done after the loss does not count");
    // The mark came too late, and whoever asks is told.
    let error = timeout(PATIENCE, consumer.commit()).await.expect("in time").expect_err("not committed");
    assert!(error.to_string().contains("offset 10 of t-0"), "{error}");
    timeout(PATIENCE, consumer.commit()).await.expect("in time").expect("it is told once");
}

#[tokio::test]
async fn closing_says_what_is_not_committed_whoever_the_member_is() {
    for protocol in [Protocol::Classic, Protocol::Consumer] {
        for name in [None, Some("one")] {
            let (cluster, client) = start_grouping(1, &[("t", 1)]).await;
            fill(&client, "t", 1, 10).await;
            let client = Client::builder()
                .bootstrap(cluster.bootstrap())
                .settings(|settings| settings.request_timeout = Duration::from_secs(1));
            let client = client.connect().await.expect("connected");
            let mut builder = member(&client).protocol(protocol).commit_interval(Duration::from_secs(600));
            if let Some(name) = name {
                builder = builder.instance_id(name);
            }
            let mut consumer = builder.build().await.expect("built");
            read_done(&mut consumer, 10).await;
            for node in cluster.addresses().keys() {
                cluster.stop_node(*node).await.expect("stopped");
            }
            let error =
                timeout(PATIENCE, consumer.close()).await.expect("in time").expect_err("nobody heard");
            assert!(error.to_string().contains("offset 10 of t-0"), "{protocol:?}, {name:?}: {error}");
            assert!(consumer.next().await.expect("no error").is_none());
        }
    }
}

#[tokio::test]
async fn parts_of_a_batch_are_done_in_any_order() {
    let (_cluster, client) = start_grouping(1, &[("t", 1)]).await;
    fill(&client, "t", 1, 10).await;
    let mut consumer = member(&client).manual_commits().build().await.expect("built");
    let batch = next(&mut consumer).await.share();
    assert_eq!(batch.next_offset(), 10, "one batch has all");
    let parts = [batch.range(6..), batch.range(3..6), batch.range(..3)];
    drop(batch);
    let handle = consumer.handle();
    for (part, expect) in parts.into_iter().zip([None, None, Some(10)]) {
        handle.done_part(&part);
        timeout(PATIENCE, consumer.commit()).await.expect("in time").expect("committed");
        assert_eq!(committed(&consumer, 1).await[0].filter(|offset| *offset > 0), expect);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hook_begins_when_the_one_before_it_has_finished() {
    for way in WAYS {
        let (_cluster, client) = start_grouping(1, &[("t", 1)]).await;
        let (tell, mut told) = mpsc::unbounded_channel();
        let note = tell.clone();
        let (open, opened) = tokio::sync::watch::channel(false);
        let builder = way.member(&client, &["t"]).on_assigned(move |_, _| {
            let (tell, mut opened) = (note.clone(), opened.clone());
            async move {
                let _ = tell.send("assigned");
                let _ = opened.wait_for(|is_open| *is_open).await;
                let _ = tell.send("assigned, finished");
            }
        });
        let builder = builder.on_revoked(move |_, _| {
            let _ = tell.send("revoked");
            async {}
        });
        let consumer = builder.build().await.expect("built");
        assert_eq!(timeout(PATIENCE, told.recv()).await.expect("in time"), Some("assigned"));
        let closing = consumer.handle();
        let closing = tokio::spawn(async move { closing.close().await });
        // The partition is taken back while its first hook still runs.
        until("it is revoked", || consumer.assignment().is_empty() || !closing.is_finished()).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        open.send_replace(true);
        timeout(PATIENCE, closing).await.expect("in time").expect("no panic").expect("closed");
        let mut order = Vec::new();
        while let Ok(next) = told.try_recv() {
            order.push(next);
        }
        assert_eq!(order, ["assigned, finished", "revoked"], "{way:?}");
    }
}

#[tokio::test]
async fn a_call_that_waits_outlives_a_new_subscription() {
    for way in WAYS {
        let (_cluster, client) = start_grouping(1, &[("t", 1), ("u", 1)]).await;
        fill(&client, "t", 1, 10).await;
        let mut consumer = way.member(&client, &["t"]).build().await.expect("built");
        read_done(&mut consumer, 10).await;
        consumer.subscribe::<&str>([]).expect("subscribed");
        until("nothing is assigned", || consumer.assignment().is_empty()).await;
        // Outside the group nothing is answered, so these wait until the member has joined again.
        let handle = consumer.handle();
        let asking = tokio::spawn(async move { handle.committed([("t", 0)]).await });
        tokio::time::sleep(Duration::from_millis(50)).await;
        consumer.subscribe(["u"]).expect("subscribed");
        let found = timeout(PATIENCE, asking).await.expect("in time").expect("no panic").expect("answered");
        assert_eq!(found[0].1.as_ref().map(|of| of.offset), Some(10), "{way:?}");
    }
}

#[tokio::test]
async fn with_at_most_once_a_batch_is_committed_before_it_is_returned() {
    for protocol in [Protocol::Classic, Protocol::Consumer] {
        let (_cluster, client) = start_grouping(1, &[("t", 2)]).await;
        for _ in 0..5 {
            // Batches of their own.
            fill(&client, "t", 2, 2).await;
        }
        let mut consumer = member(&client).protocol(protocol).at_most_once().build().await.expect("built");
        let mut count = 0;
        while count < 10 {
            let batch = next(&mut consumer).await;
            count += batch.iter().count();
            let stored = committed(&consumer, 2).await[batch.partition() as usize].expect("committed");
            assert!(stored >= batch.next_offset(), "{stored} and {batch:?}");
        }
        // Nothing of what is only buffered is lost.
        timeout(PATIENCE, consumer.close()).await.expect("in time").expect("closed");
        let mut consumer = member(&client).protocol(protocol).build().await.expect("built");
        assert_eq!(read_done(&mut consumer, 20 - count).await.len(), 20 - count);
    }
}

#[tokio::test]
async fn with_at_most_once_a_batch_that_was_not_returned_is_left_to_the_next_owner() {
    for protocol in [Protocol::Classic, Protocol::Consumer] {
        let (_cluster, client) = start_grouping(1, &[("t", 1)]).await;
        let mut consumer = member(&client).protocol(protocol).at_most_once().build().await.expect("built");
        until("assigned", || consumer.assignment().len() == 1).await;
        assert!(timeout(Duration::ZERO, consumer.next()).await.is_err(), "there is nothing yet");
        fill(&client, "t", 1, 10).await;
        // It is committed because the application has waited for it, and the application has not asked again.
        let is_committed = async {
            while committed(&consumer, 1).await != [Some(10)] {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, is_committed).await.expect("committed in time");
        timeout(PATIENCE, consumer.close()).await.expect("in time").expect("closed");
        let mut consumer = member(&client).protocol(protocol).build().await.expect("built");
        assert_eq!(read_done(&mut consumer, 10).await.len(), 10);
    }
}

#[tokio::test]
async fn what_the_coordinator_refuses_is_told_and_the_rest_is_committed() {
    let (_cluster, client) = start_grouping(1, &[("t", 2)]).await;
    let mut consumer = member(&client).manual_commits().build().await.expect("built");
    fill(&client, "t", 2, 10).await;
    drop(next(&mut consumer).await);
    let long = CommittedOffset { offset: 3, leader_epoch: None, metadata: Some("x".repeat(5_000)) };
    let offsets = [(("t", 0), long), (("t", 1), 4.into())];
    let error =
        timeout(PATIENCE, consumer.commit_offsets(offsets)).await.expect("in time").expect_err("too long");
    assert_eq!(error.code(), Some(milena::ErrorCode::OFFSET_METADATA_TOO_LARGE), "{error}");
    assert!(error.to_string().contains("offset 3 of t-0") && !error.maybe_written(), "{error}");
    assert_eq!(committed(&consumer, 2).await, [None, Some(4)]);

    // Everything that is not committed is listed, each with its own reason.
    let long = CommittedOffset { offset: 3, leader_epoch: None, metadata: Some("x".repeat(5_000)) };
    let offsets = [(("t", 0), long), (("t", 1), 5.into()), (("t", 7), 6.into()), (("u", 0), 7.into())];
    let error = timeout(PATIENCE, consumer.commit_offsets(offsets)).await.expect("in time");
    let error = error.expect_err("three are wrong");
    let mut listed: Vec<_> = error.uncommitted().to_vec();
    listed.sort_by_key(|of| of.offset);
    let named: Vec<_> = listed.iter().map(|of| (&*of.topic, of.partition, of.offset)).collect();
    assert_eq!(named, [("t", 0, 3), ("t", 7, 6), ("u", 0, 7)]);
    assert_eq!(listed[0].error.code(), Some(milena::ErrorCode::OFFSET_METADATA_TOO_LARGE));
    for (of, text) in listed.iter().zip(["offset 3 of t-0", "offset 6 of t-7", "offset 7 of u-0"]) {
        assert!(of.error.to_string().contains(text) && !of.error.maybe_written(), "{}", of.error);
    }
    assert!(listed[1].error.to_string().contains("not assigned to this consumer"), "{}", listed[1].error);
    assert!(error.to_string().contains("and offsets of 2 more partitions"), "{error}");
    assert_eq!(committed(&consumer, 2).await, [None, Some(5)]);
}

#[tokio::test]
async fn closing_lists_all_that_it_could_not_commit() {
    let cluster = Broker::builder().group_initial_rebalance_delay(Duration::ZERO);
    let cluster = cluster.start().await.expect("started");
    cluster.create_topic("t", 3).expect("created");
    let settings = |settings: &mut milena::ClientSettings| {
        settings.request_timeout = Duration::from_millis(300);
    };
    let client = Client::builder().bootstrap(cluster.bootstrap()).settings(settings).connect().await;
    let client = client.expect("connected");
    fill(&client, "t", 3, 10).await;
    let builder = member(&client).protocol(Protocol::Classic).commit_interval(Duration::from_secs(60));
    let mut consumer = builder.build().await.expect("built");
    read_done(&mut consumer, 30).await;
    let node = *cluster.addresses().keys().next().expect("one");
    cluster.stop_node(node).await.expect("stopped");
    let error = timeout(PATIENCE, consumer.close()).await.expect("in time").expect_err("nobody answers");
    let mut listed: Vec<_> =
        error.uncommitted().iter().map(|of| (&*of.topic, of.partition, of.offset)).collect();
    listed.sort_unstable();
    assert_eq!(listed, [("t", 0, 10), ("t", 1, 10), ("t", 2, 10)], "{error}");
}

#[tokio::test]
async fn calls_that_are_cancelled_lose_nothing() {
    for protocol in [Protocol::Classic, Protocol::Consumer] {
        let (_cluster, client) = start_grouping(1, &[("t", 2)]).await;
        fill(&client, "t", 2, 100).await;
        let mut consumer = member(&client).protocol(protocol).build().await.expect("built");
        let mut seen = BTreeSet::new();
        let reading = async {
            while seen.len() < 200 {
                let Ok(batch) = timeout(Duration::ZERO, consumer.next()).await else {
                    tokio::task::yield_now().await;
                    continue;
                };
                let batch = batch.expect("read").expect("not closed");
                for record in &batch {
                    assert!(seen.insert((record.partition(), record.offset())), "twice");
                }
                consumer.done(&batch);
                let _ = timeout(Duration::ZERO, consumer.commit()).await;
            }
        };
        timeout(PATIENCE, reading).await.expect("all in time");
        let _ = timeout(Duration::ZERO, consumer.close()).await;
        assert!(timeout(PATIENCE, consumer.next()).await.expect("in time").expect("closed").is_none());
        let other = member(&client).protocol(protocol).build().await.expect("built");
        assert_eq!(committed(&other, 2).await, [Some(100); 2]);
    }
}

#[tokio::test]
async fn partitions_that_are_read_on_their_own_end_when_they_are_given_up() {
    let (_cluster, client) = start_grouping(1, &[("t", 2)]).await;
    fill(&client, "t", 2, 10).await;
    let build = || Way::Cooperative.member(&client, &["t"]);
    let first = build().build().await.expect("built");
    until("assigned", || first.assignment().len() == 2).await;
    let tasks = first.partitions().into_iter().map(|mut partition| {
        tokio::spawn(async move {
            let mut count = 0;
            while let Some(batch) = partition.next().await.expect("read") {
                count += batch.iter().count();
                partition.done(&batch);
            }
            count
        })
    });
    let tasks = tasks.collect::<Vec<_>>();
    let second = build().build().await.expect("built");
    balanced(&[&first, &second], 2).await;
    first.close().await.expect("closed");
    for task in tasks {
        assert_eq!(timeout(PATIENCE, task).await.expect("ended").expect("read"), 10);
    }
    assert_eq!(committed(&second, 2).await, [Some(10); 2]);
}
