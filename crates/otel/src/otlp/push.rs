//! The task that sends metrics again and again.

use std::fmt;
use std::time::{Duration, SystemTime};

use milena::Secret;
use milena::http::HttpSettings;
use milena::metrics::Registry;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::collector::{Collector, OtlpError};
use super::encode;

/// Sends the metrics of a registry to an OpenTelemetry collector, over HTTP in protobuf.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use milena::metrics::Registry;
/// use milena_otel::otlp::Push;
///
/// let registry = Registry::new();
/// let pushing = Push::to("http://localhost:4318")?.attribute("service.name", "shop").start(&registry);
/// // ... Client::builder().metrics(&registry) ...
/// pushing.stop().await?; // sends once more
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is sent until it starts"]
pub struct Push {
    collector: Collector,
    every: Duration,
    resource: Vec<(String, String)>,
}

/// Sends until it is [stopped](Self::stop) or dropped.
#[must_use = "nothing is sent any more once it is dropped"]
#[derive(Debug)]
pub struct Pushing {
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<Result<(), OtlpError>>>,
}

/// How often metrics are sent by default, as OpenTelemetry's SDKs do (`OTEL_METRIC_EXPORT_INTERVAL`).
const EVERY: Duration = Duration::from_secs(60);

impl Push {
    /// Sends to the collector at this address, which is given without `/v1/metrics`.
    ///
    /// # Errors
    /// When the address is none.
    pub fn to(url: impl AsRef<str>) -> Result<Self, OtlpError> {
        let collector = Collector::at(url.as_ref(), "/v1/metrics")?;
        Ok(Self { collector, every: EVERY, resource: Vec::new() })
    }

    /// Sets how often metrics are sent. Default 60 s; less than 10 ms is taken as 10 ms.
    pub fn every(mut self, interval: Duration) -> Self {
        self.every = interval.max(Duration::from_millis(10));
        self
    }

    /// Adds an attribute of the program, such as `service.name`.
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.resource.push((name.into(), value.into()));
        self
    }

    /// Adds a header, for example `authorization`. Its name is lower-case; its value is not printed.
    pub fn header(mut self, name: &'static str, value: impl Into<Secret>) -> Self {
        self.collector.header(name, value.into());
        self
    }

    /// How requests are made: whom to trust, proxies, time limits. Default: [`HttpSettings::default`] with [`http` to this
    /// machine](HttpSettings::http_to_loopback).
    pub fn settings(mut self, settings: HttpSettings) -> Self {
        self.collector.settings(settings);
        self
    }

    /// Starts a task of the present tokio runtime that sends. What fails is told in the log, once until it succeeds again; the next
    /// time brings all that was counted.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(self, registry: &Registry) -> Pushing {
        let (stop, stopped) = watch::channel(false);
        let registry = registry.clone();
        let task = Some(tokio::spawn(self.run(registry, stopped)));
        Pushing { stop, task }
    }

    async fn run(self, registry: Registry, mut stopped: watch::Receiver<bool>) -> Result<(), OtlpError> {
        let start = SystemTime::now();
        let mut ticks = tokio::time::interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await; // The first one is at once.
        let mut has_warned = false;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                changed = stopped.changed() => {
                    // Dropped, it sends nothing more.
                    return if changed.is_ok() { self.send(&registry, start).await } else { Ok(()) };
                }
            }
            match self.send(&registry, start).await {
                Ok(()) => has_warned = false,
                Err(error) if !std::mem::replace(&mut has_warned, true) => {
                    tracing::warn!(target: "milena", "metrics are not sent: {error}");
                }
                Err(_) => {}
            }
        }
    }

    async fn send(&self, registry: &Registry, start: SystemTime) -> Result<(), OtlpError> {
        let resource: Vec<_> = self.resource.iter().map(|(name, value)| (&**name, &**value)).collect();
        let body = encode(&registry.snapshot(), &resource, start, SystemTime::now());
        self.collector.send(body).await
    }
}

impl Pushing {
    /// Sends once more, and ends.
    ///
    /// # Errors
    /// When the collector does not take what was sent last.
    ///
    /// # Cancel safety
    /// If the future is dropped, nothing more is sent, or once more.
    pub async fn stop(mut self) -> Result<(), OtlpError> {
        let _ = self.stop.send(true);
        match self.task.take() {
            Some(task) => task.await.unwrap_or_else(|error| Err(OtlpError(error.to_string()))),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Push {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { collector, every, resource } = self;
        let mut it = f.debug_struct("Push");
        it.field("url", &collector.url)
            .field("every", every)
            .field("resource", resource)
            .finish_non_exhaustive()
    }
}
