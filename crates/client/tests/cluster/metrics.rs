//! What a client counts and measures, as a program sees it in snapshots.

use std::collections::BTreeSet;

use milena::metrics::{
    FAMILIES, Family, FamilySnapshot, HistogramSnapshot, Registry, Snapshot, Value, families as of,
};
use milena_messages::ApiKey;

use super::lossy::{Loss, Losses};
use super::*;

/// Families that only faults or particular settings give a series: other tests here have them, or the reason stands beside.
const WITHOUT_FAULTS_NONE: [&str; 10] = [
    "milena_connection_failures_total",
    "milena_connections_closed_total",
    "milena_consumer_commit_errors_total",
    "milena_consumer_stalls_total",
    "milena_producer_record_errors_total",
    "milena_producer_retries_total",
    "milena_request_errors_total",
    // Set by TLS.
    "milena_certificate_expiry_timestamp_seconds",
    // Set by quotas.
    "milena_throttle_seconds",
    "milena_consumer_rebalance_seconds",
];

async fn measured(cluster: &Cluster) -> (Client, Registry) {
    let registry = Registry::new();
    let client = Client::builder().bootstrap(cluster.bootstrap()).metrics(&registry).connect().await;
    (client.expect("connected"), registry)
}

fn count(snapshot: &Snapshot, family: &Family, labels: &[&str]) -> u64 {
    snapshot.histogram(family, labels).map_or(0, HistogramSnapshot::count)
}

