//! Which replica of a partition is fetched: its leader, or a follower that is nearer (KIP-392).
//!
//! ```text
//!             the leader names a follower
//!  the leader ──────────────────────────▶ the follower
//!      ▲   any error of the follower, its    │
//!      └── connection lost, gone, LEASE over ┘
//! ```
//!
//! A leader that is told our rack answers with a follower's id in place of records, at once. If that follower cannot be
//! used, the leader is fetched without the rack for [`DISTRUST`]: it would name the same follower again and again, and
//! never send a record.

use std::time::Duration;

use super::{Slot, Source};
use crate::{BrokerId, Instant};

/// A follower is fetched from for this long. Then the leader is asked again, which may know a nearer one by then. Java
/// does so after `metadata.max.age.ms`, whose default this is.
const LEASE: Duration = Duration::from_secs(300);
/// A follower that could not be used may work after this long.
const DISTRUST: Duration = Duration::from_secs(30);

impl Source {
    /// The leader of `slot` has named `follower` as the replica to fetch from.
    pub(super) fn refer(&mut self, slot: Slot, follower: BrokerId, now: Instant) {
        if !self.brokers.contains(&follower) {
            // The leader may have heard of a broker that our metadata does not have yet.
            self.metadata_wanted = true;
            return self.distrust(slot, now);
        }
        self.leases.insert((now + LEASE, slot));
        self.relocate(slot, |partition| partition.follower = Some(follower));
    }

    /// The follower that `slot` was fetched from cannot be used.
    pub(super) fn leave_follower(&mut self, slot: Slot, now: Instant) {
        self.metadata_wanted = true;
        self.distrust(slot, now);
        self.relocate(slot, |partition| partition.follower = None);
    }

    /// Leaves the follower `broker`, for all partitions that are fetched from it.
    pub(super) fn leave_followers_at(&mut self, broker: BrokerId, now: Instant) {
        for index in 0..self.partitions.len() {
            if self.partitions[index].follower == Some(broker) {
                self.leave_follower(Slot(index as u32), now);
            }
        }
    }

    /// The leader of `slot` is not told our rack for a while.
    fn distrust(&mut self, slot: Slot, now: Instant) {
        self.distrusted.retain(|_, until| *until > now);
        if let Some(leader) = self.at(slot).leader {
            self.distrusted.insert(leader, now + DISTRUST);
        }
    }

    /// Leaves the followers whose time is over.
    pub(super) fn end_leases(&mut self, now: Instant) {
        while let Some((at, slot)) = self.leases.first().copied().filter(|(at, _)| *at <= now) {
            self.leases.remove(&(at, slot));
            self.relocate(slot, |partition| partition.follower = None);
        }
    }
}
