//! Assignors as the classic machine offers them: what each says and reads, as the bytes that JoinGroup and SyncGroup carry.
//!
//! The machine knows an [`Offer`](super::terms::Assignor) as opaque bytes; the assignors know subscriptions and clusters. This is
//! the only place that knows both.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use milena_messages::join_group::JoinGroupResponseMember;
use milena_wire::{DecodeError, Str};

use super::assignors::{self, ClusterView, Group, Held, RebalanceProtocol, TopicPartitions};
use super::terms::{self, Claim, TopicPartition, str_of};
use crate::Failure;
use crate::metadata::Snapshot;

/// What a member with these assignors offers, in their order. None if no rebalance protocol is common to all of them.
pub fn offer(assignors: &[Arc<dyn assignors::Assignor>]) -> Option<Vec<Arc<dyn terms::Assignor>>> {
    let protocol = assignors::protocol_of(assignors)?;
    let offer = |assignor: &Arc<dyn assignors::Assignor>| -> Arc<dyn terms::Assignor> {
        Arc::new(Offer { assignor: Arc::clone(assignor), protocol })
    };
    Some(assignors.iter().map(offer).collect())
}

/// An assignor under the rebalance protocol that all of the member's assignors have in common.
#[derive(Debug)]
struct Offer {
    assignor: Arc<dyn assignors::Assignor>,
    protocol: RebalanceProtocol,
}

impl terms::Assignor for Offer {
    fn name(&self) -> &str {
        self.assignor.name()
    }

    fn is_cooperative(&self) -> bool {
        self.protocol == RebalanceProtocol::Cooperative
    }

    fn metadata(&self, claim: &Claim<'_>) -> Bytes {
        let topics: Vec<Str> = claim.topics.iter().map(|topic| (&**topic).into()).collect();
        let held = claim.generation.map(|generation| Held { partitions: by_topic(claim.last), generation });
        let subscription = assignors::Subscription {
            user_data: self.assignor.user_data(&topics, held.as_ref()),
            topics,
            owned: by_topic(claim.owned),
            generation: claim.generation,
            rack: claim.rack.map(Str::from),
        };
        // It fails for names that are longer than a broker lets a topic's name be.
        subscription.encode(assignors::VERSION_MAX).unwrap_or_default()
    }

    fn topics(&self, members: &[terms::Member]) -> Result<BTreeSet<Arc<str>>, Failure> {
        Ok(group(members).topics().iter().map(|topic| Arc::from(topic.as_str())).collect())
    }

    fn assign(
        &self,
        members: &[terms::Member],
        snapshot: &Snapshot,
    ) -> Result<Vec<(Arc<str>, Bytes)>, Failure> {
        let group = group(members);
        let cluster = ClusterView::of(snapshot, &group.topics());
        let assignments = group.assign(&*self.assignor, self.protocol, &cluster)?;
        Ok(assignments.into_iter().map(|one| (Arc::from(one.member_id.as_str()), one.assignment)).collect())
    }

    fn decode(&self, assignment: &Bytes) -> Result<BTreeSet<TopicPartition>, Failure> {
        let assignment = assignors::Assignment::decode(assignment).map_err(|error| garbled(&error))?;
        let of_topic = |topic: &TopicPartitions| {
            let name: Arc<str> = Arc::from(topic.topic.as_str());
            topic.partitions.iter().map(|index| TopicPartition::new(&name, *index)).collect::<Vec<_>>()
        };
        Ok(assignment.partitions.iter().flat_map(of_topic).collect())
    }
}

fn group(members: &[terms::Member]) -> Group {
    let member = |member: &terms::Member| JoinGroupResponseMember {
        member_id: (&*member.id).into(),
        group_instance_id: str_of(member.instance_id.as_ref()),
        metadata: member.metadata.clone(),
        ..Default::default()
    };
    Group::decode(&members.iter().map(member).collect::<Vec<_>>())
}

fn garbled(error: &DecodeError) -> Failure {
    let reason = format!("its assignment cannot be read: {error}").into();
    Failure::Malformed { peer: "the group's leader".into(), reason }
}

fn by_topic(partitions: &BTreeSet<TopicPartition>) -> Vec<TopicPartitions> {
    let mut topics: Vec<TopicPartitions> = Vec::new();
    // The set is ordered by topic.
    for TopicPartition { topic, partition } in partitions {
        match topics.last_mut().filter(|last| *last.topic == **topic) {
            Some(last) => last.partitions.push(*partition),
            None => topics.push(TopicPartitions { topic: (&**topic).into(), partitions: vec![*partition] }),
        }
    }
    topics
}

#[cfg(test)]
mod tests {
    use super::super::assignors::{CooperativeSticky, Range, defaults};
    use super::super::testing::{partitions, texts, topics};
    use super::*;
    use crate::metadata::tests::snapshot;

    #[test]
    fn a_group_that_may_be_eager_is_eager() {
        let offered = offer(&defaults()).expect("eager is common to all");
        let names: Vec<_> = offered.iter().map(|offer| offer.name().to_owned()).collect();
        assert_eq!(names, ["range", "cooperative-sticky"]);
        assert!(offered.iter().all(|offer| !offer.is_cooperative()));
        let offered = offer(&[Arc::new(CooperativeSticky)]).expect("cooperative");
        assert!(offered[0].is_cooperative());
        assert!(offer(&[]).is_none());
    }

    #[test]
    fn what_one_member_claims_the_leader_reads() {
        let cluster = snapshot("t", &[(1, 1); 4]);
        let wanted = topics(&["t"]).topics;
        for assignor in [Arc::new(Range) as Arc<dyn assignors::Assignor>, Arc::new(CooperativeSticky)] {
            let offer = &offer(&[assignor]).expect("one protocol")[0];
            let member = |id: &str, owned: &str| {
                let owned = partitions(owned);
                let claim =
                    Claim { topics: &wanted, owned: &owned, last: &owned, generation: Some(3), rack: None };
                terms::Member { id: id.into(), instance_id: None, metadata: offer.metadata(&claim) }
            };
            let members = [member("a", "t-0,t-1"), member("b", "t-2,t-3")];
            assert_eq!(offer.topics(&members).expect("readable"), wanted);
            let assigned = offer.assign(&members, &cluster).expect("an assignment");
            let read: Vec<_> = assigned
                .iter()
                .map(|(id, bytes)| format!("{id}: {}", texts(&offer.decode(bytes).expect("readable"))))
                .collect();
            assert_eq!(read, ["a: t-0,t-1", "b: t-2,t-3"]);
        }
    }
}
