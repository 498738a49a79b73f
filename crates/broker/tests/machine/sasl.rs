//! Logging in: the server's half of SASL, by its mechanisms.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::{Buf, Bytes};
use hmac::{Hmac, KeyInit, Mac};
use milena_broker::{Answer, Broker, Builder, Listener, OauthValidator, Peer, SaslMechanism};
use milena_messages::alter_user_scram_credentials::{
    AlterUserScramCredentialsRequest, ScramCredentialDeletion, ScramCredentialUpsertion,
};
use milena_messages::api_versions::ApiVersionsRequest;
use milena_messages::describe_cluster::DescribeClusterRequest;
use milena_messages::describe_user_scram_credentials::{
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResult, UserName,
};
use milena_messages::find_coordinator::FindCoordinatorRequest;
use milena_messages::metadata::MetadataRequest;
use milena_messages::sasl_authenticate::{SaslAuthenticateRequest, SaslAuthenticateResponse};
use milena_messages::sasl_handshake::{SaslHandshakeRequest, SaslHandshakeResponse};
use milena_messages::{ErrorCode, Request};
use sha2::{Digest, Sha256, Sha512};

use crate::rig::{Outcome, Rig, frame};

/// The listener of the rigs here that wants SASL.
const GUARDED: usize = 1;

pub(crate) fn builder() -> Builder {
    Broker::builder()
        .listener(Listener::plaintext())
        .listener(Listener::sasl_plaintext())
        .user("alice", "secret")
        .user("a,b=c", "other")
}

pub(crate) fn connect(rig: &Rig) -> Peer {
    let address = ([127, 0, 0, 1], 40_000).into();
    rig.machine.connect_to(1, GUARDED, address, rig.now).expect("the node is up")
}

pub(crate) fn ask<R: Request>(
    rig: &Rig,
    peer: &mut Peer,
    version: i16,
    request: &R,
) -> Result<R::Response, String> {
    let answer = rig.machine.handle(peer, &frame(version, request), rig.now, usize::MAX);
    match Rig::outcome::<R>(version, answer.map_err(|refused| refused.to_string())?) {
        Outcome::Answered(response) => Ok(response),
        Outcome::Silent => panic!("no answer"),
        Outcome::Parked(parked) => {
            assert_eq!(
                parked.deadline() - rig.now.instant,
                Duration::from_millis(100),
                "the delay of failures"
            );
            let late = rig.now.plus(Duration::from_millis(100));
            let answer = rig.machine.resume(peer, parked, late, usize::MAX).expect("answered in the end");
            assert!(peer.denied().is_some());
            Ok(Rig::outcome::<R>(version, answer).answered())
        }
    }
}

fn handshake(
    rig: &Rig,
    peer: &mut Peer,
    version: i16,
    mechanism: &str,
) -> Result<SaslHandshakeResponse, String> {
    ask(rig, peer, version, &SaslHandshakeRequest { mechanism: mechanism.into() })
}

fn token(rig: &Rig, peer: &mut Peer, token: impl Into<Bytes>) -> Result<SaslAuthenticateResponse, String> {
    let request = SaslAuthenticateRequest { auth_bytes: token.into(), ..Default::default() };
    ask(rig, peer, 2, &request)
}

pub(crate) fn plain(rig: &Rig, peer: &mut Peer, user: &str, password: &str) -> SaslAuthenticateResponse {
    assert_eq!(handshake(rig, peer, 1, "PLAIN").expect("answered").error_code, ErrorCode::NONE);
    token(rig, peer, format!("\0{user}\0{password}")).expect("answered")
}

/// A SCRAM client of few lines.
struct Scram {
    is_long: bool,
    password: String,
    bare: String,
}

impl Scram {
    fn new(mechanism: SaslMechanism, user: &str, password: &str) -> Self {
        let bare = format!("n={user},r=fyko+d2lbbFgONRv9qkxdawL");
        let password = password.to_owned();
        Self { is_long: mechanism == SaslMechanism::ScramSha512, password, bare }
    }

    fn first(&self) -> String {
        format!("n,,{}", self.bare)
    }

    fn hmac(&self, key: &[u8], data: &[u8]) -> Vec<u8> {
        if self.is_long {
            let mac = Hmac::<Sha512>::new_from_slice(key).expect("any length");
            mac.chain_update(data).finalize().into_bytes().to_vec()
        } else {
            let mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
            mac.chain_update(data).finalize().into_bytes().to_vec()
        }
    }

