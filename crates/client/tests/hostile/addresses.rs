//! Names with several addresses, servers that do not know our ApiVersions, and transports that say why they fail.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use milena::{
    Address, Client, Connect, ConnectError, Connecting, ErrorKind, Fault, Naming, Obstacle, Position, Record,
    Resolving, Tcp,
};
use milena_messages::ApiKey;
use tokio::time::timeout;

use super::peer::{Behaviour, Peer};

const SOON: Duration = Duration::from_secs(5);
/// Shorter than the delivery timeout, which would hide that nothing is tried.
const PATIENCE: Duration = Duration::from_secs(60);

/// TCP with a name service of its own, in which connecting to some addresses never ends.
#[derive(Clone, Default)]
struct Names {
    names: Arc<Mutex<BTreeMap<&'static str, Vec<SocketAddr>>>>,
    black_holes: Vec<SocketAddr>,
}

impl Names {
    fn new<const N: usize>(
        names: [(&'static str, Vec<SocketAddr>); N],
        black_holes: Vec<SocketAddr>,
    ) -> Self {
        Self { names: Arc::new(Mutex::new(BTreeMap::from(names))), black_holes }
    }
}

impl Connect for Names {
    fn resolve(&self, address: &Address) -> Resolving {
        let found = match self.names.lock().expect("no panic").get(address.host()) {
            Some(found) => Ok(found.clone()),
            None => match address.host().parse() {
                Ok(ip) => Ok(vec![SocketAddr::new(ip, address.port())]),
                Err(_) => Err(ConnectError::new(Obstacle::Name, "there is no such name")),
            },
        };
        Box::pin(async { found })
    }

    fn connect(&self, address: &Address, at: Option<SocketAddr>) -> Connecting {
        if at.is_some_and(|at| self.black_holes.contains(&at)) {
            return Box::pin(std::future::pending());
        }
        Tcp::default().connect(address, at)
    }
}

const BLACK_HOLE: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 1);

#[tokio::test]
async fn of_a_name_with_several_addresses_one_that_works_is_enough() {
    let (silent, refusing) = (Peer::start(Behaviour::Silent).await, Peer::start(Behaviour::Silent).await);
    let refused = refusing.socket_address();
    drop(refusing);
    // The cluster advertises the same name.
    let peer = Peer::start_in(Behaviour::Broker, "kafka.test", Vec::new()).await;
    let addresses = vec![BLACK_HOLE, refused, silent.socket_address(), peer.socket_address()];
    let names = Names::new([("kafka.test", addresses)], vec![BLACK_HOLE]);
    let bootstrap = format!("kafka.test:{}", peer.socket_address().port());
    let connecting = Client::builder().bootstrap(&bootstrap).connector(names).connect();
    let client = timeout(SOON, connecting).await.expect("in time").expect("the last one is a broker");
    assert_eq!(silent.connections(), 1);
    // The one that worked is tried first from now on.
    let producer = client.producer().build().await.expect("built");
    timeout(SOON, producer.send(Record::to("t").value("v"))).await.expect("in time").expect("written");
    assert_eq!(silent.connections(), 1);
}

#[tokio::test]
async fn each_address_gets_its_turn_within_the_connect_timeout() {
    let peer = Peer::start_in(Behaviour::Broker, "kafka.test", Vec::new()).await;
    let mut addresses = vec![BLACK_HOLE; 20];
    addresses.push(peer.socket_address());
    let names = Names::new([("kafka.test", addresses)], vec![BLACK_HOLE]);
    let connecting = Client::builder()
        .bootstrap("kafka.test:9092")
        // Twenty quarters of a second are longer.
        .connect_timeout(Duration::from_secs(4))
        .connector(names)
        .connect();
    timeout(SOON, connecting).await.expect("in time").expect("the last one is a broker");
}

#[tokio::test]
async fn when_no_address_works_each_is_told() {
    let refusing = Peer::start(Behaviour::Silent).await;
    let refused = refusing.socket_address();
    drop(refusing);
    let names = Names::new([("kafka.test", vec![refused, BLACK_HOLE])], vec![BLACK_HOLE]);
    let connecting = Client::builder()
        .bootstrap("kafka.test:9092")
        .connect_timeout(Duration::from_millis(500))
        .connector(names)
        .connect();
    let error = timeout(SOON, connecting).await.expect("in time").expect_err("nobody there");
    let text = error.to_string();
    assert!(text.contains("127.0.0.1: Connection refused"), "{text}");
    assert!(text.contains("no other address answered within 500ms"), "{text}");
    assert!(error.is_retriable() && error.fault() == Fault::Network, "{text}");
}

#[tokio::test]
async fn an_address_that_answers_says_more_than_one_that_refuses() {
    let refusing = Peer::start(Behaviour::Silent).await;
    let refused = refusing.socket_address();
    drop(refusing);
    let tls = Peer::start(Behaviour::Bytes(&[21, 3, 3, 0, 2, 2, 40])).await;
    // As `localhost`, which stands for ::1 and 127.0.0.1.
    let names = Names::new([("kafka.test", vec![refused, tls.socket_address()])], Vec::new());
    let connecting = Client::builder().bootstrap("kafka.test:9092").connector(names).connect();
    let error = timeout(SOON, connecting).await.expect("in time").expect_err("no Kafka");
    assert!(error.to_string().contains("speaks TLS"), "{error}");
    assert_eq!((error.kind(), error.is_retriable()), (ErrorKind::Protocol, false), "{error}");
}

#[tokio::test]
async fn an_error_for_an_advertised_name_says_who_advertises_it() {
    let peer = Peer::start_in(Behaviour::Broker, "kafka-1.internal", Vec::new()).await;
    let connecting = Client::builder().bootstrap(&peer.address()).connector(Names::default()).connect();
    let client = connecting.await.expect("connected");
    let building = client.producer().delivery_timeout(Duration::from_millis(500)).build();
    let sent = timeout(SOON, building.await.expect("built").send(Record::to("t").value("v"))).await;
    let text = sent.expect("in time").expect_err("the name does not resolve").to_string();
    assert!(text.contains("cannot reach kafka-1.internal:"), "{text}");
    assert!(text.contains("there is no such name"), "{text}");
    assert!(text.contains("broker 1 advertises this address (its advertised.listeners)"), "{text}");
}

#[tokio::test]
async fn a_server_that_does_not_know_our_api_versions_is_asked_lower_and_remembered() {
    let hangs_up = [1, 3, 4, 5].map(Behaviour::BrokerThatHangsUpOn);
    let answers: [&[u8]; 6] = [
        // Code 35 alone, in the forms of versions 0 and 1, and in front of version 3's form.
        &[0, 35],
        &[0, 35, 0, 0, 0, 0],
        &[0, 35, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0, 35, 1, 0, 0x12, 0, 0, 0, 2, 0, 0, 0, 0, 0],
        // No error, and what follows is cut off or no answer at all.
        &[0, 0, 3, 0],
        &[],
    ];
    for behaviour in hangs_up.into_iter().chain(answers.map(Behaviour::BrokerWithVersions)) {
        let peer = Peer::start(behaviour).await;
        let connecting = timeout(SOON, Client::connect(&peer.address())).await;
        let client = connecting.expect("in time").unwrap_or_else(|error| panic!("{behaviour:?}: {error}"));
        let first = peer.connections();
        assert!(first <= 3, "{behaviour:?}: {first} connections");
        // The producer's own connection asks at once for what was answered before.
        let asked = peer.requests(ApiKey::ApiVersions);
        let producer = client.producer().build().await.expect("built");
        timeout(SOON, producer.send(Record::to("t").value("v"))).await.expect("in time").expect("written");
        assert_eq!(peer.connections(), first + 1, "{behaviour:?}");
        assert_eq!(peer.requests(ApiKey::ApiVersions), asked + 1, "{behaviour:?}");
    }
}

/// TCP until it is told to fail.
#[derive(Clone, Default)]
struct Turncoat {
    /// Why it fails; without a reason, connecting never ends.
    obstacle: Option<Obstacle>,
    fails: Arc<AtomicBool>,
    attempts: Arc<AtomicUsize>,
}

impl Connect for Turncoat {
    fn connect(&self, address: &Address, at: Option<SocketAddr>) -> Connecting {
        if !self.fails.load(Ordering::Relaxed) {
            return Tcp::default().connect(address, at);
        }
        self.attempts.fetch_add(1, Ordering::Relaxed);
        match self.obstacle {
            Some(obstacle) => {
                Box::pin(async move { Err(ConnectError::new(obstacle, "it was told to fail")) })
            }
            None => Box::pin(std::future::pending()),
        }
    }
}

#[tokio::test]
async fn what_only_people_can_mend_is_told_at_once_and_not_tried_for_ever() {
    let finals = [
        (Obstacle::Configuration, Fault::Caller),
        (Obstacle::Credentials, Fault::Caller),
        (Obstacle::Certificate, Fault::Broker),
    ];
    for (obstacle, fault) in finals {
        let peer = Peer::start(Behaviour::Broker).await;
        let turncoat = Turncoat { obstacle: Some(obstacle), ..Turncoat::default() };
        let builder = || Client::builder().bootstrap(&peer.address()).connector(turncoat.clone());
        let client = builder().connect().await.expect("connected");
        turncoat.fails.store(true, Ordering::Relaxed);
        let error = timeout(SOON, builder().connect()).await.expect("at once").expect_err("it fails");
        assert!(!error.is_retriable() && error.fault() == fault, "{error}");
        let producer = client.producer().build().await.expect("built");
        let sent =
            timeout(SOON, producer.send(Record::to("t").value("v"))).await.expect("not after two minutes");
        let error = sent.expect_err("it fails");
        assert!(!error.is_retriable() && !error.maybe_written() && error.fault() == fault, "{error}");
        assert!(error.to_string().contains("it was told to fail"), "{error}");
        let building = client.consumer_direct().assign([("t", 0)], Position::Earliest).build();
        let mut consumer = building.await.expect("built");
        let error = timeout(SOON, consumer.next()).await.expect("not never").expect_err("it fails");
        assert!(!error.is_retriable() && error.fault() == fault, "{error}");
        let attempts = turncoat.attempts.load(Ordering::Relaxed);
        assert!(attempts <= 6, "{attempts} attempts");
    }
}

#[tokio::test]
async fn records_whose_time_is_over_are_not_kept_for_a_connection_that_may_come() {
    let (peer, turncoat) = (Peer::start(Behaviour::Broker).await, Turncoat::default());
    let connecting = Client::builder()
        .bootstrap(&peer.address())
        // Longer than the test takes.
        .connect_timeout(Duration::from_secs(600))
        .connector(turncoat.clone())
        .connect();
    let client = connecting.await.expect("connected");
    turncoat.fails.store(true, Ordering::Relaxed);
    let building = client.producer().delivery_timeout(Duration::from_millis(500)).build();
    let producer = building.await.expect("built");
    let value = [b'v'; 10_000];
    // The link holds the first request while it connects, and the later ones in its queue.
    for _ in 0..3 {
        let sent = timeout(SOON, producer.send(Record::to("t").value(&value))).await;
        let error = sent.expect("in time").expect_err("there is no connection");
        assert!(!error.maybe_written(), "{error}");
        let returned = timeout(SOON, async {
            while client.pool_stats().bytes_out > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(returned.await.is_ok(), "{} bytes are kept", client.pool_stats().bytes_out);
    }
    assert_eq!(turncoat.attempts.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn the_name_of_a_host_that_vanished_is_looked_up_again_when_a_request_has_timed_out() {
    let [old, new] = [(); 2].map(|()| Peer::start_in(Behaviour::Broker, "kafka.test", Vec::new()));
    let (old, new) = (old.await, new.await);
    let names = Names::new([("kafka.test", vec![old.socket_address()])], Vec::new());
    let builder = Client::builder().bootstrap("kafka.test:9092").connector(names.clone());
    let client = builder.request_timeout(Duration::from_secs(1)).connect().await.expect("connected");
    let producer = client.producer().build().await.expect("built");
    producer.send(Record::to("t").value("v")).await.expect("written");
    // Its connections stay open, and nothing comes over them: no other host has told the client that it is gone.
    old.set_behaviour(Behaviour::Silent);
    names.names.lock().expect("no panic").insert("kafka.test", vec![new.socket_address()]);
    let sent = timeout(PATIENCE, producer.send(Record::to("t").value("v"))).await;
    sent.expect("long before the delivery timeout")
        .expect("written by the host that the name stands for now");
    assert!(new.requests(ApiKey::Produce) > 0);
}

#[tokio::test]
async fn a_handshake_that_hangs_ends_at_the_connect_timeout_and_is_tried_anew() {
    let peer = Peer::start(Behaviour::Broker).await;
    let builder = Client::builder().bootstrap(&peer.address()).connect_timeout(Duration::from_millis(300));
    let client = builder.connect().await.expect("connected");
    // The next connections are accepted, and their ApiVersions requests are not answered.
    peer.set_behaviour(Behaviour::Silent);
    let producer = client.producer().idempotence(false).build().await.expect("built");
    let connections = peer.connections();
    let sending = tokio::spawn(async move { producer.send(Record::to("t").value("v")).await });
    let tried_again = async {
        while peer.connections() < connections + 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, tried_again).await.expect("the first handshakes were given up");
    peer.set_behaviour(Behaviour::Broker);
    timeout(PATIENCE, sending).await.expect("in time").expect("no panic").expect("written");
}

/// [`Names`] with a reverse zone.
#[derive(Clone)]
struct Zone {
    names: Names,
    reverse: BTreeMap<IpAddr, &'static str>,
    /// What was connected to, by name.
    connected: Arc<Mutex<Vec<String>>>,
}

impl Connect for Zone {
    fn resolve(&self, address: &Address) -> Resolving {
        self.names.resolve(address)
    }

    fn name_of(&self, ip: IpAddr) -> Naming {
        let name = self.reverse.get(&ip).copied().map(Arc::from);
        Box::pin(async move { Ok(name) })
    }

    fn connect(&self, address: &Address, at: Option<SocketAddr>) -> Connecting {
        self.connected.lock().expect("no panic").push(address.host().to_owned());
        self.names.connect(address, at)
    }
}

#[tokio::test]
async fn bootstrap_servers_are_connected_to_by_the_names_of_their_addresses_if_that_is_asked() {
    let cluster = milena_broker::Broker::builder().start().await.expect("started");
    let port = cluster.bootstrap().rsplit_once(':').expect("a port").1.parse::<u16>().expect("a port");
    let ip = |last: u8| IpAddr::from([127, 0, 0, last]);
    let at = |last: u8| SocketAddr::new(ip(last), port);
    let check = async |lookup: &str, names: &[(&'static str, &[u8])], reverse: &[(u8, &'static str)]| {
        let zone = Zone {
            names: Names::default(),
            reverse: reverse.iter().map(|(last, name)| (ip(*last), *name)).collect(),
            connected: Arc::default(),
        };
        for (name, lasts) in names {
            let all = lasts.iter().map(|last| at(*last)).collect();
            zone.names.names.lock().expect("no panic").insert(name, all);
        }
        let properties = [("client.dns.lookup", lookup), ("client.id", "zone")];
        let builder = Client::from_properties(properties).expect("known").connector(zone.clone());
        let connected = builder.bootstrap(&format!("kafka:{port}")).connect().await;
        connected.map(|_| zone.connected.lock().expect("no panic").clone()).map_err(|error| error.to_string())
    };
    let canonical = "resolve_canonical_bootstrap_servers_only";
    let names = [("kafka", &[1][..]), ("b-1.kafka", &[1]), ("elsewhere", &[2])];
    let by = async |lookup, reverse: &[(u8, &'static str)]| check(lookup, &names, reverse).await;
    assert_eq!(by("use_all_dns_ips", &[(1, "b-1.kafka")]).await.expect("connected"), ["kafka"]);
    assert_eq!(by(canonical, &[(1, "b-1.kafka")]).await.expect("connected"), ["b-1.kafka"]);
    assert_eq!(by(canonical, &[(1, "b-1.kafka.")]).await.expect("connected"), ["b-1.kafka"]);
    // Without a name, and with one that stands for another address, the address itself is taken.
    assert_eq!(by(canonical, &[]).await.expect("connected"), ["127.0.0.1"]);
    assert_eq!(by(canonical, &[(1, "elsewhere")]).await.expect("connected"), ["127.0.0.1"]);
    assert_eq!(by(canonical, &[(1, "unknown")]).await.expect("connected"), ["127.0.0.1"]);
    let why = check(canonical, &[], &[]).await.expect_err("unknown");
    assert_eq!(
        why,
        format!(
            "looking up the canonical names of the bootstrap servers: cannot reach kafka:{port}: there is no such name"
        )
    );
    let why = check(canonical, &[("kafka", &[])], &[]).await.expect_err("not resolved");
    assert!(why.contains("client.dns.lookup must be use_all_dns_ips"), "{why}");
}

#[tokio::test]
async fn tcp_finds_the_name_of_this_host() {
    let name = Tcp::default().name_of(IpAddr::from([127, 0, 0, 1])).await.expect("looked up");
    assert!(name.as_deref().is_some_and(|name| name.starts_with("localhost")), "{name:?}");
}
