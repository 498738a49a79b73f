//! What is finished above committed offsets: restored from what the group has stored, kept within what its coordinator takes.

use std::ops::Range;

use milena_messages::ErrorCode;

use super::super::finished::{self, Decoded};
use super::super::terms::TopicPartition;
use super::Commits;
use super::fit::Fit;
use super::terms::StoredOffset;
use crate::{Failure, Instant};

impl Commits {
    /// What a stored offset's metadata says is finished above it.
    pub(super) fn finished_in(
        &mut self,
        partition: &TopicPartition,
        stored: &StoredOffset,
    ) -> Vec<Range<i64>> {
        let text = stored.metadata.as_deref().filter(|_| self.settings.keeps_finished);
        match finished::decode(stored.offset, text.unwrap_or_default()) {
            Decoded::Finished(runs) => runs,
            Decoded::NotAMap => Vec::new(),
            Decoded::Refused(why) => {
                self.warn_of_map(partition, stored.offset, &why.to_string());
                Vec::new()
            }
        }
    }

    fn warn_of_map(&mut self, partition: &TopicPartition, offset: i64, why: &str) {
        self.warnings.push_back(format!(
            "group {}: the metadata of committed offset {offset} of {partition} is not believed, because {why}; the records from \
             that offset on are all processed again",
            self.settings.group
        ));
    }

    /// The log of a partition ends at `end`, as far as consumers may read. If what was restored of it reaches further, it was not
    /// written for this log, and none of it is believed: everything from the position on is delivered. Tells so once, and answers
    /// whether it is.
    pub fn check_restored(&mut self, partition: &TopicPartition, end: i64, now: Instant) -> bool {
        let Some(owned) = self.partitions.get_mut(partition) else { return false };
        let Some(until) = owned.ledger.restored().last().map(|run| run.end).filter(|until| *until > end)
        else {
            return true;
        };
        let offset = owned.ledger.committable().offset;
        owned.ledger.forget_restored();
        let why = format!(
            "it says that offsets up to {} are finished, and the log ends at offset {end}",
            until - 1
        );
        self.warn_of_map(partition, offset, &why);
        self.changed(partition, now);
        false
    }

    /// What was restored of a partition does not count any more: the application wants everything from its new position on, which
    /// [`seek`](Self::seek) tells.
    pub fn forget_restored(&mut self, partition: &TopicPartition, now: Instant) {
        if let Some(owned) = self.partitions.get_mut(partition) {
            owned.ledger.forget_restored();
            self.changed(partition, now);
        }
    }

    /// The application went back to what the group has stored, which [`seek`](Self::seek) has told: what its metadata says is
    /// finished is restored again.
    pub fn restore(&mut self, partition: &TopicPartition, stored: &StoredOffset) {
        let runs = self.finished_in(partition, stored);
        if let Some(owned) = self.partitions.get_mut(partition) {
            owned.ledger.restore(runs);
        }
    }

    /// The offsets that [`done`](Self::done) gave to a transaction were refused. If their metadata is too long, the next ones have less.
    pub fn handle_not_stored(&mut self, offsets: &[(TopicPartition, StoredOffset)], failure: &Failure) {
        let is_too_large = failure.code() == Some(ErrorCode::OFFSET_METADATA_TOO_LARGE);
        let mut longest = None;
        for (at, what) in offsets {
            // Otherwise the text is the application's.
            let is_ours = self.partitions.get_mut(at).is_some_and(|owned| owned.given_runs.take().is_some());
            if let Some(text) = what.metadata.as_ref().filter(|_| is_ours && is_too_large) {
                longest = longest.max(Some((text.len(), at)));
            }
        }
        if let Some((bytes, partition)) = longest {
            self.fit_less(partition, self.fit, bytes);
        }
    }

    /// Whether the partition should get no more batches until unfinished records are done: what is finished above them takes much
    /// memory, or three quarters of what the group stores beside an offset.
    pub fn is_full(&self, partition: &TopicPartition) -> bool {
        let Some(owned) = self.partitions.get(partition) else { return false };
        let bits_max = self.fit_of_runs().bits_max();
        let is_text_full = bits_max.is_some_and(|max| owned.ledger.text_bits_at_most() > max / 4 * 3);
        owned.ledger.is_full() || is_text_full
    }

    /// How what is finished above an offset is stored; not at all if the settings say so.
    pub(super) fn fit_of_runs(&self) -> Fit {
        if self.settings.keeps_finished { self.fit } else { Fit::NONE }
    }

    /// The coordinator has refused `bytes` of metadata of a partition that was made with `fit`.
    pub(super) fn fit_less(&mut self, partition: &TopicPartition, fit: Fit, bytes: usize) {
        // Another partition of the same answer, or of an earlier request, may have been first.
        if fit != self.fit {
            return;
        }
        let is_first = self.fit == Fit::default();
        self.fit = fit.less(bytes);
        for owned in self.partitions.values_mut() {
            if let Some(item) = &mut owned.uncertain {
                item.what.metadata = None;
                item.runs = u64::MAX;
            }
        }
        if is_first {
            self.warnings.push_back(format!(
                "group {}: the coordinator refuses {bytes} bytes of metadata beside the offset of {partition} \
                 (OFFSET_METADATA_TOO_LARGE): its offset.metadata.max.bytes is lower than 4096, or counts bytes. Less is stored of \
                 what is finished above committed offsets, and more may be processed again after a crash",
                self.settings.group
            ));
        }
    }
}
