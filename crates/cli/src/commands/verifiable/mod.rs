//! `milena verifiable-consumer` and `verifiable-producer`: what Kafka's own system tests (kafkatest) start in place of Java's
//! VerifiableConsumer and VerifiableProducer. Options, events and their fields are those of Java's tools.
//!
//! Each event is a JSON object on a line of stdout, at once; everything else goes to stderr.

pub(crate) mod consumer;
pub(crate) mod producer;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use milena::{Client, Properties};
use serde::Serialize;

use crate::cluster::connect;
use crate::exit::{Exit, Failure};
use crate::output::{to_json, write_out};

/// How both tools reach the cluster.
#[derive(Debug, clap::Args)]
struct Connection {
    /// The brokers to connect to first, HOST:PORT[,HOST:PORT...]
    #[arg(long, value_name = "HOST:PORT", required = true, visible_alias = "broker-list")]
    bootstrap_server: String,

    /// A file of client settings, which the options override
    #[arg(long, value_name = "FILE", visible_aliases = ["consumer.config", "producer.config"])]
    command_config: Option<PathBuf>,
}

impl Connection {
    /// Connects with the settings of the file and these.
    async fn connect(&self, settings: &[(&str, String)]) -> Result<Client, Failure> {
        let read = |file: &Path| {
            let exit = if file.exists() { Exit::Usage } else { Exit::NotFound };
            Properties::read(file).map_err(|error| Failure::from(error).with_exit(exit))
        };
        let mut properties = self.command_config.as_deref().map_or_else(|| Ok(Properties::new()), read)?;
        for (name, value) in settings {
            properties.set(*name, value);
        }
        let builder = properties.client().map_err(|error| Failure::usage(error.to_string()))?;
        connect(builder.bootstrap(&self.bootstrap_server), None).await
    }
}

#[derive(Serialize)]
struct Event<'a, B> {
    /// Milliseconds since 1970.
    timestamp: i64,
    name: &'a str,
    #[serde(flatten)]
    body: B,
}

/// The body of an event that has none.
#[derive(Serialize)]
struct Nothing {}

/// Writes an event.
fn tell_event(name: &str, body: impl Serialize) -> Result<(), Failure> {
    let timestamp = Timestamp::now().as_millisecond();
    write_out(&(to_json(&Event { timestamp, name, body })? + "\n"))
}
