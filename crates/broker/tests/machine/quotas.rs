//! Quotas: who has which, and what clients meet that are above theirs.

use std::net::SocketAddr;
use std::time::Duration;

use milena_broker::{Authorizer, Broker, Listener, Peer};
use milena_messages::ErrorCode;
use milena_messages::Request;
use milena_messages::alter_client_quotas::{
    AlterClientQuotasRequest, AlterClientQuotasRequestEntityData, AlterClientQuotasRequestEntryData,
    AlterClientQuotasResponse, OpData,
};
use milena_messages::describe_client_quotas::{
    ComponentData, DescribeClientQuotasRequest, DescribeClientQuotasResponse,
};
use milena_messages::fetch::FetchRequest;
use milena_messages::metadata::MetadataRequest;
use milena_messages::produce::ProduceResponse;

use crate::rig::{FETCH, Outcome, PRODUCE, Rig, batch, fetch, frame, produce};

const NONE: ErrorCode = ErrorCode::NONE;
const INVALID: ErrorCode = ErrorCode::INVALID_REQUEST;

/// Kinds and names, where `*` stands for the default.
type Parts<'a> = &'a [(&'a str, &'a str)];

fn name(name: &str) -> Option<milena_wire::Str> {
    (name != "*").then(|| name.into())
}

/// Sets quotas of an entity, or removes them where there is no value.
fn entry(parts: Parts<'_>, ops: &[(&str, Option<f64>)]) -> AlterClientQuotasRequestEntryData {
    let part = |&(kind, of): &(&str, &str)| AlterClientQuotasRequestEntityData {
        entity_type: kind.into(),
        entity_name: name(of),
        ..Default::default()
    };
    let op = |&(key, value): &(&str, Option<f64>)| OpData {
        key: key.into(),
        value: value.unwrap_or_default(),
        remove: value.is_none(),
        ..Default::default()
    };
    AlterClientQuotasRequestEntryData {
        entity: parts.iter().map(part).collect(),
        ops: ops.iter().map(op).collect(),
        ..Default::default()
    }
}

fn alter(rig: &Rig, entries: Vec<AlterClientQuotasRequestEntryData>) -> AlterClientQuotasResponse {
    rig.ask(1, 1, &AlterClientQuotasRequest { entries, ..Default::default() })
}

fn set(rig: &Rig, parts: Parts<'_>, key: &str, value: impl Into<Option<f64>>) {
    let answer = alter(rig, vec![entry(parts, &[(key, value.into())])]);
    assert_eq!(answer.entries[0].error_code, NONE, "{:?}", answer.entries[0].error_message);
}

fn code(rig: &Rig, parts: Parts<'_>, ops: &[(&str, Option<f64>)]) -> ErrorCode {
    alter(rig, vec![entry(parts, ops)]).entries[0].error_code
}

fn describe(rig: &Rig, filter: &[(&str, i8, Option<&str>)], strict: bool) -> DescribeClientQuotasResponse {
    let component = |&(kind, match_type, name): &(&str, i8, Option<&str>)| ComponentData {
        entity_type: kind.into(),
        match_type,
        r#match: name.map(Into::into),
        ..Default::default()
    };
    let components = filter.iter().map(component).collect();
    rig.ask(1, 1, &DescribeClientQuotasRequest { components, strict, ..Default::default() })
}

/// The entities with their quotas, as text.
fn found(rig: &Rig, filter: &[(&str, i8, Option<&str>)], strict: bool) -> Vec<String> {
    let answer = describe(rig, filter, strict);
    assert_eq!(answer.error_code, NONE, "{:?}", answer.error_message);
    let entries = answer.entries.expect("entries");
    let text = entries.iter().map(|entry| {
        let parts = entry.entity.iter();
        let parts =
            parts.map(|part| format!("{}={}", part.entity_type, part.entity_name.as_deref().unwrap_or("*")));
        let values = entry.values.iter().map(|value| format!("{}:{}", value.key, value.value));
        parts.chain(values).collect::<Vec<_>>().join(" ")
    });
    text.collect()
}

