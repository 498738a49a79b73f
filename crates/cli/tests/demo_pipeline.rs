//! `milena demo pipeline`, short.

mod harness;

use harness::prometheus::get;
use harness::{Cluster, Process, milena};

/// Runs it with these arguments, and answers with its report.
fn report(args: &[&str]) -> serde_json::Value {
    let run = milena(&[&["demo", "pipeline", "--json", "--seconds", "1"], args].concat());
    let stdout = String::from_utf8(run.stdout).expect("text");
    assert_eq!(run.code, Some(0), "{stdout}\n{}", run.stderr);
    let report: serde_json::Value = serde_json::from_str(&stdout).expect("one JSON object, and nothing else");
    assert_eq!((&report["verified"], &report["interrupted"]), (&true.into(), &false.into()), "{report}");
    report
}

#[test]
fn every_flight_ends_in_one_place_and_the_redrive_leaves_what_is_hopeless() {
    let report = report(&["-n", "600", "--fault-rate", "20"]);
    let count = |name: &str| report[name].as_u64().expect("a number");
    assert_eq!(count("records"), 600);
    assert_eq!(count("processed") + count("dead"), 600, "{report}");
    assert!(count("dead") > 0 && count("replayed") > count("dead"), "{report}");
    // The hopeless ones were replayed, and came back.
    assert_eq!(count("letters"), count("replayed") + count("dead"), "{report}");
    assert!(count("moved") > 0 && count("retries") > 0 && count("stalls") > 0, "{report}");
    let alerts = report["alerts"].as_array().expect("a list");
    assert!(alerts.iter().any(|alert| alert["name"] == "DeadLetterRatio"), "{report}");
    assert!(alerts.iter().all(|alert| alert["resolved"].is_number()), "{report}");
}

#[test]
fn it_shows_where_metrics_and_dashboards_are_and_an_alert_that_fires_and_is_resolved() {
    let directory = tempfile::tempdir().expect("a directory");
    let boards = directory.path().join("boards");
    let args = ["demo", "pipeline", "-n", "600", "--seconds", "1", "--fault-rate", "20", "--dashboards"];
    let mut demo = Process::spawn(&[&args[..], &[boards.to_str().expect("text")]].concat(), "");
    let mut line_with = |text: &str| loop {
        let line = demo.stdout_line();
        assert!(!line.is_empty(), "the demo has ended without {text:?}");
        if let Some((before, after)) = line.split_once(text) {
            return (before.to_owned(), after.to_owned());
        }
    };
    let (_, rest) = line_with("metrics      http://");
    let address = rest.strip_suffix("/metrics").expect("an address").to_owned();
    let (_, rest) = line_with("dashboards   ");
    assert_eq!(rest, format!("{}, for Grafana, with alert rules for Prometheus", boards.display()));
    let names: Vec<_> = std::fs::read_dir(&boards).expect("is there").collect();
    assert_eq!(names.len(), 6, "five boards and the rules: {names:?}");

    line_with("ALERT DeadLetterRatio: ");
    let metrics = get(&address, "/metrics").expect("are served");
    let letters =
        metrics.lines().find_map(|line| line.strip_prefix("milena_pipeline_dead_letters_total{group="));
    let count = letters.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    assert!(count > Some(0.0), "{metrics}");
    line_with("the alert DeadLetterRatio is resolved");
    let run = demo.wait();
    assert_eq!(run.code, Some(0), "{}", run.stderr);
}

#[test]
fn a_poison_drill_ends_with_every_flight_processed() {
    let report = report(&["-n", "400", "--drill", "poison", "--fault-rate", "20"]);
    assert_eq!(report["processed"], 400, "{report}");
    assert_eq!((&report["dead"], &report["letters"]), (&0.into(), &report["replayed"]), "{report}");
}

#[test]
fn a_key_that_hangs_holds_up_only_itself() {
    let report = report(&["-n", "400", "--drill", "stuck-key"]);
    assert!(report["stalls"].as_u64() > Some(0), "{report}");
}

#[test]
fn a_partition_that_hangs_holds_up_only_itself() {
    let report = report(&["-n", "400", "--drill", "slow-partition"]);
    assert!(report["stalls"].as_u64() > Some(0), "{report}");
}

#[test]
fn members_that_come_and_go_double_nothing() {
    let report = report(&["-n", "600", "--drill", "rebalance"]);
    assert_eq!((&report["processed"], &report["again"]), (&600.into(), &0.into()), "{report}");
}

#[test]
fn a_member_that_is_killed_loses_nothing() {
    let report = report(&["-n", "600", "--drill", "crash"]);
    assert_eq!(report["processed"], 600, "{report}");
}

#[test]
fn while_dead_letters_cannot_be_written_nothing_is_lost() {
    let report = report(&["-n", "400", "--drill", "dead-letters-down", "--fault-rate", "10"]);
    let alerts = report["alerts"].as_array().expect("a list");
    assert!(alerts.iter().any(|alert| alert["name"] == "DeadLetterWritesFail"), "{report}");
}

#[test]
fn it_leaves_a_cluster_as_it_was_also_when_it_is_interrupted() {
    let cluster = Cluster::start(&["--topic", "mine"]);
    let mut demo = cluster.spawn(&["demo", "pipeline", "--seconds", "600"], "");
    // Three lines of introduction, and the first of progress: it is running.
    for _ in 0..4 {
        demo.stdout_line();
    }
    demo.interrupt();
    let run = demo.wait();
    let report = String::from_utf8(run.stdout).unwrap();
    assert_eq!(run.code, Some(130), "{report}\n{}", run.stderr);
    assert!(report.contains("every record has ended in one place, or waits\nverified"), "{report}");
    assert!(!report.contains('\r') && !report.contains('\u{1b}'), "plain lines in a pipe: {report:?}");
    let topics = String::from_utf8(cluster.ok(&["topics", "list"], "")).unwrap();
    assert_eq!(topics.lines().count(), 1, "{topics}");
    let groups = String::from_utf8(cluster.ok(&["groups", "list"], "")).unwrap();
    assert!(!groups.contains("milena-demo"), "{groups}");
}

#[test]
fn what_cannot_work_is_said_before_anything_is_done() {
    let run = milena(&["demo", "pipeline", "--drill", "stuck-key", "--order", "partition"]);
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    assert!(run.stderr.contains("other keys wait"), "{}", run.stderr);
}
