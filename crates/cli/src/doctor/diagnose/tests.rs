//! Sights that no embedded broker can give, and what is said of them.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::*;
use crate::doctor::seen::{Asked, Broker, Clock, Cluster, Partition, Rights, Topic};

/// An endpoint that was reached, and that let the client in.
fn good(host: &str, port: u16, ip: &str) -> Endpoint {
    let ip: IpAddr = ip.parse().expect("an address");
    Endpoint {
        addresses: Some(Ok(vec![ip])),
        reached: vec![(SocketAddr::new(ip, port), Ok(()))],
        talked: Some(Ok(())),
        ..Endpoint::new(host, port)
    }
}

/// An endpoint whose addresses were tried with these outcomes.
fn tried(host: &str, outcomes: &[(&str, Result<(), Unreached>)]) -> Endpoint {
    let reached =
        outcomes.iter().map(|(at, outcome)| (at.parse().expect("an address"), outcome.clone())).collect();
    let mut endpoint = Endpoint { reached, ..Endpoint::new(host, 9092) };
    endpoint.addresses = Some(Ok(endpoint.reached.iter().map(|(at, _)| at.ip()).collect()));
    endpoint
}

fn broker(id: i32, at: Endpoint) -> Broker {
    Broker { id, at, apis: vec!["Produce", "Fetch", "Metadata", "ListOffsets", "InitProducerId"] }
}

/// A cluster of one broker that is well, on another machine.
fn well() -> Seen {
    let at = good("kafka.example", 9092, "10.0.0.1");
    let cluster = Cluster { controller: Some(1), brokers: vec![broker(1, at.clone())], ..Cluster::default() };
    Seen {
        now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        setup: Setup { checks_certificates: true, batch_bytes_max: 1000, ..Setup::default() },
        proxy: None,
        bootstrap: vec![at],
        cluster: Some(cluster),
        asked: Asked::default(),
    }
}

/// Some finding of this layer and status has this in its detail, and the fix has that.
#[track_caller]
fn check(seen: &Seen, layer: Layer, status: Status, detail: &str, fix: &str) {
    let findings = diagnose(seen);
    let is = |finding: &&Finding| {
        let has_fix = finding.fix.as_deref().unwrap_or_default().contains(fix);
        finding.layer == layer && finding.status == status && finding.detail.contains(detail) && has_fix
    };
    assert!(findings.iter().any(|finding| is(&finding)), "{findings:#?}");
    assert!(findings.is_sorted_by_key(|finding| finding.layer), "{findings:#?}");
}

fn with_cluster(change: impl FnOnce(&mut Cluster)) -> Seen {
    let mut seen = well();
    change(seen.cluster.as_mut().expect("there"));
    seen
}

#[test]
fn nothing_is_wrong_with_what_is_well() {
    assert_eq!(failed(&diagnose(&well())), None);
}

#[test]
fn names_and_ports() {
    let of = |endpoint: Endpoint| Seen { bootstrap: vec![endpoint], cluster: None, ..well() };
    let unknown =
        |host: &str| Endpoint { addresses: Some(Err("no such name".into())), ..Endpoint::new(host, 9092) };
    check(&of(unknown("kafka")), Layer::Dns, Status::Fail, "kafka does not resolve", "often a container's");
    check(&of(unknown("kafka.example")), Layer::Dns, Status::Fail, "does not resolve", "check the spelling");
    let refused = tried("kafka", &[("10.0.0.1:9092", Err(Unreached::Refused))]);
    check(
        &of(refused),
        Layer::Tcp,
        Status::Fail,
        "refuses connections",
        "nothing listens on the port, or a firewall",
    );
    let lost = tried("kafka", &[("10.0.0.1:9092", Err(Unreached::TimedOut))]);
    check(&of(lost), Layer::Tcp, Status::Fail, "10.0.0.1:9092 does not answer", "security groups");
    // One family is not served: the client takes the other one, and people wonder why it is slow.
    let half = tried("localhost", &[("[::1]:9092", Err(Unreached::Refused)), ("127.0.0.1:9092", Ok(()))]);
    check(
        &of(half.clone()),
        Layer::Tcp,
        Status::Warn,
        "[::1]:9092 refuses",
        "nothing on this machine listens there",
    );
    check(&of(half), Layer::Dns, Status::Ok, "localhost is ::1, 127.0.0.1", "");
    let zookeeper = Endpoint::new("kafka.example", 2181);
    check(&of(zookeeper), Layer::Configuration, Status::Warn, "has ZooKeeper's port", "9092");
    let mut proxied = well();
    proxied.proxy = Some(unknown("proxy"));
    check(
        &proxied,
        Layer::Proxy,
        Status::Fail,
        "the proxy proxy:9092 does not resolve",
        "the property `proxy`",
    );
}

