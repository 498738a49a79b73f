//! The handle of one topic.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::topics::TopicEntry;
use super::{Delivery, Producer, Receipt};
use crate::{Error, Record};

/// Writes records to one topic: see [`Producer::topic`] and [`Transaction::topic`](crate::Transaction::topic). Cheap to clone;
/// clones share everything, and keep the producer. One of a transaction lives as long as the transaction is open: `'a` is
/// `'static` for all others.
///
/// Its records need no topic ([`Record::new`]), and no look-up of the topic's name. Otherwise the calls are those of
/// [`Producer`]. Records that go through the handle and those that go through the producer share their batches.
#[derive(Clone)]
pub struct TopicProducer<'a> {
    producer: Producer,
    entry: Arc<TopicEntry>,
    transaction: PhantomData<&'a ()>,
}

impl TopicProducer<'static> {
    /// The producer that the handle is of.
    pub fn producer(&self) -> &Producer {
        &self.producer
    }
}

impl TopicProducer<'_> {
    pub(super) fn new(producer: Producer, entry: Arc<TopicEntry>) -> Self {
        Self { producer, entry, transaction: PhantomData }
    }

    /// The topic's name.
    pub fn name(&self) -> &str {
        &self.entry.name
    }

    /// Writes a record and waits until it is written: [`Producer::send`].
    ///
    /// # Errors
    /// As [`Producer::send`], and when the record names another topic.
    ///
    /// # Cancel safety
    /// As [`Producer::send`].
    pub async fn send(&self, record: Record<'_>) -> Result<Receipt, Error> {
        self.enqueue(record).await?.await
    }

    /// Takes a record, waiting only for room: [`Producer::enqueue`].
    ///
    /// # Errors
    /// As [`Producer::enqueue`], and when the record names another topic.
    ///
    /// # Cancel safety
    /// As [`Producer::enqueue`].
    pub async fn enqueue(&self, record: Record<'_>) -> Result<Delivery, Error> {
        self.producer.enqueue_to(Some(&self.entry), self.addressed(record)?).await
    }

    /// Takes a record without making a delivery for it: [`Producer::post`].
    ///
    /// # Errors
    /// As [`Producer::post`], and when the record names another topic.
    ///
    /// # Cancel safety
    /// As [`Producer::post`].
    pub async fn post(&self, record: Record<'_>) -> Result<(), Error> {
        self.producer.post_to(Some(&self.entry), self.addressed(record)?).await
    }

    /// Takes a record if that needs no waiting: [`Producer::try_enqueue`].
    ///
    /// # Errors
    /// As [`Producer::try_enqueue`], and when the record names another topic.
    pub fn try_enqueue(&self, record: Record<'_>) -> Result<Delivery, Error> {
        self.producer.try_enqueue_to(Some(&self.entry), &self.addressed(record)?)
    }

    /// Takes a record, and calls `settled` with what became of it: [`Producer::enqueue_with`].
    ///
    /// # Errors
    /// As [`Producer::enqueue_with`], and when the record names another topic.
    ///
    /// # Cancel safety
    /// As [`Producer::enqueue_with`].
    pub async fn enqueue_with(
        &self,
        record: Record<'_>,
        settled: impl FnOnce(Result<Receipt, Error>) + Send + 'static,
    ) -> Result<(), Error> {
        let record = self.addressed(record)?;
        self.producer.enqueue_with_to(Some(&self.entry), record, Box::new(settled)).await
    }

    /// The record with this topic.
    #[inline]
    fn addressed<'r>(&'r self, mut record: Record<'r>) -> Result<Record<'r>, Error> {
        if !record.topic.is_empty() && *record.topic != *self.entry.name {
            return Err(self.of_another_topic(&record));
        }
        record.topic = &self.entry.name;
        Ok(record)
    }

    #[cold]
    fn of_another_topic(&self, record: &Record<'_>) -> Error {
        let doing = format!("writing to topic {:?}", self.entry.name);
        Error::caller(doing, format!("the record is for topic {:?}", record.topic))
    }
}

impl fmt::Debug for TopicProducer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicProducer").field("topic", &self.entry.name).finish_non_exhaustive()
    }
}
