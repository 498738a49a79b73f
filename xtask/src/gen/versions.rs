//! Ranges of message versions, as schemas write them: `3`, `0-4`, `2+`, `none`.

use std::fmt;

use anyhow::{Context, Result};

/// A contiguous range of versions, both ends included; empty when `low > high`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Versions {
    pub(crate) low: i16,
    pub(crate) high: i16,
}

impl Versions {
    pub(crate) const NONE: Self = Self { low: 0, high: -1 };

    /// Reads the schema's notation.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let number = |text: &str| text.trim().parse().with_context(|| format!("version range {text:?}"));
        let text = text.trim();
        Ok(if text == "none" {
            Self::NONE
        } else if let Some(low) = text.strip_suffix('+') {
            Self { low: number(low)?, high: i16::MAX }
        } else if let Some((low, high)) = text.split_once('-') {
            Self { low: number(low)?, high: number(high)? }
        } else {
            let only = number(text)?;
            Self { low: only, high: only }
        })
    }

    pub(crate) fn is_empty(self) -> bool {
        self.low > self.high
    }

    pub(crate) fn contains(self, version: i16) -> bool {
        (self.low..=self.high).contains(&version)
    }

    pub(crate) fn covers(self, other: Self) -> bool {
        other.is_empty() || (self.contains(other.low) && self.contains(other.high))
    }

    pub(crate) fn and(self, other: Self) -> Self {
        let both = Self { low: self.low.max(other.low), high: self.high.min(other.high) };
        if both.is_empty() { Self::NONE } else { both }
    }

    /// All versions in the range.
    pub(crate) fn iter(self) -> impl Iterator<Item = i16> {
        self.low..=self.high
    }

    /// A Rust condition on `version` that holds in these versions, given that it is within `reach`; none when it
    /// always holds.
    pub(crate) fn condition(self, reach: Self) -> Option<String> {
        match (self.low <= reach.low, self.high >= reach.high) {
            (true, true) => None,
            (false, true) => Some(format!("version >= {}", self.low)),
            (true, false) => Some(format!("version <= {}", self.high)),
            (false, false) if self.low == self.high => Some(format!("version == {}", self.low)),
            (false, false) => Some(format!("({}..={}).contains(&version)", self.low, self.high)),
        }
    }

    /// The opposite of [`condition`](Self::condition): it holds in the versions of `reach` that are not in the range.
    pub(crate) fn condition_not(self, reach: Self) -> Option<String> {
        match (self.low <= reach.low, self.high >= reach.high) {
            (true, true) => None,
            (false, true) => Some(format!("version < {}", self.low)),
            (true, false) => Some(format!("version > {}", self.high)),
            (false, false) if self.low == self.high => Some(format!("version != {}", self.low)),
            (false, false) => Some(format!("!({}..={}).contains(&version)", self.low, self.high)),
        }
    }

    /// For sentences: `version 3`, `versions 0-4`.
    pub(crate) fn spelled(self) -> String {
        format!("version{} {self}", if self.low == self.high { "" } else { "s" })
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            f.write_str("none")
        } else if self.low == self.high {
            write!(f, "{}", self.low)
        } else if self.high == i16::MAX {
            write!(f, "{}+", self.low)
        } else {
            write!(f, "{}-{}", self.low, self.high)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notation_reads_and_prints() {
        for text in ["none", "3", "0-4", "2+"] {
            assert_eq!(Versions::parse(text).unwrap().to_string(), text);
        }
        assert!(Versions::parse("a+").is_err());
    }

    #[test]
    fn a_condition_says_only_what_the_reach_leaves_open() {
        let reach = Versions { low: 4, high: 18 };
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(Versions::parse(text).unwrap().condition(reach).as_deref(), expect, "{text}");
        };
        check("0+", None);
        check("7+", Some("version >= 7"));
        check("0-14", Some("version <= 14"));
        check("7-12", Some("(7..=12).contains(&version)"));
        check("9", Some("version == 9"));
    }
}
