//! An established connection: requests go out as they come, responses come back in order, all in one task.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use milena_core::{BrokerVersions, CorrelationId, Failure, Handshake, InFlight, Instant, Step};
use milena_messages::header::ResponseHeader;
use milena_messages::{ApiKey, Message};
use milena_wire::{Reader, Str, WireFrame, Writer};
use tokio::sync::mpsc;

use super::call::{Answer, AnyRequest, Call, Reply, Typed, encode_frame, request_header};
use super::frames::{Frames, FramesError};
use super::link::LinkSettings;
use crate::clock::Clock;
use crate::connect::Transport;

/// A connection whose peer's versions are known.
pub(super) struct Connection {
    stream: Box<dyn Transport>,
    frames: Frames,
    peer: Arc<str>,
    client_id: Str,
    clock: Clock,
    versions: BrokerVersions,
    in_flight: InFlight<Pending>,
    outgoing: VecDeque<Outgoing>,
    /// When the response that is arriving began to, if it is large.
    began: Option<Instant>,
    /// When this was last looked at: what is there then came before we read it.
    polled_at: Instant,
    /// The memory of a frame that was sent, for the next one.
    spare: Option<Writer>,
}

/// A request whose response is to come.
struct Pending {
    api: ApiKey,
    version: i16,
    timeout: Duration,
    answer_bytes_expected: usize,
    reply: Reply,
}

/// A frame being written.
struct Outgoing {
    frame: WireFrame,
    unanswered: Option<Unanswered>,
}

/// A request that gets no response.
struct Unanswered {
    version: i16,
    /// When it is to be written at the latest: nothing else tells that a peer takes no bytes.
    deadline: Instant,
    timeout: Duration,
    /// Whom to tell when it is written.
    reply: Reply,
}

/// Why a connection ended.
pub(super) enum End {
    /// Nobody needs it any more.
    Released,
    /// The peer closed it while nothing was under way.
    Idle,
    /// It broke. Everything in flight has been told.
    Broken,
}

/// So many requests may wait for responses on one connection. A broker works on one at a time.
const IN_FLIGHT_MAX: usize = 128;
/// A larger frame's memory is not kept for the next one.
const SPARE_BYTES_MAX: usize = 16 << 10;
/// Slices handed to one vectored write; Linux takes 1024.
const SLICES: usize = 64;

impl Connection {
    /// Learns the peer's versions. The caller bounds the time, and decides by `handshake` what follows a failure.
    pub(super) async fn open(
        settings: &LinkSettings,
        stream: Box<dyn Transport>,
        peer: Arc<str>,
        handshake: &mut Handshake,
    ) -> Result<Self, Failure> {
        let mut connection = Self {
            stream,
            frames: Frames::new(settings.pool.clone(), settings.frame_bytes_max),
            peer,
            client_id: settings.client_id.clone(),
            clock: settings.clock.clone(),
            versions: BrokerVersions::default(),
            in_flight: InFlight::new(),
            outgoing: VecDeque::new(),
            began: None,
            polled_at: settings.clock.now(),
            spare: None,
        };
        loop {
            let (request, version) = handshake.request();
            let body = connection.exchange(&Typed { request, version_max: version }, version).await?;
            if let Step::Done(versions) = handshake.handle_response(&connection.peer, &body)? {
                connection.versions = versions;
                return Ok(connection);
            }
        }
    }

    /// Sends one request and waits for its response, with nothing else under way.
    async fn exchange(&mut self, request: &dyn AnyRequest, version: i16) -> Result<Bytes, Failure> {
        let frame = self.encode(request, version)?;
        self.outgoing.push_back(Outgoing { frame, unanswered: None });
        let (reply, response) = Reply::channel();
        let api = request.api();
        let pending = Pending { api, version, timeout: Duration::ZERO, answer_bytes_expected: 0, reply };
        self.in_flight.push(pending, Instant::NEVER);
        let outcome = poll_fn(|cx| {
            if let Poll::Ready(Err(failure)) = self.poll_write(cx) {
                return Poll::Ready(Err(failure));
            }
            self.poll_read(cx)
        });
        outcome.await?;
        response.await.unwrap_or(Err(Failure::Closed)).map(|answer| answer.body)
    }

