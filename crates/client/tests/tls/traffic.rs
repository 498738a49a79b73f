//! Records through TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use milena::{
    Address, Client, Compression, Connect, Connecting, NewTopic, Position, Record, Tls, TlsVersion, Transport,
};
use milena_broker::Broker;
use rustls::ALL_VERSIONS;
use rustls::version::{TLS12, TLS13};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::server::{Authority, Clients, Server, server_config};

/// Writes records of many sizes and reads them again.
async fn produce_and_consume(client: &Client) {
    let topic = NewTopic::new("t").partitions(1);
    client.admin().create_topics([topic]).await.expect("created").remove(0).1.expect("created");
    let producer = client
        .producer()
        .settings(|settings| settings.compression = Compression::None)
        .build()
        .await
        .expect("built");
    // Less than a TLS record, about one, many, and not a multiple.
    let sizes = [0usize, 1, 100, 16_000, 16_384, 16_385, 65_536, 700_001];
    for (index, size) in sizes.into_iter().enumerate() {
        let value: Vec<u8> = (0..size).map(|at| (at * 31 + index) as u8).collect();
        producer.send(Record::to("t").value(value)).await.expect("written");
    }
    let mut consumer =
        client.consumer_direct().assign([("t", 0)], Position::Earliest).build().await.expect("built");
    let mut seen = 0;
    while seen < sizes.len() {
        let batch = consumer.next().await.expect("read").expect("a batch");
        for record in &batch {
            let value = record.value().expect("a value");
            assert_eq!(value.len(), sizes[seen]);
            assert!(
                value.iter().enumerate().all(|(at, byte)| *byte == (at * 31 + seen) as u8),
                "record {seen}"
            );
            seen += 1;
        }
    }
    producer.close().await.expect("closed");
}

#[tokio::test]
async fn records_of_every_size_go_through_both_versions_with_and_without_a_client_certificate() {
    let authority = Authority::new("Records");
    let signed = authority.sign(&["localhost", "127.0.0.1"], |_| {});
    let own = authority.sign(&["client"], |_| {});
    for (version, chosen) in [(&TLS12, TlsVersion::Tls12), (&TLS13, TlsVersion::Tls13)] {
        for clients in [Clients::Anonymous, Clients::SignedBy(&authority)] {
            let server = Server::start(server_config(&signed, &clients, ALL_VERSIONS)).await;
            let mut tls = Tls::roots_from_pem(authority.pem.clone()).min_version(chosen).max_version(chosen);
            if let Clients::SignedBy(_) = clients {
                tls = tls.client_certificate(own.pem.clone(), own.key_pem.clone());
            }
            let client = server.client().tls(tls).connect().await.expect("connected");
            produce_and_consume(&client).await;
            let state = client.tls().expect("TLS");
            assert_eq!(state.own.is_some(), matches!(clients, Clients::SignedBy(_)));
            assert!(state.brokers.values().all(|validity| validity.not_before < validity.not_after));
            assert!(!state.brokers.is_empty(), "{:?}", version.version);
        }
    }
}

#[tokio::test]
async fn a_later_connection_continues_the_session_of_an_earlier_one_unless_that_is_turned_off() {
    let authority = Authority::new("Sessions");
    let signed = authority.sign(&["localhost", "127.0.0.1"], |_| {});
    for version in [&TLS12, &TLS13] {
        for resumes in [true, false] {
            let server = Server::start(server_config(&signed, &Clients::Anonymous, &[version])).await;
            let mut tls = Tls::roots_from_pem(authority.pem.clone());
            if !resumes {
                tls = tls.without_session_resumption();
            }
            let client = server.client().tls(tls).connect().await.expect("connected");
            produce_and_consume(&client).await;
            assert!(server.accepted() > 1, "several connections");
            let resumed = server.resumed.load(Ordering::Relaxed);
            assert_eq!(resumed > 0, resumes, "{:?}: {resumed}", version.version);
        }
    }
}

/// A transport that takes and gives few bytes at a time.
struct Narrow {
    acceptor: TlsAcceptor,
    broker: SocketAddr,
    bytes: usize,
}

impl Connect for Narrow {
    fn connect(&self, _: &Address, _: Option<SocketAddr>) -> Connecting {
        let (ours, theirs) = tokio::io::duplex(self.bytes);
        let (acceptor, broker) = (self.acceptor.clone(), self.broker);
        tokio::spawn(async move {
            let Ok(mut stream) = acceptor.accept(theirs).await else { return };
            let mut broker = TcpStream::connect(broker).await.expect("connected");
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut broker).await;
        });
        Box::pin(async { Ok(Box::new(ours) as Box<dyn Transport>) })
    }
}

#[tokio::test]
async fn records_come_through_however_the_bytes_are_cut() {
    let authority = Authority::new("Narrow");
    let signed = authority.sign(&["localhost", "127.0.0.1"], |_| {});
    for bytes in [97, 5000, 1 << 20] {
        let cluster = Broker::builder().start().await.expect("started");
        let broker = cluster.bootstrap().parse().expect("an address");
        let config = server_config(&signed, &Clients::Anonymous, ALL_VERSIONS);
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let client = Client::builder()
            .bootstrap("localhost:1")
            .connector(Narrow { acceptor, broker, bytes })
            .tls(Tls::roots_from_pem(authority.pem.clone()))
            .connect()
            .await
            .expect("connected");
        produce_and_consume(&client).await;
    }
}
