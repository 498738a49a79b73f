//! Faults of clients, and of brokers as clients see them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use milena::metrics::Registry;
use milena::{
    Acl, AclFilter, AclOperation, AclResource, Client, ConfigChange, ConfigResource, QuotaChange,
    QuotaEntity, Record, Sasl, ScramChange, ScramMechanism, Tls,
};
use milena_broker::{Authority, Authorizer, Listener};

use crate::stage::Stand;
use crate::world::{Slow, World, builder, member, process_all};

/// One record is refused, once.
pub(crate) async fn a_record_is_too_large(mut stand: Stand) {
    let world = World::new(1).await;
    stand.show(world.registry.clone());
    let producer = world.client.producer().build().await.expect("a producer");
    producer.send(Record::to("orders").value("small")).await.expect("is written");
    let orders = ConfigResource::Topic("orders".into());
    let small = ConfigChange::set("max.message.bytes", "200");
    world.client.admin().alter_configs(&orders, [small]).await.expect("is altered");
    stand.is_well().await;

    let large = "x".repeat(1000);
    let error = producer.send(Record::to("orders").value(&large)).await.expect_err("is refused");
    assert_eq!(error.code_name(), Some("MESSAGE_TOO_LARGE"));
    stand.fires("MilenaRecordsNotWritten").await;
    stand.resolves("MilenaRecordsNotWritten").await;
}

/// 2 MB a second are written through a connection that takes 64 KiB each half a second.
pub(crate) async fn a_slow_broker_fills_the_buffer(stand: Stand) {
    fill_the_buffer(stand, Duration::from_millis(500)).await;
}

/// The same, and no request is answered for so long that no task gets room meanwhile.
pub(crate) async fn a_broker_that_hangs_fills_the_buffer(stand: Stand) {
    fill_the_buffer(stand, Duration::from_secs(45)).await;
}

async fn fill_the_buffer(mut stand: Stand, by: Duration) {
    let cluster = builder().start().await.expect("starts");
    cluster.create_topic("orders", 4).expect("is made");
    let (slow, registry) = (Slow::default(), Registry::new());
    let client = Client::builder().bootstrap(cluster.bootstrap()).connector(slow.clone());
    let client = client.metrics(&registry).memory_bytes_max(1 << 20).connect().await.expect("connects");
    let mut world = World::of(cluster, registry, client).await;
    let producer = world.client.producer().build().await.expect("a producer");
    for _ in 0..4 {
        let producer = producer.clone();
        world.spawn(async move {
            let value = "x".repeat(10_000);
            let mut tick = tokio::time::interval(Duration::from_millis(20));
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                let _ = producer.post(Record::to("orders").value(&value)).await;
            }
        });
    }
    stand.show(world.registry.clone());
    stand.is_well().await;

    slow.by(by);
    stand.fires("MilenaProducerBlocked").await;
    slow.by(Duration::ZERO);
    stand.resolves("MilenaProducerBlocked").await;
}

/// A consumer takes two batches a second of fifty that are written.
pub(crate) async fn a_consumer_is_slow(mut stand: Stand) {
    let mut world = World::new(1).await;
    world.go_on_writing(&world.other.clone(), Duration::from_millis(20));
    let mut consumer = member(&world.client).build().await.expect("joins");
    let is_slow = Arc::new(AtomicBool::new(false));
    let slow = Arc::clone(&is_slow);
    world.spawn(async move {
        while let Ok(Some(batch)) = consumer.next().await {
            if slow.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            consumer.done(&batch);
        }
    });
    stand.show(world.registry.clone());
    stand.is_well().await;

    is_slow.store(true, Ordering::Relaxed);
    stand.fires("MilenaConsumerBehind").await;
    is_slow.store(false, Ordering::Relaxed);
    stand.resolves("MilenaConsumerBehind").await;
}

/// A partition is given to a task that does not go on.
pub(crate) async fn nobody_takes_records(mut stand: Stand) {
    let mut world = World::new(1).await;
    world.go_on_writing(&world.other.clone(), Duration::from_millis(100));
    let mut consumer = member(&world.client).build().await.expect("joins");
    let first = consumer.next().await.expect("reads").expect("is a member");
    consumer.done(&first);
    stand.show(world.registry.clone());
    stand.is_well().await;

    stand.fires("MilenaPartitionsStalled").await;
    world.spawn(process_all(consumer));
    stand.resolves("MilenaPartitionsStalled").await;
}

