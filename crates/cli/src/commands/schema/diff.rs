//! `milena schema diff`: what differs between two schemas, and which of them reads the other one's data.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use milena_registry::compat::{self, Direction, Incompatibility, Level};
use serde::Serialize;

use super::named::{Kind, LocalReference, NAMES, Named, local_reference, named, registry_for};
use super::{Finding, references};
use crate::exit::Failure;
use crate::output::{to_json, write_out};
use crate::registry_options::Registry;

const EXAMPLES: &str = "\
Examples:
  milena schema diff orders-value@1 orders-value    the first version, and the latest
  milena schema diff orders-value order.avsc        before it is registered
  milena schema diff old.proto new.proto            without a registry";

const OUTPUT: &str = "\
Of each part that differs there is a line: - what only the first schema has, + what only the second
one has, ~ what is different in both. A part is named by its field in Avro (shop.Order.id), by
message and number in Protobuf (#/Order/3), and by its place in JSON Schema (#/properties/id).
Then follows which schema reads the other one's data, and why not: the second one after the first is
BACKWARD compatible if it reads the first one's data, FORWARD compatible if the first one reads its
data, and FULL if both do. The exit code is 0, whether or not they differ.

JSON, on one line; before is null if the part was added, after if it was removed:
  {\"from\":\"orders-value@1\",\"to\":\"orders-value@2\",\"changes\":[{\"path\":\"shop.Order.id\",
   \"before\":\"int\",\"after\":\"long\"}],\"is_backward\":true,\"is_forward\":false,\"findings\":[{\"kind\":
   \"TYPE_MISMATCH\",\"path\":\"...\",\"detail\":\"...\",\"direction\":\"forward\",\"advice\":\"...\"}]}";

#[derive(Debug, clap::Args)]
#[command(after_help = [EXAMPLES, NAMES, OUTPUT].join("\n\n"))]
pub(super) struct Args {
    /// The first schema
    #[arg(value_name = "FROM", value_parser = named)]
    from: Named,

    /// The second schema
    #[arg(value_name = "TO", value_parser = named)]
    to: Named,

    /// What files have. Default: by their endings, .avsc, .proto or .json
    #[arg(short = 't', long = "type", value_name = "TYPE")]
    kind: Option<Kind>,

    /// A file that the files use: the name by which they do, and where it is; may be repeated
    #[arg(short, long = "reference", value_name = "NAME=FILE", value_parser = local_reference)]
    references: Vec<LocalReference>,

    /// One JSON object
    #[arg(short = 'J', long)]
    json: bool,

    #[command(flatten)]
    registry: Registry,
}

#[derive(Serialize)]
struct Difference<'a> {
    from: &'a str,
    to: &'a str,
    changes: Vec<Change<'a>>,
    is_backward: bool,
    is_forward: bool,
    findings: Vec<Finding<'a>>,
}

#[derive(Serialize)]
struct Change<'a> {
    path: &'a str,
    before: Option<&'a str>,
    after: Option<&'a str>,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    if [&args.from, &args.to].iter().all(|name| matches!(name, Named::File(file) if file.is_stdin())) {
        return Err(Failure::usage("- is named twice, and stdin can be read once"));
    }
    let registry = registry_for(&[&args.from, &args.to], &args.registry)?;
    let from = args.from.found(registry.as_ref(), args.kind.map(Into::into), &args.references).await?;
    let to = args.to.found(registry.as_ref(), args.kind.map(Into::into), &args.references).await?;
    let (old, new) = (from.parsed()?, to.parsed()?);
    let parts = compat::diff(&old, &new);
    let (before, after) = (references(&from.schema), references(&to.schema));
    let olds = [old];
    let found = compat::check(Level::Full, &new, &olds).err().unwrap_or_default();
    // Files say where a reference is, and a registry which version it is: that is no difference.
    let uses = if args.from.is_remote() && args.to.is_remote() {
        of_references(&before, &after)
    } else {
        Vec::new()
    };
    let breaks = |direction| found.iter().any(|found: &Incompatibility| found.direction() == direction);
    let (is_backward, is_forward) = (!breaks(Direction::Backward), !breaks(Direction::Forward));
    let shown = parts.iter().map(|change| Change {
        path: change.path(),
        before: change.before(),
        after: change.after(),
    });
    let uses = uses.iter().map(|(path, before, after)| Change { path, before: *before, after: *after });
    let changes: Vec<_> = shown.chain(uses).collect();
    let (from, to) = (&*from.name, &*to.name);
    if args.json {
        let findings = found.iter().map(Finding::of).collect();
        let difference = Difference { from, to, changes, is_backward, is_forward, findings };
        return write_out(&(to_json(&difference)? + "\n"));
    }
    let mut text = String::new();
    for Change { path, before, after } in &changes {
        // Writing into a String cannot fail.
        let _ = match (before, after) {
            (Some(before), None) => writeln!(text, "- {path}: {before}"),
            (None, Some(after)) => writeln!(text, "+ {path}: {after}"),
            (before, after) => {
                writeln!(text, "~ {path}: {} -> {}", before.unwrap_or_default(), after.unwrap_or_default())
            }
        };
    }
    if changes.is_empty() {
        text += "no difference\n";
    }
    text.push('\n');
    reads(&mut text, to, from, "BACKWARD", &found, Direction::Backward);
    reads(&mut text, from, to, "FORWARD", &found, Direction::Forward);
    write_out(&text)
}

/// What is referred to in another version, or by one of the two only.
fn of_references<'a>(
    before: &'a BTreeMap<String, String>,
    after: &'a BTreeMap<String, String>,
) -> Vec<(String, Option<&'a str>, Option<&'a str>)> {
    let names: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let place = |of: &'a BTreeMap<String, String>, name: &str| of.get(name).map(String::as_str);
    let all =
        names.into_iter().map(|name| (format!("reference {name}"), place(before, name), place(after, name)));
    all.filter(|(_, before, after)| before != after).collect()
}

/// Whether `reader` reads what `writer` wrote.
fn reads(
    text: &mut String,
    reader: &str,
    writer: &str,
    level: &str,
    found: &[Incompatibility],
    direction: Direction,
) {
    let found: Vec<_> = found.iter().filter(|found| found.direction() == direction).collect();
    let does = if found.is_empty() { "reads" } else { "does not read" };
    let is = if found.is_empty() { "" } else { "not " };
    let _ = writeln!(text, "{reader} {does} the data of {writer}: {is}{level} compatible");
    for found in found {
        let (kind, advice) = (found.kind().name(), found.kind().advice());
        let _ = writeln!(text, "  {kind} at {}: {}; {advice}", found.path(), found.detail());
    }
}
