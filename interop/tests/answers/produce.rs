//! Produce: accepted, refused and duplicate batches, and the sequences of idempotent producers.

use std::time::{Duration, Instant};

use bytes::Bytes;
use milena_interop::letter::{Letter, TIME};
use milena_interop::raw::{self, Raw};
use milena_messages::ErrorCode;
use milena_messages::describe_log_dirs::{DescribableLogDirTopic, DescribeLogDirsRequest};
use milena_messages::init_producer_id::InitProducerIdRequest;
use milena_messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use milena_wire::codec::Compression;

use super::{Asker, compare};

fn request(topic: &str, partition: i32, records: Option<Bytes>) -> ProduceRequest {
    let data = PartitionProduceData { index: partition, records, ..Default::default() };
    let data = TopicProduceData { name: topic.into(), partition_data: vec![data], ..Default::default() };
    ProduceRequest { acks: -1, timeout_ms: 5_000, topic_data: vec![data], ..Default::default() }
}

fn letters(count: usize) -> Vec<Letter> {
    (0..count).map(|number| Letter::value(0, format!("letter {number}").as_bytes())).collect()
}

fn batch(count: usize) -> Bytes {
    raw::batch(&letters(count), Compression::None).unwrap()
}

/// A batch of idempotent producer: id, epoch, first sequence.
fn stamped(count: usize, producer: (i64, i16, i32)) -> Bytes {
    raw::stamped_batch(&letters(count), Compression::None, Some(producer)).unwrap()
}

/// Produces at `version` and notes the answer for each partition.
fn produce(asker: &mut Asker, what: &str, request: &ProduceRequest, version: i16) {
    let what = format!("{what} v{version}");
    let Some(response) = asker.ask(&what, request, version) else { return };
    let mut answers: Vec<_> =
        response.responses.iter().flat_map(|topic| &topic.partition_responses).collect();
    // Real Kafka answers in the order of a hash map.
    answers.sort_by_key(|answer| answer.index);
    for answer in answers {
        asker.say(
            &what,
            (
                answer.index,
                answer.error_code,
                answer.base_offset,
                answer.log_append_time_ms,
                answer.log_start_offset,
                answer.record_errors.iter().map(|error| error.batch_index).collect::<Vec<_>>(),
            ),
        );
    }
}

/// A new producer's id and epoch. Real Kafka gives none until it has fetched its first block of them.
fn producer_id(raw: &mut Raw) -> (i64, i16) {
    let request = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: 60_000,
        ..Default::default()
    };
    let started = Instant::now();
    loop {
        let response = raw.call(&request, 4).unwrap();
        if response.error_code != ErrorCode::COORDINATOR_LOAD_IN_PROGRESS {
            assert_eq!(response.error_code, ErrorCode::NONE);
            return (response.producer_id, response.producer_epoch);
        }
        assert!(started.elapsed() < Duration::from_secs(20), "no producer ids");
    }
}

/// The sizes of replicas are those of the batches in them.
#[test]
fn sizes_are_told_as_kafka_does() {
    compare(|asker| {
        let name = "sized";
        asker.create(name, 2);
        for count in [1, 3] {
            produce(asker, "a batch", &request(name, 1, Some(batch(count))), 9);
        }
        let topic = |topic: &str, partitions: &[i32]| DescribableLogDirTopic {
            topic: topic.into(),
            partitions: partitions.to_vec(),
            ..Default::default()
        };
        for (what, topics) in [
            ("all sizes", None),
            ("sizes of nothing", Some(vec![])),
            ("sizes", Some(vec![topic(name, &[0, 1])])),
            ("sizes of one twice", Some(vec![topic(name, &[1, 1]), topic(name, &[1])])),
            ("sizes of strangers", Some(vec![topic(name, &[-1, 7]), topic("nowhere", &[0])])),
        ] {
            for version in 1..=4 {
                let what = format!("{what} v{version}");
                let request = DescribeLogDirsRequest { topics: topics.clone(), ..Default::default() };
                let Some(answer) = asker.ask(&what, &request, version) else { continue };
                let [dir] = &answer.results[..] else { panic!("{answer:?}") };
                let of_topic =
                    dir.topics.iter().filter(|topic| topic.name == name).flat_map(|topic| &topic.partitions);
                let mut sizes: Vec<_> = of_topic
                    .map(|of| (of.partition_index, of.partition_size, of.offset_lag, of.is_future_key))
                    .collect();
                sizes.sort_unstable();
                asker.say(&what, (answer.error_code, dir.error_code, sizes));
            }
        }
    });
}

