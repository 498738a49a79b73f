//! A call: a request on its way to a broker, and the reply that its caller waits for.

use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use milena_core::{BrokerVersions, Failure, Instant, NoCommonVersion};
use milena_messages::header::RequestHeader;
use milena_messages::{ApiKey, Message, Request};
use milena_wire::{EncodeError, Lists, Reader, Str, Writer};
use tokio::sync::{mpsc, oneshot};

/// A request for one broker. Its version is chosen when there is a connection, because each broker has its own
/// versions.
pub(crate) struct Call {
    pub(super) request: Arc<dyn Held>,
    pub(super) deadline: Instant,
    pub(super) timeout: Duration,
    /// False for a produce request with `acks=0`, to which the broker sends no response. The reply then comes when the
    /// request was written to the socket.
    pub(super) is_answered: bool,
    /// Whether the broker answers as soon as it has done what is asked, and the caller can do nothing before.
    pub(super) is_quick: bool,
    pub(super) room: Room,
    pub(super) reply: Reply,
}

/// The memory for an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// For how many bytes the caller has room. A longer answer gets its memory only as it arrives.
    pub(super) bytes_expected: usize,
    /// Whether slices of the answer outlive its decoding. If not, a small one is a part of what was read from the socket at
    /// once, and costs no memory of its own.
    pub(super) is_kept: bool,
}

/// Lets its holder take a call back. The connection and the claim share the request, and the first of them to take it
/// has it.
#[derive(Clone)]
pub(crate) struct Claim(Arc<dyn Held>);

impl Claim {
    /// Takes the call back, so that nothing of it is written. The memory of the request is freed at once, although the
    /// call may wait in its link for long. False if a connection has begun with the call.
    pub(crate) fn recall(&self) -> bool {
        self.0.recall()
    }

    /// Whether a connection has begun with the call, if it was not taken back.
    pub(crate) fn has_begun(&self) -> bool {
        self.0.is_gone()
    }

    /// What a connection has left of a request of type `Q`: see [`AnyRequest::spent`].
    pub(crate) fn take_spent<Q: AnyRequest + 'static>(&self) -> Option<Q> {
        let any: &dyn Any = &*self.0;
        match &mut *held(any.downcast_ref()?) {
            Holding::Gone(spent) => spent.take(),
            Holding::Request(_) => None,
        }
    }

    /// Puts another request in the place of the one that is gone. Gives it back if the place is not for this type, or if a
    /// call still has it.
    pub(crate) fn hold<Q: AnyRequest + 'static>(&mut self, request: Q) -> Result<(), Q> {
        let any = Arc::get_mut(&mut self.0).map(|held| held as &mut dyn Any);
        match any.and_then(|any| any.downcast_mut::<Mutex<Holding<Q>>>()) {
            Some(place) => {
                *place = Mutex::new(Holding::Request(request));
                Ok(())
            }
            None => Err(request),
        }
    }
}

/// A request of any type, held until a connection begins with it or its caller takes it back.
pub(super) trait Held: Any + Send + Sync {
    /// Calls `encode` with the request, which a connection begins with. Does nothing if the request was taken back.
    fn begin(&self, encode: &mut dyn FnMut(&dyn AnyRequest));
    /// Drops the request. False if it is no longer held.
    fn recall(&self) -> bool;
    /// Whether the request is no longer held.
    fn is_gone(&self) -> bool;
}

/// The place of a request.
enum Holding<Q> {
    Request(Q),
    /// A connection has begun with it, or it was taken back. What may be used again is left.
    Gone(Option<Q>),
}

impl<Q> Holding<Q> {
    fn take(&mut self) -> Option<Q> {
        match std::mem::replace(self, Self::Gone(None)) {
            Self::Request(request) => Some(request),
            gone @ Self::Gone(_) => {
                *self = gone;
                None
            }
        }
    }
}

impl<Q: AnyRequest + 'static> Held for Mutex<Holding<Q>> {
    fn begin(&self, encode: &mut dyn FnMut(&dyn AnyRequest)) {
        let request = held(self).take();
        if let Some(request) = request {
            encode(&request);
            *held(self) = Holding::Gone(request.spent());
        }
    }

    fn recall(&self) -> bool {
        let request = held(self).take();
        request.is_some()
    }

    fn is_gone(&self) -> bool {
        matches!(*held(self), Holding::Gone(_))
    }
}

fn held<Q>(request: &Mutex<Holding<Q>>) -> MutexGuard<'_, Holding<Q>> {
    request.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the outcome of a call goes. If it is dropped without an outcome, it sends a failure, so that no caller waits
/// for ever.
pub(crate) struct Reply(Option<Outlet>);

enum Outlet {
    /// To a caller that waits for this call alone.
    Once(oneshot::Sender<Result<Answer, Failure>>),
    /// To a driver, which has many calls under way, with the number of this one.
    Many(u64, Landing),
}

/// Where the outcomes of numbered requests land.
pub(crate) type Landing = mpsc::UnboundedSender<(u64, Result<Answer, Failure>)>;

/// A response of which only the header was decoded.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The frame after its header.
    pub(crate) body: Bytes,
    /// The memory that a slice of the body keeps, in bytes.
    pub(crate) memory_bytes: usize,
    pub(crate) version: i16,
    pub(crate) peer: Arc<str>,
    /// When its first bytes arrived.
    pub(crate) began: Instant,
    pub(crate) course: Course,
}

/// How an answered call has come along.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Course {
    /// When its link was given it.
    pub(crate) queued: Instant,
    /// For how long it waited because the broker takes no request, by a quota.
    pub(crate) throttled: Duration,
    /// When the system had taken its last byte.
    pub(crate) written: Instant,
    /// When the last bytes of its answer were there.
    pub(crate) ended: Instant,
    /// The shortest time of late in which the broker has answered anything.
    pub(crate) round_trip: Duration,
}

