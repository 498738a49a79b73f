//! Admin calls for groups: their coordinators are found, move and stop.

use std::collections::BTreeMap;

use milena::{
    Client, CommittedOffset, ErrorCode, ErrorKind, GroupFilter, GroupState, GroupType, MemberDescription,
};
use milena_broker::Cluster;
use milena_core::group::assignors::{Assignment, Subscription, TopicPartitions};
use milena_messages::header::{RequestHeader, ResponseHeader};
use milena_messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use milena_messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use milena_messages::{Message, Request};
use milena_wire::{Reader, Writer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{PATIENCE, start};

const GROUPS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// A cluster with topic `t` of three partitions, and groups with an offset of 1, 2 and so on in partition 0.
async fn with_groups(nodes: u16) -> (Cluster, Client) {
    let (cluster, client) = start(nodes, &[("t", 3)]).await;
    for (group, offset) in GROUPS.iter().zip(1..) {
        set(&client, group, 0, offset).await;
    }
    (cluster, client)
}

async fn set(client: &Client, group: &str, partition: i32, offset: i64) {
    let admin = client.admin();
    let altering = admin.alter_group_offsets(group, [(("t", partition), offset)]);
    let set = timeout(PATIENCE, altering).await.expect("in time").expect("asked properly");
    assert_eq!(set.len(), 1);
    for (_, set) in set {
        set.unwrap_or_else(|error| panic!("{error}"));
    }
}

/// The offset of each group in partition 0.
async fn offsets(client: &Client) -> Vec<Option<i64>> {
    let admin = client.admin();
    let listed = timeout(PATIENCE, admin.list_group_offsets(GROUPS)).await.expect("in time");
    assert!(listed.iter().map(|(group, _)| group.as_str()).eq(GROUPS), "in the order given");
    let of = |offsets: BTreeMap<(String, i32), CommittedOffset>| {
        offsets.get(&("t".to_owned(), 0)).map(|committed| committed.offset)
    };
    listed.into_iter().map(|(_, offsets)| of(offsets.expect("listed"))).collect()
}

#[tokio::test]
async fn groups_of_all_brokers_are_listed() {
    let (cluster, client) = with_groups(3).await;
    let admin = client.admin();
    let listing = admin.list_groups(&GroupFilter::all()).await.expect("listed");
    assert!(listing.failed.is_empty(), "{:?}", listing.failed);
    assert!(listing.groups.iter().map(|group| group.group.as_str()).eq(GROUPS));
    for group in &listing.groups {
        assert_eq!(Some(group.coordinator), cluster.coordinator(&group.group), "{}", group.group);
        assert_eq!((group.state, group.group_type), (Some(GroupState::Empty), Some(GroupType::Classic)));
    }
    let none = admin.list_groups(&GroupFilter::all().states([GroupState::Stable])).await.expect("listed");
    assert!(none.groups.is_empty());
    let none = admin.list_groups(&GroupFilter::all().types([GroupType::Share])).await.expect("listed");
    assert!(none.groups.is_empty());
}

#[tokio::test]
async fn offsets_are_set_listed_and_deleted_at_the_coordinators_of_their_groups() {
    let (_cluster, client) = with_groups(3).await;
    let admin = client.admin();
    assert_eq!(offsets(&client).await, [1, 2, 3, 4, 5, 6].map(Some));
    let stored = CommittedOffset { offset: 9, leader_epoch: Some(0), metadata: Some("why".into()) };
    let set = admin.alter_group_offsets("a", [(("t", 2), stored.clone()), (("nowhere", 0), 1.into())]).await;
    let set = set.expect("asked properly");
    assert!(set[0].1.is_ok());
    let nowhere = set[1].1.as_ref().expect_err("no such topic");
    assert_eq!(nowhere.kind(), ErrorKind::UnknownTopic);
    assert!(nowhere.to_string().contains("group \"a\" in partition 0 of topic \"nowhere\""), "{nowhere}");

    let asked = [("t", 2), ("t", 1), ("t", 2)];
    let found = admin.list_group_offsets_of("a", asked).await.expect("listed");
    let found: Vec<_> = found.into_iter().map(|(_, offset)| offset.expect("found")).collect();
    assert_eq!(found, [Some(stored.clone()), None, Some(stored)]);
    assert!(admin.list_group_offsets(["no-such-group"]).await.remove(0).1.expect("listed").is_empty());

    let deleted = admin.delete_group_offsets("a", [("t", 2), ("t", 0)]).await;
    assert!(deleted.iter().all(|(_, deleted)| deleted.is_ok()), "{deleted:?}");
    let left = admin.list_group_offsets_of("a", [("t", 2), ("t", 0)]).await.expect("listed");
    assert!(left.into_iter().all(|(_, offset)| offset.expect("found").is_none()));
    let missing = admin.delete_group_offsets("no-such-group", [("t", 0), ("t", 1)]).await;
    for (_, deleted) in missing {
        assert_eq!(deleted.expect_err("no such group").code(), Some(ErrorCode::GROUP_ID_NOT_FOUND));
    }
}

#[tokio::test]
async fn offsets_that_cannot_be_are_refused_before_any_is_set() {
    let (_cluster, client) = with_groups(1).await;
    let admin = client.admin();
    for (offsets, says) in [
        (vec![(("t", 1), 5), (("t", 2), -1)], "offset -1 is negative"),
        (vec![(("t", 1), 5), (("t", 1), 6)], "partition 1 of topic \"t\": the partition is given twice"),
    ] {
        let error = admin.alter_group_offsets("a", offsets).await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(says), "{error}");
    }
    let found = admin.list_group_offsets_of("a", [("t", 1)]).await.expect("listed");
    assert_eq!(found[0].1.as_ref().expect("found"), &None);
}

