//! Consumers as streams of batches.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use milena_core::Instant;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use super::{Batch, Consumer, PartitionConsumer};
use crate::Error;
use crate::clock::Clock;

/// For how long a reader takes batches that are there before it gives way to the other tasks of its runtime.
const TURN: Duration = Duration::from_millis(1);

/// How a reader waits for batches, and for its turn, from one poll to the next.
#[derive(Default)]
pub(super) struct Waiting {
    /// A stream's place among the waiters of a `Notify`. It is given back before another waiter takes its place, because
    /// a notification wakes one.
    place: Option<Pin<Box<OwnedNotified>>>,
    /// When the reader took its first batch since it waited.
    turn_began: Option<Instant>,
}

impl Waiting {
    /// Takes a place. This comes before looking for a batch, so that one that arrives in between is not missed.
    fn take(&mut self, notify: &Arc<Notify>) {
        let place = self.place.get_or_insert_with(|| Box::pin(Arc::clone(notify).notified_owned()));
        place.as_mut().enable();
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(place) = &mut self.place {
            ready!(place.as_mut().poll(cx));
        }
        self.leave();
        self.waited();
        Poll::Ready(())
    }

    /// Gives the place back. If it was notified, the notification goes to the next waiter.
    pub(super) fn leave(&mut self) {
        self.place = None;
    }

    /// The reader has waited, and other tasks could run.
    pub(super) fn waited(&mut self) {
        self.turn_began = None;
    }

    /// Gives way to the runtime's other tasks when the reader's turn is over. While batches are there, nothing else would make
    /// it wait: on a runtime with one thread, heartbeats and fetches would not run until it has read all of them.
    pub(super) fn poll_turn(&mut self, clock: &Clock, cx: &mut Context<'_>) -> Poll<()> {
        let now = clock.now();
        if now < *self.turn_began.get_or_insert(now) + TURN {
            return Poll::Ready(());
        }
        self.waited();
        // Its first poll sees to it that the task is woken after the others. A plain wake-up would come before the sockets
        // are looked at.
        std::pin::pin!(tokio::task::yield_now()).poll(cx)
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
        let this = &mut *self;
        ready!(this.waiting.poll_turn(&this.shared.client.0.clock, cx));
        loop {
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
        let this = &mut *self;
        ready!(this.waiting.poll_turn(&this.opener.shared.client.0.clock, cx));
        loop {
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
