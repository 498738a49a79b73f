//! Kafka's own names for what producers and consumers are told, for the clients that take those.

use crate::{Fetching, Producing, Settings};

impl Producing {
    /// As properties of the Java producer and of librdkafka, which share these.
    pub fn properties(&self) -> Settings {
        named([
            ("compression.type", self.codec.map(|codec| codec.name().to_owned())),
            ("acks", self.acks.map(|acks| acks.name().to_owned())),
            ("enable.idempotence", self.idempotent.map(|on| on.to_string())),
            ("linger.ms", self.linger_ms.map(|linger| linger.to_string())),
            ("batch.size", self.batch_bytes.map(|bytes| bytes.to_string())),
        ])
    }
}

impl Fetching {
    /// As properties of the Java consumer and of librdkafka, which share these.
    pub fn properties(&self) -> Settings {
        named([
            ("max.partition.fetch.bytes", self.partition_fetch_bytes.map(|bytes| bytes.to_string())),
            ("fetch.max.bytes", self.fetch_bytes.map(|bytes| bytes.to_string())),
        ])
    }
}

fn named<const N: usize>(properties: [(&str, Option<String>); N]) -> Settings {
    properties.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}
