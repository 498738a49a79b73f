//! Transactions: what readers see of them, whatever happens to their requests.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use milena::{Isolation, TransactionEnd, TransactionalProducer};
use milena_messages::ApiKey;

use super::holding::Warnings;
use super::lossy::{Loss, Losses};
use super::*;

/// A cluster with transactions of this version, and a client whose requests may be lost.
async fn cluster(version: i16, topics: &[(&str, i32)]) -> (Cluster, Client, Losses) {
    let builder = Broker::builder().nodes(3).transaction_version(version);
    let builder = builder.group_initial_rebalance_delay(Duration::ZERO);
    let cluster = builder.start().await.expect("started");
    for (topic, partitions) in topics {
        cluster.create_topic(topic, *partitions).expect("created");
    }
    let losses = Losses::default();
    let client = client_of(&cluster, &losses, PATIENCE).await;
    (cluster, client, losses)
}

async fn client_of(cluster: &Cluster, losses: &Losses, request_timeout: Duration) -> Client {
    let client = Client::builder().bootstrap(cluster.bootstrap()).connector(losses.clone());
    client.request_timeout(request_timeout).connect().await.expect("connected")
}

async fn transactional(client: &Client) -> TransactionalProducer {
    timeout(PATIENCE, client.transactional("billing").build()).await.expect("in time").expect("built")
}

/// The values of a topic that a reader of this isolation level sees, up to the end.
async fn values(cluster: &Cluster, topic: &str, isolation: Isolation) -> Vec<String> {
    let client = Client::connect(cluster.bootstrap()).await.expect("connected");
    let builder = client.consumer_direct().topic(topic).isolation(isolation).until_end();
    let mut consumer = builder.build().await.expect("built");
    let mut values = Vec::new();
    while let Some(batch) = timeout(PATIENCE, consumer.next()).await.expect("in time").expect("read") {
        for record in &batch {
            values.push(String::from_utf8_lossy(record.value().expect("a value")).into_owned());
        }
    }
    values.sort();
    values
}

async fn committed(cluster: &Cluster, topic: &str) -> Vec<String> {
    values(cluster, topic, Isolation::ReadCommitted).await
}

const VERSIONS: [i16; 2] = [1, 2];

#[tokio::test]
async fn readers_see_what_is_committed_and_nothing_of_what_is_aborted_or_dropped() {
    for version in VERSIONS {
        let (cluster, client, _) = cluster(version, &[("t", 3), ("u", 1)]).await;
        let mut producer = transactional(&client).await;
        for round in 0..3 {
            let transaction = producer.begin().await.expect("begun");
            for partition in 0..3 {
                let value = format!("committed {round} {partition}");
                transaction.post(Record::to("t").partition(partition).value(&value)).await.expect("taken");
            }
            transaction.post(Record::to("u").value("u")).await.expect("taken");
            transaction.commit().await.expect("committed");
            assert_eq!(producer.resolve().await.expect("known"), Some(TransactionEnd::Committed));

            let transaction = producer.begin().await.expect("begun");
            transaction.send(Record::to("t").value("aborted")).await.expect("written");
            transaction.post(Record::to("u").value("aborted")).await.expect("taken");
            transaction.abort().await.expect("aborted");
            assert_eq!(producer.resolve().await.expect("known"), Some(TransactionEnd::Aborted));

            let transaction = producer.begin().await.expect("begun");
            transaction.send(Record::to("t").value("dropped")).await.expect("written");
            transaction.post(Record::to("t").value("dropped")).await.expect("taken");
            drop(transaction);
            let transaction = producer.begin().await.expect("begun");
            transaction.commit().await.expect("there is nothing in it");
        }
        let expected: Vec<_> = (0..3)
            .flat_map(|round| (0..3).map(move |partition| format!("committed {round} {partition}")))
            .collect();
        assert_eq!(committed(&cluster, "t").await, expected, "version {version}");
        assert_eq!(committed(&cluster, "u").await, ["u"; 3], "version {version}");
        let all = values(&cluster, "t", Isolation::ReadUncommitted).await;
        assert!(all.iter().any(|value| value == "aborted"), "it was written: {all:?}");
    }
}

#[tokio::test]
async fn a_second_instance_takes_over_and_the_first_one_is_fenced() {
    for version in VERSIONS {
        let (cluster, client, _) = cluster(version, &[("t", 1)]).await;
        let mut first = transactional(&client).await;
        let open = first.begin().await.expect("begun");
        open.send(Record::to("t").value("left open")).await.expect("written");
        let mut second = transactional(&client).await;
        let error = open.send(Record::to("t").value("late")).await.expect_err("fenced");
        assert!(!error.is_retriable() && !error.maybe_written(), "version {version}: {error}");
        let error = open.commit().await.expect_err("fenced");
        assert!(error.is_fatal() && error.is_fenced(), "version {version}: {error}");
        assert!(!error.is_retriable() && !error.requires_abort() && !error.maybe_written(), "{error}");
        let error = first.begin().await.expect_err("fenced");
        assert!(error.is_fatal() && error.is_fenced(), "version {version}: {error}");
        let transaction = second.begin().await.expect("begun");
        transaction.post(Record::to("t").value("second")).await.expect("taken");
        transaction.commit().await.expect("committed");
        assert_eq!(committed(&cluster, "t").await, ["second"], "version {version}");
    }
}

