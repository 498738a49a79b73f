//! What is done while the registry is down. It has no clock and no randomness: random numbers are arguments.

use std::time::Duration;

use crate::SerdeError;
use crate::client::part;

/// What becomes of a record, or a value, whose schema is not known while the registry cannot be asked. A schema that is known is used in
/// any case.
///
/// ```
/// use milena_registry::{Avro, RegistrySerde, SchemaRegistry, WhileDown};
///
/// let registry = SchemaRegistry::new("http://localhost:8081")?;
/// let serde = RegistrySerde::new(&registry, Avro).while_down(WhileDown::Wait);
/// # Ok::<(), milena_registry::RegistryError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum WhileDown {
    /// After the registry client's own attempts, at most 30 s, it is an error whose
    /// [`is_retriable`](SerdeError::is_retriable) is true, and the program says what follows: it tries again, or puts the record
    /// aside. This is what Java's and Python's clients do.
    #[default]
    Fail,
    /// The registry is asked again about every second until it answers, and the record or the value waits. There is no limit: the
    /// program ends the wait by dropping the future. Errors that an answer says, such as that there is no such schema, do not wait.
    ///
    /// A batch waits for all of its schemas, and so the partitions of its consumer wait too. In a pipeline only the record waits, with
    /// those that its order holds up, and takes one of the places that `concurrency` allows.
    Wait,
}

/// The longest pause after the registry could not be asked. The registry client has waited before, with its own attempts.
const PAUSE_MAX: Duration = Duration::from_secs(1);

impl WhileDown {
    /// How long to wait before the registry is asked again; none if the error is the caller's. It is a random part of a second, so that
    /// programs that wait for the same registry do not come together.
    pub(super) fn pause(self, error: &SerdeError, random: u64) -> Option<Duration> {
        let waits = self == Self::Wait && error.is_retriable();
        waits.then(|| part(PAUSE_MAX, random))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RegistryError, RegistryErrorKind};

    #[test]
    fn only_an_outage_is_waited_for_and_only_if_that_is_wanted() {
        let error = |kind| SerdeError::from(RegistryError::new(kind, "x"));
        let down = error(RegistryErrorKind::Unavailable);
        assert_eq!(WhileDown::default().pause(&down, u64::MAX), None);
        assert_eq!(WhileDown::Wait.pause(&down, u64::MAX), Some(PAUSE_MAX));
        assert_eq!(WhileDown::Wait.pause(&down, 0), Some(Duration::ZERO));
        for said in [RegistryErrorKind::NotFound, RegistryErrorKind::Unauthorized, RegistryErrorKind::Garbage]
        {
            assert_eq!(WhileDown::Wait.pause(&error(said), u64::MAX), None, "{said:?}");
        }
        for wrong in [SerdeError::data("x"), SerdeError::rules("x"), SerdeError::schema("x")] {
            assert_eq!(WhileDown::Wait.pause(&wrong, u64::MAX), None, "{wrong}");
        }
    }
}
