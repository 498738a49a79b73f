//! How a record names the schema that its key or value was written with.
//!
//! ```text
//! Confluent, in the payload:   0 │ id, 4 bytes │ Protobuf's message indexes │ body
//! Confluent, in a header:      __value_schema_id = 1 │ GUID, 16 bytes │ message indexes      payload = body
//! Apicurio, in the payload:    0 │ id, 8 bytes │ body
//! Apicurio, in a header:       apicurio.value.globalId = id, 8 bytes                         payload = body
//! AWS Glue:                    3 │ 0 or 5 (zlib) │ UUID, 16 bytes │ body
//! ```
//!
//! Everything here is a function of bytes: nothing is looked up, and nothing is allocated but what is decompressed.
//!
//! ```
//! use milena_registry::framing::{self, Part, SchemaId};
//!
//! let mut payload = Vec::new();
//! framing::write_prefix(42, None, &mut payload);
//! payload.extend_from_slice(br#"{"id":7}"#);
//!
//! let framed = framing::read(Part::Value, &payload, [])?;
//! assert_eq!(framed.schema(), SchemaId::Id(42));
//! assert_eq!(framed.body(), br#"{"id":7}"#);
//!
//! let error = framing::read(Part::Value, br#"{"id":7}"#, []).unwrap_err();
//! assert_eq!(error.to_string(), "the value names no schema: it begins with byte 0x7b");
//! # Ok::<(), milena_registry::framing::FramingError>(())
//! ```

mod guid;
mod indexes;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::io::Read as _;

use milena::Header;

pub use self::guid::Guid;
pub use self::indexes::{INDEXES_MAX, MessageIndexes};

/// Which half of a record is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// The key.
    Key,
    /// The value.
    Value,
}

/// How a schema is named on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SchemaId {
    /// The id in a registry with Confluent's API. It is at least 1.
    Id(u32),
    /// The GUID in a registry with Confluent's API. It is the same in all registries that have the schema.
    Guid(Guid),
    /// Apicurio's global id, which is at least 1.
    GlobalId(u64),
    /// Apicurio's content id, which is at least 1.
    ContentId(u64),
    /// The id of a schema's version in AWS Glue.
    Glue(Guid),
}

/// The forms in which a record names its schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Framing {
    /// Confluent's, at the beginning of the payload.
    ConfluentPrefix,
    /// Confluent's, in a header of the record.
    ConfluentHeader,
    /// Apicurio's with 8 bytes, at the beginning of the payload.
    ApicurioPrefix,
    /// Apicurio's, in a header of the record.
    ApicurioHeader,
    /// That of AWS Glue, at the beginning of the payload.
    Glue,
}

/// A key or a value, and the schema that it names. It borrows the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Framed<'a> {
    framing: Framing,
    schema: SchemaId,
    /// What follows the id, in the header or in the payload.
    rest: &'a [u8],
    payload: &'a [u8],
    is_compressed: bool,
}

/// Why a key or a value cannot be read with its schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FramingError {
    /// Neither a header nor the first byte is that of a framing.
    NoSchema {
        /// Of which part.
        part: Part,
        /// The first byte of the payload, if there is one.
        first: Option<u8>,
    },
    /// The payload or the header ends within the schema's name.
    TooShort {
        /// Of which part.
        part: Part,
        /// How many bytes there are.
        bytes: usize,
        /// How many there must be at least.
        needed: usize,
    },
    /// The id is zero or negative, which no registry gives.
    NoId {
        /// Of which part.
        part: Part,
        /// What is written there.
        id: i64,
    },
    /// The header begins with a byte that is no version of Confluent's.
    UnknownVersion {
        /// Of which part.
        part: Part,
        /// The byte.
        version: u8,
    },
    /// The message indexes of Protobuf cannot be read.
    BadIndexes,
    /// The framing is not Confluent's, and only Confluent's has message indexes.
    NoIndexes(Framing),
    /// The framing does not name schemas by such an id.
    NoSuchId(Framing, SchemaId),
    /// The body is not zlib's, or has more bytes than the limit once it is decompressed.
    BadCompression {
        /// The limit.
        bytes_max: usize,
    },
}

/// Confluent's `__key_schema_id` and `__value_schema_id`.
pub const KEY_SCHEMA_ID_HEADER: &str = "__key_schema_id";
/// See [`KEY_SCHEMA_ID_HEADER`].
pub const VALUE_SCHEMA_ID_HEADER: &str = "__value_schema_id";

const MAGIC_V0: u8 = 0;
const MAGIC_V1: u8 = 1;
const GLUE_VERSION: u8 = 3;
const GLUE_PLAIN: u8 = 0;
const GLUE_ZLIB: u8 = 5;
const GLUE_HEAD_BYTES: usize = 18;

