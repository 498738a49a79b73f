//! Secrets of OAuth are printed nowhere: not by `Debug`, not in errors, and not in what is traced at the level TRACE.

use milena::oauth::{Assertion, JwtBearer, RefreshToken, SigningAlgorithm, TokenAnswer};
use milena_broker::{IssuerFault, JwtKey};

use super::everything::Everything;
use super::*;

#[tokio::test]
async fn a_secret_is_in_nothing_that_is_printed() {
    let everything = Everything::default();
    let _guard = tracing::subscriber::set_default(everything.clone());
    let key = JwtKey::es256().expect("a key");
    let world = World::start(Issuer::builder().client_keys("ec", &key.jwks()).expect("keys")).await;
    let refresh = world.issuer.refresh_token(ID);
    let pem = key.private_pem();
    let signed = || {
        let assertion = Assertion::signed(key.private_pem()).algorithm(SigningAlgorithm::Es256);
        assertion
            .issuer("ec")
            .subject("ec")
            .audience(world.issuer.token_url())
            .passphrase("passphrase-canary")
    };
    let mut canaries =
        vec![SECRET.to_owned(), refresh.clone(), "parameter-canary".into(), "passphrase-canary".into()];
    canaries.extend(pem.lines().filter(|line| !line.starts_with('-')).map(str::to_owned));
    everything.say((signed(), RefreshToken::new(world.endpoint(), &*refresh), world.endpoint()));
    let credentials = || world.credentials().parameter("password", "parameter-canary");
    let sasls = || {
        [
            Sasl::oauth_bearer(credentials()),
            Sasl::oauth_bearer(JwtBearer::new(world.endpoint(), signed())),
            Sasl::oauth_bearer(ClientCredentials::with_assertion(world.endpoint(), signed())),
            Sasl::oauth_bearer(
                RefreshToken::new(world.endpoint(), world.issuer.refresh_token(ID)).client(ID, SECRET),
            ),
        ]
    };
    everything.say((credentials(), JwtBearer::new(world.endpoint(), signed())));
    let faults = [
        None,
        Some(IssuerFault::Refuse("invalid_client", "is hunter2-of-the-client or parameter-canary right?")),
        Some(IssuerFault::Status(503)),
        Some(IssuerFault::Disconnect),
        Some(IssuerFault::Body("{\"error\":\"x\",\"error_description\":\"hunter2-of-the-client\"}")),
    ];
    for fault in faults {
        if let Some(fault) = &fault {
            world.issuer.fail(fault.clone(), usize::MAX);
        }
        // The other grants do not know what this issuer repeats.
        let repeats = matches!(fault, Some(IssuerFault::Refuse(..) | IssuerFault::Body(_)));
        for sasl in sasls().into_iter().take(if repeats { 1 } else { usize::MAX }) {
            everything.say(&sasl);
            let builder = Client::builder().bootstrap(world.cluster.bootstrap()).tls(world.tls()).sasl(sasl);
            everything.say(&builder);
            match builder.connect().await {
                Ok(client) => {
                    assert!(fault.is_none());
                    ask(&client).await.expect("answered");
                    everything.say(&client);
                }
                Err(error) => {
                    assert!(fault.is_some(), "{error}");
                    everything.say(error.to_string());
                    everything.say(error);
                }
            }
            if fault.is_none() {
                for (name, value) in world.issuer.last_form() {
                    if ["assertion", "client_assertion", "refresh_token"].contains(&&*name) {
                        canaries.push(value);
                    }
                }
            }
        }
        world.issuer.recover();
    }
    let answer =
        br#"{"access_token":"hunter2-of-the-client","expires_in":9,"refresh_token":"parameter-canary"}"#;
    everything.say(TokenAnswer::parse(200, answer).expect("read"));
    let printed = everything.0.lock().expect("whole");
    assert!(printed.len() > 1000 && canaries.len() > 5, "{printed}");
    for canary in canaries {
        let line = printed.lines().find(|line| line.contains(&canary));
        assert!(line.is_none(), "{canary} in {line:?}");
    }
}
