//! Milena's consumer on three brokers of real Kafka: it reads from the replica in its rack.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use milena::{Address, Client, Connect, Connecting, NewTopic, Position, Record, Transport};
use milena_interop::real;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Counts the bytes that come from each port.
#[derive(Clone, Default)]
struct Counted(Arc<Mutex<BTreeMap<u16, usize>>>);

impl Counted {
    fn from(&self, port: u16) -> usize {
        self.0.lock().expect("no panic").get(&port).copied().unwrap_or_default()
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

const COUNT: usize = 20;

#[test]
fn records_come_from_the_replica_in_the_readers_rack() {
    let Some(kafka) = real::three() else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let bootstrap = kafka.bootstrap();
        let writer = Client::connect(&bootstrap).await.unwrap();
        let topic = NewTopic::new("milena-racks").partitions(1).replication(3);
        writer.admin().create_topics([topic]).await.unwrap().remove(0).1.unwrap();
        let producer = writer.producer().build().await.unwrap();
        let large = "x".repeat(100_000);
        for _ in 0..COUNT {
            producer.send(Record::to("milena-racks").value(&large)).await.unwrap();
        }
        let cluster = writer.admin().describe_cluster().await.unwrap();
        for broker in &cluster.brokers {
            assert_eq!(broker.rack, Some(format!("rack-{}", broker.id)));
            let counted = Counted::default();
            let client = Client::builder().bootstrap(&bootstrap).connector(counted.clone());
            let client = client.connect().await.unwrap();
            let builder = client.consumer_direct().assign([("milena-racks", 0)], Position::Earliest);
            let rack = format!("rack-{}", broker.id);
            let mut consumer = builder.rack(rack.as_str()).build().await.unwrap();
            let mut offsets = Vec::new();
            while offsets.len() < COUNT {
                let next = timeout(Duration::from_secs(60), consumer.next()).await;
                let batch = next.expect("in time").unwrap().unwrap();
                offsets.extend(batch.iter().map(|record| record.offset()));
            }
            assert_eq!(offsets, (0..COUNT as i64).collect::<Vec<_>>(), "{rack}");
            let bytes: Vec<_> = cluster.brokers.iter().map(|of| counted.from(of.port)).collect();
            assert!(counted.from(broker.port) > COUNT * 100_000, "{rack}: {bytes:?} bytes by broker");
        }
    });
}
