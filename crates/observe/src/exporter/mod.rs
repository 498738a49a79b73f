//! Metrics of a cluster: topics, groups with their lag in records and in time, and a probe.
//!
//! ```text
//!  Looker (asks the cluster each interval) ─▶ Facts ─▶ names (milena's, kafka_exporter's or kminion's) ─▶ text ─▶ scrapes
//!  probe (writes and reads records of its own) ─▶ Probe (counts lost and late ones) ──────────▲
//! ```
//!
//! A scrape asks nobody: it gets the text that was written after the last look.

mod facts;
mod look;
pub(crate) mod names;
pub(crate) mod probe;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use milena::metrics::{Collect, Registry, Sheet};
use milena::{Client, Error};

pub use self::facts::{Facts, GroupFacts, GroupPartition, PartitionFacts};
use self::look::Looker;
pub use self::names::Names;
use self::probe::Meters;
pub use self::probe::Probe;
use crate::exposition::Format;
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
    /// A topic in which the probe writes a record each second and reads it back. Default: none, and no probe.
    pub probe: Option<String>,
}

impl Default for Plan {
    fn default() -> Self {
        let interval = Duration::from_secs(10);
        let (topics, groups) = (Chosen::default(), Chosen::default());
        Self { interval, names: Names::default(), internal: false, topics, groups, probe: None }
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

    fn has(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|choose| choose(name))
    }
}

impl std::fmt::Debug for Chosen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Chosen(some)" } else { "Chosen(all)" })
    }
}

/// The series of a cluster are bounded by its partitions, not by this.
const SERIES_MAX: usize = 5_000_000;

/// The metrics of a cluster. Clones are the same exporter.
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cluster = milena_broker::Broker::builder().start().await?;
/// # cluster.create_topic("orders", 1)?;
/// # let client = milena::Client::connect(cluster.bootstrap()).await?;
/// use milena_observe::exporter::{Exporter, Plan};
/// use milena_observe::exposition::Format;
/// use milena_observe::serve::Expose;
///
/// let exporter = Exporter::new(client, Plan::default());
/// exporter.look().await?; // `run` does so again and again
/// let server = milena_observe::serve("127.0.0.1:0", exporter.clone()).await?;
/// let text = exporter.expose(Format::Prometheus);
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
    registry: Registry,
    facts: Arc<Latest>,
    meters: Meters,
    looker: tokio::sync::Mutex<Looker>,
    texts: Mutex<Texts>,
}

/// The facts that the next snapshot has.
struct Latest {
    names: Names,
    facts: Mutex<Facts>,
}

impl Collect for Latest {
    fn collect(&self, sheet: &mut Sheet<'_>) {
        let facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        names::write(&facts, self.names, sheet);
    }
}

/// The text of each format that anybody has asked for.
#[derive(Default)]
struct Texts {
    of: [Option<Arc<str>>; Format::ALL.len()],
}

impl Exporter {
    /// Nothing is asked before [`look`](Self::look) or [`run`](Self::run).
    pub fn new(client: Client, plan: Plan) -> Self {
        let registry = Registry::with_series_max(SERIES_MAX);
        let facts = Arc::new(Latest { names: plan.names, facts: Mutex::default() });
        let collector: Arc<dyn Collect> = Arc::clone(&facts) as _;
        registry.collect_from(&collector);
        let meters = Meters::new(&registry, plan.probe.is_some());
        let (looker, texts) = (tokio::sync::Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { client, plan, registry, facts, meters, looker, texts }))
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
        let mut facts = inner.facts.facts.lock().unwrap_or_else(PoisonError::into_inner);
        let looked = match looked {
            Ok(mut seen) => {
                seen.failed_looks = facts.failed_looks;
                *facts = seen;
                Ok(())
            }
            Err(error) => {
                facts.failed_looks += 1;
                facts.is_up = false;
                Err(error)
            }
        };
        facts.look_time = began.elapsed();
        drop(facts);
        self.write_texts();
        looked
    }

    /// What the last look saw.
    pub fn facts(&self) -> Facts {
        self.0.facts.facts.lock().unwrap_or_else(PoisonError::into_inner).clone()
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

    /// Writes the texts of the formats that were asked for before, so that a scrape need not.
    fn write_texts(&self) {
        let asked = |texts: &Texts| Format::ALL.map(|format| texts.of[format as usize].is_some());
        let asked = asked(&self.0.texts.lock().unwrap_or_else(PoisonError::into_inner));
        let snapshot = self.0.registry.snapshot();
        for format in Format::ALL {
            let text: Option<Arc<str>> = asked[format as usize].then(|| format.text(&snapshot).into());
            self.0.texts.lock().unwrap_or_else(PoisonError::into_inner).of[format as usize] = text;
        }
    }
}

impl Expose for Exporter {
    fn expose(&self, format: Format) -> Arc<str> {
        let mut texts = self.0.texts.lock().unwrap_or_else(PoisonError::into_inner);
        let text = &mut texts.of[format as usize];
        Arc::clone(text.get_or_insert_with(|| format.text(&self.0.registry.snapshot()).into()))
    }
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter").field("plan", &self.0.plan).finish_non_exhaustive()
    }
}