/// Beside a member that works another one joins and leaves again and again.
pub(crate) async fn a_member_comes_and_goes(mut stand: Stand) {
    let mut world = World::new(2).await;
    world.go_on_writing(&world.other.clone(), Duration::from_millis(100));
    world.spawn(process_all(member(&world.client).build().await.expect("joins")));
    stand.show(world.registry.clone());
    stand.is_well().await;

    let other = world.other.clone();
    let flapping = tokio::spawn(async move {
        loop {
            let mut consumer = member(&other).build().await.expect("joins");
            let _ = tokio::time::timeout(Duration::from_millis(500), consumer.next()).await;
            consumer.close().await.expect("leaves");
        }
    });
    stand.fires("MilenaGroupRebalances").await;
    flapping.abort();
    stand.resolves("MilenaGroupRebalances").await;
}

/// The right to read a topic is taken from a member that has read it, so that its commits are refused.
pub(crate) async fn commits_are_refused(mut stand: Stand) {
    let broker =
        builder().listener(Listener::sasl_plaintext()).user("admin", "secret").user("alice", "pencil");
    let broker = broker.authorizer(Authorizer::new().super_user("User:admin"));
    let cluster = broker.start().await.expect("starts");
    cluster.create_topic("orders", 1).expect("is made");
    let registry = Registry::new();
    let log_in = |user: &str, password: &str| {
        Client::builder().bootstrap(cluster.bootstrap()).sasl(Sasl::scram_sha_256(user, password))
    };
    let admin = log_in("admin", "secret").connect().await.expect("logs in");
    let allow = |resource| Acl::allow("User:alice", AclOperation::All, resource);
    let rights = [allow(AclResource::topic("orders")), allow(AclResource::group("billing"))];
    for (_, created) in admin.admin().create_acls(rights).await.expect("asked") {
        created.expect("is made");
    }
    let alice = log_in("alice", "pencil").metrics(&registry).connect().await.expect("logs in");
    let producer = admin.producer().build().await.expect("a producer");
    for number in 0..3000 {
        producer.post(Record::to("orders").value(number.to_string())).await.expect("is taken");
    }
    producer.flush().await.expect("are written");
    let mut world = World::of(cluster, registry, alice).await;
    let mut consumer = member(&world.client).build().await.expect("joins");
    world.spawn(async move {
        loop {
            // While the right is missing this may fail.
            let Ok(Some(batch)) = consumer.next().await else { continue };
            for record in &batch {
                tokio::time::sleep(Duration::from_millis(40)).await;
                consumer.done_record(&record);
            }
        }
    });
    stand.show(world.registry.clone());
    stand.is_well().await;

    let denied = Acl::deny("User:alice", AclOperation::Read, AclResource::topic("orders"));
    for (_, created) in admin.admin().create_acls([denied.clone()]).await.expect("asked") {
        created.expect("is made");
    }
    stand.fires("MilenaCommitsFail").await;
    for deleted in admin.admin().delete_acls([AclFilter::one(&denied)]).await.expect("asked") {
        deleted.expect("is deleted");
    }
    stand.resolves("MilenaCommitsFail").await;
}

/// An application keeps what it takes.
pub(crate) async fn batches_are_held(mut stand: Stand) {
    let cluster = builder().start().await.expect("starts");
    cluster.create_topic("orders", 1).expect("is made");
    let registry = Registry::new();
    let client = Client::builder().bootstrap(cluster.bootstrap()).metrics(&registry);
    let client = client.memory_bytes_max(1 << 20).connect().await.expect("connects");
    let world = World::of(cluster, registry, client).await;
    let producer = world.other.producer().build().await.expect("a producer");
    for _ in 0..100 {
        producer.send(Record::to("orders").value("x".repeat(50_000))).await.expect("is written");
    }
    stand.show(world.registry.clone());
    stand.is_well().await;

    let mut consumer = member(&world.client).build().await.expect("joins");
    let mut held = Vec::new();
    let holding = async {
        loop {
            held.extend(consumer.next().await.expect("reads"));
        }
    };
    tokio::select! {
        () = holding => {}
        () = stand.fires("MilenaConsumerMemoryFull") => {}
    }
    held.iter().for_each(|batch| consumer.done(batch));
    drop(held);
    let working = tokio::spawn(process_all(consumer));
    stand.resolves("MilenaConsumerMemoryFull").await;
    working.abort();
}

