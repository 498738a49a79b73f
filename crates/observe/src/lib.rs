//! Observes Kafka clients and clusters.
//!
//! - [`doctor`] finds out why a group does not get on with its work.
//! - [`lag`] judges how far a group is from the end of its partitions, in records and in time, and whether it comes nearer.

pub mod doctor;
pub mod lag;
