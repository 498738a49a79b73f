//! Types of serde's into Avro's data.

use serde::ser::{self, Serialize};

use super::reader::{write_bytes, write_count, write_long};
use super::scalars::{OneByte, Text};
use super::schema::{AvroSchema, Field, Node, NodeId, in_field};
use super::wrong;
use crate::SerdeError;

/// Where something is written, and the type that it must have there.
pub(super) struct Datum<'a> {
    schema: &'a AvroSchema,
    node: NodeId,
    into: &'a mut Vec<u8>,
}

impl<'a> Datum<'a> {
    #[inline]
    pub(super) fn new(schema: &'a AvroSchema, into: &'a mut Vec<u8>) -> Self {
        Self { schema, node: schema.root(), into }
    }

    #[inline]
    fn node(&self) -> &'a Node {
        self.schema.node(self.node)
    }

    /// Goes into the branch of a union that `is_it` finds first.
    #[inline]
    fn enter(mut self, what: &str, is_it: impl Fn(&Node, NodeId) -> bool) -> Result<Self, SerdeError> {
        let Some((index, node)) = self.schema.branch(self.node, is_it) else {
            return Err(self.misfit(what));
        };
        if let Some(index) = index {
            write_count(index, self.into);
        }
        self.node = node;
        Ok(self)
    }

    /// As [`enter`](Self::enter), if there is such a branch.
    fn has(&self, is_it: impl Fn(&Node, NodeId) -> bool) -> bool {
        self.schema.branch(self.node, is_it).is_some()
    }

    #[cold]
    fn misfit(&self, what: &str) -> SerdeError {
        let expected = self.schema.expected(self.node);
        wrong(format_args!("{what} does not fit {expected}"))
    }

    fn integer(self, value: i128, what: &str) -> Result<(), SerdeError> {
        let is_int = i32::try_from(value).is_ok();
        // An int if it fits and there is one, or else a long, or else a floating-point number that is exact.
        let fits = |node: &Node, _: NodeId| match node {
            Node::Int => is_int,
            Node::Long => i64::try_from(value).is_ok(),
            Node::Float => value.unsigned_abs() <= 1 << 24,
            Node::Double => value.unsigned_abs() <= 1 << 53,
            _ => false,
        };
        let this = self.enter(what, fits)?;
        match this.node() {
            #[expect(clippy::cast_precision_loss, reason = "it is exact up to there")]
            Node::Float => this.into.extend_from_slice(&(value as f32).to_le_bytes()),
            #[expect(clippy::cast_precision_loss, reason = "it is exact up to there")]
            Node::Double => this.into.extend_from_slice(&(value as f64).to_le_bytes()),
            _ => write_long(i64::try_from(value).unwrap_or_default(), this.into),
        }
        Ok(())
    }

    /// The branch that a variant names.
    fn variant(self, variant: &str) -> Result<Self, SerdeError> {
        let schema = self.schema;
        if !self.has(|_, node| schema.is_branch(node, variant)) {
            return Err(self.misfit(&format!("the variant {variant:?}")));
        }
        self.enter(variant, |_, node| schema.is_branch(node, variant))
    }
}

impl<'a> ser::Serializer for Datum<'a> {
    type Ok = ();
    type Error = SerdeError;
    type SerializeSeq = Items<'a>;
    type SerializeTuple = Items<'a>;
    type SerializeTupleStruct = Items<'a>;
    type SerializeTupleVariant = Items<'a>;
    type SerializeMap = Entries<'a>;
    type SerializeStruct = Record<'a>;
    type SerializeStructVariant = Record<'a>;

    fn serialize_bool(self, value: bool) -> Result<(), SerdeError> {
        let this = self.enter("a boolean", |node, _| matches!(node, Node::Boolean))?;
        this.into.push(value.into());
        Ok(())
    }

    fn serialize_i8(self, value: i8) -> Result<(), SerdeError> {
        self.integer(value.into(), "an integer")
    }

    fn serialize_i16(self, value: i16) -> Result<(), SerdeError> {
        self.integer(value.into(), "an integer")
    }

    fn serialize_i32(self, value: i32) -> Result<(), SerdeError> {
        self.integer(value.into(), "an integer")
    }

    #[inline]
    fn serialize_i64(self, value: i64) -> Result<(), SerdeError> {
        if let Node::Long = self.node() {
            write_long(value, self.into);
            return Ok(());
        }
        // In a union an i64 is a long, if there is one: an int is for smaller types.
        if self.has(|node, _| matches!(node, Node::Long)) {
            let this = self.enter("an integer", |node, _| matches!(node, Node::Long))?;
            write_long(value, this.into);
            return Ok(());
        }
        self.integer(value.into(), "an integer of 64 bits")
    }

