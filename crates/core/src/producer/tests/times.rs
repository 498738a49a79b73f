//! When batches come how far.

use std::time::Duration;

use milena_messages::ErrorCode;

use super::super::Times;
use super::{Lab, answer, settings};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Of the batch that was settled last.
fn last(lab: &Lab) -> Times {
    lab.times.last().copied().flatten().expect("it was sent")
}

#[test]
fn the_time_in_the_batch_is_from_its_first_record_until_it_is_closed() {
    let mut lab = Lab::identified(settings());
    lab.append(0);
    lab.append(0);
    lab.wait(2);
    lab.append(0);
    lab.wait(20);
    lab.answer(0, ErrorCode::NONE);
    lab.wait(7);
    lab.answer(1, ErrorCode::NONE);
    let times = last(&lab);
    assert_eq!((times.in_batch(), times.compressing(), times.for_slot()), (ms(5), Some(ms(0)), Some(ms(0))));
    assert_eq!((times.retrying(), lab.now - times.opened), (None, ms(29)));
}

#[test]
fn what_waits_for_a_place_in_flight_waits_for_a_slot() {
    let mut lab = Lab::identified(settings());
    for _ in 0..6 {
        lab.fill(0);
    }
    lab.wait(7);
    lab.answer(0, ErrorCode::NONE);
    assert_eq!(lab.sent.len(), 6);
    lab.wait(3);
    (1..6).for_each(|index| lab.answer(index, ErrorCode::NONE));
    let times = last(&lab);
    assert_eq!((times.in_batch(), times.for_slot(), times.throttled), (ms(0), Some(ms(7)), ms(0)));
}

#[test]
fn what_waits_for_the_end_of_a_throttle_does_not_wait_for_a_slot() {
    let mut lab = Lab::identified(settings());
    lab.fill(0);
    let (id, mut response) = answer(&lab.sent[0], |_| ErrorCode::NONE);
    response.throttle_time_ms = 50;
    lab.machine.handle_response(id, &response, lab.now);
    lab.turn();
    lab.wait(10);
    lab.fill(0);
    lab.wait(100);
    lab.answer(1, ErrorCode::NONE);
    let times = last(&lab);
    assert_eq!((times.throttled, times.for_slot()), (ms(40), Some(ms(0))));
}

#[test]
fn a_batch_that_stays_open_until_the_end_of_a_throttle_waits_for_that() {
    let mut lab = Lab::identified(settings());
    lab.fill(0);
    let (id, mut response) = answer(&lab.sent[0], |_| ErrorCode::NONE);
    response.throttle_time_ms = 50;
    lab.machine.handle_response(id, &response, lab.now);
    lab.turn();
    lab.wait(10);
    lab.append(0);
    lab.wait(100);
    lab.answer(1, ErrorCode::NONE);
    let times = last(&lab);
    assert_eq!((times.for_throttle(), times.in_batch(), times.for_slot()), (ms(40), ms(0), Some(ms(0))));
}

#[test]
fn attempts_before_the_last_one_are_told_apart_and_each_has_its_reason() {
    let mut lab = Lab::identified(settings());
    lab.fill(0);
    lab.wait(4);
    lab.answer(0, ErrorCode::NOT_ENOUGH_REPLICAS);
    lab.wait(1000);
    assert_eq!(lab.sent.len(), 2);
    lab.answer(1, ErrorCode::NONE);
    let times = last(&lab);
    let retrying = times.retrying().expect("it was sent twice");
    assert!(retrying > ms(4) && retrying < ms(1004) && times.for_slot() == Some(ms(0)), "{times:?}");
    let reasons: Vec<_> = std::iter::from_fn(|| lab.machine.poll_retry()).map(|of| of.label()).collect();
    assert_eq!(reasons, ["NOT_ENOUGH_REPLICAS"]);
}
