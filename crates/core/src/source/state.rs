//! Where the reading of one partition stands.
//!
//! ```text
//!            sought          asked            found
//!  Stopped ───────▶ Unresolved ──▶ LookingUp ──────▶ Fetching ─┐ advanced
//!     ▲                  ▲            │ failed for now   │  ▲──┘
//!     │                  └────────────┘                  │  └─ same log, truncated ─┐
//!     │                  └── out of range, topic remade ─┤       asked              │
//!     │                                 another leader:  ├─▶ Unvalidated ──▶ Validating
//!     └───────────────── failed for good, no policy ─────┘       ▲ failed for now ──┘
//! ```
//!
//! A position is validated (KIP-320) when the leader epoch is another one than that of the record before the position:
//! the new leader may have another record there. Nothing is fetched meanwhile.
//!
//! It is a table: [`next`] names every pair of state and input, and a test compares all of it with a snapshot.

use super::Position;
use crate::LeaderEpoch;

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
    /// first record there is. Reading then begins at that record, whatever the reset policy. `read_in` is the leader
    /// epoch of the record before `next`, if that is known.
    Fetching { next: i64, read_in: Option<LeaderEpoch>, is_counted_back: bool },
    /// Read from offset `next` on, once the leader has said that it has the record before it, of epoch `read_in`.
    Unvalidated { next: i64, read_in: LeaderEpoch },
    /// The leader was asked how far epoch `read_in` reaches in its log.
    Validating { next: i64, read_in: LeaderEpoch },
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
    /// The lookup is answered with this offset, of a record of this leader epoch.
    Found(i64, Option<LeaderEpoch>),
    /// The lookup is answered with no offset.
    NotFound,
    /// The lookup or validation failed, and the next one may succeed.
    Unanswered,
    /// Batches up to this offset came, the last one of this leader epoch.
    Advanced(i64, Option<LeaderEpoch>),
    /// The partition has a leader of this epoch.
    Led(Option<LeaderEpoch>),
    /// The validation is answered: the log has the record before the position, or the leader does not know.
    Valid,
    /// The validation is answered: what was read differs from the log from this offset on, where the log has this
    /// leader epoch. `resumes`: reading goes on there, because there is a reset policy.
    Truncated { offset: i64, leader_epoch: Option<LeaderEpoch>, resumes: bool },
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
    /// Records were lost that had been read, up to this offset. Reading goes on at the place that was given.
    Truncated { position: i64, read_in: LeaderEpoch },
    /// Reading has stopped, and why.
    Stopped,
}

impl State {
    /// Whether a broker is to be asked, or was asked, before anything is fetched.
    pub(super) fn is_unresolved(self) -> bool {
        match self {
            Self::Unresolved { .. }
            | Self::LookingUp { .. }
            | Self::Unvalidated { .. }
            | Self::Validating { .. } => true,
            Self::Unassigned | Self::Stopped | Self::Fetching { .. } => false,
        }
    }

    /// The next offset to read.
    pub(super) fn next(self) -> Option<i64> {
        match self {
            Self::Fetching { next, .. } | Self::Unvalidated { next, .. } | Self::Validating { next, .. } => {
                Some(next)
            }
            Self::Unassigned | Self::Stopped | Self::Unresolved { .. } | Self::LookingUp { .. } => None,
        }
    }

    /// The offset that is fetched next.
    pub(super) fn fetched(self) -> Option<i64> {
        self.next().filter(|_| matches!(self, Self::Fetching { .. }))
    }
}

