//! Topics that are deleted, and made again under their old names, while they are read.

use milena::Admin;

use super::*;

async fn remake(admin: &Admin, name: &str) {
    admin.delete_topics([name]).await.expect("asked").remove(0).1.expect("deleted");
    admin.create_topics([NewTopic::new(name)]).await.expect("asked").remove(0).1.expect("made");
}

async fn fill(client: &Client, from: usize, count: usize) {
    let producer = producer(client).await;
    for index in from..from + count {
        producer.send(Record::to("t").value(index.to_string())).await.expect("written");
    }
}

/// A reader that has read ten records of the old topic, after as many were written to the new one.
async fn remade(reset: Reset) -> (Cluster, Consumer) {
    let (cluster, client) = start(1, &[("t", 1)]).await;
    fill(&client, 0, 10).await;
    let builder = client.consumer_direct().assign([("t", 0)], Position::Earliest).reset(reset);
    let mut consumer = builder.build().await.expect("built");
    assert_eq!(read(&mut consumer, 10).await[&0].len(), 10);
    // Another client, so that the reader's client learns of the change only from its own requests.
    let other = Client::connect(cluster.bootstrap()).await.expect("connected");
    remake(&other.admin(), "t").await;
    fill(&other, 100, 12).await;
    (cluster, consumer)
}

#[tokio::test]
async fn a_topic_made_again_is_read_from_where_the_reset_policy_says() {
    let (_cluster, mut consumer) = remade(Reset::Earliest).await;
    let records = read(&mut consumer, 12).await.remove(&0).expect("partition 0");
    assert_eq!(records[0].value.as_deref(), Some(&b"100"[..]), "none of the new topic's records is left out");
    assert_eq!(records[0].offset, 0);
}

#[tokio::test]
async fn without_a_reset_policy_a_topic_made_again_is_told() {
    let (_cluster, mut consumer) = remade(Reset::Fail).await;
    let told = timeout(PATIENCE, consumer.next()).await.expect("in time");
    let error = told.expect_err("offset 10 is of another topic");
    assert_eq!(error.code_name(), Some("OFFSET_OUT_OF_RANGE"), "{error}");
    assert!(error.to_string().contains("deleted and made again"), "{error}");
}

#[tokio::test]
async fn reading_to_the_end_ends_where_a_topic_made_again_ends() {
    for position in [Position::Earliest, Position::Offset(5)] {
        let (_cluster, client) = start(1, &[("t", 1)]).await;
        fill(&client, 0, 10).await;
        let builder = client.consumer_direct().topic("t").reset(Reset::Earliest).until_end();
        let mut consumer = builder.build().await.expect("built");
        let handle = consumer.handle();
        let mut rest = async || {
            let mut count = 0;
            while let Some(batch) = timeout(PATIENCE, consumer.next()).await.expect("in time").expect("read")
            {
                count += batch.iter().count();
            }
            count
        };
        assert_eq!(rest().await, 10);
        remake(&client.admin(), "t").await;
        fill(&client, 100, 3).await;
        handle.seek("t", 0, position).expect("assigned");
        assert_eq!(rest().await, 3, "the new topic has no more; from {position:?}");
    }
}
