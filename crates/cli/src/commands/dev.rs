//! `milena dev`: the embedded broker and a schema registry in one process.

use std::path::PathBuf;

use milena::Client;
use milena_registry::server::Server;

use super::broker::{self, Topic};
use super::registry::start_failure;
use crate::cluster::property;
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::output::{Reader, print};

const EXAMPLES: &str = "\
Examples:
  milena dev                                        Kafka on 127.0.0.1:9092, schemas on http://127.0.0.1:8081
  milena dev --port 0 --registry-port 0             both on free ports
  milena dev --data-dir ./data --topic orders:12    what is written stays

The first line on stdout is the bootstrap address, the second the URL of the registry. They are
printed when both answer.
The registry has the API of Confluent's, for Avro, Protobuf and JSON Schema, and keeps its schemas
in the topic _schemas. Nothing asks for a password, so only programs on this machine can connect:
`milena broker` has SASL, TLS and ACLs, and `milena registry` runs on any cluster.";

/// Serves Kafka's protocol and a schema registry until Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The port of the broker; further nodes take the next ports. 0 takes free ports
    #[arg(short, long, default_value = "9092")]
    port: u16,

    /// The port of the registry. 0 takes a free one
    #[arg(short, long, value_name = "PORT", default_value = "8081")]
    registry_port: u16,

    /// The number of nodes
    #[arg(short, long, default_value = "1", value_parser = clap::value_parser!(u16).range(1..=100))]
    nodes: u16,

    /// The directory for records, in Kafka's segment format. Default: records and schemas are kept in memory
    #[arg(short, long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Create a topic if it does not exist, with one partition by default; may be repeated
    #[arg(short, long = "topic", value_name = "NAME[:PARTITIONS]", value_parser = broker::topic)]
    topics: Vec<Topic>,

    /// Set a broker config by Kafka's name, such as log.retention.ms; may be repeated
    #[arg(short, long = "config", value_name = "NAME=VALUE", value_parser = property)]
    configs: Vec<(String, String)>,
}

/// Runs the command.
pub(crate) async fn run(args: Args, interrupt: &Interrupt) -> Result<(), Failure> {
    let Args { port, registry_port, nodes, data_dir, topics, configs } = args;
    let cluster = broker::Args {
        nodes,
        port,
        host: "127.0.0.1".into(),
        advertised_host: None,
        allow_anyone: false,
        sasl: Vec::new(),
        users: None,
        oauth_jwks: None,
        oauth_issuer: None,
        oauth_audience: Vec::new(),
        tls: None,
        tls_certificate: None,
        tls_key: None,
        tls_clients: None,
        acl: false,
        super_users: Vec::new(),
        client_metrics: None,
        data_dir,
        topics,
        configs,
    };
    let cluster = broker::start(&cluster, interrupt).await?;
    let start = async {
        let client = Client::connect(cluster.bootstrap()).await.map_err(Failure::from)?;
        let registry = Server::builder(&client).port(registry_port).start().await;
        registry.map_err(|error| start_failure(&error, "--registry-port 0 takes a free port."))
    };
    let registry = interrupt.or(start).await?;
    // A closed stdout stops neither: a program that started them with fixed ports need not read the lines.
    let lines = format!("{}\n{}\n", cluster.bootstrap(), registry.url());
    let (Reader::Listening | Reader::Gone) = print(&lines)?;
    interrupt.asked().await;
    // The broker has to be there for the registry's last write.
    let registry = registry.close().await.map_err(|error| Failure::failed(error.to_string()));
    let cluster = cluster.shutdown().await.map_err(|error| Failure::failed(error.to_string()));
    registry.and(cluster)
}
