//! `milena schema compatibility`: the level of a subject or of the registry.

use milena_registry::compat::Level;
use serde::Serialize;

use super::level;
use crate::exit::Failure;
use crate::output::{to_json, write_out};
use crate::registry_options::Registry;

const HELP: &str = "\
Examples:
  milena schema compatibility                            the registry's level
  milena schema compatibility orders-value               the subject's, which is the registry's if it has none
  milena schema compatibility orders-value full          sets it
  milena schema compatibility orders-value --reset       the registry's counts again
  milena schema compatibility --global backward          sets the registry's

Levels: none, backward, backward_transitive, forward, forward_transitive, full, full_transitive.";

#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    /// The subject. Default: the registry
    subject: Option<String>,

    /// Set this level
    #[arg(value_name = "LEVEL", value_parser = level)]
    level: Option<Level>,

    /// Set the registry's level, which counts for all subjects that have none of their own
    #[arg(long, value_name = "LEVEL", value_parser = level, conflicts_with = "subject")]
    global: Option<Level>,

    /// Take the subject's own level away
    #[arg(long, requires = "subject", conflicts_with = "level")]
    reset: bool,

    /// One JSON object
    #[arg(short = 'J', long)]
    json: bool,

    #[command(flatten)]
    registry: Registry,
}

impl Args {
    pub(super) fn destroys(&self) -> Option<(&Registry, &'static str)> {
        let changes = self.level.is_some() || self.global.is_some() || self.reset;
        changes.then_some((&self.registry, "changes which schemas are allowed"))
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    /// Null is the registry.
    subject: Option<&'a str>,
    compatibility: &'static str,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let registry = args.registry.client()?;
    let subject = args.subject.as_deref();
    if let Some(level) = args.level.or(args.global) {
        registry.set_compatibility(subject, level.into()).await?;
    } else if let (Some(subject), true) = (subject, args.reset) {
        registry.reset_compatibility(subject).await?;
    }
    let level = Level::from(registry.compatibility(subject).await?).name();
    if args.json {
        return write_out(&(to_json(&Shown { subject, compatibility: level })? + "\n"));
    }
    write_out(&format!("{level}\n"))
}
