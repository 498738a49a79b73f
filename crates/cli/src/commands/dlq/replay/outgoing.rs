//! What is written for a letter: where, and with which headers. Pure.

use std::ops::Range;
use std::sync::Arc;

use milena::{Header, Record, SharedRecord};
use milena_pipeline::dead_letters::{Dialect, Letter, ReplayMarks};

use super::mapping::{Mapped, Mapping};
use crate::commands::dlq::selection::original_key;

/// How letters are replayed.
pub(super) struct Route {
    /// The topic that all letters go to, if not to their origins.
    pub(super) to: Option<Arc<str>>,
    pub(super) keeps_headers: bool,
    pub(super) keeps_time: bool,
    pub(super) mapping: Option<Mapping>,
}

/// A letter that is to be replayed, with all records that come of it.
pub(super) struct Item {
    pub(super) record: SharedRecord,
    /// The offsets that were replayed when it is: its own, and those before it that have no records.
    pub(super) replayed: Range<i64>,
    pub(super) outgoing: Vec<Outgoing>,
}

/// A record to write.
pub(super) struct Outgoing {
    pub(super) topic: Arc<str>,
    pub(super) partition: Option<i32>,
    timestamp_ms: Option<i64>,
    marks: ReplayMarks,
    change: Change,
}

/// How the record differs from the letter, but for the marks.
enum Change {
    /// It loses the dialect's headers, and gets its own key back if the letter has another.
    Strip { dialect: Option<Dialect>, key: Option<Option<Vec<u8>>> },
    /// It is what the jq program returned.
    Mapped(Mapped),
}

impl Route {
    /// The topic that a letter goes to.
    pub(super) fn target(
        &self,
        record: &SharedRecord,
        letter: Option<&Letter<'_>>,
    ) -> Result<Arc<str>, String> {
        let target = match (&self.to, letter.and_then(|letter| letter.topic.as_deref())) {
            (Some(to), _) => Arc::clone(to),
            (None, Some(origin)) => Arc::from(origin),
            (None, None) => {
                return Err("its headers do not say where it came from (--to names a topic)".into());
            }
        };
        // Headers are written by whoever may write letters, and this program may be allowed more.
        if target.starts_with("__") {
            return Err(format!("{target:?} is an internal topic"));
        }
        if *target == *record.topic() {
            return Err("it came from the topic of dead letters itself".into());
        }
        Ok(target)
    }

    /// What is written for a letter, to a topic with this many partitions.
    pub(super) fn outgoing(
        &self,
        record: &SharedRecord,
        letter: Option<&Letter<'_>>,
        topic: &Arc<str>,
        partition_count: i32,
    ) -> Result<Vec<Outgoing>, String> {
        let view = record.view();
        let replays = letter.and_then(|letter| letter.replays).unwrap_or(0);
        let marks = ReplayMarks::new(view.topic(), view.partition(), view.offset(), replays);
        let dialect = letter.map(|letter| letter.dialect).filter(|_| !self.keeps_headers);
        let timestamp_ms = letter.and_then(|letter| letter.timestamp_ms).filter(|_| self.keeps_time);
        // At its origin a record goes to the partition that it was in, however that was chosen.
        let origin = letter.and_then(|letter| letter.partition).filter(|_| self.to.is_none());
        let origin = origin.filter(|partition| *partition < partition_count);
        let key = original_key(&view, letter);
        let Some(mapping) = &self.mapping else {
            let key = (key != view.key()).then(|| key.map(<[u8]>::to_vec));
            let change = Change::Strip { dialect, key };
            return Ok(vec![Outgoing {
                topic: Arc::clone(topic),
                partition: origin,
                timestamp_ms,
                marks,
                change,
            }]);
        };
        let headers: Vec<_> = view
            .headers()
            .filter(|header| !dialect.is_some_and(|dialect| dialect.owns(header.key)))
            .collect();
        let mapped = mapping.apply(key, view.value(), &headers)?;
        mapped
            .into_iter()
            .map(|mapped| {
                // Records of a new key belong where that key is.
                let partition = mapped.partition.or_else(|| origin.filter(|_| mapped.key.as_deref() == key));
                if let Some(partition) =
                    partition.filter(|partition| !(0..partition_count).contains(partition))
                {
                    return Err(format!("--map: topic {topic:?} has no partition {partition}"));
                }
                let timestamp_ms = mapped.timestamp_ms.or(timestamp_ms);
                let (marks, change) = (marks.clone(), Change::Mapped(mapped));
                Ok(Outgoing { topic: Arc::clone(topic), partition, timestamp_ms, marks, change })
            })
            .collect()
    }
}

impl Outgoing {
    /// The headers to write. `record` is the letter.
    pub(super) fn headers<'h>(&'h self, record: &'h SharedRecord) -> Vec<Header<'h>> {
        match &self.change {
            Change::Strip { dialect, .. } => self.marks.headers(record.view().headers(), *dialect),
            Change::Mapped(mapped) => {
                let headers = mapped.headers.iter();
                let headers = headers.map(|(key, value)| Header { key, value: value.as_deref() });
                self.marks.headers(headers, None)
            }
        }
    }

    pub(super) fn key<'h>(&'h self, record: &'h SharedRecord) -> Option<&'h [u8]> {
        match &self.change {
            Change::Strip { key: Some(key), .. } => key.as_deref(),
            Change::Strip { key: None, .. } => record.key(),
            Change::Mapped(mapped) => mapped.key.as_deref(),
        }
    }

    pub(super) fn value<'h>(&'h self, record: &'h SharedRecord) -> Option<&'h [u8]> {
        match &self.change {
            Change::Strip { .. } => record.value(),
            Change::Mapped(mapped) => mapped.value.as_deref(),
        }
    }

    /// The record, with the headers that [`headers`](Self::headers) gave.
    pub(super) fn record<'h>(&'h self, letter: &'h SharedRecord, headers: &'h [Header<'h>]) -> Record<'h> {
        let mut record = Record::to(&self.topic)
            .key_or_null(self.key(letter))
            .value_or_null(self.value(letter))
            .headers(headers);
        if let Some(partition) = self.partition {
            record = record.partition(partition);
        }
        if let Some(timestamp_ms) = self.timestamp_ms {
            record = record.timestamp_ms(timestamp_ms);
        }
        record
    }
}
