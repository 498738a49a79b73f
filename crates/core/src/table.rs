//! Prints the table of a state machine for a test to compare: every state with every event.

use std::fmt::{Debug, Write as _};

/// What `next` says of each pair, by state: the next state, and the action unless it is the default one. Events that
/// change nothing share a line.
///
/// ```text
/// Closed
///   Knock → Open, Greet
///   nothing on Leave, Wait
/// ```
pub(crate) fn print<S, E, A>(states: &[S], events: &[E], next: impl Fn(S, E) -> (S, A)) -> String
where
    S: Debug + Copy + PartialEq,
    E: Debug + Copy,
    A: Debug + Default + PartialEq,
{
    let mut table = String::new();
    for state in states {
        let _ = writeln!(table, "{state:?}");
        let mut nothing = Vec::new();
        for event in events {
            let (after, action) = next(*state, *event);
            if after == *state && action == A::default() {
                nothing.push(format!("{event:?}"));
                continue;
            }
            let action = if action == A::default() { String::new() } else { format!(", {action:?}") };
            let _ = writeln!(table, "  {event:?} → {after:?}{action}");
        }
        if !nothing.is_empty() {
            let _ = writeln!(table, "  nothing on {}", nothing.join(", "));
        }
    }
    table
}
