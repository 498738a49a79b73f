//! Prometheus and Alertmanager, and what faults learn from them.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use milena::metrics::Registry;
use milena_observe::exposition::{Encoding, Format};
use milena_observe::serve::Expose;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::harness::milena;
use crate::harness::prometheus::{
    free_address, get, is_ready, promtool, query, start_alertmanager, start_prometheus, until,
};

/// A fault, and what it does to a client, a pipeline or a cluster.
pub(crate) struct Fault {
    /// Its job in Prometheus.
    job: &'static str,
    alerts: &'static [&'static str],
    inject: Box<dyn FnOnce(Stand) -> Injected>,
}

/// It ends when the fault has ended.
type Injected = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(crate) fn fault<F: Future<Output = ()> + Send + 'static>(
    job: &'static str,
    alerts: &'static [&'static str],
    inject: impl FnOnce(Stand) -> F + 'static,
) -> Fault {
    Fault { job, alerts, inject: Box::new(move |stand| Box::pin(inject(stand))) }
}

/// Times of rules are divided by this: how long something must be so, how far they look back, the lag in seconds that is too much,
/// and for how long a transaction may be open. Five minutes become ten seconds.
const FASTER: u64 = 30;
/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);
/// Before a fault is injected, Prometheus has seen this many times that all is well.
const SCRAPES: u64 = 4;

/// What Prometheus and Alertmanager say.
#[derive(Debug, Default)]
struct Told {
    /// The alerts that are there: their names and jobs.
    alerts: BTreeSet<(String, String)>,
    /// How often each job was scraped.
    scrapes: BTreeMap<String, u64>,
}

/// What a fault shows Prometheus, and learns from it.
pub(crate) struct Stand {
    job: &'static str,
    shown: Shown,
    told: watch::Receiver<Told>,
    begun: Instant,
}

/// What is scraped, once it is there.
#[derive(Clone, Default)]
struct Shown(Arc<OnceLock<Box<dyn Expose>>>);

impl Expose for Shown {
    fn expose(&self, format: Format, encoding: Encoding) -> Arc<[u8]> {
        let nothing = || Registry::new().expose(format, encoding);
        self.0.get().map_or_else(nothing, |metrics| metrics.expose(format, encoding))
    }
}

impl Stand {
    /// These metrics are scraped.
    pub(crate) fn show(&self, metrics: impl Expose) {
        assert!(self.shown.0.set(Box::new(metrics)).is_ok(), "metrics are shown once");
    }

    /// Waits until Prometheus has seen some times that all is well.
    pub(crate) async fn is_well(&mut self) {
        let scrapes = |told: &Told, job: &str| told.scrapes.get(job).copied().unwrap_or(0);
        let job = self.job;
        let before = scrapes(&self.told.borrow(), job);
        self.wait("is scraped", |told| scrapes(told, job) >= before + SCRAPES).await;
        let told = self.told.borrow();
        let early: Vec<_> = told.alerts.iter().filter(|(_, of)| of == self.job).collect();
        assert!(early.is_empty(), "{}: {early:?} before the fault", self.job);
    }

    /// Waits until the alert is there.
    pub(crate) async fn fires(&mut self, alert: &'static str) {
        let job = self.job;
        self.wait(&format!("{alert} fires"), |told| told.has(alert, job)).await;
    }

    /// Waits until the alert is there no longer.
    pub(crate) async fn resolves(&mut self, alert: &'static str) {
        let job = self.job;
        self.wait(&format!("{alert} is resolved"), |told| !told.has(alert, job)).await;
    }

    async fn wait(&mut self, what: &str, is_so: impl FnMut(&Told) -> bool) {
        let waiting = self.told.wait_for(is_so);
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(
            matches!(waited, Ok(Ok(_))),
            "{}: within {PATIENCE:?} it was not so that it {what}",
            self.job
        );
        eprintln!("{:6.1} s  {}: {what}", self.begun.elapsed().as_secs_f64(), self.job);
    }
}

impl Told {
    fn has(&self, alert: &str, job: &str) -> bool {
        self.alerts.contains(&(alert.to_owned(), job.to_owned()))
    }
}