    /// The last message, and the signature that the server must answer.
    fn last(&self, server_first: &str, nonce: Option<&str>) -> (String, String) {
        let field = |name: &str| {
            let mut fields = server_first.split(',');
            fields.find_map(|field| field.strip_prefix(name)).expect("a field").to_owned()
        };
        let salt = STANDARD.decode(field("s=")).expect("base64");
        let iterations = field("i=").parse().expect("a number");
        let mut salted = vec![0; if self.is_long { 64 } else { 32 }];
        let password = self.password.as_bytes();
        match self.is_long {
            true => pbkdf2::pbkdf2_hmac::<Sha512>(password, &salt, iterations, &mut salted),
            false => pbkdf2::pbkdf2_hmac::<Sha256>(password, &salt, iterations, &mut salted),
        }
        let client_key = self.hmac(&salted, b"Client Key");
        let stored_key = if self.is_long {
            Sha512::digest(&client_key).to_vec()
        } else {
            Sha256::digest(&client_key).to_vec()
        };
        let without_proof = format!("c=biws,r={}", nonce.unwrap_or(&field("r=")));
        let said = format!("{},{server_first},{without_proof}", self.bare);
        let signature = self.hmac(&stored_key, said.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(one, other)| one ^ other).collect();
        let server_key = self.hmac(&salted, b"Server Key");
        let expected = format!("v={}", STANDARD.encode(self.hmac(&server_key, said.as_bytes())));
        (format!("{without_proof},p={}", STANDARD.encode(proof)), expected)
    }
}

/// Logs in by SCRAM. Returns the server's first message and the last answer.
pub(crate) fn scram(
    rig: &Rig,
    peer: &mut Peer,
    mechanism: SaslMechanism,
    user: &str,
    password: &str,
) -> (String, SaslAuthenticateResponse) {
    exchange(rig, peer, mechanism, &Scram::new(mechanism, user, password))
}

/// Logs in by a delegation token.
pub(crate) fn by_token(
    rig: &Rig,
    peer: &mut Peer,
    mechanism: SaslMechanism,
    id: &str,
    hmac: &[u8],
) -> SaslAuthenticateResponse {
    let mut client = Scram::new(mechanism, id, &STANDARD.encode(hmac));
    client.bare += ",tokenauth=true";
    exchange(rig, peer, mechanism, &client).1
}

fn exchange(
    rig: &Rig,
    peer: &mut Peer,
    mechanism: SaslMechanism,
    client: &Scram,
) -> (String, SaslAuthenticateResponse) {
    assert_eq!(handshake(rig, peer, 1, mechanism.name()).expect("answered").error_code, ErrorCode::NONE);
    let challenge = token(rig, peer, client.first()).expect("answered");
    assert_eq!(challenge.error_code, ErrorCode::NONE);
    let challenge = String::from_utf8(challenge.auth_bytes.to_vec()).expect("text");
    let (last, expected) = client.last(&challenge, None);
    let answer = token(rig, peer, last).expect("answered");
    if answer.error_code.is_none() {
        assert_eq!(answer.auth_bytes, expected.as_bytes(), "the server proves that it knows the password");
    }
    (challenge, answer)
}

fn metadata(rig: &Rig, peer: &mut Peer) -> Result<(), String> {
    ask(rig, peer, 12, &MetadataRequest::default()).map(drop)
}

const HASHED: [SaslMechanism; 2] = [SaslMechanism::ScramSha256, SaslMechanism::ScramSha512];

#[test]
fn before_authentication_only_its_own_requests_are_answered() {
    let rig = Rig::with(builder());
    let refused = |prepare: &dyn Fn(&mut Peer)| {
        let mut peer = connect(&rig);
        prepare(&mut peer);
        metadata(&rig, &mut peer).expect_err("refused")
    };
    let expected = "Metadata came before the client had authenticated";
    assert_eq!(refused(&|_| {}), expected);
    assert_eq!(refused(&|peer| drop(ask(&rig, peer, 4, &versions()))), expected);
    assert_eq!(refused(&|peer| drop(handshake(&rig, peer, 1, "PLAIN"))), expected);
    assert_eq!(refused(&|peer| drop(plain(&rig, peer, "alice", "wrong"))), expected);
    // The other listener is as open as ever.
    metadata(&rig, &mut rig.connect(1)).expect("answered");
}

fn versions() -> ApiVersionsRequest {
    ApiVersionsRequest {
        client_software_name: "rig".into(),
        client_software_version: "1".into(),
        ..Default::default()
    }
}

