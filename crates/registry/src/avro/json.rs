//! Avro's data as JSON, in the encoding that Avro's specification defines ("JSON Encoding").
//!
//! - null, booleans, numbers, strings, arrays, maps and records are those of JSON; an enum is its symbol.
//! - bytes and fixed are a text with one character for each byte, U+0000 to U+00FF.
//! - a union is `null`, or an object with the name of its branch: `{"string": "soon"}`. Names of records, enums and fixed are full.
//! - floating-point numbers that JSON does not have are `"NaN"`, `"Infinity"` and `"-Infinity"`, as Java's encoder writes them.
//! - logical types are what they are made of: a `timestamp-millis` is a number, a `decimal` is bytes.
//!
//! Reading takes more than that: a field with a default may be left out, and a branch of a union need not be named where only one can be
//! meant.

use serde_json::value::RawValue;

use super::reader::DEPTH_MAX;
use super::schema::{AvroSchema, Node, NodeId};
use super::value::AvroValue;
use super::wrong;
use crate::SerdeError;
use crate::json_text::{Entries, LEVELS_MAX, Place, push_float, push_string};

/// Appends a value that fits the schema.
pub(super) fn write(
    schema: &AvroSchema,
    node: NodeId,
    value: &AvroValue,
    level: u32,
    into: &mut String,
) -> Result<(), SerdeError> {
    if level > LEVELS_MAX {
        return Err(wrong(format_args!("the data as JSON is nested more than {LEVELS_MAX} levels deep")));
    }
    match (schema.node(node), value) {
        (Node::Null, AvroValue::Null) => into.push_str("null"),
        (_, AvroValue::Boolean(value)) => into.push_str(if *value { "true" } else { "false" }),
        (_, AvroValue::Int(value)) => into.push_str(&value.to_string()),
        (_, AvroValue::Long(value)) => into.push_str(&value.to_string()),
        (_, AvroValue::Float(value)) => push_float(f64::from(*value), value, into),
        (_, AvroValue::Double(value)) => push_float(*value, value, into),
        (_, AvroValue::Bytes(value) | AvroValue::Fixed(value)) => {
            push_string(&value.iter().map(|byte| char::from(*byte)).collect::<String>(), into);
        }
        (_, AvroValue::String(value) | AvroValue::Enum(value)) => push_string(value, into),
        (Node::Array(items), AvroValue::Array(values)) => {
            into.push('[');
            for (index, value) in values.iter().enumerate() {
                comma(index, into);
                write(schema, *items, value, level + 1, into)?;
            }
            into.push(']');
        }
        (Node::Map(values_node), AvroValue::Map(values)) => {
            into.push('{');
            for (index, (key, value)) in values.iter().enumerate() {
                comma(index, into);
                push_string(key, into);
                into.push(':');
                write(schema, *values_node, value, level + 1, into)?;
            }
            into.push('}');
        }
        (Node::Union(branches), AvroValue::Union(index, value)) => {
            let branch = branches.get(*index).copied();
            let branch = branch.ok_or_else(|| wrong(format_args!("a union has no branch {index}")))?;
            if let Node::Null = schema.node(branch) {
                return write(schema, branch, value, level, into);
            }
            into.push('{');
            push_string(schema.branch_name(branch), into);
            into.push(':');
            write(schema, branch, value, level + 1, into)?;
            into.push('}');
        }
        (Node::Record { fields, .. }, AvroValue::Record(values)) => {
            into.push('{');
            for (index, (name, value)) in values.iter().enumerate() {
                let field = fields.iter().find(|field| *field.name == **name);
                let field = field.ok_or_else(|| wrong(format_args!("there is no field {name:?}")))?;
                comma(index, into);
                push_string(name, into);
                into.push(':');
                write(schema, field.node, value, level + 1, into)?;
            }
            into.push('}');
        }
        _ => return Err(wrong(format_args!("a value does not fit {}", schema.branch_name(node)))),
    }
    Ok(())
}