/// An instance that was fenced before it wrote anything leaves the transaction alone that its successor has open.
#[tokio::test]
async fn an_instance_that_was_fenced_harms_no_transaction_of_its_successor() {
    for version in VERSIONS {
        for ends in ["commit", "abort", "drop"] {
            let (cluster, client, _) = cluster(version, &[("t", 1)]).await;
            let mut first = transactional(&client).await;
            let mut second = transactional(&client).await;
            let late = first.begin().await.expect("begun");
            let open = second.begin().await.expect("begun");
            open.send(Record::to("t").value("second")).await.expect("written");
            let error = late.send(Record::to("t").value("late")).await.expect_err("fenced");
            assert!(!error.is_retriable() && !error.maybe_written(), "version {version}: {error}");
            let ended = match ends {
                "commit" => timeout(PATIENCE, late.commit()).await.expect("in time"),
                "abort" => timeout(PATIENCE, late.abort()).await.expect("in time"),
                _ => {
                    drop(late);
                    timeout(PATIENCE, first.resolve()).await.expect("in time").map(drop)
                }
            };
            let error = ended.expect_err("fenced");
            assert!(error.is_fatal() && error.is_fenced(), "version {version}, {ends}: {error}");
            open.commit().await.unwrap_or_else(|error| panic!("version {version}, {ends}: {error}"));
            assert_eq!(committed(&cluster, "t").await, ["second"], "version {version}, {ends}");
        }
    }
}

#[tokio::test]
async fn lost_requests_and_answers_change_nothing_of_what_is_committed() {
    let keys = [
        ApiKey::FindCoordinator,
        ApiKey::AddPartitionsToTxn,
        ApiKey::AddOffsetsToTxn,
        ApiKey::TxnOffsetCommit,
        ApiKey::Produce,
        ApiKey::EndTxn,
    ];
    for version in VERSIONS {
        let (cluster, client, losses) = cluster(version, &[("in", 1), ("t", 1)]).await;
        let plain = client.producer().build().await.expect("built");
        let mut producer = transactional(&client).await;
        let consumer = client.consumer("g").assign([("in", 0)]).isolation(Isolation::ReadCommitted);
        let mut consumer = consumer.manual_commits().build().await.expect("built");
        let mut expected = Vec::new();
        for (round, (key, loss)) in
            keys.iter().flat_map(|key| [(*key, Loss::Request), (*key, Loss::Answer)]).enumerate()
        {
            let (value, aborted) = (format!("{round:02}"), format!("aborted {round:02}"));
            plain.send(Record::to("in").value(&value)).await.expect("written");
            let batch = timeout(PATIENCE, consumer.next()).await.expect("in time").expect("read");
            let batch = batch.expect("a partition is assigned");
            losses.add(key, loss);
            let transaction = producer.begin().await.expect("begun");
            transaction.post(Record::to("t").value(&value)).await.expect("taken");
            consumer.done(&batch);
            transaction.commit_offsets(&consumer).await.expect("in the transaction");
            transaction
                .commit()
                .await
                .unwrap_or_else(|error| panic!("version {version}, {key:?} {loss:?}: {error}"));
            expected.push(value);
            losses.add(key, loss);
            let transaction = producer.begin().await.expect("begun");
            transaction.post(Record::to("t").value(&aborted)).await.expect("taken");
            let flushed = transaction.flush().await;
            flushed.unwrap_or_else(|error| panic!("version {version}, {key:?} {loss:?}: {error}"));
            transaction.abort().await.expect("aborted");
            let offset =
                consumer.committed([("in", 0)]).await.expect("told").remove(0).1.expect("an offset").offset;
            assert_eq!(offset, expected.len() as i64, "version {version}, {key:?} {loss:?}");
        }
        assert_eq!(committed(&cluster, "t").await, expected, "version {version}");
    }
}

/// With version one a partition is written to once the coordinator has added it.
#[tokio::test]
async fn a_record_that_waits_for_the_coordinator_says_so_when_its_time_is_over() {
    for (loss, last) in [(Loss::Silence, None), (Loss::Answer, Some("the last attempt: lost the connection"))]
    {
        let (_cluster, client, losses) = cluster(1, &[("t", 1)]).await;
        let builder = client.transactional("billing").delivery_timeout(Duration::from_millis(600));
        let mut producer = builder.build().await.expect("built");
        let transaction = producer.begin().await.expect("begun");
        (0..100).for_each(|_| losses.add(ApiKey::AddPartitionsToTxn, loss));
        let sent = timeout(PATIENCE, transaction.send(Record::to("t").value("late"))).await;
        let error = sent.expect("in time").expect_err("never added");
        let text = error.to_string();
        assert!(
            text.contains("waiting for the coordinator to add the partition to the transaction"),
            "{loss:?}: {text}"
        );
        assert!(last.is_none_or(|last| text.contains(last)), "{loss:?}: {text}");
        assert!(error.requires_abort() && !error.maybe_written(), "{loss:?}: {text}");
    }
}

#[tokio::test]
async fn coordinators_move_between_and_within_transactions() {
    for version in VERSIONS {
        let (cluster, client, _) = cluster(version, &[("t", 2)]).await;
        let mut producer = transactional(&client).await;
        let mut expected = Vec::new();
        for round in 0..9 {
            let node = |step: i32| (round + step) % 3 + 1;
            let value = format!("{round}");
            let transaction = producer.begin().await.expect("begun");
            cluster.move_transaction_coordinator("billing", node(0)).expect("moved");
            transaction.send(Record::to("t").partition(0).value(&value)).await.expect("written");
            cluster.move_transaction_coordinator("billing", node(1)).expect("moved");
            transaction.post(Record::to("t").partition(1).value(&value)).await.expect("taken");
            if round % 3 == 2 {
                transaction.abort().await.expect("aborted");
            } else {
                transaction.commit().await.expect("committed");
                expected.extend([value.clone(), value]);
            }
        }
        assert_eq!(committed(&cluster, "t").await, expected, "version {version}");
    }
}

