//! Partitions that get more than their part of a topic's records.

use super::partition::PartitionReport;

/// A partition that more members of the group do not help: it is read by one of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hot {
    /// The index in what was given.
    pub index: usize,
    /// Its part of the topic's lag, 0 to 1.
    pub of_lag: f64,
    /// Its part of the records that are written to the topic, 0 to 1.
    pub of_written: f64,
}

/// A partition is hot if its parts of the lag and of what is written are at least this many times what they were if all partitions
/// were alike, or half way from there to everything if the topic has few partitions.
const TIMES: f64 = 3.0;

/// The hot ones among the partitions of one topic that a group reads.
///
/// A partition is hot if it gets at least three times as many records as if all partitions got the same number, has as much more of
/// the lag, and the lag does not get smaller. Of two partitions one is hot from three quarters on.
pub fn hot(partitions: &[PartitionReport]) -> Vec<Hot> {
    let lag = |report: &PartitionReport| report.unprocessed.unwrap_or(0) as f64;
    let written = |report: &PartitionReport| report.pace.map_or(0.0, |pace| pace.produced);
    let (lags, all_written): (f64, f64) =
        (partitions.iter().map(lag).sum(), partitions.iter().map(written).sum());
    if partitions.len() < 2 || lags <= 0.0 || all_written <= 0.0 {
        return Vec::new();
    }
    let fair = 1.0 / partitions.len() as f64;
    let part = (fair * TIMES).min(f64::midpoint(1.0, fair));
    let of = |(index, report): (usize, &PartitionReport)| {
        let pace = report.pace?;
        let hot = Hot { index, of_lag: lag(report) / lags, of_written: written(report) / all_written };
        let grows = pace.produced >= pace.consumed;
        (grows && hot.of_lag >= part && hot.of_written >= part).then_some(hot)
    };
    partitions.iter().enumerate().filter_map(of).collect()
}
