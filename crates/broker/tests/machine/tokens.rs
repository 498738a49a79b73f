//! Delegation tokens: who gets them, how long they last, and how clients log in by them.

use std::time::Duration;

use bytes::Bytes;
use milena_broker::{Authorizer, Builder, Peer, SaslMechanism};
use milena_messages::ErrorCode;
use milena_messages::create_acls::{AclCreation, CreateAclsRequest};
use milena_messages::create_delegation_token::{
    CreatableRenewers, CreateDelegationTokenRequest, CreateDelegationTokenResponse,
};
use milena_messages::describe_delegation_token::{
    DescribeDelegationTokenOwner, DescribeDelegationTokenRequest, DescribeDelegationTokenResponse,
};
use milena_messages::expire_delegation_token::ExpireDelegationTokenRequest;
use milena_messages::metadata::MetadataRequest;
use milena_messages::renew_delegation_token::RenewDelegationTokenRequest;

use crate::rig::Rig;
use crate::sasl::{ask, by_token, connect, plain};

const NONE: ErrorCode = ErrorCode::NONE;
const NOT_ALLOWED: ErrorCode = ErrorCode::DELEGATION_TOKEN_REQUEST_NOT_ALLOWED;
const DISABLED: ErrorCode = ErrorCode::DELEGATION_TOKEN_AUTH_DISABLED;
const MECHANISMS: [SaslMechanism; 2] = [SaslMechanism::ScramSha256, SaslMechanism::ScramSha512];
const HOUR: Duration = Duration::from_secs(3600);
const HOUR_MS: i64 = 3_600_000;

/// A broker with tokens that last a day, and a week if they are renewed.
fn builder() -> Builder {
    let builder = crate::sasl::builder().delegation_token_key("a key");
    ["bob", "carol", "admin"].iter().fold(builder, |builder, user| builder.user(*user, "secret"))
}

fn login(rig: &Rig, user: &str) -> Peer {
    let mut peer = connect(rig);
    assert_eq!(plain(rig, &mut peer, user, "secret").error_code, NONE);
    peer
}

fn wanted(renewers: &[&str], max_lifetime_ms: i64) -> CreateDelegationTokenRequest {
    let renewer = |name: &&str| CreatableRenewers {
        principal_type: "User".into(),
        principal_name: (*name).into(),
        ..Default::default()
    };
    let renewers = renewers.iter().map(renewer).collect();
    CreateDelegationTokenRequest { renewers, max_lifetime_ms, ..Default::default() }
}

fn create(
    rig: &Rig,
    peer: &mut Peer,
    request: &CreateDelegationTokenRequest,
) -> CreateDelegationTokenResponse {
    ask(rig, peer, 3, request).expect("answered")
}

fn renew(rig: &Rig, peer: &mut Peer, hmac: &Bytes, renew_period_ms: i64) -> (ErrorCode, i64) {
    let request = RenewDelegationTokenRequest { hmac: hmac.clone(), renew_period_ms, ..Default::default() };
    let answer = ask(rig, peer, 2, &request).expect("answered");
    (answer.error_code, answer.expiry_timestamp_ms)
}

fn expire(rig: &Rig, peer: &mut Peer, hmac: &Bytes, expiry_time_period_ms: i64) -> (ErrorCode, i64) {
    let request =
        ExpireDelegationTokenRequest { hmac: hmac.clone(), expiry_time_period_ms, ..Default::default() };
    let answer = ask(rig, peer, 2, &request).expect("answered");
    (answer.error_code, answer.expiry_timestamp_ms)
}

fn describe(rig: &Rig, peer: &mut Peer, owners: Option<&[&str]>) -> DescribeDelegationTokenResponse {
    let owner = |name: &&str| DescribeDelegationTokenOwner {
        principal_type: "User".into(),
        principal_name: (*name).into(),
        ..Default::default()
    };
    let owners = owners.map(|owners| owners.iter().map(owner).collect());
    ask(rig, peer, 3, &DescribeDelegationTokenRequest { owners, ..Default::default() }).expect("answered")
}

/// The owners of the tokens that this user sees.
fn owners(rig: &Rig, user: &str, asked: Option<&[&str]>) -> Vec<String> {
    let answer = describe(rig, &mut login(rig, user), asked);
    assert_eq!(answer.error_code, NONE);
    let mut owners: Vec<String> =
        answer.tokens.iter().map(|token| token.principal_name.to_string()).collect();
    owners.sort();
    owners
}