#[tokio::test]
async fn a_record_that_was_not_written_dooms_its_transaction_and_the_next_one_is_good() {
    for version in VERSIONS {
        let (cluster, client, _) = cluster(version, &[("t", 1)]).await;
        let admin = client.admin();
        let small = NewTopic::new("small").partitions(1).config("max.message.bytes", "1000");
        for created in admin.create_topics([small]).await.expect("answered") {
            created.1.expect("created");
        }
        let mut producer = transactional(&client).await;
        let transaction = producer.begin().await.expect("begun");
        transaction.send(Record::to("t").value("doomed")).await.expect("written");
        let error = transaction.send(Record::to("small").value(vec![0; 2000])).await.expect_err("too large");
        assert!(error.requires_abort() && !error.is_fatal(), "{error}");
        let error = transaction.send(Record::to("t").value("after")).await.expect_err("it is doomed");
        assert!(error.requires_abort() && !error.maybe_written(), "{error}");
        let error = transaction.commit().await.expect_err("it is doomed");
        assert!(error.requires_abort() && !error.is_fatal() && !error.is_retriable(), "{error}");
        assert_eq!(error.code_name(), Some("MESSAGE_TOO_LARGE"), "{error}");
        let transaction = producer.begin().await.expect("begun");
        transaction.post(Record::to("small").value("fits")).await.expect("taken");
        transaction.post(Record::to("t").value("good")).await.expect("taken");
        transaction.commit().await.expect("committed");
        assert_eq!(committed(&cluster, "t").await, ["good"], "version {version}");
        assert_eq!(committed(&cluster, "small").await, ["fits"], "version {version}");
    }
}

#[tokio::test]
async fn the_coordinator_ends_a_transaction_that_is_open_for_too_long() {
    for version in VERSIONS {
        let (cluster, client, _) = cluster(version, &[("t", 1)]).await;
        let builder = client.transactional("billing").transaction_timeout(Duration::from_millis(200));
        let mut producer = builder.build().await.expect("built");
        let transaction = producer.begin().await.expect("begun");
        transaction.send(Record::to("t").value("late")).await.expect("written");
        // Until the coordinator has aborted it, nothing after it is stable.
        until_stable(&cluster, 2).await;
        let error = transaction.commit().await.expect_err("it is over");
        assert!(!error.maybe_written() && !error.is_retriable(), "version {version}: {error}");
        if version == 1 {
            // The coordinator says the same when another instance has taken over.
            assert!(error.is_fatal() && error.is_fenced(), "{error}");
            assert!(error.to_string().contains("transaction.timeout.ms"), "{error}");
        } else {
            assert!(error.requires_abort() && !error.is_fatal(), "{error}");
            producer.begin().await.expect("begun").commit().await.expect("committed");
        }
        assert!(committed(&cluster, "t").await.is_empty());
    }
}

/// With version two the producer goes on, whatever it was doing when it learnt that its transaction is over (KAFKA-19367).
#[tokio::test]
async fn whatever_meets_the_end_of_a_transaction_that_timed_out_the_producer_goes_on_with_version_two() {
    for call in ["send", "commit_offsets", "abort", "drop"] {
        let (cluster, client, _) = cluster(2, &[("t", 1), ("in", 1)]).await;
        let builder = client.transactional("billing").transaction_timeout(Duration::from_millis(200));
        let mut producer = builder.build().await.expect("built");
        let consumer =
            client.consumer("g").assign([("in", 0)]).manual_commits().build().await.expect("built");
        let transaction = producer.begin().await.expect("begun");
        transaction.send(Record::to("t").value("late")).await.expect("written");
        transaction.commit_offsets_at(&consumer, [(("in", 0), 1)]).await.expect("in the transaction");
        until_stable(&cluster, 2).await;
        let error = match call {
            "send" => transaction.send(Record::to("t").value("later")).await.err(),
            "commit_offsets" => transaction.commit_offsets_at(&consumer, [(("in", 0), 2)]).await.err(),
            _ => None,
        };
        if let Some(error) = &error {
            assert!(error.requires_abort() && !error.is_fatal() && !error.maybe_written(), "{call}: {error}");
        }
        assert_eq!(error.is_some(), ["send", "commit_offsets"].contains(&call), "{call}");
        match call {
            "drop" => drop(transaction),
            _ => transaction.abort().await.unwrap_or_else(|error| panic!("{call}: {error}")),
        }
        let transaction = timeout(PATIENCE, producer.begin()).await.expect("in time").expect("begun");
        transaction.post(Record::to("t").value("next")).await.expect("taken");
        transaction.commit().await.unwrap_or_else(|error| panic!("{call}: {error}"));
        assert_eq!(committed(&cluster, "t").await, ["next"], "{call}");
        assert_eq!(
            consumer.committed([("in", 0)]).await.expect("told")[0].1.as_ref().map(|of| of.offset),
            None
        );
    }
}

