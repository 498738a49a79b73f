//! Schemas as `milena produce` names them.

use std::path::PathBuf;

use milena_registry::Version;

/// A schema to write with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SchemaName {
    File(PathBuf),
    Subject(String, Version),
    Id(u32),
}

/// The endings of files that have schemas.
const ENDINGS: [&str; 5] = [".avsc", ".avro", ".proto", ".json", ".jsonschema"];

/// Reads `id:NUMBER`, a file's path, `SUBJECT` or `SUBJECT@VERSION`. A subject may have an @ in its name.
pub(super) fn schema_name(text: &str) -> Result<SchemaName, String> {
    if let Some(id) = text.strip_prefix("id:") {
        return id.parse().map(SchemaName::Id).map_err(|_| "write id:NUMBER".into());
    }
    let lower = text.to_ascii_lowercase();
    if text.contains(['/', '\\']) || ENDINGS.iter().any(|ending| lower.ends_with(ending)) {
        return Ok(SchemaName::File(text.into()));
    }
    let (subject, version) = match text.rsplit_once('@') {
        Some((subject, "latest")) => (subject, Version::Latest),
        Some((subject, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) && !number.is_empty() => {
            let number = number.parse().ok().filter(|number| *number > 0);
            (
                subject,
                Version::Number(number.ok_or("the version after @ is not a number from 1 to 4294967295")?),
            )
        }
        _ => (text, Version::Latest),
    };
    match subject {
        "" => Err("write SUBJECT, SUBJECT@VERSION, id:NUMBER or a file".into()),
        subject => Ok(SchemaName::Subject(subject.into(), version)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
