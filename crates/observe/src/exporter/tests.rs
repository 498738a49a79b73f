//! What is exported of a cluster, under each exporter's names.

use std::time::{Duration, Instant};

use milena::Record;
use milena_broker::{Broker, Cluster};

use super::probe::Came;
use super::*;

async fn world() -> (Cluster, Client) {
    let cluster = Broker::builder().start().await.expect("starts");
    cluster.create_topic("orders", 2).expect("is made");
    let client = Client::connect(cluster.bootstrap()).await.expect("connects");
    let producer = client.producer().build().await.expect("a producer");
    for number in 0..10 {
        let record = Record::to("orders").partition(number % 2).value("x");
        producer.send(record).await.expect("is written");
    }
    client.admin().alter_group_offsets("billing", [(("orders", 0), 2)]).await.expect("committed");
    (cluster, client)
}

async fn text(names: Names) -> String {
    let (_cluster, client) = world().await;
    seen(client, names).await
}

/// The replicas in the only directory of the only broker.
async fn replicas(client: &Client) -> Vec<milena::ReplicaSize> {
    let mut listing = client.admin().describe_log_dirs().await.expect("are described");
    listing.log_dirs.pop().expect("one").replicas
}

async fn seen(client: Client, names: Names) -> String {
    let exporter = Exporter::new(client, Plan { names, ..Plan::default() });
    exporter.look().await.expect("is looked at");
    exposed(&exporter, Format::Prometheus)
}

fn exposed(exporter: &Exporter, format: Format) -> String {
    String::from_utf8(exporter.expose(format, Encoding::Identity).to_vec()).expect("text")
}

fn has(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|of| of == *line), "no {line} in {text}");
    }
}

#[tokio::test]
async fn an_exporter_runs_as_a_task_of_its_own() {
    let (_cluster, client) = world().await;
    let exporter = Exporter::new(client, Plan { interval: Duration::from_millis(10), ..Plan::default() });
    let runs = exporter.clone();
    let task = tokio::spawn(async move { runs.run(|_| {}).await });
    while !exposed(&exporter, Format::Prometheus).contains("milena_exporter_up 1") {
        tokio::task::yield_now().await;
    }
    task.abort();
}

#[tokio::test]
async fn a_cluster_is_exported_under_milenas_names() {
    has(
        &text(Names::Milena).await,
        &[
            "milena_exporter_up 1",
            "milena_cluster_brokers 1",
            "milena_cluster_topic_partitions{topic=\"orders\"} 2",
            "milena_cluster_partition_end_offset{topic=\"orders\",partition=\"1\"} 5",
            "milena_cluster_group_committed_offset{group=\"billing\",topic=\"orders\",partition=\"0\"} 2",
            "milena_cluster_group_lag{group=\"billing\",topic=\"orders\",partition=\"0\"} 3",
            "milena_cluster_group_status{group=\"billing\"} 1",
            "milena_cluster_group_state{group=\"billing\",state=\"Empty\"} 1",
            "milena_cluster_partition_stable_offset{topic=\"orders\",partition=\"1\"} 5",
            "milena_cluster_log_dir_online{broker=\"1\",directory=\"memory\"} 1",
        ],
    );
}

#[tokio::test]
async fn a_cluster_is_exported_under_the_names_of_kafka_exporter() {
    has(
        &text(Names::KafkaExporter).await,
        &[
            "kafka_brokers 1",
            "kafka_topic_partitions{topic=\"orders\"} 2",
            "kafka_topic_partition_current_offset{topic=\"orders\",partition=\"1\"} 5",
            "kafka_topic_partition_oldest_offset{topic=\"orders\",partition=\"1\"} 0",
            "kafka_topic_partition_under_replicated_partition{topic=\"orders\",partition=\"1\"} 0",
            "kafka_topic_partition_leader_is_preferred{topic=\"orders\",partition=\"1\"} 1",
            "kafka_consumergroup_current_offset{consumergroup=\"billing\",topic=\"orders\",partition=\"0\"} 2",
            "kafka_consumergroup_lag{consumergroup=\"billing\",topic=\"orders\",partition=\"0\"} 3",
            "kafka_consumergroup_lag_sum{consumergroup=\"billing\",topic=\"orders\"} 3",
            "kafka_consumergroup_members{consumergroup=\"billing\"} 0",
        ],
    );
}

#[tokio::test]
async fn a_cluster_is_exported_under_the_names_of_kminion() {
    let (_cluster, client) = world().await;
    let bytes: u64 = replicas(&client).await.into_iter().map(|replica| replica.bytes).sum();
    assert!(bytes > 0);
    has(
        &seen(client, Names::Kminion).await,
        &[
            "kminion_kafka_topic_info{topic_name=\"orders\",partition_count=\"2\",replication_factor=\"1\"} 1",
            "kminion_kafka_topic_high_water_mark_sum{topic_name=\"orders\"} 10",
            "kminion_kafka_consumer_group_topic_lag{group_id=\"billing\",topic_name=\"orders\"} 3",
            "kminion_kafka_consumer_group_topic_partition_lag{group_id=\"billing\",topic_name=\"orders\",partition_id=\"0\"} 3",
            "kminion_kafka_consumer_group_members{group_id=\"billing\"} 0",
            &format!("kminion_kafka_topic_log_dir_size_total_bytes{{topic_name=\"orders\"}} {bytes}"),
        ],
    );
}

