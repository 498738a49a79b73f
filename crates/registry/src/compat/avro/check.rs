//! Whether one Avro schema reads what another wrote, as `SchemaCompatibility` of Avro tells.
//!
//! Confluent's registry asks it too. Logical types play no part: a decimal is its bytes.

use std::collections::HashMap;

use super::{Avro, Field, Id, Named, Shape};
use crate::compat::Kind;
use crate::compat::pairs::{Claim, Finding, compare};

/// What keeps `reader` from reading what `writer` wrote.
pub(in crate::compat) fn check(reader: &Avro, writer: &Avro) -> Vec<Finding> {
    compare((reader.root, writer.root), "/", |(reads, writes)| claim(reader, reads, writer, writes))
}

fn claim(reader: &Avro, reads: Id, writer: &Avro, writes: Id) -> Claim {
    let fails = |kind, place: &str, detail| Claim::Fails(Finding::new(kind, place, detail));
    match (reader.shape(reads), writer.shape(writes)) {
        // Whatever was written, one branch was: the reader has to read each of them.
        (shape, Shape::Union(branches)) => {
            let each = branches.iter().enumerate().map(|(index, branch)| {
                if !matches!(shape, Shape::Union(_)) {
                    return Claim::Pair(index.to_string(), (reads, *branch));
                }
                let pair = Claim::Pair(String::new(), (reads, *branch));
                let detail = format!("no branch of the union reads {}", described(writer, *branch));
                Claim::As(Box::new(pair), Finding::new(Kind::MissingUnionBranch, index.to_string(), detail))
            });
            Claim::All(each.collect())
        }
        (Shape::Union(branches), _) => {
            let detail = format!("no branch of the union reads {}", described(writer, writes));
            let each = branches.iter().map(|branch| Claim::Pair(String::new(), (*branch, writes)));
            Claim::Any(each.collect(), Finding::new(Kind::MissingUnionBranch, "", detail))
        }
        (Shape::Array(reads), Shape::Array(writes)) => Claim::Pair("items".to_owned(), (*reads, *writes)),
        (Shape::Map(reads), Shape::Map(writes)) => Claim::Pair("values".to_owned(), (*reads, *writes)),
        (Shape::Fixed { name, size }, Shape::Fixed { name: written, size: bytes }) => {
            let mut claims = names(name, written);
            if size != bytes {
                let detail = format!("{size} bytes are expected and {bytes} were written");
                claims.push(fails(Kind::FixedSizeMismatch, "size", detail));
            }
            Claim::All(claims)
        }
        (
            Shape::Enum { name, symbols, default },
            Shape::Enum { name: written_name, symbols: written, .. },
        ) => {
            let mut claims = names(name, written_name);
            // With a default, a reader puts it in the place of each symbol that it does not know.
            if default.is_none() {
                let known: std::collections::HashSet<&String> = symbols.iter().collect();
                let missing: Vec<&str> =
                    written.iter().filter(|symbol| !known.contains(symbol)).map(String::as_str).collect();
                if !missing.is_empty() {
                    let detail = format!("the symbols {} are missing", missing.join(", "));
                    claims.push(fails(Kind::MissingEnumSymbols, "symbols", detail));
                }
            }
            Claim::All(claims)
        }
        (Shape::Record { name, fields, .. }, Shape::Record { name: written_name, fields: written, .. }) => {
            let mut claims = names(name, written_name);
            self::fields(fields, written, &mut claims);
            Claim::All(claims)
        }
        (reads, writes) if promotes(reads, writes) => Claim::truth(),
        _ => {
            let detail = format!("{} does not read {}", described(reader, reads), described(writer, writes));
            fails(Kind::TypeMismatch, "", detail)
        }
    }
}

/// Avro compares names without their namespaces, or by an alias with its namespace.
fn names(reader: &Named, writer: &Named) -> Vec<Claim> {
    if reader.name == writer.name || reader.aliases.contains(&writer.full()) {
        return Vec::new();
    }
    let detail = format!("the type is called '{}', and '{}' was written", reader.full(), writer.full());
    vec![Claim::Fails(Finding::new(Kind::NameMismatch, "name", detail))]
}

fn fields(reads: &[Field], writes: &[Field], claims: &mut Vec<Claim>) {
    // A record may have very many fields.
    let places: HashMap<&str, usize> =
        writes.iter().enumerate().map(|(place, field)| (field.name.as_str(), place)).collect();
    for (index, field) in reads.iter().enumerate() {
        let names = std::iter::once(&field.name).chain(&field.aliases);
        let found: Vec<usize> = names.filter_map(|name| places.get(name.as_str()).copied()).collect();
        match found[..] {
            [] if field.default.is_some() => {}
            [] => {
                let detail = format!("the field '{}' was not written and has no default", field.name);
                claims.push(Claim::Fails(Finding::new(
                    Kind::FieldWithoutDefault,
                    format!("fields/{index}"),
                    detail,
                )));
            }
            [place] => {
                claims
                    .push(Claim::Pair(format!("fields/{index}/type"), (field.r#type, writes[place].r#type)));
            }
            _ => {
                let detail = format!(
                    "the name and the aliases of the field '{}' match several written fields",
                    field.name
                );
                claims.push(Claim::Fails(Finding::new(
                    Kind::AmbiguousAlias,
                    format!("fields/{index}"),
                    detail,
                )));
            }
        }
    }
}

fn described(avro: &Avro, id: Id) -> String {
    let shape = avro.shape(id);
    match shape.named() {
        Some(name) => format!("{} '{}'", shape.kind(), name.full()),
        None => shape.kind().to_owned(),
    }
}

/// Whether a written primitive becomes the type that is read.
fn promotes(reader: &Shape, writer: &Shape) -> bool {
    use Shape::{Boolean, Bytes, Double, Float, Int, Long, Null, String};
    matches!(
        (reader, writer),
        (Null, Null)
            | (Boolean, Boolean)
            | (Int, Int)
            | (Long, Int | Long)
            | (Float, Int | Long | Float)
            | (Double, Int | Long | Float | Double)
            | (Bytes | String, Bytes | String)
    )
}
