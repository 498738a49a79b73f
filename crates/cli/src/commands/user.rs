//! `milena user`: lists, creates and deletes users that log in with SCRAM, and sets their passwords.

use clap::Subcommand;
use milena::{Admin, ScramChange, ScramCredential, ScramMechanism};
use serde::Serialize;

use crate::cluster::Cluster;
use crate::exit::{Exit, Failure, summary};
use crate::interrupt::Interrupt;
use crate::output::{to_json, write_out};
use crate::password::{self, password};
use crate::table::{Align, Table};

/// List, create and delete users that log in with SCRAM, and set their passwords.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

const JSON: &str = "\
JSON lines, one per mechanism of a user:
  {\"user\":\"alice\",\"mechanism\":\"SCRAM-SHA-512\",\"iterations\":16384}";

const EXAMPLES: &str = "\
Examples:
  milena user create alice                                asks for the password
  milena user create alice --password file:/run/secret    takes it from a file
  vault read ... | milena user create alice --password -  takes it from stdin";

#[derive(Debug, Subcommand)]
enum Command {
    /// List users with their mechanisms
    #[command(visible_alias = "ls", after_help = JSON)]
    List {
        /// Only these
        users: Vec<String>,
        /// One JSON object a line
        #[arg(short = 'J', long)]
        json: bool,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Create a user
    #[command(after_help = [EXAMPLES, password::HELP].join("\n\n"))]
    Create {
        user: String,
        /// The mechanisms with which it can log in
        #[arg(short, long, value_name = "LIST", value_delimiter = ',', default_value = "SCRAM-SHA-512")]
        mechanism: Vec<ScramMechanism>,
        #[command(flatten)]
        new: New,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Set the password of a user
    #[command(after_help = password::HELP)]
    SetPassword {
        user: String,
        /// The mechanisms for which it holds. Default: those that the user has
        #[arg(short, long, value_name = "LIST", value_delimiter = ',')]
        mechanism: Vec<ScramMechanism>,
        #[command(flatten)]
        new: New,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Delete users, or some of their mechanisms, without confirmation
    #[command(visible_alias = "rm")]
    Delete {
        #[arg(required = true)]
        users: Vec<String>,
        /// Only these mechanisms. Default: all that the user has
        #[arg(short, long, value_name = "LIST", value_delimiter = ',')]
        mechanism: Vec<ScramMechanism>,
        /// Succeed if a user does not exist
        #[arg(long)]
        if_exists: bool,
        #[command(flatten)]
        cluster: Cluster,
    },
}

/// A new password.
#[derive(Debug, clap::Args)]
struct New {
    /// Where the password comes from: env:NAME, file:PATH, command:PROGRAM, or - for stdin. Default: it is asked for
    #[arg(short, long, value_name = "SOURCE")]
    password: Option<String>,

    /// How many times it is hashed; Kafka takes 4096 to 16384. More make guessing and each login slower
    #[arg(short, long, default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(4096..=16_384))]
    iterations: u32,
}

impl Args {
    /// The cluster that the command takes something away from, and what; none if it only looks or adds.
    pub(crate) fn destroys(&self) -> Option<(&Cluster, &'static str)> {
        match &self.command {
            Command::SetPassword { cluster, .. } => Some((cluster, "replaces passwords")),
            Command::Delete { cluster, .. } => Some((cluster, "deletes users")),
            Command::List { .. } | Command::Create { .. } => None,
        }
    }
}

/// Runs the command.
pub(crate) async fn run(args: Args, interrupt: &Interrupt) -> Result<(), Failure> {
    let changes = !matches!(args.command, Command::List { .. });
    interrupt.or(carry_out(args.command)).await.map_err(|failure| match failure.exit() {
        Exit::Interrupted if changes => {
            Failure::new(Exit::Interrupted, "interrupted: users may have been changed already")
        }
        _ => failure,
    })
}

async fn carry_out(command: Command) -> Result<(), Failure> {
    match command {
        Command::List { users, json, cluster } => list(&cluster.connect().await?.admin(), users, json).await,
        Command::Create { user, mechanism, new, cluster } => {
            let admin = cluster.connect().await?.admin();
            let known = match credentials(&admin, &user).await {
                Ok(known) => known,
                Err(failure) if failure.exit() == Exit::NotFound => Vec::new(),
                Err(failure) => return Err(failure),
            };
            if let Some(known) = known.iter().find(|known| mechanism.contains(&known.mechanism)) {
                let what = format!("user {user:?} exists already, with {}", known.mechanism);
                return Err(Failure::failed(what).hint("`milena user set-password` changes its password."));
            }
            set(&admin, &user, &mechanism, new).await
        }
        Command::SetPassword { user, mechanism, new, cluster } => {
            let admin = cluster.connect().await?.admin();
            let known = credentials(&admin, &user).await?;
            let of_user = known.into_iter().map(|known| known.mechanism).collect();
            let mechanisms = if mechanism.is_empty() { of_user } else { mechanism };
            set(&admin, &user, &mechanisms, new).await
        }
        Command::Delete { users, mechanism, if_exists, cluster } => {
            let admin = cluster.connect().await?.admin();
            let mut results = Vec::new();
            for user in users {
                let deleted = match delete(&admin, &user, &mechanism).await {
                    Err(failure) if if_exists && failure.exit() == Exit::NotFound => Ok(()),
                    deleted => deleted,
                };
                results.push((user, deleted));
            }
            summary("deleted", results)
        }
    }
}

/// What a user can log in with.
async fn credentials(admin: &Admin, user: &str) -> Result<Vec<ScramCredential>, Failure> {
    let mut described = admin.describe_scram_users([user]).await;
    match described.pop() {
        Some((_, described)) => described.map_err(|error| no_user(user, error)),
        None => Err(Failure::failed(format!("no broker described user {user:?}"))),
    }
}

/// The client's error, or plain words if the user does not exist.
fn no_user(user: &str, error: milena::Error) -> Failure {
    match error.code_name() {
        Some("RESOURCE_NOT_FOUND") => Failure::not_found(format!("user {user:?} does not exist")),
        _ => error.into(),
    }
}

async fn set(admin: &Admin, user: &str, mechanisms: &[ScramMechanism], new: New) -> Result<(), Failure> {
    let secret = password(new.password.as_deref(), user).await?;
    let change = |mechanism: &ScramMechanism| {
        ScramChange::set(user, *mechanism, secret.clone()).iterations(new.iterations)
    };
    let set = admin.alter_scram_users(mechanisms.iter().map(change)).await;
    let results = mechanisms
        .iter()
        .zip(set)
        .map(|(mechanism, (_, set))| (mechanism.to_string(), set.map_err(Failure::from)));
    summary("set", results.collect())
}

async fn delete(admin: &Admin, user: &str, mechanisms: &[ScramMechanism]) -> Result<(), Failure> {
    let known = credentials(admin, user).await?;
    let mechanisms: Vec<_> = match mechanisms {
        [] => known.iter().map(|known| known.mechanism).collect(),
        some => some.to_vec(),
    };
    if let Some(missing) = mechanisms.iter().find(|of| known.iter().all(|known| known.mechanism != **of)) {
        return Err(Failure::not_found(format!("user {user:?} has no password for {missing}")));
    }
    let changes = mechanisms.into_iter().map(|mechanism| ScramChange::delete(user, mechanism));
    let deleted = admin.alter_scram_users(changes).await;
    deleted.into_iter().try_for_each(|(_, deleted)| deleted.map_err(Failure::from))
}

#[derive(Serialize)]
struct Listed<'a> {
    user: &'a str,
    mechanism: String,
    iterations: u32,
}

async fn list(admin: &Admin, users: Vec<String>, json: bool) -> Result<(), Failure> {
    let listed = match users.is_empty() {
        true => admin.list_scram_users().await?,
        false => admin.describe_scram_users(users).await,
    };
    let (left, right) = (Align::Left, Align::Right);
    let (mut table, mut lines) =
        (Table::new(&[("user", left), ("mechanism", left), ("iterations", right)]), String::new());
    let mut results = Vec::new();
    for (user, described) in listed {
        let described = described.map_err(|error| no_user(&user, error));
        for ScramCredential { mechanism, iterations } in described.as_deref().unwrap_or_default() {
            let (mechanism, iterations) = (mechanism.to_string(), *iterations);
            if json {
                lines += &to_json(&Listed { user: &user, mechanism, iterations })?;
                lines.push('\n');
            } else {
                table.row([user.clone(), mechanism, iterations.to_string()]);
            }
        }
        results.push((user, described.map(drop)));
    }
    write_out(&if json { lines } else { table.text(0) })?;
    summary("described", results)
}
