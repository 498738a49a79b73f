//! What a schedule decides, case by case.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn terms(order: Order) -> Terms {
    Terms {
        order,
        time_limit: Some(5 * SECOND),
        report_after: 2 * SECOND,
        waiting_max: 100,
        lane_running_max: 8,
    }
}

/// Records of one lane with these keys, from offset 0 on.
fn items(keys: &[u64]) -> Vec<Item<i64>> {
    (0..)
        .zip(keys)
        .map(|(offset, shard)| Item {
            record: offset,
            shard: *shard,
            from: offset,
            end: offset + 1,
            due: Duration::ZERO,
        })
        .collect()
}

/// A schedule with one lane.
fn one(order: Order, keys: &[u64]) -> (Schedule<i64>, LaneId) {
    let mut schedule = Schedule::new(terms(order));
    let lane = schedule.handle_assigned(1);
    schedule.handle_records(lane, items(keys));
    (schedule, lane)
}

/// Starts all that may start; all of it stays in work.
fn start_all(schedule: &mut Schedule<i64>, now: Duration) -> Vec<(i64, JobId)> {
    let mut started = Vec::new();
    while let Some(job) = schedule.poll_start(now) {
        let offset = job.item.record;
        started.push((offset, schedule.handle_pending(job, now)));
    }
    started
}

fn offsets(started: &[(i64, JobId)]) -> Vec<i64> {
    started.iter().map(|(offset, _)| *offset).collect()
}

fn done(schedule: &mut Schedule<i64>, id: JobId) -> i64 {
    let job = schedule.handle_ended(id).expect("it is running");
    schedule.handle_done(job).record
}

#[test]
fn records_of_one_key_are_processed_one_after_the_other() {
    let (mut schedule, _) = one(Order::Key, &[1, 1, 2, 1, 2]);
    let started = start_all(&mut schedule, Duration::ZERO);
    assert_eq!(offsets(&started), [0, 2]);
    assert_eq!(done(&mut schedule, started[0].1), 0);
    let next = start_all(&mut schedule, Duration::ZERO);
    assert_eq!(offsets(&next), [1]);
    done(&mut schedule, next[0].1);
    assert_eq!(offsets(&start_all(&mut schedule, Duration::ZERO)), [3]);
    done(&mut schedule, started[1].1);
    assert_eq!(offsets(&start_all(&mut schedule, Duration::ZERO)), [4]);
}

#[test]
fn a_lane_waits_until_its_first_record_is_due_and_holds_up_no_other() {
    let (mut schedule, waiting) = one(Order::Key, &[]);
    let due_at = |seconds: &[u32]| {
        let items = items(&[1, 2, 3]).into_iter().zip(seconds);
        items.map(|(item, at)| Item { due: *at * SECOND, ..item }).collect::<Vec<_>>()
    };
    // The third is due before the second, and waits for it.
    schedule.handle_records(waiting, due_at(&[10, 20, 15]));
    let other = schedule.handle_assigned(1);
    schedule.handle_records(other, items(&[1]));
    assert_eq!(offsets(&start_all(&mut schedule, SECOND)), [0]);
    assert!(!schedule.is_hungry(waiting), "it has records");
    let just_before = 10 * SECOND - Duration::from_nanos(1);
    assert!(!schedule.is_startable(just_before));
    // The record in work has its own limits.
    schedule.handle_gone(other);
    assert_eq!(schedule.poll_timeout(just_before), Some(10 * SECOND));
    assert_eq!(offsets(&start_all(&mut schedule, 10 * SECOND)), [0]);
    assert!(start_all(&mut schedule, 16 * SECOND).is_empty());
    assert_eq!(offsets(&start_all(&mut schedule, 20 * SECOND)), [1, 2]);
}

#[test]
fn a_lane_reads_no_further_while_many_of_its_records_are_put_aside() {
    let (mut schedule, lane) = one(Order::None, &[0; 2_000]);
    let mut aside = Vec::new();
    while let Some(job) = schedule.poll_start(SECOND) {
        aside.push(schedule.handle_failed(job, Verdict::Aside, SECOND).expect("a number"));
    }
    assert_eq!(aside.len(), 1_000);
    assert!(!schedule.is_startable(SECOND));
    assert!(schedule.handle_settled(aside[7]).is_some());
    assert!(schedule.is_startable(SECOND) && !schedule.is_drained(lane));
}

