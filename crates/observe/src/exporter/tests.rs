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
    let exporter = Exporter::new(client, Plan { names, ..Plan::default() });
    exporter.look().await.expect("is looked at");
    exporter.expose(Format::Prometheus).to_string()
}

fn has(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|of| of == *line), "no {line} in {text}");
    }
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
    has(
        &text(Names::Kminion).await,
        &[
            "kminion_kafka_topic_info{topic_name=\"orders\",partition_count=\"2\",replication_factor=\"1\"} 1",
            "kminion_kafka_topic_high_water_mark_sum{topic_name=\"orders\"} 10",
            "kminion_kafka_consumer_group_topic_lag{group_id=\"billing\",topic_name=\"orders\"} 3",
            "kminion_kafka_consumer_group_topic_partition_lag{group_id=\"billing\",topic_name=\"orders\",partition_id=\"0\"} 3",
            "kminion_kafka_consumer_group_members{group_id=\"billing\"} 0",
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
    let before = exporter.expose(Format::Prometheus);
    assert!(!before.contains("secret") && before.contains("topic=\"orders\""), "{before}");
    cluster.create_topic("more", 1).expect("is made");
    assert!(Arc::ptr_eq(&before, &exporter.expose(Format::Prometheus)), "nobody was asked");
    exporter.look().await.expect("is looked at");
    assert!(exporter.expose(Format::Prometheus).contains("topic=\"more\""));
    assert!(exporter.expose(Format::OpenMetrics).ends_with("# EOF\n"));
    // The cluster goes away: what was seen stays, and says that it is old.
    cluster.shutdown().await.expect("stops");
    let admin = client.admin().timeout(Duration::from_millis(300));
    assert!(Looker::default().look(&admin, &Plan::default()).await.is_err());
}

#[tokio::test]
async fn the_probe_reads_back_what_it_wrote() {
    let (_cluster, client) = world().await;
    let exporter = Exporter::new(client, Plan { probe: Some("orders".into()), ..Plan::default() });
    let reads = async {
        loop {
            let snapshot = exporter.0.registry.snapshot();
            let value = |name: &str| {
                let text = Format::Prometheus.text(&snapshot);
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
