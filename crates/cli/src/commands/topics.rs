//! `milena topics`: lists, creates, describes and deletes topics, changes their settings, deletes their oldest records and shows what
//! they take on the disks of brokers.

mod config;
mod sizes;
mod truncate;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::Subcommand;
use milena::{
    Admin, ConfigEntry, ConfigResource, NewTopic, OffsetAt, PartitionDescription, Position, TopicDescription,
};
use serde::Serialize;

use crate::cluster::{Cluster, Connected, property};
use crate::exit::{Exit, Failure, summary};
use crate::interrupt::Interrupt;
use crate::output::{to_json, write_out};
use crate::units::Bytes;

/// List, create, describe and delete topics, change their settings, and delete their oldest records.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List all topics with their numbers of partitions and replicas
    #[command(visible_alias = "ls")]
    List {
        /// List Kafka's internal topics too
        #[arg(short, long)]
        internal: bool,
        /// Show how many bytes all replicas of each topic take
        #[arg(short, long)]
        sizes: bool,
        /// One JSON object a line
        #[arg(short = 'J', long)]
        json: bool,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Create topics
    #[command(after_help = "Example:\n  milena topics create orders -p 12 -c max.message.bytes=2000000")]
    Create {
        #[arg(required = true)]
        topics: Vec<String>,
        /// The number of partitions of each topic. Default: the broker's
        #[arg(short, long, value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        /// The number of replicas of each partition. Default: the broker's
        #[arg(short, long, value_parser = clap::value_parser!(i16).range(1..))]
        replicas: Option<i16>,
        /// A topic setting; may be repeated
        #[arg(short, long = "config", value_name = "NAME=VALUE", value_parser = property)]
        configs: Vec<(String, String)>,
        /// Succeed if a topic exists already
        #[arg(long)]
        if_not_exists: bool,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Show partitions with their leaders, replicas and offsets, and the settings that are not defaults
    Describe {
        #[arg(required = true)]
        topics: Vec<String>,
        /// Show all settings, also those with default values
        #[arg(short, long)]
        all_configs: bool,
        /// One JSON object a line
        #[arg(short = 'J', long)]
        json: bool,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Show the directories of brokers, with the sizes of the replicas in them and of their volumes
    LogDirs {
        /// One JSON object a line
        #[arg(short = 'J', long)]
        json: bool,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Show and change settings
    Config(config::Args),
    /// Delete the oldest records of partitions. Shows the plan; only --yes changes something
    Truncate(truncate::Args),
    /// Delete topics and all their records, without confirmation
    #[command(visible_alias = "rm")]
    Delete {
        #[arg(required = true)]
        topics: Vec<String>,
        /// Succeed if a topic does not exist
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
            | Self::LogDirs { cluster, .. }
            | Self::Delete { cluster, .. } => cluster,
            Self::Config(args) => args.cluster(),
            Self::Truncate(args) => &args.cluster,
        }
    }
}

impl Args {
    /// The cluster that the command takes something away from, and what.
    pub(crate) fn destroys(&self) -> Option<(&Cluster, &'static str)> {
        let what = match &self.command {
            Command::Delete { .. } => "deletes topics",
            Command::Truncate(args) if args.changes() => "deletes records",
            Command::Config(args) if args.changes() => "changes settings of topics",
            Command::List { .. }
            | Command::Create { .. }
            | Command::Describe { .. }
            | Command::LogDirs { .. }
            | Command::Config(_)
            | Command::Truncate(_) => return None,
        };
        Some((self.command.cluster(), what))
    }
}

/// Runs the command.
pub(crate) async fn run(args: Args, interrupt: &Interrupt) -> Result<(), Failure> {
    let changes = match &args.command {
        Command::Create { .. } | Command::Delete { .. } => true,
        Command::Config(args) => args.changes(),
        Command::Truncate(args) => args.changes(),
        Command::List { .. } | Command::Describe { .. } | Command::LogDirs { .. } => false,
    };
    interrupt.or(carry_out(args.command)).await.map_err(|failure| match failure.exit() {
        Exit::Interrupted if changes => {
            Failure::new(Exit::Interrupted, "interrupted: the topics may have been changed already")
        }
        _ => failure,
    })
}

async fn carry_out(command: Command) -> Result<(), Failure> {
    if let Command::Truncate(args) = &command {
        args.check()?;
    }
    let connected = command.cluster().connect().await?;
    let admin = connected.admin();
    match command {
        Command::List { internal, sizes, json, .. } => list(&admin, internal, sizes, json).await,
        Command::LogDirs { json, .. } => sizes::log_dirs(&admin, json).await,
        Command::Create { topics, partitions, replicas, configs, if_not_exists, .. } => {
            let new = topics.into_iter().map(|name| new_topic(name, partitions, replicas, &configs));
            let made = admin.create_topics(new).await?;
            summary("created", each(made, if_not_exists.then_some("TOPIC_ALREADY_EXISTS")))
        }
        Command::Describe { topics, all_configs, json, .. } => {
            let described = admin.describe_topics(topics).await?;
            let mut results = Vec::with_capacity(described.len());
            for (name, topic) in described {
                let topic = match topic {
                    Err(_) if connected.creates_topics => describe_topic(&connected, &name).await,
                    topic => topic.map_err(|error| no_topic(&name, error)),
                };
                results.push(match topic {
                    Ok(topic) => (name, describe(&admin, &topic, all_configs, json).await),
                    Err(failure) => (name, Err(failure)),
                });
            }
            summary("described", results)
        }
        Command::Config(args) => config::run(args, &admin).await,
        Command::Truncate(args) => truncate::run(args, &connected).await,
        Command::Delete { topics, if_exists, .. } => {
            let deleted = admin.delete_topics(topics).await?;
            summary("deleted", each(deleted, if_exists.then_some("UNKNOWN_TOPIC_OR_PARTITION")))
        }
    }
}

/// Describes a topic that must exist, or is created if `allow.auto.create.topics` is set.
pub(crate) async fn describe_topic(cluster: &Connected, name: &str) -> Result<TopicDescription, Failure> {
    let admin = cluster.admin();
    let mut described = describe_one(&admin, name).await;
    if cluster.creates_topics && described.as_ref().is_err_and(|failure| failure.exit() == Exit::NotFound) {
        // A describe request does not create the topic. Assigning a partition asks for its metadata in the way that does.
        drop(cluster.client.consumer_direct().assign([(name, 0)], Position::Latest).build().await?);
        described = describe_one(&admin, name).await;
    }
    let hint = "Create it with `milena topics create`, or let the broker create it with -X allow.auto.create.topics=true.";
    described.map_err(|failure| match failure.exit() {
        Exit::NotFound => failure.hint(hint),
        _ => failure,
    })
}

async fn describe_one(admin: &Admin, name: &str) -> Result<TopicDescription, Failure> {
    let described = admin.describe_topics([name]).await?;
    match described.into_iter().next() {
        Some((_, topic)) => topic.map_err(|error| no_topic(name, error)),
        None => Err(Failure::not_found(format!("topic {name:?} does not exist"))),
    }
}

/// The client's error, but without the client's advice if the topic does not exist: not every command wants it to exist.
fn no_topic(name: &str, error: milena::Error) -> Failure {
    match error.code_name() {
        Some("UNKNOWN_TOPIC_OR_PARTITION") => Failure::not_found(format!("topic {name:?} does not exist")),
        _ => error.into(),
    }
}

/// Fails if one of `partitions` does not exist.
pub(crate) fn check_partitions(
    topic: &TopicDescription,
    partitions: impl IntoIterator<Item = i32>,
) -> Result<(), Failure> {
    let is_unknown = |partition: &i32| !topic.partitions.iter().any(|p| p.index == *partition);
    match partitions.into_iter().find(is_unknown) {
        Some(unknown) => {
            Err(Failure::not_found(format!("topic {:?} has no partition {unknown}", topic.name))
                .hint(format!("It has {} partitions, counted from 0.", topic.partitions.len())))
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

/// One result for each topic; the error code `accepted` counts as success.
fn each(
    results: Vec<(String, Result<(), milena::Error>)>,
    accepted: Option<&str>,
) -> Vec<(String, Result<(), Failure>)> {
    let accept = |name: &str, result: Result<(), milena::Error>| match result {
        Err(error) if accepted.is_none() || error.code_name() != accepted => Err(no_topic(name, error)),
        _ => Ok(()),
    };
    results
        .into_iter()
        .map(|(name, result)| {
            let result = accept(&name, result);
            (name, result)
        })
        .collect()
}

#[derive(Serialize)]
struct Listed<'a> {
    topic: &'a str,
    partition_count: usize,
    replica_count: usize,
    is_internal: bool,
    /// Of all replicas, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

async fn list(admin: &Admin, internal: bool, sizes: bool, json: bool) -> Result<(), Failure> {
    let (sizes, incomplete) = match sizes {
        true => sizes::of_topics(admin).await.map(|(sizes, incomplete)| (Some(sizes), incomplete))?,
        false => (None, None),
    };
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
            bytes: sizes.as_ref().map(|sizes| sizes.get(&topic.name).copied().unwrap_or(0)),
        };
        // Writing into a String cannot fail.
        let _ = if json {
            writeln!(text, "{}", to_json(&listed)?)
        } else {
            let Listed { topic, partition_count, replica_count, bytes, .. } = listed;
            let size = bytes.map_or_else(String::new, |bytes| format!("  size {}", Bytes(bytes)));
            writeln!(text, "{topic:<width$}  partitions {partition_count}  replicas {replica_count}{size}")
        };
    }
    write_out(&text)?;
    incomplete.map_or(Ok(()), Err)
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
    /// Null if the leader did not answer.
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