/// Waits until this offset of `t` is stable: transactions before it have ended.
async fn until_stable(cluster: &Cluster, offset: i64) {
    let client = Client::connect(cluster.bootstrap()).await.expect("connected");
    let is_stable = async {
        loop {
            let admin = client.admin().isolation(Isolation::ReadCommitted);
            let end = admin.list_offsets([("t", 0)], OffsetAt::Latest).await.expect("told");
            if end.iter().any(|(_, end)| end.as_ref().is_ok_and(|of| *of >= Some(offset))) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, is_stable).await.expect("stable");
}

/// Each call returns within its own time while its coordinator or leader is silent, and its error names the time.
#[tokio::test]
async fn calls_return_in_their_time_and_name_it_while_a_broker_is_silent() {
    for version in VERSIONS {
        let (cluster, _, losses) = cluster(version, &[("t", 1)]).await;
        let client = client_of(&cluster, &losses, Duration::from_secs(2)).await;
        let build = || {
            let builder = client.transactional("billing");
            builder.settings(|settings| settings.enqueue_timeout = Duration::from_millis(600)).build()
        };
        losses.add(ApiKey::InitProducerId, Loss::Silence);
        let error = timeout(PATIENCE, build()).await.expect("in time").expect_err("silent");
        assert!(error.is_retriable() && !error.is_fatal(), "{error}");
        assert!(error.to_string().contains("within 600ms"), "{error}");

        let mut producer = loop {
            // The silent connection is replaced once its request has timed out.
            match timeout(PATIENCE, build()).await.expect("in time") {
                Ok(producer) => break producer,
                Err(error) => assert!(error.is_retriable(), "{error}"),
            }
        };
        for fate in [TransactionEnd::Committed, TransactionEnd::Aborted] {
            let transaction = producer.begin().await.expect("begun");
            transaction.send(Record::to("t").value("v")).await.expect("written");
            losses.add(ApiKey::EndTxn, Loss::Silence);
            let ended = async {
                match fate {
                    TransactionEnd::Committed => transaction.commit().await,
                    TransactionEnd::Aborted => transaction.abort().await,
                }
            };
            let error = timeout(PATIENCE, ended).await.expect("in time").expect_err("silent");
            assert_eq!(error.maybe_written(), fate == TransactionEnd::Committed, "{error}");
            assert!(!error.is_fatal() && !error.requires_abort(), "{error}");
            assert!(error.to_string().contains("within 600ms"), "{error}");
            let error = timeout(PATIENCE, producer.begin()).await.expect("in time").expect_err("silent");
            assert!(error.is_retriable() && !error.maybe_written(), "{error}");
            assert!(error.to_string().contains("within 600ms"), "{error}");
            let end = loop {
                if let Ok(end) = timeout(PATIENCE, producer.resolve()).await.expect("in time") {
                    break end;
                }
            };
            assert_eq!(end, Some(fate), "version {version}");
        }
        let transaction = producer.begin().await.expect("begun");
        losses.add(ApiKey::Produce, Loss::Silence);
        transaction.post(Record::to("t").value("slow")).await.expect("taken");
        let error = timeout(PATIENCE, transaction.commit()).await.expect("in time").expect_err("silent");
        assert!(error.maybe_written() && error.to_string().contains("not delivered within 600ms"), "{error}");
        let error = producer.close_within(Duration::from_millis(20)).await.expect_err("it is not known yet");
        assert!(error.to_string().contains("within 20ms"), "{error}");
    }
}

#[tokio::test]
async fn closing_aborts_what_was_dropped_and_waits_for_it() {
    for version in VERSIONS {
        let (cluster, client, _) = cluster(version, &[("t", 1)]).await;
        let mut producer = transactional(&client).await;
        let transaction = producer.begin().await.expect("begun");
        transaction.send(Record::to("t").value("dropped")).await.expect("written");
        drop(transaction);
        producer.close_within(PATIENCE).await.expect("ended");
        // The record and the marker are stable, so that nobody waits for the transaction's timeout.
        timeout(Duration::from_secs(10), until_stable(&cluster, 2)).await.expect("stable");
        assert!(committed(&cluster, "t").await.is_empty());
    }
}

/// The runtime that drives the client ends while a commit is on its way.
#[test]
fn a_commit_whose_runtime_ends_may_have_been_carried_out() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let (_cluster, mut producer, losses) = runtime.block_on(async {
        let (cluster, client, losses) = cluster(2, &[("t", 1)]).await;
        let producer = transactional(&client).await;
        (cluster, producer, losses)
    });
    let caller = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let error = caller.block_on(async {
        let transaction = producer.begin().await.expect("begun");
        transaction.send(Record::to("t").value("v")).await.expect("written");
        losses.add(ApiKey::EndTxn, Loss::Silence);
        let mut commit = std::pin::pin!(transaction.commit());
        while !losses.are_over() {
            assert!(timeout(Duration::from_millis(10), &mut commit).await.is_err(), "it is silent");
        }
        runtime.shutdown_background();
        timeout(PATIENCE, commit).await.expect("in time").expect_err("the runtime has ended")
    });
    assert!(error.maybe_written() && error.is_fatal(), "{error}");
}

