//! The broker as a machine: a request frame and the time go in, an answer comes out. It has no sockets, no clock and no
//! tasks.
//!
//! ```text
//!  connect ─▶ Peer
//!  peer, frame ─▶ handle ─▶ Answer::Now(frame)      most requests
//!                        ├▶ Answer::Nothing         Produce with acks=0
//!                        ├▶ Answer::Later(parked)   a request that waits: poll it, then resume it
//!                        └▶ Refused                 not a request that this broker understands: close the connection
//!  poll_timeout ─▶ when ─▶ handle_timeout           work that no request asks for
//! ```
//!
//! [`Parts`] holds everything that outlives a request, and `api` has a file for each kind of request. The machine knows
//! nothing of a connection but its [`Peer`].

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use milena_messages::header::RequestHeader;
use milena_messages::{ApiKey, Message};
use milena_wire::{Reader, WireFrame, Writer};

use crate::api;
use crate::call::{Call, Effort, Outcome};
use crate::envelope::{self, Envelope};
use crate::error::Error;
use crate::groups::ExpiredMember;
use crate::listener::SecurityProtocol;
use crate::now::Now;
use crate::oauth::OauthValidator;
use crate::parked::Parked;
use crate::parts::{MachineSettings, Parts, Security};
use crate::peer::{Entry, Peer};
use crate::quotas::Key;
use crate::refused::{Refusal, Refused};
use crate::sasl::Session;
use crate::state::Node;
use crate::storage::Storage;
use crate::telemetry::ClientMetrics;
use crate::timers::Timer;

/// A cluster: all of its nodes in one machine.
///
/// # Contract
/// - Each connection has a [`Peer`] of its own. The owner hands in the connection's next request when the last one was
///   answered; when that was parked, after [`resume`](Self::resume) has answered it.
/// - After an answer, and after a request without one, the owner waits until [`Peer::muted_until`] before it hands in the
///   connection's next request.
/// - The owner calls [`handle_timeout`](Self::handle_timeout) at the time that [`poll_timeout`](Self::poll_timeout)
///   says, or soon after. Any other call may change that time, and any call may make parked requests ready.
/// - The methods may be called from many threads at once, as the server does. Called from one thread, the same seed and
///   the same calls give the same answers, byte for byte; a simulator relies on it.
#[derive(Debug)]
pub struct Machine {
    pub(crate) parts: Parts,
    /// The listeners' security protocols, by their indices.
    protocols: Vec<SecurityProtocol>,
    connections: AtomicU64,
}

/// What the machine makes of a request.
#[derive(Debug)]
pub enum Answer {
    /// This frame is the response.
    Now(WireFrame),
    /// There is no response (acks=0).
    Nothing,
    /// The response waits for something; until then the connection's later requests wait too, as in Kafka.
    Later(Parked),
}

/// How often partitions look for producers to forget (Kafka's `producer.id.expiration.check.interval.ms`).
const PRODUCER_CHECK_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// When partitions look for records to remove for the first time (Kafka's `log.initial.task.delay.ms`).
const RETENTION_CHECK_FIRST: Duration = Duration::from_secs(30);

impl Machine {
    pub(crate) fn new(
        settings: MachineSettings,
        security: Security,
        nodes: Vec<Node>,
        storage: Option<Storage>,
    ) -> Result<Self, Error> {
        let protocols = security.protocols.clone();
        let parts = Parts::open(settings, security, nodes, storage)?;
        Ok(Self { parts, protocols, connections: AtomicU64::new(0) })
    }

    /// Accepts a connection from `address` to the first listener of `node`. When the connection ends the peer is dropped,
    /// and that is all.
    ///
    /// # Errors
    /// When there is no such node, and when it is down.
    pub fn connect(&self, node: i32, address: SocketAddr, now: Now) -> Result<Peer, Refused> {
        self.connect_to(node, 0, address, now)
    }

