//! Which protocol is used, and what both machines promise whatever happens, on virtual time.

mod company;
mod promises;
mod storms;

use bytes::Bytes;
use milena_messages::ApiKey;
use milena_messages::consumer_group_heartbeat::ConsumerGroupHeartbeatResponse;
use milena_messages::heartbeat::HeartbeatResponse;
use milena_messages::join_group::JoinGroupResponse;
use milena_messages::sync_group::SyncGroupResponse;

use super::testing::{settings, start, topics};
use super::*;

fn member(protocol: Protocol) -> Membership {
    let mut member = Membership::new(Settings { protocol, ..settings(true) }, Rng::seeded(1));
    member.handle_subscription(topics(&["t"]), start());
    member
}

fn ask(member: &mut Membership) -> Ask {
    if member.poll_coordinator_wanted(start()) {
        member.handle_coordinator(Ok(BrokerId(1)), start());
    }
    member.poll_request(start()).expect("a request")
}

fn refuse(member: &mut Membership, error_code: ErrorCode) {
    let ask = ask(member);
    let response = ConsumerGroupHeartbeatResponse { error_code, ..Default::default() };
    member.handle_response(ask.number, Response::Consumer(response), start());
}

#[test]
fn each_protocol_begins_with_its_own_request() {
    assert!(matches!(ask(&mut member(Protocol::Classic)).request, Request::Join(_)));
    assert!(matches!(ask(&mut member(Protocol::Consumer)).request, Request::Consumer(_)));
    assert!(matches!(ask(&mut member(Protocol::Automatic)).request, Request::Consumer(_)));
}

#[test]
fn the_classic_protocol_takes_over_where_the_coordinator_has_no_other() {
    for code in [ErrorCode::UNSUPPORTED_VERSION, ErrorCode::GROUP_ID_NOT_FOUND] {
        let mut member = member(Protocol::Automatic);
        refuse(&mut member, code);
        assert_eq!(member.protocol(), Protocol::Classic);
        assert_eq!(member.poll_handed_over().and_then(|failure| failure.code()), Some(code));
        assert!(member.poll_handed_over().is_none(), "it is told once");
        let join = ask(&mut member);
        assert!(matches!(join.request, Request::Join(_)));
        assert_eq!(join.number, 2, "an answer to the other machine's requests is not taken for one of these");
    }
    let mut member = member(Protocol::Automatic);
    let ask = ask(&mut member);
    let failure = Failure::NoCommonVersion {
        peer: "b:1".into(),
        api: ApiKey::ConsumerGroupHeartbeat,
        reason: "no ConsumerGroupHeartbeat".into(),
    };
    member.handle_lost(ask.number, &failure, start());
    assert_eq!(member.protocol(), Protocol::Classic);
}

#[test]
fn a_protocol_that_was_asked_for_by_name_is_not_replaced() {
    let told = |member: &mut Membership| {
        assert_eq!(member.protocol(), Protocol::Consumer);
        let Some(Event::Failed(failure)) = member.poll_event() else { panic!("it has failed") };
        format!("{failure}; {}", failure.advice().unwrap_or_default())
    };
    // From 3.7 on a broker knows the request, and may have the protocol turned off.
    let mut off = member(Protocol::Consumer);
    refuse(&mut off, ErrorCode::UNSUPPORTED_VERSION);
    let text = told(&mut off);
    assert!(
        text.contains("UNSUPPORTED_VERSION: the coordinator does not have the consumer protocol (KIP-848)")
    );
    assert!(text.contains("from Kafka 4.0 on"), "{text}");
    let mut old = member(Protocol::Consumer);
    let number = ask(&mut old).number;
    let (api, reason) = (ApiKey::ConsumerGroupHeartbeat, "the broker does not know it".into());
    old.handle_lost(number, &Failure::NoCommonVersion { peer: "b:1".into(), api, reason }, start());
    let text = told(&mut old);
    assert!(text.contains("the consumer protocol (KIP-848) needs brokers from Kafka 4.0 on"), "{text}");
    assert!(!text.contains("2.1"), "{text}");
}

