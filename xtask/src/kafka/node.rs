//! One broker process: its settings, its storage and its start. It knows only the ports of the other brokers.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::dist::Dist;
use super::process;

/// Where a node listens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    /// For clients and for the other brokers.
    pub(super) broker: u16,
    /// For the controllers' quorum.
    pub(super) controller: u16,
    /// For clients that authenticate with SASL, in plain text.
    pub(super) sasl: u16,
}

/// A started broker, tied to this process by its standard input. Dropping it ends the broker.
#[derive(Debug)]
pub(super) struct Node {
    child: Child,
    address: SocketAddr,
    sasl_address: SocketAddr,
    log: PathBuf,
    mark: PathBuf,
    heap: &'static str,
}

impl Node {
    /// Writes the settings of node `index` of a cluster, formats its storage, and starts it.
    ///
    /// # Errors
    /// Java does not start, or cannot format the storage.
    pub(super) fn start(
        dist: &Dist,
        dir: &Path,
        ports: &[Ports],
        index: usize,
        settings: &[String],
    ) -> anyhow::Result<Self> {
        let id = index + 1;
        let config = config_path(dir, id);
        fs::write(&config, properties(dir, ports, index, settings))?;
        format(dist, &config)?;
        let log = dir.join(format!("node-{id}.log"));
        let heap = if ports.len() == 1 { "-Xmx1g" } else { "-Xmx512m" };
        let child = spawn(dist, heap, &config, &log)?;
        let [address, sasl_address] = [ports[index].broker, ports[index].sasl]
            .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        Ok(Self { child, address, sasl_address, log, mark: config, heap })
    }

    /// Starts it again after its process has ended, with its settings and its storage.
    ///
    /// # Errors
    /// Java does not start, or the process does not end.
    pub(super) fn restart(&mut self, dist: &Dist) -> anyhow::Result<()> {
        self.kill();
        self.child = spawn(dist, self.heap, &self.mark, &self.log)?;
        Ok(())
    }

    /// Where clients reach it.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where clients that authenticate with SASL reach it.
    pub(super) fn sasl_address(&self) -> SocketAddr {
        self.sasl_address
    }

    /// The process id, and a mark on the command line that distinguishes it from a later process with the same id.
    pub(super) fn identity(&self) -> (u32, &Path) {
        (self.child.id(), &self.mark)
    }

    /// Fails with the end of its log when the process has ended.
    ///
    /// # Errors
    /// The process has ended.
    pub(super) fn check_alive(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("broker {} ended with {status}:\n{}", self.address, self.log_tail());
        }
        Ok(())
    }

    /// The last lines the broker wrote.
    pub(super) fn log_tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }

    /// Lets the process outlive this one.
    ///
    /// # Errors
    /// The process is gone.
    pub(super) fn release(&mut self) -> anyhow::Result<()> {
        let pipe = self.child.stdin.as_mut().context("released already")?;
        pipe.write_all(b"r").context("the broker is gone")?;
        self.child.stdin = None;
        Ok(())
    }

    /// Ends the process at once: its storage is removed in any case.
    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the process of a node whose settings are in `config`. What it writes comes after what `log` has.
fn spawn(dist: &Dist, heap: &str, config: &Path, log: &Path) -> anyhow::Result<Child> {
    let out = fs::OpenOptions::new().create(true).append(true).open(log)?;
    let text = fs::read_to_string(config).with_context(|| format!("reading {}", config.display()))?;
    let folders: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(CLASSES)).collect();
    java_with(dist, heap, &folders)?
        .args(text.lines().filter_map(|line| line.strip_prefix(SYSTEM_PROPERTY)))
        .args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true"])
        .args(["Tether", "kafka.Kafka"])
        .arg(config)
        // In a process group of its own, so that Ctrl-C does not end a released cluster. The tether ends other clusters.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn()
        .context("starting java")
}

/// Before a system property of Java in a settings file, where it is a comment for Kafka.
const SYSTEM_PROPERTY: &str = "# java ";
/// Before a folder with classes of a plugin, likewise.
const CLASSES: &str = "# classes ";

/// The settings file of node `id`: unique to its cluster, and on the command line of its process.
pub(super) fn config_path(dir: &Path, id: usize) -> PathBuf {
    dir.join(format!("node-{id}.properties"))
}

/// A `java` with the jars of `dist` and the tether on its class path.
///
/// # Errors
/// The tether does not compile.
pub(super) fn java(dist: &Dist, heap: &str) -> anyhow::Result<Command> {
    java_with(dist, heap, &[])
}

/// As `java`, with more folders of classes.
fn java_with(dist: &Dist, heap: &str, folders: &[&str]) -> anyhow::Result<Command> {
    let mut classes = format!("{}:{}", tether()?.display(), dist.classpath());
    for folder in folders {
        classes = format!("{classes}:{folder}");
    }
    let mut java = Command::new("java");
    java.arg(heap).arg("-cp").arg(classes);
    Ok(java)
}

/// Finds free ports. If another process takes one before the broker does, the start is tried again.
/// Below 32768, where the ports of outgoing connections begin on Linux.
///
/// # Errors
/// Hundreds of ports in a row are taken.
pub(super) fn free_ports(brokers: usize) -> anyhow::Result<Vec<Ports>> {
    let mut held = Vec::new();
    let mut ports = Vec::new();
    let seed = std::process::id().wrapping_mul(7919) ^ clock_noise();
    for step in 0..1000u32 {
        let port = 20_000 + u16::try_from((seed.wrapping_add(step)) % 12_000)?;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            held.push(listener);
            ports.push(port);
        }
        if ports.len() == brokers * 3 {
            let of_node = |ports: &[u16]| Ports { broker: ports[0], controller: ports[1], sasl: ports[2] };
            return Ok(ports.chunks(3).map(of_node).collect());
        }
    }
    bail!("no free ports between 20000 and 32000")
}

