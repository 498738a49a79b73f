//! The settings of an embedded cluster, and its start.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use milena_wire::Str;
use milena_wire::codec::Compression;

use crate::acls::Authorizer;
use crate::cluster::{Cluster, Door};
use crate::configs::{BrokerConfig, Overrides};
use crate::entropy::Entropy;
use crate::error::Error;
use crate::groups::GroupSettings;
use crate::listener::Listener;
use crate::machine::Machine;
use crate::oauth::OauthValidator;
use crate::parts::{MachineSettings, Security};
use crate::sasl::SaslMechanism;
use crate::secret::Secret;
use crate::server::{Acceptor, Entrance, ServerLimits};
use crate::state::{Endpoint, Node};
use crate::storage::Storage;
use crate::telemetry::TelemetrySettings;
use crate::tls::Tls;
use crate::tokens::Lifetimes;
use crate::transactions::{TransactionSettings, VERSION_MAX};
use crate::users::Login;

/// An embedded Kafka broker: see [`Broker::builder`].
#[derive(Debug)]
pub struct Broker;

/// The settings of a new cluster. Every setting has a default.
#[derive(Debug, Clone)]
#[must_use = "nothing runs before `start`"]
pub struct Builder {
    nodes: u16,
    racks: Vec<Str>,
    host: IpAddr,
    advertised_host: Option<String>,
    first_port: u16,
    data_dir: Option<PathBuf>,
    limits: ServerLimits,
    machine: MachineSettings,
    configs: Vec<(String, String)>,
    seed: Option<u64>,
    /// Empty for one listener with the security protocol PLAINTEXT.
    listeners: Vec<Listener>,
    /// `None` for all that have what they need.
    mechanisms: Option<Vec<SaslMechanism>>,
    logins: Vec<Login>,
    oauth: Option<OauthValidator>,
    authorizer: Option<Authorizer>,
    token_key: Option<Secret>,
    token_lifetimes: Lifetimes,
    allows_anyone: bool,
}

impl Broker {
    /// A builder with the defaults: one node, in memory, on a free port of the loopback interface.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena_broker::Error> {
    /// let cluster = milena_broker::Broker::builder().nodes(3).start().await?;
    /// println!("bootstrap servers: {}", cluster.bootstrap());
    /// cluster.shutdown().await
    /// # }
    /// ```
    pub fn builder() -> Builder {
        Builder::default()
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            nodes: 1,
            racks: Vec::new(),
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            advertised_host: None,
            first_port: 0,
            data_dir: None,
            limits: ServerLimits {
                request_bytes_max: 100 << 20,
                buffer_bytes_max: 256 << 20,
                connections_max: 4096,
                connections_per_address_max: usize::MAX,
                guests_per_address_max: 256,
                idle_timeout: Duration::from_secs(600),
                stall_timeout: Duration::from_secs(30),
                disk_fetch_bytes: 0,
            },
            machine: MachineSettings {
                partitions_default: 1,
                replication_default: 1,
                auto_create_topics: true,
                topic_defaults: Overrides::new(),
                retention_check_interval: Duration::from_secs(5 * 60),
                cleaner_backoff: Duration::from_secs(15),
                fetch_bytes_max: 55 << 20,
                fetch_sessions_max: 1000,
                groups: GroupSettings::default(),
                transactions: TransactionSettings::default(),
                session_lifetime_max: Duration::ZERO,
                failed_authentication_delay: Duration::from_millis(100),
                telemetry: TelemetrySettings::default(),
                seed: 0,
            },
            configs: Vec::new(),
            seed: None,
            listeners: Vec::new(),
            mechanisms: None,
            logins: Vec::new(),
            oauth: None,
            authorizer: None,
            token_key: None,
            token_lifetimes: Lifetimes::default(),
            allows_anyone: false,
        }
    }
}

impl Builder {
    /// The number of nodes, each with a port of its own. Their ids are 1, 2, and so on. Default 1.
    pub fn nodes(mut self, nodes: u16) -> Self {
        self.nodes = nodes.max(1);
        self
    }

