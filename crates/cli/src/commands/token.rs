//! `milena token`: creates, lists, renews and ends delegation tokens.

use std::time::Duration;

use clap::Subcommand;
use jiff::Timestamp;
use milena::{Admin, DelegationToken, NewDelegationToken};
use serde::Serialize;

use super::acl::principal;
use super::txn::duration;
use crate::cluster::Cluster;
use crate::exit::{Exit, Failure, summary};
use crate::interrupt::Interrupt;
use crate::output::{to_json, write_out};
use crate::table::{Align, Table};

/// Create, list, renew and end delegation tokens.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

const JSON: &str = "\
JSON lines, with times in milliseconds since 1970:
  {\"token_id\":\"...\",\"owner\":\"User:alice\",\"requester\":\"User:alice\",\"renewers\":[],\"issued\":1700000000000,
   \"expires\":1700086400000,\"max\":1700604800000,\"hmac\":\"...\"}    (on one line; hmac only if it is shown)";

const CREATE: &str = "\
Examples:
  milena token create                                    for whoever logs in
  milena token create --owner alice --renewer scheduler  for alice; needs CreateTokens on that user
  milena token create --max-lifetime 8h --json

It prints the token's HMAC, with which everybody can log in as its owner: by SCRAM, with the id as the user's name and
the HMAC as the password, and tokenauth=true in sasl.jaas.config. Brokers give tokens only to who logged in by SASL or
a client certificate, and not by a token.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a delegation token, and print its HMAC
    #[command(after_help = [CREATE, JSON].join("\n\n"))]
    Create {
        /// The principal for whom it stands. Default: whoever logs in
        #[arg(long, value_name = "PRINCIPAL", value_parser = principal)]
        owner: Option<String>,
        /// A principal besides the owner that may renew it; may be repeated
        #[arg(long, value_name = "PRINCIPAL", value_parser = principal)]
        renewer: Vec<String>,
        /// How long it lives at most, as in 8h. Default: as long as the brokers allow
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        max_lifetime: Option<Duration>,
        /// One JSON object
        #[arg(short = 'J', long)]
        json: bool,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// List the delegation tokens that you may see
    #[command(visible_alias = "ls", after_help = JSON)]
    List {
        /// Only those that it owns or may renew; may be repeated
        #[arg(long, value_name = "PRINCIPAL", value_parser = principal)]
        owner: Vec<String>,
        /// Show the HMACs too, with which everybody can log in as their owners
        #[arg(long)]
        show_hmac: bool,
        /// One JSON object a line
        #[arg(short = 'J', long)]
        json: bool,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Lengthen the life of delegation tokens, within their greatest lifetime
    Renew {
        /// The ids of the tokens
        #[arg(required = true)]
        ids: Vec<String>,
        /// They end so long from now. Default: after the brokers' delegation.token.expiry.time.ms
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        period: Option<Duration>,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// End delegation tokens, at once or later, without confirmation
    #[command(visible_alias = "rm")]
    Expire {
        /// The ids of the tokens
        #[arg(required = true)]
        ids: Vec<String>,
        /// They end so long from now. Default: at once
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        after: Option<Duration>,
        #[command(flatten)]
        cluster: Cluster,
    },
}

impl Args {
    /// The cluster that the command takes something away from, and what; none if it only looks or adds.
    pub(crate) fn destroys(&self) -> Option<(&Cluster, &'static str)> {
        match &self.command {
            Command::Expire { cluster, .. } => Some((cluster, "ends delegation tokens")),
            Command::List { .. } | Command::Create { .. } | Command::Renew { .. } => None,
        }
    }
}

/// Runs the command.
pub(crate) async fn run(args: Args, interrupt: &Interrupt) -> Result<(), Failure> {
    let changes = !matches!(args.command, Command::List { .. });
    interrupt.or(carry_out(args.command)).await.map_err(|failure| match failure.exit() {
        Exit::Interrupted if changes => {
            Failure::new(Exit::Interrupted, "interrupted: delegation tokens may have been changed already")
        }
        _ => failure,
    })
}

async fn carry_out(command: Command) -> Result<(), Failure> {
    match command {
        Command::Create { owner, renewer, max_lifetime, json, cluster } => {
            let mut token = owner.into_iter().fold(NewDelegationToken::new(), NewDelegationToken::owner);
            token = renewer.into_iter().fold(token, NewDelegationToken::renewer);
            token = max_lifetime.into_iter().fold(token, NewDelegationToken::max_lifetime);
            let created = cluster.connect().await?.admin().create_delegation_token(token).await?;
            show(&[created], true, json)
        }
        Command::List { owner, show_hmac, json, cluster } => {
            let tokens = cluster.connect().await?.admin().describe_delegation_tokens(owner).await?;
            show(&tokens, show_hmac, json)
        }
        Command::Renew { ids, period, cluster } => {
            let admin = cluster.connect().await?.admin();
            let mut results = Vec::new();
            for (id, token) in named(&admin, ids).await? {
                let renewed = match token {
                    Ok(token) => {
                        admin.renew_delegation_token(&token.hmac, period).await.map_err(Failure::from)
                    }
                    Err(missing) => Err(missing),
                };
                results.push((id, renewed));
            }
            ended("renewed", results)
        }
        Command::Expire { ids, after, cluster } => {
            let admin = cluster.connect().await?.admin();
            let mut results = Vec::new();
            for (id, token) in named(&admin, ids).await? {
                let expired = match token {
                    Ok(token) => {
                        admin.expire_delegation_token(&token.hmac, after).await.map_err(Failure::from)
                    }
                    Err(missing) => Err(missing),
                };
                results.push((id, expired));
            }
            ended("ended", results)
        }
    }
}

/// A token by its id, or that there is none.
type Named = (String, Result<DelegationToken, Failure>);

/// The tokens with these ids. Requests name a token by its HMAC, which must not be an argument, because every list of processes
/// shows it.
async fn named(admin: &Admin, ids: Vec<String>) -> Result<Vec<Named>, Failure> {
    let tokens = admin.describe_delegation_tokens([""; 0]).await?;
    let found = |id: String| {
        let token = tokens.iter().find(|token| token.token_id == id).cloned();
        let missing = || Failure::not_found(format!("there is no delegation token {id:?} that you may see"));
        let token = token.ok_or_else(missing);
        (id, token)
    };
    Ok(ids.into_iter().map(found).collect())
}

/// Says when each token ends now.
fn ended(done: &str, results: Vec<(String, Result<i64, Failure>)>) -> Result<(), Failure> {
    let mut table = Table::new(&[("token id", Align::Left), ("ends", Align::Left)]);
    for (id, ends) in &results {
        if let Ok(ends) = ends {
            table.row([id.clone(), time(*ends)]);
        }
    }
    write_out(&table.text(0))?;
    summary(done, results.into_iter().map(|(id, result)| (id, result.map(drop))).collect())
}

fn time(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |at| format!("{at:.0}"))
}

#[derive(Serialize)]
struct Listed<'a> {
    token_id: &'a str,
    owner: &'a str,
    requester: Option<&'a str>,
    renewers: &'a [String],
    issued: i64,
    expires: i64,
    max: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    hmac: Option<String>,
}

fn show(tokens: &[DelegationToken], shows_hmac: bool, json: bool) -> Result<(), Failure> {
    let columns = ["token id", "owner", "renewers", "issued", "ends", "ends at last", "hmac"];
    let columns = columns.map(|name| (name, Align::Left));
    let mut table = Table::new(if shows_hmac { &columns[..] } else { &columns[..6] });
    let mut lines = String::new();
    for token in tokens {
        let hmac = shows_hmac.then(|| String::from_utf8_lossy(token.password().expose()).into_owned());
        if json {
            lines += &to_json(&Listed {
                token_id: &token.token_id,
                owner: &token.owner,
                requester: token.requester.as_deref(),
                renewers: &token.renewers,
                issued: token.issued_ms,
                expires: token.expires_ms,
                max: token.max_ms,
                hmac,
            })?;
            lines.push('\n');
            continue;
        }
        let renewers = if token.renewers.is_empty() { "-".into() } else { token.renewers.join(",") };
        let [issued, expires, max] = [token.issued_ms, token.expires_ms, token.max_ms].map(time);
        let (id, owner) = (token.token_id.clone(), token.owner.clone());
        match hmac {
            Some(hmac) => table.row([id, owner, renewers, issued, expires, max, hmac]),
            None => table.row([id, owner, renewers, issued, expires, max]),
        }
    }
    write_out(&if json { lines } else { table.text(0) })
}
