//! Sends records at intended times, and measures how long after these times they are written or delivered.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use milena::{Delivery, Producer, Record};
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use super::{connect, consume};
use crate::histogram::Histogram;
use crate::options::{Failure, Options};
use crate::outcome::{Allocations, Outcome};

/// When record `i` is to be sent: at `start + i / rate`, so that a stall counts for all that should have been sent in it.
/// Above a thousand a second they are sent in bursts, one every millisecond.
#[derive(Clone, Copy)]
struct Pace {
    start: Instant,
    rate: f64,
    count: u64,
}

impl Pace {
    fn new(options: &Options) -> Self {
        // A little later, when everything is set up.
        let start = Instant::now() + Duration::from_millis(100);
        let count = (options.rate * options.seconds) as u64;
        Self { start, rate: options.rate, count }
    }

    fn intended(&self, record: u64) -> Instant {
        let seconds = record as f64 / self.rate;
        let of_burst = if self.rate > 1000.0 { (seconds * 1000.0).floor() / 1000.0 } else { seconds };
        self.start + Duration::from_secs_f64(of_burst)
    }

    /// Waits until a record is due. Records that are due already are sent without waiting; the clock ticks in milliseconds.
    async fn wait(&self, record: u64) -> Instant {
        let intended = self.intended(record);
        if Instant::now() < intended {
            tokio::time::sleep_until(intended.into()).await;
        }
        intended
    }
}

/// Awaits deliveries in the order of each partition, so that one partition does not delay another.
struct Waiters {
    by_partition: Vec<Option<UnboundedSender<(Instant, Delivery)>>>,
    tasks: Vec<JoinHandle<(Histogram, u64)>>,
}

impl Waiters {
    fn add(&mut self, intended: Instant, delivery: Delivery) {
        let partition = delivery.partition() as usize;
        if self.by_partition.len() <= partition {
            self.by_partition.resize_with(partition + 1, || None);
        }
        let tasks = &mut self.tasks;
        let sender = self.by_partition[partition].get_or_insert_with(|| {
            let (sender, receiver) = unbounded_channel();
            tasks.push(tokio::spawn(wait_in_order(receiver)));
            sender
        });
        let _ = sender.send((intended, delivery));
    }

    async fn finish(self) -> Result<(Histogram, u64), Failure> {
        drop(self.by_partition);
        let (mut histogram, mut failed) = (Histogram::new(), 0);
        for task in self.tasks {
            let (of_partition, failed_there) = task.await.map_err(|error| error.to_string())?;
            histogram.merge(&of_partition);
            failed += failed_there;
        }
        Ok((histogram, failed))
    }
}

async fn wait_in_order(mut deliveries: UnboundedReceiver<(Instant, Delivery)>) -> (Histogram, u64) {
    let (mut histogram, mut failed) = (Histogram::new(), 0);
    while let Some((intended, delivery)) = deliveries.recv().await {
        match delivery.await {
            Ok(_) => histogram.add(intended.elapsed().as_nanos() as u64),
            Err(_) => failed += 1,
        }
    }
    (histogram, failed)
}

/// Measures the time until a record is written.
pub(super) async fn pace(options: &Options) -> Result<Outcome, Failure> {
    let values = options.values()?;
    let producer = connect(options).await?.producer().compression(options.codec).build().await?;
    producer.send(Record::to(&options.topic).value(values.line(0))).await?;
    let mut waiters = Waiters { by_partition: Vec::new(), tasks: Vec::new() };
    let pace = Pace::new(options);
    let allocations = Allocations::start();
    let mut bytes = 0;
    for record in 0..pace.count {
        let intended = pace.wait(record).await;
        let value = values.line(record);
        bytes += value.len() as u64;
        waiters.add(intended, producer.enqueue(Record::to(&options.topic).value(value)).await?);
    }
    let (latency, failed) = waiters.finish().await?;
    let seconds = pace.start.elapsed().as_secs_f64();
    let allocations = Some(allocations.count());
    let settings = json!({ "rate": options.rate, "compression": options.codec.name() });
    Ok(Outcome {
        records: pace.count,
        failed,
        bytes,
        seconds,
        allocations,
        latency: Some(latency),
        settings,
        ..Default::default()
    })
}

