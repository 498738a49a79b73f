//! Commits that say which records above their offset are done (`keep_finished`): what comes again after a restart, and what does not.

use std::collections::BTreeSet;

use milena::{CommittedOffset, GroupConsumerBuilder};

use super::members::{Way, fill, next, start_grouping, until};
use super::*;

fn member(client: &Client) -> GroupConsumerBuilder {
    client.consumer("g").subscribe(["t"]).keep_finished()
}

/// A member that commits when it is told to only, so that dropping it is for the group as if its process had been killed.
async fn manual(client: &Client) -> Consumer {
    member(client).manual_commits().build().await.expect("built")
}

/// The offsets of the records that come until offset `end` has been passed, each of them once.
async fn read_to(consumer: &mut Consumer, end: i64) -> BTreeSet<i64> {
    let mut offsets = BTreeSet::new();
    while consumer.position("t", 0).is_none_or(|position| position < end) {
        let look = timeout(Duration::from_millis(50), consumer.next()).await;
        let Ok(batch) = look else { continue };
        let batch = batch.expect("read").expect("a partition is assigned");
        let count = batch.iter().filter(|record| offsets.insert(record.offset())).count();
        assert_eq!(count, batch.iter().count(), "a record came twice");
        assert!(batch.record_count_max() >= count as u64);
    }
    offsets
}

/// Reads up to `end`, and marks those records as done that `is_done` chooses, in another order than that of their offsets.
async fn work(consumer: &mut Consumer, end: i64, mut is_done: impl FnMut(i64) -> bool) -> BTreeSet<i64> {
    let (mut done, mut at) = (BTreeSet::new(), 0);
    while at < end {
        let batch = next(consumer).await.share();
        at = batch.next_offset();
        let mut chosen: Vec<_> = batch.records().filter(|record| is_done(record.offset())).collect();
        chosen.sort_by_key(|record| record.offset().wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64));
        for record in chosen {
            consumer.done_record(&record.view());
            done.insert(record.offset());
        }
    }
    done
}

/// Chooses each with a chance of `of_ten` in ten.
fn random(mut state: u64, of_ten: u64) -> impl FnMut(i64) -> bool {
    move |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % 10 < of_ten
    }
}

async fn stored(client: &Client) -> CommittedOffset {
    let consumer = client.consumer("g").assign([("t", 0)]).build().await.expect("built");
    let found = timeout(PATIENCE, consumer.committed([("t", 0)])).await.expect("in time").expect("answered");
    found.into_iter().find_map(|(_, offset)| offset).expect("committed")
}

async fn commit(consumer: &Consumer) {
    timeout(PATIENCE, consumer.commit()).await.expect("in time").expect("committed");
}

/// Stores this as the group's, which has no members, or whose last member is leaving.
async fn store(client: &Client, offset: i64, metadata: &str) {
    let mut consumer = client.consumer("g").assign([("t", 0)]).build().await.expect("built");
    drop(next(&mut consumer).await);
    let given = CommittedOffset { offset, leader_epoch: None, metadata: Some(metadata.into()) };
    let stored = async { while consumer.commit_offsets([(("t", 0), given.clone())]).await.is_err() {} };
    timeout(PATIENCE, stored).await.expect("in time");
}

#[tokio::test]
async fn a_restart_returns_only_what_was_not_done_at_the_last_commit() {
    for way in [Way::Cooperative, Way::Consumer] {
        let (_cluster, client) = start_grouping(1, &[("t", 1)]).await;
        fill(&client, "t", 1, 40_000).await;
        let build = || way.member(&client, &["t"]).keep_finished().manual_commits().build();
        let mut consumer = build().await.expect("built");
        let mut choose = random(1, 5);
        // The record at offset 0 is never done.
        let done = work(&mut consumer, 40_000, |offset| offset > 0 && choose(offset)).await;
        assert!(done.len() > 19_000, "{}", done.len());
        commit(&consumer).await;
        drop(consumer);
        let at = stored(&client).await;
        assert_eq!(at.offset, 0);
        let units = at.metadata.map_or(0, |text| text.encode_utf16().count());
        assert!((2_600..2_700).contains(&units), "{units}");

        let mut consumer = build().await.expect("built");
        let again = read_to(&mut consumer, 40_000).await;
        assert!(again.is_disjoint(&done), "{way:?}: what was done comes again");
        assert_eq!(again.len() + done.len(), 40_000, "{way:?}: something is lost");
    }
}

