//! The queues between the driver's task and the tasks that read.
//!
//! A [`Queue`] holds the batches of one partition that were fetched and not taken yet, still compressed. [`Ready`]
//! lists the partitions whose queues hold something for the consumer. The driver fills a queue, lists it, and wakes
//! the consumer's task, or only the reader of that partition if it has one of its own.
//!
//! In a group a queue also counts the batches in the application's hands, and keeps what the application has marked as
//! done until the driver takes that in.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use milena_core::group::ledger::Restored;
use milena_core::source::{Epoch, Slot};
use milena_core::{Failure, Instant, LeaderEpoch};
use milena_wire::batch::{BatchHeader, RawBatch, RecordsPlace};
use tokio::sync::Notify;

use super::batch::{Opened, begin_of};
use super::commands::{Command, Commands};
use super::gate::{Gate, Park};
use super::held::{Claim, Held, Hold, Memory};
use super::stalls::Since;
use crate::Error;
use crate::clock::Clock;

/// What was fetched of one assigned partition, and how it is read.
pub(super) struct Queue {
    /// Set once the driver has taken the partition in.
    slot: OnceLock<Slot>,
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    /// Whether the partition is paused.
    pub(super) gate: Arc<Gate>,
    /// Whether the partition is not assigned any more.
    is_over: AtomicBool,
    /// The offset up to which the partition is read, or [`FOR_EVER`].
    until: AtomicI64,
    inner: Mutex<Inner>,
    /// The batches that the application holds.
    pub(super) held: Held,
    /// How many batches the application works on: taken, and neither done nor dropped.
    in_hand: AtomicUsize,
    /// What the application has marked as done since the driver looked last, in a group. It has a lock of its own, so that
    /// a mark never waits for the driver, which holds the other one while it fills the queue.
    marks: Mutex<Marks>,
    /// Batches that end after this offset stay here.
    open_until: AtomicI64,
    /// Wakes the driver.
    driver: Arc<Notify>,
}

/// Offsets that are done, of batches that were fetched in this epoch.
pub(super) type Mark = (Epoch, Range<i64>);

/// What is marked of a partition.
enum Marks {
    /// Since the driver looked last.
    Open(Vec<Mark>),
    /// Nothing counts any more, because the partition was given up when the group had stored this offset.
    Over(Option<i64>),
}

/// In place of an offset: the partition is read for as long as it is assigned.
const FOR_EVER: i64 = i64::MAX;

/// The part of a queue that the driver fills and a reader empties. The lock is held for one batch.
pub(super) struct Inner {
    pub(super) epoch: Epoch,
    batches: VecDeque<Queued>,
    /// The memory of the batches that are here: their sizes and their places in the queue.
    bytes: usize,
    /// The most records that are taken at a time. Of a larger batch the first ones are taken, and the rest stays in front.
    records_max: i64,
    /// The next offset to read, after the last batch that was taken.
    pub(super) position: Option<i64>,
    /// The end of the partition, as its newest batch told it.
    end: Option<i64>,
    /// When the last batch was taken, and the greatest timestamp in it.
    last_taken: Option<(Instant, i64)>,
    /// Why reading stops after the batches that are here.
    stopped: Option<Error>,
    /// Whether the consumer has returned that error: it returns each partition's error once.
    is_told: bool,
    /// The epoch in which everything up to `until` was read, if it was.
    read_in: Option<Epoch>,
    /// Whether the partition is in the list of [`Ready`].
    is_listed: bool,
    /// Whether the partition's own reader has found nothing since it took the last batch.
    is_awaited: bool,
    /// Whether no batch was taken since [`compact`](Self::compact) was called last.
    is_stale: bool,
    /// Wakes the task that reads this partition alone, if there is one. It is made when the partition is taken,
    /// because most partitions never are.
    reader: Option<Arc<Notify>>,
}

impl Inner {
    /// Begins a new epoch at `position`. Answers with the batches that were fetched before, which the caller drops
    /// once the lock is free.
    fn restart(&mut self, epochs: &Epochs, position: Option<i64>) -> VecDeque<Queued> {
        // The epoch is taken under the lock, so that the later of two seeks has the later epoch.
        self.epoch = epochs.next();
        self.position = position;
        self.last_taken = None;
        self.stopped = None;
        self.is_told = false;
        self.read_in = None;
        self.bytes = 0;
        self.is_stale = false;
        std::mem::take(&mut self.batches)
    }

    /// A batch was fetched. `ahead` tells how many more come with the same answer.
    pub(super) fn push(&mut self, batch: Queued, ahead: impl FnOnce() -> usize) {
        self.bytes += batch.bytes();
        self.end = Some(batch.fetched.high_watermark);
        if self.batches.len() == self.batches.capacity() {
            // By a quarter, and not to twice the room, of which each place would be counted half.
            self.batches.reserve_exact((self.batches.len() / 4).max(1 + ahead()));
        }
        self.batches.push_back(batch);
    }

