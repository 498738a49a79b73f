//! Brokers of two releases in one cluster, as during a rolling upgrade.

use std::collections::BTreeMap;

use milena::Protocol;
use milena_messages::fetch::FetchRequest;
use milena_wire::Uuid;
use tokio::sync::mpsc;

use super::limits::Wire;
use super::members::{HEARTBEAT, start_grouping};
use super::*;

/// The last versions of Kafka 2.8, as far as they differ: fetches by topic names, no new leaders in answers, one group per
/// OffsetFetch.
const OLD: [(i16, i16); 14] = [
    (0, 9),  // Produce
    (1, 12), // Fetch
    (2, 6),  // ListOffsets
    (3, 11), // Metadata
    (8, 8),  // OffsetCommit
    (9, 7),  // OffsetFetch
    (10, 3), // FindCoordinator
    (11, 7), // JoinGroup
    (12, 4), // Heartbeat
    (13, 4), // LeaveGroup
    (14, 5), // SyncGroup
    (18, 3), // ApiVersions
    (22, 4), // InitProducerId
    (23, 4), // OffsetForLeaderEpoch
];

/// ConsumerGroupHeartbeat, which 2.8 does not have.
const HEARTBEAT_KEY: i16 = 68;

fn downgrade(cluster: &Cluster, node: i32) {
    for (key, last) in OLD {
        cluster.set_api_versions(node, key, Some(0..=last)).expect("limited");
    }
    cluster.set_api_versions(node, HEARTBEAT_KEY, None).expect("taken away");
}

async fn upgrade(cluster: &Cluster, node: i32) {
    cluster.stop_node(node).await.expect("stopped");
    for key in OLD.map(|(key, _)| key).into_iter().chain([HEARTBEAT_KEY]) {
        cluster.set_api_versions(node, key, Some(0..=i16::MAX)).expect("unlimited");
    }
    cluster.start_node(node).await.expect("started");
}

/// Of each partition, the values that were read, in order.
type Values = BTreeMap<i32, Vec<i64>>;

/// Reads in a task of its own until the consumer ends, and marks each batch as done.
fn reading(mut consumer: Consumer, tell: mpsc::UnboundedSender<(i32, i64)>) {
    tokio::spawn(async move {
        while let Some(batch) = consumer.next().await.expect("read") {
            for record in &batch {
                let value = std::str::from_utf8(record.value().expect("a value")).expect("text");
                let _ = tell.send((record.partition(), value.parse().expect("a number")));
            }
            consumer.done(&batch);
        }
    });
}

/// Waits until every partition's records up to `count` have been seen.
async fn all_seen(
    seen: &mut mpsc::UnboundedReceiver<(i32, i64)>,
    values: &mut Values,
    partitions: i32,
    count: i64,
) {
    let is_all = |values: &Values| {
        (0..partitions)
            .all(|partition| values.get(&partition).is_some_and(|seen| seen.contains(&(count - 1))))
    };
    let whole = async {
        while !is_all(values) {
            let (partition, value) = seen.recv().await.expect("a reader");
            values.entry(partition).or_default().push(value);
        }
    };
    timeout(PATIENCE, whole).await.expect("all records came");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_upgrade_loses_nothing_and_each_broker_is_spoken_to_in_its_own_versions() {
    const PARTITIONS: i32 = 6;
    let (cluster, _) = start_grouping(3, &[("t", PARTITIONS)]).await;
    for node in 1..=3 {
        downgrade(&cluster, node);
    }
    let wire = Wire::default();
    let builder = Client::builder().bootstrap(cluster.bootstrap()).connector(wire.clone());
    let client = builder.connect().await.expect("connected");
    let producer = client.producer().build().await.expect("built");
    let (tell, mut by_position) = mpsc::unbounded_channel();
    reading(consumer(&client, "t", PARTITIONS).await, tell);
    let (tell, mut by_group) = mpsc::unbounded_channel();
    let mut members = Vec::new();
    for _ in 0..2 {
        // The cluster has no KIP-848 yet, so that they are members of the classic protocol.
        let builder = client.consumer("g").subscribe(["t"]).heartbeat_interval(HEARTBEAT);
        let member = builder.protocol(Protocol::Automatic).build().await.expect("built");
        members.push(member.handle());
        reading(member, tell.clone());
    }
    let (mut positions, mut group) = (Values::new(), Values::new());
    let mut written = 0;
    for node in 0..=3 {
        if node > 0 {
            upgrade(&cluster, node).await;
        }
        for partition in 0..PARTITIONS {
            cluster.move_leader("t", partition, 1 + partition % 3).expect("moved");
        }
        for _ in 0..30 {
            for partition in 0..PARTITIONS {
                let value = written.to_string();
                producer.post(Record::to("t").partition(partition).value(&value)).await.expect("taken");
            }
            written += 1;
        }
        timeout(PATIENCE, producer.flush()).await.expect("in time").expect("written");
        all_seen(&mut by_position, &mut positions, PARTITIONS, written).await;
        all_seen(&mut by_group, &mut group, PARTITIONS, written).await;
        let fetches = wire.fetches();
        let topics = fetches.iter().flat_map(|fetch| &fetch.topics);
        let has_ids = topics.clone().any(|topic| topic.topic_id != Uuid::default());
        assert_eq!(has_ids, node > 0, "fetches name topics by id as soon as a broker can read that");
    }
    let expected: Vec<i64> = (0..written).collect();
    for partition in 0..PARTITIONS {
        assert_eq!(positions[&partition], expected, "partition {partition} by position");
        // What was done and not committed when a coordinator went is read again, and nothing is skipped.
        let mut seen = group[&partition].clone();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, expected, "partition {partition} in the group");
    }
    // Now that all brokers have it, the next member joins by KIP-848, and the classic members go on beside it.
    let member =
        client.consumer("g").subscribe(["t"]).protocol(Protocol::Automatic).build().await.expect("built");
    let handle = member.handle();
    reading(member, tell.clone());
    members.push(handle);
    let shared = async {
        while members.iter().any(|member| member.assignment().len() != 2) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, shared).await.expect("three members share six partitions");
    for member in members {
        timeout(PATIENCE, member.close()).await.expect("in time").expect("closed");
    }
}

#[tokio::test]
async fn versions_belong_to_a_connection_and_are_asked_for_again_with_the_next_one() {
    let (cluster, _) = start(1, &[("t", 1)]).await;
    let wire = Wire::default();
    let builder = Client::builder().bootstrap(cluster.bootstrap()).connector(wire.clone());
    let client = builder.connect().await.expect("connected");
    let producer = producer(&client).await;
    let mut consumer = consumer(&client, "t", 1).await;
    let is_by_id = |fetch: &FetchRequest| fetch.topics.first().map(|topic| topic.topic_id != Uuid::default());
    for (last, by_id) in [(i16::MAX, true), (12, false), (i16::MAX, true)] {
        cluster.stop_node(1).await.expect("stopped");
        cluster.set_api_versions(1, 1, Some(0..=last)).expect("limited");
        cluster.start_node(1).await.expect("started");
        let before = wire.fetches().len();
        producer.send(Record::to("t").value("v")).await.expect("written");
        read(&mut consumer, 1).await;
        let fetches = wire.fetches();
        assert_eq!(fetches[before..].iter().find_map(is_by_id), Some(by_id), "up to version {last}");
    }
}