const PRODUCER: &str = "producer_byte_rate";
const CONSUMER: &str = "consumer_byte_rate";
const PERCENTAGE: &str = "request_percentage";
const CONNECTIONS: &str = "connection_creation_rate";

#[test]
fn quotas_are_set_removed_and_found_by_filters() {
    let rig = Rig::new(1);
    set(&rig, &[("user", "alice")], PRODUCER, 1024.0);
    set(&rig, &[("user", "alice")], PERCENTAGE, 12.5);
    set(&rig, &[("user", "*")], CONSUMER, 2.0);
    set(&rig, &[("client-id", "app"), ("user", "alice")], PRODUCER, 3.0);
    set(&rig, &[("client-id", "*"), ("user", "*")], PRODUCER, 4.0);
    set(&rig, &[("client-id", "*")], PRODUCER, 5.0);
    set(&rig, &[("ip", "127.0.0.1")], CONNECTIONS, 6.0);
    set(&rig, &[("ip", "*")], CONNECTIONS, 7.0);
    assert_eq!(found(&rig, &[], false).len(), 7);
    assert_eq!(found(&rig, &[], true), [""; 0], "no entity has no kind");
    let alice = "user=alice producer_byte_rate:1024 request_percentage:12.5";
    let both = "user=alice client-id=app producer_byte_rate:3";
    assert_eq!(found(&rig, &[("user", 0, Some("alice"))], true), [alice]);
    assert_eq!(found(&rig, &[("user", 0, Some("alice"))], false), [alice, both]);
    assert_eq!(found(&rig, &[("user", 1, None)], true), ["user=* consumer_byte_rate:2"]);
    assert_eq!(found(&rig, &[("user", 2, None)], true).len(), 2);
    assert_eq!(found(&rig, &[("user", 2, None), ("client-id", 2, None)], false).len(), 2);
    assert_eq!(found(&rig, &[("client-id", 0, Some("*"))], false), [""; 0], "a name, not the default");
    assert_eq!(
        found(&rig, &[("ip", 2, None)], false),
        ["ip=* connection_creation_rate:7", "ip=127.0.0.1 connection_creation_rate:6"]
    );
    set(&rig, &[("user", "alice")], PRODUCER, None);
    set(&rig, &[("user", "nobody")], PRODUCER, None);
    assert_eq!(found(&rig, &[("user", 0, Some("alice"))], true), ["user=alice request_percentage:12.5"]);
    set(&rig, &[("user", "alice")], PERCENTAGE, None);
    assert_eq!(found(&rig, &[("user", 0, Some("alice"))], true), [""; 0]);
}

