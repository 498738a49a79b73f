//! The brokers of the scenarios: starts them, makes their topics, and asks the sink for its counts.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::drivers::{self, CLIENTS};
use super::scenario::{Broker, Disturbance, Payload, Scenario, Twist, Work, Writer};
use crate::kafka::{Cluster, NEWEST, process};

/// The brokers, each of which runs as long as the rounds that need it.
#[derive(Debug)]
pub(super) struct Brokers {
    program: PathBuf,
    payloads: PathBuf,
    /// By the number of brokers, and whether they have a listener with TLS.
    kafka: BTreeMap<(u32, bool), Kafka>,
    /// A counter for unique names.
    topics: u32,
    /// The topics that are read several times, by their content.
    filled: BTreeMap<String, String>,
    /// The commands of the drivers that write topics, as far as they are built.
    writers: BTreeMap<&'static str, Vec<String>>,
}

/// The addresses and topics of one run.
#[derive(Debug)]
pub(super) struct Target {
    /// The bootstrap addresses.
    pub(super) bootstrap: String,
    /// The topic.
    pub(super) topic: String,
    /// The certificate that the broker's is signed with, in PEM, if it speaks TLS.
    pub(super) authority: Option<PathBuf>,
    /// The topic of partitions without records: those that are idle, or those that are written to.
    pub(super) idle_topic: Option<String>,
    /// The bootstrap addresses without TLS.
    plain: String,
    process: Option<Process>,
}

/// A cluster of Apache Kafka.
#[derive(Debug)]
struct Kafka {
    cluster: Cluster,
    /// Where it speaks TLS.
    tls: Option<String>,
}

/// What runs beside a client: a process that writes what it reads, or another member of its group. They end with this.
#[derive(Debug)]
pub(super) struct Beside(Vec<Child>);

impl Drop for Beside {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The group of clients that are members of one.
pub(super) const GROUP: &str = "bench";

/// Longer than any run.
const BESIDE_SECONDS: &str = "600";

/// A broker process of `milena-bench`, which ends when its standard input is closed.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    greeting: Value,
}

/// Filling a topic of hundreds of megabytes takes seconds.
const FILL_DEADLINE: Duration = Duration::from_secs(180);

impl Brokers {
    /// Brokers of `program`, `milena-bench`, with the payloads in that folder.
    #[must_use]
    pub(super) fn new(program: &Path, payloads: &Path) -> Self {
        let (program, payloads) = (program.to_owned(), payloads.to_owned());
        Self {
            program,
            payloads,
            kafka: BTreeMap::new(),
            topics: 0,
            filled: BTreeMap::new(),
            writers: BTreeMap::new(),
        }
    }

    /// A broker for one run of the scenario, with its topic. The floor always gets a sink.
    ///
    /// # Errors
    /// It does not start, or the topic cannot be made.
    pub(super) fn target(&mut self, scenario: &Scenario, is_floor: bool) -> anyhow::Result<Target> {
        match scenario.broker {
            Broker::Sink { nodes, delay_ms } => self.sink(scenario, nodes, delay_ms),
            _ if is_floor => self.sink(scenario, 1, 0),
            Broker::Kafka(nodes) => self.kafka(scenario, nodes),
            Broker::Embedded(nodes) => {
                let mut command = Command::new(&self.program);
                command.args(["broker", "--nodes", &nodes.to_string()]);
                if matches!(scenario.work, Work::Follow { disturbance: Disturbance::LeaderMoves, .. }) {
                    command.args(["--move-leader", IDLE_TOPIC]);
                }
                let authority = scenario.is_tls.then(|| self.payloads.join("authority.pem"));
                if let Some(authority) = &authority {
                    command.arg("--tls").arg(authority);
                }
                let process = Process::start(&mut command)?;
                let (bootstrap, plain) = (process.bootstrap("bootstrap")?, process.bootstrap("plain")?);
                self.fill(&plain, &spec(scenario, TOPIC), scenario)?;
                let idle = idle_spec(scenario);
                if let Some(idle) = &idle {
                    self.fill_prepared(&plain, idle, scenario)?;
                }
                let idle_topic = idle.map(|_| IDLE_TOPIC.into());
                let process = Some(process);
                Ok(Target { bootstrap, plain, authority, topic: TOPIC.into(), idle_topic, process })
            }
        }
    }

