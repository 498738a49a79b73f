//! Clients of other projects and `milena_wire` read each other's batches through a broker, byte for byte.

use milena_broker::Broker;
use milena_interop::embedded::Embedded;
use milena_interop::letter::{self, Received};
use milena_interop::partner::Partner;
use milena_interop::raw::{self, Raw};
use milena_interop::real;
use milena_messages::ErrorCode;
use milena_messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use milena_wire::codec::Compression;

const CODECS: [(&str, Compression); 5] = [
    ("none", Compression::None),
    ("gzip", Compression::Gzip),
    ("snappy", Compression::Snappy),
    ("lz4", Compression::Lz4),
    ("zstd", Compression::Zstd),
];

/// The letters in partitions 0 to 2 of `topic`, and the codecs of their batches.
fn fetch(raw: &mut Raw, topic: &str) -> (Vec<Received>, Vec<Compression>) {
    let (mut received, mut codecs) = (Vec::new(), Vec::new());
    for partition in 0..3 {
        let (mut at, mut end) = (0, 1);
        while at < end {
            let answer = raw.fetch(topic, partition, at).unwrap();
            assert_eq!(answer.error_code, ErrorCode::NONE, "partition {partition} of {topic}");
            let (letters, compressions) = raw::letters(partition, answer.records.as_ref().unwrap()).unwrap();
            let last =
                letters.last().unwrap_or_else(|| panic!("{topic}-{partition} has nothing at {at} of {end}"));
            (at, end) = (last.offset + 1, answer.high_watermark);
            received.extend(letters);
            codecs.extend(compressions);
        }
    }
    (received, codecs)
}

/// Every partner's records, in every codec, are read by wire and by another partner; wire's records by every partner.
fn exchange(bootstrap: &str, partners: &[Partner], name: &str) {
    let letters = letter::awkward();
    let mut raw = Raw::connect(bootstrap).unwrap();
    for partner in partners.iter().copied().filter(|partner| partner.is_here()) {
        for (codec, compression) in CODECS {
            let what = format!("{partner:?} produces {codec}");
            let topic = format!("{name}-{partner:?}-{codec}");
            raw.create_topic(&topic, 3).unwrap();
            let placed = partner.produce(bootstrap, &topic, codec, &letters).unwrap();
            assert_eq!(placed.len(), letters.len(), "{what}");
            let (received, codecs) = fetch(&mut raw, &topic);
            letter::assert_same(&what, &letters, &received);
            assert!(codecs.contains(&compression), "{what}: {codecs:?}");
        }
    }
    // There is one topic for each codec, with one batch in each partition, which every client reads.
    for (codec, compression) in CODECS {
        let topic = format!("{name}-wire-{codec}");
        raw.create_topic(&topic, 3).unwrap();
        for partition in 0..3 {
            let records = raw::batch(&letter::of_partition(&letters, partition), compression).unwrap();
            let data =
                PartitionProduceData { index: partition, records: Some(records), ..Default::default() };
            let data = vec![TopicProduceData {
                name: topic.as_str().into(),
                partition_data: vec![data],
                ..Default::default()
            }];
            let request =
                ProduceRequest { acks: -1, timeout_ms: 10_000, topic_data: data, ..Default::default() };
            let response = raw.call(&request, 9).unwrap();
            let answer = &response.responses[0].partition_responses[0];
            assert_eq!(answer.error_code, ErrorCode::NONE, "wire produces {codec}: {answer:?}");
        }
        for partner in partners.iter().copied().filter(|partner| partner.is_here()) {
            let what = format!("{partner:?} consumes {codec}");
            let consumed = partner.consume(bootstrap, &topic, 3, letters.len()).unwrap();
            letter::assert_same(&what, &letters, &consumed.received);
            let ends: Vec<i64> =
                (0..3).map(|partition| letter::of_partition(&letters, partition).len() as i64).collect();
            assert_eq!(consumed.ends, ends, "{what}: end offsets");
        }
    }
}

/// A check of the tests in this folder: real Kafka passes the tests of the embedded broker.
#[test]
fn real_kafka_serves_every_partner() {
    let Some(kafka) = real::kafka() else { return };
    exchange(&kafka.bootstrap(), &Partner::ALL, "exchange");
}

#[test]
fn the_embedded_broker_serves_every_partner() {
    let broker = Embedded::start(1);
    exchange(broker.bootstrap(), &Partner::ALL, "exchange");
}

/// Each partner copies records within transactions, of which some are aborted, and every one of them reads what the others have
/// copied: all of it, once and in order.
fn transact(bootstrap: &str, name: &str) {
    let partners = [Partner::Java, Partner::OldJava, Partner::Librdkafka];
    let letters = letter::awkward();
    let mut raw = Raw::connect(bootstrap).unwrap();
    let here = || partners.into_iter().filter(|partner| partner.is_here());
    let mut input = format!("{name}-input");
    raw.create_topic(&input, 3).unwrap();
    if let Some(first) = here().next() {
        first.produce(bootstrap, &input, "none", &letters).unwrap();
    }
    for partner in here() {
        // The next one reads what this one has written, aborted transactions included.
        let output = format!("{name}-{partner:?}");
        raw.create_topic(&output, 3).unwrap();
        partner.transact(bootstrap, &input, &output, &output, letters.len()).unwrap();
        for reader in here() {
            let what = format!("{partner:?} copies and {reader:?} reads");
            let consumed = reader.consume_committed(bootstrap, &output, 3, letters.len()).unwrap();
            letter::assert_same_letters(&what, &letters, &consumed.received);
        }
        input = output;
    }
}

#[test]
fn partners_transact_on_the_embedded_broker() {
    let broker = Embedded::start(3);
    transact(broker.bootstrap(), "transact");
}

#[test]
fn partners_transact_by_the_older_protocol_on_the_embedded_broker() {
    let broker = Embedded::build(Broker::builder().nodes(3).transaction_version(0));
    transact(broker.bootstrap(), "transact");
}
