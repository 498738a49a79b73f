//! Real Kafka and the embedded broker must give the same answers to the same requests: error codes, offsets and limits. Each
//! script notes the important parts of an answer as a line, and the lines must be equal.

mod compaction;
mod configs;
mod features;
mod fetch;
mod groups;
mod groups_consumer;
mod groups_late;
mod groups_mixed;
mod offsets;
mod produce;
mod sessions;
mod topics;
mod transactions;

use std::fmt::Debug;

use milena_broker::{Broker, Builder};
use milena_interop::embedded::Embedded;
use milena_interop::raw::Raw;
use milena_interop::real;
use milena_messages::Request;
use xtask::kafka::Cluster;

/// Sends requests to one of the two brokers and notes the answers.
pub(crate) struct Asker {
    bootstrap: String,
    raw: Raw,
    said: Vec<String>,
}

impl Asker {
    fn new(bootstrap: &str) -> Self {
        Self { bootstrap: bootstrap.into(), raw: Raw::connect(bootstrap).unwrap(), said: Vec::new() }
    }

    /// Notes an answer.
    pub(crate) fn say(&mut self, what: &str, answer: impl Debug) {
        self.said.push(format!("{what}: {answer:?}"));
    }

    /// Sends a request. If the broker closes the connection instead of answering, notes that.
    pub(crate) fn ask<R: Request>(&mut self, what: &str, request: &R, version: i16) -> Option<R::Response> {
        match self.raw.call(request, version) {
            Ok(response) => Some(response),
            Err(error) if format!("{error:#}").contains("closed the connection") => {
                self.say(what, "closed the connection");
                self.raw = Raw::connect(&self.bootstrap).unwrap();
                None
            }
            Err(error) => panic!("{what}: {error:#}; so far: {:#?}", self.said),
        }
    }

    /// The broker's address.
    pub(crate) fn address(&self) -> &str {
        self.bootstrap.split(',').next().unwrap_or_default()
    }

    /// A topic with this many partitions.
    pub(crate) fn create(&mut self, topic: &str, partitions: i32) {
        self.raw.create_topic(topic, partitions).unwrap();
    }
}

/// Runs `script` against both and shows every line that differs.
pub(crate) fn compare(script: fn(&mut Asker)) {
    compare_with(real::kafka(), Broker::builder(), script);
}

/// The same with Kafka 3.9, whose transactions follow the older protocol.
pub(crate) fn compare_old(script: fn(&mut Asker)) {
    compare_with(real::old(), Broker::builder().transaction_version(0), script);
}

fn compare_with(kafka: Option<&Cluster>, builder: Builder, script: fn(&mut Asker)) {
    let Some(kafka) = kafka else { return };
    let embedded = Embedded::build(builder);
    let run = |bootstrap: &str| {
        let mut asker = Asker::new(bootstrap);
        script(&mut asker);
        asker.said
    };
    let (real, ours) = (run(&kafka.bootstrap()), run(embedded.bootstrap()));
    let differ: Vec<String> = real
        .iter()
        .zip(&ours)
        .filter(|(real, ours)| real != ours)
        .map(|(real, ours)| format!("real {real}\nours {ours}"))
        .collect();
    assert!(differ.is_empty(), "{} of {} answers differ:\n{}", differ.len(), real.len(), differ.join("\n"));
    assert_eq!(real.len(), ours.len(), "as many answers");
}
