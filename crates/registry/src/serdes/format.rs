//! What formats and serdes are.

use milena::{Batch, Header};

use crate::framing::{MessageIndexes, Part};
use crate::{Reference, Schema, SerdeError};

/// A format whose data needs a schema.
pub trait Format: Send + Sync + 'static {
    /// A schema that is ready to read and write with.
    type Compiled: Send + Sync + 'static;

    /// Whether records have message indexes, as Protobuf's do.
    const HAS_INDEXES: bool = false;

    /// Whether records of this schema have message indexes. Default: [`HAS_INDEXES`](Self::HAS_INDEXES).
    #[inline]
    fn has_indexes(&self, compiled: &Self::Compiled) -> bool {
        let _ = compiled;
        Self::HAS_INDEXES
    }

    /// Makes a schema ready. `others` are the schemas that it refers to, and those that they refer to, each before those that use it.
    ///
    /// # Errors
    /// When the schema is not valid, or of another format.
    fn compile(&self, schema: &Schema, others: &[(Reference, Schema)]) -> Result<Self::Compiled, SerdeError>;

    /// The name of the record, for [`SubjectName::Record`](crate::SubjectName::Record).
    ///
    /// # Errors
    /// When the schema has none.
    fn record_name(&self, compiled: &Self::Compiled) -> Result<String, SerdeError>;

    /// Which message of the schema is written, if it can have several.
    ///
    /// # Errors
    /// When the schema does not have the message.
    fn indexes(&self, compiled: &Self::Compiled) -> Result<Option<Vec<u32>>, SerdeError> {
        let _ = compiled;
        Ok(None)
    }
}

/// A format that writes values of this type.
pub trait Encode<T: ?Sized>: Format {
    /// Appends a value, without framing.
    ///
    /// # Errors
    /// When it does not fit the schema.
    fn encode(&self, compiled: &Self::Compiled, value: &T, into: &mut Vec<u8>) -> Result<(), SerdeError>;
}

/// A format that reads values of this type, which may borrow the record.
pub trait Decode<'de, T>: Format {
    /// Reads a value. The indexes are there if the format [has them](Format::has_indexes).
    ///
    /// # Errors
    /// When the bytes do not fit the schema, or the type.
    fn decode(
        &self,
        compiled: &Self::Compiled,
        indexes: Option<MessageIndexes<'de>>,
        body: &'de [u8],
    ) -> Result<T, SerdeError>;
}

/// Writes values of a type as keys or values of records.
pub trait RecordEncoder<T: ?Sized>: Send + Sync {
    /// What is known of a topic, ready to write.
    type Writer: Send + Sync;

    /// Gets ready to write to a topic. The registry may be asked the first time.
    ///
    /// # Errors
    /// When there is no schema to write with.
    fn writer(
        &self,
        topic: &str,
        part: Part,
    ) -> impl Future<Output = Result<Self::Writer, SerdeError>> + Send;

    /// Appends a value as it is in the record.
    ///
    /// # Errors
    /// When the value cannot be written.
    fn encode(&self, writer: &Self::Writer, value: &T, into: &mut Vec<u8>) -> Result<(), SerdeError>;

    /// A header that the record needs besides.
    fn header<'a>(&self, writer: &'a Self::Writer) -> Option<Header<'a>> {
        let _ = writer;
        None
    }
}

/// Gets ready for a batch before its records are read. It knows nothing of the values' type: with it, the compiler would not see that a
/// task that reads a batch is `Send` (rust-lang/rust#100013).
pub trait Prepare: Send + Sync {
    /// Gets ready to read the records of a batch. The registry may be asked. What goes wrong is told for each record that needs it.
    fn prepare(&self, batch: &Batch, part: Part) -> impl Future<Output = ()> + Send;
}

/// Reads values of a type, which may borrow the record, from keys or values of records.
pub trait RecordDecoder<'a, T>: Prepare {
    /// What is remembered from one record to the next one.
    type Memory: Default + Send;

    /// Reads a value.
    ///
    /// # Errors
    /// When it cannot be read.
    fn decode(
        &self,
        memory: &mut Self::Memory,
        part: Part,
        payload: &'a [u8],
        headers: impl Iterator<Item = Header<'a>>,
    ) -> Result<T, SerdeError>;
}
