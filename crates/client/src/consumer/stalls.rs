//! Partitions that have a batch which nobody takes, for metrics. It has no clock: times are arguments.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use milena_core::Instant;

/// A batch that is not taken for this long makes its partition a stalled one, unless it is paused. An application that works on one
/// batch for so long is stalled as well.
pub(super) const STALLED_AFTER: Duration = Duration::from_secs(60);

/// Since when a partition's first batch waits for a reader, if it has one and is not paused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) waiting_since: Option<Instant>,
}

impl Look {
    pub(super) fn is_stalled(&self, now: Instant) -> bool {
        self.waiting_since.is_some_and(|since| now - since > STALLED_AFTER)
    }
}

/// The partitions that were stalled when they were looked at last.
#[derive(Debug, Default)]
pub(super) struct Stalls(BTreeSet<(Arc<str>, i32)>);

impl Stalls {
    /// Takes in how all partitions stand. Answers with those that have become stalled since the last call.
    pub(super) fn look(&mut self, all: Vec<Look>, now: Instant) -> Vec<Look> {
        let (stalled, moving): (Vec<_>, Vec<_>) = all.into_iter().partition(|look| look.is_stalled(now));
        drop(moving);
        let key = |look: &Look| (Arc::clone(&look.topic), look.partition);
        let known = std::mem::replace(&mut self.0, stalled.iter().map(key).collect());
        stalled.into_iter().filter(|look| !known.contains(&key(look))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_told_once_each_time_it_becomes_stalled() {
        let at = |seconds| Instant::ORIGIN + Duration::from_secs(seconds);
        let look = |partition, since: Option<u64>| Look {
            topic: "orders".into(),
            partition,
            waiting_since: since.map(at),
        };
        let mut stalls = Stalls::default();
        let mut told = |now, looks: [Option<u64>; 2]| -> Vec<i32> {
            let all = looks.into_iter().zip(0..).map(|(since, partition)| look(partition, since)).collect();
            stalls.look(all, at(now)).into_iter().map(|look| look.partition).collect()
        };
        assert!(told(60, [Some(0), Some(30)]).is_empty());
        assert_eq!(told(61, [Some(0), Some(30)]), [0]);
        assert_eq!(told(95, [Some(0), Some(30)]), [1], "the first one is known");
        assert!(told(96, [Some(95), None]).is_empty());
        assert_eq!(told(200, [Some(95), None]), [0], "it was taken from in between");
    }
}
