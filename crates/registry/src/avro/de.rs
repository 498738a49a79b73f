//! Avro's data into types of serde's.

use serde::de::{
    self, DeserializeSeed, EnumAccess, IntoDeserializer as _, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::reader::Reader;
use super::schema::{AvroSchema, Field, Node, NodeId, in_field};
use super::wrong;
use crate::SerdeError;

/// What comes next, and its type.
pub(super) struct Datum<'a, 'de> {
    schema: &'a AvroSchema,
    node: NodeId,
    reader: &'a mut Reader<'de>,
}

impl<'a, 'de> Datum<'a, 'de> {
    #[inline]
    pub(super) fn new(schema: &'a AvroSchema, reader: &'a mut Reader<'de>) -> Self {
        Self { schema, node: schema.root(), reader }
    }

    #[inline]
    fn node(&self) -> &'a Node {
        self.schema.node(self.node)
    }

    /// The branch that is there, if this is a union.
    #[inline]
    fn resolved(mut self) -> Result<Self, SerdeError> {
        if let Node::Union(branches) = self.node() {
            self.node = branches[self.reader.index(branches.len(), "branch of a union")?];
        }
        Ok(self)
    }

    fn seq<V: Visitor<'de>>(self, items: NodeId, visitor: V) -> Result<V::Value, SerdeError> {
        self.reader.enter()?;
        let mut blocks =
            Blocks { schema: self.schema, node: items, reader: self.reader, left: 0, is_over: false };
        let value = visitor.visit_seq(&mut blocks)?;
        blocks.skip_rest()?;
        blocks.reader.leave();
        Ok(value)
    }

    fn map<V: Visitor<'de>>(self, values: NodeId, visitor: V) -> Result<V::Value, SerdeError> {
        self.reader.enter()?;
        let blocks =
            Blocks { schema: self.schema, node: values, reader: self.reader, left: 0, is_over: false };
        let mut entries = Entries(blocks);
        let value = visitor.visit_map(&mut entries)?;
        while entries.0.next()? {
            entries.0.reader.string()?;
            entries.0.skip_one()?;
        }
        entries.0.reader.leave();
        Ok(value)
    }

    #[inline]
    fn record<V: Visitor<'de>>(
        self,
        name: &'a str,
        fields: &'a [Field],
        visitor: V,
    ) -> Result<V::Value, SerdeError> {
        self.reader.enter()?;
        self.reader.charge(fields.len())?;
        let mut record = Record { schema: self.schema, name, fields, reader: self.reader };
        let value = visitor.visit_map(&mut record)?;
        // A visitor that wants no more fields than it knows leaves the rest.
        while let Some(field) = record.advance() {
            skip(record.schema, field.node, record.reader)?;
        }
        record.reader.leave();
        Ok(value)
    }
}

impl<'de> de::Deserializer<'de> for Datum<'_, 'de> {
    type Error = SerdeError;

