//! The state that a consumer and the partitions taken from it share, and how they open batches.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use milena_core::Instant;
use milena_core::group::commits::StoredOffset;
use milena_core::metadata::Snapshot;
use milena_core::source::{Amount, Epoch, Flow, Position, amount_of};
use milena_wire::batch::{RawBatch, RecordBatch, RecordsPlace};
use milena_wire::codec::{Compression, Decompressor};
use milena_wire::{DecodeError, Limits};

use super::batch::{Batch, Content as Records, Met, Opened, Part, Unreadable, end_of, unread, unreadable};
use super::commands::{Command, Commands, FinishedBefore, GroupCommand};
use super::flow::ConsumerFlow;
use super::gate::{Gate, Gates, Resumed};
use super::held::{Claim, Held, Hold, Kept, Memory};
use super::queue::{Coming, Content, Epochs, Fetched, Queue, Queued, Ready};
use super::standing::{Outlook, Standing};
use crate::interest::Interest;
use crate::metrics::ConsumedTopic;
use crate::settings::{ConsumerSettings, Isolation};
use crate::telemetry::Enrolled;
use crate::trace::{Received, Tracing, time_of_day};
use crate::{Admin, Client, Error};

/// Shared by a consumer and the partitions taken from it. Dropping the last of them drops this, which ends the driver.
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) commands: Arc<Commands>,
    pub(super) ready: Arc<Ready>,
    pub(super) check_crcs: bool,
    pub(super) is_read_committed: bool,
    /// The most records that are handed out at a time.
    records_max: i64,
    /// A partition is stalled that stands still for longer than this.
    pub(super) stall_after: Duration,
    /// Whether partitions are read up to where they ended when they were assigned.
    pub(super) is_until_end: bool,
    /// None for a consumer that reads by position.
    pub(super) standing: Option<Arc<Standing>>,
    /// What metrics say of it, if they are pushed.
    pub(super) enrolled: Option<Arc<Enrolled>>,
    pub(super) epochs: Arc<Epochs>,
    gates: Gates,
    flow: Mutex<Flow>,
    assigned: Mutex<Assigned>,
    decompressors: Decompressors,
}

#[derive(Default)]
pub(super) struct Assigned {
    pub(super) queues: BTreeMap<(Arc<str>, i32), Arc<Queue>>,
    /// One for each topic of which a partition is assigned. It keeps the client's metadata of the topic fresh.
    interests: BTreeMap<Arc<str>, Interest>,
    /// Topics read as a whole, and how many of their partitions were assigned.
    pub(super) followed: BTreeMap<Arc<str>, usize>,
    /// Partitions that are not assigned any more, of which the application held batches when they were given up.
    pub(super) given_up: Vec<Weak<Queue>>,
}

impl Shared {
    pub(super) fn new(
        client: Client,
        settings: &ConsumerSettings,
        is_until_end: bool,
        standing: Option<Arc<Standing>>,
    ) -> Self {
        let commands = Arc::<Commands>::default();
        let mut enrolled = Enrolled::consumer(&settings.rack);
        if let Some(standing) = &standing {
            enrolled = enrolled.in_group(&standing.group);
        }
        Self {
            enrolled: client.enrol(enrolled),
            client,
            stall_after: settings.stall_after,
            ready: Arc::new(Ready::new(Arc::clone(&commands))),
            commands,
            check_crcs: settings.check_crcs,
            is_read_committed: settings.isolation == Isolation::ReadCommitted,
            records_max: settings
                .delivery_records_max
                .map_or(i64::MAX, |most| i64::try_from(most).unwrap_or(i64::MAX)),
            is_until_end,
            standing,
            epochs: Arc::default(),
            gates: Gates::default(),
            flow: Mutex::default(),
            assigned: Mutex::default(),
            decompressors: Decompressors::default(),
        }
    }

