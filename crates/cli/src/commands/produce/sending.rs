//! Sends records and waits for their deliveries.
//!
//! ```text
//!  Pieces ─▶ Sender::send ─▶ producer
//!                │ a flight: the delivery, its place in the input, when it was sent
//!                └─▶ one task for each partition, whose deliveries are settled in order ─▶ Tally
//! ```

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use milena::{Delivery, Error, Header, Record};
use tokio::sync::{Notify, mpsc};

use super::pace::Pace;
use super::source::{Pieces, Place, Source};
use super::tally::{Settled, Tally};
use crate::exit::{Exit, Failure};
use crate::progress::TICK;
use crate::recipe::Recipe;
use crate::schemas::Encoder;

/// What the sender and the tasks that settle share.
#[derive(Debug)]
pub(super) struct Shared {
    tally: Mutex<Tally>,
    /// How many records were sent and settled, from which a timeout sees whether the cluster makes progress.
    begun: AtomicU64,
    settled: AtomicU64,
    /// Told when records were settled.
    moved: Notify,
    has_failed: AtomicBool,
}

impl Shared {
    pub(super) fn new(tally: Tally) -> Self {
        let (begun, settled) = (AtomicU64::new(0), AtomicU64::new(0));
        Self {
            tally: Mutex::new(tally),
            begun,
            settled,
            moved: Notify::new(),
            has_failed: AtomicBool::new(false),
        }
    }

    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counts(&self) -> (u64, u64) {
        (self.begun.load(Ordering::Acquire), self.settled.load(Ordering::Acquire))
    }

    /// How many records were sent and are not settled.
    pub(super) fn unsettled(&self) -> u64 {
        let (begun, settled) = self.counts();
        begun.saturating_sub(settled)
    }

    /// Waits until all records that were sent are settled. Cancel safe.
    pub(super) async fn all_settled(&self) {
        self.until(|shared| shared.unsettled() == 0).await;
    }

    /// Waits until a record has failed. Cancel safe.
    pub(super) async fn failed(&self) {
        self.until(|shared| shared.has_failed.load(Ordering::Acquire)).await;
    }

    async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            // Before the look, so that no change after it is missed.
            moved.as_mut().enable();
            if is_so(self) {
                return;
            }
            moved.await;
        }
    }

    /// Completes when records were in flight for `limit` and none of them was settled and none was sent in that time.
    pub(super) async fn stalled(&self, limit: Option<Duration>) -> Failure {
        let Some(limit) = limit else { return std::future::pending().await };
        let mut tick = tokio::time::interval(TICK);
        let (mut moved, mut moved_at) = ((0, 0), Instant::now());
        loop {
            tick.tick().await;
            let now = self.counts();
            if now != moved || now.0 == now.1 {
                (moved, moved_at) = (now, Instant::now());
            } else if moved_at.elapsed() >= limit {
                return Failure::new(Exit::Unreachable, format!("no record was acknowledged for {limit:?}"));
            }
        }
    }

    fn settle(&self, settled: &mut Vec<Settled>) {
        let count = settled.len() as u64;
        if self.tally().add(settled.drain(..)) {
            self.has_failed.store(true, Ordering::Release);
        }
        self.settled.fetch_add(count, Ordering::AcqRel);
        self.moved.notify_waiters();
    }
}

/// A record on its way.
struct Flight {
    place: Place,
    sent_at: Instant,
    bytes: u64,
    delivery: Delivery,
}

/// Takes records, as a producer or one of its transactions does.
pub(super) trait Take {
    async fn take(&self, record: Record<'_>) -> Result<Delivery, Error>;
}

impl Take for milena::Producer {
    async fn take(&self, record: Record<'_>) -> Result<Delivery, Error> {
        self.enqueue(record).await
    }
}

impl Take for milena::Transaction<'_> {
    async fn take(&self, record: Record<'_>) -> Result<Delivery, Error> {
        self.enqueue(record).await
    }
}

