//! Moves the bytes of one connection, in one task: requests go out as they come, and responses come back in order.
//! [`Lifecycle`] decides what may happen when.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use milena_core::lifecycle::{End, Phase};
use milena_core::{
    BusyWait, CorrelationId, Failure, Handshake, HandshakeKind, HandshakeRequest, InFlight, Instant,
    Lifecycle, RoundTrip, throttle,
};
use milena_messages::header::ResponseHeader;
use milena_messages::{ApiKey, Message, Request};
use milena_wire::{Reader, Str, WireFrame, Writer};

use super::alarm::Alarm;
use super::call::{Answer, AnyRequest, Call, Course, Reply, Room, Typed, encode_frame, request_header};
use super::frames::{Frame, Frames, FramesError};
use super::peers::Peers;
use super::queue::Queue;
use super::settings::LinkSettings;
use crate::Address;
use crate::clock::Clock;
use crate::connect::{ConnectError, Transport};
use crate::metrics::{Counting, Histogram};
use crate::runtime::Executor;
use crate::sasl::{Assistance, Assisting, Holder};

/// One connection to one broker.
pub(super) struct Connection {
    stream: Box<dyn Transport>,
    frames: Frames,
    peer: Arc<str>,
    client_id: Str,
    clock: Clock,
    alarm: Alarm,
    life: Lifecycle,
    in_flight: InFlight<Pending>,
    outgoing: VecDeque<Outgoing>,
    /// Requests without an answer that are written, and may be in a buffer of the transport.
    unflushed: Vec<Unanswered>,
    /// When the first bytes of the response that is arriving were there, if it is a large one.
    began: Option<Instant>,
    /// When this was last polled. Bytes that are there then arrived before we read them.
    polled_at: Instant,
    /// The memory of a frame that was sent, for the next one.
    spare: Option<Writer>,
    runtime: Executor,
    /// None if the runtime cannot.
    busy_wait: Option<BusyWait>,
    sasl: Option<Arc<Holder>>,
    /// How long the handshake of a renewed session may take.
    handshake_timeout: Duration,
    /// What is being done for the connection elsewhere.
    assisting: Option<Assisting>,
    address: Address,
    /// What the next connection to the address should know.
    peers: Arc<Peers>,
    /// Whether its first handshake is done.
    has_served: bool,
    round_trip: RoundTrip,
    muted: throttle::Muted,
    metrics: Option<Arc<Counting>>,
    /// How long the requests to this broker take, once it is known which one it is.
    of_node: Option<Arc<Histogram>>,
}

/// What a connection is polled for.
enum Next {
    /// To end.
    End(End),
    /// To be polled again without sleeping.
    GiveWay,
}

/// A request whose response is to come.
struct Pending {
    api: ApiKey,
    version: i16,
    asker: Asker,
    /// When the system had taken its last byte.
    written: Option<Instant>,
}

/// Where a response goes.
enum Asker {
    /// To the connection's own handshake.
    Handshake(HandshakeKind),
    /// To a caller.
    Caller { timeout: Duration, room: Room, reply: Reply, made_at: Instant, throttled: Duration },
}

/// A frame that is being written.
struct Outgoing {
    frame: WireFrame,
    unanswered: Option<Unanswered>,
}

/// A request that gets no response.
struct Unanswered {
    version: i16,
    /// When it must have been written. Nothing else shows that a peer takes no bytes.
    deadline: Instant,
    timeout: Duration,
    /// Answered when the request is written.
    reply: Reply,
    made_at: Instant,
    throttled: Duration,
}

/// A larger frame's memory is not kept for the next one.
const SPARE_BYTES_MAX: usize = 16 << 10;
/// The handshake's answers are small.
const OF_HANDSHAKE: Room = Room { bytes_expected: 0, is_kept: true };
/// Slices handed to one vectored write; Linux takes 1024.
const SLICES: usize = 64;

