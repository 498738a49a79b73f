//! Metrics of clients (KIP-714): who is asked for which, when clients may push, and what is shown of it.

use std::time::Duration;

use bytes::Bytes;
use milena_broker::{Authorizer, Broker, ClientMetricValue, ClientMetrics, Peer};
use milena_messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use milena_messages::get_telemetry_subscriptions::{
    GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse,
};
use milena_messages::list_config_resources::ListConfigResourcesRequest;
use milena_messages::push_telemetry::PushTelemetryRequest;
use milena_messages::{ErrorCode, Request};
use milena_wire::codec::{Compression, Compressor};
use milena_wire::{Str, Uuid};

use super::configs::alter_request;
use crate::rig::{Rig, frame};

const CLIENT_METRICS: i8 = 16;
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;

const NONE: ErrorCode = ErrorCode::NONE;
const THROTTLED: ErrorCode = ErrorCode::THROTTLING_QUOTA_EXCEEDED;

fn alter(rig: &Rig, name: &str, changes: &[(&str, i8, Option<&str>)]) -> ErrorCode {
    rig.ask(1, 1, &alter_request(CLIENT_METRICS, name, changes)).responses.remove(0).error_code
}

fn subscribe(rig: &Rig, metrics: &str, interval_ms: &str) {
    let changes = [("metrics", SET, Some(metrics)), ("interval.ms", SET, Some(interval_ms))];
    assert_eq!(alter(rig, "all", &changes), NONE);
}

/// Asks over a connection that stays.
fn ask<R: Request>(rig: &Rig, peer: &mut Peer, request: &R) -> R::Response {
    let version = *R::VERSIONS.end();
    let answer = rig.machine.handle(peer, &frame(version, request), rig.now, usize::MAX).expect("understood");
    Rig::outcome::<R>(version, answer).answered()
}

fn get(rig: &Rig, peer: &mut Peer, client_instance_id: Uuid) -> GetTelemetrySubscriptionsResponse {
    ask(rig, peer, &GetTelemetrySubscriptionsRequest { client_instance_id, ..Default::default() })
}

fn push(rig: &Rig, peer: &mut Peer, request: &PushTelemetryRequest) -> ErrorCode {
    ask(rig, peer, request).error_code
}

fn pushed(
    of: &GetTelemetrySubscriptionsResponse,
    metrics: Vec<u8>,
    codec: Compression,
) -> PushTelemetryRequest {
    PushTelemetryRequest {
        client_instance_id: of.client_instance_id,
        subscription_id: of.subscription_id,
        compression_type: codec.attributes() as i8,
        metrics: Bytes::from(metrics),
        ..Default::default()
    }
}

/// A field of bytes in protobuf.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    assert!(bytes.len() < 1 << 14);
    let length = [(bytes.len() & 0x7f) as u8 | 0x80, (bytes.len() >> 7) as u8];
    [&[number << 3 | 2][..], &length, bytes].concat()
}

/// A counter of this value, as OpenTelemetry writes it.
fn counter(value: f64, is_delta: bool) -> Vec<u8> {
    let point = [&[4 << 3 | 1][..], &value.to_bits().to_le_bytes()].concat();
    let sum = [field(1, &point), vec![2 << 3, if is_delta { 1 } else { 2 }, 3 << 3, 1]].concat();
    let metric = [field(1, b"org.apache.kafka.producer.record.send.total"), field(7, &sum)].concat();
    field(1, &field(2, &field(2, &metric)))
}

fn only(rig: &Rig) -> ClientMetrics {
    let mut shown = rig.machine.client_metrics();
    assert_eq!(shown.len(), 1, "{shown:?}");
    shown.remove(0)
}

#[test]
fn without_a_subscription_a_client_is_asked_for_nothing_and_asks_again_later() {
    let mut rig = Rig::new(1);
    let mut peer = rig.connect(1);
    let told = get(&rig, &mut peer, Uuid::ZERO);
    assert_eq!((told.error_code, told.push_interval_ms, told.telemetry_max_bytes), (NONE, 300_000, 1 << 20));
    assert_eq!((told.requested_metrics.len(), told.delta_temporality), (0, true));
    assert_eq!(told.accepted_compression_types, [4, 3, 1, 2]);
    assert!(!told.client_instance_id.is_zero());
    rig.pass(Duration::from_secs(299));
    assert_eq!(get(&rig, &mut peer, told.client_instance_id).error_code, THROTTLED);
    subscribe(&rig, "org.apache.kafka.producer.,org.apache.kafka.consumer.", "1000");
    let again = get(&rig, &mut peer, told.client_instance_id);
    assert_eq!((again.error_code, again.push_interval_ms), (NONE, 1000), "a change is told at once");
    assert_eq!(again.client_instance_id, told.client_instance_id);
    assert_eq!(again.requested_metrics, ["org.apache.kafka.consumer.", "org.apache.kafka.producer."]);
    assert_ne!(again.subscription_id, told.subscription_id);
}

