//! Milena's client and the partners read each other's records, byte for byte, on old and new releases of Kafka, on one broker
//! and three, and on the embedded broker.

use milena::Compression;
use milena_interop::embedded::Embedded;
use milena_interop::letter;
use milena_interop::partner::Partner;
use milena_interop::raw::Raw;
use milena_interop::{ours, real};

const CODECS: [(&str, Compression); 5] = [
    ("none", Compression::None),
    ("gzip", Compression::Gzip),
    ("snappy", Compression::Snappy),
    ("lz4", Compression::Lz4),
    ("zstd", Compression::Zstd),
];

/// Milena produces letters that every client consumes, and consumes letters that every partner produces.
fn exchange(bootstrap: &str, writers: &[Partner], readers: &[Partner]) {
    let letters = letter::awkward();
    let mut raw = Raw::connect(bootstrap).unwrap();
    for (codec, compression) in CODECS {
        let topic = format!("milena-{codec}");
        raw.create_topic(&topic, 3).unwrap();
        let placed = ours::produce(bootstrap, &topic, compression, &letters).unwrap();
        for partition in 0..3 {
            let offsets: Vec<i64> = placed.iter().filter(|at| at.0 == partition).map(|at| at.1).collect();
            let in_order: Vec<i64> = (0..).take(offsets.len()).collect();
            assert_eq!(offsets, in_order, "Milena's receipts, {codec}, partition {partition}");
        }
        let mine = ours::consume(bootstrap, &topic, 3, letters.len()).unwrap();
        letter::assert_same(&format!("Milena reads Milena's {codec}"), &letters, &mine.received);
        for reader in readers.iter().filter(|partner| partner.is_here()) {
            let theirs = reader.consume(bootstrap, &topic, 3, letters.len()).unwrap();
            letter::assert_same(&format!("{reader:?} reads Milena's {codec}"), &letters, &theirs.received);
        }
        for writer in writers.iter().filter(|partner| partner.is_here()) {
            let topic = format!("{writer:?}-{codec}");
            raw.create_topic(&topic, 3).unwrap();
            writer.produce(bootstrap, &topic, codec, &letters).unwrap();
            let mine = ours::consume(bootstrap, &topic, 3, letters.len()).unwrap();
            letter::assert_same(&format!("Milena reads {writer:?}'s {codec}"), &letters, &mine.received);
        }
    }
}

#[test]
fn on_the_embedded_broker() {
    let broker = Embedded::start(3);
    exchange(broker.bootstrap(), &[Partner::FranzGo], &[Partner::Librdkafka]);
}

#[test]
fn on_real_kafka() {
    let Some(kafka) = real::kafka() else { return };
    let golang = [Partner::FranzGo, Partner::Librdkafka];
    exchange(&kafka.bootstrap(), &golang, &golang);
}

#[test]
fn on_three_brokers_of_real_kafka() {
    let Some(kafka) = real::three() else { return };
    exchange(&kafka.bootstrap(), &[], &[]);
}

#[test]
fn on_kafka_3_9() {
    let Some(kafka) = real::old() else { return };
    exchange(&kafka.bootstrap(), &[], &[Partner::OldJava]);
}
