//! A connection to a node, on a thread of its own: reads requests and writes answers in order.
//!
//! ```text
//!  Socket ─▶ head ─▶ Produce: batch headers, the rest dropped ─┐
//!                 ─▶ Fetch: session, look, wait ───────────────┼─▶ write, or with a delay: a second thread that
//!                 ─▶ anything else: decoded whole ─────────────┘   writes each answer when its time has come
//! ```

use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use milena_messages::fetch::FetchRequest;
use milena_messages::header::RequestHeader;
use milena_messages::{ApiKey, Message, Request};
use milena_wire::{DecodeError, EncodeError, Reader};

use super::answers::{self, SERVED};
use super::fetch::{self, Source};
use super::input::{Frame, Socket, invalid};
use super::response::Response;
use super::{Sink, group, produce, raw};

/// Accepts connections for as long as the process lives.
pub(super) fn serve(sink: &Arc<Sink>, node: usize, listener: &TcpListener) {
    for stream in listener.incoming() {
        let sink = Arc::clone(sink);
        let Ok(stream) = stream else { continue };
        thread::spawn(move || {
            // A client may close its connection at any time. Print other errors.
            if let Err(error) = Connection::new(sink, node, stream).and_then(Connection::serve)
                && !is_hangup(error.kind())
            {
                eprintln!("sink: node {node}: {error}");
            }
        });
    }
}

