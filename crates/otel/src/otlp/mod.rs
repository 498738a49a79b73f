//! OTLP: metrics and spans, sent to a collector as protobuf over HTTP, by the client's own HTTP and TLS.
//!
//! ```text
//! Registry ─ snapshot ─▶ Push ─▶ metrics.rs (families, and the names of the conventions) ─┬─▶ proto.rs ─▶ POST /v1/metrics
//! SDK ─ spans that are over ─▶ Exporter ─▶ spans.rs ───────────────────────────────────────┘           POST /v1/traces
//! ```

mod collector;
#[cfg(feature = "exporter")]
mod exporter;
mod metrics;
mod proto;
mod push;
#[cfg(feature = "exporter")]
mod spans;

use std::time::SystemTime;

use milena::metrics::Snapshot;

pub use self::collector::OtlpError;
#[cfg(feature = "exporter")]
pub use self::exporter::Exporter;
pub use self::push::{Push, Pushing};

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
