//! Clients that authenticate, on the newest Kafka and on 3.9: each mechanism does all that a client does, sessions are renewed,
//! and each error names its cause.

use std::time::{Duration, Instant};

use milena::{Client, Error, NewTopic, Position, Properties, Record};
use milena_interop::real;
use tokio::time::timeout;
use xtask::kafka::{Cluster, NEWEST};

/// Sessions are renewed every few seconds.
const SETTINGS: &str = "connections.max.reauth.ms=3000";
/// Three sessions at least.
const WHILE: Duration = Duration::from_secs(8);
const PATIENCE: Duration = Duration::from_secs(60);

const MECHANISMS: [&str; 4] = [
    "sasl.mechanism=PLAIN\nsasl.username=alice\nsasl.password=pencil\n",
    "sasl.mechanism=SCRAM-SHA-256\nsasl.username=alice\nsasl.password=pencil\n",
    "sasl.mechanism=SCRAM-SHA-512\nsasl.jaas.config=ScramLoginModule required username=\"alice\" password=\"pencil\";\n",
    "sasl.mechanism=OAUTHBEARER\nenable.sasl.oauthbearer.unsecure.jwt=true\nsasl.oauthbearer.config=principal=alice \
     lifeSeconds=4\n",
];

async fn connect(bootstrap: &str, lines: &str) -> Result<Client, Error> {
    let text = format!(
        "bootstrap.servers={bootstrap}\nsecurity.protocol=SASL_PLAINTEXT\nallow_plaintext_credentials=true\n{lines}"
    );
    Properties::parse(&text)?.client()?.connect().await
}

/// Produces, reads in a group, makes a transaction, and none of it fails while sessions end.
async fn work(bootstrap: &str, index: usize) -> Result<(), Error> {
    let client = connect(bootstrap, MECHANISMS[index]).await?;
    let topic = format!("sasl-{index}");
    client.admin().create_topic(NewTopic::new(&topic)).await?;
    let producer = client.producer().build().await?;
    let mut member = client.consumer(&*topic).subscribe([&*topic]).build().await?;
    let (began, mut count) = (Instant::now(), 0);
    while began.elapsed() < WHILE {
        let receipt = producer.send(Record::to(&topic).value("x")).await?;
        assert_eq!(receipt.offset(), Some(count), "each record is written once");
        count += 1;
        let mut read = 0;
        while read < 1 {
            let batch = member.next().await?.expect("a batch");
            read += batch.iter().count();
            member.done(&batch);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    member.close().await?;
    let mut transactional = client.transactional(&*topic).build().await?;
    let transaction = transactional.begin().await?;
    transaction.send(Record::to(&topic).value("y")).await?;
    transaction.commit().await?;
    let mut direct = client.consumer_direct().assign([(&*topic, 0)], Position::Earliest).build().await?;
    assert!(direct.next().await?.is_some());
    Ok(())
}

async fn check(kafka: &Cluster) {
    let bootstrap = kafka.sasl_bootstrap();
    let done = async |index| {
        let done = timeout(PATIENCE, work(&bootstrap, index)).await.expect("nothing hangs");
        done.unwrap_or_else(|error| panic!("Kafka {}, {}: {error}", kafka.version(), MECHANISMS[index]));
    };
    tokio::join!(done(0), done(1), done(2), done(3));
    let refused = async |bootstrap: &str, lines: &str, expected: &str| {
        let error = connect(bootstrap, lines).await.expect_err("refused");
        assert!(error.is_authentication() && error.to_string().contains(expected), "{error}");
    };
    let wrong = MECHANISMS[0].replace("pencil", "pen");
    refused(&bootstrap, &wrong, "Authentication failed: Invalid username or password").await;
    let wrong = MECHANISMS[1].replace("alice", "mallory");
    refused(&bootstrap, &wrong, "the broker refused the credentials of user \"mallory\"").await;
    refused(&kafka.bootstrap(), MECHANISMS[1], "this listener has no SASL").await;
    let error = Client::connect(&bootstrap).await.expect_err("no credentials");
    let says = "this listener requires SASL, and the client has no credentials; it has ";
    assert!(error.is_authentication() && error.to_string().contains(says), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_authenticate_and_renew_their_sessions_on_real_kafka() {
    if let Some(program) = xtask::kafka::missing_program() {
        return real::skip(&format!("real Kafka cannot be started: {program} is not installed"));
    }
    for version in [NEWEST, real::OLD] {
        let kafka = Cluster::start_with(1, version, &[SETTINGS.to_owned()]).expect("started");
        Box::pin(check(&kafka)).await;
    }
}