    pub(super) fn assigned(&self) -> MutexGuard<'_, Assigned> {
        self.assigned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reader found nothing.
    pub(super) fn note_idle(&self) {
        self.ready.note_idle(&self.client.0.clock);
        if self.standing.as_ref().is_some_and(|standing| standing.is_at_most_once) {
            // The driver commits a batch when it is waited for.
            self.commands.arrived.notify_one();
        }
    }

    /// Whether the consumer has nothing more to wait for: no partition is assigned, or each was read up to its end; in a
    /// group, it was closed.
    ///
    /// # Errors
    /// - When the driver has ended.
    /// - When the member is out of its group.
    /// - When every partition that was not read to its end has stopped, and the consumer has returned the error of
    ///   each. This is the error of one of them, because an application that logs errors and goes on would wait for
    ///   ever.
    pub(super) fn is_over(&self) -> Result<bool, Error> {
        if let Some(standing) = &self.standing {
            match standing.outlook()? {
                Outlook::Wait => {}
                Outlook::Rejoin => self.commands.push(Command::Group(GroupCommand::Rejoin)),
                Outlook::End => return Ok(true),
            }
        }
        self.ready.check_driver()?;
        let assigned = self.assigned();
        let is_member = self.standing.as_ref().is_some_and(|standing| standing.is_member);
        if is_member && (assigned.queues.is_empty() || !self.ready.has_told_of_stops()) {
            return Ok(false);
        }
        if !self.is_until_end && !self.ready.has_told_of_stops() {
            return Ok(assigned.queues.is_empty());
        }
        let (mut stopped, mut is_over) = (None, true);
        for queue in assigned.queues.values() {
            match queue.coming() {
                Coming::Nothing => {}
                // Its own reader gets what comes, and may give the partition back to the consumer.
                _ if queue.is_taken() => is_over = false,
                Coming::Batches => return Ok(false),
                Coming::Error(error) => stopped = Some(error),
            }
        }
        stopped.map_or(Ok(is_over), Err)
    }

    /// The partition, if it is assigned.
    pub(super) fn find(&self, topic: &str, partition: i32) -> Option<Arc<Queue>> {
        self.assigned().queues.get(&(Arc::from(topic), partition)).cloned()
    }

    /// The partition, which must be assigned.
    ///
    /// # Errors
    /// When it is not assigned. The error says what the caller was `doing`.
    pub(super) fn found(&self, topic: &str, partition: i32, doing: &str) -> Result<Arc<Queue>, Error> {
        let not_assigned = || not_assigned(&format!("{doing} partition {partition} of topic {topic:?}"));
        self.find(topic, partition).ok_or_else(not_assigned)
    }

    /// Assigns the partitions that topics read as a whole have got since. They are read from their first records, all
    /// of which were written after the topic was assigned.
    pub(super) fn follow(&self, snapshot: &Snapshot) {
        let mut added = Vec::new();
        for (topic, known) in &mut self.assigned().followed {
            let count = snapshot.topic(topic).map_or(0, |topic| topic.partitions.len());
            added.extend((*known..count).map(|index| (Arc::clone(topic), index as i32)));
            *known = count.max(*known);
        }
        for (topic, partition) in added {
            self.assign(topic, partition, Some(Position::Earliest), None);
        }
    }

    /// Reads the partition from `position`, up to `until` if that is given. Without a position it is read from what the group
    /// has committed, or goes on if it is assigned already.
    pub(super) fn assign(
        &self,
        topic: Arc<str>,
        partition: i32,
        position: Option<Position>,
        until: Option<i64>,
    ) {
        let mut assigned = self.assigned();
        if let Some(queue) = assigned.queues.get(&(Arc::clone(&topic), partition)) {
            let Some(position) = position else { return };
            queue.set_until(until);
            return self.restart(queue, position, None);
        }
        let epoch = self.epochs.next();
        let offset = position.and_then(Position::offset);
        let queue = self.new_queue(&topic, partition, epoch, offset, until);
        assigned.queues.insert((topic, partition), Arc::clone(&queue));
        self.commands.push(Command::Assign { queue: Arc::clone(&queue), epoch, position });
        if let Some(position) = position {
            self.finish_at(&queue, position);
        }
    }

