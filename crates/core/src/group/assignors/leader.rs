//! What the leader of a classic group does between the answers to JoinGroup and its SyncGroup request.

use bytes::Bytes;
use milena_messages::join_group::JoinGroupResponseMember;
use milena_messages::sync_group::SyncGroupRequestAssignment;
use milena_wire::{DecodeError, Str};

use super::subscription::{Assignment, Subscription, VERSION_MAX};
use super::{Assignor, ClusterView, Member, RebalanceProtocol};
use crate::Failure;

/// The members of a group, as the answer to its leader's JoinGroup request lists them.
#[derive(Debug, Clone, Default)]
pub struct Group {
    members: Vec<Member>,
    unreadable: Vec<Unreadable>,
}

/// A member whose subscription cannot be read. It gets no partitions, and does not keep the other members from theirs.
#[derive(Debug, Clone)]
pub struct Unreadable {
    /// The member's id.
    pub member_id: Str,
    /// What is wrong with its subscription.
    pub error: DecodeError,
}

impl Group {
    /// Reads every member's subscription.
    pub fn decode(members: &[JoinGroupResponseMember]) -> Self {
        let mut unreadable = Vec::new();
        let members = members.iter().map(|member| {
            let subscription = Subscription::decode(&member.metadata).unwrap_or_else(|error| {
                unreadable.push(Unreadable { member_id: member.member_id.clone(), error });
                Subscription::default()
            });
            Member {
                id: member.member_id.clone(),
                instance_id: member.group_instance_id.clone(),
                subscription,
            }
        });
        Self { members: members.collect(), unreadable }
    }

    /// The members.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The members whose subscription cannot be read.
    pub fn unreadable(&self) -> &[Unreadable] {
        &self.unreadable
    }

    /// All topics that some member subscribes, sorted. The leader needs metadata of all of them, also of those that it does
    /// not read itself.
    pub fn topics(&self) -> Vec<Str> {
        let mut topics: Vec<&Str> =
            self.members.iter().flat_map(|member| &member.subscription.topics).collect();
        topics.sort_unstable();
        topics.dedup();
        topics.into_iter().cloned().collect()
    }

    /// Every member's assignment, for the SyncGroup request.
    ///
    /// # Errors
    /// When the assignor fails, or when its assignment breaks a rule: a partition has two members or does not exist, a
    /// member does not subscribe it, or under the cooperative protocol a partition has a new member before its owner has
    /// given it up.
    pub fn assign(
        &self,
        assignor: &dyn Assignor,
        protocol: RebalanceProtocol,
        cluster: &ClusterView,
    ) -> Result<Vec<SyncGroupRequestAssignment>, Failure> {
        let assignments = assignor.assign(cluster, &self.members)?;
        let broken =
            |why: String| Failure::Caller(format!("the assignor {:?} {why}", assignor.name()).into());
        check(&self.members, &assignments, protocol, cluster).map_err(broken)?;
        let encoded = self.members.iter().zip(&assignments).map(|(member, assignment)| {
            let assignment = encode(assignment).map_err(broken)?;
            let member_id = member.id.clone();
            Ok(SyncGroupRequestAssignment { member_id, assignment, ..SyncGroupRequestAssignment::default() })
        });
        encoded.collect()
    }
}

fn encode(assignment: &Assignment) -> Result<Bytes, String> {
    // All versions have the same fields, and Java's members read any version.
    assignment
        .encode(VERSION_MAX)
        .map_err(|error| format!("made an assignment that cannot be written: {error}"))
}

/// A custom assignor may break rules that would make two members read one partition.
pub(super) fn check(
    members: &[Member],
    assignments: &[Assignment],
    protocol: RebalanceProtocol,
    cluster: &ClusterView,
) -> Result<(), String> {
    if assignments.len() != members.len() {
        return Err(format!("made {} assignments for {} members", assignments.len(), members.len()));
    }
    // By place of the topic and of the partition: the member that gets it.
    let mut assigned: Vec<Vec<Option<u32>>> =
        cluster.topics().iter().map(|topic| vec![None; topic.partitions.len()]).collect();
    for (at, (member, assignment)) in members.iter().zip(assignments).enumerate() {
        let topics = &member.subscription.topics;
        // Most clients sort their topics. In a long list that is not sorted, searching takes its time.
        let is_sorted = topics.is_sorted();
        for entry in &assignment.partitions {
            let subscribes = if is_sorted {
                topics.binary_search(&entry.topic).is_ok()
            } else {
                topics.contains(&entry.topic)
            };
            if !subscribes {
                return Err(format!(
                    "assigned topic {:?} to a member that does not subscribe it",
                    entry.topic
                ));
            }
            for partition in &entry.partitions {
                let name = || format!("partition {partition} of topic {:?}", entry.topic);
                let topic = cluster.position(entry.topic.as_bytes());
                let place =
                    topic.and_then(|topic| Some((topic, cluster.topics()[topic].position(*partition)?)));
                let Some((topic, place)) = place else {
                    return Err(format!("assigned {}, which does not exist", name()));
                };
                if assigned[topic][place].replace(at as u32).is_some() {
                    return Err(format!("assigned {} twice", name()));
                }
            }
        }
    }
    if protocol == RebalanceProtocol::Cooperative {
        check_given_up(members, cluster, &assigned)?;
    }
    Ok(())
}

/// A partition that a member owns must not be assigned to a member that does not own it (KIP-429).
fn check_given_up(
    members: &[Member],
    cluster: &ClusterView,
    assigned: &[Vec<Option<u32>>],
) -> Result<(), String> {
    // By place of the topic and of the partition: whether the member that gets it owns it already.
    let mut kept: Vec<Vec<bool>> = assigned.iter().map(|places| vec![false; places.len()]).collect();
    let owned = |member: &Member, each: &mut dyn FnMut(usize, usize)| {
        for entry in &member.subscription.owned {
            let Some(topic) = cluster.position(entry.topic.as_bytes()) else { continue };
            for place in entry.partitions.iter().filter_map(|index| cluster.topics()[topic].position(*index))
            {
                each(topic, place);
            }
        }
    };
    for (at, member) in members.iter().enumerate() {
        owned(member, &mut |topic, place| kept[topic][place] |= assigned[topic][place] == Some(at as u32));
    }
    let mut early = None;
    for member in members {
        owned(member, &mut |topic, place| {
            if assigned[topic][place].is_some() && !kept[topic][place] {
                early = Some((topic, place));
            }
        });
    }
    let Some((topic, place)) = early else { return Ok(()) };
    let topic = &cluster.topics()[topic];
    let partition = topic.partitions[place].index;
    Err(format!("assigned partition {partition} of topic {:?} before its owner has given it up", topic.name))
}
