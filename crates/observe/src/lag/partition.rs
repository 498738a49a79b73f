//! What is remembered of a partition that a group reads, and what that says.

use std::time::Duration;

use milena::CommittedOffset;

use super::pace::{CatchUp, Pace, Place};
use super::status::{Commit, Rules, Status};
use super::times::{TimeLag, Times};
use super::window::Window;

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

/// What is remembered of one partition that a group reads. It has a constant size.
#[derive(Debug, Clone, Copy, Default)]
pub struct PartitionLag {
    commits: Window<Commit, INTERVALS_MAX>,
    looks: Window<Look, LOOKS>,
    times: Times,
    /// Looks since the last commit.
    silent: u32,
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
        let last = self.looks.items().last().copied();
        if last.is_some_and(|last| look.at_ms < last.at_ms) {
            return;
        }
        // The topic was deleted and made again: what was known is of other records.
        if last.is_some_and(|last| look.end < last.end) {
            *self = Self::default();
        }
        self.times.see(look.end, look.at_ms);
        self.silent = self.silent.saturating_add(1);
        if let Some(offset) = look.committed
            && self.commits.items().last().is_none_or(|commit| commit.offset != offset)
        {
            let lag = Some(unprocessed(look, offset));
            self.commit(Commit { offset, at_ms: look.at_ms, lag });
        }
        self.looks.push(*look);
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

    /// Takes the timestamp of a record, which makes the time lag of a group exact that is further from the end than was watched.
    pub fn know(&mut self, offset: i64, timestamp_ms: i64) {
        self.times.know(offset, timestamp_ms);
    }

    /// What can be said after the last look.
    pub fn report(&self, rules: &Rules) -> PartitionReport {
        let (commits, window) = (self.commits.items(), rules.intervals.clamp(1, INTERVALS_MAX));
        let commits = &commits[commits.len().saturating_sub(window)..];
        let complete = commits.len() as f64 / window as f64;
        let Some(look) = self.looks.items().last() else {
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
        let lag = look.committed.map(|offset| behind(look.end, offset));
        let unread = look.committed.map(|offset| unprocessed(look, offset));
        let time_lag = look.committed.and_then(|offset| match unread {
            Some(0) => Some(TimeLag::default()),
            _ => self.times.ago(look.unfinished.unwrap_or(offset).max(offset).max(look.start), look.at_ms),
        });
        let pace = self.pace();
        let status = match unread {
            None => Status::Ok,
            Some(unread) if self.stops_early(rules, commits, unread) => Status::Stop,
            // The only commit may be of last year.
            Some(unread) if commits.len() < 2 => self.never_commits(rules, unread),
            Some(unread) => {
                let ends: [i64; LOOKS] = std::array::from_fn(|index| {
                    self.looks.items().get(index).map_or(i64::MAX, |look| look.end)
                });
                rules.judge(commits, &ends, unread, look.at_ms)
            }
        };
        PartitionReport {
            status,
            complete,
            lag,
            unprocessed: unread,
            time_lag,
            pace,
            catch_up: CatchUp::of(unread.map(|lag| i64::try_from(lag).unwrap_or(i64::MAX)), pace),
            retention: retention(look, time_lag, self.start_pace(), pace),
        }
    }

    /// The status of a partition that was committed once at most: stopped if the group had records to read at each look of a whole
    /// window.
    fn never_commits(&self, rules: &Rules, lag: u64) -> Status {
        let looks = self.looks.items();
        let had_records = |look: &Look| look.committed.is_some_and(|offset| unprocessed(look, offset) > 0);
        let is_watched = looks.len() >= rules.intervals.clamp(1, LOOKS) && looks.iter().all(had_records);
        if lag > rules.allowed_lag && is_watched { Status::Stop } else { Status::Ok }
    }

    /// Whether commits have ended while the lag grows: the partition is silent for two looks, and for longer than ever between two
    /// commits of the window. A group that commits every minute is not stopped when it is looked at every ten seconds.
    fn stops_early(&self, rules: &Rules, commits: &[Commit], lag: u64) -> bool {
        let (Some(look), Some(last)) = (self.looks.items().last(), commits.last()) else { return false };
        let complete = commits.len() as f64 / rules.intervals.max(1) as f64;
        if !rules.stops_early || lag <= rules.allowed_lag || complete < rules.minimum_complete {
            return false;
        }
        let gaps = commits.windows(2).map(|pair| pair[1].at_ms.saturating_sub(pair[0].at_ms));
        let Some(longest) = gaps.max() else { return false };
        let looks = self.looks.items();
        let since = &looks[looks.len().saturating_sub(SILENT as usize + 1)..];
        let grows = since.len() > SILENT as usize && since.windows(2).all(|pair| pair[1].end > pair[0].end);
        commits.len() > SILENT as usize
            && self.silent >= SILENT
            && grows
            && look.at_ms.saturating_sub(last.at_ms) > longest
    }

    /// From the oldest look that is remembered to the newest.
    fn pace(&self) -> Option<Pace> {
        let (first, last) = self.span()?;
        let place = |look: &Look| Place { committed: look.committed, end: Some(look.end) };
        place(last).pace(place(first), time(first, last))
    }

    /// Offsets a second that retention removes.
    fn start_pace(&self) -> f64 {
        let Some((first, last)) = self.span() else { return 0.0 };
        let seconds = time(first, last).as_secs_f64();
        if seconds > 0.0 { behind(last.start, first.start) as f64 / seconds } else { 0.0 }
    }

    fn span(&self) -> Option<(&Look, &Look)> {
        Some((self.looks.items().first()?, self.looks.items().last()?))
    }
}

fn time(first: &Look, last: &Look) -> Duration {
    Duration::from_millis(last.at_ms.abs_diff(first.at_ms))
}

/// How far an offset is from a later one, 0 if it is not.
fn behind(end: i64, offset: i64) -> u64 {
    if offset < end { end.abs_diff(offset) } else { 0 }
}

/// The records that the group has still to process. Those that retention has removed are lost, and are no lag.
fn unprocessed(look: &Look, offset: i64) -> u64 {
    behind(look.end, offset.max(look.start)).saturating_sub(look.finished)
}

fn retention(look: &Look, age: Option<TimeLag>, start_pace: f64, pace: Option<Pace>) -> Retention {
    let Some(offset) = look.committed else { return Retention::Far };
    if offset < look.start {
        return Retention::Passed(look.start.abs_diff(offset));
    }
    let unread = unprocessed(look, offset);
    if unread == 0 {
        return Retention::Far;
    }
    // By time: records are removed when they are as old as retention.ms says. Kafka removes whole segments, so it may be later.
    if let (Some(age), Some(retention_ms)) = (age, look.retention_ms) {
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