#[test]
fn a_client_pushes_once_an_interval_and_what_it_pushed_is_shown() {
    let mut rig = Rig::new(1);
    subscribe(&rig, "*", "1000");
    let mut peer = rig.connect(1);
    let told = get(&rig, &mut peer, Uuid::ZERO);
    let request = pushed(&told, counter(2.0, true), Compression::None);
    assert_eq!(push(&rig, &mut peer, &request), NONE, "the first push comes whenever the client likes");
    assert_eq!(push(&rig, &mut peer, &request), THROTTLED);
    assert_eq!(get(&rig, &mut peer, told.client_instance_id).error_code, THROTTLED);
    rig.pass(Duration::from_millis(1000));
    assert_eq!(push(&rig, &mut peer, &request), NONE);
    let shown = only(&rig);
    assert_eq!((shown.client_id.as_str(), shown.pushes, shown.has_ended), ("rig", 2, false));
    assert_eq!(shown.metrics[0].name, "org.apache.kafka.producer.record.send.total");
    assert_eq!(shown.metrics[0].value, ClientMetricValue::Counter(4.0), "what was added is added up");

    let last = PushTelemetryRequest { terminating: true, metrics: Bytes::new(), ..request.clone() };
    assert_eq!(push(&rig, &mut peer, &last), NONE, "the last push does not wait for the interval");
    assert!(only(&rig).has_ended);
    assert_eq!(push(&rig, &mut peer, &last), ErrorCode::INVALID_REQUEST, "it was the last one");
    rig.pass(Duration::from_secs(61));
    get(&rig, &mut rig.connect(1), Uuid::ZERO);
    assert_eq!(rig.machine.client_metrics(), [], "a client that is gone is forgotten");
}

#[test]
fn every_codec_is_taken_and_totals_replace_totals() {
    let builder = Broker::builder().delta_client_metrics(false);
    let mut rig = Rig::with(builder);
    subscribe(&rig, "*", "100");
    let mut peer = rig.connect(1);
    let told = get(&rig, &mut peer, Uuid::ZERO);
    assert!(!told.delta_temporality);
    let codecs =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    for (index, codec) in codecs.into_iter().enumerate() {
        let plain = counter(index as f64 + 1.0, false);
        let mut payload = Vec::new();
        match codec {
            Compression::None => payload.clone_from(&plain),
            codec => Compressor::new().compress(codec, None, &plain, &mut payload).expect("compresses"),
        }
        assert_eq!(push(&rig, &mut peer, &pushed(&told, payload, codec)), NONE, "{codec:?}");
        assert_eq!(only(&rig).metrics[0].value, ClientMetricValue::Counter(index as f64 + 1.0));
        rig.pass(Duration::from_millis(100));
    }
}

