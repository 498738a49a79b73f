//! The broker as a machine: a request frame and the time go in, an answer comes out. No sockets, no clock, no tasks.
//!
//! ```text
//!  frame ─▶ handle ─▶ Answer::Now(frame)      most requests
//!                  ├▶ Answer::Nothing         Produce with acks=0
//!                  ├▶ Answer::Later(parked)   a fetch that waits for bytes: poll it, then resume it
//!                  └▶ Refused                 not Kafka, or not understood: the connection is to be closed
//! ```
//!
//! One machine is the whole cluster; each request says which node it came to. The server drives it from many tasks at
//! once, a simulator from one thread on virtual time. It must not know connections: order on a connection is kept by
//! its owner, who hands in the next request only when the last one was answered.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use milena_messages::header::{RequestHeader, ResponseHeader};
use milena_messages::{ApiKey, ErrorCode, Message};
use milena_wire::{DecodeError, EncodeError, Reader, WireFrame, Writer};

use crate::api::fetch::ParkedFetch;
use crate::api::{self, Call, Effort, Outcome};
use crate::check::Decompressors;
use crate::error::Error;
use crate::random::Random;
use crate::sessions::Sessions;
use crate::state::{Defaults, Node, State};
use crate::storage::Storage;

/// A moment, on the two clocks that a broker needs.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For waiting; never goes back.
    pub instant: Instant,
    /// For timestamps, in milliseconds since 1970.
    pub unix_ms: i64,
}

/// The cluster.
#[derive(Debug)]
pub struct Machine {
    pub(crate) settings: MachineSettings,
    state: RwLock<State>,
    sessions: BTreeMap<i32, Mutex<Sessions>>,
    pub(crate) decompressors: Decompressors,
    pub(crate) unserved: Unserved,
}

/// What the machine needs to know of the settings.
#[derive(Debug, Clone)]
pub(crate) struct MachineSettings {
    pub(crate) partitions_default: i32,
    pub(crate) replication_default: i16,
    pub(crate) auto_create_topics: bool,
    pub(crate) batch_bytes_max: usize,
    pub(crate) segment_bytes: u64,
    pub(crate) fetch_bytes_max: usize,
    pub(crate) fetch_sessions_max: usize,
    pub(crate) seed: u64,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Answer {
    /// This frame is the response.
    Now(WireFrame),
    /// There is no response (acks=0).
    Nothing,
    /// The response waits for something; until then the connection's later requests wait too, as in Kafka.
    Later(Parked),
}

/// A fetch that waits for bytes. Dropping it forgets it.
#[derive(Debug)]
pub struct Parked {
    envelope: Envelope,
    fetch: ParkedFetch,
}

/// Why a request gets no answer: the connection is to be closed, and this is why.
#[derive(Debug)]
pub struct Refused(Refusal);

#[derive(Debug)]
enum Refusal {
    UnknownKey(i16),
    UnsupportedVersion(ApiKey, i16),
    Malformed(DecodeError),
    Unencodable(ApiKey, EncodeError),
    UnknownNode(i32),
    Unacknowledged(ErrorCode),
}

/// What a response must carry of its request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Envelope {
    pub(crate) node: i32,
    pub(crate) key: ApiKey,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
}

impl Machine {
    pub(crate) fn new(
        settings: MachineSettings,
        nodes: Vec<Node>,
        storage: Option<Storage>,
    ) -> Result<Self, Error> {
        let defaults =
            Defaults { batch_bytes_max: settings.batch_bytes_max, segment_bytes: settings.segment_bytes };
        let new_sessions = |node: &Node| {
            let seed = settings.seed ^ (node.id as u64).rotate_left(32);
            (node.id, Mutex::new(Sessions::new(settings.fetch_sessions_max, seed)))
        };
        let sessions = nodes.iter().map(new_sessions).collect();
        let state = State::open(nodes, defaults, Random::new(settings.seed), storage)?;
        Ok(Self {
            settings,
            state: RwLock::new(state),
            sessions,
            decompressors: Decompressors::default(),
            unserved: Unserved::default(),
        })
    }

