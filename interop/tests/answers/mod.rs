//! The same questions to real Kafka and to the embedded broker, and the same answers: error codes, offsets, limits.
//! Each script notes what matters in an answer as a line; the lines must be equal.

mod fetch;
mod offsets;
mod produce;
mod sessions;
mod topics;

use std::fmt::Debug;

use milena_interop::embedded::Embedded;
use milena_interop::raw::Raw;
use milena_interop::real;
use milena_messages::Request;

/// Asks one of the two and notes the answers.
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

    /// Asks; when the broker closes the connection instead of answering, notes that.
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

    /// Where the broker listens.
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
    let Some(kafka) = real::kafka() else { return };
    let embedded = Embedded::start(1);
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