    /// The same for any listener. `listener` is its index in the order in which the builder got them.
    ///
    /// # Errors
    /// As [`connect`](Self::connect), and when there is no such listener.
    pub fn connect_to(
        &self,
        node: i32,
        listener: usize,
        address: SocketAddr,
        now: Now,
    ) -> Result<Peer, Refused> {
        let Some(protocol) = self.protocols.get(listener) else {
            return Err(Refusal::UnknownListener(listener).into());
        };
        let session = if protocol.has_sasl() { Session::guarded() } else { Session::open() };
        let offer = match self.parts.state().nodes.get(&node) {
            Some(found) if found.is_up => Arc::clone(&found.offer),
            Some(_) => return Err(Refusal::NodeDown(node).into()),
            None => return Err(Refusal::UnknownNode(node).into()),
        };
        // A machine that was just made does not know the time. It learns it here, and without a connection nothing is
        // due.
        self.parts.timers.arm_if_idle(Timer::ExpireProducers, now.instant + PRODUCER_CHECK_INTERVAL);
        let first = self.parts.settings().retention_check_interval.min(RETENTION_CHECK_FIRST);
        self.parts.timers.arm_if_idle(Timer::Retain, now.instant + first);
        self.parts.timers.arm_if_idle(Timer::Clean, now.instant + self.parts.settings().cleaner_backoff);
        if let Some(interval) = self.parts.token_check_interval {
            self.parts.timers.arm_if_idle(Timer::Tokens, now.instant + interval);
        }
        self.parts.watch_rates(now.instant);
        drop(self.parts.groups(now));
        drop(self.parts.transactions(now));
        let entry = Entry { node, listener, address };
        Ok(Peer::new(self.connections.fetch_add(1, Ordering::Relaxed), entry, offer, session))
    }

    /// Handles one request of `peer`: a frame without its size. The answer to a fetch has at most `fetch_bytes_max`
    /// bytes of records, or one batch if the first one is larger. The limit in the settings holds too.
    ///
    /// # Errors
    /// When the frame is not a request that this broker understands. Kafka closes the connection then, and so must the
    /// caller.
    pub fn handle(
        &self,
        peer: &mut Peer,
        frame: &Bytes,
        now: Now,
        fetch_bytes_max: usize,
    ) -> Result<Answer, Refused> {
        let answer = self.handle_with(Effort::Any, peer, frame, now, fetch_bytes_max)?;
        Ok(answer.expect("any effort is enough"))
    }

    /// Handles a request if that takes little effort. `None` means that it takes more, and that nothing has happened
    /// yet.
    pub(crate) fn handle_lightly(
        &self,
        peer: &mut Peer,
        frame: &Bytes,
        now: Now,
        fetch_bytes_max: usize,
    ) -> Result<Option<Answer>, Refused> {
        self.handle_with(Effort::Little, peer, frame, now, fetch_bytes_max)
    }

    fn handle_with(
        &self,
        effort: Effort,
        peer: &mut Peer,
        frame: &Bytes,
        now: Now,
        fetch_bytes_max: usize,
    ) -> Result<Option<Answer>, Refused> {
        if peer.session().takes_raw_token() {
            return self.take_token(peer, frame, now).map(Some);
        }
        let envelope = Envelope::read(frame).map_err(|refusal| self.refuse(refusal, peer, frame))?;
        peer.session().admit(envelope.key, now)?;
        let Some(api) = api::find(envelope.key) else {
            return Err(self.refuse(Refusal::UnservedKey(envelope.key), peer, frame));
        };
        if !api.serves(envelope.version) || !peer.offer().has(envelope.key, envelope.version) {
            // A client that is newer than this broker must learn which version it can ask in (KIP-511).
            if envelope.key == ApiKey::ApiVersions {
                return Ok(Some(Answer::Now(api::downgrade(&envelope, peer.offer())?)));
            }
            let refusal = Refusal::UnsupportedVersion(envelope.key, envelope.version);
            return Err(self.refuse(refusal, peer, frame));
        }
        let mut reader = Reader::new(frame);
        reader.set_elements_max(api.elements_max);
        let header_version = envelope.key.request_header_version(envelope.version);
        let client_id = RequestHeader::decode(&mut reader, header_version)?.client_id;
        if self.parts.has_quotas() {
            peer.note_client_id(client_id.as_ref());
        }
        let mut call = self.call(peer, envelope, now, effort);
        (call.fetch_bytes_max, call.client_id, call.request_bytes) =
            (fetch_bytes_max, client_id, frame.len());
        let outcome = (api.respond)(&mut call, &mut reader)?;
        call.settle();
        Ok(Answer::new(envelope, outcome))
    }