#[test]
fn what_is_no_quota_is_refused_and_the_rest_of_the_request_is_done() {
    let rig = Rig::new(1);
    for (parts, ops) in [
        (&[][..], &[(PRODUCER, Some(1.0))][..]),
        (&[("user", "")], &[(PRODUCER, Some(1.0))]),
        (&[("group", "g")], &[(PRODUCER, Some(1.0))]),
        (&[("user", "a"), ("ip", "127.0.0.1")], &[(CONNECTIONS, Some(1.0))]),
        (&[("ip", "no address")], &[(CONNECTIONS, Some(1.0))]),
        (&[("ip", "127.0.0.1")], &[(PRODUCER, Some(1.0))]),
        (&[("user", "a")], &[(CONNECTIONS, Some(1.0))]),
        (&[("user", "a")], &[("no_quota", Some(1.0))]),
        (&[("user", "a")], &[(PRODUCER, Some(0.0))]),
        (&[("user", "a")], &[(PRODUCER, Some(1.5))]),
        (&[("user", "a")], &[(PRODUCER, Some(1.0)), (PRODUCER, Some(2.0))]),
    ] {
        assert_eq!(code(&rig, parts, ops), INVALID, "{parts:?} {ops:?}");
    }
    assert_eq!(found(&rig, &[], false), [""; 0]);
    let entries = vec![
        entry(&[("user", "a")], &[(PRODUCER, Some(1.0))]),
        entry(&[("user", "b")], &[(PRODUCER, Some(-1.0))]),
    ];
    let answer = alter(&rig, entries);
    assert_eq!(answer.entries.iter().map(|entry| entry.error_code).collect::<Vec<_>>(), [NONE, INVALID]);
    assert_eq!(found(&rig, &[], false), ["user=a producer_byte_rate:1"]);
    let validated = AlterClientQuotasRequest {
        entries: vec![entry(&[("user", "c")], &[(PRODUCER, Some(1.0))])],
        validate_only: true,
        ..Default::default()
    };
    assert_eq!(rig.ask(1, 1, &validated).entries[0].error_code, NONE);
    assert_eq!(found(&rig, &[], false).len(), 1);
    let wrong = |filter: &[(&str, i8, Option<&str>)]| {
        let answer = describe(&rig, filter, false);
        assert_eq!(answer.entries, None);
        answer.error_code
    };
    assert_eq!(wrong(&[("", 2, None)]), INVALID);
    assert_eq!(wrong(&[("group", 2, None)]), ErrorCode::UNSUPPORTED_VERSION);
    assert_eq!(wrong(&[("user", 2, None), ("user", 1, None)]), INVALID);
    assert_eq!(wrong(&[("user", 0, None)]), INVALID);
    assert_eq!(wrong(&[("user", 1, Some("a"))]), INVALID);
    assert_eq!(wrong(&[("user", 2, Some("a"))]), INVALID);
    assert_eq!(wrong(&[("user", 3, None)]), INVALID);
    assert_eq!(wrong(&[("user", 2, None), ("ip", 2, None)]), INVALID);
}

#[test]
fn quotas_need_rights_and_outlive_the_broker() {
    let rig = Rig::with(
        Broker::builder().listener(Listener::plaintext()).authorizer(Authorizer::new().super_user("User:x")),
    );
    let denied = ErrorCode::CLUSTER_AUTHORIZATION_FAILED;
    assert_eq!(code(&rig, &[("user", "a")], &[(PRODUCER, Some(1.0))]), denied);
    assert_eq!(describe(&rig, &[], false).error_code, denied);
    let dir = tempfile::tempdir().expect("a directory");
    let rig = Rig::with(Broker::builder().data_dir(dir.path()));
    set(&rig, &[("user", "a b"), ("client-id", "*")], PRODUCER, 1e18);
    let before = found(&rig, &[], false);
    drop(rig);
    assert_eq!(found(&Rig::with(Broker::builder().data_dir(dir.path())), &[], false), before);
}

/// Hands in a request over a connection that is not muted.
fn ask<R: Request>(rig: &Rig, peer: &mut Peer, version: i16, request: &R) -> Outcome<R::Response> {
    assert!(peer.muted_until().is_none_or(|until| until <= rig.now.instant), "the connection is muted");
    let answer = rig.machine.handle(peer, &frame(version, request), rig.now, usize::MAX).expect("understood");
    Rig::outcome::<R>(version, answer)
}

/// How long the connection is muted.
fn muted_ms(rig: &Rig, peer: &Peer) -> i32 {
    peer.muted_until().map_or(0, |until| (until - rig.now.instant).as_millis() as i32)
}

fn write(rig: &Rig, peer: &mut Peer, value: &str) -> ProduceResponse {
    ask(rig, peer, PRODUCE, &produce("t", 0, Some(batch(&[value], None)), -1)).answered()
}

