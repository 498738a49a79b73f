//! The phases of one connection, from its handshake to its end.
//!
//! ```text
//!  Handshaking ─ done ─▶ Serving ─ released ─▶ Draining ─ nothing under way ─▶ Closed(Released)
//!       │                  │  │                    │
//!       │                  │  └─ idle for too long, or the peer closed it while idle ─▶ Closed(Idle)
//!       └──────────────────┴───────────────────────┴─ it broke ─▶ Closed(Broken)
//! ```
//!
//! It must not know what a call asks, nor how bytes travel.

use std::time::Duration;

use bytes::Bytes;

use crate::backoff::Retry;
use crate::{Backoff, BrokerVersions, Failure, Handshake, HandshakeKind, HandshakeRequest, Instant, Rng};

/// Decides what a connection may do now, what it must do by itself, and when it ends.
///
/// The driver tells what happens: [`handle_answer`](Self::handle_answer) for answers to the handshake's requests,
/// [`handle_started`](Self::handle_started) and [`handle_finished`](Self::handle_finished) for each call,
/// [`handle_released`](Self::handle_released) when the last handle for calls was dropped, and
/// [`handle_failure`](Self::handle_failure) when the connection broke. After any of them, and at
/// [`poll_timeout`](Self::poll_timeout), it polls in this order:
///
/// 1. [`poll_request`](Self::poll_request): a request of the connection's own. It goes out before any call.
/// 2. [`may_start`](Self::may_start): calls start as long as this says so.
/// 3. [`poll_end`](Self::poll_end), after reading and writing: an answer that has arrived is never lost to an end.
/// 4. [`poll_timeout`](Self::poll_timeout): when to poll again although nothing happened.
///
/// A call that starts is always finished or failed: a connection that ends by itself takes no new calls first, and the
/// driver opens another connection for them.
///
/// Re-authentication (KIP-368) is one more way through these phases: before the session's lifetime ends, `poll_timeout`
/// wakes the driver, no call starts, and when nothing is under way the connection is `Handshaking` again, from
/// `SaslHandshake` on and with a deadline of its own. Then it serves calls as before.
#[derive(Debug)]
pub struct Lifecycle {
    phase: Phase,
    handshake: Handshake,
    /// How long the connection may be idle.
    idle_max: Duration,
    /// Calls that have started and not finished.
    under_way: usize,
    /// When the first handshake was done.
    served_since: Option<Instant>,
    /// When the last call finished.
    idle_since: Instant,
}

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The handshake's requests go out one by one. No call starts.
    Handshaking,
    /// Calls start and finish.
    Serving,
    /// No call starts. The connection ends when those under way have finished.
    Draining,
    /// It has ended.
    Closed(End),
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The last handle for calls was dropped, and the calls under way have finished.
    Released,
    /// It ended while nothing was under way: it was idle for too long, or the peer closed it, which brokers do with idle
    /// connections (`connections.max.idle.ms`).
    Idle,
    /// It broke, or the peer closed it while calls were under way.
    Broken {
        /// How long it served calls before.
        served: Duration,
    },
}

/// Calls that may be under way on one connection. A broker works on one at a time.
const UNDER_WAY_MAX: usize = 128;

impl Lifecycle {
    /// A connection that was just made. It ends when it has been idle for `idle_max`.
    pub fn new(handshake: Handshake, idle_max: Duration, now: Instant) -> Self {
        Self {
            phase: Phase::Handshaking,
            handshake,
            idle_max,
            under_way: 0,
            served_since: None,
            idle_since: now,
        }
    }

    /// The present phase.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The versions that the peer speaks.
    pub fn versions(&self) -> &BrokerVersions {
        self.handshake.versions()
    }

    /// The connection's handshake, done or not.
    pub fn handshake(&self) -> &Handshake {
        &self.handshake
    }

    /// The handshake, to be told why the connection ended before it was done.
    pub fn into_handshake(self) -> Handshake {
        self.handshake
    }

