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
    // The first line of progress: it is running.
    demo.stdout_line();
    demo.interrupt();
    let run = demo.wait();
    assert_eq!(run.code, Some(130), "{}", run.stderr);
    assert_eq!(cluster.ok(&["topics", "list"], ""), b"");
}