/// Makes records of pieces and sends them, at the pace that is asked for.
pub(super) struct Sender {
    topic: String,
    recipe: Recipe,
    encoder: Encoder,
    pub(super) source: Source,
    pieces: Pieces,
    pace: Option<Pace>,
    /// When the next piece is due, once that was asked.
    due: Option<Instant>,
    pub(super) shared: Arc<Shared>,
    settlers: BTreeMap<i32, mpsc::UnboundedSender<Flight>>,
}

impl Sender {
    pub(super) fn new(
        topic: String,
        recipe: Recipe,
        encoder: Encoder,
        source: Source,
        pace: Option<Pace>,
        shared: Arc<Shared>,
    ) -> Self {
        let pieces = Pieces::new(source.clone().read());
        Self { topic, recipe, encoder, source, pieces, pace, due: None, shared, settlers: BTreeMap::new() }
    }

    /// Waits until there is a piece and it is due; false at the end of the input. Cancel safe.
    pub(super) async fn ready(&mut self) -> Result<bool, Failure> {
        if !self.pieces.ready().await? {
            return Ok(false);
        }
        if let Some(pace) = &mut self.pace {
            let due = *self.due.get_or_insert_with(|| pace.next(Instant::now()));
            if due > Instant::now() {
                tokio::time::sleep_until(due.into()).await;
            }
        }
        Ok(true)
    }

    /// Sends the next piece, which is ready. The place of its record, if there is one in it. The producer's memory bounds what
    /// is on its way. If the future is dropped, the piece is not sent and not there any more.
    ///
    /// # Errors
    /// When the piece is no record, or the producer does not take it. The failure names the place.
    pub(super) async fn send(&mut self, to: &impl Take) -> Result<Option<Place>, Failure> {
        self.due = None;
        let Some((place, piece)) = self.pieces.take() else { return Ok(None) };
        let name = || self.source.name(place.number, place.file, true);
        let line = self.recipe.apply(piece).map_err(|error| Failure::usage(error).at(&name()))?;
        let Some(mut line) = line else { return Ok(None) };
        self.encoder.encode(&mut line).await.map_err(|failure| failure.at(&name()))?;
        // An empty vector does not allocate, so records without headers cost nothing here.
        let headers: Vec<_> =
            line.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect();
        let mut record = Record::to(&self.topic)
            .key_or_null(line.key.as_deref())
            .value_or_null(line.value.as_deref())
            .headers(&headers);
        record = line.partition.into_iter().fold(record, Record::partition);
        record = line.timestamp.into_iter().fold(record, Record::timestamp_ms);
        let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len) as u64;
        let bytes = length(line.key.as_deref()) + length(line.value.as_deref());
        let sent_at = Instant::now();
        let delivery = to.take(record).await.map_err(|error| Failure::from(error).at(&name()))?;
        self.shared.begun.fetch_add(1, Ordering::AcqRel);
        let settler = self.settlers.entry(delivery.partition()).or_insert_with(|| {
            let (send, flights) = mpsc::unbounded_channel();
            tokio::spawn(settle(Arc::clone(&self.shared), flights));
            send
        });
        // The task ends only when this sender is gone.
        let _ = settler.send(Flight { place, sent_at, bytes, delivery });
        Ok(Some(place))
    }
}

/// Waits for one partition's deliveries, which are settled in order. The tally is locked once for many of them.
async fn settle(shared: Arc<Shared>, mut flights: mpsc::UnboundedReceiver<Flight>) {
    const TAKEN_MAX: usize = 1024;
    let mut taken = Vec::with_capacity(TAKEN_MAX);
    let mut settled = Vec::with_capacity(TAKEN_MAX);
    while flights.recv_many(&mut taken, TAKEN_MAX).await > 0 {
        for Flight { place, sent_at, bytes, delivery } in taken.drain(..) {
            if !delivery.is_settled() && !settled.is_empty() {
                // Waiting may take a while, so count those that are settled first.
                shared.settle(&mut settled);
            }
            let outcome = delivery.await;
            let latency_us = u32::try_from(sent_at.elapsed().as_micros()).unwrap_or(u32::MAX);
            settled.push(Settled { place, bytes, latency_us, outcome });
        }
        shared.settle(&mut settled);
    }
}