#[tokio::test]
async fn a_cursor_leaves_out_what_was_done_also_where_it_goes_on() {
    let (_cluster, client) = start_grouping(1, &[("t", 1)]).await;
    fill(&client, "t", 1, 1_000).await;
    let mut consumer = manual(&client).await;
    let mut choose = random(3, 5);
    let done = work(&mut consumer, 1_000, |offset| offset > 0 && choose(offset)).await;
    commit(&consumer).await;
    drop(consumer);

    let mut consumer = manual(&client).await;
    let mut again = BTreeSet::new();
    while consumer.position("t", 0).is_none_or(|position| position < 1_000) {
        let Ok(batch) = timeout(Duration::from_millis(50), consumer.next()).await else { continue };
        let mut cursor = batch.expect("read").expect("a partition is assigned").share().cursor();
        while cursor.advance(7, |record| assert!(again.insert(record.offset()))) {}
    }
    assert!(again.is_disjoint(&done), "what was done comes again");
    assert_eq!(again.len() + done.len(), 1_000);
}

#[tokio::test]
async fn what_was_done_after_the_last_commit_comes_again_and_the_rest_does_not() {
    let (_cluster, client) = start_grouping(1, &[("t", 1)]).await;
    fill(&client, "t", 1, 3_000).await;
    let mut consumer = manual(&client).await;
    let mut choose = random(2, 5);
    let done = work(&mut consumer, 3_000, |offset| offset > 0 && choose(offset)).await;
    commit(&consumer).await;
    fill(&client, "t", 1, 500).await;
    work(&mut consumer, 3_500, |_| true).await;
    drop(consumer);

    // Three times, with more done each time.
    let mut all = done;
    for round in 0..3 {
        let mut consumer = manual(&client).await;
        let mut choose = random(round, 3);
        let mut came = BTreeSet::new();
        let done = work(&mut consumer, 3_500, |offset| {
            came.insert(offset);
            offset > 0 && choose(offset)
        });
        let done = done.await;
        assert!(came.is_disjoint(&all), "round {round}");
        assert_eq!(came.len() + all.len(), 3_500, "round {round}");
        all.extend(done);
        commit(&consumer).await;
        drop(consumer);
    }
    let mut consumer = manual(&client).await;
    let left = work(&mut consumer, 3_500, |_| true).await;
    assert_eq!(left.len() + all.len(), 3_500);
    commit(&consumer).await;
    let last = stored(&client).await;
    assert_eq!((last.offset, last.metadata), (3_500, None));
}