#[test]
fn plain_lets_in_who_knows_the_password() {
    let rig = Rig::with(builder());
    let mut peer = connect(&rig);
    assert_eq!(peer.principal(), "User:ANONYMOUS");
    assert_eq!(ask(&rig, &mut peer, 4, &versions()).expect("answered").error_code, ErrorCode::NONE);
    let answer = plain(&rig, &mut peer, "alice", "secret");
    assert_eq!(answer, SaslAuthenticateResponse::default());
    assert_eq!(peer.principal(), "User:alice");
    metadata(&rig, &mut peer).expect("answered");
    let mut other = connect(&rig);
    assert_eq!(plain(&rig, &mut other, "a,b=c", "other").error_code, ErrorCode::NONE);
    assert_eq!(other.principal(), "User:a,b=c");
}

#[test]
fn plain_says_the_same_of_a_wrong_password_and_of_an_unknown_user() {
    let rig = Rig::with(builder());
    let hidden =
        "Authentication failed during authentication due to invalid credentials with SASL mechanism PLAIN";
    let wrong = "Authentication failed: Invalid username or password";
    let other = "Authentication failed: Client requested an authorization id that is different from username";
    for (text, message) in [
        ("\0alice\0secreT", wrong),
        ("\0alice\0secret2", wrong),
        ("\0bob\0secret", wrong),
        ("bob\0alice\0secret", other),
        ("\0alice\0", hidden),
        ("\0\0secret", hidden),
        ("alice", hidden),
        ("", hidden),
        ("\0alice\0secret\0", hidden),
    ] {
        let mut peer = connect(&rig);
        handshake(&rig, &mut peer, 1, "PLAIN").expect("answered");
        let answer = token(&rig, &mut peer, text).expect("answered");
        assert_eq!(answer.error_code, ErrorCode::SASL_AUTHENTICATION_FAILED, "{text:?}");
        assert_eq!(answer.error_message.as_deref(), Some(message), "{text:?}");
        assert!(!peer.denied().expect("denied").contains("secret"), "{:?}", peer.denied());
    }
    let mut own = connect(&rig);
    handshake(&rig, &mut own, 1, "PLAIN").expect("answered");
    let answer = token(&rig, &mut own, "alice\0alice\0secret").expect("answered");
    assert_eq!(answer.error_code, ErrorCode::NONE, "its own authorization id");
}

#[test]
fn scram_lets_in_who_knows_the_password() {
    let rig = Rig::with(builder());
    for mechanism in HASHED {
        let mut peer = connect(&rig);
        let (challenge, answer) = scram(&rig, &mut peer, mechanism, "alice", "secret");
        assert_eq!((answer.error_code, peer.principal()), (ErrorCode::NONE, "User:alice"));
        assert!(challenge.ends_with(",i=4096"), "{challenge}");
        metadata(&rig, &mut peer).expect("answered");
        let mut other = connect(&rig);
        let (next, answer) = scram(&rig, &mut other, mechanism, "a=2Cb=3Dc", "other");
        assert_eq!((answer.error_code, other.principal()), (ErrorCode::NONE, "User:a,b=c"));
        assert_ne!(nonce(&challenge), nonce(&next), "a nonce is used once");
    }
}

fn nonce(challenge: &str) -> &str {
    challenge.split(',').next().expect("a nonce")
}

#[test]
fn scram_says_the_same_of_a_wrong_password_and_of_an_unknown_user() {
    let rig = Rig::with(builder());
    for mechanism in HASHED {
        let ask = |user, password| {
            let mut peer = connect(&rig);
            let (challenge, answer) = scram(&rig, &mut peer, mechanism, user, password);
            let salt = challenge.split(',').nth(1).expect("a salt").to_owned();
            assert!(peer.denied().is_some());
            (salt, answer)
        };
        let (salt, known) = ask("alice", "wrong");
        let (decoy, unknown) = ask("bob", "secret");
        assert_eq!(known, unknown);
        assert_eq!(known.error_code, ErrorCode::SASL_AUTHENTICATION_FAILED);
        let message = format!(
            "Authentication failed during authentication due to invalid credentials with SASL mechanism {mechanism}"
        );
        assert_eq!(known.error_message.as_deref(), Some(message.as_str()));
        // Their salts look alike and stay the same.
        assert_eq!(salt.len(), decoy.len());
        assert_ne!(salt, decoy);
        assert_eq!((ask("alice", "wrong").0, ask("bob", "x").0), (salt, decoy));
    }
}

