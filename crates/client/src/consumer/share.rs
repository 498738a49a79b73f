//! Handles that own a part of a batch, for tasks and threads that work on records at the same time.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use milena_wire::batch::{Header, RecordPlace, RecordsPlace};

use super::batch::{Batch, RecordViews};
use crate::{OwnedRecord, RecordView};

/// A batch, or a range of its offsets, that several tasks can hold at the same time. It comes from [`Batch::share`].
///
/// A clone costs one reference count and copies no record. The batch's memory counts against the client's budget until
/// the last handle of the batch and of its records is dropped.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cluster = milena_broker::Broker::builder().start().await?;
/// # cluster.create_topic("orders", 1)?;
/// # let client = milena::Client::connect(cluster.bootstrap()).await?;
/// # let producer = client.producer().build().await?;
/// # for _ in 0..4 {
/// #     producer.post(milena::Record::to("orders").key("42").value("created")).await?;
/// # }
/// # producer.flush().await?;
/// # let mut consumer = client.consumer_direct().topic("orders").until_end().build().await?;
/// while let Some(batch) = consumer.next().await? {
///     let batch = batch.share();
///     let middle = batch.first_offset() + (batch.next_offset() - batch.first_offset()) / 2;
///     let halves = [batch.range(..middle), batch.range(middle..)];
///     let workers = halves.map(|half| std::thread::spawn(move || half.iter().count()));
///     for worker in workers {
///         println!("{} records", worker.join().expect("counts"));
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SharedBatch {
    batch: Arc<Batch>,
    from: i64,
    until: i64,
}

/// One record of a [`SharedBatch`], which it keeps in memory. It can be sent to another task.
///
/// A clone costs one reference count and copies neither key nor value. To keep a record for long, use
/// [`to_owned`](Self::to_owned): it does not keep the batch.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cluster = milena_broker::Broker::builder().start().await?;
/// # cluster.create_topic("orders", 1)?;
/// # let client = milena::Client::connect(cluster.bootstrap()).await?;
/// # client.producer().build().await?.send(milena::Record::to("orders").key("42").value("created")).await?;
/// # let mut consumer = client.consumer_direct().topic("orders").until_end().build().await?;
/// let (sender, mut receiver) = tokio::sync::mpsc::channel::<milena::SharedRecord>(100);
/// let worker = tokio::spawn(async move {
///     while let Some(record) = receiver.recv().await {
///         println!("{}: {:?} is {:?}", record.offset(), record.key(), record.value());
///     }
/// });
/// while let Some(batch) = consumer.next().await? {
///     for record in batch.share().records() {
///         sender.send(record).await?;
///     }
/// }
/// # drop(sender);
/// # worker.await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SharedRecord {
    batch: Arc<Batch>,
    place: RecordPlace,
}

impl Batch {
    /// Makes the batch one that several tasks can hold at the same time, whole or in part. This is one allocation; each
    /// handle then costs a reference count.
    pub fn share(self) -> SharedBatch {
        let (from, until) = (self.first_offset(), self.next_offset());
        SharedBatch { batch: Arc::new(self), from, until }
    }
}

impl SharedBatch {
    /// The topic.
    pub fn topic(&self) -> &str {
        self.batch.topic()
    }

    /// The partition.
    pub fn partition(&self) -> i32 {
        self.batch.partition()
    }

    /// The offset at which this part of the batch begins.
    pub fn first_offset(&self) -> i64 {
        self.from
    }

    /// The offset after this part of the batch.
    pub fn next_offset(&self) -> i64 {
        self.until
    }

    /// The batch that this is a part of, or all of.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// The part of it with these offsets. Offsets that it does not have are left out.
    ///
    /// Its iteration passes over the records of the batch that come before it, which takes some nanoseconds for each.
    pub fn range(&self, offsets: impl std::ops::RangeBounds<i64>) -> Self {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let from = match offsets.start_bound() {
            Included(&from) => from,
            Excluded(&before) => before.saturating_add(1),
            Unbounded => self.from,
        };
        let until = match offsets.end_bound() {
            Included(&last) => last.saturating_add(1),
            Excluded(&until) => until,
            Unbounded => self.until,
        };
        let from = from.clamp(self.from, self.until);
        Self { batch: Arc::clone(&self.batch), from, until: until.clamp(from, self.until) }
    }

    /// The records, in order, borrowed from this handle. A record that cannot be read ends the iteration, as in
    /// [`Batch::iter`].
    pub fn iter(&self) -> impl Iterator<Item = RecordView<'_>> {
        let Range { start, end } = self.from..self.until;
        RecordViews::from_offset(&self.batch, start).take_while(move |record| record.offset() < end)
    }

    /// The records, in order, each with a handle of its own. A record that cannot be read ends the iteration, as in
    /// [`Batch::iter`].
    pub fn records(&self) -> impl Iterator<Item = SharedRecord> {
        self.iter().map(|record| self.own(&record))
    }

    /// A handle of `record`, of which a view was borrowed from this batch. None if it is a record of another batch.
    ///
    /// With this, only the records that another task is to have cost a reference count.
    pub fn record(&self, record: &RecordView<'_>) -> Option<SharedRecord> {
        std::ptr::eq(record.batch, &raw const *self.batch).then(|| self.own(record))
    }

    /// Where `record`, of which a view was borrowed from this batch, is in it. None if it is a record of another batch. A place
    /// keeps nothing in memory.
    #[inline]
    pub fn place(&self, record: &RecordView<'_>) -> Option<RecordPlace> {
        let is_of_it = std::ptr::eq(record.batch, &raw const *self.batch);
        is_of_it.then(|| self.batch.records().place_of(&record.record))?
    }

    /// The record at a [place](Self::place) of this batch. At the place of another batch's record it shows bytes that mean nothing.
    #[inline]
    pub fn record_at(&self, place: RecordPlace) -> SharedRecord {
        SharedRecord { batch: Arc::clone(&self.batch), place }
    }

    /// Reads the records a few at a time.
    pub fn cursor(&self) -> RecordCursor {
        RecordCursor { batch: self.clone(), place: None, is_at_end: false }
    }

    fn own(&self, record: &RecordView<'_>) -> SharedRecord {
        let place = self.batch.records().place_of(&record.record).expect("the record is one of this batch");
        SharedRecord { batch: Arc::clone(&self.batch), place }
    }
}

