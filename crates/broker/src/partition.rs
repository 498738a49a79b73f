//! One partition: its leader, its log, its idempotent and transactional producers, and the fetches that wait for it.
//!
//! ```text
//!  Produce ─▶ append: sequence check ─▶ log ─▶ producers, waiters
//!  marker  ─▶ end_transaction: epoch check ─▶ log ─▶ producers, aborted transactions, last stable offset, waiters
//!  Fetch   ─▶ read:   leader, epoch and offset checks ─▶ batches
//! ```
//!
//! All nodes live in one process, so all replicas of a partition are the same log: replication is instant, and moving
//! the leader only changes a number. It must not know requests or sockets.
//!
//! Three offsets are kept apart, and one function moves each of them:
//!
//! ```text
//!  log start ─── last stable offset ─── high watermark ─── log end      the next record's offset (append)
//!                       │                     └─ records before it are on all replicas in sync (replicate)
//!                       └─ no transaction is open before it (settle)
//! ```

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use milena_messages::ErrorCode;
use milena_wire::batch::{
    BatchHeader, BatchMut, Batches, ControlRecord, HEADER_BYTES, RawBatch, end_transaction as marker_batch,
};
use milena_wire::codec::Decompressor;
use milena_wire::pool::Pool;
use milena_wire::{DecodeError, Limits};

use crate::aborted::{Aborted, AbortedTransactions};
use crate::check::Checked;
use crate::configs::TopicRules;
use crate::epochs::Epochs;
use crate::error::Error;
use crate::log::{self, Compaction, Dirty, Entry, Log, OpenError, Terms, checkpoint};
use crate::producers::{Described, Marker, Producers, Refused, Stamp, Verdict, Verified};
use crate::waiter::{Waiter, Waiters};

/// A partition, shared by the nodes of the cluster.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) index: i32,
    state: Mutex<PartitionState>,
}

/// The leader and the replicas of a partition. `leader` is `None` while all its replicas are down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placement {
    pub(crate) leader: Option<i32>,
    pub(crate) leader_epoch: i32,
    pub(crate) replicas: Vec<i32>,
    pub(crate) isr: Vec<i32>,
}

/// Everything about a partition that changes.
#[derive(Debug)]
pub(crate) struct PartitionState {
    placement: Placement,
    log: Log,
    epochs: Epochs,
    history: History,
    /// Consumers read records before this offset only.
    high_watermark: i64,
    /// Consumers with `isolation.level=read_committed` read records before this offset only.
    last_stable_offset: i64,
    waiters: Waiters,
    /// Grows with every change that a parked fetch must look at.
    changes: u64,
    is_deleted: bool,
}

/// What the batches of the log say of its producers and their transactions.
#[derive(Debug, Default)]
struct History {
    producers: Producers,
    aborted: AbortedTransactions,
}

/// Which records a consumer may read (`isolation.level`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isolation {
    ReadUncommitted,
    ReadCommitted,
}

/// The place of a batch in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) base_offset: i64,
    /// In milliseconds since 1970; −1 unless the topic's timestamps are those of the append.
    pub(crate) append_time: i64,
}

/// Why a partition does not serve a request.
pub(crate) type Denied = ErrorCode;

impl Partition {
    /// A new partition whose log is in memory.
    pub(crate) fn in_memory(index: i32, placement: Placement) -> Self {
        Self::new(index, placement, Log::in_memory(), Epochs::default(), History::default())
    }

    /// A new partition whose log is created in `dir`.
    pub(crate) fn create(index: i32, placement: Placement, dir: &Path) -> io::Result<Self> {
        Ok(Self::new(index, placement, Log::create(dir)?, Epochs::default(), History::default()))
    }