    /// The racks of the nodes, in the order of their ids (`broker.rack`). Default: none. With racks, a leader names to a
    /// consumer in another rack a replica that is in the consumer's own, as Kafka does with its `RackAwareReplicaSelector`
    /// (KIP-392).
    pub fn racks<R: Into<String>>(mut self, racks: impl IntoIterator<Item = R>) -> Self {
        self.racks = racks.into_iter().map(|rack| Str::from(rack.into())).collect();
        self
    }

    /// Adds a listener (`listeners`). May be repeated; every node has a port for each listener. Default: one
    /// [`Listener::plaintext`]. Clients that come by a listener learn the addresses that the nodes have there, as in Kafka.
    pub fn listener(mut self, listener: Listener) -> Self {
        self.listeners.push(listener);
        self
    }

    /// The mechanisms by which clients may authenticate to listeners with SASL (`sasl.enabled.mechanisms`). Default: PLAIN,
    /// SCRAM-SHA-256 and SCRAM-SHA-512, and OAUTHBEARER with [`oauth`](Self::oauth).
    pub fn sasl_mechanisms(mut self, mechanisms: impl IntoIterator<Item = SaslMechanism>) -> Self {
        self.mechanisms = Some(mechanisms.into_iter().collect());
        self
    }

    /// Adds a user who may log in to listeners with SASL, by PLAIN and by SCRAM as far as they are enabled. The principal
    /// is `User:` and the name. The password is hashed when the broker starts.
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        let password = password.into().into_bytes().into();
        self.logins.push(Login { user: name.into(), password });
        self
    }

    /// The rules for the tokens of OAUTHBEARER. A session lasts no longer than its token. Default: none.
    pub fn oauth(mut self, validator: OauthValidator) -> Self {
        self.oauth = Some(validator);
        self
    }

    /// Has clients do only what ACLs allow (`authorizer.class.name`). Default: everyone may do everything.
    pub fn authorizer(mut self, authorizer: Authorizer) -> Self {
        self.authorizer = Some(authorizer);
        self
    }

    /// The key of delegation tokens (`delegation.token.secret.key`, KIP-48): users who have logged in get tokens then, by
    /// which other clients log in for them by SCRAM. Tokens outlive a restart only with the same key. Default: none, and
    /// requests for tokens are answered DELEGATION_TOKEN_AUTH_DISABLED. An empty key is none.
    pub fn delegation_token_key(mut self, key: impl Into<String>) -> Self {
        let key = key.into().into_bytes();
        self.token_key = (!key.is_empty()).then(|| key.into());
        self
    }

    /// The longest life of a delegation token, however often it is renewed (`delegation.token.max.lifetime.ms`). Default 7
    /// days.
    pub fn delegation_token_lifetime_max(mut self, lifetime: Duration) -> Self {
        self.token_lifetimes.longest = lifetime.max(Duration::from_millis(1));
        self
    }

    /// How long a delegation token lasts unless it is renewed (`delegation.token.expiry.time.ms`). Default 1 day. Nobody can
    /// log in by a token after that; it is removed within an hour.
    pub fn delegation_token_expiry(mut self, expiry: Duration) -> Self {
        self.token_lifetimes.unless_renewed = expiry.max(Duration::from_millis(1));
        self
    }

    /// How long an authenticated connection lasts (`connections.max.reauth.ms`, KIP-368). A client that has not
    /// authenticated again by then is disconnected when it sends its next request. Default: no limit.
    pub fn session_lifetime_max(mut self, lifetime: Duration) -> Self {
        self.machine.session_lifetime_max = lifetime;
        self
    }

    /// How long the answer to a failed authentication is held back (`connection.failed.authentication.delay.ms`), so that
    /// guessing passwords takes long. Default 100 ms.
    pub fn failed_authentication_delay(mut self, delay: Duration) -> Self {
        self.machine.failed_authentication_delay = delay;
        self
    }

    /// The address to listen on. Default 127.0.0.1. Any other address needs authentication on every listener, or
    /// [`allow_anyone`](Self::allow_anyone).
    pub fn host(mut self, host: IpAddr) -> Self {
        self.host = host;
        self
    }

    /// Listens on an address that is not loopback without authentication. Everyone who can reach it can read, write and
    /// delete everything then. Default false: such a broker does not start.
    pub fn allow_anyone(mut self, allow: bool) -> Self {
        self.allows_anyone = allow;
        self
    }

    /// The host name that the broker tells clients to connect to. Default: the address that it listens on. If it
    /// listens on all addresses the default is 127.0.0.1 or ::1, which only clients on this machine can use.
    pub fn advertised_host(mut self, host: impl Into<String>) -> Self {
        self.advertised_host = Some(host.into());
        self
    }

    /// The first listener's port at node 1. The next nodes have the next ports. Default 0: the system chooses free ports.
    /// The other listeners have ports of their own ([`Listener::port`]).
    pub fn port(mut self, first: u16) -> Self {
        self.first_port = first;
        self
    }

    /// Keeps all data in this directory, in Kafka's segment format, across restarts. Default: in memory.
    ///
    /// An acknowledged record survives `kill -9` of the process. It is in the system's page cache and not yet on the
    /// disk: a power cut may lose the last records, as with Kafka's own defaults.
    pub fn data_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(dir.into());
        self
    }

    /// The number of partitions of a topic that is created without one (`num.partitions`). Default 1.
    pub fn default_partitions(mut self, partitions: i32) -> Self {
        self.machine.partitions_default = partitions.max(1);
        self
    }

    /// The number of replicas of a topic that is created without one (`default.replication.factor`). Default 1.
    ///
    /// All nodes are one process, and all replicas of a partition are the same log. So replication costs nothing, is
    /// instant, and protects from nothing but [`Cluster::stop_node`].
    pub fn default_replication(mut self, factor: i16) -> Self {
        self.machine.replication_default = factor.max(1);
        self
    }

    /// Whether a topic is created when a client asks for its metadata (`auto.create.topics.enable`). Default true.
    pub fn auto_create_topics(mut self, create: bool) -> Self {
        self.machine.auto_create_topics = create;
        self
    }

    /// The largest record batch in bytes, compressed if it is (`message.max.bytes`). Default 1 048 588.
    pub fn batch_bytes_max(self, bytes: usize) -> Self {
        self.topic_default("max.message.bytes", bytes.min(i32::MAX as usize).to_string())
    }

    /// The largest segment file in bytes (`log.segment.bytes`). Default 1 GiB.
    pub fn segment_bytes(self, bytes: u32) -> Self {
        self.topic_default("segment.bytes", bytes.clamp(1, i32::MAX as u32).to_string())
    }

    /// How often the broker looks for records that it need not keep (`log.retention.check.interval.ms`). Default 5
    /// minutes. The first time is at most 30 seconds after the first connection, as in Kafka.
    ///
    /// How long they are kept is a topic's own setting, `retention.ms` or `retention.bytes`; Kafka's default is 7 days.
    pub fn retention_check_interval(mut self, interval: Duration) -> Self {
        self.machine.retention_check_interval = interval.max(Duration::from_millis(1));
        self
    }

    /// The largest request in bytes (`socket.request.max.bytes`). Default 100 MiB. Memory for a request is taken as it
    /// arrives.
    pub fn request_bytes_max(mut self, bytes: usize) -> Self {
        self.limits.request_bytes_max = bytes.min(i32::MAX as usize);
        self
    }

    /// The most bytes of records in the answer to one fetch, unless the first batch is larger (`fetch.max.bytes`).
    /// Default 55 MiB. With [`data_dir`](Self::data_dir) it is at most [`batch_bytes_max`](Self::batch_bytes_max),
    /// because records are read into memory before they are sent.
    pub fn fetch_bytes_max(mut self, bytes: usize) -> Self {
        self.machine.fetch_bytes_max = bytes.min(i32::MAX as usize);
        self
    }

    /// Whether clients that push metrics are asked for what was counted since their last push (delta temporality), or for totals
    /// (cumulative). Default true: Kafka asks for nothing else.
    pub fn delta_client_metrics(mut self, delta: bool) -> Self {
        self.machine.telemetry.wants_delta = delta;
        self
    }

    /// The codecs in which clients may push metrics, the best one first; what is not compressed is taken always. Default zstd,
    /// lz4, gzip and snappy, as in Kafka.
    pub fn client_metrics_codecs(mut self, codecs: impl IntoIterator<Item = Compression>) -> Self {
        self.machine.telemetry.codecs = codecs.into_iter().collect();
        self
    }

    /// The memory in bytes for all requests that are being read and all responses that are being written, beyond 16 KiB
    /// of each connection. Default 256 MiB. When it is used up, connections are closed that announced far more than the
    /// one that needs memory, or that have stalled longest.
    pub fn buffer_bytes_max(mut self, bytes: usize) -> Self {
        self.limits.buffer_bytes_max = bytes;
        self
    }

    /// The most connections at a time. Further ones are closed at once. Default 4096.
    pub fn connections_max(mut self, connections: usize) -> Self {
        self.limits.connections_max = connections;
        self
    }

    /// The most connections at a time from one address (`max.connections.per.ip`), whether their clients have
    /// authenticated or not. Further ones are closed at once. Default: no limit but that of all connections.
    pub fn connections_per_address_max(mut self, connections: usize) -> Self {
        self.limits.connections_per_address_max = connections;
        self
    }

    /// The most connections at a time from one address whose clients have yet to authenticate: by SASL, or in the handshake of
    /// TLS. Further ones are closed at once. Each may take 128 KiB, so that the default of 256 is 32 MiB for an address.
    pub fn unauthenticated_connections_per_address_max(mut self, connections: usize) -> Self {
        self.limits.guests_per_address_max = connections;
        self
    }

    /// How long a connection may stay without a request (`connections.max.idle.ms`). Default 10 minutes.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.limits.idle_timeout = timeout;
        self
    }

    /// How long a request may take to arrive, or the client to read a response. Each 16 KiB of either begin the time
    /// anew. Default 30 seconds: Kafka clients wait no longer for an answer.
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.limits.stall_timeout = timeout;
        self
    }

    /// How long the first rebalance of an empty group waits for more members (`group.initial.rebalance.delay.ms`).
    /// Default zero, as in the configuration that Kafka comes with for development; Kafka's own default is 3 seconds.
    pub fn group_initial_rebalance_delay(mut self, delay: Duration) -> Self {
        self.machine.groups.initial_rebalance_delay = delay;
        self
    }

    /// The shortest session timeout that a member of a group may ask for (`group.min.session.timeout.ms`). Default 6
    /// seconds.
    pub fn group_session_timeout_min(mut self, timeout: Duration) -> Self {
        self.machine.groups.session_timeout_min = timeout;
        self
    }

    /// The most members of a group (`group.max.size`). Default 10 000; Kafka has no limit.
    pub fn group_members_max(mut self, members: usize) -> Self {
        self.machine.groups.members_max = members.max(1);
        self
    }

    /// How often members of the consumer protocol (KIP-848) send heartbeats (`group.consumer.heartbeat.interval.ms`). It is
    /// how long they take to learn of a rebalance. Default 5 seconds.
    pub fn group_consumer_heartbeat_interval(mut self, interval: Duration) -> Self {
        self.machine.groups.consumer_heartbeat_interval = interval;
        self
    }

    /// How long members of the consumer protocol may be silent (`group.consumer.session.timeout.ms`). Default 45 seconds.
    pub fn group_consumer_session_timeout(mut self, timeout: Duration) -> Self {
        self.machine.groups.consumer_session_timeout = timeout;
        self
    }

    /// The most members of a group of the consumer protocol (`group.consumer.max.size`). Default 10 000; Kafka has no
    /// limit.
    pub fn group_consumer_members_max(mut self, members: usize) -> Self {
        self.machine.groups.consumer_members_max = members.max(1);
        self
    }

    /// The shortest time between two assignments of a group of the consumer protocol
    /// (`group.consumer.assignment.interval.ms`). Default zero, so that no member waits for its partitions longer than it
    /// must; Kafka's default is 1 second since 4.3.
    pub fn group_consumer_assignment_interval(mut self, interval: Duration) -> Self {
        self.machine.groups.consumer_assignment_interval = interval;
        self
    }

    /// Which groups change from one protocol to the other while they have members (`group.consumer.migration.policy`).
    /// Default [`MigrationPolicy::Bidirectional`].
    pub fn group_migration(mut self, policy: MigrationPolicy) -> Self {
        self.machine.groups.migration = policy;
        self
    }

    /// How long committed offsets are kept that no member of their group uses (`offsets.retention.minutes`). Default 7
    /// days.
    pub fn offsets_retention(mut self, retention: Duration) -> Self {
        self.machine.groups.offsets_retention = retention;
        self
    }

    /// The finalized feature `transaction.version`, from 0 to 2. Default 2: clients raise their epoch with each transaction
    /// (KIP-890). With 1 or 0 they follow the protocol of Kafka 3.9. [`Cluster::set_transaction_version`] changes it while
    /// the cluster runs.
    pub fn transaction_version(mut self, version: i16) -> Self {
        self.machine.transactions.version = version.clamp(0, VERSION_MAX);
        self
    }

    /// The longest transaction timeout that a producer may ask for (`transaction.max.timeout.ms`). Default 15 minutes.
    pub fn transaction_timeout_max(mut self, timeout: Duration) -> Self {
        self.machine.transactions.timeout_max = timeout;
        self
    }

    /// How long a transactional id is kept that no producer uses (`transactional.id.expiration.ms`). Default 7 days.
    pub fn transactional_id_expiration(mut self, expiration: Duration) -> Self {
        self.machine.transactions.expiration = expiration;
        self
    }

    /// How long after the end of a transaction its markers are written. Default zero. Until then its partitions' last stable
    /// offset stays, and the producer's next transaction is answered CONCURRENT_TRANSACTIONS, as often happens with Kafka.
    pub fn transaction_marker_delay(mut self, delay: Duration) -> Self {
        self.machine.transactions.marker_delay = delay;
        self
    }

    /// How long a node is loading when it has become the coordinator of a transactional id: it answers
    /// COORDINATOR_LOAD_IN_PROGRESS. Default zero.
    pub fn transaction_load_time(mut self, time: Duration) -> Self {
        self.machine.transactions.load_time = time;
        self
    }

    /// Sets a broker config by Kafka's name, such as `log.retention.ms`, `log.cleanup.policy` or `group.max.size`. It
    /// goes before this builder's own setting for the same thing. DescribeConfigs shows all of them, and clients may
    /// alter them while the broker runs.
    ///
    /// [`start`](Self::start) fails if there is no such config, and if it cannot have this value.
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.push((name.into(), value.into()));
        self
    }

    /// The seed of topic ids, cluster id and fetch session ids. Default: another one for each cluster.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Starts the cluster on the tokio runtime that this is called in.
    ///
    /// # Errors
    /// When a port cannot be bound, when a listener without authentication could be reached from other machines
    /// ([`allow_anyone`](Self::allow_anyone)), when a certificate does not fit its key, when two listeners have the same name, when
    /// OAUTHBEARER is enabled and has no rules, when the data directory cannot be used or another
    /// broker uses it, and when its data is damaged ([`Error::is_damaged`]).
    ///
    /// # Cancel safety
    /// Cancelled, no part of the cluster runs.
    pub async fn start(self) -> Result<Cluster, Error> {
        Cluster::start(self).await
    }

    /// Makes the cluster's machine, without sockets. The addresses of its nodes are `node-1:9092` and so on, with the next
    /// port for the next listener. Nonces and salts come from the seed.
    ///
    /// # Errors
    /// As [`start`](Self::start), except for the ports.
    pub fn machine(mut self) -> Result<Machine, Error> {
        let seed = self.seed.unwrap_or_else(random_seed);
        self.seed = Some(seed);
        let builder = self.configured()?;
        let count = builder.listeners.len() as u16;
        let endpoints = |id| {
            let endpoint = |index| Endpoint { host: Str::from(format!("node-{id}")), port: 9092 + index };
            (id, (0..count).map(endpoint).collect())
        };
        let nodes = builder.node_ids().map(endpoints).collect();
        builder.machine_of(nodes, Entropy::seeded(seed))
    }

    fn topic_default(mut self, name: &str, value: String) -> Self {
        self.machine.topic_defaults.insert(name.to_owned(), value);
        self
    }

    /// Has the settings follow the configs that were set by name, and checks the listeners.
    fn configured(mut self) -> Result<Self, Error> {
        if self.listeners.is_empty() {
            self.listeners.push(Listener::plaintext());
        }
        let wanted = self.mechanisms.as_deref().unwrap_or_default();
        if wanted.contains(&SaslMechanism::OauthBearer) && self.oauth.is_none() {
            return Err(Error::refused("OAUTHBEARER needs rules for tokens"));
        }
        for (index, listener) in self.listeners.iter().enumerate() {
            if self.listeners[..index].iter().any(|other| other.name == listener.name) {
                return Err(Error::refused(format!("two listeners have the name {}", listener.name)));
            }
        }
        for (name, value) in std::mem::take(&mut self.configs) {
            let config = BrokerConfig::find(&name);
            let config = config.ok_or_else(|| Error::refused(format!("this broker has no config {name}")))?;
            let value = config.check(&value).map_err(Error::refused)?;
            config.write(&mut self.machine, &value);
        }
        Ok(self)
    }

    /// Refuses to let everyone in who can reach this computer.
    fn check_host(&self) -> Result<(), Error> {
        let open = self.listeners.iter().find(|listener| !listener.authenticates());
        match open {
            Some(listener) if !self.host.is_loopback() && !self.allows_anyone => {
                Err(Error::refused(format!(
                    "everyone who can reach {} could read and delete everything, because clients of the listener {} need \
                 not authenticate",
                    self.host, listener.name
                )))
            }
            _ => Ok(()),
        }
    }

    /// The machine for nodes at these addresses.
    pub(crate) fn machine_of(
        mut self,
        nodes: Vec<(i32, Vec<Endpoint>)>,
        entropy: Entropy,
    ) -> Result<Machine, Error> {
        self.machine.seed = self.seed.unwrap_or_else(random_seed);
        let storage = self.data_dir.as_deref().map(Storage::open).transpose()?;
        let racks = std::mem::take(&mut self.racks);
        let rack = |id: i32| racks.get(usize::try_from(id - 1).ok()?).cloned();
        let node =
            |(id, endpoints)| Node { id, endpoints, rack: rack(id), is_up: true, offer: Default::default() };
        let protocols = self.listeners.iter().map(|listener| listener.protocol).collect();
        let has_oauth = self.oauth.is_some();
        let usual = SaslMechanism::ALL.iter().copied();
        let usual = usual.filter(|mechanism| *mechanism != SaslMechanism::OauthBearer || has_oauth);
        let mechanisms = self.mechanisms.unwrap_or_else(|| usual.collect());
        let (logins, oauth, authorizer) = (self.logins, self.oauth, self.authorizer);
        let (token_key, token_lifetimes) = (self.token_key, self.token_lifetimes);
        let security = Security {
            protocols,
            mechanisms,
            logins,
            oauth,
            authorizer,
            token_key,
            token_lifetimes,
            entropy,
        };
        Machine::new(self.machine, security, nodes.into_iter().map(node).collect(), storage)
    }

    #[cfg(test)]
    pub(crate) fn settings(&self) -> &MachineSettings {
        &self.machine
    }

    pub(crate) fn node_ids(&self) -> impl Iterator<Item = i32> + use<> {
        1..=i32::from(self.nodes)
    }

    /// The address that a node is to listen on.
    fn address(&self, node: i32, index: usize, listener: &Listener) -> SocketAddr {
        let usual = if index == 0 { self.first_port } else { 0 };
        let port = match listener.first_port.unwrap_or(usual) {
            0 => 0,
            first => first.saturating_add((node - 1) as u16),
        };
        SocketAddr::new(self.host, port)
    }

    /// The host that clients are told for a node that listens on this address.
    pub(crate) fn advertised(&self, listening: SocketAddr) -> Str {
        if let Some(host) = &self.advertised_host {
            return Str::from(host.as_str());
        }
        let ip = match listening.ip() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        Str::from(ip.to_string())
    }

    /// The listeners with TLS, by their indices.
    fn entrances(&self) -> Result<Vec<Option<Entrance>>, Error> {
        let entrance =
            |tls: &Tls| Ok(Entrance { acceptor: Acceptor(tls.config()?.into()), rules: tls.rules() });
        self.listeners.iter().map(|listener| listener.tls.as_ref().map(entrance).transpose()).collect()
    }

    fn listener_names(&self) -> Vec<String> {
        self.listeners.iter().map(|listener| listener.name.clone()).collect()
    }

    pub(crate) fn limits(&self) -> ServerLimits {
        let disk_fetch_bytes = self.data_dir.as_ref().map_or(0, |_| self.machine.batch_bytes_max().max(1));
        ServerLimits { disk_fetch_bytes, ..self.limits }
    }
}

