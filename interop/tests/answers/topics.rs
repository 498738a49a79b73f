//! Topics: creating them in every wrong way, deleting, metadata, configurations, partitions.

use milena_interop::embedded::Embedded;
use milena_interop::raw::Raw;
use milena_interop::real;
use milena_messages::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use milena_messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use milena_messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use milena_messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use milena_messages::metadata::{MetadataRequest, MetadataRequestTopic};
use milena_wire::Uuid;

use super::{Asker, compare};

fn topic(name: &str, partitions: i32, replicas: i16) -> CreatableTopic {
    CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: replicas,
        ..Default::default()
    }
}

fn assigned(name: &str, partitions: i32, replicas: i16, brokers: &[(i32, &[i32])]) -> CreatableTopic {
    let assignments = brokers
        .iter()
        .map(|(partition_index, brokers)| CreatableReplicaAssignment {
            partition_index: *partition_index,
            broker_ids: brokers.to_vec(),
            ..Default::default()
        })
        .collect();
    CreatableTopic { assignments, ..topic(name, partitions, replicas) }
}

fn configured(name: &str, config: &str, value: Option<&str>) -> CreatableTopic {
    let config =
        CreatableTopicConfig { name: config.into(), value: value.map(Into::into), ..Default::default() };
    CreatableTopic { configs: vec![config], ..topic(name, 1, 1) }
}

fn create(asker: &mut Asker, what: &str, topics: &[CreatableTopic], validate_only: bool) {
    for version in [2, 4, 5, 7] {
        let what = format!("create {what} v{version}");
        let request = CreateTopicsRequest {
            topics: topics.to_vec(),
            timeout_ms: 10_000,
            validate_only: validate_only || version < 7,
            ..Default::default()
        };
        let Some(response) = asker.ask(&what, &request, version) else { continue };
        let mut answers: Vec<_> = response
            .topics
            .iter()
            .map(|t| (t.name.as_str().to_owned(), t.error_code, t.num_partitions, t.replication_factor))
            .collect();
        answers.sort_by(|a, b| a.0.cmp(&b.0));
        asker.say(&what, answers);
    }
}

#[test]
fn topics_are_created_or_refused_as_kafka_does() {
    compare(|asker| {
        let long = "x".repeat(250);
        for name in ["", ".", "..", "a b", "a/b", "ö", "a:b", &long, &long[..249], "fine.name", "fine_name"]
        {
            create(asker, &format!("{name:.10?}"), &[topic(name, 1, 1)], true);
        }
        create(asker, "one", &[topic("answers-one", 2, 1)], false);
        create(asker, "what exists", &[topic("answers-one", 2, 1)], false);
        create(asker, "what exists, wrongly", &[topic("answers-one", 0, 9)], false);
        create(asker, "a.b", &[topic("answers-a.b", 1, 1)], false);
        create(asker, "a_b beside a.b", &[topic("answers-a_b", 1, 1)], false);
        create(asker, "with defaults", &[topic("defaults", -1, -1)], true);
        create(asker, "no partitions", &[topic("none", 0, 1)], true);
        create(asker, "minus two partitions", &[topic("minus", -2, 1)], true);
        create(asker, "no replicas", &[topic("none", 1, 0)], true);
        create(asker, "two replicas", &[topic("two", 1, 2)], true);
        create(asker, "minus two replicas", &[topic("two", 1, -2)], true);
        create(asker, "twice", &[topic("twice", 1, 1), topic("twice", 1, 1), topic("once", 1, 1)], true);
        create(asker, "nothing", &[], true);
        create(asker, "assigned", &[assigned("assigned", -1, -1, &[(0, &[1]), (1, &[1])])], true);
        create(asker, "assigned and counted", &[assigned("assigned", 2, 1, &[(0, &[1]), (1, &[1])])], true);
        create(asker, "assigned to nobody", &[assigned("assigned", -1, -1, &[(0, &[])])], true);
        create(asker, "assigned to a stranger", &[assigned("assigned", -1, -1, &[(0, &[77])])], true);
        create(asker, "assigned twice to one", &[assigned("assigned", -1, -1, &[(0, &[1, 1])])], true);
        create(asker, "assigned with a gap", &[assigned("assigned", -1, -1, &[(1, &[1])])], true);
        create(asker, "unknown config", &[configured("config", "no.such.config", Some("1"))], true);
        create(asker, "config of a bad value", &[configured("config", "retention.ms", Some("soon"))], true);
        create(asker, "config of a bad policy", &[configured("config", "cleanup.policy", Some("x"))], true);
        create(asker, "config without value", &[configured("config", "retention.ms", None)], true);
        create(asker, "config", &[configured("config", "max.message.bytes", Some("1000"))], true);
    });
}

