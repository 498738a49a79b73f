//! Sessions that end, and credentials that change, on tokio's paused clock.

use std::sync::{Arc, Mutex};

use milena::{ConnectError, ErrorKind, Login, Obstacle};
use tokio::time::{Instant, sleep};

use super::*;

/// A provider whose login the test changes.
#[derive(Clone)]
struct Changing(Arc<Mutex<Result<Login, ConnectError>>>);

impl Changing {
    fn new(user: &str, password: &str) -> Self {
        Self(Arc::new(Mutex::new(Ok(Login::new(user, password)))))
    }

    fn set(&self, login: Result<Login, ConnectError>) {
        *self.0.lock().expect("whole") = login;
    }

    fn sasl(&self) -> Sasl {
        let this = self.clone();
        Sasl::plain_from(move || {
            let login = this.0.lock().expect("whole").clone();
            async move { login }
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_is_renewed_on_the_live_connection_and_no_request_fails() {
    let peer = Peer::new(&["\0alice\0pencil"]);
    peer.state().lifetime = Duration::from_secs(10);
    // Some requests are under way whenever a session is renewed.
    peer.state().work = Duration::from_millis(300);
    let client = connect(&peer, Sasl::plain("alice", "pencil")).await.expect("connected");
    let until = Instant::now() + Duration::from_secs(120);
    let mut callers = tokio::task::JoinSet::new();
    for index in 0..3 {
        let client = client.clone();
        callers.spawn(async move {
            let mut answers = 0;
            while Instant::now() < until {
                ask(&client).await.expect("answered");
                answers += 1;
                sleep(Duration::from_millis(70 * index)).await;
            }
            answers
        });
    }
    let answers: usize = callers.join_all().await.into_iter().sum();
    let state = peer.state();
    assert_eq!((state.connections, state.unwelcome, state.refused), (1, 0, 0));
    assert!((12..=15).contains(&state.accepted.len()), "{:?}", state.accepted);
    assert!(answers > 300 && state.metadata >= answers, "{answers} {}", state.metadata);
}

#[tokio::test(start_paused = true)]
async fn an_idle_client_renews_its_session_and_still_closes_its_connection() {
    let peer = Peer::new(&["\0alice\0pencil"]);
    peer.state().lifetime = Duration::from_secs(60);
    let client = connect(&peer, Sasl::plain("alice", "pencil")).await.expect("connected");
    // Metadata is refreshed every five minutes, on the same connection.
    sleep(Duration::from_secs(290)).await;
    let renewals = peer.state().accepted.len();
    assert!((5..=6).contains(&renewals), "{renewals}");
    ask(&client).await.expect("answered");
    let state = peer.state();
    assert_eq!((state.connections, state.unwelcome), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_is_not_answered_is_given_up_and_another_connection_made() {
    let peer = Peer::new(&["\0alice\0pencil"]);
    peer.state().lifetime = Duration::from_secs(10);
    let client = connect(&peer, Sasl::plain("alice", "pencil")).await.expect("connected");
    peer.state().is_silent = true;
    sleep(Duration::from_secs(15)).await;
    peer.state().is_silent = false;
    tokio::time::timeout(PATIENCE, ask(&client)).await.expect("nothing hangs").expect("answered");
    assert_eq!(peer.state().connections, 2);
}

#[tokio::test(start_paused = true)]
async fn a_refused_renewal_fails_requests_at_once_without_a_storm_until_the_credentials_change() {
    let peer = Peer::new(&["\0alice\0pencil"]);
    peer.state().lifetime = Duration::from_secs(10);
    let login = Changing::new("alice", "pencil");
    let client = connect(&peer, login.sasl()).await.expect("connected");
    ask(&client).await.expect("answered");
    // The password is changed at the brokers.
    peer.accept(&["\0alice\0eraser"]);
    sleep(Duration::from_secs(10)).await;
    let began = Instant::now();
    let mut failures = 0;
    while began.elapsed() < Duration::from_secs(100) {
        let asked = Instant::now();
        let error = ask(&client).await.expect_err("refused");
        assert!(asked.elapsed() <= SOON, "{:?}: {error}", asked.elapsed());
        assert!(error.is_authentication() && !error.is_retriable() && !error.is_fatal(), "{error}");
        assert_eq!((error.kind(), error.fault()), (ErrorKind::Authentication, milena::Fault::Caller));
        failures += 1;
        sleep(Duration::from_millis(50)).await;
    }
    let refused = peer.state().refused;
    assert!(failures > 1000 && (3..=12).contains(&refused), "{failures} failures, {refused} attempts");
    // Another password is tried at the next request.
    login.set(Ok(Login::new("alice", "eraser")));
    ask(&client).await.expect("answered");
    assert_eq!(peer.state().refused, refused);
}

#[tokio::test(start_paused = true)]
async fn another_user_gets_another_connection_without_a_failed_request() {
    let peer = Peer::new(&["\0alice\0pencil", "\0bob\0eraser"]);
    peer.state().lifetime = Duration::from_secs(10);
    let login = Changing::new("alice", "pencil");
    let client = connect(&peer, login.sasl()).await.expect("connected");
    login.set(Ok(Login::new("bob", "eraser")));
    let until = Instant::now() + Duration::from_secs(30);
    while Instant::now() < until {
        ask(&client).await.expect("answered");
        sleep(Duration::from_millis(100)).await;
    }
    let state = peer.state();
    assert_eq!((state.connections, state.unwelcome), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_has_nothing_for_a_while_costs_no_request_while_the_session_lives() {
    let peer = Peer::new(&["\0alice\0pencil"]);
    peer.state().lifetime = Duration::from_secs(100);
    let login = Changing::new("alice", "pencil");
    let client = connect(&peer, login.sasl()).await.expect("connected");
    login.set(Err(ConnectError::new(Obstacle::Network, "the vault is sealed")));
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(99) {
        ask(&client).await.expect("answered");
        sleep(Duration::from_millis(100)).await;
    }
    sleep(Duration::from_secs(2)).await;
    let error = ask(&client).await.expect_err("the session has ended");
    assert!(
        error.to_string().ends_with("cannot authenticate with PLAIN to a:1: the vault is sealed"),
        "{error}"
    );
    assert!(error.is_retriable() && !error.is_authentication());
    login.set(Ok(Login::new("alice", "pencil")));
    ask(&client).await.expect("answered");
    let state = peer.state();
    assert_eq!((state.unwelcome, state.refused), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_hangs_or_panics_is_named() {
    let peer = Peer::new(&[]);
    let hangs = Sasl::plain_from(|| async { std::future::pending().await });
    let began = Instant::now();
    let error = connect(&peer, hangs).await.expect_err("nothing to authenticate with");
    assert!(began.elapsed() <= Duration::from_secs(11), "{:?}", began.elapsed());
    let expected = "connecting to a:1: cannot authenticate with PLAIN to a:1: the provider did not give the password within \
                    10s";
    assert_eq!(error.to_string(), expected);
    assert!(error.is_retriable() && !error.is_authentication());
    let panics = Sasl::oauth_bearer(|| async { panic!("canary") });
    let error = connect(&peer, panics).await.expect_err("nothing to authenticate with");
    let expected =
        "connecting to a:1: cannot authenticate with OAUTHBEARER to a:1: the provider of a token panicked";
    assert_eq!(error.to_string(), expected);
    assert_eq!(peer.state().connections, 0);
}
