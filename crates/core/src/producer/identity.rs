//! The producer id and epoch that batches go out under (KIP-98): when one is asked for, what each answer means, and
//! what happens when sequences under it are lost (KIP-360).
//!
//! ```text
//!            needed          granted
//!  Wanted ───────────▶ Asked ────────▶ Known ─┐ sequences are lost:
//!   ▲  ▲                 │              │ ▲   │ the epoch rises
//!   │  │ the backoff     │ failed, or   │ └───┘
//!   │  │ ends            ▼ refused      │
//!   │  └───────────── Delayed           │
//!   └───────────────────────────────────┘ sequences are lost, and the epochs are used up
//! ```
//!
//! While an answer may still come, records wait. When the identity is refused, those that wait fail, and later ones ask
//! again.
//!
//! It is a table: [`next`] names every pair of state and event, and a test compares all of it with a snapshot. It must
//! not know partitions or batches: [`Producer`](super::Producer) carries out the actions.
//!
//! A transactional producer's identity comes from its coordinator, which alone may raise the epoch of a transactional id: it is
//! `Awaited` before the first transaction begins, and `Given` from then on.

use milena_messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use milena_messages::{ApiKey, ErrorCode};

use crate::backoff::Retry;
use crate::{Backoff, Failure, Instant, Notice, ProducerId, ProducerIdentity, Rng};

/// A producer's identity, or how far it is from having one.
///
/// **Inputs**: [`handle_answer`](Self::handle_answer) with the answer to each request of [`poll_ask`](Self::poll_ask),
/// once; [`handle_gap`](Self::handle_gap) when a partition cannot go on under the identity it had;
/// [`handle_timeout`](Self::handle_timeout) at [`poll_timeout`](Self::poll_timeout) or later.
///
/// **Between calls** one request at most is on its way. [`known`](Self::known) changes only in `handle_answer` and
/// `handle_gap`. Every call takes constant time.
#[derive(Debug)]
pub(super) struct Identity {
    state: State,
    retry: Retry,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Batches carry no identity: the producer is not idempotent.
    Unused,
    /// No identity is known. One is asked for when there is something to send.
    Wanted,
    /// The request is on its way.
    Asked,
    /// The last request failed. The next one waits for the backoff.
    Delayed,
    /// Batches go out under this identity.
    Known(ProducerIdentity),
    /// No transaction has begun.
    Awaited,
    /// Batches go out under this identity, which the coordinator of transactions has granted.
    Given(ProducerIdentity),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// There are records to send.
    Needed,
    /// A broker gave out an identity.
    Granted(ProducerIdentity),
    /// The request failed, and the next one may succeed: the connection was lost, the broker was silent or answered
    /// with a retriable code, or one answer was garbled.
    Failed,
    /// The request failed, and the next one will fail too until people change something: rights, versions, or a broker
    /// that garbles every answer.
    Refused,
    /// The backoff ended.
    Due,
    /// A partition's sequences under this identity have a gap that no batch can fill.
    Lost(ProducerIdentity),
}

/// What the producer has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Action {
    #[default]
    Nothing,
    /// Send a request.
    Ask,
    /// Send batches: the identity is there.
    Send,
    /// Keep records waiting until their delivery timeout.
    Wait,
    /// Fail the records that wait.
    Fail,
}

/// What follows from an answer.
#[derive(Debug)]
pub(super) enum Heard {
    /// Batches can go out.
    Granted,
    /// Records wait for the next answer. Those whose delivery timeout ends meanwhile name this failure.
    Failed(Failure, Option<Notice>),
    /// Records that wait fail with this.
    Refused(Failure),
    /// No request was on its way.
    Unasked,
}

impl Identity {
    pub(super) fn new(is_idempotent: bool) -> Self {
        let state = if is_idempotent { State::Wanted } else { State::Unused };
        Self { state, retry: Retry::default() }
    }

    /// The identity of a transactional producer, which is given with each transaction.
    pub(super) fn awaited() -> Self {
        Self { state: State::Awaited, retry: Retry::default() }
    }

    /// A transaction begins, whose batches go out under `identity`.
    pub(super) fn give(&mut self, identity: ProducerIdentity) {
        self.step(Event::Granted(identity));
    }

