//! Whether a replay fails too often to go on. Pure.

use std::collections::VecDeque;

/// The outcomes of the last letters.
#[derive(Debug)]
pub(super) struct Spike {
    /// The share of the last [`WINDOW`] letters that may fail.
    share: f64,
    failed: VecDeque<bool>,
    failures: usize,
}

/// How many letters are looked back at.
const WINDOW: usize = 100;
/// One failure of two letters is no spike.
const FAILURES_MIN: usize = 5;

impl Spike {
    pub(super) fn new(share: f64) -> Self {
        Self { share, failed: VecDeque::with_capacity(WINDOW), failures: 0 }
    }

    /// Notes the outcome of one letter.
    pub(super) fn note(&mut self, has_failed: bool) {
        if self.failed.len() == WINDOW && self.failed.pop_front() == Some(true) {
            self.failures -= 1;
        }
        self.failed.push_back(has_failed);
        self.failures += usize::from(has_failed);
    }

    /// How many of how many letters have failed, if those are too many.
    pub(super) fn too_many(&self) -> Option<(usize, usize)> {
        let is_too_many =
            self.failures >= FAILURES_MIN && self.failures as f64 > self.share * self.failed.len() as f64;
        is_too_many.then_some((self.failures, self.failed.len()))
    }
}

/// Reads `--stop-at`.
pub(super) fn share(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').unwrap_or(text);
    let percent: Option<f64> = percent.trim().parse().ok();
    let percent = percent.filter(|percent| (0.0..=100.0).contains(percent));
    percent.map(|percent| percent / 100.0).ok_or_else(|| "write a share of 0% to 100%, as in 10%".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_last_letters_may_fail() {
        let mut spike = Spike::new(share("10%").unwrap());
        (0..4).for_each(|_| spike.note(true));
        assert_eq!(spike.too_many(), None, "four failures are no spike");
        spike.note(true);
        assert_eq!(spike.too_many(), Some((5, 5)));
        (0..45).for_each(|_| spike.note(false));
        assert_eq!(spike.too_many(), None, "5 of 50 are 10 %");
        (0..100).for_each(|_| spike.note(false));
        (0..10).for_each(|_| spike.note(true));
        assert_eq!(spike.too_many(), None);
        spike.note(true);
        assert_eq!(spike.too_many(), Some((11, 100)), "what is longer ago does not count");
    }

    #[test]
    fn shares_are_percentages() {
        assert_eq!((share("0"), share("100%"), share("2.5 %")), (Ok(0.0), Ok(1.0), Ok(0.025)));
        for text in ["", "101%", "-1", "x", "nan"] {
            assert!(share(text).is_err(), "{text}");
        }
    }
}
