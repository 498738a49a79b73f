//! Any bytes as fields of a message, read in an order that the first bytes choose.

use bytes::Bytes;
use milena_wire::{DecodeError, Reader, Str, TaggedFields, Uuid, Writer};

/// Nothing panics, memory follows what is there, and what was read is read again after it was written.
pub(crate) fn run(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    let (flexible, count) = (choice & 1 == 1, usize::from(choice >> 1).min(rest.len()));
    let (kinds, frame) = rest.split_at(count);
    let frame = Bytes::copy_from_slice(frame);
    let mut reader = Reader::new(&frame);
    reader.set_flexible(flexible);
    let mut writer = Writer::new();
    writer.set_flexible(flexible);
    let mut values = Vec::new();
    for kind in kinds {
        let before = reader.offset();
        match Value::read(&mut reader, *kind, 0) {
            Ok(value) => {
                assert!(reader.offset() <= frame.len() && reader.offset() >= before);
                if value.write(&mut writer).is_err() {
                    // A compact string may announce more than any string may have.
                    return;
                }
                values.push(value);
            }
            Err(error) => {
                assert!(error.offset <= frame.len(), "{error}");
                break;
            }
        }
    }
    let again = Bytes::from(writer.finish().to_vec());
    let mut reader = Reader::new(&again);
    reader.set_flexible(flexible);
    for (kind, value) in kinds.iter().zip(&values) {
        assert_eq!(Value::read(&mut reader, *kind, 0).as_ref(), Ok(value));
    }
    reader.finish("Fuzz").expect("everything was read");
}

#[derive(Debug, PartialEq)]
enum Value {
    Bool(bool),
    I8(i8),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    F64(u64),
    Uuid(Uuid),
    Varint(u32),
    String(Option<Str>),
    ClassicString(Option<Str>),
    Bytes(Option<Bytes>),
    Array(Option<Vec<Value>>),
    Present(bool),
    Tags(TaggedFields),
}

const DEPTH_MAX: usize = 4;

impl Value {
    fn read(reader: &mut Reader<'_>, kind: u8, depth: usize) -> Result<Self, DecodeError> {
        Ok(match kind % 16 {
            0 => Self::Bool(reader.bool("Fuzz.Bool")?),
            1 => Self::I8(reader.i8("Fuzz.I8")?),
            2 => Self::I16(reader.i16("Fuzz.I16")?),
            3 => Self::U16(reader.u16("Fuzz.U16")?),
            4 => Self::I32(reader.i32("Fuzz.I32")?),
            5 => Self::U32(reader.u32("Fuzz.U32")?),
            6 => Self::I64(reader.i64("Fuzz.I64")?),
            // By bits: one NaN is not another.
            7 => Self::F64(reader.f64("Fuzz.F64")?.to_bits()),
            8 => Self::Uuid(reader.uuid("Fuzz.Uuid")?),
            9 => Self::Varint(reader.unsigned_varint("Fuzz.Varint")?),
            10 => Self::String(reader.nullable_string("Fuzz.String")?),
            11 => Self::ClassicString(reader.nullable_string_classic("Fuzz.ClassicString")?),
            12 => Self::Bytes(reader.nullable_bytes("Fuzz.Bytes")?),
            13 if depth < DEPTH_MAX => {
                let element =
                    |reader: &mut Reader<'_>, _field: &'static str| Self::read(reader, kind / 16, depth + 1);
                Self::Array(reader.nullable_array_of("Fuzz.Array", 1, element)?)
            }
            // Elements of an array take a byte at least, which classic tagged fields do not.
            15 if depth == 0 => Self::Tags(reader.tagged_fields("Fuzz.Tags", |_, _| Ok(false))?),
            _ => Self::Present(reader.is_present("Fuzz.Present")?),
        })
    }

    fn write(&self, writer: &mut Writer) -> Result<(), milena_wire::EncodeError> {
        match self {
            Self::Bool(value) => writer.bool(*value),
            Self::I8(value) => writer.i8(*value),
            Self::I16(value) => writer.i16(*value),
            Self::U16(value) => writer.u16(*value),
            Self::I32(value) => writer.i32(*value),
            Self::U32(value) => writer.u32(*value),
            Self::I64(value) => writer.i64(*value),
            Self::F64(bits) => writer.f64(f64::from_bits(*bits)),
            Self::Uuid(value) => writer.uuid(*value),
            Self::Varint(value) => writer.unsigned_varint(*value),
            Self::String(value) => return writer.nullable_string(value.as_ref(), "Fuzz.String"),
            Self::ClassicString(value) => {
                return writer.nullable_string_classic(value.as_ref(), "Fuzz.ClassicString");
            }
            Self::Bytes(value) => return writer.nullable_bytes(value.as_ref(), "Fuzz.Bytes"),
            Self::Array(values) => {
                let element = |writer: &mut Writer, value: &Self, _field: &'static str| value.write(writer);
                return writer.nullable_array_of(values.as_deref(), "Fuzz.Array", element);
            }
            Self::Present(value) => writer.presence(*value),
            Self::Tags(fields) => return writer.unknown_tagged_fields(fields, "Fuzz.Tags", 0),
        }
        Ok(())
    }
}