#[tokio::test]
async fn what_is_done_above_the_offset_is_committed_by_itself_and_at_the_end() {
    let (_cluster, client) = start_grouping(1, &[("t", 1)]).await;
    fill(&client, "t", 1, 100).await;
    let mut consumer =
        member(&client).commit_interval(Duration::from_millis(20)).build().await.expect("built");
    work(&mut consumer, 100, |offset| offset == 50).await;
    let has_metadata = || async {
        let found = consumer.committed([("t", 0)]).await.expect("answered");
        found[0].1.as_ref().is_some_and(|of| of.metadata.is_some())
    };
    timeout(PATIENCE, async {
        while !has_metadata().await {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("in time");
    let before = stored(&client).await;
    assert_eq!(before.offset, 0);
    timeout(PATIENCE, consumer.close()).await.expect("in time").expect("closed");
    assert_eq!(stored(&client).await, before, "nothing has changed");

    let mut consumer =
        member(&client).commit_interval(Duration::from_secs(3_600)).build().await.expect("built");
    assert_eq!(work(&mut consumer, 100, |offset| offset > 90).await.len(), 9);
    timeout(PATIENCE, consumer.close()).await.expect("in time").expect("closed");
    let mut consumer = manual(&client).await;
    let left = read_to(&mut consumer, 91).await;
    assert_eq!(left, (0..91).filter(|offset| *offset != 50).collect());
}

#[tokio::test]
async fn a_broker_that_takes_less_gets_less_and_no_record_is_lost() {
    for limit in ["1000", "520", "10", "0"] {
        let builder = Broker::builder().group_initial_rebalance_delay(Duration::ZERO);
        let cluster = builder.config("offset.metadata.max.bytes", limit).start().await.expect("started");
        cluster.create_topic("t", 1).expect("created");
        let client = Client::connect(cluster.bootstrap()).await.expect("connected");
        fill(&client, "t", 1, 20_000).await;
        let mut consumer = manual(&client).await;
        let mut choose = random(3, 5);
        let done = work(&mut consumer, 20_000, |offset| offset > 0 && choose(offset)).await;
        commit(&consumer).await;
        drop(consumer);

        let mut consumer = manual(&client).await;
        let again = read_to(&mut consumer, 20_000).await;
        let kept: BTreeSet<_> = done.difference(&again).copied().collect();
        assert_eq!(again.len() + kept.len(), 20_000, "{limit}");
        // Those at the beginning are kept.
        let last = kept.last().copied().unwrap_or(0);
        assert_eq!(kept, done.range(..=last).copied().collect(), "{limit}");
        let kept_min = match limit {
            "1000" => 1_000,
            "520" => 1_000,
            _ => 0,
        };
        assert!(kept.len() > kept_min || kept_min == 0, "{limit}: {} are kept", kept.len());
    }
}

#[tokio::test]
async fn parts_of_batches_readers_of_partitions_and_codecs_leave_it_out_too() {
    for (codec, parts) in
        [(Compression::Lz4, None), (Compression::None, Some("7")), (Compression::Zstd, Some("7"))]
    {
        let (cluster, writer) = start_grouping(1, &[("t", 1)]).await;
        let producer = writer.producer().compression(codec).build().await.expect("built");
        for index in 0..1_000 {
            producer.post(Record::to("t").value(index.to_string())).await.expect("taken");
        }
        producer.flush().await.expect("flushed");
        let properties = parts.map(|parts| ("max.poll.records", parts));
        let builder = Client::from_properties(properties).expect("known").bootstrap(cluster.bootstrap());
        let client = builder.connect().await.expect("connected");
        let mut consumer = manual(&client).await;
        // Whole parts, and single records.
        let is_done = |offset: i64| (100..600).contains(&offset) || offset % 3 == 1;
        let done = work(&mut consumer, 1_000, is_done).await;
        commit(&consumer).await;
        drop(consumer);

        let consumer = manual(&client).await;
        let mut reader = None;
        let is_there = || {
            reader = consumer.partitions().pop();
            reader.is_some()
        };
        until("the partition is assigned", is_there).await;
        let mut reader = reader.expect("it is");
        let mut again = BTreeSet::new();
        while reader.position() != Some(1_000) {
            let batch =
                timeout(PATIENCE, reader.next()).await.expect("in time").expect("read").expect("assigned");
            assert!(batch.iter().next().is_some(), "a batch without a record");
            let shared = batch.share();
            let records: Vec<_> = shared.records().map(|record| record.offset()).collect();
            assert_eq!(records, shared.iter().map(|record| record.offset()).collect::<Vec<_>>());
            assert!(shared.batch().record_count_max() >= records.len() as u64);
            reader.done_part(&shared);
            again.extend(records);
        }
        let left: BTreeSet<_> = (0..1_000).filter(|offset| !done.contains(offset)).collect();
        assert_eq!(again, left, "{codec:?} {parts:?}");
        // What was left out counts as done.
        commit(&consumer).await;
        let last = stored(&client).await;
        assert_eq!((last.offset, last.metadata), (1_000, None));
    }
}

#[tokio::test]
async fn a_map_that_reaches_past_the_end_skips_nothing() {
    let (_cluster, client) = start_grouping(1, &[("t", 1)]).await;
    fill(&client, "t", 1, 50).await;
    // One offset is unfinished, and two billion are finished, as Parallel Consumer would write it.
    store(&client, 3, "ZQAAAAF/////").await;
    let mut consumer = manual(&client).await;
    assert_eq!(read_to(&mut consumer, 50).await, (3..50).collect());
    // One finished offset more than the log has; and one less, which it has.
    drop(consumer);
    store(&client, 3, "bgABAC8=").await;
    let mut consumer = manual(&client).await;
    assert_eq!(read_to(&mut consumer, 50).await, (3..50).collect());
    drop(consumer);
    store(&client, 3, "bgABAC4=").await;
    let mut consumer = manual(&client).await;
    assert_eq!(read_to(&mut consumer, 50).await, BTreeSet::from([3]));
}

#[tokio::test]
async fn metadata_of_others_and_a_consumer_without_the_setting_change_nothing() {
    let (_cluster, client) = start_grouping(1, &[("t", 1)]).await;
    fill(&client, "t", 1, 50).await;
    store(&client, 3, "by the nightly job").await;
    let mut consumer = manual(&client).await;
    assert_eq!(read_to(&mut consumer, 50).await, (3..50).collect());
    drop(consumer);
    assert_eq!(stored(&client).await.metadata.as_deref(), Some("by the nightly job"));
    store(&client, 3, "bgABAC4=").await;
    let mut consumer = client.consumer("g").subscribe(["t"]).manual_commits().build().await.expect("built");
    assert_eq!(read_to(&mut consumer, 50).await, (3..50).collect());
}

#[tokio::test]
async fn a_seek_back_returns_everything_again() {
    let (_cluster, client) = start_grouping(1, &[("t", 1)]).await;
    fill(&client, "t", 1, 50).await;
    // Offsets 13 to 19 are finished.
    store(&client, 10, "bgADAAc=").await;
    let unfinished = || (10..13).chain(20..50).collect::<BTreeSet<i64>>();
    let mut consumer = manual(&client).await;
    assert_eq!(read_to(&mut consumer, 50).await, unfinished());
    consumer.seek("t", 0, Position::Offset(12)).expect("assigned");
    assert_eq!(read_to(&mut consumer, 50).await, (12..50).collect());
    drop(consumer);
    // A program that goes back to what is committed goes back to this too.
    let mut consumer = manual(&client).await;
    assert_eq!(read_to(&mut consumer, 50).await, unfinished());
    timeout(PATIENCE, consumer.rewind()).await.expect("in time").expect("gone back");
    assert_eq!(read_to(&mut consumer, 50).await, unfinished());
    // One that goes on leaves it out as well.
    timeout(PATIENCE, consumer.rewind()).await.expect("in time").expect("gone back");
    consumer.seek("t", 0, Position::Offset(15)).expect("assigned");
    assert_eq!(read_to(&mut consumer, 50).await, (20..50).collect());
    drop(consumer);
    // A hook that seeks gets everything from there on.
    let member = member(&client).manual_commits().on_assigned(|_, handle| async move {
        handle.seek("t", 0, Position::Offset(12)).expect("assigned");
    });
    let mut consumer = member.build().await.expect("built");
    assert_eq!(read_to(&mut consumer, 50).await, (12..50).collect());
}

#[tokio::test]
async fn a_transaction_stores_it_and_one_that_is_aborted_does_not() {
    let (_cluster, client) = start_grouping(1, &[("t", 1), ("out", 1)]).await;
    fill(&client, "t", 1, 1_000).await;
    let mut consumer = manual(&client).await;
    let mut producer = client.transactional("x").build().await.expect("built");
    let mut choose = random(5, 5);
    let done = work(&mut consumer, 1_000, |offset| offset > 0 && choose(offset)).await;
    let txn = producer.begin().await.expect("begun");
    txn.post(Record::to("out").value("x")).await.expect("taken");
    txn.commit_offsets(&consumer).await.expect("in the transaction");
    txn.commit().await.expect("committed");
    let left = || (0..1_000).filter(|offset| !done.contains(offset)).collect::<BTreeSet<_>>();
    let first = stored(&client).await;
    assert!(first.offset == 0 && first.metadata.is_some());

    timeout(PATIENCE, consumer.rewind()).await.expect("in time").expect("gone back");
    let more = work(&mut consumer, 1_000, |offset| offset > 500).await;
    assert_eq!(more, left().split_off(&501));
    let txn = producer.begin().await.expect("begun");
    txn.commit_offsets(&consumer).await.expect("in the transaction");
    txn.abort().await.expect("aborted");
    assert_eq!(stored(&client).await, first);
    timeout(PATIENCE, consumer.rewind()).await.expect("in time").expect("gone back");
    assert_eq!(read_to(&mut consumer, 1_000).await, left());
}

#[tokio::test]
async fn a_transaction_that_a_broker_refuses_for_its_metadata_succeeds_at_the_next_attempts() {
    let builder = Broker::builder().group_initial_rebalance_delay(Duration::ZERO);
    let cluster = builder.config("offset.metadata.max.bytes", "1000").start().await.expect("started");
    cluster.create_topic("t", 1).expect("created");
    let client = Client::connect(cluster.bootstrap()).await.expect("connected");
    fill(&client, "t", 1, 20_000).await;
    let mut consumer = manual(&client).await;
    let mut producer = client.transactional("x").build().await.expect("built");
    let mut refused = 0;
    loop {
        let mut choose = random(5, 5);
        work(&mut consumer, 20_000, |offset| offset > 0 && choose(offset)).await;
        let txn = producer.begin().await.expect("begun");
        match txn.commit_offsets(&consumer).await {
            Ok(()) => break txn.commit().await.expect("committed"),
            Err(error) => assert!(error.requires_abort(), "{error}"),
        }
        txn.abort().await.expect("aborted");
        timeout(PATIENCE, consumer.rewind()).await.expect("in time").expect("gone back");
        refused += 1;
    }
    // Wide, and then 4 096, 2 048 and 1 024 bytes; 512 are taken.
    assert_eq!(refused, 4);
    assert_eq!(stored(&client).await.metadata.map(|text| text.len()), Some(512));
}

#[tokio::test]
async fn at_most_once_has_nothing_to_keep() {
    let (_cluster, client) = start_grouping(1, &[("t", 1)]).await;
    let error = member(&client).at_most_once().build().await.expect_err("it makes no sense");
    assert!(error.to_string().contains("keep_finished"), "{error}");
}
