//! Messages as JSON, in the form that Protobuf defines ("ProtoJSON"), and back to bytes.
//!
//! prost-reflect knows the form, with that of Google's own types, but it keeps the entries of maps in no order. Here they are sorted by
//! key, in JSON and in bytes, so that the same message always gives the same text and the same bytes.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage as _,
    Value,
};

use super::ProtobufSchema;
use crate::SerdeError;
use crate::json_text::{LEVELS_MAX, place_at, push_float, push_string, without_values};

impl ProtobufSchema {
    /// A message of this full name as JSON on one line, in the form that Protobuf defines: names in lowerCamelCase, 64-bit integers as
    /// texts, bytes in base64, fields with their default left out. Entries of maps are sorted by their keys.
    ///
    /// # Errors
    /// When the schema has no such message, the bytes are none, or JSON has no form for it (a time before the year 1).
    pub fn read_json(&self, message: &str, body: &[u8]) -> Result<String, SerdeError> {
        self.json_of(&self.named(Some(message))?, body)
    }

    pub(crate) fn json_of(&self, message: &MessageDescriptor, body: &[u8]) -> Result<String, SerdeError> {
        let message = DynamicMessage::decode(message.clone(), body).map_err(wrong)?;
        let mut text = String::new();
        write_message(&message, 0, &mut text)?;
        Ok(text)
    }

    /// Appends the bytes of a message of this full name whose JSON this is. Fields are written by their numbers, and entries of maps by
    /// their keys.
    ///
    /// # Errors
    /// When the schema has no such message, or the text does not fit it. The error names the place, as a JSON pointer, and not the value.
    pub fn write_json(&self, message: &str, json: &str, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        self.bytes_of(self.named(Some(message))?, json, into)
    }

    pub(crate) fn bytes_of(
        &self,
        message: MessageDescriptor,
        json: &str,
        into: &mut Vec<u8>,
    ) -> Result<(), SerdeError> {
        let unfit = |error: &serde_json::Error| {
            let at = place_at(json, error.line(), error.column());
            let why = without_values(error);
            if at.is_empty() { wrong(why) } else { wrong(format_args!("at {at}: {why}")) }
        };
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let message =
            DynamicMessage::deserialize(message, &mut deserializer).map_err(|error| unfit(&error))?;
        deserializer.end().map_err(|error| unfit(&error))?;
        encode(&message, into);
        Ok(())
    }
}

fn wrong(why: impl std::fmt::Display) -> SerdeError {
    SerdeError::data(format!("Protobuf: {why}"))
}

/// Types of Google's that have a form of their own.
const OWN_FORM: &[&str] = &[
    "Any",
    "BoolValue",
    "BytesValue",
    "DoubleValue",
    "Duration",
    "FieldMask",
    "FloatValue",
    "Int32Value",
    "Int64Value",
    "ListValue",
    "StringValue",
    "Struct",
    "Timestamp",
    "UInt32Value",
    "UInt64Value",
    "Value",
];

fn write_message(message: &DynamicMessage, level: u32, into: &mut String) -> Result<(), SerdeError> {
    if level > LEVELS_MAX {
        return Err(wrong(format_args!("the data as JSON is nested more than {LEVELS_MAX} levels deep")));
    }
    let descriptor = message.descriptor();
    if let Some(name) = descriptor.full_name().strip_prefix("google.protobuf.")
        && OWN_FORM.contains(&name)
    {
        let text = match name {
            // They have maps. A tree of serde_json's sorts them, and has no 32-bit floats that would change by it.
            "Any" | "ListValue" | "Struct" | "Value" => {
                serde_json::to_value(message).map(|value| value.to_string())
            }
            _ => serde_json::to_string(message),
        };
        into.push_str(&text.map_err(wrong)?);
        return Ok(());
    }
    into.push('{');
    let mut is_first = true;
    let mut begin = |name: &str, into: &mut String| {
        if !std::mem::take(&mut is_first) {
            into.push(',');
        }
        push_string(name, into);
        into.push(':');
    };
    for (field, value) in message.fields() {
        begin(field.json_name(), into);
        write_value(value, &field.kind(), level + 1, into)?;
    }
    for (extension, value) in message.extensions() {
        begin(extension.json_name(), into);
        write_value(value, &extension.kind(), level + 1, into)?;
    }
    into.push('}');
    Ok(())
}

