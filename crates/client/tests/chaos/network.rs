//! The network between the client and the brokers: a relay for each connection that knows where frames begin and end.
//!
//! ```text
//!  client ─ pipe ─▶ up: read a frame ─▶ its fate ─▶ socket ─▶ broker
//!         ◀─ pipe ─ down: its fate ◀─ read a frame ◀─ socket ◀─┘
//! ```
//!
//! As with TCP, the bytes of a connection stay in order, and bytes that were written before an end closed may arrive after
//! that: but for those of members of groups, which carry no order. A copy of a commit that arrives after a later one takes the
//! group back, and a copy of a heartbeat that says what the member owned gives away what it has taken since. Only a new epoch would
//! fence it, and the client does not join the group anew for each request without an answer. So such a request is lost with its
//! connection once the client has given it up: what a late copy does is not tested here.
//!
//! The network knows the headers of requests, and may answer produce requests for the broker. It must not know the
//! client's state.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use milena::{Address, Connect, ConnectError, Connecting, Resolving, Transport};
use milena_messages::api_versions::ApiVersionsRequest;
use milena_messages::fetch::FetchRequest;
use milena_messages::header::{RequestHeader, ResponseHeader};
use milena_messages::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceData, TopicProduceResponse,
};
use milena_messages::{ApiKey, ErrorCode, Message, Request};
use milena_wire::{Reader, Writer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::plan::Rng;
use crate::world::Notes;

/// How many of 1000 frames have each fate during the storm.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rates {
    delay: usize,
    stall: usize,
    chop: usize,
    cut: usize,
    /// The broker has carried out a produce request, but its answer says that it has not, or that it does not know.
    deny: usize,
    /// A produce request does not reach the broker and is answered with an error.
    refuse: usize,
}

impl Rates {
    pub(crate) fn of(rng: &mut Rng) -> Self {
        Self {
            delay: rng.pick(&[0, 50, 300]),
            stall: rng.pick(&[0, 2, 10]),
            chop: rng.pick(&[0, 20, 100]),
            cut: rng.pick(&[0, 5, 30]),
            deny: rng.pick(&[0, 0, 20, 300]),
            refuse: rng.pick(&[0, 0, 20]),
        }
    }
}

/// The fate of a frame.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Pass,
    Delay(Duration),
    /// Held until the storm is over, and then let through, lost with its connection, or held until the client gives the
    /// connection up.
    Stall,
    /// In small pieces.
    Chop,
    /// The connection ends before the frame, within it, or right after it.
    CutBefore,
    CutWithin,
    CutAfter,
}

/// How a node can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    Open,
    /// Connections are refused.
    Refusing,
    /// Connecting never ends.
    Silent,
    /// No bytes pass on any connection, in either direction.
    Stalled,
    /// The node is down.
    Down,
}

