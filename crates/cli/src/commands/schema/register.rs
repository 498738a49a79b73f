//! `milena schema register`: a schema under a subject.

use milena_registry::{RegisteredSchema, Schema, SchemaRegistry};
use serde::Serialize;

use super::named::{Kind, RemoteReference, SchemaFile, file, of_file, remote_reference};
use crate::exit::{Exit, Failure};
use crate::output::{tell, to_json, write_out};
use crate::registry_options::Registry;

const HELP: &str = "\
Examples:
  milena schema register orders-value order.avsc
  milena schema register orders-value order.proto -r customer.proto=customers-value@1
  generate-schema | milena schema register orders-value - --type json
  milena schema register orders-value order.avsc --dry-run    what would happen; exit code 7 if it is refused

The id and the version go to stdout, also if the subject has the schema already: then nothing changes.

JSON:
  {\"subject\":\"orders-value\",\"version\":2,\"id\":7,\"guid\":\"...\"}    (guid is null if the registry says none)";

#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    /// The subject
    subject: String,

    /// The file with the schema; - is stdin
    #[arg(value_name = "FILE")]
    file: String,

    /// What the file has. Default: by its ending, .avsc, .proto or .json
    #[arg(short = 't', long = "type", value_name = "TYPE")]
    kind: Option<Kind>,

    /// A schema that it uses: the name by which it does, and where that is registered; may be repeated
    #[arg(short, long = "reference", value_name = "NAME=SUBJECT@VERSION", value_parser = remote_reference)]
    references: Vec<RemoteReference>,

    /// Let the registry normalize it: the same schema in another order or form is then the same version
    #[arg(long)]
    normalize: bool,

    /// Look whether it is there, and whether it may follow, and register nothing
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// One JSON object
    #[arg(short = 'J', long, conflicts_with = "dry_run")]
    json: bool,

    #[command(flatten)]
    registry: Registry,
}

impl Args {
    pub(super) fn changes(&self) -> bool {
        !self.dry_run
    }
}

#[derive(Serialize)]
struct Registered<'a> {
    subject: &'a str,
    version: Option<u32>,
    id: u32,
    guid: Option<String>,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let registry = args.registry.builder()?.normalize(args.normalize).build()?;
    let file = file(&args.file);
    let schema = of_file(&registry, &file, args.kind.map(Into::into), &args.references).await?;
    if args.dry_run {
        return dry_run(&registry, &args.subject, &file, &schema).await;
    }
    let registered = match registry.register(&args.subject, &schema).await {
        Ok(registered) => registered,
        Err(error) if error.is_incompatible() => {
            return Err(refused(&registry, &args.subject, &schema, error.into()).await);
        }
        Err(error) => return Err(Failure::from(error).at(&file.to_string())),
    };
    // Some registries answer with the id alone.
    let known = match registered.version {
        0 => registry.lookup(&args.subject, &schema).await.ok(),
        _ => None,
    };
    let registered = known.unwrap_or(registered);
    let RegisteredSchema { id, guid, version, .. } = &*registered;
    let version = Some(*version).filter(|version| *version > 0);
    if args.json {
        let guid = guid.map(|guid| guid.to_string());
        return write_out(&(to_json(&Registered { subject: &args.subject, version, id: *id, guid })? + "\n"));
    }
    write_out(&line(&args.subject, version, *id))
}

fn line(subject: &str, version: Option<u32>, id: u32) -> String {
    match version {
        Some(version) => format!("{subject} version {version} id {id}\n"),
        None => format!("{subject} id {id}\n"),
    }
}

/// The failure of a registration, with all that is not compatible: the registry's answer to it is often cut short.
async fn refused(registry: &SchemaRegistry, subject: &str, schema: &Schema, failure: Failure) -> Failure {
    let Ok(check) = registry.check_compatibility(subject, None, schema).await else { return failure };
    check.messages.iter().for_each(tell);
    if check.messages.is_empty() {
        return failure;
    }
    Failure::new(
        Exit::CheckFailed,
        format!("the schema is not compatible with subject {subject:?}; nothing was registered"),
    )
    .hint(format!(
        "`milena schema diff {subject} FILE` shows what differs, and `milena schema compatibility {subject}` the level."
    ))
}

async fn dry_run(
    registry: &SchemaRegistry,
    subject: &str,
    file: &SchemaFile,
    schema: &Schema,
) -> Result<(), Failure> {
    // A registry need not look at a schema that follows no other.
    schema
        .parsed(&registry.resolve(schema).await?)
        .map_err(|error| Failure::usage(format!("{file}: {error}")))?;
    match registry.lookup(subject, schema).await {
        Ok(known) => {
            let version = Some(known.version).filter(|version| *version > 0);
            return write_out(&format!("it is registered: {}", line(subject, version, known.id)));
        }
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(Failure::from(error).at(&file.to_string())),
    }
    match registry.check_compatibility(subject, None, schema).await {
        Ok(check) if check.is_compatible => {}
        Ok(check) => {
            check.messages.iter().for_each(tell);
            let what = format!("{file}: the schema is not compatible with subject {subject:?}");
            return Err(Failure::new(Exit::CheckFailed, what));
        }
        // There is nothing to be compatible with.
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(Failure::from(error).at(&file.to_string())),
    }
    write_out(&format!("it would be a new version of {subject}\n"))
}