impl Part {
    /// The name of the header in which Confluent's serializers put the schema's GUID.
    pub const fn schema_id_header(self) -> &'static str {
        match self {
            Self::Key => KEY_SCHEMA_ID_HEADER,
            Self::Value => VALUE_SCHEMA_ID_HEADER,
        }
    }

    const fn apicurio_headers(self) -> (&'static str, &'static str) {
        match self {
            Self::Key => ("apicurio.key.globalId", "apicurio.key.contentId"),
            Self::Value => ("apicurio.value.globalId", "apicurio.value.contentId"),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "key",
            Self::Value => "value",
        })
    }
}

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "schema {id}"),
            Self::Guid(guid) => write!(f, "schema {guid}"),
            Self::GlobalId(id) => write!(f, "global id {id}"),
            Self::ContentId(id) => write!(f, "content id {id}"),
            Self::Glue(guid) => write!(f, "Glue's schema version {guid}"),
        }
    }
}

impl<'a> Framed<'a> {
    /// In which form the schema is named.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// The schema.
    pub fn schema(&self) -> SchemaId {
        self.schema
    }

    /// Whether the body is compressed with zlib, which only Glue's serializers do.
    pub fn is_compressed(&self) -> bool {
        self.is_compressed
    }

    /// What was encoded with the schema, if that is Avro or JSON: all that follows the schema's id. It may be
    /// [compressed](Self::decompressed) in Glue's framing.
    #[inline]
    pub fn body(&self) -> &'a [u8] {
        match self.framing {
            Framing::ConfluentHeader | Framing::ApicurioHeader => self.payload,
            _ => self.rest,
        }
    }

    /// The message indexes and what was encoded, if the schema is Protobuf: its files may have several messages, and the indexes
    /// say which one it is.
    ///
    /// # Errors
    /// When the indexes cannot be read, or the framing is not Confluent's.
    pub fn message(&self) -> Result<(MessageIndexes<'a>, &'a [u8]), FramingError> {
        match self.framing {
            Framing::ConfluentPrefix => MessageIndexes::read(self.rest),
            Framing::ConfluentHeader => Ok((MessageIndexes::read(self.rest)?.0, self.payload)),
            framing => Err(FramingError::NoIndexes(framing)),
        }
    }

    /// The [body](Self::body), decompressed if Glue's serializer has compressed it. It borrows the record otherwise.
    ///
    /// # Errors
    /// When the body cannot be decompressed, or has more than `bytes_max` bytes then.
    pub fn decompressed(&self, bytes_max: usize) -> Result<Cow<'a, [u8]>, FramingError> {
        if !self.is_compressed {
            return Ok(Cow::Borrowed(self.body()));
        }
        let wrong = FramingError::BadCompression { bytes_max };
        let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX);
        let mut body = Vec::new();
        // One byte more than is allowed tells that there is too much. The buffer grows with what comes, not with what is announced.
        let read =
            flate2::read::ZlibDecoder::new(self.rest).take(limit.saturating_add(1)).read_to_end(&mut body);
        match read {
            Ok(_) if body.len() <= bytes_max => Ok(Cow::Owned(body)),
            _ => Err(wrong),
        }
    }
}

/// Reads the schema's name of a key or a value that has one. A header counts before the payload, as with Java's
/// `DualSchemaIdDeserializer`, and the last of equal headers counts.
///
/// Apicurio's 8 bytes after a zero are told from Confluent's 4 bytes by the first four, which are zero: no registry has a schema 0.
/// An id of Apicurio's above 2³² is therefore read as one of Confluent's.
///
/// # Errors
/// When no schema is named, or not in a way that can be read.
#[inline]
pub fn read<'a>(
    part: Part,
    payload: &'a [u8],
    headers: impl IntoIterator<Item = Header<'a>>,
) -> Result<Framed<'a>, FramingError> {
    match read_headers(part, payload, headers)? {
        Some(framed) => Ok(framed),
        None => read_payload(part, payload),
    }
}

/// What [`read`] finds, if it is likely that the record names a schema at all: for programs that do not know. A payload in another
/// format can begin like one that names a schema, by chance; whether the schema exists shows when it is looked up.
pub fn detect<'a>(
    part: Part,
    payload: &'a [u8],
    headers: impl IntoIterator<Item = Header<'a>>,
) -> Option<Framed<'a>> {
    let framed = read(part, payload, headers).ok()?;
    // No serializer is known that puts a GUID into the payload, although Java's deserializers would read it there.
    let is_odd = framed.framing == Framing::ConfluentPrefix && matches!(framed.schema, SchemaId::Guid(_));
    (!is_odd).then_some(framed)
}

