//! `milena broker`: the embedded broker in the foreground.

use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use milena_broker::Broker;
use tokio::net::lookup_host;

use crate::cluster::property;
use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::output::{Reader, print, tell};

const EXAMPLES: &str = "\
Examples:
  milena broker                                     one node on 127.0.0.1:9092, in memory
  milena broker --nodes 3 --port 0                  three nodes on free ports
  milena broker --data-dir ./data --topic orders:12 on disk, with a topic of 12 partitions
  milena broker -c group.consumer.heartbeat.interval.ms=500
                                                    groups that notice changes sooner
  milena broker --host 0.0.0.0 --advertised-host me for other machines, which reach this one as me

The first line on stdout is the bootstrap address; it is printed when the broker accepts connections.
The broker is for development and tests. It has no authentication, and all its nodes are this one process.";

/// Serves the Kafka protocol until Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The number of nodes; each has its own port
    #[arg(short, long, default_value = "1", value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) nodes: u16,

    /// The first node's port; the next nodes take the next ports. 0 takes free ports
    #[arg(short, long, default_value = "9092")]
    pub(crate) port: u16,

    /// The address or host name to listen on. Anyone on the network can reach an address that is not loopback
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) host: String,

    /// The host name or address that clients connect to. Default: the address of --host, or loopback if that is all
    /// addresses
    #[arg(long, value_name = "HOST", value_parser = advertised_host)]
    pub(crate) advertised_host: Option<String>,

    /// The directory for records, in Kafka's segment format. Default: records are kept in memory
    #[arg(short, long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// Create a topic if it does not exist, with one partition by default; may be repeated
    #[arg(short, long = "topic", value_name = "NAME[:PARTITIONS]", value_parser = topic)]
    pub(crate) topics: Vec<Topic>,

    /// Set a broker config by Kafka's name, such as group.min.session.timeout.ms or log.retention.ms; may be repeated
    #[arg(short, long = "config", value_name = "NAME=VALUE", value_parser = property)]
    pub(crate) configs: Vec<(String, String)>,
}

/// A topic to start with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Topic {
    name: String,
    partitions: i32,
}

fn topic(text: &str) -> Result<Topic, String> {
    let (name, partitions) = text.split_once(':').unwrap_or((text, "1"));
    match partitions.parse() {
        Ok(partitions) if partitions > 0 && !name.is_empty() => Ok(Topic { name: name.into(), partitions }),
        _ => Err("write NAME or NAME:PARTITIONS, as in orders:12".into()),
    }
}

fn advertised_host(text: &str) -> Result<String, String> {
    let is_wrong = |c: char| c.is_whitespace() || c.is_control() || ['/', ',', '[', ']'].contains(&c);
    // A colon is allowed in an IPv6 address only. A port is refused, because each node has its own.
    let has_port = text.contains(':') && text.parse::<Ipv6Addr>().is_err();
    if text.is_empty() || text.len() > 255 || has_port || text.contains(is_wrong) {
        return Err("write a host name or an address, without a port".into());
    }
    Ok(text.into())
}

/// The address to listen on: `host` itself, or an address of that name, IPv4 if there is one.
async fn address(host: &str) -> Result<IpAddr, Failure> {
    if let Ok(address) = host.parse() {
        return Ok(address);
    }
    let wrong = |why: &str| Failure::usage(format!("--host {host}: {why}"));
    let found = lookup_host((host, 0)).await.map_err(|error| wrong(&error.to_string()))?;
    let mut addresses: Vec<_> = found.map(|address| address.ip()).collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses.first().copied().ok_or_else(|| wrong("the name has no address"))
}

/// Runs the command.
pub(crate) async fn run(args: &Args, interrupt: &Interrupt) -> Result<(), Failure> {
    if args.port != 0 && args.port.checked_add(args.nodes - 1).is_none() {
        let message = format!("{} nodes from port {} need ports above 65535", args.nodes, args.port);
        return Err(Failure::usage(message));
    }
    let host = interrupt.or(address(&args.host)).await?;
    let mut builder = Broker::builder()
        .nodes(args.nodes)
        .port(args.port)
        .host(host)
        .default_replication(args.nodes.min(REPLICAS_MAX) as i16);
    if let Some(host) = &args.advertised_host {
        builder = builder.advertised_host(host);
    }
    if let Some(dir) = &args.data_dir {
        builder = builder.data_dir(dir);
    }
    builder = args.configs.iter().fold(builder, |builder, (name, value)| builder.config(name, value));
    let start = async { builder.start().await.map_err(|error| start_failure(&error, args)) };
    let cluster = interrupt.or(start).await?;
    if host.is_unspecified() && args.advertised_host.is_none() {
        tell(format_args!(
            "clients will connect to {}, which only works on this machine; set --advertised-host for others",
            cluster.bootstrap()
        ));
    }
    for Topic { name, partitions } in &args.topics {
        // With --data-dir it may exist from an earlier run.
        if cluster.leader(name, 0).is_none() {
            cluster.create_topic(name, *partitions).map_err(|error| {
                let exit = if error.is_io() || error.is_damaged() { Exit::Failed } else { Exit::Usage };
                Failure::new(exit, format!("--topic {name}: {error}"))
            })?;
        }
    }
    // A closed stdout does not stop the broker: a program that started it with a fixed port need not read the line.
    let (Reader::Listening | Reader::Gone) = print(&format!("{}\n", cluster.bootstrap()))?;
    interrupt.asked().await;
    cluster.shutdown().await.map_err(|error| Failure::failed(error.to_string()))
}

/// The most replicas that a topic has by default. All nodes are one process, so more would not protect records.
const REPLICAS_MAX: u16 = 3;

fn start_failure(error: &milena_broker::Error, args: &Args) -> Failure {
    // What is left is a setting that it cannot have.
    let exit = if error.is_io() || error.is_damaged() { Exit::Failed } else { Exit::Usage };
    let failure = Failure::new(exit, format!("the broker cannot start: {error}"));
    if error.is_damaged() {
        return failure
            .hint("Nothing on disk was changed. Choose another --data-dir, or move the damaged file away.");
    }
    if args.port != 0 && error.is_io() {
        return failure.hint("If the port is taken, --port 0 takes a free one.");
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advertised_hosts_have_no_port() {
        for text in ["kafka.lan", "10.0.0.1", "fe80::1", "localhost"] {
            assert_eq!(advertised_host(text).as_deref(), Ok(text));
        }
        for text in ["", "kafka:9092", "a b", "a,b", "[::1]", "http://a", "a\n"] {
            assert!(advertised_host(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn topics_are_read() {
        let expect = |name: &str, partitions| Ok(Topic { name: name.into(), partitions });
        assert_eq!(topic("a"), expect("a", 1));
        assert_eq!(topic("a:12"), expect("a", 12));
        for text in ["", ":1", "a:", "a:0", "a:-1", "a:x", "a:1:1"] {
            assert!(topic(text).is_err(), "{text}");
        }
    }
}