#[test]
fn scram_takes_a_proof_for_its_own_nonce_only() {
    let rig = Rig::with(builder());
    let mechanism = SaslMechanism::ScramSha256;
    let client = Scram::new(mechanism, "alice", "secret");
    let challenge = |peer: &mut Peer| {
        handshake(&rig, peer, 1, mechanism.name()).expect("answered");
        let answer = token(&rig, peer, client.first()).expect("answered");
        String::from_utf8(answer.auth_bytes.to_vec()).expect("text")
    };
    let denied = |peer: &mut Peer, last: String| {
        let answer = token(&rig, peer, last).expect("answered");
        assert_eq!(answer.error_code, ErrorCode::SASL_AUTHENTICATION_FAILED);
    };
    let mut first = connect(&rig);
    let (recorded, _) = client.last(&challenge(&mut first), None);
    let mut second = connect(&rig);
    challenge(&mut second);
    denied(&mut second, recorded.clone());
    let mut third = connect(&rig);
    let asked = challenge(&mut third);
    denied(&mut third, client.last(&asked, Some("fyko+d2lbbFgONRv9qkxdawL")).0);
    for broken in ["", "c=biws", "c=biws,r=x,p=!", "c=biws,r=x", "p=", "c=eSws,r=x,p=AA=="] {
        let mut peer = connect(&rig);
        challenge(&mut peer);
        denied(&mut peer, broken.to_owned());
    }
    assert_eq!(token(&rig, &mut first, recorded).expect("answered").error_code, ErrorCode::NONE);
}

#[test]
fn a_mechanism_that_is_not_enabled_is_answered_with_those_that_are() {
    let rig = Rig::with(builder().sasl_mechanisms(HASHED));
    for mechanism in ["PLAIN", "GSSAPI", "", "scram-sha-256"] {
        let mut peer = connect(&rig);
        let answer = handshake(&rig, &mut peer, 1, mechanism).expect("answered");
        assert_eq!(answer.error_code, ErrorCode::UNSUPPORTED_SASL_MECHANISM);
        assert_eq!(answer.mechanisms, ["SCRAM-SHA-256", "SCRAM-SHA-512"]);
        assert!(handshake(&rig, &mut peer, 1, "SCRAM-SHA-256").is_err(), "the connection is at its end");
    }
}

#[test]
fn after_the_oldest_handshake_tokens_have_no_header() {
    let rig = Rig::with(builder());
    let raw = |peer: &mut Peer, token: &[u8]| {
        let answer = rig.machine.handle(peer, &Bytes::copy_from_slice(token), rig.now, usize::MAX);
        match answer.expect("understood") {
            Answer::Now(frame) => {
                let mut bytes = Bytes::from(frame.to_vec());
                assert_eq!(bytes.get_i32() as usize, bytes.len());
                Some(bytes)
            }
            Answer::Later(parked) => {
                let answer = rig.machine.resume(peer, parked, rig.now, usize::MAX).expect("resumed");
                assert!(matches!(answer, Answer::Now(frame) if frame.is_empty()), "no answer says why");
                None
            }
            Answer::Nothing => panic!("an answer"),
        }
    };
    let mut peer = connect(&rig);
    handshake(&rig, &mut peer, 0, "PLAIN").expect("answered");
    assert_eq!(raw(&mut peer, b"\0alice\0secret").as_deref(), Some(&b""[..]));
    metadata(&rig, &mut peer).expect("answered");
    let mut peer = connect(&rig);
    handshake(&rig, &mut peer, 0, "SCRAM-SHA-256").expect("answered");
    let client = Scram::new(SaslMechanism::ScramSha256, "alice", "secret");
    let challenge = raw(&mut peer, client.first().as_bytes()).expect("answered");
    let (last, expected) = client.last(std::str::from_utf8(&challenge).expect("text"), None);
    assert_eq!(raw(&mut peer, last.as_bytes()).as_deref(), Some(expected.as_bytes()));
    assert_eq!(peer.principal(), "User:alice");
    let mut peer = connect(&rig);
    handshake(&rig, &mut peer, 0, "PLAIN").expect("answered");
    assert_eq!(raw(&mut peer, b"\0alice\0wrong"), None);
    assert!(peer.denied().is_some());
}

