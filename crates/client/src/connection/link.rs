//! Links to brokers. A link connects when there is something to send, and again after its connection ended, but never sooner
//! than the backoff allows.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use milena_core::backoff::{Backoff, Retry};
use milena_core::{Failure, Instant, Rng};
use rustc_hash::FxHashMap;
use tokio::sync::mpsc;

use super::call::Call;
use super::dial::{Login, dial, login};
use super::peers::Peers;
use super::queue::Queue;
use super::settings::LinkSettings;
use super::stream::Connection;
use crate::Address;

/// A handle to the task that keeps a connection to one broker, for one role. When the last handle is dropped, the task
/// finishes the calls it has and ends.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    calls: mpsc::Sender<Call>,
    peer: Arc<str>,
}

/// Calls that may wait for a connection. One more fails at once. Callers have few requests under way, so this is only reached
/// when something is wrong.
const QUEUE: usize = 256;
/// A broker that was silent or failed is asked after the other brokers for this long. Then it may have recovered, and
/// finding out that it has not costs one caller a second.
const SET_BACK_FOR: Duration = Duration::from_secs(60);

impl Link {
    fn open(settings: LinkSettings, address: Address, rng: Rng) -> Self {
        let (sender, calls) = mpsc::channel(QUEUE);
        let peer: Arc<str> = Arc::from(address.to_string());
        let link = Self { calls: sender, peer: Arc::clone(&peer) };
        let runtime = settings.runtime.clone();
        let (retry, failures) = (Retry::default(), 0);
        let calls = Queue::new(calls, Arc::clone(&peer));
        runtime.spawn_here(Task { settings, address, peer, calls, retry, failures, rng }.run());
        link
    }

    /// The broker's address, as errors name it.
    pub(crate) fn peer(&self) -> Arc<str> {
        Arc::clone(&self.peer)
    }

    /// Hands `call` over. Its reply tells the outcome.
    pub(crate) fn send(&self, call: Call) {
        let (call, failure) = match self.calls.try_send(call) {
            Ok(()) => return,
            Err(mpsc::error::TrySendError::Full(call)) => {
                (call, Failure::unreachable(self.peer(), "too many requests are waiting for it"))
            }
            // `Links` replaces a link whose task has ended, so the task ended with the client's runtime.
            Err(mpsc::error::TrySendError::Closed(call)) => (call, Failure::Closed),
        };
        call.reply.send(Err(failure));
    }
}

struct Task {
    settings: LinkSettings,
    address: Address,
    peer: Arc<str>,
    calls: Queue,
    retry: Retry,
    /// Failures in a row to connect.
    failures: u32,
    rng: Rng,
}

impl Task {
    async fn run(mut self) {
        // There is no connection before there is something to send.
        while let Some(first) = self.calls.recv().await {
            let login = match self.login_after_backoff().await {
                Ok(login) => login,
                Err(failure) => {
                    if let Some(metrics) = &self.settings.metrics {
                        metrics.connections.note_failed(&failure);
                    }
                    self.refuse(first, &failure);
                    continue;
                }
            };
            let within = self.connect_timeout();
            let began = self.settings.clock.now();
            match dial(&self.settings, &self.address, &self.peer, within, login).await {
                Ok(connection) => {
                    self.failures = 0;
                    if let Some(metrics) = &self.settings.metrics {
                        metrics.connections.note_opened(self.settings.clock.now() - began);
                    }
                    self.serve(connection, first).await;
                }
                Err(failure) => {
                    self.failures = self.failures.saturating_add(1);
                    if let Some(metrics) = &self.settings.metrics {
                        metrics.connections.note_failed(&failure);
                    }
                    // For credentials that were refused there is a backoff of its own, during which callers get the error at
                    // once (`Peers::refusal`).
                    if !failure.is_refusal_of_credentials() {
                        self.note_failure();
                    }
                    self.refuse(first, &failure);
                }
            }
        }
    }

    /// Waits until the next attempt to connect may be made, and gets what it is to authenticate with.
    async fn login_after_backoff(&self) -> Result<Login, Failure> {
        // Before the backoff: a call that is in want of credentials fails at once, and that is no failure of the broker.
        let early = login(&self.settings, &self.address, &self.peer).await?;
        match self.retry.not_before() {
            Some(at) if at > self.settings.clock.now() => {
                self.settings.clock.sleep_until(Some(at)).await;
                // A token that was good then may have ended meanwhile.
                login(&self.settings, &self.address, &self.peer).await
            }
            _ => Ok(early),
        }
    }