    /// The connection's own request to send now. There is one while a handshake runs and none is out.
    pub fn poll_request(&mut self) -> Option<HandshakeRequest> {
        match self.phase {
            Phase::Handshaking => self.handshake.poll_request(),
            Phase::Serving | Phase::Draining | Phase::Closed(_) => None,
        }
    }

    /// The answer to the connection's own request of this kind came: `body` is the frame after its header.
    ///
    /// # Errors
    /// As [`Handshake::handle_answer`]: the connection is of no use then.
    pub fn handle_answer(
        &mut self,
        peer: &str,
        kind: HandshakeKind,
        body: &Bytes,
        now: Instant,
    ) -> Result<(), Failure> {
        self.handshake.handle_answer(peer, kind, body)?;
        if self.handshake.is_done() && self.phase == Phase::Handshaking {
            self.phase = Phase::Serving;
            self.served_since.get_or_insert(now);
            self.idle_since = now;
        }
        Ok(())
    }

    /// Whether a call may start now.
    pub fn may_start(&self) -> bool {
        self.phase == Phase::Serving && self.under_way < UNDER_WAY_MAX
    }

    /// A call started.
    pub fn handle_started(&mut self) {
        self.under_way += 1;
    }

    /// A call finished: its answer came, or it was written and gets none.
    pub fn handle_finished(&mut self, now: Instant) {
        self.under_way = self.under_way.saturating_sub(1);
        self.idle_since = now;
    }

    /// The last handle for calls was dropped: no new ones will come.
    pub fn handle_released(&mut self) {
        if self.phase == Phase::Serving {
            self.phase = Phase::Draining;
        }
    }

    /// The connection broke, or the peer closed it. Every call under way is failed with `failure`.
    pub fn handle_failure(&mut self, failure: &Failure, now: Instant) -> End {
        let is_closed_idle = self.under_way == 0 && matches!(failure, Failure::Lost { .. });
        let end = match self.phase {
            Phase::Closed(end) => end,
            Phase::Draining if is_closed_idle => End::Released,
            Phase::Serving if is_closed_idle => End::Idle,
            Phase::Handshaking | Phase::Serving | Phase::Draining => {
                End::Broken { served: self.served_since.map_or(Duration::ZERO, |since| now - since) }
            }
        };
        self.phase = Phase::Closed(end);
        end
    }

    /// The end, if it has come.
    pub fn poll_end(&mut self, now: Instant) -> Option<End> {
        match self.phase {
            Phase::Draining if self.under_way == 0 => self.phase = Phase::Closed(End::Released),
            Phase::Serving if self.idle_until().is_some_and(|until| until <= now) => {
                self.phase = Phase::Closed(End::Idle);
            }
            _ => {}
        }
        match self.phase {
            Phase::Closed(end) => Some(end),
            Phase::Handshaking | Phase::Serving | Phase::Draining => None,
        }
    }

    /// When something is to be done although nothing happened.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.idle_until()
    }

    /// When the connection will have been idle for too long, if it is idle.
    fn idle_until(&self) -> Option<Instant> {
        (self.phase == Phase::Serving && self.under_way == 0).then(|| self.idle_since + self.idle_max)
    }
}

