//! `milena demo`: sends real records through a cluster, reads them back, and checks every one.
//!
//! This file prepares the data, the cluster and the topic, runs [`mod@run`], prints progress and the report, and cleans up
//! however the run ends.

mod flights;
mod ledger;
mod pipeline;
mod report;
mod run;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::ValueEnum as _;
use milena::metrics::Registry;
use milena::{Client, NewTopic, Properties};
use milena_broker::{Broker, Cluster};

use self::flights::Flights;
use self::report::{Report, fault_counts};
use self::run::{Outcome, Run, transfer};
use crate::cluster::{Otherwise, Settings, connect, seconds};
use crate::commands::produce::Codec;
use crate::exit::{Exit, Failure};
use crate::interrupt::{GRACE, Interrupt};
use crate::memory;
use crate::output::{Reader, print};
use crate::progress::{Progress, TICK};
use crate::units::Count;

const EXAMPLES: &str = "\
Examples:
  milena demo                                   an embedded cluster of three nodes
  milena demo --bootstrap localhost:9092        any Kafka
  milena demo --records 5000000 --compression zstd
  milena demo --rate 20000                      latency below saturation
  milena demo pipeline                          a pipeline with faults, retries, dead letters and a redrive";

/// Send flights as JSON, keyed by tail number, read them back from all partitions at the same time, and check that every
/// record arrived once, intact and in order.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) other: Option<Other>,

    /// The cluster to use. Default: an embedded cluster of three nodes is started
    #[arg(short, long, value_name = "HOST:PORT")]
    pub(crate) bootstrap: Option<String>,

    /// Send N records. Default: all flights of the file; if N is more, the file is sent again. Each record takes 24 bytes
    /// of memory until it is checked, and its size in the embedded cluster
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub(crate) records: Option<u32>,

    /// The number of partitions of the topic
    #[arg(short, long, default_value = "12", value_parser = clap::value_parser!(i32).range(1..=10_000))]
    pub(crate) partitions: i32,

    /// The codec that compresses batches
    #[arg(short = 'z', long, value_name = "CODEC", default_value = "lz4")]
    pub(crate) compression: Codec,

    /// A file of flights, as CSV or gzipped CSV. Default: data/flights.csv.gz if it exists, else a built-in sample
    #[arg(long, value_name = "FILE")]
    pub(crate) data: Option<PathBuf>,

    /// Send N records per second. Default: as fast as possible
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,

    /// Do not delete the topic at the end
    #[arg(long)]
    pub(crate) keep: bool,

    /// Print the report as one JSON object
    #[arg(short = 'J', long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) settings: Settings,

    /// Fail if no record is acknowledged or delivered for SECONDS
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) timeout: Duration,
}

/// Demos of one part.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Other {
    /// Process flights with many workers, retries, dead letters, an alert and a redrive
    Pipeline(pipeline::Args),
}

/// The default of the client's own timeouts; a shorter `--timeout` shortens them.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// The number of nodes of the embedded cluster.
const NODES: u16 = 3;
/// The topic has one replica per broker, but no more than is usual in production.
const REPLICAS_MAX: usize = 3;

/// Runs the command.
pub(crate) async fn run(args: &Args, interrupt: &Interrupt) -> Result<(), Failure> {
    if let Some(Other::Pipeline(args)) = &args.other {
        return Box::pin(pipeline::run(args, interrupt)).await;
    }
    let data = args.data.clone();
    let opening = tokio::task::spawn_blocking(move || Flights::open(data.as_deref()));
    let opening = async { opening.await.map_err(|e| Failure::failed(e.to_string()))? };
    let flights = interrupt.or(opening).await?;
    let stage = interrupt.or(Stage::set(args)).await?;
    let records = Run::new(stage.topic.clone(), args.partitions, flights, args.records, args.rate);
    let ended = play(args, &stage, &Arc::new(records), interrupt).await;
    let cleared = tokio::select! {
        cleared = stage.clear(args) => cleared,
        () = interrupt.asked_again() => Ok(()),
    };
    ended.and(cleared)
}

/// The cluster of a run.
struct Ground {
    embedded: Option<Cluster>,
    client: Client,
    /// A description of the cluster.
    cluster: String,
    replicas: i16,
}