#[test]
fn a_lane_that_is_revoked_while_it_waits_is_drained() {
    let (mut schedule, lane) = one(Order::Partition, &[]);
    schedule.handle_records(lane, items(&[1]).into_iter().map(|item| Item { due: SECOND, ..item }));
    schedule.handle_revoked(lane);
    assert!(schedule.is_drained(lane) && schedule.handle_gone(lane).left.is_empty());
    assert!(start_all(&mut schedule, 2 * SECOND).is_empty());
    assert_eq!(schedule.poll_timeout(2 * SECOND), None);
}

#[test]
fn records_of_a_partition_are_processed_one_after_the_other() {
    let (mut schedule, _) = one(Order::Partition, &[1, 2, 3]);
    for expect in 0..3 {
        let started = start_all(&mut schedule, Duration::ZERO);
        assert_eq!(offsets(&started), [expect]);
        done(&mut schedule, started[0].1);
    }
    assert!(!schedule.is_startable(Duration::ZERO));
}

#[test]
fn without_an_order_all_start_at_once() {
    let (mut schedule, _) = one(Order::None, &[1, 1, 1]);
    assert_eq!(offsets(&start_all(&mut schedule, Duration::ZERO)), [0, 1, 2]);
}

#[test]
fn what_ends_at_once_leaves_nothing_behind() {
    let (mut schedule, lane) = one(Order::Key, &[1, 1, 1, 2]);
    for expect in 0..4 {
        let job = schedule.poll_start(Duration::ZERO).expect("a record");
        assert_eq!(schedule.handle_done(job).record, expect);
    }
    assert!(schedule.poll_start(Duration::ZERO).is_none());
    assert!(schedule.shards.is_empty() && schedule.is_drained(lane) && schedule.is_hungry(lane));
    assert_eq!(schedule.poll_timeout(Duration::ZERO), None);
}

#[test]
fn a_failed_record_keeps_its_key_until_its_next_attempt() {
    let (mut schedule, _) = one(Order::Key, &[1, 1, 2]);
    let job = schedule.poll_start(Duration::ZERO).expect("a record");
    schedule.handle_failed(job, Verdict::Again(SECOND, Failure::retriable("again")), Duration::ZERO);
    assert_eq!(offsets(&start_all(&mut schedule, Duration::ZERO)), [2], "the other key goes on");
    assert_eq!(schedule.poll_timeout(Duration::ZERO), Some(SECOND));
    assert!(schedule.poll_start(SECOND / 2).is_none());
    assert_eq!(schedule.poll_timeout(SECOND), Some(2 * SECOND), "what is due waits for a permit alone");
    let again = schedule.poll_start(SECOND).expect("its time has come");
    assert_eq!((again.item.record, again.attempt()), (0, 2));
    assert_eq!(again.history.as_ref().map(|history| (history.calls, history.delay)), Some((1, SECOND)));
    assert_eq!(schedule.handle_done(again).record, 0);
    assert_eq!(schedule.poll_start(SECOND).expect("the next of its key").item.record, 1);
}

#[test]
fn a_record_that_is_put_aside_keeps_its_key_until_it_is() {
    let (mut schedule, lane) = one(Order::Key, &[1, 1]);
    let job = schedule.poll_start(Duration::ZERO).expect("a record");
    let id = schedule.handle_failed(job, Verdict::Aside, Duration::ZERO).expect("a number");
    assert!(schedule.poll_start(Duration::ZERO).is_none());
    assert!(!schedule.is_drained(lane));
    assert_eq!(schedule.handle_settled(id).expect("it was put aside").record, 0);
    assert!(schedule.handle_settled(id).is_none(), "only once");
    assert_eq!(schedule.poll_start(Duration::ZERO).expect("the next of its key").item.record, 1);
}

