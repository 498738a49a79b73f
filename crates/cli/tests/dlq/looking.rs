//! `ls`, `show` and `stats`.

use serde_json::Value;

use super::harness::{Cluster, assert_fails};
use super::letters::{SAMPLES, cluster};
use super::{EPOCH_MS, block_on, connect, golden, text, write, write_many};

#[test]
fn topics_with_letters_are_found_by_name_and_by_their_newest_records() {
    block_on(async {
        let cluster = cluster().await;
        let table = text(cluster.ok(&["dlq", "ls"], ""));
        // The ages are those of the clock.
        let columns: Vec<_> = table
            .lines()
            .map(|line| {
                let cells: Vec<_> = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
                format!("{} | {} | {}", cells[0], cells[1], cells[cells.len() - 1])
            })
            .collect();
        golden("ls", &(columns.join("\n") + "\n"));
        let json = text(cluster.ok(&["dlq", "ls", "--json"], ""));
        let first: Value = serde_json::from_str(json.lines().next().expect("a line")).expect("JSON");
        assert_eq!(first["topic"], "connect.dlq");
        assert_eq!((&first["letters"], &first["oldest_ms"]), (&1.into(), &(EPOCH_MS + 3000).into()));
    });
}

#[test]
fn letters_of_each_dialect_are_shown() {
    block_on(async {
        let cluster = cluster().await;
        let shown: Vec<_> =
            SAMPLES.iter().map(|sample| text(cluster.ok(&["dlq", "show", sample.topic], ""))).collect();
        golden("show", &shown.join("\n"));
        let one = text(cluster.ok(&["dlq", "show", "spring-dlt", "-p", "0", "--offset", "0"], ""));
        assert!(
            one.contains("  stack\n    org.springframework.kafka...\n     at a.B.c(B.java:1)\n"),
            "{one}"
        );
        let json = text(cluster.ok(&["dlq", "show", "connect.dlq", "--json"], ""));
        golden("show-json", &json);
        assert_fails(
            &cluster.run(&["dlq", "show", "spring-dlt", "-p", "0", "--offset", "9"], ""),
            4,
            "no offset 9",
        );
        assert_fails(&cluster.run(&["dlq", "show", "missing"], ""), 4, "does not exist");
    });
}

#[test]
fn letters_are_chosen_by_error_key_time_origin_and_dialect() {
    block_on(async {
        let cluster = Cluster::start(&["--topic", "orders.dlq:2"]);
        let client = connect(&cluster).await;
        write_many(&client, "orders.dlq", 0..20, "timeout after 30 ms").await;
        write_many(&client, "orders.dlq", 20..25, "no such customer").await;
        write(&client, "orders.dlq", 0, ("7", "7"), &[("reason_poisoned", b"boom")], EPOCH_MS + 1000).await;
        let keys = |args: &[&str]| {
            let json = text(cluster.ok(&[&["dlq", "show", "orders.dlq", "--json"], args].concat(), ""));
            let key = |line: &str| {
                serde_json::from_str::<Value>(line).expect("JSON")["key"].as_str().expect("a key").to_owned()
            };
            json.lines().map(key).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(keys(&[]), "16 17 18 19 20 21 22 23 24 7");
        assert_eq!(keys(&["-n", "2"]), "24 7");
        assert_eq!(keys(&["--error", "customer$"]), "20 21 22 23 24");
        assert_eq!(keys(&["--error", "^time.*30", "-n", "3"]), "17 18 19");
        assert_eq!(keys(&["--key", "7"]), "7 7");
        assert_eq!(keys(&["--key", "7", "--dialect", "watermill"]), "7");
        assert_eq!(keys(&["--origin", "orders/2"]), "2 5 8 11 14 17 20 23");
        assert_eq!(keys(&["--origin", "payments"]), "");
        assert_eq!(keys(&["--since", &(EPOCH_MS + 22).to_string()]), "22 23 24 7");
        assert_eq!(keys(&["--until", &(EPOCH_MS + 3).to_string()]), "0 1 2");
        assert_eq!(keys(&["-p", "1", "-n", "2"]), "21 23");
        for (args, says) in [
            (&["--error", "("][..], "--error is not a regular expression"),
            (&["--origin", "orders/x"], "TOPIC/PARTITION"),
            (&["--dialect", "rabbit"], "share-group"),
            (&["--since", "yesterday"], "yesterday"),
        ] {
            assert_fails(&cluster.run(&[&["dlq", "show", "orders.dlq"], args].concat(), ""), 2, says);
        }
    });
}

#[test]
fn letters_are_counted_by_error_origin_hour_and_key() {
    block_on(async {
        let cluster = Cluster::start(&["--topic", "orders.dlq:2"]);
        let client = connect(&cluster).await;
        write_many(&client, "orders.dlq", 0..20, "timeout after 30 ms").await;
        write_many(&client, "orders.dlq", 5..10, "timeout after 31 ms").await;
        write_many(&client, "orders.dlq", 6..8, "no such customer").await;
        write(&client, "orders.dlq", 0, ("7", "7"), &[("reason_poisoned", b"boom")], EPOCH_MS + 4_000_000)
            .await;
        write(&client, "orders.dlq", 0, ("8", "8"), &[], EPOCH_MS).await;
        golden("stats", &text(cluster.ok(&["dlq", "stats", "orders.dlq", "-n", "3"], "")));
        golden(
            "stats-json",
            &text(cluster.ok(&["dlq", "stats", "orders.dlq", "-n", "2", "--error", "timeout", "-J"], "")),
        );
    });
}

#[test]
fn records_of_aborted_transactions_are_no_letters() {
    block_on(async {
        let cluster = Cluster::start(&["--topic", "orders.dlq:1"]);
        let client = connect(&cluster).await;
        let mut producer = client.transactional("t").build().await.expect("built");
        let transaction = producer.begin().await.expect("begun");
        let record = milena::Record::to("orders.dlq").value("v").header("reason_poisoned", "boom");
        transaction.send(record).await.expect("written");
        transaction.abort().await.expect("aborted");
        // The last offsets have no records, and reading ends all the same.
        assert_eq!(text(cluster.ok(&["dlq", "show", "orders.dlq"], "")), "");
        assert!(text(cluster.ok(&["dlq", "stats", "orders.dlq"], "")).starts_with("0 letters"));
    });
}
