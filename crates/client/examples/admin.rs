//! Makes every admin call: creates a topic, prints what the cluster says about it, and deletes it.
//!
//! `cargo run -p milena --example admin -- [HOST:PORT] [TOPIC]`; the topic must not exist.

#![expect(clippy::disallowed_methods, reason = "a program runs on tokio and reads clocks")]

use std::time::{Duration, SystemTime};

use milena::{Client, ConfigResource, Error, ErrorKind, GroupFilter, Isolation, NewTopic, OffsetAt};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let bootstrap = args.next().unwrap_or_else(|| "localhost:9092".into());
    let topic = args.next().unwrap_or_else(|| "admin-example".into());

    let client = Client::connect(&bootstrap).await?;
    let admin = client.admin().timeout(Duration::from_secs(10)).isolation(Isolation::ReadCommitted);

    let cluster = admin.describe_cluster().await?;
    println!("cluster {:?}, controller {:?}", cluster.cluster_id, cluster.controller);
    for broker in &cluster.brokers {
        println!("broker {} at {}:{}", broker.id, broker.host, broker.port);
    }

    let new =
        || NewTopic::new(topic.as_str()).partitions(3).replication(1).config("max.message.bytes", "2000000");
    admin.create_topic(new()).await?;
    println!("created {topic}");
    for (name, made) in admin.create_topics([new()]).await? {
        match made {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => println!("{name} exists already"),
            made => made?,
        }
    }

    println!("{} topics in all", admin.topics().await?.len());
    for (name, described) in admin.describe_topics([topic.as_str(), "no-such-topic"]).await? {
        match described {
            Ok(described) => {
                println!("{name}: {} partitions, id {:?}", described.partitions.len(), described.id);
            }
            Err(error) => println!("{name}: {:?}", error.kind()),
        }
    }
    for entry in admin.describe_configs(&ConfigResource::Topic(topic.clone())).await? {
        if !entry.is_default {
            println!("{} = {:?}", entry.name, entry.value);
        }
    }
    if let Some(broker) = cluster.brokers.first() {
        let entries = admin.describe_configs(&ConfigResource::Broker(broker.id)).await?;
        println!("broker {} has {} settings", broker.id, entries.len());
    }

    let partitions = (0..3).map(|partition| (topic.as_str(), partition));
    let an_hour_ago = SystemTime::now() - Duration::from_secs(3600);
    for at in [OffsetAt::Earliest, OffsetAt::Latest, an_hour_ago.into()] {
        for ((_, partition), offset) in admin.list_offsets(partitions.clone(), at).await? {
            println!("{at:?} of partition {partition}: {:?}", offset?);
        }
    }

    println!("group coordinator: broker {}", admin.group_coordinator("billing").await?.id);
    println!("transaction coordinator: broker {}", admin.transaction_coordinator("billing").await?.id);

    let group = format!("{topic}-readers");
    for (_, set) in admin.alter_group_offsets(&group, [((topic.as_str(), 0), 0)]).await? {
        set?;
    }
    for listed in admin.list_groups(&GroupFilter::all()).await?.groups {
        println!("group {} is {:?}", listed.group, listed.state);
    }
    for (name, described) in admin.describe_groups([group.as_str()]).await {
        println!("group {name} has {} members", described?.members.len());
    }
    for (name, offsets) in admin.list_group_offsets([group.as_str()]).await {
        println!("group {name} has committed {:?}", offsets?);
    }
    for (name, deleted) in admin.delete_groups([group.as_str()]).await {
        deleted?;
        println!("deleted group {name}");
    }

    for (name, deleted) in admin.delete_topics([topic.as_str()]).await? {
        deleted?;
        println!("deleted {name}");
    }
    Ok(())
}
