//! The writers. Each notes the result of every one of its records.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use milena::{Acks, Delivery, Error, Header, Producer, Receipt, Record};
use tokio::time::{sleep, timeout};

use crate::network::lock;
use crate::plan::{Mode, ProducerPlan, Rng};
use crate::world::{Outcome, World};

/// A record, and the result that its writer got.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) topic: usize,
    /// The partition that was chosen for it.
    pub(crate) partition: Option<i32>,
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Vec<u8>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
    /// How many times the topic had been made again when the call began.
    pub(crate) incarnation: u32,
    pub(crate) told: Told,
}

/// The result of a record, as far as its writer knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// The call has not returned.
    Nothing,
    /// It was not taken, so it is in no log.
    NotTaken,
    /// It was taken, and no one waited for its result.
    Taken,
    /// The call was dropped at a point where it may have been taken.
    MaybeTaken,
    Written {
        partition: i32,
        offset: Option<i64>,
        timestamp_ms: i64,
    },
    /// A flush said that it was written.
    Flushed,
    Failed {
        maybe_written: bool,
        why: String,
    },
}

/// A writer's records, by sequence.
pub(crate) type Ledger = Arc<Mutex<Vec<Sent>>>;

/// Which record: the index of its writer, and of the record among the writer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Id {
    pub(crate) writer: usize,
    pub(crate) sequence: usize,
}

/// A producer and the tasks that share it.
pub(crate) struct Outlet {
    pub(crate) index: usize,
    pub(crate) plan: ProducerPlan,
    pub(crate) producer: Producer,
    deliveries: Mutex<Vec<(Id, Delivery)>>,
    /// Each with the number of failed flushes when its call began.
    posted: Mutex<Vec<(Id, u64)>>,
    failed_flushes: AtomicU64,
    flushing: tokio::sync::Mutex<()>,
}

/// A writer of an [`Outlet`].
pub(crate) struct Writer {
    pub(crate) world: Arc<World>,
    pub(crate) outlet: Arc<Outlet>,
    pub(crate) index: usize,
    /// Those of all writers.
    pub(crate) ledgers: Arc<Vec<Ledger>>,
    pub(crate) rng: Rng,
}

/// A writer stops after this many records; with tiny batches it takes more to fill queues.
const RECORDS_MAX: usize = 400;
const RECORDS_MAX_BURST: usize = 1500;

impl Outlet {
    pub(crate) fn new(index: usize, plan: ProducerPlan, producer: Producer) -> Arc<Self> {
        Arc::new(Self {
            index,
            plan,
            producer,
            deliveries: Mutex::default(),
            posted: Mutex::default(),
            failed_flushes: AtomicU64::new(0),
            flushing: tokio::sync::Mutex::new(()),
        })
    }

    /// Flushes, and checks the result. Cancelled after `limit`.
    pub(crate) async fn flush(
        &self,
        world: &World,
        ledgers: &[Ledger],
        limit: Option<Duration>,
        is_close: bool,
    ) -> Outcome<()> {
        let what = if is_close { "close" } else { "flush" };
        let turn = async {
            match self.plan.flushes_overlap {
                true => None,
                false => Some(self.flushing.lock().await),
            }
        };
        let _turn = world.within(format!("the turn to {what} producer {}", self.index), turn).await?;
        let failed_before = self.failed_flushes.load(Ordering::Acquire);
        let deliveries = std::mem::take(&mut *lock(&self.deliveries));
        let posted = std::mem::take(&mut *lock(&self.posted));
        let flush = async {
            let flush =
                async { if is_close { self.producer.close().await } else { self.producer.flush().await } };
            match limit {
                Some(limit) => timeout(limit, flush).await.ok(),
                None => Some(flush.await),
            }
        };
        let Some(flushed) = world.within(format!("{what} of producer {}", self.index), flush).await? else {
            lock(&self.deliveries).extend(deliveries);
            lock(&self.posted).extend(posted);
            return Ok(());
        };
        if flushed.is_err() {
            self.failed_flushes.fetch_add(1, Ordering::AcqRel);
            // Without acknowledgements a flush tells of records that a lost connection may have taken with it.
            if self.plan.patient && self.plan.acks != Acks::None {
                world.violate(format_args!("{what} of producer {} failed: {flushed:?}", self.index));
            }
        }
        let is_told = flushed.is_ok() && !self.plan.flushes_overlap && self.plan.acks != Acks::None;
        for (id, failed) in posted {
            let is_sure = is_told && failed == failed_before;
            lock(&ledgers[id.writer])[id.sequence].told = if is_sure { Told::Flushed } else { Told::Taken };
        }
        for (id, delivery) in deliveries {
            if !delivery.is_settled() {
                let index = self.index;
                world.violate(format_args!("{what} of producer {index} returned before {id:?} was settled"));
            }
            self.settle(world, ledgers, id, delivery).await?;
        }
        Ok(())
    }

    async fn settle(&self, world: &World, ledgers: &[Ledger], id: Id, delivery: Delivery) -> Outcome<()> {
        let what = format!("the delivery of {id:?}: {delivery:?}");
        let outcome = world.within(what, delivery).await?;
        self.told(world, ledgers, id, outcome);
        Ok(())
    }

