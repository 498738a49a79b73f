//! Consumers that read the partitions they are given and commit to a group without being its members.

use std::collections::BTreeSet;

use milena::{CommittedOffset, ErrorCode, GroupState};

use super::members::{WAYS, fill, next, read_done, start_grouping, until};
use super::*;

async fn outside(client: &Client, partitions: i32) -> Consumer {
    let partitions = (0..partitions).map(|partition| ("t", partition));
    client.consumer("g").assign(partitions).build().await.expect("built")
}

async fn committed(consumer: &Consumer, partitions: i32) -> Vec<Option<CommittedOffset>> {
    let partitions = (0..partitions).map(|partition| ("t", partition));
    let found = timeout(PATIENCE, consumer.committed(partitions)).await.expect("in time").expect("answered");
    found.into_iter().map(|(_, offset)| offset).collect()
}

async fn offsets(consumer: &Consumer, partitions: i32) -> Vec<Option<i64>> {
    let found = committed(consumer, partitions).await;
    found.into_iter().map(|offset| offset.map(|offset| offset.offset)).collect()
}

async fn close(consumer: &Consumer) -> Result<(), Error> {
    timeout(PATIENCE, consumer.close()).await.expect("in time")
}

#[tokio::test]
async fn it_goes_on_at_what_it_has_committed_and_is_no_member() {
    let (cluster, client) = start_grouping(3, &[]).await;
    client.admin().create_topic(NewTopic::new("t").partitions(2).replication(3)).await.expect("made");
    fill(&client, "t", 2, 10).await;
    let mut first = outside(&client, 2).await;
    assert_eq!(first.assignment(), [("t".to_owned(), 0), ("t".to_owned(), 1)]);
    for _ in 0..2 {
        let batch = next(&mut first).await;
        if batch.partition() == 0 {
            first.done(&batch);
        } else {
            first.done_up_to(&batch.iter().nth(3).expect("ten records"));
        }
    }
    close(&first).await.expect("closed");
    assert!(first.next().await.expect("no error").is_none(), "it was closed");
    assert!(first.assignment().is_empty());
    let group = client.admin().describe_groups(["g"]).await.remove(0).1.expect("described");
    assert_eq!((group.state, group.members.len()), (GroupState::Empty, 0));

    // A new leader has a new epoch, and the committed one says of which epoch the last record is (KIP-320).
    let old = cluster.leader("t", 0).expect("led");
    let other = cluster.addresses().keys().copied().find(|node| *node != old).expect("others");
    cluster.move_leader("t", 0, other).expect("moved");
    fill(&client, "t", 2, 1).await;
    let mut second = outside(&client, 2).await;
    let found = committed(&second, 2).await;
    assert_eq!(found.iter().flatten().map(|of| of.offset).collect::<Vec<_>>(), [10, 4]);
    assert!(found.iter().flatten().all(|of| of.leader_epoch == Some(0)), "{found:?}");
    let seen: BTreeSet<_> = read_done(&mut second, 8).await.into_iter().collect();
    let expected = [(0, 10)].into_iter().chain((4..11).map(|offset| (1, offset)));
    assert_eq!(seen, expected.collect());
    close(&second).await.expect("closed");

    // Members of the group go on there as well.
    for way in WAYS {
        fill(&client, "t", 2, 1).await;
        let mut member = way.member(&client, &["t"]).build().await.expect("built");
        let seen = read_done(&mut member, 2).await;
        assert!(seen.iter().all(|(_, offset)| *offset >= 11), "{way:?}: {seen:?}");
        close(&member).await.expect("closed");
    }
}

#[tokio::test]
async fn what_is_done_is_committed_in_the_background_and_by_one_that_is_dropped() {
    let (_cluster, client) = start_grouping(1, &[("t", 1)]).await;
    fill(&client, "t", 1, 10).await;
    let builder = client.consumer("g").assign([("t", 0)]).commit_interval(Duration::from_millis(20));
    let mut first = builder.build().await.expect("built");
    read_done(&mut first, 10).await;
    let stored = async {
        while offsets(&first, 1).await != [Some(10)] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, stored).await.expect("committed");
    let builder = client.consumer("g").assign([("t", 0)]).commit_interval(Duration::from_secs(600));
    fill(&client, "t", 1, 5).await;
    let mut second = builder.build().await.expect("built");
    read_done(&mut second, 5).await;
    drop(second);
    let stored = async {
        while offsets(&first, 1).await != [Some(15)] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, stored).await.expect("committed");
}

