//! One step of a member from what it has to what it is to have.
//!
//! ```text
//!  is something to be given up that the member still has?  ─▶ Unrevoked, in its old epoch
//!  otherwise it is in the target's epoch, with what is free of its target ─▶ Stable, or Unreleased if some is not free
//! ```
//!
//! A partition is given to a member only when no other has it (`is_taken`). These are the rules of Kafka's
//! CurrentAssignmentBuilder.

use std::collections::{BTreeMap, BTreeSet};

use milena_wire::Uuid;

use super::{Held, Member, MemberState, Partitions};

/// What decides a member's next step.
pub(super) struct Step<'a> {
    pub(super) target_epoch: i32,
    pub(super) target: &'a Partitions,
    /// The topics that the member subscribes to. A target from before its subscription changed may have others.
    pub(super) topics: BTreeSet<Uuid>,
    /// Whether its subscription has just changed.
    pub(super) has_new_topics: bool,
    /// What the member says it has; `None` when it does not say.
    pub(super) owned: Option<&'a Partitions>,
    /// Whether some member has a partition.
    pub(super) is_taken: &'a dyn Fn(Uuid, i32) -> bool,
}

impl Step<'_> {
    /// Takes the member one step further.
    pub(super) fn take(&self, member: &mut Member) {
        if !self.has_new_topics && member.is_reconciled(self.target_epoch) {
            return;
        }
        match member.state {
            MemberState::Stable if member.epoch == self.target_epoch => self.drop_topics(member),
            MemberState::Unrevoked if self.has_some(&member.revoking) => {
                if self.has_new_topics {
                    self.drop_topics(member);
                }
            }
            MemberState::Stable | MemberState::Unrevoked | MemberState::Unreleased => self.approach(member),
        }
    }

    /// Whether the member may still have some of these. It does as long as it does not say otherwise.
    fn has_some(&self, held: &Held) -> bool {
        let Some(owned) = self.owned else { return true };
        let has = |(topic, partitions): (&Uuid, &BTreeMap<i32, i32>)| {
            let owned = owned.get(topic);
            owned.is_some_and(|owned| partitions.keys().any(|partition| owned.contains(partition)))
        };
        held.iter().any(has)
    }

    /// The member gives up topics at once that it does not subscribe to any more. What it is to have instead comes with
    /// the next target.
    fn drop_topics(&self, member: &mut Member) {
        let gone: Vec<Uuid> =
            member.assigned.keys().filter(|topic| !self.topics.contains(topic)).copied().collect();
        if gone.is_empty() {
            return;
        }
        let mut revoking = member.revoking.clone();
        for topic in gone {
            revoking.entry(topic).or_default().extend(member.assigned.remove(&topic).unwrap_or_default());
        }
        if self.has_some(&revoking) {
            member.state = MemberState::Unrevoked;
            member.revoking = revoking;
        }
        member.enter(member.epoch);
    }

    /// The member moves towards its target.
    fn approach(&self, member: &mut Member) {
        let mut assigned = Held::new();
        let mut revoking = Held::new();
        for (&topic, held) in &member.assigned {
            let target = self.target.get(&topic).filter(|_| self.topics.contains(&topic));
            for (&partition, &since) in held {
                let is_kept = target.is_some_and(|target| target.contains(&partition));
                let place = if is_kept { &mut assigned } else { &mut revoking };
                place.entry(topic).or_default().insert(partition, since);
            }
        }
        if !revoking.is_empty() && self.has_some(&revoking) {
            (member.state, member.assigned, member.revoking) = (MemberState::Unrevoked, assigned, revoking);
            return member.enter(member.epoch);
        }
        let mut waits = false;
        for (&topic, partitions) in self.target.iter().filter(|(topic, _)| self.topics.contains(topic)) {
            for &partition in partitions {
                let has = |held: &Held| held.get(&topic).is_some_and(|held| held.contains_key(&partition));
                if has(&assigned) {
                    continue;
                }
                // What the member itself was giving up is free for it.
                if (self.is_taken)(topic, partition) && !has(&member.revoking) {
                    waits = true;
                } else {
                    assigned.entry(topic).or_default().insert(partition, self.target_epoch);
                }
            }
        }
        member.state = if waits { MemberState::Unreleased } else { MemberState::Stable };
        (member.assigned, member.revoking) = (assigned, Held::new());
        member.enter(self.target_epoch);
    }
}

impl Member {
    fn enter(&mut self, epoch: i32) {
        self.previous_epoch = self.epoch;
        self.epoch = epoch;
    }
}
