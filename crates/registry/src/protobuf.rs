//! Protobuf, with schemas of a registry.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, FileDescriptor, MessageDescriptor, ReflectMessage as _};
use protox::Compiler;
use protox::file::{File, FileResolver, GoogleFileResolver};

use crate::framing::MessageIndexes;
use crate::{Decode, Encode, Format, Reference, Schema, SchemaType, SerdeError};

/// Protobuf: values are messages of prost's. [`DynamicProtobuf`] is for messages whose type is known at run time only.
///
/// ```
/// use milena_registry::{Protobuf, RegistrySerde, Schema, SchemaRegistry};
///
/// #[derive(Clone, PartialEq, prost::Message)]
/// struct Order {
///     #[prost(int64, tag = "1")]
///     id: i64,
/// }
///
/// // prost-build writes this if `enable_type_names` asks for it.
/// impl prost::Name for Order {
///     const NAME: &'static str = "Order";
///     const PACKAGE: &'static str = "shop";
/// }
///
/// let file = r#"syntax = "proto3"; package shop; message Order { int64 id = 1; }"#;
/// let registry = SchemaRegistry::new("http://localhost:8081")?;
/// let serde = RegistrySerde::new(&registry, Protobuf::of::<Order>()).schema(Schema::protobuf(file));
/// # Ok::<(), milena_registry::RegistryError>(())
/// ```
#[derive(Clone)]
pub struct Protobuf {
    /// The full name of the message that is written.
    message: Option<Cow<'static, str>>,
}

/// Protobuf: values are [`DynamicMessage`]s of prost-reflect's, whose schema need not be known when the program is built.
#[derive(Debug, Clone, Default)]
pub struct DynamicProtobuf(Protobuf);

/// A file of Protobuf's with what it imports, ready to read and write with.
pub struct ProtobufSchema {
    file: FileDescriptor,
    /// The first message of the file, which is nearly always the one that is meant.
    first: Option<MessageDescriptor>,
}

impl Protobuf {
    /// Reads any message, and writes the first one of the schema's file.
    pub fn new() -> Self {
        Self { message: None }
    }

    /// Writes messages of this type.
    pub fn of<T: Name>() -> Self {
        Self { message: Some(T::full_name().into()) }
    }

    /// Writes messages of this full name, such as `shop.Order`.
    pub fn message(name: impl Into<String>) -> Self {
        Self { message: Some(Cow::Owned(name.into())) }
    }
}

impl DynamicProtobuf {
    /// Reads any message, and writes the first one of the schema's file.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes messages of this full name, such as `shop.Order`.
    pub fn message(name: impl Into<String>) -> Self {
        Self(Protobuf::message(name))
    }
}

impl Default for Protobuf {
    fn default() -> Self {
        Self::new()
    }
}

impl ProtobufSchema {
    fn compile(schema: &Schema, others: &[(Reference, Schema)]) -> Result<Self, SerdeError> {
        let mut files = HashMap::new();
        for (reference, other) in others {
            files.insert(reference.name.clone(), text_of(other)?);
        }
        files.insert(ROOT.to_owned(), text_of(schema)?);
        let mut compiler = Compiler::with_file_resolver(Files(files));
        compiler.include_imports(true).include_source_info(false);
        compiler.open_file(ROOT).map_err(invalid)?;
        let file =
            compiler.descriptor_pool().get_file_by_name(ROOT).ok_or_else(|| invalid("it is no file"))?;
        let first = file.messages().next();
        Ok(Self { file, first })
    }

    /// The file with what it imports.
    pub fn pool(&self) -> &DescriptorPool {
        self.file.parent_pool()
    }

    /// The message of these indexes.
    fn at(&self, indexes: MessageIndexes<'_>) -> Result<MessageDescriptor, SerdeError> {
        let mut indexes = indexes.iter();
        let mut at = indexes.next().and_then(|index| self.file.messages().nth(index as usize));
        for index in indexes {
            at = at.and_then(|message| message.child_messages().nth(index as usize));
        }
        at.ok_or_else(|| {
            SerdeError::data("Protobuf: the message indexes are those of no message of the schema")
        })
    }

    /// Calls `read` with the message of these indexes.
    #[inline]
    fn with<T>(
        &self,
        indexes: Option<MessageIndexes<'_>>,
        read: impl FnOnce(&MessageDescriptor) -> Result<T, SerdeError>,
    ) -> Result<T, SerdeError> {
        let is_first = indexes.is_none_or(|indexes| {
            let mut indexes = indexes.iter();
            indexes.next() == Some(0) && indexes.next().is_none()
        });
        match (is_first, &self.first, indexes) {
            (true, Some(first), _) => read(first),
            (_, _, Some(indexes)) => read(&self.at(indexes)?),
            _ => Err(SerdeError::schema("the Protobuf schema has no message")),
        }
    }

    fn named(&self, name: Option<&str>) -> Result<MessageDescriptor, SerdeError> {
        let Some(name) = name else {
            return self
                .first
                .clone()
                .ok_or_else(|| SerdeError::schema("the Protobuf schema has no message"));
        };
        let found = self.pool().get_message_by_name(name).filter(|found| found.parent_file() == self.file);
        found.ok_or_else(|| SerdeError::schema(format!("the Protobuf schema has no message {name:?}")))
    }
}

impl Format for Protobuf {
    type Compiled = ProtobufSchema;

    const HAS_INDEXES: bool = true;

    fn compile(&self, schema: &Schema, others: &[(Reference, Schema)]) -> Result<ProtobufSchema, SerdeError> {
        ProtobufSchema::compile(schema, others)
    }

    fn record_name(&self, compiled: &ProtobufSchema) -> Result<String, SerdeError> {
        Ok(compiled.named(self.message.as_deref())?.full_name().to_owned())
    }

