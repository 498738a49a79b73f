//! Writes records of batches: those that are wanted, formatted, until the count is reached.

use milena::Batch;
use milena_registry::framing::Part;

use super::Form;
use crate::exit::Failure;
use crate::filter::Filter;
use crate::output::Output;
use crate::schemas::{Decoder, Seen};
use crate::view::View;

pub(super) struct Printing<'a> {
    pub(super) output: &'a mut Output,
    pub(super) form: &'a Form,
    pub(super) filter: &'a Filter,
    pub(super) decoder: Option<&'a mut Decoder>,
    /// How many more records to write.
    pub(super) left: u64,
}

impl Printing<'_> {
    /// Appends those records of the batch before `stop` that are to be written. Answers the offset of the record at which the
    /// count was reached, if any record is left: it and those after it were not looked at.
    pub(super) async fn append(&mut self, batch: &Batch, stop: Option<i64>) -> Result<Option<i64>, Failure> {
        if let Some(decoder) = self.decoder.as_ref().filter(|_| self.left > 0) {
            decoder.prepare(batch).await;
        }
        let mut headers = Vec::new();
        for record in batch.try_iter() {
            let record = record?;
            if stop.is_some_and(|stop| record.offset() >= stop) {
                break;
            }
            if self.left == 0 {
                return Ok(Some(record.offset()));
            }
            let its_headers = || record.headers().map(|header| (header.key, header.value));
            let mut look = |part| self.decoder.as_mut().and_then(|decoder| decoder.look(&record, part));
            let (key_seen, value_seen) = (look(Part::Key), look(Part::Value));
            let decoded_key = match &key_seen {
                Some(Seen::Decoded { json, .. }) => Some(&**json),
                _ => None,
            };
            let value = Seen::shown(value_seen.as_ref(), record.value());
            if !self.filter.wants(record.key(), decoded_key, value, its_headers) {
                continue;
            }
            self.left -= 1;
            if let Some(decoder) = &mut self.decoder {
                decoder.count(Part::Key, key_seen.as_ref());
                decoder.count(Part::Value, value_seen.as_ref());
            }
            headers.clear();
            if self.form.wants_headers() {
                headers.extend(its_headers());
            }
            self.form.write(
                &View {
                    topic: batch.topic(),
                    partition: batch.partition(),
                    offset: record.offset(),
                    timestamp: record.timestamp_ms().unwrap_or(-1),
                    key: record.key(),
                    value: record.value(),
                    headers: &headers,
                    key_seen: key_seen.as_ref(),
                    value_seen: value_seen.as_ref(),
                },
                self.output.buffer(),
            );
        }
        Ok(None)
    }
}
