//! One transactional id: its producer, its epochs, and the transaction that is open or ending.
//!
//! ```text
//!            add                end              markers written
//!  Empty ──────────▶ Ongoing ─────────▶ Prepare* ───────────────▶ Complete* ─┐
//!    ▲                  ▲                  ▲                          │      │ add
//!    └─ init            └──────────────────┼──────────────────────────┼──────┘
//!                                          └── end, with TV2: abort ──┘
//! ```
//!
//! The rules are those of Kafka's `TransactionMetadata` and `TransactionCoordinator`, in both versions: under TV1 an epoch is
//! raised by InitProducerId and by a timeout only, and under TV2 each end of a transaction raises it (KIP-890). This file decides;
//! it must not know the journal, timers or partitions.

use std::collections::{BTreeMap, BTreeSet};

use milena_messages::ErrorCode;
use milena_messages::transaction_log_record::{PartitionsSchema, TransactionLogValue};
use milena_wire::Str;

use crate::journal::copied;

/// A producer id and one of its epochs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
}

/// The state of a transactional id, with Kafka's names and numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    Empty = 0,
    Ongoing = 1,
    PrepareCommit = 2,
    PrepareAbort = 3,
    CompleteCommit = 4,
    CompleteAbort = 5,
}

/// The partitions of a transaction by their topics.
pub(crate) type Partitions = BTreeMap<Str, BTreeSet<i32>>;

/// What the coordinator knows of a transactional id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transaction {
    pub(crate) identity: Identity,
    /// The id before this one. A client that lost the answer in which it got this one still has it.
    previous_producer_id: i64,
    /// The id that replaces this one, whose epochs are used up, when the transaction has ended.
    next_producer_id: Option<i64>,
    /// The epoch before this one, if the client raised it itself. With it a client repeats a request whose answer it lost.
    last_epoch: i16,
    pub(crate) timeout_ms: i32,
    pub(crate) state: State,
    pub(crate) partitions: Partitions,
    /// When the open transaction began, and when anything changed. −1 if there is none.
    pub(crate) started_ms: i64,
    pub(crate) updated_ms: i64,
    /// Whether the last end raised the epoch (TV2).
    pub(crate) raises_epoch: bool,
}

/// What an answer needs before it can be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Code(ErrorCode),
    /// The epochs of the id are used up, and the next one must be there first.
    NeedsProducerId,
}

/// The next state of an id, which is the answer of a request once it is in the journal.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing changes: the request came before.
    Same,
    Changed(Box<Transaction>),
}

/// What InitProducerId wants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Init {
    pub(crate) timeout_ms: i32,
    /// The id and epoch that the client has (KIP-360).
    pub(crate) expected: Option<Identity>,
    /// A producer id that was never given out.
    pub(crate) fresh: Option<i64>,
}

/// What EndTxn wants, or the coordinator itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    pub(crate) identity: Identity,
    pub(crate) is_commit: bool,
    /// Whether the epoch is raised (EndTxn v5+).
    pub(crate) raises_epoch: bool,
    pub(crate) fresh: Option<i64>,
}

pub(crate) const NO_EPOCH: i16 = -1;
const NO_PRODUCER_ID: i64 = -1;

impl Identity {
    /// Whether no client may have a greater epoch. The greatest of all is for the markers of a fenced transaction.
    fn is_exhausted(self) -> bool {
        self.epoch >= i16::MAX - 1
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self::Code(code)
    }
}

impl State {
    /// All of them.
    pub(crate) const ALL: [Self; 6] = [
        Self::Empty,
        Self::Ongoing,
        Self::PrepareCommit,
        Self::PrepareAbort,
        Self::CompleteCommit,
        Self::CompleteAbort,
    ];

    /// Kafka's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
        }
    }

    /// Whether markers are still to be written; and if so, whether they commit.
    pub(crate) fn is_ending(self) -> Option<bool> {
        match self {
            Self::PrepareCommit => Some(true),
            Self::PrepareAbort => Some(false),
            _ => None,
        }
    }

    fn preparing(is_commit: bool) -> Self {
        if is_commit { Self::PrepareCommit } else { Self::PrepareAbort }
    }
}

impl Transaction {
    /// A new id, before its first InitProducerId.
    pub(crate) fn new(producer_id: i64, timeout_ms: i32, now_ms: i64) -> Self {
        Self {
            identity: Identity { producer_id, epoch: NO_EPOCH },
            previous_producer_id: NO_PRODUCER_ID,
            next_producer_id: None,
            last_epoch: NO_EPOCH,
            timeout_ms,
            state: State::Empty,
            partitions: Partitions::new(),
            started_ms: -1,
            updated_ms: now_ms,
            raises_epoch: false,
        }
    }