#[test]
fn advertised_addresses() {
    let with = |at: Endpoint| with_cluster(|cluster| cluster.brokers.push(broker(2, at)));
    let fails =
        |at: Endpoint, detail: &str, fix: &str| check(&with(at), Layer::Brokers, Status::Fail, detail, fix);
    fails(
        good("localhost", 9092, "127.0.0.1"),
        "which is this machine, while the cluster is on another",
        "advertised.listeners",
    );
    fails(good("0.0.0.0", 9092, "0.0.0.0"), "which is no address to connect to", "advertised.listeners");
    fails(good("kafka.example", 9092, "10.0.0.1"), "as broker 1 is", "an address of its own");
    let unknown = Endpoint { addresses: Some(Err("no such name".into())), ..Endpoint::new("kafka-2", 9092) };
    fails(unknown, "kafka-2 does not resolve", "often a container's");
    let closed =
        Endpoint { port: 19_092, ..tried("kafka.example", &[("10.0.0.1:19092", Err(Unreached::Refused))]) };
    fails(closed, "10.0.0.1:19092 refuses connections", "a published port may differ");
    let silent = tried("10.0.0.2", &[("10.0.0.2:9092", Err(Unreached::TimedOut))]);
    fails(silent, "10.0.0.2:9092 does not answer", "start the broker if it is down");
    // A cluster on this machine may say so.
    let mut local = with(good("localhost", 9093, "127.0.0.1"));
    local.bootstrap = vec![good("localhost", 9092, "127.0.0.1")];
    assert_eq!(failed(&diagnose(&local)), None);
    // So may one that was found here under another of this machine's addresses.
    local.bootstrap = vec![Endpoint { is_here: true, ..good("192.168.0.7", 9092, "192.168.0.7") }];
    assert_eq!(failed(&diagnose(&local)), None);
}

#[test]
fn the_cluster() {
    let headless = with_cluster(|cluster| cluster.controller = None);
    check(&headless, Layer::Brokers, Status::Warn, "no controller", "cannot be created");
    let empty = with_cluster(|cluster| cluster.brokers.clear());
    check(&empty, Layer::Brokers, Status::Fail, "names no brokers", "look into");
    let mut silent = empty;
    silent.cluster.as_mut().expect("let in").unlisted = Some(Trouble {
        text: "describing the cluster: no answer within 3s".into(),
        kind: ErrorKind::Timeout,
        obstacle: None,
        cause: None,
        code: None,
    });
    check(
        &silent,
        Layer::Brokers,
        Status::Fail,
        "describing the cluster: no answer within 3s",
        "look into its log",
    );
    let ends = |days: u64| {
        with_cluster(|cluster| {
            let until = well().now + Duration::from_secs(days * 86_400);
            cluster.own_certificate = Some(until);
        })
    };
    check(&ends(3), Layer::Tls, Status::Warn, "the client's own certificate ends in 3 days", "renew it");
    check(&ends(300), Layer::Tls, Status::Ok, "is valid for 300 more days", "");
    let clock =
        |by_ms| with_cluster(|cluster| cluster.clock = Some(Clock::Differs { by_ms, round_trip_ms: 10 }));
    check(&clock(-60_000), Layer::Clock, Status::Warn, "60000 ms before this machine's", "NTP");
    check(&clock(20), Layer::Clock, Status::Ok, "agree", "");
}

#[test]
fn rights_to_a_topic() {
    let mut seen = with_cluster(|cluster| {
        let partitions = vec![Partition { index: 0, leader: Some(1), replicas: 3, in_sync: 3 }];
        let rights = Some(Rights { read: true, write: false });
        cluster.topic = Some(Topic { described: Ok(partitions), configs: None, rights });
    });
    seen.asked.topic = Some("orders".into());
    check(&seen, Layer::Acl, Status::Fail, "producing to orders is not allowed", "WRITE on the topic orders");
    check(&seen, Layer::Acl, Status::Ok, "consuming from orders is allowed", "");
    check(&seen, Layer::Topic, Status::Ok, "orders: 1 partition has leaders", "");
    assert_eq!(failed(&diagnose(&seen)), Some((1, Layer::Acl)));
}

#[test]
fn every_cause_has_a_fix_of_its_own() {
    let causes = [
        Cause::CertificateExpired,
        Cause::CertificateNotYetValid,
        Cause::CertificateOfAnotherHost,
        Cause::CertificateUntrusted,
        Cause::CertificateRevoked,
        Cause::ClientCertificateRequired,
        Cause::ClientCertificateRefused,
        Cause::NoCommonTls,
        Cause::PeerIsPlain,
        Cause::PeerIsTls,
        Cause::PeerIsForeign,
    ];
    let fixes: std::collections::BTreeSet<_> =
        causes.iter().map(|cause| of_cause(*cause, &Setup::default(), "kafka").fix).collect();
    assert_eq!(fixes.len(), causes.len());
}
