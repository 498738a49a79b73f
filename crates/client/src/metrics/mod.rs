//! What the client counts and measures: a table of families, the registry that holds their series, and snapshots of it.
//!
//! A client counts only if its builder was given a registry. [`families`] says what there is; docs/metrics.md is that table as
//! text. A snapshot can be read in the process, merged with others, and written in any format; the crate `milena-observe` serves
//! it to Prometheus. Brokers that ask for metrics of clients (KIP-714) are pushed those of the registry, under Java's names; see
//! docs/metrics.md.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let cluster = milena_broker::Broker::builder().start().await?;
//! # cluster.create_topic("orders", 2)?;
//! # let bootstrap = cluster.bootstrap();
//! use milena::metrics::{Registry, families};
//! use milena::{Client, Record};
//!
//! let registry = Registry::new();
//! let client = Client::builder().bootstrap(bootstrap).metrics(&registry).connect().await?;
//! let producer = client.producer().build().await?;
//! producer.send(Record::to("orders").value("created")).await?;
//!
//! let snapshot = registry.snapshot();
//! for family in snapshot.families() {
//!     println!("{} has {} series", family.family().name, family.samples().len());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! ```text
//! drivers, links ─ once per batch or request ─▶ Counter, Gauge, Histogram (atomics) ─┐
//! budgets, pools, queues, TLS ─ what is known anyway ─▶ Collect ─ when asked ─▶ Sheet ─┴─▶ Snapshot ─▶ text, dashboards, ...
//! ```

mod counting;
pub mod families;
mod family;
mod histogram;
mod registry;
mod snapshot;

pub(crate) use counting::{ConsumedTopic, Contents, Counting, ProducedTopic};
pub use families::FAMILIES;
pub use family::{Family, Joined, Kind, Unit};
pub use histogram::{Histogram, HistogramSnapshot};
pub use registry::{Collect, Counter, Gauge, OTHER, Registry, Sheet};
pub use snapshot::{FamilySnapshot, Sample, Snapshot, Value};