#[test]
fn what_does_not_fit_the_state_is_answered_as_kafka_does() {
    let rig = Rig::with(builder());
    let illegal = ErrorCode::ILLEGAL_SASL_STATE;
    // A listener without SASL.
    let mut open = rig.connect(1);
    assert_eq!(handshake(&rig, &mut open, 1, "PLAIN").expect("answered").error_code, illegal);
    let answer = token(&rig, &mut open, "x").expect("answered");
    assert_eq!(answer.error_code, illegal);
    metadata(&rig, &mut open).expect("it goes on");
    // Within an exchange.
    let mut peer = connect(&rig);
    handshake(&rig, &mut peer, 1, "PLAIN").expect("answered");
    assert_eq!(handshake(&rig, &mut peer, 1, "PLAIN").expect("answered").error_code, illegal);
    assert!(token(&rig, &mut peer, "\0alice\0secret").is_err(), "it has ended");
    let mut peer = connect(&rig);
    handshake(&rig, &mut peer, 1, "PLAIN").expect("answered");
    assert_eq!(ask(&rig, &mut peer, 4, &versions()).expect("answered").error_code, illegal);
    assert!(peer.denied().is_some());
    // ApiVersions comes once before authentication.
    let mut peer = connect(&rig);
    ask(&rig, &mut peer, 4, &versions()).expect("answered");
    assert!(ask(&rig, &mut peer, 4, &versions()).is_err());
    // A token before the handshake.
    assert!(token(&rig, &mut connect(&rig), "\0alice\0secret").is_err());
    // After authentication.
    let mut peer = connect(&rig);
    plain(&rig, &mut peer, "alice", "secret");
    let answer = token(&rig, &mut peer, "\0alice\0secret").expect("answered");
    assert_eq!(answer.error_code, illegal);
    ask(&rig, &mut peer, 4, &versions()).expect("as often as one likes");
    ask(&rig, &mut peer, 4, &versions()).expect("as often as one likes");
    // A session without an end is not renewed.
    assert_eq!(handshake(&rig, &mut peer, 1, "PLAIN").expect("answered").error_code, illegal);
    metadata(&rig, &mut peer).expect("it goes on");
}

#[test]
fn a_session_ends_unless_it_is_renewed() {
    let mut rig = Rig::with(builder().session_lifetime_max(Duration::from_secs(60)));
    let mut peer = connect(&rig);
    let answer = plain(&rig, &mut peer, "alice", "secret");
    assert_eq!(answer.session_lifetime_ms, 60_000);
    rig.pass(Duration::from_secs(50));
    assert_eq!(plain(&rig, &mut peer, "alice", "secret").session_lifetime_ms, 60_000);
    // At most once a second.
    assert_eq!(
        handshake(&rig, &mut peer, 1, "PLAIN").expect("answered").error_code,
        ErrorCode::ILLEGAL_SASL_STATE
    );
    rig.pass(Duration::from_secs(60));
    metadata(&rig, &mut peer).expect("answered");
    rig.pass(Duration::from_millis(1));
    let refused = metadata(&rig, &mut peer).expect_err("refused");
    assert_eq!(refused, "Metadata came after the end of the session; the client had to authenticate again");
    // It is never too late.
    assert_eq!(plain(&rig, &mut peer, "alice", "secret").error_code, ErrorCode::NONE);
    metadata(&rig, &mut peer).expect("answered");
}

#[test]
fn a_renewed_session_keeps_its_principal_and_its_mechanism() {
    let mut rig = Rig::with(builder().session_lifetime_max(Duration::from_secs(600)));
    let login = |rig: &Rig| {
        let mut peer = connect(rig);
        assert_eq!(plain(rig, &mut peer, "alice", "secret").session_lifetime_ms, 600_000);
        peer
    };
    let mut peer = login(&rig);
    rig.pass(Duration::from_secs(2));
    let answer = plain(&rig, &mut peer, "a,b=c", "other");
    let message = "Cannot change principals during re-authentication from User.alice: User.a,b=c";
    assert_eq!(answer.error_message.as_deref(), Some(message));
    let mut peer = login(&rig);
    assert_eq!(handshake(&rig, &mut peer, 1, "SCRAM-SHA-256").expect("answered").error_code, ErrorCode::NONE);
    let answer = token(&rig, &mut peer, "n,,n=alice,r=x").expect("answered");
    let message = "SASL mechanism 'SCRAM-SHA-256' requested by client is not supported for re-authentication of \
                   mechanism 'PLAIN'";
    assert_eq!(answer.error_message.as_deref(), Some(message));
    let mut peer = login(&rig);
    let message =
        "Authentication failed during re-authentication due to invalid credentials with SASL mechanism PLAIN";
    handshake(&rig, &mut peer, 1, "PLAIN").expect("answered");
    assert!(metadata(&rig, &mut peer).is_err(), "no request while it authenticates");
    let mut peer = login(&rig);
    assert_eq!(plain(&rig, &mut peer, "alice", "").error_message.as_deref(), Some(message));
}

