//! Merging and routing, and snapshots for other modules' tests.

use milena_messages::metadata::MetadataResponseBroker;

use super::*;

/// A cluster of brokers 0 to 3 in which partition `n` of `topic` has the `n`th leader and epoch.
pub(crate) fn snapshot(topic: &str, leaders: &[(i32, i32)]) -> Snapshot {
    Snapshot::default().merge(&response(topic, leaders), false)
}

pub(crate) fn response(topic: &str, leaders: &[(i32, i32)]) -> MetadataResponse {
    let broker =
        |node_id| MetadataResponseBroker { node_id, host: "b".into(), port: 9092, ..Default::default() };
    let partition = |(index, (leader_id, leader_epoch)): (usize, &(i32, i32))| MetadataResponsePartition {
        partition_index: index as i32,
        leader_id: *leader_id,
        leader_epoch: *leader_epoch,
        ..Default::default()
    };
    let topic = MetadataResponseTopic {
        name: Some(topic.into()),
        partitions: leaders.iter().enumerate().map(partition).collect(),
        ..Default::default()
    };
    MetadataResponse { brokers: (0..4).map(broker).collect(), topics: vec![topic], ..Default::default() }
}

pub(crate) fn set_topic_id(snapshot: &mut Snapshot, topic: &str, id: u8) {
    let Some(Ok(topic)) = snapshot.topics.get_mut(topic) else { panic!("no such topic") };
    Arc::make_mut(topic).id = Some(Uuid::from_bytes([id; 16]));
}

fn leader(snapshot: &Snapshot) -> (i32, i32) {
    let (_, partition) = snapshot.partition("t", 0).expect("known");
    (partition.leader.map_or(-1, |leader| leader.0), partition.leader_epoch.map_or(-1, |epoch| epoch.0))
}

#[test]
fn a_lower_leader_epoch_is_believed_only_after_several_agree() {
    let mut seen = snapshot("t", &[(1, 5)]);
    for _ in 0..STALE_REPORTS_MAX - 1 {
        seen = seen.merge(&response("t", &[(2, 4)]), false);
        assert_eq!(leader(&seen), (1, 5));
    }
    seen = seen.merge(&response("t", &[(2, 4)]), false);
    assert_eq!(leader(&seen), (2, 4));
    // A report that fits starts the count anew.
    seen = seen.merge(&response("t", &[(3, 6)]), false).merge(&response("t", &[(2, 4)]), false);
    assert_eq!(leader(&seen.merge(&response("t", &[(3, 6)]), false)), (3, 6));
}

#[test]
fn a_topic_made_anew_starts_its_epochs_anew() {
    let mut old = snapshot("t", &[(1, 5)]);
    set_topic_id(&mut old, "t", 1);
    let mut anew = response("t", &[(2, 0)]);
    anew.topics[0].topic_id = Uuid::from_bytes([2; 16]);
    assert_eq!(leader(&old.merge(&anew, false)), (2, 0));
}

#[test]
fn what_a_response_does_not_mention_stays() {
    let both = snapshot("t", &[(1, 0)]).merge(&response("u", &[(2, 0)]), false);
    assert!(both.routable("t").is_ok() && both.routable("u").is_ok());
    let only = both.merge(&response("u", &[(2, 0)]), true);
    assert!(only.routable("t").is_err());
    let starting = both.merge(&MetadataResponse::default(), false);
    assert_eq!(starting.brokers.len(), 4, "a broker that is starting knows no other yet");
}

#[test]
fn a_hint_counts_when_it_is_newer_and_the_leader_can_be_reached() {
    let seen = snapshot("t", &[(1, 5)]);
    let hint = |leader, epoch, port: Option<i32>| LeaderHint {
        topic: Arc::from("t"),
        partition: 0,
        leader: BrokerId(leader),
        epoch: LeaderEpoch(epoch),
        endpoint: port.map(|port| (Arc::from("c"), port)),
    };
    assert!(seen.with_hints(&[hint(2, 5, None)]).is_none(), "not newer");
    assert!(seen.with_hints(&[hint(9, 6, None)]).is_none(), "its address is not known");
    assert_eq!(leader(&seen.with_hints(&[hint(2, 6, None)]).expect("newer")), (2, 6));
    let moved = seen.with_hints(&[hint(9, 6, Some(1))]).expect("newer, and it says where");
    assert_eq!(moved.brokers[&BrokerId(9)].port, 1);
}