    /// Takes the batch that was fetched first, or as much of it as may be taken at a time, with the offset at which it
    /// ends then.
    fn take(&mut self) -> Option<(Queued, Option<i64>)> {
        let Some(end) = self.batches.front()?.fetched.part_end(self.records_max) else {
            return Some((self.pop()?, None));
        };
        (self.is_awaited, self.is_stale) = (false, false);
        let front = self.batches.front_mut()?;
        let part = front.clone();
        front.fetched.from = end;
        Some((part, Some(end)))
    }

    /// The rest of the batch of which a part was taken: it goes on at `from`, and its records are found at `place` of
    /// what was opened, which `frame` counts the memory of. Answers with what it was before, which the caller drops
    /// once the lock is free.
    pub(super) fn keep_rest(
        &mut self,
        opened: &Arc<Opened>,
        place: RecordsPlace,
        frame: &Arc<Memory>,
        from: i64,
    ) -> Option<(Content, Claim)> {
        let front = self.batches.front_mut()?;
        let before = front.bytes();
        let content =
            std::mem::replace(&mut front.fetched.content, Content::Opened(Arc::clone(opened), place));
        let claim = Claim::new(frame, opened.memory_bytes().saturating_sub(place.bytes()));
        let old = (content, std::mem::replace(&mut front.claim, claim));
        front.fetched.from = from;
        self.bytes = self.bytes + front.bytes() - before;
        if self.position.is_some_and(|position| position < from) {
            // No record is between the two.
            self.position = Some(from);
        }
        Some(old)
    }

    /// Takes the batch that was fetched first.
    fn pop(&mut self) -> Option<Queued> {
        let batch = self.batches.pop_front()?;
        (self.is_awaited, self.is_stale) = (false, false);
        self.bytes -= batch.bytes();
        // Thousands of small batches leave room for thousands, in each of thousands of partitions. Only places with batches in
        // them are counted.
        let (left, room) = (self.batches.len(), self.batches.capacity());
        if left == 0 && room > ROOM_KEPT || left < room / 2 && room > ROOM_KEPT_BEHIND {
            self.batches.shrink_to(left + left / 4);
        }
        Some(batch)
    }

    /// Copies batches out of responses of which less than half is still buffered or held, up to `bytes_max`: together, into
    /// memory of their own that `reserve` counts. Does so only if none of them was taken since the last call, so that a
    /// partition that is read costs no copy. Answers with the batches that were copied, which the caller drops once the lock
    /// is free.
    pub(super) fn compact(
        &mut self,
        bytes_max: usize,
        reserve: impl FnOnce(usize, Instant) -> Arc<Memory>,
    ) -> Vec<Queued> {
        if !std::mem::replace(&mut self.is_stale, true) {
            return Vec::new();
        }
        let (mut bytes, mut chosen) = (0, Vec::new());
        for (index, queued) in self.batches.iter().enumerate() {
            if let Content::Raw(batch) = &queued.fetched.content
                && queued.claim.is_of_waste()
                && bytes < bytes_max
            {
                bytes += batch.bytes().len();
                chosen.push((index, batch.bytes().clone()));
            }
        }
        if chosen.is_empty() {
            return Vec::new();
        }
        let arrived = self.batches[chosen[0].0].claim.memory().arrived();
        let memory = reserve(bytes + chosen.len() * Queued::PLACE_BYTES, arrived);
        let mut copy = Vec::with_capacity(bytes);
        chosen.iter().for_each(|(_, bytes)| copy.extend_from_slice(bytes));
        let (mut copy, mut copied) = (Bytes::from(copy), Vec::with_capacity(chosen.len()));
        for (index, bytes) in chosen {
            let queued = &mut self.batches[index];
            let batch = RawBatch::parse(&copy.split_to(bytes.len())).expect("the same bytes");
            let Fetched { from, passed, high_watermark, ref finished, .. } = queued.fetched;
            let mut moved = Queued::new(batch, from, high_watermark, &memory);
            (moved.fetched.passed, moved.fetched.finished) = (passed, finished.clone());
            copied.push(std::mem::replace(queued, moved));
        }
        copied
    }

    /// Everything up to `offset`, where the partition ends, was fetched.
    pub(super) fn note_end(&mut self, offset: i64) {
        self.end = Some(offset);
    }

