//! Attributes of spans, with the names of the semantic conventions for messaging, v1.44.

use milena::RecordView;
use opentelemetry::KeyValue;

/// What a span is of, as Kafka says it and as the conventions do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Operation {
    pub(super) name: &'static str,
    kind: &'static str,
}

impl Operation {
    pub(super) const SEND: Self = Self { name: "send", kind: "send" };
    pub(super) const POLL: Self = Self { name: "poll", kind: "receive" };
    pub(super) const PROCESS: Self = Self { name: "process", kind: "process" };
    pub(super) const COMMIT: Self = Self { name: "commit", kind: "settle" };
}

/// A longer key is not in a span, in bytes.
const KEY_BYTES_MAX: usize = 256;

/// The attributes of a span.
pub(super) struct Attributes(Vec<KeyValue>);

impl Attributes {
    pub(super) fn of(operation: Operation, error: Option<&str>) -> Self {
        let mut list = Vec::with_capacity(12);
        list.push(KeyValue::new("messaging.system", "kafka"));
        list.push(KeyValue::new("messaging.operation.name", operation.name));
        list.push(KeyValue::new("messaging.operation.type", operation.kind));
        if let Some(error) = error {
            list.push(KeyValue::new("error.type", error.to_owned()));
        }
        Self(list)
    }

    pub(super) fn topic(&mut self, topic: &str) {
        self.0.push(KeyValue::new("messaging.destination.name", topic.to_owned()));
    }

    pub(super) fn place(&mut self, topic: &str, partition: i32) {
        self.topic(topic);
        self.0.push(KeyValue::new("messaging.destination.partition.id", partition.to_string()));
    }

    pub(super) fn client(&mut self, id: &str) {
        if !id.is_empty() {
            self.0.push(KeyValue::new("messaging.client.id", id.to_owned()));
        }
    }

    pub(super) fn group(&mut self, group: Option<&str>) {
        self.0.extend(group.map(|group| KeyValue::new("messaging.consumer.group.name", group.to_owned())));
    }

    pub(super) fn count(&mut self, records: u64) {
        let records = i64::try_from(records).unwrap_or(i64::MAX);
        self.0.push(KeyValue::new("messaging.batch.message_count", records));
    }

    pub(super) fn server(&mut self, host: &str, port: u16) {
        self.0.push(KeyValue::new("server.address", host.to_owned()));
        self.0.push(KeyValue::new("server.port", i64::from(port)));
    }

    pub(super) fn offset(&mut self, offset: i64) {
        self.0.push(KeyValue::new("messaging.kafka.offset", offset));
    }

    /// What is said of a single record.
    pub(super) fn record(&mut self, record: &RecordView<'_>, has_key: bool) {
        self.offset(record.offset());
        if record.value().is_none() {
            self.0.push(KeyValue::new("messaging.kafka.message.tombstone", true));
        }
        let key = record.key().filter(|key| has_key && key.len() <= KEY_BYTES_MAX);
        if let Some(key) = key.and_then(|key| std::str::from_utf8(key).ok()) {
            self.0.push(KeyValue::new("messaging.kafka.message.key", key.to_owned()));
        }
    }

    pub(super) fn list(self) -> Vec<KeyValue> {
        self.0
    }
}
