//! `milena registry`: a schema registry whose state is in a topic of a cluster.

use std::net::SocketAddr;

use milena_registry::server::{Error, Server};

use crate::cluster::Cluster;
use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::output::{Reader, print};

const EXAMPLES: &str = "\
Examples:
  milena registry                                   http://127.0.0.1:8081, on the cluster at localhost:9092
  milena registry -b broker:9092 --replication 3    schemas are kept on three brokers
  milena registry --topic _schemas_test             beside another registry

The first line on stdout is its URL; it is printed when it answers.
It has the API of Confluent's registry, for Avro, Protobuf and JSON Schema, and its topic is in the
format of Confluent's, which it can read. One registry at a time may write to a topic: another
`milena registry` on the same topic takes over, and this one refuses all requests from its next
write on. Confluent's registry must be stopped before.
It has no passwords and no TLS: it is for development and tests.";

/// Serves a schema registry until Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Listen here. An address that is not loopback needs --allow-anyone
    #[arg(short, long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    listen: SocketAddr,

    /// Let everyone who can reach --listen read, write and delete all schemas
    #[arg(long)]
    allow_anyone: bool,

    /// The topic with the schemas. It is made if it does not exist
    #[arg(short, long, default_value = "_schemas")]
    topic: String,

    /// The replicas of a topic that is made. Default: the brokers' own setting
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..))]
    replication: Option<i16>,

    #[command(flatten)]
    cluster: Cluster,
}

/// Runs the command.
pub(crate) async fn run(args: Args, interrupt: &Interrupt) -> Result<(), Failure> {
    let Args { listen, allow_anyone, topic, replication, cluster } = args;
    let connected = interrupt.or(async { cluster.connect().await }).await?;
    let builder = Server::builder(&connected.client).host(listen.ip()).port(listen.port());
    let builder = builder.topic(topic).allow_anyone(allow_anyone);
    let builder = match replication {
        Some(count) => builder.replication(count),
        None => builder,
    };
    let start = async {
        let started = builder.start().await;
        started.map_err(|error| start_failure(&error, "--listen 127.0.0.1:0 takes a free port."))
    };
    let registry = interrupt.or(start).await?;
    let (Reader::Listening | Reader::Gone) = print(&format!("{}\n", registry.url()))?;
    interrupt.asked().await;
    registry.close().await.map_err(|error| Failure::failed(error.to_string()))
}

/// `hint` is for an address that is taken.
pub(super) fn start_failure(error: &Error, hint: &str) -> Failure {
    if error.is_setting() {
        return Failure::new(Exit::Usage, error.to_string())
            .hint("Set --allow-anyone if everyone who reaches the address may change schemas.");
    }
    let failure = Failure::failed(error.to_string());
    if error.is_io() { failure.hint(hint) } else { failure }
}
