//! What `milena produce` can do beside sending lines: files, repeats, rates, reports and transactions.

mod harness;

use std::path::Path;
use std::time::{Duration, Instant};

use harness::{Cluster, Process, Run, assert_fails, milena};
use serde_json::Value;

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("text")
}

fn values(cluster: &Cluster, topic: &str) -> String {
    text(cluster.ok(&["consume", topic, "-e", "-f", "%s ", "--isolation", "read_committed"], ""))
}

fn write(directory: &Path, name: &str, content: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, content).expect("written");
    path.to_str().expect("text").to_owned()
}

/// The command's report as JSON.
fn reported(run: &Run) -> Value {
    serde_json::from_slice(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:?}"))
}

#[test]
fn files_are_sent_one_after_another_as_lines_or_as_records() {
    let cluster = Cluster::start(&["--topic", "t", "--topic", "whole"]);
    let directory = tempfile::tempdir().expect("made");
    let [a, b] =
        [("a", "1\n2\n"), ("b", "3\n4")].map(|(name, content)| write(directory.path(), name, content));
    let run = cluster.run(&["produce", "t", &a, "-", &b], "stdin\n");
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), "5 records acknowledged\n"));
    assert_eq!(values(&cluster, "t"), "1 2 stdin 3 4 ");
    cluster.ok(&["produce", "whole", "-D", "", &a, &b], "");
    let whole = text(cluster.ok(&["consume", "whole", "-e", "-f", "%s|"], ""));
    assert_eq!(whole, "1\n2\n|3\n4|");
    // A wrong line is named with its file, if there are several.
    let wrong = write(directory.path(), "wrong", "{\"value\":\"v\"}\n{\"vale\":1}\n");
    let run = cluster.run(&["produce", "t", "--json", "/dev/null", &wrong], "");
    assert_fails(&run, 3, "wrong line 2: unknown field `vale`");
    assert_fails(&cluster.run(&["produce", "t", &a, "/no/such/file"], ""), 4, "/no/such/file");
    assert_eq!(values(&cluster, "t"), "1 2 stdin 3 4 v ", "no file is read before all are looked at");
}

#[test]
fn the_input_is_repeated_as_a_whole() {
    let cluster = Cluster::start(&["--topic", "t", "--topic", "u"]);
    let directory = tempfile::tempdir().expect("made");
    let file = write(directory.path(), "f", "1\n2\n");
    for input in [&file[..], "-"] {
        let run = cluster.run(&["produce", "t", input, "--repeat", "3"], "1\n2\n");
        assert_eq!(run.stderr, "6 records acknowledged\n");
    }
    assert_eq!(values(&cluster, "t"), "1 2 1 2 1 2 ".repeat(2));
    let mut consuming = cluster.spawn(&["consume", "u"], "");
    let endless = cluster.spawn(&["produce", "u", "--repeat", "forever", "--rate", "1000"], "x\n");
    for _ in 0..10 {
        assert_eq!(consuming.stdout_line(), "x");
    }
    endless.interrupt();
    let run = endless.wait();
    assert_eq!(run.code, Some(130));
    assert!(run.stderr.contains("records acknowledged; the rest was not sent"), "{}", run.stderr);
}

#[test]
fn a_rate_is_kept() {
    let cluster = Cluster::start(&["--topic", "t"]);
    let began = Instant::now();
    let run = cluster.run(&["produce", "t", "--rate", "50", "--report", "json"], "x\n".repeat(21));
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
    let report = reported(&run);
    assert_eq!(report["records"], 21);
    assert!(report["records_per_second"].as_f64().expect("a number") <= 52.5, "{report}");
}

#[test]
fn the_report_tells_what_was_written_and_how_long_it_took() {
    let cluster = Cluster::start(&["--topic", "t:2"]);
    let lines: String = (0..100)
        .map(|i| format!("{{\"partition\":{},\"key\":\"k\",\"value\":\"12345\"}}\n", i % 2))
        .collect();
    let run = cluster.run(&["produce", "t", "--json", "--report", "json"], lines.as_str());
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), "100 records acknowledged\n"));
    let report = reported(&run);
    assert_eq!((&report["records"], &report["bytes"]), (&100.into(), &600.into()));
    assert_eq!((&report["failed"], &report["maybe_written"]), (&0.into(), &0.into()));
    assert!(report["transactions_committed"].is_null());
    let latency = |name: &str| report["latency"][name].as_u64().expect("a number");
    let all = ["p50_us", "p90_us", "p99_us", "p999_us", "max_us"].map(latency);
    assert!(all[0] > 0 && all.is_sorted(), "{all:?}");
    let of = |partition| serde_json::json!({"partition": partition, "records": 50, "bytes": 300, "first_offset": 0, "last_offset": 49});
    assert_eq!(report["partitions"], serde_json::json!([of(0), of(1)]));

    let run = cluster.run(&["produce", "t", "-p", "1", "--report", "partitions"], "a\nb\n");
    assert!(run.stdout.is_empty());
    assert!(run.stderr.contains("2 records, 2 B in "), "{}", run.stderr);
    assert!(run.stderr.contains("latency p50 "), "{}", run.stderr);
    assert!(
        run.stderr.contains("\n        1        2      2            50           51\n"),
        "{}",
        run.stderr
    );
}

