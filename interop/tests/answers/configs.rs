//! Configs: altering them, in every wrong way too, and what is described afterwards.

use std::time::{Duration, Instant};

use milena_messages::alter_configs::{self, AlterConfigsRequest};
use milena_messages::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use milena_messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
};
use milena_messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};

use super::{Asker, compare};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

type Change<'a> = (&'a str, i8, Option<&'a str>);

fn resource(resource_type: i8, name: &str, changes: &[Change<'_>]) -> AlterConfigsResource {
    let config = |&(name, config_operation, value): &Change<'_>| AlterableConfig {
        name: name.into(),
        config_operation,
        value: value.map(Into::into),
        ..Default::default()
    };
    let configs = changes.iter().map(config).collect();
    AlterConfigsResource { resource_type, resource_name: name.into(), configs, ..Default::default() }
}

fn alter(asker: &mut Asker, what: &str, resources: Vec<AlterConfigsResource>, validate_only: bool) {
    let request = IncrementalAlterConfigsRequest { resources, validate_only, ..Default::default() };
    for version in [0, 1] {
        let Some(response) = asker.ask(what, &request, version) else { continue };
        let answers: Vec<_> = response
            .responses
            .iter()
            .map(|r| (r.resource_type, &r.resource_name, r.error_code, &r.error_message))
            .collect();
        asker.say(&format!("alter {what} v{version}"), answers);
    }
}

fn replace(asker: &mut Asker, what: &str, resource_type: i8, name: &str, configs: &[(&str, Option<&str>)]) {
    let config = |&(name, value): &(&str, Option<&str>)| alter_configs::AlterableConfig {
        name: name.into(),
        value: value.map(Into::into),
        ..Default::default()
    };
    let resource = alter_configs::AlterConfigsResource {
        resource_type,
        resource_name: name.into(),
        configs: configs.iter().map(config).collect(),
        ..Default::default()
    };
    let request = AlterConfigsRequest { resources: vec![resource], ..Default::default() };
    for version in [0, 2] {
        let Some(response) = asker.ask(what, &request, version) else { continue };
        let answers: Vec<_> = response.responses.iter().map(|r| (r.error_code, &r.error_message)).collect();
        asker.say(&format!("replace {what} v{version}"), answers);
    }
}

/// Notes everything that is said of the named configs, synonyms included.
fn describe(asker: &mut Asker, what: &str, resource_type: i8, name: &str, keys: &[&str]) -> Vec<String> {
    let said = described(asker, resource_type, name, keys);
    said.iter().for_each(|line| asker.say(what, line));
    said
}

/// The same, as soon as it is not `before` any more: Kafka's brokers hear of a change a moment after it is answered.
fn changed(
    asker: &mut Asker,
    what: &str,
    (resource_type, name): (i8, &str),
    keys: &[&str],
    before: &[String],
) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while described(asker, resource_type, name, keys) == before && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    describe(asker, what, resource_type, name, keys)
}

fn described(asker: &mut Asker, resource_type: i8, name: &str, keys: &[&str]) -> Vec<String> {
    let resource = DescribeConfigsResource {
        resource_type,
        resource_name: name.into(),
        configuration_keys: Some(keys.iter().map(|&key| key.into()).collect()),
        ..Default::default()
    };
    let request =
        DescribeConfigsRequest { resources: vec![resource], include_synonyms: true, ..Default::default() };
    let Some(response) = asker.ask("describe", &request, 4) else { return Vec::new() };
    let mut configs = response.results[0].configs.clone();
    configs.sort_by(|one, other| one.name.cmp(&other.name));
    let line = |config: DescribeConfigsResourceResult| {
        let synonyms: Vec<_> =
            config.synonyms.iter().map(|s| (s.source, &s.name, s.value.as_deref())).collect();
        let facts = (config.config_source, config.read_only, config.config_type, synonyms);
        format!("{}={:?} {facts:?}", config.name, config.value.as_deref())
    };
    configs.into_iter().map(line).collect()
}