/// All connections between a client and a cluster.
pub(crate) struct Network {
    nodes: BTreeMap<u16, Node>,
    rates: Rates,
    /// Whether names have one more address, which does not answer.
    has_dead_address: bool,
    is_stormy: AtomicBool,
    calm: watch::Sender<bool>,
    rng: Mutex<Rng>,
    /// Relays that run, and what each direction of them waits for.
    relays: AtomicUsize,
    stages: Mutex<BTreeMap<usize, [&'static str; 2]>>,
    /// Requests that had no answer when their connection ended, by connection.
    unanswered: Mutex<Vec<Vec<&'static str>>>,
    next_relay: AtomicUsize,
    frames: AtomicU64,
    requests: Mutex<BTreeMap<&'static str, usize>>,
    notes: Arc<Notes>,
}

struct Node {
    gate: watch::Sender<Gate>,
    /// Counts the times that all connections were cut.
    cuts: watch::Sender<u64>,
    /// Connections that the client has not closed.
    open: AtomicUsize,
    open_max: AtomicUsize,
}

/// How clients reach brokers through a [`Network`].
pub(crate) struct Connector(pub(crate) Arc<Network>);

/// The bytes in flight in one direction, as in the buffers of two systems.
const PIPE_BYTES: [usize; 3] = [2 << 10, 16 << 10, 64 << 10];
/// An address whose packets are lost.
const DEAD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const DELAY_MAX: Duration = Duration::from_millis(30);

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Network {
    pub(crate) fn new(
        ports: impl IntoIterator<Item = u16>,
        rates: Rates,
        mut rng: Rng,
        notes: Arc<Notes>,
    ) -> Arc<Self> {
        let node = |port| {
            let (gate, cuts) = (watch::Sender::new(Gate::Open), watch::Sender::new(0));
            (port, Node { gate, cuts, open: AtomicUsize::new(0), open_max: AtomicUsize::new(0) })
        };
        Arc::new(Self {
            nodes: ports.into_iter().map(node).collect(),
            rates,
            has_dead_address: rng.percent(12),
            is_stormy: AtomicBool::new(false),
            calm: watch::Sender::new(true),
            rng: Mutex::new(rng),
            relays: AtomicUsize::new(0),
            stages: Mutex::default(),
            unanswered: Mutex::default(),
            next_relay: AtomicUsize::new(0),
            frames: AtomicU64::new(0),
            requests: Mutex::default(),
            notes,
        })
    }

    pub(crate) fn begin_storm(&self) {
        self.calm.send_replace(false);
        self.is_stormy.store(true, Ordering::Relaxed);
    }

    /// Lets everything pass from now on. Held frames go on or are lost.
    pub(crate) fn end_storm(&self) {
        self.is_stormy.store(false, Ordering::Relaxed);
        self.calm.send_replace(true);
        for node in self.nodes.values() {
            node.gate.send_if_modified(|gate| {
                let is_down = *gate == Gate::Down;
                *gate = if is_down { Gate::Down } else { Gate::Open };
                !is_down
            });
        }
    }

    pub(crate) fn set_gate(&self, port: u16, gate: Gate) {
        self.nodes[&port].gate.send_replace(gate);
    }

    /// Opens the node's gate unless it is down.
    pub(crate) fn reopen(&self, port: u16) {
        self.nodes[&port].gate.send_if_modified(|gate| {
            let is_down = *gate == Gate::Down;
            *gate = if is_down { Gate::Down } else { Gate::Open };
            !is_down
        });
    }

    /// Ends every connection of the node.
    pub(crate) fn cut_all(&self, port: u16) {
        self.nodes[&port].cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Connections that still carry something.
    pub(crate) fn relays(&self) -> usize {
        self.relays.load(Ordering::Acquire)
    }

    /// What the last connections that ended were not answered.
    pub(crate) fn unanswered(&self) -> Vec<Vec<&'static str>> {
        lock(&self.unanswered).iter().rev().take(50).cloned().collect()
    }

    /// Connections that the client has not closed, and what the relays wait for, up and down.
    pub(crate) fn left(&self) -> String {
        let open: usize = self.nodes.values().map(|node| node.open.load(Ordering::Acquire)).sum();
        format!("{open} connections are open, relays: {:?}", lock(&self.stages).values())
    }

    /// The most connections that the client had to one node at a time.
    pub(crate) fn open_max(&self) -> usize {
        self.nodes.values().map(|node| node.open_max.load(Ordering::Relaxed)).max().unwrap_or(0)
    }

    /// Requests seen so far, by name.
    pub(crate) fn requests(&self) -> BTreeMap<&'static str, usize> {
        lock(&self.requests).clone()
    }

    async fn until_calm(&self) {
        let mut calm = self.calm.subscribe();
        let _ = calm.wait_for(|is_calm| *is_calm).await;
    }

