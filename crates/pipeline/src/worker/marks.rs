//! Marks records as done in the consumer's ledger, a run of them at a time.

use milena::{ConsumerHandle, SharedBatch, SharedRecord};

/// The run that is being extended. Records of a batch that end one after the other make one mark.
pub(super) struct Marks {
    consumer: ConsumerHandle,
    open: Option<(SharedRecord, i64, i64)>,
}

impl Marks {
    pub(super) fn new(consumer: ConsumerHandle) -> Self {
        Self { consumer, open: None }
    }

    /// The offsets from `from` to before `end` are finished, of which the last is the record's. There are no records between
    /// them, so that a batch with holes leaves none unmarked.
    pub(super) fn done(&mut self, record: SharedRecord, from: i64, end: i64) {
        if let Some((of, _, last)) = &mut self.open
            && *last == from
            && std::ptr::eq(of.batch(), record.batch())
        {
            *last = end;
            return;
        }
        self.flush();
        self.open = Some((record, from, end));
    }

    /// These offsets are finished: there are no records at them.
    pub(super) fn done_part(&mut self, part: &SharedBatch) {
        self.flush();
        self.consumer.done_part(part);
    }

    /// What is done counts from now on.
    pub(super) fn flush(&mut self) {
        if let Some((of, from, end)) = self.open.take() {
            self.consumer.done_part(&of.range(from..end));
        }
    }
}
