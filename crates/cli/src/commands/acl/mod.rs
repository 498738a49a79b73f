//! `milena acl`: lists, creates and deletes access control lists.

mod create;
mod filter;

use std::collections::BTreeSet;

use clap::Subcommand;
use milena::{Acl, AclFilter, Admin};
use serde::Serialize;

use self::filter::Filter;
pub(crate) use self::filter::principal;
use crate::cluster::Cluster;
use crate::exit::{Exit, Failure, summary};
use crate::interrupt::Interrupt;
use crate::output::{tell, to_json, write_out};
use crate::table::{Align, Table};

/// List, create and delete access control lists.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

const JSON: &str = "\
JSON lines:
  {\"resource_type\":\"Topic\",\"name\":\"orders\",\"pattern\":\"Literal\",\"principal\":\"User:alice\",\"host\":\"*\",
   \"operation\":\"Read\",\"permission\":\"Allow\"}    (on one line)";

const LIST_EXAMPLES: &str = "\
Examples:
  milena acl list                                       all ACLs
  milena acl list --topic orders                        those with the name orders, literal or as a prefix
  milena acl list --topic orders --match                those that hold for topic orders, by name, prefix or *
  milena acl list --allow alice --operation read,write  what alice may";

const DELETE_EXAMPLES: &str = "\
Examples:
  milena acl delete --allow alice --topic orders        the plan
  milena acl delete --allow alice --topic orders --yes  what the plan says";

#[derive(Debug, Subcommand)]
enum Command {
    /// List ACLs; all, or those that match
    #[command(visible_alias = "ls", after_help = [LIST_EXAMPLES, JSON].join("\n\n"))]
    List {
        #[command(flatten)]
        filter: Filter,
        /// One JSON object a line
        #[arg(short = 'J', long)]
        json: bool,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Create ACLs, and show them
    Create(create::Args),
    /// Delete the ACLs that match. Shows the plan; only --yes changes something
    #[command(visible_alias = "rm", after_help = [DELETE_EXAMPLES, JSON].join("\n\n"))]
    Delete {
        #[command(flatten)]
        filter: Filter,
        /// All ACLs, if nothing else says which
        #[arg(long)]
        all: bool,
        /// Do what the plan says
        #[arg(short, long)]
        yes: bool,
        /// Write the plan as JSON lines
        #[arg(short = 'J', long)]
        json: bool,
        #[command(flatten)]
        cluster: Cluster,
    },
}

impl Args {
    /// The cluster that the command takes something away from, and what; none if it only looks or adds.
    pub(crate) fn destroys(&self) -> Option<(&Cluster, &'static str)> {
        match &self.command {
            Command::Delete { yes: true, cluster, .. } => Some((cluster, "deletes ACLs")),
            // Who is denied something loses it.
            Command::Create(args) if args.denies() => {
                Some((args.cluster(), "denies principals what they may do"))
            }
            Command::List { .. } | Command::Create(_) | Command::Delete { .. } => None,
        }
    }
}

/// Runs the command.
pub(crate) async fn run(args: Args, interrupt: &Interrupt) -> Result<(), Failure> {
    let changes = match &args.command {
        Command::List { .. } => false,
        Command::Create(args) => args.changes(),
        Command::Delete { yes, .. } => *yes,
    };
    interrupt.or(carry_out(args.command)).await.map_err(|failure| match failure.exit() {
        Exit::Interrupted if changes => {
            Failure::new(Exit::Interrupted, "interrupted: ACLs may have been changed already")
        }
        _ => failure,
    })
}

async fn carry_out(command: Command) -> Result<(), Failure> {
    match command {
        Command::List { filter, json, cluster } => {
            let filters = filter.filters()?;
            let admin = cluster.connect().await?.admin();
            show(&matching(&admin, &filters).await?, json)
        }
        Command::Create(args) => create::run(args).await,
        Command::Delete { filter, all, yes, json, cluster } => {
            if filter.is_empty() && !all {
                let what =
                    "say which ACLs: by a resource, a principal, a host or an operation, or --all for all";
                return Err(Failure::usage(what));
            }
            let filters = filter.filters()?;
            let admin = cluster.connect().await?.admin();
            delete(&admin, &filters, yes, json).await
        }
    }
}

/// The ACLs that match any of the filters, each once.
async fn matching(admin: &Admin, filters: &[AclFilter]) -> Result<BTreeSet<Acl>, Failure> {
    let mut acls = BTreeSet::new();
    for filter in filters {
        acls.extend(admin.describe_acls(filter).await?);
    }
    Ok(acls)
}

async fn delete(admin: &Admin, filters: &[AclFilter], yes: bool, json: bool) -> Result<(), Failure> {
    let acls = matching(admin, filters).await?;
    show(&acls, json)?;
    match (acls.len(), yes) {
        (0, _) => tell("There is nothing to delete."),
        (count, false) => tell(format_args!("Nothing was deleted: --yes deletes {}.", counted(count))),
        (count, true) => {
            // Each by all that it has, so that nothing goes which the plan does not show.
            let deleted = admin.delete_acls(acls.iter().map(AclFilter::one)).await?;
            let results = acls.iter().zip(deleted).map(|(acl, deleted)| {
                // It may be gone already, which is what was wanted.
                let deleted = deleted.and_then(|of| of.into_iter().try_for_each(|(_, deleted)| deleted));
                (acl.to_string(), deleted.map_err(Failure::from))
            });
            summary("deleted", results.collect())?;
            tell(format_args!("Deleted {}.", counted(count)));
        }
    }
    Ok(())
}

fn counted(count: usize) -> String {
    if count == 1 { "1 ACL".into() } else { format!("{count} ACLs") }
}

#[derive(Serialize)]
struct Listed<'a> {
    resource_type: String,
    name: &'a str,
    pattern: String,
    principal: &'a str,
    host: &'a str,
    operation: String,
    permission: String,
}

/// Writes ACLs to stdout, as a table or as JSON lines.
fn show<'a>(acls: impl IntoIterator<Item = &'a Acl>, json: bool) -> Result<(), Failure> {
    let columns = ["resource", "name", "pattern", "principal", "host", "operation", "permission"]
        .map(|name| (name, Align::Left));
    let (mut table, mut lines) = (Table::new(&columns), String::new());
    for acl in acls {
        let listed = Listed {
            resource_type: acl.resource.resource_type.to_string(),
            name: &acl.resource.name,
            pattern: acl.resource.pattern.to_string(),
            principal: &acl.principal,
            host: &acl.host,
            operation: acl.operation.to_string(),
            permission: acl.permission.to_string(),
        };
        if json {
            lines += &to_json(&listed)?;
            lines.push('\n');
        } else {
            let Listed { resource_type, name, pattern, principal, host, operation, permission } = listed;
            let [name, principal, host] = [name, principal, host].map(str::to_owned);
            table.row([resource_type, name, pattern, principal, host, operation, permission]);
        }
    }
    write_out(&if json { lines } else { table.text(0) })
}