impl Course {
    /// From giving the call to its link until its answer was there.
    pub(crate) fn took(&self) -> Duration {
        self.ended - self.queued
    }
}

/// The part of a request that a connection needs to know.
pub(crate) trait AnyRequest: Send + Sync {
    fn api(&self) -> ApiKey;
    fn choose(&self, versions: &BrokerVersions) -> Result<i16, NoCommonVersion>;
    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError>;

    /// What is worth keeping once the request is encoded: its lists, for the next request.
    fn spent(self) -> Option<Self>
    where
        Self: Sized,
    {
        None
    }
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

/// A request that its driver sends all the time, so that its lists are used again.
pub(crate) struct Reused<R> {
    pub(crate) typed: Typed<R>,
    /// Drops what the lists of an encoded request hold of large memory.
    pub(crate) empty: fn(&mut R),
}

impl<R: Request + Send + Sync> AnyRequest for Reused<R> {
    fn api(&self) -> ApiKey {
        self.typed.api()
    }

    fn choose(&self, versions: &BrokerVersions) -> Result<i16, NoCommonVersion> {
        self.typed.choose(versions)
    }

    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
        self.typed.encode(writer, version)
    }

    fn spent(mut self) -> Option<Self> {
        (self.empty)(&mut self.typed.request);
        Some(self)
    }
}

/// A request whose fields depend on the version, beyond which of them are left out. It is made once the version is chosen.
pub(crate) struct ByVersion<R> {
    pub(crate) make: Box<dyn Fn(i16) -> R + Send + Sync>,
    pub(crate) version_max: i16,
}

impl<R: Request> AnyRequest for ByVersion<R> {
    fn api(&self) -> ApiKey {
        R::KEY
    }

    fn choose(&self, versions: &BrokerVersions) -> Result<i16, NoCommonVersion> {
        versions.choose::<R>(self.version_max)
    }

    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
        (self.make)(version).encode(writer, version)
    }
}

/// What can be sent as a request of type `R`.
pub(crate) trait Sendable<R>: AnyRequest + 'static {}

impl<R: Request + Send + Sync + 'static> Sendable<R> for Typed<R> {}
impl<R: Request + 'static> Sendable<R> for ByVersion<R> {}
impl<R: Request + Send + Sync + 'static> Sendable<R> for Reused<R> {}

/// An answer of any announced size gets this much memory at once. It gets the rest as it arrives.
const ANSWER_BYTES_AT_ONCE: usize = 64 << 10;

impl Call {
    /// A call that is made `timeout` before its deadline.
    pub(crate) fn new(
        request: impl AnyRequest + 'static,
        deadline: Instant,
        timeout: Duration,
        reply: Reply,
    ) -> Self {
        Self::of(Arc::new(Mutex::new(Holding::Request(request))), deadline, timeout, reply)
    }

    /// A call of the request that `claim` holds.
    pub(crate) fn claimed(claim: &Claim, deadline: Instant, timeout: Duration, reply: Reply) -> Self {
        Self::of(Arc::clone(&claim.0), deadline, timeout, reply)
    }

    fn of(request: Arc<dyn Held>, deadline: Instant, timeout: Duration, reply: Reply) -> Self {
        let room = Room { bytes_expected: ANSWER_BYTES_AT_ONCE, is_kept: true };
        Self { request, deadline, timeout, is_answered: true, is_quick: false, room, reply }
    }

    /// Lets the caller take the call back.
    pub(crate) fn claim(&self) -> Claim {
        Claim(Arc::clone(&self.request))
    }

    /// When it was made.
    pub(super) fn made_at(&self) -> Instant {
        Instant::after_origin(self.deadline.since_origin().saturating_sub(self.timeout))
    }

    /// The same call, which the broker does not answer.
    pub(crate) fn unanswered(self) -> Self {
        Self { is_answered: false, ..self }
    }

    /// The same call, whose answer may be waited for awake.
    pub(crate) fn quick(self, is_quick: bool) -> Self {
        Self { is_quick, ..self }
    }

    /// Fails the call without handing it to a link.
    pub(crate) fn refuse(self, failure: Failure) {
        self.reply.send(Err(failure));
    }

    /// The same call, for whose answer there is this much room, and whether slices of it outlive its decoding.
    pub(crate) fn expecting(self, bytes: usize, is_kept: bool) -> Self {
        let room = Room { bytes_expected: bytes.max(ANSWER_BYTES_AT_ONCE), is_kept };
        Self { room, ..self }
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
        // Sending fails if the caller no longer waits.
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
    /// Decodes the response, which must be one to the request that was sent.
    ///
    /// # Errors
    /// When the body is no such response.
    pub(crate) fn decode<M: Message>(&self) -> Result<M, Failure> {
        self.read(Reader::new(&self.body))
    }

    /// As [`decode`](Self::decode); the response's lists get the memory that `lists` keeps.
    pub(crate) fn decode_into<M: Message>(&self, lists: &mut Lists) -> Result<M, Failure> {
        self.read(Reader::new(&self.body).with_lists(lists))
    }

    fn read<M: Message>(&self, mut reader: Reader<'_>) -> Result<M, Failure> {
        let decoded =
            M::decode(&mut reader, self.version).and_then(|message| reader.finish(M::NAME).map(|()| message));
        decoded.map_err(|error| Failure::Malformed {
            peer: Arc::clone(&self.peer),
            reason: format!("its answer does not decode: {error}").into(),
        })
    }
}

/// Encodes a request as a frame. If that fails, it leaves the writer as it was.
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