/// Reads the records of a [`SharedBatch`] a few at a time, for a task that has room for a few. It borrows nothing, and going on
/// does not pass over the records before it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cluster = milena_broker::Broker::builder().start().await?;
/// # cluster.create_topic("orders", 1)?;
/// # let client = milena::Client::connect(cluster.bootstrap()).await?;
/// # let producer = client.producer().build().await?;
/// # for _ in 0..5 {
/// #     producer.post(milena::Record::to("orders").key("42").value("created")).await?;
/// # }
/// # producer.flush().await?;
/// # let mut consumer = client.consumer_direct().topic("orders").until_end().build().await?;
/// let mut offsets = Vec::new();
/// while let Some(batch) = consumer.next().await? {
///     let mut cursor = batch.share().cursor();
///     while cursor.advance(2, |record| offsets.push(record.offset())) {
///         tokio::task::yield_now().await;
///     }
/// }
/// assert_eq!(offsets, [0, 1, 2, 3, 4]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RecordCursor {
    batch: SharedBatch,
    /// None before the first record.
    place: Option<RecordsPlace>,
    is_at_end: bool,
}

impl RecordCursor {
    /// Calls `each` with the next records, `count` at most. Answers whether there may be more. A record that cannot be read ends
    /// the iteration, as in [`Batch::iter`].
    pub fn advance(&mut self, count: usize, mut each: impl FnMut(RecordView<'_>)) -> bool {
        if self.is_at_end {
            return false;
        }
        let mut records = RecordViews::resumed(&self.batch.batch, self.place, self.batch.from);
        for _ in 0..count {
            let Some(record) = records.next().filter(|record| record.offset() < self.batch.until) else {
                self.is_at_end = true;
                return false;
            };
            each(record);
        }
        self.place = Some(records.place());
        true
    }

    /// The batch.
    pub fn batch(&self) -> &SharedBatch {
        &self.batch
    }
}

impl SharedRecord {
    /// A part of the batch that the record is one of; see [`SharedBatch::range`]. Offsets that the batch does not have are left
    /// out.
    pub fn range(&self, offsets: Range<i64>) -> SharedBatch {
        let (first, next) = (self.batch.first_offset(), self.batch.next_offset());
        let from = offsets.start.clamp(first, next);
        SharedBatch { batch: Arc::clone(&self.batch), from, until: offsets.end.clamp(from, next) }
    }

    /// The record as a batch shows it, borrowed from this handle.
    #[inline]
    pub fn view(&self) -> RecordView<'_> {
        RecordView { record: self.batch.records().record_at(&self.place), batch: &self.batch }
    }

    /// The batch that it is a record of.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        self.batch.topic()
    }

    /// The partition.
    pub fn partition(&self) -> i32 {
        self.batch.partition()
    }

    /// The offset in the partition.
    #[inline]
    pub fn offset(&self) -> i64 {
        self.place.offset()
    }

    /// As [`RecordView::timestamp_ms`].
    pub fn timestamp_ms(&self) -> Option<i64> {
        self.view().timestamp_ms()
    }

    /// As [`RecordView::timestamp`].
    pub fn timestamp(&self) -> Option<SystemTime> {
        self.view().timestamp()
    }

    /// The key, or `None` if it is null.
    #[inline]
    pub fn key(&self) -> Option<&[u8]> {
        self.view().key()
    }

    /// The value, or `None` if it is null (a tombstone).
    #[inline]
    pub fn value(&self) -> Option<&[u8]> {
        self.view().value()
    }

    /// As [`RecordView::headers`].
    pub fn headers(&self) -> impl Iterator<Item = Header<'_>> {
        self.view().headers()
    }

    /// As [`RecordView::header`].
    pub fn header(&self, name: &str) -> Option<Option<&[u8]>> {
        self.view().header(name)
    }

    /// Copies the record, so that the copy does not keep the batch in memory.
    pub fn to_owned(&self) -> OwnedRecord {
        self.view().to_owned()
    }
}

impl fmt::Debug for SharedBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBatch")
            .field("topic", &self.topic())
            .field("partition", &self.partition())
            .field("first_offset", &self.first_offset())
            .field("next_offset", &self.next_offset())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for RecordCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordCursor")
            .field("batch", &self.batch)
            .field("is_at_end", &self.is_at_end)
            .finish()
    }
}

impl fmt::Debug for SharedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedRecord").field(&self.view()).finish()
    }
}

// They are for other tasks and threads.
const _: () = {
    const fn is_for_other_threads<T: Send + Sync + 'static>() {}
    is_for_other_threads::<SharedBatch>();
    is_for_other_threads::<SharedRecord>();
    is_for_other_threads::<RecordCursor>();
};
