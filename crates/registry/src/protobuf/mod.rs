//! Protobuf, with schemas of a registry.

mod json;
mod options;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::{Message, Name};
use prost_reflect::prost_types::FileDescriptorProto;
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
    pub(crate) fn compile(schema: &Schema, others: &[(Reference, Schema)]) -> Result<Self, SerdeError> {
        let mut files = HashMap::new();
        for (reference, other) in others {
            files.insert(reference.name.clone(), file_of(&reference.name, other)?);
        }
        files.insert(ROOT.to_owned(), file_of(ROOT, schema)?);
        let order = in_order(&files)?;
        let mut compiler = Compiler::with_file_resolver(Files(Mutex::new(files)));
        compiler.include_imports(true).include_source_info(false);
        for name in order {
            compiler.open_file(&name).map_err(invalid)?;
        }
        let file =
            compiler.descriptor_pool().get_file_by_name(ROOT).ok_or_else(|| invalid("it is no file"))?;
        let first = file.messages().next();
        Ok(Self { file, first })
    }

    /// The file with what it imports.
    pub fn pool(&self) -> &DescriptorPool {
        self.file.parent_pool()
    }

    /// The file of this text as a descriptor in base64. `needed` are the names and texts of what it imports.
    #[cfg(feature = "server")]
    pub(crate) fn serialized(text: &str, needed: &[(String, String)]) -> Result<String, SerdeError> {
        let other = |(name, text): &(String, String)| {
            (Reference::new(name.clone(), name.clone(), -1), Schema::protobuf(text.as_str()))
        };
        let others: Vec<_> = needed.iter().map(other).collect();
        let compiled = Self::compile(&Schema::protobuf(text), &others)?;
        Ok(STANDARD.encode(compiled.file.file_descriptor_proto().encode_to_vec()))
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
    pub(crate) fn with<T>(
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

    pub(crate) fn named(&self, name: Option<&str>) -> Result<MessageDescriptor, SerdeError> {
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

impl ProtobufSchema {
    /// The way to a message of the file.
    pub(crate) fn indexes_of(&self, message: Option<&str>) -> Result<Vec<u32>, SerdeError> {
        let message = self.named(message)?;
        // The path has the number of the list before each index.
        let indexes = message.path().iter().skip(1).step_by(2);
        Ok(indexes.map(|index| u32::try_from(*index).unwrap_or_default()).collect())
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
        compiled.indexes_of(self.message.as_deref()).map(Some)
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

/// A file as registries give it: its text, or a file descriptor in base64, which Confluent's clients for Python register.
fn file_of(name: &str, schema: &Schema) -> Result<File, SerdeError> {
    if *schema.kind() != SchemaType::Protobuf {
        return Err(SerdeError::schema(format!("the schema is {}, and Protobuf is expected", schema.kind())));
    }
    let text = schema.text().trim();
    // A file has a blank or a semicolon; base64 has none.
    let is_encoded =
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
    if let Some(Ok(descriptor)) = is_encoded.then(|| STANDARD.decode(text)) {
        let mut file = FileDescriptorProto::decode(descriptor.as_slice()).map_err(invalid)?;
        file.name = Some(name.to_owned());
        options::without_texts(&mut file);
        return Ok(File::from_file_descriptor_proto(file));
    }
    if options::is_too_deep(schema.text()) {
        return Err(invalid(format_args!("it is nested more than {} levels deep", options::NESTED_MAX)));
    }
    File::from_source(name, schema.text()).map_err(invalid)
}

/// The files, each after those that it imports: the compiler recurses into what it does not know yet.
fn in_order(files: &HashMap<String, File>) -> Result<Vec<String>, SerdeError> {
    let (mut order, mut met) = (Vec::new(), HashSet::from([ROOT.to_owned()]));
    let mut open = vec![(ROOT.to_owned(), imports(files, ROOT))];
    while let Some((_, left)) = open.last_mut() {
        let Some(name) = left.pop() else {
            order.extend(open.pop().map(|(name, _)| name));
            continue;
        };
        if open.len() > IMPORT_LEVELS_MAX {
            return Err(invalid(format_args!(
                "its imports are nested more than {IMPORT_LEVELS_MAX} levels deep"
            )));
        }
        // Files of Protobuf's own are no references. The compiler finds circles.
        if files.contains_key(&name) && met.insert(name.clone()) {
            let imported = imports(files, &name);
            open.push((name, imported));
        }
    }
    Ok(order)
}

fn imports(files: &HashMap<String, File>, name: &str) -> Vec<String> {
    files.get(name).map(|file| file.file_descriptor_proto().dependency.clone()).unwrap_or_default()
}

/// Looking a name up recurses through public imports.
const IMPORT_LEVELS_MAX: usize = 64;

/// Each file is opened once.
struct Files(Mutex<HashMap<String, File>>);

impl FileResolver for Files {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        match known {
            Some(file) => Ok(file),
            None => match CONFLUENT.iter().find(|(known, _)| *known == name) {
                Some((_, text)) => File::from_source(name, text),
                None => GoogleFileResolver::new().open_file(name),
            },
        }
    }
}

/// Files that Confluent's serializers and registry bring along: no schema refers to them, although many import them.
const CONFLUENT: &[(&str, &str)] = &[
    (
        "confluent/meta.proto",
        r#"syntax = "proto3"; package confluent;
        import "google/protobuf/descriptor.proto";
        message Meta { string doc = 1; map<string, string> params = 2; repeated string tags = 3; }
        extend google.protobuf.FileOptions { Meta file_meta = 1088; }
        extend google.protobuf.MessageOptions { Meta message_meta = 1088; }
        extend google.protobuf.FieldOptions { Meta field_meta = 1088; }
        extend google.protobuf.EnumOptions { Meta enum_meta = 1088; }
        extend google.protobuf.EnumValueOptions { Meta enum_value_meta = 1088; }"#,
    ),
    (
        "confluent/type/decimal.proto",
        r#"syntax = "proto3"; package confluent.type;
        message Decimal { bytes value = 1; uint32 precision = 2; int32 scale = 3; }"#,
    ),
];

fn invalid(why: impl fmt::Display) -> SerdeError {
    let why = milena::http::cleaned(&why.to_string(), 500);
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
