//! Tokens that end soon: they are renewed in time, and what happens when they cannot be.

use milena::ErrorKind;
use milena_broker::IssuerFault;
use tokio::time::Instant;

use super::*;

const LIFETIME: Duration = Duration::from_secs(4);

#[tokio::test]
async fn sessions_outlive_their_tokens_and_each_token_is_fetched_once() {
    let world = World::start(Issuer::builder().lifetime(LIFETIME)).await;
    let client = world.connect(world.credentials()).await.expect("connected");
    let begun = Instant::now();
    while world.issuer.issued() < 3 {
        ask(&client).await.expect("answered");
        assert!(begun.elapsed() < PATIENCE);
    }
    // The third is fetched when at least 75 % of the life of two have passed.
    let least = LIFETIME * 3 / 4 * 2;
    assert!(begun.elapsed() >= least - Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(world.issuer.requests(), 3);
}

#[tokio::test]
async fn keys_that_are_rotated_do_no_harm() {
    let world = World::start(Issuer::builder().lifetime(LIFETIME)).await;
    let client = world.connect(world.credentials()).await.expect("connected");
    world.issuer.rotate_keys().expect("rotated");
    while world.issuer.issued() < 2 {
        ask(&client).await.expect("answered");
    }
    world.connect(world.credentials()).await.expect("connected");
    // Tokens of keys that are gone are not taken.
    let before = world.issuer.token("billing");
    world.issuer.replace_keys().expect("replaced");
    let stale = move || {
        let token = Token::new(before.as_str(), LIFETIME);
        async move { Ok(token) }
    };
    let error = world.connect(stale).await.expect_err("refused");
    assert!(error.is_authentication() && error.to_string().contains("invalid_token"), "{error}");
}

#[tokio::test]
async fn while_the_issuer_is_down_nothing_happens_until_the_token_ends() {
    let world = World::with_nodes(Issuer::builder().lifetime(LIFETIME), 1).await;
    let client = world.connect(world.credentials()).await.expect("connected");
    let connected = Instant::now();
    world.issuer.fail(IssuerFault::Status(503), usize::MAX);
    let expected = format!("{}: the issuer answers with status 503", world.issuer.token_url());
    let error = loop {
        assert!(connected.elapsed() < PATIENCE);
        match ask(&client).await {
            Ok(()) => {}
            Err(error) if error.to_string().ends_with(&expected) => break error,
            // The one that was under way when the broker ended the session.
            Err(error) => assert!(error.is_retriable(), "{error}"),
        }
    };
    assert!(connected.elapsed() > LIFETIME * 3 / 4, "{:?}", connected.elapsed());
    assert_eq!((error.kind(), error.is_retriable()), (ErrorKind::Network, true));
    // Each caller after that is told as soon, and the issuer is not asked for each of them.
    let (ended, before) = (Instant::now(), world.issuer.requests());
    let told = format!(
        "listing topics: cannot authenticate with OAUTHBEARER to {}: {expected}",
        world.cluster.bootstrap()
    );
    for _ in 0..10 {
        assert_eq!(ask(&client).await.expect_err("no token").to_string(), told);
    }
    // Ten calls of four attempts each, which wait for each other's backoff, take half a minute.
    assert!(ended.elapsed() < 10 * Duration::from_secs(1), "{:?}", ended.elapsed());
    let requests = world.issuer.requests() - before;
    assert!(requests <= 24, "{requests}: three for each fetch, whose backoff doubles");
    world.issuer.recover();
    let recovered = Instant::now();
    while ask(&client).await.is_err() {
        assert!(recovered.elapsed() < PATIENCE);
        tokio::task::yield_now().await;
    }
}
