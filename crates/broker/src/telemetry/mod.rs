//! Metrics of clients (KIP-714): which ones the cluster asks for, and what clients have pushed.
//!
//! ```text
//!  subscriptions (configs of CLIENT_METRICS resources, kept) ─▶ a client asks ─▶ Instance: interval, names, id
//!  a client pushes ─▶ Instance accepts or refuses ─▶ decompressed, read (otlp.rs) ─▶ Report: latest values
//! ```
//!
//! The rules are those of Kafka's ClientMetricsManager. It must not know requests, compression or the form of the metrics.

mod instance;
mod otlp;
mod report;
mod subscription;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use milena_messages::ErrorCode;
use milena_wire::Uuid;
use milena_wire::codec::Compression;

pub(crate) use instance::{Instance, Who};
pub(crate) use otlp::{Point, read};
pub use report::{ClientMetric, ClientMetricValue, ClientMetrics};
pub(crate) use subscription::{CONFIGS, ClientMetricsConfig, Subscription};

use crate::configs::Overrides;
use crate::error::Error;
use crate::kept::{Kept, Words};
use crate::random::Random;

/// The first line of the file of subscriptions.
pub(crate) const HEADER: &str = "milena-client-metrics 1";

/// What clients are told, and what they have said.
#[derive(Debug)]
pub(crate) struct Telemetry {
    subscriptions: BTreeMap<String, Subscription>,
    /// The number of changes of the subscriptions.
    version: u64,
    instances: BTreeMap<Uuid, Instance>,
    /// The bytes of names and labels of all reports.
    report_bytes: usize,
    random: Random,
    swept: Option<Instant>,
    kept: Kept,
}

/// The settings of a cluster about metrics of clients.
#[derive(Debug, Clone)]
pub(crate) struct TelemetrySettings {
    /// The most bytes of a push, compressed and decompressed (`telemetry.max.bytes`).
    pub(crate) bytes_max: usize,
    /// Whether clients are asked for what was counted since their last push, as Kafka always asks.
    pub(crate) wants_delta: bool,
    /// The codecs of a push, the one that the broker likes best first. A push that is not compressed is taken, too.
    pub(crate) codecs: Vec<Compression>,
}

/// The most clients that are known at a time, as in Kafka. The one that was silent longest goes first.
const INSTANCES_MAX: usize = 16_384;

/// The most subscriptions. Each is matched with every client.
const SUBSCRIPTIONS_MAX: usize = 1000;

/// The most bytes of names and labels of all reports. Reports of the clients that were silent longest go first.
const REPORT_BYTES_MAX: usize = 64 << 20;

/// A client that was silent for three intervals, and at least for this long, is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(60);

impl Default for TelemetrySettings {
    fn default() -> Self {
        let codecs = vec![Compression::Zstd, Compression::Lz4, Compression::Gzip, Compression::Snappy];
        Self { bytes_max: 1 << 20, wants_delta: true, codecs }
    }
}

impl Telemetry {
    /// The subscriptions that were kept.
    pub(crate) fn open(random: Random, kept: Kept) -> Result<Self, Error> {
        let mut of_names: BTreeMap<String, Overrides> = BTreeMap::new();
        for words in kept.load()? {
            let [name, config, value] = <[String; 3]>::try_from(words)
                .map_err(|_| kept.damaged("a line does not have a name, a config and a value"))?;
            of_names.entry(name).or_default().insert(config, value);
        }
        let mut subscriptions = BTreeMap::new();
        for (name, overrides) in of_names {
            let subscription = Subscription::new(overrides)
                .map_err(|(_, reason)| kept.damaged(&format!("subscription {name}: {reason}")))?;
            subscriptions.insert(name, subscription);
        }
        let (instances, report_bytes) = (BTreeMap::new(), 0);
        Ok(Self { subscriptions, version: 0, instances, report_bytes, random, swept: None, kept })
    }