impl Ground {
    /// Connects to the cluster that the command line names, or to an embedded one.
    /// Its client counts in `metrics`.
    async fn find(
        bootstrap: Option<&str>,
        settings: &Settings,
        timeout: Duration,
        metrics: Option<&Registry>,
    ) -> Result<Self, Failure> {
        let is_named = bootstrap.is_some() || settings.name_a_cluster()?;
        let embedded = if is_named { None } else { Some(start_cluster().await?) };
        let own = Otherwise::Own(embedded.as_ref().map(|cluster| cluster.bootstrap().to_owned()));
        // A request may take as long as the run may be without progress.
        let millis = timeout.as_millis().max(1).to_string();
        let others = ["connect_timeout", "request_timeout", "api_timeout"].map(|name| (name, &millis));
        let others = Properties::from_iter(others.into_iter().filter(|_| timeout < TIMEOUT_DEFAULT));
        let builder = settings.resolve(others, bootstrap, own)?.client()?;
        let mut bootstrap = String::new();
        let builder = builder.settings(|settings| {
            bootstrap = settings.bootstrap.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        });
        let builder = match metrics {
            Some(registry) => builder.metrics(registry),
            None => builder,
        };
        let client = connect(builder, Some(timeout)).await?;
        let nodes = client.admin().describe_cluster().await?.brokers.len();
        let kind = if embedded.is_some() { "embedded, " } else { "" };
        let nodes_are = if nodes == 1 { "node" } else { "nodes" };
        let cluster = format!("{kind}{nodes} {nodes_are} at {bootstrap}");
        let replicas = nodes.clamp(1, REPLICAS_MAX) as i16;
        Ok(Self { embedded, client, cluster, replicas })
    }

    fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// Stops the embedded cluster.
    async fn end(self) -> Result<(), Failure> {
        match self.embedded {
            Some(cluster) => cluster.shutdown().await.map_err(|e| Failure::failed(e.to_string())),
            None => Ok(()),
        }
    }
}

/// The cluster, client and topic of a run.
struct Stage {
    ground: Ground,
    topic: String,
}

impl Stage {
    async fn set(args: &Args) -> Result<Self, Failure> {
        let ground = Ground::find(args.bootstrap.as_deref(), &args.settings, args.timeout, None).await?;
        let topic = unique_name();
        let new = NewTopic::new(&topic).partitions(args.partitions).replication(ground.replicas);
        ground.client.admin().create_topic(new).await?;
        Ok(Self { ground, topic })
    }

    /// Deletes the topic, unless it is to be kept, and stops the embedded cluster.
    async fn clear(self, args: &Args) -> Result<(), Failure> {
        let admin = self.ground.client.admin().timeout(args.timeout.min(GRACE));
        let deleted = match args.keep {
            false => admin.delete_topics([&self.topic]).await,
            true => Ok(Vec::new()),
        };
        if self.ground.is_embedded() {
            return self.ground.end().await;
        }
        for (_, deleted) in deleted? {
            deleted?;
        }
        Ok(())
    }
}

async fn start_cluster() -> Result<Cluster, Failure> {
    let builder = Broker::builder().nodes(NODES).default_replication(NODES as i16);
    // Members of a group need not wait for others that may come at the same time.
    let builder = builder.group_initial_rebalance_delay(Duration::ZERO);
    builder.start().await.map_err(|e| Failure::failed(format!("the embedded cluster cannot start: {e}")))
}

/// A name for topics that is unique to this run.
fn unique_name() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("milena-demo-{:x}-{:x}", now.as_micros(), std::process::id())
}

