//! Schemas resolved: every struct with the versions that reach it, every field with its Rust type and default.
//!
//! Knows nothing of Rust syntax beyond names; [`emit`](super::emit) writes the code.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, bail, ensure};

use super::names;
use super::schema::{self, Kind, Schema};
use super::versions::Versions;

/// One generated file: the messages of an API key, or a payload.
#[derive(Debug)]
pub(crate) struct Module {
    pub(crate) name: String,
    pub(crate) messages: Vec<Message>,
}

/// One schema, resolved.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) api_key: Option<i16>,
    pub(crate) valid: Versions,
    /// Within `valid`.
    pub(crate) flexible: Versions,
    /// The message itself first, then its parts in the order they are met.
    pub(crate) structs: Vec<Struct>,
}

/// A message or a part of one.
#[derive(Debug)]
pub(crate) struct Struct {
    pub(crate) rust: String,
    /// Where it sits, as errors name it: `FetchRequest.Topics`.
    pub(crate) path: String,
    /// The versions at which it can be met.
    pub(crate) reach: Versions,
    /// Whether some version has tagged fields, so that unknown ones must be kept.
    pub(crate) keeps_unknown_tags: bool,
    pub(crate) fields: Vec<Field>,
}

/// A field of a struct.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) rust: String,
    pub(crate) path: String,
    pub(crate) kind: Type,
    pub(crate) is_array: bool,
    /// Within the struct's reach, like the next two.
    pub(crate) present: Versions,
    pub(crate) nullable: Versions,
    pub(crate) tagged: Versions,
    pub(crate) tag: Option<u32>,
    pub(crate) ignorable: bool,
    pub(crate) default: Option<String>,
    /// The length keeps its 16 bits in flexible versions.
    pub(crate) classic_length: bool,
}

/// A field's type, or its elements'.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Type {
    Bool,
    I8,
    I16,
    U16,
    I32,
    U32,
    I64,
    F64,
    Uuid,
    ErrorCode,
    String,
    Bytes,
    Records,
    /// Its Rust name.
    Struct(String),
}

impl Module {
    /// Resolves `schemas`, which share a file, so that no two of their structs share a name.
    pub(crate) fn resolve(name: &str, schemas: &[&Schema]) -> Result<Self> {
        let mut owners: BTreeMap<String, usize> = BTreeMap::new();
        for schema in schemas {
            for part in Parts::of(schema)?.order {
                *owners.entry(part).or_default() += 1;
            }
        }
        let shared = |part: &str| owners.get(part).is_some_and(|count| *count > 1);
        let messages = schemas.iter().map(|schema| {
            let rust_name =
                |part: &str| if shared(part) { format!("{}{part}", schema.name) } else { part.to_owned() };
            Message::resolve(schema, &rust_name).with_context(|| format!("message {}", schema.name))
        });
        Ok(Self { name: name.to_owned(), messages: messages.collect::<Result<_>>()? })
    }
}

impl Message {
    fn resolve(schema: &Schema, rust_name: &dyn Fn(&str) -> String) -> Result<Self> {
        let parts = Parts::of(schema)?;
        let keeps_unknown_tags = !schema.flexible.and(schema.valid).is_empty();
        let root = Struct {
            rust: schema.name.clone(),
            path: schema.name.clone(),
            reach: schema.valid,
            keeps_unknown_tags,
            fields: resolve_fields(&schema.fields, &schema.name, schema.valid, schema, rust_name)?,
        };
        let mut structs = vec![root];
        for part in &parts.order {
            let (fields, reach, path) = &parts.found[part];
            ensure!(!reach.is_empty(), "no version reaches {part}");
            let fields = resolve_fields(fields, path, *reach, schema, rust_name)?;
            structs.push(Struct {
                rust: rust_name(part),
                path: path.clone(),
                reach: *reach,
                keeps_unknown_tags,
                fields,
            });
        }
        structs.iter().try_for_each(check_tags)?;
        Ok(Self {
            name: schema.name.clone(),
            kind: schema.kind,
            api_key: schema.api_key,
            valid: schema.valid,
            flexible: schema.flexible.and(schema.valid),
            structs,
        })
    }

    /// The struct called `rust`.
    pub(crate) fn part(&self, rust: &str) -> Result<&Struct> {
        self.structs.iter().find(|part| part.rust == rust).with_context(|| format!("no struct {rust}"))
    }

    /// The fewest bytes that `part` takes at any version of `versions`.
    pub(crate) fn wire_bytes_min(&self, part: &Struct, versions: Versions) -> Result<usize> {
        let sizes = versions.and(part.reach).iter().map(|version| self.wire_bytes_min_at(part, version));
        let sizes = sizes.collect::<Result<Vec<_>>>()?;
        Ok(sizes.into_iter().min().unwrap_or(0).max(1))
    }

