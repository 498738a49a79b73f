//! Whether calls may begin, by how the last ones ended. It has no clock.
//!
//! ```text
//!           most calls failed              time is over                 most probes failed
//!  Closed ───────────────────▶ Open ───────────────────────▶ HalfOpen ────────────────────▶ Open
//!     ▲                                                         │
//!     └─────────────────────────────────────────────────────────┘ otherwise
//! ```

use std::time::Duration;

use crate::window::Window;

/// When the circuit opens, and when it closes again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) percent: u32,
    pub(super) calls_min: u64,
    pub(super) open_for: Duration,
    pub(super) probes: u32,
}

#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    /// Another number for each state that was entered: the end of a call that began in an earlier one says nothing.
    era: u64,
    calls: Window<30>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open {
        until: Duration,
    },
    /// Probes that have begun, those included that have ended.
    HalfOpen {
        begun: u32,
        succeeded: u32,
        failed: u32,
    },
}

/// What may be known of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Closed,
    Open { until: Duration },
    HalfOpen,
}

/// A call that may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    era: u64,
}

/// The answer to a call that wants to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    Go(Ticket),
    /// Ask again at this time, or when something has changed.
    Wait(Option<Duration>),
}

/// What the end of a call has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    /// Whether the circuit has opened or closed by it.
    pub(super) has_changed: bool,
    /// Whether the end is to count for the record. It is not while the circuit is not closed.
    pub(super) is_counted: bool,
}

const SUCCEEDED: usize = 0;
const FAILED: usize = 1;

impl Breaker {
    pub(super) fn new(window: Duration) -> Self {
        Self { state: State::Closed, era: 0, calls: Window::new(window) }
    }

    pub(super) fn phase(&self) -> Phase {
        match self.state {
            State::Closed => Phase::Closed,
            State::Open { until } => Phase::Open { until },
            State::HalfOpen { .. } => Phase::HalfOpen,
        }
    }

    /// Calls of the window that succeeded, and those that failed.
    pub(super) fn counts(&mut self, now: Duration) -> [u64; 2] {
        self.calls.advance(now);
        self.calls.sums()
    }

    /// Whether a call may begin.
    pub(super) fn begin(&mut self, settings: &Settings, now: Duration) -> Begin {
        if let State::Open { until } = self.state {
            if now < until {
                return Begin::Wait(Some(until));
            }
            self.enter(State::HalfOpen { begun: 0, succeeded: 0, failed: 0 });
        }
        if let State::HalfOpen { begun, .. } = &mut self.state {
            if *begun >= settings.probes {
                return Begin::Wait(None);
            }
            *begun += 1;
        }
        Begin::Go(Ticket { era: self.era })
    }

    /// Whether a ticket, which a call may have had for a while before it began, is still good.
    pub(super) fn is_good(&self, ticket: Ticket) -> bool {
        ticket.era == self.era
    }

    /// A call has ended.
    pub(super) fn end(
        &mut self,
        settings: &Settings,
        ticket: Ticket,
        succeeded: bool,
        now: Duration,
    ) -> Ended {
        let era = self.era;
        if ticket.era == era {
            self.count(settings, succeeded, now);
        }
        Ended { has_changed: self.era != era, is_counted: self.state == State::Closed }
    }

    /// A call will not begin, or its end will not be known. Answers whether another may begin in its place.
    pub(super) fn abandon(&mut self, ticket: Ticket) -> bool {
        match &mut self.state {
            State::HalfOpen { begun, .. } if ticket.era == self.era => {
                *begun -= 1;
                true
            }
            _ => false,
        }
    }

    fn count(&mut self, settings: &Settings, has_succeeded: bool, now: Duration) {
        let open = State::Open { until: now.saturating_add(settings.open_for) };
        match &mut self.state {
            State::Closed => {
                self.calls.advance(now);
                self.calls.add(if has_succeeded { SUCCEEDED } else { FAILED }, 1);
                let [succeeded, failed] = self.calls.sums();
                if succeeded + failed >= settings.calls_min && settings.is_over(failed, succeeded) {
                    self.enter(open);
                }
            }
            State::HalfOpen { succeeded, failed, .. } => {
                *if has_succeeded { &mut *succeeded } else { &mut *failed } += 1;
                let (succeeded, failed) = (*succeeded, *failed);
                if succeeded + failed >= settings.probes {
                    let is_over = settings.is_over(failed.into(), succeeded.into());
                    self.enter(if is_over { open } else { State::Closed });
                }
            }
            // No call begins in it, so that none ends with its era.
            State::Open { .. } => {}
        }
    }

    fn enter(&mut self, state: State) {
        self.era += 1;
        self.state = state;
        self.calls.clear();
    }
}

