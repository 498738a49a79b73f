//! Writes letters in transactions, each with the position that says that they were replayed.

use std::collections::BTreeMap;
use std::ops::Range;

use milena::{
    CommittedOffset, Consumer, Error, Fault, SharedRecord, Transaction, TransactionEnd, TransactionalProducer,
};
use serde_json::json;

use super::Planned;
use super::audit::{self, Audit};
use super::outgoing::Item;
use super::replayed::Replayed;
use super::spike::Spike;
use crate::commands::chosen::Partition;
use crate::exit::{Exit, Failure};

/// What becomes of the letters.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Letters that were replayed, with those that the program of `--map` dropped.
    pub(super) replayed: u64,
    pub(super) dropped: u64,
    pub(super) failed: u64,
    /// Records that were written, by topic.
    pub(super) written: BTreeMap<String, u64>,
    /// Why the first letter that failed did, with its place.
    pub(super) first_failure: Option<String>,
}

pub(super) struct Writer {
    pub(super) topic: String,
    /// The group whose offsets say what was replayed.
    pub(super) group: String,
    pub(super) producer: TransactionalProducer,
    /// A member of no group that commits for the group. It reads nothing.
    pub(super) committer: Consumer,
    pub(super) positions: BTreeMap<i32, Replayed>,
    pub(super) audit: Audit,
    pub(super) spike: Spike,
    pub(super) tally: Tally,
    pub(super) transactions: u64,
}

/// Why a transaction was not committed.
enum Refused {
    /// One of its letters may be at fault.
    Letters(Error),
    /// No letter can be written now.
    Stop(Failure),
}

impl Writer {
    /// Writes letters, and commits them with their positions: all in one transaction, or, if that is refused, in halves, until the
    /// letters that are at fault are alone. Outcomes are noted in the order of the letters, because a spike is seen in the last ones.
    pub(super) async fn write(&mut self, letters: &[Planned]) -> Result<(), Failure> {
        let whole = 0..letters.len();
        let mut todo: Vec<Range<usize>> = if whole.is_empty() { Vec::new() } else { vec![whole] };
        while let Some(part) = todo.pop() {
            let letters = &letters[part.clone()];
            let items: Vec<_> = letters.iter().filter_map(Planned::item).collect();
            let refused = if items.is_empty() { None } else { self.attempt(&items).await.err() };
            let why = match refused {
                None => None,
                Some(Refused::Stop(failure)) => return Err(failure),
                Some(Refused::Letters(_)) if items.len() > 1 => {
                    let middle = part.start + part.len() / 2;
                    todo.push(middle..part.end);
                    todo.push(part.start..middle);
                    continue;
                }
                Some(Refused::Letters(error)) => Some(error.to_string()),
            };
            for letter in letters {
                match (letter, &why) {
                    (Planned::Failed(record, why), _) => self.failed(record, why)?,
                    (Planned::Item(item), Some(why)) => self.failed(&item.record, why)?,
                    (Planned::Item(_), None) => self.spike.note(false),
                }
            }
        }
        Ok(())
    }

    /// Notes that a letter cannot be replayed. It stays for the next time.
    fn failed(&mut self, letter: &SharedRecord, why: &str) -> Result<(), Failure> {
        let place = format!("{}/{}@{}", letter.topic(), letter.partition(), letter.offset());
        self.audit.note("failed", json!({ "from": audit::from(letter), "error": why }));
        self.audit.sync()?;
        self.tally.failed += 1;
        self.tally.first_failure.get_or_insert_with(|| format!("{place}: {why}"));
        self.spike.note(true);
        if let Some((failures, of)) = self.spike.too_many() {
            let message = format!(
                "stopped: {failures} of the last {of} letters could not be written; the last: {place}: {why}"
            );
            let hint = "The same command goes on with the letters that were not replayed. --stop-at sets the share that may fail.";
            return Err(Failure::new(Exit::Partial, message).hint(hint));
        }
        Ok(())
    }