/// Waits until the snapshot has what `is_there` looks for: drivers count in tasks of their own.
async fn eventually(registry: &Registry, what: &str, is_there: impl Fn(&Snapshot) -> bool) -> Snapshot {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let snapshot = registry.snapshot();
        if is_there(&snapshot) {
            return snapshot;
        }
        assert!(tokio::time::Instant::now() < deadline, "{what} never came: {snapshot:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_is_produced_and_consumed_is_counted_by_batch_and_its_time_split_into_phases() {
    const RECORDS: usize = 1000;
    let builder = Broker::builder().group_initial_rebalance_delay(Duration::ZERO);
    let cluster = builder.start().await.expect("started");
    cluster.create_topic("orders", 1).expect("created");
    let (client, registry) = measured(&cluster).await;

    // Little memory, so that the task waits for room.
    let producer = client.producer().compression(Compression::Lz4).batch_bytes_max(16 << 10);
    let producer = producer.build().await.expect("built");
    for index in 0..RECORDS {
        let value = format!("{index:0100}");
        producer.post(Record::to("orders").value(&value)).await.expect("taken");
    }
    producer.flush().await.expect("written");

    let snapshot = registry.snapshot();
    assert_eq!(snapshot.value(&of::PRODUCER_RECORDS, &["orders"]), Some(RECORDS as f64));
    let bytes = |family| snapshot.value(family, &["orders"]).expect("counted");
    let (sent, uncompressed) = (bytes(&of::PRODUCER_BYTES), bytes(&of::PRODUCER_UNCOMPRESSED_BYTES));
    assert!(uncompressed > 100.0 * RECORDS as f64 && sent < uncompressed / 2.0, "{sent} of {uncompressed}");
    let batches = count(&snapshot, &of::PRODUCER_BATCH_BYTES, &[]);
    let records = snapshot.histogram(&of::PRODUCER_BATCH_RECORDS, &[]).expect("counted");
    assert!(batches > 5 && records.count() == batches, "{batches} batches");
    assert!((records.sum() / RECORDS as f64 - 1.0).abs() < 0.02, "{}", records.sum());
    for phase in ["batch", "compress", "slot", "wire", "network", "broker"] {
        assert_eq!(count(&snapshot, &of::PRODUCER_PHASE_SECONDS, &[phase]), batches, "{phase}");
    }
    assert_eq!(count(&snapshot, &of::PRODUCER_DELIVERY_SECONDS, &[]), batches);

    let mut consumer = client.consumer("billing").subscribe(["orders"]).build().await.expect("built");
    let mut left = RECORDS;
    while left > 0 {
        let batch = timeout(PATIENCE, consumer.next()).await.expect("in time").expect("read");
        let batch = batch.expect("it is a member");
        left -= batch.iter().count();
        consumer.done(&batch);
    }
    let snapshot = eventually(&registry, "an empty partition", |snapshot| {
        snapshot.value(&of::CONSUMER_LAG_RECORDS, &["orders", "0"]) == Some(0.0)
    })
    .await;
    assert_eq!(snapshot.value(&of::CONSUMER_LAG_SECONDS, &["orders", "0"]), Some(0.0));
    assert_eq!(snapshot.value(&of::CONSUMER_ASSIGNED_PARTITIONS, &[]), Some(1.0));
    assert_eq!(snapshot.value(&of::CONSUMER_RECORDS, &["orders"]), Some(RECORDS as f64));
    assert_eq!(snapshot.value(&of::CONSUMER_BYTES, &["orders"]), Some(sent));
    for phase in ["queued", "decompress", "application"] {
        assert_eq!(count(&snapshot, &of::CONSUMER_PHASE_SECONDS, &[phase]), batches, "{phase}");
    }
    let fetches = count(&snapshot, &of::CONSUMER_FETCH_BYTES, &[]);
    for phase in ["broker", "network", "transfer"] {
        assert_eq!(count(&snapshot, &of::CONSUMER_PHASE_SECONDS, &[phase]), fetches, "{phase}");
    }
    assert_eq!(count(&snapshot, &of::CONSUMER_END_TO_END_SECONDS, &["orders"]), RECORDS as u64);
    let newest =
        snapshot.histogram(&of::CONSUMER_END_TO_END_SECONDS, &["orders"]).and_then(HistogramSnapshot::max);
    assert!(newest.is_some_and(|age| age < PATIENCE.as_secs_f64()), "{newest:?}");
    assert_eq!(snapshot.value(&of::CONSUMER_REBALANCES, &["join"]), Some(1.0));

    consumer.close().await.expect("closed");
    let snapshot = registry.snapshot();
    assert!(count(&snapshot, &of::CONSUMER_COMMIT_SECONDS, &[]) > 0);
    for api in ["Produce", "Fetch", "Metadata", "OffsetCommit"] {
        assert!(count(&snapshot, &of::REQUEST_SECONDS, &[api]) > 0, "{api}");
    }
    let open = snapshot.value(&of::CONNECTIONS, &[]).expect("counted");
    assert!(open >= 1.0 && snapshot.value(&of::CONNECTIONS_OPENED, &[]) >= Some(open), "{open}");
    assert!(snapshot.value(&of::SENT_BYTES, &[]) > Some(sent));
    assert!(snapshot.value(&of::RECEIVED_BYTES, &[]) > Some(sent));
    drop(consumer);
    assert_eq!(registry.snapshot().value(&of::CONSUMER_ASSIGNED_PARTITIONS, &[]), None);
}

#[tokio::test]
async fn every_family_has_a_series_once_a_client_has_worked() {
    let cluster = Broker::builder().start().await.expect("started");
    cluster.create_topic("orders", 1).expect("created");
    let (client, registry) = measured(&cluster).await;
    producer(&client).await.send(Record::to("orders").value("created")).await.expect("written");
    let mut consumer = consumer(&client, "orders", 1).await;
    read(&mut consumer, 1).await;
    client.consumer("g").subscribe(["orders"]).build().await.expect("built").close().await.expect("closed");
    let snapshot = eventually(&registry, "a lag", |snapshot| {
        snapshot.value(&of::CONSUMER_LAG_RECORDS, &["orders", "0"]).is_some()
    })
    .await;
    let has_series =
        |family: &&&Family| snapshot.family(family.name).is_some_and(|of_name| of_name.samples().len() > 0);
    let without: BTreeSet<_> = FAMILIES.iter().filter(|family| !has_series(family)).map(|f| f.name).collect();
    let allowed = BTreeSet::from(WITHOUT_FAULTS_NONE).into_iter().chain(["milena_consumer_rebalances_total"]);
    let without: Vec<_> = without.difference(&allowed.collect()).copied().collect();
    assert!(without.is_empty(), "{without:?}");
    for sample in snapshot.families().flat_map(|family| family.samples().map(|sample| sample.value)) {
        if let Value::Counter(value) | Value::Gauge(value) = sample {
            assert!(value.is_finite() && *value >= 0.0, "{sample:?}");
        }
    }
}

#[tokio::test]
async fn what_is_lost_is_counted_by_its_error() {
    let cluster = Broker::builder().start().await.expect("started");
    cluster.create_topic("orders", 1).expect("created");
    let (losses, registry) = (Losses::default(), Registry::new());
    let builder = Client::builder().bootstrap(cluster.bootstrap()).connector(losses.clone());
    let client = builder.metrics(&registry).connect().await.expect("connected");
    let producer = producer(&client).await;
    producer.send(Record::to("orders").value("first")).await.expect("written");
    losses.add(ApiKey::Produce, Loss::Answer);
    producer.send(Record::to("orders").value("second")).await.expect("written after all");

    let snapshot = registry.snapshot();
    assert_eq!(snapshot.value(&of::PRODUCER_RETRIES, &["connection_lost"]), Some(1.0));
    assert_eq!(snapshot.value(&of::REQUEST_ERRORS, &["Produce", "connection_lost"]), Some(1.0));
    assert_eq!(snapshot.value(&of::CONNECTIONS_CLOSED, &["broken"]), Some(1.0));
    assert_eq!(count(&snapshot, &of::PRODUCER_PHASE_SECONDS, &["retry"]), 1);
    assert_eq!(snapshot.value(&of::PRODUCER_RECORDS, &["orders"]), Some(2.0));

    drop(cluster);
    let enqueued = producer.enqueue(Record::to("orders").value("third")).await.expect("taken");
    producer.purge().await.expect("purged");
    enqueued.await.expect_err("given up");
    let snapshot = eventually(&registry, "the failed record", |snapshot| {
        let family = snapshot.family(of::PRODUCER_RECORD_ERRORS.name);
        family.is_some_and(|family| family.samples().len() > 0)
    })
    .await;
    let errors: f64 = snapshot
        .family(of::PRODUCER_RECORD_ERRORS.name)
        .into_iter()
        .flat_map(FamilySnapshot::samples)
        .map(|sample| if let Value::Counter(value) = sample.value { *value } else { 0.0 })
        .sum();
    assert_eq!(errors, 1.0);
}

#[tokio::test]
async fn lag_is_in_records_that_exist_and_in_the_age_of_the_next_one() {
    let cluster = Broker::builder().start().await.expect("started");
    cluster.create_topic("orders", 1).expect("created");
    let (client, registry) = measured(&cluster).await;
    let producer = producer(&client).await;
    let hour_ago = || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        i64::try_from(now.as_millis()).expect("soon") - 3_600_000
    };
    for _ in 0..10 {
        let record = Record::to("orders").value("created").timestamp_ms(hour_ago());
        producer.send(record).await.expect("written");
    }
    let mut consumer = consumer(&client, "orders", 1).await;
    consumer.pause("orders", 0).expect("assigned");
    consumer.resume("orders", 0).expect("assigned");
    let first = timeout(PATIENCE, consumer.next()).await.expect("in time").expect("read").expect("assigned");
    let taken = first.iter().count() as f64;
    let lag = eventually(&registry, "a lag", |snapshot| {
        snapshot.value(&of::CONSUMER_LAG_RECORDS, &["orders", "0"]).is_some()
    })
    .await;
    assert_eq!(lag.value(&of::CONSUMER_LAG_RECORDS, &["orders", "0"]), Some(10.0 - taken));
    if taken < 10.0 {
        let age = lag.value(&of::CONSUMER_LAG_SECONDS, &["orders", "0"]).expect("known");
        assert!((3_599.0..3_700.0).contains(&age), "{age}");
    }
    assert!(lag.value(&of::CONSUMER_IN_USE_BYTES, &[]) > Some(0.0));
    drop(first);
    assert_eq!(registry.snapshot().value(&of::CONSUMER_IN_USE_BYTES, &[]), Some(0.0));
}