#[tokio::test]
async fn offsets_whose_call_was_dropped_are_committed_with_the_transaction_or_nothing_is() {
    for version in VERSIONS {
        let (cluster, client, _) = cluster(version, &[("in", 1), ("out", 1)]).await;
        let plain = client.producer().build().await.expect("built");
        let consumer = client.consumer("g").assign([("in", 0)]).isolation(Isolation::ReadCommitted);
        let mut consumer = consumer.manual_commits().build().await.expect("built");
        let mut producer = transactional(&client).await;
        let (mut expected, mut refused) = (Vec::new(), 0);
        for round in 0..12 {
            let value = format!("{round:02}");
            plain.send(Record::to("in").value(&value)).await.expect("written");
            let batch = timeout(PATIENCE, consumer.next()).await.expect("in time").expect("read");
            consumer.done(&batch.expect("a partition is assigned"));
            let transaction = producer.begin().await.expect("begun");
            transaction.post(Record::to("out").value(&value)).await.expect("taken");
            polled(transaction.commit_offsets(&consumer), 1 + round % 4).await.transpose().expect("in it");
            let offset = match transaction.commit().await {
                Ok(()) => {
                    expected.push(value);
                    Some(round as i64 + 1)
                }
                Err(error) => {
                    assert!(error.requires_abort() && !error.is_fatal(), "{error}");
                    refused += 1;
                    None
                }
            };
            let stored = consumer.committed([("in", 0)]).await.expect("told").remove(0).1.map(|of| of.offset);
            assert!(offset.is_none() || stored == offset, "version {version}, {round}: {stored:?}");
            assert!(
                offset.is_some() || stored != Some(round as i64 + 1),
                "version {version}, {round}: {stored:?}"
            );
        }
        assert!(refused > 0 && !expected.is_empty(), "{refused} of 12 were refused");
        assert_eq!(committed(&cluster, "out").await, expected, "version {version}");
    }
}

struct Line(String);

impl<'a> From<&'a Line> for Record<'a> {
    fn from(line: &'a Line) -> Self {
        Record::to("t").value(&line.0)
    }
}

#[tokio::test]
async fn whatever_form_a_record_is_given_in_it_is_in_the_transaction() {
    use futures_util::{StreamExt as _, stream};
    for version in VERSIONS {
        let (cluster, client, _) = cluster(version, &[("t", 1)]).await;
        let mut producer = transactional(&client).await;
        let called = Arc::new(AtomicUsize::new(0));
        let mut expected = Vec::new();
        for is_committed in [true, false, true] {
            let transaction = producer.begin().await.expect("begun");
            let topic = transaction.topic("t").await.expect("there is one");
            let count = |called: &Arc<AtomicUsize>| {
                let called = Arc::clone(called);
                move |result: Result<milena::Receipt, Error>| {
                    result.expect("written");
                    called.fetch_add(1, Ordering::SeqCst);
                }
            };
            transaction.send(Record::to("t").value("send")).await.expect("written");
            let enqueued = transaction.enqueue(Record::to("t").value("enqueue")).await.expect("taken");
            transaction.post(Record::to("t").value("post")).await.expect("taken");
            let tried = transaction.try_enqueue(Record::to("t").value("try_enqueue")).expect("taken");
            let with = transaction.enqueue_with(Record::to("t").value("enqueue_with"), count(&called));
            with.await.expect("taken");
            let all = transaction.send_all(["all 1", "all 2"].map(|line| Record::to("t").value(line))).await;
            assert_eq!(all.expect("written").len(), 2);
            let lines = stream::iter(["sink 1", "sink 2"].map(|line| Ok(Line(line.to_owned()))));
            lines.forward(transaction.sink()).await.expect("written");
            topic.send(Record::new().value("topic send")).await.expect("written");
            topic.post(Record::new().value("topic post")).await.expect("taken");
            let tried_there = topic.try_enqueue(Record::new().value("topic try_enqueue")).expect("taken");
            topic
                .enqueue_with(Record::new().value("topic enqueue_with"), count(&called))
                .await
                .expect("taken");
            for delivery in [enqueued, tried, tried_there] {
                delivery.await.expect("written");
            }
            transaction.flush().await.expect("written");
            if is_committed {
                transaction.commit().await.expect("committed");
                expected.extend([
                    "all 1",
                    "all 2",
                    "enqueue",
                    "enqueue_with",
                    "post",
                    "send",
                    "sink 1",
                    "sink 2",
                    "topic enqueue_with",
                    "topic post",
                    "topic send",
                    "topic try_enqueue",
                    "try_enqueue",
                ]);
            } else {
                transaction.abort().await.expect("aborted");
            }
        }
        assert_eq!(called.load(Ordering::SeqCst), 6);
        expected.sort_unstable();
        assert_eq!(committed(&cluster, "t").await, expected, "version {version}");
    }
}

