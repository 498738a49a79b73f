//! Whether a record that failed is tried again, and when.
//!
//! ```text
//! Failure ─▶ class and policy (rules) ─▶ attempts and elapsed time left? ─▶ delay (jitter) ─▶ budget ─▶ the next attempt
//! ```
//!
//! It has no clock, no timers and no randomness: times and random numbers are arguments.

mod budget;
mod jitter;
mod rules;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::time::Duration;

pub(crate) use self::budget::Budget;
use self::jitter::{Jitter, between};
use self::rules::{Rules, Verdict};
use crate::{Class, Failure};

/// How often and after which delays a record is tried again in place, before it is put aside.
///
/// ```
/// use milena_pipeline::prelude::*;
///
/// // Five calls in all. The delays are random: at most 100 ms, 200 ms, 400 ms and 800 ms.
/// let retry = Retry::exponential(100.ms(), 10.s()).attempts(5);
/// # let _ = retry;
/// ```
///
/// A failure that the handler calls [poison](Failure::poison) or [fatal](Failure::fatal) is not tried again. Which of the other
/// failures are, and how, can differ by the type of the error: see [`on`](Self::on), [`classify`](Self::classify) and
/// [`choose`](Self::choose).
///
/// Clones share their [budget](Self::budget), if there is one.
#[derive(Debug, Clone)]
pub struct Retry {
    /// The delay before the first retry.
    first: Duration,
    /// No delay is longer.
    max: Duration,
    /// Each delay is this many times the one before.
    factor: f64,
    jitter: Jitter,
    calls_max: Option<u32>,
    elapsed_max: Option<Duration>,
    rules: Rules,
    budget: Option<Budget>,
}

/// What has been tried with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Attempts {
    /// Calls of the handler, the one that just failed included.
    pub(crate) calls: u32,
    /// Time since the first call began.
    pub(crate) elapsed: Duration,
    /// The delay before the last call, if that was a retry.
    pub(crate) last_delay: Option<Duration>,
}

/// What to do with a record that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Wait this long, then ask [`Retry::admit`] whether the attempt may begin.
    After(Duration),
    /// Put it aside.
    GiveUp(Why),
    /// The failure is fatal: stop, and leave the record uncommitted.
    Stop,
}

/// Why no attempt follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Why {
    /// The failure is of the class [`Class::Poison`].
    Poison,
    /// All attempts were made.
    Attempts,
    /// The next attempt would begin after the time for all attempts.
    Elapsed,
}

/// Whether an attempt whose delay has passed may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It may, and it is counted.
    Now,
    /// The budget is used up: ask again after this long.
    Later(Duration),
    /// While it waited for the budget, the time for all attempts has passed.
    GiveUp(Why),
}

/// The default of [`Retry::attempts`].
const CALLS: u32 = 5;

/// A record that waits for the budget asks again after 0.5 to 1.5 times this.
const ASK_AGAIN: Duration = Duration::from_millis(500);

impl Retry {
    /// One call, and no retry.
    pub fn never() -> Self {
        Self::fixed(Duration::ZERO).attempts(1)
    }

    /// The same delay before each retry, [five calls](Self::attempts) in all, no jitter.
    pub fn fixed(delay: Duration) -> Self {
        Self::with(delay, delay, 1.0, Jitter::None)
    }

    /// `first` before the first retry, and twice as long before each that follows, up to `max`; [five calls](Self::attempts) in
    /// all, [full jitter](Self::full_jitter).
    ///
    /// A `max` below `first` counts as `first`.
    pub fn exponential(first: Duration, max: Duration) -> Self {
        Self::with(first, max.max(first), 2.0, Jitter::Full)
    }

    fn with(first: Duration, max: Duration, factor: f64, jitter: Jitter) -> Self {
        let (calls_max, elapsed_max) = (Some(CALLS), None);
        Self { first, max, factor, jitter, calls_max, elapsed_max, rules: Rules::default(), budget: None }
    }

    /// How many times longer than the one before each delay is. Default 2 for [`exponential`](Self::exponential), 1 for
    /// [`fixed`](Self::fixed), whose delays stay at their first whatever the factor. A factor below 1, or that is no number,
    /// counts as 1.
    pub fn factor(mut self, factor: f64) -> Self {
        // `max` is the number when the other is NaN.
        self.factor = factor.max(1.0);
        self
    }

    /// How often the handler is called for a record at most, the first call included. Default 5. 0 counts as 1.
    pub fn attempts(mut self, count: u32) -> Self {
        self.calls_max = Some(count.max(1));
        self
    }

    /// The handler is called until the record succeeds, or until [`elapsed_max`](Self::elapsed_max). The record's partition, or
    /// the records of the same key, wait as long.
    pub fn without_limit(mut self) -> Self {
        self.calls_max = None;
        self
    }

    /// No attempt begins later than this after the first one began. A record whose next delay would end later is given up at
    /// once. Default: no such limit.
    pub fn elapsed_max(mut self, elapsed: Duration) -> Self {
        self.elapsed_max = Some(elapsed);
        self
    }

