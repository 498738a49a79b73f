//! `replay`.

use std::collections::BTreeMap;

use milena::{Isolation, OwnedRecord};
use serde_json::Value;

use super::harness::{Cluster, Process, assert_fails};
use super::letters::{SAMPLES, cluster};
use super::{EPOCH_MS, block_on, connect, golden, numbers, read, text, write, write_many};

fn start() -> Cluster {
    Cluster::start(&["--topic", "orders.dlq:2", "--topic", "orders:3", "--topic", "other:1"])
}

fn headers(record: &OwnedRecord) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let value = |value: &Option<Vec<u8>>| value.as_deref().map_or("null".into(), text);
    record.headers.iter().map(|(name, of)| format!("{}={}", text(name), value(of))).collect()
}

#[test]
fn letters_of_each_dialect_go_back_without_their_headers() {
    block_on(async {
        let cluster = cluster().await;
        let client = connect(&cluster).await;
        let mut plans = String::new();
        for (index, sample) in SAMPLES.iter().enumerate() {
            let run = cluster.run(&["dlq", "replay", sample.topic, "--dry-run"], "");
            plans += &text(run.stdout);
            plans += &run.stderr;
            let run = cluster.run(&["dlq", "replay", sample.topic], "");
            assert_eq!(run.code, Some(0), "{}", run.stderr);
            assert_eq!(run.stderr, format!("Replayed 1 letter of {}: 1 to orders.\n", sample.topic));
            // Watermill does not name the partition.
            let of_all = read(&client, "orders").await;
            let record = of_all.values().flatten().filter(|record| record.key.as_deref() != Some(b"k"));
            let marked = format!("milena.dlq.replayed-from={}/0/0", sample.topic);
            let its: Vec<_> = record.filter(|record| headers(record).contains(&marked)).collect();
            let [record] = its[..] else { panic!("{} is there {} times", sample.topic, its.len()) };
            if sample.topic != "poison" {
                assert_eq!(record.partition, 1, "{}", sample.topic);
            }
            let key = if sample.topic == "karafka-dlq" { "the customer" } else { "42" };
            assert_eq!(record.key.as_deref(), Some(key.as_bytes()));
            assert_eq!(record.value.as_deref(), Some(&br#"{"id": 42, "amount": 1.50}"#[..]));
            let own = ["trace=7f", "_watermill_message_uuid=0190"];
            let rest: Vec<_> =
                headers(record).into_iter().filter(|header| !own.contains(&&**header)).collect();
            assert_eq!(rest, [marked, "milena.dlq.replays=1".into()]);
            assert_eq!(of_all.values().map(Vec::len).sum::<usize>(), index + 2);
        }
        golden("dry-run", &plans);
        // A replayed record is no letter.
        assert!(!text(cluster.ok(&["dlq", "ls"], "")).contains("\norders  "));
    });
}

#[test]
fn each_letter_is_replayed_once_whatever_was_chosen_before() {
    block_on(async {
        let cluster = start();
        let client = connect(&cluster).await;
        write_many(&client, "orders.dlq", 0..30, "timeout").await;
        write_many(&client, "orders.dlq", 30..40, "no such customer").await;
        let counts = |args: &[&str]| -> String {
            text(cluster.ok(&[&["dlq", "replay", "orders.dlq", "--json"], args].concat(), ""))
        };
        assert_eq!(
            counts(&["--key", "7"]),
            "{\"dropped\":0,\"failed\":0,\"replayed\":1,\"written\":{\"orders\":1}}\n"
        );
        counts(&["--error", "customer", "--count", "4"]);
        counts(&["-p", "1", "--origin", "orders/2"]);
        let chosen = numbers(&client, "orders").await;
        let (timeouts, customers): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|n| *n < 30);
        assert_eq!(timeouts, [5, 7, 11, 17, 23, 29]);
        assert!(customers.len() >= 4, "{customers:?}");
        counts(&[]);
        assert_eq!(numbers(&client, "orders").await, (0..40).collect::<Vec<_>>());
        assert!(counts(&[]).contains("\"replayed\":0"));
        // New letters are the only ones that are left.
        write_many(&client, "orders.dlq", 40..45, "timeout").await;
        assert!(counts(&[]).contains("\"replayed\":5"));
        // Each went to the partition that it came from.
        for (partition, records) in read(&client, "orders").await {
            for record in records {
                assert_eq!(
                    text(record.value.expect("a value")).parse::<i32>().expect("a number") % 3,
                    partition
                );
            }
        }
        // Another replay has its own memory.
        assert!(counts(&["--as", "again", "--to", "other"]).contains("\"replayed\":45"));
        let run = cluster.run(&["dlq", "replay", "orders.dlq", "--to", "orders.dlq"], "");
        assert_fails(&run, 2, "the topic of dead letters itself");
    });
}

#[test]
fn a_program_changes_drops_and_multiplies_letters() {
    block_on(async {
        let cluster = start();
        let client = connect(&cluster).await;
        let origin: &[(&str, &[u8])] =
            &[("reason_poisoned", b"boom"), ("topic_poisoned", b"orders"), ("trace", b"7f")];
        for (n, value) in
            [r#"{"amount": -1}"#, r#"{"amount": 5}"#, r#"{"amount": 7}"#].into_iter().enumerate()
        {
            write(&client, "orders.dlq", 0, (&n.to_string(), value), origin, EPOCH_MS).await;
        }
        let program = ".value.amount as $a | if $a < 0 then empty elif $a == 5 then . else (.value.amount = 1, (.key = \"new\" | .headers += [{key: \"split\", value: \"yes\"}])) end";
        let args = ["dlq", "replay", "orders.dlq", "--to", "other", "--map", program];
        let run = cluster.run(&[&args[..], &["--dry-run"]].concat(), "");
        golden("dry-run-map", &(text(run.stdout) + &run.stderr));
        assert!(read(&client, "other").await.is_empty(), "a dry run writes nothing");
        let run = cluster.run(&args, "");
        assert_eq!(run.stderr, "Replayed 3 letters of orders.dlq: 3 to other, 1 dropped by --map.\n");
        let records = read(&client, "other").await.remove(&0).expect("records");
        let lines: Vec<_> = records
            .iter()
            .map(|record| {
                let text = |bytes: &Option<Vec<u8>>| {
                    String::from_utf8_lossy(bytes.as_deref().expect("not null")).into_owned()
                };
                format!("{} {} {}", text(&record.key), text(&record.value), headers(record).join(" "))
            })
            .collect();
        let marks = |n| format!("milena.dlq.replayed-from=orders.dlq/0/{n} milena.dlq.replays=1");
        assert_eq!(
            lines,
            [
                format!("1 {{\"amount\": 5}} trace=7f {}", marks(1)),
                format!("2 {{\"amount\":1}} trace=7f {}", marks(2)),
                format!("new {{\"amount\": 7}} trace=7f split=yes {}", marks(2)),
            ]
        );
        for (program, says) in
            [(".value |", "--map is no jq program"), ("nosuch", "there is no filter \"nosuch\"")]
        {
            let run = cluster.run(&["dlq", "replay", "orders.dlq", "--map", program], "");
            assert_fails(&run, 2, says);
        }
    });
}

#[test]
fn letters_that_cannot_be_written_stay_and_the_others_go() {
    block_on(async {
        let cluster = start();
        let client = connect(&cluster).await;
        write_many(&client, "orders.dlq", 0..50, "boom").await;
        let to = |topic: &'static [u8]| [("reason_poisoned", &b"boom"[..]), ("topic_poisoned", topic)];
        write(&client, "orders.dlq", 0, ("a", "1000"), &[], EPOCH_MS).await;
        write(&client, "orders.dlq", 0, ("b", "1001"), &to(b"missing"), EPOCH_MS).await;
        write(&client, "orders.dlq", 0, ("c", "1002"), &to(b"__consumer_offsets"), EPOCH_MS).await;
        write(&client, "orders.dlq", 0, ("d", "1003"), &to(b"orders.dlq"), EPOCH_MS).await;
        write_many(&client, "orders.dlq", 50..60, "boom").await;
        let directory = tempfile::tempdir().expect("made");
        let audit = directory.path().join("audit.jsonl");
        let audit = audit.to_str().expect("text");
        let run = cluster.run(&["dlq", "replay", "orders.dlq", "--audit", audit], "");
        assert_eq!(run.code, Some(3), "{}", run.stderr);
        assert!(
            run.stderr.contains(
                "4 letters could not be replayed; the first: orders.dlq/0@25: its headers do not say"
            ),
            "{}",
            run.stderr
        );
        assert_eq!(numbers(&client, "orders").await, (0..60).collect::<Vec<_>>());
        let lines: Vec<Value> = std::fs::read_to_string(audit)
            .expect("written")
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        let mut events: BTreeMap<&str, usize> = BTreeMap::new();
        for line in &lines {
            *events.entry(line["event"].as_str().expect("text")).or_default() += 1;
        }
        assert_eq!((events["begin"], events["written"], events["failed"], events["end"]), (1, 60, 4, 1));
        let why: Vec<_> = lines.iter().filter_map(|line| line["error"].as_str()).collect();
        assert_eq!(why[1], "topic \"missing\" does not exist");
        assert_eq!(why[2], "\"__consumer_offsets\" is an internal topic");
        assert_eq!(why[3], "it came from the topic of dead letters itself");
        let written = lines.iter().find(|line| line["event"] == "written").expect("a line");
        assert_eq!(
            (&written["from"]["topic"], &written["to"]["topic"]),
            (&"orders.dlq".into(), &"orders".into())
        );
        // When there is a way for them, they go.
        cluster.ok(&["topics", "create", "missing"], "");
        let run = cluster.run(&["dlq", "replay", "orders.dlq"], "");
        assert!(run.stderr.contains("Replayed 1 letter of orders.dlq: 1 to missing."), "{}", run.stderr);
        assert!(
            text(cluster.ok(&["dlq", "replay", "orders.dlq", "--to", "other", "--json"], ""))
                .contains("\"replayed\":3")
        );
    });
}

#[test]
fn a_record_that_the_cluster_refuses_takes_no_other_with_it() {
    block_on(async {
        let cluster = start();
        let client = connect(&cluster).await;
        let small = milena::NewTopic::new("small").partitions(1).config("max.message.bytes", "2000");
        client.admin().create_topic(small).await.expect("created");
        write_many(&client, "orders.dlq", 0..20, "boom").await;
        let large = "x".repeat(3000);
        write(&client, "orders.dlq", 0, ("large", &large), &[("reason_poisoned", b"boom")], EPOCH_MS).await;
        write_many(&client, "orders.dlq", 20..40, "boom").await;
        let run = cluster.run(&["dlq", "replay", "orders.dlq", "--to", "small"], "");
        assert_eq!(run.code, Some(3), "{}", run.stderr);
        assert!(
            run.stderr.contains("1 letter could not be replayed; the first: orders.dlq/0@10:"),
            "{}",
            run.stderr
        );
        assert_eq!(numbers(&client, "small").await, (0..40).collect::<Vec<_>>());
    });
}

#[test]
fn a_replay_that_fails_too_often_stops_and_goes_on_later() {
    block_on(async {
        let cluster = Cluster::start(&["--topic", "orders.dlq:2"]);
        let client = connect(&cluster).await;
        write_many(&client, "orders.dlq", 0..40, "boom").await;
        let run = cluster.run(&["dlq", "replay", "orders.dlq"], "");
        assert_eq!(run.code, Some(3), "{}", run.stderr);
        assert!(
            run.stderr
                .contains("stopped: 5 of the last 5 letters could not be written; the last: orders.dlq/"),
            "{}",
            run.stderr
        );
        cluster.ok(&["topics", "create", "orders", "-p", "3"], "");
        cluster.ok(&["dlq", "replay", "orders.dlq", "--stop-at", "0%"], "");
        assert_eq!(numbers(&client, "orders").await, (0..40).collect::<Vec<_>>());
    });
}

#[test]
fn failures_that_are_few_among_the_letters_around_them_are_no_spike() {
    block_on(async {
        let cluster = start();
        let client = connect(&cluster).await;
        // All of them are in one transaction.
        for n in 0..20 {
            write_many(&client, "orders.dlq", n * 50..(n + 1) * 50, "boom").await;
            write(&client, "orders.dlq", 0, ("a", "no origin"), &[], EPOCH_MS).await;
        }
        let run = cluster.run(&["dlq", "replay", "orders.dlq"], "");
        assert!(run.stderr.contains("20 letters could not be replayed"), "{}", run.stderr);
        assert_eq!(numbers(&client, "orders").await, (0..1000).collect::<Vec<_>>());
    });
}

#[test]
fn a_replay_that_is_killed_goes_on_without_losing_or_repeating_a_letter() {
    block_on(async {
        let cluster = start();
        let client = connect(&cluster).await;
        const COUNT: i32 = 20_000;
        write_many(&client, "orders.dlq", 0..COUNT, "boom").await;
        let isolation = Isolation::ReadUncommitted;
        let consumer = client.consumer_direct().topic("orders").isolation(isolation).build();
        let mut consumer = consumer.await.expect("built");
        let mut seen = 0;
        for kill in 1..=4 {
            let arguments = ["dlq", "replay", "orders.dlq", "--rate", "20000"];
            let process: Process = cluster.spawn(&arguments, "");
            // Killed while it writes: some of what is here is of a transaction that is open.
            while seen < kill * 3_000 {
                let batch = consumer.next().await.expect("read").expect("it goes on");
                seen += batch.iter().count();
            }
            drop(process);
        }
        cluster.ok(&["dlq", "replay", "orders.dlq"], "");
        assert_eq!(numbers(&client, "orders").await, (0..COUNT).collect::<Vec<_>>());
    });
}

#[test]
fn a_replay_that_is_interrupted_says_so_and_goes_on_later() {
    block_on(async {
        let cluster = start();
        let client = connect(&cluster).await;
        write_many(&client, "orders.dlq", 0..100, "boom").await;
        let process = cluster.spawn(&["dlq", "replay", "orders.dlq", "--rate", "10"], "");
        let consumer = client.consumer_direct().topic("orders").isolation(Isolation::ReadCommitted).build();
        let batch = consumer.await.expect("built").next().await.expect("read");
        assert!(batch.is_some());
        process.interrupt();
        let run = process.wait();
        assert_eq!(run.code, Some(130), "{}", run.stderr);
        assert!(run.stderr.contains("The same command goes on"), "{}", run.stderr);
        cluster.ok(&["dlq", "replay", "orders.dlq"], "");
        assert_eq!(numbers(&client, "orders").await, (0..100).collect::<Vec<_>>());
    });
}

#[test]
fn a_second_replay_of_the_same_name_takes_over() {
    block_on(async {
        let cluster = start();
        let client = connect(&cluster).await;
        write_many(&client, "orders.dlq", 0..300, "boom").await;
        let first = cluster.spawn(&["dlq", "replay", "orders.dlq", "--rate", "50"], "");
        let consumer = client.consumer_direct().topic("orders").isolation(Isolation::ReadCommitted).build();
        assert!(consumer.await.expect("built").next().await.expect("read").is_some());
        cluster.ok(&["dlq", "replay", "orders.dlq"], "");
        let run = first.wait();
        assert_eq!(run.code, Some(3), "{}", run.stderr);
        assert!(
            run.stderr.contains("another replay called \"milena-dlq-replay-orders.dlq\" has taken over"),
            "{}",
            run.stderr
        );
        assert_eq!(numbers(&client, "orders").await, (0..300).collect::<Vec<_>>());
    });
}

#[test]
fn a_group_with_members_is_no_replays() {
    block_on(async {
        let cluster = start();
        let client = connect(&cluster).await;
        write_many(&client, "orders.dlq", 0..2, "boom").await;
        let member = client.consumer("billing").subscribe(["other"]).build().await.expect("built");
        let name = ["--as", "billing"];
        let run = cluster.run(&[&["dlq", "replay", "orders.dlq"], &name[..]].concat(), "");
        assert_ne!(run.code, Some(0));
        assert!(
            run.stderr.contains("has members, so its offsets are not those of a replay"),
            "{}",
            run.stderr
        );
        assert!(read(&client, "orders").await.is_empty());
        member.close().await.expect("closed");
        cluster.ok(&[&["dlq", "replay", "orders.dlq"], &name[..]].concat(), "");
    });
}

#[test]
fn headers_and_times_can_be_kept() {
    block_on(async {
        let cluster = start();
        let client = connect(&cluster).await;
        let headers_of: &[(&str, &[u8])] = &[
            ("milena.dlq.topic", b"orders"),
            ("milena.dlq.partition", b"2"),
            ("milena.dlq.timestamp", b"1600000000000"),
            ("milena.dlq.replays", b"3"),
        ];
        write(&client, "orders.dlq", 0, ("k", "v"), headers_of, EPOCH_MS).await;
        cluster.ok(&["dlq", "replay", "orders.dlq", "--keep-headers", "--keep-time"], "");
        let record = read(&client, "orders").await.remove(&2).expect("records").remove(0);
        assert_eq!(record.timestamp_ms, Some(1_600_000_000_000));
        let expect = [
            "milena.dlq.topic=orders",
            "milena.dlq.partition=2",
            "milena.dlq.timestamp=1600000000000",
            "milena.dlq.replayed-from=orders.dlq/0/0",
            "milena.dlq.replays=4",
        ];
        assert_eq!(headers(&record), expect);
    });
}