    /// Takes a SASL token that came without a header, as it does after SaslHandshake v0.
    fn take_token(&self, peer: &mut Peer, token: &Bytes, now: Now) -> Result<Answer, Refused> {
        let envelope = Envelope { key: ApiKey::SaslAuthenticate, version: 0, correlation_id: 0 };
        let mut call = self.call(peer, envelope, now, Effort::Any);
        let outcome = match call.authenticate(token) {
            Ok(reply) => Outcome::Answered(envelope::bare(&reply.token)?),
            // There is no answer that would say why.
            Err(denial) => call.deny_with(Writer::new().finish(), denial.reason),
        };
        Ok(Answer::new(envelope, outcome).expect("any effort is enough"))
    }

    /// Goes on with a parked request of `peer`, when [`Parked::poll`] was ready or the deadline has passed. The request
    /// may be parked again.
    ///
    /// # Errors
    /// When the answer cannot be encoded. The caller must close the connection.
    pub fn resume(
        &self,
        peer: &mut Peer,
        parked: Parked,
        now: Now,
        fetch_bytes_max: usize,
    ) -> Result<Answer, Refused> {
        let Parked { envelope, waiting } = parked;
        let mut call = self.call(peer, envelope, now, Effort::Any);
        call.fetch_bytes_max = fetch_bytes_max;
        let outcome = api::resume(&mut call, waiting)?;
        call.settle();
        Ok(Answer::new(envelope, outcome).expect("any effort is enough"))
    }

    fn call<'a>(&'a self, peer: &'a mut Peer, envelope: Envelope, now: Now, effort: Effort) -> Call<'a> {
        let throttle = Cell::new(Duration::ZERO);
        let (fetch_bytes_max, client_id, request_bytes) = (0, None, 0);
        Call {
            parts: &self.parts,
            peer,
            envelope,
            now,
            fetch_bytes_max,
            client_id,
            request_bytes,
            throttle,
            effort,
        }
    }

    /// Whether the owner is to tell how long requests take, by [`charge`](Self::charge).
    pub fn wants_request_times(&self) -> bool {
        self.parts.has_quotas()
    }

    /// Notes how long the last request of `peer` took, for quotas of request time (KIP-124). It counts from the client's next
    /// request on.
    pub fn charge(&self, peer: &Peer, took: Duration, now: Now) {
        if self.parts.has_quotas() {
            let percent = took.as_secs_f64() * 100.0;
            self.parts.quotas().take(Key::RequestPercentage, peer.client(), percent, now.instant);
        }
    }

    /// How long an address has to wait that wants to connect, if it connects too often (KIP-612). The owner closes the
    /// connection after that time, in place of handing it to [`connect`](Self::connect).
    pub fn connection_delay(&self, address: IpAddr, now: Now) -> Option<Duration> {
        if !self.parts.has_quotas() {
            return None;
        }
        self.parts.quotas().connect(address, now.instant)
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next; `None` when no timer is set.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.parts.timers.earliest()
    }

    /// Ready with the result of [`poll_timeout`](Self::poll_timeout) when that differs from `known`. This is for the
    /// one task that sleeps until `known`: it is woken when an earlier timer is set.
    pub fn poll_earlier(&self, known: Option<Instant>, context: &mut Context<'_>) -> Poll<Option<Instant>> {
        self.parts.timers.poll_earliest(known, context)
    }