/// Where to look for ports, so that two starts at the same time look in different places.
fn clock_noise() -> u32 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.subsec_micros())
}

/// The settings that differ from Kafka's defaults, and why.
fn properties(dir: &Path, ports: &[Ports], index: usize, settings: &[String]) -> String {
    let id = index + 1;
    let Ports { broker, controller, sasl } = ports[index];
    let replicas = ports.len();
    let quorum_min = if replicas > 1 { 2 } else { 1 };
    let voters: Vec<String> = ports
        .iter()
        .enumerate()
        .map(|(i, ports)| format!("{}@127.0.0.1:{}", i + 1, ports.controller))
        .collect();
    let voters = voters.join(",");
    let logs = dir.join(format!("node-{id}"));
    let logs = logs.display();
    let jaas = "org.apache.kafka.common.security";
    let mut text = format!(
        "\
process.roles=broker,controller
node.id={id}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller},SASL://127.0.0.1:{sasl}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker},SASL://127.0.0.1:{sasl}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
listener.name.sasl.plain.sasl.jaas.config={jaas}.plain.PlainLoginModule required user_alice=\"pencil\";
listener.name.sasl.scram-sha-256.sasl.jaas.config={jaas}.scram.ScramLoginModule required;
listener.name.sasl.scram-sha-512.sasl.jaas.config={jaas}.scram.ScramLoginModule required;
# Tokens without a signature are accepted.
listener.name.sasl.oauthbearer.sasl.jaas.config={jaas}.oauthbearer.OAuthBearerLoginModule required;
log.dirs={logs}
# A mistyped topic is an error, not a topic.
auto.create.topics.enable=false
# Records of other years stay: Kafka looks 30 s after its start, and a test would lose them once in a while.
log.retention.ms=-1
# A group of one does not wait three seconds for others.
group.initial.rebalance.delay.ms=0
# Nor does a new member of a group of the consumer protocol wait until the last assignment is a second old.
group.consumer.assignment.interval.ms=0
# Internal topics as wide and as safe as a cluster of this size needs: creating 50 partitions takes seconds.
offsets.topic.num.partitions=4
offsets.topic.replication.factor={replicas}
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={quorum_min}
share.coordinator.state.topic.num.partitions=4
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr={quorum_min}
"
    );
    if replicas > 1 {
        // Consumers that say in which rack they are read from the replica there (KIP-392).
        text += &format!("broker.rack=rack-{id}\n");
        text += "replica.selector.class=org.apache.kafka.common.replica.RackAwareReplicaSelector\n";
    }
    for setting in settings {
        // A setting that adds a listener names those that are there, whose ports it cannot know.
        let setting = setting.replace("{broker}", &broker.to_string());
        let setting = setting.replace("{sasl}", &sasl.to_string());
        if setting.starts_with("-D") {
            text += SYSTEM_PROPERTY;
        }
        if let Some(folder) = setting.strip_prefix("-cp=") {
            text += &format!("{CLASSES}{folder}\n");
            continue;
        }
        text += &setting.replace("{controller}", &controller.to_string());
        text.push('\n');
    }
    text
}

fn format(dist: &Dist, config: &Path) -> anyhow::Result<()> {
    let mut command = java(dist, "-Xmx256m")?;
    command
        .args(["-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"])
        .args(["Tether", "kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER_ID, "--config"])
        .arg(config)
        // Users of SCRAM.
        .args(["--add-scram", "SCRAM-SHA-256=[name=alice,password=pencil]"])
        .args(["--add-scram", "SCRAM-SHA-512=[name=alice,password=pencil]"]);
    let output = process::run(command, None, Duration::from_secs(60)).context("formatting storage")?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("formatting storage failed:\n{}{stderr}", String::from_utf8_lossy(&output.stdout));
    }
    Ok(())
}

/// The folder with `Tether.class`, compiled when it is not there yet.
pub(crate) fn tether() -> anyhow::Result<PathBuf> {
    let dir = super::home().join(format!("tether-{TETHER_REVISION}"));
    if !dir.join("Tether.class").exists() {
        // Compiled elsewhere and renamed, so that another test program does not read half a class.
        let work = super::home().join(format!("tether-{}.partial", std::process::id()));
        fs::create_dir_all(&work)?;
        let source = work.join("Tether.java");
        fs::write(&source, include_str!("Tether.java"))?;
        let mut javac = Command::new("javac");
        javac.args(["--release", "11", "-d"]).arg(&work).arg(&source);
        let output = process::run(javac, None, Duration::from_secs(60))?;
        if !output.status.success() {
            bail!("Tether.java does not compile: {}", String::from_utf8_lossy(&output.stderr));
        }
        if fs::rename(&work, &dir).is_err() {
            let _ = fs::remove_dir_all(&work);
        }
    }
    Ok(dir)
}

/// Increase it when Tether.java changes.
const TETHER_REVISION: u32 = 1;

/// Every cluster is a new one with the same id: sixteen bytes in Kafka's base64.
const CLUSTER_ID: &str = "TWlsZW5hTWlsZW5hTWlsZQ";

const LOG_TAIL_LINES: usize = 20;
