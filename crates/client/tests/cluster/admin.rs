//! Admin calls whose items go to different brokers, fail one by one, or move meanwhile.

use std::time::{Duration, SystemTime};

use milena::{
    Client, ConfigChange, ConfigResource, ErrorCode, NewPartitions, NewTopic, OffsetAt, Position, Record,
};
use milena_broker::{Broker, Cluster};
use tokio::time::timeout;

use super::{PATIENCE, producer};

/// Three brokers, and topic `t` of three partitions with a replica on each. Each partition holds one record.
async fn start() -> (Cluster, Client) {
    let cluster = Broker::builder().nodes(3).start().await.expect("started");
    let client = Client::connect(cluster.bootstrap()).await.expect("connected");
    client.admin().create_topic(NewTopic::new("t").partitions(3).replication(3)).await.expect("made");
    let producer = producer(&client).await;
    for partition in 0..3 {
        producer.send(Record::to("t").partition(partition).value("v")).await.expect("written");
    }
    (cluster, client)
}

#[tokio::test]
async fn offsets_of_a_partition_that_moved_are_looked_up_at_its_new_leader() {
    let (cluster, client) = start().await;
    let partitions = [("t", 0), ("t", 1), ("t", 2)];
    let ends = async || {
        let found = timeout(PATIENCE, client.admin().list_offsets(partitions, OffsetAt::Latest)).await;
        found.expect("in time").expect("listed")
    };
    ends().await;
    for partition in 0..3 {
        let leader = cluster.leader("t", partition).expect("led");
        // The client's metadata names the old leader still: nobody tells it but the answer.
        let next = cluster.addresses().keys().copied().find(|node| *node != leader).expect("others");
        cluster.move_leader("t", partition, next).expect("moved");
        for ((_, partition), end) in ends().await {
            assert_eq!(end.expect("found"), Some(1), "partition {partition}");
        }
    }
}

