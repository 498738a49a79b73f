//! The policy on times and random numbers that tests choose.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;

use super::*;
use crate::Span;

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }
}

fn after(calls: u32) -> Attempts {
    Attempts { calls, ..Attempts::default() }
}

fn failed() -> Failure {
    Failure::retriable("no")
}

fn delay(retry: &Retry, attempts: Attempts, random: u64) -> Duration {
    match retry.next(&attempts, &failed(), random) {
        Next::After(delay) => delay,
        other => panic!("{other:?} after {attempts:?}"),
    }
}

#[test]
fn delays_double_up_to_the_maximum() {
    let retry = Retry::exponential(100.ms(), 1.s()).no_jitter().without_limit();
    for (calls, expected_ms) in
        [(1, 100), (2, 200), (3, 400), (4, 800), (5, 1000), (1000, 1000), (u32::MAX, 1000)]
    {
        assert_eq!(delay(&retry, after(calls), 7), expected_ms.ms(), "{calls}");
    }
    let thrice = Retry::exponential(100.ms(), 10.s()).no_jitter().factor(3.0).without_limit();
    assert_eq!([1, 2, 3].map(|calls| delay(&thrice, after(calls), 7)), [100.ms(), 300.ms(), 900.ms()]);
    let fixed = Retry::fixed(Duration::from_nanos(1_234_567_890_123)).factor(9.0).without_limit();
    assert_eq!(
        [1, 2, 900].map(|calls| delay(&fixed, after(calls), 7)),
        [Duration::from_nanos(1_234_567_890_123); 3]
    );
}

#[test]
fn no_setting_overflows() {
    let mut rng = Rng(1);
    let spans = [Duration::ZERO, Duration::from_nanos(1), 1.s(), u64::MAX.s(), Duration::MAX];
    for (first, max) in spans.iter().flat_map(|first| spans.iter().map(move |max| (*first, *max))) {
        for factor in [0.0, 1.0, 2.0, 1e300, f64::INFINITY, f64::NAN, -3.0] {
            let retry = Retry::exponential(first, max).factor(factor).without_limit();
            let kinds =
                [retry.clone().no_jitter(), retry.clone().full_jitter(), retry.clone().equal_jitter()];
            for retry in kinds.into_iter().chain([retry.decorrelated_jitter()]) {
                for calls in [0, 1, 2, 1000, u32::MAX] {
                    let attempts = Attempts { calls, elapsed: Duration::MAX, last_delay: Some(max) };
                    assert!(delay(&retry, attempts, rng.next()) <= max.max(first), "{retry:?} {calls}");
                    assert!(delay(&retry, attempts, u64::MAX) <= max.max(first), "{retry:?} {calls}");
                }
            }
        }
    }
    let zero = Retry::exponential(Duration::ZERO, 1.s()).no_jitter().factor(f64::INFINITY).without_limit();
    assert_eq!(delay(&zero, after(1000), 7), Duration::ZERO);
    // A factor that is no number is 1.
    let same = Retry::exponential(1.s(), 9.s()).no_jitter().factor(f64::NAN);
    assert_eq!(delay(&same, after(4), 7), 1.s());
}

/// 10 000 draws are from `low` to `high`, come within a hundredth of both, and their mean is within 2 % of `mean`.
fn check_draws(retry: &Retry, attempts: Attempts, low: Duration, high: Duration, mean: Duration) {
    let mut rng = Rng(20_261_129);
    let draws: Vec<f64> = (0..10_000).map(|_| delay(retry, attempts, rng.next()).as_secs_f64()).collect();
    let (low, high, mean) = (low.as_secs_f64(), high.as_secs_f64(), mean.as_secs_f64());
    let smallest = draws.iter().copied().fold(f64::INFINITY, f64::min);
    let largest = draws.iter().copied().fold(0.0, f64::max);
    let near = (high - low) / 100.0;
    assert!((low..=low + near).contains(&smallest), "{retry:?}: {smallest} is not near {low}");
    assert!((high - near..=high).contains(&largest), "{retry:?}: {largest} is not near {high}");
    let drawn = draws.iter().sum::<f64>() / 10_000.0;
    assert!((drawn / mean - 1.0).abs() < 0.02, "{retry:?}: the mean is {drawn}, not {mean}");
}

