//! What may stand in one place only: the keys of maps, which are texts, and the items of bytes that serde gives one by one.

use serde::ser::{self, Serialize};

use super::wrong;
use crate::SerdeError;

/// Takes one type of value and no other.
macro_rules! only {
    ($only:ident, $ok:ty, $what:literal; $($method:ident: $value:ty => $take:expr,)*; $($refused:ident: $refused_value:ty,)*) => {
        pub(super) struct $only;

        impl ser::Serializer for $only {
            type Ok = $ok;
            type Error = SerdeError;
            type SerializeSeq = ser::Impossible<$ok, SerdeError>;
            type SerializeTuple = ser::Impossible<$ok, SerdeError>;
            type SerializeTupleStruct = ser::Impossible<$ok, SerdeError>;
            type SerializeTupleVariant = ser::Impossible<$ok, SerdeError>;
            type SerializeMap = ser::Impossible<$ok, SerdeError>;
            type SerializeStruct = ser::Impossible<$ok, SerdeError>;
            type SerializeStructVariant = ser::Impossible<$ok, SerdeError>;

            $(fn $method(self, value: $value) -> Result<$ok, SerdeError> {
                #[allow(clippy::redundant_closure_call, reason = "the macro's argument is a function")]
                $take(value)
            })*

            $(fn $refused(self, _: $refused_value) -> Result<$ok, SerdeError> {
                Err(wrong($what))
            })*

            fn serialize_none(self) -> Result<$ok, SerdeError> {
                Err(wrong($what))
            }

            fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<$ok, SerdeError> {
                value.serialize(self)
            }

            fn serialize_unit(self) -> Result<$ok, SerdeError> {
                Err(wrong($what))
            }

            fn serialize_unit_struct(self, _: &'static str) -> Result<$ok, SerdeError> {
                Err(wrong($what))
            }

            fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<$ok, SerdeError> {
                self.serialize_str(variant)
            }

            fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<$ok, SerdeError> {
                value.serialize(self)
            }

            fn serialize_newtype_variant<T: Serialize + ?Sized>(
                self, _: &'static str, _: u32, _: &'static str, _: &T,
            ) -> Result<$ok, SerdeError> {
                Err(wrong($what))
            }

            fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, SerdeError> {
                Err(wrong($what))
            }

            fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, SerdeError> {
                Err(wrong($what))
            }

            fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, SerdeError> {
                Err(wrong($what))
            }

            fn serialize_tuple_variant(
                self, _: &'static str, _: u32, _: &'static str, _: usize,
            ) -> Result<Self::SerializeTupleVariant, SerdeError> {
                Err(wrong($what))
            }

            fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, SerdeError> {
                Err(wrong($what))
            }

            fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, SerdeError> {
                Err(wrong($what))
            }

            fn serialize_struct_variant(
                self, _: &'static str, _: u32, _: &'static str, _: usize,
            ) -> Result<Self::SerializeStructVariant, SerdeError> {
                Err(wrong($what))
            }
        }
    };
}

only!(Text, String, "the keys of a map are texts";
    serialize_str: &str => |text: &str| Ok(text.to_owned()),
    serialize_char: char => |text: char| Ok(text.to_string()),
    serialize_u8: u8 => |key: u8| Ok(key.to_string()),
    serialize_u16: u16 => |key: u16| Ok(key.to_string()),
    serialize_u32: u32 => |key: u32| Ok(key.to_string()),
    serialize_u64: u64 => |key: u64| Ok(key.to_string()),
    serialize_i8: i8 => |key: i8| Ok(key.to_string()),
    serialize_i16: i16 => |key: i16| Ok(key.to_string()),
    serialize_i32: i32 => |key: i32| Ok(key.to_string()),
    serialize_i64: i64 => |key: i64| Ok(key.to_string()),;
    serialize_bool: bool, serialize_f32: f32, serialize_f64: f64, serialize_bytes: &[u8],
);

only!(OneByte, u8, "a sequence of bytes has something else in it";
    serialize_u8: u8 => |byte: u8| Ok(byte),;
    serialize_bool: bool, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_i8: i8,
    serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_f32: f32, serialize_f64: f64,
    serialize_char: char, serialize_str: &str, serialize_bytes: &[u8],
);
