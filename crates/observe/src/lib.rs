//! Observes Kafka clients and clusters.
//!
//! - [`serve()`] serves the metrics of a client, or of anything else with a [`Registry`](milena::metrics::Registry), to Prometheus.
//! - [`exporter`] makes metrics of a cluster: topics, groups, lag, and a probe.
//! - [`dashboards`] makes dashboards and alert rules from the tables of metrics.
//! - [`doctor`] finds out why a group does not get on with its work.
//! - [`lag`] judges how far a group is from the end of its partitions, in records and in time, and whether it comes nearer.

pub mod dashboards;
pub mod doctor;
pub mod exporter;
pub mod exposition;
pub mod lag;
pub mod serve;

pub use serve::{Server, serve};
