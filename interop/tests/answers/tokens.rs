//! Delegation tokens: who gets which, and how they are renewed, ended and described.

use std::fmt::Debug;

use bytes::Bytes;
use milena::{Client, Login, Sasl};
use milena_messages::ErrorCode;
use milena_messages::create_delegation_token::{
    CreatableRenewers, CreateDelegationTokenRequest, CreateDelegationTokenResponse,
};
use milena_messages::describe_delegation_token::{
    DescribeDelegationTokenOwner, DescribeDelegationTokenRequest,
};
use milena_messages::expire_delegation_token::ExpireDelegationTokenRequest;
use milena_messages::renew_delegation_token::RenewDelegationTokenRequest;

use super::Asker;
use super::guarded::{self, until};

/// Who logs in by a token.
const LOGIN: &str = "dave";

const DAY_MS: i64 = 24 * 3_600_000;

fn create(
    asker: &mut Asker,
    what: &str,
    version: i16,
    request: &CreateDelegationTokenRequest,
) -> Option<CreateDelegationTokenResponse> {
    let answer = asker.ask(what, request, version)?;
    // Times are told as distances from the time of issue.
    let since = |at: i64| if at > 0 { at - answer.issue_timestamp_ms } else { at };
    asker.say(
        what,
        (
            answer.error_code,
            (&answer.principal_type, &answer.principal_name),
            (&answer.token_requester_principal_type, &answer.token_requester_principal_name),
            (
                answer.issue_timestamp_ms.min(1),
                since(answer.expiry_timestamp_ms),
                since(answer.max_timestamp_ms),
            ),
            (answer.token_id.len(), answer.hmac.len()),
        ),
    );
    if answer.error_code.is_none() {
        // The broker that describes them learns of a token a moment after its controller has made it.
        let id = answer.token_id.clone();
        until(|| described(asker, 3, None), |(_, tokens)| tokens.iter().any(|(token, _)| *token == *id));
    }
    Some(answer)
}

fn wanted(renewers: &[(&str, &str)], max_lifetime_ms: i64) -> CreateDelegationTokenRequest {
    let renewer = |(kind, name): &(&str, &str)| CreatableRenewers {
        principal_type: (*kind).into(),
        principal_name: (*name).into(),
        ..Default::default()
    };
    let renewers = renewers.iter().map(renewer).collect();
    CreateDelegationTokenRequest { renewers, max_lifetime_ms, ..Default::default() }
}

/// The tokens' ids, and the rest of them as text without what differs each time.
fn described(asker: &mut Asker, version: i16, owners: Option<&[&str]>) -> (ErrorCode, Vec<(String, String)>) {
    let owner = |name: &&str| DescribeDelegationTokenOwner {
        principal_type: "User".into(),
        principal_name: (*name).into(),
        ..Default::default()
    };
    let owners = owners.map(|owners| owners.iter().map(owner).collect());
    let request = DescribeDelegationTokenRequest { owners, ..Default::default() };
    let Some(answer) = asker.ask("describe", &request, version) else {
        return (ErrorCode::NETWORK_EXCEPTION, Vec::new());
    };
    let token = |token: &milena_messages::describe_delegation_token::DescribedDelegationToken| {
        let renewers: Vec<&str> = token.renewers.iter().map(|renewer| &*renewer.principal_name).collect();
        let (expires, max) =
            (token.expiry_timestamp - token.issue_timestamp, token.max_timestamp - token.issue_timestamp);
        let text = format!(
            "{}:{} for {}:{}, renewers {renewers:?}, {} of {max}, HMAC of {}",
            token.principal_type,
            token.principal_name,
            token.token_requester_principal_type,
            token.token_requester_principal_name,
            if expires > DAY_MS { -1 } else { expires },
            token.hmac.len()
        );
        (token.token_id.to_string(), text)
    };
    // The other test, which may run at the same time, has tokens of its own.
    let tokens =
        answer.tokens.iter().filter(|token| asker.user == Some(LOGIN) || token.principal_name != LOGIN);
    (answer.error_code, tokens.map(token).collect())
}

fn describe(asker: &mut Asker, what: &str, version: i16, owners: Option<&[&str]>) {
    let (code, tokens) = described(asker, version, owners);
    let mut texts: Vec<String> = tokens.into_iter().map(|(_, text)| text).collect();
    texts.sort();
    asker.say(what, (code, texts));
}

/// Notes the code, and the expiry's distance from now in hours.
fn say_expiry(asker: &mut Asker, what: &str, code: ErrorCode, expiry_ms: i64) {
    let now_ms =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    let hours = |ms: i64| ((ms - now_ms) as f64 / 3_600_000.0).round() as i64;
    asker.say(what, (code, if expiry_ms > 0 { hours(expiry_ms) } else { expiry_ms }));
}

fn renew(asker: &mut Asker, what: &str, hmac: &Bytes, renew_period_ms: i64) {
    let request = RenewDelegationTokenRequest { hmac: hmac.clone(), renew_period_ms, ..Default::default() };
    let Some(answer) = asker.ask(what, &request, 2) else { return };
    say_expiry(asker, what, answer.error_code, answer.expiry_timestamp_ms);
}

fn expire(asker: &mut Asker, what: &str, hmac: &Bytes, expiry_time_period_ms: i64) {
    let request =
        ExpireDelegationTokenRequest { hmac: hmac.clone(), expiry_time_period_ms, ..Default::default() };
    let Some(answer) = asker.ask(what, &request, 2) else { return };
    say_expiry(asker, what, answer.error_code, answer.expiry_timestamp_ms);
}

fn say(asker: &mut Asker, what: &str, answer: impl Debug) {
    asker.say(what, answer);
}

