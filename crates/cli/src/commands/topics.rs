//! `milena topics`: what topics there are, and how they are made and unmade.

use clap::Subcommand;

use crate::args::{Cluster, property};

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