    /// How many records are left to read, as far as that is known: offsets up to the end of the partition, without those of the
    /// batches that are here which have no record. And how old the next one is, in milliseconds at the time `now_ms` of day: of the
    /// batch in front if there is one, or else at most as old as the last one that was taken.
    pub(super) fn lag(&self, now_ms: i64) -> Option<(i64, i64)> {
        let (mut next, end) = (self.position?, self.end?);
        let mut records = 0;
        for Queued { fetched, .. } in &self.batches {
            let header = fetched.header();
            let offsets = (fetched.end_offset() - fetched.first_offset().max(next)).max(0);
            let is_counted = header.magic == 2;
            records += if is_counted { offsets.min(header.record_count.into()) } else { offsets };
            next = fetched.next_offset().max(next);
        }
        records += (end - next).max(0);
        let of_front = self.batches.front().map(|front| front.fetched.header().base_timestamp);
        let of_last = self.last_taken.map(|(_, timestamp)| timestamp);
        let age = of_front.or(of_last).map_or(0, |timestamp| now_ms.saturating_sub(timestamp).max(0));
        Some((records, if records > 0 { age } else { 0 }))
    }

    /// Since when the batch in front waits to be taken: since it came, or since the one before it was taken.
    pub(super) fn waiting(&self) -> Option<Since> {
        let front = self.batches.front()?;
        let arrived = front.claim.memory().arrived();
        let at = self.last_taken.map_or(arrived, |(taken, _)| taken.max(arrived));
        Some(Since { at, offset: front.fetched.first_offset() })
    }

    /// The number of records that are here, by the headers of their batches.
    pub(super) fn buffered_records(&self) -> usize {
        let records = |batch: &Queued| {
            let (header, fetched) = (batch.fetched.header(), &batch.fetched);
            // Of a batch that is taken in parts, what is left by its offsets.
            let left = usize::try_from(fetched.end_offset() - fetched.first_offset()).unwrap_or(0);
            if header.magic == 2 { left.min(header.record_count as usize) } else { left }
        };
        self.batches.iter().map(records).sum()
    }

    /// The memory of the batches that are here, in bytes, and their number.
    pub(super) fn buffered(&self) -> (usize, usize) {
        (self.bytes, self.batches.len())
    }

    /// The offsets of what is taken next, to which what follows it without a record belongs, and its leader epoch.
    pub(super) fn front(&self) -> Option<(Range<i64>, Option<LeaderEpoch>)> {
        let fetched = &self.batches.front()?.fetched;
        let leader_epoch = fetched.header().partition_leader_epoch.map(LeaderEpoch);
        Some((fetched.first_offset()..self.end_of_next(fetched), leader_epoch))
    }

    /// The position once the batch in front, or the part of it that may be taken at a time, was taken.
    fn end_of_next(&self, front: &Fetched) -> i64 {
        front.part_end(self.records_max).unwrap_or_else(|| front.next_offset())
    }

    fn wake_reader(&self) {
        if let Some(reader) = &self.reader {
            reader.notify_one();
        }
    }

    /// Reading stops after the batches that are here.
    pub(super) fn stop(&mut self, error: Error, is_told: bool) {
        self.stopped = Some(error);
        self.is_told = is_told;
    }

    /// Reading goes on at `offset` after the batches that are here.
    pub(super) fn pass(&mut self, offset: i64) {
        match self.batches.back_mut() {
            Some(last) => last.fetched.passed = Some(offset),
            None => self.position = Some(offset),
        }
    }
}

/// A queue without batches keeps room for this many.
const ROOM_KEPT: usize = 16;
/// A queue from which batches are being taken keeps room for this many.
const ROOM_KEPT_BEHIND: usize = 128;

/// A fetched batch in its queue, and the memory that it is in: the response that it is a part of, or a buffer of its own.
#[derive(Clone)]
pub(super) struct Queued {
    /// The first field: the memory is freed before `claim` gives it back to the budget.
    pub(super) fetched: Fetched,
    pub(super) claim: Claim,
}

/// A fetched batch.
#[derive(Clone)]
pub(super) struct Fetched {
    pub(super) content: Content,
    /// The offset that was asked for: earlier records of the batch are not returned.
    pub(super) from: i64,
    /// The next offset to read when control records or aborted batches follow this batch.
    pub(super) passed: Option<i64>,
    pub(super) high_watermark: i64,
    /// What an earlier owner of the partition has finished, if some of it is in this batch.
    pub(super) finished: Option<Restored>,
}

/// The records of a fetched batch.
#[derive(Clone)]
pub(super) enum Content {
    /// As they came.
    Raw(RawBatch),
    /// Checked and decompressed, because a part of them was taken. The rest begins at this place.
    Opened(Arc<Opened>, RecordsPlace),
}

impl Queued {
    /// The memory that a place in a queue takes. It is more than many small batches take themselves.
    pub(super) const PLACE_BYTES: usize = size_of::<Self>();

    /// A batch as it came, in memory that is counted by `frame`.
    pub(super) fn new(batch: RawBatch, from: i64, high_watermark: i64, frame: &Arc<Memory>) -> Self {
        let claim = Claim::new(frame, batch.bytes().len());
        let fetched =
            Fetched { content: Content::Raw(batch), from, passed: None, high_watermark, finished: None };
        Self { fetched, claim }
    }

