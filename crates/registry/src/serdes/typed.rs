//! Producers and batches of values.

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

use milena::{Batch, Delivery, Error, Header, Receipt, Record, RecordView, RecordViews, TopicProducer};

use super::format::{RecordDecoder, RecordEncoder};
use crate::SerdeError;
use crate::framing::Part;

/// Makes a [`TypedProducer`] of a producer's topic.
pub trait TypedTopic<'p>: Sized {
    /// A producer that writes values of type `T`.
    fn typed<T: ?Sized, S: RecordEncoder<T>>(self, serde: S) -> TypedProducer<'p, T, S>;
}

impl<'p> TypedTopic<'p> for TopicProducer<'p> {
    fn typed<T: ?Sized, S: RecordEncoder<T>>(self, serde: S) -> TypedProducer<'p, T, S> {
        TypedProducer { topic: self, serde, memory: Mutex::default(), value: PhantomData }
    }
}

/// Writes values of type `T` to a topic.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cluster = milena_broker::Broker::builder().start().await?;
/// # cluster.create_topic("orders", 1)?;
/// # let client = milena::Client::connect(cluster.bootstrap()).await?;
/// use milena::Record;
/// use milena_registry::{Json, TypedBatch as _, TypedTopic as _};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Order<'a> {
///     id: u64,
///     item: &'a str,
/// }
///
/// let producer = client.producer().build().await?;
/// let orders = producer.topic("orders").await?.typed::<Order<'_>, _>(Json);
/// orders.send(Record::new().key("7"), &Order { id: 7, item: "ink" }).await?;
/// # producer.send(Record::to("orders").value("no JSON")).await?;
///
/// let mut consumer = client.consumer_direct().topic("orders").until_end().build().await?;
/// while let Some(batch) = consumer.next().await? {
///     for order in batch.typed::<Order<'_>, _>(&Json).await {
///         match order.value {
///             Ok(Some(order)) => println!("{} {}", order.id, order.item),
///             Ok(None) => println!("{:?} was deleted", order.record.key()),
///             Err(error) => println!("{error}"), // it names the partition and the offset; the next record follows
///         }
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct TypedProducer<'p, T: ?Sized, S> {
    topic: TopicProducer<'p>,
    serde: S,
    /// The memory of the value before, so that a value allocates nothing.
    memory: Mutex<Vec<u8>>,
    value: PhantomData<fn(&T)>,
}

/// Why a value was not written.
#[derive(Debug)]
#[non_exhaustive]
pub enum TypedError {
    /// It cannot be encoded. Nothing was written.
    Serde(SerdeError),
    /// The producer's error, which says whether it may have been written.
    Producer(Error),
}

impl<T: ?Sized, S: RecordEncoder<T>> TypedProducer<'_, T, S> {
    /// The topic.
    pub fn topic(&self) -> &TopicProducer<'_> {
        &self.topic
    }

    /// Writes `record` with this value, and waits until it is written: [`TopicProducer::send`].
    ///
    /// # Errors
    /// When the value cannot be encoded, and as [`TopicProducer::send`].
    ///
    /// # Cancel safety
    /// As [`TopicProducer::send`]. Dropped before the schema is known, nothing is written.
    pub async fn send(&self, record: Record<'_>, value: &T) -> Result<Receipt, TypedError> {
        Ok(self.enqueue(record, value).await?.await?)
    }

    /// Takes `record` with this value, waiting only for the schema and for room: [`TopicProducer::enqueue`].
    ///
    /// # Errors
    /// When the value cannot be encoded, and as [`TopicProducer::enqueue`].
    ///
    /// # Cancel safety
    /// As [`TopicProducer::enqueue`].
    pub async fn enqueue(&self, record: Record<'_>, value: &T) -> Result<Delivery, TypedError> {
        let writer = self.serde.writer(self.topic.name(), Part::Value).await?;
        let payload = self.encoded(&writer, value)?;
        let record = with_header(record, self.serde.header(&writer));
        let taken = self.topic.enqueue(record.value(&payload)).await;
        self.keep(payload);
        Ok(taken?)
    }

    /// As [`enqueue`](Self::enqueue), without a delivery: [`TopicProducer::post`].
    ///
    /// # Errors
    /// When the value cannot be encoded, and as [`TopicProducer::post`].
    ///
    /// # Cancel safety
    /// As [`TopicProducer::post`].
    pub async fn post(&self, record: Record<'_>, value: &T) -> Result<(), TypedError> {
        let writer = self.serde.writer(self.topic.name(), Part::Value).await?;
        let payload = self.encoded(&writer, value)?;
        let record = with_header(record, self.serde.header(&writer));
        let taken = self.topic.post(record.value(&payload)).await;
        self.keep(payload);
        Ok(taken?)
    }

    /// The value, in the memory of the one before, unless that is on its way still.
    fn encoded(&self, writer: &S::Writer, value: &T) -> Result<Vec<u8>, SerdeError> {
        let mut payload = std::mem::take(&mut *self.memory.lock().unwrap_or_else(PoisonError::into_inner));
        self.serde.encode(writer, value, &mut payload)?;
        Ok(payload)
    }

    fn keep(&self, mut payload: Vec<u8>) {
        if payload.capacity() <= KEPT_BYTES_MAX {
            payload.clear();
            *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = payload;
        }
    }
}