    /// The delays themselves. Records that failed at the same time are tried again at the same time.
    pub fn no_jitter(mut self) -> Self {
        self.jitter = Jitter::None;
        self
    }

    /// A random duration from zero to the delay. It spreads retries best, and its mean is half of the delay. Default of
    /// [`exponential`](Self::exponential).
    pub fn full_jitter(mut self) -> Self {
        self.jitter = Jitter::Full;
        self
    }

    /// A random duration from half of the delay to all of it: never soon after a failure. Its mean is three quarters of the
    /// delay.
    pub fn equal_jitter(mut self) -> Self {
        self.jitter = Jitter::Equal;
        self
    }

    /// A random duration from the first delay to three times the one before it, and at most the longest delay. The
    /// [factor](Self::factor) is not used.
    pub fn decorrelated_jitter(mut self) -> Self {
        self.jitter = Jitter::Decorrelated;
        self
    }

    /// Errors of type `E`, and errors that were caused by one, are tried again as `retry` says, whose own rules and budget are not
    /// looked at.
    ///
    /// All rules are asked about the outermost error first, in the order in which they were added, then about its
    /// [`source`](Error::source), and so on: the first that has something to say decides. They are not asked about failures
    /// that the handler calls [poison](Failure::poison) or [fatal](Failure::fatal).
    ///
    /// ```
    /// use milena_pipeline::prelude::*;
    ///
    /// let retry = Retry::exponential(100.ms(), 10.s())
    ///     // A database that is not there comes back within minutes.
    ///     .on::<std::io::Error>(Retry::exponential(1.s(), 30.s()).elapsed_max(10.minutes()).without_limit());
    /// # let _ = retry;
    /// ```
    ///
    /// An `anyhow::Error` that `?` converts hides the type of its outermost error. Rules see that type when the error is
    /// converted by its method `reallocate_into_boxed_dyn_error_without_backtrace`, and the types of its causes in any case.
    pub fn on<E: Error + 'static>(mut self, mut retry: Self) -> Self {
        // Without them the policy is copied for each failure without an allocation.
        (retry.rules, retry.budget) = (Rules::default(), None);
        self.rules.add(move |_: &E| Some(Verdict::Retry(retry.clone())));
        self
    }

    /// Errors of type `E`, and errors that were caused by one, are of this class.
    ///
    /// ```
    /// use milena_pipeline::Class;
    /// use milena_pipeline::prelude::*;
    ///
    /// // What is not UTF-8 never becomes it.
    /// let retry = Retry::exponential(100.ms(), 10.s()).classify::<std::str::Utf8Error>(Class::Poison);
    /// # let _ = retry;
    /// ```
    ///
    /// [`on`](Self::on) says in which order rules are asked.
    pub fn classify<E: Error + 'static>(mut self, class: Class) -> Self {
        self.rules.add(move |_: &E| Some(Verdict::Class(class)));
        self
    }

    /// Errors of type `E`, and errors that were caused by one, are of the class that `class` says. With `None` the next rule is
    /// asked.
    ///
    /// ```
    /// use milena_pipeline::Class;
    /// use milena_pipeline::prelude::*;
    /// use std::io;
    ///
    /// let retry = Retry::exponential(100.ms(), 10.s()).classify_by(|error: &io::Error| match error.kind() {
    ///     io::ErrorKind::InvalidData => Some(Class::Poison),
    ///     io::ErrorKind::PermissionDenied => Some(Class::Fatal),
    ///     _ => None,
    /// });
    /// # let _ = retry;
    /// ```
    ///
    /// [`on`](Self::on) says in which order rules are asked.
    pub fn classify_by<E: Error + 'static>(
        mut self,
        class: impl Fn(&E) -> Option<Class> + Send + Sync + 'static,
    ) -> Self {
        self.rules.add(move |error: &E| class(error).map(Verdict::Class));
        self
    }

    /// Errors of type `E`, and errors that were caused by one, are tried again as the policy says that `choose` makes of them, for
    /// example because a server has said when to come again. With `None` the next rule is asked.
    ///
    /// ```
    /// use milena_pipeline::prelude::*;
    /// use std::time::Duration;
    ///
    /// #[derive(Debug)]
    /// struct TooMany { retry_after: Duration }
    /// # impl std::fmt::Display for TooMany {
    /// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("too many requests") }
    /// # }
    /// impl std::error::Error for TooMany {}
    ///
    /// let retry = Retry::exponential(100.ms(), 10.s())
    ///     .choose(|error: &TooMany| Some(Retry::fixed(error.retry_after).attempts(10)));
    /// # let _ = retry;
    /// ```
    ///
    /// [`on`](Self::on) says in which order rules are asked.
    pub fn choose<E: Error + 'static>(
        mut self,
        choose: impl Fn(&E) -> Option<Self> + Send + Sync + 'static,
    ) -> Self {
        self.rules.add(move |error: &E| choose(error).map(Verdict::Retry));
        self
    }

    /// Of a hundred records, at most `percent` retries that fail: what the handlers call is not burdened with many retries while
    /// it is down. Default: no budget.
    ///
    /// Records and retries of the last 10 seconds count, of all clones of this policy together. 10 retries per second are
    /// allowed in any case, so that a record that fails alone is tried again. A retry that succeeds does not count, so that
    /// records which waited are processed as fast as they succeed.
    ///
    /// A record whose retry is not in the budget **waits** for it; the wait is no attempt. It is not given up, because then an
    /// outage would empty the topic into the dead letters. While it waits, intake stops when the pipeline has as many records
    /// as it may hold, and [`elapsed_max`](Self::elapsed_max) still ends the wait.
    pub fn budget(mut self, percent: u32) -> Self {
        self.budget = Some(Budget::new(percent));
        self
    }

    /// Decides what follows a call that failed. `random` is any number, another each time.
    ///
    /// A failure that [does not count](Failure::not_counted) is always tried again; `attempts` does not count its call.
    pub(crate) fn next(&self, attempts: &Attempts, failure: &Failure, random: u64) -> Next {
        if !failure.is_counted() {
            return Next::After(self.delay(attempts, random));
        }
        match self.verdict(failure) {
            Verdict::Class(Class::Fatal) => Next::Stop,
            Verdict::Class(Class::Poison) => Next::GiveUp(Why::Poison),
            Verdict::Class(Class::Retriable) => self.again(attempts, random),
            Verdict::Retry(other) => other.again(attempts, random),
        }
    }

    /// The class of a failure, by what the handler says and then by the rules.
    pub(crate) fn class(&self, failure: &Failure) -> Class {
        match self.verdict(failure) {
            Verdict::Class(class) => class,
            Verdict::Retry(_) => Class::Retriable,
        }
    }

    /// `count` records were handed to the handler for the first time, at `now` on the pipeline's clock.
    pub(crate) fn first_calls(&self, count: u64, now: Duration) {
        if let Some(budget) = &self.budget {
            budget.first_calls(count, now);
        }
    }

    /// Whether an attempt may begin whose delay, as [`next`](Self::next) said it, has passed. `attempts` has the time that has
    /// elapsed since, and `failure` is the one that `next` was asked about.
    pub(crate) fn admit(
        &self,
        attempts: &Attempts,
        failure: &Failure,
        now: Duration,
        random: u64,
    ) -> Admission {
        let Some(budget) = &self.budget else { return Admission::Now };
        if budget.take(now) {
            return Admission::Now;
        }
        let wait = between(ASK_AGAIN / 2, ASK_AGAIN * 3 / 2, random);
        let elapsed_max = match self.verdict(failure) {
            Verdict::Retry(other) => other.elapsed_max,
            Verdict::Class(_) => self.elapsed_max,
        };
        match elapsed_max {
            Some(max) if attempts.elapsed.saturating_add(wait) > max => Admission::GiveUp(Why::Elapsed),
            _ => Admission::Later(wait),
        }
    }

    /// A retry was a success, at `now` on the pipeline's clock.
    pub(crate) fn retry_succeeded(&self, now: Duration) {
        if let Some(budget) = &self.budget {
            budget.give_back(now);
        }
    }

    fn verdict(&self, failure: &Failure) -> Verdict {
        match failure.class() {
            Class::Retriable => self.rules.verdict(failure).unwrap_or(Verdict::Class(Class::Retriable)),
            said => Verdict::Class(said),
        }
    }

    fn again(&self, attempts: &Attempts, random: u64) -> Next {
        if self.calls_max.is_some_and(|max| attempts.calls >= max) {
            return Next::GiveUp(Why::Attempts);
        }
        let delay = self.delay(attempts, random);
        match self.elapsed_max {
            Some(max) if attempts.elapsed.saturating_add(delay) > max => Next::GiveUp(Why::Elapsed),
            _ => Next::After(delay),
        }
    }

    fn delay(&self, attempts: &Attempts, random: u64) -> Duration {
        let whole = self.whole_delay(attempts.calls);
        match self.jitter {
            Jitter::None => whole,
            Jitter::Full => between(Duration::ZERO, whole, random),
            Jitter::Equal => between(whole / 2, whole, random),
            Jitter::Decorrelated => {
                // The delay before may be another policy's.
                let last = attempts.last_delay.unwrap_or(self.first).clamp(self.first, self.max);
                between(self.first, last.saturating_mul(3), random).min(self.max)
            }
        }
    }

    /// The delay after this many calls, before jitter.
    fn whole_delay(&self, calls: u32) -> Duration {
        let exponent = i32::try_from(calls.saturating_sub(1)).unwrap_or(i32::MAX);
        if exponent == 0 || self.first.is_zero() {
            return self.first;
        }
        // What a duration cannot hold, infinity included, is over the maximum.
        let factor = self.factor.powi(exponent);
        Duration::try_from_secs_f64(self.first.as_secs_f64() * factor).map_or(self.max, |it| it.min(self.max))
    }
}
