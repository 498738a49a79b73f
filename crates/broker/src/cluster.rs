//! The handle of a running cluster: its addresses, commands for tests, and its end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;

use crate::error::Error;
use crate::groups::ExpiredMember;
use crate::oauth::OauthValidator;
use crate::server::{self, NodeServer, Shared, Timekeeper};
use crate::state::Endpoint;
use crate::telemetry::ClientMetrics;

/// A running cluster. Dropping it closes its ports; [`shutdown`](Self::shutdown) also makes its data durable.
#[derive(Debug)]
pub struct Cluster {
    shared: Arc<Shared>,
    ways: Vec<Way>,
    running: Mutex<BTreeMap<i32, Vec<NodeServer>>>,
    timekeeper: Timekeeper,
}

/// A listener of all nodes.
#[derive(Debug)]
struct Way {
    name: String,
    bootstrap: String,
    nodes: BTreeMap<i32, SocketAddr>,
}

/// A socket of a node that listens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Door {
    pub(crate) node: i32,
    pub(crate) listener: usize,
    pub(crate) address: SocketAddr,
}

/// Counters of a cluster. The first three are of this moment; the other ones count since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections that are open now.
    pub connections: usize,
    /// Bytes held now for requests that are being read and responses that are being written, beyond 16 KiB of each
    /// connection.
    pub buffered_bytes: usize,
    /// Bytes that all logs have now. A log counts once, however many replicas it has.
    pub log_bytes: u64,
    /// Incremental fetch sessions (KIP-227) that are open now. A consumer has up to two at each broker it reads from, and a
    /// consumer that ends closes them.
    pub fetch_sessions: usize,
    /// Connections accepted.
    pub accepted: u64,
    /// Requests handled.
    pub requests: u64,
    /// Bytes of responses that were given to the operating system.
    pub sent_bytes: u64,
    /// Connections closed because of bytes that are not a request, or a request that this broker does not serve.
    pub malformed: u64,
    /// Connections closed because the peer spoke another protocol, such as HTTP or TLS.
    pub strangers: u64,
    /// Connections closed because a request arrived too slowly or a response was read too slowly.
    pub timed_out: u64,
    /// Connections closed because they had stalled while other connections needed memory.
    pub shed: u64,
    /// Connections closed because authentication had failed, or had not come before or in time.
    pub unauthenticated: u64,
    /// Connections closed because their TLS handshake failed. The clients' certificates may be at fault.
    pub tls_failed: u64,
    /// Connections closed at once because there were as many as there may be.
    pub refused: u64,
}

impl Cluster {
    pub(crate) fn run(shared: Arc<Shared>, names: Vec<String>, sockets: Vec<(Door, TcpListener)>) -> Self {
        let way = |(index, name)| {
            let state = shared.machine.parts.state();
            let addresses = state.nodes.values().map(|node| {
                let Endpoint { host, port } = node.endpoint(index);
                if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
            });
            let bootstrap = addresses.collect::<Vec<_>>().join(",");
            let doors = sockets.iter().map(|(door, _)| door).filter(|door| door.listener == index);
            Way { name, bootstrap, nodes: doors.map(|door| (door.node, door.address)).collect() }
        };
        let ways = names.into_iter().enumerate().map(way).collect();
        let mut running: BTreeMap<i32, Vec<NodeServer>> = BTreeMap::new();
        for (door, socket) in sockets {
            let server = NodeServer::start(door.node, door.listener, socket, Arc::clone(&shared));
            running.entry(door.node).or_default().push(server);
        }
        let timekeeper = Timekeeper::start(Arc::clone(&shared));
        Self { shared, ways, running: Mutex::new(running), timekeeper }
    }

    /// The value for a client's `bootstrap.servers`: `host:port` of every node, separated by commas. It is that of the
    /// first listener.
    pub fn bootstrap(&self) -> &str {
        self.ways.first().map_or("", |way| &way.bootstrap)
    }

    /// The value for `bootstrap.servers` of the clients of a listener; `None` when no listener has this name. Unless
    /// [`Listener::name`](crate::Listener::name) gave it another one, its name is that of its security protocol.
    pub fn bootstrap_of(&self, listener: &str) -> Option<&str> {
        self.ways.iter().find(|way| way.name == listener).map(|way| way.bootstrap.as_str())
    }

    /// The address of each node by its id, whether the node is up or not. It is that of the first listener.
    pub fn addresses(&self) -> &BTreeMap<i32, SocketAddr> {
        &self.ways[0].nodes
    }

