//! Estimates the size of a batch that does not announce it from the compression ratio of earlier batches.

/// The bytes of output for each byte of input, in the last batches of one reader or writer.
///
/// A batch with a higher ratio raises it at once; a batch with a lower one lowers it by a sixteenth of the difference. So it is
/// near the greatest ratio of the last few dozen batches, and a second, larger buffer is rarely needed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ratio(u64);

/// A ratio of one.
const ONE: u64 = 256;
/// An estimate is at most 16 times the input. A batch that needs more is decompressed again with more room: a hostile batch must
/// not make the next one take a thousand times its size.
const GUESS_MAX: u64 = 16 * ONE;

impl Ratio {
    /// The ratio before the first batch.
    pub(super) const fn new(output: u64, input: u64) -> Self {
        Self(output * ONE / input)
    }

    /// The probable output of `input` bytes, and a sixteenth more.
    pub(super) fn output_bytes(self, input: usize) -> usize {
        let ratio = u128::from((self.0 + self.0 / 16).min(GUESS_MAX));
        usize::try_from(input as u128 * ratio / u128::from(ONE)).unwrap_or(usize::MAX)
    }

    /// Notes that `input` bytes gave `output` bytes.
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