    fn told(&self, world: &World, ledgers: &[Ledger], id: Id, outcome: Result<Receipt, Error>) {
        if self.plan.patient
            && !world.is_added(&lock(&ledgers[id.writer])[id.sequence])
            && let Err(error) = &outcome
        {
            world.violate(format_args!("{id:?} of a patient producer failed: {error}"));
        }
        let sent = &mut lock(&ledgers[id.writer])[id.sequence];
        if let Ok(receipt) = &outcome
            && let Some(offset) = receipt.offset()
        {
            world.learn_end(sent.topic, receipt.partition(), offset + 1);
        }
        sent.told = match outcome {
            Ok(receipt) => Told::Written {
                partition: receipt.partition(),
                offset: receipt.offset(),
                timestamp_ms: receipt.timestamp_ms(),
            },
            Err(error) => Told::Failed { maybe_written: error.maybe_written(), why: error.to_string() },
        };
    }

    /// Nothing is taken any more.
    pub(crate) async fn check_closed(&self, world: &World) -> Outcome<()> {
        let late = Record::to("topic-0").partition(0).value("late");
        let taken = world.within("a call after close", self.producer.enqueue(late)).await?;
        if taken.is_ok() {
            world.violate(format_args!("producer {} took a record after close", self.index));
        }
        Ok(())
    }
}

