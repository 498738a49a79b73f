//! What a seed means: sizes, settings and faults of one round.

use std::time::Duration;

use milena::{ClientSettings, Compression, ConsumerSettings, ProducerSettings};
use milena_core::Rng;
use milena_sim::Faults;

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) partitions: i32,
    /// For how long faults happen.
    pub(crate) storm: Duration,
    pub(crate) faults: Faults,
    pub(crate) memory_bytes_max: usize,
    pub(crate) request_timeout: Duration,
    pub(crate) retry_backoff: Duration,
    pub(crate) producers: Vec<ProducerPlan>,
    /// Of the producer that writes to the topic that is made again.
    pub(crate) remade: ProducerPlan,
    pub(crate) readers: Vec<ReaderPlan>,
}

#[derive(Debug, Clone)]
pub(crate) struct ProducerPlan {
    /// Its timeouts are longer than the round, so none of its records may fail.
    pub(crate) is_patient: bool,
    pub(crate) writers: usize,
    pub(crate) records: usize,
    pub(crate) value_bytes_max: u32,
    pub(crate) linger: Duration,
    pub(crate) batch_bytes_max: usize,
    pub(crate) request_bytes_max: usize,
    pub(crate) in_flight_max: usize,
    pub(crate) compression: Compression,
    pub(crate) delivery_timeout: Duration,
}

#[derive(Debug, Clone)]
pub(crate) struct ReaderPlan {
    pub(crate) fetch_bytes_max: usize,
    pub(crate) fetch_partition_bytes_max: usize,
    pub(crate) fetch_wait: Duration,
    /// Sleeps between batches.
    pub(crate) is_slow: bool,
}

/// The timeouts of patient producers: longer than any round.
const PATIENT: Duration = Duration::from_secs(1000);

impl Plan {
    pub(crate) fn of(rng: &mut Rng) -> Self {
        let is_calm = rng.below(8) == 0;
        let faults = if is_calm { calm(rng) } else { stormy(rng) };
        let producers = (0..between(rng, 1, 2)).map(|_| ProducerPlan::of(rng)).collect();
        let readers = (0..between(rng, 1, 2)).map(|_| ReaderPlan::of(rng)).collect();
        Self {
            partitions: between(rng, 1, 6) as i32,
            storm: if is_calm {
                Duration::ZERO
            } else {
                Duration::from_millis(between(rng, 300, 6000).into())
            },
            faults,
            memory_bytes_max: pick(rng, &[64 << 10, 256 << 10, 1 << 20]),
            request_timeout: Duration::from_millis(pick(rng, &[300, 1000, 3000])),
            retry_backoff: Duration::from_millis(pick(rng, &[1, 20, 100])),
            producers,
            // A topic that is missing for a while fails records, so that this one is not patient.
            remade: ProducerPlan { is_patient: false, writers: 1, ..ProducerPlan::of(rng) },
            readers,
        }
    }

    pub(crate) fn apply(&self, settings: &mut ClientSettings) {
        settings.request_timeout = self.request_timeout;
        settings.connect_timeout = self.request_timeout;
        settings.retry_backoff = self.retry_backoff;
        settings.retry_backoff_max = self.retry_backoff * 8;
        settings.reconnect_backoff = self.retry_backoff;
        settings.reconnect_backoff_max = self.retry_backoff * 8;
        settings.memory_bytes_max = self.memory_bytes_max;
    }
}

impl ProducerPlan {
    fn of(rng: &mut Rng) -> Self {
        let is_patient = rng.below(2) == 0;
        let delivery_timeout =
            if is_patient { PATIENT } else { Duration::from_millis(between(rng, 100, 5000).into()) };
        Self {
            is_patient,
            writers: between(rng, 1, 3) as usize,
            records: between(rng, 20, 80) as usize,
            value_bytes_max: pick(rng, &[20, 300, 3000, 12_000]),
            linger: Duration::from_millis(pick(rng, &[0, 0, 1, 5])),
            batch_bytes_max: pick(rng, &[150, 1000, 16_384, 1_000_000]),
            request_bytes_max: pick(rng, &[300, 4000, 8 << 20]),
            in_flight_max: between(rng, 1, 5) as usize,
            compression: pick(rng, &[Compression::None, Compression::None, Compression::Lz4]),
            delivery_timeout,
        }
    }

    pub(crate) fn apply(&self, settings: &mut ProducerSettings) {
        settings.linger = self.linger;
        settings.batch_bytes_max = self.batch_bytes_max;
        settings.request_bytes_max = self.request_bytes_max;
        settings.in_flight_max = self.in_flight_max;
        settings.compression = self.compression;
        settings.delivery_timeout = self.delivery_timeout;
        settings.enqueue_timeout = self.delivery_timeout;
    }
}

impl ReaderPlan {
    fn of(rng: &mut Rng) -> Self {
        Self {
            fetch_bytes_max: pick(rng, &[1000, 50_000, 8 << 20]),
            fetch_partition_bytes_max: pick(rng, &[300, 4000, 1 << 20]),
            fetch_wait: Duration::from_millis(pick(rng, &[5, 50, 500])),
            is_slow: rng.below(3) == 0,
        }
    }

    pub(crate) fn apply(&self, settings: &mut ConsumerSettings) {
        settings.fetch_bytes_max = self.fetch_bytes_max;
        settings.fetch_partition_bytes_max = self.fetch_partition_bytes_max;
        settings.fetch_wait = self.fetch_wait;
    }
}

/// A network that may be slow, without any other fault.
pub(crate) fn calm(rng: &mut Rng) -> Faults {
    Faults {
        crumbs_percent: pick(rng, &[0, 0, 10]),
        latency_max: Duration::from_micros(pick(rng, &[0, 200, 5000])),
        ..Faults::default()
    }
}

fn stormy(rng: &mut Rng) -> Faults {
    Faults {
        crumbs_percent: pick(rng, &[0, 10, 60]),
        latency_max: Duration::from_micros(pick(rng, &[200, 5000, 50_000])),
        lose_request_percent: rng.below(4),
        lose_answer_percent: rng.below(6),
        tear_answer_percent: rng.below(4),
        delay_percent: rng.below(15),
        delay_max: Duration::from_millis(pick(rng, &[20, 500, 5000])),
    }
}

pub(crate) fn between(rng: &mut Rng, least: u32, most: u32) -> u32 {
    least + rng.below(most - least + 1)
}

pub(crate) fn pick<T: Copy>(rng: &mut Rng, choices: &[T]) -> T {
    choices[rng.below(choices.len() as u32) as usize]
}
