//! What happens to members while they read: their group changes its protocol or goes away, topics come and go, fetches hang,
//! hooks panic.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use milena::{ConsumerHandle, GroupState, GroupType, NewPartitions, Protocol};
use milena_messages::ApiKey;
use tokio::sync::mpsc;

use super::limits::Wire;
use super::lossy::{Loss, Losses};
use super::members::{
    HEARTBEAT, Seen, WAYS, Way, fill, next, once, read_done, reading, start_grouping, until,
};
use super::*;

const PARTITIONS: i32 = 6;

/// Waits until each of the members has the same part of the partitions.
async fn shared(members: &[&ConsumerHandle]) {
    let part = PARTITIONS as usize / members.len();
    until("shared", || members.iter().all(|member| member.assignment().len() == part)).await;
}

async fn type_of(client: &Client) -> GroupType {
    client.admin().describe_groups(["g"]).await.remove(0).1.expect("described").group_type
}

#[tokio::test]
async fn a_group_goes_over_to_the_consumer_protocol_and_back_while_its_members_read() {
    for way in [Way::Eager, Way::Cooperative] {
        let (_cluster, client) = start_grouping(1, &[("t", PARTITIONS)]).await;
        let (tell, mut seen): (_, Seen) = mpsc::unbounded_channel();
        let classic = way.member(&client, &["t"]).build().await.expect("built");
        let stays = classic.handle();
        reading(0, classic, tell.clone());
        fill(&client, "t", PARTITIONS, 100).await;
        shared(&[&stays]).await;
        assert_eq!(type_of(&client).await, GroupType::Classic);
        // A member that prefers KIP-848 upgrades the group, in which the first one goes on as it began.
        let builder = client.consumer("g").subscribe(["t"]).protocol(Protocol::Automatic);
        let upgrades = builder.build().await.expect("built");
        let leaves = upgrades.handle();
        reading(1, upgrades, tell.clone());
        fill(&client, "t", PARTITIONS, 100).await;
        shared(&[&stays, &leaves]).await;
        assert_eq!(type_of(&client).await, GroupType::Consumer, "{way:?}");
        // A second classic member comes, and the only one of KIP-848 leaves: the group is a classic one again.
        let second = way.member(&client, &["t"]).build().await.expect("built");
        let also_stays = second.handle();
        reading(2, second, tell.clone());
        shared(&[&stays, &leaves, &also_stays]).await;
        timeout(PATIENCE, leaves.close()).await.expect("in time").expect("closed");
        fill(&client, "t", PARTITIONS, 100).await;
        shared(&[&stays, &also_stays]).await;
        assert_eq!(type_of(&client).await, GroupType::Classic, "{way:?}");
        once(&mut seen, PARTITIONS, 300).await;
    }
}

#[tokio::test]
async fn a_member_of_the_consumer_protocol_whose_group_was_deleted_joins_it_again() {
    for protocol in [Protocol::Automatic, Protocol::Consumer] {
        // Between two heartbeats there is time to delete the group.
        let builder = Broker::builder().group_consumer_heartbeat_interval(Duration::from_secs(1));
        let cluster = builder.start().await.expect("started");
        cluster.create_topic("t", 1).expect("created");
        let client = Client::connect(cluster.bootstrap()).await.expect("connected");
        fill(&client, "t", 1, 10).await;
        let builder = client.consumer("g").subscribe(["t"]).protocol(protocol).instance_id("one");
        let mut member = builder.manual_commits().build().await.expect("built");
        assert_eq!(read_done(&mut member, 10).await.len(), 10);
        let admin = client.admin();
        let deleted = async {
            loop {
                let removed = admin.remove_members("g", ["one"]).await.remove(0).1;
                if removed.is_ok() && admin.delete_groups(["g"]).await.remove(0).1.is_ok() {
                    return;
                }
            }
        };
        timeout(PATIENCE, deleted).await.expect("deleted in time");
        // Nothing was committed, so that it begins again.
        assert_eq!(next(&mut member).await.first_offset(), 0, "{protocol:?}");
        assert_eq!(type_of(&client).await, GroupType::Consumer);
    }
}

#[tokio::test]
async fn heartbeats_wait_for_no_fetch() {
    for way in WAYS {
        let builder = Broker::builder().group_initial_rebalance_delay(Duration::ZERO);
        let builder = builder.group_consumer_heartbeat_interval(HEARTBEAT);
        let builder = builder.group_session_timeout_min(Duration::from_millis(100));
        let builder = builder.group_consumer_session_timeout(Duration::from_secs(2));
        let cluster = builder.start().await.expect("started");
        cluster.create_topic("t", 1).expect("created");
        let wire = Wire::default();
        let client = Client::builder().bootstrap(cluster.bootstrap()).connector(wire.clone()).connect().await;
        let client = client.expect("connected");
        fill(&client, "t", 1, 1).await;
        let losses = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&losses);
        let mut builder = way.member(&client, &["t"]).on_lost(move |_, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            async {}
        });
        if way != Way::Consumer {
            builder = builder.session_timeout(Duration::from_secs(2));
        }
        let mut member = builder.build().await.expect("built");
        next(&mut member).await;
        // No fetch is answered for more than two sessions, as if a large answer came over a slow line.
        wire.silence_fetches();
        let waited = timeout(Duration::from_secs(5), member.next()).await;
        assert!(waited.is_err(), "{way:?}: {waited:?}");
        assert_eq!((losses.load(Ordering::Relaxed), member.assignment().len()), (0, 1), "{way:?}");
    }
}

