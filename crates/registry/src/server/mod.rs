//! A schema registry for development and tests, with the API of Confluent's. It keeps its state in a topic, as Confluent's does.
//!
//! ```text
//! HTTP ─▶ request ─▶ routes ─▶ state: answer + records ─▶ topic (a transaction) ─▶ state
//!         (http)    (request)  (answer)                      (log)
//! ```
//!
//! Only `http` and `log` do I/O.

mod answer;
mod entity;
mod error;
mod fault;
mod formats;
mod http;
mod log;
mod native;
mod record;
mod request;
mod shown;
mod state;
mod subject;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use milena::Client;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::answer::{Answer, Identity};
use self::error::Cause;
pub use self::error::Error;
use self::fault::Fault;
use self::formats::Formats;
use self::http::{Limits, Service};
use self::log::{Log, Unwritten, Written};
use self::native::Native;
use self::request::Request;
use self::state::State;

/// A schema registry that runs in this process. It ends when this is dropped; [`close`](Self::close) waits for requests in work.
///
/// It answers the requests of Confluent's registry (8.0) with its JSON and its error codes, keeps schemas in a compacted topic in the
/// format of Confluent's, and knows Avro, JSON Schema and Protobuf. One registry at a time writes to a topic: when another one is
/// started on it, this one answers every request with error 50004 from its next write on.
///
/// There are no passwords and no TLS, so it listens on loopback unless it is told otherwise.
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use milena_registry::server::Server;
///
/// let cluster = milena_broker::Broker::builder().start().await?;
/// let client = milena::Client::connect(cluster.bootstrap()).await?;
/// let registry = Server::builder(&client).port(0).start().await?;
/// println!("schemas are at {}", registry.url());
/// registry.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "the registry ends when this is dropped"]
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Sets a registry up; see [`Server::builder`].
#[derive(Debug)]
#[must_use = "a builder does nothing until it starts"]
pub struct Builder {
    client: Client,
    host: IpAddr,
    port: u16,
    topic: String,
    replication: Option<i16>,
    allow_anyone: bool,
    limits: Limits,
}

/// The port of Confluent's registry.
const PORT: u16 = 8081;
/// The topic of Confluent's registry.
const TOPIC: &str = "_schemas";
/// How long a request may wait for the topic. Java's registry gives up earlier; clients wait for 60 s.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the end may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