#[tokio::test]
async fn what_is_not_chosen_is_not_exported_and_a_scrape_gets_the_last_look() {
    let (cluster, client) = world().await;
    cluster.create_topic("secret", 1).expect("is made");
    let topics = Chosen::by(|topic| topic != "secret");
    let exporter = Exporter::new(client.clone(), Plan { topics, ..Plan::default() });
    exporter.look().await.expect("is looked at");
    let text = exposed(&exporter, Format::Prometheus);
    assert!(!text.contains("secret") && text.contains("topic=\"orders\""), "{text}");
    let before = exporter.expose(Format::Prometheus, Encoding::Identity);
    cluster.create_topic("more", 1).expect("is made");
    assert!(
        Arc::ptr_eq(&before, &exporter.expose(Format::Prometheus, Encoding::Identity)),
        "nobody was asked"
    );
    exporter.look().await.expect("is looked at");
    assert!(exposed(&exporter, Format::Prometheus).contains("topic=\"more\""));
    assert!(exposed(&exporter, Format::OpenMetrics).ends_with("# EOF\n"));
    // The cluster goes away: what was seen stays, and says that it is old.
    cluster.shutdown().await.expect("stops");
    let admin = client.admin().timeout(Duration::from_millis(300));
    assert!(Looker::default().look(&admin, &Plan::default()).await.is_err());
}

#[tokio::test]
async fn groups_that_find_no_room_are_left_out_and_counted() {
    let (_cluster, client) = world().await;
    let offsets = [(("orders", 0), 1), (("orders", 1), 1)];
    client.admin().alter_group_offsets("audit", offsets).await.expect("committed");
    let exporter = Exporter::new(client, Plan { pairs_max: 2, ..Plan::default() });
    exporter.look().await.expect("is looked at");
    let text = exposed(&exporter, Format::Prometheus);
    has(
        &text,
        &[
            "milena_exporter_left_out 1",
            "milena_cluster_group_lag{group=\"audit\",topic=\"orders\",partition=\"1\"} 4",
            "milena_cluster_group_members{group=\"billing\"} 0",
        ],
    );
    assert!(!text.contains("milena_cluster_group_lag{group=\"billing\""), "{text}");
}

#[tokio::test]
async fn a_format_that_no_scrape_asks_for_any_more_is_not_written() {
    let (_cluster, client) = world().await;
    let exporter = Exporter::new(client, Plan::default());
    exporter.look().await.expect("is looked at");
    assert!(exporter.0.kept().of.iter().flatten().all(Option::is_none), "nothing was asked for");
    let before = exporter.expose(Format::Prometheus, Encoding::Identity);
    for _ in 0..IDLE_MAX {
        exporter.0.write_again();
    }
    let kept = || {
        let mut kept = exporter.0.kept();
        kept.of(Format::Prometheus, Encoding::Identity).as_ref().map(|body| Arc::clone(&body.bytes))
    };
    let again = kept().expect("is kept");
    assert!(!Arc::ptr_eq(&before, &again) && before == again, "it is written at each look");
    exporter.0.write_again();
    assert_eq!(kept(), None);
}

#[tokio::test]
async fn sizes_are_those_of_leaders_and_of_all_replicas() {
    let cluster = Broker::builder().nodes(2).start().await.expect("starts");
    let client = Client::connect(cluster.bootstrap()).await.expect("connects");
    let topic = milena::NewTopic::new("orders").partitions(1).replication(2);
    for (_, made) in client.admin().create_topics([topic]).await.expect("answers") {
        made.expect("is made");
    }
    let producer = client.producer().build().await.expect("a producer");
    producer.send(Record::to("orders").value(&[0_u8; 1000])).await.expect("is written");
    let text = seen(client, Names::Milena).await;
    let value = |name: &str| -> f64 {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_else(|| panic!("no {name} in {text}"));
        line.trim().parse().expect("a number")
    };
    let bytes = value("milena_cluster_partition_size_bytes{topic=\"orders\",partition=\"0\"}");
    assert!((1000.0..1200.0).contains(&bytes), "{bytes}");
    assert_eq!(value("milena_cluster_topic_size_bytes{topic=\"orders\"}"), 2.0 * bytes);
    for broker in 1..=2 {
        let dir = format!("milena_cluster_log_dir_size_bytes{{broker=\"{broker}\",directory=\"memory\"}}");
        assert_eq!(value(&dir), bytes);
    }
    // It does not tell how large its volume is.
    assert!(!text.contains("milena_cluster_log_dir_usable_bytes"), "{text}");
}

