//! How fast a group comes nearer to the end of a partition, and when it gets there. The caller looks the offsets up, twice.

use std::time::Duration;

/// Offsets of a partition at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The committed offset, if there is one.
    pub committed: Option<i64>,
    /// The end of the partition, if its leader told it.
    pub end: Option<i64>,
}

/// Records a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Offsets that the group has committed.
    pub consumed: f64,
    /// Offsets that were written.
    pub produced: f64,
}

/// When the group has read what a partition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatchUp {
    /// It has.
    Done,
    /// After this time, at this pace.
    After(Duration),
    /// Not at this pace: records come at least as fast as they are read.
    Never,
    /// The committed offset did not change, or something is not known.
    Unknown,
}

impl Place {
    /// The number of offsets that the group has still to read.
    pub fn lag(self) -> Option<i64> {
        Some(self.end?.saturating_sub(self.committed?).max(0))
    }

    /// The pace from an earlier time until this one.
    pub fn pace(self, before: Self, time: Duration) -> Option<Pace> {
        let seconds = time.as_secs_f64();
        // An offset that was reset goes back, and then it says nothing of the pace.
        let per_second = |now: Option<i64>, then: Option<i64>| {
            let moved = now?.checked_sub(then?).filter(|moved| *moved >= 0)?;
            (seconds > 0.0).then_some(moved as f64 / seconds)
        };
        let consumed = per_second(self.committed, before.committed)?;
        Some(Pace { consumed, produced: per_second(self.end, before.end)? })
    }
}

impl CatchUp {
    /// From a lag and a pace, as far as they are known.
    pub fn of(lag: Option<i64>, pace: Option<Pace>) -> Self {
        match (lag, pace) {
            (Some(0), _) => Self::Done,
            // Members commit every few seconds: without a commit in between nothing is known.
            (Some(lag), Some(Pace { consumed, produced })) if consumed > 0.0 => {
                let seconds = lag as f64 / (consumed - produced);
                match Duration::try_from_secs_f64(seconds) {
                    Ok(time) if time <= TIME_MAX => Self::After(time),
                    _ => Self::Never,
                }
            }
            _ => Self::Unknown,
        }
    }
}

/// An estimate of more than a year is none.
const TIME_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(committed: i64, end: i64) -> Place {
        Place { committed: Some(committed), end: Some(end) }
    }

    #[test]
    fn what_is_not_known_gives_no_number() {
        assert_eq!(at(10, 15).lag(), Some(5));
        // The end was looked up before the offset was committed.
        assert_eq!(at(16, 15).lag(), Some(0));
        assert_eq!(Place { committed: None, ..at(0, 15) }.lag(), None);
        assert_eq!(Place { end: None, ..at(0, 15) }.lag(), None);
        assert_eq!(at(5, 15).pace(at(10, 15), Duration::from_secs(1)), None, "the offset was reset");
        assert_eq!(at(5, 15).pace(at(5, 15), Duration::ZERO), None);
    }

    #[test]
    fn it_catches_up_at_the_difference_of_both_paces() {
        let second = Duration::from_secs(2);
        for (before, now, expect) in [
            (at(0, 1000), at(200, 1000), CatchUp::After(Duration::from_secs(8))),
            (at(0, 1000), at(200, 1100), CatchUp::After(Duration::from_secs(18))),
            (at(0, 1000), at(200, 1200), CatchUp::Never),
            (at(0, 1000), at(200, 1500), CatchUp::Never),
            (at(0, 1000), at(0, 1000), CatchUp::Unknown),
            (at(0, 1000), at(1000, 1000), CatchUp::Done),
            (at(7, 7), at(7, 7), CatchUp::Done),
            // A difference of one record in a long time.
            (at(0, i64::MAX), at(1, i64::MAX), CatchUp::Never),
        ] {
            assert_eq!(CatchUp::of(now.lag(), now.pace(before, second)), expect, "{before:?} {now:?}");
        }
        assert_eq!(CatchUp::of(Some(5), None), CatchUp::Unknown);
    }
}
