//! A request on its way through its handler, and what can become of it.

use milena_messages::{Message, Request};
use milena_wire::{Reader, Str, WireFrame};

use crate::envelope::Envelope;
use crate::now::Now;
use crate::parked::Waiting;
use crate::parts::Parts;
use crate::peer::Peer;
use crate::refused::Refused;

/// One request being handled.
pub(crate) struct Call<'a> {
    pub(crate) parts: &'a Parts,
    pub(crate) peer: &'a mut Peer,
    pub(crate) envelope: Envelope,
    pub(crate) now: Now,
    /// What memory there is for the records of a fetch.
    pub(crate) fetch_bytes_max: usize,
    pub(crate) client_id: Option<Str>,
    pub(crate) effort: Effort,
}

/// How much work a request may be. How much it is shows in some only when it is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Work of microseconds. More is left undone, and nothing has happened: [`Outcome::TooMuch`].
    Little,
    Any,
}

/// What became of a request.
#[derive(Debug)]
pub(crate) enum Outcome {
    Answered(WireFrame),
    Silent,
    Parked(Waiting),
    /// More than [`Effort::Little`].
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
    /// Bytes after it are not looked at, as Kafka does not: librdkafka 2.11 asks for all topics in MetadataRequest v9+
    /// with a null array of four bytes instead of one, and means what the first byte says.
    pub(crate) fn decode<M: Message>(&self, reader: &mut Reader<'_>) -> Result<M, Refused> {
        Ok(M::decode(reader, self.envelope.version)?)
    }

    /// Tells the log, once for each client, that it asks for something that is not there yet.
    pub(crate) fn tell_unserved(&self, what: &str) {
        self.parts.unserved.tell(&what, self.client_id.as_deref(), self.peer);
    }
}
