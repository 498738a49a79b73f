//! Writes records and reads them back, and counts those that are late or lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use milena::metrics::{Counter, Family, Histogram, Registry, Unit};
use milena::{Client, Error, Position, Record, Reset};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{MissedTickBehavior, interval};

pub(crate) static WRITTEN: Family =
    Family::counter("milena_probe_written_total", "Records of the probe that were acknowledged.");
pub(crate) static FAILED: Family =
    Family::counter("milena_probe_failed_total", "Records of the probe that could not be written.");
pub(crate) static READ: Family =
    Family::counter("milena_probe_read_total", "Records of the probe that came back.");
pub(crate) static LATE: Family =
    Family::counter("milena_probe_late_total", "Records of the probe that took longer than 5 seconds.");
pub(crate) static LOST: Family = Family::counter(
    "milena_probe_lost_total",
    "Acknowledged records of the probe that did not come back in 60 seconds.",
);
pub(crate) static ACK: Family = Family::histogram(
    "milena_probe_acknowledgement_seconds",
    "From writing a record to its acknowledgement.",
)
.in_unit(Unit::Seconds);
pub(crate) static END_TO_END: Family =
    Family::histogram("milena_probe_end_to_end_seconds", "From writing a record to reading it.")
        .in_unit(Unit::Seconds);

/// A record is written this often.
const EACH: Duration = Duration::from_secs(1);
const LATE_AFTER: Duration = Duration::from_secs(5);
const LOST_AFTER: Duration = Duration::from_secs(60);
/// After an error the probe begins again after this time.
const PAUSE: Duration = Duration::from_secs(5);

/// Which records are on their way. Pure: times are arguments.
#[derive(Debug, Default)]
pub struct Probe {
    /// When each record was written, by its number.
    waiting: BTreeMap<u64, Instant>,
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Came {
    pub(super) after: Duration,
    pub(super) is_late: bool,
}

impl Probe {
    /// A record was written, whose acknowledgement may still come.
    pub(super) fn written(&mut self, number: u64, now: Instant) {
        self.waiting.insert(number, now);
    }

    /// It was not written after all.
    pub(super) fn refused(&mut self, number: u64) {
        self.waiting.remove(&number);
    }

    /// It was read. None if it was read before, was given up, or is another probe's.
    pub(super) fn read(&mut self, number: u64, now: Instant) -> Option<Came> {
        let after = now.duration_since(self.waiting.remove(&number)?);
        Some(Came { after, is_late: after > LATE_AFTER })
    }

    /// How many are given up: they were written long ago.
    pub(super) fn lost(&mut self, now: Instant) -> u64 {
        let before = self.waiting.len();
        self.waiting.retain(|_, written| now.duration_since(*written) <= LOST_AFTER);
        (before - self.waiting.len()) as u64
    }
}

/// Where the probe counts. Without a probe there are no such series.
pub(super) struct Meters(Option<Counters>);

struct Counters {
    written: Counter,
    failed: Counter,
    read: Counter,
    late: Counter,
    lost: Counter,
    ack: Arc<Histogram>,
    end_to_end: Arc<Histogram>,
}

impl Meters {
    pub(super) fn new(registry: &Registry, is_on: bool) -> Self {
        Self(is_on.then(|| Counters {
            written: registry.counter(&WRITTEN, &[]),
            failed: registry.counter(&FAILED, &[]),
            read: registry.counter(&READ, &[]),
            late: registry.counter(&LATE, &[]),
            lost: registry.counter(&LOST, &[]),
            ack: registry.histogram(&ACK, &[]),
            end_to_end: registry.histogram(&END_TO_END, &[]),
        }))
    }
}

/// What outlives an error: a record that was written before it may come back after it, or be lost.
struct Session {
    probe: Probe,
    number: u64,
    /// Two probes of one topic tell their records apart by this.
    own: String,
    acknowledged: UnboundedSender<Acknowledged>,
    acknowledgements: UnboundedReceiver<Acknowledged>,
    has_read: bool,
}

/// The number of a record, when it was given to the producer, and whether it was written.
type Acknowledged = (u64, Instant, bool);

impl Session {
    fn new() -> Self {
        let (acknowledged, acknowledgements) = unbounded_channel();
        let own = format!("{:x}-{:x}", std::process::id(), nanos());
        Self { probe: Probe::default(), number: 0, own, acknowledged, acknowledgements, has_read: false }
    }

    /// Where reading begins: after an error before the oldest record that is waited for, because it may have been written meanwhile.
    fn position(&mut self) -> Position {
        if std::mem::replace(&mut self.has_read, true) {
            Position::from(SystemTime::now() - 2 * LOST_AFTER)
        } else {
            Position::Latest
        }
    }
}

/// Runs until it is dropped.
pub(super) async fn run(client: &Client, topic: &str, meters: &Meters, failed: &(impl Fn(&Error) + Sync)) {
    let Some(meters) = &meters.0 else { return };
    let mut session = Session::new();
    loop {
        if let Err(error) = probe(client, topic, meters, &mut session).await {
            failed(&error);
        }
        // If reading fails for long, what was written is lost all the same.
        meters.lost.add(session.probe.lost(Instant::now()));
        tokio::time::sleep(PAUSE).await;
    }
}

async fn probe(client: &Client, topic: &str, meters: &Counters, session: &mut Session) -> Result<(), Error> {
    let producer = client.producer().build().await?;
    let builder = client.consumer_direct().topic(topic).from(session.position()).reset(Reset::Latest);
    let mut consumer = builder.build().await?;
    let Session { probe, number, own, acknowledged, acknowledgements, .. } = session;
    let mut tick = interval(EACH);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {
                meters.lost.add(probe.lost(Instant::now()));
                *number += 1;
                let (number, began) = (*number, Instant::now());
                probe.written(number, began);
                let value = number.to_string();
                // Without a key, so that all partitions are probed in turn.
                let record = Record::to(topic).value(&value).header("milena-probe", own.as_str());
                match producer.enqueue(record).await {
                    Ok(delivery) => {
                        let acknowledged = acknowledged.clone();
                        tokio::spawn(async move {
                            let _ = acknowledged.send((number, began, delivery.await.is_ok()));
                        });
                    }
                    Err(_) => {
                        probe.refused(number);
                        meters.failed.add(1);
                    }
                }
            }
            Some((number, began, is_written)) = acknowledgements.recv() => {
                if is_written {
                    meters.written.add(1);
                    meters.ack.record_duration(began.elapsed());
                } else {
                    probe.refused(number);
                    meters.failed.add(1);
                }
            }
            batch = consumer.next() => {
                let Some(batch) = batch? else { return Ok(()) };
                let now = Instant::now();
                for record in &batch {
                    let is_own = record.header("milena-probe") == Some(Some(own.as_bytes()));
                    let text = record.value().and_then(|value| std::str::from_utf8(value).ok());
                    let Some(number) = text.filter(|_| is_own).and_then(|text| text.parse().ok()) else { continue };
                    if let Some(came) = probe.read(number, now) {
                        meters.read.add(1);
                        meters.late.add(u64::from(came.is_late));
                        meters.end_to_end.record_duration(came.after);
                    }
                }
            }
        }
    }
}

fn nanos() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos()
}