    /// A partition recovered from `dir`; see [`Log::open`].
    ///
    /// A new leader epoch begins, as it does when a Kafka broker restarts. A power cut may have taken records from the
    /// log's end, and other records at their offsets must not have the same epoch (KIP-320).
    pub(crate) fn open(
        index: i32,
        mut placement: Placement,
        dir: &Path,
        recovery_point: i64,
    ) -> Result<Self, OpenError> {
        let (mut epochs, mut history) = (Epochs::default(), History::default());
        let log = Log::open(dir, recovery_point, &mut |header, bytes| {
            if let Some(epoch) = header.partition_leader_epoch {
                epochs.begin(epoch, header.base_offset);
            }
            history.replay(header, bytes);
        })?;
        history.aborted.start_at(log.start());
        // An epoch may have written nothing, and compaction may have removed all that it wrote. Then no batch has it,
        // and only the file knows it.
        let mut all = checkpoint::read_epochs(dir);
        all.retain(|&(_, start)| start <= log.end());
        all.extend(epochs.entries());
        let mut epochs = Epochs::merged(all);
        epochs.start_at(log.start());
        placement.leader_epoch += 1;
        Ok(Self::new(index, placement, log, epochs, history))
    }

    fn new(index: i32, placement: Placement, log: Log, epochs: Epochs, history: History) -> Self {
        let mut state = PartitionState {
            placement,
            log,
            epochs,
            history,
            high_watermark: 0,
            last_stable_offset: 0,
            waiters: Waiters::default(),
            changes: 0,
            is_deleted: false,
        };
        state.begin_epoch();
        state.replicate();
        Self { index, state: Mutex::new(state) }
    }

    /// Locks the state. If a thread panicked under the lock the state is whole all the same, because every function
    /// here changes it after the steps that can fail.
    pub(crate) fn lock(&self) -> MutexGuard<'_, PartitionState> {
        crate::lock(&self.state)
    }
}

impl PartitionState {
    pub(crate) fn placement(&self) -> &Placement {
        &self.placement
    }

    pub(crate) fn log_start(&self) -> i64 {
        self.log.start()
    }

    /// The offset that the next record will get.
    pub(crate) fn log_end(&self) -> i64 {
        self.log.end()
    }

    pub(crate) fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    pub(crate) fn last_stable_offset(&self) -> i64 {
        self.last_stable_offset
    }

    /// The first offset that a consumer of this isolation may not read.
    pub(crate) fn readable_end(&self, isolation: Isolation) -> i64 {
        match isolation {
            Isolation::ReadUncommitted => self.high_watermark,
            Isolation::ReadCommitted => self.last_stable_offset,
        }
    }

    pub(crate) fn log_bytes(&self) -> u64 {
        self.log.bytes()
    }

    pub(crate) fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether `node` may serve a request whose client believes that the leader epoch is `current_epoch` (KIP-320).
    pub(crate) fn check_leader(&self, node: i32, current_epoch: Option<i32>) -> Result<(), Denied> {
        let epoch = self.placement.leader_epoch;
        match current_epoch {
            _ if self.is_deleted => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            Some(current) if current < epoch => Err(ErrorCode::FENCED_LEADER_EPOCH),
            Some(current) if current > epoch => Err(ErrorCode::UNKNOWN_LEADER_EPOCH),
            _ if self.placement.leader != Some(node) => Err(ErrorCode::NOT_LEADER_OR_FOLLOWER),
            _ => Ok(()),
        }
    }

    /// Whether `node` may answer a consumer's fetch from a replica of its own (KIP-392), as
    /// [`check_leader`](Self::check_leader).
    pub(crate) fn check_replica(&self, node: i32, current_epoch: Option<i32>) -> Result<(), Denied> {
        match self.check_leader(node, current_epoch) {
            Err(ErrorCode::NOT_LEADER_OR_FOLLOWER) if self.placement.isr.contains(&node) => Ok(()),
            checked => checked,
        }
    }

    /// Whether `node` has a replica, whatever its state is.
    pub(crate) fn check_held(&self, node: i32) -> Result<(), Denied> {
        match self.is_deleted {
            true => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            false if !self.placement.replicas.contains(&node) => Err(ErrorCode::NOT_LEADER_OR_FOLLOWER),
            false => Ok(()),
        }
    }