#[tokio::test]
async fn a_coordinator_that_has_moved_or_stopped_is_looked_up_again() {
    let (cluster, client) = with_groups(3).await;
    offsets(&client).await;
    for group in GROUPS {
        let old = cluster.coordinator(group).expect("coordinated");
        let next = cluster.addresses().keys().copied().find(|node| *node != old).expect("others");
        cluster.move_coordinator(group, next).expect("moved");
    }
    assert_eq!(offsets(&client).await, [1, 2, 3, 4, 5, 6].map(Some));
    let stopped = cluster.coordinator("a").expect("coordinated");
    cluster.stop_node(stopped).await.expect("stopped");
    assert_eq!(offsets(&client).await, [1, 2, 3, 4, 5, 6].map(Some));
    set(&client, "a", 0, 17).await;
    assert_eq!(offsets(&client).await[0], Some(17));
}

#[tokio::test]
async fn groups_are_described_and_deleted_one_by_one() {
    let (_cluster, client) = with_groups(3).await;
    let admin = client.admin();
    let described = timeout(PATIENCE, admin.describe_groups(["a", "no-such-group", "f"])).await;
    let described = described.expect("in time");
    for there in [0, 2] {
        let (group, described) = (&described[there].0, described[there].1.as_ref().expect("described"));
        assert_eq!((&described.group, described.state), (group, GroupState::Empty));
        assert_eq!((described.group_type, described.members.len()), (GroupType::Classic, 0));
    }
    let missing = described[1].1.as_ref().expect_err("no such group");
    assert_eq!(missing.code(), Some(ErrorCode::GROUP_ID_NOT_FOUND));
    assert!(missing.to_string().starts_with("describing group \"no-such-group\": "), "{missing}");

    let deleted = timeout(PATIENCE, admin.delete_groups(["a", "no-such-group", "f"])).await.expect("in time");
    let codes: Vec<_> =
        deleted.iter().map(|(_, deleted)| deleted.as_ref().err().map(milena::Error::code)).collect();
    assert_eq!(codes, [None, Some(Some(ErrorCode::GROUP_ID_NOT_FOUND)), None]);
    let left = admin.list_groups(&GroupFilter::all()).await.expect("listed").groups;
    assert!(left.iter().map(|group| group.group.as_str()).eq(["b", "c", "d", "e"]));
}

