//! Whether one Protobuf schema reads what another wrote, by the rules of Confluent's registry.
//!
//! Fields are compared by their numbers, across oneofs, and messages by their names. Enums and added fields are always
//! compatible; groups and extensions are not compared.

use std::collections::{BTreeMap, BTreeSet};

use super::names::{Member, Named, Names, Shape};
use super::{FieldType, Label, Proto, is_scalar};
use crate::compat::Kind;
use crate::compat::pairs::{Claim, Finding, compare};

/// Stands for the files. All other numbers of pairs are messages.
const FILE: usize = usize::MAX;

/// What keeps `reader` from reading what `writer` wrote.
pub(in crate::compat) fn check(reader: &Proto, writer: &Proto) -> Vec<Finding> {
    compare((FILE, FILE), "#", |(reads, writes)| {
        if reads == FILE {
            return files(reader, writer);
        }
        let sides = Sides { reader: &reader.names, writer: &writer.names };
        sides.messages(&reader.names.messages[reads], &writer.names.messages[writes])
    })
}

fn files(reader: &Proto, writer: &Proto) -> Claim {
    let mut claims = Vec::new();
    let package = |proto: &Proto| proto.file.package.clone().unwrap_or_default();
    if package(reader) != package(writer) {
        let detail = format!("the package is '{}', and it was '{}'", package(reader), package(writer));
        claims.push(Claim::Fails(Finding::new(Kind::PackageChanged, "", detail)));
    }
    let (reads, writes) = (&reader.names, &writer.names);
    same_names(reads, &reads.roots, writes, &writes.roots, &mut claims);
    Claim::All(claims)
}

/// Each message that was written is still there.
fn same_names(
    reader: &Names,
    reads: &BTreeMap<String, usize>,
    writer: &Names,
    writes: &BTreeMap<String, usize>,
    claims: &mut Vec<Claim>,
) {
    for (name, writes) in writes {
        match reads.get(name) {
            Some(reads) => claims.push(Claim::Pair(name.clone(), (*reads, *writes))),
            // A map's entries have no name of their own.
            None if writer.messages[*writes].map.is_some() => {}
            None => {
                let full = &writer.messages[*writes].full;
                let now =
                    if reader.resolve("", full).is_some() { "is no message any more" } else { "was removed" };
                claims.push(Claim::Fails(Finding::new(
                    Kind::MessageRemoved,
                    name.clone(),
                    format!("'{full}' {now}"),
                )));
            }
        }
    }
}

struct Sides<'a> {
    reader: &'a Names,
    writer: &'a Names,
}

#[derive(Debug, PartialEq, Eq)]
enum Type<'a> {
    Scalar(Wire),
    Map(&'a str, &'a str),
    /// The local and the full name, and the place of a message that is no known one.
    Message(String, String, Option<usize>),
}

/// Types that share a form on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    Varint,
    ZigZag,
    Bytes,
    Fixed32,
    Fixed64,
    Float,
    Double,
}

