//! Work that no request asks for: the machine does it when time has passed.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use milena_messages::ErrorCode;

use crate::rig::{Rig, batch_at};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Lets time pass, and has the machine do all that is due until then, each when it is due.
pub(crate) fn live_through(rig: &mut Rig, time: Duration) {
    let end = rig.now.plus(time);
    while let Some(due) = rig.machine.poll_timeout().filter(|due| *due <= end.instant) {
        rig.pass(due - rig.now.instant);
        rig.machine.handle_timeout(rig.now);
    }
    rig.pass(end.instant - rig.now.instant);
}

#[test]
fn nothing_is_due_before_somebody_connects() {
    let rig = Rig::new(1);
    let poll = |known| rig.machine.poll_earlier(known, &mut Context::from_waker(Waker::noop()));
    assert_eq!((rig.machine.poll_timeout(), poll(None)), (None, Poll::Pending));
    rig.connect(1);
    let due = rig.machine.poll_timeout();
    assert!(due.is_some_and(|due| due > rig.now.instant));
    assert_eq!((poll(None), poll(due)), (Poll::Ready(due), Poll::Pending));
    rig.machine.handle_timeout(rig.now);
    assert_eq!(rig.machine.poll_timeout(), due, "too early: nothing happened");
}

#[test]
fn a_producer_that_was_silent_for_a_day_is_forgotten() {
    let mut rig = Rig::new(1);
    rig.create("t", 1, &[]);
    let append = |rig: &Rig, producer_id, sequence| {
        let batch = batch_at(rig.now.unix_ms, &["a"], Some((producer_id, 0, sequence)));
        rig.produce("t", 0, batch).error_code
    };
    assert_eq!(append(&rig, 7, 0), ErrorCode::NONE);
    assert_eq!(append(&rig, 8, 0), ErrorCode::NONE);
    live_through(&mut rig, DAY / 2);
    assert_eq!(append(&rig, 8, 1), ErrorCode::NONE);
    live_through(&mut rig, DAY / 2 - Duration::from_secs(1));
    let out_of_order = ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER;
    assert_eq!((append(&rig, 7, 5), append(&rig, 8, 5)), (out_of_order, out_of_order));
    // Kafka looks every ten minutes.
    live_through(&mut rig, Duration::from_secs(600));
    assert_eq!((append(&rig, 7, 5), append(&rig, 8, 5)), (ErrorCode::NONE, out_of_order));
}