#[tokio::test]
async fn offsets_are_committed_by_hand() {
    let (_cluster, client) = start_grouping(1, &[("t", 1)]).await;
    fill(&client, "t", 1, 10).await;
    let builder = client.consumer("g").assign([("t", 0)]).manual_commits();
    let mut consumer = builder.build().await.expect("built");
    let batch = next(&mut consumer).await;
    consumer.done(&batch);
    consumer.commit_offsets([(("t", 0), 4)]).await.expect("committed");
    assert_eq!(offsets(&consumer, 1).await, [Some(4)]);
    consumer.commit().await.expect("committed");
    assert_eq!(offsets(&consumer, 1).await, [Some(10)]);
    let error = consumer.commit_offsets([(("t", 1), 4)]).await.expect_err("not assigned");
    assert!(error.to_string().contains("offset 4 of t-1"), "{error}");
    // Closing commits nothing by itself.
    fill(&client, "t", 1, 5).await;
    read_done(&mut consumer, 5).await;
    close(&consumer).await.expect("closed");
    assert_eq!(offsets(&outside(&client, 1).await, 1).await, [Some(10)]);
}

#[tokio::test]
async fn with_at_most_once_a_batch_is_committed_before_it_is_returned() {
    let (_cluster, client) = start_grouping(1, &[("t", 2)]).await;
    for _ in 0..3 {
        fill(&client, "t", 2, 2).await;
    }
    let build = || client.consumer("g").assign([("t", 0), ("t", 1)]).at_most_once().build();
    let mut seen = BTreeSet::new();
    let mut first = build().await.expect("built");
    for _ in 0..3 {
        let batch = next(&mut first).await;
        let stored = offsets(&first, 2).await[batch.partition() as usize];
        assert!(stored >= Some(batch.next_offset()), "{stored:?} and {batch:?}");
        seen.extend(batch.iter().map(|record| (record.partition(), record.offset())));
    }
    close(&first).await.expect("closed");
    let mut second = build().await.expect("built");
    while seen.len() < 12 {
        for record in &next(&mut second).await {
            assert!(seen.insert((record.partition(), record.offset())), "twice");
        }
    }
}

#[tokio::test]
async fn a_group_with_members_takes_no_commits_and_the_error_says_why() {
    for way in WAYS {
        let (_cluster, client) = start_grouping(1, &[("t", 2)]).await;
        fill(&client, "t", 2, 10).await;
        let member = way.member(&client, &["t"]).build().await.expect("built");
        until("assigned", || member.assignment().len() == 2).await;
        let refused = |error: &Error| {
            assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_MEMBER_ID), "{way:?}: {error}");
            assert!(error.to_string().contains("the group has members, and only they can commit"), "{error}");
        };
        let mut consumer = outside(&client, 2).await;
        let seen = read_done(&mut consumer, 20).await;
        assert_eq!(seen.len(), 20, "reading needs no commit");
        let error = timeout(PATIENCE, consumer.commit()).await.expect("in time").expect_err("refused");
        refused(&error);
        assert_eq!(error.uncommitted().len(), 2);
        let error = close(&consumer).await.expect_err("refused");
        refused(&error);
        assert_eq!(error.uncommitted().len(), 2);

        // One that may return nothing before it is committed says so, and does not wait without end.
        let builder = client.consumer("g").assign([("t", 0), ("t", 1)]).at_most_once();
        let mut careful = builder.build().await.expect("built");
        let error = timeout(PATIENCE, careful.next()).await.expect("in time").expect_err("refused");
        refused(&error);

        // Once the members have gone, it can.
        close(&member).await.expect("closed");
        let mut consumer = outside(&client, 2).await;
        read_done(&mut consumer, 20).await;
        close(&consumer).await.expect("closed");
        let again = outside(&client, 2).await;
        assert_eq!(offsets(&again, 2).await, [Some(10); 2], "{way:?}");
    }
}

