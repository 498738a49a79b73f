//! Configs that clients alter while the broker runs: what is refused, what is described, and that it takes effect at once.

use std::time::Duration;

use milena_broker::Broker;
use milena_messages::ErrorCode;
use milena_messages::alter_configs::{self, AlterConfigsRequest};
use milena_messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use milena_messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use milena_messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use milena_messages::metadata::{MetadataRequest, MetadataRequestTopic};

use crate::rig::{Rig, batch, batch_at};
use crate::time::live_through;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const SET: i8 = 0;
const DELETE: i8 = 1;

/// A request that changes configs of one resource: `(name, operation, value)`.
pub(crate) fn alter_request(
    resource_type: i8,
    name: &str,
    changes: &[(&str, i8, Option<&str>)],
) -> IncrementalAlterConfigsRequest {
    let config = |&(name, config_operation, value): &(&str, i8, Option<&str>)| AlterableConfig {
        name: name.into(),
        config_operation,
        value: value.map(Into::into),
        ..Default::default()
    };
    let resource = AlterConfigsResource {
        resource_type,
        resource_name: name.into(),
        configs: changes.iter().map(config).collect(),
        ..Default::default()
    };
    IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() }
}

fn alter(
    rig: &Rig,
    resource_type: i8,
    name: &str,
    changes: &[(&str, i8, Option<&str>)],
) -> (ErrorCode, String) {
    let response = rig.ask(1, 1, &alter_request(resource_type, name, changes)).responses.remove(0);
    (response.error_code, response.error_message.map_or(String::new(), |reason| reason.to_string()))
}

fn set(rig: &Rig, resource_type: i8, name: &str, config: &str, value: &str) {
    let altered = alter(rig, resource_type, name, &[(config, SET, Some(value))]);
    assert_eq!(altered, (ErrorCode::NONE, String::new()), "{config}={value}");
}

/// The value of a config, its source, and where else it has a value.
fn describe(rig: &Rig, resource_type: i8, name: &str, config: &str) -> (Option<String>, i8, Vec<String>) {
    let resource = DescribeConfigsResource {
        resource_type,
        resource_name: name.into(),
        configuration_keys: Some(vec![config.into()]),
        ..Default::default()
    };
    let request =
        DescribeConfigsRequest { resources: vec![resource], include_synonyms: true, ..Default::default() };
    let mut configs = rig.ask(1, 4, &request).results.remove(0).configs;
    if configs.is_empty() {
        return (None, -1, Vec::new());
    }
    let found = configs.remove(0);
    let synonym = |synonym: &milena_messages::describe_configs::DescribeConfigsSynonym| {
        format!("{}:{}={}", synonym.source, synonym.name, synonym.value.as_deref().unwrap_or("null"))
    };
    let synonyms = found.synonyms.iter().map(synonym).collect();
    (found.value.map(|value| value.to_string()), found.config_source, synonyms)
}

#[test]
fn a_value_comes_from_the_topic_or_the_broker_or_all_brokers_or_their_start() {
    let rig = Rig::with(Broker::builder().config("log.segment.bytes", "4000000"));
    rig.create("t", 1, &[]);
    let of_topic = |rig: &Rig| describe(rig, TOPIC, "t", "segment.bytes");
    let (value, source, synonyms) = of_topic(&rig);
    assert_eq!((value.as_deref(), source), (Some("4000000"), 4));
    assert_eq!(synonyms, ["4:log.segment.bytes=4000000", "5:log.segment.bytes=1073741824"]);
    set(&rig, BROKER, "", "log.segment.bytes", "3000000");
    set(&rig, BROKER, "1", "log.segment.bytes", "2000000");
    set(&rig, TOPIC, "t", "segment.bytes", "1500000");
    let (value, source, synonyms) = of_topic(&rig);
    assert_eq!((value.as_deref(), source), (Some("1500000"), 1));
    let of_broker = [
        "2:log.segment.bytes=2000000",
        "3:log.segment.bytes=3000000",
        "4:log.segment.bytes=4000000",
        "5:log.segment.bytes=1073741824",
    ];
    assert_eq!(synonyms[0], "1:segment.bytes=1500000");
    assert_eq!(synonyms[1..], of_broker);
    assert_eq!(describe(&rig, BROKER, "1", "log.segment.bytes").2, of_broker);
    assert_eq!(describe(&rig, BROKER, "", "log.segment.bytes").2, of_broker[1..2]);
    for (resource, name, config, expected) in [
        (TOPIC, "t", "segment.bytes", "2000000"),
        (BROKER, "1", "log.segment.bytes", "3000000"),
        (BROKER, "", "log.segment.bytes", "4000000"),
    ] {
        assert_eq!(alter(&rig, resource, name, &[(config, DELETE, None)]).0, ErrorCode::NONE);
        assert_eq!(of_topic(&rig).0.as_deref(), Some(expected));
    }
    assert_eq!(describe(&rig, BROKER, "", "log.segment.bytes").0, None);
}

