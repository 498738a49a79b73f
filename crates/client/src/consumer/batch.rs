//! A batch as the application gets it. Its records are views into one buffer.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use milena_core::Failure;
use milena_core::group::ledger::Restored;
use milena_core::source::{Amount, Epoch};
use milena_wire::batch::{BatchHeader, RecordBatch, RecordError, Records, RecordsPlace};
use milena_wire::codec::Compression;
use milena_wire::{DecodeError, DecodeReason};

use super::held::{Hold, Kept};
use super::queue::Queue;
use crate::{Error, RecordView};

/// Consecutive records of one partition: the unit in which records are fetched, delivered and kept.
///
/// Iterating borrows from the batch's one buffer and allocates nothing. The buffer lives as long as the batch, and counts
/// against the client's memory budget until then. A batch that was not compressed when it came is a part of the response
/// that brought it, and keeps all of that in memory. So records that are kept for long should be copied
/// ([`RecordView::to_owned`]), or the batch ([`shrink_to_fit`](Self::shrink_to_fit)); [`Consumer::memory`](crate::Consumer::memory) shows what is held. To hand records to other
/// tasks without copying them, [`share`](Self::share) the batch.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cluster = milena_broker::Broker::builder().start().await?;
/// # cluster.create_topic("orders", 2)?;
/// # let client = milena::Client::connect(cluster.bootstrap()).await?;
/// # client.producer().build().await?.send(milena::Record::to("orders").partition(0).value("created")).await?;
/// # let position = milena::Position::Earliest;
/// # let mut consumer = client.consumer_direct().assign([("orders", 0)], position).build().await?;
/// # let batch = consumer.next().await?.expect("a partition is assigned");
/// println!("{} {} from {}", batch.topic(), batch.partition(), batch.first_offset());
/// let kept: Vec<_> = batch.iter().map(|record| record.to_owned()).collect();
/// assert_eq!(kept[0].value.as_deref(), Some(&b"created"[..]));
/// # Ok(())
/// # }
/// ```
pub struct Batch {
    /// The first field: the memory is freed before `hold` gives it back to the budget.
    pub(super) records: Content,
    pub(super) hold: Hold,
    /// The assignment or seek that it was fetched for.
    pub(super) epoch: Epoch,
    /// The offset that was asked for: earlier records of the batch are not returned.
    pub(super) from: i64,
    pub(super) high_watermark: i64,
    pub(super) unreadable: Arc<Unreadable>,
    /// Whether offsets without records were marked as done.
    pub(super) are_holes_marked: AtomicBool,
    /// What an earlier owner of the partition has finished, if some of it is in this batch.
    pub(super) finished: Option<Restored>,
}

/// The records of a batch.
pub(super) enum Content {
    /// All that were fetched.
    Whole(RecordBatch),
    /// A part of them.
    Part(Part),
}

/// A batch that was opened to be handed out in parts.
pub(super) struct Opened {
    pub(super) records: RecordBatch,
    /// What it takes of its partition's buffer until the last part was taken.
    pub(super) amount: Amount,
}

/// A part of a batch, between two places.
pub(super) struct Part {
    pub(super) opened: Arc<Opened>,
    pub(super) from: RecordsPlace,
    /// None for the last part.
    pub(super) until: Option<RecordsPlace>,
    /// The offset after it.
    pub(super) end: i64,
}

impl Opened {
    pub(super) fn memory_bytes(&self) -> usize {
        memory_bytes(&self.records)
    }
}

impl Part {
    /// The size of its records, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let end = self.until.map_or_else(|| self.opened.records.records_bytes(), RecordsPlace::bytes);
        end.saturating_sub(self.from.bytes())
    }
}

/// What the batch takes of the memory, in bytes.
fn memory_bytes(records: &RecordBatch) -> usize {
    match records.own_bytes() {
        0 => records.header().bytes,
        bytes => bytes,
    }
}

