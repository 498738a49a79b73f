//! Membership in a consumer group: when to join, what is assigned, what to give up, and when it is lost.
//!
//! ```text
//!  subscribe, progress, released ─▶ ┌────────────┐ ── join, sync, heartbeat, leave ─▶ coordinator
//!  metadata, coordinator ─────────▶ │ Membership │ ◀─ answers ──────────────────────────┘
//!                                   └────────────┘ ── revoke, assign, lost ─▶ consumer driver
//! ```
//!
//! There are two protocols: in the classic one (`classic.rs`) the members elect a leader, which assigns; in the consumer
//! protocol (`consumer.rs`, KIP-848) the coordinator does. Each is a table of states and events. What each error code means is
//! `verdict.rs`; whether the application still takes batches, `liveness.rs`.
//!
//! It must not know positions, offsets or records.

pub mod assignors;
mod classic;
pub mod commits;
mod consumer;
pub mod finished;
pub mod ledger;
mod liveness;
mod offer;
pub mod terms;
#[cfg(test)]
mod testing;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use milena_messages::ErrorCode;

use self::classic::Classic;
use self::consumer::Consumer;
pub use self::offer::offer;
pub use self::terms::{
    Ask, Assignor, Claim, Event, Goodbye, Kind, Member, MemberIdentity, Protocol, Request, Response,
    Settings, Subscription, TopicPartition, Wanted, leave_by_id,
};
use crate::metadata::Snapshot;
use crate::{BrokerId, Failure, Instant, Notice, Rng};

/// A member of a consumer group: the [module](self) has the parts it is made of.
///
/// # A turn
///
/// 1. Tell it what the application did: [`handle_subscription`](Self::handle_subscription),
///    [`handle_progress`](Self::handle_progress), [`handle_waiting`](Self::handle_waiting),
///    [`handle_released`](Self::handle_released), [`handle_close`](Self::handle_close).
/// 2. Tell it what arrived: [`handle_coordinator`](Self::handle_coordinator), [`handle_response`](Self::handle_response),
///    [`handle_lost`](Self::handle_lost), [`handle_commit_refused`](Self::handle_commit_refused),
///    [`handle_metadata`](Self::handle_metadata).
/// 3. [`handle_timeout`](Self::handle_timeout). Answers come first: one that has arrived is a sign of life.
/// 4. [`poll_event`](Self::poll_event) until there is none, and carry the events out in their order.
/// 5. [`poll_coordinator_wanted`](Self::poll_coordinator_wanted), and [`poll_request`](Self::poll_request) until there is none.
/// 6. [`poll_metadata_wanted`](Self::poll_metadata_wanted) and [`poll_notice`](Self::poll_notice), in any order.
///
/// Then sleep until something happens, or until [`poll_timeout`](Self::poll_timeout).
///
/// # Inputs
///
/// Every [`Ask`] is answered by `handle_response` or `handle_lost` with its number, once, by its deadline. Answers to requests
/// that the machine has given up are ignored, so the driver need not cancel anything. Each look-up that was wanted is answered
/// by `handle_coordinator`. Each [`Event::Revoke`] is answered by `handle_released` before its deadline, unless an
/// [`Event::Lost`] comes first, which takes every release back that is under way.
///
/// JoinGroup and SyncGroup may take as long as a rebalance: they go over another connection than heartbeats.
///
/// # Between calls
///
/// A partition is read from its [`Event::Assign`] to its `Revoke` or `Lost`. It is in no second `Assign` in between.
/// [`identity`](Self::identity) is there as long as commits may succeed, also in a revoke barrier; after `Lost` it is not, until
/// the member has joined again. The machine waits for at most one request of each [`Kind`]. After a turn `poll_timeout` is later than
/// `now`.
///
/// # Time
///
/// `now` never goes back. Heartbeats go out whatever the application does. After a session timeout without an answered heartbeat
/// everything is lost, because the coordinator may have assigned it to others. The session counts from when the last answered
/// heartbeat was sent.
///
/// # Cost
///
/// Handling a metadata snapshot takes time by the topics that the leader assigned, or by all topics while assigned ids are
/// unknown. Everything else takes time by the partitions that it names.
#[derive(Debug)]
pub struct Membership {
    settings: Arc<Settings>,
    /// Gives a machine that takes over its own.
    rng: Rng,
    machine: Machine,
    /// What a machine that takes over has to be told.
    subscription: Subscription,
    snapshot: Arc<Snapshot>,
    is_waiting: bool,
    handed_over: Option<Failure>,
}