    /// Makes the queue of a partition that is not assigned, which is not paused then. The caller holds the lock of what
    /// is assigned.
    fn new_queue(
        &self,
        topic: &Arc<str>,
        partition: i32,
        epoch: Epoch,
        position: Option<i64>,
        until: Option<i64>,
    ) -> Arc<Queue> {
        let (driver, clock) = (Arc::clone(&self.commands.arrived), &self.client.0.clock);
        let gate = Arc::clone(self.gates.get(topic, partition));
        gate.open();
        let counted = self.client.0.metrics.as_ref().map(|metrics| metrics.consuming.topic(topic));
        let held = Held::new(clock, counted);
        Arc::new(Queue::new(gate, epoch, position, until, self.records_max, driver, held))
    }

    /// The group has assigned a partition. It is not read before the driver knows where it begins.
    pub(super) fn hold(&self, topic: &Arc<str>, partition: i32) -> (Arc<Queue>, Epoch) {
        let mut assigned = self.assigned();
        let epoch = self.epochs.next();
        let queue = self.new_queue(topic, partition, epoch, None, None);
        assigned.queues.insert((Arc::clone(topic), partition), Arc::clone(&queue));
        (queue, epoch)
    }

    /// The group has taken a partition back, or the consumer closes. Does nothing if the partition was unassigned before: then
    /// it may have been assigned again.
    pub(super) fn let_go(&self, queue: &Arc<Queue>) {
        let mut assigned = self.assigned();
        let known = assigned.queues.get(&(Arc::clone(&queue.topic), queue.partition));
        if known.is_some_and(|known| Arc::ptr_eq(known, queue)) {
            drop(assigned.remove(&queue.topic, queue.partition));
            assigned.forget_unread(&queue.topic);
        }
    }

    /// Keeps the interests of topics for as long as a partition of them is assigned.
    pub(super) fn keep_known(&self, interests: Vec<Interest>) {
        let mut assigned = self.assigned();
        for interest in interests {
            let topic = Arc::clone(interest.topic());
            assigned.interests.entry(Arc::clone(&topic)).or_insert(interest);
            // Another task may have unassigned the topic's last partition meanwhile.
            assigned.forget_unread(&topic);
        }
    }

    pub(super) fn unassign(&self, topic: &str, partition: i32) {
        let mut assigned = self.assigned();
        if let Some(queue) = assigned.remove(&Arc::from(topic), partition) {
            assigned.forget_unread(topic);
            let (epoch, _) = queue.end(&self.epochs);
            self.commands.push(Command::Unassign { queue, epoch });
        }
    }

    pub(super) fn seek(&self, queue: &Arc<Queue>, position: Position) -> Result<(), Error> {
        self.seek_to(queue, position, None)
    }

    /// As [`seek`](Self::seek), to what the group has stored if that is given.
    pub(super) fn seek_to(
        &self,
        queue: &Arc<Queue>,
        position: Position,
        stored: Option<StoredOffset>,
    ) -> Result<(), Error> {
        let doing = || format!("seeking in partition {} of topic {:?}", queue.partition, queue.topic);
        position.check().map_err(|failure| Error::new(doing(), failure))?;
        if queue.is_over() {
            return Err(not_assigned(&doing()));
        }
        self.restart(queue, position, stored);
        Ok(())
    }

    fn restart(&self, queue: &Arc<Queue>, position: Position, stored: Option<StoredOffset>) {
        let (epoch, is_onward) = queue.restart(&self.epochs, position.offset());
        let before = match stored {
            Some(stored) => FinishedBefore::Anew(Box::new(stored)),
            None if is_onward => FinishedBefore::Stays,
            None => FinishedBefore::Forgotten,
        };
        self.commands.push(Command::Seek { queue: Arc::clone(queue), epoch, position, before });
        self.finish_at(queue, position);
    }