fn write_value(value: &Value, kind: &Kind, level: u32, into: &mut String) -> Result<(), SerdeError> {
    match value {
        Value::Bool(value) => into.push_str(if *value { "true" } else { "false" }),
        Value::I32(value) => into.push_str(&value.to_string()),
        Value::U32(value) => into.push_str(&value.to_string()),
        Value::I64(value) => push_string(&value.to_string(), into),
        Value::U64(value) => push_string(&value.to_string(), into),
        Value::F32(value) => push_float(f64::from(*value), value, into),
        Value::F64(value) => push_float(*value, value, into),
        Value::String(value) => push_string(value, into),
        Value::Bytes(value) => push_string(&STANDARD.encode(value), into),
        Value::EnumNumber(number) => match kind {
            Kind::Enum(of) => write_enum(of, *number, into),
            _ => return Err(wrong("a number is of no enum")),
        },
        Value::Message(message) => write_message(message, level, into)?,
        Value::List(values) => {
            into.push('[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    into.push(',');
                }
                write_value(value, kind, level + 1, into)?;
            }
            into.push(']');
        }
        Value::Map(values) => {
            let Kind::Message(entry) = kind else { return Err(wrong("a map has no entries")) };
            let kind = entry.map_entry_value_field().kind();
            into.push('{');
            for (index, (key, value)) in values.iter().collect::<BTreeMap<_, _>>().into_iter().enumerate() {
                if index > 0 {
                    into.push(',');
                }
                match key {
                    MapKey::Bool(key) => push_string(&key.to_string(), into),
                    MapKey::I32(key) => push_string(&key.to_string(), into),
                    MapKey::I64(key) => push_string(&key.to_string(), into),
                    MapKey::U32(key) => push_string(&key.to_string(), into),
                    MapKey::U64(key) => push_string(&key.to_string(), into),
                    MapKey::String(key) => push_string(key, into),
                }
                into.push(':');
                write_value(value, &kind, level + 1, into)?;
            }
            into.push('}');
        }
    }
    Ok(())
}

fn write_enum(of: &EnumDescriptor, number: i32, into: &mut String) {
    match of.get_value(number) {
        _ if of.full_name() == "google.protobuf.NullValue" => into.push_str("null"),
        Some(value) => push_string(value.name(), into),
        // A constant of a later version of the schema.
        None => into.push_str(&number.to_string()),
    }
}

/// What precedes a value on the wire.
#[derive(Clone, Copy)]
enum Wire {
    Varint = 0,
    Bytes8 = 1,
    Length = 2,
    Begin = 3,
    End = 4,
    Bytes4 = 5,
}

fn tag(number: u32, wire: Wire, into: &mut Vec<u8>) {
    varint(u64::from(number) << 3 | wire as u64, into);
}