    /// InitProducerId. A transaction that is open must be [fenced](Self::fenced) first: then this is `Ok(None)`.
    pub(crate) fn init(&self, init: &Init, now_ms: i64) -> Result<Option<Self>, Refusal> {
        let Identity { producer_id, epoch } = self.identity;
        let is_known = |expected: Identity| {
            epoch == NO_EPOCH
                || expected.producer_id == producer_id
                || expected.producer_id == self.previous_producer_id && expected.is_exhausted()
        };
        if !init.expected.is_none_or(is_known) {
            return Err(ErrorCode::PRODUCER_FENCED.into());
        }
        match self.state {
            State::PrepareCommit | State::PrepareAbort => Err(ErrorCode::CONCURRENT_TRANSACTIONS.into()),
            State::Ongoing => Ok(None),
            State::Empty | State::CompleteCommit | State::CompleteAbort => {
                let (identity, last_epoch) = self.raised(init)?;
                Ok(Some(Self {
                    identity,
                    last_epoch,
                    timeout_ms: init.timeout_ms,
                    state: State::Empty,
                    partitions: Partitions::new(),
                    started_ms: -1,
                    ..self.changed(now_ms)
                }))
            }
        }
    }

    /// The identity that InitProducerId answers, and the epoch with which it may be repeated.
    fn raised(&self, init: &Init) -> Result<(Identity, i16), Refusal> {
        let Identity { producer_id, epoch } = self.identity;
        let expected = init.expected.map(|expected| expected.epoch);
        if self.identity.is_exhausted() && expected.is_none_or(|expected| expected == epoch) {
            let producer_id = init.fresh.ok_or(Refusal::NeedsProducerId)?;
            let last_epoch = if expected.is_some() { epoch } else { NO_EPOCH };
            return Ok((Identity { producer_id, epoch: 0 }, last_epoch));
        }
        match expected {
            None => Ok((Identity { producer_id, epoch: epoch + 1 }, NO_EPOCH)),
            Some(expected) if epoch == NO_EPOCH || expected == epoch => {
                Ok((Identity { producer_id, epoch: epoch.saturating_add(1) }, epoch))
            }
            // It is a repetition of a request that was answered.
            Some(expected) if expected == self.last_epoch => Ok((self.identity, self.last_epoch)),
            Some(_) => Err(ErrorCode::PRODUCER_FENCED.into()),
        }
    }

