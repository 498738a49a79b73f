//! What an issuer does wrong, and what is wrong on the way to it.

use milena::oauth::{Assertion, JwtBearer, RefreshToken, SigningAlgorithm};
use milena::{Obstacle, Proxy};
use milena_broker::{IssuerFault, JwtKey};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

#[tokio::test]
async fn a_client_that_is_refused_is_told_by_the_issuers_words_and_asks_no_more() {
    let world = World::start(Issuer::builder()).await;
    let wrong = ClientCredentials::new(world.endpoint(), ID, "wrong-secret");
    let error = world.connect(wrong).await.expect_err("refused");
    let text = error.to_string();
    let url = world.issuer.token_url();
    let bootstrap = world.cluster.bootstrap().replace(',', ", ");
    let first = bootstrap.split(',').next().expect("an address");
    let expected = format!(
        "connecting to {bootstrap}: cannot authenticate with OAUTHBEARER to {first}: {url}: the issuer refuses with \
         invalid_client: \"the client or its secret is wrong\" (status 401)"
    );
    assert_eq!(text, expected);
    assert!(error.is_authentication() && !error.is_retriable());
    assert!(
        world.issuer.requests() <= 3,
        "{} requests: one per bootstrap server at most",
        world.issuer.requests()
    );
}

#[tokio::test]
async fn faults_of_an_issuer_are_errors_that_name_it() {
    let world = World::start(Issuer::builder()).await;
    let url = world.issuer.token_url();
    let tokens = ClientCredentials::new(world.endpoint().timeout(Duration::from_millis(700)), ID, SECRET);
    let check = async |fault: IssuerFault, obstacle: Obstacle, expected: &str| {
        let before = world.issuer.requests();
        world.issuer.fail(fault.clone(), usize::MAX);
        let error = fails(&tokens).await;
        world.issuer.recover();
        assert_eq!(
            (error.obstacle(), error.to_string()),
            (obstacle, format!("{url}: {expected}")),
            "{fault:?}"
        );
        let attempts = if obstacle.is_final() { 1..=1 } else { 1..=3 };
        assert!(attempts.contains(&(world.issuer.requests() - before)), "{fault:?}");
    };
    check(IssuerFault::Status(500), Obstacle::Network, "the issuer answers with status 500").await;
    check(IssuerFault::Status(404), Obstacle::Configuration, "the issuer answers with status 404").await;
    check(
        IssuerFault::Refuse("invalid_scope", "no\u{1b}[2Jsuch\nscope"),
        Obstacle::Configuration,
        "the issuer refuses with invalid_scope: \"no [2Jsuch scope\" (status 400)",
    )
    .await;
    check(IssuerFault::Hang, Obstacle::Network, "no complete answer came within 700ms").await;
    check(IssuerFault::Slow(PATIENCE), Obstacle::Network, "no complete answer came within 700ms").await;
    check(
        IssuerFault::Disconnect,
        Obstacle::Network,
        "the server closed the connection before its answer was complete",
    )
    .await;
    check(IssuerFault::Body("<html>"), Obstacle::Peer, "the issuer's answer is not an object of JSON").await;
    check(IssuerFault::Body("{}"), Obstacle::Peer, "the issuer's answer has no access_token").await;
    check(IssuerFault::Huge(2 << 20), Obstacle::Peer, "the answer has more than 1048576 bytes").await;
    check(
        IssuerFault::Redirect("https://elsewhere.example/token?code=x"),
        Obstacle::Configuration,
        "the server redirects to https://elsewhere.example/token (302), and redirects are not followed: name the right \
         address",
    )
    .await;
    // A fault that passes is not noticed.
    world.issuer.fail(IssuerFault::Status(503), 2);
    tokens.token().await.expect("a token");
}

