//! `milena broker`: the embedded broker in the foreground.

use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  milena broker                                     one node on 127.0.0.1:9092, in memory
  milena broker --nodes 3 --port 0                  three nodes on free ports
  milena broker --data-dir ./data --topic orders:12 on disk, with a topic of 12 partitions

The first line on stdout is the bootstrap address; it comes when the broker takes connections.
For development and tests: it has no replication to speak of, and listens on loopback unless told otherwise.";

/// Serves the Kafka protocol until Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// How many nodes, each on a port of its own
    #[arg(short, long, default_value = "1", value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) nodes: u16,

    /// The first node's port, the others follow; 0 takes free ones
    #[arg(short, long, default_value = "9092")]
    pub(crate) port: u16,

    /// The address to listen on; others than loopback can be reached by anyone on the network
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) host: std::net::IpAddr,

    /// Keep records here, in Kafka's own segment format; in memory otherwise
    #[arg(short, long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// Create a topic, repeatable
    #[arg(short, long = "topic", value_name = "NAME[:PARTITIONS[:REPLICAS]]", value_parser = topic)]
    pub(crate) topics: Vec<Topic>,
}

/// A topic to start with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) partitions: i32,
    /// As many as there are nodes, up to three, when not said.
    pub(crate) replicas: Option<i16>,
}

fn topic(text: &str) -> Result<Topic, String> {
    let wrong = || format!("{text:?} is no topic: write NAME, NAME:PARTITIONS or NAME:PARTITIONS:REPLICAS");
    let mut parts = text.split(':');
    let name = parts.next().filter(|n| !n.is_empty()).ok_or_else(wrong)?.to_owned();
    let mut number = || -> Result<Option<i32>, String> {
        parts.next().map(|n| n.parse().ok().filter(|n| *n > 0).ok_or_else(wrong)).transpose()
    };
    let partitions = number()?.unwrap_or(1);
    let replicas = number()?.map(i16::try_from).transpose().map_err(|_| wrong())?;
    if parts.next().is_some() {
        return Err(wrong());
    }
    Ok(Topic { name, partitions, replicas })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read() {
        let expect = |name: &str, partitions, replicas| Ok(Topic { name: name.into(), partitions, replicas });
        assert_eq!(topic("a"), expect("a", 1, None));
        assert_eq!(topic("a:12"), expect("a", 12, None));
        assert_eq!(topic("a:12:3"), expect("a", 12, Some(3)));
        for text in ["", ":1", "a:", "a:0", "a:-1", "a:x", "a:1:0", "a:1:99999", "a:1:1:1"] {
            assert!(topic(text).is_err(), "{text}");
        }
    }
}