    async fn connect(self: Arc<Self>, port: u16) -> io::Result<Box<dyn Transport>> {
        let Some(node) = self.nodes.get(&port) else {
            return Err(io::Error::other(format!("the client connects to port {port}, where no broker is")));
        };
        let mut gate = node.gate.subscribe();
        let _ = gate.wait_for(|gate| *gate != Gate::Silent).await;
        // Another process may have the port of a node that is down.
        if matches!(*gate.borrow(), Gate::Refusing | Gate::Down) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let broker = TcpStream::connect(("127.0.0.1", port)).await?;
        broker.set_nodelay(true)?;
        let mut rng = lock(&self.rng).fork();
        let bytes = rng.pick(&PIPE_BYTES);
        let (to_relay, from_client) = duplex(bytes);
        let (from_relay, to_client) = duplex(bytes);
        self.relays.fetch_add(1, Ordering::AcqRel);
        let open = node.open.fetch_add(1, Ordering::AcqRel) + 1;
        node.open_max.fetch_max(open, Ordering::AcqRel);
        let (closed, is_closed) = watch::channel(false);
        let network = Arc::clone(&self);
        let number = self.next_relay.fetch_add(1, Ordering::Relaxed);
        let (asked, rng) = (Mutex::default(), Mutex::new(rng));
        let relay = Relay { network, number, port, is_closed, asked, rng };
        tokio::spawn(relay.run(from_client, to_client, broker));
        let closing = Closing { network: self, port, closed };
        Ok(Box::new(ClientEnd { stream: tokio::io::join(from_relay, to_relay), _closing: closing }))
    }
}

impl Connect for Connector {
    fn resolve(&self, address: &Address) -> Resolving {
        let at = |host| SocketAddr::new(IpAddr::V4(host), address.port());
        let addresses =
            if self.0.has_dead_address { vec![at(DEAD), at(Ipv4Addr::LOCALHOST)] } else { vec![] };
        Box::pin(async { Ok(addresses) })
    }

    fn connect(&self, address: &Address, at: Option<SocketAddr>) -> Connecting {
        if at.is_some_and(|at| at.ip() == DEAD) {
            return Box::pin(std::future::pending());
        }
        let connect = Arc::clone(&self.0).connect(address.port());
        Box::pin(async { connect.await.map_err(ConnectError::from) })
    }
}

/// The client's end of a connection.
struct ClientEnd {
    stream: tokio::io::Join<DuplexStream, DuplexStream>,
    _closing: Closing,
}

struct Closing {
    network: Arc<Network>,
    port: u16,
    closed: watch::Sender<bool>,
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.network.nodes[&self.port].open.fetch_sub(1, Ordering::AcqRel);
        self.closed.send_replace(true);
    }
}