#[tokio::test]
async fn an_issuer_that_cannot_be_trusted_or_reached_is_told_nothing() {
    let world = World::start(Issuer::builder()).await;
    let url = world.issuer.token_url();
    let other = Authority::new().expect("an authority").certificate_pem();
    let error =
        fails(&ClientCredentials::new(world.endpoint().tls(Tls::roots_from_pem(other)), ID, SECRET)).await;
    assert_eq!(error.obstacle(), Obstacle::Certificate);
    let text = error.to_string();
    assert!(text.starts_with(&url) && text.contains("the certificate of 127.0.0.1"), "{text}");
    assert_eq!(world.issuer.requests(), 0);

    let check = async |url: &str, expected: &str| {
        let error = fails(&ClientCredentials::new(url, ID, SECRET)).await;
        assert_eq!((error.obstacle(), error.to_string()), (Obstacle::Configuration, expected.to_owned()));
    };
    check(
        "http://issuer.example/t?x=y",
        "http://issuer.example/t: http would send what is secret in plain text; use https",
    )
    .await;
    check(
        "http://127.0.0.1:1/token",
        "http://127.0.0.1:1/token: http to this machine must be allowed (Endpoint::allow_loopback_http, or \
         allow_plaintext_credentials=true)",
    )
    .await;
    check("issuer", "the token endpoint: it is no URL: write https://HOST/PATH").await;
    // Nobody listens at a port that was given back.
    let gone = Issuer::builder().start().await.expect("started").token_url();
    let endpoint = Endpoint::new(&gone).allow_loopback_http();
    let error = fails(&ClientCredentials::new(endpoint, ID, SECRET)).await;
    assert_eq!(error.obstacle(), Obstacle::Network);
    assert!(error.to_string().starts_with(&format!("{gone}: ")), "{error}");
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_named() {
    let world = World::start(Issuer::builder()).await;
    world.issuer.set_clock_offset(-3600);
    let error = Token::from_jwt(world.issuer.token(ID), std::time::SystemTime::now()).expect_err("ended");
    assert!(error.to_string().ends_with("s ago, by this machine's clock (claim \"exp\")"), "{error}");
    // `expires_in` needs no clock. The broker has one, and refuses the token.
    let error = world.connect(world.credentials()).await.expect_err("refused");
    assert!(error.is_authentication() && error.to_string().contains("invalid_token"), "{error}");
}

#[tokio::test]
async fn when_an_answer_is_lost_an_assertion_is_made_anew_and_a_refresh_token_is_used_up() {
    let key = JwtKey::es256().expect("a key");
    let world = World::start(Issuer::builder().client_keys("ec", &key.jwks()).expect("keys")).await;
    let assertion = Assertion::signed(key.private_pem()).algorithm(SigningAlgorithm::Es256).with_jwt_id();
    let assertion = assertion.issuer("ec").subject("ec").audience(world.issuer.url());
    world.issuer.fail(IssuerFault::Lose, 1);
    JwtBearer::new(world.endpoint(), assertion).token().await.expect("a token");
    assert_eq!(world.issuer.requests(), 2);

    let tokens = RefreshToken::new(world.endpoint(), world.issuer.refresh_token(ID)).client(ID, SECRET);
    world.issuer.fail(IssuerFault::Lose, 1);
    let error = fails(&tokens).await;
    assert!(
        error.obstacle() == Obstacle::Credentials && error.to_string().contains("invalid_grant"),
        "{error}"
    );
}

/// A proxy that knows where every host is: at `to`. Returns its address, and what it was asked first.
async fn proxy(to: String) -> (String, tokio::sync::oneshot::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let at = listener.local_addr().expect("bound").to_string();
    let (asked, first) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("accepted");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a request"));
        }
        let head = String::from_utf8_lossy(&head);
        asked.send(head.lines().next().unwrap_or_default().to_owned()).expect("waited for");
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("written");
        let mut issuer = TcpStream::connect(to).await.expect("connected");
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut issuer).await;
    });
    (at, first)
}

#[tokio::test]
async fn an_issuer_that_only_a_proxy_knows_is_reached_with_tls_from_end_to_end() {
    let authority = Authority::new().expect("an authority");
    let identity = authority.server(["issuer.internal"]).expect("a certificate");
    let issuer = Issuer::builder().client(ID, SECRET).tls(milena_broker::Tls::of(&identity)).start().await;
    let issuer = issuer.expect("started");
    let (at, asked) = proxy(issuer.url().trim_start_matches("https://").to_owned()).await;
    let endpoint = Endpoint::new("https://issuer.internal/token");
    let endpoint = endpoint.tls(Tls::roots_from_pem(authority.certificate_pem()));
    let endpoint = endpoint.proxy(Proxy::parse(&format!("http://{at}")).expect("a proxy"));
    ClientCredentials::new(endpoint, ID, SECRET).token().await.expect("a token");
    assert_eq!(asked.await.as_deref(), Ok("CONNECT issuer.internal:443 HTTP/1.1"));
    assert_eq!(issuer.issued(), 1);
}
