//! Burrow's vectors, and what must hold of any partition.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// Offset, time in seconds and lag of each commit.
type Commits = &'static [(i64, i64, Option<u64>)];

const GROWING: Commits = &[
    (1000, 100, Some(50)),
    (2000, 200, Some(100)),
    (3000, 300, Some(150)),
    (4000, 400, Some(200)),
    (5000, 500, Some(250)),
];
const FROM_ZERO: Commits = &[
    (1000, 100, Some(0)),
    (2000, 200, Some(50)),
    (3000, 300, Some(100)),
    (4000, 400, Some(150)),
    (5000, 500, Some(200)),
];
const STILL: Commits = &[
    (1000, 100, Some(100)),
    (1000, 200, Some(150)),
    (1000, 300, Some(200)),
    (1000, 400, Some(250)),
    (1000, 500, Some(300)),
];
const STILL_FROM_ZERO: Commits = &[
    (1000, 100, Some(0)),
    (1000, 200, Some(50)),
    (1000, 300, Some(100)),
    (1000, 400, Some(150)),
    (1000, 500, Some(200)),
];
const STILL_AND_EVEN: Commits = &[
    (1000, 100, Some(100)),
    (1000, 200, Some(100)),
    (1000, 300, Some(100)),
    (1000, 400, Some(100)),
    (1000, 500, Some(100)),
];
const BACK_AND_FORTH: Commits = &[
    (1000, 100, Some(100)),
    (2000, 200, Some(150)),
    (3000, 300, Some(200)),
    (2000, 400, Some(1250)),
    (4000, 500, Some(300)),
];
const BACK: Commits = &[
    (1000, 100, Some(100)),
    (2000, 200, Some(150)),
    (3000, 300, Some(200)),
    (2000, 400, Some(1250)),
    (2500, 500, Some(300)),
];
const SOME_UNKNOWN: Commits = &[
    (1000, 100, Some(0)),
    (1500, 150, None),
    (2000, 200, Some(50)),
    (2500, 250, None),
    (3000, 300, Some(100)),
    (3500, 350, None),
    (4000, 400, Some(150)),
    (4500, 450, None),
    (5000, 500, Some(200)),
    (5500, 550, None),
];
const EVERY_SECOND: Commits = &[
    (8079, 18, Some(0)),
    (8080, 19, Some(0)),
    (8081, 20, Some(0)),
    (8082, 21, Some(0)),
    (8083, 22, Some(0)),
    (8084, 23, Some(0)),
    (8085, 24, Some(0)),
    (8086, 25, Some(0)),
    (8087, 26, Some(0)),
    (8088, 27, Some(0)),
    (8089, 28, Some(0)),
    (8090, 29, Some(0)),
    (8091, 30, Some(0)),
    (8092, 31, Some(0)),
    (8093, 32, Some(0)),
];
const SMALL_LAG: Commits = &[(1000, 100, Some(2)), (2000, 200, Some(1)), (2000, 300, Some(1))];

fn commits(of: Commits) -> Vec<Commit> {
    of.iter().map(|&(offset, seconds, lag)| Commit { offset, at_ms: seconds * 1000, lag }).collect()
}

#[test]
fn burrows_vectors_have_burrows_statuses() {
    use Status::{Ok, Rewind, Stall, Stop, Warn};
    for (number, of, ends, lag, now, allowed, expect) in [
        (0, FROM_ZERO, &[5200][..], 200, 600, 0, Ok),
        (1, FROM_ZERO, &[5200], 200, 900, 0, Ok),
        (2, FROM_ZERO, &[5200], 200, 1000, 0, Stop),
        (3, GROWING, &[5250], 250, 1000, 0, Stop),
        (4, STILL_FROM_ZERO, &[1200], 200, 600, 0, Ok),
        (5, STILL, &[1300], 300, 600, 0, Stall),
        (6, STILL_AND_EVEN, &[1100], 100, 600, 0, Stall),
        (7, BACK_AND_FORTH, &[4300], 300, 600, 0, Ok),
        (8, GROWING, &[5250], 0, 1000, 0, Ok),
        (9, EVERY_SECOND, &[9024, 9000, 8800, 8600, 8500], 931, 50, 0, Stop),
        (10, EVERY_SECOND, &[8094, 8093, 8093, 8093], 1, 50, 0, Ok),
        (11, SOME_UNKNOWN, &[5700], 200, 600, 0, Ok),
        (12, SMALL_LAG, &[2001], 1, 550, 1, Ok),
        (13, STILL, &[1300], 300, 600, 99, Stall),
        (14, BACK_AND_FORTH, &[4300], 300, 600, 99, Ok),
        (15, BACK, &[4300], 300, 600, 0, Rewind),
        // Burrow has no vector for its last rule.
        (16, GROWING, &[5250], 250, 600, 0, Warn),
        (17, &[], &[5250], 250, 600, 0, Ok),
    ] {
        let rules = Rules { allowed_lag: allowed, ..Rules::default() };
        assert_eq!(rules.judge(&commits(of), ends, lag, now * 1000), expect, "vector {number}");
    }
}