#[test]
fn what_is_wrong_with_a_push_is_said_with_kafkas_codes() {
    let mut rig = Rig::with(Broker::builder().config("telemetry.max.bytes", "2000"));
    subscribe(&rig, "*", "100");
    let mut peer = rig.connect(1);
    let told = get(&rig, &mut peer, Uuid::ZERO);
    assert_eq!(told.telemetry_max_bytes, 2000);
    let mut zeros = Vec::new();
    Compressor::new().compress(Compression::Zstd, None, &[0; 1 << 20], &mut zeros).expect("compresses");
    let good = pushed(&told, counter(1.0, true), Compression::None);
    let one = Uuid::from_bytes([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    for (what, request, expected) in [
        (
            "no id",
            PushTelemetryRequest { client_instance_id: Uuid::ZERO, ..good.clone() },
            ErrorCode::INVALID_REQUEST,
        ),
        (
            "a reserved id",
            PushTelemetryRequest { client_instance_id: one, ..good.clone() },
            ErrorCode::INVALID_REQUEST,
        ),
        (
            "another subscription",
            PushTelemetryRequest { subscription_id: told.subscription_id ^ 1, ..good.clone() },
            ErrorCode::UNKNOWN_SUBSCRIPTION_ID,
        ),
        (
            "an unknown codec",
            PushTelemetryRequest { compression_type: 5, ..good.clone() },
            ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
        ),
        (
            "a negative codec",
            PushTelemetryRequest { compression_type: -4, ..good.clone() },
            ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
        ),
        ("too large", pushed(&told, vec![0; 2001], Compression::None), ErrorCode::TELEMETRY_TOO_LARGE),
        ("a bomb", pushed(&told, zeros, Compression::Zstd), ErrorCode::TELEMETRY_TOO_LARGE),
        ("no zstd", pushed(&told, vec![1; 100], Compression::Zstd), ErrorCode::INVALID_RECORD),
        ("no metrics", pushed(&told, vec![0xff; 100], Compression::None), ErrorCode::INVALID_RECORD),
        ("good", good, NONE),
    ] {
        rig.pass(Duration::from_millis(100));
        assert_eq!(push(&rig, &mut peer, &request), expected, "{what}");
        // The one that does not know its subscription may ask at once.
        let may_ask = [ErrorCode::UNKNOWN_SUBSCRIPTION_ID, ErrorCode::UNSUPPORTED_COMPRESSION_TYPE];
        let asked = get(&rig, &mut peer, told.client_instance_id).error_code;
        let is_known = expected != ErrorCode::INVALID_REQUEST;
        assert_eq!(asked.is_none(), may_ask.contains(&expected) || !is_known, "{what}: {asked:?}");
    }
}

#[test]
fn subscriptions_are_configs_that_are_altered_described_and_listed() {
    let rig = Rig::new(2);
    rig.create("orders", 1, &[]);
    subscribe(&rig, "a.", "500");
    assert_eq!(alter(&rig, "all", &[("metrics", APPEND, Some("b."))]), NONE);
    assert_eq!(alter(&rig, "all", &[("interval.ms", APPEND, Some("1"))]), ErrorCode::INVALID_CONFIG);
    assert_eq!(alter(&rig, "all", &[("interval.ms", SET, Some("99"))]), ErrorCode::INVALID_REQUEST);
    assert_eq!(alter(&rig, "all", &[("match", SET, Some("user=me"))]), ErrorCode::INVALID_CONFIG);
    assert_eq!(alter(&rig, "", &[("metrics", SET, Some("*"))]), ErrorCode::INVALID_REQUEST);
    assert_eq!(alter(&rig, "all", &[("retention.ms", SET, Some("1"))]), ErrorCode::INVALID_REQUEST);
    let describe = |name: &str| -> Vec<(String, String, i8)> {
        let resource = DescribeConfigsResource {
            resource_type: CLIENT_METRICS,
            resource_name: name.into(),
            configuration_keys: None,
            ..Default::default()
        };
        let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
        let result = rig.ask(1, 4, &request).results.remove(0);
        assert_eq!(result.error_code, NONE);
        let config = |config: milena_messages::describe_configs::DescribeConfigsResourceResult| {
            (config.name.to_string(), config.value.expect("a value").to_string(), config.config_source)
        };
        result.configs.into_iter().map(config).collect()
    };
    let own = |name: &str, value: &str, source: i8| (name.to_owned(), value.to_owned(), source);
    assert_eq!(
        describe("all"),
        [own("interval.ms", "500", 7), own("match", "", 5), own("metrics", "a.,b.", 7)]
    );
    assert_eq!(
        describe("none")[0],
        own("interval.ms", "300000", 5),
        "as Kafka describes one that does not exist"
    );

    let list = |version: i16, resource_types: &[i8]| {
        let request =
            ListConfigResourcesRequest { resource_types: resource_types.to_vec(), ..Default::default() };
        let answer = rig.ask(1, version, &request);
        let name = |resource: &milena_messages::list_config_resources::ConfigResource| {
            format!("{}:{}", resource.resource_type, resource.resource_name)
        };
        (answer.error_code, answer.config_resources.iter().map(name).collect::<Vec<_>>())
    };
    assert_eq!(list(0, &[]), (NONE, vec!["16:all".to_owned()]));
    assert_eq!(list(1, &[16]), (NONE, vec!["16:all".to_owned()]));
    let all = ["2:orders", "4:1", "4:2", "16:all"].map(str::to_owned).to_vec();
    assert_eq!(list(1, &[]), (NONE, all));
    assert_eq!(list(1, &[3]), (ErrorCode::UNSUPPORTED_VERSION, Vec::new()));

    let all = ["metrics", "interval.ms"].map(|name| (name, DELETE, None));
    assert_eq!(alter(&rig, "all", &all), NONE);
    assert_eq!(list(0, &[]).1, Vec::<String>::new(), "one without configs is gone");
}

#[test]
fn only_those_who_may_alter_and_describe_configs_of_the_cluster_see_and_make_subscriptions() {
    let rig = Rig::with(Broker::builder().authorizer(Authorizer::new().super_user("User:admin")));
    assert_eq!(alter(&rig, "all", &[("metrics", SET, Some("*"))]), ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
    let answer = rig.ask(1, 1, &ListConfigResourcesRequest::default());
    assert_eq!(answer.error_code, ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
    // Asking for a subscription and pushing take no right, as in Kafka.
    assert_eq!(get(&rig, &mut rig.connect(1), Uuid::ZERO).error_code, NONE);
}

#[test]
fn a_subscription_is_for_the_clients_that_match_and_another_broker_takes_a_client_at_once() {
    let rig = Rig::new(2);
    subscribe(&rig, "*", "100000");
    assert_eq!(
        alter(&rig, "all", &[("match", SET, Some("client_id=ri[g],client_source_address=127.*"))]),
        NONE
    );
    let told = get(&rig, &mut rig.connect(1), Uuid::ZERO);
    assert_eq!(told.requested_metrics, [Str::from("*")]);
    let request = pushed(&told, counter(1.0, true), Compression::None);
    for node in [1, 2] {
        // The connection is another one each time, and so Kafka would have forgotten the client.
        assert_eq!(push(&rig, &mut rig.connect(node), &request), NONE);
    }
    assert_eq!(only(&rig).metrics[0].value, ClientMetricValue::Counter(2.0));
    assert_eq!(alter(&rig, "all", &[("match", SET, Some("client_id=ri"))]), NONE);
    let told = get(&rig, &mut rig.connect(1), told.client_instance_id);
    assert_eq!(told.requested_metrics.len(), 0, "a pattern matches the whole id");
}
