//! Membership in a consumer group.

mod classic;
mod coordinator;
mod liveness;
pub mod terms;
#[cfg(test)]
mod testing;
mod verdict;
