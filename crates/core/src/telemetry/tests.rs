//! The machine on virtual time.

use super::*;
use crate::table;

const SECOND: Duration = Duration::from_secs(1);

fn id(last: u8) -> Uuid {
    Uuid::from_bytes([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last])
}

fn answer(names: &[&str]) -> GetTelemetrySubscriptionsResponse {
    GetTelemetrySubscriptionsResponse {
        client_instance_id: id(1),
        subscription_id: 7,
        accepted_compression_types: vec![4, 3, 1, 2],
        push_interval_ms: 10_000,
        telemetry_max_bytes: 1 << 20,
        delta_temporality: true,
        requested_metrics: names.iter().map(|name| (*name).into()).collect(),
        ..Default::default()
    }
}

/// A machine that has a subscription, and when its first push is due.
fn subscribed() -> (Telemetry, Instant) {
    let mut machine = Telemetry::new(Compression::ALL.to_vec(), Rng::seeded(7), Instant::ORIGIN);
    assert_eq!(machine.poll_ask(Instant::ORIGIN), Some(Ask::Get(Uuid::ZERO)));
    machine.handle_subscription(&answer(&["*"]), Instant::ORIGIN);
    let at = machine.poll_timeout().expect("a push is due some time");
    (machine, at)
}

fn push(machine: &mut Telemetry, now: Instant) -> Push {
    match machine.poll_ask(now) {
        Some(Ask::Push(push)) => push,
        other => panic!("no push, but {other:?}"),
    }
}

fn lost(sent: bool) -> Failure {
    Failure::Lost { peer: "b".into(), reason: "gone".into(), sent }
}

#[test]
fn the_table_is_as_printed() {
    let states = [
        State::Get,
        State::Getting,
        State::Push,
        State::Pushing,
        State::PushingBeforeLast,
        State::LastPush,
        State::LastPushing,
        State::Ended,
        State::Off,
    ];
    let events =
        [Event::Ask, Event::Subscribed, Event::Unsubscribed, Event::Pushed, Event::Refused, Event::Close];
    let table = table::print(&states, &events, |state, event| (next(state, event), ()));
    let expected = "\
Get
  Ask → Getting
  Subscribed → Push
  Pushed → Push
  Refused → Off
  Close → Ended
  nothing on Unsubscribed
Getting
  Subscribed → Push
  Unsubscribed → Get
  Pushed → Push
  Refused → Off
  Close → Ended
  nothing on Ask
Push
  Ask → Pushing
  Unsubscribed → Get
  Refused → Off
  Close → LastPush
  nothing on Subscribed, Pushed
Pushing
  Subscribed → Push
  Unsubscribed → Get
  Pushed → Push
  Refused → Off
  Close → PushingBeforeLast
  nothing on Ask
PushingBeforeLast
  Subscribed → Ended
  Unsubscribed → Ended
  Pushed → LastPush
  Refused → Ended
  nothing on Ask, Close
LastPush
  Ask → LastPushing
  nothing on Subscribed, Unsubscribed, Pushed, Refused, Close
LastPushing
  Subscribed → Ended
  Unsubscribed → Ended
  Pushed → Ended
  Refused → Ended
  nothing on Ask, Close
Ended
  nothing on Ask, Subscribed, Unsubscribed, Pushed, Refused, Close
Off
  Close → Ended
  nothing on Ask, Subscribed, Unsubscribed, Pushed, Refused
";
    assert_eq!(table, expected, "\n{table}");
}

#[test]
fn the_first_push_comes_after_half_an_interval_to_one_and_a_half_and_the_next_after_one() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let mut machine = Telemetry::new(Compression::ALL.to_vec(), Rng::seeded(seed), Instant::ORIGIN);
        machine.poll_ask(Instant::ORIGIN);
        machine.handle_subscription(&answer(&["*"]), Instant::ORIGIN);
        let first = machine.poll_timeout().expect("due") - Instant::ORIGIN;
        assert!(first >= SECOND * 5 && first <= SECOND * 15, "{first:?}");
        seen.insert(first);
    }
    assert!(seen.len() > 150, "they are spread");

    let (mut machine, at) = subscribed();
    assert_eq!(machine.poll_ask(Instant::ORIGIN + SECOND), None, "it is not time");
    let first = push(&mut machine, at);
    assert_eq!((first.subscription_id, first.is_last, first.is_delta), (7, false, true));
    assert_eq!(
        (first.compression, first.bytes_max, &*first.wanted),
        (Compression::Zstd, 1 << 20, &Wanted::All)
    );
    assert_eq!((machine.poll_ask(at), machine.poll_timeout()), (None, None), "one request at a time");
    assert!(machine.handle_pushed(ErrorCode::NONE, at + SECOND));
    assert_eq!(machine.poll_timeout(), Some(at + SECOND * 11));
}

