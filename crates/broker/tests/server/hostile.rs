//! Strangers: whatever they send or do not read, they cost little, are named, and others notice nothing.

use std::time::{Duration, Instant};

use milena_broker::{Broker, Cluster};
use milena_messages::metadata::MetadataRequest;

use crate::client::{Client, FETCH, eventually, fetch, frame, start};

const MIB: usize = 1 << 20;

/// Resident memory of this process, broker and clients together.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.unwrap_or_default() * 4096
}

/// A client that works, while whatever goes on goes on: large requests and small ones, none of them slow.
async fn good_client_is_served(cluster: &Cluster, rounds: usize) -> Duration {
    let mut client = Client::of(cluster).await;
    let value = vec![7; 700_000];
    let mut slowest = Duration::ZERO;
    for _ in 0..rounds {
        let started = Instant::now();
        let offset = client.produce("good", 0, &value).await;
        let fetched = client.fetch("good", 0, offset).await;
        assert!(fetched.records.is_some_and(|records| records.len() > value.len()));
        client.ask(12, &MetadataRequest::default()).await;
        slowest = slowest.max(started.elapsed());
    }
    eprintln!("{}: {slowest:?}", std::thread::current().name().unwrap_or_default());
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    slowest
}

#[tokio::test]
async fn hundreds_that_announce_99_mb_cost_what_they_sent() {
    let cluster = start(Broker::builder()).await;
    cluster.create_topic("good", 1).expect("created");
    let before = resident_bytes();
    let mut strangers = Vec::new();
    for index in 0..300 {
        let mut stranger = Client::of(&cluster).await;
        stranger.send_bytes(&(99_i32 << 20).to_be_bytes()).await;
        stranger.send_bytes(&frame(1, FETCH, &fetch("good", 0, 0))[4..]).await;
        stranger.send_bytes(&vec![0; 1000 * (index % 50)]).await;
        strangers.push(stranger);
    }
    eventually("all are there", || cluster.stats().connections == 300).await;
    good_client_is_served(&cluster, 20).await;
    let stats = cluster.stats();
    // They sent 7 MB; the good client's records are 14 MB, kept.
    assert!(stats.buffered_bytes < 20 * MIB, "{stats:?}");
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 100 * MIB, "{} MiB", grown / MIB);
    assert!(stats.connections >= 300 && stats.shed == 0, "no connection was closed: {stats:?}");
}

#[tokio::test]
async fn when_memory_is_short_the_largest_claims_give_way() {
    let cluster = start(Broker::builder().buffer_bytes_max(8 * MIB)).await;
    cluster.create_topic("good", 1).expect("created");
    let mut strangers = Vec::new();
    for _ in 0..100 {
        let mut stranger = Client::of(&cluster).await;
        // More than its share: it stops when the broker stops reading, so it must not be waited for.
        let task = tokio::spawn(async move {
            stranger.send_bytes(&(99_i32 << 20).to_be_bytes()).await;
            let _ = stranger.try_send_bytes(&vec![0; 2 * MIB]).await;
            stranger.read_to_end().await
        });
        strangers.push(task);
    }
    // The first connections take half of the budget. How much of the other half is taken depends on their order.
    eventually("memory is short", || cluster.stats().buffered_bytes > 3 * MIB).await;
    good_client_is_served(&cluster, 20).await;
    let stats = cluster.stats();
    assert!(stats.buffered_bytes <= 8 * MIB, "{stats:?}");
    assert!(stats.shed > 0, "{stats:?}");
    strangers.into_iter().for_each(|task| task.abort());
}

