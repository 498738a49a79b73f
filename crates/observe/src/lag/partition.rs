//! What is remembered of a partition that a group reads, and what that says.

use std::time::Duration;

use milena::CommittedOffset;

use super::pace::{CatchUp, Pace, Place};
use super::status::{Commit, Rules, Status};
use super::times::{TimeLag, Times};
use super::window::{Recent, Window};

/// A partition as it was at one time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// The offset after the last record.
    pub end: i64,
    /// The offset of the first record (the log start offset). Default 0.
    pub start: i64,
    /// The committed offset. None if the group has none.
    pub committed: Option<i64>,
    /// How many offsets at or above the committed one are finished, or hold no record for the group: what the commit's metadata
    /// says, markers of transactions, what compaction removed. Default 0.
    pub finished: u64,
    /// The first offset at or above the committed one that is not finished, if it is known.
    pub unfinished: Option<i64>,
    /// The topic's `retention.ms`. None if it is not known, or records are kept for ever.
    pub retention_ms: Option<u64>,
}

impl Look {
    /// A partition that ends at `end`, of which nothing else is known.
    pub fn at(at_ms: i64, end: i64) -> Self {
        Self { at_ms, end, ..Self::default() }
    }

    /// The same with an offset that the group has committed, and what its metadata says is finished above.
    pub fn committed(mut self, committed: &CommittedOffset) -> Self {
        self.committed = Some(committed.offset);
        self.unfinished = Some(committed.offset);
        for run in committed.finished_above(self.end) {
            self.finished = self.finished.saturating_add(run.end.abs_diff(run.start));
            if self.unfinished == Some(run.start) {
                self.unfinished = Some(run.end);
            }
        }
        self
    }
}

/// What is remembered of one partition that one group reads.
#[derive(Debug, Clone, Default)]
pub struct PartitionLag {
    ends: PartitionEnds,
    group: GroupLag,
}

/// What is remembered of one partition, whichever groups read it: 1.5 KiB.
///
/// ```
/// use milena_observe::lag::{GroupLag, Look, PartitionEnds, Rules};
///
/// let (mut ends, mut billing, mut audit) = (PartitionEnds::default(), GroupLag::default(), GroupLag::default());
/// let look = Look::at(0, 100);
/// ends.see(&look);
/// billing.see(&ends, &Look { committed: Some(90), ..look });
/// audit.see(&ends, &Look { committed: Some(10), ..look });
/// assert_eq!(billing.report(&ends, &Rules::default()).lag, Some(10));
/// assert_eq!(audit.report(&ends, &Rules::default()).lag, Some(90));
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct PartitionEnds {
    edges: Window<Edge, LOOKS>,
    times: Times,
    retention_ms: Option<u64>,
    /// The number of the last look.
    number: u32,
}

/// What is remembered of a group at one partition, beside the partition's [`PartitionEnds`]: about 200 bytes, and up to 512 more for a
/// group that commits. A cluster has as many as groups times partitions.
#[derive(Debug, Clone, Default)]
pub struct GroupLag {
    commits: Recent<Commit, INTERVALS_MAX>,
    /// The committed offsets of the last looks.
    committed: Window<Committed, LOOKS>,
    finished: u64,
    unfinished: Committed,
    /// Looks in a row at which the group had records to read.
    hungry: u32,
    /// Looks since the last commit.
    silent: u32,
    /// The number of the last look, by which a look that the group was not part of is known.
    number: u32,
}

/// An offset that may not be there. It has half the size of an `Option`, and there are ten for each partition of each group.
#[derive(Debug, Clone, Copy)]
struct Committed(i64);

impl Default for Committed {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Committed {
    fn new(offset: Option<i64>) -> Self {
        Self(offset.unwrap_or(i64::MIN))
    }