impl Connection {
    /// A connection over a byte stream that was just made.
    pub(super) fn new(
        settings: &LinkSettings,
        stream: Box<dyn Transport>,
        address: &Address,
        peer: Arc<str>,
        handshake: Handshake,
    ) -> Self {
        let now = settings.clock.now();
        Self {
            stream,
            frames: Frames::new(settings.pool.clone(), settings.frame_bytes_max),
            peer,
            client_id: settings.client_id.clone(),
            clock: settings.clock.clone(),
            alarm: Alarm::new(settings.clock.clone()),
            life: Lifecycle::new(handshake, settings.idle_max, now),
            in_flight: InFlight::new(),
            outgoing: VecDeque::new(),
            unflushed: Vec::new(),
            began: None,
            polled_at: now,
            spare: None,
            busy_wait: settings.runtime.can_busy_wait().then(BusyWait::default),
            runtime: settings.runtime.clone(),
            sasl: settings.sasl.clone(),
            handshake_timeout: settings.connect_timeout,
            assisting: None,
            address: address.clone(),
            peers: Arc::clone(&settings.peers),
            has_served: false,
            round_trip: RoundTrip::new(now),
            muted: throttle::Muted::default(),
            metrics: settings.metrics.clone(),
            of_node: None,
        }
    }

