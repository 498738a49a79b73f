//! The phases of one connection, from its handshake to its end.
//!
//! ```text
//!       ┌── nothing under way ── Renewing ◀─┐ credentials for the next session
//!       ▼                                   │
//!  Handshaking ─ done ─▶ Serving ───────────┘
//!       │                  │  └─ released, or its session ends ─▶ Draining ─ nothing under way ─▶ Closed(Released)
//!       │                  └─ idle for too long, or the peer closed it while idle ─▶ Closed(Idle)
//!       └─ it broke, in any phase ─▶ Closed(Broken)
//! ```
//!
//! A session that ends is that of a client which has authenticated: the broker says how long it lives, or its token ends.
//!
//! It must not know what a call asks, nor how bytes travel.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::backoff::Retry;
use crate::sasl::{Credentials, Fresh, Work, Worked};
use crate::{Backoff, BrokerVersions, Failure, Handshake, HandshakeKind, HandshakeRequest, Instant, Rng};

/// Decides what a connection may do now, what it must do by itself, and when it ends.
///
/// The driver tells what happens: [`handle_answer`](Self::handle_answer) for answers to the handshake's requests,
/// [`handle_started`](Self::handle_started) and [`handle_finished`](Self::handle_finished) for each call,
/// [`handle_throttle`](Self::handle_throttle) for delays that the broker tells,
/// [`handle_released`](Self::handle_released) when the last handle for calls was dropped, and
/// [`handle_failure`](Self::handle_failure) when the connection broke. After any of them, and at
/// [`poll_timeout`](Self::poll_timeout), it polls in this order:
///
/// 1. [`poll_need`](Self::poll_need): credentials, or work that takes too long for a connection's task. The result comes back
///    by [`handle_credentials`](Self::handle_credentials) or [`handle_worked`](Self::handle_worked).
/// 2. [`poll_request`](Self::poll_request): a request of the connection's own. It goes out before any call.
/// 3. [`may_start`](Self::may_start): calls start as long as this says so.
/// 4. [`poll_end`](Self::poll_end), after reading and writing: an answer that has arrived is never lost to an end.
/// 5. [`poll_timeout`](Self::poll_timeout): when to poll again although nothing happened.
///
/// A call that starts is always finished or failed: a connection that ends by itself takes no new calls first, and the
/// driver opens another connection for them.
///
/// A session is renewed before it ends (KIP-368). The connection serves calls until the credentials for the next session are
/// there. Then no call starts, and when nothing is under way the connection is `Handshaking` again, from SaslHandshake on and
/// with a deadline of its own; after that it serves calls as before. If the broker sets no limit but the token ends, or if the
/// next session would be another user's, the connection drains and another one is made. It drains too when its session ends
/// and there are no credentials.
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
    /// Whether the broker has answered a call.
    has_answered: bool,
    session: Option<Session>,
    renewal: Option<Renewal>,
    /// Until when the broker reads nothing of the connection, because the client is above a quota (KIP-219).
    throttled_until: Option<Instant>,
}

/// What limits how long the connection may be used.
#[derive(Debug, Clone, Copy)]
struct Session {
    ends_at: Instant,
    /// When credentials for the next session are asked for. None while they are being fetched.
    ask_at: Option<Instant>,
    /// Whether the broker takes new credentials on the live connection.
    is_renewable: bool,
}

/// The next session.
#[derive(Debug)]
struct Renewal {
    credentials: Arc<Credentials>,
    fresh: Fresh,
    /// How long its handshake may take.
    timeout: Duration,
    /// Until when, once it has begun.
    until: Option<Instant>,
}