    /// Ends reading at once if it begins at the offset up to which the partition is read. At a later offset it does
    /// not end before a fetch has shown that the offset exists.
    fn finish_at(&self, queue: &Arc<Queue>, position: Position) {
        if let Some(offset) = position.offset()
            && queue.until() == Some(offset)
        {
            self.finish_if_read(queue);
        }
    }

    /// What was fetched of `queue` from `offset` on is not in the log any more. Begins a new epoch, and answers with it
    /// and with the offset at which reading goes on; none if the partition was sought since `epoch`.
    pub(super) fn truncate(&self, queue: &Queue, epoch: Epoch, offset: i64) -> Option<(Epoch, i64)> {
        queue.truncate(&self.epochs, epoch, offset)
    }

    /// To be called when the position of `queue` or its end has changed: once everything up to the end was read,
    /// nothing more is fetched.
    pub(super) fn finish_if_read(&self, queue: &Arc<Queue>) {
        if let Some(epoch) = queue.finish_if_read(&self.epochs) {
            self.commands.push(Command::Halt { queue: Arc::clone(queue), epoch });
            self.ready.arrived.notify_one();
        }
    }

    /// Asks where partitions end for readers with this consumer's isolation level.
    pub(super) fn asking(&self) -> Admin {
        let isolation =
            if self.is_read_committed { Isolation::ReadCommitted } else { Isolation::ReadUncommitted };
        self.client.admin().isolation(isolation)
    }

    /// Stops the partition at `offset` until it is sought, because of `error`, which the caller returns to the reader.
    /// Does nothing if the partition was sought since `epoch`.
    fn stop(&self, queue: &Arc<Queue>, epoch: Epoch, offset: i64, error: &Error) {
        if let Some(epoch) = queue.stop(&self.epochs, epoch, offset, error) {
            self.ready.note_told();
            self.commands.push(Command::Halt { queue: Arc::clone(queue), epoch });
        }
    }

    /// Makes the records of a batch readable.
    fn decompress(&self, batch: &RawBatch) -> Result<RecordBatch, DecodeError> {
        let client = &self.client.0;
        let limits = Limits { decompressed_bytes_max: client.settings.client.decompressed_bytes_max };
        let pool = &client.decompressed_pool;
        match batch.header.attributes.compression()? {
            Compression::None => batch.decompress(&mut Decompressor::new(), pool, &limits),
            _ => self.decompressors.with(|decompressor| batch.decompress(decompressor, pool, &limits)),
        }
    }

    /// Goes on after the record or batch that could not be read according to `error`.
    pub(super) fn skip(&self, queue: &Arc<Queue>, error: &Error) -> Result<(), Error> {
        let Queue { topic, partition, .. } = &**queue;
        match error.unread_part() {
            Some((of, index, next_offset)) if (of, index) == (topic, *partition) => {
                self.seek(queue, Position::Offset(next_offset))
            }
            _ => {
                let doing = format!("going on after an error in partition {partition} of topic {topic:?}");
                Err(Error::caller(doing, "the error does not say where reading of that partition can go on"))
            }
        }
    }

    /// Tells the driver that `queue` has got a reader of its own, or has none any more.
    pub(super) fn own_reader_changed(&self, queue: &Arc<Queue>) {
        self.commands.push(Command::Own { queue: Arc::clone(queue) });
    }

    /// The gate of the partition, which must be assigned. Takes no lock.
    ///
    /// # Errors
    /// When it is not assigned. The error says what the caller was `doing`.
    pub(super) fn gate(&self, topic: &str, partition: i32, doing: &str) -> Result<&Arc<Gate>, Error> {
        let gate = self.gates.find(topic, partition).filter(|gate| gate.is_assigned());
        gate.ok_or_else(|| not_assigned(&format!("{doing} partition {partition} of topic {topic:?}")))
    }

    /// The gates of all assigned partitions.
    pub(super) fn gates(&self) -> Vec<Arc<Gate>> {
        self.assigned().queues.values().map(|queue| Arc::clone(&queue.gate)).collect()
    }

