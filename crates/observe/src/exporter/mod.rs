//! Metrics of a cluster: topics, groups with their lag in records and in time, and a probe.
//!
//! ```text
//!  Looker (asks the cluster each interval) ─▶ Facts ─▶ names (milena's, kafka_exporter's or kminion's) ─▶ text ─▶ scrapes
//!  probe (writes and reads records of its own) ─▶ Probe (counts lost and late ones) ──────────▲
//! ```
//!
//! A scrape asks nobody: it gets what was written after the last look.

mod facts;
mod look;
pub(crate) mod names;
pub(crate) mod probe;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use milena::metrics::Registry;
use milena::{Client, Error};

pub use self::facts::{Facts, GroupFacts, GroupPartition, LogDirFacts, PartitionFacts};
use self::look::Looker;
pub use self::names::Names;
use self::probe::Meters;
pub use self::probe::Probe;
use crate::exposition::page::Page;
use crate::exposition::{Encoding, Format};
use crate::serve::Expose;

/// What is exported, and how often the cluster is asked.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The time between two looks. Default 10 s, which is also Burrow's.
    pub interval: Duration,
    /// The names of the metrics. Default: [`Names::Milena`].
    pub names: Names,
    /// Whether Kafka's own topics are there too. Default false.
    pub internal: bool,
    /// Which topics are exported. Default: all.
    pub topics: Chosen,
    /// Which groups are exported. Default: all.
    pub groups: Chosen,
    /// Groups whose members read with `isolation.level=read_committed`: their lag ends at the last stable offset, and not at the high
    /// watermark. Brokers do not know how a group reads, so it must be said. Default: none, as Burrow, kafka_exporter and kminion do it.
    pub read_committed: Chosen,
    /// Of how many partitions of groups the lag is exported, each group's counted by themselves. Further ones are left out, and
    /// `milena_exporter_left_out` says how many; groups come in the order of their names. Each takes about
    /// 0.7 KiB, and 0.5 KiB more for each format that is scraped without gzip. Default 1 000 000.
    pub pairs_max: usize,
    /// A topic in which the probe writes a record each second and reads it back. Default: none, and no probe.
    pub probe: Option<String>,
}

impl Default for Plan {
    fn default() -> Self {
        let interval = Duration::from_secs(10);
        let (topics, groups) = (Chosen::default(), Chosen::default());
        let (names, read_committed) = (Names::default(), Chosen::none());
        let pairs_max = 1_000_000;
        Self { interval, names, internal: false, topics, groups, read_committed, pairs_max, probe: None }
    }
}

/// Which names are meant: those that a function says. Default: all.
#[derive(Clone, Default)]
pub struct Chosen(Option<Choose>);

type Choose = Arc<dyn Fn(&str) -> bool + Send + Sync>;

impl Chosen {
    /// The names for which the function says true.
    pub fn by(choose: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(choose)))
    }

    /// No name.
    pub fn none() -> Self {
        Self::by(|_| false)
    }

    fn has(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|choose| choose(name))
    }
}

impl std::fmt::Debug for Chosen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Chosen(some)" } else { "Chosen(all)" })
    }
}

/// The metrics of a cluster. Clones are the same exporter.
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cluster = milena_broker::Broker::builder().start().await?;
/// # cluster.create_topic("orders", 1)?;
/// # let client = milena::Client::connect(cluster.bootstrap()).await?;
/// use milena_observe::exporter::{Exporter, Plan};
/// use milena_observe::exposition::{Encoding, Format};
/// use milena_observe::serve::Expose;
///
/// let exporter = Exporter::new(client, Plan::default());
/// exporter.look().await?; // `run` does so again and again
/// let server = milena_observe::serve("127.0.0.1:0", exporter.clone()).await?;
/// let text = String::from_utf8(exporter.expose(Format::Prometheus, Encoding::Identity).to_vec())?;
/// assert!(text.contains("milena_cluster_partition_end_offset{topic=\"orders\",partition=\"0\"} 0\n"));
/// # drop(server);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Exporter(Arc<Inner>);

struct Inner {
    client: Client,
    plan: Plan,
    /// What the probe counts.
    registry: Registry,
    facts: Mutex<Arc<Facts>>,
    meters: Meters,
    looker: tokio::sync::Mutex<Looker>,
    kept: Mutex<Kept>,
}

/// What scrapes asked for.
#[derive(Default)]
struct Kept {
    of: [[Option<Body>; Encoding::ALL.len()]; Format::ALL.len()],
}

/// The metrics in one format and encoding, as of the last look.
struct Body {
    bytes: Arc<[u8]>,
    /// Looks since a scrape asked for it.
    idle: u32,
}

