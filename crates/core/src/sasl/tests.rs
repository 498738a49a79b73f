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

fn aws(secret: &str, session_token: Option<&str>) -> Credentials {
    Credentials::Aws(AwsKeys {
        access_key: "AKIDEXAMPLE".into(),
        secret: secret.into(),
        session_token: session_token.map(Secret::from),
        region: None,
        region_default: None,
        user_agent: "milena/\"0\"".into(),
        until: None,
    })
}

fn begun(credentials: Credentials) -> Exchange {
    let host = "b-1.demo.c2.kafka.eu-west-1.amazonaws.com".into();
    Exchange::new(Arc::new(credentials), &host, &Fresh { nonce: [7; 24], unix_seconds: 1_764_392_400 })
}

/// The client's first message.
fn first(exchange: &Exchange) -> Bytes {
    let Turn::Send(message) = exchange.first() else { panic!("no work is needed for it") };
    message
}

/// A mechanism that adds up: the broker names numbers, and ends with the empty message.
struct Adding {
    fails_at: usize,
}

struct Sum {
    fails_at: usize,
    steps: usize,
    sum: u32,
}

impl CustomMechanism for Adding {
    fn name(&self) -> &'static str {
        "X-ADD"
    }

    fn sends_secret(&self) -> bool {
        false
    }

    fn begin(&self, host: &str) -> Result<(Box<dyn CustomExchange>, Vec<u8>), Refusal> {
        let refusal = Refusal { obstacle: Obstacle::Network, reason: "nobody\nis there".into() };
        if self.fails_at == 0 {
            return Err(refusal);
        }
        Ok((Box::new(Sum { fails_at: self.fails_at, steps: 0, sum: 0 }), host.as_bytes().to_vec()))
    }
}

impl CustomExchange for Sum {
    fn step(&mut self, challenge: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
        self.steps += 1;
        if self.steps == self.fails_at {
            return Err(Refusal::of_peer("it cheats"));
        }
        let Ok(number) = std::str::from_utf8(challenge).unwrap_or_default().parse::<u32>() else {
            return Ok(None);
        };
        self.sum += number;
        Ok(Some(self.sum.to_string().into_bytes()))
    }
}

/// What an exchange with these messages of the broker says.
fn added(fails_at: usize, messages: &[&str]) -> Result<Vec<String>, Refusal> {
    let mechanism: Arc<dyn CustomMechanism> = Arc::new(Adding { fails_at });
    let mut exchange = begun(Credentials::Custom(Custom(mechanism)));
    let (mut said, mut turn) = (Vec::new(), exchange.first());
    let mut messages = messages.iter();
    loop {
        turn = match turn {
            Turn::Work(work) => exchange.handle_worked(work.run())?.expect("it was asked for"),
            Turn::Send(message) => {
                said.push(String::from_utf8(message.to_vec()).expect("text"));
                exchange.handle(messages.next().expect("a message").as_bytes())?
            }
            Turn::Done => return Ok(said),
        };
    }
}

#[test]
fn a_mechanism_of_somebody_elses_takes_its_own_steps() {
    let host = "b-1.demo.c2.kafka.eu-west-1.amazonaws.com";
    assert_eq!(added(9, &["3", "4", ""]).expect("accepted"), [host, "3", "7"]);
    let refusal = added(0, &[]).expect_err("it fails to begin");
    assert_eq!((refusal.obstacle, &*refusal.reason), (Obstacle::Network, "nobody is there"));
    assert_eq!(added(2, &["3", "4", ""]).expect_err("it fails").reason, "it cheats");
    let long = "x".repeat((256 << 10) + 1);
    let refusal = added(9, &[&long]).expect_err("too long");
    assert_eq!(refusal.reason, "its message has 262145 bytes, and 262144 is the most");
    // After the end, and while a step is being taken, nothing is to come.
    let mechanism: Arc<dyn CustomMechanism> = Arc::new(Adding { fails_at: 9 });
    let credentials = Credentials::Custom(Custom(mechanism));
    assert_eq!(credentials.mechanism(), Mechanism::Custom { name: "X-ADD", sends_secret: false });
    assert!(credentials.may_follow(&credentials.clone()));
    let mut exchange = begun(credentials);
    assert!(exchange.handle(b"3").is_err());
    assert_eq!(exchange.refusal(Some("no")), "the broker refused the client's X-ADD login: no");
}

