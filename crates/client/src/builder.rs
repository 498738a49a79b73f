//! Builds a client, from code or from properties, and connects it.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use milena_core::backoff::Backoff;
use milena_core::{Failure, Rng};
use milena_wire::Str;
use milena_wire::pool::{BufferPool, Pool};
use tokio::sync::{mpsc, watch};

use crate::budget::Budget;
use crate::canonical::canonical;
use crate::client::Shared;
use crate::clock::Clock;
use crate::connect::{Connect, Connector, Tcp};
use crate::connection::{LinkSettings, Links};
use crate::control::Control;
use crate::metrics::{Collect, Counting, Registry};
use crate::runtime::{Executor, Runtime};
use crate::sasl::{Holder, Nonces, Sasl};
use crate::settings::{ClientSettings, DnsLookup, Properties, Settings};
use crate::telemetry::{self, Pushing};
#[cfg(feature = "tls")]
use crate::tls::{Material, Tls, TlsConnector};
use crate::trace::{Hooks, Tracing};
use crate::{Address, Client, Error};

/// Builds a client; see [`Client::builder`]. A clone connects another client with the same settings.
#[derive(Clone)]
#[must_use = "a builder does nothing until it connects"]
pub struct ClientBuilder {
    settings: Settings,
    runtime: Option<Executor>,
    /// None for TCP with the request timeout.
    connector: Option<Connector>,
    pool: Pool,
    decompressed_pool: Pool,
    seed: Option<u64>,
    metrics: Option<Registry>,
    trace: Option<Tracing>,
    mistake: Option<Error>,
}

/// Events that the control task has not handled yet. An event that finds no room is dropped: its sender meets the same
/// thing again soon and sends it again.
const EVENTS: usize = 1024;

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of_client = &self.settings.client;
        f.debug_struct("ClientBuilder")
            .field("bootstrap", &of_client.bootstrap)
            .field("client_id", &of_client.client_id)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Connects to the cluster that one of `bootstrap` (`host:port,host:port`) belongs to, with default settings.
    ///
    /// # Errors
    /// When none of them answers as a Kafka broker does; the error gives the reason for each. When the caller is on no tokio
    /// runtime.
    ///
    /// # Cancel safety
    /// Dropping the future drops the connection; nothing is left behind.
    pub async fn connect(bootstrap: &str) -> Result<Self, Error> {
        Self::builder().bootstrap(bootstrap).connect().await
    }

    /// Begins to build a client.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # cluster.create_topic("orders", 2)?;
    /// # let bootstrap = cluster.bootstrap();
    /// use std::time::Duration;
    ///
    /// let client = milena::Client::builder()
    ///     .bootstrap(bootstrap) // "kafka-1:9092,kafka-2:9092"
    ///     .client_id("billing")
    ///     .request_timeout(Duration::from_secs(10))
    ///     .connect()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder() -> ClientBuilder {
        ClientBuilder {
            settings: Settings::default(),
            runtime: None,
            connector: None,
            pool: Pool::default(),
            decompressed_pool: Pool::default(),
            seed: None,
            metrics: None,
            trace: None,
            mistake: None,
        }
    }

    /// Sets a client up from properties, named as Java, librdkafka or this crate ([`SETTINGS`](crate::SETTINGS)) name
    /// them. Those for producers and consumers become the defaults of this client's. [`Properties`] says more, and
    /// reads files.
    ///
    /// ```
    /// let error = milena::Client::from_properties([("linger.mss", "5")]).err().unwrap();
    /// assert!(error.to_string().contains("did you mean \"linger.ms\""));
    /// ```
    ///
    /// # Errors
    /// When a name is unknown or a value is refused.
    pub fn from_properties<K: AsRef<str>, V: AsRef<str>>(
        properties: impl IntoIterator<Item = (K, V)>,
    ) -> Result<ClientBuilder, Error> {
        properties.into_iter().collect::<Properties>().client()
    }

    /// Sets a client up from a file of properties, written as Java's `.properties` files or kcat's configuration files
    /// are. As [`from_properties`](Self::from_properties) otherwise. Blocks for as long as reading takes.
    ///
    /// ```
    /// let path = std::env::temp_dir().join(format!("milena-{}.properties", std::process::id()));
    /// std::fs::write(&path, "bootstrap.servers = kafka-1:9092, kafka-2:9092\nacks = all\nlinger.mss = 5\n")?;
    /// let error = milena::Client::from_properties_file(&path).err().unwrap();
    /// assert!(error.to_string().contains("line 3: setting the property \"linger.mss\""), "{error}");
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// When the file cannot be read, a name is unknown or a value is refused. The error names the file and the line.
    pub fn from_properties_file(path: impl AsRef<Path>) -> Result<ClientBuilder, Error> {
        Properties::read(path)?.client()
    }
}

