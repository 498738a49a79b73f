//! Transactions through the binary: listed, described, and aborted when they hang.

mod harness;

use std::future::Future;

use harness::{Cluster, Run, assert_fails, milena};
use milena::{Client, Record};

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("text")
}

/// Runs what needs a client of ours.
fn block_on<T>(of: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("starts").block_on(of)
}

/// Leaves a transaction open that has written to partition 1 of topic `t`, and returns its client.
async fn open(cluster: &Cluster, id: &str) -> Client {
    let client = Client::connect(&cluster.bootstrap).await.expect("connected");
    // Neither ended nor dropped, as by a process that is killed.
    let producer = Box::leak(Box::new(client.transactional(id).build().await.expect("built")));
    let transaction = Box::leak(Box::new(producer.begin().await.expect("begun")));
    transaction.send(Record::to("t").partition(1).value("v")).await.expect("written");
    client
}

#[test]
fn transactions_are_listed_and_described() {
    let cluster = Cluster::start(&["--topic", "t:2"]);
    assert_eq!(text(cluster.ok(&["txn", "list"], "")), "");
    block_on(async {
        let client = open(&cluster, "open").await;
        client.transactional("idle").build().await.expect("built");
        let list = |args: &[&str]| text(cluster.ok(&[&["txn", "list"], args].concat(), ""));
        let expect = "\
id    state    producer id  coordinator
idle  Empty              1            1
open  Ongoing            0            1
";
        assert_eq!(list(&[]), expect);
        let json = r#"{"transactional_id":"open","state":"Ongoing","producer_id":0,"coordinator":1}"#;
        for filter in [["--state", "ongoing,preparecommit"], ["--producer-id", "0"], ["--id", "op.*"]] {
            assert_eq!(list(&[&filter[..], &["--json"]].concat()).trim_end(), json, "{filter:?}");
        }
        assert_eq!(list(&["--longer-than", "1h"]), "");

        let described = text(cluster.ok(&["txn", "describe", "open"], ""));
        let lines: Vec<_> = described.lines().collect();
        assert_eq!(
            lines[..2],
            ["open", "  state Ongoing, producer id 0, epoch 0, timeout 60000 ms, coordinator 1"]
        );
        assert!(lines[2].starts_with("  open since 20") && lines[2].contains(", for "), "{}", lines[2]);
        assert_eq!(lines[3..], ["  t: 1"]);
        let described = text(cluster.ok(&["txn", "describe", "open", "idle", "--json"], ""));
        let described: Vec<serde_json::Value> =
            described.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(described[0]["partitions"], serde_json::json!({"t": [1]}));
        assert!(described[0]["open_ms"].is_i64() && described[1]["open_ms"].is_null(), "{described:?}");
        assert_fails(&cluster.run(&["txn", "describe", "nobody"], ""), 4, "no coordinator knows");

        let of_topic = text(cluster.ok(&["txn", "describe", "--topic", "t", "--json"], ""));
        let of_topic: serde_json::Value = serde_json::from_str(&of_topic).expect("one line");
        assert_eq!((&of_topic["partition"], &of_topic["transaction_start_offset"]), (&1.into(), &0.into()));
        let table = text(cluster.ok(&["txn", "describe", "--topic", "t:0,1", "--open"], ""));
        assert!(table.starts_with("topic  partition  producer id  epoch  last sequence"), "{table}");
        assert_eq!(table.lines().count(), 2, "{table}");
        assert_fails(&cluster.run(&["txn", "describe", "--topic", "t:9"], ""), 4, "9");
    });
}

#[test]
fn wrong_options_are_named() {
    for (args, says) in [
        (&["txn", "list", "--state", "sleeping"][..], "PrepareCommit"),
        (&["txn", "list", "--longer-than", "5"], "with its unit"),
        (&["txn", "describe"], "<IDS>..."),
        (&["txn", "describe", "a", "--topic", "t"], "--topic"),
        (&["txn", "describe", "a", "--open"], "cannot be used with"),
        (&["txn", "abort-hanging"], "--topic"),
        (&["txn", "abort-hanging", "--all-topics", "--topic", "t"], "cannot be used with"),
    ] {
        assert_fails(&milena(args), 2, says);
    }
}

fn abort(cluster: &Cluster, args: &[&str]) -> Run {
    cluster.run(&[&["txn", "abort-hanging"], args].concat(), "")
}

#[test]
fn a_transaction_that_no_coordinator_knows_is_aborted_and_one_that_it_knows_is_not() {
    let directory = tempfile::tempdir().expect("made");
    let path = directory.path().to_str().expect("text");
    let cluster = Cluster::start(&["--topic", "t:2", "--data-dir", path]);
    block_on(open(&cluster, "open"));
    cluster.ok(&["produce", "t", "-p", "1"], "after\n");
    let all = ["--all-topics", "--older-than", "0"];
    let known = abort(&cluster, &all);
    assert_eq!((known.code, known.stderr.as_str()), (Some(0), "There is nothing to abort.\n"));
    assert!(known.stdout.is_empty());

    // The coordinator forgets all that it knew.
    cluster.kill();
    std::fs::remove_file(directory.path().join("milena.transactions")).expect("removed");
    let cluster = Cluster::start(&["--data-dir", path]);
    let committed = |cluster: &Cluster| {
        let args = ["consume", "t", "-e", "-X", "isolation.level=read_committed"];
        text(cluster.ok(&args, ""))
    };
    assert_eq!(committed(&cluster), "");
    let young = abort(&cluster, &["--topic", "t", "--yes"]);
    assert_eq!((young.code, young.stdout.len()), (Some(0), 0), "{}", young.stderr);
    assert!(young.stderr.contains("1 transaction that no coordinator knows left out"), "{}", young.stderr);

    let plan = abort(&cluster, &all);
    let table = text(plan.stdout);
    assert_eq!(plan.stderr, "Nothing was aborted: --yes aborts 1 transaction.\n");
    assert!(
        table.starts_with("topic  partition  producer id  epoch  open from offset  last written\n"),
        "{table}"
    );
    assert!(table.contains("\nt              1            0      0                 0  20"), "{table}");
    let json = text(abort(&cluster, &["--topic", "t:1", "--older-than", "0", "--json"]).stdout);
    let json: serde_json::Value = serde_json::from_str(&json).expect("one line");
    assert_eq!((&json["partition"], &json["producer_id"]), (&1.into(), &0.into()));
    assert_eq!(committed(&cluster), "");

    let aborted = abort(&cluster, &["--topic", "t", "--older-than", "0", "--yes"]);
    assert_eq!((aborted.code, aborted.stderr.as_str()), (Some(0), "Aborted 1 transaction.\n"));
    assert_eq!(committed(&cluster), "after\n");
    assert_eq!(abort(&cluster, &all).stderr, "There is nothing to abort.\n");
}
