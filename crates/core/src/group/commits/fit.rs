//! How what is finished above an offset is made to fit into what the coordinator takes as metadata.

use std::ops::Range;

use super::super::finished::{self, CHARS_MAX, Packing};

/// A packing and a length, or that nothing is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Fit(usize);

/// What is tried, each after the one before it was refused. Kafka's default takes 4 096 UTF-16 units; a broker may be set to less,
/// and brokers of other makers may count bytes.
const FITS: [(Packing, usize); 5] = [
    (Packing::Wide, CHARS_MAX),
    (Packing::Narrow, CHARS_MAX),
    (Packing::Narrow, CHARS_MAX / 2),
    (Packing::Narrow, CHARS_MAX / 4),
    (Packing::Narrow, CHARS_MAX / 8),
];

impl Fit {
    /// Nothing is stored.
    pub(super) const NONE: Self = Self(FITS.len());

    /// The next one to try, because a text of `bytes` bytes was refused.
    pub(super) fn less(self, bytes: usize) -> Self {
        let is_shorter = |(packing, chars_max): &(Packing, usize)| {
            // A text of the wide packing may have been refused for its bytes only.
            *packing == Packing::Narrow && (self == Self::default() || *chars_max < bytes)
        };
        let next = FITS.iter().enumerate().skip(self.0 + 1).find(|(_, fit)| is_shorter(fit));
        Self(next.map_or(FITS.len(), |(index, _)| index))
    }

    /// The bits that a text has room for. None if no text is stored.
    pub(super) fn bits_max(self) -> Option<u64> {
        FITS.get(self.0).map(|(packing, chars_max)| packing.bits_in(*chars_max))
    }

    /// The text for `runs`, as far as they fit. None if nothing is stored.
    pub(super) fn encode(self, base: i64, runs: impl Iterator<Item = Range<i64>>) -> Option<String> {
        let (packing, chars_max) = *FITS.get(self.0)?;
        Some(finished::encode(base, runs, packing, chars_max)?.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_leaves_less_room_until_nothing_is_stored() {
        let mut fit = Fit::default();
        let mut bits = Vec::new();
        while let Some(max) = fit.bits_max() {
            bits.push(max);
            fit = fit.less(4096);
        }
        assert_eq!(bits, [61_425, 24_568, 12_280, 6_136, 3_064]);
        assert_eq!(fit, Fit::NONE);
        assert_eq!(fit.less(1), Fit::NONE);
        assert_eq!(fit.encode(0, std::iter::once(5..9)), None);
    }

    #[test]
    fn lengths_that_were_refused_are_not_tried_again() {
        let narrow = Fit::default().less(9_000);
        assert_eq!(narrow.less(600).bits_max(), Some(3_064));
        assert_eq!(narrow.less(100), Fit::NONE);
    }
}
