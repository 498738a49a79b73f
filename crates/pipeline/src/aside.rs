//! What is done with a record that is given up.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use milena::SharedRecord;

use crate::Failure;
use crate::control::Control;
use crate::dead_letters::{DeadLetterWriter, Facts};

/// Where records go that are given up.
pub(crate) enum Aside {
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
    pub(crate) failure: Failure,
    pub(crate) attempts: u32,
    pub(crate) first_ms: i64,
    pub(crate) last_ms: i64,
}

/// The first pause after a dead letter could not be written, and the longest.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);

impl Aside {
    /// Ends when the record is where it belongs. Until then the source stays uncommitted; if it takes more than one attempt,
    /// nothing else is started meanwhile.
    pub(crate) async fn put(&self, given_up: GivenUp, control: &Control) {
        let GivenUp { record, failure, attempts, first_ms, last_ms } = given_up;
        let (topic, partition, offset) = (record.topic(), record.partition(), record.offset());
        match self {
            Self::Stop => unreachable!("the pipeline stops instead"),
            Self::Skip => {
                tracing::warn!(
                    target: "milena",
                    "the record at offset {offset} of partition {partition} of topic {topic:?} is skipped after {attempts} \
                     attempts: {failure}"
                );
                control.counts.skipped.fetch_add(1, Ordering::Relaxed);
            }
            Self::DeadLetters { writer, group } => {
                let facts = Facts { group, handler: None, attempts, first_ms, last_ms };
                let (mut held, mut pause) = (None, PAUSE);
                while let Err(error) = writer.write(record.view(), &failure, &facts).await {
                    control.counts.aside_failures.fetch_add(1, Ordering::Relaxed);
                    if held.is_none() {
                        held = Some(Hold::new(control));
                        tracing::warn!(
                            target: "milena",
                            "the record at offset {offset} of partition {partition} of topic {topic:?} cannot be written to the \
                             dead letters, so no record is started until it can: {error}"
                        );
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                control.counts.dead.fetch_add(1, Ordering::Relaxed);
            }
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