#[tokio::test]
async fn subscribing_and_assigning_do_not_go_together() {
    let (_cluster, client) = start_grouping(1, &[("t", 2)]).await;
    let both = |error: Error| {
        let text = error.to_string();
        assert!(text.contains("subscribe()") && text.contains("assign()"), "{text}");
    };
    let builder = || client.consumer("g").assign([("t", 0)]);
    both(builder().subscribe(["t"]).build().await.expect_err("both"));
    both(builder().subscribe_pattern("t.*").build().await.expect_err("both"));
    let told = |error: Error, method: &str| {
        let text = error.to_string();
        assert!(text.contains(method) && text.contains("assign() makes the consumer none"), "{text}");
    };
    told(builder().instance_id("one").build().await.expect_err("no member"), "instance_id()");
    told(builder().on_lost(|_, _| async {}).build().await.expect_err("no member"), "on_lost()");

    let given = outside(&client, 1).await;
    both(given.subscribe(["t"]).expect_err("assigned"));
    both(given.subscribe_pattern("t").expect_err("assigned"));
    assert_eq!(given.assignment().len(), 1, "nothing has changed");

    let member = client.consumer("h").subscribe(["t"]).build().await.expect("built");
    until("assigned", || member.assignment().len() == 2).await;
    both(member.assign([("t", 0)], Position::Earliest).await.expect_err("a member"));
    both(member.assign_committed([("t", 0)]).await.expect_err("a member"));
    both(member.unassign([("t", 0)]).expect_err("a member"));
    both(member.handle().unassign([("t", 0)]).expect_err("a member"));
    assert_eq!(member.assignment().len(), 2, "nothing has changed");

    let direct = consumer(&client, "t", 1).await;
    let error = direct.assign_committed([("t", 1)]).await.expect_err("no group");
    assert!(error.to_string().contains("the consumer is in no group"), "{error}");
    let error = client.consumer("g").assign([("t", 7)]).build().await.expect_err("no partition");
    assert!(error.to_string().contains("the topic has 2 partitions"), "{error}");
    let error = client.consumer("").assign([("t", 0)]).build().await.expect_err("no group id");
    assert!(error.to_string().contains("the group id is empty"), "{error}");
}