    fn sink(&self, scenario: &Scenario, nodes: u32, delay_ms: u32) -> anyhow::Result<Target> {
        let mut command = Command::new(&self.program);
        command.args(["sink", "--nodes", &nodes.to_string(), "--delay-ms", &delay_ms.to_string()]);
        command.args(["--topic", &spec(scenario, TOPIC)]);
        let idle = idle_spec(scenario);
        if let Some(idle) = &idle {
            command.args(["--topic", idle]);
        }
        let process = Process::start(command.args(self.shape(scenario)))?;
        let bootstrap = process.bootstrap("bootstrap")?;
        let idle_topic = idle.map(|_| IDLE_TOPIC.into());
        let (plain, process) = (bootstrap.clone(), Some(process));
        Ok(Target { bootstrap, plain, authority: None, topic: TOPIC.into(), idle_topic, process })
    }

    /// Starts what runs beside a client in this scenario.
    ///
    /// # Errors
    /// A process does not start.
    pub(super) fn beside(&self, scenario: &Scenario, target: &Target) -> anyhow::Result<Beside> {
        let mut beside = Beside(Vec::new());
        let Work::Follow { disturbance, rate, .. } = scenario.work else { return Ok(beside) };
        let mut start = |mode: &str, topic: &str, rest: &[&str]| -> anyhow::Result<()> {
            let mut command = Command::new(&self.program);
            command.args(["milena", mode, "--bootstrap", &target.bootstrap, "--topic", topic]).args(rest);
            beside.0.push(command.stdout(Stdio::null()).spawn()?);
            Ok(())
        };
        let values = self.payloads.join(scenario.payload.values());
        let (values, rate) = (values.to_string_lossy(), rate.to_string());
        start("write", &target.topic, &["--values", &values, "--rate", &rate, "--seconds", BESIDE_SECONDS])?;
        if disturbance == Disturbance::Revokes {
            start("churn", IDLE_TOPIC, &["--group", GROUP])?;
        }
        Ok(beside)
    }

    /// A topic to write to is made for each run; a topic to read is made once.
    fn kafka(&mut self, scenario: &Scenario, nodes: u32) -> anyhow::Result<Target> {
        let (plain, tls) = self.cluster(nodes, scenario.is_tls)?;
        let is_read = matches!(scenario.work, Work::Consume { .. });
        let mut make = |topic_spec: &str, prefix: &str| -> anyhow::Result<String> {
            let content = format!(
                "{nodes} {} {topic_spec} {:?} {:?}",
                scenario.is_tls,
                self.shape(scenario),
                scenario.writer
            );
            if let Some(topic) = self.filled.get(&content).filter(|_| is_read) {
                return Ok(topic.clone());
            }
            self.topics += 1;
            let topic = format!("{prefix}-{}", self.topics);
            self.fill(&plain, &topic_spec.replacen(prefix, &topic, 1), scenario)?;
            if is_read {
                self.filled.insert(content, topic.clone());
            }
            Ok(topic)
        };
        let topic = make(&spec(scenario, TOPIC), TOPIC)?;
        let idle_topic = idle_spec(scenario).map(|idle| make(&idle, IDLE_TOPIC)).transpose()?;
        let authority = tls.is_some().then(|| store("ca.pem"));
        let bootstrap = tls.unwrap_or_else(|| plain.clone());
        Ok(Target { bootstrap, plain, authority, topic, idle_topic, process: None })
    }

    /// The addresses of a cluster of Apache Kafka, without and with TLS. Other clusters are ended, because they share the
    /// memory with the clients.
    fn cluster(&mut self, nodes: u32, is_tls: bool) -> anyhow::Result<(String, Option<String>)> {
        if !self.kafka.contains_key(&(nodes, is_tls)) {
            self.restart();
            let mut settings = ["offsets.topic.num.partitions=1", "log.segment.delete.delay.ms=1000"]
                .map(str::to_owned)
                .to_vec();
            let mut tls = None;
            if is_tls {
                let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
                settings.extend(tls_settings(port));
                tls = Some(format!("127.0.0.1:{port}"));
            }
            let cluster = Cluster::start_with(nodes as usize, NEWEST, &settings)?;
            self.warm_up(&cluster.bootstrap())?;
            self.kafka.insert((nodes, is_tls), Kafka { cluster, tls });
        }
        let kafka = &self.kafka[&(nodes, is_tls)];
        Ok((kafka.cluster.bootstrap(), kafka.tls.clone()))
    }

