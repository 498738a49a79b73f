//! Where the reading of one partition stands.
//!
//! ```text
//!            sought          asked            found
//!  Stopped ───────▶ Unresolved ──▶ LookingUp ──────▶ Fetching ─┐ advanced
//!     ▲                  ▲            │ failed for now   │  ▲──┘
//!     │                  └────────────┘                  │
//!     │                  └── out of range, topic remade ─┤
//!     └───────────────── failed for good, no policy ─────┘
//! ```
//!
//! It is a table: [`next`] names every pair of state and input, and a test compares all of it with a snapshot.

use super::Position;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Not assigned. Its slot may become another partition's.
    Unassigned,
    /// Assigned, and not read before the application seeks.
    Stopped,
    /// To be read from `position`, which is no offset yet.
    Unresolved { position: Position },
    /// The broker was asked which offset `position` is.
    LookingUp { position: Position },
    /// Read from offset `next` on. `is_counted_back`: `next` was counted back from the end, and may lie before the
    /// first record there is. Reading then begins at that record, whatever the reset policy.
    Fetching { next: i64, is_counted_back: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// The application reads the partition from there.
    Sought(Position),
    /// The application does not read it before it seeks.
    Halted,
    /// The application gives it up.
    Unassigned,
    /// A lookup of its position goes out.
    Asked,
    /// The lookup is answered with this offset.
    Found(i64),
    /// The lookup is answered with no offset.
    NotFound,
    /// The lookup failed, and the next one may succeed.
    Unanswered,
    /// Batches up to this offset came.
    Advanced(i64),
    /// The broker does not have the offset. Where to go then, if there is a policy.
    OutOfRange(Option<Position>),
    /// The topic was deleted and made again. Where to go then, if there is a policy.
    Remade(Option<Position>),
    /// The partition cannot be read, and trying again does not help.
    Failed,
}

/// What the application is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Tell {
    #[default]
    Nothing,
    /// Reading begins at this offset.
    Positioned(i64),
    /// Reading has stopped, and why.
    Stopped,
}

impl State {
    /// Whether the offset to read from is still to be found.
    pub(super) fn is_unresolved(self) -> bool {
        matches!(self, Self::Unresolved { .. } | Self::LookingUp { .. })
    }

    /// The offset that is fetched next.
    pub(super) fn next(self) -> Option<i64> {
        match self {
            Self::Fetching { next, .. } => Some(next),
            Self::Unassigned | Self::Stopped | Self::Unresolved { .. } | Self::LookingUp { .. } => None,
        }
    }
}

