//! One run of the demo: sends records, reads the same records, and notes both in the ledger.
//!
//! ```text
//!              ┌── Delivery ──▶ settle (one task per partition) ─────┐
//!  produce ────┤                                                     ▼
//!              └── records ──▶ cluster ──▶ read (several tasks) ──▶ Ledger, Latency, counters ──▶ watch
//! ```
//!
//! Reading starts before producing. It ends when every partition is read to the end that it had after the last record was
//! settled, so that a record that was written twice is found even if it is the last one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use milena::{Batch, Client, Consumer, Delivery, Header, OffsetAt, Position, Producer, Record};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};

use super::flights::Flights;
use super::ledger::{Findings, Ledger, Reading, digest};
use super::report::Snapshot;
use crate::exit::Failure;
use crate::latency::Latency;
use crate::memory;

/// The header with the record's index, as four bytes, big endian.
pub(super) const INDEX_HEADER: &[u8] = b"index";

/// What the tasks of a run share.
pub(crate) struct Run {
    pub(crate) topic: String,
    pub(crate) partition_count: i32,
    pub(crate) record_count: u32,
    /// Records per second; without it, as many as possible.
    pub(crate) rate: Option<u32>,
    pub(crate) flights: Flights,
    pub(crate) ledger: Ledger,
    pub(crate) to_ack: Latency,
    pub(crate) to_delivery: Latency,
    started: Instant,
    sent_bytes: AtomicU64,
    acknowledged_count: AtomicU64,
    failed_count: AtomicU64,
    delivered_count: AtomicU64,
    delivered_bytes: AtomicU64,
    last_ack_us: AtomicU64,
    last_delivery_us: AtomicU64,
}

/// Tells the readers when to stop.
#[derive(Clone, Debug)]
enum Phase {
    /// More records may come.
    Sending,
    /// Every record is settled; these are the end offsets of the partitions.
    Sent(Arc<BTreeMap<i32, i64>>),
}

/// The result of a run that was not interrupted.
pub(crate) struct Outcome {
    pub(crate) findings: Findings,
    pub(crate) sent_bytes: u64,
    pub(crate) failed_count: u64,
    pub(crate) first_failure: Option<String>,
    pub(crate) produce_time: Duration,
    pub(crate) consume_time: Duration,
}

impl Run {
    pub(crate) fn new(
        topic: String,
        partition_count: i32,
        flights: Flights,
        records: Option<u32>,
        rate: Option<u32>,
    ) -> Self {
        let all = u32::try_from(flights.row_count()).unwrap_or(u32::MAX);
        let record_count = records.unwrap_or(all);
        Self {
            topic,
            partition_count,
            record_count,
            rate,
            flights,
            ledger: Ledger::new(record_count as usize),
            to_ack: Latency::new(),
            to_delivery: Latency::new(),
            started: Instant::now(),
            sent_bytes: AtomicU64::new(0),
            acknowledged_count: AtomicU64::new(0),
            failed_count: AtomicU64::new(0),
            delivered_count: AtomicU64::new(0),
            delivered_bytes: AtomicU64::new(0),
            last_ack_us: AtomicU64::new(0),
            last_delivery_us: AtomicU64::new(0),
        }
    }

    /// The state of the run now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            time: self.started.elapsed(),
            record_count: self.record_count.into(),
            acknowledged_count: self.acknowledged_count.load(Ordering::Relaxed),
            delivered_count: self.delivered_count.load(Ordering::Relaxed),
            delivered_bytes: self.delivered_bytes.load(Ordering::Relaxed),
            to_ack: self.to_ack.percentiles(),
            to_delivery: self.to_delivery.percentiles(),
            memory: memory::resident(),
        }
    }

    /// A number that grows while the cluster makes progress. Filling the client's own buffers is not progress.
    pub(crate) fn movement(&self) -> u64 {
        [&self.acknowledged_count, &self.failed_count, &self.delivered_count]
            .map(|counter| counter.load(Ordering::Relaxed))
            .into_iter()
            .sum()
    }

    /// Microseconds since the run began; u32 is enough for an hour.
    fn now_us(&self) -> u32 {
        u32::try_from(self.started.elapsed().as_micros()).unwrap_or(u32::MAX)
    }
}

