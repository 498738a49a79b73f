//! The `milena` binary: reads the command line, runs one command, ends with its exit code.
//!
//! The crate has thin commands and pure parts: parsing, formatting, verifying and reporting are in modules without I/O
//! ([`offsets`], [`filter`], [`mod@format`], [`json`], [`lag`], [`reset`], [`stored`], [`tune`], `demo::ledger`), and the commands connect them to the client. Nothing here
//! knows the protocol.

mod args;
mod cluster;
mod commands;
mod config;
mod demo;
mod doctor;
mod escape;
mod exit;
mod filter;
mod format;
mod input;
mod interrupt;
mod json;
mod latency;
mod log;
mod memory;
mod offsets;
mod output;
mod password;
mod profiles;
mod progress;
mod protection;
mod recipe;
mod registry_options;
mod reset;
mod schemas;
mod stored;
mod table;
mod tune;
mod units;
mod view;

use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use clap::Parser as _;

use crate::args::{Cli, Command};
use crate::exit::Failure;
use crate::interrupt::Interrupt;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            const ERROR: Style = AnsiColor::Red.on_default().bold();
            if !failure.is_silent() {
                output::tell(format_args!("{ERROR}error:{ERROR:#} {failure}"));
            }
            failure.exit().into()
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    log::listen(match &command {
        // What its attempts meet, it tells itself.
        Command::Doctor(_) | Command::Top(_) => "off",
        // So does a demo in which things fail on purpose.
        Command::Demo(args) if args.other.is_some() => "error",
        _ => "warn",
    })?;
    protection::check(&command)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::failed(format!("cannot start: {e}")))?;
    let ended = runtime.block_on(async {
        // A broker may need more than a few seconds to write its records to disk when it stops.
        let interrupt = Interrupt::listen(!matches!(command, Command::Broker(_) | Command::Dev(_)))?;
        match command {
            Command::Demo(args) => demo::run(&args, &interrupt).await,
            Command::Broker(args) => commands::broker::run(&args, &interrupt).await,
            Command::Dev(args) => commands::dev::run(args, &interrupt).await,
            Command::Registry(args) => commands::registry::run(args, &interrupt).await,
            Command::Schema(args) => commands::schema::run(args, &interrupt).await,
            Command::Topics(args) => commands::topics::run(args, &interrupt).await,
            Command::Groups(args) => commands::groups::run(args, &interrupt).await,
            Command::Txn(args) => commands::txn::run(args, &interrupt).await,
            Command::Dlq(args) => commands::dlq::run(args, &interrupt).await,
            Command::Dashboards(args) => commands::dashboards::run(&args),
            Command::Doctor(args) => commands::doctor::run(&args, &interrupt).await,
            Command::Top(args) => commands::top::run(args, &interrupt).await,
            Command::Tune(args) => commands::tune::run(args, &interrupt).await,
            Command::Exporter(args) => commands::exporter::run(args, &interrupt).await,
            Command::Profile(args) => commands::profile::run(args),
            Command::Acl(args) => commands::acl::run(args, &interrupt).await,
            Command::User(args) => commands::user::run(args, &interrupt).await,
            Command::Quota(args) => commands::quota::run(args, &interrupt).await,
            Command::ClientMetrics(args) => commands::client_metrics::run(args, &interrupt).await,
            Command::Token(args) => commands::token::run(args, &interrupt).await,
            Command::Produce(args) => commands::produce::run(&args, &interrupt).await,
            Command::Consume(args) => commands::consume::run(&args, &interrupt).await,
            Command::VerifiableConsumer(args) => commands::verifiable::consumer::run(&args, &interrupt).await,
            Command::VerifiableProducer(args) => commands::verifiable::producer::run(&args, &interrupt).await,
        }
    });
    // A thread may still wait for input from a terminal; do not wait for that thread.
    runtime.shutdown_background();
    ended
}
