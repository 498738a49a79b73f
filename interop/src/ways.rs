//! The ways in which a client of Milena logs in, and what it does then.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use milena::{Client, GroupFilter, NewTopic, Properties, Record};
use tokio::time::timeout;

/// Each step ends long before, unless something hangs.
const PATIENCE: Duration = Duration::from_secs(30);
/// Several records of TLS are needed for them.
const RECORDS: usize = 100;
const VALUE_BYTES: usize = 1000;

/// The addresses of a broker's listeners.
#[derive(Debug, Clone)]
pub struct Listeners {
    /// SASL in plain text.
    pub sasl_plaintext: String,
    /// SASL over TLS.
    pub sasl_ssl: String,
    /// TLS, which wants a certificate of its clients.
    pub ssl: String,
}

/// The certificates of a client.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// Properties that say whom it trusts.
    pub trust: String,
    /// Properties with its own certificate and key.
    pub own: String,
}

/// The names of all ways, with the properties of a client for each: every mechanism in plain text and in both versions of TLS,
/// and certificates.
#[must_use]
pub fn all(listeners: &Listeners, certificates: &Certificates) -> Vec<(String, String)> {
    let password =
        |mechanism: &str| format!("sasl.mechanism={mechanism}\nsasl.username=alice\nsasl.password=pencil\n");
    let mut mechanisms: Vec<(&str, String)> =
        ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"].map(|name| (name, password(name))).to_vec();
    let token = "sasl.mechanism=OAUTHBEARER\nenable.sasl.oauthbearer.unsecure.jwt=true\n\
                 sasl.oauthbearer.config=principal=alice\n";
    mechanisms.push(("OAUTHBEARER", token.into()));
    let mut ways = Vec::new();
    for (name, mechanism) in &mechanisms {
        let plain = format!(
            "bootstrap.servers={}\nsecurity.protocol=SASL_PLAINTEXT\nallow_plaintext_credentials=true\n{mechanism}",
            listeners.sasl_plaintext
        );
        ways.push((format!("{name} in plain text"), plain));
    }
    for version in ["TLSv1.2", "TLSv1.3"] {
        let tls = format!("ssl.enabled.protocols={version}\n{}", certificates.trust);
        for (name, mechanism) in &mechanisms {
            let bootstrap = &listeners.sasl_ssl;
            let way = format!("bootstrap.servers={bootstrap}\nsecurity.protocol=SASL_SSL\n{mechanism}{tls}");
            ways.push((format!("{name} over {version}"), way));
        }
        let own = &certificates.own;
        let way = format!("bootstrap.servers={}\nsecurity.protocol=SSL\n{tls}{own}", listeners.ssl);
        ways.push((format!("a certificate over {version}"), way));
    }
    ways
}

/// Logs in as the properties say, makes `topic`, writes, reads as the member of a group that commits, writes in a transaction,
/// and asks for what was made.
///
/// # Errors
/// Which of it failed, and why.
pub async fn work(properties: &str, topic: &str) -> anyhow::Result<()> {
    let client = Properties::parse(properties)?.client()?;
    let client = within(client.connect()).await?.context("logging in")?;
    within(client.admin().create_topic(NewTopic::new(topic).partitions(3)))
        .await?
        .context("making a topic")?;
    within(write(&client, topic)).await?.context("writing")?;
    within(read(&client, topic)).await?.context("reading in a group")?;
    within(transact(&client, topic)).await?.context("writing in a transaction")?;
    let groups =
        within(client.admin().list_groups(&GroupFilter::default())).await?.context("asking for groups")?;
    ensure!(groups.groups.iter().any(|group| &*group.group == topic), "the group is not listed");
    Ok(())
}

async fn within<T>(doing: impl Future<Output = T>) -> anyhow::Result<T> {
    Ok(timeout(PATIENCE, Box::pin(doing)).await?)
}

async fn write(client: &Client, topic: &str) -> anyhow::Result<()> {
    let producer = client.producer().build().await?;
    for _ in 0..RECORDS {
        producer.post(Record::to(topic).value(vec![7; VALUE_BYTES])).await?;
    }
    Ok(producer.flush().await?)
}

async fn read(client: &Client, topic: &str) -> anyhow::Result<()> {
    let mut member = client.consumer(topic).subscribe([topic]).build().await?;
    let mut count = 0;
    while count < RECORDS {
        let Some(batch) = member.next().await? else { bail!("the member ended") };
        count += batch.iter().filter(|record| record.value() == Some(&[7; VALUE_BYTES][..])).count();
        member.done(&batch);
    }
    Ok(member.close().await?)
}

async fn transact(client: &Client, topic: &str) -> anyhow::Result<()> {
    let mut producer = client.transactional(topic).build().await?;
    let transaction = producer.begin().await?;
    transaction.send(Record::to(topic).value("in a transaction")).await?;
    Ok(transaction.commit().await?)
}