/// The only broker is down, and then it is back.
pub(crate) async fn the_broker_is_down(mut stand: Stand) {
    let mut world = World::new(1).await;
    world.go_on_writing(&world.client.clone(), Duration::from_millis(50));
    stand.show(world.registry.clone());
    stand.is_well().await;

    world.cluster.stop_node(1).await.expect("stops");
    stand.fires("MilenaConnectionsFail").await;
    world.cluster.start_node(1).await.expect("starts");
    stand.resolves("MilenaConnectionsFail").await;
}

/// The password of a client is changed, and it has the old one.
pub(crate) async fn the_password_is_another(mut stand: Stand) {
    let broker = builder().listener(Listener::plaintext()).listener(Listener::sasl_plaintext());
    let cluster = broker.user("alice", "pencil").start().await.expect("starts");
    cluster.create_topic("orders", 1).expect("is made");
    let registry = Registry::new();
    let secure = cluster.bootstrap_of("SASL_PLAINTEXT").expect("there is one");
    let client = Client::builder().bootstrap(secure).sasl(Sasl::scram_sha_256("alice", "pencil"));
    let client = client.metrics(&registry).connect().await.expect("logs in");
    let mut world = World::of(cluster, registry, client).await;
    world.go_on_writing(&world.client.clone(), Duration::from_millis(50));
    stand.show(world.registry.clone());
    stand.is_well().await;

    let set = async |password: &str| {
        let change = ScramChange::set("alice", ScramMechanism::Sha256, password.to_owned());
        for (_, changed) in world.other.admin().alter_scram_users([change]).await {
            changed.expect("is changed");
        }
    };
    set("pen").await;
    // Connections that are open go on.
    world.cluster.stop_node(1).await.expect("stops");
    world.cluster.start_node(1).await.expect("starts");
    stand.fires("MilenaConnectionsFail").await;
    set("pencil").await;
    stand.resolves("MilenaConnectionsFail").await;
}

/// A producer may write 2000 bytes a second, and writes more.
pub(crate) async fn a_quota_throttles(mut stand: Stand) {
    let mut world = World::new(1).await;
    world.go_on_writing(&world.client.clone(), Duration::from_millis(10));
    stand.show(world.registry.clone());
    stand.is_well().await;

    let alter = async |change: QuotaChange| {
        let quota = (QuotaEntity::new().client_id("counted"), vec![change]);
        for (_, altered) in world.other.admin().alter_quotas([quota]).await {
            altered.expect("is altered");
        }
    };
    alter(QuotaChange::set("producer_byte_rate", 2000.0)).await;
    stand.fires("MilenaThrottled").await;
    alter(QuotaChange::remove("producer_byte_rate")).await;
    stand.resolves("MilenaThrottled").await;
}

/// The certificate of a client that runs is replaced by one for three days, and then by one for a year. It makes no new connection.
pub(crate) async fn a_certificate_expires_soon(mut stand: Stand) {
    let mut authority = Authority::new().expect("made");
    let root = authority.certificate_pem();
    let tls = milena_broker::Tls::of(&authority.server(["127.0.0.1"]).expect("made"));
    let tls = tls.require_clients(&root).expect("read");
    let cluster = builder().listener(Listener::ssl(tls)).start().await.expect("starts");
    let directory = tempfile::tempdir().expect("a directory");
    let [chain, key] = ["own.pem", "own.key"].map(|name| directory.path().join(name));
    let mut put = |days: u64| {
        let now = SystemTime::now();
        let fresh = std::mem::replace(&mut authority, Authority::new().expect("made"));
        authority = fresh.valid(now - Duration::from_hours(1), now + Duration::from_hours(24 * days));
        let own = authority.client("CN=billing").expect("made");
        for (path, text) in [(&chain, own.certificate_pem()), (&key, own.key_pem())] {
            // The system may tell times of files by hundredths of a second only.
            let before =
                std::fs::metadata(path).and_then(|of| of.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            std::fs::write(path, text).expect("is written");
            let file = std::fs::File::options().write(true).open(path).expect("is there");
            file.set_modified(before + Duration::from_secs(1)).expect("is set");
        }
    };
    put(365);
    let registry = Registry::new();
    let tls = Tls::roots_from_pem(root).client_certificate_files(&chain, &key);
    let client = Client::builder().bootstrap(cluster.bootstrap()).tls(tls).metrics(&registry);
    let _client = client.connect().await.expect("connects");
    stand.show(registry);
    stand.is_well().await;

    put(3);
    stand.fires("MilenaCertificateExpires").await;
    put(365);
    stand.resolves("MilenaCertificateExpires").await;
}
