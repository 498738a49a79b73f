//! Two counts over a window of time that slides.

use std::time::Duration;

/// Counts of the last `N` ticks: what happened, by kind. Times are durations since a moment that all callers agree on.
#[derive(Debug)]
pub(crate) struct Window<const N: usize> {
    /// How long a tick is.
    tick: Duration,
    /// The slot of tick `t` is `t % N`.
    slots: [[u64; 2]; N],
    newest: u64,
}

impl<const N: usize> Window<N> {
    /// A window of this length. One shorter than `N` nanoseconds counts as that.
    pub(crate) fn new(length: Duration) -> Self {
        let tick = (length / u32::try_from(N).unwrap_or(u32::MAX)).max(Duration::from_nanos(1));
        Self { tick, slots: [[0; 2]; N], newest: 0 }
    }

    /// Forgets what is older than the window. Tasks read the clock before they come here, so a time may be a little older than
    /// one that was seen; it counts as the newest.
    pub(crate) fn advance(&mut self, now: Duration) {
        let tick = u64::try_from(now.as_nanos() / self.tick.as_nanos()).unwrap_or(u64::MAX);
        let passed = tick.saturating_sub(self.newest).min(N as u64);
        for ahead in 0..passed {
            *self.slot(tick - ahead) = [0; 2];
        }
        self.newest = self.newest.max(tick);
    }

    /// Counts `count` of `kind` (0 or 1) as of the time last given.
    pub(crate) fn add(&mut self, kind: usize, count: u64) {
        let slot = self.slot(self.newest);
        slot[kind] = slot[kind].saturating_add(count);
    }

    /// Counts one of `kind` less, if there is any.
    pub(crate) fn take_back(&mut self, kind: usize) {
        let newest = self.newest;
        for age in 0..(N as u64).min(newest + 1) {
            let slot = self.slot(newest - age);
            if slot[kind] > 0 {
                slot[kind] -= 1;
                return;
            }
        }
    }

    /// How many of each kind there are in the window.
    pub(crate) fn sums(&self) -> [u64; 2] {
        self.slots.iter().fold([0, 0], |sums: [u64; 2], slot| {
            [sums[0].saturating_add(slot[0]), sums[1].saturating_add(slot[1])]
        })
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.slots = [[0; 2]; N];
    }

    fn slot(&mut self, tick: u64) -> &mut [u64; 2] {
        &mut self.slots[(tick % N as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Span;

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let mut window = Window::<10>::new(10.s());
        for second in 0..30 {
            window.advance((second * 1000 + 500).ms());
            window.add(0, 1);
            window.add(1, 2);
            let known = (second + 1).min(10);
            assert_eq!(window.sums(), [known, 2 * known], "{second}");
        }
        window.advance(35.s());
        assert_eq!(window.sums(), [4, 8]);
        window.advance(20.s());
        assert_eq!(window.sums(), [4, 8], "an older time brings nothing back");
        window.advance(Duration::MAX);
        assert_eq!(window.sums(), [0, 0]);
    }

    #[test]
    fn no_more_is_taken_back_than_there_is() {
        let mut window = Window::<10>::new(10.s());
        window.add(0, 1);
        window.advance(3.s());
        window.add(0, 1);
        for _ in 0..3 {
            window.take_back(0);
        }
        window.add(0, 5);
        assert_eq!(window.sums(), [5, 0]);
        let mut shortest = Window::<10>::new(Duration::ZERO);
        shortest.advance(1.s());
        shortest.add(1, u64::MAX);
        shortest.add(1, 1);
        assert_eq!(shortest.sums(), [0, u64::MAX]);
    }
}
