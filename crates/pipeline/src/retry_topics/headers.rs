//! The headers of a record in a retry topic: when it is due, where it came from, and what was tried.
//!
//! Pure. The headers may be anyone's: numbers that are none and texts that are too long count as missing, and a due time that is
//! too far away is the caller's to limit.

use milena::{Header, RecordView};

use crate::Failure;
use crate::dead_letters::clipped;

/// What our headers in retry topics begin with. A record that is written to another tier, or to the dead letters, loses those that
/// it has.
pub(crate) const PREFIX: &str = "milena.retry.";

const DUE: &str = "milena.retry.due";
const TIER: &str = "milena.retry.tier";
const TOPIC: &str = "milena.retry.topic";
const PARTITION: &str = "milena.retry.partition";
const OFFSET: &str = "milena.retry.offset";
const TIMESTAMP: &str = "milena.retry.timestamp";
const ATTEMPTS: &str = "milena.retry.attempts";
const FIRST: &str = "milena.retry.first";
const FIRST_REASON: &str = "milena.retry.first-reason";
const REASON: &str = "milena.retry.reason";
const GROUP: &str = "milena.retry.group";

/// Bytes of a topic's or a group's name. A group's id may be longer, and is cut.
const NAME_BYTES_MAX: usize = 255;
/// Bytes of each of the two texts of failures. With the names and numbers, all of it is below 4 KiB.
const REASON_BYTES_MAX: usize = 1024;

/// Where a record was before it went through retry topics. For a record that did not, it is where the record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Origin<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The record's timestamp there, in milliseconds since the epoch. None if it had none.
    pub timestamp_ms: Option<i64>,
}

impl<'a> Origin<'a> {
    /// Where the record is.
    pub(crate) fn of(view: &RecordView<'a>) -> Self {
        let (topic, timestamp_ms) = (view.topic(), view.timestamp_ms());
        Self { topic, partition: view.partition(), offset: view.offset(), timestamp_ms }
    }
}

/// What the headers of a record in a retry topic say. What they do not say, or not in a form that can be read, is missing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Returned<'a> {
    /// When it may be tried again, in milliseconds since the epoch.
    pub(crate) due_ms: Option<i64>,
    pub(crate) origin: Option<Origin<'a>>,
    /// How often it was tried before. Zero if it was not, and only waits for an earlier record of its key.
    pub(crate) attempts: Option<u32>,
    /// When it was tried first, in milliseconds since the epoch.
    pub(crate) first_ms: Option<i64>,
    /// What the first attempt said that made it leave its topic.
    pub(crate) first_reason: Option<&'a str>,
    /// The consumer group that is to try it again.
    pub(crate) group: Option<&'a str>,
}

impl<'a> Returned<'a> {
    /// Reads headers, all that the record has: ours are the last ones. Of repeated ones the last counts for the same reason.
    pub(crate) fn read(headers: impl IntoIterator<Item = Header<'a>>) -> Self {
        let mut read = Self::default();
        let (mut topic, mut partition, mut offset, mut timestamp_ms) = (None, None, None, None);
        for Header { key, value } in headers {
            let Some(value) = value.filter(|_| key.starts_with(PREFIX.as_bytes())) else { continue };
            let text = || std::str::from_utf8(value).ok();
            let name = || text().filter(|name| !name.is_empty() && name.len() <= NAME_BYTES_MAX);
            let number = || text()?.parse::<i64>().ok().filter(|number| *number >= 0);
            match std::str::from_utf8(key).unwrap_or_default() {
                DUE => read.due_ms = number(),
                TOPIC => topic = name(),
                PARTITION => partition = number().and_then(|number| i32::try_from(number).ok()),
                OFFSET => offset = number(),
                // It may be before 1970: some clients write such timestamps.
                TIMESTAMP => timestamp_ms = text().and_then(|text| text.parse().ok()),
                ATTEMPTS => {
                    read.attempts = number().and_then(|number| u32::try_from(number).ok());
                }
                FIRST => read.first_ms = number(),
                FIRST_REASON => read.first_reason = text().filter(|text| text.len() <= REASON_BYTES_MAX),
                GROUP => read.group = name(),
                _ => {}
            }
        }
        if let (Some(topic), Some(partition), Some(offset)) = (topic, partition, offset) {
            read.origin = Some(Origin { topic, partition, offset, timestamp_ms });
        }
        read
    }