#[tokio::test]
async fn a_request_that_drips_in_is_hung_up_on() {
    let cluster = start(Broker::builder().stall_timeout(Duration::from_millis(400))).await;
    cluster.create_topic("good", 1).expect("created");
    let mut drips = Vec::new();
    for _ in 0..100 {
        let mut client = Client::of(&cluster).await;
        drips.push(tokio::spawn(async move {
            for byte in frame(1, 12, &MetadataRequest::default()).iter().cycle() {
                if client.try_send_bytes(&[*byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }));
    }
    good_client_is_served(&cluster, 10).await;
    eventually("all are gone", || cluster.stats().timed_out == 100).await;
    for drip in drips {
        drip.await.expect("noticed");
    }
}

async fn never_read(builder: milena_broker::Builder) {
    let cluster = start(builder.stall_timeout(Duration::from_secs(1))).await;
    cluster.create_topic("good", 1).expect("created");
    let mut client = Client::of(&cluster).await;
    for _ in 0..30 {
        client.produce("good", 0, &vec![7; 900_000]).await;
    }
    let before = resident_bytes();
    let mut strangers = Vec::new();
    for _ in 0..200 {
        let mut stranger = Client::of(&cluster).await;
        for _ in 0..40 {
            stranger.send(1, FETCH, &fetch("good", 0, 0)).await;
        }
        strangers.push(stranger);
    }
    good_client_is_served(&cluster, 10).await;
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 200 * MIB, "{} MiB", grown / MIB);
    // The sockets' own buffers take up to some megabytes of each answer, none takes 27.
    eventually("all are gone", || {
        let stats = cluster.stats();
        stats.timed_out + stats.shed >= 200
    })
    .await;
    good_client_is_served(&cluster, 1).await;
}

#[tokio::test]
async fn who_never_reads_is_hung_up_on() {
    never_read(Broker::builder()).await;
}

#[tokio::test]
async fn who_never_reads_what_comes_from_disk_does_not_fill_memory() {
    let dir = tempfile::tempdir().expect("a directory");
    never_read(Broker::builder().data_dir(dir.path()).buffer_bytes_max(128 * MIB)).await;
}

#[tokio::test]
async fn what_is_not_read_does_not_pile_up_in_the_system() {
    let cluster = start(Broker::builder().stall_timeout(Duration::from_millis(300))).await;
    cluster.create_topic("good", 1).expect("created");
    let mut client = Client::of(&cluster).await;
    for _ in 0..30 {
        client.produce("good", 0, &vec![7; 900_000]).await;
    }
    let mut stranger = Client::of(&cluster).await;
    stranger.send(1, FETCH, &fetch("good", 0, 0)).await;
    eventually("hung up on", || cluster.stats().timed_out == 1).await;
    // The bytes that the system had taken already still arrive.
    let taken = stranger.read_to_end().await.len();
    assert!(taken < 2 * MIB, "{taken}");
}

#[tokio::test]
async fn bytes_that_are_no_request_are_named_and_hung_up_on() {
    let cluster = start(Broker::builder()).await;
    let hang_up = async |bytes: &[u8]| {
        let mut client = Client::of(&cluster).await;
        client.send_bytes(bytes).await;
        client.read_to_end().await
    };
    let answer = hang_up(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(String::from_utf8_lossy(&answer).contains("not HTTP"));
    assert!(hang_up(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).await.is_empty());
    assert_eq!(cluster.stats().strangers, 2);
    assert!(hang_up(&i32::MAX.to_be_bytes()).await.is_empty());
    assert!(hang_up(&[0x80, 0, 0, 0]).await.is_empty());
    assert!(hang_up(&[0, 0, 0, 0]).await.is_empty());
    assert!(hang_up(&[0, 0, 0, 8, 0x70, 0, 0, 0, 0, 0, 0, 0]).await.is_empty());
    assert_eq!(cluster.stats().malformed, 4);
}

#[tokio::test]
async fn random_bytes_and_requests_cut_off_or_changed_anywhere_do_no_harm() {
    let cluster = start(Broker::builder()).await;
    cluster.create_topic("good", 1).expect("created");
    let mut seed = 20_261_121_u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize
    };
    let valid = frame(1, 12, &fetch("good", 0, 0));
    for round in 0..600 {
        let mut bytes: Vec<u8> = match round % 3 {
            0 => (0..random() % 300).map(|_| random() as u8).collect(),
            1 => valid[..random() % valid.len()].to_vec(),
            _ => valid.clone(),
        };
        if round % 3 == 2 {
            let at = 4 + random() % (bytes.len() - 4);
            bytes[at] = random() as u8;
        }
        let mut client = Client::of(&cluster).await;
        let _ = client.try_send_bytes(&bytes).await;
        let _ = client.try_finish_sending().await;
    }
    eventually("no connection is left", || cluster.stats().connections == 0).await;
    good_client_is_served(&cluster, 3).await;
    assert!(cluster.stats().malformed > 100);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_and_idle_ones_make_room() {
    let builder = Broker::builder().connections_max(10).idle_timeout(Duration::from_millis(600));
    let cluster = start(builder).await;
    let mut idle = Vec::new();
    for _ in 0..10 {
        let mut client = Client::of(&cluster).await;
        client.ask(12, &MetadataRequest::default()).await;
        idle.push(client);
    }
    assert!(Client::of(&cluster).await.read_to_end().await.is_empty());
    assert_eq!(cluster.stats().refused, 1);
    for client in &mut idle {
        assert!(client.read_to_end().await.is_empty());
    }
    eventually("no connection is left", || cluster.stats().connections == 0).await;
    Client::of(&cluster).await.ask(12, &MetadataRequest::default()).await;
}
