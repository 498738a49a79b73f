//! Reads the headers of a dead letter, whoever wrote it.
//!
//! Pure functions over headers. They were written by others, and may say anything: what is looked at is bounded, numbers that are
//! none are left out, and text that is not UTF-8 is read with replacement characters.

use std::borrow::Cow;

use milena::Header;

use super::dialect::{Dialect, Field};

/// Headers of a record that are looked at.
const HEADERS_MAX: usize = 1_000;
/// Bytes of a text that are read: a stack trace of Java's is seldom longer.
const TEXT_BYTES_MAX: usize = 16 * 1024;
/// Causes that are read.
const CAUSES_MAX: usize = 16;

/// What the headers of a dead letter say. What they do not say, or not in a form that can be read, is `None`.
///
/// ```
/// use milena::Header;
/// use milena_pipeline::dead_letters::{Dialect, Letter};
///
/// let headers = [
///     Header::new("trace", Some(b"7f")),
///     Header::new("__connect.errors.topic", Some(b"orders")),
///     Header::new("__connect.errors.partition", Some(b"3")),
///     Header::new("__connect.errors.exception.message", Some(b"no such column")),
/// ];
/// let letter = Letter::read(headers).expect("it is one of Connect");
/// assert_eq!(letter.dialect, Dialect::Connect);
/// assert_eq!((letter.topic.as_deref(), letter.partition), (Some("orders"), Some(3)));
/// assert_eq!(letter.reason.as_deref(), Some("no such column"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Letter<'a> {
    /// Whose headers they are.
    pub dialect: Dialect,
    /// The topic that the record was read from.
    pub topic: Option<Cow<'a, str>>,
    /// Its partition.
    pub partition: Option<i32>,
    /// Its offset.
    pub offset: Option<i64>,
    /// Its timestamp in milliseconds since the epoch.
    pub timestamp_ms: Option<i64>,
    /// Its key, where the dialect writes the key into a header and something else into the record's key (Karafka).
    pub key: Option<&'a [u8]>,
    /// The text of the error.
    pub reason: Option<Cow<'a, str>>,
    /// The error's class: an exception's name, or in our dialect what the handler said of it.
    pub class: Option<Cow<'a, str>>,
    /// The causes of the error, the nearest first: texts, or classes where the dialect has only those.
    pub causes: Vec<Cow<'a, str>>,
    /// The stack trace.
    pub stack: Option<Cow<'a, str>>,
    /// How often the record was tried.
    pub attempts: Option<u64>,
    /// How often it became a dead letter, in our dialect.
    pub letters: Option<u64>,
    /// How often it was replayed, in our dialect.
    pub replays: Option<u64>,
    /// When it was tried first, in milliseconds since the epoch.
    pub first_ms: Option<i64>,
    /// When it failed last, in milliseconds since the epoch.
    pub last_ms: Option<i64>,
    /// The consumer group.
    pub group: Option<Cow<'a, str>>,
    /// The handler, connector or processor.
    pub handler: Option<Cow<'a, str>>,
}

impl<'a> Letter<'a> {
    /// Reads the headers of a record. None if it is no dead letter of a known dialect.
    ///
    /// A record that became a dead letter twice may have headers of two dialects: the dialect of the last header counts. Who knows
    /// better calls [`read_as`](Self::read_as).
    pub fn read(headers: impl IntoIterator<Item = Header<'a>>) -> Option<Self> {
        let headers: Vec<_> = headers.into_iter().take(HEADERS_MAX).collect();
        let dialect = detect(&headers)?;
        Some(Self::of(dialect, &headers))
    }

    /// Reads the headers of this dialect. None if there are none.
    pub fn read_as(dialect: Dialect, headers: impl IntoIterator<Item = Header<'a>>) -> Option<Self> {
        let headers: Vec<_> = headers.into_iter().take(HEADERS_MAX).collect();
        headers.iter().any(|header| dialect.owns(header.key)).then(|| Self::of(dialect, &headers))
    }