    /// How long the next attempt to connect may take (KIP-601).
    fn connect_timeout(&mut self) -> Duration {
        let (first, most) = (self.settings.connect_timeout, self.settings.connect_timeout_max);
        match self.failures {
            0 => first,
            failures => Backoff { min: first * 2, max: most }.delay(failures, &mut self.rng).max(first),
        }
    }

    async fn serve(&mut self, connection: Connection, first: Call) {
        let end = connection.run(first, &mut self.calls).await;
        if let Some(metrics) = &self.settings.metrics {
            metrics.connections.note_closed(end);
        }
        end.count(&mut self.retry, self.settings.clock.now(), &self.settings.backoff, &mut self.rng);
    }

    fn note_failure(&mut self) {
        self.retry.failed(self.settings.clock.now(), &self.settings.backoff, &mut self.rng);
    }

    /// Fails `first` and all calls that wait for a connection with the reason why there is none.
    fn refuse(&mut self, first: Call, failure: &Failure) {
        first.reply.send(Err(failure.clone().with_sent(false)));
        while let Some(call) = self.calls.try_recv() {
            call.reply.send(Err(failure.clone().with_sent(false)));
        }
    }
}

/// The links of one role, by address.
pub(crate) struct Links {
    settings: LinkSettings,
    open: Mutex<Open>,
}

struct Open {
    links: FxHashMap<Address, Link>,
    rng: Rng,
    /// Brokers that were silent or failed when any broker could have answered, and when that was. They are few: each is
    /// the address of a link, and they go with the links.
    set_back: FxHashMap<Address, Instant>,
}