/// Runs the transfer, shows progress and prints the report.
async fn play(args: &Args, stage: &Stage, run: &Arc<Run>, interrupt: &Interrupt) -> Result<(), Failure> {
    let producer = stage.ground.client.producer().compression(args.compression.into()).build().await?;
    if !args.json {
        let codec = args.compression_name();
        say(&format!("cluster      {}\n", stage.ground.cluster))?;
        say(&format!(
            "topic        {} partitions, {} replicas, compression {codec}\n",
            args.partitions, stage.ground.replicas
        ))?;
    }
    let memory_before = memory::resident();
    let outcome = tokio::select! {
        outcome = transfer(run, &stage.ground.client, producer) => outcome?,
        failure = watch(args, run) => return Err(failure),
        () = interrupt.asked() => {
            let now = run.snapshot();
            let [acknowledged, delivered, all] =
                [now.acknowledged_count, now.delivered_count, now.record_count].map(Count);
            let message = format!("interrupted: acknowledged {acknowledged}, delivered {delivered} of {all}");
            return Err(Failure::new(Exit::Interrupted, message));
        }
    };
    let report = report(args, stage, run, outcome, memory_before);
    let text = if args.json {
        serde_json::to_string(&report).map_err(|e| Failure::failed(e.to_string()))?
    } else {
        report.to_string()
    };
    say(&(text + "\n"))?;
    if report.verified {
        return Ok(());
    }
    Err(Failure::new(
        Exit::CheckFailed,
        "not every record arrived once, intact and in order; the report names them",
    ))
}

fn say(text: &str) -> Result<(), Failure> {
    // If stdout is closed, the run goes on: its exit code still says how it ended.
    let (Reader::Listening | Reader::Gone) = print(text)?;
    Ok(())
}

/// Shows what is going on until nothing is; the failure says that nothing moves any more.
async fn watch(args: &Args, run: &Run) -> Failure {
    let progress = Progress::of(run.record_count.into());
    let lines = !progress.is_shown() && !args.json;
    let interval = if lines { LINE_INTERVAL } else { TICK };
    let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
    let mut earlier = run.snapshot();
    let (mut moved, mut moved_at) = (run.movement(), Instant::now());
    loop {
        tick.tick().await;
        let now = run.snapshot();
        if lines {
            if let Err(failure) = say(&format!("{:>5.1} s  {}\n", now.time.as_secs_f64(), now.line(&earlier)))
            {
                return failure;
            }
            earlier = now;
        } else {
            progress.show(now.delivered_count, now.short(&earlier));
            if now.time.saturating_sub(earlier.time) >= LINE_INTERVAL {
                earlier = now;
            }
        }
        match run.movement() {
            same if same == moved && moved_at.elapsed() >= args.timeout => {
                let [acknowledged, delivered] = [now.acknowledged_count, now.delivered_count].map(Count);
                let message = format!("no record was acknowledged or delivered for {:?}", args.timeout);
                return Failure::new(Exit::Unreachable, message).hint(format!(
                    "Acknowledged {acknowledged}, delivered {delivered} of {}.",
                    Count(now.record_count)
                ));
            }
            same if same == moved => {}
            now => (moved, moved_at) = (now, Instant::now()),
        }
    }
}

/// How often a line is printed without a terminal, and the time over which rates are computed on a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

fn report(
    args: &Args,
    stage: &Stage,
    run: &Run,
    outcome: Outcome,
    memory_before: Option<memory::Resident>,
) -> Report {
    let end = run.snapshot();
    let describe = |index: u32| {
        let row = run.flights.cycle().nth(index as usize % run.flights.row_count());
        let key = row.and_then(|row| run.flights.key(row)).unwrap_or("null");
        format!("record {index} (key {key})")
    };
    let Outcome { findings, sent_bytes, failed_count, first_failure, produce_time, consume_time } = outcome;
    let all_there = end.acknowledged_count == end.record_count && end.delivered_count == end.record_count;
    Report {
        topic: stage.topic.clone(),
        cluster: stage.ground.cluster.clone(),
        partitions: args.partitions.unsigned_abs(),
        replicas: stage.ground.replicas,
        compression: args.compression_name(),
        origin: run.flights.origin().to_owned(),
        record_count: end.record_count,
        record_bytes: sent_bytes,
        acknowledged_count: end.acknowledged_count,
        failed_count,
        first_failure,
        delivered_count: end.delivered_count,
        delivered_bytes: end.delivered_bytes,
        produce_seconds: produce_time.as_secs_f64(),
        consume_seconds: consume_time.as_secs_f64(),
        send_to_ack: end.to_ack,
        send_to_delivery: end.to_delivery,
        memory_before_bytes: memory_before.map(|m| m.now),
        memory_peak_bytes: end.memory.map(|m| m.peak),
        key_count: findings.key_count,
        verified: findings.is_clean() && all_there,
        faults: fault_counts(&findings, describe),
    }
}

impl Args {
    fn compression_name(&self) -> String {
        self.compression.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}