#[test]
fn batches_are_taken_or_refused_as_kafka_does() {
    compare(|asker| {
        asker.create("taken", 2);
        for version in [3, 7, 8, 9, 11, 12] {
            produce(asker, "a batch", &request("taken", 0, Some(batch(3))), version);
        }
        produce(asker, "an unknown topic", &request("nowhere", 0, Some(batch(1))), 9);
        produce(asker, "a bad topic", &request("bad/name", 0, Some(batch(1))), 9);
        produce(asker, "an unknown partition", &request("taken", 7, Some(batch(1))), 9);
        produce(asker, "a negative partition", &request("taken", -1, Some(batch(1))), 9);
        produce(asker, "empty records", &request("taken", 0, Some(Bytes::new())), 9);
        for acks in [1, 2, -2] {
            let request = ProduceRequest { acks, ..request("taken", 0, Some(batch(1))) };
            produce(asker, &format!("acks {acks}"), &request, 9);
        }
        let two = [batch(1), batch(2)].concat().into();
        produce(asker, "two batches", &request("taken", 0, Some(two)), 9);
        let whole = batch(3);
        for cut in [1, 11, 12, 20, 60, whole.len() - 1] {
            let request = request("taken", 0, Some(whole.slice(..cut)));
            produce(asker, &format!("{cut} bytes of a batch"), &request, 9);
        }
        let damaged = |at: usize, byte: u8| {
            let mut bytes = whole.to_vec();
            bytes[at] ^= byte;
            Some(Bytes::from(bytes))
        };
        // base offset, length, leader epoch, magic, checksum, record count, a record
        for (at, byte) in [(7, 1), (11, 1), (15, 1), (16, 1), (16, 3), (16, 0x7f), (17, 1), (60, 1), (70, 1)]
        {
            produce(asker, &format!("byte {at} damaged"), &request("taken", 0, damaged(at, byte)), 9);
        }
        let huge = Letter::value(0, &vec![b'x'; 1_100_000]);
        let too_large = raw::batch(&[huge], Compression::None).unwrap();
        produce(asker, "too large a batch", &request("taken", 0, Some(too_large)), 9);
        let fits = Letter::value(0, &vec![b'x'; 1_048_400]);
        produce(
            asker,
            "a large batch",
            &request("taken", 0, Some(raw::batch(&[fits], Compression::None).unwrap())),
            9,
        );
        for compression in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
            let records = raw::batch(&letters(100), compression).unwrap();
            produce(asker, &format!("{compression:?}"), &request("taken", 1, Some(records)), 9);
        }
        let two_topics = ProduceRequest {
            topic_data: [request("taken", 1, Some(batch(1))), request("nowhere", 0, Some(batch(1)))]
                .into_iter()
                .flat_map(|request| request.topic_data)
                .collect(),
            ..request("", 0, None)
        };
        produce(asker, "a known and an unknown topic", &two_topics, 9);
        let old = Letter { timestamp: TIME - 1, ..Letter::value(0, b"old") };
        produce(
            asker,
            "an older time",
            &request("taken", 0, Some(raw::batch(&[old], Compression::None).unwrap())),
            9,
        );
    });
}

#[test]
fn acks_0_is_not_answered() {
    compare(|asker| {
        asker.create("silent", 1);
        let request = ProduceRequest { acks: 0, ..request("silent", 0, Some(batch(2))) };
        asker.raw.send(&request, 9).unwrap();
        // The next answer on the connection is that of the next request.
        produce(asker, "after silence", &self::request("silent", 0, Some(batch(1))), 9);
        // Without an answer, the broker reports an error by closing the connection.
        let request = ProduceRequest { acks: 0, ..self::request("nowhere", 0, Some(batch(2))) };
        asker.raw.send(&request, 9).unwrap();
        produce(asker, "after an error nobody was told", &self::request("silent", 0, Some(batch(1))), 9);
    });
}

