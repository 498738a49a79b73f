//! Where the committed offsets of a group are to go.
//!
//! It is pure: the caller looks up where partitions begin and end, what is committed, and the offsets of times.

use milena::CommittedOffset;

use crate::offsets::Point;
use crate::stored::Stored;

/// Where all partitions go.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    Point(Point),
    /// By N offsets forward, or backward if N is negative.
    Shift(i64),
    /// Each partition to its own offset.
    Stored(Stored),
}

/// What is known of a partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) committed: Option<CommittedOffset>,
    pub(crate) beginning: i64,
    pub(crate) end: i64,
    /// The offset of the time, if there is a record at or after it.
    pub(crate) at_time: Option<i64>,
}

/// The change of one partition.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Step {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) current: Option<i64>,
    pub(crate) new: CommittedOffset,
    /// The offset that was asked for, if the partition does not hold it: the nearest one is taken, as Java's tool does.
    pub(crate) asked: Option<i64>,
}

impl Step {
    /// # Errors
    ///
    /// When there is no offset to go by.
    pub(crate) fn new(topic: &str, partition: i32, target: &Target, known: &Known) -> Result<Self, String> {
        let place = (topic.to_owned(), partition);
        let of = || format!("partition {partition} of topic {topic:?}");
        let wanted: CommittedOffset = match target {
            // A number is within the partition below.
            Target::Point(Point::At(offset)) => (*offset).into(),
            Target::Point(point) => {
                let resolved = point.resolve(known.beginning, known.end, known.at_time);
                resolved.unwrap_or(known.end).into()
            }
            Target::Shift(by) => match &known.committed {
                Some(committed) => committed.offset.saturating_add(*by).into(),
                None => return Err(format!("the group has no committed offset in {} to shift", of())),
            },
            Target::Stored(stored) => match stored.get(&place) {
                Some(stored) => stored.clone(),
                None => return Err(format!("the file has no offset for {}", of())),
            },
        };
        let nearest = wanted.offset.min(known.end).max(known.beginning);
        let current = known.committed.as_ref().map(|committed| committed.offset);
        let (topic, partition) = place;
        Ok(match wanted.offset {
            offset if offset == nearest => Self { topic, partition, current, new: wanted, asked: None },
            offset => Self { topic, partition, current, new: nearest.into(), asked: Some(offset) },
        })
    }

    /// Whether the committed offset changes.
    pub(crate) fn is_change(&self) -> bool {
        self.current != Some(self.new.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(target: &Target, committed: Option<i64>, at_time: Option<i64>) -> Result<Step, String> {
        let known = Known { committed: committed.map(Into::into), beginning: 10, end: 50, at_time };
        Step::new("t", 1, target, &known)
    }

    #[test]
    fn targets_are_resolved_within_the_partition() {
        for (target, at_time, new, asked) in [
            (Target::Point(Point::Beginning), None, 10, None),
            (Target::Point(Point::End), None, 50, None),
            (Target::Point(Point::At(17)), None, 17, None),
            (Target::Point(Point::At(5)), None, 10, Some(5)),
            (Target::Point(Point::At(51)), None, 50, Some(51)),
            (Target::Point(Point::Time(0)), Some(23), 23, None),
            (Target::Point(Point::Time(0)), None, 50, None),
            (Target::Shift(5), None, 25, None),
            (Target::Shift(-20), None, 10, Some(0)),
            (Target::Shift(i64::MAX), None, 50, Some(i64::MAX)),
        ] {
            let step = step(&target, Some(20), at_time).unwrap();
            assert_eq!((step.new.offset, step.asked, step.current), (new, asked, Some(20)), "{target:?}");
        }
    }

    #[test]
    fn a_stored_offset_keeps_what_was_stored_with_it() {
        let stored = CommittedOffset { offset: 17, leader_epoch: Some(3), metadata: Some("m".into()) };
        let target = Target::Stored(Stored::from([(("t".into(), 1), stored.clone())]));
        assert_eq!(step(&target, None, None).unwrap().new, stored);
        let far = CommittedOffset { offset: 99, ..stored };
        let target = Target::Stored(Stored::from([(("t".into(), 1), far)]));
        // The leader epoch of another offset would be wrong.
        assert_eq!(step(&target, None, None).unwrap().new, 50.into());
    }

    #[test]
    fn without_an_offset_there_is_nothing_to_shift() {
        assert!(step(&Target::Shift(1), None, None).unwrap_err().contains("partition 1 of topic \"t\""));
        assert!(step(&Target::Stored(Stored::new()), None, None).unwrap_err().contains("the file"));
    }

    #[test]
    fn only_another_offset_is_a_change() {
        let step = |committed| step(&Target::Point(Point::At(17)), committed, None).unwrap();
        assert_eq!([None, Some(17), Some(18)].map(|at| step(at).is_change()), [true, false, true]);
    }
}
