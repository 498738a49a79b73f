//! `milena schema ls`: subjects, or their versions.

use std::sync::Arc;

use milena_registry::{RegistryError, SchemaRegistry};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::exit::Failure;
use crate::output::{to_json, write_out};
use crate::registry_options::Registry;
use crate::table::{Align, Table};

const HELP: &str = "\
Examples:
  milena schema ls                      each subject with its latest version
  milena schema ls orders-              those whose names begin so
  milena schema ls --versions --json    each version on a line
  milena schema ls --context staging    subjects of another context

JSON lines:
  {\"subject\":\"orders-value\",\"version\":2,\"id\":7,\"type\":\"AVRO\",\"compatibility\":\"BACKWARD\",\"is_deleted\":false}
With --versions there is no compatibility. A subject that was deleted softly has no latest version:
without --versions its version, id and type are null.";

#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    /// Only subjects whose names begin so
    #[arg(default_value = "", hide_default_value = true)]
    prefix: String,

    /// Each version, not only the latest one
    #[arg(long)]
    versions: bool,

    /// Also what was deleted softly
    #[arg(long)]
    deleted: bool,

    /// Subjects of this context. Default: the default context
    #[arg(long, value_name = "NAME")]
    context: Option<String>,

    /// One JSON object a line
    #[arg(short = 'J', long)]
    json: bool,

    #[command(flatten)]
    registry: Registry,
}

/// What is shown of a subject or a version.
#[derive(Serialize)]
struct Listed {
    subject: String,
    version: Option<u32>,
    id: Option<u32>,
    r#type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compatibility: Option<String>,
    is_deleted: bool,
}

/// Requests at once: a registry far away answers a thousand subjects in seconds, and none is flooded.
const REQUESTS_MAX: usize = 16;

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let registry = args.registry.client()?;
    let prefix = match &args.context {
        Some(context) => format!(":.{}:{}", context.trim_start_matches('.'), args.prefix),
        None => args.prefix.clone(),
    };
    let live = registry.subjects(&prefix, false).await?;
    let all = if args.deleted { registry.subjects(&prefix, true).await? } else { live.clone() };
    let rows = look_up(&registry, all, &live, args.versions, args.deleted).await?;
    let mut table = Table::new(&[
        ("subject", Align::Left),
        ("version", Align::Right),
        ("id", Align::Right),
        ("type", Align::Left),
        (if args.versions { "" } else { "compatibility" }, Align::Left),
        ("", Align::Left),
    ]);
    let mut lines = String::new();
    for row in rows {
        if args.json {
            lines += &(to_json(&row)? + "\n");
            continue;
        }
        let number = |number: Option<u32>| number.map(|number| number.to_string()).unwrap_or_default();
        let deleted = if row.is_deleted { "deleted" } else { "" };
        table.row([
            row.subject,
            number(row.version),
            number(row.id),
            row.r#type.unwrap_or_default(),
            row.compatibility.unwrap_or_default(),
            deleted.into(),
        ]);
    }
    write_out(&if args.json { lines } else { table.text(0) })
}

/// Looks the subjects up, some at a time. Their order stays.
async fn look_up(
    registry: &SchemaRegistry,
    subjects: Vec<String>,
    live: &[String],
    versions: bool,
    deleted: bool,
) -> Result<Vec<Listed>, Failure> {
    let permits = Arc::new(Semaphore::new(REQUESTS_MAX));
    let mut tasks = JoinSet::new();
    for (place, subject) in subjects.into_iter().enumerate() {
        let (registry, permits, is_live) = (registry.clone(), Arc::clone(&permits), live.contains(&subject));
        tasks.spawn(async move {
            // It is never closed.
            let _permit = permits.acquire_owned().await;
            let rows = match versions {
                true => each_version(&registry, &subject, deleted).await,
                false => latest(&registry, &subject, is_live).await,
            };
            (place, rows)
        });
    }
    let mut found = Vec::new();
    while let Some(joined) = tasks.join_next().await {
        let (place, rows) = joined.map_err(|error| Failure::failed(error.to_string()))?;
        match rows {
            Ok(rows) => found.push((place, rows)),
            // It was deleted since it was listed.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    found.sort_by_key(|(place, _)| *place);
    Ok(found.into_iter().flat_map(|(_, rows)| rows).collect())
}

async fn latest(
    registry: &SchemaRegistry,
    subject: &str,
    is_live: bool,
) -> Result<Vec<Listed>, RegistryError> {
    let level = registry.compatibility(Some(subject)).await?;
    let compatibility = Some(milena_registry::compat::Level::from(level).name().to_owned());
    let subject = subject.to_owned();
    if !is_live {
        return Ok(vec![Listed {
            subject,
            version: None,
            id: None,
            r#type: None,
            compatibility,
            is_deleted: true,
        }]);
    }
    let latest = registry.latest(&subject).await?;
    let kind = Some(latest.schema.kind().name().to_owned());
    let (version, id) = (Some(latest.version), Some(latest.id));
    Ok(vec![Listed { subject, version, id, r#type: kind, compatibility, is_deleted: false }])
}

async fn each_version(
    registry: &SchemaRegistry,
    subject: &str,
    deleted: bool,
) -> Result<Vec<Listed>, RegistryError> {
    // A subject whose versions are all deleted has none.
    let live = match registry.versions(subject).await {
        Err(error) if deleted && error.is_not_found() => Vec::new(),
        live => live?,
    };
    let all = if deleted { registry.versions_with_deleted(subject).await? } else { live.clone() };
    let mut rows = Vec::with_capacity(all.len());
    for version in all {
        let found = registry.version(subject, version).await?;
        rows.push(Listed {
            subject: subject.to_owned(),
            version: Some(version),
            id: Some(found.id),
            r#type: Some(found.schema.kind().name().to_owned()),
            compatibility: None,
            is_deleted: !live.contains(&version),
        });
    }
    Ok(rows)
}