#[test]
fn a_producer_above_its_quota_is_muted_after_its_answer() {
    let mut rig = Rig::new(1);
    rig.create("t", 1, &[]);
    let mut peer = rig.connect(1);
    let value = "x".repeat(5000);
    let size = frame(PRODUCE, &produce("t", 0, Some(batch(&[&value], None)), -1)).len() as f64;
    assert_eq!(write(&rig, &mut peer, &value).throttle_time_ms, 0, "there are no quotas");
    // Two requests are ten seconds' worth.
    set(&rig, &[("client-id", "rig")], PRODUCER, (size / 5.0).floor());
    let mut other = rig.connect(1);
    assert_eq!(write(&rig, &mut peer, &value).throttle_time_ms, 0);
    let rest = write(&rig, &mut other, &value).throttle_time_ms;
    assert!((0..20).contains(&rest), "the rest of a division: {rest}");
    rig.pass(Duration::from_millis(rest as u64));
    let answer = write(&rig, &mut peer, &value);
    let code = answer.responses[0].partition_responses[0].error_code;
    assert_eq!(code, NONE, "it is written all the same");
    assert!((4900..=5100).contains(&answer.throttle_time_ms), "{}", answer.throttle_time_ms);
    assert_eq!(answer.throttle_time_ms, muted_ms(&rig, &peer));
    // A request without an answer mutes the connection, too.
    let silent = produce("t", 0, Some(batch(&[&value], None)), 0);
    assert!(matches!(ask(&rig, &mut other, PRODUCE, &silent), Outcome::Silent));
    assert!((9900..=10_100).contains(&muted_ms(&rig, &other)), "{}", muted_ms(&rig, &other));
    // When the time is over the client may go on, and other requests are not delayed.
    rig.pass(Duration::from_secs(21));
    assert_eq!(write(&rig, &mut peer, &value).throttle_time_ms, 0);
    let metadata = ask(&rig, &mut peer, 12, &MetadataRequest::default()).answered();
    assert_eq!((metadata.throttle_time_ms, muted_ms(&rig, &peer)), (0, 0));
    set(&rig, &[("client-id", "rig")], PRODUCER, None);
    for _ in 0..20 {
        assert_eq!(write(&rig, &mut peer, &value).throttle_time_ms, 0, "the quota is gone");
    }
}

#[test]
fn a_consumer_above_its_quota_gets_nothing_and_loses_nothing() {
    let mut rig = Rig::new(1);
    rig.create("t", 1, &[]);
    for _ in 0..8 {
        rig.produce("t", 0, batch(&[&"x".repeat(1000)], None));
    }
    let bytes = rig.fetch("t", 0, 0).records.expect("records").len();
    let one = bytes / 8;
    // Three batches and a half are ten seconds' worth.
    set(&rig, &[("user", "ANONYMOUS")], CONSUMER, (one * 35 / 100) as f64);
    let mut peer = rig.connect(1);
    let mut read = |rig: &Rig, offset, limit: usize| {
        let mut request = fetch("t", &[(0, offset)]);
        request.max_bytes = limit as i32;
        let answer = ask::<FetchRequest>(rig, &mut peer, FETCH, &request).answered();
        let muted = muted_ms(rig, &peer);
        assert_eq!(answer.throttle_time_ms, muted);
        let records = answer.responses.first().and_then(|topic| topic.partitions[0].records.clone());
        (records.map_or(0, |records| records.len()) / one, muted)
    };
    // Never more than the quota gives in its whole time, or the client would never get it.
    assert_eq!(read(&rig, 0, usize::MAX >> 40), (3, 0));
    let (batches, wait) = read(&rig, 3, 2 * one);
    assert_eq!(batches, 0);
    assert!((4200..=4400).contains(&wait), "{wait}");
    // The time of the records that were sent has passed, and those that were not sent never counted.
    rig.pass(Duration::from_secs(12));
    assert_eq!(read(&rig, 3, 3 * one), (3, 0));
}

