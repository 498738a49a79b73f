//! `milena broker --client-metrics`: prints the metrics that clients push.

use std::collections::BTreeMap;
use std::time::Duration;

use milena_broker::{ClientMetric, ClientMetricValue, ClientMetrics, Cluster};
use serde::Serialize;

use crate::exit::Failure;
use crate::output::{Reader, print, to_json};

/// The name of the subscription.
const NAME: &str = "milena-broker";

/// A push of one client, as a line of JSON.
#[derive(Serialize)]
struct Pushed<'a> {
    client_instance_id: &'a str,
    client_id: &'a str,
    software: Option<String>,
    address: String,
    labels: &'a BTreeMap<String, String>,
    last: bool,
    metrics: Vec<Metric<'a>>,
}

#[derive(Serialize)]
struct Metric<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: &'a BTreeMap<String, String>,
    /// Null if it is no number.
    value: f64,
}

/// Asks all clients for all metrics, in a subscription of this broker's own.
pub(super) fn subscribe(cluster: &Cluster, interval: Duration) -> Result<(), Failure> {
    let subscribed = cluster.subscribe_client_metrics(NAME, &["*"], interval, &[]);
    subscribed.map_err(|error| Failure::usage(format!("--client-metrics: {error}")))
}

/// Prints what clients push until nobody reads it.
pub(super) async fn print_all(cluster: &Cluster, interval: Duration) -> Result<(), Failure> {
    let mut printed: BTreeMap<String, u64> = BTreeMap::new();
    // Twice an interval, so that no push of a client is missed by the one after it.
    let mut ticks = tokio::time::interval(interval / 2);
    loop {
        ticks.tick().await;
        let clients = cluster.client_metrics();
        printed.retain(|id, _| clients.iter().any(|client| client.client_instance_id == *id));
        for client in &clients {
            if printed.insert(client.client_instance_id.clone(), client.pushes) != Some(client.pushes)
                && print(&format!("{}\n", line(client)?))? == Reader::Gone
            {
                return Ok(());
            }
        }
    }
}

fn line(client: &ClientMetrics) -> Result<String, Failure> {
    let metric = |metric: &'_ ClientMetric| match metric.value {
        ClientMetricValue::Gauge(value) | ClientMetricValue::Counter(value) => Some(value),
        ClientMetricValue::Histogram { sum, .. } => Some(sum),
        _ => None,
    };
    let metrics = client
        .metrics
        .iter()
        .filter_map(|of| metric(of).map(|value| Metric { name: &of.name, labels: &of.labels, value }));
    to_json(&Pushed {
        client_instance_id: &client.client_instance_id,
        client_id: &client.client_id,
        software: client.software.as_ref().map(|(name, version)| format!("{name} {version}")),
        address: client.address.to_string(),
        labels: &client.labels,
        last: client.has_ended,
        metrics: metrics.collect(),
    })
}
