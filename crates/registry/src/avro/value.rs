//! Avro's data whose type is known at run time only.

use super::reader::{Reader, write_bytes, write_count, write_long};
use super::schema::{AvroSchema, Node, NodeId};
use super::wrong;
use crate::SerdeError;

/// A datum. It keeps which branch of a union it is and which symbol of an enum, so that it is written as it was read.
#[derive(Debug, Clone, PartialEq)]
pub enum AvroValue {
    /// null
    Null,
    /// boolean
    Boolean(bool),
    /// int
    Int(i32),
    /// long
    Long(i64),
    /// float
    Float(f32),
    /// double
    Double(f64),
    /// bytes
    Bytes(Vec<u8>),
    /// string
    String(String),
    /// fixed
    Fixed(Vec<u8>),
    /// enum, by its symbol.
    Enum(String),
    /// array
    Array(Vec<AvroValue>),
    /// map, in the order of the data.
    Map(Vec<(String, AvroValue)>),
    /// union: the index of the branch, and what is in it.
    Union(usize, Box<AvroValue>),
    /// record: the fields in the schema's order.
    Record(Vec<(String, AvroValue)>),
}

pub(super) fn read(
    schema: &AvroSchema,
    node: NodeId,
    reader: &mut Reader<'_>,
) -> Result<AvroValue, SerdeError> {
    reader.enter()?;
    reader.charge(1)?;
    let value = match schema.node(node) {
        Node::Null => AvroValue::Null,
        Node::Boolean => AvroValue::Boolean(reader.boolean()?),
        Node::Int => AvroValue::Int(reader.int()?),
        Node::Long => AvroValue::Long(reader.long()?),
        Node::Float => AvroValue::Float(reader.float()?),
        Node::Double => AvroValue::Double(reader.double()?),
        Node::Bytes => AvroValue::Bytes(reader.bytes()?.to_vec()),
        Node::String => AvroValue::String(reader.string()?.to_owned()),
        Node::Fixed { size, .. } => AvroValue::Fixed(reader.take(*size)?.to_vec()),
        Node::Enum { symbols, .. } => {
            let symbol = &symbols[reader.index(symbols.len(), "symbol of an enum")?];
            reader.charge_name(symbol)?;
            AvroValue::Enum(symbol.to_string())
        }
        Node::Array(items) => {
            let mut values = Vec::new();
            blocks(reader, |reader| {
                values.push(read(schema, *items, reader)?);
                Ok(())
            })?;
            AvroValue::Array(values)
        }
        Node::Map(items) => {
            let mut values = Vec::new();
            blocks(reader, |reader| {
                let key = reader.string()?.to_owned();
                values.push((key, read(schema, *items, reader)?));
                Ok(())
            })?;
            AvroValue::Map(values)
        }
        Node::Union(branches) => {
            let index = reader.index(branches.len(), "branch of a union")?;
            AvroValue::Union(index, Box::new(read(schema, branches[index], reader)?))
        }
        Node::Record { fields, .. } => {
            let mut values = Vec::new();
            for field in fields {
                reader.charge_name(&field.name)?;
                values.push((field.name.to_string(), read(schema, field.node, reader)?));
            }
            AvroValue::Record(values)
        }
    };
    reader.leave();
    Ok(value)
}

fn blocks<'de>(
    reader: &mut Reader<'de>,
    mut one: impl FnMut(&mut Reader<'de>) -> Result<(), SerdeError>,
) -> Result<(), SerdeError> {
    loop {
        let count = reader.block()?;
        if count == 0 {
            return Ok(());
        }
        for _ in 0..count {
            one(reader)?;
        }
    }
}

/// Values that were made by a program are nested as deep as it likes, so the depth is that of the value, which it could make.
pub(super) fn write(
    schema: &AvroSchema,
    node: NodeId,
    value: &AvroValue,
    into: &mut Vec<u8>,
) -> Result<(), SerdeError> {
    match (schema.node(node), value) {
        (Node::Null, AvroValue::Null) => {}
        (Node::Boolean, AvroValue::Boolean(value)) => into.push((*value).into()),
        (Node::Int, AvroValue::Int(value)) | (Node::Long, AvroValue::Int(value)) => {
            write_long((*value).into(), into);
        }
        (Node::Long, AvroValue::Long(value)) => write_long(*value, into),
        (Node::Float, AvroValue::Float(value)) => into.extend_from_slice(&value.to_le_bytes()),
        (Node::Double, AvroValue::Double(value)) => into.extend_from_slice(&value.to_le_bytes()),
        (Node::Bytes, AvroValue::Bytes(value)) => write_bytes(value, into),
        (Node::String, AvroValue::String(value)) => write_bytes(value.as_bytes(), into),
        (Node::Fixed { size, .. }, AvroValue::Fixed(value)) if value.len() == *size => {
            into.extend_from_slice(value);
        }
        (Node::Enum { symbols, name }, AvroValue::Enum(value)) => {
            let symbol = symbols.iter().position(|symbol| **symbol == **value);
            write_count(symbol.ok_or_else(|| wrong(format_args!("{name:?} has no symbol {value:?}")))?, into);
        }
        (Node::Array(items), AvroValue::Array(values)) => {
            if !values.is_empty() {
                write_count(values.len(), into);
            }
            for value in values {
                write(schema, *items, value, into)?;
            }
            into.push(0);
        }
        (Node::Map(items), AvroValue::Map(values)) => {
            if !values.is_empty() {
                write_count(values.len(), into);
            }
            for (key, value) in values {
                write_bytes(key.as_bytes(), into);
                write(schema, *items, value, into)?;
            }
            into.push(0);
        }
        (Node::Union(branches), AvroValue::Union(index, value)) => {
            let branch = branches.get(*index);
            let branch = branch.ok_or_else(|| wrong(format_args!("a union has no branch {index}")))?;
            write_count(*index, into);
            write(schema, *branch, value, into)?;
        }
        (Node::Record { fields, name }, AvroValue::Record(values)) => {
            for field in fields {
                match (values.iter().find(|(key, _)| **key == *field.name), &field.default) {
                    (Some((_, value)), _) => write(schema, field.node, value, into)?,
                    (None, Some(default)) => into.extend_from_slice(default),
                    (None, None) => {
                        let field = &field.name;
                        return Err(wrong(format_args!(
                            "{name:?} needs field {field:?}, which has no default"
                        )));
                    }
                }
            }
        }
        _ => return Err(wrong(format_args!("a value does not fit {}", schema.branch_name(node)))),
    }
    Ok(())
}
