//! Requests over an in-memory network on virtual time. Each test answers what it was asked, when it wants to.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use milena_core::BrokerId;
use milena_messages::api_versions::{ApiVersion, ApiVersionsResponse};
use milena_messages::header::{RequestHeader, ResponseHeader};
use milena_messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use milena_messages::list_offsets::{ListOffsetsRequest, ListOffsetsResponse};
use milena_messages::metadata::{MetadataResponse, MetadataResponseBroker};
use milena_messages::{ApiKey, Message};
use milena_wire::{Reader, Writer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::brokers::address_of;
use crate::connect::{Connect, Connecting, Transport};

/// The kinds of requests that the tests send: one of each type.
#[derive(Debug)]
enum Tag {
    Ends(AskEnds),
    Id(AskId),
}

#[derive(Debug, PartialEq)]
struct AskEnds(&'static str);

#[derive(Debug, PartialEq)]
struct AskId(&'static str);

impl RequestKind for AskEnds {
    type Request = ListOffsetsRequest;
}

impl RequestKind for AskId {
    type Request = InitProducerIdRequest;
}

impl From<AskEnds> for Tag {
    fn from(ends: AskEnds) -> Self {
        Self::Ends(ends)
    }
}

impl From<AskId> for Tag {
    fn from(id: AskId) -> Self {
        Self::Id(id)
    }
}

/// Connects to brokers 1 and 2, and to broker 3 never. They answer ApiVersions and Metadata by themselves, and whatever
/// else they are asked goes to the test.
struct Network(mpsc::UnboundedSender<Asked>);

/// The hosts of brokers 1, 2 and 3.
const HOSTS: [&str; 3] = ["one", "two", "unreachable"];
const ONE: BrokerId = BrokerId(1);
const TWO: BrokerId = BrokerId(2);
const UNREACHABLE: BrokerId = BrokerId(3);
const UNKNOWN: BrokerId = BrokerId(4);

impl Connect for Network {
    fn connect(&self, address: &Address, _: Option<SocketAddr>) -> Connecting {
        let (host, asked) = (address.host().to_owned(), self.0.clone());
        Box::pin(async move {
            if host == HOSTS[2] {
                std::future::pending::<()>().await;
            }
            let (ours, theirs) = duplex(64 << 10);
            tokio::spawn(serve(theirs, host, asked));
            Ok(Box::new(ours) as Box<dyn Transport>)
        })
    }
}

/// A request that a broker got, or the end of a connection.
enum Asked {
    Request { host: String, key: ApiKey, answer: mpsc::UnboundedSender<Vec<u8>>, head: (i32, i16) },
    Closed { host: String },
}

async fn serve(mut stream: DuplexStream, host: String, asked: mpsc::UnboundedSender<Asked>) {
    let (answer, mut answers) = mpsc::unbounded_channel::<Vec<u8>>();
    loop {
        tokio::select! {
            size = stream.read_i32() => {
                let Ok(size) = size else { break };
                let mut frame = vec![0; size as usize];
                stream.read_exact(&mut frame).await.expect("whole");
                let frame = Bytes::from(frame);
                let key = ApiKey::from_i16(i16::from_be_bytes([frame[0], frame[1]])).expect("known");
                let version = i16::from_be_bytes([frame[2], frame[3]]);
                let mut reader = Reader::new(&frame);
                let header = RequestHeader::decode(&mut reader, key.request_header_version(version));
                let head = (header.expect("a header").correlation_id, version);
                match key {
                    ApiKey::ApiVersions => answer.send(framed(key, head, &versions())).expect("open"),
                    ApiKey::Metadata => answer.send(framed(key, head, &metadata())).expect("open"),
                    _ => {
                        let request = Asked::Request { host: host.clone(), key, answer: answer.clone(), head };
                        let _ = asked.send(request);
                    }
                }
            }
            Some(bytes) = answers.recv() => {
                if stream.write_all(&bytes).await.is_err() {
                    break;
                }
            }
        }
    }
    let _ = asked.send(Asked::Closed { host });
}

fn framed(key: ApiKey, (correlation_id, version): (i32, i16), response: &impl Message) -> Vec<u8> {
    let mut writer = Writer::new();
    let mark = writer.begin_frame();
    let header = ResponseHeader { correlation_id, ..Default::default() };
    header.encode(&mut writer, key.response_header_version(version)).expect("encodes");
    response.encode(&mut writer, version).expect("encodes");
    writer.end_frame(mark, "Response").expect("encodes");
    writer.finish().to_vec()
}

fn versions() -> ApiVersionsResponse {
    let keys = [ApiKey::ApiVersions, ApiKey::Metadata, ApiKey::ListOffsets, ApiKey::InitProducerId];
    let range = |key: ApiKey| ApiVersion {
        api_key: key.as_i16(),
        min_version: *key.versions().start(),
        max_version: *key.versions().end(),
        ..Default::default()
    };
    ApiVersionsResponse { api_keys: keys.map(range).to_vec(), ..Default::default() }
}

fn metadata() -> MetadataResponse {
    let broker = |(host, node_id): (&str, i32)| MetadataResponseBroker {
        node_id,
        host: host.into(),
        port: 9092,
        ..Default::default()
    };
    MetadataResponse { brokers: HOSTS.into_iter().zip(1..).map(broker).collect(), ..Default::default() }
}

struct Lab {
    client: Client,
    requests: Requests<Tag>,
    asked: mpsc::UnboundedReceiver<Asked>,
}

impl Lab {
    async fn start() -> Self {
        let (sender, asked) = mpsc::unbounded_channel();
        let builder = Client::builder().bootstrap("one:9092").connector(Network(sender)).seed(1);
        let client = builder.connect().await.expect("connected");
        Self { requests: Requests::new(&client), client, asked }
    }

    fn in_a_minute(&self) -> Instant {
        self.client.0.clock.after(Duration::from_secs(60))
    }

    fn ask_ends(&mut self, role: Role, broker: BrokerId, name: &'static str) {
        let request = Typed { request: ListOffsetsRequest::default(), version_max: i16::MAX };
        let (to, deadline) = (address_of(&self.client.snapshot(), broker), self.in_a_minute());
        self.requests.send(role, to, request, deadline, AskEnds(name));
    }

    fn ask_id(&mut self, role: Role, broker: BrokerId, name: &'static str) {
        let request = Typed { request: InitProducerIdRequest::default(), version_max: i16::MAX };
        let (to, deadline) = (address_of(&self.client.snapshot(), broker), self.in_a_minute());
        self.requests.send(role, to, request, deadline, AskId(name));
    }

    /// Waits until a broker has got a request, or has lost a connection.
    async fn asked(&mut self) -> Asked {
        let asked = timeout(Duration::from_secs(30), self.asked.recv()).await;
        asked.expect("the broker hears of it").expect("the network is there")
    }

    /// Waits until the broker on `host` has got a request: with what to answer it.
    async fn asked_of(&mut self, host: &str) -> (ApiKey, impl Fn(i16) + use<>) {
        let Asked::Request { host: of, key, answer, head } = self.asked().await else { panic!("closed") };
        assert_eq!(of, host);
        let respond = move |number: i16| {
            let bytes = match key {
                ApiKey::ListOffsets => {
                    let throttle_time_ms = i32::from(number);
                    framed(key, head, &ListOffsetsResponse { throttle_time_ms, ..Default::default() })
                }
                ApiKey::InitProducerId => {
                    let response = InitProducerIdResponse {
                        producer_epoch: number,
                        producer_id: 1,
                        ..Default::default()
                    };
                    framed(key, head, &response)
                }
                other => panic!("{other:?} is not expected"),
            };
            answer.send(bytes).expect("the connection is open");
        };
        (key, respond)
    }

    async fn landed(&mut self) -> Landed<Tag> {
        timeout(Duration::from_secs(120), self.requests.landed()).await.expect("it lands")
    }

    /// Waits until something has landed: its name, and the number that was answered.
    async fn landed_response(&mut self) -> (&'static str, i16) {
        let Landed { tag, outcome, has_begun, .. } = self.landed().await;
        assert!(has_begun);
        match tag {
            Tag::Ends(ends) => (ends.0, ends.response(outcome).expect("answered").throttle_time_ms as i16),
            Tag::Id(id) => (id.0, id.response(outcome).expect("answered").producer_epoch),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_comes_back_with_its_tag_whatever_the_order() {
    let mut lab = Lab::start().await;
    lab.ask_ends(Role::LookUp, ONE, "ends of one");
    let (key, answer_one) = lab.asked_of("one").await;
    assert_eq!(key, ApiKey::ListOffsets);
    lab.ask_id(Role::LookUp, TWO, "id of two");
    let (key, answer_two) = lab.asked_of("two").await;
    assert_eq!(key, ApiKey::InitProducerId);
    lab.ask_ends(Role::LookUp, TWO, "ends of two");
    let (_, answer_two_again) = lab.asked_of("two").await;

    answer_two(2);
    answer_two_again(3);
    assert_eq!(lab.landed_response().await, ("id of two", 2));
    assert_eq!(lab.landed_response().await, ("ends of two", 3));
    assert!(lab.requests.try_landed().is_none(), "one has not answered");
    answer_one(1);
    assert_eq!(lab.landed_response().await, ("ends of one", 1));
}

#[tokio::test(start_paused = true)]
async fn a_role_does_not_wait_for_another_at_the_same_broker() {
    let mut lab = Lab::start().await;
    lab.ask_ends(Role::Fetch(0), ONE, "held");
    let (_, answer_held) = lab.asked_of("one").await;
    lab.ask_ends(Role::Fetch(1), ONE, "other lane");
    let (_, answer_other) = lab.asked_of("one").await;
    lab.ask_ends(Role::LookUp, ONE, "look-up");
    let (_, answer_look_up) = lab.asked_of("one").await;
    answer_look_up(1);
    assert_eq!(lab.landed_response().await, ("look-up", 1));
    answer_other(2);
    assert_eq!(lab.landed_response().await, ("other lane", 2));
    answer_held(3);
    assert_eq!(lab.landed_response().await, ("held", 3));
}

#[tokio::test(start_paused = true)]
async fn a_request_is_recalled_unless_a_connection_has_begun_with_it() {
    let mut lab = Lab::start().await;
    lab.ask_ends(Role::LookUp, ONE, "begun");
    let (_, answer) = lab.asked_of("one").await;
    lab.ask_ends(Role::LookUp, UNREACHABLE, "waiting");
    let is = |name: &'static str| move |tag: &Tag| matches!(tag, Tag::Ends(ends) if ends.0 == name);

    assert!(lab.requests.recall(is("begun")).is_none());
    let Landed { tag, outcome, has_begun, .. } = lab.requests.recall(is("waiting")).expect("recalled");
    assert!(is("waiting")(&tag) && !has_begun);
    let failure = outcome.expect_err("not sent");
    assert!(failure.to_string().contains("unreachable:9092"), "{failure}");
    assert!(lab.requests.recall(is("waiting")).is_none(), "it has landed");

    answer(1);
    assert_eq!(lab.landed_response().await, ("begun", 1));
    // When the link gives up, the recalled request lands no second time.
    tokio::time::sleep(lab.client.0.settings.client.connect_timeout * 2).await;
    assert!(lab.requests.try_landed().is_none() && lab.requests.under_way.is_empty());
}

#[tokio::test(start_paused = true)]
async fn all_that_wait_are_recalled_in_the_order_in_which_they_were_sent() {
    let mut lab = Lab::start().await;
    lab.ask_ends(Role::LookUp, ONE, "begun");
    drop(lab.asked_of("one").await);
    let names = ["a", "b", "c", "d", "e", "f"];
    names.into_iter().for_each(|name| lab.ask_id(Role::LookUp, UNREACHABLE, name));
    let recalled = lab.requests.recall_all().into_iter().map(|landed| match landed.tag {
        Tag::Id(id) => id.0,
        Tag::Ends(ends) => panic!("{ends:?} has begun"),
    });
    assert!(recalled.eq(names));
}

#[tokio::test(start_paused = true)]
async fn a_broker_without_an_address_refuses_at_once() {
    let mut lab = Lab::start().await;
    lab.ask_ends(Role::LookUp, UNKNOWN, "nowhere");
    let Landed { outcome, has_begun, .. } = lab.requests.try_landed().expect("at once");
    assert!(matches!(outcome, Err(Failure::NoRoute(_))) && !has_begun);
}

#[tokio::test(start_paused = true)]
async fn a_request_lands_with_a_failure_when_its_deadline_passes() {
    let mut lab = Lab::start().await;
    let start = lab.client.0.clock.now();
    lab.ask_id(Role::LookUp, ONE, "silent");
    let Landed { tag, outcome, has_begun, .. } = lab.landed().await;
    assert!(matches!(tag, Tag::Id(AskId("silent"))) && has_begun);
    assert!(matches!(outcome, Err(Failure::TimedOut { sent: true, .. })));
    assert!(lab.client.0.clock.now() - start < Duration::from_secs(61));
}

#[tokio::test(start_paused = true)]
async fn a_link_to_a_broker_that_is_gone_is_closed_and_those_to_other_brokers_stay() {
    let mut lab = Lab::start().await;
    for (broker, host) in [(ONE, "one"), (TWO, "two")] {
        lab.ask_ends(Role::LookUp, broker, host);
        let (_, answer) = lab.asked_of(host).await;
        answer(1);
        assert_eq!(lab.landed_response().await, (host, 1));
    }
    let mut snapshot = (*lab.client.snapshot()).clone();
    snapshot.brokers.remove(&TWO);
    lab.requests.retain_links(&snapshot, None);
    assert!(matches!(lab.asked().await, Asked::Closed { host } if host == "two"));
    lab.ask_ends(Role::LookUp, ONE, "again");
    lab.asked_of("one").await.1(2);
    assert_eq!(lab.landed_response().await, ("again", 2));
}

#[tokio::test(start_paused = true)]
async fn what_any_broker_can_answer_goes_to_the_next_one_when_the_first_is_silent() {
    let mut lab = Lab::start().await;
    let request = || Typed { request: InitProducerIdRequest::default(), version_max: i16::MAX };
    let deadline = lab.in_a_minute();
    lab.requests.ask_any(request(), deadline, AskId("any"));
    lab.ask_ends(Role::LookUp, TWO, "two");
    // Nothing is asked before the driver waits for what lands.
    let mut answers = Vec::new();
    for _ in 0..3 {
        let asked = tokio::select! {
            asked = lab.asked.recv() => asked.expect("the network is there"),
            landed = lab.requests.landed() => panic!("{:?} has landed", landed.tag),
        };
        let Asked::Request { host, key, answer, head } = asked else { panic!("closed") };
        answers.push((host, key, answer, head));
    }
    let of_id = answers.iter().filter(|(_, key, ..)| *key == ApiKey::InitProducerId).collect::<Vec<_>>();
    let [(first, ..), (second, key, answer, head)] = of_id[..] else { panic!("two brokers are asked") };
    assert_ne!(first, second);
    let response = InitProducerIdResponse { producer_epoch: 7, producer_id: 1, ..Default::default() };
    answer.send(framed(*key, *head, &response)).expect("open");
    assert_eq!(lab.landed_response().await, ("any", 7));
}