impl AsyncRead for ClientEnd {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for ClientEnd {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        std::pin::Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> std::task::Poll<io::Result<usize>> {
        std::pin::Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// One connection.
struct Relay {
    network: Arc<Network>,
    number: usize,
    port: u16,
    /// Whether the client has closed its end.
    is_closed: watch::Receiver<bool>,
    /// Requests that wait for their answers.
    asked: Mutex<HashMap<i32, Asked>>,
    rng: Mutex<Rng>,
}

struct Asked {
    api: &'static str,
    version: i16,
    /// Its answer is changed to an error.
    is_denied: bool,
    /// The network answers it instead of the broker.
    answer: Option<Vec<u8>>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        lock(&self.network.stages).remove(&self.number);
        let unanswered: BTreeMap<_, _> =
            lock(&self.asked).iter().map(|(id, asked)| (*id, asked.api)).collect();
        if !unanswered.is_empty() {
            lock(&self.network.unanswered).push(unanswered.into_values().collect());
        }
        self.network.relays.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Relay {
    async fn run(self, from_client: DuplexStream, to_client: DuplexStream, broker: TcpStream) {
        let (from_broker, to_broker) = broker.into_split();
        let mut cuts = self.network.nodes[&self.port].cuts.subscribe();
        let mut up = std::pin::pin!(self.up(from_client, to_broker));
        let carry = async {
            tokio::select! {
                () = &mut up => return,
                () = self.down(from_broker, to_client) => {}
            }
            // The client has read the end of the stream. What it wrote before still travels.
            up.await;
        };
        tokio::select! {
            () = carry => {}
            _ = cuts.changed() => {}
        }
    }

    /// Requests. It ends when the client has closed its end and everything has arrived, or with a cut.
    async fn up(&self, mut from: DuplexStream, mut to: OwnedWriteHalf) {
        self.enter(0, "reading");
        while let Some(frame) = read_frame(&mut from).await {
            let frame = self.note_request(frame);
            if !self.pass(0, &mut to, &frame).await {
                break;
            }
            self.enter(0, "reading");
        }
        self.enter(0, "ended");
    }

    /// Notes what a direction waits for: 0 is up, 1 is down.
    fn enter(&self, direction: usize, stage: &'static str) {
        lock(&self.network.stages).entry(self.number).or_default()[direction] = stage;
    }

    /// Answers. It ends when the broker has closed its end, or with a cut.
    async fn down(&self, mut from: OwnedReadHalf, mut to: DuplexStream) {
        self.enter(1, "reading");
        while let Some(frame) = read_frame(&mut from).await {
            let frame = self.note_answer(frame);
            if !self.pass(1, &mut to, &frame).await {
                break;
            }
            self.enter(1, "reading");
        }
        self.enter(1, "ended");
    }

    fn fate(&self) -> Fate {
        if !self.network.is_stormy.load(Ordering::Relaxed) {
            return Fate::Pass;
        }
        let Rates { delay, stall, chop, cut, .. } = self.network.rates;
        let mut rng = lock(&self.rng);
        match rng.below(1000) {
            at if at < delay => Fate::Delay(rng.moment(DELAY_MAX)),
            at if at < delay + stall => Fate::Stall,
            at if at < delay + stall + chop => Fate::Chop,
            at if at < delay + stall + chop + cut => {
                rng.pick(&[Fate::CutBefore, Fate::CutWithin, Fate::CutAfter])
            }
            _ => Fate::Pass,
        }
    }

    /// Lets a frame through, or a part of it; returns whether the connection goes on.
    async fn pass(&self, direction: usize, to: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> bool {
        self.network.frames.fetch_add(1, Ordering::Relaxed);
        self.enter(direction, "at the gate");
        let mut gate = self.network.nodes[&self.port].gate.subscribe();
        let _ = gate.wait_for(|gate| *gate != Gate::Stalled).await;
        let fate = self.fate();
        self.enter(direction, if matches!(fate, Fate::Stall) { "stalled" } else { "writing" });
        let is_late = || direction == 0 && has_no_order(frame) && *self.is_closed.borrow();
        match fate {
            Fate::Pass if is_late() => false,
            Fate::Pass => to.write_all(frame).await.is_ok(),
            Fate::Delay(delay) => {
                sleep(delay).await;
                !is_late() && to.write_all(frame).await.is_ok()
            }
            Fate::Stall => {
                self.network.until_calm().await;
                let outcome = lock(&self.rng).below(3);
                match outcome {
                    0 => !is_late() && to.write_all(frame).await.is_ok(),
                    1 => false,
                    _ => {
                        let mut is_closed = self.is_closed.clone();
                        let _ = is_closed.wait_for(|is_closed| *is_closed).await;
                        false
                    }
                }
            }
            Fate::Chop | Fate::CutAfter if is_late() => false,
            Fate::Chop => self.chop(to, frame).await.is_ok(),
            Fate::CutBefore => false,
            Fate::CutWithin => {
                let at = lock(&self.rng).below(frame.len());
                let _ = to.write_all(&frame[..at]).await;
                false
            }
            Fate::CutAfter => {
                let _ = to.write_all(frame).await;
                false
            }
        }
    }

    async fn chop(&self, to: &mut (impl AsyncWrite + Unpin), mut frame: &[u8]) -> io::Result<()> {
        // The first bytes one by one, so that sizes and headers are cut everywhere.
        for pieces in 0.. {
            let bytes = if pieces < 40 { 1 } else { lock(&self.rng).between(1, 1 + frame.len() / 4) };
            let (piece, rest) = frame.split_at(bytes.min(frame.len()));
            to.write_all(piece).await?;
            tokio::task::yield_now().await;
            frame = rest;
            if frame.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Remembers a request for its answer; returns the bytes for the broker.
    fn note_request(&self, frame: Vec<u8>) -> Vec<u8> {
        let request = Bytes::from(frame[4..].to_vec());
        let number = |at: usize| i16::from_be_bytes([request[at], request[at + 1]]);
        let (Some(key), version) = (ApiKey::from_i16(number(0)), number(2)) else { return frame };
        let correlation = i32::from_be_bytes([request[4], request[5], request[6], request[7]]);
        *lock(&self.network.requests).entry(key.name()).or_default() += 1;
        self.check_request(key, &request, version);
        let mut asked = Asked { api: key.name(), version, is_denied: false, answer: None };
        let mut sent = frame;
        if key == ApiKey::Produce && self.strikes(self.network.rates.refuse) {
            asked.answer = self.refusal(&request, version, correlation);
        }
        if asked.answer.is_some() {
            // The broker answers in order, so something has to be asked that does nothing.
            sent = harmless_request(correlation);
        } else if key == ApiKey::Produce && self.strikes(self.network.rates.deny) {
            asked.is_denied =
                decoded::<ProduceRequest>(&request, version).is_some_and(|request| request.acks == -1);
        }
        lock(&self.asked).insert(correlation, asked);
        sent
    }

    /// No request names a partition twice: brokers take one of the two, or refuse both.
    fn check_request(&self, key: ApiKey, request: &Bytes, version: i16) {
        let named: Vec<(String, i32)> = match key {
            ApiKey::Produce => {
                let topics = decoded::<ProduceRequest>(request, version).map(|request| request.topic_data);
                let topics = topics.unwrap_or_default().into_iter();
                let partitions = |topic: TopicProduceData| {
                    let name = format!("{}{}", topic.name, topic.topic_id);
                    topic.partition_data.into_iter().map(move |data| (name.clone(), data.index))
                };
                topics.flat_map(partitions).collect()
            }
            ApiKey::Fetch => {
                let request = decoded::<FetchRequest>(request, version).unwrap_or_default();
                let asked = request.topics.into_iter().map(|topic| {
                    let partitions = topic.partitions.into_iter().map(|fetched| fetched.partition);
                    (format!("{}{}", topic.topic, topic.topic_id), partitions.collect::<Vec<_>>())
                });
                let forgotten = request.forgotten_topics_data.into_iter();
                let forgotten =
                    forgotten.map(|topic| (format!("{}{}", topic.topic, topic.topic_id), topic.partitions));
                let all = asked.chain(forgotten);
                all.flat_map(|(name, of)| of.into_iter().map(move |it| (name.clone(), it))).collect()
            }
            _ => return,
        };
        let mut seen = BTreeSet::new();
        if let Some((topic, partition)) = named.iter().find(|partition| !seen.insert(*partition)) {
            self.network.notes.violate(format_args!(
                "a {key} request names a partition twice: {partition} of topic {topic} in {named:?}"
            ));
        }
    }

    /// The bytes for the client instead of the broker's answer.
    fn note_answer(&self, frame: Vec<u8>) -> Vec<u8> {
        let correlation = i32::from_be_bytes([frame[4], frame[5], frame[6], frame[7]]);
        let Some(asked) = lock(&self.asked).remove(&correlation) else { return frame };
        if let Some(answer) = asked.answer {
            return answer;
        }
        if asked.is_denied {
            return self.denial(&frame, asked.version).unwrap_or(frame);
        }
        frame
    }

    fn strikes(&self, of_1000: usize) -> bool {
        self.network.is_stormy.load(Ordering::Relaxed) && lock(&self.rng).below(1000) < of_1000
    }

    /// The answer to a produce request that was carried out, as if one partition's records might have been lost: with
    /// acks=all Kafka answers so when leadership ends while it waits for followers.
    fn denial(&self, frame: &[u8], version: i16) -> Option<Vec<u8>> {
        let body = Bytes::from(frame[4..].to_vec());
        let mut reader = Reader::new(&body);
        let head =
            ResponseHeader::decode(&mut reader, ApiKey::Produce.response_header_version(version)).ok()?;
        let mut response = ProduceResponse::decode(&mut reader, version).ok()?;
        let mut partitions: Vec<&mut PartitionProduceResponse> =
            response.responses.iter_mut().flat_map(|topic| &mut topic.partition_responses).collect();
        let mut rng = lock(&self.rng);
        let at = rng.below(partitions.len());
        let denied = partitions.get_mut(at).filter(|answer| answer.error_code == ErrorCode::NONE)?;
        denied.error_code = rng.pick(&[
            ErrorCode::NOT_LEADER_OR_FOLLOWER,
            ErrorCode::NOT_LEADER_OR_FOLLOWER,
            ErrorCode::REQUEST_TIMED_OUT,
            ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
            ErrorCode::KAFKA_STORAGE_ERROR,
        ]);
        denied.base_offset = -1;
        answer(head.correlation_id, &response, version)
    }

    /// The answer to a produce request that no broker has seen.
    fn refusal(&self, request: &Bytes, version: i16, correlation: i32) -> Option<Vec<u8>> {
        let request = decoded::<ProduceRequest>(request, version).filter(|request| request.acks != 0)?;
        let error_code = lock(&self.rng).pick(&[
            ErrorCode::NOT_LEADER_OR_FOLLOWER,
            ErrorCode::NOT_ENOUGH_REPLICAS,
            ErrorCode::LEADER_NOT_AVAILABLE,
        ]);
        let partition =
            |index| PartitionProduceResponse { index, error_code, base_offset: -1, ..Default::default() };
        let responses = request.topic_data.iter().map(|topic| TopicProduceResponse {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partition_responses: topic.partition_data.iter().map(|data| partition(data.index)).collect(),
            ..Default::default()
        });
        let response = ProduceResponse { responses: responses.collect(), ..Default::default() };
        answer(correlation, &response, version)
    }
}

/// Whether an older copy of this request that arrives later undoes a newer one: commits and heartbeats of groups.
fn has_no_order(frame: &[u8]) -> bool {
    let key = frame.get(4..6).and_then(|key| ApiKey::from_i16(i16::from_be_bytes([key[0], key[1]])));
    matches!(key, Some(ApiKey::OffsetCommit | ApiKey::ConsumerGroupHeartbeat))
}

fn decoded<R: Request>(request: &Bytes, version: i16) -> Option<R> {
    let mut reader = Reader::new(request);
    RequestHeader::decode(&mut reader, R::KEY.request_header_version(version)).ok()?;
    R::decode(&mut reader, version).ok()
}

fn answer(correlation_id: i32, response: &ProduceResponse, version: i16) -> Option<Vec<u8>> {
    let mut writer = Writer::new();
    let mark = writer.begin_frame();
    let head = ResponseHeader { correlation_id, ..Default::default() };
    head.encode(&mut writer, ApiKey::Produce.response_header_version(version)).ok()?;
    response.encode(&mut writer, version).ok()?;
    writer.end_frame(mark, "ProduceResponse").ok()?;
    Some(writer.finish().to_vec())
}

fn harmless_request(correlation_id: i32) -> Vec<u8> {
    let mut writer = Writer::new();
    let mark = writer.begin_frame();
    let request_api_key = ApiKey::ApiVersions.as_i16();
    let head = RequestHeader { request_api_key, correlation_id, ..Default::default() };
    head.encode(&mut writer, 1).expect("encodes");
    ApiVersionsRequest::default().encode(&mut writer, 0).expect("encodes");
    writer.end_frame(mark, "ApiVersionsRequest").expect("encodes");
    writer.finish().to_vec()
}

/// The next frame with its size before it; `None` at the end of the stream, within a frame or between two.
async fn read_frame(from: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let mut frame = vec![0; 4];
    from.read_exact(&mut frame).await.ok()?;
    let bytes = u32::from_be_bytes(*frame.first_chunk()?) as usize;
    frame.resize(4 + bytes, 0);
    from.read_exact(&mut frame[4..]).await.ok()?;
    Some(frame)
}
