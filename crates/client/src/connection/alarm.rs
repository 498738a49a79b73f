//! A timer that is moved often and rings rarely.

use std::pin::Pin;
use std::task::{Context, Poll};

use milena_core::Instant;

use crate::clock::Clock;

/// Wakes its task at a time that changes with every request and every answer.
///
/// Setting one of the runtime's timers takes a lock, and another one takes it back. So the timer is set anew only for a time
/// before the one that it is set for, or when it rings: deadlines mostly move on, and a timer that rings too early rings
/// once per deadline, not once per request.
pub(super) struct Alarm {
    clock: Clock,
    timer: Option<Timer>,
}

struct Timer {
    at: Instant,
    sleep: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Alarm {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, timer: None }
    }

    /// Ready when the time is `at`, or a day has passed. If it is not, the task is woken then.
    pub(super) fn poll_at(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        let timer = match self.timer.take() {
            Some(timer) if timer.at <= at => timer,
            _ => self.set(at),
        };
        let timer = self.timer.insert(timer);
        if timer.sleep.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        let is_due = timer.at >= at;
        self.timer = None;
        if is_due { Poll::Ready(()) } else { self.poll_at(cx, at) }
    }

    fn set(&self, at: Instant) -> Timer {
        let clock = self.clock.clone();
        Timer { at, sleep: Box::pin(async move { clock.sleep_until(Some(at)).await }) }
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
