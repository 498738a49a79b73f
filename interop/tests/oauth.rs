//! Tokens of an issuer, on the newest Kafka and on 3.9: Kafka checks them by the issuer's keys.

use std::time::{Duration, Instant};

use milena::{Client, Error, NewTopic, Properties, Record};
use milena_broker::{Issuer, JwtKey};
use milena_interop::real;
use tokio::time::timeout;
use xtask::kafka::{Cluster, NEWEST};

/// Each token and session ends after a few seconds.
const LIFETIME: Duration = Duration::from_secs(5);
/// Two tokens at least.
const WHILE: Duration = Duration::from_secs(9);
const PATIENCE: Duration = Duration::from_secs(60);

/// What a Kafka needs to take the tokens of `issuer`, with the audience `kafka`.
fn settings(issuer: &Issuer) -> Vec<String> {
    let of_listener = "listener.name.sasl.oauthbearer.sasl";
    let url = issuer.jwks_url();
    vec![
        format!("-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={url}"),
        format!(
            "{of_listener}.server.callback.handler.class=org.apache.kafka.common.security.oauthbearer.\
             OAuthBearerValidatorCallbackHandler"
        ),
        format!("{of_listener}.oauthbearer.jwks.endpoint.url={url}"),
        format!("{of_listener}.oauthbearer.expected.audience=kafka"),
        format!("{of_listener}.oauthbearer.expected.issuer={}", issuer.url()),
        "connections.max.reauth.ms=3600000".into(),
    ]
}

async fn connect(kafka: &Cluster, lines: &str) -> Result<Client, Error> {
    let text = format!(
        "bootstrap.servers={}\nsecurity.protocol=SASL_PLAINTEXT\nsasl.mechanism=OAUTHBEARER\n\
         allow_plaintext_credentials=true\n{lines}",
        kafka.sasl_bootstrap()
    );
    Properties::parse(&text)?.client()?.connect().await
}

/// Produces while tokens end, and none of it fails.
async fn work(kafka: &Cluster, lines: &str, topic: &str) -> Result<(), Error> {
    let client = connect(kafka, lines).await?;
    client.admin().create_topic(NewTopic::new(topic)).await?;
    let producer = client.producer().build().await?;
    let (began, mut count) = (Instant::now(), 0);
    while began.elapsed() < WHILE {
        let receipt = producer.send(Record::to(topic).value("x")).await?;
        assert_eq!(receipt.offset(), Some(count), "each record is written once");
        count += 1;
    }
    Ok(())
}

async fn check(version: &str) {
    let key = JwtKey::rs256().expect("a key");
    let issuer =
        Issuer::builder().client("billing", "hunter2").client_keys("signer", &key.jwks()).expect("keys");
    let issuer = issuer.audience("kafka").rs256().lifetime(LIFETIME).start().await.expect("started");
    let wanted = settings(&issuer);
    let version = version.to_owned();
    // Java asks for the keys while it starts, so this thread must be free to answer.
    let started = tokio::task::spawn_blocking(move || Cluster::start_with(1, &version, &wanted));
    let kafka = started.await.expect("no panic").expect("started");
    let url = issuer.token_url();
    let pem = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&pem, key.private_pem()).expect("written");
    let secret = format!(
        "sasl.oauthbearer.token.endpoint.url={url}\nsasl.oauthbearer.client.credentials.client.id=billing\n\
         sasl.oauthbearer.client.credentials.client.secret=hunter2\n"
    );
    let signed = format!(
        "sasl.oauthbearer.token.endpoint.url={url}\n\
         sasl.oauthbearer.jwt.retriever.class=org.apache.kafka.common.security.oauthbearer.JwtBearerJwtRetriever\n\
         sasl.oauthbearer.assertion.claim.iss=signer\nsasl.oauthbearer.assertion.claim.sub=signer\n\
         sasl.oauthbearer.assertion.claim.aud={url}\nsasl.oauthbearer.assertion.private.key.file={}\n",
        pem.path().display()
    );
    let done = async |lines: &str, topic: &str| {
        let done = timeout(PATIENCE, work(&kafka, lines, topic)).await.expect("nothing hangs");
        done.unwrap_or_else(|error| panic!("Kafka {}, {topic}: {error}", kafka.version()));
    };
    tokio::join!(done(&secret, "secret"), done(&signed, "signed"));
    let issued = issuer.issued();
    // Each client has one token per lifetime, of which 75 to 80 % are used.
    assert!((4..=8).contains(&issued), "{issued} tokens for two clients in {WHILE:?}");

    let wrong = secret.replace("hunter2", "wrong");
    let error = connect(&kafka, &wrong).await.expect_err("refused");
    assert!(error.is_authentication() && error.to_string().contains("invalid_client"), "{error}");
    // Kafka does not know this key.
    let other = Issuer::builder().audience("kafka").rs256().client("billing", "hunter2").start().await;
    let other = other.expect("started");
    let error = connect(&kafka, &secret.replace(&url, &other.token_url())).await.expect_err("refused");
    assert!(error.is_authentication() && error.to_string().contains("invalid_token"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_an_issuer_are_taken_by_real_kafka() {
    if let Some(program) = xtask::kafka::missing_program() {
        return real::skip(&format!("real Kafka cannot be started: {program} is not installed"));
    }
    for version in [NEWEST, real::OLD] {
        Box::pin(check(version)).await;
    }
}