#[test]
fn every_record_that_failed_is_told_with_its_line() {
    let cluster = Cluster::start(&["--topic", "t"]);
    let mut consuming = cluster.spawn(&["consume", "t"], "");
    let args = [
        "produce",
        "t",
        "--report",
        "json",
        "-X",
        "delivery.timeout.ms=1500",
        "-X",
        "request.timeout.ms=1000",
    ];
    let mut producing = cluster.spawn_open(&[&args[..], &["-X", "linger.ms=0"]].concat());
    producing.write("1\n");
    assert_eq!(consuming.stdout_line(), "1");
    cluster.kill();
    producing.write("2\n3\n4\n");
    producing.close_stdin();
    let run = producing.wait();
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    assert!(run.stderr.contains("1 record acknowledged, 3 failed"), "{}", run.stderr);
    let told: String = run.stderr.lines().filter(|line| line.starts_with("line")).collect();
    assert!(told.contains("not written") || told.contains("may have been written"), "{}", run.stderr);
    let report = reported(&run);
    assert_eq!((&report["records"], &report["failed"]), (&1.into(), &3.into()));
}

#[test]
fn a_partitioner_is_chosen_by_its_name() {
    let cluster = Cluster::start(&["--topic", "t:12"]);
    let partition = |name: &str| {
        cluster.ok(&["produce", "t", "-k", "42", "--partitioner", name], "x\n");
        let all = text(cluster.ok(&["consume", "t", "-e", "-f", "%T %p\n"], ""));
        all.lines().max().expect("a record").rsplit(' ').next().expect("a partition").to_owned()
    };
    // CRC-32 of "42".
    assert_eq!(partition("consistent"), (0x3224_b088 % 12).to_string());
    let run = cluster.run(&["produce", "t", "--partitioner", "nearest"], "x\n");
    assert_fails(&run, 2, "\"nearest\" is neither one of");
}

#[test]
fn options_that_contradict_each_other_are_named() {
    for (args, says) in [
        (
            &["--partitioner", "murmur2", "-p", "1"][..],
            "'--partitioner <NAME>' cannot be used with '--partition",
        ),
        (&["--idempotence", "true", "--acks", "1"], "--idempotence true needs --acks all, not --acks 1"),
        (&["--transactional-id", "a", "--acks", "0"], "--transactional-id needs --acks all, not --acks 0"),
        (
            &["--transactional-id", "a", "--idempotence", "false"],
            "--transactional-id needs --idempotence true",
        ),
        (&["--transactional-id", ""], "--transactional-id needs an id"),
        (&["--commit-every", "5"], "--transactional-id"),
        (&["--transactional-id", "a", "--commit-every", "0"], "at least 1"),
        (&["--report", "text", "-q"], "'--report <FORM>' cannot be used with '--quiet'"),
        (&["--rate", "0"], "records per second"),
        (&["--repeat", "0"], "forever"),
        (&["--idempotence", "perhaps"], "perhaps"),
        (&["/dev/null", "/"], "directory"),
    ] {
        assert_fails(&milena(&[&["produce", "t"], args].concat()), 2, says);
    }
    let cluster = Cluster::start(&["--topic", "t"]);
    for (args, says) in [
        (&["--compression-level", "3"][..], "--compression-level 3 has no effect with the codec none"),
        (
            &["-z", "snappy", "--compression-level", "3"],
            "--compression-level 3 has no effect with the codec snappy",
        ),
        (&["-z", "gzip", "--compression-level", "99"], "levels 1..=9"),
        (&["--acks", "1", "-X", "enable.idempotence=true"], "idempotence"),
    ] {
        assert_fails(&cluster.run(&[&["produce", "t"], args].concat(), "x\n"), 2, says);
    }
    cluster.ok(&["produce", "t", "-z", "zstd", "--compression-level", "-5"], "x\n");
    cluster.ok(&["produce", "t", "--idempotence", "false", "--acks", "1"], "x\n");
}

