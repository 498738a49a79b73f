//! A request in the hands of its handler, and the possible outcomes.

use std::cell::Cell;
use std::time::Duration;

use milena_messages::{ErrorCode, Message, Request};
use milena_wire::{Reader, Str, WireFrame};

use crate::acls::{CLUSTER, Operation, Resource, Who};
use crate::envelope::Envelope;
use crate::now::Now;
use crate::parked::{Denied, Waiting};
use crate::parts::Parts;
use crate::peer::Peer;
use crate::quotas::Key;
use crate::refused::Refused;
use crate::sasl::{Denial, Reply};

/// One request being handled.
pub(crate) struct Call<'a> {
    pub(crate) parts: &'a Parts,
    pub(crate) peer: &'a mut Peer,
    pub(crate) envelope: Envelope,
    pub(crate) now: Now,
    /// The most bytes of records that there is memory for.
    pub(crate) fetch_bytes_max: usize,
    pub(crate) client_id: Option<Str>,
    /// The size of the request, with its header.
    pub(crate) request_bytes: usize,
    /// How long the connection is muted after the answer, because of quotas (KIP-219).
    pub(crate) throttle: Cell<Duration>,
    pub(crate) effort: Effort,
}

/// How much work a handler may do. Some requests show only during the work how much they need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Microseconds of work. If a request needs more its handler changes nothing and returns [`Outcome::TooMuch`].
    Little,
    Any,
}

/// What a handler made of a request.
#[derive(Debug)]
pub(crate) enum Outcome {
    Answered(WireFrame),
    Silent,
    Parked(Waiting),
    /// The request needs more than [`Effort::Little`].
    TooMuch,
}

