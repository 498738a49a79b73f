//! Schemas as a command line names them: a version of a subject, an id, a GUID, or a file.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use milena_registry::compat::{self, SCHEMA_BYTES_MAX};
use milena_registry::framing::{Guid, SchemaId};
use milena_registry::{Reference, Schema, SchemaRegistry, SchemaType, Version};
use tokio::task::spawn_blocking;

use crate::exit::{Exit, Failure};
use crate::registry_options::Registry;
use crate::schemas::{type_of, versioned};

/// The type of a schema in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    Avro,
    Protobuf,
    Json,
}

impl From<Kind> for SchemaType {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Avro => Self::Avro,
            Kind::Protobuf => Self::Protobuf,
            Kind::Json => Self::Json,
        }
    }
}

/// A file; `-` is stdin.
#[derive(Clone, Debug)]
pub(super) struct SchemaFile(PathBuf);

/// A schema, wherever it is.
#[derive(Clone, Debug)]
pub(super) enum Named {
    File(SchemaFile),
    Subject(String, Version),
    Id(u32),
    Guid(Guid),
}

/// What was found under a name.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) schema: Schema,
    /// Each before those that use it.
    pub(super) needed: Vec<(Reference, Schema)>,
    /// As it is shown: `orders-value@2`.
    pub(super) name: String,
}

impl Found {
    /// Reads it for the local checks.
    pub(super) fn parsed(&self) -> Result<compat::Schema, Failure> {
        self.schema.parsed(&self.needed).map_err(|error| Failure::usage(format!("{}: {error}", self.name)))
    }
}

/// Reads what `diff` takes.
pub(super) fn named(text: &str) -> Result<Named, String> {
    let is_file = |text: &str| {
        text == "-"
            || text.contains(['/', '\\'])
            || Path::new(text).is_file()
            || type_of(Path::new(text)).is_some()
    };
    if let Some(id) = text.strip_prefix("id:") {
        return id.parse().map(Named::Id).map_err(|_| "write id:NUMBER".into());
    }
    if let Some(guid) = text.strip_prefix("guid:") {
        return guid.parse().map(Named::Guid).map_err(|_| "write guid: and 32 hexadecimal digits".into());
    }
    if let Some(path) = text.strip_prefix("file:") {
        return Ok(Named::File(file(path)));
    }
    let subject = text.strip_prefix("subject:");
    if subject.is_none() && is_file(text) {
        return Ok(Named::File(file(text)));
    }
    let (subject, version) = versioned(subject.unwrap_or(text))?;
    Ok(Named::Subject(subject, version.unwrap_or(Version::Latest)))
}

/// What [`named`] takes, for help texts.
pub(super) const NAMES: &str = "\
A schema is SUBJECT (its latest version), SUBJECT@VERSION, id:NUMBER, guid:GUID, or a file: what has
a slash, ends with .avsc, .avro, .proto, .json or .jsonschema, or is the name of a file here. - is
stdin. subject:NAME and file:PATH say which of the two is meant.";

pub(super) fn file(path: &str) -> SchemaFile {
    SchemaFile(path.into())
}

impl fmt::Display for SchemaFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_stdin() { f.write_str("stdin") } else { self.0.display().fmt(f) }
    }
}

impl SchemaFile {
    pub(super) fn is_stdin(&self) -> bool {
        self.0.as_os_str() == "-"
    }

    /// The type: the one that is given, or that of the ending.
    pub(super) fn kind(&self, given: Option<SchemaType>) -> Result<SchemaType, Failure> {
        given.or_else(|| type_of(&self.0)).ok_or_else(|| {
            Failure::usage(format!("{self}: the type of the schema is not known by the name of the file"))
                .hint("Add --type avro, protobuf or json. The endings .avsc, .avro, .proto, .json and .jsonschema say it too.")
        })
    }

    /// The text, which is limited.
    pub(super) async fn text(&self) -> Result<String, Failure> {
        let (path, is_stdin) = (self.0.clone(), self.is_stdin());
        let read = spawn_blocking(move || {
            let mut bytes = Vec::new();
            let limit = SCHEMA_BYTES_MAX as u64 + 1;
            if is_stdin {
                io::stdin().lock().take(limit).read_to_end(&mut bytes)?;
            } else {
                File::open(path)?.take(limit).read_to_end(&mut bytes)?;
            }
            Ok::<_, io::Error>(bytes)
        });
        let bytes = match read.await.map_err(|error| Failure::failed(error.to_string()))? {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Failure::not_found(format!("the file {self} does not exist")));
            }
            Err(error) => return Err(Failure::failed(format!("cannot read {self}: {error}"))),
        };
        if bytes.len() > SCHEMA_BYTES_MAX {
            return Err(Failure::usage(format!("{self} is longer than {SCHEMA_BYTES_MAX} bytes")));
        }
        let text = String::from_utf8(bytes).map_err(|_| Failure::usage(format!("{self} is not UTF-8")))?;
        if text.trim().is_empty() {
            return Err(Failure::usage(format!("{self} is empty")));
        }
        // Editors on Windows write a mark that no schema has.
        Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
    }

    /// The schema, and what it needs of other files.
    pub(super) async fn found(
        &self,
        kind: Option<SchemaType>,
        others: &[LocalReference],
    ) -> Result<Found, Failure> {
        let kind = self.kind(kind)?;
        let mut schema = Schema::new(kind.clone(), self.text().await?);
        let mut needed = Vec::new();
        for LocalReference { name, file } in others {
            let reference = Reference::new(name.clone(), file.to_string(), -1);
            schema = schema.reference(reference.clone());
            needed.push((reference, Schema::new(kind.clone(), file.text().await?)));
        }
        Ok(Found { schema, needed, name: self.to_string() })
    }
}