    /// Whether batches can go out: under the identity that is [`known`](Self::known), or without one.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self.state, State::Unused | State::Known(_) | State::Given(_))
    }

    /// The identity that batches go out under.
    pub(super) fn known(&self) -> Option<ProducerIdentity> {
        match self.state {
            State::Known(identity) | State::Given(identity) => Some(identity),
            State::Unused | State::Wanted | State::Asked | State::Delayed | State::Awaited => None,
        }
    }

    /// The request to send, if an identity is missing and `is_needed`.
    pub(super) fn poll_ask(&mut self, is_needed: impl FnOnce() -> bool) -> Option<InitProducerIdRequest> {
        let is_asked = self.state == State::Wanted && is_needed() && self.step(Event::Needed) == Action::Ask;
        is_asked.then(Self::request)
    }

    /// Without a transactional id brokers give out a new producer id each time, with epoch 0. They ignore the timeout,
    /// and Java's client sends the greatest one.
    fn request() -> InitProducerIdRequest {
        InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: i32::MAX,
            ..Default::default()
        }
    }

    /// The answer to the request of [`poll_ask`](Self::poll_ask).
    pub(super) fn handle_answer(
        &mut self,
        answer: Result<InitProducerIdResponse, Failure>,
        now: Instant,
        backoff: &Backoff,
        rng: &mut Rng,
    ) -> Heard {
        debug_assert_eq!(self.state, State::Asked, "an answer comes once, and only after a request");
        let failure = match answer.and_then(|response| granted(&response)) {
            Ok(identity) => {
                self.retry.succeeded();
                self.step(Event::Granted(identity));
                return Heard::Granted;
            }
            Err(failure) => failure,
        };
        self.retry.failed_by(&failure, now, backoff, rng);
        let may_pass = self.retry.may_pass(&failure);
        match self.step(if may_pass { Event::Failed } else { Event::Refused }) {
            Action::Wait => {
                let failures = self.retry.failures();
                let notice = self.retry.is_notable(&failure).then(|| Notice {
                    doing: "asking for a producer id".into(),
                    failure: failure.clone(),
                    failures,
                });
                Heard::Failed(failure, notice)
            }
            Action::Fail => Heard::Refused(failure),
            Action::Nothing | Action::Ask | Action::Send => Heard::Unasked,
        }
    }

    /// A partition cannot go on under `old`: a sequence was given out there that is in no batch any more.
    pub(super) fn handle_gap(&mut self, old: ProducerIdentity) {
        self.step(Event::Lost(old));
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|at| at <= now) {
            self.step(Event::Due);
        }
    }

    /// When the backoff ends.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.retry.not_before().filter(|_| self.state == State::Delayed)
    }

    fn step(&mut self, event: Event) -> Action {
        let (state, action) = next(self.state, event);
        self.state = state;
        action
    }
}

/// The identity in an answer, or why there is none.
fn granted(response: &InitProducerIdResponse) -> Result<ProducerIdentity, Failure> {
    let InitProducerIdResponse { error_code, producer_id, producer_epoch: epoch, .. } = *response;
    if error_code != ErrorCode::NONE {
        return Err(Failure::answer(error_code, None).of(ApiKey::InitProducerId));
    }
    match ProducerId::known(producer_id) {
        Some(id) if epoch >= 0 => Ok(ProducerIdentity { id, epoch }),
        _ => {
            let reason = format!("it granted producer id {producer_id} with epoch {epoch}").into();
            Err(Failure::Malformed { peer: "the broker".into(), reason })
        }
    }
}

