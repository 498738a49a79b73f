//! A broker that is slow, and rights that are missing.

use std::net::SocketAddr;
use std::time::Duration;

use milena::{
    Acl, AclOperation, AclResource, Address, Client, Connect, Connecting, Resolving, Sasl, Tcp, Transport,
};
use milena_broker::{Authorizer, Listener};
use milena_observe::doctor::{Fault, Plan};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex, split};

use super::world::{builder, finds, plan};

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
    let cluster = builder().nodes(3).start().await.expect("starts");
    cluster.create_topic("orders", 3).expect("is made");
    let port = cluster.addresses()[&2].port();
    let slow = Slow { port, by: Duration::from_millis(300) };
    let client = Client::builder().bootstrap(cluster.bootstrap()).connector(slow);
    let client = client.connect().await.expect("connects");
    client.admin().alter_group_offsets("billing", [(("orders", 0), 0)]).await.expect("committed");
    let finding = finds(&client, Fault::SlowBroker, &plan(3, 50)).await;
    assert!(finding.detail.starts_with("broker 2 takes "), "{finding:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_missing_is_found() {
    let broker =
        builder().listener(Listener::sasl_plaintext()).user("admin", "secret").user("alice", "pencil");
    let cluster =
        broker.authorizer(Authorizer::new().super_user("User:admin")).start().await.expect("starts");
    cluster.create_topic("orders", 1).expect("is made");
    let log_in = async |user: &str, password: &str| {
        let sasl = Sasl::scram_sha_256(user, password);
        Client::builder().bootstrap(cluster.bootstrap()).sasl(sasl).connect().await.expect("connects")
    };
    let admin = log_in("admin", "secret").await.admin();
    admin.alter_group_offsets("billing", [(("orders", 0), 0)]).await.expect("committed");
    let topic = Acl::allow("User:alice", AclOperation::Describe, AclResource::topic("orders"));
    let group = Acl::allow("User:alice", AclOperation::Read, AclResource::group("billing"));
    for (_, created) in admin.create_acls([topic, group.clone()]).await.expect("asked") {
        created.expect("is made");
    }
    let client = log_in("alice", "pencil").await;
    let finding = finds(&client, Fault::AclMissing, &plan(1, 0)).await;
    assert!(finding.detail.contains("topic \"orders\" may not be read"), "{finding:?}");
    assert_eq!(
        finding.command,
        "milena acl create --allow User:NAME --operation read,describe --topic orders"
    );

    for deleted in admin.delete_acls([milena::AclFilter::one(&group)]).await.expect("asked") {
        deleted.expect("is deleted");
    }
    let plan = Plan { topics: vec!["orders".into()], ..plan(1, 0) };
    let finding = finds(&client, Fault::AclMissing, &plan).await;
    assert!(finding.detail.contains("group \"billing\" may not be joined"), "{finding:?}");
}
