//! One connection: requests are read, handled and answered in order, one at a time, as Kafka does it.
//!
//! ```text
//!  read ─▶ frame ─▶ handle ─▶ write ─▶ read …
//!                      └▶ parked: until it is ready, its deadline, or the client closes the connection
//! ```
//!
//! Nothing is read while a request is being answered. So a client that does not read its answers cannot send more
//! requests, because TCP stops it, and never has more than one answer in memory.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use milena_wire::WireFrame;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest, Ready};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::ServerLimits;
use super::budget::Lease;
use super::hangup::{HTTP_ANSWER, Hangup};
use super::heavy::{Done, Turn};
use super::intake::{HEADER_BYTES_MIN, Intake};
use super::shared::{Shared, Slot, now};
use super::stream::Stream;
use crate::api;
use crate::machine::Answer;
use crate::parked::Parked;
use crate::peer::Peer;
use crate::refused::Refused;
use crate::tls;

/// How long an idle connection keeps a large buffer for the next request. It is shorter than the time after which a
/// connection counts as stalled, or a client that pauses would lose its connection because of the buffer.
const BUFFER_KEPT: Duration = Duration::from_millis(250);
/// How often a connection whose request waits is looked at, if another request hides the end of its stream.
const HANGUP_INTERVAL: Duration = Duration::from_millis(500);

/// The largest frame of a client that has not authenticated (`sasl.server.max.receive.size`, which is 512 KiB in Kafka).
/// Tokens of a few kilobytes are the largest that any mechanism has.
const UNAUTHENTICATED_BYTES_MAX: usize = 64 * 1024;

/// The machine's answer, and the turn that the request took if it was heavy.
type Run = (Result<Answer, Refused>, Option<Turn>);

/// A client's connection to a node.
pub(super) struct Connection {
    peer: Peer,
    stream: Stream,
    intake: Intake,
    lease: Lease,
    slot: Slot,
    /// Whether the client may have yet to authenticate.
    is_guarded: bool,
}

impl Connection {
    /// Serves a connection from its first byte to its last one.
    pub(super) async fn begin(mut peer: Peer, stream: TcpStream, slot: Slot) {
        match open(&mut peer, stream, slot.shared()).await {
            Ok(stream) => Box::pin(Self::new(peer, stream, slot).serve()).await,
            Err(reason) => slot.shared().hangups.note(&peer, &reason),
        }
    }

    fn new(peer: Peer, stream: Stream, slot: Slot) -> Self {
        let shared = slot.shared();
        let intake = Intake::new(shared.limits.request_bytes_max);
        let lease = shared.budget.lease();
        Self { peer, stream, intake, lease, slot, is_guarded: true }
    }

    /// Keeps the frames small until the client has authenticated.
    fn guard(&mut self) {
        let session = self.peer.session();
        let request_bytes_max = self.limits().request_bytes_max;
        self.is_guarded = !session.is_admitted();
        if !self.is_guarded {
            self.slot.admit();
        }
        if self.is_guarded {
            let bytes_min = if session.takes_raw_token() { 0 } else { HEADER_BYTES_MIN };
            self.intake.limit(bytes_min..=UNAUTHENTICATED_BYTES_MAX.min(request_bytes_max));
        } else {
            self.intake.limit(HEADER_BYTES_MIN..=request_bytes_max);
        }
    }

    /// Serves the connection until it ends, and logs why it ended.
    async fn serve(mut self) {
        let reason = self.serve_all().await;
        self.stream.end().await;
        self.shared().hangups.note(&self.peer, &reason);
    }

    async fn serve_all(&mut self) -> Hangup {
        let shed = self.lease.shed();
        let served = async {
            loop {
                if let Err(reason) = self.serve_one().await {
                    break reason;
                }
            }
        };
        let reason = tokio::select! {
            reason = served => reason,
            () = shed => return Hangup::Shed,
        };
        if matches!(reason, Hangup::Stranger(protocol) if protocol.starts_with("HTTP")) {
            let _ = timeout(Duration::from_secs(1), self.stream.write_all(HTTP_ANSWER)).await;
        }
        reason
    }

    async fn serve_one(&mut self) -> Result<(), Hangup> {
        if self.is_guarded {
            self.guard();
        }
        let frame = self.read_frame().await?;
        let mut answer = self.handle(frame).await?;
        self.shared().count_request();
        loop {
            match answer {
                Answer::Now(frame) => {
                    self.write(frame).await?;
                    return match self.peer.denied() {
                        None => self.sit_out().await,
                        Some(reason) => Err(Hangup::Denied(reason.to_owned())),
                    };
                }
                Answer::Nothing => return self.sit_out().await,
                Answer::Later(parked) => answer = self.wait(parked).await?,
            }
        }
    }

