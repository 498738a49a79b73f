//! Membership in a consumer group.

mod coordinator;
mod liveness;
pub mod terms;
mod verdict;
