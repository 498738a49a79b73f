//! What became of the records so far: counts, bytes, latencies and failures, and the command's result in words.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;

use milena::{Error, Receipt};

use super::source::{Place, Source};
use crate::exit::{Exit, Failure};
use crate::latency::Latency;
use crate::output::tell;

/// Counts of the results so far.
#[derive(Debug)]
pub(super) struct Tally {
    /// Whether acks is 0: then brokers do not answer, and a record counts when it was written to the connection.
    pub(super) is_unanswered: bool,
    pub(super) acknowledged: u64,
    /// The keys and values of acknowledged records, in bytes.
    pub(super) bytes: u64,
    pub(super) failed: u64,
    /// How many of the failed records may have been written.
    pub(super) maybe_written: u64,
    pub(super) partitions: BTreeMap<i32, OfPartition>,
    /// From the call that sends a record to its acknowledgement.
    pub(super) latency: Latency,
    /// What has ended, if the producer is transactional.
    pub(super) transactions: Option<Transactions>,
    /// Where records failed, by what is said of them: the error, and whether they may have been written.
    failures: BTreeMap<(String, bool), Vec<Place>>,
    first_failure: Option<(Place, Error)>,
    /// Whether that record was refused because of its own content.
    is_at_fault: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct OfPartition {
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) first_offset: Option<i64>,
    pub(super) last_offset: Option<i64>,
}

/// The transactions that have ended.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    pub(super) committed: u64,
    pub(super) committed_records: u64,
    /// The last one, if it was not committed. Nothing is sent after it.
    pub(super) last: Option<Uncommitted>,
}

/// A transaction that was not committed, or perhaps was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Uncommitted {
    pub(super) first: Place,
    pub(super) last: Place,
    pub(super) records: u64,
    pub(super) may_be_committed: bool,
}

/// A record that is settled.
pub(super) struct Settled {
    pub(super) place: Place,
    pub(super) bytes: u64,
    pub(super) latency_us: u32,
    pub(super) outcome: Result<Receipt, Error>,
}

impl Tally {
    pub(super) fn new(is_unanswered: bool, is_transactional: bool) -> Self {
        Self {
            is_unanswered,
            acknowledged: 0,
            bytes: 0,
            failed: 0,
            maybe_written: 0,
            partitions: BTreeMap::new(),
            latency: Latency::new(),
            transactions: is_transactional.then(Transactions::default),
            failures: BTreeMap::new(),
            first_failure: None,
            is_at_fault: false,
        }
    }

    /// Counts records. Says whether one of them failed.
    pub(super) fn add(&mut self, settled: impl IntoIterator<Item = Settled>) -> bool {
        let mut has_failed = false;
        let mut latencies = Vec::new();
        for Settled { place, bytes, latency_us, outcome } in settled {
            match outcome {
                Ok(receipt) => {
                    self.acknowledged += 1;
                    self.bytes += bytes;
                    let of = self.partitions.entry(receipt.partition()).or_default();
                    (of.records, of.bytes) = (of.records + 1, of.bytes + bytes);
                    of.first_offset = of.first_offset.or(receipt.offset());
                    of.last_offset = receipt.offset().or(of.last_offset);
                    latencies.push(latency_us);
                }
                Err(error) => {
                    has_failed = true;
                    self.add_failure(place, error);
                }
            }
        }
        self.latency.record(latencies);
        has_failed
    }

    fn add_failure(&mut self, place: Place, error: Error) {
        self.failed += 1;
        self.maybe_written += u64::from(error.maybe_written());
        let said = (error.to_string(), error.maybe_written());
        self.failures.entry(said).or_default().push(place);
        // If a broker refuses a batch because of one record, report that record and not those refused with it.
        let is_at_fault = !error.is_of_another_record();
        if self.first_failure.is_none() || (is_at_fault && !self.is_at_fault) {
            self.first_failure = Some((place, error));
            self.is_at_fault = is_at_fault;
        }
    }

    /// Counts records whose fate is not known as failed, and as perhaps written.
    pub(super) fn give_up(&mut self, unknown: u64) {
        self.failed += unknown;
        self.maybe_written += unknown;
    }

    /// The failure of the record that is to blame, if one failed.
    pub(super) fn failure(&self, source: &Source) -> Option<Failure> {
        let (place, error) = self.first_failure.as_ref()?;
        Some(Failure::from(error.clone()).at(&source.name(place.number, place.file, true)))
    }

