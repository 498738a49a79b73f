//! The records of a transaction: when a partition's may be sent, and what happens when one of them fails.
//!
//! Which requests the coordinator gets, and how the transaction ends, is the [transaction](crate::transaction) machine's; this
//! tells it which partitions are written to, and whether something was sent, failed or is of unknown fate.

use super::partition::Partition;
use super::{Begun, Instant, Outcome, Producer, SealedBatch, Slot};
use crate::transaction::Version;
use crate::{Failure, ProducerIdentity};

/// What is known of the transaction that is open, or of the last one.
#[derive(Debug)]
pub(super) struct Span {
    pub version: Version,
    /// Partitions that are to be added to it, for the driver to tell.
    wanted: Vec<Slot>,
    /// Why partitions have not been added to it yet.
    pub unadded: Option<Failure>,
    /// Why nothing of it is sent any more: what comes fails with this.
    pub doom: Option<Failure>,
    /// Whether what waits has failed with `doom`.
    is_purged: bool,
    /// Why the first record failed, until it is told.
    failed: Option<Failure>,
    /// Whether a request went out that is to be told.
    is_sent: bool,
    /// Whether a batch was written, which is to be told.
    is_taken: bool,
    /// Whether the next transaction needs another epoch, which is to be told.
    is_unsure: bool,
}

/// Whether a partition is in the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// It need not be added: there are no transactions, or brokers add it.
    Free,
    /// Nothing of it was to be written yet.
    Unasked,
    /// The coordinator was asked to add it.
    Asked,
    /// It was added.
    Added,
}

impl Admission {
    pub(super) fn is_open(self) -> bool {
        matches!(self, Self::Free | Self::Added)
    }
}

impl Span {
    pub(super) fn new() -> Self {
        Self {
            version: Version::One,
            wanted: Vec::new(),
            unadded: None,
            doom: None,
            is_purged: false,
            failed: None,
            is_sent: false,
            is_taken: false,
            is_unsure: false,
        }
    }

    /// How a partition begins.
    pub(super) fn admission(&self) -> Admission {
        if self.version == Version::One { Admission::Unasked } else { Admission::Free }
    }

    pub(super) fn note_sent(&mut self) {
        self.is_sent = true;
    }

    /// A batch failed: how it is told.
    pub(super) fn fail(&mut self, failure: Failure, has_sequence: bool) -> Failure {
        // A sequence that no batch has is a gap, and one that may have been written may yet be.
        self.is_unsure |= has_sequence;
        let told = match &failure {
            Failure::Doomed { .. } => failure.clone(),
            _ if failure.is_fatal() => failure.clone(),
            _ => Failure::Doomed { cause: Box::new(failure.clone()), is_fatal: false },
        };
        if self.doom.is_none() {
            self.failed = Some(failure);
            self.doom = Some(told.clone());
        }
        told
    }
}

/// What the transaction machine is told of records.
impl<B: SealedBatch> Producer<B> {
    /// A transaction begins, whose batches go out under `identity`. All batches of the last one are settled.
    pub fn handle_begin(&mut self, identity: ProducerIdentity, version: Version) {
        debug_assert_eq!(self.outstanding(), 0, "a transaction ends with its last batch");
        let span = Span { version, ..Span::new() };
        for partition in &mut self.partitions {
            partition.admission = span.admission();
        }
        self.given_up = None;
        self.span = Some(span);
        self.identity.give(identity);
        self.stir_all();
    }

    /// This partition is in the transaction.
    pub fn handle_added(&mut self, slot: Slot) {
        self.at(slot).admission = Admission::Added;
        self.stir(slot);
    }

    /// Why partitions that were asked for are not in the transaction yet, for the errors of records that wait for them.
    pub fn handle_unadded(&mut self, why: Option<&Failure>) {
        if let Some(span) = &mut self.span {
            span.unadded = why.cloned();
        }
    }

    /// Nothing of the transaction is sent any more: what is not in flight fails with `failure`, and what comes.
    pub fn handle_purge(&mut self, failure: &Failure) {
        if let Some(span) = &mut self.span {
            span.doom.get_or_insert_with(|| failure.clone());
        }
    }

    /// A partition that is to be added to the transaction. [`handle_added`](Self::handle_added) answers.
    pub fn poll_wanted(&mut self) -> Option<Slot> {
        self.span.as_mut()?.wanted.pop()
    }

    /// Why the transaction cannot be committed, once.
    pub fn poll_failed(&mut self) -> Option<Failure> {
        self.span.as_mut()?.failed.take()
    }

    /// Whether a request went out since the last call.
    pub fn poll_sent(&mut self) -> bool {
        self.span.as_mut().is_some_and(|span| std::mem::take(&mut span.is_sent))
    }

    /// Whether a batch was written since the last call.
    pub fn poll_taken(&mut self) -> bool {
        self.span.as_mut().is_some_and(|span| std::mem::take(&mut span.is_taken))
    }

    /// Whether a batch may be written although it was given up, or its sequence is missing in its partition.
    pub fn poll_unsure(&mut self) -> bool {
        self.span.as_mut().is_some_and(|span| std::mem::take(&mut span.is_unsure))
    }

    /// A batch of `slot` waits. Its partition is asked for at once, so that it is in the transaction when the batch is full.
    pub(super) fn want(&mut self, slot: Slot) {
        let Self { span: Some(span), partitions, .. } = self else { return };
        let partition = &mut partitions[slot.0 as usize];
        if partition.admission == Admission::Unasked && span.doom.is_none() {
            partition.admission = Admission::Asked;
            span.wanted.push(slot);
        }
    }

    /// Whether nothing is sent any more.
    pub(super) fn is_doomed(&self) -> bool {
        self.span.as_ref().is_some_and(|span| span.doom.is_some())
    }

    /// A batch is settled: what is told of it.
    pub(super) fn outcome_in_span(&mut self, outcome: Outcome, has_sequence: bool) -> Outcome {
        match (&mut self.span, outcome) {
            (Some(span), Outcome::Failed { failure, maybe_written, records }) => {
                let failure = span.fail(failure, has_sequence);
                Outcome::Failed { failure, maybe_written, records }
            }
            (Some(span), written) => {
                span.is_taken = true;
                written
            }
            (None, outcome) => outcome,
        }
    }

    /// A partition cannot go on under the identity of the transaction.
    pub(super) fn note_gap_in_span(&mut self, slot: Slot) {
        let partition = &self.partitions[slot.0 as usize];
        let last = partition.queue.front().and_then(|closed| closed.last_failure.clone());
        if let Some(span) = &mut self.span {
            let failure = last.unwrap_or(Failure::SequenceLost { code: None });
            span.fail(failure, true);
        }
    }

    /// Fails what waits, if nothing is sent any more, and takes requests back that no connection has begun with.
    pub(super) fn purge_if_doomed(&mut self) {
        let Some(span) = &mut self.span else { return };
        let Some(failure) = span.doom.clone() else { return };
        if std::mem::replace(&mut span.is_purged, true) {
            return;
        }
        self.give_up(failure, Instant::NEVER);
        for (id, request) in &mut self.requests {
            if request.begun == Begun::Unknown {
                request.begun = Begun::Asked;
                self.recalls.push_back(*id);
            }
        }
    }
}

impl<B> Partition<B> {
    /// Whether its batches may be sent, as far as the transaction is concerned.
    pub(super) fn is_in_transaction(&self) -> bool {
        self.admission.is_open()
    }
}
