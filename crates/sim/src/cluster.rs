//! A cluster without sockets: the broker's machine, the tasks that serve its connections, and the faults of the network
//! between it and its clients.
//!
//! ```text
//!  client ─▶ Connector ─▶ Stream ═ latency, pieces, cuts ═ Stream ─▶ serve ─▶ Machine
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use milena::{Address, Connect, ConnectError, Connecting, Obstacle, Transport};
use milena_broker::{Answer, Broker, Machine, Now, Parked, Peer};
use milena_core::Rng;
use milena_messages::ApiKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::executor::{Sim, lock, up_to};
use crate::operator::Operator;
use crate::stream::{Stream, Wire};
use crate::trace::{Trace, hash};

/// A cluster of the embedded broker's nodes on a simulated network. Clones are the same cluster.
#[derive(Clone)]
pub struct Cluster(Arc<Shared>);

struct Shared {
    sim: Sim,
    machine: Arc<Machine>,
    /// The time on the machine's two clocks when the simulation began.
    origin: Now,
    trace: Trace,
    state: Mutex<State>,
}

struct State {
    rng: Rng,
    faults: Faults,
    gates: BTreeMap<i32, Gate>,
    connections: BTreeMap<u64, (i32, Weak<Wire>)>,
    next_connection: u64,
}

/// What happens to new connections to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// They are made.
    Open,
    /// They are refused.
    Refusing,
    /// They are neither made nor refused, until the client's timeout ends the attempt.
    Silent,
    /// They are made, and the node never reads from them.
    Mute,
}

/// Faults of the network and of nodes, and how often they happen by chance.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// How many of a hundred reads and writes move a few bytes only.
    pub crumbs_percent: u32,
    /// The longest latency of a connection. Each connection has a random one up to this.
    pub latency_max: Duration,
    /// For how many of a hundred requests the connection breaks before the node sees the request.
    pub lose_request_percent: u32,
    /// For how many of a hundred requests the connection breaks after the node obeyed and before it answers.
    pub lose_answer_percent: u32,
    /// For how many of a hundred requests the connection is closed within the answer.
    pub tear_answer_percent: u32,
    /// In how many of a hundred cases a node waits before it looks at a request, and before it answers.
    pub delay_percent: u32,
    /// The longest of these waits.
    pub delay_max: Duration,
}

/// The port of every node. Their hosts differ: `node-1` and so on.
const PORT: u16 = 9092;

impl Cluster {
    /// Starts a cluster without topics. Each topic will have a replica on every node.
    ///
    /// # Panics
    /// When the broker refuses these settings.
    pub fn start(sim: &Sim, nodes: u16, trace: &Trace) -> Self {
        let builder =
            Broker::builder().nodes(nodes).default_replication(nodes as i16).auto_create_topics(false);
        let machine = builder.seed(sim.rng().next_u64()).machine().expect("a cluster in memory starts");
        let state = State {
            rng: sim.rng(),
            faults: Faults::default(),
            gates: (1..=i32::from(nodes)).map(|node| (node, Gate::Open)).collect(),
            connections: BTreeMap::new(),
            next_connection: 0,
        };
        // The machine only adds to this instant and compares, so which instant it is has no effect.
        let origin = Now { instant: Instant::now(), unix_ms: milena::Runtime::unix_ms(sim) };
        let cluster = Self(Arc::new(Shared {
            sim: sim.clone(),
            machine: Arc::new(machine),
            origin,
            trace: trace.clone(),
            state: Mutex::new(state),
        }));
        drop(sim.spawn(cluster.clone().keep_time()));
        cluster
    }

    /// The addresses of all nodes, for clients: `host:port,host:port`.
    pub fn bootstrap(&self) -> String {
        let nodes = self.nodes();
        nodes.iter().map(|node| format!("node-{node}:{PORT}")).collect::<Vec<_>>().join(",")
    }

    /// The ids of all nodes.
    pub fn nodes(&self) -> Vec<i32> {
        lock(&self.0.state).gates.keys().copied().collect()
    }

    /// The transport of clients of this cluster.
    pub fn connector(&self) -> impl Connect + use<> {
        Connector(self.clone())
    }

    /// An operator, whose requests bypass the network.
    pub fn operator(&self) -> Operator {
        Operator::new(Arc::clone(&self.0.machine), self.now())
    }

    /// Sets the faults that happen by chance from now on.
    pub fn set_faults(&self, faults: Faults) {
        lock(&self.0.state).faults = faults;
    }

    /// Sets what happens to new connections to `node`.
    pub fn set_gate(&self, node: i32, gate: Gate) {
        lock(&self.0.state).gates.insert(node, gate);
    }