    fn serialize_i128(self, value: i128) -> Result<(), SerdeError> {
        self.integer(value, "an integer of 128 bits")
    }

    fn serialize_u8(self, value: u8) -> Result<(), SerdeError> {
        self.integer(value.into(), "an integer")
    }

    fn serialize_u16(self, value: u16) -> Result<(), SerdeError> {
        self.integer(value.into(), "an integer")
    }

    fn serialize_u32(self, value: u32) -> Result<(), SerdeError> {
        self.integer(value.into(), "an integer")
    }

    fn serialize_u64(self, value: u64) -> Result<(), SerdeError> {
        self.integer(value.into(), "an integer of 64 bits")
    }

    fn serialize_u128(self, value: u128) -> Result<(), SerdeError> {
        let value = i128::try_from(value).map_err(|_| self.misfit("an integer of 128 bits"))?;
        self.integer(value, "an integer of 128 bits")
    }

    fn serialize_f32(self, value: f32) -> Result<(), SerdeError> {
        let this =
            self.enter("a floating-point number", |node, _| matches!(node, Node::Float | Node::Double))?;
        match this.node() {
            Node::Float => this.into.extend_from_slice(&value.to_le_bytes()),
            _ => this.into.extend_from_slice(&f64::from(value).to_le_bytes()),
        }
        Ok(())
    }

    fn serialize_f64(self, value: f64) -> Result<(), SerdeError> {
        // Rounding to a float would lose digits unasked.
        let this =
            self.enter("a floating-point number of 64 bits", |node, _| matches!(node, Node::Double))?;
        this.into.extend_from_slice(&value.to_le_bytes());
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), SerdeError> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<(), SerdeError> {
        if let Node::String = self.node() {
            write_bytes(value.as_bytes(), self.into);
            return Ok(());
        }
        let symbol = |node: &Node| match node {
            Node::Enum { symbols, .. } => symbols.iter().position(|symbol| **symbol == *value),
            _ => None,
        };
        if self.has(|node, _| matches!(node, Node::String)) {
            let this = self.enter("a text", |node, _| matches!(node, Node::String))?;
            write_bytes(value.as_bytes(), this.into);
            return Ok(());
        }
        if self.has(|node, _| symbol(node).is_some()) {
            let this = self.enter("a text", |node, _| symbol(node).is_some())?;
            write_count(symbol(this.node()).unwrap_or_default(), this.into);
            return Ok(());
        }
        let this = self.enter("a text", |node, _| matches!(node, Node::Bytes))?;
        write_bytes(value.as_bytes(), this.into);
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), SerdeError> {
        let fits = |node: &Node, _: NodeId| match node {
            Node::Bytes => true,
            Node::Fixed { size, .. } => *size == value.len(),
            _ => false,
        };
        let this = self.enter("bytes of this length", fits)?;
        match this.node() {
            Node::Bytes => write_bytes(value, this.into),
            _ => this.into.extend_from_slice(value),
        }
        Ok(())
    }