/// Records that an iteration could not read. The next call of the consumer returns the error.
#[derive(Default)]
pub(super) struct Unreadable(Mutex<Vec<Met>>);

/// A record that an iteration could not read, and the batch that it is in.
pub(super) struct Met {
    pub(super) queue: Arc<Queue>,
    pub(super) epoch: Epoch,
    pub(super) error: RecordError,
}

impl Unreadable {
    fn note(&self, batch: &Batch, error: RecordError) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it =
            |met: &Met| Arc::ptr_eq(&met.queue, &batch.hold.queue) && met.error.offset == error.offset;
        if !noted.iter().any(is_it) {
            noted.push(Met { queue: Arc::clone(&batch.hold.queue), epoch: batch.epoch, error });
        }
    }

    pub(super) fn take(&self) -> Option<Met> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

impl Batch {
    /// The topic.
    pub fn topic(&self) -> &str {
        &self.hold.queue.topic
    }

    /// The partition.
    pub fn partition(&self) -> i32 {
        self.hold.queue.partition
    }

    /// The offset at which the batch begins to be read. It is that of the first record, unless compaction has removed
    /// that one.
    pub fn first_offset(&self) -> i64 {
        begin_of(self.records().header(), self.from)
    }

    /// The next offset to read after this batch.
    pub fn next_offset(&self) -> i64 {
        match &self.records {
            Content::Whole(records) => end_of(records),
            Content::Part(part) => part.end,
        }
    }

    /// The high watermark of the partition when the batch was fetched: the offset after the last record that is
    /// replicated.
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// How many records the batch holds at most. It holds fewer if compaction has removed some.
    pub fn record_count_max(&self) -> u64 {
        let (first, next) = (self.first_offset(), self.next_offset());
        let left_out = self.finished.as_deref().map_or(0, |finished| {
            let after = &finished[finished.partition_point(|run| run.end <= first)..];
            let within = after.iter().take_while(|run| run.start < next);
            within.map(|run| run.end.min(next) - run.start.max(first)).sum()
        });
        u64::try_from(next - first - left_out).unwrap_or(0)
    }

    /// The size of the records in bytes, decompressed. Records before the offset that was asked for count as well, and records
    /// that are not returned because they are [finished](crate::GroupConsumerBuilder::keep_finished).
    pub fn bytes(&self) -> usize {
        match &self.records {
            Content::Whole(records) => records.records_bytes(),
            Content::Part(part) => part.bytes(),
        }
    }

    /// The size of the whole batch as it came from the broker, in bytes: compressed, with its header. A part of a batch
    /// ([`delivery_records_max`](crate::ConsumerSettings::delivery_records_max)) has the size of all of it.
    pub fn encoded_bytes(&self) -> usize {
        self.records().header().bytes
    }

    /// The codec that the batch was compressed with when it came.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # cluster.create_topic("orders", 1)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// # let producer = client.producer().compression(milena::Compression::Lz4).build().await?;
    /// # producer.send(milena::Record::to("orders").value(&[7_u8; 1000][..])).await?;
    /// # let mut consumer = client.consumer_direct().topic("orders").until_end().build().await?;
    /// # let batch = consumer.next().await?.expect("a batch");
    /// assert_eq!(batch.compression(), milena::Compression::Lz4);
    /// assert!(batch.encoded_bytes() < batch.bytes());
    /// # Ok(())
    /// # }
    /// ```
    pub fn compression(&self) -> Compression {
        // A batch of an unknown codec was never opened.
        self.records().header().attributes.compression().unwrap_or_default()
    }

    /// The memory that the batch takes, in bytes: as many as it had when it came, if it was not compressed, or else the
    /// buffer that it was decompressed into, which may be larger than the records. A part of a batch
    /// ([`delivery_records_max`](crate::ConsumerSettings::delivery_records_max)) keeps all of it. It counts against the
    /// client's memory budget until the batch is dropped.
    pub fn memory_bytes(&self) -> usize {
        memory_bytes(self.records())
    }

