//! `milena produce`: lines in, records out.

use std::path::PathBuf;

use clap::ValueEnum;

use crate::args::Cluster;
use crate::json;

const EXAMPLES: &str = "\
Examples:
  echo hello | milena produce greetings
  milena produce orders -K: < orders.txt              each line is KEY:VALUE
  milena produce orders -H source=import orders.txt   every record gets a header
  milena consume a --json -e | milena produce b --json";

/// Each line of the input becomes a record. The exit code says whether all were acknowledged.
#[derive(Debug, clap::Args)]
#[command(after_long_help = [EXAMPLES, json::HELP].join("\n\n"), after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The topic
    pub(crate) topic: String,

    /// The file to read, - for stdin
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,

    /// Every line is a JSON object with value, key, headers, partition, timestamp
    #[arg(short = 'J', long, conflicts_with_all = ["key_delimiter", "delimiter", "null", "empty_is_null"])]
    pub(crate) json: bool,

    /// Ends a record, in place of the line feed; an empty one makes the whole input one record
    #[arg(short = 'D', long, value_name = "DELIMITER", default_value = "\\n")]
    pub(crate) delimiter: String,

    /// Ends the key in front of the value; a line without it has a null key
    #[arg(short = 'K', long, value_name = "DELIMITER")]
    pub(crate) key_delimiter: Option<String>,

    /// The key of every record that has none of its own
    #[arg(short, long)]
    pub(crate) key: Option<String>,

    /// A header for every record, repeatable; without = its value is null
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE")]
    pub(crate) headers: Vec<String>,

    /// Send keys and values that equal MARKER as null
    #[arg(long, value_name = "MARKER")]
    pub(crate) null: Option<String>,

    /// Send empty keys and values as null; the same as --null ''
    #[arg(short = 'Z', conflicts_with = "null")]
    pub(crate) empty_is_null: bool,

    /// The partition of every record; by the key's hash otherwise, or as a JSON line says
    #[arg(short, long)]
    pub(crate) partition: Option<i32>,

    /// Let the key's hash choose even where a JSON line names a partition
    #[arg(long, requires = "json", conflicts_with = "partition")]
    pub(crate) repartition: bool,

    #[arg(short = 'z', long, value_name = "CODEC", default_value = "none")]
    pub(crate) compression: Codec,

    /// Who must have a record before it counts: all in-sync replicas, 1 (the leader), 0 (nobody)
    #[arg(long, default_value = "all")]
    pub(crate) acks: Acks,

    /// Say nothing when all went well
    #[arg(short, long)]
    pub(crate) quiet: bool,

    #[command(flatten)]
    pub(crate) cluster: Cluster,
}

/// How batches are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Acks {
    #[value(name = "0")]
    Nobody,
    #[value(name = "1")]
    Leader,
    #[value(alias = "-1")]
    All,
}
