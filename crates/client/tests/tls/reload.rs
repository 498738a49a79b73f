//! Files that change while a client runs.

use std::time::{Duration, SystemTime};

use milena::{Tls, TlsState};
use rustls::ALL_VERSIONS;

use crate::certificates::Dir;
use crate::server::{Authority, Clients, Server, server_config};

/// Writes a file so that its time differs from that of the one before.
fn write(dir: &Dir, name: &str, content: &str, version: u64) {
    let path = dir.write(name, content);
    let file = std::fs::File::options().write(true).open(path).expect("there");
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + version)).expect("set");
}

#[tokio::test]
async fn a_changed_file_is_used_by_new_connections_and_a_broken_one_is_not() {
    let authority = Authority::new("Reload");
    let signed = authority.sign(&["localhost", "127.0.0.1"], |_| {});
    let server = Server::start(server_config(&signed, &Clients::SignedBy(&authority), ALL_VERSIONS)).await;
    let dir = Dir::new("reload");
    let own =
        |year| authority.sign(&["client"], |params| params.not_after = rcgen::date_time_ymd(year, 7, 1));
    let put = |year, version| {
        let own = own(year);
        write(&dir, "own.pem", &own.pem, version);
        write(&dir, "own.key", &own.key_pem, version);
    };
    put(2100, 1);
    let path = |name| dir.path().join(name);
    let tls =
        Tls::roots_from_pem(authority.pem.clone()).client_certificate_files(path("own.pem"), path("own.key"));
    let client = server.client().tls(tls).connect().await.expect("connected");
    let year_of = |state: &TlsState| {
        let not_after = state.own.expect("a certificate").not_after;
        1970 + not_after.duration_since(SystemTime::UNIX_EPOCH).expect("later").as_secs() / 31_556_952
    };
    let state = || client.tls().expect("TLS");
    // A producer and a consumer have connections of their own.
    let connect = async || drop(client.admin().topics().await.expect("listed"));
    connect().await;
    assert_eq!(year_of(&state()), 2100);

    let new_connection = async || {
        let before = server.accepted();
        let producer = client.producer().build().await.expect("built");
        server.cluster.create_topic(&format!("t{before}"), 1).expect("created");
        producer.send(milena::Record::to(&format!("t{before}")).value("v")).await.expect("written");
        assert!(server.accepted() > before, "a new connection");
    };
    put(2200, 2);
    new_connection().await;
    assert_eq!(year_of(&state()), 2200);
    assert!(state().reload_error.is_none());

    // A key that belongs to another certificate, as while both files are being replaced.
    write(&dir, "own.key", &own(2300).key_pem, 3);
    new_connection().await;
    let error = state().reload_error.expect("an error").to_string();
    assert!(error.contains("the private key does not belong to the certificate"), "{error}");
    assert!(error.contains("own.pem"), "{error}");
    assert_eq!(year_of(&state()), 2200, "the earlier one is in use");

    std::fs::remove_file(path("own.key")).expect("removed");
    new_connection().await;
    let error = state().reload_error.expect("an error").to_string();
    assert!(error.contains("own.key"), "{error}");

    put(2400, 4);
    new_connection().await;
    assert_eq!(year_of(&state()), 2400);
    assert!(state().reload_error.is_none());
}