    /// Does all work that is due at `now`.
    pub fn handle_timeout(&self, now: Now) {
        while let Some(timer) = self.parts.timers.take_due(now.instant) {
            match timer {
                Timer::ExpireProducers => {
                    self.parts.expire_producers(now.unix_ms);
                    self.parts.timers.arm(timer, now.instant + PRODUCER_CHECK_INTERVAL);
                }
                Timer::Retain => {
                    self.parts.retain(now.unix_ms);
                    let interval = self.parts.settings().retention_check_interval;
                    self.parts.timers.arm(timer, now.instant + interval);
                }
                Timer::Clean => self.parts.timers.arm(timer, self.parts.clean(now)),
                Timer::Tokens => {
                    self.parts.users().tokens.remove_ended(now.unix_ms);
                    if let Some(interval) = self.parts.token_check_interval {
                        self.parts.timers.arm(timer, now.instant + interval);
                    }
                }
                Timer::Rates => {
                    self.parts.quotas().forget_rates(now.instant);
                    self.parts.watch_rates(now.instant);
                }
                Timer::Groups => self.parts.groups_with_topics(now).handle_due(now),
                Timer::Transactions => self.parts.end_transactions(now),
            }
        }
    }

    /// Makes `node` the leader of a partition, in a new leader epoch.
    ///
    /// # Errors
    /// When there is no such partition, when the node holds no replica of it or is down, and when the state cannot be
    /// saved to disk.
    pub fn move_leader(&self, topic: &str, partition: i32, node: i32) -> Result<(), Error> {
        self.parts.state_mut().move_leader(topic, partition, node, None)
    }

    /// Makes `node` the leader of a partition as an unclean election does: its replica lacks the records from `offset` on,
    /// and they are lost. `offset` is moved back to the start of its batch.
    ///
    /// # Errors
    /// As [`move_leader`](Self::move_leader), when the log does not reach from its start to `offset`, and when it is on
    /// disk.
    pub fn elect_uncleanly(&self, topic: &str, partition: i32, node: i32, offset: i64) -> Result<(), Error> {
        self.parts.state_mut().move_leader(topic, partition, node, Some(offset))
    }

    /// Makes `node` the coordinator of a group, whether the group exists or not. A group that has members is there as it
    /// was written last: requests that wait are answered NOT_COORDINATOR, and the members find the node and go on.
    ///
    /// # Errors
    /// When there is no such node or it is down.
    pub fn move_coordinator(&self, group: &str, node: i32) -> Result<(), Error> {
        self.parts.move_coordinators(|state| state.move_coordinator(group, node))
    }

    /// The last members that groups' coordinators removed: [`Cluster::expired_members`](crate::Cluster::expired_members).
    pub fn expired_members(&self) -> Vec<ExpiredMember> {
        self.parts.expired_members()
    }

    /// What clients have pushed: [`Cluster::client_metrics`](crate::Cluster::client_metrics).
    pub fn client_metrics(&self) -> Vec<ClientMetrics> {
        self.parts.telemetry().reports()
    }

    /// Asks clients for metrics: [`Cluster::subscribe_client_metrics`](crate::Cluster::subscribe_client_metrics).
    ///
    /// # Errors
    /// When the interval or a pattern is not allowed, and when the disk fails.
    pub fn subscribe_client_metrics(
        &self,
        name: &str,
        metrics: &[&str],
        interval: Duration,
        matching: &[&str],
    ) -> Result<(), Error> {
        let configs = [
            ("metrics", metrics.join(",")),
            ("interval.ms", interval.as_millis().to_string()),
            ("match", matching.join(",")),
        ];
        let overrides = configs.map(|(name, value)| (name.to_owned(), value)).into();
        let altered = self.parts.telemetry().alter(name, overrides, false);
        altered.map_err(|(_, reason)| Error::refused(reason))
    }

    /// Makes `node` the coordinator of a transactional id, whether the id exists or not. It goes on with the id's transaction
    /// where the last coordinator left it.
    ///
    /// # Errors
    /// When there is no such node or it is down.
    pub fn move_transaction_coordinator(&self, id: &str, node: i32) -> Result<(), Error> {
        self.parts.move_coordinators(|state| state.move_transaction_coordinator(id, node))
    }

