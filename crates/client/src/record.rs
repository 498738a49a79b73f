//! Records in three forms: [`Record`] is what a caller produces (borrowed), [`RecordView`] is what a batch shows
//! (borrowed), and [`OwnedRecord`] is a copy (owned).

use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use milena_wire::batch::Header;

use crate::Batch;
use crate::clock::{Clock, millis_since_epoch};

/// A record to be produced. It borrows its topic, key, value and headers. The producer encodes them before its call
/// returns, so they may be temporaries. The key and the value may also be owned ([`Payload`]). A record that owns all its
/// parts is an [`OwnedRecord`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cluster = milena_broker::Broker::builder().start().await?;
/// # cluster.create_topic("orders", 2)?;
/// # let producer = milena::Client::connect(cluster.bootstrap()).await?.producer().build().await?;
/// use milena::Record;
///
/// let order = vec![1, 2, 3];
/// producer.send(Record::to("orders").key("42").value(&order).header("trace", "7f")).await?;
/// producer.send(Record::to("orders").value(format!("order {}", 43))).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a record does nothing until a producer takes it"]
pub struct Record<'a> {
    pub(crate) topic: &'a str,
    key: Payload<'a>,
    value: Payload<'a>,
    timestamp_ms: i64,
    partition: i32,
    /// If false, the key is null. A flag of its own takes one byte; an `Option` around the key would take eight.
    has_key: bool,
    has_value: bool,
    headers: Headers<'a>,
}

// A record is moved when it is built, when the producer takes it and when it waits: each byte more is copied several
// times per record.
const _: () = assert!(size_of::<Record<'_>>() <= 104);

/// The key or the value of a [`Record`], borrowed or owned.
///
/// It is made from any reference to bytes (`&str`, `&String`, `&[u8]`, `&Vec<u8>`, `&[u8; 4]`) and from `String`,
/// `Vec<u8>` and `Cow`. A borrowed payload costs no allocation.
///
/// ```
/// use milena::Record;
///
/// let id = 42;
/// let borrowed = Record::to("orders").key("42").value(&[1, 2, 3]);
/// let owned = Record::to("orders").key(id.to_string()).value(format!("order {id}"));
/// ```
#[derive(Debug, Clone)]
pub struct Payload<'a>(Bytes<'a>);

#[derive(Debug, Clone)]
enum Bytes<'a> {
    Borrowed(&'a [u8]),
    #[expect(
        clippy::box_collection,
        reason = "an owned payload takes no more room in a record than a borrowed one"
    )]
    Owned(Box<Vec<u8>>),
}

// Each record is moved several times: see the size of `Record`.
const _: () = assert!(size_of::<Payload<'_>>() == size_of::<&[u8]>());

impl Payload<'_> {
    #[inline]
    fn bytes(&self) -> &[u8] {
        match &self.0 {
            Bytes::Borrowed(bytes) => bytes,
            Bytes::Owned(bytes) => bytes,
        }
    }
}

impl<'a, T: AsRef<[u8]> + ?Sized> From<&'a T> for Payload<'a> {
    #[inline]
    fn from(bytes: &'a T) -> Self {
        Self(Bytes::Borrowed(bytes.as_ref()))
    }
}

impl From<Vec<u8>> for Payload<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Bytes::Owned(Box::new(bytes)))
    }
}

impl From<String> for Payload<'_> {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl<'a> From<Cow<'a, [u8]>> for Payload<'a> {
    fn from(bytes: Cow<'a, [u8]>) -> Self {
        match bytes {
            Cow::Borrowed(bytes) => bytes.into(),
            Cow::Owned(bytes) => bytes.into(),
        }
    }
}

impl<'a> From<Cow<'a, str>> for Payload<'a> {
    fn from(text: Cow<'a, str>) -> Self {
        match text {
            Cow::Borrowed(text) => text.into(),
            Cow::Owned(text) => text.into(),
        }
    }
}

/// The headers of a record to be produced: one in place, several in a vector, or a slice of the caller's.
#[derive(Debug, Clone)]
enum Headers<'a> {
    None,
    One(Header<'a>),
    Many(Vec<Header<'a>>),
    Slice(&'a [Header<'a>]),
}

