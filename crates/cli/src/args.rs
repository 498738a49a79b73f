//! The command line's shape: the commands and what they share. Each command's own arguments are beside the command.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use milena::{Client, ClientBuilder};

use crate::commands::{broker, consume, produce, topics};
use crate::exit::{Exit, Failure};
use crate::{demo, exit};

/// Kafka from the command line, with a broker inside.
#[derive(Debug, Parser)]
#[command(
    name = "milena",
    version,
    max_term_width = 110,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = exit::HELP,
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Send real records through a cluster, read them back, and prove that none was lost
    Demo(demo::Args),
    /// Run a broker, or several, in this process
    Broker(broker::Args),
    /// List, create, describe and delete topics
    Topics(topics::Args),
    /// Send records from stdin or a file
    Produce(produce::Args),
    /// Read records to stdout
    Consume(consume::Args),
}

/// How to reach a cluster; the same for every command that does.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct Cluster {
    /// Where to reach the cluster, HOST:PORT[,HOST:PORT...]; localhost:9092 otherwise
    #[arg(short, long, value_name = "HOST:PORT", env = "MILENA_BOOTSTRAP")]
    pub(crate) bootstrap: Option<String>,

    /// A client setting by its Java or librdkafka name, repeatable: -X client.id=me
    #[arg(short = 'X', long = "property", value_name = "NAME=VALUE", value_parser = property)]
    pub(crate) properties: Vec<(String, String)>,

    /// Give up when the cluster leaves a question unanswered for so many seconds
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) timeout: Duration,
}

impl Cluster {
    /// Connects.
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        // What is set by name is the last word.
        let timeout = self.timeout.as_millis().to_string();
        let timeouts = ["connect_timeout", "request_timeout"].map(|name| (name.into(), timeout.clone()));
        let mut builder = client_from(&[&timeouts, &*self.properties].concat())?;
        if let Some(bootstrap) = &self.bootstrap {
            builder = builder.bootstrap(bootstrap);
        }
        builder.connect().await.map_err(|error| {
            let failure = Failure::from(error);
            match failure.exit() {
                Exit::Unreachable => {
                    failure.hint("-b names another cluster; `milena broker` starts one here.")
                }
                _ => failure,
            }
        })
    }
}

/// A client with these settings.
pub(crate) fn client_from(properties: &[(String, String)]) -> Result<ClientBuilder, Failure> {
    let properties = properties.iter().map(|(name, value)| (name, value));
    Client::from_properties(properties).map_err(|error| Failure::usage(error.to_string()))
}

pub(crate) fn property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().into(), value.into())),
        _ => Err("a property is NAME=VALUE".into()),
    }
}

pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .and_then(|s| Duration::try_from_secs_f64(s).ok())
        .filter(|d| !d.is_zero())
        .ok_or_else(|| "it wants a number of seconds above 0, as in 5 or 0.5".into())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn properties_and_seconds_are_read() {
        assert_eq!(property("a.b= c=d"), Ok(("a.b".into(), " c=d".into())));
        assert!(property("novalue").is_err());
        assert!(property("=x").is_err());
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for text in ["0", "-1", "x", "inf", "nan", "1e300"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
