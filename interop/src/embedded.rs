//! The embedded broker for tests that do not run on tokio. It lives as long as its handle.

use anyhow::Context as _;
use milena_broker::{Broker, Builder, Cluster};
use tokio::runtime::Runtime;

/// A running embedded cluster.
#[derive(Debug)]
pub struct Embedded {
    cluster: Option<Cluster>,
    runtime: Runtime,
}

impl Embedded {
    /// A cluster of `nodes` nodes in memory.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn start(nodes: u16) -> Self {
        Self::build(Broker::builder().nodes(nodes))
    }

    /// A cluster with the settings of `builder`, which keeps records whatever their age, as real Kafka does in tests.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn build(builder: Builder) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap_or_else(|error| panic!("tokio does not start: {error}"));
        let cluster = runtime.block_on(builder.config("log.retention.ms", "-1").start());
        let cluster = cluster.unwrap_or_else(|error| panic!("the embedded broker does not start: {error}"));
        Self { cluster: Some(cluster), runtime }
    }

    /// Takes a node down, as [`Cluster::stop_node`] does.
    ///
    /// # Errors
    /// There is no such node.
    pub fn stop_node(&self, id: usize) -> anyhow::Result<()> {
        self.with(id, |cluster, runtime, node| runtime.block_on(cluster.stop_node(node)))
    }

    /// Brings a node back, as [`Cluster::start_node`] does.
    ///
    /// # Errors
    /// There is no such node.
    pub fn start_node(&self, id: usize) -> anyhow::Result<()> {
        self.with(id, |cluster, runtime, node| runtime.block_on(cluster.start_node(node)))
    }

    fn with(
        &self,
        id: usize,
        act: impl FnOnce(&Cluster, &Runtime, i32) -> Result<(), milena_broker::Error>,
    ) -> anyhow::Result<()> {
        let cluster = self.cluster.as_ref().context("the cluster is shut down")?;
        Ok(act(cluster, &self.runtime, i32::try_from(id)?)?)
    }

    /// The bootstrap addresses of a listener, which there is.
    #[must_use]
    pub fn bootstrap_of(&self, listener: &str) -> &str {
        self.cluster.as_ref().and_then(|cluster| cluster.bootstrap_of(listener)).unwrap_or("")
    }

    /// The bootstrap addresses.
    #[must_use]
    pub fn bootstrap(&self) -> &str {
        self.cluster.as_ref().map_or("", Cluster::bootstrap)
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        if let Some(cluster) = self.cluster.take() {
            // A failing test has printed its reason already.
            let _ = self.runtime.block_on(cluster.shutdown());
        }
    }
}
