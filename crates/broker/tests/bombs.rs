//! The cost of batches that hold a thousand times their size. This test is alone in its process, because it measures
//! the memory of that.

#![allow(clippy::disallowed_methods, reason = "tests have a clock")]

#[path = "server/client.rs"]
#[expect(dead_code, reason = "the other tests' part of it")]
mod client;

use bytes::Bytes;
use milena_broker::Broker;
use milena_messages::ErrorCode;
use milena_messages::produce::ProduceRequest;
use milena_wire::codec::{Compression, Compressor};

use client::{Client, PRODUCE, batch, eventually, outcome, produce, start};

const MIB: usize = 1 << 20;
const BOMBS: usize = 5;

/// Resident memory of this process, broker and clients together.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.unwrap_or_default() * 4096
}

/// A batch of a few kilobytes that decompresses to `bytes` zeros.
fn bomb(bytes: usize) -> Bytes {
    let mut raw = batch(b"x")[..61].to_vec();
    Compressor::new().compress(Compression::Zstd, None, &vec![0; bytes], &mut raw).expect("compresses");
    let length = raw.len() as i32 - 12;
    raw[8..12].copy_from_slice(&length.to_be_bytes());
    raw[22] = Compression::Zstd.attributes() as u8;
    raw[23..27].copy_from_slice(&(1_000_000_i32 - 1).to_be_bytes());
    raw[57..61].copy_from_slice(&1_000_000_i32.to_be_bytes());
    let crc = crc32c::crc32c(&raw[21..]);
    raw[17..21].copy_from_slice(&crc.to_be_bytes());
    raw.into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn batches_that_hold_a_thousand_times_their_size_cost_little_memory_and_no_other_client_waits() {
    let cluster = start(Broker::builder()).await;
    cluster.create_topic("good", 1).expect("created");
    cluster.create_topic("bad", 1).expect("created");
    let bomb = bomb(64 * MIB - 1);
    assert!(bomb.len() < 64 * 1024, "{} bytes", bomb.len());
    let before = resident_bytes();
    let request = produce("bad", 0, bomb);
    let strangers: Vec<_> = (0..BOMBS)
        .map(|_| {
            let (address, request): (_, ProduceRequest) = (cluster.addresses()[&1], request.clone());
            tokio::spawn(async move {
                let mut client = Client::connect(address).await;
                outcome(&client.ask(PRODUCE, &request).await).0
            })
        })
        .collect();
    let mut client = Client::of(&cluster).await;
    eventually("all are refused, and one at a time is decompressed", || {
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < 2 * 64 * MIB, "{} MiB", grown / MIB);
        strangers.iter().all(tokio::task::JoinHandle::is_finished)
    })
    .await;
    for stranger in strangers {
        assert_ne!(stranger.await.expect("answered"), ErrorCode::NONE);
    }
    client.produce("good", 0, b"still here").await;
}