impl Server {
    /// Sets up a registry whose topic is in this client's cluster.
    pub fn builder(client: &Client) -> Builder {
        Builder {
            client: client.clone(),
            host: Ipv4Addr::LOCALHOST.into(),
            port: PORT,
            topic: TOPIC.into(),
            replication: None,
            allow_anyone: false,
            limits: Limits::default(),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL for clients on this machine.
    pub fn url(&self) -> String {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        format!("http://{address}")
    }

    /// Answers requests in work, and ends. Takes 10 seconds at most.
    ///
    /// # Errors
    /// When the last write to the topic does not come to its end in time.
    ///
    /// # Cancel safety
    /// If the future is dropped, the registry ends as if it had been dropped.
    pub async fn close(mut self) -> Result<(), Error> {
        self.stop.send_replace(true);
        let _ = timeout(CLOSE_TIMEOUT, &mut self.task).await;
        let log = self.shared.log.lock().await.take();
        match log {
            Some(log) => log.close(CLOSE_TIMEOUT).await,
            None => Ok(()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Builder {
    /// Sets the address to listen on. Default 127.0.0.1. One that other machines reach needs [`allow_anyone`](Self::allow_anyone).
    pub fn host(mut self, host: impl Into<IpAddr>) -> Self {
        self.host = host.into();
        self
    }

    /// Sets the port. 0 takes a free one. Default 8081.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Sets the topic (`kafkastore.topic`). Default `_schemas`. It is made with one partition and `cleanup.policy=compact` if it does
    /// not exist.
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = topic.into();
        self
    }

    /// Sets the number of replicas of a topic that is made (`kafkastore.topic.replication.factor`). Default: the brokers' own.
    pub fn replication(mut self, count: i16) -> Self {
        self.replication = Some(count);
        self
    }

    /// Lets everyone who can reach the address read, write and delete all schemas. Default false.
    pub fn allow_anyone(mut self, allow: bool) -> Self {
        self.allow_anyone = allow;
        self
    }

    /// Sets the most bytes that the body of a request may have. Default 1 MiB, which is what a record may have.
    pub fn body_bytes_max(mut self, bytes: usize) -> Self {
        self.limits.body_bytes = bytes;
        self
    }

    /// Takes over the topic, reads it, and listens.
    ///
    /// # Errors
    /// When the address cannot be listened on or is not loopback, the cluster cannot be used, or the topic has more than one partition
    /// or is not compacted.
    ///
    /// # Cancel safety
    /// If the future is dropped, there is no registry. An earlier one may be fenced all the same.
    pub async fn start(self) -> Result<Server, Error> {
        self.start_with(Arc::new(Native)).await
    }

    async fn start_with(self, formats: Arc<dyn Formats>) -> Result<Server, Error> {
        let address = SocketAddr::new(self.host, self.port);
        if !self.host.is_loopback() && !self.allow_anyone {
            let why = format!(
                "the registry would listen at {address} for everyone who can reach it, and has no passwords: that must be allowed"
            );
            return Err(Cause::Setting(why).into());
        }
        let refused = |error| Cause::Listen(address.to_string(), error);
        // A port that is taken is told before another registry is fenced.
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let cluster = self.client.admin().describe_cluster().await?;
        let identity = Identity {
            cluster_id: cluster.cluster_id.unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION"),
        };
        let (log, state) = Log::open(self.client, &self.topic, self.replication).await?;
        let shared = Arc::new(Shared {
            state: RwLock::new(state),
            log: Mutex::new(Some(log)),
            is_fenced: AtomicBool::new(false),
            formats,
            identity,
        });
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(http::serve(listener, Arc::clone(&shared), self.limits, stopped));
        Ok(Server { address, shared, stop, task })
    }
}

/// What connections share. Changes are one after another, by the lock of the log.
struct Shared {
    state: RwLock<State>,
    /// None when the registry has ended.
    log: Mutex<Option<Log>>,
    is_fenced: AtomicBool,
    formats: Arc<dyn Formats>,
    identity: Identity,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Service for Shared {
    async fn answer(self: Arc<Self>, request: Request) -> Result<Answer, Fault> {
        if self.is_fenced.load(Ordering::Relaxed) {
            return Err(Fault::fenced());
        }
        // What a peer has sent may take milliseconds to read. And a peer that goes away does not leave a write half done.
        let work = tokio::spawn(async move {
            let request = Arc::new(request);
            let answer = self.ask(&request).await?;
            if answer.records.is_empty() {
                return Ok(answer);
            }
            self.change(&request).await
        });
        match timeout(WRITE_TIMEOUT, work).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(_)) => Err(Fault::store("the request could not be carried out")),
            Err(_) => Err(Fault::timed_out()),
        }
    }
}

impl Shared {
    async fn ask(self: &Arc<Self>, request: &Arc<Request>) -> Result<Answer, Fault> {
        let (this, request) = (Arc::clone(self), Arc::clone(request));
        let asked = tokio::task::spawn_blocking(move || {
            let state = this.state.read().unwrap_or_else(PoisonError::into_inner);
            answer::answer(&state, &*this.formats, &this.identity, &request)
        });
        asked.await.unwrap_or_else(|_| Err(Fault::store("the request could not be carried out")))
    }

    /// Answers a request that writes. The state may have changed since it was asked first, so it is asked again.
    async fn change(self: &Arc<Self>, request: &Arc<Request>) -> Result<Answer, Fault> {
        let mut log = self.log.lock().await;
        let log = log.as_mut().ok_or_else(|| Fault::store("the registry ends"))?;
        loop {
            let answer = self.ask(request).await?;
            if answer.records.is_empty() {
                return Ok(answer);
            }
            let written = match log.append(&answer.records).await {
                Ok(written) => written,
                // Each time it is known what has come of one write more.
                Err(Unwritten::Stale(state)) => {
                    *self.state.write().unwrap_or_else(PoisonError::into_inner) = *state;
                    continue;
                }
                Err(Unwritten::Fenced) => {
                    self.is_fenced.store(true, Ordering::Relaxed);
                    tracing::error!("another registry has taken over the topic of schemas");
                    return Err(Fault::fenced());
                }
                Err(Unwritten::TooLarge) => return Err(Fault::too_large()),
                Err(Unwritten::Failed(why)) => return Err(Fault::store(&why)),
            };
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            match written {
                Written::Next(timestamp_ms) => {
                    for record in &answer.records {
                        if let Err(why) = state.apply(record, Some(timestamp_ms)) {
                            tracing::error!("a record of our own is left alone: {why}");
                        }
                    }
                }
                Written::Anew(anew) => *state = *anew,
            }
            return Ok(answer);
        }
    }
}