#[derive(Debug)]
enum Machine {
    Classic(Box<Classic>),
    Consumer(Box<Consumer>),
}

/// Calls the same method of either machine.
macro_rules! either {
    ($self:expr, $machine:ident => $call:expr) => {
        match $self {
            Machine::Classic($machine) => $call,
            Machine::Consumer($machine) => $call,
        }
    };
}

impl Membership {
    /// A member without a subscription, which is in no group.
    pub fn new(settings: Settings, mut rng: Rng) -> Self {
        let settings = Arc::new(settings);
        let own = Rng::seeded(rng.next_u64());
        let machine = match settings.protocol {
            Protocol::Classic => Machine::Classic(Box::new(Classic::new(Arc::clone(&settings), own))),
            Protocol::Automatic | Protocol::Consumer => {
                Machine::Consumer(Box::new(Consumer::new(Arc::clone(&settings), own)))
            }
        };
        Self {
            settings,
            rng,
            machine,
            subscription: Subscription::default(),
            snapshot: Arc::default(),
            is_waiting: false,
            handed_over: None,
        }
    }

    /// The protocol in use. With [`Protocol::Automatic`] it is the consumer protocol until a coordinator does not have it. It is
    /// that again when the group has become one of the consumer protocol, and takes no others.
    pub fn protocol(&self) -> Protocol {
        match self.machine {
            Machine::Classic(_) => Protocol::Classic,
            Machine::Consumer(_) => Protocol::Consumer,
        }
    }

    /// The application subscribes to something else, or to nothing: then the member leaves. After [`Event::Failed`] the same
    /// subscription tries again.
    pub fn handle_subscription(&mut self, subscription: Subscription, now: Instant) {
        self.subscription.clone_from(&subscription);
        either!(&mut self.machine, machine => machine.handle_subscription(subscription, now));
    }

    /// The metadata has changed.
    pub fn handle_metadata(&mut self, snapshot: &Arc<Snapshot>, now: Instant) {
        self.snapshot = Arc::clone(snapshot);
        either!(&mut self.machine, machine => machine.handle_metadata(snapshot, now));
    }

    /// The answer to a look-up of the coordinator.
    pub fn handle_coordinator(&mut self, answer: Result<BrokerId, Failure>, now: Instant) {
        either!(&mut self.machine, machine => machine.handle_coordinator(answer, now));
    }

    /// The answer to the request with this number.
    pub fn handle_response(&mut self, number: u64, response: Response, now: Instant) {
        match &mut self.machine {
            Machine::Classic(machine) => machine.handle_response(number, response, now),
            Machine::Consumer(machine) => machine.handle_response(number, &response, now),
        }
        self.hand_over(now);
    }

    /// The request with this number has no answer, and will have none.
    pub fn handle_lost(&mut self, number: u64, failure: &Failure, now: Instant) {
        either!(&mut self.machine, machine => machine.handle_lost(number, failure, now));
        self.hand_over(now);
    }

    /// A commit under this generation or member epoch was refused with `code`.
    pub fn handle_commit_refused(&mut self, code: ErrorCode, generation_or_epoch: i32, now: Instant) {
        either!(&mut self.machine, machine => machine.handle_commit_refused(code, generation_or_epoch, now));
    }

    /// The driver has finished the oldest [`Event::Revoke`] that it has not reported yet.
    pub fn handle_released(&mut self, now: Instant) {
        either!(&mut self.machine, machine => machine.handle_released(now));
    }

