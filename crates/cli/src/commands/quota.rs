//! `milena quota`: lists, sets and deletes the quotas of users, client ids and IP addresses.

use std::collections::BTreeMap;

use clap::Subcommand;
use milena::{Admin, QuotaChange, QuotaDescription, QuotaEntity, QuotaFilter};
use serde::Serialize;

use crate::cluster::Cluster;
use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::output::{to_json, write_out};
use crate::table::{Align, Table};

/// List, set and delete the quotas of users, client ids and IP addresses.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

const QUOTAS: &str = "\
Quotas:
  producer_byte_rate        bytes a second that may be written, at each broker
  consumer_byte_rate        bytes a second that may be read, at each broker
  request_percentage        share of a broker's threads, 100 for one thread
  controller_mutation_rate  partitions a second that may be created and deleted
  connection_creation_rate  connections a second, for IP addresses";

const JSON: &str = "\
JSON lines, in which null is a default:
  {\"entity\":{\"user\":\"alice\",\"client-id\":null},\"quotas\":{\"producer_byte_rate\":1048576.0}}";

const LIST_EXAMPLES: &str = "\
Examples:
  milena quota list                     all quotas
  milena quota list --user alice        those of alice, alone or with a client id
  milena quota list --any-user --strict those of users alone
  milena quota list --default-user      those of users without a quota of their own";

const SET_EXAMPLES: &str = "\
Examples:
  milena quota set --user alice producer_byte_rate=1048576 consumer_byte_rate=2097152
  milena quota set --user alice --default-client-id request_percentage=50
  milena quota set --ip 10.0.0.7 connection_creation_rate=5";

#[derive(Debug, Subcommand)]
enum Command {
    /// List quotas; all, or those that match
    #[command(visible_alias = "ls", after_help = [LIST_EXAMPLES, JSON].join("\n\n"))]
    List {
        #[command(flatten)]
        entity: Entity,
        #[command(flatten)]
        any: Any,
        /// Leave out quotas of combinations of which only a part is named
        #[arg(short, long)]
        strict: bool,
        /// One JSON object a line
        #[arg(short = 'J', long)]
        json: bool,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Set quotas; those that are not named stay
    #[command(after_help = [SET_EXAMPLES, QUOTAS].join("\n\n"))]
    Set {
        #[arg(value_name = "QUOTA=VALUE", required = true, value_parser = quota)]
        quotas: Vec<(String, f64)>,
        #[command(flatten)]
        entity: Entity,
        /// Ask whether the cluster would accept it, and change nothing
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Delete quotas, so that the next default holds, without confirmation
    #[command(visible_alias = "rm", after_help = QUOTAS)]
    Delete {
        #[arg(value_name = "QUOTA", required_unless_present = "all")]
        quotas: Vec<String>,
        #[command(flatten)]
        entity: Entity,
        /// All quotas of this user, client id or address
        #[arg(short, long, conflicts_with = "quotas")]
        all: bool,
        #[command(flatten)]
        cluster: Cluster,
    },
}

/// For whom quotas are.
#[derive(Debug, Default, clap::Args)]
struct Entity {
    /// A user, by its name without User:
    #[arg(short, long, value_name = "NAME", help_heading = "For whom")]
    user: Option<String>,

    /// Users that have no quota of their own
    #[arg(long, conflicts_with = "user", help_heading = "For whom")]
    default_user: bool,

    /// Clients with this client.id
    #[arg(short, long, value_name = "ID", help_heading = "For whom")]
    client_id: Option<String>,

    /// Clients whose client.id has no quota of its own
    #[arg(long, conflicts_with = "client_id", help_heading = "For whom")]
    default_client_id: bool,

    /// An IP address
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["user", "default_user", "client_id", "default_client_id"], help_heading = "For whom")]
    ip: Option<String>,

    /// IP addresses that have no quota of their own
    #[arg(long, conflicts_with_all = ["ip", "user", "default_user", "client_id", "default_client_id"], help_heading = "For whom")]
    default_ip: bool,
}

/// Filters for more than one.
#[derive(Debug, Default, clap::Args)]
struct Any {
    /// Any user and their default
    #[arg(long, conflicts_with_all = ["user", "default_user"], help_heading = "For whom")]
    any_user: bool,

    /// Any client id and their default
    #[arg(long, conflicts_with_all = ["client_id", "default_client_id"], help_heading = "For whom")]
    any_client_id: bool,

    /// Any IP address and their default
    #[arg(long, conflicts_with_all = ["ip", "default_ip", "user", "default_user", "client_id", "default_client_id"], help_heading = "For whom")]
    any_ip: bool,
}

impl Entity {
    /// Exactly one combination.
    fn one(&self) -> Result<QuotaEntity, Failure> {
        let mut entity = QuotaEntity::new();
        entity = self.user.iter().fold(entity, QuotaEntity::user);
        entity = if self.default_user { entity.default_user() } else { entity };
        entity = self.client_id.iter().fold(entity, QuotaEntity::client_id);
        entity = if self.default_client_id { entity.default_client_id() } else { entity };
        entity = self.ip.iter().fold(entity, QuotaEntity::ip);
        entity = if self.default_ip { entity.default_ip() } else { entity };
        if entity == QuotaEntity::new() {
            return Err(Failure::usage("say for whom: --user, --client-id, --ip, or a --default-..."));
        }
        Ok(entity)
    }

    fn filter(&self, any: &Any) -> QuotaFilter {
        let mut filter = QuotaFilter::all();
        filter = self.user.iter().fold(filter, QuotaFilter::user);
        filter = if self.default_user { filter.default_user() } else { filter };
        filter = if any.any_user { filter.any_user() } else { filter };
        filter = self.client_id.iter().fold(filter, QuotaFilter::client_id);
        filter = if self.default_client_id { filter.default_client_id() } else { filter };
        filter = if any.any_client_id { filter.any_client_id() } else { filter };
        filter = self.ip.iter().fold(filter, QuotaFilter::ip);
        filter = if self.default_ip { filter.default_ip() } else { filter };
        if any.any_ip { filter.any_ip() } else { filter }
    }
}

fn quota(text: &str) -> Result<(String, f64), String> {
    let (name, value) = text.split_once('=').ok_or("write QUOTA=VALUE")?;
    let value = value.trim().parse().ok().filter(|value: &f64| value.is_finite() && *value > 0.0);
    value.map(|value| (name.trim().to_owned(), value)).ok_or_else(|| "the value is a number above 0".into())
}

impl Args {
    /// The cluster that the command takes something away from, and what; none if it only looks.
    pub(crate) fn destroys(&self) -> Option<(&Cluster, &'static str)> {
        match &self.command {
            Command::Set { dry_run: false, cluster, .. } => Some((cluster, "changes quotas")),
            Command::Delete { cluster, .. } => Some((cluster, "deletes quotas")),
            Command::List { .. } | Command::Set { .. } => None,
        }
    }
}

/// Runs the command.
pub(crate) async fn run(args: Args, interrupt: &Interrupt) -> Result<(), Failure> {
    let changes = match &args.command {
        Command::List { .. } => false,
        Command::Set { dry_run, .. } => !dry_run,
        Command::Delete { .. } => true,
    };
    interrupt.or(carry_out(args.command)).await.map_err(|failure| match failure.exit() {
        Exit::Interrupted if changes => {
            Failure::new(Exit::Interrupted, "interrupted: quotas may have been changed already")
        }
        _ => failure,
    })
}

async fn carry_out(command: Command) -> Result<(), Failure> {
    match command {
        Command::List { entity, any, strict, json, cluster } => {
            let filter = entity.filter(&any);
            let filter = if strict { filter.strict() } else { filter };
            let quotas = cluster.connect().await?.admin().describe_quotas(&filter).await?;
            show(&quotas, json)
        }
        Command::Set { quotas, entity, dry_run, cluster } => {
            let entity = entity.one()?;
            let changes = quotas.into_iter().map(|(name, value)| QuotaChange::set(name, value));
            let admin = cluster.connect().await?.admin();
            let altered = match dry_run {
                true => admin.validate_quotas([(entity, changes)]).await,
                false => admin.alter_quotas([(entity, changes)]).await,
            };
            all(altered)
        }
        Command::Delete { quotas, entity, all: all_quotas, cluster } => {
            let filter = entity.filter(&Any::default()).strict();
            let entity = entity.one()?;
            let admin = cluster.connect().await?.admin();
            let known = known(&admin, &filter, &entity).await?;
            let names = if all_quotas { known.keys().cloned().collect() } else { quotas };
            if let Some(missing) = names.iter().find(|name| !known.contains_key(*name)) {
                return Err(Failure::not_found(format!("there is no quota {missing} of {entity}")));
            }
            if names.is_empty() {
                return Err(Failure::not_found(format!("there are no quotas of {entity}")));
            }
            all(admin.alter_quotas([(entity, names.into_iter().map(QuotaChange::remove))]).await)
        }
    }
}

/// The quotas that one entity has. A broker says nothing if one is deleted that is not there.
async fn known(
    admin: &Admin,
    filter: &QuotaFilter,
    entity: &QuotaEntity,
) -> Result<BTreeMap<String, f64>, Failure> {
    let described = admin.describe_quotas(filter).await?;
    let of_entity = described.into_iter().find(|of| of.entity == *entity);
    Ok(of_entity.map(|of| of.quotas).unwrap_or_default())
}

fn all(altered: Vec<(QuotaEntity, Result<(), milena::Error>)>) -> Result<(), Failure> {
    altered.into_iter().try_for_each(|(_, altered)| altered.map_err(Failure::from))
}

#[derive(Serialize)]
struct Listed<'a> {
    entity: BTreeMap<&'a str, Option<&'a str>>,
    quotas: &'a BTreeMap<String, f64>,
}