#[test]
fn topics_configs_are_altered_as_kafka_does() {
    compare(|asker| {
        asker.create("altered", 1);
        let t = |changes: &[Change<'_>]| vec![resource(TOPIC, "altered", changes)];
        let keys = [
            "cleanup.policy",
            "compression.gzip.level",
            "delete.retention.ms",
            "flush.ms",
            "max.compaction.lag.ms",
            "max.message.bytes",
            "message.timestamp.type",
            "min.cleanable.dirty.ratio",
            "segment.bytes",
            "segment.ms",
        ];
        let altered = (TOPIC, "altered");
        let before = describe(asker, "before", TOPIC, "altered", &keys);
        for (what, changes) in [
            ("nothing", &[][..]),
            ("one", &[("segment.ms", SET, Some("5000"))]),
            ("one again", &[("segment.ms", SET, Some("5000"))]),
            ("some", &[("segment.bytes", SET, Some("2000000")), ("max.message.bytes", SET, Some("1000"))]),
            ("with spaces", &[("segment.bytes", SET, Some(" 3000000 "))]),
            ("one away", &[("segment.bytes", DELETE, None)]),
            ("what is away", &[("segment.bytes", DELETE, Some("x"))]),
            ("a list", &[("cleanup.policy", APPEND, Some("compact"))]),
            ("a list again", &[("cleanup.policy", APPEND, Some("compact"))]),
            ("a list down", &[("cleanup.policy", SUBTRACT, Some("delete"))]),
            ("a list to nothing", &[("cleanup.policy", SUBTRACT, Some("compact"))]),
            ("a list to two", &[("cleanup.policy", SET, Some("compact,delete"))]),
            ("no list, append", &[("segment.ms", APPEND, Some("1"))]),
            ("no list, subtract", &[("segment.ms", SUBTRACT, Some("1"))]),
            ("an unknown one", &[("no.such", SET, Some("1"))]),
            ("an unknown one away", &[("no.such", DELETE, None)]),
            ("an unknown one, append", &[("no.such", APPEND, Some("1"))]),
            ("a word", &[("segment.ms", SET, Some("soon"))]),
            ("too low", &[("segment.ms", SET, Some("0"))]),
            ("a ratio too high", &[("min.cleanable.dirty.ratio", SET, Some("1.5"))]),
            ("a ratio of words", &[("min.cleanable.dirty.ratio", SET, Some("half"))]),
            ("an int too high", &[("segment.bytes", SET, Some("4294967296"))]),
            ("an int too low", &[("segment.bytes", SET, Some("13"))]),
            ("no choice", &[("message.timestamp.type", SET, Some("now"))]),
            ("no policy", &[("cleanup.policy", SET, Some("keep"))]),
            ("a policy twice", &[("cleanup.policy", SET, Some("delete,delete"))]),
            ("no level", &[("compression.gzip.level", SET, Some("10"))]),
            ("null", &[("segment.ms", SET, None)]),
            (
                "lags that cross",
                &[("min.compaction.lag.ms", SET, Some("9")), ("max.compaction.lag.ms", SET, Some("8"))],
            ),
            ("twice", &[("segment.ms", SET, Some("1")), ("segment.ms", SET, Some("2"))]),
            ("one right, one wrong", &[("segment.ms", SET, Some("1")), ("segment.bytes", SET, Some("x"))]),
        ] {
            alter(asker, what, t(changes), false);
        }
        alter(asker, "in thought", t(&[("delete.retention.ms", SET, Some("77"))]), true);
        alter(asker, "in thought, wrongly", t(&[("delete.retention.ms", SET, Some("x"))]), true);
        for (what, name) in [("unknown", "nowhere"), ("bad", "a/b"), ("empty", "")] {
            alter(asker, what, vec![resource(TOPIC, name, &[("segment.ms", SET, Some("1"))])], false);
            alter(asker, what, vec![resource(TOPIC, name, &[("segment.ms", SET, Some("x"))])], false);
        }
        let one = || resource(TOPIC, "altered", &[("segment.ms", SET, Some("9000"))]);
        alter(asker, "the same topic twice", vec![one(), one()], false);
        alter(asker, "two topics", vec![resource(TOPIC, "nowhere", &[]), one()], false);
        alter(asker, "an unknown type", vec![resource(99, "x", &[])], false);
        alter(asker, "no resource", Vec::new(), false);
        let before = changed(asker, "after", altered, &keys, &before);
        for (what, configs) in [
            ("all", &[("segment.ms", Some("7000")), ("max.message.bytes", Some("2000"))][..]),
            ("all, wrongly", &[("segment.ms", Some("x"))]),
            ("all with an unknown one", &[("no.such", Some("x"))]),
            ("all with null", &[("segment.ms", None)]),
            ("all, one twice", &[("segment.ms", Some("1")), ("segment.ms", Some("1"))]),
            ("all by one", &[("segment.bytes", Some("2000000"))]),
        ] {
            replace(asker, what, TOPIC, "altered", configs);
        }
        replace(asker, "all of none", TOPIC, "nowhere", &[]);
        let before = changed(asker, "replaced", altered, &keys, &before);
        replace(asker, "all by nothing", TOPIC, "altered", &[]);
        changed(asker, "emptied", altered, &keys, &before);
    });
}

#[test]
fn brokers_configs_are_altered_as_kafka_does() {
    compare(|asker| {
        let keys = [
            "log.cleaner.min.compaction.lag.ms",
            "log.roll.jitter.ms",
            "log.cleaner.min.cleanable.ratio",
            "message.max.bytes",
        ];
        let all = |changes: &[Change<'_>]| vec![resource(BROKER, "", changes)];
        let one = |changes: &[Change<'_>]| vec![resource(BROKER, "1", changes)];
        asker.create("of-broker", 1);
        let before = describe(asker, "before", BROKER, "1", &keys);
        alter(
            asker,
            "all",
            all(&[
                ("log.roll.jitter.ms", SET, Some("5000")),
                ("log.cleaner.min.compaction.lag.ms", SET, Some("2000000")),
            ]),
            false,
        );
        alter(asker, "one", one(&[("log.cleaner.min.compaction.lag.ms", SET, Some("3000000"))]), false);
        for (what, changes) in [
            ("a word", &[("log.roll.jitter.ms", SET, Some("x"))][..]),
            ("too low", &[("log.cleaner.min.compaction.lag.ms", SET, Some("-1"))]),
            ("null", &[("log.roll.jitter.ms", SET, None)]),
            ("twice", &[("log.roll.jitter.ms", SET, Some("1")), ("log.roll.jitter.ms", SET, Some("1"))]),
            ("no operation", &[("log.roll.jitter.ms", 9, Some("1"))]),
            ("what cannot be altered", &[("broker.id", SET, Some("7"))]),
        ] {
            alter(asker, what, all(changes), false);
            alter(asker, &format!("{what} of one"), one(changes), false);
        }
        for name in ["77", "x", "-1"] {
            alter(
                asker,
                "a stranger",
                vec![resource(BROKER, name, &[("log.roll.jitter.ms", SET, Some("1"))])],
                false,
            );
        }
        let first = (BROKER, "1");
        let before = changed(asker, "one", first, &keys, &before);
        describe(asker, "all", BROKER, "", &keys);
        describe(asker, "topic", TOPIC, "of-broker", &["segment.jitter.ms", "min.compaction.lag.ms"]);
        alter(asker, "one back", one(&[("log.cleaner.min.compaction.lag.ms", DELETE, None)]), false);
        let before = changed(asker, "one back", first, &keys, &before);
        describe(asker, "topic", TOPIC, "of-broker", &["segment.jitter.ms", "min.compaction.lag.ms"]);
        // Kafka needs a min.insync.replicas for all brokers.
        let insync = ("min.insync.replicas", Some("1"));
        replace(asker, "all", BROKER, "", &[("log.roll.jitter.ms", Some("6000")), insync]);
        let before = changed(asker, "replaced", first, &keys, &before);
        replace(asker, "all by little", BROKER, "", &[insync]);
        changed(asker, "emptied", first, &keys, &before);
        describe(asker, "emptied", BROKER, "", &keys);
    });
}

#[test]
fn bad_values_are_refused_in_kafkas_words() {
    compare(|asker| {
        for (name, value) in [
            ("segment.ms", "soon"),
            ("segment.ms", "0"),
            ("segment.bytes", "4294967296"),
            ("segment.bytes", "13"),
            ("min.cleanable.dirty.ratio", "2"),
            ("min.cleanable.dirty.ratio", "x"),
            ("message.timestamp.type", "x"),
            ("cleanup.policy", "x"),
            ("cleanup.policy", ""),
            ("cleanup.policy", "delete,delete"),
            ("preallocate", "x"),
            ("compression.gzip.level", "10"),
            ("compression.zstd.level", "99"),
            ("compression.type", "x"),
            ("no.such", "x"),
        ] {
            let config =
                CreatableTopicConfig { name: name.into(), value: Some(value.into()), ..Default::default() };
            let topic = CreatableTopic {
                name: "refused".into(),
                num_partitions: 1,
                replication_factor: 1,
                configs: vec![config],
                ..Default::default()
            };
            let request = CreateTopicsRequest {
                topics: vec![topic],
                timeout_ms: 10_000,
                validate_only: true,
                ..Default::default()
            };
            let Some(response) = asker.ask(name, &request, 7) else { continue };
            let topic = &response.topics[0];
            asker.say(&format!("{name}={value}"), (topic.error_code, &topic.error_message));
        }
    });
}