/// Stands for a key or value that is null.
const NULL: Payload<'static> = Payload(Bytes::Borrowed(&[]));
/// Stand for a partition or timestamp that the producer chooses.
const UNSET_PARTITION: i32 = i32::MIN;
const UNSET_TIMESTAMP: i64 = i64::MIN;
/// Kafka's timestamp of a record that has none.
const NO_TIMESTAMP: i64 = -1;

impl<'a> Record<'a> {
    /// A record for the topic of a [`TopicProducer`](crate::TopicProducer), with no key, no value (a tombstone) and no
    /// headers. A [`Producer`](crate::Producer) refuses it unless [`topic`](Self::topic) sets one.
    #[expect(clippy::new_without_default, reason = "a record of nothing is no useful default")]
    pub fn new() -> Self {
        Self::to("")
    }

    /// A record for `topic`, with no key, no value (a tombstone) and no headers.
    pub fn to(topic: &'a str) -> Self {
        Self {
            topic,
            key: NULL,
            value: NULL,
            timestamp_ms: UNSET_TIMESTAMP,
            partition: UNSET_PARTITION,
            has_key: false,
            has_value: false,
            headers: Headers::None,
        }
    }

    /// Sets the topic.
    pub fn topic(mut self, topic: &'a str) -> Self {
        self.topic = topic;
        self
    }

    /// Sets the key. Records of equal keys go to the same partition, the one that Java's client would choose.
    pub fn key(mut self, key: impl Into<Payload<'a>>) -> Self {
        (self.key, self.has_key) = (key.into(), true);
        self
    }

    /// Sets the key, which is null without one.
    pub fn key_or_null(mut self, key: Option<&'a [u8]>) -> Self {
        (self.key, self.has_key) = (key.map_or(NULL, Payload::from), key.is_some());
        self
    }

    /// Sets the value.
    pub fn value(mut self, value: impl Into<Payload<'a>>) -> Self {
        (self.value, self.has_value) = (value.into(), true);
        self
    }

    /// Sets the value, which is null (a tombstone) without one. Null and empty are different values.
    pub fn value_or_null(mut self, value: Option<&'a [u8]>) -> Self {
        (self.value, self.has_value) = (value.map_or(NULL, Payload::from), value.is_some());
        self
    }

    /// Adds a header. Names may repeat, and the order is kept. The second header makes a vector, which is an allocation;
    /// [`headers`](Self::headers) takes a slice of any number without one.
    pub fn header<T: AsRef<[u8]> + ?Sized>(self, name: &'a str, value: &'a T) -> Self {
        self.header_or_null(name, Some(value.as_ref()))
    }

    /// Adds a header whose value may be null. Null and empty are different values.
    pub fn header_or_null(self, name: &'a str, value: Option<&'a [u8]>) -> Self {
        self.with_header(Header::new(name, value))
    }

    fn with_header(mut self, header: Header<'a>) -> Self {
        match &mut self.headers {
            Headers::None => self.headers = Headers::One(header),
            Headers::Many(headers) => headers.push(header),
            Headers::One(_) | Headers::Slice(_) => {
                let mut headers = self.header_slice().to_vec();
                headers.push(header);
                self.headers = Headers::Many(headers);
            }
        }
        self
    }

