//! `milena topics`: what topics there are, and how they are made and unmade.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use clap::Subcommand;
use milena::{
    Admin, Client, ConfigEntry, ConfigResource, NewTopic, OffsetAt, PartitionDescription, TopicDescription,
};
use serde::Serialize;

use crate::args::{Cluster, property};
use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::output::{Reader, print};

/// List, create, describe and delete topics.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The names, partitions and replicas of all topics
    #[command(visible_alias = "ls")]
    List {
        /// Those that Kafka keeps for itself as well
        #[arg(short, long)]
        internal: bool,
        /// One JSON object a line
        #[arg(short = 'J', long)]
        json: bool,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Create topics
    #[command(after_help = "Example:\n  milena topics create orders -p 12 -c retention.ms=3600000")]
    Create {
        #[arg(required = true)]
        topics: Vec<String>,
        /// Partitions of each; the broker's default otherwise
        #[arg(short, long, value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        /// Replicas of each partition; the broker's default otherwise
        #[arg(short, long, value_parser = clap::value_parser!(i16).range(1..))]
        replicas: Option<i16>,
        /// A topic setting, repeatable
        #[arg(short, long = "config", value_name = "NAME=VALUE", value_parser = property)]
        configs: Vec<(String, String)>,
        /// Succeed where a topic exists already
        #[arg(long)]
        if_not_exists: bool,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Partitions with their leaders, replicas and offsets, and the settings that are not defaults
    Describe {
        #[arg(required = true)]
        topics: Vec<String>,
        /// All settings, defaults too
        #[arg(short, long)]
        all_configs: bool,
        /// One JSON object a line
        #[arg(short = 'J', long)]
        json: bool,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Delete topics and all their records, without asking
    #[command(visible_alias = "rm")]
    Delete {
        #[arg(required = true)]
        topics: Vec<String>,
        /// Succeed where a topic does not exist
        #[arg(long)]
        if_exists: bool,
        #[command(flatten)]
        cluster: Cluster,
    },
}

impl Command {
    fn cluster(&self) -> &Cluster {
        match self {
            Self::List { cluster, .. }
            | Self::Create { cluster, .. }
            | Self::Describe { cluster, .. }
            | Self::Delete { cluster, .. } => cluster,
        }
    }
}

/// Runs the command.
pub(crate) async fn run(args: Args, interrupt: &Interrupt) -> Result<(), Failure> {
    tokio::select! {
        ended = carry_out(args.command) => ended,
        () = interrupt.asked() => Err(Failure::interrupted()),
    }
}

async fn carry_out(command: Command) -> Result<(), Failure> {
    let cluster = command.cluster();
    let admin = cluster.connect().await?.admin().timeout(cluster.timeout);
    match command {
        Command::List { internal, json, .. } => list(&admin, internal, json).await,
        Command::Create { topics, partitions, replicas, configs, if_not_exists, .. } => {
            let new = topics.into_iter().map(|name| new_topic(name, partitions, replicas, &configs));
            let made = admin.create_topics(new).await?;
            summary(each(made, if_not_exists.then_some("TOPIC_ALREADY_EXISTS")))
        }
        Command::Describe { topics, all_configs, json, .. } => {
            let described = admin.describe_topics(topics).await?;
            let mut results = Vec::with_capacity(described.len());
            for (_, topic) in described {
                results.push(match topic {
                    Ok(topic) => describe(&admin, &topic, all_configs, json).await,
                    Err(error) => Err(error.into()),
                });
            }
            summary(results)
        }
        Command::Delete { topics, if_exists, .. } => {
            let deleted = admin.delete_topics(topics).await?;
            summary(each(deleted, if_exists.then_some("UNKNOWN_TOPIC_OR_PARTITION")))
        }
    }
}

/// What the cluster says of a topic that must exist.
pub(crate) async fn describe_topic(
    client: &Client,
    name: &str,
    timeout: Duration,
) -> Result<TopicDescription, Failure> {
    let described = client.admin().timeout(timeout).describe_topics([name]).await?;
    match described.into_iter().next() {
        Some((_, topic)) => Ok(topic?),
        None => Err(Failure::not_found(format!("nobody knows topic {name:?}"))),
    }
}

/// Fails where one of `partitions` does not exist.
pub(crate) fn check_partitions(
    topic: &TopicDescription,
    partitions: impl IntoIterator<Item = i32>,
) -> Result<(), Failure> {
    let is_unknown = |partition: &i32| !topic.partitions.iter().any(|p| p.index == *partition);
    match partitions.into_iter().find(is_unknown) {
        Some(unknown) => {
            Err(Failure::not_found(format!("topic {:?} has no partition {unknown}", topic.name))
                .hint(format!("It has {}, counted from 0.", topic.partitions.len())))
        }
        None => Ok(()),
    }
}

fn new_topic(
    name: String,
    partitions: Option<i32>,
    replicas: Option<i16>,
    configs: &[(String, String)],
) -> NewTopic {
    let mut topic = NewTopic::new(name);
    topic = partitions.into_iter().fold(topic, NewTopic::partitions);
    topic = replicas.into_iter().fold(topic, NewTopic::replication);
    configs.iter().fold(topic, |topic, (name, value)| topic.config(name, value))
}

/// One result for each topic; what failed because of `accepted` has not.
fn each(
    results: Vec<(String, Result<(), milena::Error>)>,
    accepted: Option<&str>,
) -> Vec<Result<(), Failure>> {
    let accept = |result: Result<(), milena::Error>| match result {
        Err(error) if accepted.is_none() || error.code_name() != accepted => Err(error.into()),
        _ => Ok(()),
    };
    results.into_iter().map(|(_, result)| accept(result)).collect()
}

/// One result for all: every failure's sentence, and a code that tells some from all.
fn summary(results: Vec<Result<(), Failure>>) -> Result<(), Failure> {
    let count = results.len();
    let failures: Vec<Failure> = results.into_iter().filter_map(Result::err).collect();
    let Some(first) = failures.first() else { return Ok(()) };
    let exit = if failures.len() < count { Exit::Partial } else { first.exit() };
    let sentences: Vec<String> = failures.iter().map(ToString::to_string).collect();
    Err(Failure::new(exit, sentences.join("\n       ")))
}

#[derive(Serialize)]
struct Listed<'a> {
    topic: &'a str,
    partition_count: usize,
    replica_count: usize,
    is_internal: bool,
}

async fn list(admin: &Admin, internal: bool, json: bool) -> Result<(), Failure> {
    let mut topics = admin.topics().await?;
    topics.retain(|topic| internal || !topic.is_internal);
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    let width = topics.iter().map(|t| t.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for topic in &topics {
        let listed = Listed {
            topic: &topic.name,
            partition_count: topic.partitions.len(),
            replica_count: topic.partitions.iter().map(|p| p.replicas.len()).max().unwrap_or(0),
            is_internal: topic.is_internal,
        };
        // Writing into a String cannot fail.
        let _ = if json {
            writeln!(text, "{}", to_json(&listed)?)
        } else {
            let Listed { topic, partition_count, replica_count, .. } = listed;
            writeln!(text, "{topic:<width$}  partitions {partition_count}  replicas {replica_count}")
        };
    }
    write_out(&text)
}

#[derive(Serialize)]
struct Described<'a> {
    topic: &'a str,
    id: Option<&'a str>,
    is_internal: bool,
    partitions: Vec<DescribedPartition<'a>>,
    configs: BTreeMap<&'a str, DescribedConfig<'a>>,
}

#[derive(Serialize)]
struct DescribedPartition<'a> {
    partition: i32,
    leader: Option<i32>,
    leader_epoch: Option<i32>,
    replicas: &'a [i32],
    isr: &'a [i32],
    offline: &'a [i32],
    /// Null where the leader did not say.
    beginning_offset: Option<i64>,
    end_offset: Option<i64>,
}