    /// Ends the brokers, so that the next run starts new ones.
    pub(super) fn restart(&mut self) {
        self.kafka.clear();
        self.filled.clear();
    }

    /// The sink's counts. Deletes a topic that was written to.
    ///
    /// # Errors
    /// The broker has ended already, or does not delete the topic.
    pub(super) fn finish(&self, target: Target, is_read: bool) -> anyhow::Result<Option<Value>> {
        if target.process.is_none() && !is_read {
            let mut command = Command::new(&self.program);
            command.args(["fill", "--bootstrap", &target.plain, "--delete", &target.topic]);
            if let Some(other) = &target.idle_topic {
                command.args(["--delete", other]);
            }
            let output = process::run(command, None, FILL_DEADLINE)?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "deleting {}: {said}", target.topic);
        }
        target.finish()
    }

    /// Lets a Kafka broker take and serve some million records that are not measured: it is slow until its code is compiled,
    /// which would slow down the first client.
    fn warm_up(&self, bootstrap: &str) -> anyhow::Result<()> {
        const RECORDS: &str = "2000000";
        let values = self.payloads.join(Payload::Bytes(100).values());
        let topic = format!("warm:6:{RECORDS}");
        let run = |words: &[&str]| {
            let mut command = Command::new(&self.program);
            command.args(words).args(["--bootstrap", bootstrap]);
            if words[1] != "consume" {
                command.arg("--values").arg(&values);
            }
            let output = process::run(command, None, FILL_DEADLINE)?;
            ensure!(output.status.success(), "warming up: {}", String::from_utf8_lossy(&output.stderr));
            Ok(())
        };
        run(&["fill", "--topic", &topic, "--batch-bytes", "16384"])?;
        run(&["milena", "produce", "--topic", "warm", "--records", RECORDS])?;
        run(&["milena", "consume", "--topic", "warm", "--records", RECORDS])
    }

    /// Makes the topic and writes its records.
    fn fill(&mut self, bootstrap: &str, topic_spec: &str, scenario: &Scenario) -> anyhow::Result<()> {
        if let Some(writer) = scenario.writer {
            return self.write(bootstrap, topic_spec, scenario, writer);
        }
        self.fill_prepared(bootstrap, topic_spec, scenario)
    }

    /// Makes an empty topic and lets a client write its records.
    fn write(
        &mut self,
        bootstrap: &str,
        topic_spec: &str,
        scenario: &Scenario,
        writer: Writer,
    ) -> anyhow::Result<()> {
        let words = self.writer(writer.client)?;
        let mut fields = topic_spec.split(':');
        let (topic, partitions) = (fields.next().unwrap_or_default(), fields.next().unwrap_or("1"));
        self.fill_prepared(bootstrap, &format!("{topic}:{partitions}"), scenario)?;
        let (program, rest) = words.split_first().context("a driver is a command")?;
        let mut command = Command::new(program);
        command.args(rest).args(["produce", "--bootstrap", bootstrap, "--topic", topic]);
        command.args([
            "--records",
            &scenario.records().unwrap_or(0).to_string(),
            "--codec",
            scenario.codec(),
        ]);
        command.arg("--values").arg(self.payloads.join(scenario.payload.values()));
        if writer.is_keyed {
            command.arg("--keys").arg(self.payloads.join(scenario.payload.keys()));
        }
        match writer.batch_bytes {
            Some(bytes) => command.args(["--batch-bytes", &bytes.to_string()]),
            None => command.args(["--batch-bytes", "default", "--linger-ms", "default"]),
        };
        let output = process::run(command, None, FILL_DEADLINE)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{} does not write {topic}: {said}", writer.client);
        Ok(())
    }

    /// The driver of a client that writes topics, even if that client is not measured.
    fn writer(&mut self, name: &'static str) -> anyhow::Result<Vec<String>> {
        if let Some(words) = self.writers.get(name) {
            return Ok(words.clone());
        }
        let client =
            CLIENTS.iter().find(|client| client.name == name).context("a client that has a driver")?;
        let words = drivers::command(&self.program, *client)?;
        self.writers.insert(name, words.clone());
        Ok(words)
    }

    fn fill_prepared(&self, bootstrap: &str, topic_spec: &str, scenario: &Scenario) -> anyhow::Result<()> {
        let mut command = Command::new(&self.program);
        command.args(["fill", "--bootstrap", bootstrap, "--topic", topic_spec]).args(self.shape(scenario));
        let output = process::run(command, None, FILL_DEADLINE)?;
        ensure!(output.status.success(), "filling {topic_spec}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// The options for prepared batches.
    fn shape(&self, scenario: &Scenario) -> Vec<String> {
        let values = self.payloads.join(scenario.payload.values());
        let batch_bytes = match scenario.work {
            Work::Consume { batch_bytes, .. } => batch_bytes,
            Work::Flip { .. } | Work::Process { .. } => 16_384,
            _ => 1_000_000,
        };
        let words = ["--values", &values.to_string_lossy(), "--codec", scenario.codec(), "--batch-bytes"];
        words.into_iter().map(str::to_owned).chain([batch_bytes.to_string()]).collect()
    }
}

impl Target {
    /// Ends the sink; returns its counts and the bytes of the topic's batches.
    fn finish(self) -> anyhow::Result<Option<Value>> {
        let Some(mut process) = self.process else { return Ok(None) };
        drop(process.input.take());
        let mut line = String::new();
        process.output.read_line(&mut line)?;
        process.child.wait()?;
        if line.is_empty() {
            return Ok(None);
        }
        let mut counted: Value = serde_json::from_str(&line).context("the sink's last line")?;
        counted["stored"] = process.greeting["topics"][&self.topic].clone();
        Ok(Some(counted))
    }
}

impl Process {
    /// Starts it, and waits until it says where it listens.
    ///
    /// # Errors
    /// It does not start.
    pub(super) fn start(command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let mut output = BufReader::new(output.context("a broker's output")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        if line.is_empty() {
            let status = child.wait()?;
            bail!("a broker ended before it listened: {status}");
        }
        Ok(Self {
            child,
            input,
            output,
            greeting: serde_json::from_str(&line).context("a broker's first line")?,
        })
    }

    /// The addresses of that name.
    ///
    /// # Errors
    /// There are none.
    pub(super) fn bootstrap(&self, name: &str) -> anyhow::Result<String> {
        Ok(self.greeting[name].as_str().context("a broker says where it listens")?.to_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const TOPIC: &str = "records";
const IDLE_TOPIC: &str = "idle";

/// A file of the stores that Java's keytool made for `localhost` and 127.0.0.1.
fn store(name: &str) -> PathBuf {
    crate::root().join("crates/client/tests/tls/stores").join(name)
}

/// A second listener of the only broker, with TLS.
fn tls_settings(port: u16) -> [String; 6] {
    [
        format!(
            "listeners=PLAINTEXT://127.0.0.1:{{broker}},CONTROLLER://127.0.0.1:{{controller}},SSL://127.0.0.1:{port}"
        ),
        format!("advertised.listeners=PLAINTEXT://127.0.0.1:{{broker}},SSL://127.0.0.1:{port}"),
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SSL:SSL".into(),
        format!("ssl.keystore.location={}", store("java.p12").display()),
        "ssl.keystore.password=changeit".into(),
        "ssl.key.password=changeit".into(),
    ]
}

/// The scenario's topic, as an argument for the sink and `fill`.
fn spec(scenario: &Scenario, topic: &str) -> String {
    let partitions = scenario.partitions;
    match scenario.work {
        Work::Consume { records, twist: Twist::OthersIdle, .. } => {
            format!("{topic}:{partitions}:{records}:1")
        }
        Work::Consume { records, .. } | Work::Process { records, .. } => {
            format!("{topic}:{partitions}:{records}")
        }
        // More than anybody reads.
        Work::Flip { .. } => format!("{topic}:{partitions}:1000000000"),
        _ => format!("{topic}:{partitions}"),
    }
}

fn idle_spec(scenario: &Scenario) -> Option<String> {
    scenario.idle_partitions().map(|count| format!("{IDLE_TOPIC}:{count}"))
}

/// Writes the files of values and keys with `program`.
///
/// # Errors
/// They cannot be written.
pub(super) fn write_payloads(program: &Path, dir: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(program);
    command.arg("payloads").arg(dir);
    let output = process::run(command, None, Duration::from_secs(60))?;
    ensure!(output.status.success(), "payloads: {}", String::from_utf8_lossy(&output.stderr));
    ensure!(dir.join(Payload::Flights.values()).is_file(), "payloads: flights are missing");
    Ok(())
}
