//! A Kafka cluster that lives as long as its handle: one or three nodes, each broker and controller in one process.
//! Owns the order of starting, waiting and cleaning up.

use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::process::Output;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::dist::Dist;
use super::node::{self, Node};
use super::state::{self, Claim, State};
use super::tool::Tool;
use super::{probe, process};

/// A running cluster. Dropping it ends its processes and removes its data. Its processes also end when this process ends,
/// even if it crashes.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    dist: Dist,
    version: String,
    dir: PathBuf,
    /// Set when the cluster was released to live on.
    released: bool,
    /// While this is held, no other command can use the cluster's name.
    _claim: Claim,
}

impl Cluster {
    /// Starts a cluster of `brokers` nodes (1 or 3) of Kafka `version`, for as long as the handle lives.
    ///
    /// # Errors
    /// Java or Maven is missing, there is no such version, or the brokers did not become ready in time; the error
    /// holds the end of their logs.
    pub fn start(brokers: usize, version: &str) -> anyhow::Result<Self> {
        Self::start_with(brokers, version, &[])
    }

    /// As [`Cluster::start`], with lines (`name=value`) added to every node's settings. `{broker}`, `{controller}` and `{sasl}` in
    /// them stand for the ports of a node, a line that begins with `-D` is a system property of Java, and `-cp=FOLDER` adds a folder
    /// with classes of plugins.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub fn start_with(brokers: usize, version: &str, settings: &[String]) -> anyhow::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self::start_named(&format!("test-{}-{count}", std::process::id()), brokers, version, settings)
    }

    pub(super) fn start_named(
        name: &str,
        brokers: usize,
        version: &str,
        settings: &[String],
    ) -> anyhow::Result<Self> {
        ensure!(brokers == 1 || brokers == 3, "a cluster has 1 or 3 brokers, not {brokers}");
        for setting in settings {
            ensure!(setting.contains('='), "{setting:?} is not a setting: write name=value");
        }
        let dist = Dist::broker(version)?;
        let claim = state::claim(name)?;
        let dir = super::clusters().join(name);
        // Made before the first node, so that its drop cleans up after any failure from here on.
        let (nodes, version) = (Vec::new(), version.into());
        let mut cluster = Self { nodes, dist, version, dir, released: false, _claim: claim };
        let mut attempt = 1;
        loop {
            match cluster.launch(brokers, settings) {
                Ok(()) => return Ok(cluster),
                Err(error) if attempt < ATTEMPTS && format!("{error:#}").contains(PORT_TAKEN) => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn launch(&mut self, brokers: usize, settings: &[String]) -> anyhow::Result<()> {
        self.clear();
        let (dist, dir) = (&self.dist, &self.dir);
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        let ports = &node::free_ports(brokers)?;
        let started: Vec<anyhow::Result<Node>> = thread::scope(|scope| {
            let starting: Vec<_> = (0..brokers)
                .map(|index| scope.spawn(move || Node::start(dist, dir, ports, index, settings)))
                .collect();
            starting
                .into_iter()
                .map(|node| node.join().unwrap_or_else(|_| bail!("a start panicked")))
                .collect()
        });
        let mut failed = None;
        for node in started {
            match node {
                Ok(node) => self.nodes.push(node),
                Err(error) => failed = Some(error),
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        self.state().write(&self.dir)?;
        self.wait_ready(0..brokers, READY_DEADLINE)
    }

    /// The brokers' addresses, as clients take them: `127.0.0.1:20001,127.0.0.1:20003`.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<String> = self.nodes.iter().map(|node| node.address().to_string()).collect();
        addresses.join(",")
    }

    /// The addresses of the listeners with SASL in plain text. There is the user `alice` with the password `pencil`, by PLAIN
    /// and SCRAM, and tokens of OAUTHBEARER need no signature.
    #[must_use]
    pub fn sasl_bootstrap(&self) -> String {
        let addresses: Vec<String> = self.nodes.iter().map(|node| node.sasl_address().to_string()).collect();
        addresses.join(",")
    }

    /// The release of Kafka that runs.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Runs one of Kafka's own command line tools against this cluster, to its end.
    ///
    /// # Errors
    /// The tool does not start or takes longer than a minute. Its exit status is the caller's to judge.
    pub fn tool(&self, tool: Tool, args: &[&str], stdin: Option<&[u8]>) -> anyhow::Result<Output> {
        tool.run(&self.version, &self.bootstrap(), args, stdin)
    }

    /// Stops the process of broker `id` where it is (SIGSTOP): its connections stay open, and nothing comes over them, as after
    /// a power cut. [`resume`](Self::resume) lets it go on.
    ///
    /// # Errors
    /// There is no such broker, or it has ended.
    pub fn pause(&self, id: usize) -> anyhow::Result<()> {
        process::signal(self.node(id)?.identity().0, rustix::process::Signal::STOP)
    }

    /// Lets a broker go on that [`pause`](Self::pause) has stopped.
    ///
    /// # Errors
    /// As there.
    pub fn resume(&self, id: usize) -> anyhow::Result<()> {
        process::signal(self.node(id)?.identity().0, rustix::process::Signal::CONT)
    }

    /// Ends a broker at once (SIGKILL). [`restart`](Self::restart) brings it back.
    ///
    /// # Errors
    /// As there.
    pub fn kill(&self, id: usize) -> anyhow::Result<()> {
        process::signal(self.node(id)?.identity().0, rustix::process::Signal::KILL)
    }

    /// Starts a broker again that [`kill`](Self::kill) has ended, with the settings, the port and the storage that it had, and
    /// waits until it answers and knows all other brokers.
    ///
    /// # Errors
    /// There is no such broker, or it is not ready in time; the error holds the end of its log.
    pub fn restart(&mut self, id: usize) -> anyhow::Result<()> {
        self.node(id)?;
        self.nodes[id - 1].restart(&self.dist)?;
        self.wait_ready(id - 1..id, READY_DEADLINE)
    }

    fn node(&self, id: usize) -> anyhow::Result<&Node> {
        let index = id.checked_sub(1);
        index.and_then(|index| self.nodes.get(index)).with_context(|| format!("there is no broker {id}"))
    }

    /// Lets the cluster outlive this process.
    pub(super) fn release(mut self) -> anyhow::Result<()> {
        for node in &mut self.nodes {
            node.release()?;
        }
        self.released = true;
        Ok(())
    }

    /// Ends the processes and removes the data.
    fn clear(&mut self) {
        for mut node in self.nodes.drain(..) {
            node.kill();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }

    fn state(&self) -> State {
        let pids = self.nodes.iter().map(|node| node.identity().0).collect();
        State { version: self.version.clone(), bootstrap: self.bootstrap(), pids }
    }

    /// Waits until these brokers answer and know all others: an open port alone does not mean that a broker is ready.
    fn wait_ready(&mut self, which: Range<usize>, deadline: Duration) -> anyhow::Result<()> {
        let started = Instant::now();
        let brokers = self.nodes.len();
        for index in which.clone() {
            loop {
                for node in &mut self.nodes[which.clone()] {
                    node.check_alive()?;
                }
                let node = &self.nodes[index];
                let Err(missing) = probe::ready(node.address(), brokers) else { break };
                if started.elapsed() > deadline {
                    let (address, seconds, log) = (node.address(), deadline.as_secs(), node.log_tail());
                    bail!("broker {address} is not ready after {seconds} s: {missing:#}\n{log}");
                }
                thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !self.released {
            self.clear();
        }
    }
}

/// Ends the processes of a cluster that was released, and removes its data.
///
/// # Errors
/// A process does not end.
pub(super) fn stop(name: &str, state: &State) -> anyhow::Result<()> {
    let dir = super::clusters().join(name);
    for (index, pid) in state.pids.iter().enumerate() {
        process::kill_ours(*pid, &node::config_path(&dir, index + 1).to_string_lossy())?;
    }
    fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))
}

/// Three nodes are ready after 6 s on an idle machine with two cores; a busy one gets twenty times that.
const READY_DEADLINE: Duration = Duration::from_secs(120);

/// How often a start is tried again because another process took one of its ports.
const ATTEMPTS: u32 = 3;

/// Java's error for a port on which another process listens.
const PORT_TAKEN: &str = "Address already in use";