    fn of(dialect: Dialect, headers: &[Header<'a>]) -> Self {
        let mut letter = Self {
            dialect,
            topic: None,
            partition: None,
            offset: None,
            timestamp_ms: None,
            key: None,
            reason: None,
            class: None,
            causes: Vec::new(),
            stack: None,
            attempts: None,
            letters: None,
            replays: None,
            first_ms: None,
            last_ms: None,
            group: None,
            handler: None,
        };
        // SmallRye puts its headers before those that the record had, everyone else after them.
        let is_newest_first = dialect == Dialect::SmallRye;
        for header in headers {
            let Some((field, value)) = dialect.field(header.key).zip(header.value) else { continue };
            let takes_first = field.is_origin() != is_newest_first;
            letter.take(field, value, takes_first);
        }
        if dialect == Dialect::Streams {
            letter.class = letter.class.take().map(class_of_exception);
        }
        letter
    }

    /// Takes what a header says. `takes_first`: of two headers that say the same, the first counts.
    fn take(&mut self, field: Field, value: &'a [u8], takes_first: bool) {
        let is_spring = self.dialect == Dialect::Spring;
        let integer = || if is_spring { big_endian(value) } else { decimal(value) };
        let count = || integer().and_then(|number| u64::try_from(number).ok());
        let time = || integer().filter(|ms| *ms >= 0);
        match field {
            Field::Topic => {
                put(&mut self.topic, Some(text(value)).filter(|name| !name.is_empty()), takes_first);
            }
            Field::Partition => {
                let number = integer().and_then(|number| i32::try_from(number).ok());
                put(&mut self.partition, number.filter(|number| *number >= 0), takes_first);
            }
            Field::Offset => put(&mut self.offset, integer().filter(|offset| *offset >= 0), takes_first),
            Field::Timestamp => put(&mut self.timestamp_ms, time(), takes_first),
            Field::Key => put(&mut self.key, Some(value), takes_first),
            Field::Reason => put(&mut self.reason, Some(text(value)), takes_first),
            Field::Class => put(&mut self.class, Some(text(value)), takes_first),
            Field::Stack => put(&mut self.stack, Some(text(value)), takes_first),
            Field::Attempts => put(&mut self.attempts, count(), takes_first),
            Field::Letters => put(&mut self.letters, count(), takes_first),
            Field::Replays => put(&mut self.replays, count(), takes_first),
            Field::First => put(&mut self.first_ms, time(), takes_first),
            Field::Last => put(&mut self.last_ms, time(), takes_first),
            Field::Group => put(&mut self.group, Some(text(value)), takes_first),
            // Spring's is one class, which a second letter replaces; ours are a list.
            Field::Cause if is_spring => self.causes = vec![text(value)],
            Field::Cause if self.causes.len() < CAUSES_MAX => self.causes.push(text(value)),
            Field::Handler => self.take_handler(value, takes_first),
            Field::Cause | Field::Other | Field::ReplayedFrom => {}
        }
    }

    /// Connect names the connector, its task and the stage in three headers, which make one text here.
    fn take_handler(&mut self, value: &'a [u8], takes_first: bool) {
        match &mut self.handler {
            Some(known) if self.dialect == Dialect::Connect => {
                if known.len() < TEXT_BYTES_MAX {
                    let known = known.to_mut();
                    known.push('/');
                    known.push_str(&text(value));
                }
            }
            handler => put(handler, Some(text(value)), takes_first),
        }
    }
}

fn put<T>(place: &mut Option<T>, value: Option<T>, takes_first: bool) {
    if value.is_some() && !(takes_first && place.is_some()) {
        *place = value;
    }
}

/// The dialect of the last header that identifies one.
fn detect(headers: &[Header<'_>]) -> Option<Dialect> {
    headers.iter().rev().find_map(|header| {
        let mut dialects = Dialect::ALL.into_iter();
        dialects.find(|dialect| match dialect {
            // Names that others use as well: only the three together tell.
            Dialect::Karafka => dialect.owns(header.key) && is_karafkas(headers),
            // A replayed record that is in no topic of dead letters.
            Dialect::Milena => dialect
                .field(header.key)
                .is_some_and(|field| !matches!(field, Field::Replays | Field::ReplayedFrom)),
            _ => dialect.owns(header.key),
        })
    })
}

fn is_karafkas(headers: &[Header<'_>]) -> bool {
    let has = |name: String| headers.iter().any(|header| header.key == name.as_bytes());
    ["source", "original"]
        .iter()
        .any(|prefix| ["topic", "partition", "offset"].iter().all(|field| has(format!("{prefix}_{field}"))))
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    let is_cut = bytes.len() > TEXT_BYTES_MAX;
    let bytes = if is_cut { &bytes[..TEXT_BYTES_MAX] } else { bytes };
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        // The cut may have gone through a character.
        Err(error) if is_cut && error.error_len().is_none() => {
            String::from_utf8_lossy(&bytes[..error.valid_up_to()])
        }
        Err(_) => String::from_utf8_lossy(bytes),
    }
}

fn decimal(bytes: &[u8]) -> Option<i64> {
    std::str::from_utf8(bytes).ok()?.trim().parse().ok()
}

/// An `int`, a `long` or a `BigInteger` of Java's. The last is as short as its number is.
fn big_endian(bytes: &[u8]) -> Option<i64> {
    let (first, _) = bytes.split_first()?;
    if bytes.len() > 8 {
        return None;
    }
    let sign = if first & 0x80 == 0 { 0 } else { 0xff };
    let mut wide = [sign; 8];
    wide[8 - bytes.len()..].copy_from_slice(bytes);
    Some(i64::from_be_bytes(wide))
}

/// The class of `java.lang.IllegalStateException: text`.
fn class_of_exception(text: Cow<'_, str>) -> Cow<'_, str> {
    match text.split_once(':') {
        Some((class, _)) if !class.is_empty() && !class.contains(char::is_whitespace) => {
            class.to_owned().into()
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests;