    fn wire_bytes_min_at(&self, part: &Struct, version: i16) -> Result<usize> {
        let flexible = self.flexible.contains(version);
        let mut bytes = usize::from(flexible);
        for field in &part.fields {
            if field.present.contains(version) && !field.tagged.contains(version) {
                bytes += match &field.kind {
                    _ if field.is_array => {
                        if flexible {
                            1
                        } else {
                            4
                        }
                    }
                    Type::Struct(_) if field.nullable.contains(version) => 1,
                    Type::Struct(name) => self.wire_bytes_min_at(self.part(name)?, version)?,
                    kind => kind.wire_bytes_min(flexible && !field.classic_length),
                };
            }
        }
        Ok(bytes)
    }
}

impl Type {
    fn parse(name: &str, field: &str, rust_name: &dyn Fn(&str) -> String) -> Result<Self> {
        Ok(match name {
            "bool" => Self::Bool,
            "int8" => Self::I8,
            "int16" if field.ends_with("ErrorCode") => Self::ErrorCode,
            "int16" => Self::I16,
            "uint16" => Self::U16,
            "int32" => Self::I32,
            "uint32" => Self::U32,
            "int64" => Self::I64,
            "float64" => Self::F64,
            "uuid" => Self::Uuid,
            "string" => Self::String,
            "bytes" => Self::Bytes,
            "records" => Self::Records,
            other if other.starts_with(char::is_uppercase) => Self::Struct(rust_name(other)),
            other => bail!("unknown type {other:?}"),
        })
    }

    /// The fewest bytes a value of a plain type takes.
    pub(crate) fn wire_bytes_min(&self, flexible: bool) -> usize {
        match self {
            Self::Bool | Self::I8 => 1,
            Self::I16 | Self::U16 | Self::ErrorCode => 2,
            Self::I32 | Self::U32 => 4,
            Self::I64 | Self::F64 => 8,
            Self::Uuid => 16,
            Self::String => {
                if flexible {
                    1
                } else {
                    2
                }
            }
            Self::Bytes | Self::Records => {
                if flexible {
                    1
                } else {
                    4
                }
            }
            Self::Struct(_) => 0,
        }
    }
}

impl Field {
    /// Whether some version allows null.
    pub(crate) fn is_nullable(&self) -> bool {
        !self.nullable.is_empty()
    }
}

/// The structs of a schema that are not its root: where each is first met, and at which versions.
struct Parts<'a> {
    order: Vec<String>,
    found: HashMap<String, (&'a [schema::Field], Versions, String)>,
}

impl<'a> Parts<'a> {
    fn of(schema: &'a Schema) -> Result<Self> {
        let mut parts = Self { order: Vec::new(), found: HashMap::new() };
        parts.walk(&schema.fields, schema.valid, &schema.name, schema)?;
        Ok(parts)
    }

    fn walk(
        &mut self,
        fields: &'a [schema::Field],
        reach: Versions,
        path: &str,
        schema: &'a Schema,
    ) -> Result<()> {
        for field in fields {
            let present = field.versions.and(reach);
            if present.is_empty() || !field.type_name.starts_with(char::is_uppercase) {
                continue;
            }
            let common = schema.common.iter().find(|common| common.name == field.type_name);
            let (own, present) = match (&field.fields, common) {
                (Some(own), None) => (own, present),
                (None, Some(common)) => (&common.fields, present.and(common.versions)),
                _ => bail!("{path}.{}: {} is not defined once", field.name, field.type_name),
            };
            let path = format!("{path}.{}", field.name);
            let reach = match self.found.get_mut(&field.type_name) {
                // A common struct, met again.
                Some((known, reach, _)) if std::ptr::eq(*known, own.as_slice()) => {
                    *reach = Versions { low: reach.low.min(present.low), high: reach.high.max(present.high) };
                    *reach
                }
                Some(_) => bail!("{} is defined twice", field.type_name),
                None => {
                    self.order.push(field.type_name.clone());
                    self.found.insert(field.type_name.clone(), (own, present, path.clone()));
                    present
                }
            };
            self.walk(own, reach, &path, schema)?;
        }
        Ok(())
    }
}

fn resolve_fields(
    fields: &[schema::Field],
    path: &str,
    reach: Versions,
    schema: &Schema,
    rust_name: &dyn Fn(&str) -> String,
) -> Result<Vec<Field>> {
    let mut resolved = Vec::new();
    for field in fields {
        let present = field.versions.and(reach);
        // Fields of versions that this release dropped are not part of the API.
        if present.is_empty() {
            continue;
        }
        let path = format!("{path}.{}", field.name);
        let tagged = field.tagged.and(present);
        ensure!(schema.flexible.covers(tagged), "{path} is tagged at a version that is not flexible");
        ensure!(
            field.flexible.is_none_or(Versions::is_empty),
            "{path} has flexible versions of its own other than none"
        );
        resolved.push(Field {
            rust: names::field(&field.name),
            kind: Type::parse(&field.type_name, &field.name, rust_name).context(path.clone())?,
            path,
            is_array: field.is_array,
            present,
            nullable: field.nullable.and(present),
            tagged,
            tag: field.tag,
            ignorable: field.ignorable,
            default: field.default.clone(),
            classic_length: field.flexible.is_some(),
        });
    }
    Ok(resolved)
}

