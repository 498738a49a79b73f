//! `milena demo`, small.

mod harness;

use harness::{Cluster, milena};

#[test]
fn a_small_demo_verifies_every_record() {
    let run = milena(&["demo", "-n", "20000", "--json"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let report: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(report["verified"], true);
    for count in ["record_count", "acknowledged_count", "delivered_count"] {
        assert_eq!(report[count], 20_000, "{count}");
    }
    assert_eq!(report["replicas"], 3);
    assert!(report["send_to_ack"]["p99_us"].as_u64().unwrap() > 0);
}

#[test]
fn a_demo_leaves_a_cluster_as_it_was() {
    let cluster = Cluster::start(&["--topic", "mine"]);
    let report = cluster.ok(&["demo", "-n", "5000", "-p", "3", "-z", "zstd"], "");
    let report = String::from_utf8(report).unwrap();
    assert!(report.contains("verified"), "{report}");
    assert!(!report.contains('\r') && !report.contains('\u{1b}'), "plain lines in a pipe: {report:?}");
    let topics = String::from_utf8(cluster.ok(&["topics", "list"], "")).unwrap();
    assert_eq!(topics.lines().count(), 1, "{topics}");
    cluster.ok(&["demo", "-n", "100", "--keep"], "");
    let topics = String::from_utf8(cluster.ok(&["topics", "list"], "")).unwrap();
    assert!(topics.contains("milena-demo-"), "{topics}");
}

#[test]
fn an_interrupted_demo_says_so_and_cleans_up() {
    let cluster = Cluster::start(&[]);
    let mut demo = cluster.spawn(&["demo", "--rate", "1000"], "");
    // Two lines of introduction, and the first of progress: it is running.
    for _ in 0..3 {
        demo.stdout_line();
    }
    demo.interrupt();
    let run = demo.wait();
    assert_eq!(run.code, Some(130), "{}", run.stderr);
    assert_eq!(cluster.ok(&["topics", "list"], ""), b"");
}

#[test]
#[cfg(target_os = "linux")]
fn a_demo_of_a_hundred_million_begins_at_once_and_ends_when_told_to() {
    let cluster = Cluster::start(&[]);
    let mut demo = cluster.spawn(&["demo", "-n", "100000000", "--rate", "1000"], "");
    for _ in 0..3 {
        demo.stdout_line();
    }
    // Two gigabytes and more are needed for all of them.
    assert!(demo.resident_mib_max() < 500, "{} MiB", demo.resident_mib_max());
    demo.terminate();
    let run = demo.wait();
    assert_eq!(run.code, Some(130), "{}", run.stderr);
    assert_eq!(cluster.ok(&["topics", "list"], ""), b"");
}

#[test]
fn a_demo_finds_what_others_did_to_its_records() {
    let cluster = Cluster::start(&[]);
    let mut demo = cluster.spawn(&["demo", "-n", "6000", "--rate", "2000", "-p", "1"], "");
    // Two lines of introduction, and the first of progress: there are records by now.
    for _ in 0..3 {
        demo.stdout_line();
    }
    let topic = String::from_utf8(cluster.ok(&["topics", "list"], "")).unwrap();
    let topic = topic.split(' ').next().unwrap();
    // One of its records again, another with another value, and one that is not its own.
    let records = String::from_utf8(cluster.ok(&["consume", topic, "-c", "2", "--json"], "")).unwrap();
    let (again, changed) = records.trim_end().split_once('\n').unwrap();
    let changed = changed.replace("2013", "2014");
    cluster.ok(&["produce", topic, "--json"], format!("{again}\n{changed}\n{{\"value\":\"stranger\"}}\n"));

    let run = demo.wait();
    let report = String::from_utf8(run.stdout).unwrap();
    assert_eq!(run.code, Some(7), "{report}");
    assert!(run.stderr.contains("not every record arrived once, intact and in order"), "{}", run.stderr);
    let verdict = &report[report.find("NOT VERIFIED").expect("a verdict")..];
    for (fault, count) in [("doubled", 2), ("changed", 1), ("foreign", 1)] {
        assert!(verdict.contains(&format!("\n  {fault:<10} {count}   record ")), "{fault}: {verdict}");
    }
    assert!(verdict.contains("record 0 (key N14228), partition 0"), "{verdict}");
    for fault in ["lost", "unsettled", "reordered", "strayed", "failed"] {
        assert!(!verdict.contains(fault), "{verdict}");
    }
}