#[test]
fn clients_learn_the_addresses_of_the_listener_they_came_by() {
    let rig = Rig::with(builder().nodes(2));
    let mut guarded = connect(&rig);
    plain(&rig, &mut guarded, "alice", "secret");
    for (mut peer, port) in [(rig.connect(1), 9092), (guarded, 9093)] {
        let answer = ask(&rig, &mut peer, 12, &MetadataRequest::default()).expect("answered");
        let addresses = answer.brokers.iter().map(|broker| (broker.host.as_str(), broker.port));
        assert_eq!(addresses.collect::<Vec<_>>(), [("node-1", port), ("node-2", port)]);
        let answer = ask(&rig, &mut peer, 0, &DescribeClusterRequest::default()).expect("answered");
        assert!(answer.brokers.iter().all(|broker| broker.port == port));
        let request = FindCoordinatorRequest { key: "group".into(), ..Default::default() };
        assert_eq!(ask(&rig, &mut peer, 3, &request).expect("answered").port, port);
    }
    assert!(rig.machine.connect_to(1, 2, ([127, 0, 0, 1], 1).into(), rig.now).is_err());
}

const SALT: &[u8] = b"a salt that a client chose";

fn upsertion(user: &str, mechanism: i8, iterations: i32, password: &str) -> ScramCredentialUpsertion {
    let mut salted = vec![0; if mechanism == 2 { 64 } else { 32 }];
    let (password, count) = (password.as_bytes(), iterations.clamp(1, 5000) as u32);
    match mechanism {
        2 => pbkdf2::pbkdf2_hmac::<Sha512>(password, SALT, count, &mut salted),
        _ => pbkdf2::pbkdf2_hmac::<Sha256>(password, SALT, count, &mut salted),
    }
    ScramCredentialUpsertion {
        name: user.into(),
        mechanism,
        iterations,
        salt: SALT.into(),
        salted_password: salted.into(),
        ..Default::default()
    }
}

fn deletion(user: &str, mechanism: i8) -> ScramCredentialDeletion {
    ScramCredentialDeletion { name: user.into(), mechanism, ..Default::default() }
}

/// The users in the answer with their error codes.
fn alter(
    rig: &Rig,
    deletions: Vec<ScramCredentialDeletion>,
    upsertions: Vec<ScramCredentialUpsertion>,
) -> Vec<(String, ErrorCode)> {
    let request = AlterUserScramCredentialsRequest { deletions, upsertions, ..Default::default() };
    let results = rig.ask(1, 0, &request).results.into_iter();
    results.map(|result| (result.user.to_string(), result.error_code)).collect()
}

fn describe(rig: &Rig, users: Option<&[&str]>) -> Vec<DescribeUserScramCredentialsResult> {
    let name = |&name: &&str| UserName { name: name.into(), ..Default::default() };
    let users = users.map(|users| users.iter().map(name).collect());
    rig.ask(1, 0, &DescribeUserScramCredentialsRequest { users, ..Default::default() }).results
}

fn infos(result: &DescribeUserScramCredentialsResult) -> (String, Vec<(i8, i32)>) {
    let infos = result.credential_infos.iter().map(|info| (info.mechanism, info.iterations));
    (result.user.to_string(), infos.collect())
}

