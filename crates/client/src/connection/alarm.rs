//! A timer that is moved often and rings rarely.

use std::task::{Context, Poll};

use milena_core::Instant;

use crate::clock::{Clock, Timer};

/// Wakes its task at a time that changes with every request and every answer.
///
/// Setting one of the runtime's timers takes a lock, and another one takes it back. So the timer is set anew only for a time
/// before the one that it is set for, or when it rings: deadlines mostly move on, and a timer that rings too early rings
/// once per deadline, not once per request.
pub(crate) struct Alarm {
    clock: Clock,
    timer: Option<Timer>,
    /// What the timer is set for, if it has not rung.
    set_for: Option<Instant>,
}

impl Alarm {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, timer: None, set_for: None }
    }

    /// Ready when the time is `at`, or a day has passed. If it is not, the task is woken then.
    pub(crate) fn poll_at(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        loop {
            if self.set_for.is_none_or(|set_for| set_for > at) {
                self.clock.set(&mut self.timer, at);
                self.set_for = Some(at);
            }
            if self.timer.as_mut().is_some_and(|timer| timer.poll(cx).is_pending()) {
                return Poll::Pending;
            }
            if self.set_for.take() == Some(at) {
                return Poll::Ready(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;
    use crate::runtime::Executor;

    #[tokio::test(start_paused = true)]
    async fn it_rings_at_the_time_it_was_polled_for_last() {
        let clock = Clock::start(&Executor::current().expect("a runtime"));
        let at = |seconds| Instant::ORIGIN + Duration::from_secs(seconds);
        let mut alarm = Alarm::new(clock.clone());
        // Later, earlier, and later again than what it is set for.
        for seconds in [10, 20, 5, 30] {
            let rung = poll_fn(|cx| Poll::Ready(alarm.poll_at(cx, at(seconds)))).await;
            assert!(rung.is_pending());
        }
        poll_fn(|cx| alarm.poll_at(cx, at(30))).await;
        assert_eq!(clock.now(), at(30));
        poll_fn(|cx| alarm.poll_at(cx, at(1))).await;
        assert_eq!(clock.now(), at(30), "the time has passed");
    }
}
