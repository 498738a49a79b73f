//! Metrics of clients (KIP-714) between Java and Milena: Java's clients push to the embedded broker, and Milena's client pushes to real
//! Kafka, where a receiver (`java/Receiver.java`) reads it with OpenTelemetry's own library.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use milena::metrics::Registry;
use milena::{Client, ConfigChange, ConfigResource, NewTopic, Record};
use milena_broker::{Broker, ClientMetricValue, ClientMetrics};
use milena_interop::partner;
use xtask::kafka::{Cluster, NEWEST};

const PATIENCE: Duration = Duration::from_secs(120);
const TOPIC: &str = "orders";

/// The metrics that KIP-714 requires of producers and consumers, without `org.apache.kafka.`.
const REQUIRED: [&str; 20] = [
    "producer.connection.creation.rate",
    "producer.connection.creation.total",
    "producer.node.request.latency.avg",
    "producer.node.request.latency.max",
    "producer.record.queue.time.avg",
    "producer.record.queue.time.max",
    "consumer.connection.creation.rate",
    "consumer.connection.creation.total",
    "consumer.node.request.latency.avg",
    "consumer.node.request.latency.max",
    "consumer.poll.idle.ratio.avg",
    "consumer.coordinator.commit.latency.avg",
    "consumer.coordinator.commit.latency.max",
    "consumer.coordinator.assigned.partitions",
    "consumer.coordinator.rebalance.latency.avg",
    "consumer.coordinator.rebalance.latency.max",
    "consumer.coordinator.rebalance.latency.total",
    "consumer.fetch.manager.fetch.latency.avg",
    "consumer.fetch.manager.fetch.latency.max",
    // These two have no value until a quota holds a producer back.
    "producer.produce.throttle.time.avg",
];

/// `java/Telemetry.java` at work.
struct Java {
    child: Child,
    producer: String,
    consumer: String,
}

