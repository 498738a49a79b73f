//! The table of a transactional producer: each state with each event.
//!
//! ```text
//!  New ─▶ Starting ─▶ Ready ─ begun ─▶ Open ─ commit ─▶ Draining(Commit) ─ drained ─▶ Ending(Commit) ─ ended ─▶ Ready
//!                      ▲                │ spoilt             │ spoilt                   │ refused
//!                      │                ▼                    ▼                          ▼
//!                      │             Doomed ─ abort ─▶ Draining(Abort) ─ drained ─▶ Ending(Abort) ─ ended ─▶ Ready
//!                      └─ granted ─ Raising ◀─ ended, but a request of unknown fate may still reach a broker ──┘
//! ```
//!
//! It must not know requests, codes or time: [`Transaction`](super::Transaction) carries out the actions, and sends the request
//! that the state is about until it is answered.

/// Where a transactional producer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It has no identity and does not ask for one.
    New,
    /// It asks for its identity, which fences earlier instances and ends what they have left open.
    Starting,
    /// It has an identity, no transaction is open, and nothing of an earlier one can reach a broker any more.
    Ready,
    /// A transaction is open.
    Open(Trace),
    /// A transaction is open that can only be aborted.
    Doomed(Trace),
    /// The application has ended the transaction, and records or offsets of it are still under way.
    Draining(Fate, Trace),
    /// The coordinator is told how the transaction ends, until it answers. The trace is never [`Trace::None`].
    Ending(Fate, Trace),
    /// The epoch is raised, so that brokers refuse whatever is left of the last transaction.
    Raising,
    /// Another instance has taken over, or the cluster will not serve this one.
    Dead,
}

/// What brokers may have of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trace {
    /// Nothing was sent, so that there is nothing to end.
    None,
    /// Every request was answered.
    Known,
    /// A request of unknown fate may still be carried out, or a sequence is missing: the next transaction needs another epoch.
    Unknown,
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Its records and offsets count.
    Commit,
    /// They do not.
    Abort,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// The application wants an identity.
    Wanted,
    /// The coordinator granted an identity.
    Granted,
    /// A transaction begins.
    Begun,
    /// The next transaction needs another epoch, because the cluster has gone over to another version of transactions.
    Upgraded,
    /// A request goes out that makes a broker know of the transaction.
    Sent,
    /// A request may be carried out although it was not answered, or a sequence is missing.
    Unsure,
    /// A part of the transaction has failed.
    Spoilt,
    /// The application commits.
    Commit,
    /// The application aborts, or has dropped the transaction.
    Abort,
    /// Nothing of the transaction is under way any more.
    Drained,
    /// The coordinator has ended the transaction.
    Ended,
    /// The coordinator has ended the transaction and raised the epoch (KIP-890).
    EndedAndRaised,
    /// The coordinator refuses the request that the state is about, and will refuse it again.
    Refused,
    /// The producer can do nothing more.
    Fatal,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Action {
    #[default]
    Nothing,
    /// Fail the records and offsets of the transaction that are not under way.
    Purge,
    /// As `Purge`, and the application's commit fails.
    Refuse,
    /// Tell the application how the transaction has ended.
    Tell(Fate),
    /// Tell the application that there is no identity.
    Fail,
    /// Everything fails, now and later.
    Die,
}

impl Trace {
    fn sent(self) -> Self {
        if self == Self::None { Self::Known } else { self }
    }
}

