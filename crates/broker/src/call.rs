//! A request in the hands of its handler, and the possible outcomes.

use milena_messages::{ErrorCode, Message, Request};
use milena_wire::{Reader, Str, WireFrame};

use crate::envelope::Envelope;
use crate::now::Now;
use crate::parked::{Denied, Waiting};
use crate::parts::Parts;
use crate::peer::Peer;
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
        Ok(Outcome::Answered(self.envelope.answer(&handle(self, request))?))
    }

    /// Decodes the request.
    ///
    /// Bytes after the request are ignored, as Kafka ignores them: librdkafka 2.11 asks for all topics in
    /// MetadataRequest v9+ with a null array of four bytes instead of one, and the first byte says what it means.
    pub(crate) fn decode<M: Message>(&self, reader: &mut Reader<'_>) -> Result<M, Refused> {
        Ok(M::decode(reader, self.envelope.version)?)
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

    /// Whether the node that was asked coordinates the group. Otherwise the client must ask for the coordinator again.
    pub(crate) fn check_coordinator(&self, group: &str) -> Result<(), ErrorCode> {
        match self.parts.state().coordinator(group) {
            Some(node) if node.id == self.peer.node() => Ok(()),
            _ => Err(ErrorCode::NOT_COORDINATOR),
        }
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
