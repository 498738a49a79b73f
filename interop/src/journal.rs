//! What the members of a group saw, gathered from all of them. `member` has the processes, `checker` judges.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, bail};

/// One thing that a member saw, or that was done to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Microseconds since the epoch, by the clock of the member's process.
    pub at: u64,
    /// The member: each process has a number of its own.
    pub member: usize,
    /// What it was.
    pub saw: Saw,
}

/// What a member can see.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are Kafka's words")]
pub enum Saw {
    /// It asks to join.
    Started,
    /// It may read these partitions as well.
    Assigned(Vec<i32>),
    /// It has given these partitions up, and has committed what it read.
    Revoked(Vec<i32>),
    /// These partitions were taken from it, and it could not commit.
    Lost(Vec<i32>),
    /// A record whose value has its number in the partition and the time it was produced, in microseconds.
    Record { partition: i32, offset: i64, number: i64, produced: u64 },
    /// It has finished these records, the last included.
    Done { partition: i32, first: i64, last: i64 },
    /// An answer brought it the batches from the offset `first` to the one before `next`, to a fetch that was sent at `asked`.
    Fetched { partition: i32, first: i64, next: i64, bytes: u64, asked: u64 },
    /// The broker has accepted this offset.
    Committed { partition: i32, offset: i64 },
    /// The test asked the broker which offsets are committed.
    Stored(Vec<(i32, i64)>),
    /// The test has killed it. All that it printed came before.
    Killed,
    /// It has left as it was told.
    Closed,
    /// Its client reported an error.
    Error(String),
}

impl Event {
    /// Parses a member's line: `member` says what a member prints.
    ///
    /// # Errors
    /// It is no such line.
    pub fn from_line(member: usize, line: &str) -> anyhow::Result<Self> {
        let fields: Vec<&str> = line.split('\t').collect();
        let saw = match fields.get(1..).unwrap_or_default() {
            ["started"] => Saw::Started,
            ["assigned", partitions] => Saw::Assigned(numbers(partitions)?),
            ["revoked", partitions] => Saw::Revoked(numbers(partitions)?),
            ["lost", partitions] => Saw::Lost(numbers(partitions)?),
            ["record", partition, offset, value] => {
                let (number, produced) = value.split_once(':').with_context(|| format!("value {value:?}"))?;
                Saw::Record {
                    partition: partition.parse()?,
                    offset: offset.parse()?,
                    number: number.parse()?,
                    produced: produced.parse()?,
                }
            }
            ["done", partition, first, last] => {
                Saw::Done { partition: partition.parse()?, first: first.parse()?, last: last.parse()? }
            }
            ["fetched", partition, first, next, bytes, asked] => Saw::Fetched {
                partition: partition.parse()?,
                first: first.parse()?,
                next: next.parse()?,
                bytes: bytes.parse()?,
                asked: asked.parse()?,
            },
            ["committed", partition, offset] => {
                Saw::Committed { partition: partition.parse()?, offset: offset.parse()? }
            }
            ["closed"] => Saw::Closed,
            ["error", text @ ..] => Saw::Error(text.join(" ")),
            _ => bail!("no event: {line:?}"),
        };
        Ok(Self { at: fields[0].parse()?, member, saw })
    }
}

fn numbers(text: &str) -> anyhow::Result<Vec<i32>> {
    text.split(',').filter(|number| !number.is_empty()).map(|number| Ok(number.parse()?)).collect()
}

/// Microseconds since the epoch.
#[must_use]
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// The events of all members, to which every member's reader adds.
#[derive(Debug, Default)]
pub struct Journal {
    state: Mutex<State>,
    changed: Condvar,
}

/// The events, and what follows from them until now.
#[derive(Debug, Default)]
pub struct State {
    /// In the order in which they were read; each member's own are in its order.
    pub events: Vec<Event>,
    /// The partitions of each live member.
    pub owned: BTreeMap<usize, BTreeSet<i32>>,
    /// The records of each partition that were seen, counted once each: all offsets below are seen.
    pub seen: BTreeMap<i32, i64>,
    /// How many records each member has read.
    pub records_of: BTreeMap<usize, u64>,
}

impl Journal {
    /// Adds an event.
    pub fn add(&self, event: Event) {
        let mut state = self.lock();
        state.follow(&event);
        state.events.push(event);
        // A record alone ends no wait that the next other event, or the next look, would not end.
        if !matches!(
            state.events.last().map(|event| &event.saw),
            Some(Saw::Record { .. } | Saw::Fetched { .. })
        ) {
            self.changed.notify_all();
        }
    }

