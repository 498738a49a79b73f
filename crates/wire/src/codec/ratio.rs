//! How well batches compressed lately: what the next one is given room for where it does not say what it needs.

/// Bytes that came out for each byte that went in, as the batches of one reader or writer had them lately.
///
/// One batch that gave more raises it at once; each that gave less lowers it by a sixteenth of the difference. So it is
/// near the greatest ratio of the last few dozen batches, and room that follows it seldom has to be found a second time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ratio(u64);

/// A ratio of one.
const ONE: u64 = 256;
/// A guess is no more than 16 times what goes in. Batches that compressed better are tried again with more room: a hostile
/// one must not make the next honest one claim a thousand times its size.
const GUESS_MAX: u64 = 16 * ONE;

impl Ratio {
    /// Before any batch was seen.
    pub(super) const fn new(output: u64, input: u64) -> Self {
        Self(output * ONE / input)
    }

    /// The bytes that probably come out of `input` bytes, and a sixteenth more.
    pub(super) fn output_bytes(self, input: usize) -> usize {
        let ratio = u128::from((self.0 + self.0 / 16).min(GUESS_MAX));
        usize::try_from(input as u128 * ratio / u128::from(ONE)).unwrap_or(usize::MAX)
    }

    /// `output` bytes came out of `input` bytes.
    pub(super) fn learn(&mut self, input: usize, output: usize) {
        if input == 0 {
            return;
        }
        let seen = ((output as u64).saturating_mul(ONE) / input as u64).min(GUESS_MAX);
        self.0 = seen.max(self.0 - self.0.saturating_sub(seen).div_ceil(16));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_at_once_and_falls_slowly() {
        let mut ratio = Ratio::new(4, 1);
        assert_eq!(ratio.output_bytes(1000), 4250);
        ratio.learn(1000, 8000);
        assert_eq!(ratio.output_bytes(1000), 8500);
        ratio.learn(1000, 4000);
        assert_eq!(ratio.output_bytes(1000), 8234);
        (0..200).for_each(|_| ratio.learn(1000, 4000));
        assert_eq!(ratio.output_bytes(1000), 4250);
    }

    #[test]
    fn a_guess_has_an_end_and_an_empty_batch_says_nothing() {
        let mut ratio = Ratio::new(1, 4);
        ratio.learn(0, 100);
        assert_eq!(ratio.output_bytes(128), 34);
        ratio.learn(1, usize::MAX);
        assert_eq!(ratio.output_bytes(100), 1600);
        assert_eq!(ratio.output_bytes(usize::MAX), usize::MAX);
    }
}
