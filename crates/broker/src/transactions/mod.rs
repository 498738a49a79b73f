//! The transaction coordinator: transactional ids, their producers, and the ends of their transactions. KIP-98, KIP-360,
//! KIP-890.
//!
//! ```text
//!  api/init_producer_id, add_partitions_to_txn, end_txn … ─▶ Transactions ─▶ Transaction   what may come next
//!                                                                 ├▶ queue    timeouts, markers to be written, expiry
//!                                                                 ├▶ journal  what Kafka writes to __transaction_state
//!                                                                 └▶ Job      markers ─▶ parts: partitions, groups
//! ```
//!
//! All nodes share one coordinator, as they share the logs; `State::transaction_coordinator` says which node answers for an id.
//! A change is in the journal before it is answered, so that a coordinator that moves or starts again goes on with it. Markers
//! are written without the coordinator's lock: a [`Job`] is handed out once, and nothing of its id changes until it is finished.
//! The coordinator must not know requests' frames or other parts of the broker.

mod record;
mod transaction;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use milena_messages::ErrorCode;
use milena_wire::Str;

use crate::journal::{Journal, copied};
use crate::locked::Timed;
use crate::now::Now;
use crate::producers::Marker;
use crate::timers::{Queue, Timer};

pub(crate) use record::Record;
use transaction::Next;
pub(crate) use transaction::{End, Identity, Init, Partitions, Refusal, State, Transaction};

/// The settings of the coordinator.
#[derive(Debug, Clone)]
pub(crate) struct TransactionSettings {
    /// The feature `transaction.version` that is finalized at the start: 2 is KIP-890's, and before it 1 or 0.
    pub(crate) version: i16,
    /// The longest timeout that a producer may ask for (`transaction.max.timeout.ms`).
    pub(crate) timeout_max: Duration,
    /// How long an id is kept that nobody uses (`transactional.id.expiration.ms`).
    pub(crate) expiration: Duration,
    /// How long after the end of a transaction its markers are written. Until then the next one cannot begin.
    pub(crate) marker_delay: Duration,
    /// How long a new coordinator of an id is loading.
    pub(crate) load_time: Duration,
}

impl Default for TransactionSettings {
    fn default() -> Self {
        Self {
            version: VERSION_MAX,
            timeout_max: Duration::from_secs(15 * 60),
            expiration: Duration::from_secs(7 * 24 * 60 * 60),
            marker_delay: Duration::ZERO,
            load_time: Duration::ZERO,
        }
    }
}

/// The newest `transaction.version`, under which each end of a transaction raises its producer's epoch.
pub(crate) const VERSION_MAX: i16 = 2;

/// The topic in which Kafka keeps offsets. A transaction that commits offsets has one of its partitions.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// How often the coordinator looks for ids that nobody uses (Kafka's
/// `transaction.remove.expired.transaction.cleanup.interval.ms`).
const EXPIRE_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// How soon a marker is tried again whose partition has no leader.
const MARKER_RETRY: Duration = Duration::from_millis(100);

/// The most bytes of all ids and the partitions of their transactions. Any client can make ids by naming them.
const BYTES_MAX: usize = 64 << 20;
/// What an id takes beside its text.
const PLACE: usize = 512;

/// All transactional ids of the cluster.
#[derive(Debug)]
pub(crate) struct Transactions {
    by_id: BTreeMap<Str, Transaction>,
    queue: Queue<Due>,
    /// The ids whose markers are being written.
    writing: BTreeSet<Str>,
    /// The ids whose coordinator is loading, and until when.
    loading: BTreeMap<Str, Instant>,
    journal: Journal<Record>,
    settings: TransactionSettings,
    /// The feature `transaction.version` that is finalized, and the number of its changes.
    version: (i16, i64),
    /// Grows with every move and every start. A partition refuses markers of an older coordinator.
    coordinator_epoch: i32,
    /// At most this much is taken. What is gone is still counted until all is counted again.
    bytes: usize,
    now: Option<Now>,
}

/// Work that is due at some time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// The markers of an id's transaction are to be written.
    Markers(Str),
    /// The time of an id's transaction is over.
    Timeout(Str),
    /// Ids expire.
    Expire,
}