    /// Breaks all connections to `node`.
    pub fn cut(&self, node: i32) {
        let connections = lock(&self.0.state).connections.clone();
        let wires = connections.values().filter(|(to, _)| *to == node).filter_map(|(_, wire)| wire.upgrade());
        for wire in wires {
            self.0.trace.count("a connection is cut");
            if wire.cut() {
                self.0.trace.count("bytes that are on their way are lost");
            }
        }
    }

    /// Takes `node` down and breaks its connections.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn stop_node(&self, node: i32) {
        self.0.trace.count("a node stops");
        self.set_gate(node, Gate::Refusing);
        self.cut(node);
        self.0.machine.stop_node(node).expect("a node of this cluster stops");
    }

    /// Brings `node` back.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn start_node(&self, node: i32) {
        self.0.machine.start_node(node).expect("a node of this cluster starts");
        self.set_gate(node, Gate::Open);
    }

    /// Makes `node` the leader of a partition in a new leader epoch, unless it is down.
    pub fn move_leader(&self, topic: &str, partition: i32, node: i32) {
        // The only refusal there can be is that the node is down.
        if self.0.machine.move_leader(topic, partition, node).is_ok() {
            self.0.trace.count("a partition gets another leader");
        }
    }

    /// Makes `node` the coordinator of a transactional id, unless it is down.
    pub fn move_transaction_coordinator(&self, id: &str, node: i32) {
        if self.0.machine.move_transaction_coordinator(id, node).is_ok() {
            self.0.trace.count("a transactional id gets another coordinator");
        }
    }

    /// Makes `node` the coordinator of a group, unless it is down.
    pub fn move_coordinator(&self, group: &str, node: i32) {
        if self.0.machine.move_coordinator(group, node).is_ok() {
            self.0.trace.count("a group gets another coordinator");
        }
    }

    /// Finalizes another `transaction.version`.
    ///
    /// # Panics
    /// When there is no such version.
    pub fn set_transaction_version(&self, version: i16) {
        self.0.machine.set_transaction_version(version).expect("a version of transactions");
    }

    /// The number of connections of which an end is still in use.
    pub fn connections(&self) -> usize {
        let mut state = lock(&self.0.state);
        state.connections.retain(|_, (_, wire)| wire.strong_count() > 0);
        state.connections.len()
    }

    fn now(&self) -> Now {
        self.0.origin.plus(self.0.sim.now())
    }

    fn chance(&self, percent: impl Fn(&Faults) -> u32) -> bool {
        let state = &mut *lock(&self.0.state);
        let percent = percent(&state.faults);
        // For a fault that never happens no random number is used up.
        percent > 0 && state.rng.below(100) < percent
    }

    /// Calls the machine's `handle_timeout` when something is due.
    async fn keep_time(self) {
        loop {
            let known = self.0.machine.poll_timeout();
            let mut sleep = known.map(|at| self.0.sim.sleep(self.until(at)));
            std::future::poll_fn(|cx| {
                if self.0.machine.poll_earlier(known, cx).is_ready() {
                    return Poll::Ready(());
                }
                match &mut sleep {
                    Some(sleep) => std::pin::Pin::new(sleep).poll(cx),
                    None => Poll::Pending,
                }
            })
            .await;
            self.0.machine.handle_timeout(self.now());
        }
    }

    fn until(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.now().instant)
    }

    /// Makes a connection to `node`, if its gate lets it.
    async fn connect(self, node: i32) -> Result<Box<dyn Transport>, ConnectError> {
        let (latency, crumbs, number) = {
            let state = &mut *lock(&self.0.state);
            state.next_connection += 1;
            let latency = up_to(&mut state.rng, state.faults.latency_max);
            (latency, state.faults.crumbs_percent, state.next_connection)
        };
        self.0.sim.sleep(latency * 2).await;
        let gate = lock(&self.0.state).gates.get(&node).copied().unwrap_or(Gate::Refusing);
        self.0
            .trace
            .note(self.0.sim.now(), format_args!("connection {number} to node {node} meets {gate:?}"));
        let refused = || Err(ConnectError::new(Obstacle::Network, "the simulated node refuses connections"));
        match gate {
            Gate::Open => {}
            Gate::Mute => self.0.trace.count("a connection is made, and nothing is read from it"),
            Gate::Refusing => {
                self.0.trace.count("a connection is refused");
                return refused();
            }
            Gate::Silent => {
                self.0.trace.count("a connection is not answered");
                std::future::pending::<()>().await;
            }
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1024 + (number % 60_000) as u16));
        let Ok(peer) = self.0.machine.connect(node, address, self.now()) else { return refused() };
        let (wire, client, server) =
            Wire::open(&self.0.sim, number, latency, crumbs, Some(self.0.trace.clone()));
        lock(&self.0.state).connections.insert(number, (node, Arc::downgrade(&wire)));
        let cluster = self.clone();
        drop(self.0.sim.spawn(async move {
            if gate == Gate::Mute {
                return std::future::poll_fn(|cx| server.poll_gone(cx)).await;
            }
            // An error means that the connection broke, which the client learns from its own end.
            let _ = cluster.serve(peer, server).await;
        }));
        Ok(Box::new(client))
    }

    /// Answers one request after the other, until the connection ends or breaks.
    async fn serve(&self, mut peer: Peer, mut stream: Stream) -> io::Result<()> {
        loop {
            let bytes = stream.read_u32().await? as usize;
            let mut frame = vec![0; bytes];
            stream.read_exact(&mut frame).await?;
            let frame = Bytes::from(frame);
            self.note(&stream, "asks", &frame);
            let is_produce = frame.starts_with(&ApiKey::Produce.as_i16().to_be_bytes());
            if self.chance(|faults| faults.lose_request_percent) {
                self.0.trace.count("a request is lost");
                stream.cut();
                return Ok(());
            }
            self.dawdle().await;
            let mut handled = self.0.machine.handle(&mut peer, &frame, self.now(), usize::MAX);
            let answer = loop {
                match handled {
                    Err(refused) => {
                        let number = stream.number();
                        let why = format_args!("connection {number} is closed: {refused}");
                        self.0.trace.note(self.0.sim.now(), why);
                        return Ok(());
                    }
                    Ok(Answer::Nothing) => break None,
                    Ok(Answer::Now(frame)) => break Some(frame.to_vec()),
                    Ok(Answer::Later(parked)) => {
                        if !self.wait(&parked, &stream).await {
                            return Ok(());
                        }
                        handled = self.0.machine.resume(&mut peer, parked, self.now(), usize::MAX);
                    }
                }
            };
            let Some(answer) = answer else {
                self.sit_out(&peer).await;
                continue;
            };
            self.dawdle().await;
            if self.chance(|faults| faults.lose_answer_percent) {
                self.0.trace.count(if is_produce {
                    "an answer is lost after an append"
                } else {
                    "an answer is lost"
                });
                stream.cut();
                return Ok(());
            }
            self.note(&stream, "hears", &answer);
            if self.chance(|faults| faults.tear_answer_percent) {
                self.0.trace.count("an answer is torn");
                let part = lock(&self.0.state).rng.below(answer.len() as u32) as usize;
                stream.write_all(&answer[..part]).await?;
                // The client reads the part, and then the end of the stream.
                return Ok(());
            }
            stream.write_all(&answer).await?;
            self.sit_out(&peer).await;
        }
    }

    /// Reads nothing as long as the client is above a quota.
    async fn sit_out(&self, peer: &Peer) {
        if let Some(until) = peer.muted_until() {
            self.0.trace.count("a connection is muted");
            self.0.sim.sleep(self.until(until)).await;
        }
    }

    /// Waits until a parked request is to be resumed. False if its connection ends before.
    async fn wait(&self, parked: &Parked, stream: &Stream) -> bool {
        let mut sleep = self.0.sim.sleep(self.until(parked.deadline()));
        std::future::poll_fn(|cx| {
            if stream.poll_gone(cx).is_ready() {
                return Poll::Ready(false);
            }
            if parked.poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            std::pin::Pin::new(&mut sleep).poll(cx).map(|()| true)
        })
        .await
    }

    async fn dawdle(&self) {
        if self.chance(|faults| faults.delay_percent) {
            self.0.trace.count("a node takes a while");
            let delay = {
                let state = &mut *lock(&self.0.state);
                up_to(&mut state.rng, state.faults.delay_max)
            };
            self.0.sim.sleep(delay).await;
        }
    }

    fn note(&self, stream: &Stream, what: &str, frame: &[u8]) {
        let (number, bytes, hash) = (stream.number(), frame.len(), hash(frame));
        let line = format_args!("connection {number} {what} {bytes} bytes {hash:016x}");
        self.0.trace.note(self.0.sim.now(), line);
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("bootstrap", &self.bootstrap()).finish_non_exhaustive()
    }
}

struct Connector(Cluster);

impl Connect for Connector {
    fn connect(&self, address: &Address, _: Option<SocketAddr>) -> Connecting {
        let node = address.host().strip_prefix("node-").and_then(|id| id.parse().ok());
        let (cluster, address) = (self.0.clone(), address.clone());
        Box::pin(async move {
            match node {
                Some(node) => cluster.connect(node).await,
                None => Err(ConnectError::new(Obstacle::Name, format!("no simulated node is {address}"))),
            }
        })
    }
}