#[test]
fn a_lane_that_is_given_up_starts_nothing_and_ends_what_it_has() {
    let (mut schedule, lane) = one(Order::Key, &[1, 1, 2, 3]);
    let started = start_all(&mut schedule, Duration::ZERO);
    let failed = schedule.handle_ended(started[1].1).expect("it is running");
    schedule.handle_failed(failed, Verdict::Again(SECOND, Failure::retriable("again")), Duration::ZERO);
    schedule.handle_revoked(lane);
    schedule.handle_records(lane, items(&[9]));
    assert!(schedule.poll_start(10 * SECOND).is_none());
    assert!(!schedule.is_drained(lane));
    assert_eq!(done(&mut schedule, started[0].1), 0, "what ends in time is done");
    let late = schedule.handle_gone(lane);
    let left: Vec<_> = late.left.iter().map(|item| item.record).collect();
    assert_eq!(
        (late.running, left),
        (vec![started[2].1], vec![3, 2]),
        "what waited for another attempt is told too"
    );
    assert!(schedule.handle_ended(started[2].1).is_none(), "its outcome counts no more");
    assert!(schedule.is_drained(lane) && schedule.shards.is_empty() && schedule.running() == 0);
}

#[test]
fn an_attempt_is_reported_and_then_expires() {
    let (mut schedule, _) = one(Order::Key, &[1, 1, 2]);
    let started = start_all(&mut schedule, SECOND);
    done(&mut schedule, started[1].1);
    assert_eq!(schedule.poll_timeout(SECOND), Some(3 * SECOND));
    assert_eq!(schedule.poll_overdue(2 * SECOND), None);
    assert_eq!(schedule.poll_overdue(3 * SECOND), Some(Overdue::Slow(started[0].1)));
    assert_eq!(schedule.waiting_for(started[0].1), 1);
    assert_eq!(schedule.poll_overdue(3 * SECOND), None);
    assert_eq!(schedule.poll_overdue(6 * SECOND), Some(Overdue::Expired(started[0].1)));
    assert_eq!(schedule.poll_overdue(9 * SECOND), None);
}

#[test]
fn a_key_with_a_long_queue_stops_its_lane_and_no_other() {
    let mut schedule = Schedule::new(terms(Order::Key));
    let (hot, other) = (schedule.handle_assigned(1), schedule.handle_assigned(1));
    schedule.handle_records(hot, items(&[7; 500]));
    schedule.handle_records(other, items(&[1, 2, 3]));
    assert_eq!(start_all(&mut schedule, Duration::ZERO).len(), 4);
    assert_eq!(schedule.unstarted(hot), 499);
    assert!(!schedule.is_hungry(hot) && schedule.is_hungry(other));
}

#[test]
fn a_lane_whose_records_stay_in_work_leaves_room_for_others() {
    let mut schedule = Schedule::new(terms(Order::None));
    let (stuck, other) = (schedule.handle_assigned(1), schedule.handle_assigned(1));
    schedule.handle_records(stuck, items(&[0; 100]));
    assert_eq!(start_all(&mut schedule, Duration::ZERO).len(), 8);
    assert!(!schedule.is_startable(Duration::ZERO));
    schedule.handle_records(other, items(&[0; 100]));
    let started = start_all(&mut schedule, Duration::ZERO);
    assert_eq!(started.len(), 8, "the other one has its own share");
    schedule.handle_gone(stuck);
    assert_eq!(start_all(&mut schedule, Duration::ZERO).len(), 0, "other workers have partitions");
    schedule.handle_alone(true);
    assert_eq!(start_all(&mut schedule, Duration::ZERO).len(), 92, "alone, it may have all");
    schedule.handle_alone(false);
    assert!(!schedule.is_startable(Duration::ZERO));
}

#[test]
fn records_that_take_long_get_their_places_beside_endless_ones_that_end_at_once() {
    let mut schedule = Schedule::new(terms(Order::None));
    let [instant, stuck, slow] = [(); 3].map(|()| schedule.handle_assigned(1));
    schedule.handle_records(instant, items(&[0; 20_000]));
    // It has one record in work that does not end, and others that end at once.
    schedule.handle_records(stuck, items(&[0; 1_000]));
    schedule.handle_records(slow, items(&[0; 100]));
    let stays = |job: &Job<i64>, running: usize| job.lane == slow || (job.lane == stuck && running == 0);
    for _ in 0..20_000 {
        let Some(job) = schedule.poll_start(Duration::ZERO) else { break };
        if stays(&job, schedule.lanes[&job.lane].running) {
            schedule.handle_pending(job, Duration::ZERO);
        } else {
            schedule.handle_done(job);
        }
    }
    assert!(schedule.unstarted(instant) > 0);
    assert_eq!(schedule.lanes[&slow].running, 8, "all that it may have");
}

