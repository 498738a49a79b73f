//! A TLS connection over another byte stream. It drives rustls without rustls' own buffers: what arrives is decrypted where it
//! lies and goes from there to the reader, and what is written is encrypted from where the writer has it.
//!
//! ```text
//! io ─▶ incoming (TLS records) ─▶ rustls ─▶ the reader's buffer; `plain` keeps what does not fit
//! io ◀─ outgoing (TLS records) ◀─ rustls ◀─ the writer's slices; less than a record is gathered
//! ```

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::{ClientConfig, Error};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::material::Open;
use super::refusal::{About, as_io};
use crate::connect::Transport;

pub(super) struct TlsStream {
    io: Box<dyn Transport>,
    session: UnbufferedClientConnection,
    incoming: Incoming,
    outgoing: Outgoing,
    /// What was decrypted and found no room in the reader's buffer.
    plain: Plain,
    /// A record that is gathered from several slices.
    gathered: Vec<u8>,
    /// What went wrong after bytes that were handed to the reader first.
    failure: Option<io::Error>,
    has_failed: bool,
    about: About,
    /// Says for as long as this is here that the connection is open.
    _open: Option<Open>,
}

/// TLS records that have arrived, or parts of them.
#[derive(Default)]
struct Incoming {
    buffer: Vec<u8>,
    filled: Range<usize>,
}

/// TLS records that are to be sent.
#[derive(Default)]
struct Outgoing {
    buffer: Vec<u8>,
    filled: Range<usize>,
}

#[derive(Default)]
struct Plain {
    buffer: Vec<u8>,
    at: usize,
}

/// What is next after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Another step.
    Again,
    /// More bytes of the peer; the handshake is not complete.
    Handshaking,
    /// More bytes of the peer, or something to write.
    Open,
    /// The peer has ended the connection.
    Closed,
}

/// Why a handshake was not completed.
#[derive(Debug)]
pub(super) enum Unfinished {
    /// The peer closed the connection, having sent this many bytes.
    Closed(usize),
    Failed(io::Error),
}

/// The most plain text in a TLS record.
const RECORD_BYTES: usize = 16 << 10;
/// A read brings this much at first. A connection that fills it gets more, up to four records.
const INCOMING_BYTES_MIN: usize = 4 << 10;
const INCOMING_BYTES_MAX: usize = 68 << 10;
/// As much plain text is encrypted before it is sent: four records.
const AT_ONCE: usize = 4 * RECORD_BYTES;
/// What TLS adds to a record at most, with room for messages of its own that wait.
const OVERHEAD: usize = 64;

impl TlsStream {
    pub(super) fn new(
        io: Box<dyn Transport>,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        about: About,
    ) -> Result<Self, Error> {
        Ok(Self {
            io,
            session: UnbufferedClientConnection::new(config, name)?,
            incoming: Incoming::default(),
            outgoing: Outgoing::default(),
            plain: Plain::default(),
            gathered: Vec::new(),
            failure: None,
            has_failed: false,
            about,
            _open: None,
        })
    }

    /// The handshake is completed, and the connection is open until this is dropped.
    pub(super) fn keep(&mut self, open: Open) {
        self._open = Some(open);
    }

    /// Completes the handshake.
    pub(super) async fn handshake(&mut self) -> Result<(), Unfinished> {
        poll_fn(|cx| self.poll_handshake(cx)).await
    }

    /// The certificates that the peer has shown, its own one first.
    pub(super) fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        self.session.peer_certificates().unwrap_or_default()
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unfinished>> {
        loop {
            match self.step(cx, None).map_err(Unfinished::Failed)? {
                Step::Again => {}
                Step::Open => {
                    ready!(self.poll_send(cx)).map_err(Unfinished::Failed)?;
                    return Poll::Ready(Ok(()));
                }
                Step::Handshaking => {
                    ready!(self.poll_send(cx)).map_err(Unfinished::Failed)?;
                    if ready!(self.poll_fill(cx)).map_err(Unfinished::Failed)? == 0 {
                        return Poll::Ready(Err(Unfinished::Closed(self.about.first.len())));
                    }
                }
                Step::Closed => return Poll::Ready(Err(Unfinished::Closed(self.about.first.len()))),
            }
        }
    }

    /// Lets rustls do one thing. Application data goes to the end of `reader` as far as it fits.
    fn step(&mut self, cx: &mut Context<'_>, reader: Option<&mut ReadBuf<'_>>) -> io::Result<Step> {
        match self.try_step(reader) {
            Ok(step) => Ok(step),
            Err(error) => {
                // The peer is told why, if its socket takes the alert now.
                if let Ok(ConnectionState::EncodeTlsData(data)) =
                    self.session.process_tls_records(&mut []).state
                {
                    self.outgoing.encode(data);
                    let _ = self.poll_send(cx);
                }
                Err(as_io(&error, &self.about))
            }
        }
    }