    fn get(self) -> Option<i64> {
        Some(self.0).filter(|offset| *offset != i64::MIN)
    }
}

/// Where a partition began and ended at one time.
#[derive(Debug, Clone, Copy, Default)]
struct Edge {
    at_ms: i64,
    end: i64,
    start: i64,
}

/// The most commits that rules can ask for.
const INTERVALS_MAX: usize = 16;
/// Looks that rates are computed from.
const LOOKS: usize = 10;
/// Looks without a commit until a partition may be stopped.
const SILENT: u32 = 2;
/// Until this part of the retention time has passed, a record is not about to be removed.
const RETENTION_PART: f64 = 0.8;

/// What is said of a partition.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PartitionReport {
    /// Whether something is wrong.
    pub status: Status,
    /// How much of the window of commits is filled, 0 to 1.
    pub complete: f64,
    /// Offsets between the committed one and the end. None if nothing is committed.
    pub lag: Option<u64>,
    /// Records that the group has still to process: `lag` without what is finished.
    pub unprocessed: Option<u64>,
    /// How long ago the oldest of these was written.
    pub time_lag: Option<TimeLag>,
    /// Records a second over the last ten looks.
    pub pace: Option<Pace>,
    /// When the group has read everything at this pace.
    pub catch_up: CatchUp,
    /// Whether retention takes records away that the group has not read.
    pub retention: Retention,
}

/// How near retention is to a committed offset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retention {
    /// It is far, or not known.
    #[default]
    Far,
    /// At this pace it removes records that were not read, after this time.
    Near(Duration),
    /// It has removed this many records that were not read.
    Passed(u64),
}

impl PartitionLag {
    /// Takes a look. A committed offset that differs from the one before is a commit at this time; when the first one was committed
    /// is not known. A look that is older than the last one changes nothing.
    pub fn see(&mut self, look: &Look) {
        if self.ends.see(look) {
            self.group.see(&self.ends, look);
        }
    }

    /// As [`GroupLag::commit`].
    pub fn commit(&mut self, commit: Commit) {
        self.group.commit(commit);
    }

    /// As [`PartitionEnds::know`].
    pub fn know(&mut self, offset: i64, timestamp_ms: i64) {
        self.ends.know(offset, timestamp_ms);
    }

    /// What can be said after the last look.
    pub fn report(&self, rules: &Rules) -> PartitionReport {
        self.group.report(&self.ends, rules)
    }

    #[cfg(test)]
    pub(super) fn group_bytes(&self) -> usize {
        size_of::<GroupLag>() + self.group.commits.room() * size_of::<Commit>()
    }
}

impl PartitionEnds {
    /// Takes the times and offsets of a look that are the partition's own, before the groups take what is theirs. A look that is older
    /// than the last one changes nothing, and false comes back.
    pub fn see(&mut self, look: &Look) -> bool {
        let last = self.edges.items().last().copied();
        if last.is_some_and(|last| look.at_ms < last.at_ms) {
            return false;
        }
        self.number = self.number.wrapping_add(1);
        // The topic was deleted and made again: what was known is of other records. Groups see it by the number that is left out.
        if last.is_some_and(|last| look.end < last.end) {
            *self = Self { number: self.number.wrapping_add(1), ..Self::default() };
        }
        self.times.see(look.end, look.at_ms);
        self.retention_ms = look.retention_ms;
        self.edges.push(Edge { at_ms: look.at_ms, end: look.end, start: look.start });
        true
    }

    /// Takes the timestamp of a record, which makes the time lag of a group exact that is further from the end than was watched.
    pub fn know(&mut self, offset: i64, timestamp_ms: i64) {
        self.times.know(offset, timestamp_ms);
    }

    /// The last `count` looks.
    fn last(&self, count: usize) -> &[Edge] {
        let edges = self.edges.items();
        &edges[edges.len().saturating_sub(count)..]
    }
}

