//! What each mode does, whichever the client.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;

use crate::latencies::Latencies;
use crate::outcome::Outcome;
use crate::reading::Reading;
use crate::schedule::{Intended, Schedule};
use crate::{
    Client, Consume, Consumer, Fetching, Job, Lines, Measuring, Producer, Producing, Records, Results,
    Settings, Sink, Work,
};

pub(crate) async fn run<C: Client>(job: &Job) -> anyhow::Result<Outcome> {
    match &job.work {
        Work::Produce { records, values, keys, producing } => {
            produce::<C>(job, *records, *values, *keys, producing).await
        }
        Work::Send { tasks, duration, values, producing } => {
            send::<C>(job, *tasks, *duration, *values, producing).await
        }
        Work::Pace { rate, duration, values, producing } => {
            pace::<C>(job, *rate, *duration, *values, producing).await
        }
        Work::Consume(consume) => self::consume::<C>(job, consume).await,
        Work::Latency { rate, duration, values, producing, fetching } => {
            latency::<C>(job, *rate, *duration, *values, producing, fetching).await
        }
    }
}

async fn produce<C: Client>(
    job: &Job,
    count: u64,
    values: Lines,
    keys: Option<Lines>,
    producing: &Producing,
) -> anyhow::Result<Outcome> {
    let (results, mut settings) = (Results::shared(), Settings::new());
    let records = Records::new(count, values, keys);
    let measured = C::produce(job, producing, records, &results, &mut settings).await?;
    let (acknowledged, failed) = (results.acknowledged(), results.failed());
    anyhow::ensure!(
        acknowledged + failed == count,
        "{count} records were sent, {acknowledged} acknowledged and {failed} failed"
    );
    let bytes = values.bytes_of(count);
    Ok(Outcome { records: acknowledged, failed, bytes, measured, latencies: None, settings })
}

async fn send<C: Client>(
    job: &Job,
    tasks: usize,
    duration: Duration,
    values: Lines,
    producing: &Producing,
) -> anyhow::Result<Outcome> {
    let mut settings = Settings::new();
    let producer = Arc::new(C::producer(job, producing, &mut settings).await?);
    warm_up(&*producer, values).await?;
    let (results, latencies) = (Results::shared(), Arc::new(Latencies::new()));
    let measuring = Measuring::start();
    let end = Instant::now() + duration;
    let mut running = JoinSet::new();
    for task in 0..tasks as u64 {
        let (producer, results, latencies) = (producer.clone(), results.clone(), latencies.clone());
        running.spawn(async move {
            // Tasks begin at different lines, so that no two send the same value at the same time.
            for index in task.. {
                let start = Instant::now();
                if start >= end {
                    break;
                }
                let sent = async { producer.enqueue(Bytes::from_static(values.at(index))).await?.await };
                results.count(sent.await);
                latencies.record(start.elapsed());
            }
        });
    }
    running.join_all().await;
    let measured = measuring.stop();
    let (records, failed) = (results.acknowledged(), results.failed());
    let bytes = values.bytes_of(records);
    Ok(Outcome { records, failed, bytes, measured, latencies: Some(latencies), settings })
}

async fn pace<C: Client>(
    job: &Job,
    rate: u64,
    duration: Duration,
    values: Lines,
    producing: &Producing,
) -> anyhow::Result<Outcome> {
    let mut settings = Settings::new();
    let producer = C::producer(job, producing, &mut settings).await?;
    warm_up(&producer, values).await?;
    let (results, latencies) = (Results::shared(), Arc::new(Latencies::new()));
    let measuring = Measuring::start();
    let schedule = Schedule::from_now(rate, duration);
    let value = move |intended: Intended| Bytes::from_static(values.at(intended.index));
    send_on_time(producer, schedule, value, &results, Some(&latencies)).await?;
    let measured = measuring.stop();
    let (records, failed) = (results.acknowledged(), results.failed());
    let bytes = values.bytes_of(records);
    Ok(Outcome { records, failed, bytes, measured, latencies: Some(latencies), settings })
}

async fn consume<C: Client>(job: &Job, consume: &Consume) -> anyhow::Result<Outcome> {
    let mut settings = Settings::new();
    let mut reading = Reading::new(consume.retain, consume.slow);
    let measuring = Measuring::start();
    let mut consumer = C::consumer(job, consume, &mut settings).await?;
    let mut progress = (0, Instant::now());
    while reading.records < consume.records {
        consumer.poll(&mut reading).await?;
        if reading.records > progress.0 {
            progress = (reading.records, Instant::now());
        } else if progress.1.elapsed() > STALLED {
            bail!("nothing came for {STALLED:?} after {} of {} records", reading.records, consume.records);
        }
    }
    let measured = measuring.stop();
    let (records, bytes) = (reading.records, reading.bytes);
    Ok(Outcome { records, failed: 0, bytes, measured, latencies: None, settings })
}