#[test]
fn an_incomplete_window_says_nothing_if_so_asked() {
    let half = Rules { minimum_complete: 0.6, ..Rules::default() };
    assert_eq!(half.judge(&commits(STILL), &[1300], 300, 600_000), Status::Ok);
    let half = Rules { minimum_complete: 0.5, ..Rules::default() };
    assert_eq!(half.judge(&commits(STILL), &[1300], 300, 600_000), Status::Stall);
}

#[test]
fn a_group_is_as_its_worst_partition_but_never_worse_than_err() {
    for (partitions, expect) in [
        (&[][..], Status::Ok),
        (&[Status::NotFound], Status::Ok),
        (&[Status::Ok, Status::Warn], Status::Warn),
        (&[Status::Stop, Status::Warn], Status::Err),
        (&[Status::Rewind], Status::Err),
    ] {
        assert_eq!(Status::of_group(partitions.iter().copied()), expect, "{partitions:?}");
    }
    assert_eq!((Status::NotFound.number(), Status::Rewind.number()), (0, 6));
}

/// A partition that was looked at every ten seconds.
fn watched(looks: &[(Option<i64>, i64)]) -> PartitionLag {
    let mut partition = PartitionLag::default();
    for (at, (committed, end)) in looks.iter().enumerate() {
        partition.see(&Look { committed: *committed, ..Look::at(at as i64 * 10_000, *end) });
    }
    partition
}

fn status(looks: &[(Option<i64>, i64)]) -> Status {
    watched(looks).report(&Rules::default()).status
}

#[test]
fn commits_that_end_are_told_after_two_looks() {
    let mut looks = vec![(Some(0), 50), (Some(100), 150), (Some(200), 250), (Some(300), 350)];
    looks.push((Some(300), 450));
    assert_eq!(status(&looks), Status::Warn, "one look without a commit says nothing");
    looks.push((Some(300), 550));
    assert_eq!(status(&looks), Status::Stop);
    looks.push((Some(500), 650));
    assert_ne!(status(&looks), Status::Stop, "it goes on");

    // A burst after everything was read: the group has had no time yet.
    assert_ne!(status(&[(Some(100), 100), (Some(100), 100), (Some(100), 5000)]), Status::Stop);
    // It commits every fourth look, so two looks without a commit are nothing.
    let slow: Vec<_> = (0..15).map(|at| (Some(at / 4 * 400), at * 100 + 500)).collect();
    assert_ne!(status(&slow), Status::Stop);
    // The lag does not grow: nothing is written, so that nothing is late either.
    let idle = [(Some(0), 500), (Some(100), 500), (Some(200), 500), (Some(200), 500), (Some(200), 500)];
    assert_ne!(status(&idle), Status::Stop);
}

#[test]
fn the_lag_of_a_group_that_stopped_goes_on_growing() {
    let mut looks = vec![(Some(100), 110), (Some(200), 210), (Some(300), 310)];
    looks.extend((1..=9).map(|at| (Some(300), 310 + at * 100)));
    let report = watched(&looks).report(&Rules::default());
    assert_eq!((report.lag, report.status), (Some(910), Status::Stop));
}

#[test]
fn a_group_that_never_commits_is_stopped_after_a_window() {
    // Looked at since a minute and a half ago, it has records to read.
    let looks = |count: i64| (0..count).map(|at| (Some(300), 310 + at)).collect::<Vec<_>>();
    assert_eq!((status(&looks(9)), status(&looks(10))), (Status::Ok, Status::Stop));
    let all_read: Vec<_> = (0..20).map(|_| (Some(300), 300)).collect();
    assert_eq!(status(&all_read), Status::Ok);
}

#[test]
fn commits_that_are_seen_by_themselves_tell_a_stall() {
    let mut partition = PartitionLag::default();
    for seconds in 0..5 {
        partition.commit(Commit { offset: 7, at_ms: seconds * 1000, lag: Some(3) });
    }
    partition.see(&Look { committed: Some(7), ..Look::at(4500, 10) });
    assert_eq!(partition.report(&Rules::default()).status, Status::Stall);
}

#[test]
fn metadata_says_what_is_finished() {
    let committed = |metadata: &str| milena::CommittedOffset {
        metadata: Some(metadata.into()),
        ..milena::CommittedOffset::from(10)
    };
    // Parallel Consumer's bit set (version 2): of 12 offsets from 10 on, 11 to 21 are finished but for 15.
    let look = Look::at(0, 20).committed(&committed("bwAAAAzeDw=="));
    assert_eq!((look.committed, look.finished, look.unfinished), (Some(10), 8, Some(10)));
    let look = Look::at(0, 20).committed(&committed("a note"));
    assert_eq!((look.finished, look.unfinished), (0, Some(10)));
}

