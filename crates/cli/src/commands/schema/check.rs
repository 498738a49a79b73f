//! `milena schema check`: whether a schema may follow others, as a registry says it or as it is found here.

use milena_registry::compat::{self, Level};
use milena_registry::{SchemaRegistry, Version};
use serde::Serialize;

use super::named::{
    Found, Kind, LocalReference, Named, RemoteReference, SchemaFile, file, local_reference, of_file,
    remote_reference,
};
use super::{Finding, level};
use crate::exit::{Exit, Failure};
use crate::output::{to_json, write_out};
use crate::registry_options::Registry;

const HELP: &str = "\
Examples:
  milena schema check orders-value order.avsc           asks the registry, at the subject's level
  milena schema check orders-value order.avsc -c full   compares its versions here, at another level
  milena schema check --against v1.proto v2.proto       files only; no registry is asked
  milena schema check --against v1.proto --against v2.proto v3.proto -c full_transitive

The levels: backward (the new schema reads what the latest one wrote), forward (the latest one reads
what the new one writes), full (both), the same with _transitive (with all versions), and none. What
is compared here is compared by the rules of Confluent's registry, which docs/schemas.md has.

Each finding is a line on stdout, with its rule, its place in the schema and what to do. Exit code 7
says that the schema is not compatible, 2 that a schema is none.

JSON, on one line; a registry's answer has messages and no findings:
  {\"is_compatible\":false,\"level\":\"BACKWARD\",\"against\":\"orders-value@2\",\"messages\":[\"...\"],
   \"findings\":[{\"kind\":\"READER_FIELD_MISSING_DEFAULT_VALUE\",\"path\":\"/fields/1\",\"detail\":\"...\",
   \"direction\":\"backward\",\"advice\":\"...\"}]}";

#[derive(Debug, clap::Args)]
#[command(
    after_help = HELP,
    override_usage = "milena schema check [OPTIONS] <SUBJECT> <FILE>\n       milena schema check [OPTIONS] --against <OLDFILE>... <FILE>"
)]
pub(super) struct Args {
    /// The subject, unless --against is given, and the file with the new schema; - is stdin
    #[arg(value_name = "SUBJECT", num_args = 1..=2, required = true)]
    names: Vec<String>,

    /// A file with an earlier version; may be repeated, the oldest first. No registry is asked
    #[arg(short, long, value_name = "OLDFILE")]
    against: Vec<String>,

    /// The level. Default: what the registry has for the subject; with --against, backward
    #[arg(short, long, value_name = "LEVEL", value_parser = level)]
    compatibility: Option<Level>,

    /// Only against this version of the subject, or latest
    #[arg(long, value_name = "VERSION", value_parser = version, conflicts_with_all = ["against", "compatibility"])]
    version: Option<Version>,

    /// What the files have. Default: by their endings, .avsc, .proto or .json
    #[arg(short = 't', long = "type", value_name = "TYPE")]
    kind: Option<Kind>,

    /// A schema that the new one uses: NAME=SUBJECT@VERSION, or NAME=FILE with --against, where the old ones use it too;
    /// may be repeated
    #[arg(short, long = "reference", value_name = "NAME=...")]
    references: Vec<String>,

    /// One JSON object
    #[arg(short = 'J', long)]
    json: bool,

    #[command(flatten)]
    registry: Registry,
}

fn version(text: &str) -> Result<Version, String> {
    match text {
        "latest" => Ok(Version::Latest),
        number => {
            let number = number.parse().ok().filter(|number| *number > 0);
            number.map(Version::Number).ok_or_else(|| "write a number from 1 on, or latest".into())
        }
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    is_compatible: bool,
    level: Option<&'static str>,
    against: String,
    messages: Vec<String>,
    findings: Vec<Finding<'a>>,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    match (&*args.names, args.against.is_empty()) {
        ([path], false) => locally(&args, &file(path)).await,
        ([subject, path], true) => remotely(&args, subject, &file(path)).await,
        ([_], true) => {
            Err(Failure::usage("name the SUBJECT and the FILE, or earlier versions with --against OLDFILE"))
        }
        _ => Err(Failure::usage("with --against there is one FILE and no SUBJECT")),
    }
}