#[test]
fn a_client_logs_in_by_a_token_as_its_owner() {
    let rig = Rig::with(builder());
    let token = create(&rig, &mut login(&rig, "alice"), &wanted(&["bob"], -1));
    assert_eq!((token.error_code, &*token.principal_name, &*token.principal_type), (NONE, "alice", "User"));
    assert_eq!(&*token.token_requester_principal_name, "alice");
    assert_eq!(token.issue_timestamp_ms, rig.now.unix_ms);
    assert_eq!(token.expiry_timestamp_ms - rig.now.unix_ms, 24 * HOUR_MS);
    assert_eq!(token.max_timestamp_ms - rig.now.unix_ms, 7 * 24 * HOUR_MS);
    for mechanism in MECHANISMS {
        for _ in 0..2 {
            let mut peer = connect(&rig);
            let answer = by_token(&rig, &mut peer, mechanism, &token.token_id, &token.hmac);
            assert_eq!((answer.error_code, peer.principal()), (NONE, "User:alice"));
            assert_eq!(answer.session_lifetime_ms, 24 * HOUR_MS, "no longer than its token");
            ask(&rig, &mut peer, 12, &MetadataRequest::default()).expect("admitted");
            // Nobody gets another token by a token, nor learns of one.
            let created = create(&rig, &mut peer, &wanted(&[], -1));
            assert_eq!((created.error_code, created.issue_timestamp_ms), (NOT_ALLOWED, -1));
            assert_eq!(renew(&rig, &mut peer, &token.hmac, -1), (NOT_ALLOWED, -1));
            assert_eq!(expire(&rig, &mut peer, &token.hmac, -1), (NOT_ALLOWED, -1));
            let described = describe(&rig, &mut peer, None);
            assert_eq!((described.error_code, described.tokens.len()), (NOT_ALLOWED, 0));
        }
        let refused = |id: &str, hmac: &[u8]| {
            let answer = by_token(&rig, &mut connect(&rig), mechanism, id, hmac);
            assert_eq!(answer.error_code, ErrorCode::SASL_AUTHENTICATION_FAILED);
            answer.error_message.expect("a reason")
        };
        let wrong = refused(&token.token_id, b"wrong");
        assert_eq!(
            wrong,
            refused("no-such-token", &token.hmac),
            "the answers do not tell which tokens there are"
        );
        assert_eq!(wrong, refused("alice", b"secret"), "a user is no token");
        let mut peer = connect(&rig);
        let (_, as_user) = crate::sasl::scram(&rig, &mut peer, mechanism, &token.token_id, "x");
        assert_eq!(as_user.error_code, ErrorCode::SASL_AUTHENTICATION_FAILED, "a token is no user");
    }
}

#[test]
fn tokens_are_for_clients_that_have_shown_who_they_are() {
    let rig = Rig::with(builder());
    let mut anonymous = rig.connect(1);
    assert_eq!(create(&rig, &mut anonymous, &wanted(&[], -1)).error_code, NOT_ALLOWED);
    assert_eq!(describe(&rig, &mut anonymous, None).error_code, NOT_ALLOWED);
    for key in [None, Some("")] {
        let builder = crate::sasl::builder();
        let rig = Rig::with(key.map_or(builder.clone(), |key| builder.delegation_token_key(key)));
        let mut alice = login(&rig, "alice");
        let answer = create(&rig, &mut alice, &wanted(&[], -1));
        assert_eq!((answer.error_code, answer.expiry_timestamp_ms), (DISABLED, 0));
        assert_eq!(renew(&rig, &mut alice, &Bytes::new(), -1), (DISABLED, 0));
        assert_eq!(expire(&rig, &mut alice, &Bytes::new(), -1), (DISABLED, 0));
        assert_eq!(describe(&rig, &mut alice, None).error_code, DISABLED);
    }
}