    /// The driver says what is buffered, after each of its turns in which that has changed.
    pub(super) fn set_flow(&self, flow: Flow) {
        *self.flow.lock().unwrap_or_else(PoisonError::into_inner) = flow;
    }

    pub(super) fn flow(&self) -> ConsumerFlow {
        let flow = *self.flow.lock().unwrap_or_else(PoisonError::into_inner);
        ConsumerFlow::new(&flow, self.client.0.clock.now())
    }

    /// Partitions were resumed: lists what they have, and tells the driver of those that are not fetched.
    pub(super) fn handle_resumed<'a>(&self, resumed: impl IntoIterator<Item = (&'a Gate, Resumed)>) {
        let mut commands = Vec::new();
        for (gate, Resumed { is_parked, is_held, .. }) in resumed {
            let queue = self.assigned().queues.get(&(Arc::clone(&gate.topic), gate.partition)).cloned();
            let Some(queue) = queue else { continue };
            if is_parked {
                self.ready.list(&queue);
            }
            if is_held {
                commands.push(Command::Resumed { queue });
            }
        }
        // Together, or the first of them would be fetched alone, and the others had to wait for that fetch.
        if !commands.is_empty() {
            self.commands.push_all(commands);
        }
    }
}

impl Assigned {
    /// Removes a partition. It is remembered while the application holds batches of it.
    fn remove(&mut self, topic: &Arc<str>, partition: i32) -> Option<Arc<Queue>> {
        let queue = self.queues.remove(&(Arc::clone(topic), partition))?;
        queue.gate.close();
        self.given_up.retain(|queue| queue.strong_count() > 0);
        if !queue.held.is_empty() {
            self.given_up.push(Arc::downgrade(&queue));
        }
        Some(queue)
    }

    /// Gives the interest in `topic` back if no partition of it is assigned any more.
    fn forget_unread(&mut self, topic: &str) {
        let first = (Arc::from(topic), i32::MIN);
        let next = self.queues.range(first..).next();
        if next.is_none_or(|((name, _), _)| **name != *topic) {
            self.interests.remove(topic);
            self.followed.remove(topic);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.commands.push(Command::Released);
    }
}

/// The decompressors that no reader is using. Their contexts take some hundred kilobytes for some codecs, so that there
/// are as many as tasks that decompress at once, and not one for each of thousands of partitions. The lock is not held
/// while a batch is decompressed.
#[derive(Default)]
struct Decompressors(Mutex<Vec<Decompressor>>);

impl Decompressors {
    fn list(&self) -> MutexGuard<'_, Vec<Decompressor>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, decompress: impl FnOnce(&mut Decompressor) -> T) -> T {
        let idle = self.list().pop();
        let mut decompressor = idle.unwrap_or_default();
        let decompressed = decompress(&mut decompressor);
        self.list().push(decompressor);
        decompressed
    }
}

/// Checks and decompresses batches for one reader, in its own task.
pub(super) struct Opener {
    pub(super) shared: Arc<Shared>,
    unreadable: Arc<Unreadable>,
}