/// Measures the time until a record is delivered to this process. Each value begins with its intended time.
pub(super) async fn latency(options: &Options) -> Result<Outcome, Failure> {
    let values = options.values()?;
    let client = connect(options).await?;
    let mut consumer = consume::consumer(&client, options).await?;
    let producer = client.producer().compression(options.codec).build().await?;
    // Connecting does not count as latency. This value is too short for a time, so it is not counted.
    producer.send(Record::to(&options.topic).value("warm")).await?;
    let pace = Pace::new(options);
    let allocations = Allocations::start();
    let sending = tokio::spawn(send_stamped(producer, pace, options.topic.clone(), values));
    let (mut histogram, mut bytes) = (Histogram::new(), 0);
    while histogram.count() < pace.count {
        let Some(batch) = consumer.next().await? else { break };
        let now = nanoseconds_since_1970();
        for record in &batch {
            let value = record.value().unwrap_or_default();
            let Some(sent) = stamp(value) else { continue };
            histogram.add(now.saturating_sub(sent) as u64);
            bytes += value.len() as u64;
        }
    }
    let seconds = pace.start.elapsed().as_secs_f64();
    let allocations = Some(allocations.count());
    sending.await.map_err(|error| error.to_string())??;
    let settings = json!({ "rate": options.rate, "compression": options.codec.name() });
    let records = histogram.count();
    Ok(Outcome {
        records,
        bytes,
        seconds,
        allocations,
        latency: Some(histogram),
        settings,
        ..Default::default()
    })
}

/// Sends records whose values begin with their intended times, for consumers in other processes.
pub(super) async fn write(options: &Options) -> Result<Outcome, Failure> {
    let producer = connect(options).await?.producer().build().await?;
    let pace = Pace::new(options);
    send_stamped(producer, pace, options.topic.clone(), options.values()?).await?;
    let seconds = pace.start.elapsed().as_secs_f64();
    Ok(Outcome { records: pace.count, seconds, ..Default::default() })
}

async fn send_stamped(
    producer: Producer,
    pace: Pace,
    topic: String,
    values: crate::payload::Lines,
) -> Result<(), Failure> {
    // Read both clocks at the same time, because intended times are those of the monotonic clock.
    let (epoch, now) = (nanoseconds_since_1970(), Instant::now());
    let mut value = Vec::new();
    for record in 0..pace.count {
        let intended = pace.wait(record).await;
        let stamp = epoch + intended.saturating_duration_since(now).as_nanos() as i64;
        value.clear();
        value.extend_from_slice(&stamp.to_le_bytes());
        value.extend_from_slice(values.line(record).get(8..).unwrap_or_default());
        producer.post(Record::to(&topic).value(&value)).await?;
    }
    Ok(producer.flush().await?)
}

/// The intended time at the beginning of a value.
pub(super) fn stamp(value: &[u8]) -> Option<i64> {
    value.first_chunk().map(|stamp| i64::from_le_bytes(*stamp))
}

pub(super) fn nanoseconds_since_1970() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_meant_for_their_times() {
        let pace = |rate| Pace { start: Instant::now(), rate, count: 10 };
        let after = |pace: Pace, record| (pace.intended(record) - pace.start).as_micros();
        let slow = pace(100.0);
        assert_eq!((after(slow, 0), after(slow, 1), after(slow, 250)), (0, 10_000, 2_500_000));
        let fast = pace(4000.0);
        assert_eq!((after(fast, 3), after(fast, 4), after(fast, 7)), (0, 1000, 1000));
    }
}
