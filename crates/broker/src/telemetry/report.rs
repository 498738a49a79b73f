//! What a client has reported: the latest value of each metric.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::otlp::{Labels, Point, Shape};

/// What a client has pushed (KIP-714): [`Cluster::client_metrics`](crate::Cluster::client_metrics).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ClientMetrics {
    /// The id that the broker has given to the client, as Kafka writes it (base64).
    pub client_instance_id: String,
    /// The `client.id` of its last requests.
    pub client_id: String,
    /// The name and the version of its software (KIP-511), if it has told them.
    pub software: Option<(String, String)>,
    /// Where it connects from.
    pub address: SocketAddr,
    /// What it says of itself, such as `group_id`, `client_rack` or `transactional_id`.
    pub labels: BTreeMap<String, String>,
    /// Its metrics, ordered by name and labels.
    pub metrics: Vec<ClientMetric>,
    /// How often it has pushed.
    pub pushes: u64,
    /// Values that were not kept, because it has too many metrics or their names are too long.
    pub left_out: u64,
    /// Whether its last push was the one that a client makes when it is closed.
    pub has_ended: bool,
}

/// A metric of a client, with its latest value.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ClientMetric {
    /// Such as `org.apache.kafka.producer.record.send.total`.
    pub name: String,
    /// Such as `node_id`.
    pub labels: BTreeMap<String, String>,
    /// How it stands.
    pub value: ClientMetricValue,
}

/// The value of a client's metric.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum ClientMetricValue {
    /// What the client has measured last.
    Gauge(f64),
    /// What the client has counted. If it pushes what was added since its last push (delta temporality), these are added up.
    Counter(f64),
    /// The same of a histogram: how many values, and their sum.
    Histogram {
        /// How many values there were.
        count: u64,
        /// Their sum.
        sum: f64,
    },
}

/// The latest values of one client.
#[derive(Debug, Default)]
pub(super) struct Report {
    values: BTreeMap<(String, Labels), ClientMetricValue>,
    resource: BTreeMap<String, String>,
    /// The bytes of names and labels, with something for what a value costs.
    bytes: usize,
    pushes: u64,
    left_out: u64,
}

/// The most bytes of names and labels of one client.
const BYTES_MAX: usize = 1 << 20;
/// What a value costs besides its name and labels.
const VALUE_BYTES: usize = 128;
/// The most labels that a client has for itself.
const RESOURCE_MAX: usize = 16;

impl Report {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn pushes(&self) -> u64 {
        self.pushes
    }

    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    pub(super) fn note(&mut self, points: Vec<Point>) {
        self.pushes += 1;
        for Point { name, labels, resource, shape, is_delta } in points {
            for (key, value) in resource {
                if self.resource.len() < RESOURCE_MAX || self.resource.contains_key(&key) {
                    self.resource.insert(key, value);
                }
            }
            let key = (name, labels);
            if let Some(held) = self.values.get_mut(&key) {
                *held = next(*held, shape, is_delta);
                continue;
            }
            let bytes =
                VALUE_BYTES + key.0.len() + key.1.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>();
            if self.bytes + bytes > BYTES_MAX {
                self.left_out += 1;
                continue;
            }
            self.bytes += bytes;
            self.values.insert(key, next(ClientMetricValue::Gauge(0.0), shape, false));
        }
    }

    pub(super) fn leave_out(&mut self, count: u64) {
        self.left_out += count;
    }

    /// The metrics and the labels of the client; `None` if it has never pushed.
    pub(super) fn shown(&self) -> Option<(Vec<ClientMetric>, BTreeMap<String, String>)> {
        let metrics = self.values.iter().map(|((name, labels), value)| ClientMetric {
            name: name.clone(),
            labels: labels.iter().cloned().collect(),
            value: *value,
        });
        (self.pushes > 0).then(|| (metrics.collect(), self.resource.clone()))
    }
}

/// The value after a point.
fn next(held: ClientMetricValue, shape: Shape, is_delta: bool) -> ClientMetricValue {
    use ClientMetricValue::{Counter, Gauge, Histogram};
    match (shape, held) {
        (Shape::Gauge(value), _) => Gauge(value),
        (Shape::Sum(value), Counter(before)) if is_delta => Counter(before + value),
        (Shape::Sum(value), _) => Counter(value),
        (Shape::Histogram { count, sum }, Histogram { count: more, sum: before }) if is_delta => {
            Histogram { count: more.saturating_add(count), sum: before + sum }
        }
        (Shape::Histogram { count, sum }, _) => Histogram { count, sum },
    }
}

/// The beginning of a text, of at most `bytes` bytes.
pub(super) fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(shape: Shape, is_delta: bool) -> Point {
        let labels = vec![("node_id".to_owned(), "1".to_owned())];
        let resource = vec![("group_id".to_owned(), "g".to_owned())];
        Point { name: "m".to_owned(), labels, resource, shape, is_delta }
    }

    #[test]
    fn deltas_are_added_up_and_everything_else_replaces() {
        for (shapes, is_delta, expected) in [
            ([Shape::Sum(2.0), Shape::Sum(3.0)], true, ClientMetricValue::Counter(5.0)),
            ([Shape::Sum(2.0), Shape::Sum(3.0)], false, ClientMetricValue::Counter(3.0)),
            ([Shape::Gauge(2.0), Shape::Gauge(1.0)], true, ClientMetricValue::Gauge(1.0)),
            ([Shape::Gauge(2.0), Shape::Sum(1.0)], true, ClientMetricValue::Counter(1.0)),
            (
                [Shape::Histogram { count: 1, sum: 2.0 }, Shape::Histogram { count: 2, sum: 0.5 }],
                true,
                ClientMetricValue::Histogram { count: 3, sum: 2.5 },
            ),
        ] {
            let mut report = Report::default();
            assert!(report.shown().is_none());
            shapes.into_iter().for_each(|shape| report.note(vec![point(shape, is_delta)]));
            let (metrics, labels) = report.shown().expect("it has pushed");
            assert_eq!(metrics[0].value, expected, "{shapes:?}");
            assert_eq!((metrics.len(), labels["group_id"].as_str(), report.pushes()), (1, "g", 2));
        }
    }
}