impl Opener {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, unreadable: Arc::default() }
    }

    /// Fails if an iteration has met a record that cannot be read since the last call. Its partition is stopped there.
    pub(super) fn check(&self) -> Result<(), Error> {
        match self.unreadable.take() {
            None => Ok(()),
            Some(Met { queue, epoch, error }) => {
                let told = unreadable(&queue, &error);
                self.shared.stop(&queue, epoch, error.offset, &told);
                Err(told)
            }
        }
    }

    /// Checks and decompresses a batch, or hands out the next part of one, which ends at `end`. None for a part in which
    /// compaction has left no record, and for what is finished.
    pub(super) fn open(
        &mut self,
        hold: Hold,
        epoch: Epoch,
        queued: Queued,
        end: Option<i64>,
    ) -> Result<Option<Batch>, Error> {
        self.shared.ready.note_busy();
        let Queued { fetched, claim } = queued;
        let next_offset = fetched.next_offset();
        if fetched.finished.is_some() {
            let until = end.unwrap_or_else(|| fetched.end_offset());
            if fetched.is_finished(until) {
                // Of a batch that is taken in parts, the rest stays in front of the queue as it is.
                let amount = match (&fetched.content, end) {
                    (_, Some(_)) => Amount::default(),
                    (Content::Raw(raw), None) => amount_of(raw),
                    (Content::Opened(opened, _), None) => opened.amount,
                };
                self.taken(&hold, epoch, amount);
                return Ok(self.pass_over(&hold, epoch, fetched.first_offset()..until));
            }
        }
        let Fetched { content, from, high_watermark, finished, .. } = fetched;
        let (arrived, is_first) = (claim.memory().arrived(), matches!(content, Content::Raw(_)));
        let records = match (content, end) {
            (Content::Raw(raw), None) => {
                self.taken(&hold, epoch, amount_of(&raw));
                drop(claim);
                let records = self.open_raw(&hold, epoch, raw, from, next_offset)?;
                if let Some(memory) = self.own_memory(&records) {
                    hold.move_to(Kept::Whole(memory));
                }
                Records::Whole(records)
            }
            (Content::Raw(raw), Some(end)) => {
                let amount = amount_of(&raw);
                self.taken(&hold, epoch, Amount::default());
                let records = self.open_raw(&hold, epoch, raw, from, next_offset)?;
                let memory = self.own_memory(&records).map_or_else(|| Arc::clone(claim.memory()), Arc::new);
                let opened = Arc::new(Opened { records, amount });
                match part(&hold, epoch, opened, RecordsPlace::default(), from, &memory, end) {
                    Ok(part) => part,
                    Err(next) => return Ok(self.pass_over(&hold, epoch, from..next)),
                }
            }
            (Content::Opened(opened, place), Some(end)) => {
                self.taken(&hold, epoch, Amount::default());
                match part(&hold, epoch, opened, place, from, claim.memory(), end) {
                    Ok(part) => part,
                    Err(next) => return Ok(self.pass_over(&hold, epoch, from..next)),
                }
            }
            (Content::Opened(opened, place), None) => {
                self.taken(&hold, epoch, opened.amount);
                let end = end_of(&opened.records);
                if opened.records.records_between(place, None, from).next().is_none() {
                    return Ok(self.pass_over(&hold, epoch, from..end));
                }
                let part = Part { opened, from: place, until: None, end };
                hold.move_to(Kept::Part(Claim::new(claim.memory(), part.bytes())));
                Records::Part(part)
            }
        };
        self.shared.finish_if_read(&hold.queue);
        let unreadable = Arc::clone(&self.unreadable);
        let are_holes_marked = AtomicBool::new(false);
        let batch =
            Batch { records, hold, epoch, from, high_watermark, unreadable, are_holes_marked, finished };
        if let Some(counted) = &batch.hold.queue.held.counted {
            self.count(counted, &batch, is_first.then_some(arrived));
        }
        if let Some(trace) = &self.shared.client.0.trace {
            self.trace(trace, &batch, arrived);
        }
        Ok(Some(batch))
    }

    /// A batch that came at `arrived` is given to the application.
    #[cold]
    fn trace(&self, trace: &Tracing, batch: &Batch, arrived: Instant) {
        let client = &self.shared.client.0;
        let received = Received {
            batch,
            group: self.shared.standing.as_deref().map(|standing| &*standing.group),
            client_id: &client.settings.client.client_id,
            arrived: time_of_day(&client.clock, arrived),
            taken: time_of_day(&client.clock, client.clock.now()),
        };
        trace.tell(|hooks| hooks.received(&received));
    }

    /// A batch is given to the application, or the first part of one that came at `arrived`, or a later part.
    fn count(&self, counted: &ConsumedTopic, batch: &Batch, arrived: Option<Instant>) {
        batch.hold.note_given();
        let header = batch.records().header();
        let is_counted = header.magic == 2 && matches!(batch.records, Records::Whole(_));
        let most = if is_counted { header.record_count.into() } else { u64::MAX };
        let records = batch.record_count_max().min(most);
        match arrived {
            Some(arrived) => {
                counted.note_taken(records, arrived, batch.hold.taken_at);
                counted.note_bytes(header.bytes);
            }
            None => counted.note_part(records),
        }
        let now_ms = self.shared.client.0.clock.unix_ms();
        counted.note_age(records, header.base_timestamp, header.max_timestamp, now_ms);
    }

    /// Compaction has left no record at these offsets of a batch, or all of them are finished.
    fn pass_over(&self, hold: &Hold, epoch: Epoch, offsets: Range<i64>) -> Option<Batch> {
        self.shared.mark_in(&hold.queue, epoch, offsets);
        self.shared.finish_if_read(&hold.queue);
        None
    }

    fn taken(&self, hold: &Hold, epoch: Epoch, amount: Amount) {
        self.shared.commands.push(Command::Taken { queue: Arc::clone(&hold.queue), epoch, amount });
    }

    fn open_raw(
        &self,
        hold: &Hold,
        epoch: Epoch,
        batch: RawBatch,
        from: i64,
        next_offset: i64,
    ) -> Result<RecordBatch, Error> {
        let (shared, queue) = (&*self.shared, &hold.queue);
        let checked = if shared.check_crcs { batch.check_crc() } else { Ok(()) };
        let opened = checked.and_then(|()| shared.decompress(&batch));
        if let Some(metrics) = &shared.client.0.metrics
            && opened.as_ref().is_ok_and(|records| records.own_bytes() > 0)
        {
            let took = shared.client.0.clock.now() - hold.taken_at;
            metrics.consuming.decompress.record_duration(took);
        }
        // The response can go now, if the batch was decompressed. Its memory goes first, and then what is counted for it.
        drop(batch);
        opened.map_err(|error| {
            let told = unread(queue, from, next_offset, "the stored batch", &error);
            shared.stop(queue, epoch, from, &told);
            told
        })
    }

    /// Counts the buffer that a batch was decompressed into. It exists now, so it counts even if the budget has no room.
    fn own_memory(&self, records: &RecordBatch) -> Option<Memory> {
        let bytes = records.own_bytes();
        let reserve = || self.shared.client.0.fetch_budget.reserve_beyond(bytes);
        (bytes > 0).then(|| Memory::new(reserve(), &self.shared.commands.arrived))
    }
}