#[test]
fn jitter_has_its_bounds_and_its_mean() {
    let retry = Retry::exponential(100.ms(), 10.s()).attempts(1000);
    let fourth = after(4);
    check_draws(&retry, fourth, 0.ms(), 800.ms(), 400.ms());
    check_draws(&retry.clone().full_jitter(), fourth, 0.ms(), 800.ms(), 400.ms());
    check_draws(&retry.clone().full_jitter(), after(900), 0.ms(), 10.s(), 5.s());
    check_draws(&retry.clone().equal_jitter(), fourth, 400.ms(), 800.ms(), 600.ms());
    check_draws(&retry.clone().equal_jitter(), after(900), 5.s(), 10.s(), 7500.ms());
    let decorrelated = retry.decorrelated_jitter();
    check_draws(&decorrelated, after(1), 100.ms(), 300.ms(), 200.ms());
    let last = |last: Duration| Attempts { last_delay: Some(last), ..after(3) };
    check_draws(&decorrelated, last(1.s()), 100.ms(), 3.s(), 1550.ms());
    // A draw above the maximum is the maximum: 2/3 of them are below it, with a mean of about 5 s; 2/3 × 5.05 + 1/3 × 10.
    check_draws(&decorrelated, last(5.s()), 100.ms(), 10.s(), 6_711.ms());
    check_draws(&Retry::fixed(2.s()).full_jitter(), fourth, 0.ms(), 2.s(), 1.s());
}

#[test]
fn attempts_count_the_first_call() {
    let ends =
        |retry: &Retry, calls: u32| retry.next(&after(calls), &failed(), 7) == Next::GiveUp(Why::Attempts);
    let check = |retry: &Retry, calls: u32| {
        assert!(!(1..calls).any(|call| ends(retry, call)), "{retry:?}");
        assert!([calls, calls + 1, u32::MAX].iter().all(|call| ends(retry, *call)), "{retry:?}");
    };
    check(&Retry::never(), 1);
    check(&Retry::fixed(1.s()), CALLS);
    check(&Retry::exponential(1.s(), 1.s()), CALLS);
    check(&Retry::fixed(1.s()).attempts(3), 3);
    check(&Retry::fixed(1.s()).attempts(0), 1);
    assert!(!ends(&Retry::fixed(1.s()).without_limit(), u32::MAX));
}

#[test]
fn no_attempt_begins_after_the_time_for_all() {
    let retry = Retry::fixed(1.s()).elapsed_max(10.s()).without_limit();
    let at = |elapsed: Duration| retry.next(&Attempts { elapsed, ..after(3) }, &failed(), 7);
    assert_eq!(at(9.s()), Next::After(1.s()));
    assert_eq!(at(9_001.ms()), Next::GiveUp(Why::Elapsed));
    assert_eq!(at(Duration::MAX), Next::GiveUp(Why::Elapsed));
}

#[derive(Debug)]
struct Refused {
    code: u32,
}

#[derive(Debug)]
struct Charging<E>(E);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused with {}", self.code)
    }
}

impl Error for Refused {}

impl<E> fmt::Display for Charging<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("charging failed")
    }
}

impl<E: Error + 'static> Error for Charging<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

fn caused(code: u32) -> Failure {
    Failure::retriable(Charging(Charging(Refused { code })))
}

#[test]
fn what_the_handler_says_comes_before_the_rules() {
    let retry = Retry::fixed(1.s()).classify::<Refused>(Class::Retriable);
    let next = |failure: &Failure| (retry.next(&after(1), failure, 7), retry.class(failure));
    assert_eq!(next(&Failure::poison(Refused { code: 1 })), (Next::GiveUp(Why::Poison), Class::Poison));
    assert_eq!(next(&Failure::fatal(Refused { code: 1 })), (Next::Stop, Class::Fatal));
    assert_eq!(next(&failed()), (Next::After(1.s()), Class::Retriable));
}

#[test]
fn a_failure_that_does_not_count_is_tried_again_whatever_the_limits() {
    let retry = Retry::never().elapsed_max(1.s()).classify::<Refused>(Class::Fatal);
    let attempts = Attempts { elapsed: 9.s(), ..after(0) };
    let failure = Failure::poison(Refused { code: 1 }).not_counted();
    assert_eq!(retry.next(&attempts, &failure, 7), Next::After(Duration::ZERO));
}

