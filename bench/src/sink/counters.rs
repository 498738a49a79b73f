//! Counts the requests and bytes on the wire.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use milena_messages::ApiKey;
use milena_wire::batch::BatchHeader;
use serde_json::{Map, Value, json};

use super::sequences::Verdict;

/// The counts of all connections together.
#[derive(Debug)]
pub(super) struct Counters {
    requests: Vec<AtomicU64>,
    connections: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    records: AtomicU64,
    batches: AtomicU64,
    batch_bytes: AtomicU64,
    idempotent_batches: AtomicU64,
    duplicates: AtomicU64,
    refused: AtomicU64,
    fetched_bytes: AtomicU64,
}

/// Keys below this are counted.
const KEYS: usize = 128;

impl Counters {
    pub(super) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            requests: (0..KEYS).map(|_| zero()).collect(),
            connections: zero(),
            bytes_in: zero(),
            bytes_out: zero(),
            records: zero(),
            batches: zero(),
            batch_bytes: zero(),
            idempotent_batches: zero(),
            duplicates: zero(),
            refused: zero(),
            fetched_bytes: zero(),
        }
    }

    pub(super) fn connection(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    /// A request of `bytes`, its size field included.
    pub(super) fn request(&self, key: i16, bytes: usize) {
        if let Some(count) = usize::try_from(key).ok().and_then(|key| self.requests.get(key)) {
            count.fetch_add(1, Relaxed);
        }
        self.bytes_in.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn response(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn fetched(&self, bytes: usize) {
        self.fetched_bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn batch(&self, header: &BatchHeader, verdict: Verdict) {
        self.batches.fetch_add(1, Relaxed);
        self.batch_bytes.fetch_add(header.bytes as u64, Relaxed);
        self.idempotent_batches.fetch_add(u64::from(header.producer.is_some()), Relaxed);
        match verdict {
            Verdict::Appended => self.records.fetch_add(u64::from(header.record_count), Relaxed),
            Verdict::Duplicate(_) => self.duplicates.fetch_add(1, Relaxed),
            Verdict::OutOfOrder | Verdict::OldEpoch => self.refused.fetch_add(1, Relaxed),
        };
    }

    /// All counts as JSON, with requests by name; requests that did not come are left out.
    pub(super) fn to_json(&self) -> Value {
        let of = |counter: &AtomicU64| counter.load(Relaxed);
        let seen = self.requests.iter().enumerate().filter(|(_, count)| of(count) > 0);
        let requests: Map<String, Value> =
            seen.map(|(key, count)| (name(key as i16), of(count).into())).collect();
        json!({
            "requests": requests,
            "connections": of(&self.connections),
            "bytes_in": of(&self.bytes_in),
            "bytes_out": of(&self.bytes_out),
            "produced": {
                "records": of(&self.records),
                "batches": of(&self.batches),
                "batch_bytes": of(&self.batch_bytes),
                "idempotent_batches": of(&self.idempotent_batches),
                "duplicates": of(&self.duplicates),
                "refused": of(&self.refused),
            },
            "fetched_bytes": of(&self.fetched_bytes),
        })
    }
}

fn name(key: i16) -> String {
    ApiKey::from_i16(key).map_or_else(|| key.to_string(), |key| key.name().to_owned())
}
