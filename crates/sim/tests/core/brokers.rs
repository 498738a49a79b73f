//! The broker's machine, and the requests that both tests make.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use milena_broker::{Broker, Builder, Machine, Now, Peer};
use milena_core::Instant;
use milena_core::metadata::Snapshot;
use milena_messages::Request;
use milena_sim::Operator;
use milena_sim::operator::{Asked, ask};

pub(crate) const TOPIC: &str = "t";
/// The time at which rounds begin. Much older records would be deleted (`retention.ms`).
pub(crate) const UNIX_MS: i64 = 1_700_000_000_000;

/// A cluster with one topic, which has a replica on every node.
pub(crate) struct Brokers {
    pub(crate) machine: Arc<Machine>,
    origin: Now,
    partitions: i32,
    batch_bytes_max: Option<usize>,
}

impl Brokers {
    pub(crate) fn start(seed: u64, nodes: u16, partitions: i32, batch_bytes_max: Option<usize>) -> Self {
        let builder =
            Broker::builder().nodes(nodes).default_replication(nodes as i16).auto_create_topics(false);
        Self { batch_bytes_max, ..Self::of(builder.seed(seed), partitions) }.with_topic()
    }

    /// Goes on with the machine that `builder` finds on disk, as after a `kill -9` of all nodes.
    pub(crate) fn restart(&mut self, builder: impl FnOnce() -> Builder) {
        // The directory is locked for as long as the old machine is there.
        let empty = Broker::builder().machine().expect("a cluster in memory starts");
        let old = Arc::into_inner(std::mem::replace(&mut self.machine, Arc::new(empty)));
        drop(old.expect("nobody else uses it"));
        self.machine = Arc::new(builder().machine().expect("the cluster starts again"));
    }

    /// A cluster without a topic.
    pub(crate) fn of(builder: Builder, partitions: i32) -> Self {
        let machine = Arc::new(builder.machine().expect("a cluster in memory starts"));
        let origin = Now { instant: std::time::Instant::now(), unix_ms: UNIX_MS };
        Self { machine, origin, partitions, batch_bytes_max: None }
    }

    pub(crate) fn with_topic(self) -> Self {
        self.create_topic(Instant::ORIGIN);
        self
    }

    pub(crate) fn create_topic(&self, now: Instant) {
        let bytes_max = self.batch_bytes_max.map(|bytes| bytes.to_string());
        let configs: Vec<_> = bytes_max.iter().map(|bytes| ("max.message.bytes", bytes.as_str())).collect();
        self.operator(now).create_topic(TOPIC, self.partitions, &configs);
    }

    pub(crate) fn now(&self, now: Instant) -> Now {
        self.origin.plus(now.since_origin())
    }

    /// Converts an instant of the machine's clock.
    pub(crate) fn since_origin(&self, at: std::time::Instant) -> Duration {
        at.saturating_duration_since(self.origin.instant)
    }

    pub(crate) fn operator(&self, now: Instant) -> Operator {
        Operator::new(Arc::clone(&self.machine), self.now(now))
    }

    pub(crate) fn snapshot(&self, now: Instant) -> Snapshot {
        Snapshot::default().merge(&self.operator(now).metadata(TOPIC), false)
    }

    /// Makes `node` the leader of a partition, unless it is down.
    pub(crate) fn lead(&self, partition: i32, node: i32) {
        let _ = self.machine.move_leader(TOPIC, partition, node);
    }

    /// A connection to `node`, unless it is down.
    pub(crate) fn connect(&self, node: i32, now: Instant) -> Option<Peer> {
        self.machine.connect(node, SocketAddr::from((Ipv4Addr::LOCALHOST, 2)), self.now(now)).ok()
    }

    pub(crate) fn ask<R: Request>(
        &self,
        peer: &mut Peer,
        version: i16,
        request: &R,
        now: Instant,
    ) -> Asked<R::Response> {
        ask(&self.machine, peer, self.now(now), version, request)
    }
}