    /// Creates a topic, with the cluster's default replication factor.
    ///
    /// # Errors
    /// When the name is not allowed or taken, when `partitions` is not positive, when the cluster has no room for that
    /// many, and when the disk fails.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<(), Error> {
        crate::topic::check_name(name).map_err(Error::refused)?;
        if partitions < 1 {
            return Err(Error::refused(format!("a topic cannot have {partitions} partitions")));
        }
        let replication = self.shared.machine.parts.settings().replication_default as usize;
        let mut state = self.shared.machine.parts.state_mut();
        if state.collision(name).is_some() {
            return Err(Error::refused(format!(
                "topic {name} exists, or one whose name differs only in . and _"
            )));
        }
        if !state.has_room(partitions as usize) {
            return Err(Error::refused(format!("the cluster has no room for {partitions} more partitions")));
        }
        let replication = replication.min(state.live_nodes().count());
        let assignment = state.assignment(partitions, replication);
        state.create_topic(name, Default::default(), assignment).map(drop)
    }

    /// The node that leads a partition; `None` when the partition does not exist or has no leader.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<i32> {
        let state = self.shared.machine.parts.state();
        state.topic(topic)?.partition(partition)?.lock().placement().leader
    }

    /// Makes `node` the leader of a partition, in a new leader epoch. Every replica is in sync, so nothing is lost.
    ///
    /// # Errors
    /// When there is no such partition, when the node holds no replica of it or is down, and when the disk fails.
    pub fn move_leader(&self, topic: &str, partition: i32, node: i32) -> Result<(), Error> {
        self.shared.machine.move_leader(topic, partition, node)
    }

    /// Makes `node` the leader of a partition as an unclean election does: its replica lacks the records from `offset` on,
    /// and they are lost. `offset` is moved back to the start of its batch.
    ///
    /// # Errors
    /// As [`move_leader`](Self::move_leader), when the log does not reach from its start to `offset`, and when it is on
    /// disk.
    pub fn elect_uncleanly(&self, topic: &str, partition: i32, node: i32, offset: i64) -> Result<(), Error> {
        self.shared.machine.elect_uncleanly(topic, partition, node, offset)
    }

    /// Makes `node` the coordinator of a group until the next start, whether the group exists or not.
    ///
    /// # Errors
    /// When there is no such node or it is down.
    pub fn move_coordinator(&self, group: &str, node: i32) -> Result<(), Error> {
        self.shared.machine.move_coordinator(group, node)
    }

    /// The node that coordinates a group; `None` when all nodes are down.
    pub fn coordinator(&self, group: &str) -> Option<i32> {
        self.shared.machine.parts.state().coordinator(group).map(|node| node.id)
    }

    /// Makes `node` the coordinator of a transactional id until the next start, whether the id exists or not.
    ///
    /// # Errors
    /// When there is no such node or it is down.
    pub fn move_transaction_coordinator(&self, id: &str, node: i32) -> Result<(), Error> {
        self.shared.machine.move_transaction_coordinator(id, node)
    }

    /// The node that coordinates a transactional id; `None` when all nodes are down.
    pub fn transaction_coordinator(&self, id: &str) -> Option<i32> {
        self.shared.machine.parts.state().transaction_coordinator(id).map(|node| node.id)
    }

    /// Finalizes another `transaction.version`, as `kafka-features.sh upgrade` and `downgrade` do: 2 is KIP-890's protocol, 1 and 0
    /// are that of Kafka 3.9. Clients learn it with their next ApiVersions request.
    ///
    /// # Errors
    /// When the version is not 0, 1 or 2.
    pub fn set_transaction_version(&self, version: i16) -> Result<(), Error> {
        self.shared.machine.set_transaction_version(version)
    }

    /// Gives tokens of OAUTHBEARER other rules, as when an issuer signs with another key. Sessions that are open go on.
    pub fn set_oauth(&self, validator: OauthValidator) {
        self.shared.machine.set_oauth(validator);
    }

    /// Makes a node serve only these versions of an API, as a broker of an older release does: it advertises them, and closes
    /// the connection upon others. `None` takes the API away: without ConsumerGroupHeartbeat (68) the node
    /// offers no groups of the consumer protocol (KIP-848). Versions that this broker does not have are left out, so
    /// `Some(0..=i16::MAX)` gives back all of them. It holds for connections made from now on; brokers are upgraded with
    /// [`stop_node`](Self::stop_node) before and [`start_node`](Self::start_node) after it.
    ///
    /// ```
    /// # use milena_broker::Broker;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena_broker::Error> {
    /// let cluster = Broker::builder().nodes(3).start().await?;
    /// // Node 2 is older than the others: it has Fetch (1) by topic names only, and no KIP-848.
    /// cluster.set_api_versions(2, 1, Some(4..=12))?;
    /// cluster.set_api_versions(2, 68, None)?;
    /// // It is upgraded.
    /// cluster.stop_node(2).await?;
    /// cluster.set_api_versions(2, 1, Some(0..=i16::MAX))?;
    /// cluster.set_api_versions(2, 68, Some(0..=i16::MAX))?;
    /// cluster.start_node(2).await
    /// # }
    /// ```
    ///
    /// # Errors
    /// When there is no such node, and when this broker does not serve the API.
    pub fn set_api_versions(
        &self,
        node: i32,
        api_key: i16,
        versions: Option<RangeInclusive<i16>>,
    ) -> Result<(), Error> {
        self.shared.machine.set_api_versions(node, api_key, versions)
    }

    /// Takes a node down: its connections break, its port is closed, and its partitions get other leaders if they have
    /// other replicas.
    ///
    /// # Errors
    /// When there is no such node, and when the disk fails. A node that is down stays down.
    ///
    /// # Cancel safety
    /// Cancelled, the node may be down while its partitions still name it as their leader; call it again.
    pub async fn stop_node(&self, node: i32) -> Result<(), Error> {
        let running = crate::lock(&self.running).remove(&node);
        for server in running.into_iter().flatten() {
            server.stop().await;
        }
        self.shared.machine.stop_node(node)
    }

    /// Brings a node back, on the port it had.
    ///
    /// # Errors
    /// When there is no such node, when its port is taken by now, and when the disk fails. A node that is up stays up.
    ///
    /// # Cancel safety
    /// Cancelled, the node stays down.
    pub async fn start_node(&self, node: i32) -> Result<(), Error> {
        if !self.addresses().contains_key(&node) {
            return Err(Error::refused(format!("there is no node {node}")));
        }
        if crate::lock(&self.running).contains_key(&node) {
            return Ok(());
        }
        let mut sockets = Vec::new();
        for way in &self.ways {
            let address = way.nodes[&node];
            let failed = |error| Error::io(format!("cannot listen on {address}"), error);
            sockets.push(server::bind(address).await.map_err(failed)?);
        }
        self.shared.machine.start_node(node)?;
        let start = |(index, socket)| NodeServer::start(node, index, socket, Arc::clone(&self.shared));
        let servers = sockets.into_iter().enumerate().map(start).collect();
        crate::lock(&self.running).insert(node, servers);
        Ok(())
    }

    /// The last 1000 members of groups that their coordinators removed without the members' doing, oldest first: they were
    /// silent for their session timeout, or late for a rebalance. A test sees by it whether a consumer was taken for dead.
    pub fn expired_members(&self) -> Vec<ExpiredMember> {
        self.shared.machine.expired_members()
    }

    /// The metrics that clients have pushed (KIP-714), by client instance: the latest values, also of clients that have ended, until
    /// a client has been silent for three of its intervals and at least a minute.
    ///
    /// Clients push if a CLIENT_METRICS resource asks them to, which [`subscribe_client_metrics`](Self::subscribe_client_metrics) or
    /// any admin client makes:
    ///
    /// ```text
    /// kafka-client-metrics.sh --bootstrap-server ... --alter --name all --metrics '*' --interval 10000
    /// ```
    pub fn client_metrics(&self) -> Vec<ClientMetrics> {
        self.shared.machine.client_metrics()
    }

    /// Makes a CLIENT_METRICS resource of this name, or replaces it: clients are asked for the metrics whose names begin with one of
    /// `metrics` (`*` asks for all), each `interval` (100 ms to an hour), if they match all of `matching`, such as
    /// `client_id=orders-.*`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use milena_broker::Broker;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena_broker::Error> {
    /// let cluster = Broker::builder().start().await?;
    /// cluster.subscribe_client_metrics("producers", &["org.apache.kafka.producer."], Duration::from_secs(1), &[])?;
    /// assert!(cluster.client_metrics().is_empty(), "no client has pushed yet");
    /// assert!(cluster.subscribe_client_metrics("often", &["*"], Duration::from_millis(1), &[]).is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the interval or a pattern is not allowed, and when the disk fails.
    pub fn subscribe_client_metrics(
        &self,
        name: &str,
        metrics: &[&str],
        interval: Duration,
        matching: &[&str],
    ) -> Result<(), Error> {
        self.shared.machine.subscribe_client_metrics(name, metrics, interval, matching)
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            connections: shared.connections.load(Ordering::Relaxed),
            buffered_bytes: shared.budget.held(),
            log_bytes: shared.machine.parts.state().log_bytes(),
            fetch_sessions: shared.machine.parts.fetch_session_count(),
            accepted: count(&shared.accepted),
            requests: count(&shared.requests),
            sent_bytes: count(&shared.sent_bytes),
            malformed: count(&shared.hangups.malformed),
            strangers: count(&shared.hangups.strangers),
            timed_out: count(&shared.hangups.timed_out),
            shed: count(&shared.hangups.shed),
            unauthenticated: count(&shared.hangups.unauthenticated),
            tls_failed: count(&shared.hangups.tls),
            refused: count(&shared.hangups.full),
        }
    }

    /// Ends all connections, closes all ports, and makes everything on disk durable, so that the next start is quick.
    ///
    /// # Errors
    /// When the disk fails.
    ///
    /// # Cancel safety
    /// Cancelled, the cluster is dropped: see [`Cluster`].
    pub async fn shutdown(self) -> Result<(), Error> {
        let running = std::mem::take(&mut *crate::lock(&self.running));
        for server in running.into_values().flatten() {
            server.stop().await;
        }
        self.timekeeper.stop().await;
        let shared = self.shared;
        let flushed = tokio::task::spawn_blocking(move || shared.machine.parts.flush());
        flushed.await.unwrap_or_else(|_| Err(Error::refused("the flush was cancelled")))
    }
}
