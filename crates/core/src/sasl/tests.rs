//! Exchanges of PLAIN and OAUTHBEARER, and what all mechanisms have in common.

use std::time::Duration;

use super::*;

fn at(seconds: u64) -> Instant {
    Instant::ORIGIN + Duration::from_secs(seconds)
}

fn password(user: &str, password: &str) -> Credentials {
    let (user, password) = (user.into(), password.into());
    Credentials::Password(Password { scram: None, user, password, is_delegation_token: false })
}

fn token(value: &str, extensions: &[(&str, &str)]) -> Credentials {
    let extensions = extensions.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let value = value.into();
    Credentials::Token(Token { value, extensions, principal: None, since: at(0), until: at(100) })
}

fn begun(credentials: Credentials) -> Exchange {
    Exchange::new(Arc::new(credentials), &[7; 24])
}

#[test]
fn plain_sends_the_password_once() {
    let mut exchange = begun(password("alice", "pencil"));
    assert_eq!(exchange.first(), "\0alice\0pencil".as_bytes());
    assert!(matches!(exchange.handle(b""), Ok(Turn::Done)));
}

#[test]
fn a_bearer_token_goes_with_its_extensions() {
    let mut exchange = begun(token("123.345.567", &[("nineteen", "42"), ("cluster", "lkc 1")]));
    let expected = "n,,\u{1}auth=Bearer 123.345.567\u{1}nineteen=42\u{1}cluster=lkc 1\u{1}\u{1}";
    assert_eq!(exchange.first(), expected.as_bytes());
    assert!(matches!(exchange.handle(b""), Ok(Turn::Done)));
}

#[test]
fn a_refused_token_is_acknowledged_and_its_reason_told() {
    let check = |challenge: &[u8], expected: &str| {
        let mut exchange = begun(token("se.cr.et", &[]));
        let Ok(Turn::Send(answer)) = exchange.handle(challenge) else {
            panic!("the broker waits for an answer")
        };
        assert_eq!(answer, [1].as_slice());
        let told = exchange.refusal(Some("{\"status\":\"other words\"}"));
        assert_eq!(told, format!("the broker refused the token{expected}"));
        // A broker that goes on all the same has accepted nothing.
        assert!(exchange.handle(b"").is_err());
    };
    check(br#"{"status":"invalid_token"}"#, ": invalid_token");
    check(
        br#" { "status" : "insufficient_scope" , "scope":"kafka", "openid-configuration":"https://i/x" } "#,
        ": insufficient_scope; it wants the scope \"kafka\"; https://i/x describes the issuer that it trusts",
    );
    check(br#"{"status":"a\u0041\n\"b\""}"#, ": aA \"b\"");
    // What is no such object is repeated as it is, but for control characters, the token itself and a long end.
    check(b"{\"status\":", ": {\"status\":");
    check(b"bad\x07token se.cr.et", ": bad token ***");
    check(b"\xff", ": \u{fffd}");
    let long = format!("{}\u{2026}", "x".repeat(512));
    check(&[b'x'; 5000], &format!(": {long}"));
}

#[test]
fn what_a_mechanism_cannot_carry_is_refused_without_the_secret() {
    let check = |credentials: Credentials, expected: &str| {
        let why = credentials.check().expect_err("refused");
        assert_eq!(why, expected);
    };
    check(password("", "pencil"), "the user name is empty");
    check(password("alice", ""), "the password of user \"alice\" is empty");
    check(password("al\0ice", "pencil"), "the user name \"al\\0ice\" has a control character");
    let why = "the password of user \"alice\" has a control character, such as a line's end that was read from a file";
    check(password("alice", "pencil\n"), why);
    assert_eq!(password("Zo\u{eb}", "p\u{e4}ss w\u{f6}rd").check(), Ok(()), "as Java's client sends them");
    check(token("", &[]), "the token is empty");
    let why = "the token has a character that no bearer token has, such as a space or a line's end";
    check(token("secret token", &[]), why);
    check(token("t\u{1}auth=Bearer u", &[]), why);
    let why = "\"auth\" is no name for a SASL extension: the token is sent under it";
    check(token("t", &[("auth", "x")]), why);
    check(
        token("t", &[("a-b", "x")]),
        "the SASL extension \"a-b\" has a name of other characters than letters",
    );
    let why = "the SASL extension \"a\" has a value that is empty or not printable ASCII";
    check(token("t", &[("a", "x\u{1}y")]), why);
    check(token("t", &[("a", "")]), why);
    assert_eq!(token("aA0-._~+/==", &[("logicalCluster", "lkc-1")]).check(), Ok(()));
}

#[test]
fn no_secret_is_in_what_is_printed() {
    for credentials in [password("alice", "canary"), token("canary", &[])] {
        let exchange = begun(credentials);
        assert!(!format!("{exchange:?} {exchange:#?}").contains("canary"));
        assert!(!exchange.refusal(Some("no canary here")).contains("canary"));
    }
}

#[test]
fn a_token_is_old_when_less_than_a_fifth_of_its_life_is_left() {
    let Credentials::Token(token) = token("t", &[]) else { panic!("a token") };
    assert_eq!(
        [0, 79, 80, 81, 200].map(|seconds| token.is_old(at(seconds))),
        [false, false, false, true, true]
    );
}

#[test]
fn a_session_goes_on_with_the_same_user_and_mechanism_only() {
    let alice = password("alice", "old");
    assert!(password("alice", "new").may_follow(&alice));
    assert!(!password("bob", "old").may_follow(&alice));
    assert!(!token("t", &[]).may_follow(&alice));
    let Credentials::Password(of) = alice.clone() else { panic!("a password") };
    assert!(!Credentials::Password(Password { scram: Some(Hash::Sha256), ..of }).may_follow(&alice));
    let of = |principal: &str| {
        let Credentials::Token(of) = token("t", &[]) else { panic!("a token") };
        Credentials::Token(Token { principal: Some(principal.into()), ..of })
    };
    assert!(of("a").may_follow(&of("a")) && of("a").may_follow(&token("t", &[])));
    assert!(!of("a").may_follow(&of("b")));
}