/// What an abort takes back is told once to each who waits for it, and an interceptor hears the batch.
#[tokio::test]
async fn an_abort_fails_what_was_not_sent_and_tells_each_record_once() {
    #[derive(Debug, Default)]
    struct Settled(AtomicUsize);
    impl milena::Interceptor for Settled {
        fn settled(&self, batch: &milena::SettledBatch<'_>) {
            let error = batch.result.expect_err("it was aborted");
            assert!(!error.maybe_written(), "{error}");
            self.0.fetch_add(batch.records as usize, Ordering::SeqCst);
        }
    }
    for version in VERSIONS {
        let (cluster, client, losses) = cluster(version, &[("t", 1)]).await;
        let settled = Arc::new(Settled::default());
        // The metadata is there, so that the records wait for the partition's admission or for their linger.
        let producer = client.transactional("billing").linger(PATIENCE).interceptor(settled.clone());
        let mut producer = producer.build().await.expect("built");
        let transaction = producer.begin().await.expect("begun");
        let topic = transaction.topic("t").await.expect("there is one");
        losses.add(ApiKey::AddPartitionsToTxn, Loss::Late(Duration::from_millis(100)));
        losses.add(ApiKey::Produce, Loss::Request);
        let told = Arc::new(Mutex::new(Vec::new()));
        let mut deliveries = Vec::new();
        for index in 0..10 {
            deliveries.push(topic.try_enqueue(Record::new().value("aborted")).expect("taken"));
            let told = Arc::clone(&told);
            let record = Record::new().value("aborted");
            let tell = move |result: Result<milena::Receipt, Error>| {
                told.lock().expect("not poisoned").push((index, result.expect_err("it was aborted")));
            };
            topic.enqueue_with(record, tell).await.expect("taken");
        }
        transaction.abort().await.expect("aborted");
        for delivery in deliveries {
            let error = delivery.await.expect_err("it was aborted");
            assert!(
                error.requires_abort() && error.to_string().contains("aborted"),
                "version {version}: {error}"
            );
        }
        let told = std::mem::take(&mut *told.lock().expect("not poisoned"));
        assert_eq!(told.iter().map(|(index, _)| *index).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
        assert_eq!(settled.0.load(Ordering::SeqCst), 20);
        assert!(committed(&cluster, "t").await.is_empty());
    }
}

#[tokio::test]
async fn a_timeout_above_that_of_the_brokers_is_refused() {
    let (_cluster, client, _) = cluster(2, &[]).await;
    let builder = client.transactional("billing").transaction_timeout(Duration::from_secs(3600));
    let error = timeout(PATIENCE, builder.build()).await.expect("in time").expect_err("too long");
    assert_eq!(error.code_name(), Some("INVALID_TRANSACTION_TIMEOUT"), "{error}");
    assert_eq!(error.fault(), Fault::Caller);
}

#[tokio::test]
async fn the_version_of_transactions_changes_while_a_producer_works() {
    let (cluster, client, losses) = cluster(1, &[("t", 1)]).await;
    let mut producer = transactional(&client).await;
    let mut expected = Vec::new();
    for (round, version) in [1, 2, 2, 1, 2, 1].into_iter().enumerate() {
        cluster.set_transaction_version(version).expect("set");
        for end in 0..3 {
            let value = format!("{round} {end}");
            // The connection that is made anew tells the version.
            losses.add(ApiKey::Produce, Loss::Answer);
            let transaction = producer.begin().await.expect("begun");
            transaction.post(Record::to("t").value(&value)).await.expect("taken");
            if end == 1 {
                transaction.abort().await.expect("aborted");
            } else {
                transaction.commit().await.expect("committed");
                expected.push(value);
            }
        }
    }
    assert!(losses.are_over());
    assert_eq!(committed(&cluster, "t").await, expected);
}

/// Each call is dropped at the n-th time that it waits, for every n.
#[tokio::test]
async fn a_call_that_is_dropped_leaves_the_transaction_whole() {
    for version in VERSIONS {
        let (cluster, client, _) = cluster(version, &[("t", 2)]).await;
        let mut producer = transactional(&client).await;
        let (mut committed_rounds, mut round) = (Vec::new(), 0);
        for step in ["begin", "send", "commit", "abort"] {
            for polls in 0..12 {
                round += 1;
                let value = format!("{round:03}");
                if step == "begin" {
                    let is_begun = polled(producer.begin(), polls).await.is_some();
                    if is_begun {
                        continue;
                    }
                }
                let transaction = timeout(PATIENCE, producer.begin()).await.expect("in time").expect("begun");
                transaction.post(Record::to("t").partition(0).value(&value)).await.expect("taken");
                let sent = transaction.send(Record::to("t").partition(1).value(&value));
                match step {
                    "send" => {
                        polled(sent, polls).await.transpose().expect("written");
                        drop(transaction);
                    }
                    "commit" => {
                        sent.await.expect("written");
                        polled(transaction.commit(), polls).await.transpose().expect("committed");
                    }
                    _ => {
                        sent.await.expect("written");
                        polled(transaction.abort(), polls).await.transpose().expect("aborted");
                    }
                }
                let end = timeout(PATIENCE, producer.resolve()).await.expect("in time").expect("known");
                if end == Some(TransactionEnd::Committed) {
                    assert_eq!(step, "commit");
                    committed_rounds.extend([value.clone(), value]);
                }
            }
        }
        assert!(committed_rounds.len() >= 4, "a commit that was begun goes on");
        assert_eq!(committed(&cluster, "t").await, committed_rounds, "version {version}");
    }
}

/// Polls a future this many times and drops it; its output if it is finished by then.
async fn polled<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    for _ in 0..polls {
        let woken = std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx)));
        if let std::task::Poll::Ready(output) = woken.await {
            return Some(output);
        }
        tokio::time::sleep(Duration::from_micros(300)).await;
    }
    None
}

#[tokio::test]
async fn a_producer_with_a_transactional_id_in_its_properties_is_not_made_without_transactions() {
    let (cluster, _, _) = cluster(2, &[("t", 1)]).await;
    let properties = [
        ("bootstrap.servers", cluster.bootstrap()),
        ("transactional.id", "billing"),
        ("transaction.timeout.ms", "5000"),
    ];
    let client = Client::from_properties(properties).expect("properties").connect().await.expect("connected");
    let error = client.producer().build().await.expect_err("it has no transactions");
    assert!(error.to_string().contains("transactional.id=billing"), "{error}");
    let id = client.transactional_id().expect("named").to_owned();
    let mut producer = client.transactional(id).build().await.expect("built");
    producer.begin().await.expect("begun").commit().await.expect("committed");
}

