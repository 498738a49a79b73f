//! Ctrl-C and SIGTERM end every command soon, wherever it waits, and say how much was done. So does `--timeout`.
//!
//! The commands here are given an hour where they could end by themselves: what ends them is the signal.

mod harness;

use harness::{Cluster, Process, Silent, assert_fails};

const HOUR: [&str; 2] = ["--timeout", "3600"];

fn signal(process: &Process, name: &str) {
    match name {
        "INT" => process.interrupt(),
        _ => process.terminate(),
    }
}

#[test]
fn a_signal_ends_what_waits_for_a_silent_broker() {
    for args in [
        &["topics", "list"][..],
        &["topics", "describe", "t"],
        &["topics", "create", "t"],
        &["topics", "delete", "t"],
        &["topics", "config", "show", "t"],
        &["topics", "config", "alter", "t", "--set", "retention.ms=1"],
        &["topics", "truncate", "t", "--to-latest", "--yes"],
        &["groups", "list"],
        &["groups", "describe", "g"],
        &["groups", "delete", "g"],
        &["groups", "offsets", "reset", "g", "--topic", "t", "--to-latest", "--yes"],
        &["consume", "t"],
        &["consume", "t", "-e"],
        &["produce", "t"],
        &["produce", "t", "--transactional-id", "a"],
        &["txn", "list"],
        &["txn", "describe", "a"],
        &["txn", "describe", "--topic", "t"],
        &["txn", "abort-hanging", "--topic", "t", "--yes"],
        &["demo"],
    ] {
        for name in ["INT", "TERM"] {
            let silent = Silent::listen();
            let process = Process::spawn_open(&[args, &["-b", &silent.address], &HOUR].concat());
            let connection = silent.accept();
            signal(&process, name);
            let run = process.wait();
            assert_fails(&run, 130, "");
            drop(connection);
        }
    }
}

#[test]
fn a_signal_ends_what_waits_for_a_broker_that_is_gone() {
    for name in ["INT", "TERM"] {
        let cluster = Cluster::start(&["--topic", "t"]);
        let mut consuming = cluster.spawn(&["consume", "t", HOUR[0], HOUR[1]], "");
        let mut producing = cluster.spawn_open(&["produce", "t", HOUR[0], HOUR[1]]);
        producing.write("first\n");
        assert_eq!(consuming.stdout_line(), "first");
        cluster.kill();
        // At the end of the input only the acknowledgement is waited for.
        producing.write("second\n");
        producing.close_stdin();
        producing.stderr_line_with("trying again");
        consuming.stderr_line_with("trying again");
        signal(&producing, name);
        signal(&consuming, name);
        let run = producing.wait();
        assert_fails(&run, 130, "interrupted: 1 record acknowledged, 1 failed");
        assert_eq!(consuming.wait().code, Some(130));
    }
}

/// The transaction is aborted if the cluster is there, and left to its timeout if it is not.
#[test]
fn a_signal_ends_a_program_with_an_open_transaction() {
    for is_gone in [false, true] {
        let cluster = Cluster::start(&["--topic", "t"]);
        let mut producing =
            cluster.spawn_open(&["produce", "t", "--transactional-id", "a", HOUR[0], HOUR[1]]);
        let mut consuming = cluster.spawn(&["consume", "t", "--isolation", "read_uncommitted"], "");
        producing.write("first\n");
        assert_eq!(consuming.stdout_line(), "first");
        let cluster = if is_gone {
            cluster.kill();
            None
        } else {
            Some(cluster)
        };
        producing.interrupt();
        assert_fails(&producing.wait(), 130, "interrupted");
        if let Some(cluster) = cluster {
            let end = ["consume", "t", "-e", "--isolation", "read_committed"];
            assert_eq!(cluster.ok(&end, String::new()), b"", "it was aborted, and nothing waits for it");
        }
    }
}