fn script(asker: &mut Asker) {
    asker.be("alice");
    describe(asker, "there are none", 3, None);
    for version in 1..=3 {
        create(asker, &format!("v{version}"), version, &wanted(&[], -1));
        describe(asker, &format!("described v{version}"), version, Some(&["alice"]));
    }
    create(asker, "a short one", 3, &wanted(&[], 3_600_000));
    create(asker, "longer than allowed", 3, &wanted(&[], 30 * DAY_MS));
    create(asker, "a lifetime of 0", 3, &wanted(&[], 0));
    create(asker, "a renewer that is no user", 3, &wanted(&[("User", "bob"), ("Group", "g")], -1));
    let for_bob = CreateDelegationTokenRequest {
        owner_principal_type: Some("User".into()),
        owner_principal_name: Some("bob".into()),
        ..wanted(&[("User", "carol")], -1)
    };
    create(asker, "for another user, who has not allowed it", 3, &for_bob);
    create(
        asker,
        "for itself by name",
        3,
        &CreateDelegationTokenRequest {
            owner_principal_type: Some("User".into()),
            owner_principal_name: Some("alice".into()),
            ..wanted(&[("User", "carol"), ("User", "carol")], -1)
        },
    );
    asker.be("admin");
    create(asker, "a super user for bob", 3, &for_bob);
    describe(asker, "all of them", 3, None);
    describe(asker, "all in version 2", 2, None);
    describe(asker, "of no owner", 3, Some(&[]));
    describe(asker, "of bob", 3, Some(&["bob"]));
    describe(asker, "of carol, who may renew", 3, Some(&["carol"]));
    describe(asker, "of two", 3, Some(&["bob", "nobody"]));
    asker.be("carol");
    describe(asker, "a renewer sees", 3, None);
    describe(asker, "a renewer sees of bob", 3, Some(&["bob"]));
    asker.be("bob");
    describe(asker, "bob sees", 3, None);
    describe(asker, "bob sees of alice", 3, Some(&["alice"]));

    asker.be("alice");
    let Some(token) = create(asker, "one to renew", 3, &wanted(&[("User", "carol")], 10 * 3_600_000)) else {
        return;
    };
    let hmac = &token.hmac;
    renew(asker, "renewed", hmac, -1);
    renew(asker, "renewed for 2 hours", hmac, 2 * 3_600_000);
    renew(asker, "renewed for 0", hmac, 0);
    renew(asker, "renewed for ever", hmac, i64::MAX / 2);
    renew(asker, "no such token", &Bytes::from_static(b"none"), -1);
    renew(asker, "nothing", &Bytes::new(), -1);
    asker.be("bob");
    renew(asker, "by a stranger", hmac, -1);
    expire(asker, "ended by a stranger", hmac, -1);
    asker.be("admin");
    renew(asker, "by a super user", hmac, -1);
    asker.be("carol");
    renew(asker, "by a renewer", hmac, 3 * 3_600_000);
    expire(asker, "in an hour", hmac, 3_600_000);
    expire(asker, "in a year", hmac, 365 * DAY_MS);
    expire(asker, "no such token to end", &Bytes::from_static(b"none"), -1);
    expire(asker, "at once", hmac, -1);
    let id = token.token_id.clone();
    until(|| described(asker, 3, None), |(_, tokens)| tokens.iter().all(|(token, _)| *token != *id));
    expire(asker, "again", hmac, -1);
    renew(asker, "after its end", hmac, -1);
    asker.be("alice");
    let Some(token) = create(asker, "one that ends soon", 3, &wanted(&[], -1)) else { return };
    expire(asker, "now", &token.hmac, 0);
    let expired = until(
        || {
            let hmac = token.hmac.clone();
            let request =
                ExpireDelegationTokenRequest { hmac, expiry_time_period_ms: 0, ..Default::default() };
            asker.ask("expire", &request, 2).map(|answer| answer.error_code)
        },
        |code| *code == Some(ErrorCode::DELEGATION_TOKEN_EXPIRED),
    );
    say(asker, "it has ended", expired);
    renew(asker, "renewed after its end", &token.hmac, -1);
    expire(asker, "ended once more", &token.hmac, 0);
    expire(asker, "removed", &token.hmac, -1);
}

#[test]
fn tokens_are_issued_renewed_and_ended_as_kafka_does() {
    guarded::compare(script);
}

/// A client with a token is its owner, and gets no more tokens.
async fn log_in(bootstrap: &str) {
    let mut asker = Asker::login(bootstrap, LOGIN);
    let token = create(&mut asker, "a token", 3, &wanted(&[], -1)).expect("answered");
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &token.hmac);
    for sha_512 in [false, true] {
        let login = Login::delegation_token(&*token.token_id, encoded.clone());
        let sasl = if sha_512 { Sasl::scram_sha_512_from(login) } else { Sasl::scram_sha_256_from(login) };
        let client = Client::builder().bootstrap(bootstrap).sasl(sasl).connect().await;
        let client = client.unwrap_or_else(|error| panic!("{bootstrap}: {error}"));
        client.admin().describe_cluster().await.expect("admitted");
    }
    let login = Login::delegation_token(&*token.token_id, "wrong");
    let refused =
        Client::builder().bootstrap(bootstrap).sasl(Sasl::scram_sha_256_from(login)).connect().await;
    let refused = refused.expect_err("refused");
    assert!(refused.is_authentication(), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn our_client_logs_in_by_a_token() {
    let embedded = tokio::task::spawn_blocking(guarded::embedded).await.expect("started");
    log_in(embedded.bootstrap()).await;
    if let Some(kafka) = tokio::task::spawn_blocking(guarded::kafka).await.expect("started") {
        log_in(&kafka.sasl_bootstrap()).await;
    }
    tokio::task::spawn_blocking(|| drop(embedded)).await.expect("stopped");
}
