//! How far a group is from the end of its partitions, and whether that is a problem.
//!
//! ```text
//!  Look (offsets at one time) ─▶ PartitionLag ─▶ PartitionReport: status, records, seconds, rates, retention
//!                                                     └── of all partitions ─▶ Status::of_group, hot
//! ```
//!
//! Everything here is pure: the caller looks offsets up and says what time it is. The memory of a partition is bounded, however long
//! it is watched. Who watches several groups keeps one [`PartitionEnds`] for each partition and one [`GroupLag`] for each group at it,
//! because ends and their times are the larger part, and the same for all groups.
//!
//! The statuses are [Burrow's](https://github.com/linkedin/Burrow/wiki/Consumer-Lag-Evaluation-Rules). Three things differ:
//! lag is computed at each look and not at each commit, so the lag of a group that stopped goes on growing; a partition whose
//! commits end while its lag grows is [`Status::Stop`] after two looks; and records that are finished above the committed offset
//! do not count as lag.
//!
//! ```
//! use milena_observe::lag::{Look, PartitionLag, Rules, Status};
//!
//! let (rules, mut partition) = (Rules::default(), PartitionLag::default());
//! // It commits once between two looks, and then no longer.
//! for (seconds, committed, end) in [(0, 100, 120), (10, 200, 220), (20, 300, 320), (30, 300, 420), (40, 300, 520)] {
//!     partition.see(&Look { committed: Some(committed), ..Look::at(seconds * 1000, end) });
//! }
//! let report = partition.report(&rules);
//! assert_eq!((report.status, report.lag), (Status::Stop, Some(220)));
//! // The record at offset 300 was written between the looks at 10 and at 20 seconds.
//! assert_eq!(report.time_lag.expect("known").time.as_secs(), 22);
//! ```

mod hot;
mod pace;
mod partition;
mod status;
#[cfg(test)]
mod tests;
mod times;
mod window;

pub use self::hot::{Hot, hot};
pub use self::pace::{CatchUp, Pace, Place};
pub use self::partition::{GroupLag, Look, PartitionEnds, PartitionLag, PartitionReport, Retention};
pub use self::status::{Commit, Rules, Status};
pub use self::times::TimeLag;