impl Properties {
    /// Begins to build a client with these settings. The settings for producers and consumers become the defaults of this
    /// client's producers and consumers.
    ///
    /// Each property
    /// - sets a setting of the table [`SETTINGS`](crate::SETTINGS),
    /// - or asks for what Milena does in any case (`security.protocol=PLAINTEXT`),
    /// - or has no effect, as `retries`, because records are retried until their delivery timeout; when the client connects, one warning of
    ///   the [`tracing`](https://docs.rs/tracing) target `milena` lists all these properties with the reasons,
    /// - or is refused: a name that neither Java nor librdkafka has, a value out of bounds, or a value that asks for what
    ///   Milena cannot do (`ssl.engine.factory.class`).
    ///
    /// The value of a password or a private key (`sasl.password`, those in `sasl.jaas.config`, `ssl.keystore.password`,
    /// `ssl.truststore.password`, `ssl.key.password`, `ssl.keystore.key`, the client's secret, the private key and its passphrase of
    /// `sasl.oauthbearer.*`, and librdkafka's names of these) may say where the secret is:
    /// - `env:NAME`: in an environment variable,
    /// - `file:PATH`: in a file of at most 64 KiB, whose last line's end is left out,
    /// - `command:PROGRAM ARGS`: a program prints it. Blanks separate the arguments, and `'` or `"` keep blanks in one; no shell is run.
    ///   The program gets no input, may print 64 KiB and take 10 s, and must end with exit status 0. An error has the end of what it
    ///   wrote to stderr. Give properties to this function only if whoever wrote them may run programs.
    ///
    /// The secret is read by this call, once, and the call blocks until it is there. For one that changes while the client runs,
    /// there are [`ProvideLogin`](crate::ProvideLogin) and [`ProvideToken`](crate::ProvideToken).
    ///
    /// ```
    /// # let path = std::env::temp_dir().join(format!("milena-doc-password-{}", std::process::id()));
    /// # std::fs::write(&path, "pencil\n")?;
    /// let password = format!("command:cat '{}'", path.display()); // a program that asks a vault, more likely
    /// let builder = milena::Client::from_properties([
    ///     ("security.protocol", "SASL_SSL"),
    ///     ("sasl.mechanism", "SCRAM-SHA-512"),
    ///     ("sasl.username", "alice"),
    ///     ("sasl.password", &password),
    /// ])?;
    /// # std::fs::remove_file(&path)?;
    /// # drop(builder);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When a property is refused, or a secret is not where its property says. The error names the property, where it came from,
    /// and why.
    pub fn client(&self) -> Result<ClientBuilder, Error> {
        Ok(ClientBuilder { settings: self.settings()?, ..Client::builder() })
    }
}

impl ClientBuilder {
    /// Sets the bootstrap servers, `host:port,host:port`: the brokers that are asked first. Default
    /// `localhost:9092`.
    pub fn bootstrap(mut self, bootstrap: &str) -> Self {
        match Address::parse_list(bootstrap) {
            Ok(addresses) if addresses.is_empty() => {
                self.mistake = Some(Error::caller("setting the bootstrap servers", "the list is empty"));
            }
            Ok(addresses) => self.settings.client.bootstrap = addresses,
            Err(error) => self.mistake = Some(error),
        }
        self
    }

    /// Sets the name under which brokers log and meter this client. Default `milena`.
    pub fn client_id(mut self, client_id: &str) -> Self {
        self.settings.client.client_id = client_id.into();
        self
    }