/// The markers that end a transaction, to be written and then [finished](Transactions::finish).
#[derive(Debug)]
pub(crate) struct Job {
    id: Str,
    pub(crate) marker: Marker,
    pub(crate) partitions: Partitions,
}

impl Transactions {
    /// The ids that the journal has.
    pub(crate) fn open(settings: TransactionSettings, mut journal: Journal<Record>) -> Self {
        let records = journal.take_loaded();
        let mut transactions = Self {
            by_id: BTreeMap::new(),
            queue: Queue::default(),
            writing: BTreeSet::new(),
            loading: BTreeMap::new(),
            journal,
            version: (settings.version, 0),
            settings,
            coordinator_epoch: -1,
            bytes: 0,
            now: None,
        };
        for record in records {
            match record {
                Record::Coordinator { epoch } => transactions.coordinator_epoch = epoch,
                Record::Id { id, value: Some(value) } => {
                    transactions.by_id.insert(id, value);
                }
                Record::Id { id, value: None } => {
                    transactions.by_id.remove(&id);
                }
            }
        }
        transactions.raise_coordinator_epoch();
        transactions
    }

    fn raise_coordinator_epoch(&mut self) {
        self.coordinator_epoch += 1;
        // If the disk fails, the next start has the same epoch, which only lets more markers pass.
        self.journal.append(&[Record::Coordinator { epoch: self.coordinator_epoch }]);
    }

    /// Follows other settings from now on.
    pub(crate) fn configure(&mut self, settings: TransactionSettings) {
        self.settings = settings;
    }

    /// The feature `transaction.version` that is finalized, and the number of its changes.
    pub(crate) fn version(&self) -> (i16, i64) {
        self.version
    }

    /// Finalizes another `transaction.version`.
    pub(crate) fn set_version(&mut self, version: i16) {
        self.version = (version, self.version.1 + 1);
    }

    /// Whether the coordinator itself raises epochs by the rules of KIP-890.
    fn raises_epoch(&self) -> bool {
        self.version.0 >= VERSION_MAX
    }

    /// Learns the time. The first time goes on with the transactions that were read from the journal.
    pub(crate) fn pass(&mut self, now: Now) {
        if self.now.replace(now).is_none() {
            self.queue.set(Due::Expire, now.instant + EXPIRE_INTERVAL);
            for id in self.by_id.keys().cloned().collect::<Vec<_>>() {
                self.schedule(&id, now);
            }
        }
    }

    /// Sets the timers that an id needs in its state.
    fn schedule(&mut self, id: &Str, now: Now) {
        let Some(transaction) = self.by_id.get(id) else { return };
        if let Some(deadline_ms) = transaction.deadline_ms() {
            let left = Duration::from_millis(deadline_ms.saturating_sub(now.unix_ms).max(0) as u64);
            self.queue.set(Due::Timeout(id.clone()), now.instant + left);
        } else {
            self.queue.cancel(&Due::Timeout(id.clone()));
        }
        if transaction.state.is_ending().is_some() && !self.writing.contains(id) {
            self.queue.set(Due::Markers(id.clone()), now.instant + self.settings.marker_delay);
        }
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Transaction> {
        self.by_id.get(id)
    }

    /// All ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Str, &Transaction)> {
        self.by_id.iter()
    }

    /// Whether a timeout is one that a producer may have.
    pub(crate) fn allows_timeout(&self, timeout_ms: i32) -> bool {
        timeout_ms > 0 && timeout_ms as u128 <= self.settings.timeout_max.as_millis()
    }

    /// Whether an id's coordinator has moved so recently that it is loading.
    pub(crate) fn is_loading(&self, id: &str, now: Now) -> bool {
        self.loading.get(id).is_some_and(|&until| now.instant < until)
    }

    /// These ids have another coordinator now. It goes on with what is in the journal, which is what there is here.
    pub(crate) fn moved(&mut self, ids: &[Str]) {
        let Some(now) = self.now else { return };
        self.raise_coordinator_epoch();
        self.loading.retain(|_, until| now.instant < *until);
        if self.settings.load_time > Duration::ZERO {
            let until = now.instant + self.settings.load_time;
            self.loading.extend(ids.iter().map(|id| (id.clone(), until)));
        }
    }