fn read_headers<'a>(
    part: Part,
    payload: &'a [u8],
    headers: impl IntoIterator<Item = Header<'a>>,
) -> Result<Option<Framed<'a>>, FramingError> {
    let (global, content) = part.apicurio_headers();
    let (mut confluent, mut global_id, mut content_id) = (None, None, None);
    for Header { key, value } in headers {
        if key == part.schema_id_header().as_bytes() {
            confluent = value;
        } else if key == global.as_bytes() {
            global_id = value;
        } else if key == content.as_bytes() {
            content_id = value;
        }
    }
    if let Some(value) = confluent {
        let (schema, rest) = confluent_id(part, value)?;
        let framing = Framing::ConfluentHeader;
        return Ok(Some(Framed { framing, schema, rest, payload, is_compressed: false }));
    }
    let (value, schema): (_, fn(u64) -> SchemaId) = match (global_id, content_id) {
        (Some(value), _) => (value, SchemaId::GlobalId),
        (None, Some(value)) => (value, SchemaId::ContentId),
        (None, None) => return Ok(None),
    };
    let (id, rest) = apicurio_id(part, value)?;
    Ok(Some(Framed {
        framing: Framing::ApicurioHeader,
        schema: schema(id),
        rest,
        payload,
        is_compressed: false,
    }))
}

#[inline]
fn read_payload(part: Part, payload: &[u8]) -> Result<Framed<'_>, FramingError> {
    let framed = |framing, (schema, rest)| Framed { framing, schema, rest, payload, is_compressed: false };
    match payload.first() {
        Some(&MAGIC_V0) if is_apicurio(payload) => {
            let (id, rest) = apicurio_id(part, &payload[1..])?;
            Ok(framed(Framing::ApicurioPrefix, (SchemaId::GlobalId(id), rest)))
        }
        Some(&(MAGIC_V0 | MAGIC_V1)) => Ok(framed(Framing::ConfluentPrefix, confluent_id(part, payload)?)),
        Some(&GLUE_VERSION) if matches!(payload.get(1), Some(&(GLUE_PLAIN | GLUE_ZLIB))) => {
            let Some((head, rest)) = payload.split_first_chunk::<GLUE_HEAD_BYTES>() else {
                return Err(FramingError::TooShort { part, bytes: payload.len(), needed: GLUE_HEAD_BYTES });
            };
            let mut guid = [0; 16];
            guid.copy_from_slice(&head[2..]);
            let is_compressed = head[1] == GLUE_ZLIB;
            let schema = SchemaId::Glue(Guid::from_bytes(guid));
            Ok(Framed { framing: Framing::Glue, schema, rest, payload, is_compressed })
        }
        first => Err(FramingError::NoSchema { part, first: first.copied() }),
    }
}

/// Whether the id that follows the zero has 8 bytes.
#[inline]
fn is_apicurio(payload: &[u8]) -> bool {
    let Some(id) = payload.get(1..9) else { return false };
    id[..4] == [0; 4] && id[4..] != [0; 4]
}

/// The id or the GUID with its version before it, and what follows.
#[inline]
fn confluent_id(part: Part, bytes: &[u8]) -> Result<(SchemaId, &[u8]), FramingError> {
    let short = |needed| FramingError::TooShort { part, bytes: bytes.len(), needed };
    let Some((version, rest)) = bytes.split_first() else { return Err(short(1)) };
    match *version {
        MAGIC_V0 => {
            let (id, rest) = rest.split_first_chunk().ok_or(short(5))?;
            let id = i32::from_be_bytes(*id);
            match u32::try_from(id) {
                Ok(id) if id > 0 => Ok((SchemaId::Id(id), rest)),
                _ => Err(FramingError::NoId { part, id: i64::from(id) }),
            }
        }
        MAGIC_V1 => {
            let (guid, rest) = rest.split_first_chunk().ok_or(short(17))?;
            Ok((SchemaId::Guid(Guid::from_bytes(*guid)), rest))
        }
        version => Err(FramingError::UnknownVersion { part, version }),
    }
}

fn apicurio_id(part: Part, bytes: &[u8]) -> Result<(u64, &[u8]), FramingError> {
    let short = FramingError::TooShort { part, bytes: bytes.len(), needed: 8 };
    let (id, rest) = bytes.split_first_chunk().ok_or(short)?;
    let id = i64::from_be_bytes(*id);
    match u64::try_from(id) {
        Ok(id) if id > 0 => Ok((id, rest)),
        _ => Err(FramingError::NoId { part, id }),
    }
}

/// Appends what goes before a body in Confluent's payloads: a zero, the id, and the message indexes if the schema is Protobuf.
///
/// ```
/// use milena_registry::framing::write_prefix;
///
/// let mut payload = Vec::new();
/// write_prefix(42, Some(&[1]), &mut payload);
/// assert_eq!(payload, [0, 0, 0, 0, 42, 2, 2]);
/// ```
pub fn write_prefix(id: u32, indexes: Option<&[u32]>, into: &mut Vec<u8>) {
    into.push(MAGIC_V0);
    into.extend_from_slice(&id.to_be_bytes());
    if let Some(indexes) = indexes {
        MessageIndexes::write(indexes, into);
    }
}