/// Sends and reads all records. Dropping the future ends all its tasks.
pub(crate) async fn transfer(
    run: &Arc<Run>,
    client: &Client,
    producer: Producer,
) -> Result<Outcome, Failure> {
    let (phase, phases) = watch::channel(Phase::Sending);
    let mut readers = JoinSet::new();
    for partitions in shares(run.partition_count) {
        let assigned = partitions.iter().map(|p| (&run.topic, *p));
        let consumer = client.consumer_direct().assign(assigned, Position::Offset(0)).build().await?;
        readers.spawn(read(Arc::clone(run), consumer, partitions, phases.clone()));
    }
    let mut settlers = JoinSet::new();
    let settling = (0..run.partition_count)
        .map(|_| {
            // The producer's memory bounds it: a delivery is in flight, or about to be received here.
            let (send, deliveries) = mpsc::unbounded_channel();
            settlers.spawn(settle(Arc::clone(run), deliveries));
            send
        })
        .collect();
    let mut producing = JoinSet::new();
    producing.spawn(produce(Arc::clone(run), producer, settling));

    let mut first_failure = None;
    joined(&mut producing).await?;
    while let Some(failure) = settlers.join_next().await {
        first_failure = first_failure.or(failure.map_err(|e| task_failed(&e))?);
    }
    let ends = ends(run, client).await?;
    phase.send_replace(Phase::Sent(Arc::new(ends)));
    let mut findings = Findings::default();
    while let Some(found) = readers.join_next().await {
        findings.merge(&found.map_err(|e| task_failed(&e))??);
    }
    findings.merge(&audit(Arc::clone(run)).await?);
    let time = |us: &AtomicU64| Duration::from_micros(us.load(Ordering::Relaxed));
    Ok(Outcome {
        findings,
        sent_bytes: run.sent_bytes.load(Ordering::Relaxed),
        failed_count: run.failed_count.load(Ordering::Relaxed),
        first_failure,
        produce_time: time(&run.last_ack_us),
        consume_time: time(&run.last_delivery_us),
    })
}

/// Runs the audit on a blocking thread: it takes seconds with many records, and signals must still be handled.
async fn audit(run: Arc<Run>) -> Result<Findings, Failure> {
    let audit = move || run.ledger.audit(run.flights.cycle().map(|row| run.flights.key(row)));
    tokio::task::spawn_blocking(audit).await.map_err(|e| task_failed(&e))
}

/// Distributes the partitions over the readers, of which there is one per core.
fn shares(partition_count: i32) -> Vec<Vec<i32>> {
    let cores = available_parallelism().map_or(2, |n| n.get().clamp(2, READERS_MAX));
    let readers = cores.min(partition_count as usize);
    (0..readers).map(|reader| (0..partition_count).skip(reader).step_by(readers).collect()).collect()
}

/// More readers would not be faster.
const READERS_MAX: usize = 8;

async fn joined(tasks: &mut JoinSet<Result<(), Failure>>) -> Result<(), Failure> {
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|e| task_failed(&e))??;
    }
    Ok(())
}

fn task_failed(error: &JoinError) -> Failure {
    Failure::failed(format!("a task of the demo ended: {error}"))
}

/// The end offset of each partition now.
async fn ends(run: &Run, client: &Client) -> Result<BTreeMap<i32, i64>, Failure> {
    let partitions = (0..run.partition_count).map(|p| (&run.topic, p));
    let found = client.admin().list_offsets(partitions, OffsetAt::Latest).await?;
    found.into_iter().map(|((_, partition), end)| Ok((partition, end?.unwrap_or(0)))).collect()
}

type Settling = mpsc::UnboundedSender<(u32, Delivery)>;

async fn produce(run: Arc<Run>, producer: Producer, settling: Vec<Settling>) -> Result<(), Failure> {
    let mut json = Vec::with_capacity(512);
    for (index, row) in (0..run.record_count).zip(run.flights.cycle()) {
        let due_us = pace(&run, index).await;
        let key = run.flights.encode(row, &mut json).map(str::as_bytes);
        run.ledger.sent(index, digest(key, Some(&json)), due_us);
        let index_bytes = index.to_be_bytes();
        let headers = [Header { key: INDEX_HEADER, value: Some(&index_bytes) }];
        let record = Record::to(&run.topic).key_or_null(key).value(&json).headers(&headers);
        let delivery = producer.enqueue(record).await?;
        let bytes = key.map_or(0, <[u8]>::len) + json.len();
        // Only this task writes it.
        run.sent_bytes.store(run.sent_bytes.load(Ordering::Relaxed) + bytes as u64, Ordering::Relaxed);
        let partition = delivery.partition() as usize;
        // This fails only if the run was cancelled.
        let _ = settling[partition].send((index, delivery));
    }
    drop(settling);
    // Each delivery has its own failure.
    let _ = producer.flush().await;
    Ok(())
}

