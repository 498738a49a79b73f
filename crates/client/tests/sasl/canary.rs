//! Secrets are printed nowhere: not in errors, not by `Debug`, and not in what is traced at the level TRACE.

use milena::{Login, ScramChange, ScramMechanism, Secret, Token};
use milena_broker::{Broker, Listener};

use super::everything::Everything;
use super::*;

const CANARY: &str = "k4nari3nv0gel";

#[tokio::test]
async fn a_secret_is_in_nothing_that_is_printed() {
    let everything = Everything::default();
    let _guard = tracing::subscriber::set_default(everything.clone());
    let broker = Broker::builder().listener(Listener::sasl_plaintext()).user("alice", CANARY);
    let cluster = broker.session_lifetime_max(Duration::from_secs(2)).start().await.expect("started");
    everything.say(Secret::from(CANARY));
    everything.say(Login::new("alice", CANARY));
    everything.say(Token::new(CANARY, SOON));
    let wrong = format!("{CANARY}x");
    for (sasl, is_right) in [
        (Sasl::plain("alice", CANARY).allow_plaintext(), true),
        (Sasl::scram_sha_256("alice", CANARY), true),
        (Sasl::scram_sha_512("alice", CANARY), true),
        (Sasl::plain("alice", &*wrong).allow_plaintext(), false),
        (Sasl::scram_sha_256("alice", &*wrong), false),
        (Sasl::scram_sha_256("alice", format!("{CANARY}\n")), false),
        (Sasl::oauth_bearer(|| async { Ok(Token::new(CANARY, SOON)) }).allow_plaintext(), false),
        (Sasl::oauth_bearer(|| async { panic!("no token") }).allow_plaintext(), false),
        (Sasl::plain("alice", CANARY), false),
    ] {
        everything.say(&sasl);
        let builder = Client::builder().bootstrap(cluster.bootstrap()).sasl(sasl);
        everything.say(&builder);
        match builder.connect().await {
            Ok(client) => {
                assert!(is_right, "wrong credentials are accepted");
                everything.say(&client);
                ask(&client).await.expect("answered");
                let change = ScramChange::set("bob", ScramMechanism::Sha256, CANARY).iterations(4096);
                let twice = change.clone().iterations(1);
                everything.say((&change, &twice));
                everything.say(client.admin().alter_scram_users([change, twice]).await);
            }
            Err(error) => {
                assert!(!is_right, "{error}");
                everything.say(error);
            }
        }
    }
    // A broker that repeats what it was told, and one that refuses a renewal.
    let peer = Peer::new(&[]);
    peer.state().challenge = "your token k4nari3nv0gel is wrong";
    let sasl = Sasl::oauth_bearer(|| async { Ok(Token::new(CANARY, SOON)) });
    let error = connect(&peer, sasl).await.expect_err("refused");
    assert!(error.to_string().contains("your token *** is wrong"), "{error}");
    everything.say(error);
    let printed = everything.0.lock().expect("whole");
    assert!(printed.len() > 1000, "{printed}");
    assert!(!printed.contains(CANARY), "{printed}");
}