impl Settings {
    fn is_over(&self, failed: u64, succeeded: u64) -> bool {
        failed.saturating_mul(100) > (failed + succeeded).saturating_mul(self.percent.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Span;

    const SETTINGS: Settings =
        Settings { percent: 50, calls_min: 10, open_for: Duration::from_secs(5), probes: 3 };

    struct Calls {
        breaker: Breaker,
        now: Duration,
    }

    impl Calls {
        fn new() -> Self {
            Self { breaker: Breaker::new(30.s()), now: Duration::ZERO }
        }

        fn begin(&mut self) -> Option<Ticket> {
            match self.breaker.begin(&SETTINGS, self.now) {
                Begin::Go(ticket) => Some(ticket),
                Begin::Wait(_) => None,
            }
        }

        fn end(&mut self, ticket: Ticket, succeeded: bool) -> Ended {
            self.breaker.end(&SETTINGS, ticket, succeeded, self.now)
        }

        fn call(&mut self, succeeded: bool) -> Ended {
            let ticket = self.begin().expect("it may begin");
            self.end(ticket, succeeded)
        }

        /// Opens the circuit.
        fn open(&mut self) {
            while self.breaker.phase() == Phase::Closed {
                self.call(false);
            }
        }
    }

    const COUNTED: Ended = Ended { has_changed: false, is_counted: true };
    const OPENED: Ended = Ended { has_changed: true, is_counted: false };
    const CLOSED: Ended = Ended { has_changed: true, is_counted: true };
    const LATE: Ended = Ended { has_changed: false, is_counted: false };

    #[test]
    fn it_opens_when_over_half_of_the_calls_failed_and_there_were_enough() {
        let mut calls = Calls::new();
        for _ in 0..9 {
            assert_eq!(calls.call(false), COUNTED, "there are not enough");
        }
        assert_eq!(calls.call(false), OPENED);
        assert_eq!(calls.breaker.phase(), Phase::Open { until: 5.s() });

        let mut calls = Calls::new();
        for _ in 0..1000 {
            assert_eq!(
                (calls.call(true), calls.call(false)),
                (COUNTED, COUNTED),
                "half of them is not over half"
            );
        }
        assert_eq!(calls.call(false), OPENED);
    }

    #[test]
    fn only_the_window_counts() {
        let mut calls = Calls::new();
        for _ in 0..1000 {
            calls.call(true);
        }
        // Without a window the good calls would hide that all fail now.
        for second in 1..=30 {
            calls.now = second.s();
            assert_eq!(calls.breaker.phase(), Phase::Closed, "{second}");
            calls.call(false);
        }
        assert_eq!(calls.breaker.phase(), Phase::Open { until: 35.s() });
        // Failures that are far apart are never enough.
        let mut calls = Calls::new();
        for minute in 0..100 {
            calls.now = minute.minutes();
            assert_eq!(calls.call(false), COUNTED);
        }
    }

    #[test]
    fn while_it_is_open_no_call_begins_and_late_ends_say_nothing() {
        let mut calls = Calls::new();
        let early: Vec<Ticket> = (0..4).map(|_| calls.begin().expect("closed")).collect();
        calls.open();
        calls.now = 4_999.ms();
        assert_eq!(calls.breaker.begin(&SETTINGS, calls.now), Begin::Wait(Some(5.s())));
        assert!(!calls.breaker.is_good(early[0]));
        assert_eq!(calls.end(early[0], false), LATE);
        assert!(!calls.breaker.abandon(early[1]));
        calls.now = 5.s();
        let probe = calls.begin().expect("half open");
        assert_eq!(calls.end(early[2], true), LATE, "it is no probe");
        assert_eq!(calls.breaker.phase(), Phase::HalfOpen);
        assert_eq!(calls.end(probe, true), LATE);
    }

    #[test]
    fn probes_decide() {
        let check = |ends: [bool; 3], expected: Ended, phase: Phase| {
            let mut calls = Calls::new();
            calls.open();
            calls.now = 7.s();
            let probes = [(); 3].map(|()| calls.begin().expect("half open"));
            assert_eq!(
                calls.breaker.begin(&SETTINGS, calls.now),
                Begin::Wait(None),
                "there are three probes"
            );
            assert_eq!(calls.end(probes[0], ends[0]), LATE);
            assert_eq!(calls.end(probes[1], ends[1]), LATE);
            assert_eq!(calls.end(probes[2], ends[2]), expected, "{ends:?}");
            assert_eq!(calls.breaker.phase(), phase);
        };
        check([true, true, true], CLOSED, Phase::Closed);
        check([true, false, true], CLOSED, Phase::Closed);
        check([false, true, false], OPENED, Phase::Open { until: 12.s() });
    }

    #[test]
    fn a_probe_that_is_dropped_makes_room_for_another() {
        let mut calls = Calls::new();
        calls.open();
        calls.now = 5.s();
        let probes = [(); 3].map(|()| calls.begin().expect("half open"));
        assert!(calls.begin().is_none());
        assert!(calls.breaker.abandon(probes[0]));
        let probe = calls.begin().expect("there is room");
        assert!(calls.begin().is_none());
        for probe in [probe, probes[1], probes[2]] {
            calls.end(probe, true);
        }
        assert_eq!(calls.breaker.phase(), Phase::Closed);
        assert_eq!(calls.breaker.counts(calls.now), [0, 0], "it begins anew");
    }
}