#[test]
fn users_are_made_and_removed_while_the_broker_runs() {
    let rig = Rig::with(builder());
    let made =
        alter(&rig, Vec::new(), vec![upsertion("carol", 1, 4096, "x"), upsertion("alice", 2, 5000, "y")]);
    assert_eq!(made, [("alice".to_owned(), ErrorCode::NONE), ("carol".to_owned(), ErrorCode::NONE)]);
    let described: Vec<_> = describe(&rig, None).iter().map(infos).collect();
    let of = |name: &str, infos: &[(i8, i32)]| (name.to_owned(), infos.to_vec());
    assert_eq!(
        described,
        [
            of("a,b=c", &[(1, 4096), (2, 4096)]),
            of("alice", &[(1, 4096), (2, 5000)]),
            of("carol", &[(1, 4096)])
        ]
    );
    let login =
        |mechanism, user, password| scram(&rig, &mut connect(&rig), mechanism, user, password).1.error_code;
    let [short, long] = HASHED;
    assert_eq!(login(short, "carol", "x"), ErrorCode::NONE);
    assert_eq!(login(long, "carol", "x"), ErrorCode::SASL_AUTHENTICATION_FAILED, "another mechanism");
    assert_eq!(login(long, "alice", "y"), ErrorCode::NONE);
    assert_eq!(login(long, "alice", "secret"), ErrorCode::SASL_AUTHENTICATION_FAILED, "the old password");
    assert_eq!(login(short, "alice", "secret"), ErrorCode::NONE, "the other mechanism has its old password");
    let gone = alter(&rig, vec![deletion("carol", 1)], Vec::new());
    assert_eq!(gone, [("carol".to_owned(), ErrorCode::NONE)]);
    assert_eq!(login(short, "carol", "x"), ErrorCode::SASL_AUTHENTICATION_FAILED);
    let none = &describe(&rig, Some(&["carol"]))[0];
    assert_eq!(none.error_code, ErrorCode::RESOURCE_NOT_FOUND);
    let twice = describe(&rig, Some(&["alice", "alice", "a,b=c"]));
    assert_eq!(infos(&twice[0]).1.len(), 2);
    assert_eq!((twice.len(), twice[1].error_code), (2, ErrorCode::DUPLICATE_RESOURCE));
}

#[test]
fn credentials_that_kafka_does_not_take_are_refused_one_by_one() {
    let rig = Rig::with(builder());
    let deletions = vec![deletion("bob", 1), deletion("alice", 3), deletion("a,b=c", 1)];
    let upsertions = vec![
        upsertion("few", 1, 4095, "x"),
        upsertion("many", 1, 16_385, "x"),
        upsertion("less", 1, -1, "x"),
        upsertion("", 1, 4096, "x"),
        upsertion("other", 0, 4096, "x"),
        upsertion("a,b=c", 1, 4096, "x"),
        upsertion("good", 1, 16_384, "x"),
    ];
    let codes = alter(&rig, deletions, upsertions);
    let unacceptable = ErrorCode::UNACCEPTABLE_CREDENTIAL;
    let expected = [
        ("", unacceptable),
        ("a,b=c", ErrorCode::DUPLICATE_RESOURCE),
        ("alice", ErrorCode::UNSUPPORTED_SASL_MECHANISM),
        ("bob", ErrorCode::RESOURCE_NOT_FOUND),
        ("few", unacceptable),
        ("good", ErrorCode::NONE),
        ("less", unacceptable),
        ("many", unacceptable),
        ("other", ErrorCode::UNSUPPORTED_SASL_MECHANISM),
    ];
    assert_eq!(codes, expected.map(|(name, code)| (name.to_owned(), code)));
}

#[test]
fn users_of_clients_outlive_the_broker() {
    let dir = tempfile::tempdir().expect("a directory");
    let on_disk = || builder().data_dir(dir.path());
    let rig = Rig::with(on_disk());
    alter(&rig, Vec::new(), vec![upsertion("carol d", 1, 4096, "x"), upsertion("alice", 1, 5000, "y")]);
    drop(rig);
    let rig = Rig::with(on_disk());
    let login = |user: &str, password| {
        scram(&rig, &mut connect(&rig), SaslMechanism::ScramSha256, user, password).1.error_code
    };
    assert_eq!(login("carol d", "x"), ErrorCode::NONE);
    assert_eq!(login("alice", "secret"), ErrorCode::NONE, "the users given at the start go first");
    let text = std::fs::read_to_string(dir.path().join("milena.users")).expect("a file");
    assert_eq!(text.lines().count(), 4, "{text}");
    alter(&rig, vec![deletion("carol d", 1)], Vec::new());
    drop(rig);
    let rig = Rig::with(on_disk());
    assert_eq!(describe(&rig, Some(&["carol d"]))[0].error_code, ErrorCode::RESOURCE_NOT_FOUND);
    drop(rig);
    std::fs::write(dir.path().join("milena.users"), text.replace("scram 1", "scram 9")).expect("written");
    let error = on_disk().machine().expect_err("damaged");
    assert!(error.is_damaged(), "{error}");
}

fn unsecured(claims: &str) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.", part(r#"{"alg":"none"}"#), part(claims))
}