#[expect(clippy::disallowed_methods, reason = "without a seed every run is another one")]
fn random_seed() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// Random bytes of the operating system.
fn entropy() -> Result<Entropy, Error> {
    let mut key = vec![0; 32];
    match getrandom::fill(&mut key) {
        Ok(()) => Ok(Entropy::new(key)),
        Err(error) => Err(Error::io("cannot get random bytes of the system", io::Error::other(error))),
    }
}

impl Cluster {
    async fn start(builder: Builder) -> Result<Self, Error> {
        let builder = builder.configured()?;
        builder.check_host()?;
        let mut sockets = Vec::new();
        let mut nodes = Vec::new();
        for node in builder.node_ids() {
            let mut endpoints = Vec::new();
            for (index, listener) in builder.listeners.iter().enumerate() {
                let wanted = builder.address(node, index, listener);
                let failed = |error| Error::io(format!("cannot listen on {wanted}"), error);
                let socket = crate::server::bind(wanted).await.map_err(failed)?;
                let bound = socket.local_addr().map_err(failed)?;
                endpoints.push(Endpoint { host: builder.advertised(bound), port: bound.port() });
                sockets.push((Door { node, listener: index, address: bound }, socket));
            }
            nodes.push((node, endpoints));
        }
        let (limits, names, entrances) = (builder.limits(), builder.listener_names(), builder.entrances()?);
        let machine = builder.machine_of(nodes, entropy()?)?;
        Ok(Self::run(Arc::new(crate::server::Shared::new(machine, limits, entrances)), names, sockets))
    }
}