/// Waits until the record is due, and returns the time at which it was due. Latency is measured from there, so that it
/// includes the time that a record waits for earlier records (coordinated omission).
async fn pace(run: &Run, index: u32) -> u32 {
    let Some(rate) = run.rate else { return run.now_us() };
    let due = Duration::from_secs_f64(f64::from(index) / f64::from(rate));
    let ahead = due.saturating_sub(run.started.elapsed());
    if !ahead.is_zero() {
        tokio::time::sleep(ahead).await;
    }
    u32::try_from(due.as_micros()).unwrap_or(u32::MAX)
}

/// Waits for one partition's deliveries, which are settled in order. Returns why the first failed one failed, if any did.
async fn settle(run: Arc<Run>, mut deliveries: mpsc::UnboundedReceiver<(u32, Delivery)>) -> Option<String> {
    const TAKEN_MAX: usize = 1024;
    let mut taken = Vec::with_capacity(TAKEN_MAX);
    let mut latencies_us = Vec::with_capacity(TAKEN_MAX);
    let mut first_failure = None;
    while deliveries.recv_many(&mut taken, TAKEN_MAX).await > 0 {
        for (index, delivery) in taken.drain(..) {
            if !delivery.is_settled() {
                // Waiting may take a while, so count those that are settled first.
                acknowledged(&run, &mut latencies_us);
            }
            match delivery.await {
                Ok(_) => {
                    let sent_us = run.ledger.acknowledged(index);
                    latencies_us.push(run.now_us().saturating_sub(sent_us));
                }
                Err(error) => {
                    run.ledger.failed(index);
                    run.failed_count.fetch_add(1, Ordering::Relaxed);
                    first_failure.get_or_insert_with(|| error.to_string());
                }
            }
        }
        acknowledged(&run, &mut latencies_us);
    }
    first_failure
}

fn acknowledged(run: &Run, latencies_us: &mut Vec<u32>) {
    run.last_ack_us.fetch_max(run.now_us().into(), Ordering::Relaxed);
    run.acknowledged_count.fetch_add(latencies_us.len() as u64, Ordering::Relaxed);
    run.to_ack.record(latencies_us.drain(..));
}

/// Reads some partitions to their ends, and notes the delivered records.
async fn read(
    run: Arc<Run>,
    mut consumer: Consumer,
    partitions: Vec<i32>,
    mut phases: watch::Receiver<Phase>,
) -> Result<Findings, Failure> {
    let mut readings: BTreeMap<i32, Reading<'_>> =
        partitions.iter().map(|p| (*p, run.ledger.reading(*p))).collect();
    let mut positions: BTreeMap<i32, i64> = partitions.iter().map(|p| (*p, 0)).collect();
    let mut latencies_us = Vec::new();
    loop {
        if let Phase::Sent(ends) = &*phases.borrow_and_update()
            && positions
                .iter()
                .all(|(partition, position)| ends.get(partition).is_none_or(|end| position >= end))
        {
            break;
        }
        let batch = tokio::select! {
            batch = consumer.next() => batch?,
            // The sender lives until all readers have ended.
            _ = phases.changed() => continue,
        };
        let Some(batch) = batch else { break };
        if let Some(reading) = readings.get_mut(&batch.partition()) {
            note(&run, &batch, reading, &mut latencies_us);
        }
        positions.insert(batch.partition(), batch.next_offset());
    }
    let mut findings = Findings::default();
    for reading in readings.into_values() {
        findings.merge(&reading.findings());
    }
    Ok(findings)
}

fn note(run: &Run, batch: &Batch, reading: &mut Reading<'_>, latencies_us: &mut Vec<u32>) {
    // A record is delivered when its batch arrives.
    let now_us = run.now_us();
    let mut bytes = 0;
    let mut count = 0;
    for record in batch {
        let index =
            record.headers().find(|header| header.key == INDEX_HEADER).and_then(|header| header.value);
        let index = index.and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
        if let Some(sent_us) = reading.delivered(index, digest(record.key(), record.value())) {
            latencies_us.push(now_us.saturating_sub(sent_us));
        }
        bytes += record.key().map_or(0, <[u8]>::len) + record.value().map_or(0, <[u8]>::len);
        count += 1;
    }
    run.last_delivery_us.fetch_max(run.now_us().into(), Ordering::Relaxed);
    run.delivered_count.fetch_add(count, Ordering::Relaxed);
    run.delivered_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    run.to_delivery.record(latencies_us.drain(..));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_has_one_reader() {
        for count in [1, 2, 3, 12, 1000] {
            let mut all: Vec<i32> = shares(count).concat();
            all.sort_unstable();
            assert_eq!(all, (0..count).collect::<Vec<_>>());
            assert!(shares(count).iter().all(|share| !share.is_empty()));
        }
    }
}