#[test]
fn what_is_finished_above_the_commit_is_no_lag() {
    let mut partition = PartitionLag::default();
    partition.see(&Look { committed: Some(10), finished: 9, ..Look::at(0, 20) });
    let report = partition.report(&Rules::default());
    assert_eq!((report.lag, report.unprocessed), (Some(10), Some(1)));
    // Only a transaction's marker is left.
    partition.see(&Look { committed: Some(20), finished: 1, ..Look::at(1000, 21) });
    let report = partition.report(&Rules::default());
    assert_eq!((report.unprocessed, report.time_lag), (Some(0), Some(TimeLag::default())));
    assert_eq!(report.catch_up, CatchUp::Done);
}

#[test]
fn rates_and_the_time_to_catch_up_are_of_the_last_looks() {
    let report = watched(&[(Some(0), 1000), (Some(200), 1100)]).report(&Rules::default());
    assert_eq!(report.pace, Some(Pace { consumed: 20.0, produced: 10.0 }));
    assert_eq!(report.catch_up, CatchUp::After(Duration::from_secs(90)));
    let report = watched(&[(None, 1000), (None, 1100)]).report(&Rules::default());
    assert_eq!((report.lag, report.pace, report.status), (None, None, Status::Ok));
    assert_eq!(PartitionLag::default().report(&Rules::default()).status, Status::NotFound);
}

#[test]
fn retention_is_told_before_and_after_it_passes_a_committed_offset() {
    let retention = |looks: &[(i64, i64, i64)], retention_ms| {
        let mut partition = PartitionLag::default();
        for (at, (start, committed, end)) in looks.iter().enumerate() {
            let (start, committed) = (*start, Some(*committed));
            let look = Look::at(at as i64 * 10_000, *end);
            partition.see(&Look { start, committed, retention_ms, ..look });
        }
        partition.report(&Rules::default()).retention
    };
    assert_eq!(retention(&[(500, 400, 900)], None), Retention::Passed(100));
    assert_eq!(retention(&[(0, 400, 900), (0, 400, 900)], None), Retention::Far);
    // The start gains ten offsets a second.
    assert_eq!(retention(&[(0, 400, 900), (100, 400, 950)], None), Retention::Near(Duration::from_secs(30)));
    assert_eq!(retention(&[(0, 400, 900), (100, 600, 950)], None), Retention::Far, "it reads faster");
    // By time, with a retention of 20 seconds: the record at 400 is at least ten seconds old.
    let old = [(0, 400, 900), (0, 400, 950), (0, 400, 990)];
    assert_eq!(retention(&old, Some(25_000)), Retention::Near(Duration::from_secs(5)));
    assert_eq!(retention(&old, Some(250_000)), Retention::Far);
    assert_eq!(retention(&[(0, 900, 900)], Some(1)), Retention::Far, "there is nothing to lose");
}

#[test]
fn a_partition_with_most_of_the_records_and_of_the_lag_is_hot() {
    let report = |looks: &[(Option<i64>, i64)]| watched(looks).report(&Rules::default());
    let cold = report(&[(Some(0), 10), (Some(100), 110)]);
    let warm = report(&[(Some(0), 1000), (Some(100), 1100)]);
    let heat = report(&[(Some(0), 1000), (Some(100), 3000)]);
    let stuck = report(&[(Some(0), 5000), (Some(0), 5100)]);
    let found = hot(&[cold, heat, cold, cold]);
    assert_eq!(found.iter().map(|hot| hot.index).collect::<Vec<_>>(), [1]);
    assert!(found[0].of_lag > 0.9 && found[0].of_written > 0.8);
    assert_eq!(hot(&[cold, warm, warm, warm]), []);
    assert_eq!(hot(&[cold, stuck, cold, cold]), [], "it gets no more records than the rest");
    assert_eq!(hot(&[heat]), []);
    assert_eq!(hot(&[]), []);
}

#[test]
fn a_records_timestamp_tells_the_lag_of_a_group_that_is_far_from_the_end() {
    let mut partition = PartitionLag::default();
    partition.see(&Look { committed: Some(50), ..Look::at(100_000, 1000) });
    let rules = Rules::default();
    assert_eq!(partition.report(&rules).time_lag, Some(TimeLag { time: Duration::ZERO, is_at_least: true }));
    partition.know(50, 40_000);
    let known = TimeLag { time: Duration::from_secs(60), is_at_least: false };
    assert_eq!(partition.report(&rules).time_lag, Some(known));
    // It contradicts what was seen.
    partition.know(10, 200_000);
    assert_eq!(partition.report(&rules).time_lag, Some(known));
}