/// The part of a batch from `place` and `from` on that ends at `end`. The rest stays in front of the queue, unless the
/// partition was sought meanwhile. If no record is there, the error is the offset at which the batch goes on.
fn part(
    hold: &Hold,
    epoch: Epoch,
    opened: Arc<Opened>,
    place: RecordsPlace,
    from: i64,
    frame: &Arc<Memory>,
    end: i64,
) -> Result<Records, i64> {
    let mut records = opened.records.records_between(place, None, from);
    let (mut is_empty, mut rest_from, mut until) = (true, end, None);
    let mut rest = records.place();
    while let Some(record) = records.next() {
        let offset = record.as_ref().map_or_else(|error| error.offset, |record| record.offset);
        if offset >= end {
            until = Some(rest);
            if is_empty {
                // Nothing is between the two.
                rest_from = offset;
            }
            break;
        }
        is_empty = false;
        if records.is_broken() {
            // This part shows the error, and the rest does too.
            break;
        }
        rest = records.place();
    }
    if is_empty && until.is_none() {
        rest_from = end_of(&opened.records);
    }
    let mut inner = hold.queue.inner();
    let old = if inner.epoch == epoch { inner.keep_rest(&opened, rest, frame, rest_from) } else { None };
    drop(inner);
    // Outside the lock, because freeing memory wakes tasks.
    drop(old);
    if is_empty {
        return Err(rest_from);
    }
    let part = Part { opened, from: place, until, end };
    hold.move_to(Kept::Part(Claim::new(frame, part.bytes())));
    Ok(Records::Part(part))
}

pub(super) fn not_assigned(doing: &str) -> Error {
    Error::caller(doing, "it is not assigned to this consumer")
}
