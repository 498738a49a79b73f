//! A producer as a sink of records.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::future::BoxFuture;
use futures_sink::Sink;

use super::{Producer, Step};
use crate::{Error, Record};

/// Takes records of type `R` as a [`Sink`], to which a stream can be forwarded: see [`Producer::sink`].
///
/// It is ready when the last record is in a batch. Flushing it flushes the producer, and fails if records that were
/// [posted](Producer::post) or went through a sink were not written. Closing it flushes; the producer goes on. One of a
/// [transaction](crate::Transaction::sink) lives as long as the transaction is open: `'a` is `'static` for all others.
pub struct RecordSink<'a, R> {
    producer: Producer,
    /// A record that waits for room or for metadata.
    waiting: Option<BoxFuture<'static, Result<(), Error>>>,
    flushing: Option<BoxFuture<'static, Result<(), Error>>>,
    records: PhantomData<fn(R)>,
    transaction: PhantomData<&'a ()>,
}

impl Producer {
    /// A sink of records. `R` is [`OwnedRecord`](crate::OwnedRecord), or a program's own type that a [`Record`] can be made
    /// from by reference.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # cluster.create_topic("orders", 2)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// # let producer = client.producer().build().await?;
    /// use futures_util::{SinkExt as _, StreamExt as _, stream};
    /// use milena::Record;
    ///
    /// struct Order(u32);
    ///
    /// impl<'a> From<&'a Order> for Record<'a> {
    ///     fn from(order: &'a Order) -> Self {
    ///         Record::to("orders").key(order.0.to_string()).value("created")
    ///     }
    /// }
    ///
    /// let orders = stream::iter((0..100).map(Order));
    /// orders.map(Ok).forward(producer.sink()).await?; // flushes at the end
    /// # Ok(())
    /// # }
    /// ```
    pub fn sink<R>(&self) -> RecordSink<'static, R>
    where
        for<'r> Record<'r>: From<&'r R>,
    {
        RecordSink::of(self)
    }

    /// Posts the record if that needs no waiting; `None` otherwise.
    fn try_post(&self, record: &Record<'_>) -> Result<Option<()>, Error> {
        let timestamp_ms = self.timestamp_of(record)?;
        let topic = self.0.parts.topics.get(record.topic);
        match self.append_at_once(topic, record, timestamp_ms, |batch, _| batch.posted += 1) {
            Step::Done(posted) => posted.map(Some),
            Step::Wait(..) => Ok(None),
        }
    }
}

impl<R> RecordSink<'_, R> {
    pub(super) fn of(producer: &Producer) -> Self {
        let (records, transaction) = (PhantomData, PhantomData);
        Self { producer: producer.clone(), waiting: None, flushing: None, records, transaction }
    }
}

impl<R: Send + Sync + 'static> Sink<R> for RecordSink<'_, R>
where
    for<'r> Record<'r>: From<&'r R>,
{
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(waiting) = &mut self.waiting {
            let posted = ready!(waiting.as_mut().poll(cx));
            self.waiting = None;
            posted?;
        }
        Poll::Ready(Ok(()))
    }

    fn start_send(mut self: Pin<&mut Self>, item: R) -> Result<(), Error> {
        debug_assert!(self.waiting.is_none(), "poll_ready comes first");
        if self.producer.try_post(&Record::from(&item))?.is_none() {
            let producer = self.producer.clone();
            self.waiting = Some(Box::pin(async move { producer.post(Record::from(&item)).await }));
        }
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.as_mut().poll_ready(cx))?;
        let this = &mut *self;
        let producer = &this.producer;
        let flushing = this.flushing.get_or_insert_with(|| {
            let producer = producer.clone();
            Box::pin(async move { producer.flush().await })
        });
        let flushed = ready!(flushing.as_mut().poll(cx));
        this.flushing = None;
        Poll::Ready(flushed)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_flush(cx)
    }
}

impl<R> fmt::Debug for RecordSink<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordSink").field("producer", &self.producer).finish_non_exhaustive()
    }
}
