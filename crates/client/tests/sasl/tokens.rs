//! Tokens: how often they are fetched, and what happens when they end. On tokio's paused clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use milena::{ConnectError, ErrorKind, Obstacle, Token};
use tokio::time::{Instant, sleep};

use super::*;

/// An issuer of tokens that live for a minute. A broker accepts a token while it lives.
#[derive(Clone)]
struct Issuer {
    peer: Peer,
    issued: Arc<AtomicUsize>,
    is_down: Arc<AtomicBool>,
    /// Whether sessions live as long as their token, as at Kafka's brokers, or have no limit.
    limits_sessions: bool,
}

const LIFETIME: Duration = Duration::from_secs(60);

impl Issuer {
    fn new(limits_sessions: bool) -> Self {
        let (peer, issued, is_down) = (Peer::new(&[]), Arc::default(), Arc::default());
        Self { peer, issued, is_down, limits_sessions }
    }

    fn sasl(&self) -> Sasl {
        let this = self.clone();
        Sasl::oauth_bearer(move || this.clone().issue())
    }

    async fn issue(self) -> Result<Token, ConnectError> {
        sleep(Duration::from_millis(50)).await;
        if self.is_down.load(Ordering::Relaxed) {
            return Err(ConnectError::new(Obstacle::Network, "the issuer is down"));
        }
        let number = self.issued.fetch_add(1, Ordering::Relaxed) + 1;
        let token = format!("token-{number}.");
        self.peer.state().accepts.push(token.clone());
        // The broker's session ends with the token that is the newest one then.
        if self.limits_sessions {
            self.peer.state().lifetime = LIFETIME;
        }
        tokio::spawn({
            let (peer, token) = (self.peer.clone(), token.clone());
            async move {
                sleep(LIFETIME).await;
                peer.state().accepts.retain(|accepted| *accepted != token);
            }
        });
        Ok(Token::new(token, LIFETIME))
    }

    fn issued(&self) -> usize {
        self.issued.load(Ordering::Relaxed)
    }
}

/// Asks all the time for this long. Each request is answered.
async fn keep_asking(client: &Client, time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        let asked = Instant::now();
        ask(client).await.expect("answered");
        assert!(asked.elapsed() < SOON, "a request waited for {:?}", asked.elapsed());
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_is_fetched_once_per_lifetime_and_sessions_go_on_with_it() {
    let issuer = Issuer::new(true);
    let client = connect(&issuer.peer, issuer.sasl()).await.expect("connected");
    keep_asking(&client, Duration::from_secs(600)).await;
    // Each is fetched when 75 to 80 % of the life of the one before have passed.
    assert!((12..=14).contains(&issuer.issued()), "{}", issuer.issued());
    let state = issuer.peer.state();
    assert_eq!((state.connections, state.refused, state.unwelcome), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn without_a_session_lifetime_the_connection_is_made_anew_before_the_token_ends() {
    let issuer = Issuer::new(false);
    let client = connect(&issuer.peer, issuer.sasl()).await.expect("connected");
    keep_asking(&client, Duration::from_secs(600)).await;
    assert!((12..=14).contains(&issuer.issued()), "{}", issuer.issued());
    let state = issuer.peer.state();
    assert!((10..=14).contains(&state.connections), "{}", state.connections);
    assert_eq!((state.refused, state.unwelcome), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn however_many_connections_ask_one_token_is_fetched() {
    let issuer = Issuer::new(true);
    issuer.peer.state().brokers = 9;
    let bootstrap = "a:1,b:1,c:1";
    let builder = Client::builder().bootstrap(bootstrap).connector(issuer.peer.clone());
    let client = builder.sasl(issuer.sasl()).connect().await.expect("connected");
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let client = client.clone();
        callers.spawn(async move { ask(&client).await.expect("answered") });
    }
    callers.join_all().await;
    let connections = issuer.peer.state().connections;
    assert!(connections >= 5, "{connections}");
    assert_eq!(issuer.issued(), 1);
}

#[tokio::test(start_paused = true)]
async fn while_the_issuer_is_down_nothing_happens_until_the_token_ends() {
    for limits_sessions in [true, false] {
        let issuer = Issuer::new(limits_sessions);
        let client = connect(&issuer.peer, issuer.sasl()).await.expect("connected");
        issuer.is_down.store(true, Ordering::Relaxed);
        keep_asking(&client, Duration::from_secs(59)).await;
        sleep(Duration::from_secs(2)).await;
        let error = ask(&client).await.expect_err("no token");
        let expected = "cannot authenticate with OAUTHBEARER to a:1: the issuer is down";
        assert!(error.to_string().ends_with(expected), "{error}");
        assert_eq!((error.kind(), error.is_retriable()), (ErrorKind::Network, true));
        issuer.is_down.store(false, Ordering::Relaxed);
        // The issuer was asked a moment ago, and is asked again after a delay.
        sleep(Duration::from_secs(15)).await;
        ask(&client).await.expect("answered");
        let state = issuer.peer.state();
        assert_eq!((state.refused, state.unwelcome), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_refused_is_told_with_the_brokers_reason() {
    let peer = Peer::new(&[]);
    peer.state().challenge = r#"{"status":"invalid_token","scope":"kafka"}"#;
    let sasl = Sasl::oauth_bearer(|| async { Ok(Token::new("abc", LIFETIME).with_principal("svc")) });
    let error = tokio::time::timeout(SOON, connect(&peer, sasl)).await.expect("soon").expect_err("refused");
    assert_eq!(
        error.to_string(),
        "connecting to a:1: cannot authenticate with OAUTHBEARER to a:1: the broker refused the token of \"svc\": \
         invalid_token; it wants the scope \"kafka\""
    );
    assert!(error.is_authentication());
    let state = peer.state();
    assert_eq!((state.connections, state.refused), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_cannot_be_sent_is_refused_before_it_is_sent() {
    let peer = Peer::new(&[]);
    let check = async |token: Token, expected: &str| {
        let token = move || {
            let token = token.clone();
            async move { Ok(token) }
        };
        let error = connect(&peer, Sasl::oauth_bearer(token)).await.expect_err("refused");
        assert!(error.to_string().ends_with(expected), "{error}");
        assert!(error.is_authentication() && !error.to_string().contains("canary"), "{error}");
    };
    check(Token::new("canary token", LIFETIME), "no bearer token has, such as a space or a line's end").await;
    check(Token::new("canary", LIFETIME).with_extension("auth", "x"), "the token is sent under it").await;
    check(Token::new("canary", Duration::ZERO), "the token that the provider gave has ended already").await;
    assert_eq!(peer.state().connections, 0);
}