fn is_hangup(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

struct Connection {
    sink: Arc<Sink>,
    node: usize,
    socket: Socket,
    output: Output,
}

/// A request's head.
#[derive(Clone, Copy)]
struct Head {
    key: i16,
    version: i16,
    correlation_id: i32,
}

const HEAD_BYTES: usize = 8;

impl Connection {
    fn new(sink: Arc<Sink>, node: usize, stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        sink.counters.connection();
        let output = Output::new(stream.try_clone()?, sink.delays[node]);
        Ok(Self { sink, node, socket: Socket::new(stream), output })
    }

    fn serve(mut self) -> io::Result<()> {
        while let Some(bytes) = self.socket.frame_size()? {
            let arrived = Instant::now();
            let response = self.answer(bytes)?;
            if let Some(response) = response {
                self.sink.counters.response(response.bytes());
                self.output.send(response, arrived)?;
            }
        }
        Ok(())
    }

    fn answer(&mut self, bytes: usize) -> io::Result<Option<Response>> {
        let mut frame = Frame::new(&mut self.socket, bytes);
        let head = Head { key: frame.i16()?, version: frame.i16()?, correlation_id: frame.i32()? };
        self.sink.counters.request(head.key, bytes + 4);
        match head.key {
            raw::DISCARD => frame.skip(bytes - HEAD_BYTES).map(|()| None),
            raw::SYNC => Ok(Some(Response::raw(&Bytes::new()))),
            raw::READ => Ok(Some(Response::raw(&self.sink.raw))),
            _ => self.answer_kafka(bytes, head),
        }
    }

    fn answer_kafka(&mut self, bytes: usize, head: Head) -> io::Result<Option<Response>> {
        let key = ApiKey::from_i16(head.key).filter(|key| SERVED.contains(key));
        let Some(key) = key else { return Err(invalid(&format!("API {} is not served", head.key))) };
        let mut frame = Frame::new(&mut self.socket, bytes - HEAD_BYTES);
        if key == ApiKey::ApiVersions && !key.versions().contains(&head.version) {
            frame.skip(frame.left())?;
            return encoded(Response::of(&answers::api_versions_downgrade(), key, 0, head.correlation_id));
        }
        if !key.versions().contains(&head.version) {
            return Err(invalid(&format!("{key} v{} is not served", head.version)));
        }
        if key == ApiKey::Produce {
            return self.answer_produce(bytes, head);
        }
        let body: Bytes = [&[0; HEAD_BYTES][..], &frame.rest()?].concat().into();
        let mut reader = Reader::new(&body);
        decoded(RequestHeader::decode(&mut reader, key.request_header_version(head.version)))?;
        if key == ApiKey::Fetch {
            return self.answer_fetch(&mut reader, head);
        }
        self.answer_plain(key, &mut reader, head)
    }

    fn answer_produce(&mut self, bytes: usize, head: Head) -> io::Result<Option<Response>> {
        let mut frame = Frame::new(&mut self.socket, bytes - HEAD_BYTES);
        let request = produce::read(&mut frame, head.version)?;
        let answer = produce::answer(&request, self.node as i32, &self.sink.topics, &self.sink.counters);
        if request.acks == 0 {
            return Ok(None);
        }
        encoded(Response::of(&answer, ApiKey::Produce, head.version, head.correlation_id))
    }

    fn answer_fetch(&mut self, reader: &mut Reader<'_>, head: Head) -> io::Result<Option<Response>> {
        let sink = &self.sink;
        let request = decoded(FetchRequest::decode(reader, head.version))?;
        let sessions = || sink.sessions[self.node].lock().unwrap_or_else(PoisonError::into_inner);
        let taken = sessions().take(&request, &sink.topics);
        let mut session = match taken {
            Ok(session) => session,
            Err(error_code) => {
                let refused = milena_messages::fetch::FetchResponse { error_code, ..Default::default() };
                return encoded(Response::of(&refused, ApiKey::Fetch, head.version, head.correlation_id));
            }
        };
        let source = Source { topics: &sink.topics, batches: sink.batches.as_ref(), node: self.node as i32 };
        let found = fetch::look(&mut session, &request, &source, &sink.blank);
        if let Some(wait) = fetch::wait(&session, &request, &found) {
            thread::sleep(wait);
        }
        sink.counters.fetched(found.bytes);
        let place = (head.version, head.correlation_id);
        let response = fetch::respond(&session, found, &sink.topics, &sink.blank, place);
        sessions().put_back(session);
        encoded(response)
    }

    fn answer_plain(&self, key: ApiKey, reader: &mut Reader<'_>, head: Head) -> io::Result<Option<Response>> {
        match key {
            ApiKey::Metadata => self.plain(reader, head, answers::metadata),
            ApiKey::ListOffsets => self.plain(reader, head, answers::list_offsets),
            ApiKey::FindCoordinator => self.plain(reader, head, answers::find_coordinator),
            ApiKey::InitProducerId => self.plain(reader, head, answers::init_producer_id),
            ApiKey::OffsetForLeaderEpoch => self.plain(reader, head, answers::offset_for_leader_epoch),
            ApiKey::DescribeCluster => self.plain(reader, head, answers::describe_cluster),
            ApiKey::JoinGroup => self.plain(reader, head, group::join),
            ApiKey::SyncGroup => self.plain(reader, head, group::sync),
            ApiKey::Heartbeat => self.plain(reader, head, group::heartbeat),
            ApiKey::LeaveGroup => self.plain(reader, head, group::leave),
            ApiKey::OffsetCommit => self.plain(reader, head, group::commit),
            ApiKey::OffsetFetch => self.plain(reader, head, group::committed),
            _ => self.plain(reader, head, answers::api_versions),
        }
    }

    fn plain<R: Request>(
        &self,
        reader: &mut Reader<'_>,
        head: Head,
        answer: impl FnOnce(&Sink, &R) -> R::Response,
    ) -> io::Result<Option<Response>> {
        let request = decoded(R::decode(reader, head.version))?;
        encoded(Response::of(&answer(&self.sink, &request), R::KEY, head.version, head.correlation_id))
    }
}

fn encoded(response: Result<Response, EncodeError>) -> io::Result<Option<Response>> {
    response.map(Some).map_err(|error| invalid(&error.to_string()))
}

fn decoded<T>(message: Result<T, DecodeError>) -> io::Result<T> {
    message.map_err(|error| invalid(&error.to_string()))
}

/// The writer of answers.
enum Output {
    Now(TcpStream),
    /// Writes each answer after this delay from its request.
    Later(Duration, Sender<(Instant, Response)>),
}

impl Output {
    fn new(mut stream: TcpStream, delay: Duration) -> Self {
        if delay.is_zero() {
            return Self::Now(stream);
        }
        let (sender, answers) = mpsc::channel::<(Instant, Response)>();
        thread::spawn(move || {
            for (due, response) in answers {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                // The reader notices that the peer has closed the connection.
                if response.write_to(&mut stream).is_err() {
                    break;
                }
            }
        });
        Self::Later(delay, sender)
    }

    fn send(&mut self, response: Response, arrived: Instant) -> io::Result<()> {
        match self {
            Self::Now(stream) => response.write_to(stream),
            Self::Later(delay, sender) => {
                sender.send((arrived + *delay, response)).map_err(|_| io::ErrorKind::BrokenPipe.into())
            }
        }
    }
}