#[tokio::test]
async fn an_item_that_fails_takes_no_other_with_it() {
    let (cluster, client) = start().await;
    let stopped = cluster.leader("t", 1).expect("led");
    let asked = [("t", 0), ("nowhere", 0), ("t", 9), ("t", 1), ("t", 0)];
    cluster.stop_node(stopped).await.expect("stopped");
    let found = timeout(PATIENCE, client.admin().list_offsets(asked, OffsetAt::Latest)).await;
    let found = found.expect("in time").expect("listed");
    assert!(found.iter().map(|((topic, at), _)| (topic.as_str(), *at)).eq(asked), "in the order given");
    let results: Vec<_> = found.iter().map(|(_, found)| found.as_ref()).collect();
    for there in [0, 3, 4] {
        assert_eq!(results[there].expect("found"), &Some(1), "its next leader knows it");
    }
    let nowhere = results[1].expect_err("no such topic");
    assert_eq!(nowhere.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    assert!(nowhere.to_string().contains("partition 0 of topic \"nowhere\""), "{nowhere}");
    let beyond = results[2].expect_err("no such partition");
    assert!(beyond.to_string().contains("has 3 partitions and no partition 9"), "{beyond}");
}

#[tokio::test]
async fn records_are_deleted_at_the_leader_of_each_partition() {
    let (cluster, client) = start().await;
    let admin = client.admin();
    let next = cluster.addresses().keys().copied().find(|node| cluster.leader("t", 1) != Some(*node));
    cluster.move_leader("t", 1, next.expect("another node")).expect("moved");
    let before = [(("t", 0), Some(0)), (("t", 1), None), (("t", 2), Some(2)), (("t", 9), None)];
    let deleted = timeout(PATIENCE, admin.delete_records(before)).await.expect("in time").expect("asked");
    let code = |at: usize| deleted[at].1.as_ref().expect_err("refused").code();
    assert_eq!((deleted[0].1.as_ref().ok(), deleted[1].1.as_ref().ok()), (Some(&0), Some(&1)));
    assert_eq!(code(2), Some(ErrorCode::OFFSET_OUT_OF_RANGE), "it has one record");
    assert!(deleted[3].1.is_err());
    let starts = admin.list_offsets([("t", 0), ("t", 1)], OffsetAt::Earliest).await.expect("listed");
    let starts: Vec<_> = starts.into_iter().map(|(_, start)| start.expect("found")).collect();
    assert_eq!(starts, [Some(0), Some(1)]);
    for wrong in [vec![(("t", 0), -2)], vec![(("t", 0), 1), (("t", 0), 1)]] {
        assert!(admin.delete_records(wrong).await.is_err());
    }
}

#[tokio::test]
async fn configs_are_changed_and_described() {
    let (_cluster, client) = start().await;
    let admin = client.admin();
    let topic = ConfigResource::Topic("t".into());
    let value = async |name: &str| {
        let configs = admin.describe_configs(&topic).await.expect("described");
        let entry = configs.into_iter().find(|entry| entry.name == name).expect("there");
        (entry.value.expect("a value"), entry.is_default)
    };
    let changes =
        [ConfigChange::set("segment.ms", "5000"), ConfigChange::append("cleanup.policy", "compact")];
    admin.alter_configs(&topic, changes).await.expect("changed");
    assert_eq!(value("segment.ms").await, ("5000".to_owned(), false));
    assert_eq!(value("cleanup.policy").await, ("delete,compact".to_owned(), false));
    let changes = [ConfigChange::delete("segment.ms"), ConfigChange::subtract("cleanup.policy", "delete")];
    admin.alter_configs(&topic, changes).await.expect("changed");
    assert_eq!(value("segment.ms").await, ("604800000".to_owned(), true));
    assert_eq!(value("cleanup.policy").await, ("compact".to_owned(), false));
    let wrong = admin.alter_configs(&topic, [ConfigChange::set("segment.ms", "soon")]).await;
    let wrong = wrong.expect_err("not a number");
    assert_eq!(wrong.code(), Some(ErrorCode::INVALID_CONFIG));
    assert!(wrong.to_string().contains("Not a number of type LONG"), "{wrong}");
    let nowhere = ConfigResource::Topic("nowhere".into());
    let nowhere = admin.alter_configs(&nowhere, [ConfigChange::set("segment.ms", "5")]).await;
    assert_eq!(nowhere.expect_err("no topic").code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
}

/// Compaction leaves gaps in the offsets, and batches without records.
#[tokio::test]
async fn a_reader_passes_the_gaps_of_a_compacted_topic() {
    let broker = Broker::builder().config("log.cleaner.backoff.ms", "1");
    let cluster = broker.start().await.expect("started");
    let client = Client::connect(cluster.bootstrap()).await.expect("connected");
    let topic = NewTopic::new("c").partitions(1).config("cleanup.policy", "compact");
    let topic = topic.config("segment.ms", "10").config("min.cleanable.dirty.ratio", "0.01");
    client.admin().create_topic(topic).await.expect("made");
    let producer = producer(&client).await;
    for n in 0..20 {
        // Each batch is a segment, and the next one supersedes it; the last one is not touched.
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + n);
        let record = Record::to("c").key("k").value(n.to_string()).timestamp(time);
        producer.send(record).await.expect("written");
    }
    let read = async || {
        let mut consumer =
            client.consumer_direct().assign([("c", 0)], Position::Earliest).build().await.expect("assigned");
        let mut offsets = Vec::new();
        while offsets.last() != Some(&19) {
            let batch = timeout(PATIENCE, consumer.next()).await.expect("in time").expect("read");
            offsets.extend(batch.expect("a batch").iter().map(|record| record.offset()));
        }
        offsets
    };
    let compacted = async {
        while read().await != [18, 19] {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, compacted).await.expect("compacted");
}

#[tokio::test]
async fn partitions_are_added_and_can_be_used_at_once() {
    let (cluster, client) = start().await;
    let admin = client.admin();
    let grown = |total| NewPartitions::total("t", total);
    let of_others = |total| NewPartitions::total("nowhere", total);
    // Asking changes nothing.
    let asked = admin.validate_partitions([grown(5), of_others(5)]).await.expect("asked");
    assert!(asked[0].1.is_ok(), "{asked:?}");
    assert_eq!(
        asked[1].1.as_ref().expect_err("no topic").code(),
        Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
    );
    let count = async || {
        let described = client.admin().describe_topics(["t"]).await.expect("described").remove(0);
        described.1.expect("there").partitions.len()
    };
    assert_eq!(count().await, 3);

    let writer = producer(&client).await;
    for total in 4..10 {
        let made = timeout(PATIENCE, admin.create_partitions([grown(total)])).await.expect("in time");
        made.expect("asked").remove(0).1.expect("added");
        let last = Record::to("t").partition(total - 1).value("v");
        let receipt = timeout(PATIENCE, writer.send(last)).await.expect("in time").expect("written");
        assert_eq!((receipt.partition(), receipt.offset()), (total - 1, Some(0)));
    }
    assert_eq!(count().await, 9);
    // Each topic has its own result, and an error says which topic it is about.
    let mixed = [grown(9), grown(11).replicas([[3, 1, 2], [2, 3, 1]]), of_others(3)];
    let results = admin.create_partitions(mixed).await.expect("asked");
    let text = |index: usize| results[index].1.as_ref().err().map(ToString::to_string).unwrap_or_default();
    // A topic that is named twice is refused.
    assert!(text(0).contains("adding partitions to topic \"t\": INVALID_REQUEST"), "{}", text(0));
    assert!(text(2).contains("adding partitions to topic \"nowhere\": UNKNOWN_TOPIC_OR_PARTITION"));
    let results = admin.create_partitions([grown(11).replicas([[3, 1, 2], [2, 3, 1]])]).await.expect("asked");
    results[0].1.as_ref().expect("added");
    assert_eq!([cluster.leader("t", 9), cluster.leader("t", 10)], [Some(3), Some(2)]);
    let error = admin.create_partitions([grown(12).replicas([[1]])]).await.expect("asked").remove(0).1;
    let error = error.expect_err("one replica");
    assert_eq!(error.code(), Some(ErrorCode::INVALID_REPLICA_ASSIGNMENT));
    assert!(error.to_string().contains("which have 3 replica(s)") && !error.maybe_written(), "{error}");
    let error = admin.create_partitions([grown(0)]).await.expect_err("none");
    assert!(error.to_string().contains("a topic has at least 1 partition, not 0 partitions"), "{error}");
    assert_eq!(count().await, 11);
}
