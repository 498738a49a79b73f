//! When a client asks which metrics brokers want of it, when it pushes them, and in which form (KIP-714).
//!
//! ```text
//!        ask        metrics are wanted         ask           pushed
//!  Get ──────▶ Getting ──────────────▶ Push ──────▶ Pushing ────────▶ Push …
//!   ▲            │ none are, or it failed             │ the subscription has changed
//!   └────────────┴────────────────────────────────────┘
//!  Push ─ close ─▶ LastPush ─ ask ─▶ LastPushing ─▶ Ended          refused for good ─▶ Off
//! ```
//!
//! This must not know metrics: it says which names are wanted, and its caller encodes what has them.

mod subscription;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use milena_messages::ErrorCode;
use milena_messages::get_telemetry_subscriptions::GetTelemetrySubscriptionsResponse;
use milena_wire::Uuid;
use milena_wire::codec::Compression;

pub use self::subscription::Wanted;
use self::subscription::{INTERVAL_DEFAULT, Subscription};
use crate::backoff::Retry;
use crate::{Backoff, Failure, Instant, Rng};

/// Decides when a client asks for its subscription and when it pushes.
///
/// # A turn
///
/// After any `handle_*`, and at [`poll_timeout`](Self::poll_timeout), call [`poll_ask`](Self::poll_ask).
///
/// # Inputs
///
/// Each [`Ask`] is answered by the `handle_*` for it, once; until then there is no other. `now` never goes back.
#[derive(Debug)]
pub struct Telemetry {
    rng: Rng,
    /// The codecs that are built in.
    codecs: Vec<Compression>,
    state: State,
    /// When the next request goes out, in the states that have one.
    at: Instant,
    /// The id that brokers know the client by; zero until a broker has given one.
    client_instance_id: Uuid,
    subscription: Option<Subscription>,
    /// Codecs that a broker has refused although it had accepted them.
    refused: Vec<Compression>,
    /// The most bytes of a payload, if a broker has found a smaller one than it announced too large.
    shrunk_to: Option<usize>,
    /// How many bytes the push has that is under way.
    pushing_bytes: usize,
    retry: Retry,
    /// Whether the last request was tried again at once.
    hurried: bool,
    /// Whether the last broker that was asked did not have the request.
    unoffered: bool,
}

/// A request that is due.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    /// GetTelemetrySubscriptions, with the id that the client has, or zero.
    Get(Uuid),
    /// PushTelemetry.
    Push(Push),
}

/// What is to be pushed.
#[derive(Debug, Clone, PartialEq)]
pub struct Push {
    /// The id that brokers know the client by.
    pub client_instance_id: Uuid,
    /// What the client was asked for.
    pub subscription_id: i32,
    /// Whether it is the last one.
    pub is_last: bool,
    /// How it is compressed.
    pub compression: Compression,
    /// The most bytes of the metrics, before they are compressed and after: brokers limit both.
    pub bytes_max: usize,
    /// Whether counters are what was added since the last push that arrived, or totals.
    pub is_delta: bool,
    /// Which metrics are wanted.
    pub wanted: Arc<Wanted>,
}

/// What is known of the id by which brokers know the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instance {
    /// No broker has answered yet.
    Unknown,
    /// This one.
    Known(Uuid),
    /// Brokers do not take metrics of this client, or not any more; why.
    Refused(Arc<str>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The subscription is asked for when it is time.
    Get,
    Getting,
    /// Metrics are pushed when it is time.
    Push,
    Pushing,
    /// A push is under way, and the last one follows it: both would count the same if they were sent at once.
    PushingBeforeLast,
    LastPush,
    LastPushing,
    /// The last push was made, or none is wanted.
    Ended,
    /// A broker has refused for good.
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// A request goes out.
    Ask,
    /// There is a subscription with metrics.
    Subscribed,
    /// There is one without, or asking for it failed, or the broker wants to be asked.
    Unsubscribed,
    /// The push was answered, or had no answer: in any case the next one comes at its time.
    Pushed,
    /// It cannot go on.
    Refused,
    /// The client ends.
    Close,
}

