//! Admin calls for transactions: listed at all brokers, described by their coordinators, and aborted at a partition.

use milena::{ErrorCode, OpenTransaction, TransactionFilter, TransactionState, TransactionalProducer};

use super::*;

const IDS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// A cluster of three nodes, and a producer for each id.
async fn with_producers() -> (Cluster, Client, Vec<TransactionalProducer>) {
    let (cluster, client) = start(3, &[("t", 2), ("u", 1)]).await;
    let mut producers = Vec::new();
    for id in IDS {
        let built = timeout(PATIENCE, client.transactional(id).build()).await.expect("in time");
        producers.push(built.expect("built"));
    }
    (cluster, client, producers)
}

async fn listed(client: &Client, filter: TransactionFilter) -> String {
    let admin = client.admin();
    let listing =
        timeout(PATIENCE, admin.list_transactions(&filter)).await.expect("in time").expect("listed");
    assert!(listing.failed.is_empty(), "{:?}", listing.failed);
    listing.transactions.into_iter().map(|of| of.transactional_id).collect()
}

#[tokio::test]
async fn transactions_of_all_brokers_are_listed_as_the_filter_says() {
    let (cluster, client, mut producers) = with_producers().await;
    let transaction = producers[1].begin().await.expect("begun");
    transaction.send(Record::to("t").partition(1).value("v")).await.expect("written");
    let all = client.admin().list_transactions(&TransactionFilter::all()).await.expect("listed").transactions;
    assert!(all.iter().map(|of| of.transactional_id.as_str()).eq(IDS));
    for of in &all {
        let state =
            if of.transactional_id == "b" { TransactionState::Ongoing } else { TransactionState::Empty };
        assert_eq!(of.state, state, "{}", of.transactional_id);
        let coordinator = client.admin().transaction_coordinator(&of.transactional_id).await.expect("found");
        assert_eq!(of.coordinator, coordinator.id, "{}", of.transactional_id);
    }
    let filter = TransactionFilter::all;
    assert_eq!(listed(&client, filter().states([TransactionState::Ongoing])).await, "b");
    assert_eq!(listed(&client, filter().producer_ids([all[3].producer_id])).await, "d");
    assert_eq!(listed(&client, filter().id_pattern("[c-e]")).await, "cde");
    assert_eq!(listed(&client, filter().open_longer_than(Duration::from_secs(3600))).await, "");
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert_eq!(listed(&client, filter().open_longer_than(Duration::ZERO)).await, "b");
    let wrong = client.admin().list_transactions(&filter().id_pattern("(")).await.expect_err("no pattern");
    assert_eq!(wrong.code(), Some(ErrorCode::INVALID_REGULAR_EXPRESSION));
    transaction.abort().await.expect("aborted");
    drop(cluster);
}

#[tokio::test]
async fn a_transaction_is_described_by_its_coordinator_and_by_the_partitions_that_it_wrote_to() {
    let (_cluster, client, mut producers) = with_producers().await;
    let admin = client.admin();
    let transaction = producers[0].begin().await.expect("begun");
    for (topic, partition) in [("t", 1), ("u", 0), ("t", 0)] {
        transaction.send(Record::to(topic).partition(partition).value("v")).await.expect("written");
    }
    let described =
        timeout(PATIENCE, admin.describe_transactions(["a", "b", "nobody"])).await.expect("in time");
    let [(_, Ok(a)), (_, Ok(b)), (_, Err(nobody))] = &described[..] else { panic!("{described:?}") };
    assert_eq!((a.state, b.state), (TransactionState::Ongoing, TransactionState::Empty));
    let partitions = BTreeMap::from([("t".to_owned(), vec![0, 1]), ("u".to_owned(), vec![0])]);
    assert_eq!((&a.partitions, a.timeout), (&partitions, Duration::from_secs(60)));
    assert!(a.started_ms.is_some_and(|ms| ms > 1_600_000_000_000), "{:?}", a.started_ms);
    assert!(b.partitions.is_empty());
    assert_eq!(nobody.code(), Some(ErrorCode::TRANSACTIONAL_ID_NOT_FOUND));

    let of_partitions =
        timeout(PATIENCE, admin.describe_producers([("t", 1), ("t", 9), ("u", 0)])).await.expect("in time");
    let [(_, Ok(at)), (_, Err(nowhere)), (_, Ok(_))] = &of_partitions[..] else {
        panic!("{of_partitions:?}")
    };
    assert_eq!((at.len(), at[0].producer_id, at[0].transaction_start), (1, a.producer_id, Some(0)));
    assert_eq!((at[0].last_sequence, at[0].coordinator_epoch), (Some(0), None));
    assert!(nowhere.to_string().contains("no partition 9"), "{nowhere}");
    let mut holders = 0;
    for broker in client.admin().describe_cluster().await.expect("described").brokers {
        let mut told = admin.describe_producers_of_broker(broker.id, [("t", 1)]).await;
        match told.remove(0).1 {
            Ok(known) => {
                assert_eq!(known[0].transaction_start, Some(0));
                holders += 1;
            }
            Err(error) => assert_eq!(error.code(), Some(ErrorCode::NOT_LEADER_OR_FOLLOWER)),
        }
    }
    assert_eq!(holders, 1, "the topic has one replica");

    transaction.commit().await.expect("committed");
    let (_, after) = admin.describe_producers([("t", 1)]).await.remove(0);
    assert!(after.expect("described").iter().all(|of| of.transaction_start.is_none()));
}

#[tokio::test]
async fn a_transaction_is_aborted_at_one_partition() {
    let (_cluster, client, mut producers) = with_producers().await;
    let admin = client.admin();
    let transaction = producers[0].begin().await.expect("begun");
    transaction.send(Record::to("u").value("v")).await.expect("written");
    let (_, at) = admin.describe_producers([("u", 0)]).await.remove(0);
    let at = at.expect("described").remove(0);
    let open = OpenTransaction {
        topic: "u".into(),
        partition: 0,
        producer_id: at.producer_id,
        producer_epoch: at.producer_epoch.try_into().expect("an epoch"),
        coordinator_epoch: at.coordinator_epoch,
    };
    let end = async || {
        let admin = admin.clone().isolation(milena::Isolation::ReadCommitted);
        *admin.list_offsets([("u", 0)], OffsetAt::Latest).await.expect("asked")[0].1.as_ref().expect("found")
    };
    assert_eq!(end().await, Some(0));
    timeout(PATIENCE, admin.abort_transaction(&open)).await.expect("in time").expect("aborted");
    assert_eq!(end().await, Some(2), "the record and the marker");
    let stale = OpenTransaction { producer_epoch: open.producer_epoch - 1, ..open.clone() };
    let refused = admin.abort_transaction(&stale).await.expect_err("an epoch below zero");
    assert!(refused.to_string().contains("partition 0 of topic \"u\""), "{refused}");
    let nowhere = OpenTransaction { partition: 9, ..open };
    let refused = admin.abort_transaction(&nowhere).await.expect_err("no such partition");
    assert!(refused.to_string().contains("no partition 9"), "{refused}");
}
