//! Where every record of the demo has ended, judged by what the topics hold. Pure.
//!
//! ```text
//!  flights: written once, and once more by each redrive ─┐
//!  done: written when it is processed                    ├─▶ Places ─▶ Found: in one place, in none, in two
//!  dead: written when it is given up                     ┘
//! ```

use serde::Serialize;

/// How often each record is in each topic.
#[derive(Debug)]
pub(super) struct Places {
    records: Vec<Place>,
    foreign: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    written: u32,
    processed: u32,
    dead: u32,
    /// It may have been processed again, because it was not committed when a member crashed.
    may_run_again: bool,
}

/// Where the records are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Found {
    /// Records that were written to the topic of flights.
    pub(super) records: u64,
    /// Records that are processed, and nowhere else.
    pub(super) processed: u64,
    /// Records that are among the dead letters, and nowhere else.
    pub(super) dead: u64,
    /// Records that are neither.
    pub(super) nowhere: u64,
    /// Records that are at more than one place, or twice at one.
    pub(super) twice: u64,
    /// Records that were processed again after a crash, because they were not committed. They count as processed.
    pub(super) again: u64,
    /// Dead letters, with those that were replayed.
    pub(super) letters: u64,
    /// Records that the demo has not written.
    pub(super) foreign: u64,
    /// A few of the records that are nowhere or twice.
    pub(super) examples: Vec<u32>,
}

/// Which topic a record was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    Flights,
    Done,
    Dead,
}

const EXAMPLES_MAX: usize = 5;

impl Places {
    pub(super) fn new(record_count: u32) -> Self {
        Self { records: vec![Place::default(); record_count as usize], foreign: 0 }
    }

    /// Notes a record that was read.
    pub(super) fn note(&mut self, topic: Topic, index: Option<u32>) {
        let Some(place) = index.and_then(|index| self.records.get_mut(index as usize)) else {
            self.foreign += 1;
            return;
        };
        match topic {
            Topic::Flights => place.written += 1,
            Topic::Done => place.processed += 1,
            Topic::Dead => place.dead += 1,
        }
    }

    /// Says that a record was not committed when a member crashed.
    pub(super) fn may_run_again(&mut self, index: Option<u32>) {
        if let Some(place) = index.and_then(|index| self.records.get_mut(index as usize)) {
            place.may_run_again = true;
        }
    }

    /// What was found.
    pub(super) fn found(&self) -> Found {
        let mut found = Found { foreign: self.foreign, ..Found::default() };
        for (index, place) in (0..).zip(&self.records) {
            if place.written == 0 && place.processed == 0 && place.dead == 0 {
                continue;
            }
            found.records += 1;
            found.letters += u64::from(place.dead);
            // Each redrive has taken one letter to the topic of flights again.
            let replays = place.written.saturating_sub(1);
            let dead_now = i64::from(place.dead) - i64::from(replays);
            let (counter, is_wrong) = match (place.processed, dead_now) {
                (1, 0) => (&mut found.processed, false),
                (0, 1) => (&mut found.dead, false),
                (2.., 0) if place.may_run_again => {
                    found.again += 1;
                    (&mut found.processed, false)
                }
                (0, ..=0) => (&mut found.nowhere, true),
                _ => (&mut found.twice, true),
            };
            *counter += 1;
            if is_wrong && found.examples.len() < EXAMPLES_MAX {
                found.examples.push(index);
            }
        }
        found
    }
}

impl Found {
    /// Whether every record has ended in exactly one place.
    pub(super) fn is_clean(&self) -> bool {
        self.nowhere == 0 && self.twice == 0 && self.foreign == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(records: &[(u32, u32, u32, bool)]) -> Found {
        let mut places = Places::new(u32::try_from(records.len()).unwrap());
        for (index, (written, processed, dead, again)) in (0..).zip(records) {
            for (topic, count) in [(Topic::Flights, written), (Topic::Done, processed), (Topic::Dead, dead)] {
                (0..*count).for_each(|_| places.note(topic, Some(index)));
            }
            if *again {
                places.may_run_again(Some(index));
            }
        }
        places.found()
    }

    #[test]
    fn a_record_is_in_one_place() {
        let clean = found(&[(1, 1, 0, false), (1, 0, 1, false), (2, 1, 1, false), (3, 0, 3, false)]);
        assert_eq!((clean.records, clean.processed, clean.dead, clean.letters), (4, 2, 2, 5));
        assert!(clean.is_clean());
    }

    #[test]
    fn what_is_lost_or_doubled_is_named() {
        let wrong = found(&[
            (1, 1, 0, false),
            (1, 0, 0, false), // lost
            (2, 0, 1, false), // lost after the redrive
            (1, 1, 1, false), // processed, and a dead letter
            (1, 2, 0, false), // processed twice
            (1, 2, 0, true),  // the same, after a crash
        ]);
        assert_eq!((wrong.processed, wrong.nowhere, wrong.twice, wrong.again), (2, 2, 2, 1));
        assert_eq!(wrong.examples, [1, 2, 3, 4]);
        assert!(!wrong.is_clean());
    }

    #[test]
    fn records_of_others_are_found() {
        let mut places = Places::new(1);
        places.note(Topic::Done, Some(7));
        places.note(Topic::Done, None);
        assert_eq!(places.found().foreign, 2);
        assert!(!places.found().is_clean());
    }
}