    /// The replica that its leader `node` names to a consumer as nearer, if there is one with the offset (KIP-392). `near`
    /// has the nodes in the consumer's rack.
    pub(crate) fn nearer_replica(&self, node: i32, near: &[i32], offset: i64) -> Option<i32> {
        let has_offset = (self.log.start()..=self.log.end()).contains(&offset);
        if self.placement.leader != Some(node) || near.contains(&node) || !has_offset {
            return None;
        }
        self.placement.isr.iter().copied().find(|replica| near.contains(replica))
    }

    /// Whether `count` replicas are in sync, or all of them if there are fewer than `count`.
    pub(crate) fn has_in_sync(&self, count: usize) -> bool {
        self.placement.isr.len() >= count.min(self.placement.replicas.len())
    }

    /// Whether the coordinator must be asked for a batch before it is appended: see [`Producers::begin_verification`].
    pub(crate) fn begin_verification(&mut self, stamp: &Stamp, raises_epoch: bool) -> Option<Verified> {
        self.history.producers.begin_verification(stamp, raises_epoch)
    }

    /// Appends a batch at `now_ms`, unless its producer's sequence or transaction says otherwise.
    pub(crate) fn append(
        &mut self,
        batch: &Checked<'_>,
        verified: Option<Verified>,
        rules: &TopicRules,
        now_ms: i64,
    ) -> Result<Appended, Denied> {
        if let Some(stamp) = batch.stamp() {
            match self.history.producers.check(stamp, verified) {
                Ok(Verdict::Fresh) => {}
                // Kafka answers the greatest timestamp of the stored batch here, even when its producer set it.
                Ok(Verdict::Duplicate { base_offset, max_timestamp }) => {
                    return Ok(Appended { base_offset, append_time: max_timestamp });
                }
                Err(refused) => return Err(refused.code()),
            }
        }
        let append_time = rules.stamps_append_time.then_some(now_ms);
        let entry = batch.entry(self.log.end(), self.placement.leader_epoch, append_time);
        self.log.append(&entry, rules.roll(), now_ms).map_err(|error| storage_error(&self.log, &error))?;
        let base_offset = entry.header.base_offset;
        let append_time = append_time.unwrap_or(-1);
        if let Some(stamp) = batch.stamp() {
            self.history.producers.record(stamp, base_offset, entry.header.max_timestamp);
        }
        self.replicate();
        self.changes += 1;
        self.waiters.appended(batch.bytes());
        Ok(Appended { base_offset, append_time })
    }

    /// Appends the marker that ends a producer's transaction, at `now_ms`.
    pub(crate) fn end_transaction(
        &mut self,
        marker: &Marker,
        rules: &TopicRules,
        now_ms: i64,
    ) -> Result<(), Denied> {
        self.history.producers.check_marker(marker).map_err(Refused::code)?;
        let offset = self.log.end();
        let batch = stored_marker(marker, offset, self.placement.leader_epoch, now_ms);
        let header = BatchHeader::parse(&batch).expect("it was just made");
        let (head, records) = batch.split_first_chunk::<HEADER_BYTES>().expect("a batch has a header");
        let entry = Entry { header, head: *head, records };
        self.log.append(&entry, rules.roll(), now_ms).map_err(|error| storage_error(&self.log, &error))?;
        let stable = self.last_stable_offset;
        self.history.end(marker, offset, now_ms);
        self.replicate();
        self.changes += 1;
        self.waiters.appended(batch.len());
        if self.last_stable_offset > stable + 1 {
            // More can be read now than these few bytes.
            self.waiters.wake_all();
        }
        Ok(())
    }

    /// The producers that are remembered.
    pub(crate) fn describe_producers(&self) -> impl Iterator<Item = Described> {
        self.history.producers.describe()
    }

    /// The aborted transactions that have records among those from `offset` on before `end`.
    pub(crate) fn aborted(&self, offset: i64, end: i64) -> impl Iterator<Item = &Aborted> {
        self.history.aborted.between(offset, end)
    }