impl GroupLag {
    /// Takes what a look says of the group, after `ends` has taken the same look. A committed offset that differs from the one before
    /// is a commit at this time; when the first one was committed is not known. A group that was not part of a look begins anew.
    pub fn see(&mut self, ends: &PartitionEnds, look: &Look) {
        if ends.number != self.number.wrapping_add(1) {
            *self = Self::default();
        }
        self.number = ends.number;
        self.silent = self.silent.saturating_add(1);
        if let Some(offset) = look.committed
            && self.commits.items().last().is_none_or(|commit| commit.offset != offset)
        {
            let lag = Some(unprocessed(look.end, look.start, look.finished, offset));
            self.commit(Commit { offset, at_ms: look.at_ms, lag });
        }
        let unread = |offset| unprocessed(look.end, look.start, look.finished, offset);
        self.hungry = if look.committed.map_or(0, unread) > 0 { self.hungry.saturating_add(1) } else { 0 };
        (self.finished, self.unfinished) = (look.finished, Committed::new(look.unfinished));
        self.committed.push(Committed::new(look.committed));
    }

    /// Takes a commit that was seen by itself, as by a reader of `__consumer_offsets`, also if it has the same offset as the one
    /// before. A commit that is older than the last one changes nothing.
    pub fn commit(&mut self, commit: Commit) {
        if self.commits.items().last().is_some_and(|last| commit.at_ms < last.at_ms) {
            return;
        }
        self.silent = 0;
        self.commits.push(commit);
    }

    /// What can be said after the last look, which both have seen.
    pub fn report(&self, ends: &PartitionEnds, rules: &Rules) -> PartitionReport {
        let (commits, window) = (self.commits.items(), rules.intervals.clamp(1, INTERVALS_MAX));
        let commits = &commits[commits.len().saturating_sub(window)..];
        let complete = commits.len() as f64 / window as f64;
        let edges = ends.last(self.committed.items().len());
        let (Some(look), Some(committed), true) =
            (edges.last(), self.committed.items().last(), self.number == ends.number)
        else {
            return PartitionReport {
                status: Status::NotFound,
                complete,
                lag: None,
                unprocessed: None,
                time_lag: None,
                pace: None,
                catch_up: CatchUp::Unknown,
                retention: Retention::Far,
            };
        };
        let committed = committed.get();
        let lag = committed.map(|offset| behind(look.end, offset));
        let unread = committed.map(|offset| unprocessed(look.end, look.start, self.finished, offset));
        let time_lag = committed.and_then(|offset| match unread {
            Some(0) => Some(TimeLag::default()),
            _ => {
                let oldest = self.unfinished.get().unwrap_or(offset).max(offset).max(look.start);
                ends.times.ago(oldest, look.at_ms)
            }
        });
        let pace = self.pace(edges);
        let status = match unread {
            None => Status::Ok,
            Some(unread) if self.stops_early(rules, commits, edges, unread) => Status::Stop,
            // The only commit may be of last year.
            Some(unread) if commits.len() < 2 => self.never_commits(rules, edges, unread),
            Some(unread) => {
                let seen: [i64; LOOKS] =
                    std::array::from_fn(|index| edges.get(index).map_or(i64::MAX, |look| look.end));
                rules.judge(commits, &seen, unread, look.at_ms)
            }
        };
        let retention = committed.map_or(Retention::Far, |offset| {
            retention(look, ends.retention_ms, offset, unread, time_lag, start_pace(edges), pace)
        });
        let catch_up = CatchUp::of(unread.map(|lag| i64::try_from(lag).unwrap_or(i64::MAX)), pace);
        PartitionReport { status, complete, lag, unprocessed: unread, time_lag, pace, catch_up, retention }
    }

    /// The status of a partition that was committed once at most: stopped if the group had records to read at each look of a whole
    /// window.
    fn never_commits(&self, rules: &Rules, edges: &[Edge], lag: u64) -> Status {
        let had_records = self.hungry as usize >= edges.len();
        let is_watched = edges.len() >= rules.intervals.clamp(1, LOOKS) && had_records;
        if lag > rules.allowed_lag && is_watched { Status::Stop } else { Status::Ok }
    }