#[test]
fn a_token_lasts_as_long_as_it_is_renewed() {
    let mut rig = Rig::with(builder());
    let start = rig.now.unix_ms;
    let token = create(&rig, &mut login(&rig, "alice"), &wanted(&["bob"], 48 * HOUR_MS));
    let hmac = &token.hmac;
    assert_eq!(token.max_timestamp_ms - start, 48 * HOUR_MS);
    let in_hours = |(code, at): (ErrorCode, i64)| (code, (at - start) / HOUR_MS);
    rig.pass(20 * HOUR);
    assert_eq!(in_hours(renew(&rig, &mut login(&rig, "bob"), hmac, -1)), (NONE, 44));
    assert_eq!(in_hours(renew(&rig, &mut login(&rig, "bob"), hmac, HOUR_MS)), (NONE, 21), "or sooner");
    let mismatch = ErrorCode::DELEGATION_TOKEN_OWNER_MISMATCH;
    assert_eq!(renew(&rig, &mut login(&rig, "carol"), hmac, -1), (mismatch, 0));
    assert_eq!(expire(&rig, &mut login(&rig, "carol"), hmac, -1), (mismatch, 0));
    let unknown = ErrorCode::DELEGATION_TOKEN_NOT_FOUND;
    assert_eq!(renew(&rig, &mut login(&rig, "alice"), &Bytes::from_static(b"x"), -1), (unknown, 0));
    assert_eq!(in_hours(renew(&rig, &mut login(&rig, "alice"), hmac, i64::MAX)), (NONE, 44));
    rig.pass(20 * HOUR);
    assert_eq!(in_hours(renew(&rig, &mut login(&rig, "alice"), hmac, -1)), (NONE, 48), "its longest life");
    assert_eq!(in_hours(expire(&rig, &mut login(&rig, "bob"), hmac, HOUR_MS)), (NONE, 41));
    rig.pass(HOUR);
    let log_in = |rig: &Rig| {
        by_token(rig, &mut connect(rig), SaslMechanism::ScramSha256, &token.token_id, hmac).error_code
    };
    assert_eq!(log_in(&rig), NONE);
    rig.pass(Duration::from_millis(1));
    assert_eq!(log_in(&rig), ErrorCode::SASL_AUTHENTICATION_FAILED);
    let expired = ErrorCode::DELEGATION_TOKEN_EXPIRED;
    assert_eq!(renew(&rig, &mut login(&rig, "alice"), hmac, -1), (expired, 0));
    assert_eq!(expire(&rig, &mut login(&rig, "alice"), hmac, 1), (expired, 0));
    // It is seen until the broker removes it, which it does once an hour.
    assert_eq!(owners(&rig, "alice", None), ["alice"]);
    while let Some(at) = rig.machine.poll_timeout().filter(|at| *at <= rig.now.instant + HOUR) {
        rig.pass(at.saturating_duration_since(rig.now.instant));
        rig.machine.handle_timeout(rig.now);
        if owners(&rig, "alice", None).is_empty() {
            return;
        }
    }
    panic!("it is never removed");
}

#[test]
fn a_token_that_is_ended_at_once_is_gone() {
    let rig = Rig::with(builder());
    let mut alice = login(&rig, "alice");
    let token = create(&rig, &mut alice, &wanted(&[], -1));
    assert_eq!(expire(&rig, &mut alice, &token.hmac, -1), (NONE, rig.now.unix_ms));
    let unknown = ErrorCode::DELEGATION_TOKEN_NOT_FOUND;
    assert_eq!(expire(&rig, &mut alice, &token.hmac, -1), (unknown, 0));
    assert_eq!(describe(&rig, &mut alice, None).tokens, []);
    let answer = by_token(&rig, &mut connect(&rig), MECHANISMS[0], &token.token_id, &token.hmac);
    assert_eq!(answer.error_code, ErrorCode::SASL_AUTHENTICATION_FAILED);
}

#[test]
fn acls_say_who_gets_and_sees_tokens_of_others() {
    let rig = Rig::with(builder().authorizer(Authorizer::new().super_user("User:admin")));
    let for_alice = |renewers: &[&str]| CreateDelegationTokenRequest {
        owner_principal_type: Some("User".into()),
        owner_principal_name: Some("alice".into()),
        ..wanted(renewers, -1)
    };
    let refused = create(&rig, &mut login(&rig, "bob"), &for_alice(&[]));
    assert_eq!(
        (refused.error_code, &*refused.principal_name),
        (ErrorCode::DELEGATION_TOKEN_AUTHORIZATION_FAILED, "alice")
    );
    let acl = |resource_type, name: &str, user: &str, operation| AclCreation {
        resource_type,
        resource_name: name.into(),
        resource_pattern_type: 3,
        principal: format!("User:{user}").into(),
        host: "*".into(),
        operation,
        permission_type: 3,
        ..Default::default()
    };
    let allow = |acl| {
        let request = CreateAclsRequest { creations: vec![acl], ..Default::default() };
        let answer = ask(&rig, &mut login(&rig, "admin"), 3, &request).expect("answered");
        assert_eq!(answer.results[0].error_code, NONE);
    };
    allow(acl(7, "User:alice", "bob", 13));
    let token = create(&rig, &mut login(&rig, "bob"), &for_alice(&["carol"]));
    assert_eq!((token.error_code, &*token.principal_name), (NONE, "alice"));
    assert_eq!(&*token.token_requester_principal_name, "bob");
    let mut peer = connect(&rig);
    by_token(&rig, &mut peer, MECHANISMS[1], &token.token_id, &token.hmac);
    assert_eq!(peer.principal(), "User:alice");
    // The owner and renewers see it, and the one who asked for it does not.
    assert_eq!(owners(&rig, "alice", None), ["alice"]);
    assert_eq!(owners(&rig, "carol", None), ["alice"]);
    assert_eq!(owners(&rig, "carol", Some(&["carol"])), ["alice"], "renewers count as owners here");
    assert_eq!(owners(&rig, "alice", Some(&["bob"])), [""; 0]);
    assert_eq!(owners(&rig, "alice", Some(&[])), [""; 0]);
    assert_eq!(owners(&rig, "bob", None), [""; 0]);
    assert_eq!(owners(&rig, "admin", None), ["alice"]);
    allow(acl(7, "User:alice", "bob", 14));
    assert_eq!(owners(&rig, "bob", None), ["alice"]);
    let other = create(&rig, &mut login(&rig, "carol"), &wanted(&[], -1));
    assert_eq!(owners(&rig, "bob", None), ["alice"]);
    allow(acl(6, &other.token_id, "bob", 8));
    assert_eq!(owners(&rig, "bob", None), ["alice", "carol"]);
}