    /// Batches from `offset` on that a consumer of this isolation may read; see [`Log::read`]. Empty from the end of
    /// these batches to the log's end.
    pub(crate) fn read(
        &mut self,
        offset: i64,
        isolation: Isolation,
        bytes_max: usize,
        at_least_one: bool,
    ) -> Result<Bytes, Denied> {
        if offset < self.log.start() || offset > self.log.end() {
            return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
        }
        let end = self.readable_end(isolation);
        if offset >= end {
            return Ok(Bytes::new());
        }
        let read = self.log.read(offset, bytes_max, at_least_one);
        let read = read.map_err(|error| storage_error(&self.log, &error))?;
        Ok(if end < self.log.end() { log::batches_before(&read, end) } else { read })
    }

    /// The first batch that has `offset` or a later one, and whose greatest timestamp is at least `timestamp`.
    pub(crate) fn batch_by_time(&mut self, timestamp: i64, offset: i64) -> Result<Option<Bytes>, Denied> {
        self.log.batch_by_time(timestamp, offset).map_err(|error| storage_error(&self.log, &error))
    }

    /// The greatest timestamp of any record.
    pub(crate) fn max_timestamp(&self) -> Option<i64> {
        self.log.max_timestamp()
    }

    /// Forgets the producers whose newest batch is too old.
    pub(crate) fn expire_producers(&mut self, now_ms: i64) {
        self.history.producers.expire(now_ms);
    }

    /// Tells `waiter` of every change from now on.
    pub(crate) fn add_waiter(&mut self, waiter: &Arc<Waiter>) {
        self.waiters.add(waiter);
    }

    /// Makes `leader` the leader in a new epoch, with the replicas `isr` in sync.
    pub(crate) fn lead(&mut self, leader: Option<i32>, isr: Vec<i32>) {
        self.placement.leader = leader;
        self.placement.isr = isr;
        self.placement.leader_epoch += 1;
        self.begin_epoch();
        self.changes += 1;
        self.waiters.wake_all();
    }

    /// The records from `end` on are lost. `end` is moved back to the start of its batch.
    pub(crate) fn cut_off(&mut self, end: i64) -> Result<(), Error> {
        if self.log.dir().is_some() {
            return Err(Error::refused("only logs in memory can be cut off"));
        }
        let (start, log_end) = (self.log.start(), self.log.end());
        if !(start..=log_end).contains(&end) {
            return Err(Error::refused(format!("the log has the offsets from {start} to {log_end}")));
        }
        let failed = |error| Error::refused(format!("the log cannot be cut off: {error}"));
        self.log.cut_off(end, self.log.max_timestamp().unwrap_or(0)).map_err(failed)?;
        self.epochs.cut_off(self.log.end());
        // What the producers wrote last is gone, too.
        self.history = History::default();
        let mut at = start;
        loop {
            let read = self.log.read(at, usize::MAX, true).map_err(failed)?;
            let before = at;
            for batch in Batches::new(read).filter_map(Result::ok) {
                self.history.replay(&batch.header, batch.bytes());
                at = batch.header.next_offset();
            }
            if at == before {
                break;
            }
        }
        self.replicate();
        Ok(())
    }

    /// Changes which replicas are in sync, under the same leader.
    pub(crate) fn set_isr(&mut self, isr: Vec<i32>) {
        self.placement.isr = isr;
    }

    /// The topic was deleted: from now on every request is denied.
    pub(crate) fn delete(&mut self) {
        self.is_deleted = true;
        self.changes += 1;
        self.waiters.wake_all();
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.is_deleted
    }

    /// Makes everything durable. Returns the log's end, which is the new recovery point, when the log is on disk.
    pub(crate) fn flush(&mut self) -> io::Result<Option<i64>> {
        self.log.flush()?;
        Ok(self.log.dir().map(|_| self.log.end()))
    }

    /// Removes the segments that the topic's retention does not keep at `now_ms`.
    pub(crate) fn retain(&mut self, rules: &TopicRules, now_ms: i64) {
        let retained = self.log.retain(rules.retention(), now_ms);
        match retained {
            Ok(false) => {}
            Ok(true) => self.note_start(),
            Err(error) => drop(storage_error(&self.log, &error)),
        }
    }

