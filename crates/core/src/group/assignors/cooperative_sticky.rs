//! `cooperative-sticky`: the sticky assignment for members that keep what they own while they join (KIP-429).

use bytes::Bytes;
use milena_wire::{Reader, Str};

use super::layout::{Layout, by_id};
use super::sticky::{Claims, assign};
use super::{Assignment, Assignor, ClusterView, Held, Member, RebalanceProtocol};
use crate::Failure;

/// Java's `CooperativeStickyAssignor`: the same balance as [`Sticky`](super::Sticky), but a partition that changes its
/// owner is assigned to no member in this generation. Its owner gives it up and joins again, and then it is assigned.
#[derive(Debug, Clone, Copy, Default)]
pub struct CooperativeSticky;

impl Assignor for CooperativeSticky {
    fn name(&self) -> &str {
        "cooperative-sticky"
    }

    fn protocols(&self) -> &[RebalanceProtocol] {
        &[RebalanceProtocol::Cooperative, RebalanceProtocol::Eager]
    }

    /// The generation, for leaders that do not read it from the subscription (before version 2).
    fn user_data(&self, _topics: &[Str], held: Option<&Held>) -> Option<Bytes> {
        let generation = held.map_or(-1, |held| held.generation);
        Some(Bytes::copy_from_slice(&generation.to_be_bytes()))
    }

    fn assign(&self, cluster: &ClusterView, members: &[Member]) -> Result<Vec<Assignment>, Failure> {
        let layout = Layout::new(cluster, members, by_id);
        let claims = Claims::new(&layout, |member| {
            (member.subscription.owned.as_slice().into(), generation_of(member).unwrap_or(-1))
        });
        let mut slots = assign(&layout, &claims);
        for (rank, slots) in slots.iter_mut().enumerate() {
            slots.retain(|slot| !claims.is_held_by_another(*slot, rank as u32));
        }
        Ok(layout.assignments(slots))
    }
}

/// The generation in which a member got what it owns. Subscriptions before version 2 have it in the user data.
fn generation_of(member: &Member) -> Option<i32> {
    let subscription = &member.subscription;
    let from_user_data = || Reader::new(subscription.user_data.as_ref()?).i32("generation").ok();
    subscription.generation.or_else(from_user_data)
}
