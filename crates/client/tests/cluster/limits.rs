//! What limits fetches: on the wire and in memory it is what the properties say, under the names of Java's client and of
//! librdkafka.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use milena::{Address, Connect, Connecting, Resolving, Tcp, Transport};
use milena_messages::fetch::FetchRequest;
use milena_messages::header::RequestHeader;
use milena_messages::{Message, Request};
use milena_wire::Reader;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::*;

/// Keeps the fetch requests of all connections, and counts what comes over them.
#[derive(Clone, Default)]
pub(crate) struct Wire {
    fetches: Arc<Mutex<Vec<FetchRequest>>>,
    received: Arc<AtomicUsize>,
    /// Connections that have carried a fetch take bytes, and nothing comes of them.
    is_silent: Arc<AtomicBool>,
}

struct Watched {
    inner: Box<dyn Transport>,
    /// What was written and is no whole request yet.
    written: Vec<u8>,
    has_fetched: bool,
    wire: Wire,
}

impl Wire {
    pub(crate) fn fetches(&self) -> Vec<FetchRequest> {
        self.fetches.lock().expect("no panic").clone()
    }

    fn received(&self) -> usize {
        self.received.load(Ordering::Relaxed)
    }

    /// Brokers answer no fetch any more, as if their hosts had lost power.
    pub(crate) fn silence_fetches(&self) {
        self.is_silent.store(true, Ordering::Relaxed);
    }
}

impl Connect for Wire {
    fn resolve(&self, address: &Address) -> Resolving {
        Tcp::default().resolve(address)
    }

    fn connect(&self, address: &Address, at: Option<SocketAddr>) -> Connecting {
        let (connecting, wire) = (Tcp::default().connect(address, at), self.clone());
        Box::pin(async move {
            let inner = connecting.await?;
            Ok(Box::new(Watched { inner, written: Vec::new(), has_fetched: false, wire })
                as Box<dyn Transport>)
        })
    }
}

impl Watched {
    fn is_silent(&self) -> bool {
        self.has_fetched && self.wire.is_silent.load(Ordering::Relaxed)
    }

