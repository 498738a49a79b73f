//! Warnings in the log about failures that are being tried again.

use milena_core::Notice;

/// Warns that something has failed several times in a row and is still being tried. Without it, a program that waits for it
/// would seem to hang.
#[cold]
pub(crate) fn report(notice: &Notice) {
    let Notice { doing, failure, failures } = notice;
    tracing::warn!(target: "milena", "{doing} failed {failures} times in a row: {failure}; trying again");
}