impl Java {
    fn start(bootstrap: &str) -> Self {
        let mut java = partner::java("Telemetry", NEWEST).unwrap();
        java.args([bootstrap, TOPIC]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = java.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut id = || lines.next().expect("Java has pushed").unwrap();
        let (producer, consumer) = (id(), id());
        Self { child, producer, consumer }
    }

    /// Lets it close its clients.
    fn end(mut self) {
        self.child.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn value(client: &ClientMetrics, name: &str) -> Option<ClientMetricValue> {
    let name = format!("org.apache.kafka.{name}");
    client.metrics.iter().find(|metric| metric.name == name).map(|metric| metric.value)
}

#[test]
fn javas_clients_push_to_the_embedded_broker() {
    if !partner::are_here(&["java", "javac", "mvn"]) {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let builder = Broker::builder().group_initial_rebalance_delay(Duration::ZERO);
    let cluster = runtime.block_on(builder.start()).unwrap();
    cluster.create_topic(TOPIC, 1).unwrap();
    let matching = ["client_id=java", "client_software_name=apache-kafka-java"];
    cluster.subscribe_client_metrics("all", &["*"], Duration::from_millis(200), &matching).unwrap();
    let java = Java::start(cluster.bootstrap());
    let of = |id: &str| cluster.client_metrics().into_iter().find(|client| client.client_instance_id == id);
    let sent = "producer.record.send.total";
    let producer = until("what the producer has sent", || {
        of(&java.producer).filter(|client| value(client, sent) == Some(ClientMetricValue::Counter(10.0)))
    });
    assert_eq!((producer.client_id.as_str(), producer.left_out), ("java", 0));
    assert_eq!(producer.software.as_ref().map(|(name, _)| name.as_str()), Some("apache-kafka-java"));
    let node =
        producer.metrics.iter().find(|metric| metric.name.ends_with("producer.node.request.latency.max"));
    assert!(node.is_some_and(|metric| metric.labels.contains_key("node_id")), "{node:?}");
    let consumer = until("what the consumer has read", || {
        let consumed = "consumer.fetch.manager.records.consumed.total";
        of(&java.consumer).filter(|client| value(client, consumed) == Some(ClientMetricValue::Counter(10.0)))
    });
    assert_eq!(consumer.labels["group_id"], "java-group");
    assert_eq!(consumer.labels["client_rack"], "north");
    assert!(consumer.labels.contains_key("group_member_id"), "{:?}", consumer.labels);
    // Java's last push is not waited for: a Java client closes its connections when the push is about to be written.
    java.end();
}

/// A line of the receiver.
#[derive(Debug, Clone)]
struct Line {
    id: String,
    is_last: bool,
    resource: String,
    name: String,
    labels: String,
    kind: String,
    value: f64,
}

fn lines(file: &Path) -> Vec<Line> {
    let text = fs::read_to_string(file).unwrap_or_default();
    // The last line may be half written.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let line = |line: &str| {
        let fields: Vec<String> = line.split('\t').map(str::to_owned).collect();
        let [id, end, resource, name, labels, kind, value] = <[String; 7]>::try_from(fields).unwrap();
        Line { id, is_last: end == "last", resource, name, labels, kind, value: value.parse().unwrap() }
    };
    whole.lines().map(line).collect()
}

/// The names of some clients' metrics, without their values, each with the names of its labels and its kind.
fn names(lines: &[Line], ids: &[&str]) -> BTreeMap<String, BTreeSet<String>> {
    let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in lines.iter().filter(|line| ids.contains(&line.id.as_str())) {
        let Some(name) = line.name.strip_prefix("org.apache.kafka.") else { continue };
        let labels = line.labels.trim_matches(['{', '}']).split(", ");
        let labels: Vec<&str> = labels.filter_map(|label| Some(label.split_once('=')?.0)).collect();
        names.entry(name.to_owned()).or_default().insert(format!("{} {labels:?}", line.kind));
    }
    names
}

#[test]
fn our_client_pushes_to_real_kafka_under_javas_names() {
    if !partner::are_here(&["java", "javac", "mvn"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pushed");
    let settings = [
        "metric.reporters=Receiver".to_owned(),
        format!("receiver.file={}", file.display()),
        format!("-cp={}", partner::java_classes().unwrap().display()),
    ];
    let kafka = Cluster::start_with(1, NEWEST, &settings).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (client, ours) = runtime.block_on(work(&kafka.bootstrap()));
    let sent = |lines: &[Line]| -> f64 {
        let name = "org.apache.kafka.producer.record.send.total";
        lines.iter().filter(|line| line.id == ours && line.name == name).map(|line| line.value).sum()
    };
    until("what was sent", || (sent(&lines(&file)) == 10.0).then_some(()));
    let java = Java::start(&kafka.bootstrap());
    let (producer, consumer) = (java.producer.clone(), java.consumer.clone());
    until("Java's push", || {
        let lines = lines(&file);
        [&producer, &consumer].iter().all(|id| lines.iter().any(|line| line.id == **id)).then_some(())
    });
    java.end();
    runtime.block_on(client.push_last_metrics(PATIENCE));
    until("the last push", || lines(&file).iter().any(|line| line.id == ours && line.is_last).then_some(()));

    let lines = lines(&file);
    assert_eq!(sent(&lines), 10.0, "nothing is counted twice");
    let resource = &lines.iter().rfind(|line| line.id == ours && line.is_last).unwrap().resource;
    assert!(resource.contains("group_id=billing") && resource.contains("group_member_id="), "{resource}");
    let (own, javas) = (names(&lines, &[&ours]), names(&lines, &[&producer, &consumer]));
    for name in REQUIRED {
        if name.contains("throttle") {
            continue;
        }
        assert!(own.contains_key(name), "{name} is not pushed: {own:#?}");
    }
    let strangers: Vec<_> = own.iter().filter(|(name, _)| !javas.contains_key(*name)).collect();
    assert!(strangers.is_empty(), "Java has no such metrics: {strangers:#?}");
    let differ = own.iter().filter(|(name, forms)| !forms.is_subset(&javas[*name]));
    let differ: Vec<_> = differ.map(|(name, forms)| (name, forms, &javas[name])).collect();
    assert!(differ.is_empty(), "they have other labels or another kind in Java: {differ:#?}");
}

/// Ten records are produced and consumed by a client that pushes its metrics. Returns it with its id.
async fn work(bootstrap: &str) -> (Client, String) {
    let client = Client::builder().bootstrap(bootstrap).metrics(&Registry::new()).connect().await.unwrap();
    let admin = client.admin();
    admin
        .create_topics([NewTopic::new(TOPIC).partitions(1).replication(1)])
        .await
        .unwrap()
        .remove(0)
        .1
        .unwrap();
    let all = ConfigResource::ClientMetrics("all".into());
    let changes =
        [("metrics", "*"), ("interval.ms", "500")].map(|(name, value)| ConfigChange::set(name, value));
    admin.alter_configs(&all, changes).await.unwrap();
    // Brokers learn it from the controller.
    while admin.list_client_metrics().await.unwrap() != ["all"] {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let described = admin.describe_configs(&all).await.unwrap();
    let interval =
        described.iter().find(|entry| entry.name == "interval.ms").and_then(|entry| entry.value.as_deref());
    assert_eq!(interval, Some("500"));
    let id = client.client_instance_id(PATIENCE).await.unwrap();
    // A client that asked before there was a subscription would ask again in five minutes; one that connects now is told.
    let later = Client::builder().bootstrap(bootstrap).metrics(&Registry::new()).connect().await.unwrap();
    let later_id = later.client_instance_id(PATIENCE).await.unwrap();
    assert_ne!(id, later_id);
    let producer = later.producer().build().await.unwrap();
    for _ in 0..10 {
        producer.send(Record::to(TOPIC).value("value")).await.unwrap();
    }
    let mut consumer = later.consumer("billing").subscribe([TOPIC]).build().await.unwrap();
    let mut taken = 0;
    while taken < 10 {
        let batch = consumer.next().await.unwrap().unwrap();
        taken += batch.iter().count();
        consumer.done(&batch);
    }
    consumer.commit().await.unwrap();
    // They stay, with their labels, as long as the client does.
    tokio::spawn(async move {
        let _producer = producer;
        while let Ok(Some(batch)) = consumer.next().await {
            consumer.done(&batch);
        }
    });
    (later, later_id)
}
