//! How the answers about groups become [`GroupDescription`]s.

use std::collections::BTreeMap;

use milena_core::Failure;
use milena_core::group::assignors::{Assignment, Subscription};
use milena_core::metadata::Broker;
use milena_messages::ErrorCode;
use milena_messages::consumer_group_describe as consumers;
use milena_messages::describe_groups as classic;

use super::{BrokerDescription, GroupDescription, GroupState, GroupType, MemberDescription};

/// The protocol type of consumers. The members of other groups have bytes of another form.
const CONSUMERS: &str = "consumer";

impl GroupDescription {
    /// A group of the classic protocol. Brokers before Kafka 4.0 describe a group that does not exist as dead.
    pub(super) fn of_classic(group: &classic::DescribedGroup, coordinator: &Broker) -> Result<Self, Failure> {
        let state = GroupState::of(&group.group_state);
        if state == GroupState::Dead {
            return Err(Failure::answer(ErrorCode::GROUP_ID_NOT_FOUND, None));
        }
        let has_consumers = group.protocol_type.is_empty() || &*group.protocol_type == CONSUMERS;
        let member = |member| MemberDescription::of_classic(member, has_consumers);
        Ok(Self {
            group: group.group_id.to_string(),
            group_type: GroupType::Classic,
            state,
            protocol_type: group.protocol_type.to_string(),
            assignor: given(&group.protocol_data),
            coordinator: BrokerDescription::from(coordinator),
            epoch: None,
            assignment_epoch: None,
            members: group.members.iter().map(member).collect(),
        })
    }

    /// A group of the consumer protocol.
    pub(super) fn of_consumers(group: &consumers::DescribedGroup, coordinator: &Broker) -> Self {
        Self {
            group: group.group_id.to_string(),
            group_type: GroupType::Consumer,
            state: GroupState::of(&group.group_state),
            protocol_type: CONSUMERS.to_owned(),
            assignor: given(&group.assignor_name),
            coordinator: BrokerDescription::from(coordinator),
            epoch: Some(group.group_epoch),
            assignment_epoch: Some(group.assignment_epoch),
            members: group.members.iter().map(MemberDescription::of_consumers).collect(),
        }
    }
}

impl MemberDescription {
    fn of_classic(member: &classic::DescribedGroupMember, is_consumer: bool) -> Self {
        // What other clients wrote there must not stand in the way of the rest.
        let read = |bytes| Subscription::decode(bytes).ok();
        let subscription = Some(&member.member_metadata).filter(|_| is_consumer).and_then(read);
        let assignment = Assignment::decode(&member.member_assignment).ok().filter(|_| is_consumer);
        let by_topic = |assignment: Assignment| {
            let by_topic = assignment.partitions.into_iter();
            by_topic.map(|of| (of.topic.to_string(), of.partitions)).collect()
        };
        let subscribed = subscription.as_ref().map_or(&[][..], |subscription| &subscription.topics);
        Self {
            member_id: member.member_id.to_string(),
            instance_id: member.group_instance_id.as_deref().map(str::to_owned),
            client_id: member.client_id.to_string(),
            host: host(&member.client_host),
            rack: subscription.as_ref().and_then(|subscription| given(subscription.rack.as_deref()?)),
            epoch: None,
            topics: subscribed.iter().map(ToString::to_string).collect(),
            pattern: None,
            assignment: assignment.map(by_topic),
            target: None,
        }
    }

    fn of_consumers(member: &consumers::Member) -> Self {
        Self {
            member_id: member.member_id.to_string(),
            instance_id: member.instance_id.as_deref().map(str::to_owned),
            client_id: member.client_id.to_string(),
            host: host(&member.client_host),
            rack: member.rack_id.as_deref().and_then(given),
            epoch: Some(member.member_epoch),
            topics: member.subscribed_topic_names.iter().map(ToString::to_string).collect(),
            pattern: member.subscribed_topic_regex.as_deref().and_then(given),
            assignment: Some(partitions(&member.assignment)),
            target: Some(partitions(&member.target_assignment)),
        }
    }
}

fn partitions(assignment: &consumers::Assignment) -> BTreeMap<String, Vec<i32>> {
    let mut by_topic: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for of in &assignment.topic_partitions {
        by_topic.entry(of.topic_name.to_string()).or_default().extend_from_slice(&of.partitions);
    }
    by_topic.values_mut().for_each(|partitions| partitions.sort_unstable());
    by_topic
}

/// A Java broker writes an address as `/127.0.0.1`.
fn host(text: &str) -> String {
    text.strip_prefix('/').unwrap_or(text).to_owned()
}

fn given(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use milena_core::BrokerId;

    use super::*;

    /// A group of one member, which wrote these bytes.
    fn described(protocol_type: &str, bytes: &'static [u8]) -> GroupDescription {
        let coordinator = Broker { id: BrokerId(1), host: Arc::from("b"), port: 9092, rack: None };
        let member = classic::DescribedGroupMember {
            member_id: "m".into(),
            client_host: "/10.0.0.1".into(),
            member_metadata: Bytes::from_static(bytes),
            member_assignment: Bytes::from_static(bytes),
            ..Default::default()
        };
        let group = classic::DescribedGroup {
            group_state: "Stable".into(),
            protocol_type: protocol_type.into(),
            members: vec![member],
            ..Default::default()
        };
        GroupDescription::of_classic(&group, &coordinator).expect("there")
    }

    #[test]
    fn a_member_that_writes_something_else_is_shown_without_an_assignment() {
        for (protocol_type, bytes) in [
            // Kafka Connect.
            ("connect", &[0, 1, 0, 0, 0, 0][..]),
            // A negative version, two billion topics, and an end within the first.
            ("consumer", &[0xff, 0xff, 0, 0, 0, 0]),
            ("consumer", &[0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 1, b't']),
            ("consumer", &[0, 0, 0, 0, 0, 1, 0, 9, b't']),
        ] {
            let member = described(protocol_type, bytes).members.remove(0);
            assert_eq!((member.host.as_str(), member.assignment, member.topics.len()), ("10.0.0.1", None, 0));
        }
        let without = described("consumer", &[]).members.remove(0);
        assert_eq!(without.assignment, Some(BTreeMap::new()), "nothing was assigned to it");
    }

    #[test]
    fn a_dead_group_does_not_exist() {
        let coordinator = Broker { id: BrokerId(1), host: Arc::from("b"), port: 9092, rack: None };
        let group = classic::DescribedGroup { group_state: "Dead".into(), ..Default::default() };
        let missing = GroupDescription::of_classic(&group, &coordinator).expect_err("it does not exist");
        assert_eq!(missing.code(), Some(ErrorCode::GROUP_ID_NOT_FOUND));
    }
}