fn varint(mut value: u64, into: &mut Vec<u8>) {
    while value >= 0x80 {
        into.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

fn length_first(bytes: &[u8], into: &mut Vec<u8>) {
    varint(bytes.len() as u64, into);
    into.extend_from_slice(bytes);
}

/// Appends a message, as other writers do: by the fields' numbers, with the keys and the values of all entries.
pub(super) fn encode(message: &DynamicMessage, into: &mut Vec<u8>) {
    let mut fields: Vec<_> = message.fields().map(|(field, value)| (Field::of(&field), value)).collect();
    fields.extend(message.extensions().map(|(of, value)| {
        let (is_group, is_packed) = (of.is_group(), of.is_packed());
        (Field { number: of.number(), kind: of.kind(), is_group, is_packed }, value)
    }));
    fields.sort_by_key(|(field, _)| field.number);
    for (field, value) in fields {
        match value {
            Value::Map(values) => {
                let Kind::Message(entry) = &field.kind else { continue };
                let [key_field, value_field] =
                    [entry.map_entry_key_field(), entry.map_entry_value_field()].map(|of| Field::of(&of));
                for (key, value) in values.iter().collect::<BTreeMap<_, _>>() {
                    let mut bytes = Vec::new();
                    key_field.encode(&Value::from(key.clone()), &mut bytes);
                    value_field.encode(value, &mut bytes);
                    tag(field.number, Wire::Length, into);
                    length_first(&bytes, into);
                }
            }
            Value::List(values) if field.is_packed => {
                let mut bytes = Vec::new();
                values.iter().for_each(|value| field.encode_bare(value, &mut bytes));
                tag(field.number, Wire::Length, into);
                length_first(&bytes, into);
            }
            Value::List(values) => values.iter().for_each(|value| field.encode(value, into)),
            value => field.encode(value, into),
        }
    }
}

struct Field {
    number: u32,
    kind: Kind,
    is_group: bool,
    is_packed: bool,
}

impl Field {
    fn of(field: &FieldDescriptor) -> Self {
        let (is_group, is_packed) = (field.is_group(), field.is_packed());
        Self { number: field.number(), kind: field.kind(), is_group, is_packed }
    }

    fn encode(&self, value: &Value, into: &mut Vec<u8>) {
        let wire = match self.kind {
            Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => Wire::Bytes8,
            Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => Wire::Bytes4,
            Kind::Message(_) if self.is_group => Wire::Begin,
            Kind::String | Kind::Bytes | Kind::Message(_) => Wire::Length,
            _ => Wire::Varint,
        };
        tag(self.number, wire, into);
        self.encode_bare(value, into);
        if let Wire::Begin = wire {
            tag(self.number, Wire::End, into);
        }
    }

    /// Without the number.
    fn encode_bare(&self, value: &Value, into: &mut Vec<u8>) {
        match (value, &self.kind) {
            (Value::Bool(value), _) => into.push((*value).into()),
            (Value::I32(value), Kind::Sint32) => {
                varint(u64::from(((value << 1) ^ (value >> 31)).cast_unsigned()), into);
            }
            (Value::I64(value), Kind::Sint64) => varint(((value << 1) ^ (value >> 63)).cast_unsigned(), into),
            (Value::I32(value), Kind::Sfixed32) => into.extend_from_slice(&value.to_le_bytes()),
            (Value::I64(value), Kind::Sfixed64) => into.extend_from_slice(&value.to_le_bytes()),
            (Value::U32(value), Kind::Fixed32) => into.extend_from_slice(&value.to_le_bytes()),
            (Value::U64(value), Kind::Fixed64) => into.extend_from_slice(&value.to_le_bytes()),
            // Negative numbers of 32 bits have 64 on the wire.
            (Value::I32(value) | Value::EnumNumber(value), _) => {
                varint(i64::from(*value).cast_unsigned(), into);
            }
            (Value::I64(value), _) => varint(value.cast_unsigned(), into),
            (Value::U32(value), _) => varint(u64::from(*value), into),
            (Value::U64(value), _) => varint(*value, into),
            (Value::F32(value), _) => into.extend_from_slice(&value.to_le_bytes()),
            (Value::F64(value), _) => into.extend_from_slice(&value.to_le_bytes()),
            (Value::String(value), _) => length_first(value.as_bytes(), into),
            (Value::Bytes(value), _) => length_first(value, into),
            (Value::Message(message), _) if self.is_group => encode(message, into),
            (Value::Message(message), _) => {
                let mut bytes = Vec::new();
                encode(message, &mut bytes);
                length_first(&bytes, into);
            }
            // Neither is an item or a field of its own.
            (Value::List(_) | Value::Map(_), _) => {}
        }
    }
}
