//! The series that a client counts in, looked up once. Hot code has these handles; nothing here decides anything.

mod connections;
mod consuming;
mod producing;

use std::time::Duration;

pub(crate) use self::connections::Connections;
pub(crate) use self::consuming::{Consuming, OfTopic as ConsumedTopic};
pub(crate) use self::producing::{Contents, OfTopic as ProducedTopic, Producing};
use super::Registry;
use super::families::FAMILIES;

/// What one client counts in. It is there only if the client has a registry, so that counting nothing costs one branch.
pub(crate) struct Counting {
    pub(crate) registry: Registry,
    pub(crate) connections: Connections,
    pub(crate) producing: Producing,
    pub(crate) consuming: Consuming,
}

impl Counting {
    pub(crate) fn new(registry: &Registry) -> Self {
        registry.know(FAMILIES);
        Self {
            registry: registry.clone(),
            connections: Connections::new(registry),
            producing: Producing::new(registry),
            consuming: Consuming::new(registry),
        }
    }
}

/// Durations are recorded in nanoseconds.
fn nanos(duration: Duration) -> u64 {
    super::histogram::nanos(duration)
}