    /// Handles one request that came to `node`: a frame without its size. A fetch is answered with at most
    /// `fetch_bytes_max` bytes of records, but for a first batch that is larger; the settings' limit holds too.
    ///
    /// # Errors
    /// When it is not a request this broker understands. Kafka closes the connection then, and so must the caller.
    pub fn handle(
        &self,
        node: i32,
        frame: &Bytes,
        now: Now,
        fetch_bytes_max: usize,
    ) -> Result<Answer, Refused> {
        let answer = self.handle_with(Effort::Any, node, frame, now, fetch_bytes_max)?;
        Ok(answer.expect("any effort is enough"))
    }

    /// The same with little effort: `None` when that was not enough, and then nothing has happened.
    pub(crate) fn handle_lightly(
        &self,
        node: i32,
        frame: &Bytes,
        now: Now,
        fetch_bytes_max: usize,
    ) -> Result<Option<Answer>, Refused> {
        self.handle_with(Effort::Little, node, frame, now, fetch_bytes_max)
    }

    fn handle_with(
        &self,
        effort: Effort,
        node: i32,
        frame: &Bytes,
        now: Now,
        fetch_bytes_max: usize,
    ) -> Result<Option<Answer>, Refused> {
        let mut reader = Reader::new(frame);
        let envelope = Envelope::read(node, frame).inspect_err(|Refused(refusal)| {
            if matches!(refusal, Refusal::UnknownKey(_)) {
                self.unserved.tell(refusal, client_id(frame).as_deref());
            }
        })?;
        reader.set_elements_max(api::elements_max(envelope.key));
        let is_served = api::serves(envelope.key, envelope.version);
        if !is_served && envelope.key == ApiKey::ApiVersions {
            return Ok(Some(Answer::Now(api::api_versions::downgrade(&envelope)?)));
        }
        if !is_served {
            let refusal = Refusal::UnsupportedVersion(envelope.key, envelope.version);
            self.unserved.tell(&refusal, client_id(frame).as_deref());
            return Err(refusal.into());
        }
        if !self.sessions.contains_key(&node) {
            return Err(Refusal::UnknownNode(node).into());
        }
        let header_version = envelope.key.request_header_version(envelope.version);
        let header = RequestHeader::decode(&mut reader, header_version)?;
        let client_id = header.client_id;
        let call = Call { machine: self, envelope, now, fetch_bytes_max, client_id, effort };
        Ok(Answer::new(envelope, api::dispatch(&call, &mut reader)?))
    }

    /// Takes a parked fetch up again: when [`Parked::poll`] was ready or its deadline passed.
    ///
    /// # Errors
    /// When the answer cannot be written; the connection is to be closed.
    pub fn resume(&self, parked: Parked, now: Now, fetch_bytes_max: usize) -> Result<Answer, Refused> {
        let Parked { envelope, fetch } = parked;
        let effort = Effort::Any;
        let call = Call { machine: self, envelope, now, fetch_bytes_max, client_id: None, effort };
        Ok(Answer::new(envelope, api::fetch::resume(&call, fetch)?).expect("a fetch is never too much"))
    }

    /// Makes `node` the leader of a partition, in a new leader epoch.
    ///
    /// # Errors
    /// When there is no such partition, when the node holds no replica of it or is down, and as the disk fails.
    pub fn move_leader(&self, topic: &str, partition: i32, node: i32) -> Result<(), Error> {
        self.state_mut().move_leader(topic, partition, node)
    }

    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fetch sessions of a node.
    pub(crate) fn sessions(&self, node: i32) -> MutexGuard<'_, Sessions> {
        // `handle` lets no other node in.
        crate::lock(&self.sessions[&node])
    }
}

/// The client id in a request of any kind: it is where all headers have it.
fn client_id(frame: &Bytes) -> Option<String> {
    let length = u16::from_be_bytes(*frame.get(8..)?.first_chunk()?);
    let id = frame.get(10..)?.get(..length.into())?;
    Some(String::from_utf8_lossy(id).into_owned())
}

/// What clients asked for and this broker does not have. Each is told to the log once, or a client that tries again and
/// again would fill it.
#[derive(Debug, Default)]
pub(crate) struct Unserved {
    told: Mutex<BTreeSet<String>>,
}

