//! How much came in the last seconds, measured as Kafka does (`Rate` over `WindowedSum`): in samples of a second each, of which the
//! last eleven count.
//!
//! ```text
//!  rate = sum of the samples / time since the oldest one began, but at least ten seconds
//! ```

use std::time::{Duration, Instant};

/// The samples that count (`quota.window.num`).
pub(super) const SAMPLES: u32 = 11;

/// How long a sample lasts (`quota.window.size.seconds`).
pub(super) const SAMPLE: Duration = Duration::from_secs(1);

/// What came, by samples.
#[derive(Debug, Clone, Default)]
pub(super) struct Rate {
    /// At most one more than count: the oldest one may have begun before the time that counts.
    samples: Vec<Sample>,
    /// The index of the newest one.
    newest: usize,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    began: Instant,
    /// When something was added last.
    touched: Instant,
    sum: f64,
}

impl Sample {
    fn new(now: Instant) -> Self {
        Self { began: now, touched: now, sum: 0.0 }
    }
}

impl Rate {
    /// Adds `value`, which may be negative to take back one that was added.
    pub(super) fn add(&mut self, value: f64, now: Instant) {
        match self.samples.get(self.newest) {
            None => self.samples.push(Sample::new(now)),
            Some(newest) if now.saturating_duration_since(newest.began) >= SAMPLE => {
                self.newest = (self.newest + 1) % (SAMPLES as usize + 1);
                match self.samples.get_mut(self.newest) {
                    Some(oldest) => *oldest = Sample::new(now),
                    None => self.samples.push(Sample::new(now)),
                }
            }
            Some(_) => {}
        }
        let newest = &mut self.samples[self.newest];
        newest.sum += value;
        newest.touched = now;
    }

    /// How long to wait until the rate is `limit` again, if it is above it.
    pub(super) fn excess(&mut self, limit: f64, now: Instant) -> Duration {
        for sample in &mut self.samples {
            if now.saturating_duration_since(sample.touched) >= SAMPLE * SAMPLES {
                *sample = Sample::new(now);
            }
        }
        let sum: f64 = self.samples.iter().map(|sample| sample.sum).sum();
        let window = self.window(now).as_secs_f64();
        let rate = sum / window;
        if rate > limit {
            // To the millisecond, in which it is told.
            let wait_ms = ((rate - limit) / limit * window * 1000.0).round();
            return Duration::from_millis(wait_ms.min(f64::from(i32::MAX)) as u64);
        }
        Duration::ZERO
    }

    /// Whether nothing of it counts any more.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        let is_over = |sample: &Sample| now.saturating_duration_since(sample.touched) >= SAMPLE * SAMPLES;
        self.samples.iter().all(is_over)
    }

    /// When something was added last.
    pub(super) fn touched(&self) -> Option<Instant> {
        self.samples.iter().map(|sample| sample.touched).max()
    }

    /// The time that the samples stand for.
    fn window(&self, now: Instant) -> Duration {
        let oldest = self.samples.iter().map(|sample| sample.began).min().unwrap_or(now);
        let elapsed = now.saturating_duration_since(oldest);
        // A client that has just begun has as much as one that was silent so far.
        let whole = (elapsed.as_millis() / SAMPLE.as_millis()) as u32;
        (elapsed + SAMPLE * (SAMPLES - 1).saturating_sub(whole)).max(Duration::from_millis(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_burst_is_waited_out() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        // Ten seconds' worth at once is within the limit, and one more is not.
        rate.add(1000.0, start);
        assert_eq!(rate.excess(100.0, start), ms(0));
        rate.add(100.0, start);
        assert_eq!(rate.excess(100.0, start), ms(1000));
        rate.add(-100.0, start);
        assert_eq!(rate.excess(100.0, start), ms(0));
        rate.add(900.0, start + ms(500));
        // 1900 in 10.5 seconds: 19 seconds are needed.
        assert_eq!(rate.excess(100.0, start + ms(500)), ms(8500));
    }

    #[test]
    fn old_samples_do_not_count() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        for second in 0..40 {
            rate.add(100.0, start + ms(1000 * second));
        }
        let end = start + ms(39_000);
        assert_eq!(rate.touched(), Some(end));
        // Twelve samples of a second at most, the last of which has just begun.
        assert_eq!(rate.excess(100.0, end), ms(1000));
        assert_eq!(rate.samples.len(), 12);
        assert!(!rate.is_over(end + ms(10_999)) && rate.is_over(end + ms(11_000)));
        assert_eq!(rate.excess(0.001, end + ms(11_000)), ms(0));
    }

    #[test]
    fn a_limit_that_is_far_exceeded_gives_a_long_wait_and_no_overflow() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        rate.add(1e30, start);
        assert_eq!(rate.excess(1e-300, start), ms(i32::MAX as u64));
    }
}