/// A format that no scrape asked for between this many looks is no longer written. Prometheus may scrape less often than we look.
const IDLE_MAX: u32 = 30;

impl Exporter {
    /// Nothing is asked before [`look`](Self::look) or [`run`](Self::run).
    pub fn new(client: Client, plan: Plan) -> Self {
        let registry = Registry::new();
        let meters = Meters::new(&registry, plan.probe.is_some());
        let (facts, looker, kept) = (Mutex::default(), tokio::sync::Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { client, plan, registry, facts, meters, looker, kept }))
    }

    /// Looks at the cluster once.
    ///
    /// # Errors
    /// When the cluster does not answer. The metrics stay what they were, but for those that say so.
    ///
    /// # Cancel safety
    /// Dropped, the metrics stay what they were.
    pub async fn look(&self) -> Result<(), Error> {
        let inner = &*self.0;
        let began = Instant::now();
        let looked = inner.looker.lock().await.look(&inner.client.admin(), &inner.plan).await;
        let looked = inner.saw(looked, began.elapsed());
        // With tens of thousands of series it takes milliseconds, which other tasks should not wait for.
        let exporter = self.clone();
        let written = tokio::task::spawn_blocking(move || exporter.0.write_again());
        written.await.expect("writing metrics does not panic");
        looked
    }

    /// What the last look saw.
    pub fn facts(&self) -> Arc<Facts> {
        Arc::clone(&self.0.facts())
    }

    /// Looks at the cluster each interval, and runs the probe if there is one. It ends only when it is dropped. `failed` is told
    /// of each error.
    ///
    /// # Cancel safety
    /// Dropped, the metrics stay what they were.
    pub async fn run(&self, failed: impl Fn(&Error) + Send + Sync) {
        let looking = async {
            let mut tick = tokio::time::interval(self.0.plan.interval.max(Duration::from_millis(10)));
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                if let Err(error) = self.look().await {
                    failed(&error);
                }
            }
        };
        let probing = async {
            if let Some(topic) = &self.0.plan.probe {
                probe::run(&self.0.client, topic, &self.0.meters, &failed).await;
            }
        };
        tokio::join!(looking, probing);
    }
}

impl Inner {
    fn facts(&self) -> MutexGuard<'_, Arc<Facts>> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how a look ended.
    fn saw(&self, looked: Result<Facts, Error>, look_time: Duration) -> Result<(), Error> {
        let mut facts = self.facts();
        let failed_looks = facts.failed_looks;
        let (mut seen, looked) = match looked {
            Ok(seen) => (Facts { failed_looks, ..seen }, Ok(())),
            Err(error) => {
                let old = Facts::clone(&facts);
                (Facts { is_up: false, failed_looks: failed_looks + 1, ..old }, Err(error))
            }
        };
        seen.look_time = look_time;
        *facts = Arc::new(seen);
        looked
    }

    /// Writes what scrapes ask for again, so that they need not wait for it.
    fn write_again(&self) {
        for format in Format::ALL {
            for encoding in Encoding::ALL {
                let mut kept = self.kept();
                let of = kept.of(format, encoding);
                let Some(body) = of else { continue };
                body.idle += 1;
                if body.idle > IDLE_MAX {
                    *of = None;
                    continue;
                }
                // Scrapes get the old one meanwhile.
                drop(kept);
                let bytes = self.write(format, encoding);
                if let Some(body) = self.kept().of(format, encoding) {
                    body.bytes = bytes;
                }
            }
        }
    }

    fn write(&self, format: Format, encoding: Encoding) -> Arc<[u8]> {
        let facts = Arc::clone(&self.facts());
        let mut page = Page::new(format);
        page.snapshot(&self.registry.snapshot());
        names::write(&facts, self.plan.names, &mut page);
        encoding.pack(page.finish()).into()
    }
}

impl Kept {
    fn of(&mut self, format: Format, encoding: Encoding) -> &mut Option<Body> {
        &mut self.of[format as usize][encoding as usize]
    }
}

impl Expose for Exporter {
    fn expose(&self, format: Format, encoding: Encoding) -> Arc<[u8]> {
        // It is locked while the first one is written, so that of several scrapes only one writes.
        let mut kept = self.0.kept();
        let of = kept.of(format, encoding);
        let body = of.get_or_insert_with(|| Body { bytes: self.0.write(format, encoding), idle: 0 });
        body.idle = 0;
        Arc::clone(&body.bytes)
    }
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter").field("plan", &self.0.plan).finish_non_exhaustive()
    }
}