#[test]
fn without_wanted_metrics_it_asks_again_after_the_interval_with_its_id() {
    let mut machine = Telemetry::new(Compression::ALL.to_vec(), Rng::seeded(7), Instant::ORIGIN);
    assert_eq!(machine.instance(), Instance::Unknown);
    machine.poll_ask(Instant::ORIGIN);
    machine.handle_subscription(&answer(&[]), Instant::ORIGIN);
    assert_eq!(machine.instance(), Instance::Known(id(1)));
    let later = Instant::ORIGIN + SECOND * 10;
    assert_eq!(machine.poll_timeout(), Some(later));
    assert_eq!(machine.poll_ask(later), Some(Ask::Get(id(1))));
    machine.handle_close();
    assert!(machine.has_ended(), "nobody waits for a last push");
}

#[test]
fn each_code_is_followed_as_java_follows_it() {
    // The state after it, and how long until the next request.
    for (code, state, wait) in [
        (ErrorCode::UNKNOWN_SUBSCRIPTION_ID, State::Get, Some(Duration::ZERO)),
        (ErrorCode::UNSUPPORTED_COMPRESSION_TYPE, State::Get, Some(Duration::ZERO)),
        (ErrorCode::TELEMETRY_TOO_LARGE, State::Get, Some(SECOND * 10)),
        (ErrorCode::THROTTLING_QUOTA_EXCEEDED, State::Get, Some(SECOND * 10)),
        (ErrorCode::REQUEST_TIMED_OUT, State::Get, Some(SECOND * 10)),
        (ErrorCode::INVALID_RECORD, State::Off, None),
        (ErrorCode::INVALID_REQUEST, State::Off, None),
        (ErrorCode::UNSUPPORTED_VERSION, State::Off, None),
        (ErrorCode::UNKNOWN_SERVER_ERROR, State::Off, None),
        (ErrorCode::from_i16(999), State::Off, None),
    ] {
        let (mut machine, at) = subscribed();
        push(&mut machine, at);
        assert!(!machine.handle_pushed(code, at), "{code:?}: it has not arrived");
        assert_eq!(machine.state, state, "{code:?}");
        assert_eq!(machine.poll_timeout(), wait.map(|wait| at + wait), "{code:?}");
        if state == State::Off {
            assert!(matches!(machine.instance(), Instance::Refused(_)));
        }
    }
}

#[test]
fn a_broker_that_refuses_every_push_is_not_asked_as_fast_as_it_answers() {
    let (mut machine, mut now) = subscribed();
    let mut requests = 0;
    let end = now + SECOND * 100;
    while let Some(at) = machine.poll_timeout() {
        if at > end {
            break;
        }
        now = at;
        requests += 1;
        match machine.poll_ask(now).expect("due") {
            Ask::Get(_) => machine.handle_subscription(
                &GetTelemetrySubscriptionsResponse {
                    error_code: ErrorCode::UNKNOWN_SUBSCRIPTION_ID,
                    ..answer(&[])
                },
                now,
            ),
            Ask::Push(_) => {
                machine.handle_pushed(ErrorCode::UNKNOWN_SUBSCRIPTION_ID, now);
            }
        }
    }
    assert!((8..15).contains(&requests), "{requests}");
}

#[test]
fn codecs_are_tried_in_the_brokers_order_and_none_is_the_last() {
    let (mut machine, mut at) = subscribed();
    for codec in [Compression::Zstd, Compression::Lz4, Compression::Gzip, Compression::Snappy] {
        assert_eq!(push(&mut machine, at).compression, codec);
        machine.handle_pushed(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE, at);
        assert_eq!(machine.poll_ask(at), Some(Ask::Get(id(1))), "it asks at once");
        machine.handle_subscription(&answer(&["*"]), at);
        at = machine.poll_timeout().expect("due");
    }
    assert_eq!(push(&mut machine, at).compression, Compression::None);
    let mut unknown = answer(&["*"]);
    unknown.accepted_compression_types = vec![9, -1, 3];
    assert_eq!(Subscription::new(&unknown, &Compression::ALL).codec(&[]), Compression::Lz4);
    assert_eq!(Subscription::new(&unknown, &[Compression::Zstd]).codec(&[]), Compression::None);
}

#[test]
fn a_payload_that_is_too_large_is_halved_until_another_subscription_comes() {
    let (mut machine, mut at) = subscribed();
    for (sent, expected) in [(10_000, 5000), (5000, 2500), (1500, 1024), (1000, 1024)] {
        push(&mut machine, at);
        machine.note_pushing(sent);
        machine.handle_pushed(ErrorCode::TELEMETRY_TOO_LARGE, at);
        at = machine.poll_timeout().expect("due");
        machine.poll_ask(at).expect("asks");
        machine.handle_subscription(&answer(&["*"]), at);
        at = machine.poll_timeout().expect("due");
        let subscription = machine.subscription.as_ref().expect("there");
        assert_eq!(machine.push(subscription).bytes_max, expected);
    }
    push(&mut machine, at);
    machine.handle_pushed(ErrorCode::UNKNOWN_SUBSCRIPTION_ID, at);
    machine.poll_ask(at).expect("asks");
    machine
        .handle_subscription(&GetTelemetrySubscriptionsResponse { subscription_id: 8, ..answer(&["*"]) }, at);
    let subscription = machine.subscription.as_ref().expect("there");
    assert_eq!(machine.push(subscription).bytes_max, 1 << 20);
}