/// The next state. Every pair is named, so that a new state or event does not compile before its row is written.
fn next(state: State, event: Event) -> State {
    match (state, event) {
        (State::Ended, _) => State::Ended,
        (State::Off, Event::Close) => State::Ended,
        (State::Off, _) => State::Off,
        (State::LastPushing, Event::Ask | Event::Close) => State::LastPushing,
        (State::LastPushing, _) => State::Ended,
        (State::Get, Event::Ask) => State::Getting,
        (State::Push, Event::Ask) => State::Pushing,
        (State::LastPush, Event::Ask) => State::LastPushing,
        (State::Getting | State::Pushing | State::PushingBeforeLast, Event::Ask) => state,
        // Without a subscription nobody waits for a last push.
        (State::Get | State::Getting, Event::Close) => State::Ended,
        (State::Push, Event::Close) => State::LastPush,
        (State::Pushing, Event::Close) => State::PushingBeforeLast,
        (State::PushingBeforeLast | State::LastPush, Event::Close) => state,
        (State::PushingBeforeLast, Event::Pushed) => State::LastPush,
        (State::PushingBeforeLast, _) => State::Ended,
        (State::LastPush, _) => State::LastPush,
        (_, Event::Subscribed | Event::Pushed) => State::Push,
        (_, Event::Unsubscribed) => State::Get,
        (_, Event::Refused) => State::Off,
    }
}

/// Between attempts to get a subscription that the network has failed. A push is not made before its time, whatever happens.
const GET_BACKOFF: Backoff = Backoff { min: Duration::from_secs(1), max: INTERVAL_DEFAULT };

/// How long brokers that do not have these requests are left alone. They may be upgraded.
const NOT_OFFERED_FOR: Duration = Duration::from_secs(60 * 60);

/// A payload that a broker finds too large is halved, but not below this: it would say nothing.
const SHRUNK_MIN: usize = 1024;

impl Telemetry {
    /// For a client that has these codecs. The first request is due at `now`.
    pub fn new(codecs: Vec<Compression>, rng: Rng, now: Instant) -> Self {
        Self {
            rng,
            codecs,
            state: State::Get,
            at: now,
            client_instance_id: Uuid::ZERO,
            subscription: None,
            refused: Vec::new(),
            shrunk_to: None,
            pushing_bytes: 0,
            retry: Retry::default(),
            hurried: false,
            unoffered: false,
        }
    }

    /// The request that is due at `now`, if there is one. It is under way then.
    pub fn poll_ask(&mut self, now: Instant) -> Option<Ask> {
        if self.poll_timeout()? > now {
            return None;
        }
        let ask = match (self.state, &self.subscription) {
            (State::Push | State::LastPush, Some(subscription)) => Ask::Push(self.push(subscription)),
            _ => Ask::Get(self.client_instance_id),
        };
        self.turn(Event::Ask);
        Some(ask)
    }

