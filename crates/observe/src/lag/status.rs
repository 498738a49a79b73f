//! Burrow's rules: what the last commits of a partition say of its group.

use std::fmt;

/// The status of a partition or a group, with Burrow's names. They are ordered as Burrow's numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Status {
    /// The group does not exist, or nothing is known of it.
    NotFound,
    /// Nothing is wrong, or too little is known.
    Ok,
    /// The group reads, but its lag never became smaller.
    Warn,
    /// Of a group: one of its partitions is stopped, stalled or was set back.
    Err,
    /// Commits have ended although there are records to read.
    Stop,
    /// The same offset is committed again and again although there are records to read.
    Stall,
    /// The committed offset went back, and has not come forward to where it was.
    Rewind,
}

impl Status {
    /// The status of a group: the worst one of its partitions, but [`Err`](Self::Err) for all that are worse.
    pub fn of_group(partitions: impl IntoIterator<Item = Self>) -> Self {
        partitions.into_iter().max().map_or(Self::Ok, |worst| worst.max(Self::Ok).min(Self::Err))
    }

    /// Burrow's number: 0 for [`NotFound`](Self::NotFound) to 6 for [`Rewind`](Self::Rewind).
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Burrow's name, such as `STOP`.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotFound => "NOTFOUND",
            Self::Ok => "OK",
            Self::Warn => "WARN",
            Self::Err => "ERR",
            Self::Stop => "STOP",
            Self::Stall => "STALL",
            Self::Rewind => "REWIND",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An offset that was committed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Commit {
    /// The offset.
    pub offset: i64,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// The lag that the commit left. None if the end of the partition was not known then.
    pub lag: Option<u64>,
}

/// What counts as a problem.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// Lag up to this number of records is never a problem. Burrow: `allowed-lag`. Default 0.
    pub allowed_lag: u64,
    /// How many commits make a window, 1 to 16. Burrow: `intervals`. Default 10.
    pub intervals: usize,
    /// A window with a smaller part of its commits is [`Status::Ok`]. Burrow: `minimum-complete`. Default 0.
    pub minimum_complete: f64,
    /// Whether a partition is [`Status::Stop`] after two looks without a commit while its lag grows, in place of after as much time
    /// as the window covers. Default true.
    pub stops_early: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self { allowed_lag: 0, intervals: 10, minimum_complete: 0.0, stops_early: true }
    }
}

impl Rules {
    /// Burrow's rules alone. `commits` are the window, the oldest one first; `ends` are ends of the partition that were seen lately.
    ///
    /// ```
    /// use milena_observe::lag::{Commit, Rules, Status};
    ///
    /// let commit = |seconds: i64, lag| Commit { offset: 7, at_ms: seconds * 1000, lag: Some(lag) };
    /// let commits = [commit(0, 3), commit(10, 5), commit(20, 8)];
    /// assert_eq!(Rules::default().judge(&commits, &[15], 8, 21_000), Status::Stall);
    /// assert_eq!(Rules::default().judge(&commits, &[15], 8, 60_000), Status::Stop);
    /// ```
    pub fn judge(&self, commits: &[Commit], ends: &[i64], lag: u64, now_ms: i64) -> Status {
        let (Some(first), Some(last)) = (commits.first(), commits.last()) else { return Status::Ok };
        let complete = commits.len() as f64 / self.intervals.max(1) as f64;
        if lag <= self.allowed_lag || complete < self.minimum_complete {
            return Status::Ok;
        }
        let silence = now_ms.saturating_sub(last.at_ms);
        // A group that had read everything a short time ago has nothing to commit: what it has not read is new.
        let has_read_all = ends.iter().any(|end| *end <= last.offset);
        if silence > last.at_ms.saturating_sub(first.at_ms) && !has_read_all {
            return Status::Stop;
        }
        if is_set_back(commits) {
            return Status::Rewind;
        }
        if commits.iter().filter_map(|commit| commit.lag).any(|lag| lag <= self.allowed_lag) {
            return Status::Ok;
        }
        if commits.iter().all(|commit| commit.offset == first.offset) {
            return Status::Stall;
        }
        let mut lags = commits.iter().filter_map(|commit| commit.lag);
        let mut before = lags.next().unwrap_or(0);
        let never_falls = lags.all(|lag| lag >= std::mem::replace(&mut before, lag));
        if never_falls { Status::Warn } else { Status::Ok }
    }
}

/// Whether the offset went back and did not come forward again to where it was. Members that lose a partition may commit an old
/// offset, and that is repaired by the next commit.
fn is_set_back(commits: &[Commit]) -> bool {
    let back = commits.windows(2).position(|pair| pair[1].offset < pair[0].offset);
    back.is_some_and(|at| !commits[at + 1..].iter().any(|commit| commit.offset >= commits[at].offset))
}