    /// Reads nothing more as long as the client is above a quota (KIP-219). Meanwhile the connection holds no more memory than
    /// an idle one.
    async fn sit_out(&mut self) -> Result<(), Hangup> {
        let Some(until) = self.peer.muted_until() else { return Ok(()) };
        self.intake.shrink();
        self.lease.hold(self.intake.allocated(), 0).await;
        let idle_timeout = self.limits().idle_timeout;
        tokio::select! {
            () = tokio::time::sleep_until(until.into()) => {}
            reason = hung_up(self.stream.socket()) => return Err(reason),
            () = tokio::time::sleep(idle_timeout) => return Err(Hangup::Idle),
        }
        // The connection made no progress because it was not read.
        self.lease.mark();
        Ok(())
    }

    /// Handles a request and reserves memory for its answer. The size of an answer is known only when it is made. If it
    /// does not fit into the budget it is dropped, and made again when there is room: hundreds of connections that wait
    /// for room would hold all the memory otherwise.
    async fn handle(&mut self, frame: Bytes) -> Result<Answer, Hangup> {
        let api = api::of(&frame);
        let brings_records = api.is_some_and(|api| api.brings_records);
        let fetch_bytes_max = if brings_records { self.reserve_fetch().await } else { 0 };
        let is_heavy = api.is_some_and(|api| (api.is_heavy)(&self.shared().machine.parts, frame.len()));
        loop {
            let (answer, turn) = self.run(&frame, is_heavy, fetch_bytes_max).await?;
            let answer = answer.map_err(Hangup::Refused)?;
            if !api.is_some_and(|api| api.is_repeatable) {
                drop(frame);
                return self.hold_answer(answer);
            }
            let Answer::Now(answered) = &answer else { return Ok(answer) };
            let bytes = self.answer_bytes(answered);
            if self.lease.try_hold(self.intake.allocated() + bytes, bytes) {
                return Ok(answer);
            }
            drop((answer, turn));
            self.lease.hold_for_answer(self.intake.allocated() + bytes, bytes).await;
        }
    }

    /// Has the machine handle a request. Only the time of that is charged, and not the wait behind the requests of others.
    async fn run(&mut self, frame: &Bytes, is_heavy: bool, fetch_bytes_max: usize) -> io::Result<Run> {
        if !is_heavy {
            let machine = &self.slot.shared().machine;
            let began = machine.wants_request_times().then(Instant::now);
            let answer = machine.handle_lightly(&mut self.peer, frame, now(), fetch_bytes_max);
            if let Some(began) = began {
                machine.charge(&self.peer, began.elapsed(), now());
            }
            if let Some(answer) = answer.transpose() {
                return Ok((answer, None));
            }
        }
        let (mut peer, request, shared) = (self.peer.lend(), frame.clone(), Arc::clone(self.shared()));
        let run = move || {
            let answer = shared.machine.handle(&mut peer, &request, now(), fetch_bytes_max);
            (answer, peer)
        };
        let Done { value: (answer, peer), turn, took } = self.shared().heavy.run(run).await?;
        self.peer = peer;
        self.shared().machine.charge(&self.peer, took, now());
        Ok((answer, Some(turn)))
    }

    /// Reserves memory for an answer that cannot be made again, or ends the connection.
    fn hold_answer(&mut self, answer: Answer) -> Result<Answer, Hangup> {
        let Answer::Now(frame) = &answer else { return Ok(answer) };
        let bytes = self.answer_bytes(frame);
        if self.lease.hold_now(self.intake.allocated() + bytes, bytes) {
            Ok(answer)
        } else {
            Err(Hangup::Shed)
        }
    }

    /// The memory that an answer takes. Records of a log in memory are slices of the log and cost nothing, until TLS copies
    /// them.
    fn answer_bytes(&self, frame: &WireFrame) -> usize {
        let own = if self.limits().disk_fetch_bytes > 0 { frame.len() } else { frame.own_bytes() };
        own + frame.len().min(self.stream.copied_bytes_max())
    }

    /// Waits with a parked request. Meanwhile the connection holds no more memory than an idle one.
    async fn wait(&mut self, parked: Parked) -> Result<Answer, Hangup> {
        self.intake.shrink();
        self.lease.hold(self.intake.allocated(), 0).await;
        let deadline = parked.deadline().into();
        let idle_timeout = parked.idle_timeout(self.limits().idle_timeout);
        tokio::select! {
            _ = timeout_at(deadline, poll_fn(|context| parked.poll(context))) => {}
            reason = hung_up(self.stream.socket()) => return Err(reason),
            // The client may ask for weeks of waiting and then vanish without closing the connection.
            () = tokio::time::sleep(idle_timeout) => return Err(Hangup::Idle),
        }
        // The connection made no progress because the client asked it to wait. That does not count as a stall.
        self.lease.mark();
        let fetch_bytes_max = self.reserve_fetch().await;
        let machine = &self.slot.shared().machine;
        let answer = machine.resume(&mut self.peer, parked, now(), fetch_bytes_max);
        self.hold_answer(answer.map_err(Hangup::Refused)?)
    }

    /// Reserves memory for the records that a fetch may read from disk. Returns how many bytes that is.
    async fn reserve_fetch(&mut self) -> usize {
        if self.limits().disk_fetch_bytes == 0 {
            return usize::MAX;
        }
        let bytes = self.limits().disk_fetch_bytes;
        self.lease.hold_for_answer(self.intake.allocated() + bytes, bytes).await;
        bytes
    }

