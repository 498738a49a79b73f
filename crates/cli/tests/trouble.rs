//! A cluster that goes away while a command works: people learn it, and the command goes on trying.

mod harness;

use harness::Cluster;

#[test]
fn who_waits_for_records_learns_that_the_cluster_is_gone() {
    let cluster = Cluster::start(&["--topic", "t:1"]);
    let mut consuming = cluster.spawn(&["consume", "t"], "");
    cluster.ok(&["produce", "t"], "first\n");
    assert_eq!(consuming.stdout_line(), "first");
    cluster.kill();
    let line = consuming.stderr_line_with("fetching from broker");
    assert!(line.starts_with("warning: ") && line.ends_with("trying again"), "{line}");
}

#[test]
fn who_follows_a_topic_learns_that_it_was_deleted() {
    let cluster = Cluster::start(&["--topic", "t:1"]);
    let mut consuming = cluster.spawn(&["consume", "t"], "");
    cluster.ok(&["produce", "t"], "first\n");
    assert_eq!(consuming.stdout_line(), "first");
    cluster.ok(&["topics", "delete", "t"], "");
    let line = consuming.stderr_line_with("UNKNOWN_TOPIC");
    assert!(line.starts_with("warning: "), "{line}");
}

#[test]
fn who_sends_records_learns_what_holds_them_up() {
    let cluster = Cluster::start(&["--topic", "t:1"]);
    let mut producing = cluster.spawn_open(&["produce", "t"]);
    producing.write("first\n");
    let mut consuming = cluster.spawn(&["consume", "t"], "");
    assert_eq!(consuming.stdout_line(), "first");
    cluster.kill();
    producing.write("second\n");
    let line = producing.stderr_line_with("producing to broker");
    assert!(line.starts_with("warning: ") && line.ends_with("trying again"), "{line}");
}