    fn try_step(&mut self, mut reader: Option<&mut ReadBuf<'_>>) -> Result<Step, Error> {
        let Self { session, incoming, outgoing, plain, has_failed, .. } = self;
        // rustls asserts that a connection that has failed is let alone.
        if *has_failed {
            return Err(Error::General("the TLS connection has failed before".into()));
        }
        let UnbufferedStatus { mut discard, state } = session.process_tls_records(incoming.bytes());
        let step = match state {
            Err(error) => {
                *has_failed = true;
                Err(error)
            }
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    discard += record.discard;
                    plain.take(record.payload, reader.as_deref_mut());
                }
                Ok(Step::Again)
            }
            Ok(ConnectionState::EncodeTlsData(data)) => {
                outgoing.encode(data);
                Ok(Step::Again)
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                // `outgoing` keeps the order, whatever is added to it before it is sent.
                data.done();
                Ok(Step::Again)
            }
            Ok(ConnectionState::BlockedHandshake) => Ok(Step::Handshaking),
            Ok(ConnectionState::WriteTraffic(_)) => Ok(Step::Open),
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Ok(Step::Closed),
            Ok(_) => Err(Error::General("rustls is in a state that a client does not have".into())),
        };
        incoming.discard(discard);
        step
    }

    /// Sends what is encrypted.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.filled.is_empty() {
            let bytes = &self.outgoing.buffer[self.outgoing.filled.clone()];
            match ready!(Pin::new(&mut *self.io).poll_write(cx, bytes)) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(written) => self.outgoing.sent(written),
                // A peer that closes the connection says why before. It can be read although nothing can be written.
                Err(error) => return Poll::Ready(Err(self.last_words(cx).unwrap_or(error))),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The alert that has arrived, if there is one.
    fn last_words(&mut self, cx: &mut Context<'_>) -> Option<io::Error> {
        loop {
            match self.try_step(None) {
                Ok(Step::Again) => {}
                Ok(Step::Closed) => return None,
                Ok(Step::Handshaking | Step::Open) => match self.poll_fill(cx) {
                    Poll::Ready(Ok(1..)) => {}
                    _ => return None,
                },
                Err(error) => return Some(as_io(&error, &self.about)),
            }
        }
    }

    /// Reads what has arrived. Zero bytes at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut free = ReadBuf::new(self.incoming.free());
        ready!(Pin::new(&mut *self.io).poll_read(cx, &mut free))?;
        let bytes = free.filled().len();
        // rustls decrypts in place, so that they are gone afterwards.
        let missing = 8usize.saturating_sub(self.about.first.len()).min(bytes);
        self.about.first.extend_from_slice(&free.filled()[..missing]);
        self.incoming.filled.end += bytes;
        Poll::Ready(Ok(bytes))
    }

    /// Encrypts up to [`AT_ONCE`] bytes of `slices`, and answers how many.
    fn encrypt(&mut self, slices: &[IoSlice<'_>]) -> Result<usize, Error> {
        let Self { session, incoming, outgoing, gathered, .. } = self;
        let UnbufferedStatus { discard, state } = session.process_tls_records(incoming.bytes());
        let ConnectionState::WriteTraffic(mut traffic) = state? else {
            return Err(Error::General("rustls does not take what is to be written".into()));
        };
        let mut slices = slices.iter().map(|slice| &**slice);
        let mut slice: &[u8] = &[];
        let mut taken = 0;
        while taken < AT_ONCE {
            if slice.is_empty() {
                let Some(next) = slices.next() else { break };
                slice = next;
                continue;
            }
            // Whole records are encrypted from where they are.
            let whole = (slice.len() / RECORD_BYTES * RECORD_BYTES).min(AT_ONCE - taken);
            if whole > 0 {
                let (records, rest) = slice.split_at(whole);
                outgoing.encrypt(&mut traffic, records)?;
                slice = rest;
                taken += whole;
                continue;
            }
            // A record of its own for each small slice would cost more than to copy them together.
            gathered.clear();
            loop {
                let (part, rest) = slice.split_at(slice.len().min(RECORD_BYTES - gathered.len()));
                gathered.extend_from_slice(part);
                slice = rest;
                if gathered.len() == RECORD_BYTES {
                    break;
                }
                let Some(next) = slices.next() else { break };
                slice = next;
            }
            outgoing.encrypt(&mut traffic, gathered)?;
            taken += gathered.len();
        }
        incoming.discard(discard);
        Ok(taken)
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        reader: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = reader.filled().len();
        this.plain.give(reader);
        while reader.remaining() > 0 {
            if let Some(error) = this.failure.take() {
                return Poll::Ready(Err(error));
            }
            match this.step(cx, Some(reader)) {
                Ok(Step::Again) => {}
                // What has arrived is handed over first.
                Err(error) if reader.filled().len() > before => {
                    this.failure = Some(error);
                    break;
                }
                Err(error) => return Poll::Ready(Err(error)),
                Ok(_) if reader.filled().len() > before => break,
                Ok(Step::Closed) => break,
                Ok(Step::Handshaking | Step::Open) => {
                    // A peer may close a connection without an alert: a frame tells its length, so that nothing is cut off
                    // unnoticed.
                    if ready!(this.poll_fill(cx))? == 0 {
                        break;
                    }
                }
            }
        }
        // The peer may have asked for new keys.
        if !this.outgoing.filled.is_empty()
            && let Poll::Ready(Err(error)) = this.poll_send(cx)
        {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        // What was encrypted before goes first, and bounds the memory.
        ready!(this.poll_send(cx))?;
        // rustls takes what is to be written when it has seen all that has arrived.
        loop {
            match this.step(cx, None)? {
                Step::Again => {}
                Step::Open => break,
                Step::Handshaking | Step::Closed => {
                    return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
                }
            }
        }
        let taken = this.encrypt(slices).map_err(|error| as_io(&error, &this.about))?;
        // What the socket does not take now goes with the next write or flush.
        match this.poll_send(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(taken)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut *self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.poll_send(cx))?;
        let Self { session, incoming, outgoing, .. } = this;
        let UnbufferedStatus { discard, state } = session.process_tls_records(incoming.bytes());
        if let Ok(ConnectionState::WriteTraffic(mut traffic)) = state {
            let notified = traffic.queue_close_notify(outgoing.free(RECORD_BYTES));
            outgoing.filled.end += notified.unwrap_or(0);
        }
        incoming.discard(discard);
        ready!(this.poll_send(cx))?;
        Pin::new(&mut *this.io).poll_shutdown(cx)
    }
}

impl Incoming {
    fn bytes(&mut self) -> &mut [u8] {
        &mut self.buffer[self.filled.clone()]
    }

    fn discard(&mut self, bytes: usize) {
        self.filled.start += bytes;
        if self.filled.is_empty() {
            self.filled = 0..0;
        }
    }

    /// The room for what arrives next. There is always some: a record is shorter than the buffer, and longer messages of
    /// the handshake are refused by rustls.
    fn free(&mut self) -> &mut [u8] {
        // The last read filled the buffer, or a record is longer than it.
        if self.filled.end == self.buffer.len() {
            self.buffer.copy_within(self.filled.clone(), 0);
            self.filled = 0..self.filled.len();
            let larger = (self.buffer.len() * 4).clamp(INCOMING_BYTES_MIN, INCOMING_BYTES_MAX);
            if larger > self.buffer.len() {
                self.buffer.resize(larger, 0);
            }
        }
        &mut self.buffer[self.filled.end..]
    }
}

impl Outgoing {
    /// The room for `bytes` more.
    fn free(&mut self, bytes: usize) -> &mut [u8] {
        if self.buffer.len() - self.filled.end < bytes {
            self.buffer.resize(self.filled.end + bytes, 0);
        }
        &mut self.buffer[self.filled.end..]
    }

    /// Adds a message of TLS itself.
    fn encode(&mut self, mut data: EncodeTlsData<'_, ClientConnectionData>) {
        let mut room = 0;
        loop {
            match data.encode(self.free(room)) {
                Ok(bytes) => self.filled.end += bytes,
                Err(EncodeError::InsufficientSize(error)) if error.required_size > room => {
                    room = error.required_size;
                    continue;
                }
                Err(_) => {}
            }
            return;
        }
    }

    /// Adds records with application data.
    fn encrypt(
        &mut self,
        traffic: &mut WriteTraffic<'_, ClientConnectionData>,
        plain: &[u8],
    ) -> Result<(), Error> {
        let mut room = plain.len() + plain.len().div_ceil(RECORD_BYTES) * OVERHEAD;
        loop {
            match traffic.encrypt(plain, self.free(room)) {
                Ok(bytes) => {
                    self.filled.end += bytes;
                    return Ok(());
                }
                Err(EncryptError::InsufficientSize(error)) if error.required_size > room => {
                    room = error.required_size;
                }
                Err(_) => return Err(Error::EncryptError),
            }
        }
    }

    fn sent(&mut self, bytes: usize) {
        self.filled.start += bytes;
        if self.filled.is_empty() {
            self.filled = 0..0;
        }
    }
}

impl Plain {
    /// Hands `bytes` to the reader, and keeps what does not fit.
    fn take(&mut self, bytes: &[u8], reader: Option<&mut ReadBuf<'_>>) {
        let mut rest = bytes;
        if self.buffer.is_empty()
            && let Some(reader) = reader
        {
            let (fits, kept) = bytes.split_at(bytes.len().min(reader.remaining()));
            reader.put_slice(fits);
            rest = kept;
        }
        self.buffer.extend_from_slice(rest);
    }

    /// Hands over what was kept.
    fn give(&mut self, reader: &mut ReadBuf<'_>) {
        let kept = &self.buffer[self.at..];
        let bytes = kept.len().min(reader.remaining());
        reader.put_slice(&kept[..bytes]);
        self.at += bytes;
        if self.at == self.buffer.len() {
            self.buffer.clear();
            self.at = 0;
        }
    }
}