fn show(described: &[QuotaDescription], json: bool) -> Result<(), Failure> {
    let columns = [("for", Align::Left), ("quota", Align::Left), ("value", Align::Right)];
    let (mut table, mut lines) = (Table::new(&columns), String::new());
    for QuotaDescription { entity, quotas } in described {
        if json {
            lines += &to_json(&Listed { entity: entity.parts().collect(), quotas })?;
            lines.push('\n');
        } else {
            for (name, value) in quotas {
                table.row([entity.to_string(), name.clone(), value.to_string()]);
            }
        }
    }
    write_out(&if json { lines } else { table.text(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_names_with_numbers() {
        assert_eq!(quota("a=1.5"), Ok(("a".into(), 1.5)));
        for text in ["a", "a=", "a=x", "a=0", "a=-1", "a=inf", "a=NaN"] {
            assert!(quota(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_entity_is_a_combination() {
        let entity = Entity { user: Some("alice".into()), default_client_id: true, ..Entity::default() };
        let one = entity.one().expect("one");
        assert_eq!(one, QuotaEntity::new().user("alice").default_client_id());
        assert!(Entity::default().one().is_err());
        let any = Any { any_client_id: true, ..Any::default() };
        assert_eq!(Entity::default().filter(&any), QuotaFilter::all().any_client_id());
    }
}
