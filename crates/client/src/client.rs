//! The handle everything else comes from: what a client's producers, consumers and admin calls share.
//!
//! It knows none of them. Each adds its way in beside its own type: `Client::builder` is in `builder.rs`, `Client::producer`
//! in `producer`, and so on; what a client can be asked is in `ask.rs`, `calls.rs`, `coordinator.rs` and `topics.rs`.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use milena_core::Rng;
use milena_core::backoff::Backoff;
use milena_core::metadata::{LeaderHint, Snapshot};
use milena_wire::pool::{Pool, PoolStats};
use tokio::sync::{mpsc, watch};

use crate::budget::Budget;
use crate::clock::Clock;
use crate::connection::{LinkSettings, Links};
use crate::control::Event;
use crate::interest::Concerns;
use crate::runtime::Executor;
use crate::settings::Settings;

/// A cluster, known. Cheap to clone; clones share everything.
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
    pub(crate) link_settings: LinkSettings,
    pub(crate) produce_budget: Budget,
    pub(crate) fetch_budget: Budget,
    pub(crate) links: Arc<Links>,
    pub(crate) concerns: Concerns,
    pub(crate) snapshot: watch::Receiver<Arc<Snapshot>>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) rng: Mutex<Rng>,
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
    /// What is in use of the buffers.
    pub fn pool_stats(&self) -> PoolStats {
        self.0.pool.stats()
    }

    /// The cluster as it was last seen.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.0.snapshot.borrow())
    }

    pub(crate) fn watch_snapshot(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.0.snapshot.clone()
    }

    /// Something does not fit the metadata. Told again soon if it is not heard now.
    pub(crate) fn metadata_is_outdated(&self) {
        let _ = self.0.events.try_send(Event::Outdated);
    }

    pub(crate) fn learn_leaders(&self, hints: Vec<LeaderHint>) {
        if !hints.is_empty() {
            let _ = self.0.events.try_send(Event::Hints(hints));
        }
    }

    /// A generator of its own, seeded by the client's.
    pub(crate) fn rng(&self) -> Rng {
        Rng::seeded(self.0.rng.lock().unwrap_or_else(PoisonError::into_inner).next_u64())
    }

    /// Connections for a role of their own: what is slow on one must not hold up another.
    pub(crate) fn new_links(&self) -> Links {
        Links::new(self.0.link_settings.clone(), self.rng())
    }

    pub(crate) fn retry_backoff(&self) -> Backoff {
        let settings = &self.0.settings.client;
        Backoff { min: settings.retry_backoff, max: settings.retry_backoff_max }
    }
}