    fn bytes(&self) -> usize {
        self.claim.bytes() + Self::PLACE_BYTES
    }
}

impl Fetched {
    pub(super) fn header(&self) -> &BatchHeader {
        match &self.content {
            Content::Raw(batch) => &batch.header,
            Content::Opened(opened, _) => opened.records.header(),
        }
    }

    /// Where the part of at most `records_max` records ends that is taken first. None if all of it is taken at once. It
    /// goes by offsets, so that the records need not be read for it.
    fn part_end(&self, records_max: i64) -> Option<i64> {
        let header = self.header();
        // Message sets of before Kafka 0.11 do not say how many records they have.
        let is_small = header.magic == 2 && i64::from(header.record_count) <= records_max;
        let end = self.first_offset().saturating_add(records_max);
        (!is_small && end < self.end_offset()).then_some(end)
    }

    /// Whether all of it up to `end` is finished.
    pub(super) fn is_finished(&self, end: i64) -> bool {
        let Some(finished) = &self.finished else { return false };
        let first = self.first_offset();
        let next = finished.partition_point(|run| run.end <= first);
        finished.get(next).is_some_and(|run| run.start <= first && end <= run.end)
    }

    /// The next offset to read after this batch.
    pub(super) fn next_offset(&self) -> i64 {
        self.passed.unwrap_or_else(|| self.end_offset())
    }

    /// The first offset that is returned of it.
    pub(super) fn first_offset(&self) -> i64 {
        begin_of(self.header(), self.from)
    }

    /// The offset after its last one.
    pub(super) fn end_offset(&self) -> i64 {
        let header = self.header();
        header.base_offset + i64::from(header.last_offset_delta) + 1
    }
}

/// The partitions whose queues hold a batch or an error for the consumer, in the order in which it takes from them.
pub(super) struct Ready {
    commands: Arc<Commands>,
    queues: Mutex<VecDeque<Arc<Queue>>>,
    /// Told when a partition was listed, or when the consumer may have nothing more to wait for.
    pub(super) arrived: Arc<Notify>,
    /// Since when readers have found nothing, in nanoseconds, or [`BUSY`].
    idle_since: AtomicU64,
    /// Whether the consumer has ever returned the error of a partition that stopped.
    has_told: AtomicBool,
    /// Whether the driver has ended, so that nothing is fetched any more.
    is_over: AtomicBool,
}

/// Gives out epochs, each of them once. A partition may get a slot that another one had, and the epoch tells that a
/// late answer was for the other one.
#[derive(Default)]
pub(super) struct Epochs(AtomicU64);

