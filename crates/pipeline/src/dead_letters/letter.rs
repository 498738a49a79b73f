//! Our own dead letters: which headers a failed record gets, and which a replayed one.
//!
//! Pure. The error is the handler's, and may say anything: what it adds to the record is at most [`ADDED_BYTES_MAX`].

use std::error::Error;
use std::fmt::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};

use milena::{Header, Record, RecordView};

use super::dialect::{Dialect, Field, PREFIX};
use super::headers::Letter;
use crate::retry_topics::{Origin, PREFIX as RETRY_PREFIX};
use crate::{Class, Failure};

/// The most bytes that a dead letter is larger than its record: names, values and their lengths.
pub(crate) const ADDED_BYTES_MAX: usize = 4 * 1024;

/// Bytes of a topic's, group's or handler's name. Kafka's topics have 249 at most.
const NAME_BYTES_MAX: usize = 255;
/// Bytes of the error's own text.
const REASON_BYTES_MAX: usize = 1024;
/// Bytes of the text of one cause.
const CAUSE_BYTES_MAX: usize = 512;
/// Causes that are told.
const CAUSES_MAX: usize = 16;
/// The lengths of name and value as varints: two bytes each, as both are below 8 KiB.
const LENGTHS_BYTES: usize = 4;
/// The number of headers is a varint too, and may grow.
const COUNT_BYTES: usize = 4;

const TOPIC: &str = "milena.dlq.topic";
const PARTITION: &str = "milena.dlq.partition";
const OFFSET: &str = "milena.dlq.offset";
const TIMESTAMP: &str = "milena.dlq.timestamp";
const CLASS: &str = "milena.dlq.class";
const REASON: &str = "milena.dlq.reason";
const CAUSE: &str = "milena.dlq.cause";
const ATTEMPTS: &str = "milena.dlq.attempts";
const FIRST: &str = "milena.dlq.first";
const LAST: &str = "milena.dlq.last";
const LETTERS: &str = "milena.dlq.letters";
const REPLAYS: &str = "milena.dlq.replays";
const REPLAYED_FROM: &str = "milena.dlq.replayed-from";
const GROUP: &str = "milena.dlq.group";
const HANDLER: &str = "milena.dlq.handler";

/// What is known of a record that is given up, beyond its error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts<'a> {
    /// The consumer group.
    pub group: &'a str,
    /// The handler's name, if it has one.
    pub handler: Option<&'a str>,
    /// How often the record was tried.
    pub attempts: u32,
    /// When it was tried first, in milliseconds since the epoch.
    pub first_ms: i64,
    /// When it failed last, in milliseconds since the epoch.
    pub last_ms: i64,
}

/// A failed record with the headers that make it a dead letter.
///
/// Key, value and headers are the record's own. Headers of ours that it has already, because it was a dead letter before, are
/// replaced, so that it does not grow: attempts and letters are counted on, the time of the first attempt stays, and so does the
/// place of origin if the record came from another topic since then.
pub struct DeadLetter<'a> {
    view: RecordView<'a>,
    added: Vec<(&'static str, String)>,
}

impl<'a> DeadLetter<'a> {
    /// Makes the headers.
    pub fn new(view: RecordView<'a>, failure: &Failure, facts: &Facts<'_>) -> Self {
        let origin = Origin::of(&view);
        Self::with_origin(view, &origin, failure, facts)
    }

    /// The same of a record that has come through retry topics.
    pub(crate) fn with_origin(
        view: RecordView<'a>,
        origin: &Origin<'_>,
        failure: &Failure,
        facts: &Facts<'_>,
    ) -> Self {
        let earlier = Letter::read_as(Dialect::Milena, view.headers());
        let added = added(origin, earlier.as_ref(), failure, facts);
        Self { view, added }
    }

    /// The partition that the record was read from.
    pub fn source_partition(&self) -> i32 {
        self.view.partition()
    }

    /// All headers of the letter: the record's own, then ours.
    pub fn headers(&self) -> Vec<Header<'_>> {
        let is_ours = |key: &[u8]| Dialect::Milena.owns(key) || key.starts_with(RETRY_PREFIX.as_bytes());
        let own = self.view.headers().filter(|header| !is_ours(header.key));
        let added = self.added.iter().map(|(name, value)| Header::new(name, Some(value.as_bytes())));
        own.chain(added).collect()
    }

    /// The record to produce, with the headers that [`headers`](Self::headers) gave. It has no timestamp of its own: a dead letter
    /// is as old as its failure, or the topic's `retention.ms` would remove one of an old record at once.
    pub fn record<'r>(&'r self, topic: &'r str, headers: &'r [Header<'r>]) -> Record<'r> {
        Record::to(topic).key_or_null(self.view.key()).value_or_null(self.view.value()).headers(headers)
    }

    /// The bytes that our headers add to the record.
    pub fn added_bytes(&self) -> usize {
        COUNT_BYTES + self.added.iter().map(|(name, value)| bytes_of(name, value)).sum::<usize>()
    }
}

impl fmt::Debug for DeadLetter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetter").field("view", &self.view).field("added", &self.added).finish()
    }
}

fn bytes_of(name: &str, value: &str) -> usize {
    name.len() + value.len() + LENGTHS_BYTES
}