fn comma(index: usize, into: &mut String) {
    if index > 0 {
        into.push(',');
    }
}

/// Reads the value of a type from its JSON.
pub(super) fn read(
    schema: &AvroSchema,
    node: NodeId,
    json: &RawValue,
    at: &Place<'_>,
) -> Result<AvroValue, SerdeError> {
    if at.depth > DEPTH_MAX {
        return Err(wrong(format_args!("the data is nested more than {DEPTH_MAX} levels deep")));
    }
    let unfit = || misfit(schema, node, json, at);
    let bytes = || -> Option<Vec<u8>> {
        text(json)?.chars().map(|character| u8::try_from(u32::from(character)).ok()).collect()
    };
    let value = match schema.node(node) {
        Node::Null => (json.get() == "null").then_some(AvroValue::Null),
        Node::Boolean => json.get().parse().ok().map(AvroValue::Boolean),
        Node::Int => json.get().parse().ok().map(AvroValue::Int),
        Node::Long => json.get().parse().ok().map(AvroValue::Long),
        Node::Float => number(json, f32::is_finite).map(AvroValue::Float),
        Node::Double => number(json, f64::is_finite).map(AvroValue::Double),
        Node::Bytes => bytes().map(AvroValue::Bytes),
        Node::Fixed { size, .. } => bytes().filter(|bytes| bytes.len() == *size).map(AvroValue::Fixed),
        Node::String => text(json).map(AvroValue::String),
        Node::Enum { symbols, .. } => {
            text(json).filter(|text| symbols.iter().any(|symbol| **symbol == **text)).map(AvroValue::Enum)
        }
        Node::Array(items) => {
            let mut values = Vec::new();
            for (index, json) in array(json).ok_or_else(unfit)?.into_iter().enumerate() {
                values.push(read(schema, *items, json, &at.index(index))?);
            }
            Some(AvroValue::Array(values))
        }
        Node::Map(items) => {
            let mut values = Vec::new();
            for (key, json) in object(json).ok_or_else(unfit)? {
                let value = read(schema, *items, json, &at.name(&key))?;
                values.push((key, value));
            }
            Some(AvroValue::Map(values))
        }
        Node::Record { name, fields } => {
            let mut values: Vec<(String, AvroValue)> = Vec::new();
            let mut is_there = vec![false; fields.len()];
            for (key, json) in object(json).ok_or_else(unfit)? {
                let Some(index) = fields.iter().position(|field| *field.name == *key) else {
                    return Err(wrong_at(at, format_args!("{name:?} has no field {key:?}")));
                };
                if std::mem::replace(&mut is_there[index], true) {
                    return Err(wrong_at(at, format_args!("field {key:?} of {name:?} comes twice")));
                }
                let value = read(schema, fields[index].node, json, &at.name(&key))?;
                values.push((key, value));
            }
            for (field, is_there) in fields.iter().zip(is_there) {
                if !is_there && field.default.is_none() {
                    let field = &field.name;
                    return Err(wrong_at(
                        at,
                        format_args!("{name:?} needs field {field:?}, which has no default"),
                    ));
                }
            }
            Some(AvroValue::Record(values))
        }
        Node::Union(branches) => return union(schema, node, branches, json, at),
    };
    value.ok_or_else(unfit)
}