#[tokio::test]
async fn a_topic_of_a_pattern_that_is_deleted_and_made_again_is_given_up_and_read_again() {
    for protocol in [Protocol::Classic, Protocol::Consumer] {
        let (cluster, _) = start_grouping(1, &[("orders-eu", 1), ("orders-us", 1)]).await;
        let builder = Client::builder().bootstrap(cluster.bootstrap());
        let builder = builder.settings(|settings| settings.metadata_age_max = Duration::from_secs(1));
        let client = builder.connect().await.expect("connected");
        let builder = client.consumer("g").subscribe_pattern("orders-.*").protocol(protocol);
        let mut member = builder.build().await.expect("built");
        let handle = member.handle();
        let named = || {
            let topics = handle.assignment().into_iter().map(|(topic, _)| topic);
            topics.collect::<BTreeSet<_>>()
        };
        until("both", || named().len() == 2).await;
        let reading = tokio::spawn(async move {
            let mut seen = BTreeSet::new();
            while !seen.contains("after") {
                // That a topic is gone may be told before the member has given it up.
                let Ok(batch) = member.next().await else { continue };
                let batch = batch.expect("not closed");
                let values = batch.iter().map(|record| record.to_owned().value.expect("a value"));
                seen.extend(values.map(|value| String::from_utf8(value).expect("text")));
                member.done(&batch);
            }
            (member, seen)
        });
        client.admin().delete_topics(["orders-us"]).await.expect("asked").remove(0).1.expect("deleted");
        // An eager member gives both up for a moment.
        until("only the deleted one is given up", || named() == BTreeSet::from(["orders-eu".to_owned()]))
            .await;
        let producer = producer(&client).await;
        producer.send(Record::to("orders-eu").value("beside")).await.expect("written");
        cluster.create_topic("orders-us", 1).expect("created");
        until("it is back", || named().len() == 2).await;
        producer.send(Record::to("orders-us").value("after")).await.expect("written");
        let (_member, seen) = timeout(PATIENCE, reading).await.expect("in time").expect("no panic");
        assert!(seen.contains("beside"), "{protocol:?}: {seen:?}");
    }
}

/// The coordinator assigns the partition long before the member asks for metadata because of its age.
#[tokio::test]
async fn a_partition_that_is_added_is_read_as_soon_as_the_coordinator_assigns_it() {
    let (cluster, others) = start_grouping(1, &[("t", 1)]).await;
    let client = Client::connect(cluster.bootstrap()).await.expect("connected");
    let mut member = Way::Consumer.member(&client, &["t"]).build().await.expect("built");
    until("it is in", || member.assignment().len() == 1).await;
    let grown = others.admin().create_partitions([NewPartitions::total("t", 2)]).await;
    grown.expect("asked").remove(0).1.expect("added");
    let producer = producer(&others).await;
    producer.send(Record::to("t").partition(1).value("new")).await.expect("written");
    let batch = next(&mut member).await;
    assert_eq!((batch.partition(), batch.first_offset()), (1, 0));
}

#[tokio::test]
async fn hooks_that_panic_stop_neither_their_member_nor_its_group() {
    for way in WAYS {
        let (_cluster, client) = start_grouping(1, &[("t", PARTITIONS)]).await;
        fill(&client, "t", PARTITIONS, 10).await;
        let builder = way.member(&client, &["t"]).on_assigned(|_, _| async { panic!("the application's") });
        let builder = builder.on_revoked(|_, _| async { panic!("the application's") });
        let (tell, mut seen): (_, Seen) = mpsc::unbounded_channel();
        let first = builder.build().await.expect("built");
        let first_handle = first.handle();
        reading(0, first, tell.clone());
        shared(&[&first_handle]).await;
        let second = way.member(&client, &["t"]).build().await.expect("built");
        let second_handle = second.handle();
        reading(1, second, tell.clone());
        shared(&[&first_handle, &second_handle]).await;
        once(&mut seen, PARTITIONS, 10).await;
        timeout(PATIENCE, first_handle.close()).await.expect("in time").expect("closed");
    }
}

/// The leader has joined and does not know it yet, so its generation is over and the group takes no commits before it has assigned.
#[tokio::test]
async fn a_leader_that_closes_before_its_join_is_answered_commits_what_is_done() {
    let (cluster, others) = start_grouping(1, &[("t", PARTITIONS)]).await;
    let losses = Losses::default();
    let client = Client::builder().bootstrap(cluster.bootstrap()).connector(losses.clone()).connect().await;
    let client = client.expect("connected");
    fill(&others, "t", PARTITIONS, 10).await;
    let mut leader = Way::Cooperative.member(&client, &["t"]).build().await.expect("built");
    let mut batches = Vec::new();
    while batches.len() < PARTITIONS as usize {
        let batch = next(&mut leader).await;
        if batch.next_offset() == 10 {
            batches.push(batch);
        } else {
            leader.done(&batch);
        }
    }
    losses.add(ApiKey::JoinGroup, Loss::Late(Duration::from_millis(500)));
    let mut second = Way::Cooperative.member(&others, &["t"]).build().await.expect("built");
    let reading = tokio::spawn(async move { while let Ok(Some(_)) = second.next().await {} });
    let is_over = async {
        while others.admin().describe_groups(["g"]).await.remove(0).1.expect("described").state
            != GroupState::CompletingRebalance
        {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, is_over).await.expect("both have joined");
    batches.iter().for_each(|batch| leader.done(batch));
    drop(batches);
    timeout(PATIENCE, leader.close()).await.expect("in time").expect("all is committed");
    reading.abort();
    let all = (0..PARTITIONS).map(|partition| ("t", partition));
    for (at, offset) in others.admin().list_group_offsets_of("g", all).await.expect("answered") {
        assert_eq!(offset.expect("answered").map(|committed| committed.offset), Some(10), "{at:?}");
    }
}