    /// Checks who adds partitions. Which of them are new is known to the caller.
    pub(crate) fn check_add(&self, identity: Identity) -> Result<(), ErrorCode> {
        if identity.producer_id != self.identity.producer_id {
            return Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING);
        }
        if identity.epoch != self.identity.epoch {
            return Err(ErrorCode::PRODUCER_FENCED);
        }
        match self.state.is_ending() {
            Some(_) => Err(ErrorCode::CONCURRENT_TRANSACTIONS),
            None => Ok(()),
        }
    }

    /// Whether a partition is in the transaction that is open. After its end the partitions are gone.
    pub(crate) fn has(&self, topic: &str, partition: i32) -> bool {
        self.partitions.get(topic).is_some_and(|partitions| partitions.contains(&partition))
    }

    /// The same id with more partitions in its transaction, which begins if none is open.
    pub(crate) fn with<'a>(&self, added: impl Iterator<Item = (&'a str, i32)>, now_ms: i64) -> Self {
        let mut next = self.changed(now_ms);
        for (topic, partition) in added {
            if let Some(partitions) = next.partitions.get_mut(topic) {
                partitions.insert(partition);
            } else {
                next.partitions.insert(Str::from(topic), BTreeSet::from([partition]));
            }
        }
        if self.state != State::Ongoing {
            next.started_ms = now_ms;
        }
        next.state = State::Ongoing;
        next
    }

    /// EndTxn.
    pub(crate) fn end(&self, end: &End, now_ms: i64) -> Result<Next, Refusal> {
        if end.raises_epoch { self.end_and_raise(end, now_ms) } else { self.end_only(end, now_ms) }
    }

    /// EndTxn before v5: the epoch stays.
    fn end_only(&self, end: &End, now_ms: i64) -> Result<Next, Refusal> {
        if end.identity.producer_id != self.identity.producer_id {
            return Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING.into());
        }
        if end.identity.epoch != self.identity.epoch {
            return Err(ErrorCode::PRODUCER_FENCED.into());
        }
        match (self.state, end.is_commit) {
            (State::Ongoing, is_commit) => {
                let state = State::preparing(is_commit);
                Ok(Next::Changed(Box::new(Self { state, raises_epoch: false, ..self.changed(now_ms) })))
            }
            (State::CompleteCommit, true) | (State::CompleteAbort, false) => Ok(Next::Same),
            (State::PrepareCommit, true) | (State::PrepareAbort, false) => {
                Err(ErrorCode::CONCURRENT_TRANSACTIONS.into())
            }
            _ => Err(ErrorCode::INVALID_TXN_STATE.into()),
        }
    }

    /// EndTxn since v5: the epoch is raised, so that a copy of the request has the epoch before.
    fn end_and_raise(&self, end: &End, now_ms: i64) -> Result<Next, Refusal> {
        let Identity { producer_id, epoch } = end.identity;
        let current = self.identity;
        let is_copy_after_raise = i32::from(current.epoch) == i32::from(epoch) + 1;
        let is_copy_after_new_id =
            producer_id == self.previous_producer_id && epoch == i16::MAX - 1 && current.epoch == 0;
        if producer_id != current.producer_id && !is_copy_after_new_id {
            return Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING.into());
        }
        let is_copy = is_copy_after_raise || is_copy_after_new_id;
        let is_valid = match self.state {
            State::Empty | State::Ongoing => epoch == current.epoch,
            State::PrepareCommit | State::PrepareAbort => is_copy_after_raise,
            State::CompleteCommit | State::CompleteAbort => is_copy || epoch == current.epoch,
        };
        if !is_valid {
            return Err(ErrorCode::PRODUCER_FENCED.into());
        }
        match (self.state, end.is_commit) {
            (State::Ongoing, is_commit) => self.preparing(is_commit, end.fresh, now_ms),
            (State::CompleteCommit, true) | (State::CompleteAbort, false) if is_copy => Ok(Next::Same),
            // A producer may abort without having added anything, in order to get another epoch.
            (State::CompleteCommit | State::CompleteAbort, false) if !is_copy => {
                self.preparing(false, end.fresh, now_ms)
            }
            (State::Empty, false) => self.preparing(false, end.fresh, now_ms),
            (State::PrepareCommit, true) | (State::PrepareAbort, false) => {
                Err(ErrorCode::CONCURRENT_TRANSACTIONS.into())
            }
            _ => Err(ErrorCode::INVALID_TXN_STATE.into()),
        }
    }

    fn preparing(&self, is_commit: bool, fresh: Option<i64>, now_ms: i64) -> Result<Next, Refusal> {
        let next_producer_id = match self.identity.is_exhausted() {
            true => Some(fresh.ok_or(Refusal::NeedsProducerId)?),
            false => None,
        };
        let is_bare = self.state != State::Ongoing;
        let next = Self { next_producer_id, ..self.raised_to(State::preparing(is_commit), now_ms) };
        Ok(Next::Changed(Box::new(match is_bare {
            true => Self { partitions: Partitions::new(), started_ms: now_ms, ..next },
            false => next,
        })))
    }

    fn raised_to(&self, state: State, now_ms: i64) -> Self {
        let Identity { producer_id, epoch } = self.identity;
        let identity = Identity { producer_id, epoch: epoch.saturating_add(1) };
        Self { identity, last_epoch: epoch, state, raises_epoch: true, ..self.changed(now_ms) }
    }

    /// The open transaction is aborted, because its time is over or another producer takes its place. The epoch that its
    /// producer has ends with it. Under TV2 that is as if the producer had aborted it, and it may go on with the next one.
    pub(crate) fn fenced(&self, raises_epoch: bool, now_ms: i64) -> Self {
        let fenced = self.raised_to(State::PrepareAbort, now_ms);
        let last_epoch = if raises_epoch { fenced.last_epoch } else { NO_EPOCH };
        Self { last_epoch, raises_epoch, ..fenced }
    }

    /// All markers are written.
    pub(crate) fn completed(&self, now_ms: i64) -> Self {
        let identity = match self.next_producer_id {
            Some(producer_id) => Identity { producer_id, epoch: 0 },
            None => self.identity,
        };
        let state = match self.state {
            State::PrepareCommit => State::CompleteCommit,
            _ => State::CompleteAbort,
        };
        Self {
            identity,
            next_producer_id: None,
            state,
            partitions: Partitions::new(),
            ..self.changed(now_ms)
        }
    }

    /// The identity that EndTxn v5+ answers: that of the next transaction.
    pub(crate) fn next_identity(&self) -> Identity {
        match self.next_producer_id {
            Some(producer_id) => Identity { producer_id, epoch: 0 },
            None => self.identity,
        }
    }

    fn changed(&self, now_ms: i64) -> Self {
        Self { previous_producer_id: self.identity.producer_id, updated_ms: now_ms, ..self.clone() }
    }

    /// Whether nobody waits for anything of it.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.state, State::Empty | State::CompleteCommit | State::CompleteAbort)
    }

    /// When an open transaction is aborted, in milliseconds since 1970.
    pub(crate) fn deadline_ms(&self) -> Option<i64> {
        (self.state == State::Ongoing).then(|| self.started_ms.saturating_add(self.timeout_ms.into()))
    }

    /// What it takes in memory beside its id.
    pub(crate) fn bytes(&self) -> usize {
        self.partitions.iter().map(|(topic, partitions)| PLACE + topic.len() + partitions.len() * 16).sum()
    }

    /// What its record says.
    pub(crate) fn from_record(value: &TransactionLogValue) -> Option<Self> {
        let state = *State::ALL.iter().find(|state| **state as i8 == value.transaction_status)?;
        let mut partitions = Partitions::new();
        for topic in value.transaction_partitions.iter().flatten() {
            partitions.insert(copied(&topic.topic), topic.partition_ids.iter().copied().collect());
        }
        let next = value.next_producer_id;
        Some(Self {
            identity: Identity { producer_id: value.producer_id, epoch: value.producer_epoch },
            previous_producer_id: value.previous_producer_id,
            next_producer_id: (next != NO_PRODUCER_ID).then_some(next),
            last_epoch: value.next_producer_epoch,
            timeout_ms: value.transaction_timeout_ms,
            state,
            partitions,
            started_ms: value.transaction_start_timestamp_ms,
            updated_ms: value.transaction_last_update_timestamp_ms,
            raises_epoch: value.client_transaction_version >= 2,
        })
    }

    /// Its record.
    pub(crate) fn to_record(&self) -> TransactionLogValue {
        let topic = |(topic, partitions): (&Str, &BTreeSet<i32>)| PartitionsSchema {
            topic: topic.clone(),
            partition_ids: partitions.iter().copied().collect(),
            ..Default::default()
        };
        TransactionLogValue {
            producer_id: self.identity.producer_id,
            previous_producer_id: self.previous_producer_id,
            next_producer_id: self.next_producer_id.unwrap_or(NO_PRODUCER_ID),
            producer_epoch: self.identity.epoch,
            // Kafka does not keep the last epoch, and refuses a repetition after its coordinator has moved. Here the field is
            // used for it, because nothing else needs it.
            next_producer_epoch: self.last_epoch,
            transaction_timeout_ms: self.timeout_ms,
            transaction_status: self.state as i8,
            transaction_partitions: Some(self.partitions.iter().map(topic).collect()),
            transaction_last_update_timestamp_ms: self.updated_ms,
            transaction_start_timestamp_ms: self.started_ms,
            client_transaction_version: if self.raises_epoch { 2 } else { 0 },
            ..Default::default()
        }
    }
}

