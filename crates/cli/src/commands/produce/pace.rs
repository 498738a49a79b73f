//! `--rate`: when the next record is due. It is pure: the time is an argument.

use std::time::{Duration, Instant};

/// Records at even distances.
#[derive(Debug)]
pub(crate) struct Pace {
    between: Duration,
    due: Option<Instant>,
}

/// What may be made up for when sending was held up. Timers are no finer than a millisecond, so that fast rates must make up
/// for it; and after a pause of the input its records must not come in a burst.
const BEHIND_MAX: Duration = Duration::from_millis(20);

impl Pace {
    pub(crate) fn new(per_second: f64) -> Self {
        Self { between: Duration::from_secs_f64(1.0 / per_second), due: None }
    }

    /// When the record that could be sent `now` is due.
    pub(crate) fn next(&mut self, now: Instant) -> Instant {
        let due = match self.due {
            None => now,
            Some(last) => (last + self.between).max(now.checked_sub(BEHIND_MAX).unwrap_or(now)),
        };
        self.due = Some(due);
        due
    }
}

/// Reads `--rate`.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    // A record in eleven days, and more than a core can cut.
    let is_possible = |rate: &f64| (1e-6..=1e8).contains(rate);
    text.parse().ok().filter(is_possible).ok_or_else(|| "write records per second, as in 1000 or 0.5".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_due_at_even_distances_whatever_each_takes() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut pace = Pace::new(100.0);
        assert_eq!(pace.next(at(0)), at(0));
        assert_eq!(pace.next(at(1)), at(10));
        assert_eq!(pace.next(at(29)), at(20), "a little late is made up for");
        assert_eq!(pace.next(at(29)), at(30));
        assert_eq!(pace.next(at(1000)), at(980), "a pause is not");
        assert_eq!(pace.next(at(1000)), at(990));
    }

    #[test]
    fn rates_are_positive_numbers() {
        assert_eq!((rate("0.5"), rate("1000")), (Ok(0.5), Ok(1000.0)));
        for text in ["0", "-1", "x", "", "inf", "nan", "1e12"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }
}