async fn locally(args: &Args, new: &SchemaFile) -> Result<(), Failure> {
    let others =
        args.references.iter().map(|text| local_reference(text).map_err(|why| wrong_reference(text, &why)));
    let others: Vec<LocalReference> = others.collect::<Result<_, _>>()?;
    // A file without a type in its name is of the type of the others.
    let kind = args.kind.map(Into::into).or_else(|| new.kind(None).ok());
    let names = args.against.iter().map(|path| file(path));
    let files: Vec<SchemaFile> = names.chain([new.clone()]).collect();
    if files.iter().filter(|file| file.is_stdin()).count() > 1 {
        return Err(Failure::usage("- is named more than once, and stdin can be read once"));
    }
    let mut found = Vec::new();
    for file in &files {
        found.push(
            file.found(file.kind(None).ok().filter(|_| args.kind.is_none()).or(kind.clone()), &others)
                .await?,
        );
    }
    let Some(new) = found.pop() else { return Err(Failure::usage("there is no file")) };
    compare(args, args.compatibility.unwrap_or_default(), &new, &found)
}

fn wrong_reference(text: &str, why: &str) -> Failure {
    Failure::usage(format!("--reference {text}: {why}"))
}

async fn remotely(args: &Args, subject: &str, new: &SchemaFile) -> Result<(), Failure> {
    let references = args.references.iter();
    let references = references.map(|text| remote_reference(text).map_err(|why| wrong_reference(text, &why)));
    let references: Vec<RemoteReference> = references.collect::<Result<_, _>>()?;
    let registry = args.registry.client()?;
    let schema = of_file(&registry, new, args.kind.map(Into::into), &references).await?;
    if let Some(level) = args.compatibility {
        let needed = registry.resolve(&schema).await?;
        let new = Found { schema, needed, name: new.to_string() };
        let older = versions(&registry, subject, level).await?;
        return compare(args, level, &new, &older);
    }
    let level = match args.version {
        Some(_) => None,
        None => Some(Level::from(registry.compatibility(Some(subject)).await?).name()),
    };
    let check = registry.check_compatibility(subject, args.version, &schema).await;
    let check = check.map_err(|error| Failure::from(error).at(&new.to_string()))?;
    let at_version = args.version.map(|version| format!("@{version}")).unwrap_or_default();
    let answer = Answer {
        is_compatible: check.is_compatible,
        level,
        against: format!("{subject}{at_version}"),
        messages: check.messages,
        findings: Vec::new(),
    };
    tell(args, &answer)
}

/// The versions that the level looks at, the oldest first.
async fn versions(registry: &SchemaRegistry, subject: &str, level: Level) -> Result<Vec<Found>, Failure> {
    let numbers = registry.versions(subject).await?;
    let is_transitive = level.name().ends_with("_TRANSITIVE");
    let from = if is_transitive { 0 } else { numbers.len().saturating_sub(1) };
    let mut found = Vec::new();
    for number in &numbers[from..] {
        let name = Named::Subject(subject.to_owned(), Version::Number(*number));
        found.push(name.found(Some(registry), None, &[]).await?);
    }
    Ok(found)
}

/// Compares here.
fn compare(args: &Args, level: Level, new: &Found, older: &[Found]) -> Result<(), Failure> {
    let parsed = new.parsed()?;
    let olds = older.iter().map(Found::parsed).collect::<Result<Vec<_>, _>>()?;
    let found = compat::check(level, &parsed, &olds).err().unwrap_or_default();
    // A check ends at the first version that is not compatible.
    let against = match found.first() {
        Some(first) => older.get(first.older()).map(|old| old.name.clone()).unwrap_or_default(),
        None => older.iter().map(|old| &*old.name).collect::<Vec<_>>().join(", "),
    };
    let answer = Answer {
        is_compatible: found.is_empty(),
        level: Some(level.name()),
        against,
        messages: found.iter().map(ToString::to_string).collect(),
        findings: found.iter().map(Finding::of).collect(),
    };
    tell(args, &answer)
}

fn tell(args: &Args, answer: &Answer<'_>) -> Result<(), Failure> {
    let level = answer.level.map(|level| format!(" at level {level}")).unwrap_or_default();
    if args.json {
        write_out(&(to_json(answer)? + "\n"))?;
    } else if answer.is_compatible {
        write_out(&format!("compatible with {}{level}\n", answer.against))?;
    } else {
        write_out(&answer.messages.iter().map(|message| format!("{message}\n")).collect::<String>())?;
    }
    if answer.is_compatible {
        return Ok(());
    }
    Err(Failure::new(
        Exit::CheckFailed,
        format!("the schema is not compatible with {}{level}", answer.against),
    ))
}
