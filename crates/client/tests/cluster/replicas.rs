//! Readers of partitions with several replicas: which one they read from, and what they do when the new leader lacks the
//! last records.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use milena::{Address, Connect, Connecting, Transport};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::*;

/// Counts the bytes that come from each port.
#[derive(Clone, Default)]
struct Counted(Arc<Mutex<BTreeMap<u16, usize>>>);

impl Counted {
    fn from(&self, node: SocketAddr) -> usize {
        self.0.lock().expect("no panic").get(&node.port()).copied().unwrap_or_default()
    }
}

impl Connect for Counted {
    fn connect(&self, address: &Address, _: Option<SocketAddr>) -> Connecting {
        let (to, all) = ((address.host().to_owned(), address.port()), self.clone());
        Box::pin(async move {
            let port = to.1;
            let stream = TcpStream::connect(to).await.map_err(milena::ConnectError::from)?;
            Ok(Box::new(CountedStream { stream, port, all }) as Box<dyn Transport>)
        })
    }
}

struct CountedStream {
    stream: TcpStream,
    port: u16,
    all: Counted,
}

impl AsyncRead for CountedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let bytes = buffer.filled().len() - before;
        *self.all.0.lock().expect("no panic").entry(self.port).or_default() += bytes;
        read
    }
}

impl AsyncWrite for CountedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Two nodes in the racks "a" and "b", each with a replica of "t", whose leader is node 1.
async fn two_racks() -> Cluster {
    let builder = Broker::builder().nodes(2).racks(["a", "b"]).default_replication(2);
    let cluster = builder.start().await.expect("started");
    cluster.create_topic("t", 1).expect("created");
    cluster.move_leader("t", 0, 1).expect("moved");
    cluster
}

async fn fill(client: &Client, from: usize, count: usize) {
    let producer = producer(client).await;
    for index in from..from + count {
        producer.send(Record::to("t").value(index.to_string())).await.expect("written");
    }
}

fn values(records: &[OwnedRecord]) -> Vec<(i64, String)> {
    let value =
        |record: &OwnedRecord| String::from_utf8(record.value.clone().expect("a value")).expect("text");
    records.iter().map(|record| (record.offset, value(record))).collect()
}

fn written(offsets: std::ops::Range<i64>, from: i64) -> Vec<(i64, String)> {
    let start = offsets.start;
    offsets.map(|offset| (offset, (from + offset - start).to_string())).collect()
}

#[tokio::test]
async fn records_come_from_the_replica_in_the_readers_rack_and_from_the_leader_without_it() {
    for (rack, expected) in [("b", true), ("a", false), ("c", false), ("", false)] {
        let cluster = two_racks().await;
        let addresses = cluster.addresses().clone();
        let counted = Counted::default();
        let writer = Client::connect(cluster.bootstrap()).await.expect("connected");
        let large = "x".repeat(100_000);
        let producer = producer(&writer).await;
        for _ in 0..10 {
            producer.send(Record::to("t").value(&large)).await.expect("written");
        }
        let client = Client::builder().bootstrap(&addresses[&1].to_string()).connector(counted.clone());
        let client = client.connect().await.expect("connected");
        let builder = client.consumer_direct().assign([("t", 0)], Position::Earliest).rack(rack);
        let mut consumer = builder.build().await.expect("built");
        assert_eq!(read(&mut consumer, 10).await[&0].len(), 10, "rack {rack:?}");
        let from_follower = counted.from(addresses[&2]);
        assert_eq!(from_follower > 1_000_000, expected, "rack {rack:?}: {from_follower} bytes");
        assert_eq!(counted.from(addresses[&1]) > 1_000_000, !expected, "rack {rack:?}");
        fill(&writer, 10, 1).await;
        assert_eq!(values(&read(&mut consumer, 1).await[&0]), written(10..11, 10), "rack {rack:?}");
        if expected {
            // Without the follower it goes on at the leader, and misses nothing.
            cluster.stop_node(2).await.expect("stopped");
        }
        fill(&writer, 11, 5).await;
        assert_eq!(values(&read(&mut consumer, 5).await[&0]), written(11..16, 11), "rack {rack:?}");
    }
}

/// A reader of ten records, of which the new leader has four, and three others after them.
async fn cut_off(reset: Reset) -> (Cluster, Consumer) {
    let cluster = two_racks().await;
    let client = Client::connect(cluster.bootstrap()).await.expect("connected");
    fill(&client, 0, 10).await;
    let builder = client.consumer_direct().assign([("t", 0)], Position::Earliest).reset(reset);
    let mut consumer = builder.build().await.expect("built");
    assert_eq!(read(&mut consumer, 10).await[&0].len(), 10);
    cluster.elect_uncleanly("t", 0, 2, 4).expect("elected");
    let other = Client::connect(cluster.bootstrap()).await.expect("connected");
    fill(&other, 100, 12).await;
    (cluster, consumer)
}

#[tokio::test]
async fn records_that_replace_lost_ones_are_read() {
    // By offset alone the reader would go on at offset 10, and miss the first six of the new records.
    for reset in [Reset::Earliest, Reset::Latest] {
        let (_cluster, mut consumer) = cut_off(reset).await;
        assert_eq!(values(&read(&mut consumer, 12).await[&0]), written(4..16, 100), "{reset:?}");
    }
}

#[tokio::test]
async fn without_a_reset_policy_lost_records_are_told() {
    let (_cluster, mut consumer) = cut_off(Reset::Fail).await;
    let told = timeout(PATIENCE, consumer.next()).await.expect("in time");
    let error = told.expect_err("records are lost");
    assert_eq!(error.code_name(), Some("OFFSET_OUT_OF_RANGE"), "{error}");
    assert!(error.to_string().contains("differs from offset 4 on"), "{error}");
    consumer.seek("t", 0, Position::Offset(4)).expect("assigned");
    assert_eq!(values(&read(&mut consumer, 12).await[&0]), written(4..16, 100));
}

#[tokio::test]
async fn a_stored_offset_with_its_leader_epoch_is_not_read_over_lost_records() {
    let cluster = two_racks().await;
    let client = Client::connect(cluster.bootstrap()).await.expect("connected");
    fill(&client, 0, 10).await;
    let leader_epoch = 1;
    cluster.elect_uncleanly("t", 0, 2, 4).expect("elected");
    fill(&client, 100, 12).await;
    for (offset, first) in [(10, 4), (3, 3)] {
        let stored = Position::OffsetInEpoch { offset, leader_epoch };
        let builder = client.consumer_direct().assign([("t", 0)], stored).reset(Reset::Latest);
        let mut consumer = builder.build().await.expect("built");
        let count = (16 - first) as usize;
        let seen = read(&mut consumer, count).await.remove(&0).expect("partition 0");
        assert_eq!(seen[0].offset, first);
        assert_eq!(values(&seen[count - 12..]), written(4..16, 100));
    }
}

#[tokio::test]
async fn leaders_that_move_while_records_are_read_cost_none_of_them() {
    let cluster = two_racks().await;
    let client = Client::connect(cluster.bootstrap()).await.expect("connected");
    let mut consumer = consumer(&client, "t", 1).await;
    for round in 0..20_usize {
        cluster.move_leader("t", 0, 1 + (round % 2) as i32).expect("moved");
        fill(&client, round * 5, 5).await;
        let from = round as i64 * 5;
        assert_eq!(values(&read(&mut consumer, 5).await[&0]), written(from..from + 5, from), "round {round}");
    }
}