#[tokio::test]
async fn an_open_transaction_holds_records_back_and_lag_ends_there_for_groups_that_read_committed() {
    let (_cluster, client) = world().await;
    client.admin().alter_group_offsets("audit", [(("orders", 0), 2)]).await.expect("committed");
    let read_committed = Chosen::by(|group| group == "audit");
    let exporter = Exporter::new(client.clone(), Plan { read_committed, ..Plan::default() });
    let mut writer = client.transactional("w").build().await.expect("a producer");
    let transaction = writer.begin().await.expect("begins");
    for _ in 0..3 {
        transaction.send(Record::to("orders").partition(0).value("x")).await.expect("is written");
    }
    let labels = "topic=\"orders\",partition=\"0\"";
    exporter.look().await.expect("is looked at");
    has(
        &exposed(&exporter, Format::Prometheus),
        &[
            &format!("milena_cluster_partition_end_offset{{{labels}}} 8"),
            &format!("milena_cluster_partition_stable_offset{{{labels}}} 5"),
            &format!("milena_cluster_partition_held_back{{{labels}}} 3"),
            &format!("milena_cluster_partition_held_back_seconds{{{labels}}} 0"),
            &format!("milena_cluster_group_lag{{group=\"billing\",{labels}}} 6"),
            &format!("milena_cluster_group_lag{{group=\"audit\",{labels}}} 3"),
        ],
    );
    // It is counted from the look that saw it first.
    let since_ms = exporter.facts().topics["orders"][0].held_since_ms.expect("is held");
    while exporter.facts().at_ms <= since_ms {
        exporter.look().await.expect("is looked at");
    }
    assert_eq!(exporter.facts().topics["orders"][0].held_since_ms, Some(since_ms));
    assert!(!exposed(&exporter, Format::Prometheus).contains(&format!("held_back_seconds{{{labels}}} 0\n")));
    transaction.commit().await.expect("is committed");
    while exporter.facts().topics["orders"][0].held_back() != Some(0) {
        exporter.look().await.expect("is looked at");
    }
    let text = exposed(&exporter, Format::Prometheus);
    assert!(!text.contains("milena_cluster_partition_held_back{"), "{text}");
}

#[tokio::test]
async fn each_encoding_is_kept_and_says_the_same() {
    use std::io::Read as _;
    let (_cluster, client) = world().await;
    let exporter = Exporter::new(client, Plan::default());
    exporter.look().await.expect("is looked at");
    for format in Format::ALL {
        let packed = exporter.expose(format, Encoding::Gzip);
        assert!(Arc::ptr_eq(&packed, &exporter.expose(format, Encoding::Gzip)), "it is packed once");
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&*packed).read_to_end(&mut unpacked).expect("gzip");
        assert!(*unpacked == *exporter.expose(format, Encoding::Identity), "{format:?}");
        assert!(packed.len() * 2 < unpacked.len(), "{} of {}", packed.len(), unpacked.len());
    }
}

#[tokio::test]
async fn the_probe_reads_back_what_it_wrote() {
    let (_cluster, client) = world().await;
    let exporter = Exporter::new(client, Plan { probe: Some("orders".into()), ..Plan::default() });
    let reads = async {
        loop {
            let snapshot = exporter.0.registry.snapshot();
            let value = |name: &str| {
                let text = String::from_utf8(Format::Prometheus.write(&snapshot)).expect("text");
                let found = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
                found.unwrap_or(0.0)
            };
            if value("milena_probe_read_total ") >= 1.0
                && value("milena_probe_end_to_end_seconds_count ") >= 1.0
            {
                assert_eq!(value("milena_probe_lost_total "), 0.0);
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = exporter.run(|error| panic!("{error}")) => {}
        read = tokio::time::timeout(Duration::from_secs(60), reads) => read.expect("reads"),
    }
}

#[test]
fn records_that_do_not_come_back_are_lost_and_slow_ones_late() {
    let (mut probe, start) = (Probe::default(), Instant::now());
    let after = |seconds| start + Duration::from_secs(seconds);
    for number in 1..=4 {
        probe.written(number, start);
    }
    probe.refused(4);
    assert_eq!(probe.read(1, after(1)), Some(Came { after: Duration::from_secs(1), is_late: false }));
    assert_eq!(probe.read(1, after(1)), None, "a duplicate");
    assert_eq!(probe.read(2, after(6)), Some(Came { after: Duration::from_secs(6), is_late: true }));
    assert_eq!(probe.read(9, after(6)), None, "another probe's");
    assert_eq!((probe.lost(after(60)), probe.lost(after(61)), probe.lost(after(61))), (0, 1, 0));
    assert_eq!(probe.read(3, after(62)), None, "it was given up");
}