#[test]
fn topics_are_deleted_as_kafka_does() {
    compare(|asker| {
        asker.create("mortal", 1);
        for version in [1, 5] {
            let request = DeleteTopicsRequest {
                topic_names: vec!["nowhere".into(), "mortal".into(), "bad/name".into(), "mortal".into()],
                timeout_ms: 10_000,
                ..Default::default()
            };
            let what = format!("delete v{version}");
            let Some(response) = asker.ask(&what, &request, version) else { continue };
            let mut answers: Vec<_> =
                response.responses.iter().map(|t| (t.name.clone(), t.error_code)).collect();
            answers.sort_by_key(|answer| answer.0.as_ref().map(|name| name.as_str().to_owned()));
            asker.say(&what, answers);
        }
        asker.create("mortal2", 1);
        let by = |name: Option<&str>, id| DeleteTopicState {
            name: name.map(Into::into),
            topic_id: id,
            ..Default::default()
        };
        let unknown = Uuid::from_bytes([7; 16]);
        for (what, state) in [
            ("by name", by(Some("mortal2"), Uuid::ZERO)),
            ("by name again", by(Some("mortal2"), Uuid::ZERO)),
            ("by unknown id", by(None, unknown)),
            ("by both", by(Some("mortal2"), unknown)),
            ("by neither", by(None, Uuid::ZERO)),
        ] {
            let request =
                DeleteTopicsRequest { topics: vec![state], timeout_ms: 10_000, ..Default::default() };
            let Some(response) = asker.ask(what, &request, 6) else { continue };
            let answers: Vec<_> = response.responses.iter().map(|t| (t.name.clone(), t.error_code)).collect();
            asker.say(what, answers);
        }
    });
}

#[test]
fn metadata_answers_as_kafkas() {
    compare(|asker| {
        asker.create("seen", 2);
        let named = |name: &str| MetadataRequestTopic { name: Some(name.into()), ..Default::default() };
        let by_id = |id| MetadataRequestTopic { name: None, topic_id: id, ..Default::default() };
        let questions: [(&str, Option<Vec<MetadataRequestTopic>>, i16); 9] = [
            ("one topic", Some(vec![named("seen")]), 1),
            ("one topic", Some(vec![named("seen")]), 13),
            ("no topics", Some(vec![]), 1),
            ("no topics", Some(vec![]), 12),
            ("unknown", Some(vec![named("nowhere")]), 12),
            ("bad name", Some(vec![named("bad/name")]), 12),
            ("twice", Some(vec![named("seen"), named("seen")]), 12),
            ("unknown id", Some(vec![by_id(Uuid::from_bytes([7; 16]))]), 12),
            ("known and unknown", Some(vec![named("seen"), named("nowhere")]), 5),
        ];
        for (what, topics, version) in questions {
            let what = format!("{what} v{version}");
            let request = MetadataRequest { topics, allow_auto_topic_creation: false, ..Default::default() };
            // v1 to v3 do not have the field.
            let request = if version < 4 {
                MetadataRequest { allow_auto_topic_creation: true, ..request }
            } else {
                request
            };
            let Some(response) = asker.ask(&what, &request, version) else { continue };
            asker.say(&what, (response.brokers.len(), response.controller_id, response.error_code));
            for topic in response.topics {
                let partitions: Vec<_> = topic
                    .partitions
                    .iter()
                    .map(|p| (p.partition_index, p.error_code, p.leader_id, p.leader_epoch, &p.isr_nodes))
                    .collect();
                let line = (topic.error_code, &topic.name, topic.is_internal, partitions);
                asker.say(&what, line);
            }
        }
    });
}