fn bearer(rig: &Rig, peer: &mut Peer, claims: &str, authorization_id: &str) -> SaslAuthenticateResponse {
    assert_eq!(handshake(rig, peer, 1, "OAUTHBEARER").expect("answered").error_code, ErrorCode::NONE);
    let first = format!("n,{authorization_id},\u{1}auth=Bearer {}\u{1}trace=1\u{1}\u{1}", unsecured(claims));
    token(rig, peer, first).expect("answered")
}

#[test]
fn a_token_lets_its_principal_in_for_as_long_as_it_lasts() {
    let mut rig = Rig::with(builder().oauth(OauthValidator::unsecured()));
    let now = rig.now.unix_ms / 1000;
    let mut peer = connect(&rig);
    let answer = bearer(&rig, &mut peer, &format!(r#"{{"sub":"carol","exp":{}}}"#, now + 60), "");
    assert_eq!((answer.error_code, answer.session_lifetime_ms), (ErrorCode::NONE, 60_000));
    assert_eq!(peer.principal(), "User:carol");
    metadata(&rig, &mut peer).expect("answered");
    rig.pass(Duration::from_secs(50));
    let answer = bearer(&rig, &mut peer, &format!(r#"{{"sub":"carol","exp":{}}}"#, now + 110), "a=carol");
    assert_eq!(answer.session_lifetime_ms, 60_000);
    rig.pass(Duration::from_secs(61));
    metadata(&rig, &mut peer).expect_err("the token has ended");
    // The settings may want it sooner.
    let limited = builder().oauth(OauthValidator::unsecured()).session_lifetime_max(Duration::from_secs(10));
    let rig = Rig::with(limited);
    let answer = bearer(&rig, &mut connect(&rig), &format!(r#"{{"sub":"carol","exp":{}}}"#, now + 60), "");
    assert_eq!(answer.session_lifetime_ms, 10_000);
}

#[test]
fn a_token_that_is_not_taken_is_answered_as_the_rfc_has_it() {
    let validator = OauthValidator::unsecured().required_scope("kafka");
    let rig = Rig::with(builder().oauth(validator));
    let now = rig.now.unix_ms / 1000;
    let good = format!(r#"{{"sub":"carol","scope":"kafka","exp":{}}}"#, now + 60);
    for (claims, authorization_id, words) in [
        (good.replace("kafka", "other"), "", r#"{"status":"insufficient_scope", "scope":"kafka"}"#),
        (good.replace("carol", ""), "", r#"{"status":"invalid_token"}"#),
        (
            format!(r#"{{"sub":"carol","scope":"kafka","exp":{}}}"#, now - 60),
            "",
            r#"{"status":"invalid_token"}"#,
        ),
    ] {
        let mut peer = connect(&rig);
        let answer = bearer(&rig, &mut peer, &claims, authorization_id);
        assert_eq!((answer.error_code, &answer.auth_bytes[..]), (ErrorCode::NONE, words.as_bytes()));
        assert!(metadata(&rig, &mut peer).is_err());
        let answer = token(&rig, &mut peer, "\u{1}").expect("answered");
        assert_eq!(answer.error_code, ErrorCode::SASL_AUTHENTICATION_FAILED);
        assert_eq!(answer.error_message.as_deref(), Some(words));
        assert!(!peer.denied().expect("denied").contains("eyJ"), "{:?}", peer.denied());
    }
    let mut peer = connect(&rig);
    let answer = bearer(&rig, &mut peer, &good, "a=bob");
    let words = "Authentication failed: Client requested an authorization id (bob) that is different from the token's \
                 principal name (carol)";
    assert_eq!(answer.error_message.as_deref(), Some(words));
    let mut peer = connect(&rig);
    handshake(&rig, &mut peer, 1, "OAUTHBEARER").expect("answered");
    let answer = token(&rig, &mut peer, "n,,\u{1}auth=Basic x\u{1}\u{1}").expect("answered");
    assert_eq!(answer.error_code, ErrorCode::SASL_AUTHENTICATION_FAILED);
    // Without rules for tokens the mechanism is not enabled.
    let rig = Rig::with(builder());
    let answer = handshake(&rig, &mut connect(&rig), 1, "OAUTHBEARER").expect("answered");
    assert_eq!(answer.error_code, ErrorCode::UNSUPPORTED_SASL_MECHANISM);
    assert!(builder().sasl_mechanisms([SaslMechanism::OauthBearer]).machine().is_err());
}