#[derive(Serialize)]
struct DescribedConfig<'a> {
    value: Option<&'a str>,
    is_default: bool,
}

async fn describe(
    admin: &Admin,
    topic: &TopicDescription,
    all_configs: bool,
    json: bool,
) -> Result<(), Failure> {
    let configs = admin.describe_configs(&ConfigResource::Topic(topic.name.clone())).await?;
    let beginnings = offsets(admin, topic, OffsetAt::Earliest).await?;
    let ends = offsets(admin, topic, OffsetAt::Latest).await?;
    let shown = |config: &&ConfigEntry| all_configs || !config.is_default;
    let described = Described {
        topic: &topic.name,
        id: topic.id.as_deref(),
        is_internal: topic.is_internal,
        partitions: topic.partitions.iter().map(|p| described_partition(p, &beginnings, &ends)).collect(),
        configs: configs
            .iter()
            .filter(shown)
            .map(|c| {
                (c.name.as_str(), DescribedConfig { value: c.value.as_deref(), is_default: c.is_default })
            })
            .collect(),
    };
    write_out(&if json { to_json(&described)? + "\n" } else { described.text() })
}

async fn offsets(
    admin: &Admin,
    topic: &TopicDescription,
    at: OffsetAt,
) -> Result<BTreeMap<i32, i64>, milena::Error> {
    let partitions = topic.partitions.iter().map(|p| (&topic.name, p.index));
    let found = admin.list_offsets(partitions, at).await?;
    Ok(found.into_iter().filter_map(|((_, partition), offset)| Some((partition, offset.ok()??))).collect())
}

fn described_partition<'a>(
    partition: &'a PartitionDescription,
    beginnings: &BTreeMap<i32, i64>,
    ends: &BTreeMap<i32, i64>,
) -> DescribedPartition<'a> {
    DescribedPartition {
        partition: partition.index,
        leader: partition.leader,
        leader_epoch: partition.leader_epoch,
        replicas: &partition.replicas,
        isr: &partition.isr,
        offline: &partition.offline,
        beginning_offset: beginnings.get(&partition.index).copied(),
        end_offset: ends.get(&partition.index).copied(),
    }
}

impl Described<'_> {
    fn text(&self) -> String {
        let mut text = format!("{}\n", self.topic);
        let row = |cells: [&str; 6]| {
            let [partition, leader, replicas, isr, beginning, end] = cells;
            format!("  {partition:>9}  {leader:>6}  {replicas:<12}  {isr:<12}  {beginning:>10}  {end:>10}\n")
        };
        text += &row(["partition", "leader", "replicas", "in sync", "beginning", "end"]);
        for p in &self.partitions {
            let number = |n: Option<i64>| n.map_or_else(|| "?".into(), |n| n.to_string());
            let leader = p.leader.map_or_else(|| "none".into(), |l| l.to_string());
            let (beginning, end) = (number(p.beginning_offset), number(p.end_offset));
            text +=
                &row([&p.partition.to_string(), &leader, &ids(p.replicas), &ids(p.isr), &beginning, &end]);
        }
        for (name, config) in &self.configs {
            let _ = writeln!(text, "  {name}={}", config.value.unwrap_or_default());
        }
        text
    }
}

fn ids(ids: &[i32]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn to_json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|e| Failure::failed(e.to_string()))
}

fn write_out(text: &str) -> Result<(), Failure> {
    match print(text)? {
        Reader::Listening | Reader::Gone => Ok(()),
    }
}
