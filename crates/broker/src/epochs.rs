//! The offset at which each leader epoch began. With it a client finds the offset up to which its log and ours agree
//! (KIP-320).
//!
//! It must not know the leaders, only the epochs.

/// `(epoch, start offset)`, both strictly ascending.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Epochs(Vec<(i32, i64)>);

impl Epochs {
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
    fn an_epoch_that_wrote_nothing_leaves_no_trace() {
        let mut epochs = Epochs::default();
        for (epoch, offset) in [(0, 0), (1, 0), (2, 8), (3, 8), (4, 8)] {
            epochs.begin(epoch, offset);
        }
        assert_eq!(epochs.entries(), [(1, 0), (4, 8)]);
    }
}
