//! Real Kafka and the embedded broker must give the same answers to the same requests: error codes, offsets and limits. Each
//! script notes the important parts of an answer as a line, and the lines must be equal.

mod acls;
mod compaction;
mod configs;
mod exchange;
mod features;
mod fetch;
mod groups;
mod groups_consumer;
mod groups_late;
mod groups_mixed;
mod guarded;
mod offsets;
mod produce;
mod quotas;
mod sessions;
mod tokens;
mod topics;
mod transactions;

use std::fmt::Debug;

use milena_broker::{Broker, Builder};
use milena_interop::embedded::Embedded;
use milena_interop::raw::Raw;
use milena_interop::real;
use milena_messages::Request;
use milena_messages::sasl_authenticate::SaslAuthenticateRequest;
use milena_messages::sasl_handshake::SaslHandshakeRequest;
use xtask::kafka::Cluster;

/// Sends requests to one of the two brokers and notes the answers.
pub(crate) struct Asker {
    bootstrap: String,
    /// Who it logs in as, by PLAIN.
    user: Option<&'static str>,
    raw: Raw,
    said: Vec<String>,
}

impl Asker {
    fn new(bootstrap: &str) -> Self {
        let raw = Raw::connect(bootstrap).unwrap();
        Self { bootstrap: bootstrap.into(), user: None, raw, said: Vec::new() }
    }

    /// The same, logged in as `user`.
    fn login(bootstrap: &str, user: &'static str) -> Self {
        let mut asker = Self::new(bootstrap);
        asker.be(user);
        asker
    }

    /// Goes on as another user, over another connection.
    pub(crate) fn be(&mut self, user: &'static str) {
        self.user = Some(user);
        self.connect();
    }

    /// Goes on over another connection.
    pub(crate) fn anew(&mut self) {
        self.connect();
    }

    fn connect(&mut self) {
        self.raw = Raw::connect(&self.bootstrap).unwrap();
        let Some(user) = self.user else { return };
        let mechanism = SaslHandshakeRequest { mechanism: "PLAIN".into() };
        assert!(self.raw.call(&mechanism, 1).unwrap().error_code.is_none());
        let auth_bytes = format!("\0{user}\0pencil").into();
        let token = SaslAuthenticateRequest { auth_bytes, ..Default::default() };
        let answer = self.raw.call(&token, 2).unwrap();
        assert!(answer.error_code.is_none(), "{user}: {:?}", answer.error_message);
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
                self.connect();
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
    differences(&real, &ours);
}

/// Shows every line that differs.
fn differences(real: &[String], ours: &[String]) {
    let differ: Vec<String> = real
        .iter()
        .zip(ours)
        .filter(|(real, ours)| real != ours)
        .map(|(real, ours)| format!("real {real}\nours {ours}"))
        .collect();
    assert!(differ.is_empty(), "{} of {} answers differ:\n{}", differ.len(), real.len(), differ.join("\n"));
    assert_eq!(real.len(), ours.len(), "as many answers");
}