#[test]
fn configurations_are_described_as_kafkas() {
    compare(|asker| {
        asker.create("answers-configured", 1);
        let keys = ["retention.ms", "cleanup.policy", "max.message.bytes", "compression.type", "nonsense"];
        let questions: [(&str, i8, &str, Option<&[&str]>); 6] = [
            ("keys of a topic", 2, "answers-configured", Some(&keys[1..])),
            ("unknown topic", 2, "nowhere", None),
            ("bad topic", 2, "bad/name", None),
            ("unknown broker", 4, "77", None),
            ("a broker without a number", 4, "x", None),
            ("unknown type", 99, "x", None),
        ];
        for (what, resource_type, name, keys) in questions {
            let resource = DescribeConfigsResource {
                resource_type,
                resource_name: name.into(),
                configuration_keys: keys.map(|keys| keys.iter().map(|key| (*key).into()).collect()),
                ..Default::default()
            };
            let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
            let Some(response) = asker.ask(what, &request, 4) else { continue };
            for result in response.results {
                let mut configs: Vec<_> = result
                    .configs
                    .iter()
                    .map(|c| {
                        let (name, value) = (c.name.as_str(), c.value.as_ref().map(milena_wire::Str::as_str));
                        (name, value, c.read_only, c.config_source, c.is_sensitive, c.config_type)
                    })
                    .collect();
                configs.sort_unstable();
                asker.said.push(format!("{what}: {} {configs:?}", result.error_code));
            }
        }
    });
}

#[test]
fn partitions_are_added_as_kafka_does() {
    compare(|asker| {
        asker.create("growing", 2);
        for (what, name, count) in [
            ("fewer", "growing", 1),
            ("as many", "growing", 2),
            ("none", "growing", 0),
            ("negative", "growing", -1),
            ("more", "growing", 4),
            ("unknown", "nowhere", 4),
        ] {
            let topic = CreatePartitionsTopic { name: name.into(), count, ..Default::default() };
            let request =
                CreatePartitionsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
            let Some(response) = asker.ask(what, &request, 3) else { continue };
            asker.say(what, response.results.iter().map(|r| r.error_code).collect::<Vec<_>>());
        }
    });
}

/// Every config that Kafka describes, with values of every kind. Values that Kafka refuses are refused; values that it accepts
/// are accepted, or refused because they would have no effect.
#[test]
fn configs_are_taken_or_refused_with_a_reason() {
    const VALUES: [&str; 22] = [
        "-3",
        "-2",
        "-1",
        "0",
        "1",
        "2",
        "3",
        "13",
        "14",
        "22",
        "0.5",
        "1.5",
        "1048576",
        "2147483648",
        "true",
        "false",
        "compact",
        "delete",
        "producer",
        "uncompressed",
        "LogAppendTime",
        "word",
    ];
    let Some(kafka) = real::kafka() else { return };
    let embedded = Embedded::start(1);
    let mut brokers =
        [kafka.bootstrap(), embedded.bootstrap().to_owned()].map(|at| Raw::connect(&at).unwrap());
    brokers[0].create_topic("all-configs", 1).unwrap();
    let resource = DescribeConfigsResource {
        resource_type: 2,
        resource_name: "all-configs".into(),
        configuration_keys: None,
        ..Default::default()
    };
    let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
    let described = brokers[0].call(&request, 4).unwrap().results.remove(0).configs;
    assert!(described.len() > 30);
    let mut wrong = Vec::new();
    for config in described {
        let name = config.name.as_str();
        for value in VALUES.into_iter().chain(config.value.as_deref()) {
            let mut try_on = |broker: &mut Raw| {
                let request = CreateTopicsRequest {
                    topics: vec![configured("configured", name, Some(value))],
                    timeout_ms: 10_000,
                    validate_only: true,
                    ..Default::default()
                };
                let answer = broker.call(&request, 7).unwrap().topics.remove(0);
                (answer.error_code, answer.error_message.unwrap_or_default())
            };
            let [(kafka, _), (ours, reason)] = brokers.each_mut().map(&mut try_on);
            let is_meant = kafka.is_none() && reason.contains("would have no effect");
            if kafka != ours && !is_meant {
                wrong.push(format!("{name}={value}: Kafka {kafka}, ours {ours} {reason}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
