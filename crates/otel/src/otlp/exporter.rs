//! The exporter of spans for OpenTelemetry's SDK.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use milena::Secret;
use milena::http::HttpSettings;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tokio::runtime::Handle;

use super::collector::{Collector, OtlpError};
use super::spans;

/// Sends the spans of OpenTelemetry's SDK to a collector, over HTTP in protobuf, without another HTTP client than the one that is there.
///
/// Use it with the SDK's batch processor, whose thread waits for it. The simple processor would hold up the task whose span ends, and a
/// runtime with one thread for ever.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use milena_otel::Traces;
/// use milena_otel::otlp::Exporter;
/// use opentelemetry_sdk::trace::SdkTracerProvider;
///
/// let exporter = Exporter::to("http://localhost:4318")?;
/// let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).build();
/// let traces = Traces::new(&provider).propagating();
/// # Ok(())
/// # }
/// ```
pub struct Exporter {
    collector: Arc<Collector>,
    runtime: Handle,
    resource: Resource,
    is_shut_down: AtomicBool,
}

impl Exporter {
    /// Sends to the collector at this address, which is given without `/v1/traces`, on the present tokio runtime.
    ///
    /// # Errors
    /// When the address is none, or this is called outside of a tokio runtime.
    pub fn to(url: impl AsRef<str>) -> Result<Self, OtlpError> {
        let collector = Arc::new(Collector::at(url.as_ref(), "/v1/traces")?);
        let runtime = Handle::try_current().map_err(|error| OtlpError(error.to_string()))?;
        let (resource, is_shut_down) = (Resource::builder_empty().build(), AtomicBool::new(false));
        Ok(Self { collector, runtime, resource, is_shut_down })
    }

    /// Adds a header, for example `authorization`. Its name is lower-case; its value is not printed.
    pub fn header(self, name: &'static str, value: impl Into<Secret>) -> Self {
        self.with(|collector| collector.header(name, value.into()))
    }

    /// How requests are made: whom to trust, proxies, time limits. Default: [`HttpSettings::default`] with [`http` to this
    /// machine](HttpSettings::http_to_loopback).
    pub fn settings(self, settings: HttpSettings) -> Self {
        self.with(|collector| collector.settings(settings))
    }

    fn with(mut self, change: impl FnOnce(&mut Collector)) -> Self {
        change(Arc::get_mut(&mut self.collector).expect("only requests that are under way share it"));
        self
    }
}

impl SpanExporter for Exporter {
    fn export(&self, batch: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
        let is_shut_down = self.is_shut_down.load(Ordering::Relaxed);
        let (collector, body) = (Arc::clone(&self.collector), spans::request(&batch, &self.resource));
        // The SDK waits on a thread that has no runtime.
        let runtime = self.runtime.clone();
        async move {
            if is_shut_down {
                return Err(OTelSdkError::AlreadyShutdown);
            }
            let sent = runtime.spawn(async move { collector.send(body).await }).await;
            let failed = |error: &dyn fmt::Display| {
                OTelSdkError::InternalFailure(format!("spans are not sent: {error}"))
            };
            sent.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
        }
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        match self.is_shut_down.swap(true, Ordering::Relaxed) {
            true => Err(OTelSdkError::AlreadyShutdown),
            false => Ok(()),
        }
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = resource.clone();
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").field("url", &self.collector.url).finish_non_exhaustive()
    }
}
