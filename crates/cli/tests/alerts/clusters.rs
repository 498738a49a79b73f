//! Faults of a cluster, as `milena exporter` sees them from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use milena::metrics::Registry;
use milena::{Acl, AclFilter, AclOperation, AclResource, Client, NewTopic, Record, Sasl};
use milena_broker::{Authorizer, Listener};
use milena_observe::exporter::{Exporter, Plan};
use tokio::sync::oneshot;

use crate::stage::Stand;
use crate::world::{World, builder, member};

/// Shows what an exporter sees that looks twice a second, with a client of its own rights if one is given. It ends when the result is
/// dropped.
fn export(world: &World, client: Option<Client>, stand: &Stand, probe: Option<&str>) -> oneshot::Sender<()> {
    let client = client.unwrap_or_else(|| world.other.clone());
    let plan =
        Plan { interval: Duration::from_millis(500), probe: probe.map(str::to_owned), ..Plan::default() };
    let exporter = Exporter::new(client, plan);
    stand.show(exporter.clone());
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(async move {
        tokio::select! {
            () = exporter.run(|_| {}) => {}
            _ = stopped => {}
        }
    });
    stop
}

/// All brokers are down.
pub(crate) async fn the_cluster_is_down(mut stand: Stand) {
    let world = World::new(1).await;
    let _exporter = export(&world, None, &stand, None);
    stand.is_well().await;

    world.cluster.stop_node(1).await.expect("stops");
    stand.fires("MilenaExporterBlind").await;
    world.cluster.start_node(1).await.expect("starts");
    stand.resolves("MilenaExporterBlind").await;
}

/// A member takes records and finishes none of them, while more are written.
pub(crate) async fn a_group_commits_nothing(mut stand: Stand) {
    let mut world = World::new(1).await;
    world.go_on_writing(&world.other.clone(), Duration::from_millis(50));
    let mut consumer = member(&world.client).build().await.expect("joins");
    let is_silent = Arc::new(AtomicBool::new(false));
    let silent = Arc::clone(&is_silent);
    world.spawn(async move {
        let mut owed = Vec::new();
        while let Ok(Some(batch)) = consumer.next().await {
            owed.push(batch);
            if !silent.load(Ordering::Relaxed) {
                owed.drain(..).for_each(|batch| consumer.done(&batch));
            }
        }
    });
    let _exporter = export(&world, None, &stand, None);
    stand.is_well().await;

    is_silent.store(true, Ordering::Relaxed);
    for alert in ["MilenaGroupStopped", "MilenaGroupUnwell", "MilenaGroupBehind"] {
        stand.fires(alert).await;
    }
    is_silent.store(false, Ordering::Relaxed);
    for alert in ["MilenaGroupStopped", "MilenaGroupUnwell", "MilenaGroupBehind"] {
        stand.resolves(alert).await;
    }
}

/// One partition has its only replica on the node that is down, and another one has one of two there.
pub(crate) async fn one_of_two_nodes_is_down(mut stand: Stand) {
    let cluster = builder().nodes(2).start().await.expect("starts");
    let client = Client::connect(cluster.bootstrap()).await.expect("connects");
    for (topic, replicas) in [("single", 1), ("double", 2)] {
        let new = NewTopic::new(topic).partitions(2).replication(replicas);
        client.admin().create_topic(new).await.expect("is made");
    }
    let producer = client.producer().build().await.expect("a producer");
    producer.send(Record::to("double").value("v")).await.expect("is written");
    let world = World::of(cluster, Registry::new(), client).await;
    let _exporter = export(&world, None, &stand, None);
    stand.is_well().await;

    world.cluster.stop_node(2).await.expect("stops");
    stand.fires("MilenaPartitionsOffline").await;
    stand.fires("MilenaReplicasBehind").await;
    world.cluster.start_node(2).await.expect("starts");
    stand.resolves("MilenaPartitionsOffline").await;
    stand.resolves("MilenaReplicasBehind").await;
}

/// A transaction is begun, and nobody ends it.
pub(crate) async fn a_transaction_stays_open(mut stand: Stand) {
    let world = World::new(1).await;
    let _exporter = export(&world, None, &stand, None);
    let timeout = Duration::from_secs(600);
    let producer = world.client.transactional("invoices-1").transaction_timeout(timeout);
    let mut producer = producer.build().await.expect("a producer");
    let transaction = producer.begin().await.expect("begins");
    transaction.send(Record::to("orders").value("ended")).await.expect("is written");
    transaction.commit().await.expect("is committed");
    stand.is_well().await;

    let transaction = producer.begin().await.expect("begins");
    transaction.send(Record::to("orders").value("open")).await.expect("is written");
    stand.fires("MilenaTransactionHangs").await;
    transaction.abort().await.expect("is aborted");
    stand.resolves("MilenaTransactionHangs").await;
}

/// The exporter may write the records of its probe, and may not read them.
pub(crate) async fn the_probe_is_not_read(mut stand: Stand) {
    let broker =
        builder().listener(Listener::sasl_plaintext()).user("admin", "secret").user("probe", "pencil");
    let broker = broker.authorizer(Authorizer::new().super_user("User:admin"));
    let cluster = broker.start().await.expect("starts");
    cluster.create_topic("probes", 1).expect("is made");
    let log_in = async |user: &str, password: &str| {
        let sasl = Sasl::scram_sha_256(user, password);
        Client::builder().bootstrap(cluster.bootstrap()).sasl(sasl).connect().await.expect("logs in")
    };
    let admin = log_in("admin", "secret").await;
    let allow = |resource| Acl::allow("User:probe", AclOperation::All, resource);
    let rights = [allow(AclResource::topic("probes")), allow(AclResource::cluster())];
    for (_, created) in admin.admin().create_acls(rights).await.expect("asked") {
        created.expect("is made");
    }
    let probe = log_in("probe", "pencil").await;
    let world = World::of(cluster, Registry::new(), admin.clone()).await;
    let _exporter = export(&world, Some(probe), &stand, Some("probes"));
    stand.is_well().await;

    let denied = Acl::deny("User:probe", AclOperation::Read, AclResource::topic("probes"));
    for (_, created) in admin.admin().create_acls([denied.clone()]).await.expect("asked") {
        created.expect("is made");
    }
    stand.fires("MilenaProbeLost").await;
    for deleted in admin.admin().delete_acls([AclFilter::one(&denied)]).await.expect("asked") {
        deleted.expect("is deleted");
    }
    stand.resolves("MilenaProbeLost").await;
}