/// Which groups change between the classic and the consumer protocol while they have members
/// (`group.consumer.migration.policy`). A group without members takes either, whatever the policy is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MigrationPolicy {
    /// None: members of the other protocol are refused.
    Disabled,
    /// A classic group takes members of the consumer protocol, and stays a group of the consumer protocol.
    Upgrade,
    /// When the last member of the consumer protocol leaves, a group becomes a classic one.
    Downgrade,
    /// Both.
    #[default]
    Bidirectional,
}

impl MigrationPolicy {
    /// Kafka's names of the policies, in the order of `ALL`.
    pub(crate) const NAMES: &'static [&'static str] = &["bidirectional", "disabled", "downgrade", "upgrade"];
    const ALL: [Self; 4] = [Self::Bidirectional, Self::Disabled, Self::Downgrade, Self::Upgrade];

    pub(crate) fn name(self) -> &'static str {
        let named = Self::ALL.into_iter().zip(Self::NAMES).find(|(policy, _)| *policy == self);
        named.map_or(Self::NAMES[0], |(_, name)| name)
    }

    /// The policy of this name, which is one of [`NAMES`](Self::NAMES).
    pub(crate) fn named(name: &str) -> Self {
        let named = Self::NAMES.iter().zip(Self::ALL).find(|(known, _)| **known == name);
        named.map_or_else(Self::default, |(_, policy)| policy)
    }

    pub(crate) fn upgrades(self) -> bool {
        matches!(self, Self::Upgrade | Self::Bidirectional)
    }

    pub(crate) fn downgrades(self) -> bool {
        matches!(self, Self::Downgrade | Self::Bidirectional)
    }
}
