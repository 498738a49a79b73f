//! `milena schema`: lists, shows, registers, checks, compares and deletes schemas of a schema registry, or in files.

mod check;
mod compatibility;
mod delete;
mod diff;
mod get;
mod ls;
mod named;
mod pretty;
mod register;

use std::collections::BTreeMap;

use clap::Subcommand;
use milena_registry::Schema;
use milena_registry::compat::{Incompatibility, Level};
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::registry_options::Registry;

const HELP: &str = "\
Examples:
  milena schema ls --registry http://127.0.0.1:8081     where `milena dev` has its registry
  milena schema get orders-value@2                      where MILENA_REGISTRY or a profile has it
  milena schema register orders-value order.avsc
  milena schema check orders-value order.avsc           exit code 7 if it may not follow
  milena schema check --against old.proto new.proto     without a registry
  milena schema diff orders-value@1 orders-value

A profile names the registry as Java's serializers do:
  milena profile set prod schema.registry.url=https://registry basic.auth.user.info=env:LOGIN";

/// List, show, register, check, compare and delete schemas.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true, after_help = HELP)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List subjects with their latest versions
    #[command(visible_alias = "list")]
    Ls(ls::Args),
    /// Print a schema
    Get(get::Args),
    /// Register a schema under a subject, and print its id and version
    Register(register::Args),
    /// Tell whether a schema may follow the versions before it
    Check(check::Args),
    /// Show what differs between two schemas, and which of them reads the other one's data
    Diff(diff::Args),
    /// Delete a subject or a version
    #[command(visible_alias = "rm")]
    Delete(delete::Args),
    /// Show or set the compatibility level
    Compatibility(compatibility::Args),
}

impl Args {
    /// The registry that the command takes something away from, and what; none if it only looks or adds.
    pub(crate) fn destroys(&self) -> Option<(&Registry, &'static str)> {
        match &self.command {
            Command::Delete(args) => args.destroys(),
            Command::Compatibility(args) => args.destroys(),
            Command::Ls(_)
            | Command::Get(_)
            | Command::Register(_)
            | Command::Check(_)
            | Command::Diff(_) => None,
        }
    }
}

/// Runs the command.
pub(crate) async fn run(args: Args, interrupt: &Interrupt) -> Result<(), Failure> {
    let changes =
        args.destroys().is_some() || matches!(&args.command, Command::Register(args) if args.changes());
    let ended = interrupt.or(async {
        match args.command {
            Command::Ls(args) => ls::run(args).await,
            Command::Get(args) => get::run(args).await,
            Command::Register(args) => register::run(args).await,
            Command::Check(args) => check::run(args).await,
            Command::Diff(args) => diff::run(args).await,
            Command::Delete(args) => delete::run(args).await,
            Command::Compatibility(args) => compatibility::run(args).await,
        }
    });
    ended.await.map_err(|failure| match failure.exit() {
        Exit::Interrupted if changes => {
            Failure::new(Exit::Interrupted, "interrupted: the registry may have made the change already")
        }
        _ => failure,
    })
}

/// Reads a level in capital or small letters.
fn level(text: &str) -> Result<Level, String> {
    text.trim().replace('-', "_").parse().map_err(|error| format!("{error}"))
}

/// A finding of the local check, as JSON.
#[derive(Serialize)]
struct Finding<'a> {
    kind: &'static str,
    path: &'a str,
    detail: &'a str,
    direction: &'static str,
    advice: &'static str,
}

impl<'a> Finding<'a> {
    fn of(found: &'a Incompatibility) -> Self {
        let direction = match found.direction() {
            milena_registry::compat::Direction::Backward => "backward",
            milena_registry::compat::Direction::Forward => "forward",
        };
        let (kind, advice) = (found.kind().name(), found.kind().advice());
        Self { kind, path: found.path(), detail: found.detail(), direction, advice }
    }
}

/// What a schema refers to, as `NAME=SUBJECT@VERSION` each.
fn references(schema: &Schema) -> BTreeMap<String, String> {
    let references = schema.references().iter();
    references.map(|it| (it.name.clone(), format!("{}@{}", it.subject, it.version))).collect()
}
