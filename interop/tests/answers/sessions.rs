//! Fetch sessions as only a faulty client uses them: partitions that are added and forgotten in one request or named twice,
//! topics that are made again, and requests over two connections.

use std::time::{Duration, Instant};

use milena_interop::letter::Letter;
use milena_interop::raw::{self, Raw};
use milena_messages::delete_topics::DeleteTopicsRequest;
use milena_messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic, ForgottenTopic};
use milena_messages::metadata::{MetadataRequest, MetadataRequestTopic};
use milena_messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use milena_messages::{ErrorCode, Message as _, Request as _};
use milena_wire::codec::Compression;
use milena_wire::{Reader, Uuid};

use super::{Asker, compare};

/// A topic in a request: by name, or by its id.
#[derive(Clone, Copy)]
enum Named {
    Name(&'static str),
    Id(Uuid),
}

/// Partitions and offsets of one topic.
type Wanted<'a> = (Named, &'a [(i32, i64)]);

fn request(id: i32, epoch: i32, wanted: &[Wanted<'_>], forgotten: &[(Named, &[i32])]) -> FetchRequest {
    let split = |named| match named {
        Named::Name(name) => (name.into(), Uuid::ZERO),
        Named::Id(id) => ("".into(), id),
    };
    let partition = |&(partition, fetch_offset): &(i32, i64)| FetchPartition {
        partition,
        fetch_offset,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    let wanted = wanted.iter().map(|&(named, partitions)| {
        let (topic, topic_id) = split(named);
        let partitions = partitions.iter().map(partition).collect();
        FetchTopic { topic, topic_id, partitions, ..Default::default() }
    });
    let forgotten = forgotten.iter().map(|&(named, partitions)| {
        let (topic, topic_id) = split(named);
        ForgottenTopic { topic, topic_id, partitions: partitions.to_vec(), ..Default::default() }
    });
    FetchRequest {
        max_bytes: 10 << 20,
        session_id: id,
        session_epoch: epoch,
        topics: wanted.collect(),
        forgotten_topics_data: forgotten.collect(),
        ..Default::default()
    }
}

/// Notes the session in a response, and its partitions in order.
fn note(asker: &mut Asker, what: &str, ids: &[Uuid], response: &FetchResponse) -> i32 {
    let mut told = Vec::new();
    for topic in &response.responses {
        let id = ids.iter().position(|id| *id == topic.topic_id);
        let name = id.map_or_else(|| topic.topic.to_string(), |id| format!("id {id}"));
        for data in &topic.partitions {
            let records = data.records.as_ref().map(bytes::Bytes::len);
            told.push(format!(
                "{name} {} {} {} {records:?}",
                data.partition_index, data.error_code, data.high_watermark
            ));
        }
    }
    asker.say(what, (response.error_code, response.session_id != 0, told));
    response.session_id
}

fn fetch(asker: &mut Asker, what: &str, request: &FetchRequest, version: i16, ids: &[Uuid]) -> i32 {
    let Some(response) = asker.ask(what, request, version) else { return 0 };
    note(asker, what, ids, &response)
}

fn fill(asker: &mut Asker, topic: &str, partition: i32, records: usize) {
    let letters = vec![Letter::value(partition, b"x"); records];
    let records = Some(raw::batch(&letters, Compression::None).unwrap());
    let data = PartitionProduceData { index: partition, records, ..Default::default() };
    let data = TopicProduceData { name: topic.into(), partition_data: vec![data], ..Default::default() };
    let request =
        ProduceRequest { acks: -1, timeout_ms: 5_000, topic_data: vec![data], ..Default::default() };
    let response = asker.raw.call(&request, 9).unwrap();
    assert_eq!(response.responses[0].partition_responses[0].error_code, ErrorCode::NONE);
}

fn topic_id(asker: &mut Asker, name: &str) -> Option<Uuid> {
    let topic = MetadataRequestTopic { name: Some(name.into()), ..Default::default() };
    let request =
        MetadataRequest { topics: Some(vec![topic]), allow_auto_topic_creation: false, ..Default::default() };
    let response = asker.raw.call(&request, 12).unwrap();
    (response.topics[0].error_code == ErrorCode::NONE).then(|| response.topics[0].topic_id)
}

/// Deletes a topic and waits until the broker knows.
fn delete(asker: &mut Asker, name: &'static str) {
    let request =
        DeleteTopicsRequest { topic_names: vec![name.into()], timeout_ms: 5000, ..Default::default() };
    let response = asker.raw.call(&request, 5).unwrap();
    assert_eq!(response.responses[0].error_code, ErrorCode::NONE);
    let started = Instant::now();
    while topic_id(asker, name).is_some() {
        assert!(started.elapsed().as_secs() < 30, "{name} is still there");
    }
}

const ALL: &[(i32, i64)] = &[(0, 0), (1, 0), (2, 0), (3, 0)];

#[test]
fn what_is_added_and_forgotten_at_once_is_forgotten() {
    compare(|asker| {
        asker.create("both", 4);
        let both = Named::Name("both");
        for partition in 0..4 {
            fill(asker, "both", partition, 1);
        }
        let id = fetch(asker, "opens", &request(0, 0, &[(both, &[(0, 0), (1, 0)])], &[]), 12, &[]);
        let known = request(id, 1, &[(both, &[(1, 0)])], &[(both, &[1])]);
        fetch(asker, "a known one in both lists", &known, 12, &[]);
        fetch(asker, "it is gone", &request(id, 2, &[], &[]), 12, &[]);
        let unknown = request(id, 3, &[(both, &[(2, 0)])], &[(both, &[2])]);
        fetch(asker, "a new one in both lists", &unknown, 12, &[]);
        fetch(asker, "it never came", &request(id, 4, &[], &[]), 12, &[]);
        let twice = request(
            id,
            5,
            &[(both, &[(3, 0), (3, 1), (3, 0)])],
            &[(both, &[9, 9, 1]), (Named::Name("x"), &[0])],
        );
        fetch(asker, "one named three times, and unknown ones forgotten", &twice, 12, &[]);
        fetch(asker, "it is there once", &request(id, 6, &[(both, &[(3, 1), (0, 1)])], &[]), 12, &[]);
        fetch(asker, "nothing is left to read", &request(id, 7, &[], &[]), 12, &[]);
        let last = request(id, 8, &[(both, &[(0, 0), (2, 0)])], &[(both, &[0, 2, 3])]);
        fetch(asker, "all that is left in both lists", &last, 12, &[]);
        fetch(asker, "the session ended with its last partition", &request(id, 9, &[], &[]), 12, &[]);
        let id = fetch(
            asker,
            "forgets in a first request",
            &request(0, 0, &[(both, &[(0, 0)])], &[(both, &[0])]),
            12,
            &[],
        );
        fetch(asker, "which means nothing there", &request(id, 1, &[], &[]), 12, &[]);
        let id = fetch(
            asker,
            "names one twice in a first request",
            &request(id, 0, &[(both, &[(0, 1), (1, 0), (0, 0)])], &[]),
            12,
            &[],
        );
        fetch(asker, "the last one counts", &request(id, 1, &[], &[]), 12, &[]);
    });
}

#[test]
fn epochs_and_ids_are_judged_as_kafka_does() {
    compare(|asker| {
        asker.create("session-epochs", 4);
        let topic = Named::Name("session-epochs");
        let id = fetch(asker, "opens", &request(0, 0, &[(topic, ALL)], &[]), 12, &[]);
        for epoch in [-2, -3, i32::MIN, i32::MAX, 0x1_0000, 2] {
            fetch(asker, &format!("epoch {epoch}"), &request(id, epoch, &[(topic, ALL)], &[]), 12, &[]);
            fetch(
                asker,
                &format!("epoch {epoch} of no session"),
                &request(0, epoch, &[(topic, ALL)], &[]),
                12,
                &[],
            );
        }
        fetch(asker, "by id", &request(id, 1, &[], &[]), 13, &[]);
        fetch(asker, "by id and a wrong epoch", &request(id, 7, &[], &[]), 13, &[]);
        fetch(asker, "goes on", &request(id, 1, &[], &[]), 12, &[]);
        let next = fetch(
            asker,
            "a first request that names a session ends it",
            &request(id, 0, &[(topic, ALL)], &[]),
            12,
            &[],
        );
        asker.say("it is another", next != id);
        fetch(asker, "the old one is gone", &request(id, 2, &[], &[]), 12, &[]);
        fetch(asker, "nothing asked, without a session", &request(0, -1, &[], &[]), 12, &[]);
        let empty = fetch(asker, "nothing asked", &request(0, 0, &[], &[]), 12, &[]);
        fetch(asker, "nothing still", &request(empty, 1, &[], &[]), 12, &[]);
        fetch(asker, "and it ended", &request(empty, 2, &[], &[]), 12, &[]);
        let empty = fetch(asker, "nothing asked again", &request(0, 0, &[], &[]), 12, &[]);
        fetch(asker, "then something", &request(empty, 1, &[(topic, ALL)], &[]), 12, &[]);
        fetch(asker, "by id now", &request(empty, 2, &[], &[]), 13, &[]);
        fetch(asker, "by name again", &request(empty, 2, &[], &[]), 12, &[]);
    });
}

#[test]
fn partitions_take_turns_as_kafkas_do() {
    compare(|asker| {
        asker.create("turns", 4);
        let topic = Named::Name("turns");
        let unknown = Named::Name("nowhere");
        let id = fetch(
            asker,
            "opens, the unknown ones first",
            &request(0, 0, &[(unknown, &[(0, 0)]), (topic, &[(7, 0), (0, 0), (1, 0), (2, 0), (3, 0)])], &[]),
            12,
            &[],
        );
        fetch(asker, "unknown ones alone", &request(id, 1, &[], &[]), 12, &[]);
        for (epoch, partition) in [(2, 1), (3, 3), (4, 0), (5, 2), (6, 1)] {
            fill(asker, "turns", partition, 1);
            fetch(asker, &format!("after a record in {partition}"), &request(id, epoch, &[], &[]), 12, &[]);
        }
        for epoch in 7..15 {
            let one = FetchRequest { max_bytes: 1, ..request(id, epoch, &[], &[]) };
            fetch(asker, "one at a time", &one, 12, &[]);
        }
        let back = request(id, 15, &[(topic, &[(3, 0)]), (unknown, &[(1, 0)])], &[(topic, &[7, 1])]);
        fetch(asker, "some leave, one comes", &back, 12, &[]);
        fetch(asker, "one comes back", &request(id, 16, &[(topic, &[(1, 0)])], &[]), 12, &[]);
        fetch(asker, "the order after that", &request(id, 17, &[], &[]), 12, &[]);
    });
}

#[test]
fn a_topic_made_again_under_a_session_is_told_as_kafka_does() {
    compare(|asker| {
        asker.create("again", 2);
        asker.create("stays", 1);
        let (old, stays) = (topic_id(asker, "again").unwrap(), topic_id(asker, "stays").unwrap());
        let ids = [old, stays];
        let wanted: &[Wanted<'_>] = &[(Named::Id(old), &[(0, 0), (1, 0)]), (Named::Id(stays), &[(0, 0)])];
        let named: &[Wanted<'_>] = &[(Named::Name("again"), &[(0, 0), (1, 0)])];
        fill(asker, "again", 0, 1);
        let by_id = fetch(asker, "opens by id", &request(0, 0, wanted, &[]), 13, &ids);
        let by_name = fetch(asker, "opens by name", &request(0, 0, named, &[]), 12, &ids);
        let (mut second, mut epoch) = (0, 1);
        for step in ["deleted", "deleted for good"] {
            if step == "deleted" {
                delete(asker, "again");
                second =
                    fetch(asker, "opens by the id of what is gone", &request(0, 0, wanted, &[]), 13, &ids);
            }
            fetch(asker, &format!("by id, {step}"), &request(by_id, epoch, &[], &[]), 13, &ids);
            fetch(asker, &format!("by name, {step}"), &request(by_name, epoch, &[], &[]), 12, &ids);
            fetch(asker, &format!("by the lost id, {step}"), &request(second, epoch, &[], &[]), 13, &ids);
            epoch += 1;
        }
        asker.create("again", 1);
        let new = topic_id(asker, "again").unwrap();
        let ids = [old, stays, new];
        for step in ["made again", "made again, again"] {
            for version in [13, 16] {
                fetch(asker, &format!("by id, {step}"), &request(by_id, epoch, &[], &[]), version, &ids);
                fetch(
                    asker,
                    &format!("by the lost id, {step}"),
                    &request(second, epoch, &[], &[]),
                    version,
                    &ids,
                );
                fetch(asker, &format!("by name, {step}"), &request(by_name, epoch, &[], &[]), 12, &ids);
                epoch += 1;
            }
        }
        let fresh: &[Wanted<'_>] = &[(Named::Id(new), &[(0, 0)])];
        fetch(asker, "the new one joins", &request(by_id, epoch, fresh, &[]), 13, &ids);
        fetch(asker, "beside the old one", &request(by_id, epoch + 1, &[], &[]), 13, &ids);
        let replaced = request(by_id, epoch + 2, fresh, &[(Named::Id(old), &[0, 1])]);
        fetch(asker, "the old one is forgotten", &replaced, 13, &ids);
        fetch(asker, "for good", &request(by_id, epoch + 3, &[], &[]), 13, &ids);
        fetch(asker, "without a session", &request(0, -1, wanted, &[]), 13, &ids);
    });
}

#[test]
fn what_is_unknown_does_not_cut_a_wait_short() {
    compare(|asker| {
        asker.create("waits", 1);
        let topic = Named::Name("waits");
        let nowhere = Named::Name("nowhere");
        // A fetch that waits is awaited to its end. A fetch that does not wait has an end that is never reached.
        for (what, max_wait_ms, wanted) in [
            ("an unknown partition beside a known one", 400, &[(topic, &[(0, 0), (5, 0)][..])][..]),
            ("an unknown topic beside a known one", 400, &[(nowhere, &[(0, 0)]), (topic, &[(0, 0)])]),
            ("only unknown ones", 9_000, &[(topic, &[(5, 0)]), (nowhere, &[(0, 0)])]),
            ("a wrong offset", 9_000, &[(topic, &[(0, 77)])]),
        ] {
            let started = Instant::now();
            let waiting = FetchRequest { min_bytes: 1, max_wait_ms, ..request(0, -1, wanted, &[]) };
            fetch(asker, what, &waiting, 12, &[]);
            let waited = started.elapsed() >= Duration::from_millis(max_wait_ms as u64);
            asker.say(&format!("{what} waits"), waited);
        }
    });
}

#[test]
fn a_session_that_went_on_elsewhere_tells_the_one_that_waits() {
    compare(|asker| {
        asker.create("elsewhere", 1);
        let topic = Named::Name("elsewhere");
        let id = fetch(asker, "opens", &request(0, 0, &[(topic, &[(0, 0)])], &[]), 12, &[]);
        let mut other = Raw::connect(&asker.bootstrap).unwrap();
        let waiting = FetchRequest { min_bytes: 1, max_wait_ms: 20_000, ..request(id, 1, &[], &[]) };
        other.send(&waiting, 12).unwrap();
        // The first connection continues after the second one's request has arrived.
        let started = Instant::now();
        loop {
            let response = asker.raw.call(&request(id, 2, &[], &[]), 12).unwrap();
            if response.error_code == ErrorCode::NONE {
                note(asker, "goes on elsewhere", &[], &response);
                break;
            }
            assert!(started.elapsed().as_secs() < 15, "the waiting request never arrived");
        }
        fill(asker, "elsewhere", 0, 1);
        let frame = other.receive().unwrap();
        let mut reader = Reader::new(&frame);
        let header_version = FetchRequest::KEY.response_header_version(12);
        milena_messages::header::ResponseHeader::decode(&mut reader, header_version).unwrap();
        let response = FetchResponse::decode(&mut reader, 12).unwrap();
        note(asker, "the one that waited", &[], &response);
        fetch(asker, "and on", &request(id, 3, &[], &[]), 12, &[]);
    });
}