impl Sides<'_> {
    fn messages(&self, reads: &Shape, writes: &Shape) -> Claim {
        let mut claims = Vec::new();
        exclusive(reads, writes, &mut claims);
        // A oneof that is gone with all its fields is taken to be meant.
        let kept: BTreeSet<usize> = (0..writes.oneofs.len())
            .filter(|oneof| {
                let survives = |(number, member): (&i64, &Member)| {
                    member.oneof == Some(*oneof) && reads.fields.contains_key(number)
                };
                reads.oneofs.contains(&writes.oneofs[*oneof]) || writes.fields.iter().any(survives)
            })
            .collect();
        for (number, written) in &writes.fields {
            match (reads.fields.get(number), written.oneof) {
                (Some(field), _) => self.fields(*number, (reads, field), (writes, written), &mut claims),
                (None, Some(oneof)) if kept.contains(&oneof) => {
                    let name = &writes.oneofs[oneof];
                    let detail = format!("field {number} was removed from the oneof '{name}'");
                    claims.push(fails(Kind::OneOfFieldRemoved, format!("{name}/{number}"), detail));
                }
                (None, None) if written.label == Some(Label::Required) => {
                    let detail = format!("the required field {number} was removed");
                    claims.push(fails(Kind::RequiredFieldRemoved, number.to_string(), detail));
                }
                (None, _) => {}
            }
        }
        for (number, field) in &reads.fields {
            if field.label == Some(Label::Required) && !writes.fields.contains_key(number) {
                let detail = format!("the required field {number} was not written");
                claims.push(fails(Kind::RequiredFieldAdded, number.to_string(), detail));
            }
        }
        same_names(self.reader, &reads.inner, self.writer, &writes.inner, &mut claims);
        Claim::All(claims)
    }

    fn fields(
        &self,
        number: i64,
        read: (&Shape, &Member),
        written: (&Shape, &Member),
        claims: &mut Vec<Claim>,
    ) {
        let (reads, field) = read;
        let place = match field.oneof {
            Some(oneof) => format!("{}/{number}", reads.oneofs[oneof]),
            None => number.to_string(),
        };
        let scopes = (reads.full.as_str(), written.0.full.as_str());
        let types = (&field.r#type, &written.1.r#type);
        let labels = field.label.zip(written.1.label);
        self.types(&place, scopes, types, labels, claims);
    }

    fn types(
        &self,
        place: &str,
        scopes: (&str, &str),
        types: (&FieldType, &FieldType),
        labels: Option<(Label, Label)>,
        claims: &mut Vec<Claim>,
    ) {
        let changed = |kind, claims: &mut Vec<Claim>| {
            let detail = format!("the type is {}, and it was {}", types.0, types.1);
            claims.push(fails(kind, place.to_owned(), detail));
        };
        let (reads, writes) = (kind(self.reader, scopes.0, types.0), kind(self.writer, scopes.1, types.1));
        match (reads, writes) {
            (Type::Scalar(reads), Type::Scalar(writes)) if reads == writes => {
                let label = labels.filter(|(reads, writes)| reads != writes);
                if let Some((now, before)) = label.filter(|_| reads != Wire::Bytes) {
                    let detail = format!("the label is {}, and it was {}", now.word(), before.word());
                    claims.push(fails(Kind::NumericLabelChanged, place.to_owned(), detail));
                }
            }
            (Type::Scalar(_), Type::Scalar(_)) => changed(Kind::ScalarKindChanged, claims),
            (Type::Map(key, value), Type::Map(old_key, old_value)) => {
                let name = |name: &str| FieldType::Name(name.to_owned());
                self.types(place, scopes, (&name(key), &name(old_key)), None, claims);
                self.types(place, scopes, (&name(value), &name(old_value)), None, claims);
            }
            (Type::Message(local, _, reads), Type::Message(old_local, _, writes)) => {
                if local != old_local {
                    changed(Kind::NamedTypeChanged, claims);
                } else if let (Some(reads), Some(writes)) = (reads, writes) {
                    // Two messages of the files themselves have the same place in them, and are compared there.
                    if self.reader.messages[reads].imported || self.writer.messages[writes].imported {
                        claims.push(Claim::Pair(place.to_owned(), (reads, writes)));
                    }
                }
            }
            _ => changed(Kind::KindChanged, claims),
        }
    }
}

/// Fields that could be set together before, and exclude each other now.
fn exclusive(reads: &Shape, writes: &Shape, claims: &mut Vec<Claim>) {
    for (place, name) in reads.oneofs.iter().enumerate() {
        let members = reads.fields.iter().filter(|(_, member)| member.oneof == Some(place));
        let (mut oneofs, mut single) = (BTreeSet::new(), 0);
        for (number, _) in members {
            match writes.fields.get(number).map(|written| written.oneof) {
                Some(Some(oneof)) => drop(oneofs.insert(oneof)),
                Some(None) => single += 1,
                None => {}
            }
        }
        if oneofs.len() + single > 1 {
            let (kind, what) = if single > 1 {
                (Kind::FieldsMovedToOneOf, "several fields were moved")
            } else {
                (Kind::FieldMovedToOneOf, "fields that could be set together were moved")
            };
            claims.push(fails(kind, name.clone(), format!("{what} into the oneof '{name}'")));
        }
    }
}

fn fails(kind: Kind, place: String, detail: String) -> Claim {
    Claim::Fails(Finding::new(kind, place, detail))
}

fn kind<'a>(names: &'a Names, scope: &str, r#type: &'a FieldType) -> Type<'a> {
    let name = match r#type {
        FieldType::Map(key, value) => return Type::Map(key, value),
        FieldType::Name(name) if is_scalar(name) => return Type::Scalar(wire(name)),
        FieldType::Name(name) => name,
    };
    match names.resolve(scope, name) {
        Some((_, Named::Enum)) => Type::Scalar(Wire::Varint),
        Some((full, Named::Message(place))) => match &names.messages[place] {
            Shape { map: Some((key, value)), .. } => Type::Map(key, value),
            message => Type::Message(message.local.clone(), full, Some(place)),
        },
        Some((full, Named::Known)) => Type::Message(full.clone(), full, None),
        None => Type::Message(name.clone(), name.clone(), None),
    }
}

fn wire(scalar: &str) -> Wire {
    match scalar {
        "sint32" | "sint64" => Wire::ZigZag,
        "string" | "bytes" => Wire::Bytes,
        "fixed32" | "sfixed32" => Wire::Fixed32,
        "fixed64" | "sfixed64" => Wire::Fixed64,
        "float" => Wire::Float,
        "double" => Wire::Double,
        _ => Wire::Varint,
    }
}