impl Epochs {
    pub(super) fn next(&self) -> Epoch {
        Epoch(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// In place of a time: a reader has something to do.
const BUSY: u64 = u64::MAX;

/// What a consumer may still get of a partition.
pub(super) enum Coming {
    Batches,
    /// No more batches: the partition has stopped, and the consumer has returned this error.
    Error(Error),
    /// No more batches: everything up to `until` was read.
    Nothing,
}

/// What a reader gets next.
#[allow(clippy::large_enum_variant, reason = "it is moved once or twice, and a box would be an allocation")]
pub(super) enum Next {
    /// A batch, or the part of it that ends at this offset.
    Batch(Hold, Epoch, Queued, Option<i64>),
    Stopped(Error),
    Nothing,
}

impl Queue {
    pub(super) fn new(
        gate: Arc<Gate>,
        epoch: Epoch,
        position: Option<i64>,
        until: Option<i64>,
        records_max: i64,
        driver: Arc<Notify>,
        held: Held,
    ) -> Self {
        let inner = Inner {
            epoch,
            batches: VecDeque::new(),
            bytes: 0,
            records_max,
            position,
            end: None,
            last_taken: None,
            stopped: None,
            is_told: false,
            read_in: None,
            is_listed: false,
            is_awaited: false,
            is_stale: false,
            reader: None,
        };
        Self {
            slot: OnceLock::new(),
            topic: Arc::clone(&gate.topic),
            partition: gate.partition,
            gate,
            is_over: AtomicBool::new(false),
            until: AtomicI64::new(until.unwrap_or(FOR_EVER)),
            inner: Mutex::new(inner),
            held,
            in_hand: AtomicUsize::new(0),
            marks: Mutex::new(Marks::Open(Vec::new())),
            open_until: AtomicI64::new(i64::MAX),
            driver,
        }
    }

    /// The application takes a batch. The caller holds the queue's lock: nothing is taken once the partition is over.
    pub(super) fn take_up(&self) {
        self.in_hand.fetch_add(1, Ordering::SeqCst);
    }

    /// The application has finished a batch. The driver is told when the last one of a partition that is being given up is
    /// finished.
    pub(super) fn put_down(&self) {
        if self.in_hand.fetch_sub(1, Ordering::SeqCst) == 1 && self.is_over() {
            self.driver.notify_one();
        }
    }

    /// Whether the application works on no batch. Once the partition [is over](Self::is_over) it stays so.
    pub(super) fn is_put_down(&self) -> bool {
        self.in_hand.load(Ordering::SeqCst) == 0
    }

    /// Marks offsets as done. Marks in order make one entry. Answers with the number of entries; none if the partition was given
    /// up before, so that the group does not hear of the mark.
    pub(super) fn mark(&self, epoch: Epoch, offsets: Range<i64>) -> Option<usize> {
        match &mut *self.marks() {
            Marks::Open(marks) => {
                match marks.last_mut() {
                    Some((of, last)) if *of == epoch && last.end == offsets.start => last.end = offsets.end,
                    _ => marks.push((epoch, offsets)),
                }
                Some(marks.len())
            }
            Marks::Over(stored) => stored.is_some_and(|stored| offsets.end <= stored).then_some(0),
        }
    }

    /// Moves what was marked to `into`, which is empty.
    pub(super) fn take_marks(&self, into: &mut Vec<Mark>) {
        if let Marks::Open(marks) = &mut *self.marks() {
            into.append(marks);
        }
    }

    /// The partition was given up, and the group has stored this offset: no mark counts any more, nor takes memory.
    pub(super) fn end_marks(&self, stored: Option<i64>) {
        *self.marks() = Marks::Over(stored);
    }

    pub(super) fn has_marks(&self) -> bool {
        matches!(&*self.marks(), Marks::Open(marks) if !marks.is_empty())
    }

    /// Hands out batches up to this offset. After it was raised the queue is [listed](Ready::list) again.
    pub(super) fn set_open_until(&self, offset: i64) {
        self.open_until.store(offset, Ordering::Relaxed);
    }

    /// Whether the next batch stays here.
    fn is_closed(&self, inner: &Inner) -> bool {
        let until = self.open_until.load(Ordering::Relaxed);
        until != i64::MAX
            && inner.batches.front().is_some_and(|next| inner.end_of_next(&next.fetched) > until)
    }

    fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn slot(&self) -> Option<Slot> {
        self.slot.get().copied()
    }

    /// The driver calls this once.
    pub(super) fn set_slot(&self, slot: Slot) {
        let _ = self.slot.set(slot);
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the partition a reader of its own, so that the consumer does not take from it any more. Answers with what
    /// wakes that reader; none if the partition has a reader already.
    pub(super) fn take(&self) -> Option<Arc<Notify>> {
        let mut inner = self.inner();
        if inner.reader.is_some() {
            return None;
        }
        inner.is_awaited = false;
        Some(Arc::clone(inner.reader.insert(Arc::default())))
    }

    pub(super) fn give_back(&self) {
        let mut inner = self.inner();
        // If the partition has stopped, only its reader has returned the error. The consumer returns it as well.
        inner.is_told = false;
        inner.reader = None;
    }

    /// The partition's own reader has found nothing. Answers whether that is the first time since it took the last batch.
    pub(super) fn note_awaited(&self) -> bool {
        !std::mem::replace(&mut self.inner().is_awaited, true)
    }

    /// Whether the partition has a reader of its own.
    pub(super) fn is_taken(&self) -> bool {
        self.inner().reader.is_some()
    }

    /// What the consumer may still get of the partition.
    pub(super) fn coming(&self) -> Coming {
        let inner = self.inner();
        match &inner.stopped {
            _ if inner.read_in.is_some() => Coming::Nothing,
            Some(error) if inner.is_told => Coming::Error(error.clone()),
            _ => Coming::Batches,
        }
    }

    /// The offset up to which the partition is read, if there is one.
    pub(super) fn until(&self) -> Option<i64> {
        Some(self.until.load(Ordering::Relaxed)).filter(|until| *until != FOR_EVER)
    }

    pub(super) fn set_until(&self, until: Option<i64>) {
        self.until.store(until.unwrap_or(FOR_EVER), Ordering::Relaxed);
    }

    /// Whether everything up to `until` was read.
    pub(super) fn is_read(&self) -> bool {
        self.inner().read_in.is_some()
    }

    /// The partition is read up to `end` if it was to be read up to `until`, which does not exist any more.
    pub(super) fn lower_until(&self, until: i64, end: i64) {
        let _ = self.until.compare_exchange(until, end, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Begins a new epoch, in which nothing more comes, if everything up to `until` has just been read.
    pub(super) fn finish_if_read(&self, epochs: &Epochs) -> Option<Epoch> {
        let until = self.until()?;
        let mut inner = self.inner();
        // A partition that has stopped was not read to its end: its position may be an offset that does not exist.
        let is_reading = inner.stopped.is_none() && inner.read_in.is_none();
        let position = inner.position.filter(|position| *position >= until && is_reading)?;
        let old = inner.epoch;
        let dropped = inner.restart(epochs, Some(position));
        inner.read_in = Some(old);
        let epoch = inner.epoch;
        inner.wake_reader();
        drop(inner);
        drop(dropped);
        Some(epoch)
    }

    /// Whether the partition is not assigned any more.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// The partition is not assigned any more. Answers with the new epoch, and with the offset after the last batch that was
    /// taken.
    pub(super) fn end(&self, epochs: &Epochs) -> (Epoch, Option<i64>) {
        let mut inner = self.inner();
        let position = inner.position;
        let dropped = inner.restart(epochs, None);
        self.is_over.store(true, Ordering::SeqCst);
        inner.wake_reader();
        let epoch = inner.epoch;
        drop(inner);
        drop(dropped);
        (epoch, position)
    }

    /// Drops the batches and stops at `offset` because of `error`, which the caller returns to the reader. Does
    /// nothing if the partition was sought since epoch `of`. Having been read to its end is not a seek: if the last
    /// batch or a record in it cannot be read, the partition was not read to its end after all.
    pub(super) fn stop(&self, epochs: &Epochs, of: Epoch, offset: i64, error: &Error) -> Option<Epoch> {
        let mut inner = self.inner();
        if inner.epoch != of && inner.read_in != Some(of) {
            return None;
        }
        let dropped = inner.restart(epochs, Some(offset));
        inner.stop(error.clone(), true);
        let epoch = inner.epoch;
        drop(inner);
        // Outside the lock, because freeing memory wakes tasks.
        drop(dropped);
        Some(epoch)
    }

    /// Drops the batches and begins a new epoch at the position, or at `offset` if the position is after it. Does nothing
    /// if the partition was sought since epoch `of`.
    pub(super) fn truncate(&self, epochs: &Epochs, of: Epoch, offset: i64) -> Option<(Epoch, i64)> {
        let mut inner = self.inner();
        if inner.epoch != of {
            return None;
        }
        let position = inner.position.map_or(offset, |position| position.min(offset));
        let dropped = inner.restart(epochs, Some(position));
        let epoch = inner.epoch;
        drop(inner);
        drop(dropped);
        Some((epoch, position))
    }

    /// Drops the batches and begins a new epoch at `position`. Answers as well whether that is not before the position.
    pub(super) fn restart(&self, epochs: &Epochs, position: Option<i64>) -> (Epoch, bool) {
        let mut inner = self.inner();
        let is_onward = inner.position.is_some_and(|before| position >= Some(before));
        let dropped = inner.restart(epochs, position);
        let epoch = inner.epoch;
        drop(inner);
        // Outside the lock, because freeing memory wakes tasks.
        drop(dropped);
        (epoch, is_onward)
    }
}

impl Ready {
    pub(super) fn new(commands: Arc<Commands>) -> Self {
        Self {
            commands,
            queues: Mutex::default(),
            arrived: Arc::default(),
            idle_since: AtomicU64::default(),
            has_told: AtomicBool::default(),
            is_over: AtomicBool::default(),
        }
    }

    /// A reader found nothing.
    pub(super) fn note_idle(&self, clock: &Clock) {
        if self.idle_since.load(Ordering::Relaxed) == BUSY {
            self.idle_since.store(clock.now().since_origin().as_nanos() as u64, Ordering::Relaxed);
        }
    }

    /// A reader has something to do.
    pub(super) fn note_busy(&self) {
        if self.idle_since.load(Ordering::Relaxed) != BUSY {
            self.idle_since.store(BUSY, Ordering::Relaxed);
        }
    }

    /// Since when readers have found nothing; [`Instant::NEVER`] while they have something to do.
    pub(super) fn idle_since(&self) -> Instant {
        Instant::after_origin(Duration::from_nanos(self.idle_since.load(Ordering::Relaxed)))
    }

    /// The consumer returns the error of a partition that stopped.
    pub(super) fn note_told(&self) {
        self.has_told.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_told_of_stops(&self) -> bool {
        self.has_told.load(Ordering::Relaxed)
    }

    /// Whether the application waits for a batch and there is none.
    pub(super) fn is_waited_for(&self) -> bool {
        self.idle_since.load(Ordering::Relaxed) != BUSY && self.queues().is_empty()
    }

    /// The driver's task has ended with its runtime, so that nothing is fetched any more: wakes every reader.
    pub(super) fn end<'a>(&self, queues: impl IntoIterator<Item = &'a Arc<Queue>>) {
        self.note_over();
        self.arrived.notify_one();
        queues.into_iter().for_each(|queue| queue.inner().wake_reader());
    }

    /// Commands that are left after this are not carried out.
    pub(super) fn note_over(&self) {
        self.is_over.store(true, Ordering::Release);
    }

    /// Whether the driver's task has ended.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Fails if the driver's task has ended.
    pub(super) fn check_driver(&self) -> Result<(), Error> {
        if !self.is_over() {
            return Ok(());
        }
        Err(Error::new("reading", Failure::Ended("the runtime that drives the consumer has ended")))
    }

    /// Lists `queue` if it holds something for the consumer and is not listed, and wakes the consumer; or wakes the
    /// reader of its own, if it has one. A partition that is paused is parked instead.
    pub(super) fn list(&self, queue: &Arc<Queue>) {
        let mut inner = queue.inner();
        let is_news = inner.stopped.is_some() && (!inner.is_told || inner.reader.is_some());
        if (inner.batches.is_empty() && !is_news) || queue.is_closed(&inner) {
            return;
        }
        if self.is_parked(queue) {
            return;
        }
        if inner.reader.is_some() {
            // The partition may still be listed from before it was taken, but its reader does not look there.
            return inner.wake_reader();
        }
        if std::mem::replace(&mut inner.is_listed, true) {
            return;
        }
        drop(inner);
        self.queues().push_back(Arc::clone(queue));
        self.arrived.notify_one();
    }

    /// Takes the next batch or error for the consumer. Partitions take turns, with a batch each.
    pub(super) fn next(&self) -> Next {
        loop {
            let Some(queue) = self.queues().pop_front() else { return Next::Nothing };
            let is_taken = {
                let mut inner = queue.inner();
                inner.is_listed = false;
                inner.reader.is_some()
            };
            let next = if is_taken { Next::Nothing } else { self.next_of(&queue) };
            if matches!(next, Next::Stopped(_)) {
                queue.inner().is_told = true;
                self.note_told();
            }
            self.list(&queue);
            if !matches!(next, Next::Nothing) {
                return next;
            }
        }
    }

    /// Takes the next batch of one partition, or the error after the last one.
    pub(super) fn next_of(&self, queue: &Arc<Queue>) -> Next {
        let mut inner = queue.inner();
        if (inner.batches.is_empty() && inner.stopped.is_none()) || queue.is_closed(&inner) {
            return Next::Nothing;
        }
        if self.is_parked(queue) {
            // The batches stay here, and resuming lists the partition again.
            return Next::Nothing;
        }
        match inner.take() {
            Some((queued, end)) => {
                // Under the lock that `pass` is called under. Otherwise a marker that is passed after the batch was
                // popped and before the position is set would be lost, and the position would stay before it for ever.
                inner.position = Some(end.unwrap_or_else(|| queued.fetched.next_offset()));
                let hold = Hold::new(queue, queued.claim.clone(), queued.fetched.first_offset());
                inner.last_taken = Some((hold.taken_at, queued.fetched.header().max_timestamp));
                Next::Batch(hold, inner.epoch, queued, end)
            }
            None => inner.stopped.clone().map_or(Next::Nothing, Next::Stopped),
        }
    }

    /// Parks a partition that has something for a reader, if it is paused. To be called under the lock of its queue.
    fn is_parked(&self, queue: &Arc<Queue>) -> bool {
        match queue.gate.park() {
            Park::Open => false,
            Park::Parked => true,
            Park::ParkedUntold => {
                self.commands.push(Command::Parked { queue: Arc::clone(queue) });
                true
            }
        }
    }

    fn queues(&self) -> MutexGuard<'_, VecDeque<Arc<Queue>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use milena_wire::batch::{BatchBuilder, Batches};
    use milena_wire::pool::Pool;

    use super::super::gate::Gates;
    use super::*;
    use crate::budget::Budget;

    /// A batch of one record at offset 0.
    fn batch() -> Queued {
        let mut builder = BatchBuilder::new(&Pool::default());
        builder.append(0, None, Some(b"record"), &[]).expect("room");
        let batch = Batches::new(builder.seal().into_bytes()).next().expect("one").expect("whole");
        let memory = Memory::new(Budget::new(0).reserve_beyond(0), &Arc::default());
        Queued::new(batch, 0, 2, &Arc::new(memory))
    }

    fn clock() -> Clock {
        Clock::Tokio(tokio::time::Instant::now())
    }

    /// A partition that is read from offset 0.
    fn queue(epoch: Epoch, until: Option<i64>) -> Arc<Queue> {
        let gates = Gates::default();
        let gate = gates.get(&"t".into(), 0);
        gate.open();
        let (gate, driver) = (Arc::clone(gate), Arc::default());
        Arc::new(Queue::new(gate, epoch, Some(0), until, i64::MAX, driver, Held::new(&clock(), None)))
    }

    #[test]
    fn a_marker_that_is_passed_while_its_batch_is_being_opened_moves_the_position() {
        let ready = Ready::new(Arc::default());
        let queue = queue(Epoch(1), None);
        // The marker is passed before the batch is taken, and after. Opening the batch later does not change the
        // position.
        for is_taken_first in [false, true] {
            queue.inner().push(batch(), || 0);
            let take = || assert!(matches!(ready.next_of(&queue), Next::Batch(..)));
            if is_taken_first {
                take();
                assert_eq!(queue.inner().position, Some(1));
                queue.inner().pass(2);
            } else {
                queue.inner().pass(2);
                take();
            }
            assert_eq!(queue.inner().position, Some(2), "{is_taken_first}");
        }
    }

    /// Any failure.
    fn error() -> Error {
        Error::new("reading", Failure::Ended("of the test"))
    }

    #[test]
    fn a_last_batch_that_cannot_be_read_is_told_however_early_its_partition_was_read() {
        let epochs = Epochs::default();
        let ready = Ready::new(Arc::default());
        let queue = queue(epochs.next(), Some(1));
        queue.inner().push(batch(), || 0);
        let Next::Batch(_, epoch, ..) = ready.next_of(&queue) else { panic!("there is a batch") };
        // While its reader opens the batch, the driver finds that everything was read.
        assert!(queue.finish_if_read(&epochs).is_some());
        assert!(queue.stop(&epochs, epoch, 0, &error()).is_some(), "it was not sought");
        assert!(
            matches!(ready.next_of(&queue), Next::Stopped(_)) && !queue.is_read(),
            "not everything was read"
        );
        // After a seek, an error of before it does not count.
        queue.restart(&epochs, Some(1));
        assert!(queue.finish_if_read(&epochs).is_some());
        assert!(queue.stop(&epochs, epoch, 0, &error()).is_none(), "the error is from before the seek");
    }

    fn commands(commands: &Commands) -> Vec<Command> {
        let mut taken = Vec::new();
        commands.take(&mut taken);
        taken
    }

    #[test]
    fn flips_tell_the_driver_nothing_unless_a_reader_went_away_empty() {
        let all = Arc::<Commands>::default();
        let ready = Ready::new(Arc::clone(&all));
        let queue = queue(Epoch(1), None);
        for _ in 0..10_000 {
            queue.gate.pause();
            assert!(matches!(ready.next_of(&queue), Next::Nothing));
            assert!(!queue.gate.resume().is_wanted());
        }
        assert!(commands(&all).is_empty());
        // With something to read it is told once, however many readers look before it has heard.
        queue.inner().push(batch(), || 0);
        for _ in 0..10_000 {
            queue.gate.pause();
            assert!(matches!(ready.next_of(&queue), Next::Nothing));
            ready.list(&queue);
            assert!(queue.gate.resume().is_parked);
        }
        assert!(matches!(&commands(&all)[..], [Command::Parked { .. }]));
        assert!(matches!(ready.next_of(&queue), Next::Batch(..)));
    }

    /// Lets two threads go on together, within nanoseconds if both run.
    #[derive(Default)]
    struct Start(AtomicU64);

    impl Start {
        fn wait(&self, round: u64) {
            self.0.fetch_add(1, Ordering::AcqRel);
            let mut looks = 0_u32;
            while self.0.load(Ordering::Acquire) < 2 * round {
                looks += 1;
                assert!(looks < 100_000_000, "the other thread has failed");
                if looks.is_multiple_of(500) {
                    std::thread::yield_now();
                }
            }
        }
    }

    #[test]
    fn a_batch_that_arrives_while_its_partition_is_flipped_is_listed() {
        const ROUNDS: u64 = 20_000;
        let ready = Ready::new(Arc::default());
        let queue = queue(Epoch(1), None);
        let start = Start::default();
        let (ready, queue, start) = (&ready, &queue, &start);
        let mut queued: Vec<_> = (0..ROUNDS).map(|_| batch()).collect();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    start.wait(2 * round + 1);
                    for _ in 0..3 {
                        queue.gate.pause();
                        if queue.gate.resume().is_parked {
                            ready.list(queue);
                        }
                    }
                    start.wait(2 * round + 2);
                }
            });
            for round in 0..ROUNDS {
                let queued = queued.pop().expect("one for each round");
                start.wait(2 * round + 1);
                queue.inner().push(queued, || 0);
                ready.list(queue);
                // As a reader does that was woken too early, and finds the partition paused or not.
                let early = matches!(ready.next(), Next::Batch(..));
                start.wait(2 * round + 2);
                // The partition is not paused, and no task will flip it again.
                assert!(
                    early || matches!(ready.next(), Next::Batch(..)),
                    "the batch of round {round} is lost"
                );
            }
        });
    }
}
