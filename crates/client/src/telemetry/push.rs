//! A payload, from the registry to compressed bytes, and what of it brokers have been told.

use std::collections::BTreeMap;

use bytes::Bytes;
use milena_core::Instant;
use milena_core::telemetry::Push;
use milena_wire::codec::{Compression, Compressor};

use super::otlp::{self, Frame, Kind, Labels, Metric};
use super::points::{Between, Has, metrics};
use crate::metrics::{Registry, Snapshot};

/// What brokers have been told.
pub(super) struct Counted {
    registry: Registry,
    /// The total of each counter in the last push that arrived and had it, and when that was made. A counter that did not fit, or that
    /// brokers began to want later, loses nothing.
    told: BTreeMap<Series, (f64, i64)>,
    /// What the last push has told, until it is known what became of it.
    pushing: Vec<(Series, (f64, i64))>,
    /// Where rates and averages begin: at the last push, whatever became of it.
    since: (Snapshot, Instant),
    has_begun: bool,
    start_ms: i64,
}

type Series = (String, Labels);

/// A payload.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub(super) bytes: Bytes,
    pub(super) compression: Compression,
    pub(super) plain_bytes: usize,
}

impl Counted {
    pub(super) fn new(registry: Registry, now: Instant, start_ms: i64) -> Self {
        let (told, pushing) = (BTreeMap::new(), Vec::new());
        Self { registry, told, pushing, since: (Snapshot::default(), now), has_begun: false, start_ms }
    }

    /// Pushes begin: rates and averages are of the time from now on, and not of the hours in which nobody wanted them.
    pub(super) fn begin(&mut self, now: Instant) {
        if !self.has_begun {
            self.has_begun = true;
            self.since = (self.registry.snapshot(), now);
        }
    }

    /// The payload of a push.
    pub(super) fn make(
        &mut self,
        push: &Push,
        resource: &Labels,
        has: Has,
        now: Instant,
        now_ms: i64,
    ) -> Made {
        let snapshot = self.registry.snapshot();
        let since = snapshot.since(&self.since.0);
        let seconds = (now - self.since.1).as_secs_f64();
        let mut metrics = metrics(&Between { counted: &snapshot, since: &since, seconds }, has, &push.wanted);
        self.since = (snapshot, now);
        let mut totals = Vec::with_capacity(metrics.len());
        for metric in &mut metrics {
            totals.push(self.prepare(metric, push.is_delta, now_ms));
        }
        let (is_delta, bytes_max) = (push.is_delta, push.bytes_max);
        let payload = otlp::write(&metrics, &Frame { resource, now_ms, is_delta, bytes_max });
        if payload.written.len() < metrics.len() {
            let left_out = metrics.len() - payload.written.len();
            tracing::debug!(
                target: "milena",
                "{left_out} of {} metrics are not pushed: brokers take {bytes_max} bytes",
                metrics.len()
            );
        }
        let told = payload.written.iter().flat_map(|place| std::mem::take(&mut totals[*place]));
        self.pushing = told.collect();
        compress(payload.bytes, push.compression, bytes_max)
    }

    /// Has the points of a counter say since when they count, and what was added since then if that is wanted. Returns their totals.
    fn prepare(&self, metric: &mut Metric, is_delta: bool, now_ms: i64) -> Vec<(Series, (f64, i64))> {
        if metric.kind != Kind::Counter {
            return Vec::new();
        }
        let mut totals = Vec::with_capacity(metric.points.len());
        for point in &mut metric.points {
            let (series, total) = ((metric.name.clone(), point.labels.clone()), point.value);
            let (before, since_ms) = match self.told.get(&series) {
                Some(told) if is_delta => *told,
                _ => (0.0, self.start_ms),
            };
            (point.value, point.since_ms) = ((total - before).max(0.0), since_ms);
            totals.push((series, (total, now_ms)));
        }
        totals
    }

    /// Tells whether the last push has arrived. If not, what it had is pushed again.
    pub(super) fn settle(&mut self, has_arrived: bool) {
        let pushing = std::mem::take(&mut self.pushing);
        if has_arrived {
            self.told.extend(pushing);
        }
    }
}