    /// Sets all headers at once, and removes those added before.
    pub fn headers(mut self, headers: &'a [Header<'a>]) -> Self {
        self.headers = Headers::Slice(headers);
        self
    }

    /// Sets the partition. Default: the key decides, or the producer if the key is null.
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = partition.max(UNSET_PARTITION + 1);
        self
    }

    /// Sets the record's timestamp. Default: the time of the producer's call. The producer refuses a time before 1970.
    pub fn timestamp(self, at: SystemTime) -> Self {
        self.timestamp_ms(millis_since_epoch(at))
    }

    /// Sets the record's timestamp in milliseconds since the epoch. The producer refuses a negative one: Kafka has no times
    /// before 1970.
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = timestamp_ms.max(UNSET_TIMESTAMP + 1);
        self
    }

    /// The topic, or an empty text if the record is for a [`TopicProducer`](crate::TopicProducer).
    pub fn topic_name(&self) -> &'a str {
        self.topic
    }

    /// The key as it is encoded. `None` is null.
    #[inline]
    pub fn key_bytes(&self) -> Option<&[u8]> {
        self.has_key.then(|| self.key.bytes())
    }

    /// The value as it is encoded. `None` is null, a tombstone.
    #[inline]
    pub fn value_bytes(&self) -> Option<&[u8]> {
        self.has_value.then(|| self.value.bytes())
    }

    /// The partition that was [set](Self::partition).
    #[inline]
    pub fn chosen_partition(&self) -> Option<i32> {
        (self.partition != UNSET_PARTITION).then_some(self.partition)
    }

    /// The timestamp that the caller set, or the time now.
    ///
    /// # Errors
    /// Returns the timestamp that the caller set if it is negative.
    #[inline]
    pub(crate) fn timestamp_or_now(&self, clock: &Clock) -> Result<i64, i64> {
        match self.timestamp_ms {
            UNSET_TIMESTAMP => Ok(clock.unix_ms()),
            own if own >= 0 => Ok(own),
            own => Err(own),
        }
    }

    /// The same record with these headers.
    pub(crate) fn with_headers<'b>(&'b self, headers: &'b [Header<'b>]) -> Record<'b> {
        let [key, value] = [&self.key, &self.value].map(|payload| Payload(Bytes::Borrowed(payload.bytes())));
        let Self { topic, timestamp_ms, partition, has_key, has_value, .. } = *self;
        let headers = Headers::Slice(headers);
        Record { topic, key, value, timestamp_ms, partition, has_key, has_value, headers }
    }

    /// The headers, in order.
    #[inline]
    pub fn header_slice(&self) -> &[Header<'a>] {
        match &self.headers {
            Headers::None => &[],
            Headers::One(header) => std::slice::from_ref(header),
            Headers::Many(headers) => headers,
            Headers::Slice(headers) => headers,
        }
    }
}

/// A consumed record, borrowed from its [`Batch`].
#[derive(Clone)]
pub struct RecordView<'a> {
    pub(crate) record: milena_wire::batch::Record<'a>,
    pub(crate) batch: &'a Batch,
}

impl<'a> RecordView<'a> {
    /// The topic.
    pub fn topic(&self) -> &'a str {
        self.batch.topic()
    }

    /// The partition.
    pub fn partition(&self) -> i32 {
        self.batch.partition()
    }

    /// The offset in the partition.
    #[inline]
    pub fn offset(&self) -> i64 {
        self.record.offset
    }

    /// The timestamp in milliseconds since the epoch, or `None` if the record has none (-1 in the batch). The topic's
    /// `message.timestamp.type` says whether it is the producer's time or the time of the append. It can be negative,
    /// because some clients write such timestamps.
    #[inline]
    pub fn timestamp_ms(&self) -> Option<i64> {
        (self.record.timestamp != NO_TIMESTAMP).then_some(self.record.timestamp)
    }

    /// The timestamp, or `None` if the record has none or `SystemTime` cannot express it.
    pub fn timestamp(&self) -> Option<SystemTime> {
        let ms = self.timestamp_ms()?;
        let distance = Duration::from_millis(ms.unsigned_abs());
        if ms < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) }
    }

    /// The key, or `None` if it is null. Null and empty are different keys.
    #[inline]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.record.key
    }

    /// The value, or `None` if it is null (a tombstone). An empty value is not a tombstone.
    #[inline]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.record.value
    }

    /// The headers, in order, parsed while iterating. The iterator ends at a header that cannot be read.
    pub fn headers(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        self.record.headers().map_while(Result::ok)
    }

    /// The value of the first header called `name`: `None` if there is no such header, `Some(None)` if its value is null.
    pub fn header(&self, name: &str) -> Option<Option<&'a [u8]>> {
        self.headers().find(|header| header.key == name.as_bytes()).map(|header| header.value)
    }

    /// Copies the record, so that the copy does not keep the batch in memory.
    pub fn to_owned(&self) -> OwnedRecord {
        OwnedRecord {
            topic: self.topic().to_owned(),
            partition: self.partition(),
            offset: self.offset(),
            timestamp_ms: self.timestamp_ms(),
            key: self.key().map(<[u8]>::to_vec),
            value: self.value().map(<[u8]>::to_vec),
            headers: self
                .headers()
                .map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec)))
                .collect(),
        }
    }
}