/// The next state and what to do. Every pair is named, so that a new state or event does not compile before its row is
/// written.
fn next(state: State, event: Event) -> (State, Action) {
    use Event::{Due, Failed, Granted, Lost, Needed, Refused};
    match (state, event) {
        (State::Unused, Needed | Granted(_) | Failed | Refused | Due | Lost(_)) => (state, Action::Nothing),

        (State::Wanted, Needed) => (State::Asked, Action::Ask),
        // Sequences that were lost under an earlier identity begin at zero under the next one anyway, here and below.
        (State::Wanted, Granted(_) | Failed | Refused | Due | Lost(_)) => (state, Action::Nothing),

        (State::Asked, Granted(identity)) => (State::Known(identity), Action::Send),
        (State::Asked, Failed) => (State::Delayed, Action::Wait),
        // Rights may be granted later, so later records ask again.
        (State::Asked, Refused) => (State::Delayed, Action::Fail),
        (State::Asked, Needed | Due | Lost(_)) => (state, Action::Nothing),

        (State::Delayed, Due) => (State::Wanted, Action::Nothing),
        (State::Delayed, Needed | Granted(_) | Failed | Refused | Lost(_)) => (state, Action::Nothing),

        // KIP-360: without a transactional id the client raises the epoch itself, and brokers accept sequence 0 under
        // it. Several partitions may lose sequences under one identity; the first one has raised it for all.
        (State::Known(current), Lost(old)) if current == old => match current.epoch.checked_add(1) {
            Some(epoch) => (State::Known(ProducerIdentity { epoch, ..current }), Action::Nothing),
            // Another id begins with epoch 0.
            None => (State::Wanted, Action::Nothing),
        },
        (State::Known(_), Needed | Granted(_) | Failed | Refused | Due | Lost(_)) => (state, Action::Nothing),

        (State::Awaited | State::Given(_), Granted(identity)) => (State::Given(identity), Action::Send),
        // Sequences that are lost doom the transaction.
        (State::Awaited | State::Given(_), Needed | Failed | Refused | Due | Lost(_)) => {
            (state, Action::Nothing)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Obstacle, table};

    const BACKOFF: Backoff = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(1) };

    fn identity(id: i64, epoch: i16) -> ProducerIdentity {
        ProducerIdentity { id: ProducerId(id), epoch }
    }

    #[test]
    fn the_table() {
        let (raised, last) = (identity(7, 1), identity(7, i16::MAX));
        let states = [
            State::Unused,
            State::Wanted,
            State::Asked,
            State::Delayed,
            State::Known(raised),
            State::Known(last),
            State::Awaited,
            State::Given(raised),
        ];
        let events = [
            Event::Needed,
            Event::Granted(identity(8, 0)),
            Event::Failed,
            Event::Refused,
            Event::Due,
            Event::Lost(identity(7, 0)),
            Event::Lost(raised),
            Event::Lost(last),
        ];
        let table = table::print(&states, &events, next);
        // Identities as `id/epoch`.
        let table = table
            .replace("ProducerIdentity { id: ProducerId(", "")
            .replace("), epoch: ", "/")
            .replace(" })", ")");
        assert_eq!(table, TABLE, "\n{table}");
    }

    const TABLE: &str = "\
Unused
  nothing on Needed, Granted(8/0), Failed, Refused, Due, Lost(7/0), Lost(7/1), Lost(7/32767)
Wanted
  Needed → Asked, Ask
  nothing on Granted(8/0), Failed, Refused, Due, Lost(7/0), Lost(7/1), Lost(7/32767)
Asked
  Granted(8/0) → Known(8/0), Send
  Failed → Delayed, Wait
  Refused → Delayed, Fail
  nothing on Needed, Due, Lost(7/0), Lost(7/1), Lost(7/32767)
Delayed
  Due → Wanted
  nothing on Needed, Granted(8/0), Failed, Refused, Lost(7/0), Lost(7/1), Lost(7/32767)
Known(7/1)
  Lost(7/1) → Known(7/2)
  nothing on Needed, Granted(8/0), Failed, Refused, Due, Lost(7/0), Lost(7/32767)
Known(7/32767)
  Lost(7/32767) → Wanted
  nothing on Needed, Granted(8/0), Failed, Refused, Due, Lost(7/0), Lost(7/1)
Awaited
  Granted(8/0) → Given(8/0), Send
  nothing on Needed, Failed, Refused, Due, Lost(7/0), Lost(7/1), Lost(7/32767)
Given(7/1)
  Granted(8/0) → Given(8/0), Send
  nothing on Needed, Failed, Refused, Due, Lost(7/0), Lost(7/1), Lost(7/32767)
";

    #[test]
    fn failures_are_told_apart_by_whether_the_next_answer_may_be_another() {
        let lost = Failure::Lost { peer: "b".into(), reason: "cut".into(), sent: true };
        let garbled = Failure::Malformed { peer: "b".into(), reason: "garbage".into() };
        let code = |error_code| Ok(InitProducerIdResponse { error_code, ..Default::default() });
        let obstacle = |obstacle| {
            Err(Failure::Unreachable { peer: "b".into(), obstacle, cause: None, reason: "no".into() })
        };
        let silent = Failure::TimedOut { peer: "b".into(), after: Duration::from_secs(1), sent: true };
        let nothing = InitProducerIdResponse { producer_id: -1, ..Default::default() };
        for (answer, may_pass) in [
            (Err(lost), true),
            (Err(silent), true),
            (Err(garbled), true),
            (Ok(nothing), true),
            (code(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS), true),
            (code(ErrorCode::REQUEST_TIMED_OUT), true),
            (code(ErrorCode::CLUSTER_AUTHORIZATION_FAILED), false),
            (code(ErrorCode::UNSUPPORTED_VERSION), false),
            (obstacle(Obstacle::Network), true),
            (obstacle(Obstacle::Credentials), false),
        ] {
            let mut machine = Identity::new(true);
            assert!(machine.poll_ask(|| true).is_some() && machine.poll_ask(|| true).is_none());
            let text = format!("{answer:?}");
            let heard = machine.handle_answer(answer, Instant::ORIGIN, &BACKOFF, &mut Rng::seeded(1));
            assert_eq!(matches!(heard, Heard::Failed(..)), may_pass, "{text}: {heard:?}");
            assert_eq!(matches!(heard, Heard::Refused(_)), !may_pass, "{text}: {heard:?}");
            // Either way the next request waits for the backoff, and for records.
            assert!(machine.poll_ask(|| true).is_none(), "{text}");
            machine.handle_timeout(machine.poll_timeout().expect("a backoff"));
            assert!(machine.poll_ask(|| false).is_none() && machine.poll_timeout().is_none());
            assert!(machine.poll_ask(|| true).is_some(), "{text}");
        }
    }
}
