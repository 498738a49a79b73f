//! `cargo xtask gen`: Rust messages out of Kafka's schemas.
//!
//! ```text
//!  Kafka's jars ─▶ jar ─▶ schema (JSON as written) ─▶ model (resolved) ─▶ emit ─▶ rustfmt ─▶ crates/messages/src/gen
//!                                                     docs (ours) ───────────┘
//! ```
//!
//! The rules are those of Kafka's own generator; where a schema does something never seen, this one stops.

mod docs;
mod emit;
pub(crate) mod jar;
mod keys;
mod model;
mod names;
mod schema;
mod versions;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use lexopt::Arg;

use docs::Docs;
use model::Module;
use schema::{Kind, Schema};

/// The release whose schemas the committed code follows.
pub const RELEASE: &str = "4.4.0";

/// The jars that hold schemas of what clients send, receive and find in internal topics, and their Java packages.
const ARTIFACTS: [(&str, &str); 3] = [
    ("kafka-clients", "org.apache.kafka.common.message"),
    ("kafka-group-coordinator", "org.apache.kafka.coordinator.group.generated"),
    ("kafka-transaction-coordinator", "org.apache.kafka.coordinator.transaction.generated"),
];

/// Payloads that no client reads: KRaft's own control records, and the principal inside a forwarded request.
const PAYLOADS_LEFT_OUT: [&str; 6] = [
    "DefaultPrincipalData",
    "KRaftVersionRecord",
    "LeaderChangeMessage",
    "SnapshotFooterRecord",
    "SnapshotHeaderRecord",
    "VotersRecord",
];

/// Writes the generated files, or with `--check` compares them with what is committed.
///
/// # Errors
/// When the schemas cannot be read, or with `--check` when a file differs.
pub fn run(mut args: lexopt::Parser) -> Result<()> {
    let mut check = false;
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("check") => check = true,
            other => return Err(other.unexpected().into()),
        }
    }
    let target = crate::root().join("crates/messages/src/gen");
    let files = generate()?;
    if check { compare(&files, &target) } else { write(&files, &target) }
}

/// The generated files, formatted, by name.
///
/// # Errors
/// When the schemas cannot be fetched, read or understood.
pub fn generate() -> Result<BTreeMap<String, String>> {
    let schemas: Vec<Schema> = schemas()?.into_iter().map(|(_, schema)| schema).collect();
    let mut docs = Docs::parse(include_str!("docs.txt"))?;
    let mut files = BTreeMap::new();
    let modules = modules(&schemas)?;
    for module in &modules {
        files.insert(format!("{}.rs", module.name), emit::module(module, RELEASE, &mut docs)?);
    }
    docs.check_all_used()?;
    files.insert("api_key.rs".to_owned(), keys::table(&schemas, RELEASE)?);
    files.insert("mod.rs".to_owned(), index(&modules));
    format(files)
}

/// The jars that the schemas come from.
pub(crate) fn jars() -> Result<Vec<PathBuf>> {
    ARTIFACTS.iter().map(|(artifact, _)| jar::fetch("org.apache.kafka", artifact, RELEASE)).collect()
}

/// The Java classes of all messages that are generated here.
pub(crate) fn java_classes() -> Result<Vec<String>> {
    let all = schemas()?.into_iter().filter(|(_, schema)| is_generated(schema));
    Ok(all
        .map(|(package, schema)| match schema.kind {
            Kind::Request | Kind::Response | Kind::Header => format!("{package}.{}Data", schema.name),
            Kind::Data | Kind::CoordinatorKey | Kind::CoordinatorValue => {
                format!("{package}.{}", schema.name)
            }
        })
        .collect())
}

/// All schemas, with the Java package of their classes.
fn schemas() -> Result<Vec<(&'static str, Schema)>> {
    let mut schemas = Vec::new();
    for (jar, (_, package)) in jars()?.iter().zip(ARTIFACTS) {
        schemas.extend(jar::schemas(jar)?.into_iter().map(|schema| (package, schema)));
    }
    Ok(schemas)
}

/// Which schemas make a file together: request and response of an API, key and value of a coordinator's record.
fn modules(schemas: &[Schema]) -> Result<Vec<Module>> {
    let mut groups: BTreeMap<String, Vec<&Schema>> = BTreeMap::new();
    for schema in schemas.iter().filter(|schema| is_generated(schema)) {
        groups.entry(module_name(schema)).or_default().push(schema);
    }
    groups.iter().map(|(name, schemas)| Module::resolve(name, schemas)).collect()
}

