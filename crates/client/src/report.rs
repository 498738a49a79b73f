//! What is told in the log: failures that others wait for while they are tried again.

use milena_core::Notice;

/// Tells people of what fails again and again while others wait for it.
#[cold]
pub(crate) fn report(notice: &Notice) {
    let Notice { doing, failure, failures } = notice;
    tracing::warn!(target: "milena", "{doing} failed {failures} times in a row: {failure}; trying again");
}