    /// When [`poll_ask`](Self::poll_ask) is to be called although nothing happens; none while a request is under way, and after
    /// the end.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Get | State::Push => Some(self.at),
            State::LastPush => Some(Instant::ORIGIN),
            State::Off => None,
            State::Getting
            | State::Pushing
            | State::PushingBeforeLast
            | State::LastPushing
            | State::Ended => None,
        }
    }

    /// Whether metrics are wanted, so that the next request pushes them.
    pub fn is_subscribed(&self) -> bool {
        matches!(self.state, State::Push | State::LastPush)
    }

    /// Whether the last push was made, or none will be made.
    pub fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// The id by which brokers know the client.
    pub fn instance(&self) -> Instance {
        match self.state {
            State::Off => Instance::Refused("a broker has refused this client's metrics".into()),
            _ if !self.client_instance_id.is_zero() => Instance::Known(self.client_instance_id),
            State::Ended => Instance::Refused("the client has pushed its last metrics".into()),
            _ if self.unoffered => Instance::Refused(
                "the broker takes no metrics of clients: Kafka does from 3.7 on, with a receiver".into(),
            ),
            _ => Instance::Unknown,
        }
    }

    /// The client ends: a last push is due if there is a subscription.
    pub fn handle_close(&mut self) {
        self.turn(Event::Close);
    }

    /// A broker has answered [`Ask::Get`].
    pub fn handle_subscription(&mut self, response: &GetTelemetrySubscriptionsResponse, now: Instant) {
        if !response.error_code.is_none() {
            return self.handle_code(response.error_code, now);
        }
        if response.client_instance_id.is_zero() {
            // Without an id nothing can be pushed.
            return self.get_after(INTERVAL_DEFAULT, now);
        }
        self.client_instance_id = response.client_instance_id;
        self.retry.succeeded();
        self.unoffered = false;
        let subscription = Subscription::new(response, &self.codecs);
        let (interval, is_empty) = (subscription.interval, subscription.wanted.is_nothing());
        if self.subscription.as_ref().is_none_or(|known| known.id != subscription.id) {
            self.shrunk_to = None;
        }
        self.subscription = Some(subscription);
        if is_empty {
            return self.get_after(interval, now);
        }
        self.hurried = false;
        // Clients that were told the same at the same time do not push at the same time (KIP-714).
        self.at = now + interval.saturating_mul(500 + self.rng.below(1001)) / 1000;
        self.turn(Event::Subscribed);
    }

    /// Tells how many bytes the metrics have that are pushed, before compression.
    pub fn note_pushing(&mut self, bytes: usize) {
        self.pushing_bytes = bytes;
    }

    /// A broker has answered [`Ask::Push`]. Returns whether what was pushed has arrived.
    pub fn handle_pushed(&mut self, code: ErrorCode, now: Instant) -> bool {
        if !code.is_none() {
            self.handle_code(code, now);
            return false;
        }
        self.hurried = false;
        self.push_after_interval(now);
        true
    }

    /// No broker has answered. Returns whether what was pushed may have arrived: then it counts as arrived, because counting less
    /// is better than counting twice.
    pub fn handle_failure(&mut self, failure: &Failure, now: Instant) -> bool {
        if matches!(failure, Failure::NoCommonVersion { .. }) {
            self.unoffered = true;
            self.get_after(NOT_OFFERED_FOR, now);
            return false;
        }
        match self.state {
            // The subscription holds at every broker, and a broker where it does not says so.
            State::Pushing | State::PushingBeforeLast | State::LastPushing => self.push_after_interval(now),
            _ => {
                self.at = self.retry.failed(now, &GET_BACKOFF, &mut self.rng);
                self.turn(Event::Unsubscribed);
            }
        }
        failure.may_have_acted()
    }

    fn handle_code(&mut self, code: ErrorCode, now: Instant) {
        match code {
            ErrorCode::UNKNOWN_SUBSCRIPTION_ID => self.get_at_once(now),
            ErrorCode::UNSUPPORTED_COMPRESSION_TYPE => {
                let used = self.subscription.as_ref().map(|subscription| subscription.codec(&self.refused));
                self.refused.extend(used.filter(|codec| *codec != Compression::None));
                self.get_at_once(now);
            }
            ErrorCode::TELEMETRY_TOO_LARGE => {
                self.shrunk_to = Some((self.pushing_bytes / 2).max(SHRUNK_MIN));
                self.get_after(self.interval(), now);
            }
            ErrorCode::THROTTLING_QUOTA_EXCEEDED => self.get_after(self.interval(), now),
            // As a lost connection: another broker may answer.
            code if code.is_retriable() => self.get_after(self.interval(), now),
            // Kafka's clients give up, too: the same metrics would be refused again.
            _ => self.turn(Event::Refused),
        }
    }

    /// Asks for the subscription, at once the first time and after an interval if that did not help: a broker that refuses all pushes
    /// must not be asked as fast as it answers.
    fn get_at_once(&mut self, now: Instant) {
        let wait = if self.hurried { self.interval() } else { Duration::ZERO };
        self.get_after(wait, now);
        self.hurried = true;
    }

    fn get_after(&mut self, wait: Duration, now: Instant) {
        self.at = now + wait;
        self.turn(Event::Unsubscribed);
    }

    fn push_after_interval(&mut self, now: Instant) {
        self.at = now + self.interval();
        self.turn(Event::Pushed);
    }

    fn interval(&self) -> Duration {
        self.subscription.as_ref().map_or(INTERVAL_DEFAULT, |subscription| subscription.interval)
    }

    fn push(&self, subscription: &Subscription) -> Push {
        Push {
            client_instance_id: self.client_instance_id,
            subscription_id: subscription.id,
            is_last: self.state == State::LastPush,
            compression: subscription.codec(&self.refused),
            bytes_max: subscription.bytes_max.min(self.shrunk_to.unwrap_or(usize::MAX)),
            is_delta: subscription.is_delta,
            wanted: Arc::clone(&subscription.wanted),
        }
    }

    fn turn(&mut self, event: Event) {
        self.state = next(self.state, event);
    }
}