#[test]
fn what_is_wrong_changes_nothing_and_what_is_right_beside_it_does() {
    let rig = Rig::new(1);
    rig.create("t", 1, &[]);
    rig.create("u", 1, &[]);
    let mut request =
        alter_request(TOPIC, "t", &[("segment.ms", SET, Some("5")), ("retention.ms", SET, Some("x"))]);
    request.resources.extend(alter_request(TOPIC, "u", &[("segment.ms", SET, Some("6"))]).resources);
    request.resources.extend(alter_request(BROKER, "", &[("num.io.threads", SET, Some("6"))]).resources);
    let codes: Vec<_> =
        rig.ask(1, 1, &request).responses.iter().map(|response| response.error_code).collect();
    assert_eq!(codes, [ErrorCode::INVALID_CONFIG, ErrorCode::NONE, ErrorCode::INVALID_REQUEST]);
    assert_eq!(describe(&rig, TOPIC, "t", "segment.ms").1, 5);
    assert_eq!(describe(&rig, TOPIC, "u", "segment.ms").0.as_deref(), Some("6"));
    request = alter_request(TOPIC, "t", &[("segment.ms", SET, Some("7"))]);
    request.validate_only = true;
    assert_eq!(rig.ask(1, 1, &request).responses[0].error_code, ErrorCode::NONE);
    assert_eq!(describe(&rig, TOPIC, "t", "segment.ms").1, 5);
    let (code, reason) = alter(&rig, TOPIC, "t", &[("remote.storage.enable", SET, Some("true"))]);
    assert_eq!(code, ErrorCode::INVALID_CONFIG);
    assert!(reason.contains("no effect") && reason.contains("remote.storage.enable"), "{reason}");
    let many = Rig::new(3);
    let (code, reason) = alter(&many, BROKER, "1", &[("log.roll.ms", SET, Some("5"))]);
    assert_eq!(code, ErrorCode::INVALID_REQUEST);
    assert!(reason.contains("one set of configs"), "{reason}");
}

#[test]
fn replacing_all_configs_takes_those_away_that_are_not_named() {
    let rig = Rig::new(1);
    rig.create("t", 1, &[("segment.ms", "5"), ("retention.ms", "6")]);
    let config = alter_configs::AlterableConfig {
        name: "retention.ms".into(),
        value: Some("7".into()),
        ..Default::default()
    };
    let resource = alter_configs::AlterConfigsResource {
        resource_type: TOPIC,
        resource_name: "t".into(),
        configs: vec![config],
        ..Default::default()
    };
    let request = AlterConfigsRequest { resources: vec![resource], ..Default::default() };
    assert_eq!(rig.ask(1, 2, &request).responses[0].error_code, ErrorCode::NONE);
    assert_eq!(describe(&rig, TOPIC, "t", "retention.ms").0.as_deref(), Some("7"));
    assert_eq!(describe(&rig, TOPIC, "t", "segment.ms").1, 5);
}

#[test]
fn a_topics_config_holds_for_the_next_request() {
    let mut rig = Rig::new(1);
    rig.create("t", 1, &[]);
    let start = |rig: &Rig| rig.fetch("t", 0, 9).log_start_offset;
    for _ in 0..9 {
        assert_eq!(rig.produce("t", 0, batch(&["a"], None)).error_code, ErrorCode::NONE);
    }
    set(&rig, TOPIC, "t", "max.message.bytes", "100");
    assert_eq!(
        rig.produce("t", 0, batch(&[&"x".repeat(100)], None)).error_code,
        ErrorCode::MESSAGE_TOO_LARGE
    );
    live_through(&mut rig, Duration::from_secs(60));
    assert_eq!(start(&rig), 0);
    set(&rig, TOPIC, "t", "retention.ms", "1000");
    live_through(&mut rig, Duration::from_secs(300));
    assert_eq!(start(&rig), 9);
}

#[test]
fn a_brokers_config_holds_for_the_next_request() {
    let mut rig = Rig::new(1);
    set(&rig, BROKER, "", "num.partitions", "4");
    let topics = Some(vec![MetadataRequestTopic { name: Some("u".into()), ..Default::default() }]);
    let request = MetadataRequest { topics, allow_auto_topic_creation: true, ..Default::default() };
    assert_eq!(rig.ask(1, 12, &request).topics[0].partitions.len(), 4);
    set(&rig, BROKER, "", "log.message.timestamp.type", "LogAppendTime");
    let produced = rig.produce("u", 2, batch_at(5, &["a"], None));
    assert_eq!(produced.log_append_time_ms, rig.now.unix_ms);
    // A member must ask for a session that the coordinator allows.
    assert_eq!(join(&rig), ErrorCode::MEMBER_ID_REQUIRED);
    set(&rig, BROKER, "", "group.min.session.timeout.ms", "20000");
    assert_eq!(join(&rig), ErrorCode::INVALID_SESSION_TIMEOUT);
    // The interval is short from now on, not after the next check.
    set(&rig, BROKER, "", "log.retention.check.interval.ms", "1000");
    set(&rig, BROKER, "", "log.retention.ms", "5000");
    live_through(&mut rig, Duration::from_secs(7));
    assert_eq!(rig.produce("u", 2, batch(&["b"], None)).log_start_offset, produced.base_offset + 1);
}

fn join(rig: &Rig) -> ErrorCode {
    let request = JoinGroupRequest {
        group_id: "g".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol { name: "range".into(), ..Default::default() }],
        ..Default::default()
    };
    rig.ask(1, 9, &request).error_code
}

#[test]
fn a_config_that_does_not_exist_stops_the_start() {
    for (name, value, reason) in [
        ("no.such", "1", "this broker has no config no.such"),
        ("log.roll.ms", "0", "Invalid value 0 for configuration log.roll.ms: Value must be at least 1"),
    ] {
        let error = Broker::builder().config(name, value).machine().expect_err("refused");
        assert_eq!(error.to_string(), reason);
    }
}
