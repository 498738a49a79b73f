//! `milena schema get`: the text of a schema.

use std::collections::BTreeMap;

use milena_registry::framing::{Guid, SchemaId};
use milena_registry::{Schema, Version};
use serde::Serialize;
use serde_json::value::RawValue;

use super::pretty::pretty;
use super::references;
use crate::exit::Failure;
use crate::output::{to_json, write_out};
use crate::registry_options::Registry;
use crate::schemas::versioned;

const HELP: &str = "\
Examples:
  milena schema get orders-value > order.avsc    the latest version
  milena schema get orders-value@2
  milena schema get --id 7                       by the id in records
  milena schema get orders-value --references    with the schemas that it uses before it

JSON is written with a member on each line, in its own order; --raw has the registry's own bytes.
With --references each schema follows a line with its name, as in
# shop.Customer: customers-value@1

JSON, on one line; null is what is not known:
  {\"subject\":\"orders-value\",\"version\":2,\"id\":7,\"guid\":\"...\",\"type\":\"AVRO\",\"references\":
   {\"shop.Customer\":\"customers-value@1\"},\"metadata\":...,\"rule_set\":...,\"schema\":\"...\"}";

#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    /// The subject, and its version. Default: the latest
    #[arg(value_name = "SUBJECT[@VERSION]", value_parser = versioned, required_unless_present_any = ["id", "guid"])]
    subject: Option<(String, Option<Version>)>,

    /// The schema with this id
    #[arg(long, value_name = "N", conflicts_with_all = ["subject", "guid"])]
    id: Option<u32>,

    /// The schema with this GUID
    #[arg(long, value_name = "GUID", conflicts_with = "subject")]
    guid: Option<Guid>,

    /// The schemas that it uses too, each before those that use it
    #[arg(short, long)]
    references: bool,

    /// The text as the registry has it
    #[arg(long, conflicts_with = "json")]
    raw: bool,

    /// One JSON object a line
    #[arg(short = 'J', long)]
    json: bool,

    #[command(flatten)]
    registry: Registry,
}

#[derive(Serialize)]
struct Shown<'a> {
    subject: Option<&'a str>,
    version: Option<u32>,
    id: Option<u32>,
    guid: Option<String>,
    r#type: &'a str,
    references: BTreeMap<String, String>,
    metadata: Option<&'a RawValue>,
    rule_set: Option<&'a RawValue>,
    schema: &'a str,
}

/// A schema, with what is known of its place.
struct Known {
    /// By which it is referred to; the wanted one has none.
    name: Option<String>,
    subject: Option<String>,
    version: Option<u32>,
    id: Option<u32>,
    guid: Option<Guid>,
    schema: Schema,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let registry = args.registry.client()?;
    let wanted = match (&args.subject, args.id, args.guid) {
        (Some((subject, version)), _, _) => {
            let found = registry.version(subject, version.unwrap_or(Version::Latest)).await?;
            Known {
                name: None,
                subject: Some(subject.clone()),
                version: Some(found.version).filter(|version| *version > 0),
                id: Some(found.id),
                guid: found.guid,
                schema: found.schema.clone(),
            }
        }
        (None, id, guid) => {
            let of_id = id.map(SchemaId::Id).or(guid.map(SchemaId::Guid));
            let wanted = of_id.ok_or_else(|| Failure::usage("name a subject, or give --id or --guid"))?;
            let schema = registry.schema(wanted).await?;
            Known { name: None, subject: None, version: None, id, guid, schema }
        }
    };
    let mut all = Vec::new();
    if args.references {
        for (reference, schema) in registry.resolve(&wanted.schema).await? {
            // It was asked for a moment ago, so it is remembered.
            let found = registry.version(&reference.subject, version_of(reference.version)).await?;
            all.push(Known {
                name: Some(reference.name),
                subject: Some(reference.subject),
                version: Some(found.version),
                id: Some(found.id),
                guid: found.guid,
                schema,
            });
        }
    }
    all.push(wanted);
    let mut text = String::new();
    for known in &all {
        if args.json {
            text += &(shown(known)? + "\n");
            continue;
        }
        if args.references {
            text += &heading(known);
        }
        match args.raw {
            true => text += known.schema.text(),
            false => text += &pretty(&known.schema),
        }
        if args.raw && all.len() > 1 {
            text.push('\n');
        }
    }
    write_out(&text)
}

/// Registries write -1 for the latest.
fn version_of(number: i32) -> Version {
    u32::try_from(number).ok().filter(|number| *number > 0).map_or(Version::Latest, Version::Number)
}

fn heading(known: &Known) -> String {
    let place = match (&known.subject, known.version, known.id, known.guid) {
        (Some(subject), Some(version), _, _) => format!("{subject}@{version}"),
        (Some(subject), None, _, _) => subject.clone(),
        (None, _, Some(id), _) => format!("id {id}"),
        (None, _, None, guid) => guid.map(|guid| guid.to_string()).unwrap_or_default(),
    };
    match &known.name {
        Some(name) => format!("# {name}: {place}\n"),
        None => format!("# {place}\n"),
    }
}

fn shown(known: &Known) -> Result<String, Failure> {
    let json = |text: Option<&str>| text.and_then(|text| serde_json::from_str::<Box<RawValue>>(text).ok());
    let (metadata, rules) = (json(known.schema.metadata_json()), json(known.schema.rules_json()));
    to_json(&Shown {
        subject: known.subject.as_deref(),
        version: known.version,
        id: known.id,
        guid: known.guid.map(|guid| guid.to_string()),
        r#type: known.schema.kind().name(),
        references: references(&known.schema),
        metadata: metadata.as_deref(),
        rule_set: rules.as_deref(),
        schema: known.schema.text(),
    })
}
