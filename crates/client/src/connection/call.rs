//! A request on its way and the promise to answer it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use milena_core::{BrokerVersions, Failure, Instant, NoCommonVersion};
use milena_messages::header::RequestHeader;
use milena_messages::{ApiKey, Message, Request};
use milena_wire::{EncodeError, Reader, Str, Writer};
use tokio::sync::{mpsc, oneshot};

/// A request for one broker. The version is chosen when a connection is there, because versions belong to it.
pub(crate) struct Call {
    pub(super) request: Arc<dyn Held>,
    pub(super) deadline: Instant,
    pub(super) timeout: Duration,
    /// The broker answers nothing to `acks=0`; the reply then comes when everything was written.
    pub(super) is_answered: bool,
    /// What the caller has room for. An answer may be longer, but gets its memory only as it arrives.
    pub(super) answer_bytes_expected: usize,
    pub(super) reply: Reply,
}

/// For who may want to take a call back before a connection has begun with it: whoever comes first has the request.
#[derive(Clone)]
pub(crate) struct Claim(Arc<dyn Held>);

impl Claim {
    /// Takes the call back: nothing of it will be written, and the request is let go of although the call may wait for its
    /// connection for long. False if a connection has begun with it.
    pub(crate) fn recall(&self) -> bool {
        self.0.recall()
    }

    /// Whether a connection has begun with the call, if it was not taken back.
    pub(crate) fn has_begun(&self) -> bool {
        self.0.is_gone()
    }
}

/// A request until a connection begins with it or its caller takes it back, of whatever type.
pub(super) trait Held: Send + Sync {
    /// A connection begins with the request: `encode` is called with it, unless it was taken back.
    fn begin(&self, encode: &mut dyn FnMut(&dyn AnyRequest));
    /// Lets go of the request. False if it is gone.
    fn recall(&self) -> bool;
    fn is_gone(&self) -> bool;
}

impl<R: Request + Send + Sync> Held for Mutex<Option<Typed<R>>> {
    fn begin(&self, encode: &mut dyn FnMut(&dyn AnyRequest)) {
        let request = held(self).take();
        if let Some(request) = request {
            encode(&request);
        }
    }

    fn recall(&self) -> bool {
        let request = held(self).take();
        request.is_some()
    }

    fn is_gone(&self) -> bool {
        held(self).is_none()
    }
}

fn held<R>(request: &Mutex<Option<Typed<R>>>) -> MutexGuard<'_, Option<Typed<R>>> {
    request.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the outcome goes. Dropped without one, it says that the connection is gone: no caller waits forever.
pub(crate) struct Reply(Option<Outlet>);

enum Outlet {
    Once(oneshot::Sender<Result<Answer, Failure>>),
    /// For who has many requests under way.
    Many(u64, Landing),
}

/// Where the outcomes of numbered requests land.
pub(crate) type Landing = mpsc::UnboundedSender<(u64, Result<Answer, Failure>)>;

/// A response, decoded only as far as to know whose it is.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The frame behind its header.
    pub(crate) body: Bytes,
    pub(crate) version: i16,
    pub(crate) peer: Arc<str>,
    /// When its first bytes were there.
    pub(crate) began: Instant,
}

/// What a connection needs to know of a request.
pub(super) trait AnyRequest: Send + Sync {
    fn api(&self) -> ApiKey;
    fn choose(&self, versions: &BrokerVersions) -> Result<i16, NoCommonVersion>;
    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError>;
}

/// A request of a known type, and the newest version that can carry it.
#[derive(Clone)]
pub(crate) struct Typed<R> {
    pub(crate) request: R,
    pub(crate) version_max: i16,
}

impl<R: Request + Send + Sync> AnyRequest for Typed<R> {
    fn api(&self) -> ApiKey {
        R::KEY
    }

    fn choose(&self, versions: &BrokerVersions) -> Result<i16, NoCommonVersion> {
        versions.choose::<R>(self.version_max)
    }

    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
        self.request.encode(writer, version)
    }
}

/// An answer is given this much memory at once if it announces more; the rest as it arrives.
const ANSWER_BYTES_AT_ONCE: usize = 64 << 10;

impl Call {
    pub(crate) fn new<R: Request + Send + Sync + 'static>(
        request: Typed<R>,
        deadline: Instant,
        timeout: Duration,
        reply: Reply,
    ) -> Self {
        Self {
            request: Arc::new(Mutex::new(Some(request))),
            deadline,
            timeout,
            is_answered: true,
            answer_bytes_expected: ANSWER_BYTES_AT_ONCE,
            reply,
        }
    }

    /// With this its caller may take it back.
    pub(crate) fn claim(&self) -> Claim {
        Claim(Arc::clone(&self.request))
    }

    /// The broker will not answer.
    pub(crate) fn unanswered(self) -> Self {
        Self { is_answered: false, ..self }
    }

    /// There is nobody to send it to.
    pub(crate) fn refuse(self, failure: Failure) {
        self.reply.send(Err(failure));
    }

    /// The caller has room for that much.
    pub(crate) fn expecting(self, bytes: usize) -> Self {
        Self { answer_bytes_expected: bytes.max(ANSWER_BYTES_AT_ONCE), ..self }
    }
}

impl Reply {
    pub(crate) fn to(landing: &Landing, number: u64) -> Self {
        Self(Some(Outlet::Many(number, landing.clone())))
    }

    pub(crate) fn channel() -> (Self, oneshot::Receiver<Result<Answer, Failure>>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Some(Outlet::Once(sender))), receiver)
    }

    pub(super) fn send(mut self, outcome: Result<Answer, Failure>) {
        self.say(outcome);
    }

    fn say(&mut self, outcome: Result<Answer, Failure>) {
        // A caller who has gone away wants no answer.
        match self.0.take() {
            Some(Outlet::Once(sender)) => drop(sender.send(outcome)),
            Some(Outlet::Many(number, landing)) => drop(landing.send((number, outcome))),
            None => {}
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if self.0.is_some() {
            let reason = Arc::from("its task ended");
            self.say(Err(Failure::Lost { peer: Arc::from("the connection"), reason, sent: true }));
        }
    }
}

impl Answer {
    /// Decodes the response.
    pub(crate) fn decode<M: Message>(&self) -> Result<M, Failure> {
        let mut reader = Reader::new(&self.body);
        let decoded =
            M::decode(&mut reader, self.version).and_then(|message| reader.finish(M::NAME).map(|()| message));
        decoded.map_err(|error| Failure::Malformed {
            peer: Arc::clone(&self.peer),
            reason: format!("its answer does not decode: {error}").into(),
        })
    }
}

/// Encodes a request as a frame; the writer is as before when that fails.
pub(super) fn encode_frame(
    writer: &mut Writer,
    header: &RequestHeader,
    request: &dyn AnyRequest,
    version: i16,
) -> Result<(), EncodeError> {
    let mark = writer.begin_frame();
    let header_version = request.api().request_header_version(version);
    let encoded = header.encode(writer, header_version).and_then(|()| request.encode(writer, version));
    match encoded {
        Ok(()) => writer.end_frame(mark, request.api().name()),
        Err(error) => {
            writer.cancel_frame(mark);
            Err(error)
        }
    }
}

/// The header of a request.
pub(super) fn request_header(
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    client_id: &Str,
) -> RequestHeader {
    RequestHeader {
        request_api_key: api.as_i16(),
        request_api_version: version,
        correlation_id,
        client_id: Some(client_id.clone()),
        ..Default::default()
    }
}