impl Call<'_> {
    /// Decodes the request, handles it, encodes the response.
    pub(crate) fn answer<R: Request>(
        &mut self,
        reader: &mut Reader<'_>,
        handle: impl FnOnce(&Call<'_>, R) -> R::Response,
    ) -> Result<Outcome, Refused> {
        let request = self.decode(reader)?;
        let response = handle(self, request);
        self.reply(response)
    }

    /// Encodes the response. If the client is above its quota of request time, it is told how long to wait.
    pub(crate) fn reply<M: Message>(&self, mut response: M) -> Result<Outcome, Refused> {
        self.take_quota(Key::RequestPercentage, 0.0);
        response.set_throttle_time_ms(self.throttle.get().as_millis() as i32);
        Ok(Outcome::Answered(self.envelope.answer(&response)?))
    }

    /// Notes what the request takes of a quota. Returns how long the client has to wait because of that; it waits as long as
    /// the quota that demands most.
    pub(crate) fn take_quota(&self, key: Key, amount: f64) -> Duration {
        if !self.parts.has_quotas() {
            return Duration::ZERO;
        }
        let wait = self.parts.quotas().take(key, self.peer.client(), amount, self.now.instant);
        self.throttle.set(self.throttle.get().max(wait));
        wait
    }

    /// Takes back what [`take_quota`](Self::take_quota) has noted. The client waits all the same.
    pub(crate) fn put_back_quota(&self, key: Key, amount: f64) {
        self.parts.quotas().put_back(key, self.peer.client(), amount, self.now.instant);
    }

    /// The most that the client can take of a quota at once.
    pub(crate) fn quota_at_once(&self, key: Key) -> Option<f64> {
        if !self.parts.has_quotas() {
            return None;
        }
        self.parts.quotas().at_once(key, self.peer.client())
    }

    /// Decodes the request.
    ///
    /// Bytes after the request are ignored, as Kafka ignores them: librdkafka 2.11 asks for all topics in
    /// MetadataRequest v9+ with a null array of four bytes instead of one, and the first byte says what it means.
    pub(crate) fn decode<M: Message>(&self, reader: &mut Reader<'_>) -> Result<M, Refused> {
        Ok(M::decode(reader, self.envelope.version)?)
    }

    /// Mutes the connection as long as quotas demand.
    pub(crate) fn settle(&mut self) {
        let throttle = self.throttle.get();
        self.peer.mute((!throttle.is_zero()).then(|| self.now.instant + throttle));
    }

    /// Hands a token of the client to its SASL exchange.
    pub(crate) fn authenticate(&mut self, token: &[u8]) -> Result<Reply, Denial> {
        let lifetime_max = self.parts.settings().session_lifetime_max;
        self.peer.session_mut().step(token, &mut self.parts.users(), lifetime_max, self.now)
    }

    /// Ends the session with a last answer. It comes late, so that guessing takes long
    /// (`connection.failed.authentication.delay.ms`).
    pub(crate) fn deny<M: Message>(&mut self, response: &M, reason: String) -> Result<Outcome, Refused> {
        let frame = self.envelope.answer(response)?;
        Ok(self.deny_with(frame, reason))
    }

    /// The same with an answer that is written already.
    pub(crate) fn deny_with(&mut self, frame: WireFrame, reason: String) -> Outcome {
        self.peer.session_mut().end(reason);
        let due = self.now.instant + self.parts.settings().failed_authentication_delay;
        Outcome::Parked(Waiting::Denied(Denied { frame, due }))
    }

    /// Whether the client may do this.
    pub(crate) fn may(&self, operation: Operation, resource: Resource, name: &str) -> bool {
        self.parts.acls().is_none_or(|acls| acls.allows(self.who(), operation, resource, name))
    }

    /// Whether the client may do this with any resource of a type.
    pub(crate) fn may_any(&self, operation: Operation, resource: Resource) -> bool {
        self.parts.acls().is_none_or(|acls| acls.allows_any(self.who(), operation, resource))
    }

    fn who(&self) -> Who<'_> {
        Who { principal: self.peer.principal(), address: self.peer.address().ip() }
    }

    /// Refuses what the client may not do, with the code for the type of the resource.
    pub(crate) fn check(
        &self,
        operation: Operation,
        resource: Resource,
        name: &str,
    ) -> Result<(), ErrorCode> {
        match self.may(operation, resource, name) {
            true => Ok(()),
            false => Err(resource.denial()),
        }
    }

    /// Refuses what the client may not do with the cluster.
    pub(crate) fn check_cluster(&self, operation: Operation) -> Result<(), ErrorCode> {
        self.check(operation, Resource::Cluster, CLUSTER)
    }

    /// Refuses requests about delegation tokens of a client that has not shown who it is, or only by such a token.
    pub(crate) fn check_tokens(&self) -> Result<(), ErrorCode> {
        match self.peer.session().may_have_tokens() {
            true => Ok(()),
            false => Err(ErrorCode::DELEGATION_TOKEN_REQUEST_NOT_ALLOWED),
        }
    }

    /// Those of `operations`, each a bit of Kafka's `AclOperation`, that the client may do (KIP-430).
    pub(crate) fn allowed(&self, operations: i32, resource: Resource, name: &str) -> i32 {
        let Some(acls) = self.parts.acls() else { return operations };
        let is_asked = |operation: &&Operation| operations & (1 << operation.number()) != 0;
        let asked = Operation::ALL.iter().filter(is_asked);
        let allowed = asked.filter(|operation| acls.allows(self.who(), **operation, resource, name));
        allowed.fold(0, |bits, operation| bits | 1 << operation.number())
    }

    /// Whether the node that was asked coordinates the group. Otherwise the client must ask for the coordinator again.
    pub(crate) fn check_coordinator(&self, group: &str) -> Result<(), ErrorCode> {
        match self.parts.state().coordinator(group) {
            Some(node) if node.id == self.peer.node() => Ok(()),
            _ => Err(ErrorCode::NOT_COORDINATOR),
        }
    }

    /// The same, and whether the client may be a member of the group.
    pub(crate) fn check_member(&self, group: &str) -> Result<(), ErrorCode> {
        self.check(Operation::Read, Resource::Group, group)?;
        self.check_coordinator(group)
    }

    /// Whether the node that was asked coordinates the transactional id, and is not loading.
    pub(crate) fn check_transaction_coordinator(&self, id: &str) -> Result<(), ErrorCode> {
        match self.parts.state().transaction_coordinator(id) {
            Some(node) if node.id == self.peer.node() => {}
            _ => return Err(ErrorCode::NOT_COORDINATOR),
        }
        match self.parts.transactions(self.now).is_loading(id, self.now) {
            true => Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
            false => Ok(()),
        }
    }

    /// A code for clients that do not know PRODUCER_FENCED before this version of the request (KIP-588).
    pub(crate) fn before_fenced(&self, code: ErrorCode, known_from: i16) -> ErrorCode {
        match self.envelope.version < known_from && code == ErrorCode::PRODUCER_FENCED {
            true => ErrorCode::INVALID_PRODUCER_EPOCH,
            false => code,
        }
    }

    /// Logs a warning, once for each client id, that this broker does not serve the request; `what` says why.
    pub(crate) fn tell_unserved(&self, what: &str) {
        self.parts.unserved.tell(&what, self.client_id.as_deref(), self.peer);
    }
}