    fn serialize_none(self) -> Result<(), SerdeError> {
        self.serialize_unit()
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), SerdeError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), SerdeError> {
        self.enter("nothing", |node, _| matches!(node, Node::Null)).map(drop)
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<(), SerdeError> {
        let schema = self.schema;
        let is_empty =
            |node: &Node, _: NodeId| matches!(node, Node::Record { fields, .. } if fields.is_empty());
        if self.has(|node, id| is_empty(node, id) && schema.is_branch(id, name)) {
            return self.enter(name, |node, id| is_empty(node, id) && schema.is_branch(id, name)).map(drop);
        }
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<(), SerdeError> {
        let symbol = |node: &Node| match node {
            Node::Enum { symbols, .. } => symbols.iter().position(|symbol| **symbol == *variant),
            _ => None,
        };
        if self.has(|node, _| symbol(node).is_some()) {
            let this = self.enter(variant, |node, _| symbol(node).is_some())?;
            write_count(symbol(this.node()).unwrap_or_default(), this.into);
            return Ok(());
        }
        let schema = self.schema;
        let is_named = |node: &Node, id: NodeId| {
            matches!(node, Node::Null | Node::Record { .. }) && schema.is_branch(id, variant)
        };
        if !self.has(is_named) && self.has(|node, _| matches!(node, Node::String)) {
            return self.serialize_str(variant);
        }
        self.variant(variant)?.serialize_unit_struct(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<(), SerdeError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), SerdeError> {
        value.serialize(self.variant(variant)?)
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Items<'a>, SerdeError> {
        let is_of_items =
            |node: &Node, _: NodeId| matches!(node, Node::Array(_) | Node::Bytes | Node::Fixed { .. });
        let this = self.enter("a sequence", is_of_items)?;
        let (schema, into) = (this.schema, &mut *this.into);
        let kind = match schema.node(this.node) {
            Node::Array(items) => {
                if let Some(length @ 1..) = length {
                    write_count(length, into);
                }
                Kind::Array { node: *items, left: length }
            }
            Node::Fixed { size, .. } => Kind::Fixed { left: *size },
            _ => Kind::Bytes(Vec::new()),
        };
        Ok(Items { schema, kind, into: this.into })
    }

    fn serialize_tuple(self, length: usize) -> Result<Items<'a>, SerdeError> {
        self.serialize_seq(Some(length))
    }

    fn serialize_tuple_struct(self, _name: &'static str, length: usize) -> Result<Items<'a>, SerdeError> {
        self.serialize_seq(Some(length))
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Items<'a>, SerdeError> {
        self.variant(variant)?.serialize_seq(Some(length))
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Entries<'a>, SerdeError> {
        let is_map = |node: &Node, _: NodeId| matches!(node, Node::Map(_) | Node::Record { .. });
        let this = self.enter("a map", is_map)?;
        let (schema, into) = (this.schema, this.into);
        match schema.node(this.node) {
            Node::Map(values) => {
                if let Some(length @ 1..) = length {
                    write_count(length, into);
                }
                Ok(Entries::Map { schema, node: *values, left: length, into })
            }
            Node::Record { name, fields } => {
                Ok(Entries::Record { record: Record::new(schema, name, fields, into), key: String::new() })
            }
            _ => Err(wrong("it is no map")),
        }
    }

    #[inline]
    fn serialize_struct(self, name: &'static str, _length: usize) -> Result<Record<'a>, SerdeError> {
        let schema = self.schema;
        let is_record = |node: &Node, _: NodeId| matches!(node, Node::Record { .. });
        // One of several records is the one of the same name.
        let is_named = |node: &Node, id: NodeId| is_record(node, id) && schema.is_branch(id, name);
        let this = match self.node() {
            Node::Union(_) if self.has(is_named) => self.enter(name, is_named)?,
            _ => self.enter(name, is_record)?,
        };
        match this.node() {
            Node::Record { name, fields } => Ok(Record::new(schema, name, fields, this.into)),
            _ => Err(wrong("it is no record")),
        }
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Record<'a>, SerdeError> {
        self.variant(variant)?.serialize_struct(variant, length)
    }
}

/// The items of an array, or bytes one by one.
pub(super) struct Items<'a> {
    schema: &'a AvroSchema,
    kind: Kind,
    into: &'a mut Vec<u8>,
}

enum Kind {
    /// With how many are left, if that was said; they are written as blocks of one otherwise.
    Array {
        node: NodeId,
        left: Option<usize>,
    },
    Bytes(Vec<u8>),
    Fixed {
        left: usize,
    },
}

impl Items<'_> {
    #[inline]
    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SerdeError> {
        match &mut self.kind {
            Kind::Array { node, left } => {
                count_one(left, self.into)?;
                value.serialize(Datum { schema: self.schema, node: *node, into: self.into })
            }
            Kind::Bytes(bytes) => {
                bytes.push(value.serialize(OneByte)?);
                Ok(())
            }
            Kind::Fixed { left } => {
                *left = left.checked_sub(1).ok_or_else(|| wrong("a sequence is longer than its fixed"))?;
                self.into.push(value.serialize(OneByte)?);
                Ok(())
            }
        }
    }

    fn finish(self) -> Result<(), SerdeError> {
        match self.kind {
            Kind::Array { left, .. } => end_of_blocks(left, self.into),
            Kind::Bytes(bytes) => {
                write_bytes(&bytes, self.into);
                Ok(())
            }
            Kind::Fixed { left: 0 } => Ok(()),
            Kind::Fixed { .. } => Err(wrong("a sequence is shorter than its fixed")),
        }
    }
}

/// Before an item of a block.
#[inline]
fn count_one(left: &mut Option<usize>, into: &mut Vec<u8>) -> Result<(), SerdeError> {
    match left {
        None => write_count(1, into),
        Some(left) => {
            *left = left.checked_sub(1).ok_or_else(|| wrong("there are more items than were announced"))?;
        }
    }
    Ok(())
}

fn end_of_blocks(left: Option<usize>, into: &mut Vec<u8>) -> Result<(), SerdeError> {
    if left.is_some_and(|left| left > 0) {
        return Err(wrong("there are fewer items than were announced"));
    }
    into.push(0);
    Ok(())
}

macro_rules! items {
    ($name:ident, $method:ident) => {
        impl ser::$name for Items<'_> {
            type Ok = ();
            type Error = SerdeError;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SerdeError> {
                self.item(value)
            }

            fn end(self) -> Result<(), SerdeError> {
                self.finish()
            }
        }
    };
}