async fn latency<C: Client>(
    job: &Job,
    rate: u64,
    duration: Duration,
    values: Lines,
    producing: &Producing,
    fetching: &Fetching,
) -> anyhow::Result<Outcome> {
    let mut settings = Settings::new();
    let consume = Consume { fetching: fetching.clone(), ..Consume::default() };
    let mut consumer = C::consumer(job, &consume, &mut settings).await?;
    let mut of_producer = Settings::new();
    let producer = C::producer(job, producing, &mut of_producer).await?;
    settings.extend(of_producer);
    let latencies = Arc::new(Latencies::new());
    let mut arrivals = Arrivals::new(&latencies);
    producer.enqueue(stamped(values.at(0), UNIX_EPOCH)).await?.await?;
    let warm = async {
        while !arrivals.is_warm {
            consumer.poll(&mut arrivals).await?;
        }
        anyhow::Ok(())
    };
    timeout(STALLED, warm).await.context("the first record does not come back")??;

    let results = Results::shared();
    let measuring = Measuring::start();
    let schedule = Schedule::from_now(rate, duration);
    let count = schedule.count();
    let sending = tokio::spawn({
        let results = results.clone();
        let value = move |intended: Intended| stamped(values.at(intended.index), intended.time);
        async move { send_on_time(producer, schedule, value, &results, None).await }
    });
    let arriving = async {
        while arrivals.records + results.failed() < count {
            consumer.poll(&mut arrivals).await?;
        }
        anyhow::Ok(())
    };
    timeout(duration + STALLED, arriving).await.context("not all records come back")??;
    sending.await??;
    let measured = measuring.stop();
    let (records, bytes, failed) = (arrivals.records, arrivals.bytes, results.failed());
    Ok(Outcome { records, failed, bytes, measured, latencies: Some(latencies), settings })
}

/// One record and its acknowledgement, so that connecting is not part of anyone's latency.
async fn warm_up(producer: &impl Producer, values: Lines) -> anyhow::Result<()> {
    timeout(STALLED, async { producer.enqueue(Bytes::from_static(values.at(0))).await?.await })
        .await
        .context("the first record is not acknowledged")?
}

/// Sends on a thread of its own, because the runtime's timer is too coarse, and returns when every record has its
/// result. Each acknowledgement is awaited by a task of its own: partitions do not wait for each other.
async fn send_on_time(
    producer: impl Producer,
    mut schedule: Schedule,
    value: impl Fn(Intended) -> Bytes + Send + 'static,
    results: &Arc<Results>,
    latencies: Option<&Arc<Latencies>>,
) -> anyhow::Result<()> {
    let (runtime, results, latencies) = (Handle::current(), results.clone(), latencies.cloned());
    let (open, mut all_closed) = mpsc::channel::<Infallible>(1);
    let producer = spawn_blocking(move || {
        while let Some(intended) = schedule.wait() {
            let acknowledged = match runtime.block_on(producer.enqueue(value(intended))) {
                Ok(acknowledged) => acknowledged,
                Err(error) => {
                    results.count(Err::<(), _>(error));
                    continue;
                }
            };
            let (results, latencies, open) = (results.clone(), latencies.clone(), open.clone());
            runtime.spawn(async move {
                results.count(acknowledged.await);
                if let Some(latencies) = latencies {
                    latencies.record(intended.instant.elapsed());
                }
                drop(open);
            });
        }
        producer
    })
    .await?;
    all_closed.recv().await;
    drop(producer);
    Ok(())
}

/// `value` with the time it was meant to be sent in its first eight bytes.
fn stamped(value: &[u8], time: SystemTime) -> Bytes {
    let mut stamped = nanos(time).to_le_bytes().to_vec();
    stamped.extend_from_slice(value.get(stamped.len()..).unwrap_or_default());
    stamped.into()
}

/// Nanoseconds since the epoch.
fn nanos(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// Records that come back, each with its intended time in front. What was in the topic before is passed over, and so
/// is the first record, which only shows that everything is connected.
struct Arrivals<'a> {
    latencies: &'a Latencies,
    began: i64,
    is_warm: bool,
    records: u64,
    bytes: u64,
}

impl<'a> Arrivals<'a> {
    fn new(latencies: &'a Latencies) -> Self {
        Self { latencies, began: nanos(SystemTime::now()), is_warm: false, records: 0, bytes: 0 }
    }
}

impl<K> Sink<K> for Arrivals<'_> {
    fn take(&mut self, _partition: i32, value: &[u8], _keep: impl FnOnce() -> K) {
        let Some(stamp) = value.first_chunk() else { return };
        let (intended, now) = (i64::from_le_bytes(*stamp), nanos(SystemTime::now()));
        self.is_warm |= intended == 0;
        if (self.began..=now).contains(&intended) {
            self.latencies.record(Duration::from_nanos((now - intended).unsigned_abs()));
            self.records += 1;
            self.bytes += value.len() as u64;
        }
    }
}

/// A client that has done nothing for this long will not.
const STALLED: Duration = Duration::from_secs(30);