impl fmt::Debug for RecordView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordView")
            .field("topic", &self.topic())
            .field("partition", &self.partition())
            .field("record", &self.record)
            .finish()
    }
}

/// A record copied out of its batch.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cluster = milena_broker::Broker::builder().start().await?;
/// # cluster.create_topic("orders", 2)?;
/// # cluster.create_topic("orders-again", 2)?;
/// # let client = milena::Client::connect(cluster.bootstrap()).await?;
/// # let producer = client.producer().build().await?;
/// # producer.send(milena::Record::to("orders").key("42").value("created")).await?;
/// let mut kept = Vec::new();
/// let mut consumer = client.consumer_direct().topic("orders").until_end().build().await?;
/// while let Some(batch) = consumer.next().await? {
///     kept.extend(batch.iter().map(|record| record.to_owned()));
/// }
/// for record in &kept {
///     producer.send(record.as_record().topic("orders-again")).await?;
/// }
/// # assert_eq!(kept.len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedRecord {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset in the partition.
    pub offset: i64,
    /// The timestamp in milliseconds since the epoch, if there is one.
    pub timestamp_ms: Option<i64>,
    /// The key; `None` is null.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is null, a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers in order, each with its name and value. Names should be UTF-8, but brokers do not check it.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl OwnedRecord {
    /// A record to produce, with this record's topic, key, value, headers and timestamp. It has no partition, so that the
    /// key or the producer chooses one; `.partition(record.partition)` keeps it. More than one header costs an allocation.
    pub fn as_record(&self) -> Record<'_> {
        let mut record =
            Record::to(&self.topic).key_or_null(self.key.as_deref()).value_or_null(self.value.as_deref());
        if let Some(timestamp_ms) = self.timestamp_ms {
            record = record.timestamp_ms(timestamp_ms);
        }
        let headers = self.headers.iter();
        headers
            .fold(record, |record, (key, value)| record.with_header(Header { key, value: value.as_deref() }))
    }
}

impl<'a> From<&'a OwnedRecord> for Record<'a> {
    fn from(record: &'a OwnedRecord) -> Self {
        record.as_record()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_borrowed_or_owned_and_null_is_not_empty() {
        let text = String::from("text");
        let check = |record: &Record<'_>, key: Option<&[u8]>, value: Option<&[u8]>| {
            assert_eq!((record.key_bytes(), record.value_bytes()), (key, value));
        };
        check(&Record::to("t").key("k").value(&text), Some(b"k"), Some(b"text"));
        check(&Record::to("t").key(7.to_string()).value(format!("{text}!")), Some(b"7"), Some(b"text!"));
        check(&Record::to("t").key(vec![1]).value(Cow::Borrowed("c")), Some(&[1]), Some(b"c"));
        check(&Record::to("t").key("").value(Vec::new()), Some(b""), Some(b""));
        check(&Record::to("t").key("k").key_or_null(None), None, None);
        let owned = Record::to("t").value(text);
        check(&owned.clone(), None, Some(b"text"));
    }

    #[test]
    fn headers_keep_order_however_many() {
        for count in [0, 1, 2, 3, 40] {
            let names: Vec<String> = (0..count).map(|index| index.to_string()).collect();
            let record = names.iter().fold(Record::to("t"), |record, name| record.header(name, name));
            let seen: Vec<_> = record.header_slice().iter().map(Header::name).collect();
            assert_eq!(seen, names.iter().map(|name| Some(name.as_str())).collect::<Vec<_>>());
        }
    }
}
