//! `milena consume`: records in, bytes out.

use crate::args::Cluster;
use crate::{format, json, offsets};

const EXAMPLES: &str = "\
Examples:
  milena consume orders -e                              all there is, then stop
  milena consume orders -o end                          what comes from now on
  milena consume orders -o -10 -c 10 -p 0               the last ten of partition 0
  milena consume orders -o @-1h --until @now            the last hour
  milena consume orders -f '%p:%o %T %k=%s\\n'           one's own format
  milena consume orders -e --json | jq .value           JSON lines";

/// Partitions are read in parallel: the order within each is kept, the order between them is not.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = [EXAMPLES, offsets::HELP, format::HELP, json::HELP].join("\n\n"),
    after_help = [EXAMPLES, "Offsets, format strings and the JSON lines are explained by --help."].join("\n\n")
)]
pub(crate) struct Args {
    /// The topic
    pub(crate) topic: String,

    /// Only these partitions: 0,2,5-7
    #[arg(short, long, value_name = "LIST")]
    pub(crate) partitions: Option<String>,

    /// Where to start: beginning, end, N, -N (before the end), @TIME; see --help
    #[arg(short, long, default_value = "beginning", allow_hyphen_values = true)]
    pub(crate) offset: String,

    /// Where to stop, in the same words; this offset is not read
    #[arg(short, long, value_name = "OFFSET", visible_alias = "to", allow_hyphen_values = true)]
    pub(crate) until: Option<String>,

    /// Stop at the end that each partition has now; the same as --until end
    #[arg(short = 'e', long, conflicts_with = "until")]
    pub(crate) exit_at_end: bool,

    /// Stop after so many records
    #[arg(short, long, value_name = "N")]
    pub(crate) count: Option<u64>,

    /// How to write a record: %t %p %o %k %s %h %T and more; see --help
    #[arg(short, long)]
    pub(crate) format: Option<String>,

    /// Write JSON lines, which produce --json reads back without loss
    #[arg(short = 'J', long, conflicts_with_all = ["format", "key_delimiter", "delimiter", "null", "null_is_null"])]
    pub(crate) json: bool,

    /// Write this after each value, in place of a line feed
    #[arg(short = 'D', long, value_name = "DELIMITER", default_value = "\\n", conflicts_with = "format")]
    pub(crate) delimiter: String,

    /// Write the key and this in front of each value
    #[arg(short = 'K', long, value_name = "DELIMITER", conflicts_with = "format")]
    pub(crate) key_delimiter: Option<String>,

    /// Write null keys, values and header values as MARKER; nothing is written for them otherwise
    #[arg(long, value_name = "MARKER")]
    pub(crate) null: Option<String>,

    /// Write them as NULL; the same as --null NULL
    #[arg(short = 'Z', conflicts_with = "null")]
    pub(crate) null_is_null: bool,

    #[command(flatten)]
    pub(crate) cluster: Cluster,
}