fn union(
    schema: &AvroSchema,
    node: NodeId,
    branches: &[NodeId],
    json: &RawValue,
    at: &Place<'_>,
) -> Result<AvroValue, SerdeError> {
    let within = |index: usize, json: &RawValue, at: &Place<'_>| {
        read(schema, branches[index], json, at).map(|value| AvroValue::Union(index, Box::new(value)))
    };
    // Named, as the specification says. The name without its namespace does if no other branch has it.
    if let Some([(name, json)]) = object(json).as_deref() {
        let full = branches.iter().position(|branch| schema.branch_name(*branch) == name);
        let ends_so = |branch: &&NodeId| schema.branch_name(**branch).rsplit('.').next() == Some(name);
        let is_only = branches.iter().filter(ends_so).count() == 1;
        let short = || branches.iter().position(|branch| is_only && ends_so(&branch));
        if let Some(index) = full.or_else(short)
            && !matches!(schema.node(branches[index]), Node::Null)
        {
            return within(index, json, &at.name(name));
        }
    }
    let can_be = |branch: &NodeId| {
        let node = schema.node(*branch);
        match json.get().as_bytes() {
            [b'n', ..] => matches!(node, Node::Null),
            [b't' | b'f', ..] => matches!(node, Node::Boolean),
            [b'[', ..] => matches!(node, Node::Array(_)),
            [b'{', ..] => matches!(node, Node::Map(_) | Node::Record { .. }),
            [b'"', ..] => matches!(node, Node::String | Node::Bytes | Node::Fixed { .. } | Node::Enum { .. }),
            _ => matches!(node, Node::Int | Node::Long | Node::Float | Node::Double),
        }
    };
    let mut fitting = branches.iter().enumerate().filter(|(_, branch)| can_be(branch));
    match (fitting.next(), fitting.next()) {
        (Some((index, _)), None) => within(index, json, at),
        (None, _) => Err(misfit(schema, node, json, at)),
        (Some((_, one)), Some((_, other))) => {
            let (one, other) = (schema.branch_name(*one), schema.branch_name(*other));
            Err(wrong_at(
                at,
                format_args!(
                    "it can be the branch {one:?} or {other:?} of a union: write {{{one:?}: VALUE}} or {{{other:?}: VALUE}}"
                ),
            ))
        }
    }
}

/// A number that JSON has, or the name of one that it has not.
fn number<T: std::str::FromStr + Copy>(json: &RawValue, is_finite: impl Fn(T) -> bool) -> Option<T> {
    match json.get() {
        "\"NaN\"" => "NaN".parse().ok(),
        "\"Infinity\"" => "inf".parse().ok(),
        "\"-Infinity\"" => "-inf".parse().ok(),
        // Rust's parser takes `inf` and `nan` too, which are no JSON.
        text => text.parse().ok().filter(|number| is_finite(*number)),
    }
}

fn text(json: &RawValue) -> Option<String> {
    serde_json::from_str(json.get()).ok()
}

fn array(json: &RawValue) -> Option<Vec<&RawValue>> {
    serde_json::from_str(json.get()).ok()
}

fn object(json: &RawValue) -> Option<Vec<(String, &RawValue)>> {
    serde_json::from_str::<Entries<'_>>(json.get()).ok().map(|entries| entries.0)
}

fn wrong_at(at: &Place<'_>, why: std::fmt::Arguments<'_>) -> SerdeError {
    match at.depth {
        0 => wrong(why),
        _ => wrong(format_args!("at {at}: {why}")),
    }
}

/// The value itself may be a secret.
fn misfit(schema: &AvroSchema, node: NodeId, json: &RawValue, at: &Place<'_>) -> SerdeError {
    let what = match json.get().as_bytes() {
        [b'n', ..] => "null",
        [b't' | b'f', ..] => "a boolean",
        [b'"', ..] => "a text",
        [b'[', ..] => "an array",
        [b'{', ..] => "an object",
        _ => "a number",
    };
    let expected = match schema.node(node) {
        Node::Int | Node::Long if what == "a number" => {
            return wrong_at(at, format_args!("the number is none of {}", schema.branch_name(node)));
        }
        Node::Bytes if what == "a text" => {
            "bytes: a character stands for a byte, U+0000 to U+00FF".to_owned()
        }
        Node::Fixed { name, size } if what == "a text" => {
            format!("{name:?}, which has {size} bytes: a character stands for a byte, U+0000 to U+00FF")
        }
        Node::Enum { name, .. } if what == "a text" => format!("{name:?}: it is none of its symbols"),
        _ => schema.expected(node),
    };
    wrong_at(at, format_args!("{what} does not fit {expected}"))
}
