//! Encoding: each field in turn, or the check that a field which the version lacks may be left out.

use std::fmt::Write as _;

use anyhow::{Result, ensure};

use super::read::{flexible_condition, method};
use super::{default_value, version_parameter};
use crate::r#gen::model::{Field, Message, Struct, Type};

/// `Message::encode`.
pub(super) fn message_function(out: &mut String, message: &Message, part: &Struct) -> Result<()> {
    let flexible = flexible_condition(message);
    let _ = writeln!(
        out,
        "\nfn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {{\n\
         support::check_encode(version, Self::VERSIONS, Self::NAME)?;\nw.set_flexible({flexible});\n{}}}",
        body(message, part)?
    );
    Ok(())
}

/// A part's `write`.
pub(super) fn function(out: &mut String, message: &Message, part: &Struct) -> Result<()> {
    let body = body(message, part)?;
    let version = version_parameter(&body);
    let _ = writeln!(
        out,
        "fn write(&self, w: &mut Writer, {version}: i16) -> Result<(), EncodeError> {{\n{body}}}"
    );
    Ok(())
}

fn body(message: &Message, part: &Struct) -> Result<String> {
    let mut out = String::new();
    for field in &part.fields {
        if field.tagged.is_empty() {
            untagged_field(&mut out, part, field)?;
        } else if !field.ignorable
            && let Some(absent) = field.present.condition_not(part.reach)
        {
            let _ = writeln!(
                out,
                "if {absent} && {} {{\nreturn Err(support::unsupported(\"{}\", version));\n}}",
                differs_from_default(field)?,
                field.path
            );
        }
    }
    if part.fields.iter().any(|field| !field.tagged.is_empty()) {
        tagged_fields(&mut out, message, part)?;
    } else if part.keeps_unknown_tags {
        let _ =
            writeln!(out, "w.unknown_tagged_fields(&self.unknown_tagged_fields, \"{}\", version)", part.path);
    } else {
        out.push_str("Ok(())\n");
    }
    Ok(out)
}

fn untagged_field(out: &mut String, part: &Struct, field: &Field) -> Result<()> {
    let write = statements(field);
    let Some(present) = field.present.condition(part.reach) else {
        out.push_str(&write);
        return Ok(());
    };
    let _ = writeln!(out, "if {present} {{\n{write}}}");
    if !field.ignorable {
        let _ = writeln!(
            out,
            "else if {} {{\nreturn Err(support::unsupported(\"{}\", version));\n}}",
            differs_from_default(field)?,
            field.path
        );
    }
    Ok(())
}

/// Writes the field's value, null included where the version allows it.
fn statements(field: &Field) -> String {
    let path = &field.path;
    let name = &field.rust;
    let mut out = String::new();
    let at = if field.tagged.is_empty() { field.present } else { field.tagged };
    if field.is_nullable()
        && let Some(condition) = field.nullable.condition_not(at)
    {
        let _ = writeln!(
            out,
            "if {condition} && self.{name}.is_none() {{\nreturn Err(support::null(\"{path}\"));\n}}"
        );
    }
    let null = field.is_nullable();
    let maybe = if null { "nullable_" } else { "" };
    let _ = match &field.kind {
        kind if field.is_array => {
            let elements = if null { format!("self.{name}.as_deref()") } else { format!("&self.{name}") };
            writeln!(out, "w.{maybe}array_of({elements}, \"{path}\", {})?;", element(kind))
        }
        Type::Struct(_) if null => writeln!(
            out,
            "w.presence(self.{name}.is_some());\nif let Some(x) = &self.{name} {{\nx.write(w, version)?;\n}}"
        ),
        Type::Struct(_) => writeln!(out, "self.{name}.write(w, version)?;"),
        Type::String if field.classic_length => {
            writeln!(out, "w.nullable_string_classic(self.{name}.as_ref(), \"{path}\")?;")
        }
        Type::String | Type::Bytes | Type::Records => {
            let method = if field.kind == Type::String { "string" } else { "bytes" };
            let value = if null { format!("self.{name}.as_ref()") } else { format!("&self.{name}") };
            writeln!(out, "w.{maybe}{method}({value}, \"{path}\")?;")
        }
        kind => writeln!(out, "{};", plain(kind, &format!("self.{name}"))),
    };
    out
}

/// What writes an element: one function for all arrays of a plain type, so that little is compiled.
fn element(kind: &Type) -> String {
    match kind {
        Type::Struct(_) => "|w, x, _| x.write(w, version)".to_owned(),
        Type::String | Type::Bytes | Type::Records => format!("Writer::{}", method(kind)),
        kind => format!("support::{}", method(kind)),
    }
}

fn plain(kind: &Type, value: &str) -> String {
    match kind {
        Type::ErrorCode => format!("w.i16({value}.as_i16())"),
        kind => format!("w.{}({value})", method(kind)),
    }
}

/// Tagged fields go out when they differ from their default, in the order of their tags.
fn tagged_fields(out: &mut String, message: &Message, part: &Struct) -> Result<()> {
    let mut known: Vec<&Field> = part.fields.iter().filter(|field| !field.tagged.is_empty()).collect();
    known.sort_by_key(|field| field.tag);
    let flexible = part.reach.and(message.flexible);
    // Where the version has no tagged fields, `unknown_tagged_fields` refuses those that are set.
    if let Some(condition) = flexible.condition_not(part.reach) {
        for field in &known {
            ensure!(field.present == field.tagged, "{} is tagged in some versions only", field.path);
        }
        let _ = writeln!(out, "if {condition} {{");
        let _ = writeln!(
            out,
            "return w.unknown_tagged_fields(&self.unknown_tagged_fields, \"{}\", version);\n}}",
            part.path
        );
    }
    out.push_str("let mut tags = w.begin_tagged_fields();\n");
    for field in known {
        let mut condition = differs_from_default(field)?;
        if let Some(version) = field.tagged.condition(flexible) {
            condition = format!("{version} && {condition}");
        }
        let write = statements(field);
        let _ = writeln!(
            out,
            "if {condition} {{\nw.tagged_field(&mut tags, {}, |w| {{\n{write}Ok(())\n}})?;\n}}",
            field.tag.unwrap_or_default()
        );
    }
    let _ = writeln!(out, "w.end_tagged_fields(tags, &self.unknown_tagged_fields, \"{}\")", part.path);
    Ok(())
}

/// A Rust condition that holds when the field is set, as Kafka's generator defines it.
fn differs_from_default(field: &Field) -> Result<String> {
    let name = format!("self.{}", field.rust);
    let default = default_value(field)?;
    let is_empty_collection = field.is_array || matches!(field.kind, Type::Bytes | Type::Records);
    Ok(match (&field.kind, default.as_str()) {
        (_, "None") => format!("{name}.is_some()"),
        (_, default) if is_empty_collection && default.starts_with("Some") => {
            format!("{name}.as_ref().is_none_or(|x| !x.is_empty())")
        }
        _ if is_empty_collection => format!("!{name}.is_empty()"),
        (Type::String, default) if default.starts_with("Some") => {
            let text = field.default.as_deref().unwrap_or("");
            format!("{name}.as_deref() != Some({text:?})")
        }
        (Type::String, "Str::default()") => format!("!{name}.is_empty()"),
        (Type::String, _) => format!("{name} != {:?}", field.default.as_deref().unwrap_or("")),
        (Type::Bool, "true") => format!("!{name}"),
        (Type::Bool, _) => name,
        (Type::Uuid, _) => format!("!{name}.is_zero()"),
        (_, default) => format!("{name} != {default}"),
    })
}