#[test]
fn sequences_are_checked_as_kafka_does() {
    compare(|asker| {
        asker.create("sequenced", 2);
        let (id, epoch) = producer_id(&mut asker.raw);
        let send = |asker: &mut Asker, what: &str, count: usize, producer: (i64, i16, i32)| {
            produce(asker, what, &request("sequenced", 0, Some(stamped(count, producer))), 9);
        };
        send(asker, "sequence 0", 2, (id, epoch, 0));
        send(asker, "a gap", 1, (id, epoch, 3));
        send(asker, "sequence 2", 3, (id, epoch, 2));
        send(asker, "2 again", 3, (id, epoch, 2));
        send(asker, "0 again", 2, (id, epoch, 0));
        send(asker, "2 again, shorter", 2, (id, epoch, 2));
        send(asker, "2 again, longer", 4, (id, epoch, 2));
        for sequence in 5..12 {
            send(asker, &format!("sequence {sequence}"), 1, (id, epoch, sequence));
        }
        send(asker, "the last but four again", 1, (id, epoch, 7));
        send(asker, "the last but five again", 1, (id, epoch, 6));
        send(asker, "the first again", 2, (id, epoch, 0));
        send(asker, "a negative epoch", 1, (id, epoch - 1, 12));
        send(asker, "a newer epoch, sequence 1", 1, (id, epoch + 1, 1));
        send(asker, "a newer epoch, sequence 0", 1, (id, epoch + 1, 0));
        send(asker, "the epoch before", 1, (id, epoch, 12));
        send(asker, "an unknown producer, sequence 0", 1, (id + 1000, 0, 0));
        send(asker, "an unknown producer, sequence 7", 1, (id + 1001, 0, 7));
        let other = request("sequenced", 1, Some(stamped(1, (id, epoch + 1, 1))));
        produce(asker, "another partition, sequence 1", &other, 9);
        let two = [stamped(1, (id, epoch + 1, 1)), stamped(1, (id, epoch + 1, 2))].concat().into();
        produce(asker, "two batches", &request("sequenced", 0, Some(two)), 9);
        let acks_1 =
            ProduceRequest { acks: 1, ..request("sequenced", 0, Some(stamped(1, (id, epoch + 1, 1)))) };
        produce(asker, "acks 1", &acks_1, 9);
        let (id, epoch) = producer_id(&mut asker.raw);
        send(asker, "sequence 5 first", 2, (id, epoch, 5));
        send(asker, "then 7", 1, (id, epoch, 7));
        // After the largest sequence comes 0.
        let (id, epoch) = producer_id(&mut asker.raw);
        send(asker, "near the end", 2, (id, epoch, i32::MAX - 1));
        send(asker, "0 behind the end", 1, (id, epoch, 0));
    });
}

#[test]
fn producer_ids_are_given_as_kafka_does() {
    compare(|asker| {
        producer_id(&mut asker.raw);
        for (what, id, epoch, version) in [
            ("new", -1, -1, 0),
            ("new", -1, -1, 4),
            ("known", 5, 0, 4),
            ("no id", -1, 3, 4),
            ("no epoch", 5, -1, 4),
        ] {
            let request = InitProducerIdRequest {
                transactional_id: None,
                transaction_timeout_ms: 60_000,
                producer_id: id,
                producer_epoch: epoch,
                ..Default::default()
            };
            let Some(response) = asker.ask(what, &request, version) else { continue };
            asker.say(what, (response.error_code, response.producer_id >= 0, response.producer_epoch));
        }
    });
}

#[test]
fn some_faults_of_one_batch_fail_the_whole_request() {
    compare(|asker| {
        asker.create("together", 2);
        let broken = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut raw = batch(2).to_vec();
            change(&mut raw);
            let crc = crc32c::crc32c(&raw[21..]);
            raw[17..21].copy_from_slice(&crc.to_be_bytes());
            Bytes::from(raw)
        };
        for (what, second) in [
            ("a sound one", batch(2)),
            ("no bytes", Bytes::new()),
            ("magic 1", broken(&|raw| raw[16] = 1)),
            ("magic 3", broken(&|raw| raw[16] = 3)),
            ("a length of 3", broken(&|raw| raw[8..12].copy_from_slice(&3_i32.to_be_bytes()))),
            ("a length of -1", broken(&|raw| raw[8..12].fill(0xff))),
            ("a length of 2^31 - 1", broken(&|raw| raw[8..12].copy_from_slice(&i32::MAX.to_be_bytes()))),
            ("a transactional one", broken(&|raw| raw[22] |= 16)),
            ("a control one", broken(&|raw| raw[22] |= 32)),
            ("a wrong count", broken(&|raw| raw[60] = 9)),
            ("a wrong base offset", broken(&|raw| raw[7] = 9)),
            ("an unknown codec", broken(&|raw| raw[22] |= 7)),
            ("a producer without a sequence", broken(&|raw| raw[43..51].fill(0))),
        ] {
            let mut request = request("together", 0, Some(batch(1)));
            let data = PartitionProduceData { index: 1, records: Some(second), ..Default::default() };
            request.topic_data[0].partition_data.push(data);
            produce(asker, &format!("a sound batch and {what}"), &request, 12);
            request.topic_data[0].partition_data.swap(0, 1);
            produce(asker, &format!("{what} and a sound batch"), &request, 12);
            let silent = ProduceRequest { acks: 0, ..request };
            asker.raw.send(&silent, 12).unwrap();
            let next = self::request("together", 0, Some(batch(1)));
            produce(asker, &format!("after {what} without acks"), &next, 12);
        }
    });
}