/// What a topic's name takes beside its text.
const PLACE: usize = 128;

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    /// An id at epoch 5, of which the epoch before is known.
    fn at(state: State) -> Transaction {
        Transaction {
            identity: Identity { producer_id: 7, epoch: 5 },
            state,
            last_epoch: 4,
            ..Transaction::new(7, 1000, 0)
        }
    }

    fn end(producer_id: i64, epoch: i16, is_commit: bool, raises_epoch: bool) -> End {
        End { identity: Identity { producer_id, epoch }, is_commit, raises_epoch, fresh: None }
    }

    /// The outcomes of EndTxn as Kafka's coordinator has them: by state; with and without raised epochs; to commit and to abort;
    /// by the current epoch and by the one before.
    const ENDS: &str = "
        Empty          tv1  5: INVALID_TXN_STATE INVALID_TXN_STATE  4: PRODUCER_FENCED PRODUCER_FENCED
        Empty          tv2  5: INVALID_TXN_STATE PrepareAbort/6  4: PRODUCER_FENCED PRODUCER_FENCED
        Ongoing        tv1  5: PrepareCommit/5 PrepareAbort/5  4: PRODUCER_FENCED PRODUCER_FENCED
        Ongoing        tv2  5: PrepareCommit/6 PrepareAbort/6  4: PRODUCER_FENCED PRODUCER_FENCED
        PrepareCommit  tv1  5: CONCURRENT_TRANSACTIONS INVALID_TXN_STATE  4: PRODUCER_FENCED PRODUCER_FENCED
        PrepareCommit  tv2  5: PRODUCER_FENCED PRODUCER_FENCED  4: CONCURRENT_TRANSACTIONS INVALID_TXN_STATE
        PrepareAbort   tv1  5: INVALID_TXN_STATE CONCURRENT_TRANSACTIONS  4: PRODUCER_FENCED PRODUCER_FENCED
        PrepareAbort   tv2  5: PRODUCER_FENCED PRODUCER_FENCED  4: INVALID_TXN_STATE CONCURRENT_TRANSACTIONS
        CompleteCommit tv1  5: same INVALID_TXN_STATE  4: PRODUCER_FENCED PRODUCER_FENCED
        CompleteCommit tv2  5: INVALID_TXN_STATE PrepareAbort/6  4: same INVALID_TXN_STATE
        CompleteAbort  tv1  5: INVALID_TXN_STATE same  4: PRODUCER_FENCED PRODUCER_FENCED
        CompleteAbort  tv2  5: INVALID_TXN_STATE PrepareAbort/6  4: INVALID_TXN_STATE same
        ";

    #[test]
    fn every_end_has_kafkas_outcome() {
        let mut table = String::from("\n");
        for state in State::ALL {
            for raises_epoch in [false, true] {
                let _ = write!(table, "        {:<14} tv{}", state.name(), if raises_epoch { 2 } else { 1 });
                for epoch in [5, 4] {
                    let _ = write!(table, "  {epoch}:");
                    for is_commit in [true, false] {
                        let _ = match at(state).end(&end(7, epoch, is_commit, raises_epoch), 9) {
                            Ok(Next::Same) => write!(table, " same"),
                            Ok(Next::Changed(next)) => {
                                write!(table, " {}/{}", next.state.name(), next.identity.epoch)
                            }
                            Err(Refusal::Code(code)) => write!(table, " {}", code.name()),
                            Err(Refusal::NeedsProducerId) => write!(table, " new id"),
                        };
                    }
                }
                table.push('\n');
            }
        }
        table.push_str("        ");
        assert_eq!(table, ENDS, "{table}");
    }

    #[test]
    fn when_the_epochs_are_used_up_the_next_transaction_has_another_producer_id() {
        let last = i16::MAX - 1;
        let identity = Identity { producer_id: 7, epoch: last };
        let ongoing = Transaction { identity, ..at(State::Ongoing) };
        let commit = end(7, last, true, true);
        assert_eq!(ongoing.end(&commit, 9), Err(Refusal::NeedsProducerId));
        let Ok(Next::Changed(ending)) = ongoing.end(&End { fresh: Some(8), ..commit }, 9) else { panic!() };
        // The markers have the greatest epoch of the old id, which no client has.
        assert_eq!(ending.identity, Identity { producer_id: 7, epoch: i16::MAX });
        let next = Identity { producer_id: 8, epoch: 0 };
        assert_eq!(ending.next_identity(), next);
        let ended = ending.completed(10);
        assert_eq!((ended.identity, ended.state), (next, State::CompleteCommit));
        // A copy of the request, whose answer was lost.
        assert_eq!(ended.end(&commit, 11), Ok(Next::Same));
        let abort = End { is_commit: false, ..commit };
        assert_eq!(ended.end(&abort, 11), Err(ErrorCode::INVALID_TXN_STATE.into()));
        // The older protocol keeps its epoch, and gets the new id with the next InitProducerId.
        let idle = Transaction { identity, ..at(State::CompleteCommit) };
        let init = Init { timeout_ms: 1, expected: None, fresh: None };
        assert_eq!(idle.init(&init, 9), Err(Refusal::NeedsProducerId));
        let expected = Some(identity);
        let rotated = idle.init(&Init { fresh: Some(8), expected, ..init }, 9).expect("allowed");
        let rotated = rotated.expect("none is open");
        assert_eq!(rotated.identity, next);
        // Its answer may be lost too.
        let again = rotated.init(&Init { expected, ..init }, 10).expect("allowed").expect("none is open");
        assert_eq!(again.identity, next);
    }

    #[test]
    fn a_record_says_all_of_it() {
        let mut transaction = at(State::PrepareAbort).with([("t", 3), ("t", 1), ("u", 0)].into_iter(), 5);
        transaction.next_producer_id = Some(9);
        transaction.raises_epoch = true;
        assert_eq!(Transaction::from_record(&transaction.to_record()), Some(transaction.clone()));
        let unknown = TransactionLogValue { transaction_status: 77, ..transaction.to_record() };
        assert_eq!(Transaction::from_record(&unknown), None);
    }
}
