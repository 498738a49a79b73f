//! Each mechanism, with everything that a client does, against the embedded broker.

use milena::{NewTopic, Position, Properties, Record};
use milena_broker::{Broker, Listener};

use super::*;

#[tokio::test]
async fn a_client_that_has_authenticated_can_do_everything() {
    let password = "pen,cil=p\u{e4}ss \u{1f512}";
    let broker = Broker::builder().listener(Listener::sasl_plaintext()).user("ali=ce,", password);
    let cluster = broker.group_initial_rebalance_delay(Duration::ZERO).start().await.expect("started");
    for (index, sasl) in [
        Sasl::plain("ali=ce,", password).allow_plaintext(),
        Sasl::scram_sha_256("ali=ce,", password),
        Sasl::scram_sha_512("ali=ce,", password),
    ]
    .into_iter()
    .enumerate()
    {
        let topic = format!("t{index}");
        let mechanism = sasl.mechanism();
        let work = async {
            let client = Client::builder().bootstrap(cluster.bootstrap()).sasl(sasl).connect().await?;
            client.admin().create_topic(NewTopic::new(&topic)).await?;
            client.producer().build().await?.send(Record::to(&topic).value("one")).await?;
            let mut producer = client.transactional(&*topic).build().await?;
            let transaction = producer.begin().await?;
            transaction.send(Record::to(&topic).value("two")).await?;
            transaction.commit().await?;
            let mut direct =
                client.consumer_direct().assign([(&*topic, 0)], Position::Earliest).build().await?;
            assert_eq!(direct.next().await?.expect("a batch").iter().count(), 1);
            let mut member = client.consumer(&*topic).subscribe([&*topic]).build().await?;
            let batch = member.next().await?.expect("a batch");
            member.done(&batch);
            member.close().await
        };
        let done = tokio::time::timeout(PATIENCE, work).await.expect("nothing hangs");
        done.unwrap_or_else(|error| panic!("{mechanism}: {error}"));
    }
}

#[tokio::test]
async fn properties_authenticate_by_each_mechanism() {
    let broker = Broker::builder().listener(Listener::sasl_plaintext()).user("alice", "pen cil");
    let cluster = broker.start().await.expect("started");
    let connect = async |lines: &str| {
        let text =
            format!("bootstrap.servers={}\nsecurity.protocol=SASL_PLAINTEXT\n{lines}", cluster.bootstrap());
        Properties::parse(&text).expect("parsed").client().expect("taken").connect().await
    };
    let jaas = |module: &str| {
        format!(
            "sasl.jaas.config=org.apache.kafka.{module} required username=\"alice\" password=\"pen\\\\040cil\";\n"
        )
    };
    connect(&format!("sasl.mechanism=SCRAM-SHA-256\n{}", jaas("ScramLoginModule"))).await.expect("connected");
    connect("sasl.mechanisms=SCRAM-SHA-512\nsasl.username=alice\nsasl.password=pen cil")
        .await
        .expect("connected");
    let plain = format!("sasl.mechanism=PLAIN\n{}", jaas("PlainLoginModule"));
    let error = connect(&plain).await.expect_err("the password would be sent in plain text").to_string();
    assert!(error.contains("allow it with allow_plaintext_credentials=true"), "{error}");
    connect(&format!("{plain}allow_plaintext_credentials=true\n")).await.expect("connected");
}