#[tokio::test]
async fn settings_that_contradict_transactions_are_refused() {
    let (_cluster, client, _) = cluster(2, &[]).await;
    let builder = client.transactional("billing").settings(|settings| settings.acks = Acks::Leader);
    let error = builder.build().await.expect_err("acks=1");
    assert!(error.to_string().contains("acks=all"), "{error}");
    let error = client.transactional("").build().await.expect_err("no id");
    assert!(error.to_string().contains("the transactional id is empty"), "{error}");
}

/// A consumer commits nothing in a transaction what it commits by itself.
#[tokio::test]
async fn offsets_of_a_consumer_that_commits_by_itself_doom_the_transaction() {
    let (_cluster, client, _) = cluster(2, &[("t", 1)]).await;
    let consumer = client.consumer("g").assign([("t", 0)]).build().await.expect("built");
    let mut producer = transactional(&client).await;
    let transaction = producer.begin().await.expect("begun");
    let error = transaction.commit_offsets(&consumer).await.expect_err("it commits by itself");
    assert!(error.to_string().contains("manual_commits()"), "{error}");
    assert!(error.requires_abort() && !error.is_fatal(), "{error}");
    let error = transaction.commit().await.expect_err("its offsets are missing");
    assert!(error.requires_abort(), "{error}");
}

/// Copies `in` to `out` exactly once, in members that come and go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_loop_copies_each_record_once_while_members_come_and_go() {
    const RECORDS: usize = 600;
    for (version, protocol) in [(1, milena::Protocol::Classic), (2, milena::Protocol::Consumer)] {
        let (cluster, client, losses) = cluster(version, &[("in", 4), ("out", 2)]).await;
        let plain = client.producer().build().await.expect("built");
        for index in 0..RECORDS {
            let value = format!("{index:04}");
            plain.post(Record::to("in").partition((index % 4) as i32).value(&value)).await.expect("taken");
        }
        plain.flush().await.expect("written");
        let mut members = Vec::new();
        for member in 0..4 {
            let (client, losses) = (client.clone(), losses.clone());
            members.push(tokio::spawn(async move {
                let consumer = client
                    .consumer("copy")
                    .subscribe(["in"])
                    .protocol(protocol)
                    .isolation(Isolation::ReadCommitted)
                    .manual_commits()
                    .settings(|settings| settings.delivery_records_max = Some(20))
                    .build()
                    .await?;
                let handle = consumer.handle();
                let producer = client.transactional(format!("copy-{member}")).build().await?;
                let turns = AtomicUsize::new(0);
                let run = milena::exactly_once(consumer, producer).interval(Duration::from_millis(5)).run(
                    move |transaction, batch| {
                        let turn = turns.fetch_add(1, Ordering::SeqCst) + 1;
                        let (handle, losses) = (handle.clone(), losses.clone());
                        Box::pin(async move {
                            for record in batch {
                                let value = record.value().expect("a value");
                                transaction.post(Record::to("out").key(value).value(value)).await?;
                            }
                            if turn.is_multiple_of(5) {
                                losses.add(ApiKey::EndTxn, Loss::Answer);
                            }
                            // Two of them stop while there is work left.
                            if member < 2 && turn == 4 {
                                tokio::spawn(async move { handle.close().await });
                            }
                            Ok::<_, Error>(())
                        })
                    },
                );
                tokio::select! {
                    ended = run => ended,
                    // One is killed: its transaction is aborted by its successor or by its own drop.
                    () = tokio::time::sleep(Duration::from_millis(if member == 2 { 150 } else { 1_000_000 })) => Ok(()),
                }
            }));
        }
        // Whoever is left copies the rest.
        let is_copied = async {
            while committed(&cluster, "out").await.len() < RECORDS {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE * 2, is_copied).await.expect("copied");
        for member in &members {
            member.abort();
        }
        let expected: Vec<_> = (0..RECORDS).map(|index| format!("{index:04}")).collect();
        assert_eq!(committed(&cluster, "out").await, expected, "version {version}");
    }
}

#[tokio::test]
async fn the_loop_tells_the_programs_own_errors_and_commits_nothing_of_them() {
    for version in VERSIONS {
        let (cluster, client, _) = cluster(version, &[("in", 1), ("out", 1)]).await;
        let plain = client.producer().build().await.expect("built");
        for value in ["a", "b", "c"] {
            plain.send(Record::to("in").value(value)).await.expect("written");
        }
        let consumer = || {
            let builder = client.consumer("copy").subscribe(["in"]).isolation(Isolation::ReadCommitted);
            builder.manual_commits().build()
        };
        let turns = AtomicUsize::new(0);
        let run = milena::exactly_once(consumer().await.expect("built"), transactional(&client).await);
        let error = run
            .run(|transaction, batch| {
                turns.fetch_add(1, Ordering::SeqCst);
                Box::pin(async move {
                    for record in batch {
                        transaction.post(Record::to("out").value(record.value().expect("a value"))).await?;
                    }
                    Err::<(), Box<dyn std::error::Error + Send + Sync>>("no such customer".into())
                })
            })
            .await
            .expect_err("the program's error");
        assert_eq!(error.to_string(), "no such customer");
        assert_eq!(turns.load(Ordering::SeqCst), 1);
        assert!(committed(&cluster, "out").await.is_empty());

        let consumer = consumer().await.expect("built");
        let run = milena::exactly_once(consumer, transactional(&client).await).run(|transaction, batch| {
            Box::pin(async move {
                for record in batch {
                    transaction.post(Record::to("out").value(record.value().expect("a value"))).await?;
                }
                transaction.flush().await?;
                transaction.send(Record::to("missing").value("x")).await?;
                Ok::<_, Error>(())
            })
        });
        let error = timeout(PATIENCE, run).await.expect("in time").expect_err("a topic that does not exist");
        assert_eq!(error.code_name(), Some("UNKNOWN_TOPIC_OR_PARTITION"));
        assert!(committed(&cluster, "out").await.is_empty());
    }
}