fn added(
    place: &Origin<'_>,
    earlier: Option<&Letter<'_>>,
    failure: &Failure,
    facts: &Facts<'_>,
) -> Vec<(&'static str, String)> {
    let mut added = Vec::with_capacity(16);
    let mut add = |name, value: String| added.push((name, value));
    // What went through another topic on its way, for example this one's own dead letters, still comes from where it was first.
    let origin = earlier.filter(|letter| letter.topic.as_deref().is_some_and(|topic| topic != place.topic));
    let (topic, partition, offset, timestamp_ms) = match origin {
        Some(letter) => {
            let topic = letter.topic.as_deref().unwrap_or_default();
            (topic, letter.partition, letter.offset, letter.timestamp_ms)
        }
        None => (place.topic, Some(place.partition), Some(place.offset), place.timestamp_ms),
    };
    add(TOPIC, clipped(topic, NAME_BYTES_MAX));
    if let Some(partition) = partition {
        add(PARTITION, partition.to_string());
    }
    if let Some(offset) = offset {
        add(OFFSET, offset.to_string());
    }
    if let Some(timestamp_ms) = timestamp_ms {
        add(TIMESTAMP, timestamp_ms.to_string());
    }
    let attempts = earlier.and_then(|letter| letter.attempts).unwrap_or(0);
    add(ATTEMPTS, attempts.saturating_add(facts.attempts.into()).to_string());
    let letters = earlier.and_then(|letter| letter.letters).unwrap_or(0);
    add(LETTERS, letters.saturating_add(1).to_string());
    if let Some(replays) = earlier.and_then(|letter| letter.replays) {
        add(REPLAYS, replays.to_string());
    }
    add(FIRST, earlier.and_then(|letter| letter.first_ms).unwrap_or(facts.first_ms).to_string());
    add(LAST, facts.last_ms.to_string());
    add(GROUP, clipped(facts.group, NAME_BYTES_MAX));
    if let Some(handler) = facts.handler {
        add(HANDLER, clipped(handler, NAME_BYTES_MAX));
    }
    add(CLASS, class_name(failure.class()).to_owned());
    let mut error: &(dyn Error + 'static) = failure.error();
    add(REASON, clipped(error, REASON_BYTES_MAX));
    // The causes get the room that is left.
    let mut bytes = COUNT_BYTES + added.iter().map(|(name, value)| bytes_of(name, value)).sum::<usize>();
    for _ in 0..CAUSES_MAX {
        let Some(cause) = error.source() else { break };
        let room = ADDED_BYTES_MAX.saturating_sub(bytes + bytes_of(CAUSE, ""));
        if room < CUT.len() {
            break;
        }
        let text = clipped(cause, CAUSE_BYTES_MAX.min(room));
        bytes += bytes_of(CAUSE, &text);
        added.push((CAUSE, text));
        error = cause;
    }
    added
}

fn class_name(class: Class) -> &'static str {
    match class {
        Class::Retriable => "retriable",
        Class::Poison => "poison",
        Class::Fatal => "fatal",
    }
}

/// The headers of a letter that is replayed: without those that made it a dead letter, and with where it was replayed from, so that
/// a consumer can tell, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayMarks {
    from: String,
    replays: String,
}

impl ReplayMarks {
    /// The marks of a letter that is at this place of a topic of dead letters. `letter` is what its headers say, if it has any.
    pub fn new(topic: &str, partition: i32, offset: i64, replays_before: u64) -> Self {
        let topic = clipped(topic, NAME_BYTES_MAX);
        Self {
            from: format!("{topic}/{partition}/{offset}"),
            // More could not be read again, and the count would begin anew.
            replays: replays_before.saturating_add(1).min(i64::MAX.unsigned_abs()).to_string(),
        }
    }

    /// The headers to write: `own` without the dialect's headers (kept if it is `None`) and without earlier marks, then the marks.
    pub fn headers<'h>(
        &'h self,
        own: impl IntoIterator<Item = Header<'h>>,
        strip: Option<Dialect>,
    ) -> Vec<Header<'h>> {
        let stays = |header: &Header<'_>| {
            let is_mark =
                matches!(Dialect::Milena.field(header.key), Some(Field::Replays | Field::ReplayedFrom));
            !is_mark && !strip.is_some_and(|dialect| dialect.owns(header.key))
        };
        let marks = [(REPLAYED_FROM, &self.from), (REPLAYS, &self.replays)];
        let marks = marks.map(|(name, value)| Header::new(name, Some(value.as_bytes())));
        own.into_iter().filter(stays).chain(marks).collect()
    }
}

/// What ends a text that was cut.
const CUT: &str = "…";

/// What `value` displays, cut at the end of a character if it is longer than `bytes_max`.
pub(crate) fn clipped(value: impl fmt::Display, bytes_max: usize) -> String {
    let mut text = Clip { text: String::new(), bytes_max, is_cut: false };
    // The error is the handler's: a panic in its Display must not take the pipeline with it. One that was cut returns an error.
    if catch_unwind(AssertUnwindSafe(|| write!(text, "{value}"))).is_err() {
        text.text = PANICKED.into();
    }
    text.finish()
}

const PANICKED: &str = "(the error panicked when it was asked for its text)";

/// Takes text up to a length, and then refuses more, so that a text without end ends.
struct Clip {
    text: String,
    bytes_max: usize,
    is_cut: bool,
}

impl Clip {
    fn finish(mut self) -> String {
        if self.is_cut || self.text.len() > self.bytes_max {
            let room = self.bytes_max.saturating_sub(CUT.len());
            self.text.truncate(self.text.floor_char_boundary(room));
            self.text.push_str(CUT);
        }
        self.text
    }
}

impl fmt::Write for Clip {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = self.bytes_max.saturating_sub(self.text.len());
        if more.len() <= room {
            self.text.push_str(more);
            return Ok(());
        }
        self.text.push_str(&more[..more.floor_char_boundary(room)]);
        self.is_cut = true;
        Err(fmt::Error)
    }
}

// The names are the dialect's.
const _: () = assert!(TOPIC.len() > PREFIX.len());

#[cfg(test)]
mod tests;