    /// The names of the subscriptions.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.subscriptions.keys().map(String::as_str)
    }

    /// The configs that a subscription sets.
    pub(crate) fn overrides(&self, name: &str) -> Option<&Overrides> {
        self.subscriptions.get(name).map(Subscription::overrides)
    }

    /// Gives a subscription these configs and keeps it. One without configs is removed, as in Kafka. The error is a code and a
    /// sentence for the client.
    pub(crate) fn alter(
        &mut self,
        name: &str,
        overrides: Overrides,
        validate_only: bool,
    ) -> Result<(), (ErrorCode, String)> {
        let subscription = Subscription::new(overrides)?;
        let is_new = !self.subscriptions.contains_key(name);
        if is_new && !subscription.overrides().is_empty() && self.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            let reason = format!("There are {SUBSCRIPTIONS_MAX} subscriptions, which is the most.");
            return Err((ErrorCode::POLICY_VIOLATION, reason));
        }
        if validate_only {
            return Ok(());
        }
        let before = match subscription.overrides().is_empty() {
            true => self.subscriptions.remove(name),
            false => self.subscriptions.insert(name.to_owned(), subscription),
        };
        if let Err(error) = self.save() {
            match before {
                Some(before) => self.subscriptions.insert(name.to_owned(), before),
                None => self.subscriptions.remove(name),
            };
            return Err((ErrorCode::KAFKA_STORAGE_ERROR, error.to_string()));
        }
        self.version += 1;
        Ok(())
    }

    fn save(&self) -> Result<(), Error> {
        let lines = self.subscriptions.iter().flat_map(|(name, subscription)| {
            let overrides = subscription.overrides().iter();
            overrides
                .map(move |(config, value)| -> Words { vec![name.clone(), config.clone(), value.clone()] })
        });
        self.kept.save(lines)
    }

    /// An id for a client that has none.
    pub(crate) fn new_id(&mut self) -> Uuid {
        loop {
            let id = self.random.uuid();
            if !self.instances.contains_key(&id) {
                return id;
            }
        }
    }

    /// The instance of a client as the subscriptions want it now. It is made anew when they have changed, and for another
    /// connection: Kafka forgets an instance with its connection, and so a client that moves to another broker may ask at once.
    pub(crate) fn instance(&mut self, id: Uuid, who: Who<'_>, now: Instant) -> &mut Instance {
        self.sweep(now);
        let known = self.instances.get(&id);
        if known.is_some_and(|known| known.is_of(who.connection, self.version)) {
            let known = self.instances.get_mut(&id).expect("it is there");
            known.heard = now;
            return known;
        }
        // What the client has reported is still true.
        let report = self.instances.remove(&id).map(|known| known.report);
        if self.instances.len() >= INSTANCES_MAX {
            self.drop_stalest(id);
        }
        let subscribed = self.subscribed(id, who);
        let instance = Instance::new(id, who, self.version, subscribed, report.unwrap_or_default(), now);
        self.instances.entry(id).or_insert(instance)
    }

    /// The metrics that subscriptions ask of a client, and the shortest interval.
    fn subscribed(&self, id: Uuid, who: Who<'_>) -> (BTreeSet<String>, Duration) {
        let mut metrics = BTreeSet::new();
        let mut interval = subscription::INTERVAL_DEFAULT;
        for subscription in self.subscriptions.values().filter(|subscription| subscription.is_for(id, who)) {
            metrics.extend(subscription.metrics.iter().cloned());
            interval = interval.min(subscription.interval);
        }
        if metrics.contains(subscription::ALL_METRICS) {
            metrics = BTreeSet::from([subscription::ALL_METRICS.to_owned()]);
        }
        (metrics, interval)
    }

    /// Notes what a client has pushed.
    pub(crate) fn note(&mut self, id: Uuid, points: Vec<Point>, left_out: u64) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let before = instance.report.bytes();
        instance.report.note(points);
        instance.report.leave_out(left_out);
        self.report_bytes += instance.report.bytes() - before;
        while self.report_bytes > REPORT_BYTES_MAX && self.drop_stalest(id) {}
    }

    /// What clients have pushed that are not forgotten.
    pub(crate) fn reports(&self) -> Vec<ClientMetrics> {
        self.instances.values().filter_map(Instance::shown).collect()
    }

    /// Forgets the client that was silent longest, but not `kept`.
    fn drop_stalest(&mut self, kept: Uuid) -> bool {
        let others = self.instances.iter().filter(|(id, _)| **id != kept);
        let stalest = others.min_by_key(|(_, instance)| instance.heard).map(|(id, _)| *id);
        stalest.is_some_and(|id| self.forget(id))
    }

    fn forget(&mut self, id: Uuid) -> bool {
        let Some(instance) = self.instances.remove(&id) else { return false };
        self.report_bytes -= instance.report.bytes();
        true
    }

    /// Forgets the clients that are gone, once a minute.
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|swept| now.saturating_duration_since(swept) < FORGET_AFTER) {
            return;
        }
        self.swept = Some(now);
        let is_over = |instance: &Instance| {
            let limit = (instance.interval * 3).max(FORGET_AFTER);
            now.saturating_duration_since(instance.heard) > limit
        };
        let gone: Vec<Uuid> =
            self.instances.iter().filter(|(_, instance)| is_over(instance)).map(|(id, _)| *id).collect();
        for id in gone {
            self.forget(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::otlp::Shape;
    use super::*;

    fn who(connection: u64) -> Who<'static> {
        let address = SocketAddr::from(([127, 0, 0, 1], 4000));
        Who { connection, client_id: "app", software: Some(("milena", "1.0")), address }
    }

    fn telemetry() -> Telemetry {
        Telemetry::open(Random::new(7), Kept::new(HEADER, None)).expect("in memory")
    }

    fn overrides(pairs: &[(&str, &str)]) -> Overrides {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_is_kept_is_read_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("milena.client-metrics");
        let open = || Telemetry::open(Random::new(7), Kept::new(HEADER, Some(path.clone())));
        let mut telemetry = open().expect("opens");
        let configs =
            overrides(&[("metrics", "a.,b."), ("match", "client_id=a p.*"), ("interval.ms", "100")]);
        telemetry.alter("all of it", configs.clone(), false).expect("kept");
        telemetry.alter("other", overrides(&[("metrics", "*")]), true).expect("valid");
        let mut again = open().expect("opens");
        assert_eq!(again.names().collect::<Vec<_>>(), ["all of it"]);
        assert_eq!(again.overrides("all of it"), Some(&configs));
        again.alter("all of it", Overrides::new(), false).expect("removed");
        assert_eq!(open().expect("opens").names().count(), 0);
        let damaged = "milena-client-metrics 1\ns interval.ms never\nend\n";
        std::fs::write(&path, damaged).expect("written");
        assert!(open().expect_err("damaged").is_damaged());
    }

    #[test]
    fn clients_and_what_they_report_have_a_limit_and_the_stalest_goes_first() {
        let mut telemetry = telemetry();
        let start = Instant::now();
        let ids: Vec<Uuid> = (0..=INSTANCES_MAX).map(|_| telemetry.new_id()).collect();
        for (index, id) in ids.iter().enumerate() {
            telemetry.instance(*id, who(1), start + Duration::from_micros(index as u64));
        }
        assert_eq!(telemetry.instances.len(), INSTANCES_MAX);
        assert!(!telemetry.instances.contains_key(&ids[0]) && telemetry.instances.contains_key(&ids[1]));
        let point = |index: usize| Point {
            name: format!("{index}{}", "x".repeat(200)),
            labels: Vec::new(),
            resource: Vec::new(),
            shape: Shape::Gauge(1.0),
            is_delta: false,
        };
        for id in &ids[1..90] {
            telemetry.note(*id, (0..4000).map(point).collect(), 0);
        }
        assert!(telemetry.report_bytes <= REPORT_BYTES_MAX);
        let shown = telemetry.reports();
        assert!(shown.len() > 40 && shown.len() < 70, "{}", shown.len());
        assert!(shown.iter().all(|client| client.metrics.len() < 4000 && client.left_out > 0));
        telemetry.instance(ids[89], who(1), start + Duration::from_secs(3600));
        assert_eq!(telemetry.instances.len(), 1, "the other ones were silent for too long");
        assert_eq!(telemetry.report_bytes, telemetry.instances[&ids[89]].report.bytes());
    }

    #[test]
    fn overlapping_subscriptions_are_joined_and_only_those_that_match() {
        let mut telemetry = telemetry();
        let id = telemetry.new_id();
        for (name, configs) in [
            ("a", &[("metrics", "a.,c."), ("match", "client_id=app"), ("interval.ms", "2000")][..]),
            ("b", &[("metrics", "b."), ("interval.ms", "1000"), ("match", "client_software_name=mil.*")]),
            ("c", &[("metrics", "z."), ("interval.ms", "100"), ("match", "client_id=ap")]),
        ] {
            telemetry.alter(name, overrides(configs), false).expect("valid");
        }
        let start = Instant::now();
        let instance = telemetry.instance(id, who(1), start);
        assert_eq!(instance.metrics.iter().map(String::as_str).collect::<Vec<_>>(), ["a.", "b.", "c."]);
        assert_eq!(instance.interval, Duration::from_secs(1));
        let before = instance.subscription_id;
        telemetry.alter("d", overrides(&[("metrics", "*")]), false).expect("valid");
        let instance = telemetry.instance(id, who(1), start);
        assert_eq!(instance.metrics.iter().map(String::as_str).collect::<Vec<_>>(), ["*"]);
        assert_ne!(instance.subscription_id, before);
    }
}
