//! Quotas: which are set, refused and described. What they do to a producer is measured roughly, because real Kafka's clock is
//! not ours.

use std::time::{Duration, Instant};

use milena_interop::letter::Letter;
use milena_interop::raw;
use milena_messages::alter_client_quotas::{
    AlterClientQuotasRequest, AlterClientQuotasRequestEntityData, AlterClientQuotasRequestEntryData, OpData,
};
use milena_messages::describe_client_quotas::{ComponentData, DescribeClientQuotasRequest};
use milena_messages::fetch::FetchRequest;
use milena_messages::metadata::MetadataRequest;
use milena_messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use milena_wire::codec::Compression;

use super::Asker;
use super::guarded::{self, until};

type Parts<'a> = &'a [(&'a str, Option<&'a str>)];
type Ops<'a> = &'a [(&'a str, Option<f64>)];

fn entry(parts: Parts<'_>, ops: Ops<'_>) -> AlterClientQuotasRequestEntryData {
    let part = |&(kind, name): &(&str, Option<&str>)| AlterClientQuotasRequestEntityData {
        entity_type: kind.into(),
        entity_name: name.map(Into::into),
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

fn alter_all(
    asker: &mut Asker,
    what: &str,
    version: i16,
    entries: Vec<AlterClientQuotasRequestEntryData>,
    validate_only: bool,
) {
    let request = AlterClientQuotasRequest { entries, validate_only, ..Default::default() };
    let Some(answer) = asker.ask(what, &request, version) else { return };
    let text = |name: &Option<milena_wire::Str>| name.as_ref().map(ToString::to_string);
    let mut entries: Vec<_> = answer
        .entries
        .iter()
        .map(|entry| {
            let parts = entry.entity.iter();
            let mut parts: Vec<_> =
                parts.map(|part| (part.entity_type.to_string(), text(&part.entity_name))).collect();
            parts.sort();
            // The text of a duplicate has an entity as Java prints it.
            let message =
                text(&entry.error_message).map(|text| text.split(" entity ").next().unwrap().to_owned());
            (parts, entry.error_code, message)
        })
        .collect();
    entries.sort();
    asker.say(what, entries);
}

fn alter(asker: &mut Asker, what: &str, parts: Parts<'_>, ops: Ops<'_>) {
    alter_all(asker, what, 1, vec![entry(parts, ops)], false);
}

/// What a filter finds, as text.
fn found(asker: &mut Asker, version: i16, filter: &[(&str, i8, Option<&str>)], strict: bool) -> String {
    let component = |&(kind, match_type, name): &(&str, i8, Option<&str>)| ComponentData {
        entity_type: kind.into(),
        match_type,
        r#match: name.map(Into::into),
        ..Default::default()
    };
    let components = filter.iter().map(component).collect();
    let request = DescribeClientQuotasRequest { components, strict, ..Default::default() };
    let Some(answer) = asker.ask("describe", &request, version) else { return "nothing".to_owned() };
    let entries = answer.entries.map(|entries| {
        let texts = entries.iter().map(|entry| {
            let parts = entry.entity.iter();
            let mut parts: Vec<_> =
                parts.map(|part| format!("{}={:?}", part.entity_type, part.entity_name)).collect();
            parts.sort();
            let mut values: Vec<_> =
                entry.values.iter().map(|value| format!("{}: {}", value.key, value.value)).collect();
            values.sort();
            format!("{parts:?} {values:?}")
        });
        let mut texts: Vec<String> = texts.collect();
        texts.sort();
        texts
    });
    format!("{:?} {:?} {entries:?}", answer.error_code, answer.error_message)
}

fn describe(asker: &mut Asker, what: &str, filter: &[(&str, i8, Option<&str>)], strict: bool) {
    for version in 0..=1 {
        let found = found(asker, version, filter, strict);
        asker.say(&format!("{what} v{version}"), found);
    }
}

/// Waits until as many quotas are there: the broker learns of them after the controller.
fn settle(asker: &mut Asker, count: usize) {
    until(|| found(asker, 1, &[], false), |found| found.matches(": ").count() == count);
}

const PRODUCER: &str = "producer_byte_rate";
const CONSUMER: &str = "consumer_byte_rate";
const PERCENTAGE: &str = "request_percentage";
const MUTATIONS: &str = "controller_mutation_rate";
const CONNECTIONS: &str = "connection_creation_rate";

fn script(asker: &mut Asker) {
    let alice = &[("user", Some("alice"))][..];
    alter(asker, "no entity", &[], &[(PRODUCER, Some(1.0))]);
    alter(asker, "no name", &[("user", Some(""))], &[(PRODUCER, Some(1.0))]);
    alter(asker, "another kind", &[("group", Some("g"))], &[(PRODUCER, Some(1.0))]);
    alter(asker, "no kind", &[("", Some("g"))], &[(PRODUCER, Some(1.0))]);
    alter(
        asker,
        "a user at an address",
        &[("user", Some("a")), ("ip", Some("127.0.0.1"))],
        &[(CONNECTIONS, Some(1.0))],
    );
    alter(asker, "no address", &[("ip", Some("not an address"))], &[(CONNECTIONS, Some(1.0))]);
    alter(asker, "bytes of an address", &[("ip", Some("127.0.0.1"))], &[(PRODUCER, Some(1.0))]);
    alter(asker, "connections of a user", alice, &[(CONNECTIONS, Some(1.0))]);
    for key in [PRODUCER, CONSUMER, PERCENTAGE, MUTATIONS, "no_quota"] {
        for value in [0.0, -1.0, 1.5, 1e19] {
            alter_all(
                asker,
                &format!("{key} of {value}"),
                1,
                vec![entry(alice, &[(key, Some(value))])],
                true,
            );
        }
    }
    for value in [0.0, 1.5, 3e9] {
        let of = entry(&[("ip", None)], &[(CONNECTIONS, Some(value))]);
        alter_all(asker, &format!("{value} connections"), 1, vec![of], true);
    }
    alter(asker, "one key twice", alice, &[(PRODUCER, Some(1.0)), (PRODUCER, Some(2.0))]);
    alter(asker, "one kind twice", &[("user", Some("x")), ("user", Some("y"))], &[(PRODUCER, None)]);
    alter(asker, "removing what is not there", alice, &[(PRODUCER, None), ("no_quota", None)]);
    alter(asker, "no change", alice, &[]);
    alter_all(asker, "nothing", 0, Vec::new(), false);
    describe(asker, "none yet", &[], false);

    alter(asker, "two quotas", alice, &[(PRODUCER, Some(1024.0)), (PERCENTAGE, Some(12.5))]);
    alter_all(
        asker,
        "many",
        0,
        vec![
            entry(&[("user", None)], &[(CONSUMER, Some(2.0))]),
            entry(&[("client-id", Some("app")), ("user", Some("alice"))], &[(PRODUCER, Some(3.0))]),
            entry(&[("client-id", None), ("user", None)], &[(PRODUCER, Some(4.0)), (MUTATIONS, Some(0.5))]),
            entry(&[("client-id", None)], &[(PRODUCER, Some(5.0))]),
            entry(&[("ip", Some("127.0.0.9"))], &[(CONNECTIONS, Some(600.0))]),
            entry(&[("user", Some("bob"))], &[(PRODUCER, Some(-1.0))]),
        ],
        false,
    );
    settle(asker, 8);
    describe(asker, "all", &[], false);
    describe(asker, "strictly nothing", &[], true);
    for strict in [false, true] {
        for (what, filter) in [
            ("alice", &[("user", 0, Some("alice"))][..]),
            ("the default user", &[("user", 1, None)]),
            ("any user", &[("user", 2, None)]),
            ("any client id", &[("client-id", 2, None)]),
            ("both", &[("user", 2, None), ("client-id", 2, None)]),
            ("alice with any client id", &[("user", 0, Some("alice")), ("client-id", 2, None)]),
            ("any address", &[("ip", 2, None)]),
            ("nobody", &[("user", 0, Some("nobody"))]),
            ("no name", &[("user", 0, Some(""))]),
        ] {
            describe(asker, &format!("{what}, strict {strict}"), filter, strict);
        }
    }
    for (what, filter) in [
        ("no kind", &[("", 2, None)][..]),
        ("another kind", &[("group", 2, None)]),
        ("a kind twice", &[("user", 2, None), ("user", 1, None)]),
        ("exactly null", &[("user", 0, None)]),
        ("the default by name", &[("user", 1, Some("a"))]),
        ("any by name", &[("user", 2, Some("a"))]),
        ("no way to match", &[("user", 3, None)]),
        ("users and addresses", &[("user", 2, None), ("ip", 2, None)]),
    ] {
        describe(asker, what, filter, false);
    }
    alter_all(
        asker,
        "an entity twice",
        1,
        vec![entry(alice, &[(PRODUCER, Some(7.0))]), entry(alice, &[(CONSUMER, Some(8.0))])],
        true,
    );
    alter(asker, "one is removed", alice, &[(PRODUCER, None)]);
    settle(asker, 7);
    describe(asker, "what is left", &[("user", 0, Some("alice"))], true);
    asker.be("bob");
    alter(asker, "a user without rights", alice, &[(PRODUCER, None)]);
    describe(asker, "a user without rights", &[], false);
    asker.be("admin");
    alter_all(
        asker,
        "all are removed",
        1,
        vec![
            entry(alice, &[(PERCENTAGE, None)]),
            entry(&[("user", None)], &[(CONSUMER, None)]),
            entry(&[("client-id", Some("app")), ("user", Some("alice"))], &[(PRODUCER, None)]),
            entry(&[("client-id", None), ("user", None)], &[(PRODUCER, None), (MUTATIONS, None)]),
            entry(&[("client-id", None)], &[(PRODUCER, None)]),
            entry(&[("ip", Some("127.0.0.9"))], &[(CONNECTIONS, None)]),
        ],
        false,
    );
    settle(asker, 0);
}

#[test]
fn quotas_are_set_and_found_as_kafka_does() {
    guarded::compare(script);
}

/// Whether `value` is about what is expected, as a fraction of it. Time passes between two requests.
fn about(value: i32, expected: i32) -> String {
    let off = (f64::from(value) - f64::from(expected)).abs() / f64::from(expected.max(1));
    if off < 0.1 { format!("about {expected}") } else { format!("{value}, not about {expected}") }
}

/// How long the broker says that it delays the connection, and whether it does.
fn throttling(asker: &mut Asker) {
    asker.be("admin");
    asker.create("quotas", 1);
    let letter = Letter::value(0, &[7; 50_000]);
    let records = raw::batch(&[letter], Compression::None).unwrap();
    let write = |asker: &mut Asker, what: &str, acks: i16| {
        let data = PartitionProduceData { records: Some(records.clone()), ..Default::default() };
        let topic =
            TopicProduceData { name: "quotas".into(), partition_data: vec![data], ..Default::default() };
        let request =
            ProduceRequest { acks, timeout_ms: 5000, topic_data: vec![topic], ..Default::default() };
        let answer = asker.ask(what, &request, 9).expect("answered");
        (answer.responses[0].partition_responses[0].error_code, answer.throttle_time_ms)
    };
    // Two of them are ten seconds' worth, and a fifth more is a second.
    alter(
        asker,
        "a quota",
        &[("user", Some("admin"))],
        &[(PRODUCER, Some(10_000.0)), (CONSUMER, Some(12_000.0))],
    );
    settle(asker, 2);
    let said: Vec<_> = (0..2).map(|_| write(asker, "produce", -1)).collect();
    let codes: Vec<_> = said.iter().map(|(code, _)| *code).collect();
    asker.say("within the quota", (codes, said[0].1));
    let began = Instant::now();
    let rest = Duration::from_millis(said[1].1.try_into().unwrap());
    asker.ask("metadata", &MetadataRequest::default(), 9);
    asker.say("a short delay is kept", began.elapsed() + Duration::from_millis(5) >= rest);
    let (code, throttle) = write(asker, "produce", -1);
    asker.say("above the quota", (code, about(throttle, 5000)));
    let began = Instant::now();
    let metadata = asker.ask("metadata", &MetadataRequest::default(), 9).expect("answered");
    asker.say("another request", metadata.throttle_time_ms);
    let waited = began.elapsed().as_millis() as i32;
    asker.say("is answered after that time", waited > throttle * 9 / 10 && waited < throttle * 2);
    let fetch = |asker: &mut Asker, offset| {
        let wanted = milena_messages::fetch::FetchPartition {
            fetch_offset: offset,
            // Two batches. Kafka fills more than that with a part of the next one, which counts.
            partition_max_bytes: 2 * records.len() as i32,
            ..Default::default()
        };
        let topic = milena_messages::fetch::FetchTopic {
            topic: "quotas".into(),
            partitions: vec![wanted],
            ..Default::default()
        };
        let request =
            FetchRequest { max_bytes: 1 << 20, session_epoch: -1, topics: vec![topic], ..Default::default() };
        let answer = asker.ask("fetch", &request, 12).expect("answered");
        let partitions = answer.responses.first().map(|topic| &topic.partitions[0]);
        let bytes =
            partitions.and_then(|found| found.records.as_ref()).map_or(0, |records| records.len() / 50_000);
        (bytes, answer.throttle_time_ms)
    };
    let first = fetch(asker, 0);
    asker.say("as much as the quota gives in its time", first);
    let (batches, throttle) = fetch(asker, 0);
    asker.say("nothing above the quota", (batches, about(throttle, 6700)));
    asker.be("admin");
    let (batches, _) = fetch(asker, 2);
    asker.say("over another connection of the user", batches);
    alter(asker, "no quota", &[("user", Some("admin"))], &[(PRODUCER, None), (CONSUMER, None)]);
    settle(asker, 0);
    let (batches, throttle) = fetch(asker, 0);
    asker.say("without a quota", (batches, throttle));
}

#[test]
fn clients_above_their_quotas_are_told_to_wait_and_made_to() {
    guarded::compare(throttling);
}
