//! Runs Milena's programs as a user would.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use milena_interop::embedded::Embedded;
use milena_interop::raw::Raw;
use milena_interop::real;
use xtask::kafka::process;

/// A program of the workspace: `milena`, or the example with this name. Cargo builds it with the features of its package alone, which
/// builds most of the workspace again: in CI, `cargo test --workspace` has just built it with those of all.
fn program(name: &str) -> PathBuf {
    let (package, kind, directory) = match name {
        "milena" => ("milena-cli", "--bin", ""),
        _ => ("milena", "--example", "examples"),
    };
    if std::env::var_os("CI").is_none() {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(xtask::root()).args(["build", "--quiet", "-p", package, kind, name]);
        succeed(cargo);
    }
    let tests = std::env::current_exe().unwrap();
    tests.ancestors().nth(2).unwrap().join(directory).join(name)
}

/// What a program prints that succeeds.
pub(crate) fn succeed(command: Command) -> String {
    let what = format!("{command:?}");
    let output = process::run(command, None, Duration::from_secs(600)).unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{what}: {}\n{out}{err}", output.status);
    out.into_owned()
}

/// What `milena` prints, without the configuration of whoever runs the tests.
pub(crate) fn milena(args: &[&str]) -> String {
    let mut milena = Command::new(program("milena"));
    milena.current_dir(xtask::root()).env("MILENA_CONFIG", "").args(args);
    succeed(milena)
}

/// The client's examples, each of which is run below.
const EXAMPLES: [&str; 8] = [
    "admin",
    "consume",
    "from_a_time",
    "graceful_shutdown",
    "pause_and_resume",
    "per_record_errors",
    "produce",
    "workers",
];

fn example(name: &str, args: &[&str]) -> String {
    let mut example = Command::new(program(name));
    example.args(args);
    succeed(example)
}

#[test]
fn every_example_is_run_here() {
    let listed = std::fs::read_dir(xtask::root().join("crates/client/examples")).unwrap();
    let mut names: Vec<_> = listed
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, EXAMPLES);
}

#[test]
fn the_examples_run_as_they_stand() {
    let broker = Embedded::start(1);
    let bootstrap = broker.bootstrap();
    for topic in ["orders", "orders-copy", "orders-dead", "many"] {
        Raw::connect(bootstrap).unwrap().create_topic(topic, 3).unwrap();
    }

    let produced = example("produce", &[bootstrap, "orders"]);
    assert_eq!(produced.lines().filter(|line| line.contains("offset Some(")).count(), 10, "{produced}");

    let consumed = example("consume", &[bootstrap, "orders"]);
    assert_eq!(consumed.lines().count(), 10, "{consumed}");
    for id in 0..10 {
        assert!(consumed.contains(&format!("Some(\"{id}\") = Some(\"order {id}\")")), "{id}: {consumed}");
    }

    let recent = example("from_a_time", &[bootstrap, "orders", "3600"]);
    assert_eq!(recent, "10 records in the last 3600 s\n");

    let paused = example("pause_and_resume", &[bootstrap, "orders"]);
    let counts =
        paused.lines().map(|line| line.split(' ').nth(2).and_then(|count| count.parse::<u32>().ok()));
    assert_eq!(counts.map(|count| count.expect(&paused)).sum::<u32>(), 10, "{paused}");

    let errors = example("per_record_errors", &[bootstrap, "many", "1000"]);
    assert_eq!(errors.matches("record 7 was not taken").count(), 2, "{errors}");
    assert_eq!(errors.matches("records per second").count(), 2, "{errors}");
    assert_eq!(errors.lines().count(), 4, "{errors}");

    let admin = example("admin", &[bootstrap, "made"]);
    for part in [
        "made exists already",
        "no-such-topic: UnknownTopic",
        "Latest of partition 2: Some(0)",
        "deleted made",
    ] {
        assert!(admin.contains(part), "no {part} in {admin}");
    }

    let (copied, status) = stopped("graceful_shutdown", &[bootstrap, "orders", "orders-copy"], |said| {
        said.ends_with("10 records read\n")
    });
    assert!(status.success(), "{status}: {copied}");
    assert!(
        copied.contains("10 records written") && copied.contains("partition 2 continues at offset Some("),
        "{copied}"
    );
    assert_eq!(example("consume", &[bootstrap, "orders-copy"]).lines().count(), 10);

    let (worked, status) =
        stopped("workers", &[bootstrap, "orders", "billing"], |said| said.lines().count() == 10);
    assert!(status.success(), "{status}: {worked}");
    for id in 0..10 {
        assert_eq!(worked.matches(&format!(": order {id}\n")).count(), 1, "{id}: {worked}");
    }
}

/// Runs the example until `is_enough` of what it has said, and ends it with SIGTERM.
fn stopped(name: &str, args: &[&str], is_enough: fn(&str) -> bool) -> (String, std::process::ExitStatus) {
    let mut child = Command::new(program(name)).args(args).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = String::new();
    let mut kill = Some(Command::new("kill"));
    while let Some(Ok(line)) = lines.next() {
        said += &format!("{line}\n");
        if is_enough(&said)
            && let Some(mut kill) = kill.take()
        {
            kill.arg("-TERM").arg(child.id().to_string());
            assert!(process::run(kill, None, Duration::from_secs(10)).unwrap().status.success());
        }
    }
    (said, child.wait().unwrap())
}

/// The demo checks itself and fails if a check does. This test checks the counts in its report.
fn demo(bootstrap: &[&str]) {
    let mut args = vec!["demo", "--records", "20000", "--json"];
    args.extend(bootstrap);
    let report = milena(&args);
    for field in ["\"acknowledged_count\":20000", "\"delivered_count\":20000", "\"verified\":true"] {
        assert!(report.replace(' ', "").contains(field), "no {field} in {report}");
    }
}

/// So does the demo of pipelines, and it deletes what it has made.
#[test]
fn the_demo_of_pipelines_finds_every_flight_on_real_kafka() {
    let Some(kafka) = real::kafka() else { return };
    let bootstrap = kafka.bootstrap();
    for drill in
        [&[][..], &["--drill", "rebalance"], &["--drill", "crash"], &["--drill", "dead-letters-down"]]
    {
        let of = ["demo", "pipeline", "--bootstrap", &bootstrap];
        let with = ["-n", "1000", "--seconds", "2", "--fault-rate", "10", "--json"];
        let report = milena(&[&of[..], &with, drill].concat());
        for field in ["\"records\":1000", "\"verified\":true", "\"waiting\":0"] {
            assert!(report.contains(field), "no {field} in {report}");
        }
    }
    let topics = milena(&["topics", "list", "--bootstrap", &bootstrap]);
    assert!(!topics.contains("milena-demo"), "{topics}");
}

#[test]
fn the_demo_passes_on_the_embedded_cluster() {
    demo(&[]);
}

#[test]
fn the_demo_passes_on_real_kafka() {
    let Some(kafka) = real::kafka() else { return };
    demo(&["--bootstrap", &kafka.bootstrap()]);
}

#[test]
fn the_demo_passes_on_three_brokers_of_real_kafka() {
    let Some(kafka) = real::three() else { return };
    demo(&["--bootstrap", &kafka.bootstrap()]);
}

#[test]
fn the_demo_passes_on_kafka_3_9() {
    let Some(kafka) = real::old() else { return };
    demo(&["--bootstrap", &kafka.bootstrap()]);
}