/// A broker that hands its partitions over hints at each of them in one answer. With a copy of the topic for each hint
/// this would copy a hundred million partitions.
#[test]
fn each_of_many_hints_counts_and_the_snapshot_before_stays() {
    const COUNT: i32 = 10_000;
    let seen = snapshot("t", &vec![(1, 5); COUNT as usize]);
    let hint = |partition| LeaderHint {
        topic: Arc::from("t"),
        partition,
        leader: BrokerId(2),
        epoch: LeaderEpoch(6),
        endpoint: None,
    };
    let moved = seen.with_hints(&(0..COUNT).map(hint).collect::<Vec<_>>()).expect("newer");
    let leaders = |snapshot: &Snapshot| -> Vec<_> {
        let partitions = &snapshot.topic("t").expect("known").partitions;
        partitions.iter().map(|partition| partition.leader.map_or(-1, |leader| leader.0)).collect()
    };
    assert_eq!(leaders(&moved), vec![2; COUNT as usize]);
    assert_eq!((leaders(&seen), moved.generation), (vec![1; COUNT as usize], seen.generation + 1));
}

#[test]
fn routes_name_what_is_missing() {
    let seen = snapshot("t", &[(1, 0), (-1, 0), (7, 0)]);
    let check = |partition, expected: Result<Option<BrokerId>, &str>| {
        let route = seen.route(&Destination::Leader { topic: Arc::from("t"), partition });
        assert_eq!(route.map_err(|failure| failure.to_string()), expected.map_err(str::to_owned));
    };
    check(0, Ok(Some(BrokerId(1))));
    check(1, Err("partition 1 of topic \"t\" has no leader at present"));
    check(2, Err("broker 7 is not up"));
    check(3, Err("topic \"t\" has 3 partitions and no partition 3"));
    assert_eq!(seen.route(&Destination::Any).expect("any"), None);
    assert!(seen.route(&Destination::Controller).is_err());
}

#[test]
fn an_answer_names_a_coordinator_or_says_why_there_is_none() {
    let answer = |error_code, node_id, port| {
        Coordinated::coordinator(&milena_messages::find_coordinator::FindCoordinatorResponse {
            error_code,
            node_id,
            host: "c".into(),
            port,
            ..Default::default()
        })
    };
    let found = answer(ErrorCode::NONE, 2, 1).expect("found");
    assert_eq!((found.id, &*found.host, found.port), (BrokerId(2), "c", 1));
    let none_yet = answer(ErrorCode::COORDINATOR_NOT_AVAILABLE, -1, -1).expect_err("none yet");
    assert_eq!(none_yet.code(), Some(ErrorCode::COORDINATOR_NOT_AVAILABLE));
    for (node_id, port) in [(-1, 1), (2, -1), (2, 65_536)] {
        assert!(answer(ErrorCode::NONE, node_id, port).is_err(), "broker {node_id}, port {port}");
    }
}

#[test]
fn a_snapshot_keeps_no_frame_alive() {
    let frame = bytes::Bytes::from(vec![b'x'; 100]);
    let name = milena_wire::Str::from_utf8(frame.clone()).expect("text");
    let mut response = response("t", &[(1, 0)]);
    response.topics[0].name = Some(name.clone());
    response.cluster_id = Some(name);
    let seen = Snapshot::default().merge(&response, false);
    drop(response);
    assert!(frame.is_unique() && seen.cluster_id.is_some());
}

#[test]
fn one_garbled_answer_refuses_no_look_up_and_what_only_people_can_mend_does() {
    let is_final = |snapshot: &Snapshot| snapshot.topic_state("t").expect_err("undescribed").is_final;
    let malformed = || Failure::Malformed { peer: "b:1".into(), reason: "it is garbage".into() };
    let nothing = Snapshot::default();
    assert!(!is_final(&nothing));
    let once = nothing.with_trouble(malformed());
    assert!(!is_final(&once), "the next answer may be good");
    assert!(is_final(&once.with_trouble(malformed())), "twice in a row is no accident");
    let good_between = once.merge(&response("u", &[(1, 0)]), false);
    assert!(!is_final(&good_between.with_trouble(malformed())));
    let lost_between = once.with_trouble(Failure::unreachable("b:1", "it is down"));
    assert!(!is_final(&lost_between) && !is_final(&lost_between.with_trouble(malformed())));
    assert!(!is_final(&nothing.with_trouble(Failure::Closed)), "a task that failed is started again");
    let refused =
        |obstacle| Failure::Unreachable { peer: "b:1".into(), obstacle, cause: None, reason: "no".into() };
    for failure in [
        refused(crate::Obstacle::Credentials),
        refused(crate::Obstacle::Certificate),
        refused(crate::Obstacle::Configuration),
        refused(crate::Obstacle::Peer),
        Failure::NoCommonVersion {
            peer: "b:1".into(),
            api: ApiKey::Metadata,
            reason: "it is too old".into(),
        },
        Failure::answer(ErrorCode::CLUSTER_AUTHORIZATION_FAILED, None),
    ] {
        assert!(is_final(&nothing.with_trouble(failure.clone())), "{failure}");
    }
}