#[test]
fn a_topic_that_was_made_again_is_another_one() {
    let report = watched(&[(Some(1000), 2000), (Some(1500), 2500), (Some(3), 4)]).report(&Rules::default());
    assert_eq!((report.lag, report.status, report.pace), (Some(1), Status::Ok, None));
}

#[test]
fn a_group_that_commits_nothing_any_more_takes_200_bytes_and_its_partition_is_remembered_once() {
    let (mut ends, mut idle, mut late) =
        (PartitionEnds::default(), PartitionLag::default(), GroupLag::default());
    for at in 0..100 {
        let look = Look { committed: Some(7), ..Look::at(at * 1000, 10 + at) };
        idle.see(&look);
        assert!(ends.see(&look));
        if at >= 97 && at != 98 {
            late.see(&ends, &look);
        }
    }
    assert!(idle.group_bytes() <= 240, "{}", idle.group_bytes());
    // It left a look out, so that it has one: its pace is not known.
    assert_eq!(late.report(&ends, &Rules::default()).pace, None);
    assert_eq!(late.report(&ends, &Rules::default()).lag, Some(102));
    ends.see(&Look::at(200_000, 200));
    assert_eq!(
        late.report(&ends, &Rules::default()).status,
        Status::NotFound,
        "it has not seen the last look"
    );
}

/// A type that can be copied has no heap.
fn is_of_constant_size<T: Copy>() -> usize {
    size_of::<T>()
}

fn any_look() -> impl Strategy<Value = Look> {
    let offset = || prop_oneof![0..1000_i64, any::<i64>()];
    let committed = proptest::option::of(offset());
    (any::<i64>(), offset(), offset(), committed, any::<u64>(), proptest::option::of(any::<u64>())).prop_map(
        |(at_ms, end, start, committed, finished, retention_ms)| Look {
            at_ms,
            end,
            start,
            committed,
            finished: finished % 50,
            unfinished: committed,
            retention_ms,
        },
    )
}

proptest! {
    #[test]
    fn memory_is_bounded_and_nothing_that_is_seen_panics(looks in proptest::collection::vec(any_look(), 0..200)) {
        prop_assert!(is_of_constant_size::<PartitionEnds>() <= 1536);
        let mut partition = PartitionLag::default();
        for look in &looks {
            partition.see(look);
            partition.know(look.start, look.at_ms);
            let report = partition.report(&Rules::default());
            prop_assert!(report.unprocessed <= report.lag);
            prop_assert!((0.0..=1.0).contains(&report.complete));
            hot(&[report, report]);
        }
        prop_assert!(partition.group_bytes() <= 200 + 512, "{}", partition.group_bytes());
    }

    #[test]
    fn whatever_the_pace_commits_that_end_are_stop_after_two_looks(
        moves in proptest::collection::vec((1..1000_i64, 1..1000_i64), 4..40),
        silent in proptest::collection::vec(1..1000_i64, 2..6),
    ) {
        let (mut committed, mut end) = (0, 1_000_000);
        let mut looks = Vec::new();
        for (read, written) in moves {
            (committed, end) = (committed + read, end + written);
            looks.push((Some(committed), end));
            prop_assert_ne!(status(&looks), Status::Stop);
        }
        for (index, written) in silent.into_iter().enumerate() {
            end += written;
            looks.push((Some(committed), end));
            prop_assert_eq!(status(&looks) == Status::Stop, index >= 1);
        }
    }

    #[test]
    fn the_time_lag_is_wrong_by_one_interval_at_most(
        written in proptest::collection::vec(0..500_i64, 2..45),
        back in 1..5000_i64,
    ) {
        // A record is written at an even pace between two looks, which are ten seconds apart.
        let (mut end, mut partition, mut times) = (0, PartitionLag::default(), Vec::new());
        for (at, written) in written.iter().enumerate() {
            let from = (at as i64 - 1) * 10_000;
            times.extend((0..*written).map(|index| from + index * index * 10_000 / (written * written)));
            end += written;
            let committed = Some((end - back).max(0));
            partition.see(&Look { committed, ..Look::at(at as i64 * 10_000, end) });
        }
        let now = (written.len() as i64 - 1) * 10_000;
        let report = partition.report(&Rules::default());
        let lag = report.time_lag.expect("committed");
        let Some(at) = times.get((end - back).max(0) as usize) else { return Ok(()) };
        let ago = now - at;
        let told = lag.time.as_millis() as i64;
        if lag.is_at_least {
            prop_assert!(told <= ago);
        } else {
            prop_assert!((told - ago).abs() <= 10_000, "{told} {ago}");
        }
    }
}
