//! Schemas in files, for values that do not name theirs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use milena_registry::{DynamicSchema, DynamicValue, Reference, Schema, SchemaType, SerdeError};
use regex::Regex;

use super::name::type_of;
use crate::exit::{Exit, Failure};

/// A schema of a file, and the message of it that values are.
#[derive(Debug)]
pub(super) struct Local {
    schema: DynamicSchema,
    message: Option<String>,
}

impl Local {
    pub(super) fn open(path: &Path, message: Option<&str>) -> Result<Self, Failure> {
        let (schema, needed) = read(path)?;
        let at = |error: SerdeError| Failure::usage(error.to_string()).at(&path.display().to_string());
        let schema = DynamicSchema::compile(&schema, &needed).map_err(at)?;
        let opened = Self { schema, message: message.map(str::to_owned) };
        // A message that is not there is told before the first record.
        if opened.schema.kind() == SchemaType::Protobuf {
            opened.decode(&[]).map_err(at)?;
        }
        Ok(opened)
    }

    pub(super) fn decode(&self, body: &[u8]) -> Result<DynamicValue, SerdeError> {
        self.schema.decode(self.message.as_deref(), body)
    }

    pub(super) fn encode(&self, json: &str) -> Result<Vec<u8>, SerdeError> {
        let mut body = Vec::new();
        self.schema.encode(self.message.as_deref(), json, &mut body)?;
        Ok(body)
    }
}

/// The schema of a file, and those that it imports, each before those that use it.
pub(super) fn read(path: &Path) -> Result<(Schema, Vec<(Reference, Schema)>), Failure> {
    let Some(kind) = type_of(path) else {
        let what = format!("{}: the type of the schema is not known by the name of the file", path.display());
        return Err(Failure::usage(what).hint("The endings are .avsc, .avro, .proto, .json and .jsonschema."));
    };
    let text = text(path)?;
    let mut imported =
        Imported { base: path.parent().unwrap_or(Path::new("")).into(), ..Imported::default() };
    if kind == SchemaType::Protobuf {
        imported.add(&text, 0)?;
    }
    Ok((Schema::new(kind, text), imported.found))
}

fn text(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let exit = if error.kind() == std::io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Usage };
        Failure::new(exit, format!("cannot read {}: {error}", path.display()))
    })?;
    // Editors on Windows write a mark that no schema has.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Files of Protobuf's that others import, by paths from the folder of the first one.
#[derive(Default)]
struct Imported {
    base: PathBuf,
    met: BTreeSet<String>,
    found: Vec<(Reference, Schema)>,
}

const IMPORTS_MAX: usize = 1000;
const LEVELS_MAX: usize = 64;

impl Imported {
    fn add(&mut self, file: &str, level: usize) -> Result<(), Failure> {
        static IMPORT: LazyLock<Option<Regex>> = LazyLock::new(|| {
            Regex::new(r#"(?m)(?:^|;)\s*import\s+(?:public\s+|weak\s+)?["']([^"']+)["']"#).ok()
        });
        for found in IMPORT.iter().flat_map(|import| import.captures_iter(file)) {
            let name = &found[1];
            let path = self.base.join(name);
            // Google's own files are known. What is not here is told by the compiler, with the file that imports it.
            if !path.is_file() || !self.met.insert(name.to_owned()) {
                continue;
            }
            if self.met.len() > IMPORTS_MAX || level > LEVELS_MAX {
                return Err(Failure::usage(format!(
                    "a file imports more than {IMPORTS_MAX} others, or more than {LEVELS_MAX} levels deep"
                )));
            }
            let text = text(&path)?;
            self.add(&text, level + 1)?;
            self.found.push((Reference::new(name, name, -1), Schema::protobuf(text)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_read_beside_the_file() {
        let folder = tempfile::tempdir().expect("made");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(&path, text).expect("written");
            path
        };
        write(
            "common/money.proto",
            "syntax = \"proto3\"; package common; message Money { int64 cents = 1; }",
        );
        let text = "syntax = \"proto3\";\nimport \"common/money.proto\";\nmessage A {}\nmessage Order { common.Money price = 1; }";
        let order = write("order.proto", text);
        let local = Local::open(&order, Some("Order")).expect("a schema");
        let body = local.encode(r#"{"price": {"cents": "150"}}"#).expect("it fits");
        assert_eq!(body, b"\x0a\x03\x08\x96\x01");
        assert_eq!(local.decode(&body).expect("it was written").json(), r#"{"price":{"cents":"150"}}"#);
        let error = Local::open(&order, Some("None")).expect_err("there is none").to_string();
        assert!(error.ends_with("the Protobuf schema has no message \"None\""), "{error}");
        assert_eq!(
            Local::open(&folder.path().join("no.avsc"), None).expect_err("no file").exit(),
            Exit::NotFound
        );
        let text = write("order.txt", "\"int\"");
        assert!(Local::open(&text, None).expect_err("no type").to_string().contains(".avsc"));
    }
}