    fn indexes(&self, compiled: &ProtobufSchema) -> Result<Option<Vec<u32>>, SerdeError> {
        let message = compiled.named(self.message.as_deref())?;
        // The path has the number of the list before each index.
        let indexes = message.path().iter().skip(1).step_by(2);
        Ok(Some(indexes.map(|index| u32::try_from(*index).unwrap_or_default()).collect()))
    }
}

impl<T: Message + Name> Encode<T> for Protobuf {
    #[inline]
    fn encode(&self, _compiled: &ProtobufSchema, value: &T, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        if self.message.as_deref().is_some_and(|name| !is_name_of::<T>(name)) {
            return Err(misnamed::<T>(self.message.as_deref().unwrap_or_default()));
        }
        value.encode(into).map_err(|error| SerdeError::data(format!("Protobuf: {error}")))
    }
}

impl<'de, T: Message + Name + Default> Decode<'de, T> for Protobuf {
    #[inline]
    fn decode(
        &self,
        compiled: &ProtobufSchema,
        indexes: Option<MessageIndexes<'de>>,
        body: &'de [u8],
    ) -> Result<T, SerdeError> {
        // A body of another message would be read as one without fields.
        compiled.with(indexes, |message| match is_name_of::<T>(message.full_name()) {
            true => Ok(()),
            false => Err(misnamed::<T>(message.full_name())),
        })?;
        T::decode(body).map_err(|error| SerdeError::data(format!("Protobuf: {error}")))
    }
}

impl Format for DynamicProtobuf {
    type Compiled = ProtobufSchema;

    const HAS_INDEXES: bool = true;

    fn compile(&self, schema: &Schema, others: &[(Reference, Schema)]) -> Result<ProtobufSchema, SerdeError> {
        self.0.compile(schema, others)
    }

    fn record_name(&self, compiled: &ProtobufSchema) -> Result<String, SerdeError> {
        self.0.record_name(compiled)
    }

    fn indexes(&self, compiled: &ProtobufSchema) -> Result<Option<Vec<u32>>, SerdeError> {
        self.0.indexes(compiled)
    }
}

impl Encode<DynamicMessage> for DynamicProtobuf {
    fn encode(
        &self,
        compiled: &ProtobufSchema,
        value: &DynamicMessage,
        into: &mut Vec<u8>,
    ) -> Result<(), SerdeError> {
        let expected = compiled.named(self.0.message.as_deref())?;
        if expected.full_name() != value.descriptor().full_name() {
            let (is, name) = (value.descriptor(), expected.full_name());
            return Err(SerdeError::data(format!(
                "Protobuf: the message is a {}, and a {name} is written",
                is.full_name()
            )));
        }
        value.encode(into).map_err(|error| SerdeError::data(format!("Protobuf: {error}")))
    }
}

impl<'de> Decode<'de, DynamicMessage> for DynamicProtobuf {
    fn decode(
        &self,
        compiled: &ProtobufSchema,
        indexes: Option<MessageIndexes<'de>>,
        body: &'de [u8],
    ) -> Result<DynamicMessage, SerdeError> {
        compiled.with(indexes, |message| {
            DynamicMessage::decode(message.clone(), body)
                .map_err(|error| SerdeError::data(format!("Protobuf: {error}")))
        })
    }
}

/// Without an allocation, which prost's own `full_name` has.
#[inline]
fn is_name_of<T: Name>(name: &str) -> bool {
    if T::PACKAGE.is_empty() {
        return name == T::NAME;
    }
    name.strip_prefix(T::PACKAGE).and_then(|rest| rest.strip_prefix('.')) == Some(T::NAME)
}

#[cold]
fn misnamed<T: Name>(name: &str) -> SerdeError {
    SerdeError::data(format!("Protobuf: the message is a {name}, and the type a {}", T::full_name()))
}

/// The name under which the schema itself is compiled. No import has it.
const ROOT: &str = "milena/root.proto";

/// A file as registries give it.
enum Source {
    Text(Box<str>),
    /// A file descriptor in base64, which Confluent's clients for Python register.
    Descriptor(Vec<u8>),
}

fn text_of(schema: &Schema) -> Result<Source, SerdeError> {
    if *schema.kind() != SchemaType::Protobuf {
        return Err(SerdeError::schema(format!("the schema is {}, and Protobuf is expected", schema.kind())));
    }
    let text = schema.text().trim();
    // A file has a blank or a semicolon; base64 has none.
    let is_encoded =
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
    match is_encoded.then(|| STANDARD.decode(text)) {
        Some(Ok(descriptor)) => Ok(Source::Descriptor(descriptor)),
        _ => Ok(Source::Text(schema.text().into())),
    }
}

struct Files(HashMap<String, Source>);

impl FileResolver for Files {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match self.0.get(name) {
            Some(Source::Text(text)) => File::from_source(name, text),
            Some(Source::Descriptor(bytes)) => {
                let mut file = prost_reflect::prost_types::FileDescriptorProto::decode(bytes.as_slice())
                    .map_err(protox::Error::new)?;
                file.name = Some(name.to_owned());
                Ok(File::from_file_descriptor_proto(file))
            }
            None => GoogleFileResolver::new().open_file(name),
        }
    }
}

fn invalid(why: impl fmt::Display) -> SerdeError {
    SerdeError::schema(format!("the Protobuf schema cannot be used: {why}"))
}

impl fmt::Debug for Protobuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Protobuf").field("message", &self.message).finish()
    }
}

impl fmt::Debug for ProtobufSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProtobufSchema")
            .field("first", &self.first.as_ref().map(MessageDescriptor::full_name))
            .finish()
    }
}