    /// Writes to stderr which records failed, if they are more than the one that the command's error tells.
    pub(super) fn tell_failures(&self, source: &Source) {
        // The records of a transaction that failed are told as a whole.
        if self.failed <= 1 || self.transactions.is_some() {
            return;
        }
        for ((error, maybe_written), places) in &self.failures {
            let became = if *maybe_written { "may have been written" } else { "not written" };
            let mut by_file: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
            places.iter().for_each(|place| by_file.entry(place.file).or_default().push(place.number));
            for (file, mut numbers) in by_file {
                numbers.sort_unstable();
                let is_one = numbers.len() == 1;
                tell(format_args!("{}: {became}: {error}", source.name(Lines(&numbers), file, is_one)));
            }
        }
    }

    /// The result of the command: success, or the failure with the counts. `stopped` is why the rest was not sent.
    pub(super) fn verdict(&self, stopped: Option<Failure>, source: &Source) -> Result<(), Failure> {
        let Some(failure) = stopped.or_else(|| self.failure(source)) else { return Ok(()) };
        self.tell_failures(source);
        let done = self.told(source);
        if failure.exit() == Exit::Interrupted {
            return Err(Failure::new(
                Exit::Interrupted,
                format!("interrupted: {done}; the rest was not sent"),
            ));
        }
        if self.acknowledged + self.failed == 0 {
            return Err(failure);
        }
        // If nothing was written, the cause decides the exit code.
        let written = match &self.transactions {
            Some(of) => of.committed_records + of.last.iter().filter(|of| of.may_be_committed).count() as u64,
            None => self.acknowledged + self.maybe_written,
        };
        let exit = if written == 0 { failure.exit() } else { Exit::Partial };
        Err(failure.with_exit(exit).hint(format!("{done}; the rest was not sent.")))
    }

    /// The counts in words.
    pub(super) fn told(&self, source: &Source) -> String {
        let mut text = self.to_string();
        let last = self.transactions.as_ref().and_then(|of| of.last);
        if let Some(Uncommitted { first, last, may_be_committed, .. }) = last {
            let places = if first.file == last.file && first.number <= last.number {
                let lines = Lines(&[first.number, last.number]).joined();
                source.name(lines, first.file, first == last)
            } else {
                // Over the end of a file, or of a round.
                let [first, last] = [first, last].map(|place| source.name(place.number, place.file, true));
                format!("{first} to {last}")
            };
            let became = if may_be_committed { "may have been committed" } else { "aborted" };
            // Writing into a String cannot fail.
            let _ = write!(text, ", {places} {became}");
        }
        text
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Transactions { committed, committed_records, .. }) = &self.transactions {
            let [of, s] = [committed_records, committed].map(|count| if *count == 1 { "" } else { "s" });
            return write!(f, "{committed_records} record{of} committed in {committed} transaction{s}");
        }
        let plural = if self.acknowledged == 1 { "" } else { "s" };
        let became = if self.is_unanswered { "sent, not acknowledged (acks=0)" } else { "acknowledged" };
        write!(f, "{} record{plural} {became}", self.acknowledged)?;
        if self.failed > 0 {
            write!(f, ", {} failed", self.failed)?;
        }
        if self.maybe_written > 0 {
            write!(f, " ({} of them may have been written)", self.maybe_written)?;
        }
        Ok(())
    }
}

/// Ascending numbers: `1-3,5`.
struct Lines<'a>(&'a [u64]);

impl Lines<'_> {
    /// The range from the first to the last one, whatever is between them.
    fn joined(&self) -> String {
        match self.0 {
            [first, .., last] if first != last => format!("{first}-{last}"),
            [first, ..] => first.to_string(),
            [] => String::new(),
        }
    }
}

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A line that is sent several times may fail several times.
        for (index, run) in self.0.chunk_by(|a, b| b - a <= 1).enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{}", Lines(run).joined())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_as_ranges() {
        for (lines, expect) in [
            (&[][..], ""),
            (&[7], "7"),
            (&[1, 2, 3, 5, 7, 8], "1-3,5,7-8"),
            (&[4, 4, 5], "4-5"),
            (&[4, 4], "4"),
        ] {
            assert_eq!(Lines(lines).to_string(), expect);
        }
    }
}
