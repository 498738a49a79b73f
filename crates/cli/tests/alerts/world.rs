//! A broker with the topic "orders", clients of it, and what goes on there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use milena::metrics::Registry;
use milena::{
    Address, Client, Connect, Connecting, Consumer, GroupConsumerBuilder, Protocol, Record, Resolving, Tcp,
    Transport,
};
use milena_broker::{Broker, Builder, Cluster};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex, split};
use tokio::task::JoinHandle;

pub(crate) fn builder() -> Builder {
    Broker::builder()
        .group_initial_rebalance_delay(Duration::ZERO)
        .group_consumer_heartbeat_interval(Duration::from_millis(100))
}

/// It runs as long as it is here, and what it has spawned does too.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    /// What `client` counts.
    pub(crate) registry: Registry,
    pub(crate) client: Client,
    /// It counts nothing.
    pub(crate) other: Client,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl World {
    pub(crate) async fn new(partitions: i32) -> Self {
        let cluster = builder().start().await.expect("starts");
        cluster.create_topic("orders", partitions).expect("is made");
        let registry = Registry::new();
        let client = Client::builder().bootstrap(cluster.bootstrap()).metrics(&registry).client_id("counted");
        let client = client.connect().await.expect("connects");
        Self::of(cluster, registry, client).await
    }

    pub(crate) async fn of(cluster: Cluster, registry: Registry, client: Client) -> Self {
        let other = Client::connect(cluster.bootstrap()).await.unwrap_or_else(|_| client.clone());
        Self { cluster, registry, client, other, tasks: Vec::new() }
    }

    pub(crate) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.push(tokio::spawn(task));
    }

    /// Writes a record every few milliseconds, in batches of their own.
    pub(crate) fn go_on_writing(&mut self, client: &Client, every: Duration) {
        let client = client.clone();
        self.spawn(async move {
            let producer = client.producer().build().await.expect("a producer");
            let mut tick = tokio::time::interval(every);
            for number in 0_u64.. {
                tick.tick().await;
                let value = number.to_string();
                let _ = producer.send(Record::to("orders").key(&value).value(&value)).await;
            }
        });
    }
}

/// A member of the group "billing".
pub(crate) fn member(client: &Client) -> GroupConsumerBuilder {
    let builder = client.consumer("billing").subscribe(["orders"]).protocol(Protocol::Consumer);
    builder.commit_interval(Duration::from_millis(50))
}

/// Takes batches and finishes all of them.
pub(crate) async fn process_all(mut consumer: Consumer) {
    while let Ok(Some(batch)) = consumer.next().await {
        consumer.done(&batch);
    }
}

pub(crate) fn ago(time: Duration) -> i64 {
    let since = (SystemTime::now() - time).duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("soon")
}

/// What goes to the brokers takes this long, in milliseconds. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Slow(Arc<AtomicU64>);

impl Slow {
    pub(crate) fn by(&self, time: Duration) {
        self.0.store(u64::try_from(time.as_millis()).expect("is short"), Ordering::Relaxed);
    }
}

impl Connect for Slow {
    fn resolve(&self, address: &Address) -> Resolving {
        Tcp::default().resolve(address)
    }

    fn connect(&self, address: &Address, at: Option<SocketAddr>) -> Connecting {
        let (connecting, slow) = (Tcp::default().connect(address, at), self.clone());
        Box::pin(async move {
            let broker = connecting.await?;
            let (client, here) = duplex(64 << 10);
            tokio::spawn(relay(here, broker, slow));
            Ok(Box::new(client) as Box<dyn Transport>)
        })
    }
}

async fn relay(client: tokio::io::DuplexStream, broker: Box<dyn Transport>, slow: Slow) {
    let (mut from_client, mut to_client) = split(client);
    let (mut from_broker, mut to_broker) = split(broker);
    let up = async {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from_client.read(&mut bytes).await {
            tokio::time::sleep(Duration::from_millis(slow.0.load(Ordering::Relaxed))).await;
            if to_broker.write_all(&bytes[..read]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        _ = tokio::io::copy(&mut from_broker, &mut to_client) => {}
    }
}
