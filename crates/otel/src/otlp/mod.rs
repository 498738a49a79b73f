//! Metrics over OTLP: what a registry counts, sent to a collector as protobuf over HTTP.
//!
//! ```text
//! Registry ─ snapshot ─▶ points (semantic.rs: names of the conventions; our families) ─▶ protobuf ─▶ POST /v1/metrics
//! ```

mod metrics;
mod proto;
mod push;

use std::time::SystemTime;

use milena::metrics::Snapshot;

pub use self::push::{Push, PushError, Pushing};

/// A snapshot as the protobuf message `ExportMetricsServiceRequest` of OTLP, for whoever sends it by other means. `resource` are
/// attributes of the program, such as `service.name`. Counters and histograms count since `start`.
///
/// All families have the names that they have at Prometheus. Beside them are those of the semantic conventions for messaging (v1.44):
/// `messaging.client.sent.messages`, `messaging.client.consumed.messages`, `messaging.client.operation.duration` (of the operations `send` and
/// `commit`) and `messaging.process.duration`.
///
/// ```
/// use std::time::SystemTime;
///
/// use milena::metrics::Registry;
///
/// let (registry, start) = (Registry::new(), SystemTime::now());
/// let body = milena_otel::otlp::encode(&registry.snapshot(), &[("service.name", "shop")], start, SystemTime::now());
/// assert!(!body.is_empty());
/// ```
pub fn encode(snapshot: &Snapshot, resource: &[(&str, &str)], start: SystemTime, now: SystemTime) -> Vec<u8> {
    metrics::request(snapshot, resource, [start, now].map(unix_nanos))
}

fn unix_nanos(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