    #[inline]
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SerdeError> {
        let this = self.resolved()?;
        let node = this.node();
        let reader = &mut *this.reader;
        match node {
            Node::Null => visitor.visit_unit(),
            Node::Boolean => visitor.visit_bool(reader.boolean()?),
            Node::Int => visitor.visit_i32(reader.int()?),
            Node::Long => visitor.visit_i64(reader.long()?),
            Node::Float => visitor.visit_f32(reader.float()?),
            Node::Double => visitor.visit_f64(reader.double()?),
            Node::Bytes => visitor.visit_borrowed_bytes(reader.bytes()?),
            Node::String => visitor.visit_borrowed_str(reader.string()?),
            Node::Fixed { size, .. } => visitor.visit_borrowed_bytes(reader.take(*size)?),
            Node::Enum { symbols, .. } => {
                let symbol = &symbols[reader.index(symbols.len(), "symbol of an enum")?];
                reader.charge_name(symbol)?;
                visitor.visit_str(symbol)
            }
            Node::Array(items) => this.seq(*items, visitor),
            Node::Map(values) => this.map(*values, visitor),
            Node::Record { name, fields } => this.record(name, fields, visitor),
            Node::Union(_) => Err(wrong("a union has a union as a branch")),
        }
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SerdeError> {
        let this = self.resolved()?;
        match this.node() {
            Node::Null => visitor.visit_none(),
            _ => visitor.visit_some(this),
        }
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, SerdeError> {
        visitor.visit_newtype_struct(self)
    }

    /// Bytes are also a sequence of numbers: types of serde's know no other way to say so.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SerdeError> {
        let this = self.resolved()?;
        let bytes = match this.node() {
            Node::Bytes => this.reader.bytes()?,
            Node::Fixed { size, .. } => this.reader.take(*size)?,
            _ => return this.deserialize_any(visitor),
        };
        visitor.visit_seq(de::value::SeqDeserializer::new(bytes.iter().copied()))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _length: usize, visitor: V) -> Result<V::Value, SerdeError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, SerdeError> {
        self.deserialize_seq(visitor)
    }

    /// Text is also bytes.
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SerdeError> {
        let this = self.resolved()?;
        match this.node() {
            Node::String => visitor.visit_borrowed_bytes(this.reader.bytes()?),
            _ => this.deserialize_any(visitor),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SerdeError> {
        self.deserialize_bytes(visitor)
    }

    /// A symbol, or a branch of a union.
    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SerdeError> {
        match self.node() {
            Node::Enum { symbols, .. } => {
                let symbol = &symbols[self.reader.index(symbols.len(), "symbol of an enum")?];
                visitor.visit_enum((**symbol).into_deserializer())
            }
            Node::String => visitor.visit_enum(self.reader.string()?.into_deserializer()),
            Node::Union(branches) => {
                let index = self.reader.index(branches.len(), "branch of a union")?;
                self.node = branches[index];
                let (schema, node) = (self.schema, self.node);
                let variant = variants.iter().find(|variant| schema.is_branch(node, variant));
                match variant {
                    Some(variant) => visitor.visit_enum(Branch { variant, datum: self }),
                    // An enum, or null and an enum: the branch is not a variant, but what is in it.
                    None if matches!(self.node(), Node::Enum { .. } | Node::String) => {
                        self.deserialize_enum("", variants, visitor)
                    }
                    None => Err(wrong(format_args!(
                        "branch {:?} of a union is none of the variants {variants:?}",
                        schema.branch_name(node)
                    ))),
                }
            }
            _ => Err(wrong("an enum of Rust is neither an enum, a string nor a union here")),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SerdeError> {
        skip(self.schema, self.node, self.reader)?;
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string unit unit_struct map struct identifier
    }
}

/// Reads over what comes next.
pub(super) fn skip(schema: &AvroSchema, node: NodeId, reader: &mut Reader<'_>) -> Result<(), SerdeError> {
    match schema.node(node) {
        Node::Null => {}
        Node::Boolean => drop(reader.boolean()?),
        Node::Int => drop(reader.int()?),
        Node::Long => drop(reader.long()?),
        Node::Float => drop(reader.float()?),
        Node::Double => drop(reader.double()?),
        Node::Bytes | Node::String => drop(reader.bytes()?),
        Node::Fixed { size, .. } => drop(reader.take(*size)?),
        Node::Enum { symbols, .. } => drop(reader.index(symbols.len(), "symbol of an enum")?),
        Node::Union(branches) => {
            let branch = branches[reader.index(branches.len(), "branch of a union")?];
            // Not nested by itself.
            return skip(schema, branch, reader);
        }
        Node::Array(items) => {
            reader.enter()?;
            let mut blocks = Blocks { schema, node: *items, reader, left: 0, is_over: false };
            blocks.skip_rest()?;
            blocks.reader.leave();
        }
        Node::Map(values) => {
            reader.enter()?;
            let mut blocks = Blocks { schema, node: *values, reader, left: 0, is_over: false };
            while blocks.next()? {
                blocks.reader.bytes()?;
                blocks.skip_one()?;
            }
            blocks.reader.leave();
        }
        Node::Record { fields, .. } => {
            reader.enter()?;
            reader.charge(fields.len())?;
            for field in fields {
                skip(schema, field.node, reader)?;
            }
            reader.leave();
        }
    }
    Ok(())
}

/// The items of an array, or the values of a map.
struct Blocks<'a, 'de> {
    schema: &'a AvroSchema,
    node: NodeId,
    reader: &'a mut Reader<'de>,
    /// Of this block.
    left: u64,
    is_over: bool,
}

impl<'de> Blocks<'_, 'de> {
    /// Whether another one follows.
    #[inline]
    fn next(&mut self) -> Result<bool, SerdeError> {
        if self.left == 0 && !self.is_over {
            self.left = self.reader.block()?;
            self.is_over = self.left == 0;
        }
        if self.is_over {
            return Ok(false);
        }
        self.left -= 1;
        self.reader.charge(1)?;
        Ok(true)
    }

    #[inline]
    fn one<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, SerdeError> {
        seed.deserialize(Datum { schema: self.schema, node: self.node, reader: self.reader })
    }

    fn skip_one(&mut self) -> Result<(), SerdeError> {
        skip(self.schema, self.node, self.reader)
    }

    fn skip_rest(&mut self) -> Result<(), SerdeError> {
        while self.next()? {
            self.skip_one()?;
        }
        Ok(())
    }

    /// How many follow at least, as far as that is to be believed.
    fn hint(&self) -> Option<usize> {
        usize::try_from(self.left).ok().map(|left| left.min(self.reader.left()))
    }
}

impl<'de> SeqAccess<'de> for &mut Blocks<'_, 'de> {
    type Error = SerdeError;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, SerdeError> {
        if !self.next()? {
            return Ok(None);
        }
        self.one(seed).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        self.hint()
    }
}

struct Entries<'a, 'de>(Blocks<'a, 'de>);

impl<'de> MapAccess<'de> for &mut Entries<'_, 'de> {
    type Error = SerdeError;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, SerdeError> {
        if !self.0.next()? {
            return Ok(None);
        }
        let key = self.0.reader.string()?;
        seed.deserialize(de::value::BorrowedStrDeserializer::new(key)).map(Some)
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, SerdeError> {
        self.0.one(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.hint()
    }
}

struct Record<'a, 'de> {
    schema: &'a AvroSchema,
    name: &'a str,
    /// Those that are left.
    fields: &'a [Field],
    reader: &'a mut Reader<'de>,
}

impl<'a> Record<'a, '_> {
    #[inline]
    fn advance(&mut self) -> Option<&'a Field> {
        let (field, rest) = self.fields.split_first()?;
        self.fields = rest;
        Some(field)
    }
}

impl<'de> MapAccess<'de> for &mut Record<'_, 'de> {
    type Error = SerdeError;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, SerdeError> {
        match self.fields.first() {
            Some(field) => {
                self.reader.charge_name(&field.name)?;
                seed.deserialize((*field.name).into_deserializer()).map(Some)
            }
            None => Ok(None),
        }
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, SerdeError> {
        let Some(field) = self.advance() else { return Err(wrong("there is no further field")) };
        let datum = Datum { schema: self.schema, node: field.node, reader: self.reader };
        seed.deserialize(datum).map_err(|error| in_field(self.name, &field.name, &error))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.fields.len())
    }
}

/// A branch of a union as a variant.
struct Branch<'a, 'de> {
    variant: &'static str,
    datum: Datum<'a, 'de>,
}

impl<'a, 'de> EnumAccess<'de> for Branch<'a, 'de> {
    type Error = SerdeError;
    type Variant = Datum<'a, 'de>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Datum<'a, 'de>), SerdeError> {
        let variant = de::value::StrDeserializer::<SerdeError>::new(self.variant);
        Ok((seed.deserialize(variant)?, self.datum))
    }
}

impl<'de> VariantAccess<'de> for Datum<'_, 'de> {
    type Error = SerdeError;

    fn unit_variant(self) -> Result<(), SerdeError> {
        skip(self.schema, self.node, self.reader)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, SerdeError> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, SerdeError> {
        de::Deserializer::deserialize_tuple(self, length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SerdeError> {
        de::Deserializer::deserialize_any(self, visitor)
    }
}