#[test]
fn renewers_are_users_and_not_too_many() {
    let rig = Rig::with(builder());
    let mut alice = login(&rig, "alice");
    let mut request = wanted(&["bob"], -1);
    request.renewers[0].principal_type = "Group".into();
    let refused = create(&rig, &mut alice, &request);
    assert_eq!((refused.error_code, refused.max_timestamp_ms), (ErrorCode::INVALID_PRINCIPAL_TYPE, -1));
    let longest = "x".repeat(256);
    assert_eq!(create(&rig, &mut alice, &wanted(&[longest.as_str(); 16], -1)).error_code, NONE);
    assert_eq!(create(&rig, &mut alice, &wanted(&["x"; 17], -1)).error_code, ErrorCode::POLICY_VIOLATION);
    let long = "x".repeat(257);
    assert_eq!(create(&rig, &mut alice, &wanted(&[&long], -1)).error_code, ErrorCode::POLICY_VIOLATION);
}

#[test]
fn no_user_takes_the_room_for_tokens_of_others() {
    let mut rig = Rig::with(builder());
    let mut alice = login(&rig, "alice");
    for _ in 0..100 {
        assert_eq!(create(&rig, &mut alice, &wanted(&[], HOUR_MS)).error_code, NONE);
    }
    assert_eq!(create(&rig, &mut alice, &wanted(&[], -1)).error_code, ErrorCode::POLICY_VIOLATION);
    assert_eq!(create(&rig, &mut login(&rig, "bob"), &wanted(&["alice"], -1)).error_code, NONE);
    // Those whose time is over make room.
    rig.pass(HOUR + Duration::from_millis(1));
    assert_eq!(create(&rig, &mut alice, &wanted(&[], -1)).error_code, NONE);
}

#[test]
fn tokens_outlive_the_broker_with_the_same_key_only() {
    let dir = tempfile::tempdir().expect("a directory");
    let rig = Rig::with(builder().data_dir(dir.path()));
    let token = create(&rig, &mut login(&rig, "alice"), &wanted(&["bob", "a b"], -1));
    let before = describe(&rig, &mut login(&rig, "alice"), None);
    drop(rig);
    let log_in = |rig: &Rig| {
        by_token(rig, &mut connect(rig), SaslMechanism::ScramSha512, &token.token_id, &token.hmac).error_code
    };
    let rig = Rig::with(builder().data_dir(dir.path()));
    assert_eq!((log_in(&rig), describe(&rig, &mut login(&rig, "alice"), None)), (NONE, before));
    drop(rig);
    let rig = Rig::with(builder().delegation_token_key("another").data_dir(dir.path()));
    assert_eq!(log_in(&rig), ErrorCode::SASL_AUTHENTICATION_FAILED);
    drop(rig);
    let file = dir.path().join("milena.tokens");
    let text = std::fs::read_to_string(&file).expect("a file");
    assert!(text.contains(&*token.token_id), "{text}");
    std::fs::write(&file, text.replace("User bob", "User")).expect("written");
    let error = builder().data_dir(dir.path()).machine().expect_err("damaged");
    assert!(error.is_damaged(), "{error}");
}