    /// The application took a batch.
    pub fn handle_progress(&mut self, now: Instant) {
        either!(&mut self.machine, machine => machine.handle_progress(now));
    }

    /// The application waits for records and there are none, or it does not any more. While it waits it counts as alive.
    pub fn handle_waiting(&mut self, is_waiting: bool, now: Instant) {
        self.is_waiting = is_waiting;
        either!(&mut self.machine, machine => machine.handle_waiting(is_waiting, now));
    }

    /// The consumer closes. The member gives everything up first, then leaves or stays. [`is_closed`](Self::is_closed) says
    /// when it is done.
    pub fn handle_close(&mut self, how: Goodbye, now: Instant) {
        either!(&mut self.machine, machine => machine.handle_close(how, now));
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        either!(&mut self.machine, machine => machine.handle_timeout(now));
    }

    /// Something that the driver carries out or tells.
    pub fn poll_event(&mut self) -> Option<Event> {
        either!(&mut self.machine, machine => machine.poll_event())
    }

    /// Whether to look the coordinator up.
    pub fn poll_coordinator_wanted(&mut self, now: Instant) -> bool {
        either!(&mut self.machine, machine => machine.poll_coordinator_wanted(now))
    }

    /// A request to send.
    pub fn poll_request(&mut self, now: Instant) -> Option<Ask> {
        either!(&mut self.machine, machine => machine.poll_request(now))
    }

    /// Other topics than before to have in the metadata, beside those that are subscribed to by name.
    pub fn poll_metadata_wanted(&mut self) -> Option<Wanted> {
        either!(&mut self.machine, machine => machine.poll_metadata_wanted())
    }

    /// Something to log.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        either!(&mut self.machine, machine => machine.poll_notice())
    }

    /// Why the other protocol than before is used. Told once.
    pub fn poll_handed_over(&mut self) -> Option<Failure> {
        self.handed_over.take()
    }

    /// When to poll again although nothing happened.
    pub fn poll_timeout(&self) -> Option<Instant> {
        either!(&self.machine, machine => machine.poll_timeout())
    }

    /// What to commit as. None while the member is in no generation.
    pub fn identity(&self) -> Option<MemberIdentity> {
        either!(&self.machine, machine => machine.identity())
    }

    /// Whether the member has closed and nothing is left to send.
    pub fn is_closed(&self) -> bool {
        either!(&self.machine, machine => machine.is_closed())
    }

    /// The coordinator does not have this protocol, or not for this group: the other one takes over where it stands.
    fn hand_over(&mut self, now: Instant) {
        let unsupported = either!(&mut self.machine, machine => machine.poll_unsupported());
        let Some((failure, number)) = unsupported else { return };
        let (settings, rng) = (Arc::clone(&self.settings), Rng::seeded(self.rng.next_u64()));
        // Events that were not polled yet come first: what they assign is lost by now, and the driver has to hear both.
        let is_classic = matches!(self.machine, Machine::Classic(_));
        let events = std::iter::from_fn(|| either!(&mut self.machine, machine => machine.poll_event()));
        let next = match is_classic {
            true => {
                let mut consumer = Consumer::new(settings, rng);
                consumer.take_over(events, number);
                Machine::Consumer(Box::new(consumer))
            }
            false => {
                let mut classic = Classic::new(settings, rng);
                classic.take_over(events, number);
                Machine::Classic(Box::new(classic))
            }
        };
        self.machine = next;
        either!(&mut self.machine, machine => {
            machine.handle_metadata(&self.snapshot, now);
            machine.handle_subscription(self.subscription.clone(), now);
            machine.handle_waiting(self.is_waiting, now);
        });
        self.handed_over = Some(failure);
    }
}

/// Why a member leaves whose application has stopped.
fn stalled(since: Duration, limit: Duration) -> Failure {
    let text = format!("the application took no batch for {since:?}, and max_poll_interval is {limit:?}");
    Failure::Caller(text.into())
}

#[cfg(test)]
mod tests;
