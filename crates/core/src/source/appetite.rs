//! How much one fetch asks for: little where answers come at once, so that what comes is read while it is in the
//! processor's caches; more where they are waited for, so that the way is full, and where the application is idle, so that
//! what a request costs matters less. Batches are asked for whole.

use std::time::Duration;

use crate::Instant;

/// The appetite for what one lane brings.
#[derive(Debug)]
pub(super) struct Appetite {
    ask: usize,
    seen: Seen,
    /// No answer began sooner than [`FAR`].
    is_far: bool,
    /// The largest batch of the last answer that had any.
    batch_bytes: usize,
    answer_bytes: usize,
}

/// Answers to what is asked for now. The shortest wait counts: longer ones are other programs' turns.
#[derive(Debug, Default)]
struct Seen {
    count: u32,
    shortest_wait: Duration,
    transfers: Duration,
    /// When the first one was there, and [`Arrival::idle`] then.
    since: Option<(Instant, Duration)>,
}

/// How an answer came that was all that was asked for.
#[derive(Debug)]
pub(super) struct Arrival {
    /// The application had nothing to do for so long until it began.
    pub wait: Duration,
    /// From its first byte to its last.
    pub transfer: Duration,
    /// When it was there.
    pub at: Instant,
    /// How long the application has waited in all for answers of any lane that were all that was asked for.
    pub idle: Duration,
}

/// The first fetch asks for this much: with what is around the batches it just fits half a MiB, and a few of them a
/// core's cache.
const START: usize = (512 << 10) - FRAME;
/// What an answer says beside batches, of a few hundred partitions.
const FRAME: usize = 16 << 10;
/// So many answers make a measurement.
const SAMPLES: u32 = 8;
/// Waits below this, or half a nanosecond for each byte, are the broker's work and the system's.
const NEARBY: Duration = Duration::from_millis(1);
/// Where no answer ever began sooner, two of them say as much as eight of others, and there is far to go.
const FAR: Duration = Duration::from_millis(3);
const SAMPLES_FAR: u32 = 2;
/// Where the application has nothing to do for half of the time and more, near brokers are asked for so much. It is
/// less again when that is a quarter of the time.
const BUSY_MAX: usize = (4 << 20) - FRAME;
/// Batches differ, and one may be cut off in vain. With this many before it that is under 2 %, as far as [`BUSY_MAX`].
const BATCHES_MIN: usize = 25;
/// Of batches from this size on as many as fit in [`LARGE_MIN`] are worth a fetch, or one that does not. One of 300 KB a
/// fetch leaves Kafka's threads and ours waiting for each other; 3 MB are cold when they are read.
const LARGE: usize = 256 << 10;
const LARGE_MIN: usize = (1 << 20) - FRAME;

impl Default for Appetite {
    fn default() -> Self {
        Self { ask: START, seen: Seen::default(), is_far: true, batch_bytes: 0, answer_bytes: 0 }
    }
}

impl Appetite {
    /// What to ask for.
    pub(super) fn ask(&self) -> usize {
        let is_large = self.batch_bytes >= LARGE;
        self.ask.max(if is_large { LARGE_MIN } else { (self.batch_bytes * BATCHES_MIN).min(BUSY_MAX) })
    }

    /// What to ask for where there is room for an answer of `bytes_max`, and no more than `limit` may be asked for.
    pub(super) fn ask_at_most(&self, bytes_max: usize, limit: usize) -> usize {
        whole_batches(self.ask().min(bytes_max.saturating_sub(FRAME)).min(limit).max(1), self.batch_bytes)
    }

    /// How large the answer to a fetch that asks for `asked` may become, going by the last one: a batch that is larger
    /// comes whole (KIP-74). Memory that is too small by a little would be copied.
    pub(super) fn expect(&self, asked: usize) -> usize {
        asked.max(self.answer_bytes) + FRAME
    }

    /// An answer came, of so many bytes, its largest batch being of `batch_bytes`.
    pub(super) fn handle_answer(&mut self, bytes: usize, batch_bytes: usize) {
        if bytes > 0 {
            (self.answer_bytes, self.batch_bytes) = (bytes, batch_bytes);
        }
    }