#[test]
fn a_second_signal_ends_at_once_and_tells_the_counts_too() {
    let cluster = Cluster::start(&["--topic", "t"]);
    let mut producing = cluster.spawn_open(&["produce", "t", HOUR[0], HOUR[1]]);
    let mut consuming = cluster.spawn(&["consume", "t"], "");
    producing.write("first\n");
    assert_eq!(consuming.stdout_line(), "first");
    cluster.kill();
    producing.write("second\n");
    producing.stderr_line_with("trying again");
    // Two signals of the same name may become one.
    producing.interrupt();
    producing.terminate();
    assert_fails(&producing.wait(), 130, "interrupted: 1 record acknowledged, 1 failed");
}

#[test]
fn a_signal_ends_what_waits_for_room_to_send() {
    let cluster = Cluster::start(&["--topic", "t"]);
    let mut producing =
        cluster.spawn_open(&["produce", "t", "-X", "buffer.memory=65536", "-X", "max.block.ms=3600000"]);
    let mut consuming = cluster.spawn(&["consume", "t"], "");
    producing.write("first\n");
    assert_eq!(consuming.stdout_line(), "first");
    cluster.kill();
    producing.write(&"x\n".repeat(60_000));
    producing.stderr_line_with("trying again");
    producing.interrupt();
    assert_fails(&producing.wait(), 130, "interrupted: 1 record acknowledged, ");
}

#[test]
fn a_signal_ends_what_waits_for_somebody_to_read() {
    let cluster = Cluster::start(&["--topic", "t"]);
    // More than a pipe and our own buffer hold.
    let lines: String = (0..200_000).map(|i| format!("line {i}\n")).collect();
    cluster.ok(&["produce", "t"], lines);
    let mut consuming = cluster.spawn(&["consume", "t"], "");
    assert_eq!(consuming.stdout_line(), "line 0");
    consuming.interrupt();
    assert_eq!(consuming.wait_unread(), Some(130));
}

#[test]
fn an_interrupted_demo_says_how_far_it_came_with_the_cluster_gone_as_well() {
    let cluster = Cluster::start(&[]);
    let mut demo = cluster.spawn(&["demo", "--rate", "1000", HOUR[0], HOUR[1]], "");
    for _ in 0..3 {
        demo.stdout_line();
    }
    cluster.kill();
    demo.stderr_line_with("trying again");
    demo.terminate();
    let run = demo.wait();
    assert_eq!(run.code, Some(130), "{}", run.stderr);
    assert!(run.stderr.contains("interrupted: acknowledged "), "{}", run.stderr);
    assert!(run.stderr.contains(", delivered "), "{}", run.stderr);
}

#[test]
fn a_timeout_ends_what_waits_for_acknowledgements() {
    let cluster = Cluster::start(&["--topic", "t"]);
    let mut consuming = cluster.spawn(&["consume", "t"], "");
    let mut producing = cluster.spawn_open(&["produce", "t", "--timeout", "2"]);
    producing.write("first\n");
    assert_eq!(consuming.stdout_line(), "first");
    cluster.kill();
    producing.write("second\n");
    producing.close_stdin();
    // Well before the two minutes of the delivery timeout.
    let run = producing.wait();
    assert_fails(&run, 3, "no record was acknowledged for 2s");
    assert!(run.stderr.contains("1 record acknowledged, 1 failed"), "{}", run.stderr);
}

#[test]
fn a_timeout_is_for_all_bootstrap_servers_together() {
    let silent = [Silent::listen(), Silent::listen(), Silent::listen()];
    let all = silent.each_ref().map(|silent| silent.address.as_str()).join(",");
    for args in [&["topics", "list"][..], &["consume", "t"], &["produce", "t"], &["demo"]] {
        let run = harness::milena(&[args, &["-b", &all, "--timeout", "1"]].concat());
        assert_fails(&run, 6, &silent[0].address);
    }
}

#[test]
fn a_timeout_ends_what_waits_for_records_of_a_cluster_that_is_gone() {
    let cluster = Cluster::start(&["--topic", "t"]);
    let mut consuming = cluster.spawn(&["consume", "t", "--timeout", "3"], "");
    cluster.ok(&["produce", "t"], "first\n");
    assert_eq!(consuming.stdout_line(), "first");
    cluster.kill();
    assert_fails(&consuming.wait(), 6, "nothing came for 3s");
}