fn is_generated(schema: &Schema) -> bool {
    let removed = schema.valid.is_empty();
    match schema.kind {
        Kind::Request => !removed && keys::is_for_clients(schema),
        // A response has the listeners of its request, which alone names them.
        Kind::Response => !removed && !keys::CONTROLLER_ONLY.contains(&names::api(&schema.name)),
        Kind::Data => !PAYLOADS_LEFT_OUT.contains(&schema.name.as_str()),
        Kind::Header | Kind::CoordinatorKey | Kind::CoordinatorValue => true,
    }
}

fn module_name(schema: &Schema) -> String {
    let name = schema.name.as_str();
    match schema.kind {
        Kind::Request | Kind::Response => names::snake(names::api(name)),
        Kind::Header => "header".to_owned(),
        Kind::Data => names::snake(name),
        Kind::CoordinatorKey | Kind::CoordinatorValue => {
            let record = name.trim_end_matches("Key").trim_end_matches("Value");
            format!("{}_record", names::snake(record))
        }
    }
}

fn index(modules: &[Module]) -> String {
    let mut out =
        format!("//! One module per API key or payload, from Apache Kafka {RELEASE}'s schemas.\n//!\n");
    out.push_str("//! Generated by `cargo xtask gen`. Not edited by hand.\n\n");
    out.push_str(
        "#![allow(missing_docs, reason = \"schema names speak for themselves; docs.txt has the others\")]\n\n",
    );
    out.push_str("pub(crate) mod api_key;\n");
    for module in modules {
        out.push_str(&format!("pub mod {};\n", module.name));
    }
    out.push_str(
        "\n/// Hands every message type to a macro, as `callback! { path::to::Message, … }`.\n///\n\
         /// For code that must treat all alike: tests, fuzzing, tools that dump frames.\n\
         #[macro_export]\nmacro_rules! for_each_message {\n($callback:ident) => {\n$callback! {\n",
    );
    for module in modules {
        for message in &module.messages {
            out.push_str(&format!("$crate::{}::{},\n", module.name, message.name));
        }
    }
    out.push_str("}\n};\n}\n");
    out
}

/// Formats with the project's own rustfmt settings.
fn format(files: BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    let directory = jar::scratch()?;
    let mut rustfmt = Command::new("rustfmt");
    rustfmt.args(["--edition", "2024", "--config-path"]).arg(crate::root());
    rustfmt.args(["--config", "skip_children=true"]);
    let mut paths = Vec::new();
    for (name, text) in &files {
        let path = directory.join(name);
        std::fs::write(&path, text)?;
        paths.push(path);
    }
    // The index names the others as its modules, so formatting it formats all.
    jar::run(rustfmt.args(&paths))?;
    let formatted =
        files.into_keys().zip(&paths).map(|(name, path)| Ok((name, std::fs::read_to_string(path)?)));
    let formatted = formatted.collect();
    std::fs::remove_dir_all(&directory)?;
    formatted
}

fn write(files: &BTreeMap<String, String>, target: &Path) -> Result<()> {
    std::fs::create_dir_all(target)?;
    for stale in committed(target)?.keys().filter(|name| !files.contains_key(*name)) {
        std::fs::remove_file(target.join(stale))?;
    }
    for (name, text) in files {
        std::fs::write(target.join(name), text)?;
    }
    let lines: usize = files.values().map(|text| text.lines().count()).sum();
    println!("{} files, {lines} lines", files.len());
    Ok(())
}

/// Fails with the names of files that differ from what is committed.
///
/// # Errors
/// When there are any.
pub fn compare(files: &BTreeMap<String, String>, target: &Path) -> Result<()> {
    let committed = committed(target)?;
    let mut differing: Vec<&String> = files
        .iter()
        .filter(|(name, text)| committed.get(*name) != Some(*text))
        .map(|(name, _)| name)
        .collect();
    differing.extend(committed.keys().filter(|name| !files.contains_key(*name)));
    if !differing.is_empty() {
        bail!("not what `cargo xtask gen` writes: {differing:?}");
    }
    Ok(())
}

fn committed(target: &Path) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(target).with_context(|| target.display().to_string())? {
        let path: PathBuf = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.insert(name, std::fs::read_to_string(&path)?);
    }
    Ok(files)
}