    fn note(&mut self, bytes: &[u8]) {
        self.written.extend_from_slice(bytes);
        while let Some(length) = self.written.first_chunk() {
            let end = 4 + i32::from_be_bytes(*length) as usize;
            if self.written.len() < end {
                return;
            }
            let frame: Vec<u8> = self.written.drain(..end).skip(4).collect();
            let [key, version] = [0, 2].map(|at| i16::from_be_bytes([frame[at], frame[at + 1]]));
            if key == FetchRequest::KEY.as_i16() {
                let frame = Bytes::from(frame);
                let mut reader = Reader::new(&frame);
                let head = FetchRequest::KEY.request_header_version(version);
                RequestHeader::decode(&mut reader, head).expect("a header");
                let fetch = FetchRequest::decode(&mut reader, version).expect("a fetch");
                self.wire.fetches.lock().expect("no panic").push(fetch);
                self.has_fetched = true;
            }
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_silent() {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.wire.received.fetch_add(buf.filled().len() - before, Ordering::Relaxed);
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let count = match self.is_silent() {
            true => buf.len(),
            false => ready!(Pin::new(&mut self.inner).poll_write(cx, buf))?,
        };
        self.note(&buf[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// A client with these properties, and what goes over its connections.
async fn with_properties(cluster: &Cluster, properties: &[(&str, &str)]) -> (Client, Wire) {
    let wire = Wire::default();
    let builder = Client::from_properties(properties.iter().copied()).expect("known names");
    let builder = builder.bootstrap(cluster.bootstrap()).connector(wire.clone());
    (builder.connect().await.expect("connected"), wire)
}

/// `count` batches of one record in each of these partitions of `t`.
async fn fill(client: &Client, partitions: i32, count: usize, bytes: usize) {
    let producer = client.producer().batch_bytes_max(bytes).build().await.expect("built");
    let value = vec![7; bytes];
    for partition in (0..count).flat_map(|_| 0..partitions) {
        producer.post(Record::to("t").partition(partition).value(&value)).await.expect("taken");
    }
    producer.flush().await.expect("written");
}

#[tokio::test]
async fn fetches_on_the_wire_have_the_limits_of_the_properties() {
    let java = [
        ("fetch.min.bytes", "7"),
        ("fetch.max.wait.ms", "1234"),
        ("fetch.max.bytes", "200000"),
        ("max.partition.fetch.bytes", "50000"),
    ];
    let librdkafka = [
        ("fetch.min.bytes", "7"),
        ("fetch.wait.max.ms", "1234"),
        ("fetch.max.bytes", "200000"),
        ("fetch.message.max.bytes", "50000"),
    ];
    for properties in [java, librdkafka] {
        let (cluster, writer) = start(1, &[("t", 6)]).await;
        fill(&writer, 6, 40, 10_000).await;
        let (client, wire) = with_properties(&cluster, &properties).await;
        read(&mut consumer(&client, "t", 6).await, 240).await;
        let fetches = wire.fetches();
        let first = &fetches[0];
        let of_partitions = |fetch: &FetchRequest| {
            let partitions = fetch.topics.iter().flat_map(|topic| &topic.partitions);
            partitions.map(|partition| partition.partition_max_bytes).collect::<Vec<_>>()
        };
        assert_eq!((first.min_bytes, first.max_wait_ms, first.max_bytes), (7, 1234, 200_000));
        assert_eq!(of_partitions(first), [50_000; 6]);
        // A fetch may ask for less: as much as the memory has room for, and as a partition has of whole batches.
        for fetch in &fetches {
            let is_within = fetch.max_wait_ms <= 1234 && fetch.max_bytes <= 200_000;
            assert!(is_within && fetch.min_bytes == 7, "{fetch:?}");
            assert!(of_partitions(fetch).iter().all(|bytes| (7..=50_000).contains(bytes)), "{fetch:?}");
        }
        // Of 2.4 MB an answer brings 200 KB at most.
        assert!(fetches.len() >= 12, "{} fetches", fetches.len());
    }
}

#[tokio::test]
async fn a_broker_waits_for_the_least_bytes_and_no_longer_than_the_longest_wait() {
    let (cluster, writer) = start(1, &[("t", 1)]).await;
    let patient = [("fetch.min.bytes", "100000"), ("fetch.max.wait.ms", "600000")];
    let (client, _) = with_properties(&cluster, &patient).await;
    let mut waiting = consumer(&client, "t", 1).await;
    // The broker answers once it has both records, and long before the wait is over.
    fill(&writer, 1, 1, 60_000).await;
    assert!(timeout(Duration::from_millis(200), waiting.next()).await.is_err(), "60 KB are less than 100 KB");
    fill(&writer, 1, 1, 60_000).await;
    assert_eq!(read(&mut waiting, 2).await[&0].len(), 2);

    let (client, _) =
        with_properties(&cluster, &[("fetch.min.bytes", "100000000"), ("fetch.wait.max.ms", "50")]).await;
    assert_eq!(read(&mut consumer(&client, "t", 1).await, 2).await[&0].len(), 2);
}

#[tokio::test]
async fn a_batch_larger_than_every_limit_of_a_fetch_comes_whole() {
    let (cluster, writer) = start(1, &[("t", 2)]).await;
    fill(&writer, 2, 3, 100_000).await;
    let small = [("fetch.max.bytes", "1000"), ("max.partition.fetch.bytes", "1000")];
    let (client, wire) = with_properties(&cluster, &small).await;
    read(&mut consumer(&client, "t", 2).await, 6).await;
    assert!(wire.fetches().iter().all(|fetch| fetch.max_bytes <= 1000));
    // Each answer brings one batch (KIP-74).
    assert!(wire.fetches().len() >= 6);
}

#[tokio::test]
async fn no_more_is_fetched_ahead_than_the_kilobytes_that_may_be_queued() {
    const KILOBYTES: usize = 1024;
    let (cluster, writer) = start(1, &[("t", 4)]).await;
    fill(&writer, 4, 200, 10_000).await;
    let (client, wire) = with_properties(&cluster, &[("queued.max.messages.kbytes", "1024")]).await;
    let mut consumer = consumer(&client, "t", 4).await;
    assert_eq!(consumer.memory().budget_bytes_max, KILOBYTES << 10);
    // It fetches until what is left of the memory is less than a fetch asks for.
    let is_full = async {
        while consumer.memory().budget_bytes_used < (KILOBYTES << 10) - (200 << 10) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Longer than a fetch from this machine takes, were there one more.
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    timeout(PATIENCE, is_full).await.expect("it is filled");
    // Buffers are up to an eighth larger than what they hold, and the last answer may bring a batch more than was asked for.
    let most = (KILOBYTES << 10) * 9 / 8 + 64 * 1024;
    let (used, received) = (consumer.memory().budget_bytes_used, wire.received());
    assert!(used <= most && received <= most, "{used} used, {received} received, of {most}");
    // It goes on as the application takes and drops batches.
    read(&mut consumer, 800).await;
}
