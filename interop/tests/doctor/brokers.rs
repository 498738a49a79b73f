//! A broker that is slow, and rights that are missing.

use std::net::SocketAddr;
use std::time::Duration;

use milena::{
    Acl, AclFilter, AclOperation, AclResource, Address, Client, Connect, Connecting, NewTopic, Protocol,
    Resolving, Sasl, Tcp, Transport,
};
use milena_interop::real;
use milena_observe::doctor::{Fault, Plan};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex, split};

use super::{World, finds, kafka, plan};

/// What goes to one broker takes its time.
struct Slow {
    port: u16,
    by: Duration,
}

impl Connect for Slow {
    fn resolve(&self, address: &Address) -> Resolving {
        Tcp::default().resolve(address)
    }

    fn connect(&self, address: &Address, at: Option<SocketAddr>) -> Connecting {
        let connecting = Tcp::default().connect(address, at);
        let by = if address.port() == self.port { self.by } else { Duration::ZERO };
        Box::pin(async move {
            let broker = connecting.await?;
            let (client, here) = duplex(64 << 10);
            tokio::spawn(relay(here, broker, by));
            Ok(Box::new(client) as Box<dyn Transport>)
        })
    }
}

async fn relay(client: tokio::io::DuplexStream, broker: Box<dyn Transport>, by: Duration) {
    let (mut from_client, mut to_client) = split(client);
    let (mut from_broker, mut to_broker) = split(broker);
    let up = async {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from_client.read(&mut bytes).await {
            tokio::time::sleep(by).await;
            if to_broker.write_all(&bytes[..read]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        _ = tokio::io::copy(&mut from_broker, &mut to_client) => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_answers_late_is_found() {
    let Some(kafka) = real::three() else { return };
    let bootstrap = kafka.bootstrap();
    let client = Client::connect(&bootstrap).await.unwrap();
    let brokers = client.admin().describe_cluster().await.unwrap().brokers;
    let port = brokers.iter().find(|broker| broker.id == 2).unwrap().port;
    client.admin().create_topic(NewTopic::new("doctor-slow").partitions(3).replication(1)).await.unwrap();
    let slow = Slow { port, by: Duration::from_millis(300) };
    let client = Client::builder().bootstrap(&bootstrap).connector(slow).connect().await.unwrap();
    client.admin().alter_group_offsets("doctor-slow", [(("doctor-slow", 0), 0)]).await.unwrap();
    let finding = finds(&client, "doctor-slow", Fault::SlowBroker, &plan(3, 50)).await;
    assert!(finding.detail.starts_with("broker 2 takes "), "{finding:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_missing_is_found() {
    let Some(kafka) = kafka() else { return };
    let name = "doctor-rights";
    let world = World::new(kafka, name, 1, Protocol::Consumer).await;
    world.commit([(0, 0)]).await;
    let admin = world.client.admin();
    let topic = Acl::allow("User:alice", AclOperation::Describe, AclResource::topic(name));
    let group = Acl::allow("User:alice", AclOperation::Read, AclResource::group(name));
    for (_, created) in admin.create_acls([topic, group.clone()]).await.unwrap() {
        created.unwrap();
    }
    let sasl = Sasl::scram_sha_256("alice", "pencil");
    let client = Client::builder().bootstrap(&kafka.sasl_bootstrap()).sasl(sasl).connect().await.unwrap();
    let finding = finds(&client, name, Fault::AclMissing, &plan(1, 0)).await;
    assert!(finding.detail.contains("topic \"doctor-rights\" may not be read"), "{finding:?}");
    let command = "milena acl create --allow User:NAME --operation read,describe --topic doctor-rights";
    assert_eq!(finding.command, command);

    for deleted in admin.delete_acls([AclFilter::one(&group)]).await.unwrap() {
        deleted.unwrap();
    }
    let plan = Plan { topics: vec![name.into()], ..plan(1, 0) };
    let finding = finds(&client, name, Fault::AclMissing, &plan).await;
    assert!(finding.detail.contains("group \"doctor-rights\" may not be joined"), "{finding:?}");
}