/// The next state and what to do. Every pair is named, so that a new state or event does not compile before its row is written.
pub(super) fn next(state: State, event: Event) -> (State, Action) {
    use Event::{
        Abort, Begun, Commit, Drained, Ended, EndedAndRaised, Fatal, Granted, Refused, Sent, Spoilt, Unsure,
        Upgraded, Wanted,
    };
    let nothing = (state, Action::Nothing);
    match (state, event) {
        (State::Dead, _) => nothing,
        (_, Fatal) => (State::Dead, Action::Die),

        (State::New, Wanted) => (State::Starting, Action::Nothing),
        (
            State::New,
            Granted | Begun | Upgraded | Sent | Unsure | Spoilt | Commit | Abort | Drained | Ended
            | EndedAndRaised | Refused,
        ) => nothing,

        (State::Starting, Granted) => (State::Ready, Action::Nothing),
        // A timeout that the cluster does not allow, or a right that is missing: the application may ask again.
        (State::Starting, Refused) => (State::New, Action::Fail),
        (
            State::Starting,
            Wanted | Begun | Upgraded | Sent | Unsure | Spoilt | Commit | Abort | Drained | Ended
            | EndedAndRaised,
        ) => nothing,

        (State::Ready, Begun) => (State::Open(Trace::None), Action::Nothing),
        (State::Ready, Upgraded) => (State::Raising, Action::Nothing),
        (
            State::Ready,
            Wanted | Granted | Sent | Unsure | Spoilt | Commit | Abort | Drained | Ended | EndedAndRaised
            | Refused,
        ) => nothing,

        (State::Open(trace), Sent) => (State::Open(trace.sent()), Action::Nothing),
        (State::Open(_), Unsure) => (State::Open(Trace::Unknown), Action::Nothing),
        (State::Open(trace), Spoilt) => (State::Doomed(trace), Action::Purge),
        (State::Open(trace), Commit) => (State::Draining(Fate::Commit, trace), Action::Nothing),
        (State::Open(trace), Abort) => (State::Draining(Fate::Abort, trace), Action::Purge),
        (
            State::Open(_),
            Wanted | Granted | Begun | Upgraded | Drained | Ended | EndedAndRaised | Refused,
        ) => nothing,

        (State::Doomed(trace), Sent) => (State::Doomed(trace.sent()), Action::Nothing),
        (State::Doomed(_), Unsure) => (State::Doomed(Trace::Unknown), Action::Nothing),
        // What cannot be committed is aborted at once: no commit may come after a commit that was refused.
        (State::Doomed(trace), Commit) => (State::Draining(Fate::Abort, trace), Action::Refuse),
        (State::Doomed(trace), Abort) => (State::Draining(Fate::Abort, trace), Action::Purge),
        (
            State::Doomed(_),
            Wanted | Granted | Begun | Upgraded | Spoilt | Drained | Ended | EndedAndRaised | Refused,
        ) => nothing,

        (State::Draining(fate, trace), Sent) => (State::Draining(fate, trace.sent()), Action::Nothing),
        (State::Draining(fate, _), Unsure) => (State::Draining(fate, Trace::Unknown), Action::Nothing),
        (State::Draining(Fate::Commit, trace), Spoilt) => {
            (State::Draining(Fate::Abort, trace), Action::Refuse)
        }
        // The coordinator knows of no transaction, and answers that there is none.
        (State::Draining(fate, Trace::None), Drained) => (State::Ready, Action::Tell(fate)),
        (State::Draining(fate, trace), Drained) => (State::Ending(fate, trace), Action::Nothing),
        (
            State::Draining(..),
            Wanted | Granted | Begun | Upgraded | Spoilt | Commit | Abort | Ended | EndedAndRaised | Refused,
        ) => nothing,

        // An attempt whose answer was lost may still be waiting in a broker. It would end the next transaction, if that had the
        // same epoch (KAFKA-17754).
        (State::Ending(fate, _), Unsure) => (State::Ending(fate, Trace::Unknown), Action::Nothing),
        (State::Ending(fate, Trace::Unknown), Ended) => (State::Raising, Action::Tell(fate)),
        (State::Ending(fate, _), Ended) => (State::Ready, Action::Tell(fate)),
        (State::Ending(fate, _), EndedAndRaised) => (State::Ready, Action::Tell(fate)),
        // The coordinator has no open transaction of this epoch, or one that it will not commit.
        (State::Ending(Fate::Commit, _), Refused) => {
            (State::Ending(Fate::Abort, Trace::Unknown), Action::Refuse)
        }
        // There is nothing to abort: it never heard of the transaction, or only hears of it later.
        (State::Ending(Fate::Abort, _), Refused) => (State::Raising, Action::Tell(Fate::Abort)),
        (
            State::Ending(..),
            Wanted | Granted | Begun | Upgraded | Sent | Spoilt | Commit | Abort | Drained,
        ) => nothing,

        (State::Raising, Granted) => (State::Ready, Action::Nothing),
        // Under the epoch that it has it must not go on, and there is no other one for it.
        (State::Raising, Refused) => (State::Dead, Action::Die),
        (
            State::Raising,
            Wanted | Begun | Upgraded | Sent | Unsure | Spoilt | Commit | Abort | Drained | Ended
            | EndedAndRaised,
        ) => nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table;

    #[test]
    fn the_table() {
        let traces = [Trace::None, Trace::Known, Trace::Unknown];
        let mut states = vec![State::New, State::Starting, State::Ready];
        states.extend(traces.map(State::Open));
        states.extend(traces.map(State::Doomed));
        for fate in [Fate::Commit, Fate::Abort] {
            states.extend(traces.map(|trace| State::Draining(fate, trace)));
        }
        for fate in [Fate::Commit, Fate::Abort] {
            states.extend([Trace::Known, Trace::Unknown].map(|trace| State::Ending(fate, trace)));
        }
        states.extend([State::Raising, State::Dead]);
        let events = [
            Event::Wanted,
            Event::Granted,
            Event::Begun,
            Event::Upgraded,
            Event::Sent,
            Event::Unsure,
            Event::Spoilt,
            Event::Commit,
            Event::Abort,
            Event::Drained,
            Event::Ended,
            Event::EndedAndRaised,
            Event::Refused,
            Event::Fatal,
        ];
        let table = table::print(&states, &events, next);
        assert_eq!(table, TABLE, "\n{table}");
    }

    const TABLE: &str = "\
New
  Wanted → Starting
  Fatal → Dead, Die
  nothing on Granted, Begun, Upgraded, Sent, Unsure, Spoilt, Commit, Abort, Drained, Ended, EndedAndRaised, Refused
Starting
  Granted → Ready
  Refused → New, Fail
  Fatal → Dead, Die
  nothing on Wanted, Begun, Upgraded, Sent, Unsure, Spoilt, Commit, Abort, Drained, Ended, EndedAndRaised
Ready
  Begun → Open(None)
  Upgraded → Raising
  Fatal → Dead, Die
  nothing on Wanted, Granted, Sent, Unsure, Spoilt, Commit, Abort, Drained, Ended, EndedAndRaised, Refused
Open(None)
  Sent → Open(Known)
  Unsure → Open(Unknown)
  Spoilt → Doomed(None), Purge
  Commit → Draining(Commit, None)
  Abort → Draining(Abort, None), Purge
  Fatal → Dead, Die
  nothing on Wanted, Granted, Begun, Upgraded, Drained, Ended, EndedAndRaised, Refused
Open(Known)
  Unsure → Open(Unknown)
  Spoilt → Doomed(Known), Purge
  Commit → Draining(Commit, Known)
  Abort → Draining(Abort, Known), Purge
  Fatal → Dead, Die
  nothing on Wanted, Granted, Begun, Upgraded, Sent, Drained, Ended, EndedAndRaised, Refused
Open(Unknown)
  Spoilt → Doomed(Unknown), Purge
  Commit → Draining(Commit, Unknown)
  Abort → Draining(Abort, Unknown), Purge
  Fatal → Dead, Die
  nothing on Wanted, Granted, Begun, Upgraded, Sent, Unsure, Drained, Ended, EndedAndRaised, Refused
Doomed(None)
  Sent → Doomed(Known)
  Unsure → Doomed(Unknown)
  Commit → Draining(Abort, None), Refuse
  Abort → Draining(Abort, None), Purge
  Fatal → Dead, Die
  nothing on Wanted, Granted, Begun, Upgraded, Spoilt, Drained, Ended, EndedAndRaised, Refused
Doomed(Known)
  Unsure → Doomed(Unknown)
  Commit → Draining(Abort, Known), Refuse
  Abort → Draining(Abort, Known), Purge
  Fatal → Dead, Die
  nothing on Wanted, Granted, Begun, Upgraded, Sent, Spoilt, Drained, Ended, EndedAndRaised, Refused
Doomed(Unknown)
  Commit → Draining(Abort, Unknown), Refuse
  Abort → Draining(Abort, Unknown), Purge
  Fatal → Dead, Die
  nothing on Wanted, Granted, Begun, Upgraded, Sent, Unsure, Spoilt, Drained, Ended, EndedAndRaised, Refused
Draining(Commit, None)
  Sent → Draining(Commit, Known)
  Unsure → Draining(Commit, Unknown)
  Spoilt → Draining(Abort, None), Refuse
  Drained → Ready, Tell(Commit)
  Fatal → Dead, Die
  nothing on Wanted, Granted, Begun, Upgraded, Commit, Abort, Ended, EndedAndRaised, Refused
Draining(Commit, Known)
  Unsure → Draining(Commit, Unknown)
  Spoilt → Draining(Abort, Known), Refuse
  Drained → Ending(Commit, Known)
  Fatal → Dead, Die
  nothing on Wanted, Granted, Begun, Upgraded, Sent, Commit, Abort, Ended, EndedAndRaised, Refused
Draining(Commit, Unknown)
  Spoilt → Draining(Abort, Unknown), Refuse
  Drained → Ending(Commit, Unknown)
  Fatal → Dead, Die
  nothing on Wanted, Granted, Begun, Upgraded, Sent, Unsure, Commit, Abort, Ended, EndedAndRaised, Refused
Draining(Abort, None)
  Sent → Draining(Abort, Known)
  Unsure → Draining(Abort, Unknown)
  Drained → Ready, Tell(Abort)
  Fatal → Dead, Die
  nothing on Wanted, Granted, Begun, Upgraded, Spoilt, Commit, Abort, Ended, EndedAndRaised, Refused
Draining(Abort, Known)
  Unsure → Draining(Abort, Unknown)
  Drained → Ending(Abort, Known)
  Fatal → Dead, Die
  nothing on Wanted, Granted, Begun, Upgraded, Sent, Spoilt, Commit, Abort, Ended, EndedAndRaised, Refused
Draining(Abort, Unknown)
  Drained → Ending(Abort, Unknown)
  Fatal → Dead, Die
  nothing on Wanted, Granted, Begun, Upgraded, Sent, Unsure, Spoilt, Commit, Abort, Ended, EndedAndRaised, Refused
Ending(Commit, Known)
  Unsure → Ending(Commit, Unknown)
  Ended → Ready, Tell(Commit)
  EndedAndRaised → Ready, Tell(Commit)
  Refused → Ending(Abort, Unknown), Refuse
  Fatal → Dead, Die
  nothing on Wanted, Granted, Begun, Upgraded, Sent, Spoilt, Commit, Abort, Drained
Ending(Commit, Unknown)
  Ended → Raising, Tell(Commit)
  EndedAndRaised → Ready, Tell(Commit)
  Refused → Ending(Abort, Unknown), Refuse
  Fatal → Dead, Die
  nothing on Wanted, Granted, Begun, Upgraded, Sent, Unsure, Spoilt, Commit, Abort, Drained
Ending(Abort, Known)
  Unsure → Ending(Abort, Unknown)
  Ended → Ready, Tell(Abort)
  EndedAndRaised → Ready, Tell(Abort)
  Refused → Raising, Tell(Abort)
  Fatal → Dead, Die
  nothing on Wanted, Granted, Begun, Upgraded, Sent, Spoilt, Commit, Abort, Drained
Ending(Abort, Unknown)
  Ended → Raising, Tell(Abort)
  EndedAndRaised → Ready, Tell(Abort)
  Refused → Raising, Tell(Abort)
  Fatal → Dead, Die
  nothing on Wanted, Granted, Begun, Upgraded, Sent, Unsure, Spoilt, Commit, Abort, Drained
Raising
  Granted → Ready
  Refused → Dead, Die
  Fatal → Dead, Die
  nothing on Wanted, Begun, Upgraded, Sent, Unsure, Spoilt, Commit, Abort, Drained, Ended, EndedAndRaised
Dead
  nothing on Wanted, Granted, Begun, Upgraded, Sent, Unsure, Spoilt, Commit, Abort, Drained, Ended, EndedAndRaised, Refused, Fatal
";
}