#[test]
fn plain_sends_the_password_once() {
    let mut exchange = begun(password("alice", "pencil"));
    assert_eq!(first(&exchange), "\0alice\0pencil".as_bytes());
    assert!(matches!(exchange.handle(b""), Ok(Turn::Done)));
}

#[test]
fn a_bearer_token_goes_with_its_extensions() {
    let mut exchange = begun(token("123.345.567", &[("nineteen", "42"), ("cluster", "lkc 1")]));
    let expected = "n,,\u{1}auth=Bearer 123.345.567\u{1}nineteen=42\u{1}cluster=lkc 1\u{1}\u{1}";
    assert_eq!(first(&exchange), expected.as_bytes());
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
    // Of a token that reaches beyond the end, no part is shown.
    let reaching = [&b"{\"status\":\""[..], "y".repeat(4096 - 13).as_bytes(), b"se.cr.et"].concat();
    let mut exchange = begun(token("se.cr.et", &[]));
    assert!(exchange.handle(&reaching).is_ok());
    assert!(!exchange.refusal(None).contains("se."), "{}", exchange.refusal(None));
}

#[test]
fn what_a_mechanism_cannot_carry_is_refused_without_the_secret() {
    let check = |credentials: Credentials, expected: &str| {
        let why = credentials.check().expect_err("refused");
        assert_eq!(why, expected);
    };
    check(password("", "pencil"), "the user name is empty");
    check(password("alice", ""), "the password of user \"alice\" is empty");
    let (user, password_of) = ("id".into(), "hmac".into());
    let as_plain = Password { scram: None, user, password: password_of, is_delegation_token: true };
    check(
        Credentials::Password(as_plain),
        "the delegation token \"id\" is for SCRAM; PLAIN would send it to the broker",
    );
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
    let why = "is empty or has other characters than printable ASCII, such as a line's end";
    check(aws("", None), &format!("the secret of the AWS access key \"AKIDEXAMPLE\" {why}"));
    check(aws("s", Some("t\n")), &format!("the session token of the AWS access key \"AKIDEXAMPLE\" {why}"));
}

#[test]
fn a_request_to_aws_is_signed_for_the_host_and_its_region() {
    let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    let exchange = begun(aws(secret, None));
    // The members are those of Amazon's client for Java, and the signature is botocore's.
    let golden =
        include_str!("golden/sigv4.tsv").lines().find(|line| line.starts_with("msk\t")).expect("a line");
    let signature = golden.split('\t').next_back().expect("a cell");
    let expected = format!(
        "{{\"version\":\"2020_10_22\",\"host\":\"b-1.demo.c2.kafka.eu-west-1.amazonaws.com\",\
         \"user-agent\":\"milena/\\\"0\\\"\",\"action\":\"kafka-cluster:Connect\",\
         \"x-amz-algorithm\":\"AWS4-HMAC-SHA256\",\
         \"x-amz-credential\":\"AKIDEXAMPLE/20251129/eu-west-1/kafka-cluster/aws4_request\",\
         \"x-amz-date\":\"20251129T050000Z\",\"x-amz-expires\":\"900\",\"x-amz-signedheaders\":\"host\",\
         \"x-amz-signature\":\"{signature}\"}}"
    );
    assert_eq!(String::from_utf8(first(&exchange).to_vec()).expect("text"), expected);
    let first = first(&begun(aws(secret, Some("a/b=="))));
    let first = std::str::from_utf8(&first).expect("text");
    assert!(first.contains("\"x-amz-security-token\":\"a/b==\""), "{first}");
}