/// The value of the header [`Part::schema_id_header`]: a one, the GUID, and the message indexes if the schema is Protobuf. The
/// record's payload is then the body alone.
pub fn header_value(guid: Guid, indexes: Option<&[u32]>) -> Vec<u8> {
    let mut value = Vec::with_capacity(18);
    value.push(MAGIC_V1);
    value.extend_from_slice(guid.as_bytes());
    if let Some(indexes) = indexes {
        MessageIndexes::write(indexes, &mut value);
    }
    value
}

/// Names a schema as a record in this framing does: what goes before the body is appended, or the name and the value of the header are
/// answered that the record needs. Of what [`read`] tells of a record, this makes the same bytes, unless they were odd.
///
/// ```
/// use milena_registry::framing::{Framing, Part, SchemaId, write};
///
/// let mut payload = Vec::new();
/// assert_eq!(write(Framing::ConfluentPrefix, Part::Value, SchemaId::Id(42), None, &mut payload)?, None);
/// assert_eq!(payload, [0, 0, 0, 0, 42]);
/// # Ok::<(), milena_registry::framing::FramingError>(())
/// ```
///
/// # Errors
/// When the framing does not name schemas so, or has no place for message indexes.
pub fn write(
    framing: Framing,
    part: Part,
    schema: SchemaId,
    indexes: Option<&[u32]>,
    into: &mut Vec<u8>,
) -> Result<Option<(&'static str, Vec<u8>)>, FramingError> {
    let is_confluent = matches!(framing, Framing::ConfluentPrefix | Framing::ConfluentHeader);
    if indexes.is_some() && !is_confluent {
        return Err(FramingError::NoIndexes(framing));
    }
    let (global, content) = part.apicurio_headers();
    let mut head = Vec::new();
    let header = match (framing, schema) {
        (Framing::ConfluentPrefix | Framing::ConfluentHeader, SchemaId::Id(id)) => {
            write_prefix(id, indexes, &mut head);
            part.schema_id_header()
        }
        (Framing::ConfluentPrefix | Framing::ConfluentHeader, SchemaId::Guid(guid)) => {
            head = header_value(guid, indexes);
            part.schema_id_header()
        }
        (Framing::ApicurioPrefix, SchemaId::GlobalId(id)) => {
            head.push(MAGIC_V0);
            head.extend_from_slice(&id.to_be_bytes());
            global
        }
        (Framing::ApicurioHeader, SchemaId::GlobalId(id)) => {
            head.extend_from_slice(&id.to_be_bytes());
            global
        }
        (Framing::ApicurioHeader, SchemaId::ContentId(id)) => {
            head.extend_from_slice(&id.to_be_bytes());
            content
        }
        (Framing::Glue, SchemaId::Glue(guid)) => {
            head.extend_from_slice(&[GLUE_VERSION, GLUE_PLAIN]);
            head.extend_from_slice(guid.as_bytes());
            ""
        }
        _ => return Err(FramingError::NoSuchId(framing, schema)),
    };
    if let Framing::ConfluentHeader | Framing::ApicurioHeader = framing {
        return Ok(Some((header, head)));
    }
    into.extend_from_slice(&head);
    Ok(None)
}

impl fmt::Display for FramingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSchema { part, first: Some(first) } => {
                write!(f, "the {part} names no schema: it begins with byte {first:#04x}")
            }
            Self::NoSchema { part, first: None } => write!(f, "the {part} names no schema: it is empty"),
            Self::TooShort { part, bytes, needed } => {
                write!(f, "the schema's id of the {part} has {bytes} bytes, and {needed} are needed")
            }
            Self::NoId { part, id } => {
                write!(f, "the {part} names schema {id}, and ids are greater than zero")
            }
            Self::UnknownVersion { part, version } => {
                let header = part.schema_id_header();
                write!(f, "the header {header} begins with byte {version:#04x}, which is not known")
            }
            Self::BadIndexes => write!(
                f,
                "the message indexes of Protobuf cannot be read: they are cut off, negative or more than {INDEXES_MAX}"
            ),
            Self::NoIndexes(framing) => {
                write!(f, "Protobuf can be read in Confluent's framings only, and this is {framing:?}")
            }
            Self::NoSuchId(framing, id) => write!(f, "no record names {id} in this way: {framing:?}"),
            Self::BadCompression { bytes_max } => {
                write!(
                    f,
                    "the body cannot be decompressed with zlib, or has more than {bytes_max} bytes then"
                )
            }
        }
    }
}

impl std::error::Error for FramingError {}