/// The rules that `milena dashboards` writes, with times divided by [`FASTER`], in another file.
fn faster_rules(directory: &Path) -> std::path::PathBuf {
    let run = milena(&["dashboards", directory.to_str().expect("text")]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let text = std::fs::read_to_string(directory.join("milena.rules.yml")).expect("is there");
    let minutes = regex::Regex::new(r"(for: |\[|offset )(\d+)m\b").expect("is right");
    let text = minutes.replace_all(&text, |found: &regex::Captures<'_>| {
        let minutes: u64 = found[2].parse().expect("a number");
        format!("{}{}s", &found[1], minutes * 60 / FASTER)
    });
    let lag = regex::Regex::new(r"(_seconds\) > )(300|900)\b").expect("is right");
    let text = lag.replace_all(&text, |found: &regex::Captures<'_>| {
        let seconds: u64 = found[2].parse().expect("a number");
        format!("{}{}", &found[1], seconds / FASTER)
    });
    assert_eq!(text.matches("_lag_seconds) > 10").count(), 2, "{text}");
    assert_eq!(text.matches("_seconds) > 30").count(), 1, "{text}");
    let path = directory.join("faster.rules.yml");
    std::fs::write(&path, &*text).expect("is written");
    promtool(&["check", "rules", path.to_str().expect("text")], "");
    path
}

/// The names of all alerts of a file of rules.
fn alerts_of(rules: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(rules).expect("is there");
    let names = text.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    names.map(str::to_owned).collect()
}

/// Injects all faults at the same time, and fails if one does not fire its alerts.
pub(crate) fn play(mut faults: Vec<Fault>, without_fault: &[&str]) {
    let directory = tempfile::tempdir().expect("a directory");
    let rules = faster_rules(directory.path());
    let tested = faults.iter().flat_map(|of| of.alerts).chain(without_fault);
    let tested: BTreeSet<String> = tested.map(|&name| name.into()).collect();
    assert_eq!(tested, alerts_of(&rules), "each alert has a fault");
    if let Ok(part) = std::env::var("MILENA_FAULT") {
        faults.retain(|fault| fault.job.contains(&part));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("starts");
    let [prometheus, alertmanager] = [(); 2].map(|()| free_address());
    let (mut shown, mut jobs) = (Vec::new(), Vec::new());
    for fault in &faults {
        let metrics = Shown::default();
        let server = runtime.block_on(milena_observe::serve("127.0.0.1:0", metrics.clone()));
        let server = server.expect("is served");
        jobs.push((fault.job, vec![server.address().to_string()]));
        shown.push((metrics, server));
    }
    let _alertmanager = start_alertmanager(directory.path(), &alertmanager);
    let _prometheus = start_prometheus(directory.path(), &prometheus, &alertmanager, &rules, &jobs);
    until(|| (is_ready(&prometheus) && is_ready(&alertmanager)).then_some(()));

    let (tell, told) = watch::channel(Told::default());
    let asking = std::thread::spawn(move || ask(&prometheus, &alertmanager, &tell));
    let (mut running, mut _servers) = (JoinSet::new(), Vec::new());
    for (fault, (shown, server)) in faults.into_iter().zip(shown) {
        _servers.push(server);
        let stand = Stand { job: fault.job, shown, told: told.clone(), begun: Instant::now() };
        running.spawn_on((fault.inject)(stand), runtime.handle());
    }
    drop(told);
    let failed = runtime.block_on(async {
        let mut failed = Vec::new();
        while let Some(ended) = running.join_next().await {
            failed.extend(ended.err().map(|error| error.to_string()));
        }
        failed
    });
    asking.join().expect("ends with the last stand");
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Asks for the alerts until nobody wants to know.
fn ask(prometheus: &str, alertmanager: &str, tell: &watch::Sender<Told>) {
    while !tell.is_closed() {
        let label = |of: &Value, name: &str| of[name].as_str().unwrap_or_default().to_owned();
        let scrapes = query(prometheus, "sum by (job) (count_over_time(up[10m]))");
        let scrapes = scrapes.as_array().into_iter().flatten().filter_map(|sample| {
            let count = sample["value"][1].as_str()?.parse().ok()?;
            Some((label(&sample["metric"], "job"), count))
        });
        let scrapes = scrapes.collect();
        let alerts = get(alertmanager, "/api/v2/alerts").expect("Alertmanager answers");
        let alerts: Vec<Value> = serde_json::from_str(&alerts).expect("JSON");
        let alerts = alerts.iter().map(|alert| &alert["labels"]);
        let alerts = alerts.map(|labels| (label(labels, "alertname"), label(labels, "job"))).collect();
        tell.send_replace(Told { alerts, scrapes });
        std::thread::sleep(Duration::from_millis(250));
    }
}
