//! TLS: ports, certificates, keys.

use std::time::{Duration, SystemTime};

use milena_broker::{Authority, Broker, Listener, Tls};

use crate::{Files, Running};

const DAY: Duration = Duration::from_secs(86_400);

/// A cluster whose certificate is of this authority, for this name.
fn cluster(authority: &Authority, name: &str, with: impl FnOnce(Tls) -> Tls) -> Running {
    let tls = with(Tls::of(&authority.server([name]).expect("made")));
    Running::start(Broker::builder().listener(Listener::ssl(tls)))
}

/// The arguments of a client that trusts this authority.
fn trusting(authority: &Authority, files: &Files) -> Vec<String> {
    let roots = files.property("ssl.ca.location", "ca.pem", authority.certificate_pem());
    ["-X", "security.protocol=SSL", "-X", &roots].map(str::to_owned).to_vec()
}

#[track_caller]
fn examine(cluster: &Running, mistake: &str, code: i32, args: &[String]) {
    cluster.examine(mistake, code, &args.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn a_client_speaks_tls_to_a_plain_port() {
    let (authority, files) = (Authority::new().expect("made"), Files::new());
    examine(&Running::start(Broker::builder()), "tls-to-plain-port", 1, &trusting(&authority, &files));
}

#[test]
fn a_client_speaks_plain_text_to_a_tls_port() {
    let authority = Authority::new().expect("made");
    cluster(&authority, "127.0.0.1", |tls| tls).examine("plain-to-tls-port", 1, &[]);
}

#[test]
fn the_brokers_certificate_has_expired() {
    let now = SystemTime::now();
    let (authority, files) = (Authority::new().expect("made").valid(now - 9 * DAY, now - DAY), Files::new());
    examine(
        &cluster(&authority, "127.0.0.1", |tls| tls),
        "expired-certificate",
        1,
        &trusting(&authority, &files),
    );
}

#[test]
fn the_brokers_certificate_is_not_valid_yet() {
    let now = SystemTime::now();
    let (authority, files) = (Authority::new().expect("made").valid(now + DAY, now + 9 * DAY), Files::new());
    examine(
        &cluster(&authority, "127.0.0.1", |tls| tls),
        "certificate-not-valid-yet",
        1,
        &trusting(&authority, &files),
    );
}

#[test]
fn the_brokers_certificate_ends_soon() {
    let now = SystemTime::now();
    let until = now + 6 * DAY + DAY / 2;
    let (authority, files) = (Authority::new().expect("made").valid(now - DAY, until), Files::new());
    examine(
        &cluster(&authority, "127.0.0.1", |tls| tls),
        "certificate-ends-soon",
        0,
        &trusting(&authority, &files),
    );
}

#[test]
fn the_brokers_certificate_is_for_another_host() {
    let (authority, files) = (Authority::new().expect("made"), Files::new());
    examine(
        &cluster(&authority, "kafka.example", |tls| tls),
        "certificate-of-another-host",
        1,
        &trusting(&authority, &files),
    );
}

#[test]
fn the_brokers_certificate_is_of_an_authority_that_is_not_trusted() {
    let (authority, files) = (Authority::new().expect("made"), Files::new());
    let other = Authority::new().expect("made");
    examine(
        &cluster(&authority, "127.0.0.1", |tls| tls),
        "untrusted-certificate",
        1,
        &trusting(&other, &files),
    );
}

#[test]
fn the_broker_requires_a_certificate_of_the_client() {
    let (authority, files) = (Authority::new().expect("made"), Files::new());
    let requiring = |tls: Tls| tls.require_clients(authority.certificate_pem()).expect("read");
    examine(
        &cluster(&authority, "127.0.0.1", requiring),
        "client-certificate-required",
        1,
        &trusting(&authority, &files),
    );
}

#[test]
fn the_broker_does_not_trust_the_clients_certificate() {
    let (authority, files) = (Authority::new().expect("made"), Files::new());
    let requiring = |tls: Tls| tls.require_clients(authority.certificate_pem()).expect("read");
    let own = Authority::new().expect("made").client("CN=alice").expect("made");
    let mut args = trusting(&authority, &files);
    args.extend(["-X".into(), files.property("ssl.certificate.location", "own.pem", own.certificate_pem())]);
    args.extend(["-X".into(), files.property("ssl.key.location", "own.key", own.key_pem())]);
    examine(&cluster(&authority, "127.0.0.1", requiring), "client-certificate-untrusted", 1, &args);
}