/// A loop whose records never reach their partition in time goes on, and does not do so in silence.
#[tokio::test]
async fn the_loop_does_a_doomed_transaction_again_and_says_why_if_that_is_in_vain() {
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let warnings = Warnings { part: "processes exactly once failed", seen: Arc::clone(&seen) };
    let _log = tracing::subscriber::set_default(warnings);
    let (cluster, client, losses) = cluster(2, &[("in", 1), ("out", 1)]).await;
    let plain = client.producer().build().await.expect("built");
    plain.send(Record::to("in").value("a")).await.expect("written");
    let consumer = client.consumer("copy").subscribe(["in"]).isolation(Isolation::ReadCommitted);
    let consumer = consumer.manual_commits().build().await.expect("built");
    let handle = consumer.handle();
    let producer = client.transactional("copier").delivery_timeout(Duration::from_millis(150));
    let producer = producer.build().await.expect("built");
    let runs = AtomicUsize::new(0);
    let run = milena::exactly_once(consumer, producer).run(|transaction, batch| {
        match runs.fetch_add(1, Ordering::SeqCst) {
            0..3 => (0..10).for_each(|_| losses.add(ApiKey::Produce, Loss::Request)),
            _ => losses.clear(),
        }
        Box::pin(async move {
            assert_eq!(batch.first_offset(), 0);
            for record in batch {
                transaction.post(Record::to("out").value(record.value().expect("a value"))).await?;
            }
            Ok::<_, Error>(())
        })
    });
    let closed = async {
        while committed(&cluster, "out").await.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        handle.close().await
    };
    let (ended, closed) = timeout(PATIENCE, async { tokio::join!(run, closed) }).await.expect("in time");
    ended.and(closed).expect("closed");
    assert!(runs.load(Ordering::SeqCst) > 3);
    assert_eq!(committed(&cluster, "out").await, ["a"]);
    let seen = seen.lock().expect("not poisoned").clone();
    for part in ["failed 3 times in a row", "not delivered within 150ms", "trying again"] {
        assert!(seen[0].contains(part), "{seen:?}");
    }
}

#[tokio::test]
async fn the_loop_refuses_a_consumer_that_would_break_its_promise() {
    let (_cluster, client, _) = cluster(2, &[("in", 1)]).await;
    let consumer = client.consumer("g").subscribe(["in"]).isolation(Isolation::ReadCommitted);
    let consumer = consumer.build().await.expect("built");
    let run = milena::exactly_once(consumer, transactional(&client).await)
        .run(|_, _| Box::pin(async { Ok::<_, Error>(()) }));
    let error = run.await.expect_err("it commits by itself");
    assert!(error.to_string().contains("manual_commits()"), "{error}");
    let consumer = client.consumer("g").subscribe(["in"]).manual_commits().build().await.expect("built");
    let run = milena::exactly_once(consumer, transactional(&client).await)
        .run(|_, _| Box::pin(async { Ok::<_, Error>(()) }));
    let error = run.await.expect_err("it reads what is not committed");
    assert!(error.to_string().contains("isolation"), "{error}");
}

#[tokio::test]
async fn after_an_abort_a_consumer_goes_back_to_what_is_committed() {
    let (_cluster, client, _) = cluster(2, &[("in", 1), ("out", 1)]).await;
    let plain = client.producer().build().await.expect("built");
    for value in ["a", "b"] {
        plain.send(Record::to("in").value(value)).await.expect("written");
    }
    let consumer = client.consumer("g").subscribe(["in"]).isolation(Isolation::ReadCommitted);
    let settings = |settings: &mut milena::ConsumerSettings| settings.delivery_records_max = Some(1);
    let mut consumer = consumer.manual_commits().settings(settings).build().await.expect("built");
    let mut producer = transactional(&client).await;
    let mut seen = Vec::new();
    for is_committed in [true, false, false, true] {
        let batch =
            timeout(PATIENCE, consumer.next()).await.expect("in time").expect("read").expect("a member");
        seen.push(batch.first_offset());
        let transaction = producer.begin().await.expect("begun");
        transaction.post(Record::to("out").value("x")).await.expect("taken");
        consumer.done(&batch);
        transaction.commit_offsets(&consumer).await.expect("in the transaction");
        if is_committed {
            transaction.commit().await.expect("committed");
        } else {
            transaction.abort().await.expect("aborted");
            consumer.rewind().await.expect("gone back");
        }
    }
    assert_eq!(seen, [0, 1, 1, 1]);
    assert_eq!(
        consumer.committed([("in", 0)]).await.expect("told")[0].1.as_ref().map(|of| of.offset),
        Some(2)
    );
}