/// At each version the known tags are 0, 1, 2, …: then an unknown tag always comes behind them on the wire.
fn check_tags(part: &Struct) -> Result<()> {
    for version in part.reach.iter() {
        let mut tags: Vec<u32> =
            part.fields.iter().filter(|field| field.tagged.contains(version)).filter_map(|f| f.tag).collect();
        tags.sort_unstable();
        ensure!(tags.iter().copied().eq(0..tags.len() as u32), "{}: tags {tags:?} at {version}", part.path);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Resolves one data schema with these fields, flexible from version 2.
    fn resolve(fields: &str) -> Result<Module> {
        let text = format!(
            r#"{{ "name": "X", "type": "data", "validVersions": "1-3", "flexibleVersions": "2+", "fields": [{fields}] }}"#
        );
        Module::resolve("x", &[&Schema::parse(&text)?])
    }

    fn check_refused(fields: &str, reason: &str) {
        let error = format!("{:#}", resolve(fields).expect_err("is refused"));
        assert!(error.contains(reason), "{error}");
    }

    #[test]
    fn versions_are_cut_to_what_can_be_met() {
        let module = resolve(
            r#"{ "name": "Gone", "type": "int8", "versions": "0" },
               { "name": "Parts", "type": "[]Part", "versions": "2+", "nullableVersions": "0-2", "fields": [
                 { "name": "Id", "type": "int32", "versions": "0+" } ] }"#,
        )
        .unwrap();
        let structs = &module.messages[0].structs;
        assert_eq!(structs[0].fields.len(), 1, "a field without a version left is no field");
        assert_eq!(structs[0].fields[0].nullable, Versions { low: 2, high: 2 });
        assert_eq!(structs[1].reach, Versions { low: 2, high: 3 });
        assert_eq!(structs[1].fields[0].present, structs[1].reach);
        assert_eq!(structs[1].fields[0].path, "X.Parts.Id");
    }

    #[test]
    fn the_smallest_element_is_that_of_the_version_where_it_is_smallest() {
        let module = resolve(
            r#"{ "name": "Parts", "type": "[]Part", "versions": "1+", "fields": [
                 { "name": "Name", "type": "string", "versions": "1+" },
                 { "name": "Ids", "type": "[]int64", "versions": "1-2" },
                 { "name": "Tagged", "type": "int64", "versions": "2+", "taggedVersions": "2+", "tag": 0 } ] }"#,
        )
        .unwrap();
        let message = &module.messages[0];
        let bytes = |low, high| message.wire_bytes_min(&message.structs[1], Versions { low, high }).unwrap();
        assert_eq!(bytes(1, 1), 2 + 4, "classic lengths");
        assert_eq!(bytes(2, 2), 1 + 1 + 1, "compact lengths, and the count of tagged fields");
        assert_eq!(bytes(1, 3), 1 + 1, "version 3 has no ids");
    }

    #[test]
    fn structs_of_one_name_get_their_message_in_front() {
        let schema = |name: &str, kind: &str| {
            let text = format!(
                r#"{{ "name": "{name}", "type": "{kind}", "validVersions": "0", "flexibleVersions": "none", "fields": [
                    {{ "name": "Parts", "type": "[]Part", "versions": "0+", "fields": [] }} ] }}"#
            );
            Schema::parse(&text).unwrap()
        };
        let (request, response) = (schema("ARequest", "request"), schema("AResponse", "response"));
        let module = Module::resolve("a", &[&request, &response]).unwrap();
        let names: Vec<&str> =
            module.messages.iter().map(|message| message.structs[1].rust.as_str()).collect();
        assert_eq!(names, ["ARequestPart", "AResponsePart"]);
    }

    #[test]
    fn what_was_never_seen_is_refused() {
        check_refused(
            r#"{ "name": "A", "type": "int8", "versions": "2+", "taggedVersions": "2+", "tag": 1 }"#,
            "tags [1] at 2",
        );
        check_refused(
            r#"{ "name": "A", "type": "int8", "versions": "1+", "taggedVersions": "1+", "tag": 0 }"#,
            "tagged at a version that is not flexible",
        );
        check_refused(r#"{ "name": "A", "type": "int128", "versions": "1+" }"#, "unknown type");
        check_refused(r#"{ "name": "A", "type": "Part", "versions": "1+" }"#, "Part is not defined once");
    }
}
