//! Peers that break the protocol, or do not speak it: the client reports the cause soon, does not connect again and again, and
//! holds memory only for bytes that arrived.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests run on tokio")]

mod addresses;
mod brokers;
mod groups;
mod parts;
mod peer;
mod storms;
mod topics;
mod unreadable;

use std::time::{Duration, Instant};

use milena::{Client, Error, ErrorCode, ErrorKind, Fault, Isolation, NewTopic, OffsetAt, Position, Record};
use milena_messages::ApiKey;
use tokio::net::TcpListener;
use tokio::time::timeout;

use self::peer::{Behaviour, HIGH_WATERMARK, Peer};

const SOON: Duration = Duration::from_secs(1);

async fn connect(peer: &Peer) -> Result<Client, Error> {
    let connecting = Client::builder().bootstrap(&peer.address()).connect();
    timeout(SOON, connecting).await.expect("the cause is named within a second")
}

/// The client's error for a peer that behaves like this from the first byte, after one attempt.
async fn check(behaviour: Behaviour, expected: &str) {
    check_after(1, behaviour, expected).await;
}

/// The client's error after this many attempts.
async fn check_after(attempts: usize, behaviour: Behaviour, expected: &str) {
    let peer = Peer::start(behaviour).await;
    let error = connect(&peer).await.expect_err("no Kafka broker");
    let text = error.to_string();
    assert!(text.contains(expected), "{text}");
    assert!(text.contains(&peer.address()), "it says where: {text}");
    // Long enough for a storm to show.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(peer.connections(), attempts, "attempts: {text}");
}

#[tokio::test]
async fn what_other_protocols_answer_is_recognised() {
    check(Behaviour::Bytes(&[21, 3, 1, 0, 2, 2, 40]), "speaks TLS").await;
    check(Behaviour::Bytes(&[21, 3, 3, 0, 2, 2, 40]), "speaks TLS").await;
    check(Behaviour::Bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "speaks HTTP").await;
    check(Behaviour::Bytes(b"SSH-2.0-OpenSSH_9.6\r\n"), "speaks SSH").await;
}

#[tokio::test]
async fn sizes_that_cannot_be() {
    check(Behaviour::Bytes(&[0x7f, 0xff, 0xff, 0xff]), "2147483647 bytes, above the limit").await;
    check(Behaviour::Bytes(&[0x80, 0, 0, 0]), "-2147483648 bytes").await;
    check(Behaviour::Bytes(&[0, 0, 0, 0]), "holds no correlation id").await;
}

#[tokio::test]
async fn answers_that_are_none() {
    check(Behaviour::Bytes(&[0, 0, 0, 4, 0, 0, 0, 99]), "correlation id 99").await;
    // An answer that may come from a server without our version is followed by requests at two lower versions.
    check_after(3, Behaviour::Bytes(&[0, 0, 0, 4, 0, 0, 0, 0]), "does not decode").await;
    // An array of 2 147 483 646 elements in a frame of 13 bytes.
    let lie = [0, 0, 0, 13, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x07, 0, 0];
    check_after(3, Behaviour::Bytes(Vec::leak(lie.to_vec())), "does not decode").await;
    // A frame cut off.
    check_after(3, Behaviour::BytesAndClose(&[0, 0, 0, 100, 0, 0, 0, 0]), "8 of a response's 104 bytes")
        .await;
    check_after(3, Behaviour::BytesAndClose(&[]), "it may expect TLS or SASL").await;
}