#[tokio::test]
async fn partitions_are_assigned_and_unassigned_while_it_runs() {
    let (_cluster, client) = start_grouping(1, &[("t", 3)]).await;
    fill(&client, "t", 3, 10).await;
    let none: [(&str, i32); 0] = [];
    let mut consumer = client.consumer("g").assign(none).build().await.expect("built");
    assert!(
        timeout(PATIENCE, consumer.next()).await.expect("in time").expect("read").is_none(),
        "nothing yet"
    );

    consumer.assign_committed([("t", 0)]).await.expect("assigned");
    consumer.assign([("t", 1)], Position::Offset(7)).await.expect("assigned");
    let mut seen = BTreeSet::new();
    while seen.len() < 13 {
        let batch = next(&mut consumer).await;
        seen.extend(batch.iter().map(|record| (record.partition(), record.offset())));
        match batch.partition() {
            0 => consumer.done_up_to(&batch.iter().nth(5).expect("ten records")),
            _ => consumer.done(&batch),
        }
        drop(batch);
    }
    let expected = (0..10).map(|offset| (0, offset)).chain((7..10).map(|offset| (1, offset)));
    assert_eq!(seen, expected.collect());

    // What is done is committed before a partition that is assigned again is looked up, however soon that is.
    for round in 0..20 {
        consumer.unassign([("t", 0)]).expect("assigned");
        assert_eq!(consumer.position("t", 0), None);
        consumer.assign_committed([("t", 0)]).await.expect("assigned");
        let batch = next(&mut consumer).await;
        assert_eq!((batch.partition(), batch.first_offset()), (0, 6), "round {round}");
    }
    // A batch that is still in hand holds nothing up, and marks of it do not count once its partition was given up.
    consumer.seek("t", 0, Position::Offset(6)).expect("assigned");
    let held = next(&mut consumer).await;
    consumer.unassign([("t", 0)]).expect("assigned");
    consumer.assign_committed([("t", 0)]).await.expect("assigned");
    assert_eq!(next(&mut consumer).await.first_offset(), 6);
    consumer.done(&held);
    let error = timeout(PATIENCE, consumer.commit()).await.expect("in time").expect_err("it was given up");
    let listed: Vec<_> = error.uncommitted().iter().map(|of| (&*of.topic, of.partition, of.offset)).collect();
    assert_eq!(listed, [("t", 0, 10)], "{error}");
    assert_eq!(offsets(&consumer, 1).await, [Some(6)]);

    // Assigned again, it goes on where it is; a seek right after an assignment counts.
    consumer.assign_committed([("t", 1)]).await.expect("assigned");
    assert_eq!(consumer.position("t", 1), Some(10));
    consumer.assign_committed([("t", 2)]).await.expect("assigned");
    consumer.seek("t", 2, Position::Offset(9)).expect("assigned");
    let batch = next(&mut consumer).await;
    assert_eq!((batch.partition(), batch.first_offset()), (2, 9));
    consumer.unassign([("t", 0), ("t", 1), ("t", 2)]).expect("assigned");
    assert!(timeout(PATIENCE, consumer.next()).await.expect("in time").expect("read").is_none());
    close(&consumer).await.expect("closed");
    let error = consumer.assign_committed([("t", 0)]).await.expect_err("it was closed");
    assert!(error.to_string().contains("the consumer was closed"), "{error}");
}

#[tokio::test]
async fn closing_waits_for_batches_in_hand_and_partitions_read_on_their_own_end() {
    let (_cluster, client) = start_grouping(1, &[("t", 2)]).await;
    fill(&client, "t", 2, 10).await;
    let consumer = outside(&client, 2).await;
    let mut readers = consumer.partitions();
    assert_eq!(readers.len(), 2, "they are there at once");
    let handle = consumer.handle();
    let mut tasks = Vec::new();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    for mut reader in readers.drain(..) {
        let tell = tell.clone();
        tasks.push(tokio::spawn(async move {
            let batch = reader.next().await.expect("read").expect("a batch");
            tell.send(()).expect("heard");
            tokio::time::sleep(Duration::from_millis(100)).await;
            reader.done(&batch);
            drop(batch);
            while reader.next().await.expect("read").is_some() {}
        }));
    }
    for _ in 0..2 {
        timeout(PATIENCE, told.recv()).await.expect("in time").expect("told");
    }
    timeout(PATIENCE, handle.close()).await.expect("in time").expect("closed");
    for task in tasks {
        timeout(PATIENCE, task).await.expect("ended").expect("no panic");
    }
    assert_eq!(offsets(&outside(&client, 2).await, 2).await, [Some(10); 2]);
}

#[tokio::test]
async fn the_reset_policy_says_where_to_begin_without_an_offset() {
    let (_cluster, client) = start_grouping(1, &[("t", 1)]).await;
    fill(&client, "t", 1, 10).await;
    let build = |reset| client.consumer(format!("g-{reset:?}")).assign([("t", 0)]).reset(reset).build();
    assert_eq!(next(&mut build(Reset::Earliest).await.expect("built")).await.first_offset(), 0);
    let mut latest = build(Reset::Latest).await.expect("built");
    until("at the end", || latest.position("t", 0) == Some(10)).await;
    fill(&client, "t", 1, 1).await;
    assert_eq!(next(&mut latest).await.first_offset(), 10);
    let mut failing = build(Reset::Fail).await.expect("built");
    let error = timeout(PATIENCE, failing.next()).await.expect("in time").expect_err("no offset");
    assert!(error.to_string().contains("the group has committed no offset of it"), "{error}");
}
