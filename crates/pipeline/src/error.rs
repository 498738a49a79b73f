//! Why a pipeline has ended.

use std::fmt;
use std::time::Duration;

use milena::SharedRecord;

use crate::{Failure, Left, Report};

/// Why a pipeline has ended.
#[derive(Debug)]
pub struct PipelineError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    report: Option<Report>,
}

#[derive(Debug)]
enum Kind {
    Client(milena::Error),
    Record { left: Left, failure: Failure },
    Handler(Failure),
    Setting(String),
    Worker(Option<String>),
    Unwritten(Duration),
}

impl PipelineError {
    fn of(kind: Kind) -> Self {
        Self(Box::new(Inner { kind, report: None }))
    }

    /// The pipeline ran, and this came of it.
    pub(crate) fn with_report(mut self, report: Report) -> Self {
        self.0.report = Some(report);
        self
    }

    pub(crate) fn of_client(error: milena::Error) -> Self {
        Self::of(Kind::Client(error))
    }

    pub(crate) fn of_record(record: &SharedRecord, failure: Failure) -> Self {
        Self::of(Kind::Record { left: Left::of(record), failure })
    }

    pub(crate) fn handler(failure: Failure) -> Self {
        Self::of(Kind::Handler(failure))
    }

    pub(crate) fn setting(why: &str) -> Self {
        Self::of(Kind::Setting(why.to_owned()))
    }

    pub(crate) fn unwritten(after: Duration) -> Self {
        Self::of(Kind::Unwritten(after))
    }

    pub(crate) fn worker(why: Option<String>) -> Self {
        Self::of(Kind::Worker(why))
    }

    /// What came of the pipeline until it ended, with what was left unfinished. What is finished was committed, unless the cause is
    /// that it could not be. None if the pipeline did not begin.
    pub fn report(&self) -> Option<&Report> {
        self.0.report.as_ref()
    }

    /// The client's error, if that is the cause.
    pub fn client_error(&self) -> Option<&milena::Error> {
        match &self.0.kind {
            Kind::Client(error) => Some(error),
            _ => None,
        }
    }

    /// The record at which the pipeline has stopped, if that is the cause. It is not committed.
    pub fn record(&self) -> Option<&Left> {
        match &self.0.kind {
            Kind::Record { left, .. } => Some(left),
            _ => None,
        }
    }

    /// What the handler said, if that is the cause.
    pub fn failure(&self) -> Option<&Failure> {
        match &self.0.kind {
            Kind::Record { failure, .. } | Kind::Handler(failure) => Some(failure),
            _ => None,
        }
    }
}

impl fmt::Display for PipelineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.kind {
            Kind::Client(error) => write!(f, "the pipeline has ended: {error}"),
            Kind::Record { left: Left { topic, partition, offset }, failure } => write!(
                f,
                "the pipeline has stopped at offset {offset} of partition {partition} of topic {topic:?}, which is not committed: \
                 {failure}"
            ),
            Kind::Handler(failure) => {
                write!(f, "the pipeline has stopped, because its handler takes no more records: {failure}")
            }
            Kind::Setting(why) => write!(f, "the pipeline cannot run: {why}"),
            Kind::Unwritten(after) => {
                write!(
                    f,
                    "the last transaction of the pipeline was not committed within {after:?}: its records are processed again"
                )
            }
            Kind::Worker(why) => {
                write!(
                    f,
                    "a worker of the pipeline has ended: {}",
                    why.as_deref().unwrap_or("without an error")
                )
            }
        }
    }
}

impl std::error::Error for PipelineError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.kind {
            Kind::Client(error) => error.source(),
            Kind::Record { failure, .. } | Kind::Handler(failure) => failure.error().source(),
            Kind::Setting(_) | Kind::Worker(_) | Kind::Unwritten(_) => None,
        }
    }
}
