//! Records: as the caller hands them in (borrowed), as a batch shows them (borrowed), and copied out (owned).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use milena_wire::batch::Header;

use crate::clock::{millis_since_epoch, time_of_day_ms};

/// A record to be produced. It borrows everything: what is sent is encoded before the call returns.
///
/// ```
/// use milena::Record;
///
/// let order = vec![1, 2, 3];
/// let record = Record::to("orders").key("42").value(&order).header("trace", "7f");
/// # let _ = record;
/// ```
#[derive(Debug, Clone)]
#[must_use = "a record does nothing until a producer takes it"]
pub struct Record<'a> {
    pub(crate) topic: &'a str,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    timestamp_ms: i64,
    partition: i32,
    headers: Headers<'a>,
}

// Records are moved when they are built, handed over and kept; what is larger than this is moved by a call.
const _: () = assert!(size_of::<Record<'_>>() <= 128);

/// A record's headers on the way in: one in place, many in a vector, or a slice the caller has anyway.
#[derive(Debug, Clone)]
enum Headers<'a> {
    None,
    One(Header<'a>),
    Many(Vec<Header<'a>>),
    Slice(&'a [Header<'a>]),
}

/// In place of a partition or a timestamp: the producer's choice.
const UNSET_PARTITION: i32 = i32::MIN;
const UNSET_TIMESTAMP: i64 = i64::MIN;
/// What Kafka writes in place of a timestamp.
const NO_TIMESTAMP: i64 = -1;

impl<'a> Record<'a> {
    /// A record for `topic`, with no key, no value (a tombstone) and no headers.
    pub fn to(topic: &'a str) -> Self {
        Self {
            topic,
            key: None,
            value: None,
            timestamp_ms: UNSET_TIMESTAMP,
            partition: UNSET_PARTITION,
            headers: Headers::None,
        }
    }

    /// Sets the key. Records of equal keys go to the same partition, the one that Java's client would choose.
    pub fn key<K: AsRef<[u8]> + ?Sized>(self, key: &'a K) -> Self {
        self.key_or_null(Some(key.as_ref()))
    }

    /// Sets the key, or none.
    pub fn key_or_null(mut self, key: Option<&'a [u8]>) -> Self {
        self.key = key;
        self
    }

    /// Sets the value.
    pub fn value<V: AsRef<[u8]> + ?Sized>(self, value: &'a V) -> Self {
        self.value_or_null(Some(value.as_ref()))
    }

    /// Sets the value, or none: a tombstone, which is another thing than an empty value.
    pub fn value_or_null(mut self, value: Option<&'a [u8]>) -> Self {
        self.value = value;
        self
    }

    /// Adds a header. Names may repeat; the order is kept. From the second on they are kept in a vector; given as a
    /// slice, to [`headers`](Self::headers), any number costs no allocation.
    pub fn header<V: AsRef<[u8]> + ?Sized>(self, name: &'a str, value: &'a V) -> Self {
        self.header_or_null(name, Some(value.as_ref()))
    }

    /// Adds a header whose value may be null, which is another thing than empty.
    pub fn header_or_null(mut self, name: &'a str, value: Option<&'a [u8]>) -> Self {
        let header = Header::new(name, value);
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

    /// Sets all headers at once, replacing those added before.
    pub fn headers(mut self, headers: &'a [Header<'a>]) -> Self {
        self.headers = Headers::Slice(headers);
        self
    }

    /// Sets the partition, instead of the key's or the producer's choice.
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = partition.max(UNSET_PARTITION + 1);
        self
    }

    /// Sets the time of the event. Default: the time of the call. A time before 1970 is refused when the record is
    /// handed to the producer.
    pub fn timestamp(self, at: SystemTime) -> Self {
        self.timestamp_ms(millis_since_epoch(at))
    }

    /// Sets the time of the event in milliseconds since the epoch. A negative one is refused when the record is handed to
    /// the producer: Kafka has no times before 1970.
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = timestamp_ms.max(UNSET_TIMESTAMP + 1);
        self
    }

    /// The partition it is bound to.
    #[inline]
    pub(crate) fn chosen_partition(&self) -> Option<i32> {
        (self.partition != UNSET_PARTITION).then_some(self.partition)
    }

    /// Its own time, or now.
    ///
    /// # Errors
    /// The time of its own that cannot be.
    #[inline]
    pub(crate) fn timestamp_or_now(&self) -> Result<i64, i64> {
        match self.timestamp_ms {
            UNSET_TIMESTAMP => Ok(time_of_day_ms()),
            own if own >= 0 => Ok(own),
            own => Err(own),
        }
    }

    #[inline]
    pub(crate) fn header_slice(&self) -> &[Header<'a>] {
        match &self.headers {
            Headers::None => &[],
            Headers::One(header) => std::slice::from_ref(header),
            Headers::Many(headers) => headers,
            Headers::Slice(headers) => headers,
        }
    }
}

/// A consumed record, borrowed from its [`Batch`](crate::Batch).
#[derive(Debug, Clone)]
pub struct RecordView<'a>(pub(crate) milena_wire::batch::Record<'a>);

impl<'a> RecordView<'a> {
    /// Its offset in the partition.
    #[inline]
    pub fn offset(&self) -> i64 {
        self.0.offset
    }

    /// Its timestamp in milliseconds since the epoch; none when it has none, which Kafka writes as -1. The topic says
    /// whether it is the producer's time or the time of the append. Some clients write other negative ones.
    #[inline]
    pub fn timestamp_ms(&self) -> Option<i64> {
        (self.0.timestamp != NO_TIMESTAMP).then_some(self.0.timestamp)
    }

    /// Its timestamp; none as well when it is further away than the system's clock reaches.
    pub fn timestamp(&self) -> Option<SystemTime> {
        let ms = self.timestamp_ms()?;
        let distance = Duration::from_millis(ms.unsigned_abs());
        if ms < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) }
    }

    /// The key; null and empty are different keys.
    #[inline]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.0.key
    }

    /// The value; null is a tombstone, empty is not.
    #[inline]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.0.value
    }

    /// The headers, in order, parsed while iterating. Ends at one that cannot be read.
    pub fn headers(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        self.0.headers().map_while(Result::ok)
    }

    /// The value of the first header of that name: null inside when the header has no value.
    pub fn header(&self, name: &str) -> Option<Option<&'a [u8]>> {
        self.headers().find(|header| header.key == name.as_bytes()).map(|header| header.value)
    }

    /// A copy that keeps nothing of the batch alive.
    pub fn to_owned(&self) -> OwnedRecord {
        OwnedRecord {
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

/// A record copied out of its batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedRecord {
    /// Its offset in the partition.
    pub offset: i64,
    /// Milliseconds since the epoch.
    pub timestamp_ms: Option<i64>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
    /// Names and values, in order. Names should be UTF-8, and brokers do not check.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

#[cfg(test)]
mod tests {
    use super::*;

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
