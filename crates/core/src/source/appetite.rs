//! How much one fetch asks for.
//!
//! Little where answers come at once, so that the records are read while they are in the processor's caches. More where
//! the application waits for answers: over a far way, so that there is always something on it; and from a near broker,
//! so that the fixed cost of a request matters less. A limit is a whole number of batches where possible, because the
//! batch that is cut off at the limit came in vain.

use std::time::Duration;

use crate::Instant;

/// How much the next fetch of one lane asks for.
#[derive(Debug)]
pub(super) struct Appetite {
    ask: usize,
    seen: Seen,
    /// Every answer so far took longer than [`FAR`] to begin.
    is_far: bool,
    /// The size of the largest batch in the last answer that had records, and the size of that answer.
    batch_bytes: usize,
    answer_bytes: usize,
}

/// Answers since `ask` was last looked at. The shortest wait counts: in longer ones the process, or the broker, did not
/// run.
#[derive(Debug, Default)]
struct Seen {
    count: u32,
    shortest_wait: Duration,
    transfers: Duration,
    /// When the first of them was complete, and [`Arrival::idle`] at that time.
    since: Option<(Instant, Duration)>,
}

/// How an answer arrived that brought all that was asked for.
#[derive(Debug)]
pub(super) struct Arrival {
    /// How long the application had nothing to do before the answer began.
    pub wait: Duration,
    /// From its first byte to its last.
    pub transfer: Duration,
    /// When it was complete.
    pub at: Instant,
    /// How long the application has waited, in all, for answers of any lane that brought all that was asked for.
    pub idle: Duration,
}

/// The first fetch asks for this much. With the rest of the answer it just fits half a MiB, and a few answers fit a
/// core's cache.
const START: usize = (512 << 10) - FRAME;
/// The size of an answer about a few hundred partitions without the batches.
const FRAME: usize = 16 << 10;
/// A decision is made after this many answers.
const SAMPLES: u32 = 8;
/// A wait of up to this, or of half a nanosecond for each byte asked for, is the work of the broker and the system, and
/// a larger fetch would not shorten it.
const NEARBY: Duration = Duration::from_millis(1);
/// If no answer ever began sooner than this, the broker is far away. Then a decision is made after two answers, and
/// `ask` grows by a factor of eight.
const FAR: Duration = Duration::from_millis(3);
const SAMPLES_FAR: u32 = 2;
/// The most to ask a near broker for. `ask` grows up to this while the application has nothing to do for more than half
/// of the time, and shrinks when that is less than a quarter of the time.
const BUSY_MAX: usize = (4 << 20) - FRAME;
/// Where batches differ in size the last one is cut off. With 25 whole ones before it that is under 2 % of the bytes,
/// so at least this many are asked for, as far as [`BUSY_MAX`] allows.
const BATCHES_MIN: usize = 25;
/// A fetch of batches of this size or more asks for as many whole batches as fit in [`LARGE_MIN`], and for one if none
/// fits. With one batch of 300 KB per fetch Kafka's threads and ours wait for each other. 3 MB are cold when they are
/// read.
const LARGE: usize = 256 << 10;
const LARGE_MIN: usize = (1 << 20) - FRAME;

impl Default for Appetite {
    fn default() -> Self {
        Self { ask: START, seen: Seen::default(), is_far: true, batch_bytes: 0, answer_bytes: 0 }
    }
}

impl Appetite {
    /// How many bytes to ask for, if there is room.
    pub(super) fn ask(&self) -> usize {
        let is_large = self.batch_bytes >= LARGE;
        self.ask.max(if is_large { LARGE_MIN } else { (self.batch_bytes * BATCHES_MIN).min(BUSY_MAX) })
    }

    /// How many bytes to ask for when there is room for an answer of `bytes_max`, and the settings allow `limit`.
    pub(super) fn ask_at_most(&self, bytes_max: usize, limit: usize) -> usize {
        whole_batches(self.ask().min(bytes_max.saturating_sub(FRAME)).min(limit).max(1), self.batch_bytes)
    }

    /// How large the answer to a fetch of `asked` bytes may become, going by the last one: a first batch comes whole
    /// (KIP-74). Memory that is a little too small would be copied to a buffer of twice the size.
    pub(super) fn expect(&self, asked: usize) -> usize {
        asked.max(self.answer_bytes) + FRAME
    }

    /// An answer had `bytes` of records, and its largest batch has `batch_bytes`.
    pub(super) fn handle_answer(&mut self, bytes: usize, batch_bytes: usize) {
        if bytes > 0 {
            (self.answer_bytes, self.batch_bytes) = (bytes, batch_bytes);
        }
    }

    /// The broker had less than it was asked for. While such a fetch waits, other lanes cannot use the room it was
    /// given.
    pub(super) fn handle_short(&mut self) {
        self.ask = (self.ask / 2).max(START);
    }

    /// The broker had all that it was asked for. The settings allow `limit`.
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
        // Three cases, in this order: the way is not full; the broker is near and the application idle; answers come at
        // once and the application is busy, so that less is better for the caches. Otherwise `ask` stays.
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

/// The size of as many batches of `batch_bytes` as fit in `bytes`, or `bytes` if not even one fits. Brokers cut an
/// answer off at its limit, and the part of a batch before it comes in vain.
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
            // Before every other answer the process does not run for a while.
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
        // Time that the process did not run does not count as time on the network.
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
