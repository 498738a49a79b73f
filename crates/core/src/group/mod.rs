//! What a member of a consumer group decides.

pub mod assignors;
