//! Writes `crates/wire/tests/golden`: record batches as clients of other projects produced them to real Kafka, and message
//! sets as Java's own encoder makes them. Run it after a new release of one of them, and look at the difference:
//!
//! ```text
//! cargo run -p milena-interop --bin golden
//! ```
//!
//! `crates/wire/tests/golden/records.rs` has their records, and `crates/wire/tests/golden.rs` reads them.

#[path = "../../../crates/wire/tests/golden/records.rs"]
mod records;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use milena_interop::letter::Letter;
use milena_interop::partner::{Partner, java};
use milena_interop::raw::Raw;
use milena_messages::ErrorCode;
use milena_messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use xtask::kafka::{Cluster, NEWEST, process};

const CLIENTS: [(&str, Partner); 4] = [
    ("java", Partner::Java),
    ("franz-go", Partner::FranzGo),
    ("librdkafka", Partner::Librdkafka),
    ("sarama", Partner::Sarama),
];

fn main() -> anyhow::Result<()> {
    let cluster = Cluster::start(1, NEWEST)?;
    for (client, partner) in CLIENTS {
        for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
            let batches = produced(&cluster.bootstrap(), client, partner, codec)?;
            write(&format!("{client}-{codec}"), &batches)?;
        }
    }
    for codec in ["none", "gzip", "snappy", "lz4"] {
        for (magic, timestamps) in [("0", "CREATE_TIME"), ("1", "CREATE_TIME"), ("1", "LOG_APPEND_TIME")] {
            let suffix = if timestamps == "LOG_APPEND_TIME" { "-append-time" } else { "" };
            let set = message_set(magic, codec, timestamps)?;
            write(&format!("java-v{magic}-{codec}{suffix}"), &set)?;
        }
    }
    Ok(())
}

/// Uncompressed, the large record would only be large.
fn letters(codec: &str) -> Vec<Letter> {
    let letter = |record: records::GoldenRecord| Letter {
        partition: 0,
        timestamp: record.timestamp,
        key: record.key,
        value: record.value,
        headers: record.headers,
    };
    records::records(codec != "none").into_iter().map(letter).collect()
}

/// The batches of a topic after `partner` produced to it.
fn produced(bootstrap: &str, client: &str, partner: Partner, codec: &str) -> anyhow::Result<Vec<u8>> {
    let (topic, letters) = (format!("{client}-{codec}"), letters(codec));
    let mut raw = Raw::connect(bootstrap)?;
    raw.create_topic(&topic, 1)?;
    partner.produce(bootstrap, &topic, codec, &letters)?;
    let partition = FetchPartition { partition_max_bytes: 8 << 20, ..Default::default() };
    let topics = vec![FetchTopic { topic: topic.into(), partitions: vec![partition], ..Default::default() }];
    let request = FetchRequest { max_wait_ms: 100, max_bytes: 8 << 20, topics, ..Default::default() };
    let mut response = raw.call(&request, 12)?;
    let partition = response.responses.pop().and_then(|mut topic| topic.partitions.pop());
    let partition = partition.context("no partition in the answer")?;
    ensure!(
        partition.error_code == ErrorCode::NONE,
        "fetching what {client} produced: {}",
        partition.error_code
    );
    Ok(partition.records.unwrap_or_default().to_vec())
}

/// The records as a message set that begins at offset 100.
fn message_set(magic: &str, codec: &str, timestamps: &str) -> anyhow::Result<Vec<u8>> {
    let lines: String = letters(codec).iter().map(Letter::to_line).collect();
    let mut command = java("MessageSets", NEWEST)?;
    command.args([magic, codec, "100", timestamps]);
    let output = process::run(command, Some(lines.as_bytes()), Duration::from_secs(60))?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

fn write(name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let folder: PathBuf = xtask::root().join("crates/wire/tests/golden");
    fs::write(folder.join(name).with_extension("bin"), bytes)?;
    println!("{name}: {} bytes", bytes.len());
    Ok(())
}