    /// The part of the log that is to be compacted at `now_ms`, if enough of it is dirty, and what is known of its batches.
    pub(crate) fn dirty(&self, rules: &Compaction, now_ms: i64) -> Option<(Dirty, Terms)> {
        let dirty = self.log.dirty(rules, self.last_stable_offset, now_ms)?;
        let terms = Terms {
            end: dirty.end,
            producers: self.history.producers.remembered(),
            aborted: self.history.aborted.clone(),
            now_ms,
            tombstone_ms: rules.tombstone_ms,
        };
        Some((dirty, terms))
    }

    /// Of the aborted transactions with markers at these ascending offsets no record is left.
    pub(crate) fn forget_aborted(&mut self, markers: &[i64]) {
        self.history.aborted.forget(markers);
    }

    /// The log, for its compaction: that changes nothing but which of the records before the last stable offset are
    /// there.
    pub(crate) fn log(&mut self) -> &mut Log {
        &mut self.log
    }

    /// Has the log start at `offset`, or at the high watermark. Returns where it starts.
    pub(crate) fn delete_to(&mut self, offset: Option<i64>) -> Result<i64, Denied> {
        let offset = offset.unwrap_or(self.high_watermark);
        if !(0..=self.high_watermark).contains(&offset) {
            return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
        }
        if self.log.delete_to(offset).map_err(|error| storage_error(&self.log, &error))? {
            self.note_start();
        }
        Ok(self.log.start())
    }

    /// Moves the high watermark to the log's end: all replicas in sync are this log.
    fn replicate(&mut self) {
        self.high_watermark = self.log.end();
        self.settle();
    }

    /// Moves the last stable offset to the first record of the earliest transaction that is open, or to the high watermark.
    fn settle(&mut self) {
        let first_open = self.history.producers.first_open().unwrap_or(i64::MAX);
        // The beginning of a transaction may have been deleted.
        self.last_stable_offset = first_open.max(self.log.start()).min(self.high_watermark);
    }

    fn begin_epoch(&mut self) {
        if self.epochs.begin(self.placement.leader_epoch, self.log.end()) {
            self.save_epochs();
        }
    }

    /// The log starts later now.
    fn note_start(&mut self) {
        if self.epochs.start_at(self.log.start()) {
            self.save_epochs();
        }
        self.history.aborted.start_at(self.log.start());
        self.settle();
    }

    fn save_epochs(&self) {
        let Some(dir) = self.log.dir() else { return };
        if let Err(error) = checkpoint::write_epochs(dir, self.epochs.entries()) {
            // The broker can go on: recovery finds the epochs in the batches, too.
            tracing::warn!(dir = %dir.display(), %error, "cannot write the leader epoch checkpoint");
        }
    }
}

impl History {
    /// Takes over what a batch of the log says. `bytes` has all of it if it is a control batch.
    fn replay(&mut self, header: &BatchHeader, bytes: &[u8]) {
        if let Some(stamp) = Stamp::of(header) {
            self.producers.record(&stamp, header.base_offset, header.max_timestamp);
        } else if header.is_control() {
            match read_marker(header, bytes) {
                Ok(Some(marker)) => self.end(&marker, header.base_offset, header.max_timestamp),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(offset = header.base_offset, %error, "cannot read a control batch");
                }
            }
        }
    }

    /// A marker is in the log now.
    fn end(&mut self, marker: &Marker, offset: i64, timestamp: i64) {
        let Some(ended) = self.producers.end(marker, offset, timestamp) else { return };
        if !marker.is_commit {
            self.aborted.add(Aborted {
                producer_id: marker.producer_id,
                first_offset: ended.first_offset,
                last_offset: offset,
                stable: self.producers.first_open().unwrap_or(offset + 1),
            });
        }
    }
}

