//! The cost of answers that clients do not read. This test is alone in its process, because it measures the memory of
//! that.

#![allow(clippy::disallowed_methods, reason = "tests have a clock")]

#[path = "server/client.rs"]
#[expect(dead_code, reason = "the other tests' part of it")]
mod client;

use std::time::{Duration, Instant};

use milena_broker::Broker;
use milena_messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};

use client::{Client, eventually, start};

const MIB: usize = 1 << 20;

/// Resident memory of this process, broker and clients together.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.unwrap_or_default() * 4096
}

#[tokio::test]
async fn clients_that_ask_for_much_and_never_read_cost_the_budget_and_no_other_client_waits() {
    const BUDGET: usize = 8 * MIB;
    let builder = Broker::builder().buffer_bytes_max(BUDGET).stall_timeout(Duration::from_secs(2));
    let cluster = start(builder).await;
    cluster.create_topic("good", 1).expect("created");
    let before = resident_bytes();
    let mut strangers = Vec::new();
    // 5 KB that are answered by most of a megabyte.
    let resource =
        DescribeConfigsResource { resource_type: 2, resource_name: "good".into(), ..Default::default() };
    let request = DescribeConfigsRequest { resources: vec![resource; 400], ..Default::default() };
    for _ in 0..100 {
        let mut stranger = Client::of(&cluster).await;
        for _ in 0..4 {
            stranger.send(1, 4, &request).await;
        }
        strangers.push(stranger);
    }
    let asks_for_little = async {
        let mut client = Client::of(&cluster).await;
        for _ in 0..20 {
            client.produce("good", 0, &[7; 1000]).await;
        }
    };
    let started = Instant::now();
    asks_for_little.await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    eventually("some were hung up on", || {
        let stats = cluster.stats();
        assert!(stats.buffered_bytes <= BUDGET, "{stats:?}");
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < 4 * BUDGET, "{} MiB", grown / MIB);
        stats.timed_out + stats.shed >= 20
    })
    .await;
}