/// The next state, and what the application is told. Every pair is named, so that a new state or input does not compile
/// before its row is written.
pub(super) fn next(state: State, input: Input) -> (State, Tell) {
    match (state, input) {
        // What the application says holds in every state. Seeking counts as assigning: a slot is sought when it is
        // given out.
        (_, Input::Sought(Position::Offset(next))) => {
            (State::Fetching { next, read_in: None, is_counted_back: false }, Tell::Nothing)
        }
        (_, Input::Sought(Position::OffsetInEpoch { offset, leader_epoch })) => {
            (State::Unvalidated { next: offset, read_in: LeaderEpoch(leader_epoch) }, Tell::Nothing)
        }
        (_, Input::Sought(position)) => (State::Unresolved { position }, Tell::Nothing),
        (_, Input::Unassigned) => (State::Unassigned, Tell::Nothing),
        (State::Unassigned, Input::Halted) => (state, Tell::Nothing),
        (_, Input::Halted) => (State::Stopped, Tell::Nothing),

        // Answers to requests from before it stopped come late.
        (
            State::Unassigned | State::Stopped,
            Input::Asked
            | Input::Found(..)
            | Input::NotFound
            | Input::Unanswered
            | Input::Advanced(..)
            | Input::Led(_)
            | Input::Valid
            | Input::Truncated { .. }
            | Input::OutOfRange(_)
            | Input::Remade(_)
            | Input::Failed,
        ) => (state, Tell::Nothing),

        (State::Unresolved { position }, Input::Asked) => (State::LookingUp { position }, Tell::Nothing),
        (State::LookingUp { position }, Input::Found(offset, read_in)) => {
            let (next, read_in, is_counted_back) = match position {
                Position::BeforeEnd(count) => (offset.saturating_sub(count).max(0), None, true),
                _ => (offset, read_in, false),
            };
            (State::Fetching { next, read_in, is_counted_back }, Tell::Positioned(next))
        }
        // No record is as late as the time that was asked for: reading begins at the end. A broker that does not tell
        // its end is asked for its beginning.
        (State::LookingUp { position: Position::Latest }, Input::NotFound) => {
            (State::Unresolved { position: Position::Earliest }, Tell::Nothing)
        }
        (State::LookingUp { .. }, Input::NotFound) => {
            (State::Unresolved { position: Position::Latest }, Tell::Nothing)
        }
        // The lookup fails, or its answer is about the topic or the leader of before. The end or a time means the same
        // in the new topic.
        (State::LookingUp { position }, Input::Unanswered | Input::Led(_) | Input::Remade(_)) => {
            (State::Unresolved { position }, Tell::Nothing)
        }
        (State::Unresolved { .. } | State::LookingUp { .. }, Input::Failed) => {
            (State::Stopped, Tell::Stopped)
        }
        (
            State::Unresolved { .. },
            Input::Found(..)
            | Input::NotFound
            | Input::Unanswered
            | Input::Advanced(..)
            | Input::Led(_)
            | Input::Valid
            | Input::Truncated { .. }
            | Input::OutOfRange(_)
            | Input::Remade(_),
        )
        | (
            State::LookingUp { .. },
            Input::Asked
            | Input::Advanced(..)
            | Input::Valid
            | Input::Truncated { .. }
            | Input::OutOfRange(_),
        ) => (state, Tell::Nothing),

        (State::Fetching { .. }, Input::Advanced(next, read_in)) => {
            (State::Fetching { next, read_in, is_counted_back: false }, Tell::Nothing)
        }
        // The leader of the record before the position cannot have lost it: a log is cut off by another leader only.
        // Without both epochs nothing can be asked.
        (State::Fetching { next, read_in: Some(read_in), .. }, Input::Led(Some(led))) if led != read_in => {
            (State::Unvalidated { next, read_in }, Tell::Nothing)
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
        (
            State::Fetching { .. },
            Input::Asked
            | Input::Found(..)
            | Input::NotFound
            | Input::Unanswered
            | Input::Led(_)
            | Input::Valid
            | Input::Truncated { .. },
        ) => (state, Tell::Nothing),

        (State::Unvalidated { next, read_in }, Input::Asked) => {
            (State::Validating { next, read_in }, Tell::Nothing)
        }
        // What is asked of one leader says nothing of the next one's log (KAFKA-8429).
        (State::Validating { next, read_in }, Input::Led(Some(led))) if led != read_in => {
            (State::Unvalidated { next, read_in }, Tell::Nothing)
        }
        // The leader is again that of the record before the position, or its epoch is not known any more.
        (State::Unvalidated { next, read_in } | State::Validating { next, read_in }, Input::Led(led))
            if led.is_none_or(|led| led == read_in) =>
        {
            (State::Fetching { next, read_in: Some(read_in), is_counted_back: false }, Tell::Nothing)
        }
        (State::Validating { next, read_in }, Input::Unanswered) => {
            (State::Unvalidated { next, read_in }, Tell::Nothing)
        }
        (State::Validating { next, read_in }, Input::Valid) => {
            (State::Fetching { next, read_in: Some(read_in), is_counted_back: false }, Tell::Nothing)
        }
        (State::Validating { next, read_in }, Input::Truncated { offset, leader_epoch, resumes: true }) => (
            State::Fetching { next: offset, read_in: leader_epoch, is_counted_back: false },
            Tell::Truncated { position: next, read_in },
        ),
        (State::Validating { .. }, Input::Truncated { resumes: false, .. }) => {
            (State::Stopped, Tell::Stopped)
        }
        (State::Unvalidated { .. } | State::Validating { .. }, Input::Remade(Some(position))) => {
            (State::Unresolved { position }, Tell::Nothing)
        }
        (State::Unvalidated { .. } | State::Validating { .. }, Input::Remade(None) | Input::Failed) => {
            (State::Stopped, Tell::Stopped)
        }
        // A fetch from before is answered late, or the leader is what it was.
        (
            State::Unvalidated { .. },
            Input::Found(..)
            | Input::NotFound
            | Input::Unanswered
            | Input::Advanced(..)
            | Input::Led(_)
            | Input::Valid
            | Input::Truncated { .. }
            | Input::OutOfRange(_),
        )
        | (
            State::Validating { .. },
            Input::Asked
            | Input::Found(..)
            | Input::NotFound
            | Input::Advanced(..)
            | Input::Led(_)
            | Input::OutOfRange(_),
        ) => (state, Tell::Nothing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table;

    #[test]
    fn the_table() {
        let (three, five) = (LeaderEpoch(3), LeaderEpoch(5));
        let states = [
            State::Unassigned,
            State::Stopped,
            State::Unresolved { position: Position::TimestampMs(1) },
            State::LookingUp { position: Position::TimestampMs(1) },
            State::LookingUp { position: Position::BeforeEnd(3) },
            State::LookingUp { position: Position::Latest },
            State::Fetching { next: 5, read_in: None, is_counted_back: true },
            State::Fetching { next: 5, read_in: None, is_counted_back: false },
            State::Fetching { next: 5, read_in: Some(three), is_counted_back: false },
            State::Unvalidated { next: 5, read_in: three },
            State::Validating { next: 5, read_in: three },
        ];
        let inputs = [
            Input::Sought(Position::Offset(9)),
            Input::Sought(Position::OffsetInEpoch { offset: 9, leader_epoch: 5 }),
            Input::Sought(Position::Earliest),
            Input::Halted,
            Input::Unassigned,
            Input::Asked,
            Input::Found(7, Some(five)),
            Input::Found(2, None),
            Input::NotFound,
            Input::Unanswered,
            Input::Advanced(8, Some(five)),
            Input::Led(Some(five)),
            Input::Led(Some(three)),
            Input::Led(None),
            Input::Valid,
            Input::Truncated { offset: 4, leader_epoch: Some(five), resumes: true },
            Input::Truncated { offset: 4, leader_epoch: None, resumes: false },
            Input::OutOfRange(Some(Position::Latest)),
            Input::OutOfRange(None),
            Input::Remade(Some(Position::Latest)),
            Input::Remade(None),
            Input::Failed,
        ];
        let table = table::print(&states, &inputs, next);
        let table = [
            ("position: ", ""),
            ("next: ", ""),
            (", read_in: None", ""),
            ("read_in: ", ""),
            (", is_counted_back: true", " counted back"),
            (", is_counted_back: false", ""),
            ("LeaderEpoch(3)", "3rd"),
            ("LeaderEpoch(5)", "5th"),
            ("Some(3rd)", "3rd"),
            ("Some(5th)", "5th"),
            (" { ", "("),
            (" }", ")"),
        ]
        .into_iter()
        .fold(table, |table, (long, short)| table.replace(long, short));
        assert_eq!(table, TABLE, "\n{table}");
    }

    const TABLE: &str = "\
Unassigned
  Sought(Offset(9)) → Fetching(9)
  Sought(OffsetInEpoch(offset: 9, leader_epoch: 5)) → Unvalidated(9, 5th)
  Sought(Earliest) → Unresolved(Earliest)
  nothing on Halted, Unassigned, Asked, Found(7, 5th), Found(2, None), NotFound, Unanswered, Advanced(8, 5th), Led(5th), Led(3rd), Led(None), Valid, Truncated(offset: 4, leader_epoch: 5th, resumes: true), Truncated(offset: 4, leader_epoch: None, resumes: false), OutOfRange(Some(Latest)), OutOfRange(None), Remade(Some(Latest)), Remade(None), Failed
Stopped
  Sought(Offset(9)) → Fetching(9)
  Sought(OffsetInEpoch(offset: 9, leader_epoch: 5)) → Unvalidated(9, 5th)
  Sought(Earliest) → Unresolved(Earliest)
  Unassigned → Unassigned
  nothing on Halted, Asked, Found(7, 5th), Found(2, None), NotFound, Unanswered, Advanced(8, 5th), Led(5th), Led(3rd), Led(None), Valid, Truncated(offset: 4, leader_epoch: 5th, resumes: true), Truncated(offset: 4, leader_epoch: None, resumes: false), OutOfRange(Some(Latest)), OutOfRange(None), Remade(Some(Latest)), Remade(None), Failed
Unresolved(TimestampMs(1))
  Sought(Offset(9)) → Fetching(9)
  Sought(OffsetInEpoch(offset: 9, leader_epoch: 5)) → Unvalidated(9, 5th)
  Sought(Earliest) → Unresolved(Earliest)
  Halted → Stopped
  Unassigned → Unassigned
  Asked → LookingUp(TimestampMs(1))
  Failed → Stopped, Stopped
  nothing on Found(7, 5th), Found(2, None), NotFound, Unanswered, Advanced(8, 5th), Led(5th), Led(3rd), Led(None), Valid, Truncated(offset: 4, leader_epoch: 5th, resumes: true), Truncated(offset: 4, leader_epoch: None, resumes: false), OutOfRange(Some(Latest)), OutOfRange(None), Remade(Some(Latest)), Remade(None)
LookingUp(TimestampMs(1))
  Sought(Offset(9)) → Fetching(9)
  Sought(OffsetInEpoch(offset: 9, leader_epoch: 5)) → Unvalidated(9, 5th)
  Sought(Earliest) → Unresolved(Earliest)
  Halted → Stopped
  Unassigned → Unassigned
  Found(7, 5th) → Fetching(7, 5th), Positioned(7)
  Found(2, None) → Fetching(2), Positioned(2)
  NotFound → Unresolved(Latest)
  Unanswered → Unresolved(TimestampMs(1))
  Led(5th) → Unresolved(TimestampMs(1))
  Led(3rd) → Unresolved(TimestampMs(1))
  Led(None) → Unresolved(TimestampMs(1))
  Remade(Some(Latest)) → Unresolved(TimestampMs(1))
  Remade(None) → Unresolved(TimestampMs(1))
  Failed → Stopped, Stopped
  nothing on Asked, Advanced(8, 5th), Valid, Truncated(offset: 4, leader_epoch: 5th, resumes: true), Truncated(offset: 4, leader_epoch: None, resumes: false), OutOfRange(Some(Latest)), OutOfRange(None)
LookingUp(BeforeEnd(3))
  Sought(Offset(9)) → Fetching(9)
  Sought(OffsetInEpoch(offset: 9, leader_epoch: 5)) → Unvalidated(9, 5th)
  Sought(Earliest) → Unresolved(Earliest)
  Halted → Stopped
  Unassigned → Unassigned
  Found(7, 5th) → Fetching(4 counted back), Positioned(4)
  Found(2, None) → Fetching(0 counted back), Positioned(0)
  NotFound → Unresolved(Latest)
  Unanswered → Unresolved(BeforeEnd(3))
  Led(5th) → Unresolved(BeforeEnd(3))
  Led(3rd) → Unresolved(BeforeEnd(3))
  Led(None) → Unresolved(BeforeEnd(3))
  Remade(Some(Latest)) → Unresolved(BeforeEnd(3))
  Remade(None) → Unresolved(BeforeEnd(3))
  Failed → Stopped, Stopped
  nothing on Asked, Advanced(8, 5th), Valid, Truncated(offset: 4, leader_epoch: 5th, resumes: true), Truncated(offset: 4, leader_epoch: None, resumes: false), OutOfRange(Some(Latest)), OutOfRange(None)
LookingUp(Latest)
  Sought(Offset(9)) → Fetching(9)
  Sought(OffsetInEpoch(offset: 9, leader_epoch: 5)) → Unvalidated(9, 5th)
  Sought(Earliest) → Unresolved(Earliest)
  Halted → Stopped
  Unassigned → Unassigned
  Found(7, 5th) → Fetching(7, 5th), Positioned(7)
  Found(2, None) → Fetching(2), Positioned(2)
  NotFound → Unresolved(Earliest)
  Unanswered → Unresolved(Latest)
  Led(5th) → Unresolved(Latest)
  Led(3rd) → Unresolved(Latest)
  Led(None) → Unresolved(Latest)
  Remade(Some(Latest)) → Unresolved(Latest)
  Remade(None) → Unresolved(Latest)
  Failed → Stopped, Stopped
  nothing on Asked, Advanced(8, 5th), Valid, Truncated(offset: 4, leader_epoch: 5th, resumes: true), Truncated(offset: 4, leader_epoch: None, resumes: false), OutOfRange(Some(Latest)), OutOfRange(None)
Fetching(5 counted back)
  Sought(Offset(9)) → Fetching(9)
  Sought(OffsetInEpoch(offset: 9, leader_epoch: 5)) → Unvalidated(9, 5th)
  Sought(Earliest) → Unresolved(Earliest)
  Halted → Stopped
  Unassigned → Unassigned
  Advanced(8, 5th) → Fetching(8, 5th)
  OutOfRange(Some(Latest)) → Unresolved(Earliest)
  OutOfRange(None) → Unresolved(Earliest)
  Remade(Some(Latest)) → Unresolved(Latest)
  Remade(None) → Stopped, Stopped
  Failed → Stopped, Stopped
  nothing on Asked, Found(7, 5th), Found(2, None), NotFound, Unanswered, Led(5th), Led(3rd), Led(None), Valid, Truncated(offset: 4, leader_epoch: 5th, resumes: true), Truncated(offset: 4, leader_epoch: None, resumes: false)
Fetching(5)
  Sought(Offset(9)) → Fetching(9)
  Sought(OffsetInEpoch(offset: 9, leader_epoch: 5)) → Unvalidated(9, 5th)
  Sought(Earliest) → Unresolved(Earliest)
  Halted → Stopped
  Unassigned → Unassigned
  Advanced(8, 5th) → Fetching(8, 5th)
  OutOfRange(Some(Latest)) → Unresolved(Latest)
  OutOfRange(None) → Stopped, Stopped
  Remade(Some(Latest)) → Unresolved(Latest)
  Remade(None) → Stopped, Stopped
  Failed → Stopped, Stopped
  nothing on Asked, Found(7, 5th), Found(2, None), NotFound, Unanswered, Led(5th), Led(3rd), Led(None), Valid, Truncated(offset: 4, leader_epoch: 5th, resumes: true), Truncated(offset: 4, leader_epoch: None, resumes: false)
Fetching(5, 3rd)
  Sought(Offset(9)) → Fetching(9)
  Sought(OffsetInEpoch(offset: 9, leader_epoch: 5)) → Unvalidated(9, 5th)
  Sought(Earliest) → Unresolved(Earliest)
  Halted → Stopped
  Unassigned → Unassigned
  Advanced(8, 5th) → Fetching(8, 5th)
  Led(5th) → Unvalidated(5, 3rd)
  OutOfRange(Some(Latest)) → Unresolved(Latest)
  OutOfRange(None) → Stopped, Stopped
  Remade(Some(Latest)) → Unresolved(Latest)
  Remade(None) → Stopped, Stopped
  Failed → Stopped, Stopped
  nothing on Asked, Found(7, 5th), Found(2, None), NotFound, Unanswered, Led(3rd), Led(None), Valid, Truncated(offset: 4, leader_epoch: 5th, resumes: true), Truncated(offset: 4, leader_epoch: None, resumes: false)
Unvalidated(5, 3rd)
  Sought(Offset(9)) → Fetching(9)
  Sought(OffsetInEpoch(offset: 9, leader_epoch: 5)) → Unvalidated(9, 5th)
  Sought(Earliest) → Unresolved(Earliest)
  Halted → Stopped
  Unassigned → Unassigned
  Asked → Validating(5, 3rd)
  Led(3rd) → Fetching(5, 3rd)
  Led(None) → Fetching(5, 3rd)
  Remade(Some(Latest)) → Unresolved(Latest)
  Remade(None) → Stopped, Stopped
  Failed → Stopped, Stopped
  nothing on Found(7, 5th), Found(2, None), NotFound, Unanswered, Advanced(8, 5th), Led(5th), Valid, Truncated(offset: 4, leader_epoch: 5th, resumes: true), Truncated(offset: 4, leader_epoch: None, resumes: false), OutOfRange(Some(Latest)), OutOfRange(None)
Validating(5, 3rd)
  Sought(Offset(9)) → Fetching(9)
  Sought(OffsetInEpoch(offset: 9, leader_epoch: 5)) → Unvalidated(9, 5th)
  Sought(Earliest) → Unresolved(Earliest)
  Halted → Stopped
  Unassigned → Unassigned
  Unanswered → Unvalidated(5, 3rd)
  Led(5th) → Unvalidated(5, 3rd)
  Led(3rd) → Fetching(5, 3rd)
  Led(None) → Fetching(5, 3rd)
  Valid → Fetching(5, 3rd)
  Truncated(offset: 4, leader_epoch: 5th, resumes: true) → Fetching(4, 5th), Truncated(5, 3rd)
  Truncated(offset: 4, leader_epoch: None, resumes: false) → Stopped, Stopped
  Remade(Some(Latest)) → Unresolved(Latest)
  Remade(None) → Stopped, Stopped
  Failed → Stopped, Stopped
  nothing on Asked, Found(7, 5th), Found(2, None), NotFound, Advanced(8, 5th), OutOfRange(Some(Latest)), OutOfRange(None)
";
}