/// Warnings that are remembered. After that many clients and APIs nothing more is told.
const TOLD_MAX: usize = 1000;

impl Unserved {
    /// Warns that `client` asked for something.
    pub(crate) fn tell(&self, what: &dyn fmt::Display, client: Option<&str>) {
        let client = client.unwrap_or("no client id");
        let mut told = crate::lock(&self.told);
        if told.len() < TOLD_MAX && told.insert(format!("{what} {client}")) {
            tracing::warn!(client, "a client asks for what this broker does not have: {what}");
        }
    }
}

impl Answer {
    fn new(envelope: Envelope, outcome: Outcome) -> Option<Self> {
        match outcome {
            Outcome::Answered(frame) => Some(Self::Now(frame)),
            Outcome::Silent => Some(Self::Nothing),
            Outcome::Parked(fetch) => Some(Self::Later(Parked { envelope, fetch })),
            Outcome::TooMuch => None,
        }
    }
}

impl Parked {
    /// Ready when the fetch is to be resumed before its deadline.
    pub fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        self.fetch.poll(context)
    }

    /// When the fetch is to be resumed at the latest.
    pub fn deadline(&self) -> Instant {
        self.fetch.deadline()
    }
}

impl Now {
    /// The same moment, `by` later on both clocks.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self { instant: self.instant + by, unix_ms: self.unix_ms + by.as_millis() as i64 }
    }
}

impl Envelope {
    fn read(node: i32, frame: &Bytes) -> Result<Self, Refused> {
        let mut reader = Reader::new(frame);
        let key = reader.i16("RequestHeader.RequestApiKey")?;
        let version = reader.i16("RequestHeader.RequestApiVersion")?;
        let correlation_id = reader.i32("RequestHeader.CorrelationId")?;
        let key = ApiKey::from_i16(key).ok_or(Refusal::UnknownKey(key))?;
        Ok(Self { node, key, version, correlation_id })
    }

    /// The frame of a response.
    pub(crate) fn answer<M: Message>(&self, response: &M) -> Result<WireFrame, Refused> {
        self.answer_at(response, self.version)
    }

    /// The frame of a response in another version than was asked for.
    pub(crate) fn answer_at<M: Message>(&self, response: &M, version: i16) -> Result<WireFrame, Refused> {
        let encode = || {
            let mut writer = Writer::new();
            let mark = writer.begin_frame();
            let header = ResponseHeader { correlation_id: self.correlation_id, ..Default::default() };
            header.encode(&mut writer, self.key.response_header_version(version))?;
            response.encode(&mut writer, version)?;
            writer.end_frame(mark, M::NAME)?;
            Ok(writer.finish())
        };
        encode().map_err(|error| Refusal::Unencodable(self.key, error).into())
    }
}

impl Refused {
    /// Whether the client asked for what the broker does not have, of which the log knows already.
    pub(crate) fn is_unserved(&self) -> bool {
        matches!(self.0, Refusal::UnknownKey(_) | Refusal::UnsupportedVersion(..))
    }

    /// A Produce request with acks=0 failed.
    pub(crate) fn unacknowledged(code: ErrorCode) -> Self {
        Self(Refusal::Unacknowledged(code))
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl From<DecodeError> for Refused {
    fn from(error: DecodeError) -> Self {
        Self(Refusal::Malformed(error))
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey(key) => write!(f, "API key {key} does not exist"),
            Self::UnsupportedVersion(key, _) if !api::SERVED.contains(key) => {
                write!(f, "{key} is not there yet")
            }
            Self::UnsupportedVersion(key, version) => {
                write!(f, "{key} version {version} is not supported by this broker")
            }
            Self::Malformed(error) => write!(f, "malformed request: {error}"),
            Self::Unencodable(key, error) => write!(f, "cannot write the response to {key}: {error}"),
            Self::Unacknowledged(code) => {
                write!(f, "a Produce request that wants no answer failed with {code}")
            }
            Self::UnknownNode(node) => write!(f, "there is no node {node}"),
        }
    }
}

impl std::error::Error for Refused {}