    /// Whether commits have ended while the lag grows: the partition is silent for two looks, and for longer than ever between two
    /// commits of the window. A group that commits every minute is not stopped when it is looked at every ten seconds.
    fn stops_early(&self, rules: &Rules, commits: &[Commit], edges: &[Edge], lag: u64) -> bool {
        let (Some(look), Some(last)) = (edges.last(), commits.last()) else { return false };
        let complete = commits.len() as f64 / rules.intervals.max(1) as f64;
        if !rules.stops_early || lag <= rules.allowed_lag || complete < rules.minimum_complete {
            return false;
        }
        let gaps = commits.windows(2).map(|pair| pair[1].at_ms.saturating_sub(pair[0].at_ms));
        let Some(longest) = gaps.max() else { return false };
        let since = &edges[edges.len().saturating_sub(SILENT as usize + 1)..];
        let grows = since.len() > SILENT as usize && since.windows(2).all(|pair| pair[1].end > pair[0].end);
        commits.len() > SILENT as usize
            && self.silent >= SILENT
            && grows
            && look.at_ms.saturating_sub(last.at_ms) > longest
    }

    /// From the oldest look that is remembered to the newest.
    fn pace(&self, edges: &[Edge]) -> Option<Pace> {
        let committed = self.committed.items();
        let place =
            |committed: &Committed, edge: &Edge| Place { committed: committed.get(), end: Some(edge.end) };
        let (first, last) = (edges.first()?, edges.last()?);
        place(committed.last()?, last).pace(place(committed.first()?, first), time(first, last))
    }
}

/// Offsets a second that retention removes.
fn start_pace(edges: &[Edge]) -> f64 {
    let (Some(first), Some(last)) = (edges.first(), edges.last()) else { return 0.0 };
    let seconds = time(first, last).as_secs_f64();
    if seconds > 0.0 { behind(last.start, first.start) as f64 / seconds } else { 0.0 }
}

fn time(first: &Edge, last: &Edge) -> Duration {
    Duration::from_millis(last.at_ms.abs_diff(first.at_ms))
}

/// How far an offset is from a later one, 0 if it is not.
fn behind(end: i64, offset: i64) -> u64 {
    if offset < end { end.abs_diff(offset) } else { 0 }
}

/// The records that the group has still to process. Those that retention has removed are lost, and are no lag.
fn unprocessed(end: i64, start: i64, finished: u64, offset: i64) -> u64 {
    behind(end, offset.max(start)).saturating_sub(finished)
}

fn retention(
    look: &Edge,
    retention_ms: Option<u64>,
    offset: i64,
    unread: Option<u64>,
    age: Option<TimeLag>,
    start_pace: f64,
    pace: Option<Pace>,
) -> Retention {
    if offset < look.start {
        return Retention::Passed(look.start.abs_diff(offset));
    }
    if unread == Some(0) {
        return Retention::Far;
    }
    // By time: records are removed when they are as old as retention.ms says. Kafka removes whole segments, so it may be later.
    if let (Some(age), Some(retention_ms)) = (age, retention_ms) {
        let kept = Duration::from_millis(retention_ms);
        if age.time.as_secs_f64() >= kept.as_secs_f64() * RETENTION_PART {
            return Retention::Near(kept.saturating_sub(age.time));
        }
    }
    // By size: the log start comes nearer to what is read.
    let gains = start_pace - pace.map_or(0.0, |pace| pace.consumed);
    if start_pace > 0.0 && gains > 0.0 {
        let seconds = behind(offset, look.start) as f64 / gains;
        if let Ok(time) = Duration::try_from_secs_f64(seconds)
            && time <= NEAR_MAX
        {
            return Retention::Near(time);
        }
    }
    Retention::Far
}

/// What retention does in more than a day is not near.
const NEAR_MAX: Duration = Duration::from_secs(24 * 3600);