/// The control batch for a marker, as it is stored.
fn stored_marker(marker: &Marker, offset: i64, leader_epoch: i32, now_ms: i64) -> Vec<u8> {
    let coordinator_epoch = marker.coordinator_epoch;
    let record = match marker.is_commit {
        true => ControlRecord::Commit { coordinator_epoch },
        false => ControlRecord::Abort { coordinator_epoch },
    };
    let sealed = marker_batch(&Pool::default(), record, now_ms, marker.producer_id, marker.producer_epoch);
    let mut bytes = sealed.into_bytes().to_vec();
    let mut batch = BatchMut::new(&mut bytes).expect("it was just made");
    batch.set_base_offset(offset);
    batch.set_partition_leader_epoch(leader_epoch);
    bytes
}

/// The marker in a control batch; `None` if it is empty or has another control record.
fn read_marker(header: &BatchHeader, bytes: &[u8]) -> Result<Option<Marker>, DecodeError> {
    let Some(producer) = header.producer.filter(|_| header.record_count > 0) else { return Ok(None) };
    let raw = RawBatch::parse(&Bytes::copy_from_slice(bytes))?;
    let batch = raw.decompress(&mut Decompressor::new(), &Pool::default(), &Limits::default())?;
    let Some(record) = batch.records().next() else { return Ok(None) };
    let (coordinator_epoch, is_commit) = match ControlRecord::parse(&record.map_err(|error| error.error)?)? {
        ControlRecord::Commit { coordinator_epoch } => (coordinator_epoch, true),
        ControlRecord::Abort { coordinator_epoch } => (coordinator_epoch, false),
        _ => return Ok(None),
    };
    let (producer_id, producer_epoch) = (producer.producer_id, producer.producer_epoch);
    Ok(Some(Marker { producer_id, producer_epoch, coordinator_epoch, is_commit, raises_epoch: false }))
}

impl Isolation {
    /// From the field of a request: 1 is read committed.
    pub(crate) fn of(level: i8) -> Self {
        if level == 1 { Self::ReadCommitted } else { Self::ReadUncommitted }
    }
}

#[cold]
fn storage_error(log: &Log, error: &io::Error) -> ErrorCode {
    let dir = log.dir().unwrap_or(Path::new("memory")).display();
    tracing::error!("storage failed in {dir}: {error}");
    ErrorCode::KAFKA_STORAGE_ERROR
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::testing::{batch, entry};

    /// A partition of three batches of ten records. Consumers may read two of them, and one when they read committed.
    fn partition() -> Partition {
        let placement = Placement { leader: Some(1), leader_epoch: 0, replicas: vec![1], isr: vec![1] };
        let partition = Partition::in_memory(0, placement);
        let mut state = partition.lock();
        let roll = log::Roll { bytes_max: 1 << 20, span_max_ms: i64::MAX };
        for base_offset in [0, 10, 20] {
            state.log.append(&entry(&batch(base_offset, 10, 100, 0)), roll, 0).expect("memory does not fail");
        }
        (state.high_watermark, state.last_stable_offset) = (20, 10);
        drop(state);
        partition
    }

    #[test]
    fn consumers_read_as_far_as_their_isolation_lets_them() {
        let partition = partition();
        let mut state = partition.lock();
        let (uncommitted, committed) = (Isolation::ReadUncommitted, Isolation::ReadCommitted);
        let table = [
            (uncommitted, 0, Ok(200)),
            (uncommitted, 15, Ok(100)),
            (uncommitted, 20, Ok(0)),
            (uncommitted, 30, Ok(0)),
            (uncommitted, 31, Err(ErrorCode::OFFSET_OUT_OF_RANGE)),
            (committed, 0, Ok(100)),
            (committed, 10, Ok(0)),
            (committed, 30, Ok(0)),
            (committed, 31, Err(ErrorCode::OFFSET_OUT_OF_RANGE)),
        ];
        for (isolation, offset, expected) in table {
            let read = state.read(offset, isolation, usize::MAX, true).map(|bytes| bytes.len());
            assert_eq!(read, expected, "{isolation:?} from {offset}");
        }
    }

    #[test]
    fn all_replicas_in_sync_have_an_append_at_once() {
        let partition = partition();
        let mut state = partition.lock();
        state.replicate();
        assert_eq!((state.log_end(), state.high_watermark(), state.last_stable_offset()), (30, 30, 30));
    }
}