    /// The broker had less than it was asked for: while such a fetch waits, its room is of no use to others.
    pub(super) fn handle_short(&mut self) {
        self.ask = (self.ask / 2).max(START);
    }

    /// The broker had all it was asked for. No more than `limit` may be asked for.
    pub(super) fn handle_full(&mut self, arrival: &Arrival, limit: usize) {
        let Arrival { wait, transfer, at, idle } = *arrival;
        let seen = &mut self.seen;
        let (since, idle_before) = *seen.since.get_or_insert((at, idle));
        seen.shortest_wait = if seen.count == 0 { wait } else { seen.shortest_wait.min(wait) };
        seen.transfers += transfer;
        seen.count += 1;
        self.is_far &= wait > FAR;
        if seen.count < if self.is_far { SAMPLES_FAR } else { SAMPLES } {
            return;
        }
        let Seen { count, shortest_wait: wait, transfers, .. } = std::mem::take(&mut self.seen);
        let transfer = transfers / count;
        let (idle, elapsed) = (idle - idle_before, at - since);
        let nearby = NEARBY.max(Duration::from_nanos(self.ask() as u64 / 2));
        if wait > nearby && wait > transfer / 8 {
            let factor = if self.is_far { 8 } else { 2 };
            self.ask = self.ask.saturating_mul(factor).min(limit.max(START));
        } else if idle > elapsed / 2 && self.ask < BUSY_MAX {
            self.ask = (self.ask * 2).min(BUSY_MAX).min(limit.max(START));
        } else if (wait < nearby / 2 || wait < transfer / 32) && idle <= elapsed / 4 {
            self.ask = (self.ask / 2).max(START);
        }
    }
}

