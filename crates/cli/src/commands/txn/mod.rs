//! `milena txn`: lists and describes transactions, and aborts those that hang.

mod describe;
mod hanging;

use std::time::Duration;

use clap::Subcommand;
use jiff::SignedDuration;
use milena::{Admin, ListedTransaction, TransactionFilter, TransactionState};
use serde::Serialize;

use crate::cluster::Cluster;
use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::output::{to_json, write_out};
use crate::table::{Align, Table};

/// List and describe transactions, and abort those that hang.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

const LIST_EXAMPLES: &str = "\
Examples:
  milena txn list --state ongoing --longer-than 10m     open for more than 10 minutes
  milena txn list --id 'billing-.*'                     ids that match a pattern as a whole";

#[derive(Debug, Subcommand)]
enum Command {
    /// List the transactional ids of the cluster with their states, producer ids and coordinators
    #[command(visible_alias = "ls", after_help = LIST_EXAMPLES)]
    List(List),
    /// Show transactional ids with their open transactions, or the producers of partitions
    Describe(describe::Args),
    /// Abort transactions that are open at partitions and that no coordinator knows. Shows the plan; only --yes changes something
    AbortHanging(hanging::Args),
}

#[derive(Debug, clap::Args)]
struct List {
    /// Only ids in these states, as in ongoing,prepareCommit
    #[arg(short, long, value_name = "LIST", value_delimiter = ',')]
    state: Vec<TransactionState>,

    /// Only ids with these producer ids, as in 7,12
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    producer_id: Vec<i64>,

    /// Only ids with a transaction that is open for longer than DURATION, as in 10m or PT10M (Kafka 3.8 and later)
    #[arg(short, long, value_name = "DURATION", value_parser = duration)]
    longer_than: Option<Duration>,

    /// Only ids that match this regular expression as a whole (Kafka 4.1 and later)
    #[arg(long, value_name = "PATTERN")]
    id: Option<String>,

    /// One JSON object a line
    #[arg(short = 'J', long)]
    json: bool,

    #[command(flatten)]
    cluster: Cluster,
}

/// Reads a length of time, as in `90s`, `1h30m` or `PT1H30M`; `0` is none.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let parsed = text.parse::<SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok());
    parsed.ok_or_else(|| "write a length of time with its unit, as in 90s, 500ms or 1h30m".into())
}

impl Args {
    /// The cluster that the command takes something away from, and what.
    pub(crate) fn destroys(&self) -> Option<(&Cluster, &'static str)> {
        match &self.command {
            Command::AbortHanging(args) if args.changes() => Some((args.cluster(), "aborts transactions")),
            Command::List(_) | Command::Describe(_) | Command::AbortHanging(_) => None,
        }
    }
}

/// Runs the command.
pub(crate) async fn run(args: Args, interrupt: &Interrupt) -> Result<(), Failure> {
    let changes = matches!(&args.command, Command::AbortHanging(args) if args.changes());
    interrupt.or(carry_out(args.command)).await.map_err(|failure| match failure.exit() {
        Exit::Interrupted if changes => {
            Failure::new(Exit::Interrupted, "interrupted: transactions may have been aborted already")
        }
        _ => failure,
    })
}

async fn carry_out(command: Command) -> Result<(), Failure> {
    match command {
        Command::List(args) => list(args).await,
        Command::Describe(args) => describe::run(&args).await,
        Command::AbortHanging(args) => hanging::run(&args).await,
    }
}

#[derive(Serialize)]
struct Listed<'a> {
    transactional_id: &'a str,
    state: String,
    producer_id: i64,
    coordinator: i32,
}

async fn list(args: List) -> Result<(), Failure> {
    let admin = args.cluster.connect().await?.admin();
    let mut filter = TransactionFilter::all().states(args.state).producer_ids(args.producer_id);
    filter = args.longer_than.into_iter().fold(filter, TransactionFilter::open_longer_than);
    filter = args.id.into_iter().fold(filter, TransactionFilter::id_pattern);
    let (transactions, incomplete) = listed(&admin, &filter).await?;
    let left = Align::Left;
    let columns =
        [("id", left), ("state", left), ("producer id", Align::Right), ("coordinator", Align::Right)];
    let (mut table, mut lines) = (Table::new(&columns), String::new());
    for ListedTransaction { transactional_id, producer_id, state, coordinator } in &transactions {
        let (state, coordinator) = (state.to_string(), *coordinator);
        if args.json {
            lines += &to_json(&Listed { transactional_id, state, producer_id: *producer_id, coordinator })?;
            lines.push('\n');
        } else {
            table.row([transactional_id.clone(), state, producer_id.to_string(), coordinator.to_string()]);
        }
    }
    write_out(&if args.json { lines } else { table.text(0) })?;
    match incomplete {
        None => Ok(()),
        // If nothing was listed, the cause decides the exit code.
        Some(failure) if transactions.is_empty() => Err(failure),
        Some(failure) => Err(failure.with_exit(Exit::Partial)),
    }
}

/// The transactional ids of all brokers that answered, and a failure that names those that did not.
async fn listed(
    admin: &Admin,
    filter: &TransactionFilter,
) -> Result<(Vec<ListedTransaction>, Option<Failure>), Failure> {
    let listing = admin.list_transactions(filter).await?;
    let incomplete = listing.failed.first().map(|(_, first)| {
        let errors: Vec<_> = listing.failed.iter().map(|(_, error)| error.to_string()).collect();
        let exit = Failure::from(first.clone()).exit();
        Failure::new(exit, errors.join("\n       "))
            .hint("Transactions that these brokers coordinate are missing.")
    });
    Ok((listing.transactions, incomplete))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_have_units() {
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("PT15M"), Ok(Duration::from_secs(900)));
        for text in ["", "5", "-1s", "x", "1 fortnight"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
