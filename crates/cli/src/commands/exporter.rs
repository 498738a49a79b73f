//! `milena exporter`: metrics of a cluster for Prometheus.

use std::net::SocketAddr;
use std::time::Duration;

use clap::ValueEnum;
use milena_observe::exporter::{Chosen, Exporter, Names, Plan};
use regex::Regex;

use crate::cluster::{Cluster, seconds};
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::output::{tell, write_out};

const HELP: &str = "\
Examples:
  milena exporter                                        http://127.0.0.1:9308/metrics
  milena exporter --names kafka_exporter                 for the dashboards of kafka_exporter
  milena exporter --topics 'orders|payments' --probe milena-probe

It asks the cluster each --interval, and scrapes get what was seen last: topics with offsets,
leaders, replicas, sizes in bytes and what open transactions hold back; groups with members,
state, committed offsets, lag in records and in time, and Burrow's statuses. Lag ends at the high
watermark, or at the last stable offset for groups of --read-committed: brokers do not know how a
group reads. Sizes need the right Describe on the cluster. A probe writes a record each second to
a topic of its own, which must exist, and counts what comes back late (after 5 s) or not (within
60 s).

Metrics are told to everyone who can connect to the address, and show names of topics and groups.";

/// Serve metrics of topics, groups and lag to Prometheus, until Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// Listen here
    #[arg(short, long, value_name = "ADDRESS", default_value = "127.0.0.1:9308")]
    listen: SocketAddr,

    /// Ask the cluster each SECONDS
    #[arg(short, long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    interval: Duration,

    /// Whose names the metrics have
    #[arg(long, value_name = "WHOSE", default_value = "milena")]
    names: Whose,

    /// Only topics whose whole names match
    #[arg(long, value_name = "PATTERN", value_parser = whole)]
    topics: Option<Regex>,

    /// Only groups whose whole names match
    #[arg(long, value_name = "PATTERN", value_parser = whole)]
    groups: Option<Regex>,

    /// Groups that read with isolation.level=read_committed: their lag ends at the last stable offset
    #[arg(long, value_name = "PATTERN", value_parser = whole)]
    read_committed: Option<Regex>,

    /// Kafka's internal topics too
    #[arg(long)]
    internal: bool,

    /// Export lag for N partitions of groups at most
    #[arg(long, value_name = "N", default_value_t = Plan::default().pairs_max)]
    pairs_max: usize,

    /// Write a record each second to this topic, and read it back
    #[arg(long, value_name = "TOPIC")]
    probe: Option<String>,

    #[command(flatten)]
    cluster: Cluster,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Whose {
    Milena,
    #[value(name = "kafka_exporter", alias = "kafka-exporter")]
    KafkaExporter,
    Kminion,
}

fn whole(pattern: &str) -> Result<Regex, String> {
    Regex::new(&format!("^(?:{pattern})$")).map_err(|error| error.to_string())
}

fn chosen(pattern: Option<Regex>) -> Chosen {
    pattern.map_or_else(Chosen::default, |pattern| Chosen::by(move |name| pattern.is_match(name)))
}

/// Runs the command.
pub(crate) async fn run(args: Args, interrupt: &Interrupt) -> Result<(), Failure> {
    let Args { listen, interval, names, topics, groups, read_committed, internal, pairs_max, probe, cluster } =
        args;
    let connected = interrupt.or(async { cluster.connect().await }).await?;
    let names = match names {
        Whose::Milena => Names::Milena,
        Whose::KafkaExporter => Names::KafkaExporter,
        Whose::Kminion => Names::Kminion,
    };
    let (topics, groups) = (chosen(topics), chosen(groups));
    let read_committed = read_committed.map_or_else(Chosen::none, |pattern| chosen(Some(pattern)));
    let plan = Plan { interval, names, internal, topics, groups, read_committed, pairs_max, probe };
    let exporter = Exporter::new(connected.client, plan);
    let server = milena_observe::serve(listen, exporter.clone()).await;
    let server = server.map_err(|error| Failure::failed(format!("cannot listen at {listen}: {error}")))?;
    write_out(&format!("http://{}/metrics\n", server.address()))?;
    let running = async {
        exporter.run(|error| tell(error)).await;
        Ok::<_, Failure>(())
    };
    interrupt.or(running).await
}
