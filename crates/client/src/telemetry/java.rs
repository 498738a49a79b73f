//! The names that metrics have in a push: those of KIP-714 and of Java's clients for what Java has too, made of this crate's families,
//! and this crate's own under the prefix `milena.`.
//!
//! Java names a metric by its group and its name, with dots for dashes, under `org.apache.kafka.`. Times are in milliseconds there.

use super::otlp::Kind;
use crate::metrics::Family;
use crate::metrics::families::{
    CONNECTIONS, CONNECTIONS_CLOSED, CONNECTIONS_OPENED, CONSUMER_ASSIGNED_PARTITIONS, CONSUMER_BYTES,
    CONSUMER_COMMIT_SECONDS, CONSUMER_FETCH_BYTES, CONSUMER_LAG_RECORDS, CONSUMER_PHASE_SECONDS,
    CONSUMER_REBALANCE_SECONDS, CONSUMER_REBALANCES, CONSUMER_RECORDS, NODE_REQUEST_SECONDS,
    PRODUCER_BATCH_BYTES, PRODUCER_BUFFER_LIMIT_BYTES, PRODUCER_BYTES, PRODUCER_PHASE_SECONDS,
    PRODUCER_RECORD_ERRORS, PRODUCER_RECORDS, REAUTHENTICATIONS, RECEIVED_BYTES, REQUEST_SECONDS, SENT_BYTES,
    THROTTLE_SECONDS,
};

/// What a metric of Java's is made of.
#[derive(Debug)]
pub(super) struct Row {
    /// The name without `org.apache.kafka.`; for a [shared](Of::Each) family also without `producer.` or `consumer.`.
    pub(super) name: &'static str,
    pub(super) of: Of,
    pub(super) family: &'static Family,
    /// The label whose values are restricted, and these values; all series if it is empty. Series are joined.
    pub(super) only: (&'static str, &'static [&'static str]),
    /// Labels that are kept, with their names in Java; series that differ in other labels are joined.
    pub(super) keep: &'static [(&'static str, &'static str)],
    pub(super) measure: Measure,
    pub(super) scale: f64,
}

/// For whom a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Producer,
    Consumer,
    /// For what producers and consumers of a client share, such as its connections: it is pushed under the name of each of the two that
    /// the client has, and under `admin.client.` if it has none.
    Each,
}

/// What is made of the series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    /// How much was counted; of a histogram, how many values.
    Total,
    /// The same each second, since the last push.
    Rate,
    /// The sum of all values of a histogram.
    SumTotal,
    /// The values of a histogram since the last push: their sum by the number of those of the first value in [`Row::only`].
    Avg,
    /// The highest of them. Of several values in [`Row::only`] the sum, which is at least as high as the highest sum.
    Max,
    /// How a gauge stands; joined gauges are added.
    Value,
    /// The highest of the joined gauges.
    Most,
    /// The share of the time since the last push that is not the sum of a histogram.
    IdleRatio,
}

impl Measure {
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Total | Self::SumTotal => Kind::Counter,
            _ => Kind::Gauge,
        }
    }
}

const MILLIS: f64 = 1000.0;
const ALL: (&str, &[&str]) = ("", &[]);
const TOPIC: &[(&str, &str)] = &[("topic", "topic")];
const PRODUCE: (&str, &[&str]) = ("api", &["Produce"]);
const FETCH: (&str, &[&str]) = ("api", &["Fetch"]);
/// From the first record of a batch until its request is sent.
const QUEUED: (&str, &[&str]) = ("phase", &["batch", "compress", "slot"]);

const fn row(name: &'static str, of: Of, family: &'static Family, measure: Measure) -> Row {
    Row { name, of, family, only: ALL, keep: &[], measure, scale: 1.0 }
}

const fn producer(name: &'static str, family: &'static Family, measure: Measure) -> Row {
    row(name, Of::Producer, family, measure)
}

const fn consumer(name: &'static str, family: &'static Family, measure: Measure) -> Row {
    row(name, Of::Consumer, family, measure)
}

const fn each(name: &'static str, family: &'static Family, measure: Measure) -> Row {
    row(name, Of::Each, family, measure)
}

