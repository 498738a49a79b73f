//! Names, ports, and what listens there.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

use milena_broker::Broker;

use crate::{Running, examine};

/// A port at which each connection is given to `serve`.
fn port(serve: impl Fn(TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("bound").to_string();
    thread::spawn(move || listener.incoming().flatten().for_each(serve));
    address
}

/// A port at which nothing listens, as far as can be known.
fn closed() -> String {
    TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("bound").to_string()
}

#[test]
fn a_name_does_not_exist() {
    examine("no-such-name", 1, "kafka-1.example.invalid:9092", &[]);
}

#[test]
fn nothing_listens_on_a_port() {
    examine("nothing-listens", 1, &closed(), &[]);
}

#[test]
fn a_port_takes_connections_and_never_answers() {
    let (keep, kept) = std::sync::mpsc::channel();
    let address = port(move |stream| drop(keep.send(stream)));
    examine("never-answers", 1, &address, &["--timeout", "1"]);
    drop(kept);
}

#[test]
fn a_port_closes_every_connection() {
    // What it has not read when it closes would reset the connection, or not: that is a race.
    let address = port(|mut stream| drop(stream.read(&mut [0; 1024])));
    examine("closes-at-once", 1, &address, &[]);
}

#[test]
fn a_port_is_a_web_servers() {
    let address = port(|mut stream| {
        let mut request = [0; 64];
        let _ = stream.read(&mut request);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
    });
    examine("web-server", 1, &address, &[]);
}

#[test]
fn one_of_two_bootstrap_servers_is_down() {
    let cluster = Running::start(Broker::builder());
    examine("one-server-down", 0, &format!("{},{}", closed(), cluster.cluster.bootstrap()), &[]);
}

#[test]
fn a_proxy_is_not_there() {
    let cluster = Running::start(Broker::builder());
    cluster.examine("no-proxy", 1, &["-X", "proxy=socks5://127.0.0.1:1"]);
}

#[test]
fn all_is_well() {
    let cluster = Running::start(Broker::builder().config("log.message.timestamp.type", "LogAppendTime"));
    cluster.cluster.create_topic("orders", 3).expect("made");
    let args = ["--topic", "orders", "--group", "billing", "--transactional-id", "billing-1", "--write"];
    cluster.examine("all-is-well", 0, &args);
}

/// Each of them takes a third of the time, and they are asked at the same time.
#[test]
fn three_of_four_bootstrap_servers_hang() {
    let cluster = Running::start(Broker::builder());
    let (keep, kept) = std::sync::mpsc::channel();
    let hangs = || {
        let keep = keep.clone();
        port(move |stream| drop(keep.send(stream)))
    };
    let servers = [hangs(), hangs(), hangs(), cluster.cluster.bootstrap().to_owned()];
    examine("three-servers-hang", 0, &servers.join(","), &["--limit", "6"]);
    drop(kept);
}