    async fn read_frame(&mut self) -> Result<Bytes, Hangup> {
        let started = Instant::now();
        // Between requests a connection may stay idle for long. Once the first bytes of a request are there, the rest
        // must come within the stall timeout.
        let mut deadline = started + self.limits().idle_timeout;
        let mut is_idle = self.intake.pending() == 0;
        if !is_idle {
            deadline = started + self.limits().stall_timeout;
        }
        loop {
            if let Some(frame) = self.intake.next_frame()? {
                self.lease.mark();
                return Ok(frame);
            }
            self.make_room().await;
            // A large buffer is given back when no request follows soon, or idle connections would hold the budget.
            let read = if is_idle && self.intake.is_oversized() {
                match timeout(BUFFER_KEPT, self.stream.read_buf(self.intake.buffer())).await {
                    Ok(read) => Ok(read),
                    Err(_) => {
                        self.intake.shrink();
                        self.lease.hold(0, 0).await;
                        continue;
                    }
                }
            } else {
                timeout_at(deadline, self.stream.read_buf(self.intake.buffer())).await
            };
            let pending = self.intake.pending();
            match read {
                Ok(Ok(0)) if pending == 0 => return Err(Hangup::Done),
                Ok(Ok(0)) => return Err(Hangup::CutOff { bytes: pending }),
                Ok(Ok(bytes)) => {
                    if is_idle {
                        self.lease.mark();
                    }
                    // Less than PROGRESS_BYTES does not move the deadline: a peer that sends a byte a second has
                    // stalled.
                    if self.lease.moved(bytes) || is_idle {
                        deadline = Instant::now() + self.limits().stall_timeout;
                    }
                    is_idle = false;
                }
                Ok(Err(error)) => return Err(error.into()),
                Err(_) if is_idle => return Err(Hangup::Idle),
                Err(_) => return Err(Hangup::SlowRequest { bytes: pending }),
            }
        }
    }

    async fn make_room(&mut self) {
        if self.intake.has_room() {
            return;
        }
        // The memory is reserved before the buffer grows, and once more after that: it may have grown further.
        let wanted = self.intake.wanted();
        let claim = self.intake.announced();
        self.lease.hold(wanted.max(self.intake.allocated()), claim).await;
        self.intake.grow(wanted);
        self.lease.hold(self.intake.allocated(), claim).await;
    }

    async fn write(&mut self, mut frame: WireFrame) -> Result<(), Hangup> {
        let stall_timeout = self.limits().stall_timeout;
        let mut deadline = Instant::now() + stall_timeout;
        while frame.has_remaining() {
            match timeout_at(deadline, self.stream.write_buf(&mut frame)).await {
                Ok(Ok(0)) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Ok(Ok(bytes)) => {
                    self.shared().count_sent(bytes);
                    if self.lease.moved(bytes) {
                        deadline = Instant::now() + stall_timeout;
                    }
                }
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => return Err(Hangup::SlowReader { bytes: frame.remaining() }),
            }
        }
        if self.stream.holds_back() {
            match timeout_at(deadline, self.stream.flush()).await {
                Ok(flushed) => flushed?,
                Err(_) => return Err(Hangup::SlowReader { bytes: 0 }),
            }
        }
        self.lease.mark();
        self.lease.hold(self.intake.allocated(), 0).await;
        Ok(())
    }

    fn shared(&self) -> &Arc<Shared> {
        self.slot.shared()
    }

    fn limits(&self) -> &ServerLimits {
        &self.shared().limits
    }
}

/// Makes a connection ready for requests: in TLS, that is the handshake, and the principal of the client's certificate.
async fn open(peer: &mut Peer, stream: TcpStream, shared: &Shared) -> Result<Stream, Hangup> {
    // Answers are written whole, so Nagle's algorithm would only delay them.
    stream.set_nodelay(true)?;
    let Some(entrance) = &shared.entrances[peer.listener()] else { return Ok(Stream::Plain(stream)) };
    let stream = entrance.acceptor.accept(stream, shared.limits.stall_timeout).await?;
    if let Some(certificate) = stream.client_certificate() {
        let unreadable =
            || Hangup::Denied("the subject of the client's certificate cannot be read".to_owned());
        let subject = tls::subject(certificate).ok_or_else(unreadable)?;
        let unmatched = || Hangup::Denied(format!("no principal mapping rule matches {subject:?}"));
        let name = entrance.rules.name(&subject).ok_or_else(unmatched)?;
        peer.session_mut().certify(&name);
    }
    Ok(stream)
}

/// Ends when the client closes the connection. If the client has sent another request, which is read later, the system is asked
/// now and then whether the end follows it.
async fn hung_up(stream: &TcpStream) -> Hangup {
    loop {
        match stream.peek(&mut [0]).await {
            Ok(0) => return Hangup::Done,
            Ok(_) => {}
            Err(error) => return error.into(),
        }
        if stream.ready(Interest::READABLE).await.is_ok_and(Ready::is_read_closed) {
            return Hangup::Done;
        }
        tokio::time::sleep(HANGUP_INTERVAL).await;
    }
}
