//! `milena groups doctor` and `milena exporter` as processes.

mod harness;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use harness::{Cluster, milena};

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("text")
}

/// A cluster with the topic `t`, of which the group `g` has committed offset 2.
fn start() -> Cluster {
    let cluster = Cluster::start(&["--topic", "t:1"]);
    let lines: String = (0..10).map(|i| format!("{i}\n")).collect();
    cluster.ok(&["produce", "t"], lines);
    cluster.ok(&["groups", "offsets", "reset", "g", "--topic", "t", "--to-offset", "2", "--yes"], "");
    cluster
}

const QUICK: [&str; 6] = ["groups", "doctor", "g", "--interval", "0.1", "--samples=3"];

#[test]
fn the_doctor_names_what_is_wrong_and_the_command_that_helps() {
    let cluster = start();
    let run = cluster.run(&QUICK, "");
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    assert_eq!(text(run.stdout), "g: 0 members, lag 8, 3 samples\nnothing is wrong\n");

    cluster.ok(&["topics", "truncate", "t", "--to-offset", "5", "--yes"], "");
    let run = cluster.run(&QUICK, "");
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    let shown = text(run.stdout);
    assert!(shown.contains("\noffset-out-of-retention: 3 records of t:0 were removed"), "{shown}");
    let run = cluster.run(&[&QUICK[..], &["-J"]].concat(), "");
    let found: serde_json::Value = serde_json::from_slice(&run.stdout).expect("JSON");
    assert_eq!((&found["group"], &found["lag"]), (&"g".into(), &8.into()));
    assert_eq!(found["findings"][0]["fault"], "offset-out-of-retention");

    // The command that it names helps.
    let command = found["findings"][0]["command"].as_str().expect("a command");
    let words: Vec<_> = command.split(' ').skip(1).chain(["--yes"]).collect();
    cluster.ok(&words, "");
    assert_eq!(cluster.run(&QUICK, "").code, Some(0));
}

#[test]
fn a_group_that_does_not_exist_has_no_doctor() {
    let cluster = Cluster::start(&[]);
    let run = cluster.run(&QUICK, "");
    assert_ne!(run.code, Some(0));
    assert!(run.stderr.contains("group \"g\" does not exist"), "{}", run.stderr);
}

#[test]
fn the_exporter_serves_metrics_until_it_is_interrupted() {
    let cluster = start();
    let args = ["exporter", "--listen", "127.0.0.1:0", "--interval", "0.1", "--names", "kafka_exporter"];
    let mut exporter = cluster.spawn(&args, "");
    let address = exporter.stdout_line();
    let address =
        address.strip_prefix("http://").and_then(|rest| rest.strip_suffix("/metrics")).expect("an address");
    let lag = "kafka_consumergroup_lag{consumergroup=\"g\",topic=\"t\",partition=\"0\"} 8\n";
    let until = std::time::Instant::now() + harness::DEADLINE;
    loop {
        let mut stream = TcpStream::connect(address).expect("connects");
        stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").expect("is asked");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answers");
        if answer.contains(lag) {
            break;
        }
        assert!(std::time::Instant::now() < until, "{answer}");
    }
    exporter.interrupt();
    assert_eq!(exporter.wait().code, Some(130));
}

#[test]
fn top_writes_json_once_and_needs_a_terminal_otherwise() {
    let cluster = start();
    let run = cluster.run(&["top", "-o", "json", "--interval", "0.1"], "");
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let seen: serde_json::Value = serde_json::from_slice(&run.stdout).expect("JSON");
    assert_eq!((&seen["groups"][0]["group"], &seen["groups"][0]["lag"]), (&"g".into(), &8.into()));
    assert_eq!((&seen["topics"][0]["topic"], &seen["topics"][0]["records"]), (&"t".into(), &10.into()));
    let run = cluster.run(&["top"], "");
    assert_eq!(run.code, Some(2), "{}", run.stderr);
}

#[test]
fn a_pattern_that_is_none_is_refused() {
    let run = milena(&["exporter", "--topics", "("]);
    assert_eq!(run.code, Some(2), "{}", run.stderr);
}
