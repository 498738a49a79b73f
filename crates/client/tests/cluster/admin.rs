//! Admin calls whose items go to different brokers, fail one by one, or move meanwhile.

use milena::{Client, ErrorCode, NewTopic, OffsetAt, Record};
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