#[tokio::test]
async fn a_group_with_members_is_described_and_keeps_its_offsets_until_they_are_removed() {
    let (cluster, client) = with_groups(3).await;
    let admin = client.admin();
    let _member = Member::join(&cluster, "a", "instance-1").await;
    let mut described = admin.describe_groups(["a"]).await.remove(0).1.expect("described");
    assert_eq!((described.state, described.group_type), (GroupState::Stable, GroupType::Classic));
    assert_eq!(
        (described.protocol_type.as_str(), described.assignor.as_deref()),
        ("consumer", Some("range"))
    );
    assert_eq!(Some(described.coordinator.id), cluster.coordinator("a"));
    let member = described.members.remove(0);
    assert!(!member.member_id.is_empty() && member.host.starts_with("127.0.0.1"), "{member:?}");
    let expected = MemberDescription {
        member_id: member.member_id.clone(),
        instance_id: Some("instance-1".into()),
        client_id: "raw".into(),
        host: member.host.clone(),
        rack: Some("r1".into()),
        epoch: None,
        topics: vec!["t".into()],
        pattern: None,
        assignment: Some(BTreeMap::from([("t".into(), vec![0, 2])])),
        target: None,
    };
    assert_eq!(member, expected);

    let refused =
        admin.alter_group_offsets("a", [(("t", 0), 5), (("t", 1), 5)]).await.expect("asked properly");
    for (_, set) in refused {
        let error = set.expect_err("it has a member");
        assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_MEMBER_ID));
        assert!(error.to_string().contains("the group has members"), "{error}");
    }
    let error = admin.delete_groups(["a"]).await.remove(0).1.expect_err("it has a member");
    assert_eq!(error.code(), Some(ErrorCode::NON_EMPTY_GROUP));
    let error = admin.delete_group_offsets("a", [("t", 0)]).await.remove(0).1.expect_err("it is subscribed");
    assert_eq!(error.code(), Some(ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC));

    let missing = admin.remove_members("a", ["instance-2"]).await.remove(0).1.expect_err("no such member");
    assert_eq!(missing.code(), Some(ErrorCode::UNKNOWN_MEMBER_ID));
    let removed = admin.remove_all_members("a").await.expect("described");
    assert!(matches!(&removed[..], [(member, Ok(()))] if member == "instance-1"), "{removed:?}");
    set(&client, "a", 0, 5).await;
}

/// A member of a classic group that says what it is told to say, and never sends a heartbeat.
struct Member(Raw);

impl Member {
    /// Joins `group` alone, and assigns itself two partitions of topic `t`.
    async fn join(cluster: &Cluster, group: &str, instance: &str) -> Self {
        let coordinator = cluster.coordinator(group).expect("coordinated");
        let mut member = Self(Raw::connect(cluster, coordinator).await);
        let subscription =
            Subscription { topics: vec!["t".into()], rack: Some("r1".into()), ..Default::default() };
        let request = JoinGroupRequest {
            group_id: group.into(),
            session_timeout_ms: 60_000,
            rebalance_timeout_ms: 60_000,
            group_instance_id: Some(instance.into()),
            protocol_type: "consumer".into(),
            protocols: vec![JoinGroupRequestProtocol {
                name: "range".into(),
                metadata: subscription.encode(3).expect("encoded"),
                ..Default::default()
            }],
            ..Default::default()
        };
        let joined = member.0.ask(request, 5).await;
        assert!(joined.error_code.is_none(), "{joined:?}");
        let partitions = vec![TopicPartitions { topic: "t".into(), partitions: vec![0, 2] }];
        let assignment = Assignment { partitions, user_data: None };
        let request = SyncGroupRequest {
            group_id: group.into(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            group_instance_id: Some(instance.into()),
            assignments: vec![SyncGroupRequestAssignment {
                member_id: joined.member_id,
                assignment: assignment.encode(3).expect("encoded"),
                ..Default::default()
            }],
            ..Default::default()
        };
        assert!(member.0.ask(request, 3).await.error_code.is_none());
        member
    }
}

/// A connection that sends the requests that the client has no call for.
pub(crate) struct Raw(TcpStream);

impl Raw {
    pub(crate) async fn connect(cluster: &Cluster, node: i32) -> Self {
        Self(TcpStream::connect(cluster.addresses()[&node]).await.expect("connected"))
    }

    pub(crate) async fn ask<R: Request>(&mut self, request: R, version: i16) -> R::Response {
        let mut writer = Writer::new();
        let mark = writer.begin_frame();
        let header = RequestHeader {
            request_api_key: R::KEY.as_i16(),
            request_api_version: version,
            client_id: Some("raw".into()),
            ..Default::default()
        };
        header.encode(&mut writer, R::KEY.request_header_version(version)).expect("encoded");
        request.encode(&mut writer, version).expect("encoded");
        writer.end_frame(mark, "a request").expect("no giant");
        self.0.write_all(&writer.finish().to_vec()).await.expect("written");
        let length = self.0.read_u32().await.expect("answered");
        let mut frame = vec![0; length as usize];
        timeout(PATIENCE, self.0.read_exact(&mut frame)).await.expect("in time").expect("answered");
        let frame = bytes::Bytes::from(frame);
        let mut reader = Reader::new(&frame);
        ResponseHeader::decode(&mut reader, R::KEY.response_header_version(version)).expect("decoded");
        R::Response::decode(&mut reader, version).expect("decoded")
    }
}
