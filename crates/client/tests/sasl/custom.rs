//! A mechanism that the application brings along.

use std::sync::{Arc, Mutex};

use milena::{ConnectError, Obstacle, SaslExchange, SaslMechanism, SaslStep};
use tokio::time::sleep;

use super::*;

/// Says hello, gets a number, and proves with a word that it knows it. Core knows nothing like it.
#[derive(Clone)]
struct Toy {
    word: &'static str,
    sends_secret: bool,
    fails: Option<(&'static str, Obstacle)>,
    /// The hosts that exchanges began with.
    begun: Arc<Mutex<Vec<String>>>,
    /// The threads that took the steps.
    threads: Arc<Mutex<Vec<std::thread::ThreadId>>>,
}

struct ToyExchange(Toy);

fn toy(word: &'static str) -> Toy {
    Toy { word, sends_secret: true, fails: None, begun: Arc::default(), threads: Arc::default() }
}

impl Toy {
    fn check(&self, at: &str) -> Result<(), ConnectError> {
        self.threads.lock().expect("whole").push(std::thread::current().id());
        match self.fails {
            Some((when, obstacle)) if when == at => {
                Err(ConnectError::new(obstacle, format!("no ticket\nat {at}")))
            }
            Some(("panic", _)) => panic!("a mechanism may be wrong"),
            _ => Ok(()),
        }
    }
}

impl SaslMechanism for Toy {
    fn name(&self) -> &'static str {
        "X-TOY"
    }

    fn sends_secret(&self) -> bool {
        self.sends_secret
    }

    fn begin(&self, host: &str) -> Result<(Box<dyn SaslExchange>, Vec<u8>), ConnectError> {
        self.check("begin")?;
        self.begun.lock().expect("whole").push(host.to_owned());
        Ok((Box::new(ToyExchange(self.clone())), format!("toy hello {host}").into_bytes()))
    }
}

impl SaslExchange for ToyExchange {
    fn step(&mut self, challenge: &[u8]) -> Result<SaslStep, ConnectError> {
        self.0.check("step")?;
        match challenge {
            b"number 42" => Ok(SaslStep::Send(format!("toy proof {} 42", self.0.word).into_bytes())),
            b"" => Ok(SaslStep::Done),
            _ => Err(ConnectError::new(Obstacle::Peer, "it does not know the game")),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_mechanism_that_is_brought_along_takes_its_steps_on_other_threads() {
    let peer = Peer::new(&["toy proof please 42"]);
    let toy = toy("please");
    let client = connect(&peer, Sasl::custom(toy.clone())).await.expect("connected");
    ask(&client).await.expect("answered");
    assert_eq!(toy.begun.lock().expect("whole")[0], "a");
    let threads = toy.threads.lock().expect("whole");
    // One to begin, one with the number and one with the end.
    assert!(threads.len() >= 3 && !threads.contains(&std::thread::current().id()));
    let state = peer.state();
    assert_eq!((state.refused, state.unwelcome), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_session_of_such_a_mechanism_is_renewed_on_the_live_connection() {
    let peer = Peer::new(&["toy proof please 42"]);
    peer.state().lifetime = Duration::from_secs(60);
    let toy = toy("please");
    let client = connect(&peer, Sasl::custom(toy.clone())).await.expect("connected");
    for _ in 0..180 {
        ask(&client).await.expect("answered");
        sleep(Duration::from_secs(1)).await;
    }
    let state = peer.state();
    let first = state.accepted.first().copied().expect("one");
    let renewed = state.accepted.iter().filter(|connection| **connection == first).count();
    assert!(renewed >= 2, "{:?}", state.accepted);
    assert_eq!((state.refused, state.unwelcome), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_such_a_mechanism_refuses_is_told_with_its_reason() {
    let check = async |toy: Toy, is_retriable: bool, expected: &str| {
        let peer = Peer::new(&["toy proof please 42"]);
        let error = connect(&peer, Sasl::custom(toy)).await.expect_err("refused");
        assert_eq!(
            error.to_string(),
            format!("connecting to a:1: cannot authenticate with X-TOY to a:1: {expected}")
        );
        assert_eq!((error.is_retriable(), peer.state().connections), (is_retriable, 1), "{error}");
    };
    check(toy("now"), false, "the broker refused the client's X-TOY login: it is wrong").await;
    let failing = |when, obstacle| Toy { fails: Some((when, obstacle)), ..toy("please") };
    check(failing("begin", Obstacle::Credentials), false, "no ticket at begin").await;
    check(failing("step", Obstacle::Peer), false, "no ticket at step").await;
    check(failing("begin", Obstacle::Network), true, "no ticket at begin").await;
    check(failing("panic", Obstacle::Network), false, "the mechanism X-TOY panicked").await;
}

#[tokio::test]
async fn a_mechanism_that_sends_a_secret_needs_tls() {
    let connecting = |toy: Toy| Client::builder().bootstrap("127.0.0.1:1").sasl(Sasl::custom(toy)).connect();
    let error = connecting(toy("please")).await.expect_err("not encrypted").to_string();
    assert!(
        error.starts_with("connecting: X-TOY would send a secret over a connection that is not encrypted"),
        "{error}"
    );
    let error = connecting(Toy { sends_secret: false, ..toy("please") })
        .await
        .expect_err("nothing listens")
        .to_string();
    assert!(!error.contains("encrypted"), "{error}");
}