/// A file that a schema in another file refers to.
#[derive(Clone, Debug)]
pub(super) struct LocalReference {
    name: String,
    file: SchemaFile,
}

/// Reads `NAME=FILE`. A URI may have an equals sign.
pub(super) fn local_reference(text: &str) -> Result<LocalReference, String> {
    match text.rsplit_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok(LocalReference { name: name.into(), file: file(path) })
        }
        _ => Err("write NAME=FILE".into()),
    }
}

/// A version of a subject that a schema refers to.
#[derive(Clone, Debug)]
pub(super) struct RemoteReference {
    name: String,
    subject: String,
    version: Version,
}

/// Reads `NAME=SUBJECT@VERSION`.
pub(super) fn remote_reference(text: &str) -> Result<RemoteReference, String> {
    let wrong = "write NAME=SUBJECT@VERSION, as in shop.Customer=customers-value@1";
    let (name, rest) = text.rsplit_once('=').filter(|(name, _)| !name.is_empty()).ok_or(wrong)?;
    let (subject, version) = versioned(rest)?;
    Ok(RemoteReference { name: name.into(), subject, version: version.ok_or(wrong)? })
}

impl RemoteReference {
    /// The reference with the number of its version.
    async fn resolved(&self, registry: &SchemaRegistry) -> Result<Reference, Failure> {
        let found = registry
            .version(&self.subject, self.version)
            .await
            .map_err(|error| Failure::from(error).at(&format!("the reference {:?}", self.name)))?;
        let version = i32::try_from(found.version).unwrap_or(-1);
        Ok(Reference::new(self.name.clone(), self.subject.clone(), version))
    }
}

/// The schema of a file that is to be registered, with references to a registry.
pub(super) async fn of_file(
    registry: &SchemaRegistry,
    file: &SchemaFile,
    kind: Option<SchemaType>,
    references: &[RemoteReference],
) -> Result<Schema, Failure> {
    let kind = file.kind(kind)?;
    let mut schema = Schema::new(kind, file.text().await?);
    for reference in references {
        schema = schema.reference(reference.resolved(registry).await?);
    }
    Ok(schema)
}

impl Named {
    /// Whether a registry is asked for it.
    pub(super) fn is_remote(&self) -> bool {
        !matches!(self, Self::File(_))
    }

    /// Finds the schema. The registry is none if nothing is remote.
    pub(super) async fn found(
        &self,
        registry: Option<&SchemaRegistry>,
        kind: Option<SchemaType>,
        others: &[LocalReference],
    ) -> Result<Found, Failure> {
        let registry = match (self, registry) {
            (Self::File(file), _) => return file.found(kind, others).await,
            (_, Some(registry)) => registry,
            // The caller makes one if a name is remote.
            (_, None) => return Err(Failure::new(Exit::Usage, "no schema registry is named")),
        };
        let (schema, name) = match self {
            Self::Subject(subject, version) => {
                let found = registry.version(subject, *version).await?;
                (found.schema.clone(), format!("{subject}@{}", found.version))
            }
            Self::Id(id) => (registry.schema(SchemaId::Id(*id)).await?, format!("id:{id}")),
            Self::Guid(guid) => (registry.schema(SchemaId::Guid(*guid)).await?, format!("guid:{guid}")),
            Self::File(_) => unreachable!("files are handled before"),
        };
        let needed = registry.resolve(&schema).await?;
        Ok(Found { schema, needed, name })
    }
}

/// A client of the registry if one of these needs it.
pub(super) fn registry_for(names: &[&Named], registry: &Registry) -> Result<Option<SchemaRegistry>, Failure> {
    names.iter().any(|name| name.is_remote()).then(|| registry.client()).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_from_subjects() {
        let is_file = |text: &str| matches!(named(text), Ok(Named::File(_)));
        assert!(
            ["-", "./order", "order.avsc", "a/b", "order.PROTO", "file:orders"]
                .map(is_file)
                .iter()
                .all(|is| *is)
        );
        assert!(
            !["orders-value", "orders@2", "id:7", "subject:order.json"].map(is_file).iter().any(|is| *is)
        );
        assert!(matches!(named("id:7"), Ok(Named::Id(7))));
        assert!(named("id:x").is_err() && named("guid:x").is_err());
    }

    #[test]
    fn references_have_a_name_and_a_place() {
        let reference = remote_reference("http://a?b=c=customers@2").expect("is right");
        assert_eq!((&*reference.name, &*reference.subject), ("http://a?b=c", "customers"));
        for wrong in ["customers@2", "=customers@2", "a=customers", "a="] {
            assert!(remote_reference(wrong).is_err(), "{wrong}");
        }
        assert!(local_reference("a=b.proto").is_ok() && local_reference("b.proto").is_err());
    }
}