#[test]
fn a_member_whose_group_has_become_classic_joins_it_again_and_takes_the_other_protocol_only_if_it_must() {
    for protocol in [Protocol::Automatic, Protocol::Consumer] {
        let mut member = member(protocol);
        let first = ask(&mut member);
        let response = ConsumerGroupHeartbeatResponse { member_epoch: 3, ..Default::default() };
        member.handle_response(first.number, Response::Consumer(response), start());
        // Its session ended without its knowing, and the group was downgraded or deleted: it tries as a new member would.
        let later = start() + Duration::from_secs(5);
        let beat = member.poll_request(later).expect("a heartbeat");
        let error_code = ErrorCode::GROUP_ID_NOT_FOUND;
        let response = ConsumerGroupHeartbeatResponse { error_code, ..Default::default() };
        member.handle_response(beat.number, Response::Consumer(response.clone()), later);
        assert!(member.poll_event().is_none() && member.poll_handed_over().is_none());
        let again = member.poll_request(later).expect("it joins at once");
        let Request::Consumer(request) = &again.request else { panic!("{again:?}") };
        assert_eq!(request.member_epoch, 0);
        // The group stays a classic one.
        member.handle_response(again.number, Response::Consumer(response), later);
        match protocol {
            Protocol::Automatic => assert_eq!(member.protocol(), Protocol::Classic),
            _ => assert!(matches!(member.poll_event(), Some(Event::Failed(_)))),
        }
    }
}

fn respond(member: &mut Membership, response: Response) -> Ask {
    let ask = ask(member);
    member.handle_response(ask.number, response, start());
    ask
}

fn refuse_join(member: &mut Membership) {
    let error_code = ErrorCode::INCONSISTENT_GROUP_PROTOCOL;
    let refused = Response::Join(JoinGroupResponse { error_code, ..Default::default() });
    assert!(matches!(respond(member, refused).request, Request::Join(_)));
}

/// A classic member that owns `t-0` and is asked to join again.
fn classic_member(protocol: Protocol) -> Membership {
    let mut member = member(protocol);
    if protocol == Protocol::Automatic {
        refuse(&mut member, ErrorCode::GROUP_ID_NOT_FOUND);
        assert!(member.poll_handed_over().is_some());
    }
    let joined = JoinGroupResponse {
        generation_id: 1,
        member_id: "m".into(),
        leader: "another".into(),
        protocol_name: Some("greedy".into()),
        ..Default::default()
    };
    respond(&mut member, Response::Join(joined));
    let synced = SyncGroupResponse { assignment: Bytes::from_static(b"t-0"), ..Default::default() };
    respond(&mut member, Response::Sync(synced));
    assert!(matches!(member.poll_event(), Some(Event::Assign { .. })));
    let later = start() + Duration::from_secs(3);
    let beat = member.poll_request(later).expect("a heartbeat");
    let error_code = ErrorCode::REBALANCE_IN_PROGRESS;
    let response = Response::Heartbeat(HeartbeatResponse { error_code, ..Default::default() });
    member.handle_response(beat.number, response, start());
    member
}

#[test]
fn a_classic_member_whose_group_takes_no_classic_members_any_more_goes_over_to_the_consumer_protocol() {
    let mut member = classic_member(Protocol::Automatic);
    refuse_join(&mut member);
    assert!(matches!(member.poll_event(), Some(Event::Lost { .. })), "what it owned belongs to others");
    assert_eq!(member.protocol(), Protocol::Consumer);
    assert_eq!(
        member.poll_handed_over().and_then(|why| why.code()),
        Some(ErrorCode::INCONSISTENT_GROUP_PROTOCOL)
    );
    let beat = ask(&mut member);
    let Request::Consumer(request) = &beat.request else { panic!("{beat:?}") };
    assert_eq!((request.member_epoch, request.subscribed_topic_names.as_ref().map(Vec::len)), (0, Some(1)));

    // Neither protocol takes it: it does not go to and fro.
    let mut member = classic_member(Protocol::Automatic);
    refuse_join(&mut member);
    refuse(&mut member, ErrorCode::GROUP_ID_NOT_FOUND);
    refuse_join(&mut member);
    let events: Vec<_> = std::iter::from_fn(|| member.poll_event()).collect();
    assert!(matches!(&events[..], [Event::Lost { .. }, Event::Failed(_)]), "{events:?}");

    // One that was asked to be classic is not replaced.
    let mut member = classic_member(Protocol::Classic);
    refuse_join(&mut member);
    assert_eq!(member.protocol(), Protocol::Classic);
    assert!(std::iter::from_fn(|| member.poll_event()).any(|event| matches!(event, Event::Failed(_))));
}
