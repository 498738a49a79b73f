//! How much one fetch asks for: little where round trips are short, so that what comes is read while it is in the
//! processor's caches; more where they are long, as long as more makes it faster.

use std::time::Duration;

/// The appetite for what one lane brings.
#[derive(Debug)]
pub(super) struct Appetite {
    ask: usize,
    /// The rate of half the size, while looking for a better one; or the rate once found.
    rate: Option<u64>,
    is_settled: bool,
    /// Full answers of the present size: how many, their bytes, their time.
    seen: (u32, usize, Duration),
    /// The largest batch of the last answer that had any.
    batch_bytes: usize,
    answer_bytes: usize,
}

/// The first fetch asks for this much: a few of them fit a core's cache.
const START: usize = 512 << 10;
/// Full answers that make a measurement.
const SAMPLES: u32 = 4;
/// Brokers cut the last batch off where the limit is, in vain. With this many batches before it that is under 2 %.
const BATCHES_MIN: usize = 25;

impl Default for Appetite {
    fn default() -> Self {
        let seen = (0, 0, Duration::ZERO);
        Self { ask: START, rate: None, is_settled: false, seen, batch_bytes: 0, answer_bytes: 0 }
    }
}

impl Appetite {
    /// What to ask for.
    pub(super) fn ask(&self) -> usize {
        // A batch that is larger than asked for comes whole and alone (KIP-74): nothing is cut off.
        if self.batch_bytes < self.ask { self.ask.max(self.batch_bytes * BATCHES_MIN) } else { self.ask }
    }

    /// What may come of it, going by what came last.
    pub(super) fn expect(&self) -> usize {
        self.ask().max(self.answer_bytes)
    }

    /// An answer of `bytes` came `elapsed` after it was asked for, of batches up to `batch_bytes`; no more than
    /// `limit` may be asked for.
    pub(super) fn handle_answer(
        &mut self,
        asked: usize,
        bytes: usize,
        batch_bytes: usize,
        elapsed: Duration,
        limit: usize,
    ) {
        if bytes == 0 {
            return;
        }
        self.answer_bytes = bytes;
        self.batch_bytes = batch_bytes;
        // A broker that has less than it was asked for says nothing of the way to it.
        if bytes < asked / 4 * 3 {
            return;
        }
        let (count, total, time) = &mut self.seen;
        (*count, *total, *time) = (*count + 1, *total + bytes, *time + elapsed);
        if *count < SAMPLES {
            return;
        }
        let rate = *total as u128 * 1_000_000 / time.as_micros().max(1);
        self.seen = (0, 0, Duration::ZERO);
        self.handle_rate(u64::try_from(rate).unwrap_or(u64::MAX), limit);
    }

    fn handle_rate(&mut self, rate: u64, limit: usize) {
        match self.rate {
            // The way changed: look again.
            Some(known) if self.is_settled => {
                if rate < known / 2 || rate / 2 > known {
                    (self.rate, self.is_settled) = (None, false);
                }
            }
            // Twice as much made little difference.
            Some(half) if rate < half / 4 * 5 => {
                self.ask /= 2;
                self.is_settled = true;
            }
            _ if self.ask.saturating_mul(2) > limit => (self.rate, self.is_settled) = (Some(rate), true),
            _ => {
                self.rate = Some(rate);
                self.ask *= 2;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 50 << 20;

    /// Asks 200 times over a way of this round trip and this many bytes per second: what is asked for in the end.
    fn after(appetite: &mut Appetite, round_trip: Duration, bytes_per_second: u64) -> usize {
        for _ in 0..200 {
            let asked = appetite.ask().min(LIMIT);
            let transfer = Duration::from_nanos(asked as u64 * 1_000_000_000 / bytes_per_second);
            appetite.handle_answer(asked, asked, 16 << 10, round_trip + transfer, LIMIT);
        }
        appetite.ask()
    }

    #[test]
    fn it_grows_while_round_trips_are_what_takes_the_time() {
        let mut appetite = Appetite::default();
        let nearby = after(&mut appetite, Duration::from_micros(50), 1 << 30);
        assert_eq!(nearby, START);
        let slow = after(&mut appetite, Duration::from_micros(200), 20 << 20);
        assert_eq!(slow, START, "a slow way is slow whatever is asked for");
        let far = after(&mut appetite, Duration::from_millis(50), 1 << 30);
        assert!(far >= 16 << 20, "{far}");
        assert!(far <= LIMIT, "{far}");
    }

    #[test]
    fn batches_are_asked_for_whole_or_in_such_number_that_one_cut_off_does_not_matter() {
        let mut appetite = Appetite::default();
        let mut ask = |batch_bytes| {
            appetite.handle_answer(START, batch_bytes, batch_bytes, Duration::ZERO, LIMIT);
            appetite.ask()
        };
        assert_eq!(ask(1_000_000), START, "one comes, whole");
        assert_eq!(ask(16 << 10), START);
        assert_eq!(ask(64 << 10), 25 * (64 << 10));
        assert_eq!(appetite.expect(), 25 * (64 << 10));
    }

    #[test]
    fn brokers_that_have_little_say_nothing() {
        let mut appetite = Appetite::default();
        for _ in 0..100 {
            appetite.handle_answer(START, 1000, 1000, Duration::from_millis(500), LIMIT);
        }
        assert_eq!(appetite.ask(), START);
    }
}