#[test]
fn a_broker_of_msk_answers_with_the_requests_id() {
    let check = |challenge: &[u8], expected: Result<(), &str>| {
        let turn = begun(aws("secret", None)).handle(challenge);
        let turn = turn.map(|turn| assert!(matches!(turn, Turn::Done))).map_err(|refusal| refusal.reason);
        assert_eq!(turn, expected.map_err(|why| format!("its answer to AWS_MSK_IAM {why}")));
    };
    check(br#"{"version":"2020_10_22","request-id":"8c2e"}"#, Ok(()));
    check(
        br#"{"version":"2020_10_23","request-id":"8c2e"}"#,
        Err("has the version \"2020_10_23\" and not 2020_10_22"),
    );
    check(br#"{"version":"secret"}"#, Err("has the version \"***\" and not 2020_10_22"));
    check(b"{}", Err("has no version"));
    check(b"", Err("is empty, so it may be no broker of MSK's"));
    check(b"{\"version\":", Err("is no object of JSON with texts"));
    check(b"\xff", Err("is no object of JSON with texts"));
    let mut exchange = begun(aws("secret", None));
    exchange.handle(br#"{"version":"2020_10_22"}"#).expect("accepted");
    assert!(exchange.handle(br#"{"version":"2020_10_22"}"#).is_err());
    let told = exchange.refusal(Some("[8c2e]: Access denied."));
    assert_eq!(told, "the broker refused the AWS access key \"AKIDEXAMPLE\": [8c2e]: Access denied");
    assert!(
        exchange.is_throttled(Some("[8c2e]: Too many connects")) && !exchange.is_throttled(Some("denied"))
    );
}

#[test]
fn the_region_of_aws_is_given_or_the_hosts_or_the_default() {
    let Credentials::Aws(keys) = aws("secret", None) else { panic!("keys") };
    let check = |host: &str, expected: Option<&str>| assert_eq!(keys.region_of(host), expected, "{host}");
    check("b-1.demo.abc123.c2.kafka.eu-west-1.amazonaws.com", Some("eu-west-1"));
    check("boot-x.c1.kafka-serverless.us-gov-east-1.amazonaws.com", Some("us-gov-east-1"));
    check("b-2.x.kafka.cn-north-1.amazonaws.com.cn", Some("cn-north-1"));
    check("b-1-public.demo.abc123.c2.kafka.eu-west-1.amazonaws.com", Some("eu-west-1"));
    check("ec2-1-2-3-4.eu-west-1.compute.amazonaws.com", None);
    check("kafka.amazonaws.com", None);
    check("kafka.eu-west-1.example.com", None);
    check("10.0.0.1", None);
    let with_default = AwsKeys { region_default: Some("us-east-2".into()), ..keys.clone() };
    assert_eq!(with_default.region_of("10.0.0.1"), Some("us-east-2"));
    assert_eq!(with_default.region_of("b-1.x.kafka.eu-west-1.amazonaws.com"), Some("eu-west-1"));
    let given = AwsKeys { region: Some("us-east-2".into()), ..keys };
    assert_eq!(given.region_of("b-1.x.kafka.eu-west-1.amazonaws.com"), Some("us-east-2"));
}

#[test]
fn a_token_for_msk_is_a_signed_address() {
    let Credentials::Aws(keys) =
        aws("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", Some("IQoJb3JpZ2luX2VjEFQ/+aXJ=="))
    else {
        panic!("keys")
    };
    // As aws-msk-iam-sasl-signer-python makes it, but for the order of the parameters.
    let golden =
        include_str!("golden/sigv4.tsv").lines().find(|line| line.starts_with("token\t")).expect("a line");
    let expected = golden.split('\t').next_back().expect("a cell");
    let parts = |url: &str| {
        let mut parts: Vec<_> = url.split(['&', '?']).map(str::to_owned).collect();
        parts.sort_unstable();
        parts
    };
    let token = keys.token("eu-west-1", 1_764_392_400);
    let url = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, token.expose())
        .expect("base64");
    let url = String::from_utf8(url).expect("text");
    assert!(
        url.starts_with("https://kafka.eu-west-1.amazonaws.com/?Action=kafka-cluster%3AConnect&"),
        "{url}"
    );
    assert!(url.ends_with("&User-Agent=milena%2F%220%22"), "{url}");
    assert_eq!(parts(&url), parts(expected));
}

#[test]
fn no_secret_is_in_what_is_printed() {
    for credentials in [password("alice", "canary"), token("canary", &[]), aws("canary", Some("canary"))] {
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