    /// Gives tokens of OAUTHBEARER other rules: [`Cluster::set_oauth`](crate::Cluster::set_oauth).
    pub fn set_oauth(&self, validator: OauthValidator) {
        self.parts.users().set_oauth(validator);
    }

    /// Finalizes another `transaction.version`: [`Cluster::set_transaction_version`](crate::Cluster::set_transaction_version).
    ///
    /// # Errors
    /// When there is no such version.
    pub fn set_transaction_version(&self, version: i16) -> Result<(), Error> {
        self.parts.set_transaction_version(version)
    }

    /// Changes the versions of an API that `node` serves: [`Cluster::set_api_versions`](crate::Cluster::set_api_versions).
    ///
    /// # Errors
    /// When there is no such node, and when this broker does not serve the API.
    pub fn set_api_versions(
        &self,
        node: i32,
        api_key: i16,
        versions: Option<RangeInclusive<i16>>,
    ) -> Result<(), Error> {
        self.parts.state_mut().set_api_versions(node, api_key, versions)
    }

    /// Takes a node down: its partitions get other leaders if they have other replicas, and its groups another
    /// coordinator. The caller ends the connections
    /// to the node.
    ///
    /// # Errors
    /// When there is no such node, and when the state cannot be saved to disk. A node that is down stays down.
    pub fn stop_node(&self, node: i32) -> Result<(), Error> {
        self.parts.move_coordinators(|state| state.set_up(node, false))
    }

    /// Brings a node back. It leads the partitions again that had no leader without it.
    ///
    /// # Errors
    /// When there is no such node, and when the state cannot be saved to disk. A node that is up stays up.
    pub fn start_node(&self, node: i32) -> Result<(), Error> {
        self.parts.move_coordinators(|state| state.set_up(node, true))
    }

    /// Refuses a request, after a warning in the log if it asks for something that this broker does not have.
    fn refuse(&self, refusal: Refusal, peer: &Peer, frame: &Bytes) -> Refused {
        if refusal.is_unserved() {
            self.parts.unserved.tell(&refusal, client_id(frame).as_deref(), peer);
        }
        refusal.into()
    }
}

/// The client id of any request: it has the same place in every version of the header.
fn client_id(frame: &Bytes) -> Option<String> {
    let length = u16::from_be_bytes(*frame.get(8..)?.first_chunk()?);
    let id = frame.get(10..)?.get(..length.into())?;
    Some(String::from_utf8_lossy(id).into_owned())
}

impl Answer {
    fn new(envelope: Envelope, outcome: Outcome) -> Option<Self> {
        match outcome {
            Outcome::Answered(frame) => Some(Self::Now(frame)),
            Outcome::Silent => Some(Self::Nothing),
            Outcome::Parked(waiting) => Some(Self::Later(Parked { envelope, waiting })),
            Outcome::TooMuch => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quotas::{self, Entity, Kind, Name};

    #[test]
    fn rates_are_forgotten_every_minute_as_long_as_there_are_quotas() {
        let machine = crate::Broker::builder().machine().expect("starts");
        let mut now = Now { instant: Instant::now(), unix_ms: 0 };
        let mut peer = machine.connect(1, SocketAddr::from(([127, 0, 0, 1], 4000)), now).expect("connects");
        peer.note_client_id(Some(&"app".into()));
        let alter = |value, now: Now| {
            let mut entity = Entity::default();
            entity.set(Kind::ClientId, Name::Default);
            let changes = vec![(entity, vec![(Key::RequestPercentage, value)])];
            machine.parts.alter_quotas(now.instant, |quotas| quotas.alter(changes)).expect("kept");
        };
        alter(Some(1.0), now);
        for _ in 0..2 {
            machine.charge(&peer, Duration::from_secs(1), now);
            assert_eq!(machine.parts.quotas().rates(), 1);
            now.instant += quotas::RATES_CHECK_INTERVAL;
            machine.handle_timeout(now);
            assert_eq!(machine.parts.quotas().rates(), 0);
        }
        machine.charge(&peer, Duration::from_secs(1), now);
        alter(None, now);
        assert_eq!(machine.parts.quotas().rates(), 0);
    }
}