impl Links {
    pub(crate) fn new(settings: LinkSettings, rng: Rng) -> Self {
        Self {
            settings,
            open: Mutex::new(Open { links: FxHashMap::default(), rng, set_back: FxHashMap::default() }),
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The link to `address`. Opens no connection yet.
    pub(crate) fn to(&self, address: &Address) -> Link {
        let open = &mut *self.open();
        // The task of a link ends early if its runtime does. Then nothing would answer its calls.
        if let Some(link) = open.links.get(address).filter(|link| !link.calls.is_closed()) {
            return link.clone();
        }
        let link = Link::open(self.settings.clone(), address.clone(), Rng::seeded(open.rng.next_u64()));
        open.links.insert(address.clone(), link.clone());
        link
    }

    /// Drops the links to addresses that are not current. Calls that they have are answered or failed as if they were kept,
    /// and a new link to the same address makes a connection of its own.
    pub(crate) fn retain(&self, is_current: impl Fn(&Address) -> bool) {
        let open = &mut *self.open();
        open.links.retain(|address, _| is_current(address));
        open.set_back.retain(|address, _| is_current(address));
    }

    /// What is known of addresses.
    pub(crate) fn peers(&self) -> &Peers {
        &self.settings.peers
    }

    /// The broker at `address` answered what any broker could have answered.
    pub(crate) fn note_answer(&self, address: &Address) {
        self.open().set_back.remove(address);
    }

    /// The broker at `address` was silent, or failed, when any broker could have answered.
    pub(crate) fn note_failure(&self, address: Address) {
        let now = self.settings.clock.now();
        self.open().set_back.insert(address, now);
    }

    /// `addresses` in their order, but brokers that were silent or failed within [`SET_BACK_FOR`] come last. No broker is
    /// preferred because it answered: its answer may be an error, or old, and another broker may know better.
    pub(crate) fn in_turn(&self, mut addresses: Vec<Address>) -> Vec<Address> {
        let now = self.settings.clock.now();
        let open = &mut *self.open();
        open.set_back.retain(|_, since| now - *since < SET_BACK_FOR);
        addresses.sort_by_key(|address| open.set_back.contains_key(address));
        addresses
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::SocketAddr;
    use std::pin::Pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, ready};
    use std::time::Duration;

    use milena_core::sasl::Credentials;
    use milena_messages::api_versions::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};
    use milena_messages::list_groups::ListGroupsRequest;
    use milena_messages::{Message, Request};
    use milena_wire::pool::Pool;
    use milena_wire::{Str, Writer};
    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
    use tokio::sync::{oneshot, watch};

    use super::super::call::{Answer, Reply, Typed};
    use super::*;
    use crate::clock::Clock;
    use crate::connect::{Connect, Connecting, Transport};
    use crate::runtime::Executor;
    use crate::sasl::{Holder, Nonces, Sasl, Token};

    const IDLE_MAX: Duration = Duration::from_secs(540);

    /// A broker that knows ApiVersions only. It answers the first request of each connection at once, and holds the answers
    /// to those that follow until it is told.
    #[derive(Clone)]
    struct Peer {
        connections: Arc<AtomicUsize>,
        /// Connections that the client has closed.
        closed: Arc<watch::Sender<usize>>,
        /// Requests that have come after the first ones.
        calls: Arc<watch::Sender<usize>>,
        holds: Arc<watch::Sender<bool>>,
        /// What its answers say of how long it delays the connection.
        throttle_ms: i32,
    }

    impl Peer {
        fn new(holds: bool) -> Self {
            Self {
                connections: Arc::default(),
                closed: Arc::new(watch::channel(0).0),
                calls: Arc::new(watch::channel(0).0),
                holds: Arc::new(watch::channel(holds).0),
                throttle_ms: 0,
            }
        }

        async fn serve(self, mut stream: DuplexStream) {
            for number in 0.. {
                let Ok(size) = stream.read_u32().await else { break };
                let mut frame = vec![0; size as usize];
                stream.read_exact(&mut frame).await.expect("a frame");
                if number > 0 {
                    self.calls.send_modify(|calls| *calls += 1);
                    self.holds.subscribe().wait_for(|holds| !holds).await.expect("told");
                }
                let body = match self.throttle_ms {
                    ms if ms > 0 && number > 0 => ms.to_be_bytes().to_vec(),
                    _ => {
                        let ranges = [(18, 4), (16, 1)];
                        let range = |(api_key, max_version)| ApiVersion {
                            api_key,
                            max_version,
                            ..Default::default()
                        };
                        let api_keys = ranges.map(range).to_vec();
                        let response = ApiVersionsResponse { api_keys, ..Default::default() };
                        let mut writer = Writer::new();
                        response
                            .encode(&mut writer, i16::from_be_bytes([frame[2], frame[3]]))
                            .expect("encodes");
                        writer.finish().to_vec()
                    }
                };
                let size = (4 + body.len() as u32).to_be_bytes();
                stream.write_all(&[&size, &frame[4..8], &body].concat()).await.expect("written");
            }
            self.closed.send_modify(|closed| *closed += 1);
        }

        async fn has_seen(count: &watch::Sender<usize>, expected: usize) {
            count.subscribe().wait_for(|count| *count == expected).await.expect("counted");
        }
    }

    impl Connect for Peer {
        fn connect(&self, _: &Address, _: Option<SocketAddr>) -> Connecting {
            self.connections.fetch_add(1, Ordering::Relaxed);
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            tokio::spawn(self.clone().serve(theirs));
            Box::pin(async { Ok(Box::new(ours) as Box<dyn Transport>) })
        }
    }

    fn links(connector: impl Connect + 'static) -> Links {
        let runtime = Executor::current().expect("a runtime");
        let settings = LinkSettings {
            clock: Clock::start(&runtime),
            runtime,
            connector: Arc::new(connector),
            pool: Pool::default(),
            client_id: Str::from("test"),
            connect_timeout: Duration::from_secs(1),
            connect_timeout_max: Duration::from_secs(3),
            backoff: Backoff { min: Duration::ZERO, max: Duration::ZERO },
            idle_max: IDLE_MAX,
            frame_bytes_max: 1 << 20,
            peers: Arc::default(),
            metrics: None,
            sasl: None,
        };
        Links::new(settings, Rng::seeded(1))
    }

    fn address() -> Address {
        Address::new("a", 1)
    }

    /// Sends a request.
    fn call(links: &Links) -> oneshot::Receiver<Result<Answer, Failure>> {
        ask(links, ApiVersionsRequest::default(), Duration::from_secs(30))
    }

    fn ask<R: Request + Send + Sync + 'static>(
        links: &Links,
        request: R,
        timeout: Duration,
    ) -> oneshot::Receiver<Result<Answer, Failure>> {
        let request = Typed { request, version_max: 1 };
        let (reply, answer) = Reply::channel();
        let deadline = links.settings.clock.after(timeout);
        links.to(&address()).send(Call::new(request, deadline, timeout, reply));
        answer
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_under_way_when_a_link_is_let_go_of_is_answered_while_new_calls_connect_anew() {
        let peer = Peer::new(true);
        let links = links(peer.clone());
        let old = call(&links);
        Peer::has_seen(&peer.calls, 1).await;
        links.retain(|_| false);
        let new = call(&links);
        Peer::has_seen(&peer.calls, 2).await;
        assert_eq!(peer.connections.load(Ordering::Relaxed), 2);
        peer.holds.send_replace(false);
        assert!(old.await.is_ok_and(|answer| answer.is_ok()));
        assert!(new.await.is_ok_and(|answer| answer.is_ok()));
        Peer::has_seen(&peer.closed, 1).await;
        assert!(links.settings.clock.now().since_origin() < IDLE_MAX, "the old connection is closed at once");
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_closed_and_the_next_call_connects_anew_at_once() {
        let peer = Peer::new(false);
        let links = links(peer.clone());
        assert!(call(&links).await.is_ok_and(|answer| answer.is_ok()));
        tokio::time::sleep(IDLE_MAX / 2).await;
        assert!(call(&links).await.is_ok_and(|answer| answer.is_ok()));
        assert_eq!(peer.connections.load(Ordering::Relaxed), 1);
        let since = links.settings.clock.now();
        Peer::has_seen(&peer.closed, 1).await;
        let now = links.settings.clock.now();
        assert_eq!(now - since, IDLE_MAX, "it was idle from the last answer on");
        assert!(call(&links).await.is_ok_and(|answer| answer.is_ok()));
        assert_eq!(peer.connections.load(Ordering::Relaxed), 2);
        assert_eq!(links.settings.clock.now(), now, "an idle connection that ended delays nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_not_answered_in_time_ends_its_connection_whatever_the_alarm_was_set_for() {
        let peer = Peer::new(false);
        let links = links(peer.clone());
        assert!(call(&links).await.is_ok_and(|answer| answer.is_ok()));
        peer.holds.send_replace(true);
        tokio::time::sleep(Duration::from_secs(100)).await;
        let since = links.settings.clock.now();
        let failure = call(&links).await.expect("told").expect_err("no answer");
        assert!(matches!(failure, Failure::TimedOut { sent: true, .. }), "{failure}");
        assert_eq!(links.settings.clock.now() - since, Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_a_delayed_connection_has_not_begun_with_end_at_their_deadlines_and_were_not_sent() {
        let peer = Peer { throttle_ms: 60_000, ..Peer::new(false) };
        let links = links(peer.clone());
        // The answers to these begin with the delay.
        let seconds = |timeout| ask(&links, ListGroupsRequest::default(), Duration::from_secs(timeout));
        assert!(seconds(5).await.is_ok_and(|answer| answer.is_ok()));
        let since = links.settings.clock.now();
        let (late, early, patient) = (seconds(20), seconds(5), seconds(120));
        for (ended, after) in [(early, 5), (late, 20)] {
            let failure = ended.await.expect("told").expect_err("it did not begin");
            assert!(matches!(failure, Failure::TimedOut { sent: false, .. }), "{failure}");
            assert_eq!(links.settings.clock.now() - since, Duration::from_secs(after));
        }
        assert_eq!(*peer.calls.borrow(), 1, "nothing is sent meanwhile");
        assert!(patient.await.is_ok_and(|answer| answer.is_ok()));
        assert_eq!(links.settings.clock.now() - since, Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_waits_for_a_connection_until_its_deadline_was_not_sent() {
        let links = links(Silent);
        let request = Typed { request: ApiVersionsRequest::default(), version_max: 0 };
        let (link, clock) = (links.to(&address()), &links.settings.clock);
        let deadline = clock.after(Duration::from_millis(500));
        let failure =
            crate::brokers::ask_on(&link, clock, request, deadline).await.expect_err("no connection");
        assert!(matches!(failure, Failure::TimedOut { sent: false, .. }), "{failure}");
    }

    /// A broker to which no connection comes about.
    struct Silent;

    impl Connect for Silent {
        fn connect(&self, _: &Address, _: Option<SocketAddr>) -> Connecting {
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn connecting_may_take_longer_after_each_failure_in_a_row_up_to_the_most() {
        let links = links(Silent);
        let mut took = Vec::new();
        for _ in 0..4 {
            let since = links.settings.clock.now();
            let failure = call(&links).await.expect("told").expect_err("no connection");
            assert!(matches!(failure, Failure::TimedOut { sent: false, .. }), "{failure}");
            took.push((links.settings.clock.now() - since).as_secs_f64());
        }
        // With a jitter of a fifth.
        let [first, second, third, fourth] = took[..] else { panic!("{took:?}") };
        assert_eq!(first, 1.0);
        assert!((1.6..=2.4).contains(&second) && (2.4..=3.6).contains(&third), "{took:?}");
        assert!((2.4..=3.6).contains(&fourth), "{took:?}");
    }

    /// A broker whose socket takes no bytes after the handshake until it is told, and then takes all that there are at once.
    #[derive(Clone)]
    struct Stuck(Arc<watch::Sender<bool>>);

    /// One connection to it.
    struct Stream {
        stream: DuplexStream,
        has_begun: bool,
        takes: Pin<Box<dyn Future<Output = ()> + Send>>,
    }

    impl Connect for Stuck {
        fn connect(&self, _: &Address, _: Option<SocketAddr>) -> Connecting {
            let (stream, theirs) = tokio::io::duplex(1 << 16);
            tokio::spawn(Peer::new(false).serve(theirs));
            let mut told = self.0.subscribe();
            let takes = Box::pin(async move { drop(told.wait_for(|takes| *takes).await) });
            Box::pin(async { Ok(Box::new(Stream { stream, has_begun: false, takes }) as Box<dyn Transport>) })
        }
    }

    impl AsyncRead for Stream {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_read(cx, buffer)
        }
    }

    impl AsyncWrite for Stream {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            if std::mem::replace(&mut self.has_begun, true) {
                ready!(self.takes.as_mut().poll(cx));
                self.takes = Box::pin(std::future::ready(()));
                return Poll::Ready(Ok(bytes.len()));
            }
            Pin::new(&mut self.stream).poll_write(cx, bytes)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_wait_start_when_unanswered_ones_before_them_were_written() {
        let takes = Arc::new(watch::channel(false).0);
        let links = links(Stuck(Arc::clone(&takes)));
        let unanswered = || {
            let request = Typed { request: ApiVersionsRequest::default(), version_max: 0 };
            let (reply, written) = Reply::channel();
            let timeout = Duration::from_secs(30);
            let deadline = links.settings.clock.after(timeout);
            links.to(&address()).send(Call::new(request, deadline, timeout, reply).unanswered());
            written
        };
        // More than a connection begins with at a time: the others stay in the queue.
        let calls: Vec<_> = (0..200).map(|_| unanswered()).collect();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let since = links.settings.clock.now();
        takes.send_replace(true);
        for written in calls {
            let outcome = written.await.expect("told");
            assert!(outcome.is_ok(), "{outcome:?}");
        }
        assert_eq!(links.settings.clock.now(), since);
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_was_silent_comes_last_until_it_answers_or_a_minute_has_passed() {
        let links = links(Peer::new(false));
        let addresses = Address::parse_list("a:1,b:1,c:1").expect("addresses");
        let check = |order: [usize; 3]| {
            assert_eq!(links.in_turn(addresses.clone()), order.map(|index| addresses[index].clone()));
        };
        links.note_answer(&addresses[2]);
        check([0, 1, 2]);
        links.note_failure(addresses[0].clone());
        check([1, 2, 0]);
        links.note_answer(&addresses[0]);
        check([0, 1, 2]);
        links.note_failure(addresses[1].clone());
        check([0, 2, 1]);
        tokio::time::advance(SET_BACK_FOR).await;
        check([0, 1, 2]);
        links.note_failure(addresses[1].clone());
        links.retain(|address| *address != addresses[1]);
        assert!(links.open().set_back.is_empty(), "it goes with its link");
    }

    #[tokio::test]
    async fn a_link_whose_task_has_ended_is_replaced() {
        let links = links(Peer::new(false));
        let address = Address::parse_list("a:1").expect("an address").remove(0);
        let (calls, ended) = mpsc::channel(1);
        drop(ended);
        links.open().links.insert(address.clone(), Link { calls, peer: Arc::from("a:1") });
        assert!(!links.to(&address).calls.is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_ends_while_a_connection_waits_for_its_backoff_is_not_used() {
        let mut settings = links(Peer::new(false)).settings;
        let (clock, timeout) = (settings.clock.clone(), Duration::from_secs(1));
        let sasl = Sasl::oauth_bearer(|| async { Ok(Token::new("t", Duration::from_secs(2))) });
        let holder = Holder::start(sasl, Nonces::System, &settings.runtime, &clock, timeout, Rng::seeded(1));
        settings.sasl = Some(Arc::new(holder));
        settings.backoff = Backoff { min: Duration::from_secs(10), max: Duration::from_secs(10) };
        let (calls, peer) = (Queue::new(mpsc::channel(1).1, Arc::from("a:1")), Arc::from("a:1"));
        let (retry, rng) = (Retry::default(), Rng::seeded(1));
        let mut task = Task { settings, address: address(), peer, calls, retry, failures: 0, rng };
        for backs_off in [false, true] {
            if backs_off {
                task.note_failure();
            }
            let began = clock.now();
            let login = task.login_after_backoff().await.expect("there is a token");
            assert_eq!(clock.now() - began > Duration::from_secs(5), backs_off);
            let Some((credentials, _)) = login else { panic!("no credentials") };
            let Credentials::Token(token) = &*credentials else { panic!("{credentials:?}") };
            assert!(token.until > clock.now(), "the token has ended");
        }
    }
}