    /// All records that were fetched, of which this batch may be a part.
    #[inline]
    pub(super) fn records(&self) -> &RecordBatch {
        match &self.records {
            Content::Whole(records) => records,
            Content::Part(part) => &part.opened.records,
        }
    }

    #[inline]
    fn records_from(&self, offset: i64) -> Records<'_> {
        let records = match &self.records {
            Content::Whole(records) => records.records_from(offset),
            Content::Part(part) => part.opened.records.records_between(part.from, part.until, offset),
        };
        self.without_finished(records)
    }

    #[inline]
    fn without_finished<'a>(&'a self, records: Records<'a>) -> Records<'a> {
        match &self.finished {
            None => records,
            Some(finished) => records.leaving_out(finished),
        }
    }

    /// Copies the batch out of the response in which it came, if that takes more memory than the batch. Do so with a batch that
    /// is kept for long or [shared](Self::share) with slow workers: otherwise it keeps the whole response, in which batches of
    /// other partitions came too, and other batches are fetched in small pieces once the memory is short. It costs one
    /// allocation and a copy. A batch that was compressed when it came has a buffer of its own, and is not copied; nor is
    /// a part of a batch ([`delivery_records_max`](crate::ConsumerSettings::delivery_records_max)).
    ///
    /// A batch still takes its own memory for one record that is kept. [`RecordView::to_owned`] copies a single record.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # cluster.create_topic("orders", 1)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// # client.producer().build().await?.send(milena::Record::to("orders").value("created")).await?;
    /// # let mut consumer = client.consumer_direct().topic("orders").until_end().build().await?;
    /// let mut kept = Vec::new();
    /// while let Some(mut batch) = consumer.next().await? {
    ///     batch.shrink_to_fit();
    ///     kept.push(batch.share());
    /// }
    /// assert_eq!(kept[0].iter().count(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn shrink_to_fit(&mut self) {
        // A part of a batch shares its memory with the other parts.
        if let Content::Whole(records) = &mut self.records
            && let Some(memory) = self.hold.memory_of_copy()
        {
            records.copy_out();
            self.hold.move_to(Kept::Whole(memory));
        }
    }

    /// The epoch of the leader that appended the batch.
    pub fn leader_epoch(&self) -> Option<i32> {
        self.records().header().partition_leader_epoch
    }

    /// Marks the offsets at which compaction has removed the records, so that single records can be marked as done. Batches
    /// that are done as a whole need none of it, and few batches have such offsets.
    pub(super) fn mark_holes(&self) {
        let header = self.records().header();
        let is_whole = i64::from(header.record_count) > i64::from(header.last_offset_delta);
        if is_whole || self.are_holes_marked.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut next = self.first_offset();
        for record in self.records_from(self.from) {
            let Ok(record) = record else { return };
            if record.offset > next {
                self.hold.queue.mark(self.epoch, next..record.offset);
            }
            next = record.offset + 1;
        }
        if next < self.next_offset() {
            self.hold.queue.mark(self.epoch, next..self.next_offset());
        }
    }

    /// The records, in order. Those that an earlier owner of the partition has [finished](crate::GroupConsumerBuilder::keep_finished)
    /// are left out.
    ///
    /// The iteration ends at a record that cannot be read, which only a faulty producer writes. [`Consumer::next`]
    /// then returns the error, and the partition stops there until [`Consumer::skip`] or a seek, unless it was sought
    /// since the batch was fetched. [`try_iter`](Self::try_iter) yields the error in place of the record.
    ///
    /// [`Consumer::next`]: crate::Consumer::next
    /// [`Consumer::skip`]: crate::Consumer::skip
    pub fn iter(&self) -> RecordViews<'_> {
        RecordViews::from_offset(self, self.from)
    }

    /// The records, in order. A record that cannot be read is an error in its place.
    pub fn try_iter(&self) -> impl Iterator<Item = Result<RecordView<'_>, Error>> {
        self.records_from(self.from).map(|record| {
            record
                .map(|record| RecordView { record, batch: self })
                .map_err(|error| unreadable(&self.hold.queue, &error))
        })
    }
}