    /// Runs the handshake. The caller limits the time, and asks the handshake what to do after a failure.
    pub(super) async fn open(&mut self) -> Result<(), Failure> {
        poll_fn(|cx| {
            while self.life.phase() == Phase::Handshaking {
                self.polled_at = self.clock.now();
                self.get_assisted(cx)?;
                self.ask()?;
                if let Poll::Ready(Err(failure)) = self.poll_write(cx) {
                    return Poll::Ready(Err(failure));
                }
                // What has arrived may need more than bytes. A step that somebody else took may have been the last.
                if self.life.phase() == Phase::Handshaking && !self.life.has_more() {
                    ready!(self.poll_read(cx))?;
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// What the handshake has learned about the peer.
    pub(super) fn handshake(&self) -> &Handshake {
        self.life.handshake()
    }

    /// What the handshake has learned about the peer, for the next connection to it.
    pub(super) fn into_handshake(self) -> Handshake {
        self.life.into_handshake()
    }

    /// Serves `first` and then `calls` until the connection ends.
    pub(super) async fn run(mut self, first: Call, calls: &mut Queue) -> End {
        self.polled_at = self.clock.now();
        self.has_served = true;
        self.start(first);
        loop {
            match poll_fn(|cx| self.poll(cx, calls)).await {
                Next::End(end) => return end,
                Next::GiveWay => self.runtime.give_way().await,
            }
        }
    }

    /// Does everything that can be done now, in the order that [`Lifecycle`] asks for.
    fn poll(&mut self, cx: &mut Context<'_>, calls: &mut Queue) -> Poll<Next> {
        loop {
            self.polled_at = self.clock.now();
            let has_room = match self.poll_once(cx, calls) {
                Ok(has_room) => has_room,
                Err(failure) => return Poll::Ready(Next::End(self.fail(&failure))),
            };
            if let Some(end) = self.life.poll_end(self.polled_at) {
                return Poll::Ready(Next::End(end));
            }
            if has_room {
                continue;
            }
            if self.busy_wait.as_mut().is_some_and(|wait| wait.poll_awake(self.polled_at)) {
                return Poll::Ready(Next::GiveWay);
            }
            let at = [self.poll_timeout(), calls.poll_timeout()].into_iter().flatten().min();
            let Some(at) = at else { return Poll::Pending };
            ready!(self.alarm.poll_at(cx, at));
            // What has arrived is taken in before deadlines are judged, so that a program that was stopped for a while does
            // not give up answers that are there. The deadline is looked at all the same: calls under way are limited,
            // answers come in order, and so the oldest call is answered or nothing moves at last.
            self.polled_at = self.clock.now();
            if let Some(failure) = self.overdue() {
                return Poll::Ready(Next::End(self.fail(&failure)));
            }
        }
    }

    /// Starts calls, writes and reads, until each of them waits. Answers whether there is room for calls that was not there when
    /// they were looked at: nothing else wakes the task for those that wait.
    fn poll_once(&mut self, cx: &mut Context<'_>, calls: &mut Queue) -> Result<bool, Failure> {
        self.get_assisted(cx)?;
        self.ask()?;
        while self.life.may_start() {
            match calls.poll_recv(cx) {
                Poll::Ready(Some(call)) => self.start(call),
                Poll::Ready(None) => self.life.handle_released(),
                Poll::Pending => break,
            }
        }
        let was_full = !self.life.may_start();
        if was_full {
            calls.poll_overdue(cx, self.polled_at);
        }
        if let Poll::Ready(Err(failure)) = self.poll_write(cx) {
            return Err(failure);
        }
        while let Poll::Ready(read) = self.poll_read(cx) {
            read?;
        }
        // Requests that get no answer have finished if they were written, and the other ones if their answers came. The answer
        // to a request of the connection's own may want another one.
        Ok(was_full && (self.life.may_start() || self.life.has_more()))
    }

    /// Gets what the connection needs of somebody else, and does what it can with what has come.
    fn get_assisted(&mut self, cx: &mut Context<'_>) -> Result<(), Failure> {
        if let (Some(need), Some(sasl)) = (self.life.poll_need(self.polled_at), &self.sasl) {
            self.assisting = Some(sasl.assist(need));
        }
        let Some(assisting) = &mut self.assisting else { return Ok(()) };
        let Poll::Ready(assistance) = assisting.as_mut().poll(cx) else { return Ok(()) };
        self.assisting = None;
        let now = self.polled_at;
        match assistance {
            Assistance::Credentials(Some((credentials, fresh))) => {
                self.life.handle_credentials(credentials, fresh, self.handshake_timeout, now);
            }
            Assistance::Credentials(None) => self.life.handle_no_credentials(now),
            Assistance::Worked(Some(worked)) => self.life.handle_worked(&self.peer, worked, now)?,
            Assistance::Worked(None) => return Err(Failure::Closed),
        }
        Ok(())
    }

    /// Queues the connection's own request, if one is due.
    fn ask(&mut self) -> Result<(), Failure> {
        let Some(request) = self.life.poll_request(self.polled_at) else { return Ok(()) };
        let kind = request.kind();
        let (api, version, frame) = match request {
            HandshakeRequest::Versions { request, version } => self.own(request, version)?,
            HandshakeRequest::Mechanism { request, version } => self.own(request, version)?,
            HandshakeRequest::Authenticate { request, version } => self.own(request, version)?,
        };
        // `dial` limits the time of the handshake.
        let asker = Asker::Handshake(kind);
        self.in_flight.push(Pending { api, version, asker, written: None }, Instant::NEVER);
        self.outgoing.push_back(Outgoing { frame, unanswered: None });
        Ok(())
    }

    /// Encodes a request of the connection's own.
    fn own<R: Request + Send + Sync>(
        &mut self,
        request: R,
        version: i16,
    ) -> Result<(ApiKey, i16, WireFrame), Failure> {
        let request = Typed { request, version_max: version };
        Ok((R::KEY, version, self.encode(&request, version)?))
    }

    /// Encodes a call and queues it for writing, or fails it.
    fn start(&mut self, call: Call) {
        if call.deadline <= self.polled_at {
            let (peer, after) = (Arc::clone(&self.peer), call.timeout);
            return call.reply.send(Err(Failure::TimedOut { peer, after, sent: false }));
        }
        let mut begun = None;
        call.request.begin(&mut |request| begun = Some((request.api(), self.encode_for_peer(request))));
        // If the caller took the request back, it has told what became of it.
        let Some((api, encoded)) = begun else { return };
        let (version, frame) = match encoded {
            Ok(encoded) => encoded,
            Err(failure) => return call.reply.send(Err(failure)),
        };
        self.life.handle_started();
        let made_at = call.made_at();
        let throttled = self.muted.within(made_at, self.polled_at);
        let Call { deadline, timeout, room, is_quick, reply, .. } = call;
        let is_alone = self.in_flight.is_empty() && self.outgoing.is_empty();
        let unanswered = if call.is_answered {
            if let Some(wait) = &mut self.busy_wait {
                wait.handle_sent(frame.len(), is_alone && is_quick, self.polled_at);
            }
            let asker = Asker::Caller { timeout, room, reply, made_at, throttled };
            self.in_flight.push(Pending { api, version, asker, written: None }, deadline);
            None
        } else {
            Some(Unanswered { version, deadline, timeout, reply, made_at, throttled })
        };
        self.outgoing.push_back(Outgoing { frame, unanswered });
    }

    /// Encodes a request at the version that suits the peer.
    fn encode_for_peer(&mut self, request: &dyn AnyRequest) -> Result<(i16, WireFrame), Failure> {
        let version = request.choose(self.life.versions()).map_err(|error| Failure::NoCommonVersion {
            peer: Arc::clone(&self.peer),
            api: error.api,
            reason: error.to_string().into(),
        })?;
        Ok((version, self.encode(request, version)?))
    }

    fn encode(&mut self, request: &dyn AnyRequest, version: i16) -> Result<WireFrame, Failure> {
        let correlation = self.in_flight.next_correlation();
        let header = request_header(request.api(), version, correlation.0, &self.client_id);
        let mut writer = self.spare.take().unwrap_or_default();
        encode_frame(&mut writer, &header, request, version)
            .map_err(|error| Failure::Caller(format!("the request cannot be encoded: {error}").into()))?;
        Ok(writer.finish())
    }

    /// Writes until everything is written or the socket takes no more.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let written = self.poll_write_all(cx)?;
        if written.is_pending() && self.unflushed.is_empty() {
            return Poll::Pending;
        }
        // A transport with a buffer, such as TLS, sends it now. TCP does nothing here. Requests without an answer count as
        // written only after it: what is left in the buffer is lost with the connection, though nothing was wrong with it.
        match ready!(Pin::new(&mut *self.stream).poll_flush(cx)) {
            Ok(()) => self.finish_unflushed(),
            Err(error) => return Poll::Ready(Err(self.io_failure(error))),
        }
        written.map(Ok)
    }

    fn poll_write_all(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        while !self.outgoing.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut filled = 0;
            for outgoing in &self.outgoing {
                if filled == SLICES {
                    break;
                }
                filled += outgoing.frame.chunks_vectored(&mut slices[filled..]);
            }
            let stream = Pin::new(&mut *self.stream);
            let written = match ready!(stream.poll_write_vectored(cx, &slices[..filled])) {
                Ok(0) => return Poll::Ready(Err(self.lost("it takes no more bytes"))),
                Ok(written) => written,
                Err(error) => return Poll::Ready(Err(self.io_failure(error))),
            };
            if let Some(metrics) = &self.metrics {
                metrics.connections.sent_bytes.add(written as u64);
            }
            self.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(first) = self.outgoing.front_mut() {
            let part = written.min(first.frame.len());
            first.frame.advance(part);
            written -= part;
            if !first.frame.is_empty() {
                return;
            }
            let Some(Outgoing { frame, unanswered }) = self.outgoing.pop_front() else { return };
            if frame.own_bytes() <= SPARE_BYTES_MAX {
                self.spare = Some(frame.into_writer());
            }
            match unanswered {
                Some(unanswered) => self.unflushed.push(unanswered),
                None => self.note_written(),
            }
        }
    }

    /// The system has taken the whole of the first request that is answered and was not written.
    fn note_written(&mut self) {
        let unwritten = self.outgoing.iter().filter(|outgoing| outgoing.unanswered.is_none()).count() + 1;
        // A peer that answers what it has not got makes the two lists differ.
        let place = self.in_flight.len().checked_sub(unwritten);
        if let Some(pending) = place.and_then(|index| self.in_flight.get_mut(index)) {
            pending.written = Some(self.polled_at);
        }
    }

    /// All that was written is with the system.
    fn finish_unflushed(&mut self) {
        for Unanswered { version, reply, made_at, throttled, .. } in self.unflushed.drain(..) {
            self.life.handle_finished(self.polled_at);
            reply.send(Ok(Answer {
                body: Bytes::new(),
                memory_bytes: 0,
                version,
                peer: Arc::clone(&self.peer),
                began: self.polled_at,
                course: Course {
                    queued: made_at,
                    throttled,
                    written: self.polled_at,
                    ended: self.polled_at,
                    round_trip: Duration::ZERO,
                },
            }));
        }
    }

    /// Reads one response and hands it over.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let room = self.in_flight.front().map_or(OF_HANDSHAKE, Pending::room);
        let frame = match self.frames.poll_next(cx, &mut *self.stream, room) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                if self.began.is_none() && self.frames.is_within_large() {
                    self.began = Some(self.polled_at);
                }
                return Poll::Pending;
            }
        };
        Poll::Ready(
            frame
                .map_err(|error| self.frames_failure(error))
                .and_then(|Frame { bytes, memory_bytes }| self.dispatch(bytes, memory_bytes)),
        )
    }

    fn dispatch(&mut self, mut frame: Bytes, memory_bytes: usize) -> Result<(), Failure> {
        let malformed =
            |reason: String| Failure::Malformed { peer: Arc::clone(&self.peer), reason: reason.into() };
        let mut reader = Reader::new(&frame);
        let correlation =
            reader.i32("ResponseHeader.CorrelationId").map_err(|error| malformed(error.to_string()))?;
        let pending = self.in_flight.pop(CorrelationId(correlation)).map_err(|unexpected| {
            malformed(format!("{unexpected}; it does not speak Kafka, or answers were mixed up"))
        })?;
        let mut reader = Reader::new(&frame);
        let header =
            ResponseHeader::decode(&mut reader, pending.api.response_header_version(pending.version));
        if let Err(error) = header {
            let failure = malformed(error.to_string());
            pending.asker.fail(&failure);
            return Err(failure);
        }
        let head_bytes = reader.offset();
        frame.advance(head_bytes);
        let began = self.began.take().unwrap_or(self.polled_at);
        let written = pending.written.unwrap_or(self.polled_at);
        // What waits for records or members says nothing of the way there, but it is never the shortest.
        let round_trip = match began - written {
            // It was written and answered within one reading of the clock, or answered before it was written.
            Duration::ZERO => Duration::ZERO,
            took => self.round_trip.note(took, self.polled_at),
        };
        if let Some(metrics) = &self.metrics {
            metrics.connections.received_bytes.add((head_bytes + frame.len()) as u64);
        }
        match pending.asker {
            Asker::Handshake(kind) => {
                self.life.handle_answer(&self.peer, kind, &frame, self.polled_at)?;
                if let Some(metrics) = self.metrics.as_ref().filter(|_| self.has_served)
                    && self.life.phase() == Phase::Serving
                {
                    metrics.connections.reauthentications.add(1);
                }
                return Ok(());
            }
            Asker::Caller { reply, made_at, throttled, .. } => {
                self.life.handle_finished(self.polled_at);
                let throttle = throttle::of(pending.api, pending.version, &frame);
                self.life.handle_throttle(throttle, self.polled_at);
                self.muted.note(throttle, self.polled_at);
                if let Some(metrics) = &self.metrics {
                    let took = self.polled_at - made_at;
                    metrics.connections.note_answer(pending.api, took, throttle);
                    // The first answers of a bootstrap server come before it is known which broker it is.
                    if self.of_node.is_none() {
                        let broker = self.peers.broker(&self.address);
                        self.of_node = broker.map(|broker| metrics.connections.node(broker));
                    }
                    if let Some(of_node) = &self.of_node {
                        of_node.record_duration(took);
                    }
                }
                if let Some(wait) = &mut self.busy_wait {
                    wait.handle_answer(self.polled_at);
                }
                let peer = Arc::clone(&self.peer);
                let version = pending.version;
                let (queued, ended) = (made_at, self.polled_at);
                let course = Course { queued, throttled, written, ended, round_trip };
                reply.send(Ok(Answer { body: frame, memory_bytes, version, peer, began, course }));
            }
        }
        Ok(())
    }

    /// When something is overdue next, or the connection has to do something by itself.
    fn poll_timeout(&self) -> Option<Instant> {
        let unwritten = self.unanswered().map(|unanswered| unanswered.deadline).min();
        [self.in_flight.poll_timeout(), unwritten, self.life.poll_timeout()].into_iter().flatten().min()
    }

    /// The requests that are being written and get no response.
    fn unanswered(&self) -> impl Iterator<Item = &Unanswered> {
        self.outgoing.iter().filter_map(|outgoing| outgoing.unanswered.as_ref()).chain(&self.unflushed)
    }

    /// The failure that ends the connection if a response is overdue or the peer takes no bytes. Everything on a connection
    /// goes in order, so nothing else can be done on it either.
    fn overdue(&self) -> Option<Failure> {
        let (peer, now) = (Arc::clone(&self.peer), self.polled_at);
        if let Some(after) = self.life.overdue(now) {
            return Some(Failure::TimedOut { peer, after, sent: false });
        }
        if let Some(Pending { asker: Asker::Caller { timeout, .. }, .. }) = self.in_flight.overdue(now) {
            return Some(Failure::TimedOut { peer, after: *timeout, sent: true });
        }
        let stuck = self.unanswered().find(|unanswered| unanswered.deadline <= now)?;
        let reason = format!("it took no bytes within {:?}", stuck.timeout).into();
        Some(Failure::Lost { peer, reason, sent: true })
    }

    /// The connection broke. Tells all callers the cause: the broker cannot have acted on a request that was not written
    /// completely.
    fn fail(&mut self, failure: &Failure) -> End {
        if let Failure::Unauthenticated { .. } = failure {
            tracing::warn!(target: "milena", "a session was not renewed: {failure}");
        }
        if matches!(failure, Failure::Lost { .. }) && self.life.may_require_sasl() {
            // Before the callers hear of it: they may try again at once.
            self.peers.note_silent_end(&self.address);
        }
        let end = self.life.handle_failure(failure, self.polled_at);
        let unwritten = self.outgoing.iter().filter(|outgoing| outgoing.unanswered.is_none()).count();
        let written = self.in_flight.len().saturating_sub(unwritten);
        // Answers come in order, so what arrived last was for the oldest request.
        for (index, pending) in self.in_flight.drain().enumerate() {
            let failure = if index == 0 { failure.clone() } else { failure.of_others() };
            if let Some(metrics) = &self.metrics {
                metrics.connections.note_unanswered(pending.api, &failure);
            }
            pending.asker.fail(&failure.with_sent(index < written));
        }
        for Unanswered { reply, .. } in self.outgoing.drain(..).filter_map(|outgoing| outgoing.unanswered) {
            reply.send(Err(failure.of_others().with_sent(false)));
        }
        for Unanswered { reply, .. } in self.unflushed.drain(..) {
            reply.send(Err(failure.of_others().with_sent(true)));
        }
        end
    }

    #[cold]
    fn lost(&self, reason: &str) -> Failure {
        Failure::Lost { peer: Arc::clone(&self.peer), reason: reason.into(), sent: true }
    }

    /// The failure for an error of the transport. With TLS 1.3 a broker refuses our certificate when the transport is made
    /// already, so until the first answer the transport's reason is one for having no connection.
    #[cold]
    fn io_failure(&self, error: io::Error) -> Failure {
        if self.life.phase() != Phase::Handshaking {
            return self.lost(&format!("{error}{}", self.life.hint()));
        }
        match error.downcast::<ConnectError>() {
            Ok(refused) => refused.into_failure(&self.peer),
            Err(error) => self.lost(&error.to_string()),
        }
    }

    #[cold]
    fn frames_failure(&self, error: FramesError) -> Failure {
        match error {
            FramesError::Closed => self.lost(&format!("the broker closed it{}", self.life.hint())),
            FramesError::Io(error) => self.io_failure(error),
            FramesError::Truncated { bytes, needed } => {
                self.lost(&format!("the broker closed it after {bytes} of a response's {needed} bytes"))
            }
            FramesError::Framing(error) => {
                // Nothing but a Kafka broker's answer ends the handshake.
                let is_broker = self.life.phase() != Phase::Handshaking;
                error.into_failure(&self.peer, is_broker)
            }
        }
    }
}

impl Pending {
    /// The memory for its answer.
    fn room(&self) -> Room {
        match &self.asker {
            Asker::Handshake(_) => OF_HANDSHAKE,
            Asker::Caller { room, .. } => *room,
        }
    }
}

impl Asker {
    /// Tells a caller of `failure`. The failure of the handshake itself is the one that `open` returns.
    fn fail(self, failure: &Failure) {
        match self {
            Self::Handshake(_) => {}
            Self::Caller { reply, .. } => reply.send(Err(failure.clone())),
        }
    }
}
