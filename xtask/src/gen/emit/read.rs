//! Decoding: one struct literal whose fields are read in the order they are written.

use std::fmt::Write as _;

use anyhow::{Result, bail};

use super::{default_value, version_parameter};
use crate::r#gen::model::{Field, Message, Struct, Type};
use crate::r#gen::versions::Versions;

/// `Message::decode`.
pub(super) fn message_function(out: &mut String, message: &Message, part: &Struct) -> Result<()> {
    let flexible = flexible_condition(message);
    let _ = writeln!(
        out,
        "\nfn decode(r: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {{\n\
         support::check_decode(r, version, Self::VERSIONS, Self::NAME)?;\nr.set_flexible({flexible});\n{}}}",
        body(message, part)?
    );
    Ok(())
}

/// A part's `read`.
pub(super) fn function(out: &mut String, message: &Message, part: &Struct) -> Result<()> {
    let body = body(message, part)?;
    let version = version_parameter(&body);
    let _ = writeln!(
        out,
        "\nfn read(r: &mut Reader<'_>, {version}: i16) -> Result<Self, DecodeError> {{\n{body}}}"
    );
    Ok(())
}

/// When lengths are in the flexible form, as an expression over `version`.
pub(super) fn flexible_condition(message: &Message) -> String {
    if message.flexible.is_empty() {
        return "false".to_owned();
    }
    message.flexible.condition(message.valid).unwrap_or_else(|| "true".to_owned())
}

fn body(message: &Message, part: &Struct) -> Result<String> {
    let has_tags = part.fields.iter().any(|field| !field.tagged.is_empty());
    let mut out = String::new();
    out.push_str(if has_tags { "let mut value = Self {\n" } else { "Ok(Self {\n" });
    for field in &part.fields {
        let _ = writeln!(out, "{}: {},", field.rust, field_value(message, part, field)?);
    }
    if has_tags {
        out.push_str("unknown_tagged_fields: TaggedFields::new(),\n};\n");
        tagged_fields(&mut out, message, part)?;
        out.push_str("Ok(value)\n");
    } else {
        if part.keeps_unknown_tags {
            let _ = writeln!(out, "unknown_tagged_fields: r.unknown_tagged_fields(\"{}\")?,", part.path);
        }
        out.push_str("})\n");
    }
    Ok(out)
}

fn field_value(message: &Message, part: &Struct, field: &Field) -> Result<String> {
    if !field.tagged.is_empty() {
        return default_value(field);
    }
    let read = nullable_value(message, field, field.present)?;
    Ok(match field.present.condition(part.reach) {
        None => read,
        Some(condition) => format!("if {condition} {{ {read} }} else {{ {} }}", default_value(field)?),
    })
}

fn nullable_value(message: &Message, field: &Field, at: Versions) -> Result<String> {
    if !field.is_nullable() {
        return value(message, field, false);
    }
    let nullable = value(message, field, true)?;
    Ok(match field.nullable.condition(at) {
        None => nullable,
        Some(condition) => {
            format!("if {condition} {{ {nullable} }} else {{ Some({}) }}", value(message, field, false)?)
        }
    })
}

fn value(message: &Message, field: &Field, null: bool) -> Result<String> {
    let path = &field.path;
    let maybe = if null { "nullable_" } else { "" };
    Ok(match &field.kind {
        Type::Struct(name) if field.is_array => {
            let min = message.wire_bytes_min(message.part(name)?, field.present)?;
            format!("r.{maybe}array_of(\"{path}\", {min}, |r, _| {name}::read(r, version))?")
        }
        kind if field.is_array => {
            let flexible = !field.present.and(message.flexible).is_empty();
            let min = kind.wire_bytes_min(flexible);
            format!("r.{maybe}array_of(\"{path}\", {min}, {})?", element(kind)?)
        }
        Type::Struct(name) if null => {
            format!("if r.is_present(\"{path}\")? {{ Some({name}::read(r, version)?) }} else {{ None }}")
        }
        Type::Struct(name) => format!("{name}::read(r, version)?"),
        Type::String if field.classic_length => format!("r.nullable_string_classic(\"{path}\")?"),
        Type::String => format!("r.{maybe}string(\"{path}\")?"),
        Type::Bytes | Type::Records => format!("r.{maybe}bytes(\"{path}\")?"),
        kind => plain(kind, path),
    })
}

/// What reads an element of a plain type: one function for all arrays of it, so that little is compiled.
fn element(kind: &Type) -> Result<String> {
    Ok(match kind {
        Type::ErrorCode => bail!("an array of error codes"),
        kind => format!("Reader::{}", method(kind)),
    })
}

fn plain(kind: &Type, path: &str) -> String {
    match kind {
        Type::ErrorCode => format!("ErrorCode::from_i16(r.i16(\"{path}\")?)"),
        kind => format!("r.{}(\"{path}\")?", method(kind)),
    }
}

/// The method of reader and writer that carries a plain type.
pub(super) fn method(kind: &Type) -> &'static str {
    match kind {
        Type::Bool => "bool",
        Type::I8 => "i8",
        Type::I16 | Type::ErrorCode => "i16",
        Type::U16 => "u16",
        Type::I32 => "i32",
        Type::U32 => "u32",
        Type::I64 => "i64",
        Type::F64 => "f64",
        Type::Uuid => "uuid",
        Type::String => "string",
        Type::Bytes | Type::Records => "bytes",
        Type::Struct(_) => unreachable!("structs read and write themselves"),
    }
}

fn tagged_fields(out: &mut String, message: &Message, part: &Struct) -> Result<()> {
    let _ = writeln!(
        out,
        "value.unknown_tagged_fields = r.tagged_fields(\"{}\", |r, tag| {{\nmatch tag {{",
        part.path
    );
    for field in &part.fields {
        let Some(tag) = field.tag else { continue };
        // Without tagged fields at a version, the reader does not ask.
        let asked = part.reach.and(message.flexible);
        let guard = field.tagged.condition(asked).map(|condition| format!(" if {condition}"));
        let read = nullable_value(message, field, field.tagged)?;
        let _ = writeln!(out, "{tag}{} => {{\nvalue.{} = {read};\n}}", guard.unwrap_or_default(), field.rust);
    }
    out.push_str("_ => return Ok(false),\n}\nOk(true)\n})?;\n");
    Ok(())
}
