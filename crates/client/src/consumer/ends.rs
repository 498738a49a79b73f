//! Partitions that end before the offset up to which they are to be read.
//!
//! Such a partition may have been made again, or have lost its last records. Its reader would wait for records that do
//! not exist. So the driver's task asks the broker where the partition ends, while it goes on with its other work.

use std::collections::BTreeMap;
use std::sync::Arc;

use milena_core::source::Slot;

use super::queue::Queue;
use crate::runtime::Together;
use crate::{Admin, OffsetAt};

/// Asks where partitions end, about many of them at a time.
pub(super) struct Ends {
    doubted: BTreeMap<Slot, Arc<Queue>>,
    /// One question at most.
    asking: Together<'static, Vec<End>>,
}

/// A partition that ends at `offset`, which is before `until`, up to where it was to be read.
pub(super) struct End {
    pub(super) queue: Arc<Queue>,
    pub(super) until: i64,
    pub(super) offset: i64,
}

impl Ends {
    pub(super) fn new() -> Self {
        Self { doubted: BTreeMap::new(), asking: Together::new() }
    }

    /// Adds a partition to those to ask about.
    pub(super) fn doubt(&mut self, slot: Slot, queue: Arc<Queue>) {
        self.doubted.insert(slot, queue);
    }

    /// Asks about the partitions that were added, once the last question was answered. `admin` gives what to ask with,
    /// or none when the consumer is gone.
    pub(super) fn ask(&mut self, admin: impl FnOnce() -> Option<Admin>) {
        if self.doubted.is_empty() || !self.asking.is_empty() {
            return;
        }
        let Some(admin) = admin() else { return };
        let doubted = std::mem::take(&mut self.doubted).into_values();
        let doubted = doubted.filter_map(|queue| queue.until().map(|until| (queue, until)));
        let doubted: Vec<_> = doubted.filter(|(queue, _)| !queue.is_read()).collect();
        if doubted.is_empty() {
            return;
        }
        self.asking.push(async move {
            let partitions = doubted.iter().map(|(queue, _)| (&*queue.topic, queue.partition));
            let ends = admin.list_offsets(partitions, OffsetAt::Latest).await;
            // A partition without an answer is asked about again: the next fetch shows that it still ends too early.
            let ends = ends.unwrap_or_default();
            let offsets = ends.into_iter().map(|(_, end)| end.ok().flatten());
            let known = doubted.into_iter().zip(offsets);
            let known =
                known.filter_map(|((queue, until), offset)| Some(End { queue, until, offset: offset? }));
            known.filter(|end| end.offset < end.until).collect()
        });
    }

    /// The partitions of the last question that do end early; none when nothing is asked.
    ///
    /// # Cancel safety
    /// Dropped, nothing was answered.
    pub(super) fn answered(&mut self) -> impl Future<Output = Option<Vec<End>>> {
        self.asking.next()
    }
}