#[test]
fn a_lost_connection_delays_nothing_and_what_may_have_arrived_counts_as_arrived() {
    for sent in [true, false] {
        let (mut machine, at) = subscribed();
        push(&mut machine, at);
        assert_eq!(machine.handle_failure(&lost(sent), at), sent);
        assert_eq!((machine.state, machine.poll_timeout()), (State::Push, Some(at + SECOND * 10)));
    }
    // Without a subscription the wait grows.
    let mut machine = Telemetry::new(Compression::ALL.to_vec(), Rng::seeded(7), Instant::ORIGIN);
    let (mut now, mut waits) = (Instant::ORIGIN, Vec::new());
    for _ in 0..12 {
        machine.poll_ask(now).expect("due");
        machine.handle_failure(&lost(true), now);
        let at = machine.poll_timeout().expect("due");
        waits.push(at - now);
        now = at;
    }
    assert!(waits[0] < SECOND * 2 && waits[11] > SECOND * 200 && waits[11] < SECOND * 400, "{waits:?}");
}

#[test]
fn brokers_that_do_not_offer_it_are_asked_again_in_an_hour() {
    let mut machine = Telemetry::new(Compression::ALL.to_vec(), Rng::seeded(7), Instant::ORIGIN);
    machine.poll_ask(Instant::ORIGIN);
    let api = milena_messages::ApiKey::GetTelemetrySubscriptions;
    let failure = Failure::NoCommonVersion { peer: "b".into(), api, reason: "it has none".into() };
    assert!(!machine.handle_failure(&failure, Instant::ORIGIN));
    assert_eq!(machine.poll_timeout(), Some(Instant::ORIGIN + SECOND * 3600));
    assert!(matches!(machine.instance(), Instance::Refused(_)));
}

#[test]
fn closing_makes_one_last_push_after_the_one_that_is_under_way() {
    let (mut machine, at) = subscribed();
    machine.handle_close();
    assert!(machine.poll_timeout().is_some_and(|due| due < at), "it does not wait for its time");
    let last = push(&mut machine, Instant::ORIGIN);
    assert!(last.is_last);
    assert!(machine.handle_pushed(ErrorCode::NONE, at) && machine.has_ended());
    assert_eq!((machine.poll_ask(at + SECOND * 100), machine.poll_timeout()), (None, None));

    for (code, more) in [(ErrorCode::NONE, true), (ErrorCode::UNKNOWN_SUBSCRIPTION_ID, false)] {
        let (mut machine, at) = subscribed();
        push(&mut machine, at);
        machine.handle_close();
        assert_eq!(machine.poll_ask(at), None, "one push at a time");
        machine.handle_pushed(code, at);
        assert_eq!((machine.poll_timeout().is_some(), machine.has_ended()), (more, !more), "{code:?}");
    }
    let (mut machine, at) = subscribed();
    machine.handle_close();
    push(&mut machine, at);
    assert!(machine.handle_failure(&lost(true), at) && machine.has_ended(), "it is tried once");
}

#[test]
fn what_a_hostile_broker_says_has_bounds() {
    for (interval, bytes, expected, room) in [
        (0, 0, SECOND * 300, 1 << 20),
        (i32::MIN, i32::MIN, SECOND * 300, 1 << 20),
        (1, 1, Duration::from_millis(100), 1),
        (i32::MAX, i32::MAX, Duration::from_millis(i32::MAX as u64), 4 << 20),
    ] {
        let told = GetTelemetrySubscriptionsResponse {
            push_interval_ms: interval,
            telemetry_max_bytes: bytes,
            ..answer(&["*"])
        };
        let subscription = Subscription::new(&told, &Compression::ALL);
        assert_eq!((subscription.interval, subscription.bytes_max), (expected, room));
    }
    let names = (0..100_000).map(|number| format!("name.{number}"));
    let Wanted::Prefixes(prefixes) = Wanted::of(names) else { panic!("not all are wanted") };
    assert_eq!(prefixes.len(), 1000);
    assert!(Wanted::of(["x".repeat(1 << 20)]).is_nothing());
    assert_eq!(Wanted::of(["a.".to_owned(), "*".to_owned()]), Wanted::All);
    assert_eq!(Wanted::of([String::new()]), Wanted::All);

    let mut machine = Telemetry::new(Compression::ALL.to_vec(), Rng::seeded(7), Instant::ORIGIN);
    machine.poll_ask(Instant::ORIGIN);
    let nameless = GetTelemetrySubscriptionsResponse { client_instance_id: Uuid::ZERO, ..answer(&["*"]) };
    machine.handle_subscription(&nameless, Instant::ORIGIN);
    assert_eq!((machine.state, machine.instance()), (State::Get, Instance::Unknown));
}
