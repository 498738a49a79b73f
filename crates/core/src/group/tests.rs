//! Which protocol is used, and what both machines promise whatever happens, on virtual time.

mod company;
mod promises;
mod storms;

use milena_messages::ApiKey;
use milena_messages::consumer_group_heartbeat::ConsumerGroupHeartbeatResponse;

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