#[test]
fn a_share_that_shrinks_keeps_a_lane_from_taking_more() {
    let mut schedule = Schedule::new(terms(Order::None));
    let lane = schedule.handle_assigned(1);
    schedule.handle_records(lane, items(&[0; 100]));
    schedule.handle_share(3);
    let started = start_all(&mut schedule, Duration::ZERO);
    assert_eq!(started.len(), 3);
    schedule.handle_share(1);
    done(&mut schedule, started[0].1);
    assert!(!schedule.is_startable(Duration::ZERO));
    schedule.handle_share(5);
    assert_eq!(start_all(&mut schedule, Duration::ZERO).len(), 3);
}

#[test]
fn the_workers_of_a_divided_partition_have_together_what_one_may_have() {
    let mut schedule = Schedule::new(terms(Order::None));
    let (half, many) = (schedule.handle_assigned(2), schedule.handle_assigned(100));
    schedule.handle_records(half, items(&[0; 100]));
    schedule.handle_records(many, items(&[0; 100]));
    start_all(&mut schedule, Duration::ZERO);
    assert_eq!((schedule.lanes[&half].running, schedule.lanes[&many].running), (4, 1));
}

#[test]
fn one_attempt_that_takes_long_keeps_no_limits_of_others() {
    let (mut schedule, _) = one(Order::None, &[0; 50_000]);
    start_all(&mut schedule, Duration::ZERO);
    let mut last = None;
    for _ in 0..40_000 {
        let next = last.or_else(|| schedule.jobs.iter().last().map(|(id, ..)| id)).expect("one is running");
        done(&mut schedule, next);
        let job = schedule.poll_start(Duration::ZERO).expect("a record");
        last = Some(schedule.handle_pending(job, Duration::ZERO));
    }
    assert!(schedule.limits.len() + schedule.reports.len() < 4 * LIMITS_MIN);
    assert!(matches!(schedule.poll_overdue(2 * SECOND), Some(Overdue::Slow(_))));
}

#[test]
fn the_lane_with_the_fewest_in_work_is_next() {
    let mut schedule = Schedule::new(terms(Order::None));
    let (first, second) = (schedule.handle_assigned(1), schedule.handle_assigned(1));
    schedule.handle_records(first, items(&[0; 6]));
    schedule.handle_records(second, items(&[0; 6]));
    for turn in 0..6 {
        for _ in 0..2 {
            let job = schedule.poll_start(Duration::ZERO).expect("a record");
            schedule.handle_pending(job, Duration::ZERO);
        }
        assert_eq!((schedule.lanes[&first].running, schedule.lanes[&second].running), (turn + 1, turn + 1));
    }
}

#[test]
fn lanes_whose_records_end_at_once_take_turns() {
    let mut schedule = Schedule::new(terms(Order::None));
    let (first, second) = (schedule.handle_assigned(1), schedule.handle_assigned(1));
    schedule.handle_records(first, items(&vec![0; 2 * TURN as usize]));
    schedule.handle_records(second, items(&[0; 10]));
    let mut seen = Vec::new();
    while let Some(job) = schedule.poll_start(Duration::ZERO) {
        if seen.last() != Some(&job.lane) {
            seen.push(job.lane);
        }
        schedule.handle_done(job);
    }
    assert_eq!(seen, [first, second, first]);
}

#[test]
fn records_of_a_group_that_failed_start_one_by_one_before_what_comes_after_them() {
    for order in [Order::Partition, Order::Key, Order::None] {
        let (mut schedule, _) = one(order, &[7, 7]);
        let job = schedule.poll_start(Duration::ZERO).expect("a group");
        schedule.handle_split(
            job,
            items(&[7, 7, 7]).into_iter().map(|item| Item { record: 10 + item.record, ..item }).collect(),
        );
        if order == Order::None {
            assert_eq!(offsets(&start_all(&mut schedule, Duration::ZERO)), [10, 11, 12, 1]);
            continue;
        }
        for expect in [10, 11, 12, 1] {
            let started = start_all(&mut schedule, Duration::ZERO);
            assert_eq!(offsets(&started), [expect], "{order:?}");
            done(&mut schedule, started[0].1);
        }
    }
}