impl End {
    /// Counts the end in `retry`, which says when the next connection may be made.
    pub fn count(self, retry: &mut Retry, now: Instant, backoff: &Backoff, rng: &mut Rng) {
        match self {
            Self::Released | Self::Idle => retry.succeeded(),
            Self::Broken { served } => {
                // A connection that worked for a while is no sign that the next one will not.
                if served > backoff.max {
                    retry.succeeded();
                }
                retry.failed(now, backoff, rng);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use milena_messages::Message;
    use milena_messages::api_versions::ApiVersionsResponse;
    use milena_wire::Writer;

    use super::*;
    use crate::table;

    const IDLE_MAX: Duration = Duration::from_secs(540);
    const BACKOFF: Backoff = Backoff { min: Duration::from_millis(50), max: Duration::from_secs(1) };

    fn at(seconds: u64) -> Instant {
        Instant::ORIGIN + Duration::from_secs(seconds)
    }

    fn lost() -> Failure {
        Failure::Lost { peer: "b:1".into(), reason: "closed".into(), sent: true }
    }

    fn connected() -> Lifecycle {
        Lifecycle::new(Handshake::new(), IDLE_MAX, at(0))
    }

    /// A connection whose handshake was done at `seconds`.
    fn serving(seconds: u64) -> Lifecycle {
        let mut life = connected();
        let HandshakeRequest::Versions { version, .. } = life.poll_request().expect("a request");
        let mut writer = Writer::new();
        ApiVersionsResponse::default().encode(&mut writer, version).expect("encodes");
        let body = writer.finish().to_vec().into();
        life.handle_answer("b:1", HandshakeKind::Versions, &body, at(seconds)).expect("answered");
        life
    }

    #[test]
    fn no_call_starts_before_the_handshake_is_done() {
        let mut life = connected();
        assert!(!life.may_start());
        assert_eq!((life.phase(), life.poll_timeout()), (Phase::Handshaking, None));
        assert!(life.poll_request().is_some());
        assert!(life.poll_request().is_none() && !life.may_start(), "the answer is to come");
        let mut life = serving(1);
        assert!(life.may_start() && life.poll_request().is_none());
        assert_eq!((life.phase(), life.poll_end(at(1))), (Phase::Serving, None));
    }

    #[test]
    fn as_many_calls_as_one_connection_takes_are_under_way() {
        let mut life = serving(0);
        while life.may_start() {
            life.handle_started();
        }
        assert_eq!(life.under_way, UNDER_WAY_MAX);
        life.handle_finished(at(1));
        assert!(life.may_start());
    }

    #[test]
    fn an_idle_connection_ends_and_a_busy_one_does_not() {
        let mut life = serving(10);
        assert_eq!(life.poll_timeout(), Some(at(550)));
        life.handle_started();
        assert_eq!((life.poll_timeout(), life.poll_end(at(9999))), (None, None), "a call is under way");
        life.handle_finished(at(1000));
        assert_eq!((life.poll_timeout(), life.poll_end(at(1539))), (Some(at(1540)), None));
        assert_eq!(life.poll_end(at(1540)), Some(End::Idle));
        assert!(!life.may_start(), "it takes no call any more");
        assert_eq!((life.poll_timeout(), life.poll_end(at(1541))), (None, Some(End::Idle)));
    }

    #[test]
    fn a_released_connection_finishes_its_calls_and_takes_no_others() {
        let mut life = serving(0);
        life.handle_started();
        life.handle_started();
        life.handle_released();
        assert!(!life.may_start());
        life.handle_finished(at(1));
        assert_eq!((life.phase(), life.poll_end(at(9999))), (Phase::Draining, None));
        life.handle_finished(at(9999));
        assert_eq!(life.poll_end(at(9999)), Some(End::Released));
        let mut life = serving(0);
        life.handle_released();
        assert_eq!(life.poll_end(at(0)), Some(End::Released), "nothing was under way");
    }

    #[derive(Debug, Clone, Copy)]
    enum Event {
        Established,
        Started,
        Finished,
        Released,
        IdleForLong,
        Closed,
        Garbage,
    }

    /// A phase, and how many calls are under way.
    type State = (Phase, usize);

    /// The state that follows when `event` happens seven seconds after the handshake was done.
    fn next((phase, calls): State, event: Event) -> (State, ()) {
        let mut life = if phase == Phase::Handshaking { connected() } else { serving(0) };
        (0..calls).for_each(|_| life.handle_started());
        if phase == Phase::Draining {
            life.handle_released();
        }
        assert_eq!((life.phase(), life.under_way), (phase, calls));
        let mut now = at(7);
        match event {
            Event::Established if phase == Phase::Handshaking => life = serving(7),
            Event::Established => {}
            Event::Started if life.may_start() => life.handle_started(),
            Event::Started => {}
            Event::Finished if calls > 0 => life.handle_finished(now),
            Event::Finished => {}
            Event::Released => life.handle_released(),
            Event::IdleForLong => now = at(7) + IDLE_MAX,
            Event::Closed => drop(life.handle_failure(&lost(), now)),
            Event::Garbage => {
                let garbage = Failure::Malformed { peer: "b:1".into(), reason: "garbage".into() };
                life.handle_failure(&garbage, now);
            }
        }
        life.poll_end(now);
        ((life.phase(), life.under_way), ())
    }

    #[test]
    fn the_table() {
        let states = [
            (Phase::Handshaking, 0),
            (Phase::Serving, 0),
            (Phase::Serving, 1),
            (Phase::Draining, 1),
            (Phase::Draining, 2),
        ];
        let events = [
            Event::Established,
            Event::Started,
            Event::Finished,
            Event::Released,
            Event::IdleForLong,
            Event::Closed,
            Event::Garbage,
        ];
        let table = table::print(&states, &events, next);
        assert_eq!(table, TABLE, "\n{table}");
    }

    const TABLE: &str = "\
(Handshaking, 0)
  Established → (Serving, 0)
  Closed → (Closed(Broken { served: 0ns }), 0)
  Garbage → (Closed(Broken { served: 0ns }), 0)
  nothing on Started, Finished, Released, IdleForLong
(Serving, 0)
  Started → (Serving, 1)
  Released → (Closed(Released), 0)
  IdleForLong → (Closed(Idle), 0)
  Closed → (Closed(Idle), 0)
  Garbage → (Closed(Broken { served: 7s }), 0)
  nothing on Established, Finished
(Serving, 1)
  Started → (Serving, 2)
  Finished → (Serving, 0)
  Released → (Draining, 1)
  Closed → (Closed(Broken { served: 7s }), 1)
  Garbage → (Closed(Broken { served: 7s }), 1)
  nothing on Established, IdleForLong
(Draining, 1)
  Finished → (Closed(Released), 0)
  Closed → (Closed(Broken { served: 7s }), 1)
  Garbage → (Closed(Broken { served: 7s }), 1)
  nothing on Established, Started, Released, IdleForLong
(Draining, 2)
  Finished → (Draining, 1)
  Closed → (Closed(Broken { served: 7s }), 2)
  Garbage → (Closed(Broken { served: 7s }), 2)
  nothing on Established, Started, Released, IdleForLong
";

    #[test]
    fn a_peer_that_closes_after_the_last_answer_breaks_nothing() {
        // The end of the stream is read before the connection's end is asked for.
        let mut life = serving(0);
        life.handle_started();
        life.handle_released();
        life.handle_finished(at(1));
        assert_eq!(life.handle_failure(&lost(), at(1)), End::Released);
    }

    #[test]
    fn a_connection_that_breaks_early_delays_the_next_one_ever_longer() {
        let check = |ends: &[End], failures: u32, delayed: bool| {
            let (mut retry, mut rng) = (Retry::default(), Rng::seeded(7));
            ends.iter().for_each(|end| end.count(&mut retry, at(10), &BACKOFF, &mut rng));
            assert_eq!((retry.failures(), !retry.is_ready(at(10))), (failures, delayed), "{ends:?}");
        };
        let early = End::Broken { served: Duration::from_millis(900) };
        let late = End::Broken { served: Duration::from_millis(1100) };
        check(&[early, early, early], 3, true);
        check(&[early, early, late], 1, true);
        check(&[early, early, End::Idle], 0, false);
        check(&[early, early, End::Released], 0, false);
    }
}
