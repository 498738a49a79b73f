//! How command lines name schemas: versions of subjects, and files, whose endings say the type. And the names that `milena produce`
//! takes.

use std::path::{Path, PathBuf};

use milena_registry::{SchemaType, Version};

/// A schema to write with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SchemaName {
    File(PathBuf),
    Subject(String, Version),
    Id(u32),
}

/// The types by the endings of files.
const ENDINGS: [(&str, SchemaType); 5] = [
    ("avsc", SchemaType::Avro),
    ("avro", SchemaType::Avro),
    ("proto", SchemaType::Protobuf),
    ("json", SchemaType::Json),
    ("jsonschema", SchemaType::Json),
];

/// The type of the schema in a file, by its ending.
pub(crate) fn type_of(path: &Path) -> Option<SchemaType> {
    let ending = path.extension()?.to_str()?.to_ascii_lowercase();
    ENDINGS.iter().find(|(known, _)| *known == ending).map(|(_, kind)| kind.clone())
}

/// Reads `SUBJECT`, `SUBJECT@VERSION` or `SUBJECT@latest`. A subject may have an @ in its name.
pub(crate) fn versioned(text: &str) -> Result<(String, Option<Version>), String> {
    let (subject, version) = match text.rsplit_once('@') {
        Some((subject, "latest")) => (subject, Some(Version::Latest)),
        Some((subject, number)) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => {
            let number = number.parse().ok().filter(|number| *number > 0 && *number <= i32::MAX as u32);
            let number = number.ok_or("the version after @ is not a number from 1 to 2147483647")?;
            (subject, Some(Version::Number(number)))
        }
        _ => (text, None),
    };
    if subject.is_empty() {
        return Err("write SUBJECT or SUBJECT@VERSION".into());
    }
    Ok((subject.to_owned(), version))
}

/// Reads `id:NUMBER`, a file's path, `SUBJECT` or `SUBJECT@VERSION`.
pub(super) fn schema_name(text: &str) -> Result<SchemaName, String> {
    if let Some(id) = text.strip_prefix("id:") {
        return id.parse().map(SchemaName::Id).map_err(|_| "write id:NUMBER".into());
    }
    if text.contains(['/', '\\']) || type_of(Path::new(text)).is_some() {
        return Ok(SchemaName::File(text.into()));
    }
    if text.is_empty() {
        return Err("write SUBJECT, SUBJECT@VERSION, id:NUMBER or a file".into());
    }
    let (subject, version) = versioned(text)?;
    Ok(SchemaName::Subject(subject, version.unwrap_or(Version::Latest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_stand_after_the_last_at_sign() {
        let check = |text: &str, subject: &str, version: Option<Version>| {
            assert_eq!(versioned(text), Ok((subject.to_owned(), version)), "{text}");
        };
        check("orders-value", "orders-value", None);
        check("orders-value@3", "orders-value", Some(Version::Number(3)));
        check("orders-value@latest", "orders-value", Some(Version::Latest));
        check("a@b", "a@b", None);
        check("a@b@2", "a@b", Some(Version::Number(2)));
        check(":.eu:orders@1", ":.eu:orders", Some(Version::Number(1)));
        for wrong in ["", "@1", "a@0", "a@4294967296"] {
            assert!(versioned(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn subjects_ids_and_files_are_told_apart() {
        let subject = |name: &str, version| SchemaName::Subject(name.into(), version);
        for (text, expect) in [
            ("orders-value", subject("orders-value", Version::Latest)),
            ("orders-value@latest", subject("orders-value", Version::Latest)),
            ("a@b@2", subject("a@b", Version::Number(2))),
            ("id:7", SchemaName::Id(7)),
            ("order.AVSC", SchemaName::File("order.AVSC".into())),
            ("./order", SchemaName::File("./order".into())),
        ] {
            assert_eq!(schema_name(text), Ok(expect), "{text}");
        }
        for wrong in ["", "@1", "a@0", "a@4294967296", "id:x"] {
            assert!(schema_name(wrong).is_err(), "{wrong}");
        }
    }
}
