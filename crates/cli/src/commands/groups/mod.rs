//! `milena groups`: lists, describes and deletes consumer groups, changes their committed offsets, and finds out what is wrong with them.

mod describe;
mod doctor;
mod offsets;
mod remove_members;

use clap::Subcommand;
use milena::{Admin, GroupFilter, GroupState, GroupType, ListedGroup};
use serde::Serialize;

use crate::cluster::Cluster;
use crate::exit::{Exit, Failure, summary};
use crate::interrupt::Interrupt;
use crate::output::{to_json, write_out};
use crate::table::{Align, Table};

/// List, describe and delete consumer groups, and change their committed offsets.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List all groups with their states, types and coordinators
    #[command(visible_alias = "ls")]
    List {
        /// Only groups in these states, as in empty,stable
        #[arg(short, long, value_name = "LIST", value_delimiter = ',')]
        state: Vec<GroupState>,
        /// Only groups of these types: classic, consumer (KIP-848), share, streams
        #[arg(short = 't', long = "type", value_name = "LIST", value_delimiter = ',')]
        types: Vec<GroupType>,
        /// One JSON object a line
        #[arg(short = 'J', long)]
        json: bool,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Show members with their partitions, and the lag and pace of each partition
    Describe(describe::Args),
    /// Find out why a group is slow, stuck or not stable, and what to do
    Doctor(doctor::Args),
    /// Export, reset and delete committed offsets
    Offsets(offsets::Args),
    /// Take members out of a group, without confirmation; those that live join again
    RemoveMembers(remove_members::Args),
    /// Delete groups that have no members, with their committed offsets, without confirmation
    #[command(visible_alias = "rm")]
    Delete {
        #[arg(required = true)]
        groups: Vec<String>,
        /// Succeed if a group does not exist
        #[arg(long)]
        if_exists: bool,
        #[command(flatten)]
        cluster: Cluster,
    },
}

impl Args {
    /// The cluster that the command takes something away from, and what.
    pub(crate) fn destroys(&self) -> Option<(&Cluster, &'static str)> {
        match &self.command {
            Command::Delete { cluster, .. } => Some((cluster, "deletes groups")),
            Command::Offsets(args) => args.destroys(),
            Command::RemoveMembers(args) => Some((&args.cluster, "removes members of groups")),
            Command::List { .. } | Command::Describe(_) | Command::Doctor(_) => None,
        }
    }
}

/// Runs the command.
pub(crate) async fn run(args: Args, interrupt: &Interrupt) -> Result<(), Failure> {
    let changes = match &args.command {
        Command::Delete { .. } | Command::RemoveMembers(_) => true,
        Command::Offsets(args) => args.changes(),
        Command::List { .. } | Command::Describe(_) | Command::Doctor(_) => false,
    };
    interrupt.or(carry_out(args.command)).await.map_err(|failure| match failure.exit() {
        Exit::Interrupted if changes => {
            Failure::new(Exit::Interrupted, "interrupted: the groups may have been changed already")
        }
        _ => failure,
    })
}

async fn carry_out(command: Command) -> Result<(), Failure> {
    match command {
        Command::List { state, types, json, cluster } => {
            let filter = GroupFilter::all().states(state).types(types);
            let connected = cluster.connect().await?;
            list(&connected.admin(), &filter, json).await
        }
        Command::Describe(args) => describe::run(&args).await,
        // On the heap, because the futures of all commands would have room for it.
        Command::Doctor(args) => Box::pin(doctor::run(&args)).await,
        Command::Offsets(args) => offsets::run(args).await,
        Command::RemoveMembers(args) => remove_members::run(args).await,
        Command::Delete { groups, if_exists, cluster } => {
            let deleted = cluster.connect().await?.admin().delete_groups(groups).await;
            let deleted = deleted.into_iter().map(|(group, deleted)| {
                let deleted = match deleted {
                    Err(error) if if_exists && error.code_name() == Some("GROUP_ID_NOT_FOUND") => Ok(()),
                    deleted => deleted.map_err(|error| no_group(&group, error)),
                };
                (group, deleted)
            });
            summary("deleted", deleted.collect())
        }
    }
}

/// The client's error, or plain words if the group does not exist.
fn no_group(group: &str, error: milena::Error) -> Failure {
    match error.code_name() {
        Some("GROUP_ID_NOT_FOUND") => Failure::not_found(format!("group {group:?} does not exist")),
        _ => error.into(),
    }
}

#[derive(Serialize)]
struct Listed<'a> {
    group: &'a str,
    state: Option<String>,
    #[serde(rename = "type")]
    group_type: Option<String>,
    protocol_type: &'a str,
    coordinator: i32,
}

async fn list(admin: &Admin, filter: &GroupFilter, json: bool) -> Result<(), Failure> {
    let listing = admin.list_groups(filter).await?;
    let left = Align::Left;
    let columns =
        [("group", left), ("state", left), ("type", left), ("protocol", left), ("coordinator", Align::Right)];
    let (mut table, mut lines) = (Table::new(&columns), String::new());
    for ListedGroup { group, protocol_type, state, group_type, coordinator } in &listing.groups {
        let (state, group_type) = (state.map(|s| s.to_string()), group_type.map(|t| t.to_string()));
        if json {
            lines +=
                &to_json(&Listed { group, state, group_type, protocol_type, coordinator: *coordinator })?;
            lines.push('\n');
        } else {
            let known = |text: Option<String>| text.unwrap_or_else(|| "?".into());
            let protocol = if protocol_type.is_empty() { "-" } else { protocol_type };
            table.row([
                group.clone(),
                known(state),
                known(group_type),
                protocol.into(),
                coordinator.to_string(),
            ]);
        }
    }
    write_out(&if json { lines } else { table.text(0) })?;
    let Some((_, first)) = listing.failed.first() else { return Ok(()) };
    let errors: Vec<_> = listing.failed.iter().map(|(_, error)| error.to_string()).collect();
    let exit = if listing.groups.is_empty() { Failure::from(first.clone()).exit() } else { Exit::Partial };
    Err(Failure::new(exit, errors.join("\n       "))
        .hint("Groups that these brokers coordinate are missing."))
}