    async fn attempt(&mut self, items: &[&Item]) -> Result<(), Refused> {
        let mut positions = self.positions.clone();
        for item in items {
            if let Some(position) = positions.get_mut(&item.record.partition()) {
                position.mark(item.replayed.clone());
            }
        }
        let offsets = self.offsets(&positions, items).map_err(Refused::Stop)?;
        let number = self.transactions + 1;
        let transaction = self.producer.begin().await.map_err(|error| refused(error, &self.group))?;
        let written = write_all(&transaction, items, &mut self.audit, number).await;
        let written = match written {
            Ok(written) => written,
            Err(error) => {
                self.audit.forget();
                let _ = transaction.abort().await;
                return Err(refused(error, &self.group));
            }
        };
        if let Err(failure) = self.audit.sync() {
            let _ = transaction.abort().await;
            return Err(Refused::Stop(failure));
        }
        if let Err(error) = transaction.commit_offsets_at(&self.committer, offsets).await {
            let _ = transaction.abort().await;
            let is_of_gaps = error.code_name() == Some("OFFSET_METADATA_TOO_LARGE");
            let failure = Failure::from(error);
            return Err(Refused::Stop(if is_of_gaps { failure.hint(GAPS) } else { failure }));
        }
        match transaction.commit().await {
            Ok(()) => {}
            Err(error) if error.maybe_written() => match self.producer.resolve().await {
                Ok(Some(TransactionEnd::Committed)) => {}
                Ok(_) => return Err(refused(error, &self.group)),
                Err(error) => return Err(Refused::Stop(error.into())),
            },
            Err(error) => return Err(refused(error, &self.group)),
        }
        self.transactions = number;
        self.positions = positions;
        self.tally.replayed += items.len() as u64;
        self.tally.dropped += items.iter().filter(|item| item.outgoing.is_empty()).count() as u64;
        for (topic, count) in written {
            *self.tally.written.entry(topic).or_default() += count;
        }
        self.audit.note("committed", json!({ "transaction": number, "letters": items.len() }));
        self.audit.sync().map_err(Refused::Stop)
    }

    /// The offsets to commit: those of the partitions that the letters are of.
    fn offsets(
        &self,
        positions: &BTreeMap<i32, Replayed>,
        items: &[&Item],
    ) -> Result<Vec<(Partition, CommittedOffset)>, Failure> {
        let mut offsets = BTreeMap::new();
        for item in items {
            let partition = item.record.partition();
            if offsets.contains_key(&partition) {
                continue;
            }
            let Some(position) = positions.get(&partition) else { continue };
            let Some(offset) = position.committed() else {
                let message = format!(
                    "stopped: partition {partition} of topic {:?} has too many letters that were left out",
                    self.topic
                );
                return Err(Failure::new(Exit::Partial, message).hint(GAPS));
            };
            offsets.insert(partition, offset);
        }
        Ok(offsets.into_iter().map(|(partition, offset)| ((self.topic.clone(), partition), offset)).collect())
    }
}

const GAPS: &str = "The offsets of letters that were replayed out of order have no more room in the group's metadata. Replay the letters \
    that were left out, or give this replay a name of its own with --as.";

/// Writes all records, and waits until they are written. Counts them by topic.
async fn write_all(
    transaction: &Transaction<'_>,
    items: &[&Item],
    audit: &mut Audit,
    number: u64,
) -> Result<BTreeMap<String, u64>, Error> {
    let mut deliveries = Vec::with_capacity(items.len());
    for item in items {
        for outgoing in &item.outgoing {
            let headers = outgoing.headers(&item.record);
            let delivery = transaction.enqueue(outgoing.record(&item.record, &headers)).await?;
            deliveries.push((item, outgoing, delivery));
        }
        if item.outgoing.is_empty() {
            audit.note("dropped", json!({ "transaction": number, "from": audit::from(&item.record) }));
        }
    }
    transaction.flush().await?;
    let mut written: BTreeMap<String, u64> = BTreeMap::new();
    for (item, outgoing, delivery) in deliveries {
        let receipt = delivery.await?;
        match written.get_mut(&*outgoing.topic) {
            Some(count) => *count += 1,
            None => drop(written.insert(outgoing.topic.to_string(), 1)),
        }
        if audit.is_on() {
            let (from, to) = (audit::from(&item.record), audit::to(&receipt));
            audit.note("written", json!({ "transaction": number, "from": from, "to": to }));
        }
    }
    Ok(written)
}

fn refused(error: Error, group: &str) -> Refused {
    if error.is_fenced() {
        let message = format!("stopped: another replay called {group:?} has taken over");
        return Refused::Stop(
            Failure::new(Exit::Partial, message).hint("It goes on where this one has stopped."),
        );
    }
    // A letter is at fault only if the cluster answers, and answers others.
    if error.is_fatal() || error.fault() == Fault::Network {
        return Refused::Stop(error.into());
    }
    Refused::Letters(error)
}