items!(SerializeSeq, serialize_element);
items!(SerializeTuple, serialize_element);
items!(SerializeTupleStruct, serialize_field);
items!(SerializeTupleVariant, serialize_field);

/// The entries of a map, or fields of a record by name.
pub(super) enum Entries<'a> {
    Map { schema: &'a AvroSchema, node: NodeId, left: Option<usize>, into: &'a mut Vec<u8> },
    Record { record: Record<'a>, key: String },
}

impl ser::SerializeMap for Entries<'_> {
    type Ok = ();
    type Error = SerdeError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), SerdeError> {
        match self {
            Self::Map { left, into, .. } => {
                count_one(left, into)?;
                write_bytes(key.serialize(Text)?.as_bytes(), into);
            }
            Self::Record { key: name, .. } => *name = key.serialize(Text)?,
        }
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SerdeError> {
        match self {
            Self::Map { schema, node, into, .. } => value.serialize(Datum { schema, node: *node, into }),
            Self::Record { record, key } => record.field(key, value),
        }
    }

    fn end(self) -> Result<(), SerdeError> {
        match self {
            Self::Map { left, into, .. } => end_of_blocks(left, into),
            Self::Record { record, .. } => record.finish(),
        }
    }
}

/// The fields of a record, which are written in the schema's order whatever the type's is.
pub(super) struct Record<'a> {
    schema: &'a AvroSchema,
    name: &'a str,
    fields: &'a [Field],
    /// The first field that is not written.
    next: usize,
    /// Fields that came too early, encoded.
    early: Vec<(usize, Vec<u8>)>,
    into: &'a mut Vec<u8>,
}

impl<'a> Record<'a> {
    #[inline]
    fn new(schema: &'a AvroSchema, name: &'a str, fields: &'a [Field], into: &'a mut Vec<u8>) -> Self {
        Self { schema, name, fields, next: 0, early: Vec::new(), into }
    }

    #[inline]
    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), SerdeError> {
        let (schema, fields) = (self.schema, self.fields);
        let wrong_here = |error: SerdeError| in_field(self.name, name, &error);
        if let Some(field) = fields.get(self.next)
            && *field.name == *name
        {
            value.serialize(Datum { schema, node: field.node, into: self.into }).map_err(wrong_here)?;
            self.next += 1;
            return self.write_early();
        }
        let found = fields.iter().position(|field| *field.name == *name);
        let index = found.ok_or_else(|| wrong(format_args!("{:?} has no field {name:?}", self.name)))?;
        if index < self.next || self.early.iter().any(|(early, _)| *early == index) {
            return Err(wrong(format_args!("field {name:?} of {:?} comes twice", self.name)));
        }
        let mut into = Vec::new();
        value.serialize(Datum { schema, node: fields[index].node, into: &mut into }).map_err(wrong_here)?;
        self.early.push((index, into));
        Ok(())
    }

    /// Writes what came too early and is due now.
    #[inline]
    fn write_early(&mut self) -> Result<(), SerdeError> {
        while let Some(at) = self.early.iter().position(|(early, _)| *early == self.next) {
            self.into.extend_from_slice(&self.early.swap_remove(at).1);
            self.next += 1;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), SerdeError> {
        loop {
            self.write_early()?;
            let Some(field) = self.fields.get(self.next) else { return Ok(()) };
            let Some(default) = &field.default else {
                let (field, name) = (&field.name, self.name);
                return Err(wrong(format_args!("{name:?} needs field {field:?}, which has no default")));
            };
            self.into.extend_from_slice(default);
            self.next += 1;
        }
    }
}

impl ser::SerializeStruct for Record<'_> {
    type Ok = ();
    type Error = SerdeError;

    #[inline]
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), SerdeError> {
        self.field(name, value)
    }

    fn skip_field(&mut self, _name: &'static str) -> Result<(), SerdeError> {
        Ok(())
    }

    #[inline]
    fn end(self) -> Result<(), SerdeError> {
        self.finish()
    }
}

impl ser::SerializeStructVariant for Record<'_> {
    type Ok = ();
    type Error = SerdeError;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), SerdeError> {
        self.field(name, value)
    }

    fn end(self) -> Result<(), SerdeError> {
        self.finish()
    }
}