/// One large value does not keep its memory.
const KEPT_BYTES_MAX: usize = 64 << 10;

fn with_header<'a>(record: Record<'a>, header: Option<Header<'a>>) -> Record<'a> {
    match header.as_ref().and_then(|header| Some((header.name()?, header.value))) {
        Some((name, value)) => record.header_or_null(name, value),
        None => record,
    }
}

/// Reads the values of a batch.
pub trait TypedBatch {
    /// The values, each with its record. The registry may be asked for schemas first; what cannot be read is an error of its record, and
    /// the next record follows.
    fn typed<'a, T, S: RecordDecoder<'a, T>>(
        &'a self,
        serde: &'a S,
    ) -> impl Future<Output = TypedRecords<'a, T, S>> + Send;

    /// As [`typed`](Self::typed), for the keys.
    fn typed_keys<'a, T, S: RecordDecoder<'a, T>>(
        &'a self,
        serde: &'a S,
    ) -> impl Future<Output = TypedRecords<'a, T, S>> + Send;
}

impl TypedBatch for Batch {
    async fn typed<'a, T, S: RecordDecoder<'a, T>>(&'a self, serde: &'a S) -> TypedRecords<'a, T, S> {
        serde.prepare(self, Part::Value).await;
        TypedRecords { records: self.iter(), serde, memory: S::Memory::default(), part: Part::Value }
    }

    async fn typed_keys<'a, T, S: RecordDecoder<'a, T>>(&'a self, serde: &'a S) -> TypedRecords<'a, T, S> {
        serde.prepare(self, Part::Key).await;
        TypedRecords { records: self.iter(), serde, memory: S::Memory::default(), part: Part::Key }
    }
}

/// The records of a batch with what is in them.
pub struct TypedRecords<'a, T, S: RecordDecoder<'a, T>> {
    records: RecordViews<'a>,
    serde: &'a S,
    memory: S::Memory,
    part: Part,
}

/// A record and what is in it.
#[derive(Debug)]
#[non_exhaustive]
pub struct TypedRecord<'a, T> {
    /// The record as it is.
    pub record: RecordView<'a>,
    /// The value (or the key, where keys were asked for), or none if it is null (a tombstone).
    pub value: Result<Option<T>, DecodeError>,
}

/// Why a record cannot be read, and which one it is.
#[derive(Debug, Clone)]
pub struct DecodeError {
    topic: Box<str>,
    partition: i32,
    offset: i64,
    part: Part,
    error: SerdeError,
}

impl<'a, T, S: RecordDecoder<'a, T>> Iterator for TypedRecords<'a, T, S> {
    type Item = TypedRecord<'a, T>;

    #[inline]
    fn next(&mut self) -> Option<TypedRecord<'a, T>> {
        let record = self.records.next()?;
        let payload = if self.part == Part::Key { record.key() } else { record.value() };
        let value = match payload {
            None => Ok(None),
            Some(payload) => {
                match self.serde.decode(&mut self.memory, self.part, payload, record.headers()) {
                    Ok(value) => Ok(Some(value)),
                    Err(error) => Err(DecodeError::of(&record, self.part, error)),
                }
            }
        };
        Some(TypedRecord { record, value })
    }
}

impl DecodeError {
    #[cold]
    fn of(record: &RecordView<'_>, part: Part, error: SerdeError) -> Self {
        let (topic, partition, offset) = (record.topic().into(), record.partition(), record.offset());
        Self { topic, partition, offset, part, error }
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The partition.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// The offset of the record.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// Whether it may be read later: the registry could not be asked. The record was not skipped: it is up to the program, which can seek
    /// back, put it aside, or wait and read the batch again.
    pub fn is_retriable(&self) -> bool {
        self.error.is_retriable()
    }

    /// What is wrong.
    pub fn error(&self) -> &SerdeError {
        &self.error
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, partition, offset, part, error } = self;
        write!(
            f,
            "the {part} at offset {offset} of partition {partition} of topic {topic:?} cannot be read: {error}"
        )
    }
}

impl std::error::Error for DecodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl From<SerdeError> for TypedError {
    fn from(error: SerdeError) -> Self {
        Self::Serde(error)
    }
}

impl From<Error> for TypedError {
    fn from(error: Error) -> Self {
        Self::Producer(error)
    }
}

impl fmt::Display for TypedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serde(error) => write!(f, "the value cannot be written: {error}"),
            Self::Producer(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TypedError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Serde(error) => Some(error),
            Self::Producer(error) => Some(error),
        }
    }
}

impl<T: ?Sized, S> fmt::Debug for TypedProducer<'_, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedProducer").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl<'a, T, S: RecordDecoder<'a, T>> fmt::Debug for TypedRecords<'a, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedRecords").field("records", &self.records).finish_non_exhaustive()
    }
}