/// What a connection needs and cannot make itself.
#[derive(Debug)]
pub enum Need {
    /// Credentials for the next session: see [`Lifecycle::handle_credentials`].
    Credentials,
    /// The result of this work: see [`Lifecycle::handle_worked`].
    Work(Work),
}

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The handshake's requests go out one by one. No call starts.
    Handshaking,
    /// Calls start and finish.
    Serving,
    /// No call starts. When those under way have finished, the handshake of the next session begins.
    Renewing,
    /// No call starts. The connection ends when those under way have finished.
    Draining,
    /// It has ended.
    Closed(End),
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The last handle for calls was dropped, or its session ended, and the calls under way have finished.
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
/// When part of a session has passed, the next one begins: from 85 % to 95 %, as in Java's client.
const RENEW_PERCENT_MIN: u32 = 85;
const RENEW_PERCENT_SPREAD: u32 = 11;
/// A broker closes a connection that authenticates again sooner than this (KIP-368).
const RENEW_AFTER_MIN: Duration = Duration::from_secs(1);
/// After this long credentials are asked for again, when there were none.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

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
            has_answered: false,
            session: None,
            renewal: None,
            throttled_until: None,
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

    /// What the connection needs of somebody else. Each need is returned once.
    pub fn poll_need(&mut self, now: Instant) -> Option<Need> {
        self.throttled_until.take_if(|until| *until <= now);
        if self.phase == Phase::Handshaking {
            return self.handshake.poll_work().map(Need::Work);
        }
        let session = self.session.as_mut().filter(|_| self.phase == Phase::Serving)?;
        if session.ends_at <= now {
            // A request that reaches the broker later would be answered by the end of the connection.
            self.phase = Phase::Draining;
            return None;
        }
        session.ask_at.take_if(|at| *at <= now).map(|_| Need::Credentials)
    }

    /// Credentials for the next session are there. Its handshake may take as long as `timeout`. A token that has little of its
    /// life left is not used, nor one that ends no later than the present one if that is what limits the session; the
    /// connection asks again after a second.
    pub fn handle_credentials(
        &mut self,
        credentials: Arc<Credentials>,
        fresh: Fresh,
        timeout: Duration,
        now: Instant,
    ) {
        let Some(session) = self.session.filter(|_| self.phase == Phase::Serving) else { return };
        let is_old = match &*credentials {
            Credentials::Token(token) => token.is_old(now),
            Credentials::Aws(keys) => keys.until.is_some_and(|until| until <= now),
            Credentials::Password(_) | Credentials::Custom(_) => false,
        };
        let gains = session.is_renewable || credentials.until().is_none_or(|until| session.ends_at < until);
        if is_old || !gains {
            return self.handle_no_credentials(now);
        }
        let may_follow = self.handshake.credentials().is_some_and(|earlier| credentials.may_follow(earlier));
        if session.is_renewable && may_follow {
            self.phase = Phase::Renewing;
            self.renewal = Some(Renewal { credentials, fresh, timeout, until: None });
        } else {
            self.phase = Phase::Draining;
        }
    }

    /// There are no credentials for the next session at present.
    pub fn handle_no_credentials(&mut self, now: Instant) {
        if let Some(session) = &mut self.session {
            session.ask_at = Some(now + ASK_AGAIN_AFTER);
        }
    }

    /// The work for the handshake is done.
    ///
    /// # Errors
    /// As [`Handshake::handle_worked`]: the connection is of no use then.
    pub fn handle_worked(&mut self, peer: &str, worked: Worked, now: Instant) -> Result<(), Failure> {
        self.handshake.handle_worked(peer, worked)?;
        self.serve_if_done(now);
        Ok(())
    }

    /// Whether the connection has a request of its own to send now, or needs something for one.
    pub fn has_more(&self) -> bool {
        match self.phase {
            Phase::Handshaking => self.handshake.has_more(),
            Phase::Renewing => self.may_renew(),
            Phase::Serving | Phase::Draining | Phase::Closed(_) => false,
        }
    }

    /// Whether the handshake of the next session may begin. A broker that delays the connection would not read it, and its time
    /// would be over before the answer.
    fn may_renew(&self) -> bool {
        self.under_way == 0 && self.throttled_until.is_none()
    }

    /// The connection's own request to send now. There is one while a handshake runs and none is out.
    pub fn poll_request(&mut self, now: Instant) -> Option<HandshakeRequest> {
        match (self.phase, &mut self.renewal) {
            (Phase::Renewing, Some(renewal)) if self.under_way == 0 && self.throttled_until.is_none() => {
                renewal.until = Some(now + renewal.timeout);
                self.handshake.reauthenticate(Arc::clone(&renewal.credentials), &renewal.fresh);
                self.phase = Phase::Handshaking;
            }
            (Phase::Handshaking, _) => {}
            _ => return None,
        }
        self.handshake.poll_request()
    }

    /// How long the handshake of a renewal was allowed to take, if it took longer.
    pub fn overdue(&self, now: Instant) -> Option<Duration> {
        let renewal = self.renewal.as_ref()?;
        renewal.until.filter(|until| *until <= now).map(|_| renewal.timeout)
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
        self.serve_if_done(now);
        Ok(())
    }

    /// Goes on to serve calls if the handshake is done.
    fn serve_if_done(&mut self, now: Instant) {
        if self.handshake.is_done() && self.phase == Phase::Handshaking {
            self.phase = Phase::Serving;
            if self.served_since.is_none() {
                self.served_since = Some(now);
                // Renewing a session is no use of the connection: an idle one ends all the same.
                self.idle_since = now;
            }
            self.renewal = None;
            self.session = self.begun_session(now);
        }
    }

    /// The session that begins now, if something limits it.
    fn begun_session(&self, now: Instant) -> Option<Session> {
        let of_broker = self.handshake.session_lifetime().map(|lifetime| now + lifetime);
        let of_token = self.handshake.credentials().and_then(|credentials| credentials.until());
        let ends_at = [of_broker, of_token].into_iter().flatten().min()?;
        let percent = RENEW_PERCENT_MIN + u32::from(self.handshake.spread()) % RENEW_PERCENT_SPREAD;
        let after = ((ends_at - now) / 100 * percent).max(RENEW_AFTER_MIN);
        Some(Session { ends_at, ask_at: Some(now + after), is_renewable: of_broker.is_some() })
    }

    /// Whether a call may start now.
    pub fn may_start(&self) -> bool {
        self.phase == Phase::Serving && self.under_way < UNDER_WAY_MAX && self.throttled_until.is_none()
    }

    /// An answer said that the broker delays the connection this long. It reads no request until then, and one that was sent
    /// all the same would use up its time at the broker, so no call starts (KIP-219).
    pub fn handle_throttle(&mut self, throttle: Duration, now: Instant) {
        if !throttle.is_zero() {
            self.throttled_until = self.throttled_until.max(Some(now + throttle));
        }
    }

    /// A call started.
    pub fn handle_started(&mut self) {
        self.under_way += 1;
    }

    /// A call finished: its answer came, or it was written and gets none.
    pub fn handle_finished(&mut self, now: Instant) {
        self.under_way = self.under_way.saturating_sub(1);
        self.idle_since = now;
        self.has_answered = true;
    }

    /// What to add when the peer ends the connection. A broker that demands SASL answers ApiVersions, and ends the connection at
    /// the first request of a client that has not authenticated.
    pub fn hint(&self) -> &'static str {
        if self.may_require_sasl() {
            " at the first request after ApiVersions; it may require SASL, and the client has no credentials"
        } else {
            ""
        }
    }

    /// Whether the peer has answered nothing but the handshake of a client without credentials. If it ends the connection now, the
    /// next handshake should ask whether it requires SASL: see [`Handshake::asking_for_sasl`].
    pub fn may_require_sasl(&self) -> bool {
        let is_first = self.phase == Phase::Serving && !self.has_answered && self.under_way > 0;
        is_first && self.handshake.credentials().is_none()
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
            Phase::Serving | Phase::Renewing if is_closed_idle => End::Idle,
            Phase::Handshaking | Phase::Serving | Phase::Renewing | Phase::Draining => {
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
            Phase::Handshaking | Phase::Serving | Phase::Renewing | Phase::Draining => None,
        }
    }

    /// When something is to be done although nothing happened.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let session = self.session.filter(|_| self.phase == Phase::Serving);
        let of_session =
            session.map(|session| session.ask_at.map_or(session.ends_at, |at| at.min(session.ends_at)));
        let of_renewal = self.renewal.as_ref().and_then(|renewal| renewal.until);
        let of_throttle =
            self.throttled_until.filter(|_| matches!(self.phase, Phase::Serving | Phase::Renewing));
        [self.idle_until(), of_session, of_renewal, of_throttle].into_iter().flatten().min()
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
    use milena_messages::api_versions::{ApiVersion, ApiVersionsResponse};
    use milena_messages::sasl_authenticate::SaslAuthenticateResponse;
    use milena_messages::sasl_handshake::SaslHandshakeResponse;
    use milena_wire::Writer;

    use super::*;
    use crate::sasl::{Password, Token};
    use crate::table;

    const IDLE_MAX: Duration = Duration::from_secs(540);
    const BACKOFF: Backoff = Backoff { min: Duration::from_millis(50), max: Duration::from_secs(1) };

    fn fresh(byte: u8) -> Fresh {
        Fresh { nonce: [byte; 24], unix_seconds: 0 }
    }

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
        let Some(HandshakeRequest::Versions { version, .. }) = life.poll_request(at(0)) else {
            panic!("a request")
        };
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
        assert!(life.poll_request(at(0)).is_some());
        assert!(life.poll_request(at(0)).is_none() && !life.may_start(), "the answer is to come");
        let mut life = serving(1);
        assert!(life.may_start() && life.poll_request(at(0)).is_none());
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
    fn no_call_starts_while_the_broker_delays_the_connection() {
        let mut life = serving(1);
        life.handle_started();
        life.handle_finished(at(2));
        life.handle_throttle(Duration::from_secs(5), at(2));
        life.handle_throttle(Duration::from_secs(1), at(3));
        life.handle_throttle(Duration::ZERO, at(3));
        assert_eq!(life.poll_timeout(), Some(at(7)), "the longest delay counts");
        assert!(life.poll_need(at(6)).is_none() && !life.may_start());
        assert!(life.poll_need(at(7)).is_none() && life.may_start());
        assert_eq!(life.poll_timeout(), Some(at(2) + IDLE_MAX));
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
        Renewable,
        SessionOver,
        Released,
        IdleForLong,
        Closed,
        Garbage,
    }

    fn password(user: &str) -> Arc<Credentials> {
        let (user, password) = (user.into(), "pencil".into());
        Arc::new(Credentials::Password(Password { scram: None, user, password, is_delegation_token: false }))
    }

    fn token(since: u64, until: u64) -> Arc<Credentials> {
        let (since, until) = (at(since), at(until));
        let token = Token { value: "t".into(), extensions: Vec::new(), principal: None, since, until };
        Arc::new(Credentials::Token(token))
    }

    fn encoded(message: &impl Message, version: i16) -> Bytes {
        let mut writer = Writer::new();
        message.encode(&mut writer, version).expect("encodes");
        writer.finish().to_vec().into()
    }

    /// Sends and answers the rest of a handshake, whose session the broker lets live for `lifetime` seconds.
    fn authenticate(life: &mut Lifecycle, lifetime: i64, now: Instant) {
        while let Some(request) = life.poll_request(now) {
            let range = |api_key| ApiVersion { api_key, max_version: 2, ..Default::default() };
            let api_keys = vec![range(17), range(36)];
            let session_lifetime_ms = lifetime * 1000;
            let body = match &request {
                HandshakeRequest::Versions { version, .. } => {
                    encoded(&ApiVersionsResponse { api_keys, ..Default::default() }, *version)
                }
                HandshakeRequest::Mechanism { version, .. } => {
                    encoded(&SaslHandshakeResponse::default(), *version)
                }
                HandshakeRequest::Authenticate { version, .. } => {
                    encoded(&SaslAuthenticateResponse { session_lifetime_ms, ..Default::default() }, *version)
                }
            };
            life.handle_answer("b:1", request.kind(), &body, now).expect("answered");
        }
        assert_eq!(life.phase(), Phase::Serving);
    }

    /// A connection that authenticated at 0 s. Its session is renewed after 85 % of its life.
    fn authenticated(credentials: Arc<Credentials>, lifetime: i64) -> Lifecycle {
        let handshake = Handshake::new().authenticating(credentials, &"b".into(), &fresh(0));
        let mut life = Lifecycle::new(handshake, IDLE_MAX, at(0));
        authenticate(&mut life, lifetime, at(0));
        life
    }

    const TIMEOUT: Duration = Duration::from_secs(10);

    /// Whether the connection asks for credentials at `seconds`.
    fn asks(life: &mut Lifecycle, seconds: u64) -> bool {
        matches!(life.poll_need(at(seconds)), Some(Need::Credentials))
    }

    #[test]
    fn a_session_is_renewed_when_nothing_is_under_way_and_calls_wait_for_it() {
        let mut life = authenticated(password("alice"), 100);
        life.handle_started();
        assert_eq!((life.poll_timeout(), asks(&mut life, 84)), (Some(at(85)), false));
        assert!(asks(&mut life, 85) && !asks(&mut life, 86), "it asks once");
        assert!(life.may_start(), "calls go on until the credentials are there");
        life.handle_started();
        life.handle_credentials(password("alice"), fresh(0), TIMEOUT, at(86));
        assert!(!life.may_start() && !life.has_more() && life.poll_request(at(86)).is_none());
        life.handle_finished(at(87));
        assert!(life.poll_request(at(87)).is_none(), "one is still under way");
        life.handle_finished(at(88));
        assert!(life.has_more());
        authenticate(&mut life, 100, at(89));
        assert!(life.may_start() && life.poll_end(at(89)).is_none());
        assert!(!asks(&mut life, 89 + 84) && asks(&mut life, 89 + 85));
    }

    #[test]
    fn sessions_that_began_together_are_renewed_apart() {
        let renewed = |spread| {
            let handshake = Handshake::new().authenticating(password("alice"), &"b".into(), &fresh(spread));
            let mut life = Lifecycle::new(handshake, IDLE_MAX, at(0));
            authenticate(&mut life, 100, at(0));
            life.poll_timeout().expect("renewed").since_origin().as_secs()
        };
        let all: std::collections::BTreeSet<_> = (0..=255).map(renewed).collect();
        assert_eq!((all.first(), all.last(), all.len()), (Some(&85), Some(&95), 11));
        // A broker refuses to be asked again within a second, so a shorter session is not renewed.
        let mut short = authenticated(password("alice"), 1);
        assert_eq!((short.poll_timeout(), asks(&mut short, 1)), (Some(at(1)), false));
        assert_eq!(short.poll_end(at(1)), Some(End::Released));
    }

    #[test]
    fn a_renewal_that_is_not_answered_is_given_up_at_its_deadline() {
        let mut life = authenticated(password("alice"), 100);
        assert!(asks(&mut life, 85));
        life.handle_credentials(password("alice"), fresh(1), TIMEOUT, at(85));
        assert!(life.poll_request(at(86)).is_some());
        assert_eq!((life.poll_timeout(), life.overdue(at(95))), (Some(at(96)), None));
        assert_eq!(life.overdue(at(96)), Some(TIMEOUT));
        let failure = Failure::TimedOut { peer: "b:1".into(), after: TIMEOUT, sent: false };
        assert!(matches!(life.handle_failure(&failure, at(96)), End::Broken { .. }));
    }

    #[test]
    fn renewals_do_not_keep_an_idle_connection() {
        let mut life = authenticated(password("alice"), 100);
        for seconds in (85..540).step_by(85) {
            assert_eq!(life.poll_end(at(seconds)), None);
            assert!(asks(&mut life, seconds), "{seconds}");
            life.handle_credentials(password("alice"), fresh(0), TIMEOUT, at(seconds));
            authenticate(&mut life, 100, at(seconds));
        }
        assert_eq!((life.poll_timeout(), life.poll_end(at(540))), (Some(at(540)), Some(End::Idle)));
    }

    #[test]
    fn another_user_gets_another_connection() {
        let mut life = authenticated(password("alice"), 100);
        life.handle_started();
        assert!(asks(&mut life, 85));
        life.handle_credentials(password("bob"), fresh(1), TIMEOUT, at(85));
        assert_eq!((life.phase(), life.poll_end(at(85))), (Phase::Draining, None));
        life.handle_finished(at(86));
        assert_eq!(life.poll_end(at(86)), Some(End::Released));
    }

    #[test]
    fn a_token_that_ends_without_a_session_lifetime_is_followed_by_another_connection() {
        let mut life = authenticated(token(0, 100), 0);
        assert!(!asks(&mut life, 84) && asks(&mut life, 85));
        // The same token again: nothing would be gained.
        life.handle_credentials(token(0, 100), fresh(1), TIMEOUT, at(85));
        assert_eq!((life.phase(), asks(&mut life, 85), asks(&mut life, 86)), (Phase::Serving, false, true));
        life.handle_credentials(token(80, 180), fresh(1), TIMEOUT, at(86));
        assert_eq!(life.poll_end(at(86)), Some(End::Released));
    }

    #[test]
    fn an_old_token_begins_no_session() {
        let mut life = authenticated(token(0, 200), 100);
        assert!(asks(&mut life, 85));
        life.handle_credentials(token(0, 100), fresh(1), TIMEOUT, at(85));
        assert_eq!(life.phase(), Phase::Serving);
        assert!(asks(&mut life, 86));
        life.handle_credentials(token(80, 180), fresh(1), TIMEOUT, at(86));
        assert_eq!(life.phase(), Phase::Renewing);
    }

    #[test]
    fn a_connection_without_new_credentials_serves_until_its_session_ends() {
        let mut life = authenticated(token(0, 90), 100);
        assert!(asks(&mut life, 77));
        life.handle_no_credentials(at(77));
        assert!(asks(&mut life, 78) && life.may_start());
        assert_eq!(life.poll_timeout(), Some(at(90)), "the token ends before the broker's limit");
        life.handle_started();
        assert!(!asks(&mut life, 90) && !life.may_start(), "a program that slept finds the session over too");
        assert_eq!(life.poll_end(at(90)), None);
        life.handle_finished(at(91));
        assert_eq!(life.poll_end(at(91)), Some(End::Released));
    }

    #[test]
    fn a_session_is_renewed_when_the_broker_reads_again() {
        let mut life = authenticated(token(0, 100), 100);
        life.handle_throttle(Duration::from_secs(30), at(84));
        assert!(asks(&mut life, 95));
        life.handle_credentials(token(80, 180), fresh(1), TIMEOUT, at(95));
        assert_eq!(
            (life.phase(), life.has_more(), life.poll_timeout()),
            (Phase::Renewing, false, Some(at(114)))
        );
        assert!(life.poll_request(at(95)).is_none() && life.overdue(at(113)).is_none());
        assert!(life.poll_need(at(114)).is_none() && life.has_more());
        assert!(life.poll_request(at(114)).is_some());
    }

    #[test]
    fn an_end_at_the_first_request_hints_at_sasl() {
        let mut life = serving(0);
        assert_eq!(life.hint(), "");
        life.handle_started();
        assert!(life.hint().contains("it may require SASL, and the client has no credentials"));
        life.handle_finished(at(1));
        life.handle_started();
        assert_eq!(life.hint(), "", "it answers");
        let mut life = authenticated(password("alice"), 0);
        life.handle_started();
        assert_eq!(life.hint(), "");
    }

    #[test]
    fn without_a_limit_a_session_is_not_renewed() {
        let mut life = authenticated(password("alice"), 0);
        assert!(!asks(&mut life, 9_999_999));
        assert_eq!(life.poll_timeout(), Some(at(540)), "for being idle");
    }

    /// A phase, and how many calls are under way.
    type State = (Phase, usize);

    /// The state that follows when `event` happens seven seconds after the handshake was done.
    fn next((phase, calls): State, event: Event) -> (State, ()) {
        let mut life = match phase {
            Phase::Handshaking => connected(),
            _ => authenticated(password("alice"), 8),
        };
        (0..calls).for_each(|_| life.handle_started());
        if phase == Phase::Draining {
            life.handle_released();
        }
        if phase == Phase::Renewing {
            life.handle_credentials(password("alice"), fresh(0), TIMEOUT, at(7));
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
            Event::Renewable => drop(life.poll_request(now)),
            Event::SessionOver => {
                now = at(8);
                drop(life.poll_need(now));
            }
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
            (Phase::Renewing, 0),
            (Phase::Renewing, 1),
            (Phase::Draining, 1),
            (Phase::Draining, 2),
        ];
        let events = [
            Event::Established,
            Event::Started,
            Event::Finished,
            Event::Renewable,
            Event::SessionOver,
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
  nothing on Started, Finished, Renewable, SessionOver, Released, IdleForLong
(Serving, 0)
  Started → (Serving, 1)
  SessionOver → (Closed(Released), 0)
  Released → (Closed(Released), 0)
  IdleForLong → (Closed(Idle), 0)
  Closed → (Closed(Idle), 0)
  Garbage → (Closed(Broken { served: 7s }), 0)
  nothing on Established, Finished, Renewable
(Serving, 1)
  Started → (Serving, 2)
  Finished → (Serving, 0)
  SessionOver → (Draining, 1)
  Released → (Draining, 1)
  Closed → (Closed(Broken { served: 7s }), 1)
  Garbage → (Closed(Broken { served: 7s }), 1)
  nothing on Established, Renewable, IdleForLong
(Renewing, 0)
  Renewable → (Handshaking, 0)
  Closed → (Closed(Idle), 0)
  Garbage → (Closed(Broken { served: 7s }), 0)
  nothing on Established, Started, Finished, SessionOver, Released, IdleForLong
(Renewing, 1)
  Finished → (Renewing, 0)
  Closed → (Closed(Broken { served: 7s }), 1)
  Garbage → (Closed(Broken { served: 7s }), 1)
  nothing on Established, Started, Renewable, SessionOver, Released, IdleForLong
(Draining, 1)
  Finished → (Closed(Released), 0)
  Closed → (Closed(Broken { served: 7s }), 1)
  Garbage → (Closed(Broken { served: 7s }), 1)
  nothing on Established, Started, Renewable, SessionOver, Released, IdleForLong
(Draining, 2)
  Finished → (Draining, 1)
  Closed → (Closed(Broken { served: 7s }), 2)
  Garbage → (Closed(Broken { served: 7s }), 2)
  nothing on Established, Started, Renewable, SessionOver, Released, IdleForLong
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