    /// InitProducerId: the next epoch of an id's producer, and no other may go on. A transaction that is open is aborted first.
    pub(crate) fn init(&mut self, id: &str, init: &Init, now: Now) -> Result<Identity, Refusal> {
        let Some((known, transaction)) = self.by_id.get_key_value(id) else {
            let producer_id = init.fresh.ok_or(Refusal::NeedsProducerId)?;
            let first = Transaction::new(producer_id, init.timeout_ms, now.unix_ms);
            let Some(made) = first.init(init, now.unix_ms)? else {
                return Err(ErrorCode::UNKNOWN_SERVER_ERROR.into());
            };
            return self.write(&Str::from(id), made, now).map(|made| made.identity);
        };
        let known = known.clone();
        match transaction.init(init, now.unix_ms)? {
            Some(next) => self.write(&known, next, now).map(|next| next.identity),
            None => {
                let fenced = transaction.fenced(self.raises_epoch(), now.unix_ms);
                self.write(&known, fenced, now)?;
                Err(ErrorCode::CONCURRENT_TRANSACTIONS.into())
            }
        }
    }

    /// Adds partitions to an id's transaction, which begins if none is open.
    pub(crate) fn add<'a>(
        &mut self,
        id: &str,
        identity: Identity,
        partitions: impl Iterator<Item = (&'a str, i32)> + Clone,
        now: Now,
    ) -> Result<(), ErrorCode> {
        let (known, transaction) =
            self.by_id.get_key_value(id).ok_or(ErrorCode::INVALID_PRODUCER_ID_MAPPING)?;
        transaction.check_add(identity)?;
        if transaction.state == State::Ongoing
            && partitions.clone().all(|(topic, partition)| transaction.has(topic, partition))
        {
            return Ok(());
        }
        let next = transaction.with(partitions, now.unix_ms);
        let known = known.clone();
        self.write(&known, next, now).map(drop).map_err(code)
    }

    /// Whether a partition is in an id's transaction: the code of a client that may not know better ones is for the caller to
    /// choose.
    pub(crate) fn verify(
        &self,
        id: &str,
        identity: Identity,
        topic: &str,
        partition: i32,
    ) -> Result<(), ErrorCode> {
        let transaction = self.get(id).ok_or(ErrorCode::INVALID_PRODUCER_ID_MAPPING)?;
        transaction.check_add(identity)?;
        if transaction.has(topic, partition) { Ok(()) } else { Err(ErrorCode::TRANSACTION_ABORTABLE) }
    }

    /// EndTxn. Returns the identity of the next transaction.
    pub(crate) fn end(&mut self, id: &str, end: &End, now: Now) -> Result<Identity, Refusal> {
        let (known, transaction) =
            self.by_id.get_key_value(id).ok_or(ErrorCode::INVALID_PRODUCER_ID_MAPPING)?;
        match transaction.end(end, now.unix_ms)? {
            Next::Same => Ok(transaction.identity),
            Next::Changed(next) => {
                let known = known.clone();
                self.write(&known, *next, now).map(Transaction::next_identity)
            }
        }
    }