#[test]
fn a_throttled_fetch_leaves_its_session_as_it_was() {
    let mut rig = Rig::new(1);
    rig.create("t", 1, &[]);
    rig.produce("t", 0, batch(&["x"], None));
    let mut peer = rig.connect(1);
    let mut request = FetchRequest { session_epoch: 0, ..fetch("t", &[(0, 0)]) };
    set(&rig, &[("user", "*")], CONSUMER, 1.0);
    let first = ask(&rig, &mut peer, FETCH, &request).answered();
    assert!(first.session_id == 0 && first.throttle_time_ms > 0, "no session begins: {first:?}");
    set(&rig, &[("user", "*")], CONSUMER, 1_000_000.0);
    rig.pass(Duration::from_mins(5));
    let opened = ask(&rig, &mut peer, FETCH, &request).answered();
    assert!(opened.session_id != 0 && opened.responses[0].partitions.len() == 1);
    set(&rig, &[("user", "*")], CONSUMER, 1.0);
    (request.session_id, request.session_epoch) = (opened.session_id, 1);
    let throttled = ask(&rig, &mut peer, FETCH, &request).answered();
    assert_eq!((throttled.session_id, throttled.responses.len()), (opened.session_id, 0));
    assert!(throttled.throttle_time_ms > 0);
    set(&rig, &[("user", "*")], CONSUMER, 1_000_000.0);
    rig.pass(Duration::from_mins(5));
    (request.session_epoch, request.topics) = (2, Vec::new());
    let answer = ask(&rig, &mut peer, FETCH, &request).answered();
    assert_eq!(answer.responses[0].partitions[0].records.as_ref().map(bytes::Bytes::is_empty), Some(false));
}

#[test]
fn a_client_whose_requests_take_long_waits_a_second_at_most() {
    let mut rig = Rig::new(1);
    rig.create("t", 1, &[]);
    set(&rig, &[("client-id", "rig")], PERCENTAGE, 1.0);
    let mut peer = rig.connect(1);
    let mut throttle = |rig: &Rig, took| {
        let answer = ask(rig, &mut peer, 12, &MetadataRequest::default()).answered();
        assert_eq!(answer.throttle_time_ms, muted_ms(rig, &peer));
        rig.machine.charge(&peer, took, rig.now);
        answer.throttle_time_ms
    };
    assert_eq!(throttle(&rig, Duration::from_millis(100)), 0);
    assert_eq!(throttle(&rig, Duration::from_millis(5)), 0, "ten seconds' worth");
    assert_eq!(throttle(&rig, Duration::from_secs(1)), 500);
    rig.pass(Duration::from_millis(500));
    assert_eq!(throttle(&rig, Duration::ZERO), 1000);
}

#[test]
fn an_address_that_connects_too_often_has_to_wait() {
    let rig = Rig::new(1);
    let address = SocketAddr::from(([127, 0, 0, 1], 40_000)).ip();
    let delay = || rig.machine.connection_delay(address, rig.now);
    assert_eq!(delay(), None);
    set(&rig, &[("ip", "*")], CONNECTIONS, 1.0);
    assert_eq!((0..11).filter_map(|_| delay()).collect::<Vec<_>>(), [Duration::from_secs(1)]);
}

#[test]
fn an_address_may_be_written_in_any_way() {
    let rig = Rig::new(1);
    set(&rig, &[("ip", "2001:DB8:0:0::01")], CONNECTIONS, 1.0);
    set(&rig, &[("ip", "::ffff:127.0.0.1")], CONNECTIONS, 1.0);
    for address in ["2001:db8::1", "127.0.0.1"] {
        let of: std::net::IpAddr = address.parse().expect("an address");
        let refused = (0..11).filter_map(|_| rig.machine.connection_delay(of, rig.now)).count();
        assert_eq!(refused, 1, "{address}");
        let quota = format!("ip={address} connection_creation_rate:1");
        assert_eq!(found(&rig, &[("ip", 0, Some(address))], true), [quota]);
    }
    assert_eq!(found(&rig, &[("ip", 0, Some("2001:0db8::0001"))], true).len(), 1);
    assert_eq!(found(&rig, &[("ip", 0, Some("::FFFF:127.0.0.1"))], true).len(), 1);
    set(&rig, &[("ip", "2001:0db8::1")], CONNECTIONS, None);
    assert_eq!(found(&rig, &[("ip", 2, None)], true).len(), 1);
}
