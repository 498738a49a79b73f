//! Creates, changes and deletes a topic with Kafka's command line tools and with every partner's admin client. The embedded
//! broker must give the same results as real Kafka.

use milena::{Client, NewTopic, Record};
use milena_interop::embedded::Embedded;
use milena_interop::partner::Partner;
use milena_interop::real;
use xtask::kafka::{NEWEST, Tool};

/// The steps with Kafka's tools, each with its input.
const STEPS: &[(Tool, &str, &str)] = &[
    (Tool::Topics, "--create --topic letters --partitions 3 --config max.message.bytes=3600000", ""),
    (Tool::Topics, "--create --topic letters --partitions 3", ""),
    (Tool::Topics, "--create --topic letters --if-not-exists", ""),
    (Tool::Topics, "--create --topic bad/name", ""),
    (Tool::Topics, "--create --topic many --replication-factor 9", ""),
    (Tool::Topics, "--describe --topic letters", ""),
    (Tool::Topics, "--describe --topic nowhere", ""),
    (Tool::Topics, "--alter --topic letters --partitions 4", ""),
    (Tool::Topics, "--alter --topic letters --partitions 2", ""),
    (Tool::Configs, "--describe --entity-type topics --entity-name letters", ""),
    (
        Tool::ConsoleProducer,
        "--topic letters --reader-property parse.key=true --reader-property key.separator=:",
        "k1:one\nk2:two\nk3:three\n",
    ),
    (Tool::GetOffsets, "--topic letters --time latest", ""),
    (Tool::GetOffsets, "--topic letters --time earliest", ""),
    (
        Tool::ConsoleConsumer,
        "--topic letters --partition 1 --offset earliest --max-messages 2 --formatter-property print.key=true",
        "",
    ),
    (Tool::Topics, "--delete --topic letters", ""),
    (Tool::Topics, "--delete --topic letters", ""),
    (Tool::Topics, "--describe --topic letters", ""),
];

/// The output of the tools, step by step.
fn transcript(bootstrap: &str) -> Vec<String> {
    let mut said = Vec::new();
    for (tool, args, stdin) in STEPS {
        let args: Vec<&str> = args.split_whitespace().collect();
        let stdin = (!stdin.is_empty()).then_some(stdin.as_bytes());
        let output = tool.run(NEWEST, bootstrap, &args, stdin).unwrap();
        said.push(format!("--- {tool:?} {}: {}", args.join(" "), output.status));
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        said.extend(text.lines().filter_map(comparable));
    }
    said
}

/// A line without the parts that may differ between two clusters: topic ids, the source of a setting, and the text (but not
/// the class) of an error.
fn comparable(line: &str) -> Option<String> {
    if line.is_empty() || line.starts_with("\tat ") || line.starts_with("Error while executing") {
        return None;
    }
    if let Some((_, error)) = line.split_once("[main] ERROR ") {
        let class = error.split([' ', ':']).find(|word| word.contains("Exception"));
        return Some(format!("error: {}", class.unwrap_or(error)));
    }
    if line.starts_with("Topic: ") {
        let fields =
            line.split('\t').filter(|field| !field.starts_with("TopicId") && !field.starts_with("Configs"));
        return Some(fields.collect::<Vec<_>>().join("\t"));
    }
    Some(line.split(" synonyms=").next().unwrap_or(line).to_owned())
}

#[test]
fn kafkas_tools_walk_a_topics_life() {
    let Some(kafka) = real::kafka() else { return };
    let embedded = Embedded::start(1);
    let real = transcript(&kafka.bootstrap());
    assert!(real.iter().any(|line| line == "k1\tone"), "the steps do what they say: {real:#?}");
    assert_eq!(transcript(embedded.bootstrap()), real);
}

/// The embedded broker advertises its APIs in the same versions as real Kafka.
#[test]
fn advertised_versions_are_kafkas() {
    let Some(kafka) = real::kafka() else { return };
    let embedded = Embedded::start(1);
    let versions = |bootstrap: &str| -> Vec<String> {
        let output = Tool::BrokerApiVersions.run(NEWEST, bootstrap, &[], None).unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let known = text.lines().filter(|line| line.contains("usable"));
        known.map(|line| line.trim_end_matches(',').to_owned()).collect()
    };
    let (ours, real) = (versions(embedded.bootstrap()), versions(&kafka.bootstrap()));
    assert!(ours.len() > 10, "{ours:#?}");
    // Kafka offers these two only if it has a receiver of metrics; `telemetry` compares them with one that has.
    let is_of_metrics =
        |line: &String| line.contains("TelemetrySubscriptions") || line.contains("PushTelemetry");
    for line in ours.into_iter().filter(|line| !is_of_metrics(line)) {
        assert!(real.contains(&line), "real Kafka does not say {line:?}: {real:#?}");
    }
}

/// Partners use other versions of requests than the tools, and another order and number of them.
#[test]
fn every_partner_walks_a_topics_life() {
    let Some(kafka) = real::kafka() else { return };
    let embedded = Embedded::start(1);
    for partner in Partner::ALL.into_iter().filter(|partner| partner.is_here()) {
        let topic = format!("life-{partner:?}");
        let real = partner.admin(&kafka.bootstrap(), &topic).unwrap();
        assert!(real.contains(&("create".into(), "ok".into())), "{partner:?}: {real:?}");
        assert_eq!(partner.admin(embedded.bootstrap(), &topic).unwrap(), real, "{partner:?}");
    }
}

/// The directories of every broker, whose replicas of a topic are all there and alike.
#[tokio::main]
async fn log_dirs(bootstrap: &str, brokers: usize, knows_volumes: bool) {
    let client = Client::connect(bootstrap).await.unwrap();
    let (admin, topic) = (client.admin(), "measured");
    let new = NewTopic::new(topic).partitions(1).replication(brokers as i16);
    admin.create_topics([new]).await.unwrap().remove(0).1.unwrap();
    let producer = client.producer().build().await.unwrap();
    producer.send(Record::to(topic).value(&[b'x'; 5000])).await.unwrap();
    // Followers get it later.
    let begun = std::time::Instant::now();
    loop {
        let listing = admin.describe_log_dirs().await.unwrap();
        assert!(listing.failed.is_empty(), "{listing:?}");
        assert_eq!(listing.log_dirs.len(), brokers);
        for dir in &listing.log_dirs {
            assert!(dir.error.is_none() && !dir.path.is_empty(), "{dir:?}");
            assert_eq!(dir.total_bytes.is_some(), knows_volumes, "{dir:?}");
            assert!(dir.usable_bytes <= dir.total_bytes, "{dir:?}");
        }
        let replicas = listing.log_dirs.iter().flat_map(|dir| &dir.replicas);
        let sizes: Vec<_> = replicas.filter(|of| *of.topic == *topic).map(|of| of.bytes).collect();
        assert_eq!(sizes.len(), brokers, "{listing:?}");
        if sizes.iter().all(|bytes| (5000..6000).contains(bytes)) {
            return;
        }
        assert!(begun.elapsed().as_secs() < 60, "{sizes:?}");
    }
}

#[test]
fn log_dirs_of_the_embedded_broker_are_described() {
    log_dirs(Embedded::start(3).bootstrap(), 3, false);
}

#[test]
fn log_dirs_of_real_kafka_are_described() {
    let Some(kafka) = real::three() else { return };
    log_dirs(&kafka.bootstrap(), 3, true);
}

#[test]
fn log_dirs_of_kafka_3_9_are_described() {
    let Some(kafka) = real::old() else { return };
    log_dirs(&kafka.bootstrap(), 1, true);
}