/// The next state, and what the application is told. Every pair is named, so that a new state or input does not compile
/// before its row is written.
pub(super) fn next(state: State, input: Input) -> (State, Tell) {
    match (state, input) {
        // What the application says holds in every state. Seeking counts as assigning: a slot is sought when it is
        // given out.
        (_, Input::Sought(Position::Offset(next))) => {
            (State::Fetching { next, is_counted_back: false }, Tell::Nothing)
        }
        (_, Input::Sought(position)) => (State::Unresolved { position }, Tell::Nothing),
        (_, Input::Unassigned) => (State::Unassigned, Tell::Nothing),
        (State::Unassigned, Input::Halted) => (state, Tell::Nothing),
        (_, Input::Halted) => (State::Stopped, Tell::Nothing),

        // Answers to requests from before it stopped come late.
        (
            State::Unassigned | State::Stopped,
            Input::Asked
            | Input::Found(_)
            | Input::NotFound
            | Input::Unanswered
            | Input::Advanced(_)
            | Input::OutOfRange(_)
            | Input::Remade(_)
            | Input::Failed,
        ) => (state, Tell::Nothing),

        (State::Unresolved { position }, Input::Asked) => (State::LookingUp { position }, Tell::Nothing),
        (State::LookingUp { position }, Input::Found(offset)) => {
            let (next, is_counted_back) = match position {
                Position::BeforeEnd(count) => (offset.saturating_sub(count).max(0), true),
                _ => (offset, false),
            };
            (State::Fetching { next, is_counted_back }, Tell::Positioned(next))
        }
        // No record is as late as the time that was asked for: reading begins at the end. A broker that does not tell
        // its end is asked for its beginning.
        (State::LookingUp { position: Position::Latest }, Input::NotFound) => {
            (State::Unresolved { position: Position::Earliest }, Tell::Nothing)
        }
        (State::LookingUp { .. }, Input::NotFound) => {
            (State::Unresolved { position: Position::Latest }, Tell::Nothing)
        }
        // The lookup fails, or its answer is about the topic of before. The end or a time means the same in the new
        // topic.
        (State::LookingUp { position }, Input::Unanswered | Input::Remade(_)) => {
            (State::Unresolved { position }, Tell::Nothing)
        }
        (State::Unresolved { .. } | State::LookingUp { .. }, Input::Failed) => {
            (State::Stopped, Tell::Stopped)
        }
        (
            State::Unresolved { .. },
            Input::Found(_)
            | Input::NotFound
            | Input::Unanswered
            | Input::Advanced(_)
            | Input::OutOfRange(_)
            | Input::Remade(_),
        )
        | (State::LookingUp { .. }, Input::Asked | Input::Advanced(_) | Input::OutOfRange(_)) => {
            (state, Tell::Nothing)
        }

        (State::Fetching { .. }, Input::Advanced(next)) => {
            (State::Fetching { next, is_counted_back: false }, Tell::Nothing)
        }
        (State::Fetching { is_counted_back: true, .. }, Input::OutOfRange(_)) => {
            (State::Unresolved { position: Position::Earliest }, Tell::Nothing)
        }
        // KIP-516: no offset of before means anything in a topic that was made again.
        (State::Fetching { .. }, Input::OutOfRange(Some(position)) | Input::Remade(Some(position))) => {
            (State::Unresolved { position }, Tell::Nothing)
        }
        (State::Fetching { .. }, Input::OutOfRange(None) | Input::Remade(None) | Input::Failed) => {
            (State::Stopped, Tell::Stopped)
        }
        (State::Fetching { .. }, Input::Asked | Input::Found(_) | Input::NotFound | Input::Unanswered) => {
            (state, Tell::Nothing)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table;

    #[test]
    fn the_table() {
        let states = [
            State::Unassigned,
            State::Stopped,
            State::Unresolved { position: Position::TimestampMs(1) },
            State::LookingUp { position: Position::TimestampMs(1) },
            State::LookingUp { position: Position::BeforeEnd(3) },
            State::LookingUp { position: Position::Latest },
            State::Fetching { next: 5, is_counted_back: true },
            State::Fetching { next: 5, is_counted_back: false },
        ];
        let inputs = [
            Input::Sought(Position::Offset(9)),
            Input::Sought(Position::Earliest),
            Input::Halted,
            Input::Unassigned,
            Input::Asked,
            Input::Found(7),
            Input::Found(2),
            Input::NotFound,
            Input::Unanswered,
            Input::Advanced(8),
            Input::OutOfRange(Some(Position::Latest)),
            Input::OutOfRange(None),
            Input::Remade(Some(Position::Latest)),
            Input::Remade(None),
            Input::Failed,
        ];
        let table = table::print(&states, &inputs, next);
        let table = table
            .replace("position: ", "")
            .replace("next: ", "")
            .replace(", is_counted_back: true", " counted back");
        let table = table.replace(", is_counted_back: false", "").replace(" { ", "(").replace(" }", ")");
        assert_eq!(table, TABLE, "\n{table}");
    }

    const TABLE: &str = "\
Unassigned
  Sought(Offset(9)) → Fetching(9)
  Sought(Earliest) → Unresolved(Earliest)
  nothing on Halted, Unassigned, Asked, Found(7), Found(2), NotFound, Unanswered, Advanced(8), OutOfRange(Some(Latest)), OutOfRange(None), Remade(Some(Latest)), Remade(None), Failed
Stopped
  Sought(Offset(9)) → Fetching(9)
  Sought(Earliest) → Unresolved(Earliest)
  Unassigned → Unassigned
  nothing on Halted, Asked, Found(7), Found(2), NotFound, Unanswered, Advanced(8), OutOfRange(Some(Latest)), OutOfRange(None), Remade(Some(Latest)), Remade(None), Failed
Unresolved(TimestampMs(1))
  Sought(Offset(9)) → Fetching(9)
  Sought(Earliest) → Unresolved(Earliest)
  Halted → Stopped
  Unassigned → Unassigned
  Asked → LookingUp(TimestampMs(1))
  Failed → Stopped, Stopped
  nothing on Found(7), Found(2), NotFound, Unanswered, Advanced(8), OutOfRange(Some(Latest)), OutOfRange(None), Remade(Some(Latest)), Remade(None)
LookingUp(TimestampMs(1))
  Sought(Offset(9)) → Fetching(9)
  Sought(Earliest) → Unresolved(Earliest)
  Halted → Stopped
  Unassigned → Unassigned
  Found(7) → Fetching(7), Positioned(7)
  Found(2) → Fetching(2), Positioned(2)
  NotFound → Unresolved(Latest)
  Unanswered → Unresolved(TimestampMs(1))
  Remade(Some(Latest)) → Unresolved(TimestampMs(1))
  Remade(None) → Unresolved(TimestampMs(1))
  Failed → Stopped, Stopped
  nothing on Asked, Advanced(8), OutOfRange(Some(Latest)), OutOfRange(None)
LookingUp(BeforeEnd(3))
  Sought(Offset(9)) → Fetching(9)
  Sought(Earliest) → Unresolved(Earliest)
  Halted → Stopped
  Unassigned → Unassigned
  Found(7) → Fetching(4 counted back), Positioned(4)
  Found(2) → Fetching(0 counted back), Positioned(0)
  NotFound → Unresolved(Latest)
  Unanswered → Unresolved(BeforeEnd(3))
  Remade(Some(Latest)) → Unresolved(BeforeEnd(3))
  Remade(None) → Unresolved(BeforeEnd(3))
  Failed → Stopped, Stopped
  nothing on Asked, Advanced(8), OutOfRange(Some(Latest)), OutOfRange(None)
LookingUp(Latest)
  Sought(Offset(9)) → Fetching(9)
  Sought(Earliest) → Unresolved(Earliest)
  Halted → Stopped
  Unassigned → Unassigned
  Found(7) → Fetching(7), Positioned(7)
  Found(2) → Fetching(2), Positioned(2)
  NotFound → Unresolved(Earliest)
  Unanswered → Unresolved(Latest)
  Remade(Some(Latest)) → Unresolved(Latest)
  Remade(None) → Unresolved(Latest)
  Failed → Stopped, Stopped
  nothing on Asked, Advanced(8), OutOfRange(Some(Latest)), OutOfRange(None)
Fetching(5 counted back)
  Sought(Offset(9)) → Fetching(9)
  Sought(Earliest) → Unresolved(Earliest)
  Halted → Stopped
  Unassigned → Unassigned
  Advanced(8) → Fetching(8)
  OutOfRange(Some(Latest)) → Unresolved(Earliest)
  OutOfRange(None) → Unresolved(Earliest)
  Remade(Some(Latest)) → Unresolved(Latest)
  Remade(None) → Stopped, Stopped
  Failed → Stopped, Stopped
  nothing on Asked, Found(7), Found(2), NotFound, Unanswered
Fetching(5)
  Sought(Offset(9)) → Fetching(9)
  Sought(Earliest) → Unresolved(Earliest)
  Halted → Stopped
  Unassigned → Unassigned
  Advanced(8) → Fetching(8)
  OutOfRange(Some(Latest)) → Unresolved(Latest)
  OutOfRange(None) → Stopped, Stopped
  Remade(Some(Latest)) → Unresolved(Latest)
  Remade(None) → Stopped, Stopped
  Failed → Stopped, Stopped
  nothing on Asked, Found(7), Found(2), NotFound, Unanswered
";
}