    /// Whether it is of another group, which shares the topic.
    pub(crate) fn is_of_another(&self, group: &str) -> bool {
        self.group.is_some_and(|of| of != clipped(group, NAME_BYTES_MAX))
    }
}

/// A record on its way to a retry topic.
pub(crate) struct Leaving<'a> {
    pub(crate) view: RecordView<'a>,
    pub(crate) origin: Origin<'a>,
    /// None if it was not tried where it was.
    pub(crate) failure: Option<&'a Failure>,
    /// What an earlier tier said of the first failure.
    pub(crate) first_reason: Option<&'a str>,
    pub(crate) group: &'a str,
    /// How often it was tried, over all tiers.
    pub(crate) attempts: u32,
    /// None if it was never tried.
    pub(crate) first_ms: Option<i64>,
    pub(crate) due_ms: i64,
    /// The number of the tier; the first is 1.
    pub(crate) tier: usize,
}

impl Leaving<'_> {
    /// The headers that are added.
    pub(crate) fn added(&self) -> Vec<(&'static str, String)> {
        let Self { origin, .. } = self;
        let mut added = vec![
            (DUE, self.due_ms.to_string()),
            (TIER, self.tier.to_string()),
            (TOPIC, clipped(origin.topic, NAME_BYTES_MAX)),
            (PARTITION, origin.partition.to_string()),
            (OFFSET, origin.offset.to_string()),
        ];
        if let Some(timestamp_ms) = origin.timestamp_ms {
            added.push((TIMESTAMP, timestamp_ms.to_string()));
        }
        added.push((ATTEMPTS, self.attempts.to_string()));
        if let Some(first_ms) = self.first_ms {
            added.push((FIRST, first_ms.to_string()));
        }
        let reason = self.failure.map(|failure| clipped(failure.error(), REASON_BYTES_MAX));
        let first_reason = self.first_reason.map(str::to_owned).or_else(|| reason.clone());
        added.extend(first_reason.map(|text| (FIRST_REASON, text)));
        added.extend(reason.map(|text| (REASON, text)));
        added.push((GROUP, clipped(self.group, NAME_BYTES_MAX)));
        added
    }

    /// The record's own headers, then those that are added.
    pub(crate) fn headers<'h>(&'h self, added: &'h [(&'static str, String)]) -> Vec<Header<'h>> {
        let own = self.view.headers().filter(|header| !header.key.starts_with(PREFIX.as_bytes()));
        own.chain(added.iter().map(|(name, value)| Header::new(name, Some(value.as_bytes())))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header<'a>(name: &'a str, value: &'a [u8]) -> Header<'a> {
        Header::new(name, Some(value))
    }

    #[test]
    fn what_others_wrote_is_missing_or_limited() {
        let long = vec![b'x'; 5_000];
        for (name, value) in [
            (DUE, b"-5".as_slice()),
            (DUE, b"soon"),
            (DUE, b"99999999999999999999"),
            (PARTITION, b"4294967296"),
            (ATTEMPTS, b"4294967296"),
            (TOPIC, b""),
            (TOPIC, b"\xff"),
            (TOPIC, &long),
            (FIRST_REASON, &long),
            (GROUP, &long),
            ("milena.retry.of-a-later-version", b"1"),
        ] {
            assert_eq!(Returned::read([header(name, value)]), Returned::default(), "{name}");
        }
        assert_eq!(Returned::read([Header::new(DUE, None)]), Returned::default());
        let whole = [header(TOPIC, b"orders"), header(PARTITION, b"3"), header(OFFSET, b"7")];
        let origin = Origin { topic: "orders", partition: 3, offset: 7, timestamp_ms: None };
        assert_eq!(Returned::read(whole).origin, Some(origin));
        assert_eq!(Returned::read(whole[..2].iter().copied()).origin, None, "a part of an origin is none");
    }

    #[test]
    fn of_repeated_headers_the_last_counts() {
        let read = Returned::read([header(DUE, b"1"), header(DUE, b"2")]);
        assert_eq!(read.due_ms, Some(2));
    }

    #[test]
    fn a_record_of_no_group_is_this_groups() {
        let of = |group: &'static [u8]| Returned::read([header(GROUP, group)]);
        assert!(of(b"other").is_of_another("billing") && !of(b"billing").is_of_another("billing"));
        assert!(!Returned::default().is_of_another("billing"));
        let long = "g".repeat(1_000);
        let cut = clipped(&long, NAME_BYTES_MAX);
        assert!(!Returned::read([header(GROUP, cut.as_bytes())]).is_of_another(&long));
    }
}
