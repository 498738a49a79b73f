//! `milena demo`: real records through a cluster and back, every one of them checked.

mod flights;
mod latency;
mod ledger;
mod report;

use std::path::PathBuf;

use crate::args::{property, seconds};
use crate::commands::produce::Codec;

const EXAMPLES: &str = "\
Examples:
  milena demo                                   an embedded cluster of three nodes
  milena demo --bootstrap localhost:9092        any Kafka
  milena demo --records 5000000 --compression zstd
  milena demo --rate 20000                      latency below saturation";

/// Sends a year of flights as JSON, keyed by tail number, reads them back from all partitions in parallel while it
/// sends, and checks that every record arrived once, intact and in order.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A cluster to use; an embedded one of three nodes is started otherwise
    #[arg(short, long, value_name = "HOST:PORT")]
    pub(crate) bootstrap: Option<String>,

    /// How many records; all flights of the file otherwise. Beyond its end it starts over
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub(crate) records: Option<u32>,

    /// Partitions of the topic
    #[arg(short, long, default_value = "12", value_parser = clap::value_parser!(i32).range(1..=10_000))]
    pub(crate) partitions: i32,

    #[arg(short = 'z', long, value_name = "CODEC", default_value = "lz4")]
    pub(crate) compression: Codec,

    /// The flights, as CSV or gzipped CSV; a sample is built in
    #[arg(long, value_name = "FILE")]
    pub(crate) data: Option<PathBuf>,

    /// Send so many records a second; as many as possible otherwise
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<u32>,

    /// Leave the topic behind
    #[arg(long)]
    pub(crate) keep: bool,

    /// Print the report as one JSON object
    #[arg(short = 'J', long)]
    pub(crate) json: bool,

    /// A client setting by its Java or librdkafka name, repeatable
    #[arg(short = 'X', long = "property", value_name = "NAME=VALUE", value_parser = property)]
    pub(crate) properties: Vec<(String, String)>,

    /// Fail when nothing moves for so long, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) timeout: std::time::Duration,
}
