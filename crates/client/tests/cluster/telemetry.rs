//! The push of a client's metrics (KIP-714), and what the embedded broker shows of it.

use milena::metrics::Registry;
use milena_broker::{Builder, ClientMetricValue, ClientMetrics};

use super::*;

const INTERVAL: Duration = Duration::from_millis(100);

async fn cluster(builder: Builder) -> Cluster {
    let cluster = builder.group_initial_rebalance_delay(Duration::ZERO).start().await.expect("started");
    cluster.create_topic("orders", 1).expect("created");
    cluster
}

async fn counting(cluster: &Cluster) -> Client {
    let builder =
        Client::builder().bootstrap(cluster.bootstrap()).client_id("shop").metrics(&Registry::new());
    builder.connect().await.expect("connected")
}

/// Waits until the cluster shows a client's metrics that `is_there` looks for.
async fn shown(cluster: &Cluster, is_there: impl Fn(&ClientMetrics) -> bool) -> ClientMetrics {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let all = cluster.client_metrics();
        if let Some(found) = all.iter().find(|metrics| is_there(metrics)) {
            return found.clone();
        }
        assert!(tokio::time::Instant::now() < deadline, "it never came: {all:#?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn value(client: &ClientMetrics, name: &str, labels: &[(&str, &str)]) -> Option<ClientMetricValue> {
    let is_it = |held: &BTreeMap<String, String>| {
        held.iter().map(|(key, value)| (key.as_str(), value.as_str())).eq(labels.iter().copied())
    };
    client
        .metrics
        .iter()
        .find(|metric| metric.name == name && is_it(&metric.labels))
        .map(|metric| metric.value)
}

const SENT: &str = "org.apache.kafka.producer.record.send.total";

async fn send(producer: &Producer, records: usize) {
    for _ in 0..records {
        producer.send(Record::to("orders").value("created")).await.expect("written");
    }
}

#[tokio::test]
async fn what_producers_and_consumers_do_is_shown_under_javas_names() {
    let cluster = cluster(Broker::builder()).await;
    cluster.subscribe_client_metrics("all", &["*"], INTERVAL, &["client_id=shop"]).expect("subscribed");
    let client = counting(&cluster).await;
    let id = client.client_instance_id(PATIENCE).await.expect("known");
    let producer = client.producer().build().await.expect("built");
    assert_eq!(producer.client_instance_id(PATIENCE).await.expect("known"), id);
    send(&producer, 3).await;
    let mut consumer = client.consumer("billing").subscribe(["orders"]).build().await.expect("built");
    assert_eq!(consumer.client_instance_id(PATIENCE).await.expect("known"), id);
    let mut taken = 0;
    while taken < 3 {
        let batch = consumer.next().await.expect("reads").expect("a batch");
        taken += batch.iter().count();
        consumer.done(&batch);
    }
    consumer.commit().await.expect("committed");

    let consumed = "org.apache.kafka.consumer.fetch.manager.records.consumed.total";
    let metrics = shown(&cluster, |client| {
        value(client, SENT, &[]) == Some(ClientMetricValue::Counter(3.0))
            && value(client, consumed, &[]) == Some(ClientMetricValue::Counter(3.0))
            && value(client, "org.apache.kafka.consumer.coordinator.commit.latency.avg", &[]).is_some()
            && client.labels.contains_key("group_member_id")
    })
    .await;
    assert_eq!((metrics.client_instance_id.as_str(), metrics.client_id.as_str()), (id.as_str(), "shop"));
    assert_eq!(metrics.labels["group_id"], "billing");
    assert_eq!(metrics.software.as_ref().map(|(name, _)| name.as_str()), Some("milena"));
    for (name, labels) in [
        ("org.apache.kafka.producer.connection.creation.total", &[][..]),
        ("org.apache.kafka.consumer.connection.creation.total", &[]),
        ("org.apache.kafka.producer.node.request.latency.avg", &[("node_id", "1")]),
        ("org.apache.kafka.consumer.node.request.latency.max", &[("node_id", "1")]),
        ("org.apache.kafka.producer.record.queue.time.avg", &[]),
        ("org.apache.kafka.producer.record.queue.time.max", &[]),
        ("org.apache.kafka.producer.topic.record.send.total", &[("topic", "orders")]),
        ("org.apache.kafka.consumer.poll.idle.ratio.avg", &[]),
        ("org.apache.kafka.consumer.coordinator.assigned.partitions", &[]),
        ("org.apache.kafka.consumer.coordinator.rebalance.latency.total", &[]),
        ("org.apache.kafka.consumer.fetch.manager.fetch.latency.avg", &[]),
        ("org.apache.kafka.consumer.fetch.manager.records.lag", &[("partition", "0"), ("topic", "orders")]),
        ("milena.producer.delivery.seconds.count", &[]),
    ] {
        shown(&cluster, |client| value(client, name, labels).is_some()).await;
    }
    assert_eq!(metrics.left_out, 0);
}

#[tokio::test]
async fn every_codec_and_both_temporalities_say_the_same() {
    for delta in [true, false] {
        for codec in Compression::ALL {
            let builder = Broker::builder().delta_client_metrics(delta).client_metrics_codecs([codec]);
            let cluster = cluster(builder).await;
            cluster.subscribe_client_metrics("sent", &[SENT], INTERVAL, &[]).expect("subscribed");
            let client = counting(&cluster).await;
            let producer = client.producer().build().await.expect("built");
            // Two pushes at least, so that a total that is taken for an addition is too much.
            for total in [2.0, 5.0] {
                send(&producer, if total == 2.0 { 2 } else { 3 }).await;
                let metrics = shown(&cluster, |client| value(client, SENT, &[]).is_some()).await;
                assert!(metrics.metrics.iter().all(|metric| metric.name.starts_with(SENT)), "{metrics:?}");
                shown(&cluster, |client| value(client, SENT, &[]) == Some(ClientMetricValue::Counter(total)))
                    .await;
            }
            let pushes = cluster.client_metrics()[0].pushes;
            let later = shown(&cluster, |client| client.pushes >= pushes + 2).await;
            assert_eq!(value(&later, SENT, &[]), Some(ClientMetricValue::Counter(5.0)), "{codec:?} {delta}");
        }
    }
}

#[tokio::test]
async fn the_last_push_has_what_came_after_the_one_before() {
    let cluster = cluster(Broker::builder()).await;
    // The first push is due in half a minute at the earliest.
    cluster.subscribe_client_metrics("sent", &[SENT], Duration::from_secs(60), &[]).expect("subscribed");
    for dropped in [false, true] {
        let client = counting(&cluster).await;
        let id = client.client_instance_id(PATIENCE).await.expect("known");
        let producer = client.producer().build().await.expect("built");
        send(&producer, 4).await;
        producer.close().await.expect("closed");
        if dropped {
            drop((producer, client));
        } else {
            timeout(PATIENCE, client.push_last_metrics(PATIENCE)).await.expect("it ends");
            client.push_last_metrics(Duration::ZERO).await;
        }
        let is_it = |client: &ClientMetrics| client.client_instance_id == id && client.has_ended;
        let metrics = shown(&cluster, is_it).await;
        assert_eq!(value(&metrics, SENT, &[]), Some(ClientMetricValue::Counter(4.0)), "dropped: {dropped}");
        assert_eq!(metrics.pushes, 1);
    }
}

#[tokio::test]
async fn without_a_subscription_or_a_registry_or_with_the_setting_off_nothing_is_pushed() {
    let cluster = cluster(Broker::builder()).await;
    let client = counting(&cluster).await;
    client.client_instance_id(PATIENCE).await.expect("known, as in Java");
    client.push_last_metrics(PATIENCE).await;
    assert_eq!(cluster.client_metrics(), []);

    cluster.subscribe_client_metrics("all", &["*"], INTERVAL, &[]).expect("subscribed");
    let off = Client::from_properties([
        ("enable.metrics.push", "false"),
        ("bootstrap.servers", cluster.bootstrap()),
    ]);
    let off = off.expect("known").metrics(&Registry::new()).connect().await.expect("connected");
    let on = Client::from_properties([
        ("enable.metrics.push", "true"),
        ("bootstrap.servers", cluster.bootstrap()),
    ]);
    let on = on.expect("known").connect().await.expect("connected");
    for client in [off, on] {
        let error = client.client_instance_id(PATIENCE).await.expect_err("it pushes nothing");
        assert!(error.to_string().contains("registry"), "{error}");
        client.push_last_metrics(PATIENCE).await;
    }
    assert_eq!(cluster.client_metrics(), []);
}

#[tokio::test]
async fn a_subscription_that_changes_holds_for_clients_that_push_already() {
    let cluster = cluster(Broker::builder()).await;
    cluster
        .subscribe_client_metrics("all", &["org.apache.kafka.consumer."], INTERVAL, &[])
        .expect("subscribed");
    let client = counting(&cluster).await;
    let producer = client.producer().build().await.expect("built");
    send(&producer, 1).await;
    shown(&cluster, |client| client.pushes > 0).await;
    cluster.subscribe_client_metrics("all", &[SENT], INTERVAL, &[]).expect("subscribed");
    shown(&cluster, |client| value(client, SENT, &[]) == Some(ClientMetricValue::Counter(1.0))).await;
}

#[tokio::test]
async fn a_broker_that_goes_is_replaced_and_nothing_is_counted_twice() {
    let cluster = cluster(Broker::builder().nodes(3).default_replication(3)).await;
    cluster.subscribe_client_metrics("sent", &[SENT], INTERVAL, &[]).expect("subscribed");
    let client = counting(&cluster).await;
    let producer = client.producer().build().await.expect("built");
    send(&producer, 1).await;
    shown(&cluster, |client| client.pushes >= 2).await;
    for node in [1, 2] {
        cluster.stop_node(node).await.expect("stopped");
        send(&producer, 1).await;
        let pushes = cluster.client_metrics()[0].pushes;
        shown(&cluster, |client| client.pushes > pushes).await;
    }
    let metrics =
        shown(&cluster, |client| value(client, SENT, &[]) == Some(ClientMetricValue::Counter(3.0))).await;
    let later = shown(&cluster, |client| client.pushes > metrics.pushes + 2).await;
    assert_eq!(value(&later, SENT, &[]), Some(ClientMetricValue::Counter(3.0)));
}

#[tokio::test]
async fn a_payload_has_no_more_bytes_than_the_broker_takes_and_begins_with_what_kip_714_requires() {
    let cluster = cluster(Broker::builder().config("telemetry.max.bytes", "600")).await;
    cluster.subscribe_client_metrics("all", &["*"], INTERVAL, &[]).expect("subscribed");
    let client = counting(&cluster).await;
    let producer = client.producer().build().await.expect("built");
    send(&producer, 1).await;
    let first = "org.apache.kafka.producer.connection.creation.total";
    let metrics = shown(&cluster, |client| value(client, first, &[]).is_some()).await;
    assert!(metrics.metrics.len() < 10, "{}", metrics.metrics.len());
}

#[tokio::test]
async fn a_broker_without_these_apis_is_left_alone() {
    let cluster = cluster(Broker::builder()).await;
    for key in [71, 72] {
        cluster.set_api_versions(1, key, None).expect("taken away");
    }
    let client = counting(&cluster).await;
    let error = client.client_instance_id(PATIENCE).await.expect_err("nobody takes metrics");
    assert!(error.to_string().contains("takes no metrics"), "{error}");
    let producer = client.producer().build().await.expect("built");
    send(&producer, 1).await;
    client.push_last_metrics(PATIENCE).await;
}