    /// Writes what an id is now, and sets its timers.
    fn write(&mut self, id: &Str, next: Transaction, now: Now) -> Result<&Transaction, Refusal> {
        if !self.take_room(PLACE + id.len() + next.bytes()) {
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE.into());
        }
        if !self.journal.append(&[Record::Id { id: id.clone(), value: Some(next.clone()) }]) {
            return Err(ErrorCode::NOT_COORDINATOR.into());
        }
        self.by_id.insert(id.clone(), next);
        self.schedule(id, now);
        Ok(&self.by_id[id])
    }

    /// Takes room for what an id is now. False if there is none.
    fn take_room(&mut self, bytes: usize) -> bool {
        if self.bytes.saturating_add(bytes) > BYTES_MAX {
            let all = self.by_id.iter();
            self.bytes = all.map(|(id, transaction)| PLACE + id.len() + transaction.bytes()).sum();
        }
        let is_there = self.bytes.saturating_add(bytes) <= BYTES_MAX;
        if is_there {
            self.bytes += bytes;
        } else {
            tracing::warn!("transactional ids take {} bytes, and there is no room for more", self.bytes);
        }
        is_there
    }

    /// The next markers that are to be written. All other work that is due is done.
    pub(crate) fn next_job(&mut self, now: Now) -> Option<Job> {
        while let Some(due) = self.queue.take_due(now.instant) {
            match due {
                Due::Markers(id) => {
                    if let Some(job) = self.job(&id) {
                        self.writing.insert(id);
                        return Some(job);
                    }
                }
                Due::Timeout(id) => self.time_out(&id, now),
                Due::Expire => {
                    self.expire(now);
                    self.queue.set(Due::Expire, now.instant + EXPIRE_INTERVAL);
                }
            }
        }
        None
    }

    fn job(&self, id: &Str) -> Option<Job> {
        let transaction = self.by_id.get(id)?;
        let is_commit = transaction.state.is_ending()?;
        let marker = Marker {
            producer_id: transaction.identity.producer_id,
            producer_epoch: transaction.identity.epoch,
            coordinator_epoch: self.coordinator_epoch,
            is_commit,
            raises_epoch: transaction.raises_epoch,
        };
        Some(Job { id: id.clone(), marker, partitions: transaction.partitions.clone() })
    }

    /// The markers of a job are written, except for `missing` partitions: those have no leader.
    pub(crate) fn finish(&mut self, job: &Job, missing: Partitions, now: Now) {
        self.writing.remove(&job.id);
        let Some(transaction) = self.by_id.get_mut(&job.id) else { return };
        if missing.is_empty() {
            let completed = transaction.completed(now.unix_ms);
            if self.write(&job.id, completed, now).is_ok() {
                return;
            }
        } else {
            transaction.partitions = missing;
        }
        self.queue.set(Due::Markers(job.id.clone()), now.instant + MARKER_RETRY);
    }

    fn time_out(&mut self, id: &Str, now: Now) {
        let Some(transaction) = self.by_id.get(id).filter(|found| found.deadline_ms().is_some()) else {
            return;
        };
        tracing::debug!(transactional_id = %id, "the time of a transaction is over");
        let fenced = transaction.fenced(self.raises_epoch(), now.unix_ms);
        if self.write(id, fenced, now).is_err() {
            self.queue.set(Due::Timeout(id.clone()), now.instant + MARKER_RETRY);
        }
    }

    /// Ids end that nobody has used for long.
    fn expire(&mut self, now: Now) {
        let expiration = self.settings.expiration.as_millis() as i64;
        let is_old = |transaction: &Transaction| {
            transaction.is_idle() && now.unix_ms.saturating_sub(transaction.updated_ms) >= expiration
        };
        let old = self.by_id.iter().filter(|(_, transaction)| is_old(transaction));
        let ids: Vec<Str> = old.map(|(id, _)| copied(id)).collect();
        let records: Vec<Record> = ids.iter().map(|id| Record::Id { id: id.clone(), value: None }).collect();
        if self.journal.append(&records) {
            ids.iter().for_each(|id| drop(self.by_id.remove(id)));
        }
    }

    /// Makes the journal durable.
    pub(crate) fn flush(&self) -> Result<(), crate::error::Error> {
        self.journal.flush()
    }
}

impl Timed for Transactions {
    const TIMER: Timer = Timer::Transactions;

    fn settle(&mut self) -> Option<Instant> {
        if self.journal.is_bloated() {
            let record =
                |(id, value): (&Str, &Transaction)| Record::Id { id: id.clone(), value: Some(value.clone()) };
            let mut records = vec![Record::Coordinator { epoch: self.coordinator_epoch }];
            records.extend(self.by_id.iter().map(record));
            self.journal.replace(&records);
        }
        self.queue.earliest()
    }
}

/// The code of a refusal that cannot ask for a producer id.
fn code(refusal: Refusal) -> ErrorCode {
    match refusal {
        Refusal::Code(code) => code,
        Refusal::NeedsProducerId => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}