#[test]
fn rules_are_asked_about_the_causes_too() {
    let retry = Retry::fixed(1.s())
        .classify_by(|error: &Refused| (error.code == 401).then_some(Class::Fatal))
        .classify_by(|error: &Refused| (error.code == 400).then_some(Class::Poison))
        .choose(|error: &Refused| (error.code == 429).then(|| Retry::fixed(30.s()).attempts(9)))
        .on::<std::io::Error>(Retry::fixed(2.s()).classify::<std::io::Error>(Class::Fatal));
    let next = |failure: &Failure, calls: u32| retry.next(&after(calls), failure, 7);
    assert_eq!(next(&caused(401), 1), Next::Stop);
    assert_eq!(next(&caused(400), 1), Next::GiveUp(Why::Poison));
    assert_eq!(next(&caused(429), 8), Next::After(30.s()));
    assert_eq!(next(&caused(429), 9), Next::GiveUp(Why::Attempts));
    assert_eq!(next(&caused(500), 1), Next::After(1.s()));
    assert_eq!(next(&caused(500), 5), Next::GiveUp(Why::Attempts));
    assert_eq!(next(&Failure::retriable(Charging(std::io::Error::other("x"))), 1), Next::After(2.s()));
    let classes = [401, 400, 429, 500].map(|code| retry.class(&caused(code)));
    assert_eq!(classes, [Class::Fatal, Class::Poison, Class::Retriable, Class::Retriable]);
}

#[test]
fn the_outermost_error_with_a_rule_decides_then_the_first_rule() {
    let retry = Retry::fixed(1.s())
        .classify::<Refused>(Class::Poison)
        .classify::<Charging<Refused>>(Class::Fatal)
        .classify::<Charging<Refused>>(Class::Poison);
    assert_eq!(retry.next(&after(1), &caused(1), 7), Next::Stop);
}

/// The documentation of [`Retry::on`] says this.
#[test]
fn an_anyhow_error_hides_its_outermost_type_only() {
    let retry = Retry::fixed(1.s()).classify::<Refused>(Class::Poison);
    let class = |failure: &Failure| retry.class(failure);
    let plain = || anyhow::Error::new(Refused { code: 1 });
    assert_eq!(class(&Failure::from(plain())), Class::Retriable);
    assert_eq!(class(&Failure::from(plain().context("charging"))), Class::Poison);
    assert_eq!(
        class(&Failure::from(plain().reallocate_into_boxed_dyn_error_without_backtrace())),
        Class::Poison
    );
}

#[test]
fn a_chain_without_end_is_asked_about_for_a_while() {
    #[derive(Debug)]
    struct Endless;
    impl fmt::Display for Endless {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("again")
        }
    }
    impl Error for Endless {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(self)
        }
    }
    let retry = Retry::fixed(1.s()).classify::<Refused>(Class::Poison);
    assert_eq!(retry.class(&Failure::retriable(Endless)), Class::Retriable);
}

/// Records come at a rate and are called until they succeed. Answers per second how many retries failed and how many records
/// were done.
struct Traffic {
    retry: Retry,
    per_s: u64,
    rng: Rng,
    /// When each waiting record asks again, in milliseconds.
    waiting: BinaryHeap<Reverse<u64>>,
    ms: u64,
}

impl Traffic {
    fn new(percent: u32, per_s: u64) -> Self {
        let retry = Retry::fixed(100.ms()).without_limit().budget(percent);
        Self { retry, per_s, rng: Rng(5), waiting: BinaryHeap::new(), ms: 0 }
    }

    /// Lets `seconds` pass, in which each call fails in `failing` of a hundred cases. Answers first calls, failed retries, records
    /// done.
    fn run(&mut self, seconds: u64, failing: u64) -> (u64, u64, u64) {
        let (mut firsts, mut failures, mut done) = (0, 0, 0);
        for _ in 0..seconds * 1000 {
            let now = self.ms.ms();
            let fails = |rng: &mut Rng| rng.next() % 100 < failing;
            while self.waiting.peek().is_some_and(|at| at.0 <= self.ms) {
                self.waiting.pop();
                match self.retry.admit(&after(1), &failed(), now, self.rng.next()) {
                    Admission::Now if fails(&mut self.rng) => {
                        failures += 1;
                        self.waiting.push(Reverse(self.ms + 100));
                    }
                    Admission::Now => {
                        done += 1;
                        self.retry.retry_succeeded(now);
                    }
                    Admission::Later(wait) => self.waiting.push(Reverse(self.ms + wait.as_millis() as u64)),
                    Admission::GiveUp(why) => panic!("{why:?}"),
                }
            }
            for _ in 0..(self.per_s * (self.ms + 1) / 1000 - self.per_s * self.ms / 1000) {
                firsts += 1;
                self.retry.first_calls(1, now);
                if fails(&mut self.rng) {
                    self.waiting.push(Reverse(self.ms + 100));
                } else {
                    done += 1;
                }
            }
            self.ms += 1;
        }
        (firsts, failures, done)
    }
}

