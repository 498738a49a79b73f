//! `milena client-metrics`: lists, sets and deletes the subscriptions by which brokers ask clients for their metrics (KIP-714).

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Subcommand;
use milena::{Admin, ConfigChange, ConfigResource};
use serde::Serialize;

use crate::cluster::{Cluster, seconds};
use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::output::{to_json, write_out};
use crate::table::{Align, Table};

/// List, set and delete subscriptions to metrics of clients
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

const SET_EXAMPLES: &str = "\
Examples:
  milena client-metrics set all -m '*' -i 60              all metrics of all clients, each minute
  milena client-metrics set orders -m org.apache.kafka.producer. -M 'client_id=orders-.*'
                                                          what begins so, of clients that match

Clients are matched by client_instance_id, client_id, client_software_name, client_software_version,
client_source_address and client_source_port, each with a regular expression for the whole text.
All must match.";

const LIST_JSON: &str = "\
JSON lines:
  {\"name\":\"all\",\"metrics\":\"*\",\"interval.ms\":\"60000\",\"match\":\"\"}";

#[derive(Debug, Subcommand)]
enum Command {
    /// List subscriptions
    #[command(visible_alias = "ls", after_help = LIST_JSON)]
    List {
        /// One JSON object a line
        #[arg(short = 'J', long)]
        json: bool,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Make a subscription, or change one; what is not named stays
    #[command(after_help = SET_EXAMPLES)]
    Set {
        /// The subscription's name
        name: String,
        /// The beginning of the names of metrics to ask for, or * for all; may be repeated
        #[arg(short, long = "metric", value_name = "PREFIX")]
        metrics: Vec<String>,
        /// The time between two pushes of a client, from 0.1 to 3600 seconds
        #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
        interval: Option<Duration>,
        /// Which clients to ask; may be repeated
        #[arg(short = 'M', long = "match", value_name = "KEY=REGEX")]
        matching: Vec<String>,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Delete a subscription, without confirmation
    #[command(visible_alias = "rm")]
    Delete {
        /// The subscription's name
        name: String,
        #[command(flatten)]
        cluster: Cluster,
    },
}

const METRICS: &str = "metrics";
const INTERVAL: &str = "interval.ms";
const MATCH: &str = "match";

impl Args {
    /// The cluster that the command changes, and what; none if it only looks.
    pub(crate) fn destroys(&self) -> Option<(&Cluster, &'static str)> {
        match &self.command {
            Command::Set { cluster, .. } => Some((cluster, "changes what clients are asked for")),
            Command::Delete { cluster, .. } => Some((cluster, "deletes a subscription")),
            Command::List { .. } => None,
        }
    }
}

/// Runs the command.
pub(crate) async fn run(args: Args, interrupt: &Interrupt) -> Result<(), Failure> {
    let changes = args.destroys().is_some();
    interrupt.or(carry_out(args.command)).await.map_err(|failure| match failure.exit() {
        Exit::Interrupted if changes => {
            Failure::new(Exit::Interrupted, "interrupted: the subscription may have been changed already")
        }
        _ => failure,
    })
}

async fn carry_out(command: Command) -> Result<(), Failure> {
    match command {
        Command::List { json, cluster } => {
            let admin = cluster.connect().await?.admin();
            let mut subscriptions = Vec::new();
            for name in admin.list_client_metrics().await? {
                let configs = configs(&admin, &name).await?;
                subscriptions.push(Listed { name, configs });
            }
            show(&subscriptions, json)
        }
        Command::Set { name, metrics, interval, matching, cluster } => {
            let mut changes = Vec::new();
            if !metrics.is_empty() {
                changes.push(ConfigChange::set(METRICS, metrics.join(",")));
            }
            changes.extend(interval.map(|time| ConfigChange::set(INTERVAL, time.as_millis().to_string())));
            if !matching.is_empty() {
                changes.push(ConfigChange::set(MATCH, matching.join(",")));
            }
            if changes.is_empty() {
                return Err(Failure::usage("say what to ask for: --metric, --interval or --match"));
            }
            let admin = cluster.connect().await?.admin();
            Ok(admin.alter_configs(&ConfigResource::ClientMetrics(name), changes).await?)
        }
        Command::Delete { name, cluster } => {
            let admin = cluster.connect().await?.admin();
            if !admin.list_client_metrics().await?.contains(&name) {
                return Err(Failure::not_found(format!("there is no subscription {name}")));
            }
            let all = [METRICS, INTERVAL, MATCH].map(ConfigChange::delete);
            Ok(admin.alter_configs(&ConfigResource::ClientMetrics(name), all).await?)
        }
    }
}

async fn configs(admin: &Admin, name: &str) -> Result<BTreeMap<String, String>, Failure> {
    let entries = admin.describe_configs(&ConfigResource::ClientMetrics(name.to_owned())).await?;
    Ok(entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect())
}

#[derive(Serialize)]
struct Listed {
    name: String,
    #[serde(flatten)]
    configs: BTreeMap<String, String>,
}

fn show(subscriptions: &[Listed], json: bool) -> Result<(), Failure> {
    let columns = ["name", "metrics", "interval.ms", "match"].map(|title| (title, Align::Left));
    let (mut table, mut lines) = (Table::new(&columns), String::new());
    for subscription in subscriptions {
        if json {
            lines += &to_json(subscription)?;
            lines.push('\n');
        } else {
            let config = |name: &str| subscription.configs.get(name).cloned().unwrap_or_default();
            table.row([subscription.name.clone(), config(METRICS), config(INTERVAL), config(MATCH)]);
        }
    }
    write_out(&if json { lines } else { table.text(0) })
}
