//! Consumers as streams of batches.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use super::{Batch, Consumer, PartitionConsumer};
use crate::Error;

/// A stream's place among the waiters of a `Notify`, from one poll to the next. It is given back before another waiter
/// takes its place, because a notification wakes one.
#[derive(Default)]
pub(super) struct Waiting(Option<Pin<Box<OwnedNotified>>>);

impl Waiting {
    /// Takes a place. This comes before looking for a batch, so that one that arrives in between is not missed.
    fn take(&mut self, notify: &Arc<Notify>) {
        let place = self.0.get_or_insert_with(|| Box::pin(Arc::clone(notify).notified_owned()));
        place.as_mut().enable();
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(place) = &mut self.0 {
            ready!(place.as_mut().poll(cx));
        }
        self.leave();
        Poll::Ready(())
    }

    /// Gives the place back. If it was notified, the notification goes to the next waiter.
    pub(super) fn leave(&mut self) {
        self.0 = None;
    }
}

/// What a reader finds when it looks.
#[expect(
    clippy::large_enum_variant,
    reason = "a box would be an allocation per batch, for a value that lives for a call"
)]
pub(super) enum Look {
    Batch(Batch),
    /// No batch yet.
    Nothing,
    /// No batch, and none will come.
    End,
}

/// The batches that [`next`](Consumer::next) returns, as a stream, for the combinators of the `futures` crate.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cluster = milena_broker::Broker::builder().start().await?;
/// # cluster.create_topic("orders", 2)?;
/// # let client = milena::Client::connect(cluster.bootstrap()).await?;
/// # client.producer().build().await?.send(milena::Record::to("orders").value("created")).await?;
/// use futures_util::TryStreamExt;
///
/// let consumer = client.consumer_direct().topic("orders").until_end().build().await?;
/// let count = consumer.try_fold(0, async |count, batch| Ok(count + batch.iter().count())).await?;
/// assert_eq!(count, 1);
/// # Ok(())
/// # }
/// ```
impl Stream for Consumer {
    type Item = Result<Batch, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let this = &mut *self;
            this.waiting.take(&this.shared.ready.arrived);
            if let Some(item) = item(this.look()) {
                this.waiting.leave();
                return Poll::Ready(item);
            }
            ready!(this.waiting.poll(cx));
        }
    }
}

/// The batches that [`next`](PartitionConsumer::next) returns, as a stream.
impl Stream for PartitionConsumer {
    type Item = Result<Batch, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let this = &mut *self;
            this.waiting.take(&this.arrived);
            if let Some(item) = item(this.look()) {
                this.waiting.leave();
                return Poll::Ready(item);
            }
            ready!(this.waiting.poll(cx));
        }
    }
}

/// What a stream yields. None when it must wait.
fn item(look: Result<Look, Error>) -> Option<Option<Result<Batch, Error>>> {
    match look {
        Ok(Look::Batch(batch)) => Some(Some(Ok(batch))),
        Ok(Look::Nothing) => None,
        Ok(Look::End) => Some(None),
        Err(error) => Some(Some(Err(error))),
    }
}