#[test]
fn failed_retries_stay_within_the_budget() {
    // All fails, in each of ten windows: 20 % of 1000 records a second, and the floor.
    let mut traffic = Traffic::new(20, 1000);
    for window in 0..3 {
        let (firsts, failures, done) = traffic.run(10, 100);
        assert_eq!((firsts, done), (10_000, 0));
        assert!((2000..=2100).contains(&failures), "{failures} in window {window}");
    }
    // Half of the calls fail: half of the records are tried again, and again, and the budget is for 20 %.
    let mut traffic = Traffic::new(20, 1000);
    traffic.run(10, 50);
    let (firsts, failures, _) = traffic.run(20, 50);
    assert!(failures <= firsts / 5 + 300, "{failures} of {firsts}");
    // One of a hundred fails: no record waits for the budget.
    let mut traffic = Traffic::new(20, 1000);
    traffic.run(20, 1);
    assert!(traffic.waiting.len() < 20, "{}", traffic.waiting.len());
}

#[test]
fn a_record_that_fails_alone_is_tried_again_however_small_the_budget() {
    let mut traffic = Traffic::new(0, 1);
    let (_, failures, _) = traffic.run(10, 100);
    assert!((50..=100).contains(&failures), "{failures}");
    let (_, _, done) = traffic.run(2, 0);
    assert!(done >= 12 && traffic.waiting.len() < 2, "{done}, {} wait", traffic.waiting.len());
}

#[test]
fn what_waited_is_processed_fast_when_retries_succeed_again() {
    let mut traffic = Traffic::new(10, 1000);
    traffic.run(20, 100);
    // Nothing new comes, and all calls succeed.
    traffic.per_s = 0;
    let waiting = traffic.waiting.len() as u64;
    assert!(waiting > 15_000, "{waiting}");
    let (_, _, done) = traffic.run(20, 0);
    assert_eq!((done, traffic.waiting.len()), (waiting, 0));
}

#[test]
fn a_record_waits_for_the_budget_no_longer_than_for_all_attempts() {
    let retry = Retry::fixed(1.s()).budget(0).elapsed_max(10.s());
    let retry = retry.on::<Refused>(Retry::fixed(1.s()).elapsed_max(20.s()));
    let ask = |elapsed: Duration, failure: &Failure, random| {
        retry.admit(&Attempts { elapsed, ..after(1) }, failure, 1.s(), random)
    };
    for _ in 0..FLOOR {
        assert_eq!(ask(1.s(), &failed(), 7), Admission::Now);
    }
    assert_eq!(ask(1.s(), &failed(), 0), Admission::Later(250.ms()));
    assert_eq!(ask(1.s(), &failed(), u64::MAX), Admission::Later(750.ms()));
    assert_eq!(ask(9_751.ms(), &failed(), 0), Admission::GiveUp(Why::Elapsed));
    assert_eq!(ask(9_751.ms(), &caused(1), 0), Admission::Later(250.ms()));
    // Ten seconds later they count no more, and clones share what is left.
    let clone = retry.clone();
    for _ in 0..FLOOR {
        assert_eq!(clone.admit(&after(1), &failed(), 11.s(), 7), Admission::Now);
    }
    assert_eq!(retry.admit(&after(1), &failed(), 11.s(), 0), Admission::Later(250.ms()));
    // A time a little older than one that was seen does not bring back what was forgotten, nor does a long pause.
    assert_eq!(retry.admit(&after(1), &failed(), 5.s(), 0), Admission::Later(250.ms()));
    assert_eq!(retry.admit(&after(1), &failed(), Duration::MAX, 0), Admission::Now);
}

/// Retries of a window that are always allowed.
const FLOOR: u64 = 100;