    /// Sets how long one request may take. Default 30 s.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.settings.client.request_timeout = timeout;
        self
    }

    /// Sets how long connecting and the first exchange may take. Default 10 s, and longer after failures
    /// ([`ClientSettings::connect_timeout_max`]).
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.settings.client.connect_timeout = timeout;
        self
    }

    /// Sets the memory that may grow with traffic, in bytes. Default 64 MiB: half for producing, half for consuming.
    pub fn memory_bytes_max(mut self, bytes: usize) -> Self {
        self.settings.client.memory_bytes_max = bytes;
        self
    }

    /// Changes any other setting of the client.
    pub fn settings(mut self, change: impl FnOnce(&mut ClientSettings)) -> Self {
        change(&mut self.settings.client);
        self
    }

    /// The properties that have no effect, by name, with the reasons.
    ///
    /// ```
    /// let builder = milena::Client::from_properties([("retries", "3")])?;
    /// assert!(builder.ignored().any(|(name, _)| name == "retries"));
    /// # Ok::<(), milena::Error>(())
    /// ```
    pub fn ignored(&self) -> impl Iterator<Item = (&str, &'static str)> {
        self.settings.ignored_properties()
    }

    /// Sets where the client's tasks run and which clocks it reads. Default: the tokio runtime that
    /// [`connect`](Self::connect) is called on.
    pub fn runtime(mut self, runtime: impl Runtime + 'static) -> Self {
        self.runtime = Some(Executor::Given(Arc::new(runtime)));
        self
    }

    /// Sets how connections are made. Default: [`Tcp`] with the
    /// [request timeout](crate::ClientSettings::request_timeout) as its user timeout.
    pub fn connector(mut self, connector: impl Connect + 'static) -> Self {
        self.connector = Some(Arc::new(connector));
        self
    }

    /// Uses TLS over the connections that the [connector](Self::connector) makes. Default: plain text
    /// (`security.protocol=SSL` in properties).
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.settings.tls = Some(tls);
        self
    }

    /// Sets how the client authenticates. Default: it does not (`sasl.mechanism`, `sasl.jaas.config`, `sasl.username` and
    /// `sasl.password` in properties).
    ///
    /// ```
    /// use milena::{Client, Sasl};
    ///
    /// let builder = Client::builder().bootstrap("kafka-1:9094").sasl(Sasl::scram_sha_256("alice", "pencil"));
    /// ```
    pub fn sasl(mut self, sasl: Sasl) -> Self {
        self.settings.sasl = Some(sasl);
        self
    }

    /// Sets the pool that the buffers of responses come from, and those of the batches that producers write. Default: a
    /// pool with size classes, which keeps up to 64 MiB. [`Client::pool_stats`] has its counters.
    pub fn buffer_pool(mut self, pool: impl BufferPool + 'static) -> Self {
        self.pool = Pool::new(pool);
        self
    }

    /// Sets the pool that the buffers come from into which fetched batches are decompressed. Default: another pool with size
    /// classes, which keeps up to 64 MiB. [`Client::decompressed_pool_stats`] has its counters.
    pub fn decompressed_pool(mut self, pool: impl BufferPool + 'static) -> Self {
        self.decompressed_pool = Pool::new(pool);
        self
    }

    /// Sets the seed of the client's own randomness: jitter, and the choice of brokers and partitions. Default: another seed
    /// for each client.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Counts and measures in `registry`, which may be that of other clients, too. Default: nothing is counted.
    ///
    /// Brokers that ask for metrics (KIP-714) are pushed those of the registry, unless
    /// [`metrics_push`](crate::ClientSettings::metrics_push) is off. Clients that share a registry each push all of it: turn it off for
    /// all but one of them.
    ///
    /// ```
    /// use milena::{Client, metrics::Registry};
    ///
    /// let registry = Registry::new();
    /// let builder = Client::builder().bootstrap("kafka-1:9092").metrics(&registry);
    /// ```
    pub fn metrics(mut self, registry: &Registry) -> Self {
        self.metrics = Some(registry.clone());
        self
    }

    /// Tells `hooks` what producers and consumers do, for spans, and lets records carry a trace context in their headers: see
    /// [`Hooks`] for an example, and the crate `milena-otel` for OpenTelemetry. Default: none, and no record costs anything for it.
    pub fn trace(mut self, hooks: Arc<dyn Hooks>) -> Self {
        self.trace = Some(Tracing(hooks));
        self
    }

    /// Connects to the cluster, and starts the task that keeps the metadata fresh.
    ///
    /// # Errors
    /// When a setting is wrong, no bootstrap server answers as a Kafka broker does, or the caller is on no tokio
    /// runtime and gave [no other](Self::runtime).
    ///
    /// # Cancel safety
    /// Dropping the future drops the connection; nothing is left behind.
    pub async fn connect(self) -> Result<Client, Error> {
        if let Some(mistake) = self.mistake {
            return Err(mistake);
        }
        let runtime = self.runtime.map_or_else(Executor::current, Ok);
        let runtime = runtime.map_err(|failure| Error::harmless("connecting", failure))?;
        let mut settings = self.settings;
        settings.fit()?;
        if let Some(ignored) = settings.ignored() {
            tracing::warn!(target: "milena", "{ignored}");
        }
        let of_client = &settings.client;
        #[expect(
            clippy::disallowed_methods,
            reason = "the seed of a hash map is the randomness that std has to offer"
        )]
        let seed = self.seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        let mut rng = Rng::seeded(seed);
        let clock = Clock::start(&runtime);
        let tcp = Tcp::default().with_user_timeout(of_client.request_timeout);
        let connector = self.connector.unwrap_or_else(|| match &of_client.proxy {
            Some(proxy) => Arc::new(proxy.clone().with_tcp(tcp)),
            None => Arc::new(tcp),
        });
        #[cfg(feature = "tls")]
        let tls = settings.tls.clone().map(Material::new).transpose()?.map(Arc::new);
        #[cfg(feature = "tls")]
        let connector = match &tls {
            Some(material) => {
                Arc::new(TlsConnector::new(connector, Arc::clone(material), clock.clone())) as Connector
            }
            None => connector,
        };
        if let Some(sasl) = &settings.sasl {
            let is_allowed = of_client.allow_plaintext_credentials;
            let checked = sasl.check_transport(connector.is_encrypted() || is_allowed);
            checked.map_err(|why| Error::caller("connecting", why))?;
        }
        if of_client.dns_lookup == DnsLookup::CanonicalBootstrap {
            let (within, looking) = (of_client.connect_timeout, canonical(&connector, &of_client.bootstrap));
            let late = || {
                let why = format!("the names of their addresses were not found within {within:?}");
                Error::harmless(
                    "looking up the bootstrap servers",
                    Failure::unreachable(Arc::from("DNS"), why),
                )
            };
            let found = clock.timeout_at(clock.after(within), looking).await.ok_or_else(late)??;
            settings.client.bootstrap = found;
        }
        let of_client = &settings.client;
        let sasl = settings.sasl.clone().map(|sasl| {
            let nonces = match self.seed {
                Some(_) => Nonces::Seeded(Mutex::new(Rng::seeded(rng.next_u64()))),
                None => Nonces::System,
            };
            let (timeout, rng) = (of_client.connect_timeout, Rng::seeded(rng.next_u64()));
            Arc::new(Holder::start(sasl, nonces, &runtime, &clock, timeout, rng))
        });
        let registry = self.metrics;
        let metrics = registry.as_ref().map(|registry| Arc::new(Counting::new(registry)));
        let link_settings = LinkSettings {
            runtime: runtime.clone(),
            connector,
            sasl,
            clock: clock.clone(),
            pool: self.pool.clone(),
            client_id: Str::from(&*of_client.client_id),
            connect_timeout: of_client.connect_timeout,
            connect_timeout_max: of_client.connect_timeout_max,
            backoff: Backoff { min: of_client.reconnect_backoff, max: of_client.reconnect_backoff_max },
            idle_max: of_client.connection_idle_max,
            frame_bytes_max: of_client.response_bytes_max,
            peers: Arc::default(),
            metrics: metrics.clone(),
        };
        let links = Arc::new(Links::new(link_settings.clone(), Rng::seeded(rng.next_u64())));
        let control =
            Control::new(of_client.clone(), clock.clone(), Arc::clone(&links), Rng::seeded(rng.next_u64()));
        let bootstrap = of_client.bootstrap.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let first = control
            .bootstrap()
            .await
            .map_err(|failure| Error::harmless(format!("connecting to {bootstrap}"), failure))?;

        let (publish, snapshot) = watch::channel(Arc::new(first));
        let (events, inbox) = mpsc::channel(EVENTS);
        // Each user of a topic sends two or three of these, so their number is bounded by that of users.
        let (concerns, concerned) = mpsc::unbounded_channel();
        let pools = [self.pool.clone(), self.decompressed_pool.clone()];
        runtime.spawn_here(control.run(publish, inbox, concerned, pools));
        let pushing = registry.as_ref().filter(|_| of_client.metrics_push).map(|registry| {
            let parts = telemetry::Parts {
                settings: of_client,
                rack: &settings.consumer.rack,
                clock: &clock,
                runtime: &runtime,
                links: &links,
                snapshot: &snapshot,
            };
            Pushing::start(&parts, registry, Rng::seeded(rng.next_u64()))
        });
        let half = of_client.memory_bytes_max / 2;
        let client = Client(Arc::new(Shared {
            produce_budget: Budget::new(settings.producer.memory_bytes_max.unwrap_or(half)),
            fetch_budget: Budget::new(settings.consumer.memory_bytes_max.unwrap_or(half)),
            runtime,
            clock,
            pool: self.pool,
            decompressed_pool: self.decompressed_pool,
            link_settings,
            links,
            concerns,
            snapshot,
            events,
            rng: Mutex::new(rng),
            metrics,
            trace: self.trace,
            pushing,
            settings,
            #[cfg(feature = "tls")]
            tls,
        }));
        if let Some(registry) = registry {
            let shared: Arc<dyn Collect> = Arc::clone(&client.0) as _;
            registry.collect_from(&shared);
        }
        Ok(client)
    }
}