    /// Serves `first` and then `calls` until the connection ends or nobody can call any more.
    pub(super) async fn run(mut self, first: Call, calls: &mut mpsc::Receiver<Call>) -> End {
        self.start(first);
        let end = loop {
            let (clock, deadline) = (self.clock.clone(), self.poll_timeout());
            tokio::select! {
                // What has arrived is taken in before deadlines are judged, so that a program that was stopped for a while
                // does not give up answers that are there. The deadline is looked at all the same: calls in flight are
                // limited, answers come in order, and so the oldest call is answered or nothing can be done at last.
                biased;
                end = poll_fn(|cx| self.poll(cx, calls)) => match end {
                    Some(end) => break end,
                    // The earliest deadline may have changed.
                    None => continue,
                },
                () = clock.sleep_until(deadline) => {
                    if let Some(failure) = self.overdue() {
                        break Err(failure);
                    }
                }
            }
        };
        match end {
            Ok(end) => end,
            Err(failure) => {
                self.fail_all(&failure);
                End::Broken
            }
        }
    }

    /// Does everything that can be done now. Ready with none when a request went out or was answered.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        calls: &mut mpsc::Receiver<Call>,
    ) -> Poll<Option<Result<End, Failure>>> {
        self.polled_at = self.clock.now();
        let mut progress = false;
        while self.in_flight.len() < IN_FLIGHT_MAX && self.outgoing.len() < IN_FLIGHT_MAX {
            match calls.poll_recv(cx) {
                Poll::Ready(Some(call)) => {
                    progress = true;
                    self.start(call);
                }
                Poll::Ready(None) if self.in_flight.is_empty() && self.outgoing.is_empty() => {
                    return Poll::Ready(Some(Ok(End::Released)));
                }
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        if let Poll::Ready(Err(failure)) = self.poll_write(cx) {
            return Poll::Ready(Some(Err(failure)));
        }
        loop {
            match self.poll_read(cx) {
                Poll::Ready(Ok(())) => progress = true,
                Poll::Ready(Err(failure)) if self.in_flight.is_empty() && self.outgoing.is_empty() => {
                    // Closing an idle connection is the broker's right (connections.max.idle.ms).
                    let is_idle = matches!(&failure, Failure::Lost { .. });
                    return Poll::Ready(Some(if is_idle { Ok(End::Idle) } else { Err(failure) }));
                }
                Poll::Ready(Err(failure)) => return Poll::Ready(Some(Err(failure))),
                Poll::Pending => break,
            }
        }
        if progress { Poll::Ready(None) } else { Poll::Pending }
    }

    /// Encodes a call and queues it for writing, or fails it.
    fn start(&mut self, call: Call) {
        if call.deadline <= self.clock.now() {
            let (peer, after) = (Arc::clone(&self.peer), call.timeout);
            return call.reply.send(Err(Failure::TimedOut { peer, after, sent: false }));
        }
        let mut begun = None;
        call.request.begin(&mut |request| begun = Some((request.api(), self.encode_for_peer(request))));
        // Of what was taken back, its caller has said what became of it.
        let Some((api, encoded)) = begun else { return };
        let (version, frame) = match encoded {
            Ok(encoded) => encoded,
            Err(failure) => return call.reply.send(Err(failure)),
        };
        if call.is_answered {
            let pending = Pending {
                api,
                version,
                timeout: call.timeout,
                answer_bytes_expected: call.answer_bytes_expected,
                reply: call.reply,
            };
            self.in_flight.push(pending, call.deadline);
            self.outgoing.push_back(Outgoing { frame, unanswered: None });
        } else {
            let Call { deadline, timeout, reply, .. } = call;
            let unanswered = Some(Unanswered { version, deadline, timeout, reply });
            self.outgoing.push_back(Outgoing { frame, unanswered });
        }
    }

    /// Encodes a request at the version that suits the peer.
    fn encode_for_peer(&mut self, request: &dyn AnyRequest) -> Result<(i16, WireFrame), Failure> {
        let version = request.choose(&self.versions).map_err(|error| Failure::NoCommonVersion {
            peer: Arc::clone(&self.peer),
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

    /// Writes until everything is out or the socket is full.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
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
                Err(error) => return Poll::Ready(Err(self.lost(&error.to_string()))),
            };
            self.advance(written);
        }
        // A transport that buffers must be told; TCP does nothing here.
        match ready!(Pin::new(&mut *self.stream).poll_flush(cx)) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(self.lost(&error.to_string()))),
        }
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
            if let Some(Unanswered { version, reply, .. }) = unanswered {
                reply.send(Ok(Answer {
                    body: Bytes::new(),
                    version,
                    peer: Arc::clone(&self.peer),
                    began: self.polled_at,
                }));
            }
        }
    }

    /// Reads one response and hands it over.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let expected = self.in_flight.front().map_or(0, |pending| pending.answer_bytes_expected);
        let frame = match self.frames.poll_next(cx, &mut *self.stream, expected) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                if self.began.is_none() && self.frames.is_within_large() {
                    self.began = Some(self.polled_at);
                }
                return Poll::Pending;
            }
        };
        Poll::Ready(frame.map_err(|error| self.frames_failure(error)).and_then(|frame| self.dispatch(frame)))
    }

    fn dispatch(&mut self, mut frame: Bytes) -> Result<(), Failure> {
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
            pending.reply.send(Err(failure.clone()));
            return Err(failure);
        }
        let head_bytes = reader.offset();
        frame.advance(head_bytes);
        let began = self.began.take().unwrap_or(self.polled_at);
        let peer = Arc::clone(&self.peer);
        pending.reply.send(Ok(Answer { body: frame, version: pending.version, peer, began }));
        Ok(())
    }

    /// When something is overdue next.
    fn poll_timeout(&self) -> Option<Instant> {
        let unwritten = self.unanswered().map(|unanswered| unanswered.deadline).min();
        [self.in_flight.poll_timeout(), unwritten].into_iter().flatten().min()
    }

    /// What is being written and gets no response.
    fn unanswered(&self) -> impl Iterator<Item = &Unanswered> {
        self.outgoing.iter().filter_map(|outgoing| outgoing.unanswered.as_ref())
    }

    /// A response is overdue, or the peer takes no bytes: as everything goes in order, the connection is of no more use.
    fn overdue(&self) -> Option<Failure> {
        let (peer, now) = (Arc::clone(&self.peer), self.clock.now());
        if let Some(pending) = self.in_flight.overdue(now) {
            return Some(Failure::TimedOut { peer, after: pending.timeout, sent: true });
        }
        let stuck = self.unanswered().find(|unanswered| unanswered.deadline <= now)?;
        let reason = format!("it took no bytes within {:?}", stuck.timeout).into();
        Some(Failure::Lost { peer, reason, sent: true })
    }

    /// Tells everyone the cause. What was not written completely cannot have been acted upon.
    fn fail_all(&mut self, failure: &Failure) {
        let unwritten = self.outgoing.iter().filter(|outgoing| outgoing.unanswered.is_none()).count();
        let written = self.in_flight.len().saturating_sub(unwritten);
        for (index, pending) in self.in_flight.drain().enumerate() {
            pending.reply.send(Err(failure.clone().with_sent(index < written)));
        }
        for Unanswered { reply, .. } in self.outgoing.drain(..).filter_map(|outgoing| outgoing.unanswered) {
            reply.send(Err(failure.clone().with_sent(false)));
        }
    }

    #[cold]
    fn lost(&self, reason: &str) -> Failure {
        Failure::Lost { peer: Arc::clone(&self.peer), reason: reason.into(), sent: true }
    }

    #[cold]
    fn frames_failure(&self, error: FramesError) -> Failure {
        match error {
            FramesError::Closed => self.lost("the broker closed it"),
            FramesError::Io(error) => self.lost(&error.to_string()),
            FramesError::Truncated { bytes, needed } => {
                self.lost(&format!("the broker closed it after {bytes} of a response's {needed} bytes"))
            }
            FramesError::Framing(error) => {
                // Nothing but a Kafka broker's answer ends the handshake.
                let answers = self.in_flight.front().map(|pending| pending.api);
                let is_broker = answers.is_some_and(|api| api != ApiKey::ApiVersions);
                error.into_failure(&self.peer, is_broker)
            }
        }
    }
}
