//! The offset at which each leader epoch began. With it a client finds the offset up to which its log and ours agree
//! (KIP-320).
//!
//! It must not know the leaders, only the epochs.

/// `(epoch, start offset)`, both strictly ascending.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Epochs(Vec<(i32, i64)>);

impl Epochs {
    /// The epochs of these `(epoch, offset)`s, in any order: each begins at the first offset that it has here.
    pub(crate) fn merged(mut all: Vec<(i32, i64)>) -> Self {
        all.sort_unstable();
        let mut epochs = Self::default();
        for (epoch, offset) in all {
            epochs.begin(epoch, offset);
        }
        epochs
    }

    /// Notes that `epoch` writes from `offset` on. Returns whether that is a new epoch.
    pub(crate) fn begin(&mut self, epoch: i32, offset: i64) -> bool {
        if self.latest().is_some_and(|latest| latest >= epoch) {
            return false;
        }
        // Epochs that wrote nothing are dropped: no batch has them.
        while self.0.last().is_some_and(|&(_, start)| start >= offset) {
            self.0.pop();
        }
        self.0.push((epoch, offset));
        true
    }

    /// Forgets what is before `start`, the log's first offset. Returns whether that changed anything.
    pub(crate) fn start_at(&mut self, start: i64) -> bool {
        let after = self.0.partition_point(|&(_, begin)| begin <= start);
        let Some(at) = after.checked_sub(1).filter(|&at| at > 0 || self.0[at].1 < start) else {
            return false;
        };
        self.0.drain(..at);
        self.0[0].1 = start;
        true
    }

    /// The log was cut off at `end`.
    pub(crate) fn cut_off(&mut self, end: i64) {
        self.0.retain(|&(_, start)| start < end);
    }

    /// The newest epoch.
    pub(crate) fn latest(&self) -> Option<i32> {
        self.0.last().map(|&(epoch, _)| epoch)
    }

    /// The epoch that wrote `offset`.
    pub(crate) fn of_offset(&self, offset: i64) -> Option<i32> {
        let after = self.0.partition_point(|&(_, start)| start <= offset);
        after.checked_sub(1).map(|index| self.0[index].0)
    }

    /// The largest epoch that is not above `requested`, and its end offset: `(epoch, end offset)`. `None` when the
    /// epochs do not reach as far as `requested`.
    pub(crate) fn end_of(&self, requested: i32, log_end: i64) -> Option<(i32, i64)> {
        if requested < 0 {
            return None;
        }
        if self.latest() == Some(requested) {
            return Some((requested, log_end));
        }
        let after = self.0.partition_point(|&(epoch, _)| epoch <= requested);
        let &(_, end) = self.0.get(after)?;
        Some(match after.checked_sub(1) {
            Some(index) => (self.0[index].0, end),
            // It is below the first known epoch: the logs agree up to that epoch's start at most.
            None => (requested, end),
        })
    }

    /// All entries, for the checkpoint file.
    pub(crate) fn entries(&self) -> &[(i32, i64)] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_epoch_is_the_start_of_the_next() {
        let mut epochs = Epochs::default();
        for (epoch, offset, news) in [(2, 0, true), (2, 10, false), (5, 20, true), (1, 30, false)] {
            assert_eq!(epochs.begin(epoch, offset), news);
        }
        let table =
            [(1, Some((1, 0))), (2, Some((2, 20))), (4, Some((2, 20))), (5, Some((5, 40))), (6, None)];
        for (requested, expected) in table {
            assert_eq!(epochs.end_of(requested, 40), expected, "epoch {requested}");
        }
        assert_eq!([0, 19, 20, 99].map(|offset| epochs.of_offset(offset)), [2, 2, 5, 5].map(Some));
    }

    #[test]
    fn the_epoch_of_the_first_offset_stays_known() {
        let epochs = || Epochs(vec![(2, 0), (5, 20), (6, 30)]);
        for (start, changes, expected) in [
            (0, false, vec![(2, 0), (5, 20), (6, 30)]),
            (1, true, vec![(2, 1), (5, 20), (6, 30)]),
            (20, true, vec![(5, 20), (6, 30)]),
            (29, true, vec![(5, 29), (6, 30)]),
            (99, true, vec![(6, 99)]),
        ] {
            let mut epochs = epochs();
            assert_eq!((epochs.start_at(start), epochs.entries()), (changes, &expected[..]), "start {start}");
        }
        assert!(!Epochs::default().start_at(7));
    }

    #[test]
    fn an_epoch_that_wrote_nothing_leaves_no_trace() {
        let mut epochs = Epochs::default();
        for (epoch, offset) in [(0, 0), (1, 0), (2, 8), (3, 8), (4, 8)] {
            epochs.begin(epoch, offset);
        }
        assert_eq!(epochs.entries(), [(1, 0), (4, 8)]);
    }
}