#[tokio::test]
async fn random_bytes_are_an_error_and_nothing_worse() {
    let mut seed = 7u64;
    for _ in 0..200 {
        let mut bytes = Vec::new();
        for _ in 0..40 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            bytes.extend((seed >> 16).to_be_bytes());
        }
        // Half of them as the body of a frame that would be in order.
        if seed.is_multiple_of(2) {
            bytes.splice(..8, [0, 0, 1, 56, 0, 0, 0, 0]);
        }
        let peer = Peer::start(Behaviour::BytesAndClose(Vec::leak(bytes))).await;
        let error = connect(&peer).await.expect_err("no Kafka broker");
        assert_ne!(error.fault(), Fault::Caller, "{error}");
        assert!(!error.maybe_written() || error.to_string().contains("Kafka protocol"), "{error}");
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_made_again_when_it_is_needed() {
    let peer = Peer::start(Behaviour::Broker).await;
    let properties = [("bootstrap.servers", &*peer.address()), ("connections.max.idle.ms", "100")];
    let client = Client::from_properties(properties).expect("known").connect().await.expect("connected");
    timeout(SOON * 10, peer.has_ended(1)).await.expect("it was idle");
    let found = client.admin().list_offsets([("t", 0)], OffsetAt::Latest).await.expect("listed").remove(0);
    assert!(found.1.is_ok(), "{found:?}");
    assert!(peer.connections() >= 2);
}

#[tokio::test]
async fn memory_is_held_for_what_arrived() {
    let peer = Peer::start(Behaviour::Bytes(&[0x05, 0xe6, 0x9e, 0xc0, 0, 0, 0, 0])).await;
    let (_, grown) = allocation_of(async {
        let connecting = Client::builder()
            .bootstrap(&peer.address())
            .connect_timeout(Duration::from_millis(200))
            .connect();
        let error = connecting.await.expect_err("99 MB never come");
        assert!(error.to_string().contains("did not answer within 200ms"), "{error}");
    })
    .await;
    assert!(grown < 1 << 20, "{grown} bytes for an announcement of 99 MB");
}

/// The most that was allocated at a time while `future` ran, on this thread.
async fn allocation_of<T>(future: impl Future<Output = T>) -> (T, u64) {
    let mut future = Box::pin(future);
    let (mut max, mut current) = (0i64, 0i64);
    let output = std::future::poll_fn(|cx| {
        let mut poll = None;
        let info = allocation_counter::measure(|| poll = Some(future.as_mut().poll(cx)));
        max = max.max(current + i64::try_from(info.bytes_max).expect("fits"));
        current += info.bytes_current;
        poll.expect("polled")
    })
    .await;
    (output, max.unsigned_abs())
}

#[tokio::test]
async fn a_silent_peer_is_given_up_at_the_deadline() {
    let peer = Peer::start(Behaviour::Silent).await;
    let began = Instant::now();
    let connecting =
        Client::builder().bootstrap(&peer.address()).connect_timeout(Duration::from_millis(300)).connect();
    let error = connecting.await.expect_err("silent");
    assert!(error.to_string().contains("did not answer within 300ms"), "{error}");
    assert!((300..900).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    assert!(error.is_retriable() && error.fault() == Fault::Network);
}

#[tokio::test]
async fn a_port_nobody_listens_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound").to_string();
    drop(listener);
    let connecting = Client::connect(&address);
    let error = timeout(SOON, connecting).await.expect("within a second").expect_err("nobody there");
    assert!(error.to_string().contains(&address) && error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn of_several_bootstrap_servers_one_good_one_is_enough_and_all_bad_ones_are_named() {
    let (http, broker) =
        (Peer::start(Behaviour::Bytes(b"HTTP/1.1 400")).await, Peer::start(Behaviour::Broker).await);
    let both = format!("{},{}", http.address(), broker.address());
    timeout(SOON, Client::connect(&both)).await.expect("in time").expect("one of them is a broker");
    // A silent broker costs a second, not the whole deadline.
    let (silent, began) = (Peer::start(Behaviour::Silent).await, Instant::now());
    let both = format!("{},{}", silent.address(), broker.address());
    Client::connect(&both).await.expect("one of them is a broker");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let twice = format!("{},{}", http.address(), "127.0.0.1:1");
    let error = Client::connect(&twice).await.expect_err("none is");
    assert!(error.to_string().contains("HTTP") && error.to_string().contains("refused"), "{error}");
}

const SIZE_2_GIB: &[u8] = &[0x7f, 0xff, 0xff, 0xff];
const CORRELATION_ID_OF_NOBODY: &[u8] = &[0, 0, 0, 4, 9, 9, 9, 9];
const TLS_ALERT: &[u8] = &[21, 3, 3, 0, 2, 2, 40];

/// Runs a client with default timeouts against a broker that behaves like this for one kind of request. Returns the errors
/// within a second, and the number of connections.
async fn hostile_later(behaviour: Behaviour) -> [(Error, usize); 2] {
    let peer = Peer::start(behaviour).await;
    let client = connect(&peer).await.expect("speaks Kafka so far");
    let producer = client.producer().build().await.expect("built");
    let sent = timeout(SOON, producer.send(Record::to("t").value("v"))).await;
    let of_producer = (sent.expect("within a second").expect_err("never written"), peer.connections());

    let peer = Peer::start(behaviour).await;
    let client = connect(&peer).await.expect("speaks Kafka so far");
    let read = timeout(SOON, async {
        let mut consumer = client.consumer_direct().assign([("t", 0)], Position::Earliest).build().await?;
        consumer.next().await.map(drop)
    });
    let of_consumer =
        (read.await.expect("within a second").expect_err("nothing to read"), peer.connections());
    [of_producer, of_consumer]
}

#[tokio::test]
async fn a_broker_that_turns_hostile_later_is_named_within_a_second() {
    // A request of the producer, and one of the consumer.
    const FIRST: &[ApiKey] = &[ApiKey::InitProducerId, ApiKey::ListOffsets];
    const THEN: &[ApiKey] = &[ApiKey::Produce, ApiKey::Fetch];
    for hostile in [FIRST, THEN] {
        for (bytes, expected) in [
            (SIZE_2_GIB, "and response_bytes_max allows 104857600"),
            (CORRELATION_ID_OF_NOBODY, "correlation id"),
            (TLS_ALERT, "TLS"),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP"),
        ] {
            check_hostile(Behaviour::BrokerBut(hostile, bytes), expected).await;
        }
        // An answer without a body is no acknowledgement.
        check_hostile(Behaviour::BrokerButBody(hostile, &[0]), "does not decode").await;
    }
}

async fn check_hostile(behaviour: Behaviour, expected: &str) {
    for (error, connections) in hostile_later(behaviour).await {
        let text = error.to_string();
        assert!(text.contains(expected) && text.contains("partition 0 of topic \"t\""), "{text}");
        assert!(connections <= 8, "{connections} connections: {text}");
    }
}

#[tokio::test]
async fn metadata_that_turns_to_garbage_is_named_within_a_second() {
    let peer = Peer::start(Behaviour::BrokerThenBut(ApiKey::Metadata, CORRELATION_ID_OF_NOBODY)).await;
    let client = connect(&peer).await.expect("speaks Kafka so far");
    let producer = client.producer().build().await.expect("built");
    let sent = timeout(SOON, producer.send(Record::to("t").value("v"))).await;
    let error = sent.expect("within a second").expect_err("nobody describes the topic");
    assert!(error.to_string().contains("correlation id 151587081"), "{error}");
    assert!(!error.maybe_written(), "{error}");
}

#[tokio::test]
async fn what_an_answer_leaves_out_is_the_brokers_fault() {
    // No tags in the header, no throttling, an array of nothing, no tags.
    let nothing = Behaviour::BrokerButBody(&[ApiKey::CreateTopics], &[0, 0, 0, 0, 0, 1, 0]);
    let peer = Peer::start(nothing).await;
    let client = connect(&peer).await.expect("speaks Kafka so far");
    let error = client.admin().create_topic(NewTopic::new("t")).await.expect_err("it says nothing of it");
    assert!(error.to_string().contains("creating topic \"t\""), "{error}");
    assert!(error.to_string().contains("does not mention it"), "{error}");
    assert_eq!((error.fault(), error.kind()), (Fault::Broker, ErrorKind::Protocol));
    assert!(error.maybe_written() && !error.is_retriable(), "{error}");
}

/// A producer that gives a record up after 700 ms.
async fn produce_to(behaviour: Behaviour) -> (Error, usize) {
    let peer = Peer::start(behaviour).await;
    let client = connect(&peer).await.expect("speaks Kafka so far");
    let producer =
        client.producer().delivery_timeout(Duration::from_millis(700)).build().await.expect("built");
    let sending = timeout(Duration::from_secs(2), producer.send(Record::to("t").value("v")));
    let error = sending.await.expect("in time").expect_err("never acknowledged");
    (error, peer.connections())
}

#[tokio::test]
async fn a_broker_that_may_come_back_costs_the_delivery_timeout_and_few_connections() {
    let check = |(error, connections): (Error, usize), expected: &str| {
        let text = error.to_string();
        assert!(text.contains(expected), "{text}");
        assert!(text.contains("partition 0 of topic \"t\""), "{text}");
        assert!(error.maybe_written(), "the request went out: {text}");
        assert!(connections <= 8, "{connections} connections in 0.7 s");
    };
    let silence = Behaviour::BrokerBut(&[ApiKey::Produce], &[]);
    check(produce_to(silence).await, "not delivered within 700ms");
    check(produce_to(Behaviour::BrokerThatCloses(ApiKey::Produce)).await, "closed it");
}

/// A record was certainly not written if there was never a connection for it.
#[tokio::test]
async fn a_record_that_never_met_a_connection_was_not_written() {
    let garbage: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 99];
    for (what, answer) in [("silent", &b""[..]), ("garbage", garbage), ("TLS", &[21, 3, 1, 0, 2, 2, 40])] {
        let peer = Peer::start(Behaviour::BrokerThenBut(ApiKey::ApiVersions, answer)).await;
        let client = connect(&peer).await.expect("good so far");
        let producer = client.producer().delivery_timeout(Duration::from_millis(700));
        // An identity would be asked for on the first connection, and that is not the question here.
        let producer = producer.idempotence(false).build().await.expect("built");
        let sent = timeout(Duration::from_secs(10), producer.send(Record::to("t").value("v"))).await;
        let error = sent.expect("in time").expect_err("there is no connection");
        assert!(!error.maybe_written(), "{what}: {error}");
        assert!(peer.connections() > 1, "{what}: it was tried");
    }
}

/// With acks=0 no answer comes, so only bytes that are not accepted show that a connection is dead.
#[tokio::test]
async fn without_acks_a_connection_that_takes_no_bytes_is_given_up() {
    let peer = Peer::start(Behaviour::BrokerThatStopsReading(ApiKey::Produce)).await;
    let connecting = Client::builder().bootstrap(&peer.address()).request_timeout(Duration::from_millis(300));
    let client = connecting.connect().await.expect("connected");
    let producer = client.producer().acks(milena::Acks::None).build().await.expect("built");
    let value = vec![0; 900_000];
    let began = peer.connections();
    let writing = async {
        // More than the system keeps for one connection.
        while peer.connections() < began + 3 {
            producer.post(Record::to("t").value(&value)).await.expect("taken");
        }
    };
    timeout(Duration::from_secs(30), writing).await.expect("the dead connection is used for ever");
}

/// With acks=0 a record is done when it was written. That its broker may not have read it is told nevertheless.
#[tokio::test]
async fn without_acks_a_lost_connection_is_told_with_the_number_of_records_that_were_written_to_it() {
    let peer = Peer::start(Behaviour::BrokerThatCloses(ApiKey::Produce)).await;
    let client = connect(&peer).await.expect("speaks Kafka so far");
    let producer = client.producer().acks(milena::Acks::None).build().await.expect("built");
    let receipt = producer.send(Record::to("t").value("v")).await.expect("handed to the network");
    assert_eq!(receipt.offset(), None);
    let flushed = timeout(Duration::from_secs(20), producer.flush()).await.expect("in time");
    let error = flushed.expect_err("the connection was lost");
    assert!(error.maybe_written(), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("1 posted records may not have been written")
            && text.contains("without acknowledgement"),
        "{text}"
    );
    producer.flush().await.expect("it is told once");
}

#[tokio::test]
async fn a_broker_that_closes_every_fetch_is_not_stormed() {
    let peer = Peer::start(Behaviour::BrokerThatCloses(ApiKey::Fetch)).await;
    let client = connect(&peer).await.expect("speaks Kafka so far");
    let building = client.consumer_direct().assign([("t", 0)], Position::Offset(0)).build();
    let mut consumer = building.await.expect("built");
    assert!(timeout(SOON, consumer.next()).await.is_err(), "there is nothing to read, and that is no error");
    assert!(peer.connections() <= 12, "{} connections in a second", peer.connections());
}

#[tokio::test]
async fn an_unknown_answer_poisons_everything_in_flight_and_the_next_connection_works() {
    let peer = Peer::start(Behaviour::BrokerOnceBut(ApiKey::Produce, &[0, 0, 0, 4, 9, 9, 9, 9])).await;
    let client = connect(&peer).await.expect("speaks Kafka so far");
    let producer = client.producer().build().await.expect("built");
    let receipt =
        timeout(Duration::from_secs(3), producer.send(Record::to("t").value("v"))).await.expect("in time");
    assert_eq!(receipt.expect("written by the second attempt").partition(), 0);
}

#[tokio::test]
async fn a_broker_without_a_common_version_is_told_apart() {
    let peer = Peer::start(Behaviour::BrokerFromTheFuture).await;
    let error = connect(&peer).await.expect_err("nothing in common");
    let text = error.to_string();
    assert!(
        text.contains("no version of Metadata in common") && text.contains("the broker 90 to 99"),
        "{text}"
    );
    assert!(!error.is_retriable());
}

#[tokio::test]
async fn a_topic_that_does_not_exist_is_named_within_a_second() {
    let peer = Peer::start(Behaviour::Broker).await;
    let client = connect(&peer).await.expect("connected");
    let producer = client.producer().build().await.expect("built");
    let error = timeout(SOON, producer.send(Record::to("nowhere")))
        .await
        .expect("within a second")
        .expect_err("unknown");
    assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    assert!(error.to_string().contains("\"nowhere\"") && !error.maybe_written(), "{error}");
}

#[tokio::test]
async fn the_end_is_that_of_the_isolation_asked_for() {
    let peer = Peer::start(Behaviour::Broker).await;
    let client = connect(&peer).await.expect("connected");
    let committed = Client::from_properties([("isolation.level", "read_committed")]).expect("known");
    let committed = committed.bootstrap(&peer.address()).connect().await.expect("connected");
    for (admin, expected) in [
        (client.admin(), HIGH_WATERMARK),
        (client.admin().isolation(Isolation::ReadCommitted), 0),
        // A client whose consumers read committed records only asks for the same end.
        (committed.admin(), 0),
        (committed.admin().isolation(Isolation::ReadUncommitted), HIGH_WATERMARK),
    ] {
        let found = admin.list_offsets([("t", 0)], OffsetAt::Latest).await.expect("listed").remove(0);
        assert_eq!(found.1.expect("found"), Some(expected));
    }
}