impl Row {
    const fn only(self, only: (&'static str, &'static [&'static str])) -> Self {
        Self { only, ..self }
    }

    const fn keep(self, keep: &'static [(&'static str, &'static str)]) -> Self {
        Self { keep, ..self }
    }

    const fn millis(self) -> Self {
        Self { scale: MILLIS, ..self }
    }
}

use Measure::{Avg, IdleRatio, Max, Most, Rate, SumTotal, Total, Value};

/// The metrics that KIP-714 requires come first: if a broker takes few bytes, these are what it gets.
pub(super) static ROWS: &[Row] = &[
    each("connection.creation.total", &CONNECTIONS_OPENED, Total),
    each("connection.creation.rate", &CONNECTIONS_OPENED, Rate),
    each("node.request.latency.avg", &NODE_REQUEST_SECONDS, Avg).keep(&[("node", "node_id")]).millis(),
    each("node.request.latency.max", &NODE_REQUEST_SECONDS, Max).keep(&[("node", "node_id")]).millis(),
    producer("producer.produce.throttle.time.avg", &THROTTLE_SECONDS, Avg).only(PRODUCE).millis(),
    producer("producer.produce.throttle.time.max", &THROTTLE_SECONDS, Max).only(PRODUCE).millis(),
    producer("producer.record.queue.time.avg", &PRODUCER_PHASE_SECONDS, Avg).only(QUEUED).millis(),
    producer("producer.record.queue.time.max", &PRODUCER_PHASE_SECONDS, Max).only(QUEUED).millis(),
    consumer("consumer.poll.idle.ratio.avg", &CONSUMER_PHASE_SECONDS, IdleRatio)
        .only(("phase", &["application"])),
    consumer("consumer.coordinator.commit.latency.avg", &CONSUMER_COMMIT_SECONDS, Avg).millis(),
    consumer("consumer.coordinator.commit.latency.max", &CONSUMER_COMMIT_SECONDS, Max).millis(),
    consumer("consumer.coordinator.assigned.partitions", &CONSUMER_ASSIGNED_PARTITIONS, Value),
    consumer("consumer.coordinator.rebalance.latency.avg", &CONSUMER_REBALANCE_SECONDS, Avg)
        .only(REBALANCE)
        .millis(),
    consumer("consumer.coordinator.rebalance.latency.max", &CONSUMER_REBALANCE_SECONDS, Max)
        .only(REBALANCE)
        .millis(),
    consumer("consumer.coordinator.rebalance.latency.total", &CONSUMER_REBALANCE_SECONDS, SumTotal)
        .only(REBALANCE)
        .millis(),
    consumer("consumer.fetch.manager.fetch.latency.avg", &REQUEST_SECONDS, Avg).only(FETCH).millis(),
    consumer("consumer.fetch.manager.fetch.latency.max", &REQUEST_SECONDS, Max).only(FETCH).millis(),
    // Those that KIP-714 does not require, and Java's clients have.
    producer("producer.record.send.total", &PRODUCER_RECORDS, Total),
    producer("producer.record.send.rate", &PRODUCER_RECORDS, Rate),
    producer("producer.record.error.total", &PRODUCER_RECORD_ERRORS, Total),
    producer("producer.record.error.rate", &PRODUCER_RECORD_ERRORS, Rate),
    producer("producer.request.latency.avg", &REQUEST_SECONDS, Avg).only(PRODUCE).millis(),
    producer("producer.request.latency.max", &REQUEST_SECONDS, Max).only(PRODUCE).millis(),
    producer("producer.batch.size.avg", &PRODUCER_BATCH_BYTES, Avg),
    producer("producer.batch.size.max", &PRODUCER_BATCH_BYTES, Max),
    producer("producer.buffer.total.bytes", &PRODUCER_BUFFER_LIMIT_BYTES, Value),
    producer("producer.topic.record.send.total", &PRODUCER_RECORDS, Total).keep(TOPIC),
    producer("producer.topic.record.send.rate", &PRODUCER_RECORDS, Rate).keep(TOPIC),
    producer("producer.topic.byte.total", &PRODUCER_BYTES, Total).keep(TOPIC),
    producer("producer.topic.byte.rate", &PRODUCER_BYTES, Rate).keep(TOPIC),
    producer("producer.topic.record.error.total", &PRODUCER_RECORD_ERRORS, Total).keep(TOPIC),
    producer("producer.topic.record.error.rate", &PRODUCER_RECORD_ERRORS, Rate).keep(TOPIC),
    consumer("consumer.coordinator.commit.total", &CONSUMER_COMMIT_SECONDS, Total),
    consumer("consumer.coordinator.commit.rate", &CONSUMER_COMMIT_SECONDS, Rate),
    consumer("consumer.coordinator.rebalance.total", &CONSUMER_REBALANCES, Total),
    consumer("consumer.coordinator.join.time.avg", &CONSUMER_REBALANCE_SECONDS, Avg)
        .only(("phase", &["join"]))
        .millis(),
    consumer("consumer.coordinator.join.time.max", &CONSUMER_REBALANCE_SECONDS, Max)
        .only(("phase", &["join"]))
        .millis(),
    consumer("consumer.coordinator.sync.time.avg", &CONSUMER_REBALANCE_SECONDS, Avg)
        .only(("phase", &["sync"]))
        .millis(),
    consumer("consumer.coordinator.sync.time.max", &CONSUMER_REBALANCE_SECONDS, Max)
        .only(("phase", &["sync"]))
        .millis(),
    consumer("consumer.fetch.manager.fetch.total", &REQUEST_SECONDS, Total).only(FETCH),
    consumer("consumer.fetch.manager.fetch.rate", &REQUEST_SECONDS, Rate).only(FETCH),
    consumer("consumer.fetch.manager.fetch.size.avg", &CONSUMER_FETCH_BYTES, Avg),
    consumer("consumer.fetch.manager.fetch.size.max", &CONSUMER_FETCH_BYTES, Max),
    consumer("consumer.fetch.manager.fetch.throttle.time.avg", &THROTTLE_SECONDS, Avg).only(FETCH).millis(),
    consumer("consumer.fetch.manager.fetch.throttle.time.max", &THROTTLE_SECONDS, Max).only(FETCH).millis(),
    consumer("consumer.fetch.manager.records.consumed.total", &CONSUMER_RECORDS, Total),
    consumer("consumer.fetch.manager.records.consumed.rate", &CONSUMER_RECORDS, Rate),
    consumer("consumer.fetch.manager.bytes.consumed.total", &CONSUMER_BYTES, Total),
    consumer("consumer.fetch.manager.bytes.consumed.rate", &CONSUMER_BYTES, Rate),
    consumer("consumer.fetch.manager.records.lag.max", &CONSUMER_LAG_RECORDS, Most),
    consumer("consumer.fetch.manager.records.lag", &CONSUMER_LAG_RECORDS, Value)
        .keep(&[("topic", "topic"), ("partition", "partition")]),
    each("connection.close.total", &CONNECTIONS_CLOSED, Total),
    each("connection.close.rate", &CONNECTIONS_CLOSED, Rate),
    each("connection.count", &CONNECTIONS, Value),
    each("successful.reauthentication.total", &REAUTHENTICATIONS, Total),
    each("request.total", &REQUEST_SECONDS, Total),
    each("request.rate", &REQUEST_SECONDS, Rate),
    each("outgoing.byte.total", &SENT_BYTES, Total),
    each("outgoing.byte.rate", &SENT_BYTES, Rate),
    each("incoming.byte.total", &RECEIVED_BYTES, Total),
    each("incoming.byte.rate", &RECEIVED_BYTES, Rate),
];

/// The whole rebalance, not one of its parts.
const REBALANCE: (&str, &[&str]) = ("phase", &["total"]);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics;

    #[test]
    fn rows_fit_their_families_and_a_name_stands_once() {
        let mut names = Vec::new();
        for row in ROWS {
            let (name, family) = (row.name, row.family);
            let is_histogram = family.kind == metrics::Kind::Histogram;
            let fits = match row.measure {
                Total => family.kind != metrics::Kind::Gauge,
                Rate => family.kind != metrics::Kind::Gauge,
                Value | Most => family.kind == metrics::Kind::Gauge,
                SumTotal | Avg | Max | IdleRatio => is_histogram,
            };
            assert!(fits, "{name}");
            let labels =
                row.keep.iter().map(|(own, _)| *own).chain([row.only.0]).filter(|own| !own.is_empty());
            for own in labels {
                assert!(family.labels.contains(&own), "{name}: {} has no label {own}", family.name);
            }
            let prefix = match row.of {
                Of::Producer => "producer.",
                Of::Consumer => "consumer.",
                Of::Each => "",
            };
            assert!(name.starts_with(prefix), "{name}");
            let ends = match row.measure {
                Total | SumTotal => ".total",
                Rate => ".rate",
                Avg | IdleRatio => ".avg",
                Max | Most => ".max",
                Value => "",
            };
            assert!(name.ends_with(ends), "{name}");
            names.push((row.of == Of::Consumer, name));
        }
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