impl Writer {
    pub(crate) async fn run(mut self) -> Outcome<()> {
        let is_burst = self.world.plan.mode == Mode::Burst;
        let records_max = if is_burst { RECORDS_MAX_BURST } else { RECORDS_MAX };
        while !self.world.is_over() && lock(&self.ledgers[self.index]).len() < records_max {
            match self.rng.below(100) {
                20..28 if is_burst => {
                    for _ in 0..self.rng.between(10, 200) {
                        self.write().await?;
                    }
                }
                0..2 => self.flush().await?,
                2..9 => self.settle_one().await?,
                9..14 => sleep(self.rng.moment(Duration::from_millis(20))).await,
                14..20 => tokio::task::yield_now().await,
                _ => self.write().await?,
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Outcome<()> {
        let limit = self.rng.percent(40).then(|| self.rng.moment(Duration::from_millis(10)));
        self.outlet.flush(&self.world, &self.ledgers, limit, false).await
    }

    /// Waits for one delivery; the patience is that of the program, so it may be dropped.
    async fn settle_one(&mut self) -> Outcome<()> {
        let taken = {
            let mut deliveries = lock(&self.outlet.deliveries);
            let at = self.rng.below(deliveries.len());
            (at < deliveries.len()).then(|| deliveries.swap_remove(at))
        };
        let Some((id, mut delivery)) = taken else { return Ok(()) };
        let limit = self.rng.moment(Duration::from_millis(40));
        match timeout(limit, &mut delivery).await {
            Ok(outcome) => self.outlet.told(&self.world, &self.ledgers, id, outcome),
            Err(_) if self.rng.percent(30) => {}
            Err(_) => lock(&self.outlet.deliveries).push((id, delivery)),
        }
        Ok(())
    }

    async fn write(&mut self) -> Outcome<()> {
        let id = Id { writer: self.index, sequence: lock(&self.ledgers[self.index]).len() };
        let sent = self.make(id);
        lock(&self.ledgers[self.index]).push(sent.clone());
        let topic = World::topic(sent.topic);
        let headers: Vec<Header<'_>> =
            sent.headers.iter().map(|(name, value)| Header::new(name, value.as_deref())).collect();
        let mut record =
            Record::to(&topic).key_or_null(sent.key.as_deref()).value(&sent.value).headers(&headers);
        if let Some(partition) = sent.partition {
            record = record.partition(partition);
        }
        if let Some(timestamp_ms) = sent.timestamp_ms {
            record = record.timestamp_ms(timestamp_ms);
        }
        let limit = self.rng.percent(12).then(|| self.rng.moment(Duration::from_millis(15)));
        // A writer that waits for each answer does not fill queues.
        let waits = if self.world.plan.mode == Mode::Burst { 1 } else { 8 };
        let told = match self.rng.below(100) {
            at if at < waits => self.send(id, record, limit).await?,
            0..40 => self.post(id, record, limit).await?,
            _ => self.enqueue(id, record, limit).await?,
        };
        if let Some(told) = told {
            lock(&self.ledgers[self.index])[id.sequence].told = told;
        }
        Ok(())
    }

    async fn send(&self, id: Id, record: Record<'_>, limit: Option<Duration>) -> Outcome<Option<Told>> {
        let producer = &self.outlet.producer;
        let Some(outcome) = self.call(id, "send", producer.send(record), limit).await? else {
            return Ok(Some(Told::MaybeTaken));
        };
        self.outlet.told(&self.world, &self.ledgers, id, outcome);
        Ok(None)
    }

    async fn enqueue(&self, id: Id, record: Record<'_>, limit: Option<Duration>) -> Outcome<Option<Told>> {
        let producer = &self.outlet.producer;
        Ok(Some(match self.call(id, "enqueue", producer.enqueue(record), limit).await? {
            Some(Ok(delivery)) => {
                // Some deliveries are dropped at once.
                if !id.sequence.is_multiple_of(16) {
                    lock(&self.outlet.deliveries).push((id, delivery));
                }
                Told::Taken
            }
            Some(Err(error)) => self.refused(id, &error),
            None => Told::NotTaken,
        }))
    }

    async fn post(&self, id: Id, record: Record<'_>, limit: Option<Duration>) -> Outcome<Option<Told>> {
        let failed_before = self.outlet.failed_flushes.load(Ordering::Acquire);
        let producer = &self.outlet.producer;
        Ok(Some(match self.call(id, "post", producer.post(record), limit).await? {
            Some(Ok(())) => {
                lock(&self.outlet.posted).push((id, failed_before));
                Told::Taken
            }
            Some(Err(error)) => self.refused(id, &error),
            None => Told::NotTaken,
        }))
    }

    /// A call, dropped after `limit`.
    async fn call<T>(
        &self,
        id: Id,
        what: &str,
        call: impl Future<Output = T>,
        limit: Option<Duration>,
    ) -> Outcome<Option<T>> {
        let limited = async {
            match limit {
                Some(limit) => timeout(limit, call).await.ok(),
                None => Some(call.await),
            }
        };
        self.world.within(format!("{what} of {id:?}"), limited).await
    }

    fn refused(&self, id: Id, error: &Error) -> Told {
        if error.maybe_written() {
            self.world.violate(format_args!("{id:?} was not taken, and yet: {error}"));
        }
        let is_added = self.world.is_added(&lock(&self.ledgers[id.writer])[id.sequence]);
        if self.outlet.plan.patient && !is_added {
            self.world.violate(format_args!("{id:?} was not taken from a patient writer: {error}"));
        }
        Told::NotTaken
    }

    /// A record with its writer and sequence.
    fn make(&mut self, id: Id) -> Sent {
        let rng = &mut self.rng;
        let topic = rng.below(self.world.topic_count());
        let partitions = self.world.partitions(topic);
        let mut room = self.outlet.plan.batch_bytes_max.saturating_sub(100).min(20_000);
        let mut bytes = |most: usize| {
            let bytes = rng.below(most.min(room) + 1);
            room -= bytes;
            bytes
        };
        let value_bytes = match id.sequence % 10 {
            0 => bytes(3000),
            _ => bytes(60),
        };
        let header_bytes = if id.sequence % 7 == 3 { bytes(8000) } else { 0 };
        let mut value = format!("{}:{}:", id.writer, id.sequence).into_bytes();
        value.resize(value.len() + value_bytes, b'a' + (id.sequence % 26) as u8);
        let headers = match header_bytes {
            0 => Vec::new(),
            bytes => vec![("h".to_owned(), Some(vec![b'h'; bytes])), ("null".to_owned(), None)],
        };
        let how = rng.below(10);
        Sent {
            topic,
            partition: (how < 3).then(|| rng.below(partitions as usize) as i32),
            timestamp_ms: rng.percent(30).then(|| 1_700_000_000_000 + rng.below(1_000_000) as i64),
            key: (how < 7).then(|| format!("key-{}", rng.below(12)).into_bytes()),
            value,
            headers,
            incarnation: self.world.incarnation(topic),
            told: Told::Nothing,
        }
    }
}

/// A producer can write to each of these partitions again, and what it is told is noted.
pub(crate) async fn prove_alive(
    world: &World,
    outlet: &Outlet,
    writer: usize,
    ledgers: &[Ledger],
    partitions: &[(usize, i32)],
    value_bytes: usize,
) -> Outcome<()> {
    for (topic, partition) in partitions.iter().copied() {
        let prove = async {
            loop {
                let id = Id { writer, sequence: lock(&ledgers[writer]).len() };
                let mut value = format!("{writer}:{}:alive", id.sequence).into_bytes();
                value.resize(value_bytes.max(value.len()), b'v');
                lock(&ledgers[writer]).push(Sent {
                    topic,
                    partition: Some(partition),
                    timestamp_ms: None,
                    key: None,
                    value: value.clone(),
                    headers: Vec::new(),
                    incarnation: world.incarnation(topic),
                    told: Told::Nothing,
                });
                let name = World::topic(topic);
                let sent = outlet.producer.send(Record::to(&name).partition(partition).value(&value)).await;
                let (is_written, failure) = (sent.is_ok(), sent.as_ref().err().map(ToString::to_string));
                outlet.told(world, ledgers, id, sent);
                if is_written {
                    return;
                }
                world.note(format_args!("not alive yet: {}", failure.unwrap_or_default()));
                // Impatient producers give up soon.
                sleep(Duration::from_millis(5)).await;
            }
        };
        let index = outlet.index;
        let what = format!(
            "a record of producer {index} for partition {partition} of topic {topic} after the storm"
        );
        world.within(what, prove).await?;
    }
    Ok(())
}
