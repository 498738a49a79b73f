//! What a client counts when something is wrong, or is in its way: each figure is what the fault must give, no more and no less.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use milena::assignors::{Assignor, CooperativeSticky, Range};
use milena::metrics::{Family, Registry, families as of};
use milena::{
    Acl, AclFilter, AclOperation, AclResource, ClientBuilder, ConnectError, GroupConsumerBuilder, Login,
    Obstacle, Protocol, QuotaChange, QuotaEntity, Sasl,
};
use milena_broker::{Authorizer, Listener};
use milena_messages::ApiKey;

use super::lossy::{Loss, Losses};
use super::*;

fn counting(cluster: &Cluster) -> (ClientBuilder, Registry) {
    let registry = Registry::new();
    (Client::builder().bootstrap(cluster.bootstrap()).metrics(&registry), registry)
}

/// A counter, which is 0 if there is no such series.
fn value(registry: &Registry, family: &Family, labels: &[&str]) -> f64 {
    registry.snapshot().value(family, labels).unwrap_or(0.0)
}

async fn reaches(registry: &Registry, family: &Family, labels: &[&str], least: f64) -> f64 {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let is = value(registry, family, labels);
        if is >= least {
            return is;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "{} {labels:?} is {is} of {:?}",
            family.name,
            registry.snapshot().family(family.name)
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The broker asks for the time that a quota says, and the next request waits for it.
#[tokio::test]
async fn the_time_that_a_quota_costs_is_counted_by_api_and_as_a_phase() {
    let (cluster, admin) = start(1, &[("t", 1)]).await;
    let (builder, registry) = counting(&cluster);
    let client = builder.client_id("slowed").connect().await.expect("connected");
    let quota =
        (QuotaEntity::new().client_id("slowed"), vec![QuotaChange::set("producer_byte_rate", 2000.0)]);
    for (_, altered) in admin.admin().alter_quotas([quota]).await {
        altered.expect("altered");
    }
    let producer = producer(&client).await;
    producer.send(Record::to("t").value("x")).await.expect("written");
    assert!(registry.snapshot().histogram(&of::THROTTLE_SECONDS, &["Produce"]).is_none(), "within the quota");
    producer.send(Record::to("t").value("x".repeat(22_000))).await.expect("written");
    producer.send(Record::to("t").value("x")).await.expect("written");

    let snapshot = registry.snapshot();
    let throttle = snapshot.histogram(&of::THROTTLE_SECONDS, &["Produce"]).expect("counted");
    // 22 kB in the quota's window of ten seconds are a tenth more than 2 kB a second: one second to wait.
    let ordered = throttle.max().expect("counted");
    assert!((0.5..2.5).contains(&ordered), "{ordered} s");
    assert!(snapshot.histogram(&of::THROTTLE_SECONDS, &["Metadata"]).is_none(), "by API");
    let waited = snapshot.histogram(&of::PRODUCER_PHASE_SECONDS, &["throttle"]).expect("counted");
    assert_eq!(waited.count(), 1, "only the last batch has waited");
    assert!(waited.sum() > ordered / 2.0 && waited.sum() < ordered * 1.1, "{} of {ordered} s", waited.sum());
    let open = snapshot.histogram(&of::PRODUCER_PHASE_SECONDS, &["batch"]).expect("counted");
    assert!(
        open.sum() < waited.sum(),
        "it was open for that time, and not for another reason: {}",
        open.sum()
    );
}

/// Alice may read "t" as a member of "g", until she may not.
#[tokio::test]
async fn commits_that_are_refused_are_counted_by_their_code() {
    let broker =
        Broker::builder().listener(Listener::sasl_plaintext()).group_initial_rebalance_delay(Duration::ZERO);
    let broker = broker.user("admin", "secret").user("alice", "pencil");
    let cluster =
        broker.authorizer(Authorizer::new().super_user("User:admin")).start().await.expect("started");
    cluster.create_topic("t", 1).expect("created");
    let admin = Client::builder().bootstrap(cluster.bootstrap()).sasl(Sasl::scram_sha_256("admin", "secret"));
    let admin = admin.connect().await.expect("logged in");
    let allow = |resource| Acl::allow("User:alice", AclOperation::Read, resource);
    let of_topic = allow(AclResource::topic("t"));
    for (_, created) in
        admin.admin().create_acls([of_topic.clone(), allow(AclResource::group("g"))]).await.expect("asked")
    {
        created.expect("created");
    }
    producer(&admin).await.send(Record::to("t").value("v")).await.expect("written");
    let (builder, registry) = counting(&cluster);
    let client = builder.sasl(Sasl::scram_sha_256("alice", "pencil")).connect().await.expect("logged in");
    let member = client.consumer("g").subscribe(["t"]).protocol(Protocol::Classic).manual_commits();
    let mut consumer = member.build().await.expect("built");
    read(&mut consumer, 1).await;
    consumer.commit_offsets([(("t", 0), 1)]).await.expect("committed");
    assert!(
        registry
            .snapshot()
            .family(of::CONSUMER_COMMIT_ERRORS.name)
            .is_none_or(|family| family.samples().len() == 0)
    );
    let commits = registry.snapshot().histogram(&of::CONSUMER_COMMIT_SECONDS, &[]).expect("counted").count();

    for deleted in admin.admin().delete_acls([AclFilter::one(&of_topic)]).await.expect("asked") {
        deleted.expect("deleted");
    }
    for _ in 0..3 {
        let error = consumer.commit_offsets([(("t", 0), 1)]).await.expect_err("refused");
        assert_eq!(error.code_name(), Some("TOPIC_AUTHORIZATION_FAILED"), "{error}");
    }
    assert_eq!(value(&registry, &of::CONSUMER_COMMIT_ERRORS, &["TOPIC_AUTHORIZATION_FAILED"]), 3.0);
    // Their answers took their time all the same.
    let after = registry.snapshot().histogram(&of::CONSUMER_COMMIT_SECONDS, &[]).expect("counted").count();
    assert_eq!(after - commits, 3);
}

#[tokio::test]
async fn commits_whose_answer_is_lost_are_counted_too() {
    let broker = Broker::builder().group_initial_rebalance_delay(Duration::ZERO);
    let cluster = broker.start().await.expect("started");
    cluster.create_topic("t", 1).expect("created");
    let (builder, registry) = counting(&cluster);
    let losses = Losses::default();
    let client = builder.connector(losses.clone()).connect().await.expect("connected");
    let member = client.consumer("g").subscribe(["t"]).manual_commits();
    let mut consumer = member.build().await.expect("built");
    producer(&client).await.send(Record::to("t").value("v")).await.expect("written");
    read(&mut consumer, 1).await;
    losses.add(ApiKey::OffsetCommit, Loss::Answer);
    consumer.commit_offsets([(("t", 0), 1)]).await.expect("committed by another attempt");
    assert_eq!(value(&registry, &of::CONSUMER_COMMIT_ERRORS, &["connection_lost"]), 1.0);
}

/// A password that is wrong, and one that cannot be had.
#[tokio::test]
async fn credentials_that_are_refused_and_those_that_are_missing_are_failures_to_connect() {
    let broker = Broker::builder().listener(Listener::sasl_plaintext()).user("alice", "pencil");
    let cluster = broker.start().await.expect("started");
    let (builder, registry) = counting(&cluster);
    let error = builder.sasl(Sasl::scram_sha_256("alice", "pen")).connect().await.expect_err("refused");
    assert_eq!(error.kind(), milena::ErrorKind::Authentication, "{error}");
    assert_eq!(value(&registry, &of::CONNECTION_FAILURES, &["SASL_AUTHENTICATION_FAILED"]), 1.0);
    assert_eq!(value(&registry, &of::CONNECTIONS_OPENED, &[]), 0.0);
    assert_eq!(value(&registry, &of::CONNECTIONS, &[]), 0.0);

    let (builder, registry) = counting(&cluster);
    let asked = Arc::new(AtomicUsize::new(0));
    let vault = Arc::clone(&asked);
    let sasl = Sasl::plain_from(move || {
        vault.fetch_add(1, Ordering::Relaxed);
        async { Err::<Login, _>(ConnectError::new(Obstacle::Network, "the vault is sealed")) }
    });
    builder.sasl(sasl.allow_plaintext()).connect().await.expect_err("no password");
    let failures = value(&registry, &of::CONNECTION_FAILURES, &["unauthenticated"]);
    assert!(failures > 0.0, "{:?}", registry.snapshot());
    assert_eq!(failures, asked.load(Ordering::Relaxed) as f64, "each time that it was asked for");
}

#[tokio::test]
async fn a_session_that_is_renewed_is_counted_and_is_no_new_connection() {
    let broker = Broker::builder().listener(Listener::sasl_plaintext()).user("alice", "pencil");
    let cluster = broker.session_lifetime_max(Duration::from_secs(2)).start().await.expect("started");
    let (builder, registry) = counting(&cluster);
    let client = builder.sasl(Sasl::scram_sha_256("alice", "pencil")).connect().await.expect("logged in");
    client.admin().topics().await.expect("listed");
    let opened = value(&registry, &of::CONNECTIONS_OPENED, &[]);
    assert_eq!(value(&registry, &of::REAUTHENTICATIONS, &[]), 0.0);
    // Of each connection. A broker closes one that begins sooner than after a second, or later than its session lasts.
    reaches(&registry, &of::REAUTHENTICATIONS, &[], 2.0 * opened).await;
    assert_eq!(value(&registry, &of::CONNECTIONS_OPENED, &[]), opened);
    assert_eq!(value(&registry, &of::CONNECTIONS_CLOSED, &["broken"]), 0.0);
}

async fn begin(
    member: GroupConsumerBuilder,
) -> (tokio::task::JoinHandle<()>, tokio::sync::oneshot::Sender<()>) {
    let (leave, left) = tokio::sync::oneshot::channel::<()>();
    let mut consumer = member.build().await.expect("built");
    let task = tokio::spawn(async move {
        let work = async {
            loop {
                // A member that has lost its membership is told once.
                if let Ok(Some(batch)) = consumer.next().await {
                    consumer.done(&batch);
                }
            }
        };
        tokio::select! {
            () = work => {}
            _ = left => {}
        }
        consumer.close().await.expect("closed");
    });
    (task, leave)
}

/// How the members of a group share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sharing {
    /// In the classic protocol, where all give all up before they join again.
    Eager,
    /// In the classic protocol, where only those partitions are given up that others get.
    Cooperative,
    /// In the consumer protocol.
    Consumer,
}

/// Another member joins, and leaves; then the coordinator forgets the first one.
#[tokio::test]
async fn rebalances_are_counted_by_what_began_them() {
    for sharing in [Sharing::Eager, Sharing::Cooperative, Sharing::Consumer] {
        let broker = Broker::builder()
            .group_initial_rebalance_delay(Duration::ZERO)
            .group_consumer_heartbeat_interval(Duration::from_millis(50));
        let cluster = broker.start().await.expect("started");
        cluster.create_topic("t", 2).expect("created");
        let (builder, registry) = counting(&cluster);
        let counted = builder.connect().await.expect("connected");
        let other = Client::connect(cluster.bootstrap()).await.expect("connected");
        let member = |client: &Client| {
            let member = client.consumer("g").subscribe(["t"]);
            let classic = |member: GroupConsumerBuilder| {
                member.protocol(Protocol::Classic).heartbeat_interval(Duration::from_millis(50))
            };
            match sharing {
                Sharing::Eager => classic(member).assignors([Arc::new(Range) as Arc<dyn Assignor>]),
                Sharing::Cooperative => {
                    classic(member).assignors([Arc::new(CooperativeSticky) as Arc<dyn Assignor>])
                }
                Sharing::Consumer => member.protocol(Protocol::Consumer),
            }
        };
        let counts = || {
            ["join", "revoke", "assign", "lost"]
                .map(|reason| value(&registry, &of::CONSUMER_REBALANCES, &[reason]))
        };
        // A cooperative member joins once more after it has given partitions up.
        let more = f64::from(u8::from(sharing == Sharing::Cooperative));
        let is = async |expected: [f64; 4]| {
            let deadline = tokio::time::Instant::now() + PATIENCE;
            while counts() != expected {
                let now = tokio::time::Instant::now();
                assert!(now < deadline, "{sharing:?}: {:?} in place of {expected:?}", counts());
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let (_first, _stays) = begin(member(&counted)).await;
        is([1.0, 0.0, 0.0, 0.0]).await;

        let (second, leave) = begin(member(&other)).await;
        is([1.0, 1.0, more, 0.0]).await;

        drop(leave);
        second.await.expect("left");
        let then = match sharing {
            Sharing::Eager => [1.0, 2.0, 0.0, 0.0],
            Sharing::Cooperative | Sharing::Consumer => [1.0, 1.0, more + 1.0, 0.0],
        };
        is(then).await;

        if sharing != Sharing::Consumer {
            let removed = other.admin().remove_all_members("g").await.expect("removed");
            assert_eq!(removed.len(), 1);
            is([then[0], then[1], then[2], 1.0]).await;
        }
        let snapshot = registry.snapshot();
        let total = snapshot.histogram(&of::CONSUMER_REBALANCE_SECONDS, &["total"]);
        let total = total.expect("counted").count() as f64;
        // What is assigned without anything before it takes no time of the member's.
        let timed =
            counts().iter().sum::<f64>() - if sharing == Sharing::Consumer { counts()[2] } else { 0.0 };
        assert_eq!(total, timed, "{sharing:?}");
    }
}

/// Two tasks wait for memory at the same time while no request is answered.
#[tokio::test]
async fn time_without_memory_is_counted_while_it_passes_and_once_for_each_task() {
    let cluster = Broker::builder().start().await.expect("started");
    cluster.create_topic("t", 1).expect("created");
    let (builder, registry) = counting(&cluster);
    let losses = Losses::default();
    let client =
        builder.memory_bytes_max(64 << 10).connector(losses.clone()).connect().await.expect("connected");
    let timeout = Duration::from_secs(1);
    let producer = client.producer().settings(|settings| settings.enqueue_timeout = timeout);
    let producer = producer.build().await.expect("built");
    let large = "x".repeat(20_000);
    producer.send(Record::to("t").value(&large)).await.expect("written");
    assert_eq!(value(&registry, &of::PRODUCER_BLOCKED_SECONDS, &[]), 0.0);

    losses.add(ApiKey::Produce, Loss::Silence);
    let mut tasks = Vec::new();
    for _ in 0..5 {
        let (producer, large) = (producer.clone(), large.clone());
        tasks.push(tokio::spawn(async move { producer.post(Record::to("t").value(&large)).await }));
    }
    let blocked = || value(&registry, &of::PRODUCER_BLOCKED_SECONDS, &[]);
    let before =
        (tokio::time::Instant::now(), reaches(&registry, &of::PRODUCER_BLOCKED_SECONDS, &[], 0.2).await);
    let is_waiting = tasks.iter().filter(|task| !task.is_finished()).count();
    assert!(is_waiting > 0, "it is counted before they are done");
    let mut failed = 0;
    for task in tasks {
        failed += usize::from(task.await.expect("no panic").is_err());
    }
    let (took, total) = (before.0.elapsed(), blocked());
    assert!(failed > 0, "some have waited for their whole time");
    // Each that was given up has waited for a second, and none for longer than it was watched.
    let (least, most) = (failed as f64, 5.0 * (took.as_secs_f64() + 0.001));
    assert!(total >= least && total <= most, "{total} is not between {least} and {most}");
    assert_eq!(blocked(), total, "nobody waits any more");
}