#[test]
fn the_input_is_one_transaction_or_one_for_every_so_many_records() {
    let cluster = Cluster::start(&["--topic", "t", "--topic", "u"]);
    let lines = "1\n2\n3\n4\n5\n";
    let run = cluster.run(&["produce", "t", "--transactional-id", "a"], lines);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), "5 records committed in 1 transaction\n"));
    let args = ["produce", "u", "--transactional-id", "a", "--commit-every", "2", "--report", "json"];
    let run = cluster.run(&args, lines);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), "5 records committed in 3 transactions\n"));
    let report = reported(&run);
    assert_eq!((&report["transactions_committed"], &report["records_committed"]), (&3.into(), &5.into()));
    for topic in ["t", "u"] {
        assert_eq!(values(&cluster, topic), "1 2 3 4 5 ");
    }
    let run = cluster.run(&["produce", "t", "--transactional-id", "a"], "");
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), "0 records committed in 0 transactions\n"));
}

#[test]
fn a_transaction_is_committed_after_a_time_though_the_input_goes_on() {
    let cluster = Cluster::start(&["--topic", "t"]);
    let mut consuming = cluster.spawn(&["consume", "t", "--isolation", "read_committed"], "");
    let args = ["produce", "t", "--transactional-id", "a", "--commit-every", "1000,50ms"];
    let mut producing = cluster.spawn_open(&args);
    for line in ["one", "two"] {
        producing.write(&format!("{line}\n"));
        assert_eq!(consuming.stdout_line(), line);
    }
    producing.close_stdin();
    let run = producing.wait();
    assert_eq!(run.stderr, "2 records committed in 2 transactions\n");
}

#[test]
fn a_wrong_line_aborts_its_transaction_and_the_lines_are_told() {
    let cluster = Cluster::start(&["--topic", "t"]);
    let lines: String = ["1", "2", "3", "4"].iter().map(|v| format!("{{\"value\":\"{v}\"}}\n")).collect();
    let args = ["produce", "t", "--json", "--transactional-id", "a", "--commit-every", "3"];
    let run = cluster.run(&args, lines + "{}\n");
    assert_fails(&run, 3, "line 5: value is missing");
    assert!(
        run.stderr.contains("3 records committed in 1 transaction, line 4 aborted; the rest was not sent."),
        "{}",
        run.stderr
    );
    assert_eq!(values(&cluster, "t"), "1 2 3 ");
    // Nothing is committed: the cause decides the exit code.
    let run = cluster.run(&args[..5], "{\"value\":\"5\"}\n{\"value\":\"6\"}\n{}\n");
    assert_fails(&run, 2, "line 3: value is missing");
    assert!(
        run.stderr.contains("0 records committed in 0 transactions, lines 1-2 aborted"),
        "{}",
        run.stderr
    );
    assert_eq!(values(&cluster, "t"), "1 2 3 ");
}

#[test]
fn a_record_that_is_refused_aborts_its_transaction() {
    let cluster = Cluster::start(&["--topic", "t"]);
    // Brokers refuse records of the year 2100.
    let lines = "{\"value\":\"1\"}\n{\"value\":\"2\",\"timestamp\":4102444800000}\n";
    let run = cluster.run(&["produce", "t", "--json", "--transactional-id", "a"], lines);
    assert_ne!(run.code, Some(0));
    assert!(run.stderr.contains("line 2: "), "{}", run.stderr);
    assert!(run.stderr.contains("lines 1-2 aborted"), "{}", run.stderr);
    assert_eq!(values(&cluster, "t"), "");
    cluster.ok(&["produce", "t", "--transactional-id", "a"], "3\n");
    assert_eq!(values(&cluster, "t"), "3 ");
}

/// A producer that has written the line `first` in a transaction, which is open.
fn in_transaction(cluster: &Cluster) -> Process {
    let mut consuming = cluster.spawn(&["consume", "t"], "");
    let mut producing = cluster.spawn_open(&["produce", "t", "--transactional-id", "a"]);
    producing.write("first\n");
    assert_eq!(consuming.stdout_line(), "first");
    producing
}

#[test]
fn ctrl_c_aborts_the_open_transaction() {
    let cluster = Cluster::start(&["--topic", "t"]);
    let producing = in_transaction(&cluster);
    producing.interrupt();
    let run = producing.wait();
    let says = "interrupted: 0 records committed in 0 transactions, line 1 aborted; the rest was not sent";
    assert_fails(&run, 130, says);
    cluster.ok(&["produce", "t"], "after\n");
    assert_eq!(values(&cluster, "t"), "after ");
}

#[test]
fn a_second_producer_with_the_same_id_ends_the_first() {
    let cluster = Cluster::start(&["--topic", "t"]);
    let mut producing = in_transaction(&cluster);
    cluster.ok(&["produce", "t", "--transactional-id", "a"], "second\n");
    producing.write("third\n");
    producing.close_stdin();
    let run = producing.wait();
    assert_ne!(run.code, Some(0));
    assert!(
        run.stderr.contains("0 records committed in 0 transactions, lines 1-2 aborted"),
        "{}",
        run.stderr
    );
    assert_eq!(values(&cluster, "t"), "second ");
}
