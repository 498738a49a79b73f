//! Why a group does not get on with its work.
//!
//! ```text
//!  examine (asks the cluster several times, judges nothing) ─▶ Observation ─▶ diagnose (pure) ─▶ findings
//! ```
//!
//! ```
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let cluster = milena_broker::Broker::builder().start().await?;
//! # cluster.create_topic("orders", 1)?;
//! # let client = milena::Client::connect(cluster.bootstrap()).await?;
//! # client.admin().alter_group_offsets("billing", [(("orders", 0), 0)]).await?;
//! use milena_observe::doctor::{Plan, diagnose, examine};
//!
//! let plan = Plan { interval: std::time::Duration::from_millis(50), ..Plan::default() };
//! let findings = diagnose(&examine(&client, "billing", &plan).await?);
//! assert!(findings.is_empty(), "{findings:?}");
//! # Ok(())
//! # }
//! ```

mod diagnose;
mod examine;
mod members;
mod observation;
mod partitions;
#[cfg(test)]
mod tests;

pub use self::diagnose::{Fault, Finding, diagnose};
pub use self::examine::{Plan, examine};
pub use self::observation::{
    Denied, KeyCount, Keys, MemberSeen, Observation, OpenAt, Partition, Quota, Reader, RecordSeen, Sample,
    TopicSeen,
};
