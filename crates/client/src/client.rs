//! The client's handle: what its producers, consumers and admin calls share.
//!
//! This file imports none of them. Each adds its own method to [`Client`] beside its own type: `Client::builder` is in
//! `builder.rs`, `Client::producer` in `producer/mod.rs`, and so on. The requests that a client itself sends are in `ask.rs`
//! (one request), `calls.rs` (admin calls), `coordinator.rs` and `topics.rs` (look-ups).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use milena_core::backoff::Backoff;
use milena_core::metadata::{LeaderHint, Snapshot};
use milena_core::{Failure, Rng};
use milena_wire::pool::{Pool, PoolStats};
use tokio::sync::{mpsc, watch};

use crate::budget::Budget;
use crate::clock::Clock;
#[cfg(feature = "tls")]
use crate::clock::millis_since_epoch;
use crate::connection::{LinkSettings, Links};
use crate::control::Event;
use crate::interest::Concerns;
use crate::metrics::{Collect, Counting, Registry, Sheet, families};
use crate::runtime::Executor;
use crate::settings::Settings;
use crate::telemetry::Pushing;
#[cfg(feature = "tls")]
use crate::tls::{Material, TlsState};
use crate::trace::Tracing;

/// A client of one Kafka cluster. Producers, consumers and admin calls come from it and share its metadata and its memory
/// budgets. It is cheap to clone, and clones share everything.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cluster = milena_broker::Broker::builder().start().await?;
/// # cluster.create_topic("orders", 2)?;
/// # let bootstrap = cluster.bootstrap();
/// let client = milena::Client::connect(bootstrap).await?; // "localhost:9092"
/// for topic in client.admin().topics().await? {
///     println!("{}: {} partitions", topic.name, topic.partitions.len());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client(pub(crate) Arc<Shared>);

/// What a client, its producers and its consumers share.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) runtime: Executor,
    pub(crate) clock: Clock,
    pub(crate) pool: Pool,
    pub(crate) decompressed_pool: Pool,
    pub(crate) link_settings: LinkSettings,
    pub(crate) produce_budget: Budget,
    pub(crate) fetch_budget: Budget,
    pub(crate) links: Arc<Links>,
    pub(crate) concerns: Concerns,
    pub(crate) snapshot: watch::Receiver<Arc<Snapshot>>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) rng: Mutex<Rng>,
    pub(crate) metrics: Option<Arc<Counting>>,
    pub(crate) trace: Option<Tracing>,
    /// None if the client pushes no metrics.
    pub(crate) pushing: Option<Pushing>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Arc<Material>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of_client = &self.0.settings.client;
        f.debug_struct("Client")
            .field("bootstrap", &of_client.bootstrap)
            .field("client_id", &of_client.client_id)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// The counters of the pool of responses and of the batches that producers write
    /// ([`ClientBuilder::buffer_pool`](crate::ClientBuilder::buffer_pool)).
    pub fn pool_stats(&self) -> PoolStats {
        self.0.pool.stats()
    }

    /// The counters of the pool of decompressed batches
    /// ([`ClientBuilder::decompressed_pool`](crate::ClientBuilder::decompressed_pool)).
    pub fn decompressed_pool_stats(&self) -> PoolStats {
        self.0.decompressed_pool.stats()
    }

    /// The registry that the client counts in ([`ClientBuilder::metrics`](crate::ClientBuilder::metrics)); none if it counts nothing.
    pub fn metrics(&self) -> Option<&Registry> {
        self.0.metrics.as_ref().map(|counting| &counting.registry)
    }

    /// How long the certificates of the client and of the brokers are valid, and whether changed files could not be used; none
    /// without TLS.
    #[cfg(feature = "tls")]
    pub fn tls(&self) -> Option<TlsState> {
        self.0.tls.as_ref().map(|material| material.state())
    }

    /// Who the client is to the brokers, as in `User:alice`, as far as it knows.
    pub(crate) fn principal(&self) -> Option<Arc<str>> {
        self.0.link_settings.sasl.as_ref()?.principal()
    }

    /// The same, which says who the client is if a right is missing.
    pub(crate) fn named(&self, failure: Failure) -> Failure {
        match failure.needs().and_then(|_| self.principal()) {
            Some(principal) => failure.by(&principal),
            None => failure,
        }
    }

    /// The newest metadata.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.0.snapshot.borrow())
    }

    /// The newest metadata, and a way to wait for newer.
    pub(crate) fn watch_snapshot(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.0.snapshot.clone()
    }

    /// Asks for newer metadata, because something does not fit it. If the control task is too busy to hear of it, whatever did
    /// not fit is met again soon.
    pub(crate) fn metadata_is_outdated(&self) {
        let _ = self.0.events.try_send(Event::Outdated);
    }

    /// Corrects the metadata by leaders that an answer named (KIP-951).
    pub(crate) fn learn_leaders(&self, hints: Vec<LeaderHint>) {
        if !hints.is_empty() {
            let _ = self.0.events.try_send(Event::Hints(hints));
        }
    }

    /// A new random generator, seeded by the client's.
    pub(crate) fn rng(&self) -> Rng {
        Rng::seeded(self.0.rng.lock().unwrap_or_else(PoisonError::into_inner).next_u64())
    }

    /// Connections of their own for one role, so that a slow answer in one role holds up no other role.
    pub(crate) fn new_links(&self) -> Links {
        Links::new(self.0.link_settings.clone(), self.rng())
    }

    /// The backoff between attempts at one thing.
    pub(crate) fn retry_backoff(&self) -> Backoff {
        let settings = &self.0.settings.client;
        Backoff { min: settings.retry_backoff, max: settings.retry_backoff_max }
    }
}

/// What is known of a client anyway.
impl Collect for Shared {
    fn collect(&self, sheet: &mut Sheet<'_>) {
        let (producing, fetching) = (&self.produce_budget, &self.fetch_budget);
        sheet.gauge(&families::PRODUCER_BUFFER_BYTES, &[], producing.bytes_used() as f64);
        sheet.gauge(&families::PRODUCER_BUFFER_LIMIT_BYTES, &[], producing.bytes_max() as f64);
        if let Some(metrics) = &self.metrics {
            // What this adds was not yet there when the counter was read.
            let blocked = metrics.producing.blocked.count(self.clock.now());
            sheet.counter(&families::PRODUCER_BLOCKED_SECONDS, &[], blocked.as_secs_f64());
        }
        sheet.gauge(&families::CONSUMER_MEMORY_BYTES, &[], fetching.bytes_used() as f64);
        sheet.gauge(&families::CONSUMER_MEMORY_LIMIT_BYTES, &[], fetching.bytes_max() as f64);
        for (name, pool) in [("batches", &self.pool), ("decompressed", &self.decompressed_pool)] {
            let stats = pool.stats();
            sheet.gauge(&families::POOL_BYTES, &[name, "in_use"], stats.bytes_out as f64);
            sheet.gauge(&families::POOL_BYTES, &[name, "kept"], stats.bytes_idle as f64);
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let (own, brokers) = tls.in_use();
            let own = own.iter().map(|own| ("client", own));
            for (of, validity) in own.chain(brokers.iter().map(|broker| ("broker", broker))) {
                let at = millis_since_epoch(validity.not_after) as f64 / 1000.0;
                sheet.gauge(&families::CERTIFICATE_EXPIRY, &[of], at);
            }
        }
    }
}
