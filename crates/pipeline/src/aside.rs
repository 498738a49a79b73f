//! What is done with a record that is given up.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use milena::SharedRecord;

use crate::control::Control;
use crate::dead_letters::{DeadLetterWriter, Facts};
use crate::record::Held;
use crate::retry_topics::{Leaver, Origin, Retries, Returned, Step, Tier, Why};
use crate::{Class, Failure};

/// Where records go that are given up: to their next retry topic, and at last to where dead letters go.
pub(crate) struct Aside {
    pub(crate) retries: Option<Arc<Retries>>,
    pub(crate) last: Last,
}

/// Where records go that are not tried any more.
pub(crate) enum Last {
    /// Nowhere: the pipeline stops, and the record stays uncommitted.
    Stop,
    /// Nowhere: it is logged, and counts as finished.
    Skip,
    /// To a topic.
    DeadLetters { writer: Box<DeadLetterWriter>, group: Arc<str> },
}

/// A record that is given up, and why.
pub(crate) struct GivenUp {
    pub(crate) record: SharedRecord,
    /// The record's partition.
    pub(crate) held: Arc<Held>,
    pub(crate) cause: Cause,
    /// Over all retry topics.
    pub(crate) attempts: u32,
    /// When it was tried first. None if it was not.
    pub(crate) first_ms: Option<i64>,
    pub(crate) last_ms: i64,
}

/// Why a record leaves the topic that it is in.
#[derive(Debug)]
pub(crate) enum Cause {
    /// It was tried.
    Failed(Failure),
    /// An earlier record of its key waits in a retry topic, and is due then, in milliseconds since the epoch.
    Follows(i64),
}

/// What became of a record that was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    /// It waits in a retry topic.
    InTier,
    /// It is not tried any more.
    Aside,
}

/// Where one record goes.
enum Place<'a> {
    Tier(&'a Retries, Step<'a>),
    DeadLetters(&'a DeadLetterWriter, &'a str, &'a Failure),
}

/// The first pause after a record could not be written, and the longest.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);

impl Aside {
    /// The topic of the dead letters, and its number of partitions.
    pub(crate) fn dead_letters(&self) -> Option<(&str, i32)> {
        match &self.last {
            Last::DeadLetters { writer, .. } => Some((writer.topic(), writer.partition_count())),
            Last::Stop | Last::Skip => None,
        }
    }

    /// Whether there is a place for a record that has failed like this.
    pub(crate) fn has_place(&self, topic: &str, tier: Option<&Tier>, failure: &Failure) -> bool {
        !matches!(self.last, Last::Stop) || self.next(topic, tier, Some(failure)).is_some()
    }

    fn next(
        &self,
        topic: &str,
        tier: Option<&Tier>,
        failure: Option<&Failure>,
    ) -> Option<(&Retries, Step<'_>)> {
        let may = failure.is_none_or(|failure| failure.class() == Class::Retriable);
        let retries = self.retries.as_deref().filter(|_| may)?;
        Some((retries, retries.next(topic, tier)?))
    }

    /// Ends when the record is where it belongs. Until then the source stays uncommitted; if it takes more than one attempt,
    /// nothing else is started meanwhile.
    pub(crate) async fn put(&self, given_up: GivenUp, control: &Control) -> Put {
        let GivenUp { record, held, cause, attempts, .. } = &given_up;
        let (topic, partition, offset) = (record.topic(), record.partition(), record.offset());
        let failure = match cause {
            Cause::Failed(failure) => Some(failure),
            Cause::Follows(_) => None,
        };
        match (self.next(topic, held.tier.as_deref(), failure), failure, &self.last) {
            (Some((retries, step)), ..) => {
                self.write(&Place::Tier(retries, step), &given_up, control).await;
                retries.counts()[step.index].written.fetch_add(1, Ordering::Relaxed);
                return Put::InTier;
            }
            (None, Some(failure), Last::DeadLetters { writer, group }) => {
                self.write(&Place::DeadLetters(writer, group, failure), &given_up, control).await;
                control.counts.dead.fetch_add(1, Ordering::Relaxed);
            }
            (None, Some(failure), Last::Skip) => {
                tracing::warn!(
                    target: "milena",
                    "the record at offset {offset} of partition {partition} of topic {topic:?} is skipped after {attempts} \
                     attempts: {failure}"
                );
                control.counts.skipped.fetch_add(1, Ordering::Relaxed);
            }
            (None, None, _) => {
                unreachable!("a record follows another one to the next retry topic, so that there is one")
            }
            (None, _, Last::Stop) => unreachable!("the pipeline stops instead"),
        }
        Put::Aside
    }

    async fn write(&self, to: &Place<'_>, given_up: &GivenUp, control: &Control) {
        let GivenUp { record, held: of, cause, attempts, first_ms, last_ms } = given_up;
        let (attempts, first_ms, last_ms) = (*attempts, *first_ms, *last_ms);
        let view = record.view();
        let returned = of.tier.as_ref().map(|_| Returned::read(view.headers()));
        let origin = returned.and_then(|of| of.origin).unwrap_or_else(|| Origin::of(&view));
        let output = || match to {
            Place::Tier(retries, step) => {
                let why = match cause {
                    Cause::Failed(failure) => Why::Failed(failure),
                    Cause::Follows(due_ms) => Why::Follows(*due_ms),
                };
                if let Some(behind) = &of.behind {
                    // Before it is there, so that no one looks for it in between.
                    behind.announce(&view, (origin.partition, origin.offset), retries.due_ms(*step));
                }
                retries.output(&Leaver { record, why, attempts, first_ms }, *step)
            }
            Place::DeadLetters(writer, group, failure) => {
                let first_ms = first_ms.unwrap_or(last_ms);
                let facts = Facts { group, handler: None, attempts, first_ms, last_ms };
                writer.output(record.view(), &origin, failure, &facts)
            }
        };
        if let Some(place) = &of.place {
            return place.emit(record.offset(), record.offset(), vec![output()]);
        }
        let (mut held, mut pause) = (None, PAUSE);
        loop {
            // Each time anew: the due time of a retry counts from when it is written.
            let output = output();
            let headers = output.borrowed_headers();
            let producer = match to {
                Place::Tier(retries, _) => retries.producer(),
                Place::DeadLetters(writer, ..) => writer.producer(),
            };
            let Err(error) = producer.send(output.record("", &headers)).await else { return };
            control.counts.aside_failures.fetch_add(1, Ordering::Relaxed);
            if held.is_none() {
                held = Some(Hold::new(control));
                let (topic, partition, offset) = (record.topic(), record.partition(), record.offset());
                let place = match to {
                    Place::Tier(_, step) => step.topic,
                    Place::DeadLetters(writer, ..) => writer.topic(),
                };
                tracing::warn!(
                    target: "milena",
                    "the record at offset {offset} of partition {partition} of topic {topic:?} is given up and cannot be written \
                     to {place:?}, so no record is started until it can: {error}"
                );
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// While it exists, no record is started.
struct Hold<'a>(&'a Control);

impl<'a> Hold<'a> {
    fn new(control: &'a Control) -> Self {
        control.hold();
        Self(control)
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}
