//! The command line: its commands. Each command's options are in its file; those that commands share are in
//! [`cluster`](crate::cluster).

use clap::{Parser, Subcommand};

use crate::commands::{
    acl, broker, client_metrics, consume, dashboards, dev, dlq, doctor, exporter, groups, produce, profile,
    quota, registry, schema, token, top, topics, tune, txn, user, verifiable,
};
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
    /// Send real records through a cluster, read them back, and check every one
    Demo(demo::Args),
    /// Run an embedded broker with one or more nodes
    Broker(broker::Args),
    /// Run an embedded broker and a schema registry, for development
    Dev(dev::Args),
    /// Run a schema registry on a cluster
    Registry(registry::Args),
    /// List, show, register, check, compare and delete schemas
    Schema(schema::Args),
    /// List, create, describe and delete topics
    Topics(topics::Args),
    /// List, describe and delete consumer groups, change their committed offsets, and find out what is wrong with them
    Groups(groups::Args),
    /// List and describe transactions, and abort those that hang
    Txn(txn::Args),
    /// Find, show, count, replay and delete dead letters
    Dlq(dlq::Args),
    /// Write dashboards for Grafana and alert rules for Prometheus
    Dashboards(dashboards::Args),
    /// Find out why a client cannot connect, produce or consume
    Doctor(doctor::Args),
    /// Show groups by lag and rate, topics and hot partitions, live
    Top(top::Args),
    /// Find good settings by measuring them on your own records
    Tune(tune::Args),
    /// Serve metrics of topics, groups and lag to Prometheus
    Exporter(exporter::Args),
    /// Keep clusters under names, with their settings
    Profile(profile::Args),
    /// List, create and delete access control lists
    Acl(acl::Args),
    /// List, create and delete users that log in with SCRAM, and set their passwords
    User(user::Args),
    /// List, set and delete the quotas of users, client ids and IP addresses
    Quota(quota::Args),
    /// List, set and delete subscriptions to metrics of clients
    ClientMetrics(client_metrics::Args),
    /// Create, list, renew and end delegation tokens
    Token(token::Args),
    /// Send records from stdin or a file
    Produce(produce::Args),
    /// Read records to stdout
    Consume(consume::Args),
    /// Read in a group as Kafka's system tests want it (VerifiableConsumer)
    VerifiableConsumer(verifiable::consumer::Args),
    /// Write as Kafka's system tests want it (VerifiableProducer)
    VerifiableProducer(verifiable::producer::Args),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
