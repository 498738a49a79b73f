//! Writes records of batches: those that are wanted, formatted, until the count is reached.

use milena::Batch;

use super::Form;
use crate::exit::Failure;
use crate::filter::Filter;
use crate::output::Output;
use crate::view::View;

pub(super) struct Printing<'a> {
    pub(super) output: &'a mut Output,
    pub(super) form: &'a Form,
    pub(super) filter: &'a Filter,
    /// How many more records to write.
    pub(super) left: u64,
}

impl Printing<'_> {
    /// Appends those records of the batch before `stop` that are to be written. Answers the offset of the record at which the
    /// count was reached, if any record is left: it and those after it were not looked at.
    pub(super) fn append(&mut self, batch: &Batch, stop: Option<i64>) -> Result<Option<i64>, Failure> {
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
            if !self.filter.wants(record.key(), record.value(), its_headers) {
                continue;
            }
            self.left -= 1;
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
                },
                self.output.buffer(),
            );
        }
        Ok(None)
    }
}
