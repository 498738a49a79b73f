//! `milena schema delete`: a subject or a version, softly or for good.

use milena_registry::{Deletion, RegistryError, SchemaRegistry, Version};

use crate::exit::Failure;
use crate::output::{tell, write_out};
use crate::registry_options::Registry;
use crate::schemas::versioned;

const HELP: &str = "\
Examples:
  milena schema delete orders-value@2             a version
  milena schema delete orders-value               all versions
  milena schema delete orders-value --permanent   shows what would be gone for good; --yes deletes it

What is deleted softly is not listed any more, and records that name it can still be read;
registering the same schema brings it back. What is deleted for good is gone: records with its ids
cannot be read. A version that another schema refers to cannot be deleted. The versions that were
deleted go to stdout.";

#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    /// The subject, and the version if not all are meant
    #[arg(value_name = "SUBJECT[@VERSION]", value_parser = versioned)]
    subject: (String, Option<Version>),

    /// Delete for good, also what was deleted softly before. Shows the plan; only --yes changes something
    #[arg(long)]
    permanent: bool,

    /// Delete for good without asking
    #[arg(short, long, requires = "permanent")]
    yes: bool,

    #[command(flatten)]
    registry: Registry,
}

impl Args {
    pub(super) fn destroys(&self) -> Option<(&Registry, &'static str)> {
        match (self.permanent, self.yes) {
            (false, _) => Some((&self.registry, "deletes schemas")),
            (true, true) => Some((&self.registry, "deletes schemas for good")),
            (true, false) => None,
        }
    }
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let registry = args.registry.client()?;
    let (subject, version) = &args.subject;
    // `latest` is a number from here on: after the soft deletion it would be the one before.
    let version = match version {
        Some(Version::Latest) => Some(registry.latest(subject).await?.version),
        Some(Version::Number(number)) => Some(*number),
        None => None,
    };
    if args.permanent {
        return for_good(&registry, subject, version, args.yes).await;
    }
    let deleted = delete(&registry, subject, version, Deletion::Soft).await?;
    write_out(&lines(subject, &deleted))
}

async fn delete(
    registry: &SchemaRegistry,
    subject: &str,
    version: Option<u32>,
    deletion: Deletion,
) -> Result<Vec<u32>, RegistryError> {
    match version {
        Some(version) => {
            registry.delete_version(subject, version, deletion).await.map(|version| vec![version])
        }
        None => registry.delete_subject(subject, deletion).await,
    }
}

async fn for_good(
    registry: &SchemaRegistry,
    subject: &str,
    version: Option<u32>,
    yes: bool,
) -> Result<(), Failure> {
    let all = registry.versions_with_deleted(subject).await?;
    let live = match registry.versions(subject).await {
        Err(error) if error.is_not_found() => Vec::new(),
        live => live?,
    };
    let meant: Vec<u32> =
        all.into_iter().filter(|known| version.is_none_or(|version| version == *known)).collect();
    if let (true, Some(version)) = (meant.is_empty(), version) {
        return Err(Failure::not_found(format!("subject {subject:?} has no version {version}")));
    }
    if !yes {
        for version in &meant {
            let found = registry.version(subject, *version).await?;
            let state = if live.contains(version) { "" } else { ", deleted softly" };
            tell(format_args!("would be gone for good: {subject}@{version}, id {}{state}", found.id));
        }
        tell(format_args!("Nothing was deleted: --yes deletes these for good."));
        return Ok(());
    }
    // A registry deletes for good only what was deleted softly.
    if meant.iter().any(|version| live.contains(version)) {
        delete(registry, subject, version, Deletion::Soft).await?;
    }
    match delete(registry, subject, version, Deletion::Permanent).await {
        Ok(deleted) => write_out(&lines(subject, &deleted)),
        Err(error) => Err(Failure::from(error).hint("It is deleted softly now.")),
    }
}

fn lines(subject: &str, versions: &[u32]) -> String {
    versions.iter().map(|version| format!("{subject}@{version}\n")).collect()
}