/// Brokers cut off where the limit is, and a batch that is not whole came in vain: as many batches as fit in `bytes`
/// where they take `batch_bytes` each, or just `bytes` where not even one does.
pub(super) fn whole_batches(bytes: usize, batch_bytes: usize) -> usize {
    match bytes.checked_rem(batch_bytes) {
        Some(rest) if rest < bytes => bytes - rest,
        _ => bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 50 << 20;

    /// An answer after `wait`, with an application that has something to do.
    fn arrive(appetite: &mut Appetite, wait: Duration, transfer: Duration) {
        let arrival = Arrival { wait, transfer, at: Instant::ORIGIN, idle: Duration::ZERO };
        appetite.handle_full(&arrival, LIMIT);
    }

    /// Asks 200 times over a way of this round trip and this many bytes per second: what is asked for in the end.
    fn after(appetite: &mut Appetite, round_trip: Duration, bytes_per_second: u64) -> usize {
        for turn in 0..200 {
            let transfer = Duration::from_nanos(appetite.ask() as u64 * 1_000_000_000 / bytes_per_second);
            // Every other answer waits for another program's turn.
            let turn = Duration::from_millis(turn % 2 * 4);
            appetite.handle_answer(appetite.ask(), 16 << 10);
            arrive(appetite, round_trip + turn, transfer);
        }
        appetite.ask()
    }

    #[test]
    fn it_grows_where_answers_are_waited_for_and_shrinks_where_not() {
        let mut appetite = Appetite::default();
        assert_eq!(after(&mut appetite, Duration::from_micros(100), 2 << 30), START);
        assert_eq!(after(&mut appetite, Duration::from_micros(900), 20 << 20), START, "slow, but nearby");
        let far = after(&mut appetite, Duration::from_millis(50), 1 << 30);
        assert_eq!(far, LIMIT);
        let nearer = after(&mut appetite, Duration::from_millis(5), 1 << 30);
        assert!((5 << 20..LIMIT).contains(&nearer), "the way is full: {nearer}");
        assert_eq!(after(&mut appetite, Duration::from_micros(10), 2 << 30), START);
    }

    #[test]
    fn far_brokers_are_known_after_a_few_answers() {
        let mut appetite = Appetite::default();
        let mut answers = 0;
        while appetite.ask() < LIMIT {
            arrive(&mut appetite, Duration::from_millis(50), Duration::from_millis(3));
            answers += 1;
            assert!(answers <= 8, "{answers}");
        }
        // Other programs' turns are no way.
        let mut appetite = Appetite::default();
        for index in 0..100 {
            let wait = Duration::from_millis(if index % 4 == 0 { 0 } else { 20 });
            arrive(&mut appetite, wait, Duration::ZERO);
        }
        assert_eq!(appetite.ask(), START);
    }

    #[test]
    fn an_answer_fits_what_is_expected_and_what_there_is_room_for() {
        let mut appetite = Appetite::default();
        assert_eq!(appetite.expect(appetite.ask()), START + FRAME);
        assert_eq!(appetite.ask_at_most(100_000, LIMIT), 100_000 - FRAME);
        assert_eq!(appetite.ask_at_most(100_000, 50_000), 50_000);
        assert_eq!(appetite.ask_at_most(10, LIMIT), 1, "brokers take nothing less");
        appetite.handle_answer(5_000_000, 5_000_000);
        assert_eq!(appetite.expect(LARGE_MIN), 5_000_000 + FRAME);
    }

    #[test]
    fn no_batch_is_asked_for_in_part() {
        let mut appetite = Appetite::default();
        appetite.handle_answer(480_000, 16_300);
        assert_eq!(appetite.ask_at_most(LIMIT, LIMIT), 31 * 16_300);
        assert_eq!(appetite.ask_at_most(40_000 + FRAME, LIMIT), 2 * 16_300);
        assert_eq!(appetite.ask_at_most(16_000 + FRAME, LIMIT), 16_000, "one comes, whole");
        assert_eq!((whole_batches(100, 0), whole_batches(100, 100), whole_batches(99, 100)), (100, 100, 99));
    }

    #[test]
    fn an_application_that_waits_no_more_is_given_less() {
        let mut appetite = Appetite::default();
        assert_eq!(after(&mut appetite, Duration::from_millis(50), 1 << 30), LIMIT);
        for _ in 0..100 {
            arrive(&mut appetite, Duration::ZERO, Duration::from_millis(8));
        }
        assert_eq!(appetite.ask(), START);

        after(&mut appetite, Duration::from_millis(50), 1 << 30);
        (0..7).for_each(|_| appetite.handle_short());
        assert_eq!(appetite.ask(), START, "it has read all there is");
    }

    #[test]
    fn batches_are_asked_for_whole_or_in_such_number_that_one_cut_off_does_not_matter() {
        let mut appetite = Appetite::default();
        let mut ask = |batch_bytes| {
            appetite.handle_answer(batch_bytes, batch_bytes);
            appetite.ask_at_most(LIMIT, LIMIT)
        };
        assert_eq!(ask(5_000_000), LARGE_MIN, "one comes, whole");
        assert_eq!(ask(1_000_000), 1_000_000);
        assert_eq!(ask(300_000), 3 * 300_000);
        assert_eq!(ask(16 << 10), START);
        assert_eq!(ask(64 << 10), 25 * (64 << 10));
        assert_eq!(ask(200_000), BUSY_MAX / 200_000 * 200_000);
    }

    #[test]
    fn an_application_that_waits_half_of_the_time_is_given_more() {
        let mut appetite = Appetite::default();
        let (mut at, mut idle) = (Instant::ORIGIN, Duration::ZERO);
        let mut after = |percent: u32| {
            for _ in 0..200 {
                at += Duration::from_micros(100);
                idle += Duration::from_micros(u64::from(percent));
                let (wait, transfer) = (Duration::from_micros(50), Duration::ZERO);
                appetite.handle_full(&Arrival { wait, transfer, at, idle }, LIMIT);
            }
            appetite.ask()
        };
        assert_eq!(after(45), START);
        let more = after(60);
        assert_eq!(more, BUSY_MAX);
        assert_eq!(after(30), more, "that is what it is good for");
        assert_eq!(after(20), START);
    }
}