    /// Waits until `found` finds something.
    ///
    /// # Errors
    /// It did not by the deadline; the error has who owns what and the last events.
    pub fn wait<T>(
        &self,
        what: &str,
        deadline: Duration,
        mut found: impl FnMut(&State) -> Option<T>,
    ) -> anyhow::Result<T> {
        let started = Instant::now();
        let mut state = self.lock();
        loop {
            if let Some(found) = found(&state) {
                return Ok(found);
            }
            if started.elapsed() > deadline {
                let events = state.events.iter().rev();
                let last: Vec<String> = events
                    .filter(|event| {
                        !matches!(event.saw, Saw::Record { .. } | Saw::Fetched { .. } | Saw::Committed { .. })
                    })
                    .take(40)
                    .map(|event| format!("{event:?}"))
                    .collect();
                bail!(
                    "{what}: not after {} s; owned {:?}, seen {:?}; the last events, backwards:\n{}",
                    deadline.as_secs(),
                    state.owned,
                    state.seen,
                    last.join("\n")
                );
            }
            let waited = self.changed.wait_timeout(state, Duration::from_millis(20));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Writes all events to a file, a line each.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut file = BufWriter::new(File::create(path).with_context(|| path.display().to_string())?);
        for event in self.events() {
            writeln!(file, "{} {} {:?}", event.at, event.member, event.saw)?;
        }
        Ok(file.flush()?)
    }

    /// A copy of all events.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.lock().events.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn follow(&mut self, event: &Event) {
        match &event.saw {
            Saw::Started => drop(self.owned.insert(event.member, BTreeSet::new())),
            Saw::Assigned(partitions) => self.owned.entry(event.member).or_default().extend(partitions),
            Saw::Revoked(partitions) | Saw::Lost(partitions) => {
                self.owned.entry(event.member).or_default().retain(|owned| !partitions.contains(owned));
            }
            Saw::Killed | Saw::Closed => drop(self.owned.remove(&event.member)),
            Saw::Record { partition, offset, .. } => {
                let seen = self.seen.entry(*partition).or_default();
                *seen = (*seen).max(offset + 1);
                *self.records_of.entry(event.member).or_default() += 1;
            }
            Saw::Done { .. }
            | Saw::Fetched { .. }
            | Saw::Committed { .. }
            | Saw::Stored(_)
            | Saw::Error(_) => {}
        }
    }

    /// Whether each of `partitions` partitions is owned by exactly one member, and each of `members` live members owns at
    /// least `least`.
    #[must_use]
    pub fn is_shared(&self, partitions: i32, members: usize, least: usize) -> bool {
        let mut all: Vec<i32> = self.owned.values().flatten().copied().collect();
        all.sort_unstable();
        self.owned.len() == members
            && self.owned.values().all(|owned| owned.len() >= least)
            && all.into_iter().eq(0..partitions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_events() {
        let saw = |line: &str| Event::from_line(7, line).unwrap();
        assert_eq!(saw("12\tassigned\t0,3"), Event { at: 12, member: 7, saw: Saw::Assigned(vec![0, 3]) });
        assert_eq!(saw("12\trevoked\t").saw, Saw::Revoked(Vec::new()));
        let record = Saw::Record { partition: 1, offset: 5, number: 5, produced: 99 };
        assert_eq!(saw("12\trecord\t1\t5\t5:99").saw, record);
        assert_eq!(saw("12\terror\tone\ttwo").saw, Saw::Error("one two".into()));
        let fetched = Saw::Fetched { partition: 1, first: 5, next: 7, bytes: 90, asked: 11 };
        assert_eq!(saw("12\tfetched\t1\t5\t7\t90\t11").saw, fetched);
        for bad in ["", "12", "12\tsomething", "12\trecord\t1\t5\t5", "x\tclosed"] {
            assert!(Event::from_line(7, bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_owners_follow_from_the_events() {
        let journal = Journal::default();
        let add = |member, saw| journal.add(Event { at: now(), member, saw });
        add(0, Saw::Started);
        add(0, Saw::Assigned(vec![0, 1]));
        add(1, Saw::Started);
        let shared = |members, least| {
            journal.wait("shared", Duration::ZERO, |state| state.is_shared(2, members, least).then_some(()))
        };
        assert!(shared(2, 0).is_ok() && shared(2, 1).is_err());
        add(0, Saw::Revoked(vec![1]));
        add(1, Saw::Assigned(vec![1]));
        assert!(shared(2, 1).is_ok());
        add(0, Saw::Killed);
        assert!(shared(1, 1).is_err());
    }
}