fn compress(plain: Vec<u8>, compression: Compression, bytes_max: usize) -> Made {
    let plain_bytes = plain.len();
    let mut compressed = Vec::new();
    // Pushes are minutes apart: a compressor that is kept would hold memory for nothing.
    let done = Compressor::new().compress(compression, None, &plain, &mut compressed);
    // Every broker takes what is not compressed.
    let is_better = done.is_ok() && !plain.is_empty() && compressed.len() <= bytes_max;
    let (bytes, compression) = if is_better { (compressed, compression) } else { (plain, Compression::None) };
    Made { bytes: Bytes::from(bytes), compression, plain_bytes }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use milena_core::telemetry::Wanted;
    use milena_wire::Uuid;
    use milena_wire::codec::Decompressor;

    use super::*;
    use crate::metrics::families;

    fn push(compression: Compression, is_delta: bool, bytes_max: usize) -> Push {
        Push {
            client_instance_id: Uuid::ZERO,
            subscription_id: 1,
            is_last: false,
            compression,
            bytes_max,
            is_delta,
            wanted: Arc::new(Wanted::of(["org.apache.kafka.producer.record.send.total".to_owned()])),
        }
    }

    /// The only double in a payload.
    fn value(made: &Made) -> f64 {
        let mut plain = Vec::new();
        match made.compression {
            Compression::None => plain.extend(&made.bytes),
            codec => {
                Decompressor::new()
                    .decompress(codec, 2, &made.bytes, &mut plain, 1 << 20)
                    .expect("decompresses");
            }
        }
        assert_eq!(plain.len(), made.plain_bytes);
        let at = plain.windows(9).rposition(|window| window[0] == 4 << 3 | 1).expect("a value");
        f64::from_le_bytes(plain[at + 1..at + 9].try_into().expect("eight bytes"))
    }

    #[test]
    fn what_did_not_arrive_is_pushed_again_and_totals_are_always_all() {
        let registry = Registry::new();
        let records = registry.counter(&families::PRODUCER_RECORDS, &["t"]);
        let mut counted = Counted::new(registry, Instant::ORIGIN, 1000);
        let has = Has { producers: true, consumers: false };
        let make = |counted: &mut Counted, is_delta| {
            value(&counted.make(
                &push(Compression::None, is_delta, 1 << 20),
                &Vec::new(),
                has,
                Instant::ORIGIN,
                2000,
            ))
        };
        records.add(3);
        assert_eq!(make(&mut counted, true), 3.0);
        counted.settle(false);
        records.add(1);
        assert_eq!(make(&mut counted, true), 4.0, "it had not arrived");
        counted.settle(true);
        records.add(5);
        assert_eq!(make(&mut counted, true), 5.0);
        counted.settle(true);
        assert_eq!(make(&mut counted, false), 9.0);
    }

    #[test]
    fn a_counter_that_did_not_fit_or_was_not_wanted_is_pushed_as_a_whole_later() {
        let registry = Registry::new();
        let records = registry.counter(&families::PRODUCER_RECORDS, &["t"]);
        let mut counted = Counted::new(registry, Instant::ORIGIN, 1000);
        let has = Has { producers: true, consumers: false };
        records.add(3);
        let other = Push {
            wanted: Arc::new(Wanted::of(["org.apache.kafka.consumer.".to_owned()])),
            ..push(Compression::None, true, 1 << 20)
        };
        for without in [other, push(Compression::None, true, 20)] {
            assert_eq!(counted.make(&without, &Vec::new(), has, Instant::ORIGIN, 2000).bytes.len(), 0);
            counted.settle(true);
        }
        let made =
            counted.make(&push(Compression::None, true, 1 << 20), &Vec::new(), has, Instant::ORIGIN, 3000);
        assert_eq!(value(&made), 3.0);
    }

    #[test]
    fn every_codec_makes_what_it_says_and_what_does_not_fit_is_nothing() {
        let registry = Registry::new();
        registry.counter(&families::PRODUCER_RECORDS, &["t"]).add(7);
        let mut counted = Counted::new(registry, Instant::ORIGIN, 1000);
        let has = Has { producers: true, consumers: false };
        let now = Instant::ORIGIN + Duration::from_secs(1);
        for codec in Compression::ALL {
            let made =
                counted.make(&push(codec, false, 1 << 20), &vec![("group_id", "g".into())], has, now, 2000);
            assert_eq!((made.compression, value(&made)), (codec, 7.0));
        }
        let made = counted.make(&push(Compression::Zstd, false, 20), &Vec::new(), has, now, 2000);
        assert_eq!((made.bytes.len(), made.compression), (0, Compression::None));
    }
}