/// Where a batch begins that was asked for from offset `from` on.
pub(super) fn begin_of(header: &BatchHeader, from: i64) -> i64 {
    // A compressed message set of before Kafka 0.11 only says where it ends. Nothing else is between `from` and its end.
    let is_begin_known = header.magic == 2 || header.record_count > 0;
    if is_begin_known { from.max(header.base_offset) } else { from }
}

pub(super) fn end_of(records: &RecordBatch) -> i64 {
    let header = records.header();
    header.base_offset + i64::from(header.last_offset_delta) + 1
}

pub(super) fn unreadable(queue: &Queue, error: &RecordError) -> Error {
    unread(queue, error.offset, error.resume_offset, "the record", &error.error)
}

/// The error that says that `what`, from `offset` up to `next_offset`, cannot be read.
pub(super) fn unread(
    queue: &Queue,
    offset: i64,
    next_offset: i64,
    what: &'static str,
    error: &DecodeError,
) -> Error {
    let Queue { topic, partition, .. } = queue;
    let offsets = match next_offset.saturating_sub(1) {
        last if last > offset => format!("offsets {offset} to {last}"),
        _ => format!("offset {offset}"),
    };
    let doing = format!("reading {offsets} of partition {partition} of topic {topic:?}");
    let failure = match &error.reason {
        // The stored batch may be valid: only our own limit is exceeded.
        DecodeReason::DecompressesPast { limit } => Failure::TooLarge(
            format!("{what} takes more than {limit} bytes once decompressed: raise decompressed_bytes_max")
                .into(),
        ),
        _ => Failure::Unreadable { what, reason: error.to_string().into() },
    };
    Error::unread(doing, failure, Arc::clone(topic), *partition, next_offset)
}

/// The records of a [`Batch`].
#[derive(Clone)]
pub struct RecordViews<'a> {
    batch: &'a Batch,
    records: Records<'a>,
}

impl<'a> RecordViews<'a> {
    /// The records of `batch` from `offset` on.
    #[inline]
    pub(super) fn from_offset(batch: &'a Batch, offset: i64) -> Self {
        Self { batch, records: batch.records_from(offset) }
    }

    /// The records of `batch` from `offset` on that come after `place`, which an iteration of it had reached.
    pub(super) fn resumed(batch: &'a Batch, place: Option<RecordsPlace>, offset: i64) -> Self {
        let Some(place) = place else { return Self::from_offset(batch, offset) };
        let records = match &batch.records {
            Content::Whole(records) => records.records_between(place, None, offset),
            Content::Part(part) => part.opened.records.records_between(place, part.until, offset),
        };
        Self { batch, records: batch.without_finished(records) }
    }

    /// How far the iteration has come.
    pub(super) fn place(&self) -> RecordsPlace {
        self.records.place()
    }
}

impl<'a> Iterator for RecordViews<'a> {
    type Item = RecordView<'a>;

    #[inline]
    fn next(&mut self) -> Option<RecordView<'a>> {
        match self.records.next()? {
            Ok(record) => Some(RecordView { record, batch: self.batch }),
            Err(error) => {
                self.batch.unreadable.note(self.batch, error);
                None
            }
        }
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = RecordView<'a>;
    type IntoIter = RecordViews<'a>;

    #[inline]
    fn into_iter(self) -> RecordViews<'a> {
        self.iter()
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("topic", &self.topic())
            .field("partition", &self.partition())
            .field("first_offset", &self.first_offset())
            .field("next_offset", &self.next_offset())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for RecordViews<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RecordViews").field(&self.batch).finish()
    }
}
