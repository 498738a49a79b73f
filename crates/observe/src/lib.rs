//! Observes Kafka clients and clusters.
//!
//! [`lag`] judges how far a group is from the end of its partitions, in records and in time, and whether it comes nearer.

pub mod lag;
