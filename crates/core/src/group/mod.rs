//! Membership in a consumer group.

mod classic;
mod coordinator;
mod liveness;
pub mod terms;
mod verdict;
